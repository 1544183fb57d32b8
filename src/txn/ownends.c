/*
 * ownends.c: see ownends.h.
 *
 * A hash table of chunks of 4096 row ids; a chunk is an array of runs, sorted by row.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "txn/ownends.h"

#define CHUNK_ROWS 4096
#define RUN_KEY 0x8000

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
	chunks_hash *chunks;
	Chunk *last; /* looked up last; forgotten whenever the table may move */
	uint64 count;
};

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

OwnEnds *
ownends_create(MemoryContext cxt)
{
	OwnEnds *ends = MemoryContextAllocZero(cxt, sizeof(OwnEnds));

	ends->cxt = cxt;
	ends->chunks = chunks_create(cxt, 16, NULL);
	return ends;
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

bool
ownends_get(OwnEnds *ends, uint64 row, OwnEnd *end)
{
	Chunk *chunk;
	uint16 offset = row % CHUNK_ROWS;
	uint16 i;

	if (ends == NULL || ends->count == 0 || (chunk = find_chunk(ends, row / CHUNK_ROWS)) == NULL)
		return false;
	i = find_run(chunk, offset);
	if (i == chunk->n || chunk->runs[i].offset > offset)
		return false;
	fill_end(&chunk->runs[i], offset - chunk->runs[i].offset, end);
	return true;
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
								  : MemoryContextAlloc(ends->cxt, capacity * sizeof(Run));
		chunk->capacity = capacity;
	}
	memmove(&chunk->runs[i + 1], &chunk->runs[i], (chunk->n - i) * sizeof(Run));
	chunk->n++;
	return &chunk->runs[i];
}

void
ownends_add(OwnEnds *ends, uint64 row, const OwnEnd *end)
{
	uint64 number = row / CHUNK_ROWS;
	uint16 offset = row % CHUNK_ROWS;
	Chunk *chunk = find_chunk(ends, number);
	uint16 i;
	Run *run;

	if (chunk == NULL)
	{
		bool found;

		ends->last = NULL;
		chunk = chunks_insert(ends->chunks, number, &found);
		chunk->n = chunk->capacity = 0;
		chunk->runs = NULL;
		ends->last = chunk;
	}
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
		first = stop;
	}
}

static int
compare_numbers(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a, y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

void
ownends_each(OwnEnds *ends, uint64 first, uint64 last, OwnEndsEach each, void *arg)
{
	chunks_iterator it;
	Chunk *chunk;
	uint64 *numbers;
	uint64 n = 0;

	if (ownends_count(ends) == 0)
		return;
	numbers = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint64) * ends->chunks->members);
	chunks_start_iterate(ends->chunks, &it);
	while ((chunk = chunks_iterate(ends->chunks, &it)) != NULL)
		if (chunk->n > 0 && chunk->number >= first / CHUNK_ROWS && chunk->number <= last / CHUNK_ROWS)
			numbers[n++] = chunk->number;
	qsort(numbers, n, sizeof(uint64), compare_numbers);
	for (uint64 c = 0; c < n; c++)
	{
		CHECK_FOR_INTERRUPTS();
		chunk = find_chunk(ends, numbers[c]);
		for (uint16 i = 0; i < chunk->n; i++)
		{
			Run *run = &chunk->runs[i];
			uint64 row = numbers[c] * CHUNK_ROWS + run->offset;
			uint64 from = Max(row, first);
			uint64 to = Min(row + run_count(run) - 1, last);
			OwnEnd end;

			if (from > to)
				continue;
			fill_end(run, from - row, &end);
			each(arg, from, to - from + 1, &end);
		}
	}
	pfree(numbers);
}
