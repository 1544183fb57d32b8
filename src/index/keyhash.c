/*
 * keyhash.c: hashes of the keys of unique indexes (protocol.md rule 19).
 *
 * Each key column counts by bytes that mean the same on every server (keybytes.c), by a hash function of its type that only this server
 * believes in, or not at all.  KEYS.md says why that is right.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/stratnum.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "index/keybytes.h"
#include "index/keyhash.h"
#include "node/node.h"

#define FILTER_SEED 0

typedef struct KeyColumn
{
	KeyType *type; /* NULL: left out of what other servers compare */
	FmgrInfo own; /* if so: the type's own hash; fn_oid is InvalidOid without one */
	Oid collation;
} KeyColumn;

struct KeyHasher
{
	uint64 seed;
	int nkeys;
	bool nulls_equal; /* NULLS NOT DISTINCT */
	bool coarse; /* no column has a type */
	KeyColumn columns[FLEXIBLE_ARRAY_MEMBER];
};

/* The strategy of equality in operator classes of a kind; 0: no kind that is known here. */
static StrategyNumber
equality_strategy(Oid opclass, bool *ordered)
{
	HeapTuple tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
	Oid method;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for opclass %u", opclass);
	method = ((Form_pg_opclass) GETSTRUCT(tuple))->opcmethod;
	ReleaseSysCache(tuple);
	*ordered = method == BTREE_AM_OID;
	return method == BTREE_AM_OID ? BTEqualStrategyNumber : method == HASH_AM_OID ? HTEqualStrategyNumber : 0;
}

/* The hash function that belongs to an equality operator, or InvalidOid. */
static Oid
own_hash(Oid equality, Oid type)
{
	Oid left, right;

	if (!get_op_hash_functions(equality, &left, &right))
		return InvalidOid;
	/* those of types made of others are there for all of them, and fail where a part has none */
	if (left == F_HASH_ARRAY || left == F_HASH_RECORD || left == F_HASH_RANGE || left == F_HASH_MULTIRANGE)
		return lookup_type_cache(type, TYPECACHE_HASH_PROC)->hash_proc == left ? left : InvalidOid;
	return left;
}

Oid
key_column_type(Relation index, int i)
{
	AttrNumber number = index->rd_index->indkey.values[i];
	int nth = 0;

	if (number != InvalidAttrNumber)
		return get_atttype(index->rd_index->indrelid, number);
	for (int j = 0; j < i; j++)
		nth += index->rd_index->indkey.values[j] == InvalidAttrNumber;
	/*
	 * Not the expressions themselves: to make them ready to use, core calls functions of theirs that have constant arguments, and the compactor,
	 * which asks this as well, is a superuser.
	 */
	return exprType(list_nth(RelationGetDummyIndexExpressions(index), nth));
}

static void
look_at_column(Relation index, int i, Oid opclass, uint16 exclusion_strategy, KeyColumn *column)
{
	Oid family = index->rd_opfamily[i], input = index->rd_opcintype[i];
	Oid type = getBaseType(key_column_type(index, i));
	Oid equality, own, compare = InvalidOid;
	bool ordered;
	StrategyNumber strategy = equality_strategy(opclass, &ordered);

	/* EXCLUDE with another operator: keys that differ here exclude each other */
	if (strategy == 0 || (exclusion_strategy != InvalidStrategy && exclusion_strategy != strategy))
		return;
	equality = get_opfamily_member(family, input, input, strategy);
	if (ordered)
		compare = get_opfamily_proc(family, input, input, BTORDER_PROC);
	if (!OidIsValid(equality) || (ordered && !OidIsValid(compare)))
		return;
	column->collation = index->rd_indcollation[i];
	column->type = key_type(type, get_opcode(equality), compare, column->collation);
	if (column->type == NULL && OidIsValid(own = own_hash(equality, type)))
		fmgr_info(own, &column->own);
}

