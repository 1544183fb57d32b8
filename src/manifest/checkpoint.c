/*
 * checkpoint.c: see checkpoint.h.
 *
 *   parent's root -> manifests since -> pages that they touch -> new pages -> new root -> a manifest that names it -> the hint
 *
 * Until it is named nothing refers to what was written, and if it never is, that is garbage of this epoch.  The manifests are those
 * that the committer still has, else they are read again from the store: those after the published checkpoint are above the
 * boundary as long as it is the published one, and when it is not any more this one loses (rule 35).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/chain.h"
#include "manifest/checkpoint.h"
#include "manifest/delta.h"
#include "manifest/envelope.h"
#include "manifest/jobs.h"
#include "manifest/keys.h"
#include "manifest/memory.h"
#include "manifest/rules.h"
#include "manifest/tree.h"
#include "manifest/treebuild.h"

#define AHEAD 16 /* manifests read at once, or recalled between two turns of the committer */
#define WRITES 8 /* pages written at once */

typedef struct Slot
{
	struct CheckpointBuild *b;
	uint64_t version;
	bool used, done;
	uint8_t *data;
	size_t len;
	char error[200];
} Slot;

typedef struct Output
{
	uint64_t number;
	uint8_t *payload;
	size_t len;
} Output;

struct CheckpointBuild
{
	CheckpointConfig cfg;
	Committer *c;
	Store *store;
	uint8_t uuid[16];
	uint64_t epoch;
	uint64_t first_page;
	Jobs *jobs;
	S3am__CheckpointRef *parent;
	S3am__Checkpoint *old;
	ChainState state;
	uint64_t target, /* version to reach */
		next_read;
	Slot ahead[AHEAD];
	Delta *delta;
	TreeBuild tree;
	TreeWalk *walk;
	bool walking_tables;
	S3am__PageRef **todo; /* trees of batches to be read, copies */
	DeltaTable **todo_table;
	size_t ntodo, todo_at;
	Output *outputs;
	size_t noutputs, output_capacity, written, started;
	S3am__CheckpointRef ref;
	uint8_t digest[16];
	bool publishing;
	bool more; /* read_more has been put off until the next tick */
};

static void read_more(CheckpointBuild *b);
static void write_more(CheckpointBuild *b);

static void
free_build(CheckpointBuild *b)
{
	if (b->jobs)
		jobs_cancel(b->jobs);
	if (b->walk)
		tree_cancel(b->walk);
	for (int i = 0; i < AHEAD; i++)
		free(b->ahead[i].data);
	for (size_t i = 0; i < b->ntodo; i++)
		s3am__page_ref__free_unpacked(b->todo[i], NULL);
	free(b->todo);
	free(b->todo_table);
	for (size_t i = 0; i < b->noutputs; i++)
		free(b->outputs[i].payload);
	free(b->outputs);
	treebuild_free(&b->tree);
	delta_free(b->delta);
	chain_clear(&b->state);
	if (b->old)
		s3am__checkpoint__free_unpacked(b->old, NULL);
	if (b->parent)
		s3am__checkpoint_ref__free_unpacked(b->parent, NULL);
	free(b);
}

static void
end(CheckpointBuild *b, bool published, const char *error)
{
	CheckpointConfig cfg = b->cfg;
	char text[300];

	snprintf(text, sizeof(text), "%s", error ? error : "");
	free_build(b);
	cfg.done(cfg.arg, published, error ? text : NULL);
}

/* ------------------------------------------------------------------------------------ publishing */

static void
hinted(void *arg, StoreResult *result)
{
	(void) result;
	end(arg, true, NULL);
}

static void
published(void *arg, bool ours)
{
	CheckpointBuild *b = arg;
	S3am__Root root = S3AM__ROOT__INIT;
	uint8_t payload[32];
	size_t len;
	uint8_t *object;

	b->publishing = false;
	if (!ours)
	{
		end(b, false, "another checkpoint was published meanwhile");
		return;
	}
	/* the manifest that was applied last is the one that publishes it */
	root.version = committer_version(b->c);
	len = s3am__root__pack(&root, payload);
	object = envelope_seal(ENVELOPE_ROOT, b->uuid, KEY_ROOT, payload, len, &len);
	if (object)
		jobs_put(b->jobs, KEY_ROOT, object, len, hinted, b);
	else
		end(b, true, NULL);
}

