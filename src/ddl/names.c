/*
 * names.c: what DDL claims, so that DDL and DML of different servers cannot miss each other (rule 20).
 *
 * A table of s3am is claimed by its id, as strongly as the statement locked it: SHARE and stronger locks claim UPDATE, weaker
 * ones NO KEY UPDATE, which lets writers pass.  All other objects are claimed by name: UPDATE by who makes, changes or drops
 * one (under its old name and under its new one), KEY SHARE by who needs it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/relation.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_attrdef.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "ddl/capture.h"
#include "ddl/local.h"
#include "ddl/replay.h"
#include "ddl/statement.h"
#include "s3am.h"
#include "txn/commit.h"
#include "txn/locked.h"
#include "txn/txn.h"

static void
append_quoted(StringInfo text, const char *name)
{
	appendStringInfoChar(text, '"');
	for (; *name; name++)
	{
		if (*name == '"')
			appendStringInfoChar(text, '"');
		appendStringInfoChar(text, *name);
	}
	appendStringInfoChar(text, '"');
}

/* Always in quotes: whether quote_identifier() wants them depends on a setting. */
char *
quoted_name(const char *schema, const char *name)
{
	StringInfoData text;

	initStringInfo(&text);
	append_quoted(&text, schema);
	appendStringInfoChar(&text, '.');
	append_quoted(&text, name);
	return text.data;
}

char *
qualified_name(Oid relid)
{
	return quoted_name(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

static void
claim_name(DdlCaptured *s, const char *catalog, const char *schema, const char *name, S3am__Mode mode, bool shared)
{
	S3am__NameClaim *claim;
	ListCell *lc;

	foreach (lc, s->names)
	{
		claim = lfirst(lc);
		if (strcmp(claim->name, name) == 0 && strcmp(claim->schema, schema) == 0 &&
			strcmp(claim->catalog, catalog) == 0)
		{
			/* what two statements of one claim have in common */
			claim->shared = mode > claim->mode ? shared : mode == claim->mode ? claim->shared && shared : claim->shared;
			claim->mode = Max(mode, claim->mode);
			return;
		}
	}
	claim = palloc(sizeof(*claim));
	s3am__name_claim__init(claim);
	claim->catalog = pstrdup(catalog);
	claim->schema = pstrdup(schema);
	claim->name = pstrdup(name);
	claim->mode = mode;
	claim->shared = shared;
	s->names = lappend(s->names, claim);
}

static void
claim_table(DdlCaptured *s, uint64 table, S3am__Mode mode, bool shared)
{
	S3am__SchemaClaim *claim;
	ListCell *lc;

	foreach (lc, s->schemas)
	{
		claim = lfirst(lc);
		if (claim->table == table)
		{
			/* what two statements of one claim have in common */
			claim->shared = mode > claim->mode ? shared : mode == claim->mode ? claim->shared && shared : claim->shared;
			claim->mode = Max(mode, claim->mode);
			return;
		}
	}
	claim = palloc(sizeof(*claim));
	s3am__schema_claim__init(claim);
	claim->table = table;
	claim->mode = mode;
	claim->shared = shared;
	s->schemas = lappend(s->schemas, claim);
}

/* Types and relations share names: a table has a type of its name. */
static const char *
catalog_name(Oid class_id)
{
	return get_rel_name(class_id);
}

/* Does it hold the lock that who builds an index takes, and no stronger one?  It goes together with its like. */
static bool
only_keeps_writers_out(Oid relid)
{
	return locked_at_least(relid, ShareLock) && !locked_at_least(relid, ShareRowExclusiveLock);
}

static void
claim_object_as(DdlCaptured *s, const ObjectAddress *object, Snapshot snapshot, S3am__Mode mode, bool shared)
{
	char *schema, *name;

	if (local_object_name(object, snapshot, &schema, &name))
		claim_name(s, catalog_name(object->classId), schema, name, mode, shared);
}

static void
claim_object(DdlCaptured *s, const ObjectAddress *object, Snapshot snapshot, S3am__Mode mode)
{
	claim_object_as(s, object, snapshot, mode,
					object->classId == RelationRelationId && only_keeps_writers_out(object->objectId));
}

/* What the statement looked at while it held writers off is all that there is; a storage that it made itself is nobody else's. */
static void
keep_writers_out(DdlCaptured *s, Relation rel)
{
	if (s->base && !commit_storage_is_new(storage_of(rel).storage))
		commit_keeps_writers_out(storage_of(rel).storage, s->base);
}

/*
 * A relation that exists: by id if it has one, else by name.  aside: for what was done to an index of it, or to what needs it to be there, and not to
 * its rows.
 */
static void
claim_relation_as(DdlCaptured *s, Oid relid, S3am__Mode mode, bool aside)
{
	Relation rel = try_relation_open(relid, NoLock);
	/* who builds an index need not mind; indexes of one table may be made, and attached, at once: each has its own name */
	bool shared = aside ? !locked_at_least(relid, ShareRowExclusiveLock) : only_keeps_writers_out(relid);

	if (rel == NULL)
		return;
	if ((rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_MATVIEW) && relation_is_s3am(rel))
	{
		if (mode == S3AM__MODE__UPDATE && !CheckRelationLockedByMe(rel, ShareLock, true))
			mode = S3AM__MODE__NO_KEY_UPDATE;
		if (mode == S3AM__MODE__UPDATE)
			keep_writers_out(s, rel);
		claim_table(s, storage_of(rel).table, mode, shared);
	}
	else
	{
		ObjectAddress address = {RelationRelationId, relid, 0};

		claim_object_as(s, &address, SnapshotSelf, mode, shared);
	}
	relation_close(rel, NoLock);
}

static void
claim_relation(DdlCaptured *s, Oid relid, S3am__Mode mode)
{
	claim_relation_as(s, relid, mode, false);
}

/*
 * What an object needs must not go or change meanwhile.  A partition that is `there` needs no claim of the table above it: whatever is done to that
 * and concerns the partition claims the partition, too, and to make an index of the tree valid core locks all above for a moment.
 */
static void
claim_needed(DdlCaptured *s, const ObjectAddress *object, bool there)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;
	List *needed = NIL;
	ListCell *lc;
	Oid above = InvalidOid;

	if (there && object->classId == RelationRelationId && get_rel_relispartition(object->objectId))
		above = get_partition_parent(object->objectId, true);
	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object->classId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object->objectId));
	scan = systable_beginscan(depend, DependDependerIndexId, true, SnapshotSelf, 2, key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress *address;

		if (form->refobjid < FirstNormalObjectId || form->deptype == DEPENDENCY_INTERNAL)
			continue;
		address = palloc(sizeof(ObjectAddress));
		ObjectAddressSet(*address, form->refclassid, form->refobjid);
		needed = lappend(needed, address);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	foreach (lc, needed)
	{
		ObjectAddress *address = lfirst(lc);

		if (address->classId != RelationRelationId)
			claim_object(s, address, SnapshotSelf, S3AM__MODE__KEY_SHARE);
		else if (address->objectId != above || locked_at_least(above, AccessShareLock))
			claim_relation_as(s, address->objectId, S3AM__MODE__KEY_SHARE, true);
	}
}

