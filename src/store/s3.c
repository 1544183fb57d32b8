/*
 * s3.c: the S3 driver: operations on their way through libcurl's multi interface.
 *
 * An operation is queued (also between two attempts), active, or finished.  store_fd() is an epoll descriptor that watches libcurl's
 * sockets; everything moves in dispatch.  Nothing here waits: libcurl works without blocking, names are resolved by
 * a thread of its own.  Such a thread must not run the process's signal handlers, so signals are blocked while libcurl may start one.
 *
 * The connections belong to the one multi handle and outlive the requests; easy handles are used again.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "store/s3.h"
#include "store/sigv4.h"
#include "store/text.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 5000
#define SLOW_DOWN_MIN_MS 200
#define CREDENTIALS_MARGIN_S 60 /* read again so long before they expire */
#define CREDENTIALS_PAUSE_MS 2000 /* and not more often than this */

int64_t
s3_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* From 0 to limit - 1 (xorshift: nobody must be unable to guess it). */
static int64_t
random_below(S3Store *s3, int64_t limit)
{
	s3->random ^= s3->random << 13;
	s3->random ^= s3->random >> 7;
	s3->random ^= s3->random << 17;
	return limit > 0 ? (int64_t) (s3->random % (uint64_t) limit) : 0;
}

/* ------------------------------------------------------------------------------------ lists */

static S3List *
list_of(StoreOp *op)
{
	return op->where == S3_QUEUED ? &op->s3->queued : op->where == S3_ACTIVE ? &op->s3->active : &op->s3->finished;
}

static void
unlink_op(StoreOp *op)
{
	S3List *list = list_of(op);

	*(op->prev ? &op->prev->next : &list->first) = op->next;
	*(op->next ? &op->next->prev : &list->last) = op->prev;
	op->prev = op->next = NULL;
	list->n--;
}

static void
link_op(StoreOp *op, S3Where where)
{
	S3List *list;

	op->where = where;
	list = list_of(op);
	op->prev = list->last;
	op->next = NULL;
	*(list->last ? &list->last->next : &list->first) = op;
	list->last = op;
	list->n++;
}

static void
move_op(StoreOp *op, S3Where where)
{
	unlink_op(op);
	link_op(op, where);
}

/* ------------------------------------------------------------------------------------ submitting */

static StoreOp *
submit(Store *store, S3Kind kind, const char *key, const char *extra, StoreCallback cb, void *arg)
{
	S3Store *s3 = (S3Store *) store;
	StoreOp *op = calloc(1, sizeof(StoreOp));
	const char *wrong;

	if (op == NULL)
		return NULL;
	op->s3 = s3;
	op->kind = kind;
	op->cb = cb;
	op->arg = arg;
	op->length = -1;
	op->submitted = s3_now();
	op->key = key ? strdup(key) : NULL;
	op->extra = extra ? strdup(extra) : NULL;
	if ((key && op->key == NULL) || (extra && op->extra == NULL))
		s3_error(op, STORE_UNAVAILABLE, "out of memory");
	else if (key && kind != S3_LIST && (wrong = store_key_error(key)) != NULL)
		s3_error(op, STORE_DENIED, "%s", wrong);
	/* nothing can be there, so nobody is asked */
	link_op(op, op->status != STORE_OK || (kind == S3_LIST && !store_prefix_possible(key)) ? S3_FINISHED : S3_QUEUED);
	return op;
}

static StoreOp *
s3_get(Store *store, const char *key, uint64_t offset, int64_t length, StoreCallback cb, void *arg)
{
	StoreOp *op = submit(store, S3_GET, key, NULL, cb, arg);

	if (op == NULL)
		return NULL;
	op->offset = offset;
	op->length = length;
	store->stats.gets++;
	return op;
}

