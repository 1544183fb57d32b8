/*
 * frames.c: where room for pages comes from: slabs, their classes, and a clock for each class.
 *
 * All of it is under one lock, which only misses take, and for as long as it takes to find a frame.
 */
#include "postgres.h"

#include "storage/shmem.h"

#include "cache/cache_int.h"

#define METADATA_SHARE 8 /* one in so many slabs */
#define RING_EXCEPT 8 /* one in so many of a scan's pages comes from the clock */
#define SCAN_AGES 8 /* one in so many times that a scan comes across a page which others use counts against it */
#define BALANCE_EVERY 256 /* evictions of a class */
#define STEAL_TRIES 8

/* Multiples of a cache line.  The largest: a full page, one row of 8 kB that ended it, and the tail. */
const uint32 frame_sizes[SIZES] = {8192, 16384, 32768, 69888};

static CacheFrames *frames;
static CacheSlab *slabs;
static CacheFrame *all; /* SLAB_FRAMES for each slab, however many it is divided into */
static char *memory;

Size
frames_shmem_size(uint32 nslabs)
{
	Size size = MAXALIGN(sizeof(CacheFrames));

	size = add_size(size, MAXALIGN(mul_size(nslabs, sizeof(CacheSlab))));
	size = add_size(size, mul_size(mul_size(nslabs, SLAB_FRAMES), sizeof(CacheFrame)));
	return add_size(size, add_size(mul_size(nslabs, SLAB_SIZE), PG_CACHE_LINE_SIZE));
}

void
frames_shmem_init(uint32 nslabs, int tranche)
{
	bool found;
	char *p = ShmemInitStruct("s3am cache frames", frames_shmem_size(nslabs), &found);

	frames = (CacheFrames *) p;
	p += MAXALIGN(sizeof(CacheFrames));
	slabs = (CacheSlab *) p;
	p += MAXALIGN(nslabs * sizeof(CacheSlab));
	all = (CacheFrame *) p;
	p += (Size) nslabs * SLAB_FRAMES * sizeof(CacheFrame);
	memory = (char *) CACHELINEALIGN(p);
	if (found)
		return;
	memset(frames, 0, sizeof(*frames));
	LWLockInitialize(&frames->lock, tranche);
	frames->nslabs = nslabs;
	frames->metadata_share = Max(nslabs / METADATA_SHARE, 1);
	frames->free_slab = nslabs > 0 ? 0 : NO_SLAB;
	for (uint32 i = 0; i < nslabs; i++)
	{
		slabs[i].class = -1;
		slabs[i].next = i + 1 < nslabs ? i + 1 : NO_SLAB;
	}
	for (uint32 i = 0; i < nslabs * SLAB_FRAMES; i++)
	{
		memset(&all[i], 0, sizeof(CacheFrame));
		pg_atomic_init_u64(&all[i].state, 0);
		pg_atomic_init_u32(&all[i].generation, 0);
	}
	for (int i = 0; i < CLASSES; i++)
	{
		CacheClass *class = &frames->classes[i];

		class->hand = NO_SLAB;
		class->free = NO_FRAME;
		pg_atomic_init_u64(&class->hits, 0);
		pg_atomic_init_u64(&class->misses, 0);
		pg_atomic_init_u64(&class->evictions, 0);
	}
}

CacheFrame *
frame_by_number(uint32 n)
{
	return &all[n];
}

uint32
frame_number(const CacheFrame *frame)
{
	return frame - all;
}

static inline uint32
size_of_class(int class)
{
	return frame_sizes[class % SIZES];
}

static inline uint32
frames_of_slab(int class)
{
	return SLAB_SIZE / size_of_class(class);
}

static inline bool
is_metadata(int class)
{
	return class / SIZES == CACHE_METADATA;
}

char *
frame_data(uint32 n)
{
	uint32 slab = n / SLAB_FRAMES;

	return memory + (Size) slab * SLAB_SIZE + (Size) (n % SLAB_FRAMES) * size_of_class(slabs[slab].class);
}

int
frame_class_of(const CacheFrame *frame)
{
	return slabs[frame_number(frame) / SLAB_FRAMES].class;
}

CacheClass *
frame_class(int class)
{
	return &frames->classes[class];
}

int
frame_class_for(CacheKind kind, uint32 len)
{
	for (int i = 0; i < SIZES; i++)
		if (len <= frame_sizes[i] - PAGE_TAIL)
			return kind * SIZES + i;
	return -1;
}

/* ------------------------------------------------------------------------------------ free frames */

static void
free_push(int class, CacheFrame *frame)
{
	CacheClass *c = &frames->classes[class];
	uint32 n = frame_number(frame);

	frame->free = true;
	frame->prev = NO_FRAME;
	frame->next = c->free;
	if (c->free != NO_FRAME)
		all[c->free].prev = n;
	c->free = n;
}

