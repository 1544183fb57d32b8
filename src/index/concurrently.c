/*
 * concurrently.c: CONCURRENTLY for indexes of s3am tables.
 *
 * Core builds such an index in three transactions, between which others add entries to one that is not valid yet; no other server could
 * follow that.  Here rows have ascending numbers, so nothing of the kind is needed.  First the index's runs are made of the rows that a snapshot sees,
 * and uploaded, while everybody writes; there is nothing in the catalogs then.  Then the statement is run as it would be without the word, in a
 * transaction of its own: writers wait for the moment that it takes to add a run of the rows that came meanwhile, and to commit.  If another
 * server wrote in just that moment, this second part alone is done again.  Whatever goes wrong, no index that is not valid is left.
 *
 * REINDEX of several tables or indexes comes here once for each of s3am (reindex.c).
 *
 * What is built ahead needs to know the index: one that is to be made is made in a subtransaction, without being built, looked at, and taken back.
 * What was built is used only for the very same definition and storage, so nothing has to be locked between the two parts.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "commands/defrem.h"
#include "commands/progress.h"
#include "commands/tablecmds.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "parser/parse_utilcmd.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "tcop/pquery.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "index/concurrently.h"
#include "index/index.h"
#include "node/bucket.h"
#include "s3am.h"
#include "txn/commit.h"
#include "txn/txn.h"

#define LOCK_TRIES 20 /* until it queues for the lock, and others behind it */
#define COMMIT_TRIES 50 /* while other servers write */
#define PAUSE_MS 10 /* before the second one; then twice as long, up to: */
#define PAUSE_MAX_MS 200

static MemoryContext cxt; /* of all that outlives the first transaction; NULL: nothing is being built */
static List *built; /* of AheadIndex */
static bool committing; /* something may refer to the objects, or come to */

/* What was uploaded for them. */
typedef struct Uploaded
{
	uint64 epoch, number;
} Uploaded;

static Uploaded *uploaded; /* in cxt */
static int nuploaded, uploaded_capacity;

/* ------------------------------------------------------------------------------------ which statements */

bool
is_of_s3am(RangeVar *name)
{
	Oid relid = RangeVarGetRelid(name, NoLock, true);
	HeapTuple tuple;
	bool result = false;

	if (OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_INDEX)
		relid = IndexGetRelation(relid, true);
	tuple = OidIsValid(relid) ? SearchSysCache1(RELOID, ObjectIdGetDatum(relid)) : NULL;
	if (HeapTupleIsValid(tuple))
	{
		result = OidIsValid(s3am_am_oid()) && ((Form_pg_class) GETSTRUCT(tuple))->relam == s3am_am_oid();
		ReleaseSysCache(tuple);
	}
	return result;
}

static bool
says_concurrently(const ReindexStmt *stmt)
{
	ListCell *lc;
	bool result = false;

	foreach (lc, stmt->params)
		if (strcmp(((DefElem *) lfirst(lc))->defname, "concurrently") == 0)
			result = defGetBoolean(lfirst(lc));
	return result;
}

static void
leave_out_concurrently(ReindexStmt *stmt)
{
	ListCell *lc;

	foreach (lc, stmt->params)
		if (strcmp(((DefElem *) lfirst(lc))->defname, "concurrently") == 0)
			stmt->params = foreach_delete_current (stmt->params, lc);
}

/* ------------------------------------------------------------------------------------ objects that nothing names yet */

static void
note_upload(uint64 epoch, uint64 number)
{
	if (nuploaded == uploaded_capacity)
	{
		int capacity = uploaded_capacity ? uploaded_capacity * 2 : 64;

		uploaded = uploaded ? repalloc_huge(uploaded, sizeof(Uploaded) * capacity)
							: MemoryContextAlloc(cxt, sizeof(Uploaded) * capacity);
		uploaded_capacity = capacity;
	}
	uploaded[nuploaded++] = (Uploaded){epoch, number};
}

