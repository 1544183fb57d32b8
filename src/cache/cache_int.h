/*
 * cache_int.h: between cache.c and frames.c.
 */
#ifndef S3AM_CACHE_INT_H
#define S3AM_CACHE_INT_H

#include "cache/cache.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#define SLAB_SIZE (1024 * 1024)
#define SIZES 4
#define CLASSES (CACHE_KINDS * SIZES)
#define SLAB_FRAMES 128 /* most that a slab is divided into */
#define NO_FRAME PG_UINT32_MAX
#define NO_SLAB PG_UINT32_MAX
#define PAGE_TAIL 8 /* zeros behind a page, which readers may touch */

/* A frame's state: how many pins, how often used, and whether it holds a page.  Changed by adding, subtracting, and compare-and-swap. */
#define STATE_PIN UINT64CONST(1)
#define STATE_PINS UINT64CONST(0xFFFFFFFF)
#define STATE_USE (UINT64CONST(1) << 32)
#define STATE_USES(state) (((state) >> 32) & 0xFFFF)
#define STATE_VALID (UINT64CONST(1) << 48)
#define USES_MAX 3

typedef struct CacheFrame
{
	pg_atomic_uint64 state;
	CacheKey key;
	uint32 len, info;
	uint32 slot; /* of the table that leads here, + 1; 0 none */
	pg_atomic_uint32 generation; /* of the content: rings tell by it whether a page is still theirs */
	uint32 next, prev; /* while it is free: among those of its class */
	bool free; /* under frames_lock, as the two before it */
} CacheFrame;

typedef struct CacheSlab
{
	int class; /* -1: free */
	uint32 next, prev; /* in a circle of those of its class; of free ones `next` alone */
} CacheSlab;

typedef struct CacheClass
{
	uint32 nslabs;
	uint32 hand, /* of the clock: a slab */
		hand_frame;
	uint32 free; /* frame */
	uint64 pressure; /* evictions, halved now and then */
	pg_atomic_uint64 hits, misses, evictions;
} CacheClass;

/* Where room comes from; all under `lock`. */
typedef struct CacheFrames
{
	LWLock lock;
	uint32 nslabs;
	uint32 free_slab;
	uint32 metadata_slabs, /* that metadata have */
		metadata_share, scan_passes;
	CacheClass classes[CLASSES];
} CacheFrames;

extern const uint32 frame_sizes[SIZES];

extern Size frames_shmem_size(uint32 nslabs);
extern void frames_shmem_init(uint32 nslabs, int tranche);
extern CacheFrame *frame_by_number(uint32 n);
extern uint32 frame_number(const CacheFrame *frame);
extern char *frame_data(uint32 n);
extern int frame_class_of(const CacheFrame *frame); /* of one that is in use */
extern CacheClass *frame_class(int class);
/* -1: no class has frames of this size */
extern int frame_class_for(CacheKind kind, uint32 len);

/* A frame that nobody can pin validly; NULL: there is none. */
extern CacheFrame *frame_take(int class, CacheRing *ring);
extern void frame_give_back(CacheFrame *frame);

/* cache.c: nothing leads to the frame any more. */
extern void cache_unlink(CacheFrame *frame);

#endif
