/*
 * rowlock.c: taking row locks, and the tokens that others wait for.
 *
 * Modes, conflicts and the order of waiting are heap's: see heap_lock_tuple.  The differences: holders are found in the shared
 * table instead of the tuple's header, and a waiter waits for a token of the holder's subtransaction instead of its xid.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "txn/keylock.h"
#include "txn/rowlock_table.h"

/* Tells token locks from others of LOCKTAG_USERLOCK, should there be any; advisory locks have a tag type of their own. */
#define TOKEN_MAGIC 0x5333

/* heapam's tupleLockExtraInfo */
const LOCKMODE rowlock_hardware_mode[] = {
	[LockTupleKeyShare] = AccessShareLock,
	[LockTupleShare] = RowShareLock,
	[LockTupleNoKeyExclusive] = ExclusiveLock,
	[LockTupleExclusive] = AccessExclusiveLock,
};

RowLockToken *rowlock_tokens = NULL;
int rowlock_ntokens = 0;
uint64 rowlock_xact = 0;

static int tokens_capacity = 0;
MemoryContext rowlock_context = NULL;

/* The row locked last: a row is usually locked by the scan and then again by the update. */
static struct
{
	bool valid;
	LockTupleMode mode;
	uint64 storage;
	uint64 row;
} last;

static void xact_callback(XactEvent event, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg);

/* ------------------------------------------------------------------------------------ process and transaction */

