/*
 * client.c: sessions.
 *
 * A session looks at the database as its node has applied it, decides (draft.c), perhaps waits and looks again, and hands its
 * transaction over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draft.h"
#include "sim.h"

typedef struct Client
{
	int node;
	u64 number; /* of its transactions: stale events are dropped */
	ClientTxn *txn; /* being made or waited for */
	Proc *proc;
	u64 since;
	Draft draft;
	int looks; /* left */
	bool uploaded; /* its segments are there; it is to be handed over */
} Client;

static Client clients[NCLIENTS];
#define MAX_TIMES 100000
static u64 times[MAX_TIMES];
static size_t ntimes;
static ClientTxn **all;
static size_t nall, all_capacity;
#define HASH 4096
static ClientTxn *hash[HASH];
static u64 next_seq;
static int pending;

/* A transaction in the hands of one committer. */
typedef struct Submission
{
	ClientTxn *ct;
	Proc *proc;
	bool answered;
	struct Submission *all;
} Submission;

static Submission *submissions;

static void next(void *arg, u64 x);

/* ---------------------------------------------------------------- handing over */

ClientTxn *
client_find(u64 epoch, u64 seq)
{
	for (ClientTxn *t = hash[(epoch * 31 + seq) % HASH]; t; t = t->hash_next)
		if (t->epoch == epoch && t->seq == seq)
			return t;
	return NULL;
}

static ClientTxn *
new_txn(void)
{
	ClientTxn *ct = calloc(1, sizeof(*ct));

	ct->txn = malloc(sizeof(*ct->txn));
	s3am__txn__init(ct->txn);
	if (nall == all_capacity)
	{
		all_capacity = all_capacity ? all_capacity * 2 : 256;
		all = realloc(all, all_capacity * sizeof(void *));
	}
	all[nall++] = ct;
	return ct;
}

static void
submit(Proc *proc, ClientTxn *ct, bool shared)
{
	size_t len = s3am__txn__get_packed_size(ct->txn);
	uint8_t *bytes = malloc(len + 1);
	Submission *s = calloc(1, sizeof(*s));
	Proc *before;

	s3am__txn__pack(ct->txn, bytes);
	s->ct = ct;
	s->proc = proc;
	s->all = submissions;
	submissions = s;
	pending++;
	before = core_enter(proc);
	if (shared)
		committer_submit_shared(proc->c, bytes, len, s);
	else
		committer_submit(proc->c, bytes, len, s);
	core_return(before);
	free(bytes);
	proc_after(proc);
}

/* The same transaction is handed to another node's committer, as by a follower whose leader changed. */
static void
submit_again(void *arg, u64 node)
{
	ClientTxn *ct = arg;
	Proc *proc = running[node];

	if (proc == NULL || !proc->alive || committer_phase(proc->c) != COMMITTER_READY)
		return;
	COUNT(SHARED);
	submit(proc, ct, true);
}

static void
abandon(void *arg, u64 x)
{
	Submission *s = arg;

	(void) x;
	if (s->answered || !s->proc->alive)
	{
		steps--;
		return;
	}
	committer_abandon(s->proc->c, s);
	proc_after(s->proc);
}

/* Segments are uploaded while a transaction runs, long before its commit names them. */
static void
upload(Client *client)
{
	ClientTxn *ct = client->txn;
	Proc *proc = client->proc;

	ct->first_segment = proc->next_segment + 1;
	draft_finish(ct, &client->draft, proc);
	ct->epoch = committer_epoch(proc->c);
	client->uploaded = true;
}

/* Objects of a process's epoch with lower numbers belong to no transaction that may still commit. */
u64
client_oldest_segment(const Proc *proc)
{
	u64 oldest = proc->next_segment + 1;

	for (int i = 0; i < NCLIENTS; i++)
		if (clients[i].txn && clients[i].proc == proc && clients[i].txn->first_segment &&
			clients[i].txn->first_segment < oldest)
			oldest = clients[i].txn->first_segment;
	for (const Submission *s = submissions; s; s = s->all)
		if (s->proc == proc && !s->answered && s->ct->first_segment && s->ct->epoch == committer_epoch(proc->c) &&
			s->ct->first_segment < oldest)
			oldest = s->ct->first_segment;
	return oldest;
}

