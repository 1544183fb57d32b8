/*
 * collect.c: see collect.h; the parts of a pass are in collect_pass.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/chain.h"
#include "manifest/collect_pass.h"
#include "manifest/envelope.h"
#include "manifest/memory.h"
#include "manifest/rules.h"

/* ------------------------------------------------------------------------------------ the end */

static void
free_pass(Pass *p)
{
	p->col->pass = NULL;
	jobs_cancel(p->jobs);
	if (p->walk)
		tree_cancel(p->walk);
	if (p->start)
		s3am__checkpoint_ref__free_unpacked(p->start, NULL);
	if (p->current)
		s3am__checkpoint_ref__free_unpacked(p->current, NULL);
	if (p->root)
		s3am__checkpoint__free_unpacked(p->root, NULL);
	for (size_t i = 0; i < p->ntrees; i++)
		s3am__page_ref__free_unpacked(p->trees[i], NULL);
	free(p->trees);
	free(p->live);
	idset_free(p->segments);
	idset_free(p->pages);
	idset_free(p->dropped);
	idset_free(p->pinned);
	free(p->checkpoints);
	for (size_t i = 0; i < p->nvictims; i++)
		free(p->victims[i]);
	free(p->victims);
	free(p);
}

void
pass_end(Pass *p, const char *error)
{
	CollectConfig cfg = p->cfg;
	CollectReport report = p->report;
	char text[300];

	snprintf(text, sizeof(text), "%s", error ? error : "");
	free_pass(p);
	cfg.done(cfg.arg, &report, error ? text : NULL);
}

bool
pass_fine(Pass *p, const StoreResult *result)
{
	if (result->date_ms > p->date)
		p->date = result->date_ms;
	if (result->status == STORE_OK)
		return true;
	pass_end(p, result->error ? result->error : "the store is not available");
	return false;
}

/* ------------------------------------------------------------------------------------ the boundary */

static void
know(Pass *p, uint64_t value, int64_t date)
{
	Collector *col = p->col;

	if (col->nknown > 0 && col->known[col->nknown - 1].value >= value)
		return;
	if (col->nknown == HISTORY)
		memmove(&col->known[0], &col->known[1], --col->nknown * sizeof(Known));
	col->known[col->nknown++] = (Known){value, date, p->oldest_pin};
}

static void
boundary_stands(Pass *p)
{
	Collector *col = p->col;
	int found = -1;

	p->deletable = 0;
	for (int i = 0; i < col->nknown; i++)
		if (!RULE(P3_GRACE) || col->known[i].date + 2 * (int64_t) p->cfg.grace_ms <= p->date)
		{
			p->deletable = col->known[i].value;
			found = i;
		}
	p->report.boundary = p->boundary;
	if (!RULE(P36_PINS_LAST) && found >= 0)
	{
		p->oldest_pin = col->known[found].pins;
		pass_mark(p);
		return;
	}
	pass_read_pins(p, pass_mark);
}

static void
boundary_moved(void *arg, StoreResult *result)
{
	Pass *p = arg;

	if (result->status != STORE_OK)
	{
		/* refused: another one moved it; undecided: the next pass will see */
		pass_end(p, result->status == STORE_PRECONDITION ? NULL : result->error);
		return;
	}
	(void) pass_fine(p, result);
	if (result->date_ms)
		know(p, p->boundary, result->date_ms);
	boundary_stands(p);
}

static void
move_boundary(Pass *p)
{
	Committer *c = p->col->c;
	const S3am__CheckpointRef *current = committer_checkpoint(c);
	uint64_t to = p->youngest_old;
	S3am__Boundary message = S3AM__BOUNDARY__INIT;
	size_t len;
	uint8_t *payload, *object;

	if (committer_phase(c) != COMMITTER_READY || current == NULL || current->version > committer_version(c))
	{
		pass_end(p, NULL);
		return;
	}
	if (RULE(P35_COVERED) && to > current->version)
		to = current->version;
	if (to <= p->boundary || p->cfg.dry_run || (p->start && p->start->version > current->version))
	{
		boundary_stands(p);
		return;
	}
	message.boundary = to;
	message.checkpoint = (S3am__CheckpointRef *) current;
	len = s3am__boundary__get_packed_size(&message);
	payload = memory_need(len + 1);
	s3am__boundary__pack(&message, payload);
	object = envelope_seal(ENVELOPE_BOUNDARY, p->col->uuid, KEY_BOUNDARY, payload, len, &len);
	free(payload);
	if (object == NULL)
	{
		pass_end(p, "out of memory");
		return;
	}
	p->boundary = to;
	if (!RULE(P4_COMPARE_AND_SET))
		jobs_put(p->jobs, KEY_BOUNDARY, object, len, boundary_moved, p);
	else if (p->etag[0])
		jobs_replace(p->jobs, KEY_BOUNDARY, p->etag, object, len, boundary_moved, p);
	else
		jobs_create_object(p->jobs, KEY_BOUNDARY, object, len, boundary_moved, p);
}

