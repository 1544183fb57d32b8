/*
 * local.c: which objects stay on this server.
 *
 * A table is local by its persistence and access method, what is part of a table is what the table is, and all else is local if
 * it needs something local: pg_depend tells.  Catalogs are read directly, with a snapshot of choice: the caches do not show a
 * statement's own work yet, and never what was there before it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ddl/local.h"
#include "s3am.h"

/* s3am.earlier: InvalidOid while the extension is made. */
static Oid
earlier_relid(void)
{
	Oid namespace = get_namespace_oid("s3am", true);

	return OidIsValid(namespace) ? get_relname_relid("earlier", namespace) : InvalidOid;
}

/* Was the object there before the extension?  Then the others do not know it.  forget: they will from now on, or it is gone. */
static bool
earlier(Oid class_id, Oid object_id, Snapshot snapshot, bool forget)
{
	Oid relid = earlier_relid();
	Relation table;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;
	bool found;

	if (!OidIsValid(relid) || object_id < FirstNormalObjectId)
		return false;
	table = table_open(relid, forget ? ShareRowExclusiveLock : AccessShareLock);
	ScanKeyInit(&key[0], 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(class_id));
	ScanKeyInit(&key[1], 2, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object_id));
	scan = systable_beginscan(table, RelationGetPrimaryKeyIndex(table), true, snapshot, 2, key);
	tuple = systable_getnext(scan);
	found = tuple != NULL;
	if (found && forget)
		simple_heap_delete(table, &tuple->t_self);
	systable_endscan(scan);
	table_close(table, forget ? NoLock : AccessShareLock);
	return found;
}

bool
local_earlier(const ObjectAddress *object)
{
	return earlier(object->classId, object->objectId, SnapshotSelf, false);
}

void
local_forget_earlier(const ObjectAddress *object)
{
	/* the lock lets one session at a time forget something, and is only taken if there is something */
	if (local_earlier(object))
		(void) earlier(object->classId, object->objectId, SnapshotSelf, true);
}

/* What a check has looked at already: dependencies may go in circles. */
typedef struct Walk
{
	Snapshot snapshot;
	List *seen;
} Walk;

static bool is_local(Walk *walk, Oid class_id, Oid object_id);

static HeapTuple
read_row(Oid catalog_oid, Oid index, Oid oid, Snapshot snapshot, TupleDesc *desc)
{
	Relation catalog = table_open(catalog_oid, AccessShareLock);
	AttrNumber column = 1; /* oid; in pg_index it is indexrelid */
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(catalog, index, true, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (tuple)
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	*desc = RelationGetDescr(catalog); /* of a catalog: it stays */
	table_close(catalog, AccessShareLock);
	return tuple;
}

static Oid
read_oid_column(Oid catalog_oid, Oid index, Oid oid, int column, Snapshot snapshot)
{
	TupleDesc desc;
	HeapTuple tuple = read_row(catalog_oid, index, oid, snapshot, &desc);
	bool isnull = true;
	Oid result = InvalidOid;

	if (tuple)
	{
		Datum value = heap_getattr(tuple, column, desc, &isnull);

		if (!isnull)
			result = DatumGetObjectId(value);
		heap_freetuple(tuple);
	}
	return result;
}

/* Classes whose objects are part of a relation. */
static const struct
{
	Oid class_id, index;
	int column;
} part_of[] = {
	{ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_conrelid},
	{AttrDefaultRelationId, AttrDefaultOidIndexId, Anum_pg_attrdef_adrelid},
	{TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_tgrelid},
	{RewriteRelationId, RewriteOidIndexId, Anum_pg_rewrite_ev_class},
	{PolicyRelationId, PolicyOidIndexId, Anum_pg_policy_polrelid},
	{StatisticExtRelationId, StatisticExtOidIndexId, Anum_pg_statistic_ext_stxrelid},
};

Oid
local_part_of(const ObjectAddress *object, Snapshot snapshot)
{
	/* events of these classes carry the relation's OID */
	if (object->classId == RelationRelationId || object->classId == InheritsRelationId ||
		object->classId == IndexRelationId)
		return object->objectId;
	if (object->classId == TypeRelationId)
	{
		/* a row type belongs to its relation, and so does the array type over it */
		Oid element = read_oid_column(TypeRelationId, TypeOidIndexId, object->objectId, Anum_pg_type_typelem, snapshot);
		Oid relid = read_oid_column(TypeRelationId, TypeOidIndexId, object->objectId, Anum_pg_type_typrelid, snapshot);

		if (!OidIsValid(relid) && OidIsValid(element))
			relid = read_oid_column(TypeRelationId, TypeOidIndexId, element, Anum_pg_type_typrelid, snapshot);
		return relid;
	}
	for (int i = 0; i < lengthof(part_of); i++)
		if (part_of[i].class_id == object->classId)
			return read_oid_column(object->classId, part_of[i].index, object->objectId, part_of[i].column, snapshot);
	return InvalidOid;
}

bool
local_exists(const ObjectAddress *object)
{
	TupleDesc desc;
	HeapTuple tuple;

	if (!is_objectclass_supported(object->classId) || !OidIsValid(get_object_oid_index(object->classId)))
		return true;
	tuple = read_row(object->classId, get_object_oid_index(object->classId), object->objectId, SnapshotSelf, &desc);
	if (tuple)
		heap_freetuple(tuple);
	return tuple != NULL;
}

bool
local_is_transient(Oid relid)
{
	TupleDesc desc;
	HeapTuple tuple = read_row(RelationRelationId, ClassOidIndexId, relid, SnapshotSelf, &desc);
	bool result = true;

	if (tuple)
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		result = form->relrewrite != InvalidOid || form->relkind == RELKIND_TOASTVALUE ||
				 form->relnamespace == PG_TOAST_NAMESPACE ||
				 (strncmp(NameStr(form->relname), "pg_temp_", 8) == 0 && !isTempNamespace(form->relnamespace));
		heap_freetuple(tuple);
	}
	return result;
}

