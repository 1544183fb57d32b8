/*
 * concurrently.h: CONCURRENTLY for indexes of s3am tables.
 */
#ifndef S3AM_INDEX_CONCURRENTLY_H
#define S3AM_INDEX_CONCURRENTLY_H

#include "postgres.h"

#include "nodes/plannodes.h"

/* The statement itself, or a copy without the word. */
extern PlannedStmt *index_at_once(PlannedStmt *pstmt, bool top_level);

#endif
