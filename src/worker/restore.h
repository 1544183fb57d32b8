/*
 * restore.h: the publisher's work on a checkpoint.
 */
#ifndef S3AM_WORKER_RESTORE_H
#define S3AM_WORKER_RESTORE_H

#include "postgres.h"

#include "manifest/s3am.pb-c.h"
#include "node/node.h"

/*
 * Brings this node to the state that a checkpoint describes.  attaching: nobody reads here yet.  Otherwise it is one step, which
 * the caller's transaction shows: call restore_catalogs() and restore_rows() in it.  Doing all of it twice is doing it once.
 */
extern void restore_epochs(S3Node *node, const S3am__Checkpoint *root);
extern void restore_catalogs(S3Node *node, const S3am__Checkpoint *root, bool attaching);
extern void restore_rows(S3Node *node, const S3am__Checkpoint *root, bool attaching);

/*
 * Fails all transactions of this node that have looked at a table, if they write: what they rely on was not held against what is
 * new.
 */
extern void restore_doom(uint64 version);

#endif
