/*
 * node.c: shared memory of the attached databases, their phases, and the queues between processes.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "cache/cache.h"
#include "node/node.h"
#include "s3am.h"

#define MAX_REQUESTS 16

typedef struct NodeShmem
{
	int tranche;
	int launcher_procno;
	uint64 generation; /* another one after each crash */
	slock_t mutex;
	pg_atomic_uint32 requests[MAX_REQUESTS]; /* databases to look at; InvalidOid: free */
	struct
	{
		Oid database;
		TimestampTz when;
		char reason[NODE_ERROR_MAX];
	} refused[MAX_REQUESTS]; /* that could not get an entry, and why; under the mutex */
	int next_refused;
	S3Node nodes[FLEXIBLE_ARRAY_MEMBER];
} NodeShmem;

int node_max_databases = 4;
bool node_serving = false;
bool node_waited = false;

static NodeShmem *shmem;
static NodeBackend *backends;
static dsa_area *attached_area;
static S3Node *attached_node;
static dsa_handle attached_handle;

/* Backends, workers and auxiliary processes all have a pgprocno below this. */
static int
max_procs(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

Size
node_shmem_size(void)
{
	Size size = add_size(offsetof(NodeShmem, nodes), mul_size(sizeof(S3Node), node_max_databases));

	return add_size(MAXALIGN(size), mul_size(sizeof(NodeBackend), max_procs()));
}

void
node_shmem_init(void)
{
	bool found;

	shmem = ShmemInitStruct("s3am nodes", node_shmem_size(), &found);
	backends =
		(NodeBackend *) ((char *) shmem + MAXALIGN(offsetof(NodeShmem, nodes) + sizeof(S3Node) * node_max_databases));
	if (found)
		return;
	memset(shmem, 0, node_shmem_size());
	shmem->tranche = LWLockNewTrancheId();
	shmem->launcher_procno = -1;
	if (!pg_strong_random(&shmem->generation, sizeof(shmem->generation)))
		shmem->generation = GetCurrentTimestamp();
	SpinLockInit(&shmem->mutex);
	for (int i = 0; i < node_max_databases; i++)
	{
		S3Node *node = &shmem->nodes[i];

		SpinLockInit(&node->mutex);
		pg_atomic_init_u64(&node->submissions.last, InvalidDsaPointer);
		pg_atomic_init_u64(&node->deliveries.last, InvalidDsaPointer);
		pg_atomic_init_u64(&node->retired_by_readers.last, InvalidDsaPointer);
		pg_atomic_init_u64(&node->requests.last, InvalidDsaPointer);
		ConditionVariableInit(&node->published_cv);
		ConditionVariableInit(&node->phase_cv);
		ConditionVariableInit(&node->probe_cv);
		node->committer_procno = node->publisher_procno = -1;
		node->compaction.procno = -1;
		ConditionVariableInit(&node->compaction.cv);
		node->dsa = DSM_HANDLE_INVALID;
	}
}

uint64
node_generation(void)
{
	return shmem->generation;
}

S3Node *
node_by_index(int i)
{
	return shmem && i >= 0 && i < node_max_databases ? &shmem->nodes[i] : NULL;
}

int
node_index(S3Node *node)
{
	return node - shmem->nodes;
}

S3Node *
node_of_database(Oid database)
{
	if (shmem == NULL)
		return NULL;
	for (int i = 0; i < node_max_databases; i++)
		if (shmem->nodes[i].database == database)
			return &shmem->nodes[i];
	return NULL;
}

S3Node *
node_current(void)
{
	if (attached_node && attached_node->database == MyDatabaseId)
		return attached_node;
	return node_of_database(MyDatabaseId);
}

S3Node *
node_attached(void)
{
	return attached_node;
}

NodeBackend *
node_backend(int procno)
{
	return &backends[procno];
}

void
node_doing(NodeDoing doing)
{
	pg_atomic_write_u32(&backends[MyProc->pgprocno].doing, doing);
}

/* Gives a database an entry.  Only the launcher calls this, so nobody competes.  NULL: none is free. */
S3Node *
node_claim(Oid database)
{
	S3Node *node = NULL;

	for (int i = 0; i < node_max_databases && node == NULL; i++)
		if (!OidIsValid(shmem->nodes[i].database))
			node = &shmem->nodes[i];
	if (node == NULL)
		return NULL;
	if (node->dsa == DSM_HANDLE_INVALID)
	{
		dsa_area *area;

		LWLockRegisterTranche(shmem->tranche, "s3am node");
		area = dsa_create(shmem->tranche);
		dsa_pin(area);
		node->dsa = dsa_get_handle(area);
		dsa_detach(area);
	}
	node->cache_owner = cache_new_owner();
	node->url[0] = '\0';
	node->error[0] = '\0';
	node->stats_reset = GetCurrentTimestamp();
	pg_atomic_write_u32(&node->phase, NODE_STARTING);
	pg_write_barrier();
	node->database = database;
	return node;
}

void
node_detach(S3Node *node)
{
	pg_atomic_write_u32(&node->detached, 1);
	node_wake(node->publisher_procno);
	node_wake(node->committer_procno);
	node_launcher_wake();
}

/* All that a later database, or the same one in another repository, must not find. */
bool
node_take_back(S3Node *node)
{
	if (node->publisher_procno >= 0 || node->committer_procno >= 0)
		return false;
	if (node->dsa != DSM_HANDLE_INVALID)
	{
		dsa_area *area;

		LWLockRegisterTranche(shmem->tranche, "s3am node");
		area = dsa_attach(node->dsa);
		dsa_unpin(area);
		dsa_detach(area);
		node->dsa = DSM_HANDLE_INVALID;
	}
	node->url[0] = node->error[0] = '\0';
	node->own_pin[0] = node->own_sign[0] = '\0';
	memset(node->left, 0, sizeof(node->left));
	memset(&node->facts, 0, sizeof(node->facts));
	memset(node->repository, 0, sizeof(node->repository));
	memset(&node->failure, 0, sizeof(node->failure));
	node->key_hash_seed = node->retire_epoch = node->commits = node->conflicts = node->groups = 0;
	node->pending = node->tables = node->sequences = node->retired = node->stamps = InvalidDsaPointer;
	node->history = InvalidDsaPointer;
	pg_atomic_write_u64(&node->small_bytes, 0);
	pg_atomic_write_u64(&node->epoch, 0);
	pg_atomic_write_u64(&node->former_epoch, 0);
	pg_atomic_write_u32(&node->sequences_moved, 0);
	pg_atomic_write_u64(&node->next_seq, 0);
	pg_atomic_write_u64(&node->next_object, 0);
	pg_atomic_write_u64(&node->submissions.last, InvalidDsaPointer);
	pg_atomic_write_u64(&node->submissions.length, 0);
	pg_atomic_write_u64(&node->deliveries.last, InvalidDsaPointer);
	pg_atomic_write_u64(&node->deliveries.length, 0);
	pg_atomic_write_u64(&node->requests.last, InvalidDsaPointer);
	pg_atomic_write_u64(&node->requests.length, 0);
	pg_atomic_write_u64(&node->members, 0);
	pg_atomic_write_u64(&node->head, 0);
	pg_atomic_write_u64(&node->applied, 0);
	pg_atomic_write_u64(&node->published, 0);
	pg_atomic_write_u64(&node->frozen, 0);
	pg_atomic_write_u64(&node->boundary, 0);
	pg_atomic_write_u64(&node->touched, 0);
	pg_atomic_write_u64(&node->restoring, 0);
	pg_atomic_write_u64(&node->restoring_last, 0);
	pg_atomic_write_u64(&node->base_version, 0);
	pg_atomic_write_u64(&node->lost, 0);
	node->deferred = node->orphans = InvalidDsaPointer;
	node->gap = false;
	pg_atomic_write_u32(&node->served, 0);
	pg_atomic_write_u64(&node->undelivered_bytes, 0);
	pg_atomic_write_u32(&node->unwanted, 0);
	pg_atomic_write_u64(&node->stamp_first, 0);
	pg_atomic_write_u64(&node->stamp_next, 0);
	for (int i = 0; i < NODE_EPOCHS; i++)
		pg_atomic_write_u64(&node->epochs[i], 0);
	pg_atomic_write_u32(&node->epochs_overflowed, 0);
	pg_atomic_write_u32(&node->own_step_pid, 0);
	pg_atomic_write_u32(&node->detached, 0);
	pg_atomic_write_u32(&node->leaving, 0);
	node_release(node);
	return true;
}

void
node_release(S3Node *node)
{
	pg_atomic_write_u32(&node->phase, NODE_FREE);
	node->database = InvalidOid;
	node_launcher_wake();
}

void
node_refuse(Oid database, const char *reason)
{
	int i = 0;

	SpinLockAcquire(&shmem->mutex);
	while (i < MAX_REQUESTS && shmem->refused[i].database != database)
		i++;
	if (i == MAX_REQUESTS)
		i = shmem->next_refused++ % MAX_REQUESTS;
	shmem->refused[i].database = database;
	shmem->refused[i].when = GetCurrentTimestamp();
	strlcpy(shmem->refused[i].reason, reason, NODE_ERROR_MAX);
	SpinLockRelease(&shmem->mutex);
}

/* Was this database refused after `since`?  Then why. */
static bool
was_refused(Oid database, TimestampTz since, char *reason)
{
	bool found = false;

	SpinLockAcquire(&shmem->mutex);
	for (int i = 0; i < MAX_REQUESTS; i++)
		if (shmem->refused[i].database == database && shmem->refused[i].when > since)
		{
			strlcpy(reason, shmem->refused[i].reason, NODE_ERROR_MAX);
			found = true;
		}
	SpinLockRelease(&shmem->mutex);
	return found;
}

bool
node_set_url(S3Node *node, const char *url)
{
	bool unique = true;

	SpinLockAcquire(&shmem->mutex);
	for (int i = 0; i < node_max_databases; i++)
	{
		S3Node *other = &shmem->nodes[i];

		if (other != node && OidIsValid(other->database) && strcmp(other->url, url) == 0)
			unique = false;
	}
	if (unique)
		strlcpy(node->url, url, NODE_URL_MAX);
	SpinLockRelease(&shmem->mutex);
	return unique;
}

void
node_request(Oid database)
{
	if (shmem == NULL)
		return;
	for (int i = 0; i < MAX_REQUESTS; i++)
	{
		uint32 free = InvalidOid;

		if (pg_atomic_read_u32(&shmem->requests[i]) == database ||
			pg_atomic_compare_exchange_u32(&shmem->requests[i], &free, database))
			break;
	}
	node_launcher_wake();
}

Oid
node_take_request(void)
{
	for (int i = 0; i < MAX_REQUESTS; i++)
	{
		Oid database = pg_atomic_exchange_u32(&shmem->requests[i], InvalidOid);

		if (OidIsValid(database))
			return database;
	}
	return InvalidOid;
}

/* Attaches to the node's memory; once per process, for good. */
dsa_area *
node_dsa(S3Node *node)
{
	if (attached_node == node && attached_area && attached_handle == node->dsa)
		return attached_area;
	if (attached_area && attached_handle != node->dsa)
	{
		/* the database was detached and attached anew */
		dsa_detach(attached_area);
		attached_area = NULL;
		attached_node = NULL;
	}
	if (attached_node != NULL)
		elog(ERROR, "a process serves one s3am node only");
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		LWLockRegisterTranche(shmem->tranche, "s3am node");
		attached_handle = node->dsa;
		attached_area = dsa_attach(attached_handle);
		dsa_pin_mapping(attached_area);
		MemoryContextSwitchTo(old);
	}
	attached_node = node;
	return attached_area;
}

