/*
 * committer.c: following the chain and appending to it.
 *
 * There is one thing under way at a time: reading the next version, or a PUT of it.  A PUT's manifest stays as it is until the
 * slot is known to hold something; whatever it holds is then applied like any other version, and the ids in it
 * tell which members landed (rules 7 and 8).  So a lost response, a lost race and a late success are one case.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/claims.h"
#include "manifest/committer.h"
#include "manifest/envelope.h"
#include "manifest/outcomes.h"
#include "manifest/rows.h"

#define MAX_MANIFEST (8 << 20)
#define WINDOW 4096				/* versions whose claims are kept */
#define READ_AHEAD 16
#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 2000

typedef struct Pending
{
	struct Pending *next;
	S3am__Txn  *txn;
	size_t		len;
	void	   *handle;
	uint64_t	validated;		/* against all versions up to this */
	unsigned	tries;
	bool		in_group;
} Pending;

typedef struct Probe
{
	struct Probe *next;
	uint64_t	after;			/* number of the first read that counts */
	void		(*done) (void *arg, uint64_t version);
	void	   *arg;
} Probe;

typedef struct Mark
{
	struct Mark *next;
	uint64_t	epoch,
				seq;
} Mark;

/* A read of one version. */
typedef struct Read
{
	Committer  *c;
	StoreOp    *op;
	uint64_t	version;
	uint64_t	number;			/* reads are counted: a probe wants one that began after it */
	bool		done;
	bool		used;
	StoreStatus status;
	uint8_t    *data;
	size_t		len;
	char		error[256];
} Read;

struct Committer
{
	CommitterConfig cfg;
	Store	   *store;
	uint8_t		uuid[16];
	CommitterPhase phase;
	uint64_t	epoch;
	uint8_t		nonce[16];
	bool		nonce_set;

	uint64_t	version;		/* last applied */
	uint8_t		digest[16];
	Outcomes   *outcomes;
	NextRows   *rows;
	S3am__Manifest *window[WINDOW];		/* by version % WINDOW */
	bool	   *window_void[WINDOW];

	Pending    *first,
			  **last;
	size_t		npending;
	size_t		last_group;
	uint64_t	group_since;	/* ms; 0: nobody waits */
	Mark	   *marks;
	Probe	   *probes;
	uint64_t	reads;

	Read		ahead[READ_AHEAD];
	int			nahead;

	/* the PUT */
	bool		putting;		/* a manifest for version + 1 exists and is not settled */
	bool		put_under_way;
	StoreOp    *put_op;
	char		put_key[64];
	uint8_t    *put_object;
	size_t		put_len;
	bool		put_undecided;	/* some attempt had no verdict */
	bool		put_readback;	/* the slot holds something: read it */
	unsigned	put_attempts;
	uint64_t	put_number;		/* counted with the reads: a PUT that succeeds proves the head as well as a probe does */
	uint64_t	retry_at;
	uint64_t	poll_at;
	uint64_t	poll_ms;
	bool		closing;
};

static void advance(Committer *c);
static void answer_probes(Committer *c, uint64_t number);

static void
manifest_key(uint64_t version, char *key, size_t size)
{
	snprintf(key, size, "manifests/%020llu", (unsigned long long) version);
}

static uint64_t
now(Committer *c)
{
	return c->cfg.now_ms(c->cfg.arg);
}

static void
set_phase(Committer *c, CommitterPhase phase, const char *error)
{
	bool		changed = c->phase != phase;

	c->phase = phase;
	if (changed || error)
		c->cfg.phase(c->cfg.arg, phase, error);
}

static void
free_pending(Pending *p)
{
	s3am__txn__free_unpacked(p->txn, NULL);
	free(p);
}

static void
decide(Committer *c, Pending *p, Outcome outcome, uint64_t version, const char *detail)
{
	c->cfg.decided(c->cfg.arg, p->handle, outcome, version, detail);
	free_pending(p);
}

