/*
 * state.c: tables, batches and deletes in shared memory.
 *
 * The publisher is the only writer.  Readers take no lock: whatever they can reach is either never changed, or grows at its end
 * and says so by a counter that is written last, or is replaced as a whole by one pointer.  What was replaced is freed when
 * every process that might still look at it has ended its transaction (retire epochs).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"

#include "node/state.h"
#include "segment/batch.h"

#define TABLE_BUCKETS 4096
#define CHUNK_ROWS 4096 /* rows per chunk of deletes */
#define CHUNK_SPARSE 32 /* entries that are searched one by one */

typedef struct DeleteEntry
{
	uint64 pos;
	uint64 successor;
	uint16 offset; /* row % CHUNK_ROWS */
} DeleteEntry;

/* The deletes among CHUNK_ROWS consecutive rows. */
typedef struct DeleteChunk
{
	uint64 number; /* row / CHUNK_ROWS */
	uint32 capacity;
	pg_atomic_uint32 count;
	dsa_pointer index; /* uint16[CHUNK_ROWS]: entry + 1; invalid while sparse */
	DeleteEntry entries[FLEXIBLE_ARRAY_MEMBER];
} DeleteChunk;

/* Open-addressing table from chunk number to chunk. */
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

typedef struct Retired
{
	dsa_pointer next;
	dsa_pointer block;
	uint64 epoch;
} Retired;

typedef struct TableHash
{
	pg_atomic_uint64 buckets[TABLE_BUCKETS];
} TableHash;

static inline uint32
mix(uint64 x)
{
	x ^= x >> 33;
	x *= UINT64CONST(0xff51afd7ed558ccd);
	x ^= x >> 33;
	return (uint32) x;
}

/* ------------------------------------------------------------------------------------ pins */

void
state_pin(S3Node *node)
{
	NodeBackend *me = node_backend(MyProc->pgprocno);

	if (pg_atomic_read_u64(&me->pin) == 0)
	{
		pg_atomic_write_u64(&me->pin, *(volatile uint64 *) &node->retire_epoch);
		pg_memory_barrier();
	}
}

void
state_unpin_all(void)
{
	if (MyProc)
		pg_atomic_write_u64(&node_backend(MyProc->pgprocno)->pin, 0);
}

void
state_retire(S3Node *node, dsa_pointer block)
{
	dsa_area *area = node_dsa(node);
	dsa_pointer item = dsa_allocate(area, sizeof(Retired));
	Retired *r = dsa_get_address(area, item);

	r->block = block;
	r->epoch = node->retire_epoch;
	r->next = node->retired;
	node->retired = item;
	pg_memory_barrier();
	node->retire_epoch++;
}

void
state_reclaim(S3Node *node)
{
	dsa_area *area = node_dsa(node);
	uint64 oldest = node->retire_epoch;
	dsa_pointer *link = &node->retired;

	if (!DsaPointerIsValid(node->retired))
		return;
	pg_memory_barrier();
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		uint64 pin = pg_atomic_read_u64(&node_backend(i)->pin);

		if (pin != 0 && pin < oldest)
			oldest = pin;
	}
	while (DsaPointerIsValid(*link))
	{
		Retired *r = dsa_get_address(area, *link);

		if (r->epoch < oldest)
		{
			dsa_pointer item = *link;

			*link = r->next;
			dsa_free(area, r->block);
			dsa_free(area, item);
		}
		else
			link = &r->next;
	}
}

/* ------------------------------------------------------------------------------------ tables */

void
state_create(S3Node *node)
{
	dsa_area *area = node_dsa(node);

	if (DsaPointerIsValid(node->tables))
		return;
	node->retire_epoch = 1;
	node->tables = dsa_allocate_extended(area, sizeof(TableHash), DSA_ALLOC_ZERO);
}

TableState *
state_table(S3Node *node, uint64 storage)
{
	dsa_area *area = node_dsa(node);
	TableHash *hash;
	dsa_pointer p;

	if (!DsaPointerIsValid(node->tables))
		return NULL;
	hash = dsa_get_address(area, node->tables);
	p = pg_atomic_read_u64(&hash->buckets[mix(storage) % TABLE_BUCKETS]);
	while (DsaPointerIsValid(p))
	{
		TableState *table = dsa_get_address(area, p);

		if (table->storage == storage)
			return table;
		p = table->next;
	}
	return NULL;
}

TableState *
state_add_table(S3Node *node, uint64 storage, uint64 table_id, uint64 pos)
{
	dsa_area *area = node_dsa(node);
	TableHash *hash = dsa_get_address(area, node->tables);
	pg_atomic_uint64 *bucket = &hash->buckets[mix(storage) % TABLE_BUCKETS];
	TableState *table = state_table(node, storage);
	dsa_pointer p;

	if (table)
		return table;
	p = dsa_allocate_extended(area, sizeof(TableState), DSA_ALLOC_ZERO);
	table = dsa_get_address(area, p);
	table->storage = storage;
	table->table = table_id;
	table->created = pos;
	table->next = pg_atomic_read_u64(bucket);
	pg_write_barrier();
	pg_atomic_write_u64(bucket, p);
	return table;
}

