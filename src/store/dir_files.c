/*
 * dir_files.c: the directory driver's operations on files.
 *
 * An object is written to a temporary file under .tmp, synced, and appears by link(2) (create) or rename(2); then its directory is
 * synced, and only then success is reported (rule 39).  A file that has its name is never changed.
 *
 * A directory counts only once its own entry is durable, and its maker may not have got so far when somebody else finds it.  So every
 * process syncs the directories above an object once, whoever made them.
 *
 * The lock makes compare-and-set atomic: replace holds it exclusively while it compares and renames, everything else that changes
 * what a key holds shares it.
 *
 * Whoever writes a temporary file holds a lock on it, which dies with its process; a file that can be locked, and has not been touched
 * for an hour (for file systems that do not lock between hosts), was left by a crash.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "store/dir.h"
#include "store/dir_leftovers.h"
#include "store/text.h"

#define LOCK_TIMEOUT_MS 30000
#define WRITE_PIECE (1 << 20) /* a cancel is noticed between two of them */
#define LEFTOVER_AGE 3600

void
dir_error(StoreOp *op, StoreStatus status, const char *format, ...)
{
	va_list args;

	op->status = status;
	va_start(args, format);
	(void) vsnprintf(op->error, sizeof(op->error), format, args);
	va_end(args);
}

void
dir_errno(StoreOp *op, int error, const char *what, const char *path)
{
	char text[128];
	const char *remedy = "";
	StoreStatus status = STORE_UNAVAILABLE;

	switch (error)
	{
		case ENOENT:
			status = STORE_NOT_FOUND;
			break;
		case EEXIST:
			status = STORE_PRECONDITION;
			break;
		case ENOSPC:
			status = STORE_FULL;
			remedy = ": make room on the repository's file system";
			break;
		case EDQUOT:
			status = STORE_FULL;
			remedy = ": raise the quota of the server's user on the repository's file system";
			break;
		case EFBIG:
			status = STORE_FULL;
			remedy = ": raise the limit on the size of files (ulimit -f) of the server";
			break;
		case EROFS:
			status = STORE_DENIED;
			remedy = ": mount the repository's file system for writing";
			break;
		case EACCES:
		case EPERM:
			status = STORE_DENIED;
			remedy = ": give the directory to the server's user";
			break;
		case EISDIR:
		case ENOTDIR:
			status = STORE_DENIED;
			remedy = ": in a directory, no key can continue another one after a slash";
			break;
		case ENAMETOOLONG:
		case EXDEV:
			status = STORE_DENIED;
			break;
		default:
			break;
	}
	dir_error(op, status, "cannot %s \"%.300s\": %s%s", what, path, strerror_r(error, text, sizeof(text)), remedy);
}

static char *
path_of(StoreOp *op, const char *key)
{
	char *path = text_format("%s/%s", op->dir->root, key);

	if (path == NULL)
		dir_errno(op, ENOMEM, "use", key);
	return path;
}

/* An ETag that no other content of the key has: every file gets a time of change of its own (see write_temporary). */
static void
etag_of(const struct stat *st, char etag[136])
{
	snprintf(etag, 136, "\"%llx-%llx%08lx-%llx\"", (unsigned long long) st->st_ino,
			 (unsigned long long) st->st_mtim.tv_sec, (unsigned long) st->st_mtim.tv_nsec,
			 (unsigned long long) st->st_size);
}

/* ------------------------------------------------------------------------------------ directories */

static int
sync_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result, error;

	if (fd < 0)
		return -1;
	result = fsync(fd);
	error = errno;
	close(fd);
	errno = error;
	return result;
}

/* Syncs the directory in which `path` is. */
static int
sync_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *parent = strndup(path, slash > path ? slash - path : 1);
	int result, error;

	if (parent == NULL)
	{
		errno = ENOMEM;
		return -1;
	}
	result = sync_directory(parent);
	error = errno;
	free(parent);
	errno = error;
	return result;
}

static uint64_t *
known_slot(DirStore *dir, const char *path, uint64_t *hash)
{
	*hash = XXH64(path, strlen(path), 0) | 1;
	return &dir->known[*hash >> 32 & (DIR_KNOWN - 1)];
}

