/*
 * view.c: what a snapshot sees of one table, and reading single rows.
 *
 * Rows live in two places: the node's committed state, seen up to a position, and the transaction's own buffer, seen by command
 * ids.  A committed row that the transaction removed is in both.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "node/bucket.h"
#include "s3am.h"
#include "table/table.h"

/* A segment that a reader is open on: what its fetch function needs. */
typedef struct SegmentHandle
{
	char		key[64];
} SegmentHandle;

static const uint8 *
fetch_range(void *arg, uint64 offset, Size len)
{
	SegmentHandle *handle = arg;
	Size		got;
	uint8	   *data = bucket_read(handle->key, offset, len, &got);

	if (got != len)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("object \"%s\" of the repository is shorter than its manifest says", handle->key),
				 errdetail("Wanted %zu bytes at " UINT64_FORMAT ", got %zu.", len, offset, got)));
	return data;
}

void
view_open(TableView *view, Relation rel, Snapshot snapshot)
{
	StorageId	id = storage_of(rel);

	memset(view, 0, sizeof(*view));
	view->node = node_wait_ready();
	txn_begin_use(view->node);
	view->storage = id.storage;
	view->table = state_table(view->node, id.storage);
	view->own = txn_table(id.storage);
	view->snapshot = snapshot;
	view->type = snapshot ? snapshot->snapshot_type : SNAPSHOT_SELF;
	view->open_batch = -1;
	view->desc = RelationGetDescr(rel);
	view->cxt = CurrentMemoryContext;
	if (view->type == SNAPSHOT_MVCC)
	{
		view->pos = state_visible_pos(view->node, snapshot);
		view->curcid = snapshot->curcid;
	}
	else
	{
		view->pos = pg_atomic_read_u64(&view->node->published);
		view->curcid = GetCurrentCommandId(false);
	}
	if (view->table)
		view->batches = state_batches(view->node, view->table, &view->nbatches);
	if (view->type == SNAPSHOT_MVCC && view->table && view->table->same_rows && view->table->created > view->pos)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: table \"%s\" was rewritten after this transaction's snapshot",
						RelationGetRelationName(rel)),
				 errdetail("CLUSTER or VACUUM FULL moved its rows."),
				 errhint("The transaction might succeed if retried.")));
}

/* A table may get rows of our own after the view was opened. */
void
view_refresh_own(TableView *view)
{
	if (view->own == NULL)
		view->own = txn_table(view->storage);
}

void
view_close(TableView *view)
{
	if (view->reader)
		row_reader_free(view->reader);
	if (view->own_reader)
		row_reader_free(view->own_reader);
	view->reader = view->own_reader = NULL;
	view->open_batch = -1;
	view->open_segment = 0;
}

static RowState
own_row_state(TableView *view, uint64 row)
{
	OwnEnd		end;
	bool		ended;

	view_refresh_own(view);
	if (!txn_has_row(view->own, row))
		return ROW_ABSENT;
	if (view->type == SNAPSHOT_ANY || view->type == SNAPSHOT_NON_VACUUMABLE)
		return ROW_VISIBLE;
	ended = txn_row_end(view->own, row, &end);
	if (view->type == SNAPSHOT_MVCC)
		return ownrows_cmin(&view->own->rows, row - OWN_BASE) < view->curcid && (!ended || end.cmax >= view->curcid)
			? ROW_VISIBLE : ROW_INVISIBLE;
	return ended ? ROW_INVISIBLE : ROW_VISIBLE;
}

RowState
view_row_state(TableView *view, uint64 row, int *batch)
{
	RowEnd		end;
	OwnEnd		own_end;
	int			b;

	*batch = -1;
	if (ROW_IS_OWN(row))
		return own_row_state(view, row);
	if (view->table == NULL)
		return ROW_ABSENT;
	b = state_find_batch(view->batches, view->nbatches, row);
	if (b < 0)
	{
		/* perhaps it came after the view was opened */
		view->batches = state_batches(view->node, view->table, &view->nbatches);
		b = state_find_batch(view->batches, view->nbatches, row);
		if (b < 0)
			return ROW_ABSENT;
	}
	*batch = b;
	if (view->type == SNAPSHOT_ANY)
		return ROW_VISIBLE;
	if (view->type != SNAPSHOT_MVCC)
		view->pos = pg_atomic_read_u64(&view->node->published);
	if (view->batches->entries[b].pos > view->pos)
		return ROW_INVISIBLE;
	if (state_row_ended(view->node, view->table, row, &end) && end.pos <= view->pos)
		return ROW_INVISIBLE;
	view_refresh_own(view);
	if (txn_row_end(view->own, row, &own_end) && (view->type != SNAPSHOT_MVCC || own_end.cmax < view->curcid))
		return ROW_INVISIBLE;
	return ROW_VISIBLE;
}

