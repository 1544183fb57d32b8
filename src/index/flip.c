/*
 * flip.c: indexes of s3am tables belong to s3am's index access methods, whatever their DDL says.
 *
 * Core defines such an index as a B-tree, so it has core's operator classes and passes every check that a definition goes through.
 * Before anybody has opened it this file puts s3btree's OID into its pg_class row, and later answers wherever core asks
 * `relam == BTREE_AM_OID` of it.  README.md, "The flip", has a paragraph on each of these places: the gate in core, why what is done
 * about it is safe, and when it can go.
 */
#include "postgres.h"

#include "access/amapi.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "executor/execPartition.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "index/concurrently.h"
#include "index/index.h"
#include "s3am.h"
#include "txn/txn.h"

static object_access_hook_type prev_object_access;
static ExecutorStart_hook_type prev_executor_start;
static ExecutorEnd_hook_type prev_executor_end;
static ProcessUtility_hook_type prev_utility;
static planner_hook_type prev_planner;
static get_relation_info_hook_type prev_relation_info;

/* ------------------------------------------------------------------------------------ which access method */

typedef struct IndexAm
{
	const char *name, *core_name;
	Oid core; /* what stands for it in definitions */
	Oid oid, handler; /* in this database; InvalidOid: it is not there */
} IndexAm;

static IndexAm ams[] = {{"s3btree", "btree", BTREE_AM_OID}, {"s3hash", "hash", HASH_AM_OID}};
#define S3BTREE (&ams[0])
#define S3HASH (&ams[1])

static bool ams_known, names_given;

static void
forget_ams(Datum arg, int cacheid, uint32 hash)
{
	ams_known = false;
	names_given = false;
}

static void
find_ams(void)
{
	if (ams_known)
		return;
	ams_known = true; /* if they are forgotten meanwhile it stays so */
	for (int i = 0; i < lengthof(ams); i++)
	{
		HeapTuple tuple = SearchSysCache1(AMNAME, CStringGetDatum(ams[i].name));

		ams[i].oid = ams[i].handler = InvalidOid;
		if (HeapTupleIsValid(tuple))
		{
			ams[i].oid = ((Form_pg_am) GETSTRUCT(tuple))->oid;
			ams[i].handler = ((Form_pg_am) GETSTRUCT(tuple))->amhandler;
			ReleaseSysCache(tuple);
		}
	}
}

Oid
s3btree_am_oid(void)
{
	find_ams();
	return S3BTREE->oid;
}

/* NULL: it is none of s3am's. */
static const IndexAm *
our_am(Oid relam)
{
	find_ams();
	for (int i = 0; i < lengthof(ams); i++)
		if (OidIsValid(relam) && ams[i].oid == relam)
			return &ams[i];
	return NULL;
}

bool
index_am_is_ours(Oid relam)
{
	return our_am(relam) != NULL;
}

/* By what the index runs: what its entry says of the access method may be masked. */
static const IndexAm *
am_of(Relation index)
{
	find_ams();
	for (int i = 0; i < lengthof(ams); i++)
		if (OidIsValid(ams[i].handler) && ams[i].handler == index->rd_amhandler)
			return &ams[i];
	return NULL;
}

bool
relation_is_s3btree(Relation index)
{
	return am_of(index) == S3BTREE;
}

bool
relation_is_s3hash(Relation index)
{
	return am_of(index) == S3HASH;
}

/* Do indexes of tables of this access method flip? */
static bool
table_am_flips(Oid relam)
{
	return OidIsValid(relam) && relam == s3am_am_oid();
}

/* README.md, "Names". */
static void
give_names(void)
{
	if (names_given || !IsTransactionState())
		return;
	names_given = true;
	find_ams();
	for (int i = 0; i < lengthof(ams); i++)
	{
		HeapTuple tuple = OidIsValid(ams[i].oid) ? SearchSysCache1(AMOID, ObjectIdGetDatum(ams[i].oid)) : NULL;

		if (HeapTupleIsValid(tuple))
		{
			(void) namestrcpy(&((Form_pg_am) GETSTRUCT(tuple))->amname, ams[i].core_name);
			ReleaseSysCache(tuple);
		}
	}
}

/* ------------------------------------------------------------------------------------ masks */

/*
 * While a mask is there its index says in rd_rel, in this backend's memory alone, that it is core's.  The mask holds the index open, so
 * that the entry of the relation cache stays where it is; it goes with its holder, or else with the resource owner that the reference
 * belongs to, before anybody could free the entry.  README.md, "Masks".
 */
typedef struct Mask
{
	dlist_node node;
	const void *holder; /* what it was made for: a statement, a query */
	Relation index;
	ResourceOwner owner; /* of the reference */
	Oid am, shown; /* what the index is, and what it says */
	int depth; /* planners that ran when it was made: those that have begun since do not see it */
} Mask;

static dlist_head masks = DLIST_STATIC_INIT(masks);
static int planners;