/* ------------------------------------------------------------------------------------ dependencies */

typedef bool (*EachNeeded)(void *arg, const ObjectAddress *needed, char deptype);

/* Calls each() for what an object depends on, until it returns true. */
static bool
each_needed(Oid class_id, Oid object_id, Snapshot snapshot, EachNeeded each, void *arg)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;
	bool result = false;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(class_id));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object_id));
	scan = systable_beginscan(depend, DependDependerIndexId, true, snapshot, 2, key);
	while (!result && (tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress needed = {form->refclassid, form->refobjid, form->refobjsubid};

		/* what initdb made is everywhere, and schemas and extensions never are local */
		if (form->refobjid < FirstNormalObjectId || form->refclassid == ExtensionRelationId ||
			form->refclassid == NamespaceRelationId || (form->refclassid == class_id && form->refobjid == object_id))
			continue;
		result = each(arg, &needed, form->deptype);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

static bool
needed_is_local(void *arg, const ObjectAddress *needed, char deptype)
{
	return is_local(arg, needed->classId, needed->objectId);
}

/* The table that owns a sequence; InvalidOid: none. */
static bool
is_owner(void *arg, const ObjectAddress *needed, char deptype)
{
	if (needed->classId != RelationRelationId || needed->objectSubId == 0 ||
		(deptype != DEPENDENCY_AUTO && deptype != DEPENDENCY_INTERNAL))
		return false;
	*(Oid *) arg = needed->objectId;
	return true;
}

/* A view is what its query reads; its other rules are parts of it. */
static bool
view_is_local(Walk *walk, Oid relid)
{
	Relation rewrite = table_open(RewriteRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;
	bool result = false;

	ScanKeyInit(&key[0], Anum_pg_rewrite_ev_class, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	ScanKeyInit(&key[1], Anum_pg_rewrite_rulename, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("_RETURN"));
	scan = systable_beginscan(rewrite, RewriteRelRulenameIndexId, true, walk->snapshot, 2, key);
	while (!result && (tuple = systable_getnext(scan)) != NULL)
		result = each_needed(RewriteRelationId, ((Form_pg_rewrite) GETSTRUCT(tuple))->oid, walk->snapshot,
							 needed_is_local, walk);
	systable_endscan(scan);
	table_close(rewrite, AccessShareLock);
	return result;
}

/* A domain's constraints are parts of it. */
static bool
domain_is_local(Walk *walk, Oid type)
{
	Relation constraints = table_open(ConstraintRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool result = false;

	ScanKeyInit(&key, Anum_pg_constraint_contypid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
	scan = systable_beginscan(constraints, ConstraintTypidIndexId, true, walk->snapshot, 1, &key);
	while (!result && (tuple = systable_getnext(scan)) != NULL)
		result = each_needed(ConstraintRelationId, ((Form_pg_constraint) GETSTRUCT(tuple))->oid, walk->snapshot,
							 needed_is_local, walk);
	systable_endscan(scan);
	table_close(constraints, AccessShareLock);
	return result;
}

static bool
relation_is_local(Walk *walk, Oid relid)
{
	TupleDesc desc;
	HeapTuple tuple = read_row(RelationRelationId, ClassOidIndexId, relid, walk->snapshot, &desc);
	Form_pg_class form;
	bool result = false;
	Oid owner = InvalidOid;

	if (tuple == NULL)
		return false;
	form = (Form_pg_class) GETSTRUCT(tuple);
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
				result = is_local(
					walk, RelationRelationId,
					read_oid_column(IndexRelationId, IndexRelidIndexId, relid, Anum_pg_index_indrelid, walk->snapshot));
				break;
			case RELKIND_SEQUENCE:
				if (each_needed(RelationRelationId, relid, walk->snapshot, is_owner, &owner))
					result = is_local(walk, RelationRelationId, owner);
				else
					result = earlier(RelationRelationId, relid, walk->snapshot, false);
				break;
			case RELKIND_VIEW:
				result = earlier(RelationRelationId, relid, walk->snapshot, false) || view_is_local(walk, relid);
				break;
			case RELKIND_PARTITIONED_TABLE:
				result = earlier(RelationRelationId, relid, walk->snapshot, false);
				break;
			case RELKIND_COMPOSITE_TYPE:
			case RELKIND_FOREIGN_TABLE:
				result = earlier(RelationRelationId, relid, walk->snapshot, false) ||
						 each_needed(RelationRelationId, relid, walk->snapshot, needed_is_local, walk);
				break;
			default:
				break;
		}
	heap_freetuple(tuple);
	return result;
}

static bool
is_local(Walk *walk, Oid class_id, Oid object_id)
{
	ObjectAddress address = {class_id, object_id, 0};
	ListCell *lc;
	Oid relid;

	if (object_id < FirstNormalObjectId)
		return false;
	foreach (lc, walk->seen)
	{
		ObjectAddress *seen = lfirst(lc);

		if (seen->classId == class_id && seen->objectId == object_id)
			return false;
	}
	{
		ObjectAddress *seen = palloc(sizeof(ObjectAddress));

		*seen = address;
		walk->seen = lappend(walk->seen, seen);
	}
	relid = local_part_of(&address, walk->snapshot);
	if (OidIsValid(relid))
		return class_id == RelationRelationId || class_id == InheritsRelationId || class_id == IndexRelationId
				   ? relation_is_local(walk, relid)
				   : is_local(walk, RelationRelationId, relid);
	if (earlier(class_id, object_id, walk->snapshot, false))
		return true;
	if (class_id == NamespaceRelationId)
		return isAnyTempNamespace(object_id);
	if (is_objectclass_supported(class_id) && get_object_attnum_namespace(class_id) != InvalidAttrNumber)
	{
		Oid namespace = read_oid_column(class_id, get_object_oid_index(class_id), object_id,
										get_object_attnum_namespace(class_id), walk->snapshot);

		if (OidIsValid(namespace) && isAnyTempNamespace(namespace))
			return true;
	}
	if (class_id == TypeRelationId && domain_is_local(walk, object_id))
		return true;
	return each_needed(class_id, object_id, walk->snapshot, needed_is_local, walk);
}

bool
local_object(const ObjectAddress *object, Snapshot snapshot)
{
	Walk walk = {snapshot, NIL};
	bool result = is_local(&walk, object->classId, object->objectId);

	list_free_deep(walk.seen);
	return result;
}

bool
local_relation(Oid relid)
{
	ObjectAddress address = {RelationRelationId, relid, 0};

	return local_object(&address, SnapshotSelf);
}

/* Schemas are everywhere as soon as something that travels is in them. */
List *
local_earlier_schemas(const ObjectAddress *object)
{
	Oid class_id = object->classId;
	Relation depend;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;
	List *result = NIL;

	if (class_id == InheritsRelationId || class_id == IndexRelationId)
		class_id = RelationRelationId;
	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(class_id));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object->objectId));
	scan = systable_beginscan(depend, DependDependerIndexId, true, SnapshotSelf, 2, key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->refclassid == NamespaceRelationId &&
			earlier(NamespaceRelationId, form->refobjid, SnapshotSelf, false))
			result = list_append_unique_oid(result, form->refobjid);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return result;
}

/* ------------------------------------------------------------------------------------ what a travelling object needs */

static bool
find_local(void *arg, const ObjectAddress *needed, char deptype)
{
	if (!local_object(needed, SnapshotSelf))
		return false;
	*(ObjectAddress *) arg = *needed;
	return true;
}

/* Does a part of a relation, from a catalog whose first column is its OID, need something local? */
static bool
parts_need_local(Oid class_id, Oid index, AttrNumber column, Oid relid, ObjectAddress *needed)
{
	Relation catalog = table_open(class_id, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool result = false;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, index, true, SnapshotSelf, 1, &key);
	while (!result && (tuple = systable_getnext(scan)) != NULL)
	{
		bool isnull;
		Oid oid = DatumGetObjectId(heap_getattr(tuple, 1, RelationGetDescr(catalog), &isnull));

		result = each_needed(class_id, oid, SnapshotSelf, find_local, needed);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return result;
}

bool
local_needed(const ObjectAddress *object, ObjectAddress *needed)
{
	Oid class_id = object->classId;

	if (class_id == InheritsRelationId || class_id == IndexRelationId)
		class_id = RelationRelationId;
	if (each_needed(class_id, object->objectId, SnapshotSelf, find_local, needed))
		return true;
	/* the defaults of a table, and the query of a materialized view, are named by events of the relation */
	return class_id == RelationRelationId && (parts_need_local(AttrDefaultRelationId, AttrDefaultIndexId,
															   Anum_pg_attrdef_adrelid, object->objectId, needed) ||
											  parts_need_local(RewriteRelationId, RewriteRelRulenameIndexId,
															   Anum_pg_rewrite_ev_class, object->objectId, needed));
}

/* The same for a table with all its parts. */
bool
local_table_needs(Oid relid, ObjectAddress *needed)
{
	ObjectAddress address = {RelationRelationId, relid, 0};

	return local_needed(&address, needed) ||
		   parts_need_local(ConstraintRelationId, ConstraintRelidTypidNameIndexId, Anum_pg_constraint_conrelid, relid,
							needed) ||
		   parts_need_local(TriggerRelationId, TriggerRelidNameIndexId, Anum_pg_trigger_tgrelid, relid, needed) ||
		   parts_need_local(PolicyRelationId, PolicyPolrelidPolnameIndexId, Anum_pg_policy_polrelid, relid, needed) ||
		   parts_need_local(StatisticExtRelationId, StatisticExtRelidIndexId, Anum_pg_statistic_ext_stxrelid, relid,
							needed);
}

/*
 * The table would leave the repository: refuses if something that travels needs it.  What is part of it, or belongs to it, goes
 * with it.
 */
void
local_refuse_to_leave(Oid table)
{
	Oid types[3] = {InvalidOid, get_rel_type_id(table), InvalidOid};
	Relation depend = table_open(DependRelationId, AccessShareLock);

	types[2] = OidIsValid(types[1]) ? get_array_type(types[1]) : InvalidOid;
	for (int i = 0; i < 3; i++)
	{
		ScanKeyData key[2];
		SysScanDesc scan;
		HeapTuple tuple;

		ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(i == 0 ? RelationRelationId : TypeRelationId));
		ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(i == 0 ? table : types[i]));
		scan = systable_beginscan(depend, DependReferenceIndexId, true, SnapshotSelf, 2, key);
		while ((tuple = systable_getnext(scan)) != NULL)
		{
			Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
			ObjectAddress needs = {form->classid, form->objid, 0};

			if (form->deptype == DEPENDENCY_INTERNAL || form->deptype == DEPENDENCY_EXTENSION ||
				local_part_of(&needs, SnapshotSelf) == table ||
				(form->classid == RelationRelationId && get_rel_relkind(form->objid) == RELKIND_SEQUENCE) ||
				(form->classid == RelationRelationId && get_rel_relkind(form->objid) == RELKIND_INDEX &&
				 IndexGetRelation(form->objid, true) == table) ||
				local_object(&needs, SnapshotSelf))
				continue;
			ereport(
				ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("table \"%s\" cannot leave the repository because other objects need it", get_rel_name(table)),
				 errdetail("%s is there on all servers of the repository.", getObjectDescription(&needs, false)),
				 errhint("Drop it first, or copy the table.")));
		}
		systable_endscan(scan);
	}
	table_close(depend, AccessShareLock);
}

