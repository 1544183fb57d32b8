/*
 * slot.c: tuple slots of s3am tables.
 *
 * A committed row stays in its page, of which the slot holds a reference, and is taken apart as far as somebody looks at it.  Any
 * other row is held as in a virtual slot.
 *
 * Applications keep xmin as a token that is good on every server, so an own row shows at once what it will show when it is committed. That
 * is no xid, for those of two servers are the same numbers.  Core asks for xmin to learn whether a row is the transaction's own, of rows
 * that it fetched with SnapshotAny or locked: there it gets the xid.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "table/table.h"

static Datum
getsysattr(TupleTableSlot *slot, int attnum, bool *isnull)
{
	S3Slot *s = (S3Slot *) slot;

	*isnull = false;
	switch (attnum)
	{
		case MinTransactionIdAttributeNumber:
			if (s->page && !s->own && s->cursor.map->xmin >= 0)
				return TransactionIdGetDatum(row_xmin(s->page, s->cursor.map, s->page_row));
			if (!s->own)
				return TransactionIdGetDatum(s->xmin);
			return TransactionIdGetDatum(s->own_xid ? txn_own_xid() : txn_own_xmin());
		case MaxTransactionIdAttributeNumber:
			return TransactionIdGetDatum(s->own_xmax ? txn_own_xid() : InvalidTransactionId);
		case MinCommandIdAttributeNumber:
			return CommandIdGetDatum(s->own ? s->cmin : FirstCommandId);
		case MaxCommandIdAttributeNumber:
			return CommandIdGetDatum(FirstCommandId);
		default:
			elog(ERROR, "unexpected system attribute %d", attnum);
	}
	return 0;
}

/* Pages and maps of an earlier transaction are gone. */
static inline bool
current(const S3Slot *s)
{
	return s->lxid == MyProc->lxid;
}

/* Of the row: those that are not in its page. */
static inline void
forget_values(S3Slot *s)
{
	if (s->cxt && (!s->cxt->isReset || s->cxt->firstchild))
		MemoryContextReset(s->cxt);
}

static void
drop_page(S3Slot *s)
{
	if (s->page)
	{
		if (current(s))
			row_page_release(s->page);
		s->page = NULL;
		forget_values(s);
	}
}

static void
clear(TupleTableSlot *slot)
{
	drop_page((S3Slot *) slot);
	TTSOpsVirtual.clear(slot);
}

/* An executor that an error ended clears no slot: its memory goes, and this context with it. */
static void
slot_memory_goes(void *arg)
{
	S3Slot *s = arg;

	if (s->page && current(s))
		row_page_release(s->page);
	s->page = NULL;
	s->guard = s->cxt = NULL;
}

static void
make_guard(S3Slot *s)
{
	s->guard = AllocSetContextCreate(s->base.base.tts_mcxt, "s3am slot", ALLOCSET_SMALL_SIZES);
	s->callback.func = slot_memory_goes;
	s->callback.arg = s;
	MemoryContextRegisterResetCallback(s->guard, &s->callback);
	s->cxt = AllocSetContextCreate(s->guard, "s3am slot values", ALLOCSET_SMALL_SIZES);
}

static void
release(TupleTableSlot *slot)
{
	S3Slot *s = (S3Slot *) slot;

	if (s->guard)
		MemoryContextDelete(s->guard);
	TTSOpsVirtual.release(slot);
}

static void
getsomeattrs(TupleTableSlot *slot, int natts)
{
	S3Slot *s = (S3Slot *) slot;

	if (s->page == NULL)
		elog(ERROR, "getsomeattrs is not required to be called on a virtual tuple table slot");
	row_deform(&s->cursor, slot->tts_tupleDescriptor, slot->tts_nvalid, natts, slot->tts_values, slot->tts_isnull,
			   s->cxt);
	slot->tts_nvalid = natts;
}

/* The slot's reference keeps the page, and nothing else is needed. */
static void
materialize(TupleTableSlot *slot)
{
	if (((S3Slot *) slot)->page == NULL)
		TTSOpsVirtual.materialize(slot);
}

static void
hold_page(TupleTableSlot *slot, RowPage *page, uint64 page_row, const RowMap *map)
{
	S3Slot *s = (S3Slot *) slot;

	if (s->guard == NULL)
		make_guard(s);
	page->refs++;
	s->page = page;
	s->page_row = page_row;
	s->lxid = MyProc->lxid;
	row_begin(&s->cursor, page, map, page_row);
	slot->tts_flags &= ~TTS_FLAG_EMPTY;
	slot->tts_nvalid = 0;
}