/* Shows indexes as their masks want it now.  Several masks may be of one index. */
static void
masks_apply(void)
{
	dlist_iter i;

	dlist_foreach(i, &masks)
	{
		Mask *m = dlist_container(Mask, node, i.cur);

		m->index->rd_rel->relam = m->am;
	}
	dlist_foreach(i, &masks)
	{
		Mask *m = dlist_container(Mask, node, i.cur);

		if (m->depth == planners)
			m->index->rd_rel->relam = m->shown;
	}
}

/* Takes a mask off.  The reference is left to the caller. */
static void
mask_forget(Mask *m)
{
	dlist_delete(&m->node);
	m->index->rd_rel->relam = m->am;
	pfree(m);
	masks_apply();
}

static void
mask_release(Mask *m)
{
	Relation index = m->index;
	ResourceOwner owner = m->owner, current = CurrentResourceOwner;

	mask_forget(m);
	CurrentResourceOwner = owner;
	index_close(index, NoLock);
	CurrentResourceOwner = current;
}

static void
masks_release(const void *holder)
{
	dlist_mutable_iter i;

	dlist_foreach_modify(i, &masks)
	{
		Mask *m = dlist_container(Mask, node, i.cur);

		if (m->holder == holder)
			mask_release(m);
	}
}

/* The masks of one index: what is to come wants to have it for itself. */
static void
masks_release_index(Oid indexid)
{
	dlist_mutable_iter i;

	dlist_foreach_modify(i, &masks)
	{
		Mask *m = dlist_container(Mask, node, i.cur);

		if (RelationGetRelid(m->index) == indexid)
			mask_release(m);
	}
}

/* Masks an index; takes the reference over. */
static void
mask_push(Relation index, const IndexAm *am, const void *holder)
{
	Mask *m = MemoryContextAlloc(TopTransactionContext, sizeof(Mask));

	m->holder = holder;
	m->index = index;
	m->owner = CurrentResourceOwner;
	m->am = am->oid;
	m->shown = am->core;
	m->depth = planners;
	dlist_push_tail(&masks, &m->node);
	masks_apply();
}

/* Masks an index if it is one of ours.  The lock is kept, as core keeps those that it takes for the same. */
static void
mask_index(Oid indexid, LOCKMODE lock, const void *holder)
{
	Relation index = index_open(indexid, lock);
	const IndexAm *am = am_of(index);

	if (am)
		mask_push(index, am, holder);
	else
		index_close(index, NoLock);
}

/* Masks an index that is being made; core builds its entry when this command is over. */
static void
mask_new_index(Oid indexid, const IndexAm *am, const void *holder)
{
	Relation index = RelationIdGetRelation(indexid);

	if (RelationIsValid(index))
		mask_push(index, am, holder);
}

/* Masks the indexes of a table that the caller has locked. */
static void
mask_table(Oid relid, LOCKMODE lock, const void *holder)
{
	Relation table = table_open(relid, NoLock);
	List *indexes = table_am_flips(table->rd_rel->relam) ? RelationGetIndexList(table) : NIL;
	ListCell *lc;

	table_close(table, NoLock);
	foreach (lc, indexes)
		mask_index(lfirst_oid(lc), lock, holder);
	list_free(indexes);
}

/* The same for the leaves of a partitioned table, which are locked here. */
static void
mask_tree(Oid relid, LOCKMODE lock, const void *holder)
{
	ListCell *lc;

	foreach (lc, find_all_inheritors(relid, lock, NULL))
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			mask_table(lfirst_oid(lc), lock, holder);
}

/* An entry of the relation cache was read anew, in place: what it says is what the catalog says. */
static void
relation_was_reloaded(Datum arg, Oid relid)
{
	if (!dlist_is_empty(&masks))
		masks_apply();
}

/* References are gone, but nothing was freed yet. */
static void
resources_released(ResourceReleasePhase phase, bool commit, bool top, void *arg)
{
	dlist_mutable_iter i;

	if (phase != RESOURCE_RELEASE_BEFORE_LOCKS)
		return;
	dlist_foreach_modify(i, &masks)
	{
		Mask *m = dlist_container(Mask, node, i.cur);

		if (m->owner == CurrentResourceOwner)
			mask_forget(m);
	}
}

/* ------------------------------------------------------------------------------------ an index is made */

