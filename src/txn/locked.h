/*
 * locked.h: the relations that the current transaction has locked.
 */
#ifndef S3AM_LOCKED_H
#define S3AM_LOCKED_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

/* In this mode or a stronger one? */
extern bool locked_at_least(Oid relid, LOCKMODE mode);
/* Those of this database in SHARE mode or stronger; a list of OIDs. */
extern List *locked_strongly(void);

#endif
