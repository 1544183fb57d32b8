/*
 * publisher.c: the process that applies versions in order and makes them visible.
 *
 * For each version: DDL is replayed in a transaction of the publisher's; the rows are put into the shared state, still
 * invisible; the position is stamped with that transaction's xid; claims of this node's transactions are held against
 * the version; the transaction commits, which shows everything at once; then the waiting backends are answered.
 *
 * A delivery stays in the pending list until it is done, and doing one again changes nothing, so after an error the worker
 * starts again where it stopped.
 */
#include "postgres.h"

#include <signal.h>

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "ddl/ddl.h"
#include "ddl/sequence.h"
#include "messages.h"
#include "node/applied.h"
#include "node/identity.h"
#include "node/state.h"
#include "s3am.h"
#include "worker/apply.h"
#include "worker/statistics.h"
#include "worker/restore.h"
#include "worker/worker.h"

#define WAKE_BYTES                                                                                                     \
	((uint64) 32 * 1024 * 1024) /* deliveries that are left when an attaching committer goes on reading */

static S3Node *node;
static MemoryContext delivery_cxt;
static uint64 failed_version; /* of the delivery that failed last */

/* ------------------------------------------------------------------------------------ facts */

static void
fill_facts(void)
{
	NodeFacts facts = {0};
	HeapTuple tuple;
	Form_pg_database form;
	Datum value;
	bool isnull;
	char *collate, *ctype, *version = "";

	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "database %u is gone", MyDatabaseId);
	form = (Form_pg_database) GETSTRUCT(tuple);
	collate = TextDatumGetCString(SysCacheGetAttr(DATABASEOID, tuple, Anum_pg_database_datcollate, &isnull));
	ctype = TextDatumGetCString(SysCacheGetAttr(DATABASEOID, tuple, Anum_pg_database_datctype, &isnull));
	value = SysCacheGetAttr(DATABASEOID, tuple, Anum_pg_database_datcollversion, &isnull);
	if (!isnull)
		version = TextDatumGetCString(value);
	strlcpy(facts.encoding, pg_encoding_to_char(form->encoding), sizeof(facts.encoding));
	snprintf(facts.collate, sizeof(facts.collate), "%c:%s:%s", form->datlocprovider, collate, version);
	strlcpy(facts.ctype, ctype, sizeof(facts.ctype));
	snprintf(facts.description, sizeof(facts.description), "port %d, database %s", PostPortNumber,
			 NameStr(form->datname));
	ReleaseSysCache(tuple);
	CommitTransactionCommand();

	identity_of_node(&facts);
	facts.known = true;
	SpinLockAcquire(&node->mutex);
	node->facts = facts;
	SpinLockRelease(&node->mutex);
	node_wake(node->committer_procno);
}

/* Ends the process unless this database is bound to a repository of its own. */
static void
check_bound(void)
{
	bool bound;

	StartTransactionCommand();
	bound = node_database_bound();
	CommitTransactionCommand();
	if (bound && !node_set_url(node, s3am_repository))
	{
		char reason[NODE_ERROR_MAX];

		snprintf(reason, sizeof(reason),
				 "Another database of this server uses repository \"%.800s\"; give each database a prefix of its own.",
				 s3am_repository);
		if (pg_atomic_read_u32(&node->phase) != NODE_FAILED)
			ereport(LOG, (errmsg("s3am: database %u cannot be attached: %s", MyDatabaseId, reason)));
		/* the entry stays, so that sessions are told; the launcher tries again */
		node_set_phase(node, NODE_FAILED, reason);
		proc_exit(0);
	}
	if (!bound)
	{
		node_release(node);
		proc_exit(0);
	}
	node_launcher_wake();
}

/* ------------------------------------------------------------------------------------ decisions */

static void
answer(dsa_pointer p, uint64 version)
{
	Member *member = dsa_get_address(node_dsa(node), p);
	int procno = member->procno;

	member->outcome = 0; /* OUTCOME_COMMITTED */
	member->version = version;
	pg_write_barrier();
	pg_atomic_write_u32(&member->state, MEMBER_DECIDED);
	node_wake(procno);
}

