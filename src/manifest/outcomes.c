/*
 * outcomes.c: for each epoch two bitmaps of sequence numbers.
 *
 * Epochs are few: one for each start of a node within the retention.  They are kept ascending.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest/memory.h"
#include "manifest/outcomes.h"
#include "manifest/rowset.h"
#include "manifest/rules.h"

typedef struct Epoch
{
	uint64_t epoch;
	bool fenced;
	uint64_t begun_ms, fenced_ms;
	void *node;
	size_t node_len;
	RowSet *committed, *aborted;
} Epoch;

struct Outcomes
{
	uint64_t last_epoch;
	Epoch *epochs;
	size_t n, capacity;
};

Outcomes *
outcomes_create(void)
{
	return memory_need_zeroed(1, sizeof(Outcomes));
}

static void
free_epoch(Epoch *e)
{
	free(e->node);
	rowset_free(e->committed);
	rowset_free(e->aborted);
}

void
outcomes_free(Outcomes *o)
{
	if (o == NULL)
		return;
	for (size_t i = 0; i < o->n; i++)
		free_epoch(&o->epochs[i]);
	free(o->epochs);
	free(o);
}

static Epoch *
find(const Outcomes *o, uint64_t epoch)
{
	size_t low = 0, high = o->n;

	while (low < high)
	{
		size_t middle = (low + high) / 2;

		if (o->epochs[middle].epoch < epoch)
			low = middle + 1;
		else
			high = middle;
	}
	return low < o->n && o->epochs[low].epoch == epoch ? &o->epochs[low] : NULL;
}

IdState
outcomes_get(const Outcomes *o, uint64_t epoch, uint64_t seq)
{
	const Epoch *e = find(o, epoch);

	if (e == NULL)
		return epoch <= o->last_epoch ? ID_TOO_OLD : ID_UNKNOWN;
	if (rowset_contains(e->committed, seq))
		return ID_COMMITTED;
	return rowset_contains(e->aborted, seq) ? ID_ABORTED : ID_UNKNOWN;
}

void
outcomes_set(Outcomes *o, uint64_t epoch, uint64_t seq, IdState state)
{
	Epoch *e = find(o, epoch);

	if (e && outcomes_get(o, epoch, seq) == ID_UNKNOWN)
		rowset_add(state == ID_COMMITTED ? e->committed : e->aborted, seq);
}

static Epoch *
add_epoch(Outcomes *o, uint64_t epoch)
{
	Epoch *e;
	size_t i = o->n;

	if (o->n == o->capacity)
	{
		size_t capacity = o->capacity ? o->capacity * 2 : 8;

		o->epochs = memory_grow(o->epochs, capacity * sizeof(Epoch));
		o->capacity = capacity;
	}
	while (i > 0 && o->epochs[i - 1].epoch > epoch)
		i--;
	memmove(&o->epochs[i + 1], &o->epochs[i], (o->n - i) * sizeof(Epoch));
	o->n++;
	e = &o->epochs[i];
	memset(e, 0, sizeof(*e));
	e->epoch = epoch;
	if (epoch > o->last_epoch)
		o->last_epoch = epoch;
	return e;
}

static void
set_node(Epoch *e, const void *node, size_t len)
{
	e->node = memory_need(len ? len : 1);
	if (len)
		memcpy(e->node, node, len);
	e->node_len = len;
}

void
outcomes_begin_epoch(Outcomes *o, uint64_t epoch, const void *node, size_t node_len, uint64_t time_ms)
{
	Epoch *e;

	if (epoch <= o->last_epoch)
		return;
	e = add_epoch(o, epoch);
	set_node(e, node, node_len);
	e->begun_ms = time_ms;
	e->committed = rowset_create();
	e->aborted = rowset_create();
}

void
outcomes_fence(Outcomes *o, uint64_t epoch, uint64_t time_ms)
{
	Epoch *e = find(o, epoch);

	if (e && !e->fenced)
	{
		e->fenced = true;
		e->fenced_ms = time_ms;
		rowset_optimize(e->committed);
		rowset_optimize(e->aborted);
	}
}

bool
outcomes_fenced(const Outcomes *o, uint64_t epoch)
{
	const Epoch *e = find(o, epoch);

	return e == NULL || e->fenced;
}

uint64_t
outcomes_last_epoch(const Outcomes *o)
{
	return o->last_epoch;
}

bool
outcomes_node_is(const Outcomes *o, uint64_t epoch, const void *node, size_t node_len)
{
	const Epoch *e = find(o, epoch);

	return e && e->node_len == node_len && memcmp(e->node, node, node_len) == 0;
}

void
outcomes_expire(Outcomes *o, uint64_t before_ms)
{
	size_t kept = 0;

	for (size_t i = 0; i < o->n; i++)
		if (o->epochs[i].fenced && o->epochs[i].fenced_ms < before_ms)
			free_epoch(&o->epochs[i]);
		else
			o->epochs[kept++] = o->epochs[i];
	o->n = kept;
}

void
outcomes_each_live(const Outcomes *o, bool (*each)(void *arg, uint64_t epoch, uint64_t begun_ms), void *arg)
{
	for (size_t i = 0; i < o->n; i++)
		if (!o->epochs[i].fenced && !each(arg, o->epochs[i].epoch, o->epochs[i].begun_ms))
			return;
}

/* ------------------------------------------------------------------------------------ checkpoints */

void
outcomes_encode(const Outcomes *o, S3am__Checkpoint *root)
{
	root->last_epoch = o->last_epoch;
	root->n_epochs = o->n;
	root->epochs = memory_need((o->n + 1) * sizeof(void *));
	for (size_t i = 0; i < o->n; i++)
	{
		const Epoch *e = &o->epochs[i];
		S3am__EpochOutcomes *m = memory_need(sizeof(*m));

		s3am__epoch_outcomes__init(m);
		m->epoch = e->epoch;
		m->fenced = e->fenced;
		m->begun_ms = e->begun_ms;
		m->fenced_ms = e->fenced_ms;
		m->node.data = memory_need(e->node_len ? e->node_len : 1);
		memcpy(m->node.data, e->node, e->node_len);
		m->node.len = e->node_len;
		if (RULE(P7_CHECKPOINT))
		{
			rowset_optimize(e->committed);
			rowset_optimize(e->aborted);
			m->committed = rowset_encode(e->committed);
			m->aborted = rowset_encode(e->aborted);
		}
		root->epochs[i] = m;
	}
}

Outcomes *
outcomes_decode(const S3am__Checkpoint *root)
{
	Outcomes *o = outcomes_create();

	for (size_t i = 0; i < root->n_epochs; i++)
	{
		const S3am__EpochOutcomes *m = root->epochs[i];
		Epoch *e = add_epoch(o, m->epoch);

		e->fenced = m->fenced;
		e->begun_ms = m->begun_ms;
		e->fenced_ms = m->fenced_ms;
		set_node(e, m->node.data, m->node.len);
		e->committed = rowset_decode(m->committed);
		e->aborted = rowset_decode(m->aborted);
		if (e->committed == NULL || e->aborted == NULL)
		{
			outcomes_free(o);
			return NULL;
		}
	}
	o->last_epoch = root->last_epoch;
	return o;
}
