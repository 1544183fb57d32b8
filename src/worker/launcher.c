/*
 * launcher.c: finds the databases that are bound to a repository and starts their workers.
 *
 * A database is bound when the extension is there and s3am.repository is set for it (CREATE EXTENSION does that).  Only a process
 * in the database can tell, so at start each database's publisher is started once and ends if it is not bound; later
 * sessions ask for theirs.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/backend_status.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "s3am.h"
#include "worker/worker.h"

#define RETRY_MS 1000 /* between tries to start a worker */
#define COMPACTOR_RETRY_MS 10000

void
worker_register_launcher(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "s3am", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "s3am_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "s3am launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "s3am launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* All databases that allow connections, in the caller's context. */
static List *
read_databases(void)
{
	List *databases = NIL;
	MemoryContext caller = CurrentMemoryContext;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!form->datallowconn)
			continue;
		old = MemoryContextSwitchTo(caller);
		databases = lappend_oid(databases, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

/* Whose a worker is. */
typedef struct WorkerOf
{
	uint64 generation; /* of shared memory */
	Oid database;
} WorkerOf;

StaticAssertDecl(sizeof(WorkerOf) <= BGW_EXTRALEN, "fits");

/*
 * After a crash the postmaster starts the workers that there were, and the launcher, which knows of none, starts others: of two committers each would
 * fence the other.  So those of before end for good, which are the ones that were registered in another shared memory.
 */
S3Node *
worker_begin(Datum arg, Oid *database)
{
	S3Node *node = node_by_index(DatumGetInt32(arg));
	WorkerOf of;

	memcpy(&of, MyBgworkerEntry->bgw_extra, sizeof(of));
	if (node == NULL || of.generation != node_generation() || node->database != of.database)
		proc_exit(0);
	*database = of.database;
	return node;
}

static bool
start_worker(S3Node *node, const char *kind, int flags)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | flags;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "s3am", BGW_MAXLEN);
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "s3am_%s_main", kind);
	snprintf(worker.bgw_name, BGW_MAXLEN, "s3am %s of database %u", kind, node->database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "s3am %s", kind);
	worker.bgw_main_arg = Int32GetDatum(node_index(node));
	{
		WorkerOf of = {node_generation(), node->database};

		memcpy(worker.bgw_extra, &of, sizeof(of));
	}
	worker.bgw_notify_pid = 0;
	return RegisterDynamicBackgroundWorker(&worker, NULL);
}

/* A worker without which the database cannot be used. */
static bool
start_needed(S3Node *node, const char *kind, int flags)
{
	if (start_worker(node, kind, flags))
		return true;
	if (pg_atomic_read_u32(&node->phase) != NODE_FAILED)
		ereport(LOG, (errmsg("s3am: no free background worker for the %s of database %u", kind, node->database),
					  errhint("Raise max_worker_processes.")));
	node_set_phase(node, NODE_FAILED, "There is no free background worker; raise max_worker_processes.");
	return false;
}

static void
wait_ms(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* ------------------------------------------------------------------------------------ who holds up a publisher */

static BackendState
state_of(int pid)
{
	pgstat_clear_backend_activity_snapshot();
	for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++)
	{
		LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(i);

		if (local && local->backendStatus.st_procpid == pid)
			return local->backendStatus.st_state;
	}
	return STATE_UNDEFINED;
}

static void
end_holder(int pid)
{
	BackendState state = state_of(pid);
	bool idle = state == STATE_IDLEINTRANSACTION || state == STATE_IDLEINTRANSACTION_ABORTED;
	PGPROC *proc = BackendPidGetProc(pid);
	/* a session that waits for a version behind the one that waits for it must leave, or both would wait for ever */
	bool committing = proc && pg_atomic_read_u64(&node_backend(proc->pgprocno)->commit_seq) != 0;

	if (proc == NULL)
		return;
	ereport(LOG, (errmsg("s3am: %s process %d, which holds up a schema change of another server",
						 idle || committing ? "terminating" : "canceling", pid),
				  errhint("s3am.max_apply_delay says how long it may.")));
#ifdef HAVE_SETSID
	(void) kill(-pid, idle || committing ? SIGTERM : SIGINT);
#else
	(void) kill(pid, idle || committing ? SIGTERM : SIGINT);
#endif
}

/*
 * A publisher that replays DDL waits for locks, and everything behind it waits, too (rule 27).  It cannot help itself while it
 * waits; so the launcher, which holds nothing, ends those that have been in its way for too long.
 */
