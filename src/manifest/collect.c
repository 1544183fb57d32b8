/*
 * collect.c: see collect.h.
 *
 *   boundary -> ages of manifests -> new boundary -> pins -> what the state refers to -> sweep
 *
 * What the state refers to is judged at one version S of the committer, which also says which epochs are fenced then (rule 13):
 * the objects that checkpoints name which are kept, and those that manifests up to S name which no kept checkpoint has yet.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/chain.h"
#include "manifest/collect.h"
#include "manifest/envelope.h"
#include "manifest/idset.h"
#include "manifest/jobs.h"
#include "manifest/keys.h"
#include "manifest/memory.h"
#include "manifest/rules.h"
#include "manifest/tree.h"

#define HISTORY 64
#define DELETES 16 /* at once */
#define AHEAD 16

/* A boundary, and since when it has been one at least. */
typedef struct Known
{
	uint64_t value;
	int64_t date;
	uint64_t pins; /* as read before it; for those who do not know rule 36 */
} Known;

typedef struct Checkpointed
{
	uint64_t version, epoch;
	bool keep;
} Checkpointed;

typedef struct Pass
{
	struct Collector *col;
	CollectConfig cfg;
	Jobs *jobs;
	TreeWalk *walk;
	CollectReport report;
	int64_t date; /* the store's, latest */
	/* the boundary as read */
	uint64_t boundary;
	S3am__CheckpointRef *start;
	char etag[136]; /* "" absent */
	uint64_t youngest_old; /* versions up to here are old enough */
	uint64_t first_young;
	bool done_listing;
	uint64_t deletable; /* boundary that is 2G old */
	uint64_t oldest_pin;
	int pins_to_read;
	bool pins_listed;
	bool pins_again; /* some are too old, and that may not be their owner's fault */
	bool pins_gone; /* some were listed, and withdrawn before they were read */
	void (*pins_wait)(struct Pass *p); /* what comes after them, when they were read again; NULL: it does not wait */
	/* the state */
	uint64_t version; /* S */
	S3am__CheckpointRef *current;
	uint64_t *live; /* epochs that are not fenced in S */
	size_t nlive;
	uint64_t last_epoch; /* in S */
	IdSet *segments, *pages;
	IdSet *dropped; /* segments: may go though their epoch lives */
	IdSet *pinned; /* segments dropped after what somebody still reads */
	Checkpointed *checkpoints;
	size_t ncheckpoints, checkpoint_at;
	S3am__Checkpoint *root;
	S3am__PageRef **trees; /* of batches, of the root at hand */
	size_t ntrees, tree_at;
	uint64_t next_manifest;
	int manifests_under_way;
	/* sweeping */
	int prefix;
	char after[KEY_SIZE];
	char **victims;
	size_t nvictims, victim_capacity, victim_at, victims_gone;
} Pass;

struct Collector
{
	Committer *c;
	Store *store;
	uint8_t uuid[16];
	Known known[HISTORY];
	int nknown;
	Pass *pass;
};

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

static void mark_next_checkpoint(Pass *p);
static void sweep(Pass *p);

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

static void
end(Pass *p, const char *error)
{
	CollectConfig cfg = p->cfg;
	CollectReport report = p->report;
	char text[300];

	snprintf(text, sizeof(text), "%s", error ? error : "");
	free_pass(p);
	cfg.done(cfg.arg, &report, error ? text : NULL);
}

/* True: the answer will do.  Otherwise the pass is over. */
static bool
fine(Pass *p, const StoreResult *result)
{
	if (result->date_ms > p->date)
		p->date = result->date_ms;
	if (result->status == STORE_OK)
		return true;
	end(p, result->error ? result->error : "the store is not available");
	return false;
}

/* ------------------------------------------------------------------------------------ sweeping */

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

	if (!fine(p, result))
		return;
	p->victims_gone++;
	sweep(p);
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

	if (!fine(p, result))
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
	sweep(p);
}

/* Deletes what a listing brought, then goes on listing. */
static void
sweep(Pass *p)
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
		end(p, NULL);
		return;
	}
	jobs_list(p->jobs, sweep_prefixes[p->prefix], p->after[0] ? p->after : NULL, swept_list, p);
}

/* ------------------------------------------------------------------------------------ what the state refers to */

static void
mark_batch(Pass *p, const S3am__Batch *batch)
{
	if (batch && batch->segment)
		idset_add(p->segments, batch->segment->epoch, batch->segment->number);
}

/* A segment that a version dropped: not needed by those who read that version or a later one. */
static void
note_dropped(Pass *p, uint64_t epoch, uint64_t number, uint64_t version)
{
	if (version <= p->deletable && version <= p->oldest_pin)
		idset_add(p->dropped, epoch, number);
	else
		idset_add(p->pinned, epoch, number);
}

