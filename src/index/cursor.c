/*
 * cursor.c: entries of an index in order, out of all its runs.
 *
 * A search has a cursor in each run and goes on with the one whose entry comes next.  What a run holds is a superset of what a snapshot
 * may see: whether a row is visible only the table can tell.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "index/fresh.h"
#include "index/index.h"
#include "index/keyhash.h"
#include "index/order.h"
#include "node/bucket.h"
#include "txn/txn.h"

/* ------------------------------------------------------------------------------------ one entry */

static void
let_page_go(IndexCursor *c)
{
	if (c->page)
		row_page_release(c->page);
	c->page = NULL;
	c->part = NULL;
}

static void
find_map(IndexCursor *c, RunPart *part)
{
	const RowMap *map = row_map(part->schema, c->meta->desc, segment_object(part->source.epoch, part->source.number));

	part->nflat = part->flat_end = 0;
	for (int i = 0; i < map->natts; i++)
	{
		const MapColumn *column = map->stored[i] >= 0 ? &map->columns[map->stored[i]] : NULL;

		if (column == NULL || !column->plain || column->typlen <= 0 || column->cached < 0)
			break;
		part->nflat = i + 1;
		part->flat_end = Max(part->flat_end, column->cached + column->typlen);
	}
	part->map = map;
}

/* The part with entry `at`, which is one of the run's. */
static RunPart *
part_of(const IndexCursor *c, uint64 at)
{
	int low = 0, high = c->nparts - 1;

	while (low < high)
	{
		int middle = (low + high + 1) / 2;

		if (c->parts[middle].first <= at)
			low = middle;
		else
			high = middle - 1;
	}
	return &c->parts[low];
}

/* AheadPlan: pages of entries, in the order of the run. */
static bool
plan_page(void *arg, uint64 at, BatchSource *source, uint32 *n)
{
	IndexCursor *c = arg;

	while (at < c->to)
	{
		const RunPart *part = part_of(c, at);

		if (part->source.blob == NULL && part->source.pages)
		{
			*source = part->source;
			*n = batch_find_page(source, at - part->first);
			return true;
		}
		at = part->first + part->entries;
	}
	return false;
}

/* Who goes on from page to page, and does not look for the next one, gets those requested that follow. */
static ReadAhead *
ahead_of(IndexCursor *c, const RunPart *part, uint64 row)
{
	uint64 at = part->first + row;

	if (!c->steps || row >= part->entries || part->source.blob || at != c->leaf_end)
		return NULL;
	if (c->ahead == NULL)
	{
		c->ahead = MemoryContextAlloc(c->parent, sizeof(ReadAhead));
		read_ahead_init(c->ahead, plan_page, c);
		c->ahead->started = true;
		c->ahead->row = c->ahead->plan_row = at;
	}
	return c->ahead;
}

static void
load_page(IndexCursor *c, RunPart *part, uint64 row)
{
	let_page_go(c);
	c->page = row_page_read(&part->source, row, ahead_of(c, part, row), NULL);
	c->part = part;
	if (row < part->entries)
		c->leaf_end = part->first + c->page->first_row + c->page->nrows;
	if (part->map == NULL)
		find_map(c, part);
}

static inline void
need_page(IndexCursor *c, RunPart *part, uint64 row)
{
	if (c->page == NULL || c->part != part || !row_page_holds(c->page, row))
		load_page(c, part, row);
}

/* Row `row` of a part: an entry, or a row of an inner page. */
static inline void
load_row(IndexCursor *c, RunPart *part, uint64 row)
{
	need_page(c, part, row);
	if (c->cxt)
		MemoryContextReset(c->cxt);
	row_begin(&c->row, c->page, part->map, row);
	c->deformed = 0;
}

/* Attributes up to natts, in any case. */
static void
take_apart(IndexCursor *c, int natts)
{
	if (c->own || c->fresh)
	{
		if (c->own)
			own_reader_deform(c->own, c->at, c->values, c->nulls);
		else
		{
			HeapTupleData tuple = fresh_tuple(c->fresh, c->at);

			heap_deform_tuple(&tuple, c->meta->desc, c->values, c->nulls);
		}
		c->deformed = c->meta->desc->natts;
		return;
	}
	if (c->cxt == NULL)
		c->cxt = AllocSetContextCreate(c->parent, "s3am index entry", ALLOCSET_SMALL_SIZES);
	row_deform(&c->row, c->meta->desc, c->deformed, natts, c->values, c->nulls, c->cxt);
	c->deformed = natts;
}

