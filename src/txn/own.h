/*
 * own.h: between txn.c and commit.c: the transaction's changes as a whole.
 */
#ifndef S3AM_OWN_H
#define S3AM_OWN_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "txn/txn.h"

extern List *own_tables(void);
extern MemoryContext own_context(void);
extern void own_subabort(SubTransactionId sub);
extern void own_subcommit(SubTransactionId sub, SubTransactionId parent);
extern void own_reset(void);

/* the ends of a table, for iteration: sorted by row */
extern OwnEnd **own_sorted_ends(TxnTable *table, uint64 *n);

#endif
