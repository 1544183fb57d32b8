/*
 * claim.h: what an index scan of a SERIALIZABLE transaction claims.
 */
#ifndef S3AM_INDEX_CLAIM_H
#define S3AM_INDEX_CLAIM_H

#include "postgres.h"

#include "index/index.h"
#include "txn/reads.h"

typedef struct ScanClaim
{
	RangeRead read;
	KeyRange range; /* the bounds */
	int nequal; /* columns that are the same in all of it */
	bool forward;
	bool whole; /* it is not known any more how far the scan came */
} ScanClaim;

/* A scan begins at one of these bounds, or at the end where one is NULL; what it did before it did to the end. */
extern void claim_begin(ScanClaim *claim, IndexMeta *meta, uint64 pos, int nequal, const IndexBound *low,
						const IndexBound *high, bool forward);
/* It turned, or went back: what it claims is all between its bounds. */
extern void claim_whole(ScanClaim *claim);
/* It ended with the search's current entry (reached), or to the end.  Nothing happens if it claims nothing. */
extern void claim_end(ScanClaim *claim, IndexSearch *search, bool reached);

#endif
