/*
 * capture.c: which DDL a transaction ran.
 *
 * What travels is the text of each statement as it ran, with the settings that give it meaning, seen at the level of
 * ProcessUtility: so DDL inside functions, DO blocks and multi-statement strings comes out right.  A stack of frames gives
 * object access events to the innermost statement; a statement's place in the order is that of its first event.  After the
 * statement the objects that its events named tell whether it travels, stays, or must be refused.  README.md has the rules.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_extension.h"
#include "catalog/dependency.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/tablecmds.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_type.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "ddl/capture.h"
#include "ddl/ddl.h"
#include "ddl/detach.h"
#include "ddl/local.h"
#include "ddl/replay.h"
#include "ddl/sequence.h"
#include "ddl/statement.h"
#include "index/concurrently.h"
#include "node/node.h"
#include "s3am.h"
#include "segment/codec.h"
#include "table/table.h"
#include "txn/commit.h"
#include "txn/txn.h"

static DdlFrame *top;
static List *statements;
static uint64 order;
static MemoryContext cxt;
static bool capture = true;
static bool internal;
static bool detaching; /* DROP EXTENSION s3am runs: what goes here stays elsewhere */
static int importing; /* IMPORT FOREIGN SCHEMA runs */

static ProcessUtility_hook_type prev_utility;
static object_access_hook_type prev_access;

/* What changes the meaning of a statement's text. */
static const char *const settings[] = {"default_table_access_method",
									   "default_toast_compression",
									   "standard_conforming_strings",
									   "backslash_quote",
									   "DateStyle",
									   "IntervalStyle",
									   "TimeZone",
									   "timezone_abbreviations",
									   "xmloption",
									   "transform_null_equals",
									   "array_nulls",
									   "lc_monetary",
									   "allow_system_table_mods",
									   NULL};

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
ddl_detaching(void)
{
	return detaching;
}

bool
ddl_pending(void)
{
	return statements != NIL;
}

static bool
capturing(void)
{
	return capture && !detaching && !ddl_replaying() && !creating_extension && IsUnderPostmaster &&
		   IsTransactionState() && node_current() != NULL;
}

/* ------------------------------------------------------------------------------------ events */

/* An object that counts: it is there, and is not one of core's passing helpers. */
static bool
counts(const ObjectAddress *object)
{
	Oid relid;

	relid = local_part_of(object, SnapshotSelf);
	return OidIsValid(relid) ? !local_is_transient(relid) : local_exists(object);
}

static void
note_event(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id)
{
	DdlEvent *event = palloc0(sizeof(DdlEvent));

	event->access = access;
	event->sub = sub_id;
	ObjectAddressSet(event->object, class_id, object_id);
	/* on creation and change a default is named by its table */
	if (class_id == AttrDefaultRelationId && access != OAT_DROP)
		event->object.classId = RelationRelationId;
	if (access == OAT_DROP)
	{
		bool local = local_object(&event->object, SnapshotSelf);

		if (!counts(&event->object))
			return;
		event->dropped_local = local;
		event->dropped_shared = !local;
		event->part_of = local_part_of(&event->object, SnapshotSelf);
		if (!local && sub_id == 0 && !local_object_name(&event->object, SnapshotSelf, &event->schema, &event->name))
			event->name = NULL;
	}
	top->events = lappend(top->events, event);
}

/*
 * The first name that a session looks up outside of the system's schemas: the schema is not complete before the database is
 * attached, and a name that is not there yet would be an error at once.  A superuser whose database cannot be attached comes to look
 * for the reason; what may not run then is held up when it is executed.
 */
static void
wait_before_names(Oid namespace)
{
	S3Node *node;

	if (node_waited || internal || detaching || creating_extension || MyBackendType != B_BACKEND ||
		!IsTransactionState() || RecoveryInProgress() || namespace == PG_CATALOG_NAMESPACE ||
		isAnyTempNamespace(namespace) || !node_database_bound() || namespace == get_namespace_oid("s3am", true))
		return;
	node = node_current();
	if (node && pg_atomic_read_u32(&node->phase) == NODE_FAILED && superuser())
		return;
	(void) node_wait_ready();
	node_waited = true;
}

