/*
 * maintain.c: storage, rewrites, sizes, estimates, index builds.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/multixact.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/storage.h"
#include "catalog/storage_xlog.h"
#include "commands/progress.h"
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/plancat.h"
#include "pgstat.h"
#include "postmaster/autovacuum.h"
#include "storage/smgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#include "compact/compact.h"
#include "ddl/ddl.h"
#include "index/index.h"
#include "s3am.h"
#include "table/table.h"
#include "txn/commit.h"

/* Core prefetches blocks of ANALYZE from the relation's file; an empty one answers for its first segment only. */
#define MAX_ANALYZE_BLOCKS 131071

/* What REFRESH ... CONCURRENTLY collects the new rows in: a temporary table that it makes like the view. */
static bool
is_for_refresh(Relation rel, char persistence)
{
	Oid view = persistence == RELPERSISTENCE_TEMP ? storage_rewritten(rel) : InvalidOid;

	return OidIsValid(view) && get_rel_relkind(view) == RELKIND_MATVIEW;
}

static void
relation_set_new_filenode(Relation rel, const RelFileNode *newrnode, char persistence, TransactionId *freezeXid,
						  MultiXactId *minmulti)
{
	SMgrRelation srel;

	if (is_for_refresh(rel, persistence))
	{
		/* it is not in the catalogs yet: it becomes a heap table, and gets its TOAST table when it is there (toast.c) */
		rel->rd_rel->relam = HEAP_TABLE_AM_OID;
		rel->rd_amhandler = F_HEAP_TABLEAM_HANDLER;
		rel->rd_tableam = GetHeapamTableAmRoutine();
		table_relation_set_new_filenode(rel, newrnode, persistence, freezeXid, minmulti);
		return;
	}
	if (persistence != RELPERSISTENCE_PERMANENT)
	{
		/* SET UNLOGGED makes a transient table, whose name tells nobody anything */
		const char *table = get_rel_name(storage_rewritten(rel));

		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("s3am table \"%s\" cannot be temporary or unlogged",
							   table ? table : RelationGetRelationName(rel)),
						errhint("Use the access method heap for such a table.")));
	}
	*freezeXid = InvalidTransactionId;
	*minmulti = InvalidMultiXactId;
	/* no row lives in this file; core wants it to be there */
	srel = RelationCreateStorage(*newrnode, persistence, true);
	smgrclose(srel);
	storage_create(rel, newrnode);
}

/* The storage was made by this transaction, or it is ON COMMIT DELETE ROWS, which s3am tables do not have. */
static void
relation_nontransactional_truncate(Relation rel)
{
	TxnTable *table = txn_table(storage_of(rel).storage);

	if (table)
		txn_truncate(table);
}

static void
relation_copy_data(Relation rel, const RelFileNode *newrnode)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot move s3am table \"%s\" to another tablespace", RelationGetRelationName(rel)),
					errdetail("Its rows live in the repository.")));
}

/* CLUSTER and VACUUM FULL: rows get new ids, dead ones stay behind. */
/* Rows in the order in which CLUSTER's index has them. */
typedef struct ClusterScan
{
	TableScanDesc table; /* without an index, or to be sorted */
	IndexScanDesc index;
	Tuplesortstate *sort;
	TupleTableSlot *slot;
} ClusterScan;

/*
 * Sorts by the index's columns, if they are columns of the table: reading rows by the index would cost a page for each of them, from the
 * store if the table is larger than the cache.  NULL: an expression, which only the index has computed.
 */
static Tuplesortstate *
begin_sort(Relation from, Relation index)
{
	int n = IndexRelationGetNumberOfKeyAttributes(index);
	AttrNumber *columns = palloc(sizeof(AttrNumber) * n);
	Oid *operators = palloc(sizeof(Oid) * n);
	bool *nulls_first = palloc(sizeof(bool) * n);

	for (int i = 0; i < n; i++)
	{
		int16 option = index->rd_indoption[i];
		Oid type = index->rd_opcintype[i];

		columns[i] = index->rd_index->indkey.values[i];
		operators[i] = get_opfamily_member(index->rd_opfamily[i], type, type,
										   option & INDOPTION_DESC ? BTGreaterStrategyNumber : BTLessStrategyNumber);
		nulls_first[i] = (option & INDOPTION_NULLS_FIRST) != 0;
		if (columns[i] <= 0 || !OidIsValid(operators[i]))
			return NULL;
	}
	return tuplesort_begin_heap(RelationGetDescr(from), n, columns, operators, index->rd_indcollation, nulls_first,
								maintenance_work_mem, NULL, TUPLESORT_NONE);
}

