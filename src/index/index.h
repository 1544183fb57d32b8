/*
 * index.h: indexes of s3am tables, between the files of this directory.  README.md has the invariants.
 */
#ifndef S3AM_INDEX_H
#define S3AM_INDEX_H

#include "postgres.h"

#include "access/amapi.h"
#include "access/genam.h"
#include "access/htup.h"
#include "access/skey.h"
#include "access/tupdesc.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"

#include "index/hashcode.h"
#include "manifest/s3am.pb-c.h"
#include "node/state.h"
#include "segment/batch.h"
#include "txn/record.h"

/* ---------------------------------------------------------------- which indexes (flip.c) */

extern void flip_init(void); /* from _PG_init: hooks */
extern Oid s3btree_am_oid(void); /* in this database; InvalidOid before CREATE EXTENSION */
extern bool index_am_is_ours(Oid relam);
extern bool relation_is_s3btree(Relation index);
extern bool relation_is_s3hash(Relation index);
/* What the planner is told: the size in blocks as core's B-tree would have it, entries, levels above the leaves. */
extern void index_estimate(Relation index, BlockNumber *pages, double *tuples, int *height);

/*
 * One run costs what core says of an index.  Each other one that a scan has to look at costs a way down and a page, one whose filter says no a look;
 * and entries of several are merged.  one_key: there is one value for each key column.  (handler.c)
 */
extern void cost_add_runs(const struct IndexPath *path, bool one_key, double loop_count, double *startup, double *total,
						  double selectivity, double *pages);

/* ---------------------------------------------------------------- entries and their order (meta.c) */

/*
 * An entry is a row of `desc`: first the id of the table's row, then the index's columns.  Entries are ordered by the key columns as the
 * index says, then by row id.
 */
#define ENTRY_ROW 0 /* its place in values */
#define ENTRY_KEY 1 /* of the first key column */

/* Comparisons that need no call (order.h). */
typedef enum QuickOrder
{
	QUICK_NONE,
	QUICK_INT4, /* int4, date */
	QUICK_INT8, /* int8, timestamps */
	QUICK_TEXT /* by bytes */
} QuickOrder;

typedef struct IndexMeta
{
	Relation index; /* open as long as this is used; NULL: it is not made yet (concurrently.c) */
	int nkeys, natts; /* key columns; those of INCLUDE too */
	TupleDesc desc; /* natts + 1 attributes */
	FmgrInfo *order[INDEX_MAX_KEYS]; /* comparison of the operator class */
	Oid opfamily[INDEX_MAX_KEYS], opcintype[INDEX_MAX_KEYS];
	QuickOrder quick[INDEX_MAX_KEYS];
	Oid collation[INDEX_MAX_KEYS];
	bool descending[INDEX_MAX_KEYS], nulls_first[INDEX_MAX_KEYS];
	MemoryContext cxt; /* that all this is in */
	/* for filters; made when they are needed */
	struct KeyHasher *hasher;
	uint64 kinds; /* as in BatchFilter; 0: no column counts */
	/* collations of a library that the order of a column goes by (collation.c); NULL: there is none */
	const char *collation_names[INDEX_MAX_KEYS]; /* for messages */
	const char *versions[INDEX_MAX_KEYS]; /* or NULL: the library gives them none */
	bool by_library; /* any column */
	struct
	{
		uint64 schema; /* hash; 0: nothing yet */
		int order; /* RunOrder, but ORDER_OTHER */
	} known_orders[4];
	int next_known;
	HashCoder *coder; /* s3hash: the only key column of entries is the code of the value; else NULL */
	const struct KeyOrder *key_order; /* NULL: nobody has asked yet (keyorder.h) */
} IndexMeta;

