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
 * At PRE_COMMIT: puts the statements of the current transaction into the record, in the order of their effects, and adds what
 * they claim.  What they were made of lives until the transaction ends.
 */
extern void ddl_collect(S3am__Txn *txn);

/* Called by the table AM when a relation of s3am gets new storage in a captured statement. */
extern void ddl_note_storage(Relation rel, uint64 storage);

/* While replaying: the storage id that the manifest names for this relation; an error is raised if it names none. */
extern bool ddl_replaying(void);
extern uint64 ddl_replay_storage(Relation rel);

/*
 * Replays statements in the current transaction (the publisher's), as they ran at the origin.  Nothing is computed: scans of s3am
 * tables answer nothing while ddl_replaying().  Errors are thrown; their context names the statement.
 */
extern void ddl_replay(S3am__DdlStatement **statements, int n);

/* DROP EXTENSION s3am runs: what is dropped here stays in the repository. */
extern bool ddl_detaching(void);

/* Should capture stay off in this process (workers of s3am, loaders)? */
extern void ddl_capture_off(void);

/* The session of a worker or loader that must not wait for attach etc. */
extern bool ddl_is_internal(void);

#endif
