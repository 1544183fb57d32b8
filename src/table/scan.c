/*
 * scan.c: sequential, parallel, TID-range, sample, bitmap and ANALYZE scans.
 *
 * All of them go over rows in the order of their ids: committed ones, then those of the own transaction.  A scan keeps one
 * number, the row it stands on, and steps by one either way; gaps are skipped a batch at a time.  For an MVCC snapshot visibility is
 * decided for the rows of a page together, when the scan comes to it (ViewStretch).
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/tsmapi.h"
#include "access/valid.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/tidbitmap.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ddl/ddl.h"
#include "node/bucket.h"
#include "s3am.h"
#include "table/table.h"

typedef struct S3ParallelScan
{
	ParallelTableScanDescData base;
	uint64 limit; /* rows below this are scanned */
	pg_atomic_uint64 next;
} S3ParallelScan;

/* Rows that a participant of a parallel scan takes at a time. */
#define PARALLEL_CHUNK (ROWS_PER_BLOCK * 256)

typedef struct S3Scan
{
	TableScanDescData base;
	TableView view;
	MemoryContext cxt;
	bool started;
	bool done;
	int64 row; /* where it stands: committed row id, or limit + n for own row n */
	uint64 limit; /* committed rows that exist for this scan: ids below */
	ViewStretch stretch; /* around `row` */
	const BatchEntry *batch; /* of it */
	BatchHint hint; /* where a search begins */
	ItemPointerData mintid, maxtid;
	/* a window of rows to deliver: sample, ANALYZE, parallel */
	uint64 window_next, window_end;
	bool claimed; /* parallel: the next window is ours already, since what is in it is being read */
	uint64 claimed_first, claimed_end;
	bool window_own;
	BlockNumber analyze_blocks; /* that ANALYZE was told of; 0 not asked yet */
	/* bitmap */
	struct BitmapHeapScanState *bitmap_node; /* or NULL */
	TBMIterator *bitmap_ahead; /* over what is requested ahead; NULL: nothing yet */
	TBMIterateResult *bitmap_soon; /* where it is; NULL: at its end, if it has begun */
	int bitmap_window; /* pages */
	uint64 bitmap_loaded; /* row_pages_loaded at the last block */
	ReadAhead bitmap_wanted;
	int bitmap_n, bitmap_i;
	uint64 bitmap_rows[ROWS_PER_BLOCK];
} S3Scan;

static inline uint64
own_count(S3Scan *scan)
{
	view_refresh_own(&scan->view);
	return scan->view.own ? scan->view.own->rows.nrows : 0;
}

/* The bitmap may be gone already; an iterator is memory and no more. */
static void
bitmap_forget(S3Scan *scan)
{
	read_ahead_release(&scan->bitmap_wanted);
	if (scan->bitmap_ahead)
		tbm_end_iterate(scan->bitmap_ahead);
	scan->bitmap_ahead = NULL;
	scan->bitmap_soon = NULL;
	scan->bitmap_window = 0;
	scan->bitmap_loaded = row_pages_loaded;
}

static void
reset_scan(S3Scan *scan)
{
	scan->started = scan->done = false;
	scan->stretch.first = scan->stretch.end = 0;
	scan->batch = NULL;
	scan->hint = (BatchHint){0, 0};
	scan->window_next = scan->window_end = 0;
	scan->claimed = false;
	read_ahead_release(&scan->view.ahead);
	read_ahead_release(&scan->view.own_ahead);
	bitmap_forget(scan);
	scan->limit = scan->view.table ? pg_atomic_read_u64(&scan->view.table->next_row) : 0;
	if (scan->view.table)
		view_choose_batches(&scan->view, scan->view.pos);
	if (scan->base.rs_parallel)
		scan->limit = Min(scan->limit, ((S3ParallelScan *) scan->base.rs_parallel)->limit);
	scan->view.ahead_end = scan->base.rs_parallel ? 0 : scan->limit;
	if (ddl_replaying())
		scan->done = true;
}

