/*
 * store.h: the interface of object stores.
 *
 * A Store belongs to one process and one thread.  Operations are asynchronous: they are submitted, progress while
 * store_dispatch() runs, and end by exactly one call of their callback, never from within the submitting call.  (Only if there is
 * no memory for the operation itself, what submits it returns NULL, and there will be no call.)
 * store_fd() is a file descriptor that becomes readable when store_dispatch() has something to do, so a caller can wait
 * for it beside its own events.  Nothing here knows PostgreSQL: memory is malloc'ed, errors are results.
 */
#ifndef S3AM_STORE_H
#define S3AM_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum StoreStatus
{
	STORE_OK,
	STORE_NOT_FOUND, /* no such object; only if the server said just that */
	STORE_PRECONDITION, /* 412, 304: create: the key exists; compare-and-set: the ETag differs */
	STORE_UNDECIDED, /* conditional write: 409, timeout, reset, 5xx, 200 with an error body */
	STORE_UNAVAILABLE, /* of other operations, retries were spent; of conditional writes, nothing was sent */
	STORE_DENIED, /* 400, 401, 403, no such bucket, a key that may not be: a verdict on this attempt */
	STORE_FULL, /* likewise: no room, or a quota */
	STORE_DAMAGED, /* shorter than announced, or its checksum differs */
	STORE_CANCELLED
} StoreStatus;

typedef struct StoreResult
{
	StoreStatus status;
	int http_status; /* 0 where there was none */
	int64_t date_ms; /* the store's own clock (Date header), ms since 1970; 0 unknown */
	uint8_t *data; /* get: the bytes; valid during the callback unless taken by store_take() */
	size_t len;
	uint64_t object_size; /* get: of the whole object, where known, else 0 */
	char etag[136]; /* get, put: with its quotes; "" unknown */
	const char *error; /* what happened, to which object, without credentials; NULL when STORE_OK */
	/* list: names relative to the store's prefix, in no particular order */
	const struct StoreEntry *entries;
	int nentries;
	const char *next; /* list: what the next call gets as `after`, not always a key; NULL: that was all */
} StoreResult;

typedef struct StoreEntry
{
	const char *key;
	uint64_t size;
	int64_t modified_ms;
} StoreEntry;

typedef struct Store Store;
typedef struct StoreOp StoreOp;
typedef void (*StoreCallback)(void *arg, StoreResult *result);

/* Kinds of requests as stores charge for them. */
typedef enum StoreRequest
{
	STORE_REQUEST_GET,
	STORE_REQUEST_PUT, /* conditional ones included */
	STORE_REQUEST_LIST,
	STORE_REQUEST_DELETE,
	STORE_REQUESTS
} StoreRequest;

/* Answers that took less than 2^(i + 6) us are in latency[i], those that took longer in the last one (17 s and more). */
#define STORE_LATENCIES 20

/* What was sent, each attempt by itself. */
typedef struct StoreRequestStats
{
	uint64_t attempts, errors, /* neither done, nor absent, nor a condition that does not hold */
		bytes, /* of bodies, in the direction of the request */
		us, /* sum of the latencies */
		latency[STORE_LATENCIES];
} StoreRequestStats;

/* Counters since the store was opened. */
typedef struct StoreStats
{
	uint64_t gets, puts, /* as submitted, conditional ones included */
		lists, deletes, retries, bytes_in, bytes_out;
	StoreRequestStats requests[STORE_REQUESTS];
	uint64_t ended; /* attempts, in all: has anything changed? */
} StoreStats;

/*
 * Options of a store.  Strings are copied.  NULL or 0 means the default, or for credentials: look in the environment
 * (AWS_*), then in the shared config and credentials files.
 */
typedef struct StoreOptions
{
	const char *url; /* s3://bucket/prefix or file:///directory */
	const char *endpoint; /* http(s)://host[:port] of an S3 look-alike; NULL: AWS */
	const char *region;
	const char *access_key;
	const char *secret_key;
	const char *session_token;
	const char *profile;
	const char *ca_file;
	int virtual_host; /* 1: bucket in the host name; 0: in the path; -1: by the endpoint */
	int connect_timeout_ms; /* default 5000 */
	int request_timeout_ms; /* without progress; default 30000 */
	int retry_timeout_ms; /* how long reads, plain puts, lists and deletes are retried; default 60000; -1: not */
	int max_connections; /* default 64 */
} StoreOptions;

/*
 * What a driver implements.  The simulator has one of its own.  A driver's Store begins with this pointer.
 */
