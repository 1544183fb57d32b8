/*
 * ddl.h: DDL that travels: capture at the origin, replay on other nodes.
 */
#ifndef S3AM_DDL_H
#define S3AM_DDL_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/relcache.h"

#include "manifest/s3am.pb-c.h"

/* Installs the hooks (ProcessUtility, object access, transaction callbacks); from _PG_init. */
extern void ddl_init(void);

/* Is there travelling DDL in the current transaction? */
extern bool ddl_pending(void);

/*
 * The statements of the current transaction in the order of their effects, allocated in the current memory context.  At
 * PRE_COMMIT.  Returns their number.
 */
extern int	ddl_collect(S3am__DdlStatement ***statements);

/* Called by the table AM when a relation of s3am gets new storage in a captured statement. */
extern void ddl_note_storage(Relation rel, uint64 storage);

/* While replaying: the storage id that the manifest names for this relation; 0 and an error is raised if it names none. */
extern bool ddl_replaying(void);
extern uint64 ddl_replay_storage(Relation rel);

/*
 * Replays statements in the current transaction (the publisher's), as they ran at the origin.  Nothing is computed: scans of s3am
 * tables answer nothing while ddl_replaying().  Errors are thrown.
 */
extern void ddl_replay(S3am__DdlStatement **statements, int n);

/* Should capture stay off in this process (workers of s3am, loaders)? */
extern void ddl_capture_off(void);

/* The session of a worker or loader that must not wait for attach etc. */
extern bool ddl_is_internal(void);

#endif
