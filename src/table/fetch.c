/*
 * fetch.c: rows by TID.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "s3am.h"
#include "table/table.h"
#include "txn/rowlock.h"
#include "txn/txn.h"

static bool
fetch_row(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot, bool by_index, ReadAhead *wanted)
{
	TableView *view = view_for_fetch(rel, snapshot);
	uint64 row = tid_to_row(tid);
	RowState state;
	const BatchEntry *batch;
	OwnEnd end;

	Assert(snapshot != NULL);
	if (snapshot->snapshot_type == SNAPSHOT_DIRTY)
	{
		/* callers pass these uninitialised; nothing here is ever in progress elsewhere */
		snapshot->xmin = snapshot->xmax = InvalidTransactionId;
		snapshot->speculativeToken = 0;
	}
	state = view_row_state(view, row, &batch);
	/* a row that may come to be there later is claimed with all others, or by the index scan that led to it */
	if (view->type == SNAPSHOT_MVCC && IsolationIsSerializable() && !IsParallelWorker() && !ROW_IS_OWN(row))
	{
		if (state == ROW_VISIBLE)
			txn_read_row(rel, row, view->pos);
		else if (!by_index && (batch == NULL || batch->pos > view->pos))
			txn_read_absent(rel, view->pos);
	}
	if (state != ROW_VISIBLE || !view_fetch_ahead(view, rel, row, batch, slot, wanted))
		return false;
	/* DELETE ... RETURNING fetches what it has removed */
	if (view->type == SNAPSHOT_ANY && txn_row_end(view->own, row, &end))
		slot_mark_held(slot);
	return true;
}

static bool
tuple_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	txn_check_doomed();
	return fetch_row(rel, tid, snapshot, slot, false, NULL);
}

/* As in heap: is it in a block that the table has? */
static bool
tuple_tid_valid(TableScanDesc scan, ItemPointer tid)
{
	uint64 row;
	TableView *view;

	if (!ItemPointerIsValid(tid) || ItemPointerGetOffsetNumberNoCheck(tid) > ROWS_PER_BLOCK)
		return false;
	row = tid_to_row(tid);
	if (ROW_IS_OWN(row))
		return true;
	view = view_for_fetch(scan->rs_rd, scan->rs_snapshot);
	if (view->table && row / ROWS_PER_BLOCK * ROWS_PER_BLOCK < pg_atomic_read_u64(&view->table->next_row))
		return true;
	if (view->type == SNAPSHOT_MVCC && IsolationIsSerializable() && !IsParallelWorker())
		txn_read_absent(scan->rs_rd, view->pos);
	return false;
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
	uint64 row = tid_to_row(&slot->tts_tid);
	const BatchEntry *batch;

	if (view_row_state(view, row, &batch) != ROW_VISIBLE)
		return false;
	/* ON CONFLICT DO NOTHING relies on the row that is in its way */
	if (view->type == SNAPSHOT_MVCC && IsolationIsSerializable() && !IsParallelWorker() && !ROW_IS_OWN(row))
		txn_read_row(rel, row, view->pos);
	return true;
}

bool
table_row_is_live(Relation rel, uint64 row)
{
	const BatchEntry *batch;

	return view_row_state(view_for_fetch(rel, SnapshotSelf), row, &batch) == ROW_VISIBLE;
}

bool
table_row_is_newer(Relation rel, uint64 row, Snapshot snapshot)
{
	const BatchEntry *batch;

	return view_row_state(view_for_fetch(rel, snapshot), row, &batch) != ROW_VISIBLE;
}

/* Nothing is dead to everyone until segments are merged. */
static TransactionId
index_delete_tuples(Relation rel, TM_IndexDeleteOp *delstate)
{
	delstate->ndeltids = 0;
	return InvalidTransactionId;
}

/* Committed rows, neighbours, and which of them a snapshot does not see: that does not change (ViewStretch). */
typedef struct Known
{
	Snapshot snapshot;
	CommandId curcid;
	uint64 first, end; /* first = end: none */
	bool all; /* it sees all of them */
	uint64 unseen[ENDED_WORDS]; /* else: a bit for each */
} Known;

typedef struct S3IndexFetch
{
	IndexFetchTableData base;
	bool
		told; /* that the snapshot sees the row whose entry the index gave last, to who wants no more of it than that */
	uint64 row;
	uint64 stretch; /* the last row was in this one, row / ENDED_ROWS */
	Known *known; /* of an index-only scan */
	bool read; /* a page, since that was asked last */
	ReadAhead *wanted; /* NULL: nothing yet */
} S3IndexFetch;

static struct IndexFetchTableData *
index_fetch_begin(Relation rel)
{
	S3IndexFetch *fetch = palloc0(sizeof(S3IndexFetch));

	fetch->base.rel = rel;
	fetch->stretch = PG_UINT64_MAX;
	return &fetch->base;
}

