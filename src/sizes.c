/*
 * sizes.c: sizes of s3am tables and their indexes.
 *
 * pg_relation_size() and its kin look at the files of a relation, and there are none: psql's \dt+ and every tool for monitoring would
 * show 0 bytes.  So these stand in for them (stand_ins.c), and ask core's for whatever is not s3am's.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "index/index.h"
#include "node/state.h"
#include "s3am.h"
#include "txn/txn.h"

S3AM_FUNCTION(s3am_relation_size);
S3AM_FUNCTION(s3am_relation_main_size);
S3AM_FUNCTION(s3am_table_size);
S3AM_FUNCTION(s3am_indexes_size);
S3AM_FUNCTION(s3am_total_relation_size);

#define UNKNOWN (-1) /* this server has not attached yet */

/* ------------------------------------------------------------------------------------ sizes */

static bool
is_stored(Relation rel)
{
	return relation_is_s3am(rel) || relation_is_s3btree(rel) || relation_is_s3hash(rel);
}

/* Bytes of what is committed, in whole blocks as sizes are everywhere: queries divide by the size of a block. */
static int64
stored_size(Relation rel)
{
	S3Node *node = node_of_database(MyDatabaseId);
	TableState *table;
	uint64 bytes = 0;

	/* who lists all tables must not wait for a bucket */
	if (node == NULL || !pg_atomic_read_u32(&node->served))
		return UNKNOWN;
	txn_begin_use(node);
	table = state_table(node, storage_of(rel).storage);
	if (table)
		bytes = pg_atomic_read_u64(&table->bytes);
	return (int64) TYPEALIGN64(BLCKSZ, bytes);
}

/* Of all indexes of an s3am table. */
static int64
stored_size_of_indexes(Relation rel)
{
	List *indexes = RelationGetIndexList(rel);
	int64 sum = 0;
	ListCell *lc;

	foreach (lc, indexes)
	{
		Relation index = try_relation_open(lfirst_oid(lc), AccessShareLock);
		int64 size;

		if (index == NULL)
			continue;
		size = is_stored(index) ? stored_size(index)
								: DatumGetInt64(DirectFunctionCall1(pg_table_size, ObjectIdGetDatum(lfirst_oid(lc))));
		relation_close(index, AccessShareLock);
		if (size == UNKNOWN)
			return UNKNOWN;
		sum += size;
	}
	list_free(indexes);
	return sum;
}

typedef enum Part
{
	PART_RELATION = 1,
	PART_INDEXES = 2
} Part;

/* core, whose OID is given: who knows it of relations that are not s3am's.  NULL: there is no such relation, or it is not known yet. */
static Datum
size_of(FunctionCallInfo fcinfo, int parts, Oid oid, PGFunction core, const char *fork)
{
	LOCAL_FCINFO(asked, 2);
	AclResult allowed = pg_proc_aclcheck(oid, GetUserId(), ACL_EXECUTE);
	Relation rel;
	int64 size = 0, more = 0;
	Datum result = (Datum) 0;
	bool null = true;

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, get_func_name(oid));
	rel = try_relation_open(PG_GETARG_OID(0), AccessShareLock);
	if (rel == NULL)
		PG_RETURN_NULL();
	if (is_stored(rel))
	{
		if (parts & PART_RELATION)
			size = stored_size(rel);
		if ((parts & PART_INDEXES) && relation_is_s3am(rel))
			more = stored_size_of_indexes(rel);
		null = size == UNKNOWN || more == UNKNOWN;
		result = Int64GetDatum(size + more);
	}
	else
	{
		InitFunctionCallInfoData(*asked, NULL, 2, InvalidOid, NULL, NULL);
		asked->args[0] = (NullableDatum){PG_GETARG_DATUM(0), false};
		asked->args[1] = (NullableDatum){CStringGetTextDatum(fork), false};
		result = core(asked);
		null = asked->isnull;
	}
	relation_close(rel, AccessShareLock);
	if (null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/* s3am.relation_size(regclass, text): bytes of a fork; all is in the main one. */
Datum
s3am_relation_size(PG_FUNCTION_ARGS)
{
	const char *fork = text_to_cstring(PG_GETARG_TEXT_PP(1));

	return size_of(fcinfo, forkname_to_number(fork) == MAIN_FORKNUM ? PART_RELATION : 0,
				   F_PG_RELATION_SIZE_REGCLASS_TEXT, pg_relation_size, fork);
}

/* s3am.relation_size(regclass): the same of the main fork. */
Datum
s3am_relation_main_size(PG_FUNCTION_ARGS)
{
	return size_of(fcinfo, PART_RELATION, F_PG_RELATION_SIZE_REGCLASS, pg_relation_size, "main");
}

/* s3am.table_size(regclass): bytes without those of indexes. */
Datum
s3am_table_size(PG_FUNCTION_ARGS)
{
	return size_of(fcinfo, PART_RELATION, F_PG_TABLE_SIZE, pg_table_size, "main");
}

/* s3am.indexes_size(regclass): bytes of a table's indexes. */
Datum
s3am_indexes_size(PG_FUNCTION_ARGS)
{
	return size_of(fcinfo, PART_INDEXES, F_PG_INDEXES_SIZE, pg_indexes_size, "main");
}

/* s3am.total_relation_size(regclass): bytes of a table and its indexes. */
Datum
s3am_total_relation_size(PG_FUNCTION_ARGS)
{
	return size_of(fcinfo, PART_RELATION | PART_INDEXES, F_PG_TOTAL_RELATION_SIZE, pg_total_relation_size, "main");
}
