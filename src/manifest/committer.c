/*
 * committer.c: the machine.
 *
 * There is one thing under way at a time: reading the next version, a PUT of it, or starting over from a checkpoint.  A PUT's
 * manifest stays as it is until the slot is known to hold something; whatever it holds is then applied like any other
 * version, and the ids in it tell which members landed (rules 7 and 8).  So a lost response, a lost race and a late
 * success are one case.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest/committer_int.h"
#include "manifest/memory.h"

uint64_t
committer_now(Committer *c)
{
	return c->cfg.now_ms(c->cfg.arg);
}

void
committer_set_phase(Committer *c, CommitterPhase phase, const char *error)
{
	bool changed = c->phase != phase;

	c->phase = phase;
	if (changed || error)
		c->cfg.phase(c->cfg.arg, phase, error);
}

void
committer_trouble(Committer *c, Trouble trouble, const char *error)
{
	c->troubles |= trouble;
	committer_set_phase(c, c->phase, error);
}

void
committer_well(Committer *c, Trouble trouble)
{
	if ((c->troubles & trouble) == 0)
		return;
	c->troubles &= ~trouble;
	/* of these phases the reason is another one */
	if (c->troubles == 0 && c->phase != COMMITTER_FAILED && c->phase != COMMITTER_FENCED)
		c->cfg.phase(c->cfg.arg, c->phase, NULL);
}

void
committer_saw_date(Committer *c, const StoreResult *result)
{
	if (result->date_ms > c->date)
		c->date = result->date_ms;
}

uint64_t
committer_back_off(Committer *c, unsigned attempts)
{
	uint64_t limit = BACKOFF_MIN_MS;

	for (unsigned i = 1; i < attempts && limit < BACKOFF_MAX_MS; i++)
		limit *= 2;
	return committer_now(c) + 1 + c->cfg.random(c->cfg.arg) % limit;
}

void
committer_advance(Committer *c)
{
	while (c->phase != COMMITTER_FAILED)
	{
		committer_drop_stale_reads(c);
		committer_read_boundary(c);
		if (c->restore)
			return; /* it calls back */
		if (c->must_restore || !c->attached)
		{
			restore_begin(c);
			return;
		}
		if (committer_use_read(c))
			continue;
		if (c->must_restore)
			continue;
		if (c->phase == COMMITTER_JOINING && c->epoch)
		{
			committer_set_phase(c, COMMITTER_READY, NULL);
			lease_begin(c);
		}
		if (c->phase == COMMITTER_FAILED)
			return;
		if (c->put)
		{
			if (put_drive(c))
				continue;
			return;
		}
		if (c->phase == COMMITTER_ATTACHING)
		{
			/* after the answer the slot is looked at again, by a read that is sent then */
			if (c->gap_op)
				return;
			if (c->gap_slot == c->state.version + 1 && c->gap_later == 0)
			{
				committer_at_head(c);
				continue;
			}
			if (committer_now(c) >= c->retry_at && !(c->cfg.hold && c->cfg.hold(c->cfg.arg)))
				for (uint64_t v = c->state.version + 1; v <= c->state.version + READ_AHEAD && c->nahead < READ_AHEAD;
					 v++)
					if (committer_find_read(c, v) == NULL)
						committer_start_read(c, v);
			return;
		}
		if (committer_now(c) >= c->retry_at && group_wanted(c) && group_build(c))
			continue;
		{
			Read *r = committer_find_read(c, c->state.version + 1);
			bool probe = false;

			for (Probe *p = c->probes; p; p = p->next)
				if (r == NULL || p->after > r->number)
					probe = true;
			if (r == NULL && (probe || committer_now(c) >= c->poll_at) && committer_now(c) >= c->retry_at)
				committer_start_read(c, c->state.version + 1);
		}
		return;
	}
}

/* ------------------------------------------------------------------------------------ interface */

