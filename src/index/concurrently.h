/*
 * concurrently.h: CONCURRENTLY for indexes of s3am tables.
 */
#ifndef S3AM_CONCURRENTLY_H
#define S3AM_CONCURRENTLY_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "storage/lockdefs.h"

/* How a statement goes on, without the word, in the transaction that there is. */
typedef void (*StatementRun)(PlannedStmt *pstmt, void *arg);

/*
 * Builds an index while others write, if the statement asks for that and is about an s3am table.  True: it was run, perhaps in several
 * transactions, and is done.  *pstmt: what is to be run if not.
 */
extern bool index_concurrently(PlannedStmt **pstmt, const char *query, bool top_level, StatementRun run, void *arg);

/* Is this a table of s3am, or an index of one? */
extern bool is_of_s3am(RangeVar *name);

/* ---------------------------------------------------------------- between concurrently.c and reindex.c */

/*
 * A statement about one table or index, which begins in a transaction of its own; none is there when it is done.  one: what it is about, as one of several,
 * whatever it is called by then; InvalidOid: it has its name.  False: that is gone.
 */
extern bool concurrently_run(PlannedStmt *pstmt, const char *query, Oid one, StatementRun run, void *arg);
extern void concurrently_begin(void);
extern void concurrently_end(void);

/* REINDEX CONCURRENTLY of what has tables or indexes in it, as above; false: it is nothing of the kind, or core is to refuse it. */
extern bool reindex_several(PlannedStmt *pstmt, const char *query, bool top_level, StatementRun run, void *arg);
/* Locks a table, or an index and before that its table, and has a statement name it as it is called then.  False: it is gone. */
extern bool reindex_name(ReindexStmt *stmt, Oid relid, LOCKMODE table_lock, LOCKMODE index_lock);

#endif