static void
hand_over(Client *client)
{
	ClientTxn *ct = client->txn;
	Draft *d = &client->draft;
	Proc *proc = client->proc;
	S3am__CommitId *id = malloc(sizeof(*id));
	bool shared = chance(sc.shared);

	ct->seq = ++next_seq;
	ct->base = d->base;
	s3am__commit_id__init(id);
	id->epoch = ct->epoch;
	id->seq = ct->seq;
	ct->txn->id = id;
	ct->txn->base_version = d->base;
	ct->hash_next = hash[(ct->epoch * 31 + ct->seq) % HASH];
	hash[(ct->epoch * 31 + ct->seq) % HASH] = ct;
	if (shared)
		at(now_us + rnd_below(400000), NULL, submit_again, ct, rnd_below(NNODES));
	submit(proc, ct, shared);
	if (submissions->ct == ct && !submissions->answered && fault(60))
		at(now_us + rnd_below(800000), proc, abandon, submissions, 0);
}

static void
again(Client *client, u64 us)
{
	at(now_us + us, NULL, next, client, ++client->number);
}

/* The next thing that a client does: look, look again, hand over, give up waiting. */
static void
next(void *arg, u64 x)
{
	Client *client = arg;
	Proc *proc = running[client->node];
	Draft *d = &client->draft;

	if (x != client->number)
	{
		steps--;
		return;
	}
	if (client->txn && client->uploaded && proc == client->proc && proc->alive && proc->paused_until <= now_us &&
		committer_epoch(proc->c) == client->txn->epoch)
	{
		client->uploaded = false;
		again(client, 2000000); /* commit_timeout */
		client->since = now_us;
		hand_over(client);
		return;
	}
	if (client->uploaded)
	{
		client->txn->epoch = 0; /* its epoch has ended: it was never handed over */
		client->uploaded = false;
	}
	if (client->txn && client->looks == 0)
		client->txn = NULL; /* waited long enough: 08007 */
	if (client->txn && (client->proc != proc || !proc || !proc->alive))
		client->txn = NULL; /* its server died before COMMIT */
	if (calm)
		return;
	if (proc == NULL || !proc->alive || proc->paused_until > now_us || committer_phase(proc->c) != COMMITTER_READY ||
		committer_epoch(proc->c) == 0)
	{
		again(client, 50000 + rnd_below(50000));
		return;
	}
	if (client->txn == NULL)
	{
		client->txn = new_txn();
		client->proc = proc;
		client->looks = 1 + rnd_below(3);
		draft_begin(d, proc->applied);
		if (chance(sc.ddl))
		{
			client->looks = 1;
			draft_schema(client->txn, d);
			goto looked;
		}
	}
	if (!d->serializable)
		d->look = proc->applied;
	if (sc.bench)
	{
		client->looks = 1;
		draft_insert(client->txn, d);
		goto looked;
	}
	draft_operate(client->txn, d);
looked:
	if (--client->looks > 0)
	{
		again(client, rnd_below(sc.think_ms * 1000 + 1));
		return;
	}
	if (d->nedits == 0 && client->txn->txn->n_rows == 0 && client->txn->txn->n_names == 0)
	{
		client->txn = NULL; /* it found nothing to do */
		again(client, rnd_below(sc.think_ms * 1000 + 1));
		return;
	}
	upload(client);
	again(client, sc.bench || sc.hurried || chance(700) ? 0 : rnd_below(3000 * sc.think_ms));
}

void
client_decided(Proc *proc, void *handle, Outcome outcome, u64 version, const char *detail)
{
	Submission *s = handle;
	ClientTxn *ct = s->ct;

	if (!s->answered)
		pending--;
	if (s->answered || s->proc != proc)
		violation("transaction %llu.%llu was answered twice, or after the process died", (unsigned long long) ct->epoch,
				  (unsigned long long) ct->seq);
	s->answered = true;
	if (outcome == OUTCOME_COMMITTED)
	{
		counters[N_COMMITTED]++;
		if (ct->version == 0)
			violation("LOST: transaction %llu.%llu was answered as committed in version %llu, and is in none",
					  (unsigned long long) ct->epoch, (unsigned long long) ct->seq, (unsigned long long) version);
		if (ct->answer == ANSWER_NEVER)
			violation("transaction %llu.%llu was answered as not committed, then as committed",
					  (unsigned long long) ct->epoch, (unsigned long long) ct->seq);
		if (version < ct->version || version > proc->applied)
			violation("transaction %llu.%llu is in version %llu, the answer says %llu, the node has %llu",
					  (unsigned long long) ct->epoch, (unsigned long long) ct->seq, (unsigned long long) ct->version,
					  (unsigned long long) version, (unsigned long long) proc->applied);
		ct->answer = ANSWER_COMMITTED;
	}
	else if (outcome != OUTCOME_RELEASED)
	{
		note("transaction %llu.%llu is answered: %s", (unsigned long long) ct->epoch, (unsigned long long) ct->seq,
			 detail ? detail : "fenced");
		counters[outcome == OUTCOME_CONFLICT                               ? N_CONFLICT
				 : outcome == OUTCOME_ABORTED || outcome == OUTCOME_DENIED ? N_ABORTED
																		   : N_FENCED]++;
		if (ct->version)
			violation("LOST: transaction %llu.%llu was answered as not committed (%s), and is in version %llu",
					  (unsigned long long) ct->epoch, (unsigned long long) ct->seq, detail ? detail : "fenced",
					  (unsigned long long) ct->version);
		ct->answer = ANSWER_NEVER;
	}
	for (int i = 0; i < NCLIENTS; i++)
		if (clients[i].txn == ct && clients[i].looks == 0)
		{
			if (sc.bench && ntimes < MAX_TIMES)
				times[ntimes++] = now_us - clients[i].since;
			clients[i].txn = NULL;
			again(&clients[i], rnd_below(sc.bench ? 1000 : sc.think_ms * 1000 + 1));
		}
}

