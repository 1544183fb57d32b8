/*
 * window.c: see window.h.
 *
 * A transaction is held only against those that touched something of the same: an open-addressing table leads from each subject
 * to the transactions that have a claim on it, oldest first.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest/memory.h"
#include "manifest/window.h"

typedef struct Accepted
{
	uint64_t version;
	Claims *claims;
	size_t bytes;
	bool own;
} Accepted;

typedef struct Bucket
{
	bool used;
	Subject subject;
	Accepted **list; /* list[first .. first + n - 1] */
	size_t first, n, capacity;
} Bucket;

struct Window
{
	Accepted **all; /* all[first .. first + n - 1], oldest first */
	size_t first, n, capacity;
	Bucket *buckets;
	size_t nbuckets, /* a power of two */
		used;
	size_t bytes;
};

Window *
window_create(void)
{
	Window *w = memory_need_zeroed(1, sizeof(*w));

	w->nbuckets = 16;
	w->buckets = memory_need_zeroed(w->nbuckets, sizeof(Bucket));
	return w;
}

static size_t
find(const Window *w, Subject s)
{
	uint64_t h = (s.id * 4 + s.kind) * 0x9E3779B97F4A7C15ULL;
	size_t i = (h >> 29) & (w->nbuckets - 1);

	while (w->buckets[i].used && (w->buckets[i].subject.kind != s.kind || w->buckets[i].subject.id != s.id))
		i = (i + 1) & (w->nbuckets - 1);
	return i;
}

/* Makes the table anew, without the subjects that nobody has a claim on. */
static void
rehash(Window *w)
{
	Bucket *old = w->buckets;
	size_t n = w->nbuckets, live = 0;

	for (size_t i = 0; i < n; i++)
		live += old[i].used && old[i].n > 0;
	w->nbuckets = 16;
	while (w->nbuckets < live * 3)
		w->nbuckets *= 2;
	w->buckets = memory_need_zeroed(w->nbuckets, sizeof(Bucket));
	w->used = live;
	for (size_t i = 0; i < n; i++)
		if (old[i].used && old[i].n > 0)
			w->buckets[find(w, old[i].subject)] = old[i];
		else
			free(old[i].list);
	free(old);
}

static void
append(Accepted ***list, size_t *first, size_t *n, size_t *capacity, Accepted *a)
{
	if (*first + *n == *capacity)
	{
		if (*first > *n)
		{
			memmove(*list, *list + *first, *n * sizeof(void *));
			*first = 0;
		}
		else
		{
			*capacity = *capacity ? *capacity * 2 : 4;
			*list = memory_grow(*list, *capacity * sizeof(void *));
		}
	}
	(*list)[*first + (*n)++] = a;
}

static size_t
size_of(const Claims *c)
{
	size_t ranges = 0;

	/* small messages, which take much more than when they are packed */
	for (size_t i = 0; i < c->txn->n_tables; i++)
		ranges += c->txn->tables[i]->n_added;
	return sizeof(Accepted) + s3am__txn__get_packed_size(c->txn) * 2 + c->nsubjects * sizeof(Subject) +
		   ranges * (sizeof(S3am__KeyRange) + sizeof(void *) + 3 * 16);
}

void
window_add(Window *w, uint64_t version, Claims *claims, bool own)
{
	Accepted *a = memory_need(sizeof(*a));

	*a = (Accepted){version, claims, own ? size_of(claims) : 0, own};
	w->bytes += a->bytes;
	append(&w->all, &w->first, &w->n, &w->capacity, a);
	for (size_t i = 0; i < claims->nsubjects; i++)
	{
		Bucket *b = &w->buckets[find(w, claims->subjects[i])];

		if (!b->used)
		{
			if ((w->used + 1) * 2 > w->nbuckets)
			{
				rehash(w);
				b = &w->buckets[find(w, claims->subjects[i])];
			}
			b->used = true;
			b->subject = claims->subjects[i];
			w->used++;
		}
		append(&b->list, &b->first, &b->n, &b->capacity, a);
	}
}

static void
free_accepted(Window *w, Accepted *a)
{
	w->bytes -= a->bytes;
	if (a->own)
	{
		S3am__Txn *txn = a->claims->txn;

		claims_free(a->claims);
		s3am__txn__free_unpacked(txn, NULL);
	}
	free(a);
}

void
window_trim(Window *w, uint64_t first)
{
	while (w->n > 0 && w->all[w->first]->version < first)
	{
		Accepted *a = w->all[w->first];

		for (size_t i = 0; i < a->claims->nsubjects; i++)
		{
			Bucket *b = &w->buckets[find(w, a->claims->subjects[i])];

			/* it is the oldest of each */
			b->first++;
			if (--b->n == 0)
				b->first = 0;
		}
		w->first++;
		if (--w->n == 0)
			w->first = 0;
		free_accepted(w, a);
	}
}

void
window_free(Window *w)
{
	if (w == NULL)
		return;
	for (size_t i = 0; i < w->n; i++)
		free_accepted(w, w->all[w->first + i]);
	for (size_t i = 0; i < w->nbuckets; i++)
		free(w->buckets[i].list);
	free(w->buckets);
	free(w->all);
	free(w);
}

uint64_t
window_find(const Window *w, uint64_t epoch, uint64_t seq)
{
	for (size_t i = w->n; i > 0; i--)
	{
		const Accepted *a = w->all[w->first + i - 1];

		if (a->claims->txn->id->epoch == epoch && a->claims->txn->id->seq == seq)
			return a->version;
	}
	return 0;
}

size_t
window_bytes(const Window *w)
{
	return w->bytes;
}

bool
window_check(const Window *w, Claims *claims, uint64_t held, bool ahead, uint64_t *version, char *detail, size_t size)
{
	for (size_t i = 0; i < claims->nsubjects; i++)
	{
		const Bucket *b = &w->buckets[find(w, claims->subjects[i])];
		size_t low = 0, high = b->used ? b->n : 0;
		uint64_t since = held > claims->oldest_base ? held : claims->oldest_base;

		/* the first one that is new to it */
		while (low < high)
		{
			size_t middle = (low + high) / 2;

			if (b->list[b->first + middle]->version <= since)
				low = middle + 1;
			else
				high = middle;
		}
		for (; b->used && low < b->n; low++)
		{
			const Accepted *a = b->list[b->first + low];

			if (!claims_fit(claims, a->claims, claims->subjects[i], a->version, held, ahead, detail, size))
			{
				*version = a->version;
				return false;
			}
		}
	}
	return true;
}
