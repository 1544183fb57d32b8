/*
 * table.h: the table access method, between its files.
 */
#ifndef S3AM_TABLE_H
#define S3AM_TABLE_H

#include "postgres.h"

#include "access/relscan.h"
#include "access/tableam.h"
#include "executor/tuptable.h"

#include "node/node.h"
#include "node/state.h"
#include "segment/batch.h"
#include "txn/txn.h"

/* ---- slot.c */
typedef struct S3Slot
{
	VirtualTupleTableSlot base;
	TransactionId xmin; /* what system column xmin shows, unless it is an own row */
	CommandId cmin;
	bool own;
	bool own_xmax; /* system column xmax shows this transaction, else nothing */
	bool own_xid; /* own: core asks whether it is, so xmin shows this transaction's xid, assigned when asked */
	/* a committed row: taken apart as far as it is looked at */
	RowPage *page; /* a reference; NULL: the values are in base */
	uint64 page_row; /* number of the row within its batch */
	RowCursor cursor;
	LocalTransactionId lxid; /* page and map are gone with this transaction */
	/* the last map that was used */
	const RowMap *map;
	const PackedSchema *map_schema;
	MemoryContext guard; /* gives the page back when the slot's memory goes; made when needed */
	MemoryContext cxt; /* below it: values that are not in the page */
	MemoryContextCallback callback;
} S3Slot;

extern const TupleTableSlotOps *slot_callbacks(Relation rel);
/* Marks a slot whose values and nulls are filled in as holding an own row. */
extern void slot_store_own(TupleTableSlot *slot, Relation rel, uint64 row, CommandId cmin);
/* What the slot holds is an own row now: system columns answer so. */
extern void slot_mark_own(TupleTableSlot *slot, CommandId cmin);
/* Core will ask for xmin to learn whether the row is the transaction's own. */
extern void slot_show_own_xid(TupleTableSlot *slot);
/* This transaction has locked what the slot holds, or removed it: system column xmax says so. */
extern void slot_mark_held(TupleTableSlot *slot);
/* Stores a row: row `page_row` of the batch that `page` is of.  The slot takes a reference of its own. */
extern void slot_store_page(TupleTableSlot *slot, Relation rel, uint64 row, uint32 xmin, RowPage *page, uint64 page_row,
							const PackedSchema *schema);

/* ---- view.c: what a snapshot sees of a table */
typedef struct TableView
{
	S3Node *node;
	TableState *table; /* NULL: nothing committed */
	TxnTable *own; /* NULL: nothing of our own (may come later) */
	uint64 storage;
	Snapshot snapshot;
	SnapshotType type;
	uint64 pos; /* last visible position */
	CommandId curcid;
	const BatchArray *batches;
	uint32 nbatches;
	/* the page that was read last, its batch, and the schema of that */
	RowPage *page;
	const BatchEntry *page_batch;
	const PackedSchema *page_schema;
	/* the same for a segment of own rows */
	RowPage *own_page;
	uint64 own_segment; /* its number */
	uint64 ahead_end; /* committed rows from here on will not be read, or not next */
	bool (*ahead_more)(struct TableView *view); /* sets the following to what will be; NULL: nothing */
	uint64 ahead_then, ahead_then_end;
	BatchHint row_batch, ahead_batch; /* where a search for a row's, and for the next one, begins */
	bool once; /* it goes over the table and looks at each page once: the cache need not keep them */
	CacheRing ring; /* then */
	LocalTransactionId lxid; /* all this is gone with the transaction */
	MemoryContextCallback callback;
	ReadAhead ahead, own_ahead; /* large, so last: they are not zeroed */
} TableView;

typedef enum RowState
{
	ROW_ABSENT, /* no such row, or undone */
	ROW_INVISIBLE,
	ROW_VISIBLE
} RowState;

/*
 * Committed rows of one page, and which of them an MVCC snapshot sees.  That does not change while the view is open: what others commit
 * comes behind its position, what the own transaction removes meanwhile has a later command.
 */