extern IndexMeta *index_meta(Relation index, MemoryContext cxt);
/* The same, shared and kept; valid until the end of the transaction while the index is open. */
extern IndexMeta *index_meta_kept(Relation index);
extern void
meta_form(const IndexMeta *meta, uint64 row, const Datum *values, const bool *nulls, Datum *entry, bool *entry_nulls);
/* Makes `hasher` and `kinds`; false: the keys of this index have no hash that other servers know. */
extern bool meta_has_hashes(IndexMeta *meta);
/* Two values of key column i. */
extern int meta_compare_key(const IndexMeta *meta, int i, Datum a, bool anull, Datum b, bool bnull);

/* ---------------------------------------------------------------- runs (run.c) */

/* Writes entries that come in order as runs of an index: one inline batch, or segments. */
typedef struct RunWriter RunWriter;

/*
 * stream: as segments, uploaded; else as one inline batch.  Everything is in a child of the current context.  The meta stays as long as the
 * writer; the runs say by which versions of its collations they are ordered.
 */
extern RunWriter *run_begin(const IndexMeta *meta, bool stream);
extern void run_add(RunWriter *writer, const Datum *values, const bool *nulls);
/* The same of a slot with a minimal tuple, in which nothing is compressed or elsewhere. */
extern void run_add_slot(RunWriter *writer, struct TupleTableSlot *slot);
/* The batches, palloc'ed in the current context: their number.  The writer is gone. */
extern int run_finish(RunWriter *writer, S3am__Batch ***batches);
extern void run_discard(RunWriter *writer);
/* What is streamed gets filters over the keys, if they have hashes. */
extern void run_with_filter(RunWriter *writer, IndexMeta *meta);
/* Who is told of each object that is there from now on; without it, the transaction (spill_note). */
extern void run_note_uploads(RunWriter *writer, void (*note)(uint64 epoch, uint64 number));

/* A batch of a run. */
typedef struct RunPart
{
	BatchSource source;
	uint64 first; /* number of its first entry in the run */
	uint64 entries;
	uint64 row_base;
	BatchFilter filter;
	const PackedSchema *schema;
	const RowMap *map; /* NULL: not looked up yet */
	int nflat; /* that many attributes lie at the same place in all rows without NULLs */
	uint32 flat_end; /* where they end */
} RunPart;

/* ---------------------------------------------------------------- entries of this transaction (own.c) */

typedef struct OwnRun OwnRun; /* sorted entries, in memory or in a file (ownrun.h) */
typedef struct OwnReader OwnReader; /* reads one; ends with its memory */
typedef struct OwnHold OwnHold;

typedef struct OwnIndex
{
	uint64 storage, table; /* the index's, and that of the table's rows */
	SubTransactionId made; /* that made the storage; or invalid */
	Oid relid;
	bool unique; /* or of an exclusion constraint: its keys are claimed */
	bool built; /* by this transaction: what it had then was added without locks on keys */
	TupleDesc desc;
	int nbatches; /* built by CREATE INDEX: of committed rows */
	S3am__Batch **batches;
	RunPart *parts; /* the same, to be read */
	OwnRun *tail; /* small, entries are put into their places; nobody else has it */
	struct OwnArena *arena; /* tuples of all that is in memory */
	OwnRun **runs; /* first those in files, then those in memory, each at least twice as large as the next one */
	int nfiles, nruns, runs_capacity;
	uint64 *bases; /* of the keys of a unique index, in order */
	int nbases, bases_capacity;
	bool passed_over; /* when memory had to be given up */
} OwnIndex;

/* NULL: none. */
extern OwnIndex *own_index(uint64 storage);
extern OwnIndex *own_index_for_write(const IndexMeta *meta, uint64 storage, uint64 table);
extern void own_index_add(OwnIndex *own, const IndexMeta *meta, const Datum *values, const bool *nulls, uint64 base);
extern uint64 own_index_entries(const OwnIndex *own); /* perhaps with some that were undone */
/*
 * All entries so far, in runs that stay as they are until they are let go, at the latest with `cxt`: their number, and a reader for each,
 * which is there as long as cxt and meta.
 */
