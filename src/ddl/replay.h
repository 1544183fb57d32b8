/*
 * replay.h: between capture.c, which owns the hooks, and replay.c.
 */
#ifndef S3AM_DDL_REPLAY_H
#define S3AM_DDL_REPLAY_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "utils/relcache.h"

#include "manifest/s3am.pb-c.h"

extern void ddl_replay_created(Oid class_id, Oid object_id);
/* Takes out of a statement what would compute something, needs a transaction of its own, or names what other servers have. */
extern PlannedStmt *ddl_replay_adjust(PlannedStmt *pstmt);
/* Makes a role a superuser, or one no more. */
extern void replay_set_superuser(Oid role, bool super);

/* owned.c: what they do, to the objects that travel. */
extern void owned_lock(Node *node); /* before they run at their origin */
extern void replay_reassign_owned(ReassignOwnedStmt *reassign);
extern void replay_drop_owned(DropOwnedStmt *drop);
extern char *ddl_storage_name(Relation rel);
/* By SnapshotSelf; 0 if there is no such relation. */
extern char ddl_relkind(Oid relid);

/* values.c */
extern void replay_missing_value(Oid relid, const S3am__MissingValue *missing);

#endif
