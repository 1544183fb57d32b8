/*
 * locked.c: the relations that the current transaction has locked.
 *
 * A replay takes the locks that its statement took, so whoever holds one in its way and writes must have claimed something that fails him, or
 * he would wait for the replay that waits for him (rule 27).  Neither plans nor object access events name all of these relations: who makes,
 * drops or detaches a partition locks its parent, and the default partition, too; ALTER DOMAIN locks tables; who writes to a
 * partition may lock what is above it.  The lock manager knows them all.
 */
#include "postgres.h"

#include "access/transam.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"

#include "txn/locked.h"

/* SHARE and stronger.  Such locks are never in the fast path, so the process's own list has them all. */
#define STRONG                                                                                                         \
	(LOCKBIT_ON(ShareLock) | LOCKBIT_ON(ShareRowExclusiveLock) | LOCKBIT_ON(ExclusiveLock) |                           \
	 LOCKBIT_ON(AccessExclusiveLock))

bool
locked_at_least(Oid relid, LOCKMODE mode)
{
	LOCKTAG tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	for (; mode <= AccessExclusiveLock; mode++)
		if (LockHeldByMe(&tag, mode))
			return true;
	return false;
}

List *
locked_strongly(void)
{
	List *result = NIL;

	for (int i = 0; i < NUM_LOCK_PARTITIONS; i++)
	{
		SHM_QUEUE *queue = &MyProc->myProcLocks[i];
		PROCLOCK *held;

		LWLockAcquire(LockHashPartitionLockByIndex(i), LW_SHARED);
		held = (PROCLOCK *) SHMQueueNext(queue, queue, offsetof(PROCLOCK, procLink));
		while (held)
		{
			const LOCKTAG *tag = &held->tag.myLock->tag;

			if (tag->locktag_type == LOCKTAG_RELATION && tag->locktag_lockmethodid == DEFAULT_LOCKMETHOD &&
				tag->locktag_field1 == MyDatabaseId && tag->locktag_field2 >= FirstNormalObjectId &&
				(held->holdMask & STRONG))
				result = lappend_oid(result, tag->locktag_field2);
			held = (PROCLOCK *) SHMQueueNext(queue, &held->procLink, offsetof(PROCLOCK, procLink));
		}
		LWLockRelease(LockHashPartitionLockByIndex(i));
	}
	return result;
}
