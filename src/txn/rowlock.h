/*
 * rowlock.h: who on this server holds or wants which row: the blocking half of claims (rules 15, 16, 22).
 *
 * A lock is (storage, row id, mode) held by a token.  A token is one (sub)transaction: an entry in PostgreSQL's own lock
 * manager (LOCKTAG_USERLOCK, exclusive), so that waiting for it is seen by the deadlock detector, needs no xid, and ends when
 * the (sub)transaction does.  Locks live in shared memory in chunks of 4096 row ids, sparse or as bitmaps, so that millions
 * of rows cost bits.
 */
#ifndef S3AM_ROWLOCK_H
#define S3AM_ROWLOCK_H

#include "postgres.h"

#include "nodes/lockoptions.h"
#include "nodes/parsenodes.h"
#include "utils/dsa.h"
#include "utils/relcache.h"

typedef enum RowLockResult
{
	ROWLOCK_GRANTED, /* at once */
	ROWLOCK_WAITED, /* granted, but somebody held it before: look at the row again */
	ROWLOCK_SKIPPED /* LockWaitSkip: somebody holds it */
} RowLockResult;

/* Shared memory: size for RequestAddinShmemSpace, and initialisation in shmem_startup_hook (found: already there). */
extern Size rowlock_shmem_size(void);
extern void rowlock_shmem_init(void);
/* Before first use in a process; installs (sub)transaction callbacks.  May be called again, and before shared memory is there. */
extern void rowlock_init_process(void);

/*
 * Takes a lock for the current subtransaction.  `base` is the version applied when the caller is about to look at the row
 * (rule 15: read before looking); it is kept with the lock, the oldest one per chunk entry.  Modes are PostgreSQL's.
 * Waits as heap does (one waiter at the head of the queue, by LockTuple on rel); cancellable; deadlocks are detected.
 * LockWaitError: throws 55P03 with heap's message if somebody holds it.  A row already held in this mode or a stronger one is
 * granted at once, and keeps its base.  Never in a parallel worker.
 */
extern RowLockResult
rowlock_acquire(Relation rel, uint64 storage, uint64 row, LockTupleMode mode, LockWaitPolicy policy, uint64 base);

/* Gives back a lock that rowlock_acquire() has just granted: the row turned out to have ended. */
extern void rowlock_release(uint64 storage, uint64 row, LockTupleMode mode);

/* Does the current transaction (a parallel worker's: its leader's) hold the row in this mode or a stronger one? */
extern bool rowlock_held(uint64 storage, uint64 row, LockTupleMode mode);

/* Does any other transaction hold it in a conflicting mode?  Never waits. */
extern bool rowlock_conflicts(uint64 storage, uint64 row, LockTupleMode mode);

/*
 * The current transaction's locks, for the commit record: calls `each` for every (storage, mode) with sorted row ids in
 * portions, of the storages that are wanted.  The strongest mode per row only.
 */
typedef bool (*RowLockWanted)(uint64 storage);
typedef void (*RowLockEach)(void *arg, uint64 storage, LockTupleMode mode, uint64 base, const uint64 *rows, int nrows);
extern void rowlock_each(RowLockWanted wanted, RowLockEach each, void *arg);
extern bool rowlock_any(void); /* does the current transaction hold any? */

/*
 * For the publisher, after it has applied a version and before it becomes visible: row `row` was claimed in `mode` by
 * a transaction of version `version`, not by the owner identified by (own_proc, own_xact) (-1: none of this server).
 * Holders whose mode conflicts and whose base is older are doomed (doom is called with their owner, perhaps more than once);
 * those whose mode does not conflict, when successor != 0, get the same lock on the successor too, with the same base (rule 16).
 */
typedef void (*RowLockDoom)(void *arg, int proc, uint64 xact);
extern void rowlock_publish(uint64 storage, uint64 row, LockTupleMode mode, uint64 version, uint64 successor,
							int own_proc, uint64 own_xact, RowLockDoom doom, void *arg);

/* Identity of the current transaction as the owner of locks: MyProc->pgprocno and a number unique on this server. */
extern void rowlock_owner(int *proc, uint64 *xact);

#endif
