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
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/matview.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "storage/lmgr.h"
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
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "ddl/capture.h"
#include "ddl/ddl.h"
#include "ddl/local.h"
#include "ddl/replay.h"
#include "ddl/sequence.h"
#include "index/index.h"
#include "txn/txn.h"

static bool replaying;
static const S3am__DdlStatement *current;
static bool *storage_used; /* of current->storages */
static int storage_forced; /* the one to take next, or -1: by name */
static List *made; /* ObjectAddress of what the statement made */
static bool populate;
static Oid raised; /* a superuser while the statement runs */

bool
ddl_replaying(void)
{
	return replaying;
}

char
ddl_relkind(Oid relid)
{
	Relation catalog = table_open(RelationRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	char kind = 0;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, ClassOidIndexId, true, SnapshotSelf, 1, &key);
	if ((tuple = systable_getnext(scan)) != NULL)
		kind = ((Form_pg_class) GETSTRUCT(tuple))->relkind;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return kind;
}

void
ddl_replay_created(Oid class_id, Oid object_id)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	ObjectAddress *address = palloc(sizeof(ObjectAddress));

	ObjectAddressSet(*address, class_id, object_id);
	made = lappend(made, address);
	MemoryContextSwitchTo(old);
}

/*
 * By name; children of a table may come in another order than at the origin.  A name that core chose may differ, so what is
 * left over is taken in order.
 */
uint64
ddl_replay_storage(Relation rel)
{
	char *name = ddl_storage_name(rel);
	int found = storage_forced;

	for (size_t i = 0; current && found < 0 && i < current->n_storages; i++)
		if (!storage_used[i] && strcmp(current->storage_names[i], name) == 0)
			found = i;
	for (size_t i = 0; current && found < 0 && i < current->n_storages; i++)
		if (!storage_used[i])
			found = i;
	if (current == NULL || found < 0)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the manifest names no storage for relation \"%s\"", RelationGetRelationName(rel))));
	storage_used[found] = true;
	return current->storages[found];
}

/* ------------------------------------------------------------------------------------ statements */

static List *
without_left_out(List *objects)
{
	List *result = NIL;
	ListCell *lc;

	foreach (lc, objects)
	{
		bool left_out = false;

		for (size_t i = 0; i < current->n_left_out; i++)
			left_out |= current->left_out[i] == foreach_current_index(lc);
		if (!left_out)
			result = lappend(result, lfirst(lc));
	}
	return result;
}

/*
 * Makes a role a superuser, or one no more.  Nobody sees it outside of this transaction, which undoes it before it ends.  So the
 * statement still runs as that role: it owns what it makes, and CURRENT_ROLE is who it was.
 */
void
replay_set_superuser(Oid role, bool super)
{
	Relation catalog = table_open(AuthIdRelationId, RowExclusiveLock);
	HeapTuple tuple = SearchSysCacheCopy1(AUTHOID, ObjectIdGetDatum(role));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "role %u is gone", role);
	((Form_pg_authid) GETSTRUCT(tuple))->rolsuper = super;
	CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
	heap_freetuple(tuple);
	table_close(catalog, NoLock);
	CommandCounterIncrement();
}

/* GRANT ON ALL TABLES IN SCHEMA means the travelling ones. */
static void
grant_to_travelling(GrantStmt *grant)
{
	List *objects = NIL;
	ListCell *lc;

	foreach (lc, grant->objects)
	{
		char *schema = strVal(lfirst(lc));
		Oid oid = get_namespace_oid(schema, false);
		Relation catalog = table_open(RelationRelationId, AccessShareLock);
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple tuple;

		ScanKeyInit(&key, Anum_pg_class_relnamespace, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
		scan = systable_beginscan(catalog, InvalidOid, false, NULL, 1, &key);
		while ((tuple = systable_getnext(scan)) != NULL)
		{
			Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);
			bool sequence = form->relkind == RELKIND_SEQUENCE;

			if (form->relkind == RELKIND_INDEX || form->relkind == RELKIND_PARTITIONED_INDEX ||
				form->relkind == RELKIND_COMPOSITE_TYPE || form->relkind == RELKIND_TOASTVALUE ||
				sequence != (grant->objtype == OBJECT_SEQUENCE) || local_relation(form->oid))
				continue;
			objects = lappend(objects, makeRangeVar(schema, pstrdup(NameStr(form->relname)), -1));
		}
		systable_endscan(scan);
		table_close(catalog, AccessShareLock);
	}
	grant->objects = objects;
	grant->targtype = ACL_TARGET_OBJECT;
}