/* A row of pg_class or pg_index, whether the current command made it or not; NULL: none. */
static HeapTuple
catalog_row(Relation catalog, Oid by, AttrNumber column, Oid oid)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
	scan = systable_beginscan(catalog, by, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (tuple)
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

static HeapTuple
class_row(Relation catalog, Oid relid)
{
	return catalog_row(catalog, ClassOidIndexId, Anum_pg_class_oid, relid);
}

/*
 * The access method that an index of an s3am table has in place of the one that its definition names; throws if there is none.
 */
static Oid
counterpart(Oid relam, bool exclusion, Oid table)
{
	if (our_am(relam))
		return relam;
	for (int i = 0; i < lengthof(ams); i++)
		if (relam == ams[i].core && OidIsValid(ams[i].oid))
			return ams[i].oid;
	ereport(
		ERROR,
		(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		 exclusion ? errmsg("s3am tables cannot have exclusion constraints of access method \"%s\"", get_am_name(relam))
				   : errmsg("s3am tables cannot have indexes of access method \"%s\"", get_am_name(relam)),
		 errdetail("Table \"%s\" is an s3am table.", get_rel_name(table)),
		 exclusion ? errhint("Use btree or hash, with the operator = alone, or the access method heap for the table.")
				   : errhint("Use btree or hash, or the access method heap for the table.")));
}

/*
 * The entry of the relation cache is used again, or was made already, with the routine of the access method that the index had.  It is
 * read anew, but for that.
 */
static void
give_routine(Oid indexid, Oid relam)
{
	HeapTuple tuple = SearchSysCache1(AMOID, ObjectIdGetDatum(relam));
	Oid handler = ((Form_pg_am) GETSTRUCT(tuple))->amhandler;
	Relation index;

	ReleaseSysCache(tuple);
	index = RelationIdGetRelation(indexid);
	if (!RelationIsValid(index))
		return;
	if (index->rd_indexcxt && index->rd_indam && index->rd_amhandler != handler)
	{
		IndexAmRoutine *routine = GetIndexAmRoutine(handler);

		Assert(routine->amsupport == index->rd_indam->amsupport);
		memcpy(index->rd_indam, routine, sizeof(IndexAmRoutine));
		pfree(routine);
		index->rd_amhandler = handler;
		index->rd_rel->relam = relam;
		if (index->rd_amcache)
			pfree(index->rd_amcache);
		index->rd_amcache = NULL;
	}
	RelationClose(index);
}

static Oid
table_am(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid result = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relkind == RELKIND_RELATION || form->relkind == RELKIND_MATVIEW)
			result = form->relam;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* The table of an index; InvalidOid: none. */
static Oid
table_of(Oid indexid, bool *exclusion)
{
	Relation indexes = table_open(IndexRelationId, AccessShareLock);
	HeapTuple row = catalog_row(indexes, IndexRelidIndexId, Anum_pg_index_indexrelid, indexid);
	Oid table = InvalidOid;

	if (row)
	{
		table = ((Form_pg_index) GETSTRUCT(row))->indrelid;
		*exclusion = ((Form_pg_index) GETSTRUCT(row))->indisexclusion;
		heap_freetuple(row);
	}
	table_close(indexes, AccessShareLock);
	return table;
}

static bool
is_key(const AlterTableCmd *cmd)
{
	return cmd->subtype == AT_AddConstraint && cmd->def && IsA(cmd->def, Constraint) &&
		   (castNode(Constraint, cmd->def)->contype == CONSTR_PRIMARY ||
			castNode(Constraint, cmd->def)->contype == CONSTR_UNIQUE);
}

/* An ALTER TABLE that makes keys of indexes, which it may make anew before: README.md, "Keys from indexes". */
typedef struct Altering
{
	const AlterTableStmt *stmt; /* NULL: it is nothing of the kind */
	Oid table;
} Altering;

static const Altering *altering; /* the one that runs; its masks' holder, too */

/* Does a subcommand make a key of an index?  The index's name; NULL: it does not. */
static const char *
key_index(const AlterTableCmd *cmd)
{
	return is_key(cmd) ? castNode(Constraint, cmd->def)->indexname : NULL;
}

static bool
becomes_key(Oid table, const char *index)
{
	ListCell *lc;

	if (altering == NULL || altering->table != table)
		return false;
	foreach (lc, altering->stmt->cmds)
		if (key_index(lfirst(lc)) && strcmp(key_index(lfirst(lc)), index) == 0)
			return true;
	return false;
}

/* README.md, "What is made". */
static void
index_made(Oid indexid)
{
	Relation classes = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple row = class_row(classes, indexid);
	Form_pg_class form = row ? (Form_pg_class) GETSTRUCT(row) : NULL;
	bool exclusion = false;
	Oid table = form && form->relkind == RELKIND_INDEX ? table_of(indexid, &exclusion) : InvalidOid;

	if (OidIsValid(table) && table_am_flips(table_am(table)))
	{
		Oid relam = counterpart(form->relam, exclusion, table);

		if (form->relam != relam)
		{
			form->relam = relam;
			catalog_update_in_place(classes, row);
			give_routine(indexid, relam);
		}
		storage_adopt_index(indexid, form->relfilenode);
		if (becomes_key(table, NameStr(form->relname)))
			mask_new_index(indexid, our_am(relam), altering);
	}
	table_close(classes, RowExclusiveLock);
}

/* The indexes of a table; a list of OIDs. */
static List *
indexes_of(Oid relid)
{
	Relation indexes = table_open(IndexRelationId, AccessShareLock);
	List *result = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple index;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(indexes, IndexIndrelidIndexId, true, SnapshotSelf, 1, &key);
	while ((index = systable_getnext(scan)) != NULL)
		result = lappend_oid(result, ((Form_pg_index) GETSTRUCT(index))->indexrelid);
	systable_endscan(scan);
	table_close(indexes, AccessShareLock);
	return result;
}

/* What an index should belong to; throws if it cannot be had.  flips: it is one of an s3am table. */
static Oid
wanted_am(HeapTuple class, bool flips)
{
	Form_pg_class form = (Form_pg_class) GETSTRUCT(class);
	bool exclusion = false;
	Oid table;

	if (form->relkind != RELKIND_INDEX)
		return form->relam;
	if (!flips)
		return our_am(form->relam) ? our_am(form->relam)->core : form->relam;
	table = table_of(form->oid, &exclusion);
	return counterpart(form->relam, exclusion, table);
}

/* README.md, "SET TABLESPACE".  An index was altered; throws if core has copied its file, in which there is nothing. */
static void
refuse_copy(Form_pg_class form)
{
	Relation index = RelationIdGetRelation(form->oid);
	bool copied;

	if (!RelationIsValid(index))
		return;
	copied = index->rd_node.relNode != form->relfilenode;
	RelationClose(index);
	if (copied)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot move index \"%s\" of an s3am table to another tablespace", NameStr(form->relname)),
				 errdetail("It is in the repository.")));
}

