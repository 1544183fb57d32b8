/*
 * leaves.c: leaves of the checkpoint that the server started from, read when somebody needs them.
 *
 * A table's array has one entry for all batches of such a leaf, and the table's base says which rows of the leaf's range had ended.  Whoever needs
 * either reads the page from the store, with nothing locked, and puts what is in it into shared memory as two blocks that never change; if
 * several do so at the same time, one of them wins.  A page is read for its batches and for its ended rows together.
 *
 * Every snapshot of this server sees what is in the base: it was all that there was when the server began.
 */
#include "postgres.h"

#include <roaring/roaring.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "manifest/envelope.h"
#include "manifest/keys.h"
#include "manifest/leaf.h"
#include "messages.h"
#include "node/bucket.h"
#include "node/state.h"

/* `n` chunks of ENDED_ROWS rows from chunk `number` on all of whose rows have ended; 0: one, of which some have. */
typedef struct EndedRun
{
	uint64 number;
	uint32 n;
	uint32 bits; /* then: which, as an index */
} EndedRun;

typedef struct RemovedRows
{
	uint32 nruns;
	uint32 nbits;
	EndedRun runs[FLEXIBLE_ARRAY_MEMBER]; /* ascending; the bits follow, ENDED_WORDS words each */
} RemovedRows;

static void
leaf_damaged(const char *key, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("cannot read object \"%s\" of the repository", key),
					errdetail("%s", what)));
}

bool
leaf_is_read(const BaseLeaf *leaf)
{
	BaseLeaf *l = (BaseLeaf *) leaf;

	return (leaf->batches == 0 || DsaPointerIsValid(pg_atomic_read_u64(&l->loaded))) &&
		   (leaf->removed == 0 || DsaPointerIsValid(pg_atomic_read_u64(&l->ended)));
}

/* ------------------------------------------------------------------------------------ a page becomes blocks */

/* Behind what is there, at a multiple of eight bytes; 1 + its offset. */
static dsa_pointer
put_behind(StringInfo tail, const void *bytes, Size len)
{
	static const char zeros[8] = {0};
	Size offset = tail->len;

	if (bytes)
		appendBinaryStringInfo(tail, bytes, len);
	else
	{
		enlargeStringInfo(tail, len);
		memset(tail->data + tail->len, 0, len);
		tail->len += len;
	}
	appendBinaryStringInfo(tail, zeros, TYPEALIGN(8, tail->len) - tail->len);
	return offset + 1;
}

/* The entry for the batch's schema: that of an earlier batch, or one of its own. */
static dsa_pointer
put_schema(StringInfo tail, List **schemas, const S3am__BatchSchema *schema)
{
	PackedSchema *packed = schema_pack(schema);
	SchemaEntry head = {InvalidDsaPointer, 0};
	dsa_pointer p;
	ListCell *lc;

	foreach (lc, *schemas)
		if (schema_same(&((SchemaEntry *) (tail->data + lfirst_int(lc)))->schema, packed))
			return lfirst_int(lc) + 1;
	head.rows = state_rows_hash(schema);
	p = put_behind(tail, NULL, offsetof(SchemaEntry, schema.bytes) + packed->len);
	memcpy(tail->data + p - 1, &head, offsetof(SchemaEntry, schema));
	memcpy(tail->data + p - 1 + offsetof(SchemaEntry, schema), packed, offsetof(PackedSchema, bytes) + packed->len);
	*schemas = lappend_int(*schemas, p - 1);
	return p;
}

/* The batches, with what they refer to behind them: offsets + 1 from there. */
static BatchEntry *
read_batches(const BaseLeaf *leaf, const char *key, LeafReader *reader, StringInfo tail, S3am__BatchSum *sum)
{
	BatchEntry *entries = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(BatchEntry) * Max(reader->n, 1));
	const S3am__BatchState *b;
	List *schemas = NIL;
	dsa_pointer schema = InvalidDsaPointer;

	while ((b = leaf_next(reader)) != NULL)
	{
		BatchEntry *entry = &entries[sum->batches];

		if (b->batch == NULL || b->batch->schema == NULL || b->first_row < Max(leaf->first, sum->end_row) ||
			b->first_row >= leaf->end)
			leaf_damaged(key, "One of its batches is not where it belongs.");
		state_describe_batch(entry, b->batch, b->first_row, POS(b->version, POS_STEP_MAX), b->xmin);
		if (!reader->same_schema || !DsaPointerIsValid(schema))
			schema = put_schema(tail, &schemas, b->batch->schema);
		entry->schema = schema;
		if (b->batch->pages)
		{
			entry->pages = put_behind(tail, NULL, sizeof(PageStart) * (entry->npages + (Size) 1));
			page_starts_fill(b->batch, (PageStart *) (tail->data + entry->pages - 1));
		}
		if (b->batch->segment == NULL)
			entry->blob = put_behind(tail, b->batch->rows.data, b->batch->rows.len);
		sum_add(sum, b);
	}
	if (reader->damaged)
		leaf_damaged(key, "it cannot be decoded");
	return entries;
}

