/*
 * proc.c: processes of nodes: a Committer each, its clock, its death; and the chaos that befalls them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/checkpoint.h"
#include "manifest/collect.h"
#include "manifest/envelope.h"
#include "manifest/keys.h"
#include "sim.h"

Proc *procs;
Proc *running[NNODES];
uint8_t repository_uuid[16] = "simulated bucket";

static u64 nprocs;
static char identities[NNODES][8];

typedef struct Asked
{
	Proc *proc;
	u64 head;
	bool answered;
	struct Asked *next;
} Asked;

static Asked *questions;

static bool tampered;
bool tamper_found;

static void start(int node, Server *server);

/* ---------------------------------------------------------------- callbacks of the committer */

static u64
node_clock(void *arg)
{
	Proc *proc = arg;

	return (u64) ((int64_t) (now_us / 1000) * proc->clock_rate / 1000 + proc->clock_offset_ms);
}

static u64
node_random(void *arg)
{
	Proc *proc = arg;
	u64 x = rnd();

	/* the first two numbers are the name of its pin */
	if (proc->nonce[0] == 0)
		proc->nonce[0] = x;
	else if (proc->nonce[1] == 0)
		proc->nonce[1] = x;
	return x;
}

/*
 * Is it the pin of a process that is attaching, and has found it good?  An older version than that of the checkpoint is for the server's
 * readers, whom server.c watches.
 */
bool
pin_in_use(const char *key, u64 version)
{
	char its[KEY_SIZE];

	for (Proc *p = procs; p; p = p->next)
	{
		key_pin(its, (const uint8_t *) p->nonce);
		if (p->alive && strcmp(its, key) == 0)
			return version > server_published(p->server) && committer_reading_checkpoint(p->c);
	}
	return false;
}

static void
on_applied(void *arg, u64 version, const S3am__Manifest *manifest, const bool *voided, const uint8_t *object,
		   size_t len)
{
	Proc *before = core_leave();

	(void) manifest;
	truth_applied(arg, version, voided, object, len);
	server_applied(((Proc *) arg)->server, version);
	core_return(before);
}

static void
on_restored(void *arg, const S3am__Checkpoint *root)
{
	Proc *proc = arg;
	Proc *before = core_leave();

	if (proc->applied)
		COUNT(CATCH_UP);
	counters[N_RESTORED]++;
	truth_restored(proc, root);
	server_restored(proc->server, root);
	note("process %llu restored version %llu", (unsigned long long) proc->number, (unsigned long long) root->version);
	core_return(before);
}

static void
on_decided(void *arg, void *member, Outcome outcome, u64 version, const char *detail)
{
	Proc *before = core_leave();

	client_decided(arg, member, outcome, version, detail);
	core_return(before);
}

static void
on_phase(void *arg, CommitterPhase phase, const char *error)
{
	Proc *proc = arg;
	Proc *before = core_leave();

	if (phase == COMMITTER_FAILED && tampered)
		tamper_found = true;
	else if (phase == COMMITTER_FAILED)
		violation("process %llu failed: %s", (unsigned long long) proc->number, error ? error : "");
	if (phase == COMMITTER_READY && committer_epoch(proc->c))
	{
		char key[KEY_SIZE];

		key_node(key, committer_epoch(proc->c));
		server_sign(proc->server, key);
		server_ready(proc->server);
	}
	if (phase == COMMITTER_READY && error == NULL)
		note("process %llu is ready, epoch %llu", (unsigned long long) proc->number,
			 (unsigned long long) committer_epoch(proc->c));
	if (phase == COMMITTER_FENCED)
		note("process %llu was fenced", (unsigned long long) proc->number);
	core_return(before);
}

static u64
on_oldest_read(void *arg)
{
	Proc *proc = arg;

	return server_oldest_read(proc->server, proc->applied);
}

/* ---------------------------------------------------------------- background work */

static void collect(void *arg, u64 x);

static void
built(void *arg, bool published, const char *error)
{
	Proc *proc = arg;

	proc->build = NULL;
	proc->build_began = 0;
	note("process %llu: checkpoint %s%s", (unsigned long long) proc->number,
		 published ? "published" : "not published: ", error ? error : "");
}

static void
collected(void *arg, const CollectReport *report, const char *error)
{
	Proc *proc = arg;

	proc->collection_began = 0;
	if (report->swept > proc->swept && report->swept != UINT64_MAX)
		proc->swept = report->swept;
	note("process %llu: collected up to %llu %s", (unsigned long long) proc->number, (unsigned long long) report->swept,
		 error ? error : "");
}

static bool
in_use(void *arg, u64 epoch, u64 number)
{
	Proc *proc = arg;

	(void) epoch;
	return number >= (RULE(P13_IN_USE) ? proc->oldest_segment : client_oldest_segment(proc));
}