/* All is over.  What was not, or not certainly, committed is left to the collector; the rest goes at once. */
static void
forget(bool done)
{
	for (int i = 0; i < nuploaded && !done && !committing; i++)
		bucket_segment_remove(uploaded[i].epoch, uploaded[i].number);
	uploaded = NULL;
	nuploaded = uploaded_capacity = 0;
	built = NIL;
	committing = false;
	commit_keep_objects(false);
	MemoryContextDelete(cxt);
	cxt = NULL;
}

/* ------------------------------------------------------------------------------------ building ahead */

static bool
same_definition(const IndexMeta *a, const IndexMeta *b)
{
	if (a->nkeys != b->nkeys || a->natts != b->natts || (a->coder == NULL) != (b->coder == NULL) ||
		!equalTupleDescs(a->desc, b->desc))
		return false;
	for (int i = 0; i < a->nkeys; i++)
		if (a->order[i]->fn_oid != b->order[i]->fn_oid || a->opfamily[i] != b->opfamily[i] ||
			a->opcintype[i] != b->opcintype[i] || a->collation[i] != b->collation[i] ||
			a->descending[i] != b->descending[i] || a->nulls_first[i] != b->nulls_first[i])
			return false;
	return true;
}

const AheadIndex *
ahead_find(Relation heap, const IndexMeta *meta, IndexInfo *info, uint64 table)
{
	ListCell *lc;

	foreach (lc, built)
	{
		AheadIndex *ahead = lfirst(lc);

		if (ahead->heap == RelationGetRelid(heap) && ahead->table == table &&
			(!OidIsValid(ahead->index) || ahead->index == RelationGetRelid(meta->index)) &&
			ahead->info->ii_Unique == info->ii_Unique &&
			ahead->distinct == !meta->index->rd_index->indnullsnotdistinct &&
			ahead->info->ii_NumIndexAttrs == info->ii_NumIndexAttrs &&
			memcmp(ahead->info->ii_IndexAttrNumbers, info->ii_IndexAttrNumbers,
				   sizeof(AttrNumber) * info->ii_NumIndexAttrs) == 0 &&
			equal(ahead->info->ii_Expressions, info->ii_Expressions) &&
			equal(ahead->info->ii_Predicate, info->ii_Predicate) && same_definition(ahead->meta, meta))
			return ahead;
	}
	return NULL;
}

/*
 * What is to be built, from an index; NULL: it is none that can be.  In cxt.  Already making expressions ready to use calls functions of theirs that have
 * constant arguments, so that is done as the owner of the table, too.
 */
static AheadIndex *
describe(Relation heap, Relation index)
{
	MemoryContext old;
	AheadIndex *ahead;
	IndexUser user;

	if (!relation_is_s3am(heap) || !(relation_is_s3btree(index) || relation_is_s3hash(index)) ||
		index->rd_index->indisexclusion)
		return NULL;
	index_user_begin(heap, &user);
	old = MemoryContextSwitchTo(cxt);
	ahead = palloc0(sizeof(AheadIndex));
	ahead->heap = RelationGetRelid(heap);
	ahead->table = storage_of(heap).storage;
	ahead->name = pstrdup(RelationGetRelationName(index));
	ahead->columns = pg_get_indexdef_columns(RelationGetRelid(index), true);
	ahead->meta = index_meta(index, cxt);
	(void) meta_has_hashes(ahead->meta);
	ahead->meta->index = NULL;
	ahead->info = BuildIndexInfo(index);
	ahead->distinct = !index->rd_index->indnullsnotdistinct;
	MemoryContextSwitchTo(old);
	index_user_end(&user);
	return ahead;
}

static void
wait_for_lockers(Oid relid, LOCKMODE mode)
{
	LOCKTAG tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	WaitForLockers(tag, mode, false);
}