void
state_drop_table(S3Node *node, uint64 storage, uint64 pos)
{
	TableState *table = state_table(node, storage);

	if (table && table->dropped == 0)
	{
		table->dropped = pos;
		pg_atomic_write_u64(&table->changed, pos);
	}
}

void
state_each(S3Node *node, StateEach each, void *arg)
{
	dsa_area *area = node_dsa(node);
	TableHash *hash;

	if (!DsaPointerIsValid(node->tables))
		return;
	hash = dsa_get_address(area, node->tables);
	for (int i = 0; i < TABLE_BUCKETS; i++)
	{
		dsa_pointer p = pg_atomic_read_u64(&hash->buckets[i]);

		while (DsaPointerIsValid(p))
		{
			TableState *table = dsa_get_address(area, p);

			each(arg, table);
			p = table->next;
		}
	}
}

/* ------------------------------------------------------------------------------------ batches */

const BatchArray *
state_batches(S3Node *node, TableState *table, uint32 *count)
{
	dsa_pointer p = *(volatile dsa_pointer *) &table->batches;
	BatchArray *array;

	if (!DsaPointerIsValid(p))
	{
		*count = 0;
		return NULL;
	}
	array = dsa_get_address(node_dsa(node), p);
	*count = pg_atomic_read_u32(&array->count);
	pg_read_barrier();
	return array;
}

int
state_find_batch(const BatchArray *batches, uint32 count, uint64 row)
{
	uint32 low = 0, high = count;

	while (low < high)
	{
		uint32 mid = low + (high - low) / 2;

		if (batches->entries[mid].first_row + batches->entries[mid].nrows <= row)
			low = mid + 1;
		else
			high = mid;
	}
	return low < count && batches->entries[low].first_row <= row ? (int) low : -1;
}

/* The table's own copy of a schema; there are few, and the newest is nearly always the one. */
static dsa_pointer
intern_schema(S3Node *node, TableState *table, const S3am__BatchSchema *schema)
{
	dsa_area *area = node_dsa(node);
	PackedSchema *packed = schema_pack(schema);
	dsa_pointer p;
	SchemaEntry *entry;

	for (p = table->schemas; DsaPointerIsValid(p); p = entry->next)
	{
		entry = dsa_get_address(area, p);
		if (schema_same(&entry->schema, packed))
			break;
	}
	if (!DsaPointerIsValid(p))
	{
		p = dsa_allocate_extended(area, offsetof(SchemaEntry, schema.bytes) + packed->len, DSA_ALLOC_HUGE);
		entry = dsa_get_address(area, p);
		entry->next = table->schemas;
		memcpy(&entry->schema, packed, offsetof(PackedSchema, bytes) + packed->len);
		table->schemas = p;
	}
	pfree(packed);
	return p;
}

void
state_add_batch(S3Node *node, TableState *table, const S3am__Batch *batch, const S3am__BatchSchema *schema,
				uint64 first_row, uint64 pos, uint32 xmin)
{
	dsa_area *area = node_dsa(node);
	uint32 count;
	BatchArray *array = (BatchArray *) state_batches(node, table, &count);
	BatchEntry *entry;

	if (array == NULL || count == array->capacity)
	{
		uint32 capacity = array ? array->capacity * 2 : 8;
		dsa_pointer p =
			dsa_allocate_extended(area, offsetof(BatchArray, entries) + capacity * sizeof(BatchEntry), DSA_ALLOC_HUGE);
		BatchArray *grown = dsa_get_address(area, p);

		grown->capacity = capacity;
		pg_atomic_init_u32(&grown->count, count);
		if (array)
		{
			memcpy(grown->entries, array->entries, count * sizeof(BatchEntry));
			state_retire(node, table->batches);
		}
		pg_write_barrier();
		table->batches = p;
		array = grown;
	}
	entry = &array->entries[count];
	memset(entry, 0, sizeof(*entry));
	entry->first_row = first_row;
	entry->nrows = batch->nrows;
	entry->pos = pos;
	entry->xmin = xmin;
	entry->schema = intern_schema(node, table, schema);
	if (!page_starts_check(batch))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the directory of pages of %s does not fit",
							   batch->segment ? segment_object(batch->segment->epoch, batch->segment->number)
											  : "rows in a manifest")));
	if (batch->pages)
	{
		entry->npages = batch->pages->n_rows;
		entry->pages = dsa_allocate_extended(area, sizeof(PageStart) * (entry->npages + (Size) 1), DSA_ALLOC_HUGE);
		page_starts_fill(batch, dsa_get_address(area, entry->pages));
	}
	if (batch->segment)
	{
		entry->epoch = batch->segment->epoch;
		entry->number = batch->segment->number;
		entry->size = batch->segment->size;
		entry->footer_size = batch->segment->footer_size;
		pg_atomic_fetch_add_u64(&table->bytes, batch->segment->size);
	}
	else
	{
		entry->len = batch->rows.len;
		entry->blob = dsa_allocate_extended(area, Max(batch->rows.len, 1), DSA_ALLOC_HUGE);
		memcpy(dsa_get_address(area, entry->blob), batch->rows.data, batch->rows.len);
		pg_atomic_fetch_add_u64(&table->bytes, batch->rows.len);
	}
	pg_write_barrier();
	pg_atomic_write_u32(&array->count, count + 1);
	pg_atomic_write_u64(&table->changed, pos);
	if (first_row + batch->nrows > pg_atomic_read_u64(&table->next_row))
		pg_atomic_write_u64(&table->next_row, first_row + batch->nrows);
}

