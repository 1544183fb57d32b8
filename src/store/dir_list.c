/*
 * dir_list.c: the keys in a directory, in order.
 *
 * A directory's names are sorted as if those of directories ended with a slash, which is how keys sort, so that a walk meets the keys
 * in their order and may stop at the limit; and it enters only directories that can hold a key with the prefix.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/dir.h"
#include "store/text.h"

typedef struct Names
{
	char **names; /* of directories with a slash at the end */
	int n, capacity;
} Names;

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

static void
free_names(Names *names)
{
	for (int i = 0; i < names->n; i++)
		free(names->names[i]);
	free(names->names);
}

static bool
add_name(Names *names, const char *directory, const char *name, bool is_directory)
{
	if (names->n == names->capacity)
	{
		int capacity = names->capacity ? names->capacity * 2 : 64;
		char **grown = realloc(names->names, capacity * sizeof(char *));

		if (grown == NULL)
			return false;
		names->names = grown;
		names->capacity = capacity;
	}
	names->names[names->n] = text_format("%s%s%s", directory, name, is_directory ? "/" : "");
	return names->names[names->n] && ++names->n;
}

/* Can a key be in question that begins with this (a directory), or is this (a file)? */
static bool
wanted(const StoreOp *op, const char *name, bool is_directory)
{
	size_t len = strlen(name);
	size_t prefix_len = strlen(op->key);

	if (strncmp(name, op->key, is_directory && len < prefix_len ? len : prefix_len) != 0)
		return false;
	if (op->extra == NULL)
		return true;
	return is_directory ? strncmp(name, op->extra, len) >= 0 : strcmp(name, op->extra) > 0;
}

static bool
add_entry(StoreOp *op, const char *key, const struct stat *st)
{
	if (op->nentries % 64 == 0)
	{
		StoreEntry *grown = realloc(op->entries, (op->nentries + 64) * sizeof(StoreEntry));

		if (grown == NULL)
			return false;
		op->entries = grown;
	}
	op->entries[op->nentries].key = strdup(key);
	op->entries[op->nentries].size = st->st_size;
	op->entries[op->nentries].modified_ms = (int64_t) st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
	return op->entries[op->nentries].key && ++op->nentries;
}

/* `directory` is relative and ends with a slash unless it is the root.  False: it failed, or there is enough. */
static bool
walk(StoreOp *op, const char *directory)
{
	Names names = {0};
	char *path = text_format("%s/%s", op->dir->root, directory);
	DIR *d = path ? opendir(path) : NULL;
	struct dirent *e;
	bool going_on = true;

	if (d == NULL)
	{
		int error = path ? errno : ENOMEM;

		/* nobody made it yet */
		going_on = error == ENOENT || error == ENOTDIR;
		if (!going_on)
			dir_errno(op, error, "list", path ? path : directory);
		free(path);
		return going_on;
	}
	errno = 0;
	while (going_on && (e = readdir(d)) != NULL)
	{
		bool is_directory = e->d_type == DT_DIR;
		struct stat st;

		if (e->d_name[0] == '.')
			continue;
		if (e->d_type != DT_DIR && e->d_type != DT_REG)
			is_directory = fstatat(dirfd(d), e->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
		going_on = add_name(&names, directory, e->d_name, is_directory);
		if (!going_on)
			errno = ENOMEM;
		else if (!wanted(op, names.names[names.n - 1], is_directory))
			free(names.names[--names.n]);
		else
			errno = 0;
	}
	if (errno != 0)
	{
		dir_errno(op, errno, "list", path);
		going_on = false;
	}
	if (names.n > 1)
		qsort(names.names, names.n, sizeof(char *), compare_names);
	for (int i = 0; going_on && i < names.n; i++)
	{
		const char *name = names.names[i];
		struct stat st;

		if (op->cancelled)
			going_on = false;
		else if (name[strlen(name) - 1] == '/')
			going_on = walk(op, name);
		else if (fstatat(dirfd(d), name + strlen(directory), &st, 0) != 0 || !S_ISREG(st.st_mode))
			continue; /* gone meanwhile */
		else if (op->nentries == op->limit)
		{
			op->more = true;
			going_on = false;
		}
		else if (!add_entry(op, name, &st))
		{
			dir_errno(op, ENOMEM, "list", path);
			going_on = false;
		}
	}
	closedir(d);
	free(path);
	free_names(&names);
	return going_on;
}

void
dir_list_keys(StoreOp *op)
{
	const char *slash = strrchr(op->key, '/');
	char *directory = strndup(op->key, slash ? slash + 1 - op->key : 0);

	if (!store_prefix_possible(op->key))
	{
		free(directory);
		return;
	}
	if (op->limit <= 0 || op->limit > DIR_PAGE)
		op->limit = DIR_PAGE;
	if (directory == NULL)
		dir_errno(op, ENOMEM, "list", op->key);
	else
		(void) walk(op, directory);
	free(directory);
}
