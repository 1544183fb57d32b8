/*
 * rowlock_claims.c: the current transaction's row locks as a whole, for its commit record.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/proc.h"

#include "txn/rowlock_table.h"

#define PORTION (16 * ROWLOCK_CHUNK_ROWS)

typedef struct Collected
{
	uint64 *rows; /* PORTION + ROWLOCK_CHUNK_ROWS of them, allocated when first needed */
	int n;
	uint64 base; /* the oldest */
} Collected;

static int
compare_keys(const void *a, const void *b)
{
	const RowLockKey *ka = a, *kb = b;

	if (ka->storage != kb->storage)
		return ka->storage < kb->storage ? -1 : 1;
	if (ka->number != kb->number)
		return ka->number < kb->number ? -1 : 1;
	return 0;
}

/* All chunks with entries of ours in the storages that are wanted, those made by the publisher included; sorted, each once. */
static RowLockKey *
all_keys(RowLockWanted wanted, Size *n)
{
	RowLockProc *me = &rowlock_shared->proc[MyProc->pgprocno];
	Size own = 0, total, unique = 0;
	RowLockKey *key;
	uint32 room = 0;

	for (int i = 0; i < rowlock_ntokens; i++)
		for (RowLockKeys *keys = rowlock_tokens[i].keys; keys; keys = keys->next)
			for (int k = 0; k < keys->count; k++)
				own += wanted(keys->key[k].storage);
	for (;;)
	{
		bool fits;

		key = palloc_extended((own + room + 1) * sizeof(RowLockKey), MCXT_ALLOC_HUGE);
		total = own;
		LWLockAcquire(&me->lock, LW_SHARED);
		fits = me->nnotes <= room;
		if (fits)
			for (dsa_pointer p = me->notes; DsaPointerIsValid(p);)
			{
				RowLockNote *note = dsa_get_address(rowlock_dsa, p);

				key[total++] = note->key;
				p = note->next;
			}
		else
			room = me->nnotes + 16;
		LWLockRelease(&me->lock);
		if (fits)
			break;
		pfree(key);
	}
	own = 0;
	for (int i = 0; i < rowlock_ntokens; i++)
		for (RowLockKeys *keys = rowlock_tokens[i].keys; keys; keys = keys->next)
			for (int k = 0; k < keys->count; k++)
				if (wanted(keys->key[k].storage))
					key[own++] = keys->key[k];
	qsort(key, total, sizeof(RowLockKey), compare_keys);
	for (Size i = 0; i < total; i++)
		if (unique == 0 || compare_keys(&key[unique - 1], &key[i]) != 0)
			key[unique++] = key[i];
	*n = unique;
	return key;
}

/* Our rows in one chunk, by mode. */
static void
read_chunk(RowLockKey key, uint64 bits[ROWLOCK_MODES][ROWLOCK_CHUNK_WORDS], uint64 base[ROWLOCK_MODES])
{
	RowLockPlace place = rowlock_place(key);
	RowLockChunk *chunk;

	memset(bits, 0, ROWLOCK_MODES * ROWLOCK_CHUNK_WORDS * sizeof(uint64));
	for (int mode = 0; mode < ROWLOCK_MODES; mode++)
		base[mode] = PG_UINT64_MAX;
	LWLockAcquire(&place.part->lock, LW_SHARED);
	chunk = rowlock_find(&place);
	for (RowLockEntry *entry = chunk ? rowlock_entry(chunk->entries) : NULL; entry; entry = rowlock_entry(entry->next))
	{
		if (entry->xact != rowlock_xact)
			continue;
		base[entry->mode] = Min(base[entry->mode], entry->base);
		if (entry->kind == ROWLOCK_BITMAP)
			for (int i = 0; i < ROWLOCK_CHUNK_WORDS; i++)
				bits[entry->mode][i] |= entry->u.bits[i];
		else
			for (int i = 0; i < entry->count; i++)
				bits[entry->mode][entry->u.rows[i] >> 6] |= UINT64CONST(1) << (entry->u.rows[i] & 63);
	}
	LWLockRelease(&place.part->lock);
}

static void
flush(RowLockEach each, void *arg, uint64 storage, LockTupleMode mode, Collected *c)
{
	if (c->n > 0)
		each(arg, storage, mode, c->base, c->rows, c->n);
	c->n = 0;
	c->base = PG_UINT64_MAX;
}

void
rowlock_each(RowLockWanted wanted, RowLockEach each, void *arg)
{
	Collected collected[ROWLOCK_MODES] = {{0}};
	uint64 bits[ROWLOCK_MODES][ROWLOCK_CHUNK_WORDS];
	uint64 base[ROWLOCK_MODES];
	Size n;
	RowLockKey *key;

	if (rowlock_ntokens == 0)
		return;
	key = all_keys(wanted, &n);
	for (int mode = 0; mode < ROWLOCK_MODES; mode++)
		collected[mode].base = PG_UINT64_MAX;
	for (Size i = 0; i < n; i++)
	{
		if (i > 0 && key[i].storage != key[i - 1].storage)
			for (int mode = 0; mode < ROWLOCK_MODES; mode++)
				flush(each, arg, key[i - 1].storage, mode, &collected[mode]);
		CHECK_FOR_INTERRUPTS();
		read_chunk(key[i], bits, base);
		for (int mode = 0; mode < ROWLOCK_MODES; mode++)
		{
			Collected *c = &collected[mode];
			int before = c->n;

			for (int w = 0; w < ROWLOCK_CHUNK_WORDS; w++)
			{
				uint64 word = bits[mode][w];

				for (int stronger = mode + 1; stronger < ROWLOCK_MODES; stronger++)
					word &= ~bits[stronger][w];
				if (word != 0 && c->rows == NULL)
					c->rows = palloc((PORTION + ROWLOCK_CHUNK_ROWS) * sizeof(uint64));
				for (; word != 0; word &= word - 1)
					c->rows[c->n++] = (key[i].number << ROWLOCK_CHUNK_BITS) + w * 64 + pg_rightmost_one_pos64(word);
			}
			if (c->n > before)
				c->base = Min(c->base, base[mode]);
			if (c->n >= PORTION)
				flush(each, arg, key[i].storage, mode, c);
		}
	}
	for (int mode = 0; mode < ROWLOCK_MODES; mode++)
	{
		if (n > 0)
			flush(each, arg, key[n - 1].storage, mode, &collected[mode]);
		if (collected[mode].rows)
			pfree(collected[mode].rows);
	}
	pfree(key);
}
