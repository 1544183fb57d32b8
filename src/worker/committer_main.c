/*
 * committer_main.c: the process that follows the chain and appends to it.
 *
 * It embeds the commit protocol (src/manifest/committer.h) between the queue of submissions and the queue of deliveries.  Its
 * process may end at any moment for lack of memory: all that sessions have handed over, and all that they have asked, is in shared memory, and
 * what this process holds of that is put where the next one finds it (hand_over).  That one begins another epoch, which
 * fences this one's, and then the chain tells what became of the transactions (settle_orphans).  An unexpected error of another
 * kind ends the process in a way that makes the server start over, since what is in memory may be wrong.
 */
#include "postgres.h"

#include <unistd.h>

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/pmsignal.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/pidfile.h"

#include "manifest/committer.h"
#include "manifest/keys.h"
#include "manifest/memory.h"
#include "manifest/repository.h"
#include "node/bucket.h"
#include "node/identity.h"
#include "node/request.h"
#include "refusal.h"
#include "s3am.h"
#include "worker/leaves_ahead.h"
#include "worker/trouble.h"
#include "worker/upkeep.h"
#include "worker/worker.h"

#define TRY_MS 10000 /* that a commit is tried at least while other servers are faster */
#define LEAVE_MS 5000 /* that a shutdown waits for the end of the epoch to be written */
#define RECENT_BYTES ((size_t) 16 * 1024 * 1024) /* manifests that the next checkpoint need not read */
#define BACKLOG_BYTES ((uint64) 64 * 1024 * 1024) /* read ahead of the publisher while attaching */

static S3Node *node;
static Store *store;
static WaitEventSet *waits;
static Committer *committer;
static volatile sig_atomic_t stop_requested;
static bool attached_delivered;
static bool again; /* the node was attached before, and its epoch was fenced */
static bool leaving; /* this process ends its epoch itself */
static dsa_pointer asking; /* requests that were taken from the queue a moment ago */
static dsa_pointer asked; /* requests that wait for a probe of the head */
static dsa_pointer unresolved; /* requests that wait for an abort mark or a commit */
static uint64 probes_asked;
static dsa_pointer submitted; /* members that were taken from the queue a moment ago */
static dsa_pointer *taken; /* members without an outcome */
static uint32 ntaken, taken_capacity;
static int failures; /* to open the repository, one after the other */
static Trouble unusable; /* the repository cannot be opened */
static Trouble trouble; /* it is open, but it cannot be followed, or extended */

static void
handle_stop(SIGNAL_ARGS)
{
	int save = errno;

	stop_requested = true;
	SetLatch(MyLatch);
	errno = save;
}

static bool
interrupted(void)
{
	return stop_requested || !PostmasterIsAlive();
}

static uint64_t
now_ms(void *arg)
{
	instr_time t;

	INSTR_TIME_SET_CURRENT(t);
	return (uint64_t) INSTR_TIME_GET_MILLISEC(t);
}

static uint64_t
random_number(void *arg)
{
	return pg_prng_uint64(&pg_global_prng_state);
}

static Delivery *
make_delivery(DeliveryKind kind, uint64 version, Size len, dsa_pointer *p)
{
	Delivery *delivery;

	*p = dsa_allocate_extended(node_dsa(node), offsetof(Delivery, payload) + len, DSA_ALLOC_HUGE);
	delivery = dsa_get_address(node_dsa(node), *p);
	memset(delivery, 0, offsetof(Delivery, payload));
	delivery->kind = kind;
	delivery->version = version;
	delivery->len = len;
	return delivery;
}

static void
deliver(dsa_pointer p)
{
	Delivery *delivery = dsa_get_address(node_dsa(node), p);

	pg_atomic_fetch_add_u64(&node->undelivered_bytes, delivery->len);
	node_push(node, &node->deliveries, p);
	node_wake(node->publisher_procno);
}

/* ------------------------------------------------------------------------------------ questions */

