/*
 * compact.h: flushing inline rows, merging small segments, dropping deleted rows.  README.md has the invariants.
 */
#ifndef S3AM_COMPACT_H
#define S3AM_COMPACT_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "node/node.h"
#include "node/state.h"

/* Neighbouring batches of one table that are to be rewritten. */
typedef struct CompactJob
{
	uint64 storage, table;
	uint64 base; /* version at which they were live, and up to which ends count */
	uint32 nbatches;
	BatchEntry *batches; /* a copy; what it points to stays while the state is pinned */
	uint64 rows, raw; /* in all of them */
} CompactJob;

/* How much there must be to do. */
typedef enum CompactUrge
{
	COMPACT_OTHERS, /* the table is another server's to compact */
	COMPACT_USUAL,
	COMPACT_PRESSED, /* memory for small batches is short */
	COMPACT_VACUUM
} CompactUrge;

/* What should be done next to a table; NULL: nothing.  palloc'ed.  The state must be pinned. */
extern CompactJob *compact_plan(S3Node *node, TableState *table, CompactUrge urge);

/* What a job has become, before it is handed over. */
typedef struct CompactResult
{
	S3am__TableEdit edit;
	bool one_xmin; /* all rows have it */
	uint32 xmin;
	uint64 dropped; /* rows */
	uint64 bytes; /* stored */
	uint64 epoch; /* of what was uploaded; 0: nothing was */
} CompactResult;

/*
 * Reads the job's rows and writes those that stay.  In a transaction, since pages live in it.  What it uploaded is known by
 * compact_discard() at any time.
 */
extern CompactResult *compact_rewrite(S3Node *node, const CompactJob *job);
/* Keeps to s3am.compaction_rate; starts when it is zero. */
typedef struct CompactThrottle
{
	S3Node *node;
	TimestampTz start;
	uint64 read; /* bytes since then */
} CompactThrottle;

extern void compact_throttle(CompactThrottle *throttle, uint64 bytes);
extern void compact_note_upload(uint64 epoch, uint64 number);
extern void compact_keep(void); /* what was uploaded is referred to, or may be */
extern void compact_discard(void); /* removes it, best effort.  Never throws. */

/* Commits the edit.  False: it has lost a race. */
extern bool compact_hand_over(S3Node *node, const CompactJob *job, CompactResult *result);

/* ---- for sessions: request.c */
/*
 * VACUUM: has the table compacted and waits for that; if `patient` without limit.  NULL, or why it was not.
 */
extern const char *compact_table(S3Node *node, TableState *table, bool patient);
extern uint64 compact_dead_rows(S3Node *node, TableState *table); /* that take space still */
/* Before rows are committed: waits while memory for small batches is short. */
extern void compact_wait_for_room(S3Node *node);

#endif