void
rowlock_init_process(void)
{
	static bool done = false;

	if (done || rowlock_shared == NULL)
		return;
	done = true;
	LWLockRegisterTranche(rowlock_shared->partition_tranche, "s3am row locks");
	LWLockRegisterTranche(rowlock_shared->proc_tranche, "s3am row lock owner");
	LWLockRegisterTranche(rowlock_shared->dsa_tranche, "s3am row lock memory");
	rowlock_context = AllocSetContextCreate(TopMemoryContext, "s3am row locks", ALLOCSET_SMALL_SIZES);
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

void
rowlock_owner(int *proc, uint64 *xact)
{
	if (rowlock_xact == 0)
	{
		RowLockProc *me;

		if (IsParallelWorker())
			elog(ERROR, "parallel workers own no row locks");
		rowlock_attach(true); /* also checks that there is shared memory */
		rowlock_init_process();
		if (MyProc->pgprocno >= MaxBackends)
			elog(ERROR, "this kind of process cannot own row locks");
		me = &rowlock_shared->proc[MyProc->pgprocno];
		rowlock_xact = pg_atomic_fetch_add_u64(&rowlock_shared->next_xact, 1);
		LWLockAcquire(&me->lock, LW_EXCLUSIVE);
		me->xact = rowlock_xact;
		me->from = me->to = 0;
		LWLockRelease(&me->lock);
	}
	*proc = MyProc->pgprocno;
	*xact = rowlock_xact;
}

bool
rowlock_any(void)
{
	for (int i = 0; i < rowlock_ntokens; i++)
	{
		if (keylock_any(&rowlock_tokens[i]))
			return true;
		for (RowLockKeys *keys = rowlock_tokens[i].keys; keys; keys = keys->next)
			if (keys->count > 0)
				return true;
	}
	return false;
}

/* ------------------------------------------------------------------------------------ tokens */

static void
token_tag(LOCKTAG *tag, uint64 token)
{
	tag->locktag_field1 = MyDatabaseId;
	tag->locktag_field2 = (uint32) (token >> 32);
	tag->locktag_field3 = (uint32) token;
	tag->locktag_field4 = TOKEN_MAGIC;
	tag->locktag_type = LOCKTAG_USERLOCK;
	tag->locktag_lockmethodid = DEFAULT_LOCKMETHOD;
}

/* With the token's lock owned by the current (sub)transaction, whichever portal asks. */
static void
token_take(uint64 token)
{
	ResourceOwner old = CurrentResourceOwner;
	LOCKTAG tag;

	token_tag(&tag, token);
	CurrentResourceOwner = CurTransactionResourceOwner;
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	CurrentResourceOwner = old;
}

static void
token_release(uint64 token)
{
	ResourceOwner old = CurrentResourceOwner;
	LOCKTAG tag;

	token_tag(&tag, token);
	CurrentResourceOwner = CurTransactionResourceOwner;
	(void) LockRelease(&tag, ExclusiveLock, false);
	CurrentResourceOwner = old;
}

/* Waits until a token has ended; dontwait: says whether it has. */
static bool
token_wait(uint64 token, bool dontwait)
{
	LOCKTAG tag;

	token_tag(&tag, token);
	if (LockAcquire(&tag, ShareLock, false, dontwait) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	LockRelease(&tag, ShareLock, false);
	return true;
}

RowLockToken *
rowlock_current_token(void)
{
	SubTransactionId sub = GetCurrentSubTransactionId();
	RowLockToken *t;
	uint64 token;

	if (rowlock_ntokens > 0 && rowlock_tokens[rowlock_ntokens - 1].sub == sub)
		return &rowlock_tokens[rowlock_ntokens - 1];

	if (rowlock_ntokens == tokens_capacity)
	{
		int capacity = Max(tokens_capacity * 2, 8);

		rowlock_tokens = rowlock_tokens ? repalloc(rowlock_tokens, capacity * sizeof(RowLockToken))
										: MemoryContextAlloc(TopMemoryContext, capacity * sizeof(RowLockToken));
		tokens_capacity = capacity;
	}
	token = pg_atomic_fetch_add_u64(&rowlock_shared->next_token, 1);
	token_take(token);
	t = &rowlock_tokens[rowlock_ntokens++];
	*t = (RowLockToken){.token = token, .sub = sub};
	return t;
}

/* Makes sure that one more key can be noted without allocating. */
static void
reserve_key(RowLockToken *t)
{
	RowLockKeys *keys = t->keys;

	if (keys == NULL || keys->count == keys->capacity)
	{
		int capacity = keys ? Min(keys->capacity * 4, 16384) : 4;

		keys = MemoryContextAlloc(rowlock_context, offsetof(RowLockKeys, key) + capacity * sizeof(RowLockKey));
		keys->next = t->keys;
		keys->count = 0;
		keys->capacity = capacity;
		t->keys = keys;
	}
}

/* ------------------------------------------------------------------------------------ looking */

/*
 * The transaction that this process works for.  A parallel worker takes part in its leader's locks: it must not take them for
 * another's, the less so as core's lock manager would grant it the leader's tokens.
 */
static uint64
current_xact(void)
{
	PGPROC *leader;

	if (!IsParallelWorker() || rowlock_shared == NULL)
		return rowlock_xact;
	leader = MyProc->lockGroupLeader;
	return leader && leader->pgprocno < MaxBackends ? rowlock_shared->proc[leader->pgprocno].xact : 0;
}

bool
rowlock_held(uint64 storage, uint64 row, LockTupleMode mode)
{
	RowLockPlace place;
	RowLockChunk *chunk;
	uint64 xact = current_xact();
	bool held = false;

	if (xact == 0 || (rowlock_ntokens == 0 && !IsParallelWorker()) || !rowlock_attach(false))
		return false;
	if (last.valid && last.row == row && last.storage == storage && last.mode >= mode)
		return true;
	place = rowlock_place(rowlock_key(storage, row));
	LWLockAcquire(&place.part->lock, LW_SHARED);
	chunk = rowlock_find(&place);
	for (RowLockEntry *entry = chunk ? rowlock_entry(chunk->entries) : NULL; entry && !held;
		 entry = rowlock_entry(entry->next))
		held = entry->xact == xact && entry->mode >= mode && rowlock_entry_has(entry, rowlock_offset(row));
	LWLockRelease(&place.part->lock);
	return held;
}

uint64
rowlock_blocker(RowLockChunk *chunk, uint64 xact, uint16 offset, LockTupleMode mode, int *strongest)
{
	uint64 blocker = 0;

	*strongest = -1;
	for (RowLockEntry *entry = chunk ? rowlock_entry(chunk->entries) : NULL; entry; entry = rowlock_entry(entry->next))
	{
		if (entry->xact == xact)
		{
			if ((int) entry->mode > *strongest && rowlock_entry_has(entry, offset))
				*strongest = entry->mode;
		}
		else if (blocker == 0 && ROWLOCK_CONFLICT(entry->mode, mode) && rowlock_entry_has(entry, offset))
			blocker = entry->token;
	}
	return blocker;
}

bool
rowlock_conflicts(uint64 storage, uint64 row, LockTupleMode mode)
{
	RowLockPlace place;
	uint64 xact = current_xact();

	if (!rowlock_attach(false))
		return false;
	place = rowlock_place(rowlock_key(storage, row));
	for (;;)
	{
		uint64 blocker;
		int strongest;

		LWLockAcquire(&place.part->lock, LW_SHARED);
		blocker = rowlock_blocker(rowlock_find(&place), xact, rowlock_offset(row), mode, &strongest);
		LWLockRelease(&place.part->lock);
		if (blocker == 0)
			return false;
		if (!token_wait(blocker, true))
			return true;
		rowlock_drop(place.key, blocker);
	}
}

/* ------------------------------------------------------------------------------------ taking */

typedef struct WaitContext
{
	Relation rel;
	ItemPointer tid;
} WaitContext;

static void
wait_context(void *arg)
{
	WaitContext *context = arg;

	if (context->rel->rd_rel->relkind == RELKIND_INDEX)
		errcontext("while adding a key to index \"%s\"", RelationGetRelationName(context->rel));
	else
		errcontext("while locking tuple (%u,%u) in relation \"%s\"", ItemPointerGetBlockNumberNoCheck(context->tid),
				   ItemPointerGetOffsetNumberNoCheck(context->tid), RelationGetRelationName(context->rel));
}

static void
not_available(Relation rel)
{
	ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("could not obtain lock on row in relation \"%s\"", RelationGetRelationName(rel))));
}