/* Takes those members out of the queue that `pick` names, in order. */
static void
settle_members(Committer *c)
{
	Pending   **link = &c->first;

	while (*link)
	{
		Pending    *p = *link;
		uint64_t	version;
		IdState		state = outcomes_get(c->outcomes, p->txn->id->epoch, p->txn->id->seq, &version);
		bool		fenced = outcomes_fenced(c->outcomes, p->txn->id->epoch);

		if (state == ID_UNKNOWN && !fenced)
		{
			link = &p->next;
			continue;
		}
		*link = p->next;
		c->npending--;
		if (state == ID_COMMITTED)
			decide(c, p, OUTCOME_COMMITTED, version, NULL);
		else if (state == ID_ABORTED)
			decide(c, p, OUTCOME_ABORTED, version, "It was marked as aborted.");
		else
			decide(c, p, OUTCOME_FENCED, 0, NULL);
	}
	c->last = link;
}

/* ------------------------------------------------------------------------------------ applying */

static void
fail(Committer *c, const char *error)
{
	set_phase(c, COMMITTER_FAILED, error);
}

static void
apply_epochs(Committer *c, const S3am__Manifest *m)
{
	for (size_t i = 0; i < m->n_epochs; i++)
	{
		const S3am__EpochEdit *e = m->epochs[i];

		if (e->kind == S3AM__EPOCH_EDIT__KIND__BEGIN)
		{
			outcomes_begin_epoch(c->outcomes, e->epoch, e->node.data, e->node.len);
			if (c->nonce_set && e->nonce.len == 16 && memcmp(e->nonce.data, c->nonce, 16) == 0)
				c->epoch = e->epoch;
		}
		else
			outcomes_fence(c->outcomes, e->epoch);
	}
}

/* Applies the object that the slot after our version holds.  False: it does not fit, and the committer has failed. */
static bool
apply_object(Committer *c, const uint8_t *object, size_t object_len)
{
	char		key[64];
	char	   *error = NULL;
	size_t		len;
	uint8_t    *payload;
	S3am__Manifest *m;
	size_t		ntxns = 0,
				n = 0;
	bool	   *voided;
	uint64_t	slot = (c->version + 1) % WINDOW;

	manifest_key(c->version + 1, key, sizeof(key));
	payload = envelope_open(ENVELOPE_MANIFEST, c->uuid, key, object, object_len, &len, NULL, &error);
	if (payload == NULL)
	{
		fail(c, error);
		free(error);
		return false;
	}
	m = s3am__manifest__unpack(NULL, len, payload);
	free(payload);
	if (m == NULL || m->version != c->version + 1)
	{
		char		text[128];

		snprintf(text, sizeof(text), "object \"%s\" is damaged: it is not manifest %llu", key,
				 (unsigned long long) c->version + 1);
		if (m)
			s3am__manifest__free_unpacked(m, NULL);
		fail(c, text);
		return false;
	}
	if (c->version > 0 && (m->predecessor.len != 16 || memcmp(m->predecessor.data, c->digest, 16) != 0))
	{
		char		text[160];

		snprintf(text, sizeof(text), "object \"%s\" does not follow the manifest before it: the chain was tampered with", key);
		s3am__manifest__free_unpacked(m, NULL);
		fail(c, text);
		return false;
	}
	for (size_t i = 0; i < m->n_steps; i++)
		ntxns += m->steps[i]->n_txns;
	voided = calloc(ntxns + 1, sizeof(bool));
	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++, n++)
		{
			const S3am__Txn *txn = m->steps[i]->txns[j];

			voided[n] = txn->id == NULL || outcomes_fenced(c->outcomes, txn->id->epoch) ||
				outcomes_get(c->outcomes, txn->id->epoch, txn->id->seq, NULL) != ID_UNKNOWN;
			if (voided[n])
				continue;
			outcomes_set(c->outcomes, txn->id->epoch, txn->id->seq, ID_COMMITTED, m->version);
			rows_apply(c->rows, txn);
		}
	for (size_t i = 0; i < m->n_abort_marks; i++)
		outcomes_set(c->outcomes, m->abort_marks[i]->epoch, m->abort_marks[i]->seq, ID_ABORTED, m->version);
	apply_epochs(c, m);
	envelope_digest(object, object_len, c->digest);
	c->version = m->version;
	if (c->window[slot])
		s3am__manifest__free_unpacked(c->window[slot], NULL);
	free(c->window_void[slot]);
	c->window[slot] = m;
	c->window_void[slot] = voided;
	c->cfg.applied(c->cfg.arg, m->version, m, voided, object, object_len);
	settle_members(c);
	if (c->epoch && outcomes_fenced(c->outcomes, c->epoch) && c->phase == COMMITTER_READY)
		set_phase(c, COMMITTER_FENCED, NULL);
	return true;
}

