/*
 * conformance.c: what every driver must do.
 *
 *   conformance URL      file:///empty/directory, or s3://bucket/prefix with S3AM_ENDPOINT, S3AM_ADDRESSING and AWS_*
 *
 * Everything is beneath the address, which is left empty.
 */
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "store/store.h"
#include "tap.h"

typedef struct Outcome
{
	bool done;
	int calls;
	StoreStatus status;
	uint8_t *data;
	size_t len;
	uint64_t object_size;
	int64_t date_ms;
	char etag[136];
	char error[768];
	char *keys[1100];
	uint64_t sizes[1100];
	int nkeys;
	char *next;
} Outcome;

static Store *store;
static const char *url;

static void
finished(void *arg, StoreResult *result)
{
	Outcome *o = arg;

	o->calls++;
	o->status = result->status;
	o->len = result->len;
	o->object_size = result->object_size;
	o->date_ms = result->date_ms;
	memcpy(o->etag, result->etag, sizeof(o->etag));
	snprintf(o->error, sizeof(o->error), "%s", result->error ? result->error : "");
	if (result->status == STORE_OK && result->data)
		o->data = store_take(result);
	for (int i = 0; i < result->nentries; i++)
	{
		o->keys[o->nkeys] = strdup(result->entries[i].key);
		o->sizes[o->nkeys++] = result->entries[i].size;
	}
	o->next = result->next ? strdup(result->next) : NULL;
	o->done = true;
}

static void
clear(Outcome *o)
{
	free(o->data);
	free(o->next);
	for (int i = 0; i < o->nkeys; i++)
		free(o->keys[i]);
	memset(o, 0, sizeof(*o));
}

static void
wait_for(Outcome *o)
{
	(void) store_wait(store, &o->done, NULL);
}

static Outcome result;

static StoreStatus
end(void)
{
	wait_for(&result);
	return result.status;
}

#define RUN(call) (clear(&result), (void) (call), end())
#define GET(key) RUN(store_get(store, key, 0, -1, finished, &result))
#define RANGE(key, offset, length) RUN(store_get(store, key, offset, length, finished, &result))
#define PUT(key, body) RUN(store_put(store, key, body, strlen(body), finished, &result))
#define CREATE(key, body) RUN(store_create(store, key, body, strlen(body), finished, &result))
#define REPLACE(key, etag, body) RUN(store_replace(store, key, etag, body, strlen(body), finished, &result))
#define LIST(prefix, after, limit) RUN(store_list(store, prefix, after, limit, finished, &result))
#define REMOVE(key) RUN(store_remove(store, key, finished, &result))

static void
is_body(const char *wanted, const char *name)
{
	bool same =
		result.status == STORE_OK && result.len == strlen(wanted) && memcmp(result.data, wanted, result.len) == 0;

	ok(same, "%s", name);
	if (!same)
		printf("# status %d, %zu bytes: %.*s %s\n", result.status, result.len,
			   (int) (result.len < 60 ? result.len : 60), result.data ? (char *) result.data : "", result.error);
}