/* Roles are local, but their names are not: what a role owns may not change hands while another server makes more of it. */
static void
claim_role(DdlCaptured *s, RoleSpec *role, S3am__Mode mode)
{
	if (role && role->roletype != ROLESPEC_PUBLIC)
		claim_name(s, "pg_authid", "", get_rolespec_name(role), mode, false);
}

static void
claim_roles(DdlCaptured *s, List *roles, S3am__Mode mode)
{
	ListCell *lc;

	foreach (lc, roles)
		claim_role(s, lfirst(lc), mode);
}

static void
claim_roles_named(DdlCaptured *s, Node *node)
{
	ListCell *lc;

	claim_name(s, "pg_authid", "", s->message.role, S3AM__MODE__KEY_SHARE, false);
	switch (nodeTag(node))
	{
		case T_ReassignOwnedStmt:
			claim_roles(s, castNode(ReassignOwnedStmt, node)->roles, S3AM__MODE__UPDATE);
			claim_role(s, castNode(ReassignOwnedStmt, node)->newrole, S3AM__MODE__KEY_SHARE);
			break;
		case T_DropOwnedStmt:
			claim_roles(s, castNode(DropOwnedStmt, node)->roles, S3AM__MODE__UPDATE);
			break;
		case T_GrantStmt:
			claim_roles(s, castNode(GrantStmt, node)->grantees, S3AM__MODE__KEY_SHARE);
			break;
		case T_AlterDefaultPrivilegesStmt:
			claim_roles(s, castNode(AlterDefaultPrivilegesStmt, node)->action->grantees, S3AM__MODE__KEY_SHARE);
			foreach (lc, castNode(AlterDefaultPrivilegesStmt, node)->options)
				if (strcmp(((DefElem *) lfirst(lc))->defname, "roles") == 0)
					claim_roles(s, (List *) ((DefElem *) lfirst(lc))->arg, S3AM__MODE__KEY_SHARE);
			break;
		case T_AlterOwnerStmt:
			claim_role(s, castNode(AlterOwnerStmt, node)->newowner, S3AM__MODE__KEY_SHARE);
			break;
		case T_AlterTableStmt:
			foreach (lc, castNode(AlterTableStmt, node)->cmds)
				claim_role(s, castNode(AlterTableCmd, lfirst(lc))->newowner, S3AM__MODE__KEY_SHARE);
			break;
		case T_CreateSchemaStmt:
			claim_role(s, castNode(CreateSchemaStmt, node)->authrole, S3AM__MODE__KEY_SHARE);
			break;
		case T_CreatePolicyStmt:
			claim_roles(s, castNode(CreatePolicyStmt, node)->roles, S3AM__MODE__KEY_SHARE);
			break;
		case T_AlterPolicyStmt:
			claim_roles(s, castNode(AlterPolicyStmt, node)->roles, S3AM__MODE__KEY_SHARE);
			break;
		default:
			break;
	}
}