/* ------------------------------------------------------------------------------------ building a group */

/* Validates a member against all versions it has not been held against.  False: it was answered. */
static bool
validate(Committer *c, Pending *p)
{
	char		detail[192] = "";

	if (p->validated < p->txn->base_version)
		p->validated = p->txn->base_version;
	for (size_t i = 0; i < p->txn->n_reads; i++)
		if (p->tries == 0 && p->txn->reads[i]->base_version < p->validated)
			p->validated = p->txn->reads[i]->base_version;
	if (p->validated + WINDOW <= c->version)
	{
		snprintf(detail, sizeof(detail), "It is older than the last %d versions.", WINDOW);
		goto conflict;
	}
	for (uint64_t v = p->validated + 1; v <= c->version; v++)
	{
		const S3am__Manifest *m = c->window[v % WINDOW];
		const bool *voided = c->window_void[v % WINDOW];
		size_t		n = 0;

		for (size_t i = 0; m && i < m->n_steps; i++)
			for (size_t j = 0; j < m->steps[i]->n_txns; j++, n++)
				if (!voided[n] && !claims_validate(p->txn, m->steps[i]->txns[j], v, detail, sizeof(detail)))
				{
					size_t		used = strlen(detail);

					snprintf(detail + used, sizeof(detail) - used, " By version %llu.", (unsigned long long) v);
					goto conflict;
				}
	}
	p->validated = c->version;
	return true;

conflict:
	{
		Pending   **link = &c->first;

		while (*link != p)
			link = &(*link)->next;
		*link = p->next;
		if (c->last == &p->next)
			c->last = link;
		c->npending--;
		decide(c, p, OUTCOME_CONFLICT, 0, detail);
	}
	return false;
}

static S3am__Txn *
clone(const S3am__Txn *txn)
{
	size_t		len = s3am__txn__get_packed_size(txn);
	uint8_t    *bytes = malloc(len ? len : 1);
	S3am__Txn  *copy;

	s3am__txn__pack(txn, bytes);
	copy = s3am__txn__unpack(NULL, len, bytes);
	free(bytes);
	return copy;
}

static void
add_txn(S3am__Manifest *m, S3am__Txn *txn)
{
	S3am__Step *step = m->n_steps ? m->steps[m->n_steps - 1] : NULL;

	if (step == NULL || txn->own_step || step->txns[step->n_txns - 1]->own_step)
	{
		step = malloc(sizeof(*step));
		s3am__step__init(step);
		m->steps = realloc(m->steps, (m->n_steps + 1) * sizeof(void *));
		m->steps[m->n_steps++] = step;
	}
	step->txns = realloc(step->txns, (step->n_txns + 1) * sizeof(void *));
	step->txns[step->n_txns++] = txn;
}

static void
strip_reads(S3am__Txn *txn)
{
	for (size_t i = 0; i < txn->n_reads; i++)
		s3am__read_claim__free_unpacked(txn->reads[i], NULL);
	txn->n_reads = 0;
}

static void
add_members(Committer *c, S3am__Manifest *m)
{
	NextRows   *rows = rows_copy(c->rows);
	size_t		bytes = 0,
				n = 0;
	Pending    *next;

	for (Pending *p = c->first; p; p = next)
	{
		S3am__Txn  *txn;
		bool		fits = true;
		char		detail[192] = "";

		next = p->next;
		p->in_group = false;
		if (n > 0 && bytes + p->len > MAX_MANIFEST)
			break;
		if (!validate(c, p))
			continue;
		txn = clone(p->txn);
		/* members of one group are validated in order, each also against those before it (rule 17) */
		for (size_t i = 0; fits && i < m->n_steps; i++)
			for (size_t j = 0; fits && j < m->steps[i]->n_txns; j++)
				fits = claims_validate(txn, m->steps[i]->txns[j], 0, detail, sizeof(detail));
		if (!fits)
		{
			/* not yet a verdict: the one before it may not land; it is tried again after this group */
			s3am__txn__free_unpacked(txn, NULL);
			continue;
		}
		rows_assign(rows, txn);
		strip_reads(txn);
		add_txn(m, txn);
		p->in_group = true;
		p->tries++;
		bytes += p->len;
		n++;
	}
	c->last_group = n;
	rows_free(rows);
}

