/*
 * modify.c: insert, delete, update and lock rows.
 *
 * A committed row is locked before it is looked at (rule 15); what the look finds decides: still there, or removed by a version
 * that the snapshot may not see, which is TM_Updated or TM_Deleted as in heap.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "s3am.h"
#include "table/table.h"
#include "txn/rowlock.h"

/* The slot's row as a tuple of its own, with nothing left in TOAST tables. */
static MinimalTuple
form_row(Relation rel, TupleTableSlot *slot, bool *should_free)
{
	MinimalTuple tuple = ExecFetchSlotMinimalTuple(slot, should_free);

	if (tuple->t_infomask & HEAP_HASEXTERNAL)
	{
		HeapTuple whole = heap_tuple_from_minimal_tuple(tuple);
		HeapTuple flat = toast_flatten_tuple(whole, RelationGetDescr(rel));

		if (*should_free)
			heap_free_minimal_tuple(tuple);
		tuple = minimal_tuple_from_heap_tuple(flat);
		*should_free = true;
		heap_freetuple(whole);
		heap_freetuple(flat);
	}
	return tuple;
}

static void
insert_row(Relation rel, TxnTable *table, TupleTableSlot *slot, CommandId cid)
{
	uint64 row;

	slot_getallattrs(slot);
	if (!txn_insert_values(rel, table, slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull, cid, &row))
	{
		bool should_free;
		MinimalTuple tuple = form_row(rel, slot, &should_free);

		row = txn_insert(rel, table, tuple, cid);
		if (should_free)
			heap_free_minimal_tuple(tuple);
	}
	row_to_tid(row, &slot->tts_tid);
	slot->tts_tableOid = RelationGetRelid(rel);
	slot_mark_own(slot, cid);
}

static TxnTable *
writable(Relation rel)
{
	S3Node *node = node_wait_ready();

	txn_begin_use(node);
	return txn_table_for_write(rel);
}

static void
tuple_insert(Relation rel, TupleTableSlot *slot, CommandId cid, int options, BulkInsertState bistate)
{
	insert_row(rel, writable(rel), slot, cid);
	pgstat_count_heap_insert(rel, 1);
}

static void
tuple_insert_speculative(Relation rel, TupleTableSlot *slot, CommandId cid, int options, BulkInsertState bistate,
						 uint32 token)
{
	/* nobody else sees it, and we do not before the next command */
	insert_row(rel, writable(rel), slot, cid);
	pgstat_count_heap_insert(rel, 1);
}

static void
tuple_complete_speculative(Relation rel, TupleTableSlot *slot, uint32 token, bool succeeded)
{
	if (!succeeded)
	{
		TxnTable *table = writable(rel);
		uint64 row = tid_to_row(&slot->tts_tid);

		txn_kill(table, row, ownrows_cmin(&table->rows, row - OWN_BASE));
		pgstat_count_heap_delete(rel);
	}
}

static void
multi_insert(Relation rel, TupleTableSlot **slots, int nslots, CommandId cid, int options, BulkInsertState bistate)
{
	TxnTable *table = writable(rel);

	for (int i = 0; i < nslots; i++)
		insert_row(rel, table, slots[i], cid);
	pgstat_count_heap_insert(rel, nslots);
}

/* Waits until a version that ended a row is visible to new snapshots. */
static void
wait_published(S3Node *node, uint64 pos)
{
	if (pg_atomic_read_u64(&node->published) >= pos)
		return;
	ConditionVariablePrepareToSleep(&node->published_cv);
	while (pg_atomic_read_u64(&node->published) < pos)
		ConditionVariableSleep(&node->published_cv, PG_WAIT_EXTENSION);
	ConditionVariableCancelSleep();
}

/* Where a row that we removed went. */
static void
fill_own_failure(TM_FailureData *tmfd, uint64 row, const OwnEnd *end)
{
	txn_next_tid(row, end, &tmfd->ctid);
	/* MERGE asks whether it is ours */
	tmfd->xmax = txn_own_xid();
	tmfd->cmax = end->cmax;
}

/* Finds the committed row; throws if there is none. */
static void
require_row(TableView *view, uint64 row)
{
	if (view->table && state_find_batch(view->node, view->batches, view->nbatches, row, NULL))
		return;
	if (view_has_row(view, row))
		return;
	/* the server may have gone on from a later checkpoint, which has not what older snapshots saw */
	txn_check_doomed();
	elog(ERROR, "attempted to change a row that does not exist");
}