static void
free_unlink(int class, CacheFrame *frame)
{
	if (frame->prev != NO_FRAME)
		all[frame->prev].next = frame->next;
	else
		frames->classes[class].free = frame->next;
	if (frame->next != NO_FRAME)
		all[frame->next].prev = frame->prev;
	frame->free = false;
}

/* Takes a page's frame away from it, if nobody has pinned it and it was not used too often. */
static bool
evict(CacheFrame *frame, uint32 uses)
{
	uint64 state = pg_atomic_read_u64(&frame->state);

	if ((state & STATE_VALID) == 0 || (state & STATE_PINS) != 0 || STATE_USES(state) > uses ||
		!pg_atomic_compare_exchange_u64(&frame->state, &state, 0))
		return false;
	cache_unlink(frame);
	pg_atomic_fetch_add_u32(&frame->generation, 1);
	pg_atomic_fetch_add_u64(&frames->classes[frame_class_of(frame)].evictions, 1);
	return true;
}

/* ------------------------------------------------------------------------------------ slabs */

static void
slab_give(uint32 n, int class)
{
	CacheSlab *slab = &slabs[n];
	CacheClass *c = &frames->classes[class];

	slab->class = class;
	if (c->hand == NO_SLAB)
	{
		slab->next = slab->prev = c->hand = n;
		c->hand_frame = 0;
	}
	else
	{
		/* behind the hand: it comes there last */
		slab->next = c->hand;
		slab->prev = slabs[c->hand].prev;
		slabs[slab->prev].next = slabs[slab->next].prev = n;
	}
	c->nslabs++;
	frames->metadata_slabs += is_metadata(class);
	for (uint32 i = frames_of_slab(class); i-- > 0;)
		free_push(class, &all[n * SLAB_FRAMES + i]);
}

static void
slab_take_away(uint32 n)
{
	CacheSlab *slab = &slabs[n];
	CacheClass *c = &frames->classes[slab->class];

	if (slab->next == n)
		c->hand = NO_SLAB;
	else
	{
		slabs[slab->prev].next = slab->next;
		slabs[slab->next].prev = slab->prev;
		if (c->hand == n)
		{
			c->hand = slab->next;
			c->hand_frame = 0;
		}
	}
	c->nslabs--;
	frames->metadata_slabs -= is_metadata(slab->class);
	slab->class = -1;
}

/* Empties a slab.  False: somebody is there; what was evicted until then stays free. */
static bool
slab_empty(uint32 n)
{
	int class = slabs[n].class;
	CacheFrame *first = &all[n * SLAB_FRAMES];
	uint32 count = frames_of_slab(class);

	for (uint32 i = 0; i < count; i++)
		if (!first[i].free)
		{
			uint64 state = pg_atomic_read_u64(&first[i].state);

			if ((state & STATE_VALID) == 0 || (state & STATE_PINS) != 0)
				return false;
		}
	for (uint32 i = 0; i < count; i++)
		if (!first[i].free)
		{
			if (!evict(&first[i], PG_UINT16_MAX))
				return false;
			free_push(class, &first[i]);
		}
	for (uint32 i = 0; i < count; i++)
		free_unlink(class, &first[i]);
	return true;
}

/* May `class` have a slab of `from`?  Rows never take one from metadata. */
static bool
may_take(int class, int from)
{
	return from != class && frames->classes[from].nslabs > 0 &&
		   (is_metadata(class) ? is_metadata(from) || frames->metadata_slabs < frames->metadata_share
							   : !is_metadata(from));
}

/* Moves a slab to the class from that which pushes out the fewest pages for its slabs.  at_least_half: only if that is less than half. */
static bool
slab_move(int class, bool at_least_half)
{
	CacheClass *c = &frames->classes[class];
	int from = -1;

	for (int i = 0; i < CLASSES; i++)
	{
		CacheClass *other = &frames->classes[i];

		if (may_take(class, i) && (from < 0 || other->pressure * frames->classes[from].nslabs <
												   frames->classes[from].pressure * other->nslabs))
			from = i;
	}
	if (from < 0 ||
		(at_least_half && 2 * frames->classes[from].pressure * c->nslabs >= c->pressure * frames->classes[from].nslabs))
		return false;
	for (uint32 i = 0, n = frames->classes[from].hand; i < STEAL_TRIES; i++, n = slabs[n].next)
		if (slab_empty(n))
		{
			slab_take_away(n);
			slab_give(n, class);
			return true;
		}
	return false;
}