static inline void
need(IndexCursor *c, int natts)
{
	const RunPart *part = c->part;

	if (c->deformed >= natts)
		return;
	/* own and fresh entries have no part */
	if (part == NULL || natts > part->nflat || c->row.nulls || c->row.len < part->flat_end)
	{
		take_apart(c, natts);
		return;
	}
	for (int i = c->deformed; i < natts; i++)
	{
		const MapColumn *column = &part->map->columns[part->map->stored[i]];

		c->values[i] = fetch_att(c->row.data + column->cached, column->byval, column->typlen);
		c->nulls[i] = false;
	}
	c->deformed = natts;
}

static inline uint64
row_of(IndexCursor *c)
{
	uint64 row;

	if (c->own)
	{
		(void) own_reader_row(c->own, c->at, &row);
		return row;
	}
	need(c, 1);
	row = DatumGetInt64(c->values[ENTRY_ROW]);
	return c->fresh ? row : ROW_IS_OWN(row) ? row - OWN_BASE + c->part->row_base : row;
}

/* Is its place one of the entries that it is to give?  Before the first one `at` is less than any. */
static inline bool
is_within(const IndexCursor *c)
{
	return c->at - c->from < c->to - c->from;
}

/* Goes to entry `at`; false: there is none, or it was undone. */
static bool
load_entry(IndexCursor *c)
{
	c->valid = false;
	if (!is_within(c) || c->out)
		return false;
	if (c->own)
	{
		uint64 row;

		if (!own_reader_row(c->own, c->at, &row))
			return false;
		c->deformed = 0;
	}
	else if (c->fresh)
		c->deformed = 0;
	else
	{
		RunPart *part = c->part;

		if (part == NULL || c->at < part->first || c->at - part->first >= part->entries)
			part = part_of(c, c->at);
		load_row(c, part, c->at - part->first);
	}
	return c->valid = true;
}

/* The entry at the cursor's place or, if that was undone, the next one that was not. */
static void
settle(IndexCursor *c, bool forward)
{
	while (!load_entry(c) && is_within(c) && !c->out)
		c->at += forward ? 1 : -1;
}

/* ------------------------------------------------------------------------------------ comparing */

static int
compare_to(IndexCursor *c, const IndexBound *bound)
{
	const IndexMeta *meta = c->meta;

	for (int i = 0; i < bound->n; i++)
	{
		int result;

		need(c, ENTRY_KEY + i + 1);
		result = order_keys(meta, i, bound->order[i], c->values[ENTRY_KEY + i], c->nulls[ENTRY_KEY + i],
							bound->values[i], bound->nulls[i]);
		if (result != 0)
			return result;
	}
	return 0;
}

static int
compare_cursors(IndexCursor *a, IndexCursor *b)
{
	const IndexMeta *meta = a->meta;
	uint64 x, y;

	for (int i = 0; i < meta->nkeys; i++)
	{
		int result;

		need(a, ENTRY_KEY + i + 1);
		need(b, ENTRY_KEY + i + 1);
		result = order_keys(meta, i, meta->order[i], a->values[ENTRY_KEY + i], a->nulls[ENTRY_KEY + i],
							b->values[ENTRY_KEY + i], b->nulls[ENTRY_KEY + i]);
		if (result != 0)
			return result;
	}
	x = row_of(a);
	y = row_of(b);
	return x < y ? -1 : x > y;
}

int
search_compare(const IndexSearch *search, const IndexBound *bound)
{
	return compare_to(search->current, bound);
}

/* ------------------------------------------------------------------------------------ going somewhere */

/* What comes before a bound when it is looked for in some direction. */
typedef struct Before
{
	const IndexBound *bound;
	bool equal; /* so does what equals it */
} Before;

static inline bool
is_before(IndexCursor *c, const Before *before)
{
	int result = compare_to(c, before->bound);

	return result < 0 || (result == 0 && before->equal);
}