/* Answers a request if the outcome is known. */
static bool
answer_known(dsa_pointer p)
{
	Request *request = dsa_get_address(node_dsa(node), p);
	Outcome outcome;
	uint64_t version;

	if (!committer_outcome(committer, request->epoch, request->seq, &outcome, &version))
		return false;
	request_answer(node, p,
				   outcome == OUTCOME_COMMITTED ? ANSWER_COMMITTED
				   : outcome == OUTCOME_TOO_OLD ? ANSWER_TOO_OLD
												: ANSWER_ABORTED,
				   version);
	return true;
}

static void
no_longer_asked(dsa_pointer p)
{
	dsa_pointer *link = &asked;

	while (*link != p)
		link = &((Request *) dsa_get_address(node_dsa(node), *link))->next;
	*link = ((Request *) dsa_get_address(node_dsa(node), p))->next;
}

/* All that the chain had when the question came is applied now. */
static void
on_outcome_probed(void *arg, uint64_t version)
{
	dsa_pointer p = (dsa_pointer) (uintptr_t) arg;
	Request *request = dsa_get_address(node_dsa(node), p);

	no_longer_asked(p); /* nothing allocates before it is in another list, or answered */
	if (request->epoch > committer_last_epoch(committer))
		request_answer(node, p, ANSWER_NO_EPOCH, version);
	else if (answer_known(p))
		return;
	else if (!request->resolve)
		request_answer(node, p, ANSWER_UNDECIDED, version);
	else if (committer_phase(committer) != COMMITTER_READY)
		request_answer(node, p, ANSWER_READ_ONLY, version);
	else
	{
		request->next = unresolved;
		unresolved = p;
		committer_mark(committer, request->epoch, request->seq);
	}
}

/* Each version may bring the outcome of those that wait for one. */
static void
answer_resolved(void)
{
	dsa_pointer p = unresolved;

	unresolved = InvalidDsaPointer;
	while (DsaPointerIsValid(p))
	{
		Request *request = dsa_get_address(node_dsa(node), p);
		dsa_pointer next = request->next;

		if (!answer_known(p))
		{
			request->next = unresolved;
			unresolved = p;
		}
		p = next;
	}
}

static void
on_head_probed(void *arg, uint64_t version)
{
	/* the newest of several that are answered at once comes first; those who wait for it must not be forgotten */
	if ((uint64) (uintptr_t) arg <= pg_atomic_read_u64(&node->probe_done))
		return;
	pg_atomic_write_u64(&node->probe_version, version);
	pg_write_barrier();
	pg_atomic_write_u64(&node->probe_done, (uint64) (uintptr_t) arg);
	ConditionVariableBroadcast(&node->probe_cv);
}

static void
take_requests(void)
{
	uint64 wanted = pg_atomic_read_u64(&node->probe_wanted);

	asking = node_take_all(node, &node->requests);
	while (DsaPointerIsValid(asking))
	{
		dsa_pointer p = asking;
		Request *request = dsa_get_address(node_dsa(node), p);

		asking = request->next;
		if (request->kind == REQUEST_COLLECT)
		{
			upkeep_collect(p);
			continue;
		}
		request->next = asked;
		asked = p;
		committer_probe(committer, on_outcome_probed, (void *) (uintptr_t) p);
	}
	/* one probe answers all who had asked before it (rule 31) */
	if (wanted > probes_asked)
	{
		probes_asked = wanted;
		committer_probe(committer, on_head_probed, (void *) (uintptr_t) wanted);
	}
}

static void
forget_error(void)
{
	SpinLockAcquire(&node->mutex);
	node->error[0] = '\0';
	SpinLockRelease(&node->mutex);
}

