/*
 * treebuild.h: a new tree of pages out of an old one and changes, copy on write.
 */
#ifndef S3AM_TREEBUILD_H
#define S3AM_TREEBUILD_H

#include "manifest/delta.h"
#include "manifest/s3am.pb-c.h"

/* Pages of the old tree that were read, and new ones that are to be written. */
typedef struct TreeBuild
{
	void *arg;
	uint64_t (*new_page)(void *arg);
	void (*write)(void *arg, uint64_t number, uint8_t *payload, size_t len); /* takes the payload */
	uint64_t epoch;
	size_t page_bytes, inside_bytes, fanout;
	Delta *delta;
	struct CachedPage *cache[1024];
	bool failed; /* a page that is needed was not read: a fault of ours */
} TreeBuild;

extern void treebuild_keep(TreeBuild *t, const S3am__PageRef *ref, S3am__Page *page); /* takes the page */
extern void treebuild_free(TreeBuild *t);

/* The new tree of tables; NULL: it is empty.  The old one is left as it is. */
extern S3am__PageRef *treebuild_tables(TreeBuild *t, const S3am__PageRef *old);
extern S3am__PageRef *treebuild_ddl(TreeBuild *t, const S3am__PageRef *old);

#endif
