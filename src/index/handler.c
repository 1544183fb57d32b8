/*
 * handler.c: the index access method s3btree, and what the planner is told of its indexes.
 */
#include "postgres.h"

#include <math.h>

#include "access/amapi.h"
#include "access/genam.h"
#include "access/nbtree.h"
#include "access/reloptions.h"
#include "catalog/pg_statistic.h"
#include "commands/vacuum.h"
#include "fmgr.h"
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/index_selfuncs.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/spccache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "index/index.h"
#include "index/share.h"
#include "txn/txn.h"

S3AM_FUNCTION(s3btree_handler);

/* Runs are merged by the compactor; rows that are gone leave them then. */
static IndexBulkDeleteResult *
bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats, IndexBulkDeleteCallback callback, void *arg)
{
	return stats ? stats : palloc0(sizeof(IndexBulkDeleteResult));
}

static IndexBulkDeleteResult *
vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	return stats;
}

void
index_routine_common(IndexAmRoutine *am)
{
	am->ampredlocks = true; /* claims (claim.c): core would lock the whole index against sessions of this server */
	am->amusemaintenanceworkmem = false;
	am->amparallelvacuumoptions = VACUUM_OPTION_NO_PARALLEL;
	am->ambuild = index_am_build;
	am->ambuildempty = index_am_build_empty;
	am->aminsert = index_am_insert;
	am->ambulkdelete = bulk_delete;
	am->amvacuumcleanup = vacuum_cleanup;
	am->ambeginscan = scan_begin;
	am->amrescan = scan_rescan;
	am->amgettuple = scan_tuple;
	am->amgetbitmap = scan_bitmap;
	am->amendscan = scan_end;
}

static bool
can_return(Relation index, int attno)
{
	return true;
}

/* Values of a column that differ, as far as ANALYZE knows; 0: it does not. */
static double
distinct_values(Oid table, AttrNumber column, double rows)
{
	HeapTuple tuple =
		SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(table), Int16GetDatum(column), BoolGetDatum(false));
	double distinct;

	if (!HeapTupleIsValid(tuple))
		return 0;
	distinct = ((Form_pg_statistic) GETSTRUCT(tuple))->stadistinct;
	ReleaseSysCache(tuple);
	return distinct < 0 ? -distinct * rows : distinct;
}

/* Bytes of so many entries in a B-tree of core's, in which equal keys are kept once and have a list of rows. */
static double
core_bytes(Relation index, double entries)
{
	Oid table = index->rd_index->indrelid;
	double width = 0, distinct = 1, entry;

	for (int i = 0; i < RelationGetNumberOfAttributes(index); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(index), i);
		AttrNumber column = index->rd_index->indkey.values[i];
		int32 average = column > 0 ? get_attavgwidth(table, column) : 0;

		width += average > 0 ? average : get_typavgwidth(att->atttypid, att->atttypmod);
		if (i < IndexRelationGetNumberOfKeyAttributes(index))
			distinct *= column > 0 ? distinct_values(table, column, entries) : 0;
	}
	/* a hash index has codes */
	if (index_meta_kept(index)->coder)
		width = sizeof(int64);
	entry = MAXALIGN(sizeof(IndexTupleData)) + MAXALIGN((Size) width) + sizeof(ItemIdData);
	if (distinct >= 1 && distinct < entries / 2 && index->rd_index->indnatts == index->rd_index->indnkeyatts &&
		index_meta_kept(index)->coder == NULL)
		return distinct * entry + entries * sizeof(ItemPointerData);
	return entries * entry;
}

/* Pages are those that core's index would have, as the table's are a heap's (relation_estimate_size): it is these that the costs are made for. */
void
index_estimate(Relation index, BlockNumber *pages, double *tuples, int *height)
{
	S3Node *node = node_wait_ready();
	TableState *table;
	OwnIndex *own = own_index(storage_of(index).storage);
	double page =
		(BLCKSZ - SizeOfPageHeaderData - MAXALIGN(sizeof(BTPageOpaqueData))) * BTREE_DEFAULT_FILLFACTOR / 100.0;

	txn_begin_use(node);
	*tuples = 0;
	table = state_table(node, storage_of(index).storage);
	if (table)
	{
		uint32 count;
		const BatchArray *batches = state_batches(node, table, &count);
		BatchTotals totals;

		state_total(node, batches, count, &totals);
		*tuples = totals.rows;
	}
	if (own)
		*tuples += own_index_entries(own);
	if (own)
		for (int i = 0; i < own->nbatches; i++)
			*tuples += own->batches[i]->nrows;
	/* and one before them, as a B-tree has */
	*pages = (BlockNumber) (1 + Max(1, Min(ceil(core_bytes(index, *tuples) / page), (double) MaxBlockNumber - 1)));
	*height = *tuples > 2000 ? 1 : 0;
}

/* Where a scan has to look. */
typedef struct RunCount
{
	double runs; /* in segments; in a leaf that is not read each batch may be one */
	double filters; /* of these have one */
	double others; /* inline entries together, and the transaction's own */
} RunCount;

