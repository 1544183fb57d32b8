/*
 * replay.h: between capture.c, which owns the hooks, and replay.c.
 */
#ifndef S3AM_DDL_REPLAY_H
#define S3AM_DDL_REPLAY_H

#include "postgres.h"

#include "nodes/plannodes.h"
#include "utils/relcache.h"

#include "manifest/s3am.pb-c.h"

extern void ddl_replay_created(Oid class_id, Oid object_id);
/* Takes out of a statement what would compute something, needs a transaction of its own, or names what other servers have. */
extern PlannedStmt *ddl_replay_adjust(PlannedStmt *pstmt);
extern char *ddl_storage_name(Relation rel);
/* By SnapshotSelf; 0 if there is no such relation. */
extern char ddl_relkind(Oid relid);

/* values.c */
extern void replay_missing_value(Oid relid, const S3am__MissingValue *missing);

#endif
