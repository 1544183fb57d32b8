/*
 * deletes.c: which rows of a table have ended.
 *
 * An end is a position and perhaps a successor as long as some snapshot may not see it, and a bit afterwards.  Rows that no batch
 * has any more need no bit.  So memory follows the rows that are there, not the deletes that there ever were.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "node/state.h"

#define CHUNK_ROWS 4096 /* rows per chunk of deletes */
#define CHUNK_SPARSE 32 /* entries that are searched one by one */
#define CHUNK_WORDS (CHUNK_ROWS / 64)

typedef struct DeleteEntry
{
	uint64 pos;
	uint64 successor;
	uint16 offset; /* row % CHUNK_ROWS */
} DeleteEntry;

/* The deletes among CHUNK_ROWS consecutive rows.  Grows at its end; all else is made anew. */
typedef struct DeleteChunk
{
	uint64 number; /* row / CHUNK_ROWS */
	uint32 capacity;
	pg_atomic_uint32 count;
	dsa_pointer index; /* uint16[CHUNK_ROWS]: entry + 1; invalid while sparse */
	dsa_pointer bits; /* uint64[CHUNK_WORDS]: ends that every snapshot sees; invalid: none */
	DeleteEntry entries[FLEXIBLE_ARRAY_MEMBER];
} DeleteChunk;

/* Open-addressing table from chunk number to chunk (invalid: it has been forgotten). */
typedef struct DeleteDirectory
{
	uint32 size; /* a power of two */
	uint32 used;
	struct
	{
		pg_atomic_uint64 key; /* chunk number + 1; 0 free */
		pg_atomic_uint64 chunk;
	} slots[FLEXIBLE_ARRAY_MEMBER];
} DeleteDirectory;

static DeleteChunk *
find_chunk(dsa_area *area, TableState *table, uint64 number)
{
	dsa_pointer p = *(volatile dsa_pointer *) &table->deletes;
	DeleteDirectory *directory;

	if (!DsaPointerIsValid(p))
		return NULL;
	directory = dsa_get_address(area, p);
	for (uint32 i = state_hash(number) & (directory->size - 1);; i = (i + 1) & (directory->size - 1))
	{
		uint64 key = pg_atomic_read_u64(&directory->slots[i].key);

		if (key == 0)
			return NULL;
		if (key == number + 1)
		{
			dsa_pointer chunk;

			pg_read_barrier();
			chunk = pg_atomic_read_u64(&directory->slots[i].chunk);
			return DsaPointerIsValid(chunk) ? dsa_get_address(area, chunk) : NULL;
		}
	}
}

static DeleteEntry *
find_entry(dsa_area *area, DeleteChunk *chunk, uint16 offset)
{
	uint32 count = pg_atomic_read_u32(&chunk->count);

	pg_read_barrier();
	if (DsaPointerIsValid(chunk->index))
	{
		uint16 n = ((volatile uint16 *) dsa_get_address(area, chunk->index))[offset];

		return n > 0 && n <= count ? &chunk->entries[n - 1] : NULL;
	}
	for (uint32 i = 0; i < count; i++)
		if (chunk->entries[i].offset == offset)
			return &chunk->entries[i];
	return NULL;
}

static bool
has_bit(dsa_area *area, const DeleteChunk *chunk, uint16 offset)
{
	const uint64 *bits;

	if (!DsaPointerIsValid(chunk->bits))
		return false;
	bits = dsa_get_address(area, chunk->bits);
	return (bits[offset / 64] >> (offset % 64) & 1) != 0;
}

bool
state_row_ended(S3Node *node, TableState *table, uint64 row, RowEnd *end)
{
	dsa_area *area = node_dsa(node);
	DeleteChunk *chunk = find_chunk(area, table, row / CHUNK_ROWS);
	DeleteEntry *entry;

	if (chunk && has_bit(area, chunk, row % CHUNK_ROWS))
	{
		end->pos = 0;
		end->successor = ROW_NONE;
		return true;
	}
	entry = chunk ? find_entry(area, chunk, row % CHUNK_ROWS) : NULL;

	if (entry == NULL)
		return false;
	end->pos = entry->pos;
	end->successor = entry->successor;
	return true;
}

/* Of one word: bits first to end - 1. */
static inline uint64
word_mask(uint64 word, uint64 first, uint64 end)
{
	uint64 low = Max(first, word * 64), high = Min(end, word * 64 + 64);

	if (low >= high)
		return 0;
	return (high - low == 64 ? ~UINT64CONST(0) : (UINT64CONST(1) << (high - low)) - 1) << (low - word * 64);
}