/* Values of dropped columns are not kept. */
static void
forget_dropped(TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
		if (TupleDescAttr(slot->tts_tupleDescriptor, i)->attisdropped)
			slot->tts_isnull[i] = true;
}

static void
cluster_begin(ClusterScan *scan, Relation from, Relation index, Snapshot snapshot)
{
	memset(scan, 0, sizeof(*scan));
	scan->slot = table_slot_create(from, NULL);
	if (index)
		scan->sort = begin_sort(from, index);
	if (index && !scan->sort)
	{
		scan->index = index_beginscan(from, index, snapshot, 0, 0);
		index_rescan(scan->index, NULL, 0, NULL, 0);
		return;
	}
	scan->table = table_beginscan(from, snapshot, 0, NULL);
	if (!scan->sort)
		return;
	while (table_scan_getnextslot(scan->table, ForwardScanDirection, scan->slot))
	{
		CHECK_FOR_INTERRUPTS();
		forget_dropped(scan->slot);
		tuplesort_puttupleslot(scan->sort, scan->slot);
	}
	ExecDropSingleTupleTableSlot(scan->slot);
	scan->slot = MakeSingleTupleTableSlot(RelationGetDescr(from), &TTSOpsMinimalTuple);
	tuplesort_performsort(scan->sort);
}

static bool
cluster_next(ClusterScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	if (scan->sort)
		return tuplesort_gettupleslot(scan->sort, true, false, scan->slot, NULL);
	if (scan->index ? !index_getnext_slot(scan->index, ForwardScanDirection, scan->slot)
					: !table_scan_getnextslot(scan->table, ForwardScanDirection, scan->slot))
		return false;
	forget_dropped(scan->slot);
	return true;
}

static void
cluster_end(ClusterScan *scan)
{
	if (scan->sort)
		tuplesort_end(scan->sort);
	if (scan->index)
		index_endscan(scan->index);
	if (scan->table)
		table_endscan(scan->table);
	ExecDropSingleTupleTableSlot(scan->slot);
}

static void
relation_copy_for_cluster(Relation from, Relation to, Relation index, bool use_sort, TransactionId oldest_xmin,
						  TransactionId *xid_cutoff, MultiXactId *multi_cutoff, double *num_tuples,
						  double *tups_vacuumed, double *tups_recently_dead)
{
	ClusterScan scan;
	Snapshot snapshot;

	*xid_cutoff = InvalidTransactionId;
	*multi_cutoff = InvalidMultiXactId;
	*num_tuples = *tups_vacuumed = *tups_recently_dead = 0;
	if (ddl_replaying())
		return;
	if (IsolationUsesXactSnapshot())
	{
		/* the transaction's own snapshot must not come to see what was committed after it */
		S3Node *node = node_wait_ready();
		TableState *table;

		txn_begin_use(node);
		table = state_table(node, storage_of(from).storage);
		if (table && pg_atomic_read_u64(&table->changed) > state_visible_pos(node, GetTransactionSnapshot()))
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not serialize access due to concurrent update"),
							errdetail("Table \"%s\" was changed after this transaction's snapshot.",
									  RelationGetRelationName(from)),
							errhint("The transaction might succeed if retried.")));
	}
	commit_storage_same_rows(storage_of(to).storage);
	/* taken after the lock, or rows committed while waiting for it would be lost */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(snapshot);
	cluster_begin(&scan, from, index, snapshot);
	while (cluster_next(&scan))
	{
		table_tuple_insert(to, scan.slot, GetCurrentCommandId(true), 0, NULL);
		*num_tuples += 1;
	}
	cluster_end(&scan);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
}

