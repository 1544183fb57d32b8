/*
 * toast.c: TOAST tables for tables that leave s3am, and for what REFRESH MATERIALIZED VIEW CONCURRENTLY collects rows in.
 *
 * Core makes one for a rewrite's transient table only where the table has one, and s3am tables have none.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/toasting.h"
#include "utils/rel.h"

#include "s3am.h"
#include "table/table.h"

/* A transient table of another access method was just made, for the rewrite of an s3am table: it gets a TOAST table if it needs one. */
void
table_toast_for_leaving(Oid transient)
{
	Relation rel;
	bool leaving = false;
	Oid original;

	CommandCounterIncrement();
	rel = table_open(transient, NoLock);
	original = storage_rewritten(rel);
	if (OidIsValid(original) && !relation_is_s3am(rel))
	{
		Relation from = table_open(original, NoLock);

		leaving = relation_is_s3am(from);
		table_close(from, NoLock);
	}
	table_close(rel, NoLock);
	if (leaving)
		NewHeapCreateToastTable(transient, (Datum) 0, AccessExclusiveLock, InvalidOid);
}
