/*
 * merge.c: runs of an index become fewer; entries of rows that are gone are left out.
 *
 * The compactor does this as it does with a table's batches, and its edit goes the same way (src/compact).  Merged are neighbours, by the
 * order in which they came: then the new run has the numbers of those that it replaces.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compact/compact.h"
#include "index/index.h"
#include "index/merge.h"
#include "index/sort.h"
#include "node/bucket.h"
#include "s3am.h"
#include "txn/txn.h"

#define CLASS_SMALLEST (16 * 1024) /* bytes of entries, uncompressed */
#define CLASS_FACTOR 4
#define CLASSES 16
#define CLASS_SMALL 3 /* up to this one runs are small batches (BATCH_SMALL) */
#define MERGE_RUNS 4
#define MERGE_SMALLEST 8 /* of the smallest class, which are inline: each merge is a commit */
#define OTHERS_FACTOR 4
#define VACUUM_FACTOR 4 /* an older run is merged if it is at most so many times as large as all younger ones */
#define VACUUM_DEAD 20 /* percent of entries without a living row, for which all are merged */
#define INLINE_BYTES (64 * 1024)

/* A run among the batches of an index. */
typedef struct Run
{
	uint32 first, end; /* of its batches */
	uint64 raw;
	int class;
} Run;

static int
class_of(uint64 raw)
{
	int class = 0;

	for (uint64 limit = CLASS_SMALLEST; class < CLASSES - 1 && raw >= limit; limit *= CLASS_FACTOR)
		class ++;
	return class;
}

static uint32
find_runs(const BatchEntry **batches, uint32 count, Run *runs)
{
	uint32 n = 0;

	for (uint32 i = 0; i < count; i++)
	{
		if (n == 0 || !batches[i]->continues)
			runs[n++] = (Run){i, i, 0};
		runs[n - 1].raw += batches[i]->raw;
		runs[n - 1].end = i + 1;
	}
	for (uint32 i = 0; i < n; i++)
		runs[i].class = class_of(runs[i].raw);
	return n;
}

static CompactJob *
make_job(TableState *table, uint64 base, const BatchEntry **batches, const Run *first, const Run *last)
{
	CompactJob *job = palloc0(sizeof(CompactJob));

	job->storage = table->storage;
	job->table = table->table;
	job->base = base;
	job->nbatches = last->end - first->first;
	job->batches = palloc(sizeof(BatchEntry) * job->nbatches);
	for (uint32 i = 0; i < job->nbatches; i++)
	{
		job->batches[i] = *batches[first->first + i];
		job->rows += job->batches[i].nrows;
		job->raw += job->batches[i].raw;
	}
	return job;
}

/*
 * Are all of these runs in another order than this server's?  Then they are left to servers with the other library, who may find them useful as they
 * are.  Runs of both orders, which are of no use to anybody, are sorted anew (index_rewrite).
 */
static bool
are_others(S3Node *node, const TableState *table, const BatchEntry **batches, const Run *first, const Run *last)
{
	Oid relid = storage_index_relation(table->storage);
	Relation index = OidIsValid(relid) ? RelationIdGetRelation(relid) : NULL;
	IndexMeta *meta;
	bool others = true;

	if (index == NULL)
		return false;
	meta = index_meta_kept(index);
	for (uint32 i = first->first; i < last->end && others; i++)
		others = collation_order_of_batch(meta, node, batches[i], NULL) == ORDER_OTHER;
	/* after an error the end of the transaction does this */
	RelationClose(index);
	return others;
}

/* Has the index that many more entries than its table has rows?  One with a condition may have them unnoticed. */
static bool
has_many_dead(S3Node *node, const TableState *table, const BatchEntry **batches, uint32 count)
{
	TableState *of = state_table(node, table->rows_of);
	uint64 entries = 0, living;

	if (of == NULL)
		return false;
	for (uint32 i = 0; i < count; i++)
		entries += batches[i]->nrows;
	living = pg_atomic_read_u64(&of->next_row) - pg_atomic_read_u64(&of->deleted);
	return entries > living && (entries - living) * 100 >= entries * VACUUM_DEAD;
}