typedef struct ManifestRead
{
	Pass *p;
	uint64_t version;
} ManifestRead;

static void read_manifests(Pass *p);

static void
manifest_came(void *arg, StoreResult *result)
{
	ManifestRead *r = arg;
	Pass *p = r->p;
	char *error = NULL;
	char key[KEY_SIZE];
	size_t len;
	uint8_t *payload;
	S3am__Manifest *m;

	key_manifest(key, r->version);
	p->manifests_under_way--;
	if (!fine(p, result))
		return;
	payload = envelope_open(ENVELOPE_MANIFEST, p->col->uuid, key, result->data, result->len, &len, NULL, &error);
	m = payload ? s3am__manifest__unpack(&memory_allocator, len, payload) : NULL;
	free(payload);
	if (m == NULL)
	{
		end(p, error ? error : "a manifest is damaged");
		free(error);
		return;
	}
	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++)
			for (size_t t = 0; t < m->steps[i]->txns[j]->n_tables; t++)
				for (size_t b = 0; b < m->steps[i]->txns[j]->tables[t]->n_batches; b++)
					mark_batch(p, m->steps[i]->txns[j]->tables[t]->batches[b]);
	s3am__manifest__free_unpacked(m, NULL);
	read_manifests(p);
}

/* What was read counts only if it was above the boundary all the time: else it was collected, and perhaps created again. */
static void
checked(void *arg, StoreResult *result)
{
	Pass *p = arg;
	char *error = NULL;
	size_t len;
	uint8_t *payload;
	S3am__Boundary *m;
	bool above;

	if (result->status == STORE_NOT_FOUND && p->etag[0] == '\0')
	{
		sweep(p);
		return;
	}
	if (!fine(p, result))
		return;
	payload =
		envelope_open(ENVELOPE_BOUNDARY, p->col->uuid, KEY_BOUNDARY, result->data, result->len, &len, NULL, &error);
	m = payload ? s3am__boundary__unpack(&memory_allocator, len, payload) : NULL;
	free(payload);
	free(error);
	above = m && m->boundary <= p->current->version;
	if (m)
		s3am__boundary__free_unpacked(m, NULL);
	if (above)
		sweep(p);
	else
		end(p, NULL);
}

static void
read_manifests(Pass *p)
{
	char key[KEY_SIZE];

	while (p->next_manifest <= p->version && p->manifests_under_way < AHEAD)
	{
		ManifestRead r = {p, p->next_manifest};

		key_manifest(key, p->next_manifest++);
		p->manifests_under_way++;
		jobs_get_copy(p->jobs, key, manifest_came, &r, sizeof(r));
	}
	if (p->manifests_under_way == 0)
		jobs_get(p->jobs, KEY_BOUNDARY, checked, p);
}

static void
mark_manifests(Pass *p)
{
	p->next_manifest = p->current->version + 1;
	read_manifests(p);
}

static bool
want_page(void *arg, const S3am__PageRef *ref, uint64_t first, uint64_t end)
{
	Pass *p = arg;

	(void) first;
	(void) end;
	/* a page that another checkpoint shares was looked at, and all below it */
	return ref->inside != NULL || idset_add(p->pages, ref->epoch, ref->number);
}

static bool
found_page(void *arg, const S3am__PageRef *ref, S3am__Page *page, uint64_t first, uint64_t end)
{
	Pass *p = arg;

	(void) ref;
	(void) first;
	(void) end;
	for (size_t i = 0; i < page->n_batches; i++)
		mark_batch(p, page->batches[i]->batch);
	for (size_t i = 0; i < page->n_tables; i++)
		if (page->tables[i]->batches)
		{
			p->trees = memory_grow(p->trees, (p->ntrees + 1) * sizeof(void *));
			p->trees[p->ntrees++] = page->tables[i]->batches;
			page->tables[i]->batches = NULL; /* the page goes, its part stays */
		}
	return false;
}

static void
walked(void *arg, StoreStatus status, const char *error)
{
	Pass *p = arg;
	TreeVisitor v = {p, want_page, found_page, walked};

	p->walk = NULL;
	if (status != STORE_OK)
	{
		end(p, error);
		return;
	}
	if (p->tree_at < p->ntrees)
	{
		p->walk = tree_walk(p->col->store, p->col->uuid, p->trees[p->tree_at++], &v);
		tree_run(p->walk);
		return;
	}
	for (size_t i = 0; i < p->ntrees; i++)
		s3am__page_ref__free_unpacked(p->trees[i], NULL);
	p->ntrees = p->tree_at = 0;
	s3am__checkpoint__free_unpacked(p->root, NULL);
	p->root = NULL;
	p->checkpoint_at++;
	mark_next_checkpoint(p);
}

