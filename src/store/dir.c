/*
 * dir.c: a store in a directory, for trying s3am out and for tests.
 *
 * Operations are queued by the submitting call and run by dispatch, one after another; an eventfd tells that some are waiting.
 * An object appears by link(2) (create) or rename(2) (put) of a finished and synced temporary file, and the directory is
 * synced before success is reported (rule 39).
 */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "store/driver.h"

typedef enum DirKind
{
	DIR_GET, DIR_PUT, DIR_CREATE, DIR_REPLACE, DIR_LIST, DIR_REMOVE
} DirKind;

struct StoreOp
{
	StoreOp    *next;
	DirKind		kind;
	char	   *key;
	char	   *extra;			/* ETag, or where a list goes on */
	const void *data;
	size_t		len;
	uint64_t	offset;
	int64_t		length;
	int			limit;
	bool		cancelled;
	StoreCallback cb;
	void	   *arg;
};

typedef struct DirStore
{
	Store		store;
	char	   *root;
	int			event;
	StoreOp    *first,
			  **last;
	unsigned	temp_counter;
} DirStore;

static int64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static StoreOp *
submit(Store *store, DirKind kind, const char *key, StoreCallback cb, void *arg)
{
	DirStore   *dir = (DirStore *) store;
	StoreOp    *op = calloc(1, sizeof(StoreOp));
	uint64_t	one = 1;

	if (op == NULL)
		abort();
	op->kind = kind;
	op->key = strdup(key);
	op->cb = cb;
	op->arg = arg;
	*dir->last = op;
	dir->last = &op->next;
	if (write(dir->event, &one, sizeof(one)) < 0)
		(void) 0;				/* the counter is full: it is readable already */
	return op;
}

static StoreOp *
dir_get(Store *store, const char *key, uint64_t offset, int64_t length, StoreCallback cb, void *arg)
{
	StoreOp    *op = submit(store, DIR_GET, key, cb, arg);

	op->offset = offset;
	op->length = length;
	store->stats.gets++;
	return op;
}

static StoreOp *
write_op(Store *store, DirKind kind, const char *key, const void *data, size_t len, StoreCallback cb, void *arg)
{
	StoreOp    *op = submit(store, kind, key, cb, arg);

	op->data = data;
	op->len = len;
	store->stats.puts++;
	store->stats.bytes_out += len;
	return op;
}

static StoreOp *
dir_put(Store *store, const char *key, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return write_op(store, DIR_PUT, key, data, len, cb, arg);
}

static StoreOp *
dir_create(Store *store, const char *key, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return write_op(store, DIR_CREATE, key, data, len, cb, arg);
}

static StoreOp *
dir_replace(Store *store, const char *key, const char *etag, const void *data, size_t len, StoreCallback cb, void *arg)
{
	StoreOp    *op = write_op(store, DIR_REPLACE, key, data, len, cb, arg);

	op->extra = strdup(etag);
	return op;
}

static StoreOp *
dir_list(Store *store, const char *prefix, const char *after, int limit, StoreCallback cb, void *arg)
{
	StoreOp    *op = submit(store, DIR_LIST, prefix, cb, arg);

	op->extra = after ? strdup(after) : NULL;
	op->limit = limit;
	store->stats.lists++;
	return op;
}

static StoreOp *
dir_remove(Store *store, const char *key, StoreCallback cb, void *arg)
{
	store->stats.deletes++;
	return submit(store, DIR_REMOVE, key, cb, arg);
}

static void
dir_cancel(StoreOp *op)
{
	op->cancelled = true;
}

static int
dir_fd(Store *store)
{
	return ((DirStore *) store)->event;
}

static int
dir_timeout(Store *store)
{
	return ((DirStore *) store)->first ? 0 : -1;
}

/* ------------------------------------------------------------------------------------ running */

static char	message[512];

static void
fail(StoreResult *result, const char *what, const char *key)
{
	int			e = errno;

	result->status = e == ENOENT ? STORE_NOT_FOUND
		: e == EACCES || e == EPERM || e == EROFS || e == EDQUOT || e == ENAMETOOLONG ? STORE_DENIED
		: e == EEXIST ? STORE_PRECONDITION : STORE_UNAVAILABLE;
	snprintf(message, sizeof(message), "cannot %s \"%s\": %s", what, key, strerror(e));
	result->error = message;
}

/* An ETag that no other content of the key ever had: inode, time of change and content. */
static bool
etag_of(const char *path, char etag[136])
{
	struct stat st;
	int			fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (fstat(fd, &st) != 0)
	{
		close(fd);
		return false;
	}
	snprintf(etag, 136, "\"%llx-%llx-%llx\"", (unsigned long long) st.st_ino,
			 (unsigned long long) st.st_mtim.tv_sec * 1000000000ULL + st.st_mtim.tv_nsec,
			 (unsigned long long) st.st_size);
	close(fd);
	return true;
}