/* README.md, "SET ACCESS METHOD". */
static void
storage_swapped(Oid relid)
{
	Relation classes = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple table = class_row(classes, relid);
	Form_pg_class form = table ? (Form_pg_class) GETSTRUCT(table) : NULL;

	if (form && form->relkind == RELKIND_INDEX && index_am_is_ours(form->relam))
		refuse_copy(form);
	if (form && form->relhasindex && (form->relkind == RELKIND_RELATION || form->relkind == RELKIND_MATVIEW))
	{
		bool flips = table_am_flips(form->relam);
		List *changes = NIL;
		ListCell *lc;

		/* nothing is changed before it is clear that all can be */
		foreach (lc, indexes_of(relid))
		{
			HeapTuple row = class_row(classes, lfirst_oid(lc));

			masks_release_index(lfirst_oid(lc)); /* it may be rebuilt next, and nobody else may have it open */
			if (row && wanted_am(row, flips) != ((Form_pg_class) GETSTRUCT(row))->relam)
				changes = lappend(changes, row);
		}
		foreach (lc, changes)
		{
			HeapTuple row = lfirst(lc);
			Form_pg_class index = (Form_pg_class) GETSTRUCT(row);

			if (index_am_is_ours(index->relam))
				storage_dropped(index->oid); /* as long as the catalog says that it has one */
			index->relam = wanted_am(row, flips);
			CatalogTupleUpdate(classes, &row->t_self, row);
			give_routine(index->oid, index->relam);
		}
	}
	table_close(classes, RowExclusiveLock);
}

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class_id, object_id, sub_id, arg);
	if (class_id != RelationRelationId || sub_id != 0 || object_id < FirstNormalObjectId)
		return;
	if (access == OAT_DROP)
		masks_release_index(object_id);
	else if (access != OAT_POST_CREATE && access != OAT_POST_ALTER)
		return;
	else if (OidIsValid(s3btree_am_oid()))
	{
		give_names();
		if (access == OAT_POST_CREATE)
			index_made(object_id);
		else
			storage_swapped(object_id);
	}
}

/* ------------------------------------------------------------------------------------ planning */

/* Of a B-tree. */
static void
show_order(IndexOptInfo *info, Relation index, int height)
{
	info->tree_height = height;
	info->sortopfamily = info->opfamily;
	info->reverse_sort = palloc(sizeof(bool) * info->nkeycolumns);
	info->nulls_first = palloc(sizeof(bool) * info->nkeycolumns);
	for (int i = 0; i < info->nkeycolumns; i++)
	{
		info->reverse_sort[i] = (index->rd_indoption[i] & INDOPTION_DESC) != 0;
		info->nulls_first[i] = (index->rd_indoption[i] & INDOPTION_NULLS_FIRST) != 0;
	}
}

/* README.md, "The planner". */
static void
relation_info(PlannerInfo *root, Oid relid, bool inherited, RelOptInfo *rel)
{
	ListCell *lc;

	if (prev_relation_info)
		prev_relation_info(root, relid, inherited, rel);
	foreach (lc, rel->indexlist)
	{
		IndexOptInfo *info = lfirst(lc);
		Relation index;
		BlockNumber pages;
		double tuples;
		int height;

		if (!index_am_is_ours(info->relam))
			continue;
		index = index_open(info->indexoid, NoLock);
		if (!collation_planner_may(index))
		{
			index_close(index, NoLock);
			rel->indexlist = foreach_delete_current (rel->indexlist, lc);
			continue;
		}
		index_estimate(index, &pages, &tuples, &height);
		info->pages = pages;
		/* as core has it: one entry for each row that the table is taken to have, however many there are of rows that have ended */
		info->tuples = info->indpred == NIL ? rel->tuples : Min(tuples, rel->tuples);
		if (relation_is_s3btree(index))
			show_order(info, index, height);
		info->relam = our_am(info->relam)->core;
		info->hypothetical = true;
		index_close(index, NoLock);
	}
}

