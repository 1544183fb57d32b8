/*
 * run.c: sorted entries as runs: batches of the index's storage, each a B-tree that never changes.
 *
 * Entries come first, page after page; behind them the inner pages, level by level.  A row of an inner page is the first entry of the
 * page that it stands for, but for its row id, which is the number of that page's first row.  The last level is one page; what has one page
 * of entries has none.  A run that is larger than a segment is several of them, one behind the other.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "index/index.h"
#include "index/keyhash.h"
#include "node/bucket.h"
#include "s3am.h"
#include "txn/own.h"

typedef struct Level
{
	MinimalTuple *rows;
	uint64 *children; /* number of each one's first row */
	uint32 n, capacity;
	MemoryContext cxt;
} Level;

struct RunWriter
{
	MemoryContext cxt, result; /* result: of the batches */
	TupleDesc desc;
	const IndexMeta *order; /* whose versions of collations the runs say */
	bool stream;
	RowWriter *writer; /* of the run in progress */
	SegmentUpload *upload;
	Level pages; /* of the entries so far */
	/* the hashes of their keys, each once where equal ones follow each other */
	IndexMeta *meta; /* NULL: no filter is wanted */
	uint64 *hashes, nhashes, hashes_capacity;
	bool too_many; /* for memory: this one gets no filter */
	void (*note)(uint64 epoch, uint64 number); /* of what was uploaded */
	S3am__Batch **batches;
	int nbatches, capacity;
	Datum *values;
	bool *nulls;
};

RunWriter *
run_begin(const IndexMeta *meta, bool stream)
{
	TupleDesc desc = meta->desc;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am run writer", ALLOCSET_DEFAULT_SIZES);
	RunWriter *w = MemoryContextAllocZero(cxt, sizeof(RunWriter));

	w->cxt = cxt;
	w->result = CurrentMemoryContext;
	w->desc = desc;
	w->order = meta;
	w->stream = stream;
	w->note = spill_note;
	w->values = MemoryContextAlloc(cxt, sizeof(Datum) * desc->natts);
	w->nulls = MemoryContextAlloc(cxt, sizeof(bool) * desc->natts);
	return w;
}

static void
begin_level(RunWriter *w, Level *level)
{
	memset(level, 0, sizeof(*level));
	level->cxt = AllocSetContextCreate(w->cxt, "s3am inner pages", ALLOCSET_DEFAULT_SIZES);
}

static void
add_child(Level *level, TupleDesc desc, const Datum *values, const bool *nulls, uint64 child)
{
	MemoryContext old = MemoryContextSwitchTo(level->cxt);

	if (level->n == level->capacity)
	{
		level->capacity = level->capacity ? level->capacity * 2 : 16;
		level->rows = level->rows ? repalloc_huge(level->rows, sizeof(MinimalTuple) * level->capacity)
								  : palloc(sizeof(MinimalTuple) * level->capacity);
		level->children = level->children ? repalloc_huge(level->children, sizeof(uint64) * level->capacity)
										  : palloc(sizeof(uint64) * level->capacity);
	}
	level->rows[level->n] = heap_form_minimal_tuple(desc, unconstify(Datum *, values), unconstify(bool *, nulls));
	level->children[level->n++] = child;
	MemoryContextSwitchTo(old);
}