typedef struct ViewStretch
{
	uint64 first, end; /* row ids; first = end: none */
	RowPage *page; /* the view's: until it reads another one, or looks at other batches */
	uint64 batch_first; /* row id of its batch's first row */
	const PackedSchema *schema;
	uint32 xmin;
	MemoryContext cxt; /* of `hidden` */
	bool some_hidden; /* else `hidden` says nothing */
	uint32 words; /* that `hidden` has room for */
	uint64 *hidden; /* bit per row */
} ViewStretch;

extern void view_open(TableView *view, Relation rel, Snapshot snapshot);
extern void view_refresh_own(TableView *view);
/* Takes the batches as a snapshot that sees up to `pos` finds them. */
extern void view_choose_batches(TableView *view, uint64 pos);
extern void view_close(TableView *view);
/* Closes the view when the memory context goes: an error that is caught leaves no page behind.  The view must live as long. */
extern void view_guard(TableView *view, MemoryContext cxt);
/* Is there a committed row of that number, for anybody? */
extern bool view_has_row(TableView *view, uint64 row);
/* Is the row visible?  Its batch in *batch for committed rows. */
extern RowState view_row_state(TableView *view, uint64 row, const BatchEntry **batch);
/* The same for all rows of the page that holds committed row `row` of `batch`, which the snapshot sees; MVCC only. */
extern void view_stretch(TableView *view, const BatchEntry *batch, uint64 row, ViewStretch *stretch);
/* Reads the row into the slot; false: nothing is left of it. */
extern bool view_fetch(TableView *view, Relation rel, uint64 row, const BatchEntry *batch, TupleTableSlot *slot);
/* The same by who has requested pages that it will come to, in no order. */
extern bool view_fetch_ahead(TableView *view, Relation rel, uint64 row, const BatchEntry *batch, TupleTableSlot *slot,
							 ReadAhead *wanted);
/* Requests the page of a committed row, as far as that is known at once; false: there is no room for more. */
extern bool view_want(TableView *view, uint64 row, ReadAhead *wanted);

/* A view of the current transaction for single rows; kept until the transaction ends or the relation changes. */
extern TableView *view_for_fetch(Relation rel, Snapshot snapshot);
extern void view_init(void); /* from _PG_init: callbacks */

/* ---- modify.c */
extern void modify_callbacks(TableAmRoutine *routine);
/* ---- scan.c */
extern void scan_callbacks(TableAmRoutine *routine);
struct BitmapHeapScanState;
/* The node that a bitmap scan is of, in whose bitmap it may look ahead. */
extern void scan_set_bitmap(TableScanDesc scan, struct BitmapHeapScanState *node);
/* ---- fetch.c */
extern void fetch_callbacks(TableAmRoutine *routine);
typedef enum EntrySeen
{
	ENTRY_UNKNOWN, /* until it is fetched */
	ENTRY_UNSEEN,
	ENTRY_SEEN
} EntrySeen;

/*
 * For the index of an index-only scan: does the snapshot see the row?  Told from what is in memory, without its page.  If it does, the fetch of that
 * row, if it comes next, says so and leaves the slot empty: core looks into the slot of none but scans that want no tuple of the index.
 */
extern EntrySeen table_entry_seen(struct IndexFetchTableData *data, Snapshot snapshot, uint64 row);
/* Had the fetches since it was asked last to read pages? */
extern bool table_fetches_read(struct IndexFetchTableData *data);
/* This row will be fetched soon; false: enough for now. */
extern bool table_fetch_soon(struct IndexFetchTableData *data, Snapshot snapshot, uint64 row);
/* Is the row there, for who looks now?  Own changes count, of the current command as well. */
extern bool table_row_is_live(Relation rel, uint64 row);
/* Waits for other sessions that hold a row, if it lives, in a mode that conflicts with this one. */
extern void table_wait_for_row(Relation rel, uint64 row, LockTupleMode mode);
/* Did a row that is live come after the snapshot? */
extern bool table_row_is_newer(Relation rel, uint64 row, Snapshot snapshot);
/* ---- toast.c */
extern void table_toast_for_leaving(Oid transient);

/* ---- maintain.c */
extern void maintain_callbacks(TableAmRoutine *routine);
/* Number of virtual blocks and an estimate of live rows. */
extern BlockNumber table_virtual_blocks(Relation rel, double *rows);

#endif