/*
 * Makes a directory of the store and those above it where they are missing, and sees to it that their entries are durable.  -1: errno
 * says why not.
 */
static int
need_directory(DirStore *dir, char *path)
{
	uint64_t hash;
	uint64_t *slot = known_slot(dir, path, &hash);
	bool known;
	bool above = strlen(path) < strlen(dir->root);
	char *slash;
	int result;

	pthread_mutex_lock(&dir->mutex);
	known = *slot == hash;
	pthread_mutex_unlock(&dir->mutex);
	if (known)
		return 0;
	if (mkdir(path, 0700) == 0)
		above = false; /* ours to make durable, wherever it is */
	else if (errno == ENOENT)
	{
		slash = strrchr(path, '/');
		if (slash == path)
			return -1;
		*slash = '\0';
		result = need_directory(dir, path);
		*slash = '/';
		if (result != 0 || (mkdir(path, 0700) != 0 && errno != EEXIST))
			return -1;
		above = false;
	}
	else if (errno != EEXIST && !above)
		return -1;
	if (above)
		return 0;
	/* those between the root and this one may be as new as this one, although they exist */
	if (strlen(path) > strlen(dir->root))
	{
		slash = strrchr(path, '/');
		*slash = '\0';
		result = need_directory(dir, path);
		*slash = '/';
		if (result != 0)
			return -1;
	}
	if (sync_parent(path) != 0 && !(errno == EACCES && strlen(path) <= strlen(dir->root)))
		return -1;
	pthread_mutex_lock(&dir->mutex);
	*slot = hash;
	pthread_mutex_unlock(&dir->mutex);
	return 0;
}

static int
need_parent(DirStore *dir, char *path)
{
	char *slash = strrchr(path, '/');
	int result;

	*slash = '\0';
	result = need_directory(dir, path);
	*slash = '/';
	return result;
}

/* ------------------------------------------------------------------------------------ temporary files */

/*
 * Makes a temporary file that is locked.  Returns its descriptor and name, or -1 and errno.  One that was swept away between its
 * creation and its locking is made anew.
 */
static int
new_temporary(DirStore *dir, char **name)
{
	for (int i = 0; i < 100; i++)
	{
		uint64_t random[2];
		struct stat st;
		int fd, error;

		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			return -1;
		*name = text_format("%s/" DIR_TEMPORARY "/%016llx%016llx", dir->root, (unsigned long long) random[0],
							(unsigned long long) random[1]);
		if (*name == NULL)
		{
			errno = ENOMEM;
			return -1;
		}
		fd = open(*name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 && errno == ENOENT && need_parent(dir, *name) == 0)
			fd = open(*name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink == 1)
			return fd;
		error = errno;
		if (fd >= 0)
			close(fd);
		free(*name);
		*name = NULL;
		errno = error;
		if (fd < 0 && error != EEXIST)
			return -1;
	}
	errno = EAGAIN;
	return -1;
}

/* Writes and syncs a temporary file.  Returns its descriptor, which holds the lock; -1: op says why not. */
static int
write_temporary(StoreOp *op, char **name, struct stat *st)
{
	int fd = new_temporary(op->dir, name);
	size_t done = 0;
	struct timespec times[2];
	uint32_t random = 0;

	if (fd < 0)
	{
		dir_errno(op, errno, "write to", op->dir->root);
		/* nothing is missing that the caller could have asked for */
		if (op->status == STORE_NOT_FOUND || op->status == STORE_PRECONDITION)
			op->status = STORE_UNAVAILABLE;
		return -1;
	}
	while (done < op->len && !op->cancelled)
	{
		size_t piece = op->len - done < WRITE_PIECE ? op->len - done : WRITE_PIECE;
		ssize_t n = write(fd, op->data + done, piece);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			goto failed;
		done += n;
	}
	/* a time of its own makes the ETag unique, also where an inode is used again at once */
	if (getrandom(&random, sizeof(random), 0) != sizeof(random) || clock_gettime(CLOCK_REALTIME, &times[0]) != 0)
		goto failed;
	times[0].tv_nsec = random % 1000000000;
	times[1] = times[0];
	if (futimens(fd, times) != 0 || (!op->cancelled && fsync(fd) != 0) || fstat(fd, st) != 0)
		goto failed;
	if (!op->cancelled)
		return fd;
	errno = ECANCELED;
failed:
	dir_errno(op, errno, "write", op->key);
	(void) unlink(*name);
	close(fd);
	free(*name);
	*name = NULL;
	return -1;
}

