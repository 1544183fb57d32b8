/*
 * fresh.h: the inline runs of an index, put together in memory.
 */
#ifndef S3AM_INDEX_FRESH_H
#define S3AM_INDEX_FRESH_H

#include "index/index.h"

typedef struct FreshRun
{
	dsa_pointer next; /* must be first: on its way to be freed */
	uint64 generation; /* TableState.generation */
	uint64 first, end; /* numbers of the entries: all inline batches that begin within are in it */
	uint32 n;
	uint32 offsets[FLEXIBLE_ARRAY_MEMBER]; /* of the tuples, from the block's beginning */
} FreshRun;

extern const FreshRun *fresh_find(S3Node *node, TableState *table, uint64 generation); /* or NULL */
/* Is the batch in it? */
extern bool fresh_has(const FreshRun *run, const BatchEntry *batch);
/* Makes one if there are many inline batches that none has; the one that is in force then, or NULL.  batches: all of that generation. */
extern const FreshRun *fresh_make(S3Node *node, TableState *table, uint64 generation, IndexMeta *meta,
								  const BatchEntry **batches, uint32 nbatches);
extern HeapTupleData fresh_tuple(const FreshRun *run, uint64 n);

#endif
