/*
 * check.c: the conformance race: may several writers share this store?
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "store/store.h"

#define MAX_WRITERS 128

typedef struct Racer
{
	bool		done;
	StoreStatus status;
	uint8_t    *data;
	size_t		len;
	char		etag[136];
	int			nentries;
	char		error[256];
} Racer;

static void
finished(void *arg, StoreResult *result)
{
	Racer	   *r = arg;

	r->status = result->status;
	memcpy(r->etag, result->etag, sizeof(r->etag));
	r->nentries = result->nentries;
	if (result->error)
		snprintf(r->error, sizeof(r->error), "%s", result->error);
	if (result->status == STORE_OK && result->data)
	{
		r->len = result->len;
		r->data = store_take(result);
	}
	r->done = true;
}

static void
read_back(Store *store, const char *key, uint64_t offset, int64_t length, Racer *r)
{
	memset(r, 0, sizeof(*r));
	(void) store_get(store, key, offset, length, finished, r);
	(void) store_wait(store, &r->done, NULL);
}

/* One round of concurrent creators.  Exactly one must win, and its bytes must be there afterwards. */
static bool
create_round(Store *store, const char *key, int writers, char *detail, size_t size, StoreStatus *status)
{
	Racer		racers[MAX_WRITERS] = {0};
	char		bodies[MAX_WRITERS][32];
	int			winners = 0,
				winner = -1;
	Racer		back;
	bool		same;

	for (int i = 0; i < writers; i++)
	{
		snprintf(bodies[i], sizeof(bodies[i]), "writer %d", i);
		(void) store_create(store, key, bodies[i], strlen(bodies[i]), finished, &racers[i]);
	}
	for (int i = 0; i < writers; i++)
	{
		(void) store_wait(store, &racers[i].done, NULL);
		free(racers[i].data);
		if (racers[i].status == STORE_OK)
		{
			winners++;
			winner = i;
		}
		else if (racers[i].status == STORE_DENIED || racers[i].status == STORE_NOT_FOUND)
		{
			*status = racers[i].status;
			snprintf(detail, size, "%s", racers[i].error);
			return false;
		}
	}
	if (winners == 0)
	{
		/* nobody got a verdict: not unfit, but not now */
		*status = STORE_UNAVAILABLE;
		snprintf(detail, size, "%s", racers[0].error);
		return false;
	}
	read_back(store, key, 0, -1, &back);
	same = back.status == STORE_OK && back.len == strlen(bodies[winner]) &&
		memcmp(back.data, bodies[winner], back.len) == 0;
	free(back.data);
	if (winners != 1 || !same)
	{
		snprintf(detail, size, "of %d writers that created one key at once %d were told that they did%s", writers, winners,
				 same ? "" : ", and the key holds something else");
		return false;
	}
	return true;
}

static bool
replace_round(Store *store, const char *key, int writers, char *detail, size_t size)
{
	Racer		racers[MAX_WRITERS] = {0};
	Racer		back;
	char		etag[136];
	int			winners = 0;

	read_back(store, key, 0, -1, &back);
	free(back.data);
	memcpy(etag, back.etag, sizeof(etag));
	for (int i = 0; i < writers; i++)
		(void) store_replace(store, key, etag, "replaced", 8, finished, &racers[i]);
	for (int i = 0; i < writers; i++)
	{
		(void) store_wait(store, &racers[i].done, NULL);
		free(racers[i].data);
		if (racers[i].status == STORE_OK)
			winners++;
	}
	if (winners != 1)
		snprintf(detail, size, "of %d writers that replaced one key at once %d were told that they did", writers, winners);
	return winners == 1;
}

void
store_check(Store *store, int writers, int rounds, bool (*interrupted) (void), StoreVerdict *verdict)
{
	uint64_t	nonce = 0;
	char		key[96];
	Racer		r;

	memset(verdict, 0, sizeof(*verdict));
	if (writers < 2)
		writers = 2;
	if (writers > MAX_WRITERS)
		writers = MAX_WRITERS;
	if (getrandom(&nonce, sizeof(nonce), 0) < 0)
		nonce = (uintptr_t) &nonce;
	verdict->create_if_absent = verdict->compare_and_set = true;
	for (int round = 0; round < rounds && verdict->create_if_absent; round++)
	{
		if (interrupted && interrupted())
		{
			verdict->status = STORE_CANCELLED;
			return;
		}
		snprintf(key, sizeof(key), "check/%016llx-%d", (unsigned long long) nonce, round);
		verdict->create_if_absent = create_round(store, key, writers, verdict->detail, sizeof(verdict->detail),
												 &verdict->status);
		if (verdict->status != STORE_OK)
			return;
		if (verdict->create_if_absent && verdict->compare_and_set)
			verdict->compare_and_set = replace_round(store, key, writers, verdict->detail, sizeof(verdict->detail));
	}
	memset(&r, 0, sizeof(r));
	(void) store_put(store, key, "0123456789", 10, finished, &r);
	(void) store_wait(store, &r.done, NULL);
	free(r.data);
	read_back(store, key, 0, -1, &r);
	verdict->read_after_write = r.status == STORE_OK && r.len == 10 && memcmp(r.data, "0123456789", 10) == 0;
	free(r.data);
	read_back(store, key, 3, 4, &r);
	verdict->ranged_get = r.status == STORE_OK && r.len == 4 && memcmp(r.data, "3456", 4) == 0;
	free(r.data);
	memset(&r, 0, sizeof(r));
	(void) store_list(store, key, NULL, 10, finished, &r);
	(void) store_wait(store, &r.done, NULL);
	free(r.data);
	verdict->list_after_write = r.status == STORE_OK && r.nentries == 1;
	for (int round = 0; round < rounds; round++)
	{
		snprintf(key, sizeof(key), "check/%016llx-%d", (unsigned long long) nonce, round);
		memset(&r, 0, sizeof(r));
		(void) store_remove(store, key, finished, &r);
		(void) store_wait(store, &r.done, NULL);
		free(r.data);
	}
}