static void
single_operations(void)
{
	char etag[136];
	time_t now = time(NULL);

	is_number(GET("one/absent"), STORE_NOT_FOUND, "get of an absent key");
	ok(strstr(result.error, "one/absent") != NULL, "the message names it");
	is_number(PUT("one/a", "first"), STORE_OK, "put");
	ok(result.etag[0] == '"', "put tells the ETag, in quotes");
	memcpy(etag, result.etag, sizeof(etag));
	GET("one/a");
	is_body("first", "get");
	is_text(result.etag, etag, "the same ETag");
	is_number(result.object_size, 5, "size");
	ok(result.date_ms > (now - 300) * 1000LL && result.date_ms < (now + 300) * 1000LL, "the store's date");
	is_number(PUT("one/a", "second!"), STORE_OK, "overwrite");
	ok(strcmp(result.etag, etag) != 0, "another ETag");
	GET("one/a");
	is_body("second!", "what was written last is read");
	is_number(PUT("one/empty", ""), STORE_OK, "put nothing");
	GET("one/empty");
	is_body("", "get nothing");
	is_number(CREATE("one/a", "x"), STORE_PRECONDITION, "create of a key that exists");
	GET("one/a");
	is_body("second!", "it is as it was");
	is_number(CREATE("one/new", "new"), STORE_OK, "create");
	is_number(CREATE("one/none", ""), STORE_OK, "create empty");
	is_number(CREATE("one/none", ""), STORE_PRECONDITION, "create empty, again");
	is_number(REMOVE("one/new"), STORE_OK, "remove");
	is_number(GET("one/new"), STORE_NOT_FOUND, "it is gone");
	is_number(REMOVE("one/new"), STORE_OK, "remove again");
	is_number(CREATE("one/new", "again"), STORE_OK, "create what was removed");

	is_number(GET("one/new"), STORE_OK, "read its ETag");
	memcpy(etag, result.etag, sizeof(etag));
	is_number(REPLACE("one/new", etag, "replaced"), STORE_OK, "replace");
	is_number(REPLACE("one/new", etag, "stale"), STORE_PRECONDITION, "replace with an old ETag");
	GET("one/new");
	is_body("replaced", "the first replacement is there");
	REMOVE("one/new");
	(void) REPLACE("one/new", etag, "absent");
	ok(result.status == STORE_NOT_FOUND || result.status == STORE_PRECONDITION, "replace of an absent key");
	is_number(GET("one/new"), STORE_NOT_FOUND, "it did not come back");
	REMOVE("one/a");
	REMOVE("one/empty");
	REMOVE("one/none");
}

static void
ranges(void)
{
	PUT("range", "0123456789");
	RANGE("range", 0, 4);
	is_body("0123", "the beginning");
	RANGE("range", 3, 4);
	is_body("3456", "the middle");
	is_number(result.object_size, 10, "the size of the whole is known");
	RANGE("range", 7, 100);
	is_body("789", "past the end: fewer bytes");
	RANGE("range", 7, -1);
	is_body("789", "to the end");
	RANGE("range", 10, 5);
	is_body("", "at the end: none");
	RANGE("range", 1000, 5);
	is_body("", "far behind the end: none");
	RANGE("range", 2, 0);
	is_body("", "a range of nothing");
	RANGE("range", 0, INT64_MAX);
	is_body("0123456789", "the longest range");
	RANGE("range", 9, 1);
	is_body("9", "the last byte");
	is_number(RANGE("range/absent", 0, 5), STORE_NOT_FOUND, "a range of an absent key");
	PUT("range", "");
	RANGE("range", 0, 5);
	is_body("", "a range of an empty object");
	REMOVE("range");
}

