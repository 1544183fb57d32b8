/*
 * fetch.c: rows by TID.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "s3am.h"
#include "table/table.h"
#include "txn/rowlock.h"
#include "txn/txn.h"

static bool
fetch_row(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	TableView *view = view_for_fetch(rel, snapshot);
	uint64 row = tid_to_row(tid);
	RowState state;
	const BatchEntry *batch;

	Assert(snapshot != NULL);
	if (snapshot->snapshot_type == SNAPSHOT_DIRTY)
	{
		/* callers pass these uninitialised; nothing here is ever in progress elsewhere */
		snapshot->xmin = snapshot->xmax = InvalidTransactionId;
		snapshot->speculativeToken = 0;
	}
	state = view_row_state(view, row, &batch);
	/* a row that may come to be there later is claimed with its table */
	if (view->type == SNAPSHOT_MVCC && IsolationIsSerializable() && !IsParallelWorker() && !ROW_IS_OWN(row))
	{
		if (state == ROW_ABSENT)
			txn_read_table(rel, view->pos);
		else
			txn_read_row(rel, row, view->pos);
	}
	if (state != ROW_VISIBLE)
		return false;
	return view_fetch(view, rel, row, batch, slot);
}

static bool
tuple_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	txn_check_doomed();
	return fetch_row(rel, tid, snapshot, slot);
}

static bool
tuple_tid_valid(TableScanDesc scan, ItemPointer tid)
{
	return ItemPointerIsValid(tid) && ItemPointerGetOffsetNumberNoCheck(tid) <= ROWS_PER_BLOCK;
}

/* Follows updates to the newest version that the scan's snapshot sees. */
static void
tuple_get_latest_tid(TableScanDesc scan, ItemPointer tid)
{
	TableView *view = view_for_fetch(scan->rs_rd, scan->rs_snapshot);
	ItemPointerData current = *tid;

	if (view->type == SNAPSHOT_MVCC && IsolationIsSerializable() && !IsParallelWorker())
		txn_read_table(scan->rs_rd, view->pos);
	for (;;)
	{
		uint64 row = tid_to_row(&current);
		OwnEnd own_end;
		RowEnd end;
		ItemPointerData next;
		const BatchEntry *batch;

		if (view_row_state(view, row, &batch) == ROW_VISIBLE)
			*tid = current;
		if (txn_row_end(view->own, row, &own_end))
			txn_next_tid(row, &own_end, &next);
		else if (!ROW_IS_OWN(row) && view->table && state_row_ended(view->node, view->table, row, &end) &&
				 end.successor != ROW_NONE && end.successor != ROW_MOVED)
			row_to_tid(end.successor - 1, &next);
		else
			break;
		if (ItemPointerIndicatesMovedPartitions(&next) || ItemPointerEquals(&next, &current))
			break;
		current = next;
	}
}

static bool
tuple_satisfies_snapshot(Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	TableView *view = view_for_fetch(rel, snapshot);
	const BatchEntry *batch;

	return view_row_state(view, tid_to_row(&slot->tts_tid), &batch) == ROW_VISIBLE;
}

bool
table_row_is_live(Relation rel, uint64 row)
{
	const BatchEntry *batch;

	return view_row_state(view_for_fetch(rel, SnapshotSelf), row, &batch) == ROW_VISIBLE;
}

/* Nothing is dead to everyone until segments are merged. */
static TransactionId
index_delete_tuples(Relation rel, TM_IndexDeleteOp *delstate)
{
	delstate->ndeltids = 0;
	return InvalidTransactionId;
}

static struct IndexFetchTableData *
index_fetch_begin(Relation rel)
{
	IndexFetchTableData *data = palloc0(sizeof(IndexFetchTableData));

	data->rel = rel;
	return data;
}

static void
index_fetch_reset(struct IndexFetchTableData *data)
{
}

static void
index_fetch_end(struct IndexFetchTableData *data)
{
	pfree(data);
}

/*
 * ON CONFLICT and logical replication look for a row by its key with SnapshotDirty, and wait for who is about to remove it or to change its key.
 * Core waits for the xid that the snapshot brings; here there is none, so the wait is here.
 */
static void
wait_for_remover(Relation rel, uint64 row)
{
	uint64 storage;

	if (ROW_IS_OWN(row) || !table_row_is_live(rel, row))
		return;
	storage = storage_of(rel).storage;
	while (rowlock_conflicts(storage, row, LockTupleKeyShare))
	{
		(void) rowlock_acquire(rel, storage, row, LockTupleKeyShare, LockWaitBlock, txn_base(node_wait_ready()));
		rowlock_release(storage, row, LockTupleKeyShare);
	}
}

static bool
index_fetch_tuple(struct IndexFetchTableData *data, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot,
				  bool *call_again, bool *all_dead)
{
	*call_again = false;
	if (all_dead)
		*all_dead = false;
	if (snapshot && snapshot->snapshot_type == SNAPSHOT_DIRTY)
		wait_for_remover(data->rel, tid_to_row(tid));
	return fetch_row(data->rel, tid, snapshot, slot);
}

void
fetch_callbacks(TableAmRoutine *routine)
{
	routine->tuple_fetch_row_version = tuple_fetch_row_version;
	routine->tuple_tid_valid = tuple_tid_valid;
	routine->tuple_get_latest_tid = tuple_get_latest_tid;
	routine->tuple_satisfies_snapshot = tuple_satisfies_snapshot;
	routine->index_delete_tuples = index_delete_tuples;
	routine->index_fetch_begin = index_fetch_begin;
	routine->index_fetch_reset = index_fetch_reset;
	routine->index_fetch_end = index_fetch_end;
	routine->index_fetch_tuple = index_fetch_tuple;
}
