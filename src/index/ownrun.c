/*
 * ownrun.c: see ownrun.h.
 *
 * In a file entries are in blocks of about the size that a BufFile reads; one that is larger has a block of its own.  Where each block
 * begins is in memory, 16 bytes for some hundred entries, and so are the first entries of some blocks at equal distances, so that looking for
 * a place reads few blocks.
 */
#include "postgres.h"

#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"

#include "index/order.h"
#include "index/ownrun.h"
#include "txn/endfile.h"
#include "txn/own.h"
#include "txn/txn.h"

#define ARENA_BLOCK_MIN ((Size) 1024)
#define ARENA_BLOCK_MAX ((Size) 64 * 1024)
#define FILE_SEGMENT ((uint64) 1 << 30) /* of a BufFile, whose places are told as segment and offset */
#define SAMPLES_BYTES ((Size) 128 * 1024) /* of a file */

Size ownrun_memory;

/* ------------------------------------------------------------------------------------ memory */

OwnArena *
own_arena_create(void)
{
	MemoryContext cxt = AllocSetContextCreate(own_context(), "s3am index entries", ALLOCSET_SMALL_SIZES);
	OwnArena *arena = MemoryContextAllocZero(cxt, sizeof(OwnArena));

	arena->cxt = cxt;
	arena->refs = 1;
	return arena;
}

void
own_arena_release(OwnArena *arena)
{
	if (--arena->refs > 0)
		return;
	ownrun_memory -= arena->bytes;
	MemoryContextDelete(arena->cxt);
}

static void *
arena_alloc(OwnArena *arena, Size size)
{
	char *result;

	size = MAXALIGN(size);
	if (size > (Size) (arena->end - arena->next))
	{
		Size block = Min(Max(arena->bytes, ARENA_BLOCK_MIN), ARENA_BLOCK_MAX);

		if (size > block / 4)
		{
			result = MemoryContextAllocHuge(arena->cxt, size);
			arena->bytes += size;
			ownrun_memory += size;
			return result;
		}
		arena->next = MemoryContextAlloc(arena->cxt, block);
		arena->end = arena->next + block;
		arena->bytes += block;
		ownrun_memory += block;
	}
	result = arena->next;
	arena->next += size;
	return result;
}

OwnRun *
own_run_create(OwnArena *arena, uint64 capacity)
{
	OwnRun *run = MemoryContextAllocZero(own_context(), sizeof(OwnRun));

	run->refs = 1;
	run->limit = PG_UINT64_MAX;
	if (arena)
	{
		run->capacity = Max(capacity, 1);
		run->entries = MemoryContextAllocHuge(own_context(), sizeof(OwnEntry) * run->capacity);
		run->arena = arena;
		arena->refs++;
		ownrun_memory += sizeof(OwnEntry) * run->capacity;
	}
	return run;
}

static uint64
tuple_row(const IndexMeta *meta, HeapTuple tuple)
{
	bool isnull;

	return DatumGetInt64(heap_getattr(tuple, ENTRY_ROW + 1, meta->desc, &isnull));
}

/* All of an entry but its tuple, which is there, and its base. */
static void
fill_entry(OwnEntry *entry, const IndexMeta *meta)
{
	HeapTupleData tuple = own_entry_tuple(entry);
	bool isnull;

	entry->row = tuple_row(meta, &tuple);
	entry->key = heap_getattr(&tuple, ENTRY_KEY + 1, meta->desc, &isnull);
	entry->null = isnull;
}

void
own_entry_form(OwnEntry *entry, OwnArena *arena, const IndexMeta *meta, const Datum *values, const bool *nulls,
			   uint64 base)
{
	MinimalTuple tuple = heap_form_minimal_tuple(meta->desc, unconstify(Datum *, values), unconstify(bool *, nulls));

	entry->tuple = memcpy(arena_alloc(arena, tuple->t_len), tuple, tuple->t_len);
	pfree(tuple);
	entry->base = base;
	fill_entry(entry, meta);
}

int
own_entry_compare(const IndexMeta *meta, const OwnEntry *a, const OwnEntry *b)
{
	int result = order_keys(meta, 0, meta->order[0], a->key, a->null, b->key, b->null);

	if (result == 0 && meta->nkeys > 1)
	{
		HeapTupleData x = own_entry_tuple(a), y = own_entry_tuple(b);

		for (int i = 1; result == 0 && i < meta->nkeys; i++)
		{
			bool xnull, ynull;
			Datum xkey = heap_getattr(&x, ENTRY_KEY + i + 1, meta->desc, &xnull);
			Datum ykey = heap_getattr(&y, ENTRY_KEY + i + 1, meta->desc, &ynull);

			result = order_keys(meta, i, meta->order[i], xkey, xnull, ykey, ynull);
		}
	}
	if (result != 0)
		return result;
	return a->row < b->row ? -1 : a->row > b->row;
}

