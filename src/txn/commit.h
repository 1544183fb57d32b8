/*
 * commit.h: the backend's side of COMMIT.
 */
#ifndef S3AM_COMMIT_H
#define S3AM_COMMIT_H

#include "postgres.h"

#include "txn/txn.h"

/* The transaction gives a table storage, takes it away, or both; undone with its subtransaction. */
extern void commit_storage_edit(uint64 table, uint64 drop, uint64 create);
extern void commit_storage_stays(uint64 storage); /* that it is dropped counts no more */
extern bool commit_storage_is_new(uint64 storage); /* made by this transaction */

/*
 * Since `base` the transaction holds a lock on the table that keeps writers out, and relies on knowing all of the storage's rows: a rewrite, a new
 * constraint.  Other servers know nothing of that lock, so it fails at COMMIT if one of them has added or ended rows since, and this server has shown
 * that already; what it has not shown is validated against the schema claim.  (Who waited for the lock here finds his rows.)
 */
extern void commit_keeps_writers_out(uint64 storage, uint64 base);
/* It has looked again, and knows all rows up to this base. */
extern void commit_keeps_writers_out_from(uint64 storage, uint64 base);

/*
 * The transaction relies on that nobody else writes to the table meanwhile, as who builds an index does.  shared: others may rely on the same.
 */
extern void commit_claims_table(uint64 table, bool shared);

/* The rows of this new storage are those of the one before, moved. */
extern void commit_storage_same_rows(uint64 storage);
/* Has this transaction given the table another storage, to which rows are being, or were, rewritten? */
extern bool commit_storage_is_replaced(uint64 table, uint64 storage);

/* A number for a storage or a segment: epoch << 32 | counter; never used twice. */
extern uint64 commit_new_object_id(void);
/* From now on objects that this session makes are not collected when their transaction ends, until this is called with false. */
extern void commit_keep_objects(bool keep);

/* PRE_COMMIT: builds the record, hands it over, waits for the outcome.  Throws 40001, 08007, ... */
extern void commit_transaction(void);
extern void commit_reset(void); /* the transaction is over */
extern bool commit_has_storage_edits(void);

#endif