static void
odd_keys(void)
{
	static const char *const odd[] = {"odd/with blank",   "odd/plus+plus",   "odd/per%20cent",
									  "odd/a&b=c?d#e",    "odd/'\"<>",       "odd/\xc3\xa4\xe2\x82\xac",
									  "odd/~-_!*()@:$,;", "odd/back\\slash", "odd/a",
									  "odd/d/e/e/p",      "odd/[x]{y}|z^`",  NULL};
	static const char *const wrong[] = {"",       "/a",    "a/",      "a//b",     ".",           "..", "../a",
										"a/../b", "a/./b", ".hidden", "a/.tmp/b", "line\nbreak", NULL};
	int n = 0, found = 0;
	char name[100];
	char lengthy[600];

	for (; odd[n]; n++)
	{
		snprintf(name, sizeof(name), "key \"%s\"", odd[n]);
		if (PUT(odd[n], odd[n]) != STORE_OK)
			printf("# %s\n", result.error);
		GET(odd[n]);
		is_body(odd[n], name);
	}
	LIST("odd/", NULL, 100);
	is_number(result.nkeys, n, "all are listed");
	for (int i = 0; i < result.nkeys; i++)
		for (int j = 0; odd[j]; j++)
			found += strcmp(result.keys[i], odd[j]) == 0 && result.sizes[i] == strlen(odd[j]);
	is_number(found, n, "by their names and sizes");
	LIST("odd/plus+", NULL, 100);
	is_number(result.nkeys, 1, "an odd prefix");
	LIST("odd/", "odd/plus+plus", 100);
	for (int i = found = 0; i < result.nkeys; i++)
		found += strcmp(result.keys[i], "odd/plus+plus") > 0;
	ok(found == result.nkeys && found > 0, "list after an odd key");
	for (int i = 0; odd[i]; i++)
		REMOVE(odd[i]);
	for (int i = 0; wrong[i]; i++)
	{
		snprintf(name, sizeof(name), "refused key \"%.20s\"", wrong[i][0] == 'l' ? "line break" : wrong[i]);
		is_number(PUT(wrong[i], "x"), STORE_DENIED, name);
		if (GET(wrong[i]) != STORE_DENIED || CREATE(wrong[i], "x") != STORE_DENIED ||
			REMOVE(wrong[i]) != STORE_DENIED || REPLACE(wrong[i], "\"x\"", "x") != STORE_DENIED)
			ok(false, "%s by every operation", name);
	}
	memset(lengthy, 'k', sizeof(lengthy));
	lengthy[513] = '\0';
	for (int i = 150; i < 513; i += 150)
		lengthy[i] = '/';
	is_number(PUT(lengthy, "x"), STORE_DENIED, "a key that is too long");
	lengthy[512] = '\0';
	is_number(PUT(lengthy, "long"), STORE_OK, "one that is not");
	GET(lengthy);
	is_body("long", "is read");
	REMOVE(lengthy);
}

static void
lists(void)
{
	enum
	{
		MANY = 1203
	};
	static Outcome puts[MANY];
	static char keys[MANY][40];
	static bool seen[MANY];
	int n = 0, pages = 0, twice = 0;
	char *after = NULL;

	LIST("list/", NULL, 10);
	is_number(result.status, STORE_OK, "list of nothing");
	ok(result.nkeys == 0 && result.next == NULL, "is empty");
	for (int i = 0; i < MANY; i++)
	{
		snprintf(keys[i], sizeof(keys[i]), "list/%02x/%06d", i % 37, i);
		(void) store_put(store, keys[i], "x", 1, finished, &puts[i]);
	}
	for (int i = 0; i < MANY; i++)
	{
		wait_for(&puts[i]);
		n += puts[i].status == STORE_OK;
		clear(&puts[i]);
	}
	is_number(n, MANY, "1203 puts at once");
	n = 0;
	do
	{
		LIST("list/", after, 100);
		pages++;
		free(after);
		after = result.next ? strdup(result.next) : NULL;
		for (int i = 0; i < result.nkeys; i++)
		{
			int number = atoi(result.keys[i] + 8);

			twice += seen[number];
			seen[number] = true;
			n++;
		}
	} while (after && pages < 100);
	is_number(n, MANY, "all are listed, in pages");
	is_number(twice, 0, "none twice");
	ok(pages >= 13 && pages <= 14, "of a hundred");
	LIST("list/", NULL, 0);
	ok(result.nkeys == 1000 && result.next != NULL, "a page has a thousand at most");
	LIST("list/03", NULL, 1000);
	is_number(result.nkeys, 33, "a narrower prefix");
	LIST("list/03/0000", NULL, 1000);
	is_number(result.nkeys, 3, "that ends within a name");
	LIST("list/03/", "list/03/000040", 1000);
	is_number(result.nkeys, 31, "after a key");
	LIST("nowhere/", NULL, 10);
	is_number(result.nkeys, 0, "a prefix of nothing");
	is_number(LIST("../", NULL, 10), STORE_OK, "a prefix that no key can have");
	is_number(result.nkeys, 0, "has none");
	for (int i = 0; i < MANY; i++)
		(void) store_remove(store, keys[i], finished, &puts[i]);
	for (int i = 0; i < MANY; i++)
	{
		wait_for(&puts[i]);
		clear(&puts[i]);
	}
	LIST("list/", NULL, 10);
	is_number(result.nkeys, 0, "all are removed");
}

