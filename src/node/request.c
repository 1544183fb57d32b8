/*
 * request.c: the session's side of questions to the committer.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "node/request.h"

/* A node whose chain cannot be followed answers nothing: say why instead of waiting. */
static void
check_alive(S3Node *node)
{
	char reason[NODE_ERROR_MAX];

	if (node->database != MyDatabaseId)
		ereport(ERROR,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW), errmsg("this database is no longer attached to its repository")));
	if (pg_atomic_read_u32(&node->phase) != NODE_FAILED && !pg_atomic_read_u32(&node->stalled))
		return;
	SpinLockAcquire(&node->mutex);
	strlcpy(reason, node->error, sizeof(reason));
	SpinLockRelease(&node->mutex);
	ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("repository \"%s\" cannot be followed", node->url),
					reason[0] ? errdetail("%s", reason) : 0));
}

void
request_free(S3Node *node, dsa_pointer p)
{
	Request *request = dsa_get_address(node_dsa(node), p);

	if (DsaPointerIsValid(request->result))
		dsa_free(node_dsa(node), request->result);
	dsa_free(node_dsa(node), p);
}

static void
let_go(S3Node *node, dsa_pointer p)
{
	Request *request = dsa_get_address(node_dsa(node), p);

	if (pg_atomic_sub_fetch_u32(&request->refs, 1) == 0)
		request_free(node, p);
}

static dsa_pointer
make_request(S3Node *node, RequestKind kind)
{
	dsa_pointer p = dsa_allocate(node_dsa(node), sizeof(Request));
	Request *request = dsa_get_address(node_dsa(node), p);

	memset(request, 0, sizeof(*request));
	pg_atomic_init_u32(&request->answer, ANSWER_PENDING);
	pg_atomic_init_u32(&request->refs, 2);
	request->procno = MyProc->pgprocno;
	request->kind = kind;
	return p;
}

static RequestAnswer
ask(S3Node *node, dsa_pointer p)
{
	Request *request = dsa_get_address(node_dsa(node), p);
	RequestAnswer answer;

	node_push(node, &node->requests, p);
	node_wake(node->committer_procno);
	while ((answer = pg_atomic_read_u32(&request->answer)) == ANSWER_PENDING)
	{
		CHECK_FOR_INTERRUPTS();
		check_alive(node);
		node_doing(DOING_OUTCOME);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1000, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	pg_read_barrier();
	return answer;
}

RequestAnswer
request_outcome(S3Node *node, uint64 epoch, uint64 seq, bool resolve, uint64 *version)
{
	dsa_pointer p = make_request(node, REQUEST_OUTCOME);
	Request *request = dsa_get_address(node_dsa(node), p);
	RequestAnswer answer;

	request->resolve = resolve;
	request->epoch = epoch;
	request->seq = seq;
	PG_TRY();
	{
		answer = ask(node, p);
		*version = request->version;
	}
	PG_FINALLY();
	{
		let_go(node, p);
	}
	PG_END_TRY();
	return answer;
}

void
request_collect(S3Node *node, bool dry_run, CollectedEach each, void *arg)
{
	dsa_pointer p = make_request(node, REQUEST_COLLECT);
	Request *request = dsa_get_address(node_dsa(node), p);

	request->dry_run = dry_run;
	PG_TRY();
	{
		RequestAnswer answer = ask(node, p);
		const char *text = DsaPointerIsValid(request->result) ? dsa_get_address(node_dsa(node), request->result) : "";
		const char *end = text + request->result_len;

		if (answer == ANSWER_READ_ONLY)
			ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
							errmsg("this server may not delete from repository \"%s\"", node->url)));
		if (answer == ANSWER_FAILED)
			ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
							errmsg("the collection has come to an early end and will be tried again"),
							text[0] ? errdetail("%s", text) : 0));
		while (text < end)
		{
			const char *why = text + strlen(text) + 1;
			const char *bytes = why + strlen(why) + 1;

			each(arg, text, why, strtoull(bytes, NULL, 10));
			text = bytes + strlen(bytes) + 1;
		}
	}
	PG_FINALLY();
	{
		let_go(node, p);
	}
	PG_END_TRY();
}

void
request_answer(S3Node *node, dsa_pointer p, RequestAnswer answer, uint64 version)
{
	Request *request = dsa_get_address(node_dsa(node), p);
	int procno = request->procno;

	request->version = version;
	pg_write_barrier();
	pg_atomic_write_u32(&request->answer, answer);
	let_go(node, p);
	node_wake(procno);
}

/* ------------------------------------------------------------------------------------ freshness */

/*
 * Whoever waits for the publisher while holding relation locks may hold the one that the publisher waits for to replay DDL.  The
 * deadlock detector does not see that circle (rule 27), so the waiter looks itself.
 */
bool
request_blocks_publisher(S3Node *node)
{
	int procno = node->publisher_procno;
	PGPROC *publisher = procno >= 0 ? &ProcGlobal->allProcs[procno] : NULL;
	ArrayType *blockers;
	Datum *pids;
	bool blocks = false;
	int n;

	if (publisher == NULL || publisher->waitLock == NULL || publisher->pid == 0)
		return false;
	blockers = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(publisher->pid)));
	deconstruct_array(blockers, INT4OID, sizeof(int32), true, TYPALIGN_INT, &pids, NULL, &n);
	for (int i = 0; i < n; i++)
		blocks |= DatumGetInt32(pids[i]) == MyProcPid;
	pfree(pids);
	pfree(blockers);
	return blocks;
}

uint64
request_head(S3Node *node)
{
	uint64 ticket = pg_atomic_add_fetch_u64(&node->probe_wanted, 1);
	uint64 version = 0;
	bool known = false;
	TimestampTz checked = GetCurrentTimestamp();
	ConditionVariable *cv = &node->probe_cv;

	node_wake(node->committer_procno);
	ConditionVariablePrepareToSleep(cv);
	for (;;)
	{
		if (!known && pg_atomic_read_u64(&node->probe_done) >= ticket)
		{
			pg_read_barrier();
			version = pg_atomic_read_u64(&node->probe_version);
			known = true;
			cv = &node->published_cv;
			ConditionVariablePrepareToSleep(cv);
		}
		if (known && pg_atomic_read_u64(&node->published) >= POS(version, POS_STEP_MAX))
			break;
		check_alive(node);
		if (TimestampDifferenceExceeds(checked, GetCurrentTimestamp(), DeadlockTimeout))
		{
			if (request_blocks_publisher(node))
				ereport(ERROR,
						(errcode(ERRCODE_T_R_DEADLOCK_DETECTED), errmsg("deadlock detected"),
						 errdetail("This transaction waits for the newest version of the repository, and its replay "
								   "waits for a lock that this transaction holds."),
						 errhint("The transaction might succeed if retried.")));
			checked = GetCurrentTimestamp();
		}
		node_doing(DOING_HEAD);
		(void) ConditionVariableTimedSleep(cv, 1000, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return version;
}
