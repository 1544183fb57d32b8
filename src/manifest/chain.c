/*
 * chain.c: see chain.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/chain.h"
#include "manifest/envelope.h"
#include "manifest/keys.h"
#include "manifest/memory.h"
#include "manifest/rules.h"

void
chain_init(ChainState *state, uint64_t outcome_retention_ms)
{
	memset(state, 0, sizeof(*state));
	state->outcomes = outcomes_create();
	state->rows = rows_create();
	state->retention_ms = outcome_retention_ms;
}

void
chain_clear(ChainState *state)
{
	outcomes_free(state->outcomes);
	rows_free(state->rows);
	if (state->checkpoint)
		s3am__checkpoint_ref__free_unpacked(state->checkpoint, NULL);
	memset(state, 0, sizeof(*state));
}

static void
complain(char **error, const char *key, const char *what)
{
	char text[256];

	snprintf(text, sizeof(text), "object \"%s\" %s", key, what);
	*error = memory_copy_text(text);
}

S3am__Manifest *
chain_open(const ChainState *state, const uint8_t uuid[16], const uint8_t *object, size_t object_len, char **error)
{
	char key[KEY_SIZE];
	size_t len;
	uint8_t *payload;
	S3am__Manifest *m;

	key_manifest(key, state->version + 1);
	payload = envelope_open(ENVELOPE_MANIFEST, uuid, key, object, object_len, &len, NULL, error);
	if (payload == NULL)
		return NULL;
	m = s3am__manifest__unpack(&memory_allocator, len, payload);
	free(payload);
	if (m == NULL || m->version != state->version + 1)
		complain(error, key, "is damaged: it is not the manifest that belongs there");
	else if (RULE(P6_DIGEST) && state->version > 0 &&
			 (m->predecessor.len != 16 || memcmp(m->predecessor.data, state->digest, 16) != 0))
		complain(error, key, "does not follow the manifest before it: the chain was tampered with");
	else
		return m;
	if (m)
		s3am__manifest__free_unpacked(m, NULL);
	return NULL;
}

S3am__CheckpointRef *
checkpoint_ref_copy(const S3am__CheckpointRef *ref)
{
	S3am__CheckpointRef *copy = memory_need(sizeof(*copy));

	s3am__checkpoint_ref__init(copy);
	copy->version = ref->version;
	copy->epoch = ref->epoch;
	copy->parent = ref->parent;
	copy->size = ref->size;
	copy->digest.len = ref->digest.len;
	copy->digest.data = memory_need(ref->digest.len + 1);
	memcpy(copy->digest.data, ref->digest.data, ref->digest.len);
	return copy;
}

bool
chain_checkpoint_fits(const ChainState *state, const S3am__CheckpointRef *ref)
{
	uint64_t current = state->checkpoint ? state->checkpoint->version : 0;

	if (!RULE(P35_PARENT))
		return ref->version <= state->version;
	return ref->parent == current && ref->version > current && ref->version <= state->version &&
		   !outcomes_fenced(state->outcomes, ref->epoch);
}

static void
apply_epoch(ChainState *state, const S3am__EpochEdit *e)
{
	if (e->kind == S3AM__EPOCH_EDIT__KIND__BEGIN)
		outcomes_begin_epoch(state->outcomes, e->epoch, e->node.data, e->node.len, state->time_ms);
	else
		outcomes_fence(state->outcomes, e->epoch, state->time_ms);
}

bool *
chain_apply(ChainState *state, const S3am__Manifest *m, const uint8_t digest[16])
{
	size_t n = 0;
	bool *voided;

	for (size_t i = 0; i < m->n_steps; i++)
		n += m->steps[i]->n_txns;
	voided = memory_need_zeroed(n + 1, sizeof(bool));
	n = 0;
	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++, n++)
		{
			const S3am__Txn *txn = m->steps[i]->txns[j];

			voided[n] = txn->id == NULL || (RULE(P12_REFUSE) && outcomes_fenced(state->outcomes, txn->id->epoch)) ||
						(RULE(P7_VOID) && outcomes_get(state->outcomes, txn->id->epoch, txn->id->seq) != ID_UNKNOWN);
			if (voided[n])
				continue;
			outcomes_set(state->outcomes, txn->id->epoch, txn->id->seq, ID_COMMITTED);
			rows_apply(state->rows, txn);
		}
	if (m->checkpoint && chain_checkpoint_fits(state, m->checkpoint))
	{
		S3am__CheckpointRef *before = state->checkpoint;

		state->checkpoint = checkpoint_ref_copy(m->checkpoint);
		if (before)
			s3am__checkpoint_ref__free_unpacked(before, NULL);
	}
	if (m->time_ms > state->time_ms)
		state->time_ms = m->time_ms;
	for (size_t i = 0; i < m->n_abort_marks; i++)
		outcomes_set(state->outcomes, m->abort_marks[i]->epoch, m->abort_marks[i]->seq, ID_ABORTED);
	for (size_t i = 0; i < m->n_epochs; i++)
		apply_epoch(state, m->epochs[i]);
	if (state->time_ms > state->retention_ms)
		outcomes_expire(state->outcomes, state->time_ms - state->retention_ms);
	state->version = m->version;
	memcpy(state->digest, digest, 16);
	return voided;
}

S3am__Checkpoint *
chain_open_checkpoint(const S3am__CheckpointRef *ref, const uint8_t uuid[16], const uint8_t *object, size_t object_len,
					  char **error)
{
	char key[KEY_SIZE];
	uint8_t digest[16];
	size_t len;
	uint8_t *payload;
	S3am__Checkpoint *root;

	key_checkpoint(key, ref->version, ref->epoch);
	envelope_digest(object, object_len, digest);
	if (ref->digest.len != 16 || memcmp(ref->digest.data, digest, 16) != 0)
	{
		complain(error, key, "is damaged: it is not the checkpoint that was published");
		return NULL;
	}
	payload = envelope_open(ENVELOPE_CHECKPOINT, uuid, key, object, object_len, &len, NULL, error);
	if (payload == NULL)
		return NULL;
	root = s3am__checkpoint__unpack(&memory_allocator, len, payload);
	free(payload);
	if (root == NULL || root->version != ref->version || root->manifest_digest.len != 16)
	{
		complain(error, key, "is damaged: it cannot be decoded");
		if (root)
			s3am__checkpoint__free_unpacked(root, NULL);
		return NULL;
	}
	return root;
}
