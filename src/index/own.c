/*
 * own.c: entries that the current transaction added to indexes.
 *
 * They are in sorted runs, each at least twice as large as the next one, and a small one that new entries are put into.  When those of all
 * indexes exceed a quarter of s3am.transaction_memory, what the largest one has in memory goes to a file; files of one size are put together
 * when there are some.  A scan holds the runs that there were when it began; they do not change, but for entries of rows that were rolled
 * back, whose row numbers are given again: each run has a limit that they are at or above.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplesort.h"

#include "index/index.h"
#include "index/keyhash.h"
#include "index/keyorder.h"
#include "index/ownrun.h"
#include "manifest/keyhashes.h"
#include "node/bucket.h"
#include "s3am.h"
#include "txn/commit.h"
#include "txn/own.h"
#include "txn/txn.h"

#define TAIL_ENTRIES 256 /* that are put into their places one by one */
#define FILES_OF_LEVEL 8
#define BASES_MAX 1024 /* of one index that its claims tell apart */
#define CLAIM_BYTES_MIN (512 * 1024) /* that claims of an index may take, however little memory there is */
#define CLAIM_BITS_MIN 5 /* of each key: with less it is not worth it */
#define ADDED_RANGES_MAX 256 /* of keys, that the edit of an index tells; with more entries some are of several keys */
#define ADDED_ALONE 16384 /* entries up to which each is a range of its own at first */

static List *indexes; /* of OwnIndex, few; in own_context() */
static OwnIndex *last_index;
static Size memory_due; /* of ownrun_memory, when something must leave it */
static Size memory_most; /* that it has been */
static uint64 transaction; /* number of the current one in this session */

OwnIndex *
own_index(uint64 storage)
{
	ListCell *lc;

	if (last_index && last_index->storage == storage)
		return last_index;
	foreach (lc, indexes)
	{
		OwnIndex *own = lfirst(lc);

		if (own->storage == storage)
			return last_index = own;
	}
	return NULL;
}

OwnIndex *
own_index_for_write(const IndexMeta *meta, uint64 storage, uint64 table)
{
	OwnIndex *own = own_index(storage);

	if (own == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(own_context());

		own = palloc0(sizeof(OwnIndex));
		own->storage = storage;
		own->table = table;
		own->relid = RelationGetRelid(meta->index);
		own->unique = meta->index->rd_index->indisunique || meta->index->rd_index->indisexclusion;
		own->desc = CreateTupleDescCopy(meta->desc);
		own->made = commit_storage_is_new(storage) ? GetCurrentSubTransactionId() : InvalidSubTransactionId;
		indexes = lappend(indexes, own);
		MemoryContextSwitchTo(old);
		last_index = own;
	}
	return own;
}

/* The smaller ones of the runs in memory are put together, so that there are few. */
static void
merge_last(OwnIndex *own, const IndexMeta *meta)
{
	OwnRun *a = own->runs[own->nruns - 2], *b = own->runs[own->nruns - 1];

	own->runs[own->nruns - 2] = own_run_merge(meta, a, b);
	own->nruns--;
	own_run_release(a);
	own_run_release(b);
}

/* The small run is one like the others from now on. */
static void
freeze_tail(OwnIndex *own, const IndexMeta *meta)
{
	if (own->tail == NULL || own->tail->n == 0)
		return;
	if (own->nruns == own->runs_capacity)
	{
		int capacity = own->runs_capacity ? own->runs_capacity * 2 : 16;

		own->runs = own->runs ? repalloc(own->runs, sizeof(OwnRun *) * capacity)
							  : MemoryContextAlloc(own_context(), sizeof(OwnRun *) * capacity);
		own->runs_capacity = capacity;
	}
	own->runs[own->nruns++] = own->tail;
	own->tail = NULL;
	while (own->nruns - own->nfiles >= 2 && own->runs[own->nruns - 2]->n < 2 * own->runs[own->nruns - 1]->n)
		merge_last(own, meta);
}

/* ------------------------------------------------------------------------------------ leaving memory */

static Size
memory_of(const OwnIndex *own)
{
	Size bytes = own->arena ? own->arena->bytes : 0;

	for (int i = own->nfiles; i < own->nruns; i++)
		bytes += sizeof(OwnEntry) * own->runs[i]->n;
	return bytes;
}