static RowReader *
open_segment(TableView *view, uint64 epoch, uint64 number, uint64 size, uint32 footer_size)
{
	SegmentHandle *handle = palloc(sizeof(SegmentHandle));

	bucket_segment_key(epoch, number, handle->key, sizeof(handle->key));
	return row_reader_open_segment(view->desc, fetch_range, handle, handle->key, bucket_repository_uuid(), epoch,
								   number, size, footer_size, view->cxt);
}

static void
open_reader(TableView *view, int batch)
{
	const BatchEntry *entry = &view->batches->entries[batch];
	MemoryContext old;

	if (view->open_batch == batch && view->reader)
		return;
	if (view->reader)
		row_reader_free(view->reader);
	view->reader = NULL;
	old = MemoryContextSwitchTo(view->cxt);
	if (DsaPointerIsValid(entry->blob))
		view->reader = row_reader_open_inline(view->desc, dsa_get_address(node_dsa(view->node), entry->blob),
											  entry->len, view->cxt);
	else
		view->reader = open_segment(view, entry->epoch, entry->number, entry->size, entry->footer_size);
	MemoryContextSwitchTo(old);
	view->open_batch = batch;
}

/* Own rows that are not in memory any more. */
static void
fetch_uploaded(TableView *view, uint64 n, TupleTableSlot *slot)
{
	OwnSegment *segment = ownrows_segment(&view->own->rows, n);

	if (view->open_segment != segment->number || view->own_reader == NULL)
	{
		MemoryContext old;

		if (view->own_reader)
			row_reader_free(view->own_reader);
		view->own_reader = NULL;
		/* it may still be on its way */
		bucket_segment_wait_all();
		old = MemoryContextSwitchTo(view->cxt);
		view->own_reader = open_segment(view, segment->epoch, segment->number, segment->size, segment->footer_size);
		MemoryContextSwitchTo(old);
		view->open_segment = segment->number;
	}
	row_reader_get(view->own_reader, n - segment->first, slot->tts_tupleDescriptor->natts, slot->tts_values,
				   slot->tts_isnull, slot->tts_mcxt);
}

static void
fetch_own(TableView *view, Relation rel, uint64 row, TupleTableSlot *slot)
{
	OwnRows    *rows = &view->own->rows;
	uint64		n = row - OWN_BASE;
	CommandId	cmin = ownrows_cmin(rows, n);

	if (n < rows->in_memory)
	{
		fetch_uploaded(view, n, slot);
		slot_store_own(slot, rel, row, cmin);
	}
	else
	{
		MinimalTuple tuple = ownrows_tuple(rows, n);
		HeapTupleData heap;

		heap.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET;
		heap.t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET);
		ItemPointerSetInvalid(&heap.t_self);
		heap.t_tableOid = InvalidOid;
		heap_deform_tuple(&heap, view->desc, slot->tts_values, slot->tts_isnull);
		slot_store_own(slot, rel, row, cmin);
		/* rows leave memory whenever others are added, perhaps before the slot is used */
		ExecMaterializeSlot(slot);
	}
}

/* ALTER TABLE reads a table as it was before, through a slot of the old type. */
static void
use_desc(TableView *view, Relation rel, TupleDesc desc)
{
	TupleDesc	wanted = desc == view->desc || desc == RelationGetDescr(rel) || equalTupleDescs(desc, RelationGetDescr(rel))
		? RelationGetDescr(rel) : desc;

	if (view->desc == wanted)
		return;
	view_close(view);
	view->desc = wanted;
}

void
view_fetch(TableView *view, Relation rel, uint64 row, int batch, TupleTableSlot *slot)
{
	ExecClearTuple(slot);
	if (slot->tts_tupleDescriptor != view->desc)
		use_desc(view, rel, slot->tts_tupleDescriptor);
	if (ROW_IS_OWN(row))
		fetch_own(view, rel, row, slot);
	else
	{
		const BatchEntry *entry = &view->batches->entries[batch];

		open_reader(view, batch);
		row_reader_get(view->reader, row - entry->first_row, slot->tts_tupleDescriptor->natts, slot->tts_values,
					   slot->tts_isnull, slot->tts_mcxt);
		slot_store(slot, rel, row, entry->xmin);
	}
}