static void
on_applied(void *arg, uint64_t version, const S3am__Manifest *manifest, const bool *voided, const uint8_t *object,
		   size_t object_len)
{
	Size len = s3am__manifest__get_packed_size(manifest);
	int ntxns = 0;
	dsa_pointer p;
	Delivery *delivery;

	for (size_t i = 0; i < manifest->n_steps; i++)
		ntxns += manifest->steps[i]->n_txns;
	delivery = make_delivery(DELIVER_VERSION, version, len + ntxns, &p);
	delivery->ntxns = ntxns;
	delivery->len = len;
	(void) s3am__manifest__pack(manifest, delivery->payload);
	for (int i = 0; i < ntxns; i++)
		delivery->payload[len + i] = voided ? voided[i] : false;
	pg_atomic_write_u64(&node->head, version);
	if (pg_atomic_exchange_u32(&node->stalled, 0))
	{
		if (trouble_over(&trouble))
			ereport(LOG, (errmsg("s3am: repository \"%s\" can be followed again", node->url)));
		forget_error();
	}
	deliver(p);
	upkeep_applied(manifest, object_len);
	if (DsaPointerIsValid(unresolved))
		answer_resolved();
}

/* The publisher reads the pages; what it has already it leaves alone. */
static void
on_restored(void *arg, const S3am__Checkpoint *root)
{
	Size len = s3am__checkpoint__get_packed_size(root);
	dsa_pointer p;
	Delivery *delivery;

	upkeep_restored(root->version);
	pg_atomic_write_u64(&node->head, Max(root->version, pg_atomic_read_u64(&node->head)));
	/* before its pin goes: see node_oldest_read() */
	pg_atomic_write_u64(&node->restoring_last, root->version);
	pg_write_barrier();
	if (pg_atomic_read_u64(&node->restoring) == 0)
		pg_atomic_write_u64(&node->restoring, root->version);
	delivery = make_delivery(DELIVER_CHECKPOINT, root->version, len, &p);
	(void) s3am__checkpoint__pack(root, delivery->payload);
	deliver(p);
	if (DsaPointerIsValid(unresolved))
		answer_resolved();
}

static uint64_t
oldest_read(void *arg)
{
	return node_oldest_read(node);
}

/* While it attaches nobody waits for versions: they are read no faster than the publisher can use them. */
static bool
hold_reading(void *arg)
{
	return pg_atomic_read_u64(&node->undelivered_bytes) > BACKLOG_BYTES;
}

/* ------------------------------------------------------------------------------------ what earlier processes left */

StaticAssertDecl(NODE_KEY_MAX >= KEY_SIZE, "keys of objects fit");

static void
leave_behind(char *key)
{
	for (int i = 0; i < NODE_LEFT && key[0]; i++)
		if (node->left[i][0] == '\0')
		{
			strlcpy(node->left[i], key, NODE_KEY_MAX);
			break;
		}
	key[0] = '\0';
}

static void
on_withdrawn(void *arg, const char *key)
{
	for (int i = 0; i < NODE_LEFT; i++)
		if (strcmp(node->left[i], key) == 0)
			node->left[i][0] = '\0';
}

/* What the last process, and those before it, wrote for readers that this server may still have is withdrawn when this one has done the same. */
static void
take_over(void)
{
	leave_behind(node->own_pin);
	leave_behind(node->own_sign);
	for (int i = 0; i < NODE_LEFT; i++)
		if (node->left[i][0])
			committer_withdraw(committer, node->left[i]);
	committer_pin_key(committer, node->own_pin);
}

/* Members that left their session count as well: they may still be committed. */
static uint64
oldest_object(void)
{
	uint64 oldest = node_oldest_object(node);

	for (uint32 i = 0; i < ntaken; i++)
	{
		Member *member = dsa_get_address(node_dsa(node), taken[i]);

		if (member->first_object != 0 && member->first_object < oldest)
			oldest = member->first_object;
	}
	return oldest;
}

static void
make_room_for_taken(void)
{
	if (ntaken == taken_capacity)
	{
		uint32 capacity = taken_capacity ? taken_capacity * 2 : 64;

		taken = taken ? repalloc_huge(taken, capacity * sizeof(dsa_pointer))
					  : MemoryContextAlloc(TopMemoryContext, capacity * sizeof(dsa_pointer));
		taken_capacity = capacity;
	}
}

