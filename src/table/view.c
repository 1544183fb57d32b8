/*
 * view.c: what a snapshot sees of one table, and reading single rows.
 *
 * Rows live in two places: the node's committed state, seen up to a position, and the transaction's own buffer, seen by command
 * ids.  A committed row that the transaction removed is in both.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "storage/proc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "node/bucket.h"
#include "s3am.h"
#include "table/table.h"
#include "txn/used.h"

static bool plan_page(void *arg, uint64 row, BatchSource *source, uint32 *n);
static bool plan_own_page(void *arg, uint64 row, BatchSource *source, uint32 *n);

void
view_open(TableView *view, Relation rel, Snapshot snapshot)
{
	StorageId id = storage_of(rel);

	memset(view, 0, offsetof(TableView, ahead));
	view->node = node_wait_ready();
	txn_begin_use(view->node);
	used_note(id.table);
	view->storage = id.storage;
	view->table = state_table(view->node, id.storage);
	view->own = txn_table(id.storage);
	view->snapshot = snapshot;
	view->type = snapshot ? snapshot->snapshot_type : SNAPSHOT_SELF;
	view->page_batch = NULL;
	view->lxid = MyProc->lxid;
	read_ahead_init(&view->ahead, plan_page, view);
	read_ahead_init(&view->own_ahead, plan_own_page, view);
	view->ahead_end = PG_UINT64_MAX;
	if (view->type == SNAPSHOT_MVCC)
	{
		view->pos = state_visible_pos(view->node, snapshot);
		view->curcid = snapshot->curcid;
	}
	else
	{
		view->pos = state_current_pos(view->node);
		view->curcid = GetCurrentCommandId(false);
	}
	if (view->table)
		view_choose_batches(view, view->pos);
	if (view->type == SNAPSHOT_MVCC && view->table && view->table->same_rows && view->table->created > view->pos)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access: table \"%s\" was rewritten after this transaction's snapshot",
						RelationGetRelationName(rel)),
				 errdetail("CLUSTER or VACUUM FULL moved its rows."),
				 errhint("The transaction might succeed if retried.")));
}

/* The page is known by its batch's place in the array. */
static void
take_batches(TableView *view, const BatchArray *batches, uint32 count)
{
	view->nbatches = count;
	if (batches == view->batches)
		return;
	if (view->page)
		row_page_release(view->page);
	view->page = NULL;
	view->page_batch = NULL;
	view->batches = batches;
}

void
view_choose_batches(TableView *view, uint64 pos)
{
	uint32 count;
	uint64 until;
	const BatchArray *batches = state_batches_at(view->node, view->table, pos, &count, &until);

	take_batches(view, batches, count);
}

/*
 * A row that somebody knows the number of, whatever has become of it: compaction may have dropped it for those that see its end, and kept it
 * for those that do not.  Its batch in the oldest array that has it, or NULL.  When that array goes, what is known of the row's end goes first:
 * who finds a row here and not where his snapshot reads must not ask for that, and the view does not go on with that array.
 */
static const BatchEntry *
find_anywhere(const TableView *view, uint64 row)
{
	uint64 pos = 0;
	const BatchEntry *b;

	do
	{
		uint32 count;
		const BatchArray *batches = state_batches_at(view->node, view->table, pos, &count, &pos);

		b = state_find_batch(view->node, batches, count, row, NULL);
	} while (b == NULL && pos != PG_UINT64_MAX);
	return b;
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
	if (view->page)
		row_page_release(view->page);
	if (view->own_page)
		row_page_release(view->own_page);
	view->page = view->own_page = NULL;
	view->page_batch = NULL;
	read_ahead_release(&view->ahead);
	read_ahead_release(&view->own_ahead);
}

static void
view_memory_goes(void *arg)
{
	TableView *view = arg;

	if (view->lxid == MyProc->lxid)
		view_close(view);
}

void
view_guard(TableView *view, MemoryContext cxt)
{
	view->callback.func = view_memory_goes;
	view->callback.arg = view;
	MemoryContextRegisterResetCallback(cxt, &view->callback);
}

