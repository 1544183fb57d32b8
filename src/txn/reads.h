/*
 * reads.h: ranges of indexes that the current transaction read, which is SERIALIZABLE (rule 18).
 */
#ifndef S3AM_TXN_READS_H
#define S3AM_TXN_READS_H

#include "postgres.h"

#include "utils/relcache.h"

#include "manifest/s3am.pb-c.h"
#include "node/state.h"
#include "txn/ranges.h"

/* Is what is read now to be claimed?  Not what core reads for a foreign key: locks on rows see to that. */
extern bool reads_count(void);

/* A range that is being read: all of it is claimed, whatever happens, unless it is said how far the reader came. */
typedef struct RangeRead
{
	uint64 number; /* 0: none */
	struct OpenRange *open; /* if it has this number still */
} RangeRead;

/* By a snapshot that sees up to a position.  What was being read ends there as a whole. */
extern void reads_begin_range(RangeRead *read, Relation index, uint64 pos, const KeyRange *range);
/* The reader came no further than this. */
extern void reads_end_range(RangeRead *read, const KeyRange *range);

/* Has the transaction claimed a range of an index of this table (its storage)? */
extern bool reads_of_table(uint64 table);

/* Scans of a subtransaction that is rolled back do not come back to say how far they came. */
extern void reads_subabort(SubTransactionId sub);
extern void reads_subcommit(SubTransactionId sub, SubTransactionId parent);

/*
 * What the transaction learned is not of its snapshot, but of the state as it was then: it has no place in the order of commits but its own
 * COMMIT, even if nothing that it wrote is left.
 */
extern void reads_note_current(void);
extern bool reads_are_current(void);

extern bool reads_any(void);
/* PRE_COMMIT: how many claims there may be; adds them to the record, which has room. */
extern int reads_count_claims(void);
extern void reads_record(S3Node *node, S3am__Txn *txn);
extern void reads_reset(void); /* the transaction is over */

/* A query begins and ends to run; begin gives what end is told. */
extern int reads_executor_run(void);
extern void reads_executor_end(int saved);

#endif