static void
remember_taken(dsa_pointer p)
{
	((Member *) dsa_get_address(node_dsa(node), p))->taken_at = ntaken;
	taken[ntaken++] = p;
}

static void
forget_taken(dsa_pointer p)
{
	uint32 at = ((Member *) dsa_get_address(node_dsa(node), p))->taken_at;

	taken[at] = taken[--ntaken];
	((Member *) dsa_get_address(node_dsa(node), taken[at]))->taken_at = at;
}

static void
decide(dsa_pointer p, Outcome outcome, uint64 version, const char *detail)
{
	Member *member = dsa_get_address(node_dsa(node), p);
	int procno = member->procno;

	member->outcome = outcome;
	member->version = version;
	strlcpy(member->detail, detail ? detail : "", sizeof(member->detail));
	pg_write_barrier();
	pg_atomic_write_u32(&member->state, MEMBER_DECIDED);
	if (pg_atomic_sub_fetch_u32(&member->refs, 1) == 0)
		dsa_free(node_dsa(node), p);
	else
		node_wake(procno);
}

/* A commit becomes known to its backend only after the publisher made it visible; a failure at once. */
static void
on_decided(void *arg, void *handle, Outcome outcome, uint64_t version, const char *detail)
{
	dsa_pointer member = (dsa_pointer) (uintptr_t) handle;

	if (outcome == OUTCOME_COMMITTED)
	{
		dsa_pointer p;
		Delivery *delivery = make_delivery(DELIVER_DECISION, version, 0, &p);

		forget_taken(member);
		delivery->member = member;
		deliver(p);
	}
	else
	{
		forget_taken(member);
		if (outcome == OUTCOME_CONFLICT)
			node->conflicts++;
		decide(member, outcome, version, detail);
	}
}

static void
on_phase(void *arg, CommitterPhase phase, const char *error)
{
	uint64 former;

	if (leaving && phase == COMMITTER_FENCED)
		error = "this server has ended its epoch";
	if (error && !leaving)
	{
		if (trouble_tell(&trouble, error, now_ms(NULL)) ||
			(phase == COMMITTER_FENCED && strcmp(error, node->error) != 0))
			ereport(LOG, (errmsg("s3am: repository \"%s\": %s", node->url, error)));
		SpinLockAcquire(&node->mutex);
		strlcpy(node->error, error, NODE_ERROR_MAX);
		SpinLockRelease(&node->mutex);
	}
	if (error == NULL && phase == COMMITTER_READY && attached_delivered && node->error[0] &&
		!pg_atomic_read_u32(&node->stalled))
	{
		if (trouble_over(&trouble))
			ereport(LOG, (errmsg("s3am: repository \"%s\" can be used again", node->url)));
		forget_error();
	}
	switch (phase)
	{
		case COMMITTER_ATTACHING:
		case COMMITTER_JOINING:
			if (!attached_delivered && !again)
				node_set_phase(node, NODE_ATTACHING, NULL);
			break;
		case COMMITTER_READY:
			former = pg_atomic_read_u64(&node->epoch);
			if (former != 0 && former != committer_epoch(committer))
				pg_atomic_write_u64(&node->former_epoch, former);
			pg_atomic_write_u64(&node->epoch, committer_epoch(committer));
			key_node(node->own_sign, committer_epoch(committer));
			if (again)
			{
				ereport(LOG, (errmsg("s3am: this server writes again to repository \"%s\", in epoch " UINT64_FORMAT,
									 node->url, committer_epoch(committer))));
				attached_delivered = true;
				node_set_phase(node, NODE_READY, NULL);
				again = false;
			}
			if (!attached_delivered)
			{
				dsa_pointer p;

				(void) make_delivery(DELIVER_ATTACHED, committer_version(committer), 0, &p);
				attached_delivered = true;
				deliver(p);
			}
			break;
		case COMMITTER_FENCED:
			/* whose postmaster died has no say: it is the next server of this very data directory that took its place */
			if (!PostmasterIsAlive())
				proc_exit(1);
			pg_atomic_write_u64(&node->epoch, 0);
			node_set_phase(node, NODE_FENCED, error);
			if (!leaving && committer_displaced(committer))
			{
				identity_displaced(node->database, node->facts.identity, node->facts.identity_len, error);
				ereport(LOG,
						(errmsg("s3am: this server writes no more to repository \"%s\": it was fenced", node->url)));
			}
			break;
		case COMMITTER_FAILED:
			/* what is here can still be read */
			pg_atomic_write_u32(&node->stalled, 1);
			if (!attached_delivered && !again)
				node_set_phase(node, NODE_FAILED, error);
			break;
	}
}

