/*
 * dir.c: a store in a directory, for trying s3am out, for tests, and for a file system that several servers share.
 *
 * File operations wait for the disk, so a few threads do them, and dispatch hands out what they finished.  Some threads never write, so
 * that a read does not wait for other people's fsync.  The threads take no signals and know nothing but an operation and its files.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "store/dir.h"

#define MAX_THREADS ((int) (sizeof(((DirStore *) 0)->threads) / sizeof(pthread_t)))
#define MAX_WRITING (MAX_THREADS - 2)
#define STACK_SIZE (512 << 10)

static bool
writes(const StoreOp *op)
{
	return op->kind != DIR_GET && op->kind != DIR_LIST;
}

static void
append(DirQueue *queue, StoreOp *op)
{
	op->next = NULL;
	*(queue->last ? &queue->last->next : &queue->first) = op;
	queue->last = op;
}

/* Takes an operation from the middle of a queue; `before` is its predecessor or NULL. */
static void
take(DirQueue *queue, StoreOp *before, StoreOp *op)
{
	*(before ? &before->next : &queue->first) = op->next;
	if (queue->last == op)
		queue->last = before;
	op->next = NULL;
}

static void
signal_event(DirStore *dir)
{
	uint64_t one = 1;

	if (write(dir->event, &one, sizeof(one)) < 0)
		(void) 0; /* the counter is full: it is readable already */
}

/* ------------------------------------------------------------------------------------ threads */

/* The next operation that may run now, taken from the queue; under the mutex. */
static StoreOp *
next_op(DirStore *dir)
{
	StoreOp *before = NULL;

	for (StoreOp *op = dir->queued.first; op; before = op, op = op->next)
		if (!writes(op) || dir->nwriting < MAX_WRITING)
		{
			take(&dir->queued, before, op);
			dir->nqueued--;
			return op;
		}
	return NULL;
}

/* Runs an operation; under the mutex, which is released meanwhile. */
static void
run_op(DirStore *dir, StoreOp *op)
{
	bool sweep = writes(op) && !dir->swept;

	op->running = true;
	dir->nrunning++;
	dir->nstopping += op->cancelled;
	dir->nwriting += writes(op);
	dir->swept |= sweep;
	pthread_mutex_unlock(&dir->mutex);
	if (!op->cancelled)
		dir_run(op);
	if (sweep)
		dir_sweep(dir);
	pthread_mutex_lock(&dir->mutex);
	op->running = false;
	dir->nrunning--;
	dir->nstopping -= op->cancelled;
	dir->nwriting -= writes(op);
	append(&dir->finished, op);
	pthread_cond_broadcast(&dir->ended);
	signal_event(dir);
}

static void *
thread_main(void *arg)
{
	DirStore *dir = arg;
	StoreOp *op;

	pthread_mutex_lock(&dir->mutex);
	while (!dir->stopping)
	{
		if ((op = next_op(dir)) != NULL)
		{
			run_op(dir, op);
			/* a writer that waited for its turn */
			if (dir->queued.first)
				pthread_cond_signal(&dir->work);
			continue;
		}
		dir->nidle++;
		pthread_cond_wait(&dir->work, &dir->mutex);
		dir->nidle--;
	}
	pthread_mutex_unlock(&dir->mutex);
	return NULL;
}

/* Another thread, if all have something to do; under the mutex. */
static void
need_thread(DirStore *dir)
{
	pthread_attr_t attributes;
	sigset_t all, before;

	if (dir->nidle >= dir->nqueued || dir->nthreads == MAX_THREADS || pthread_attr_init(&attributes) != 0)
		return;
	(void) pthread_attr_setstacksize(&attributes, STACK_SIZE);
	sigfillset(&all);
	(void) pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&dir->threads[dir->nthreads], &attributes, thread_main, dir) == 0)
		dir->nthreads++;
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
}

/* ------------------------------------------------------------------------------------ submitting */

static StoreOp *
new_op(Store *store, DirKind kind, const char *key, const char *extra, StoreCallback cb, void *arg)
{
	StoreOp *op = calloc(1, sizeof(StoreOp));

	if (op == NULL)
		return NULL;
	op->dir = (DirStore *) store;
	op->kind = kind;
	op->key = strdup(key);
	op->extra = extra ? strdup(extra) : NULL;
	op->cb = cb;
	op->arg = arg;
	op->submitted_us = store_now_us();
	if (op->key == NULL || (extra && op->extra == NULL))
	{
		free(op->key);
		free(op->extra);
		free(op);
		return NULL;
	}
	return op;
}

