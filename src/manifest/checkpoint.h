/*
 * checkpoint.h: making the next checkpoint from its parent and the manifests since.
 *
 * Only the pages that those manifests touch are read and written anew; the others are shared with the parent.
 */
#ifndef S3AM_CHECKPOINT_H
#define S3AM_CHECKPOINT_H

#include "manifest/committer.h"

typedef struct CheckpointBuild CheckpointBuild;

typedef struct CheckpointConfig
{
	void *arg;
	/* The end, exactly once; the build is gone then.  published: it is the newest now.  error: NULL, or for people. */
	void (*done)(void *arg, bool published, const char *error);
	size_t max_delta; /* bytes of changes to hold; what is more goes into the next one; default 64 MB */
	size_t page_bytes; /* of a leaf, about; default 128 kB */
	size_t inside_bytes; /* a tree that small is kept within what refers to it; default 2 kB */
	size_t fanout; /* children of an inner page; default 500 */
	uint64_t outcome_retention_ms;
	uint64_t swept; /* segments dropped up to this version were deleted by a sweep (collect.h) */
} CheckpointConfig;

/* NULL: there is nothing to do (no version since the last one, or this process has no epoch). */
extern CheckpointBuild *
checkpoint_begin(const CheckpointConfig *config, Committer *c, Store *store, const uint8_t uuid[16]);

/* Now and then: begins what there was no memory for.  NULL is fine.  True: there is more to do, at once; b may have ended, see done(). */
extern bool checkpoint_tick(CheckpointBuild *b);

/* Ends it without done(): before the committer is destroyed. */
extern void checkpoint_cancel(CheckpointBuild *b);

/* Pages numbered from here on may belong to the build: not to be deleted. */
extern uint64_t checkpoint_first_page(const CheckpointBuild *b);

#endif
