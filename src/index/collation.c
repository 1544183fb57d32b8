/*
 * collation.c: versions of the collations that the order of an index depends on.
 *
 * A library (glibc, ICU) that sorts text otherwise, after an upgrade or on another server, finds nothing in runs of the old order.  So each run
 * says by which versions it is ordered.  Where those of this server differ the planner does without the index, and says so; who cannot do without
 * it fails.  Runs of early builds do not say anything, and are taken to be in order.
 *
 * Only a key column counts, and only if its values are compared by such a collation: C and POSIX have no version and never change.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_locale.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "index/index.h"
#include "index/keyhash.h"
#include "txn/txn.h"

S3AM_FUNCTION(s3am_index_unusable);

/* ------------------------------------------------------------------------------------ what an order depends on */

/* The collations of a column, each once. */
typedef struct Collations
{
	bool codes; /* s3hash: values are not compared but hashed, for which only some collations count */
	List *oids;
	StringInfoData names, versions;
} Collations;

/* What the library says now; what the catalog has was true at CREATE or REFRESH.  NULL: it has none. */
static char *
actual_version(Oid collation)
{
	bool is_default = collation == DEFAULT_COLLATION_OID;
	int cache = is_default ? DATABASEOID : COLLOID;
	HeapTuple tuple = SearchSysCache1(cache, ObjectIdGetDatum(is_default ? MyDatabaseId : collation));
	char *version = NULL;
	Datum locale;
	char provider;
	bool isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	if (is_default)
	{
		provider = ((Form_pg_database) GETSTRUCT(tuple))->datlocprovider;
		locale = SysCacheGetAttr(
			cache, tuple, provider == COLLPROVIDER_ICU ? Anum_pg_database_daticulocale : Anum_pg_database_datcollate,
			&isnull);
	}
	else
	{
		provider = ((Form_pg_collation) GETSTRUCT(tuple))->collprovider;
		locale = SysCacheGetAttr(
			cache, tuple,
			provider == COLLPROVIDER_ICU ? Anum_pg_collation_colliculocale : Anum_pg_collation_collcollate, &isnull);
	}
	if (!isnull)
		version = get_collation_actual_version(provider, TextDatumGetCString(locale));
	ReleaseSysCache(tuple);
	return version;
}

static void
add_collation(Collations *c, Oid collation)
{
	char *version, *name;

	if (!OidIsValid(collation) || list_member_oid(c->oids, collation) || lc_collate_is_c(collation))
		return;
	/* equal strings are the same bytes, and hashed as such */
	if (c->codes && get_collation_isdeterministic(collation))
		return;
	c->oids = lappend_oid(c->oids, collation);
	version = actual_version(collation);
	name = get_collation_name(collation);
	appendStringInfo(&c->names, "%s\"%s\"", c->names.len ? ", " : "", name ? name : "");
	/* one without a version has its place, so that others are not taken for it */
	appendStringInfo(&c->versions, "%s%s", list_length(c->oids) > 1 ? ", " : "", version ? version : "-");
}

/* Adds what values of the type are compared by, in an order that is the same on every server. */
static void
add_type(Collations *c, Oid type, Oid collation)
{
	TypeCacheEntry *entry;
	Oid element;

	check_stack_depth();
	type = getBaseType(type);
	element = get_element_type(type);
	if (OidIsValid(element))
	{
		add_type(c, element, collation);
		return;
	}
	switch (get_typtype(type))
	{
		case TYPTYPE_RANGE:
			entry = lookup_type_cache(type, TYPECACHE_RANGE_INFO);
			add_type(c, entry->rngelemtype->type_id, entry->rng_collation);
			return;
		case TYPTYPE_MULTIRANGE:
			entry = lookup_type_cache(type, TYPECACHE_MULTIRANGE_INFO);
			add_type(c, entry->rngtype->type_id, InvalidOid);
			return;
		case TYPTYPE_COMPOSITE:
		{
			TupleDesc desc = lookup_rowtype_tupdesc_copy(type, -1);

			for (int i = 0; i < desc->natts; i++)
				if (!TupleDescAttr(desc, i)->attisdropped)
					add_type(c, TupleDescAttr(desc, i)->atttypid, TupleDescAttr(desc, i)->attcollation);
			FreeTupleDesc(desc);
			return;
		}
	}
	/* whose strings are compared by the database's collation, whatever the column's is */
	add_collation(c, type == JSONBOID ? DEFAULT_COLLATION_OID : collation);
}

/* Does the operator class compare bytes? */
static bool
compares_bytes(Oid function)
{
	return function == F_BTTEXT_PATTERN_CMP || function == F_BTBPCHAR_PATTERN_CMP;
}

void
collation_describe(IndexMeta *meta)
{
	for (int i = 0; i < meta->nkeys; i++)
	{
		Collations c = {.codes = meta->coder != NULL};
		ListCell *lc;
		bool any = false;

		if (meta->coder == NULL && compares_bytes(meta->order[i]->fn_oid))
			continue;
		initStringInfo(&c.names);
		initStringInfo(&c.versions);
		add_type(&c, key_column_type(meta->index, i), meta->index->rd_indcollation[i]);
		foreach (lc, c.oids)
			any |= actual_version(lfirst_oid(lc)) != NULL;
		if (c.oids == NIL)
			continue;
		meta->by_library = true;
		meta->collation_names[i] = c.names.data;
		if (any)
			meta->versions[i] = c.versions.data;
	}
}

/* ------------------------------------------------------------------------------------ what runs say */