static StoreOp *
submit(StoreOp *op)
{
	DirStore *dir;

	if (op == NULL)
		return NULL;
	dir = op->dir;
	pthread_mutex_lock(&dir->mutex);
	append(&dir->queued, op);
	dir->nqueued++;
	need_thread(dir);
	pthread_cond_signal(&dir->work);
	/* without any thread dispatch has to do it */
	if (dir->nthreads == 0)
		signal_event(dir);
	pthread_mutex_unlock(&dir->mutex);
	return op;
}

static StoreOp *
dir_get(Store *store, const char *key, uint64_t offset, int64_t length, StoreCallback cb, void *arg)
{
	StoreOp *op = new_op(store, DIR_GET, key, NULL, cb, arg);

	if (op)
	{
		op->offset = offset;
		op->length = length;
	}
	store->stats.gets++;
	return submit(op);
}

static StoreOp *
write_op(Store *store, DirKind kind, const char *key, const char *etag, const void *data, size_t len, StoreCallback cb,
		 void *arg)
{
	StoreOp *op = new_op(store, kind, key, etag, cb, arg);

	if (op)
	{
		op->data = data;
		op->len = len;
	}
	store->stats.puts++;
	store->stats.bytes_out += len;
	return submit(op);
}

static StoreOp *
dir_put(Store *store, const char *key, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return write_op(store, DIR_PUT, key, NULL, data, len, cb, arg);
}

static StoreOp *
dir_create(Store *store, const char *key, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return write_op(store, DIR_CREATE, key, NULL, data, len, cb, arg);
}

static StoreOp *
dir_replace(Store *store, const char *key, const char *etag, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return write_op(store, DIR_REPLACE, key, etag, data, len, cb, arg);
}

static StoreOp *
dir_list(Store *store, const char *prefix, const char *after, int limit, StoreCallback cb, void *arg)
{
	StoreOp *op = new_op(store, DIR_LIST, prefix, after, cb, arg);

	if (op)
		op->limit = limit;
	store->stats.lists++;
	return submit(op);
}

static StoreOp *
dir_remove(Store *store, const char *key, StoreCallback cb, void *arg)
{
	store->stats.deletes++;
	return submit(new_op(store, DIR_REMOVE, key, NULL, cb, arg));
}

static void
dir_cancel(StoreOp *op)
{
	DirStore *dir = op->dir;

	if (op->cancelled)
		return;
	pthread_mutex_lock(&dir->mutex);
	op->cancelled = true;
	dir->nstopping += op->running;
	dir->cancelled = true;
	signal_event(dir);
	pthread_mutex_unlock(&dir->mutex);
}

/* ------------------------------------------------------------------------------------ finishing */

static StoreRequest
kind_of(const StoreOp *op)
{
	return op->kind == DIR_GET      ? STORE_REQUEST_GET
		   : op->kind == DIR_LIST   ? STORE_REQUEST_LIST
		   : op->kind == DIR_REMOVE ? STORE_REQUEST_DELETE
									: STORE_REQUEST_PUT;
}