extern int
own_index_hold(OwnIndex *own, const IndexMeta *meta, MemoryContext cxt, OwnHold **held, OwnReader ***readers);
extern void own_hold_release(OwnHold *hold);
extern void own_index_clear(OwnIndex *own); /* it is built, perhaps anew: what there was is gone */
extern OwnReader *own_reader(OwnRun *run, const IndexMeta *meta, MemoryContext cxt);
extern void own_run_release(OwnRun *run);
extern uint64 own_reader_count(const OwnReader *reader);
/* Some entries, in order, that are looked at without reading: how many, and the number of the i-th one, which is at hand from then on. */
extern uint64 own_reader_samples(const OwnReader *reader);
extern uint64 own_reader_sample(OwnReader *reader, uint64 i);
/* Of the entry with this number: false: it was undone. */
extern bool own_reader_row(OwnReader *reader, uint64 at, uint64 *row);
/* What is not in the datums is there until the reader is at another entry. */
extern void own_reader_deform(OwnReader *reader, uint64 at, Datum *values, bool *nulls);
/* What CREATE INDEX made of committed rows; allocated in own_context(). */
extern void own_index_batches(OwnIndex *own, int nbatches, S3am__Batch **batches);

/* ---------------------------------------------------------------- versions of collations (collation.c) */

/* In which order a run is. */
typedef enum RunOrder
{
	ORDER_SAME, /* this server's */
	ORDER_UNKNOWN, /* it does not say, and is taken to be in this server's */
	ORDER_OTHER /* another version's: nothing is found in it by looking for it */
} RunOrder;

/* Why. */
typedef struct OrderDifference
{
	const char *collations, *recorded, *here; /* here: NULL: none */
} OrderDifference;

/* Fills in what concerns collations; for meta.c. */
extern void collation_describe(IndexMeta *meta);
/* difference: filled in if it is of another one, palloc'ed; or NULL. */
extern RunOrder collation_order(IndexMeta *meta, const PackedSchema *schema, OrderDifference *difference);
extern RunOrder
collation_order_of_batch(IndexMeta *meta, S3Node *node, const BatchEntry *batch, OrderDifference *difference);
/* Throws if any of these is in another order. */
extern void collation_check(IndexMeta *meta, S3Node *node, const BatchEntry **batches, uint32 nbatches);
extern void collation_fail(const IndexMeta *meta, const OrderDifference *difference) pg_attribute_noreturn();
/* May the planner use the index?  If not there is a warning, once in a session. */
extern bool collation_planner_may(Relation index);

/* ---------------------------------------------------------------- looking for entries (cursor.c) */

/* A place in the order of an index: the values of the first n key columns, as far as they are compared. */
typedef struct IndexBound
{
	int n;
	Datum values[INDEX_MAX_KEYS];
	bool nulls[INDEX_MAX_KEYS];
	FmgrInfo *order[INDEX_MAX_KEYS]; /* compares a key with the value, which may be of another type */
	bool inclusive; /* entries that are equal so far are within */
} IndexBound;

/* One run, of any kind, and a place in it. */
typedef struct IndexCursor
{
	const IndexMeta *meta;
	MemoryContext parent; /* of: */
	MemoryContext cxt; /* values of the current entry that are not in a page; NULL: there was none */
	/* a run of the repository, in one or more batches */
	int nparts;
	RunPart *parts;
	RunPart *part; /* that `page` is of */
	RowPage *page;
	RowCursor row;
	int deformed; /* attributes of the current entry in values */
	/* or fresh entries, in shared memory */
	const struct FreshRun *fresh;
	/* or one of this transaction */
	OwnReader *own;
	/* the place */
	uint64 nentries, at; /* at: PG_UINT64_MAX: before the first one */
	uint64 from, to; /* the window: entries from..to - 1 alone are given; all of them unless it is a search_window */
	bool valid;
	bool steps; /* from one entry to the next, forward */
	uint64 leaf_end; /* behind the page of entries that was read last */
	uint64 peeked; /* entries before it were looked at ahead */
	ReadAhead *ahead; /* of such pages; NULL: none followed another one yet */
	bool out; /* the run has nothing of what the search is for */
	Datum values[INDEX_MAX_KEYS + 1];
	bool nulls[INDEX_MAX_KEYS + 1];
} IndexCursor;