typedef struct EndedRows
{
	StringInfoData runs, bits;
	uint64 high;
	uint64 number; /* of the chunk at hand */
	uint64 n; /* of its rows */
	uint64 words[ENDED_WORDS];
	uint64 total;
} EndedRows;

static void
end_chunk(EndedRows *e)
{
	EndedRun run = {e->number, e->n == ENDED_ROWS, e->bits.len / sizeof(e->words)};
	EndedRun *last = e->runs.len ? (EndedRun *) (e->runs.data + e->runs.len) - 1 : NULL;

	if (e->n == 0)
		return;
	e->total += e->n;
	if (run.n == 0)
		appendBinaryStringInfo(&e->bits, (const char *) e->words, sizeof(e->words));
	if (run.n > 0 && last && last->n > 0 && last->number + last->n == run.number)
		last->n++;
	else
		appendBinaryStringInfo(&e->runs, (const char *) &run, sizeof(run));
	e->n = 0;
	memset(e->words, 0, sizeof(e->words));
}

static bool
add_ended(uint32_t low, void *arg)
{
	EndedRows *e = arg;
	uint64 row = e->high << 32 | low;

	if (row / ENDED_ROWS != e->number)
		end_chunk(e);
	e->number = row / ENDED_ROWS;
	e->words[row % ENDED_ROWS / 64] |= UINT64CONST(1) << row % 64;
	e->n++;
	return true;
}

static void
read_ended(const char *key, const S3am__RowSet *removed, EndedRows *e)
{
	memset(e, 0, sizeof(*e));
	initStringInfo(&e->runs);
	initStringInfo(&e->bits);
	for (size_t i = 0; removed && i < removed->n_parts; i++)
	{
		const S3am__RowSet__Part *part = removed->parts[i];
		roaring_bitmap_t *bitmap =
			roaring_bitmap_portable_deserialize_safe((const char *) part->bitmap.data, part->bitmap.len);

		if (bitmap == NULL || (i > 0 && part->high <= e->high))
		{
			if (bitmap)
				roaring_bitmap_free(bitmap);
			leaf_damaged(key, "Its set of removed rows cannot be decoded.");
		}
		e->high = part->high;
		(void) roaring_iterate(bitmap, add_ended, e);
		roaring_bitmap_free(bitmap);
	}
	end_chunk(e);
}

/* Stores a block, unless somebody else was faster. */
static void
store_block(S3Node *node, pg_atomic_uint64 *where, dsa_pointer p)
{
	uint64 expected = InvalidDsaPointer;

	if (!pg_atomic_compare_exchange_u64(where, &expected, p))
		dsa_free(node_dsa(node), p);
}

static void
store_batches(S3Node *node, BaseLeaf *leaf, const BatchEntry *entries, uint32 n, const StringInfo tail)
{
	dsa_area *area = node_dsa(node);
	Size size = TYPEALIGN(8, offsetof(BatchArray, entries) + sizeof(BatchEntry) * n);
	dsa_pointer p = dsa_allocate_extended(area, size + tail->len, DSA_ALLOC_HUGE);
	BatchArray *array = dsa_get_address(area, p);

	array->capacity = n;
	pg_atomic_init_u32(&array->count, n);
	memcpy(array->entries, entries, sizeof(BatchEntry) * n);
	memcpy((char *) array + size, tail->data, tail->len);
	for (uint32 i = 0; i < n; i++)
	{
		BatchEntry *entry = &array->entries[i];

		entry->schema += p + size - 1;
		if (DsaPointerIsValid(entry->pages))
			entry->pages += p + size - 1;
		if (DsaPointerIsValid(entry->blob))
			entry->blob += p + size - 1;
	}
	store_block(node, &leaf->loaded, p);
}

