/*
 * detach.c: how a database leaves its repository, or its name.
 *
 * DROP EXTENSION s3am undoes the binding; what is in the repository stays there.  DROP DATABASE, and ALTER DATABASE in its forms
 * that must be alone, wait only five seconds for others, and the publisher would never go by itself: it is told to leave, and
 * comes back when the statement is over.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "ddl/detach.h"
#include "node/node.h"

static bool detach_pending, attach_pending;

static void
xact_callback(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	if (event == XACT_EVENT_COMMIT && detach_pending && node_of_database(MyDatabaseId))
		node_detach(node_of_database(MyDatabaseId));
	if (event == XACT_EVENT_COMMIT && attach_pending)
		node_request(MyDatabaseId);
	if (detach_pending || attach_pending)
		node_waited = false;
	detach_pending = attach_pending = false;
}

static void
register_callback(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(xact_callback, NULL);
	registered = true;
}

void
attach_at_commit(void)
{
	register_callback();
	attach_pending = true;
}

void
detach_at_commit(void)
{
	StringInfoData command;

	register_callback();
	detach_pending = true;
	initStringInfo(&command);
	appendStringInfo(&command, "ALTER DATABASE %s RESET s3am.repository",
					 quote_identifier(get_database_name(MyDatabaseId)));
	if (SPI_connect() != SPI_OK_CONNECT || SPI_execute(command.data, false, 0) < 0)
		elog(ERROR, "ALTER DATABASE failed");
	SPI_finish();
}

Oid
detach_database(Node *node)
{
	const char *name = NULL;
	Oid oid;
	ListCell *lc;

	if (IsA(node, DropdbStmt))
		name = castNode(DropdbStmt, node)->dbname;
	else if (IsA(node, RenameStmt) && castNode(RenameStmt, node)->renameType == OBJECT_DATABASE)
		name = castNode(RenameStmt, node)->subname;
	else if (IsA(node, AlterDatabaseStmt))
		foreach (lc, castNode(AlterDatabaseStmt, node)->options)
			if (strcmp(castNode(DefElem, lfirst(lc))->defname, "tablespace") == 0)
				name = castNode(AlterDatabaseStmt, node)->dbname;
	if (name == NULL || !IsTransactionState())
		return InvalidOid;
	oid = get_database_oid(name, true);
	/* who may not do it anyway disturbs nobody */
	if (!OidIsValid(oid) || oid == MyDatabaseId || !pg_database_ownercheck(oid, GetUserId()) ||
		node_of_database(oid) == NULL)
		return InvalidOid;
	return oid;
}

static void
end_process(int procno)
{
	if (procno >= 0 && ProcGlobal->allProcs[procno].pid != 0)
		(void) kill(ProcGlobal->allProcs[procno].pid, SIGTERM);
}

void
detach_leave(Oid database)
{
	S3Node *node = node_of_database(database);

	if (node == NULL)
		return;
	pg_atomic_write_u32(&node->leaving, MyProcPid);
	end_process(node->publisher_procno);
	end_process(node->compaction.procno);
}

void
detach_left(Oid database, bool dropped)
{
	S3Node *node = node_of_database(database);

	if (node == NULL)
		return;
	if (dropped)
		node_detach(node);
	pg_atomic_write_u32(&node->leaving, 0);
}
