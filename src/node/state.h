/*
 * state.h: the rows that are committed, as this node knows them: tables, batches, deletes.
 *
 * One process, the publisher, changes the state; all others read it without any lock.  README.md says why that is sound.
 */
#ifndef S3AM_STATE_H
#define S3AM_STATE_H

#include "utils/snapshot.h"

#include "node/node.h"

#include "manifest/s3am.pb-c.h"
#include "manifest/sum.h"
#include "segment/batch.h"

typedef struct BatchEntry
{
	uint64 first_row, nrows;
	uint64 pos; /* that added it */
	uint64 raw; /* bytes of its rows, uncompressed */
	uint64 gone; /* rows of which only the number is left */
	uint64 inner; /* of an index's run: rows of its inner pages, behind the entries */
	uint64 row_base; /* what own row ids in its entries are relative to */
	bool continues; /* the run of the batch before it */
	uint32 xmin; /* unless its rows have their own */
	uint32 len; /* of the inline blob */
	dsa_pointer blob; /* inline rows; invalid: a segment */
	uint64 epoch, /* the segment; 0: inline */
		number, size;
	uint32 footer_size;
	uint32 npages;
	dsa_pointer pages; /* PageStart[npages + 1]; invalid: one page, all of `blob` */
	dsa_pointer schema; /* SchemaEntry */
	BatchFilter filter; /* of an index's segment */
	/*
	 * BaseLeaf: this is no batch, but all those of that leaf, which lie from first_row on within nrows; nothing else is set.  Valid only in
	 * a table's own array.
	 */
	dsa_pointer leaf;
} BatchEntry;

#define BATCH_SMALL SUM_SMALL /* a segment with fewer bytes of rows waits to be merged, as all inline rows do */

/* A schema of rows of a table.  Batches share it; it stays as long as the table. */
typedef struct SchemaEntry
{
	dsa_pointer next;
	uint64 rows; /* hash of the schema without the rows' xmin: batches with the same can be merged */
	PackedSchema schema;
} SchemaEntry;

/* In a table's own array, batches and leaves, neither overlapping; in a leaf's, batches alone. */
typedef struct BatchArray
{
	uint32 capacity;
	pg_atomic_uint32 count;
	BatchEntry entries[FLEXIBLE_ARRAY_MEMBER];
} BatchArray;

/* A page of the checkpoint that the server started from, which is read when somebody needs it; see leaves.c. */
typedef struct BaseLeaf
{
	uint64 first, end; /* its range of row ids */
	uint64 epoch, number; /* of the page */
	uint64 batches, first_row, end_row, rows, inline_batches, inline_rows, bytes, small, small_bytes,
		removed; /* BatchSum */
	bool over; /* no table has it any more: it needs not be read ahead */
	pg_atomic_uint64 loaded; /* BatchArray; invalid: not read */
	pg_atomic_uint64 ended; /* RemovedRows; invalid: not read, or there are none */
} BaseLeaf;

/* Those of a table, ascending. */
typedef struct TableBase
{
	uint64 version; /* of the checkpoint */
	uint32 n;
	BaseLeaf leaves[FLEXIBLE_ARRAY_MEMBER];
} TableBase;

/*
 * Batches that compaction replaced, for snapshots that do not see its version: they lack nothing.  Gone when every snapshot sees it.
 */
typedef struct BatchHistory
{
	dsa_pointer next, /* of the same table, newer */
		next_of_all; /* of any table, newer */
	dsa_pointer table;
	dsa_pointer batches; /* BatchArray, for snapshots that see less than `until` */
	uint64 until;
	uint64 first_row, end_row; /* of what was replaced */
	dsa_pointer base; /* TableBase, of which nothing is needed any more then; or invalid */
	uint32 nleaves, nblocks;
	dsa_pointer blocks[FLEXIBLE_ARRAY_MEMBER]; /* nleaves BaseLeafs, nblocks blocks, that only this array refers to */
} BatchHistory;

typedef struct TableState
{
	dsa_pointer self;
	uint64 storage, table;
	uint64 created, /* position; 0: before the node attached */
		dropped; /* position, or 0 */
	uint64 rows_of; /* an index: the storage of the table whose rows its entries are of; 0: a table */
	bool same_rows; /* rows came from another storage as they were: older snapshots must not find it empty */
	pg_atomic_uint64 next_row;
	pg_atomic_uint64 deleted; /* rows, those that are gone included */
	pg_atomic_uint64 compacted; /* position of the last compaction */
	pg_atomic_uint64 compact_wanted, compact_done; /* tickets of VACUUM: given out, answered */
	pg_atomic_uint64 compact_dropped; /* rows that compaction dropped */
	uint64 planned; /* position up to which the compactor has found nothing to do */
	pg_atomic_uint64 bytes; /* stored, of segments and inline rows */
	pg_atomic_uint64 changed; /* position of the last change of its rows */
	pg_atomic_uint64 changed_elsewhere; /* the same, by another server */
	pg_atomic_uint64
		generation; /* of `batches`: counted up before and after batches that were there leave it; odd: they do now */
	pg_atomic_uint64 fresh; /* an index: FreshRun (index/fresh.h), made by readers; or invalid */
	dsa_pointer batches; /* BatchArray */
	dsa_pointer base; /* TableBase, of the leaves that were in `batches` at first; invalid: none */
	dsa_pointer history, history_last; /* BatchHistory, oldest first */
	dsa_pointer deletes; /* DeleteDirectory */
	dsa_pointer schemas; /* SchemaEntry, newest first */
	dsa_pointer next; /* in its hash bucket */
} TableState;