static void
fence_epoch(void *arg, uint64_t epoch)
{
	S3am__Manifest *m = arg;
	S3am__EpochEdit *e = malloc(sizeof(*e));

	s3am__epoch_edit__init(e);
	e->epoch = epoch;
	e->kind = S3AM__EPOCH_EDIT__KIND__FENCE;
	m->epochs = realloc(m->epochs, (m->n_epochs + 1) * sizeof(void *));
	m->epochs[m->n_epochs++] = e;
}

static void
add_begin(Committer *c, S3am__Manifest *m)
{
	S3am__EpochEdit *e = malloc(sizeof(*e));

	outcomes_live_of(c->outcomes, c->cfg.node, c->cfg.node_len, fence_epoch, m);
	s3am__epoch_edit__init(e);
	e->epoch = outcomes_last_epoch(c->outcomes) + 1;
	e->kind = S3AM__EPOCH_EDIT__KIND__BEGIN;
	e->node.len = c->cfg.node_len;
	e->node.data = malloc(c->cfg.node_len);
	memcpy(e->node.data, c->cfg.node, c->cfg.node_len);
	e->nonce.len = 16;
	e->nonce.data = malloc(16);
	memcpy(e->nonce.data, c->nonce, 16);
	m->epochs = realloc(m->epochs, (m->n_epochs + 1) * sizeof(void *));
	m->epochs[m->n_epochs++] = e;
}

static void
add_marks(Committer *c, S3am__Manifest *m)
{
	for (Mark *mark = c->marks; mark; mark = mark->next)
	{
		S3am__CommitId *id = malloc(sizeof(*id));

		s3am__commit_id__init(id);
		id->epoch = mark->epoch;
		id->seq = mark->seq;
		m->abort_marks = realloc(m->abort_marks, (m->n_abort_marks + 1) * sizeof(void *));
		m->abort_marks[m->n_abort_marks++] = id;
	}
}

/* Makes the manifest for the next version.  False: there is nothing to say. */
static bool
build(Committer *c)
{
	S3am__Manifest *m = malloc(sizeof(*m));
	uint8_t    *payload;
	size_t		len;
	bool		any;

	s3am__manifest__init(m);
	m->version = c->version + 1;
	m->author = c->epoch;
	if (c->version > 0)
	{
		m->predecessor.len = 16;
		m->predecessor.data = malloc(16);
		memcpy(m->predecessor.data, c->digest, 16);
	}
	if (c->phase == COMMITTER_JOINING)
		add_begin(c, m);
	else
	{
		add_marks(c, m);
		add_members(c, m);
	}
	any = m->n_steps || m->n_epochs || m->n_abort_marks;
	if (any)
	{
		manifest_key(m->version, c->put_key, sizeof(c->put_key));
		len = s3am__manifest__get_packed_size(m);
		payload = malloc(len);
		s3am__manifest__pack(m, payload);
		c->put_object = envelope_seal(ENVELOPE_MANIFEST, c->uuid, c->put_key, payload, len, &c->put_len);
		free(payload);
		c->putting = true;
		c->put_undecided = c->put_readback = false;
		c->put_attempts = 0;
		c->retry_at = 0;
	}
	s3am__manifest__free_unpacked(m, NULL);
	return any;
}

/* ------------------------------------------------------------------------------------ PUT */

static void
end_put(Committer *c)
{
	free(c->put_object);
	c->put_object = NULL;
	c->putting = c->put_under_way = c->put_readback = false;
	while (c->marks && outcomes_get(c->outcomes, c->marks->epoch, c->marks->seq, NULL) != ID_UNKNOWN)
	{
		Mark	   *mark = c->marks;

		c->marks = mark->next;
		free(mark);
	}
}

static void
back_off(Committer *c)
{
	uint64_t	limit = BACKOFF_MIN_MS;

	for (unsigned i = 1; i < c->put_attempts && limit < BACKOFF_MAX_MS; i++)
		limit *= 2;
	c->retry_at = now(c) + 1 + c->cfg.random(c->cfg.arg) % limit;
}

