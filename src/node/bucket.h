/*
 * bucket.h: the store as backends and workers use it: one per process, with waits that can be cancelled and errors that are
 * thrown.
 */
#ifndef S3AM_BUCKET_H
#define S3AM_BUCKET_H

#include "postgres.h"

#include "manifest/s3am.pb-c.h"
#include "node/node.h"
#include "store/store.h"

/* Opens a store for a URL by the settings; a process has one.  The first throws, the other returns NULL and says why. */
extern Store *bucket_open(const char *url);
extern Store *bucket_try_open(const char *url, char *error, Size size);

/* One for the caller alone, who closes it: of a database that has no entry here.  Throws. */
extern Store *bucket_open_apart(const char *url);

/* Passes settings that changed on to the store. */
extern void bucket_settings(Store *store, const char *url);

/* The SQLSTATE of a failure. */
extern int bucket_sqlstate(StoreStatus status);

/* This process's store on the repository of its database. */
extern Store *bucket_store(void);

/* Lets it work, and counts what it did for s3am.store_stats(). */
extern void bucket_dispatch(Store *store);

/* Waits for `*done` while the store works; cancellable; returns on postmaster death never. */
extern void bucket_wait(Store *store, volatile bool *done);

/* Reads a range (length < 0: to the end) of an object; palloc'ed.  Throws, naming the object. */
extern uint8 *bucket_read(const char *key, uint64 offset, int64 length, Size *got);
/* A whole object; NULL if it is not there. */
extern uint8 *bucket_read_if(const char *key, Size *got);

/* The same without waiting; several may be in flight.  What is left at the end of the transaction ends with it. */
typedef struct BucketRead BucketRead;
extern BucketRead *bucket_read_start(const char *key, uint64 offset, int64 length); /* NULL: out of memory */
/* Waits, cancellably; the bytes are valid until it is ended.  NULL: it failed. */
extern const uint8 *bucket_read_wait(BucketRead *read, Size *got);
extern void bucket_read_end(BucketRead *read); /* cancelled if it is in flight */
extern Size bucket_reads_bytes(void); /* that these hold, or will */
extern void bucket_reads_go_on(void); /* lets those in flight go on, without waiting */
extern void bucket_segment_key(uint64 epoch, uint64 number, char *key, Size size);
extern const uint8 *bucket_repository_uuid(void);

/* Upload of segments while they are written; several may be in flight. */
typedef struct SegmentUpload SegmentUpload;
extern SegmentUpload *bucket_segment_begin(void);
extern uint64 bucket_segment_epoch(const SegmentUpload *upload);
extern uint64 bucket_segment_number(const SegmentUpload *upload);
extern void bucket_segment_emit(void *arg, const void *data, Size len);
/*
 * Waits until this upload may begin, since only so many are in flight; throws if one of this transaction's failed, and goes on to
 * do so until the transaction ends.
 */
extern void bucket_segment_room(const SegmentUpload *upload);
/* All of it was emitted: starts the upload; fills in the id of ref.  The upload is freed when done; if this throws, it is the caller's still. */
extern void bucket_segment_finish(SegmentUpload *upload, S3am__SegmentRef *ref);
extern void bucket_segment_discard(SegmentUpload *upload); /* instead of finishing it */
extern void bucket_segment_wait_all(void);
/* Does this process have a segment in memory, one that it makes or one in flight? */
extern bool bucket_uploading(void);
/* Removes a segment that nothing names, best effort; one in flight is cancelled first.  Never throws. */
extern void bucket_segment_remove(uint64 epoch, uint64 number);
/* The transaction is over: its failed uploads are nobody's concern any more; removals get a moment.  Never throws. */
extern void bucket_segments_forget(void);
extern void bucket_poll(void); /* lets removals go on that the moment was too short for */

#endif