static bool
slab_new(int class)
{
	uint32 n = frames->free_slab;

	if (n == NO_SLAB || (is_metadata(class) && frames->metadata_slabs >= frames->metadata_share))
		return false;
	frames->free_slab = slabs[n].next;
	slab_give(n, class);
	return true;
}

/* ------------------------------------------------------------------------------------ taking one */

static CacheFrame *
take_free(int class)
{
	CacheClass *c = &frames->classes[class];
	CacheFrame *frame;

	if (c->free == NO_FRAME)
		return NULL;
	frame = &all[c->free];
	free_unlink(class, frame);
	return frame;
}

/* The oldest page of a scan's own, if only the scan has used it. */
static CacheFrame *
take_from_ring(int class, CacheRing *ring)
{
	CacheFrame *frame = ring->frames[ring->next].frame;

	if (frame == NULL || pg_atomic_read_u32(&frame->generation) != ring->frames[ring->next].generation ||
		frame_class_of(frame) != class || !evict(frame, 0))
		return NULL;
	return frame;
}

static CacheFrame *
take_by_clock(int class, bool scan)
{
	CacheClass *c = &frames->classes[class];
	uint64 steps = (uint64) c->nslabs * frames_of_slab(class) * (USES_MAX + 1) * (scan ? SCAN_AGES : 1);

	if (c->hand == NO_SLAB)
		return NULL;
	for (; steps > 0; steps--)
	{
		CacheFrame *frame;
		uint64 state;

		if (c->hand_frame >= frames_of_slab(class))
		{
			c->hand = slabs[c->hand].next;
			c->hand_frame = 0;
		}
		frame = &all[c->hand * SLAB_FRAMES + c->hand_frame++];
		if (evict(frame, 0))
		{
			c->pressure++;
			return frame;
		}
		state = pg_atomic_read_u64(&frame->state);
		/* what is in use just now stays as it is */
		if (scan && STATE_USES(state) > 1 && ++frames->scan_passes % SCAN_AGES != 0)
			continue;
		if ((state & STATE_VALID) && (state & STATE_PINS) == 0 && STATE_USES(state) > 0)
			(void) pg_atomic_compare_exchange_u64(&frame->state, &state, state - STATE_USE);
	}
	return NULL;
}

CacheFrame *
frame_take(int class, CacheRing *ring)
{
	CacheClass *c = &frames->classes[class];
	CacheFrame *frame;
	bool wants_share = is_metadata(class) && frames->metadata_slabs < frames->metadata_share;

	LWLockAcquire(&frames->lock, LW_EXCLUSIVE);
	frame = take_free(class);
	if (frame == NULL && (slab_new(class) || ((c->nslabs == 0 || wants_share) && slab_move(class, false))))
		frame = take_free(class);
	if (frame == NULL && ring && ++ring->loads % RING_EXCEPT != 0)
		frame = take_from_ring(class, ring);
	if (frame == NULL && (frame = take_by_clock(class, ring != NULL)) != NULL && c->pressure % BALANCE_EVERY == 0)
	{
		if (slab_move(class, true))
			for (int i = 0; i < CLASSES; i++)
				frames->classes[i].pressure /= 2;
	}
	LWLockRelease(&frames->lock);
	return frame;
}

void
frame_give_back(CacheFrame *frame)
{
	/* no ring may take it for its own later */
	pg_atomic_fetch_add_u32(&frame->generation, 1);
	LWLockAcquire(&frames->lock, LW_EXCLUSIVE);
	free_push(frame_class_of(frame), frame);
	LWLockRelease(&frames->lock);
}

/* ------------------------------------------------------------------------------------ statistics */

bool
cache_stats(int i, CacheStats *stats)
{
	CacheClass *c;

	if (i >= CLASSES || frames == NULL)
		return false;
	c = &frames->classes[i];
	memset(stats, 0, sizeof(*stats));
	stats->kind = i / SIZES;
	stats->frame_size = size_of_class(i);
	stats->hits = pg_atomic_read_u64(&c->hits);
	stats->misses = pg_atomic_read_u64(&c->misses);
	stats->evictions = pg_atomic_read_u64(&c->evictions);
	LWLockAcquire(&frames->lock, LW_SHARED);
	stats->room = (uint64) c->nslabs * SLAB_SIZE;
	for (uint32 s = 0; s < frames->nslabs; s++)
		for (uint32 f = 0; slabs[s].class == i && f < frames_of_slab(i); f++)
		{
			CacheFrame *frame = &all[s * SLAB_FRAMES + f];
			uint64 state = pg_atomic_read_u64(&frame->state);

			if ((state & STATE_VALID) == 0)
				continue;
			stats->pages++;
			stats->pinned += (state & STATE_PINS) != 0;
			stats->bytes += frame->len;
		}
	LWLockRelease(&frames->lock);
	return true;
}
