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
 * A SERIALIZABLE transaction that only read comes to its end: waits for a head that is newer than its snapshot, if that was taken without.  True: nothing
 * that was read in has changed.  False: something in these tables and indexes has, and it must be held against what was read.
 */
extern bool freshness_reads_hold(S3Node *node, const S3am__Txn *txn);

#endif