static void
root_written(void *arg, StoreResult *result)
{
	CheckpointBuild *b = arg;

	if (result->status != STORE_OK)
	{
		end(b, false, result->error);
		return;
	}
	if (committer_phase(b->c) != COMMITTER_READY || committer_epoch(b->c) != b->epoch)
	{
		end(b, false, "this server was fenced meanwhile");
		return;
	}
	b->publishing = true;
	committer_publish(b->c, &b->ref, published, b);
}

static void
write_root(CheckpointBuild *b, S3am__Checkpoint *root)
{
	size_t len = s3am__checkpoint__get_packed_size(root);
	uint8_t *payload = memory_need(len + 1);
	uint8_t *object;
	char key[KEY_SIZE];

	s3am__checkpoint__pack(root, payload);
	key_checkpoint(key, root->version, b->epoch);
	object = envelope_seal(ENVELOPE_CHECKPOINT, b->uuid, key, payload, len, &len);
	free(payload);
	if (object == NULL)
	{
		end(b, false, "out of memory");
		return;
	}
	s3am__checkpoint_ref__init(&b->ref);
	b->ref.version = root->version;
	b->ref.epoch = b->epoch;
	b->ref.parent = b->parent ? b->parent->version : 0;
	b->ref.size = len;
	envelope_digest(object, len, b->digest);
	b->ref.digest.data = b->digest;
	b->ref.digest.len = 16;
	jobs_put(b->jobs, key, object, len, root_written, b);
}

/* ------------------------------------------------------------------------------------ the new tree */

static void
carry_dropped(CheckpointBuild *b, S3am__Checkpoint *root)
{
	size_t n = 0;

	root->dropped = memory_need((b->delta->ndropped + (b->old ? b->old->n_dropped : 0) + 1) * sizeof(void *));
	/* what a whole sweep could delete needs no remembering */
	for (size_t i = 0; b->old && i < b->old->n_dropped; i++)
		if (b->old->dropped[i]->version > b->cfg.swept)
		{
			root->dropped[n++] = b->old->dropped[i];
			b->old->dropped[i] = NULL;
		}
	for (size_t i = 0; i < b->delta->ndropped; i++)
		root->dropped[n++] = b->delta->dropped[i];
	b->delta->ndropped = 0;
	root->n_dropped = n;
}

/* The parent's positions of sequences and the newer ones, both ascending. */
static void
merge_sequences(CheckpointBuild *b, S3am__Checkpoint *root)
{
	size_t i = 0, j = 0, nold = b->old ? b->old->n_sequences : 0;
	Delta *d = b->delta;
	S3am__SequenceState **olds = b->old ? b->old->sequences : NULL;

	root->sequences = memory_need((nold + d->nsequences + 1) * sizeof(void *));
	while (i < nold || j < d->nsequences)
	{
		S3am__SequenceState *old = olds && i < nold ? olds[i] : NULL;
		S3am__SequenceState *new = j < d->nsequences ? d->sequences[j] : NULL;
		S3am__SequenceState *keep = old ? old : new;

		if (old && new && old->position->sequence == new->position->sequence)
		{
			keep = delta_position_counts(new->position, new->epoch, old) ? new : old;
			s3am__sequence_state__free_unpacked(keep == new ? old : new, NULL);
			olds[i++] = d->sequences[j++] = NULL;
		}
		else if (old && (new == NULL || old->position->sequence < new->position->sequence))
			olds[i++] = NULL;
		else
		{
			keep = new;
			d->sequences[j++] = NULL;
		}
		root->sequences[root->n_sequences++] = keep;
	}
	d->nsequences = 0;
}

static void
build_root(CheckpointBuild *b)
{
	S3am__Checkpoint *root = memory_need(sizeof(*root));

	s3am__checkpoint__init(root);
	root->version = b->state.version;
	root->manifest_digest.len = 16;
	root->manifest_digest.data = memory_need(16);
	memcpy(root->manifest_digest.data, b->state.digest, 16);
	root->time_ms = b->state.time_ms;
	outcomes_encode(b->state.outcomes, root);
	root->current = b->state.checkpoint ? checkpoint_ref_copy(b->state.checkpoint) : NULL;
	root->tables = treebuild_tables(&b->tree, b->old ? b->old->tables : NULL);
	root->ddl = treebuild_ddl(&b->tree, b->old ? b->old->ddl : NULL);
	carry_dropped(b, root);
	merge_sequences(b, root);
	if (b->tree.failed)
	{
		s3am__checkpoint__free_unpacked(root, NULL);
		end(b, false, "the parent checkpoint is damaged");
		return;
	}
	/* its pages must be there before it is */
	if (b->noutputs == 0)
		write_root(b, root);
	else
	{
		size_t len = s3am__checkpoint__get_packed_size(root);
		uint8_t *bytes = memory_need(len + 1);

		s3am__checkpoint__pack(root, bytes);
		if (b->old)
			s3am__checkpoint__free_unpacked(b->old, NULL);
		b->old = s3am__checkpoint__unpack(&memory_allocator, len, bytes); /* from here on the new one */
		free(bytes);
		write_more(b);
	}
	s3am__checkpoint__free_unpacked(root, NULL);
}