/*
 * Locks a table, and indexes of it, as the statement will.  Others must not queue up behind one that waits for a long transaction, so those who
 * are in the way are waited for without standing in the queue, as core does it.
 */
static void
lock_between_others(Oid heap, List *indexes)
{
	ListCell *lc;

	for (int i = 0; i < LOCK_TRIES; i++)
	{
		List *locked = NIL;

		CHECK_FOR_INTERRUPTS();
		foreach (lc, indexes)
			wait_for_lockers(lfirst_oid(lc), AccessExclusiveLock);
		wait_for_lockers(heap, ShareLock);
		if (!ConditionalLockRelationOid(heap, ShareLock))
			continue;
		foreach (lc, indexes)
		{
			if (!ConditionalLockRelationOid(lfirst_oid(lc), AccessExclusiveLock))
				break;
			locked = lappend_oid(locked, lfirst_oid(lc));
		}
		if (lc == NULL)
			return;
		foreach (lc, locked)
			UnlockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
		UnlockRelationOid(heap, ShareLock);
	}
}

static AheadIndex *
make_and_describe(Relation heap, IndexStmt *stmt, const char *query)
{
	AheadIndex *ahead = NULL;
	ObjectAddress address;

	stmt = transformIndexStmt(RelationGetRelid(heap), stmt, query);
	address =
		DefineIndex(RelationGetRelid(heap), stmt, InvalidOid, InvalidOid, InvalidOid, false, true, false, true, true);
	if (OidIsValid(address.objectId))
	{
		Relation index = index_open(address.objectId, NoLock);

		ahead = describe(heap, index);
		index_close(index, NoLock);
	}
	return ahead;
}

/* The index that a statement is to make: it is made, looked at, and taken back.  NULL: there is nothing to build. */
static AheadIndex *
describe_new(Relation heap, IndexStmt *stmt, const char *query)
{
	IndexStmt *copy = copyObject(stmt);
	AheadIndex *volatile ahead = NULL;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext old = CurrentMemoryContext;

	if (copy->if_not_exists && copy->idxname &&
		OidIsValid(get_relname_relid(copy->idxname, RelationGetNamespace(heap))))
		return NULL;
	copy->concurrent = false;
	if (copy->accessMethod && strcmp(copy->accessMethod, "s3btree") == 0)
		copy->accessMethod = DEFAULT_INDEX_TYPE;
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		lock_between_others(RelationGetRelid(heap), NIL);
		ahead = make_and_describe(heap, copy, query);
	}
	PG_CATCH();
	{
		ErrorData *error;

		/* or the session would be left in the middle of a subtransaction */
		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(old);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	return ahead;
}

static void
build(AheadIndex *ahead, Relation heap)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	IndexUser user;

	index_user_begin(heap, &user);
	pgstat_progress_start_command(PROGRESS_COMMAND_CREATE_INDEX, RelationGetRelid(heap));
	pgstat_progress_update_param(PROGRESS_CREATEIDX_COMMAND, OidIsValid(ahead->index)
																 ? PROGRESS_CREATEIDX_COMMAND_REINDEX_CONCURRENTLY
																 : PROGRESS_CREATEIDX_COMMAND_CREATE_CONCURRENTLY);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_INDEX_OID, ahead->index);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_PHASE, PROGRESS_CREATEIDX_PHASE_BUILD);
	ahead_build(ahead, heap, note_upload);
	pgstat_progress_end_command();
	index_user_end(&user);
	built = lappend(built, ahead);
	MemoryContextSwitchTo(old);
}

static void
build_new(IndexStmt *stmt, const char *query)
{
	Oid relid =
		RangeVarGetRelidExtended(stmt->relation, ShareUpdateExclusiveLock, 0, RangeVarCallbackOwnsRelation, NULL);
	Relation heap = table_open(relid, NoLock);
	AheadIndex *ahead = relation_is_s3am(heap) ? describe_new(heap, stmt, query) : NULL;

	if (ahead)
		build(ahead, heap);
	table_close(heap, NoLock);
}