/* Is what this scan reads claimed (rule 18)? */
static bool
claims_reads(S3Scan *scan)
{
	return IsolationIsSerializable() && scan->view.type == SNAPSHOT_MVCC && !IsParallelWorker() && !ddl_replaying();
}

static bool chunk_after_next(TableView *view);

static TableScanDesc
scan_begin(Relation rel, Snapshot snapshot, int nkeys, struct ScanKeyData *key, ParallelTableScanDesc pscan,
		   uint32 flags)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am scan", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	S3Scan *scan = palloc0(sizeof(S3Scan));

	RelationIncrementReferenceCount(rel);
	old = MemoryContextSwitchTo(cxt);
	scan->base.rs_rd = rel;
	scan->base.rs_snapshot = snapshot;
	scan->base.rs_nkeys = nkeys;
	scan->base.rs_flags = flags;
	scan->base.rs_parallel = pscan;
	scan->cxt = scan->stretch.cxt = cxt;
	view_open(&scan->view, rel, snapshot);
	view_guard(&scan->view, cxt);
	scan->view.once = (flags & (SO_TYPE_TIDSCAN | SO_TYPE_BITMAPSCAN)) == 0;
	MemoryContextSwitchTo(old);
	if (nkeys > 0)
	{
		scan->base.rs_key = palloc(sizeof(ScanKeyData) * nkeys);
		if (key)
			memcpy(scan->base.rs_key, key, sizeof(ScanKeyData) * nkeys);
	}
	/* rows that are found by TID or in a bitmap are claimed one by one */
	if (claims_reads(scan) && (flags & (SO_TYPE_TIDSCAN | SO_TYPE_BITMAPSCAN)) == 0)
		txn_read_table(rel, scan->view.pos);
	txn_check_doomed();
	reset_scan(scan);
	if (pscan)
		scan->view.ahead_more = chunk_after_next;
	pgstat_count_heap_scan(rel);
	return &scan->base;
}

static void
scan_end(TableScanDesc sscan)
{
	S3Scan *scan = (S3Scan *) sscan;

	view_close(&scan->view);
	if (scan->base.rs_key)
		pfree(scan->base.rs_key);
	if (scan->base.rs_flags & SO_TEMP_SNAPSHOT)
		UnregisterSnapshot(scan->base.rs_snapshot);
	RelationDecrementReferenceCount(scan->base.rs_rd);
	MemoryContextDelete(scan->cxt);
	pfree(scan);
}

static void
scan_rescan(TableScanDesc sscan, struct ScanKeyData *key, bool set_params, bool allow_strat, bool allow_sync,
			bool allow_pagemode)
{
	S3Scan *scan = (S3Scan *) sscan;

	if (key && scan->base.rs_nkeys > 0)
		memcpy(scan->base.rs_key, key, sizeof(ScanKeyData) * scan->base.rs_nkeys);
	reset_scan(scan);
}

static bool
keys_match(S3Scan *scan, TupleTableSlot *slot)
{
	ScanKey key = scan->base.rs_key;

	for (int i = 0; i < scan->base.rs_nkeys; i++, key++)
	{
		bool isnull;
		Datum value;

		if (key->sk_flags & SK_ISNULL)
			return false;
		value = slot_getattr(slot, key->sk_attno, &isnull);
		if (isnull || !DatumGetBool(FunctionCall2Coll(&key->sk_func, key->sk_collation, value, key->sk_argument)))
			return false;
	}
	return true;
}

/* Delivers a row if it is visible. */
static bool
deliver(S3Scan *scan, uint64 row, TupleTableSlot *slot)
{
	const BatchEntry *batch;

	if (view_row_state(&scan->view, row, &batch) != ROW_VISIBLE)
		return false;
	if (!view_fetch_ahead(&scan->view, scan->base.rs_rd, row, batch, slot,
						  scan->bitmap_wanted.nranges > 0 ? &scan->bitmap_wanted : NULL))
		return false;
	if (scan->base.rs_nkeys > 0 && !keys_match(scan, slot))
	{
		ExecClearTuple(slot);
		return false;
	}
	return true;
}

