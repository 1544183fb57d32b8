/*
 * merge.h: what the compactor does with indexes.
 */
#ifndef S3AM_INDEX_MERGE_H
#define S3AM_INDEX_MERGE_H

#include "compact/compact.h"

/* As compact_plan() and compact_rewrite(), for a state that is an index's. */
extern CompactJob *index_plan(S3Node *node, TableState *table, CompactUrge urge);
extern CompactResult *index_rewrite(S3Node *node, const CompactJob *job, CompactThrottle *throttle);

#endif