/* Of all runs of the index that hold entries of the rows which a snapshot sees that sees positions up to `pos`. */
typedef struct IndexSearch
{
	IndexMeta *meta;
	MemoryContext cxt; /* of everything below */
	S3Node *node;
	int ncursors;
	IndexCursor *cursors;
	IndexCursor *current; /* the one with the next entry; NULL: there is none */
	IndexCursor *second; /* the one after it, or NULL: see choose() */
	bool forward;
	bool hashed; /* it is for one key only */
	uint64 hash; /* of that */
	OwnHold *held; /* the transaction's own runs; or NULL */
} IndexSearch;

/* meta must live as long as the search; the search ends with end or with the transaction. */
extern void
search_open(IndexSearch *search, IndexMeta *meta, uint64 storage, uint64 pos, bool own_too, MemoryContext cxt);
/* Of these batches alone. */
extern void search_open_batches(IndexSearch *search, IndexMeta *meta, S3Node *node, const BatchEntry *batches,
								uint32 nbatches, const struct FreshRun *fresh, MemoryContext cxt);
/*
 * Entries of this key alone are wanted, of all its columns, from the next seek on: runs whose filters have nothing of it are left out.  NULL, or a
 * bound that is no key: whatever comes.  At most so many runs are cheaper to look at than their filters.
 */
extern void search_only(IndexSearch *search, const IndexBound *key, int few);
/* (window.c)  Every run gives all that it has. */
extern void search_open_windows(IndexSearch *search);
/* Which entries of a run are between two bounds: from the first-th on, before the end-th.  NULL: all at that end. */
extern void search_range(IndexSearch *search, IndexCursor *run, const IndexBound *low, const IndexBound *high,
						 uint64 *first, uint64 *end);
/*
 * From the next seek on it gives of `run`, which has none of the transaction's own entries, those from the from-th on and before the to-th alone, and of all
 * others what comes between them in the order; from 0 on and up to nentries: all at that end.
 */
extern void search_window(IndexSearch *search, IndexCursor *run, uint64 from, uint64 to);
/* Goes to the first entry behind `from` in the direction, which is NULL for the first or last one of all. */
extern void search_seek(IndexSearch *search, const IndexBound *from, bool forward);
extern void search_next(IndexSearch *search);
/* Of the run of the current entry: entries before this one, on its page, do not come after the bound, in forward direction. */
extern uint64 search_within(IndexSearch *search, const IndexBound *high);
extern void search_turn(IndexSearch *search, bool forward); /* the current entry stays */
/* Where it is, so that it can come back: a place for each cursor. */
extern void search_save(const IndexSearch *search, uint64 *places, int *current);
extern void search_return(IndexSearch *search, const uint64 *places, int current, bool forward);
extern void search_close(IndexSearch *search);
/* Below 0: the current entry comes before the bound's values; 0: it equals them. */
extern int search_compare(const IndexSearch *search, const IndexBound *bound);
/* Of the current entry. */
extern Datum search_value(IndexSearch *search, int att, bool *isnull);
extern uint64 search_row(IndexSearch *search);
/*
 * Tells of rows of entries that come next, about so many, each one once, as far as that needs no reading, in forward order; until `each` has enough.
 */
extern void search_peek(IndexSearch *search, uint64 entries, bool (*each)(void *arg, uint64 row), void *arg);
/* The columns of the current entry as a tuple has them, *len bytes, if all have a fixed length and none is NULL; else NULL. */
extern const char *search_flat(const IndexSearch *search, Size *len);

