/*
 * group.c: members waiting for their commit, and the manifests that are made of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/committer_int.h"
#include "manifest/memory.h"

#define MAX_MANIFEST (8 << 20)

/* ------------------------------------------------------------------------------------ outcomes */

void
pending_decide(Committer *c, Pending *p, Outcome outcome, uint64_t version, const char *detail)
{
	c->cfg.decided(c->cfg.arg, p->handle, outcome, version, detail);
	claims_free(p->claims);
	s3am__txn__free_unpacked(p->txn, NULL);
	free(p);
}

static void
unlink_pending(Committer *c, Pending *p)
{
	Pending **link = &c->first;

	while (*link != p)
		link = &(*link)->next;
	*link = p->next;
	if (c->last == &p->next)
		c->last = link;
	c->npending--;
}

void
pending_abandon(Pending *p, const char *why)
{
	if (!p->abandoned)
		snprintf(p->why, sizeof(p->why), "%s", why);
	p->abandoned = true;
}

/* We are fenced: what is left is shared and of other epochs, and none of our PUTs holds it. */
void
pending_release(Committer *c)
{
	while (c->first)
	{
		Pending *p = c->first;

		unlink_pending(c, p);
		pending_decide(c, p, OUTCOME_RELEASED, 0, "This server was fenced.");
	}
}

bool
pending_in_put(const Committer *c, bool abandoned)
{
	for (const Pending *p = c->first; p; p = p->next)
		if (p->in_put && (!abandoned || p->abandoned))
			return true;
	return false;
}

/* The manifest under way did not land, for certain: answers its members, as far as nobody else may put them. */
void
pending_fail_put(Committer *c, Outcome outcome, const char *why)
{
	Pending *next;

	for (Pending *p = c->first; p; p = next)
	{
		next = p->next;
		if (!p->in_put)
			continue;
		p->in_put = false;
		if (p->shared && RULE(P9_MARK))
		{
			pending_abandon(p, why);
			continue;
		}
		unlink_pending(c, p);
		pending_decide(c, p, outcome, 0, why);
	}
}

/* A version was applied: answers members by what the state says about their ids (rules 7, 8).  own: our manifest. */
void
pending_settle(Committer *c, bool own)
{
	Pending *next;
	Fence **fence = &c->fences;
	size_t answered = 0;

	for (Pending *p = c->first; p; p = next)
	{
		IdState state = outcomes_get(c->state.outcomes, p->txn->id->epoch, p->txn->id->seq);
		bool fenced = p->txn->id->epoch <= outcomes_last_epoch(c->state.outcomes) && RULE(P12_REFUSE) &&
					  outcomes_fenced(c->state.outcomes, p->txn->id->epoch);

		next = p->next;
		if (!RULE(P7_LOOK_UP) && !p->in_put)
			state = ID_UNKNOWN;
		if (!RULE(P8_EACH) && p->in_put && own)
			state = ID_COMMITTED;
		p->in_put = false;
		if (state == ID_UNKNOWN && !fenced)
			continue;
		unlink_pending(c, p);
		answered++;
		if (state == ID_COMMITTED)
			pending_decide(c, p, OUTCOME_COMMITTED, c->state.version, NULL);
		else if (state == ID_ABORTED)
			pending_decide(c, p, OUTCOME_ABORTED, 0, p->abandoned ? p->why : "It was marked as aborted.");
		else
			pending_decide(c, p, OUTCOME_FENCED, 0, NULL);
	}
	c->expected = answered ? c->npending + answered : 0;
	c->group_until = 0;
	for (Mark **mark = &c->marks; *mark;)
		if (outcomes_get(c->state.outcomes, (*mark)->epoch, (*mark)->seq) != ID_UNKNOWN)
		{
			Mark *m = *mark;

			*mark = m->next;
			free(m);
		}
		else
			mark = &(*mark)->next;
	while (*fence)
		if (outcomes_fenced(c->state.outcomes, (*fence)->epoch))
		{
			Fence *f = *fence;

			*fence = f->next;
			if (f->done)
				f->done(f->arg, c->state.version);
			free(f);
		}
		else
			fence = &(*fence)->next;
	if (c->publish && c->state.checkpoint && c->state.checkpoint->version >= c->publish->version)
	{
		bool ours =
			c->state.checkpoint->version == c->publish->version && c->state.checkpoint->epoch == c->publish->epoch;

		committer_end_publish(c, ours);
	}
}