CompactJob *
index_plan(S3Node *node, TableState *table, CompactUrge urge)
{
	const BatchEntry **batches;
	uint32 count, nruns;
	const BatchArray *array;
	uint64 base = POS_WHOLE(pg_atomic_read_u64(&node->applied));
	Run *runs;

	pg_memory_barrier();
	if (table->dropped != 0)
		return NULL;
	array = state_batches(node, table, &count);
	count = state_all_batches(node, array, count, &batches);
	runs = palloc(sizeof(Run) * Max(count, 1));
	nruns = find_runs(batches, count, runs);
	for (int class = 0; class < CLASSES; class ++)
		for (uint32 first = 0, end; first < nruns; first = Max(end, first + 1))
		{
			uint32 exact = 0, wanted = class == 0 ? MERGE_SMALLEST : MERGE_RUNS;

			for (end = first; end < nruns && runs[end].class <= class; end++)
				exact += runs[end].class == class;
			if (urge == COMPACT_OTHERS)
				wanted *= OTHERS_FACTOR;
			/* what is not small takes no memory that somebody waits for */
			if (exact < wanted && !(urge == COMPACT_PRESSED && class <= CLASS_SMALL && end - first > 1))
				continue;
			if (are_others(node, table, batches, &runs[first], &runs[end - 1]))
				continue;
			return make_job(table, base, batches, &runs[first], &runs[end - 1]);
		}
	if (urge == COMPACT_VACUUM && nruns > 0)
	{
		uint32 first = nruns - 1;
		uint64 raw = runs[first].raw;

		/* so that what is written is in proportion to what came since the last time */
		while (first > 0 && runs[first - 1].raw <= raw * VACUUM_FACTOR)
			raw += runs[--first].raw;
		if (has_many_dead(node, table, batches, count))
			first = 0;
		else if (first == nruns - 1)
			return NULL;
		if (are_others(node, table, batches, &runs[first], &runs[nruns - 1]))
			return NULL;
		return make_job(table, base, batches, &runs[first], &runs[nruns - 1]);
	}
	return NULL;
}

/* ------------------------------------------------------------------------------------ rewriting */

/* Which entries stay. */
typedef struct Living
{
	S3Node *node;
	TableState *table; /* whose rows they are of; NULL: it is gone */
	uint64 pos; /* what ended up to here is over */
	const BatchArray *batches;
	uint32 count;
} Living;

/* Is the row gone for all who will read the new run?  Others read the runs before it. */
static bool
is_over(const Living *living, uint64 row)
{
	RowEnd end;

	if (living->table == NULL)
		return false;
	if (state_row_ended(living->node, living->table, row, &end) && end.pos <= living->pos)
		return true;
	/* compaction may have dropped it, and then nothing is known of its end any more */
	return state_find_batch(living->node, living->batches, living->count, row, NULL) == NULL;
}

/* The index, without a lock: nobody waits for a merge.  One that is dropped meanwhile stays in memory as long as it is open. */
static Relation
open_index(uint64 storage)
{
	Oid relid = storage_index_relation(storage);
	Relation index = OidIsValid(relid) ? RelationIdGetRelation(relid) : NULL;

	if (index == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("no index has storage " UINT64_FORMAT " here", storage)));
	return index;
}

/* A merge in progress. */
typedef struct Merge
{
	const CompactJob *job;
	CompactThrottle *throttle;
	const TableState *index_table;
	Living living;
	IndexMeta *meta;
	RunWriter *writer; /* NULL: there is no entry yet */
	EntrySort *sort; /* or NULL: entries come in order */
	Datum *values;
	bool *nulls;
	uint64 read, dropped;
} Merge;

static void
write_entry(Merge *m, const Datum *values, const bool *nulls)
{
	if (m->writer == NULL)
	{
		m->writer = run_begin(m->meta, m->job->raw > INLINE_BYTES);
		run_note_uploads(m->writer, compact_note_upload);
		run_with_filter(m->writer, m->meta);
	}
	run_add(m->writer, values, nulls);
}