/* ------------------------------------------------------------------------------------ trees */

static void
count_kinds(Oid relid, Oid *local, Oid *shared)
{
	char kind = get_rel_relkind(relid);

	if (kind != RELKIND_RELATION)
		return;
	if (local_relation(relid))
		*local = relid;
	else
		*shared = relid;
}

void
local_check_tree(Oid relid)
{
	Oid root = relid;
	Oid local = InvalidOid, shared = InvalidOid;
	ListCell *lc;

	if (get_rel_relkind(relid) != RELKIND_RELATION && get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return;
	/* with several parents any way up will do: each pair of a parent and a child is looked at when it is made */
	for (;;)
	{
		Relation inherits = table_open(InheritsRelationId, AccessShareLock);
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple tuple;
		Oid parent = InvalidOid;

		ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(root));
		scan = systable_beginscan(inherits, InheritsRelidSeqnoIndexId, true, SnapshotSelf, 1, &key);
		while ((tuple = systable_getnext(scan)) != NULL)
		{
			parent = ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent;
			count_kinds(parent, &local, &shared);
		}
		systable_endscan(scan);
		table_close(inherits, AccessShareLock);
		if (!OidIsValid(parent))
			break;
		root = parent;
	}
	if (root == relid && !has_subclass(relid))
		return;
	foreach (lc, find_all_inheritors(root, NoLock, NULL))
		count_kinds(lfirst_oid(lc), &local, &shared);
	if (OidIsValid(local) && OidIsValid(shared) && get_rel_persistence(local) != RELPERSISTENCE_TEMP)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("tables of one hierarchy must all be s3am tables, or none of them"),
						errdetail("Table \"%s\" is in the repository, table \"%s\" stays on this server.",
								  get_rel_name(shared), get_rel_name(local)),
						errhint("Give the table the access method of the others, with USING.")));
}