static void
let_go(dsa_pointer p)
{
	Member *member = dsa_get_address(node_dsa(node), p);

	if (pg_atomic_sub_fetch_u32(&member->refs, 1) == 0)
		dsa_free(node_dsa(node), p);
}

static int
backend_pid(int procno)
{
	return ProcGlobal->allProcs[procno].pid;
}

/* Answers the backend and waits until its transaction has ended; who it waits for is there to be seen. */
static void
wait_for_own(int pid, TransactionId xid, dsa_pointer member, uint64 version)
{
	char activity[80];

	snprintf(activity, sizeof(activity), "s3am: waiting for the end of the transaction of process %d", pid);
	pgstat_report_activity(STATE_RUNNING, activity);
	pg_atomic_write_u32(&node->own_step_pid, pid);
	answer(member, version);
	PG_TRY();
	{
		XactLockTableWait(xid, NULL, NULL, XLTW_None);
	}
	PG_FINALLY();
	{
		pg_atomic_write_u32(&node->own_step_pid, 0);
	}
	PG_END_TRY();
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * A transaction of this node that has an xid of its own shows its rows when that xid ends (rule 25): answers its backend and
 * waits.  False: it did not commit, or nobody is there any more, and the step is adopted.
 */
static bool
own_step_shown(const S3am__Txn *txn, uint64 pos, uint64 version)
{
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		NodeBackend *backend = node_backend(i);
		dsa_pointer p;
		Member *member;
		TransactionId xid;

		if (pg_atomic_read_u64(&backend->commit_seq) != txn->id->seq)
			continue;
		pg_read_barrier();
		p = backend->commit_member;
		if (!DsaPointerIsValid(p))
			return false;
		member = dsa_get_address(node_dsa(node), p);
		if (member->epoch != txn->id->epoch || member->seq != txn->id->seq)
			return false;
		xid = member->xid;
		state_stamp(node, pos, xid);
		node_doing(DOING_WAIT_LOCAL);
		wait_for_own(backend_pid(i), xid, p, version);
		node_doing(DOING_APPLY);
		if (TransactionIdDidCommit(xid))
			return true;
		ereport(LOG, (errmsg("s3am: the local part of transaction " UINT64_FORMAT "." UINT64_FORMAT
							 " failed after it was committed to the repository",
							 txn->id->epoch, txn->id->seq)));
		state_unstamp(node);
		return false;
	}
	return false;
}

/* ------------------------------------------------------------------------------------ versions */

static void
shown(uint64 pos)
{
	pg_atomic_write_u64(&node->published, pos);
	ConditionVariableBroadcast(&node->published_cv);
}

/* Catalogs and sequences as a step leaves them. */
static void
apply_catalogs(const S3am__Manifest *manifest, const S3am__Step *s, const bool *voided, bool own, bool adopted)
{
	for (size_t i = 0; i < s->n_txns; i++)
	{
		const S3am__Txn *txn = s->txns[i];

		if (voided[i] || txn->id == NULL)
			continue;
		if ((txn->n_ddl || txn->n_storages) && !own && !applied_contains(txn->id->epoch, txn->id->seq))
		{
			node_doing(DOING_REPLAY);
			ddl_replay(txn->ddl, txn->n_ddl);
			node_doing(DOING_APPLY);
			applied_record(txn->id->epoch, txn->id->seq);
			CommandCounterIncrement();
		}
		sequence_apply(node, txn, manifest->version, adopted);
	}
}

/* A transaction of this server, whose session may wait for it? */
static bool
is_own(const S3am__Txn *txn)
{
	return txn->id && txn->id->epoch != 0 &&
		   (txn->id->epoch == pg_atomic_read_u64(&node->epoch) ||
			txn->id->epoch == pg_atomic_read_u64(&node->former_epoch));
}

