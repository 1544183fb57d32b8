/*
 * launcher.c: finds the databases that are bound to a repository and starts their workers.
 *
 * A database is bound when the extension is there and s3am.repository is set for it (CREATE EXTENSION does that).  Only a process
 * in the database can tell, so at start each database's publisher is started once and ends if it is not bound; later
 * sessions ask for theirs.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "s3am.h"
#include "worker/worker.h"

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
	List	   *databases = NIL;
	MemoryContext caller = CurrentMemoryContext;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

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
	memcpy(worker.bgw_extra, &node->database, sizeof(Oid));
	worker.bgw_notify_pid = 0;
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return true;
	node_set_phase(node, NODE_FAILED, "no free background worker; raise max_worker_processes");
	ereport(LOG,
			(errmsg("s3am: no free background worker for the %s of database %u", kind, node->database),
			 errhint("Raise max_worker_processes.")));
	return false;
}

static void
wait_ms(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Looks at one database: its publisher finds out whether it is bound, and if so its committer is started.
 */
static void
look_at(Oid database)
{
	S3Node	   *node = node_of_database(database);

	if (node)
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
	if (!start_worker(node, "publisher", BGWORKER_BACKEND_DATABASE_CONNECTION))
		return;
	while (node->database == database && node->url[0] == '\0')
		wait_ms(100);
	if (node->database == database)
		(void) start_worker(node, "committer", 0);
}

PGDLLEXPORT void
s3am_launcher_main(Datum arg)
{
	MemoryContext loop = AllocSetContextCreate(TopMemoryContext, "s3am launcher", ALLOCSET_DEFAULT_SIZES);
	ListCell   *lc;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	node_launcher_register();

	MemoryContextSwitchTo(loop);
	foreach(lc, read_databases())
		look_at(lfirst_oid(lc));
	for (;;)
	{
		Oid			database;

		MemoryContextSwitchTo(loop);
		MemoryContextReset(loop);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		while (OidIsValid(database = node_take_request()))
			look_at(database);
		wait_ms(1000);
	}
}
