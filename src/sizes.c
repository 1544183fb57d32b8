/*
 * sizes.c: sizes of s3am tables and their indexes, and core's functions answering with them.
 *
 * pg_relation_size() and its kin look at the files of a relation, and there are none: psql's \dt+ and every tool for monitoring would
 * show 0 bytes.  They have no hook, so where a statement calls one of them, ours is planned in its place, which asks core's for
 * whatever is not s3am's.  Nothing that is stored (a view, a function's body) names ours; a call that comes up only while the planner
 * puts the body of an SQL function in the place of its call stays core's.  Who may not call core's may not call ours.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "parser/parse_func.h"
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

static planner_hook_type prev_planner;

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

/* ------------------------------------------------------------------------------------ in the place of core's */

static const struct
{
	Oid core;
	const char *name; /* of ours, in the extension's schema, with the same arguments */
	int nargs;
} stand_ins[] = {
	{F_PG_RELATION_SIZE_REGCLASS, "relation_size", 1},
	{F_PG_RELATION_SIZE_REGCLASS_TEXT, "relation_size", 2},
	{F_PG_TABLE_SIZE, "table_size", 1},
	{F_PG_INDEXES_SIZE, "indexes_size", 1},
	{F_PG_TOTAL_RELATION_SIZE, "total_relation_size", 1},
};

/* Somebody else's function of that name would get the rights of whoever asks for a size. */
static Oid
our_function(int i)
{
	const Oid types[] = {REGCLASSOID, TEXTOID};
	Oid function = LookupFuncName(list_make2(makeString("s3am"), makeString(unconstify(char *, stand_ins[i].name))),
								  stand_ins[i].nargs, types, true);
	Oid extension = get_extension_oid("s3am", true);

	if (!OidIsValid(function) || !OidIsValid(extension) ||
		getExtensionOfObject(ProcedureRelationId, function) != extension)
		return InvalidOid;
	return function;
}

static bool
replace(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, replace, context, 0);
	if (IsA(node, FuncExpr))
	{
		FuncExpr *call = (FuncExpr *) node;

		for (int i = 0; i < lengthof(stand_ins); i++)
			if (call->funcid == stand_ins[i].core)
			{
				Oid function = our_function(i);

				if (OidIsValid(function))
					call->funcid = function;
				break;
			}
	}
	return expression_tree_walker(node, replace, context);
}

static PlannedStmt *
plan_sizes(Query *parse, const char *text, int options, ParamListInfo params)
{
	if (OidIsValid(s3am_am_oid()))
		(void) replace((Node *) parse, NULL);
	return prev_planner ? prev_planner(parse, text, options, params) : standard_planner(parse, text, options, params);
}

void
sizes_init(void)
{
	prev_planner = planner_hook;
	planner_hook = plan_sizes;
}