bool
state_rows_ended(S3Node *node, TableState *table, uint64 first_row, uint32 nrows, uint64 pos, uint64 *ended)
{
	dsa_area *area = node_dsa(node);
	uint64 end_row = first_row + nrows;
	bool found = false;

	for (uint64 row = first_row; row < end_row;)
	{
		uint64 start = row / CHUNK_ROWS * CHUNK_ROWS;
		uint64 end = Min(start + CHUNK_ROWS, end_row);
		DeleteChunk *chunk = find_chunk(area, table, row / CHUNK_ROWS);
		uint32 count = chunk ? pg_atomic_read_u32(&chunk->count) : 0;

		pg_read_barrier();
		if (chunk && (DsaPointerIsValid(chunk->bits) || (count > end - row && DsaPointerIsValid(chunk->index))))
			/* row by row: there are bits, or more entries than rows */
			for (uint64 r = row; r < end; r++)
			{
				DeleteEntry *entry = NULL;

				if (!has_bit(area, chunk, r - start) &&
					((entry = find_entry(area, chunk, r - start)) == NULL || entry->pos > pos))
					continue;
				ended[(r - first_row) / 64] |= UINT64CONST(1) << (r - first_row) % 64;
				found = true;
			}
		else
			for (uint32 i = 0; i < count; i++)
			{
				uint64 r = start + chunk->entries[i].offset;

				if (r < row || r >= end || chunk->entries[i].pos > pos)
					continue;
				ended[(r - first_row) / 64] |= UINT64CONST(1) << (r - first_row) % 64;
				found = true;
			}
		row = end;
	}
	return found;
}

uint64
state_count_ended(S3Node *node, TableState *table, uint64 first_row, uint64 nrows)
{
	dsa_area *area = node_dsa(node);
	uint64 end_row = first_row + nrows, total = 0;

	for (uint64 row = first_row; row < end_row;)
	{
		uint64 start = row / CHUNK_ROWS * CHUNK_ROWS;
		DeleteChunk *chunk = find_chunk(area, table, row / CHUNK_ROWS);
		uint64 first = row - start, end = Min(end_row - start, CHUNK_ROWS);
		uint32 count = chunk ? pg_atomic_read_u32(&chunk->count) : 0;

		row = start + CHUNK_ROWS;
		pg_read_barrier();
		for (uint32 i = 0; i < count; i++)
			total += chunk->entries[i].offset >= first && chunk->entries[i].offset < end;
		if (chunk && DsaPointerIsValid(chunk->bits))
		{
			const uint64 *bits = dsa_get_address(area, chunk->bits);

			for (int w = 0; w < CHUNK_WORDS; w++)
				total += pg_popcount64(bits[w] & word_mask(w, first, end));
		}
	}
	return total;
}

/*
 * Another chunk with all that is in the old one.  Ends up to `frozen` are bits in it.
 */
static dsa_pointer
make_chunk(dsa_area *area, uint64 number, DeleteChunk *old, uint64 frozen)
{
	uint32 count = old ? pg_atomic_read_u32(&old->count) : 0;
	uint32 kept = 0, capacity = 8;
	uint16 *index = NULL;
	DeleteChunk *chunk;
	dsa_pointer p;

	for (uint32 i = 0; i < count; i++)
		kept += old->entries[i].pos > frozen;
	while (capacity < CHUNK_ROWS && capacity < kept * 2)
		capacity *= 4;
	capacity = Min(capacity, CHUNK_ROWS);
	p = dsa_allocate_extended(area, offsetof(DeleteChunk, entries) + capacity * sizeof(DeleteEntry), DSA_ALLOC_ZERO);
	chunk = dsa_get_address(area, p);
	chunk->number = number;
	chunk->capacity = capacity;
	if (capacity > CHUNK_SPARSE)
	{
		chunk->index = dsa_allocate_extended(area, CHUNK_ROWS * sizeof(uint16), DSA_ALLOC_ZERO);
		index = dsa_get_address(area, chunk->index);
	}
	if (kept < count || (old && DsaPointerIsValid(old->bits)))
	{
		uint64 *bits;

		chunk->bits = dsa_allocate_extended(area, CHUNK_WORDS * sizeof(uint64), DSA_ALLOC_ZERO);
		bits = dsa_get_address(area, chunk->bits);
		if (DsaPointerIsValid(old->bits))
			memcpy(bits, dsa_get_address(area, old->bits), CHUNK_WORDS * sizeof(uint64));
		for (uint32 i = 0; i < count; i++)
			if (old->entries[i].pos <= frozen)
				bits[old->entries[i].offset / 64] |= UINT64CONST(1) << (old->entries[i].offset % 64);
	}
	kept = 0;
	for (uint32 i = 0; i < count; i++)
		if (old->entries[i].pos > frozen)
		{
			chunk->entries[kept++] = old->entries[i];
			if (index)
				index[old->entries[i].offset] = kept;
		}
	pg_atomic_init_u32(&chunk->count, kept);
	return p;
}

