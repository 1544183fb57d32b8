/*
 * ownends.c: see ownends.h.
 *
 * In memory they are a hash table of chunks of 4096 row ids; a chunk is an array of runs, sorted by row.  Once those of all tables
 * exceed a quarter of s3am.transaction_memory, the largest table's go to a temporary file, sorted (endfile.c).  Files of one size
 * become one of the next, so there are few.  A bitmap says which rows' entries are in files: most rows that are asked for have none,
 * and are answered without reading.  (It takes nothing where all neighbours have one, as the rows of a large UPDATE have in the end.)  It also decides which entries of the files still mean something: one that was removed is only
 * taken from the bitmap, and a row may have another one later, in memory or in a newer file.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "manifest/memory.h"
#include "manifest/rowset.h"
#include "refusal.h"
#include "s3am.h"
#include "txn/endfile.h"
#include "txn/ownends.h"

#define CHUNK_ROWS 4096
#define RUN_KEY 0x8000
#define FILES_PER_LEVEL 4

/* 14 bytes, in halfwords so that none is lost to alignment. */
typedef struct Run
{
	uint16 offset; /* of the first row, in the chunk */
	uint16 count_key; /* rows, and RUN_KEY */
	uint16 cmax[2];
	uint16 next[3];
} Run;

StaticAssertDecl(sizeof(Run) == 14, "a run is packed");

typedef struct Chunk
{
	uint64 number; /* hash key: row / CHUNK_ROWS */
	char status; /* for simplehash */
	uint16 n, capacity;
	Run *runs;
} Chunk;

#define SH_PREFIX chunks
#define SH_ELEMENT_TYPE Chunk
#define SH_KEY_TYPE uint64
#define SH_KEY number
#define SH_HASH_KEY(tb, key) ((uint32) (((key) *UINT64CONST(0x9E3779B97F4A7C15)) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct OwnEnds
{
	MemoryContext cxt;
	MemoryContext chunks_cxt; /* emptied when the chunks go to a file */
	chunks_hash *chunks;
	Chunk *last; /* looked up last; forgotten whenever the table may move */
	Size memory; /* of the chunks */
	uint64 count; /* of rows, wherever their entries are */
	RowSet *filed; /* rows whose entry is in a file; NULL: none ever was */
	bool stale; /* files may have entries that are not in `filed` */
	EndFile **files; /* the newest last */
	int *levels; /* how often each was merged; descending */
	int nfiles, files_capacity;
	struct OwnEnds *next; /* in `all` */
	MemoryContextCallback callback;
};

static OwnEnds *all;
static Size total_memory;
static Size most_memory; /* that it was before some left memory */

static inline uint32
run_count(const Run *run)
{
	return run->count_key & ~RUN_KEY;
}

static inline CommandId
run_cmax(const Run *run)
{
	return (CommandId) run->cmax[1] << 16 | run->cmax[0];
}

static inline uint64
run_next(const Run *run)
{
	return (uint64) run->next[2] << 32 | (uint64) run->next[1] << 16 | run->next[0];
}

static inline void
set_next(Run *run, uint64 next)
{
	run->next[0] = (uint16) next;
	run->next[1] = (uint16) (next >> 16);
	run->next[2] = (uint16) (next >> 32);
}

/* The successor of the row `i` after the one whose successor is `next`. */
static inline uint64
next_after(uint64 next, uint32 i)
{
	return NEXT_IS_ROW(next) ? next + i : next;
}

/* Its context goes, with the transaction at the latest. */
static void
forget(void *arg)
{
	OwnEnds *ends = arg;
	OwnEnds **link = &all;

	while (*link != ends)
		link = &(*link)->next;
	*link = ends->next;
	most_memory = all ? Max(most_memory, total_memory) : 0;
	total_memory -= ends->memory;
	rowset_free(ends->filed);
}

Size
ownends_most_memory(void)
{
	return Max(most_memory, total_memory);
}

OwnEnds *
ownends_create(MemoryContext parent)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "s3am removed rows", ALLOCSET_SMALL_SIZES);
	OwnEnds *ends = MemoryContextAllocZero(cxt, sizeof(OwnEnds));

	ends->cxt = cxt;
	ends->chunks_cxt = AllocSetContextCreate(cxt, "s3am removed rows in memory", ALLOCSET_START_SMALL_SIZES);
	ends->chunks = chunks_create(ends->chunks_cxt, 16, NULL);
	ends->next = all;
	all = ends;
	ends->callback.func = forget;
	ends->callback.arg = ends;
	MemoryContextRegisterResetCallback(cxt, &ends->callback);
	return ends;
}

