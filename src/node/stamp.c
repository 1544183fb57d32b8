/*
 * stamp.c: which versions a snapshot sees (rule 24).
 *
 * Each entry of the ring says that what came up to a position became visible when an xid committed.  Entries are added by the
 * publisher before that xid ends, and one xid ends before the next entry is added, so the entries that a snapshot sees are a
 * prefix, found by bisection.  Entries whose xid every snapshot sees fall off the ring: their position is `frozen`.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"

#include "node/state.h"

static bool
stamp_visible(TransactionId xid, Snapshot snapshot)
{
	if (TransactionIdIsCurrentTransactionId(xid))
		return true;			/* the publisher itself, while it replays DDL */
	return !XidInMVCCSnapshot(xid, snapshot) && TransactionIdDidCommit(xid);
}

/*
 * The last position that an MVCC snapshot sees.  Costs one look at a snapshot-sized key if the snapshot is the one asked about
 * last.
 */
uint64
state_visible_pos(S3Node *node, Snapshot snapshot)
{
	static TransactionId last_xmin,
				last_xmax;
	static uint32 last_xcnt;
	static uint64 last_pos;
	uint64		first,
				next,
				low,
				high;
	uint64		pos;

	if (last_pos != 0 && snapshot->xmin == last_xmin && snapshot->xmax == last_xmax && snapshot->xcnt == last_xcnt &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return last_pos;

retry:
	next = pg_atomic_read_u64(&node->stamp_next);
	pg_read_barrier();
	first = pg_atomic_read_u64(&node->stamp_first);
	low = first;
	high = next;
	while (low < high)
	{
		uint64		mid = low + (high - low) / 2;

		if (stamp_visible(node->stamps[mid % STAMP_RING].xid, snapshot))
			low = mid + 1;
		else
			high = mid;
	}
	if (low > first)
		pos = node->stamps[(low - 1) % STAMP_RING].pos;
	else
	{
		pg_read_barrier();
		pos = pg_atomic_read_u64(&node->frozen);
	}
	pg_read_barrier();
	/* entries fall off only when every snapshot sees them; then frozen is the better answer */
	if (pg_atomic_read_u64(&node->stamp_first) > first && low <= pg_atomic_read_u64(&node->stamp_first))
		goto retry;
	last_xmin = snapshot->xmin;
	last_xmax = snapshot->xmax;
	last_xcnt = snapshot->xcnt;
	last_pos = pos;
	return pos;
}

/* The publisher, before its xid ends; it has made room by state_freeze(). */
void
state_stamp(S3Node *node, uint64 pos, TransactionId xid)
{
	uint64		next = pg_atomic_read_u64(&node->stamp_next);
	Stamp	   *stamp = &node->stamps[next % STAMP_RING];

	stamp->pos = pos;
	stamp->xid = xid;
	pg_write_barrier();
	pg_atomic_write_u64(&node->stamp_next, next + 1);
}

void
state_unstamp(S3Node *node)
{
	pg_atomic_fetch_sub_u64(&node->stamp_next, 1);
}

void
state_unstamp_aborted(S3Node *node)
{
	uint64		next = pg_atomic_read_u64(&node->stamp_next);

	if (next > pg_atomic_read_u64(&node->stamp_first) &&
		!TransactionIdIsInProgress(node->stamps[(next - 1) % STAMP_RING].xid) &&
		!TransactionIdDidCommit(node->stamps[(next - 1) % STAMP_RING].xid))
		state_unstamp(node);
}

/* Lets entries fall off that every snapshot sees. */
void
state_freeze(S3Node *node)
{
	uint64		first = pg_atomic_read_u64(&node->stamp_first);
	uint64		next = pg_atomic_read_u64(&node->stamp_next);
	TransactionId horizon;

	if (first == next)
		return;
	horizon = GetOldestNonRemovableTransactionId(NULL);
	while (first < next && TransactionIdPrecedes(node->stamps[first % STAMP_RING].xid, horizon))
	{
		if (TransactionIdDidCommit(node->stamps[first % STAMP_RING].xid))
			pg_atomic_write_u64(&node->frozen, node->stamps[first % STAMP_RING].pos);
		pg_write_barrier();
		pg_atomic_write_u64(&node->stamp_first, ++first);
	}
}
