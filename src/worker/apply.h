/*
 * apply.h: the publisher's work on one transaction of a manifest.
 */
#ifndef S3AM_APPLY_H
#define S3AM_APPLY_H

#include "postgres.h"

#include "manifest/s3am.pb-c.h"
#include "node/node.h"

/* Puts its rows, deletes and storages into the shared state; doing so twice is doing it once. */
extern void apply_rows(S3Node *node, const S3am__Txn *txn, uint64 version, uint64 pos);

/*
 * Holds its claims and edits against this node's running transactions: dooms losers, moves weak claims on (rules 16, 22).
 * own: it is one of them.
 */
extern void apply_claims(S3Node *node, const S3am__Txn *txn, uint64 version, bool own);

#endif
