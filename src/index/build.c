/*
 * build.c: CREATE INDEX, REINDEX, and every rewrite of a table.
 *
 * Rows that are committed become a run, uploaded while it is written; entries of the transaction's own rows join those that it adds later,
 * since their row ids are given at COMMIT.  Rows that have ended are left out.  So a snapshot that is older than the index must not use
 * it: core sees to that where a build says that it found broken HOT chains.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/pg_index.h"
#include "catalog/pg_operator_d.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/tuplesort.h"

#include "ddl/ddl.h"
#include "index/index.h"
#include "index/parallel.h"
#include "txn/commit.h"
#include "txn/locked.h"
#include "txn/own.h"
#include "txn/txn.h"

typedef struct Build
{
	IndexMeta *meta;
	Tuplesortstate *sort;
	TupleTableSlot *slot; /* of an entry, virtual */
	MemoryContext cxt; /* reset after each row */
	double n;
} Build;

Tuplesortstate *
build_begin_sort(const IndexMeta *meta, int work_mem, SortCoordinate coordinate)
{
	AttrNumber columns[INDEX_MAX_KEYS + 1];
	Oid operators[INDEX_MAX_KEYS + 1], collations[INDEX_MAX_KEYS + 1];
	bool nulls_first[INDEX_MAX_KEYS + 1];

	if (meta->coder)
	{
		columns[0] = ENTRY_KEY + 1;
		operators[0] = Int8LessOperator;
		collations[0] = InvalidOid;
		nulls_first[0] = false;
	}
	for (int i = 0; i < meta->nkeys && meta->coder == NULL; i++)
	{
		Oid type = meta->index->rd_opcintype[i];
		int strategy = meta->descending[i] ? BTGreaterStrategyNumber : BTLessStrategyNumber;

		columns[i] = ENTRY_KEY + i + 1;
		operators[i] = get_opfamily_member(meta->index->rd_opfamily[i], type, type, strategy);
		if (!OidIsValid(operators[i]))
			elog(ERROR, "missing operator %d(%u,%u) in opfamily %u", strategy, type, type, meta->index->rd_opfamily[i]);
		collations[i] = meta->collation[i];
		nulls_first[i] = meta->nulls_first[i];
	}
	columns[meta->nkeys] = ENTRY_ROW + 1;
	operators[meta->nkeys] = Int8LessOperator;
	collations[meta->nkeys] = InvalidOid;
	nulls_first[meta->nkeys] = false;
	return tuplesort_begin_heap(meta->desc, meta->nkeys + 1, columns, operators, collations, nulls_first, work_mem,
								coordinate, TUPLESORT_NONE);
}

static void
add_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *arg)
{
	Build *b = arg;
	MemoryContext old;

	if (b->meta->coder && isnull[0])
		return;
	old = MemoryContextSwitchTo(b->cxt);
	ExecClearTuple(b->slot);
	meta_form(b->meta, tid_to_row(tid), values, isnull, b->slot->tts_values, b->slot->tts_isnull);
	ExecStoreVirtualTuple(b->slot);
	MemoryContextSwitchTo(old);
	tuplesort_puttupleslot(b->sort, b->slot);
	b->n++;
	MemoryContextReset(b->cxt);
}

void
build_scan(Relation heap, Relation index, IndexInfo *info, IndexMeta *meta, Tuplesortstate *sort, TableScanDesc scan,
		   BuildCount *count)
{
	Build b = {meta, sort};

	b.slot = MakeSingleTupleTableSlot(meta->desc, &TTSOpsVirtual);
	b.cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am index build", ALLOCSET_DEFAULT_SIZES);
	count->rows = table_index_build_scan(heap, index, info, true, false, add_row, &b, scan);
	ExecDropSingleTupleTableSlot(b.slot);
	MemoryContextDelete(b.cxt);
	count->entries = b.n;
}

static bool
same_key(const IndexMeta *meta, TupleTableSlot *a, TupleTableSlot *b, bool nulls_distinct)
{
	for (int i = 0; i < meta->nkeys; i++)
	{
		bool anull, bnull;
		Datum x = slot_getattr(a, ENTRY_KEY + i + 1, &anull);
		Datum y = slot_getattr(b, ENTRY_KEY + i + 1, &bnull);

		if (nulls_distinct && (anull || bnull))
			return false;
		if (meta_compare_key(meta, i, x, anull, y, bnull) != 0)
			return false;
	}
	return true;
}

