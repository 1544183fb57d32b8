/*
 * collect_pass.h: one pass of collection, for the files that carry it out; see collect.h.
 *
 *   collect.c        boundary -> ages of manifests -> new boundary ->
 *   collect_pins.c   pins ->
 *   collect_mark.c   what the state refers to ->
 *   collect_sweep.c  sweep
 */
#ifndef S3AM_COLLECT_PASS_H
#define S3AM_COLLECT_PASS_H

#include "manifest/collect.h"
#include "manifest/idset.h"
#include "manifest/jobs.h"
#include "manifest/keys.h"
#include "manifest/tree.h"

#define HISTORY 64 /* boundaries that are remembered */

/* A boundary, and since when it has been one at least. */
typedef struct Known
{
	uint64_t value;
	int64_t date;
	uint64_t pins; /* as read before it; for those who do not know rule 36 */
} Known;

typedef struct Checkpointed
{
	uint64_t version, epoch;
	bool keep;
} Checkpointed;

typedef struct Pass
{
	struct Collector *col;
	CollectConfig cfg;
	Jobs *jobs;
	TreeWalk *walk;
	CollectReport report;
	int64_t date; /* the store's, latest */
	/* the boundary as read */
	uint64_t boundary;
	S3am__CheckpointRef *start;
	char etag[136]; /* "" absent */
	uint64_t youngest_old; /* versions up to here are old enough */
	uint64_t first_young;
	bool done_listing;
	uint64_t deletable; /* boundary that is 2G old */
	uint64_t oldest_pin;
	int pins_to_read;
	bool pins_listed;
	bool pins_again; /* some are too old, and that may not be their owner's fault */
	bool pins_gone; /* some were listed, and withdrawn before they were read */
	void (*pins_wait)(struct Pass *p); /* what comes after them, when they were read again; NULL: it does not wait */
	/* the state */
	uint64_t version; /* S */
	S3am__CheckpointRef *current;
	uint64_t *live; /* epochs that are not fenced in S */
	size_t nlive;
	uint64_t last_epoch; /* in S */
	IdSet *segments, *pages;
	IdSet *dropped; /* segments: may go though their epoch lives */
	IdSet *pinned; /* segments dropped after what somebody still reads */
	Checkpointed *checkpoints;
	size_t ncheckpoints, checkpoint_at;
	S3am__Checkpoint *root;
	S3am__PageRef **trees; /* of batches, of the root at hand */
	size_t ntrees, tree_at;
	uint64_t next_manifest;
	int manifests_under_way;
	/* sweeping */
	int prefix;
	char after[KEY_SIZE];
	char **victims;
	size_t nvictims, victim_capacity, victim_at, victims_gone;
} Pass;

struct Collector
{
	Committer *c;
	Store *store;
	uint8_t uuid[16];
	Known known[HISTORY];
	int nknown;
	Pass *pass;
};

/* Ends the pass; error: NULL, or why it could not go on. */
void pass_end(Pass *p, const char *error);
/* True: the answer will do.  Otherwise the pass is over. */
bool pass_fine(Pass *p, const StoreResult *result);
/* Reads all pins and signs of life anew into oldest_pin, waits until they can be relied upon, and then does what is next. */
void pass_read_pins(Pass *p, void (*next)(Pass *p));
/* Notes what is referred to from here on, then sweeps. */
void pass_mark(Pass *p);
/* Lists all objects, and deletes those that can go. */
void pass_sweep(Pass *p);

#endif
