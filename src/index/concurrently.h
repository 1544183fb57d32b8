/*
 * concurrently.h: CONCURRENTLY for indexes of s3am tables.
 */
#ifndef S3AM_CONCURRENTLY_H
#define S3AM_CONCURRENTLY_H

#include "postgres.h"

#include "nodes/plannodes.h"

/* How a statement goes on, without the word, in the transaction that there is. */
typedef void (*StatementRun)(PlannedStmt *pstmt, void *arg);

/*
 * Builds an index while others write, if the statement asks for that and is about an s3am table.  True: it was run, perhaps in several
 * transactions, and is done.  *pstmt: what is to be run if not.
 */
extern bool index_concurrently(PlannedStmt **pstmt, const char *query, bool top_level, StatementRun run, void *arg);

#endif