/* A process died: nobody will answer what it had. */
void
client_crashed(Proc *proc)
{
	for (Submission *s = submissions; s; s = s->all)
		if (s->proc == proc && !s->answered)
		{
			s->answered = true;
			pending--;
		}
}

int
client_pending_of(const Proc *proc)
{
	int n = 0;

	for (Submission *s = submissions; s; s = s->all)
		n += s->proc == proc && !s->answered;
	return n;
}

int
client_pending(void)
{
	return pending;
}

/* Asks a node about everything that was ever handed over. */
bool
client_resolve(bool final)
{
	Proc *proc = NULL;

	for (int i = 0; i < NNODES; i++)
		if (running[i] && committer_phase(running[i]->c) == COMMITTER_READY)
			proc = running[i];
	for (size_t i = 0; proc && i < nall; i++)
	{
		ClientTxn *ct = all[i];
		Outcome outcome;
		u64 version;

		if (ct->epoch == 0 || (ct->version && ct->version > proc->applied))
			continue;
		if (!committer_outcome(proc->c, ct->epoch, ct->seq, &outcome, &version))
		{
			if (ct->answer == ANSWER_NONE)
			{
				if (final)
					violation("STALLED: nobody can tell the outcome of transaction %llu.%llu",
							  (unsigned long long) ct->epoch, (unsigned long long) ct->seq);
				return false;
			}
			if (ct->version)
				violation("LOST: the outcome of transaction %llu.%llu of version %llu is not known",
						  (unsigned long long) ct->epoch, (unsigned long long) ct->seq,
						  (unsigned long long) ct->version);
			continue;
		}
		if (outcome == OUTCOME_TOO_OLD)
			continue;
		if ((outcome == OUTCOME_COMMITTED) != (ct->version != 0) || (version && version != ct->version))
			violation("LOST: the outcome of transaction %llu.%llu is told wrongly", (unsigned long long) ct->epoch,
					  (unsigned long long) ct->seq);
	}
	return proc != NULL;
}

/* A checkpoint's outcomes of one epoch. */
void
client_check_outcomes(u64 version, u64 epoch, const RowSet *committed, const RowSet *aborted)
{
	for (size_t i = 0; i < nall; i++)
	{
		ClientTxn *ct = all[i];
		bool should = ct->version && ct->version <= version;

		if (ct->epoch != epoch)
			continue;
		if (rowset_contains(committed, ct->seq) != should || (should && rowset_contains(aborted, ct->seq)))
			violation("WRONG CHECKPOINT: the outcome of transaction %llu.%llu", (unsigned long long) ct->epoch,
					  (unsigned long long) ct->seq);
	}
}

static int
compare_times(const void *a, const void *b)
{
	u64 x = *(const u64 *) a, y = *(const u64 *) b;

	return x < y ? -1 : x > y;
}

u64
client_median_us(void)
{
	qsort(times, ntimes, sizeof(u64), compare_times);
	return ntimes ? times[ntimes / 2] : 0;
}

void
client_start_all(void)
{
	for (int i = 0; i < sc.clients; i++)
	{
		clients[i].node = i % sc.nodes;
		again(&clients[i], rnd_below(100000));
	}
}

void
client_reset(void)
{
	while (submissions)
	{
		Submission *s = submissions;

		submissions = s->all;
		free(s);
	}
	for (size_t i = 0; i < nall; i++)
	{
		s3am__txn__free_unpacked(all[i]->txn, NULL);
		free(all[i]);
	}
	nall = 0;
	memset(hash, 0, sizeof(hash));
	memset(clients, 0, sizeof(clients));
	ntimes = 0;
	draft_reset();
	next_seq = 0;
	pending = 0;
}