/* ------------------------------------------------------------------------------------ building a group */

/* Holds a member against all versions that it has not been held against.  False: it was answered, or will be by a mark. */
static bool
validate(Committer *c, Pending *p)
{
	char detail[256] = "";
	uint64_t since = p->held > p->claims->oldest_base ? p->held : p->claims->oldest_base;
	uint64_t version = 0;

	if (RULE(P22_WINDOW) && since + 1 < c->window_first)
	{
		snprintf(detail, sizeof(detail),
				 "It is older than version %llu, and what was committed up to then is not known any more.",
				 (unsigned long long) c->window_first);
		if (p->shared && RULE(P9_MARK))
		{
			/* another committer may still know */
			pending_abandon(p, detail);
			return false;
		}
	}
	else if (window_check(c->window, p->claims, p->held, false, &version, detail, sizeof(detail)))
	{
		p->held = c->state.version;
		return true;
	}
	else
	{
		size_t used = strlen(detail);

		snprintf(detail + used, sizeof(detail) - used, " By version %llu.", (unsigned long long) version);
	}
	unlink_pending(c, p);
	pending_decide(c, p, OUTCOME_CONFLICT, 0, detail);
	return false;
}

static void
add_txn(S3am__Manifest *m, S3am__Txn *txn)
{
	S3am__Step *step = m->n_steps ? m->steps[m->n_steps - 1] : NULL;

	if (step == NULL || txn->own_step || step->txns[step->n_txns - 1]->own_step)
	{
		step = memory_need(sizeof(*step));
		s3am__step__init(step);
		m->steps = memory_grow(m->steps, (m->n_steps + 1) * sizeof(void *));
		m->steps[m->n_steps++] = step;
	}
	/* a power of two is allocated */
	if ((step->n_txns & (step->n_txns - 1)) == 0)
		step->txns = memory_grow(step->txns, (step->n_txns ? step->n_txns * 2 : 1) * sizeof(void *));
	step->txns[step->n_txns++] = txn;
}

static void
add_mark(S3am__Manifest *m, uint64_t epoch, uint64_t seq)
{
	S3am__CommitId *id = memory_need(sizeof(*id));

	s3am__commit_id__init(id);
	id->epoch = epoch;
	id->seq = seq;
	m->abort_marks = memory_grow(m->abort_marks, (m->n_abort_marks + 1) * sizeof(void *));
	m->abort_marks[m->n_abort_marks++] = id;
}

/* A member that is given up, while none of our PUTs may hold it.  True: an abort mark is needed. */
static bool
give_up(Committer *c, Pending *p, S3am__Manifest *m)
{
	if (p->shared && RULE(P9_MARK))
	{
		add_mark(m, p->txn->id->epoch, p->txn->id->seq);
		return true;
	}
	unlink_pending(c, p);
	pending_decide(c, p, OUTCOME_ABORTED, 0, p->why);
	return false;
}

/* Was the same transaction handed over twice, and is it in the group already? */
static bool
in_group(const Committer *c, const Pending *p)
{
	for (const Pending *o = c->first; o != p; o = o->next)
		if (o->in_put && o->txn->id->seq == p->txn->id->seq && o->txn->id->epoch == p->txn->id->epoch)
			return true;
	return false;
}

bool
committer_only_validates(const S3am__Txn *txn)
{
	return txn->n_tables == 0 && txn->n_rows == 0 && txn->n_storages == 0 && txn->n_ddl == 0 && txn->n_sequences == 0 &&
		   txn->n_names == 0 && txn->n_schemas == 0;
}

