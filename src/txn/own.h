/*
 * own.h: between txn.c and commit.c: the transaction's changes as a whole.
 */
#ifndef S3AM_OWN_H
#define S3AM_OWN_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "s3am.h"
#include "segment/batch.h"
#include "txn/txn.h"

extern void own_init(void);
extern List *own_tables(void);
extern MemoryContext own_context(void);
extern void own_subabort(SubTransactionId sub);
extern void own_subcommit(SubTransactionId sub, SubTransactionId parent);
extern void own_reset(void);

/* Makes the table's row type what the catalogs say now: before rows of it are written. */
extern void own_refresh_desc(TxnTable *table);

/* ---- spill.c: rows that leave memory, and the objects that they are in */

/*
 * Writes rows to segments as memory fills, and uploads them while those in memory exceed s3am.transaction_memory less what the entries of removed
 * rows take.
 */
extern void spill(void);

/* Memory of rows above which spill() has something to do, if they do not exceed the setting anyway. */
extern Size spill_due;

static inline bool
spill_is_due(void)
{
	return ownrows_total_memory > spill_due || ownrows_total_memory > (Size) s3am_transaction_memory * 1024;
}

/* Rows of the table from n on are about to be forgotten. */
extern void spill_forget(const TxnTable *table, uint64 n);
/* The transaction commits: rows that were written ahead, and more, become a segment if all of them stay. */
extern void spill_settle(TxnTable *table);
/* A segment was made: it goes again unless the transaction commits. */
extern void spill_note(uint64 epoch, uint64 number);
/* It is not needed any more, whatever comes, and goes at once. */
extern void spill_drop(const OwnSegment *segment);
/* Writes own rows from..to of a table into a writer; those that were removed only if asked. */
extern void
spill_write(TxnTable *table, RowWriter *writer, uint64 from, uint64 to, bool removed_too, Size stop_at, uint64 *next);
/* COMMIT goes on to what needs memory of its own: what a transaction that has written segments has freed goes back to the system. */
extern void spill_give_back(void);
/*
 * The transaction has ended: segments that no manifest names are removed, best effort (rule 13).  keep_all: it committed or may
 * yet.
 */
extern void spill_reset(bool keep_all);

#endif