static StoreOp *
submit_write(Store *store, S3Kind kind, const char *key, const char *etag, const void *data, size_t len,
			 StoreCallback cb, void *arg)
{
	StoreOp *op = submit(store, kind, key, etag, cb, arg);

	if (op == NULL)
		return NULL;
	op->data = data;
	op->len = len;
	store->stats.puts++;
	return op;
}

static StoreOp *
s3_put(Store *store, const char *key, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return submit_write(store, S3_PUT, key, NULL, data, len, cb, arg);
}

static StoreOp *
s3_create(Store *store, const char *key, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return submit_write(store, S3_CREATE, key, NULL, data, len, cb, arg);
}

static StoreOp *
s3_replace(Store *store, const char *key, const char *etag, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return submit_write(store, S3_REPLACE, key, etag, data, len, cb, arg);
}

static StoreOp *
s3_list(Store *store, const char *prefix, const char *after, int limit, StoreCallback cb, void *arg)
{
	StoreOp *op = submit(store, S3_LIST, prefix, after && after[0] ? after : NULL, cb, arg);

	if (op == NULL)
		return NULL;
	op->limit = limit;
	store->stats.lists++;
	return op;
}

static StoreOp *
s3_remove(Store *store, const char *key, StoreCallback cb, void *arg)
{
	store->stats.deletes++;
	return submit(store, S3_REMOVE, key, NULL, cb, arg);
}

StoreOp *
s3_make_bucket(Store *store, StoreCallback cb, void *arg)
{
	return submit(store, S3_MAKE_BUCKET, NULL, NULL, cb, arg);
}

static void
s3_cancel(StoreOp *op)
{
	if (op->cancelled)
		return;
	op->cancelled = true;
	op->s3->ncancelled++;
}

/* ------------------------------------------------------------------------------------ credentials */

/* Reads the credentials, again if need be.  False: op says why there are none. */
static bool
have_credentials(S3Store *s3, StoreOp *op)
{
	int64_t now = s3_now();
	bool expired = s3->credentials.expires > 0 && time(NULL) + CREDENTIALS_MARGIN_S >= s3->credentials.expires;

	if (s3->credentials_at == 0 ||
		((expired || s3->credentials.access_key == NULL) && now >= s3->credentials_at + CREDENTIALS_PAUSE_MS))
	{
		credentials_wipe(&s3->credentials);
		free(s3->credentials_error);
		s3->credentials_error = NULL;
		s3->credentials_at = now;
		(void) credentials_load(&s3->settings, &s3->credentials, &s3->credentials_error);
	}
	if (s3->credentials.access_key)
		return true;
	if (s3->credentials_error)
		s3_error(op, STORE_DENIED, "%s", s3->credentials_error);
	else
	{
		/* there was no memory to look: that tells nothing about the next time */
		s3->credentials_at = 0;
		s3_error(op, STORE_UNAVAILABLE, "out of memory");
	}
	return false;
}

/* The server refused the ones in use: are there others by now? */
static bool
other_credentials(S3Store *s3, StoreOp *op)
{
	Credentials fresh;
	char *error = NULL;
	bool other;

	if (op->reread_credentials)
		return false;
	op->reread_credentials = true;
	if (op->credentials_at != s3->credentials_at)
		return true; /* somebody read them since this attempt began */
	if (s3_now() < s3->credentials_at + CREDENTIALS_PAUSE_MS || !credentials_load(&s3->settings, &fresh, &error))
	{
		free(error);
		return false;
	}
	other = !credentials_equal(&fresh, &s3->credentials);
	credentials_wipe(&s3->credentials);
	s3->credentials = fresh;
	s3->credentials_at = s3_now();
	return other;
}

/* ------------------------------------------------------------------------------------ attempts */

static void
finish(StoreOp *op)
{
	move_op(op, S3_FINISHED);
}

