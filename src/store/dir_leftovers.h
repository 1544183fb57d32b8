/*
 * dir_leftovers.h: temporary files that crashed writers left in a directory, for who wants to be told of them.
 */
#ifndef S3AM_DIR_LEFTOVERS_H
#define S3AM_DIR_LEFTOVERS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

typedef struct DirLeftover
{
	struct DirLeftover *next;
	uint64_t size;
	bool removed;
	char name[256]; /* below the directory */
} DirLeftover;

/*
 * Files that nobody writes any more: not locked, and an hour old.  A list that the caller frees, perhaps incomplete for lack of memory.
 * The store is a directory.
 */
extern DirLeftover *dir_leftovers(Store *store, bool remove);

#endif
