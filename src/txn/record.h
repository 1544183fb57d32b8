/*
 * record.h: parts of a commit record.
 */
#ifndef S3AM_RECORD_H
#define S3AM_RECORD_H

#include "postgres.h"

#include "manifest/s3am.pb-c.h"
#include "txn/txn.h"

/* Both in the current memory context.  Rows ascending. */
extern S3am__RowSet *record_rowset(const uint64 *rows, uint64 n);
/* Rows added and removed; large ones are uploaded as segments.  NULL: nothing is left of them. */
extern S3am__TableEdit *record_table_edit(TxnTable *table);

#endif
