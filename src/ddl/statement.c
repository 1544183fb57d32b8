/*
 * statement.c: which statements travel, and how; what is refused before it runs.
 *
 * Databases, roles, tablespaces, subscriptions, publications, large objects and user mappings belong to each server.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "parser/parse_type.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "ddl/local.h"
#include "ddl/statement.h"
#include "node/node.h"
#include "s3am.h"

static bool
is_s3am(List *names)
{
	ListCell *lc;

	foreach (lc, names)
		if (IsA(lfirst(lc), String) && strcmp(strVal(lfirst(lc)), "s3am") == 0)
			return true;
	return false;
}

CreateTableAsStmt *
statement_table_as(Node *node)
{
	if (IsA(node, CreateTableAsStmt))
		return castNode(CreateTableAsStmt, node)->objtype == OBJECT_TABLE ? (CreateTableAsStmt *) node : NULL;
	if (IsA(node, ExplainStmt))
	{
		Node *query = castNode(ExplainStmt, node)->query;

		if (query && IsA(query, Query) && castNode(Query, query)->utilityStmt)
			return IsA(castNode(Query, query)->utilityStmt, CreateTableAsStmt)
					   ? (CreateTableAsStmt *) castNode(Query, query)->utilityStmt
					   : NULL;
	}
	return NULL;
}

Travel
statement_travels(Node *node)
{
	switch (nodeTag(node))
	{
		case T_TruncateStmt:
		case T_ClusterStmt:
		case T_ReindexStmt:
		case T_RefreshMatViewStmt:
			return TRAVEL_STORAGE;
		case T_VacuumStmt:
			return castNode(VacuumStmt, node)->is_vacuumcmd ? TRAVEL_STORAGE : TRAVEL_NOT;
		case T_ExplainStmt:
			return statement_table_as(node) ? TRAVEL_TEXT : TRAVEL_NOT;
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
		case T_AlterDatabaseSetStmt:
		case T_AlterDatabaseRefreshCollStmt:
		case T_AlterSystemStmt:
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
		case T_AlterTableSpaceOptionsStmt:
		case T_AlterTableMoveAllStmt:
		case T_CreateRoleStmt:
		case T_AlterRoleStmt:
		case T_AlterRoleSetStmt:
		case T_DropRoleStmt:
		case T_GrantRoleStmt:
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
		case T_ImportForeignSchemaStmt: /* the statements that it runs travel */
			return TRAVEL_NOT;
		case T_CreateExtensionStmt:
			return strcmp(castNode(CreateExtensionStmt, node)->extname, "s3am") == 0 ? TRAVEL_NOT : TRAVEL_TEXT;
		case T_AlterExtensionStmt:
			return strcmp(castNode(AlterExtensionStmt, node)->extname, "s3am") == 0 ? TRAVEL_NOT : TRAVEL_TEXT;
		case T_AlterExtensionContentsStmt:
			return strcmp(castNode(AlterExtensionContentsStmt, node)->extname, "s3am") == 0 ? TRAVEL_NOT : TRAVEL_TEXT;
		case T_RenameStmt:
			switch (castNode(RenameStmt, node)->renameType)
			{
				case OBJECT_DATABASE:
				case OBJECT_ROLE:
				case OBJECT_TABLESPACE:
				case OBJECT_SUBSCRIPTION:
				case OBJECT_PUBLICATION:
					return TRAVEL_NOT;
				default:
					return TRAVEL_TEXT;
			}
		case T_AlterOwnerStmt:
			switch (castNode(AlterOwnerStmt, node)->objectType)
			{
				case OBJECT_DATABASE:
				case OBJECT_TABLESPACE:
				case OBJECT_SUBSCRIPTION:
				case OBJECT_PUBLICATION:
				case OBJECT_LARGEOBJECT:
					return TRAVEL_NOT;
				default:
					return TRAVEL_TEXT;
			}
		case T_DropStmt:
			switch (castNode(DropStmt, node)->removeType)
			{
				case OBJECT_PUBLICATION:
					return TRAVEL_NOT;
				case OBJECT_EXTENSION:
					return is_s3am(castNode(DropStmt, node)->objects) ? TRAVEL_NOT : TRAVEL_TEXT;
				default:
					return TRAVEL_TEXT;
			}
		default:
			return GetCommandLogLevel(node) == LOGSTMT_DDL ? TRAVEL_TEXT : TRAVEL_NOT;
	}
}

