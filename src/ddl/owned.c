/*
 * owned.c: REASSIGN OWNED and DROP OWNED of another server.
 *
 * What a role owns differs between servers: each has objects of its own.  So core's statements do not run here; what they do, they do
 * to the objects that travel, which are the same everywhere, one by one through core's own functions.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_default_acl.h"
#include "catalog/pg_event_trigger.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_largeobject.h"
#include "catalog/pg_largeobject_metadata.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_shdepend.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/alter.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "commands/policy.h"
#include "commands/schemacmds.h"
#include "commands/tablecmds.h"
#include "commands/typecmds.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "ddl/local.h"
#include "ddl/replay.h"

/* Something of this database that a role owns, or is named by. */
typedef struct Tie
{
	ObjectAddress object;
	SharedDependencyType type;
} Tie;

static bool
stays(const ObjectAddress *object)
{
	switch (object->classId)
	{
		case LargeObjectRelationId:
		case LargeObjectMetadataRelationId:
		case PublicationRelationId:
		case UserMappingRelationId:
			return true;
		default:
			return local_object(object, SnapshotSelf);
	}
}

/* What a role has to do with objects of this database that travel.  Shared objects are each server's own. */
static List *
ties_of(Oid role)
{
	Relation depend = table_open(SharedDependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;
	List *all = NIL, *result = NIL;
	ListCell *lc;

	ScanKeyInit(&key[0], Anum_pg_shdepend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(AuthIdRelationId));
	ScanKeyInit(&key[1], Anum_pg_shdepend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(role));
	scan = systable_beginscan(depend, SharedDependReferenceIndexId, true, NULL, 2, key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_shdepend form = (Form_pg_shdepend) GETSTRUCT(tuple);
		Tie *tie;

		if (form->dbid != MyDatabaseId)
			continue;
		tie = palloc(sizeof(Tie));
		ObjectAddressSet(tie->object, form->classid, form->objid);
		tie->type = (SharedDependencyType) (unsigned char) form->deptype;
		all = lappend(all, tie);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	foreach (lc, all)
		if (!stays(&((Tie *) lfirst(lc))->object))
			result = lappend(result, lfirst(lc));
	return result;
}

/*
 * The roles that a statement names.  One that is not here has nothing here.  Whoever makes a role the owner of something, or grants
 * it something, holds a weak lock on it until the transaction ends: so nothing is overlooked that is not committed yet.
 */
static List *
lock_roles(List *specs)
{
	List *result = NIL;
	ListCell *lc;

	foreach (lc, specs)
	{
		Oid role = get_rolespec_oid(lfirst(lc), true);

		if (!OidIsValid(role))
			continue;
		LockSharedObject(AuthIdRelationId, role, 0, AccessExclusiveLock);
		result = lappend_oid(result, role);
	}
	return result;
}

static void
check_may(Oid role)
{
	if (!has_privs_of_role(GetUserId(), role))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for role \"%s\"", GetUserNameFromId(role, false))));
}

void
owned_lock(Node *node)
{
	List *roles = NIL;
	ListCell *lc;

	if (IsA(node, ReassignOwnedStmt))
		roles = castNode(ReassignOwnedStmt, node)->roles;
	else if (IsA(node, DropOwnedStmt))
		roles = castNode(DropOwnedStmt, node)->roles;
	/* all are looked at before any is locked: who may not do it holds nobody up, and core tells him */
	foreach (lc, roles)
	{
		Oid role = get_rolespec_oid(lfirst(lc), true);

		if (OidIsValid(role) && !has_privs_of_role(GetUserId(), role))
			return;
	}
	(void) lock_roles(roles);
}

static void
give_to(const ObjectAddress *object, Oid owner)
{
	Relation catalog;
	/* these want a superuser, which the role may be at the origin alone */
	bool raised = (object->classId == ForeignDataWrapperRelationId || object->classId == EventTriggerRelationId) &&
				  !superuser_arg(owner);

	if (raised)
		replay_set_superuser(owner, true);

	switch (object->classId)
	{
		case TypeRelationId:
			AlterTypeOwner_oid(object->objectId, owner, true);
			break;
		case NamespaceRelationId:
			AlterSchemaOwner_oid(object->objectId, owner);
			break;
		case RelationRelationId:
			/* as if recursing: owned sequences and partitions have entries of their own */
			ATExecChangeOwner(object->objectId, owner, true, AccessExclusiveLock);
			break;
		case DefaultAclRelationId:
			break; /* stay with the role, as core has it */
		case ForeignServerRelationId:
			AlterForeignServerOwner_oid(object->objectId, owner);
			break;
		case ForeignDataWrapperRelationId:
			AlterForeignDataWrapperOwner_oid(object->objectId, owner);
			break;
		case EventTriggerRelationId:
			AlterEventTriggerOwner_oid(object->objectId, owner);
			break;
		default:
			catalog = table_open(object->classId, RowExclusiveLock);
			AlterObjectOwner_internal(catalog, object->objectId, owner);
			table_close(catalog, NoLock);
			break;
	}
	CommandCounterIncrement();
	if (raised)
		replay_set_superuser(owner, false);
}

void
replay_reassign_owned(ReassignOwnedStmt *reassign)
{
	Oid owner = get_rolespec_oid(reassign->newrole, false);
	ListCell *lc, *l2;

	check_may(owner);
	foreach (lc, lock_roles(reassign->roles))
	{
		Oid role = lfirst_oid(lc);

		check_may(role);
		foreach (l2, ties_of(role))
		{
			Tie *tie = lfirst(l2);

			if (tie->type == SHARED_DEPENDENCY_OWNER)
				give_to(&tie->object, owner);
		}
	}
}

void
replay_drop_owned(DropOwnedStmt *drop)
{
	ObjectAddresses *doomed = new_object_addresses();
	ListCell *lc, *l2;

	foreach (lc, lock_roles(drop->roles))
	{
		Oid role = lfirst_oid(lc);

		check_may(role);
		foreach (l2, ties_of(role))
		{
			Tie *tie = lfirst(l2);

			switch (tie->type)
			{
				case SHARED_DEPENDENCY_POLICY:
					if (!RemoveRoleFromObjectPolicy(role, tie->object.classId, tie->object.objectId))
						add_exact_object_address(&tie->object, doomed);
					break;
				case SHARED_DEPENDENCY_ACL:
					RemoveRoleFromObjectACL(role, tie->object.classId, tie->object.objectId);
					break;
				case SHARED_DEPENDENCY_OWNER:
					add_exact_object_address(&tie->object, doomed);
					break;
				default:
					break;
			}
			CommandCounterIncrement();
		}
	}
	/* newest first, so that what goes along with something is not looked at twice */
	sort_object_addresses(doomed);
	performMultipleDeletions(doomed, drop->behavior, 0);
	free_object_addresses(doomed);
}
