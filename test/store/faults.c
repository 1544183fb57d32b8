/*
 * faults.c: what the S3 driver makes of a server that misbehaves.
 *
 *   faults ENDPOINT TLS-ENDPOINT CA-FILE      of two test/store/faultserver, the second with TLS
 */
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "store/s3.h"
#include "tap.h"

typedef struct Outcome
{
	bool done;
	StoreStatus status;
	int http;
	uint8_t *data;
	size_t len;
	int nentries;
	char error[768];
} Outcome;

static Store *store;
static Outcome result;
static double took; /* seconds that the last operation took */
static const char *endpoint;

static void
finished(void *arg, StoreResult *r)
{
	Outcome *o = arg;

	o->status = r->status;
	o->http = r->http_status;
	o->len = r->len;
	o->nentries = r->nentries;
	snprintf(o->error, sizeof(o->error), "%s", r->error ? r->error : "");
	if (r->status == STORE_OK && r->data)
		o->data = store_take(r);
	o->done = true;
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
begin(void)
{
	free(result.data);
	memset(&result, 0, sizeof(result));
	took = now();
}

static StoreStatus
end(void)
{
	(void) store_wait(store, &result.done, NULL);
	took = now() - took;
	return result.status;
}

#define RUN(call) (begin(), (void) (call), end())
#define GET(key) RUN(store_get(store, key, 0, -1, finished, &result))
#define RANGE(key, offset, length) RUN(store_get(store, key, offset, length, finished, &result))
#define PUT(key, body) RUN(store_put(store, key, body, strlen(body), finished, &result))
#define CREATE(key, body) RUN(store_create(store, key, body, strlen(body), finished, &result))
#define REPLACE(key, etag, body) RUN(store_replace(store, key, etag, body, strlen(body), finished, &result))
#define LIST(prefix) RUN(store_list(store, prefix, NULL, 100, finished, &result))
#define REMOVE(key) RUN(store_remove(store, key, finished, &result))

static void
is_status(StoreStatus got, StoreStatus wanted, const char *name)
{
	ok(got == wanted, "%s", name);
	if (got != wanted)
		printf("# status %d, wanted %d: HTTP %d, %zu bytes, %s\n", got, wanted, result.http, result.len, result.error);
}

static void
says(const char *text, const char *name)
{
	ok(strstr(result.error, text) != NULL, "%s", name);
	if (strstr(result.error, text) == NULL)
		printf("# got \"%s\", wanted \"%s\"\n", result.error, text);
}

/* The body of the last answer as a number. */
static int
number(void)
{
	char text[20];

	snprintf(text, sizeof(text), "%.*s", (int) result.len, result.data ? (char *) result.data : "-1");
	return atoi(text);
}

/* How many requests the server had for keys of this fault. */
static int
requests(const char *fault)
{
	Outcome saved = result;
	char key[100];
	int n;

	memset(&result, 0, sizeof(result));
	snprintf(key, sizeof(key), "count/%s", fault);
	(void) store_get(store, key, 0, -1, finished, &result);
	(void) store_wait(store, &result.done, NULL);
	n = number();
	free(result.data);
	result = saved;
	return n;
}

static Store *
open_store(StoreOptions *options)
{
	char *error;
	Store *s;

	options->url = "s3://bucket/p";
	if (options->endpoint == NULL)
		options->endpoint = endpoint;
	s = store_open(options, &error);
	if (s == NULL)
	{
		printf("Bail out! %s\n", error);
		exit(1);
	}
	return s;
}

static void
bodies(void)
{
	is_status(GET("truncated/a"), STORE_DAMAGED, "a body that ends early");
	ok(requests("truncated") > 1, "was asked for more than once");
	is_status(GET("truncated-once/a"), STORE_OK, "one that ended early once");
	is_number(requests("truncated-once"), 2, "was asked for twice");
	is_number(result.len, 10000, "and is whole");
	is_status(GET("no-length/a"), STORE_DAMAGED, "a body without a length");
	is_status(PUT("fine/a", "fine"), STORE_OK, "a write shows what ETags are");
	is_status(GET("short/a"), STORE_DAMAGED, "a short body that only the ETag tells");
	says("do not fit the object's ETag", "says so");
	is_status(GET("encrypted/a"), STORE_OK, "but not where the ETag is something else");
	is_status(RANGE("whole/a", 5, 10), STORE_DENIED, "the whole instead of a part");
	says("ranged reads", "says what is missing");
	is_status(RANGE("whole/a", 0, 10), STORE_DENIED, "the whole instead of the beginning");
	is_status(RANGE("other-part/a", 0, 10), STORE_DAMAGED, "another part");
	is_status(GET("garbage/a"), STORE_UNAVAILABLE, "what is no HTTP");
	is_status(GET("interim/a"), STORE_NOT_FOUND, "an interim answer before the answer");
	is_status(LIST("list-cut/"), STORE_DAMAGED, "a list that is cut");
	is_status(LIST("list-html/"), STORE_DAMAGED, "no list at all");
	is_status(LIST("list-outside/"), STORE_DAMAGED, "a list of something else");
	is_status(LIST("list-v1/"), STORE_DAMAGED, "a server without ListObjectsV2");
}

/* One attempt, whatever happens, and what happened is told. */
static void
conditional(void)
{
	static const struct
	{
		const char *fault;
		StoreStatus status;
	} cases[] = {
		{"error200", STORE_UNDECIDED},        {"conflict", STORE_UNDECIDED},     {"internal", STORE_UNDECIDED},
		{"slow-always", STORE_UNDECIDED},     {"landed-reset", STORE_UNDECIDED}, {"landed-closed", STORE_UNDECIDED},
		{"broken", STORE_UNDECIDED},          {"hang", STORE_UNDECIDED},         {"garbage", STORE_UNDECIDED},
		{"not-modified", STORE_PRECONDITION}, {"forbidden", STORE_DENIED},       {"skewed", STORE_DENIED},
		{"no-bucket", STORE_DENIED},          {"malformed", STORE_DENIED},       {"elsewhere", STORE_DENIED},
		{"stranger", STORE_DENIED},
	};
	char key[64], name[128];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int kind = 0; kind < 3; kind++)
		{
			int before;

			/* on a connection that was used before, where libcurl would repeat it */
			GET("fine/a");
			before = requests(cases[i].fault);
			snprintf(key, sizeof(key), "%s/%d", cases[i].fault, kind);
			if (kind == 2)
				REPLACE(key, "\"x\"", "body");
			else
				CREATE(key, kind ? "" : "body");
			snprintf(name, sizeof(name), "%s: %s",
					 kind == 2 ? "replace"
					 : kind    ? "create empty"
							   : "create",
					 cases[i].fault);
			is_status(result.status, cases[i].status, name);
			snprintf(name, sizeof(name), "%s, after one request", cases[i].fault);
			is_number(requests(cases[i].fault) - before, 1, name);
		}
	CREATE("landed-reset/2", "body");
	GET("landed-reset/0");
	is_status(result.status, STORE_UNAVAILABLE, "a reset is no answer to a read either");
}

