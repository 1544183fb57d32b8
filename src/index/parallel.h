/*
 * parallel.h: CREATE INDEX by several processes.
 */
#ifndef S3AM_INDEX_PARALLEL_H
#define S3AM_INDEX_PARALLEL_H

#include "index/index.h"
#include "index/sort.h"

typedef struct BuildCount
{
	double rows, entries; /* of the table; of the index, which may be partial */
	uint64 end_row; /* behind the last row that was found */
} BuildCount;

/* Gives the entries of the table's rows to the sort: of all rows, or of those that `scan` finds. */
extern void build_scan(Relation heap, Relation index, IndexInfo *info, IndexMeta *meta, EntrySort *sort,
					   TableScanDesc scan, BuildCount *count);

typedef struct ParallelBuild ParallelBuild;
/*
 * Reads the table and sorts, with workers; what is sorted is in *sort, as after entry_sort_perform(), until the build ends.  NULL: no workers are
 * to be had, or it is not worth them.
 */
extern ParallelBuild *
parallel_build(Relation heap, Relation index, IndexInfo *info, IndexMeta *meta, EntrySort **sort, BuildCount *count);
/* After the sort has ended. */
extern void parallel_build_end(ParallelBuild *build);

#endif