static void
relieve(S3Node *node)
{
	int procno = node->publisher_procno;
	PGPROC *publisher;
	TimestampTz since;
	ArrayType *pids;
	Datum *elements;
	int n;

	if (procno < 0 || !OidIsValid(node->database) || s3am_max_apply_delay < 0 ||
		pg_atomic_read_u32(&node->own_step_pid) != 0)
		return;
	publisher = &ProcGlobal->allProcs[procno];
	since = pg_atomic_read_u64(&publisher->waitStart);
	if (publisher->pid == 0 || since == 0 ||
		!TimestampDifferenceExceeds(since, GetCurrentTimestamp(), s3am_max_apply_delay))
		return;
	pids = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(publisher->pid)));
	deconstruct_array(pids, INT4OID, sizeof(int32), true, TYPALIGN_INT, &elements, NULL, &n);
	for (int i = 0; i < n; i++)
		if (DatumGetInt32(elements[i]) != 0)
			end_holder(DatumGetInt32(elements[i]));
}

/* ------------------------------------------------------------------------------------ databases */

/* What the launcher knows of an entry, besides what it has registered, which outlives it (S3Node.registered). */
typedef struct Care
{
	TimestampTz retry_at, publisher_at; /* not before */
} Care;

static Care *cares;

static void
forget(S3Node *node)
{
	memset(&cares[node_index(node)], 0, sizeof(Care));
	memset(&node->registered, 0, sizeof(node->registered));
}

/* A database whose workers should run gets those that it lacks.  Its publisher finds out whether it is bound at all. */
static void
take_care(S3Node *node)
{
	Care *care = &cares[node_index(node)];
	TimestampTz now = GetCurrentTimestamp();

	if (!OidIsValid(node->database))
	{
		forget(node);
		return;
	}
	if (pg_atomic_read_u32(&node->detached))
	{
		if (node_take_back(node))
			forget(node);
		return;
	}
	if (now < care->retry_at)
		return;
	/* it could not use the repository: perhaps it can now */
	if (node->registered.publisher && !node->registered.committer && pg_atomic_read_u32(&node->phase) == NODE_FAILED &&
		node->url[0] == '\0')
		node->registered.publisher = false;
	if (!node->registered.publisher)
	{
		if (now < care->publisher_at)
			return;
		node->registered.publisher = start_needed(node, "publisher", BGWORKER_BACKEND_DATABASE_CONNECTION);
		care->publisher_at = TimestampTzPlusMilliseconds(now, RETRY_MS);
	}
	else if (!node->registered.committer && node->url[0] != '\0')
	{
		node->registered.committer = start_needed(node, "committer", 0);
		if (!node->registered.committer)
			care->retry_at = TimestampTzPlusMilliseconds(now, RETRY_MS);
		else if (pg_atomic_read_u32(&node->phase) == NODE_FAILED)
			node_set_phase(node, NODE_STARTING, NULL);
	}
	else if (!node->registered.compactor && pg_atomic_read_u32(&node->phase) == NODE_READY)
	{
		/* all else works without it; s3am.compaction tells */
		node->registered.compactor = start_worker(node, "compactor", BGWORKER_BACKEND_DATABASE_CONNECTION);
		if (!node->registered.compactor)
			care->retry_at = TimestampTzPlusMilliseconds(now, COMPACTOR_RETRY_MS);
	}
}

static void
look_at(Oid database)
{
	S3Node *node;

	if (node_of_database(database))
		return;
	node = node_claim(database);
	if (node == NULL)
	{
		ereport(LOG,
				(errmsg("s3am: cannot look at database %u: all %d entries are in use", database, node_max_databases),
				 errhint("Raise s3am.max_databases.")));
		node_refuse(database, "all entries for databases are in use; raise s3am.max_databases");
		return;
	}
	forget(node);
	take_care(node);
}

/* Is something about to happen that nobody wakes the launcher for? */
static bool
waits(void)
{
	for (int i = 0; i < node_max_databases; i++)
	{
		S3Node *node = node_by_index(i);

		if (OidIsValid(node->database) &&
			(!node->registered.committer || pg_atomic_read_u32(&node->detached) ||
			 (!node->registered.compactor && pg_atomic_read_u32(&node->phase) == NODE_READY)))
			return true;
	}
	return false;
}

PGDLLEXPORT void
s3am_launcher_main(Datum arg)
{
	MemoryContext loop = AllocSetContextCreate(TopMemoryContext, "s3am launcher", ALLOCSET_DEFAULT_SIZES);
	ListCell *lc;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	node_launcher_register();

	MemoryContextSwitchTo(loop);
	cares = MemoryContextAllocZero(TopMemoryContext, sizeof(Care) * node_max_databases);
	foreach (lc, read_databases())
	{
		Oid database = lfirst_oid(lc);

		look_at(database);
		/* one after the other: most are not bound, and there are few entries */
		for (int i = 0; i < 50 && node_of_database(database) && node_of_database(database)->url[0] == '\0'; i++)
		{
			take_care(node_of_database(database));
			wait_ms(100);
		}
	}
	for (;;)
	{
		Oid database;

		MemoryContextSwitchTo(loop);
		MemoryContextReset(loop);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		while (OidIsValid(database = node_take_request()))
			look_at(database);
		for (int i = 0; i < node_max_databases; i++)
		{
			take_care(node_by_index(i));
			relieve(node_by_index(i));
		}
		wait_ms(waits() ? 100 : 500);
	}
}