/*
 * What another server drops with CASCADE must not take rows along that this server alone has.  Replaying stops here, and goes on
 * once somebody has moved or dropped them.
 */
static void
keep_local_rows(Oid relation, int column)
{
	char kind = ddl_relkind(relation);

	if ((kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) || !local_relation(relation))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
		 column == 0 ? errmsg("table %s of this server alone would be dropped by another server",
							  quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
														 get_rel_name(relation)))
					 : errmsg("a column of table %s of this server alone would be dropped by another server",
							  quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
														 get_rel_name(relation))),
		 errhint("Move it into another schema, alter what depends on the dropped object, or drop it; then replaying "
				 "goes on.")));
}

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	MemoryContext old;

	if (prev_access)
		prev_access(access, class_id, object_id, sub_id, arg);
	if (access == OAT_NAMESPACE_SEARCH)
	{
		wait_before_names(object_id);
		return;
	}
	if (ddl_replaying())
	{
		if (access == OAT_POST_CREATE && sub_id == 0)
			ddl_replay_created(class_id, object_id);
		else if (access == OAT_DROP && class_id == RelationRelationId)
		{
			if (!(((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL))
				keep_local_rows(object_id, sub_id);
			if (sub_id == 0)
				sequence_dropped(object_id);
		}
		return;
	}
	if (access == OAT_POST_CREATE && class_id == RelationRelationId && sub_id == 0 && top &&
		(statement_sets_access_method(top->node) || IsA(top->node, RefreshMatViewStmt)) &&
		ddl_relkind(object_id) == RELKIND_RELATION)
		table_toast_for_leaving(object_id);
	if (access == OAT_DROP && class_id == RelationRelationId && sub_id == 0 && !detaching)
		sequence_dropped(object_id);
	if (top == NULL || !capturing() || (access != OAT_POST_CREATE && access != OAT_DROP && access != OAT_POST_ALTER))
		return;
	old = MemoryContextSwitchTo(cxt);
	if (top->first == 0)
		top->first = ++order;
	note_event(access, class_id, object_id, sub_id);
	MemoryContextSwitchTo(old);
	if (access == OAT_DROP && sub_id == 0)
	{
		ObjectAddress gone = {class_id, object_id, 0};

		local_forget_earlier(&gone);
	}
}

/* ------------------------------------------------------------------------------------ storage */

/* The relation's name as replay will see it: a rewrite's transient table stands for the table. */
char *
ddl_storage_name(Relation rel)
{
	Oid relid = InvalidOid;
	int used = 0;
	const char *name = RelationGetRelationName(rel);

	if (sscanf(name, "pg_temp_%u%n", &relid, &used) == 1 && name[used] == '\0' && get_rel_name(relid))
		return psprintf("%s rewritten", qualified_name(relid));
	return quoted_name(get_namespace_name(RelationGetNamespace(rel)), name);
}

static void
fill_context(S3am__DdlStatement *m, const char *tag)
{
	int n = 0;

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
add_statement(DdlCaptured *s, uint64 at)
{
	s->sub = GetCurrentSubTransactionId();
	s->order = at ? at : ++order;
	statements = lappend(statements, s);
}

/* A relation of s3am gets storage. */
void
ddl_note_storage(Relation rel, uint64 storage)
{
	MemoryContext old;
	uint64 *id;

	if (!capturing() || top == NULL)
		return;
	old = MemoryContextSwitchTo(cxt);
	id = palloc(sizeof(uint64));
	*id = storage;
	if (statement_travels(top->node) == TRAVEL_STORAGE)
	{
		/* said at once: the statement may go on in another transaction */
		DdlCaptured *s = palloc0(sizeof(DdlCaptured));

		fill_context(&s->message, GetCommandTagName(CreateCommandTag(top->node)));
		s->message.n_storages = s->message.n_storage_names = 1;
		s->message.storages = id;
		s->message.storage_names = palloc(sizeof(char *));
		s->message.storage_names[0] = ddl_storage_name(rel);
		s->message.populated =
			!IsA(top->node, RefreshMatViewStmt) || !castNode(RefreshMatViewStmt, top->node)->skipData;
		add_statement(s, 0);
	}
	else
	{
		top->storage_names = lappend(top->storage_names, ddl_storage_name(rel));
		top->storages = lappend(top->storages, id);
	}
	MemoryContextSwitchTo(old);
}

/* ------------------------------------------------------------------------------------ what a statement did */

static const char *
describe(const ObjectAddress *object)
{
	char *description = getObjectDescription(object, true);

	return description ? description : "an object";
}

static bool
exists_before(const DdlFrame *frame, const ObjectAddress *object)
{
	char *schema, *name;

	return frame->before && local_object_name(object, frame->before, &schema, &name);
}

static void
refuse_needed(const ObjectAddress *object, const ObjectAddress *needed)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		 errmsg("%s cannot need %s, which stays on this server", describe(object), describe(needed)),
		 local_earlier(needed)
			 ? errdetail("It was there before the extension s3am, so other servers of the repository do not have it.")
			 : errdetail("Other servers of the repository do not have it."),
		 local_earlier(needed)
			 ? errhint("Create it anew, or restore a dump of this database into one that has the extension already.")
			 : errhint("Use an s3am table, or objects that do not depend on tables of other access methods.")));
}

