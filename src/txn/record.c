/*
 * record.c: what a transaction did to one table, as it stands in the manifest.
 *
 * Rows that the transaction itself removed again are left out, so the numbers of those that stay are consecutive.  Rows up to
 * s3am.inline_limit travel in the manifest; more are uploaded as segments before the manifest is written.
 */
#include "postgres.h"

#include <roaring/roaring.h>

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "node/bucket.h"
#include "s3am.h"
#include "segment/rowpage.h"
#include "txn/commit.h"
#include "txn/own.h"
#include "txn/record.h"

S3am__RowSet *
record_rowset(const uint64 *rows, uint64 n)
{
	S3am__RowSet *set = palloc(sizeof(*set));
	int			capacity = 4;

	s3am__row_set__init(set);
	set->parts = palloc(capacity * sizeof(void *));
	for (uint64 i = 0; i < n;)
	{
		uint32		high = rows[i] >> 32;
		roaring_bitmap_t *bitmap = roaring_bitmap_create();
		S3am__RowSet__Part *part = palloc(sizeof(*part));

		for (; i < n && (uint32) (rows[i] >> 32) == high; i++)
			roaring_bitmap_add(bitmap, (uint32) rows[i]);
		roaring_bitmap_run_optimize(bitmap);
		s3am__row_set__part__init(part);
		part->high = high;
		part->bitmap.len = roaring_bitmap_portable_size_in_bytes(bitmap);
		part->bitmap.data = palloc(part->bitmap.len);
		(void) roaring_bitmap_portable_serialize(bitmap, (char *) part->bitmap.data);
		roaring_bitmap_free(bitmap);
		if ((int) set->n_parts == capacity)
			set->parts = repalloc(set->parts, (capacity *= 2) * sizeof(void *));
		set->parts[set->n_parts++] = part;
	}
	return set;
}

/* ------------------------------------------------------------------------------------ rows added */

typedef struct BatchBuilder
{
	S3am__TableEdit *edit;
	int			capacity;
	TxnTable   *table;
	MemoryContext cxt;
	RowWriter  *writer;
} BatchBuilder;

static S3am__Batch *
add_batch(BatchBuilder *builder, uint64 nrows)
{
	S3am__Batch *batch = palloc(sizeof(*batch));

	s3am__batch__init(batch);
	batch->nrows = nrows;
	if ((int) builder->edit->n_batches == builder->capacity)
	{
		builder->capacity = builder->capacity ? builder->capacity * 2 : 4;
		builder->edit->batches = builder->edit->batches
			? repalloc(builder->edit->batches, builder->capacity * sizeof(void *))
			: palloc(builder->capacity * sizeof(void *));
	}
	builder->edit->batches[builder->edit->n_batches++] = batch;
	return batch;
}

static void
finish_segment(BatchBuilder *builder, SegmentUpload *upload)
{
	S3am__Batch *batch = add_batch(builder, row_writer_count(builder->writer));
	S3am__SegmentRef *ref = palloc(sizeof(*ref));

	s3am__segment_ref__init(ref);
	ref->live_bytes = row_writer_bytes(builder->writer);
	row_writer_finish(builder->writer, &ref->size, &ref->footer_size);
	bucket_segment_finish(upload, ref);
	batch->segment = ref;
	row_writer_free(builder->writer);
	builder->writer = NULL;
}

