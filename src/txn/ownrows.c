/*
 * ownrows.c: see ownrows.h.
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "utils/memutils.h"

#include "txn/ownrows.h"

#define FIRST_BLOCK 2048
#define LAST_BLOCK (256 * 1024)
/* A tuple whose values take SMALL_DATA, with its header and padding, is no larger than SMALL_ROW. */
#define SMALL_DATA 3072
#define SMALL_ROW 4096
#define SIMPLE ((uint32) 1 << 31) /* none of the tuple's values is compressed */

/* Rows in memory: tuples from the front, their offsets from the back. */
typedef struct OwnBlock
{
	union
	{
		uint64 first; /* number of its first row */
		struct OwnBlock *next; /* spare */
	};
	uint32 count;
	Size used; /* bytes of tuples */
	Size size; /* of data */
	char data[FLEXIBLE_ARRAY_MEMBER];
} OwnBlock;

#define BLOCK_HEADER MAXALIGN(offsetof(OwnBlock, data))

Size ownrows_total_memory;
/* Blocks of LAST_BLOCK bytes whose rows were uploaded, for those that come next: memory that is new to a process costs more than its rows. */
static OwnBlock *spare_blocks;
static Size spare_memory;

static inline char *
block_data(OwnBlock *block)
{
	return (char *) block + BLOCK_HEADER;
}

/* Offset of the tuple of row i of the block, in units of MAXIMUM_ALIGNOF; or'ed with SIMPLE. */
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
	cmins_init(&rows->cmins, cxt);
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
	if (size == LAST_BLOCK && spare_blocks)
	{
		block = spare_blocks;
		spare_blocks = block->next;
		spare_memory -= size;
	}
	else
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

/* It is kept for other rows if all blocks together take no more than `most`. */
static void
free_block(OwnRows *rows, OwnBlock *block, Size most)
{
	rows->memory -= block->size;
	ownrows_total_memory -= block->size;
	if (block->size == LAST_BLOCK && ownrows_total_memory + spare_memory + block->size <= most)
	{
		block->next = spare_blocks;
		spare_blocks = block;
		spare_memory += block->size;
	}
	else
		pfree(block);
}

void
ownrows_reset(void)
{
	ownrows_total_memory = spare_memory = 0;
	spare_blocks = NULL;
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

static inline MinimalTuple
tuple_at(OwnBlock *block, uint32 offset)
{
	return (MinimalTuple) (block_data(block) + (Size) (offset & ~SIMPLE) * MAXIMUM_ALIGNOF);
}

/* It is there. */
static inline uint64
keep(OwnRows *rows, Size len, bool simple, CommandId cmin)
{
	OwnBlock *block = rows->blocks[rows->nblocks - 1];

	cmins_note(&rows->cmins, rows->nrows, cmin);
	*block_offset(block, block->count) = block->used / MAXIMUM_ALIGNOF | (simple ? SIMPLE : 0);
	block->used += MAXALIGN(len);
	block->count++;
	return rows->nrows++;
}

uint64
ownrows_add(OwnRows *rows, MinimalTuple tuple, CommandId cmin)
{
	memcpy(room_for(rows, tuple->t_len), tuple, tuple->t_len);
	return keep(rows, tuple->t_len, false, cmin);
}

static inline bool
any_compressed(TupleDesc desc, const Datum *values, const bool *nulls)
{
	for (int i = 0; i < desc->natts; i++)
		if (TupleDescAttr(desc, i)->attlen == -1 && !nulls[i] && VARATT_IS_COMPRESSED(DatumGetPointer(values[i])))
			return true;
	return false;
}

/*
 * Forms a tuple as heap does, in one pass, where there is room for SMALL_ROW bytes.  Returns how long it is; 0: it would be longer, or has
 * values that are compressed or elsewhere.
 */
static Size
form_small(MinimalTuple tuple, TupleDesc desc, const Datum *values, const bool *nulls)
{
	bool has_nulls = memchr(nulls, true, desc->natts) != NULL;
	Size hoff = MAXALIGN(SizeofHeapTupleHeader + (has_nulls ? BITMAPLEN(desc->natts) : 0));
	char *data = (char *) tuple + hoff - MINIMAL_TUPLE_OFFSET;
	uint16 infomask = has_nulls ? HEAP_HASNULL : 0;
	Size off = 0;

	memset(tuple, 0, hoff - MINIMAL_TUPLE_OFFSET);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		struct varlena *v;
		Size len;

		if (nulls[i])
			continue;
		if (has_nulls)
			tuple->t_bits[i >> 3] |= 1 << (i & 7);
		/* padding is zero; the value overwrites the rest of this */
		memset(data + off, 0, MAXIMUM_ALIGNOF);
		if (att->attlen > 0)
		{
			if (off + att->attlen > SMALL_DATA)
				return 0;
			off = att_align_nominal(off, att->attalign);
			if (att->attbyval)
				store_att_byval(data + off, values[i], att->attlen);
			else
				memcpy(data + off, DatumGetPointer(values[i]), att->attlen);
			off += att->attlen;
			continue;
		}
		v = (struct varlena *) DatumGetPointer(values[i]);
		if (att->attlen != -1 || VARATT_IS_EXTERNAL(v) || VARATT_IS_COMPRESSED(v))
			return 0;
		infomask |= HEAP_HASVARWIDTH;
		len = VARSIZE_ANY(v);
		if (off + len > SMALL_DATA)
			return 0;
		if (VARATT_IS_SHORT(v))
			memcpy(data + off, v, len);
		else if (att->attstorage != TYPSTORAGE_PLAIN && VARATT_CAN_MAKE_SHORT(v))
		{
			len = VARATT_CONVERTED_SHORT_SIZE(v);
			SET_VARSIZE_SHORT(data + off, len);
			memcpy(data + off + 1, VARDATA(v), len - 1);
		}
		else
		{
			off = att_align_nominal(off, att->attalign);
			memcpy(data + off, v, len);
		}
		off += len;
	}
	HeapTupleHeaderSetNatts(tuple, desc->natts);
	tuple->t_infomask = infomask;
	tuple->t_hoff = hoff;
	tuple->t_len = hoff - MINIMAL_TUPLE_OFFSET + off;
	return tuple->t_len;
}

