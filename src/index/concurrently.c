/*
 * concurrently.c: CONCURRENTLY for indexes of s3am tables.
 *
 * Core builds such an index in three transactions, between which others write.  Entries that they add would have to meet what was built, on all servers;
 * that is not there yet.  So the statement runs as it would without the word: the index is built at once, and writers wait for it. That
 * is what migrations need that say CONCURRENTLY as a matter of course.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "index/concurrently.h"
#include "s3am.h"

/* A table of s3am, or an index of one? */
static bool
is_of_s3am(RangeVar *name)
{
	Oid relid = RangeVarGetRelid(name, NoLock, true);
	HeapTuple tuple;
	bool result = false;

	if (OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_INDEX)
		relid = IndexGetRelation(relid, true);
	tuple = OidIsValid(relid) ? SearchSysCache1(RELOID, ObjectIdGetDatum(relid)) : NULL;
	if (HeapTupleIsValid(tuple))
	{
		result = OidIsValid(s3am_am_oid()) && ((Form_pg_class) GETSTRUCT(tuple))->relam == s3am_am_oid();
		ReleaseSysCache(tuple);
	}
	return result;
}

static bool
says_concurrently(const ReindexStmt *stmt)
{
	ListCell *lc;
	bool result = false;

	foreach (lc, stmt->params)
		if (strcmp(((DefElem *) lfirst(lc))->defname, "concurrently") == 0)
			result = defGetBoolean(lfirst(lc));
	return result;
}

static void
leave_out_concurrently(ReindexStmt *stmt)
{
	ListCell *lc;

	foreach (lc, stmt->params)
		if (strcmp(((DefElem *) lfirst(lc))->defname, "concurrently") == 0)
			stmt->params = foreach_delete_current (stmt->params, lc);
}

PlannedStmt *
index_at_once(PlannedStmt *pstmt, bool top_level)
{
	Node *node = pstmt->utilityStmt;

	if (IsA(node, IndexStmt) && castNode(IndexStmt, node)->concurrent && castNode(IndexStmt, node)->relation &&
		is_of_s3am(castNode(IndexStmt, node)->relation))
	{
		PreventInTransactionBlock(top_level, "CREATE INDEX CONCURRENTLY");
		pstmt = copyObject(pstmt);
		((IndexStmt *) pstmt->utilityStmt)->concurrent = false;
	}
	else if (IsA(node, ReindexStmt) && castNode(ReindexStmt, node)->relation &&
			 says_concurrently((ReindexStmt *) node) && is_of_s3am(castNode(ReindexStmt, node)->relation))
	{
		PreventInTransactionBlock(top_level, "REINDEX CONCURRENTLY");
		pstmt = copyObject(pstmt);
		leave_out_concurrently((ReindexStmt *) pstmt->utilityStmt);
	}
	else if (IsA(node, DropStmt) && castNode(DropStmt, node)->removeType == OBJECT_INDEX &&
			 castNode(DropStmt, node)->concurrent && castNode(DropStmt, node)->behavior == DROP_RESTRICT &&
			 list_length(castNode(DropStmt, node)->objects) == 1 &&
			 is_of_s3am(makeRangeVarFromNameList(linitial(castNode(DropStmt, node)->objects))))
	{
		/* core refuses more than one, and CASCADE */
		PreventInTransactionBlock(top_level, "DROP INDEX CONCURRENTLY");
		pstmt = copyObject(pstmt);
		((DropStmt *) pstmt->utilityStmt)->concurrent = false;
	}
	return pstmt;
}
