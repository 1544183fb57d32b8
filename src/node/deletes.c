/*
 * deletes.c: which rows of a table have ended.
 *
 * An end is a position and perhaps a successor as long as some snapshot may not see it, and a bit afterwards.  Rows that no batch
 * has any more need no bit.  So memory follows the rows that are there, not the deletes that there ever were.
 *
 * What had ended before the server started may be in leaves of the base instead (leaves.c).  Whoever reads looks there first: ends come from
 * there to here, never the other way.
 *
 * Neighbours that ended together, and whose successors are neighbours, too, if they have any, share an entry.  Many rows of a chunk that
 * ended together, all without a successor that is known, are a set.  So a version that ends all rows of a table takes a few bits for each.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "node/state.h"

#define CHUNK_ROWS ENDED_ROWS /* rows per chunk of deletes */
#define CHUNK_SPARSE 32 /* entries that are searched one by one */
#define CHUNK_WORDS ENDED_WORDS

/* Rows offset .. offset + count - 1 of the chunk: successor, successor + 1, ...; or all have ROW_NONE, or ROW_MOVED. */
typedef struct DeleteEntry
{
	uint64 pos;
	uint64 successor;
	uint16 offset; /* row % CHUNK_ROWS */
	uint16 count;
} DeleteEntry;

/* Many rows of the chunk that have no entry.  Never changed once it can be reached. */
typedef struct DeleteSet
{
	dsa_pointer next; /* older */
	uint64 pos;
	uint64 successor; /* ROW_NONE or ROW_MOVED */
	uint64 bits[CHUNK_WORDS];
} DeleteSet;

/* The deletes among CHUNK_ROWS consecutive rows.  Grows at its end; all else is made anew. */
typedef struct DeleteChunk
{
	uint64 number; /* row / CHUNK_ROWS */
	uint32 capacity;
	pg_atomic_uint32 count;
	dsa_pointer index; /* uint16[CHUNK_ROWS]: entry + 1; invalid while sparse */
	dsa_pointer sets; /* DeleteSet, newest first; grows at its beginning */
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
		if (offset >= chunk->entries[i].offset && offset - chunk->entries[i].offset < chunk->entries[i].count)
			return &chunk->entries[i];
	return NULL;
}

static inline bool
bit_is_set(const uint64 *bits, uint16 offset)
{
	return (bits[offset / 64] >> (offset % 64) & 1) != 0;
}

static inline void
set_bit(uint64 *bits, uint64 i)
{
	bits[i / 64] |= UINT64CONST(1) << (i % 64);
}

static bool
has_bit(dsa_area *area, const DeleteChunk *chunk, uint16 offset)
{
	return DsaPointerIsValid(chunk->bits) && bit_is_set(dsa_get_address(area, chunk->bits), offset);
}

/* The newest set of the chunk; NULL: there is none. */
static const DeleteSet *
first_set(dsa_area *area, const DeleteChunk *chunk)
{
	dsa_pointer p = *(const volatile dsa_pointer *) &chunk->sets;

	return DsaPointerIsValid(p) ? dsa_get_address(area, p) : NULL;
}

static const DeleteSet *
next_set(dsa_area *area, const DeleteSet *set)
{
	return DsaPointerIsValid(set->next) ? dsa_get_address(area, set->next) : NULL;
}

static const DeleteSet *
find_set(dsa_area *area, const DeleteChunk *chunk, uint16 offset)
{
	const DeleteSet *set = first_set(area, chunk);

	while (set && !bit_is_set(set->bits, offset))
		set = next_set(area, set);
	return set;
}

/* Successor of the row `i` after the one whose successor is `first`. */
static inline uint64
successor_after(uint64 first, uint32 i)
{
	return first == ROW_NONE || first == ROW_MOVED ? first : first + i;
}