Committer *
committer_create(const CommitterConfig *config, Store *store, const S3am__Repository *repository)
{
	Committer *c = memory_need_zeroed(1, sizeof(*c));

	c->cfg = *config;
	if (c->cfg.poll_min_ms == 0)
		c->cfg.poll_min_ms = 50;
	if (c->cfg.poll_max_ms < c->cfg.poll_min_ms)
		c->cfg.poll_max_ms = c->cfg.poll_min_ms;
	if (c->cfg.lease_ms == 0)
		c->cfg.lease_ms = 60000;
	if (c->cfg.window == 0)
		c->cfg.window = 4096;
	if (c->cfg.max_tries == 0)
		c->cfg.max_tries = 100;
	c->store = store;
	memcpy(c->uuid, repository->uuid.data, 16);
	c->grace_ms = repository->grace_ms ? repository->grace_ms : 600000;
	chain_init(&c->state,
			   config->outcome_retention_ms ? config->outcome_retention_ms : repository->outcome_retention_ms);
	c->window = window_create();
	c->window_first = 1;
	if (c->cfg.recent_bytes)
		c->recent = recent_create(c->cfg.recent_bytes);
	c->last = &c->first;
	c->poll_ms = c->cfg.poll_min_ms;
	c->phase = COMMITTER_ATTACHING;
	for (int i = 0; i < 2; i++)
	{
		uint64_t x = c->cfg.random(c->cfg.arg);

		memcpy(c->nonce + 8 * i, &x, 8);
	}
	return c;
}

void
committer_pin_key(const Committer *c, char *key)
{
	key_pin(key, c->nonce);
}

static void
submit(Committer *c, const uint8_t *bytes, size_t len, void *member, bool shared)
{
	Pending *p;
	S3am__Txn *txn = s3am__txn__unpack(&memory_allocator, len, bytes);
	Claims *claims = txn && txn->id ? claims_decode(txn) : NULL;
	IdState state;
	bool fenced;

	if (claims == NULL)
	{
		c->cfg.decided(c->cfg.arg, member, OUTCOME_ABORTED, 0, "The record cannot be decoded.");
		if (txn)
			s3am__txn__free_unpacked(txn, NULL);
		return;
	}
	p = memory_need_zeroed(1, sizeof(*p));
	p->txn = txn;
	p->claims = claims;
	p->len = len;
	p->handle = member;
	p->shared = shared;
	p->held = RULE(P15_CLAIM_BASE) ? 0 : c->state.version;
	/* it may have been decided before it came here */
	state = RULE(P7_LOOK_UP) ? outcomes_get(c->state.outcomes, txn->id->epoch, txn->id->seq) : ID_UNKNOWN;
	if (state == ID_COMMITTED)
	{
		pending_decide(c, p, OUTCOME_COMMITTED, c->state.version, NULL);
		return;
	}
	if (state == ID_ABORTED)
	{
		pending_decide(c, p, OUTCOME_ABORTED, 0, "It was marked as aborted.");
		return;
	}
	if (!shared && c->phase == COMMITTER_FAILED)
	{
		pending_decide(c, p, OUTCOME_ABORTED, 0, c->failure);
		return;
	}
	/* a shared one may be of an epoch that we have not seen begin */
	fenced = outcomes_fenced(c->state.outcomes, txn->id->epoch) &&
			 !(shared && txn->id->epoch > outcomes_last_epoch(c->state.outcomes));
	if ((RULE(P12_REFUSE) && fenced) || (!shared && c->phase == COMMITTER_FENCED))
	{
		pending_decide(c, p, OUTCOME_FENCED, 0, NULL);
		return;
	}
	if (c->phase == COMMITTER_FENCED || c->phase == COMMITTER_FAILED)
	{
		pending_decide(c, p, OUTCOME_RELEASED, 0, "This server was fenced.");
		return;
	}
	*c->last = p;
	c->last = &p->next;
	c->npending++;
	group_prolong(c);
	c->poll_ms = c->cfg.poll_min_ms;
}

void
committer_submit(Committer *c, const uint8_t *bytes, size_t len, void *member)
{
	submit(c, bytes, len, member, false);
}

void
committer_submit_shared(Committer *c, const uint8_t *bytes, size_t len, void *member)
{
	submit(c, bytes, len, member, true);
}

