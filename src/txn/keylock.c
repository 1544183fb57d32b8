/*
 * keylock.c: see keylock.h.
 *
 * The first keys of a token are entries of the shared table of row locks, by which everybody finds who holds one without looking at all
 * transactions.  From FEW on they are in sets of the token's own (keyset.c), which whoever wants a key looks through.
 */
#include "postgres.h"

#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "txn/keylock.h"
#include "txn/keyset.h"

#define FEW 1024

static KeySets *
sets_of(const RowLockToken *t, uint64 storage)
{
	KeySets *sets = t->many;

	while (sets && sets->storage != storage)
		sets = sets->next;
	return sets;
}

/* Makes sure that n more can be noted without allocating. */
static void
reserve_few(RowLockToken *t, int n)
{
	int capacity = Max(t->few_capacity, 8);

	if (t->nfew + n <= t->few_capacity)
		return;
	while (capacity < t->nfew + n)
		capacity *= 2;
	t->few = t->few ? repalloc(t->few, sizeof(RowLockFew) * capacity)
					: MemoryContextAlloc(rowlock_context, sizeof(RowLockFew) * capacity);
	t->few_capacity = capacity;
}

/* The token's few keys become many.  They are in both places for a while. */
static void
gather(RowLockToken *t)
{
	RowLockOwner owner = {.token = t->token};

	rowlock_owner(&owner.proc, &owner.xact);
	for (int i = 0; i < t->nfew; i++)
	{
		RowLockPartition *part = rowlock_place(rowlock_key(t->few[i].storage, t->few[i].hash)).part;
		KeySets *sets = sets_of(t, t->few[i].storage);

		if (sets == NULL)
		{
			sets = MemoryContextAllocZero(rowlock_context, sizeof(KeySets));
			sets->storage = t->few[i].storage;
			sets->next = t->many;
			t->many = sets;
		}
		keyset_reserve(sets, &owner, part, 1);
		LWLockAcquire(&part->lock, LW_EXCLUSIVE);
		keyset_add(sets, part, t->few[i].hash);
		LWLockRelease(&part->lock);
	}
	while (t->nfew > 0)
	{
		RowLockFew *key = &t->few[--t->nfew];

		rowlock_drop(rowlock_key(key->storage, key->hash), t->token);
	}
}

RowLockResult
keylock_acquire(Relation index, uint64 storage, uint64 hash, LockWaitPolicy policy)
{
	RowLockResult result = ROWLOCK_GRANTED;
	uint16 offset = rowlock_offset(hash);
	bool queued = false;
	RowLockToken *t;
	RowLockOwner owner;
	RowLockPlace place;
	ItemPointerData tid;

	rowlock_owner(&owner.proc, &owner.xact);
	t = rowlock_current_token();
	owner.token = t->token;
	place = rowlock_place(rowlock_key(storage, hash));
	/* the queue's name for the key; one that two keys share costs a wait */
	ItemPointerSet(&tid, (BlockNumber) (hash >> 32), (OffsetNumber) (hash & 0x7FFF) + 1);
	for (;;)
	{
		KeySets *sets;
		KeysFound found;
		uint64 blocker;
		int strongest;
		bool first, done = true;

		if (t->nfew >= FEW)
			gather(t);
		if ((sets = sets_of(t, storage)) != NULL)
			keyset_reserve(sets, &owner, place.part, 1);
		else
			reserve_few(t, 1);
		LWLockAcquire(&place.part->lock, LW_EXCLUSIVE);
		blocker = rowlock_blocker(rowlock_find(&place), owner.xact, offset, LockTupleExclusive, &strongest);
		keyset_find(place.part, storage, owner.xact, hash, &found);
		if (blocker == 0)
			blocker = found.blocker;
		/* two of those who cannot tell which keys they have would wait for each other for nothing: their claims will tell */
		if (blocker == 0 && !found.vague)
			blocker = found.maybe_blocker;
		if (strongest >= 0 || found.held)
			blocker = 0;
		else if (blocker == 0 && sets)
			keyset_add(sets, place.part, hash);
		else if (blocker == 0)
		{
			done = rowlock_add(&place, &owner, LockTupleExclusive, 0, offset, &first);
			if (done)
				t->few[t->nfew++] = (RowLockFew){storage, hash};
		}
		LWLockRelease(&place.part->lock);
		if (!done)
		{
			rowlock_reserve();
			continue;
		}
		if (blocker == 0)
			break;
		result = ROWLOCK_WAITED;
		if (!rowlock_wait(index, &tid, LockTupleExclusive, blocker, policy, true, &queued))
			return ROWLOCK_SKIPPED;
		/* normally nothing is left */
		rowlock_drop(place.key, blocker);
		keyset_drop(place.part, blocker);
	}
	if (queued)
		UnlockTuple(index, &tid, rowlock_hardware_mode[LockTupleExclusive]);
	return result;
}

