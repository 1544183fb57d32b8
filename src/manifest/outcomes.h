/*
 * outcomes.h: which commit ids are decided, and which epochs live (rules 7 to 12).
 *
 * Part of the state: the same on every node that has applied the same version.
 */
#ifndef S3AM_OUTCOMES_H
#define S3AM_OUTCOMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manifest/s3am.pb-c.h"

typedef struct Outcomes Outcomes;

typedef enum IdState
{
	ID_UNKNOWN,
	ID_COMMITTED,
	ID_ABORTED,
	ID_TOO_OLD /* its epoch was fenced so long ago that its outcomes are forgotten */
} IdState;

extern Outcomes *outcomes_create(void);
extern void outcomes_free(Outcomes *o);
extern IdState outcomes_get(const Outcomes *o, uint64_t epoch, uint64_t seq);
extern void outcomes_set(Outcomes *o, uint64_t epoch, uint64_t seq, IdState state); /* the first one wins */

extern void outcomes_begin_epoch(Outcomes *o, uint64_t epoch, const void *node, size_t node_len, uint64_t time_ms);
extern void outcomes_fence(Outcomes *o, uint64_t epoch, uint64_t time_ms);
extern bool outcomes_fenced(const Outcomes *o, uint64_t epoch); /* or never begun, or forgotten */
extern uint64_t outcomes_last_epoch(const Outcomes *o);
extern bool outcomes_node_is(const Outcomes *o, uint64_t epoch, const void *node, size_t node_len);
/* Forgets epochs that were fenced before this. */
extern void outcomes_expire(Outcomes *o, uint64_t before_ms);
/* Calls each() for live epochs, ascending; until it returns false. */
extern void
outcomes_each_live(const Outcomes *o, bool (*each)(void *arg, uint64_t epoch, uint64_t begun_ms), void *arg);

/* To and from a checkpoint's root; encode fills in last_epoch and epochs. */
extern void outcomes_encode(const Outcomes *o, S3am__Checkpoint *root);
extern Outcomes *outcomes_decode(const S3am__Checkpoint *root); /* NULL: damaged */

#endif
