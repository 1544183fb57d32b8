/*
 * restore.c: taking a checkpoint's state, when attaching and after having fallen behind the boundary (rules 2, 30, 35, 36).
 *
 *   boundary -> hint -> the manifest that it points at -> pin -> boundary again -> root -> tables -> done
 *
 * The hint only says which manifest to look at; it is read as evidence like any other.  The pin comes before the second look at
 * the boundary, so that a collector which did not see the pin has moved a boundary that is seen here.  An object that is
 * missing was collected meanwhile: all starts over.  Where there is no checkpoint at all the chain is read from its
 * beginning.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/committer_int.h"
#include "manifest/envelope.h"
#include "manifest/memory.h"

typedef enum Stage
{
	STAGE_BOUNDARY,
	STAGE_HINT,
	STAGE_PROOF,
	STAGE_PIN,
	STAGE_PIN_CHECK,
	STAGE_ROOT,
	STAGE_TABLES
} Stage;

struct Restore
{
	Committer *c;
	Stage stage;
	StoreOp *op;
	TreeWalk *walk;
	uint64_t asked; /* number: a boundary that was asked for after it will do */
	bool hint; /* try the hint */
	uint64_t hint_version;
	S3am__CheckpointRef *ref;
	S3am__Checkpoint *root;
	NextRows *rows;
	uint8_t *pin; /* object */
	uint64_t retry_at; /* 0: something is under way */
	unsigned attempts;
};

static void enter(Restore *r, Stage stage);

void
restore_free(Committer *c)
{
	Restore *r = c->restore;

	c->restore = NULL;
	if (r == NULL)
		return;
	if (r->walk)
		tree_cancel(r->walk);
	if (r->op)
	{
		/* its callback finds that nobody is interested, and frees the rest */
		r->c = NULL;
		store_cancel(c->store, r->op);
	}
	if (r->ref)
		s3am__checkpoint_ref__free_unpacked(r->ref, NULL);
	if (r->root)
		s3am__checkpoint__free_unpacked(r->root, NULL);
	if (r->rows)
		rows_free(r->rows);
	r->ref = NULL;
	r->root = NULL;
	r->rows = NULL;
	if (r->op == NULL)
	{
		free(r->pin);
		free(r);
	}
}

static void
start_over(Restore *r, const char *error)
{
	Committer *c = r->c;

	if (error)
		committer_trouble(c, TROUBLE_RESTORE, error);
	r->hint = r->hint && r->attempts == 0;
	r->attempts++;
	r->stage = STAGE_BOUNDARY;
	r->retry_at = committer_back_off(c, r->attempts);
}

/* Everything is there: the state is replaced. */
static void
finish(Restore *r)
{
	Committer *c = r->c;
	S3am__Checkpoint *root = r->root;
	uint64_t root_version = root->version;
	Outcomes *outcomes = outcomes_decode(root);

	if (outcomes == NULL)
	{
		start_over(r, "a checkpoint is damaged: its outcomes cannot be decoded");
		return;
	}
	outcomes_free(c->state.outcomes);
	c->state.outcomes = outcomes;
	rows_free(c->state.rows);
	c->state.rows = r->rows;
	r->rows = NULL;
	if (c->state.checkpoint)
		s3am__checkpoint_ref__free_unpacked(c->state.checkpoint, NULL);
	c->state.checkpoint = root->current ? checkpoint_ref_copy(root->current) : NULL;
	c->state.version = root->version;
	c->state.time_ms = root->time_ms;
	memcpy(c->state.digest, root->manifest_digest.data, 16);
	window_free(c->window);
	c->window = window_create();
	c->window_first = root->version + 1;
	committer_drop_reads(c);
	/* what was on its way to a slot under the boundary is dead, or in this state */
	put_end(c);
	c->cfg.restored(c->cfg.arg, root);
	c->attached = true;
	c->must_restore = false;
	restore_free(c);
	committer_well(c, TROUBLE_RESTORE);
	/* the pin was written a moment ago; from here on it is renewed */
	c->pinned = root_version;
	lease_begin(c);
	pending_settle(c, false);
	if (c->epoch && outcomes_fenced(c->state.outcomes, c->epoch) && c->phase == COMMITTER_READY)
	{
		committer_set_phase(c, COMMITTER_FENCED, "this server was fenced while it was away");
		committer_end_publish(c, false);
		pending_release(c);
	}
	c->poll_at = 0;
	committer_advance(c);
}

