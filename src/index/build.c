/*
 * build.c: CREATE INDEX, REINDEX, and every rewrite of a table.
 *
 * Rows that are committed become a run, uploaded while it is written; entries of the transaction's own rows join those that it adds later,
 * since their row ids are given at COMMIT.  Rows that have ended are left out.  So a snapshot that is older than the index must not use
 * it: core sees to that where a build says that it found broken HOT chains.
 *
 * Most of it may have been built ahead, while others wrote (concurrently.c): then what is left is a second run, of the rows that came since.  Rows have
 * ascending numbers, so these are those behind the last one that was seen.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/pg_index.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "ddl/ddl.h"
#include "index/index.h"
#include "index/parallel.h"
#include "index/sort.h"
#include "node/bucket.h"
#include "table/table.h"
#include "txn/commit.h"
#include "txn/locked.h"
#include "txn/own.h"
#include "txn/txn.h"

typedef struct Build
{
	IndexMeta *meta;
	EntrySort *sort;
	MemoryContext cxt; /* reset after each row */
	Datum values[INDEX_MAX_KEYS + 1]; /* of an entry */
	bool nulls[INDEX_MAX_KEYS + 1];
	uint64 from; /* rows before this one are not wanted */
	uint64 end; /* behind the last one */
	double n;
} Build;

void
index_user_begin(Relation heap, IndexUser *before)
{
	GetUserIdAndSecContext(&before->user, &before->security);
	SetUserIdAndSecContext(heap->rd_rel->relowner, before->security | SECURITY_RESTRICTED_OPERATION);
	before->guc_level = NewGUCNestLevel();
}

void
index_user_end(const IndexUser *before)
{
	AtEOXact_GUC(false, before->guc_level);
	SetUserIdAndSecContext(before->user, before->security);
}

static void
add_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool alive, void *arg)
{
	Build *b = arg;
	uint64 row = tid_to_row(tid);
	MemoryContext old;

	if (row < b->from)
		return;
	b->end = row + 1;
	if (b->meta->coder && isnull[0])
		return;
	old = MemoryContextSwitchTo(b->cxt);
	meta_form(b->meta, row, values, isnull, b->values, b->nulls);
	MemoryContextSwitchTo(old);
	entry_sort_add(b->sort, b->values, b->nulls);
	b->n++;
	MemoryContextReset(b->cxt);
}

static void
begin_build(Build *b, IndexMeta *meta, EntrySort *sort, uint64 from)
{
	memset(b, 0, sizeof(*b));
	b->meta = meta;
	b->sort = sort;
	b->from = b->end = from;
	b->cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am index build", ALLOCSET_DEFAULT_SIZES);
}

static void
end_build(Build *b)
{
	MemoryContextDelete(b->cxt);
}