/*
 * Heap's queue: who must wait holds the row's heavyweight lock meanwhile, so that waiters are served in order and the next one only
 * wakes when it is its turn.
 */
bool
rowlock_wait(Relation rel, ItemPointer tid, LockTupleMode mode, uint64 blocker, LockWaitPolicy policy, bool may_queue,
			 bool *queued)
{
	if (policy == LockWaitBlock)
	{
		WaitContext context = {rel, tid};
		ErrorContextCallback callback = {error_context_stack, wait_context, &context};

		error_context_stack = &callback;
		if (!*queued && may_queue)
		{
			LockTuple(rel, tid, rowlock_hardware_mode[mode]);
			*queued = true;
		}
		(void) token_wait(blocker, false);
		error_context_stack = callback.previous;
		return true;
	}
	if (!*queued && may_queue)
		*queued = ConditionalLockTuple(rel, tid, rowlock_hardware_mode[mode]);
	if ((*queued || !may_queue) && token_wait(blocker, true))
		return true;
	if (*queued)
		UnlockTuple(rel, tid, rowlock_hardware_mode[mode]);
	*queued = false;
	if (policy == LockWaitError)
		not_available(rel);
	return false;
}

RowLockResult
rowlock_acquire(Relation rel, uint64 storage, uint64 row, LockTupleMode mode, LockWaitPolicy policy, uint64 base)
{
	RowLockOwner owner;
	RowLockPlace place;
	RowLockToken *t;
	RowLockResult result = ROWLOCK_GRANTED;
	uint16 offset = rowlock_offset(row);
	bool queued = false;
	ItemPointerData tid;

	if (last.valid && last.row == row && last.storage == storage && last.mode >= mode)
		return ROWLOCK_GRANTED;

	rowlock_owner(&owner.proc, &owner.xact);
	t = rowlock_current_token();
	owner.token = t->token;
	place = rowlock_place(rowlock_key(storage, row));
	/* the queue's name for the row: its ctid, with heap's largest number of rows to a block */
	ItemPointerSet(&tid, (BlockNumber) (row / MaxHeapTuplesPerPage), (OffsetNumber) (row % MaxHeapTuplesPerPage + 1));

	for (;;)
	{
		uint64 blocker;
		int strongest;
		bool first, done = true;

		reserve_key(t);
		LWLockAcquire(&place.part->lock, LW_EXCLUSIVE);
		blocker = rowlock_blocker(rowlock_find(&place), owner.xact, offset, mode, &strongest);
		if (strongest >= (int) mode)
			blocker = 0;
		else if (blocker == 0)
		{
			done = rowlock_add(&place, &owner, mode, base, offset, &first);
			if (done && first)
				t->keys->key[t->keys->count++] = place.key;
		}
		LWLockRelease(&place.part->lock);
		if (!done)
		{
			rowlock_reserve();
			continue;
		}
		if (blocker == 0)
			break;

		/* as in heap, who holds the row weaker already goes past the queue, lest it wait for somebody who waits for it */
		result = ROWLOCK_WAITED;
		if (!rowlock_wait(rel, &tid, mode, blocker, policy, strongest < 0, &queued))
			return ROWLOCK_SKIPPED;
		/* normally nothing is left, since owners remove their entries themselves */
		rowlock_drop(place.key, blocker);
	}
	if (queued)
		UnlockTuple(rel, &tid, rowlock_hardware_mode[mode]);

	last.valid = true;
	last.storage = storage;
	last.row = row;
	last.mode = mode;
	return result;
}

