/*
 * tree.h: reading the pages of a checkpoint.
 */
#ifndef S3AM_TREE_H
#define S3AM_TREE_H

#include "store/store.h"
#include "manifest/s3am.pb-c.h"

typedef struct TreeWalk TreeWalk;

typedef struct TreeVisitor
{
	void *arg;
	/* Is anything of this page, of keys first <= key < end, wanted?  NULL: all is. */
	bool (*want)(void *arg, const S3am__PageRef *ref, uint64_t first, uint64_t end);
	/* A page, before its children.  True: the visitor keeps it and frees it (never one that is inside its parent). */
	bool (*page)(void *arg, const S3am__PageRef *ref, S3am__Page *page, uint64_t first, uint64_t end);
	/* The end, exactly once, perhaps from within tree_run(): error NULL, or what is wrong with which object. */
	void (*done)(void *arg, StoreStatus status, const char *error);
} TreeVisitor;

/*
 * Walks a tree in order, a page at a time.  `root` must live until done() and is NULL for an empty tree.  tree_cancel() ends the walk
 * without done(), and may be called from within page().
 */
extern TreeWalk *tree_walk(Store *store, const uint8_t uuid[16], const S3am__PageRef *root, const TreeVisitor *visitor);
extern void tree_cancel(TreeWalk *walk);

/* tree_walk() does nothing by itself: call this after it, and it goes on by itself while there are pages to read. */
extern void tree_run(TreeWalk *walk);

/* Now and then: asks again for what there was no memory to ask for.  Calls nothing. */
extern void tree_tick(TreeWalk *walk);

#endif