static void
collect(void *arg, u64 x)
{
	Proc *proc = arg;
	const S3am__CheckpointRef *current;
	Proc *before;
	CheckpointConfig build = {proc, built, 0, 300, 200, 4, 20000, proc->swept};
	CollectConfig config = {proc, sc.retention_ms, GRACE_MS, PIN_MS, false, UINT64_MAX, in_use, NULL, collected};

	(void) x;
	if (!proc->alive)
	{
		steps--;
		return;
	}
	at(now_us + rnd_below(2000 * sc.collect_ms), proc, collect, proc, 0);
	current = committer_checkpoint(proc->c);
	before = core_enter(proc);
	if (proc->build == NULL && committer_version(proc->c) > (current ? current->version : 0) + sc.every && chance(600))
	{
		if (chance(200))
			build.max_delta = 400;
		proc->build_began = now_us;
		proc->build = checkpoint_begin(&build, proc->c, proc->store, repository_uuid);
	}
	else
	{
		if (proc->collection_began == 0)
			proc->oldest_segment = client_oldest_segment(proc);
		config.first_page = proc->build ? checkpoint_first_page(proc->build) : committer_new_page(proc->c);
		if (collector_run(proc->collector, &config))
			proc->collection_began = now_us;
	}
	core_return(before);
	proc_after(proc);
}

/*
 * The pages of the checkpoint that the server was to read are gone, since it was silent for too long, and the chain has a newer one: the
 * committer starts over from that.  With an epoch it ends that first, so that all it has on its way is told of.
 */
static bool
starts_over(Proc *proc)
{
	u64 lost = server_lost(proc->server);
	const S3am__CheckpointRef *current = committer_checkpoint(proc->c);

	if (lost == 0 || current == NULL || current->version <= lost)
		return false;
	if (committer_phase(proc->c) != COMMITTER_READY)
		return committer_phase(proc->c) != COMMITTER_FENCED;
	if (committer_epoch_live(proc->c, committer_epoch(proc->c)))
		committer_fence(proc->c, committer_epoch(proc->c), NULL, NULL);
	return false;
}

bool
proc_background(u64 since)
{
	for (const Proc *proc = procs; proc; proc = proc->next)
		if (proc->alive &&
			((proc->build && proc->build_began < since) || (proc->collection_began && proc->collection_began < since)))
			return true;
	return false;
}

/* A hint that is old, or points at nothing. */
static void
spoil_hint(void)
{
	S3am__Root root = S3AM__ROOT__INIT;
	uint8_t payload[32];
	size_t len;
	uint8_t *object;

	root.version = rnd_below(head + 3);
	len = s3am__root__pack(&root, payload);
	object = envelope_seal(ENVELOPE_ROOT, repository_uuid, KEY_ROOT, payload, len, &len);
	if (object == NULL)
		return;
	COUNT(STALE_HINT);
	bucket_put(KEY_ROOT, object, len);
	free(object);
}

/* Somebody with the keys to the bucket replaces the newest manifest by another one, well formed. */
static void
tamper(void)
{
	char key[KEY_SIZE];
	size_t len, object_len;
	const uint8_t *object;
	uint8_t *payload, *forged;
	char *error = NULL;
	S3am__Manifest *m;

	key_manifest(key, head);
	object = bucket_object(key, &object_len);
	payload =
		object ? envelope_open(ENVELOPE_MANIFEST, repository_uuid, key, object, object_len, &len, NULL, &error) : NULL;
	m = payload ? s3am__manifest__unpack(NULL, len, payload) : NULL;
	if (m == NULL || m->predecessor.len != 16)
		return;
	COUNT(TAMPER);
	tampered = true;
	m->predecessor.data[3] ^= 1;
	m->time_ms++;
	s3am__manifest__pack(m, payload = realloc(payload, s3am__manifest__get_packed_size(m) + 1));
	forged = envelope_seal(ENVELOPE_MANIFEST, repository_uuid, key, payload, s3am__manifest__get_packed_size(m), &len);
	bucket_put(key, forged, len);
	note("%s is forged", key);
	free(forged);
	free(payload);
	s3am__manifest__free_unpacked(m, NULL);
}

/* ---------------------------------------------------------------- life */

static void
on_tick(void *arg, u64 x)
{
	Proc *proc = arg;

	if (!proc->alive || x != proc->tick_number)
	{
		steps--;
		return;
	}
	proc_after(proc);
}

void
proc_after(Proc *proc)
{
	int64_t wait;
	Proc *before;

	if (!proc->alive)
		return;
	before = core_enter(proc);
	wait = committer_tick(proc->c);
	if (checkpoint_tick(proc->build))
		wait = 0;
	collector_tick(proc->collector);
	core_return(before);
	if (wait >= 0)
		at(now_us + (u64) wait * 1000 + 200, proc, on_tick, proc, ++proc->tick_number);
}