static void
copyslot(TupleTableSlot *dst, TupleTableSlot *src)
{
	S3Slot *to = (S3Slot *) dst, *from = (S3Slot *) src;
	bool same = src->tts_ops == dst->tts_ops;

	/* the virtual slot's function knows nothing of pages */
	clear(dst);
	if (same && from->page && src->tts_tupleDescriptor == dst->tts_tupleDescriptor)
		hold_page(dst, from->page, from->page_row, from->cursor.map);
	else
		TTSOpsVirtual.copyslot(dst, src);
	dst->tts_tid = src->tts_tid;
	dst->tts_tableOid = src->tts_tableOid;
	if (same)
	{
		to->xmin = from->xmin;
		to->cmin = from->cmin;
		to->own = from->own;
		to->own_xid = from->own_xid;
		to->own_xmax = from->own_xmax;
	}
	else
	{
		((S3Slot *) dst)->xmin = InvalidTransactionId;
		((S3Slot *) dst)->cmin = FirstCommandId;
		((S3Slot *) dst)->own = false;
		((S3Slot *) dst)->own_xmax = false;
	}
}

static HeapTuple
copy_heap_tuple(TupleTableSlot *slot)
{
	HeapTuple tuple;

	slot_getallattrs(slot);
	tuple = TTSOpsVirtual.copy_heap_tuple(slot);
	tuple->t_self = slot->tts_tid;
	tuple->t_tableOid = slot->tts_tableOid;
	return tuple;
}

static MinimalTuple
copy_minimal_tuple(TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	return TTSOpsVirtual.copy_minimal_tuple(slot);
}

/* The virtual slot's functions are not exported by name, so the table is filled when the library is loaded. */
static TupleTableSlotOps ops;

static void __attribute__((constructor)) fill_ops(void)
{
	ops = TTSOpsVirtual;
	ops.base_slot_size = sizeof(S3Slot);
	ops.release = release;
	ops.clear = clear;
	ops.getsomeattrs = getsomeattrs;
	ops.getsysattr = getsysattr;
	ops.materialize = materialize;
	ops.copyslot = copyslot;
	ops.copy_heap_tuple = copy_heap_tuple;
	ops.copy_minimal_tuple = copy_minimal_tuple;
}

const TupleTableSlotOps *
slot_callbacks(Relation rel)
{
	return &ops;
}

void
slot_mark_own(TupleTableSlot *slot, CommandId cmin)
{
	S3Slot *s = (S3Slot *) slot;

	if (slot->tts_ops != &ops)
		return;
	s->xmin = InvalidTransactionId;
	s->own = true;
	s->own_xid = s->own_xmax = false;
	s->cmin = cmin;
}

void
slot_show_own_xid(TupleTableSlot *slot)
{
	if (slot->tts_ops == &ops)
		((S3Slot *) slot)->own_xid = true;
}

void
slot_mark_held(TupleTableSlot *slot)
{
	if (slot->tts_ops == &ops)
		((S3Slot *) slot)->own_xmax = true;
}

void
slot_store_own(TupleTableSlot *slot, Relation rel, uint64 row, CommandId cmin)
{
	row_to_tid(row, &slot->tts_tid);
	slot->tts_tableOid = RelationGetRelid(rel);
	slot_mark_own(slot, cmin);
	ExecStoreVirtualTuple(slot);
}

void
slot_store_page(TupleTableSlot *slot, Relation rel, uint64 row, uint32 xmin, RowPage *page, uint64 page_row,
				const PackedSchema *schema)
{
	S3Slot *s = (S3Slot *) slot;
	TupleDesc desc = slot->tts_tupleDescriptor;

	if (slot->tts_ops == &ops && s->page == page && s->map_schema == schema && current(s))
	{
		/* a scan's next row: the page and the map stay */
		forget_values(s);
		s->page_row = page_row;
		row_begin(&s->cursor, page, s->map, page_row);
		slot->tts_flags &= ~TTS_FLAG_EMPTY;
		slot->tts_nvalid = 0;
		row_to_tid(row, &slot->tts_tid);
		slot->tts_tableOid = RelationGetRelid(rel);
		s->xmin = xmin;
		s->own = s->own_xmax = false;
		s->cmin = FirstCommandId;
		return;
	}
	ExecClearTuple(slot);
	if (slot->tts_ops != &ops)
	{
		/* somebody's own kind of slot: gets a tuple of its own */
		RowCursor cursor;
		Datum *values = palloc(sizeof(Datum) * Max(desc->natts, 1));
		bool *nulls = palloc(sizeof(bool) * Max(desc->natts, 1));
		HeapTuple tuple;

		row_begin(&cursor, page, row_map(schema, desc, page->object), page_row);
		row_deform(&cursor, desc, 0, desc->natts, values, nulls, CurrentMemoryContext);
		tuple = heap_form_tuple(desc, values, nulls);
		row_to_tid(row, &tuple->t_self);
		tuple->t_tableOid = RelationGetRelid(rel);
		ExecForceStoreHeapTuple(tuple, slot, true);
		row_to_tid(row, &slot->tts_tid);
		slot->tts_tableOid = RelationGetRelid(rel);
		pfree(values);
		pfree(nulls);
		return;
	}
	if (s->map == NULL || s->map_schema != schema || !current(s))
	{
		s->map = row_map(schema, desc, page->object);
		s->map_schema = schema;
	}
	hold_page(slot, page, page_row, s->map);
	row_to_tid(row, &slot->tts_tid);
	slot->tts_tableOid = RelationGetRelid(rel);
	s->xmin = xmin;
	s->own = s->own_xmax = false;
	s->cmin = FirstCommandId;
}
