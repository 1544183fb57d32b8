/*
 * txn.h: what the current transaction did to s3am tables, and how it commits.
 */
#ifndef S3AM_TXN_H
#define S3AM_TXN_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "storage/itemptr.h"
#include "storage/relfilenode.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "node/node.h"
#include "node/state.h"
#include "txn/ownends.h"
#include "txn/ownrows.h"

/* Row ids as ctid: 291 rows to a virtual block.  Own rows that are not committed have ids from a range of their own. */
#define ROWS_PER_BLOCK 291
#define OWN_BASE ((uint64) 0xF0000000 * ROWS_PER_BLOCK)
#define ROW_LIMIT OWN_BASE
#define ROW_IS_OWN(row) ((row) >= OWN_BASE)

static inline uint64
tid_to_row(ItemPointer tid)
{
	return (uint64) ItemPointerGetBlockNumberNoCheck(tid) * ROWS_PER_BLOCK + ItemPointerGetOffsetNumberNoCheck(tid) - 1;
}

static inline void
row_to_tid(uint64 row, ItemPointer tid)
{
	ItemPointerSet(tid, (BlockNumber) (row / ROWS_PER_BLOCK), (OffsetNumber) (row % ROWS_PER_BLOCK + 1));
}

/* What this transaction did to one storage. */
typedef struct TxnTable
{
	uint64 storage;
	uint64 table;
	Oid tablespace, /* by which the relation is found again: a rewrite gives its storage to another one */
		relfilenode;
	bool created; /* storage made by this transaction */
	bool touched; /* written */
	TupleDesc desc; /* by which the rows were formed */
	uint64 desc_generation;
	uint32 desc_version; /* grows when desc changes */
	bool not_ahead; /* rows of desc cannot be written ahead */
	OwnRows rows;
	OwnEnds *ends; /* of own and committed rows, by row id */
	OwnEnds *origins; /* own rows that committed ones were updated to; `next` is the committed row */
	bool read_all; /* SERIALIZABLE: scanned */
	bool read_added; /* SERIALIZABLE: a row was looked for that is not there yet */
	uint64 read_pos; /* the oldest position read at */
	struct RowSet *read_rows; /* SERIALIZABLE: read one by one */
	uint32 nread_rows;
	uint64 reads_checked; /* position of the change that the rows read were last held against */
	uint32 nreads_checked; /* and how many there were */
} TxnTable;

extern void txn_init(void); /* from _PG_init: callbacks */

/* The storage of a relation: its id, and the table's. */
typedef struct StorageId
{
	uint64 storage;
	uint64 table;
} StorageId;

/* Each relation of this database that has storage, as the active snapshot sees it. */
extern void storage_each(void (*each)(void *arg, Oid relfilenode, uint64 storage), void *arg);
extern Oid storage_index_relation(uint64 storage); /* the index that has it, or InvalidOid */
extern StorageId storage_of(Relation rel);
/* The relation that a rewrite's transient table stands for; InvalidOid: it is none. */
extern Oid storage_rewritten(Relation rel);
extern void storage_create(Relation rel, const RelFileNode *newrnode);
/* An index is built: gives it new storage, unless the transaction has just given it this. */
extern StorageId storage_create_index(Relation index);
/* An index was made: takes over the storage of one that this transaction has dropped, if it has its file. */
extern void storage_adopt_index(Oid indexid, Oid relfilenode);
extern void storage_reset(void); /* the transaction is over */
extern void storage_dropped(Oid relid);
extern void storage_invalidate_all(void);

/* NULL unless this transaction has something of its own there. */
extern TxnTable *txn_table(uint64 storage);
extern TxnTable *txn_table_for_write(Relation rel);
extern bool txn_writes(void); /* has this transaction uncommitted rows or deletes? */
extern bool txn_writes_to(Relation rel); /* of this s3am table? */

extern uint64 txn_insert(Relation rel, TxnTable *table, MinimalTuple tuple, CommandId cid);
/* The same without a tuple that would be copied.  False: nothing was inserted, some values are in a TOAST table. */
extern bool txn_insert_values(Relation rel, TxnTable *table, TupleDesc desc, Datum *values, bool *nulls, CommandId cid,
							  uint64 *row);
/* A speculative insertion failed: the row never was. */
extern void txn_kill(TxnTable *table, uint64 row, CommandId cid);
/* next: the own row that it became; NULL none; may indicate another partition. */
extern void txn_end(TxnTable *table, uint64 row, CommandId cid, bool key, ItemPointer next);
/* Has the transaction this own row (removed or not)?  False: undone or never there. */
extern bool txn_has_row(TxnTable *table, uint64 row);
extern bool txn_row_end(TxnTable *table, uint64 row, OwnEnd *end); /* false: not removed by us */
/* What a removed row became, as in a heap tuple's t_ctid. */
extern void txn_next_tid(uint64 row, const OwnEnd *end, ItemPointer next);
/* The committed row that was updated, perhaps several times, to this own one. */
extern bool txn_origin(TxnTable *table, uint64 row, uint64 *origin);
extern void txn_truncate(TxnTable *table);

/* Read before looking at a row: the base of claims on it (rule 15). */
extern uint64 txn_base(S3Node *node);
/* The base of what was read by a snapshot that sees up to a position. */
extern uint64 txn_base_of_position(S3Node *node, uint64 pos);
extern uint64 txn_base_for_commit(S3Node *node);
/* Of what state_current_pos() shows: may wait a moment for the rest of its version. */
extern uint64 txn_base_now(S3Node *node);

/* SERIALIZABLE: what was read by a snapshot that sees up to a position is claimed (rule 18). */
extern void txn_read_table(Relation rel, uint64 pos);
extern void txn_read_row(Relation rel, uint64 row, uint64 pos);
extern void txn_read_absent(Relation rel, uint64 pos); /* a row that may come to be there */

/* Has what was read been changed since by somebody else?  The version that did, or 0. */
extern uint64 txn_reads_changed(S3Node *node);

/*
 * Throws 40001 if another node's commit has doomed this transaction (rule 22), or changed what it has read and it is SERIALIZABLE
 * and writes.
 */
extern void txn_check_doomed(void);
extern void txn_check_reads(void); /* the second half: it is about to write */
extern void txn_fail_reads(uint64 version)
	pg_attribute_noreturn(); /* what it has read was changed, by that version at the latest */
extern void txn_begin_use(S3Node *node); /* before the first look at shared state in a transaction */

/* This transaction's xid, by which core knows its own rows; assigns it (somebody asked). */
extern TransactionId txn_own_xid(void);
/* What system column xmin shows for rows of this transaction, now and for ever; assigns the commit id. */
extern uint32 txn_own_xmin(void);
/* The same for those of a commit id: a normal xid that is an int4, too, since operators compare xmin with that. */
extern uint32 txn_derive_xmin(uint64 epoch, uint64 seq);

extern uint64 txn_commit_epoch(void);
extern uint64 txn_commit_seq(void); /* assigns */

#endif