static void
many_in_flight(void)
{
	enum
	{
		MANY = 600
	};
	static Outcome outcomes[MANY];
	char key[40];
	static char bodies[MANY][64];
	int good = 0, calls = 0, winners = 0;

	for (int i = 0; i < MANY; i++)
	{
		snprintf(bodies[i], sizeof(bodies[i]), "body of number %d", i);
		snprintf(key, sizeof(key), "many/%d", i);
		(void) store_put(store, key, bodies[i], strlen(bodies[i]), finished, &outcomes[i]);
	}
	is_number(outcomes[0].calls, 0, "no call from within the submitting one");
	for (int i = 0; i < MANY; i++)
		wait_for(&outcomes[i]);
	for (int i = 0; i < MANY; i++)
		clear(&outcomes[i]);
	for (int i = 0; i < MANY; i++)
	{
		snprintf(key, sizeof(key), "many/%d", i);
		(void) store_get(store, key, 0, -1, finished, &outcomes[i]);
	}
	for (int i = 0; i < MANY; i++)
		wait_for(&outcomes[i]);
	for (int i = 0; i < MANY; i++)
	{
		good += outcomes[i].status == STORE_OK && outcomes[i].len == strlen(bodies[i]) &&
				memcmp(outcomes[i].data, bodies[i], outcomes[i].len) == 0;
		calls += outcomes[i].calls;
		clear(&outcomes[i]);
	}
	is_number(good, MANY, "600 at once, each with its own bytes");
	is_number(calls, MANY, "one call each");
	for (int i = 0; i < 200; i++)
		(void) store_create(store, "many/race", bodies[i], strlen(bodies[i]), finished, &outcomes[i]);
	for (int i = 0; i < 200; i++)
	{
		wait_for(&outcomes[i]);
		winners += outcomes[i].status == STORE_OK;
		clear(&outcomes[i]);
	}
	is_number(winners, 1, "200 creators, one winner");
	for (int i = 0; i < MANY; i++)
	{
		snprintf(key, sizeof(key), "many/%d", i);
		(void) store_remove(store, key, finished, &outcomes[i]);
	}
	for (int i = 0; i < MANY; i++)
	{
		wait_for(&outcomes[i]);
		clear(&outcomes[i]);
	}
	REMOVE("many/race");
}

static void
big_objects(void)
{
	const size_t size = 40 << 20;
	uint8_t *data = malloc(size);
	uint64_t x = 88172645463325252ULL;

	for (size_t i = 0; i < size; i += 8)
	{
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(data + i, &x, 8);
	}
	is_number(RUN(store_put(store, "big", data, size, finished, &result)), STORE_OK, "put 40 MB");
	GET("big");
	ok(result.status == STORE_OK && result.len == size && memcmp(result.data, data, size) == 0, "get them");
	RANGE("big", size - 1000003, 1000000);
	ok(result.status == STORE_OK && result.len == 1000000 && memcmp(result.data, data + size - 1000003, 1000000) == 0,
	   "a part of them");
	REMOVE("big");
	free(data);
}

