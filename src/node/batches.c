/*
 * batches.c: the batches of a table, and those that compaction replaced.
 *
 * An array grows at its end only.  Compaction makes another one and keeps the old one as history: which of them a snapshot reads
 * depends on the position up to which it sees.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "utils/memutils.h"

#include "node/bucket.h"
#include "node/state.h"
#include "segment/batch.h"

void
state_batch_source(S3Node *node, const BatchEntry *entry, BatchSource *source)
{
	dsa_area *area = node_dsa(node);

	memset(source, 0, sizeof(*source));
	source->first = entry->first_row;
	source->nrows = entry->nrows;
	source->npages = entry->npages;
	source->pages = DsaPointerIsValid(entry->pages) ? dsa_get_address(area, entry->pages) : NULL;
	if (DsaPointerIsValid(entry->blob))
	{
		source->blob = dsa_get_address(area, entry->blob);
		source->len = entry->len;
	}
	else
	{
		source->cache_owner = node->cache_owner;
		source->epoch = entry->epoch;
		source->number = entry->number;
		source->len = entry->size - entry->footer_size;
		source->identity = segment_identity(bucket_repository_uuid(), entry->epoch, entry->number);
	}
}

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

/*
 * Compaction links what it replaces into the history before it stores the new array.  So whoever finds the new array finds the
 * old one as well.
 */
const BatchArray *
state_batches_at(S3Node *node, TableState *table, uint64 pos, uint32 *count, uint64 *until)
{
	const BatchArray *now = state_batches(node, table, count);
	dsa_area *area = node_dsa(node);
	dsa_pointer p;

	pg_read_barrier();
	p = *(volatile dsa_pointer *) &table->history;
	while (DsaPointerIsValid(p))
	{
		BatchHistory *history = dsa_get_address(area, p);

		if (history->until > pos)
		{
			BatchArray *array = dsa_get_address(area, history->batches);

			*count = pg_atomic_read_u32(&array->count);
			*until = history->until;
			return array;
		}
		p = *(volatile dsa_pointer *) &history->next;
	}
	*until = PG_UINT64_MAX;
	return now;
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

/* What the values of rows mean, whether each has an xmin of its own or not. */
static uint64
rows_hash(const S3am__BatchSchema *schema)
{
	S3am__BatchSchema rows;
	PackedSchema *packed;
	uint64 hash;

	if (schema == NULL)
		return 0;
	rows = *schema;
	schema_remove_xmin(&rows);
	packed = schema_pack(&rows);
	hash = packed->hash;
	pfree(packed);
	return hash;
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
		entry->rows = rows_hash(schema);
		memcpy(&entry->schema, packed, offsetof(PackedSchema, bytes) + packed->len);
		table->schemas = p;
	}
	pfree(packed);
	return p;
}


/* Bytes of inline rows, uncompressed, as their pages and chunks say.  Whether that is true shows when they are read. */
static uint64
inline_raw(const ProtobufCBinaryData *rows)
{
	uint64 raw = 0;

	for (Size offset = 0; offset + sizeof(ExtentHeader) <= rows->len;)
	{
		ExtentHeader header;

		memcpy(&header, rows->data + offset, sizeof(header));
		raw += header.raw;
		offset += TYPEALIGN(8, sizeof(header) + (Size) header.stored);
	}
	return raw;
}

/* schema: a SchemaEntry of the table */
static void
fill_entry(S3Node *node, BatchEntry *entry, const S3am__Batch *batch, dsa_pointer schema, uint64 first_row, uint64 pos,
		   uint32 xmin)
{
	dsa_area *area = node_dsa(node);

	memset(entry, 0, sizeof(*entry));
	entry->first_row = first_row;
	entry->nrows = batch->nrows;
	entry->gone = Min(batch->gone, batch->nrows);
	entry->pos = pos;
	entry->xmin = xmin;
	entry->schema = schema;
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
		entry->raw = batch->segment->live_bytes;
		return;
	}
	entry->len = batch->rows.len;
	entry->raw = inline_raw(&batch->rows);
	entry->blob = dsa_allocate_extended(area, Max(batch->rows.len, 1), DSA_ALLOC_HUGE);
	memcpy(dsa_get_address(area, entry->blob), batch->rows.data, batch->rows.len);
}

