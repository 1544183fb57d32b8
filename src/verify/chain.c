/*
 * chain.c: the repository object, the boundary, the pin, and the manifests from the boundary to the head.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "node/bucket.h"
#include "verify/verify.h"

#define AHEAD 16
#define PIN_RENEW_MS (5 * 60 * 1000)

bool
verify_repository(Verify *v)
{
	static const uint8 none[16] = {0};
	S3Node *node = node_of_database(MyDatabaseId);
	uint8 read[16];
	S3am__Repository *m;

	memset(v->uuid, 0, sizeof(v->uuid));
	m = (S3am__Repository *) verify_object(v, NULL, KEY_REPOSITORY, ENVELOPE_REPOSITORY, &s3am__repository__descriptor,
										   "repository", NULL, NULL);
	memcpy(read, v->uuid, sizeof(read));
	if (node && memcmp(node->repository, none, sizeof(none)) != 0)
	{
		/* another repository's object in its place is a sound one */
		memcpy(v->uuid, node->repository, sizeof(v->uuid));
		if (m && memcmp(v->uuid, read, sizeof(read)) != 0)
			verify_problem(v, KEY_REPOSITORY, "repository", "it is not the repository that this server is attached to");
	}
	else if (m == NULL)
		return false;
	if (m)
		v->state.retention_ms = m->outcome_retention_ms;
	MemoryContextReset(v->object_cxt);
	return true;
}

void
verify_boundary(Verify *v)
{
	bool absent;
	S3am__Boundary *m = (S3am__Boundary *) verify_object(v, NULL, KEY_BOUNDARY, ENVELOPE_BOUNDARY,
														 &s3am__boundary__descriptor, "boundary", &absent, NULL);

	v->boundary = m ? m->boundary : 0;
	v->start = m && m->checkpoint ? checkpoint_ref_copy(m->checkpoint) : NULL;
	v->blind = m == NULL && !absent;
	if (v->blind && v->lowest != PG_UINT64_MAX)
		v->boundary = v->lowest - 1; /* what is there must do */
	if (m && m->boundary > (m->checkpoint ? m->checkpoint->version : 0))
		verify_problem(v, KEY_BOUNDARY, "boundary", "it is above the checkpoint that it names");
	MemoryContextReset(v->object_cxt);
}

bool
verify_boundary_passed(Verify *v, uint64 version)
{
	bool quiet = v->quiet, absent;
	S3am__Boundary *m;
	bool passed;

	v->quiet = true; /* it was judged before */
	m = (S3am__Boundary *) verify_object(v, NULL, KEY_BOUNDARY, ENVELOPE_BOUNDARY, &s3am__boundary__descriptor,
										 "boundary", &absent, NULL);
	v->quiet = quiet;
	passed = m && m->boundary > version;
	MemoryContextReset(v->object_cxt);
	return passed;
}

/* ------------------------------------------------------------------------------------ the pin */

