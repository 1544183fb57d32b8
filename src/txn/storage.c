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
#include "index/index.h"
#include "s3am.h"
#include "txn/commit.h"
#include "txn/txn.h"

#define Natts_storage 4
#define Anum_storage_relfilenode 1
#define Anum_storage_storage 2
#define Anum_storage_table 3
#define Anum_storage_index 4

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

/* By relfilenode, or by the OID of an index.  relfilenode: or NULL. */
static bool
lookup(int column, Oid oid, StorageId *id, Oid *relfilenode, bool remove)
{
	Relation map = table_open(storage_relation("storage"), remove ? RowExclusiveLock : AccessShareLock);
	Oid map_index = storage_relation(column == Anum_storage_index ? "storage_index" : "storage_pkey");
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(map, map_index, true, SnapshotSelf, 1, &key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool isnull;

		id->storage = DatumGetInt64(heap_getattr(tuple, Anum_storage_storage, RelationGetDescr(map), &isnull));
		id->table = DatumGetInt64(heap_getattr(tuple, Anum_storage_table, RelationGetDescr(map), &isnull));
		if (relfilenode)
			*relfilenode =
				DatumGetObjectId(heap_getattr(tuple, Anum_storage_relfilenode, RelationGetDescr(map), &isnull));
		found = true;
		if (remove)
			simple_heap_delete(map, &tuple->t_self);
	}
	systable_endscan(scan);
	table_close(map, remove ? NoLock : AccessShareLock);
	return found;
}

/* index: InvalidOid: it is a table's. */
static void
put(Oid relfilenode, StorageId id, Oid index)
{
	Relation map = table_open(storage_relation("storage"), RowExclusiveLock);
	Datum values[Natts_storage];
	bool nulls[Natts_storage] = {false};
	HeapTuple tuple;

	values[0] = ObjectIdGetDatum(relfilenode);
	values[1] = Int64GetDatum(id.storage);
	values[2] = Int64GetDatum(id.table);
	values[3] = ObjectIdGetDatum(index);
	nulls[3] = !OidIsValid(index);
	tuple = heap_form_tuple(RelationGetDescr(map), values, nulls);
	CatalogTupleInsert(map, tuple);
	heap_freetuple(tuple);
	table_close(map, NoLock);
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

Oid
storage_index_relation(uint64 storage)
{
	Relation map = table_open(storage_relation("storage"), AccessShareLock);
	Oid result = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_storage_storage, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(storage));
	scan = systable_beginscan(map, storage_relation("storage_storage"), true, NULL, 1, &key);
	if ((tuple = systable_getnext(scan)) != NULL)
	{
		bool isnull;
		Datum index = heap_getattr(tuple, Anum_storage_index, RelationGetDescr(map), &isnull);

		result = isnull ? InvalidOid : DatumGetObjectId(index);
	}
	systable_endscan(scan);
	table_close(map, AccessShareLock);
	return result;
}

StorageId
storage_of(Relation rel)
{
	StorageCache *cache = rel->rd_amcache;
	StorageId id;
	bool found;

	if (cache && cache->relfilenode == rel->rd_node.relNode)
		return cache->id;
	/* an index keeps its storage when its file moves to another tablespace */
	if (rel->rd_rel->relkind == RELKIND_INDEX)
		found = lookup(Anum_storage_index, RelationGetRelid(rel), &id, NULL, false);
	else
		found = lookup(Anum_storage_relfilenode, rel->rd_node.relNode, &id, NULL, false);
	if (!found)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("relation \"%s\" has no storage in the repository", RelationGetRelationName(rel)),
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

	if (OidIsValid(old))
	{
		Relation orig = table_open(old, NoLock);

		if (relation_is_s3am(orig))
			before = storage_of(orig);
		table_close(orig, NoLock);
	}
	else if (rel->rd_node.relNode != newrnode->relNode)
		(void) lookup(Anum_storage_relfilenode, rel->rd_node.relNode, &before, NULL, true);

	id.storage = ddl_replaying() ? ddl_replay_storage(rel) : commit_new_object_id();
	id.table = before.table ? before.table : id.storage;

	{
		StorageId stale;

		(void) lookup(Anum_storage_relfilenode, newrnode->relNode, &stale, NULL, true);
	}
	put(newrnode->relNode, id, InvalidOid);

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

StorageId
storage_create_index(Relation index)
{
	StorageId id, before = {0, 0};
	Oid relfilenode = InvalidOid;

	/* a table that this subtransaction made is truncated: its indexes keep their files */
	if (lookup(Anum_storage_index, RelationGetRelid(index), &before, &relfilenode, false) &&
		relfilenode == index->rd_node.relNode && (ddl_replaying() || commit_storage_is_new(before.storage)))
		return before;
	if (before.storage)
		(void) lookup(Anum_storage_index, RelationGetRelid(index), &before, NULL, true);
	id.storage = ddl_replaying() ? ddl_replay_storage(index) : commit_new_object_id();
	id.table = before.table ? before.table : id.storage;
	put(index->rd_node.relNode, id, RelationGetRelid(index));
	if (!ddl_replaying())
	{
		commit_storage_edit(id.table, before.storage, id.storage);
		ddl_note_storage(index, id.storage);
	}
	return id;
}

/* An index that is dropped may come back under another OID with its file: ALTER TABLE ... TYPE to a compatible type. */
typedef struct DroppedIndex
{
	Oid relfilenode;
	StorageId id;
} DroppedIndex;

static List *dropped_indexes; /* in TopTransactionContext */

void
storage_adopt_index(Oid indexid, Oid relfilenode)
{
	ListCell *lc;

	foreach (lc, dropped_indexes)
	{
		DroppedIndex *dropped = lfirst(lc);

		if (dropped->relfilenode != relfilenode)
			continue;
		put(relfilenode, dropped->id, indexid);
		if (!ddl_replaying())
			commit_storage_stays(dropped->id.storage);
		dropped_indexes = foreach_delete_current (dropped_indexes, lc);
		break;
	}
}

void
storage_reset(void)
{
	dropped_indexes = NIL;
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
	if (OidIsValid(form->relam) && form->relam == s3am_am_oid() && OidIsValid(form->relfilenode) &&
		lookup(Anum_storage_relfilenode, form->relfilenode, &id, NULL, true) && !ddl_replaying())
		commit_storage_edit(id.table, id.storage, 0);
	else if (index_am_is_ours(form->relam) && lookup(Anum_storage_index, relid, &id, NULL, true))
	{
		MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
		DroppedIndex *dropped = palloc(sizeof(DroppedIndex));

		*dropped = (DroppedIndex){form->relfilenode, id};
		dropped_indexes = lappend(dropped_indexes, dropped);
		MemoryContextSwitchTo(old);
		if (!ddl_replaying())
			commit_storage_edit(id.table, id.storage, 0);
	}
	ReleaseSysCache(tuple);
}