static void
apply_step(const S3am__Manifest *manifest, int step, const bool *voided, bool attaching)
{
	const S3am__Step *s = manifest->steps[step];
	/* with its last step a version is there as a whole, and both its stamp and `published` say so */
	uint64 pos = POS(manifest->version, step + 1 == manifest->n_steps ? POS_STEP_MAX : step);
	bool own = !attaching && s->n_txns == 1 && !voided[0] && s->txns[0]->own_step && is_own(s->txns[0]);

	/* a transaction is needed anyway: for its xid, for reading catalogs, for waiting */
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!own)
		apply_catalogs(manifest, s, voided, false, false);
	for (size_t i = 0; i < s->n_txns; i++)
		if (!voided[i])
			apply_rows(node, s->txns[i], manifest->version, pos);
	pg_atomic_write_u64(&node->applied, pos);
	pg_memory_barrier();
	for (size_t i = 0; i < s->n_txns; i++)
		if (!voided[i])
			apply_claims(node, s->txns[i], manifest->version, is_own(s->txns[i]));
	if (attaching)
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		pg_atomic_write_u64(&node->frozen, pos);
		shown(pos);
		return;
	}
	if (own)
	{
		/* the catalogs are its own work; if that came to nothing they are replayed */
		own = own_step_shown(s->txns[0], pos, manifest->version);
		apply_catalogs(manifest, s, voided, own, !own);
	}
	PopActiveSnapshot();
	if (!own)
		state_stamp(node, pos, GetTopTransactionId());
	CommitTransactionCommand();
	shown(pos);
	for (size_t i = 0; i < s->n_txns; i++)
		if (!voided[i] && !is_own(s->txns[i]))
			statistics_note(s->txns[i]);
}

static void
apply_version(Delivery *delivery)
{
	S3am__Manifest *manifest;
	bool attaching = !pg_atomic_read_u32(&node->served);
	const bool *voided = (const bool *) (delivery->payload + delivery->len);

	if (delivery->version <= POS_VERSION(pg_atomic_read_u64(&node->published)) &&
		(pg_atomic_read_u64(&node->published) & POS_STEP_MAX) == POS_STEP_MAX)
		return; /* a committer that started anew tells it again */
	/* what came between two checkpoints; what is after the newer one comes after it */
	if (node->gap)
		return;
	if (delivery->version > POS_WHOLE(pg_atomic_read_u64(&node->published)) + 1)
		elog(ERROR, "version " UINT64_FORMAT " came after " UINT64_FORMAT, delivery->version,
			 POS_VERSION(pg_atomic_read_u64(&node->published)));
	manifest = s3am__manifest__unpack(message_allocator(delivery_cxt), delivery->len, delivery->payload);
	if (manifest == NULL)
		elog(ERROR, "manifest " UINT64_FORMAT " cannot be decoded", delivery->version);
	for (size_t i = 0; i < manifest->n_epochs; i++)
	{
		if (manifest->epochs[i]->kind == S3AM__EPOCH_EDIT__KIND__BEGIN)
			node_epoch_begin(node, manifest->epochs[i]->epoch);
		else
			node_epoch_end(node, manifest->epochs[i]->epoch);
	}
	for (size_t i = 0; i < manifest->n_steps; i++)
	{
		if (POS(manifest->version, i + 1 == manifest->n_steps ? POS_STEP_MAX : i) >
			pg_atomic_read_u64(&node->published))
		{
			apply_step(manifest, i, voided, attaching);
			MemoryContextSwitchTo(delivery_cxt);
		}
		voided += manifest->steps[i]->n_txns;
	}
	/* the whole version is there: what asks for the version compares with this */
	if (attaching)
		pg_atomic_write_u64(&node->frozen, POS(manifest->version, POS_STEP_MAX));
	shown(POS(manifest->version, POS_STEP_MAX));
	node->groups++;
}

static void
decided(const Delivery *delivery)
{
	Member *member = dsa_get_address(node_dsa(node), delivery->member);

	if (pg_atomic_read_u32(&member->state) != MEMBER_DECIDED)
		answer(delivery->member, delivery->version);
	let_go(delivery->member);
	node->commits++;
}

static void
tell_deferred(void)
{
	while (DsaPointerIsValid(node->deferred))
	{
		dsa_pointer p = node->deferred;
		Delivery *delivery = dsa_get_address(node_dsa(node), p);

		node->deferred = delivery->next;
		decided(delivery);
		dsa_free(node_dsa(node), p);
	}
}

/*
 * A checkpoint: at the start of a server, or because the committer found itself behind the boundary.  In the latter case sessions may
 * be reading: then it is one step like any other, except that whoever is under way, has looked at a table and writes is failed.
 */