/*
 * The nearest committed row id at or after (before) `row` that a batch holds which the snapshot may see; -1: none.  Its batch is in
 * scan->batch then.
 */
static int64
skip_gap(S3Scan *scan, int64 row, bool forward)
{
	const TableView *view = &scan->view;

	/* whole batches that the snapshot does not see are skipped at once */
	while (row >= 0)
	{
		const BatchEntry *entry = forward
									  ? state_batch_after(view->node, view->batches, view->nbatches, row, &scan->hint)
									  : state_batch_before(view->node, view->batches, view->nbatches, row, &scan->hint);

		if (entry == NULL)
			return -1;
		if (view->type != SNAPSHOT_MVCC || entry->pos <= view->pos)
		{
			scan->batch = entry;
			return forward ? Max((uint64) row, entry->first_row)
						   : Min((uint64) row, entry->first_row + entry->nrows - 1);
		}
		row = forward ? (int64) (entry->first_row + entry->nrows) : (int64) entry->first_row - 1;
	}
	return -1;
}

/* The nearest row at or after (before) `row` in the stretch that is visible; -1: none. */
static int64
seek_in_stretch(const ViewStretch *stretch, int64 row, bool forward)
{
	uint32 n = stretch->end - stretch->first;
	uint32 i = row - stretch->first;
	uint64 word;

	if (!stretch->some_hidden)
		return row;
	if (forward)
		for (word = ~stretch->hidden[i / 64] >> i % 64 << i % 64;; word = ~stretch->hidden[i / 64])
		{
			if (word != 0)
			{
				i = i / 64 * 64 + pg_rightmost_one_pos64(word);
				return i < n ? (int64) stretch->first + i : -1;
			}
			i = (i / 64 + 1) * 64;
			if (i >= n)
				return -1;
		}
	for (word = ~stretch->hidden[i / 64] << (63 - i % 64) >> (63 - i % 64);; word = ~stretch->hidden[i / 64])
	{
		if (word != 0)
			return (int64) stretch->first + i / 64 * 64 + pg_leftmost_one_pos64(word);
		if (i < 64)
			return -1;
		i = i / 64 * 64 - 1;
	}
}

/*
 * For an MVCC snapshot: the nearest committed row at or after (before) `row` and below `end` that is visible, put into the slot; -1:
 * none.
 */
static int64
next_visible(S3Scan *scan, int64 row, int64 end, bool forward, TupleTableSlot *slot)
{
	ViewStretch *stretch = &scan->stretch;

	for (;;)
	{
		if (likely(row >= (int64) stretch->first && row < (int64) stretch->end))
		{
			int64 found = seek_in_stretch(stretch, row, forward);

			if (found >= end)
				return -1;
			if (likely(found >= 0))
			{
				slot_store_page(slot, scan->base.rs_rd, found, stretch->xmin, stretch->page,
								found - stretch->batch_first, stretch->schema);
				if (scan->base.rs_nkeys == 0 || keys_match(scan, slot))
					return found;
				row = found + (forward ? 1 : -1);
			}
			else
				row = forward ? (int64) stretch->end : (int64) stretch->first - 1;
			continue;
		}
		CHECK_FOR_INTERRUPTS();
		if (row < 0 || row >= end)
			return -1;
		row = skip_gap(scan, row, forward);
		if (row < 0 || row >= end)
			return -1;
		view_stretch(&scan->view, scan->batch, row, stretch);
	}
}

/* Rows of a parallel scan are taken in chunks. */
static void
claim_chunk(S3Scan *scan)
{
	S3ParallelScan *shared = (S3ParallelScan *) scan->base.rs_parallel;

	if (scan->claimed)
		return;
	scan->claimed_first = pg_atomic_fetch_add_u64(&shared->next, PARALLEL_CHUNK);
	scan->claimed_first = Min(scan->claimed_first, scan->limit);
	scan->claimed_end = Min(scan->claimed_first + PARALLEL_CHUNK, scan->limit);
	scan->claimed = true;
}