KeyHasher *
key_hasher(Relation index)
{
	int nkeys = IndexRelationGetNumberOfKeyAttributes(index);
	KeyHasher *h = palloc0(offsetof(KeyHasher, columns) + nkeys * sizeof(KeyColumn));
	uint16 *strategies = NULL;
	bool isnull;
	Datum classes = SysCacheGetAttr(INDEXRELID, index->rd_indextuple, Anum_pg_index_indclass, &isnull);

	Assert(!isnull);
	h->seed = node_wait_ready()->key_hash_seed;
	h->nkeys = nkeys;
	h->nulls_equal = index->rd_index->indnullsnotdistinct;
	h->coarse = true;
	if (index->rd_index->indisexclusion)
	{
		Oid *operators, *procs;

		RelationGetExclusionInfo(index, &operators, &procs, &strategies);
	}
	for (int i = 0; i < nkeys; i++)
	{
		look_at_column(index, i, ((oidvector *) DatumGetPointer(classes))->values[i],
					   strategies ? strategies[i] : InvalidStrategy, &h->columns[i]);
		if (h->columns[i].type)
			h->coarse = false;
	}
	return h;
}

KeyHasher *
key_hasher_of_codes(void)
{
	KeyHasher *h = palloc0(offsetof(KeyHasher, columns) + sizeof(KeyColumn));

	h->seed = node_wait_ready()->key_hash_seed;
	h->nkeys = 1;
	h->columns[0].type = key_type(INT8OID, F_INT8EQ, F_BTINT8CMP, InvalidOid);
	return h;
}

/* What counts everywhere comes first, so that what counts here alone is its continuation. */
static void
put_global(const KeyHasher *h, uint64 seed, const Datum *values, const bool *isnull, KeySink *sink)
{
	key_sink_begin(sink, seed);
	for (int i = 0; i < h->nkeys; i++)
	{
		if (h->columns[i].type == NULL)
			continue;
		key_put_byte(sink, !isnull[i]);
		if (!isnull[i])
			key_put_value(sink, h->columns[i].type, values[i]);
	}
}

static uint64
hash_of(const KeySink *sink)
{
	return key_hash_proper(key_sink_hash(sink));
}

uint64
key_hash_global(const KeyHasher *h, const Datum *values, const bool *isnull, bool *coarse)
{
	KeySink sink;

	*coarse = h->coarse;
	if (h->coarse)
		return KEY_HASH_INDEX;
	put_global(h, h->seed, values, isnull, &sink);
	return hash_of(&sink);
}

uint64
key_hash_local(const KeyHasher *h, const Datum *values, const bool *isnull)
{
	KeySink sink;

	put_global(h, h->seed, values, isnull, &sink);
	for (int i = 0; i < h->nkeys; i++)
	{
		const KeyColumn *column = &h->columns[i];

		if (column->type || !OidIsValid(column->own.fn_oid))
			continue;
		key_put_byte(&sink, !isnull[i]);
		if (!isnull[i])
			key_put_32(&sink,
					   DatumGetUInt32(FunctionCall1Coll((FmgrInfo *) &column->own, column->collation, values[i])));
	}
	return hash_of(&sink);
}

uint64
key_hash_filter(const KeyHasher *h, const Datum *values, const bool *isnull)
{
	KeySink sink;

	put_global(h, FILTER_SEED, values, isnull, &sink);
	return key_sink_hash(&sink);
}

uint8 *
key_hasher_kinds(const KeyHasher *h, Size *len)
{
	StringInfoData kinds;

	*len = 0;
	if (h->coarse)
		return NULL;
	initStringInfo(&kinds);
	for (int i = 0; i < h->nkeys; i++)
		if (h->columns[i].type)
			key_type_kinds(h->columns[i].type, &kinds);
		else
			appendStringInfoChar(&kinds, KEY_KIND_NONE);
	*len = kinds.len;
	return (uint8 *) kinds.data;
}

const KeyType *
key_hasher_type(const KeyHasher *h, int column)
{
	return h->columns[column].type;
}

bool
key_is_distinct(const KeyHasher *h, const bool *isnull)
{
	if (h->nulls_equal)
		return false;
	for (int i = 0; i < h->nkeys; i++)
		if (isnull[i])
			return true;
	return false;
}