/* ------------------------------------------------------------------------------------ ages */

static void
ages_came(void *arg, StoreResult *result)
{
	Pass *p = arg;
	bool sorted = true;

	if (!pass_fine(p, result))
		return;
	for (int i = 0; i < result->nentries; i++)
	{
		unsigned long long v;
		const struct StoreEntry *e = &result->entries[i];

		if (i > 0 && strcmp(result->entries[i - 1].key, e->key) > 0)
			sorted = false;
		if (sscanf(e->key, "manifests/%20llu", &v) != 1 || v <= p->boundary)
			continue;
		if (e->modified_ms + (int64_t) p->cfg.retention_ms > result->date_ms)
			p->first_young = v < p->first_young ? v : p->first_young;
		else if (v > p->youngest_old)
			p->youngest_old = v;
	}
	if (result->next && !(sorted && p->first_young != UINT64_MAX))
	{
		jobs_list(p->jobs, "manifests/", result->next, ages_came, p);
		return;
	}
	if (p->youngest_old >= p->first_young)
		p->youngest_old = p->first_young - 1;
	if (RULE(P36_PINS_LAST))
		move_boundary(p);
	else
		pass_read_pins(p, move_boundary);
}

static void
boundary_came(void *arg, StoreResult *result)
{
	Pass *p = arg;
	char *error = NULL;
	size_t len;
	uint8_t *payload;
	S3am__Boundary *m;

	if (result->status == STORE_OK)
	{
		payload =
			envelope_open(ENVELOPE_BOUNDARY, p->col->uuid, KEY_BOUNDARY, result->data, result->len, &len, NULL, &error);
		m = payload ? s3am__boundary__unpack(&memory_allocator, len, payload) : NULL;
		free(payload);
		if (m == NULL)
		{
			pass_end(p, error ? error : "object \"" KEY_BOUNDARY "\" is damaged");
			free(error);
			return;
		}
		p->boundary = m->boundary;
		p->start = m->checkpoint ? checkpoint_ref_copy(m->checkpoint) : NULL;
		s3am__boundary__free_unpacked(m, NULL);
		snprintf(p->etag, sizeof(p->etag), "%s", result->etag);
		if (result->date_ms)
			know(p, p->boundary, result->date_ms);
	}
	else if (result->status != STORE_NOT_FOUND)
	{
		pass_end(p, result->error);
		return;
	}
	if (result->date_ms > p->date)
		p->date = result->date_ms;
	jobs_list(p->jobs, "manifests/", NULL, ages_came, p);
}

/* ------------------------------------------------------------------------------------ interface */

Collector *
collector_create(Committer *c, Store *store, const uint8_t uuid[16])
{
	Collector *col = memory_need_zeroed(1, sizeof(*col));

	col->c = c;
	col->store = store;
	memcpy(col->uuid, uuid, 16);
	return col;
}

void
collector_tick(Collector *col)
{
	if (col == NULL || col->pass == NULL)
		return;
	if (col->pass->pins_wait && committer_phase(col->c) != COMMITTER_READY)
	{
		pass_end(col->pass, "this server's epoch has ended");
		return;
	}
	if (col->pass->pins_wait && committer_may_judge(col->c, col->pass->cfg.pin_ms))
	{
		void (*next)(Pass * p) = col->pass->pins_wait;

		col->pass->pins_wait = NULL;
		pass_read_pins(col->pass, next);
	}
	jobs_tick(col->pass->jobs);
	if (col->pass->walk)
		tree_tick(col->pass->walk);
}

void
collector_free(Collector *col)
{
	if (col == NULL)
		return;
	if (col->pass)
		free_pass(col->pass);
	free(col);
}

bool
collector_run(Collector *col, const CollectConfig *config)
{
	Pass *p;

	if (col->pass || committer_phase(col->c) != COMMITTER_READY || committer_checkpoint(col->c) == NULL)
		return false;
	p = memory_need_zeroed(1, sizeof(*p));
	p->col = col;
	p->cfg = *config;
	if (p->cfg.pin_ms == 0)
		p->cfg.pin_ms = 3600000;
	p->first_young = UINT64_MAX;
	p->oldest_pin = UINT64_MAX;
	p->jobs = jobs_create(col->store);
	col->pass = p;
	jobs_get(p->jobs, KEY_BOUNDARY, boundary_came, p);
	return true;
}
