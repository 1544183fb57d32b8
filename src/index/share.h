/*
 * share.h: one index scan by several processes.
 *
 * Those who take part in a scan divide the entries of one run among themselves, the largest one that they all have, portion by portion in the direction
 * of the scan.  With a portion go the entries of all other runs that lie between the same places of the order.  What the other runs are may differ
 * from one process to another, since runs are merged meanwhile: together they have the same entries of rows that the snapshot sees.
 */
#ifndef S3AM_INDEX_SHARE_H
#define S3AM_INDEX_SHARE_H

#include "postgres.h"

#include "access/genam.h"

#include "index/index.h"

struct SharedScan; /* in the memory of the parallel plan */

/* What one process knows of it. */
typedef struct ScanShare
{
	struct SharedScan *shared;
	IndexCursor *run; /* whose entries are divided; NULL: nothing is, and one process has all */
	bool out; /* this one takes no part */
	uint32 step; /* sets of elements of array keys that were gone through */
	bool bounded;
	uint64 first, end; /* of the run's entries, within the bounds of this step */
} ScanShare;

typedef enum ShareTaken
{
	SHARE_PART, /* the search has a window now: it is to be put at its beginning */
	SHARE_STEP, /* all of this step is taken: the next elements are to be bound, and share_step called */
	SHARE_NONE /* nothing is left for this process */
} ShareTaken;

/* For the access method: the room that it takes, how it begins, and that it begins anew. */
extern Size share_size(void);
extern void share_init(void *shared);
extern void share_restart(IndexScanDesc desc);

/* Takes part in the scan, whose search has just been opened or is as good as that. */
extern void share_join(ScanShare *share, IndexScanDesc desc, IndexSearch *search);
/* The next portion between these bounds, or NULL where there is none. */
extern ShareTaken
share_take(ScanShare *share, IndexSearch *search, const IndexBound *low, const IndexBound *high, bool forward);
extern void share_step(ScanShare *share);

#endif