static void
retries(void)
{
	is_status(PUT("error200-once/a", "body"), STORE_OK, "a put that got an error with status 200 is repeated");
	is_number(requests("error200-once"), 2, "once");
	is_status(GET("internal-once/a"), STORE_NOT_FOUND, "a get after a 500");
	is_number(requests("internal-once"), 2, "is repeated once");
	is_status(REMOVE("internal-once/a"), STORE_OK, "remove");
	is_status(PUT("internal/a", "body"), STORE_UNAVAILABLE, "a put that never works");
	ok(took > 1.4 && took < 3, "is tried as long as asked for (%.1f s)", took);
	ok(requests("internal") > 4, "with several attempts");
	says("500 InternalError", "and names the last answer");
	is_status(GET("hang/a"), STORE_UNAVAILABLE, "a server that hangs");
	says("no answer for 300 ms", "says so");
	is_status(GET("stall/a"), STORE_UNAVAILABLE, "one that stops in the middle");
	is_status(GET("trickle/a"), STORE_OK, "one that is slow, but goes on");
	ok(took > 1.5, "longer than the timeout (%.1f s)", took);
	is_status(GET("slow/a"), STORE_NOT_FOUND, "SlowDown is obeyed");
	ok(took >= 1.0 && took < 2.5, "for as long as Retry-After says (%.1f s)", took);
	is_number(requests("slow"), 2, "with one more request");
	GET("fine/a");
	is_status(CREATE("blind/a", "1"), STORE_OK, "create");
}