static void
start(StoreOp *op)
{
	S3Store *s3 = op->s3;
	char text[SIGV4_TIME];
	time_t t = time(NULL);
	struct tm tm;

	if (!have_credentials(s3, op))
	{
		finish(op);
		return;
	}
	(void) strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", gmtime_r(&t, &tm));
	op->credentials_at = s3->credentials_at;
	if (!s3_request(op, text))
	{
		finish(op);
		return;
	}
	op->attempts++;
	op->started = op->progress = s3_now();
	op->started_us = store_now_us();
	if (curl_multi_add_handle(s3->multi, op->easy) != CURLM_OK)
	{
		s3_request_end(op, false);
		s3_error(op, STORE_UNAVAILABLE, "out of memory");
		finish(op);
		return;
	}
	if (s3->next_look > op->started + s3->request_timeout)
		s3->next_look = op->started + s3->request_timeout;
	move_op(op, S3_ACTIVE);
}

/* Takes an attempt from libcurl, and its bytes into the account. */
static void
end_attempt(StoreOp *op, bool good)
{
	S3Store *s3 = op->s3;

	s3->store.stats.bytes_out += op->sent;
	s3->store.stats.bytes_in += op->answer.len;
	(void) curl_multi_remove_handle(s3->multi, op->easy);
	s3_request_end(op, good);
}

static void
count(StoreOp *op, StoreStatus status)
{
	StoreRequest request = op->kind == S3_GET      ? STORE_REQUEST_GET
						   : op->kind == S3_LIST   ? STORE_REQUEST_LIST
						   : op->kind == S3_REMOVE ? STORE_REQUEST_DELETE
												   : STORE_REQUEST_PUT;

	store_count(&op->s3->store, request, status, op->started_us,
				request == STORE_REQUEST_PUT ? op->sent : op->answer.len);
}

/*
 * How many requests may be under way, as TCP does it: half as many where the server asks to slow down, one more for each full
 * round of answers.
 */
static void
adjust_window(S3Store *s3, StoreOp *op, bool slow_down, int64_t wait)
{
	if (slow_down)
	{
		/* those that were sent before the last such answer tell nothing new */
		if (op->started >= s3->quiet_until)
			s3->window = s3->window > 2 ? s3->window / 2 : 1;
		if (s3->quiet_until < s3_now() + wait)
			s3->quiet_until = s3_now() + wait;
	}
	else if (op->status == STORE_OK && s3->window < s3->max_connections)
		s3->window += 1 / s3->window;
}

static void
attempt_ended(StoreOp *op, CURLcode code)
{
	S3Store *s3 = op->s3;
	bool slow_down;
	S3Next next = s3_verdict(op, code, &slow_down);
	int64_t limit = slow_down ? SLOW_DOWN_MIN_MS : BACKOFF_MIN_MS;
	int64_t wait, left = op->submitted + s3->retry_timeout - s3_now();

	for (int i = 1; i < op->attempts && limit < BACKOFF_MAX_MS; i++)
		limit *= 2;
	wait = 1 + random_below(s3, limit < BACKOFF_MAX_MS ? limit : BACKOFF_MAX_MS);
	/* chance does not end it before its time: the last attempt is made when that is over */
	if (wait > left && left > 0)
		wait = left;
	if (op->answer.retry_after_ms > wait)
		wait = op->answer.retry_after_ms;
	adjust_window(s3, op, slow_down, wait);
	count(op, op->status);
	if (next == S3_NEW_CREDENTIALS)
	{
		wait = 0;
		/* read for the next one also where this one is not to be repeated */
		if (!other_credentials(s3, op))
			next = S3_DONE;
	}
	if (next == S3_DONE || s3_conditional(op) || op->cancelled || left <= 0 || wait > left)
		finish(op);
	else
	{
		op->retry_at = s3_now() + wait;
		s3->store.stats.retries++;
		move_op(op, S3_QUEUED);
	}
}