static void
put_done(void *arg, StoreResult *result)
{
	Committer  *c = arg;

	c->put_under_way = false;
	c->put_op = NULL;
	if (c->closing)
		return;
	switch (result->status)
	{
		case STORE_OK:
			{
				uint8_t    *object = c->put_object;
				size_t		len = c->put_len;

				c->put_object = NULL;
				end_put(c);
				(void) apply_object(c, object, len);
				free(object);
				end_put(c);
				answer_probes(c, c->put_number);
				c->poll_ms = c->cfg.poll_min_ms;
				c->group_since = 0;
			}
			break;
		case STORE_PRECONDITION:
			/* somebody's manifest stands there, perhaps ours: it is read like any other (rule 1) */
			c->put_readback = true;
			break;
		case STORE_DENIED:
			if (!c->put_undecided)
			{
				Pending   **link = &c->first;
				char		error[300];

				snprintf(error, sizeof(error), "%s", result->error ? result->error : "the store refused the manifest");
				end_put(c);
				set_phase(c, c->phase, error);
				while (*link)
				{
					Pending    *p = *link;

					*link = p->next;
					c->npending--;
					decide(c, p, OUTCOME_ABORTED, 0, error);
				}
				c->last = &c->first;
				c->retry_at = now(c) + BACKOFF_MAX_MS;
				break;
			}
			/* an earlier attempt had no verdict, so this one proves nothing */
			/* fallthrough */
		default:
			c->put_undecided = true;
			if (c->put_attempts % 10 == 9)
				set_phase(c, c->phase, result->error);
			back_off(c);
			break;
	}
	advance(c);
}

static void
start_put(Committer *c)
{
	c->put_under_way = true;
	c->put_attempts++;
	c->put_number = ++c->reads;
	c->put_op = store_create(c->store, c->put_key, c->put_object, c->put_len, put_done, c);
}

/* ------------------------------------------------------------------------------------ reading */

static void
answer_probes(Committer *c, uint64_t number)
{
	Probe	  **link = &c->probes;

	while (*link)
	{
		Probe	   *p = *link;

		if (p->after > number)
		{
			link = &p->next;
			continue;
		}
		*link = p->next;
		p->done(p->arg, c->version);
		free(p);
	}
}

static void
read_done(void *arg, StoreResult *result)
{
	Read	   *r = arg;

	r->done = true;
	r->op = NULL;
	r->status = result->status;
	snprintf(r->error, sizeof(r->error), "%s", result->error ? result->error : "");
	if (result->status == STORE_OK)
	{
		r->len = result->len;
		r->data = store_take(result);
	}
	if (!r->c->closing)
		advance(r->c);
}

static void
start_read(Committer *c, uint64_t version)
{
	char		key[64];

	for (int i = 0; i < READ_AHEAD; i++)
	{
		Read	   *r = &c->ahead[i];

		if (r->used)
			continue;
		memset(r, 0, sizeof(*r));
		r->c = c;
		r->used = true;
		r->version = version;
		r->number = ++c->reads;
		manifest_key(version, key, sizeof(key));
		r->op = store_get(c->store, key, 0, -1, read_done, r);
		c->nahead++;
		return;
	}
}

static Read *
find_read(Committer *c, uint64_t version)
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
static void
drop_stale_reads(Committer *c)
{
	for (int i = 0; i < READ_AHEAD; i++)
		if (c->ahead[i].used && c->ahead[i].done && c->ahead[i].version <= c->version)
			drop_read(c, &c->ahead[i]);
}

static void
at_head(Committer *c)
{
	if (c->phase == COMMITTER_ATTACHING)
	{
		if (c->cfg.read_only)
			set_phase(c, COMMITTER_READY, NULL);
		else
		{
			for (int i = 0; i < 2; i++)
			{
				uint64_t	x = c->cfg.random(c->cfg.arg);

				memcpy(c->nonce + 8 * i, &x, 8);
			}
			c->nonce_set = true;
			set_phase(c, COMMITTER_JOINING, NULL);
		}
	}
	c->poll_at = now(c) + c->poll_ms;
	c->poll_ms = c->poll_ms * 3 / 2 + 1 < c->cfg.poll_max_ms ? c->poll_ms * 3 / 2 + 1 : c->cfg.poll_max_ms;
}

