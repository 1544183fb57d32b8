/*
 * s3am.c: the library's entry point: settings, shared memory, hooks.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/relation.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "cache/cache.h"
#include "ddl/ddl.h"
#include "ddl/sequence.h"
#include "index/index.h"
#include "manifest/memory.h"
#include "node/node.h"
#include "refusal.h"
#include "s3am.h"
#include "segment/codec.h"
#include "table/table.h"
#include "txn/freshness.h"
#include "txn/reads.h"
#include "txn/rowlock.h"
#include "txn/txn.h"
#include "txn/used.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

static shmem_request_hook_type prev_shmem_request;
static shmem_startup_hook_type prev_shmem_startup;
static ExecutorStart_hook_type prev_executor_start;
static ExecutorRun_hook_type prev_executor_run;
static object_access_hook_type prev_object_access;

static void
shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	RequestAddinShmemSpace(node_shmem_size());
	RequestAddinShmemSpace(rowlock_shmem_size());
	RequestAddinShmemSpace(cache_shmem_size());
}

static void
shmem_startup(void)
{
	if (prev_shmem_startup)
		prev_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	node_shmem_init();
	rowlock_shmem_init();
	cache_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

/* Is it a relation whose rows are the same whatever the repository holds? */
static bool
independent(Oid relid)
{
	Oid schema = get_rel_namespace(relid);

	if (schema == get_namespace_oid("s3am", true) || IsSharedRelation(relid))
		return true;
	/* a view of the system's is what it is made of, which stands beside it */
	return schema == PG_CATALOG_NAMESPACE && get_rel_relkind(relid) == RELKIND_VIEW;
}

static bool
function_dependent(Oid function, void *any)
{
	*(bool *) any = true;
	/* a number that is drawn now could not be noted */
	if (function == F_NEXTVAL || function == F_SETVAL_REGCLASS_INT8 || function == F_SETVAL_REGCLASS_INT8_BOOL)
		return true;
	return function >= FirstNormalObjectId && get_func_namespace(function) != get_namespace_oid("s3am", true);
}

/* Looks for functions that are neither the system's nor s3am's; notes whether there are any at all. */
static bool
calls_dependent(Node *node, void *any)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, function_dependent, any))
		return true;
	return expression_tree_walker(node, calls_dependent, any);
}

/* The same for a plan; of a kind that is not expected here nothing is known. */
static bool
plan_dependent(Plan *plan, bool *any)
{
	if (plan == NULL)
		return false;
	if (calls_dependent((Node *) plan->targetlist, any) || calls_dependent((Node *) plan->qual, any))
		return true;
	switch (nodeTag(plan))
	{
		case T_Result:
			if (calls_dependent(((Result *) plan)->resconstantqual, any))
				return true;
			break;
		case T_NestLoop:
		case T_HashJoin:
		case T_MergeJoin:
			if (calls_dependent((Node *) ((Join *) plan)->joinqual, any))
				return true;
			break;
		case T_FunctionScan:
			if (calls_dependent((Node *) ((FunctionScan *) plan)->functions, any))
				return true;
			break;
		case T_SubqueryScan:
			if (plan_dependent(((SubqueryScan *) plan)->subplan, any))
				return true;
			break;
		case T_Limit:
			if (calls_dependent(((Limit *) plan)->limitOffset, any) ||
				calls_dependent(((Limit *) plan)->limitCount, any))
				return true;
			break;
		/* what these have besides is never volatile, and of columns and operators of the system's */
		case T_SeqScan:
		case T_IndexScan:
		case T_Hash:
		case T_Material:
		case T_Sort:
		case T_Agg:
		case T_ProjectSet:
			break;
		default:
			return true;
	}
	return plan_dependent(plan->lefttree, any) || plan_dependent(plan->righttree, any);
}

/*
 * What tells why a database is not attached, and what mends it, must run while it is not: for everybody the extension's own views, for
 * superusers also what reads nothing but the server's state (pg_settings, pg_stat_activity, shared catalogs), and calls of the
 * system's functions and s3am's (pg_reload_conf(), s3am.node()).  Other catalogs are not complete yet; and a statement
 * without relation and function waits, since such a one asks whether the database can be used.
 */
static bool
reads_status_only(QueryDesc *query)
{
	PlannedStmt *stmt = query->plannedstmt;
	S3Node *node;
	bool calls = false;
	bool own = true;
	ListCell *lc;

	if (query->operation != CMD_SELECT || stmt->hasModifyingCTE)
		return false;
	foreach (lc, stmt->relationOids)
	{
		if (!independent(lfirst_oid(lc)))
			return false;
		own &= get_rel_namespace(lfirst_oid(lc)) == get_namespace_oid("s3am", true);
	}
	if (stmt->relationOids && own)
		return true;
	/* one that comes while it attaches waits with the rest, lest a snapshot for more than a statement lacks the schema: pg_dump's */
	node = node_current();
	if (!superuser() || IsolationUsesXactSnapshot() || node == NULL || pg_atomic_read_u32(&node->phase) != NODE_FAILED)
		return false;
	foreach (lc, stmt->subplans)
		if (plan_dependent(lfirst(lc), &calls))
			return false;
	if (plan_dependent(stmt->planTree, &calls))
		return false;
	return stmt->relationOids != NIL || calls;
}