/* As heap_form_minimal_tuple does it, but in its place. */
bool
ownrows_form(OwnRows *rows, TupleDesc desc, Datum *values, bool *nulls, CommandId cmin)
{
	OwnBlock *block = rows->nblocks ? rows->blocks[rows->nblocks - 1] : NULL;
	bool has_nulls;
	Size hoff, data, len;
	MinimalTuple tuple;

	if (block && block->used + SMALL_ROW + (block->count + 1) * sizeof(uint32) <= block->size)
	{
		len = form_small((MinimalTuple) (block_data(block) + block->used), desc, values, nulls);
		if (len > 0)
		{
			(void) keep(rows, len, true, cmin);
			return true;
		}
	}
	has_nulls = memchr(nulls, true, desc->natts) != NULL;
	hoff = MAXALIGN(SizeofHeapTupleHeader + (has_nulls ? BITMAPLEN(desc->natts) : 0));
	data = heap_compute_data_size(desc, values, nulls);
	len = hoff - MINIMAL_TUPLE_OFFSET + data;
	tuple = room_for(rows, len);
	memset(tuple, 0, len);
	tuple->t_len = len;
	HeapTupleHeaderSetNatts(tuple, desc->natts);
	tuple->t_hoff = hoff;
	heap_fill_tuple(desc, values, nulls, (char *) tuple + hoff - MINIMAL_TUPLE_OFFSET, data, &tuple->t_infomask,
					has_nulls ? tuple->t_bits : NULL);
	if (tuple->t_infomask & HEAP_HASEXTERNAL)
		return false;
	(void) keep(rows, len, !any_compressed(desc, values, nulls), cmin);
	return true;
}

CommandId
ownrows_cmin(OwnRows *rows, uint64 n)
{
	Assert(n < rows->nrows);
	return cmins_get(&rows->cmins, n);
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
	return tuple_at(block, *block_offset(block, n - block->first));
}

MinimalTuple
ownrows_simple(OwnRows *rows, uint64 n)
{
	OwnBlock *block = rows->blocks[find_block(rows, n)];
	uint32 offset = *block_offset(block, n - block->first);

	return offset & SIMPLE ? tuple_at(block, offset) : NULL;
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
		free_block(rows, rows->blocks[--rows->nblocks], 0);
	if (rows->nblocks > 0)
	{
		OwnBlock *block = rows->blocks[rows->nblocks - 1];
		uint32 count = n - block->first;

		if (count < block->count)
		{
			block->used = (char *) tuple_at(block, *block_offset(block, count)) - block_data(block);
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
	cmins_truncate(&rows->cmins, n);
	rows->nrows = n;
	rows->in_memory = Min(rows->in_memory, n);
	rows->last_block = 0;
}

void
ownrows_written(OwnRows *rows)
{
	while (rows->nblocks > 0)
		free_block(rows, rows->blocks[--rows->nblocks], 0);
	rows->last_block = 0;
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

uint64
ownrows_block_end(OwnRows *rows, uint64 n, Size *bytes)
{
	OwnBlock *block;

	/* the last one may get more rows, or lose some */
	if (rows->nblocks < 2 || n >= rows->blocks[rows->nblocks - 1]->first)
		return n;
	block = rows->blocks[find_block(rows, n)];
	*bytes += block->used;
	return block->first + block->count;
}

void
ownrows_uploaded(OwnRows *rows, const OwnSegment *segment, Size most)
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
	while (n < rows->nblocks && rows->blocks[n]->first + rows->blocks[n]->count <= end)
		free_block(rows, rows->blocks[n++], most);
	memmove(rows->blocks, rows->blocks + n, (rows->nblocks - n) * sizeof(OwnBlock *));
	rows->nblocks -= n;
	rows->in_memory = end;
	rows->last_block = 0;
}