/* Writes the rows that stay; position[i] gets the number of row i among them, or -1. */
static void
build_batches(BatchBuilder *builder, int64 *position)
{
	TxnTable   *table = builder->table;
	int			natts = table->desc ? table->desc->natts : 0;
	Datum	   *values = palloc(sizeof(Datum) * Max(natts, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(natts, 1));
	bool		segments = table->bytes > (Size) s3am_inline_limit * 1024;
	SegmentUpload *upload = NULL;
	int64		n = 0;

	for (uint64 i = 0; i < table->nrows; i++)
	{
		OwnRow	   *row = &table->rows[i];

		position[i] = -1;
		if (row->tuple == NULL || row->cmax != InvalidCommandId || row->speculative)
			continue;
		CHECK_FOR_INTERRUPTS();
		if (builder->writer == NULL)
		{
			builder->writer = row_writer_create(table->desc, builder->cxt);
			if (segments)
			{
				upload = bucket_segment_begin();
				row_writer_stream(builder->writer, bucket_segment_emit, upload, bucket_repository_uuid(),
								  bucket_segment_epoch(upload), bucket_segment_number(upload));
			}
		}
		heap_deform_tuple(row->tuple, table->desc, values, nulls);
		(void) row_writer_add(builder->writer, values, nulls);
		position[i] = n++;
		if (segments && row_writer_bytes(builder->writer) >= (Size) s3am_segment_size * 1024)
			finish_segment(builder, upload);
	}
	if (builder->writer && segments)
		finish_segment(builder, upload);
	else if (builder->writer)
	{
		S3am__Batch *batch = add_batch(builder, row_writer_count(builder->writer));
		bytea	   *blob = row_writer_inline(builder->writer);

		batch->rows.data = (uint8 *) VARDATA(blob);
		batch->rows.len = VARSIZE(blob) - VARHDRSZ;
		row_writer_free(builder->writer);
		builder->writer = NULL;
	}
	if (segments)
		bucket_segment_wait_all();
}

/* ------------------------------------------------------------------------------------ rows removed */

/* Where a chain of own updates ends: successor as the manifest numbers it. */
static uint64
final_successor(TxnTable *table, ItemPointer from, uint64 self, const int64 *position)
{
	ItemPointerData tid = *from;

	for (;;)
	{
		uint64		row;

		if (ItemPointerIndicatesMovedPartitions(&tid))
			return 1;
		row = tid_to_row(&tid);
		if (row == self || !ROW_IS_OWN(row) || row - OWN_BASE >= table->nrows)
			return 0;
		if (position[row - OWN_BASE] >= 0)
			return position[row - OWN_BASE] + 2;
		if (table->rows[row - OWN_BASE].tuple == NULL)
			return 0;
		self = row;
		tid = table->rows[row - OWN_BASE].next;
	}
}

static S3am__RowSet *
add_ends(S3am__TableEdit *edit, TxnTable *table, OwnEnd **ends, uint64 n, bool key, const int64 *position,
		 bool *any_successor)
{
	uint64	   *rows = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1) * sizeof(uint64));
	uint64		count = 0;

	for (uint64 i = 0; i < n; i++)
	{
		uint64		successor = final_successor(table, &ends[i]->next, ends[i]->row, position);
		/* an update whose new row was removed again is a removal */
		bool		removal = ends[i]->key || successor == 0;

		if (removal != key)
			continue;
		rows[count++] = ends[i]->row;
		edit->successors[edit->n_successors++] = successor;
		if (successor != 0)
			*any_successor = true;
	}
	return count ? record_rowset(rows, count) : NULL;
}

S3am__TableEdit *
record_table_edit(TxnTable *table)
{
	BatchBuilder builder = {0};
	S3am__TableEdit *edit = palloc(sizeof(*edit));
	int64	   *position = MemoryContextAllocHuge(CurrentMemoryContext, Max(table->nrows, 1) * sizeof(int64));
	uint64		nends;
	OwnEnd	  **ends = own_sorted_ends(table, &nends);
	bool		any_successor = false;

	s3am__table_edit__init(edit);
	edit->storage = table->storage;
	builder.edit = edit;
	builder.table = table;
	builder.cxt = CurrentMemoryContext;
	build_batches(&builder, position);
	if (nends)
	{
		edit->successors = MemoryContextAllocHuge(CurrentMemoryContext, nends * sizeof(uint64));
		edit->removed = add_ends(edit, table, ends, nends, true, position, &any_successor);
		edit->replaced = add_ends(edit, table, ends, nends, false, position, &any_successor);
		if (!any_successor)
			edit->n_successors = 0;
	}
	return edit->n_batches || nends ? edit : NULL;
}
