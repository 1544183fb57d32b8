/*
 * compactor_main.c: the process that looks for batches to rewrite, one table after the other, one job at a time.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compact/compact.h"
#include "ddl/ddl.h"
#include "index/merge.h"
#include "s3am.h"
#include "worker/worker.h"

#define BACK_OFF_MS 1000 /* after a table's first failure, doubled up to the next */
#define BACK_OFF_MAX_MS 60000

static S3Node *node;
static MemoryContext pass_cxt;

/* A table that could not be compacted is left alone for a while. */
typedef struct Failed
{
	uint64 storage; /* must be first */
	int times;
	TimestampTz until;
} Failed;

static HTAB *failed;
static bool replan; /* settings have changed */

/* ------------------------------------------------------------------------------------ whose table */

static uint64
weight(uint64 storage, uint64 epoch)
{
	uint64 key[] = {storage, epoch};

	return hash_bytes_extended((const unsigned char *) key, sizeof(key), 0);
}

/* By rendezvous: when an epoch begins or ends only its own tables go to others. */
static bool
is_mine(uint64 storage)
{
	uint64 me = pg_atomic_read_u64(&node->epoch);
	uint64 mine = weight(storage, me);

	for (int i = 0; i < NODE_EPOCHS; i++)
	{
		uint64 epoch = pg_atomic_read_u64(&node->epochs[i]);

		if (epoch != 0 && epoch != me && weight(storage, epoch) > mine)
			return false;
	}
	return true;
}

/* ------------------------------------------------------------------------------------ one job */

static void
job_ended(void)
{
	pg_atomic_write_u64(&node->compaction.storage, 0);
	pg_atomic_write_u32(&node->compaction.phase, COMPACT_IDLE);
	ConditionVariableBroadcast(&node->compaction.cv);
}

/* False: nothing was gained by it, and so would not be by doing it again. */
static bool
do_job(TableState *table, const CompactJob *job)
{
	CompactResult *result;
	bool gained;

	pg_atomic_write_u64(&node->compaction.storage, job->storage);
	pg_atomic_write_u32(&node->compaction.phase, COMPACT_READ);
	pg_atomic_write_u64(&node->compaction.rows, job->rows);
	pg_atomic_write_u64(&node->compaction.rows_done, 0);
	if (table->rows_of)
		result = index_rewrite(node, job, &(CompactThrottle){node, GetCurrentTimestamp()});
	else
		result = compact_rewrite(node, job);
	gained = result->edit.n_batches < job->nbatches || result->dropped > 0;
	if (!gained)
	{
		compact_discard();
		job_ended();
		return false;
	}
	if (compact_hand_over(node, job, result))
	{
		pg_atomic_fetch_add_u64(&node->compaction.jobs, 1);
		pg_atomic_fetch_add_u64(&node->compaction.batches_in, job->nbatches);
		pg_atomic_fetch_add_u64(&node->compaction.batches_out, result->edit.n_batches);
		pg_atomic_fetch_add_u64(&node->compaction.rows_dropped, result->dropped);
		pg_atomic_fetch_add_u64(&node->compaction.bytes_out, result->bytes);
		pg_atomic_fetch_add_u64(&table->compact_dropped, result->dropped);
	}
	else
	{
		pg_atomic_fetch_add_u64(&node->compaction.lost, 1);
		compact_discard();
	}
	job_ended();
	return true;
}

/* An error ends the job and nothing else.  It is logged when it is another one than before. */
static void
note_failure(uint64 storage, const ErrorData *error)
{
	bool found, told;
	Failed *f = hash_search(failed, &storage, HASH_ENTER, &found);
	int64 wait = BACK_OFF_MS;

	f->times = found ? f->times + 1 : 0;
	for (int i = 0; i < f->times && wait < BACK_OFF_MAX_MS; i++)
		wait *= 2;
	f->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(wait, BACK_OFF_MAX_MS));
	pg_atomic_fetch_add_u64(&node->compaction.failures, 1);
	SpinLockAcquire(&node->mutex);
	told = node->compaction.failed_storage == storage && strcmp(node->compaction.error, error->message) == 0;
	node->compaction.failed_storage = storage;
	node->compaction.failed_at = GetCurrentTimestamp();
	strlcpy(node->compaction.error, error->message, sizeof(node->compaction.error));
	SpinLockRelease(&node->mutex);
	if (!told)
		ereport(LOG, (errmsg("s3am: storage " UINT64_FORMAT " cannot be compacted: %s", storage, error->message),
					  error->detail ? errdetail_internal("%s", error->detail) : 0,
					  errhint("It is tried again, less and less often.")));
}

static bool
is_put_off(uint64 storage, bool asked)
{
	Failed *f = hash_search(failed, &storage, HASH_FIND, NULL);

	return f && !asked && f->until > GetCurrentTimestamp();
}

static void
forget_failure(uint64 storage)
{
	(void) hash_search(failed, &storage, HASH_REMOVE, NULL);
}