/* Runs of its indexes are merged, as far as it is worth it. */
static void
vacuum_indexes(Relation rel, S3Node *node, bool automatic, bool verbose)
{
	ListCell *lc;

	foreach (lc, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);
		TableState *state = state_table(node, storage_of(index).storage);
		const char *failure = state ? compact_table(node, state, !automatic) : NULL;
		BlockNumber pages;
		double tuples;
		int height;

		if (failure)
			ereport(automatic ? LOG : WARNING,
					(errmsg("runs of index \"%s\" could not be merged", RelationGetRelationName(index)),
					 errdetail("%s", failure)));
		if (state && verbose)
		{
			uint32 count;
			const BatchArray *batches = state_batches(node, state, &count);
			BatchTotals totals;

			state_total(node, batches, count, &totals);
			ereport(INFO, (errmsg("index \"%s\": " UINT64_FORMAT " entries in " UINT64_FORMAT
								  " segments, and " UINT64_FORMAT " inline",
								  RelationGetRelationName(index), totals.rows, totals.segments, totals.inline_rows)));
		}
		index_estimate(index, &pages, &tuples, &height);
		vac_update_relstats(index, pages, tuples, 0, false, InvalidTransactionId, InvalidMultiXactId, NULL, NULL,
							false);
		index_close(index, AccessShareLock);
	}
}

/* Dead rows go when segments are merged; VACUUM asks for that, waits for it, and counts what is left. */
static void
relation_vacuum(Relation rel, struct VacuumParams *params, BufferAccessStrategy bstrategy)
{
	S3Node *node = node_wait_ready();
	bool automatic = IsAutoVacuumWorkerProcess();
	TableState *table;
	uint64 dead = 0;
	double rows;
	BlockNumber blocks;

	txn_begin_use(node);
	table = state_table(node, storage_of(rel).storage);
	if (table && !ddl_replaying())
	{
		uint64 dropped = pg_atomic_read_u64(&table->compact_dropped);
		const char *failure = compact_table(node, table, !automatic);

		dead = compact_dead_rows(node, table);
		if (failure)
			ereport(automatic ? LOG : WARNING,
					(errmsg("dead rows of table \"%s\" could not be dropped", RelationGetRelationName(rel)),
					 errdetail("%s", failure)));
		if (params->options & VACOPT_VERBOSE)
			ereport(INFO, (errmsg("table \"%s\": dropped " UINT64_FORMAT " dead rows, " UINT64_FORMAT " are left",
								  RelationGetRelationName(rel), pg_atomic_read_u64(&table->compact_dropped) - dropped,
								  dead)));
		/* later, so that entries of the rows that were dropped go, too */
		if (params->index_cleanup != VACOPTVALUE_DISABLED)
			vacuum_indexes(rel, node, automatic, (params->options & VACOPT_VERBOSE) != 0);
	}
	blocks = table_virtual_blocks(rel, &rows);
	pgstat_report_vacuum(RelationGetRelid(rel), false, rows, dead);
	vac_update_relstats(rel, blocks, rows, 0, RelationGetIndexList(rel) != NIL, InvalidTransactionId,
						InvalidMultiXactId, NULL, NULL, false);
}

static double
index_build_range_scan(Relation rel, Relation index, struct IndexInfo *info, bool allow_sync, bool anyvisible,
					   bool progress, BlockNumber start_blockno, BlockNumber numblocks, IndexBuildCallback callback,
					   void *callback_state, TableScanDesc scan)
{
	TupleTableSlot *slot;
	EState *estate;
	ExprContext *econtext;
	ExprState *predicate;
	Snapshot snapshot = NULL;
	ItemPointerData first, last;
	double rows = 0;
	Datum values[INDEX_MAX_KEYS];
	bool isnull[INDEX_MAX_KEYS];

	if (ddl_replaying())
	{
		if (scan)
			table_endscan(scan);
		return 0;
	}
	estate = CreateExecutorState();
	econtext = GetPerTupleExprContext(estate);
	slot = table_slot_create(rel, NULL);
	econtext->ecxt_scantuple = slot;
	predicate = ExecPrepareQual(info->ii_Predicate, estate);
	if (scan == NULL)
	{
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		PushActiveSnapshot(snapshot);
		if (start_blockno > 0)
		{
			/* the end of the table: what came since an index was built ahead */
			ItemPointerSet(&first, start_blockno, FirstOffsetNumber);
			ItemPointerSet(&last, MaxBlockNumber, PG_UINT16_MAX);
			scan = table_beginscan_tidrange(rel, snapshot, &first, &last);
		}
		else
			scan = table_beginscan(rel, snapshot, 0, NULL);
	}
	while (start_blockno > 0 ? table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot)
							 : table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(econtext->ecxt_per_tuple_memory);
		/* of the table: a partial index says as much of it as any other */
		rows += 1;
		if (predicate && !ExecQual(predicate, econtext))
			continue;
		FormIndexDatum(info, slot, estate, values, isnull);
		callback(index, &slot->tts_tid, values, isnull, true, callback_state);
	}
	table_endscan(scan);
	if (snapshot)
	{
		PopActiveSnapshot();
		UnregisterSnapshot(snapshot);
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	info->ii_ExpressionsState = NIL;
	info->ii_PredicateState = NULL;
	return rows;
}

