/*
 * bucket.h: the objects of the simulated store, as the store sees them; what everybody may ask of them is in sim.h.
 */
#ifndef BUCKET_H
#define BUCKET_H

#include "sim.h"

typedef struct Object
{
	char key[96];
	uint8_t *data;
	size_t len;
	u64 etag;
	u64 modified_ms;
	u64 pinned_at; /* the boundary when its present life began */
	struct Object *next;
} Object;

extern u64 bucket_etags; /* the newest */

extern Object **bucket_find(const char *key); /* where it is, or would be */
extern void bucket_remove(const char *key);
extern bool bucket_is_away(void);
extern void bucket_reset(void);

#endif
