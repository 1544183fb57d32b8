/*
 * bucket.c: a process's own connection to the store.
 */
#include "postgres.h"

#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <sys/mman.h>

#include <xxhash.h>

#include "access/parallel.h"
#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "node/bucket.h"
#include "s3am.h"
#include "txn/commit.h"

#define UPLOADS_IN_FLIGHT 4
#define UPLOAD_BYTES                                                                                                   \
	(32 * 1024 * 1024) /* of segments in flight and the one that is being made; or one alone, however large */
#define UPLOAD_FIRST (1024 * 1024)
#define UPLOAD_PAUSE_MS 1000 /* at least, up to five times, after a store was not available for s3am.retry_timeout */
#define REMOVALS_IN_FLIGHT 32
#define REMOVAL_WAIT_MS 500

struct SegmentUpload
{
	SegmentUpload *next; /* in flight */
	StoreOp *op; /* NULL: it waits, until `again` */
	TimestampTz begun, again;
	bool forgotten; /* its transaction is over */
	bool remove; /* the object is to go as soon as this has ended */
	uint64 id; /* epoch << 32 | number */
	char key[64];
	uint8 *
		data; /* a mapping of its own: it must outlive an abort until the store let go of it, and then be the system's at once */
	Size len, capacity;
};

/* An object that is to be removed, best effort. */
typedef struct Removal
{
	struct Removal *next;
	char key[64];
} Removal;

static Store *process_store;
static uint64 store_digest; /* of the settings that this process's store has; it opens one */
static SegmentUpload *uploads; /* in flight */
static int uploads_in_flight;
static int uploads_open; /* in flight, or being made */
static Size upload_bytes;
static Removal *removals; /* waiting */
static int removals_in_flight;
static char upload_error[768];
static StoreStatus upload_status;
static bool uploads_wait, /* the store was not available for some, which are tried again */
	wait_told; /* to this transaction's client */

static void resume_uploads(void);

static void
fill_options(StoreOptions *options, const char *url)
{
	memset(options, 0, sizeof(*options));
	options->url = url;
	options->endpoint = s3am_endpoint;
	options->region = s3am_region;
	options->access_key = s3am_access_key;
	options->secret_key = s3am_secret_key;
	options->session_token = s3am_session_token;
	options->profile = s3am_profile;
	options->ca_file = s3am_ca_file;
	options->virtual_host = s3am_addressing;
	options->connect_timeout_ms = s3am_connect_timeout;
	options->request_timeout_ms = s3am_request_timeout;
	options->retry_timeout_ms = s3am_retry_timeout > 0 ? s3am_retry_timeout : -1;
	options->max_connections = s3am_max_connections;
}

/* Tells whether settings changed, without keeping another copy of the secrets among them. */
static uint64
options_digest(const StoreOptions *o)
{
	const char *const strings[] = {o->endpoint,      o->region,  o->access_key, o->secret_key,
								   o->session_token, o->profile, o->ca_file};
	const int numbers[] = {o->virtual_host, o->connect_timeout_ms, o->request_timeout_ms, o->retry_timeout_ms,
						   o->max_connections};
	uint64 digest = XXH64(numbers, sizeof(numbers), 0);

	for (int i = 0; i < lengthof(strings); i++)
		if (strings[i])
			digest = XXH64(strings[i], strlen(strings[i]), digest + i);
	return digest;
}

Store *
bucket_try_open(const char *url, char *error, Size size)
{
	StoreOptions options;
	char *text = NULL;
	Store *store;

	/*
	 * glibc gives each thread an arena of its own, which keeps what was freed in it.  The threads of a store and that of press.c need memory
	 * so rarely that they do not get into each other's way.
	 */
#ifdef M_ARENA_MAX
	(void) mallopt(M_ARENA_MAX, 1);
#endif
	fill_options(&options, url);
	store = store_open(&options, &text);
	if (store == NULL)
		strlcpy(error, text ? text : "out of memory", size);
	else
		store_digest = options_digest(&options);
	free(text);
	return store;
}

Store *
bucket_open(const char *url)
{
	char error[NODE_ERROR_MAX];
	Store *store = bucket_try_open(url, error, sizeof(error));

	if (store == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cannot use repository \"%s\": %s", url, error)));
	return store;
}

Store *
bucket_open_apart(const char *url)
{
	uint64 digest = store_digest;
	Store *store = bucket_open(url);

	store_digest = digest;
	return store;
}