static void
apply_checkpoint(Delivery *delivery)
{
	uint64 pos = POS(delivery->version, POS_STEP_MAX);
	bool attaching = !pg_atomic_read_u32(&node->served);
	S3am__Checkpoint *root;

	if (pos <= pg_atomic_read_u64(&node->published))
		return; /* a committer that started anew tells what is here already */
	/* its pages may have been collected, if this server was silent for so long; then a newer one follows */
	if (failed_version == delivery->version && pg_atomic_read_u64(&node->restoring_last) > delivery->version)
	{
		ereport(LOG, (errmsg("s3am: checkpoint " UINT64_FORMAT
							 " of repository \"%s\" is left out, since a newer one follows",
							 delivery->version, node->url)));
		node->gap = true;
		return;
	}
	root = s3am__checkpoint__unpack(message_allocator(delivery_cxt), delivery->len, delivery->payload);
	if (root == NULL)
		elog(ERROR, "checkpoint " UINT64_FORMAT " cannot be decoded", delivery->version);
	restore_epochs(node, root);
	if (attaching)
	{
		restore_catalogs(node, root, true);
		/* nobody reads before this is there as a whole */
		pg_atomic_write_u64(&node->frozen, pos);
		StartTransactionCommand();
		MemoryContextSwitchTo(delivery_cxt);
		restore_rows(node, root, true);
		CommitTransactionCommand();
		pg_atomic_write_u64(&node->applied, pos);
		node->gap = false;
		shown(pos);
		return;
	}
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	restore_catalogs(node, root, false);
	restore_rows(node, root, false);
	pg_atomic_write_u64(&node->applied, pos);
	pg_memory_barrier();
	restore_doom(delivery->version);
	PopActiveSnapshot();
	state_stamp(node, pos, GetTopTransactionId());
	CommitTransactionCommand();
	ereport(LOG, (errmsg("s3am: repository \"%s\" was followed again from the checkpoint of version " UINT64_FORMAT
						 ", because versions after " UINT64_FORMAT " were collected meanwhile",
						 node->url, delivery->version, POS_VERSION(pg_atomic_read_u64(&node->published)))));
	node->gap = false;
	shown(pos);
}

/* When a server begins, every snapshot sees what has ended. */
static void
forget_ends(void *arg, TableState *table)
{
	state_forget_ends(node, table, 0, pg_atomic_read_u64(&table->next_row));
}

static void
process(Delivery *delivery)
{
	MemoryContextSwitchTo(delivery_cxt);
	node_doing(DOING_APPLY);
	switch (delivery->kind)
	{
		case DELIVER_VERSION:
			state_freeze(node);
			state_forget(node);
			state_reclaim(node);
			apply_version(delivery);
			break;
		case DELIVER_CHECKPOINT:
			state_freeze(node);
			state_reclaim(node);
			apply_checkpoint(delivery);
			/* pages are needed no more when the newest one is done with */
			if (pg_atomic_read_u64(&node->restoring_last) == delivery->version)
			{
				pg_atomic_write_u64(&node->restoring, 0);
				pg_atomic_write_u64(&node->lost, 0);
				tell_deferred();
			}
			break;
		case DELIVER_DECISION:
			/* nobody is told of a commit that cannot be seen yet */
			if (node->gap)
			{
				dsa_pointer p = dsa_allocate(node_dsa(node), sizeof(Delivery));
				Delivery *copy = dsa_get_address(node_dsa(node), p);

				*copy = *delivery;
				copy->next = node->deferred;
				node->deferred = p;
			}
			else
				decided(delivery);
			break;
		case DELIVER_ATTACHED:
			StartTransactionCommand();
			sequence_adopt_all(node);
			CommitTransactionCommand();
			state_each(node, forget_ends, NULL);
			ereport(LOG, (errmsg("s3am: attached to repository \"%s\" at version " UINT64_FORMAT, node->url,
								 delivery->version)));
			pg_atomic_write_u32(&node->served, 1);
			node_set_phase(node, NODE_READY, NULL);
			statistics_attached(node);
			break;
	}
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(delivery_cxt);
}