bool
state_row_ended(S3Node *node, TableState *table, uint64 row, RowEnd *end)
{
	dsa_area *area = node_dsa(node);
	uint16 offset = row % CHUNK_ROWS;
	DeleteChunk *chunk;
	const DeleteEntry *entry;
	const DeleteSet *set;

	if (leaf_row_ended(node, table, row))
	{
		*end = (RowEnd){0, ROW_NONE};
		return true;
	}
	pg_read_barrier();
	chunk = find_chunk(area, table, row / CHUNK_ROWS);
	if (chunk == NULL)
		return false;
	if (has_bit(area, chunk, offset))
		*end = (RowEnd){0, ROW_NONE};
	else if ((entry = find_entry(area, chunk, offset)) != NULL)
		*end = (RowEnd){entry->pos, successor_after(entry->successor, offset - entry->offset)};
	else if ((set = find_set(area, chunk, offset)) != NULL)
		*end = (RowEnd){set->pos, set->successor};
	else
		return false;
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

/* Sets bit `shift` + i of `ended` for each row i of the chunk, first to end - 1, that is in `bits`.  False: none is. */
static bool
note_bits(const uint64 *bits, uint64 first, uint64 end, int64 shift, uint64 *ended)
{
	bool found = false;

	for (uint64 w = first / 64; w * 64 < end; w++)
	{
		uint64 word = bits[w] & word_mask(w, first, end);

		found |= word != 0;
		for (; word != 0; word &= word - 1)
			set_bit(ended, shift + w * 64 + pg_rightmost_one_pos64(word));
	}
	return found;
}

static uint64
count_bits(const uint64 *bits, uint64 first, uint64 end)
{
	uint64 total = 0;

	for (uint64 w = first / 64; w * 64 < end; w++)
		total += pg_popcount64(bits[w] & word_mask(w, first, end));
	return total;
}

/* Of one chunk: as note_bits, by entries. */
static bool
note_entries(dsa_area *area, DeleteChunk *chunk, uint64 first, uint64 end, uint64 pos, int64 shift, uint64 *ended)
{
	uint32 count = pg_atomic_read_u32(&chunk->count);
	bool found = false;

	pg_read_barrier();
	/* row by row if there are more entries than rows */
	if (count > end - first && DsaPointerIsValid(chunk->index))
	{
		for (uint64 i = first; i < end; i++)
		{
			const DeleteEntry *entry = find_entry(area, chunk, i);

			if (entry == NULL || entry->pos > pos)
				continue;
			set_bit(ended, shift + i);
			found = true;
		}
		return found;
	}
	for (uint32 e = 0; e < count; e++)
	{
		const DeleteEntry *entry = &chunk->entries[e];

		if (entry->pos > pos)
			continue;
		for (uint64 i = Max(first, entry->offset); i < Min(end, (uint64) entry->offset + entry->count); i++)
		{
			set_bit(ended, shift + i);
			found = true;
		}
	}
	return found;
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
		uint64 first = row - start, end = Min(end_row - start, CHUNK_ROWS);
		int64 shift = (int64) (start - first_row);
		uint64 before[CHUNK_WORDS];
		DeleteChunk *chunk;

		if (leaf_ended(node, table, row / CHUNK_ROWS, before))
			found |= note_bits(before, first, end, shift, ended);
		pg_read_barrier();
		chunk = find_chunk(area, table, row / CHUNK_ROWS);
		row = start + CHUNK_ROWS;
		if (chunk == NULL)
			continue;
		if (DsaPointerIsValid(chunk->bits))
			found |= note_bits(dsa_get_address(area, chunk->bits), first, end, shift, ended);
		found |= note_entries(area, chunk, first, end, pos, shift, ended);
		for (const DeleteSet *set = first_set(area, chunk); set; set = next_set(area, set))
			if (set->pos <= pos)
				found |= note_bits(set->bits, first, end, shift, ended);
	}
	return found;
}

/* The ends of a chunk that the table has itself, as note_bits. */
static void
note_chunk(dsa_area *area, DeleteChunk *chunk, uint64 *bits)
{
	if (DsaPointerIsValid(chunk->bits))
		(void) note_bits(dsa_get_address(area, chunk->bits), 0, CHUNK_ROWS, 0, bits);
	(void) note_entries(area, chunk, 0, CHUNK_ROWS, PG_UINT64_MAX, 0, bits);
	for (const DeleteSet *set = first_set(area, chunk); set; set = next_set(area, set))
		(void) note_bits(set->bits, 0, CHUNK_ROWS, 0, bits);
}