void
bucket_settings(Store *store, const char *url)
{
	StoreOptions options;
	char *text = NULL;
	uint64 digest;

	fill_options(&options, url);
	digest = options_digest(&options);
	if (digest == store_digest)
		return;
	store_digest = digest;
	if (!store_configure(store, &options, &text))
		ereport(LOG, (errmsg("s3am: the new settings of the store cannot be used, so the old ones stay: %s",
							 text ? text : "out of memory")));
	free(text);
}

Store *
bucket_store(void)
{
	S3Node *node = node_current();

	if (node == NULL)
		ereport(ERROR, (errcode(ERRCODE_CANNOT_CONNECT_NOW), errmsg("this database is not attached to a repository")));
	if (process_store == NULL)
		process_store = bucket_open(node->url);
	else
		bucket_settings(process_store, node->url);
	return process_store;
}

const uint8 *
bucket_repository_uuid(void)
{
	S3Node *node = node_current();

	return node->repository;
}

static NodeStatsKind
stats_kind(const S3Node *node)
{
	if (MyProc->pgprocno == node->committer_procno)
		return NODE_STATS_COMMITTER;
	if (MyProc->pgprocno == node->publisher_procno)
		return NODE_STATS_PUBLISHER;
	return MyBackendType == B_BG_WORKER && !IsParallelWorker() ? NODE_STATS_WORKERS : NODE_STATS_SESSIONS;
}

/* Adds what the store did since the last time to what its kind of processes did. */
static void
account(Store *store)
{
	static StoreStats last;
	S3Node *node = node_attached();
	NodeStoreStats *sum;

	if (node == NULL)
		return;
	sum = &node->store_stats[stats_kind(node)];
#define ADD(field)                                                                                                     \
	do                                                                                                                 \
	{                                                                                                                  \
		if (store->stats.field != last.field)                                                                          \
			pg_atomic_fetch_add_u64(&sum->field, store->stats.field - last.field);                                     \
	} while (0)
	ADD(gets);
	ADD(puts);
	ADD(lists);
	ADD(deletes);
	ADD(retries);
	ADD(bytes_in);
	ADD(bytes_out);
	if (store->stats.ended != last.ended)
		for (int i = 0; i < STORE_REQUESTS; i++)
		{
			if (store->stats.requests[i].attempts == last.requests[i].attempts)
				continue;
			ADD(requests[i].attempts);
			ADD(requests[i].errors);
			ADD(requests[i].bytes);
			ADD(requests[i].us);
			for (int j = 0; j < STORE_LATENCIES; j++)
				ADD(requests[i].latency[j]);
		}
#undef ADD
	last = store->stats;
}

void
bucket_dispatch(Store *store)
{
	store_dispatch(store);
	account(store);
}

void
bucket_wait(Store *store, volatile bool *done)
{
	while (!*done)
	{
		int timeout = store_timeout_ms(store);

		CHECK_FOR_INTERRUPTS();
		node_doing(DOING_STORE);
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 store_fd(store), timeout < 0 || timeout > 1000 ? 1000 : timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		bucket_dispatch(store);
	}
}

/* ------------------------------------------------------------------------------------ reading */

struct BucketRead
{
	BucketRead *next, **link; /* among all of this process that somebody wants */
	StoreOp *op;
	volatile bool done;
	bool abandoned; /* nobody wants it any more: the callback frees it */
	StoreStatus status;
	Size wanted; /* bytes; 0: to the end */
	uint8 *data;
	size_t len;
	char error[768];
};

static BucketRead *reads;
static Size reads_bytes;

static void
read_done(void *arg, StoreResult *result)
{
	BucketRead *read = arg;

	if (read->abandoned)
	{
		free(read);
		return;
	}
	read->status = result->status;
	read->len = result->len;
	if (result->status == STORE_OK)
		read->data = store_take(result);
	if (result->error)
		strlcpy(read->error, result->error, sizeof(read->error));
	read->done = true;
}

static void
reads_transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PARALLEL_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		return;
	for (BucketRead *read = reads, *next; read; read = next)
	{
		next = read->next;
		bucket_read_end(read);
	}
}

static BucketRead *
read_start(const char *key, uint64 offset, int64 length)
{
	static bool registered;
	Store *store = bucket_store();
	BucketRead *read = calloc(1, sizeof(BucketRead));

	if (read == NULL)
		return NULL;
	if (!registered)
	{
		RegisterXactCallback(reads_transaction_ended, NULL);
		registered = true;
	}
	read->op = store_get(store, key, offset, length, read_done, read);
	if (read->op == NULL)
	{
		free(read);
		return NULL;
	}
	read->wanted = Max(length, 0);
	reads_bytes += read->wanted;
	read->next = reads;
	read->link = &reads;
	if (reads)
		reads->link = &read->next;
	reads = read;
	return read;
}