static RowState
own_row_state(TableView *view, uint64 row)
{
	OwnEnd end;
	bool ended;

	view_refresh_own(view);
	if (!txn_has_row(view->own, row))
		return ROW_ABSENT;
	if (view->type == SNAPSHOT_ANY || view->type == SNAPSHOT_NON_VACUUMABLE)
		return ROW_VISIBLE;
	ended = txn_row_end(view->own, row, &end);
	if (view->type == SNAPSHOT_MVCC)
		return ownrows_cmin(&view->own->rows, row - OWN_BASE) < view->curcid && (!ended || end.cmax >= view->curcid)
				   ? ROW_VISIBLE
				   : ROW_INVISIBLE;
	return ended ? ROW_INVISIBLE : ROW_VISIBLE;
}

bool
view_has_row(TableView *view, uint64 row)
{
	return view->table && find_anywhere(view, row) != NULL;
}

RowState
view_row_state(TableView *view, uint64 row, const BatchEntry **batch)
{
	RowEnd end;
	OwnEnd own_end;
	const BatchEntry *b;

	*batch = NULL;
	if (ROW_IS_OWN(row))
		return own_row_state(view, row);
	if (view->table == NULL)
		return ROW_ABSENT;
	if (view->type != SNAPSHOT_MVCC && view->type != SNAPSHOT_ANY)
		view->pos = state_current_pos(view->node);
	b = state_find_batch(view->node, view->batches, view->nbatches, row, &view->row_batch);
	if (b == NULL || (view->type != SNAPSHOT_ANY && b->pos > view->pos))
	{
		/* perhaps it came after the view was opened, or compaction put it where this snapshot does not look */
		view_choose_batches(view, view->pos);
		b = state_find_batch(view->node, view->batches, view->nbatches, row, &view->row_batch);
	}
	if (b == NULL)
	{
		*batch = find_anywhere(view, row);
		if (*batch == NULL)
			return ROW_ABSENT;
		/* it was dropped where the snapshot reads, and so had ended before that, whether or not that is still known */
		return view->type == SNAPSHOT_ANY ? ROW_VISIBLE : ROW_INVISIBLE;
	}
	*batch = b;
	if (view->type == SNAPSHOT_ANY)
		return ROW_VISIBLE;
	if (b->pos > view->pos)
		return ROW_INVISIBLE;
	if (state_row_ended(view->node, view->table, row, &end) && end.pos <= view->pos)
		return ROW_INVISIBLE;
	view_refresh_own(view);
	if (txn_row_end(view->own, row, &own_end) && (view->type != SNAPSHOT_MVCC || own_end.cmax < view->curcid))
		return ROW_INVISIBLE;
	return ROW_VISIBLE;
}

/* The first batch that ends behind `row`, or NULL. */
static const BatchEntry *
batch_after(TableView *view, uint64 row)
{
	return state_batch_after(view->node, view->batches, view->nbatches, row, &view->ahead_batch);
}

/* AheadPlan: of the committed rows that the snapshot sees, which are in segments. */
static bool
plan_page(void *arg, uint64 row, BatchSource *source, uint32 *n)
{
	TableView *view = arg;

	for (;;)
	{
		const BatchEntry *entry = batch_after(view, row);

		if (entry)
			row = Max(row, entry->first_row);
		if (entry == NULL || row >= view->ahead_end)
		{
			/* another stretch follows this one */
			if (view->ahead_more == NULL || !view->ahead_more(view) || row >= view->ahead_then_end)
				return false;
			row = Max(row, view->ahead_then);
			entry = batch_after(view, row);
			if (entry == NULL || Max(row, entry->first_row) >= view->ahead_then_end)
				return false;
			row = Max(row, entry->first_row);
		}
		if (DsaPointerIsValid(entry->blob) || !DsaPointerIsValid(entry->pages) ||
			(view->type == SNAPSHOT_MVCC && entry->pos > view->pos))
		{
			row = entry->first_row + entry->nrows;
			continue;
		}
		state_batch_source(view->node, entry, source);
		*n = batch_find_page(source, row - entry->first_row);
		return true;
	}
}