/* Bytes of batches, stored, and memory of those that are yet to be merged. */
typedef struct Account
{
	uint64 bytes, small;
} Account;

static inline void
account_add(Account *sum, const BatchEntry *entry)
{
	bool is_inline = DsaPointerIsValid(entry->blob);

	sum->bytes += is_inline ? entry->len : entry->size;
	if (is_inline || entry->raw < BATCH_SMALL)
		sum->small +=
			sizeof(BatchEntry) + (is_inline ? entry->len : 0) + sizeof(PageStart) * (entry->npages + (Size) 1);
}

/* Adds them to what is told of the table, or takes them out. */
static void
account_tell(S3Node *node, TableState *table, const Account *sum, bool added)
{
	pg_atomic_fetch_add_u64(&table->bytes, added ? sum->bytes : -sum->bytes);
	pg_atomic_fetch_add_u64(&node->small_bytes, added ? sum->small : -sum->small);
}

static void
account(S3Node *node, TableState *table, const BatchEntry *entry, bool added)
{
	Account sum = {0};

	account_add(&sum, entry);
	account_tell(node, table, &sum, added);
}

static BatchArray *
make_array(S3Node *node, uint32 capacity, dsa_pointer *p)
{
	BatchArray *array;

	*p = dsa_allocate_extended(node_dsa(node), offsetof(BatchArray, entries) + capacity * sizeof(BatchEntry),
							   DSA_ALLOC_HUGE);
	array = dsa_get_address(node_dsa(node), *p);
	array->capacity = capacity;
	pg_atomic_init_u32(&array->count, 0);
	return array;
}

void
state_add_batch(S3Node *node, TableState *table, const S3am__Batch *batch, const S3am__BatchSchema *schema,
				uint64 first_row, uint64 pos, uint32 xmin)
{
	uint32 count;
	BatchArray *array = (BatchArray *) state_batches(node, table, &count);

	if (array == NULL || count == array->capacity)
	{
		dsa_pointer p;
		BatchArray *grown = make_array(node, array ? array->capacity * 2 : 8, &p);

		if (array)
		{
			memcpy(grown->entries, array->entries, count * sizeof(BatchEntry));
			pg_atomic_write_u32(&grown->count, count);
			state_retire(node, table->batches);
		}
		pg_write_barrier();
		table->batches = p;
		array = grown;
	}
	fill_entry(node, &array->entries[count], batch, intern_schema(node, table, schema), first_row, pos, xmin);
	account(node, table, &array->entries[count], true);
	pg_write_barrier();
	pg_atomic_write_u32(&array->count, count + 1);
	pg_atomic_write_u64(&table->changed, pos);
	if (first_row + batch->nrows > pg_atomic_read_u64(&table->next_row))
		pg_atomic_write_u64(&table->next_row, first_row + batch->nrows);
}

/* ------------------------------------------------------------------------------------ compaction */

/* The edit's batches, from its first row on. */
static BatchEntry *
fill_entries(S3Node *node, TableState *table, const S3am__TableEdit *edit, uint64 pos, uint32 xmin)
{
	BatchEntry *entries = palloc(sizeof(BatchEntry) * Max(edit->n_batches, 1));
	dsa_pointer schema = InvalidDsaPointer;
	uint64 row = edit->first_row;

	for (size_t i = 0; i < edit->n_batches; i++)
	{
		if (edit->batches[i]->schema || i == 0)
			schema = intern_schema(node, table, edit->batches[i]->schema);
		fill_entry(node, &entries[i], edit->batches[i], schema, row, pos, xmin);
		row += edit->batches[i]->nrows;
	}
	return entries;
}

static void
misfit(const TableState *table)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("a compaction in a manifest does not fit the batches of storage " UINT64_FORMAT, table->storage)));
}