/* Looks at all neighbours of a row that the snapshot sees, which is in `batch`, at once. */
static void
get_to_know(Known *known, TableView *view, const BatchEntry *batch, uint64 row)
{
	known->first = batch->first_row;
	known->end = batch->first_row + batch->nrows;
	known->all = true;
	if (pg_atomic_read_u64(&view->table->deleted) == 0)
		return;
	known->first = Max(known->first, row / ENDED_ROWS * ENDED_ROWS);
	known->end = Min(known->end, (row / ENDED_ROWS + 1) * ENDED_ROWS);
	memset(known->unseen, 0, sizeof(known->unseen));
	known->all =
		!state_rows_ended(view->node, view->table, known->first, known->end - known->first, view->pos, known->unseen);
}

EntrySeen
table_entry_seen(struct IndexFetchTableData *data, Snapshot snapshot, uint64 row)
{
	S3IndexFetch *fetch = (S3IndexFetch *) data;
	Known *known = fetch->known;
	const BatchEntry *batch;
	TableView *view;

	fetch->told = false;
	if (known && row >= known->first && row < known->end && known->snapshot == snapshot &&
		known->curcid == snapshot->curcid)
	{
		uint64 i = row - known->first;

		if (!known->all && (known->unseen[i / 64] >> i % 64 & 1))
			return ENTRY_UNSEEN;
		fetch->told = true;
		fetch->row = row;
		return ENTRY_SEEN;
	}
	/* SERIALIZABLE claims what it sees when it fetches it */
	if (snapshot->snapshot_type != SNAPSHOT_MVCC || IsolationIsSerializable())
		return ENTRY_UNKNOWN;
	view = view_for_fetch(data->rel, snapshot);
	if (view_row_state(view, row, &batch) != ROW_VISIBLE)
		return ENTRY_UNSEEN;
	/* of rows of which only the number is left the page may be the only one to know */
	if (batch && batch->gone > 0)
		return ENTRY_UNKNOWN;
	fetch->told = true;
	fetch->row = row;
	/* the next one is likely to be near if this one was; what the transaction has removed itself is not looked at all at once */
	if (batch && (fetch->stretch == row / ENDED_ROWS || pg_atomic_read_u64(&view->table->deleted) == 0) &&
		(view->own == NULL || ownends_count(view->own->ends) == 0))
	{
		if (known == NULL)
			known = fetch->known = MemoryContextAlloc(GetMemoryChunkContext(fetch), sizeof(Known));
		known->first = known->end = 0;
		get_to_know(known, view, batch, row);
		known->snapshot = snapshot;
		known->curcid = snapshot->curcid;
	}
	fetch->stretch = row / ENDED_ROWS;
	return ENTRY_SEEN;
}

static void
index_fetch_reset(struct IndexFetchTableData *data)
{
	S3IndexFetch *fetch = (S3IndexFetch *) data;

	if (fetch->wanted)
		read_ahead_release(fetch->wanted);
	/* what a lookup reads says nothing of the next one */
	fetch->read = false;
	/* another snapshot may be where this one was */
	if (fetch->known)
		fetch->known->first = fetch->known->end = 0;
}

static void
index_fetch_end(struct IndexFetchTableData *data)
{
	index_fetch_reset(data);
	pfree(data);
}

bool
table_fetches_read(struct IndexFetchTableData *data)
{
	S3IndexFetch *fetch = (S3IndexFetch *) data;
	bool read = fetch->read;

	fetch->read = false;
	return read;
}

bool
table_fetch_soon(struct IndexFetchTableData *data, Snapshot snapshot, uint64 row)
{
	S3IndexFetch *fetch = (S3IndexFetch *) data;
	TableView *view = view_for_fetch(data->rel, snapshot);

	if (view->table == NULL)
		return true;
	if (fetch->wanted == NULL)
	{
		fetch->wanted = MemoryContextAlloc(GetMemoryChunkContext(fetch), sizeof(ReadAhead));
		read_ahead_init(fetch->wanted, NULL, NULL);
	}
	return view_want(view, row, fetch->wanted);
}

/*
 * ON CONFLICT, EXCLUDE and logical replication look for a row by its key with SnapshotDirty, and wait for who is about to remove it or to change its
 * key.  Core waits for the xid that the snapshot brings; here there is none, so the wait is here.
 */
void
table_wait_for_row(Relation rel, uint64 row, LockTupleMode mode)
{
	uint64 storage;

	if (ROW_IS_OWN(row) || !table_row_is_live(rel, row))
		return;
	storage = storage_of(rel).storage;
	while (rowlock_conflicts(storage, row, mode))
	{
		(void) rowlock_acquire(rel, storage, row, mode, LockWaitBlock, txn_base(node_wait_ready()));
		rowlock_release(storage, row, mode);
	}
}

static bool
index_fetch_tuple(struct IndexFetchTableData *data, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot,
				  bool *call_again, bool *all_dead)
{
	S3IndexFetch *fetch = (S3IndexFetch *) data;
	uint64 loaded;
	bool found;

	*call_again = false;
	if (all_dead)
		*all_dead = false;
	if (fetch->told)
	{
		fetch->told = false;
		if (fetch->row == tid_to_row(tid))
			return true;
	}
	if (snapshot && snapshot->snapshot_type == SNAPSHOT_DIRTY)
		table_wait_for_row(data->rel, tid_to_row(tid), LockTupleKeyShare);
	loaded = row_pages_loaded;
	found = fetch_row(data->rel, tid, snapshot, slot, true, fetch->wanted);
	fetch->read |= loaded != row_pages_loaded;
	return found;
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
