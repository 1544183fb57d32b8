/*
 * handler.c: the index access method s3btree, and what the planner is told of its indexes.
 */
#include "postgres.h"

#include <math.h>

#include "access/amapi.h"
#include "access/nbtree.h"
#include "access/reloptions.h"
#include "commands/vacuum.h"
#include "fmgr.h"
#include "nodes/pathnodes.h"
#include "utils/index_selfuncs.h"
#include "utils/rel.h"

#include "compat.h"
#include "index/index.h"
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

void
index_estimate(Relation index, BlockNumber *pages, double *tuples, int *height)
{
	S3Node *node = node_wait_ready();
	TableState *table;
	OwnIndex *own = own_index(storage_of(index).storage);
	double bytes = 0;

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
		bytes = pg_atomic_read_u64(&table->bytes);
	}
	if (own)
		*tuples += own_index_entries(own);
	if (own)
		for (int i = 0; i < own->nbatches; i++)
			*tuples += own->batches[i]->nrows;
	bytes = Max(bytes, *tuples * 8);
	*pages = (BlockNumber) Max(1, Min(ceil(bytes / BLCKSZ), (double) MaxBlockNumber));
	*height = *tuples > 2000 ? 1 : 0;
}

static void
cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
			  Selectivity *selectivity, double *correlation, double *pages)
{
	btcostestimate(root, path, loop_count, startup, total, selectivity, correlation, pages);
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
	am->amkeytype = InvalidOid;

	index_routine_common(am);
	am->amcanreturn = can_return;
	am->amcostestimate = cost_estimate;
	am->amoptions = options;
	am->amvalidate = btvalidate;
	am->amadjustmembers = btadjustmembers;
	am->ammarkpos = scan_mark;
	am->amrestrpos = scan_restore;
	PG_RETURN_POINTER(am);
}