/* The page with row `row` of the batch, which the view keeps until another one is wanted. */
static RowPage *
find_page(TableView *view, const BatchEntry *batch, uint64 row, ReadAhead *wanted)
{
	BatchSource source;
	uint32 n = 0;

	if (view->page && view->page_batch == batch && row_page_holds(view->page, row))
		return view->page;
	if (view->page)
		row_page_release(view->page);
	view->page = NULL;
	state_batch_source(view->node, batch, &source);
	if (wanted && (source.pages == NULL || source.blob || row >= source.nrows ||
				   !read_ahead_has(wanted, &source, n = batch_find_page(&source, row))))
		wanted = NULL;
	view->page = row_page_read(&source, row, wanted ? wanted : &view->ahead, view->once ? &view->ring : NULL);
	view->page_batch = batch;
	view->page_schema = &((const SchemaEntry *) dsa_get_address(node_dsa(view->node), batch->schema))->schema;
	if (wanted)
		read_ahead_drop(wanted, &source, n);
	return view->page;
}

static void
fill_own_source(const TableView *view, const OwnSegment *segment, BatchSource *source)
{
	memset(source, 0, sizeof(*source));
	source->first = segment->first;
	source->nrows = segment->nrows;
	source->npages = segment->npages;
	source->pages = segment->pages;
	source->cache_owner = view->node->cache_owner;
	source->epoch = segment->epoch;
	source->number = segment->number;
	source->len = segment->size - segment->footer_size;
	source->identity = segment_identity(bucket_repository_uuid(), segment->epoch, segment->number);
}

/* AheadPlan: of own rows that are not in memory any more. */
static bool
plan_own_page(void *arg, uint64 row, BatchSource *source, uint32 *n)
{
	TableView *view = arg;
	OwnSegment *segment;

	if (view->own == NULL || row >= view->own->rows.in_memory)
		return false;
	segment = ownrows_segment(&view->own->rows, row);
	fill_own_source(view, segment, source);
	*n = batch_find_page(source, row - segment->first);
	return true;
}

/* The same for own rows that are not in memory any more. */
static RowPage *
find_own_page(TableView *view, const OwnSegment *segment, uint64 row)
{
	BatchSource source;

	if (view->own_page && view->own_segment == segment->number && row_page_holds(view->own_page, row))
		return view->own_page;
	if (view->own_page)
		row_page_release(view->own_page);
	view->own_page = NULL;
	/* it may still be on its way */
	bucket_segment_wait_all();
	fill_own_source(view, segment, &source);
	view->own_page = row_page_read(&source, row, &view->own_ahead, view->once ? &view->ring : NULL);
	view->own_segment = segment->number;
	return view->own_page;
}

static void
fetch_own(TableView *view, Relation rel, uint64 row, TupleTableSlot *slot)
{
	OwnRows *rows = &view->own->rows;
	uint64 n = row - OWN_BASE;
	CommandId cmin = ownrows_cmin(rows, n);

	if (n < rows->in_memory)
	{
		OwnSegment *segment = ownrows_segment(rows, n);

		slot_store_page(slot, rel, row, InvalidTransactionId, find_own_page(view, segment, n - segment->first),
						n - segment->first, segment->schema);
		slot_mark_own(slot, cmin);
	}
	else
	{
		MinimalTuple tuple = ownrows_tuple(rows, n);
		HeapTupleData heap;

		heap.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET;
		heap.t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET);
		ItemPointerSetInvalid(&heap.t_self);
		heap.t_tableOid = InvalidOid;
		/* the slot's descriptor: within ALTER TABLE the relation has the new one already */
		heap_deform_tuple(&heap, slot->tts_tupleDescriptor, slot->tts_values, slot->tts_isnull);
		slot_store_own(slot, rel, row, cmin);
		/* rows leave memory whenever others are added, perhaps before the slot is used */
		ExecMaterializeSlot(slot);
	}
	if (view->type == SNAPSHOT_ANY)
		slot_show_own_xid(slot);
}