void
build_scan(Relation heap, Relation index, IndexInfo *info, IndexMeta *meta, EntrySort *sort, TableScanDesc scan,
		   BuildCount *count)
{
	Build b;

	begin_build(&b, meta, sort, 0);
	count->rows = table_index_build_scan(heap, index, info, true, false, add_row, &b, scan);
	end_build(&b);
	count->entries = b.n;
	count->end_row = b.end;
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

/* The key of an index that is not there yet: its columns are told by `columns`. */
static char *
describe_key(const IndexMeta *meta, Relation heap, const char *columns, Datum *values, bool *nulls)
{
	StringInfoData text;

	if (meta->index)
		return BuildIndexValueDescription(meta->index, values, nulls);
	if (check_enable_rls(RelationGetRelid(heap), InvalidOid, true) == RLS_ENABLED)
		return NULL;
	initStringInfo(&text);
	appendStringInfo(&text, "(%s)=(", columns);
	for (int i = 0; i < meta->nkeys; i++)
	{
		Oid output;
		bool varlena;

		if (i > 0)
			appendStringInfoString(&text, ", ");
		getTypeOutputInfo(TupleDescAttr(meta->desc, ENTRY_KEY + i)->atttypid, &output, &varlena);
		appendStringInfoString(&text, nulls[i] ? "null" : OidOutputFunctionCall(output, values[i]));
	}
	appendStringInfoChar(&text, ')');
	return text.data;
}

static void
fail_duplicate(const IndexMeta *meta, Relation heap, const AheadIndex *ahead, TupleTableSlot *slot,
			   TupleTableSlot *last)
{
	const char *name = meta->index ? RelationGetRelationName(meta->index) : ahead ? ahead->name : "";
	bool exclusion = meta->index && meta->index->rd_index->indisexclusion;
	/* keys may be equal and not the same: heap names that of the row which came first */
	TupleTableSlot *named = exclusion ? slot : last;
	char *key;

	slot_getallattrs(named);
	key = describe_key(meta, heap, ahead ? ahead->columns : NULL, named->tts_values + ENTRY_KEY,
					   named->tts_isnull + ENTRY_KEY);
	if (exclusion)
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
	ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION), errmsg("could not create unique index \"%s\"", name),
					key ? errdetail("Key %s is duplicated.", key) : errdetail("Duplicate keys exist."),
					errtableconstraint(heap, name)));
}

/* Is there a living row with this key among those of the search? */
static bool
has_living(IndexSearch *search, Relation heap, TupleTableSlot *slot, bool nulls_distinct)
{
	IndexBound bound = {.n = search->meta->nkeys, .inclusive = true};

	slot_getallattrs(slot);
	for (int i = 0; i < bound.n; i++)
	{
		bound.values[i] = slot->tts_values[ENTRY_KEY + i];
		bound.nulls[i] = slot->tts_isnull[ENTRY_KEY + i];
		bound.order[i] = search->meta->order[i];
		if (bound.nulls[i] && nulls_distinct)
			return false;
	}
	for (search_seek(search, &bound, true); search->current && search_compare(search, &bound) == 0; search_next(search))
	{
		CHECK_FOR_INTERRUPTS();
		if (table_row_is_live(heap, search_row(search)))
			return true;
	}
	return false;
}

/* Where sorted entries go. */
typedef struct Output
{
	MemoryContext cxt; /* of the batches */
	void (*note)(uint64 epoch, uint64 number); /* NULL: the transaction's */
	OwnIndex *own; /* gets those of own rows; or NULL */
	uint64 base;
	IndexSearch *before; /* runs whose keys must not come again; or NULL */
	int nbatches;
	S3am__Batch **batches;
} Output;

/*
 * Sorted entries into a run, and into the transaction's own.  True: no key is there twice; if it has to be so, anything else is an error, but
 * for codes, which may be equal where values are not.
 */
static bool
write_out(IndexMeta *meta, EntrySort *sort, Relation heap, const AheadIndex *ahead, bool unique, bool nulls_distinct,
		  Output *out)
{
	bool each_once = true;
	TupleTableSlot *slot = entry_sort_slot(sort);
	TupleTableSlot *last = entry_sort_slot(sort);
	RunWriter *volatile run = NULL;

	PG_TRY();
	{
		MemoryContext old;

		while (entry_sort_next(sort, unique, slot))
		{
			TupleTableSlot *swap;

			CHECK_FOR_INTERRUPTS();
			if (unique && !TTS_EMPTY(last) && same_key(meta, slot, last, nulls_distinct))
			{
				if (meta->coder == NULL)
					fail_duplicate(meta, heap, ahead, slot, last);
				each_once = false;
			}
			if (unique && out->before && has_living(out->before, heap, slot, nulls_distinct))
				fail_duplicate(meta, heap, ahead, slot, slot);
			slot_getsomeattrs(slot, ENTRY_ROW + 1);
			if (ROW_IS_OWN(DatumGetInt64(slot->tts_values[ENTRY_ROW])))
			{
				slot_getallattrs(slot);
				own_index_add(out->own, meta, slot->tts_values, slot->tts_isnull, out->base);
			}
			else
			{
				if (run == NULL)
				{
					old = MemoryContextSwitchTo(out->cxt);
					run = run_begin(meta, true);
					run_with_filter(run, meta);
					if (out->note)
						run_note_uploads(run, out->note);
					MemoryContextSwitchTo(old);
				}
				run_add_slot(run, slot);
			}
			swap = last;
			last = slot;
			slot = swap;
		}
		if (run)
			out->nbatches = run_finish(run, &out->batches);
	}
	PG_CATCH();
	{
		if (run)
			run_discard(run);
		PG_RE_THROW();
	}
	PG_END_TRY();
	ExecDropSingleTupleTableSlot(slot);
	ExecDropSingleTupleTableSlot(last);
	return each_once;
}