/* Planning sees no mask that was there before. */
static PlannedStmt *
plan_unmasked(Query *parse, const char *text, int options, ParamListInfo params)
{
	PlannedStmt *volatile result = NULL;

	if (dlist_is_empty(&masks))
		return prev_planner ? prev_planner(parse, text, options, params)
							: standard_planner(parse, text, options, params);
	planners++;
	masks_apply();
	PG_TRY();
	{
		result =
			prev_planner ? prev_planner(parse, text, options, params) : standard_planner(parse, text, options, params);
	}
	PG_FINALLY();
	{
		planners--;
		masks_apply();
	}
	PG_END_TRY();
	return result;
}

/* ------------------------------------------------------------------------------------ execution */

static bool
has_row_comparison(List *quals)
{
	ListCell *lc;

	foreach (lc, quals)
		if (IsA(lfirst(lc), RowCompareExpr))
			return true;
	return false;
}

static void mask_row_comparisons(PlannedStmt *stmt, Plan *plan, const void *holder);

static void
mask_row_comparisons_of(PlannedStmt *stmt, List *plans, const void *holder)
{
	ListCell *lc;

	foreach (lc, plans)
		mask_row_comparisons(stmt, lfirst(lc), holder);
}

/* README.md, "Row comparisons". */
static void
mask_row_comparisons(PlannedStmt *stmt, Plan *plan, const void *holder)
{
	Oid index = InvalidOid;
	List *quals = NIL;

	if (plan == NULL)
		return;
	check_stack_depth();
	switch (nodeTag(plan))
	{
		case T_IndexScan:
			index = ((IndexScan *) plan)->indexid;
			quals = ((IndexScan *) plan)->indexqual;
			break;
		case T_IndexOnlyScan:
			index = ((IndexOnlyScan *) plan)->indexid;
			quals = ((IndexOnlyScan *) plan)->indexqual;
			break;
		case T_BitmapIndexScan:
			index = ((BitmapIndexScan *) plan)->indexid;
			quals = ((BitmapIndexScan *) plan)->indexqual;
			break;
		case T_Append:
			mask_row_comparisons_of(stmt, ((Append *) plan)->appendplans, holder);
			break;
		case T_MergeAppend:
			mask_row_comparisons_of(stmt, ((MergeAppend *) plan)->mergeplans, holder);
			break;
		case T_BitmapAnd:
			mask_row_comparisons_of(stmt, ((BitmapAnd *) plan)->bitmapplans, holder);
			break;
		case T_BitmapOr:
			mask_row_comparisons_of(stmt, ((BitmapOr *) plan)->bitmapplans, holder);
			break;
		case T_SubqueryScan:
			mask_row_comparisons(stmt, ((SubqueryScan *) plan)->subplan, holder);
			break;
		case T_CustomScan:
			mask_row_comparisons_of(stmt, ((CustomScan *) plan)->custom_plans, holder);
			break;
		default:
			break;
	}
	if (has_row_comparison(quals))
		mask_index(index, rt_fetch(((Scan *) plan)->scanrelid, stmt->rtable)->rellockmode, holder);
	mask_row_comparisons(stmt, plan->lefttree, holder);
	mask_row_comparisons(stmt, plan->righttree, holder);
}

/*
 * INSERT ... ON CONFLICT into a partitioned table.  Core opens a leaf when the first row comes that belongs there; so each row is looked at
 * before core gets it.  README.md, "ON CONFLICT".
 */
typedef struct Routed
{
	dlist_node node;
	PlanState *source; /* where the rows come from */
	ExecProcNodeMtd next; /* its own function */
	ModifyTableState *target;
	ModifyTableState *finder; /* has no plan, so that what it finds is not opened for ON CONFLICT */
	PartitionTupleRouting *routing; /* its */
	TupleTableSlot *slot;
	ResultRelInfo *last;
	HTAB *opened; /* leaves that core has opened; by the finder's ResultRelInfo */
	MemoryContextCallback callback;
} Routed;

static dlist_head routed = DLIST_STATIC_INIT(routed);

static void
forget_routed(void *arg)
{
	dlist_delete(&((Routed *) arg)->node);
}

