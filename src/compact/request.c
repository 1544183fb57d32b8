/*
 * request.c: sessions that wait for compaction: VACUUM, and writers while memory for small batches is short.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "compact/compact.h"
#include "node/request.h"
#include "s3am.h"

#define IMPATIENT_MS 60000 /* that autovacuum waits */
#define WAIT_MS 1000
#define START_MS 5000 /* that VACUUM waits for the process */

static bool
is_running(S3Node *node)
{
	return s3am_compaction && node->compaction.procno >= 0 && pg_atomic_read_u32(&node->phase) == NODE_READY;
}

/* Has work on the table failed since then?  Then why. */
static bool
has_failed(S3Node *node, TableState *table, TimestampTz since, char *why)
{
	bool failed;

	SpinLockAcquire(&node->mutex);
	failed = node->compaction.failed_storage == table->storage && node->compaction.failed_at > since;
	if (failed)
		strlcpy(why, node->compaction.error, sizeof(node->compaction.error));
	SpinLockRelease(&node->mutex);
	return failed;
}

const char *
compact_table(S3Node *node, TableState *table, bool patient)
{
	TimestampTz start = GetCurrentTimestamp(), checked = start;
	char failure[sizeof(node->compaction.error)];
	uint64 ticket;

	if (!s3am_compaction)
		return "s3am.compaction is off.";
	if (pg_atomic_read_u32(&node->phase) != NODE_READY)
		return "This server does not write to the repository.";
	/* it may be about to start */
	while (node->compaction.procno < 0)
	{
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), START_MS))
			return "There is no worker for it; max_worker_processes may be too small.";
		node_doing(DOING_ROOM);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	ticket = pg_atomic_add_fetch_u64(&table->compact_wanted, 1);
	node_wake(node->compaction.procno);
	ConditionVariablePrepareToSleep(&node->compaction.cv);
	while (pg_atomic_read_u64(&table->compact_done) < ticket && table->dropped == 0)
	{
		TimestampTz now;

		node_doing(DOING_ROOM);
		(void) ConditionVariableTimedSleep(&node->compaction.cv, WAIT_MS, PG_WAIT_EXTENSION);
		now = GetCurrentTimestamp();
		if (has_failed(node, table, start, failure) || !is_running(node) ||
			(!patient && TimestampDifferenceExceeds(start, now, IMPATIENT_MS)))
			break;
		if (TimestampDifferenceExceeds(checked, now, DeadlockTimeout))
		{
			/* what is waited for waits for us: the work goes on without us */
			if (request_blocks_publisher(node))
				break;
			checked = now;
		}
	}
	ConditionVariableCancelSleep();
	/* a ticket is answered even if the work failed */
	return has_failed(node, table, start, failure) ? pstrdup(failure) : NULL;
}

uint64
compact_dead_rows(S3Node *node, TableState *table)
{
	uint32 count;
	const BatchArray *batches = state_batches(node, table, &count);
	BatchTotals totals;
	uint64 live = pg_atomic_read_u64(&table->next_row) - pg_atomic_read_u64(&table->deleted);

	state_total(node, batches, count, &totals);
	return totals.rows > live ? totals.rows - live : 0;
}

void
compact_wait_for_room(S3Node *node)
{
	uint64 limit = (uint64) s3am_unmerged_memory * 1024;
	uint64 passes;
	TimestampTz start, checked;

	if (limit == 0 || pg_atomic_read_u64(&node->small_bytes) <= limit || !is_running(node))
		return;
	passes = pg_atomic_read_u64(&node->compaction.passes);
	start = checked = GetCurrentTimestamp();
	ConditionVariablePrepareToSleep(&node->compaction.cv);
	/* two passes: the first may have looked at a table before it came to need it */
	while (pg_atomic_read_u64(&node->small_bytes) > limit && is_running(node) &&
		   pg_atomic_read_u64(&node->compaction.passes) < passes + 2)
	{
		/* a compactor that stands still slows writers down, and fails none of them */
		if (s3am_commit_timeout > 0 && TimestampDifferenceExceeds(start, GetCurrentTimestamp(), s3am_commit_timeout))
			break;
		/* it may have gone to sleep after the first */
		node_wake(node->compaction.procno);
		node_doing(DOING_ROOM);
		(void) ConditionVariableTimedSleep(&node->compaction.cv, WAIT_MS, PG_WAIT_EXTENSION);
		if (TimestampDifferenceExceeds(checked, GetCurrentTimestamp(), DeadlockTimeout))
		{
			if (request_blocks_publisher(node))
				break;
			checked = GetCurrentTimestamp();
		}
	}
	ConditionVariableCancelSleep();
}