/* But those that were passed over already. */
static OwnIndex *
largest_index(void)
{
	OwnIndex *largest = NULL;
	ListCell *lc;

	foreach (lc, indexes)
	{
		OwnIndex *own = lfirst(lc);

		if (!own->passed_over && (largest == NULL || memory_of(own) > memory_of(largest)))
			largest = own;
	}
	return largest;
}

/* Runs from this one on become one, or none. */
static void
replace_runs(OwnIndex *own, int from, OwnRun *run)
{
	for (int i = from; i < own->nruns; i++)
		own_run_release(own->runs[i]);
	own->nruns = from;
	if (run)
		own->runs[own->nruns++] = run;
}

/* Files of one level become one of the next one, when there are that many. */
static void
merge_files(OwnIndex *own, const IndexMeta *meta)
{
	for (;;)
	{
		int first = own->nfiles;
		OwnRun *run;

		Assert(own->nruns == own->nfiles);
		while (first > 0 && own->runs[first - 1]->level == own->runs[own->nfiles - 1]->level)
			first--;
		if (own->nfiles - first < FILES_OF_LEVEL)
			break;
		run = own_run_file(meta, own->runs + first, own->nfiles - first, own->runs[first]->level + 1);
		replace_runs(own, first, run);
		own->nfiles = own->nruns;
	}
}

/* What the index has in memory goes to a file, or into less memory if most of it was undone. */
static void
leave_memory(OwnIndex *own, const IndexMeta *meta)
{
	Size living = 0;
	uint64 n = 0;
	OwnRun *run;
	bool pack;

	freeze_tail(own, meta);
	if (own->nruns == own->nfiles)
		return;
	for (int i = own->nfiles; i < own->nruns; i++)
	{
		uint64 of_run;

		living += own_run_living(own->runs[i], &of_run);
		n += of_run;
	}
	living += sizeof(OwnEntry) * n;
	pack = living < memory_of(own) / 2;
	if (n == 0)
		run = NULL;
	else if (pack)
		run = own_run_pack(meta, own->runs + own->nfiles, own->nruns - own->nfiles);
	else
		run = own_run_file(meta, own->runs + own->nfiles, own->nruns - own->nfiles, 0);
	replace_runs(own, own->nfiles, run);
	own_arena_release(own->arena);
	own->arena = NULL;
	if (run && run->arena)
	{
		own->arena = run->arena;
		own->arena->refs++;
	}
	else
	{
		own->nfiles = own->nruns;
		merge_files(own, meta);
	}
}

/* ALTER TABLE ... TYPE makes an index anew, under another OID, that keeps its storage: entries are the storage's.  NULL: there is none. */
static Relation
open_index(const OwnIndex *own)
{
	Relation index = try_relation_open(own->relid, AccessShareLock);
	Oid relid = index ? InvalidOid : storage_index_relation(own->storage);

	return OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : index;
}

/* Was all of it rolled back, as far as that is known without reading files? */
static bool
is_undone(const OwnIndex *own)
{
	if (own->nbatches > 0 || own->nfiles > 0)
		return false;
	for (int i = 0; i < own->nruns; i++)
		if (!own_run_is_undone(own->runs[i]))
			return false;
	return own->tail == NULL || own_run_is_undone(own->tail);
}