/* Throws if something that travels now needs something local, or became local itself. */
static void
check_needs(DdlFrame *frame, DdlEvent *event, bool local)
{
	ObjectAddress needed, object = event->object;

	if (event->access == OAT_DROP)
		return;
	if (event->object.classId == ConstraintRelationId)
	{
		HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(event->object.objectId));

		if (HeapTupleIsValid(tuple))
		{
			Form_pg_constraint form = (Form_pg_constraint) GETSTRUCT(tuple);

			if (form->contype == CONSTRAINT_FOREIGN &&
				local_relation(form->conrelid) != local_relation(form->confrelid))
				ereport(
					ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("foreign key \"%s\" would join an s3am table and one that is not", NameStr(form->conname)),
					 errdetail("No other server could check it."), errhint("Let both tables be s3am tables.")));
			if (OidIsValid(form->contypid))
				ObjectAddressSet(object, TypeRelationId, form->contypid);
			ReleaseSysCache(tuple);
		}
	}
	/* a domain is what its constraints are */
	if (object.classId == TypeRelationId && event->object.classId != TypeRelationId)
	{
		DdlEvent domain = {.access = OAT_POST_ALTER, .object = object};

		check_needs(frame, &domain, local_object(&object, SnapshotSelf));
		return;
	}
	if (local)
	{
		/* a new attribute or column is told as something made, by the relation's name */
		if (exists_before(frame, &event->object) && !local_object(&event->object, frame->before))
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("%s would need an object that stays on this server", describe(&event->object)),
							errdetail("It is there on all servers of the repository."),
							errhint("Drop it and create it anew: it then stays on this server.")));
	}
	else if (event->access == OAT_POST_ALTER && event->object.classId == RelationRelationId &&
			 get_rel_relkind(event->object.objectId) == RELKIND_SEQUENCE && exists_before(frame, &event->object) &&
			 local_object(&event->object, frame->before))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("%s stays on this server, and cannot come to the repository", describe(&event->object)),
						errhint("Create another sequence for that table.")));
	else if (local_needed(&event->object, &needed))
		refuse_needed(&event->object, &needed);
}