static inline uint64
middle_of(uint64 low, uint64 high)
{
	return low + (high - low) / 2;
}

/*
 * Each step of a binary search in a page that no processor's cache has would wait for memory twice, for the row's place and for the row.
 * So they are asked for two steps before: both ways that each step may go on.
 */
#define FETCH_AHEAD_MIN 16 /* fewer rows lie beside each other */

static pg_attribute_always_inline void
fetch_ahead(const RowPage *page, uint32 width, uint64 low, uint64 middle, uint64 high)
{
	uint64 below = middle_of(low, middle), above = middle_of(middle + 1, high);

	row_prefetch(page, width, middle_of(low, below));
	row_prefetch(page, width, middle_of(below + 1, middle));
	row_prefetch(page, width, middle_of(middle + 1, above));
	row_prefetch(page, width, middle_of(above + 1, high));
}

/* How many of the rows low .. high - 1 of a part, all on one page, come before it. */
static uint64
count_before(IndexCursor *c, RunPart *part, uint64 low, uint64 high, const Before *before)
{
	uint64 first = low;
	uint32 width = high - low >= FETCH_AHEAD_MIN ? row_width(c->page) : 0;

	if (width > 0)
	{
		uint64 middle = middle_of(low, high);

		row_prefetch(c->page, width, middle);
		row_prefetch(c->page, width, middle_of(low, middle));
		row_prefetch(c->page, width, middle_of(middle + 1, high));
	}
	while (low < high)
	{
		uint64 middle = middle_of(low, high);

		if (width > 0 && high - low >= FETCH_AHEAD_MIN)
			fetch_ahead(c->page, width, low, middle, high);
		load_row(c, part, middle);
		if (is_before(c, before))
			low = middle + 1;
		else
			high = middle;
	}
	return low - first;
}

/* First row of the part's last page: its only level's, or its root. */
static uint64
root_row(const RunPart *part)
{
	return part->source.pages ? part->source.pages[batch_find_page(&part->source, part->source.nrows - 1)].first_row
							  : 0;
}

/* Number of the first entry in the part that does not come before it. */
static uint64
find_in_part(IndexCursor *c, RunPart *part, const Before *before)
{
	uint64 row = root_row(part);

	for (;;)
	{
		uint64 low, high, n;

		need_page(c, part, row);
		low = c->page->first_row;
		high = low + c->page->nrows;
		/* an inner level begins with a page of its own, so no page has both */
		if (low < part->entries)
			high = Min(high, part->entries);
		n = count_before(c, part, low, high, before);
		if (low < part->entries)
			return low + n;
		load_row(c, part, low + (n > 0 ? n - 1 : 0));
		need(c, 1);
		n = DatumGetInt64(c->values[ENTRY_ROW]);
		if (n >= low)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED), errmsg("an inner page of an index leads nowhere in object \"%s\"",
															 segment_object(part->source.epoch, part->source.number))));
		row = n;
	}
}

/* The entry that is looked for, or the end, is at one of low .. high. */
static void
narrow_own(IndexCursor *c, const Before *before, uint64 *low, uint64 *high)
{
	uint64 first = 0, end = own_reader_samples(c->own);

	while (first < end)
	{
		uint64 middle = first + (end - first) / 2;

		c->at = own_reader_sample(c->own, middle);
		c->deformed = 0;
		if (is_before(c, before))
		{
			*low = c->at + 1;
			first = middle + 1;
		}
		else
		{
			*high = c->at;
			end = middle;
		}
	}
}