static void
start(int node, Server *server)
{
	static S3am__Repository repository = S3AM__REPOSITORY__INIT;
	CommitterConfig config = {0};
	Proc *proc = calloc(1, sizeof(*proc));

	proc->node = node;
	proc->number = ++nprocs;
	proc->alive = true;
	proc->server = server ? server : server_start();
	proc->clock_rate = 900 + rnd_below(200);
	proc->clock_offset_ms = 1000000 + rnd_below(100000000);
	proc->next = procs;
	procs = proc;
	proc->store = sim_store_open(proc);
	repository.uuid.data = repository_uuid;
	repository.uuid.len = 16;
	repository.format_level = 1;
	repository.grace_ms = GRACE_MS;
	config.arg = proc;
	snprintf(identities[node], sizeof(identities[node]), "node%d", node);
	config.node = (const uint8_t *) identities[node];
	config.node_len = 5;
	config.now_ms = node_clock;
	config.random = node_random;
	config.group_wait_us = 2000;
	config.max_tries = 20;
	config.poll_min_ms = 30;
	config.poll_max_ms = 200;
	config.outcome_retention_ms = 20000;
	config.lease_ms = sc.lease_ms;
	config.window = sc.bench ? 0 : 64;
	config.recent_bytes = proc->number % 2 ? 1000 : 0;
	config.applied = on_applied;
	config.restored = on_restored;
	config.decided = on_decided;
	config.phase = on_phase;
	config.oldest_read = on_oldest_read;
	proc->c = committer_create(&config, proc->store, &repository);
	server_withdraw(proc->server, proc->c);
	{
		char key[KEY_SIZE];

		key_pin(key, (const uint8_t *) proc->nonce);
		server_sign(proc->server, key);
	}
	proc->collector = collector_create(proc->c, proc->store, repository_uuid);
	if (sc.collect_ms)
		at(now_us + rnd_below(1000 * sc.collect_ms), proc, collect, proc, 0);
	running[node] = proc;
	note("process %llu starts on node %d", (unsigned long long) proc->number, node);
	proc_after(proc);
}

/* whole: what it has can still be used, to free it. */
static void
end_proc(Proc *proc, bool server, bool whole)
{
	if (server)
		server_stop(proc->server);
	proc->alive = false;
	client_crashed(proc);
	if (whole)
	{
		checkpoint_cancel(proc->build);
		collector_free(proc->collector);
		committer_destroy(proc->c);
		store_close(proc->store);
	}
	else
		sim_store_abandon(proc->store);
	proc->build = NULL;
	proc->collector = NULL;
	proc->c = NULL;
	for (Asked *a = questions; a; a = a->next)
		if (a->proc == proc)
			a->answered = true;
	if (running[proc->node] == proc)
		running[proc->node] = NULL;
}

static void
kill_proc(Proc *proc, bool server)
{
	note("process %llu is killed", (unsigned long long) proc->number);
	end_proc(proc, server, true);
}

/* ---------------------------------------------------------------- freshness */

static void
on_probed(void *arg, u64 version)
{
	Asked *a = arg;

	if (a->answered)
		violation("a probe was answered twice");
	a->answered = true;
	counters[N_PROBES]++;
	if (version < a->head)
		violation("STALE: process %llu says that version %llu is the latest; it was %llu before the question",
				  (unsigned long long) a->proc->number, (unsigned long long) version, (unsigned long long) a->head);
	if (a->proc->applied < version)
		violation("process %llu answers a probe with version %llu and has applied %llu",
				  (unsigned long long) a->proc->number, (unsigned long long) version,
				  (unsigned long long) a->proc->applied);
}

static void
ask(Proc *proc)
{
	Asked *a = calloc(1, sizeof(*a));
	Proc *before;

	a->proc = proc;
	a->head = head;
	a->next = questions;
	questions = a;
	before = core_enter(proc);
	committer_probe(proc->c, on_probed, a);
	core_return(before);
	proc_after(proc);
}

bool
proc_questions(void)
{
	for (Asked *a = questions; a; a = a->next)
		if (!a->answered)
			return true;
	return false;
}

/* ---------------------------------------------------------------- chaos */

static void
restart(void *arg, u64 node)
{
	Server *server = arg; /* that goes on; NULL: one that begins */

	if (running[node] == NULL)
		start(node, server);
	else
	{
		if (server)
			server_stop(server);
		steps--;
	}
}

void
proc_refused(Proc *proc)
{
	bool runs = running[proc->node] == proc;

	counters[N_REFUSED]++;
	note("process %llu has no memory", (unsigned long long) proc->number);
	end_proc(proc, !runs, false);
	/* those who read go on, and another committer begins */
	if (runs)
		at(now_us + rnd_below(300000), NULL, restart, proc->server, proc->node);
}