/*
 * The row turned out to have ended before the lock was had: the lock means nothing and must not be published.  Only what the
 * current subtransaction took is given back; an older lock of ours was there before the row ended, and its conflict stands.
 */
void
rowlock_release(uint64 storage, uint64 row, LockTupleMode mode)
{
	RowLockPlace place;
	RowLockChunk *chunk;
	uint16 offset = rowlock_offset(row);

	last.valid = false;
	if (rowlock_ntokens == 0)
		return;
	place = rowlock_place(rowlock_key(storage, row));
	LWLockAcquire(&place.part->lock, LW_EXCLUSIVE);
	chunk = rowlock_find(&place);
	for (RowLockEntry *entry = chunk ? rowlock_entry(chunk->entries) : NULL; entry; entry = rowlock_entry(entry->next))
	{
		if (entry->token != rowlock_tokens[rowlock_ntokens - 1].token || entry->mode != mode ||
			!rowlock_entry_has(entry, offset))
			continue;
		if (entry->kind == ROWLOCK_BITMAP)
			entry->u.bits[offset >> 6] &= ~(UINT64CONST(1) << (offset & 63));
		else
			for (int i = 0; i < entry->count; i++)
				if (entry->u.rows[i] == offset)
				{
					entry->u.rows[i] = entry->u.rows[entry->count - 1];
					break;
				}
		entry->count--;
	}
	LWLockRelease(&place.part->lock);
}

/* ------------------------------------------------------------------------------------ ends of (sub)transactions */

static dsa_pointer
detach_notes(uint64 from, uint64 to, bool end)
{
	RowLockProc *me = &rowlock_shared->proc[MyProc->pgprocno];
	dsa_pointer notes;

	LWLockAcquire(&me->lock, LW_EXCLUSIVE);
	if (end)
		me->xact = 0;
	me->from = from;
	me->to = to;
	notes = me->notes;
	me->notes = InvalidDsaPointer;
	me->nnotes = 0;
	LWLockRelease(&me->lock);
	return notes;
}

/* The notes that stay; from here on nothing is renamed or dropped. */
static void
reattach_notes(dsa_pointer first, dsa_pointer final, uint32 n)
{
	RowLockProc *me = &rowlock_shared->proc[MyProc->pgprocno];
	RowLockNote *note = DsaPointerIsValid(final) ? dsa_get_address(rowlock_dsa, final) : NULL;

	LWLockAcquire(&me->lock, LW_EXCLUSIVE);
	me->from = me->to = 0;
	if (note)
	{
		note->next = me->notes;
		me->notes = first;
		me->nnotes += n;
	}
	LWLockRelease(&me->lock);
}

/* Hands every note of token `from` to drop or join, and reattaches the others and those of `to`. */
static void
process_notes(dsa_pointer notes, uint64 from, uint64 to)
{
	dsa_pointer kept = InvalidDsaPointer, final = InvalidDsaPointer;
	uint32 nkept = 0;

	while (DsaPointerIsValid(notes))
	{
		RowLockNote *note = dsa_get_address(rowlock_dsa, notes);
		dsa_pointer p = notes;
		bool keep = true;

		notes = note->next;
		if (note->token == from)
		{
			if (to == 0)
			{
				rowlock_drop(note->key, from);
				keep = false;
			}
			else
			{
				keep = !rowlock_join(note->key, from, to);
				note->token = to;
			}
		}
		if (keep)
		{
			note->next = kept;
			kept = p;
			if (nkept++ == 0)
				final = p;
		}
		else
			dsa_free(rowlock_dsa, p);
	}
	reattach_notes(kept, final, nkept);
}

static void
free_keys(RowLockToken *t)
{
	while (t->keys)
	{
		RowLockKeys *next = t->keys->next;

		pfree(t->keys);
		t->keys = next;
	}
	keylock_free(t);
}

static void
drop_keys(RowLockToken *t)
{
	for (RowLockKeys *keys = t->keys; keys; keys = keys->next)
		for (int i = 0; i < keys->count; i++)
			rowlock_drop(keys->key[i], t->token);
	keylock_drop(t);
}

/* Rolled back: the token itself is released by its resource owner, after this. */
static void
subabort(SubTransactionId sub)
{
	last.valid = false;
	while (rowlock_ntokens > 0 && rowlock_tokens[rowlock_ntokens - 1].sub >= sub)
	{
		RowLockToken *t = &rowlock_tokens[rowlock_ntokens - 1];
		dsa_pointer notes = detach_notes(t->token, 0, false);

		drop_keys(t);
		process_notes(notes, t->token, 0);
		free_keys(t);
		rowlock_ntokens--;
	}
}

