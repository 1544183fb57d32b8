/*
 * freshness.h: s3am.freshness = latest, and SERIALIZABLE, which implies it (rules 30 to 33).
 */
#ifndef S3AM_FRESHNESS_H
#define S3AM_FRESHNESS_H

#include "postgres.h"

#include "executor/execdesc.h"
#include "manifest/s3am.pb-c.h"
#include "node/node.h"

extern void freshness_init(void); /* hooks, from _PG_init */

/* Before a plan starts: an implicit READ COMMITTED transaction waits here, and gets a newer snapshot. */
extern void freshness_executor_start(QueryDesc *query);

/* Before the first look at the state of s3am tables in a transaction: throws if freshness can no longer be had. */
extern void freshness_check(void);

/*
 * At PRE_COMMIT of a SERIALIZABLE transaction that wrote nothing: throws 40001 if what it read has changed up to a head that
 * was probed after its snapshot.
 */
extern void freshness_validate(S3Node *node, const S3am__Txn *txn);

#endif
