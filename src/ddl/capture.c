/*
 * capture.c: which DDL a transaction ran.
 *
 * What travels is the text of each statement as it ran, with the settings that give it meaning, seen at the level of
 * ProcessUtility: so DDL inside functions, DO blocks and multi-statement strings comes out right.  A stack of frames gives
 * object access events to the innermost statement; a statement's place in the order is that of its first event.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_type.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "ddl/ddl.h"
#include "ddl/local.h"
#include "ddl/replay.h"
#include "node/node.h"
#include "s3am.h"
#include "segment/codec.h"

typedef struct Statement
{
	SubTransactionId sub;
	uint64		order;
	S3am__DdlStatement message;
} Statement;

typedef struct Frame
{
	struct Frame *up;
	uint64		first;			/* order of its first event; 0 none */
	bool		local;			/* touches something local */
	bool		shared;			/* touches something that travels */
	List	   *created;		/* ObjectAddress */
	List	   *names,
			   *storages;		/* of relations that got storage: char *, uint64 * */
} Frame;

static Frame *top;
static List *statements;
static uint64 order;
static MemoryContext cxt;
static bool capture = true;
static bool internal;

static ProcessUtility_hook_type prev_utility;
static object_access_hook_type prev_access;

/* What changes the meaning of a statement's text. */
static const char *const settings[] = {
	"default_tablespace", "default_table_access_method", "default_toast_compression", "standard_conforming_strings",
	"backslash_quote", "DateStyle", "IntervalStyle", "TimeZone", "timezone_abbreviations", "xmloption",
	"transform_null_equals", "array_nulls", "lc_monetary", NULL
};

void
ddl_capture_off(void)
{
	capture = false;
	internal = true;
}

bool
ddl_is_internal(void)
{
	return internal;
}

bool
ddl_pending(void)
{
	return statements != NIL;
}

static bool
capturing(void)
{
	return capture && !ddl_replaying() && !creating_extension && IsUnderPostmaster && IsTransactionState() &&
		node_current() != NULL;
}

/* ------------------------------------------------------------------------------------ events */

static void
refuse_index(Oid indexid)
{
	Relation	index = relation_open(indexid, NoLock);
	Oid			heapid = index->rd_index->indrelid;
	Relation	heap = table_open(heapid, NoLock);
	bool		refuse = relation_is_s3am(heap);

	table_close(heap, NoLock);
	relation_close(index, NoLock);
	if (refuse)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("s3am tables cannot have indexes or keys yet"),
				 errdetail("Table \"%s\" is an s3am table.", get_rel_name(heapid)),
				 errhint("Leave the index out, or use the access method heap.")));
}

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	MemoryContext old;

	if (prev_access)
		prev_access(access, class_id, object_id, sub_id, arg);
	if (ddl_replaying())
	{
		if (access == OAT_POST_CREATE && class_id == RelationRelationId && sub_id == 0)
			ddl_replay_created(object_id);
		return;
	}
	if (access == OAT_POST_CREATE && class_id == RelationRelationId && sub_id == 0 && object_id >= FirstNormalObjectId)
	{
		char		kind = ddl_relkind(object_id);

		if (kind == RELKIND_INDEX && OidIsValid(s3am_am_oid()))
		{
			CommandCounterIncrement();
			refuse_index(object_id);
		}
	}
	if (top == NULL || !capturing() ||
		(access != OAT_POST_CREATE && access != OAT_DROP && access != OAT_POST_ALTER))
		return;
	old = MemoryContextSwitchTo(cxt);
	if (top->first == 0)
		top->first = ++order;
	if (local_object(class_id, object_id, access != OAT_DROP))
		top->local = true;
	else
		top->shared = true;
	if (access == OAT_POST_CREATE && sub_id == 0)
	{
		ObjectAddress *address = palloc(sizeof(ObjectAddress));

		ObjectAddressSet(*address, class_id, object_id);
		top->created = lappend(top->created, address);
	}
	MemoryContextSwitchTo(old);
}

/* The relation's name as replay will see it: a rewrite's transient table stands for the table. */
char *
ddl_storage_name(Relation rel)
{
	Oid			relid = InvalidOid;
	int			used = 0;
	const char *name = RelationGetRelationName(rel);

	if (sscanf(name, "pg_temp_%u%n", &relid, &used) == 1 && name[used] == '\0' && get_rel_name(relid))
		return psprintf("%s rewritten", quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
																   get_rel_name(relid)));
	return pstrdup(quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)), name));
}

