/*
 * storage.c: which storage a relation has.
 *
 * The map from relfilenode to storage and table id is the local table s3am.storage, so that it follows the local catalogs through
 * commit, rollback, savepoints and restarts by itself.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "ddl/ddl.h"
#include "s3am.h"
#include "txn/commit.h"
#include "txn/txn.h"

#define Natts_storage 3
#define Anum_storage_relfilenode 1
#define Anum_storage_storage 2
#define Anum_storage_table 3

/* What rd_amcache of an s3am relation holds. */
typedef struct StorageCache
{
	Oid relfilenode;
	StorageId id;
} StorageCache;

static Oid
storage_relation(const char *name)
{
	Oid schema = get_namespace_oid("s3am", true);
	Oid relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table s3am.%s does not exist", name),
						errhint("Run CREATE EXTENSION s3am in this database.")));
	return relid;
}

static bool
lookup(Oid relfilenode, StorageId *id, bool remove)
{
	Relation map = table_open(storage_relation("storage"), remove ? RowExclusiveLock : AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	ScanKeyInit(&key, Anum_storage_relfilenode, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relfilenode));
	scan = systable_beginscan(map, storage_relation("storage_pkey"), true, SnapshotSelf, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool isnull;

		id->storage = DatumGetInt64(heap_getattr(tuple, Anum_storage_storage, RelationGetDescr(map), &isnull));
		id->table = DatumGetInt64(heap_getattr(tuple, Anum_storage_table, RelationGetDescr(map), &isnull));
		found = true;
		if (remove)
			simple_heap_delete(map, &tuple->t_self);
	}
	systable_endscan(scan);
	table_close(map, remove ? NoLock : AccessShareLock);
	return found;
}

void
storage_each(void (*each)(void *arg, Oid relfilenode, uint64 storage), void *arg)
{
	Relation map = table_open(storage_relation("storage"), AccessShareLock);
	TableScanDesc scan = table_beginscan(map, GetActiveSnapshot(), 0, NULL);
	HeapTuple tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		bool isnull;

		each(arg, DatumGetObjectId(heap_getattr(tuple, Anum_storage_relfilenode, RelationGetDescr(map), &isnull)),
			 DatumGetInt64(heap_getattr(tuple, Anum_storage_storage, RelationGetDescr(map), &isnull)));
	}
	table_endscan(scan);
	table_close(map, AccessShareLock);
}

StorageId
storage_of(Relation rel)
{
	StorageCache *cache = rel->rd_amcache;
	StorageId id;

	if (cache && cache->relfilenode == rel->rd_node.relNode)
		return cache->id;
	if (!lookup(rel->rd_node.relNode, &id, false))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table \"%s\" has no storage in the repository", RelationGetRelationName(rel)),
						errdetail("File node %u is not in s3am.storage.", rel->rd_node.relNode)));
	if (cache == NULL)
		cache = rel->rd_amcache = MemoryContextAlloc(CacheMemoryContext, sizeof(StorageCache));
	cache->relfilenode = rel->rd_node.relNode;
	cache->id = id;
	return id;
}

/* The relation that a rewrite's transient table stands for, or InvalidOid. */
Oid
storage_rewritten(Relation rel)
{
	Oid relid = InvalidOid;
	int used = 0;
	const char *name = RelationGetRelationName(rel);

	if (sscanf(name, "pg_temp_%u%n", &relid, &used) == 1 && name[used] == '\0' && get_rel_name(relid) != NULL)
		return relid;
	return InvalidOid;
}

/* A relation gets a new relfilenode: gives it new storage.  Called by relation_set_new_filenode. */
void
storage_create(Relation rel, const RelFileNode *newrnode)
{
	Oid old = storage_rewritten(rel);
	StorageId before = {0, 0};
	StorageId id;
	Relation map;
	HeapTuple tuple;
	Datum values[Natts_storage];
	bool nulls[Natts_storage] = {false};

	if (OidIsValid(old))
	{
		Relation orig = table_open(old, NoLock);

		if (relation_is_s3am(orig))
			before = storage_of(orig);
		table_close(orig, NoLock);
	}
	else if (rel->rd_node.relNode != newrnode->relNode)
		(void) lookup(rel->rd_node.relNode, &before, true);

	id.storage = ddl_replaying() ? ddl_replay_storage(rel) : commit_new_object_id();
	id.table = before.table ? before.table : id.storage;

	map = table_open(storage_relation("storage"), RowExclusiveLock);
	{
		StorageId stale;

		(void) lookup(newrnode->relNode, &stale, true);
	}
	values[0] = ObjectIdGetDatum(newrnode->relNode);
	values[1] = Int64GetDatum(id.storage);
	values[2] = Int64GetDatum(id.table);
	tuple = heap_form_tuple(RelationGetDescr(map), values, nulls);
	CatalogTupleInsert(map, tuple);
	heap_freetuple(tuple);
	table_close(map, NoLock);

	if (!ddl_replaying())
	{
		/* a rewrite's old storage goes when the transient table is dropped, a truncated table's now */
		commit_storage_edit(id.table, OidIsValid(old) ? 0 : before.storage, id.storage);
		/* its rows are copied from now on */
		if (OidIsValid(old) && before.storage && node_current())
			commit_keeps_writers_out(before.storage, txn_base(node_current()));
		ddl_note_storage(rel, id.storage);
	}
}

/* A relation is about to be dropped. */
void
storage_dropped(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	StorageId id;

	/* with the extension its own tables go, and what is in the repository stays */
	if (!HeapTupleIsValid(tuple) || ddl_detaching())
	{
		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		return;
	}
	form = (Form_pg_class) GETSTRUCT(tuple);
	if (form->relam == s3am_am_oid() && OidIsValid(form->relam) && OidIsValid(form->relfilenode) &&
		lookup(form->relfilenode, &id, true) && !ddl_replaying())
		commit_storage_edit(id.table, id.storage, 0);
	ReleaseSysCache(tuple);
}
