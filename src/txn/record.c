/*
 * record.c: what a transaction did to one table, as it stands in the manifest.
 *
 * First come the segments that were uploaded while the transaction ran, then the rows that are still in memory.  Of these, those
 * that the transaction removed again are left out, so the numbers of those that stay are consecutive; in a segment they stay, and
 * the record names them as dead.  Rows up to s3am.inline_limit travel in the manifest; more are uploaded before it is written.
 */
#include "postgres.h"

#include <roaring/roaring.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "node/bucket.h"
#include "s3am.h"
#include "segment/batch.h"
#include "txn/own.h"
#include "txn/record.h"

/* ------------------------------------------------------------------------------------ sets of rows */

struct RowSetBuilder
{
	MemoryContextCallback callback;
	S3am__RowSet *set;
	size_t capacity;
	uint32 high;
	roaring_bitmap_t *bitmap; /* of `high`; not palloc'ed */
};

static void
free_bitmap(void *arg)
{
	RowSetBuilder *builder = arg;

	if (builder->bitmap)
		roaring_bitmap_free(builder->bitmap);
	builder->bitmap = NULL;
}

RowSetBuilder *
record_set_begin(void)
{
	RowSetBuilder *builder = palloc0(sizeof(*builder));

	builder->set = palloc(sizeof(*builder->set));
	s3am__row_set__init(builder->set);
	builder->callback.func = free_bitmap;
	builder->callback.arg = builder;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &builder->callback);
	return builder;
}

static void
finish_part(RowSetBuilder *builder)
{
	S3am__RowSet *set = builder->set;
	S3am__RowSet__Part *part;

	if (builder->bitmap == NULL)
		return;
	part = palloc(sizeof(*part));
	s3am__row_set__part__init(part);
	rowset_expect_range(builder->bitmap, 0);
	(void) roaring_bitmap_run_optimize(builder->bitmap);
	part->high = builder->high;
	part->bitmap.len = roaring_bitmap_portable_size_in_bytes(builder->bitmap);
	part->bitmap.data = MemoryContextAllocHuge(CurrentMemoryContext, part->bitmap.len);
	rowset_expect_range(builder->bitmap, 0);
	(void) roaring_bitmap_portable_serialize(builder->bitmap, (char *) part->bitmap.data);
	free_bitmap(builder);
	if (set->n_parts == builder->capacity)
	{
		builder->capacity = builder->capacity ? builder->capacity * 2 : 4;
		set->parts = set->parts ? repalloc(set->parts, builder->capacity * sizeof(void *))
								: palloc(builder->capacity * sizeof(void *));
	}
	set->parts[set->n_parts++] = part;
}

void
record_set_add(RowSetBuilder *builder, uint64 first, uint64 count)
{
	while (count > 0)
	{
		uint32 high = first >> 32;
		uint64 n = Min(count, ((uint64) high + 1) * (PG_UINT32_MAX + UINT64CONST(1)) - first);

		if (builder->bitmap == NULL || builder->high != high)
		{
			finish_part(builder);
			builder->high = high;
			builder->bitmap = roaring_bitmap_create();
			if (builder->bitmap == NULL)
				ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		}
		rowset_expect_range(builder->bitmap, n);
		roaring_bitmap_add_range_closed(builder->bitmap, (uint32) first, (uint32) (first + n - 1));
		first += n;
		count -= n;
	}
}

S3am__RowSet *
record_set_finish(RowSetBuilder *builder)
{
	finish_part(builder);
	return builder->set->n_parts ? builder->set : NULL;
}

S3am__RowSet *
record_rows(const uint64 *rows, uint64 n)
{
	RowSetBuilder *builder = record_set_begin();

	for (uint64 i = 0; i < n; i++)
		record_set_add(builder, rows[i], 1);
	return record_set_finish(builder);
}

static bool
add_one(void *arg, uint64_t row)
{
	record_set_add(arg, row, 1);
	return true;
}

S3am__RowSet *
record_row_set(const RowSet *set)
{
	RowSetBuilder *builder = record_set_begin();

	rowset_each(set, add_one, builder);
	return record_set_finish(builder);
}

/* ------------------------------------------------------------------------------------ rows added */

struct FinalRows
{
	S3am__TableEdit *edit;
	size_t capacity; /* of its batches */
	TxnTable *table;
	int64 nrows; /* in the batches so far */
	const S3am__Batch *described; /* the last of them with a schema */
	/* of the rows in memory */
	int64 tail; /* number of the first that stays, in the edit */
	uint64 *removed; /* those that do not stay, ascending */
	uint64 nremoved, removed_capacity;
};