static void
store_ended(S3Node *node, BaseLeaf *leaf, const EndedRows *e)
{
	dsa_area *area = node_dsa(node);
	Size size = TYPEALIGN(8, offsetof(RemovedRows, runs) + e->runs.len);
	dsa_pointer p = dsa_allocate_extended(area, size + e->bits.len, DSA_ALLOC_HUGE);
	RemovedRows *removed = dsa_get_address(area, p);

	removed->nruns = e->runs.len / sizeof(EndedRun);
	removed->nbits = e->bits.len / sizeof(e->words);
	memcpy(removed->runs, e->runs.data, e->runs.len);
	memcpy((char *) removed + size, e->bits.data, e->bits.len);
	store_block(node, &leaf->ended, p);
}

static void
check_sum(const BaseLeaf *leaf, const char *key, const S3am__BatchSum *sum)
{
	S3am__BatchSum wanted = S3AM__BATCH_SUM__INIT;

	wanted.batches = leaf->batches;
	wanted.first_row = leaf->first_row;
	wanted.end_row = leaf->end_row;
	wanted.rows = leaf->rows;
	wanted.inline_batches = leaf->inline_batches;
	wanted.inline_rows = leaf->inline_rows;
	wanted.bytes = leaf->bytes;
	wanted.small = leaf->small;
	wanted.small_bytes = leaf->small_bytes;
	wanted.removed = leaf->removed;
	if (!sum_same(sum, &wanted))
		leaf_damaged(key, "Its content is not what the page that refers to it says.");
}

void
leaf_take(S3Node *node, BaseLeaf *leaf, const uint8 *object, Size size)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am leaf", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	/* the payload goes with the context, whatever happens */
	MemoryContextCallback *callback = palloc(sizeof(MemoryContextCallback));
	S3am__BatchSum sum = S3AM__BATCH_SUM__INIT;
	char key[KEY_SIZE];
	char *error = NULL;
	size_t len;
	uint8 *payload;
	LeafReader reader;
	S3am__Page *page;
	StringInfoData tail;
	BatchEntry *entries;
	EndedRows ended;

	key_page(key, leaf->epoch, leaf->number);
	payload = envelope_open(ENVELOPE_PAGE, node->repository, key, object, size, &len, NULL, &error);
	if (payload == NULL)
	{
		char *text = pstrdup(error ? error : "it cannot be decoded");

		free(error);
		leaf_damaged(key, text);
	}
	callback->func = free;
	callback->arg = payload;
	MemoryContextRegisterResetCallback(cxt, callback);
	page = leaf_open(&reader, payload, len, message_allocator(cxt));
	if (page == NULL)
		leaf_damaged(key, "it cannot be decoded");
	initStringInfo(&tail);
	entries = read_batches(leaf, key, &reader, &tail, &sum);
	read_ended(key, page->removed, &ended);
	sum.removed = ended.total;
	check_sum(leaf, key, &sum);
	if (leaf->batches > 0 && !DsaPointerIsValid(pg_atomic_read_u64(&leaf->loaded)))
		store_batches(node, leaf, entries, leaf->batches, &tail);
	if (leaf->removed > 0 && !DsaPointerIsValid(pg_atomic_read_u64(&leaf->ended)))
		store_ended(node, leaf, &ended);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* ------------------------------------------------------------------------------------ who needs it */

static void
need(S3Node *node, BaseLeaf *leaf)
{
	char key[KEY_SIZE];
	uint8 *object;
	Size size;

	key_page(key, leaf->epoch, leaf->number);
	object = bucket_read(key, 0, -1, &size);
	leaf_take(node, leaf, object, size);
	pfree(object);
}

const BatchArray *
leaf_batches(S3Node *node, BaseLeaf *leaf)
{
	dsa_pointer p = pg_atomic_read_u64(&leaf->loaded);

	/* once more if it was given back meanwhile */
	for (; !DsaPointerIsValid(p); p = pg_atomic_read_u64(&leaf->loaded))
		need(node, leaf);
	pg_read_barrier();
	return dsa_get_address(node_dsa(node), p);
}

