/*
 * rowlock_publish.c: what the publisher does to the locks of this server when a version changes a row (rules 16 and 22).
 *
 * Following makes entries in the name of another process.  ROWLOCK.md, "Following", says why its end never misses one.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/memutils.h"

#include "txn/rowlock_table.h"

typedef struct Holder
{
	RowLockOwner owner;
	LockTupleMode mode;
	uint64 base;
	bool conflicts;
} Holder;

/* Kept over calls: one row in a million has more than a few holders. */
static Holder *holders = NULL;
static int holders_capacity = 0;

static void
make_room(int n)
{
	if (n <= holders_capacity)
		return;
	n = Max(n, 64);
	if (holders)
		holders = repalloc_huge(holders, n * sizeof(Holder));
	else
		holders = MemoryContextAlloc(TopMemoryContext, n * sizeof(Holder));
	holders_capacity = n;
}

/* Fills holders[begin ..] with who holds the row (xact 0: anybody); returns the end. */
static int
find_holders(int begin, const RowLockPlace *place, uint16 offset, LockTupleMode mode, uint64 xact)
{
	int n;

	for (;;)
	{
		RowLockChunk *chunk;

		n = begin;
		LWLockAcquire(&place->part->lock, LW_SHARED);
		chunk = rowlock_find(place);
		for (RowLockEntry *entry = chunk ? rowlock_entry(chunk->entries) : NULL; entry;
			 entry = rowlock_entry(entry->next))
		{
			if ((xact != 0 && entry->xact != xact) || !rowlock_entry_has(entry, offset))
				continue;
			if (n < holders_capacity)
			{
				holders[n].owner.token = entry->token;
				holders[n].owner.xact = entry->xact;
				holders[n].owner.proc = entry->proc;
				holders[n].mode = entry->mode;
				holders[n].base = entry->base;
				holders[n].conflicts = ROWLOCK_CONFLICT(entry->mode, mode);
			}
			n++;
		}
		LWLockRelease(&place->part->lock);
		if (n <= holders_capacity)
			return n;
		make_room(n + 16);
	}
}

/*
 * Gives one transaction's locks on a row to the successor, too.  Its lock in shared memory is held throughout, so it neither ends
 * nor begins or finishes renaming a token meanwhile; `begin` is where holders[] may be overwritten.
 */
static void
follow(int begin, const RowLockOwner *owner, const RowLockPlace *source, uint16 offset, LockTupleMode mode,
	   RowLockKey key, uint16 successor)
{
	RowLockProc *proc = &rowlock_shared->proc[owner->proc];
	RowLockPlace target = rowlock_place(key);
	bool again;

	do
	{
		RowLockNote *note;
		int end;

		again = false;
		if (!DsaPointerIsValid(rowlock_spare_note))
			rowlock_spare_note = rowlock_allocate(sizeof(RowLockNote));
		note = dsa_get_address(rowlock_dsa, rowlock_spare_note);
		make_room(begin + 16);
		LWLockAcquire(&proc->lock, LW_EXCLUSIVE);
		if (proc->xact != owner->xact)
		{
			LWLockRelease(&proc->lock);
			return;
		}
		end = find_holders(begin, source, offset, mode, owner->xact);
		for (int i = begin; i < end && !again; i++)
		{
			RowLockOwner to = holders[i].owner;
			bool first = false;

			if (holders[i].conflicts)
				continue;
			if (to.token == proc->from)
				to.token = proc->to;
			if (to.token == 0)
				continue;
			/* without a note at hand nothing may be added */
			again = !DsaPointerIsValid(rowlock_spare_note);
			if (!again)
			{
				LWLockAcquire(&target.part->lock, LW_EXCLUSIVE);
				again = !rowlock_add(&target, &to, holders[i].mode, holders[i].base, successor, &first);
				LWLockRelease(&target.part->lock);
			}
			if (!again && first)
			{
				note->key = key;
				note->token = to.token;
				note->next = proc->notes;
				proc->notes = rowlock_spare_note;
				proc->nnotes++;
				rowlock_spare_note = InvalidDsaPointer;
			}
		}
		LWLockRelease(&proc->lock);
		if (again)
			rowlock_reserve();
	} while (again);
}

void
rowlock_publish(uint64 storage, uint64 row, LockTupleMode mode, uint64 version, uint64 successor, int own_proc,
				uint64 own_xact, RowLockDoom doom, void *arg)
{
	RowLockPlace place;
	int n;

	if (!rowlock_attach(false))
		return; /* nobody has ever locked a row */
	make_room(64);
	place = rowlock_place(rowlock_key(storage, row));
	n = find_holders(0, &place, rowlock_offset(row), mode, 0);
	for (int i = 0; i < n; i++)
	{
		Holder h = holders[i];
		bool again = false;

		if (h.owner.proc == own_proc && h.owner.xact == own_xact)
			continue;
		if (h.conflicts)
		{
			if (h.base < version)
				doom(arg, h.owner.proc, h.owner.xact);
			continue;
		}
		if (successor == 0)
			continue;
		/* one that holds it in several modes or subtransactions is followed once */
		for (int j = 0; j < i && !again; j++)
			again = holders[j].owner.xact == h.owner.xact && !holders[j].conflicts;
		if (!again)
			follow(n, &h.owner, &place, rowlock_offset(row), mode, rowlock_key(storage, successor),
				   rowlock_offset(successor));
	}
}