/* What is cancelled ends by one call from the next dispatch, and does not touch its memory after that. */
static void
cancels(void)
{
	enum
	{
		MANY = 300
	};
	static Outcome outcomes[MANY];
	StoreOp *ops[MANY];
	char *data = malloc(1 << 20);
	char key[40];
	int calls, odd;

	memset(data, 'c', 1 << 20);
	PUT("cancel/get", "to be read");
	for (int round = 0; round < 12; round++)
	{
		/* later and later into their lives */
		for (int i = 0; i < MANY; i++)
		{
			snprintf(key, sizeof(key), "cancel/%d", i);
			ops[i] = i % 3 == 0   ? store_get(store, "cancel/get", 0, -1, finished, &outcomes[i])
					 : i % 3 == 1 ? store_put(store, key, data, round % 2 ? 1 << 20 : 100, finished, &outcomes[i])
								  : store_create(store, key, data, 100, finished, &outcomes[i]);
		}
		for (int i = 0; i < round * round; i++)
		{
			struct pollfd p = {.fd = store_fd(store), .events = POLLIN};

			(void) poll(&p, 1, 1);
			store_dispatch(store);
		}
		for (int i = 0; i < MANY; i++)
			if (!outcomes[i].done)
			{
				store_cancel(store, ops[i]);
				if (i % 7 == 0)
					store_cancel(store, ops[i]);
			}
		store_dispatch(store);
		calls = odd = 0;
		for (int i = 0; i < MANY; i++)
		{
			calls += outcomes[i].calls;
			odd += outcomes[i].status != STORE_CANCELLED && outcomes[i].status != STORE_OK &&
				   outcomes[i].status != STORE_PRECONDITION;
			clear(&outcomes[i]);
		}
		if (calls != MANY || odd != 0)
			break;
	}
	ok(calls == MANY && odd == 0,
	   "each of 300 that were cancelled, at twelve moments, ends by one call at the next dispatch");
	free(data);
	GET("cancel/get");
	is_body("to be read", "the store goes on");
	/* what landed */
	for (int i = 0; i < MANY; i++)
	{
		snprintf(key, sizeof(key), "cancel/%d", i);
		(void) store_remove(store, key, finished, &outcomes[i]);
	}
	for (int i = 0; i < MANY; i++)
	{
		wait_for(&outcomes[i]);
		clear(&outcomes[i]);
	}
	REMOVE("cancel/get");
}

static StoreOp *neighbours[8];
static Outcome neighbour_outcomes[8];

/* A callback that cancels what finished with it. */
static void
cancel_neighbours(void *arg, StoreResult *r)
{
	int me = (int) ((Outcome *) arg - neighbour_outcomes);

	finished(arg, r);
	neighbours[me] = NULL;
	for (int i = 0; i < 8; i++)
		if (neighbours[i])
			store_cancel(store, neighbours[i]);
}

/* What one callback cancels may have ended in the same dispatch. */
static void
cancels_neighbours(void)
{
	int calls = 0;

	PUT("cancel/get", "to be read");
	for (int round = 0; round < 5; round++)
	{
		for (int i = 0; i < 8; i++)
			neighbours[i] = store_get(store, "cancel/get", 0, -1, cancel_neighbours, &neighbour_outcomes[i]);
		usleep(round * 20000); /* all have ended, or some */
		for (int i = 0; i < 8; i++)
			wait_for(&neighbour_outcomes[i]);
		for (int i = 0; i < 8; i++)
		{
			calls += neighbour_outcomes[i].calls;
			clear(&neighbour_outcomes[i]);
		}
		GET("cancel/get");
	}
	ok(calls == 5 * 8, "what is cancelled by a callback ends by one call");
	is_body("to be read", "and the store goes on");
	REMOVE("cancel/get");
}

typedef struct Chain
{
	bool done;
	int left;
} Chain;

static void
next_of_chain(void *arg, StoreResult *r)
{
	Chain *chain = arg;

	if (r->status != STORE_NOT_FOUND || --chain->left == 0)
		chain->done = true;
	else
		(void) store_get(store, "chain", 0, -1, next_of_chain, chain);
}

static void
callbacks_submit(void)
{
	Chain chain = {.left = 100};

	(void) store_get(store, "chain", 0, -1, next_of_chain, &chain);
	(void) store_wait(store, &chain.done, NULL);
	is_number(chain.left, 0, "callbacks submit: a chain of a hundred");
}

static bool
at_once(void)
{
	return true;
}

static int asks_left;

static bool
after_a_while(void)
{
	return --asks_left < 0;
}