/* Notes what kinds of objects the statement touched; throws if they do not fit together. */
static void
weigh(DdlFrame *frame, bool *any_local, bool *any_shared)
{
	ListCell *lc;

	*any_local = *any_shared = false;
	foreach (lc, frame->events)
	{
		DdlEvent *event = lfirst(lc);
		bool local;

		CHECK_FOR_INTERRUPTS();
		if (event->access == OAT_DROP)
		{
			*any_local |= event->dropped_local;
			*any_shared |= event->dropped_shared;
			continue;
		}
		if (!counts(&event->object))
			continue;
		local = local_object(&event->object, SnapshotSelf);
		if (local)
			*any_local = true;
		else
			*any_shared = true;
		if (event->object.classId == RelationRelationId || event->object.classId == InheritsRelationId)
			local_check_tree(event->object.objectId);
		check_needs(frame, event, local);
	}
}

/* Relations that the statement made, those that storages went to, sequences. */
static void
fill_results(DdlCaptured *s, DdlFrame *frame)
{
	S3am__DdlStatement *m = &s->message;
	int n = list_length(frame->events);
	ListCell *lc;

	m->created = palloc0(sizeof(char *) * Max(n, 1));
	m->sequences = palloc0(sizeof(void *) * Max(n, 1));
	foreach (lc, frame->events)
	{
		DdlEvent *event = lfirst(lc);
		Oid relid = event->object.objectId;

		if (event->access != OAT_POST_CREATE || event->object.classId != RelationRelationId || event->sub != 0 ||
			get_rel_name(relid) == NULL || local_is_transient(relid) || local_relation(relid))
			continue;
		if (!m->deparsed)
			m->created[m->n_created++] = qualified_name(relid);
		if (get_rel_relkind(relid) == RELKIND_SEQUENCE)
		{
			S3am__SequenceMade *made = palloc(sizeof(*made));

			s3am__sequence_made__init(made);
			made->name = qualified_name(relid);
			made->id = sequence_add(relid, 0);
			m->sequences[m->n_sequences++] = made;
		}
	}
	n = list_length(frame->storages);
	m->n_storages = m->n_storage_names = n;
	m->storages = palloc(sizeof(uint64) * Max(n, 1));
	m->storage_names = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		m->storages[i] = *(uint64 *) list_nth(frame->storages, i);
		m->storage_names[i] = list_nth(frame->storage_names, i);
	}
}

/* The table that CREATE TABLE AS or CREATE TABLE made. */
static Oid
made_table(DdlFrame *frame)
{
	ListCell *lc;

	foreach (lc, frame->events)
	{
		DdlEvent *event = lfirst(lc);

		if (event->access == OAT_POST_CREATE && event->object.classId == RelationRelationId && event->sub == 0 &&
			!local_is_transient(event->object.objectId) &&
			(get_rel_relkind(event->object.objectId) == RELKIND_RELATION ||
			 get_rel_relkind(event->object.objectId) == RELKIND_PARTITIONED_TABLE ||
			 get_rel_relkind(event->object.objectId) == RELKIND_MATVIEW))
			return event->object.objectId;
	}
	return InvalidOid;
}

/* DETACH PARTITION CONCURRENTLY leaves a constraint behind, which the plain form does not. */
static void
add_constraints_made(S3am__DdlStatement *m, DdlFrame *frame)
{
	ListCell *lc;

	foreach (lc, frame->events)
	{
		DdlEvent *event = lfirst(lc);

		if (event->access == OAT_POST_CREATE && event->object.classId == ConstraintRelationId)
			m->text = psprintf("%s; %s", m->text, pg_get_constraintdef_command(event->object.objectId));
	}
}

/* What SET ACCESS METHOD does to the others: the table comes, or it goes.  False: nothing. */
static bool
moved_table(DdlCaptured *s, DdlFrame *frame, Oid relid, bool was_local)
{
	bool is_local = local_relation(relid);

	if (was_local == is_local)
		return false;
	s->message.deparsed = true;
	if (is_local)
		s->message.text = psprintf("DROP TABLE %s", qualified_name(relid));
	else
	{
		sequence_table_travels(relid, &s->message);
		s->message.text = deparse_table(relid, true);
	}
	return true;
}

