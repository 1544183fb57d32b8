/*
 * sort.c: entries in the order of an index, by core's tuplesort.
 *
 * Most are sorted as the tuples that they are, by the operators of the index and then by row.  Those of one integer, date or timestamp, and the codes
 * of s3hash, are sorted as sixteen bytes: the key as a number without a sign, then the row.  That takes a fifth less memory, so
 * that fewer entries go to temporary files, and no tuple has to be made and taken apart.  Core has a type of sixteen bytes in the order of its bytes, uuid,
 * whose first eight, here the key, tuplesort compares as one number.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "executor/tuptable.h"
#include "port/pg_bswap.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "compat.h"
#include "index/sort.h"
#include "txn/txn.h"

struct EntrySort
{
	const IndexMeta *meta;
	Tuplesortstate *state;
	bool as_bytes;
	TupleTableSlot *slot; /* of an entry to be added, virtual */
	MemoryContext cxt; /* of one entry that was taken */
};

/* ------------------------------------------------------------------------------------ as sixteen bytes */

#define SIGN (UINT64CONST(1) << 63)
/* Before or behind all keys: set in the row of a NULL that comes last, and in those of all others where it comes first. */
#define ROW_BEHIND (UINT64CONST(1) << 62)

static bool
goes_as_bytes(const IndexMeta *meta)
{
	return meta->desc->natts == ENTRY_KEY + 1 && (meta->quick[0] == QUICK_INT4 || meta->quick[0] == QUICK_INT8);
}

static void
encode(const IndexMeta *meta, const Datum *values, const bool *nulls, pg_uuid_t *to)
{
	bool null = nulls[ENTRY_KEY], null_first = meta->nulls_first[0];
	uint64 row = (uint64) DatumGetInt64(values[ENTRY_ROW]) | (null != null_first ? ROW_BEHIND : 0);
	uint64 key;

	if (null)
		key = null_first ? 0 : PG_UINT64_MAX;
	else
	{
		int64 value =
			meta->quick[0] == QUICK_INT4 ? DatumGetInt32(values[ENTRY_KEY]) : DatumGetInt64(values[ENTRY_KEY]);

		key = (uint64) value ^ SIGN;
		if (meta->descending[0])
			key = ~key;
	}
	key = pg_hton64(key);
	row = pg_hton64(row);
	memcpy(to->data, &key, sizeof(key));
	memcpy(to->data + sizeof(key), &row, sizeof(row));
}

static void
decode(const IndexMeta *meta, const pg_uuid_t *from, Datum *values, bool *nulls)
{
	uint64 key, row;

	memcpy(&key, from->data, sizeof(key));
	memcpy(&row, from->data + sizeof(key), sizeof(row));
	key = pg_ntoh64(key);
	row = pg_ntoh64(row);
	nulls[ENTRY_ROW] = false;
	values[ENTRY_ROW] = Int64GetDatum((int64) (row & ~ROW_BEHIND));
	nulls[ENTRY_KEY] = ((row & ROW_BEHIND) != 0) != meta->nulls_first[0];
	if (nulls[ENTRY_KEY])
	{
		values[ENTRY_KEY] = (Datum) 0;
		return;
	}
	if (meta->descending[0])
		key = ~key;
	key ^= SIGN;
	values[ENTRY_KEY] = meta->quick[0] == QUICK_INT4 ? Int32GetDatum((int32) (int64) key) : Int64GetDatum((int64) key);
}

/* ------------------------------------------------------------------------------------ as tuples */

