/*
 * outcomes.h: which commit ids are decided, and which epochs are fenced (rules 7 to 12).
 */
#ifndef S3AM_OUTCOMES_H
#define S3AM_OUTCOMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Outcomes Outcomes;

typedef enum IdState
{
	ID_UNKNOWN,
	ID_COMMITTED,
	ID_ABORTED
} IdState;

extern Outcomes *outcomes_create(void);
extern void outcomes_free(Outcomes *o);
extern IdState outcomes_get(const Outcomes *o, uint64_t epoch, uint64_t seq, uint64_t *version);
extern void outcomes_set(Outcomes *o, uint64_t epoch, uint64_t seq, IdState state, uint64_t version);

extern void outcomes_begin_epoch(Outcomes *o, uint64_t epoch, const void *node, size_t node_len);
extern void outcomes_fence(Outcomes *o, uint64_t epoch);
extern bool outcomes_fenced(const Outcomes *o, uint64_t epoch);
extern uint64_t outcomes_last_epoch(const Outcomes *o);
/* Calls each() for live epochs of this node. */
extern void outcomes_live_of(const Outcomes *o, const void *node, size_t node_len,
							 void (*each) (void *arg, uint64_t epoch), void *arg);

#endif