bool
keylock_held(uint64 storage, uint64 hash)
{
	KeysFound found;
	RowLockPlace place;
	int strongest;

	if (rowlock_ntokens == 0 || !rowlock_attach(false))
		return false;
	place = rowlock_place(rowlock_key(storage, hash));
	LWLockAcquire(&place.part->lock, LW_SHARED);
	(void) rowlock_blocker(rowlock_find(&place), rowlock_xact, rowlock_offset(hash), LockTupleExclusive, &strongest);
	keyset_find(place.part, storage, rowlock_xact, hash, &found);
	LWLockRelease(&place.part->lock);
	return strongest >= 0 || found.held || found.maybe_held;
}

/* ------------------------------------------------------------------------------------ ends of tokens */

bool
keylock_any(const RowLockToken *t)
{
	return t->nfew > 0 || t->many;
}

void
keylock_drop(RowLockToken *t)
{
	for (int i = 0; i < t->nfew; i++)
		rowlock_drop(rowlock_key(t->few[i].storage, t->few[i].hash), t->token);
	for (KeySets *sets = t->many; sets; sets = sets->next)
		keyset_free(sets);
	t->nfew = 0;
}

void
keylock_free(RowLockToken *t)
{
	while (t->many)
	{
		KeySets *next = t->many->next;

		pfree(t->many);
		t->many = next;
	}
	if (t->few)
		pfree(t->few);
	t->few = NULL;
	t->nfew = t->few_capacity = 0;
}

void
keylock_prepare_join(RowLockToken *from, RowLockToken *to)
{
	RowLockOwner owner = {.token = to->token};

	if (!keylock_any(from))
		return;
	rowlock_owner(&owner.proc, &owner.xact);
	if (to->nfew + from->nfew > FEW)
		gather(to);
	reserve_few(to, from->nfew);
	for (int i = 0; i < from->nfew; i++)
		rowlock_prepare_join(rowlock_key(from->few[i].storage, from->few[i].hash), from->token, to->token);
	for (KeySets *sets = from->many; sets; sets = sets->next)
	{
		KeySets *into = sets_of(to, sets->storage);

		if (into)
			keyset_prepare_join(sets, into, &owner);
	}
}

void
keylock_join(RowLockToken *from, RowLockToken *to)
{
	for (int i = 0; i < from->nfew; i++)
	{
		(void) rowlock_join(rowlock_key(from->few[i].storage, from->few[i].hash), from->token, to->token);
		to->few[to->nfew++] = from->few[i];
	}
	from->nfew = 0;
	while (from->many)
	{
		KeySets *sets = from->many, *into = sets_of(to, sets->storage);

		from->many = sets->next;
		if (into)
		{
			keyset_join(sets, into, to->token);
			pfree(sets);
			continue;
		}
		keyset_rename(sets, to->token);
		sets->next = to->many;
		to->many = sets;
	}
}