static inline void
hide(ViewStretch *stretch, uint32 i)
{
	stretch->hidden[i / 64] |= UINT64CONST(1) << i % 64;
	stretch->some_hidden = true;
}

void
view_stretch(TableView *view, const BatchEntry *entry, uint64 row, ViewStretch *stretch)
{
	RowPage *page;
	uint32 words;

	Assert(view->type == SNAPSHOT_MVCC && entry->pos <= view->pos);
	/* nothing of the last page must be used if this throws */
	stretch->first = stretch->end = 0;
	page = find_page(view, entry, row - entry->first_row, NULL);
	words = (page->nrows + 63) / 64;
	if (words > stretch->words)
	{
		uint64 *hidden = MemoryContextAlloc(stretch->cxt, sizeof(uint64) * words);

		if (stretch->hidden)
			pfree(stretch->hidden);
		stretch->hidden = hidden;
		stretch->words = words;
	}
	row = entry->first_row + page->first_row;
	stretch->some_hidden = false;
	memset(stretch->hidden, 0, sizeof(uint64) * words);
	for (uint32 i = 0; i < page->nrows; i++)
		if (row_is_gone(page, page->first_row + i))
			hide(stretch, i);
	if (pg_atomic_read_u64(&view->table->deleted) > 0 &&
		state_rows_ended(view->node, view->table, row, page->nrows, view->pos, stretch->hidden))
		stretch->some_hidden = true;
	view_refresh_own(view);
	if (view->own && ownends_count(view->own->ends) > 0)
		for (uint32 i = 0; i < page->nrows; i++)
		{
			OwnEnd end;

			if (txn_row_end(view->own, row + i, &end) && end.cmax < view->curcid)
				hide(stretch, i);
		}
	stretch->page = page;
	stretch->batch_first = entry->first_row;
	stretch->schema = view->page_schema;
	stretch->xmin = entry->xmin;
	stretch->first = row;
	stretch->end = row + page->nrows;
}

bool
view_fetch(TableView *view, Relation rel, uint64 row, const BatchEntry *entry, TupleTableSlot *slot)
{
	return view_fetch_ahead(view, rel, row, entry, slot, NULL);
}

bool
view_want(TableView *view, uint64 row, ReadAhead *wanted)
{
	const BatchEntry *entry =
		ROW_IS_OWN(row) ? NULL : state_find_batch(view->node, view->batches, view->nbatches, row, NULL);
	BatchSource source;

	if (entry == NULL || DsaPointerIsValid(entry->blob) || !DsaPointerIsValid(entry->pages))
		return true;
	state_batch_source(view->node, entry, &source);
	return read_ahead_request(wanted, &source, batch_find_page(&source, row - entry->first_row));
}

bool
view_fetch_ahead(TableView *view, Relation rel, uint64 row, const BatchEntry *entry, TupleTableSlot *slot,
				 ReadAhead *wanted)
{
	if (ROW_IS_OWN(row))
	{
		ExecClearTuple(slot);
		fetch_own(view, rel, row, slot);
	}
	else
	{
		RowPage *page = find_page(view, entry, row - entry->first_row, wanted);

		if (row_is_gone(page, row - entry->first_row) && view->type == SNAPSHOT_ANY)
		{
			entry = find_anywhere(view, row);
			if (entry == NULL)
			{
				ExecClearTuple(slot);
				return false;
			}
			page = find_page(view, entry, row - entry->first_row, NULL);
		}
		if (row_is_gone(page, row - entry->first_row))
		{
			ExecClearTuple(slot);
			return false;
		}
		slot_store_page(slot, rel, row, entry->xmin, page, row - entry->first_row, view->page_schema);
	}
	return true;
}

/* ------------------------------------------------------------------------------------ single rows */

#define FETCH_VIEWS 8

typedef struct FetchView
{
	MemoryContext cxt; /* NULL: none */
	Oid relid;
	TupleDesc desc;
	TableView view;
} FetchView;

static FetchView fetch_views[FETCH_VIEWS];
static FetchView *last_fetch_view; /* whose snapshot was an MVCC one */
static TransactionId last_xmin, last_xmax; /* of that snapshot */
static uint32 last_xcnt;
static int next_fetch_view;
static bool forget_pending;