/* Lets core open the leaf that a row belongs to, with the leaf's indexes masked. */
static void
open_leaf(Routed *r, TupleTableSlot *row)
{
	EState *estate = r->target->ps.state;
	int n = r->slot->tts_tupleDescriptor->natts;
	int opened = list_length(estate->es_tuple_routing_result_relations);
	ResultRelInfo *leaf;
	bool found;

	ExecClearTuple(r->slot);
	slot_getsomeattrs(row, n);
	memcpy(r->slot->tts_values, row->tts_values, sizeof(Datum) * n);
	memcpy(r->slot->tts_isnull, row->tts_isnull, sizeof(bool) * n);
	ExecStoreVirtualTuple(r->slot);
	leaf = ExecFindPartition(r->finder, r->target->rootResultRelInfo, r->routing, r->slot, estate);
	if (leaf == r->last)
		return;
	r->last = leaf;
	(void) hash_search(r->opened, &leaf, HASH_ENTER, &found);
	if (found)
		return;
	/* triggers and EXPLAIN are to know core's alone */
	estate->es_tuple_routing_result_relations = list_truncate(estate->es_tuple_routing_result_relations, opened);
	mask_table(RelationGetRelid(leaf->ri_RelationDesc), RowExclusiveLock, r);
	(void) ExecFindPartition(r->target, r->target->rootResultRelInfo, r->target->mt_partition_tuple_routing, r->slot,
							 estate);
	masks_release(r);
}

/* Stands for the function of the node that the rows come from. */
static TupleTableSlot *
routed_row(PlanState *source)
{
	dlist_iter i;

	dlist_foreach(i, &routed)
	{
		Routed *r = dlist_container(Routed, node, i.cur);

		if (r->source == source)
		{
			TupleTableSlot *row = r->next(source);

			if (!TupIsNull(row))
				open_leaf(r, row);
			return row;
		}
	}
	elog(ERROR, "rows that nobody routes");
}

/* Might a partitioned table have leaves of ours?  All leaves of a tree are s3am tables, or none is (local_check_tree). */
static bool
may_have_leaves(Relation table)
{
	PartitionDesc parts = RelationGetPartitionDesc(table, true);

	return parts->nparts > 0 && (!parts->is_leaf[0] || table_am_flips(table_am(parts->oids[0])));
}

static void
route(ModifyTableState *target)
{
	EState *estate = target->ps.state;
	ResultRelInfo *root = target->rootResultRelInfo;
	HASHCTL hash = {
		.keysize = sizeof(ResultRelInfo *), .entrysize = sizeof(ResultRelInfo *), .hcxt = estate->es_query_cxt};
	MemoryContext old;
	Routed *r;

	if (target->mt_partition_tuple_routing == NULL || !may_have_leaves(root->ri_RelationDesc))
		return;
	old = MemoryContextSwitchTo(estate->es_query_cxt);
	r = palloc0(sizeof(Routed));
	r->target = target;
	r->finder = makeNode(ModifyTableState);
	r->finder->ps.state = estate;
	r->finder->operation = CMD_INSERT;
	r->finder->mt_nrels = 1;
	r->finder->resultRelInfo = r->finder->rootResultRelInfo = root;
	r->routing = ExecSetupPartitionTupleRouting(estate, root->ri_RelationDesc);
	r->slot = ExecInitExtraTupleSlot(estate, RelationGetDescr(root->ri_RelationDesc), &TTSOpsVirtual);
	r->opened = hash_create("s3am leaves opened", 16, &hash, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	r->source = outerPlanState(target);
	r->next = r->source->ExecProcNodeReal;
	dlist_push_tail(&routed, &r->node);
	r->callback.func = forget_routed;
	r->callback.arg = r;
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &r->callback);
	r->source->ExecProcNodeReal = routed_row;
	MemoryContextSwitchTo(old);
}