bool
statement_spans_transactions(Node *node)
{
	ListCell *lc;

	switch (nodeTag(node))
	{
		case T_VacuumStmt:
		case T_ClusterStmt:
		case T_ReindexStmt:
			return true;
		case T_IndexStmt:
			return castNode(IndexStmt, node)->concurrent;
		case T_DropStmt:
			return castNode(DropStmt, node)->concurrent;
		case T_AlterTableStmt:
			foreach (lc, castNode(AlterTableStmt, node)->cmds)
			{
				AlterTableCmd *cmd = lfirst(lc);

				if (cmd->subtype == AT_DetachPartition && castNode(PartitionCmd, cmd->def)->concurrent)
					return true;
			}
			return false;
		default:
			return false;
	}
}

bool
statement_like_local(Node *node)
{
	ListCell *lc;

	if (!IsA(node, CreateStmt))
		return false;
	foreach (lc, castNode(CreateStmt, node)->tableElts)
		if (IsA(lfirst(lc), TableLikeClause))
		{
			Oid relid = RangeVarGetRelid(castNode(TableLikeClause, lfirst(lc))->relation, NoLock, true);

			if (OidIsValid(relid) && local_relation(relid))
				return true;
		}
	return false;
}

const char *
statement_sets_access_method(Node *node)
{
	ListCell *lc;

	if (!IsA(node, AlterTableStmt))
		return NULL;
	foreach (lc, castNode(AlterTableStmt, node)->cmds)
		if (castNode(AlterTableCmd, lfirst(lc))->subtype == AT_SetAccessMethod)
			return castNode(AlterTableCmd, lfirst(lc))->name;
	return NULL;
}

Oid
statement_relation(Node *node)
{
	RangeVar *relation = NULL;

	switch (nodeTag(node))
	{
		case T_AlterTableStmt:
			relation = castNode(AlterTableStmt, node)->relation;
			break;
		case T_RenameStmt:
			relation = castNode(RenameStmt, node)->relation;
			break;
		case T_AlterObjectSchemaStmt:
			relation = castNode(AlterObjectSchemaStmt, node)->relation;
			break;
		case T_AlterSeqStmt:
			relation = castNode(AlterSeqStmt, node)->sequence;
			break;
		case T_RuleStmt:
			relation = castNode(RuleStmt, node)->relation;
			break;
		case T_CreateTrigStmt:
			relation = castNode(CreateTrigStmt, node)->relation;
			break;
		case T_CreatePolicyStmt:
			relation = castNode(CreatePolicyStmt, node)->table;
			break;
		case T_AlterPolicyStmt:
			relation = castNode(AlterPolicyStmt, node)->table;
			break;
		case T_IndexStmt:
			relation = castNode(IndexStmt, node)->relation;
			break;
		default:
			break;
	}
	/* a composite type stands there as a relation, too; a schema may not exist */
	return relation ? RangeVarGetRelid(relation, NoLock, true) : InvalidOid;
}

bool
statement_may_do_nothing(Node *node)
{
	switch (nodeTag(node))
	{
		case T_CreateStmt:
		case T_CreateForeignTableStmt:
		case T_CreateTableAsStmt:
		case T_ExplainStmt:
		case T_CreateSeqStmt:
		case T_CreateSchemaStmt:
		case T_CreateExtensionStmt:
		case T_CreateForeignServerStmt:
		case T_CreateStatsStmt:
		case T_DefineStmt:
		case T_IndexStmt:
		case T_DropStmt:
		case T_ViewStmt:
			return true;
		case T_AlterTableStmt:
			return !OidIsValid(statement_relation(node));
		case T_RenameStmt:
			return castNode(RenameStmt, node)->missing_ok && castNode(RenameStmt, node)->relation &&
				   !OidIsValid(statement_relation(node));
		default:
			return false;
	}
}

/* ------------------------------------------------------------------------------------ what a statement names */

static bool
address_is_local(Oid class_id, Oid object_id)
{
	ObjectAddress address = {class_id, object_id, 0};

	return OidIsValid(object_id) && local_object(&address, SnapshotSelf);
}

static bool
grant_object_is_local(GrantStmt *grant, Node *object)
{
	switch (grant->objtype)
	{
		case OBJECT_TABLE:
		case OBJECT_SEQUENCE:
		case OBJECT_COLUMN:
			return address_is_local(RelationRelationId, RangeVarGetRelid((RangeVar *) object, NoLock, true));
		case OBJECT_FUNCTION:
		case OBJECT_PROCEDURE:
		case OBJECT_ROUTINE:
			return address_is_local(ProcedureRelationId,
									LookupFuncWithArgs(grant->objtype, (ObjectWithArgs *) object, true));
		case OBJECT_TYPE:
		case OBJECT_DOMAIN:
		{
			Type type = LookupTypeName(NULL, makeTypeNameFromNameList((List *) object), NULL, true);
			Oid oid = type ? typeTypeId(type) : InvalidOid;

			if (type)
				ReleaseSysCache(type);
			return address_is_local(TypeRelationId, oid);
		}
		case OBJECT_SCHEMA:
		case OBJECT_LANGUAGE:
		case OBJECT_FDW:
		case OBJECT_FOREIGN_SERVER:
		{
			Relation rel = NULL;
			ObjectAddress address = get_object_address(grant->objtype, object, &rel, AccessShareLock, true);

			return address_is_local(address.classId, address.objectId);
		}
		default:
			return false;
	}
}