OwnRun *
own_run_merge(const IndexMeta *meta, OwnRun *a, OwnRun *b)
{
	OwnRun *merged = own_run_create(a->arena, a->n + b->n);
	uint64 i = 0, j = 0;
	/* most come in order */
	bool apart = a->n > 0 && b->n > 0 && own_entry_compare(meta, &a->entries[a->n - 1], &b->entries[0]) <= 0;

	Assert(a->arena == b->arena);
	while (i < a->n || j < b->n)
	{
		if (j == b->n || (i < a->n && (apart || own_entry_compare(meta, &a->entries[i], &b->entries[j]) <= 0)))
		{
			if (!own_entry_is_undone(a, &a->entries[i]))
				own_run_put(merged, &a->entries[i]);
			i++;
		}
		else
		{
			if (!own_entry_is_undone(b, &b->entries[j]))
				own_run_put(merged, &b->entries[j]);
			j++;
		}
	}
	return merged;
}

Size
own_run_living(const OwnRun *run, uint64 *n)
{
	Size bytes = 0;

	*n = 0;
	for (uint64 i = 0; i < run->n; i++)
		if (!own_entry_is_undone(run, &run->entries[i]))
		{
			bytes += MAXALIGN(run->entries[i].tuple->t_len);
			++*n;
		}
	return bytes;
}

bool
own_run_is_undone(const OwnRun *run)
{
	for (uint64 i = 0; i < run->n; i++)
		if (!own_entry_is_undone(run, &run->entries[i]))
			return false;
	return true;
}

OwnRun *
own_run_pack(const IndexMeta *meta, OwnRun **runs, int nruns)
{
	OwnArena *arena = own_arena_create();
	OwnRun *run;
	OwnMerge *merge;
	const OwnEntry *entry;
	uint64 total = 0;

	for (int i = 0; i < nruns; i++)
	{
		uint64 n;

		(void) own_run_living(runs[i], &n);
		total += n;
	}
	run = own_run_create(arena, total);
	own_arena_release(arena);
	merge = own_merge_begin(meta, runs, nruns);
	while ((entry = own_merge_next(merge)) != NULL)
	{
		OwnEntry copy = *entry;

		copy.tuple = memcpy(arena_alloc(arena, entry->tuple->t_len), entry->tuple, entry->tuple->t_len);
		fill_entry(&copy, meta);
		own_run_put(run, &copy);
	}
	own_merge_end(merge);
	return run;
}

/* ------------------------------------------------------------------------------------ files */

typedef struct BlockStart
{
	uint64 offset; /* in the file */
	uint64 first; /* number of its first entry */
} BlockStart;

struct OwnFile
{
	BufFile *file;
	MemoryContext cxt;
	BlockStart *blocks; /* one more than there are */
	uint64 nblocks, capacity;
	OwnEntry *samples; /* the first entries of every stride-th block */
	uint64 nsamples, stride, samples_capacity;
	Size samples_bytes;
};

/* What stands before each tuple. */
typedef struct FileEntry
{
	uint64 base;
} FileEntry;

static void
begin_block(OwnFile *file, uint64 offset, uint64 first)
{
	if (file->nblocks == file->capacity)
		file->blocks = repalloc_huge(file->blocks, (file->capacity *= 2) * sizeof(BlockStart));
	file->blocks[file->nblocks++] = (BlockStart){offset, first};
}

/* Every other one goes when they are too many. */
static void
add_sample(OwnFile *file, const OwnEntry *entry, const IndexMeta *meta)
{
	OwnEntry *sample;

	if (file->nsamples == file->samples_capacity)
	{
		file->samples_capacity = Max(file->samples_capacity * 2, 16);
		file->samples = file->samples ? repalloc(file->samples, sizeof(OwnEntry) * file->samples_capacity)
									  : palloc(sizeof(OwnEntry) * file->samples_capacity);
	}
	sample = &file->samples[file->nsamples];
	sample->base = entry->base;
	sample->tuple = heap_copy_minimal_tuple(entry->tuple);
	fill_entry(sample, meta);
	file->nsamples++;
	file->samples_bytes += sizeof(OwnEntry) + entry->tuple->t_len;
	while (file->samples_bytes > SAMPLES_BYTES && file->nsamples > 1)
	{
		uint64 kept = 0;

		for (uint64 i = 0; i < file->nsamples; i++)
			if (i % 2 == 0)
				file->samples[kept++] = file->samples[i];
			else
			{
				file->samples_bytes -= sizeof(OwnEntry) + file->samples[i].tuple->t_len;
				pfree(file->samples[i].tuple);
			}
		file->nsamples = kept;
		file->stride *= 2;
	}
}