/* README.md, "ON CONFLICT". */
static void
open_for_conflicts(ModifyTableState *target)
{
	ResultRelInfo *into = target->resultRelInfo;
	Relation table = into->ri_RelationDesc;
	MemoryContext old;

	if (target->operation != CMD_INSERT || ((ModifyTable *) target->ps.plan)->onConflictAction == ONCONFLICT_NONE)
		return;
	if (table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		route(target);
	else if (table_am_flips(table->rd_rel->relam) && table->rd_rel->relhasindex && into->ri_IndexRelationDescs == NULL)
	{
		old = MemoryContextSwitchTo(target->ps.state->es_query_cxt);
		mask_table(RelationGetRelid(table), RowExclusiveLock, into);
		ExecOpenIndices(into, true);
		masks_release(into);
		MemoryContextSwitchTo(old);
	}
}

static void
executor_start(QueryDesc *query, int eflags)
{
	PlannedStmt *stmt = query->plannedstmt;
	bool runs = (eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0 && OidIsValid(s3btree_am_oid());
	ListCell *lc;

	give_names();
	if (runs)
	{
		mask_row_comparisons(stmt, stmt->planTree, query);
		mask_row_comparisons_of(stmt, stmt->subplans, query);
	}
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (!runs)
		return;
	if (IsA(query->planstate, ModifyTableState))
		open_for_conflicts((ModifyTableState *) query->planstate);
	foreach (lc, query->estate->es_auxmodifytables)
		open_for_conflicts(lfirst(lc));
}

static void
executor_end(QueryDesc *query)
{
	dlist_iter i;

	dlist_foreach(i, &routed)
	{
		Routed *r = dlist_container(Routed, node, i.cur);

		if (r->target->ps.state == query->estate)
			ExecCleanupTupleRouting(r->finder, r->routing);
	}
	if (prev_executor_end)
		prev_executor_end(query);
	else
		standard_ExecutorEnd(query);
	masks_release(query);
}

/* ------------------------------------------------------------------------------------ utility statements */

static Oid
locked_relation(RangeVar *relation, LOCKMODE lock, char kind, RangeVarGetRelidCallback check)
{
	Oid relid = RangeVarGetRelid(relation, NoLock, true);

	/* core is to say what is wrong, and locks nothing that it would not lock */
	if (!OidIsValid(relid) || get_rel_relkind(relid) != kind)
		return InvalidOid;
	relid = RangeVarGetRelidExtended(relation, lock, RVR_MISSING_OK, check, NULL);
	return OidIsValid(relid) && get_rel_relkind(relid) == kind ? relid : InvalidOid;
}

/*
 * Of two ATTACH PARTITION of indexes of one tree the second begins when the first one has ended: core, when an index has become valid, gives up its
 * locks on those above at once, and who attaches one of them before the COMMIT finds nothing valid below, so that the top stays invalid for ever.
 * In heap the moment is short; here a request to the store is within it.  It is the root table that is locked, before any index, because core
 * waits for tables while it holds the index, and so meets with who holds the tables and wants the index (ADD FOREIGN KEY).
 */
static void
one_attaches(RangeVar *parent)
{
	Oid indexid = RangeVarGetRelid(parent, NoLock, true);
	Oid tableid = OidIsValid(indexid) && get_rel_relkind(indexid) == RELKIND_PARTITIONED_INDEX
					  ? IndexGetRelation(indexid, true)
					  : InvalidOid;
	List *ancestors;
	Relation root;
	bool ours;

	if (!OidIsValid(tableid) || !relation_is_owned(indexid))
		return;
	/* none if it was detached just now */
	ancestors = get_partition_ancestors(tableid);
	if (ancestors)
		tableid = llast_oid(ancestors);
	root = try_relation_open(tableid, AccessShareLock);
	if (root == NULL)
		return;
	ours = may_have_leaves(root);
	relation_close(root, AccessShareLock);
	if (ours)
		LockRelationOid(tableid, ShareUpdateExclusiveLock);
}

/* README.md, "Keys from indexes" and "Indexes of partitions". */
static void
mask_for_alter(AlterTableStmt *alter, Altering *holder)
{
	LOCKMODE lock;
	Oid relid;
	char kind;
	ListCell *lc;
	bool wanted = false;
	bool reads = true; /* leaves are only kept from being written */

	foreach (lc, alter->cmds)
	{
		wanted |= castNode(AlterTableCmd, lfirst(lc))->subtype == AT_AttachPartition || is_key(lfirst(lc));
		reads &= is_key(lfirst(lc)) &&
				 castNode(Constraint, castNode(AlterTableCmd, lfirst(lc))->def)->contype == CONSTR_UNIQUE;
	}
	if (!wanted)
		return;
	if (alter->objtype == OBJECT_INDEX)
		one_attaches(alter->relation);
	/* just what core does next */
	lock = AlterTableGetLockLevel(alter->cmds);
	relid = AlterTableLookupRelation(alter, lock);
	if (!OidIsValid(relid))
		return;
	kind = get_rel_relkind(relid);
	foreach (lc, alter->cmds)
	{
		AlterTableCmd *cmd = lfirst(lc);
		Oid other;

		if (is_key(cmd) && kind == RELKIND_PARTITIONED_TABLE)
		{
			/* ONLY: core locks no leaf */
			if (alter->relation->inh)
				mask_tree(relid, reads ? ShareLock : lock, holder);
		}
		else if (key_index(cmd))
		{
			holder->stmt = alter;
			holder->table = relid;
			other = get_relname_relid(key_index(cmd), get_rel_namespace(relid));
			if (OidIsValid(other) && get_rel_relkind(other) == RELKIND_INDEX && IndexGetRelation(other, true) == relid)
				mask_index(other, AccessShareLock, holder);
		}
		else if (cmd->subtype == AT_AttachPartition && kind == RELKIND_PARTITIONED_TABLE)
		{
			RangeVar *name = castNode(PartitionCmd, cmd->def)->name;

			other = locked_relation(name, AccessExclusiveLock, RELKIND_RELATION, RangeVarCallbackOwnsRelation);
			if (OidIsValid(other))
				mask_table(other, AccessExclusiveLock, holder);
			other = locked_relation(name, AccessExclusiveLock, RELKIND_PARTITIONED_TABLE, RangeVarCallbackOwnsRelation);
			if (OidIsValid(other))
				mask_tree(other, AccessExclusiveLock, holder);
		}
		else if (cmd->subtype == AT_AttachPartition && kind == RELKIND_PARTITIONED_INDEX)
		{
			Oid table;

			other = RangeVarGetRelid(castNode(PartitionCmd, cmd->def)->name, NoLock, true);
			table = OidIsValid(other) && get_rel_relkind(other) == RELKIND_INDEX ? IndexGetRelation(other, true)
																				 : InvalidOid;
			if (OidIsValid(table) && relation_is_owned(other))
			{
				LockRelationOid(IndexGetRelation(relid, false), AccessShareLock);
				LockRelationOid(table, AccessShareLock);
				mask_index(other, AccessExclusiveLock, holder);
			}
		}
	}
}

/* Masks what core is about to look at. */
static void
mask_for(Node *node, Altering *holder)
{
	Oid relid;

	switch (nodeTag(node))
	{
		case T_IndexStmt:
			if (castNode(IndexStmt, node)->concurrent || !castNode(IndexStmt, node)->relation ||
				!castNode(IndexStmt, node)->relation->inh)
				break;
			relid = locked_relation(castNode(IndexStmt, node)->relation, ShareLock, RELKIND_PARTITIONED_TABLE,
									RangeVarCallbackOwnsRelation);
			if (OidIsValid(relid))
				mask_tree(relid, ShareLock, holder);
			break;
		case T_AlterTableStmt:
			mask_for_alter((AlterTableStmt *) node, holder);
			break;
		case T_RefreshMatViewStmt:
			if (!castNode(RefreshMatViewStmt, node)->concurrent)
				break;
			relid = locked_relation(castNode(RefreshMatViewStmt, node)->relation, ExclusiveLock, RELKIND_MATVIEW,
									RangeVarCallbackOwnsTable);
			if (OidIsValid(relid))
				mask_table(relid, AccessShareLock, holder);
			break;
		default:
			break;
	}
}

static void
call_next(PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context, ParamListInfo params,
		  QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_utility)
		prev_utility(pstmt, query, readonly, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, readonly, context, params, env, dest, qc);
}

/* It may make indexes anew that are masked already when they are built, which must not be planned then. */
static void
alter_keys(const Altering *alters, PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context,
		   ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	const Altering *outer = altering;
	int level = NewGUCNestLevel();

	(void) set_config_option("max_parallel_maintenance_workers", "0", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
	altering = alters;
	PG_TRY();
	{
		call_next(pstmt, query, readonly, context, params, env, dest, qc);
	}
	PG_FINALLY();
	{
		altering = outer;
	}
	PG_END_TRY();
	AtEOXact_GUC(true, level);
}

/* CREATE UNIQUE INDEX ... USING hash, which core has no place for, is the constraint that says the same. */
static void
unique_hash_excludes(IndexStmt *stmt)
{
	if (!stmt->unique || strcmp(stmt->accessMethod, S3HASH->core_name) != 0 || stmt->concurrent ||
		stmt->nulls_not_distinct || list_length(stmt->indexParams) != 1 || !stmt->relation ||
		!is_of_s3am(stmt->relation))
		return;
	stmt->unique = false;
	stmt->isconstraint = true;
	stmt->excludeOpNames = list_make1(list_make1(makeString("=")));
	ereport(NOTICE,
			(errmsg("a unique hash index is made as a constraint, EXCLUDE USING hash with ="),
			 errdetail("A key that comes twice is refused with 23P01. Foreign keys, and ON CONFLICT with a list of "
					   "columns, need a unique B-tree.")));
}

static void
utility(PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node *node = pstmt->utilityStmt;
	Altering holder = {0};

	if (IsTransactionState() && OidIsValid(s3btree_am_oid()))
	{
		give_names();
		if (IsA(node, IndexStmt))
		{
			IndexStmt *stmt;

			pstmt = copyObject(pstmt);
			node = pstmt->utilityStmt;
			stmt = castNode(IndexStmt, node);
			for (int i = 0; i < lengthof(ams); i++)
				if (strcmp(stmt->accessMethod, ams[i].name) == 0)
					stmt->accessMethod = pstrdup(ams[i].core_name);
			unique_hash_excludes(stmt);
		}
		/* core refuses it then, without a lock */
		if (!XactReadOnly)
			mask_for(node, &holder);
	}
	if (holder.stmt)
		alter_keys(&holder, pstmt, query, readonly, context, params, env, dest, qc);
	else
		call_next(pstmt, query, readonly, context, params, env, dest, qc);
	masks_release(&holder);
}

void
flip_init(void)
{
	CacheRegisterSyscacheCallback(AMNAME, forget_ams, (Datum) 0);
	CacheRegisterSyscacheCallback(AMOID, forget_ams, (Datum) 0);
	CacheRegisterRelcacheCallback(relation_was_reloaded, (Datum) 0);
	RegisterResourceReleaseCallback(resources_released, NULL);
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_executor_end = ExecutorEnd_hook;
	ExecutorEnd_hook = executor_end;
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	prev_planner = planner_hook;
	planner_hook = plan_unmasked;
	prev_relation_info = get_relation_info_hook;
	get_relation_info_hook = relation_info;
}