typedef struct StoreDriver
{
	const char *name;
	/* length < 0: to the end.  Past the end: STORE_OK and fewer bytes. */
	StoreOp *(*get)(Store *store, const char *key, uint64_t offset, int64_t length, StoreCallback cb, void *arg);
	StoreOp *(*put)(Store *store, const char *key, const void *data, size_t len, StoreCallback cb, void *arg);
	/* create: if the key is absent.  One attempt, no hidden retry.  The data must live until the callback. */
	StoreOp *(*create)(Store *store, const char *key, const void *data, size_t len, StoreCallback cb, void *arg);
	/* replace if the ETag is this one.  One attempt. */
	StoreOp *(*replace)(Store *store, const char *key, const char *etag, const void *data, size_t len, StoreCallback cb,
						void *arg);
	/* keys that begin with prefix and sort after `after` (NULL: all), at most `limit` */
	StoreOp *(*list)(Store *store, const char *prefix, const char *after, int limit, StoreCallback cb, void *arg);
	StoreOp *(*remove)(Store *store, const char *key, StoreCallback cb, void *arg); /* absent: STORE_OK */
	void (*cancel)(StoreOp *op); /* the callback comes with STORE_CANCELLED, from dispatch */
	int (*fd)(Store *store);
	int (*timeout_ms)(Store *store); /* dispatch at the latest after this; -1: no need */
	void (*dispatch)(Store *store); /* run what is ready; never blocks */
	/* other options for the same url, from the next request on; false: nothing changed, *error says why */
	bool (*configure)(Store *store, const StoreOptions *options, char **error);
	void (*close)(Store *store); /* cancels what is under way, callbacks included */
} StoreDriver;

struct Store
{
	const StoreDriver *driver;
	StoreStats stats;
	bool unquoted_etag; /* replace sends If-Match without quotes: some servers need it (see StoreVerdict) */
};

/* The first byte of a `next` that is no key. */
#define STORE_LIST_TOKEN '\001'

/* Opens a store without any request.  On failure NULL and a malloc'ed message in *error. */
extern Store *store_open(const StoreOptions *options, char **error);

#define store_get(s, ...) ((s)->driver->get((s), __VA_ARGS__))
#define store_put(s, ...) ((s)->driver->put((s), __VA_ARGS__))
#define store_create(s, ...) ((s)->driver->create((s), __VA_ARGS__))
#define store_replace(s, ...) ((s)->driver->replace((s), __VA_ARGS__))
#define store_list(s, ...) ((s)->driver->list((s), __VA_ARGS__))
#define store_remove(s, ...) ((s)->driver->remove((s), __VA_ARGS__))
#define store_fd(s) ((s)->driver->fd(s))
#define store_timeout_ms(s) ((s)->driver->timeout_ms(s))
#define store_dispatch(s) ((s)->driver->dispatch(s))
#define store_configure(s, ...) ((s)->driver->configure((s), __VA_ARGS__))
#define store_close(s) ((s)->driver->close(s))
extern void store_cancel(Store *store, StoreOp *op);

/*
 * What is wrong with a key (a constant), or NULL.  A key is one to 512 bytes without control characters: names between slashes, each of
 * one to 200 bytes and not beginning with a dot.  So every key is possible in a directory, and none leaves it.
 */
extern const char *store_key_error(const char *key);

/* For drivers: an attempt has ended. */
extern void store_count(Store *store, StoreRequest request, StoreStatus status, uint64_t started_us, uint64_t bytes);
extern uint64_t store_now_us(void); /* of a clock that only goes on */

/* Within a get's callback: keep the data; the caller frees it with free(). */
extern uint8_t *store_take(StoreResult *result);

/*
 * For synchronous callers: runs the store until *done.  False: `interrupted` (may be NULL) said so first.
 */
extern bool store_wait(Store *store, volatile const bool *done, bool (*interrupted)(void));

/* The same for one operation (NULL: nothing is done), which an interrupt cancels: after it the operation has ended, either way. */
extern bool store_finish(Store *store, StoreOp *op, volatile const bool *done, bool (*interrupted)(void));

/*
 * The conformance race: `writers` concurrent creators of one key over `rounds` rounds, the same with If-Match,
 * overwrite, read- and list-after-write, ranged reads.  Synchronous; `interrupted` (may be NULL) is asked now and then and
 * stops it.  Keys are under <prefix>/check/ and are removed afterwards.
 */
typedef struct StoreVerdict
{
	bool create_if_absent, compare_and_set, read_after_write, list_after_write, ranged_get,
		unquoted_etag; /* If-Match works only without quotes */
	StoreStatus status; /* not STORE_OK: the race could not run; see detail */
	char detail[1024];
} StoreVerdict;

extern void store_check(Store *store, int writers, int rounds, bool (*interrupted)(void), StoreVerdict *verdict);

#endif