static void
fail_duplicate(const IndexMeta *meta, Relation heap, TupleTableSlot *slot, TupleTableSlot *last)
{
	char *key;
	/* keys may be equal and not the same: heap names that of the row which came first */
	TupleTableSlot *named = meta->index->rd_index->indisexclusion ? slot : last;

	slot_getallattrs(named);
	key = BuildIndexValueDescription(meta->index, named->tts_values + ENTRY_KEY, named->tts_isnull + ENTRY_KEY);
	if (meta->index->rd_index->indisexclusion)
	{
		char *other;

		slot_getallattrs(last);
		other = BuildIndexValueDescription(meta->index, last->tts_values + ENTRY_KEY, last->tts_isnull + ENTRY_KEY);
		ereport(ERROR, (errcode(ERRCODE_EXCLUSION_VIOLATION),
						errmsg("could not create exclusion constraint \"%s\"", RelationGetRelationName(meta->index)),
						key && other ? errdetail("Key %s conflicts with key %s.", key, other)
									 : errdetail("Key conflicts exist."),
						errtableconstraint(heap, RelationGetRelationName(meta->index))));
	}
	ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION),
					errmsg("could not create unique index \"%s\"", RelationGetRelationName(meta->index)),
					key ? errdetail("Key %s is duplicated.", key) : errdetail("Duplicate keys exist."),
					errtableconstraint(heap, RelationGetRelationName(meta->index))));
}

/*
 * Sorted entries into a run, and into the transaction's own.  True: no key is there twice; if it has to be so, anything else is an error, but
 * for codes, which may be equal where values are not.
 */
static bool
write_out(IndexMeta *meta, Tuplesortstate *sort, Relation heap, OwnIndex *own, bool unique, uint64 base)
{
	bool each_once = true;
	bool nulls_distinct = !meta->index->rd_index->indnullsnotdistinct;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(meta->desc, &TTSOpsMinimalTuple);
	TupleTableSlot *last = MakeSingleTupleTableSlot(meta->desc, &TTSOpsMinimalTuple);
	RunWriter *volatile run = NULL;
	S3am__Batch **batches = NULL;
	int nbatches = 0;

	PG_TRY();
	{
		MemoryContext old;

		while (tuplesort_gettupleslot(sort, true, unique, slot, NULL))
		{
			TupleTableSlot *swap;

			CHECK_FOR_INTERRUPTS();
			if (unique && !TTS_EMPTY(last) && same_key(meta, slot, last, nulls_distinct))
			{
				if (meta->coder == NULL)
					fail_duplicate(meta, heap, slot, last);
				each_once = false;
			}
			slot_getsomeattrs(slot, ENTRY_ROW + 1);
			if (ROW_IS_OWN(DatumGetInt64(slot->tts_values[ENTRY_ROW])))
			{
				slot_getallattrs(slot);
				own_index_add(own, meta, slot->tts_values, slot->tts_isnull, base);
			}
			else
			{
				if (run == NULL)
				{
					old = MemoryContextSwitchTo(own_context());
					run = run_begin(meta->desc, true);
					run_with_filter(run, meta);
					MemoryContextSwitchTo(old);
				}
				run_add_slot(run, slot);
			}
			swap = last;
			last = slot;
			slot = swap;
		}
		if (run)
			nbatches = run_finish(run, &batches);
	}
	PG_CATCH();
	{
		if (run)
			run_discard(run);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (nbatches)
		own_index_batches(own, nbatches, batches);
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(last);
	return each_once;
}

/* Has the table rows that have ended, but not for every snapshot? */
static bool
older_snapshots_see_more(uint64 storage)
{
	S3Node *node = node_current();
	TableState *table;

	if (node == NULL)
		return true;
	state_pin(node);
	table = state_table(node, storage);
	return table && pg_atomic_read_u64(&table->deleted) > 0 &&
		   pg_atomic_read_u64(&table->changed) > pg_atomic_read_u64(&node->frozen);
}

/*
 * REINDEX: core takes the index to have what it had before, and old snapshots to be served by it.  This one has no rows that have ended, so
 * the catalog says that younger snapshots alone may use it, as of an index that is made where HOT chains are broken.
 */
void
index_rebuilt(Relation index)
{
	/* whoever rebuilds has locked it */
	Relation heap = table_open(IndexGetRelation(RelationGetRelid(index), false), NoLock);
	Relation catalog;
	HeapTuple tuple;

	if (older_snapshots_see_more(storage_of(heap).storage))
	{
		catalog = table_open(IndexRelationId, RowExclusiveLock);
		tuple = SearchSysCacheCopy1(INDEXRELID, ObjectIdGetDatum(RelationGetRelid(index)));
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for index %u", RelationGetRelid(index));
		((Form_pg_index) GETSTRUCT(tuple))->indcheckxmin = true;
		CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
		table_close(catalog, RowExclusiveLock);
	}
	table_close(heap, NoLock);
}

static void
check_definition(Relation index, const IndexInfo *info)
{
	StrategyNumber equality = relation_is_s3hash(index) ? HTEqualStrategyNumber : BTEqualStrategyNumber;

	if (relation_is_s3hash(index))
		hash_check_column(index);
	for (int i = 0; info->ii_ExclusionOps && i < info->ii_NumIndexKeyAttrs; i++)
		if (info->ii_ExclusionStrats[i] != equality)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("exclusion constraints of s3am tables cannot have operator %s",
								   format_operator(info->ii_ExclusionOps[i])),
							errdetail("Constraint \"%s\".", RelationGetRelationName(index)),
							errhint("Use the operator = alone, or the access method heap for the table.")));
}