/* What is read ahead does not end with a chunk. */
static bool
chunk_after_next(TableView *view)
{
	S3Scan *scan = (S3Scan *) ((char *) view - offsetof(S3Scan, view));

	claim_chunk(scan);
	view->ahead_then = scan->claimed_first;
	view->ahead_then_end = scan->claimed_end;
	return scan->claimed_first < scan->claimed_end;
}

static bool
next_parallel(S3Scan *scan, TupleTableSlot *slot)
{
	for (;;)
	{
		if (scan->view.type == SNAPSHOT_MVCC)
		{
			int64 row = next_visible(scan, scan->window_next, scan->window_end, true, slot);

			if (row >= 0)
			{
				scan->window_next = row + 1;
				return true;
			}
		}
		else
			while (scan->window_next < scan->window_end)
			{
				int64 row = skip_gap(scan, scan->window_next, true);

				CHECK_FOR_INTERRUPTS();
				if (row < 0 || (uint64) row >= scan->window_end)
					break;
				scan->window_next = row + 1;
				if (deliver(scan, row, slot))
					return true;
			}
		claim_chunk(scan);
		scan->window_next = scan->claimed_first;
		scan->window_end = scan->view.ahead_end = scan->claimed_end;
		if (scan->window_next >= scan->window_end)
			return false;
		scan->claimed = false;
	}
}

/* Committed rows below the limit, then own ones, which stand behind it. */
static bool
next_row(S3Scan *scan, bool forward, TupleTableSlot *slot)
{
	int64 limit = scan->limit;
	int64 end;

	if (likely(scan->started && scan->row >= 0 && scan->row < limit && scan->view.type == SNAPSHOT_MVCC))
	{
		/* whether there are own rows does not matter yet */
		int64 row = next_visible(scan, scan->row + (forward ? 1 : -1), limit, forward, slot);

		if (row >= 0)
		{
			scan->row = row;
			return true;
		}
		scan->row = forward ? limit - 1 : 0;
	}
	end = limit + (int64) own_count(scan);
	if (!scan->started)
	{
		scan->row = forward ? -1 : end;
		scan->started = true;
	}
	for (;;)
	{
		int64 row = scan->row + (forward ? 1 : -1);

		CHECK_FOR_INTERRUPTS();
		/* own rows that it stood on may have been rolled back */
		if (row >= end && !forward)
			row = end - 1;
		if (row >= end)
		{
			scan->row = end;
			return false;
		}
		if (row >= 0 && row < limit && scan->view.type == SNAPSHOT_MVCC)
		{
			row = next_visible(scan, row, limit, forward, slot);
			if (row >= 0)
			{
				scan->row = row;
				return true;
			}
			row = forward ? limit : -1;
		}
		else if (row >= 0 && row < limit)
		{
			row = skip_gap(scan, row, forward);
			if (row >= limit || (row < 0 && forward))
				row = limit;
		}
		if (row < 0)
		{
			scan->row = -1;
			return false;
		}
		if (row >= end)
		{
			scan->row = end;
			return false;
		}
		scan->row = row;
		if (deliver(scan, row < limit ? (uint64) row : OWN_BASE + (row - limit), slot))
			return true;
	}
}

static bool
scan_getnextslot(TableScanDesc sscan, ScanDirection direction, TupleTableSlot *slot)
{
	S3Scan *scan = (S3Scan *) sscan;

	if (!ddl_replaying() && (scan->base.rs_parallel ? next_parallel(scan, slot)
													: next_row(scan, !ScanDirectionIsBackward(direction), slot)))
	{
		pgstat_count_heap_getnext(scan->base.rs_rd);
		return true;
	}
	ExecClearTuple(slot);
	return false;
}

/* ------------------------------------------------------------------------------------ TID ranges */

/* About where a TID, whose offset may be any number, stands in the order of the scan: committed rows, then own ones. */
static int64
scan_place(S3Scan *scan, ItemPointer tid)
{
	OffsetNumber offset = ItemPointerGetOffsetNumberNoCheck(tid);
	uint64 row = (uint64) ItemPointerGetBlockNumberNoCheck(tid) * ROWS_PER_BLOCK +
				 (offset == 0 ? 0 : Min(offset, ROWS_PER_BLOCK) - 1);

	if (!ROW_IS_OWN(row))
		return Min(row, scan->limit);
	return scan->limit + Min(row - OWN_BASE, own_count(scan));
}

