/*
 * freshness.c: waiting for the newest version before a transaction's first snapshot.
 *
 * Core has no hook before a snapshot, so there are three cases.
 *
 * BEGIN, and SET TRANSACTION and SET before the first query: the wait is there, no snapshot exists, no lock is held.
 *
 * An implicit READ COMMITTED transaction: its first statement has a snapshot when the executor or a utility command starts,
 * which is where the wait is; the statement then gets a new snapshot in its place.  It holds locks on its relations, so
 * the wait looks out for the publisher waiting for them (request_head).
 *
 * An implicit REPEATABLE READ or SERIALIZABLE transaction keeps the snapshot that it has.  The former is refused.  The latter
 * is validated before it commits: by its manifest if it writes, else by freshness_reads_hold(), and
 * by the committer if a table was changed in which it read.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/parallel.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "ddl/ddl.h"
#include "node/request.h"
#include "node/state.h"
#include "s3am.h"
#include "txn/freshness.h"

static ProcessUtility_hook_type prev_process_utility;
static LocalTransactionId fresh_transaction; /* whose first snapshot is not older than a head probed in it */

static bool
is_fresh(void)
{
	return MyProc->lxid == fresh_transaction;
}

static bool
is_wanted(void)
{
	return (s3am_freshness == FRESHNESS_LATEST || IsolationIsSerializable()) && IsTransactionState() && !is_fresh() &&
		   !IsParallelWorker() && !node_serving && !ddl_is_internal();
}

/* Waits, unless this database has nothing to do with s3am. */
static void
wait_for_head(void)
{
	if (node_of_database(MyDatabaseId) == NULL && !node_database_bound())
		return;
	(void) request_head(node_wait_ready());
	fresh_transaction = MyProc->lxid;
}

/* The statement that is about to run goes on with a newer snapshot. */
static void
renew_active_snapshot(void)
{
	if (!ActiveSnapshotSet())
		return;
	PopActiveSnapshot();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (ActivePortal && ActivePortal->portalSnapshot)
		ActivePortal->portalSnapshot = GetActiveSnapshot();
}

void
freshness_executor_start(QueryDesc *query)
{
	if (!is_wanted() || IsolationUsesXactSnapshot())
		return;
	wait_for_head();
	if (is_fresh() && query->snapshot && ActiveSnapshotSet() && query->snapshot == GetActiveSnapshot())
	{
		UnregisterSnapshot(query->snapshot);
		query->snapshot = NULL;
		renew_active_snapshot();
		query->snapshot = RegisterSnapshot(GetActiveSnapshot());
	}
}

/* Does a command's result depend on the snapshot that it runs under? */
static bool
reads(const Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CopyStmt:
		case T_CreateTableAsStmt:
		case T_RefreshMatViewStmt:
		case T_ExplainStmt:
		case T_ExecuteStmt:
		case T_DeclareCursorStmt:
		case T_CallStmt:
		case T_DoStmt:
			return true;
		default:
			return false;
	}
}

static bool
begins_or_sets(const Node *statement)
{
	if (IsA(statement, TransactionStmt))
		return ((const TransactionStmt *) statement)->kind == TRANS_STMT_BEGIN ||
			   ((const TransactionStmt *) statement)->kind == TRANS_STMT_START;
	return IsA(statement, VariableSetStmt);
}

static void
process_utility(PlannedStmt *pstmt, const char *source, bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	const Node *statement = pstmt->utilityStmt;

	if (reads(statement) && is_wanted() && !IsolationUsesXactSnapshot())
	{
		wait_for_head();
		if (is_fresh())
			renew_active_snapshot();
	}
	if (prev_process_utility)
		prev_process_utility(pstmt, source, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, source, read_only_tree, context, params, env, dest, qc);

	/* after BEGIN or SET, which say what is wanted, and before any snapshot */
	if (begins_or_sets(statement) && IsTransactionBlock() && !FirstSnapshotSet && !ActiveSnapshotSet() &&
		!IsAbortedTransactionBlockState() && is_wanted())
		wait_for_head();
}

void
freshness_check(void)
{
	if (s3am_freshness == FRESHNESS_LATEST && is_wanted() && IsolationUsesXactSnapshot() && !IsolationIsSerializable())
		ereport(
			ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("s3am.freshness = latest cannot be had: this REPEATABLE READ transaction has its snapshot already"),
			 errhint("Begin it with BEGIN ISOLATION LEVEL REPEATABLE READ, or set s3am.freshness = local.")));
}

bool
freshness_reads_hold(S3Node *node, const S3am__Txn *txn)
{
	if (is_fresh())
		return true; /* a snapshot of a serial history is a place in it */
	(void) request_head(node);
	for (size_t i = 0; i < txn->n_reads; i++)
	{
		TableState *table = state_table(node, txn->reads[i]->storage);

		if (table && pg_atomic_read_u64(&table->changed) > POS(txn->reads[i]->base_version, POS_STEP_MAX))
			return false;
	}
	return true;
}

void
freshness_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
