/*
 * keyhash_test.c: hashes of keys, of indexes of any table, under a seed that the test gives.
 *
 *   key_seed(seed int8)
 *   key_hash(index regclass, row record, OUT everywhere int8, OUT here int8, OUT coarse bool, OUT distinct bool)
 *       of a row of the index's table
 *   key_check(index regclass, OUT rows int8, OUT equal int8, OUT otherwise int8, OUT wrong int8, OUT clashes int8, OUT counts bool, OUT leak int8)
 *       all rows of the index's table in the order of its operator classes, each held against the next one.
 *       equal: keys that these hold equal; otherwise: those of them that have other bytes all the same; wrong: those whose hashes differ, which
 *       must not be.  clashes: unequal ones with one hash everywhere.  counts: some column counts everywhere.  leak: bytes that hashing leaves.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "index/keyhash.h"
#include "node/node.h"

PG_MODULE_MAGIC;

PGDLLEXPORT Datum key_seed(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum key_hash(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum key_check(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(key_seed);
PG_FUNCTION_INFO_V1(key_hash);
PG_FUNCTION_INFO_V1(key_check);

static S3Node node;

S3Node *
node_wait_ready(void)
{
	return &node;
}

Datum
key_seed(PG_FUNCTION_ARGS)
{
	node.key_hash_seed = (uint64) PG_GETARG_INT64(0);
	PG_RETURN_VOID();
}

static Datum
row_of(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
key_hash(PG_FUNCTION_ARGS)
{
	Relation index = relation_open(PG_GETARG_OID(0), AccessShareLock);
	Relation table = table_open(index->rd_index->indrelid, AccessShareLock);
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(1);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row), .t_data = row};
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);
	EState *estate = CreateExecutorState();
	KeyHasher *h = key_hasher(index);
	Datum values[INDEX_MAX_KEYS], result[4];
	bool nulls[INDEX_MAX_KEYS], rnulls[4] = {false}, coarse;

	if (HeapTupleHeaderGetTypeId(row) != table->rd_rel->reltype)
		elog(ERROR, "not a row of table %s", RelationGetRelationName(table));
	ItemPointerSetInvalid(&tuple.t_self);
	ExecStoreHeapTuple(&tuple, slot, false);
	GetPerTupleExprContext(estate)->ecxt_scantuple = slot;
	FormIndexDatum(BuildIndexInfo(index), slot, estate, values, nulls);
	result[0] = Int64GetDatum(key_hash_global(h, values, nulls, &coarse));
	result[1] = Int64GetDatum(key_hash_local(h, values, nulls));
	result[2] = BoolGetDatum(coarse);
	result[3] = BoolGetDatum(key_is_distinct(h, nulls));
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	table_close(table, AccessShareLock);
	relation_close(index, AccessShareLock);
	return row_of(fcinfo, result, rnulls);
}

typedef struct Key
{
	Datum values[INDEX_MAX_KEYS];
	bool nulls[INDEX_MAX_KEYS];
	uint64 everywhere, here;
} Key;

static int
compare_keys(const void *a, const void *b, void *arg)
{
	const Key *x = a, *y = b;
	Relation index = arg;

	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		int order;

		if (x->nulls[i] || y->nulls[i])
			order = (int) x->nulls[i] - (int) y->nulls[i];
		else
			order = DatumGetInt32(FunctionCall2Coll(index_getprocinfo(index, i + 1, BTORDER_PROC),
													index->rd_indcollation[i], x->values[i], y->values[i]));
		if (order != 0)
			return order;
	}
	return 0;
}

/* The type that FormIndexDatum gives a column's values in: of name, not what a B-tree stores it as. */
static void
value_layout(Relation index, int i, int16 *typlen, bool *byval)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(index), i);

	*typlen = att->attlen == -2 ? NAMEDATALEN : att->attlen;
	*byval = att->attbyval;
}

static bool
same_bytes(Relation index, const Key *a, const Key *b)
{
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
	{
		int16 typlen;
		bool byval;

		value_layout(index, i, &typlen, &byval);
		if (a->nulls[i] != b->nulls[i] || (!a->nulls[i] && !datumIsEqual(a->values[i], b->values[i], byval, typlen)))
			return false;
	}
	return true;
}

Datum
key_check(PG_FUNCTION_ARGS)
{
	Relation index = relation_open(PG_GETARG_OID(0), AccessShareLock);
	Relation table = table_open(index->rd_index->indrelid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	TableScanDesc scan = table_beginscan(table, GetActiveSnapshot(), 0, NULL);
	EState *estate = CreateExecutorState();
	IndexInfo *info = BuildIndexInfo(index);
	KeyHasher *h = key_hasher(index);
	MemoryContext own = CurrentMemoryContext, hashing;
	int n = 0, size = 1024;
	Key *keys = palloc(sizeof(Key) * size);
	int64 equal = 0, otherwise = 0, wrong = 0, clashes = 0, before;
	bool coarse = false, rnulls[7] = {false};
	Datum result[7];

	GetPerTupleExprContext(estate)->ecxt_scantuple = slot;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Key *key;

		if (n == size)
			keys = repalloc_huge(keys, sizeof(Key) * (size *= 2));
		key = &keys[n++];
		ResetPerTupleExprContext(estate);
		MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
		FormIndexDatum(info, slot, estate, key->values, key->nulls);
		MemoryContextSwitchTo(own);
		for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
		{
			int16 typlen;
			bool byval;

			value_layout(index, i, &typlen, &byval);
			if (!key->nulls[i])
				key->values[i] = datumCopy(key->values[i], byval, typlen);
		}
		key->here = key_hash_local(h, key->values, key->nulls);
	}
	hashing = AllocSetContextCreate(own, "hashing", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(hashing);
	for (int i = 0; i < n; i++)
		keys[i].everywhere = key_hash_global(h, keys[i].values, keys[i].nulls, &coarse);
	before = MemoryContextMemAllocated(hashing, true);
	for (int i = 0; i < n; i++)
		if (keys[i].everywhere != key_hash_global(h, keys[i].values, keys[i].nulls, &coarse))
			elog(ERROR, "another hash at the second try");
	result[6] = Int64GetDatum(MemoryContextMemAllocated(hashing, true) - before);
	MemoryContextSwitchTo(own);
	qsort_arg(keys, n, sizeof(Key), compare_keys, index);
	for (int i = 0; i + 1 < n; i++)
	{
		if (compare_keys(&keys[i], &keys[i + 1], index) == 0)
		{
			equal++;
			otherwise += !same_bytes(index, &keys[i], &keys[i + 1]);
			wrong += keys[i].everywhere != keys[i + 1].everywhere || keys[i].here != keys[i + 1].here;
		}
		else
			clashes += keys[i].everywhere == keys[i + 1].everywhere;
		if ((keys[i].everywhere == KEY_HASH_INDEX && !coarse) || keys[i].here == KEY_HASH_INDEX)
			elog(ERROR, "hash of the whole index");
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	table_close(table, AccessShareLock);
	relation_close(index, AccessShareLock);
	result[0] = Int64GetDatum(n);
	result[1] = Int64GetDatum(equal);
	result[2] = Int64GetDatum(otherwise);
	result[3] = Int64GetDatum(wrong);
	result[4] = Int64GetDatum(clashes);
	result[5] = BoolGetDatum(!coarse);
	return row_of(fcinfo, result, rnulls);
}