/* Uses what was read of the next version.  True: something was applied, look again. */
static bool
use_read(Committer *c)
{
	Read	   *r = find_read(c, c->version + 1);
	uint64_t	number;

	if (r == NULL || !r->done)
		return false;
	number = r->number;
	if (r->status == STORE_OK)
	{
		uint8_t    *data = r->data;
		size_t		len = r->len;
		bool		ok;

		r->data = NULL;
		drop_read(c, r);
		if (c->putting)
		{
			uint8_t    *object = c->put_object;

			c->put_object = NULL;
			end_put(c);
			free(object);
		}
		ok = apply_object(c, data, len);
		free(data);
		c->poll_ms = c->cfg.poll_min_ms;
		c->poll_at = 0;
		return ok;
	}
	{
		StoreStatus status = r->status;
		char		error[256];

		memcpy(error, r->error, sizeof(error));
		/* what lies further on is read again, or a probe might use an old answer */
		drop_read(c, r);
		for (int i = 0; i < READ_AHEAD; i++)
			if (c->ahead[i].used && c->ahead[i].done)
				drop_read(c, &c->ahead[i]);
		if (status == STORE_NOT_FOUND)
		{
			if (c->put_readback)
			{
				/* the slot holds something, yet it is not there: undecided, put again (rule 1) */
				c->put_readback = false;
				c->put_undecided = true;
				back_off(c);
				return true;
			}
			at_head(c);
			answer_probes(c, number);
			return true;
		}
		set_phase(c, c->phase, error);
		c->poll_at = c->retry_at = now(c) + 500;
	}
	return false;
}

/* ------------------------------------------------------------------------------------ the machine */

static bool
want_group(Committer *c)
{
	if (c->phase == COMMITTER_JOINING)
		return true;
	if (c->phase != COMMITTER_READY || c->cfg.read_only)
		return false;
	if (c->marks)
		return true;
	if (c->npending == 0)
		return false;
	/* those just answered come back at once: wait a little, or groups halve */
	if (c->cfg.group_wait_us && c->last_group > 1 && c->npending < c->last_group)
	{
		if (c->group_since == 0)
			c->group_since = now(c) + 1;
		if (now(c) < c->group_since + (c->cfg.group_wait_us + 999) / 1000)
			return false;
	}
	c->group_since = 0;
	return true;
}

static void
advance(Committer *c)
{
	while (c->phase != COMMITTER_FAILED)
	{
		drop_stale_reads(c);
		if (use_read(c))
			continue;
		if (c->phase == COMMITTER_JOINING && c->epoch)
			set_phase(c, COMMITTER_READY, NULL);
		if (c->phase == COMMITTER_FAILED)
			return;
		if (c->putting)
		{
			if (c->put_under_way)
				return;
			if (c->put_readback)
			{
				if (find_read(c, c->version + 1) == NULL && now(c) >= c->retry_at)
					start_read(c, c->version + 1);
				return;
			}
			if (now(c) >= c->retry_at)
				start_put(c);
			return;
		}
		if (c->phase == COMMITTER_ATTACHING)
		{
			if (now(c) >= c->retry_at)
				for (uint64_t v = c->version + 1; v <= c->version + READ_AHEAD && c->nahead < READ_AHEAD; v++)
					if (find_read(c, v) == NULL)
						start_read(c, v);
			return;
		}
		if (now(c) >= c->retry_at && want_group(c) && build(c))
		{
			start_put(c);
			return;
		}
		{
			Read	   *r = find_read(c, c->version + 1);
			bool		probe = false;

			for (Probe *p = c->probes; p; p = p->next)
				if (r == NULL || p->after > r->number)
					probe = true;
			if (r == NULL && (probe || now(c) >= c->poll_at) && now(c) >= c->retry_at)
				start_read(c, c->version + 1);
		}
		return;
	}
}

Committer *
committer_create(const CommitterConfig *config, Store *store, const S3am__Repository *repository)
{
	Committer  *c = calloc(1, sizeof(*c));

	c->cfg = *config;
	if (c->cfg.poll_min_ms == 0)
		c->cfg.poll_min_ms = 50;
	if (c->cfg.poll_max_ms < c->cfg.poll_min_ms)
		c->cfg.poll_max_ms = c->cfg.poll_min_ms;
	c->store = store;
	memcpy(c->uuid, repository->uuid.data, 16);
	c->outcomes = outcomes_create();
	c->rows = rows_create();
	c->last = &c->first;
	c->poll_ms = c->cfg.poll_min_ms;
	c->phase = COMMITTER_ATTACHING;
	return c;
}