/* ------------------------------------------------------------------------------------ names */

bool
local_object_name(const ObjectAddress *object, Snapshot snapshot, char **schema, char **name)
{
	Oid class_id = object->classId;
	TupleDesc desc;
	HeapTuple tuple;
	AttrNumber column;
	bool isnull;
	Datum value;

	if (!is_objectclass_supported(class_id) || get_object_attnum_name(class_id) == InvalidAttrNumber)
		return false;
	tuple = read_row(class_id, get_object_oid_index(class_id), object->objectId, snapshot, &desc);
	if (tuple == NULL)
		return false;
	value = heap_getattr(tuple, get_object_attnum_name(class_id), desc, &isnull);
	*name = isnull ? "" : pstrdup(NameStr(*DatumGetName(value)));
	*schema = "";
	column = get_object_attnum_namespace(class_id);
	if (column != InvalidAttrNumber)
	{
		Oid oid;

		value = heap_getattr(tuple, column, desc, &isnull);
		oid = isnull ? InvalidOid : DatumGetObjectId(value);
		if (OidIsValid(oid))
		{
			ObjectAddress ns = {NamespaceRelationId, oid, 0};
			char *none;

			if (!local_object_name(&ns, snapshot, &none, schema))
				*schema = "";
		}
	}
	heap_freetuple(tuple);
	return true;
}