/* Views and partitioned tables have no rows that would be looked at, but what the statement does follows from them. */
static void
note_definitions(QueryDesc *query)
{
	ListCell *lc;

	foreach (lc, query->plannedstmt->relationOids)
	{
		char kind = lfirst_oid(lc) >= FirstNormalObjectId ? get_rel_relkind(lfirst_oid(lc)) : 0;

		if (kind == RELKIND_VIEW || kind == RELKIND_PARTITIONED_TABLE)
			used_note_relation(lfirst_oid(lc));
	}
}

/* ------------------------------------------------------------------------------------ parallel plans */

static int running; /* executor runs, one within the other */

/* The first s3am table of a plan; if `changed`, of those that the transaction has changed.  InvalidOid: there is none. */
static Oid
table_read(const PlannedStmt *plan, bool changed)
{
	ListCell *lc;

	foreach (lc, plan->rtable)
	{
		const RangeTblEntry *rte = lfirst(lc);
		Relation rel;
		bool found;

		if (rte->rtekind != RTE_RELATION)
			continue;
		rel = relation_open(rte->relid, NoLock); /* who runs the plan has one */
		found = relation_is_s3am(rel) && (!changed || txn_writes_to(rel));
		relation_close(rel, NoLock);
		if (found)
			return rte->relid;
	}
	return InvalidOid;
}

/*
 * Parallel workers do not see what their leader has not committed, so none reads a table that the transaction has changed (rule 29).
 * A function that is not core's may read any table: the plan depends on it, as on a type whose values are checked by one.
 */
static bool
workers_see_all(const PlannedStmt *plan)
{
	return !txn_writes() || (plan->invalItems == NIL && !OidIsValid(table_read(plan, true)));
}

/* Should a worker come to such a function all the same (an operator class has them, too), it must not read what it does not see. */
static void
check_worker(const QueryDesc *query)
{
	PGPROC *leader = MyProc->lockGroupLeader;
	Oid relid;

	if (running == 0 || leader == NULL || !pg_atomic_read_u32(&node_backend(leader->pgprocno)->unseen))
		return;
	relid = table_read(query->plannedstmt, false);
	if (OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a function in a parallel worker cannot read s3am table \"%s\"", get_rel_name(relid)),
				 errdetail("The transaction has changes that its parallel workers do not see."),
				 errhint("Mark the function PARALLEL RESTRICTED, or set max_parallel_workers_per_gather to 0.")));
}

/* Ordinary statements wait until the database is attached: its schema is not complete before. */
static void
executor_start(QueryDesc *query, int eflags)
{
	if (!node_waited && !ddl_is_internal() && !creating_extension && !ddl_detaching() && !RecoveryInProgress() &&
		!reads_status_only(query) && node_database_bound())
	{
		(void) node_wait_ready();
		node_waited = true;
	}
	if (node_waited && !ddl_is_internal())
	{
		note_definitions(query);
		sequence_statement();
	}
	freshness_executor_start(query);
	if (IsParallelWorker())
		check_worker(query);
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	(void) bitmap_executor_start(query);
}

/* Nor do workers run while what functions in them read would have to be claimed (rule 18). */
static void
executor_run(QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once)
{
	bool parallel = query->plannedstmt->parallelModeNeeded;
	int reading_ahead = bitmap_executor_run(query);
	int reads = reads_executor_run();
	uint32 unseen = 0;

	if (parallel && (IsolationIsSerializable() || !workers_see_all(query->plannedstmt)))
		query->plannedstmt->parallelModeNeeded = false;
	if (query->plannedstmt->parallelModeNeeded)
	{
		/* what a process that ended here left behind means nothing */
		unseen = running > 0 ? pg_atomic_read_u32(&node_backend(MyProc->pgprocno)->unseen) : 0;
		pg_atomic_write_u32(&node_backend(MyProc->pgprocno)->unseen, txn_writes());
	}
	running++;
	PG_TRY();
	{
		if (prev_executor_run)
			prev_executor_run(query, direction, count, execute_once);
		else
			standard_ExecutorRun(query, direction, count, execute_once);
	}
	PG_FINALLY();
	{
		running--;
		if (query->plannedstmt->parallelModeNeeded)
			pg_atomic_write_u32(&node_backend(MyProc->pgprocno)->unseen, unseen);
		query->plannedstmt->parallelModeNeeded = parallel;
		bitmap_executor_end(reading_ahead);
		reads_executor_end(reads);
	}
	PG_END_TRY();
}

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class_id, object_id, sub_id, arg);
	if (access == OAT_DROP && class_id == RelationRelationId && sub_id == 0)
		storage_dropped(object_id);
	else if (access == OAT_DROP && class_id == TypeRelationId)
		enum_labels_drop(object_id);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("s3am must be loaded via shared_preload_libraries"),
						errhint("Add s3am to shared_preload_libraries in postgresql.conf and restart the server.")));
	settings_define();
	(void) memory_on_refusal(refusal_throws);
	flip_init(); /* before the others' hooks, so that they run around its own: the wait for the schema, capture */
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	ddl_init();
	cache_init();
	txn_init();
	view_init();
	freshness_init();
	stand_ins_init();
	worker_register_launcher();
}
