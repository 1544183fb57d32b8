/*
 * claim.c: what an index scan of a SERIALIZABLE transaction claims: the range between its bounds, or the part of it that it came through.
 * Rows that it finds are claimed where they are fetched.
 */
#include "postgres.h"

#include "utils/rel.h"

#include "index/claim.h"
#include "index/keyorder.h"

void
claim_begin(ScanClaim *claim, IndexMeta *meta, uint64 pos, int nequal, const IndexBound *low, const IndexBound *high,
			bool forward)
{
	if (!key_order_range(meta, nequal, low, high, &claim->range))
	{
		/* nothing can be there; what was claimed before stays */
		reads_end_range(&claim->read, NULL);
		return;
	}
	claim->nequal = nequal;
	claim->forward = forward;
	claim->whole = false;
	reads_begin_range(&claim->read, meta->index, pos, &claim->range);
}

void
claim_whole(ScanClaim *claim)
{
	claim->whole = true;
}

void
claim_end(ScanClaim *claim, IndexSearch *search, bool reached)
{
	KeyRange range = claim->range;
	Datum values[INDEX_MAX_KEYS];
	bool nulls[INDEX_MAX_KEYS];
	KeyEnd at;

	if (claim->read.number == 0)
		return;
	if (!reached || claim->whole)
	{
		reads_end_range(&claim->read, NULL);
		return;
	}
	for (int i = 0; i < search->meta->nkeys; i++)
		values[i] = search_value(search, ENTRY_KEY + i, &nulls[i]);
	/* entries that begin with the same bytes may have been passed */
	(void) key_order_put(key_order(search->meta), search->meta->nkeys, claim->nequal, values, nulls, &at);
	if (!claim->forward && key_end_compare(&at, &range.low) > 0)
		range.low = at;
	if (claim->forward)
	{
		key_end_of(&at, &at);
		if (key_end_compare(&at, &range.high) < 0)
			range.high = at;
	}
	reads_end_range(&claim->read, &range);
}