/* A table whose rows the statement relies on, if it has locked it so that this server's writers wait. */
static void
claim_if_locked(DdlCaptured *s, Oid relid)
{
	Relation rel = try_relation_open(relid, NoLock);

	if (rel == NULL)
		return;
	if ((rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_MATVIEW) &&
		relation_is_s3am(rel) && CheckRelationLockedByMe(rel, ShareLock, true))
	{
		keep_writers_out(s, rel);
		claim_table(s, storage_of(rel).table, S3AM__MODE__UPDATE, only_keeps_writers_out(RelationGetRelid(rel)));
	}
	relation_close(rel, NoLock);
}

/* All tables of a tree that the statement locked strongly: a new partition changes what the default one may hold. */
static void
claim_tree(DdlCaptured *s, Oid relid)
{
	ListCell *lc;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE && !has_subclass(relid))
		return;
	foreach (lc, find_all_inheritors(relid, NoLock, NULL))
		claim_if_locked(s, lfirst_oid(lc));
}

/* A partition that is made takes a part from what the default one may hold, so core has looked at the rows of that. */
static void
claim_default_partition(DdlCaptured *s, Oid partition)
{
	Oid other = get_default_partition_oid(get_partition_parent(partition, true));

	if (!OidIsValid(other) || other == partition)
		return;
	claim_if_locked(s, other);
	claim_tree(s, other);
}

/* ALTER DOMAIN that looks at the rows of all tables with columns of the domain. */
static bool
checks_domain(Node *node)
{
	AlterDomainStmt *stmt = (AlterDomainStmt *) node;

	if (!IsA(node, AlterDomainStmt))
		return false;
	/* as the grammar names them: ADD CONSTRAINT, SET NOT NULL, VALIDATE CONSTRAINT */
	return (stmt->subtype == 'C' && !castNode(Constraint, stmt->def)->skip_validation) || stmt->subtype == 'O' ||
		   stmt->subtype == 'V';
}

/* The domain that an event of ALTER DOMAIN is about. */
static Oid
domain_of(const ObjectAddress *object)
{
	Oid domain = InvalidOid;

	if (object->classId == TypeRelationId)
		return object->objectId;
	if (object->classId == ConstraintRelationId)
	{
		HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(object->objectId));

		if (HeapTupleIsValid(tuple))
		{
			domain = ((Form_pg_constraint) GETSTRUCT(tuple))->contypid;
			ReleaseSysCache(tuple);
		}
	}
	return domain;
}

