/*
 * insert.c: an entry for a new row; uniqueness, and EXCLUDE.
 *
 * Who wants to add a key to a unique index takes a lock on its hash first.  So of all
 * sessions of this server one at a time looks whether the key is there and adds it, and keeps the others waiting until its transaction
 * has ended.  Rows that other sessions have not committed cannot be seen, and need not be.  Other servers are kept out by the claim
 * of the key at COMMIT.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "index/index.h"
#include "index/keyhash.h"
#include "index/keyorder.h"
#include "table/table.h"
#include "txn/keylock.h"
#include "txn/reads.h"
#include "txn/rowlock.h"
#include "txn/txn.h"

/* Kept for a statement. */
typedef struct InsertCache
{
	IndexMeta *meta;
	KeyHasher *hasher;
	StorageId storage, table;
	MemoryContext cxt; /* reset after each entry */
} InsertCache;

static InsertCache *
make_cache(Relation index, Relation heap, IndexInfo *info)
{
	MemoryContext old = MemoryContextSwitchTo(info->ii_Context);
	InsertCache *cache = palloc0(sizeof(InsertCache));

	cache->meta = index_meta_kept(index);
	if (cache->meta->coder == NULL && (index->rd_index->indisunique || index->rd_index->indisexclusion))
		cache->hasher = key_hasher(index);
	cache->storage = storage_of(index);
	cache->table = storage_of(heap);
	cache->cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am index insert", ALLOCSET_DEFAULT_SIZES);
	info->ii_AmCache = cache;
	MemoryContextSwitchTo(old);
	return cache;
}

static void
fail_duplicate(Relation index, Relation heap, Datum *values, bool *isnull)
{
	char *key = BuildIndexValueDescription(index, values, isnull);

	ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION),
					errmsg("duplicate key value violates unique constraint \"%s\"", RelationGetRelationName(index)),
					key ? errdetail("Key %s already exists.", key) : 0,
					errtableconstraint(heap, RelationGetRelationName(index))));
}

/* Is there another living row with this key?  *row: which.  own_too: the transaction may have added one. */
static bool
find_other(InsertCache *cache, Relation heap, const Datum *values, const bool *isnull, uint64 own_row, bool own_too,
		   uint64 *row)
{
	IndexBound bound = {0};
	IndexSearch search;
	bool found = false;

	bound.n = cache->meta->nkeys;
	bound.inclusive = true;
	for (int i = 0; i < bound.n; i++)
	{
		bound.values[i] = values[i];
		bound.nulls[i] = isnull[i];
		bound.order[i] = cache->meta->order[i];
	}
	search_open(&search, cache->meta, cache->storage.storage, state_current_pos(node_wait_ready()), own_too,
				cache->cxt);
	search_only(&search, &bound, 0);
	for (search_seek(&search, &bound, true); search.current && search_compare(&search, &bound) == 0;
		 search_next(&search))
	{
		CHECK_FOR_INTERRUPTS();
		*row = search_row(&search);
		if (*row != own_row && table_row_is_live(heap, *row))
		{
			found = true;
			break;
		}
	}
	search_close(&search);
	return found;
}

/*
 * A serializable transaction that has read in the table, and perhaps looked for the key, before the row came fails with what says that it may be retried,
 * as in heap.  Who goes on after the error relies on the row that was in the way.
 */
static void
rely_on_duplicate(InsertCache *cache, Relation heap, uint64 row)
{
	S3Node *node = node_wait_ready();

	txn_check_reads();
	if (ROW_IS_OWN(row))
		return;
	if (reads_of_table(cache->table.storage) && table_row_is_newer(heap, row, GetTransactionSnapshot()))
		txn_fail_reads(POS_VERSION(state_current_pos(node)));
	txn_read_row(heap, row, state_current_pos(node));
	reads_note_current();
}

/* So does who was told that the key is free.  If a savepoint takes the row back no entry will be there to claim the key. */
static void
rely_on_absence(InsertCache *cache, Relation index, const Datum *values, const bool *isnull)
{
	const IndexMeta *meta = cache->meta;
	RangeRead read = {0};
	KeyRange range;

	reads_note_current();
	if (GetCurrentTransactionNestLevel() == 1)
		return;
	(void) key_order_put(key_order(cache->meta), meta->nkeys, meta->nkeys, values, isnull, &range.low);
	key_end_of(&range.low, &range.high);
	reads_begin_range(&read, index, state_current_pos(node_wait_ready()), &range);
	reads_end_range(&read, NULL);
}