static void
add_members(Committer *c, S3am__Manifest *m)
{
	NextRows *rows = rows_copy(c->state.rows);
	Window *group = window_create();
	size_t bytes = 0, n = 0;
	Pending *next;

	for (Pending *p = c->first; p; p = next)
	{
		uint64_t version;
		char detail[256];

		next = p->next;
		p->in_put = false;
		claims_forget_ahead(p->claims);
		/* where versions take milliseconds a few unlucky ones are no reason */
		if (p->tries >= c->cfg.max_tries && committer_now(c) - p->tried_at >= c->cfg.try_ms && !p->abandoned)
		{
			snprintf(detail, sizeof(detail), "Other servers were faster %u times.", p->tries);
			pending_abandon(p, detail);
		}
		if (p->abandoned)
		{
			(void) give_up(c, p, m);
			continue;
		}
		if (n > 0 && bytes + p->len > MAX_MANIFEST)
			continue;
		/* of an epoch that we have not seen begin: it may have, by now */
		if (outcomes_fenced(c->state.outcomes, p->txn->id->epoch) && RULE(P12_REFUSE))
			continue;
		if (p->shared && RULE(P7_LOOK_UP) && in_group(c, p))
			continue;
		if (!validate(c, p))
			continue;
		if (committer_only_validates(p->txn) && !p->shared)
		{
			unlink_pending(c, p);
			pending_decide(c, p, OUTCOME_COMMITTED, c->state.version, NULL);
			continue;
		}
		/* members of one group are validated in order, each also against those before it (rule 17) */
		if (RULE(P17_GROUP) && !window_check(group, p->claims, 0, true, &version, detail, sizeof(detail)))
			continue; /* not yet a verdict: the one before it may not land; it is tried again after this group */
		rows_assign(rows, p->txn);
		claims_write(p->claims);
		window_add(group, UINT64_MAX, p->claims, false);
		add_txn(m, p->txn);
		p->in_put = true;
		if (p->tries++ == 0)
			p->tried_at = committer_now(c);
		bytes += p->len;
		n++;
	}
	window_free(group);
	rows_free(rows);
}

static void
add_epoch_edit(S3am__Manifest *m, uint64_t epoch, S3am__EpochEdit__Kind kind)
{
	S3am__EpochEdit *e = memory_need(sizeof(*e));

	s3am__epoch_edit__init(e);
	e->epoch = epoch;
	e->kind = kind;
	m->epochs = memory_grow(m->epochs, (m->n_epochs + 1) * sizeof(void *));
	m->epochs[m->n_epochs++] = e;
}

typedef struct FenceOwn
{
	Committer *c;
	S3am__Manifest *m;
} FenceOwn;

static bool
fence_own(void *arg, uint64_t epoch, uint64_t begun_ms)
{
	FenceOwn *f = arg;

	(void) begun_ms;
	if (RULE(P12_FENCE_OWN) && outcomes_node_is(f->c->state.outcomes, epoch, f->c->cfg.node, f->c->cfg.node_len))
		add_epoch_edit(f->m, epoch, S3AM__EPOCH_EDIT__KIND__FENCE);
	return true;
}

/* A new epoch fences the earlier ones of this node (rule 12). */
static void
add_begin(Committer *c, S3am__Manifest *m)
{
	S3am__EpochEdit *e;
	FenceOwn f = {c, m};

	outcomes_each_live(c->state.outcomes, fence_own, &f);
	add_epoch_edit(m, outcomes_last_epoch(c->state.outcomes) + 1, S3AM__EPOCH_EDIT__KIND__BEGIN);
	e = m->epochs[m->n_epochs - 1];
	e->node.len = c->cfg.node_len;
	e->node.data = memory_need(c->cfg.node_len + 1);
	memcpy(e->node.data, c->cfg.node, c->cfg.node_len);
	e->nonce.len = 16;
	e->nonce.data = memory_need(16);
	memcpy(e->nonce.data, c->nonce, 16);
	if (c->cfg.description)
		e->description = memory_copy_text(c->cfg.description);
}

static void
init_manifest(Committer *c, S3am__Manifest *m)
{
	s3am__manifest__init(m);
	m->version = c->state.version + 1;
	m->author = c->epoch;
	m->time_ms = (uint64_t) c->date > c->state.time_ms ? (uint64_t) c->date : c->state.time_ms;
	if (c->state.version > 0)
	{
		m->predecessor.len = 16;
		m->predecessor.data = memory_need(16);
		memcpy(m->predecessor.data, c->state.digest, 16);
	}
}