static bool
drop_object_is_local(DropStmt *drop, Node *object)
{
	Relation rel = NULL;
	ObjectAddress address;

	switch (drop->removeType)
	{
		case OBJECT_TABLE:
		case OBJECT_SEQUENCE:
		case OBJECT_VIEW:
		case OBJECT_MATVIEW:
		case OBJECT_INDEX:
		case OBJECT_FOREIGN_TABLE:
			return address_is_local(RelationRelationId,
									RangeVarGetRelid(makeRangeVarFromNameList((List *) object), NoLock, true));
		case OBJECT_EXTENSION:
			return false;
		default:
			address = get_object_address(drop->removeType, object, &rel, AccessShareLock, true);
			if (rel)
				relation_close(rel, NoLock);
			return OidIsValid(address.objectId) && local_object(&address, SnapshotSelf);
	}
}

List *
statement_left_out(Node *node)
{
	List *objects = NIL, *result = NIL;
	ListCell *lc;

	if (IsA(node, DropStmt))
		objects = castNode(DropStmt, node)->objects;
	else if (IsA(node, GrantStmt) && castNode(GrantStmt, node)->targtype == ACL_TARGET_OBJECT)
		objects = castNode(GrantStmt, node)->objects;
	if (list_length(objects) < 2)
		return NIL;
	foreach (lc, objects)
		if (IsA(node, DropStmt) ? drop_object_is_local((DropStmt *) node, lfirst(lc))
								: grant_object_is_local((GrantStmt *) node, lfirst(lc)))
			result = lappend_int(result, foreach_current_index(lc));
	return result;
}

bool
statement_names_local(Node *node)
{
	ListCell *lc;

	if (IsA(node, GrantStmt))
	{
		GrantStmt *grant = (GrantStmt *) node;

		if (grant->objtype == OBJECT_LARGEOBJECT || grant->objtype == OBJECT_DATABASE ||
			grant->objtype == OBJECT_TABLESPACE || grant->objtype == OBJECT_PARAMETER_ACL)
			return true;
		if (grant->targtype == ACL_TARGET_ALL_IN_SCHEMA)
		{
			/* nothing that travels is in a schema that the others do not know */
			foreach (lc, grant->objects)
				if (!address_is_local(NamespaceRelationId, get_namespace_oid(strVal(lfirst(lc)), true)))
					return false;
			return true;
		}
		if (grant->targtype != ACL_TARGET_OBJECT)
			return false;
		foreach (lc, grant->objects)
			if (!grant_object_is_local(grant, lfirst(lc)))
				return false;
		return true;
	}
	if (IsA(node, CommentStmt) || IsA(node, SecLabelStmt))
	{
		ObjectType type = IsA(node, CommentStmt) ? ((CommentStmt *) node)->objtype : ((SecLabelStmt *) node)->objtype;
		Node *object = IsA(node, CommentStmt) ? ((CommentStmt *) node)->object : ((SecLabelStmt *) node)->object;
		Relation rel = NULL;
		ObjectAddress address;

		if (type == OBJECT_DATABASE || type == OBJECT_LARGEOBJECT || type == OBJECT_SUBSCRIPTION ||
			type == OBJECT_PUBLICATION || type == OBJECT_TABLESPACE || type == OBJECT_ROLE)
			return true;
		if (type == OBJECT_EXTENSION && strcmp(strVal(object), "s3am") == 0)
			return true;
		address = get_object_address(type, object, &rel, AccessShareLock, true);
		if (rel)
			relation_close(rel, NoLock);
		return OidIsValid(address.objectId) && local_object(&address, SnapshotSelf);
	}
	if (IsA(node, AlterTableStmt) || IsA(node, RenameStmt))
		return address_is_local(RelationRelationId, statement_relation(node));
	return false;
}

/* ------------------------------------------------------------------------------------ refusals */