static void
take_submissions(void)
{
	submitted = node_take_all(node, &node->submissions);
	while (DsaPointerIsValid(submitted))
	{
		dsa_pointer p = submitted;
		Member *member = dsa_get_address(node_dsa(node), p);
		uint32 expected = MEMBER_QUEUED;

		make_room_for_taken();
		submitted = member->next;
		if (pg_atomic_compare_exchange_u32(&member->state, &expected, MEMBER_TAKEN))
		{
			remember_taken(p);
			committer_submit(committer, member->record, member->len, (void *) (uintptr_t) p);
		}
		else if (pg_atomic_sub_fetch_u32(&member->refs, 1) == 0)
			dsa_free(node_dsa(node), p);
	}
}

/*
 * Members of committers that ended without an answer for them.  This one's epoch fences theirs, if nobody else's manifest has: then what the
 * chain does not have it will never have.
 */
static void
settle_orphans(void)
{
	static int committed, lost;
	dsa_pointer *link = &node->orphans;

	while (DsaPointerIsValid(*link))
	{
		dsa_pointer p = *link;
		Member *member = dsa_get_address(node_dsa(node), p);
		Outcome outcome;
		uint64_t version;

		if (!committer_outcome(committer, member->epoch, member->seq, &outcome, &version))
		{
			link = &member->next;
			continue;
		}
		if (outcome == OUTCOME_COMMITTED)
		{
			dsa_pointer d;
			Delivery *delivery =
				make_delivery(DELIVER_DECISION, version ? version : committer_version(committer), 0, &d);

			delivery->member = p;
			*link = member->next;
			committed++;
			deliver(d);
		}
		else
		{
			*link = member->next;
			lost++;
			decide(p, outcome == OUTCOME_TOO_OLD ? outcome : OUTCOME_FENCED, 0,
				   "The server's committer had to start again, and began another epoch.");
		}
	}
	if (committed + lost > 0 && !DsaPointerIsValid(node->orphans))
	{
		ereport(
			LOG,
			(errmsg("s3am: of the transactions that the committer before had under way %d were committed to repository "
					"\"%s\" and %d were rolled back",
					committed, node->url, lost)));
		committed = lost = 0;
	}
}

/* Commits that nobody waits for any more, and that no PUT ever held, go: while the store is away they would only become more. */
static void
give_back(void)
{
	if (pg_atomic_read_u32(&node->unwanted) == 0 || pg_atomic_exchange_u32(&node->unwanted, 0) == 0)
		return;
	for (uint32 i = 0; i < ntaken;)
	{
		dsa_pointer p = taken[i];
		Member *member = dsa_get_address(node_dsa(node), p);

		if (pg_atomic_read_u32(&member->state) == MEMBER_UNWANTED &&
			committer_cancel(committer, (void *) (uintptr_t) p))
		{
			forget_taken(p); /* another one has its place now */
			member->given_back = true;
			decide(p, OUTCOME_ABORTED, 0, NULL);
		}
		else
			i++;
	}
}

static void
reload_settings(void)
{
	if (!ConfigReloadPending)
		return;
	failures = 0;
	memset(&unusable, 0, sizeof(unusable)); /* what the new settings bring is seen at once */
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	if (store)
		bucket_settings(store, node->url);
}