static void
ddl_walked(void *arg, StoreStatus status, const char *error)
{
	Pass *p = arg;
	TreeVisitor v = {p, want_page, found_page, walked};

	p->walk = NULL;
	if (status != STORE_OK)
	{
		end(p, error);
		return;
	}
	p->walk = tree_walk(p->col->store, p->col->uuid, p->root->tables, &v);
	tree_run(p->walk);
}

static void
root_came(void *arg, StoreResult *result)
{
	Pass *p = arg;
	Checkpointed *k = &p->checkpoints[p->checkpoint_at];
	bool current = k->version == p->current->version && k->epoch == p->current->epoch;
	TreeVisitor v = {p, want_page, found_page, ddl_walked};
	char key[KEY_SIZE];
	char *error = NULL;
	size_t len;
	uint8_t *payload;

	if (result->status == STORE_NOT_FOUND && !current)
	{
		/* another collector was faster */
		p->checkpoint_at++;
		mark_next_checkpoint(p);
		return;
	}
	if (!fine(p, result))
		return;
	key_checkpoint(key, k->version, k->epoch);
	payload = envelope_open(ENVELOPE_CHECKPOINT, p->col->uuid, key, result->data, result->len, &len, NULL, &error);
	if (payload)
		p->root = s3am__checkpoint__unpack(&memory_allocator, len, payload);
	free(payload);
	if (p->root == NULL)
	{
		end(p, error ? error : "a checkpoint is damaged");
		free(error);
		return;
	}
	if (current)
		for (size_t i = 0; i < p->root->n_dropped; i++)
			note_dropped(p, p->root->dropped[i]->epoch, p->root->dropped[i]->number, p->root->dropped[i]->version);
	p->walk = tree_walk(p->col->store, p->col->uuid, p->root->ddl, &v);
	tree_run(p->walk);
}

static void
mark_next_checkpoint(Pass *p)
{
	char key[KEY_SIZE];

	while (p->checkpoint_at < p->ncheckpoints && !p->checkpoints[p->checkpoint_at].keep)
		p->checkpoint_at++;
	if (p->checkpoint_at == p->ncheckpoints)
	{
		mark_manifests(p);
		return;
	}
	key_checkpoint(key, p->checkpoints[p->checkpoint_at].version, p->checkpoints[p->checkpoint_at].epoch);
	jobs_get(p->jobs, key, root_came, p);
}

static bool
add_live(void *arg, uint64_t epoch, uint64_t begun_ms)
{
	Pass *p = arg;

	(void) begun_ms;
	p->live = memory_grow(p->live, (p->nlive + 1) * sizeof(uint64_t));
	p->live[p->nlive++] = epoch;
	return true;
}

static void
checkpoints_came(void *arg, StoreResult *result)
{
	Pass *p = arg;
	uint64_t oldest = p->deletable < p->oldest_pin ? p->deletable : p->oldest_pin;
	bool found = false;

	if (!fine(p, result))
		return;
	for (int i = 0; i < result->nentries; i++)
	{
		unsigned long long v, e;
		bool current;

		if (sscanf(result->entries[i].key, "checkpoints/%20llu-%16llx", &v, &e) != 2)
			continue;
		current = v == p->current->version && e == p->current->epoch;
		found = found || current;
		p->checkpoints = memory_grow(p->checkpoints, (p->ncheckpoints + 1) * sizeof(Checkpointed));
		p->checkpoints[p->ncheckpoints++] = (Checkpointed){
			v, e, current || v >= oldest || (p->start && v == p->start->version && e == p->start->epoch)};
	}
	if (result->next)
	{
		jobs_list(p->jobs, "checkpoints/", result->next, checkpoints_came, p);
		return;
	}
	if (!found)
	{
		end(p, "the published checkpoint is not in the list of objects");
		return;
	}
	mark_next_checkpoint(p);
}

/* From here on S is what counts. */
static void
take_state(Pass *p)
{
	Committer *c = p->col->c;
	const S3am__CheckpointRef *current = committer_checkpoint(c);

	if (committer_phase(c) != COMMITTER_READY || current == NULL || p->deletable == 0)
	{
		end(p, NULL);
		return;
	}
	p->version = committer_version(c);
	p->current = checkpoint_ref_copy(current);
	p->last_epoch = committer_last_epoch(c);
	committer_live_epochs(c, add_live, p);
	p->segments = idset_create();
	p->pages = idset_create();
	p->dropped = idset_create();
	p->pinned = idset_create();
	jobs_list(p->jobs, "checkpoints/", NULL, checkpoints_came, p);
}

/* ------------------------------------------------------------------------------------ pins */

typedef struct PinRead
{
	Pass *p;
	void (*next)(Pass *p);
	bool node;
	char key[KEY_SIZE];
} PinRead;

static void read_pins(Pass *p, void (*next)(Pass *p));