/* A statement that puts something into a schema that others do not know yet brings the schema along. */
static void
bring_schemas(DdlCaptured *s, const ObjectAddress *object)
{
	ListCell *lc;

	foreach (lc, local_earlier_schemas(object))
	{
		ObjectAddress schema = {NamespaceRelationId, lfirst_oid(lc), 0};

		s->message.text = psprintf("%s; %s", deparse_schema(schema.objectId), s->message.text);
		local_forget_earlier(&schema);
		CommandCounterIncrement();
	}
}

/* CLUSTER ... USING leaves a mark on the index besides, by which the next one goes, and dumps. */
static void
add_cluster_mark(DdlCaptured *s, const ClusterStmt *stmt)
{
	Oid table = stmt->indexname ? RangeVarGetRelid(stmt->relation, NoLock, true) : InvalidOid;
	Oid index;

	if (!OidIsValid(table) || get_rel_relkind(table) == RELKIND_PARTITIONED_TABLE || local_relation(table))
		return;
	index = get_relname_relid(stmt->indexname, get_rel_namespace(table));
	if (!OidIsValid(index))
		return;
	s->message.deparsed = true;
	s->message.text =
		psprintf("ALTER TABLE %s CLUSTER ON %s", qualified_name(table), quote_identifier(stmt->indexname));
	add_statement(s, 0);
}

/* The statement is over: adds it to what travels if it does. */
static void
finish_statement(DdlCaptured *s, DdlFrame *frame, Oid relation, bool relation_was_local, bool like_local,
				 bool names_local, List *left_out)
{
	Node *node = frame->node;
	S3am__DdlStatement *m = &s->message;
	bool any_local, any_shared;
	ListCell *lc;

	CommandCounterIncrement();
	if (statement_travels(node) == TRAVEL_STORAGE)
	{
		if (IsA(node, ClusterStmt))
			add_cluster_mark(s, castNode(ClusterStmt, node));
		return;
	}
	if (OidIsValid(relation) && statement_sets_access_method(node) && get_rel_name(relation) &&
		moved_table(s, frame, relation, relation_was_local))
	{
		DdlFrame only = {.storages = frame->storages, .storage_names = frame->storage_names};
		size_t n_sequences = m->n_sequences;
		S3am__SequenceMade **sequences = m->sequences;

		local_check_tree(relation);
		if (!local_relation(relation))
		{
			ObjectAddress table = {RelationRelationId, relation, 0}, needed;

			if (local_table_needs(relation, &needed))
				refuse_needed(&table, &needed);
			bring_schemas(s, &table);
		}
		fill_results(s, &only);
		m->n_sequences = n_sequences;
		m->sequences = sequences;
		names_claim(s, frame);
		add_statement(s, frame->first);
		return;
	}
	if (OidIsValid(relation) && get_rel_relkind(relation) == RELKIND_SEQUENCE &&
		local_relation(relation) != relation_was_local)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 relation_was_local
					 ? errmsg("sequence \"%s\" stays on this server, and cannot come to the repository",
							  get_rel_name(relation))
					 : errmsg("sequence \"%s\" is in the repository, and cannot leave it", get_rel_name(relation)),
				 errhint("Create another sequence.")));
	weigh(frame, &any_local, &any_shared);
	if (frame->events == NIL && frame->storages == NIL)
	{
		if (names_local || statement_may_do_nothing(node))
			return;
	}
	else if (any_local && !any_shared && frame->storages == NIL && !IsA(node, DropOwnedStmt))
		return; /* DROP OWNED may have taken privileges away besides, of which no event tells */
	if (any_local && any_shared && IsA(node, CreateSchemaStmt) && castNode(CreateSchemaStmt, node)->schemaElts)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("CREATE SCHEMA cannot make objects that stay on this server"),
						errhint("Create the schema first, and then what is in it.")));

	if (statement_table_as(node) || like_local)
	{
		Oid table = made_table(frame);

		if (!OidIsValid(table))
			return; /* IF NOT EXISTS found it */
		m->deparsed = true;
		/* EXPLAIN ANALYZE makes materialized views, too */
		m->text = get_rel_relkind(table) == RELKIND_MATVIEW ? deparse_matview(table) : deparse_table(table, like_local);
	}
	else if (IsA(node, CreateExtensionStmt) || IsA(node, AlterExtensionStmt))
	{
		m->deparsed = true;
		m->text = deparse_extensions(frame->events);
		if (m->text == NULL)
			return;
	}
	else if (IsA(node, AlterTableStmt) && frame->before == NULL)
		add_constraints_made(m, frame);
	foreach (lc, frame->events)
	{
		DdlEvent *event = lfirst(lc);

		if (event->access != OAT_DROP && counts(&event->object) && !local_object(&event->object, SnapshotSelf))
			bring_schemas(s, &event->object);
	}
	m->n_left_out = list_length(left_out);
	m->left_out = palloc(sizeof(uint32) * Max(m->n_left_out, 1));
	for (size_t i = 0; i < m->n_left_out; i++)
		m->left_out[i] = list_nth_int(left_out, i);
	fill_results(s, frame);
	capture_missing_values(s, frame);
	names_claim(s, frame);
	names_claim_named(s, node);
	add_statement(s, frame->first);
}