/* ---------------------------------------------------------------- bitmap scans of tables (bitmap.c) */

struct QueryDesc;
/* After a plan was initialized; tells whether there is one. */
extern bool bitmap_executor_start(struct QueryDesc *query);
/* Before it runs: what the second function is to be told after it, whether it failed or not. */
extern int bitmap_executor_run(struct QueryDesc *query);
extern void bitmap_executor_end(int saved);

/* ---------------------------------------------------------------- built ahead (build.c, concurrently.c) */

/* Runs of an index that will be, of the rows that a snapshot saw; made while others wrote. */
typedef struct AheadIndex
{
	Oid heap, index; /* index: which is built anew; or InvalidOid */
	uint64 table; /* the storage of the rows */
	const char *name, *columns; /* of the index, for messages */
	IndexMeta *meta; /* without an index */
	IndexInfo *info;
	bool distinct; /* NULLs are */
	uint64 end_row; /* rows from here on are not in it */
	double heap_tuples, index_tuples;
	int nbatches;
	S3am__Batch **batches;
} AheadIndex;

/* Fills in what comes of the rows, in the current context, and tells of each object; as the owner of the table. */
extern void ahead_build(AheadIndex *ahead, Relation heap, void (*note)(uint64 epoch, uint64 number));
/* Adds what other servers have written since: before COMMIT. */
extern void ahead_catch_up(void);
extern void ahead_reset(void); /* the transaction is over */
/* What was built ahead for an index that is now built; NULL: nothing. */
extern const AheadIndex *ahead_find(Relation heap, const IndexMeta *meta, IndexInfo *info, uint64 table);

/*
 * Functions of an index's operator classes and expressions run as the owner of its table, who cannot leave anything behind in the session.  An error
 * between the two is put right by the end of its (sub)transaction.  (build.c)
 */
typedef struct IndexUser
{
	Oid user;
	int security;
	int guc_level;
} IndexUser;

extern void index_user_begin(Relation heap, IndexUser *before);
extern void index_user_end(const IndexUser *before);

/* ---------------------------------------------------------------- the access methods (handler.c, hash.c) */

/* What they have in common. */
extern void index_routine_common(IndexAmRoutine *am);
extern IndexBuildResult *index_am_build(Relation heap, Relation index, IndexInfo *info); /* build.c */
extern void index_am_build_empty(Relation index);
extern void index_rebuilt(Relation index); /* after REINDEX, here or elsewhere */
extern bool index_am_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
							IndexUniqueCheck check, bool unchanged, IndexInfo *info); /* insert.c */
extern const IndexMeta *scan_meta(IndexScanDesc scan);
extern IndexScanDesc scan_begin(Relation index, int nkeys, int norderbys); /* scan.c */
extern void scan_rescan(IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys);
extern bool scan_tuple(IndexScanDesc scan, ScanDirection direction);
extern int64 scan_bitmap(IndexScanDesc scan, TIDBitmap *bitmap);
extern void scan_end(IndexScanDesc scan);
extern void scan_mark(IndexScanDesc scan);
extern void scan_restore(IndexScanDesc scan);

/* ---------------------------------------------------------------- for src/txn (own.c) */

/* The most memory that entries of this transaction have taken at once; rows leave so much to them, up to their quarter. */
extern Size own_index_most_memory(void);
/* Rows of the table's storage from number n on never were. */
extern void own_index_forget_rows(uint64 table_storage, uint64 n);
extern void own_index_subabort(SubTransactionId sub);
extern void own_index_subcommit(SubTransactionId sub, SubTransactionId parent);
extern void own_index_reset(void);
extern int own_index_count(void);
/* Adds the edits of indexes to the record, which has room; finals_of: numbers of own rows in the edit of a table, or NULL. */
extern void own_index_record(S3am__Txn *txn, FinalRows *(*finals_of)(void *arg, uint64 table_storage), void *arg,
							 bool (*is_dropped)(uint64 storage));

#endif