static void
adjust_alter_table(AlterTableStmt *alter)
{
	List *cmds = NIL;
	ListCell *lc;

	foreach (lc, alter->cmds)
	{
		AlterTableCmd *cmd = lfirst(lc);

		/* tablespaces are each server's own */
		if (cmd->subtype == AT_SetTableSpace)
			continue;
		/* in one step, where the origin took two transactions */
		if (cmd->subtype == AT_DetachPartition)
			((PartitionCmd *) cmd->def)->concurrent = false;
		else if (cmd->subtype == AT_DetachPartitionFinalize)
			cmd->subtype = AT_DetachPartition;
		cmds = lappend(cmds, cmd);
	}
	alter->cmds = cmds;
}

static void
set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

PlannedStmt *
ddl_replay_adjust(PlannedStmt *pstmt)
{
	Node *node;

	if (current == NULL)
		return pstmt;
	pstmt = copyObject(pstmt);
	node = pstmt->utilityStmt;
	switch (nodeTag(node))
	{
		case T_CreateTableAsStmt:
		{
			IntoClause *into = ((CreateTableAsStmt *) node)->into;

			populate = !into->skipData;
			into->skipData = true;
			into->tableSpaceName = NULL;
		}
		break;
		case T_CreateStmt:
			((CreateStmt *) node)->tablespacename = NULL;
			break;
		case T_IndexStmt:
			((IndexStmt *) node)->concurrent = false;
			((IndexStmt *) node)->tableSpace = NULL;
			break;
		case T_CreateSchemaStmt:
		{
			/* what was there before the extension is known to all from now on */
			CreateSchemaStmt *create = (CreateSchemaStmt *) node;
			ObjectAddress schema = {NamespaceRelationId, InvalidOid, 0};

			if (create->if_not_exists && create->schemaname)
				schema.objectId = get_namespace_oid(create->schemaname, true);
			if (OidIsValid(schema.objectId))
				local_forget_earlier(&schema);
		}
		break;
		case T_DropStmt:
			((DropStmt *) node)->concurrent = false;
			((DropStmt *) node)->objects = without_left_out(((DropStmt *) node)->objects);
			break;
		case T_GrantStmt:
		{
			GrantStmt *grant = (GrantStmt *) node;

			if (grant->targtype == ACL_TARGET_OBJECT)
				grant->objects = without_left_out(grant->objects);
			else if (grant->targtype == ACL_TARGET_ALL_IN_SCHEMA &&
					 (grant->objtype == OBJECT_TABLE || grant->objtype == OBJECT_SEQUENCE))
				grant_to_travelling(grant);
		}
		break;
		case T_AlterOwnerStmt:
		{
			/* these want a superuser, which the role may be at the origin alone */
			AlterOwnerStmt *alter = (AlterOwnerStmt *) node;
			Oid owner = alter->objectType == OBJECT_EVENT_TRIGGER || alter->objectType == OBJECT_FDW
							? get_rolespec_oid(alter->newowner, false)
							: InvalidOid;

			if (OidIsValid(owner) && !superuser_arg(owner))
			{
				replay_set_superuser(owner, true);
				raised = owner;
			}
		}
		break;
		case T_AlterTableStmt:
			adjust_alter_table((AlterTableStmt *) node);
			break;
		case T_CreateExtensionStmt:
		case T_AlterExtensionStmt:
			/* tables of extensions are each server's own */
			set("default_table_access_method", "heap");
			break;
		default:
			break;
	}
	return pstmt;
}