typedef FinalRows EditBuilder;

static void
add_batch(EditBuilder *builder, S3am__Batch *batch)
{
	S3am__TableEdit *edit = builder->edit;

	builder->nrows += batch->nrows;
	builder->described = batch_share_schema(batch, builder->described);
	if (edit->n_batches == builder->capacity)
	{
		builder->capacity = builder->capacity ? builder->capacity * 2 : 4;
		edit->batches = edit->batches ? repalloc_huge(edit->batches, builder->capacity * sizeof(void *))
									  : palloc(builder->capacity * sizeof(void *));
	}
	edit->batches[edit->n_batches++] = batch;
}

/* The writer's rows as a batch; the writer is freed. */
static S3am__Batch *
finish_batch(RowWriter *writer)
{
	S3am__Batch *batch = palloc(sizeof(*batch));

	s3am__batch__init(batch);
	row_writer_finish(writer, batch);
	row_writer_free(writer);
	return batch;
}

static bool
count_rows(void *arg, uint64 row, uint32 count, const OwnEnd *end)
{
	*(uint64 *) arg += count;
	return true;
}

typedef struct DeadContext
{
	RowSetBuilder *set;
	uint64 shift; /* from row id to number in the edit */
} DeadContext;

static bool
add_dead(void *arg, uint64 row, uint32 count, const OwnEnd *end)
{
	DeadContext *c = arg;

	record_set_add(c->set, row - c->shift, count);
	return true;
}

/* Segments that are there already.  One without a living row is left out, and goes. */
static void
name_segments(EditBuilder *builder)
{
	OwnRows *rows = &builder->table->rows;
	RowSetBuilder *dead = record_set_begin();

	for (int i = 0; i < rows->nsegments; i++)
	{
		OwnSegment *segment = &rows->segments[i];
		uint64 first = OWN_BASE + segment->first;
		uint64 removed = 0;
		DeadContext c = {dead};
		S3am__Batch *batch;
		S3am__SegmentRef *ref;

		segment->final = -1;
		if (segment->valid > 0)
			ownends_each(builder->table->ends, first, first + segment->valid - 1, count_rows, &removed);
		if (removed == segment->valid)
		{
			spill_drop(segment);
			continue;
		}
		segment->final = builder->nrows;
		c.shift = first - segment->final;
		if (removed > 0)
			ownends_each(builder->table->ends, first, first + segment->valid - 1, add_dead, &c);
		record_set_add(dead, segment->final + segment->valid, segment->nrows - segment->valid);
		ref = palloc(sizeof(*ref));
		s3am__segment_ref__init(ref);
		ref->epoch = segment->epoch;
		ref->number = segment->number;
		ref->size = segment->size;
		ref->footer_size = segment->footer_size;
		ref->live_bytes = segment->live_bytes;
		batch = palloc(sizeof(*batch));
		s3am__batch__init(batch);
		batch->nrows = segment->nrows;
		batch->segment = ref;
		batch->pages = page_directory(segment->pages, segment->npages);
		batch->schema = schema_unpack(segment->schema);
		add_batch(builder, batch);
	}
	builder->edit->dead = record_set_finish(dead);
}

static bool
add_removed(void *arg, uint64 row, uint32 count, const OwnEnd *end)
{
	EditBuilder *builder = arg;

	for (uint32 i = 0; i < count; i++)
	{
		if (builder->nremoved == builder->removed_capacity)
		{
			builder->removed_capacity = builder->removed_capacity ? builder->removed_capacity * 2 : 64;
			builder->removed = builder->removed
								   ? repalloc_huge(builder->removed, builder->removed_capacity * sizeof(uint64))
								   : palloc(builder->removed_capacity * sizeof(uint64));
		}
		builder->removed[builder->nremoved++] = row + i - OWN_BASE;
	}
	return true;
}

static void
write_inline(EditBuilder *builder)
{
	OwnRows *rows = &builder->table->rows;
	RowWriter *writer = row_writer_create(builder->table->desc, CurrentMemoryContext);
	uint64 next;

	spill_write(builder->table, writer, rows->in_memory, rows->nrows, false, SIZE_MAX, &next);
	add_batch(builder, finish_batch(writer));
}