static void
index_validate_scan(Relation rel, Relation index, struct IndexInfo *info, Snapshot snapshot,
					struct ValidateIndexState *state)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("indexes of s3am tables cannot be built concurrently yet")));
}

BlockNumber
table_virtual_blocks(Relation rel, double *rows)
{
	S3Node *node = node_wait_ready();
	uint64 storage = storage_of(rel).storage;
	TableState *table;
	TxnTable *own = txn_table(storage);
	double total = 0, dead = 0;

	txn_begin_use(node);
	table = state_table(node, storage);
	if (table)
	{
		/* row ids have no gaps but those of rows that are dead */
		total = pg_atomic_read_u64(&table->next_row);
		dead = pg_atomic_read_u64(&table->deleted);
	}
	if (own)
		total += own->rows.nrows;
	*rows = Max(total - dead, 0);
	return (BlockNumber) Min(ceil(total / ROWS_PER_BLOCK), MAX_ANALYZE_BLOCKS);
}

static uint64
relation_size(Relation rel, ForkNumber fork)
{
	double rows;

	if (fork != MAIN_FORKNUM && fork != InvalidForkNumber)
		return 0;
	return (uint64) table_virtual_blocks(rel, &rows) * BLCKSZ;
}

static bool
relation_needs_toast_table(Relation rel)
{
	return false;
}

static Oid
relation_toast_am(Relation rel)
{
	return HEAP_TABLE_AM_OID;
}

static void
relation_estimate_size(Relation rel, int32 *attr_widths, BlockNumber *pages, double *tuples, double *allvisfrac)
{
	/* in pages as a heap would take them, which is what the settings for costs are made for */
	int32 width = get_rel_data_width(rel, attr_widths);
	bool young = rel->rd_rel->reltuples < 0;
	int32 row = (young ? width : MAXALIGN(width)) + MAXALIGN(SizeofHeapTupleHeader) + sizeof(ItemIdData);
	int32 page = Max((BLCKSZ - SizeOfPageHeaderData) / row, 1);

	(void) table_virtual_blocks(rel, tuples);
	*pages = (BlockNumber) Min(ceil(*tuples / page), (double) MaxBlockNumber);
	/* as heap: a table that is still young is likely to grow under a plan that was made for it, to ten pages at least, and its last one is taken to be full */
	if (young)
	{
		if (*pages < 10 && !rel->rd_rel->relhassubclass)
			*pages = 10;
		*tuples = (double) *pages * page;
	}
	*allvisfrac = 1.0;
}

void
maintain_callbacks(TableAmRoutine *routine)
{
	routine->relation_set_new_filenode = relation_set_new_filenode;
	routine->relation_nontransactional_truncate = relation_nontransactional_truncate;
	routine->relation_copy_data = relation_copy_data;
	routine->relation_copy_for_cluster = relation_copy_for_cluster;
	routine->relation_vacuum = relation_vacuum;
	routine->index_build_range_scan = index_build_range_scan;
	routine->index_validate_scan = index_validate_scan;
	routine->relation_size = relation_size;
	routine->relation_needs_toast_table = relation_needs_toast_table;
	routine->relation_toast_am = relation_toast_am;
	routine->relation_estimate_size = relation_estimate_size;
}
