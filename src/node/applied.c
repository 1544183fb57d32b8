/*
 * applied.c: the local table s3am.applied.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "node/applied.h"

#define Natts_applied 2
#define Anum_applied_epoch 1
#define Anum_applied_seq 2

static Oid
local_relation(const char *name)
{
	return get_relname_relid(name, get_namespace_oid("s3am", false));
}

void
applied_record(uint64 epoch, uint64 seq)
{
	Relation rel = table_open(local_relation("applied"), RowExclusiveLock);
	Datum values[Natts_applied] = {Int64GetDatum(epoch), Int64GetDatum(seq)};
	bool nulls[Natts_applied] = {false};
	HeapTuple tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);

	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

bool
applied_contains(uint64 epoch, uint64 seq)
{
	Relation rel = table_open(local_relation("applied"), AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	bool found;

	ScanKeyInit(&keys[0], Anum_applied_epoch, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(epoch));
	ScanKeyInit(&keys[1], Anum_applied_seq, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(seq));
	scan = systable_beginscan(rel, local_relation("applied_pkey"), true, SnapshotSelf, 2, keys);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}
