/*
 * ownrows.c: see ownrows.h.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "txn/ownrows.h"

#define FIRST_BLOCK 2048
#define LAST_BLOCK (256 * 1024)

/* Rows in memory: tuples from the front, their offsets from the back. */
typedef struct OwnBlock
{
	uint64 first; /* number of its first row */
	uint32 count;
	Size used; /* bytes of tuples */
	Size size; /* of data */
	char data[FLEXIBLE_ARRAY_MEMBER];
} OwnBlock;

/* Row `first` + i has cmin `cmin` + i * step: one run for a bulk load, and one for a loop of single inserts. */
typedef struct CminRun
{
	uint64 first;
	CommandId cmin;
	CommandId step;
} CminRun;

#define BLOCK_HEADER MAXALIGN(offsetof(OwnBlock, data))

Size ownrows_total_memory;

static inline char *
block_data(OwnBlock *block)
{
	return (char *) block + BLOCK_HEADER;
}

/* Offset of the tuple of row i of the block, in units of MAXIMUM_ALIGNOF. */
static inline uint32 *
block_offset(OwnBlock *block, uint32 i)
{
	return (uint32 *) (block_data(block) + block->size) - 1 - i;
}

void
ownrows_init(OwnRows *rows, MemoryContext cxt)
{
	memset(rows, 0, sizeof(*rows));
	rows->cxt = cxt;
}

static OwnBlock *
new_block(OwnRows *rows, Size need)
{
	Size size = rows->nblocks == 0 ? FIRST_BLOCK : Min(rows->blocks[rows->nblocks - 1]->size * 2, LAST_BLOCK);
	OwnBlock *block;

	size = MAXALIGN(Max(size, need + sizeof(uint32)));
	if (rows->nblocks == rows->blocks_capacity)
	{
		uint32 capacity = rows->blocks_capacity ? rows->blocks_capacity * 2 : 8;

		rows->blocks = rows->blocks ? repalloc_huge(rows->blocks, capacity * sizeof(OwnBlock *))
									: MemoryContextAllocHuge(rows->cxt, capacity * sizeof(OwnBlock *));
		rows->blocks_capacity = capacity;
	}
	block = MemoryContextAllocHuge(rows->cxt, BLOCK_HEADER + size);
	block->first = rows->nrows;
	block->count = 0;
	block->used = 0;
	block->size = size;
	rows->blocks[rows->nblocks++] = block;
	rows->memory += size;
	ownrows_total_memory += size;
	return block;
}

static void
free_block(OwnRows *rows, OwnBlock *block)
{
	rows->memory -= block->size;
	ownrows_total_memory -= block->size;
	pfree(block);
}

static void
note_cmin(OwnRows *rows, uint64 n, CommandId cmin)
{
	CminRun *run = rows->ncmins ? &rows->cmins[rows->ncmins - 1] : NULL;

	if (run && n == run->first + 1)
	{
		run->step = cmin - run->cmin;
		return;
	}
	if (run && cmin == run->cmin + (CommandId) (n - run->first) * run->step)
		return;
	if (rows->ncmins == rows->cmins_capacity)
	{
		uint64 capacity = rows->cmins_capacity ? rows->cmins_capacity * 2 : 4;

		rows->cmins = rows->cmins ? repalloc_huge(rows->cmins, capacity * sizeof(CminRun))
								  : MemoryContextAllocHuge(rows->cxt, capacity * sizeof(CminRun));
		rows->cmins_capacity = capacity;
	}
	Assert(rows->cmins);
	run = &rows->cmins[rows->ncmins++];
	run->first = n;
	run->cmin = cmin;
	run->step = 0;
}

/* Where the next row's tuple of `len` bytes is to be put. */
static inline MinimalTuple
room_for(OwnRows *rows, Size len)
{
	OwnBlock *block = rows->nblocks ? rows->blocks[rows->nblocks - 1] : NULL;

	if (block == NULL || block->used + MAXALIGN(len) + (block->count + 1) * sizeof(uint32) > block->size)
		block = new_block(rows, MAXALIGN(len));
	return (MinimalTuple) (block_data(block) + block->used);
}

/* It is there. */
static inline uint64
keep(OwnRows *rows, Size len, CommandId cmin)
{
	OwnBlock *block = rows->blocks[rows->nblocks - 1];

	note_cmin(rows, rows->nrows, cmin);
	*block_offset(block, block->count) = block->used / MAXIMUM_ALIGNOF;
	block->used += MAXALIGN(len);
	block->count++;
	return rows->nrows++;
}

uint64
ownrows_add(OwnRows *rows, MinimalTuple tuple, CommandId cmin)
{
	memcpy(room_for(rows, tuple->t_len), tuple, tuple->t_len);
	return keep(rows, tuple->t_len, cmin);
}

/* As heap_form_minimal_tuple does it, but in its place. */
bool
ownrows_form(OwnRows *rows, TupleDesc desc, Datum *values, bool *nulls, CommandId cmin)
{
	bool has_nulls = memchr(nulls, true, desc->natts) != NULL;
	Size hoff = MAXALIGN(SizeofHeapTupleHeader + (has_nulls ? BITMAPLEN(desc->natts) : 0));
	Size data = heap_compute_data_size(desc, values, nulls);
	Size len = hoff - MINIMAL_TUPLE_OFFSET + data;
	MinimalTuple tuple = room_for(rows, len);

	memset(tuple, 0, len);
	tuple->t_len = len;
	HeapTupleHeaderSetNatts(tuple, desc->natts);
	tuple->t_hoff = hoff;
	heap_fill_tuple(desc, values, nulls, (char *) tuple + hoff - MINIMAL_TUPLE_OFFSET, data, &tuple->t_infomask,
					has_nulls ? tuple->t_bits : NULL);
	if (tuple->t_infomask & HEAP_HASEXTERNAL)
		return false;
	(void) keep(rows, len, cmin);
	return true;
}

