/*
 * keyset.c: see keyset.h.
 *
 * A set is an open-addressing table of hashes.  Its owner alone changes it, so it may read it without a lock, and make a larger one beside it:
 * the partition's lock is held only while one takes the place of the other.  When all sets of the server take what they may, the one
 * that has to grow becomes a blocked Bloom filter, each key six bits of one cache line, which grows no more.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "s3am.h"
#include "txn/keyset.h"

#define FIRST_CAPACITY 16
#define BLOCK_WORDS 8
#define BLOCK_BYTES (BLOCK_WORDS * sizeof(uint64))
#define KEY_BITS 6

/* ------------------------------------------------------------------------------------ one set */

static inline KeySet *
set_at(dsa_pointer p)
{
	return DsaPointerIsValid(p) ? dsa_get_address(rowlock_dsa, p) : NULL;
}

static inline uint64 *
slots_of(const KeySet *set)
{
	return DsaPointerIsValid(set->slots) ? dsa_get_address(rowlock_dsa, set->slots) : NULL;
}

static Size
bytes_of(const KeySet *set)
{
	return set->capacity * (set->filter ? BLOCK_BYTES : sizeof(uint64));
}

/* So many hashes a table of that capacity takes, lest one that is not there be looked for for long. */
static inline uint32
most_in(uint32 capacity)
{
	return capacity - capacity / 6;
}

/* The place of a hash in a table: where it is, or would be. */
static uint32
place_in(const uint64 *slots, uint32 capacity, uint64 hash)
{
	uint32 at = (uint32) (((hash & PG_UINT32_MAX) * capacity) >> 32);

	while (slots[at] != 0 && slots[at] != hash)
		at = at + 1 == capacity ? 0 : at + 1;
	return at;
}

/* Of a filter, the block of a hash and its bits in there, nine bits of the result for each. */
static inline uint64
bits_in(uint32 capacity, uint64 hash, uint32 *block)
{
	uint64 bits = (hash ^ hash >> 31) * UINT64CONST(0x9E3779B97F4A7C15);

	*block = (uint32) hash & (capacity - 1);
	return bits >> (64 - 9 * KEY_BITS);
}

static bool
set_has(const KeySet *set, uint64 hash)
{
	const uint64 *slots = slots_of(set);
	uint32 block;
	uint64 bits;

	if (slots == NULL)
		return false;
	if (!set->filter)
		return slots[place_in(slots, set->capacity, hash)] == hash;
	bits = bits_in(set->capacity, hash, &block);
	slots += (Size) block * BLOCK_WORDS;
	for (int i = 0; i < KEY_BITS; i++, bits >>= 9)
		if (!(slots[(bits >> 6) & 7] >> (bits & 63) & 1))
			return false;
	return true;
}

/* Into slots that there are: true if it was not there. */
static bool
put(uint64 *slots, uint32 capacity, bool filter, uint64 hash)
{
	uint32 at;
	uint64 bits;

	Assert(hash != 0);
	if (!filter)
	{
		at = place_in(slots, capacity, hash);
		if (slots[at] == hash)
			return false;
		slots[at] = hash;
		return true;
	}
	bits = bits_in(capacity, hash, &at);
	slots += (Size) at * BLOCK_WORDS;
	for (int i = 0; i < KEY_BITS; i++, bits >>= 9)
		slots[(bits >> 6) & 7] |= UINT64CONST(1) << (bits & 63);
	return true;
}

/* Whatever of `from` there is in slots of another kind or size; a filter only into one that is not larger.  Returns how many were new. */
static uint32
put_all(uint64 *slots, uint32 capacity, bool filter, const KeySet *from)
{
	const uint64 *theirs = slots_of(from);
	uint32 n = 0;

	if (from->filter)
	{
		Assert(filter && capacity <= from->capacity);
		for (Size i = 0; i < from->capacity; i++)
			for (int w = 0; w < BLOCK_WORDS; w++)
				slots[(i & (capacity - 1)) * BLOCK_WORDS + w] |= theirs[i * BLOCK_WORDS + w];
		return from->count;
	}
	for (uint32 i = 0; i < from->capacity; i++)
		if (theirs[i] != 0)
			n += put(slots, capacity, filter, theirs[i]);
	return n;
}

/* ------------------------------------------------------------------------------------ memory */

static Size
limit(void)
{
	return (Size) s3am_key_lock_memory * 1024;
}

static void
take(Size bytes)
{
	(void) pg_atomic_fetch_add_u64(&rowlock_shared->key_bytes, bytes);
}

static void
give_back(Size bytes)
{
	(void) pg_atomic_fetch_sub_u64(&rowlock_shared->key_bytes, bytes);
}

static bool
may_take(Size bytes)
{
	if (pg_atomic_fetch_add_u64(&rowlock_shared->key_bytes, bytes) + bytes <= limit())
		return true;
	give_back(bytes);
	return false;
}