/* Of a table all indexes, or one; *indexes: those that will be, in cxt. */
static void
build_anew(ReindexObjectType kind, Oid relid, Oid *table, List **indexes)
{
	Oid only = kind == REINDEX_OBJECT_INDEX ? relid : InvalidOid;
	ListCell *lc;
	Relation heap;
	MemoryContext old;

	*table = OidIsValid(only) ? IndexGetRelation(only, true) : relid;
	/* who may not do it is told so by core */
	if (!OidIsValid(*table) || !relation_is_owned(relid))
	{
		*table = InvalidOid;
		return;
	}
	heap = try_table_open(*table, ShareUpdateExclusiveLock);
	if (heap == NULL || !relation_is_s3am(heap))
	{
		*table = InvalidOid;
		if (heap)
			table_close(heap, NoLock);
		return;
	}
	old = MemoryContextSwitchTo(cxt);
	*indexes = OidIsValid(only) ? list_make1_oid(only) : list_copy(RelationGetIndexList(heap));
	MemoryContextSwitchTo(old);
	foreach (lc, *indexes)
	{
		Relation index = try_relation_open(lfirst_oid(lc), AccessShareLock);
		AheadIndex *ahead = NULL;

		if (index && index->rd_rel->relkind == RELKIND_INDEX && index->rd_index->indrelid == *table)
			ahead = describe(heap, index);
		if (ahead)
			ahead->index = lfirst_oid(lc);
		/* nobody who waits for the index waits for this */
		if (index)
			relation_close(index, AccessShareLock);
		if (ahead)
			build(ahead, heap);
	}
	table_close(heap, NoLock);
}

/* ------------------------------------------------------------------------------------ running it */

/* What is built and committed needs no transaction's snapshot, and claims nothing that it has read. */
void
concurrently_begin(void)
{
	StartTransactionCommand();
	XactIsoLevel = XACT_READ_COMMITTED;
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
concurrently_end(void)
{
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
}

static void
pause_before(int attempt)
{
	int ms = Min(PAUSE_MS << Min(attempt, 10), PAUSE_MAX_MS);

	/* so that two servers do not meet again and again */
	ms = (int) (ms * (0.5 + pg_prng_double(&pg_global_prng_state)));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

typedef enum Outcome
{
	RUN_DONE,
	RUN_AGAIN, /* another server was in the way, and it may be tried again */
	RUN_GONE /* there is nothing to be done any more */
} Outcome;

/* The statement itself, in a transaction that is over then. */
static Outcome
run_once(PlannedStmt *pstmt, Oid one, Oid table, List *indexes, StatementRun run, void *arg, bool again)
{
	volatile Outcome outcome = RUN_DONE;
	PlannedStmt *copy;

	PG_TRY();
	{
		concurrently_begin();
		if (OidIsValid(table) && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table)))
			lock_between_others(table, indexes);
		copy = copyObject(pstmt);
		if (OidIsValid(one) &&
			!reindex_name(castNode(ReindexStmt, copy->utilityStmt), one, ShareLock, AccessExclusiveLock))
			outcome = RUN_GONE;
		else
		{
			run(copy, arg);
			ahead_catch_up();
			committing = true;
		}
		concurrently_end();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE)
			PG_RE_THROW();
		/* the outcome is known */
		committing = false;
		if (!again)
			PG_RE_THROW();
		FlushErrorState();
		AbortCurrentTransaction();
		outcome = RUN_AGAIN;
	}
	PG_END_TRY();
	return outcome;
}

