/*
 * local.c: what stays on the server where it was made: temporary and heap tables, and what hangs on them.
 *
 * Catalog rows may be of the very command that is running, so they are read with SnapshotSelf.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ddl/local.h"
#include "s3am.h"

/* A copy of the row of `catalog` whose OID column (attribute 1) is `oid`; NULL if there is none. */
static HeapTuple
read_row(Relation catalog, Oid index, Oid oid)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(catalog, index, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (tuple)
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

static Oid
read_oid_column(Oid catalog_oid, Oid index, Oid oid, int column)
{
	Relation	catalog = table_open(catalog_oid, AccessShareLock);
	HeapTuple	tuple = read_row(catalog, index, oid);
	bool		isnull = true;
	Oid			result = InvalidOid;

	if (tuple)
	{
		Datum		value = heap_getattr(tuple, column, RelationGetDescr(catalog), &isnull);

		if (!isnull)
			result = DatumGetObjectId(value);
		heap_freetuple(tuple);
	}
	table_close(catalog, AccessShareLock);
	return result;
}

bool
local_relation(Oid relid)
{
	Relation	catalog = table_open(RelationRelationId, AccessShareLock);
	HeapTuple	tuple = read_row(catalog, ClassOidIndexId, relid);
	bool		result = false;

	if (tuple)
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relpersistence != RELPERSISTENCE_PERMANENT)
			result = true;
		else if (form->relrewrite == InvalidOid && strncmp(NameStr(form->relname), "pg_temp_", 8) != 0)
			switch (form->relkind)
			{
				case RELKIND_RELATION:
				case RELKIND_MATVIEW:
					result = form->relam != s3am_am_oid();
					break;
				case RELKIND_INDEX:
				case RELKIND_PARTITIONED_INDEX:
					result = local_relation(read_oid_column(IndexRelationId, IndexRelidIndexId, relid,
															Anum_pg_index_indrelid));
					break;
				default:
					break;
			}
		heap_freetuple(tuple);
	}
	table_close(catalog, AccessShareLock);
	return result;
}

bool
local_object(Oid class_id, Oid object_id, bool create)
{
	static const struct
	{
		Oid			class_id,
					index;
		int			column;
	}			of_relation[] = {
		{ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_conrelid},
		{AttrDefaultRelationId, AttrDefaultOidIndexId, Anum_pg_attrdef_adrelid},
		{TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_tgrelid},
		{RewriteRelationId, RewriteOidIndexId, Anum_pg_rewrite_ev_class},
		{PolicyRelationId, PolicyOidIndexId, Anum_pg_policy_polrelid},
		{StatisticExtRelationId, StatisticExtOidIndexId, Anum_pg_statistic_ext_stxrelid},
	};

	/* these events carry the relation's OID, not that of a row of the catalog */
	if (class_id == RelationRelationId || class_id == InheritsRelationId || class_id == IndexRelationId ||
		(class_id == AttrDefaultRelationId && create))
		return local_relation(object_id);
	if (class_id == NamespaceRelationId)
		return isAnyTempNamespace(object_id);
	if (class_id == TypeRelationId)
	{
		Oid			relid = read_oid_column(TypeRelationId, TypeOidIndexId, object_id, Anum_pg_type_typrelid);

		if (OidIsValid(relid))
			return local_relation(relid);
		return isAnyTempNamespace(read_oid_column(TypeRelationId, TypeOidIndexId, object_id,
												  Anum_pg_type_typnamespace));
	}
	if (class_id == ProcedureRelationId)
		return isAnyTempNamespace(read_oid_column(ProcedureRelationId, ProcedureOidIndexId, object_id,
												  Anum_pg_proc_pronamespace));
	for (int i = 0; i < lengthof(of_relation); i++)
		if (of_relation[i].class_id == class_id)
		{
			Oid			relid = read_oid_column(class_id, of_relation[i].index, object_id, of_relation[i].column);

			return OidIsValid(relid) && local_relation(relid);
		}
	return false;
}

/* Does an object of this class depend on a local relation, directly? */
static bool
depends_on_local(Oid class_id, Oid object_id)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result = false;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(class_id));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object_id));
	scan = systable_beginscan(depend, DependDependerIndexId, true, SnapshotSelf, 2, key);
	while (!result && (tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		/* the catalogs themselves are everywhere */
		if (form->refclassid == RelationRelationId && form->refobjid >= FirstNormalObjectId)
			result = local_relation(form->refobjid) || local_view(form->refobjid);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

bool
local_view(Oid relid)
{
	Relation	rewrite;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		result = false;

	rewrite = table_open(RewriteRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_rewrite_ev_class, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(rewrite, RewriteRelRulenameIndexId, true, SnapshotSelf, 1, &key);
	while (!result && (tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_rewrite form = (Form_pg_rewrite) GETSTRUCT(tuple);
		Relation	depend = table_open(DependRelationId, AccessShareLock);
		ScanKeyData dkey[2];
		SysScanDesc dscan;
		HeapTuple	dtuple;

		ScanKeyInit(&dkey[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(RewriteRelationId));
		ScanKeyInit(&dkey[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(form->oid));
		dscan = systable_beginscan(depend, DependDependerIndexId, true, SnapshotSelf, 2, dkey);
		while (!result && (dtuple = systable_getnext(dscan)) != NULL)
		{
			Form_pg_depend dform = (Form_pg_depend) GETSTRUCT(dtuple);

			if (dform->refclassid == RelationRelationId && dform->refobjid != relid &&
				dform->refobjid >= FirstNormalObjectId)
				result = local_relation(dform->refobjid) || local_view(dform->refobjid);
		}
		systable_endscan(dscan);
		table_close(depend, AccessShareLock);
	}
	systable_endscan(scan);
	table_close(rewrite, AccessShareLock);
	return result;
}

bool
local_by_dependency(Oid class_id, Oid object_id)
{
	if (class_id == RelationRelationId && local_view(object_id))
		return true;
	return depends_on_local(class_id, object_id);
}