void
verify_pin(Verify *v)
{
	S3am__Pin pin = S3AM__PIN__INIT;
	char key[KEY_SIZE];
	char *error = NULL;
	size_t len;
	uint8 *payload, *object;
	bool fine;

	if (!v->pinned && !pg_strong_random(v->nonce, sizeof(v->nonce)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	pin.version = v->start ? v->start->version : 0;
	key_pin(key, v->nonce);
	len = s3am__pin__get_packed_size(&pin);
	payload = palloc(len + 1);
	(void) s3am__pin__pack(&pin, payload);
	object = envelope_seal(ENVELOPE_PIN, v->uuid, key, payload, len, &len);
	pfree(payload);
	if (object == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	PG_TRY();
	{
		fine = verify_put(v, key, object, len, &error);
	}
	PG_FINALLY();
	{
		free(object);
	}
	PG_END_TRY();
	v->pinned_at = GetCurrentTimestamp();
	if (fine)
		v->pinned = true;
	else if (!v->pinned)
		ereport(NOTICE, (errmsg("the repository cannot be written, so nothing keeps what is read from being collected"),
						 errdetail("%s", error)));
}

void
verify_pin_renew(Verify *v)
{
	if (v->pinned && TimestampDifferenceExceeds(v->pinned_at, GetCurrentTimestamp(), PIN_RENEW_MS))
		verify_pin(v);
}

void
verify_unpin(Verify *v)
{
	char key[KEY_SIZE];
	char *error;

	key_pin(key, v->nonce);
	if (v->pinned)
		(void) verify_remove(v, key, &error); /* else collection does it */
	v->pinned = false;
}

static void
unpinned(void *arg, StoreResult *result)
{
}

void
verify_unpin_quietly(Verify *v)
{
	char key[KEY_SIZE];

	key_pin(key, v->nonce);
	if (v->pinned && store_remove(v->store, key, unpinned, NULL))
		store_dispatch(v->store);
	v->pinned = false;
}

/* ------------------------------------------------------------------------------------ manifests */

typedef void (*EachManifest)(Verify *v, const char *key, const S3am__Manifest *m, const bool *voided);

typedef struct Walk
{
	ChainState *state;
	bool blind;
	uint64 next; /* version */
	uint64 last; /* or 0: to the head */
	bool digest_known; /* of the one before it */
	uint8 digest[16];
	EachManifest each;
	Fetch *ahead[AHEAD];
	uint64 asked; /* versions before this one were asked for */
} Walk;

static S3am__Manifest *
read_manifest(Verify *v, Walk *w, char *key, bool *absent, uint8 digest[16])
{
	Fetch *f;
	S3am__Manifest *m;

	for (; w->asked < w->next + AHEAD; w->asked++)
	{
		key_manifest(key, w->asked);
		w->ahead[w->asked % AHEAD] = fetch_begin(v, key, 0, -1);
	}
	f = w->ahead[w->next % AHEAD];
	key_manifest(key, w->next);
	fetch_wait(v, f);
	if (f->status == STORE_NOT_FOUND && w->next <= v->known)
	{
		/* it may have come since it was asked for */
		fetch_free(v, f);
		f = NULL;
	}
	m = (S3am__Manifest *) verify_object(v, f, key, ENVELOPE_MANIFEST, &s3am__manifest__descriptor, "manifest", absent,
										 digest);
	return m;
}

/* Row ids go on where those before them ended. */
static void
check_row_ids(Verify *v, const char *key, const ChainState *state, const S3am__Manifest *m)
{
	NextRows *rows = rows_copy(state->rows);

	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++)
		{
			const S3am__Txn *txn = m->steps[i]->txns[j];

			if (txn->id == NULL || outcomes_fenced(state->outcomes, txn->id->epoch) ||
				outcomes_get(state->outcomes, txn->id->epoch, txn->id->seq) != ID_UNKNOWN)
				continue;
			for (size_t t = 0; t < txn->n_tables; t++)
			{
				const S3am__TableEdit *edit = txn->tables[t];
				uint64 next = rows_next(rows, edit->storage);

				if (edit->n_batches && edit->n_drop_batches == 0 && edit->first_row != next)
					verify_problem(v, key, "manifest",
								   "rows that it adds to storage " UINT64_FORMAT " begin at " UINT64_FORMAT
								   ", those before it end at " UINT64_FORMAT,
								   edit->storage, edit->first_row, next);
				if (!verify_rowset(edit->removed, 0, PG_UINT64_MAX) || !verify_rowset(edit->replaced, 0, PG_UINT64_MAX))
					verify_problem(v, key, "manifest", "a set of removed rows cannot be decoded");
			}
			rows_apply(rows, txn);
		}
	rows_free(rows);
}

static void
one_manifest(Verify *v, Walk *w, const char *key, const S3am__Manifest *m, const uint8 digest[16])
{
	bool *voided = NULL;

	if (m->version != w->next)
		verify_problem(v, key, "manifest", "it says that it is version " UINT64_FORMAT, m->version);
	if (w->digest_known && (m->predecessor.len != (w->next == 1 ? 0 : 16) ||
							memcmp(m->predecessor.data, w->digest, m->predecessor.len) != 0))
		verify_problem(v, key, "manifest", "it does not follow the manifest before it: one of the two was replaced");
	if (w->next == w->state->version && w->state->version > 0 && memcmp(w->state->digest, digest, 16) != 0)
		verify_problem(v, key, "manifest", "it is not the one that the checkpoint of this version was made from");
	memcpy(w->digest, digest, 16);
	w->digest_known = true;
	if (w->next > w->state->version)
	{
		if (!w->blind)
			check_row_ids(v, key, w->state, m);
		voided = chain_apply(w->state, m, digest);
		/* who does not know which epochs lived, and which checkpoint was published, believes it */
		if (w->blind && m->checkpoint &&
			(w->state->checkpoint == NULL || w->state->checkpoint->version < m->checkpoint->version))
		{
			if (w->state->checkpoint)
				s3am__checkpoint_ref__free_unpacked(w->state->checkpoint, NULL);
			w->state->checkpoint = checkpoint_ref_copy(m->checkpoint);
		}
	}
	w->each(v, key, m, w->blind ? NULL : voided);
	free(voided);
}

static void
walk_manifests(Verify *v, Walk *w)
{
	char key[KEY_SIZE];
	uint64 used = w->next;

	w->asked = w->next;
	for (; w->last == 0 || w->next <= w->last; w->next++)
	{
		bool absent;
		uint8 digest[16];
		S3am__Manifest *m;

		CHECK_FOR_INTERRUPTS();
		verify_pin_renew(v);
		m = read_manifest(v, w, key, &absent, digest);
		used = w->next + 1;
		if (m)
			one_manifest(v, w, key, m, digest);
		else
		{
			if (absent && w->next > v->known)
				break;
			if (absent && verify_boundary_passed(v, w->next - 1))
			{
				v->restart = true;
				break;
			}
			key_manifest(key, w->next);
			if (absent)
				verify_problem(v, key, "manifest", "it is missing, though later versions exist");
			w->digest_known = false;
			w->blind = true;
		}
		MemoryContextReset(v->object_cxt);
	}
	/* those that were asked for and not looked at */
	for (uint64 version = used; version < w->asked; version++)
		fetch_free(v, w->ahead[version % AHEAD]);
}

static void
begin_state(ChainState *state, const S3am__Checkpoint *root, NextRows *rows, uint64 retention_ms)
{
	Outcomes *outcomes = root ? outcomes_decode(root) : NULL;

	chain_init(state, retention_ms);
	if (root == NULL)
		return;
	/* first what may throw: from here on each thing has one owner */
	state->checkpoint = root->current ? checkpoint_ref_copy(root->current) : NULL;
	if (outcomes)
	{
		outcomes_free(state->outcomes);
		state->outcomes = outcomes;
	}
	if (rows)
	{
		rows_free(state->rows);
		state->rows = rows;
	}
	state->version = root->version;
	state->time_ms = root->time_ms;
	memcpy(state->digest, root->manifest_digest.data, 16);
}

static void
note_names(Verify *v, const char *key, const S3am__Manifest *m, const bool *voided)
{
	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++)
			for (size_t t = 0; t < m->steps[i]->txns[j]->n_tables; t++)
			{
				const S3am__TableEdit *edit = m->steps[i]->txns[j]->tables[t];

				for (size_t b = 0; b < edit->n_batches; b++)
					if (edit->batches[b]->segment)
						(void) idset_add(v->named, edit->batches[b]->segment->epoch, edit->batches[b]->segment->number);
			}
	if (m->checkpoint)
		(void) idset_add(v->roots, m->checkpoint->version, m->checkpoint->epoch);
}

void
verify_chain(Verify *v, const S3am__Checkpoint *root)
{
	uint64 retention_ms = v->state.retention_ms;
	Walk w = {.state = &v->state, .next = v->boundary + 1, .each = note_names};

	begin_state(&v->state, root, v->rows, retention_ms);
	v->rows = NULL;
	if (root == NULL && v->boundary > 0)
		v->blind = true;
	w.blind = v->blind;
	w.digest_known = v->boundary == 0 && !v->blind;
	if (root && v->boundary == root->version)
	{
		memcpy(w.digest, v->state.digest, 16);
		w.digest_known = true;
	}
	walk_manifests(v, &w);
	v->blind = w.blind;
	v->state.version = w.next - 1;
	/* the manifest that publishes what the boundary names may be one of those that cannot be read: the one before it may be gone by right */
	if (v->blind && root && (v->state.checkpoint == NULL || v->state.checkpoint->version < v->start->version))
	{
		if (v->state.checkpoint)
			s3am__checkpoint_ref__free_unpacked(v->state.checkpoint, NULL);
		v->state.checkpoint = checkpoint_ref_copy(v->start);
	}
}

static void
note_batches(Verify *v, const char *key, const S3am__Manifest *m, const bool *voided)
{
	size_t n = 0;

	v->quiet = false;
	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++, n++)
			for (size_t t = 0; t < m->steps[i]->txns[j]->n_tables && !(voided && voided[n]); t++)
			{
				const S3am__TableEdit *edit = m->steps[i]->txns[j]->tables[t];

				for (size_t b = 0; b < edit->n_batches; b++)
					verify_batch(v, key, edit->batches[b]);
			}
	v->quiet = true;
}

void
verify_recent(Verify *v, const S3am__Checkpoint *root)
{
	ChainState state;
	/* as far as the state goes: what came since is left alone */
	Walk w = {.state = &state,
			  .next = root ? root->version + 1 : v->boundary + 1,
			  .last = v->state.version,
			  .each = note_batches};

	if (w.next > w.last)
		return;
	v->quiet = true;
	begin_state(&state, root, NULL, v->state.retention_ms);
	w.blind = v->blind || (root == NULL && w.next > 1);
	PG_TRY();
	{
		walk_manifests(v, &w);
	}
	PG_FINALLY();
	{
		chain_clear(&state);
		v->quiet = false;
	}
	PG_END_TRY();
}