/* Do two versions of a row differ in one of the columns?  By the bytes of values, as in heap. */
static bool
columns_differ(Relation rel, Bitmapset *columns, TupleTableSlot *old, TupleTableSlot *new)
{
	int i = -1;

	while ((i = bms_next_member(columns, i)) >= 0)
	{
		int att = i + FirstLowInvalidHeapAttributeNumber;
		Form_pg_attribute form = TupleDescAttr(RelationGetDescr(rel), att - 1);
		bool old_null, new_null;
		Datum a = slot_getattr(old, att, &old_null), b = slot_getattr(new, att, &new_null);

		if (old_null != new_null || (!old_null && !datum_image_eq(a, b, form->attbyval, form->attlen)))
			return true;
	}
	return false;
}

/* Columns that others may rely on: of unique indexes that a foreign key could refer to. */
static Bitmapset *
key_columns(Relation rel)
{
	return RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_KEY);
}

/* Does the new version of the row have another key? */
static bool
key_changes(Relation rel, TableView *view, uint64 row, TupleTableSlot *new)
{
	Bitmapset *keys = key_columns(rel);
	TupleTableSlot *old;
	const BatchEntry *batch;
	bool changed = false;

	if (bms_is_empty(keys))
		return false;
	if (view_row_state(view, row, &batch) == ROW_ABSENT)
		return false; /* whoever locks it says so */
	old = table_slot_create(rel, NULL);
	if (view_fetch(view, rel, row, batch, old))
		changed = columns_differ(rel, keys, old, new);
	ExecDropSingleTupleTableSlot(old);
	bms_free(keys);
	return changed;
}

static bool
fetch_any(TableView *view, Relation rel, uint64 row, TupleTableSlot *slot)
{
	const BatchEntry *batch;

	return view_row_state(view, row, &batch) != ROW_ABSENT && view_fetch(view, rel, row, batch, slot);
}