/*
 * True: the key is this row's alone.  False: perhaps not, and it is only to be told (check is PARTIAL).  Throws if it is not.  *base: the
 * version up to which it was looked for.
 */
static bool
check_unique(InsertCache *cache, Relation index, Relation heap, Datum *values, bool *isnull, uint64 own_row,
			 IndexUniqueCheck check, uint64 *base)
{
	S3Node *node = node_wait_ready();
	uint64 hash = key_hash_local(cache->hasher, values, isnull);
	/* a constraint that is looked at later must not be waited for now; ON CONFLICT waits */
	bool wait = check != UNIQUE_CHECK_PARTIAL || index->rd_index->indimmediate;

	/* who adds a key has its lock: without that none of its entries has it, but for those that CREATE INDEX made */
	OwnIndex *own = own_index(cache->storage.storage);
	bool held = check == UNIQUE_CHECK_EXISTING || (own && own->built) || keylock_held(cache->storage.storage, hash);

	for (;;)
	{
		uint64 row;

		*base = txn_base(node);
		if (keylock_acquire(index, cache->storage.storage, hash, wait ? LockWaitBlock : LockWaitSkip) ==
			ROWLOCK_SKIPPED)
			return false;
		/* the key may have been waited for: who had it must not conflict with this claim */
		*base = txn_base_now(node);
		if (!find_other(cache, heap, values, isnull, own_row, held, &row))
		{
			if (IsolationIsSerializable())
				rely_on_absence(cache, index, values, isnull);
			return true;
		}
		if (wait && !ROW_IS_OWN(row) && rowlock_conflicts(cache->table.storage, row, LockTupleKeyShare))
		{
			/* somebody is about to remove that row, or not */
			(void) rowlock_acquire(heap, cache->table.storage, row, LockTupleKeyShare, LockWaitBlock, txn_base(node));
			if (!table_row_is_live(heap, row))
				rowlock_release(cache->table.storage, row, LockTupleKeyShare);
			continue;
		}
		if (check == UNIQUE_CHECK_PARTIAL)
			return false;
		/* it may be what another server made of the row that is updated here, between the lock on that and the look for the key */
		txn_check_doomed();
		if (IsolationIsSerializable())
			rely_on_duplicate(cache, heap, row);
		fail_duplicate(index, heap, values, isnull);
	}
}

/*
 * Of an exclusion constraint core looks for the key itself once the entry is there, and sees what is committed by then; it is enough that
 * nobody else adds the key from now on.  A constraint that is looked at later is waited for as well: core looks now whether there is anything to be
 * looked at later, and does not see what others have not committed.  The version up to which others cannot conflict.
 */
static uint64
exclude_others(InsertCache *cache, Relation index, const Datum *key, const bool *isnull)
{
	S3Node *node = node_wait_ready();
	uint64 hash =
		cache->meta->coder ? hash_code_local(DatumGetInt64(key[0])) : key_hash_local(cache->hasher, key, isnull);

	(void) keylock_acquire(index, cache->storage.storage, hash, LockWaitBlock);
	return txn_base_now(node);
}

bool
index_am_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap, IndexUniqueCheck check,
				bool unchanged, IndexInfo *info)
{
	InsertCache *cache = info->ii_AmCache ? info->ii_AmCache : make_cache(index, heap, info);
	MemoryContext old = MemoryContextSwitchTo(cache->cxt);
	Datum entry[INDEX_MAX_KEYS + 1];
	bool nulls[INDEX_MAX_KEYS + 1];
	uint64 base = 0;
	bool alone = true;

	meta_form(cache->meta, tid_to_row(tid), values, isnull, entry, nulls);
	if (cache->meta->coder && nulls[ENTRY_KEY])
	{
		/* equal to nothing, and not in a hash index, as in core's */
		MemoryContextSwitchTo(old);
		return true;
	}
	if (index->rd_index->indisexclusion && (cache->meta->coder || !key_is_distinct(cache->hasher, isnull)))
		base = exclude_others(cache, index, entry + ENTRY_KEY, nulls + ENTRY_KEY);
	if (check != UNIQUE_CHECK_NO && !key_is_distinct(cache->hasher, isnull))
		alone = check_unique(cache, index, heap, entry + ENTRY_KEY, nulls + ENTRY_KEY, tid_to_row(tid), check, &base);
	if (check != UNIQUE_CHECK_EXISTING)
		own_index_add(own_index_for_write(cache->meta, cache->storage.storage, cache->table.storage), cache->meta,
					  entry, nulls, base);
	MemoryContextSwitchTo(old);
	MemoryContextReset(cache->cxt);
	return alone;
}