/* ------------------------------------------------------------------------------------ single rows */

#define FETCH_VIEWS 8

typedef struct FetchView
{
	Oid			relid;
	TupleDesc	desc;
	TableView	view;
	MemoryContext cxt;
	int			busy;			/* a row is being read: stays, whatever runs meanwhile */
} FetchView;

static FetchView fetch_views[FETCH_VIEWS];
static int	next_fetch_view;
static bool forget_pending;

static void
relation_changed(Datum arg, Oid relid)
{
	/* not now: a view may be in use further up the stack */
	forget_pending = true;
}

/* The views' memory goes with the transaction's. */
static void
transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE ||
		event == XACT_EVENT_PARALLEL_COMMIT || event == XACT_EVENT_PARALLEL_ABORT)
	{
		memset(fetch_views, 0, sizeof(fetch_views));
		forget_pending = false;
	}
}

/* Own rows that a reader is open on may be gone. */
static void
subtransaction_ended(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_pending = true;
}

void
view_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
}

static void
forget_views(void)
{
	forget_pending = false;
	for (int i = 0; i < FETCH_VIEWS; i++)
	{
		if (fetch_views[i].busy)
			forget_pending = true;
		else if (fetch_views[i].cxt)
		{
			MemoryContextDelete(fetch_views[i].cxt);
			memset(&fetch_views[i], 0, sizeof(FetchView));
		}
	}
}

/* An entry that may be used anew. */
static FetchView *
free_view(void)
{
	for (int i = 0; i < FETCH_VIEWS; i++)
	{
		FetchView  *fv = &fetch_views[next_fetch_view++ % FETCH_VIEWS];

		if (fv->busy)
			continue;
		if (fv->cxt)
			MemoryContextDelete(fv->cxt);
		memset(fv, 0, sizeof(*fv));
		return fv;
	}
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("reading rows of s3am tables is nested too deeply"),
			 errdetail("An input function of a column's type reads such a table, and so on.")));
}

void
view_fetch_single(TableView *view, Relation rel, uint64 row, int batch, TupleTableSlot *slot)
{
	FetchView  *fv = (FetchView *) ((char *) view - offsetof(FetchView, view));

	/* input functions of domains and the like may run queries of their own */
	fv->busy++;
	PG_TRY();
	{
		view_fetch(view, rel, row, batch, slot);
		/* the reader moves on before the slot is used */
		ExecMaterializeSlot(slot);
	}
	PG_FINALLY();
	{
		fv->busy--;
	}
	PG_END_TRY();
}

TableView *
view_for_fetch(Relation rel, Snapshot snapshot)
{
	FetchView  *fv = NULL;
	MemoryContext old;

	if (forget_pending)
		forget_views();
	for (int i = 0; i < FETCH_VIEWS; i++)
		if (fetch_views[i].cxt && fetch_views[i].relid == RelationGetRelid(rel) &&
			fetch_views[i].desc == RelationGetDescr(rel))
			fv = &fetch_views[i];
	if (fv == NULL)
	{
		fv = free_view();
		fv->cxt = AllocSetContextCreate(TopTransactionContext, "s3am row reader", ALLOCSET_SMALL_SIZES);
		old = MemoryContextSwitchTo(fv->cxt);
		view_open(&fv->view, rel, snapshot);
		MemoryContextSwitchTo(old);
		fv->relid = RelationGetRelid(rel);
		fv->desc = RelationGetDescr(rel);
	}
	else
	{
		TableView  *view = &fv->view;

		/* the same table under another snapshot; an open reader stays */
		view->snapshot = snapshot;
		view->type = snapshot->snapshot_type;
		if (view->table == NULL)
		{
			view->table = state_table(view->node, view->storage);
			if (view->table)
				view->batches = state_batches(view->node, view->table, &view->nbatches);
		}
		if (view->type == SNAPSHOT_MVCC)
		{
			view->pos = state_visible_pos(view->node, snapshot);
			view->curcid = snapshot->curcid;
		}
		else
		{
			view->pos = pg_atomic_read_u64(&view->node->published);
			view->curcid = GetCurrentCommandId(false);
		}
	}
	return &fv->view;
}
