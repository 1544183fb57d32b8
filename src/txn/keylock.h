/*
 * keylock.h: who on this server is about to add which key to which unique index.
 *
 * Keys are known by 64-bit hashes.  They are held, waited for and given back with tokens, as rows are (rowlock.h): a few one by one in the same
 * shared table, many of one transaction compactly.  ROWLOCK.md, "Keys", has the invariants.
 */
#ifndef S3AM_KEYLOCK_H
#define S3AM_KEYLOCK_H

#include "postgres.h"

#include "txn/rowlock.h"

struct RowLockToken;

/*
 * Takes the key for the current subtransaction, alone.  Waits as rowlock_acquire does.  Granted at once is a key that the transaction
 * holds already.  One that is granted may be held by another transaction, too, if both have more keys than there is memory for: then the
 * claims of the two are held against each other at COMMIT.  Never in a parallel worker.
 */
extern RowLockResult keylock_acquire(Relation index, uint64 storage, uint64 hash, LockWaitPolicy policy);

/* False: the current transaction does not hold the key.  True: it does, or has so many that it cannot tell. */
extern bool keylock_held(uint64 storage, uint64 hash);

/* ---------------------------------------------------------------- for rowlock.c, when tokens end */

extern bool keylock_any(const struct RowLockToken *t);
extern void keylock_drop(struct RowLockToken *t);
extern void keylock_prepare_join(struct RowLockToken *from, struct RowLockToken *to); /* may throw */
extern void keylock_join(struct RowLockToken *from, struct RowLockToken *to);
extern void keylock_free(struct RowLockToken *t); /* the session's memory of it, when the rest is dropped or joined */

#endif
