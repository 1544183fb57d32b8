/*
 * collect_sweep.c: the last part of a pass: which objects can go, and their deletion.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/collect_pass.h"
#include "manifest/memory.h"
#include "manifest/rules.h"

#define DELETES 16 /* at once */

static const char *const sweep_prefixes[] = {"manifests/", "checkpoints/", "pages/", "segments/", "nodes/", "pins/"};
enum
{
	SWEEP_MANIFESTS,
	SWEEP_CHECKPOINTS,
	SWEEP_PAGES,
	SWEEP_SEGMENTS,
	SWEEP_NODES,
	SWEEP_PINS,
	NSWEEPS
};

static bool
is_live(const Pass *p, uint64_t epoch)
{
	if (!RULE(P13_ONE_STATE))
		return committer_epoch_live(p->col->c, epoch);
	/* one that has not begun in S may have, by now */
	if (epoch > p->last_epoch)
		return true;
	for (size_t i = 0; i < p->nlive; i++)
		if (p->live[i] == epoch)
			return true;
	return false;
}

static void
add_victim(Pass *p, const char *key, uint64_t size, const char *why, uint64_t *count)
{
	if (p->cfg.deleting)
		p->cfg.deleting(p->cfg.arg, key, why, size);
	(*count)++;
	p->report.bytes += size;
	if (p->cfg.dry_run)
		return;
	if (p->nvictims == p->victim_capacity)
	{
		p->victim_capacity = p->victim_capacity ? p->victim_capacity * 2 : 64;
		p->victims = memory_grow(p->victims, p->victim_capacity * sizeof(char *));
	}
	p->victims[p->nvictims++] = memory_copy_text(key);
}

/* <prefix>/<2 hex>/<epoch>-<number> */
static bool
parse_id(const char *key, uint64_t *epoch, uint64_t *number)
{
	unsigned long long e, n;
	const char *slash = strchr(key, '/');

	if (slash == NULL || sscanf(slash + 1, "%*2x/%16llx-%16llx", &e, &n) != 2)
		return false;
	*epoch = e;
	*number = n;
	return true;
}

static void
judge_page(Pass *p, const struct StoreEntry *e)
{
	uint64_t epoch, number;

	if (!parse_id(e->key, &epoch, &number) || idset_contains(p->pages, epoch, number))
		return;
	if (!is_live(p, epoch) || !RULE(P13_FENCED))
		add_victim(p, e->key, e->size, "no checkpoint has it, and its maker was fenced", &p->report.pages);
	else if (epoch == committer_epoch(p->col->c) && number < p->cfg.first_page)
		add_victim(p, e->key, e->size, "no checkpoint has it, and it is our own", &p->report.pages);
}

static void
judge_segment(Pass *p, const struct StoreEntry *e)
{
	uint64_t epoch, number;

	if (!parse_id(e->key, &epoch, &number) || idset_contains(p->segments, epoch, number) ||
		idset_contains(p->pinned, epoch, number))
		return;
	if (!is_live(p, epoch) || !RULE(P13_FENCED))
		add_victim(p, e->key, e->size, "no table has it, and its maker was fenced", &p->report.segments);
	else if (idset_contains(p->dropped, epoch, number))
		add_victim(p, e->key, e->size, "it was replaced", &p->report.segments);
	else if (epoch == committer_epoch(p->col->c) && p->cfg.in_use && !p->cfg.in_use(p->cfg.arg, epoch, number))
		add_victim(p, e->key, e->size, "no table has it, and it is our own", &p->report.segments);
}

static void
judge(Pass *p, const struct StoreEntry *e)
{
	unsigned long long a, b;

	switch (p->prefix)
	{
		case SWEEP_MANIFESTS:
			/* also those that were created again under the boundary (rule 36) */
			if (sscanf(e->key, "manifests/%20llu", &a) == 1 && a <= p->deletable)
				add_victim(p, e->key, e->size, "it is under the boundary", &p->report.manifests);
			break;
		case SWEEP_CHECKPOINTS:
			for (size_t i = 0; i < p->ncheckpoints; i++)
				if (sscanf(e->key, "checkpoints/%20llu-%16llx", &a, &b) == 2 && p->checkpoints[i].version == a &&
					p->checkpoints[i].epoch == b && !p->checkpoints[i].keep)
					add_victim(p, e->key, e->size, "it is older than what is read", &p->report.checkpoints);
			break;
		case SWEEP_PAGES:
			judge_page(p, e);
			break;
		case SWEEP_SEGMENTS:
			judge_segment(p, e);
			break;
		case SWEEP_NODES:
			if (sscanf(e->key, "nodes/%20llu", &a) == 1 && !is_live(p, a) &&
				e->modified_ms + (int64_t) p->cfg.pin_ms < p->date)
				add_victim(p, e->key, e->size, "its epoch was fenced", &p->report.others);
			break;
		case SWEEP_PINS:
			if (e->modified_ms + (int64_t) p->cfg.pin_ms < p->date)
				add_victim(p, e->key, e->size, "it is not renewed", &p->report.others);
			break;
	}
}

static void
removed(void *arg, StoreResult *result)
{
	Pass *p = arg;

	if (!pass_fine(p, result))
		return;
	p->victims_gone++;
	pass_sweep(p);
}

/* A list of manifests: may more that can go follow it?  Not if it is sorted, as most are, and ends with one that must stay. */
static bool
more_may_go(const Pass *p, const StoreResult *result)
{
	const char *last = "";

	for (int i = 0; i < result->nentries; i++)
	{
		if (strcmp(last, result->entries[i].key) > 0)
			return true;
		last = result->entries[i].key;
	}
	return strcmp(last, "manifests/") > 0 && strtoull(last + strlen("manifests/"), NULL, 10) <= p->deletable;
}

static void
swept_list(void *arg, StoreResult *result)
{
	Pass *p = arg;

	if (!pass_fine(p, result))
		return;
	for (int i = 0; i < result->nentries; i++)
		judge(p, &result->entries[i]);
	if (result->next && (p->prefix != SWEEP_MANIFESTS || more_may_go(p, result)))
		snprintf(p->after, sizeof(p->after), "%s", result->next);
	else
	{
		p->prefix++;
		p->after[0] = '\0';
	}
	pass_sweep(p);
}

/* Deletes what a listing brought, then goes on listing. */
void
pass_sweep(Pass *p)
{
	while (p->victim_at < p->nvictims && p->victim_at - p->victims_gone < DELETES)
		jobs_remove(p->jobs, p->victims[p->victim_at++], removed, p);
	if (p->victims_gone < p->nvictims)
		return;
	for (size_t i = 0; i < p->nvictims; i++)
		free(p->victims[i]);
	p->nvictims = p->victim_at = p->victims_gone = 0;
	if (p->prefix == NSWEEPS)
	{
		p->report.swept = p->deletable < p->oldest_pin ? p->deletable : p->oldest_pin;
		pass_end(p, NULL);
		return;
	}
	jobs_list(p->jobs, sweep_prefixes[p->prefix], p->after[0] ? p->after : NULL, swept_list, p);
}
