/*
 * batches.c: the batches of a table change; those that compaction replaced.  lookup.c finds them.
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

/* What the values of rows mean, whether each has an xmin of its own or not. */
uint64
state_rows_hash(const S3am__BatchSchema *schema)
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
find_schema(S3Node *node, const TableState *table, const PackedSchema *packed)
{
	dsa_area *area = node_dsa(node);
	dsa_pointer p = table->schemas;

	while (DsaPointerIsValid(p) && !schema_same(&((SchemaEntry *) dsa_get_address(area, p))->schema, packed))
		p = ((SchemaEntry *) dsa_get_address(area, p))->next;
	return p;
}

static dsa_pointer
add_schema(S3Node *node, TableState *table, const PackedSchema *packed, uint64 rows)
{
	dsa_area *area = node_dsa(node);
	dsa_pointer p = dsa_allocate_extended(area, offsetof(SchemaEntry, schema.bytes) + packed->len, DSA_ALLOC_HUGE);
	SchemaEntry *entry = dsa_get_address(area, p);

	entry->next = table->schemas;
	entry->rows = rows;
	memcpy(&entry->schema, packed, offsetof(PackedSchema, bytes) + packed->len);
	table->schemas = p;
	return p;
}

static dsa_pointer
intern_schema(S3Node *node, TableState *table, const S3am__BatchSchema *schema)
{
	PackedSchema *packed = schema_pack(schema);
	dsa_pointer p = find_schema(node, table, packed);

	if (!DsaPointerIsValid(p))
		p = add_schema(node, table, packed, state_rows_hash(schema));
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

void
state_describe_batch(BatchEntry *entry, const S3am__Batch *batch, uint64 first_row, uint64 pos, uint32 xmin)
{
	memset(entry, 0, sizeof(*entry));
	entry->first_row = first_row;
	entry->nrows = batch->nrows;
	entry->gone = Min(batch->gone, batch->nrows);
	entry->inner = batch->inner;
	entry->row_base = batch->row_base;
	entry->continues = batch->continues;
	filter_describe(&entry->filter, batch);
	entry->pos = pos;
	entry->xmin = xmin;
	if (!page_starts_check(batch))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the directory of pages of %s does not fit",
							   batch->segment ? segment_object(batch->segment->epoch, batch->segment->number)
											  : "rows in a manifest")));
	if (batch->pages)
		entry->npages = batch->pages->n_rows;
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
}

/* schema: a SchemaEntry of the table */
static void
fill_entry(S3Node *node, BatchEntry *entry, const S3am__Batch *batch, dsa_pointer schema, uint64 first_row, uint64 pos,
		   uint32 xmin)
{
	dsa_area *area = node_dsa(node);

	state_describe_batch(entry, batch, first_row, pos, xmin);
	entry->schema = schema;
	if (batch->pages)
	{
		entry->pages = dsa_allocate_extended(area, sizeof(PageStart) * (entry->npages + (Size) 1), DSA_ALLOC_HUGE);
		page_starts_fill(batch, dsa_get_address(area, entry->pages));
	}
	if (batch->segment)
		return;
	entry->blob = dsa_allocate_extended(area, Max(batch->rows.len, 1), DSA_ALLOC_HUGE);
	memcpy(dsa_get_address(area, entry->blob), batch->rows.data, batch->rows.len);
}

static dsa_pointer
copy_block(dsa_area *area, dsa_pointer from, Size len)
{
	dsa_pointer p = dsa_allocate_extended(area, Max(len, 1), DSA_ALLOC_HUGE);

	memcpy(dsa_get_address(area, p), dsa_get_address(area, from), len);
	return p;
}

/* A batch of a leaf, with blocks of its own. */
static void
copy_entry(S3Node *node, TableState *table, BatchEntry *entry, const BatchEntry *of_leaf)
{
	dsa_area *area = node_dsa(node);
	const SchemaEntry *schema = dsa_get_address(area, of_leaf->schema);

	*entry = *of_leaf;
	entry->schema = find_schema(node, table, &schema->schema);
	if (!DsaPointerIsValid(entry->schema))
		entry->schema = add_schema(node, table, &schema->schema, schema->rows);
	if (DsaPointerIsValid(entry->pages))
		entry->pages = copy_block(area, of_leaf->pages, sizeof(PageStart) * (entry->npages + (Size) 1));
	if (DsaPointerIsValid(entry->blob))
		entry->blob = copy_block(area, of_leaf->blob, entry->len);
}