uint64
state_count_ended(S3Node *node, TableState *table, uint64 first_row, uint64 nrows)
{
	dsa_area *area = node_dsa(node);
	uint64 end_row = first_row + nrows, total = 0;

	for (uint64 row = first_row; row < end_row;)
	{
		uint64 start = row / CHUNK_ROWS * CHUNK_ROWS;
		uint64 first = row - start, end = Min(end_row - start, CHUNK_ROWS);
		uint64 before[CHUNK_WORDS];
		bool in_base = leaf_ended(node, table, row / CHUNK_ROWS, before);
		DeleteChunk *chunk;
		uint32 count;

		pg_read_barrier();
		chunk = find_chunk(area, table, row / CHUNK_ROWS);
		row = start + CHUNK_ROWS;
		if (in_base)
		{
			/* an end may be in both */
			if (chunk)
				note_chunk(area, chunk, before);
			total += count_bits(before, first, end);
			continue;
		}
		if (chunk == NULL)
			continue;
		count = pg_atomic_read_u32(&chunk->count);
		pg_read_barrier();
		for (uint32 i = 0; i < count; i++)
		{
			uint64 low = Max(first, chunk->entries[i].offset);
			uint64 high = Min(end, (uint64) chunk->entries[i].offset + chunk->entries[i].count);

			total += high > low ? high - low : 0;
		}
		if (DsaPointerIsValid(chunk->bits))
			total += count_bits(dsa_get_address(area, chunk->bits), first, end);
		for (const DeleteSet *set = first_set(area, chunk); set; set = next_set(area, set))
			total += count_bits(set->bits, first, end);
	}
	return total;
}

static void
add_bits(uint64 *bits, const uint64 *more)
{
	for (int w = 0; w < CHUNK_WORDS; w++)
		bits[w] |= more[w];
}

/* Puts an entry behind those that are there; there is room. */
static void
put_entry(dsa_area *area, DeleteChunk *chunk, const DeleteEntry *entry)
{
	uint32 count = pg_atomic_read_u32(&chunk->count);

	chunk->entries[count] = *entry;
	pg_write_barrier();
	pg_atomic_write_u32(&chunk->count, count + 1);
	pg_write_barrier();
	if (DsaPointerIsValid(chunk->index))
		for (uint32 i = 0; i < entry->count; i++)
			((volatile uint16 *) dsa_get_address(area, chunk->index))[entry->offset + i] = count + 1;
}

/* Who reads the chunk must not find the set before it is complete. */
static void
put_set(dsa_area *area, DeleteChunk *chunk, uint64 pos, uint64 successor, const uint64 *bits)
{
	dsa_pointer p = dsa_allocate(area, sizeof(DeleteSet));
	DeleteSet *set = dsa_get_address(area, p);

	set->next = chunk->sets;
	set->pos = pos;
	set->successor = successor;
	memcpy(set->bits, bits, sizeof(set->bits));
	pg_write_barrier();
	*(volatile dsa_pointer *) &chunk->sets = p;
}

/* Has it ends up to `frozen` that are not bits? */
static bool
may_freeze(dsa_area *area, DeleteChunk *chunk, uint64 frozen)
{
	for (uint32 i = 0; i < pg_atomic_read_u32(&chunk->count); i++)
		if (chunk->entries[i].pos <= frozen)
			return true;
	for (const DeleteSet *set = first_set(area, chunk); set; set = next_set(area, set))
		if (set->pos <= frozen)
			return true;
	return false;
}

/* ... or ends after `frozen`? */
static bool
has_newer(dsa_area *area, DeleteChunk *chunk, uint64 frozen)
{
	for (uint32 i = 0; i < pg_atomic_read_u32(&chunk->count); i++)
		if (chunk->entries[i].pos > frozen)
			return true;
	for (const DeleteSet *set = first_set(area, chunk); set; set = next_set(area, set))
		if (set->pos > frozen)
			return true;
	return false;
}

/*
 * Another chunk with all that is in the old one, and room for so many more entries.  Ends up to `frozen` are bits in it.
 */
