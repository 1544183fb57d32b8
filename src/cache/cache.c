/*
 * cache.c: finding pages, pinning them, and seeing to it that one process loads each.
 */
#include "postgres.h"

#include <xxhash.h>

#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "cache/cache_int.h"

#define PARTITIONS 16
#define BUCKET_SLOTS 8
#define NO_PROCESS (-1)
#define COUNT_EVERY 64

int cache_size_kb;

/* What a process loads, at most one page. */
typedef struct CacheLoad
{
	CacheKey key;
	int next; /* in its partition, under its lock */
	bool active; /* written by the process itself */
	ConditionVariable ended;
} CacheLoad;

typedef struct CachePartition
{
	LWLockPadded lock;
	int first; /* process that loads a page of this part */
} CachePartition;

typedef struct CacheShared
{
	pg_atomic_uint32 owners;
	uint64 nbuckets; /* a power of two; 0: no cache */
	CachePartition partitions[PARTITIONS];
} CacheShared;

static CacheShared *shared;
static pg_atomic_uint64 *table; /* nbuckets of BUCKET_SLOTS */
static CacheLoad *loads; /* by pgprocno */

/* This process's. */
static dlist_head pins = DLIST_STATIC_INIT(pins);
static CacheFrame *room; /* of the page that it loads */
static bool room_for_scan;
static uint32 new_hits[CLASSES];

static uint32
slab_count(void)
{
	return cache_size_kb / (SLAB_SIZE / 1024);
}

/* Twice as many slots as there can be pages, were all of them small. */
static uint64
bucket_count(void)
{
	uint64 n = 1;

	if (slab_count() == 0)
		return 0;
	while (n * BUCKET_SLOTS < (uint64) slab_count() * SLAB_FRAMES * 2)
		n *= 2;
	return n;
}

static int
process_count(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS + max_prepared_xacts;
}

static Size
table_size(void)
{
	Size size = add_size(MAXALIGN(sizeof(CacheShared)), mul_size(process_count(), sizeof(CacheLoad)));

	return add_size(add_size(size, PG_CACHE_LINE_SIZE), mul_size(bucket_count(), BUCKET_SLOTS * sizeof(uint64)));
}

Size
cache_shmem_size(void)
{
	return add_size(table_size(), frames_shmem_size(slab_count()));
}

/* ------------------------------------------------------------------------------------ ends of transactions */

static void
flush_counts(int class)
{
	if (new_hits[class] > 0)
		pg_atomic_fetch_add_u64(&frame_class(class)->hits, new_hits[class]);
	new_hits[class] = 0;
}

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PARALLEL_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		return;
	cache_abandon();
	while (!dlist_is_empty(&pins))
		cache_release(dlist_container(CachePin, node, dlist_head_node(&pins)));
	for (int i = 0; shared->nbuckets > 0 && i < CLASSES; i++)
		flush_counts(i);
}

void
cache_shmem_init(void)
{
	bool found;
	char *p = ShmemInitStruct("s3am cache", table_size(), &found);
	int tranche;

	shared = (CacheShared *) p;
	p += MAXALIGN(sizeof(CacheShared));
	loads = (CacheLoad *) p;
	p += process_count() * sizeof(CacheLoad);
	table = (pg_atomic_uint64 *) CACHELINEALIGN(p);
	tranche = LWLockNewTrancheId();
	LWLockRegisterTranche(tranche, "s3am cache");
	if (!found)
	{
		pg_atomic_init_u32(&shared->owners, 0);
		shared->nbuckets = bucket_count();
		for (int i = 0; i < PARTITIONS; i++)
		{
			LWLockInitialize(&shared->partitions[i].lock.lock, tranche);
			shared->partitions[i].first = NO_PROCESS;
		}
		for (int i = 0; i < process_count(); i++)
		{
			memset(&loads[i], 0, sizeof(CacheLoad));
			ConditionVariableInit(&loads[i].ended);
		}
		for (uint64 i = 0; i < shared->nbuckets * BUCKET_SLOTS; i++)
			pg_atomic_init_u64(&table[i], 0);
	}
	frames_shmem_init(slab_count(), tranche);
}

void
cache_init(void)
{
	RegisterXactCallback(transaction_ended, NULL);
}

