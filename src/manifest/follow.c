/*
 * follow.c: reading the chain, and what counts as evidence.
 *
 * What the store says about a slot is held against the boundary before it is used (rules 2, 3, 30): a slot at or under it may
 * have been collected and created again.  A copy of the boundary will do if it was read less than G before, both by the
 * store's own clock, since the collector waits 2G before it deletes; or if it was asked for after the answer about the
 * slot had come.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/committer_int.h"
#include "manifest/envelope.h"
#include "manifest/memory.h"

/* ------------------------------------------------------------------------------------ the boundary */

Verdict
committer_judge(Committer *c, const Evidence *e, bool rule)
{
	const BoundaryCopy *b = &c->boundary;

	if (!rule)
		return VERDICT_GOOD;
	/* it never moves back, so an old copy can say no, too */
	if (b->known && e->slot <= b->value)
		return VERDICT_UNDER;
	if (b->known && b->sent > e->number)
		return VERDICT_GOOD;
	if (b->known && b->date && e->date && e->date < b->date + (int64_t) c->grace_ms)
		return VERDICT_GOOD;
	if (b->known && !RULE(P3_FRESH_COPY))
		return VERDICT_GOOD;
	c->boundary_wanted = true;
	return VERDICT_ASK;
}

static void
boundary_came(void *arg, StoreResult *result)
{
	Committer *c = arg;
	BoundaryCopy *b = &c->boundary;
	char *error = NULL;
	size_t len;
	uint8_t *payload = NULL;
	S3am__Boundary *message = NULL;

	c->boundary_op = NULL;
	if (c->closing)
		return;
	committer_saw_date(c, result);
	c->number++;
	if (result->status == STORE_OK)
	{
		payload =
			envelope_open(ENVELOPE_BOUNDARY, c->uuid, KEY_BOUNDARY, result->data, result->len, &len, NULL, &error);
		if (payload)
			message = s3am__boundary__unpack(&memory_allocator, len, payload);
		free(payload);
		if (message == NULL)
		{
			committer_trouble(c, TROUBLE_BOUNDARY, error ? error : "object \"" KEY_BOUNDARY "\" is damaged");
			free(error);
			c->boundary_retry_at = committer_now(c) + 500;
			return;
		}
	}
	else if (result->status != STORE_NOT_FOUND)
	{
		committer_trouble(c, TROUBLE_BOUNDARY, result->error);
		c->boundary_retry_at = committer_back_off(c, 3);
		return;
	}
	if (!b->known || (message && message->boundary >= b->value))
	{
		b->value = message ? message->boundary : 0;
		if (b->checkpoint)
			s3am__checkpoint_ref__free_unpacked(b->checkpoint, NULL);
		b->checkpoint = message && message->checkpoint ? checkpoint_ref_copy(message->checkpoint) : NULL;
	}
	if (message)
		s3am__boundary__free_unpacked(message, NULL);
	b->known = true;
	b->date = result->date_ms;
	b->sent = c->boundary_number;
	b->sent_ms = c->boundary_sent_ms;
	c->boundary_wanted = false;
	c->boundary_retry_at = 0;
	committer_well(c, TROUBLE_BOUNDARY);
	restore_boundary_came(c);
	committer_advance(c);
}

void
committer_read_boundary(Committer *c)
{
	uint64_t t = committer_now(c);

	/* early enough that a PUT finds a copy that will do */
	if (c->boundary_op == NULL && t >= c->boundary_retry_at &&
		(c->boundary_wanted || !c->boundary.known || t > c->boundary.sent_ms + c->grace_ms / 2))
	{
		c->boundary_number = ++c->number;
		c->boundary_sent_ms = t;
		c->boundary_op = store_get(c->store, KEY_BOUNDARY, 0, -1, boundary_came, c);
		if (c->boundary_op == NULL)
			c->boundary_retry_at = committer_back_off(c, 3);
	}
}

/* ------------------------------------------------------------------------------------ reads */

