/*
 * meta.c: what an index's entries are, and their order.
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/pg_locale.h"
#include "utils/rel.h"

#include "index/index.h"
#include "index/keyhash.h"
#include "index/order.h"

/*
 * The columns of entries.  name_ops keeps names as C strings, to save room; they are kept as names here, since a C string is no type of
 * a column, and compress well.
 */
static TupleDesc
entry_desc(Relation index)
{
	TupleDesc of = RelationGetDescr(index);
	TupleDesc desc = CreateTemplateTupleDesc(of->natts + 1);

	TupleDescInitEntry(desc, 1, "row", INT8OID, -1, 0);
	if (relation_is_s3hash(index))
	{
		TupleDescInitEntry(desc, 2, "code", INT8OID, -1, 0);
		return desc;
	}
	for (int i = 0; i < of->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(of, i);

		TupleDescInitEntry(desc, i + 2, NameStr(att->attname), att->atttypid == CSTRINGOID ? NAMEOID : att->atttypid,
						   att->atttypmod, 0);
		TupleDescInitEntryCollation(desc, i + 2, att->attcollation);
	}
	return desc;
}

static QuickOrder
quick_order(Oid function, Oid collation)
{
	switch (function)
	{
		case F_BTINT4CMP:
		case F_DATE_CMP:
			return QUICK_INT4;
		case F_BTINT8CMP:
		case F_TIMESTAMP_CMP:
		case F_TIMESTAMPTZ_CMP:
			return QUICK_INT8;
		case F_BTTEXTCMP:
			return OidIsValid(collation) && lc_collate_is_c(collation) ? QUICK_TEXT : QUICK_NONE;
	}
	return QUICK_NONE;
}

/* Codes are in the order of their numbers. */
static void
order_codes(IndexMeta *meta)
{
	meta->coder = hash_coder(meta->index);
	meta->opfamily[0] = meta->index->rd_opfamily[0];
	meta->opcintype[0] = meta->index->rd_opcintype[0];
	meta->order[0] = palloc(sizeof(FmgrInfo));
	fmgr_info(F_BTINT8CMP, meta->order[0]);
	meta->quick[0] = QUICK_INT8;
}

IndexMeta *
index_meta(Relation index, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	IndexMeta *meta = palloc0(sizeof(IndexMeta));

	meta->index = index;
	meta->cxt = cxt;
	meta->nkeys = IndexRelationGetNumberOfKeyAttributes(index);
	meta->natts = IndexRelationGetNumberOfAttributes(index);
	meta->desc = entry_desc(index);
	if (relation_is_s3hash(index))
		order_codes(meta);
	for (int i = 0; i < meta->nkeys && meta->coder == NULL; i++)
	{
		/* a copy: the relation's own goes when the relation does, which a kept meta may see late */
		meta->order[i] = palloc(sizeof(FmgrInfo));
		fmgr_info_copy(meta->order[i], index_getprocinfo(index, i + 1, BTORDER_PROC), cxt);
		meta->opfamily[i] = index->rd_opfamily[i];
		meta->opcintype[i] = index->rd_opcintype[i];
		meta->collation[i] = index->rd_indcollation[i];
		meta->quick[i] = quick_order(meta->order[i]->fn_oid, meta->collation[i]);
		meta->descending[i] = (index->rd_indoption[i] & INDOPTION_DESC) != 0;
		meta->nulls_first[i] = (index->rd_indoption[i] & INDOPTION_NULLS_FIRST) != 0;
	}
	collation_describe(meta);
	MemoryContextSwitchTo(old);
	return meta;
}

/* ------------------------------------------------------------------------------------ kept from statement to statement */

#define KEPT_METAS 32

typedef struct KeptMeta
{
	Oid relid;
	bool stale; /* the index has changed */
	MemoryContext cxt; /* NULL: nothing is here */
	IndexMeta *meta;
} KeptMeta;

static KeptMeta kept[KEPT_METAS];

static void
index_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < KEPT_METAS; i++)
		if (relid == InvalidOid || kept[i].relid == relid)
			kept[i].stale = true;
}

IndexMeta *
index_meta_kept(Relation index)
{
	static bool registered = false;
	KeptMeta *entry = &kept[RelationGetRelid(index) % KEPT_METAS];
	MemoryContext cxt;
	IndexMeta *meta;

	if (entry->cxt && entry->relid == RelationGetRelid(index) && !entry->stale)
	{
		/* the same one as that of everybody who has it open */
		entry->meta->index = index;
		return entry->meta;
	}
	if (!registered)
	{
		CacheRegisterRelcacheCallback(index_changed, (Datum) 0);
		registered = true;
	}
	/* scans of this transaction may still use it */
	if (entry->cxt)
		MemoryContextSetParent(entry->cxt, TopTransactionContext);
	memset(entry, 0, sizeof(*entry));
	entry->relid = RelationGetRelid(index);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am index", ALLOCSET_SMALL_SIZES);
	meta = index_meta(index, cxt);
	MemoryContextSetParent(cxt, CacheMemoryContext);
	entry->cxt = cxt;
	entry->meta = meta;
	return meta;
}

/* ------------------------------------------------------------------------------------ entries */

bool
meta_has_hashes(IndexMeta *meta)
{
	if (meta->hasher == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(meta->cxt);
		KeyHasher *hasher = meta->coder ? key_hasher_of_codes() : key_hasher(meta->index);
		Size len;
		uint8 *kinds = key_hasher_kinds(hasher, &len);

		MemoryContextSwitchTo(old);
		meta->kinds = kinds ? filter_kinds_hash(kinds, len) : 0;
		if (kinds)
			pfree(kinds);
		meta->hasher = hasher;
	}
	return meta->kinds != 0;
}

int
meta_compare_key(const IndexMeta *meta, int i, Datum a, bool anull, Datum b, bool bnull)
{
	return order_keys(meta, i, meta->order[i], a, anull, b, bnull);
}

/*
 * The columns of an entry as it is kept: nothing in it is compressed or elsewhere, since the value may go before the entry does.  values:
 * of the index, for attribute 1 on.  Detoasted ones are palloc'ed.
 */
void
meta_form(const IndexMeta *meta, uint64 row, const Datum *values, const bool *nulls, Datum *entry, bool *entry_nulls)
{
	entry[ENTRY_ROW] = Int64GetDatum(row);
	entry_nulls[ENTRY_ROW] = false;
	if (meta->coder)
	{
		entry_nulls[ENTRY_KEY] = nulls[0];
		entry[ENTRY_KEY] = nulls[0] ? (Datum) 0 : Int64GetDatum(hash_code(meta->coder, values[0]));
		return;
	}
	for (int i = 0; i < meta->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(meta->desc, ENTRY_KEY + i);

		entry_nulls[ENTRY_KEY + i] = nulls[i];
		entry[ENTRY_KEY + i] = values[i];
		if (!nulls[i] && att->attlen == -1)
			entry[ENTRY_KEY + i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[i]));
	}
}