void
ahead_build(AheadIndex *ahead, Relation heap, void (*note)(uint64 epoch, uint64 number))
{
	Output out = {.cxt = CurrentMemoryContext, .note = note};
	EntrySort *sort = entry_sort_begin(ahead->meta, maintenance_work_mem, NULL);
	BuildCount count;

	build_scan(heap, NULL, ahead->info, ahead->meta, sort, NULL, &count);
	entry_sort_perform(sort);
	(void) write_out(ahead->meta, sort, heap, ahead, ahead->info->ii_Unique, ahead->distinct, &out);
	entry_sort_end(sort);
	ahead->heap_tuples = count.rows;
	ahead->index_tuples = count.entries;
	ahead->end_row = count.end_row;
	ahead->nbatches = out.nbatches;
	ahead->batches = out.batches;
	bucket_segment_wait_all();
}

/* What an index of this transaction that was built ahead has so far. */
typedef struct Tail
{
	Oid heap, index;
	uint64 storage, table;
	uint64 end_row; /* rows from here on are not in it */
	uint64 base; /* the version up to which others' are */
} Tail;

static List *tails; /* in own_context() */

void
ahead_reset(void)
{
	tails = NIL;
}

/*
 * The rows of the table from tail->end_row on, as another run behind those that the index has already.  Their number, and that of their entries.
 */
static double
build_tail(Tail *tail, Relation heap, Relation index, IndexInfo *info, OwnIndex *own, double *entries)
{
	IndexMeta *meta = index_meta(index, CurrentMemoryContext);
	Output out = {.cxt = own_context(), .own = own, .base = tail->base};
	EntrySort *sort = entry_sort_begin(meta, maintenance_work_mem, NULL);
	IndexSearch search;
	double rows;
	Build b;

	begin_build(&b, meta, sort, tail->end_row);
	rows = table_index_build_range_scan(heap, index, info, false, false, false, tail->end_row / ROWS_PER_BLOCK,
										InvalidBlockNumber, add_row, &b, NULL);
	/* some of the first block were there before */
	rows = Max(rows - (double) (tail->end_row % ROWS_PER_BLOCK), 0);
	*entries = b.n;
	entry_sort_perform(sort);
	if (info->ii_Unique && own->nbatches && b.n > 0)
	{
		search_open(&search, meta, tail->storage, state_current_pos(node_current()), true, b.cxt);
		out.before = &search;
	}
	(void) write_out(meta, sort, heap, NULL, info->ii_Unique, !index->rd_index->indnullsnotdistinct, &out);
	if (out.before)
		search_close(out.before);
	if (out.nbatches)
	{
		int n = own->nbatches + out.nbatches;
		S3am__Batch **batches = MemoryContextAlloc(own_context(), sizeof(void *) * n);

		if (own->nbatches)
			memcpy(batches, own->batches, sizeof(void *) * own->nbatches);
		memcpy(batches + own->nbatches, out.batches, sizeof(void *) * out.nbatches);
		own_index_batches(own, n, batches);
	}
	tail->end_row = b.end;
	entry_sort_end(sort);
	end_build(&b);
	return rows;
}

