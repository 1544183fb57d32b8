/*
 * rowlock_table.c: the shared table of row locks: a partitioned hash table of chunks, and the entries in them.
 *
 * Nothing is allocated or freed, and nothing waits, under a partition's lock: what an insertion may need is put aside before
 * (spare_*), and what was removed is freed afterwards.  dsa_get_address may throw (it maps segments when first met), so addresses
 * are taken before anything is changed.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "txn/rowlock_table.h"

RowLockShared *rowlock_shared = NULL;
dsa_area *rowlock_dsa = NULL;

static const int capacity_of[] = {
	[ROWLOCK_SPARSE_4] = 4, [ROWLOCK_SPARSE_12] = 12, [ROWLOCK_SPARSE_44] = 44, [ROWLOCK_BITMAP] = ROWLOCK_CHUNK_ROWS};

/* Memory put aside for the next insertions, and what the last one lacked. */
static dsa_pointer spare_chunk = InvalidDsaPointer;
static dsa_pointer spare_entry[ROWLOCK_BITMAP + 1];
static dsa_pointer spare_segment = InvalidDsaPointer;
static uint32 spare_segment_buckets = 0;
static bool need_chunk = false;
static int need_kind = -1;
static uint32 need_buckets = 0;
/* Entries replaced by larger ones, to be freed by the next rowlock_reserve: growing again needs one. */
static dsa_pointer outgrown = InvalidDsaPointer;
dsa_pointer rowlock_spare_note = InvalidDsaPointer;
static bool exiting = false;

static void free_removed(dsa_pointer entries, dsa_pointer chunk);

/* ------------------------------------------------------------------------------------ memory */

Size
rowlock_shmem_size(void)
{
	return add_size(offsetof(RowLockShared, proc), mul_size(sizeof(RowLockProc), MaxBackends));
}

void
rowlock_shmem_init(void)
{
	bool found;

	rowlock_shared = ShmemInitStruct("s3am row locks", rowlock_shmem_size(), &found);
	if (found)
		return;
	memset(rowlock_shared, 0, rowlock_shmem_size());
	rowlock_shared->partition_tranche = LWLockNewTrancheId();
	rowlock_shared->proc_tranche = LWLockNewTrancheId();
	rowlock_shared->dsa_tranche = LWLockNewTrancheId();
	LWLockInitialize(&rowlock_shared->dsa_lock, rowlock_shared->dsa_tranche);
	rowlock_shared->dsa = DSM_HANDLE_INVALID;
	pg_atomic_init_u64(&rowlock_shared->next_token, 1);
	pg_atomic_init_u64(&rowlock_shared->next_xact, 1);
	pg_atomic_init_u64(&rowlock_shared->key_bytes, 0);
	for (int i = 0; i < ROWLOCK_PARTITIONS; i++)
	{
		LWLockInitialize(&rowlock_shared->partition[i].lock, rowlock_shared->partition_tranche);
		rowlock_shared->partition[i].nbuckets = ROWLOCK_FIRST_BUCKETS;
		rowlock_shared->partition[i].keysets = InvalidDsaPointer;
	}
	for (int i = 0; i < MaxBackends; i++)
		LWLockInitialize(&rowlock_shared->proc[i].lock, rowlock_shared->proc_tranche);
}

static void
free_spares(int code, Datum arg)
{
	exiting = true;
	free_removed(outgrown, InvalidDsaPointer);
	outgrown = InvalidDsaPointer;
	if (DsaPointerIsValid(spare_chunk))
		dsa_free(rowlock_dsa, spare_chunk);
	if (DsaPointerIsValid(spare_segment))
		dsa_free(rowlock_dsa, spare_segment);
	if (DsaPointerIsValid(rowlock_spare_note))
		dsa_free(rowlock_dsa, rowlock_spare_note);
	for (int i = 0; i <= ROWLOCK_BITMAP; i++)
		if (DsaPointerIsValid(spare_entry[i]))
			dsa_free(rowlock_dsa, spare_entry[i]);
	spare_chunk = spare_segment = rowlock_spare_note = InvalidDsaPointer;
	memset(spare_entry, 0, sizeof(spare_entry));
}