RunOrder
collation_order(IndexMeta *meta, const PackedSchema *packed, OrderDifference *difference)
{
	S3am__BatchSchema *schema;
	RunOrder order = ORDER_SAME;

	if (!meta->by_library)
		return ORDER_SAME;
	/* there are few, and looking into one takes long */
	for (int i = 0; i < lengthof(meta->known_orders); i++)
		if (meta->known_orders[i].schema == packed->hash && packed->hash != 0)
			return meta->known_orders[i].order;
	schema = schema_unpack(packed);
	/* who reads it says what is wrong with it */
	for (size_t i = 0; schema && i < schema->n_columns; i++)
	{
		int key = (int) schema->columns[i]->id - 1 - ENTRY_KEY;
		const char *recorded = schema->columns[i]->collation_version;

		if (key < 0 || key >= meta->nkeys || meta->collation_names[key] == NULL)
			continue;
		if (recorded[0] == '\0')
		{
			if (meta->versions[key])
				order = ORDER_UNKNOWN;
			continue;
		}
		if (meta->versions[key] && strcmp(meta->versions[key], recorded) == 0)
			continue;
		if (difference)
			*difference = (OrderDifference){meta->collation_names[key], recorded, meta->versions[key]};
		return ORDER_OTHER;
	}
	meta->known_orders[meta->next_known].schema = packed->hash;
	meta->known_orders[meta->next_known].order = order;
	meta->next_known = (meta->next_known + 1) % lengthof(meta->known_orders);
	return order;
}

RunOrder
collation_order_of_batch(IndexMeta *meta, S3Node *node, const BatchEntry *batch, OrderDifference *difference)
{
	if (!meta->by_library)
		return ORDER_SAME;
	return collation_order(meta, &((const SchemaEntry *) dsa_get_address(node_dsa(node), batch->schema))->schema,
						   difference);
}

/* ------------------------------------------------------------------------------------ who is told */

/* message, detail and hint, of an error or a warning */
static int
put_report(const IndexMeta *meta, const OrderDifference *d, bool is_warning)
{
	errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
	errmsg("index \"%s\" is ordered by another version of collation %s than this server has",
		   RelationGetRelationName(meta->index), d->collations);
	if (d->here)
		errdetail("The order is that of version %s; the library of this server has version %s.", d->recorded, d->here);
	else
		errdetail("The order is that of version %s; the library of this server has none.", d->recorded);
	return errhint(
		"%sREINDEX it here if other servers have, or will have, this server's version; else give this server "
		"the library that the others have.",
		is_warning ? "Queries do without the index. " : "");
}

void
collation_fail(const IndexMeta *meta, const OrderDifference *difference)
{
	SharedInvalidationMessage message = {0};

	/* a plan that was made before such a run came is not to be used once more */
	message.rc.id = SHAREDINVALRELCACHE_ID;
	message.rc.dbId = MyDatabaseId;
	message.rc.relId = meta->index->rd_index->indrelid;
	LocalExecuteInvalidationMessage(&message);
	ereport(ERROR, (put_report(meta, difference, false)));
	pg_unreachable();
}

void
collation_check(IndexMeta *meta, S3Node *node, const BatchEntry **batches, uint32 nbatches)
{
	OrderDifference difference = {0};

	if (!meta->by_library)
		return;
	for (uint32 i = 0; i < nbatches; i++)
		if (collation_order_of_batch(meta, node, batches[i], &difference) == ORDER_OTHER)
			collation_fail(meta, &difference);
}

/* Is any of the newest runs in another order? */
static bool
index_differs(Relation index, IndexMeta *meta, OrderDifference *difference)
{
	S3Node *node;
	TableState *table;
	const BatchArray *array;
	const BatchEntry **batches;
	uint32 count;
	bool differs = false;

	if (!meta->by_library)
		return false;
	node = node_wait_ready();
	txn_begin_use(node);
	table = state_table(node, storage_of(index).storage);
	if (table == NULL)
		return false;
	array = state_batches(node, table, &count);
	count = state_all_batches(node, array, count, &batches);
	for (uint32 i = 0; i < count && !differs; i++)
		differs = collation_order_of_batch(meta, node, batches[i], difference) == ORDER_OTHER;
	pfree(batches);
	return differs;
}

bool
collation_planner_may(Relation index)
{
	static List *told = NIL; /* OIDs of indexes, in TopMemoryContext */
	IndexMeta *meta = index_meta_kept(index);
	OrderDifference difference = {0};

	if (!index_differs(index, meta, &difference))
		return true;
	if (!list_member_oid(told, RelationGetRelid(index)))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		told = lappend_oid(told, RelationGetRelid(index));
		MemoryContextSwitchTo(old);
		ereport(WARNING, (put_report(meta, &difference, true)));
	}
	return false;
}

/* s3am.index_unusable(index): why this server does not use it; NULL: it does. */
Datum
s3am_index_unusable(PG_FUNCTION_ARGS)
{
	/* without a lock: what is shown waits for nobody; see merge.c */
	Relation index = RelationIdGetRelation(PG_GETARG_OID(0));
	OrderDifference d = {0};
	char *text = NULL;

	if (index == NULL)
		PG_RETURN_NULL();
	if ((relation_is_s3btree(index) || relation_is_s3hash(index)) && index_differs(index, index_meta_kept(index), &d))
		text = psprintf("ordered by version %s of collation %s, and this server has %s", d.recorded, d.collations,
						d.here ? d.here : "none");
	RelationClose(index);
	if (text == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