static dsa_pointer *
link_to(RowLockPartition *part, dsa_pointer p)
{
	dsa_pointer *link = &part->keysets;

	while (*link != p)
		link = &set_at(*link)->next;
	return link;
}

static void
free_set(dsa_pointer p)
{
	KeySet *set = set_at(p);

	if (DsaPointerIsValid(set->slots))
		dsa_free(rowlock_dsa, set->slots);
	give_back(bytes_of(set));
	dsa_free(rowlock_dsa, p);
}

static void
make_set(KeySets *sets, const RowLockOwner *owner, RowLockPartition *part)
{
	dsa_pointer p = rowlock_allocate(sizeof(KeySet));
	KeySet *set = set_at(p);

	memset(set, 0, sizeof(KeySet));
	set->storage = sets->storage;
	set->token = owner->token;
	set->xact = owner->xact;
	set->slots = InvalidDsaPointer;
	LWLockAcquire(&part->lock, LW_EXCLUSIVE);
	set->next = part->keysets;
	part->keysets = p;
	LWLockRelease(&part->lock);
	sets->set[part - rowlock_shared->partition] = p;
}

/* Slots that were filled aside take the place of those that there are. */
static void
replace_slots(RowLockPartition *part, KeySet *set, dsa_pointer slots, uint32 capacity, bool filter)
{
	dsa_pointer old = set->slots;
	Size bytes = bytes_of(set);

	/* everybody who finds it must be able to read it: mapped here already, by others when they look */
	LWLockAcquire(&part->lock, LW_EXCLUSIVE);
	set->slots = slots;
	set->capacity = capacity;
	set->filter = filter;
	LWLockRelease(&part->lock);
	if (DsaPointerIsValid(old))
		dsa_free(rowlock_dsa, old);
	give_back(bytes);
}

/* False: it may take no more; or, *full, there is no shared memory. */
static bool
grow(RowLockPartition *part, KeySet *set, uint32 capacity, bool *full)
{
	Size bytes = capacity * sizeof(uint64);
	dsa_pointer slots;
	uint64 *address;

	*full = false;
	if (!may_take(bytes))
		return false;
	*full = true;
	slots = rowlock_try_allocate(bytes, NULL);
	if (!DsaPointerIsValid(slots))
	{
		give_back(bytes);
		return false;
	}
	address = dsa_get_address(rowlock_dsa, slots);
	memset(address, 0, bytes);
	(void) put_all(address, capacity, false, set);
	replace_slots(part, set, slots, capacity, false);
	return true;
}

/*
 * As much as the tables take that filters replace, but no less than a 64th of all; half of it if shared memory is full; or the least there
 * can be.
 */
static uint32
filter_blocks(const KeySets *sets, bool full)
{
	Size bytes = 0, wanted;
	uint32 blocks;

	for (int p = 0; p < ROWLOCK_PARTITIONS; p++)
	{
		const KeySet *set = set_at(sets->set[p]);

		if (set && !set->filter)
			bytes += bytes_of(set);
	}
	wanted = full ? bytes / 2 : Max(bytes, limit() / 64);
	blocks = Max(wanted / ROWLOCK_PARTITIONS / BLOCK_BYTES, 1);
	blocks = 1 << pg_leftmost_one_pos32(blocks);
	if (pg_atomic_read_u64(&rowlock_shared->key_bytes) + (Size) blocks * BLOCK_BYTES * ROWLOCK_PARTITIONS >
		limit() + bytes)
		return 1;
	return blocks;
}

/* An error leaves some as filters, others as tables, which is as good. */
static void
make_filters(KeySets *sets, bool full)
{
	uint32 blocks = filter_blocks(sets, full);

	for (int p = 0; p < ROWLOCK_PARTITIONS; p++)
	{
		KeySet *set = set_at(sets->set[p]);
		uint32 capacity = blocks;
		dsa_pointer slots;
		uint64 *address;

		if (set == NULL || set->filter)
			continue;
		slots = rowlock_try_allocate(capacity * BLOCK_BYTES, NULL);
		if (!DsaPointerIsValid(slots))
		{
			capacity = 1;
			slots = rowlock_allocate(BLOCK_BYTES);
		}
		address = dsa_get_address(rowlock_dsa, slots);
		take(capacity * BLOCK_BYTES);
		memset(address, 0, capacity * BLOCK_BYTES);
		(void) put_all(address, capacity, true, set);
		replace_slots(&rowlock_shared->partition[p], set, slots, capacity, true);
	}
}

