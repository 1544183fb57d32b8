/*
 * values.c: values of added columns in rows that are older (attmissingval).
 *
 * A default that is not volatile is computed once, when the column is added.  Replaying could come to another value (a stable
 * function, another clock), so the value travels with the statement.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/heap.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "ddl/capture.h"
#include "ddl/local.h"
#include "ddl/replay.h"
#include "ddl/statement.h"
#include "s3am.h"

static void
capture_missing(DdlCaptured *s, Oid relid, const char *column)
{
	HeapTuple tuple = SearchSysCacheAttName(relid, column);
	bool isnull;
	Datum value;

	if (!HeapTupleIsValid(tuple))
		return;
	value = SysCacheGetAttr(ATTNAME, tuple, Anum_pg_attribute_attmissingval, &isnull);
	if (((Form_pg_attribute) GETSTRUCT(tuple))->atthasmissing && !isnull)
	{
		S3am__DdlStatement *m = &s->message;
		S3am__MissingValue *missing = palloc(sizeof(*missing));

		s3am__missing_value__init(missing);
		missing->table = qualified_name(relid);
		missing->column = pstrdup(column);
		missing->value = OidOutputFunctionCall(F_ARRAY_OUT, value);
		m->missing = m->missing ? repalloc(m->missing, sizeof(void *) * (m->n_missing + 1)) : palloc(sizeof(void *));
		m->missing[m->n_missing++] = missing;
	}
	ReleaseSysCache(tuple);
}

void
capture_missing_values(DdlCaptured *s, DdlFrame *frame)
{
	Oid relid = statement_relation(frame->node);
	List *relids = NIL;
	ListCell *lc;

	if (!IsA(frame->node, AlterTableStmt) || !OidIsValid(relid))
		return;
	foreach (lc, castNode(AlterTableStmt, frame->node)->cmds)
	{
		AlterTableCmd *cmd = lfirst(lc);
		ListCell *l2;

		if (cmd->subtype != AT_AddColumn)
			continue;
		if (relids == NIL)
			relids = find_all_inheritors(relid, NoLock, NULL);
		foreach (l2, relids)
			if (!local_relation(lfirst_oid(l2)))
				capture_missing(s, lfirst_oid(l2), castNode(ColumnDef, cmd->def)->colname);
	}
}

void
replay_missing_value(Oid relid, const S3am__MissingValue *missing)
{
	HeapTuple tuple = SearchSysCacheAttName(relid, missing->column);
	bool has;

	if (!HeapTupleIsValid(tuple))
		return;
	has = ((Form_pg_attribute) GETSTRUCT(tuple))->atthasmissing;
	ReleaseSysCache(tuple);
	/* without one the column was added in another way here, and nothing may be read into older rows */
	if (has)
		SetAttrMissing(relid, missing->column, missing->value);
}
