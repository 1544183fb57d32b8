/*
 * reindex.c: REINDEX CONCURRENTLY of a schema, a database, a partitioned table or a partitioned index.
 *
 * Core goes through what is in them by itself, and would make an index that is not valid when it comes to an s3am table.  So the list is made here, and
 * each table or index of it becomes a statement of its own: one of s3am is built anew by concurrently.c, any other by core.  All of them are in the list, for
 * a table may become one of s3am until its turn comes.
 *
 * Who may reindex a whole may do so whoever owns its parts.  Core asks for no more than that, but does ask if it is given a part by its name: then it
 * is told that its owner wants it, or a superuser where that one may not.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "index/concurrently.h"
#include "s3am.h"
#include "txn/txn.h"

/* The statement that is being run. */
typedef struct Several
{
	PlannedStmt *pstmt; /* names none of them yet */
	const char *query;
	StatementRun run;
	void *arg;
	bool verbose;
	Oid tablespace; /* that it names; or invalid */
	MemoryContext cxt; /* of what one of them needs across its transactions */
} Several;

/* ------------------------------------------------------------------------------------ what is in it */

/* False: core is to say what is wrong. */
static bool
options_are_fine(const ReindexStmt *stmt, bool *verbose, Oid *tablespace)
{
	ListCell *lc;

	*verbose = false;
	*tablespace = InvalidOid;
	foreach (lc, stmt->params)
	{
		DefElem *option = lfirst(lc);

		if (strcmp(option->defname, "verbose") == 0)
			*verbose = defGetBoolean(option);
		else if (strcmp(option->defname, "tablespace") == 0)
		{
			*tablespace = get_tablespace_oid(defGetString(option), true);
			if (!OidIsValid(*tablespace) ||
				(*tablespace != MyDatabaseTableSpace &&
				 pg_tablespace_aclcheck(*tablespace, GetUserId(), ACL_CREATE) != ACLCHECK_OK))
				return false;
		}
		else if (strcmp(option->defname, "concurrently") != 0)
			return false;
	}
	return true;
}

/* The tables of a schema, or of all of them, in core's order. */
static List *
tables_in(Oid schema, bool *catalogs)
{
	Relation classes = table_open(RelationRelationId, AccessShareLock);
	List *result = NIL;
	ScanKeyData key;
	TableScanDesc scan;
	HeapTuple row;

	ScanKeyInit(&key, Anum_pg_class_relnamespace, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(schema));
	scan = table_beginscan_catalog(classes, OidIsValid(schema) ? 1 : 0, &key);
	while ((row = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(row);

		if (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_MATVIEW)
			continue;
		if (form->relpersistence == RELPERSISTENCE_TEMP && !isTempNamespace(form->relnamespace))
			continue; /* another session's */
		if (IsCatalogRelationOid(form->oid))
			*catalogs = true;
		else
			result = lappend_oid(result, form->oid);
	}
	table_endscan(scan);
	table_close(classes, AccessShareLock);
	return result;
}

/* The leaves of a partitioned table or index. */
static List *
leaves_of(Oid relid)
{
	List *result = NIL;
	ListCell *lc;

	foreach (lc, find_all_inheritors(relid, AccessShareLock, NULL))
		if (RELKIND_HAS_STORAGE(get_rel_relkind(lfirst_oid(lc))))
			result = lappend_oid(result, lfirst_oid(lc));
	return result;
}

/* NIL: nothing, or nothing that this user may have, as core will say. */
static List *
list_of(const ReindexStmt *stmt, bool *catalogs)
{
	Oid oid;

	switch (stmt->kind)
	{
		case REINDEX_OBJECT_INDEX:
		case REINDEX_OBJECT_TABLE:
			oid = RangeVarGetRelid(stmt->relation, NoLock, true);
			if (OidIsValid(oid) && relation_is_owned(oid) &&
				get_rel_relkind(oid) ==
					(stmt->kind == REINDEX_OBJECT_INDEX ? RELKIND_PARTITIONED_INDEX : RELKIND_PARTITIONED_TABLE))
				return leaves_of(oid);
			return NIL;
		case REINDEX_OBJECT_SCHEMA:
			oid = get_namespace_oid(stmt->name, true);
			return OidIsValid(oid) && pg_namespace_ownercheck(oid, GetUserId()) ? tables_in(oid, catalogs) : NIL;
		case REINDEX_OBJECT_DATABASE:
			return strcmp(stmt->name, get_database_name(MyDatabaseId)) == 0 &&
						   pg_database_ownercheck(MyDatabaseId, GetUserId())
					   ? tables_in(InvalidOid, catalogs)
					   : NIL;
		default:
			return NIL;
	}
}

/* ------------------------------------------------------------------------------------ one of them */

static bool
lock_if_there(Oid relid, LOCKMODE lock)
{
	Relation rel = OidIsValid(relid) ? try_relation_open(relid, lock) : NULL;

	if (rel)
		relation_close(rel, NoLock);
	return rel != NULL;
}

bool
reindex_name(ReindexStmt *stmt, Oid relid, LOCKMODE table_lock, LOCKMODE index_lock)
{
	if (stmt->kind == REINDEX_OBJECT_INDEX
			? !lock_if_there(IndexGetRelation(relid, true), table_lock) || !lock_if_there(relid, index_lock)
			: !lock_if_there(relid, table_lock))
		return false;
	stmt->relation = makeRangeVar(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid), -1);
	return true;
}

