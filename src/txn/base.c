/*
 * base.c: up to which version a claim holds (rule 15).
 *
 * A version may become visible step by step (rule 25).  While only some of its steps are, a base must not say that it has been
 * looked at: a later step may change the very row.  So bases are whole versions.  They may be too old by one for a moment, which
 * only makes validation look at a version again.
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "node/state.h"
#include "txn/txn.h"

/* How long a commit waits for the rest of a version that it has seen a part of. */
#define WHOLE_WAIT_MS 1000

uint64
txn_base(S3Node *node)
{
	return POS_WHOLE(pg_atomic_read_u64(&node->published));
}

uint64
txn_base_of_position(S3Node *node, uint64 pos)
{
	/* its last step, if all of the version is known */
	if (pg_atomic_read_u64(&node->published) >= POS(POS_VERSION(pos), POS_STEP_MAX) && !state_step_follows(node, pos))
		return POS_VERSION(pos);
	return POS_WHOLE(pos);
}

/*
 * A base that has the version of which `seen` is a part.  Whoever waited for a transaction with an xid of its own goes on as soon as that
 * xid has ended, a moment before the publisher says so: a base from before that would make a conflict of what was waited for.  The wait
 * is bounded, since a later step of that version may itself wait for a lock of ours.
 */
static uint64
base_with(S3Node *node, uint64 seen)
{
	uint64 whole = POS(POS_VERSION(seen), POS_STEP_MAX);

	if (pg_atomic_read_u64(&node->published) < whole)
	{
		TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WHOLE_WAIT_MS);

		ConditionVariablePrepareToSleep(&node->published_cv);
		while (pg_atomic_read_u64(&node->published) < whole && GetCurrentTimestamp() < until)
			(void) ConditionVariableTimedSleep(&node->published_cv, WHOLE_WAIT_MS / 10, PG_WAIT_EXTENSION);
		ConditionVariableCancelSleep();
	}
	return txn_base(node);
}

uint64
txn_base_for_commit(S3Node *node)
{
	return base_with(node, state_visible_pos(node, GetLatestSnapshot()));
}

uint64
txn_base_now(S3Node *node)
{
	return base_with(node, state_current_pos(node));
}