/* Is there something to start now?  Otherwise *when is lowered to the time at which there may be. */
static StoreOp *
next_to_start(S3Store *s3, int64_t now, int64_t *when)
{
	if (s3->queued.n == 0 || s3->active.n >= (int) s3->window)
		return NULL;
	if (s3->quiet_until > now)
	{
		if (*when > s3->quiet_until)
			*when = s3->quiet_until;
		return NULL;
	}
	for (StoreOp *op = s3->queued.first; op; op = op->next)
	{
		if (op->retry_at <= now)
			return op;
		if (*when > op->retry_at)
			*when = op->retry_at;
	}
	return NULL;
}

static void
cancel_marked(S3Store *s3)
{
	S3List *const lists[] = {&s3->queued, &s3->active, &s3->finished};

	for (int i = 0; i < 3 && s3->ncancelled > 0; i++)
		for (StoreOp *op = lists[i]->first, *next; op; op = next)
		{
			next = op->next;
			if (!op->cancelled || op->status == STORE_CANCELLED)
				continue;
			if (op->where == S3_ACTIVE)
			{
				end_attempt(op, false);
				count(op, STORE_CANCELLED);
			}
			s3_error(op, STORE_CANCELLED, "cancelled");
			if (op->where != S3_FINISHED)
				finish(op);
		}
	s3->ncancelled = 0;
}

static void
end_stalled(S3Store *s3)
{
	int64_t now = s3_now();

	if (now < s3->next_look)
		return;
	s3->next_look = INT64_MAX;
	for (StoreOp *op = s3->active.first, *next; op; op = next)
	{
		next = op->next;
		if (op->progress + s3->request_timeout <= now)
		{
			end_attempt(op, false);
			(void) snprintf(op->curl_error, sizeof(op->curl_error), "no answer for %d ms", s3->request_timeout);
			attempt_ended(op, CURLE_OPERATION_TIMEDOUT);
		}
		else if (s3->next_look > op->progress + s3->request_timeout)
			s3->next_look = op->progress + s3->request_timeout;
	}
}

/* ------------------------------------------------------------------------------------ libcurl */

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	S3Store *s3 = arg;
	struct epoll_event event = {.data.fd = fd};

	if (what == CURL_POLL_REMOVE)
	{
		(void) epoll_ctl(s3->epoll, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (epoll_ctl(s3->epoll, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	return epoll_ctl(s3->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -1;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *arg)
{
	((S3Store *) arg)->curl_deadline = timeout_ms < 0 ? -1 : s3_now() + timeout_ms;
	return 0;
}

static void
collect_ended(S3Store *s3)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(s3->multi, &left)) != NULL)
	{
		StoreOp *op;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		(void) curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &op);
		end_attempt(op, code == CURLE_OK);
		attempt_ended(op, code);
	}
}