static void
read_done(void *arg, StoreResult *result)
{
	Read *r = arg;
	Committer *c = r->c;

	r->done = true;
	r->op = NULL;
	r->status = result->status;
	if (c->closing)
		return;
	committer_saw_date(c, result);
	r->evidence = (Evidence){r->version, result->date_ms, ++c->number};
	snprintf(r->error, sizeof(r->error), "%s", result->error ? result->error : "");
	if (result->status == STORE_OK)
	{
		r->len = result->len;
		r->data = store_take(result);
	}
	committer_advance(c);
}

void
committer_start_read(Committer *c, uint64_t version)
{
	char key[KEY_SIZE];

	for (int i = 0; i < READ_AHEAD; i++)
	{
		Read *r = &c->ahead[i];

		if (r->used)
			continue;
		memset(r, 0, sizeof(*r));
		r->c = c;
		r->used = true;
		r->version = version;
		r->number = ++c->number;
		key_manifest(key, version);
		r->op = store_get(c->store, key, 0, -1, read_done, r);
		if (r->op)
			c->nahead++;
		else
		{
			r->used = false;
			committer_out_of_memory(c);
		}
		return;
	}
}

Read *
committer_find_read(Committer *c, uint64_t version)
{
	for (int i = 0; i < READ_AHEAD; i++)
		if (c->ahead[i].used && c->ahead[i].version == version)
			return &c->ahead[i];
	return NULL;
}

static void
drop_read(Committer *c, Read *r)
{
	free(r->data);
	memset(r, 0, sizeof(*r));
	c->nahead--;
}

/* Reads that are of no use any more. */
void
committer_drop_stale_reads(Committer *c)
{
	for (int i = 0; i < READ_AHEAD; i++)
		if (c->ahead[i].used && c->ahead[i].done && c->ahead[i].version <= c->state.version)
			drop_read(c, &c->ahead[i]);
}

/* The chain cannot be followed, for the reason given, which becomes the committer's; it is tried again after a pause. */
void
committer_fail(Committer *c, char *error)
{
	free(c->failure);
	c->failure = error;
	c->resume = c->phase;
	c->retry_at = committer_now(c) + FAILED_PAUSE_MS;
	committer_set_phase(c, COMMITTER_FAILED, error);
}

/* All that have their answers. */
void
committer_drop_reads(Committer *c)
{
	for (int i = 0; i < READ_AHEAD; i++)
		if (c->ahead[i].used && c->ahead[i].done)
			drop_read(c, &c->ahead[i]);
}

void
committer_answer_probes(Committer *c, uint64_t number)
{
	Probe **link = &c->probes;

	while (*link)
	{
		Probe *p = *link;

		if (p->after > number)
		{
			link = &p->next;
			continue;
		}
		*link = p->next;
		p->done(p->arg, c->state.version);
		free(p);
	}
}

void
committer_at_head(Committer *c)
{
	if (c->phase == COMMITTER_ATTACHING)
		committer_set_phase(c, c->cfg.read_only ? COMMITTER_READY : COMMITTER_JOINING, NULL);
	c->poll_at = committer_now(c) + c->poll_ms;
	c->poll_ms = c->poll_ms * 3 / 2 + 1 < c->cfg.poll_max_ms ? c->poll_ms * 3 / 2 + 1 : c->cfg.poll_max_ms;
}

static void
gap_listed(void *arg, StoreResult *result)
{
	Committer *c = arg;
	char key[KEY_SIZE];

	c->gap_op = NULL;
	if (c->closing)
		return;
	key_manifest(key, c->gap_slot);
	if (result->status == STORE_OK)
	{
		committer_well(c, TROUBLE_LIST);
		for (int i = 0; i < result->nentries; i++)
			if (strcmp(result->entries[i].key, key) > 0)
				c->gap_later = strtoull(result->entries[i].key + strlen("manifests/"), NULL, 10);
	}
	else
	{
		c->gap_slot = 0;
		committer_trouble(c, TROUBLE_LIST, result->error);
		c->retry_at = committer_back_off(c, 4);
	}
	committer_advance(c);
}