#define ROW_NONE 0 /* no successor */
#define ROW_MOVED PG_UINT64_MAX /* to another partition */

/* What is known of a row that was deleted or updated. */
typedef struct RowEnd
{
	uint64 pos; /* of the version that removed it */
	uint64 successor; /* row id + 1, ROW_NONE or ROW_MOVED */
} RowEnd;

/* ---- reading; between state_pin() and the transaction's end pointers stay valid */
extern void state_pin(S3Node *node);
extern void state_unpin_all(void);
extern TableState *state_table(S3Node *node, uint64 storage); /* NULL: nothing committed */
/* where the bytes of a batch are, its pages looked for in the cache */
extern void state_batch_source(S3Node *node, const BatchEntry *entry, BatchSource *source);
extern const BatchArray *state_batches(S3Node *node, TableState *table, uint32 *count);
/* Those that a snapshot reads that sees positions up to `pos`; one that sees *until needs others (PG_UINT64_MAX: none does). */
extern const BatchArray *state_batches_at(S3Node *node, TableState *table, uint64 pos, uint32 *count, uint64 *until);
/*
 * Looking for batches in an array of a table.  May have to read a leaf, so the store may be asked: call it with nothing locked.  What is found stays
 * where it is as long as the state is pinned.
 */
typedef struct BatchHint /* where the last one was; zero to begin with */
{
	uint32 item, within;
} BatchHint;

extern const BatchArray *state_leaf_batches(S3Node *node, const BatchEntry *leaf); /* those of such an entry */
/* The batch that holds the row, or NULL.  hint: of the caller's last look, in any array; or NULL; here and below. */
extern const BatchEntry *
state_find_batch(S3Node *node, const BatchArray *batches, uint32 count, uint64 row, BatchHint *hint);
/* The first that ends behind the row, or the last that begins at or before it; NULL: none. */
extern const BatchEntry *
state_batch_after(S3Node *node, const BatchArray *batches, uint32 count, uint64 row, BatchHint *hint);
extern const BatchEntry *
state_batch_before(S3Node *node, const BatchArray *batches, uint32 count, uint64 row, BatchHint *hint);
/* All batches, in order: their number; *all palloc'ed. */
extern uint32 state_all_batches(S3Node *node, const BatchArray *batches, uint32 count, const BatchEntry ***all);
/* May some batch have a row of first .. end - 1?  As far as can be told without reading any leaf. */
extern bool state_may_have(const BatchArray *batches, uint32 count, uint64 first, uint64 end);

/* What is in an array, for people; reads nothing. */
typedef struct BatchTotals
{
	uint64 rows, inline_rows, segments; /* rows: without those of which only the number is left */
} BatchTotals;

extern void state_total(S3Node *node, const BatchArray *batches, uint32 count, BatchTotals *totals);

/* end->pos is 0 and the successor unknown once every snapshot sees the end. */
extern bool state_row_ended(S3Node *node, TableState *table, uint64 row, RowEnd *end);
/* Sets bit i for every row first_row + i that had ended at `pos`, and leaves the other bits; false: none had. */
extern bool
state_rows_ended(S3Node *node, TableState *table, uint64 first_row, uint32 nrows, uint64 pos, uint64 *ended);
/* How many of `nrows` rows have ended; those that are gone are among them. */
extern uint64 state_count_ended(S3Node *node, TableState *table, uint64 first_row, uint64 nrows);

typedef void (*StateEach)(void *arg, TableState *table);
extern void state_each(S3Node *node, StateEach each, void *arg);

/* ---- changing: the publisher alone */
extern void state_create(S3Node *node);
extern TableState *state_add_table(S3Node *node, uint64 storage, uint64 table, uint64 pos);
extern void state_drop_table(S3Node *node, uint64 storage, uint64 pos);
/* schema: that in force for the batch (its own, or that of a batch before it in the same list) */
extern void state_add_batch(S3Node *node, TableState *table, const S3am__Batch *batch, const S3am__BatchSchema *schema,
							uint64 first_row, uint64 pos, uint32 xmin);