/* ------------------------------------------------------------------------------------ the hook */

static void
call_next(PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context, ParamListInfo params,
		  QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_utility)
		prev_utility(pstmt, query, readonly, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, readonly, context, params, env, dest, qc);
}

/* Runs a statement in which some state must hold, and ends it however that ends. */
static void
call_with(bool *flag, int *count, PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context,
		  ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (flag)
		*flag = true;
	if (count)
		(*count)++;
	PG_TRY();
	{
		call_next(pstmt, query, readonly, context, params, env, dest, qc);
	}
	PG_FINALLY();
	{
		if (flag)
			*flag = false;
		if (count)
			(*count)--;
	}
	PG_END_TRY();
}

static bool
drops_s3am(Node *node)
{
	ListCell *lc;

	if (!IsA(node, DropStmt) || castNode(DropStmt, node)->removeType != OBJECT_EXTENSION)
		return false;
	foreach (lc, castNode(DropStmt, node)->objects)
		if (strcmp(strVal(lfirst(lc)), "s3am") == 0)
			return true;
	return false;
}

/*
 * Waits until the database is attached.  False: it cannot be, since replaying fails, and this statement may help: an extension
 * that is made now is this server's own.
 */
static bool
wait_ready(Node *node)
{
	S3Node *current = node_current();

	if (current && IsA(node, CreateExtensionStmt) && pg_atomic_read_u32(&current->phase) == NODE_ATTACHING &&
		node_failure(current, NULL))
		return false;
	(void) node_wait_ready();
	return true;
}

