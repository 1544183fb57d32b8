/*
 * stamp.c: which versions a snapshot sees (rule 24).
 *
 * Each entry of the ring says that what came up to a position became visible when an xid committed.  Entries are added by the
 * publisher before that xid ends, and one xid ends before the next entry is added, so the entries that a snapshot sees are a
 * prefix, found by bisection.  Entries whose xid every snapshot sees fall off the ring: their position is `frozen`.  An old
 * snapshot keeps all later ones, so the ring grows.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"

#include "node/state.h"

#define FIRST_CAPACITY 1024

static bool
stamp_visible(TransactionId xid, Snapshot snapshot)
{
	if (TransactionIdIsCurrentTransactionId(xid))
		return true; /* the publisher itself, while it replays DDL */
	return !XidInMVCCSnapshot(xid, snapshot) && TransactionIdDidCommit(xid);
}

static StampRing *
current_ring(S3Node *node)
{
	dsa_pointer p = *(volatile dsa_pointer *) &node->stamps;

	return DsaPointerIsValid(p) ? dsa_get_address(node_dsa(node), p) : NULL;
}

/*
 * The last position that an MVCC snapshot sees.  Costs one look at a snapshot-sized key if the snapshot is the one asked about
 * last.
 */
uint64
state_visible_pos(S3Node *node, Snapshot snapshot)
{
	static TransactionId last_xmin, last_xmax;
	static uint32 last_xcnt;
	static uint64 last_pos;
	uint64 first, next, low, high;
	uint64 pos;
	StampRing *ring;

	if (last_pos != 0 && snapshot->xmin == last_xmin && snapshot->xmax == last_xmax && snapshot->xcnt == last_xcnt &&
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return last_pos;

retry:
	/* the ring that is read after `next` has all entries below it */
	next = pg_atomic_read_u64(&node->stamp_next);
	pg_read_barrier();
	first = pg_atomic_read_u64(&node->stamp_first);
	ring = current_ring(node);
	low = first;
	high = next;
	while (low < high)
	{
		uint64 mid = low + (high - low) / 2;

		if (stamp_visible(ring->entries[mid % ring->capacity].xid, snapshot))
			low = mid + 1;
		else
			high = mid;
	}
	if (low > first)
		pos = ring->entries[(low - 1) % ring->capacity].pos;
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
	/* no snapshot lists this session's own xid: one from before its end looks like one from after it */
	last_pos = TransactionIdIsValid(GetTopTransactionIdIfAny()) ? 0 : pos;
	return pos;
}

/* The ring with room for one more entry.  Who still looks at an old one finds in it what it needs. */
static StampRing *
ring_with_room(S3Node *node)
{
	uint64 first = pg_atomic_read_u64(&node->stamp_first);
	uint64 next = pg_atomic_read_u64(&node->stamp_next);
	StampRing *ring = current_ring(node);
	StampRing *grown;
	dsa_pointer p;
	uint64 capacity;

	if (ring && next - first < ring->capacity)
		return ring;
	capacity = ring ? ring->capacity * 2 : FIRST_CAPACITY;
	p = dsa_allocate_extended(node_dsa(node), offsetof(StampRing, entries) + capacity * sizeof(Stamp),
							  DSA_ALLOC_HUGE | DSA_ALLOC_ZERO);
	grown = dsa_get_address(node_dsa(node), p);
	grown->capacity = capacity;
	if (ring)
	{
		for (uint64 i = first; i < next; i++)
			grown->entries[i % capacity] = ring->entries[i % ring->capacity];
		state_retire(node, node->stamps);
	}
	pg_write_barrier();
	node->stamps = p;
	return grown;
}

/* The publisher, before its xid ends. */
void
state_stamp(S3Node *node, uint64 pos, TransactionId xid)
{
	StampRing *ring = ring_with_room(node);
	uint64 next = pg_atomic_read_u64(&node->stamp_next);
	Stamp *stamp = &ring->entries[next % ring->capacity];

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
	uint64 next = pg_atomic_read_u64(&node->stamp_next);
	StampRing *ring = current_ring(node);
	TransactionId xid;

	if (next == pg_atomic_read_u64(&node->stamp_first))
		return;
	xid = ring->entries[(next - 1) % ring->capacity].xid;
	if (!TransactionIdIsInProgress(xid) && !TransactionIdDidCommit(xid))
		state_unstamp(node);
}

/*
 * What is committed just now.  Whoever waited for a transaction goes on when its xid has ended, a moment before the publisher says
 * so: what this session has seen committed, or committed itself, must not be missing.
 */
uint64
state_current_pos(S3Node *node)
{
	uint64 pos = pg_atomic_read_u64(&node->published);
	uint64 next = pg_atomic_read_u64(&node->stamp_next);
	uint64 first, i;
	StampRing *ring;

	pg_read_barrier();
	first = pg_atomic_read_u64(&node->stamp_first);
	ring = current_ring(node);
	for (i = next; i > first && ring->entries[(i - 1) % ring->capacity].pos > pos; i--)
		;
	for (; i < next; i++)
	{
		Stamp *stamp = &ring->entries[i % ring->capacity];

		if (TransactionIdIsInProgress(stamp->xid) || !TransactionIdDidCommit(stamp->xid))
			break;
		pos = stamp->pos;
	}
	return pos;
}

uint64
state_version_shown(S3Node *node)
{
	NodeBackend *me = node_backend(MyProc->pgprocno);
	bool pinned = pg_atomic_read_u64(&me->pin) != 0;
	uint64 pos;

	state_pin(node);
	pos = state_current_pos(node);
	/* whoever asks need not read anything, so nobody would unpin it for him */
	if (!pinned)
		pg_atomic_write_u64(&me->pin, 0);
	return POS_WHOLE(pos);
}

/* Is there a step of the same version after the position? */
bool
state_step_follows(S3Node *node, uint64 pos)
{
	uint64 next = pg_atomic_read_u64(&node->stamp_next);
	uint64 first;
	StampRing *ring;

	pg_read_barrier();
	first = pg_atomic_read_u64(&node->stamp_first);
	ring = current_ring(node);
	for (uint64 i = next; i > first; i--)
	{
		uint64 other = ring->entries[(i - 1) % ring->capacity].pos;

		if (other <= pos)
			return false;
		if (POS_VERSION(other) == POS_VERSION(pos))
			return true;
	}
	return false;
}

/* Lets entries fall off that every snapshot sees. */
void
state_freeze(S3Node *node)
{
	uint64 first = pg_atomic_read_u64(&node->stamp_first);
	uint64 next = pg_atomic_read_u64(&node->stamp_next);
	StampRing *ring = current_ring(node);
	TransactionId horizon;

	if (first == next)
		return;
	horizon = GetOldestNonRemovableTransactionId(NULL);
	while (first < next)
	{
		Stamp *stamp = &ring->entries[first % ring->capacity];

		if (!TransactionIdPrecedes(stamp->xid, horizon))
			break;
		if (TransactionIdDidCommit(stamp->xid))
			pg_atomic_write_u64(&node->frozen, stamp->pos);
		pg_write_barrier();
		pg_atomic_write_u64(&node->stamp_first, ++first);
	}
}