static const uint64 all_ended[ENDED_WORDS] = {[0 ... ENDED_WORDS - 1] = ~UINT64CONST(0)};

/* Which rows of the chunk had ended, as the leaf says: ENDED_WORDS words; NULL: none. */
static const uint64 *
ended_in(S3Node *node, BaseLeaf *leaf, uint64 number)
{
	const RemovedRows *removed;
	dsa_pointer p;
	uint32 low = 0, high;

	if (leaf->removed == 0)
		return NULL;
	for (p = pg_atomic_read_u64(&leaf->ended); !DsaPointerIsValid(p); p = pg_atomic_read_u64(&leaf->ended))
		need(node, leaf);
	pg_read_barrier();
	removed = dsa_get_address(node_dsa(node), p);
	high = removed->nruns;
	while (low < high)
	{
		uint32 mid = low + (high - low) / 2;

		if (removed->runs[mid].number + Max(removed->runs[mid].n, 1) <= number)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == removed->nruns || removed->runs[low].number > number)
		return NULL;
	if (removed->runs[low].n > 0)
		return all_ended;
	return (const uint64 *) ((const char *) removed +
							 TYPEALIGN(8, offsetof(RemovedRows, runs) + sizeof(EndedRun) * removed->nruns)) +
		   (Size) removed->runs[low].bits * ENDED_WORDS;
}

/* The first leaf of the base whose range ends behind the row; NULL: there is no base. */
static TableBase *
find_leaf(S3Node *node, TableState *table, uint64 row, uint32 *i)
{
	dsa_pointer p = *(volatile dsa_pointer *) &table->base;
	TableBase *base;
	uint32 low = 0, high;

	if (!DsaPointerIsValid(p))
		return NULL;
	base = dsa_get_address(node_dsa(node), p);
	high = base->n;
	while (low < high)
	{
		uint32 mid = low + (high - low) / 2;

		if (base->leaves[mid].end <= row)
			low = mid + 1;
		else
			high = mid;
	}
	*i = low;
	return base;
}

bool
leaf_row_ended(S3Node *node, TableState *table, uint64 row)
{
	uint32 i;
	TableBase *base = find_leaf(node, table, row, &i);
	const uint64 *bits;

	if (base == NULL || i == base->n || base->leaves[i].first > row)
		return false;
	bits = ended_in(node, &base->leaves[i], row / ENDED_ROWS);
	return bits && (bits[row % ENDED_ROWS / 64] >> row % 64 & 1) != 0;
}

bool
leaf_ended(S3Node *node, TableState *table, uint64 number, uint64 *bits)
{
	uint32 i;
	TableBase *base = find_leaf(node, table, number * ENDED_ROWS, &i);
	bool found = false;

	if (base == NULL)
		return false;
	memset(bits, 0, ENDED_WORDS * sizeof(uint64));
	/* a chunk may lie in several ranges */
	for (; i < base->n && base->leaves[i].first < (number + 1) * ENDED_ROWS; i++)
	{
		const uint64 *more = ended_in(node, &base->leaves[i], number);

		for (int w = 0; more && w < ENDED_WORDS; w++)
			bits[w] |= more[w];
		found |= more != NULL;
	}
	return found;
}

bool
state_has_base(S3Node *node, const TableState *table, uint64 version)
{
	return DsaPointerIsValid(table->base) &&
		   ((TableBase *) dsa_get_address(node_dsa(node), table->base))->version == version;
}

/* ------------------------------------------------------------------------------------ who needs it no more */

/*
 * Who still has an array with it, which no snapshot leads to any more, may read it once more: then it stays until its base goes.
 */
void
leaf_over(S3Node *node, BaseLeaf *leaf)
{
	dsa_pointer p;

	leaf->over = true;
	p = pg_atomic_exchange_u64(&leaf->loaded, InvalidDsaPointer);
	if (DsaPointerIsValid(p))
		state_retire(node, p);
}

void
base_over(S3Node *node, dsa_pointer p)
{
	TableBase *base = dsa_get_address(node_dsa(node), p);

	for (uint32 i = 0; i < base->n; i++)
	{
		dsa_pointer ended = pg_atomic_read_u64(&base->leaves[i].ended);

		leaf_over(node, &base->leaves[i]);
		if (DsaPointerIsValid(ended))
			state_retire(node, ended);
	}
	state_retire(node, p);
}