static void
run_text(const char *text)
{
	ListCell *lc;

	foreach (lc, raw_parser(text, RAW_PARSE_DEFAULT))
	{
		List *queries = pg_analyze_and_rewrite_fixedparams(lfirst(lc), text, NULL, 0, NULL);
		ListCell *lp;

		foreach (lp, pg_plan_queries(queries, text, 0, NULL))
		{
			PlannedStmt *pstmt = lfirst(lp);

			if (pstmt->commandType != CMD_UTILITY)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED), errmsg("a manifest's schema change is not a schema change")));
			CHECK_FOR_INTERRUPTS();
			PushActiveSnapshot(GetTransactionSnapshot());
			/* as a subcommand no event trigger fires: they did at the origin */
			ProcessUtility(pstmt, text, false, PROCESS_UTILITY_SUBCOMMAND, NULL, NULL, None_Receiver, NULL);
			PopActiveSnapshot();
			CommandCounterIncrement();
			if (OidIsValid(raised))
				replay_set_superuser(raised, false);
			raised = InvalidOid;
		}
	}
}

/* ------------------------------------------------------------------------------------ results */

static Oid
relation_by_name(const char *name)
{
	return RangeVarGetRelid(makeRangeVarFromNameList(stringToQualifiedNameList(name)), NoLock, true);
}

/* New storage without a statement: TRUNCATE, CLUSTER, VACUUM FULL, REINDEX, REFRESH. */
static void
adopt_storages(const S3am__DdlStatement *s)
{
	for (size_t i = 0; i < s->n_storages; i++)
	{
		char *name = pstrdup(s->storage_names[i]);
		char *suffix = strstr(name, " rewritten");
		Oid relid;
		Relation rel;

		if (storage_used[i])
			continue;
		if (suffix)
			*suffix = '\0';
		relid = relation_by_name(name);
		if (!OidIsValid(relid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation %s does not exist on this server", name)));
		/* first the table, as everybody does */
		if (get_rel_relkind(relid) == RELKIND_INDEX)
			LockRelationOid(IndexGetRelation(relid, false), AccessShareLock);
		rel = relation_open(relid, AccessExclusiveLock);
		storage_forced = i;
		RelationSetNewRelfilenode(rel, rel->rd_rel->relpersistence);
		/* nobody else tells an index */
		if (rel->rd_rel->relkind == RELKIND_INDEX)
			(void) storage_create_index(rel);
		storage_forced = -1;
		if (rel->rd_rel->relkind == RELKIND_INDEX)
			index_rebuilt(rel);
		CommandCounterIncrement();
		if (rel->rd_rel->relkind == RELKIND_MATVIEW)
			SetMatViewPopulatedState(rel, s->populated);
		relation_close(rel, NoLock);
		CommandCounterIncrement();
	}
}

/* Relations that were made, without core's helpers and what is made here for a table that this server alone has. */
static List *
made_relations(void)
{
	List *result = NIL;
	ListCell *lc;

	foreach (lc, made)
	{
		ObjectAddress *address = lfirst(lc);

		if (address->classId == RelationRelationId && get_rel_name(address->objectId) &&
			!local_is_transient(address->objectId) && !local_relation(address->objectId))
			result = lappend_oid(result, address->objectId);
	}
	return result;
}

static void
rename_made(Oid relid, const char *wanted)
{
	List *names = stringToQualifiedNameList(wanted);
	char kind = get_rel_relkind(relid);

	RenameRelationInternal(relid, strVal(llast(names)), false,
						   kind == RELKIND_INDEX || kind == RELKIND_PARTITIONED_INDEX);
	CommandCounterIncrement();
}

/*
 * Names that core chose may differ where a server has objects of its own: what has no counterpart by name is matched in order,
 * and renamed.
 */
static void
fix_names(const S3am__DdlStatement *s)
{
	List *relations = made_relations(), *rest = NIL;
	bool *used = palloc0(sizeof(bool) * Max(s->n_created, 1));
	size_t next = 0;
	ListCell *lc;

	foreach (lc, relations)
	{
		Oid relid = lfirst_oid(lc);
		char *name = qualified_name(relid);
		size_t i = 0;

		while (i < s->n_created && (used[i] || strcmp(s->created[i], name) != 0))
			i++;
		if (i < s->n_created)
			used[i] = true;
		else
			rest = lappend_oid(rest, relid);
		if (populate && get_rel_relkind(relid) == RELKIND_MATVIEW)
		{
			Relation rel = table_open(relid, AccessExclusiveLock);

			SetMatViewPopulatedState(rel, true);
			table_close(rel, NoLock);
			CommandCounterIncrement();
		}
	}
	if (s->deparsed)
		return;
	foreach (lc, rest)
	{
		while (next < s->n_created && used[next])
			next++;
		if (next == s->n_created)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("replaying a schema change made relation %s, which its origin did not make",
								   qualified_name(lfirst_oid(lc)))));
		rename_made(lfirst_oid(lc), s->created[next++]);
	}
	while (next < s->n_created && used[next])
		next++;
	if (next < s->n_created)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("replaying a schema change did not make relation %s", s->created[next])));
}

