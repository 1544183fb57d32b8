/*
 * spill.c: own rows that leave memory: into segments that are uploaded while the transaction runs.
 *
 * A portion of a table's oldest rows in memory becomes a segment, removed ones included, as a ROLLBACK TO may bring them back; the
 * record names those that stay removed.  It is written as memory fills, so that its pages are compressed by the thread of press.c while
 * rows come in; the rows stay in memory, where everybody finds them, until the object is complete and on its way.  So an error or
 * a ROLLBACK TO leaves all as it was: what was begun is given up.  An upload that failed is remembered until the transaction ends: it
 * can write and commit no more.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "index/index.h"
#include "node/bucket.h"
#include "node/node.h"
#include "s3am.h"
#include "segment/batch.h"
#include "txn/own.h"

typedef struct Uploaded
{
	uint64 epoch, number;
} Uploaded;

static Uploaded *uploaded; /* in TopMemoryContext while there are any */
static int nuploaded, uploaded_capacity;

/*
 * For rows in memory: what entries of removed ones do not need, which are never many at an INSERT or COPY, nor entries of indexes.  A quarter is the most
 * for each of these.
 */
static Size
rows_limit(void)
{
	Size all = (Size) s3am_transaction_memory * 1024;

	return all - Min(ownends_most_memory(), ownends_memory_limit()) - Min(own_index_most_memory(), all / 4);
}

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
		tuple = ownrows_simple(&table->rows, n);
		if (tuple && row_writer_add_formed(writer, tuple))
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

/* ------------------------------------------------------------------------------------ the segment that is written */

/* There is one at a time. */
static struct
{
	TxnTable *table; /* NULL: none */
	uint64 first, next; /* the rows that are in it */
	Size bytes; /* of memory that those take which were written ahead */
	Size begun_at; /* memory of all rows then */
	uint32 desc_version; /* of the table's row type by which it is written */
	MemoryContext cxt;
	RowWriter *writer;
	SegmentUpload *upload;
} ahead;

Size spill_due;

/* Its rows are in memory, all of them.  Never throws. */
static void
abandon(void)
{
	if (ahead.upload)
		bucket_segment_discard(ahead.upload);
	if (ahead.cxt)
		MemoryContextDelete(ahead.cxt);
	memset(&ahead, 0, sizeof(ahead));
}

/*
 * Begins one with the oldest row of the table in memory.  beforehand: more rows are to come before it is complete, and with them
 * perhaps changes of types; false if these were more than it can stand.
 */
static bool
begin(TxnTable *table, bool beforehand)
{
	Assert(ahead.table == NULL);
	ahead.cxt = AllocSetContextCreate(own_context(), "s3am upload", ALLOCSET_DEFAULT_SIZES);
	ahead.writer = row_writer_create(table->desc, ahead.cxt);
	if (beforehand && !row_writer_is_plain(ahead.writer))
	{
		abandon();
		return false;
	}
	ahead.table = table;
	ahead.first = ahead.next = table->rows.in_memory;
	ahead.begun_at = ownrows_total_memory;
	ahead.desc_version = table->desc_version;
	ahead.upload = bucket_segment_begin();
	row_writer_stream(ahead.writer, bucket_segment_emit, ahead.upload, bucket_repository_uuid(),
					  bucket_segment_epoch(ahead.upload), bucket_segment_number(ahead.upload));
	return true;
}

/* Rows up to this one become part of it, removed ones included. */
static void
feed(uint64 to, Size stop_at)
{
	MemoryContext old = MemoryContextSwitchTo(ahead.cxt);

	spill_write(ahead.table, ahead.writer, ahead.next, to, true, stop_at, &ahead.next);
	MemoryContextSwitchTo(old);
}

/* It is complete; its rows leave memory. */
static void
finish(void)
{
	OwnRows *rows = &ahead.table->rows;
	OwnSegment segment = {0};
	S3am__Batch batch = S3AM__BATCH__INIT;
	MemoryContext old = MemoryContextSwitchTo(ahead.cxt);

	segment.first = ahead.first;
	segment.nrows = segment.valid = ahead.next - ahead.first;
	row_writer_finish(ahead.writer, &batch);
	keep_description(rows, &segment, &batch);
	segment.epoch = bucket_segment_epoch(ahead.upload);
	segment.number = bucket_segment_number(ahead.upload);
	/* waits while too much is on its way, and throws if an earlier upload failed */
	bucket_segment_room(ahead.upload);
	spill_note(segment.epoch, segment.number);
	bucket_segment_finish(ahead.upload, batch.segment);
	ahead.upload = NULL;
	ownrows_uploaded(rows, &segment, rows_limit());
	MemoryContextSwitchTo(old);
	abandon();
}

