/*
 * ownrows.h: the rows that the current transaction added to one storage.
 *
 * They are numbered in the order of their insertion.  Row data are in memory, in blocks, or, the older ones of a large
 * transaction, in segments that it uploaded; which is always a prefix.  A rolled back subtransaction's rows are always the tail.
 */
#ifndef S3AM_OWNROWS_H
#define S3AM_OWNROWS_H

#include "postgres.h"

#include "access/htup_details.h"

#include "segment/batch.h"
#include "txn/cmins.h"

typedef struct OwnSegment
{
	uint64 first; /* number of its first row */
	uint64 valid; /* of its rows; those behind were rolled back, their numbers given again */
	uint64 nrows; /* that the object has */
	uint64 epoch, number, size, live_bytes;
	uint32 footer_size;
	uint32 npages;
	const PageStart *pages; /* these and the schema live as long as the transaction's rows */
	const PackedSchema *schema;
	int64 final; /* while the record is built: where its rows stand in the edit; -1 nowhere */
} OwnSegment;

typedef struct OwnRows
{
	MemoryContext cxt;
	uint64 nrows;
	uint64 in_memory; /* number of the first row in memory */
	Size memory; /* of the blocks */
	OwnSegment *segments;
	int nsegments, segments_capacity;
	struct OwnBlock **blocks;
	uint32 nblocks, blocks_capacity, last_block; /* looked up last */
	Cmins cmins;
} OwnRows;

/* Memory of the blocks of all OwnRows of this process. */
extern Size ownrows_total_memory;

/* All OwnRows are gone with the context that they were in, which is one for all. */
extern void ownrows_reset(void);

extern void ownrows_init(OwnRows *rows, MemoryContext cxt);
extern uint64 ownrows_add(OwnRows *rows, MinimalTuple tuple, CommandId cmin);
/* The same, of values.  False: nothing was added, some are in a TOAST table. */
extern bool ownrows_form(OwnRows *rows, TupleDesc desc, Datum *values, bool *nulls, CommandId cmin);
extern CommandId ownrows_cmin(OwnRows *rows, uint64 n);
/* Of a row in memory; valid until rows are uploaded or rolled back. */
extern MinimalTuple ownrows_tuple(OwnRows *rows, uint64 n);
/* The same; NULL if some values in it are compressed, or may be. */
extern MinimalTuple ownrows_simple(OwnRows *rows, uint64 n);
/* Of a row that is not. */
extern OwnSegment *ownrows_segment(OwnRows *rows, uint64 n);

/* Forgets row n and all after it.  Segments that have no row left then are handed to `drop`. */
typedef void (*OwnSegmentDrop)(const OwnSegment *segment);
extern void ownrows_truncate(OwnRows *rows, uint64 n, OwnSegmentDrop drop);

/* Where a portion of `bytes` that begins with the first row in memory ends: number of the row after it, at a block's end. */
extern uint64 ownrows_portion(OwnRows *rows, Size bytes);
/*
 * Where the block ends that holds row n, the first of its rows that the caller has not seen; adds what they take to *bytes.  n itself: no
 * block is complete there.
 */
extern uint64 ownrows_block_end(OwnRows *rows, uint64 n, Size *bytes);
/*
 * The oldest rows in memory are in this segment now, and leave it block by block.  Blocks are kept for rows to come as long as all take no
 * more than `most` bytes.
 */
extern void ownrows_uploaded(OwnRows *rows, const OwnSegment *segment, Size most);
/* The record has all that are left, and nobody looks at them again. */
extern void ownrows_written(OwnRows *rows);

#endif