static void
scan_set_tidrange(TableScanDesc sscan, ItemPointer mintid, ItemPointer maxtid)
{
	S3Scan *scan = (S3Scan *) sscan;

	reset_scan(scan);
	scan->mintid = *mintid;
	scan->maxtid = *maxtid;
	scan->view.ahead_end = Min((uint64) scan_place(scan, maxtid) + 1, scan->limit);
}

static bool
scan_getnextslot_tidrange(TableScanDesc sscan, ScanDirection direction, TupleTableSlot *slot)
{
	S3Scan *scan = (S3Scan *) sscan;
	bool forward = !ScanDirectionIsBackward(direction);

	/* begin at the range, not at the table's end */
	if (!scan->started)
	{
		int64 place = forward ? scan_place(scan, &scan->mintid) - 2 : scan_place(scan, &scan->maxtid) + 2;

		scan->started = true;
		scan->row = Max(-1, Min(place, (int64) (scan->limit + own_count(scan))));
	}
	while (scan_getnextslot(sscan, direction, slot))
	{
		if (ItemPointerCompare(&slot->tts_tid, &scan->mintid) < 0)
		{
			if (!forward)
				break;
			continue;
		}
		if (ItemPointerCompare(&slot->tts_tid, &scan->maxtid) > 0)
		{
			if (forward)
				break;
			continue;
		}
		return true;
	}
	ExecClearTuple(slot);
	return false;
}

/* ------------------------------------------------------------------------------------ parallel */

static Size
parallelscan_estimate(Relation rel)
{
	return sizeof(S3ParallelScan);
}

static Size
parallelscan_initialize(Relation rel, ParallelTableScanDesc pscan)
{
	S3ParallelScan *shared = (S3ParallelScan *) pscan;
	S3Node *node = node_wait_ready();
	TableState *table = state_table(node, storage_of(rel).storage);

	shared->base.phs_relid = RelationGetRelid(rel);
	shared->base.phs_syncscan = false;
	shared->limit = table ? pg_atomic_read_u64(&table->next_row) : 0;
	pg_atomic_init_u64(&shared->next, 0);
	return sizeof(S3ParallelScan);
}

static void
parallelscan_reinitialize(Relation rel, ParallelTableScanDesc pscan)
{
	pg_atomic_write_u64(&((S3ParallelScan *) pscan)->next, 0);
}

/* ------------------------------------------------------------------------------------ bitmap */

void
scan_set_bitmap(TableScanDesc scan, BitmapHeapScanState *node)
{
	((S3Scan *) scan)->bitmap_node = node;
}

/* Requests the pages of a block's rows; false: there is no room for more. */
static bool
bitmap_request(S3Scan *scan, const TBMIterateResult *block)
{
	uint64 first = (uint64) block->blockno * ROWS_PER_BLOCK;
	int n = block->ntuples >= 0 ? block->ntuples : ROWS_PER_BLOCK;

	for (int i = 0; i < n; i++)
		if (!view_want(&scan->view, first + (block->ntuples >= 0 ? block->offsets[i] - 1 : i), &scan->bitmap_wanted))
			return false;
	return true;
}

/*
 * If rows of blocks before this one had to be read, the pages of those that follow are requested, the more the longer that goes on.  A bitmap that
 * parallel workers share is left alone: they take its blocks by turns.
 */