/* The types of which a domain is part, itself included, and the relations that travel with columns of them. */
static void
domain_users(Oid domain, List **types, List **relations)
{
	Relation depend = table_open(DependRelationId, AccessShareLock);
	ListCell *lc;

	*types = list_make1_oid(domain);
	*relations = NIL;
	/* the list grows on the way */
	foreach (lc, *types)
	{
		ScanKeyData key[2];
		SysScanDesc scan;
		HeapTuple tuple;

		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(TypeRelationId));
		ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(lfirst_oid(lc)));
		scan = systable_beginscan(depend, DependReferenceIndexId, true, SnapshotSelf, 2, key);
		while ((tuple = systable_getnext(scan)) != NULL)
		{
			Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

			if (form->classid == TypeRelationId)
				*types = list_append_unique_oid(*types, form->objid);
			else if (form->classid == RelationRelationId && form->objsubid > 0 && !local_relation(form->objid))
			{
				*relations = list_append_unique_oid(*relations, form->objid);
				if (OidIsValid(get_rel_type_id(form->objid)))
					*types = list_append_unique_oid(*types, get_rel_type_id(form->objid));
			}
		}
		systable_endscan(scan);
	}
	table_close(depend, AccessShareLock);
}

/*
 * A domain whose values were checked.  Core has locked the tables with a column of the domain, or of a domain over it, and refuses
 * columns in which it is part of something else.  A table that another server makes meanwhile needs one of these types, so they are
 * all claimed.
 */
static void
claim_domain(DdlCaptured *s, Oid domain)
{
	List *types, *relations;
	ListCell *lc;

	domain_users(domain, &types, &relations);
	foreach (lc, types)
	{
		ObjectAddress type = {TypeRelationId, lfirst_oid(lc), 0};

		claim_object(s, &type, SnapshotSelf, S3AM__MODE__UPDATE);
	}
	foreach (lc, relations)
		claim_if_locked(s, lfirst_oid(lc));
	s->domain = domain;
}

/* Nothing locks a domain, so a table that another transaction made, or added a column to, may have been shown since. */
void
names_check_domain(const DdlCaptured *statement)
{
	List *types, *relations;
	ListCell *lc;

	if (!OidIsValid(statement->domain))
		return;
	domain_users(statement->domain, &types, &relations);
	foreach (lc, relations)
	{
		char kind = ddl_relkind(lfirst_oid(lc));

		/* a table of our own is locked, too */
		if ((kind == RELKIND_RELATION || kind == RELKIND_MATVIEW) && !locked_at_least(lfirst_oid(lc), ShareLock))
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not serialize access due to a concurrent change of the schema"),
							errdetail("Table \"%s\" got a column of domain %s while that was altered.",
									  get_rel_name(lfirst_oid(lc)), format_type_be(statement->domain)),
							errhint("The transaction might succeed if retried.")));
	}
}

/* A rule, a trigger and the like has a name within its table alone: every view has a rule of one name.  The table is claimed. */
static bool
named_within_table(Oid class_id)
{
	return class_id == RewriteRelationId || class_id == TriggerRelationId || class_id == PolicyRelationId ||
		   class_id == AttrDefaultRelationId;
}

void
names_claim(DdlCaptured *s, DdlFrame *frame)
{
	ListCell *lc;

	claim_roles_named(s, frame->node);
	foreach (lc, frame->events)
	{
		DdlEvent *event = lfirst(lc);
		Oid relid;
		bool part;

		if (event->access == OAT_DROP)
		{
			if (event->name && !named_within_table(event->object.classId))
				claim_name(s, catalog_name(event->object.classId), event->schema, event->name, S3AM__MODE__UPDATE,
						   false);
			/* a column, a constraint, a trigger: the table is changed */
			if (OidIsValid(event->part_of) && (event->object.classId != RelationRelationId || event->sub != 0))
				claim_relation(s, event->part_of, S3AM__MODE__UPDATE);
			continue;
		}
		relid = local_part_of(&event->object, SnapshotSelf);
		if (OidIsValid(relid) && (local_is_transient(relid) || local_relation(relid)))
			continue;
		/* what has no name that others could take */
		part = OidIsValid(relid) && event->object.classId != RelationRelationId &&
			   event->object.classId != TypeRelationId && event->object.classId != ConstraintRelationId &&
			   event->object.classId != StatisticExtRelationId;
		if (!part && (event->access == OAT_POST_CREATE || !OidIsValid(relid)))
			claim_object(s, &event->object, SnapshotSelf, S3AM__MODE__UPDATE);
		if (event->access == OAT_POST_ALTER && frame->before && relid == event->object.objectId)
		{
			char *schema, *name, *old_schema, *old_name;

			/* under another name from now on */
			if (local_object_name(&event->object, frame->before, &old_schema, &old_name) &&
				local_object_name(&event->object, SnapshotSelf, &schema, &name) &&
				(strcmp(schema, old_schema) != 0 || strcmp(name, old_name) != 0))
			{
				claim_object(s, &event->object, SnapshotSelf, S3AM__MODE__UPDATE);
				claim_object(s, &event->object, frame->before, S3AM__MODE__UPDATE);
			}
		}
		else if (!part && event->access == OAT_POST_ALTER && frame->before)
			claim_object(s, &event->object, frame->before, S3AM__MODE__UPDATE);
		if (OidIsValid(relid))
		{
			claim_relation_as(s, relid, S3AM__MODE__UPDATE,
							  event->object.classId == RelationRelationId && event->object.objectId != relid);
			claim_tree(s, relid);
		}
		if (event->object.classId != InheritsRelationId)
			claim_needed(s, &event->object, event->access == OAT_POST_ALTER);
		if (event->access == OAT_POST_CREATE && event->object.classId == RelationRelationId && event->sub == 0 &&
			get_rel_relispartition(relid))
			claim_default_partition(s, relid);
		if (checks_domain(frame->node) && OidIsValid(domain_of(&event->object)))
			claim_domain(s, domain_of(&event->object));
	}
	{
		Oid target = statement_relation(frame->node);

		if (OidIsValid(target))
			claim_tree(s, target);
	}
}

