/*
 * statistics.h: other servers' changes in this server's statistics.
 */
#ifndef S3AM_WORKER_STATISTICS_H
#define S3AM_WORKER_STATISTICS_H

#include "node/node.h"

#include "manifest/s3am.pb-c.h"

/* A transaction of another server was applied. */
extern void statistics_note(const S3am__Txn *txn);

/* This server has attached: tables that it has never counted begin with what they hold, so that they are analyzed. */
extern void statistics_attached(S3Node *node);

/* Outside of a transaction, now and then: passes it on. */
extern void statistics_tell(void);

#endif
