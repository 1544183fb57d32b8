/*
 * spill.c: own rows that leave memory: into segments that are uploaded while the transaction runs.
 *
 * A portion of a table's oldest rows in memory becomes a segment, removed ones included, as a ROLLBACK TO may bring them back; the
 * record names those that stay removed.  Until the object is complete and on its way nothing is changed, so an error leaves all as
 * it was.  An upload that failed is remembered until the transaction ends: it can write and commit no more.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "node/bucket.h"
#include "s3am.h"
#include "segment/batch.h"
#include "txn/own.h"

typedef struct Uploaded
{
	uint64 epoch, number;
} Uploaded;

static Uploaded *uploaded; /* in TopMemoryContext while there are any */
static int nuploaded, uploaded_capacity;

void
spill_note(uint64 epoch, uint64 number)
{
	if (nuploaded == uploaded_capacity)
	{
		int capacity = uploaded_capacity ? uploaded_capacity * 2 : 16;

		uploaded = uploaded ? repalloc_huge(uploaded, capacity * sizeof(Uploaded))
							: MemoryContextAllocHuge(TopMemoryContext, capacity * sizeof(Uploaded));
		uploaded_capacity = capacity;
	}
	uploaded[nuploaded++] = (Uploaded){epoch, number};
}

void
spill_drop(const OwnSegment *segment)
{
	for (int i = nuploaded; i > 0; i--)
		if (uploaded[i - 1].number == segment->number && uploaded[i - 1].epoch == segment->epoch)
		{
			bucket_segment_remove(segment->epoch, segment->number);
			uploaded[i - 1] = uploaded[--nuploaded];
			break;
		}
}

void
spill_reset(bool keep_all)
{
	for (int i = 0; i < nuploaded && !keep_all; i++)
		bucket_segment_remove(uploaded[i].epoch, uploaded[i].number);
	nuploaded = 0;
	if (uploaded)
		pfree(uploaded);
	uploaded = NULL;
	uploaded_capacity = 0;
	bucket_segments_forget();
}

void
spill_write(TxnTable *table, RowWriter *writer, uint64 from, uint64 to, bool removed_too, Size stop_at, uint64 *next)
{
	TupleDesc desc = table->desc;
	Datum *values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool *nulls = palloc(sizeof(bool) * Max(desc->natts, 1));
	uint64 n;

	for (n = from; n < to && row_writer_bytes(writer) < stop_at; n++)
	{
		MinimalTuple tuple;
		HeapTupleData heap;
		OwnEnd end;

		CHECK_FOR_INTERRUPTS();
		if (!removed_too && ownends_get(table->ends, OWN_BASE + n, &end))
			continue;
		tuple = ownrows_tuple(&table->rows, n);
		heap.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET;
		heap.t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET);
		ItemPointerSetInvalid(&heap.t_self);
		heap.t_tableOid = InvalidOid;
		heap_deform_tuple(&heap, desc, values, nulls);
		for (int i = 0; i < desc->natts; i++)
			if (TupleDescAttr(desc, i)->attisdropped)
				nulls[i] = true;
		(void) row_writer_add(writer, values, nulls);
	}
	*next = n;
	pfree(values);
	pfree(nulls);
}

/* Where the segment's rows are and what they mean, for reading them and for the record. */
static void
keep_description(OwnRows *rows, OwnSegment *segment, const S3am__Batch *batch)
{
	const PackedSchema *last = rows->nsegments ? rows->segments[rows->nsegments - 1].schema : NULL;
	PackedSchema *packed = schema_pack(batch->schema);
	PageStart *pages;

	segment->live_bytes = batch->segment->live_bytes;
	segment->size = batch->segment->size;
	segment->footer_size = batch->segment->footer_size;
	segment->npages = batch->pages->n_rows;
	pages = MemoryContextAllocHuge(rows->cxt, sizeof(PageStart) * (segment->npages + (Size) 1));
	page_starts_fill(batch, pages);
	segment->pages = pages;
	if (last && schema_same(last, packed))
		segment->schema = last;
	else
		segment->schema = memcpy(MemoryContextAlloc(rows->cxt, offsetof(PackedSchema, bytes) + packed->len), packed,
								 offsetof(PackedSchema, bytes) + packed->len);
}

/* The oldest portion of the table's rows in memory becomes a segment. */
static void
spill_portion(TxnTable *table)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am upload", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	SegmentUpload *volatile upload = NULL;

	own_refresh_desc(table);
	PG_TRY();
	{
		OwnSegment segment = {0};
		S3am__Batch batch = S3AM__BATCH__INIT;
		RowWriter *writer;
		uint64 next;

		segment.first = table->rows.in_memory;
		segment.nrows = ownrows_portion(&table->rows, (Size) s3am_segment_size * 1024) - segment.first;
		segment.valid = segment.nrows;
		upload = bucket_segment_begin();
		writer = row_writer_create(table->desc, cxt);
		row_writer_stream(writer, bucket_segment_emit, upload, bucket_repository_uuid(), bucket_segment_epoch(upload),
						  bucket_segment_number(upload));
		spill_write(table, writer, segment.first, segment.first + segment.nrows, true, SIZE_MAX, &next);
		row_writer_finish(writer, &batch);
		keep_description(&table->rows, &segment, &batch);
		segment.epoch = bucket_segment_epoch(upload);
		segment.number = bucket_segment_number(upload);
		/* waits while too much is on its way, and throws if an earlier upload failed */
		bucket_segment_room(upload);
		spill_note(segment.epoch, segment.number);
		bucket_segment_finish(upload, batch.segment);
		upload = NULL;
		ownrows_uploaded(&table->rows, &segment);
	}
	PG_CATCH();
	{
		if (upload)
			bucket_segment_discard(upload);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

void
spill(void)
{
	static bool busy = false;

	/* a type's own function (the comparison of a range's bounds) that inserts rows must not begin another one in the middle of this */
	if (busy)
		return;
	busy = true;
	PG_TRY();
	{
		bucket_poll();
		while (ownrows_total_memory > (Size) s3am_transaction_memory * 1024)
		{
			TxnTable *largest = NULL;
			ListCell *lc;

			foreach (lc, own_tables())
			{
				TxnTable *table = lfirst(lc);

				if (largest == NULL || table->rows.memory > largest->rows.memory)
					largest = table;
			}
			if (largest == NULL || largest->rows.memory == 0)
				break;
			spill_portion(largest);
		}
	}
	PG_FINALLY();
	{
		busy = false;
	}
	PG_END_TRY();
}