static void
run_curl(S3Store *s3)
{
	struct epoll_event events[64];
	int n = epoll_wait(s3->epoll, events, 64, 0);
	int running;

	for (int i = 0; i < n; i++)
		(void) curl_multi_socket_action(s3->multi, events[i].data.fd,
										(events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
											(events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
											(events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0),
										&running);
	if (s3->curl_deadline >= 0 && s3->curl_deadline <= s3_now())
	{
		s3->curl_deadline = -1;
		(void) curl_multi_socket_action(s3->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	collect_ended(s3);
}

static void
start_queued(S3Store *s3)
{
	int64_t when = INT64_MAX;
	StoreOp *op;
	bool some = false;
	int running;

	while ((op = next_to_start(s3, s3_now(), &when)) != NULL)
	{
		start(op);
		some = true;
	}
	/* what was added is sent now, not at the next call */
	if (some && s3->active.n > 0)
	{
		s3->curl_deadline = -1;
		(void) curl_multi_socket_action(s3->multi, CURL_SOCKET_TIMEOUT, 0, &running);
		collect_ended(s3);
	}
}

static void
block_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	/* these come from the code itself, and blocked would only end it in silence */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGABRT);
	(void) pthread_sigmask(SIG_SETMASK, &all, before);
}

static void
free_op(StoreOp *op)
{
	answer_free(&op->answer);
	listed_free(&op->listed);
	free(op->key);
	free(op->extra);
	free(op);
}

/* Ends an operation by its callback, which may submit, cancel, and even dispatch. */
static void
tell(StoreOp *op)
{
	StoreResult result = {0};

	unlink_op(op);
	result.status = op->status;
	result.http_status = op->answer.status;
	result.date_ms = op->answer.date_ms;
	memcpy(result.etag, op->answer.etag, sizeof(result.etag));
	if (op->status != STORE_OK)
		result.error = op->error;
	else if (op->kind == S3_GET)
	{
		result.data = op->answer.body ? op->answer.body : malloc(1);
		op->answer.body = NULL;
		result.len = op->answer.len;
		result.object_size = op->answer.object_size;
	}
	else if (op->kind == S3_LIST)
	{
		result.entries = op->listed.entries;
		result.nentries = op->listed.n;
		result.next = op->listed.token;
	}
	op->cb(op->arg, &result);
	free(result.data);
	free_op(op);
}

static void
s3_dispatch(Store *store)
{
	S3Store *s3 = (S3Store *) store;
	sigset_t before;

	block_signals(&before);
	cancel_marked(s3);
	run_curl(s3);
	end_stalled(s3);
	start_queued(s3);
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (s3->finished.n == 0)
		return;
	/* no more than are finished now: a callback that submits what fails at once must not keep us here */
	for (int n = s3->finished.n; n > 0 && s3->finished.first; n--)
		/* the first has no predecessor, so unlinking it makes another one the first; the analyzer cannot know */
		tell(s3->finished.first); /* NOLINT(clang-analyzer-unix.Malloc) */
	/* what the callbacks asked for is on its way before the caller waits */
	if (s3->queued.n > 0)
	{
		block_signals(&before);
		start_queued(s3);
		(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
}

static int
s3_fd(Store *store)
{
	return ((S3Store *) store)->epoll;
}

static int
s3_timeout(Store *store)
{
	S3Store *s3 = (S3Store *) store;
	int64_t now = s3_now();
	int64_t when = s3->active.n > 0 ? s3->next_look : INT64_MAX;

	if (s3->finished.n > 0 || s3->ncancelled > 0 || next_to_start(s3, now, &when) != NULL)
		return 0;
	if (s3->curl_deadline >= 0 && s3->curl_deadline < when)
		when = s3->curl_deadline;
	return when == INT64_MAX ? -1 : when <= now ? 0 : when - now > 60000 ? 60000 : (int) (when - now);
}

/* ------------------------------------------------------------------------------------ opening, closing */

static const char *
nonempty(const char *s)
{
	return s && s[0] ? s : NULL;
}

static bool
copy_setting(char **to, const char *from)
{
	*to = nonempty(from) ? strdup(from) : NULL;
	return *to || nonempty(from) == NULL;
}

static bool
s3_configure(Store *store, const StoreOptions *given, char **error)
{
	S3Store *s3 = (S3Store *) store;
	StoreOptions options = *given;
	CredentialSettings settings = {0};
	Target target;

	options.endpoint = nonempty(given->endpoint);
	options.region = nonempty(given->region);
	options.profile = nonempty(given->profile);
	options.ca_file = nonempty(given->ca_file);
	if (!target_resolve(&options, &target, error))
	{
		if (*error == NULL)
			*error = strdup("out of memory");
		return false;
	}
	if (!copy_setting(&settings.access_key, given->access_key) ||
		!copy_setting(&settings.secret_key, given->secret_key) ||
		!copy_setting(&settings.session_token, given->session_token) ||
		!copy_setting(&settings.profile, given->profile))
	{
		credential_settings_wipe(&settings);
		target_free(&target);
		*error = strdup("out of memory");
		return false;
	}
	target_free(&s3->target);
	s3->target = target;
	credential_settings_wipe(&s3->settings);
	s3->settings = settings;
	credentials_wipe(&s3->credentials);
	s3->credentials_at = 0;
	s3->connect_timeout = given->connect_timeout_ms > 0 ? given->connect_timeout_ms : 5000;
	s3->request_timeout = given->request_timeout_ms > 0 ? given->request_timeout_ms : 30000;
	s3->retry_timeout = given->retry_timeout_ms == 0  ? 60000
						: given->retry_timeout_ms < 0 ? 0
													  : given->retry_timeout_ms;
	s3->max_connections = given->max_connections > 0 ? given->max_connections : 64;
	if (s3->max_connections > S3_MAX_CONNECTIONS)
		s3->max_connections = S3_MAX_CONNECTIONS;
	s3->window = s3->max_connections;
	s3->next_look = 0;
	s3->quiet_until = 0;
	(void) curl_multi_setopt(s3->multi, CURLMOPT_MAXCONNECTS, (long) s3->max_connections);
	return true;
}

static void
s3_close(Store *store)
{
	S3Store *s3 = (S3Store *) store;
	sigset_t before;

	/* callbacks may submit again; that is cancelled, too */
	while (s3->queued.n + s3->active.n + s3->finished.n > 0)
	{
		S3List *const lists[] = {&s3->queued, &s3->active, &s3->finished};

		for (int i = 0; i < 3; i++)
			for (StoreOp *op = lists[i]->first; op; op = op->next)
				s3_cancel(op);
		s3_dispatch(store);
	}
	block_signals(&before);
	while (s3->nidle > 0)
		curl_easy_cleanup(s3->idle[--s3->nidle]);
	(void) curl_multi_cleanup(s3->multi);
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(s3->epoll);
	target_free(&s3->target);
	credential_settings_wipe(&s3->settings);
	credentials_wipe(&s3->credentials);
	free(s3->credentials_error);
	free(s3);
}

static const StoreDriver s3_driver = {
	.name = "S3",
	.get = s3_get,
	.put = s3_put,
	.create = s3_create,
	.replace = s3_replace,
	.list = s3_list,
	.remove = s3_remove,
	.cancel = s3_cancel,
	.fd = s3_fd,
	.timeout_ms = s3_timeout,
	.dispatch = s3_dispatch,
	.configure = s3_configure,
	.close = s3_close,
};

Store *
s3_open(const StoreOptions *options, char **error)
{
	S3Store *s3 = calloc(1, sizeof(S3Store));

	if (s3 == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
	{
		*error = strdup("out of memory");
		free(s3);
		return NULL;
	}
	s3->store.driver = &s3_driver;
	s3->curl_deadline = -1;
	if (getrandom(&s3->random, sizeof(s3->random), 0) != sizeof(s3->random))
		s3->random = (uintptr_t) s3 ^ (uint64_t) s3_now();
	s3->random |= 1;
	s3->epoll = epoll_create1(EPOLL_CLOEXEC);
	s3->multi = curl_multi_init();
	if (s3->epoll < 0 || s3->multi == NULL)
	{
		*error = strdup(s3->epoll < 0 ? strerror(errno) : "out of memory");
		if (s3->epoll >= 0)
			close(s3->epoll);
		if (s3->multi)
			(void) curl_multi_cleanup(s3->multi);
		free(s3);
		return NULL;
	}
	(void) curl_multi_setopt(s3->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void) curl_multi_setopt(s3->multi, CURLMOPT_SOCKETDATA, s3);
	(void) curl_multi_setopt(s3->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	(void) curl_multi_setopt(s3->multi, CURLMOPT_TIMERDATA, s3);
	if (!s3_configure(&s3->store, options, error))
	{
		s3_close(&s3->store);
		return NULL;
	}
	return &s3->store;
}