/* Both must be valid; the entry that comes last in the history of its kind. */
static void
link_history(S3Node *node, TableState *table, dsa_pointer p)
{
	dsa_area *area = node_dsa(node);

	if (DsaPointerIsValid(node->history))
		((BatchHistory *) dsa_get_address(area, node->history_last))->next_of_all = p;
	else
		node->history = p;
	node->history_last = p;
	pg_write_barrier();
	if (DsaPointerIsValid(table->history))
		((BatchHistory *) dsa_get_address(area, table->history_last))->next = p;
	else
		table->history = p;
	table->history_last = p;
}

/* Rows between those that the dropped batches have, as far as the new ones cover them. */
static void
mark_gaps(S3Node *node, TableState *table, const BatchArray *old, uint32 count, const S3am__TableEdit *edit)
{
	uint64 end_row = edit->first_row, next = edit->first_row;

	for (size_t i = 0; i < edit->n_batches; i++)
		end_row += edit->batches[i]->nrows;
	for (size_t d = 0; d < edit->n_drop_batches && next < end_row; d++)
	{
		const BatchEntry *entry = &old->entries[state_find_batch(old, count, edit->drop_batches[d])];

		if (entry->first_row > next)
			state_mark_gone(node, table, next, Min(entry->first_row, end_row));
		next = Max(next, entry->first_row + entry->nrows);
	}
}

void
state_replace_batches(S3Node *node, TableState *table, const S3am__TableEdit *edit, uint64 pos, uint32 xmin)
{
	dsa_area *area = node_dsa(node);
	uint32 count;
	const BatchArray *old = state_batches(node, table, &count);
	size_t drops = edit->n_drop_batches;
	int first = drops && old ? state_find_batch(old, count, edit->drop_batches[0]) : -1;
	size_t d = 0, next = 0;
	uint32 n = 0;
	BatchEntry *entries;
	BatchArray *array;
	BatchHistory *history;
	dsa_pointer array_p, history_p;

	/* done before: what was dropped is not there, or what is there came with this */
	if (first < 0 || old->entries[first].first_row != edit->drop_batches[0] || old->entries[first].pos >= pos)
		return;
	entries = fill_entries(node, table, edit, pos, xmin);
	array = make_array(node, Max(count + edit->n_batches, 8), &array_p);
	history_p = dsa_allocate_extended(area, offsetof(BatchHistory, blocks) + sizeof(dsa_pointer) * 2 * (drops + 1),
									  DSA_ALLOC_HUGE | DSA_ALLOC_ZERO);
	history = dsa_get_address(area, history_p);
	history->table = table->self;
	history->batches = table->batches;
	history->until = pos;
	history->first_row = edit->drop_batches[0];
	for (uint32 i = 0; i <= count; i++)
	{
		const BatchEntry *entry = &old->entries[i];

		while (next < edit->n_batches && (i == count || entries[next].first_row <= entry->first_row))
			array->entries[n++] = entries[next++];
		if (i == count)
			break;
		if (d < drops && entry->first_row == edit->drop_batches[d])
		{
			d++;
			history->end_row = entry->first_row + entry->nrows;
			if (DsaPointerIsValid(entry->blob))
				history->blocks[history->nblocks++] = entry->blob;
			if (DsaPointerIsValid(entry->pages))
				history->blocks[history->nblocks++] = entry->pages;
		}
		else
			array->entries[n++] = *entry;
	}
	if (d != drops)
		misfit(table);
	mark_gaps(node, table, old, count, edit);
	for (uint32 i = 1; i < n; i++)
		if (array->entries[i - 1].first_row + array->entries[i - 1].nrows > array->entries[i].first_row)
			misfit(table);
	if (n > 0 && array->entries[n - 1].first_row + array->entries[n - 1].nrows > pg_atomic_read_u64(&table->next_row))
		misfit(table);
	pg_atomic_write_u32(&array->count, n);

	/* from here on nothing can fail */
	for (size_t i = 0; i < edit->n_batches; i++)
		account(node, table, &entries[i], true);
	d = 0;
	for (uint32 i = first; d < drops; i++)
		if (old->entries[i].first_row == edit->drop_batches[d])
		{
			account(node, table, &old->entries[i], false);
			d++;
		}
	link_history(node, table, history_p);
	pg_write_barrier();
	table->batches = array_p;
	pg_atomic_write_u64(&table->compacted, pos);
	pfree(entries);
}