/* Sessions and the log are told why the repository cannot be used. */
static void
tell_failure(const char *error)
{
	failures++;
	/* what was published stays readable */
	node_set_phase(node, pg_atomic_read_u32(&node->served) ? NODE_FENCED : NODE_FAILED, error);
	if (trouble_tell(&unusable, error, now_ms(NULL)))
		ereport(LOG, (errmsg("s3am: cannot use repository \"%s\": %s", node->url, error)));
}

/* The repository object, created if need be.  NULL: not now. */
static S3am__Repository *
open_repository(void)
{
	S3am__Repository create = S3AM__REPOSITORY__INIT;
	S3am__Repository *repository = NULL;
	NodeFacts facts;
	RepositoryStatus status;
	char *error = NULL;
	char reason[NODE_ERROR_MAX];
	const uint16 one = 1;

	SpinLockAcquire(&node->mutex);
	facts = node->facts;
	SpinLockRelease(&node->mutex);
	if (!facts.known)
		return NULL;
	if (identity_is_displaced(node->database, facts.identity, facts.identity_len, reason, sizeof(reason)))
	{
		tell_failure(reason);
		return NULL;
	}
	if (store == NULL)
	{
		store = bucket_try_open(node->url, reason, sizeof(reason));
		if (store == NULL)
		{
			tell_failure(reason);
			return NULL;
		}
	}
	create.encoding = facts.encoding;
	create.collate = facts.collate;
	create.ctype = facts.ctype;
	create.little_endian = *(const uint8 *) &one == 1;
	create.grace_ms = s3am_collect_grace;
	create.retention_ms = (uint64) s3am_retention * 1000;
	create.outcome_retention_ms = (uint64) s3am_outcome_retention * 1000;
	create.key_hash_seed = random_number(NULL);
	status = repository_open(store, &create, interrupted, &repository, &error);
	if (status != REPOSITORY_OK)
	{
		if (status != REPOSITORY_INTERRUPTED)
			tell_failure(error ? error : "out of memory");
		free(error);
		return NULL;
	}
	return repository;
}

static void
say_doing(void)
{
	bool putting, reading;

	pg_atomic_write_u64(&node->members, committer_load(committer, &putting, &reading));
	node_doing(committer_phase(committer) == COMMITTER_FAILED ? DOING_FAILED
			   : putting                                      ? DOING_PUT
			   : reading                                      ? DOING_READ_CHAIN
															  : DOING_NOTHING);
}

/* Questions without an answer are the next process's. */
static void
hand_back(dsa_pointer *list)
{
	while (DsaPointerIsValid(*list))
	{
		dsa_pointer p = *list;

		*list = ((Request *) dsa_get_address(node_dsa(node), p))->next;
		node_push(node, &node->requests, p);
	}
}

/* This process ends, in whatever way: what sessions wait for is the next one's.  Nothing is allocated here. */
static void
hand_over(int code, Datum arg)
{
	hand_back(&asking);
	hand_back(&asked);
	hand_back(&unresolved);
	upkeep_hand_back();
	while (DsaPointerIsValid(submitted))
	{
		dsa_pointer p = submitted;

		submitted = ((Member *) dsa_get_address(node_dsa(node), p))->next;
		node_push(node, &node->submissions, p);
	}
	while (ntaken > 0)
	{
		dsa_pointer p = taken[--ntaken];

		((Member *) dsa_get_address(node_dsa(node), p))->next = node->orphans;
		node->orphans = p;
	}
	/* last: then the entry may be taken back */
	node->committer_procno = -1;
}

/*
 * Fenced for being silent too long, and alive again: all that the old epoch had on its way is dead, and its backends were told.
 * The next process begins another epoch.
 */
static void
begin_anew(void)
{
	proc_exit(1);
}

/*
 * The publisher cannot read the checkpoint that it was told of.  If the chain has a newer one, this server was silent for so long that the
 * pages were collected: it starts over from that one.  With an epoch it ends that first, so that all it has on its way is told of.
 */
