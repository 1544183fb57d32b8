/*
 * ownends.h: which rows of one storage the current transaction removed: when, and what they became.
 *
 * Rows are committed ones and own ones alike.  Neighbours that were removed by one command and whose successors are neighbours,
 * too, share an entry: an UPDATE of a whole table costs a few bytes per thousand rows.  One in no order has an entry for each row,
 * which goes to temporary files when there are many; a bit for each row stays, where not all neighbours have one.
 */
#ifndef S3AM_OWNENDS_H
#define S3AM_OWNENDS_H

#include "postgres.h"

#include "s3am.h"

/* What a removed row became, if not row `next` of the own ones. */
#define NEXT_NONE UINT64CONST(0xFFFFFFFFFFFF)
#define NEXT_MOVED UINT64CONST(0xFFFFFFFFFFFE) /* a row of another partition */
#define NEXT_IS_ROW(next) ((next) < NEXT_MOVED)

typedef struct OwnEnd
{
	CommandId cmax;
	bool key; /* deleted, or its key changed: claims UPDATE, not NO KEY UPDATE */
	uint64 next; /* number of an own row, or NEXT_... */
} OwnEnd;

typedef struct OwnEnds OwnEnds;

/* Entries of all tables in memory, above which those of one go to a file: a quarter of s3am.transaction_memory. */
static inline Size
ownends_memory_limit(void)
{
	return (Size) s3am_transaction_memory * 1024 / 4;
}

/* The most memory that the entries of all tables have taken at once since there were none. */
extern Size ownends_most_memory(void);

/* Lives in a child of `parent`, its files until the transaction ends (endfiles_release()). */
extern OwnEnds *ownends_create(MemoryContext parent);
extern void ownends_free(OwnEnds *ends); /* NULL: nothing to do */
extern uint64 ownends_count(const OwnEnds *ends);
extern bool ownends_get(OwnEnds *ends, uint64 row, OwnEnd *end);
/* The row has none yet. */
extern void ownends_add(OwnEnds *ends, uint64 row, const OwnEnd *end);
/* Those of the rows that have any. */
extern void ownends_remove(OwnEnds *ends, uint64 first, uint64 count);

/*
 * Those of rows first .. last, ascending, in runs: row i of a run has successor next + i, if it has one.  `each` returns false to see no
 * more of them.
 */
typedef bool (*OwnEndsEach)(void *arg, uint64 row, uint32 count, const OwnEnd *end);
extern void ownends_each(OwnEnds *ends, uint64 first, uint64 last, OwnEndsEach each, void *arg);

#endif