static void
count_runs(Oid relid, RunCount *n)
{
	/* the planner has it locked */
	Relation index = index_open(relid, NoLock);
	S3Node *node = node_wait_ready();
	OwnIndex *own = own_index(storage_of(index).storage);
	TableState *table;
	bool fresh = false;

	memset(n, 0, sizeof(*n));
	txn_begin_use(node);
	table = state_table(node, storage_of(index).storage);
	if (table)
	{
		uint32 count;
		const BatchArray *batches = state_batches(node, table, &count);

		for (uint32 i = 0; i < count; i++)
		{
			const BatchEntry *b = &batches->entries[i];

			if (DsaPointerIsValid(b->leaf))
				n->runs += ((const BaseLeaf *) dsa_get_address(node_dsa(node), b->leaf))->batches;
			else if (DsaPointerIsValid(b->blob))
				fresh = true;
			else if (!b->continues)
			{
				n->runs++;
				n->filters += b->filter.blocks > 0;
			}
		}
	}
	n->others = fresh + (own != NULL);
	index_close(index, NoLock);
}

/* Is there one value for each key column? */
static bool
is_of_one_key(const IndexPath *path)
{
	const IndexOptInfo *index = path->indexinfo;
	bool bound[INDEX_MAX_KEYS] = {false};
	ListCell *lc, *lq;

	foreach (lc, path->indexclauses)
	{
		const IndexClause *clause = lfirst_node(IndexClause, lc);

		foreach (lq, clause->indexquals)
		{
			Node *qual = (Node *) lfirst_node(RestrictInfo, lq)->clause;
			Oid opno = InvalidOid;

			if (IsA(qual, OpExpr))
				opno = ((OpExpr *) qual)->opno;
			else if (IsA(qual, ScalarArrayOpExpr))
				opno = ((ScalarArrayOpExpr *) qual)->opno;
			else if (IsA(qual, NullTest) && ((NullTest *) qual)->nulltesttype == IS_NULL)
				bound[clause->indexcol] = true;
			if (OidIsValid(opno) &&
				get_op_opfamily_strategy(opno, index->opfamily[clause->indexcol]) == BTEqualStrategyNumber)
				bound[clause->indexcol] = true;
		}
	}
	for (int i = 0; i < index->nkeycolumns; i++)
		if (!bound[i])
			return false;
	return true;
}

#define FILTER_OPERATORS 20 /* a look into a filter costs as much as so many of them */
#define PAGE_OPERATORS 50 /* and into a page, as core has it for B-trees */
#define FALSE_YES 0.011 /* a filter says yes in vain */

void
cost_add_runs(const IndexPath *path, bool one_key, double loop_count, Cost *startup, Cost *total,
			  Selectivity selectivity, double *pages)
{
	const IndexOptInfo *index = path->indexinfo;
	double random_page, visited, looked_at = 0, fetched;
	Cost way;
	RunCount n;

	count_runs(index->indexoid, &n);
	visited = n.runs;
	if (n.filters > 0 && n.runs > 1 && one_key)
	{
		looked_at = n.filters;
		visited = (n.runs - n.filters) + Min(n.filters, 1 + FALSE_YES * n.filters);
	}
	way = (ceil(log2(Max(index->tuples / Max(n.runs, 1), 2))) + (index->tree_height + 1) * PAGE_OPERATORS) *
		  cpu_operator_cost;
	*startup += looked_at * FILTER_OPERATORS * cpu_operator_cost + Max(visited + n.others - 1, 0) * way;
	*total += looked_at * FILTER_OPERATORS * cpu_operator_cost + Max(visited + n.others - 1, 0) * way;
	/* their pages, each once however often it is repeated */
	get_tablespace_page_costs(index->reltablespace, &random_page, NULL);
	fetched = Min(Max(visited - 1, 0) * Max(loop_count, 1), (double) index->pages) / Max(loop_count, 1);
	*total += fetched * random_page;
	*pages += fetched;
	if (visited + n.others > 1)
		*total += selectivity * index->tuples * log2(visited + n.others) * cpu_operator_cost;
}

static void
cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
			  Selectivity *selectivity, double *correlation, double *pages)
{
	btcostestimate(root, path, loop_count, startup, total, selectivity, correlation, pages);
	cost_add_runs(path, is_of_one_key(path), loop_count, startup, total, *selectivity, pages);
}

/* Options of core's B-tree are taken, and mean nothing. */
static bytea *
options(Datum reloptions, bool validate)
{
	return btoptions(reloptions, validate);
}

Datum
s3btree_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = makeNode(IndexAmRoutine);

	/* operator class information is cached by OID, so what concerns that is as in core's B-tree */
	am->amstrategies = BTMaxStrategyNumber;
	am->amsupport = BTNProcs;
	am->amoptsprocnum = BTOPTIONS_PROC;
	am->amcanorder = true;
	am->amcanbackward = true;
	am->amcanunique = true;
	am->amcanmulticol = true;
	am->amoptionalkey = true;
	am->amsearcharray = true;
	am->amsearchnulls = true;
	am->amclusterable = true;
	am->amcaninclude = true;
	am->amcanparallel = true;
	am->amkeytype = InvalidOid;

	index_routine_common(am);
	am->amcanreturn = can_return;
	am->amcostestimate = cost_estimate;
	am->amoptions = options;
	am->amvalidate = btvalidate;
	am->amadjustmembers = btadjustmembers;
	am->ammarkpos = scan_mark;
	am->amrestrpos = scan_restore;
	am->amestimateparallelscan = share_size;
	am->aminitparallelscan = share_init;
	am->amparallelrescan = share_restart;
	PG_RETURN_POINTER(am);
}