/* Is another database of this server bound to a repository? */
static bool
database_is_bound(Oid database)
{
	Relation settings;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;
	bool result = false;

	if (node_of_database(database) && node_of_database(database)->url[0])
		return true;
	settings = table_open(DbRoleSettingRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	ScanKeyInit(&key[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(InvalidOid));
	scan = systable_beginscan(settings, DbRoleSettingDatidRolidIndexId, true, NULL, 2, key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool isnull;
		Datum value = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig, RelationGetDescr(settings), &isnull);
		Datum *elements;
		int n;

		if (isnull)
			continue;
		deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
		for (int i = 0; i < n; i++)
			if (strncmp(TextDatumGetCString(elements[i]), "s3am.repository=", strlen("s3am.repository=")) == 0)
				result = true;
	}
	systable_endscan(scan);
	table_close(settings, AccessShareLock);
	return result;
}

static void
refuse_template(CreatedbStmt *create)
{
	const char *template = "template1";
	ListCell *lc;
	Oid oid;

	foreach (lc, create->options)
	{
		DefElem *option = lfirst(lc);

		if (strcmp(option->defname, "template") == 0 && option->arg)
			template = defGetString(option);
	}
	oid = get_database_oid(template, true);
	if (OidIsValid(oid) && database_is_bound(oid))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("database \"%s\" cannot be a template: it is bound to a repository", template),
						errdetail("The copy would take its place there."),
						errhint("Create an empty database, and give it a repository of its own.")));
}

static void
refuse_published(List *objects, bool all_tables, const char *publication)
{
	ListCell *lc;
	bool some = all_tables;

	foreach (lc, objects)
	{
		PublicationObjSpec *spec = lfirst(lc);
		Oid relid;

		if (spec->pubobjtype != PUBLICATIONOBJ_TABLE)
		{
			some = true;
			continue;
		}
		relid = RangeVarGetRelid(spec->pubtable->relation, NoLock, true);
		if (OidIsValid(relid) && !local_relation(relid))
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("table \"%s\" cannot be published: it is an s3am table", get_rel_name(relid)),
							errdetail("Its changes are not in this server's write-ahead log."),
							errhint("Attach the other server to the repository instead.")));
	}
	if (some)
		ereport(WARNING, (errmsg("publication \"%s\" does not publish s3am tables", publication),
						  errdetail("Their changes are not in this server's write-ahead log.")));
}

/* Such a rule turns a table into a view if that has no rows, which no other server could be asked. */
static void
refuse_view(RuleStmt *rule)
{
	Oid relid = rule->event == CMD_SELECT ? statement_relation((Node *) rule) : InvalidOid;

	if (OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_RELATION && !local_relation(relid))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("s3am table \"%s\" cannot become a view", get_rel_name(relid)),
						errhint("Drop the table and use CREATE VIEW.")));
}

void
statement_refuse(Node *node)
{
	switch (nodeTag(node))
	{
		case T_CreatedbStmt:
			refuse_template((CreatedbStmt *) node);
			break;
		case T_CreatePublicationStmt:
			if (OidIsValid(s3am_am_oid()))
				refuse_published(castNode(CreatePublicationStmt, node)->pubobjects,
								 castNode(CreatePublicationStmt, node)->for_all_tables,
								 castNode(CreatePublicationStmt, node)->pubname);
			break;
		case T_AlterPublicationStmt:
			if (OidIsValid(s3am_am_oid()) && castNode(AlterPublicationStmt, node)->action != AP_DropObjects)
				refuse_published(castNode(AlterPublicationStmt, node)->pubobjects, false,
								 castNode(AlterPublicationStmt, node)->pubname);
			break;
		case T_RuleStmt:
			if (OidIsValid(s3am_am_oid()))
				refuse_view((RuleStmt *) node);
			break;
		case T_DropStmt:
			if (castNode(DropStmt, node)->removeType == OBJECT_SCHEMA && OidIsValid(get_extension_oid("s3am", true)) &&
				is_s3am(castNode(DropStmt, node)->objects))
				ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
								errmsg("schema s3am belongs to extension s3am"),
								errhint("DROP EXTENSION s3am detaches the database from its repository.")));
			break;
		default:
			break;
	}
}

static bool
is_temporary(RangeVar *relation)
{
	return relation->relpersistence != RELPERSISTENCE_PERMANENT ||
		   (relation->schemaname && strcmp(relation->schemaname, "pg_temp") == 0);
}

PlannedStmt *
statement_heap_for_temporary(PlannedStmt *pstmt)
{
	Node *node = pstmt->utilityStmt;

	if (strcmp(default_table_access_method, "s3am") != 0)
		return pstmt;
	if (IsA(node, CreateStmt))
	{
		CreateStmt *create = (CreateStmt *) node;

		if (create->accessMethod || create->partspec || !is_temporary(create->relation))
			return pstmt;
		pstmt = copyObject(pstmt);
		((CreateStmt *) pstmt->utilityStmt)->accessMethod = "heap";
	}
	else if (IsA(node, CreateTableAsStmt))
	{
		IntoClause *into = ((CreateTableAsStmt *) node)->into;

		if (into->accessMethod || !is_temporary(into->rel))
			return pstmt;
		pstmt = copyObject(pstmt);
		((CreateTableAsStmt *) pstmt->utilityStmt)->into->accessMethod = "heap";
	}
	return pstmt;
}