/* ------------------------------------------------------------------------------------ deletes */

static DeleteChunk *
find_chunk(dsa_area *area, TableState *table, uint64 number)
{
	dsa_pointer p = *(volatile dsa_pointer *) &table->deletes;
	DeleteDirectory *directory;

	if (!DsaPointerIsValid(p))
		return NULL;
	directory = dsa_get_address(area, p);
	for (uint32 i = mix(number) & (directory->size - 1);; i = (i + 1) & (directory->size - 1))
	{
		uint64 key = pg_atomic_read_u64(&directory->slots[i].key);

		if (key == 0)
			return NULL;
		if (key == number + 1)
		{
			pg_read_barrier();
			return dsa_get_address(area, pg_atomic_read_u64(&directory->slots[i].chunk));
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

bool
state_row_ended(S3Node *node, TableState *table, uint64 row, RowEnd *end)
{
	dsa_area *area = node_dsa(node);
	DeleteChunk *chunk = find_chunk(area, table, row / CHUNK_ROWS);
	DeleteEntry *entry = chunk ? find_entry(area, chunk, row % CHUNK_ROWS) : NULL;

	if (entry == NULL)
		return false;
	end->pos = entry->pos;
	end->successor = entry->successor;
	return true;
}

static dsa_pointer
make_chunk(dsa_area *area, uint64 number, uint32 capacity, DeleteChunk *old)
{
	dsa_pointer p =
		dsa_allocate_extended(area, offsetof(DeleteChunk, entries) + capacity * sizeof(DeleteEntry), DSA_ALLOC_ZERO);
	DeleteChunk *chunk = dsa_get_address(area, p);
	uint32 count = old ? pg_atomic_read_u32(&old->count) : 0;

	chunk->number = number;
	chunk->capacity = capacity;
	if (capacity > CHUNK_SPARSE)
	{
		uint16 *index;

		chunk->index = dsa_allocate_extended(area, CHUNK_ROWS * sizeof(uint16), DSA_ALLOC_ZERO);
		index = dsa_get_address(area, chunk->index);
		for (uint32 i = 0; i < count; i++)
			index[old->entries[i].offset] = i + 1;
	}
	if (count)
		memcpy(chunk->entries, old->entries, count * sizeof(DeleteEntry));
	pg_atomic_init_u32(&chunk->count, count);
	return p;
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
		uint32 size = directory ? directory->size * 2 : 16;
		dsa_pointer p =
			dsa_allocate_extended(area, offsetof(DeleteDirectory, slots) + size * sizeof(directory->slots[0]),
								  DSA_ALLOC_ZERO | DSA_ALLOC_HUGE);
		DeleteDirectory *grown = dsa_get_address(area, p);

		grown->size = size;
		for (uint32 i = 0; directory && i < directory->size; i++)
		{
			uint64 key = pg_atomic_read_u64(&directory->slots[i].key);
			uint32 j = mix(key - 1) & (size - 1);

			if (key == 0)
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
	for (uint32 i = mix(number) & (directory->size - 1);; i = (i + 1) & (directory->size - 1))
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
	for (uint32 i = mix(number) & (directory->size - 1);; i = (i + 1) & (directory->size - 1))
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

	if (chunk && find_entry(area, chunk, offset))
		return;
	count = chunk ? pg_atomic_read_u32(&chunk->count) : 0;
	if (chunk == NULL || count == chunk->capacity)
	{
		uint32 capacity = chunk ? Min(chunk->capacity * 4, CHUNK_ROWS) : 8;
		dsa_pointer grown = make_chunk(area, number, capacity, chunk);

		put_chunk(node, table, number, grown);
		if (chunk)
		{
			if (DsaPointerIsValid(chunk->index))
				state_retire(node, chunk->index);
			state_retire(node, p);
		}
		chunk = dsa_get_address(area, grown);
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
