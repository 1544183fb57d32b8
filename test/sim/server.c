/*
 * server.c: what the server around a committer does: its publisher, and those who read.
 *
 * A server outlives its committer, which is started anew when its epoch was fenced.  Its publisher takes what the committer delivers, in
 * order and later; a checkpoint's pages are read only then.  Sessions hold snapshots of what is published.  The oracle: no
 * object goes that a snapshot needs, or a checkpoint that is still to be read, as long as the server has given signs of life.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/keys.h"
#include "sim.h"

typedef struct Delivery
{
	struct Delivery *next;
	bool checkpoint;
	u64 version;
} Delivery;

#define NREADERS 3
#define NSIGNS 4

struct Server
{
	Server *next;
	bool alive, served, gap;
	u64 published, frozen, restoring, restoring_last;
	u64 lost; /* a checkpoint whose pages are gone */
	Delivery *first, *last;
	u64 readers[NREADERS]; /* versions; 0: free */
	char signs[NSIGNS][KEY_SIZE]; /* of life: objects that it renews, newest first */
};

static Server *servers;

/* ---------------------------------------------------------------- the publisher */

static void
freeze(Server *s)
{
	u64 oldest = s->published;

	for (int i = 0; i < NREADERS; i++)
		if (s->readers[i] && s->readers[i] < oldest)
			oldest = s->readers[i];
	if (oldest > s->frozen)
		s->frozen = oldest;
}

/* True: done with it. */
static bool
take(Server *s, const Delivery *d)
{
	if (d->version <= s->published)
		return true;
	if (!d->checkpoint)
	{
		if (s->gap)
			return true; /* left out with an older checkpoint; a newer one follows, and then what is after it */
		if (d->version > s->published + 1)
			violation("version %llu is to be published after %llu", (unsigned long long) d->version,
					  (unsigned long long) s->published);
		s->published = d->version;
		return true;
	}
	if (!objects_complete(d->version))
	{
		/* only who was silent for too long may find that */
		if (s->restoring_last > d->version)
		{
			s->gap = true;
			return true;
		}
		s->lost = d->version;
		return false;
	}
	s->gap = false;
	s->published = d->version;
	return true;
}

/* A large checkpoint takes its time. */
static u64
pace(const Delivery *d)
{
	return rnd_below(!d->checkpoint || calm || sc.hurried ? 3000 : chance(300) ? 3000000 : 100000);
}

static void
publish(void *arg, u64 x)
{
	Server *s = arg;
	Delivery *d = s->first;

	(void) x;
	if (!s->alive || d == NULL)
	{
		steps--;
		return;
	}
	if (take(s, d))
	{
		s->first = d->next;
		if (d->checkpoint && s->restoring_last == d->version)
			s->restoring = s->lost = 0;
		free(d);
		freeze(s);
	}
	if (s->first)
		at(now_us + pace(s->first), NULL, publish, s, 0);
}

static void
deliver(Server *s, bool checkpoint, u64 version)
{
	Delivery *d = calloc(1, sizeof(*d));

	*d = (Delivery){NULL, checkpoint, version};
	if (sc.hurried && s->first == NULL && take(s, d))
	{
		s->restoring = 0;
		free(d);
		freeze(s);
		return;
	}
	if (s->first)
		s->last->next = d;
	else
	{
		s->first = d;
		at(now_us + pace(d), NULL, publish, s, 0);
	}
	s->last = d;
}

void
server_applied(Server *s, u64 version)
{
	deliver(s, false, version);
}

void
server_restored(Server *s, const S3am__Checkpoint *root)
{
	s->restoring_last = root->version;
	if (s->restoring == 0)
		s->restoring = root->version;
	deliver(s, true, root->version);
}

u64
server_oldest_read(Server *s, u64 applied)
{
	u64 oldest = s->frozen;

	if (!RULE(P36_OLDEST))
		return applied;
	if (RULE(P36_RESTORING) && s->restoring && (s->published == 0 || s->restoring < oldest))
		return s->restoring;
	return !RULE(P36_RESTORING) && oldest == 0 ? applied : oldest;
}

u64
server_published(const Server *s)
{
	return s->published;
}

u64
server_lost(const Server *s)
{
	return s->lost;
}

/* ---------------------------------------------------------------- readers */

static void
leave(void *arg, u64 i)
{
	Server *s = arg;

	if (s->alive)
	{
		s->readers[i] = 0;
		freeze(s);
	}
	steps--;
}

