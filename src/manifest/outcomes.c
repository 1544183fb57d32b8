/*
 * outcomes.c: an open-addressing table of decided ids, and a list of epochs.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest/outcomes.h"

typedef struct Entry
{
	uint64_t	epoch,
				seq,
				version;
	IdState		state;			/* ID_UNKNOWN: free */
} Entry;

typedef struct Epoch
{
	uint64_t	epoch;
	bool		fenced;
	void	   *node;
	size_t		node_len;
} Epoch;

struct Outcomes
{
	Entry	   *entries;
	size_t		size,
				used;
	Epoch	   *epochs;
	size_t		nepochs;
};

Outcomes *
outcomes_create(void)
{
	Outcomes   *o = calloc(1, sizeof(*o));

	o->size = 1024;
	o->entries = calloc(o->size, sizeof(Entry));
	return o;
}

void
outcomes_free(Outcomes *o)
{
	for (size_t i = 0; i < o->nepochs; i++)
		free(o->epochs[i].node);
	free(o->epochs);
	free(o->entries);
	free(o);
}

static size_t
slot_of(const Outcomes *o, uint64_t epoch, uint64_t seq)
{
	uint64_t	h = (epoch * 0x9E3779B97F4A7C15ULL) ^ (seq * 0xD6E8FEB86659FD93ULL);
	size_t		i = (h ^ (h >> 31)) & (o->size - 1);

	while (o->entries[i].state != ID_UNKNOWN && (o->entries[i].epoch != epoch || o->entries[i].seq != seq))
		i = (i + 1) & (o->size - 1);
	return i;
}

IdState
outcomes_get(const Outcomes *o, uint64_t epoch, uint64_t seq, uint64_t *version)
{
	const Entry *e = &o->entries[slot_of(o, epoch, seq)];

	if (version)
		*version = e->state == ID_UNKNOWN ? 0 : e->version;
	return e->state;
}

void
outcomes_set(Outcomes *o, uint64_t epoch, uint64_t seq, IdState state, uint64_t version)
{
	Entry	   *e;

	if (o->used * 2 >= o->size)
	{
		Entry	   *old = o->entries;
		size_t		n = o->size;

		o->size *= 2;
		o->entries = calloc(o->size, sizeof(Entry));
		for (size_t i = 0; i < n; i++)
			if (old[i].state != ID_UNKNOWN)
				o->entries[slot_of(o, old[i].epoch, old[i].seq)] = old[i];
		free(old);
	}
	e = &o->entries[slot_of(o, epoch, seq)];
	if (e->state != ID_UNKNOWN)
		return;					/* the first one wins */
	*e = (Entry) {epoch, seq, version, state};
	o->used++;
}

void
outcomes_begin_epoch(Outcomes *o, uint64_t epoch, const void *node, size_t node_len)
{
	Epoch	   *e;

	o->epochs = realloc(o->epochs, (o->nepochs + 1) * sizeof(Epoch));
	e = &o->epochs[o->nepochs++];
	e->epoch = epoch;
	e->fenced = false;
	e->node = malloc(node_len ? node_len : 1);
	memcpy(e->node, node, node_len);
	e->node_len = node_len;
}

void
outcomes_fence(Outcomes *o, uint64_t epoch)
{
	for (size_t i = 0; i < o->nepochs; i++)
		if (o->epochs[i].epoch == epoch)
			o->epochs[i].fenced = true;
}

bool
outcomes_fenced(const Outcomes *o, uint64_t epoch)
{
	for (size_t i = o->nepochs; i > 0; i--)
		if (o->epochs[i - 1].epoch == epoch)
			return o->epochs[i - 1].fenced;
	return true;				/* never begun */
}

uint64_t
outcomes_last_epoch(const Outcomes *o)
{
	uint64_t	last = 0;

	for (size_t i = 0; i < o->nepochs; i++)
		if (o->epochs[i].epoch > last)
			last = o->epochs[i].epoch;
	return last;
}

void
outcomes_live_of(const Outcomes *o, const void *node, size_t node_len, void (*each) (void *arg, uint64_t epoch),
				 void *arg)
{
	for (size_t i = 0; i < o->nepochs; i++)
		if (!o->epochs[i].fenced && o->epochs[i].node_len == node_len &&
			memcmp(o->epochs[i].node, node, node_len) == 0)
			each(arg, o->epochs[i].epoch);
}