/* Memory is full: the largest index gives up its own. */
static void
keep_bounded(void)
{
	static bool busy = false;
	Size limit = (Size) s3am_transaction_memory * 1024 / 4;
	MemoryContext cxt, old;
	ListCell *lc;

	/* an operator class's own function that adds entries must not come here in the middle of it */
	if (busy)
		return;
	foreach (lc, indexes)
		((OwnIndex *) lfirst(lc))->passed_over = false;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am index spill", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	busy = true;
	PG_TRY();
	{
		OwnIndex *own;

		while ((own = largest_index()) != NULL)
		{
			/* one that was dropped may come back, but cannot be sorted now */
			Relation index = open_index(own);

			if (index)
			{
				leave_memory(own, index_meta(index, cxt));
				relation_close(index, AccessShareLock);
				break;
			}
			own->passed_over = true;
		}
	}
	PG_FINALLY();
	{
		busy = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	/* what open scans hold does not go now */
	memory_due = Max(limit, ownrun_memory + limit / 2);
}

/* Versions up to which keys were looked for, in order.  Of those that are too many an older one stands for a newer one (protocol.md, 15). */
static void
add_base(OwnIndex *own, uint64 base)
{
	if (own->nbases > 0 && own->bases[own->nbases - 1] == base)
		return;
	if (own->nbases == BASES_MAX && own->bases[0] < base)
		return;
	if (own->nbases > 0 && own->bases[own->nbases - 1] > base)
	{
		int at = 0;

		while (own->bases[at] < base)
			at++;
		if (own->bases[at] == base)
			return;
		if (own->nbases < BASES_MAX)
			own->nbases++;
		memmove(&own->bases[at + 1], &own->bases[at], sizeof(uint64) * (own->nbases - at - 1));
		own->bases[at] = base;
		return;
	}
	if (own->nbases == own->bases_capacity)
	{
		own->bases_capacity = own->bases_capacity ? own->bases_capacity * 2 : 4;
		own->bases = own->bases ? repalloc(own->bases, sizeof(uint64) * own->bases_capacity)
								: MemoryContextAlloc(own_context(), sizeof(uint64) * own->bases_capacity);
	}
	own->bases[own->nbases++] = base;
}

void
own_index_add(OwnIndex *own, const IndexMeta *meta, const Datum *values, const bool *nulls, uint64 base)
{
	OwnEntry entry;
	OwnRun *tail;
	uint64 low = 0, high;

	memory_most = Max(memory_most, ownrun_memory);
	if (ownrun_memory > Max(memory_due, (Size) s3am_transaction_memory * 1024 / 4))
		keep_bounded();
	if (own->arena == NULL)
		own->arena = own_arena_create();
	if (own->unique && base)
		add_base(own, base);
	own_entry_form(&entry, own->arena, meta, values, nulls, base);
	if (own->tail && own->tail->n == TAIL_ENTRIES)
		freeze_tail(own, meta);
	if (own->tail == NULL || own->tail->n == own->tail->capacity)
	{
		OwnRun *larger = own_run_create(own->arena, own->tail ? Min(own->tail->capacity * 2, TAIL_ENTRIES) : 16);

		for (uint64 i = 0; own->tail && i < own->tail->n; i++)
			own_run_put(larger, &own->tail->entries[i]);
		if (own->tail)
			own_run_release(own->tail);
		own->tail = larger;
	}
	tail = own->tail;
	high = tail->n;
	/* most come in order */
	if (high > 0 && own_entry_compare(meta, &tail->entries[high - 1], &entry) <= 0)
		low = high;
	while (low < high)
	{
		uint64 middle = low + (high - low) / 2;

		if (own_entry_compare(meta, &tail->entries[middle], &entry) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	memmove(&tail->entries[low + 1], &tail->entries[low], sizeof(OwnEntry) * (tail->n - low));
	tail->n++;
	tail->entries[low] = entry;
	if (ROW_IS_OWN(entry.row))
		tail->highest = Max(tail->highest, entry.row - OWN_BASE);
}

/* ------------------------------------------------------------------------------------ reading */

uint64
own_index_entries(const OwnIndex *own)
{
	uint64 n = own->tail ? own->tail->n : 0;

	for (int i = 0; i < own->nruns; i++)
		n += own->runs[i]->n;
	return n;
}

/* What a scan holds; goes with its memory if the scan does not end. */
typedef struct Hold
{
	MemoryContextCallback callback;
	uint64 transaction;
	int n;
	OwnRun *runs[FLEXIBLE_ARRAY_MEMBER];
} Hold;

static void
let_go(void *arg)
{
	Hold *hold = arg;

	if (hold->transaction == transaction)
		for (int i = 0; i < hold->n; i++)
			own_run_release(hold->runs[i]);
	hold->n = 0;
}

void
own_hold_release(OwnHold *hold)
{
	let_go(hold);
}

int
own_index_hold(OwnIndex *own, const IndexMeta *meta, MemoryContext cxt, OwnHold **held, OwnReader ***readers)
{
	Hold *hold;

	freeze_tail(own, meta);
	*readers = MemoryContextAlloc(cxt, sizeof(OwnReader *) * Max(own->nruns, 1));
	hold = MemoryContextAlloc(cxt, offsetof(Hold, runs) + sizeof(OwnRun *) * own->nruns);
	hold->transaction = transaction;
	hold->n = own->nruns;
	for (int i = 0; i < own->nruns; i++)
		(*readers)[i] = own_reader(own->runs[i], meta, cxt);
	for (int i = 0; i < own->nruns; i++)
	{
		hold->runs[i] = own->runs[i];
		own->runs[i]->refs++;
	}
	hold->callback.func = let_go;
	hold->callback.arg = hold;
	MemoryContextRegisterResetCallback(cxt, &hold->callback);
	*held = (OwnHold *) hold;
	return own->nruns;
}

void
own_index_clear(OwnIndex *own)
{
	for (int i = 0; i < own->nruns; i++)
		own_run_release(own->runs[i]);
	own->nruns = own->nfiles = 0;
	if (own->tail)
		own_run_release(own->tail);
	own->tail = NULL;
	if (own->arena)
		own_arena_release(own->arena);
	own->arena = NULL;
	own->nbatches = 0;
	own->built = true;
}

void
own_index_batches(OwnIndex *own, int nbatches, S3am__Batch **batches)
{
	/* the caller's memory may end with its statement */
	MemoryContext old = MemoryContextSwitchTo(own_context());

	own->nbatches = nbatches;
	own->batches = batches;
	own->parts = palloc0(sizeof(RunPart) * Max(nbatches, 1));
	for (int i = 0; i < nbatches; i++)
	{
		RunPart *part = &own->parts[i];
		const S3am__Batch *batch = batches[i];
		const S3am__SegmentRef *ref = batch->segment;
		PageStart *pages = MemoryContextAllocHuge(own_context(), sizeof(PageStart) * (batch->pages->n_rows + (Size) 1));

		page_starts_fill(batch, pages);
		part->source.nrows = batch->nrows + batch->inner;
		part->source.inner = batch->inner > 0 ? batch->nrows : 0;
		part->source.npages = batch->pages->n_rows;
		part->source.pages = pages;
		part->source.cache_owner = node_current()->cache_owner;
		part->source.epoch = ref->epoch;
		part->source.number = ref->number;
		part->source.len = ref->size - ref->footer_size;
		part->source.identity = segment_identity(bucket_repository_uuid(), ref->epoch, ref->number);
		part->entries = batch->nrows;
		filter_describe(&part->filter, batch);
		part->schema = schema_pack(batch->schema);
	}
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------------------ undoing */

void
own_index_forget_rows(uint64 table_storage, uint64 n)
{
	ListCell *lc;

	foreach (lc, indexes)
	{
		OwnIndex *own = lfirst(lc);

		if (own->table != table_storage)
			continue;
		for (int i = 0; i < own->nruns; i++)
			if (own->runs[i]->highest >= n)
				own->runs[i]->limit = Min(own->runs[i]->limit, n);
		if (own->tail && own->tail->highest >= n)
		{
			OwnRun *tail = own->tail;
			uint64 kept = 0;

			tail->highest = 0;
			for (uint64 i = 0; i < tail->n; i++)
			{
				OwnEntry *entry = &tail->entries[i];

				if (ROW_IS_OWN(entry->row) && entry->row - OWN_BASE >= n)
					continue;
				if (ROW_IS_OWN(entry->row))
					tail->highest = Max(tail->highest, entry->row - OWN_BASE);
				tail->entries[kept++] = *entry;
			}
			tail->n = kept;
		}
	}
}

void
own_index_subabort(SubTransactionId sub)
{
	ListCell *lc;

	foreach (lc, indexes)
	{
		OwnIndex *own = lfirst(lc);

		if (own->made < sub)
			continue;
		own_index_clear(own);
		indexes = foreach_delete_current (indexes, lc);
	}
	last_index = NULL;
}

void
own_index_subcommit(SubTransactionId sub, SubTransactionId parent)
{
	ListCell *lc;

	foreach (lc, indexes)
		if (((OwnIndex *) lfirst(lc))->made >= sub)
			((OwnIndex *) lfirst(lc))->made = parent;
}

Size
own_index_most_memory(void)
{
	return memory_most;
}

void
own_index_reset(void)
{
	indexes = NIL;
	last_index = NULL;
	ownrun_memory = memory_due = memory_most = 0;
	transaction++;
	ahead_reset();
}

/* ------------------------------------------------------------------------------------ the record */

int
own_index_count(void)
{
	return list_length(indexes);
}

/* Keys of the entries that an edit adds (rule 18). */
typedef struct AddedKeys
{
	const KeyOrder *order;
	int nkeys;
	KeyRanges ranges;
	KeyEnd first, last; /* of the last entries, which are neighbours: one range */
	uint64 n, per_range; /* entries in it; that may be in one */
} AddedKeys;

static void
begin_added(AddedKeys *added, IndexMeta *meta, uint64 entries)
{
	memset(added, 0, sizeof(*added));
	added->order = key_order(meta);
	added->nkeys = meta->nkeys;
	added->ranges.max = ADDED_RANGES_MAX;
	added->ranges.cxt = CurrentMemoryContext;
	/* of very many it is not looked for the gaps between all of them */
	added->per_range = key_order_is_sorted(added->order) ? entries / ADDED_ALONE + 1 : 1;
}

static void
add_added(AddedKeys *added)
{
	KeyRange range = {.low = added->first};

	key_end_of(&added->last, &range.high);
	key_ranges_add(&added->ranges, &range);
	added->n = 0;
}

/* Entries come in the order of the index. */
static void
put_added(AddedKeys *added, const Datum *values, const bool *nulls)
{
	if (added->n == added->per_range)
		add_added(added);
	(void) key_order_put(added->order, added->nkeys, added->nkeys, values, nulls, &added->last);
	if (added->n++ == 0)
		added->first = added->last;
}

static void
finish_added(AddedKeys *added, S3am__TableEdit *edit)
{
	if (added->n > 0)
		add_added(added);
	edit->n_added = key_ranges_write(&added->ranges, &edit->added);
}

/* What of the index goes into the manifest, as a run; rows get their numbers in the table's edit. */
static void
write_entries(OwnIndex *own, IndexMeta *meta, FinalRows *finals, S3am__TableEdit *edit)
{
	AddedKeys added;
	Size bytes = own->nfiles ? SIZE_MAX : 0;
	Datum *values = palloc(sizeof(Datum) * meta->desc->natts);
	bool *nulls = palloc(sizeof(bool) * meta->desc->natts);
	RunWriter *volatile writer = NULL;
	S3am__Batch **batches;
	int n;

	begin_added(&added, meta, own_index_entries(own));
	for (int i = own->nfiles; i < own->nruns; i++)
	{
		OwnRun *run = own->runs[i];

		for (uint64 e = 0; e < run->n && bytes <= (Size) s3am_inline_limit * 1024; e++)
			bytes += run->entries[e].tuple->t_len;
	}
	PG_TRY();
	{
		OwnMerge *merge = own_merge_begin(meta, own->runs, own->nruns);
		const OwnEntry *entry;

		while ((entry = own_merge_next(merge)) != NULL)
		{
			HeapTupleData tuple = own_entry_tuple(entry);
			uint64 final = entry->row;

			if (ROW_IS_OWN(entry->row))
			{
				if (finals == NULL || !record_final_row(finals, entry->row - OWN_BASE, &final))
					continue;
				final += OWN_BASE;
			}
			heap_deform_tuple(&tuple, meta->desc, values, nulls);
			values[ENTRY_ROW] = Int64GetDatum(final);
			if (writer == NULL)
			{
				writer = run_begin(meta, bytes > (Size) s3am_inline_limit * 1024);
				run_with_filter(writer, meta);
			}
			run_add(writer, values, nulls);
			put_added(&added, values + ENTRY_KEY, nulls + ENTRY_KEY);
		}
		own_merge_end(merge);
	}
	PG_CATCH();
	{
		if (writer)
			run_discard(writer);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (writer == NULL)
		return;
	/* one that was built has all keys */
	if (edit->n_batches == 0)
		finish_added(&added, edit);
	n = run_finish(writer, &batches);
	edit->batches =
		edit->batches ? repalloc(edit->batches, sizeof(void *) * (edit->n_batches + n)) : palloc(sizeof(void *) * n);
	for (int i = 0; i < n; i++)
		edit->batches[edit->n_batches++] = batches[i];
}

static int
compare_numbers(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a, y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* A claim on the whole index, as all builds read it. */
static S3am__KeyClaim *
add_claim(S3am__Txn *txn, const OwnIndex *own, uint64 base)
{
	S3am__KeyClaim *claim = palloc(sizeof(*claim));

	s3am__key_claim__init(claim);
	claim->index = own->storage;
	claim->mode = S3AM__MODE__UPDATE;
	claim->base_version = base;
	claim->hashes = palloc0(sizeof(uint64));
	claim->hashes[0] = KEY_HASH_INDEX;
	claim->n_hashes = 1;
	txn->keys[txn->n_keys++] = claim;
	return claim;
}

/* Place of the newest of the index's bases that is not newer than this one. */
static int
find_base(const OwnIndex *own, uint64 base)
{
	int low = 0, high = own->nbases - 1;

	while (low < high)
	{
		int middle = low + (high - low + 1) / 2;

		if (own->bases[middle] <= base)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/*
 * Hashes of the keys that were added, with their bases, to be sorted: the place of the base stands above the highest bits of the hash that
 * there is room for.
 */
typedef struct ClaimedKeys
{
	int base_bits;
	uint64 *of_base; /* how many there are for each base */
	uint64 n;
	uint64 *values; /* if they fit into memory; or */
	Tuplesortstate *sort;
	uint64 next; /* to be read */
} ClaimedKeys;

/* An order of signed numbers that is that of the values. */
#define SORTED(value) ((value) ^ (UINT64CONST(1) << 63))

static void
put_claimed(ClaimedKeys *claimed, int base, uint64 hash)
{
	uint64 value = key_hash_rotate(hash) >> claimed->base_bits;

	if (claimed->base_bits > 0)
		value |= (uint64) base << (64 - claimed->base_bits);
	claimed->of_base[base]++;
	if (claimed->sort)
		tuplesort_putdatum(claimed->sort, Int64GetDatum(SORTED(value)), false);
	else
	{
		Assert(claimed->values != NULL);
		claimed->values[claimed->n] = value;
	}
	claimed->n++;
}

static bool
next_claimed(ClaimedKeys *claimed, uint64 *value)
{
	Datum datum;
	bool isnull;

	if (claimed->sort == NULL)
	{
		if (claimed->next == claimed->n)
			return false;
		*value = claimed->values[claimed->next++];
		return true;
	}
	if (!tuplesort_getdatum(claimed->sort, true, &datum, &isnull, NULL))
		return false;
	*value = SORTED((uint64) DatumGetInt64(datum));
	return true;
}

/* False: they cannot be told one by one. */
static bool
collect_claimed(ClaimedKeys *claimed, OwnIndex *own, const IndexMeta *meta)
{
	const KeyHasher *hasher = meta->coder ? NULL : key_hasher(meta->index);
	Datum *values = palloc(sizeof(Datum) * meta->desc->natts);
	bool *nulls = palloc(sizeof(bool) * meta->desc->natts);
	bool whole = false, coarse;

	for (int r = 0; r < own->nruns; r++)
	{
		OwnMerge *merge = own_merge_begin(meta, &own->runs[r], 1);
		const OwnEntry *entry;

		while ((entry = own_merge_next(merge)) != NULL)
		{
			HeapTupleData tuple = own_entry_tuple(entry);
			uint64 hash;

			if (entry->base == 0)
				continue;
			heap_deform_tuple(&tuple, meta->desc, values, nulls);
			if (hasher && key_is_distinct(hasher, nulls + ENTRY_KEY))
				continue;
			hash = hasher ? key_hash_global(hasher, values + ENTRY_KEY, nulls + ENTRY_KEY, &coarse)
						  : hash_code_global(meta->coder, DatumGetInt64(values[ENTRY_KEY]));
			whole |= hash == KEY_HASH_INDEX;
			put_claimed(claimed, find_base(own, entry->base), hash);
		}
		own_merge_end(merge);
	}
	return !whole;
}

/*
 * Keys that were added to a unique index, those that were removed again included: a claim for each version up to which they were looked for.
 * All together take a quarter of s3am.transaction_memory: of very many keys each has fewer bits.
 */
static void
claim_keys(S3am__Txn *txn, OwnIndex *own, const IndexMeta *meta)
{
	Size budget = Max((Size) s3am_transaction_memory * 1024 / 4, CLAIM_BYTES_MIN);
	ClaimedKeys claimed = {0};
	uint64 total = 0, value, bits_each;
	KeyCoder coder = {0};
	int base = -1;
	bool exact;

	if (own->nbases == 0)
		return;
	for (int r = 0; r < own->nruns; r++)
		total += own->runs[r]->n;
	while (1 << claimed.base_bits < own->nbases)
		claimed.base_bits++;
	txn->keys = txn->keys ? repalloc(txn->keys, sizeof(void *) * (txn->n_keys + own->nbases))
						  : palloc(sizeof(void *) * own->nbases);
	claimed.of_base = palloc0(sizeof(uint64) * own->nbases);
	if (total <= budget / sizeof(uint64))
		claimed.values = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(uint64) * (total + 1));
	else
		claimed.sort =
			tuplesort_begin_datum(INT8OID, Int8LessOperator, InvalidOid, false, budget / 1024, NULL, TUPLESORT_NONE);
	exact = collect_claimed(&claimed, own, meta);
	bits_each = claimed.n ? budget * 8 / claimed.n : 0;
	if (claimed.n > 0 && (!exact || bits_each < CLAIM_BITS_MIN))
	{
		while (claimed.of_base[++base] == 0)
			;
		(void) add_claim(txn, own, own->bases[base]);
	}
	else if (claimed.n > 0)
	{
		if (claimed.sort)
			tuplesort_performsort(claimed.sort);
		else
			qsort(claimed.values, claimed.n, sizeof(uint64), compare_numbers);
		while (next_claimed(&claimed, &value))
		{
			int of = claimed.base_bits ? value >> (64 - claimed.base_bits) : 0;

			if (coder.message == NULL || of != base)
			{
				S3am__KeyClaim *claim = add_claim(txn, own, own->bases[of]);
				uint32 bits = key_hashes_bits(bits_each, claimed.of_base[of], 64 - claimed.base_bits);

				if (coder.message)
					key_coder_end(&coder);
				base = of;
				claim->keys = palloc(sizeof(*claim->keys));
				key_coder_begin(&coder, claim->keys, bits, claimed.of_base[of],
								MemoryContextAllocExtended(CurrentMemoryContext,
														   key_hashes_size(bits, claimed.of_base[of]),
														   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
			}
			key_coder_put(&coder, value << claimed.base_bits >> (64 - coder.message->bits));
		}
		if (coder.message)
			key_coder_end(&coder);
	}
	if (claimed.sort)
		tuplesort_end(claimed.sort);
	if (claimed.values)
		pfree(claimed.values);
}

/* The index that this transaction has added entries to.  NULL: what a rolled back subtransaction has used, or what is dropped. */
static Relation
open_recorded(OwnIndex *own, bool (*is_dropped)(uint64 storage))
{
	Relation index;

	/* the first has no lock on it any more: others may be about to drop it */
	if (is_dropped(own->storage) || is_undone(own))
		return NULL;
	index = open_index(own);
	if (index == NULL)
		elog(ERROR, "the index with OID %u has gone, to which this transaction has added", own->relid);
	return index;
}

void
own_index_record(S3am__Txn *txn, FinalRows *(*finals_of)(void *arg, uint64 table_storage), void *arg,
				 bool (*is_dropped)(uint64 storage))
{
	ListCell *lc;

	foreach (lc, indexes)
	{
		OwnIndex *own = lfirst(lc);
		Relation index = open_recorded(own, is_dropped);
		S3am__TableEdit *edit;
		IndexMeta *meta;

		if (index == NULL)
			continue;
		meta = index_meta_kept(index);
		freeze_tail(own, meta);
		edit = palloc(sizeof(*edit));
		s3am__table_edit__init(edit);
		edit->storage = own->storage;
		edit->rows_of = own->table;
		if (own->nbatches)
		{
			edit->batches = palloc(sizeof(void *) * own->nbatches);
			memcpy(edit->batches, own->batches, sizeof(void *) * own->nbatches);
			edit->n_batches = own->nbatches;
		}
		write_entries(own, meta, finals_of(arg, own->table), edit);
		relation_close(index, AccessShareLock);
		if (edit->n_batches == 0)
			continue;
		for (size_t i = 1; i < edit->n_batches; i++)
			(void) batch_share_schema(edit->batches[i], edit->batches[0]);
		txn->tables[txn->n_tables++] = edit;
	}
	/* claims of many keys take as much memory as what is on its way by now */
	bucket_segment_wait_all();
	spill_give_back();
	foreach (lc, indexes)
	{
		OwnIndex *own = lfirst(lc);
		Relation index = own->nbases ? open_recorded(own, is_dropped) : NULL;

		if (index == NULL)
			continue;
		claim_keys(txn, own, index_meta_kept(index));
		relation_close(index, AccessShareLock);
	}
}