static bool
found_page(void *arg, const S3am__PageRef *ref, S3am__Page *page, uint64_t first, uint64_t end)
{
	Restore *r = arg;

	(void) ref;
	(void) first;
	(void) end;
	for (size_t i = 0; i < page->n_tables; i++)
		rows_set(r->rows, page->tables[i]->storage, page->tables[i]->next_row);
	return false;
}

static void
walked(void *arg, StoreStatus status, const char *error)
{
	Restore *r = arg;

	r->walk = NULL;
	if (status == STORE_OK)
		finish(r);
	else
		start_over(r, status == STORE_NOT_FOUND ? NULL : error);
}

static void
got_root(Restore *r, StoreResult *result)
{
	Committer *c = r->c;
	char *error = NULL;

	r->root = chain_open_checkpoint(r->ref, c->uuid, result->data, result->len, &error);
	if (r->root == NULL)
	{
		start_over(r, error);
		free(error);
		return;
	}
	enter(r, STAGE_TABLES);
}

/* The manifest that the hint points at: does it publish a checkpoint? */
static void
got_proof(Restore *r, StoreResult *result)
{
	Committer *c = r->c;
	Evidence e = {r->hint_version, result->date_ms, c->number};
	char key[KEY_SIZE];
	char *error = NULL;
	size_t len;
	uint8_t *payload = NULL;
	S3am__Manifest *m = NULL;

	key_manifest(key, r->hint_version);
	if (result->status == STORE_OK && committer_judge(c, &e, true) == VERDICT_GOOD)
		payload = envelope_open(ENVELOPE_MANIFEST, c->uuid, key, result->data, result->len, &len, NULL, &error);
	if (payload)
		m = s3am__manifest__unpack(&memory_allocator, len, payload);
	free(payload);
	free(error);
	if (m && m->version == r->hint_version && m->checkpoint &&
		(r->ref == NULL || m->checkpoint->version > r->ref->version) && m->checkpoint->version > c->state.version)
	{
		if (r->ref)
			s3am__checkpoint_ref__free_unpacked(r->ref, NULL);
		r->ref = checkpoint_ref_copy(m->checkpoint);
	}
	if (m)
		s3am__manifest__free_unpacked(m, NULL);
	enter(r, STAGE_PIN);
}

static void
got_hint(Restore *r, StoreResult *result)
{
	Committer *c = r->c;
	char *error = NULL;
	size_t len;
	uint8_t *payload = NULL;
	S3am__Root *root = NULL;

	if (result->status == STORE_OK)
		payload = envelope_open(ENVELOPE_ROOT, c->uuid, KEY_ROOT, result->data, result->len, &len, NULL, &error);
	if (payload)
		root = s3am__root__unpack(&memory_allocator, len, payload);
	free(payload);
	free(error);
	r->hint_version = root ? root->version : 0;
	if (root)
		s3am__root__free_unpacked(root, NULL);
	enter(r, r->hint_version > c->boundary.value ? STAGE_PROOF : STAGE_PIN);
}

static void
came(void *arg, StoreResult *result)
{
	Restore *r = arg;
	Committer *c = r->c;

	r->op = NULL;
	if (c == NULL)
	{
		free(r->pin);
		free(r);
		return;
	}
	committer_saw_date(c, result);
	c->number++;
	if (r->stage == STAGE_HINT)
		got_hint(r, result);
	else if (r->stage == STAGE_PROOF)
		got_proof(r, result);
	else if (result->status != STORE_OK)
		start_over(r, result->status == STORE_NOT_FOUND ? NULL : result->error);
	else if (r->stage == STAGE_PIN)
		enter(r, STAGE_PIN_CHECK);
	else if (r->stage == STAGE_ROOT)
		got_root(r, result);
}

/* Was there memory for the request? */
static void
check_begun(Restore *r)
{
	if (r->op == NULL)
		start_over(r, "out of memory");
}