/* The last part that begins before it, or the first. */
static int
find_part(IndexCursor *c, const Before *before)
{
	int low = 0, high = c->nparts - 1;

	while (low < high)
	{
		int middle = (low + high + 1) / 2;
		RunPart *part = &c->parts[middle];

		load_row(c, part, root_row(part));
		if (is_before(c, before))
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

static bool
part_may_have(const IndexSearch *search, const RunPart *part)
{
	return part->filter.blocks == 0 || part->filter.kinds != search->meta->kinds ||
		   filter_may_have(&part->source, &part->filter, search->hash);
}

/* What is looked for is in part n, or the next one begins with it. */
static bool
parts_may_have(const IndexSearch *search, const IndexCursor *c, int n)
{
	return part_may_have(search, &c->parts[n]) || (n + 1 < c->nparts && part_may_have(search, &c->parts[n + 1]));
}

static uint64
find_entry(const IndexSearch *search, IndexCursor *c, const Before *before)
{
	if (c->own || c->fresh)
	{
		uint64 low = 0, high = c->nentries;

		if (c->own)
			narrow_own(c, before, &low, &high);
		while (low < high)
		{
			c->at = low + (high - low) / 2;
			c->deformed = 0;
			if (is_before(c, before))
				low = c->at + 1;
			else
				high = c->at;
		}
		return low;
	}
	else
	{
		int n = find_part(c, before);

		if (search->hashed && !parts_may_have(search, c, n))
		{
			c->out = true;
			return c->nentries;
		}
		return c->parts[n].first + find_in_part(c, &c->parts[n], before);
	}
}

/* Does the entry of one come before that of the other, in the direction of the search? */
static inline bool
comes_before(const IndexSearch *search, IndexCursor *a, IndexCursor *b)
{
	int order = compare_cursors(a, b);

	return search->forward ? order < 0 : order > 0;
}

/* The second one is remembered: until the current one has passed it, nobody else needs to be looked at. */
static void
choose(IndexSearch *search)
{
	IndexCursor *best = NULL, *second = NULL;

	Assert(search->cursors != NULL || search->ncursors == 0);
	for (int i = 0; i < search->ncursors; i++)
	{
		IndexCursor *c = &search->cursors[i];

		if (!c->valid)
			continue;
		if (best == NULL)
			best = c;
		else if (comes_before(search, c, best))
		{
			second = best;
			best = c;
		}
		else if (second == NULL || comes_before(search, c, second))
			second = c;
	}
	search->current = best;
	search->second = second;
}

void
search_only(IndexSearch *search, const IndexBound *key, int few)
{
	IndexMeta *meta = search->meta;
	int n = 0;

	search->hashed = false;
	if (key == NULL || key->n < meta->nkeys)
		return;
	/* values of other types have other bytes */
	for (int i = 0; i < key->n; i++)
		if (key->order[i] != meta->order[i])
			return;
	for (int i = 0; i < search->ncursors; i++)
		n += search->cursors[i].nparts > 0 && search->cursors[i].parts[0].filter.blocks > 0;
	if (n <= few || !meta_has_hashes(meta))
		return;
	search->hash = key_hash_filter(meta->hasher, key->values, key->nulls);
	search->hashed = true;
}

void
search_seek(IndexSearch *search, const IndexBound *from, bool forward)
{
	Before before = {from, from && (forward ? !from->inclusive : from->inclusive)};

	search->forward = forward;
	for (int i = 0; i < search->ncursors; i++)
	{
		IndexCursor *c = &search->cursors[i];
		uint64 n;

		c->out = false;
		c->peeked = 0;
		/* who goes over all of it reads ahead from the first page on */
		c->steps = from == NULL && forward;
		if (c->steps)
			c->leaf_end = c->from;
		n = from ? find_entry(search, c, &before) : (forward ? 0 : c->nentries);
		n = Min(Max(n, c->from), c->to);
		c->at = forward ? n : n - 1;
		settle(c, forward);
		c->steps = forward;
	}
	choose(search);
}

void
search_next(IndexSearch *search)
{
	IndexCursor *c = search->current;

	if (c == NULL)
		return;
	c->at += search->forward ? 1 : -1;
	settle(c, search->forward);
	if (search->second ? c->valid && comes_before(search, c, search->second) : search->ncursors == 1 && c->valid)
		return;
	choose(search);
}

uint64
search_within(IndexSearch *search, const IndexBound *high)
{
	IndexCursor *c = search->current;
	Before before = {high, high->inclusive};
	uint64 low, first, n;

	if (c->page == NULL || c->part == NULL)
		return 0;
	low = c->at - c->part->first;
	first = c->page->first_row;
	n = low + count_before(c, c->part, low, Min(first + c->page->nrows, c->part->entries), &before);
	load_row(c, c->part, low);
	return c->part->first + n;
}

/* All others are at the next entry in the old direction: one step back is the next one in the new. */
void
search_turn(IndexSearch *search, bool forward)
{
	if (search->forward == forward)
		return;
	search->forward = forward;
	search->second = NULL;
	for (int i = 0; i < search->ncursors; i++)
	{
		IndexCursor *c = &search->cursors[i];

		if (c == search->current)
			continue;
		c->at += forward ? 1 : -1;
		settle(c, forward);
	}
	if (search->current == NULL)
		choose(search);
}

Datum
search_value(IndexSearch *search, int att, bool *isnull)
{
	need(search->current, att + 1);
	*isnull = search->current->nulls[att];
	return search->current->values[att];
}

uint64
search_row(IndexSearch *search)
{
	return row_of(search->current);
}

void
search_peek(IndexSearch *search, uint64 entries, bool (*each)(void *arg, uint64 row), void *arg)
{
	for (int i = 0; i < search->ncursors; i++)
	{
		IndexCursor *c = &search->cursors[i];
		RunPart *part = c->part;
		uint64 end;

		/* no further than its page, and not where row ids may be anywhere */
		if (!c->valid || c->page == NULL || part == NULL || part->map->stored[ENTRY_ROW] != 0)
			continue;
		end = Min(c->at + 1 + entries / search->ncursors, part->first + c->page->first_row + c->page->nrows);
		for (c->peeked = Max(c->peeked, c->at + 1); c->peeked < end; c->peeked++)
		{
			RowCursor entry;
			uint64 row;

			row_begin(&entry, c->page, part->map, c->peeked - part->first);
			if (entry.len < sizeof(row))
				break;
			memcpy(&row, entry.data, sizeof(row));
			if (!each(arg, ROW_IS_OWN(row) ? row - OWN_BASE + part->row_base : row))
				return;
		}
	}
}

const char *
search_flat(const IndexSearch *search, Size *len)
{
	const IndexCursor *c = search->current;
	const RunPart *part = c->part;

	/* behind the row id, which takes as much room as values may ask to be aligned to */
	StaticAssertStmt(sizeof(uint64) == MAXIMUM_ALIGNOF, "columns of an entry are aligned otherwise than in a tuple");
	if (part == NULL || part->nflat < c->meta->desc->natts || part->map->ncolumns != part->nflat || c->row.nulls ||
		c->row.len < part->flat_end)
		return NULL;
	*len = part->flat_end - sizeof(uint64);
	return c->row.data + sizeof(uint64);
}

/* Of a cursor that was left out; no entry has this number, and none comes before it. */
#define PLACE_OUT (PG_UINT64_MAX - 1)

void
search_save(const IndexSearch *search, uint64 *places, int *current)
{
	for (int i = 0; i < search->ncursors; i++)
		places[i] = search->cursors[i].out ? PLACE_OUT : search->cursors[i].at;
	*current = search->current ? (int) (search->current - search->cursors) : -1;
}

void
search_return(IndexSearch *search, const uint64 *places, int current, bool forward)
{
	search->forward = forward;
	search->second = NULL;
	for (int i = 0; i < search->ncursors; i++)
	{
		search->cursors[i].at = places[i];
		search->cursors[i].out = places[i] == PLACE_OUT;
		(void) load_entry(&search->cursors[i]);
	}
	search->current = current < 0 ? NULL : &search->cursors[current];
}

/* ------------------------------------------------------------------------------------ opening */

static IndexCursor *
add_cursor(IndexSearch *search)
{
	IndexCursor *c = &search->cursors[search->ncursors++];

	memset(c, 0, offsetof(IndexCursor, values));
	c->leaf_end = PG_UINT64_MAX;
	c->meta = search->meta;
	c->parent = search->cxt;
	return c;
}

static void
add_part(IndexCursor *c, RunPart *part)
{
	part->first = part->source.first = c->nentries;
	if (c->nparts++ == 0)
		c->parts = part;
	c->nentries += part->entries;
}

static void
fill_part(S3Node *node, const BatchEntry *b, RunPart *part)
{
	state_batch_source(node, b, &part->source);
	part->entries = b->nrows;
	part->row_base = b->row_base;
	part->filter = b->filter;
	part->schema = &((SchemaEntry *) dsa_get_address(node_dsa(node), b->schema))->schema;
	part->map = NULL;
}

static void
add_fresh(IndexSearch *search, const FreshRun *fresh)
{
	IndexCursor *c = add_cursor(search);

	c->fresh = fresh;
	c->nentries = fresh->n;
}

void
search_open_batches(IndexSearch *search, IndexMeta *meta, S3Node *node, const BatchEntry *batches, uint32 nbatches,
					const FreshRun *fresh, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	RunPart *parts = palloc(sizeof(RunPart) * nbatches);
	IndexCursor *c = NULL;

	memset(search, 0, sizeof(*search));
	search->meta = meta;
	search->cxt = cxt;
	search->node = node;
	search->cursors = palloc(sizeof(IndexCursor) * (nbatches + 1));
	for (uint32 i = 0; i < nbatches; i++)
	{
		if (c == NULL || !batches[i].continues)
			c = add_cursor(search);
		fill_part(node, &batches[i], &parts[i]);
		/* what is read once pushes nothing out of the cache */
		parts[i].source.cache_owner = 0;
		add_part(c, &parts[i]);
	}
	if (fresh)
		add_fresh(search, fresh);
	search_open_windows(search);
	MemoryContextSwitchTo(old);
}

void
search_open(IndexSearch *search, IndexMeta *meta, uint64 storage, uint64 pos, bool own_too, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	OwnIndex *own = own_too ? own_index(storage) : NULL;
	const BatchEntry **batches = NULL;
	uint32 nbatches = 0;
	OwnReader **readers = NULL;
	int nruns = 0;
	const FreshRun *fresh = NULL;
	TableState *table;
	RunPart *parts;
	IndexCursor *c = NULL;

	memset(search, 0, sizeof(*search));
	search->meta = meta;
	search->cxt = cxt;
	search->node = node_wait_ready();
	txn_begin_use(search->node);
	table = state_table(search->node, storage);
	if (table)
	{
		uint32 count;
		uint64 until, generation = pg_atomic_read_u64(&table->generation);
		const BatchArray *array;

		pg_memory_barrier();
		/* an index that is younger than the snapshot has all that it may see from the start */
		array = state_batches_at(search->node, table, Max(pos, table->created), &count, &until);
		nbatches = state_all_batches(search->node, array, count, &batches);
		collation_check(meta, search->node, batches, nbatches);
		pg_memory_barrier();
		/* those who read what was replaced do without */
		if (until == PG_UINT64_MAX && generation % 2 == 0 && pg_atomic_read_u64(&table->generation) == generation)
			fresh = fresh_make(search->node, table, generation, meta, batches, nbatches);
	}
	if (own)
		nruns = own_index_hold(own, meta, cxt, &search->held, &readers);
	search->cursors = palloc(sizeof(IndexCursor) * (nbatches + nruns + 1 + (own ? own->nbatches : 0)));
	parts = palloc(sizeof(RunPart) * Max(nbatches, 1));
	for (uint32 i = 0; i < nbatches; i++)
	{
		if (fresh_has(fresh, batches[i]))
			continue;
		if (c == NULL || !batches[i]->continues)
			c = add_cursor(search);
		fill_part(search->node, batches[i], &parts[i]);
		add_part(c, &parts[i]);
	}
	if (fresh)
		add_fresh(search, fresh);
	if (own && own->nbatches)
	{
		for (int i = 0; i < own->nbatches; i++)
		{
			if (i == 0 || !own->batches[i]->continues)
				c = add_cursor(search);
			add_part(c, &own->parts[i]);
		}
		/* they may still be on their way */
		bucket_segment_wait_all();
	}
	for (int i = 0; i < nruns; i++)
	{
		c = add_cursor(search);
		c->own = readers[i];
		c->nentries = own_reader_count(readers[i]);
	}
	search_open_windows(search);
	MemoryContextSwitchTo(old);
}

void
search_close(IndexSearch *search)
{
	for (int i = 0; i < search->ncursors; i++)
	{
		let_page_go(&search->cursors[i]);
		if (search->cursors[i].ahead)
			read_ahead_release(search->cursors[i].ahead);
	}
	if (search->held)
		own_hold_release(search->held);
	search->held = NULL;
	search->ncursors = 0;
	search->current = NULL;
}