static void
retire_chunk(S3Node *node, dsa_pointer p)
{
	DeleteChunk *chunk = dsa_get_address(node_dsa(node), p);

	if (DsaPointerIsValid(chunk->index))
		state_retire(node, chunk->index);
	if (DsaPointerIsValid(chunk->bits))
		state_retire(node, chunk->bits);
	state_retire(node, p);
}

static void
put_chunk(S3Node *node, TableState *table, uint64 number, dsa_pointer chunk)
{
	dsa_area *area = node_dsa(node);
	DeleteDirectory *directory = NULL;

	if (DsaPointerIsValid(table->deletes))
		directory = dsa_get_address(area, table->deletes);
	if (directory == NULL || directory->used * 2 >= directory->size)
	{
		uint32 live = 0, size = 16;
		dsa_pointer p;
		DeleteDirectory *grown;

		for (uint32 i = 0; directory && i < directory->size; i++)
			live += DsaPointerIsValid(pg_atomic_read_u64(&directory->slots[i].chunk));
		while (size < live * 4)
			size *= 2;
		p = dsa_allocate_extended(area, offsetof(DeleteDirectory, slots) + size * sizeof(directory->slots[0]),
								  DSA_ALLOC_ZERO | DSA_ALLOC_HUGE);
		grown = dsa_get_address(area, p);
		grown->size = size;
		for (uint32 i = 0; directory && i < directory->size; i++)
		{
			uint64 key = pg_atomic_read_u64(&directory->slots[i].key);
			uint32 j = state_hash(key - 1) & (size - 1);

			if (key == 0 || !DsaPointerIsValid(pg_atomic_read_u64(&directory->slots[i].chunk)))
				continue;
			while (pg_atomic_read_u64(&grown->slots[j].key) != 0)
				j = (j + 1) & (size - 1);
			pg_atomic_write_u64(&grown->slots[j].chunk, pg_atomic_read_u64(&directory->slots[i].chunk));
			pg_atomic_write_u64(&grown->slots[j].key, key);
			grown->used++;
		}
		if (directory)
			state_retire(node, table->deletes);
		pg_write_barrier();
		table->deletes = p;
		directory = grown;
	}
	for (uint32 i = state_hash(number) & (directory->size - 1);; i = (i + 1) & (directory->size - 1))
	{
		uint64 key = pg_atomic_read_u64(&directory->slots[i].key);

		if (key == number + 1)
		{
			pg_write_barrier();
			pg_atomic_write_u64(&directory->slots[i].chunk, chunk);
			return;
		}
		if (key == 0)
		{
			pg_atomic_write_u64(&directory->slots[i].chunk, chunk);
			pg_write_barrier();
			pg_atomic_write_u64(&directory->slots[i].key, number + 1);
			directory->used++;
			return;
		}
	}
}

static dsa_pointer
chunk_pointer(dsa_area *area, TableState *table, uint64 number)
{
	DeleteDirectory *directory;

	if (!DsaPointerIsValid(table->deletes))
		return InvalidDsaPointer;
	directory = dsa_get_address(area, table->deletes);
	for (uint32 i = state_hash(number) & (directory->size - 1);; i = (i + 1) & (directory->size - 1))
	{
		uint64 key = pg_atomic_read_u64(&directory->slots[i].key);

		if (key == 0)
			return InvalidDsaPointer;
		if (key == number + 1)
			return pg_atomic_read_u64(&directory->slots[i].chunk);
	}
}

