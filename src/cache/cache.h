/*
 * cache.h: decompressed pages in shared memory, read in place.
 *
 * A reader calls cache_find().  It gets the page, pinned; or the task to load it, which it ends by cache_room() and cache_publish(), or by
 * cache_abandon(); or neither, and uses memory of its own.  README.md has the invariants.
 */
#ifndef S3AM_CACHE_H
#define S3AM_CACHE_H

#include "postgres.h"

#include "lib/ilist.h"
#include "utils/resowner.h"

typedef enum CacheKind
{
	CACHE_ROWS,
	CACHE_METADATA /* what is needed to find rows: rows cannot push it out */
} CacheKind;

#define CACHE_KINDS 2

typedef struct CacheKey
{
	uint32 owner; /* cache_new_owner(), of the node */
	uint16 kind;
	uint16 unused; /* 0: keys are compared as bytes */
	uint64 epoch, number, offset;
} CacheKey;

struct CacheFrame;

/* A page in the cache.  `info` is the caller's, stored with it. */
typedef struct CachePin
{
	struct CacheFrame *frame; /* NULL: none */
	const char *data;
	uint32 len;
	uint32 info;
	dlist_node node; /* among those of this process */
} CachePin;

/* The last pages that a sequential scan brought, which it takes again when there is no room.  Zero to begin with. */
#define CACHE_RING 32

typedef struct CacheRing
{
	uint32 next, loads;
	struct
	{
		struct CacheFrame *frame;
		uint32 generation; /* of its content */
	} frames[CACHE_RING];
} CacheRing;

typedef enum CacheAnswer
{
	CACHE_FOUND, /* pinned */
	CACHE_LOAD, /* this process is the one that loads it: cache_publish() or cache_abandon() must follow */
	CACHE_PRIVATE /* use memory of your own */
} CacheAnswer;

extern int cache_size_kb; /* s3am.cache_size */

extern Size cache_shmem_size(void);
extern void cache_shmem_init(void);
extern void cache_init(void); /* from _PG_init: callbacks */
extern uint32 cache_new_owner(void);

/*
 * Looks the page up.  Waits while another process loads it.  ring: of a sequential scan, else NULL.  The pin must stay where it is until
 * it is released; it is, at the end of the transaction at the latest.
 */
extern CacheAnswer cache_find(const CacheKey *key, const CacheRing *ring, CachePin *pin);
/* Is it there?  Neither waits nor counts.  If it is, then it is kept for a while, as if used once: the caller is about to read it. */
extern bool cache_expect(const CacheKey *key);
/*
 * Room for the page that this process loads: len bytes, which it fills.  NULL: none is to be had, and the page remains the caller's
 * own affair; cache_abandon() is then still due.
 */
extern char *cache_room(const CacheKey *key, uint32 len, CacheRing *ring, CachePin *pin);
/* It is filled: others may have it; it is pinned. */
extern void cache_publish(const CacheKey *key, uint32 info, CachePin *pin);
/* It is not: gives the room back, if there is one, and lets others try.  No harm if this process loads nothing. */
extern void cache_abandon(void);
extern void cache_release(CachePin *pin);

/* For s3am.cache, of one class of pages; false: there is no such class. */
typedef struct CacheStats
{
	CacheKind kind;
	uint32 frame_size;
	uint64 pages, pinned, bytes, /* of the pages */
		room, /* of the frames */
		hits, misses, evictions;
} CacheStats;

extern bool cache_stats(int i, CacheStats *stats);

#endif