bool
rowlock_attach(bool create)
{
	MemoryContext old;

	if (rowlock_dsa)
		return true;
	if (rowlock_shared == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("s3am has no shared memory"),
						errhint("Add s3am to shared_preload_libraries and restart the server.")));
	LWLockAcquire(&rowlock_shared->dsa_lock, create ? LW_EXCLUSIVE : LW_SHARED);
	if (rowlock_shared->dsa == DSM_HANDLE_INVALID && !create)
	{
		LWLockRelease(&rowlock_shared->dsa_lock);
		return false;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	if (rowlock_shared->dsa == DSM_HANDLE_INVALID)
	{
		dsa_area *area = dsa_create(rowlock_shared->dsa_tranche);

		dsa_pin(area);
		dsa_pin_mapping(area);
		rowlock_shared->dsa = dsa_get_handle(area);
		rowlock_dsa = area;
	}
	else
	{
		dsa_area *area = dsa_attach(rowlock_shared->dsa);

		dsa_pin_mapping(area);
		rowlock_dsa = area;
	}
	MemoryContextSwitchTo(old);
	LWLockRelease(&rowlock_shared->dsa_lock);
	before_shmem_exit(free_spares, (Datum) 0);
	return true;
}

/* A full /dev/shm is thrown by dsm_create as it is found. */
dsa_pointer
rowlock_try_allocate(Size size, char **reason)
{
	MemoryContext cxt = CurrentMemoryContext;
	dsa_pointer volatile p = InvalidDsaPointer;

	PG_TRY();
	{
		p = dsa_allocate_extended(rowlock_dsa, size, DSA_ALLOC_NO_OOM | DSA_ALLOC_HUGE);
	}
	PG_CATCH();
	{
		int code = geterrcode();
		ErrorData *e;

		if (code != ERRCODE_OUT_OF_MEMORY && code != ERRCODE_DISK_FULL)
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		e = CopyErrorData();
		FlushErrorState();
		if (reason)
			*reason = e->message;
	}
	PG_END_TRY();
	return p;
}

/* With an error that says what to do. */
dsa_pointer
rowlock_allocate(Size size)
{
	char *reason = NULL;
	dsa_pointer p = rowlock_try_allocate(size, &reason);

	if (!DsaPointerIsValid(p))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of shared memory for row locks"),
						reason ? errdetail("%s", reason) : 0,
						errhint("Give the server more shared memory (in a container, a larger /dev/shm), or lock fewer "
								"rows in one transaction.")));
	return p;
}

static Size
entry_size(RowLockKind kind)
{
	if (kind == ROWLOCK_BITMAP)
		return sizeof(RowLockEntry);
	return offsetof(RowLockEntry, u) + capacity_of[kind] * sizeof(uint16);
}

void
rowlock_reserve(void)
{
	free_removed(outgrown, InvalidDsaPointer);
	outgrown = InvalidDsaPointer;
	if (need_chunk && !DsaPointerIsValid(spare_chunk))
		spare_chunk = rowlock_allocate(sizeof(RowLockChunk));
	need_chunk = false;
	if (need_kind >= 0 && !DsaPointerIsValid(spare_entry[need_kind]))
		spare_entry[need_kind] = rowlock_allocate(entry_size(need_kind));
	need_kind = -1;
	if (need_buckets && spare_segment_buckets != need_buckets)
	{
		if (DsaPointerIsValid(spare_segment))
			dsa_free(rowlock_dsa, spare_segment);
		spare_segment = InvalidDsaPointer;
		spare_segment_buckets = 0;
		spare_segment = rowlock_allocate(need_buckets * sizeof(dsa_pointer));
		spare_segment_buckets = need_buckets;
	}
	need_buckets = 0;
}

