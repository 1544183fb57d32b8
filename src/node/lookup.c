/*
 * lookup.c: finding the batches of a table.
 *
 * Which array a snapshot reads depends on the position up to which it sees.  In an array a leaf stands for its batches, at the rows that they span,
 * so a search finds an entry, and within a leaf another one.
 */
#include "postgres.h"

#include "node/bucket.h"
#include "node/state.h"
#include "segment/batch.h"

void
state_batch_source(S3Node *node, const BatchEntry *entry, BatchSource *source)
{
	dsa_area *area = node_dsa(node);

	memset(source, 0, sizeof(*source));
	source->first = entry->first_row;
	source->nrows = entry->nrows + entry->inner;
	source->inner = entry->inner > 0 ? entry->nrows : 0;
	source->npages = entry->npages;
	source->pages = DsaPointerIsValid(entry->pages) ? dsa_get_address(area, entry->pages) : NULL;
	source->cache_owner = node->cache_owner;
	if (DsaPointerIsValid(entry->blob))
	{
		source->blob = dsa_get_address(area, entry->blob);
		source->pos = entry->pos;
		source->len = entry->len;
	}
	else
	{
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

/* ------------------------------------------------------------------------------------ within an array */

/* The first entry that ends behind the row; n: none does. */
static uint32
first_after(const BatchEntry *entries, uint32 n, uint64 row, uint32 hint)
{
	uint32 low = 0, high = n;

	/* who goes on comes to the next one */
	for (uint32 i = hint; i < n && i < hint + 2; i++)
		if (entries[i].first_row + entries[i].nrows > row &&
			(i == 0 || entries[i - 1].first_row + entries[i - 1].nrows <= row))
			return i;
	while (low < high)
	{
		uint32 mid = low + (high - low) / 2;

		if (entries[mid].first_row + entries[mid].nrows <= row)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const BatchArray *
state_leaf_batches(S3Node *node, const BatchEntry *entry)
{
	return leaf_batches(node, dsa_get_address(node_dsa(node), entry->leaf));
}

const BatchEntry *
state_batch_after(S3Node *node, const BatchArray *batches, uint32 count, uint64 row, BatchHint *hint)
{
	BatchHint none = {0, 0};
	const BatchEntry *entry;

	if (batches == NULL)
		return NULL;
	if (hint == NULL)
		hint = &none;
	hint->item = first_after(batches->entries, count, row, hint->item);
	if (hint->item == count)
		return NULL;
	entry = &batches->entries[hint->item];
	if (DsaPointerIsValid(entry->leaf))
	{
		const BatchArray *leaf = state_leaf_batches(node, entry);

		/* there is one: the leaf ends where its last batch does */
		hint->within = first_after(leaf->entries, leaf->capacity, row, hint->within);
		entry = &leaf->entries[hint->within];
	}
	return entry;
}

const BatchEntry *
state_batch_before(S3Node *node, const BatchArray *batches, uint32 count, uint64 row, BatchHint *hint)
{
	const BatchArray *array = batches;
	BatchHint none = {0, 0};
	uint32 i;

	if (batches == NULL)
		return NULL;
	if (hint == NULL)
		hint = &none;
	i = hint->item = first_after(batches->entries, count, row, hint->item);
	if (i == count || batches->entries[i].first_row > row)
	{
		if (i == 0)
			return NULL;
		i = --hint->item;
	}
	if (DsaPointerIsValid(array->entries[i].leaf))
	{
		array = state_leaf_batches(node, &batches->entries[i]);
		i = hint->within = first_after(array->entries, array->capacity, row, hint->within);
		/* there is one: the leaf begins where its first batch does */
		if (i == array->capacity || array->entries[i].first_row > row)
			i = --hint->within;
	}
	return &array->entries[i];
}

const BatchEntry *
state_find_batch(S3Node *node, const BatchArray *batches, uint32 count, uint64 row, BatchHint *hint)
{
	BatchHint none = {0, 0};
	const BatchEntry *entry;

	if (batches == NULL)
		return NULL;
	if (hint == NULL)
		hint = &none;
	/* a leaf needs not be read for rows that lie before it */
	hint->item = first_after(batches->entries, count, row, hint->item);
	if (hint->item == count || batches->entries[hint->item].first_row > row)
		return NULL;
	entry = state_batch_after(node, batches, count, row, hint);
	return entry && entry->first_row <= row ? entry : NULL;
}

bool
state_may_have(const BatchArray *batches, uint32 count, uint64 first, uint64 end)
{
	uint32 i = batches ? first_after(batches->entries, count, first, 0) : 0;

	return batches && i < count && batches->entries[i].first_row < end;
}

uint32
state_all_batches(S3Node *node, const BatchArray *batches, uint32 count, const BatchEntry ***all)
{
	Size n = 0;

	for (uint32 i = 0; i < count; i++)
		n += DsaPointerIsValid(batches->entries[i].leaf) ? state_leaf_batches(node, &batches->entries[i])->capacity : 1;
	if (n > PG_UINT32_MAX)
		elog(ERROR, "a table has too many batches");
	*all = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(BatchEntry *) * Max(n, 1));
	n = 0;
	for (uint32 i = 0; i < count; i++)
	{
		const BatchArray *leaf =
			DsaPointerIsValid(batches->entries[i].leaf) ? state_leaf_batches(node, &batches->entries[i]) : NULL;

		if (leaf == NULL)
			(*all)[n++] = &batches->entries[i];
		else
			for (uint32 j = 0; j < leaf->capacity; j++)
				(*all)[n++] = &leaf->entries[j];
	}
	return n;
}

void
state_total(S3Node *node, const BatchArray *batches, uint32 count, BatchTotals *totals)
{
	dsa_area *area = node_dsa(node);

	memset(totals, 0, sizeof(*totals));
	for (uint32 i = 0; i < count; i++)
	{
		const BatchEntry *entry = &batches->entries[i];

		if (DsaPointerIsValid(entry->leaf))
		{
			const BaseLeaf *leaf = dsa_get_address(area, entry->leaf);

			totals->rows += leaf->rows;
			totals->inline_rows += leaf->inline_rows;
			totals->segments += leaf->batches - leaf->inline_batches;
			continue;
		}
		totals->rows += entry->nrows - entry->gone;
		if (DsaPointerIsValid(entry->blob))
			totals->inline_rows += entry->nrows - entry->gone;
		else
			totals->segments++;
	}
}