void
bucket_read_end(BucketRead *read)
{
	*read->link = read->next;
	if (read->next)
		read->next->link = read->link;
	reads_bytes -= read->wanted;
	if (!read->done)
	{
		read->abandoned = true;
		store_cancel(process_store, read->op);
		return;
	}
	free(read->data);
	free(read);
}

BucketRead *
bucket_read_start(const char *key, uint64 offset, int64 length)
{
	return read_start(key, offset, length);
}

const uint8 *
bucket_read_wait(BucketRead *read, Size *got)
{
	bucket_wait(bucket_store(), &read->done);
	*got = read->len;
	return read->status == STORE_OK ? read->data : NULL;
}

Size
bucket_reads_bytes(void)
{
	return reads_bytes;
}

void
bucket_reads_go_on(void)
{
	for (BucketRead *read = reads; read; read = read->next)
		if (!read->done)
		{
			bucket_dispatch(process_store);
			return;
		}
}

int
bucket_sqlstate(StoreStatus status)
{
	switch (status)
	{
		case STORE_NOT_FOUND:
		case STORE_DAMAGED:
			return ERRCODE_DATA_CORRUPTED;
		case STORE_DENIED:
			return ERRCODE_INSUFFICIENT_PRIVILEGE;
		case STORE_FULL:
			return ERRCODE_DISK_FULL;
		case STORE_CANCELLED:
			return ERRCODE_QUERY_CANCELED;
		default:
			return ERRCODE_CONNECTION_FAILURE;
	}
}

/* absent: an object that is not there is no error, and gives NULL. */
static uint8 *
read_object(const char *key, uint64 offset, int64 length, bool absent, Size *got)
{
	BucketRead *read = read_start(key, offset, length);
	uint8 *copy = NULL;

	if (read == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	PG_TRY();
	{
		bucket_wait(bucket_store(), &read->done);
		if (read->status == STORE_OK)
		{
			copy = MemoryContextAllocHuge(CurrentMemoryContext, Max(read->len, 1));
			memcpy(copy, read->data, read->len);
			*got = read->len;
		}
		else if (read->status == STORE_NOT_FOUND && !absent && node_collected(node_attached(), key))
			ereport(ERROR,
					(errcode(ERRCODE_SNAPSHOT_TOO_OLD), errmsg("snapshot too old"),
					 errdetail(
						 "Object \"%s\" was collected, because this server had not told the others for so long that it "
						 "reads it.",
						 key),
					 errhint("Try again: once this server has caught up, newer snapshots do not need the object.")));
		else if (!absent || read->status != STORE_NOT_FOUND)
			ereport(ERROR,
					(errcode(bucket_sqlstate(read->status)), errmsg("cannot read object \"%s\" of the repository", key),
					 read->error[0] ? errdetail("%s", read->error) : 0));
	}
	PG_FINALLY();
	{
		bucket_read_end(read);
	}
	PG_END_TRY();
	return copy;
}

uint8 *
bucket_read(const char *key, uint64 offset, int64 length, Size *got)
{
	return read_object(key, offset, length, false, got);
}

uint8 *
bucket_read_if(const char *key, Size *got)
{
	return read_object(key, 0, -1, true, got);
}

/* ------------------------------------------------------------------------------------ uploads */

/* digits: an even number */
static char *
put_hex(char *to, uint64 value, int digits)
{
	static const char pairs[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
								"202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
								"404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
								"606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
								"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
								"a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
								"c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
								"e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

	for (int i = digits - 2; i >= 0; i -= 2, value >>= 8)
		memcpy(to + i, pairs + (value & 255) * 2, 2);
	return to + digits;
}

/* For each page that is looked at, so not by snprintf(). */
void
bucket_segment_key(uint64 epoch, uint64 number, char *key, Size size)
{
	uint64 h = (epoch << 32 | number) * UINT64CONST(0x9E3779B97F4A7C15);
	static const char prefix[] = "segments/";
	char *at = key + sizeof(prefix) - 1;

	Assert(size >= sizeof("segments/00/0000000000000000-0000000000000000"));
	memcpy(key, prefix, sizeof(prefix));
	at = put_hex(at, h >> 56, 2);
	*at++ = '/';
	at = put_hex(at, epoch, 16);
	*at++ = '-';
	at = put_hex(at, number, 16);
	*at = '\0';
}

SegmentUpload *
bucket_segment_begin(void)
{
	SegmentUpload *upload = calloc(1, sizeof(SegmentUpload));

	if (upload == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	upload->id = commit_new_object_id();
	bucket_segment_key(bucket_segment_epoch(upload), bucket_segment_number(upload), upload->key, sizeof(upload->key));
	uploads_open++;
	return upload;
}

uint64
bucket_segment_epoch(const SegmentUpload *upload)
{
	return upload->id >> 32;
}

uint64
bucket_segment_number(const SegmentUpload *upload)
{
	return upload->id & PG_UINT32_MAX;
}

/* Room for more bytes.  Pages of the mapping that were never written take no memory. */
static bool
grow(SegmentUpload *upload, Size need)
{
	Size capacity = Max(upload->capacity, UPLOAD_FIRST);
	void *grown;

	while (capacity < need)
		capacity *= 2;
	if (capacity == upload->capacity)
		return true;
	grown = upload->data ? mremap(upload->data, upload->capacity, capacity, MREMAP_MAYMOVE)
						 : mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (grown == MAP_FAILED)
		return false;
	upload->data = grown;
	upload->capacity = capacity;
	return true;
}

static void
free_upload(SegmentUpload *upload)
{
	if (upload->data)
		(void) munmap(upload->data, upload->capacity);
	free(upload);
	uploads_open--;
}

bool
bucket_uploading(void)
{
	return uploads_open > 0;
}

void
bucket_segment_emit(void *arg, const void *data, Size len)
{
	SegmentUpload *upload = arg;

	/* a store that is slower than the writer holds it up here: memory for what it has not taken yet is bounded */
	if (uploads_in_flight > 0)
	{
		resume_uploads();
		bucket_dispatch(process_store);
		if (upload_bytes + upload->len + len > UPLOAD_BYTES)
			bucket_segment_room(upload);
	}
	if (!grow(upload, upload->len + len))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory while writing segment \"%s\"", upload->key)));
	memcpy(upload->data + upload->len, data, len);
	upload->len += len;
}