void
ownends_free(OwnEnds *ends)
{
	if (ends == NULL)
		return;
	for (int i = 0; i < ends->nfiles; i++)
		endfile_close(ends->files[i]);
	MemoryContextDelete(ends->cxt);
}

uint64
ownends_count(const OwnEnds *ends)
{
	return ends ? ends->count : 0;
}

static Chunk *
find_chunk(OwnEnds *ends, uint64 number)
{
	if (ends->last == NULL || ends->last->number != number)
		ends->last = chunks_lookup(ends->chunks, number);
	return ends->last;
}

/* The first run that ends after `offset`. */
static uint16
find_run(const Chunk *chunk, uint16 offset)
{
	uint16 low = 0, high = chunk->n;

	while (low < high)
	{
		uint16 mid = low + (high - low) / 2;

		if (chunk->runs[mid].offset + run_count(&chunk->runs[mid]) <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void
fill_end(const Run *run, uint32 skip, OwnEnd *end)
{
	end->cmax = run_cmax(run);
	end->key = (run->count_key & RUN_KEY) != 0;
	end->next = next_after(run_next(run), skip);
}

static bool
get_filed(OwnEnds *ends, uint64 row, OwnEnd *end)
{
	EndRun run;

	for (int i = ends->nfiles - 1; i >= 0; i--)
		if (endfile_get(ends->files[i], row, &run))
		{
			end->cmax = run.cmax;
			end->key = run.key;
			end->next = next_after(run.next, row - run.row);
			return true;
		}
	elog(ERROR, "the entry of a removed row is in none of its files");
}

bool
ownends_get(OwnEnds *ends, uint64 row, OwnEnd *end)
{
	Chunk *chunk;
	uint16 offset = row % CHUNK_ROWS;
	uint16 i;

	if (ends == NULL || ends->count == 0)
		return false;
	if ((chunk = find_chunk(ends, row / CHUNK_ROWS)) != NULL && (i = find_run(chunk, offset)) < chunk->n &&
		chunk->runs[i].offset <= offset)
	{
		fill_end(&chunk->runs[i], offset - chunk->runs[i].offset, end);
		return true;
	}
	return ends->filed && rowset_contains(ends->filed, row) && get_filed(ends, row, end);
}

/* Makes room for one more run at i. */
static Run *
open_gap(OwnEnds *ends, Chunk *chunk, uint16 i)
{
	if (chunk->n == chunk->capacity)
	{
		/* slowly once it is large: most chunks that are full of single rows stay so */
		uint16 capacity = chunk->capacity < 4     ? 4
						  : chunk->capacity < 512 ? chunk->capacity * 2
												  : Min(chunk->capacity + chunk->capacity / 4, CHUNK_ROWS);

		chunk->runs = chunk->runs ? repalloc(chunk->runs, capacity * sizeof(Run))
								  : MemoryContextAlloc(ends->chunks_cxt, capacity * sizeof(Run));
		ends->memory += (capacity - chunk->capacity) * sizeof(Run);
		total_memory += (capacity - chunk->capacity) * sizeof(Run);
		chunk->capacity = capacity;
	}
	memmove(&chunk->runs[i + 1], &chunk->runs[i], (chunk->n - i) * sizeof(Run));
	chunk->n++;
	return &chunk->runs[i];
}

/* ------------------------------------------------------------------------------------ in ascending order */

static int
compare_numbers(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a, y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* Numbers of the chunks with any run, from one to another; palloc'ed. */
static uint64 *
sorted_chunks(OwnEnds *ends, uint64 first, uint64 last, uint64 *n)
{
	uint64 *numbers =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint64) * Max((uint64) ends->chunks->members, 1));
	chunks_iterator it;
	Chunk *chunk;

	*n = 0;
	chunks_start_iterate(ends->chunks, &it);
	while ((chunk = chunks_iterate(ends->chunks, &it)) != NULL)
		if (chunk->n > 0 && chunk->number >= first && chunk->number <= last)
			numbers[(*n)++] = chunk->number;
	qsort(numbers, *n, sizeof(uint64), compare_numbers);
	return numbers;
}

/* Where entries come from, in ascending order: a file, or memory. */
typedef struct Source
{
	EndCursor *cursor; /* NULL: memory */
	uint64 *numbers; /* its chunks */
	uint64 n, c; /* of them, and the current one */
	uint16 i; /* run of the next entry */
	EndRun run; /* what is left of the current entry */
	bool done;
} Source;

typedef struct Merge
{
	OwnEnds *ends;
	int nsources;
	Source sources[FLEXIBLE_ARRAY_MEMBER]; /* what is newer comes later */
} Merge;

static void
source_next(OwnEnds *ends, Source *source)
{
	if (source->cursor)
	{
		source->done = !endfile_next(source->cursor, &source->run);
		return;
	}
	while (source->c < source->n)
	{
		Chunk *chunk = find_chunk(ends, source->numbers[source->c]);

		if (source->i < chunk->n)
		{
			Run *run = &chunk->runs[source->i++];

			source->run.row = chunk->number * CHUNK_ROWS + run->offset;
			source->run.count = run_count(run);
			source->run.key = (run->count_key & RUN_KEY) != 0;
			source->run.cmax = run_cmax(run);
			source->run.next = run_next(run);
			return;
		}
		source->c++;
		source->i = 0;
	}
	source->done = true;
}

/* Forgets what comes before `row`. */
static void
source_skip(OwnEnds *ends, Source *source, uint64 row)
{
	while (!source->done && source->run.row < row)
	{
		uint64 skip = row - source->run.row;

		if (skip >= source->run.count)
		{
			source_next(ends, source);
			continue;
		}
		source->run.next = next_after(source->run.next, skip);
		source->run.row = row;
		source->run.count -= skip;
	}
}

/* Of files from one on, and memory if asked for; rows from `first` on. */
static Merge *
merge_begin(OwnEnds *ends, int from, bool memory, uint64 first, uint64 last)
{
	Merge *merge = palloc0(offsetof(Merge, sources) + sizeof(Source) * (ends->nfiles - from + 1));

	merge->ends = ends;
	for (int i = from; i < ends->nfiles; i++)
		merge->sources[merge->nsources++].cursor = endfile_seek(ends->files[i], first);
	if (memory)
	{
		Source *source = &merge->sources[merge->nsources++];

		source->numbers = sorted_chunks(ends, first / CHUNK_ROWS, last / CHUNK_ROWS, &source->n);
	}
	for (int i = 0; i < merge->nsources; i++)
	{
		source_next(ends, &merge->sources[i]);
		source_skip(ends, &merge->sources[i], first);
	}
	return merge;
}

/* The next rows with entries of one source, as many as no newer source has anything to say of. */
static bool
merge_next(Merge *merge, EndRun *run, bool *filed)
{
	Source *chosen = NULL;
	uint64 stop;

	/* of several sources that begin with the same row the newest one, which comes last, is right */
	for (int i = 0; i < merge->nsources; i++)
		if (!merge->sources[i].done && (chosen == NULL || merge->sources[i].run.row <= chosen->run.row))
			chosen = &merge->sources[i];
	if (chosen == NULL)
		return false;
	*run = chosen->run;
	*filed = chosen->cursor != NULL;
	stop = run->row + run->count;
	for (Source *newer = chosen + 1; newer < merge->sources + merge->nsources; newer++)
		if (!newer->done)
			stop = Min(stop, newer->run.row);
	run->count = stop - run->row;
	for (int i = 0; i < merge->nsources; i++)
		source_skip(merge->ends, &merge->sources[i], stop);
	return true;
}

static void
merge_end(Merge *merge)
{
	for (int i = 0; i < merge->nsources; i++)
	{
		if (merge->sources[i].cursor)
			endfile_end(merge->sources[i].cursor);
		else
			pfree(merge->sources[i].numbers);
	}
	pfree(merge);
}

/* The entries of `run`, which was read from a file, that still mean something: cuts the first of them off. */
static bool
take_valid(OwnEnds *ends, EndRun *run, EndRun *valid)
{
	uint32 skip = 0, count = 0;

	while (skip < run->count && !rowset_contains(ends->filed, run->row + skip))
		skip++;
	while (skip + count < run->count && rowset_contains(ends->filed, run->row + skip + count))
		count++;
	*valid = *run;
	valid->row += skip;
	valid->next = next_after(run->next, skip);
	valid->count = count;
	run->row += skip + count;
	run->next = next_after(run->next, skip + count);
	run->count -= skip + count;
	return count > 0;
}

void
ownends_each(OwnEnds *ends, uint64 first, uint64 last, OwnEndsEach each, void *arg)
{
	Merge *merge;
	EndRun run, part;
	bool filed, more = true;

	if (ownends_count(ends) == 0)
		return;
	merge = merge_begin(ends, 0, true, first, last);
	while (more && merge_next(merge, &run, &filed) && run.row <= last)
	{
		CHECK_FOR_INTERRUPTS();
		run.count = Min(run.count, last - run.row + 1);
		part = run;
		while (more && (!(filed && ends->stale) || take_valid(ends, &run, &part)))
		{
			OwnEnd end = {part.cmax, part.key, part.next};

			more = each(arg, part.row, part.count, &end);
			if (!(filed && ends->stale))
				break;
		}
	}
	merge_end(merge);
}

/* ------------------------------------------------------------------------------------ leaving memory */

/* The newest files become one. */
static void
merge_files(OwnEnds *ends)
{
	int from = ends->nfiles - FILES_PER_LEVEL;
	EndFile *old[FILES_PER_LEVEL];
	Merge *merge = merge_begin(ends, from, false, 0, PG_UINT64_MAX);
	EndFile *file = endfile_create(ends->cxt);
	EndRun run, part;
	bool filed;

	while (merge_next(merge, &run, &filed))
	{
		CHECK_FOR_INTERRUPTS();
		if (!ends->stale)
			endfile_append(file, &run);
		else
			while (take_valid(ends, &run, &part))
				endfile_append(file, &part);
	}
	endfile_finish(file);
	merge_end(merge);
	memcpy(old, &ends->files[from], sizeof(old));
	ends->files[from] = file;
	ends->levels[from]++;
	ends->nfiles = from + 1;
	for (int i = 0; i < FILES_PER_LEVEL; i++)
		endfile_close(old[i]);
}

/* What is in memory becomes a file.  Until that is complete nothing is changed, so an error leaves all as it was. */
static void
leave_memory(OwnEnds *ends)
{
	EndFile *file;
	MemoryHandler before;
	uint64 *numbers;
	uint64 n, start = 0, stop = 0;

	if (ends->filed == NULL)
		ends->filed = rowset_create();
	if (ends->nfiles == ends->files_capacity)
	{
		int capacity = ends->files_capacity ? ends->files_capacity * 2 : 8;

		ends->files = ends->files ? repalloc(ends->files, capacity * sizeof(EndFile *))
								  : MemoryContextAlloc(ends->cxt, capacity * sizeof(EndFile *));
		ends->levels = ends->levels ? repalloc(ends->levels, capacity * sizeof(int))
									: MemoryContextAlloc(ends->cxt, capacity * sizeof(int));
		ends->files_capacity = capacity;
	}
	file = endfile_create(ends->cxt);
	numbers = sorted_chunks(ends, 0, PG_UINT64_MAX, &n);
	for (uint64 c = 0; c < n; c++)
	{
		Chunk *chunk = find_chunk(ends, numbers[c]);

		CHECK_FOR_INTERRUPTS();
		for (uint16 i = 0; i < chunk->n; i++)
		{
			Run *run = &chunk->runs[i];
			EndRun entry = {chunk->number * CHUNK_ROWS + run->offset, run_next(run), run_cmax(run), run_count(run),
							(run->count_key & RUN_KEY) != 0};

			endfile_append(file, &entry);
		}
	}
	endfile_finish(file);
	/* an error in the middle would leave rows filed that no file has */
	before = memory_on_refusal(refusal_leaves);
	for (uint64 c = 0; c < n; c++)
	{
		Chunk *chunk = find_chunk(ends, numbers[c]);

		for (uint16 i = 0; i < chunk->n; i++)
		{
			uint64 first = chunk->number * CHUNK_ROWS + chunk->runs[i].offset;

			/* neighbours at once, wherever each of them went */
			if (first != stop)
			{
				rowset_add_range(ends->filed, start, stop);
				start = first;
			}
			stop = first + run_count(&chunk->runs[i]);
		}
	}
	rowset_add_range(ends->filed, start, stop);
	(void) memory_on_refusal(before);
	pfree(numbers);
	ends->files[ends->nfiles] = file;
	ends->levels[ends->nfiles++] = 0;
	most_memory = Max(most_memory, total_memory);
	total_memory -= ends->memory;
	ends->memory = 0;
	ends->last = NULL;
	MemoryContextReset(ends->chunks_cxt);
	ends->chunks = chunks_create(ends->chunks_cxt, 16, NULL);
}

/* Room for one more entry. */
static void
keep_bounded(void)
{
	OwnEnds *largest = all;

	Assert(largest != NULL); /* there is no memory in use without one */
	for (OwnEnds *ends = all; ends; ends = ends->next)
		if (ends->memory > largest->memory)
			largest = ends;
	leave_memory(largest);
	while (largest->nfiles >= FILES_PER_LEVEL &&
		   largest->levels[largest->nfiles - FILES_PER_LEVEL] == largest->levels[largest->nfiles - 1])
		merge_files(largest);
}

/* ------------------------------------------------------------------------------------ changes */

void
ownends_add(OwnEnds *ends, uint64 row, const OwnEnd *end)
{
	uint64 number = row / CHUNK_ROWS;
	uint16 offset = row % CHUNK_ROWS;
	Chunk *chunk;
	uint16 i;
	Run *run;

	if (total_memory > ownends_memory_limit())
		keep_bounded();
	if ((chunk = find_chunk(ends, number)) == NULL)
	{
		bool found;

		ends->last = NULL;
		chunk = chunks_insert(ends->chunks, number, &found);
		chunk->n = chunk->capacity = 0;
		chunk->runs = NULL;
		ends->last = chunk;
		/* a hash table is half full */
		ends->memory += 2 * sizeof(Chunk);
		total_memory += 2 * sizeof(Chunk);
		i = 0;
	}
	else
		i = find_run(chunk, offset);
	Assert(i == chunk->n || chunk->runs[i].offset > offset);
	if (i > 0)
	{
		Run *before = &chunk->runs[i - 1];
		uint32 n = run_count(before);

		if (before->offset + n == offset && run_cmax(before) == end->cmax &&
			((before->count_key & RUN_KEY) != 0) == end->key && next_after(run_next(before), n) == end->next)
		{
			before->count_key++;
			ends->count++;
			return;
		}
	}
	run = open_gap(ends, chunk, i);
	run->offset = offset;
	run->count_key = 1 | (end->key ? RUN_KEY : 0);
	run->cmax[0] = (uint16) end->cmax;
	run->cmax[1] = (uint16) (end->cmax >> 16);
	set_next(run, end->next);
	ends->count++;
}

/* Of one chunk: offsets from..to, `to` excluded. */
static void
remove_from_chunk(OwnEnds *ends, Chunk *chunk, uint32 from, uint32 to)
{
	uint16 i = find_run(chunk, from);

	while (i < chunk->n && chunk->runs[i].offset < to)
	{
		Run *run = &chunk->runs[i];
		uint32 start = run->offset, stop = start + run_count(run);
		uint32 head = start < from ? from - start : 0;
		uint32 tail = stop > to ? stop - to : 0;

		ends->count -= (stop - start) - head - tail;
		if (head > 0 && tail > 0)
		{
			Run rest = *run;

			rest.offset = to;
			rest.count_key = tail | (run->count_key & RUN_KEY);
			set_next(&rest, next_after(run_next(run), to - start));
			run->count_key = head | (run->count_key & RUN_KEY);
			*open_gap(ends, chunk, i + 1) = rest;
			return;
		}
		if (head > 0)
		{
			run->count_key = head | (run->count_key & RUN_KEY);
			i++;
		}
		else if (tail > 0)
		{
			set_next(run, next_after(run_next(run), to - start));
			run->offset = to;
			run->count_key = tail | (run->count_key & RUN_KEY);
			i++;
		}
		else
		{
			chunk->n--;
			memmove(run, run + 1, (chunk->n - i) * sizeof(Run));
		}
	}
}

/* Of those in files, which keep them: from..to, `to` excluded. */
static void
remove_filed(OwnEnds *ends, uint64 from, uint64 to)
{
	uint64 n = 0;

	for (uint64 row = from; row < to; row++)
		n += rowset_contains(ends->filed, row);
	if (n == 0)
		return;
	rowset_remove_range(ends->filed, from, to);
	ends->count -= n;
	ends->stale = true;
}

void
ownends_remove(OwnEnds *ends, uint64 first, uint64 count)
{
	uint64 end = first + count;

	while (ends->count > 0 && first < end)
	{
		uint64 number = first / CHUNK_ROWS;
		uint64 stop = Min(end, (number + 1) * CHUNK_ROWS);
		Chunk *chunk = find_chunk(ends, number);

		if (chunk)
			remove_from_chunk(ends, chunk, first % CHUNK_ROWS, stop - number * CHUNK_ROWS);
		if (ends->filed)
			remove_filed(ends, first, stop);
		first = stop;
	}
}