static void
file_seek(OwnFile *file, uint64 offset)
{
	if (BufFileSeek(file->file, (int) (offset / FILE_SEGMENT), (off_t) (offset % FILE_SEGMENT), SEEK_SET) != 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not seek to byte " UINT64_FORMAT " of a temporary file", offset)));
}

static void
file_close(OwnFile *file)
{
	BufFileClose(file->file);
	MemoryContextDelete(file->cxt);
}

OwnRun *
own_run_file(const IndexMeta *meta, OwnRun **runs, int nruns, int level)
{
	MemoryContext cxt = AllocSetContextCreate(own_context(), "s3am index entries in a file", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	OwnRun *run = own_run_create(NULL, 0);
	OwnFile *file = palloc0(sizeof(OwnFile));
	OwnMerge *merge;
	const OwnEntry *entry;
	uint64 offset = 0;

	file->cxt = cxt;
	file->stride = 1;
	file->capacity = 64;
	file->blocks = palloc(sizeof(BlockStart) * file->capacity);
	file->file = endfiles_open();
	run->level = level;
	run->file = file;
	merge = own_merge_begin(meta, runs, nruns);
	while ((entry = own_merge_next(merge)) != NULL)
	{
		FileEntry head = {entry->base};
		Size size = MAXALIGN(entry->tuple->t_len);

		if (file->nblocks == 0 || offset + sizeof(head) + size - file->blocks[file->nblocks - 1].offset > BLCKSZ)
		{
			begin_block(file, offset, run->n);
			if ((file->nblocks - 1) % file->stride == 0)
				add_sample(file, entry, meta);
		}
		BufFileWrite(file->file, &head, sizeof(head));
		BufFileWrite(file->file, entry->tuple, entry->tuple->t_len);
		if (size > entry->tuple->t_len)
			BufFileWrite(file->file, (uint64[]){0}, size - entry->tuple->t_len);
		offset += sizeof(head) + size;
		if (ROW_IS_OWN(entry->row))
			run->highest = Max(run->highest, entry->row - OWN_BASE);
		run->n++;
	}
	own_merge_end(merge);
	/* so that nothing is left to be written when it is closed, where no error may be thrown */
	file_seek(file, 0);
	if (run->n == 0)
	{
		MemoryContextSwitchTo(old);
		own_run_release(run);
		return NULL;
	}
	begin_block(file, offset, run->n);
	file->nblocks--;
	MemoryContextSwitchTo(old);
	return run;
}

void
own_run_release(OwnRun *run)
{
	if (--run->refs > 0)
		return;
	if (run->arena)
	{
		own_arena_release(run->arena);
		ownrun_memory -= sizeof(OwnEntry) * run->capacity;
		pfree(run->entries);
	}
	if (run->file)
		file_close(run->file);
	pfree(run);
}

/* ------------------------------------------------------------------------------------ reading */

struct OwnReader
{
	OwnRun *run;
	const IndexMeta *meta;
	MemoryContext cxt;
	/* of a file: the block at hand */
	uint64 first, n;
	char *bytes;
	Size size;
	OwnEntry *entries;
	uint64 capacity;
	/* the sample that was asked for, and its number */
	const OwnEntry *sample;
	uint64 sample_at;
};

OwnReader *
own_reader(OwnRun *run, const IndexMeta *meta, MemoryContext cxt)
{
	OwnReader *reader = MemoryContextAllocZero(cxt, sizeof(OwnReader));

	reader->run = run;
	reader->meta = meta;
	reader->cxt = cxt;
	return reader;
}

uint64
own_reader_count(const OwnReader *reader)
{
	return reader->run->n;
}

static void
read_block(OwnReader *r, uint64 at)
{
	OwnFile *file = r->run->file;
	uint64 low = 0, high = file->nblocks;
	Size size;
	char *p;

	while (high - low > 1)
	{
		uint64 middle = low + (high - low) / 2;

		if (file->blocks[middle].first <= at)
			low = middle;
		else
			high = middle;
	}
	r->n = 0;
	size = file->blocks[low + 1].offset - file->blocks[low].offset;
	if (r->size < size)
	{
		if (r->bytes)
			pfree(r->bytes);
		r->size = 0;
		r->bytes = MemoryContextAllocHuge(r->cxt, Max(size, BLCKSZ));
		r->size = Max(size, BLCKSZ);
	}
	if (r->capacity < file->blocks[low + 1].first - file->blocks[low].first)
	{
		if (r->entries)
			pfree(r->entries);
		r->capacity = 0;
		r->entries =
			MemoryContextAlloc(r->cxt, sizeof(OwnEntry) * (file->blocks[low + 1].first - file->blocks[low].first));
		r->capacity = file->blocks[low + 1].first - file->blocks[low].first;
	}
	file_seek(file, file->blocks[low].offset);
	if (BufFileRead(file->file, r->bytes, size) != size)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not read " UINT64_FORMAT " bytes of a temporary file", (uint64) size)));
	r->first = file->blocks[low].first;
	p = r->bytes;
	for (uint64 i = 0; i < file->blocks[low + 1].first - r->first; i++)
	{
		OwnEntry *entry = &r->entries[i];

		entry->base = ((FileEntry *) p)->base;
		entry->tuple = (MinimalTuple) (p + sizeof(FileEntry));
		fill_entry(entry, r->meta);
		p += sizeof(FileEntry) + MAXALIGN(entry->tuple->t_len);
	}
	r->n = file->blocks[low + 1].first - r->first;
}

static const OwnEntry *
get_entry(OwnReader *r, uint64 at)
{
	if (r->run->file == NULL)
		return &r->run->entries[at];
	if (r->sample && r->sample_at == at)
		return r->sample;
	r->sample = NULL;
	if (at < r->first || at - r->first >= r->n)
		read_block(r, at);
	return &r->entries[at - r->first];
}

uint64
own_reader_samples(const OwnReader *r)
{
	return r->run->file ? r->run->file->nsamples : 0;
}

uint64
own_reader_sample(OwnReader *r, uint64 i)
{
	OwnFile *file = r->run->file;

	r->sample = &file->samples[i];
	return r->sample_at = file->blocks[i * file->stride].first;
}

bool
own_reader_row(OwnReader *r, uint64 at, uint64 *row)
{
	const OwnEntry *entry = get_entry(r, at);

	*row = entry->row;
	return !own_entry_is_undone(r->run, entry);
}

void
own_reader_deform(OwnReader *r, uint64 at, Datum *values, bool *nulls)
{
	HeapTupleData tuple = own_entry_tuple(get_entry(r, at));

	heap_deform_tuple(&tuple, r->meta->desc, values, nulls);
}

/* ------------------------------------------------------------------------------------ merging */

typedef struct Source
{
	OwnReader *reader;
	uint64 at;
	const OwnEntry *entry; /* the one at hand */
} Source;

struct OwnMerge
{
	const IndexMeta *meta;
	MemoryContext cxt;
	binaryheap *heap;
	bool begun;
	Source sources[FLEXIBLE_ARRAY_MEMBER];
};

/* binaryheap has the largest one first */
static int
compare_sources(Datum a, Datum b, void *arg)
{
	return own_entry_compare(arg, ((Source *) DatumGetPointer(b))->entry, ((Source *) DatumGetPointer(a))->entry);
}

/* The entry at the source's place or the next one that was not undone; false: there is none. */
static bool
settle(Source *source)
{
	OwnRun *run = source->reader->run;

	for (; source->at < run->n; source->at++)
	{
		source->entry = get_entry(source->reader, source->at);
		if (!own_entry_is_undone(run, source->entry))
			return true;
	}
	return false;
}

OwnMerge *
own_merge_begin(const IndexMeta *meta, OwnRun **runs, int nruns)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am index merge", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	OwnMerge *merge = palloc0(offsetof(OwnMerge, sources) + sizeof(Source) * nruns);

	merge->meta = meta;
	merge->cxt = cxt;
	merge->heap = binaryheap_allocate(Max(nruns, 1), compare_sources, unconstify(IndexMeta *, meta));
	for (int i = 0; i < nruns; i++)
	{
		Source *source = &merge->sources[i];

		source->reader = own_reader(runs[i], meta, cxt);
		if (settle(source))
			binaryheap_add_unordered(merge->heap, PointerGetDatum(source));
	}
	binaryheap_build(merge->heap);
	MemoryContextSwitchTo(old);
	return merge;
}

const OwnEntry *
own_merge_next(OwnMerge *merge)
{
	CHECK_FOR_INTERRUPTS();
	if (merge->begun && !binaryheap_empty(merge->heap))
	{
		Source *source = (Source *) DatumGetPointer(binaryheap_first(merge->heap));

		source->at++;
		if (settle(source))
			binaryheap_replace_first(merge->heap, PointerGetDatum(source));
		else
			(void) binaryheap_remove_first(merge->heap);
	}
	merge->begun = true;
	if (binaryheap_empty(merge->heap))
		return NULL;
	return ((Source *) DatumGetPointer(binaryheap_first(merge->heap)))->entry;
}

void
own_merge_end(OwnMerge *merge)
{
	MemoryContextDelete(merge->cxt);
}
