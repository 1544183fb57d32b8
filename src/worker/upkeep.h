/*
 * upkeep.h: what the committer does besides commits: checkpoints, and the collection of what nobody needs any more.
 */
#ifndef S3AM_UPKEEP_H
#define S3AM_UPKEEP_H

#include "postgres.h"

#include "manifest/collect.h"
#include "manifest/committer.h"
#include "node/node.h"

typedef struct UpkeepConfig
{
	S3Node *node;
	Committer *committer;
	Store *store;
	const S3am__Repository *repository; /* must live as long as the process */
	uint64 (*oldest_object)(void); /* objects of this epoch from here on may still be committed */
} UpkeepConfig;

extern void upkeep_begin(const UpkeepConfig *config);
extern void upkeep_applied(const S3am__Manifest *manifest, Size bytes);
extern void upkeep_restored(uint64 version);

/* A session asks for a collection (request.h).  What was not begun is put back into the queue. */
extern void upkeep_collect(dsa_pointer request);
extern void upkeep_hand_back(void);

/* Begins what is due; returns how long until it wants to look again. */
extern int64 upkeep_tick(void);

#endif