/*
 * Attaching: a missing manifest in the middle of the chain must not be taken for its end, or another one would be written there
 * (rule 6).  True: the slot is not known to be the end yet.
 */
static bool
may_be_gap(Committer *c)
{
	uint64_t slot = c->state.version + 1;
	char key[KEY_SIZE];
	char text[200];

	if (c->phase != COMMITTER_ATTACHING || c->gap_alarms >= GAP_ALARMS)
		return false;
	key_manifest(key, slot);
	if (c->gap_slot != slot)
	{
		c->gap_alarms += c->gap_later != 0;
		c->gap_slot = slot;
		c->gap_later = 0;
		c->gap_op = store_list(c->store, "manifests/", key, 10, gap_listed, c);
		if (c->gap_op == NULL)
		{
			c->gap_slot = 0;
			c->retry_at = committer_back_off(c, 4);
		}
		return true;
	}
	if (c->gap_later == 0)
		return false;
	snprintf(text, sizeof(text), "object \"%s\" is missing, though version %llu exists: restore it", key,
			 (unsigned long long) c->gap_later);
	c->gap_slot = c->gap_later = 0;
	committer_fail(c, memory_copy_text(text));
	return true;
}

/* Nothing stands in the slot, so the version before is the head; unless a PUT was told that something does. */
static void
found_nothing(Committer *c, uint64_t number)
{
	if (c->put && c->put->read_back)
	{
		if (!RULE(P1_READ_BACK_404))
		{
			pending_fail_put(c, OUTCOME_ABORTED, "Its slot was empty.");
			put_end(c);
			return;
		}
		/* undecided: put again (rule 1) */
		c->put->read_back = false;
		c->put->undecided = true;
		c->retry_at = committer_back_off(c, c->put->attempts);
		return;
	}
	if (may_be_gap(c))
		return;
	committer_at_head(c);
	committer_answer_probes(c, number);
}

/* Uses what was read of the next version.  True: something came of it, look again. */
bool
committer_use_read(Committer *c)
{
	Read *r = committer_find_read(c, c->state.version + 1);
	uint64_t number;

	if (r == NULL || !r->done)
		return false;
	number = r->number;
	if (r->status == STORE_OK || r->status == STORE_NOT_FOUND)
	{
		Verdict verdict = committer_judge(c, &r->evidence, r->status == STORE_OK ? RULE(P2_APPLY) : RULE(P30_HEAD));

		committer_well(c, TROUBLE_READ);
		if (verdict == VERDICT_ASK)
		{
			committer_read_boundary(c);
			return false;
		}
		if (verdict == VERDICT_UNDER)
		{
			committer_drop_reads(c);
			c->must_restore = true;
			return true;
		}
	}
	if (r->status == STORE_OK)
	{
		uint8_t *data = r->data;
		size_t len = r->len;
		bool ok;

		r->data = NULL;
		drop_read(c, r);
		ok = committer_apply(c, data, len, false);
		free(data);
		c->poll_ms = c->cfg.poll_min_ms;
		c->poll_at = 0;
		return ok;
	}
	{
		StoreStatus status = r->status;
		char error[256];

		memcpy(error, r->error, sizeof(error));
		/* what lies further on is read again, or a probe might use an old answer */
		committer_drop_reads(c);
		if (status == STORE_NOT_FOUND)
		{
			found_nothing(c, number);
			return true;
		}
		committer_trouble(c, TROUBLE_READ, error);
		c->poll_at = c->retry_at = committer_back_off(c, 4);
	}
	return false;
}

/* ------------------------------------------------------------------------------------ applying */