/* Frees what a manifest has of its own: its transactions are the members'. */
static void
release_manifest(S3am__Manifest *m)
{
	for (size_t i = 0; i < m->n_steps; i++)
		m->steps[i]->n_txns = 0;
	s3am__manifest__free_unpacked(m, NULL);
}

/* Packs with the reads of its members left out: they were validated, nobody needs them any more. */
static bool
put_manifest(Committer *c, S3am__Manifest *m, bool fill)
{
	bool begun;

	for (Pending *p = c->first; p; p = p->next)
		if (p->in_put && !fill)
			p->txn->n_reads = 0;
	begun = put_begin(c, m, fill);
	for (Pending *p = c->first; p; p = p->next)
		if (p->in_put && !fill)
		{
			p->txn->n_reads = p->claims->nreads;
			if (!begun)
			{
				/* no PUT ever held it for this */
				p->in_put = false;
				p->tries--;
			}
		}
	return begun;
}

/* Makes the manifest for the next version and begins its PUT.  False: there is nothing to say, or no memory to say it. */
bool
group_build(Committer *c)
{
	S3am__Manifest *m = memory_need(sizeof(*m));
	bool any;

	init_manifest(c, m);
	if (c->phase == COMMITTER_JOINING)
		add_begin(c, m);
	else
	{
		for (Mark *mark = c->marks; mark; mark = mark->next)
			add_mark(m, mark->epoch, mark->seq);
		for (Fence *f = c->fences; f; f = f->next)
			if (!outcomes_fenced(c->state.outcomes, f->epoch))
				add_epoch_edit(m, f->epoch, S3AM__EPOCH_EDIT__KIND__FENCE);
		add_members(c, m);
		if (c->publish && chain_checkpoint_fits(&c->state, c->publish))
			m->checkpoint = checkpoint_ref_copy(c->publish);
		else
			committer_end_publish(c, false);
	}
	any = m->n_steps || m->n_epochs || m->n_abort_marks || m->checkpoint;
	if (any)
		any = put_manifest(c, m, false);
	release_manifest(m);
	return any;
}

/* Begins the PUT of a manifest without members, for the slot of one that is given up.  False: no memory. */
bool
group_fill(Committer *c)
{
	S3am__Manifest *m = memory_need(sizeof(*m));
	bool begun;

	init_manifest(c, m);
	for (Pending *p = c->first; p; p = p->next)
		if (p->abandoned && p->shared && RULE(P9_MARK))
			add_mark(m, p->txn->id->epoch, p->txn->id->seq);
	begun = put_manifest(c, m, true);
	release_manifest(m);
	return begun;
}

static uint64_t
group_wait(const Committer *c)
{
	return (c->cfg.group_wait_us + 999) / 1000;
}

/* One of those who are on their way came: as long as they keep coming the others are waited for. */
void
group_prolong(Committer *c)
{
	uint64_t until = committer_now(c) + group_wait(c);

	if (c->group_until)
		c->group_until = until < c->group_limit ? until : c->group_limit;
}

bool
group_wanted(Committer *c)
{
	if (c->phase == COMMITTER_JOINING)
		return true;
	if (c->phase != COMMITTER_READY || c->cfg.read_only)
		return false;
	if (c->marks || c->fences || c->publish)
		return true;
	if (c->npending == 0)
		return false;
	/* those just answered come back at once, to those who wait already: wait a little for them, or groups halve */
	if (c->cfg.group_wait_us && c->npending < c->expected)
	{
		uint64_t t = committer_now(c);

		if (c->group_until == 0)
		{
			/* with a store that answers at once waiting would cost more than it saves */
			uint64_t limit = GROUP_WAITS * group_wait(c);

			c->group_limit = t + (limit < c->put_took / 4 ? limit : c->put_took / 4);
			c->group_until = t;
			group_prolong(c);
		}
		if (t < c->group_until)
			return false;
	}
	c->group_until = 0;
	c->expected = 0;
	return true;
}