static void
removal_done(void *arg, StoreResult *result)
{
	removals_in_flight--;
}

/* Starts removals as far as the bound on them allows. */
static void
start_removals(void)
{
	while (removals && removals_in_flight < REMOVALS_IN_FLIGHT)
	{
		Removal *removal = removals;

		removals = removal->next;
		removals_in_flight++;
		(void) store_remove(process_store, removal->key, removal_done, NULL);
		free(removal);
	}
}

/* Out of memory: the object stays until the collector finds it. */
static void
add_removal(const char *key)
{
	Removal *removal = malloc(sizeof(Removal));

	if (removal == NULL)
		return;
	strlcpy(removal->key, key, sizeof(removal->key));
	removal->next = removals;
	removals = removal;
}

/* It is in flight no more. */
static void
end_upload(SegmentUpload *upload)
{
	SegmentUpload **link = &uploads;

	while (*link != upload)
		link = &(*link)->next;
	*link = upload->next;
	uploads_in_flight--;
	upload_bytes -= upload->len;
	if (upload->remove)
		add_removal(upload->key);
	free_upload(upload);
}

/*
 * A load of hours is not lost because the store was away for some minutes.  Compaction gives up, since it can begin anew at any time, and has to
 * look whether it should still.
 */
static bool
may_wait(const SegmentUpload *upload)
{
	S3Node *node = node_attached();

	if (upload->forgotten || upload->remove || upload_status != STORE_OK || node == NULL ||
		MyProc->pgprocno == node->compaction.procno)
		return false;
	return s3am_upload_timeout == 0 ||
		   !TimestampDifferenceExceeds(upload->begun, GetCurrentTimestamp(), s3am_upload_timeout);
}

static void
put_off(SegmentUpload *upload)
{
	int64 pause = pg_prng_uint64_range(&pg_global_prng_state, UPLOAD_PAUSE_MS, 5 * UPLOAD_PAUSE_MS);

	upload->op = NULL;
	upload->again = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
	uploads_wait = true;
}

static void
upload_done(void *arg, StoreResult *result)
{
	SegmentUpload *upload = arg;

	if (result->status == STORE_UNAVAILABLE && may_wait(upload))
	{
		snprintf(upload_error, sizeof(upload_error), "%s", result->error ? result->error : upload->key);
		put_off(upload);
		return;
	}
	if (result->status != STORE_OK && upload_status == STORE_OK && !upload->forgotten && !upload->remove)
	{
		upload_status = result->status;
		snprintf(upload_error, sizeof(upload_error), "%s", result->error ? result->error : upload->key);
	}
	end_upload(upload);
}