/* Marks a row as ended.  A row that already is keeps its first end. */
void
state_end_row(S3Node *node, TableState *table, uint64 row, uint64 pos, uint64 successor)
{
	dsa_area *area = node_dsa(node);
	uint64 number = row / CHUNK_ROWS;
	uint16 offset = row % CHUNK_ROWS;
	dsa_pointer p = chunk_pointer(area, table, number);
	DeleteChunk *chunk = DsaPointerIsValid(p) ? dsa_get_address(area, p) : NULL;
	DeleteEntry *entry;
	uint32 count;

	if (chunk && (has_bit(area, chunk, offset) || find_entry(area, chunk, offset)))
		return;
	count = chunk ? pg_atomic_read_u32(&chunk->count) : 0;
	if (chunk == NULL || count == chunk->capacity)
	{
		dsa_pointer grown = make_chunk(area, number, chunk, pg_atomic_read_u64(&node->frozen));

		put_chunk(node, table, number, grown);
		if (chunk)
			retire_chunk(node, p);
		chunk = dsa_get_address(area, grown);
		count = pg_atomic_read_u32(&chunk->count);
	}
	entry = &chunk->entries[count];
	entry->offset = offset;
	entry->pos = pos;
	entry->successor = successor;
	pg_write_barrier();
	pg_atomic_write_u32(&chunk->count, count + 1);
	pg_write_barrier();
	if (DsaPointerIsValid(chunk->index))
		((volatile uint16 *) dsa_get_address(area, chunk->index))[offset] = count + 1;
	pg_atomic_fetch_add_u64(&table->deleted, 1);
	pg_atomic_write_u64(&table->changed, pos);
}

void
state_mark_gone(S3Node *node, TableState *table, uint64 first_row, uint64 end_row)
{
	dsa_area *area = node_dsa(node);

	for (uint64 number = first_row / CHUNK_ROWS; number * CHUNK_ROWS < end_row; number++)
	{
		uint64 start = number * CHUNK_ROWS;
		DeleteChunk *chunk;
		dsa_pointer p;
		uint64 *bits;

		/* a chunk that is there knows of all its rows */
		if (DsaPointerIsValid(chunk_pointer(area, table, number)))
			continue;
		p = make_chunk(area, number, NULL, 0);
		chunk = dsa_get_address(area, p);
		chunk->bits = dsa_allocate_extended(area, CHUNK_WORDS * sizeof(uint64), DSA_ALLOC_ZERO);
		bits = dsa_get_address(area, chunk->bits);
		for (int w = 0; w < CHUNK_WORDS; w++)
			bits[w] = word_mask(w, Max(first_row, start) - start, Min(end_row - start, CHUNK_ROWS));
		put_chunk(node, table, number, p);
	}
}

/* Does any batch have rows of the chunk? */
static bool
chunk_is_used(const BatchArray *batches, uint32 count, uint64 number)
{
	uint64 first = number * CHUNK_ROWS;
	uint32 low = 0, high = count;

	while (low < high)
	{
		uint32 mid = low + (high - low) / 2;

		if (batches->entries[mid].first_row + batches->entries[mid].nrows <= first)
			low = mid + 1;
		else
			high = mid;
	}
	return low < count && batches->entries[low].first_row < first + CHUNK_ROWS;
}

void
state_forget_ends(S3Node *node, TableState *table, uint64 first_row, uint64 end_row)
{
	uint64 frozen = pg_atomic_read_u64(&node->frozen);
	uint64 next_row = pg_atomic_read_u64(&table->next_row);
	dsa_area *area = node_dsa(node);
	uint32 count;
	const BatchArray *batches = state_batches(node, table, &count);

	for (uint64 number = first_row / CHUNK_ROWS; number * CHUNK_ROWS < end_row; number++)
	{
		dsa_pointer p = chunk_pointer(area, table, number);
		DeleteChunk *chunk;
		uint32 frozen_ends = 0;

		if (!DsaPointerIsValid(p))
			continue;
		chunk = dsa_get_address(area, p);
		for (uint32 i = 0; i < pg_atomic_read_u32(&chunk->count); i++)
			frozen_ends += chunk->entries[i].pos <= frozen;
		/* rows beyond the last batch may still come */
		if ((number + 1) * CHUNK_ROWS <= next_row && frozen_ends == pg_atomic_read_u32(&chunk->count) &&
			!chunk_is_used(batches, count, number))
			put_chunk(node, table, number, InvalidDsaPointer);
		else if (frozen_ends > 0)
			put_chunk(node, table, number, make_chunk(area, number, chunk, frozen));
		else
			continue;
		retire_chunk(node, p);
	}
}