/* While the server asks to slow down, others wait, too, and fewer requests are under way at once. */
static void
slow_down(void)
{
	StoreOptions options = {.retry_timeout_ms = 5000, .request_timeout_ms = 2000, .max_connections = 32};
	Store *saved = store;
	Outcome first = {0}, second = {0};
	double start;
	int64_t pause_ms;

	store = open_store(&options);
	(void) RUN(store_put(store, "slow-always/a", "x", 1, finished, &result));
	ok(((S3Store *) store)->window < 32, "the window is smaller after SlowDown (%.1f)", ((S3Store *) store)->window);
	for (int i = 0; i < 200; i++)
		GET("fine/a");
	ok(((S3Store *) store)->window > 2, "and grows again with success (%.1f)", ((S3Store *) store)->window);
	store_close(store);
	store = open_store(&options);
	(void) store_create(store, "slow-always/a", "x", 1, finished, &first);
	(void) store_wait(store, &first.done, NULL);
	pause_ms = ((S3Store *) store)->quiet_until - s3_now();
	ok(pause_ms > 0, "SlowDown makes a pause (%lld ms)", (long long) pause_ms);
	start = now();
	(void) store_get(store, "fine/a", 0, -1, finished, &second);
	(void) store_wait(store, &second.done, NULL);
	ok(second.status == STORE_OK && now() - start >= (pause_ms - 2) / 1000.0, "and others wait for its end");
	free(second.data);
	store_close(store);
	store = saved;
}

static void
messages(void)
{
	GET("skewed/a");
	says("RequestTimeTooSkewed", "clock skew: the code");
	says("the store's 2001-09-09 01:46:40 UTC", "clock skew: the store's clock");
	says("this server's clock says 20", "clock skew: this one's");
	GET("no-bucket/a");
	is_status(result.status, STORE_DENIED, "a missing bucket is not a missing object");
	says("there is no bucket \"bucket\"", "no bucket");
	GET("stranger/a");
	is_status(result.status, STORE_DENIED, "a 404 from something else is not a missing object");
	says("an S3 server?", "not S3");
	GET("elsewhere/a");
	says("in region \"eu-north-1\", not \"us-east-1\"", "wrong region, by redirect");
	GET("malformed/a");
	says("in region \"eu-north-1\", not \"us-east-1\"", "wrong region, by refusal");
	GET("forbidden/a");
	says("\"s3://bucket/p/forbidden/a\"", "the object");
	says("403 AccessDenied (Access Denied)", "the server's words");
	says("allow these credentials", "the remedy");
	ok(strstr(result.error, "testkey") == NULL && strstr(result.error, "testsecret") == NULL, "no key in it");
}

static void
on_the_wire(void)
{
	char head[4000];

	GET("fine/a");
	is_status(CREATE("wire/a", "body"), STORE_OK, "create");
	GET("head/wire/a");
	snprintf(head, sizeof(head), "%.*s", (int) result.len, result.data ? (char *) result.data : "");
	ok(strstr(head,
			  "SignedHeaders=content-md5;host;if-none-match;x-amz-content-sha256;x-amz-date;x-amz-security-token") !=
		   NULL,
	   "the condition and the session token are signed");
	ok(strstr(head, "\r\nIf-None-Match: *\r\n") || strstr(head, "\r\nif-none-match: *\r\n"), "the condition is sent");
	ok(strstr(head, "x-amz-security-token: testtoken") != NULL, "so is the token");
	ok(strstr(head, "Expect:") == NULL && strstr(head, "Transfer-Encoding") == NULL, "nothing that servers trip over");
	ok(strstr(head, "testsecret") == NULL, "the secret is not");
}

static void
connections(void)
{
	StoreOptions options = {.max_connections = 8, .access_key = "a", .secret_key = "b"};
	Store *saved = store;
	static Outcome many[200];
	int before, after;

	GET("connections/x");
	before = number();
	store = open_store(&options);
	for (int i = 0; i < 200; i++)
		(void) store_get(store, "fine/a", 0, -1, finished, &many[i]);
	for (int i = 0; i < 200; i++)
	{
		(void) store_wait(store, &many[i].done, NULL);
		free(many[i].data);
	}
	GET("connections/x");
	after = number();
	ok(after - before <= 8, "200 requests use 8 connections at most (%d)", after - before);
	store_close(store);
	store = saved;
}

static void
unreachable(void)
{
	StoreOptions options = {
		.endpoint = "http://127.0.0.1:1", .retry_timeout_ms = 300, .access_key = "a", .secret_key = "b"};
	Store *saved = store;

	store = open_store(&options);
	is_status(GET("a"), STORE_UNAVAILABLE, "nobody listens");
	says("http://127.0.0.1:1", "the endpoint is named");
	says("check s3am.endpoint", "with the remedy");
	is_status(CREATE("a", "x"), STORE_UNAVAILABLE, "a create of which nothing was sent is not undecided");
	options.endpoint = "http://does-not-exist.invalid";
	is_status(store_configure(store, &options, &(char *){0}) ? STORE_OK : STORE_DENIED, STORE_OK, "another endpoint");
	is_status(GET("a"), STORE_UNAVAILABLE, "a name that does not exist");
	options.endpoint = endpoint;
	(void) store_configure(store, &options, &(char *){0});
	is_status(GET("fine/a"), STORE_OK, "the right endpoint");
	store_close(store);
	store = saved;
}