static void
begin_run(RunWriter *w)
{
	MemoryContext old = MemoryContextSwitchTo(w->cxt);

	begin_level(w, &w->pages);
	w->writer = row_writer_create(w->desc, w->cxt);
	if (w->stream)
	{
		w->upload = bucket_segment_begin();
		row_writer_stream(w->writer, bucket_segment_emit, w->upload, bucket_repository_uuid(),
						  bucket_segment_epoch(w->upload), bucket_segment_number(w->upload));
	}
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------------------ filters */

#define HASHES_FEW 1024

void
run_with_filter(RunWriter *w, IndexMeta *meta)
{
	if (w->stream && meta_has_hashes(meta))
		w->meta = meta;
}

static void
note_key(RunWriter *w, const Datum *values, const bool *nulls)
{
	uint64 hash;

	if (w->too_many)
		return;
	hash = key_hash_filter(w->meta->hasher, values + ENTRY_KEY, nulls + ENTRY_KEY);
	if (w->nhashes > 0 && w->hashes[w->nhashes - 1] == hash)
		return;
	if (w->nhashes == w->hashes_capacity)
	{
		uint64 capacity = w->hashes_capacity ? w->hashes_capacity * 2 : HASHES_FEW;

		/* 20,000 keys at least; segments of the usual size have 2 million at most, which take 16 MB */
		if (capacity * sizeof(uint64) > (Size) Max(maintenance_work_mem, 1024) * 1024)
		{
			w->too_many = true;
			return;
		}
		w->hashes = w->hashes ? repalloc_huge(w->hashes, sizeof(uint64) * capacity)
							  : MemoryContextAlloc(w->cxt, sizeof(uint64) * capacity);
		w->hashes_capacity = capacity;
	}
	w->hashes[w->nhashes++] = hash;
}

static void
write_filter(RunWriter *w)
{
	Size nkinds;
	uint8 *kinds;

	if (w->meta == NULL)
		return;
	if (!w->too_many && w->nhashes > 0)
	{
		kinds = key_hasher_kinds(w->meta->hasher, &nkinds);
		filter_write(w->writer, w->hashes, w->nhashes, kinds, nkinds);
		pfree(kinds);
	}
	w->nhashes = 0;
	w->too_many = false;
}

/* ------------------------------------------------------------------------------------ batches */

/* The inner pages behind the entries. */
static void
write_levels(RunWriter *w)
{
	Level level = w->pages;

	while (level.n > 1)
	{
		Level above;

		begin_level(w, &above);
		row_writer_end_page(w->writer);
		for (uint32 i = 0; i < level.n; i++)
		{
			HeapTupleData tuple;
			uint64 n;

			tuple.t_len = level.rows[i]->t_len + MINIMAL_TUPLE_OFFSET;
			tuple.t_data = (HeapTupleHeader) ((char *) level.rows[i] - MINIMAL_TUPLE_OFFSET);
			heap_deform_tuple(&tuple, w->desc, w->values, w->nulls);
			w->values[ENTRY_ROW] = Int64GetDatum(level.children[i]);
			n = row_writer_add(w->writer, w->values, w->nulls);
			if (row_writer_page_rows(w->writer) == 1)
				add_child(&above, w->desc, w->values, w->nulls, n);
		}
		MemoryContextDelete(level.cxt);
		level = above;
	}
	MemoryContextDelete(level.cxt);
}

/* The batch says by which versions of collations it is ordered. */
static void
put_versions(const IndexMeta *meta, S3am__BatchSchema *schema)
{
	for (size_t i = 0; i < schema->n_columns; i++)
	{
		int key = (int) schema->columns[i]->id - 1 - ENTRY_KEY;

		if (key >= 0 && key < meta->nkeys && meta->versions[key])
			schema->columns[i]->collation_version = pstrdup(meta->versions[key]);
	}
}

static void
end_run(RunWriter *w)
{
	MemoryContext old = MemoryContextSwitchTo(w->result);
	S3am__Batch *batch = palloc(sizeof(*batch));
	uint64 entries = row_writer_count(w->writer);

	s3am__batch__init(batch);
	write_levels(w);
	write_filter(w);
	row_writer_finish(w->writer, batch);
	row_writer_free(w->writer);
	w->writer = NULL;
	put_versions(w->order, batch->schema);
	batch->inner = batch->nrows - entries;
	batch->nrows = entries;
	batch->continues = w->nbatches > 0;
	if (w->upload)
	{
		SegmentUpload *upload = w->upload;

		bucket_segment_room(upload);
		w->note(bucket_segment_epoch(upload), bucket_segment_number(upload));
		w->upload = NULL;
		bucket_segment_finish(upload, batch->segment);
	}
	if (w->nbatches == w->capacity)
	{
		w->capacity = w->capacity ? w->capacity * 2 : 4;
		w->batches =
			w->batches ? repalloc(w->batches, sizeof(void *) * w->capacity) : palloc(sizeof(void *) * w->capacity);
	}
	w->batches[w->nbatches++] = batch;
	MemoryContextSwitchTo(old);
}

/* For an entry: in the run in progress, or in the next one. */
static void
make_room(RunWriter *w)
{
	if (w->stream && w->writer && row_writer_bytes(w->writer) >= (Size) s3am_segment_size * 1024)
		end_run(w);
	if (w->writer == NULL)
		begin_run(w);
}

void
run_add(RunWriter *w, const Datum *values, const bool *nulls)
{
	uint64 n;

	make_room(w);
	if (w->meta)
		note_key(w, values, nulls);
	n = row_writer_add(w->writer, values, nulls);
	if (row_writer_page_rows(w->writer) == 1)
		add_child(&w->pages, w->desc, values, nulls, n);
}

void
run_add_slot(RunWriter *w, TupleTableSlot *slot)
{
	if (!TTS_IS_MINIMALTUPLE(slot))
	{
		slot_getallattrs(slot);
		run_add(w, slot->tts_values, slot->tts_isnull);
		return;
	}
	make_room(w);
	if (w->meta)
	{
		slot_getsomeattrs(slot, ENTRY_KEY + w->meta->nkeys);
		note_key(w, slot->tts_values, slot->tts_isnull);
	}
	if (!row_writer_add_formed(w->writer, ((MinimalTupleTableSlot *) slot)->mintuple))
	{
		slot_getallattrs(slot);
		(void) row_writer_add(w->writer, slot->tts_values, slot->tts_isnull);
	}
	if (row_writer_page_rows(w->writer) == 1)
	{
		slot_getallattrs(slot);
		add_child(&w->pages, w->desc, slot->tts_values, slot->tts_isnull, row_writer_count(w->writer) - 1);
	}
}

int
run_finish(RunWriter *w, S3am__Batch ***batches)
{
	int n;

	if (w->writer)
		end_run(w);
	*batches = w->batches;
	n = w->nbatches;
	MemoryContextDelete(w->cxt);
	return n;
}

void
run_discard(RunWriter *w)
{
	if (w->upload)
		bucket_segment_discard(w->upload);
	MemoryContextDelete(w->cxt);
}

void
run_note_uploads(RunWriter *w, void (*note)(uint64 epoch, uint64 number))
{
	w->note = note;
}