static dsa_pointer
make_chunk(dsa_area *area, uint64 number, DeleteChunk *old, uint64 frozen, uint32 more)
{
	uint32 count = old ? pg_atomic_read_u32(&old->count) : 0;
	uint32 kept = 0, capacity = 8;
	uint64 *bits = NULL;
	DeleteChunk *chunk;
	dsa_pointer p;

	for (uint32 i = 0; i < count; i++)
		kept += old->entries[i].pos > frozen;
	while (capacity < kept * 2)
		capacity *= 4;
	capacity = Min(Max(capacity, kept + more), CHUNK_ROWS);
	p = dsa_allocate_extended(area, offsetof(DeleteChunk, entries) + capacity * sizeof(DeleteEntry), DSA_ALLOC_ZERO);
	chunk = dsa_get_address(area, p);
	chunk->number = number;
	chunk->capacity = capacity;
	pg_atomic_init_u32(&chunk->count, 0);
	if (capacity > CHUNK_SPARSE)
		chunk->index = dsa_allocate_extended(area, CHUNK_ROWS * sizeof(uint16), DSA_ALLOC_ZERO);
	if (old == NULL)
		return p;
	if (DsaPointerIsValid(old->bits) || may_freeze(area, old, frozen))
	{
		chunk->bits = dsa_allocate_extended(area, CHUNK_WORDS * sizeof(uint64), DSA_ALLOC_ZERO);
		bits = dsa_get_address(area, chunk->bits);
		if (DsaPointerIsValid(old->bits))
			add_bits(bits, dsa_get_address(area, old->bits));
	}
	for (uint32 i = 0; i < count; i++)
	{
		const DeleteEntry *entry = &old->entries[i];

		if (entry->pos > frozen)
			put_entry(area, chunk, entry);
		else
			for (uint32 j = 0; j < entry->count; j++)
				set_bit(bits, entry->offset + j);
	}
	for (const DeleteSet *set = first_set(area, old); set; set = next_set(area, set))
	{
		if (set->pos > frozen)
			put_set(area, chunk, set->pos, set->successor, set->bits);
		else
			add_bits(bits, set->bits);
	}
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
	for (dsa_pointer set = chunk->sets; DsaPointerIsValid(set);)
	{
		dsa_pointer next = ((DeleteSet *) dsa_get_address(node_dsa(node), set))->next;

		state_retire(node, set);
		set = next;
	}
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

/* ------------------------------------------------------------------------------------ adding ends */

/* Ends in one chunk, to be added together.  The publisher alone adds any. */
static struct
{
	S3Node *node;
	TableState *table;
	uint64 pos;
	uint64 number; /* of the chunk */
	uint32 n;
	DeleteEntry runs[CHUNK_ROWS];
} adding;

/* What is left of them without the rows that had ended before, or are in it twice. */
static DeleteEntry left[CHUNK_ROWS];

static uint32
leave_out_ended(dsa_area *area, DeleteChunk *chunk, uint64 *bits)
{
	uint32 n = 0;

	memset(bits, 0, CHUNK_WORDS * sizeof(uint64));
	for (uint32 r = 0; r < adding.n; r++)
	{
		const DeleteEntry *run = &adding.runs[r];
		DeleteEntry *part = NULL;

		for (uint32 i = 0; i < run->count; i++)
		{
			uint16 offset = run->offset + i;

			if (bit_is_set(bits, offset) ||
				(chunk &&
				 (has_bit(area, chunk, offset) || find_entry(area, chunk, offset) || find_set(area, chunk, offset))))
			{
				part = NULL;
				continue;
			}
			if (part == NULL)
			{
				part = &left[n++];
				*part = (DeleteEntry){adding.pos, successor_after(run->successor, i), offset, 0};
			}
			part->count++;
			set_bit(bits, offset);
		}
	}
	return n;
}

/* Do all of them have the same successor, which is no row? */
static bool
all_go_nowhere(uint32 n)
{
	for (uint32 i = 0; i < n; i++)
		if (left[i].successor != left[0].successor || (left[i].successor != ROW_NONE && left[i].successor != ROW_MOVED))
			return false;
	return true;
}

static void
add_chunk(void)
{
	S3Node *node = adding.node;
	dsa_area *area = node_dsa(node);
	uint64 frozen = pg_atomic_read_u64(&node->frozen);
	dsa_pointer p = chunk_pointer(area, adding.table, adding.number);
	DeleteChunk *chunk = DsaPointerIsValid(p) ? dsa_get_address(area, p) : NULL;
	uint64 bits[CHUNK_WORDS];
	uint32 n = leave_out_ended(area, chunk, bits);
	bool set = n * sizeof(DeleteEntry) > sizeof(DeleteSet) && all_go_nowhere(n);

	adding.n = 0;
	if (n == 0)
		return;
	if (chunk == NULL ||
		(set ? may_freeze(area, chunk, frozen) : pg_atomic_read_u32(&chunk->count) + n > chunk->capacity))
	{
		dsa_pointer grown = make_chunk(area, adding.number, chunk, frozen, set ? 0 : n);

		put_chunk(node, adding.table, adding.number, grown);
		if (chunk)
			retire_chunk(node, p);
		chunk = dsa_get_address(area, grown);
	}
	if (set)
		put_set(area, chunk, adding.pos, left[0].successor, bits);
	else
		for (uint32 i = 0; i < n; i++)
			put_entry(area, chunk, &left[i]);
	pg_atomic_fetch_add_u64(&adding.table->deleted, count_bits(bits, 0, CHUNK_ROWS));
	pg_atomic_write_u64(&adding.table->changed, adding.pos);
}

void
state_ends_begin(S3Node *node, TableState *table, uint64 pos)
{
	adding.node = node;
	adding.table = table;
	adding.pos = pos;
	adding.n = 0;
}

void
state_ends_add(uint64 row, uint64 successor)
{
	uint16 offset = row % CHUNK_ROWS;
	DeleteEntry *last;

	if (adding.n > 0 && (adding.number != row / CHUNK_ROWS || adding.n == CHUNK_ROWS))
		add_chunk();
	adding.number = row / CHUNK_ROWS;
	last = adding.n > 0 ? &adding.runs[adding.n - 1] : NULL;
	if (last && last->offset + last->count == offset && successor == successor_after(last->successor, last->count))
		last->count++;
	else
		adding.runs[adding.n++] = (DeleteEntry){adding.pos, successor, offset, 1};
}

void
state_ends_finish(void)
{
	if (adding.n > 0)
		add_chunk();
}

/* ------------------------------------------------------------------------------------ compaction */

void
state_mark_gone(S3Node *node, TableState *table, uint64 first_row, uint64 end_row)
{
	dsa_area *area = node_dsa(node);
	uint64 frozen = pg_atomic_read_u64(&node->frozen);

	for (uint64 number = first_row / CHUNK_ROWS; number * CHUNK_ROWS < end_row; number++)
	{
		uint64 start = number * CHUNK_ROWS;
		uint64 first = Max(first_row, start) - start, end = Min(end_row - start, CHUNK_ROWS);
		dsa_pointer old = chunk_pointer(area, table, number);
		uint64 known[CHUNK_WORDS] = {0}, *bits;
		DeleteChunk *chunk;
		dsa_pointer p;

		/* one that ended lately is still there for older snapshots; of others nothing need be known, since no batch had them */
		if (DsaPointerIsValid(old))
			note_chunk(area, dsa_get_address(area, old), known);
		if (count_bits(known, first, end) == end - first)
			continue;
		p = make_chunk(area, number, DsaPointerIsValid(old) ? dsa_get_address(area, old) : NULL, frozen, 0);
		chunk = dsa_get_address(area, p);
		if (!DsaPointerIsValid(chunk->bits))
			chunk->bits = dsa_allocate_extended(area, CHUNK_WORDS * sizeof(uint64), DSA_ALLOC_ZERO);
		bits = dsa_get_address(area, chunk->bits);
		for (int w = 0; w < CHUNK_WORDS; w++)
			bits[w] |= word_mask(w, first, end) & ~known[w];
		put_chunk(node, table, number, p);
		if (DsaPointerIsValid(old))
			retire_chunk(node, old);
	}
}

/* Does an array have rows of that range that some snapshot may read: the newest, which mostly does, or one of the history? */
static bool
snapshots_may_have(S3Node *node, TableState *table, uint64 first_row, uint64 end_row)
{
	uint64 pos = pg_atomic_read_u64(&node->frozen);
	uint32 count;
	const BatchArray *batches = state_batches(node, table, &count);
	bool has = state_may_have(batches, count, first_row, end_row);

	while (!has && pos != PG_UINT64_MAX)
	{
		batches = state_batches_at(node, table, pos, &count, &pos);
		has = state_may_have(batches, count, first_row, end_row);
	}
	return has;
}

void
state_forget_ends(S3Node *node, TableState *table, uint64 first_row, uint64 end_row)
{
	uint64 frozen = pg_atomic_read_u64(&node->frozen);
	uint64 next_row = pg_atomic_read_u64(&table->next_row);
	dsa_area *area = node_dsa(node);

	if (!DsaPointerIsValid(table->deletes))
		return;
	for (uint64 number = first_row / CHUNK_ROWS; number * CHUNK_ROWS < end_row; number++)
	{
		dsa_pointer p = chunk_pointer(area, table, number);
		DeleteChunk *chunk;
		bool old_ends, new_ends;

		if (!DsaPointerIsValid(p))
			continue;
		chunk = dsa_get_address(area, p);
		old_ends = may_freeze(area, chunk, frozen);
		new_ends = has_newer(area, chunk, frozen);
		/* rows beyond the last batch may still come */
		if ((number + 1) * CHUNK_ROWS <= next_row && !new_ends &&
			!snapshots_may_have(node, table, number * CHUNK_ROWS, (number + 1) * CHUNK_ROWS))
			put_chunk(node, table, number, InvalidDsaPointer);
		else if (old_ends)
			put_chunk(node, table, number, make_chunk(area, number, chunk, frozen, 0));
		else
			continue;
		retire_chunk(node, p);
	}
}