/* Frees a chain of removed entries, and a removed chunk.  Not under a partition's lock. */
static void
free_removed(dsa_pointer entries, dsa_pointer chunk)
{
	while (DsaPointerIsValid(entries))
	{
		RowLockEntry *entry = rowlock_entry(entries);
		dsa_pointer next = entry->next;

		if (!exiting && !DsaPointerIsValid(spare_entry[entry->kind]))
			spare_entry[entry->kind] = entries;
		else
			dsa_free(rowlock_dsa, entries);
		entries = next;
	}
	if (DsaPointerIsValid(chunk))
	{
		if (!exiting && !DsaPointerIsValid(spare_chunk))
			spare_chunk = chunk;
		else
			dsa_free(rowlock_dsa, chunk);
	}
}

/* ------------------------------------------------------------------------------------ chunks */

RowLockPlace
rowlock_place(RowLockKey key)
{
	RowLockPlace place;
	uint64 h = key.storage * UINT64CONST(0x9E3779B97F4A7C15) + key.number;

	h ^= h >> 32;
	h *= UINT64CONST(0xD6E8FEB86659FD93);
	h ^= h >> 32;
	h *= UINT64CONST(0xD6E8FEB86659FD93);
	h ^= h >> 32;
	place.key = key;
	place.hash = (uint32) h;
	place.part = &rowlock_shared->partition[(h >> 32) % ROWLOCK_PARTITIONS];
	return place;
}

/* Number of the segment that bucket b is in, the first one not counted. */
static inline int
segment_of(uint32 b)
{
	return pg_leftmost_one_pos32(b / ROWLOCK_FIRST_BUCKETS);
}

static dsa_pointer *
bucket_at(RowLockPartition *part, uint32 b)
{
	int s;

	if (b < ROWLOCK_FIRST_BUCKETS)
		return &part->first[b];
	s = segment_of(b);
	return (dsa_pointer *) dsa_get_address(rowlock_dsa, part->segment[s]) + (b - (ROWLOCK_FIRST_BUCKETS << s));
}

static uint32
bucket_number(uint32 hash, uint32 nbuckets)
{
	uint32 high = pg_nextpower2_32(nbuckets);
	uint32 b = hash & (high - 1);

	return b < nbuckets ? b : b & (high / 2 - 1);
}

/* The link that points to the chunk, or to where it would be appended. */
static dsa_pointer *
chunk_link(const RowLockPlace *place)
{
	dsa_pointer *link = bucket_at(place->part, bucket_number(place->hash, place->part->nbuckets));

	while (DsaPointerIsValid(*link))
	{
		RowLockChunk *chunk = dsa_get_address(rowlock_dsa, *link);

		if (chunk->key.storage == place->key.storage && chunk->key.number == place->key.number)
			break;
		link = &chunk->next;
	}
	return link;
}

RowLockChunk *
rowlock_find(const RowLockPlace *place)
{
	dsa_pointer p = *chunk_link(place);

	return DsaPointerIsValid(p) ? dsa_get_address(rowlock_dsa, p) : NULL;
}

/* Splits one bucket, so that a partition grows without ever holding its lock for long.  False: needs a segment. */
static bool
split_bucket(RowLockPartition *part)
{
	uint32 b = part->nbuckets;
	dsa_pointer *from, *to;

	if ((b & (b - 1)) == 0)
	{
		int s = segment_of(b);

		if (s >= ROWLOCK_SEGMENTS)
			return true;
		if (!DsaPointerIsValid(part->segment[s]))
		{
			if (spare_segment_buckets != b)
			{
				need_buckets = b;
				return false;
			}
			part->segment[s] = spare_segment;
			spare_segment = InvalidDsaPointer;
			spare_segment_buckets = 0;
		}
	}
	to = bucket_at(part, b);
	from = bucket_at(part, bucket_number(b, b));
	/* map all that will be looked at, before anything moves */
	for (dsa_pointer p = *from; DsaPointerIsValid(p);)
		p = ((RowLockChunk *) dsa_get_address(rowlock_dsa, p))->next;
	*to = InvalidDsaPointer;
	part->nbuckets++;
	while (DsaPointerIsValid(*from))
	{
		RowLockChunk *chunk = dsa_get_address(rowlock_dsa, *from);
		RowLockPlace place = rowlock_place(chunk->key);

		if (bucket_number(place.hash, part->nbuckets) == b)
		{
			dsa_pointer p = *from;

			*from = chunk->next;
			chunk->next = *to;
			*to = p;
		}
		else
			from = &chunk->next;
	}
	return true;
}