/*
 * A version that cannot be applied (a role or an extension is missing) is tried again from time to time; meanwhile the reason is
 * there to be read (rule 28), and is logged once.
 */
static bool
try_process(Delivery *delivery)
{
	static int failures = 0;
	bool done = true;

	PG_TRY();
	{
		process(delivery);
	}
	PG_CATCH();
	{
		ErrorData *error;
		bool other;

		HOLD_INTERRUPTS();
		failed_version = delivery->version;
		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		if (delivery->kind == DELIVER_CHECKPOINT && error->sqlerrcode == ERRCODE_DATA_CORRUPTED)
		{
			/* the committer looks whether there is a newer one */
			pg_atomic_write_u64(&node->lost, delivery->version);
			node_wake(node->committer_procno);
		}
		other = node_set_failure(node, delivery->version, error->context ? error->context : "", error->message);
		if (other)
			EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		/* a stamp that it had written counts for nothing */
		state_unstamp_aborted(node);
		FreeErrorData(error);
		MemoryContextReset(delivery_cxt);
		RESUME_INTERRUPTS();
		done = false;
	}
	PG_END_TRY();
	if (done)
	{
		if (failures)
			(void) node_set_failure(node, 0, NULL, NULL);
		failures = 0;
	}
	else
	{
		pgstat_report_activity(STATE_IDLE, NULL);
		failures++;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(100L * failures, 1000L),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return done;
}

static void
set(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_USERSET, PGC_S_OVERRIDE);
}

static void
forget_publisher(int code, Datum arg)
{
	node->publisher_procno = -1;
}

/* Somebody drops, renames or moves the database: nobody may be connected to it meanwhile. */
void
worker_wait_while_leaving(S3Node *of)
{
	uint32 pid;

	while ((pid = pg_atomic_read_u32(&of->leaving)) != 0 && kill((pid_t) pid, 0) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	if (pg_atomic_read_u32(&of->detached) || of->database == InvalidOid)
		proc_exit(0);
}

PGDLLEXPORT void
s3am_publisher_main(Datum arg)
{
	Oid database;

	node = worker_begin(arg, &database);
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(forget_publisher, (Datum) 0);
	worker_wait_while_leaving(node);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	ddl_capture_off();
	check_bound();
	/* ALTER DATABASE SET reaches workers too */
	set("synchronous_commit", "off");
	set("default_transaction_isolation", "read committed");
	set("default_transaction_read_only", "off");
	set("search_path", "pg_catalog");
	set("row_security", "off");
	set("statement_timeout", "0");
	set("lock_timeout", "0");
	set("idle_in_transaction_session_timeout", "0");
	set("default_tablespace", "");
	node_serving = true;
	(void) node_dsa(node);
	state_create(node);
	delivery_cxt = AllocSetContextCreate(TopMemoryContext, "s3am delivery", ALLOCSET_DEFAULT_SIZES);
	fill_facts();
	/* an entry whose xid never committed is no longer waited for */
	state_unstamp_aborted(node);
	node->publisher_procno = MyProc->pgprocno;

	for (;;)
	{
		bool unsettled;

		CHECK_FOR_INTERRUPTS();
		if (pg_atomic_read_u32(&node->detached))
			proc_exit(0);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		unsettled = sequence_settle(node);
		statistics_tell();
		if (!DsaPointerIsValid(node->pending))
			node->pending = node_take_all(node, &node->deliveries);
		if (!DsaPointerIsValid(node->pending))
		{
			pgstat_report_activity(STATE_IDLE, NULL);
			node_doing(DOING_NOTHING);
			state_freeze(node);
			state_forget(node);
			state_reclaim(node);
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, unsettled ? 100 : 1000,
							 PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			continue;
		}
		{
			dsa_pointer p = node->pending;
			Delivery *delivery = dsa_get_address(node_dsa(node), p);

			if (!try_process(delivery))
				continue;
			node->pending = delivery->next;
			if (pg_atomic_fetch_sub_u64(&node->undelivered_bytes, delivery->len) > WAKE_BYTES &&
				pg_atomic_read_u64(&node->undelivered_bytes) <= WAKE_BYTES)
				node_wake(node->committer_procno);
			dsa_free(node_dsa(node), p);
		}
	}
}