static Tuplesortstate *
begin_tuples(const IndexMeta *meta, int work_mem, SortCoordinate coordinate)
{
	AttrNumber columns[INDEX_MAX_KEYS + 1];
	Oid operators[INDEX_MAX_KEYS + 1], collations[INDEX_MAX_KEYS + 1];
	bool nulls_first[INDEX_MAX_KEYS + 1];

	for (int i = 0; i < meta->nkeys; i++)
	{
		Oid type = meta->opcintype[i];
		int strategy = meta->descending[i] ? BTGreaterStrategyNumber : BTLessStrategyNumber;

		columns[i] = ENTRY_KEY + i + 1;
		operators[i] = get_opfamily_member(meta->opfamily[i], type, type, strategy);
		if (!OidIsValid(operators[i]))
			elog(ERROR, "missing operator %d(%u,%u) in opfamily %u", strategy, type, type, meta->opfamily[i]);
		collations[i] = meta->collation[i];
		nulls_first[i] = meta->nulls_first[i];
	}
	columns[meta->nkeys] = ENTRY_ROW + 1;
	operators[meta->nkeys] = Int8LessOperator;
	collations[meta->nkeys] = InvalidOid;
	nulls_first[meta->nkeys] = false;
	return tuplesort_begin_heap(meta->desc, meta->nkeys + 1, columns, operators, collations, nulls_first, work_mem,
								coordinate, TUPLESORT_NONE);
}

/* ------------------------------------------------------------------------------------ both */

EntrySort *
entry_sort_begin(const IndexMeta *meta, int work_mem, SortCoordinate coordinate)
{
	EntrySort *sort = palloc0(sizeof(EntrySort));

	sort->meta = meta;
	sort->as_bytes = goes_as_bytes(meta);
	if (sort->as_bytes)
	{
		Oid less = lookup_type_cache(UUIDOID, TYPECACHE_LT_OPR)->lt_opr;

		sort->state = tuplesort_begin_datum(UUIDOID, less, InvalidOid, false, work_mem, coordinate, TUPLESORT_NONE);
		sort->cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am entry sort", ALLOCSET_SMALL_SIZES);
	}
	else
	{
		sort->state = begin_tuples(meta, work_mem, coordinate);
		sort->slot = MakeSingleTupleTableSlot(meta->desc, &TTSOpsVirtual);
	}
	return sort;
}

void
entry_sort_add(EntrySort *sort, const Datum *values, const bool *nulls)
{
	if (sort->as_bytes)
	{
		pg_uuid_t bytes;

		encode(sort->meta, values, nulls, &bytes);
		tuplesort_putdatum(sort->state, UUIDPGetDatum(&bytes), false);
		return;
	}
	ExecClearTuple(sort->slot);
	memcpy(sort->slot->tts_values, values, sizeof(Datum) * sort->meta->desc->natts);
	memcpy(sort->slot->tts_isnull, nulls, sizeof(bool) * sort->meta->desc->natts);
	ExecStoreVirtualTuple(sort->slot);
	tuplesort_puttupleslot(sort->state, sort->slot);
}

void
entry_sort_perform(EntrySort *sort)
{
	tuplesort_performsort(sort->state);
}

TupleTableSlot *
entry_sort_slot(const EntrySort *sort)
{
	return MakeSingleTupleTableSlot(sort->meta->desc, sort->as_bytes ? &TTSOpsVirtual : &TTSOpsMinimalTuple);
}

bool
entry_sort_next(EntrySort *sort, bool keep, TupleTableSlot *slot)
{
	MemoryContext old;
	bool found, isnull;
	Datum bytes;

	if (!sort->as_bytes)
		return tuplesort_gettupleslot(sort->state, true, keep, slot, NULL);
	ExecClearTuple(slot);
	MemoryContextReset(sort->cxt);
	old = MemoryContextSwitchTo(sort->cxt);
	found = tuplesort_next_datum(sort->state, &bytes, &isnull);
	MemoryContextSwitchTo(old);
	if (!found)
		return false;
	decode(sort->meta, DatumGetUUIDP(bytes), slot->tts_values, slot->tts_isnull);
	ExecStoreVirtualTuple(slot);
	return true;
}

/* Memory goes with its context, as that of the slots does. */
void
entry_sort_end(EntrySort *sort)
{
	tuplesort_end(sort->state);
	if (sort->slot)
		ExecDropSingleTupleTableSlot(sort->slot);
	if (sort->cxt)
		MemoryContextDelete(sort->cxt);
	pfree(sort);
}