/* Each file that nobody writes any more; tells of it in *found, if that is not NULL. */
static void
sweep(DirStore *dir, bool remove, DirLeftover **found)
{
	char *path = text_format("%s/" DIR_TEMPORARY, dir->root);
	DIR *d = path ? opendir(path) : NULL;
	struct dirent *e;

	free(path);
	while (d && (e = readdir(d)) != NULL)
	{
		int fd;
		struct stat st;

		if (e->d_name[0] == '.' || (fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
			st.st_mtim.tv_sec + LEFTOVER_AGE < time(NULL))
		{
			bool removed = remove && unlinkat(dirfd(d), e->d_name, 0) == 0;
			DirLeftover *leftover = found ? malloc(sizeof(DirLeftover)) : NULL;

			if (leftover)
			{
				leftover->next = *found;
				leftover->size = st.st_size;
				leftover->removed = removed;
				(void) snprintf(leftover->name, sizeof(leftover->name), DIR_TEMPORARY "/%.200s", e->d_name);
				*found = leftover;
			}
		}
		close(fd);
	}
	if (d)
		closedir(d);
}

void
dir_sweep(DirStore *dir)
{
	sweep(dir, true, NULL);
}

DirLeftover *
dir_leftovers(Store *store, bool remove)
{
	DirLeftover *found = NULL;

	sweep((DirStore *) store, remove, &found);
	return found;
}

/* ------------------------------------------------------------------------------------ operations */

/* The store's lock; waits, but not for ever, and not if the operation is cancelled.  -1: op says why not. */
static int
lock_store(StoreOp *op, bool exclusive)
{
	char *path = path_of(op, DIR_LOCK);
	int fd = -1;

	if (path == NULL)
		return -1;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 && errno == ENOENT && need_parent(op->dir, path) == 0)
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		dir_errno(op, errno, "lock", path);
	for (int waited = 0; fd >= 0 && flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0; waited++)
	{
		const struct timespec pause = {0, 1000000};

		if ((errno == EWOULDBLOCK || errno == EINTR) && waited < LOCK_TIMEOUT_MS && !op->cancelled)
		{
			(void) nanosleep(&pause, NULL);
			continue;
		}
		if (errno == EWOULDBLOCK)
			dir_error(op, STORE_UNAVAILABLE, "cannot lock \"%s\": another process holds it", path);
		else
			dir_errno(op, errno, "lock", path);
		close(fd);
		fd = -1;
	}
	free(path);
	return fd;
}

/* Is the file of this path the one with this ETag? */
static bool
compare_etag(StoreOp *op, const char *path)
{
	struct stat st;
	char etag[136];

	if (stat(path, &st) != 0)
	{
		dir_errno(op, errno == ENOTDIR ? ENOENT : errno, "replace", path);
		return false;
	}
	etag_of(&st, etag);
	if (strcmp(etag, op->extra) == 0)
		return true;
	dir_error(op, STORE_PRECONDITION, "\"%s\" was changed meanwhile", path);
	return false;
}