/* ------------------------------------------------------------------------------------ checkpoints */

#define EXPECT_BATCHES 16384

struct BatchesRestore
{
	S3Node *node;
	TableState *table;
	const BatchArray *old;
	uint32 nold;
	bool *kept; /* of the old ones */
	bool changed;
	dsa_pointer array_p; /* the new ones, in their place at once: there may be a hundred thousand */
	BatchArray *array;
	bool *added; /* of the new ones: not among the old ones */
	uint32 n;
	dsa_pointer schema; /* of the last batch */
	MemoryContextCallback callback;
};

static void
free_entry(dsa_area *area, const BatchEntry *entry)
{
	if (DsaPointerIsValid(entry->blob))
		dsa_free(area, entry->blob);
	if (DsaPointerIsValid(entry->pages))
		dsa_free(area, entry->pages);
}

/* A page could not be read, and all is tried again from the beginning: what is not in the table yet goes. */
static void
restore_memory_goes(void *arg)
{
	BatchesRestore *r = arg;
	dsa_area *area = node_dsa(r->node);

	if (!DsaPointerIsValid(r->array_p))
		return;
	for (uint32 i = 0; i < r->n; i++)
		if (r->added[i])
			free_entry(area, &r->array->entries[i]);
	dsa_free(area, r->array_p);
}

