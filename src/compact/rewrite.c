/*
 * rewrite.c: rows from batches into batches, as they are stored.
 *
 * Rows that are gone are counted, and written only when one that stays follows: so those at either end take no place, and if none
 * stays there is no new batch.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compact/compact.h"
#include "node/bucket.h"
#include "s3am.h"
#include "segment/batch.h"

#define INLINE_BYTES (64 * 1024) /* what is not larger stays in the manifest */

typedef struct Rewrite
{
	S3Node *node;
	const CompactJob *job;
	TableState *table;
	CompactResult *result;
	S3am__BatchSchema *schema; /* of all rows, without their xmin */
	bool xmins; /* the new batches have a column of them */
	bool to_segments;
	RowWriter *writer; /* NULL: no batch has been begun */
	SegmentUpload *upload;
	uint64 gone; /* in the batch being written */
	uint64 pending; /* gone since the last row that stays */
	const S3am__Batch *described; /* the last one with a schema */
	size_t capacity; /* of the edit's batches */
	CompactThrottle throttle;
} Rewrite;

/* What this process has uploaded and no manifest names yet. */
static uint64 *uploaded; /* epoch, number, ... */
static int nuploaded, uploaded_capacity;
static SegmentUpload *unfinished;

void
compact_note_upload(uint64 epoch, uint64 number)
{
	if (nuploaded + 2 > uploaded_capacity)
	{
		int capacity = uploaded_capacity ? uploaded_capacity * 2 : 64;

		uploaded = uploaded ? repalloc(uploaded, capacity * sizeof(uint64))
							: MemoryContextAlloc(TopMemoryContext, capacity * sizeof(uint64));
		uploaded_capacity = capacity;
	}
	uploaded[nuploaded++] = epoch;
	uploaded[nuploaded++] = number;
}

void
compact_keep(void)
{
	nuploaded = 0;
}

void
compact_discard(void)
{
	if (unfinished)
		bucket_segment_discard(unfinished);
	unfinished = NULL;
	for (int i = 0; i < nuploaded; i += 2)
		bucket_segment_remove(uploaded[i], uploaded[i + 1]);
	nuploaded = 0;
}

/* ------------------------------------------------------------------------------------ batches being written */

static void
begin_batch(Rewrite *r)
{
	r->writer = row_writer_create_stored(r->schema, r->xmins, CurrentMemoryContext);
	r->gone = 0;
	if (!r->to_segments)
		return;
	r->upload = unfinished = bucket_segment_begin();
	r->result->epoch = bucket_segment_epoch(r->upload);
	row_writer_stream(r->writer, bucket_segment_emit, r->upload, bucket_repository_uuid(),
					  bucket_segment_epoch(r->upload), bucket_segment_number(r->upload));
}

static void
end_batch(Rewrite *r)
{
	S3am__TableEdit *edit = &r->result->edit;
	S3am__Batch *batch;

	if (r->writer == NULL)
		return;
	batch = palloc(sizeof(*batch));
	s3am__batch__init(batch);
	row_writer_finish(r->writer, batch);
	row_writer_free(r->writer);
	r->writer = NULL;
	batch->gone = r->gone;
	if (r->to_segments)
	{
		pg_atomic_write_u32(&r->node->compaction.phase, COMPACT_UPLOAD);
		/* waits while much is on its way */
		bucket_segment_room(r->upload);
		compact_note_upload(bucket_segment_epoch(r->upload), bucket_segment_number(r->upload));
		bucket_segment_finish(r->upload, batch->segment);
		unfinished = NULL;
		r->upload = NULL;
		r->result->bytes += batch->segment->size;
		pg_atomic_write_u32(&r->node->compaction.phase, COMPACT_READ);
	}
	else
		r->result->bytes += batch->rows.len;
	if (edit->n_batches == r->capacity)
	{
		r->capacity = r->capacity ? r->capacity * 2 : 8;
		edit->batches = edit->batches ? repalloc(edit->batches, r->capacity * sizeof(void *))
									  : palloc(r->capacity * sizeof(void *));
	}
	edit->batches[edit->n_batches++] = batch;
	r->described = batch_share_schema(batch, r->described);
}

/* Makes room for a row that stays, number `row` of the table, behind the rows that are gone before it. */
static void
before_row(Rewrite *r, uint64 row)
{
	if (r->writer && row_writer_bytes(r->writer) >= (Size) s3am_segment_size * 1024)
		end_batch(r);
	if (r->writer == NULL)
	{
		begin_batch(r);
		if (r->result->edit.n_batches == 0)
		{
			r->result->edit.first_row = row;
			r->pending = 0;
		}
	}
	for (; r->pending > 0; r->pending--)
	{
		row_writer_add_gone(r->writer);
		r->gone++;
	}
}

/* ------------------------------------------------------------------------------------ batches being read */