static void
bitmap_read_ahead(S3Scan *scan, BlockNumber block)
{
	MemoryContext old;

	if (scan->bitmap_node == NULL || scan->bitmap_node->tbm == NULL || scan->bitmap_node->pstate ||
		scan->bitmap_loaded == row_pages_loaded || scan->view.table == NULL)
		return;
	scan->bitmap_loaded = row_pages_loaded;
	scan->bitmap_window = Min(Max(scan->bitmap_window * 2, 2), AHEAD_RANGES / 2);
	if (scan->bitmap_ahead == NULL)
	{
		old = MemoryContextSwitchTo(scan->cxt);
		scan->bitmap_ahead = tbm_begin_iterate(scan->bitmap_node->tbm);
		MemoryContextSwitchTo(old);
		scan->bitmap_soon = tbm_iterate(scan->bitmap_ahead);
	}
	while (scan->bitmap_soon && scan->bitmap_soon->blockno < block)
		scan->bitmap_soon = tbm_iterate(scan->bitmap_ahead);
	read_ahead_before(&scan->bitmap_wanted, (uint64) block * ROWS_PER_BLOCK);
	while (scan->bitmap_soon && scan->bitmap_wanted.nranges < scan->bitmap_window)
	{
		/* a block of which a part was requested comes again */
		if (!bitmap_request(scan, scan->bitmap_soon))
			break;
		scan->bitmap_soon = tbm_iterate(scan->bitmap_ahead);
	}
	bucket_reads_go_on();
}

static bool
scan_bitmap_next_block(TableScanDesc sscan, struct TBMIterateResult *tbmres)
{
	S3Scan *scan = (S3Scan *) sscan;
	uint64 first = (uint64) tbmres->blockno * ROWS_PER_BLOCK;

	CHECK_FOR_INTERRUPTS();
	bitmap_read_ahead(scan, tbmres->blockno);
	scan->bitmap_i = scan->bitmap_n = 0;
	if (tbmres->ntuples >= 0)
		for (int i = 0; i < tbmres->ntuples; i++)
			scan->bitmap_rows[scan->bitmap_n++] = first + tbmres->offsets[i] - 1;
	else
		for (int i = 0; i < ROWS_PER_BLOCK; i++)
			scan->bitmap_rows[scan->bitmap_n++] = first + i;
	return scan->bitmap_n > 0;
}

static bool
scan_bitmap_next_tuple(TableScanDesc sscan, struct TBMIterateResult *tbmres, TupleTableSlot *slot)
{
	S3Scan *scan = (S3Scan *) sscan;

	while (scan->bitmap_i < scan->bitmap_n)
	{
		uint64 row = scan->bitmap_rows[scan->bitmap_i++];

		if (deliver(scan, row, slot))
		{
			if (claims_reads(scan) && !ROW_IS_OWN(row))
				txn_read_row(scan->base.rs_rd, row, scan->view.pos);
			pgstat_count_heap_fetch(scan->base.rs_rd);
			return true;
		}
	}
	ExecClearTuple(slot);
	return false;
}

/* ------------------------------------------------------------------------------------ samples */

/*
 * TABLESAMPLE sees the table as virtual blocks of 291 rows: committed ones, then those of the own rows.
 */
static BlockNumber
sample_blocks(S3Scan *scan)
{
	return (scan->limit + ROWS_PER_BLOCK - 1) / ROWS_PER_BLOCK +
		   (own_count(scan) + ROWS_PER_BLOCK - 1) / ROWS_PER_BLOCK;
}

static bool
scan_sample_next_block(TableScanDesc sscan, SampleScanState *scanstate)
{
	S3Scan *scan = (S3Scan *) sscan;
	TsmRoutine *tsm = scanstate->tsmroutine;
	BlockNumber blocks = sample_blocks(scan);
	BlockNumber committed = (scan->limit + ROWS_PER_BLOCK - 1) / ROWS_PER_BLOCK;
	BlockNumber block;

	CHECK_FOR_INTERRUPTS();
	if (blocks == 0)
		return false;
	if (tsm->NextSampleBlock)
		block = tsm->NextSampleBlock(scanstate, blocks);
	else
	{
		block = scan->started ? (BlockNumber) scan->row + 1 : 0;
		if (block >= blocks)
			block = InvalidBlockNumber;
	}
	if (!BlockNumberIsValid(block))
		return false;
	scan->started = true;
	scan->row = block;
	scan->window_own = block >= committed;
	scan->window_next = (uint64) (scan->window_own ? block - committed : block) * ROWS_PER_BLOCK;
	scan->window_end = Min(scan->window_next + ROWS_PER_BLOCK, scan->window_own ? own_count(scan) : scan->limit);
	return true;
}