static void fill_context(S3am__DdlStatement *m, const char *tag);
static void add_statement(Statement *s);

void
ddl_note_storage(Relation rel, uint64 storage)
{
	MemoryContext old;
	uint64	   *id;

	if (!capturing())
		return;
	old = MemoryContextSwitchTo(cxt);
	id = palloc(sizeof(uint64));
	*id = storage;
	if (top)
	{
		top->names = lappend(top->names, ddl_storage_name(rel));
		top->storages = lappend(top->storages, id);
	}
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------------------ statements */

/* Statements that change storage alone; their new storage travels, their text does not. */
static bool
storage_only(Node *node)
{
	return IsA(node, TruncateStmt) || IsA(node, ClusterStmt) || IsA(node, RefreshMatViewStmt) ||
		(IsA(node, VacuumStmt) && castNode(VacuumStmt, node)->is_vacuumcmd);
}

static bool
interesting(Node *node, ProcessUtilityContext context)
{
	if (context == PROCESS_UTILITY_SUBCOMMAND)
		return false;
	if (storage_only(node))
		return true;
	switch (nodeTag(node))
	{
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
		case T_AlterDatabaseSetStmt:
		case T_AlterDatabaseRefreshCollStmt:
		case T_AlterSystemStmt:
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
		case T_AlterTableSpaceOptionsStmt:
		case T_CreateRoleStmt:
		case T_AlterRoleStmt:
		case T_AlterRoleSetStmt:
		case T_DropRoleStmt:
		case T_GrantRoleStmt:
		case T_ReassignOwnedStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterSubscriptionStmt:
		case T_DropSubscriptionStmt:
		case T_CreatePublicationStmt:
		case T_AlterPublicationStmt:
		case T_CreateUserMappingStmt:
		case T_AlterUserMappingStmt:
		case T_DropUserMappingStmt:
		case T_PrepareStmt:
		case T_ExecuteStmt:
		case T_LoadStmt:
		case T_DoStmt:
		case T_CallStmt:
			return false;
		case T_ExplainStmt:
			return false;
		case T_CreateExtensionStmt:
			return strcmp(castNode(CreateExtensionStmt, node)->extname, "s3am") != 0;
		case T_AlterExtensionStmt:
			return strcmp(castNode(AlterExtensionStmt, node)->extname, "s3am") != 0;
		case T_DropStmt:
			if (castNode(DropStmt, node)->removeType == OBJECT_EXTENSION)
			{
				ListCell   *lc;

				foreach(lc, castNode(DropStmt, node)->objects)
					if (strcmp(strVal(lfirst(lc)), "s3am") == 0)
						return false;
			}
			return true;
		default:
			return GetCommandLogLevel(node) == LOGSTMT_DDL;
	}
}

/* COMMENT, GRANT and SECURITY LABEL fire no event: is what they name local? */
static bool
names_local(Node *node)
{
	ListCell   *lc;

	if (IsA(node, GrantStmt))
	{
		GrantStmt  *grant = (GrantStmt *) node;

		if (grant->objtype == OBJECT_LARGEOBJECT || grant->objtype == OBJECT_DATABASE ||
			grant->objtype == OBJECT_TABLESPACE)
			return true;
		if (grant->targtype != ACL_TARGET_OBJECT || grant->objtype != OBJECT_TABLE)
			return false;
		foreach(lc, grant->objects)
		{
			Oid			relid = RangeVarGetRelid(lfirst(lc), NoLock, true);

			if (OidIsValid(relid) && (local_relation(relid) || local_view(relid)))
				return true;
		}
	}
	else if (IsA(node, CommentStmt) || IsA(node, SecLabelStmt))
	{
		ObjectType	type = IsA(node, CommentStmt) ? ((CommentStmt *) node)->objtype : ((SecLabelStmt *) node)->objtype;
		Node	   *object = IsA(node, CommentStmt) ? ((CommentStmt *) node)->object : ((SecLabelStmt *) node)->object;
		Relation	rel = NULL;
		ObjectAddress address;
		Oid			relid;

		if (type == OBJECT_DATABASE || type == OBJECT_LARGEOBJECT || type == OBJECT_SUBSCRIPTION ||
			type == OBJECT_TABLESPACE || type == OBJECT_ROLE)
			return true;
		address = get_object_address(type, object, &rel, AccessShareLock, true);
		relid = rel ? RelationGetRelid(rel) : InvalidOid;
		if (rel)
			relation_close(rel, NoLock);
		if (OidIsValid(relid))
			return local_relation(relid) || local_view(relid);
		if (OidIsValid(address.objectId))
			return local_object(address.classId, address.objectId, false);
	}
	return false;
}

/* CREATE TABLE for what CREATE TABLE AS made: no query travels. */
static char *
deparse_table(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	StringInfoData text;
	bool		first = true;

	initStringInfo(&text);
	appendStringInfo(&text, "CREATE TABLE %s (",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
												RelationGetRelationName(rel)));
	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		appendStringInfo(&text, "%s%s %s", first ? "" : ", ", quote_identifier(NameStr(att->attname)),
						 format_type_extended(att->atttypid, att->atttypmod,
											  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
		if (OidIsValid(att->attcollation) && att->attcollation != get_typcollation(att->atttypid))
			appendStringInfo(&text, " COLLATE %s",
							 quote_qualified_identifier(get_namespace_name(PG_CATALOG_NAMESPACE),
														get_collation_name(att->attcollation)));
		first = false;
	}
	appendStringInfo(&text, ") USING %s", quote_identifier(get_am_name(rel->rd_rel->relam)));
	relation_close(rel, AccessShareLock);
	return text.data;
}

static void
fill_context(S3am__DdlStatement *m, const char *tag)
{
	int			n = 0;

	s3am__ddl_statement__init(m);
	m->tag = pstrdup(tag);
	m->search_path = pstrdup(namespace_search_path);
	m->role = pstrdup(GetUserNameFromId(GetUserId(), false));
	m->timestamp_us = GetCurrentTransactionStartTimestamp();
	m->settings = palloc0(sizeof(settings));
	for (int i = 0; settings[i]; i++)
	{
		const char *value = GetConfigOption(settings[i], true, false);

		if (value)
			m->settings[n++] = psprintf("%s=%s", settings[i], value);
	}
	m->n_settings = n;
}

static void
add_statement(Statement *s)
{
	s->sub = GetCurrentSubTransactionId();
	statements = lappend(statements, s);
}

static void
fill_results(Statement *s, Frame *frame, bool as_table)
{
	S3am__DdlStatement *m = &s->message;
	ListCell   *lc;

	m->created = palloc0(sizeof(char *) * Max(list_length(frame->created), 1));
	foreach(lc, frame->created)
	{
		ObjectAddress *address = lfirst(lc);
		char	   *name;
		char		kind;

		if (address->classId != RelationRelationId)
			continue;
		name = get_rel_name(address->objectId);
		if (name == NULL)
			continue;
		kind = get_rel_relkind(address->objectId);
		if (as_table && kind == RELKIND_RELATION)
		{
			m->text = deparse_table(address->objectId);
			as_table = false;
		}
		if (kind == RELKIND_TOASTVALUE || strncmp(name, "pg_temp_", 8) == 0 ||
			get_rel_namespace(address->objectId) == PG_TOAST_NAMESPACE)
			continue;
		m->created[m->n_created++] =
			psprintf("%s.%s", get_namespace_name(get_rel_namespace(address->objectId)), name);
	}
	m->n_storages = m->n_storage_names = list_length(frame->storages);
	m->storages = palloc(sizeof(uint64) * Max(m->n_storages, 1));
	m->storage_names = palloc(sizeof(char *) * Max(m->n_storages, 1));
	for (size_t i = 0; i < m->n_storages; i++)
	{
		m->storages[i] = *(uint64 *) list_nth(frame->storages, i);
		m->storage_names[i] = list_nth(frame->names, i);
	}
}

static void
call_next(PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context, ParamListInfo params,
		  QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_utility)
		prev_utility(pstmt, query, readonly, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, readonly, context, params, env, dest, qc);
}