static void
interrupts(void)
{
	int left = 0, stopped = 0;

	StoreVerdict verdict;
	bool never = false;
	Outcome o = {0};
	StoreOp *op;

	ok(!store_wait(store, &never, at_once), "a wait is interrupted");
	op = store_get(store, "absent", 0, -1, finished, &o);
	ok(!store_finish(store, op, &o.done, at_once), "an operation is interrupted");
	ok(o.calls == 1 && o.status == STORE_CANCELLED, "and has ended");
	store_check(store, 8, 1, at_once, &verdict);
	is_number(verdict.status, STORE_CANCELLED, "the race is interrupted");
	LIST("check/", NULL, 10);
	is_number(result.nkeys, 0, "and leaves nothing");
	for (int i = 1; i < 60; i += 3)
	{
		asks_left = i;
		store_check(store, 8, 3, after_a_while, &verdict);
		stopped += verdict.status == STORE_CANCELLED;
		LIST("check/", NULL, 10);
		left += result.nkeys;
	}
	ok(stopped > 3, "it is interrupted further and further on (%d times)", stopped);
	is_number(left, 0, "and never leaves anything");
}

static void
race(void)
{
	StoreVerdict v;

	store_check(store, 32, 3, NULL, &v);
	is_number(v.status, STORE_OK, "the conformance race runs");
	ok(v.create_if_absent && v.compare_and_set && v.read_after_write && v.list_after_write && v.ranged_get,
	   "and the store passes it %s", v.detail);
	LIST("check/", NULL, 10);
	is_number(result.nkeys, 0, "it leaves nothing");
}

static void
stats(void)
{
	StoreStats before = store->stats;

	PUT("stats", "12345");
	GET("stats");
	GET("stats");
	LIST("stats", NULL, 1);
	REMOVE("stats");
	is_number(store->stats.puts - before.puts, 1, "one put was counted");
	is_number(store->stats.gets - before.gets, 2, "two gets");
	is_number(store->stats.lists - before.lists, 1, "one list");
	is_number(store->stats.deletes - before.deletes, 1, "one delete");
	is_number(store->stats.bytes_out - before.bytes_out, 5, "bytes out");
	ok(store->stats.bytes_in - before.bytes_in >= 10, "bytes in");
}

static void
closing(const StoreOptions *options)
{
	enum
	{
		MANY = 100
	};
	static Outcome outcomes[MANY];
	char *error;
	int calls = 0;
	Store *other = store_open(options, &error);

	for (int i = 0; i < MANY; i++)
		(void) store_get(other, "closing", 0, -1, finished, &outcomes[i]);
	store_dispatch(other);
	for (int i = 0; i < MANY; i++)
		calls += outcomes[i].calls;
	store_close(other);
	for (int i = calls = 0; i < MANY; i++)
	{
		calls += outcomes[i].calls;
		clear(&outcomes[i]);
	}
	is_number(calls, MANY, "closing ends what is under way");
}

/* What was cancelled on its way may land when the server comes to it: after what cancels() removed. */
static void
late_arrivals(void)
{
	int quiet = 0;

	for (int i = 0; i < 300 && quiet < 10; i++)
	{
		char *keys[64];
		int n = 0;

		LIST("cancel/", NULL, 64);
		for (; n < result.nkeys; n++)
			keys[n] = strdup(result.keys[n]);
		quiet = n == 0 ? quiet + 1 : 0;
		for (int k = 0; k < n; k++)
		{
			REMOVE(keys[k]);
			free(keys[k]);
		}
		usleep(100000);
	}
}

int
main(int argc, char **argv)
{
	StoreOptions options = {0};
	char *error;

	if (argc != 2)
		return 2;
	url = argv[1];
	options.url = url;
	options.endpoint = getenv("S3AM_ENDPOINT");
	options.virtual_host = getenv("S3AM_ADDRESSING") && strcmp(getenv("S3AM_ADDRESSING"), "virtual-host") == 0 ? 1 : -1;
	store = store_open(&options, &error);
	if (!ok(store != NULL, "open %s", url))
	{
		printf("# %s\n", error);
		return 1;
	}
	race(); /* which also finds the form of If-Match */
	single_operations();
	ranges();
	odd_keys();
	lists();
	many_in_flight();
	big_objects();
	cancels();
	cancels_neighbours();
	callbacks_submit();
	interrupts();
	stats();
	closing(&options);
	late_arrivals();
	LIST("", NULL, 10);
	is_number(result.nkeys, 0, "nothing is left behind");
	clear(&result);
	store_close(store);
	return done_testing();
}