/* ------------------------------------------------------------------------------------ entries */

static void
entry_set(RowLockEntry *entry, uint16 offset)
{
	if (entry->kind == ROWLOCK_BITMAP)
		entry->u.bits[offset >> 6] |= UINT64CONST(1) << (offset & 63);
	else
		entry->u.rows[entry->count] = offset;
	entry->count++;
}

/* Adds the rows of `from` that are not there yet; there is room. */
static void
entry_merge(RowLockEntry *to, const RowLockEntry *from)
{
	to->base = Min(to->base, from->base);
	if (from->kind != ROWLOCK_BITMAP)
	{
		for (int i = 0; i < from->count; i++)
			if (!rowlock_entry_has(to, from->u.rows[i]))
				entry_set(to, from->u.rows[i]);
		return;
	}
	Assert(to->kind == ROWLOCK_BITMAP);
	to->count = 0;
	for (int i = 0; i < ROWLOCK_CHUNK_WORDS; i++)
	{
		to->u.bits[i] |= from->u.bits[i];
		to->count += pg_popcount64(to->u.bits[i]);
	}
}

/* The smallest kind that has room for n rows. */
static RowLockKind
kind_for(int n)
{
	int kind = ROWLOCK_SPARSE_4;

	while (capacity_of[kind] < n)
		kind++;
	return kind;
}

/* Replaces the entry that *link points to by one of a larger kind with the same rows; NULL: no memory put aside. */
static RowLockEntry *
entry_grow(dsa_pointer *link, RowLockKind kind, dsa_pointer *removed)
{
	dsa_pointer oldp = *link, newp = spare_entry[kind];
	RowLockEntry *old = rowlock_entry(oldp), *new;

	if (!DsaPointerIsValid(newp))
	{
		need_kind = kind;
		return NULL;
	}
	new = rowlock_entry(newp);
	spare_entry[kind] = InvalidDsaPointer;
	memset(new, 0, entry_size(kind));
	new->next = old->next;
	new->token = old->token;
	new->xact = old->xact;
	new->base = old->base;
	new->proc = old->proc;
	new->mode = old->mode;
	new->kind = kind;
	entry_merge(new, old);
	*link = newp;
	old->next = *removed;
	*removed = oldp;
	return new;
}

