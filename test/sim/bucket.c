/*
 * bucket.c: the objects of the simulated store, their dates, and when it answers nobody.
 *
 * It is atomic and consistent, as the conformance race demands: what was written is read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bucket.h"
#include "sim.h"

#define NBUCKETS 1024
static Object *buckets[NBUCKETS];
u64 bucket_etags;

Object **
bucket_find(const char *key)
{
	u64 h = 1469598103934665603ULL;
	Object **link;

	for (const char *p = key; *p; p++)
		h = (h ^ (uint8_t) *p) * 1099511628211ULL;
	for (link = &buckets[(h >> 20) % NBUCKETS]; *link && strcmp((*link)->key, key) != 0; link = &(*link)->next)
		;
	return link;
}

u64
store_date_ms(void)
{
	return 1700000000000ULL + now_us / 1000;
}

const uint8_t *
bucket_object(const char *key, size_t *len)
{
	Object *o = *bucket_find(key);

	if (o == NULL)
		return NULL;
	*len = o->len;
	return o->data;
}

void
bucket_each(const char *prefix, void (*each)(void *arg, const char *key), void *arg)
{
	for (int i = 0; i < NBUCKETS; i++)
		for (Object *o = buckets[i]; o; o = o->next)
			if (strncmp(o->key, prefix, strlen(prefix)) == 0)
				each(arg, o->key);
}

/* When it answered nothing, by its own date. */
#define NAWAYS 64
typedef struct Away
{
	u64 from, until;
} Away;

static Away away[NAWAYS];
static int naways;
static u64 away_until;

/* Has an owner of this who could be heard renewed it?  After the store was away he has half a lease to do it. */
static bool
fresh(const Object *o)
{
	u64 now = store_date_ms(), age = now - o->modified_ms, silent = 0;

	for (int i = 0; i < NAWAYS && i < naways; i++)
	{
		u64 from = away[i].from > o->modified_ms ? away[i].from : o->modified_ms,
			until = away[i].until < now ? away[i].until : now;

		if (from < until)
			silent += until - from;
	}
	return silent ? age - silent <= (u64) sc.lease_ms / 2 : age <= PIN_MS / 2;
}

void
bucket_put(const char *key, const uint8_t *data, size_t len)
{
	Object **link = bucket_find(key);
	Object *o = *link;

	if (o == NULL)
	{
		o = calloc(1, sizeof(*o));
		snprintf(o->key, sizeof(o->key), "%s", key);
		o->pinned_at = objects_boundary_now();
		*link = o;
	}
	else if (!fresh(o))
		o->pinned_at = objects_boundary_now(); /* a pin that had lapsed begins anew */
	free(o->data);
	o->data = malloc(len ? len : 1);
	memcpy(o->data, data, len);
	o->len = len;
	o->etag = ++bucket_etags;
	o->modified_ms = store_date_ms();
	if (strcmp(key, "gc/boundary") == 0)
		objects_boundary(data, len);
}

bool
bucket_fresh(const char *key)
{
	Object *o = *bucket_find(key);

	return o == NULL || fresh(o);
}

bool
bucket_is_away(void)
{
	return now_us < away_until;
}

void
bucket_go_away(void)
{
	Away *a = &away[naways % NAWAYS];

	if (naways > 0 && bucket_is_away())
		return;
	away_until = now_us + (PIN_MS + rnd_below(PIN_MS)) * 1000;
	a->from = store_date_ms();
	a->until = a->from + (away_until - now_us) / 1000;
	naways++;
	note("the store is away for %llu ms", (unsigned long long) (a->until - a->from));
}

u64
bucket_pinned_at(const char *key)
{
	Object *o = *bucket_find(key);

	return o ? o->pinned_at : 0;
}

/* `to` says what `from` has said, since before that goes: its life is a continuation. */
void
bucket_pin_continues(const char *from, const char *to)
{
	Object *a = *bucket_find(from), *b = *bucket_find(to);

	if (a && b && a->pinned_at < b->pinned_at)
		b->pinned_at = a->pinned_at;
}

void
bucket_remove(const char *key)
{
	Object **link = bucket_find(key);
	Object *o = *link;

	if (o)
	{
		*link = o->next;
		free(o->data);
		free(o);
	}
}

void
bucket_reset(void)
{
	away_until = 0;
	naways = 0;
	bucket_etags = 0;
	for (int i = 0; i < NBUCKETS; i++)
		while (buckets[i])
			bucket_remove(buckets[i]->key);
}