void
compact_throttle(CompactThrottle *t, uint64 bytes)
{
	CHECK_FOR_INTERRUPTS();
	if (pg_atomic_read_u32(&t->node->detached) || pg_atomic_read_u32(&t->node->leaving))
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the database is being left")));
	t->read += bytes;
	while (s3am_compaction_rate > 0)
	{
		int64 due_ms = (int64) (t->read * 1000 / ((uint64) s3am_compaction_rate * 1024));
		int64 ahead = due_ms - TimestampDifferenceMilliseconds(t->start, GetCurrentTimestamp());

		if (ahead < 10)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(ahead, 1000), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static S3am__BatchSchema *
read_schema(S3Node *node, const BatchEntry *entry)
{
	const SchemaEntry *schema = dsa_get_address(node_dsa(node), entry->schema);
	S3am__BatchSchema *message = schema_unpack(&schema->schema);
	const char *wrong = message ? schema_check(message) : "the schema cannot be decoded";

	if (wrong)
		segment_damaged(segment_object(entry->epoch, entry->number), wrong);
	return message;
}

/* Has the row ended, for all who will see the new batches? */
static bool
is_over(Rewrite *r, uint64 row)
{
	RowEnd end;

	return state_row_ended(r->node, r->table, row, &end) && end.pos <= POS(r->job->base, POS_STEP_MAX);
}

static void
copy_batch(Rewrite *r, const BatchEntry *entry, const PackedSchema *rows)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am compacted batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	S3am__BatchSchema *schema = read_schema(r->node, entry);
	const RowMap *map = row_map_raw(schema, cxt);
	S3am__BatchSchema without = *schema;
	ReadAhead ahead = {0};
	BatchSource source;
	RowPage *page = NULL;
	uint64 ended = 0;

	schema_remove_xmin(&without);
	if (!schema_same(schema_pack(&without), rows))
		elog(ERROR, "batches of storage " UINT64_FORMAT " have different schemas", r->job->storage);
	state_batch_source(r->node, entry, &source);
	/* what is read once pushes nothing out of the cache */
	source.cache_owner = 0;
	MemoryContextSwitchTo(old);
	for (uint64 n = 0; n < entry->nrows; n++)
	{
		uint64 row = entry->first_row + n;
		bool over = is_over(r, row);

		/* pages without a row that stays need not be read */
		if (!over && (page == NULL || !row_page_holds(page, n)))
		{
			if (page)
				row_page_release(page);
			page = NULL;
			page = row_page_read(&source, n, &ahead, NULL);
			compact_throttle(&r->throttle, page->raw);
			pg_atomic_fetch_add_u64(&r->node->compaction.bytes_in, page->raw);
		}
		else if (n % 65536 == 0)
			compact_throttle(&r->throttle, 0);
		if (over || row_is_gone(page, n))
		{
			ended += over;
			r->pending++;
			continue;
		}
		before_row(r, row);
		row_writer_add_stored(r->writer, page, map, n, map->xmin >= 0 ? row_xmin(page, map, n) : entry->xmin);
	}
	if (page)
		row_page_release(page);
	read_ahead_release(&ahead);
	MemoryContextDelete(cxt);
	/* those that were gone before are not dropped now */
	r->result->dropped += ended - Min(entry->gone, ended);
}

/* Do all rows have one xmin?  Then no column is needed for it. */
static bool
one_xmin(S3Node *node, const CompactJob *job)
{
	for (uint32 i = 0; i < job->nbatches; i++)
	{
		const BatchEntry *entry = &job->batches[i];

		if (entry->xmin != job->batches[0].xmin)
			return false;
		if ((i == 0 || entry->schema != job->batches[i - 1].schema) && schema_has_xmin(read_schema(node, entry)))
			return false;
	}
	return true;
}

CompactResult *
compact_rewrite(S3Node *node, const CompactJob *job)
{
	CompactResult *result = palloc0(sizeof(CompactResult));
	Rewrite r = {node, job, state_table(node, job->storage), result};
	S3am__TableEdit *edit = &result->edit;
	const PackedSchema *rows;
	uint64 next = job->batches[0].first_row;

	s3am__table_edit__init(edit);
	edit->storage = job->storage;
	edit->drop_batches = palloc(sizeof(uint64) * job->nbatches);
	for (uint32 i = 0; i < job->nbatches; i++)
		edit->drop_batches[edit->n_drop_batches++] = job->batches[i].first_row;
	/* of an edit that has no batches */
	edit->first_row = next;
	result->one_xmin = one_xmin(node, job);
	result->xmin = job->batches[0].xmin;
	r.xmins = !result->one_xmin;
	r.schema = read_schema(node, &job->batches[0]);
	schema_remove_xmin(r.schema);
	rows = schema_pack(r.schema);
	r.to_segments = job->raw > INLINE_BYTES;
	r.throttle = (CompactThrottle){node, GetCurrentTimestamp()};
	for (uint32 i = 0; i < job->nbatches; i++)
	{
		const BatchEntry *entry = &job->batches[i];

		if (r.table->dropped)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("the table was dropped or rewritten")));
		/* numbers that have no batch any more */
		r.pending += entry->first_row - next;
		copy_batch(&r, entry, rows);
		next = entry->first_row + entry->nrows;
		pg_atomic_fetch_add_u64(&node->compaction.rows_done, entry->nrows);
		/* types are looked up in the catalogs; the snapshot for that holds up what waits for old ones to end */
		InvalidateCatalogSnapshot();
	}
	end_batch(&r);
	pg_atomic_write_u32(&node->compaction.phase, COMPACT_UPLOAD);
	bucket_segment_wait_all();
	return result;
}