/* Where the locks of a released subtransaction go: to a token that its parent has already, or none: the token itself goes. */
static RowLockToken *
join_target(SubTransactionId sub, SubTransactionId parent)
{
	if (rowlock_ntokens == 0 || rowlock_tokens[rowlock_ntokens - 1].sub != sub)
		return NULL;
	if (rowlock_ntokens == 1 || rowlock_tokens[rowlock_ntokens - 2].sub != parent)
		return NULL;
	return &rowlock_tokens[rowlock_ntokens - 2];
}

/* What may fail in joining: the memory for it. */
static void
prepare_subcommit(SubTransactionId sub, SubTransactionId parent)
{
	RowLockToken *to = join_target(sub, parent);

	if (to == NULL)
		return;
	for (RowLockKeys *keys = rowlock_tokens[rowlock_ntokens - 1].keys; keys; keys = keys->next)
		for (int i = 0; i < keys->count; i++)
			rowlock_prepare_join(keys->key[i], rowlock_tokens[rowlock_ntokens - 1].token, to->token);
	keylock_prepare_join(&rowlock_tokens[rowlock_ntokens - 1], to);
}

static void
subcommit(SubTransactionId sub, SubTransactionId parent)
{
	RowLockToken *from, *to;
	dsa_pointer notes;

	if (rowlock_tokens[rowlock_ntokens - 1].sub != sub)
		return;
	from = &rowlock_tokens[rowlock_ntokens - 1];
	to = join_target(sub, parent);
	if (to == NULL)
	{
		from->sub = parent; /* core hands the token's lock to the parent */
		return;
	}

	notes = detach_notes(from->token, to->token, false);
	while (from->keys)
	{
		RowLockKeys *keys = from->keys;
		int n = 0;

		from->keys = keys->next;
		for (int i = 0; i < keys->count; i++)
			if (!rowlock_join(keys->key[i], from->token, to->token))
				keys->key[n++] = keys->key[i];
		keys->count = n;
		if (n > 0 && to->keys && to->keys->capacity - to->keys->count >= n)
		{
			memcpy(to->keys->key + to->keys->count, keys->key, n * sizeof(RowLockKey));
			to->keys->count += n;
			n = 0;
		}
		if (n == 0)
			pfree(keys);
		else if (to->keys && to->keys->capacity > keys->capacity)
		{
			/* behind the block that has more room */
			keys->next = to->keys->next;
			to->keys->next = keys;
		}
		else
		{
			keys->next = to->keys;
			to->keys = keys;
		}
	}
	keylock_join(from, to);
	keylock_free(from);
	process_notes(notes, from->token, to->token);
	/* wakes those who wait for it: they find the parent's token */
	token_release(from->token);
	rowlock_ntokens--;
}

/*
 * The end of everything, in XACT_EVENT_COMMIT and _ABORT: nothing may be thrown.  Mapping shared memory might; then entries stay
 * behind, and whoever meets one finds that its token has ended.
 */
static void
end_transaction(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	uint32 holdoff = InterruptHoldoffCount;

	PG_TRY();
	{
		dsa_pointer notes = detach_notes(0, 0, true);

		for (int i = 0; i < rowlock_ntokens; i++)
			drop_keys(&rowlock_tokens[i]);
		while (DsaPointerIsValid(notes))
		{
			RowLockNote *note = dsa_get_address(rowlock_dsa, notes);
			dsa_pointer next = note->next;

			rowlock_drop(note->key, note->token);
			dsa_free(rowlock_dsa, notes);
			notes = next;
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		LWLockReleaseAll();
		InterruptHoldoffCount = holdoff;
	}
	PG_END_TRY();

	rowlock_ntokens = 0;
	rowlock_xact = 0;
	last.valid = false;
	MemoryContextReset(rowlock_context);
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (rowlock_xact == 0)
		return;
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		end_transaction();
}

static void
subxact_callback(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
	if (rowlock_ntokens == 0)
		return;
	switch (event)
	{
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			prepare_subcommit(my, parent);
			break;
		case SUBXACT_EVENT_COMMIT_SUB:
			subcommit(my, parent);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			subabort(my);
			break;
		case SUBXACT_EVENT_START_SUB:
			break;
	}
}