static uint64_t
new_page(void *arg)
{
	return committer_new_page(((CheckpointBuild *) arg)->c);
}

static void
output(void *arg, uint64_t number, uint8_t *payload, size_t len)
{
	CheckpointBuild *b = arg;

	if (b->noutputs == b->output_capacity)
	{
		b->output_capacity = b->output_capacity ? b->output_capacity * 2 : 16;
		b->outputs = memory_grow(b->outputs, b->output_capacity * sizeof(Output));
	}
	b->outputs[b->noutputs++] = (Output){number, payload, len};
}

static void
page_written(void *arg, StoreResult *result)
{
	CheckpointBuild *b = arg;

	if (result->status != STORE_OK)
	{
		end(b, false, result->error);
		return;
	}
	if (++b->written == b->noutputs)
		write_root(b, b->old);
	else
		write_more(b);
}

static void
write_more(CheckpointBuild *b)
{
	while (b->started < b->noutputs && b->started - b->written < WRITES)
	{
		Output *o = &b->outputs[b->started++];
		char key[KEY_SIZE];
		size_t len;
		uint8_t *object;

		key_page(key, b->epoch, o->number);
		object = envelope_seal(ENVELOPE_PAGE, b->uuid, key, o->payload, o->len, &len);
		free(o->payload);
		o->payload = NULL;
		if (object == NULL)
		{
			end(b, false, "out of memory");
			return;
		}
		jobs_put(b->jobs, key, object, len, page_written, b);
	}
}

/* ------------------------------------------------------------------------------------ pages of the parent */

static void next_tree(CheckpointBuild *b);

static void
add_todo(CheckpointBuild *b, const S3am__PageRef *ref, DeltaTable *table)
{
	size_t len;
	uint8_t *bytes;

	if (ref == NULL)
		return;
	b->todo = memory_grow(b->todo, (b->ntodo + 1) * sizeof(void *));
	b->todo_table = memory_grow(b->todo_table, (b->ntodo + 1) * sizeof(void *));
	len = s3am__page_ref__get_packed_size(ref);
	bytes = memory_need(len + 1);
	s3am__page_ref__pack(ref, bytes);
	b->todo[b->ntodo] = s3am__page_ref__unpack(&memory_allocator, len, bytes);
	free(bytes);
	b->todo_table[b->ntodo++] = table;
}

static bool
want_tables(void *arg, const S3am__PageRef *ref, uint64_t first, uint64_t end)
{
	CheckpointBuild *b = arg;
	size_t i = delta_from(b->delta, first);

	(void) ref;
	return i < b->delta->ntables && b->delta->tables[i]->storage < end;
}

static bool
found_tables(void *arg, const S3am__PageRef *ref, S3am__Page *page, uint64_t first, uint64_t end)
{
	CheckpointBuild *b = arg;

	(void) first;
	(void) end;
	for (size_t i = 0; i < page->n_tables; i++)
	{
		size_t j = delta_from(b->delta, page->tables[i]->storage);

		if (j < b->delta->ntables && b->delta->tables[j]->storage == page->tables[i]->storage)
			add_todo(b, page->tables[i]->batches, b->delta->tables[j]);
	}
	if (ref->inside)
		return false;
	treebuild_keep(&b->tree, ref, page);
	return true;
}

static bool
want_batches(void *arg, const S3am__PageRef *ref, uint64_t first, uint64_t end)
{
	CheckpointBuild *b = arg;

	(void) ref;
	return delta_touches(b->todo_table[b->todo_at], first, end);
}