void
names_claim_locked(DdlCaptured *all)
{
	ListCell *lc;

	foreach (lc, locked_strongly())
	{
		Relation rel = try_relation_open(lfirst_oid(lc), NoLock);

		if (rel == NULL)
			continue; /* dropped, and claimed as that */
		if (rel->rd_createSubid != InvalidSubTransactionId)
			; /* nobody else knows it */
		else if ((rel->rd_rel->relkind == RELKIND_RELATION || rel->rd_rel->relkind == RELKIND_MATVIEW) &&
				 relation_is_s3am(rel))
			claim_table(all, storage_of(rel).table, S3AM__MODE__UPDATE, only_keeps_writers_out(RelationGetRelid(rel)));
		else if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && !local_relation(RelationGetRelid(rel)))
		{
			ObjectAddress address = {RelationRelationId, RelationGetRelid(rel), 0};

			claim_object(all, &address, SnapshotSelf, S3AM__MODE__UPDATE);
		}
		relation_close(rel, NoLock);
	}
}

void
names_claim_named(DdlCaptured *s, Node *node)
{
	List *objects;
	ListCell *lc;

	if (IsA(node, CommentStmt) || IsA(node, SecLabelStmt))
	{
		ObjectType type = IsA(node, CommentStmt) ? ((CommentStmt *) node)->objtype : ((SecLabelStmt *) node)->objtype;
		Node *object = IsA(node, CommentStmt) ? ((CommentStmt *) node)->object : ((SecLabelStmt *) node)->object;
		Relation rel = NULL;
		ObjectAddress address = get_object_address(type, object, &rel, AccessShareLock, true);

		if (rel && locked_at_least(RelationGetRelid(rel), ShareUpdateExclusiveLock))
			claim_relation(s, RelationGetRelid(rel), S3AM__MODE__NO_KEY_UPDATE);
		else if (rel && address.classId == ConstraintRelationId)
		{
			/* core keeps nobody from the table then; it must be there under its name, and so must the constraint */
			ObjectAddress table = {RelationRelationId, RelationGetRelid(rel), 0};

			claim_object_as(s, &table, SnapshotSelf, S3AM__MODE__KEY_SHARE, true);
			claim_object(s, &address, SnapshotSelf, S3AM__MODE__NO_KEY_UPDATE);
		}
		else if (rel)
			claim_relation_as(s, RelationGetRelid(rel), S3AM__MODE__KEY_SHARE, true);
		else if (OidIsValid(address.objectId))
			claim_object(s, &address, SnapshotSelf, S3AM__MODE__NO_KEY_UPDATE);
		if (rel)
			relation_close(rel, NoLock);
		return;
	}
	if (!IsA(node, GrantStmt))
		return;
	objects = castNode(GrantStmt, node)->objects;
	if (castNode(GrantStmt, node)->targtype != ACL_TARGET_OBJECT)
		return;
	foreach (lc, objects)
	{
		Oid relid;

		if (!IsA(lfirst(lc), RangeVar))
			continue;
		relid = RangeVarGetRelid(lfirst(lc), NoLock, true);
		if (OidIsValid(relid) && !local_relation(relid))
			claim_relation(s, relid, S3AM__MODE__NO_KEY_UPDATE);
	}
}
