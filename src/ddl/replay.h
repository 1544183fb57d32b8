/*
 * replay.h: between capture.c, which owns the hooks, and replay.c.
 */
#ifndef S3AM_DDL_REPLAY_H
#define S3AM_DDL_REPLAY_H

#include "postgres.h"

#include "nodes/plannodes.h"
#include "utils/relcache.h"

extern void ddl_replay_created(Oid relid);
/* Takes out of a statement what would compute something, or needs a transaction of its own. */
extern PlannedStmt *ddl_replay_adjust(PlannedStmt *pstmt);
extern char *ddl_storage_name(Relation rel);
/* By SnapshotSelf; 0 if there is no such relation. */
extern char ddl_relkind(Oid relid);

#endif