/* Goes over these batches and takes the entries that stay, in order if all of them are in this server's, or are one run. */
static void
take_entries(Merge *m, const BatchEntry *batches, uint32 nbatches)
{
	const CompactJob *job = m->job;
	IndexSearch search;

	search_open_batches(&search, m->meta, m->living.node, batches, nbatches, NULL,
						AllocSetContextCreate(CurrentMemoryContext, "s3am merge", ALLOCSET_DEFAULT_SIZES));
	for (search_seek(&search, NULL, true); search.current; search_next(&search))
	{
		uint64 row = search_row(&search);

		if (++m->read % 1024 == 0)
		{
			compact_throttle(m->throttle, job->raw / Max(job->rows, 1) * 1024);
			pg_atomic_write_u64(&m->living.node->compaction.rows_done, m->read);
			if (m->index_table->dropped)
				ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the index was dropped or rebuilt")));
		}
		if (is_over(&m->living, row))
		{
			m->dropped++;
			continue;
		}
		for (int i = 0; i < m->meta->desc->natts; i++)
			m->values[i] = search_value(&search, i, &m->nulls[i]);
		m->values[ENTRY_ROW] = Int64GetDatum(row);
		if (m->sort == NULL)
		{
			write_entry(m, m->values, m->nulls);
			continue;
		}
		entry_sort_add(m->sort, m->values, m->nulls);
	}
	search_close(&search);
	MemoryContextDelete(search.cxt);
}

/* The same where some run is, or may be, in another order: each one is read by itself, and the new one is in this server's order. */
static void
sort_entries(Merge *m)
{
	const CompactJob *job = m->job;
	TupleTableSlot *sorted;

	m->sort = entry_sort_begin(m->meta, maintenance_work_mem, NULL);
	for (uint32 first = 0, end; first < job->nbatches; first = end)
	{
		for (end = first + 1; end < job->nbatches && job->batches[end].continues; end++)
			;
		take_entries(m, &job->batches[first], end - first);
	}
	entry_sort_perform(m->sort);
	sorted = entry_sort_slot(m->sort);
	while (entry_sort_next(m->sort, false, sorted))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(sorted);
		write_entry(m, sorted->tts_values, sorted->tts_isnull);
	}
	entry_sort_end(m->sort);
	ExecDropSingleTupleTableSlot(sorted);
}

CompactResult *
index_rewrite(S3Node *node, const CompactJob *job, CompactThrottle *throttle)
{
	CompactResult *result = palloc0(sizeof(CompactResult));
	S3am__TableEdit *edit = &result->edit;
	TableState *index_table = state_table(node, job->storage);
	Merge *m = palloc0(sizeof(Merge));
	Relation index = open_index(job->storage);
	S3am__Batch **batches = NULL;

	s3am__table_edit__init(edit);
	edit->storage = job->storage;
	edit->rows_of = index_table->rows_of;
	edit->first_row = job->batches[0].first_row;
	edit->drop_batches = palloc(sizeof(uint64) * job->nbatches);
	for (uint32 i = 0; i < job->nbatches; i++)
		edit->drop_batches[edit->n_drop_batches++] = job->batches[i].first_row;
	result->one_xmin = true;
	result->xmin = job->batches[0].xmin;
	m->job = job;
	m->throttle = throttle;
	m->index_table = index_table;
	m->living = (Living){node, state_table(node, index_table->rows_of), POS(job->base, POS_STEP_MAX)};
	if (m->living.table)
		m->living.batches = state_batches(node, m->living.table, &m->living.count);

	PG_TRY();
	{
		bool in_order = true;

		m->meta = index_meta(index, CurrentMemoryContext);
		m->nulls = palloc(sizeof(bool) * m->meta->desc->natts);
		m->values = palloc(sizeof(Datum) * m->meta->desc->natts);
		/* one that does not say its order cannot be relied on to be in the order that the new run will say */
		for (uint32 i = 0; i < job->nbatches; i++)
			in_order &= collation_order_of_batch(m->meta, node, &job->batches[i], NULL) == ORDER_SAME;
		if (in_order)
			take_entries(m, job->batches, job->nbatches);
		else
			sort_entries(m);
		result->dropped = m->dropped;
		if (m->writer)
		{
			edit->n_batches = run_finish(m->writer, &batches);
			m->writer = NULL;
			edit->batches = batches;
		}
	}
	PG_CATCH();
	{
		if (m->writer)
			run_discard(m->writer);
		RelationClose(index);
		PG_RE_THROW();
	}
	PG_END_TRY();
	RelationClose(index);
	for (size_t i = 0; i < edit->n_batches; i++)
	{
		const S3am__Batch *batch = edit->batches[i];

		result->bytes += batch->segment ? batch->segment->size : batch->rows.len;
		if (batch->segment)
			result->epoch = batch->segment->epoch;
		if (i > 0)
			(void) batch_share_schema(edit->batches[i], edit->batches[0]);
	}
	pg_atomic_write_u32(&node->compaction.phase, COMPACT_UPLOAD);
	bucket_segment_wait_all();
	return result;
}