bool
committer_cancel(Committer *c, void *member)
{
	for (Pending **link = &c->first; *link; link = &(*link)->next)
		if ((*link)->handle == member)
		{
			Pending *p = *link;

			if (p->tries > 0 || p->shared)
				return false;
			*link = p->next;
			if (c->last == &p->next)
				c->last = link;
			c->npending--;
			claims_free(p->claims);
			s3am__txn__free_unpacked(p->txn, NULL);
			free(p);
			return true;
		}
	return false;
}

void
committer_abandon(Committer *c, void *member)
{
	for (Pending *p = c->first; p; p = p->next)
		if (p->handle == member)
			pending_abandon(p, "It was given up.");
}

bool
committer_outcome(Committer *c, uint64_t epoch, uint64_t seq, Outcome *outcome, uint64_t *version)
{
	IdState state = outcomes_get(c->state.outcomes, epoch, seq);

	*version = 0;
	if (state == ID_UNKNOWN &&
		(epoch > outcomes_last_epoch(c->state.outcomes) || !outcomes_fenced(c->state.outcomes, epoch)))
		return false;
	*outcome = state == ID_COMMITTED ? OUTCOME_COMMITTED : state == ID_TOO_OLD ? OUTCOME_TOO_OLD : OUTCOME_ABORTED;
	if (state == ID_COMMITTED)
		*version = window_find(c->window, epoch, seq);
	return true;
}

bool
committer_displaced(const Committer *c)
{
	return c->displaced;
}

uint64_t
committer_last_epoch(const Committer *c)
{
	return outcomes_last_epoch(c->state.outcomes);
}

void
committer_mark(Committer *c, uint64_t epoch, uint64_t seq)
{
	Mark *mark;

	/* of an epoch that never began there is nothing to mark */
	if (epoch > outcomes_last_epoch(c->state.outcomes) || outcomes_get(c->state.outcomes, epoch, seq) != ID_UNKNOWN)
		return;
	mark = memory_need(sizeof(*mark));
	*mark = (Mark){c->marks, epoch, seq};
	c->marks = mark;
}

void
committer_fence(Committer *c, uint64_t epoch, void (*done)(void *arg, uint64_t version), void *arg)
{
	Fence *f;

	if (outcomes_fenced(c->state.outcomes, epoch))
	{
		if (done)
			done(arg, c->state.version);
		return;
	}
	f = memory_need(sizeof(*f));
	*f = (Fence){c->fences, epoch, false, done, arg};
	c->fences = f;
}

void
committer_live_epochs(const Committer *c, bool (*each)(void *arg, uint64_t epoch, uint64_t begun_ms), void *arg)
{
	outcomes_each_live(c->state.outcomes, each, arg);
}

bool
committer_epoch_live(const Committer *c, uint64_t epoch)
{
	return epoch > outcomes_last_epoch(c->state.outcomes) || !outcomes_fenced(c->state.outcomes, epoch);
}

void
committer_publish(Committer *c, const S3am__CheckpointRef *ref, void (*done)(void *arg, bool published), void *arg)
{
	if (c->publish || c->phase != COMMITTER_READY)
	{
		done(arg, false);
		return;
	}
	c->publish = checkpoint_ref_copy(ref);
	c->publish_done = done;
	c->publish_arg = arg;
}

void
committer_end_publish(Committer *c, bool published)
{
	if (c->publish == NULL)
		return;
	s3am__checkpoint_ref__free_unpacked(c->publish, NULL);
	c->publish = NULL;
	c->publish_done(c->publish_arg, published);
}

void
committer_probe(Committer *c, void (*done)(void *arg, uint64_t version), void *arg)
{
	Probe *p = memory_need(sizeof(*p));

	*p = (Probe){c->probes, RULE(P31_PROBE) ? c->number + 1 : 0, done, arg};
	c->probes = p;
}

void
committer_expect(Committer *c, int members)
{
	if (members > 0)
		c->expected = c->npending + (size_t) members;
}

