/*
 * slot.c: tuple slots of s3am tables: virtual ones that also answer for system columns.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "utils/rel.h"

#include "table/table.h"

static Datum
getsysattr(TupleTableSlot *slot, int attnum, bool *isnull)
{
	S3Slot	   *s = (S3Slot *) slot;

	*isnull = false;
	switch (attnum)
	{
		case MinTransactionIdAttributeNumber:
			return TransactionIdGetDatum(s->own ? txn_own_xmin() : s->xmin);
		case MaxTransactionIdAttributeNumber:
			return TransactionIdGetDatum(InvalidTransactionId);
		case MinCommandIdAttributeNumber:
			return CommandIdGetDatum(s->own ? s->cmin : FirstCommandId);
		case MaxCommandIdAttributeNumber:
			return CommandIdGetDatum(FirstCommandId);
		default:
			elog(ERROR, "unexpected system attribute %d", attnum);
	}
	return 0;
}

static void
copyslot(TupleTableSlot *dst, TupleTableSlot *src)
{
	TTSOpsVirtual.copyslot(dst, src);
	dst->tts_tid = src->tts_tid;
	dst->tts_tableOid = src->tts_tableOid;
	if (src->tts_ops == dst->tts_ops)
	{
		((S3Slot *) dst)->xmin = ((S3Slot *) src)->xmin;
		((S3Slot *) dst)->cmin = ((S3Slot *) src)->cmin;
		((S3Slot *) dst)->own = ((S3Slot *) src)->own;
	}
}

static HeapTuple
copy_heap_tuple(TupleTableSlot *slot)
{
	HeapTuple	tuple = TTSOpsVirtual.copy_heap_tuple(slot);

	tuple->t_self = slot->tts_tid;
	tuple->t_tableOid = slot->tts_tableOid;
	return tuple;
}

/* The virtual slot's functions are not exported by name, so the table is filled when the library is loaded. */
static TupleTableSlotOps ops;

static void __attribute__((constructor))
fill_ops(void)
{
	ops = TTSOpsVirtual;
	ops.base_slot_size = sizeof(S3Slot);
	ops.getsysattr = getsysattr;
	ops.copyslot = copyslot;
	ops.copy_heap_tuple = copy_heap_tuple;
}

const TupleTableSlotOps *
slot_callbacks(Relation rel)
{
	return &ops;
}

static void
store(TupleTableSlot *slot, Relation rel, uint64 row, uint32 xmin, bool own, CommandId cmin)
{
	row_to_tid(row, &slot->tts_tid);
	slot->tts_tableOid = RelationGetRelid(rel);
	if (slot->tts_ops == &ops)
	{
		S3Slot	   *s = (S3Slot *) slot;

		s->xmin = xmin;
		s->own = own;
		s->cmin = cmin;
	}
	ExecStoreVirtualTuple(slot);
}

void
slot_store(TupleTableSlot *slot, Relation rel, uint64 row, uint32 xmin)
{
	store(slot, rel, row, xmin, false, FirstCommandId);
}

void
slot_store_own(TupleTableSlot *slot, Relation rel, uint64 row, CommandId cmin)
{
	store(slot, rel, row, InvalidTransactionId, true, cmin);
}