static void
write_pin(Restore *r)
{
	Committer *c = r->c;
	S3am__Pin message = S3AM__PIN__INIT;
	uint8_t payload[64];
	char key[KEY_SIZE];
	size_t len;
	uint64_t oldest = c->cfg.oldest_read ? c->cfg.oldest_read(c->cfg.arg) : 0;

	if (!lease_pin(c))
	{
		start_over(r, NULL);
		return;
	}
	/* an owner that was here before may still have readers of what it had then */
	message.version = oldest > 0 && oldest < r->ref->version ? oldest : r->ref->version;
	message.epoch = c->epoch;
	len = s3am__pin__pack(&message, payload);
	key_pin(key, c->nonce);
	free(r->pin);
	r->pin = envelope_seal(ENVELOPE_PIN, c->uuid, key, payload, len, &len);
	if (r->pin)
		r->op = store_put(c->store, key, r->pin, len, came, r);
	check_begun(r);
}

static void
enter(Restore *r, Stage stage)
{
	Committer *c = r->c;
	char key[KEY_SIZE];

	r->stage = stage;
	r->retry_at = 0;
	switch (stage)
	{
		case STAGE_BOUNDARY:
		case STAGE_PIN_CHECK:
			r->asked = c->number;
			c->boundary_wanted = true;
			committer_read_boundary(c);
			break;
		case STAGE_HINT:
			r->op = store_get(c->store, KEY_ROOT, 0, -1, came, r);
			check_begun(r);
			break;
		case STAGE_PROOF:
			key_manifest(key, r->hint_version);
			r->op = store_get(c->store, key, 0, -1, came, r);
			check_begun(r);
			break;
		case STAGE_PIN:
			if (r->ref == NULL)
			{
				/* no checkpoint yet: the chain is read from its first manifest */
				if (c->must_restore || c->boundary.value > 0)
				{
					start_over(r, "object \"" KEY_BOUNDARY "\" names no checkpoint, though manifests were collected");
					break;
				}
				c->attached = true;
				restore_free(c);
				committer_well(c, TROUBLE_RESTORE);
				committer_advance(c);
				break;
			}
			write_pin(r);
			break;
		case STAGE_ROOT:
			key_checkpoint(key, r->ref->version, r->ref->epoch);
			r->op = store_get(c->store, key, 0, -1, came, r);
			check_begun(r);
			break;
		case STAGE_TABLES:
		{
			TreeVisitor v = {r, NULL, found_page, walked};

			r->rows = rows_create();
			r->walk = tree_walk(c->store, c->uuid, r->root->tables, &v);
			tree_run(r->walk);
		}
		break;
	}
}

void
restore_boundary_came(Committer *c)
{
	Restore *r = c->restore;

	if (r == NULL || r->retry_at || (r->stage != STAGE_BOUNDARY && r->stage != STAGE_PIN_CHECK))
		return;
	if (c->boundary.sent <= r->asked)
	{
		c->boundary_wanted = true; /* that one was under way before */
		return;
	}
	if (r->stage == STAGE_PIN_CHECK)
	{
		if (RULE(P36_PIN_CHECK) && c->boundary.value > r->ref->version)
			start_over(r, NULL);
		else
			enter(r, STAGE_ROOT);
		return;
	}
	if (r->ref)
		s3am__checkpoint_ref__free_unpacked(r->ref, NULL);
	r->ref = NULL;
	if (r->root)
		s3am__checkpoint__free_unpacked(r->root, NULL);
	r->root = NULL;
	if (r->rows)
		rows_free(r->rows);
	r->rows = NULL;
	if (c->boundary.checkpoint && c->boundary.checkpoint->version > c->state.version)
		r->ref = checkpoint_ref_copy(c->boundary.checkpoint);
	enter(r, r->hint ? STAGE_HINT : STAGE_PIN);
}

bool
committer_reading_checkpoint(const Committer *c)
{
	return c->restore && c->restore->retry_at == 0 &&
		   (c->restore->stage == STAGE_ROOT || c->restore->stage == STAGE_TABLES);
}

void
restore_begin(Committer *c)
{
	Restore *r = memory_need_zeroed(1, sizeof(*r));

	r->c = c;
	r->hint = true;
	c->restore = r;
	enter(r, STAGE_BOUNDARY);
}

void
restore_tick(Committer *c)
{
	Restore *r = c->restore;

	if (r && r->walk)
		tree_tick(r->walk);
	if (r && r->retry_at && committer_now(c) >= r->retry_at)
		enter(r, STAGE_BOUNDARY);
}