BatchesRestore *
state_restore_begin(S3Node *node, TableState *table)
{
	BatchesRestore *r = palloc0(sizeof(BatchesRestore));

	r->node = node;
	r->table = table;
	r->old = state_batches(node, table, &r->nold);
	r->kept = MemoryContextAllocExtended(CurrentMemoryContext, Max(r->nold, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	r->callback.func = restore_memory_goes;
	r->callback.arg = r;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &r->callback);
	return r;
}

/* Pages that are about to be written, at once: that takes a quarter of the time of a fault for each. */
static void
populate(void *from, Size len)
{
#ifdef MADV_POPULATE_WRITE
	uintptr_t page = sysconf(_SC_PAGESIZE);
	uintptr_t first = (uintptr_t) from / page * page;

	(void) madvise((void *) first, (uintptr_t) from + len - first, MADV_POPULATE_WRITE);
#endif
}

void
state_restore_expect(BatchesRestore *r, uint64 next, uint64 later)
{
	dsa_pointer p;
	BatchArray *array;
	uint64 n, capacity;

	if (r->array && r->array->capacity >= r->n + next)
		return;
	/* a guess from few may be far too high */
	n = r->n + next + Min(later, EXPECT_BATCHES + 16 * (uint64) r->n);
	/* room for what comes next as well, or the first commit would copy it all */
	capacity = n + n / 16 + 8;
	if (capacity > PG_UINT32_MAX)
		misfit(r->table);
	r->added = r->array ? repalloc_huge(r->added, sizeof(bool) * capacity)
						: MemoryContextAllocHuge(CurrentMemoryContext, sizeof(bool) * capacity);
	array = make_array(r->node, capacity, &p);
	populate(array->entries, sizeof(BatchEntry) * n);
	if (r->array)
	{
		memcpy(array->entries, r->array->entries, sizeof(BatchEntry) * r->n);
		dsa_free(node_dsa(r->node), r->array_p);
	}
	r->array_p = p;
	r->array = array;
}

void
state_restore_batch(BatchesRestore *r, const S3am__Batch *batch, const S3am__BatchSchema *schema, uint64 first_row,
					uint64 pos, uint32 xmin)
{
	int i = r->old ? state_find_batch(r->old, r->nold, first_row) : -1;
	const BatchEntry *old = i >= 0 ? &r->old->entries[i] : NULL;
	BatchEntry *entry;

	if (r->array == NULL || r->n == r->array->capacity)
		state_restore_expect(r, 1, Max(r->n, 8));
	entry = &r->array->entries[r->n];
	if (r->n > 0 && entry[-1].first_row + entry[-1].nrows > first_row)
		misfit(r->table);
	if (schema || r->n == 0)
		r->schema = intern_schema(r->node, r->table, schema);
	r->added[r->n] = !(old && old->first_row == first_row && old->nrows == batch->nrows &&
					   POS_VERSION(old->pos) == POS_VERSION(pos));
	if (!r->added[r->n])
	{
		r->kept[i] = true;
		*entry = *old;
	}
	else
	{
		fill_entry(r->node, entry, batch, r->schema, first_row, pos, xmin);
		r->changed = true;
	}
	r->n++;
}

bool
state_restored(const BatchesRestore *r, uint64 row)
{
	return r->n > 0 && state_find_batch(r->array, r->n, row) >= 0;
}

void
state_restore_end(BatchesRestore *r, uint64 pos)
{
	dsa_area *area = node_dsa(r->node);
	TableState *table = r->table;
	dsa_pointer array_p = r->array_p, history_p = InvalidDsaPointer;
	const BatchEntry *last = r->n ? &r->array->entries[r->n - 1] : NULL;
	Account added = {0}, removed = {0};
	uint64 next_row = last ? last->first_row + last->nrows : 0;

	for (uint32 i = 0; i < r->nold; i++)
		r->changed |= !r->kept[i];
	if (!r->changed)
		return;
	if (r->array == NULL)
	{
		state_restore_expect(r, 0, 0);
		array_p = r->array_p;
	}
	pg_atomic_write_u32(&r->array->count, r->n);
	if (r->old)
	{
		BatchHistory *history;

		history_p = dsa_allocate_extended(area, offsetof(BatchHistory, blocks) + sizeof(dsa_pointer) * 2 * r->nold,
										  DSA_ALLOC_HUGE | DSA_ALLOC_ZERO);
		history = dsa_get_address(area, history_p);
		history->table = table->self;
		history->batches = table->batches;
		history->until = pos;
		history->end_row = Max(next_row, pg_atomic_read_u64(&table->next_row));
		for (uint32 i = 0; i < r->nold; i++)
		{
			if (r->kept[i])
				continue;
			if (DsaPointerIsValid(r->old->entries[i].blob))
				history->blocks[history->nblocks++] = r->old->entries[i].blob;
			if (DsaPointerIsValid(r->old->entries[i].pages))
				history->blocks[history->nblocks++] = r->old->entries[i].pages;
		}
	}
	/* from here on nothing can fail */
	for (uint32 i = 0; i < r->n; i++)
		if (r->added[i])
			account_add(&added, &r->array->entries[i]);
	for (uint32 i = 0; i < r->nold; i++)
		if (!r->kept[i])
			account_add(&removed, &r->old->entries[i]);
	account_tell(r->node, table, &added, true);
	account_tell(r->node, table, &removed, false);
	r->array_p = InvalidDsaPointer;
	if (DsaPointerIsValid(history_p))
		link_history(r->node, table, history_p);
	pg_write_barrier();
	table->batches = array_p;
	pg_atomic_write_u64(&table->changed, pos);
	if (next_row > pg_atomic_read_u64(&table->next_row))
		pg_atomic_write_u64(&table->next_row, next_row);
}

/* ------------------------------------------------------------------------------------ what nobody needs any more */

void
state_forget(S3Node *node)
{
	dsa_area *area = node_dsa(node);
	uint64 frozen = pg_atomic_read_u64(&node->frozen);

	while (DsaPointerIsValid(node->history))
	{
		dsa_pointer p = node->history;
		BatchHistory *history = dsa_get_address(area, p);
		TableState *table = dsa_get_address(area, history->table);

		if (history->until > frozen)
			break;
		state_forget_ends(node, table, history->first_row, history->end_row);
		node->history = history->next_of_all;
		table->history = history->next;
		state_retire(node, history->batches);
		for (uint32 i = 0; i < history->nblocks; i++)
			state_retire(node, history->blocks[i]);
		state_retire(node, p);
	}
}
