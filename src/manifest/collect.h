/*
 * collect.h: moving the boundary and deleting what nobody needs (rules 3, 4, 13, 35, 36, 37).
 *
 * Any number of nodes may do it at once.  A pass reads the boundary, moves it up to the newest published checkpoint as far as
 * manifests are old enough, and then deletes what has been under a boundary for 2G.  All ages are by the store's clock.
 */
#ifndef S3AM_COLLECT_H
#define S3AM_COLLECT_H

#include "manifest/committer.h"

typedef struct Collector Collector;

typedef struct CollectReport
{
	uint64_t boundary; /* as it is now */
	uint64_t swept; /* dropped segments up to this version were looked at */
	uint64_t manifests, checkpoints, pages, segments, others; /* deleted, or that would be */
	uint64_t bytes;
} CollectReport;

typedef struct CollectConfig
{
	void *arg;
	uint64_t retention_ms; /* of manifests */
	uint64_t grace_ms; /* G */
	uint64_t pin_ms; /* a pin that was not renewed for longer does not count; default 3600000 */
	bool dry_run; /* says what it would delete, and moves no boundary */
	uint64_t first_page; /* pages of the own epoch from here on may be in the making */
	/* Is this segment of the own epoch one that a running transaction may still commit?  NULL: all are. */
	bool (*in_use)(void *arg, uint64_t epoch, uint64_t number);
	/* An object is deleted (or would be).  May be NULL. */
	void (*deleting)(void *arg, const char *key, const char *why, uint64_t size);
	/* The end of the pass, exactly once.  error NULL, or why it came to an end early: try again later. */
	void (*done)(void *arg, const CollectReport *report, const char *error);
} CollectConfig;

/* What passes remember of the boundary.  One per process. */
extern Collector *collector_create(Committer *c, Store *store, const uint8_t uuid[16]);
extern void collector_free(Collector *col); /* before the committer is destroyed; ends a pass without done() */

/* Now and then: begins what there was no memory for.  NULL is fine. */
extern void collector_tick(Collector *col);

/* Starts a pass.  False: one is running, or the committer is not ready. */
extern bool collector_run(Collector *col, const CollectConfig *config);

#endif
