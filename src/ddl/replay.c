/*
 * replay.c: DDL of other servers, in the publisher's transaction.
 *
 * Statements run through core unchanged, with the settings and the clock of their origin.  Nothing is computed: the access
 * method's scans answer nothing while replaying, and new storage adopts the ids that the manifest names.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/matview.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/regproc.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "ddl/ddl.h"
#include "ddl/replay.h"

static bool replaying;
static const S3am__DdlStatement *current;
static size_t next_storage;
static List *made;				/* relations created by the statement */
static bool populate;

bool
ddl_replaying(void)
{
	return replaying;
}

char
ddl_relkind(Oid relid)
{
	Relation	catalog = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char		kind = 0;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, ClassOidIndexId, true, SnapshotSelf, 1, &key);
	if ((tuple = systable_getnext(scan)) != NULL)
		kind = ((Form_pg_class) GETSTRUCT(tuple))->relkind;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return kind;
}

void
ddl_replay_created(Oid relid)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	made = lappend_oid(made, relid);
	MemoryContextSwitchTo(old);
}

/* Several relations of one statement get storage in the same order on every server. */
uint64
ddl_replay_storage(Relation rel)
{
	if (current == NULL || next_storage >= current->n_storages)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the manifest names no storage for relation \"%s\"", RelationGetRelationName(rel))));
	return current->storages[next_storage++];
}

PlannedStmt *
ddl_replay_adjust(PlannedStmt *pstmt)
{
	Node	   *node = pstmt->utilityStmt;
	ListCell   *lc;

	if (IsA(node, CreateTableAsStmt))
	{
		pstmt = copyObject(pstmt);
		populate = !((CreateTableAsStmt *) node)->into->skipData;
		((CreateTableAsStmt *) pstmt->utilityStmt)->into->skipData = true;
	}
	else if (IsA(node, IndexStmt))
	{
		pstmt = copyObject(pstmt);
		((IndexStmt *) pstmt->utilityStmt)->concurrent = false;
	}
	else if (IsA(node, DropStmt))
	{
		pstmt = copyObject(pstmt);
		((DropStmt *) pstmt->utilityStmt)->concurrent = false;
	}
	else if (IsA(node, AlterTableStmt))
	{
		pstmt = copyObject(pstmt);
		foreach(lc, ((AlterTableStmt *) pstmt->utilityStmt)->cmds)
		{
			AlterTableCmd *cmd = lfirst(lc);

			if (cmd->subtype == AT_DetachPartition)
				((PartitionCmd *) cmd->def)->concurrent = false;
		}
	}
	return pstmt;
}

static void
set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
run_text(const char *text)
{
	ListCell   *lc;

	foreach(lc, raw_parser(text, RAW_PARSE_DEFAULT))
	{
		List	   *queries = pg_analyze_and_rewrite_fixedparams(lfirst(lc), text, NULL, 0, NULL);
		ListCell   *lp;

		foreach(lp, pg_plan_queries(queries, text, 0, NULL))
		{
			PlannedStmt *pstmt = lfirst(lp);

			if (pstmt->commandType != CMD_UTILITY)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("a manifest's schema change is not a schema change"),
						 errdetail("Statement: %s", text)));
			PushActiveSnapshot(GetTransactionSnapshot());
			/* as a subcommand no event trigger fires: they did at the origin */
			ProcessUtility(pstmt, text, false, PROCESS_UTILITY_SUBCOMMAND, NULL, NULL, None_Receiver, NULL);
			PopActiveSnapshot();
			CommandCounterIncrement();
		}
	}
}

/* New storage without a statement: TRUNCATE, CLUSTER, VACUUM FULL, REFRESH. */
static void
adopt_storages(const S3am__DdlStatement *s)
{
	while (next_storage < s->n_storages)
	{
		char	   *name = pstrdup(s->storage_names[next_storage]);
		char	   *suffix = strstr(name, " rewritten");
		Oid			relid;
		Relation	rel;

		if (suffix)
			*suffix = '\0';
		relid = RangeVarGetRelid(makeRangeVarFromNameList(stringToQualifiedNameList(name)), NoLock, false);
		rel = table_open(relid, AccessExclusiveLock);
		if (rel->rd_rel->relkind == RELKIND_MATVIEW)
			SetMatViewPopulatedState(rel, true);
		RelationSetNewRelfilenode(rel, rel->rd_rel->relpersistence);
		table_close(rel, NoLock);
		CommandCounterIncrement();
	}
}

/* Names that core chose may differ where a server has objects of its own: compare what was made by position. */
static void
fix_names(const S3am__DdlStatement *s)
{
	size_t		n = 0;
	ListCell   *lc;

	foreach(lc, made)
	{
		Oid			relid = lfirst_oid(lc);
		char	   *name = get_rel_name(relid);
		char		kind = name ? get_rel_relkind(relid) : 0;
		const char *wanted;

		if (name == NULL || kind == RELKIND_TOASTVALUE || get_rel_namespace(relid) == PG_TOAST_NAMESPACE ||
			strncmp(name, "pg_temp_", 8) == 0)
			continue;
		if (n >= s->n_created)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("replaying a schema change made relation \"%s\", which its origin did not make", name)));
		wanted = strchr(s->created[n++], '.') + 1;
		if (strcmp(name, wanted) != 0)
		{
			RenameRelationInternal(relid, wanted, false, kind == RELKIND_INDEX || kind == RELKIND_PARTITIONED_INDEX);
			CommandCounterIncrement();
		}
		if (populate && kind == RELKIND_MATVIEW)
		{
			Relation	rel = table_open(relid, AccessExclusiveLock);

			SetMatViewPopulatedState(rel, true);
			table_close(rel, NoLock);
			CommandCounterIncrement();
		}
	}
}

static void
replay_one(const S3am__DdlStatement *s)
{
	int			level = NewGUCNestLevel();
	int			worker = ParallelWorkerNumber;
	Oid			user;
	int			context;
	Oid			role = get_role_oid(s->role, true);

	GetUserIdAndSecContext(&user, &context);
	if (!OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist on this server", s->role),
				 errdetail("Schema changes of that role cannot be replayed: %s", s->text),
				 errhint("Create the role; the database is then attached by itself.")));
	set("search_path", s->search_path);
	for (size_t i = 0; i < s->n_settings; i++)
	{
		char	   *name = pstrdup(s->settings[i]);
		char	   *equals = strchr(name, '=');

		if (equals == NULL)
			continue;
		*equals = '\0';
		set(name, equals + 1);
	}
	set("check_function_bodies", "off");
	/* the clock of the origin: defaults like 'today' and now() come out equal */
	ParallelWorkerNumber = 0;
	SetParallelStartTimestamps(s->timestamp_us, s->timestamp_us);
	ParallelWorkerNumber = worker;

	replaying = true;
	current = s;
	next_storage = 0;
	made = NIL;
	populate = false;
	PG_TRY();
	{
		SetUserIdAndSecContext(role, context);
		if (s->text && s->text[0])
			run_text(s->text);
		fix_names(s);
		SetUserIdAndSecContext(user, context);
		adopt_storages(s);
	}
	PG_FINALLY();
	{
		replaying = false;
		current = NULL;
		made = NIL;
		SetUserIdAndSecContext(user, context);
		AtEOXact_GUC(false, level);
	}
	PG_END_TRY();
}

void
ddl_replay(S3am__DdlStatement **statements, int n)
{
	for (int i = 0; i < n; i++)
		replay_one(statements[i]);
}
