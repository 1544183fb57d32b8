/*
 * dir.h: the directory driver's own structures, shared by its files.
 */
#ifndef S3AM_DIR_H
#define S3AM_DIR_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/driver.h"

#define DIR_TEMPORARY ".tmp" /* no key begins with a dot */
#define DIR_LOCK ".lock"
#define DIR_PAGE 1000 /* longest list, as S3's */
#define DIR_KNOWN 1024 /* a power of two */

typedef enum DirKind
{
	DIR_GET,
	DIR_PUT,
	DIR_CREATE,
	DIR_REPLACE,
	DIR_LIST,
	DIR_REMOVE
} DirKind;

typedef struct DirStore DirStore;

struct StoreOp
{
	StoreOp *next;
	DirStore *dir;
	DirKind kind;
	char *key;
	char *extra; /* ETag, or where a list goes on */
	const uint8_t *data;
	size_t len;
	uint64_t offset;
	int64_t length;
	int limit;
	bool running; /* a thread has it; under the mutex */
	atomic_bool cancelled;
	uint64_t submitted_us;
	StoreCallback cb;
	void *arg;

	/* what the thread found */
	StoreStatus status;
	char etag[136];
	uint8_t *bytes;
	size_t nbytes;
	uint64_t object_size;
	StoreEntry *entries;
	int nentries;
	bool more;
	char error[512];
};

typedef struct DirQueue
{
	StoreOp *first, *last;
} DirQueue;

struct DirStore
{
	Store store;
	char *root;
	int event; /* readable: something is finished or cancelled */

	pthread_mutex_t mutex; /* guards all that follows */
	pthread_cond_t work; /* something is queued, or the end has come */
	pthread_cond_t ended; /* a thread finished an operation */
	DirQueue queued, finished;
	int nqueued, nrunning, nwriting, /* of them */
		nthreads, nidle;
	int nstopping; /* running ones that were cancelled */
	bool cancelled; /* something was, since the last dispatch */
	bool stopping;
	bool swept; /* what crashes left behind was looked for */
	uint64_t known[DIR_KNOWN]; /* hashes of directories whose entries above them are durable */
	pthread_t threads[8];
};

/* dir_files.c: does what an operation asks for; in any thread. */
extern void dir_run(StoreOp *op);
extern void dir_error(StoreOp *op, StoreStatus status, const char *format, ...) __attribute__((format(printf, 3, 4)));
extern void dir_errno(StoreOp *op, int error, const char *what, const char *path);
extern void dir_sweep(DirStore *dir);

/* dir_list.c */
extern void dir_list_keys(StoreOp *op);

#endif