/* Temporary and unlogged tables whose access method is only the default are heap tables. */
static PlannedStmt *
heap_for_temporary(PlannedStmt *pstmt)
{
	Node	   *node = pstmt->utilityStmt;

	if (strcmp(default_table_access_method, "s3am") != 0)
		return pstmt;
	if (IsA(node, CreateStmt))
	{
		CreateStmt *create = (CreateStmt *) node;

		if (create->accessMethod || create->partspec || create->relation->relpersistence == RELPERSISTENCE_PERMANENT)
			return pstmt;
		pstmt = copyObject(pstmt);
		((CreateStmt *) pstmt->utilityStmt)->accessMethod = "heap";
	}
	else if (IsA(node, CreateTableAsStmt))
	{
		IntoClause *into = ((CreateTableAsStmt *) node)->into;

		if (into->accessMethod || into->rel->relpersistence == RELPERSISTENCE_PERMANENT)
			return pstmt;
		pstmt = copyObject(pstmt);
		((CreateTableAsStmt *) pstmt->utilityStmt)->into->accessMethod = "heap";
	}
	return pstmt;
}

static void
utility(PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *node = pstmt->utilityStmt;
	Frame		frame = {0};
	Statement  *s;
	MemoryContext old;
	bool		local,
				as_table;
	ListCell   *lc;

	/* here and wherever it is replayed: labels keep their numbers */
	if (IsA(node, AlterEnumStmt) && ((AlterEnumStmt *) node)->oldVal == NULL && IsTransactionState())
	{
		Oid			type = typenameTypeId(NULL, makeTypeNameFromNameList(((AlterEnumStmt *) node)->typeName));

		enum_labels_freeze(type);
	}
	if (ddl_replaying())
	{
		call_next(ddl_replay_adjust(pstmt), query, readonly, context, params, env, dest, qc);
		return;
	}
	pstmt = heap_for_temporary(pstmt);
	/* the schema is not complete, and nothing can be captured, before the database is attached */
	if (capture && !creating_extension && IsTransactionState() && interesting(node, context) && node_database_bound())
		(void) node_wait_ready();
	if (!interesting(node, context) || !capturing())
	{
		call_next(pstmt, query, readonly, context, params, env, dest, qc);
		return;
	}
	local = names_local(node);
	as_table = IsA(node, CreateTableAsStmt) && ((CreateTableAsStmt *) node)->objtype == OBJECT_TABLE;
	old = MemoryContextSwitchTo(cxt);
	s = palloc0(sizeof(Statement));
	fill_context(&s->message, storage_only(node) ? "STORAGE" : GetCommandTagName(CreateCommandTag(node)));
	if (!storage_only(node))
		s->message.text = pstmt->stmt_len > 0 ? pnstrdup(query + Max(pstmt->stmt_location, 0), pstmt->stmt_len)
			: pstrdup(query + Max(pstmt->stmt_location, 0));
	MemoryContextSwitchTo(old);

	frame.up = top;
	top = &frame;
	PG_TRY();
	{
		call_next(pstmt, query, readonly, context, params, env, dest, qc);
	}
	PG_FINALLY();
	{
		top = frame.up;
	}
	PG_END_TRY();

	if (!IsTransactionState())
		return;					/* it ended the transaction: VACUUM */
	CommandCounterIncrement();
	old = MemoryContextSwitchTo(cxt);
	foreach(lc, frame.created)
	{
		ObjectAddress *address = lfirst(lc);

		if (!local && local_by_dependency(address->classId, address->objectId))
			local = true;
	}
	if (storage_only(node))
	{
		if (frame.storages != NIL)
		{
			fill_results(s, &frame, false);
			s->order = frame.first ? frame.first : ++order;
			add_statement(s);
		}
	}
	else if (local || (frame.local && frame.storages == NIL))
		;						/* stays here */
	else if (as_table && frame.created == NIL)
		;						/* IF NOT EXISTS found it */
	else
	{
		fill_results(s, &frame, as_table);
		s->order = frame.first ? frame.first : ++order;
		add_statement(s);
	}
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------------------ transactions */

static int
compare_order(const ListCell *a, const ListCell *b)
{
	const Statement *x = lfirst(a),
			   *y = lfirst(b);

	return x->order < y->order ? -1 : x->order > y->order;
}

int
ddl_collect(S3am__DdlStatement ***result)
{
	ListCell   *lc;
	int			n = 0;

	list_sort(statements, compare_order);
	*result = palloc(sizeof(void *) * Max(list_length(statements), 1));
	foreach(lc, statements)
		(*result)[n++] = &((Statement *) lfirst(lc))->message;
	return n;
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		statements = NIL;
		/* a frame may outlive its transaction: CALL, VACUUM */
		if (top == NULL)
			MemoryContextReset(cxt);
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
	ListCell   *lc;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	foreach(lc, statements)
	{
		Statement  *s = lfirst(lc);

		if (s->sub < my)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			statements = foreach_delete_current(statements, lc);
		else
			s->sub = parent;
	}
}

void
ddl_init(void)
{
	cxt = AllocSetContextCreate(TopMemoryContext, "s3am DDL", ALLOCSET_DEFAULT_SIZES);
	prev_utility = ProcessUtility_hook ? ProcessUtility_hook : NULL;
	ProcessUtility_hook = utility;
	prev_access = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