/* Instead of building it: what was built ahead, and what came since. */
static void
build_on(const AheadIndex *ahead, Relation heap, Relation index, IndexInfo *info, OwnIndex *own, uint64 base,
		 IndexBuildResult *result)
{
	MemoryContext old = MemoryContextSwitchTo(own_context());
	Tail *tail = palloc(sizeof(Tail));

	*tail = (Tail){RelationGetRelid(heap), RelationGetRelid(index), own->storage, own->table, ahead->end_row, base};
	tails = lappend(tails, tail);
	MemoryContextSwitchTo(old);
	if (ahead->nbatches)
		own_index_batches(own, ahead->nbatches, ahead->batches);
	result->heap_tuples = ahead->heap_tuples + build_tail(tail, heap, index, info, own, &result->index_tuples);
	result->index_tuples += ahead->index_tuples;
}

/*
 * What other servers have written since the index was made is added, so that the moment in which they must not write begins now, and not
 * before all that the statement did.
 */
void
ahead_catch_up(void)
{
	S3Node *node = node_current();
	ListCell *lc;

	foreach (lc, tails)
	{
		Tail *tail = lfirst(lc);
		TableState *table = state_table(node, tail->table);
		OwnIndex *own = own_index(tail->storage);
		uint64 base = txn_base(node);
		Relation heap, index;
		IndexUser user;
		double entries;

		if (own == NULL || table == NULL ||
			pg_atomic_read_u64(&table->changed_elsewhere) <= POS(tail->base, POS_STEP_MAX))
			continue;
		heap = table_open(tail->heap, NoLock);
		index = index_open(tail->index, NoLock);
		tail->base = base;
		index_user_begin(heap, &user);
		(void) build_tail(tail, heap, index, BuildIndexInfo(index), own, &entries);
		index_user_end(&user);
		commit_keeps_writers_out_from(tail->table, base);
		/* rows may have come and gone meanwhile, which snapshots in between see */
		index_rebuilt(index);
		index_close(index, NoLock);
		table_close(heap, NoLock);
	}
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
	StorageId id, table;
	IndexMeta *meta;
	const AheadIndex *ahead;
	OwnIndex *own;
	uint64 base;

	/* concurrently.c and reindex.c leave the word out */
	if (info->ii_Concurrent)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("indexes of s3am tables cannot be built concurrently by core"),
						errdetail("Index \"%s\".", RelationGetRelationName(index))));
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
	ahead = ahead_find(heap, meta, info, table.storage);
	own = own_index_for_write(meta, id.storage, table.storage);
	own_index_clear(own);
	if (ahead)
		build_on(ahead, heap, index, info, own, base, result);
	else
	{
		Output out = {.cxt = own_context(), .own = own, .base = base};
		ParallelBuild *parallel = NULL;
		EntrySort *sort;
		BuildCount count;

		/* workers would not find what this transaction made */
		if (!commit_storage_is_new(table.storage))
			parallel = parallel_build(heap, index, info, meta, &sort, &count);
		if (parallel == NULL)
		{
			sort = entry_sort_begin(meta, maintenance_work_mem, NULL);
			build_scan(heap, index, info, meta, sort, NULL, &count);
			entry_sort_perform(sort);
		}
		/* if not told otherwise, core looks up each row's key once the index is there */
		if (write_out(meta, sort, heap, NULL, info->ii_Unique || info->ii_ExclusionOps,
					  !index->rd_index->indnullsnotdistinct, &out))
			info->ii_ExclusionOps = NULL;
		entry_sort_end(sort);
		if (parallel)
			parallel_build_end(parallel);
		if (out.nbatches)
			own_index_batches(own, out.nbatches, out.batches);
		result->heap_tuples = count.rows;
		result->index_tuples = count.entries;
	}
	if (ReindexIsProcessingIndex(RelationGetRelid(index)))
		index_rebuilt(index);
	return result;
}

void
index_am_build_empty(Relation index)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("s3am tables cannot be unlogged")));
}