static void
run_captured(PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node *node = pstmt->utilityStmt;
	DdlFrame frame = {.node = node};
	DdlCaptured *s;
	MemoryContext old;
	bool names_local = statement_names_local(node);
	bool like_local = statement_like_local(node);
	bool spans = statement_spans_transactions(node);
	Oid relation = statement_relation(node);
	bool relation_was_local = OidIsValid(relation) && local_relation(relation);
	List *left_out;
	int level = 0;

	if (statement_sets_access_method(node) && strcmp(statement_sets_access_method(node), "s3am") != 0 &&
		OidIsValid(relation) && !relation_was_local && !XactReadOnly && pg_class_ownercheck(relation, GetUserId()))
	{
		Relation table;

		/* what needs it is looked at when nobody else can make more of that; who may not alter it must not lock it */
		LockRelationOid(relation, AccessExclusiveLock);
		table = statement_relation(node) == relation ? try_relation_open(relation, NoLock) : NULL;
		if (table)
		{
			CheckTableNotInUse(table, "ALTER TABLE");
			local_refuse_to_leave(relation);
			/* its rows are copied to where no other server's arrive */
			if (relation_is_s3am(table) && node_current())
				commit_keeps_writers_out(storage_of(table).storage, txn_base(node_current()));
			relation_close(table, NoLock);
		}
	}
	owned_lock(node);
	old = MemoryContextSwitchTo(cxt);
	left_out = statement_left_out(node);
	s = palloc0(sizeof(DdlCaptured));
	s->base = node_current() ? txn_base(node_current()) : 0;
	fill_context(&s->message, GetCommandTagName(CreateCommandTag(node)));
	s->message.populated = true;
	s->message.text = pstmt->stmt_len > 0 ? pnstrdup(query + Max(pstmt->stmt_location, 0), pstmt->stmt_len)
										  : pstrdup(query + Max(pstmt->stmt_location, 0));
	MemoryContextSwitchTo(old);
	if (!spans)
		frame.before = RegisterSnapshot(GetLatestSnapshot());
	if (IsA(node, CreateExtensionStmt) || IsA(node, AlterExtensionStmt))
	{
		/* tables of extensions are local, on every server */
		level = NewGUCNestLevel();
		(void) set_config_option("default_table_access_method", "heap", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	}

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

	if (level)
		AtEOXact_GUC(true, level);
	if (IsTransactionState())
	{
		bool pushed = !ActiveSnapshotSet();

		if (pushed)
			PushActiveSnapshot(GetTransactionSnapshot());
		old = MemoryContextSwitchTo(cxt);
		finish_statement(s, &frame, relation, relation_was_local, like_local, names_local, left_out);
		MemoryContextSwitchTo(old);
		if (pushed)
			PopActiveSnapshot();
	}
	if (frame.before)
		UnregisterSnapshot(frame.before);
}

/* A statement's arguments. */
typedef struct Statement
{
	const char *query;
	bool readonly;
	ProcessUtilityContext context;
	ParamListInfo params;
	QueryEnvironment *env;
	DestReceiver *dest;
	QueryCompletion *qc;
} Statement;

static void utility(PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context,
					ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc);

static void
run_utility(PlannedStmt *pstmt, void *arg)
{
	const Statement *s = arg;

	utility(pstmt, s->query, s->readonly, s->context, s->params, s->env, s->dest, s->qc);
}

static void
utility(PlannedStmt *pstmt, const char *query, bool readonly, ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node *node = pstmt->utilityStmt;
	bool interesting, attached;
	Oid leaves;

	/* here and wherever it is replayed: labels keep their numbers */
	if (IsA(node, AlterEnumStmt) && ((AlterEnumStmt *) node)->oldVal == NULL && IsTransactionState())
		enum_labels_freeze(typenameTypeId(NULL, makeTypeNameFromNameList(((AlterEnumStmt *) node)->typeName)));
	if (ddl_replaying())
	{
		if (IsA(node, ReassignOwnedStmt))
			replay_reassign_owned((ReassignOwnedStmt *) node);
		else if (IsA(node, DropOwnedStmt))
			replay_drop_owned((DropOwnedStmt *) node);
		else
			call_next(ddl_replay_adjust(pstmt), query, readonly, context, params, env, dest, qc);
		return;
	}
	if (IsA(node, CopyStmt) && IsTransactionState())
		sequence_statement();
	if (capture && !creating_extension && IsTransactionState())
	{
		Statement s = {query, readonly, context, params, env, dest, qc};

		statement_refuse(node);
		if (index_concurrently(&pstmt, query, context == PROCESS_UTILITY_TOPLEVEL, run_utility, &s))
			return;
		node = pstmt->utilityStmt;
	}
	if (drops_s3am(node) && OidIsValid(get_extension_oid("s3am", true)))
	{
		call_with(&detaching, NULL, pstmt, query, readonly, context, params, env, dest, qc);
		detach_at_commit();
		return;
	}
	if (!internal && OidIsValid(leaves = detach_database(node)))
	{
		bool done = false;

		detach_leave(leaves);
		PG_TRY();
		{
			call_next(pstmt, query, readonly, context, params, env, dest, qc);
			done = IsA(node, DropdbStmt);
		}
		PG_FINALLY();
		{
			detach_left(leaves, done);
		}
		PG_END_TRY();
		return;
	}
	if (IsA(node, CreateExtensionStmt) && strcmp(castNode(CreateExtensionStmt, node)->extname, "s3am") == 0)
		attach_at_commit();
	if (IsA(node, ImportForeignSchemaStmt))
	{
		call_with(NULL, &importing, pstmt, query, readonly, context, params, env, dest, qc);
		return;
	}
	pstmt = statement_heap_for_temporary(pstmt);
	interesting =
		(context != PROCESS_UTILITY_SUBCOMMAND || (importing && query)) && statement_travels(node) != TRAVEL_NOT;
	/* the schema is not complete, and nothing can be captured, before the database is attached */
	attached = true;
	if (interesting && capture && !detaching && !creating_extension && IsTransactionState() && node_database_bound())
		attached = wait_ready(node);
	if (interesting && attached && capturing())
		run_captured(pstmt, query, readonly, context, params, env, dest, qc);
	else
		call_next(pstmt, query, readonly, context, params, env, dest, qc);
}

/* ------------------------------------------------------------------------------------ transactions */

static int
compare_order(const ListCell *a, const ListCell *b)
{
	const DdlCaptured *x = lfirst(a), *y = lfirst(b);

	return x->order < y->order ? -1 : x->order > y->order;
}

void
ddl_collect(S3am__Txn *txn)
{
	ListCell *lc;
	size_t nnames = 0, nschemas = txn->n_schemas;
	S3am__SchemaClaim **schemas;
	DdlCaptured locked = {0};
	List *claiming;

	list_sort(statements, compare_order);
	foreach (lc, statements)
		names_check_domain(lfirst(lc));
	names_claim_locked(&locked);
	claiming = lappend(list_copy(statements), &locked);
	txn->n_ddl = 0;
	txn->ddl = palloc(sizeof(void *) * Max(list_length(statements), 1));
	foreach (lc, statements)
	{
		DdlCaptured *s = lfirst(lc);

		txn->ddl[txn->n_ddl++] = &s->message;
	}
	foreach (lc, claiming)
	{
		DdlCaptured *s = lfirst(lc);

		nnames += list_length(s->names);
		nschemas += list_length(s->schemas);
	}
	txn->names = palloc(sizeof(void *) * Max(nnames, 1));
	schemas = palloc(sizeof(void *) * Max(nschemas, 1));
	memcpy(schemas, txn->schemas, sizeof(void *) * txn->n_schemas);
	txn->schemas = schemas;
	foreach (lc, claiming)
	{
		DdlCaptured *s = lfirst(lc);
		ListCell *l2;

		foreach (l2, s->names)
			txn->names[txn->n_names++] = lfirst(l2);
		foreach (l2, s->schemas)
			txn->schemas[txn->n_schemas++] = lfirst(l2);
	}
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
	ListCell *lc;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	foreach (lc, statements)
	{
		DdlCaptured *s = lfirst(lc);

		if (s->sub < my)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			statements = foreach_delete_current (statements, lc);
		else
			s->sub = parent;
	}
}

void
ddl_init(void)
{
	cxt = AllocSetContextCreate(TopMemoryContext, "s3am DDL", ALLOCSET_DEFAULT_SIZES);
	prev_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	prev_access = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	sequence_init();
}