static void
pins_done(Pass *p, void (*next)(Pass *p))
{
	if (!p->pins_listed || p->pins_to_read > 0)
		return;
	/* what took their place was written before they went, but maybe after the list was made */
	if (p->pins_gone)
		read_pins(p, next);
	else if (p->pins_again)
		p->pins_wait = next;
	else
		next(p);
}

static void
note_pin_object(Pass *p, bool node, const char *key, const StoreResult *result)
{
	char *error = NULL;
	size_t len;
	uint8_t *payload = envelope_open(node ? ENVELOPE_NODE : ENVELOPE_PIN, p->col->uuid, key, result->data, result->len,
									 &len, NULL, &error);
	uint64_t version = 0; /* what cannot be read keeps everything */

	if (payload && node)
	{
		S3am__Node *m = s3am__node__unpack(&memory_allocator, len, payload);

		version = m ? m->oldest : 0;
		if (m)
			s3am__node__free_unpacked(m, NULL);
	}
	else if (payload)
	{
		S3am__Pin *m = s3am__pin__unpack(&memory_allocator, len, payload);

		version = m ? m->version : 0;
		if (m)
			s3am__pin__free_unpacked(m, NULL);
	}
	free(payload);
	free(error);
	if (version < p->oldest_pin)
		p->oldest_pin = version;
}

static void
pin_came(void *arg, StoreResult *result)
{
	PinRead *r = arg;
	Pass *p = r->p;

	p->pins_to_read--;
	if (result->status == STORE_NOT_FOUND)
		p->pins_gone = true;
	else
	{
		if (!fine(p, result))
			return;
		note_pin_object(p, r->node, r->key, result);
	}
	pins_done(p, r->next);
}

/*
 * Nobody renews it.  Its owner may have been silent because the store was away: as with fencing, who cannot tell waits until that one could be
 * heard.  An epoch that was fenced has been judged.
 */
static void
too_old(Pass *p, bool node, const char *key)
{
	unsigned long long epoch;

	if (p->cfg.dry_run || committer_may_judge(p->col->c, p->cfg.pin_ms) || !RULE(P36_SILENCE))
		return;
	if (!node || sscanf(key, "nodes/%20llu", &epoch) != 1 || committer_epoch_live(p->col->c, epoch))
		p->pins_again = true;
}

static void
pins_came(void *arg, StoreResult *result)
{
	PinRead r = *(PinRead *) arg;
	Pass *p = r.p;

	if (!fine(p, result))
		return;
	for (int i = 0; i < result->nentries; i++)
	{
		if (result->entries[i].modified_ms + (int64_t) p->cfg.pin_ms < result->date_ms)
		{
			too_old(p, r.node, result->entries[i].key);
			continue;
		}
		snprintf(r.key, sizeof(r.key), "%s", result->entries[i].key);
		p->pins_to_read++;
		jobs_get_copy(p->jobs, r.key, pin_came, &r, sizeof(r));
	}
	if (result->next)
		jobs_list_copy(p->jobs, r.node ? "nodes/" : "pins/", result->next, pins_came, &r, sizeof(r));
	else if (!r.node)
	{
		r.node = true;
		jobs_list_copy(p->jobs, "nodes/", NULL, pins_came, &r, sizeof(r));
	}
	else
	{
		p->pins_listed = true;
		pins_done(p, r.next);
	}
}

/*
 * Pins before signs of life: what takes a pin's place is a sign, and written before the pin goes, so it is in the one list or in the
 * other.
 */
static void
read_pins(Pass *p, void (*next)(Pass *p))
{
	PinRead r = {p, next, false, ""};

	p->oldest_pin = UINT64_MAX;
	p->pins_listed = p->pins_again = p->pins_gone = false;
	p->pins_to_read = 0;
	jobs_list_copy(p->jobs, "pins/", NULL, pins_came, &r, sizeof(r));
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
		take_state(p);
		return;
	}
	read_pins(p, take_state);
}

static void
boundary_moved(void *arg, StoreResult *result)
{
	Pass *p = arg;

	if (result->status != STORE_OK)
	{
		/* refused: another one moved it; undecided: the next pass will see */
		end(p, result->status == STORE_PRECONDITION ? NULL : result->error);
		return;
	}
	(void) fine(p, result);
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
		end(p, NULL);
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
		end(p, "out of memory");
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

	if (!fine(p, result))
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
		read_pins(p, move_boundary);
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
			end(p, error ? error : "object \"" KEY_BOUNDARY "\" is damaged");
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
		end(p, result->error);
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
		end(col->pass, "this server's epoch has ended");
		return;
	}
	if (col->pass->pins_wait && committer_may_judge(col->c, col->pass->cfg.pin_ms))
	{
		void (*next)(Pass * p) = col->pass->pins_wait;

		col->pass->pins_wait = NULL;
		read_pins(col->pass, next);
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