/* Bytes of batches, stored, and memory of those that are yet to be merged. */
typedef struct Account
{
	uint64 bytes, small;
} Account;

static inline void
account_add(S3Node *node, Account *sum, const BatchEntry *entry)
{
	bool is_inline = DsaPointerIsValid(entry->blob);

	if (DsaPointerIsValid(entry->leaf))
	{
		const BaseLeaf *leaf = dsa_get_address(node_dsa(node), entry->leaf);

		sum->bytes += leaf->bytes;
		sum->small += leaf->small * sizeof(BatchEntry) + leaf->small_bytes;
		return;
	}
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

	account_add(node, &sum, entry);
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

/* Who makes something of an array takes its generation before and after he has found it (index/fresh.c). */
static void
replace_array(TableState *table, dsa_pointer array)
{
	pg_atomic_fetch_add_u64(&table->generation, 1);
	pg_write_barrier();
	table->batches = array;
	pg_write_barrier();
	pg_atomic_fetch_add_u64(&table->generation, 1);
}

/* Rows between those that the dropped batches have, as far as the new ones cover them. */
static void
mark_gaps(S3Node *node, TableState *table, const BatchEntry *const *dropped, const S3am__TableEdit *edit)
{
	uint64 end_row = edit->first_row, next = edit->first_row;

	for (size_t i = 0; i < edit->n_batches; i++)
		end_row += edit->batches[i]->nrows;
	for (size_t d = 0; d < edit->n_drop_batches && next < end_row; d++)
	{
		if (dropped[d]->first_row > next)
			state_mark_gone(node, table, next, Min(dropped[d]->first_row, end_row));
		next = Max(next, dropped[d]->first_row + dropped[d]->nrows);
	}
}

/* A compaction's edit being put in place. */
typedef struct Replacing
{
	S3Node *node;
	TableState *table;
	const S3am__TableEdit *edit;
	const BatchEntry *entries; /* the edit's */
	size_t next; /* of them */
	const BatchEntry **dropped;
	size_t d;
	BatchArray *array; /* the new one */
	uint32 n;
	BatchHistory *history;
} Replacing;

/* The edit's batches that come before the row. */
static void
place_new(Replacing *r, uint64 row)
{
	while (r->next < r->edit->n_batches && r->entries[r->next].first_row <= row)
		r->array->entries[r->n++] = r->entries[r->next++];
}

/* A batch that was there: stays or is dropped. */
static void
place_old(Replacing *r, const BatchEntry *entry, bool of_leaf)
{
	BatchHistory *history = r->history;

	place_new(r, entry->first_row);
	if (r->d < r->edit->n_drop_batches && entry->first_row == r->edit->drop_batches[r->d])
	{
		r->dropped[r->d++] = entry;
		history->end_row = entry->first_row + entry->nrows;
		if (!of_leaf && DsaPointerIsValid(entry->blob))
			history->blocks[history->nleaves + history->nblocks++] = entry->blob;
		if (!of_leaf && DsaPointerIsValid(entry->pages))
			history->blocks[history->nleaves + history->nblocks++] = entry->pages;
	}
	else if (of_leaf)
		copy_entry(r->node, r->table, &r->array->entries[r->n++], entry);
	else
		r->array->entries[r->n++] = *entry;
}

/* Does the edit drop a batch that lies in the leaf?  d: where to look from. */
static bool
leaf_is_touched(const BatchEntry *leaf, const S3am__TableEdit *edit, size_t *d)
{
	while (*d < edit->n_drop_batches && edit->drop_batches[*d] < leaf->first_row)
		(*d)++;
	return *d < edit->n_drop_batches && edit->drop_batches[*d] < leaf->first_row + leaf->nrows;
}

void
state_replace_batches(S3Node *node, TableState *table, const S3am__TableEdit *edit, uint64 pos, uint32 xmin)
{
	dsa_area *area = node_dsa(node);
	uint32 count, nleaves = 0;
	const BatchArray *old = state_batches(node, table, &count);
	size_t drops = edit->n_drop_batches, d = 0;
	const BatchEntry *first = drops && old ? state_find_batch(node, old, count, edit->drop_batches[0], NULL) : NULL;
	Size capacity = count + edit->n_batches;
	Replacing r = {node, table, edit};
	BatchEntry *entries;
	dsa_pointer array_p, history_p;

	/* done before: what was dropped is not there, or what is there came with this */
	if (first == NULL || first->first_row != edit->drop_batches[0] || first->pos >= pos)
		return;
	/* a leaf in which batches are dropped becomes batches of the table's own; it is read now, before anything has changed */
	for (uint32 i = 0; i < count; i++)
		if (DsaPointerIsValid(old->entries[i].leaf) && leaf_is_touched(&old->entries[i], edit, &d))
		{
			capacity += state_leaf_batches(node, &old->entries[i])->capacity;
			nleaves++;
		}
	if (capacity > PG_UINT32_MAX)
		misfit(table);
	r.entries = entries = fill_entries(node, table, edit, pos, xmin);
	r.array = make_array(node, Max(capacity, 8), &array_p);
	r.dropped = palloc(sizeof(BatchEntry *) * drops);
	history_p =
		dsa_allocate_extended(area, offsetof(BatchHistory, blocks) + sizeof(dsa_pointer) * (nleaves + 2 * (drops + 1)),
							  DSA_ALLOC_HUGE | DSA_ALLOC_ZERO);
	r.history = dsa_get_address(area, history_p);
	r.history->table = table->self;
	r.history->batches = table->batches;
	r.history->until = pos;
	r.history->first_row = edit->drop_batches[0];
	d = 0;
	for (uint32 i = 0; i < count; i++)
		if (DsaPointerIsValid(old->entries[i].leaf) && leaf_is_touched(&old->entries[i], edit, &d))
			r.history->blocks[r.history->nleaves++] = old->entries[i].leaf;
	d = 0;
	for (uint32 i = 0; i < count; i++)
	{
		const BatchEntry *entry = &old->entries[i];

		if (DsaPointerIsValid(entry->leaf) && leaf_is_touched(entry, edit, &d))
		{
			const BatchArray *leaf = state_leaf_batches(node, entry);

			for (uint32 j = 0; j < leaf->capacity; j++)
				place_old(&r, &leaf->entries[j], true);
		}
		else
			place_old(&r, entry, false);
	}
	place_new(&r, PG_UINT64_MAX);
	if (r.d != drops)
		misfit(table);
	if (table->rows_of == 0)
		mark_gaps(node, table, r.dropped, edit);
	for (uint32 i = 1; i < r.n; i++)
		if (r.array->entries[i - 1].first_row + r.array->entries[i - 1].nrows > r.array->entries[i].first_row)
			misfit(table);
	if (r.n > 0 &&
		r.array->entries[r.n - 1].first_row + r.array->entries[r.n - 1].nrows > pg_atomic_read_u64(&table->next_row))
		misfit(table);
	pg_atomic_write_u32(&r.array->count, r.n);

	/* from here on nothing can fail */
	for (size_t i = 0; i < edit->n_batches; i++)
		account(node, table, &entries[i], true);
	for (size_t i = 0; i < drops; i++)
		account(node, table, r.dropped[i], false);
	link_history(node, table, history_p);
	replace_array(table, array_p);
	/* its entries are in the runs that are there now, but for those that are gone */
	if (table->rows_of)
		state_retire_fresh(node, table);
	pg_atomic_write_u64(&table->compacted, pos);
	pfree(r.dropped);
	pfree(entries);
}

/* ------------------------------------------------------------------------------------ checkpoints */

#define EXPECT_BATCHES 16384

struct BatchesRestore
{
	S3Node *node;
	TableState *table;
	const BatchArray *old;
	uint32 nold, at; /* at: the first that ends behind what was restored last */
	bool *kept; /* of the old ones */
	bool changed;
	dsa_pointer array_p; /* the new ones, in their place at once: there may be a hundred thousand */
	BatchArray *array;
	bool *added; /* of the new ones: not among the old ones */
	uint32 n;
	dsa_pointer schema; /* of the last batch */
	BaseLeaf *leaves; /* those of them that are leaves, whose entries' `leaf` is 1 + the index here */
	uint32 nleaves;
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

/* Room for what begins at that row. */
static BatchEntry *
restore_next(BatchesRestore *r, uint64 first_row)
{
	BatchEntry *entry;

	if (r->array == NULL || r->n == r->array->capacity)
		state_restore_expect(r, 1, Max(r->n, 8));
	entry = &r->array->entries[r->n];
	if (r->n > 0 && entry[-1].first_row + entry[-1].nrows > first_row)
		misfit(r->table);
	return entry;
}

void
state_restore_leaf(BatchesRestore *r, const S3am__PageRef *ref, uint64 first, uint64 end)
{
	const S3am__BatchSum *sum = ref->batches;
	BaseLeaf *leaf;
	BatchEntry *entry;

	Assert(r->old == NULL && !DsaPointerIsValid(r->table->base));
	if (sum->batches > PG_UINT32_MAX ||
		(sum->batches > 0 && (sum->first_row < first || sum->first_row >= end || sum->end_row < sum->first_row)))
		misfit(r->table);
	/* a power of two is allocated */
	if ((r->nleaves & (r->nleaves - 1)) == 0)
		r->leaves = r->leaves ? repalloc_huge(r->leaves, sizeof(BaseLeaf) * r->nleaves * 2)
							  : MemoryContextAllocHuge(CurrentMemoryContext, sizeof(BaseLeaf));
	leaf = &r->leaves[r->nleaves++];
	memset(leaf, 0, sizeof(*leaf));
	leaf->first = first;
	leaf->end = end;
	leaf->epoch = ref->epoch;
	leaf->number = ref->number;
	leaf->batches = sum->batches;
	leaf->first_row = sum->first_row;
	leaf->end_row = sum->end_row;
	leaf->rows = sum->rows;
	leaf->inline_batches = sum->inline_batches;
	leaf->inline_rows = sum->inline_rows;
	leaf->bytes = sum->bytes;
	leaf->small = sum->small;
	leaf->small_bytes = sum->small_bytes;
	leaf->removed = sum->removed;
	pg_atomic_init_u64(&leaf->loaded, InvalidDsaPointer);
	pg_atomic_init_u64(&leaf->ended, InvalidDsaPointer);
	if (sum->batches == 0)
		return;
	entry = restore_next(r, sum->first_row);
	memset(entry, 0, sizeof(*entry));
	entry->first_row = sum->first_row;
	entry->nrows = sum->end_row - sum->first_row;
	entry->leaf = r->nleaves;
	r->added[r->n++] = true;
	r->changed = true;
}

/* The leaves to where all can see them. */
static void
restore_base(BatchesRestore *r, uint64 version)
{
	dsa_area *area = node_dsa(r->node);
	TableBase *base;
	dsa_pointer p;

	if (r->nleaves == 0)
		return;
	p = dsa_allocate_extended(area, offsetof(TableBase, leaves) + sizeof(BaseLeaf) * r->nleaves, DSA_ALLOC_HUGE);
	base = dsa_get_address(area, p);
	base->n = r->nleaves;
	base->version = version;
	memcpy(base->leaves, r->leaves, sizeof(BaseLeaf) * r->nleaves);
	for (uint32 i = 0; i < r->n; i++)
		if (DsaPointerIsValid(r->array->entries[i].leaf))
			r->array->entries[i].leaf =
				p + offsetof(TableBase, leaves) + sizeof(BaseLeaf) * (r->array->entries[i].leaf - 1);
	pg_write_barrier();
	r->table->base = p;
}

void
state_restore_batch(BatchesRestore *r, const S3am__Batch *batch, const S3am__BatchSchema *schema, uint64 first_row,
					uint64 pos, uint32 xmin)
{
	BatchEntry *entry = restore_next(r, first_row);
	const BatchEntry *old;

	while (r->at < r->nold && r->old->entries[r->at].first_row + r->old->entries[r->at].nrows <= first_row)
		r->at++;
	old = r->at < r->nold ? &r->old->entries[r->at] : NULL;

	if (schema || !DsaPointerIsValid(r->schema))
		r->schema = intern_schema(r->node, r->table, schema);
	r->added[r->n] = !(old && old->first_row == first_row && old->nrows == batch->nrows &&
					   POS_VERSION(old->pos) == POS_VERSION(pos) && !DsaPointerIsValid(old->leaf));
	if (!r->added[r->n])
	{
		r->kept[r->at] = true;
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
	return r->n > 0 && state_may_have(r->array, r->n, row, row + 1);
}

/* The table's base, if it does not go with the history of an earlier checkpoint already, under which some snapshot still reads. */
static dsa_pointer
base_to_go(S3Node *node, const TableState *table)
{
	dsa_area *area = node_dsa(node);
	dsa_pointer p = table->history;

	while (DsaPointerIsValid(p))
	{
		const BatchHistory *history = dsa_get_address(area, p);

		if (history->base == table->base)
			return InvalidDsaPointer;
		p = history->next;
	}
	return table->base;
}

void
state_restore_end(BatchesRestore *r, uint64 pos)
{
	dsa_area *area = node_dsa(r->node);
	TableState *table = r->table;
	dsa_pointer base = base_to_go(r->node, table);
	dsa_pointer array_p = r->array_p, history_p = InvalidDsaPointer;
	const BatchEntry *last = r->n ? &r->array->entries[r->n - 1] : NULL;
	Account added = {0}, removed = {0};
	uint64 next_row = last ? last->first_row + last->nrows : 0;

	for (uint32 i = 0; i < r->nold; i++)
		r->changed |= !r->kept[i];
	/* a base is not needed any more when every snapshot sees this */
	r->changed |= DsaPointerIsValid(base);
	/* a leaf without batches may have rows that ended */
	if (!r->changed && r->nleaves == 0)
		return;
	if (r->array == NULL)
	{
		state_restore_expect(r, 0, 0);
		array_p = r->array_p;
	}
	pg_atomic_write_u32(&r->array->count, r->n);
	if (r->old || DsaPointerIsValid(base))
	{
		BatchHistory *history;

		history_p = dsa_allocate_extended(area, offsetof(BatchHistory, blocks) + sizeof(dsa_pointer) * 2 * r->nold,
										  DSA_ALLOC_HUGE | DSA_ALLOC_ZERO);
		history = dsa_get_address(area, history_p);
		history->table = table->self;
		history->batches = table->batches;
		history->until = pos;
		history->end_row = Max(next_row, pg_atomic_read_u64(&table->next_row));
		history->base = base;
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
	restore_base(r, POS_VERSION(pos));
	/* from here on nothing can fail */
	for (uint32 i = 0; i < r->n; i++)
		if (r->added[i])
			account_add(r->node, &added, &r->array->entries[i]);
	for (uint32 i = 0; i < r->nold; i++)
		if (!r->kept[i])
			account_add(r->node, &removed, &r->old->entries[i]);
	account_tell(r->node, table, &added, true);
	account_tell(r->node, table, &removed, false);
	r->array_p = InvalidDsaPointer;
	if (DsaPointerIsValid(history_p))
		link_history(r->node, table, history_p);
	replace_array(table, array_p);
	/* of runs that may have been merged since, so the numbers of their entries say nothing of which are there now */
	if (table->rows_of)
		state_retire_fresh(r->node, table);
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
		for (uint32 i = 0; i < history->nleaves; i++)
			leaf_over(node, dsa_get_address(area, history->blocks[i]));
		for (uint32 i = 0; i < history->nblocks; i++)
			state_retire(node, history->blocks[history->nleaves + i]);
		if (DsaPointerIsValid(history->base))
		{
			/* the checkpoint that came has told of all ends again: who finds no base finds them among the table's own */
			pg_write_barrier();
			table->base = InvalidDsaPointer;
			base_over(node, history->base);
		}
		state_retire(node, p);
	}
}