CommandId
ownrows_cmin(OwnRows *rows, uint64 n)
{
	uint64 low = 0, high = rows->ncmins;
	uint64 i = rows->last_cmin;

	Assert(n < rows->nrows);
	if (i >= rows->ncmins || rows->cmins[i].first > n || (i + 1 < rows->ncmins && rows->cmins[i + 1].first <= n))
	{
		/* the last run that begins at or before n */
		while (high - low > 1)
		{
			uint64 mid = low + (high - low) / 2;

			if (rows->cmins[mid].first <= n)
				low = mid;
			else
				high = mid;
		}
		i = rows->last_cmin = low;
	}
	return rows->cmins[i].cmin + (CommandId) (n - rows->cmins[i].first) * rows->cmins[i].step;
}

/* The block that holds row n, which is in memory. */
static uint32
find_block(OwnRows *rows, uint64 n)
{
	uint32 low = 0, high = rows->nblocks;
	uint32 i = rows->last_block;

	if (i < rows->nblocks && rows->blocks[i]->first <= n && n < rows->blocks[i]->first + rows->blocks[i]->count)
		return i;
	while (high - low > 1)
	{
		uint32 mid = low + (high - low) / 2;

		if (rows->blocks[mid]->first <= n)
			low = mid;
		else
			high = mid;
	}
	return rows->last_block = low;
}

MinimalTuple
ownrows_tuple(OwnRows *rows, uint64 n)
{
	OwnBlock *block;

	Assert(n >= rows->in_memory && n < rows->nrows);
	block = rows->blocks[find_block(rows, n)];
	return (MinimalTuple) (block_data(block) + (Size) *block_offset(block, n - block->first) * MAXIMUM_ALIGNOF);
}

OwnSegment *
ownrows_segment(OwnRows *rows, uint64 n)
{
	int low = 0, high = rows->nsegments;

	Assert(n < rows->in_memory);
	while (high - low > 1)
	{
		int mid = low + (high - low) / 2;

		if (rows->segments[mid].first <= n)
			low = mid;
		else
			high = mid;
	}
	return &rows->segments[low];
}

void
ownrows_truncate(OwnRows *rows, uint64 n, OwnSegmentDrop drop)
{
	if (n >= rows->nrows)
		return;
	while (rows->nblocks > 0 && rows->blocks[rows->nblocks - 1]->first >= n)
		free_block(rows, rows->blocks[--rows->nblocks]);
	if (rows->nblocks > 0)
	{
		OwnBlock *block = rows->blocks[rows->nblocks - 1];
		uint32 count = n - block->first;

		if (count < block->count)
		{
			block->used = (Size) *block_offset(block, count) * MAXIMUM_ALIGNOF;
			block->count = count;
		}
	}
	while (rows->nsegments > 0 && rows->segments[rows->nsegments - 1].first >= n)
		drop(&rows->segments[--rows->nsegments]);
	if (rows->nsegments > 0)
	{
		OwnSegment *segment = &rows->segments[rows->nsegments - 1];

		segment->valid = Min(segment->valid, n - segment->first);
	}
	while (rows->ncmins > 0 && rows->cmins[rows->ncmins - 1].first >= n)
		rows->ncmins--;
	/* a run that is left with one row has no step that the next one must keep */
	rows->nrows = n;
	rows->in_memory = Min(rows->in_memory, n);
	rows->last_block = 0;
	rows->last_cmin = 0;
}

uint64
ownrows_portion(OwnRows *rows, Size bytes)
{
	Size sum = 0;
	uint64 end = rows->in_memory;

	for (uint32 i = 0; i < rows->nblocks && sum < bytes; i++)
	{
		sum += rows->blocks[i]->used;
		end = rows->blocks[i]->first + rows->blocks[i]->count;
	}
	return end;
}

void
ownrows_uploaded(OwnRows *rows, const OwnSegment *segment)
{
	uint64 end = segment->first + segment->nrows;
	uint32 n = 0;

	Assert(segment->first == rows->in_memory);
	if (rows->nsegments == rows->segments_capacity)
	{
		int capacity = rows->segments_capacity ? rows->segments_capacity * 2 : 8;

		rows->segments = rows->segments ? repalloc_huge(rows->segments, capacity * sizeof(OwnSegment))
										: MemoryContextAllocHuge(rows->cxt, capacity * sizeof(OwnSegment));
		rows->segments_capacity = capacity;
	}
	rows->segments[rows->nsegments++] = *segment;
	while (n < rows->nblocks && rows->blocks[n]->first < end)
		free_block(rows, rows->blocks[n++]);
	memmove(rows->blocks, rows->blocks + n, (rows->nblocks - n) * sizeof(OwnBlock *));
	rows->nblocks -= n;
	rows->in_memory = end;
	rows->last_block = 0;
}