IndexBuildResult *
index_am_build(Relation heap, Relation index, IndexInfo *info)
{
	IndexBuildResult *result = palloc0(sizeof(IndexBuildResult));
	IndexMeta *meta;
	ParallelBuild *parallel = NULL;
	BuildCount count;
	Tuplesortstate *sort;
	StorageId id, table;
	OwnIndex *own;
	uint64 base;

	/* REINDEX SCHEMA, say; where an index or a table is named CONCURRENTLY is left out (concurrently.c) */
	if (info->ii_Concurrent)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("indexes of s3am tables cannot be built concurrently among others yet"),
						errdetail("Index \"%s\".", RelationGetRelationName(index)),
						errhint("Leave CONCURRENTLY out, or name the table.")));
	if (!ddl_replaying())
		check_definition(index, info);
	id = storage_create_index(index);
	table = storage_of(heap);
	info->ii_BrokenHotChain = older_snapshots_see_more(table.storage);
	/* the origin's entries come with the manifest, and it has looked whether any exclude each other */
	if (ddl_replaying())
	{
		info->ii_ExclusionOps = NULL;
		result->heap_tuples = result->index_tuples = -1;
		return result;
	}
	base = txn_base(node_wait_ready());
	/* rows that others add meanwhile would not be in it: here a lock keeps them out, elsewhere the claim does */
	commit_claims_table(table.table, !locked_at_least(RelationGetRelid(heap), ShareRowExclusiveLock));
	if (!commit_storage_is_new(table.storage))
		commit_keeps_writers_out(table.storage, base);

	meta = index_meta(index, CurrentMemoryContext);
	own = own_index_for_write(meta, id.storage, table.storage);
	own_index_clear(own);
	/* workers would not find what this transaction made */
	if (!commit_storage_is_new(table.storage))
		parallel = parallel_build(heap, index, info, meta, &sort, &count);
	if (parallel == NULL)
	{
		sort = build_begin_sort(meta, maintenance_work_mem, NULL);
		build_scan(heap, index, info, meta, sort, NULL, &count);
		tuplesort_performsort(sort);
	}
	/* if not told otherwise, core looks up each row's key once the index is there */
	if (write_out(meta, sort, heap, own, info->ii_Unique || info->ii_ExclusionOps, base))
		info->ii_ExclusionOps = NULL;
	tuplesort_end(sort);
	if (parallel)
		parallel_build_end(parallel);
	result->heap_tuples = count.rows;
	result->index_tuples = count.entries;
	if (ReindexIsProcessingIndex(RelationGetRelid(index)))
		index_rebuilt(index);
	return result;
}

void
index_am_build_empty(Relation index)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("s3am tables cannot be unlogged")));
}
