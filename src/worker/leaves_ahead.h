/*
 * leaves_ahead.h: the committer reads what is left of the checkpoint that the server started from, so that it need not be kept for long.
 */
#ifndef S3AM_LEAVES_AHEAD_H
#define S3AM_LEAVES_AHEAD_H

#include "node/node.h"
#include "store/store.h"

extern void leaves_ahead_begin(S3Node *node, Store *store);
/* Goes on with it; returns how many milliseconds until it wants to look again.  Never throws. */
extern int64 leaves_ahead_tick(void);
/* Lets go of all that it holds, before the process ends. */
extern void leaves_ahead_end(void);

#endif