uint32
cache_new_owner(void)
{
	return pg_atomic_add_fetch_u32(&shared->owners, 1);
}

/* ------------------------------------------------------------------------------------ the table */

static inline bool
same_key(const CacheKey *a, const CacheKey *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* A key's two buckets. */
static inline void
buckets_of(uint64 hash, uint64 buckets[2])
{
	buckets[0] = hash & (shared->nbuckets - 1);
	buckets[1] = ((hash >> 32) ^ (hash << 7)) & (shared->nbuckets - 1);
}

static inline uint64
slot_value(uint64 hash, uint32 frame)
{
	/* never 0 */
	return (hash >> 16 & UINT64CONST(0xFFFFFFFF)) << 32 | (frame + UINT64CONST(1));
}

static inline CachePartition *
partition_of(uint64 hash)
{
	return &shared->partitions[hash >> 60];
}

StaticAssertDecl(PARTITIONS == 16, "four bits of the hash");

static void
unpin(CacheFrame *frame)
{
	(void) pg_atomic_fetch_sub_u64(&frame->state, STATE_PIN);
}

/* The page's frame, pinned; NULL: it is not there. */
static CacheFrame *
look_up(const CacheKey *key, uint64 hash)
{
	uint64 buckets[2];

	buckets_of(hash, buckets);
	for (int b = 0; b < 2; b++)
		for (int i = 0; i < BUCKET_SLOTS; i++)
		{
			uint64 value = pg_atomic_read_u64(&table[buckets[b] * BUCKET_SLOTS + i]);
			CacheFrame *frame;

			if (value == 0 || value != slot_value(hash, (uint32) value - 1))
				continue;
			frame = frame_by_number((uint32) value - 1);
			/* from here on a valid frame's content stays */
			if ((pg_atomic_fetch_add_u64(&frame->state, STATE_PIN) & STATE_VALID) && same_key(&frame->key, key))
				return frame;
			unpin(frame);
		}
	return NULL;
}

void
cache_unlink(CacheFrame *frame)
{
	if (frame->slot > 0)
		pg_atomic_write_u64(&table[frame->slot - 1], 0);
	frame->slot = 0;
}

/* A slot that leads to the frame; without one nobody finds it, and it goes as soon as it is let go of. */
static void
link_frame(CacheFrame *frame, uint64 hash)
{
	uint64 buckets[2];

	frame->slot = 0;
	buckets_of(hash, buckets);
	for (int b = 0; b < 2; b++)
		for (int i = 0; i < BUCKET_SLOTS; i++)
		{
			uint64 n = buckets[b] * BUCKET_SLOTS + i;
			uint64 expected = 0;

			if (pg_atomic_read_u64(&table[n]) == 0 &&
				pg_atomic_compare_exchange_u64(&table[n], &expected, slot_value(hash, frame_number(frame))))
			{
				frame->slot = n + 1;
				return;
			}
		}
}

/* ------------------------------------------------------------------------------------ finding */

static void
fill_pin(CachePin *pin, CacheFrame *frame)
{
	pin->frame = frame;
	pin->data = frame_data(frame_number(frame));
	pin->len = frame->len;
	pin->info = frame->info;
	dlist_push_head(&pins, &pin->node);
}

static void
found(CacheFrame *frame, const CacheRing *ring, CachePin *pin)
{
	uint64 uses = STATE_USES(pg_atomic_read_u64(&frame->state));
	int class = frame_class_of(frame);

	if (uses < (ring ? 1 : USES_MAX))
		(void) pg_atomic_fetch_add_u64(&frame->state, STATE_USE);
	fill_pin(pin, frame);
	if (++new_hits[class] >= COUNT_EVERY)
		flush_counts(class);
}

static int *
load_link(CachePartition *partition, const CacheKey *key)
{
	int *link = &partition->first;

	while (*link != NO_PROCESS && !same_key(&loads[*link].key, key))
		link = &loads[*link].next;
	return link;
}

CacheAnswer
cache_find(const CacheKey *key, const CacheRing *ring, CachePin *pin)
{
	CacheLoad *mine = &loads[MyProc->pgprocno];
	CacheAnswer answer = CACHE_PRIVATE;
	bool slept = false;
	uint64 hash;

	pin->frame = NULL;
	if (shared->nbuckets == 0)
		return CACHE_PRIVATE;
	hash = XXH3_64bits(key, sizeof(*key));
	while (answer == CACHE_PRIVATE)
	{
		CachePartition *partition = partition_of(hash);
		CacheFrame *frame = look_up(key, hash);
		int loader;

		if (frame == NULL)
		{
			/* one that calls itself while it loads, in an input function perhaps, must not wait for anybody */
			if (mine->active)
				break;
			LWLockAcquire(&partition->lock.lock, LW_EXCLUSIVE);
			frame = look_up(key, hash);
			loader = *load_link(partition, key);
			if (frame == NULL && loader == NO_PROCESS)
			{
				mine->key = *key;
				mine->next = partition->first;
				mine->active = true;
				partition->first = MyProc->pgprocno;
				answer = CACHE_LOAD;
			}
			LWLockRelease(&partition->lock.lock);
			if (frame == NULL && answer == CACHE_PRIVATE)
			{
				/* the first time it only makes ready to sleep */
				ConditionVariableSleep(&loads[loader].ended, PG_WAIT_EXTENSION);
				slept = true;
				continue;
			}
		}
		if (frame)
		{
			found(frame, ring, pin);
			answer = CACHE_FOUND;
		}
	}
	if (slept)
		ConditionVariableCancelSleep();
	return answer;
}

bool
cache_expect(const CacheKey *key)
{
	CacheFrame *frame = shared->nbuckets > 0 ? look_up(key, XXH3_64bits(key, sizeof(*key))) : NULL;

	if (frame == NULL)
		return false;
	if (STATE_USES(pg_atomic_read_u64(&frame->state)) == 0)
		(void) pg_atomic_fetch_add_u64(&frame->state, STATE_USE);
	unpin(frame);
	return true;
}

/* ------------------------------------------------------------------------------------ loading */

char *
cache_room(const CacheKey *key, uint32 len, CacheRing *ring, CachePin *pin)
{
	int class = frame_class_for(key->kind, len);

	Assert(loads[MyProc->pgprocno].active && room == NULL);
	pg_atomic_fetch_add_u64(&frame_class(class < 0 ? key->kind * SIZES + SIZES - 1 : class)->misses, 1);
	room = class < 0 ? NULL : frame_take(class, ring);
	if (room == NULL)
		return NULL;
	if (ring)
	{
		ring->frames[ring->next].frame = room;
		ring->frames[ring->next].generation = pg_atomic_read_u32(&room->generation);
		ring->next = (ring->next + 1) % CACHE_RING;
	}
	room->len = len;
	room_for_scan = ring != NULL;
	pin->frame = NULL;
	return frame_data(frame_number(room));
}

/* This process loads nothing any more; those who wait look again. */
static void
load_ended(void)
{
	CacheLoad *mine = &loads[MyProc->pgprocno];
	CachePartition *partition = partition_of(XXH3_64bits(&mine->key, sizeof(mine->key)));
	int *link;

	LWLockAcquire(&partition->lock.lock, LW_EXCLUSIVE);
	link = load_link(partition, &mine->key);
	Assert(*link == MyProc->pgprocno);
	*link = mine->next;
	mine->active = false;
	LWLockRelease(&partition->lock.lock);
	ConditionVariableBroadcast(&mine->ended);
}

void
cache_publish(const CacheKey *key, uint32 info, CachePin *pin)
{
	CacheFrame *frame = room;
	uint64 hash = XXH3_64bits(key, sizeof(*key));

	frame->key = *key;
	frame->info = info;
	memset(frame_data(frame_number(frame)) + frame->len, 0, PAGE_TAIL);
	link_frame(frame, hash);
	room = NULL;
	fill_pin(pin, frame);
	/* a barrier: whoever sees it valid sees all of the above */
	(void) pg_atomic_fetch_add_u64(&frame->state, STATE_VALID + STATE_PIN + (room_for_scan ? 0 : STATE_USE));
	load_ended();
}

void
cache_abandon(void)
{
	if (room)
		frame_give_back(room);
	room = NULL;
	if (MyProc && loads[MyProc->pgprocno].active)
		load_ended();
}

void
cache_release(CachePin *pin)
{
	if (pin->frame == NULL)
		return;
	dlist_delete(&pin->node);
	unpin(pin->frame);
	pin->frame = NULL;
}