static void
look_for_lost(void)
{
	static bool ending;
	uint64 lost = pg_atomic_read_u64(&node->lost);
	const S3am__CheckpointRef *current = committer_checkpoint(committer);

	if (lost == 0 || current == NULL || current->version <= lost || leaving || ending)
		return;
	/* a newer one was told of already: the publisher will come to it */
	if (pg_atomic_read_u64(&node->restoring_last) > lost)
		return;
	ereport(
		LOG,
		(errmsg("s3am: checkpoint " UINT64_FORMAT
				" of repository \"%s\" was collected before this server had read it; it starts over from a newer one",
				lost, node->url)));
	if (committer_phase(committer) == COMMITTER_ATTACHING || committer_phase(committer) == COMMITTER_JOINING)
		begin_anew();
	if (committer_phase(committer) == COMMITTER_READY)
	{
		ending = true;
		committer_fence(committer, committer_epoch(committer), NULL, NULL);
	}
}

/* Handles what has come, and waits for more, at most so long. */
static void
turn(int64 limit)
{
	int64 wait, upkeep, ahead;
	int store_wait_ms;
	WaitEvent event;

	take_submissions();
	give_back();
	take_requests();
	bucket_dispatch(store);
	look_for_lost();
	wait = committer_tick(committer);
	settle_orphans();
	if (committer_phase(committer) == COMMITTER_FENCED && !committer_displaced(committer))
	{
		if (leaving)
			return;
		begin_anew();
	}
	upkeep = leaving ? limit : upkeep_tick();
	ahead = leaving ? limit : leaves_ahead_tick();
	upkeep = Min(upkeep, ahead);
	if (wait < 0 || upkeep < wait)
		wait = upkeep;
	/* what the tick asked for is sent now, not after another turn */
	if (store_timeout_ms(store) == 0)
		bucket_dispatch(store);
	store_wait_ms = store_timeout_ms(store);
	if (store_wait_ms >= 0 && (wait < 0 || store_wait_ms < wait))
		wait = store_wait_ms;
	say_doing();
	pg_atomic_write_u64(&node->boundary, committer_boundary(committer));
	if (committer_phase(committer) == COMMITTER_READY)
		node_touch(node, committer_may_judge(committer, s3am_node_timeout));
	(void) WaitEventSetWait(waits, wait < 0 || wait > limit ? limit : wait, &event, 1, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* Does the whole server end?  The postmaster says so in its lock file before it tells anybody. */
static bool
server_ends(void)
{
	FILE *file = fopen("postmaster.pid", "r");
	char line[MAXPGPATH];
	bool ends = false;

	if (file == NULL)
		return false;
	for (int i = 1; fgets(line, sizeof(line), file); i++)
		if (i == LOCK_FILE_LINE_PM_STATUS)
			ends = strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
	fclose(file);
	return ends;
}

/*
 * Will nobody read here any more?  Sessions outlive a committer that is told to end alone, and those of a server that ends may take a
 * moment longer than it.
 */
static bool
readers_gone(uint64_t until)
{
	WaitEvent event;

	if (pg_atomic_read_u32(&node->detached))
		return true;
	if (!server_ends())
		return false;
	while (CountDBConnections(node->database) > 0)
	{
		if (now_ms(NULL) >= until)
			return false;
		(void) WaitEventSetWait(waits, 10, &event, 1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return true;
}

static void
left(void *arg, StoreResult *result)
{
	*(bool *) arg = true;
}

/*
 * Ends the epoch behind all that was handed over, so that other servers need not wait for s3am.node_timeout before they take over
 * what it owned.  If the store does not answer they will have to; a shutdown does not wait for it.
 */
static void
leave(void)
{
	uint64_t epoch = committer_epoch(committer);
	static bool done;
	char key[KEY_SIZE];
	uint64_t until = now_ms(NULL) + Min(s3am_node_timeout, LEAVE_MS);

	leaving = true;
	if (committer_phase(committer) == COMMITTER_READY)
		committer_fence(committer, committer_epoch(committer), NULL, NULL);
	while (committer_phase(committer) == COMMITTER_READY && now_ms(NULL) < until)
		turn(50);
	/* what it pinned may go at once; else the next committer withdraws it, when it says the same */
	if (epoch && committer_phase(committer) != COMMITTER_READY && readers_gone(until))
	{
		key_node(key, epoch);
		if (store_remove(store, key, left, &done))
			while (!done && now_ms(NULL) < until)
			{
				WaitEvent event;

				(void) WaitEventSetWait(waits, 20, &event, 1, PG_WAIT_EXTENSION);
				ResetLatch(MyLatch);
				bucket_dispatch(store);
			}
	}
	leaves_ahead_end();
}

static void
run(void)
{
	CommitterConfig config = {0};
	S3am__Repository *repository;
	static uint8 identity[NODE_IDENTITY_MAX];

	/* nobody waits for this process's answers yet, so what goes wrong here is told and tried again */
	while ((repository = open_repository()) == NULL)
	{
		if (stop_requested || pg_atomic_read_u32(&node->detached))
			proc_exit(0);
		/* a try may cost a race of many writers; what a reload corrects is tried at once */
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(1000 * Max(failures, 1), 8000),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		reload_settings();
	}
	memcpy(node->repository, repository->uuid.data, Min(repository->uuid.len, sizeof(node->repository)));
	node->key_hash_seed = repository->key_hash_seed;
	/* after a fence: what was published stays as it is for those who read it */
	again = pg_atomic_read_u32(&node->served) != 0;
	if (!again)
		node_set_phase(node, NODE_ATTACHING, NULL);

	memcpy(identity, node->facts.identity, node->facts.identity_len);
	config.node = identity;
	config.node_len = node->facts.identity_len;
	config.description = node->facts.description;
	config.now_ms = now_ms;
	config.random = random_number;
	config.group_wait_us = s3am_group_wait;
	config.lease_ms = s3am_node_timeout;
	config.max_tries = 100;
	config.try_ms = TRY_MS;
	config.recent_bytes = RECENT_BYTES;
	config.poll_min_ms = s3am_poll_min;
	config.poll_max_ms = s3am_poll_max;
	config.outcome_retention_ms = repository->outcome_retention_ms;
	config.applied = on_applied;
	config.restored = on_restored;
	config.decided = on_decided;
	config.phase = on_phase;
	config.oldest_read = oldest_read;
	config.hold = hold_reading;
	config.withdrawn = on_withdrawn;
	committer = committer_create(&config, store, repository);
	take_over();
	leaves_ahead_begin(node, store);
	upkeep_begin(&(UpkeepConfig){node, committer, store, repository, oldest_object});
	/* made once: a commit passes here three times */
	waits = CreateWaitEventSet(TopMemoryContext, 3);
	AddWaitEventToSet(waits, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(waits, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(waits, WL_SOCKET_READABLE, store_fd(store), NULL, NULL);

	while (!stop_requested && !pg_atomic_read_u32(&node->detached))
	{
		reload_settings();
		turn(1000);
	}
	leave();
}

PGDLLEXPORT void
s3am_committer_main(Datum arg)
{
	Oid database;

	node = worker_begin(arg, &database);
	pqsignal(SIGTERM, handle_stop);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	pgstat_report_appname("s3am committer");
	(void) node_dsa(node);
	(void) memory_on_refusal(refusal_leaves);
	before_shmem_exit(hand_over, (Datum) 0);
	pg_prng_seed(&pg_global_prng_state, ((uint64) MyProcPid << 32) ^ GetCurrentTimestamp());
	node->committer_procno = MyProc->pgprocno;
	probes_asked = pg_atomic_read_u64(&node->probe_done);

	PG_TRY();
	{
		run();
	}
	PG_CATCH();
	{
		bool memory = geterrcode() == ERRCODE_OUT_OF_MEMORY;

		EmitErrorReport();
		/* not 0 or 1: the postmaster starts everything over */
		if (!memory)
			_exit(2);
		LWLockReleaseAll();
		proc_exit(1);
	}
	PG_END_TRY();
	/* who was only told to end, without the server, is started again */
	proc_exit(pg_atomic_read_u32(&node->detached) ? 0 : 1);
}