/* Plans and does one job of a table.  False: there was none, or it failed. */
static bool
work_on(uint64 storage)
{
	TableState *volatile table = NULL;
	volatile bool worked = false, asked = false;
	volatile uint64 wanted = 0;
	bool settled;

	StartTransactionCommand();
	state_pin(node);
	PG_TRY();
	{
		MemoryContext old = MemoryContextSwitchTo(CurTransactionContext);
		CompactUrge urge = COMPACT_USUAL;
		CompactJob *job = NULL;
		uint64 changed;

		table = state_table(node, storage);
		wanted = pg_atomic_read_u64(&table->compact_wanted);
		asked = wanted > pg_atomic_read_u64(&table->compact_done);
		changed = pg_atomic_read_u64(&table->changed);
		if (asked)
			urge = COMPACT_VACUUM;
		else if (s3am_unmerged_memory > 0 &&
				 pg_atomic_read_u64(&node->small_bytes) > (uint64) s3am_unmerged_memory * 1024 / 2)
			urge = COMPACT_PRESSED;
		else if (!is_mine(storage))
			urge = COMPACT_OTHERS;
		if (!is_put_off(storage, asked) && (urge != COMPACT_USUAL || replan || table->planned != changed))
			job = table->rows_of ? index_plan(node, table, urge) : compact_plan(node, table, urge);
		if (job)
		{
			worked = do_job(table, job);
			forget_failure(storage);
		}
		if (!worked && urge == COMPACT_USUAL)
			table->planned = changed;
		MemoryContextSwitchTo(old);
	}
	PG_CATCH();
	{
		ErrorData *error;
		bool dropped;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(pass_cxt);
		error = CopyErrorData();
		FlushErrorState();
		dropped = table && table->dropped != 0;
		compact_discard();
		AbortCurrentTransaction();
		state_unpin_all();
		/* whatever went wrong with a table that was dropped meanwhile is no failure */
		if (dropped)
			pg_atomic_fetch_add_u64(&node->compaction.lost, 1);
		else
			note_failure(storage, error);
		job_ended();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	settled = !worked && asked;
	if (IsTransactionState())
		CommitTransactionCommand();
	state_unpin_all();
	if (settled)
	{
		pg_atomic_write_u64(&table->compact_done, wanted);
		ConditionVariableBroadcast(&node->compaction.cv);
	}
	return worked;
}

/* ------------------------------------------------------------------------------------ all tables */

typedef struct Storages
{
	uint64 *ids;
	int n, capacity;
} Storages;

static void
add_storage(void *arg, TableState *table)
{
	Storages *s = arg;

	if (table->dropped != 0)
		return;
	if (s->n == s->capacity)
	{
		s->capacity = s->capacity ? s->capacity * 2 : 64;
		s->ids = s->ids ? repalloc_huge(s->ids, sizeof(uint64) * s->capacity) : palloc(sizeof(uint64) * s->capacity);
	}
	s->ids[s->n++] = table->storage;
}

/* One job for each table that needs one.  False: none did. */
static bool
pass(void)
{
	MemoryContext old = MemoryContextSwitchTo(pass_cxt);
	Storages storages = {0};
	bool worked = false;

	state_each(node, add_storage, &storages);
	for (int i = 0; i < storages.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (pg_atomic_read_u32(&node->detached) || pg_atomic_read_u32(&node->leaving))
			break;
		worked |= work_on(storages.ids[i]);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(pass_cxt);
	return worked;
}

static void
gone(int code, Datum arg)
{
	node->compaction.procno = -1;
	pg_atomic_write_u32(&node->compaction.phase, COMPACT_NONE);
	ConditionVariableBroadcast(&node->compaction.cv);
}

static void
set(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_USERSET, PGC_S_OVERRIDE);
}

PGDLLEXPORT void
s3am_compactor_main(Datum arg)
{
	HASHCTL ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(Failed)};
	Oid database;

	node = worker_begin(arg, &database);
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	worker_wait_while_leaving(node);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	ddl_capture_off();
	/* ALTER DATABASE SET reaches workers too */
	set("default_transaction_isolation", "read committed");
	set("default_transaction_read_only", "off");
	set("search_path", "pg_catalog");
	set("statement_timeout", "0");
	set("lock_timeout", "0");
	set("idle_in_transaction_session_timeout", "0");
	node_serving = true;
	(void) node_dsa(node);
	pass_cxt = AllocSetContextCreate(TopMemoryContext, "s3am compaction", ALLOCSET_DEFAULT_SIZES);
	failed = hash_create("s3am tables not compacted", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	before_shmem_exit(gone, (Datum) 0);
	pg_atomic_write_u32(&node->compaction.phase, COMPACT_IDLE);
	node->compaction.procno = MyProc->pgprocno;

	for (;;)
	{
		bool worked = false;

		CHECK_FOR_INTERRUPTS();
		if (pg_atomic_read_u32(&node->detached))
			proc_exit(0);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			replan = true;
			ProcessConfigFile(PGC_SIGHUP);
		}
		/* while a checkpoint is taken in, tables and their indexes are not of one version */
		if (s3am_compaction && pg_atomic_read_u32(&node->phase) == NODE_READY &&
			pg_atomic_read_u64(&node->epoch) != 0 && pg_atomic_read_u64(&node->restoring) == 0)
		{
			worked = pass();
			if (!worked)
			{
				replan = false;
				pg_atomic_fetch_add_u64(&node->compaction.passes, 1);
				ConditionVariableBroadcast(&node->compaction.cv);
			}
		}
		if (worked)
			continue;
		pgstat_report_activity(STATE_IDLE, NULL);
		node_doing(DOING_NOTHING);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, s3am_compaction_pause,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