/* Gives the temporary file its name. */
static void
publish(StoreOp *op, const char *temporary, int fd, char *path)
{
	struct stat st;
	int lock = -1;

	if (need_parent(op->dir, path) != 0)
	{
		dir_errno(op, errno == EEXIST ? ENOTDIR : errno, "write", path);
		if (op->status == STORE_NOT_FOUND)
			op->status = STORE_UNAVAILABLE;
		return;
	}
	lock = lock_store(op, op->kind == DIR_REPLACE);
	if (lock < 0)
		return;
	if (op->kind == DIR_CREATE)
	{
		/* where an answer was lost on the way from a file server, the second link says so */
		if (link(temporary, path) != 0 && !(errno == EEXIST && fstat(fd, &st) == 0 && st.st_nlink == 2))
			dir_errno(op, errno, "create", path);
	}
	else if (op->kind == DIR_REPLACE && !compare_etag(op, path))
		(void) 0;
	else if (rename(temporary, path) != 0)
		dir_errno(op, errno, op->kind == DIR_REPLACE ? "replace" : "write", path);
	/* it is there; whether it will be after a crash nobody knows */
	if (op->status == STORE_OK && sync_parent(path) != 0)
	{
		dir_errno(op, errno, "sync the directory of", path);
		op->status = op->kind == DIR_PUT ? STORE_UNAVAILABLE : STORE_UNDECIDED;
	}
	close(lock);
}

static void
run_write(StoreOp *op)
{
	char *path = path_of(op, op->key);
	char *temporary = NULL;
	struct stat st;
	int fd;

	if (path == NULL)
		return;
	/* no need to write what cannot be: link(2) decides in the end */
	if (op->kind == DIR_CREATE && stat(path, &st) == 0)
		dir_errno(op, EEXIST, "create", path);
	else if ((fd = write_temporary(op, &temporary, &st)) >= 0)
	{
		publish(op, temporary, fd, path);
		if (op->status == STORE_OK)
			etag_of(&st, op->etag);
		(void) unlink(temporary);
		close(fd);
	}
	free(temporary);
	free(path);
}

static void
run_get(StoreOp *op)
{
	char *path = path_of(op, op->key);
	int fd;
	struct stat st;
	uint64_t want;

	if (path == NULL)
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
	{
		/* a directory, or something under a file, is no object */
		dir_errno(op, fd >= 0 || errno == ENOTDIR ? ENOENT : errno, "read", path);
		if (fd >= 0)
			close(fd);
		free(path);
		return;
	}
	op->object_size = st.st_size;
	want = op->offset >= (uint64_t) st.st_size ? 0 : st.st_size - op->offset;
	if (op->length >= 0 && want > (uint64_t) op->length)
		want = op->length;
	op->bytes = malloc(want ? want : 1);
	if (op->bytes == NULL)
		dir_errno(op, ENOMEM, "read", path);
	while (op->bytes && op->nbytes < want && !op->cancelled)
	{
		size_t left = want - op->nbytes;
		ssize_t n =
			pread(fd, op->bytes + op->nbytes, left < 8 * WRITE_PIECE ? left : 8 * WRITE_PIECE, op->offset + op->nbytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			dir_errno(op, errno, "read", path);
		else if (n == 0)
			dir_error(op, STORE_DAMAGED, "cannot read \"%s\": it was cut while it was read", path);
		if (n <= 0)
			break;
		op->nbytes += n;
	}
	close(fd);
	etag_of(&st, op->etag);
	free(path);
}

static void
run_remove(StoreOp *op)
{
	char *path = path_of(op, op->key);
	int lock = path ? lock_store(op, false) : -1;

	if (lock >= 0)
	{
		if (unlink(path) == 0)
		{
			if (sync_parent(path) != 0)
				dir_errno(op, errno, "sync the directory of", path);
		}
		else if (errno != ENOENT && errno != ENOTDIR && errno != EISDIR)
			dir_errno(op, errno, "remove", path);
		close(lock);
	}
	free(path);
}

void
dir_run(StoreOp *op)
{
	const char *wrong = op->kind == DIR_LIST ? NULL : store_key_error(op->key);

	if (wrong)
	{
		dir_error(op, STORE_DENIED, "key \"%.200s\" cannot be: %s", op->key, wrong);
		return;
	}
	switch (op->kind)
	{
		case DIR_GET:
			run_get(op);
			break;
		case DIR_PUT:
		case DIR_CREATE:
		case DIR_REPLACE:
			run_write(op);
			break;
		case DIR_LIST:
			dir_list_keys(op);
			break;
		case DIR_REMOVE:
			run_remove(op);
			break;
	}
}