void
keyset_reserve(KeySets *sets, const RowLockOwner *owner, RowLockPartition *part, uint32 n)
{
	int p = part - rowlock_shared->partition;
	uint32 capacity;
	KeySet *set;
	bool full;

	if (!DsaPointerIsValid(sets->set[p]))
		make_set(sets, owner, part);
	set = set_at(sets->set[p]);
	if (set->filter || set->count + n <= most_in(set->capacity))
		return;
	capacity = Max(set->capacity + set->capacity / 2, FIRST_CAPACITY);
	while (most_in(capacity) < set->count + n)
		capacity += capacity / 2;
	if (!grow(part, set, capacity, &full))
		make_filters(sets, full);
}

/* ------------------------------------------------------------------------------------ looking and adding */

void
keyset_find(const RowLockPartition *part, uint64 storage, uint64 xact, uint64 hash, KeysFound *found)
{
	memset(found, 0, sizeof(*found));
	for (const KeySet *set = set_at(part->keysets); set; set = set_at(set->next))
	{
		bool mine = set->xact == xact;

		if (set->storage != storage)
			continue;
		if (mine && set->filter)
			found->vague = true;
		if (!set_has(set, hash))
			continue;
		if (mine && set->filter)
			found->maybe_held = true;
		else if (mine)
			found->held = true;
		else if (set->filter)
			found->maybe_blocker = set->token;
		else
			found->blocker = set->token;
	}
}

void
keyset_add(const KeySets *sets, const RowLockPartition *part, uint64 hash)
{
	KeySet *set = set_at(sets->set[part - rowlock_shared->partition]);
	uint64 *slots = slots_of(set);

	set->count += put(slots, set->capacity, set->filter, hash);
}

/* ------------------------------------------------------------------------------------ ends */

void
keyset_free(KeySets *sets)
{
	for (int p = 0; p < ROWLOCK_PARTITIONS; p++)
	{
		RowLockPartition *part = &rowlock_shared->partition[p];
		dsa_pointer set = sets->set[p];

		if (!DsaPointerIsValid(set))
			continue;
		LWLockAcquire(&part->lock, LW_EXCLUSIVE);
		*link_to(part, set) = set_at(set)->next;
		LWLockRelease(&part->lock);
		sets->set[p] = InvalidDsaPointer;
		free_set(set);
	}
}

void
keyset_drop(RowLockPartition *part, uint64 token)
{
	dsa_pointer removed = InvalidDsaPointer;
	dsa_pointer *link;
	KeySet *set;

	LWLockAcquire(&part->lock, LW_EXCLUSIVE);
	for (link = &part->keysets; (set = set_at(*link)) != NULL;)
		if (set->token == token)
		{
			dsa_pointer p = *link;

			*link = set->next;
			set->next = removed;
			removed = p;
		}
		else
			link = &set->next;
	LWLockRelease(&part->lock);
	while ((set = set_at(removed)) != NULL)
	{
		dsa_pointer p = removed;

		removed = set->next;
		free_set(p);
	}
}

void
keyset_rename(KeySets *sets, uint64 token)
{
	for (int p = 0; p < ROWLOCK_PARTITIONS; p++)
	{
		RowLockPartition *part = &rowlock_shared->partition[p];
		KeySet *set = set_at(sets->set[p]);

		if (set == NULL)
			continue;
		LWLockAcquire(&part->lock, LW_EXCLUSIVE);
		set->token = token;
		LWLockRelease(&part->lock);
	}
}

void
keyset_prepare_join(const KeySets *from, KeySets *to, const RowLockOwner *owner)
{
	for (int p = 0; p < ROWLOCK_PARTITIONS; p++)
	{
		const KeySet *set = set_at(from->set[p]);

		if (set && !set->filter && DsaPointerIsValid(to->set[p]))
			keyset_reserve(to, owner, &rowlock_shared->partition[p], set->count);
	}
}

void
keyset_join(KeySets *from, KeySets *to, uint64 token)
{
	for (int p = 0; p < ROWLOCK_PARTITIONS; p++)
	{
		RowLockPartition *part = &rowlock_shared->partition[p];
		dsa_pointer stays = to->set[p], goes = from->set[p];
		KeySet *into = set_at(stays), *set = set_at(goes);
		uint64 *slots;

		if (set == NULL)
			continue;
		if (into == NULL || (set->filter && (!into->filter || into->capacity > set->capacity)))
		{
			/* a filter takes in any table, and any larger filter */
			KeySet *other = into;

			stays = from->set[p];
			goes = to->set[p];
			into = set;
			set = other;
		}
		slots = slots_of(into);
		LWLockAcquire(&part->lock, LW_EXCLUSIVE);
		if (set)
		{
			into->count += put_all(slots, into->capacity, into->filter, set);
			*link_to(part, goes) = set->next;
		}
		into->token = token;
		LWLockRelease(&part->lock);
		to->set[p] = stays;
		from->set[p] = InvalidDsaPointer;
		if (set)
			free_set(goes);
	}
}
