/*
 * put.c: a manifest's way to its slot (rules 1, 2, 5).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/committer_int.h"
#include "manifest/envelope.h"

static void
free_put(Put *put)
{
	free(put->object);
	free(put);
}

/* The slot's content is known, or the manifest is given up: an attempt still under way is nobody's. */
void
put_end(Committer *c)
{
	Put *put = c->put;

	c->put = NULL;
	if (put == NULL)
		return;
	put->c = NULL;
	if (put->op == NULL)
		free_put(put);
}

/* There is no memory for what comes next: it is tried again later, as after an error of the store. */
void
committer_out_of_memory(Committer *c)
{
	committer_trouble(c, TROUBLE_PUT, "out of memory");
	c->poll_at = c->retry_at = committer_back_off(c, 4);
}

/*
 * Takes the place of the PUT under way, if there is one; it must have no attempt that is unanswered.  False: there is no memory
 * for it, and that one stays.
 */
bool
put_begin(Committer *c, S3am__Manifest *m, bool fill)
{
	Put *put = calloc(1, sizeof(*put));
	size_t len = s3am__manifest__get_packed_size(m);
	uint8_t *payload = malloc(len ? len : 1);

	if (put == NULL || payload == NULL)
	{
		free(put);
		free(payload);
		committer_out_of_memory(c);
		return false;
	}
	put->c = c;
	put->slot = m->version;
	put->fill = fill;
	/* what it is to put an end to may have landed */
	put->undecided = fill;
	key_manifest(put->key, m->version);
	s3am__manifest__pack(m, payload);
	put->object = envelope_seal(ENVELOPE_MANIFEST, c->uuid, put->key, payload, len, &put->len);
	free(payload);
	if (put->object == NULL)
	{
		free(put);
		committer_out_of_memory(c);
		return false;
	}
	put_end(c);
	c->put = put;
	c->retry_at = 0;
	return true;
}

/* Not landed, for certain; members are answered, others who wait for it see it by its absence. */
static void
refused(Committer *c, Outcome outcome, const char *error)
{
	pending_fail_put(c, outcome, error);
	put_end(c);
	committer_trouble(c, TROUBLE_PUT, error);
	c->retry_at = committer_now(c) + BACKOFF_MAX_MS;
}

static void
put_done(void *arg, StoreResult *result)
{
	Put *put = arg;
	Committer *c = put->c;
	char error[300];

	put->op = NULL;
	if (c == NULL || c->closing)
	{
		if (c == NULL)
			free_put(put);
		return;
	}
	committer_saw_date(c, result);
	put->evidence = (Evidence){put->slot, result->date_ms, ++c->number};
	snprintf(error, sizeof(error), "%s", result->error ? result->error : "the store refused the manifest");
	if (result->status == STORE_OK || result->status == STORE_PRECONDITION)
		committer_well(c, TROUBLE_PUT);
	switch (result->status)
	{
		case STORE_OK:
			put->landed = true;
			break;
		case STORE_PRECONDITION:
			/* somebody's manifest stands there, perhaps ours: it is read like any other (rule 1) */
			if (RULE(P1_READ_BACK))
				put->read_back = true;
			else
			{
				pending_fail_put(c, OUTCOME_ABORTED, "Another server was faster.");
				put_end(c);
			}
			break;
		case STORE_DENIED:
		case STORE_FULL:
			/* if an earlier attempt had no verdict this one proves nothing */
			if (!put->undecided || !RULE(P1_EVERY_ATTEMPT))
			{
				refused(c, result->status == STORE_FULL ? OUTCOME_FULL : OUTCOME_DENIED, error);
				break;
			}
			/* fallthrough */
		default:
			put->undecided = true;
			if (!RULE(P1_UNDECIDED))
			{
				refused(c, OUTCOME_ABORTED, error);
				break;
			}
			if (put->attempts % 10 == 9)
				committer_trouble(c, TROUBLE_PUT, error);
			c->retry_at = committer_back_off(c, put->attempts);
			break;
	}
	committer_advance(c);
}

static void
start(Committer *c)
{
	Put *put = c->put;

	put->attempts++;
	put->started = committer_now(c);
	if (put->number == 0)
		put->number = ++c->number;
	put->op = store_create(c->store, put->key, put->object, put->len, put_done, put);
	if (put->op == NULL)
	{
		/* an attempt without a verdict: so members can be given up, by filling the slot */
		put->undecided = true;
		committer_out_of_memory(c);
	}
}

/* 200.  Ours, if the slot is above the boundary. */
static bool
landed(Committer *c)
{
	Put *put = c->put;
	uint64_t number = put->number;
	uint8_t *object;
	bool ok;

	switch (committer_judge(c, &put->evidence, RULE(P2_PUT)))
	{
		case VERDICT_ASK:
			committer_read_boundary(c);
			return false;
		case VERDICT_UNDER:
			/* the slot was collected before: this is no version, and what became of ours the state will tell */
			put_end(c);
			c->must_restore = true;
			return true;
		case VERDICT_GOOD:
			break;
	}
	if (put->attempts == 1)
		c->put_took = committer_now(c) - put->started;
	object = put->object;
	put->object = NULL;
	ok = committer_apply(c, object, put->len, true);
	free(object);
	c->poll_ms = c->cfg.poll_min_ms;
	/* all versions that were there before its first attempt are under it */
	if (ok)
		committer_answer_probes(c, number);
	return ok;
}

bool
put_drive(Committer *c)
{
	Put *put = c->put;

	if (put->op)
		return false;
	if (put->landed)
		return landed(c);
	if (put->read_back)
	{
		if (committer_find_read(c, put->slot) == NULL && committer_now(c) >= c->retry_at)
			committer_start_read(c, put->slot);
		return false;
	}
	if (put->undecided && !put->fill && pending_in_put(c, true))
	{
		/* a member is to be given up: only a filled slot makes that certain (rule 5) */
		if (!RULE(P5_FILL))
		{
			put_end(c);
			return true; /* and what is sent no more is taken for dead */
		}
		/* if there is no memory for it the undecided PUT stays, or the member would be taken for one that no PUT holds */
		if (!group_fill(c))
			return false;
	}
	if (committer_now(c) >= c->retry_at)
		start(c);
	return false;
}
