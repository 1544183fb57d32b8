/*
 * used.h: the tables that the current transaction looked at.
 */
#ifndef S3AM_USED_H
#define S3AM_USED_H

#include "postgres.h"

#include "manifest/s3am.pb-c.h"

/* A table (by table id) was opened for reading; cheap when repeated. */
extern void used_note(uint64 table);
/* A relation without rows of its own, whose definition matters: a view, a partitioned table. */
extern void used_note_relation(Oid relid);
/* PRE_COMMIT: the partitioned tables above a table that was written to, as far as they are locked. */
extern void used_note_parents(Oid relid);
/* PRE_COMMIT of a transaction that writes: claims KEY SHARE on the schema of all of them (rule 20). */
extern void used_claim(S3am__Txn *txn);
extern void used_reset(void);

#endif