static bool
found_batches(void *arg, const S3am__PageRef *ref, S3am__Page *page, uint64_t first, uint64_t end)
{
	CheckpointBuild *b = arg;
	DeltaTable *table = b->todo_table[b->todo_at];

	(void) first;
	(void) end;
	if (table->dropped)
	{
		/* all of it goes; only its segments matter */
		for (size_t i = 0; i < page->n_batches; i++)
			if (page->batches[i]->batch->segment)
				delta_dropped(b->delta, page->batches[i]->batch->segment, table->dropped);
		return false;
	}
	if (ref->inside)
		return false;
	treebuild_keep(&b->tree, ref, page);
	return true;
}

static bool
want_ddl(void *arg, const S3am__PageRef *ref, uint64_t first, uint64_t end)
{
	(void) ref;
	(void) first;
	return end == UINT64_MAX && ((CheckpointBuild *) arg)->delta->nddl > 0;
}

static bool
found_ddl(void *arg, const S3am__PageRef *ref, S3am__Page *page, uint64_t first, uint64_t end)
{
	(void) first;
	(void) end;
	if (ref->inside)
		return false;
	treebuild_keep(&((CheckpointBuild *) arg)->tree, ref, page);
	return true;
}

static void
all_read(void *arg, StoreStatus status, const char *error)
{
	CheckpointBuild *b = arg;

	b->walk = NULL;
	if (status != STORE_OK)
		end(b, false, error);
	else
		build_root(b);
}

static void
tree_read(void *arg, StoreStatus status, const char *error)
{
	CheckpointBuild *b = arg;

	b->walk = NULL;
	if (status != STORE_OK)
	{
		end(b, false, error);
		return;
	}
	if (b->walking_tables)
		b->walking_tables = false;
	else
		b->todo_at++;
	next_tree(b);
}

static void
next_tree(CheckpointBuild *b)
{
	TreeVisitor batches = {b, want_batches, found_batches, tree_read};
	TreeVisitor ddl = {b, want_ddl, found_ddl, all_read};

	if (b->todo_at < b->ntodo)
		b->walk = tree_walk(b->store, b->uuid, b->todo[b->todo_at], &batches);
	else
		b->walk = tree_walk(b->store, b->uuid, b->old ? b->old->ddl : NULL, &ddl);
	tree_run(b->walk);
}

static void
read_pages(CheckpointBuild *b)
{
	TreeVisitor tables = {b, want_tables, found_tables, tree_read};

	b->walking_tables = true;
	b->walk = tree_walk(b->store, b->uuid, b->old ? b->old->tables : NULL, &tables);
	tree_run(b->walk);
}

/* ------------------------------------------------------------------------------------ manifests */

/* False: the build is over. */
static bool
use_manifest(CheckpointBuild *b, Slot *slot)
{
	char *error = NULL;
	uint8_t digest[16];
	bool *voided;
	S3am__Manifest *m = chain_open(&b->state, b->uuid, slot->data, slot->len, &error);
	bool ok;

	if (m == NULL)
	{
		end(b, false, error);
		free(error);
		return false;
	}
	envelope_digest(slot->data, slot->len, digest);
	voided = chain_apply(&b->state, m, digest);
	ok = delta_add(b->delta, m, voided);
	free(voided);
	s3am__manifest__free_unpacked(m, NULL);
	free(slot->data);
	memset(slot, 0, sizeof(*slot));
	if (!ok)
		end(b, false, "a manifest is damaged");
	return ok;
}

static void
manifest_came(void *arg, StoreResult *result)
{
	Slot *slot = arg;
	CheckpointBuild *b = slot->b;

	slot->done = true;
	if (result->status != STORE_OK)
	{
		/* collected: somebody's checkpoint is newer; or the store is away */
		end(b, false, result->error);
		return;
	}
	slot->len = result->len;
	slot->data = store_take(result);
	read_more(b);
}

/* All that is there of the next ones.  False: the build is over. */
static bool
use_manifests(CheckpointBuild *b)
{
	for (;;)
	{
		Slot *next = &b->ahead[(b->state.version + 1) % AHEAD];

		if (b->state.version >= b->target || !next->used || !next->done || next->version != b->state.version + 1)
			return true;
		if (!use_manifest(b, next))
			return false;
		if (b->delta->bytes >= b->cfg.max_delta)
			b->target = b->state.version;
	}
}

