/*
 * collect_mark.c: what the state refers to, which stays.
 *
 * It is judged at one version S of the committer, which also says which epochs are fenced then (rule 13): the objects that
 * checkpoints name which are kept, and those that manifests up to S name which no kept checkpoint has yet.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/chain.h"
#include "manifest/collect_pass.h"
#include "manifest/envelope.h"
#include "manifest/memory.h"
#include "manifest/rules.h"

#define AHEAD 16 /* manifests that are read at once */

static void mark_next_checkpoint(Pass *p);

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
	if (!pass_fine(p, result))
		return;
	payload = envelope_open(ENVELOPE_MANIFEST, p->col->uuid, key, result->data, result->len, &len, NULL, &error);
	m = payload ? s3am__manifest__unpack(&memory_allocator, len, payload) : NULL;
	free(payload);
	if (m == NULL)
	{
		pass_end(p, error ? error : "a manifest is damaged");
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
		pass_sweep(p);
		return;
	}
	if (!pass_fine(p, result))
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
		pass_sweep(p);
	else
		pass_end(p, NULL);
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
		pass_end(p, error);
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
		pass_end(p, error);
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
	if (!pass_fine(p, result))
		return;
	key_checkpoint(key, k->version, k->epoch);
	payload = envelope_open(ENVELOPE_CHECKPOINT, p->col->uuid, key, result->data, result->len, &len, NULL, &error);
	if (payload)
		p->root = s3am__checkpoint__unpack(&memory_allocator, len, payload);
	free(payload);
	if (p->root == NULL)
	{
		pass_end(p, error ? error : "a checkpoint is damaged");
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

	if (!pass_fine(p, result))
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
		pass_end(p, "the published checkpoint is not in the list of objects");
		return;
	}
	mark_next_checkpoint(p);
}

/* From here on S is what counts. */
void
pass_mark(Pass *p)
{
	Committer *c = p->col->c;
	const S3am__CheckpointRef *current = committer_checkpoint(c);

	if (committer_phase(c) != COMMITTER_READY || current == NULL || p->deletable == 0)
	{
		pass_end(p, NULL);
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