/* Sends again what the store was not available for. */
static void
resume_uploads(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!uploads_wait)
		return;
	uploads_wait = false;
	for (SegmentUpload *upload = uploads; upload; upload = upload->next)
		if (upload->op == NULL && upload->again > now)
			uploads_wait = true;
		else if (upload->op == NULL)
		{
			upload->op = store_put(process_store, upload->key, upload->data, upload->len, upload_done, upload);
			if (upload->op == NULL)
				put_off(upload);
		}
}

/* Who waits is told, once in a transaction. */
static void
tell_wait(void)
{
	if (!uploads_wait || wait_told)
		return;
	wait_told = true;
	ereport(
		WARNING,
		(errcode(ERRCODE_CONNECTION_FAILURE),
		 errmsg("the repository does not take segments at present; the transaction waits"),
		 errdetail("%s", upload_error),
		 errhint("It goes on by itself; s3am.upload_timeout says for how long it waits, and it can be cancelled.")));
}

/* An upload of this transaction failed: it has rows that are nowhere. */
static void
check_uploads(void)
{
	if (upload_status != STORE_OK)
		ereport(ERROR, (errcode(bucket_sqlstate(upload_status)), errmsg("cannot write a segment to the repository"),
						errdetail("%s", upload_error), errhint("The transaction must be rolled back.")));
}

static void
uploads_below(int limit, Size bytes)
{
	Store *store = bucket_store();

	while (uploads_in_flight > 0 && (uploads_in_flight >= limit || upload_bytes > bytes))
	{
		int timeout = store_timeout_ms(store);

		CHECK_FOR_INTERRUPTS();
		resume_uploads();
		tell_wait();
		node_doing(DOING_UPLOAD);
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 store_fd(store), timeout < 0 || timeout > 1000 ? 1000 : timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		bucket_dispatch(store);
	}
	check_uploads();
}

void
bucket_segment_room(const SegmentUpload *upload)
{
	uploads_below(UPLOADS_IN_FLIGHT, UPLOAD_BYTES - Min(upload->len, UPLOAD_BYTES));
}

void
bucket_segment_finish(SegmentUpload *upload, S3am__SegmentRef *ref)
{
	Store *store;

	ref->epoch = bucket_segment_epoch(upload);
	ref->number = bucket_segment_number(upload);
	bucket_segment_room(upload);
	/* what throws is before this, or leaves the upload with the caller */
	store = bucket_store();
	upload->begun = GetCurrentTimestamp();
	upload->next = uploads;
	uploads = upload;
	uploads_in_flight++;
	upload_bytes += upload->len;
	upload->op = store_put(store, upload->key, upload->data, upload->len, upload_done, upload);
	if (upload->op == NULL)
	{
		uploads = upload->next;
		uploads_in_flight--;
		upload_bytes -= upload->len;
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	/* it is sent while the next segment is made */
	bucket_dispatch(store);
}

void
bucket_segment_discard(SegmentUpload *upload)
{
	free_upload(upload);
}

void
bucket_segment_wait_all(void)
{
	uploads_below(1, 0);
}

void
bucket_segment_remove(uint64 epoch, uint64 number)
{
	uint64 id = epoch << 32 | number;
	char key[64];

	for (SegmentUpload *upload = uploads; upload; upload = upload->next)
		if (upload->id == id)
		{
			if (upload->op && !upload->remove)
				store_cancel(process_store, upload->op);
			upload->remove = true;
			if (upload->op == NULL)
				end_upload(upload);
			return;
		}
	bucket_segment_key(epoch, number, key, sizeof(key));
	add_removal(key);
}

void
bucket_segments_forget(void)
{
	TimestampTz start;

	for (SegmentUpload *upload = uploads, *next; upload; upload = next)
	{
		next = upload->next;
		upload->forgotten = true;
		if (upload->op == NULL)
			end_upload(upload);
	}
	upload_status = STORE_OK;
	uploads_wait = wait_told = false;
	if (uploads == NULL && removals == NULL && removals_in_flight == 0)
		return;
	/* called at the end of a transaction, where nothing may be thrown and nobody kept waiting */
	start = GetCurrentTimestamp();
	while ((uploads || removals || removals_in_flight > 0) &&
		   !TimestampDifferenceExceeds(start, GetCurrentTimestamp(), REMOVAL_WAIT_MS))
	{
		start_removals();
		bucket_dispatch(process_store);
		if (uploads || removals_in_flight > 0)
		{
			struct pollfd fd = {.fd = store_fd(process_store), .events = POLLIN};

			(void) poll(&fd, 1, 10);
		}
	}
}

void
bucket_poll(void)
{
	if (process_store && (removals || removals_in_flight > 0 || uploads_in_flight > 0))
	{
		start_removals();
		resume_uploads();
		bucket_dispatch(process_store);
	}
}