static void
credentials(void)
{
	char name[] = "/tmp/s3am-credentials.XXXXXX";
	int fd = mkstemp(name);
	FILE *file;
	StoreOptions options = {.retry_timeout_ms = 3000};
	Store *saved = store;

	file = fdopen(fd, "w");
	fprintf(file, "[default]\naws_access_key_id = stale\naws_secret_access_key = x\n");
	fclose(file);
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	setenv("AWS_SHARED_CREDENTIALS_FILE", name, 1);
	setenv("AWS_CONFIG_FILE", "/nonexistent", 1);
	store = open_store(&options);
	is_status(GET("expired/a"), STORE_DENIED, "an expired token");
	says("the credentials came from the shared credentials file", "says where it came from");
	file = fopen(name, "w");
	fprintf(file, "[default]\naws_access_key_id = fresh\naws_secret_access_key = y\n");
	fclose(file);
	sleep(3);
	is_status(GET("expired/a"), STORE_NOT_FOUND, "a refusal makes the file be read again");
	store_close(store);
	unlink(name);
	store = open_store(&options);
	is_status(GET("fine/a"), STORE_DENIED, "no credentials");
	says("there are no credentials: set s3am.access_key", "says what to do");
	store_close(store);
	store = saved;
}

/* Dispatch returns at once, whatever the server does. */
static void
never_blocks(void)
{
	Outcome o = {0};
	double longest = 0;
	StoreOp *op = store_get(store, "hang/b", 0, -1, finished, &o);

	for (int i = 0; i < 100; i++)
	{
		double start = now();
		struct pollfd p = {.fd = store_fd(store), .events = POLLIN};

		store_dispatch(store);
		if (now() - start > longest)
			longest = now() - start;
		(void) poll(&p, 1, 1);
	}
	ok(longest < 0.1, "dispatch does not wait (%.3f s at most)", longest);
	store_cancel(store, op);
	store_dispatch(store);
	ok(o.done && o.status == STORE_CANCELLED, "a hanging request is cancelled at once");
}

static void
tls(const char *tls_endpoint, const char *ca_file)
{
	StoreOptions options = {
		.endpoint = tls_endpoint, .retry_timeout_ms = 5000, .max_connections = 4, .access_key = "a", .secret_key = "b"};
	Store *saved = store;
	static Outcome many[100];
	int good = 0;

	store = open_store(&options);
	is_status(GET("fine/a"), STORE_UNAVAILABLE, "a certificate that nobody known has signed");
	says("set s3am.ca_file", "says what to do");
	ok(took < 2, "at once: trying again does not help (%.1f s)", took);
	options.ca_file = "/nonexistent/ca.pem";
	ok(store_configure(store, &options, &(char *){0}), "a file of authorities that is not there");
	is_status(GET("fine/a"), STORE_UNAVAILABLE, "cannot be used");
	says("/nonexistent/ca.pem", "and is named");
	options.ca_file = ca_file;
	ok(store_configure(store, &options, &(char *){0}), "the right one");
	is_status(PUT("fine/a", "over TLS"), STORE_OK, "put over TLS");
	for (int i = 0; i < 100; i++)
		(void) store_get(store, "fine/a", 0, -1, finished, &many[i]);
	for (int i = 0; i < 100; i++)
	{
		(void) store_wait(store, &many[i].done, NULL);
		good += many[i].status == STORE_OK && many[i].len == 8;
		free(many[i].data);
	}
	is_number(good, 100, "a hundred gets");
	GET("connections/x");
	ok(number() <= 5, "over 4 connections that shook hands, and the first that put (%d)", number());
	store_close(store);
	store = saved;
}

int
main(int argc, char **argv)
{
	StoreOptions options = {.retry_timeout_ms = 1500,
							.request_timeout_ms = 300,
							.connect_timeout_ms = 500,
							.access_key = "testkey",
							.secret_key = "testsecret",
							.session_token = "testtoken"};

	if (argc != 4)
		return 2;
	endpoint = argv[1];
	setenv("AWS_ACCESS_KEY_ID", "testkey", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "testsecret", 1);
	store = open_store(&options);
	bodies();
	conditional();
	retries();
	slow_down();
	messages();
	on_the_wire();
	connections();
	unreachable();
	never_blocks();
	tls(argv[2], argv[3]);
	credentials();
	store_close(store);
	free(result.data);
	return done_testing();
}