static void
write_segments(EditBuilder *builder)
{
	OwnRows *rows = &builder->table->rows;
	SegmentUpload *volatile upload = NULL;

	PG_TRY();
	{
		for (uint64 n = rows->in_memory; n < rows->nrows;)
		{
			RowWriter *writer = row_writer_create(builder->table->desc, CurrentMemoryContext);
			S3am__Batch *batch;

			upload = bucket_segment_begin();
			row_writer_stream(writer, bucket_segment_emit, upload, bucket_repository_uuid(),
							  bucket_segment_epoch(upload), bucket_segment_number(upload));
			spill_write(builder->table, writer, n, rows->nrows, false, (Size) s3am_segment_size * 1024, &n);
			batch = finish_batch(writer);
			bucket_segment_room(upload);
			spill_note(bucket_segment_epoch(upload), bucket_segment_number(upload));
			if (batch->nrows > 0)
			{
				bucket_segment_finish(upload, batch->segment);
				add_batch(builder, batch);
			}
			else
				bucket_segment_discard(upload);
			upload = NULL;
		}
	}
	PG_CATCH();
	{
		if (upload)
			bucket_segment_discard(upload);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static void
add_rows(EditBuilder *builder)
{
	OwnRows *rows = &builder->table->rows;
	Size bytes = 0;

	spill_settle(builder->table);
	name_segments(builder);
	builder->tail = builder->nrows;
	if (rows->nrows > rows->in_memory)
	{
		uint64 r = 0;

		ownends_each(builder->table->ends, OWN_BASE + rows->in_memory, OWN_BASE + rows->nrows - 1, add_removed,
					 builder);
		for (uint64 n = rows->in_memory; n < rows->nrows; n++)
		{
			if (r < builder->nremoved && builder->removed[r] == n)
				r++;
			else
				bytes += ownrows_tuple(rows, n)->t_len;
		}
		if (bytes > (Size) s3am_inline_limit * 1024)
		{
			write_segments(builder);
			/* what comes next needs memory of its own */
			ownrows_written(rows);
		}
		else if (bytes > 0)
			write_inline(builder);
	}
	/* all that the manifest names must be there before it is written */
	bucket_segment_wait_all();
}

/* ------------------------------------------------------------------------------------ rows removed */

/* The number in the edit of an own row that stays. */
static uint64
final_number(EditBuilder *builder, uint64 n)
{
	OwnRows *rows = &builder->table->rows;
	uint64 low = 0, high = builder->nremoved;

	if (n < rows->in_memory)
	{
		OwnSegment *segment = ownrows_segment(rows, n);

		Assert(segment->final >= 0);
		return segment->final + (n - segment->first);
	}
	while (low < high)
	{
		uint64 mid = low + (high - low) / 2;

		if (builder->removed[mid] < n)
			low = mid + 1;
		else
			high = mid;
	}
	return builder->tail + (n - rows->in_memory) - low;
}

/* Where a chain of own updates ends: successor as the manifest numbers it. */
static uint64
final_successor(EditBuilder *builder, uint64 next, bool *key)
{
	for (;;)
	{
		OwnEnd end;

		if (next == NEXT_MOVED)
			return 1;
		if (!NEXT_IS_ROW(next) || next >= builder->table->rows.nrows)
			return 0;
		if (!ownends_get(builder->table->ends, OWN_BASE + next, &end))
			return final_number(builder, next) + 2;
		*key |= end.key;
		next = end.next;
	}
}

/* Successors that are told one by one take 16 bytes each, here and in the committer. */
#define SUCCESSOR_BYTES (2 * sizeof(uint64))
#define SUCCESSOR_RUNS_MIN 65536

typedef struct RemovedContext
{
	EditBuilder *builder;
	RowSetBuilder *set;
	size_t capacity, limit; /* of runs of successors */
	bool key; /* those that are claimed in mode UPDATE; otherwise, the others */
	bool any_successor;
	bool coarse; /* all of them, as if their keys had changed and they had moved: where to is not told */
	bool blunt; /* those without a successor, too */
	bool full; /* there are more runs than may be */
} RemovedContext;

size_t
record_successor_runs(void)
{
	return Max((size_t) s3am_transaction_memory * 1024 / 8 / SUCCESSOR_BYTES, SUCCESSOR_RUNS_MIN);
}

/* Rows of either kind take turns: all are said to have moved. */
static void
make_blunt(RemovedContext *c)
{
	S3am__TableEdit *edit = c->builder->edit;

	for (size_t i = 1; i < edit->n_successors; i++)
		edit->successor_counts[0] += edit->successor_counts[i];
	edit->successors[0] = 1;
	edit->n_successors = edit->n_successor_counts = 1;
	c->blunt = true;
}

/* False: there is no room. */
static bool
add_successor(RemovedContext *c, uint64 successor)
{
	S3am__TableEdit *edit = c->builder->edit;

	c->any_successor |= successor != 0;
	if (edit->n_successors == c->limit)
	{
		uint64 first = edit->successors[edit->n_successors - 1];

		if (c->coarse && successor != first)
			make_blunt(c);
	}
	if (c->blunt)
		successor = 1;
	if (edit->n_successors > 0)
	{
		uint64 first = edit->successors[edit->n_successors - 1];
		uint64 *count = &edit->successor_counts[edit->n_successors - 1];

		if (successor == (first < 2 ? first : first + *count))
		{
			(*count)++;
			return true;
		}
	}
	if (edit->n_successors == c->limit)
		return false;
	if (edit->n_successors == c->capacity)
	{
		c->capacity = Min(c->capacity ? c->capacity * 2 : 64, c->limit);
		edit->successors = edit->successors ? repalloc_huge(edit->successors, c->capacity * sizeof(uint64))
											: palloc(c->capacity * sizeof(uint64));
		edit->successor_counts = edit->successor_counts
									 ? repalloc_huge(edit->successor_counts, c->capacity * sizeof(uint64))
									 : palloc(c->capacity * sizeof(uint64));
	}
	edit->successors[edit->n_successors++] = successor;
	edit->successor_counts[edit->n_successor_counts++] = 1;
	return true;
}

static bool
add_end(void *arg, uint64 row, uint32 count, const OwnEnd *end)
{
	RemovedContext *c = arg;

	for (uint32 i = 0; i < count; i++)
	{
		bool key = end->key;
		uint64 successor = final_successor(c->builder, NEXT_IS_ROW(end->next) ? end->next + i : end->next, &key);

		if (c->coarse)
			successor = Min(successor, 1);
		/* an update whose new row was removed again is a removal, one whose new row got another key changes it */
		else if ((key || successor == 0) != c->key)
			continue;
		if (!add_successor(c, successor))
		{
			c->full = true;
			return false;
		}
		record_set_add(c->set, row + i, 1);
	}
	return true;
}

static S3am__RowSet *
add_ends(RemovedContext *c, bool key)
{
	c->set = record_set_begin();
	c->key = key;
	ownends_each(c->builder->table->ends, 0, OWN_BASE - 1, add_end, c);
	return record_set_finish(c->set);
}

/*
 * Rows that ended, and where they went.  An update in no order has a successor to tell for each row; above a limit none is told, so that
 * neither this record nor anything made of it takes more than a few bits a row.  Who waited for such a row is told that it moved, which
 * is 40001; and as nobody can follow it, locks that only want its key to stay are at odds with it, so it is claimed as if that had changed.
 */
static void
add_removals(EditBuilder *builder, size_t *runs)
{
	S3am__TableEdit *edit = builder->edit;
	RemovedContext c = {builder};

	c.limit = Max(*runs, 16);
	edit->removed = add_ends(&c, true);
	if (!c.full)
		edit->replaced = add_ends(&c, false);
	if (c.full)
	{
		edit->n_successors = edit->n_successor_counts = 0;
		edit->replaced = NULL;
		c.any_successor = false;
		c.coarse = true;
		edit->removed = add_ends(&c, true);
	}
	if (!c.any_successor)
		edit->n_successors = edit->n_successor_counts = 0;
	*runs -= Min(*runs, edit->n_successors);
}

S3am__TableEdit *
record_table_edit(TxnTable *table, size_t *successor_runs, FinalRows **finals)
{
	EditBuilder *builder = palloc0(sizeof(*builder));
	S3am__TableEdit *edit = palloc(sizeof(*edit));

	s3am__table_edit__init(edit);
	edit->storage = table->storage;
	builder->edit = edit;
	builder->table = table;
	own_refresh_desc(table);
	add_rows(builder);
	if (ownends_count(table->ends) > 0)
		add_removals(builder, successor_runs);
	*finals = builder;
	return edit->n_batches || edit->removed || edit->replaced ? edit : NULL;
}

bool
record_final_row(FinalRows *finals, uint64 n, uint64 *final)
{
	OwnEnd end;

	if (n >= finals->table->rows.nrows || ownends_get(finals->table->ends, OWN_BASE + n, &end))
		return false;
	*final = final_number(finals, n);
	return true;
}