static void
relation_changed(Datum arg, Oid relid)
{
	/* not now: a view may be in use further up the stack */
	forget_pending = true;
}

/* The views' memory and pages go with the transaction's. */
static void
transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE ||
		event == XACT_EVENT_PARALLEL_COMMIT || event == XACT_EVENT_PARALLEL_ABORT)
	{
		/* they are large, and this is done for each transaction */
		for (int i = 0; i < FETCH_VIEWS; i++)
			fetch_views[i].cxt = NULL;
		last_fetch_view = NULL;
		forget_pending = false;
	}
}

/* Own rows whose page a view keeps may be gone, and their numbers be given to others. */
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
forget_view(FetchView *fv)
{
	if (fv->cxt)
	{
		view_close(&fv->view);
		MemoryContextDelete(fv->cxt);
	}
	fv->cxt = NULL;
	last_fetch_view = NULL;
}

/*
 * Whoever goes through an index asks for row after row of one table under one snapshot, and needs no other batches for each: those that a
 * snapshot reads stay, and what they lack is looked for by view_row_state().
 */
static inline bool
view_is_set_up(const FetchView *fv, Relation rel, Snapshot snapshot)
{
	return fv && !forget_pending && fv->relid == RelationGetRelid(rel) && fv->desc == RelationGetDescr(rel) &&
		   fv->view.snapshot == snapshot && snapshot->snapshot_type == SNAPSHOT_MVCC &&
		   fv->view.curcid == snapshot->curcid && fv->view.table && last_xmin == snapshot->xmin &&
		   last_xmax == snapshot->xmax && last_xcnt == snapshot->xcnt;
}

TableView *
view_for_fetch(Relation rel, Snapshot snapshot)
{
	FetchView *fv = NULL;
	MemoryContext old;

	if (view_is_set_up(last_fetch_view, rel, snapshot))
		return &last_fetch_view->view;
	last_fetch_view = NULL;
	if (forget_pending)
	{
		forget_pending = false;
		for (int i = 0; i < FETCH_VIEWS; i++)
			forget_view(&fetch_views[i]);
	}
	for (int i = 0; i < FETCH_VIEWS; i++)
		if (fetch_views[i].cxt && fetch_views[i].relid == RelationGetRelid(rel) &&
			fetch_views[i].desc == RelationGetDescr(rel))
			fv = &fetch_views[i];
	if (fv == NULL)
	{
		fv = &fetch_views[next_fetch_view++ % FETCH_VIEWS];
		forget_view(fv);
		fv->cxt = AllocSetContextCreate(TopTransactionContext, "s3am row reader", ALLOCSET_SMALL_SIZES);
		old = MemoryContextSwitchTo(fv->cxt);
		view_open(&fv->view, rel, snapshot);
		MemoryContextSwitchTo(old);
		fv->relid = RelationGetRelid(rel);
		fv->desc = RelationGetDescr(rel);
	}
	else
	{
		TableView *view = &fv->view;

		/* the same table under another snapshot; its page stays */
		view->snapshot = snapshot;
		view->type = snapshot->snapshot_type;
		if (view->table == NULL)
			view->table = state_table(view->node, view->storage);
		if (view->type == SNAPSHOT_MVCC)
		{
			view->pos = state_visible_pos(view->node, snapshot);
			view->curcid = snapshot->curcid;
		}
		else
		{
			view->pos = state_current_pos(view->node);
			view->curcid = GetCurrentCommandId(false);
		}
		/* who wants any version takes what is there, rather than change it between two rows of an UPDATE */
		if (view->table && (view->type != SNAPSHOT_ANY || view->batches == NULL))
			view_choose_batches(view, view->pos);
	}
	if (snapshot->snapshot_type == SNAPSHOT_MVCC)
	{
		last_fetch_view = fv;
		last_xmin = snapshot->xmin;
		last_xmax = snapshot->xmax;
		last_xcnt = snapshot->xcnt;
	}
	return &fv->view;
}