void
node_set_phase(S3Node *node, NodePhase phase, const char *error)
{
	SpinLockAcquire(&node->mutex);
	if (error)
		strlcpy(node->error, error, NODE_ERROR_MAX);
	else if (phase == NODE_READY)
		node->error[0] = '\0';
	SpinLockRelease(&node->mutex);
	pg_atomic_write_u32(&node->phase, phase);
	ConditionVariableBroadcast(&node->phase_cv);
}

void
node_wake(int procno)
{
	if (procno >= 0)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

int
node_tranche(void)
{
	return shmem->tranche;
}

void
node_launcher_register(void)
{
	shmem->launcher_procno = MyProc->pgprocno;
}

void
node_launcher_wake(void)
{
	if (shmem)
		node_wake(shmem->launcher_procno);
}

void
node_push(S3Node *node, NodeQueue *queue, dsa_pointer item)
{
	dsa_pointer *link = dsa_get_address(node_dsa(node), item);
	uint64 last = pg_atomic_read_u64(&queue->last);

	do
		*link = last;
	while (!pg_atomic_compare_exchange_u64(&queue->last, &last, item));
	pg_atomic_fetch_add_u64(&queue->length, 1);
}

/*
 * All that is queued, linked in the order in which it came; invalid if nothing is.  Nothing is taken before all of it can be looked at:
 * there may be no memory to map it.
 */
dsa_pointer
node_take_all(S3Node *node, NodeQueue *queue)
{
	uint64 item = pg_atomic_read_u64(&queue->last);
	dsa_pointer mapped = InvalidDsaPointer;
	dsa_pointer first = InvalidDsaPointer;

	do
	{
		for (dsa_pointer p = item; p != mapped; p = *(dsa_pointer *) dsa_get_address(node_dsa(node), p))
			;
		mapped = item;
	} while (!pg_atomic_compare_exchange_u64(&queue->last, &item, InvalidDsaPointer));

	while (DsaPointerIsValid(item))
	{
		dsa_pointer *link = dsa_get_address(node_dsa(node), item);
		dsa_pointer next = *link;

		*link = first;
		first = item;
		item = next;
		pg_atomic_fetch_sub_u64(&queue->length, 1);
	}
	return first;
}

/*
 * Is this database bound?  CREATE EXTENSION stores s3am.repository for the database; a server-wide value alone does not bind.
 */
bool
node_database_bound(void)
{
	return s3am_repository && s3am_repository[0] && OidIsValid(get_extension_oid("s3am", true));
}

const char *
node_phase_name(S3Node *node)
{
	static const char *const names[] = {"not attached", "starting", "attaching", "ready", "fenced", "failed"};

	return names[node ? pg_atomic_read_u32(&node->phase) : NODE_FREE];
}

/*
 * Waits until the node of this session's database serves.  A session must not hold what the publisher needs to get there, so
 * callers come here at the beginning of a statement.
 */
static S3Node *
wait_ready(void)
{
	TimestampTz start = GetCurrentTimestamp();
	S3Node *node;
	bool refused;
	char reason[NODE_ERROR_MAX] = "";

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("s3am tables cannot be read on a standby server"),
				 errhint("Attach a server of its own to the repository instead.")));
	for (;;)
	{
		NodePhase phase;

		CHECK_FOR_INTERRUPTS();
		node = node_of_database(MyDatabaseId);
		phase = node ? pg_atomic_read_u32(&node->phase) : NODE_FREE;
		/* the database has left this entry, whose processes end their work; it is given another one */
		if (node && pg_atomic_read_u32(&node->detached) && !node_serving)
			phase = NODE_STARTING;
		if (phase == NODE_READY || phase == NODE_FENCED || (node && node_serving))
		{
			(void) node_dsa(node);
			return node;
		}
		refused = node == NULL && was_refused(MyDatabaseId, start, reason);
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), s3am_attach_timeout) || phase == NODE_FAILED ||
			refused)
		{
			NodeFailure failure;

			if (node && node_failure(node, &failure))
				strlcpy(reason, failure.reason, sizeof(reason));
			else if (node)
			{
				SpinLockAcquire(&node->mutex);
				strlcpy(reason, node->error, sizeof(reason));
				SpinLockRelease(&node->mutex);
			}
			ereport(ERROR, (errcode(ERRCODE_CANNOT_CONNECT_NOW),
							errmsg("database \"%s\" is not attached to its repository: %s",
								   get_database_name(MyDatabaseId), node_phase_name(node)),
							reason[0] ? errdetail("%s", reason) : 0,
							errhint("The server's log says more; s3am tries again by itself.")));
		}
		if (node == NULL)
			node_request(MyDatabaseId);
		node_doing(DOING_ATTACH);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

S3Node *
node_wait_ready(void)
{
	S3Node *node = attached_node;
	NodePhase phase = node ? pg_atomic_read_u32(&node->phase) : NODE_FREE;

	/* nearly always, several times for each statement */
	if ((phase == NODE_READY || phase == NODE_FENCED) && node->database == MyDatabaseId &&
		pg_atomic_read_u32(&node->detached) == 0 && !RecoveryInProgress())
	{
		CHECK_FOR_INTERRUPTS();
		(void) node_dsa(node);
		return node;
	}
	return wait_ready();
}