static void
take_results(const S3am__DdlStatement *s)
{
	fix_names(s);
	for (size_t i = 0; i < s->n_sequences; i++)
	{
		Oid relid = relation_by_name(s->sequences[i]->name);

		if (OidIsValid(relid))
			(void) sequence_add(relid, s->sequences[i]->id);
	}
	adopt_storages(s);
	for (size_t i = 0; i < s->n_missing; i++)
	{
		Oid relid = relation_by_name(s->missing[i]->table);

		if (OidIsValid(relid))
			replay_missing_value(relid, s->missing[i]);
	}
	if (s->n_missing)
		CommandCounterIncrement();
}

/* ------------------------------------------------------------------------------------ one statement */

static void
begin_attempt(const S3am__DdlStatement *s)
{
	current = s;
	storage_forced = -1;
	memset(storage_used, 0, sizeof(bool) * s->n_storages);
	made = NIL;
	populate = false;
	raised = InvalidOid;
}

/* As the role that ran it.  Where that is allowed less than at the origin it is allowed everything meanwhile. */
static void
run_as(const S3am__DdlStatement *s, Oid role, int context)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	if (superuser_arg(role))
	{
		begin_attempt(s);
		SetUserIdAndSecContext(role, context);
		run_text(s->text);
		return;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		begin_attempt(s);
		SetUserIdAndSecContext(role, context);
		run_text(s->text);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode != ERRCODE_INSUFFICIENT_PRIVILEGE)
			ReThrowError(error);
		begin_attempt(s);
		replay_set_superuser(role, true);
		SetUserIdAndSecContext(role, context);
		run_text(s->text);
		replay_set_superuser(role, false);
	}
	PG_END_TRY();
}

static void
statement_context(void *arg)
{
	const S3am__DdlStatement *s = arg;

	errcontext("replaying a schema change of another server: %s", s->text && s->text[0] ? s->text : s->tag);
}

static void
replay_one(const S3am__DdlStatement *s)
{
	int level = NewGUCNestLevel();
	int worker = ParallelWorkerNumber;
	Oid user;
	int context;
	Oid role = get_role_oid(s->role, true);
	ErrorContextCallback callback = {error_context_stack, statement_context, (void *) s};

	error_context_stack = &callback;
	GetUserIdAndSecContext(&user, &context);
	if (!OidIsValid(role))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role \"%s\" does not exist on this server", s->role),
						errhint("Create the role; this server then goes on by itself.")));
	set("search_path", s->search_path);
	for (size_t i = 0; i < s->n_settings; i++)
	{
		char *name = pstrdup(s->settings[i]);
		char *equals = strchr(name, '=');

		if (equals == NULL)
			continue;
		*equals = '\0';
		set(name, equals + 1);
	}
	set("check_function_bodies", "off");
	set("escape_string_warning", "off");
	/* the clock of the origin: defaults like 'today' and now() come out equal */
	ParallelWorkerNumber = 0;
	SetParallelStartTimestamps(s->timestamp_us, s->timestamp_us);
	ParallelWorkerNumber = worker;

	replaying = true;
	storage_used = palloc0(sizeof(bool) * Max(s->n_storages, 1));
	PG_TRY();
	{
		begin_attempt(s);
		if (s->text && s->text[0])
			run_as(s, role, context);
		SetUserIdAndSecContext(user, context);
		take_results(s);
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
	error_context_stack = callback.previous;
}

void
ddl_replay(S3am__DdlStatement **statements, int n)
{
	for (int i = 0; i < n; i++)
		replay_one(statements[i]);
}