static void
tell(DirStore *dir, StoreOp *op)
{
	StoreResult result = {0};
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (op->cancelled)
		dir_error(op, STORE_CANCELLED, "cancelled");
	result.status = op->status;
	result.date_ms = (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
	memcpy(result.etag, op->etag, sizeof(result.etag));
	if (op->status != STORE_OK)
		result.error = op->error;
	else
	{
		result.data = op->bytes;
		op->bytes = NULL;
		result.len = op->nbytes;
		result.object_size = op->object_size;
		result.entries = op->entries;
		result.nentries = op->nentries;
		if (op->more)
			result.next = op->entries[op->nentries - 1].key;
		dir->store.stats.bytes_in += op->nbytes;
	}
	store_count(&dir->store, kind_of(op), op->status, op->submitted_us,
				writes(op)               ? op->len
				: op->status == STORE_OK ? op->nbytes
										 : 0);
	op->cb(op->arg, &result);
	free(result.data);
	free(op->bytes);
	for (int i = 0; i < op->nentries; i++)
		free((char *) op->entries[i].key);
	free(op->entries);
	free(op->key);
	free(op->extra);
	free(op);
}

/*
 * What was cancelled ends now: the caller may free its memory.  One that runs is waited for, which takes a system call at most.
 */
static void
end_cancelled(DirStore *dir)
{
	StoreOp *before = NULL;

	for (StoreOp *op = dir->queued.first, *next; op; op = next)
	{
		next = op->next;
		if (!op->cancelled)
		{
			before = op;
			continue;
		}
		take(&dir->queued, before, op);
		dir->nqueued--;
		append(&dir->finished, op);
	}
	while (dir->nstopping > 0)
		pthread_cond_wait(&dir->ended, &dir->mutex);
	dir->cancelled = false;
}

static void
dir_dispatch(Store *store)
{
	DirStore *dir = (DirStore *) store;
	uint64_t n;
	DirQueue finished;
	StoreOp *op;

	if (read(dir->event, &n, sizeof(n)) < 0)
		(void) 0; /* nothing was signalled */
	pthread_mutex_lock(&dir->mutex);
	if (dir->nthreads == 0 && (op = next_op(dir)) != NULL)
		run_op(dir, op);
	if (dir->cancelled)
		end_cancelled(dir);
	finished = dir->finished;
	dir->finished = (DirQueue){0};
	pthread_mutex_unlock(&dir->mutex);
	while ((op = finished.first) != NULL)
	{
		take(&finished, NULL, op);
		tell(dir, op);
	}
}

static int
dir_fd(Store *store)
{
	return ((DirStore *) store)->event;
}

static int
dir_timeout(Store *store)
{
	DirStore *dir = (DirStore *) store;
	bool mine;

	pthread_mutex_lock(&dir->mutex);
	mine = dir->nthreads == 0 && dir->queued.first;
	pthread_mutex_unlock(&dir->mutex);
	return mine ? 0 : -1;
}

static bool
dir_configure(Store *store, const StoreOptions *options, char **error)
{
	return true;
}

static void
dir_close(Store *store)
{
	DirStore *dir = (DirStore *) store;

	pthread_mutex_lock(&dir->mutex);
	while (dir->queued.first || dir->finished.first || dir->nrunning > 0)
	{
		/* what runs is let run to its end */
		for (StoreOp *op = dir->queued.first; op; op = op->next)
			op->cancelled = true;
		while (dir->nrunning > 0)
			pthread_cond_wait(&dir->ended, &dir->mutex);
		for (StoreOp *op = dir->finished.first; op; op = op->next)
			op->cancelled = true;
		dir->cancelled = true;
		pthread_mutex_unlock(&dir->mutex);
		dir_dispatch(store);
		pthread_mutex_lock(&dir->mutex);
	}
	dir->stopping = true;
	pthread_cond_broadcast(&dir->work);
	pthread_mutex_unlock(&dir->mutex);
	for (int i = 0; i < dir->nthreads; i++)
		(void) pthread_join(dir->threads[i], NULL);
	pthread_cond_destroy(&dir->work);
	pthread_cond_destroy(&dir->ended);
	pthread_mutex_destroy(&dir->mutex);
	close(dir->event);
	free(dir->root);
	free(dir);
}

static const StoreDriver dir_driver = {
	.name = "directory",
	.get = dir_get,
	.put = dir_put,
	.create = dir_create,
	.replace = dir_replace,
	.list = dir_list,
	.remove = dir_remove,
	.cancel = dir_cancel,
	.fd = dir_fd,
	.timeout_ms = dir_timeout,
	.dispatch = dir_dispatch,
	.configure = dir_configure,
	.close = dir_close,
};

Store *
dir_open(const char *path, char **error)
{
	DirStore *dir = calloc(1, sizeof(DirStore));
	size_t len = strlen(path);

	if (path[0] != '/')
	{
		*error = strdup("a directory repository needs an absolute path: file:///directory");
		free(dir);
		return NULL;
	}
	while (len > 1 && path[len - 1] == '/')
		len--;
	if (dir == NULL || (dir->root = strndup(path, len)) == NULL)
	{
		*error = strdup("out of memory");
		free(dir);
		return NULL;
	}
	dir->store.driver = &dir_driver;
	dir->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (dir->event < 0)
	{
		*error = strdup(strerror(errno));
		free(dir->root);
		free(dir);
		return NULL;
	}
	pthread_mutex_init(&dir->mutex, NULL);
	pthread_cond_init(&dir->work, NULL);
	pthread_cond_init(&dir->ended, NULL);
	return &dir->store;
}