/* Is the one that was begun of this table, and fit to go on with?  Another is given up. */
static bool
begun(TxnTable *table)
{
	own_refresh_desc(table);
	/* an object of an earlier epoch cannot be committed */
	if (ahead.table == table && ahead.desc_version == table->desc_version &&
		bucket_segment_epoch(ahead.upload) == pg_atomic_read_u64(&node_current()->epoch))
		return true;
	if (ahead.table)
		abandon();
	return false;
}

static TxnTable *
largest_table(void)
{
	TxnTable *largest = NULL;
	ListCell *lc;

	foreach (lc, own_tables())
	{
		TxnTable *table = lfirst(lc);

		if (largest == NULL || table->rows.memory > largest->rows.memory)
			largest = table;
	}
	/* what was begun is worth a little */
	if (largest && ahead.table && ahead.table->rows.memory >= largest->rows.memory / 2)
		return ahead.table;
	return largest;
}

/* The oldest portion of the table's rows in memory becomes a segment. */
static void
spill_portion(TxnTable *table)
{
	uint64 end;

	if (!begun(table))
		(void) begin(table, false);
	end = ownrows_portion(&table->rows, (Size) s3am_segment_size * 1024);
	if (end > ahead.next)
		feed(end, SIZE_MAX);
	finish();
}

/*
 * Writes as much of the next segment as memory is full.  It could be written when there is no room left, but then all its pages would have
 * to be compressed while no row comes in, and until then nothing would be.
 */
static void
write_ahead(Size limit)
{
	TxnTable *table = largest_table();
	Size portion = Min((Size) s3am_segment_size * 1024, limit);
	double full;

	if (table == NULL || table->desc == NULL)
		return;
	if (!begun(table))
	{
		if (table->not_ahead)
			return;
		if (!begin(table, true))
		{
			table->not_ahead = true;
			return;
		}
	}
	full = ownrows_total_memory < ahead.begun_at ? 0
												 : (double) (ownrows_total_memory - ahead.begun_at) /
													   (limit > ahead.begun_at ? limit - ahead.begun_at : 1);
	while (ahead.bytes < portion && ahead.bytes < portion * full)
	{
		uint64 end = ownrows_block_end(&table->rows, ahead.next, &ahead.bytes);

		if (end == ahead.next)
			break;
		feed(end, SIZE_MAX);
	}
}

void
spill(void)
{
	static bool busy = false;
	Size limit = rows_limit();

	/* a type's own function (the comparison of a range's bounds) that inserts rows must not begin another one in the middle of this */
	if (busy)
		return;
	busy = true;
	PG_TRY();
	{
		bucket_poll();
		while (ownrows_total_memory > limit)
		{
			TxnTable *largest = largest_table();

			if (largest == NULL || largest->rows.memory == 0)
				break;
			spill_portion(largest);
		}
		if (ownrows_total_memory > limit / 2)
			write_ahead(limit);
		busy = false;
	}
	PG_CATCH();
	{
		busy = false;
		abandon();
		PG_RE_THROW();
	}
	PG_END_TRY();
	spill_due = Max(ownrows_total_memory, limit / 2);
}

void
spill_forget(const TxnTable *table, uint64 n)
{
	if (ahead.table == table && n < ahead.next)
		abandon();
}

static bool
count_removed(void *arg, uint64 row, uint32 count, const OwnEnd *end)
{
	*(uint64 *) arg += count;
	return true;
}

void
spill_settle(TxnTable *table)
{
	uint64 removed = 0;

	if (ahead.table != table || !begun(table))
		return;
	/* rows that are gone already need not be stored at all */
	if (ahead.next > ahead.first)
		ownends_each(table->ends, OWN_BASE + ahead.first, OWN_BASE + table->rows.nrows - 1, count_removed, &removed);
	if (ahead.next == ahead.first || removed > 0)
	{
		abandon();
		return;
	}
	PG_TRY();
	{
		feed(table->rows.nrows, (Size) s3am_segment_size * 1024);
		finish();
	}
	PG_CATCH();
	{
		abandon();
		PG_RE_THROW();
	}
	PG_END_TRY();
}

void
spill_give_back(void)
{
#ifdef __GLIBC__
	if (nuploaded > 0)
		(void) malloc_trim(0);
#endif
}

void
spill_reset(bool keep_all)
{
	abandon();
	for (int i = 0; i < nuploaded && !keep_all; i++)
		bucket_segment_remove(uploaded[i].epoch, uploaded[i].number);
	nuploaded = 0;
	if (uploaded)
		pfree(uploaded);
	uploaded = NULL;
	uploaded_capacity = 0;
	bucket_segments_forget();
}