static char *
path_of(DirStore *dir, const char *key)
{
	size_t		len = strlen(dir->root) + strlen(key) + 2;
	char	   *path = malloc(len);

	if (path)
		snprintf(path, len, "%s/%s", dir->root, key);
	return path;
}

static int
make_parents(char *path)
{
	for (char *p = path + 1; *p; p++)
		if (*p == '/')
		{
			*p = '\0';
			if (mkdir(path, 0700) != 0 && errno != EEXIST)
			{
				*p = '/';
				return -1;
			}
			*p = '/';
		}
	return 0;
}

static int
sync_parent(const char *path)
{
	char	   *copy = strdup(path);
	char	   *slash = strrchr(copy, '/');
	int			fd,
				r;

	*slash = '\0';
	fd = open(copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(copy);
	if (fd < 0)
		return -1;
	r = fsync(fd);
	close(fd);
	return r;
}

/* Writes a temporary file beside `path`, synced.  Returns its name, or NULL with errno. */
static char *
write_temporary(DirStore *dir, char *path, const void *data, size_t len)
{
	size_t		size = strlen(path) + 64;
	char	   *temp = malloc(size);
	int			fd;
	const char *p = data;

	snprintf(temp, size, "%s.tmp.%ld.%u", path, (long) getpid(), dir->temp_counter++);
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 && errno == ENOENT)
	{
		if (make_parents(path) != 0)
		{
			free(temp);
			return NULL;
		}
		fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	}
	if (fd < 0)
	{
		free(temp);
		return NULL;
	}
	while (len > 0)
	{
		ssize_t		n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		p += n;
		len -= n;
	}
	if (len > 0 || fsync(fd) != 0)
	{
		int			e = errno;

		close(fd);
		unlink(temp);
		free(temp);
		errno = e;
		return NULL;
	}
	close(fd);
	return temp;
}

static void
run_write(DirStore *dir, StoreOp *op, StoreResult *result)
{
	char	   *path = path_of(dir, op->key);
	char	   *temp = write_temporary(dir, path, op->data, op->len);
	int			lock = -1;

	if (temp == NULL)
	{
		fail(result, "write", path);
		free(path);
		return;
	}
	if (op->kind == DIR_REPLACE)
	{
		size_t		size = strlen(dir->root) + 16;
		char	   *lock_path = malloc(size);
		char		etag[136];

		snprintf(lock_path, size, "%s/.lock", dir->root);
		lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		free(lock_path);
		if (lock < 0 || flock(lock, LOCK_EX) != 0)
			fail(result, "lock", path);
		else if (!etag_of(path, etag))
			fail(result, "read", path);
		else if (strcmp(etag, op->extra) != 0)
		{
			result->status = STORE_PRECONDITION;
			snprintf(message, sizeof(message), "\"%s\" was changed meanwhile", op->key);
			result->error = message;
		}
		else if (rename(temp, path) != 0 || sync_parent(path) != 0)
			fail(result, "replace", path);
	}
	else if (op->kind == DIR_CREATE)
	{
		if (link(temp, path) != 0)
			fail(result, "create", path);
		else if (sync_parent(path) != 0)
		{
			fail(result, "sync the directory of", path);
			result->status = STORE_UNDECIDED;
		}
	}
	else if (rename(temp, path) != 0 || sync_parent(path) != 0)
		fail(result, "write", path);
	if (result->status == STORE_OK)
		(void) etag_of(path, result->etag);
	(void) unlink(temp);
	if (lock >= 0)
		close(lock);
	free(temp);
	free(path);
}

static void
run_get(DirStore *dir, StoreOp *op, StoreResult *result)
{
	char	   *path = path_of(dir, op->key);
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint64_t	want;

	if (fd < 0 || fstat(fd, &st) != 0)
	{
		fail(result, "read", path);
		if (fd >= 0)
			close(fd);
		free(path);
		return;
	}
	result->object_size = st.st_size;
	want = op->offset >= (uint64_t) st.st_size ? 0 : st.st_size - op->offset;
	if (op->length >= 0 && want > (uint64_t) op->length)
		want = op->length;
	result->data = malloc(want ? want : 1);
	if (result->data == NULL)
	{
		errno = ENOMEM;
		fail(result, "read", path);
	}
	else
	{
		while (result->len < want)
		{
			ssize_t		n = pread(fd, result->data + result->len, want - result->len, op->offset + result->len);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				break;
			result->len += n;
		}
		if (result->len < want)
		{
			errno = EIO;
			fail(result, "read", path);
			result->status = STORE_DAMAGED;
		}
	}
	close(fd);
	(void) etag_of(path, result->etag);
	dir->store.stats.bytes_in += result->len;
	free(path);
}

typedef struct Listing
{
	struct StoreEntry *entries;
	int			n,
				capacity;
} Listing;