/* Compaction: the edit's batches take the place of those that it drops.  Doing it again changes nothing. */
extern void
state_replace_batches(S3Node *node, TableState *table, const S3am__TableEdit *edit, uint64 pos, uint32 xmin);
/*
 * A checkpoint: all batches of the table, in order.  Those that are here stay as they are; if others must go, or come between, older
 * snapshots keep what they see.  All calls in one context of memory; if that goes before state_restore_end() nothing has changed.
 */
typedef struct BatchesRestore BatchesRestore;
extern BatchesRestore *state_restore_begin(S3Node *node, TableState *table);
/* So many come next, and about so many later; for speed alone. */
extern void state_restore_expect(BatchesRestore *restore, uint64 next, uint64 later);
/* schema: NULL: that of the batch before */
extern void state_restore_batch(BatchesRestore *restore, const S3am__Batch *batch, const S3am__BatchSchema *schema,
								uint64 first_row, uint64 pos, uint32 xmin);
/* Instead of the batches of a leaf, which is read when it is needed.  first, end: its range.  Not for a table that has batches, or a base. */
extern void state_restore_leaf(BatchesRestore *restore, const S3am__PageRef *ref, uint64 first, uint64 end);
/* May the row be in one of the batches so far? */
extern bool state_restored(const BatchesRestore *r, uint64 row);
extern void state_restore_end(BatchesRestore *restore, uint64 pos);
extern bool state_has_base(S3Node *node, const TableState *table, uint64 version); /* that of this checkpoint? */
extern void state_forget(S3Node *node); /* what every snapshot sees the replacement of */
/*
 * Rows that ended at `pos`: one table at a time, and those of a few thousand neighbours together, or they take more memory.  A row that
 * has ended already keeps its first end.
 */
extern void state_ends_begin(S3Node *node, TableState *table, uint64 pos);
extern void state_ends_add(uint64 row, uint64 successor);
extern void state_ends_finish(void);
/* Rows that no batch had, and that nothing is known of any more, get a place in one again. */
extern void state_mark_gone(S3Node *node, TableState *table, uint64 first_row, uint64 end_row);
/* Ends that every snapshot sees become bits; those of rows that no batch has any more go.  Called by state_forget(). */
extern void state_forget_ends(S3Node *node, TableState *table, uint64 first_row, uint64 end_row);
extern void state_retire(S3Node *node, dsa_pointer block); /* to be freed when nobody can look at it any more */
extern void state_retire_fresh(S3Node *node, TableState *table); /* an index's block of fresh entries */
extern void state_reclaim(S3Node *node); /* frees what nobody can look at any more */

/* ---- leaves.c: what a server has not read yet of the checkpoint that it started from */
#define ENDED_ROWS 4096 /* rows that are looked up together */
#define ENDED_WORDS (ENDED_ROWS / 64)

/* The leaf's batches, from the store if nobody needed them before.  Cancellable. */
extern const BatchArray *leaf_batches(S3Node *node, BaseLeaf *leaf);
/* Had the row ended in the base?  As leaf_batches(). */
extern bool leaf_row_ended(S3Node *node, TableState *table, uint64 row);
/* A bit for each row, from number * ENDED_ROWS on, that had ended in the base.  False: none had.  As leaf_batches(). */
extern bool leaf_ended(S3Node *node, TableState *table, uint64 number, uint64 *bits);
/* Has the leaf all that it ever gets? */
extern bool leaf_is_read(const BaseLeaf *leaf);
/* Takes in the object, for who has read it; throws if it is damaged. */
extern void leaf_take(S3Node *node, BaseLeaf *leaf, const uint8 *object, Size size);
/* No array that anybody looks at has the leaf any more. */
extern void leaf_over(S3Node *node, BaseLeaf *leaf);
extern void base_over(S3Node *node, dsa_pointer base);

/* ---- batches.c, for leaves.c */
/* All but what lies in memory of its own: schema, pages and inline rows. */
extern void
state_describe_batch(BatchEntry *entry, const S3am__Batch *batch, uint64 first_row, uint64 pos, uint32 xmin);
extern uint64 state_rows_hash(const S3am__BatchSchema *schema); /* SchemaEntry.rows */

static inline uint32
state_hash(uint64 x)
{
	x ^= x >> 33;
	x *= UINT64CONST(0xff51afd7ed558ccd);
	x ^= x >> 33;
	return (uint32) x;
}

/* ---- what a snapshot sees */
extern uint64 state_visible_pos(S3Node *node, Snapshot snapshot);
extern void state_stamp(S3Node *node, uint64 pos, TransactionId xid);
extern void state_unstamp(S3Node *node); /* takes the last one back: its xid aborted */
extern void state_unstamp_aborted(S3Node *node); /* those at the end whose xid did not commit */
extern uint64 state_current_pos(S3Node *node);
extern uint64 state_version_shown(S3Node *node); /* the last version that a snapshot taken now sees as a whole */
extern bool state_step_follows(S3Node *node, uint64 pos);
extern void state_freeze(S3Node *node);

#endif