static bool
scan_sample_next_tuple(TableScanDesc sscan, SampleScanState *scanstate, TupleTableSlot *slot)
{
	S3Scan *scan = (S3Scan *) sscan;
	TsmRoutine *tsm = scanstate->tsmroutine;

	for (;;)
	{
		OffsetNumber offset =
			tsm->NextSampleTuple(scanstate, (BlockNumber) scan->row, scan->window_end - scan->window_next);
		uint64 row;

		CHECK_FOR_INTERRUPTS();
		if (!OffsetNumberIsValid(offset))
			break;
		row = scan->window_next + offset - 1;
		if (deliver(scan, scan->window_own ? OWN_BASE + row : row, slot))
		{
			pgstat_count_heap_getnext(scan->base.rs_rd);
			return true;
		}
	}
	ExecClearTuple(slot);
	return false;
}

/* ------------------------------------------------------------------------------------ ANALYZE */

/*
 * Block b of the n that relation_size() gave means the b-th of n equal slices of the rows, since core's prefetching cannot look
 * at a block beyond the first gigabyte of an empty file.
 */
static bool
scan_analyze_next_block(TableScanDesc sscan, BlockNumber blockno, BufferAccessStrategy bstrategy)
{
	S3Scan *scan = (S3Scan *) sscan;
	uint64 total = scan->limit + own_count(scan);
	BlockNumber blocks = scan->analyze_blocks;
	double rows;

	CHECK_FOR_INTERRUPTS();
	if (blocks == 0)
		blocks = scan->analyze_blocks = table_virtual_blocks(scan->base.rs_rd, &rows);
	if (blocks == 0)
		return false;
	scan->window_next = (uint64) ((double) total * blockno / blocks);
	scan->window_end = (uint64) ((double) total * (blockno + 1) / blocks);
	if (blockno + 1 >= blocks)
		scan->window_end = total;
	return true;
}

static bool
scan_analyze_next_tuple(TableScanDesc sscan, TransactionId oldest_xmin, double *liverows, double *deadrows,
						TupleTableSlot *slot)
{
	S3Scan *scan = (S3Scan *) sscan;

	while (scan->window_next < scan->window_end)
	{
		uint64 n = scan->window_next++;
		uint64 row = n < scan->limit ? n : OWN_BASE + (n - scan->limit);
		SnapshotType type = scan->view.type;
		RowState state;
		const BatchEntry *batch;

		/* as of now: what is committed and what is our own */
		scan->view.type = SNAPSHOT_SELF;
		state = view_row_state(&scan->view, row, &batch);
		scan->view.type = type;
		if (state == ROW_ABSENT)
			continue;
		if (state == ROW_INVISIBLE)
		{
			*deadrows += 1;
			continue;
		}
		if (!view_fetch(&scan->view, scan->base.rs_rd, row, batch, slot))
			continue;
		*liverows += 1;
		return true;
	}
	ExecClearTuple(slot);
	return false;
}

void
scan_callbacks(TableAmRoutine *routine)
{
	routine->scan_begin = scan_begin;
	routine->scan_end = scan_end;
	routine->scan_rescan = scan_rescan;
	routine->scan_getnextslot = scan_getnextslot;
	routine->scan_set_tidrange = scan_set_tidrange;
	routine->scan_getnextslot_tidrange = scan_getnextslot_tidrange;
	routine->parallelscan_estimate = parallelscan_estimate;
	routine->parallelscan_initialize = parallelscan_initialize;
	routine->parallelscan_reinitialize = parallelscan_reinitialize;
	routine->scan_bitmap_next_block = scan_bitmap_next_block;
	routine->scan_bitmap_next_tuple = scan_bitmap_next_tuple;
	routine->scan_analyze_next_block = scan_analyze_next_block;
	routine->scan_analyze_next_tuple = scan_analyze_next_tuple;
	routine->scan_sample_next_block = scan_sample_next_block;
	routine->scan_sample_next_tuple = scan_sample_next_tuple;
}