/* one that the committer still has.  No memory for a copy is no harm: it is read. */
static bool
recall(CheckpointBuild *b, Slot *slot)
{
	const uint8_t *object = committer_recent(b->c, slot->version, &slot->len);

	slot->data = object ? malloc(slot->len + 1) : NULL;
	if (slot->data == NULL)
		return false;
	memcpy(slot->data, object, slot->len);
	slot->done = true;
	return true;
}

/*
 * What has come is used, and more is asked for.  Manifests that are recalled take no time to wait for: commits get their turn after
 * every few, and nothing ends the build before checkpoint_begin has returned it.
 */
static void
read_more(CheckpointBuild *b)
{
	char key[KEY_SIZE];

	if (!use_manifests(b))
		return;
	if (b->state.version >= b->target)
	{
		/* what was read ahead of a target that came closer is not wanted */
		jobs_cancel(b->jobs);
		b->jobs = jobs_create(b->store);
		read_pages(b);
		return;
	}
	while (b->next_read <= b->target && b->next_read <= b->state.version + AHEAD)
	{
		Slot *slot = &b->ahead[b->next_read % AHEAD];

		memset(slot, 0, sizeof(*slot));
		slot->b = b;
		slot->used = true;
		slot->version = b->next_read++;
		if (recall(b, slot))
			b->more = true;
		else
		{
			key_manifest(key, slot->version);
			jobs_get(b->jobs, key, manifest_came, slot);
		}
	}
}

static void
parent_came(void *arg, StoreResult *result)
{
	CheckpointBuild *b = arg;
	char *error = NULL;
	Outcomes *outcomes = NULL;

	if (result->status == STORE_OK)
		b->old = chain_open_checkpoint(b->parent, b->uuid, result->data, result->len, &error);
	if (b->old)
		outcomes = outcomes_decode(b->old);
	if (outcomes == NULL)
	{
		end(b, false, error ? error : result->error ? result->error : "the parent checkpoint is damaged");
		free(error);
		return;
	}
	outcomes_free(b->state.outcomes);
	b->state.outcomes = outcomes;
	b->state.version = b->old->version;
	b->state.time_ms = b->old->time_ms;
	memcpy(b->state.digest, b->old->manifest_digest.data, 16);
	b->state.checkpoint = b->old->current ? checkpoint_ref_copy(b->old->current) : NULL;
	b->next_read = b->state.version + 1;
	read_more(b);
}

/* ------------------------------------------------------------------------------------ interface */

CheckpointBuild *
checkpoint_begin(const CheckpointConfig *config, Committer *c, Store *store, const uint8_t uuid[16])
{
	const S3am__CheckpointRef *current = committer_checkpoint(c);
	CheckpointBuild *b;

	if (committer_epoch(c) == 0 || committer_version(c) == 0 || (current && current->version >= committer_version(c)))
		return NULL;
	b = memory_need_zeroed(1, sizeof(*b));
	b->cfg = *config;
	if (b->cfg.max_delta == 0)
		b->cfg.max_delta = 64 << 20;
	b->c = c;
	b->store = store;
	memcpy(b->uuid, uuid, 16);
	b->epoch = committer_epoch(c);
	b->first_page = committer_new_page(c);
	b->jobs = jobs_create(store);
	b->delta = delta_create();
	b->tree = (TreeBuild){b,
						  new_page,
						  output,
						  b->epoch,
						  config->page_bytes ? config->page_bytes : 128 << 10,
						  config->inside_bytes ? config->inside_bytes : 2048,
						  config->fanout ? config->fanout : 500,
						  b->delta,
						  {0},
						  false};
	chain_init(&b->state, config->outcome_retention_ms);
	b->target = committer_version(c);
	b->next_read = 1;
	if (current)
	{
		char key[KEY_SIZE];

		b->parent = checkpoint_ref_copy(current);
		key_checkpoint(key, current->version, current->epoch);
		jobs_get(b->jobs, key, parent_came, b);
	}
	else
		read_more(b);
	return b;
}

bool
checkpoint_tick(CheckpointBuild *b)
{
	if (b == NULL)
		return false;
	jobs_tick(b->jobs);
	if (b->walk)
		tree_tick(b->walk);
	if (!b->more)
		return false;
	b->more = false;
	read_more(b);
	return true; /* b may be gone */
}

void
checkpoint_cancel(CheckpointBuild *b)
{
	if (b)
		free_build(b);
}

uint64_t
checkpoint_first_page(const CheckpointBuild *b)
{
	return b->first_page;
}