/* Has a later version of a row another key, or is it not known? */
static bool
key_has_changed(Relation rel, uint64 old, uint64 new)
{
	Bitmapset *keys = key_columns(rel);
	TableView *view;
	TupleTableSlot *slots[2];
	bool changed = true;

	if (bms_is_empty(keys))
		return false;
	view = view_for_fetch(rel, SnapshotAny);
	for (int i = 0; i < 2; i++)
		slots[i] = table_slot_create(rel, NULL);
	if (fetch_any(view, rel, old, slots[0]) && fetch_any(view, rel, new, slots[1]))
		changed = columns_differ(rel, keys, slots[0], slots[1]);
	for (int i = 0; i < 2; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	bms_free(keys);
	return changed;
}

/*
 * A row was updated, and somebody wants its key to stay.  If its updates left that alone he gets the old version, as in heap, and the lock goes to
 * the newest.  TM_Updated: that was deleted, or has another key.
 */
static TM_Result
lock_successor_key(Relation rel, TableView *view, uint64 old, const RowEnd *first, LockWaitPolicy policy)
{
	RowEnd end = *first;

	for (;;)
	{
		uint64 base = txn_base(view->node);
		uint64 row = end.successor - 1;
		OwnEnd own_end;

		if (end.successor == ROW_NONE || end.successor == ROW_MOVED)
			return TM_Updated;
		/* what we changed ourselves is locked */
		if (txn_row_end(view->own, row, &own_end))
			return key_has_changed(rel, old, row) ? TM_Updated : TM_Ok;
		pg_memory_barrier();
		if (state_row_ended(view->node, view->table, row, &end))
			continue;
		if (rowlock_acquire(rel, view->storage, row, LockTupleKeyShare, policy, base) == ROWLOCK_SKIPPED)
			return TM_WouldBlock;
		pg_memory_barrier();
		txn_check_doomed();
		if (!state_row_ended(view->node, view->table, row, &end))
		{
			if (!key_has_changed(rel, old, row))
				return TM_Ok;
			rowlock_release(view->storage, row, LockTupleKeyShare);
			return TM_Updated;
		}
		rowlock_release(view->storage, row, LockTupleKeyShare);
	}
}

/*
 * Locks a row in `mode` and tells what has become of it.  TM_Ok: it is there, and nobody else can change it before we end
 * (elsewhere: without our failing).
 */
static TM_Result
lock_row(Relation rel, TableView *view, uint64 row, CommandId cid, LockTupleMode mode, LockWaitPolicy policy,
		 TM_FailureData *tmfd)
{
	ItemPointerData tid;
	OwnEnd own_end;
	bool waited = false;

	row_to_tid(row, &tid);
	if (ROW_IS_OWN(row))
	{
		if (!txn_has_row(view->own, row))
			elog(ERROR, "attempted to change a row that is gone");
		if (ownrows_cmin(&view->own->rows, row - OWN_BASE) >= cid)
			return TM_Invisible;
	}
	if (txn_row_end(view->own, row, &own_end))
	{
		fill_own_failure(tmfd, row, &own_end);
		return own_end.cmax >= cid ? TM_SelfModified : TM_Invisible;
	}
	if (ROW_IS_OWN(row))
	{
		uint64 origin;

		/* others know it as the committed row that it was, which we hold; now perhaps in a stronger mode */
		if (txn_origin(view->own, row, &origin) &&
			rowlock_acquire(rel, view->storage, origin, mode, policy, txn_base(view->node)) == ROWLOCK_SKIPPED)
			return TM_WouldBlock;
		return TM_Ok;
	}
	require_row(view, row);
	for (;;)
	{
		uint64 base = txn_base(view->node);
		RowEnd end;

		pg_memory_barrier();
		if (state_row_ended(view->node, view->table, row, &end))
		{
			wait_published(view->node, end.pos);
			tmfd->xmax = InvalidTransactionId;
			tmfd->cmax = InvalidCommandId;
			if (end.successor == ROW_NONE)
			{
				tmfd->ctid = tid;
				return TM_Deleted;
			}
			if (end.successor == ROW_MOVED)
			{
				ItemPointerSetMovedPartitions(&tmfd->ctid);
				return TM_Updated;
			}
			row_to_tid(end.successor - 1, &tmfd->ctid);
			/* as in heap, whoever waited goes on with what came of the row: who changed it held it against the key's readers as well */
			return mode == LockTupleKeyShare && !waited ? lock_successor_key(rel, view, row, &end, policy) : TM_Updated;
		}
		switch (rowlock_acquire(rel, view->storage, row, mode, policy, base))
		{
			case ROWLOCK_SKIPPED:
				return TM_WouldBlock;
			case ROWLOCK_WAITED:
				waited = true;
				break;
			case ROWLOCK_GRANTED:
				break;
		}
		pg_memory_barrier();
		txn_check_doomed();
		if (!state_row_ended(view->node, view->table, row, &end))
			return TM_Ok;
		/* it ended meanwhile: the lock on it means nothing */
		rowlock_release(view->storage, row, mode);
	}
}

/*
 * The row of each table that was locked last.  In heap the new version of a row that its transaction had locked has that lock in xmax, which
 * ON CONFLICT DO UPDATE always does first: by RETURNING xmax = 0 applications tell whether a row was inserted.
 */
static struct
{
	uint64 storage, row;
	LocalTransactionId lxid;
} last_locked[16];

static void
note_locked(uint64 storage, uint64 row)
{
	int i = storage % lengthof(last_locked);

	last_locked[i].storage = storage;
	last_locked[i].row = row;
	last_locked[i].lxid = MyProc->lxid;
}

static bool
was_locked(uint64 storage, uint64 row)
{
	int i = storage % lengthof(last_locked);

	return last_locked[i].storage == storage && last_locked[i].row == row && last_locked[i].lxid == MyProc->lxid;
}

static TM_Result
tuple_delete(Relation rel, ItemPointer tid, CommandId cid, Snapshot snapshot, Snapshot crosscheck, bool wait,
			 TM_FailureData *tmfd, bool changing_part)
{
	TxnTable *table = writable(rel);
	uint64 row = tid_to_row(tid);
	TableView *view = view_for_fetch(rel, snapshot ? snapshot : SnapshotAny);
	TM_Result result;
	ItemPointerData next;

	view_refresh_own(view);
	result = lock_row(rel, view, row, cid, LockTupleExclusive, wait ? LockWaitBlock : LockWaitError, tmfd);
	if (result == TM_Ok && crosscheck != InvalidSnapshot)
	{
		TableView check;
		const BatchEntry *batch;

		view_open(&check, rel, crosscheck);
		if (view_row_state(&check, row, &batch) != ROW_VISIBLE)
			result = TM_Updated;
		view_close(&check);
	}
	if (result != TM_Ok)
		return result;
	next = *tid;
	if (changing_part)
		ItemPointerSetMovedPartitions(&next);
	txn_end(table, row, cid, true, changing_part ? &next : NULL);
	pgstat_count_heap_delete(rel);
	return TM_Ok;
}

static TM_Result
tuple_update(Relation rel, ItemPointer otid, TupleTableSlot *slot, CommandId cid, Snapshot snapshot,
			 Snapshot crosscheck, bool wait, TM_FailureData *tmfd, LockTupleMode *lockmode, bool *update_indexes)
{
	TxnTable *table = writable(rel);
	uint64 row = tid_to_row(otid);
	TableView *view = view_for_fetch(rel, snapshot ? snapshot : SnapshotAny);
	TM_Result result;

	view_refresh_own(view);
	*lockmode = key_changes(rel, view, row, slot) ? LockTupleExclusive : LockTupleNoKeyExclusive;
	result = lock_row(rel, view, row, cid, *lockmode, wait ? LockWaitBlock : LockWaitError, tmfd);
	if (result == TM_Ok && crosscheck != InvalidSnapshot)
	{
		TableView check;
		const BatchEntry *batch;

		view_open(&check, rel, crosscheck);
		if (view_row_state(&check, row, &batch) != ROW_VISIBLE)
			result = TM_Updated;
		view_close(&check);
	}
	if (result != TM_Ok)
		return result;
	insert_row(rel, table, slot, cid);
	if (was_locked(view->storage, row))
		slot_mark_held(slot);
	txn_end(table, row, cid, *lockmode == LockTupleExclusive, &slot->tts_tid);
	*update_indexes = true;
	pgstat_count_heap_update(rel, false);
	return TM_Ok;
}

/*
 * As heapam_tuple_lock: with TUPLE_LOCK_FLAG_FIND_LAST_VERSION it goes on to the newest version of a row that was updated
 * since.
 */
static TM_Result
tuple_lock(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot, CommandId cid, LockTupleMode mode,
		   LockWaitPolicy policy, uint8 flags, TM_FailureData *tmfd)
{
	S3Node *node = node_wait_ready();
	ItemPointerData current = *tid;
	bool traversed = false;

	txn_begin_use(node);
	tmfd->traversed = false;
	for (;;)
	{
		TableView *view = view_for_fetch(rel, snapshot ? snapshot : SnapshotAny);
		uint64 row = tid_to_row(&current);
		SnapshotType type;
		TM_Result result;
		const BatchEntry *batch;
		bool found;

		view_refresh_own(view);
		result = lock_row(rel, view, row, cid, mode, policy, tmfd);
		if (result == TM_Updated && (flags & TUPLE_LOCK_FLAG_FIND_LAST_VERSION))
		{
			if (ItemPointerIndicatesMovedPartitions(&tmfd->ctid))
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("tuple to be locked was already moved to another partition due to concurrent update")));
			current = tmfd->ctid;
			traversed = true;
			continue;
		}
		if (traversed && (result == TM_SelfModified || result == TM_Invisible))
		{
			/* somebody else's update led to a row that we changed */
			OwnEnd end;

			if (!txn_row_end(view->own, row, &end))
			{
				tmfd->xmax = txn_own_xid();
				tmfd->cmax = ownrows_cmin(&view->own->rows, row - OWN_BASE);
				return TM_SelfModified;
			}
			if (end.next == NEXT_NONE)
				return TM_Deleted;
			if (!NEXT_IS_ROW(end.next))
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("tuple to be locked was already moved to another partition due to concurrent update")));
			row_to_tid(OWN_BASE + end.next, &current);
			continue;
		}
		/* ON CONFLICT DO UPDATE asks who made a row that its own command does not see yet */
		if (result == TM_Ok || result == TM_Invisible)
		{
			*tid = current;
			view = view_for_fetch(rel, snapshot ? snapshot : SnapshotAny);
			type = view->type;
			view->type = SNAPSHOT_ANY;
			found = view_row_state(view, row, &batch) != ROW_ABSENT && view_fetch(view, rel, row, batch, slot);
			view->type = type;
			if (result == TM_Invisible)
				return result;
			if (!found)
				elog(ERROR, "locked row is gone");
			note_locked(view->storage, row);
			slot_mark_held(slot);
			if (view->type == SNAPSHOT_MVCC && IsolationIsSerializable() && !ROW_IS_OWN(row))
				txn_read_row(rel, row, view->pos);
			tmfd->traversed = traversed;
			return TM_Ok;
		}
		if (result == TM_Deleted && traversed)
			tmfd->traversed = true;
		return result;
	}
}

static void
finish_bulk_insert(Relation rel, int options)
{
}

void
modify_callbacks(TableAmRoutine *routine)
{
	routine->tuple_insert = tuple_insert;
	routine->tuple_insert_speculative = tuple_insert_speculative;
	routine->tuple_complete_speculative = tuple_complete_speculative;
	routine->multi_insert = multi_insert;
	routine->tuple_delete = tuple_delete;
	routine->tuple_update = tuple_update;
	routine->tuple_lock = tuple_lock;
	routine->finish_bulk_insert = finish_bulk_insert;
}