uint64_t
committer_epoch(const Committer *c)
{
	return c->phase == COMMITTER_READY ? c->epoch : 0;
}

uint64_t
committer_version(const Committer *c)
{
	return c->state.version;
}

const uint8_t *
committer_digest(const Committer *c)
{
	return c->state.digest;
}

const S3am__CheckpointRef *
committer_checkpoint(const Committer *c)
{
	return c->state.checkpoint;
}

CommitterPhase
committer_phase(const Committer *c)
{
	return c->phase;
}

size_t
committer_load(const Committer *c, bool *putting, bool *reading)
{
	*putting = c->put != NULL;
	*reading = c->nahead > 0 || c->restore != NULL;
	return c->npending;
}

int64_t
committer_date_ms(const Committer *c)
{
	return c->date;
}

uint64_t
committer_boundary(const Committer *c)
{
	return c->boundary.value;
}

uint64_t
committer_new_page(Committer *c)
{
	return ++c->next_page;
}

static void
sooner(int64_t *wait, uint64_t when, uint64_t t)
{
	int64_t left = when > t ? (int64_t) (when - t) : 0;

	if (left < *wait)
		*wait = left;
}

int64_t
committer_tick(Committer *c)
{
	uint64_t t;
	int64_t wait = 1000;

	if (c->phase == COMMITTER_FAILED)
	{
		t = committer_now(c);
		if (t < c->retry_at)
			return c->retry_at - t;
		committer_drop_reads(c);
		committer_set_phase(c, c->resume, NULL);
	}
	restore_tick(c);
	lease_tick(c);
	committer_advance(c);
	t = committer_now(c);
	if (c->phase == COMMITTER_FAILED)
		return c->retry_at > t ? c->retry_at - t : 0;
	if (c->retry_at > t)
		sooner(&wait, c->retry_at, t);
	if (c->boundary_retry_at > t)
		sooner(&wait, c->boundary_retry_at, t);
	if (c->put == NULL && c->nahead == 0 && c->restore == NULL && c->phase != COMMITTER_ATTACHING)
		sooner(&wait, c->poll_at > c->retry_at ? c->poll_at : c->retry_at, t);
	if (c->lease && lease_due(c) > t)
		sooner(&wait, lease_due(c), t);
	if (c->group_until && wait > 1)
		wait = 1;
	return wait;
}

const uint8_t *
committer_recent(const Committer *c, uint64_t version, size_t *len)
{
	return recent_get(c->recent, version, len);
}

void
committer_destroy(Committer *c)
{
	c->closing = true;
	restore_free(c);
	lease_free(c);
	if (c->put && c->put->op)
		store_cancel(c->store, c->put->op);
	if (c->boundary_op)
		store_cancel(c->store, c->boundary_op);
	if (c->gap_op)
		store_cancel(c->store, c->gap_op);
	for (int i = 0; i < READ_AHEAD; i++)
		if (c->ahead[i].used && c->ahead[i].op)
			store_cancel(c->store, c->ahead[i].op);
	store_dispatch(c->store);
	put_end(c);
	while (c->first)
	{
		Pending *p = c->first;

		c->first = p->next;
		claims_free(p->claims);
		s3am__txn__free_unpacked(p->txn, NULL);
		free(p);
	}
	while (c->marks)
	{
		Mark *m = c->marks;

		c->marks = m->next;
		free(m);
	}
	while (c->fences)
	{
		Fence *f = c->fences;

		c->fences = f->next;
		free(f);
	}
	while (c->probes)
	{
		Probe *p = c->probes;

		c->probes = p->next;
		free(p);
	}
	for (int i = 0; i < READ_AHEAD; i++)
		free(c->ahead[i].data);
	free(c->failure);
	if (c->publish)
		s3am__checkpoint_ref__free_unpacked(c->publish, NULL);
	if (c->boundary.checkpoint)
		s3am__checkpoint_ref__free_unpacked(c->boundary.checkpoint, NULL);
	window_free(c->window);
	recent_free(c->recent);
	chain_clear(&c->state);
	free(c);
}