bool
rowlock_add(const RowLockPlace *place, const RowLockOwner *owner, LockTupleMode mode, uint64 base, uint16 offset,
			bool *first)
{
	RowLockPartition *part = place->part;
	dsa_pointer *link = chunk_link(place);
	dsa_pointer *entry_link = NULL;
	RowLockChunk *chunk;
	RowLockEntry *entry;

	*first = true;
	if (!DsaPointerIsValid(*link))
	{
		/* a new chunk; chains may grow a little where splitting must wait for memory */
		if (!DsaPointerIsValid(spare_chunk) || !DsaPointerIsValid(spare_entry[ROWLOCK_SPARSE_4]))
		{
			need_chunk = true;
			need_kind = ROWLOCK_SPARSE_4;
			return false;
		}
		if (part->nchunks >= part->nbuckets)
		{
			if (!split_bucket(part))
				return false;
			link = chunk_link(place);
		}
		chunk = dsa_get_address(rowlock_dsa, spare_chunk);
		(void) rowlock_entry(spare_entry[ROWLOCK_SPARSE_4]);
		chunk->next = InvalidDsaPointer;
		chunk->key = place->key;
		chunk->entries = InvalidDsaPointer;
		*link = spare_chunk;
		spare_chunk = InvalidDsaPointer;
		part->nchunks++;
	}
	else
	{
		chunk = dsa_get_address(rowlock_dsa, *link);
		for (link = &chunk->entries; (entry = rowlock_entry(*link)) != NULL; link = &entry->next)
		{
			if (entry->token != owner->token)
				continue;
			*first = false;
			if (entry->mode == mode)
			{
				if (rowlock_entry_has(entry, offset))
				{
					entry->base = Min(entry->base, base);
					return true;
				}
				/* there may be two where a join found no room; prefer the one with room */
				if (entry_link == NULL || entry->count < capacity_of[entry->kind])
					entry_link = link;
			}
		}
	}

	if (entry_link != NULL)
	{
		entry = rowlock_entry(*entry_link);
		if (entry->count >= capacity_of[entry->kind])
		{
			RowLockKind kind = entry->kind + 1;
			dsa_pointer removed = InvalidDsaPointer;

			entry = entry_grow(entry_link, kind, &removed);
			if (entry == NULL)
				return false;
			rowlock_entry(removed)->next = outgrown;
			outgrown = removed;
		}
	}
	else
	{
		dsa_pointer p = spare_entry[ROWLOCK_SPARSE_4];

		if (!DsaPointerIsValid(p))
		{
			need_kind = ROWLOCK_SPARSE_4;
			return false;
		}
		entry = rowlock_entry(p);
		spare_entry[ROWLOCK_SPARSE_4] = InvalidDsaPointer;
		memset(entry, 0, entry_size(ROWLOCK_SPARSE_4));
		entry->next = chunk->entries;
		entry->token = owner->token;
		entry->xact = owner->xact;
		entry->proc = owner->proc;
		entry->mode = mode;
		entry->kind = ROWLOCK_SPARSE_4;
		entry->base = base;
		chunk->entries = p;
	}
	entry_set(entry, offset);
	entry->base = Min(entry->base, base);
	return true;
}

void
rowlock_drop(RowLockKey key, uint64 token)
{
	RowLockPlace place = rowlock_place(key);
	dsa_pointer removed = InvalidDsaPointer, removed_chunk = InvalidDsaPointer;
	dsa_pointer *link, *entry_link;
	RowLockChunk *chunk;
	RowLockEntry *entry;

	LWLockAcquire(&place.part->lock, LW_EXCLUSIVE);
	link = chunk_link(&place);
	if (DsaPointerIsValid(*link))
	{
		chunk = dsa_get_address(rowlock_dsa, *link);
		entry_link = &chunk->entries;
		while ((entry = rowlock_entry(*entry_link)) != NULL)
		{
			if (entry->token == token)
			{
				dsa_pointer p = *entry_link;

				*entry_link = entry->next;
				entry->next = removed;
				removed = p;
			}
			else
				entry_link = &entry->next;
		}
		if (!DsaPointerIsValid(chunk->entries))
		{
			removed_chunk = *link;
			*link = chunk->next;
			place.part->nchunks--;
		}
	}
	LWLockRelease(&place.part->lock);
	free_removed(removed, removed_chunk);
}

/* The entry of a token in a mode, by the link to it. */
static dsa_pointer *
entry_of(RowLockChunk *chunk, uint64 token, int mode)
{
	dsa_pointer *link = &chunk->entries;
	RowLockEntry *entry;

	while ((entry = rowlock_entry(*link)) != NULL)
	{
		if (entry->token == token && entry->mode == mode)
			return link;
		link = &entry->next;
	}
	return NULL;
}

