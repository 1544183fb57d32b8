/*
 * parallel.c: CREATE INDEX by several processes.
 *
 * As core's B-tree does it, which plans workers for B-trees alone: all processes, this one too, take parts of the table by turns and sort the
 * entries of their rows; then this one reads what they have sorted in order, and writes the run.  Workers see what their leader's snapshot sees, but
 * nothing of what its transaction has changed, so there are none if it has changed rows.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "port/atomics.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "index/index.h"
#include "index/parallel.h"
#include "txn/txn.h"

#define KEY_SHARED UINT64CONST(0x5333000000000001)
#define KEY_SORT UINT64CONST(0x5333000000000002)
#define KEY_SCAN UINT64CONST(0x5333000000000003)
#define KEY_QUERY UINT64CONST(0x5333000000000004)

typedef struct BuildShared
{
	Oid heap, index;
	int work_mem; /* of each process */
	pg_atomic_uint64 rows, entries;
} BuildShared;

struct ParallelBuild
{
	ParallelContext *context;
	Snapshot snapshot;
};

/* One process's part. */
static void
take_part(Relation heap, Relation index, IndexInfo *info, IndexMeta *meta, BuildShared *shared, Sharedsort *sorts,
		  ParallelTableScanDesc scan)
{
	SortCoordinateData coordinate = {true, -1, sorts};
	EntrySort *sort = entry_sort_begin(meta, shared->work_mem, &coordinate);
	BuildCount count;

	build_scan(heap, index, info, meta, sort, table_beginscan_parallel(heap, scan), &count);
	entry_sort_perform(sort);
	pg_atomic_fetch_add_u64(&shared->rows, (uint64) count.rows);
	pg_atomic_fetch_add_u64(&shared->entries, (uint64) count.entries);
	entry_sort_end(sort);
}

PGDLLEXPORT void s3am_build_worker(dsm_segment *segment, shm_toc *toc);

void
s3am_build_worker(dsm_segment *segment, shm_toc *toc)
{
	BuildShared *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	Sharedsort *sorts = shm_toc_lookup(toc, KEY_SORT, false);
	ParallelTableScanDesc scan = shm_toc_lookup(toc, KEY_SCAN, false);
	Relation heap, index;

	debug_query_string = shm_toc_lookup(toc, KEY_QUERY, true);
	/* the leader has these locks */
	heap = table_open(shared->heap, ShareLock);
	index = index_open(shared->index, AccessExclusiveLock);
	tuplesort_attach_shared(sorts, segment);
	take_part(heap, index, BuildIndexInfo(index), index_meta(index, CurrentMemoryContext), shared, sorts, scan);
	index_close(index, AccessExclusiveLock);
	table_close(heap, ShareLock);
}

ParallelBuild *
parallel_build(Relation heap, Relation index, IndexInfo *info, IndexMeta *meta, EntrySort **sort, BuildCount *count)
{
	ParallelBuild *build;
	ParallelContext *context;
	BuildShared *shared;
	Sharedsort *sorts;
	ParallelTableScanDesc scan;
	Snapshot snapshot;
	SortCoordinateData *coordinate;
	Size scan_size, sort_size, query_size = debug_query_string ? strlen(debug_query_string) + 1 : 0;
	int workers;

	if (max_parallel_maintenance_workers == 0 || IsInParallelMode() || IsolationIsSerializable() || txn_writes() ||
		!IsNormalProcessingMode())
		return NULL;
	workers = plan_create_index_workers(RelationGetRelid(heap), RelationGetRelid(index));
	if (workers == 0)
		return NULL;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EnterParallelMode();
	context = CreateParallelContext("s3am", "s3am_build_worker", workers);
	scan_size = table_parallelscan_estimate(heap, snapshot);
	sort_size = tuplesort_estimate_shared(workers + 1);
	shm_toc_estimate_chunk(&context->estimator, sizeof(BuildShared));
	shm_toc_estimate_chunk(&context->estimator, scan_size);
	shm_toc_estimate_chunk(&context->estimator, sort_size);
	shm_toc_estimate_chunk(&context->estimator, query_size);
	shm_toc_estimate_keys(&context->estimator, 4);
	InitializeParallelDSM(context);
	if (context->seg == NULL)
	{
		UnregisterSnapshot(snapshot);
		DestroyParallelContext(context);
		ExitParallelMode();
		return NULL;
	}
	shared = shm_toc_allocate(context->toc, sizeof(BuildShared));
	shared->heap = RelationGetRelid(heap);
	shared->index = RelationGetRelid(index);
	shared->work_mem = maintenance_work_mem / (workers + 1);
	pg_atomic_init_u64(&shared->rows, 0);
	pg_atomic_init_u64(&shared->entries, 0);
	shm_toc_insert(context->toc, KEY_SHARED, shared);
	scan = shm_toc_allocate(context->toc, scan_size);
	table_parallelscan_initialize(heap, scan, snapshot);
	shm_toc_insert(context->toc, KEY_SCAN, scan);
	sorts = shm_toc_allocate(context->toc, sort_size);
	tuplesort_initialize_shared(sorts, workers + 1, context->seg);
	shm_toc_insert(context->toc, KEY_SORT, sorts);
	if (query_size > 0)
	{
		char *query = shm_toc_allocate(context->toc, query_size);

		memcpy(query, debug_query_string, query_size);
		shm_toc_insert(context->toc, KEY_QUERY, query);
	}
	LaunchParallelWorkers(context);
	build = palloc(sizeof(*build));
	build->context = context;
	build->snapshot = snapshot;
	if (context->nworkers_launched == 0)
	{
		parallel_build_end(build);
		return NULL;
	}
	/* functions in expressions may ask for one */
	PushActiveSnapshot(snapshot);
	take_part(heap, index, info, meta, shared, sorts, scan);
	PopActiveSnapshot();
	WaitForParallelWorkersToFinish(context);
	count->rows = pg_atomic_read_u64(&shared->rows);
	count->entries = pg_atomic_read_u64(&shared->entries);
	coordinate = palloc(sizeof(*coordinate));
	*coordinate = (SortCoordinateData){false, context->nworkers_launched + 1, sorts};
	*sort = entry_sort_begin(meta, maintenance_work_mem, coordinate);
	entry_sort_perform(*sort);
	return build;
}

void
parallel_build_end(ParallelBuild *build)
{
	WaitForParallelWorkersToFinish(build->context);
	UnregisterSnapshot(build->snapshot);
	DestroyParallelContext(build->context);
	ExitParallelMode();
	pfree(build);
}