static void
look(void *arg, u64 x)
{
	Server *s = arg;

	(void) x;
	steps--;
	if (!s->alive || calm)
		return;
	at(now_us + 20000 + rnd_below(200000), NULL, look, s, 0);
	if (!s->served || s->published == 0 || sc.hurried)
		return;
	for (u64 i = 0; i < NREADERS; i++)
		if (s->readers[i] == 0)
		{
			s->readers[i] = s->published;
			at(now_us + rnd_below(chance(300) ? (sc.away ? 30000000 : 4000000) : 300000), NULL, leave, s, i);
			return;
		}
}

/* ---------------------------------------------------------------- signs of life */

void
server_sign(Server *s, const char *key)
{
	if (strcmp(s->signs[0], key) == 0)
		return;
	memmove(s->signs[1], s->signs[0], sizeof(s->signs) - sizeof(s->signs[0]));
	snprintf(s->signs[0], KEY_SIZE, "%s", key);
}

/* Has it said all the time that it needs a version? */
static bool
vouched(const Server *s, u64 version)
{
	for (int i = 0; i < NSIGNS; i++)
	{
		const char *sign = s->signs[i];
		size_t len;

		if (sign[0] && bucket_object(sign, &len) && bucket_fresh(sign) && bucket_pinned_at(sign) <= version)
			return true;
	}
	return false;
}

/* What a committer that is started anew withdraws, as soon as its own objects say as much. */
void
server_withdraw(const Server *s, Committer *c)
{
	for (int i = 0; i < NSIGNS; i++)
		if (s->signs[i][0])
			committer_withdraw(c, s->signs[i]);
}

/* An object of an earlier committer is being removed: what it said must be said by another one. */
void
server_sign_removed(const char *key)
{
	for (Server *s = servers; s; s = s->next)
		for (int i = 2; s->alive && i < NSIGNS; i++)
		{
			char sign[KEY_SIZE];
			bool vouches[NREADERS];

			if (strcmp(s->signs[i], key) != 0)
				continue;
			for (int r = 0; r < NREADERS; r++)
				vouches[r] = s->readers[r] && vouched(s, s->readers[r]);
			snprintf(sign, sizeof(sign), "%s", s->signs[i]);
			s->signs[i][0] = '\0';
			for (int r = 0; r < NREADERS; r++)
				for (int k = 0; vouches[r] && k < i; k++)
					if (s->signs[k][0] && bucket_fresh(s->signs[k]) && objects_needed(s->signs[k]) <= s->readers[r])
						bucket_pin_continues(key, s->signs[k]);
			for (int r = 0; r < NREADERS; r++)
				if (vouches[r] && !vouched(s, s->readers[r]))
					violation("LOST: %s is withdrawn, and nothing else keeps version %llu for a snapshot", key,
							  (unsigned long long) s->readers[r]);
			snprintf(s->signs[i], KEY_SIZE, "%s", sign);
		}
}

void
server_segment_removed(const char *key, u64 added, u64 dropped)
{
	for (Server *s = servers; s; s = s->next)
		for (int i = 0; s->alive && i < NREADERS; i++)
			if (s->readers[i] && added <= s->readers[i] && (dropped == 0 || s->readers[i] < dropped) &&
				vouched(s, s->readers[i]))
				violation("LOST: %s is removed, and a snapshot of version %llu reads it", key,
						  (unsigned long long) s->readers[i]);
}

/* A root, or a page, of a checkpoint. */
void
server_checkpoint_removed(const char *key, u64 version)
{
	for (Server *s = servers; s; s = s->next)
		for (const Delivery *d = s->alive ? s->first : NULL; d; d = d->next)
			if (d->checkpoint && d->version == version && version > s->published && vouched(s, version))
				violation("LOST: %s is removed, and checkpoint %llu is still to be read", key,
						  (unsigned long long) version);
}

/* ---------------------------------------------------------------- life */

Server *
server_start(void)
{
	Server *s = calloc(1, sizeof(*s));

	s->alive = true;
	s->next = servers;
	servers = s;
	at(now_us + rnd_below(200000), NULL, look, s, 0);
	return s;
}

void
server_ready(Server *s)
{
	s->served = true;
}

void
server_stop(Server *s)
{
	s->alive = false;
}

/* Has every checkpoint been read that was delivered, or given up? */
bool
server_behind(const Server *s)
{
	return s->first != NULL;
}

void
server_reset(void)
{
	while (servers)
	{
		Server *s = servers;

		servers = s->next;
		while (s->first)
		{
			Delivery *d = s->first;

			s->first = d->next;
			free(d);
		}
		free(s);
	}
}