/* Our epoch was fenced: says by what. */
static void
fenced(Committer *c, const S3am__Manifest *m)
{
	char text[300];
	const S3am__EpochEdit *begin = NULL;

	for (size_t i = 0; i < m->n_epochs; i++)
		if (m->epochs[i]->kind == S3AM__EPOCH_EDIT__KIND__BEGIN && m->epochs[i]->node.len == c->cfg.node_len &&
			memcmp(m->epochs[i]->node.data, c->cfg.node, c->cfg.node_len) == 0)
			begin = m->epochs[i];
	if (begin)
		snprintf(text, sizeof(text),
				 "another server with the same data directory took this one's place: epoch %llu began in version %llu "
				 "(%.100s); "
				 "two servers must not share an identity",
				 (unsigned long long) begin->epoch, (unsigned long long) m->version,
				 begin->description[0] ? begin->description : "no description");
	else
		snprintf(text, sizeof(text),
				 "epoch %llu of this server was fenced by version %llu, because it had been silent for too long or by "
				 "request",
				 (unsigned long long) c->epoch, (unsigned long long) m->version);
	c->displaced = begin != NULL;
	committer_set_phase(c, COMMITTER_FENCED, text);
	committer_end_publish(c, false);
	pending_release(c);
}

/* Keeps the claims of the transactions that are not void; the rest of the manifest goes. */
static void
keep_claims(Committer *c, S3am__Manifest *m, const bool *voided)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++, n++)
		{
			S3am__Txn *txn = m->steps[i]->txns[j];
			Claims *claims;

			if (voided[n])
				continue;
			for (size_t t = 0; t < txn->n_tables; t++)
				for (size_t b = 0; b < txn->tables[t]->n_batches; b++)
				{
					free(txn->tables[t]->batches[b]->rows.data);
					txn->tables[t]->batches[b]->rows.data = NULL;
					txn->tables[t]->batches[b]->rows.len = 0;
				}
			while (txn->n_ddl > 0)
				s3am__ddl_statement__free_unpacked(txn->ddl[--txn->n_ddl], NULL);
			claims = claims_decode(txn);
			if (claims == NULL)
			{
				/* what cannot be read cannot be held against: nothing older than it is accepted */
				window_trim(c->window, m->version + 1);
				c->window_first = m->version + 1;
				continue;
			}
			m->steps[i]->txns[j] = NULL;
			window_add(c->window, m->version, claims, true);
		}
	if (m->version >= c->cfg.window && c->window_first <= m->version - c->cfg.window)
		c->window_first = m->version - c->cfg.window + 1;
	if (window_bytes(c->window) > ((size_t) 256 << 20))
		c->window_first += (m->version - c->window_first) / 2;
	window_trim(c->window, c->window_first);
}

/* Applies the object that the slot after our version holds.  False: it does not fit, and the committer has failed for now. */
bool
committer_apply(Committer *c, const uint8_t *object, size_t len, bool own)
{
	char *error = NULL;
	uint8_t digest[16];
	bool *voided;
	S3am__Manifest *m = chain_open(&c->state, c->uuid, object, len, &error);

	put_end(c);
	if (m == NULL)
	{
		committer_fail(c, error);
		return false;
	}
	envelope_digest(object, len, digest);
	voided = chain_apply(&c->state, m, digest);
	for (size_t i = 0; c->epoch == 0 && i < m->n_epochs; i++)
		if (m->epochs[i]->kind == S3AM__EPOCH_EDIT__KIND__BEGIN && m->epochs[i]->nonce.len == 16 &&
			memcmp(m->epochs[i]->nonce.data, c->nonce, 16) == 0)
			c->epoch = m->epochs[i]->epoch;
	recent_add(c->recent, m->version, object, len);
	c->cfg.applied(c->cfg.arg, m->version, m, voided, object, len);
	pending_settle(c, own || (c->epoch && m->author == c->epoch));
	if (c->epoch && outcomes_fenced(c->state.outcomes, c->epoch) &&
		(c->phase == COMMITTER_READY || c->phase == COMMITTER_JOINING))
		fenced(c, m);
	keep_claims(c, m, voided);
	s3am__manifest__free_unpacked(m, NULL);
	free(voided);
	return true;
}