static bool
run_ahead(PlannedStmt *pstmt, const char *query, Oid one, StatementRun run, void *arg)
{
	Node *node = pstmt->utilityStmt;
	Oid table = InvalidOid;
	List *indexes = NIL;

	/* that of the statement, in which nothing was done */
	concurrently_end();
	concurrently_begin();
	commit_keep_objects(true);
	if (IsA(node, IndexStmt))
	{
		build_new((IndexStmt *) node, query);
		table = RangeVarGetRelid(castNode(IndexStmt, node)->relation, NoLock, true);
	}
	else
	{
		ReindexStmt *stmt = castNode(ReindexStmt, node);

		build_anew(stmt->kind, OidIsValid(one) ? one : RangeVarGetRelid(stmt->relation, NoLock, true), &table,
				   &indexes);
	}
	concurrently_end();
	if (OidIsValid(one) && !OidIsValid(table))
		return false;
	for (int attempt = 0;; attempt++)
	{
		Outcome outcome = run_once(pstmt, one, table, indexes, run, arg, attempt + 1 < COMMIT_TRIES);

		if (outcome != RUN_AGAIN)
			return outcome == RUN_DONE;
		pause_before(attempt);
	}
}

bool
concurrently_run(PlannedStmt *pstmt, const char *query, Oid one, StatementRun run, void *arg)
{
	MemoryContext outer = CurrentMemoryContext;
	volatile bool done = false;

	/* what the statement is must outlive its transaction */
	cxt = AllocSetContextCreate(PortalContext, "s3am index built ahead", ALLOCSET_DEFAULT_SIZES);
	(void) MemoryContextSwitchTo(cxt);
	pstmt = copyObject(pstmt);
	if (IsA(pstmt->utilityStmt, ReindexStmt))
		leave_out_concurrently((ReindexStmt *) pstmt->utilityStmt);
	else
		castNode(IndexStmt, pstmt->utilityStmt)->concurrent = false;
	query = pstrdup(query);
	PG_TRY();
	{
		done = run_ahead(pstmt, query, one, run, arg);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(outer);
		forget(false);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(outer);
	forget(done);
	return done;
}

bool
index_concurrently(PlannedStmt **pstmt, const char *query, bool top_level, StatementRun run, void *arg)
{
	Node *node = (*pstmt)->utilityStmt;
	MemoryContext outer = CurrentMemoryContext;

	if (IsA(node, DropStmt) && castNode(DropStmt, node)->removeType == OBJECT_INDEX &&
		castNode(DropStmt, node)->concurrent && castNode(DropStmt, node)->behavior == DROP_RESTRICT &&
		list_length(castNode(DropStmt, node)->objects) == 1 &&
		is_of_s3am(makeRangeVarFromNameList(linitial(castNode(DropStmt, node)->objects))))
	{
		/* core refuses more than one, and CASCADE */
		PreventInTransactionBlock(top_level, "DROP INDEX CONCURRENTLY");
		*pstmt = copyObject(*pstmt);
		castNode(DropStmt, (*pstmt)->utilityStmt)->concurrent = false;
		return false;
	}
	if (IsA(node, IndexStmt) && castNode(IndexStmt, node)->concurrent && castNode(IndexStmt, node)->relation &&
		is_of_s3am(castNode(IndexStmt, node)->relation))
	{
		PreventInTransactionBlock(top_level, "CREATE INDEX CONCURRENTLY");
		/* core refuses it then */
		if (XactReadOnly)
			return false;
	}
	else if (IsA(node, ReindexStmt) && says_concurrently((ReindexStmt *) node))
	{
		/* core refuses it then; READ ONLY does not matter to it */
		if (RecoveryInProgress())
			return false;
		if (castNode(ReindexStmt, node)->relation == NULL || !is_of_s3am(castNode(ReindexStmt, node)->relation))
			return reindex_several(*pstmt, query, top_level, run, arg);
		PreventInTransactionBlock(top_level, "REINDEX CONCURRENTLY");
	}
	else
		return false;
	(void) concurrently_run(*pstmt, query, InvalidOid, run, arg);
	StartTransactionCommand();
	MemoryContextSwitchTo(outer);
	return true;
}