static void
list_directory(const char *root, const char *relative, const char *prefix, const char *after, Listing *listing)
{
	char		path[4096];
	DIR		   *d;
	struct dirent *e;

	snprintf(path, sizeof(path), "%s/%s", root, relative);
	d = opendir(path);
	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL)
	{
		char		key[2048];
		char		full[6200];
		struct stat st;

		if (e->d_name[0] == '.' || strstr(e->d_name, ".tmp."))
			continue;
		if (snprintf(key, sizeof(key), "%s%s%s", relative, relative[0] ? "/" : "", e->d_name) >= (int) sizeof(key))
			continue;
		snprintf(full, sizeof(full), "%s/%s", root, key);
		if (stat(full, &st) != 0)
			continue;
		if (S_ISDIR(st.st_mode))
		{
			size_t		n = strlen(key) < strlen(prefix) ? strlen(key) : strlen(prefix);

			if (strncmp(key, prefix, n) == 0)
				list_directory(root, key, prefix, after, listing);
			continue;
		}
		if (strncmp(key, prefix, strlen(prefix)) != 0 || (after && strcmp(key, after) <= 0))
			continue;
		if (listing->n == listing->capacity)
		{
			listing->capacity = listing->capacity ? listing->capacity * 2 : 64;
			listing->entries = realloc(listing->entries, listing->capacity * sizeof(struct StoreEntry));
		}
		listing->entries[listing->n].key = strdup(key);
		listing->entries[listing->n].size = st.st_size;
		listing->entries[listing->n].modified_ms = (int64_t) st.st_mtim.tv_sec * 1000;
		listing->n++;
	}
	closedir(d);
}

static int
compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct StoreEntry *) a)->key, ((const struct StoreEntry *) b)->key);
}

static void
run(DirStore *dir, StoreOp *op)
{
	StoreResult result = {0};
	Listing		listing = {0};

	if (op->cancelled)
	{
		result.status = STORE_CANCELLED;
		result.error = "cancelled";
		op->cb(op->arg, &result);
		return;
	}
	result.date_ms = now_ms();
	switch (op->kind)
	{
		case DIR_GET:
			run_get(dir, op, &result);
			break;
		case DIR_PUT:
		case DIR_CREATE:
		case DIR_REPLACE:
			run_write(dir, op, &result);
			break;
		case DIR_LIST:
			list_directory(dir->root, "", op->key, op->extra, &listing);
			if (listing.n > 1)
				qsort(listing.entries, listing.n, sizeof(struct StoreEntry), compare_entries);
			result.entries = listing.entries;
			result.nentries = listing.n;
			if (op->limit > 0 && listing.n > op->limit)
			{
				result.nentries = op->limit;
				result.next = listing.entries[op->limit - 1].key;
			}
			break;
		case DIR_REMOVE:
			{
				char	   *path = path_of(dir, op->key);

				if (unlink(path) != 0 && errno != ENOENT)
					fail(&result, "remove", path);
				free(path);
			}
			break;
	}
	op->cb(op->arg, &result);
	free(result.data);
	for (int i = 0; i < listing.n; i++)
		free((char *) listing.entries[i].key);
	free(listing.entries);
}

static void
free_op(StoreOp *op)
{
	free(op->key);
	free(op->extra);
	free(op);
}

static void
dir_dispatch(Store *store)
{
	DirStore   *dir = (DirStore *) store;
	uint64_t	n;
	StoreOp    *op = dir->first;

	if (read(dir->event, &n, sizeof(n)) < 0)
		(void) 0;				/* nothing was signalled */
	/* what callbacks submit waits for the next round */
	dir->first = NULL;
	dir->last = &dir->first;
	while (op)
	{
		StoreOp    *next = op->next;

		run(dir, op);
		free_op(op);
		op = next;
	}
}

static bool
dir_configure(Store *store, const StoreOptions *options, char **error)
{
	return true;
}

static void
dir_close(Store *store)
{
	DirStore   *dir = (DirStore *) store;

	for (StoreOp *op = dir->first; op; op = op->next)
		op->cancelled = true;
	dir_dispatch(store);
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
	DirStore   *dir = calloc(1, sizeof(DirStore));

	if (path[0] != '/')
	{
		*error = strdup("a directory repository needs an absolute path: file:///directory");
		free(dir);
		return NULL;
	}
	dir->store.driver = &dir_driver;
	dir->root = strdup(path);
	while (strlen(dir->root) > 1 && dir->root[strlen(dir->root) - 1] == '/')
		dir->root[strlen(dir->root) - 1] = '\0';
	dir->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	dir->last = &dir->first;
	if (dir->event < 0)
	{
		*error = strdup(strerror(errno));
		free(dir->root);
		free(dir);
		return NULL;
	}
	return &dir->store;
}