void
committer_submit(Committer *c, const uint8_t *bytes, size_t len, void *member)
{
	Pending    *p = calloc(1, sizeof(*p));

	p->txn = s3am__txn__unpack(NULL, len, bytes);
	p->len = len;
	p->handle = member;
	if (p->txn == NULL || p->txn->id == NULL)
	{
		c->cfg.decided(c->cfg.arg, member, OUTCOME_ABORTED, 0, "The record cannot be decoded.");
		if (p->txn)
			s3am__txn__free_unpacked(p->txn, NULL);
		free(p);
		return;
	}
	if (c->phase == COMMITTER_FENCED || c->phase == COMMITTER_FAILED || outcomes_fenced(c->outcomes, p->txn->id->epoch))
	{
		decide(c, p, OUTCOME_FENCED, 0, NULL);
		return;
	}
	*c->last = p;
	c->last = &p->next;
	c->npending++;
	c->poll_ms = c->cfg.poll_min_ms;
}

bool
committer_cancel(Committer *c, void *member)
{
	for (Pending **link = &c->first; *link; link = &(*link)->next)
		if ((*link)->handle == member)
		{
			Pending    *p = *link;

			if (p->tries > 0)
				return false;
			*link = p->next;
			if (c->last == &p->next)
				c->last = link;
			c->npending--;
			free_pending(p);
			return true;
		}
	return false;
}

bool
committer_outcome(Committer *c, uint64_t epoch, uint64_t seq, Outcome *outcome, uint64_t *version)
{
	IdState		state = outcomes_get(c->outcomes, epoch, seq, version);

	if (state == ID_UNKNOWN && !outcomes_fenced(c->outcomes, epoch))
		return false;
	*outcome = state == ID_COMMITTED ? OUTCOME_COMMITTED : OUTCOME_ABORTED;
	return true;
}

uint64_t
committer_last_epoch(const Committer *c)
{
	return outcomes_last_epoch(c->outcomes);
}

void
committer_mark(Committer *c, uint64_t epoch, uint64_t seq)
{
	Mark	   *mark = malloc(sizeof(*mark));

	*mark = (Mark) {c->marks, epoch, seq};
	c->marks = mark;
}

void
committer_probe(Committer *c, void (*done) (void *arg, uint64_t version), void *arg)
{
	Probe	   *p = malloc(sizeof(*p));

	*p = (Probe) {c->probes, c->reads + 1, done, arg};
	c->probes = p;
}

void
committer_expect(Committer *c, int members)
{
	if (members > 0 && (size_t) members > c->last_group)
		c->last_group = members;
}

uint64_t
committer_epoch(const Committer *c)
{
	return c->epoch;
}

uint64_t
committer_version(const Committer *c)
{
	return c->version;
}

CommitterPhase
committer_phase(const Committer *c)
{
	return c->phase;
}

int64_t
committer_tick(Committer *c)
{
	uint64_t	t;
	int64_t		wait = 1000;

	advance(c);
	t = now(c);
	if (c->phase == COMMITTER_FAILED)
		return -1;
	if (c->retry_at > t && (int64_t) (c->retry_at - t) < wait)
		wait = c->retry_at - t;
	if (!c->putting && c->nahead == 0 && c->phase != COMMITTER_ATTACHING)
	{
		if (c->poll_at <= t)
			wait = 0;
		else if ((int64_t) (c->poll_at - t) < wait)
			wait = c->poll_at - t;
	}
	if (c->group_since && wait > 1)
		wait = 1;
	return wait;
}

void
committer_destroy(Committer *c)
{
	c->closing = true;
	if (c->put_op)
		store_cancel(c->store, c->put_op);
	for (int i = 0; i < READ_AHEAD; i++)
		if (c->ahead[i].used && c->ahead[i].op)
			store_cancel(c->store, c->ahead[i].op);
	store_dispatch(c->store);
	while (c->first)
	{
		Pending    *p = c->first;

		c->first = p->next;
		free_pending(p);
	}
	while (c->marks)
	{
		Mark	   *m = c->marks;

		c->marks = m->next;
		free(m);
	}
	while (c->probes)
	{
		Probe	   *p = c->probes;

		c->probes = p->next;
		free(p);
	}
	for (int i = 0; i < WINDOW; i++)
	{
		if (c->window[i])
			s3am__manifest__free_unpacked(c->window[i], NULL);
		free(c->window_void[i]);
	}
	for (int i = 0; i < READ_AHEAD; i++)
		free(c->ahead[i].data);
	free(c->put_object);
	outcomes_free(c->outcomes);
	rows_free(c->rows);
	free(c);
}