/* Would core say that there is nothing, which it does of a table that is named alone? */
static bool
has_indexes(Relation table)
{
	return RelationGetIndexList(table) != NIL || OidIsValid(table->rd_rel->reltoastrelid);
}

/* In the transaction that there is, which has locked it; none is there afterwards. */
static void
reindex_locked(const Several *all, PlannedStmt *pstmt, Oid relid)
{
	ReindexStmt *stmt = castNode(ReindexStmt, pstmt->utilityStmt);
	bool is_index = stmt->kind == REINDEX_OBJECT_INDEX;
	Relation table = relation_open(is_index ? IndexGetRelation(relid, false) : relid, NoLock);
	bool any = has_indexes(table), ours = relation_is_s3am(table);
	bool tells = !is_index && all->verbose && (ours || RelationUsesLocalBuffers(table));

	relation_close(table, NoLock);
	if (any && ours)
		tells &= concurrently_run(pstmt, all->query, relid, all->run, all->arg);
	else
	{
		if (any)
			all->run(pstmt, all->arg);
		concurrently_end();
	}
	/* core does that itself for what it builds concurrently */
	if (any && tells)
		ereport(INFO, (errmsg("table \"%s.%s\" was reindexed", stmt->relation->schemaname, stmt->relation->relname)));
}

/* May this user name it, and its tablespace, and have it reindexed? */
static bool
user_may(const Several *all, Oid relid, Oid user)
{
	return pg_class_ownercheck(relid, user) &&
		   pg_namespace_aclcheck(get_rel_namespace(relid), user, ACL_USAGE) == ACLCHECK_OK &&
		   (!OidIsValid(all->tablespace) || all->tablespace == MyDatabaseTableSpace ||
			pg_tablespace_aclcheck(all->tablespace, user, ACL_CREATE) == ACLCHECK_OK);
}

/* Other servers know the owner, and run what is told them as whoever ran it here. */
static Oid
user_for(const Several *all, Oid relid)
{
	HeapTuple tuple;
	Oid owner;

	if (user_may(all, relid, GetUserId()))
		return GetUserId();
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return user_may(all, relid, owner) ? owner : BOOTSTRAP_SUPERUSERID;
}

/*
 * A transaction that fails makes the session's user the one that it began with, which is the other one if it began in here.  So it is ended here, before anybody
 * else does it; if that fails, too, the session ends.
 */
static void
reindex_as(const Several *all, PlannedStmt *pstmt, Oid relid, Oid other)
{
	bool exits = ExitOnAnyError;
	Oid user;
	int security;

	GetUserIdAndSecContext(&user, &security);
	if (other == user)
	{
		reindex_locked(all, pstmt, relid);
		return;
	}
	SetUserIdAndSecContext(other, security);
	PG_TRY();
	{
		reindex_locked(all, pstmt, relid);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(all->cxt);
		ExitOnAnyError = true;
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		SetUserIdAndSecContext(user, security);
		StartTransactionCommand();
		ExitOnAnyError = exits;
		ReThrowError(error);
	}
	PG_END_TRY();
	SetUserIdAndSecContext(user, security);
}

static void
reindex_one(const Several *all, Oid relid)
{
	PlannedStmt *pstmt;
	ReindexStmt *stmt;
	Oid tablespace;
	bool verbose;

	concurrently_begin();
	CHECK_FOR_INTERRUPTS();
	MemoryContextSwitchTo(all->cxt);
	pstmt = copyObject(all->pstmt);
	stmt = castNode(ReindexStmt, pstmt->utilityStmt);
	if (!reindex_name(stmt, relid, ShareUpdateExclusiveLock, ShareUpdateExclusiveLock))
		concurrently_end();
	else if (!options_are_fine(stmt, &verbose, &tablespace))
	{
		/* by now; core says so before anything else */
		all->run(pstmt, all->arg);
		concurrently_end();
	}
	else
		reindex_as(all, pstmt, relid, user_for(all, relid));
	MemoryContextReset(all->cxt);
}

/* ------------------------------------------------------------------------------------ all of them */

bool
reindex_several(PlannedStmt *pstmt, const char *query, bool top_level, StatementRun run, void *arg)
{
	ReindexStmt *stmt = castNode(ReindexStmt, pstmt->utilityStmt);
	MemoryContext outer = CurrentMemoryContext, cxt;
	Several all = {.run = run, .arg = arg};
	List *list;
	ListCell *lc;
	bool catalogs = false;

	if (!OidIsValid(s3am_am_oid()) || !options_are_fine(stmt, &all.verbose, &all.tablespace))
		return false;
	list = list_of(stmt, &catalogs);
	if (list == NIL)
		return false;
	PreventInTransactionBlock(top_level, "REINDEX CONCURRENTLY");
	if (catalogs)
		ereport(WARNING, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						  errmsg("cannot reindex system catalogs concurrently, skipping all")));

	cxt = AllocSetContextCreate(PortalContext, "s3am REINDEX of several", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cxt);
	list = list_copy(list);
	all.cxt = AllocSetContextCreate(cxt, "s3am REINDEX of one of several", ALLOCSET_DEFAULT_SIZES);
	all.query = pstrdup(query);
	all.pstmt = copyObject(pstmt);
	stmt = castNode(ReindexStmt, all.pstmt->utilityStmt);
	if (stmt->kind != REINDEX_OBJECT_INDEX)
		stmt->kind = REINDEX_OBJECT_TABLE;
	stmt->name = NULL;
	concurrently_end();
	foreach (lc, list)
		reindex_one(&all, lfirst_oid(lc));
	StartTransactionCommand();
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(cxt);
	return true;
}