static void
end_clone(void *arg, u64 x)
{
	Proc *proc = arg;

	(void) x;
	if (proc->alive && running[proc->node] != proc)
		kill_proc(proc, true);
}

static Proc *
any_proc(void)
{
	Proc *alive[64];
	int n = 0;

	for (Proc *p = procs; p && n < 64; p = p->next)
		if (p->alive)
			alive[n++] = p;
	return n ? alive[rnd_below(n)] : NULL;
}

void
chaos(void *arg, u64 x)
{
	Proc *proc = any_proc();

	(void) arg;
	(void) x;
	if (calm)
		return;
	at(now_us + 30000 + rnd_below(40000), NULL, chaos, NULL, 0);
	if (proc == NULL)
		return;
	if (chance(20))
		spoil_hint();
	if (sc.away && chance(sc.away))
		bucket_go_away();
	if (head > 3 && fault(sc.tamper) && !tampered)
		tamper();
	if (chance(150) && proc->paused_until <= now_us)
		ask(proc);
	if (running[proc->node] == proc && proc->paused_until <= now_us && starts_over(proc))
	{
		counters[N_LOST]++;
		kill_proc(proc, false);
		at(now_us + rnd_below(300000), NULL, restart, proc->server, proc->node);
		return;
	}
	if (committer_phase(proc->c) == COMMITTER_FENCED && running[proc->node] == proc && chance(300))
	{
		/* the committer begins anew; those who read go on */
		kill_proc(proc, false);
		at(now_us + rnd_below(300000), NULL, restart, proc->server, proc->node);
		return;
	}
	if (chance(sc.pause) && proc->paused_until <= now_us)
	{
		COUNT(PAUSE_SHORT);
		proc->paused_until = now_us + rnd_below(400 * GRACE_MS);
	}
	else if (chance(sc.long_pause) && proc->paused_until <= now_us)
	{
		COUNT(PAUSE_LONG);
		proc->paused_until = now_us + 2000 * GRACE_MS + rnd_below((chance(300) ? 30000 : 3000) * GRACE_MS);
		note("process %llu is paused", (unsigned long long) proc->number);
		/* a suspended machine's clock stands still */
		if (chance(500))
			proc->clock_offset_ms -= (int64_t) (proc->paused_until - now_us) / 1000 * 9 / 10;
	}
	else if (chance(sc.crash))
	{
		COUNT(CRASH);
		if (sim_store_putting(proc->store))
			COUNT(CRASH_IN_PUT);
		kill_proc(proc, true);
		at(now_us + rnd_below(300000), NULL, restart, NULL, proc->node);
	}
	else if (chance(sc.clone) && running[proc->node] == proc)
	{
		COUNT(CLONE);
		start(proc->node, NULL);
		at(now_us + rnd_below(2000000), NULL, end_clone, proc, 0);
	}
	else if (chance(sc.clock))
	{
		COUNT(CLOCK_JUMP);
		proc->clock_offset_ms += rnd_below(5000);
	}
}

/* No more faults: every node has one process that runs. */
void
proc_calm(void)
{
	for (Proc *p = procs; p; p = p->next)
	{
		p->paused_until = 0;
		if (p->alive && running[p->node] != p)
			kill_proc(p, true);
	}
	for (int i = 0; i < sc.nodes; i++)
		if (running[i] == NULL)
			start(i, NULL);
}

void
proc_start_all(void)
{
	for (int i = 0; i < sc.nodes; i++)
		at(now_us + rnd_below(100000), NULL, restart, NULL, i);
	if (!sc.bench)
		at(now_us + 200000, NULL, chaos, NULL, 0);
}

void
proc_reset(void)
{
	for (Proc *p = procs, *next; p; p = next)
	{
		next = p->next;
		if (p->alive)
			kill_proc(p, true);
	}
}

/* After the world was reset: nothing points to them any more. */
void
proc_free(void)
{
	while (procs)
	{
		Proc *p = procs;

		procs = p->next;
		free(p);
	}
	while (questions)
	{
		Asked *a = questions;

		questions = a->next;
		free(a);
	}
	memset(running, 0, sizeof(running));
	server_reset();
	nprocs = 0;
	tampered = tamper_found = false;
}

/* Where everybody is, for the report. */
void
proc_report(void)
{
	for (Proc *p = procs; p; p = p->next)
		if (p->alive)
			note("process %llu of node %d: phase %d, epoch %llu, version %llu, %d without an answer",
				 (unsigned long long) p->number, p->node, committer_phase(p->c),
				 (unsigned long long) committer_epoch(p->c), (unsigned long long) p->applied, client_pending_of(p));
}