void
rowlock_prepare_join(RowLockKey key, uint64 from, uint64 to)
{
	RowLockPlace place = rowlock_place(key);
	dsa_pointer removed = InvalidDsaPointer;
	bool again;

	do
	{
		RowLockChunk *chunk;

		again = false;
		LWLockAcquire(&place.part->lock, LW_EXCLUSIVE);
		chunk = rowlock_find(&place);
		for (int mode = 0; chunk && mode < ROWLOCK_MODES && !again; mode++)
		{
			dsa_pointer *a = entry_of(chunk, from, mode), *b = a ? entry_of(chunk, to, mode) : NULL;
			RowLockKind kind;

			if (b == NULL || rowlock_entry(*a)->kind == ROWLOCK_BITMAP)
				continue; /* renamed; or takes in the other's rows */
			kind = kind_for(Min(rowlock_entry(*a)->count + rowlock_entry(*b)->count, ROWLOCK_CHUNK_ROWS));
			if (kind > rowlock_entry(*b)->kind && entry_grow(b, kind, &removed) == NULL)
				again = true;
		}
		LWLockRelease(&place.part->lock);
		free_removed(removed, InvalidDsaPointer);
		removed = InvalidDsaPointer;
		if (again)
			rowlock_reserve();
	} while (again);
}

bool
rowlock_join(RowLockKey key, uint64 from, uint64 to)
{
	RowLockPlace place = rowlock_place(key);
	dsa_pointer removed = InvalidDsaPointer;
	RowLockChunk *chunk;
	bool had = false;

	LWLockAcquire(&place.part->lock, LW_EXCLUSIVE);
	chunk = rowlock_find(&place);
	for (int mode = 0; chunk && mode < ROWLOCK_MODES; mode++)
	{
		dsa_pointer *a, *b = entry_of(chunk, to, mode);

		if (b)
			had = true;
		while ((a = entry_of(chunk, from, mode)) != NULL)
		{
			RowLockEntry *ea = rowlock_entry(*a), *eb = b ? rowlock_entry(*b) : NULL;
			dsa_pointer p;

			if (eb && ea->kind == ROWLOCK_BITMAP && eb->kind != ROWLOCK_BITMAP)
			{
				/* the larger one stays, under the new name */
				entry_merge(ea, eb);
				ea->token = to;
				p = *b;
				*b = eb->next;
				eb->next = removed;
				removed = p;
				b = entry_of(chunk, to, mode);
			}
			else if (eb && (eb->kind == ROWLOCK_BITMAP || eb->count + ea->count <= capacity_of[eb->kind]))
			{
				entry_merge(eb, ea);
				p = *a;
				*a = ea->next;
				ea->next = removed;
				removed = p;
				b = entry_of(chunk, to, mode);
			}
			else
			{
				ea->token = to;
				if (b == NULL)
					b = a;
			}
		}
	}
	LWLockRelease(&place.part->lock);
	free_removed(removed, InvalidDsaPointer);
	return had;
}

/* ------------------------------------------------------------------------------------ inspection */

int
rowlock_list(RowLockInfo **list)
{
	int capacity = 1024, n = 0;

	*list = palloc(capacity * sizeof(RowLockInfo));
	if (!rowlock_attach(false))
		return 0;
	for (int i = 0; i < ROWLOCK_PARTITIONS; i++)
	{
		RowLockPartition *part = &rowlock_shared->partition[i];
		int begin = n;
		bool again;

		do
		{
			again = false;
			n = begin;
			LWLockAcquire(&part->lock, LW_SHARED);
			for (uint32 b = 0; b < part->nbuckets; b++)
				for (dsa_pointer p = *bucket_at(part, b); DsaPointerIsValid(p);)
				{
					RowLockChunk *chunk = dsa_get_address(rowlock_dsa, p);
					RowLockEntry *entry = rowlock_entry(chunk->entries);

					for (; entry; entry = rowlock_entry(entry->next), n++)
						if (n < capacity)
						{
							RowLockInfo *info = &(*list)[n];

							info->key = chunk->key;
							info->owner.token = entry->token;
							info->owner.xact = entry->xact;
							info->owner.proc = entry->proc;
							info->mode = entry->mode;
							info->kind = entry->kind;
							info->base = entry->base;
							info->count = entry->count;
						}
					p = chunk->next;
				}
			LWLockRelease(&part->lock);
			if (n > capacity)
			{
				capacity = n + 1024;
				*list = repalloc_huge(*list, (Size) capacity * sizeof(RowLockInfo));
				again = true;
			}
		} while (again);
	}
	return n;
}
