/*
 * record.h: parts of a commit record, all in the current memory context.
 */
#ifndef S3AM_RECORD_H
#define S3AM_RECORD_H

#include "postgres.h"

#include "manifest/rowset.h"
#include "manifest/s3am.pb-c.h"
#include "txn/txn.h"

/* A set of rows that is built in ascending order. */
typedef struct RowSetBuilder RowSetBuilder;
extern RowSetBuilder *record_set_begin(void);
extern void record_set_add(RowSetBuilder *builder, uint64 first, uint64 count);
extern S3am__RowSet *record_set_finish(RowSetBuilder *builder); /* NULL: it is empty */

extern S3am__RowSet *record_rows(const uint64 *rows, uint64 n); /* ascending */
extern S3am__RowSet *record_row_set(const RowSet *set);

/*
 * Rows added and removed; large ones are uploaded as segments.  NULL: nothing is left of them.  It takes from the runs of successors that
 * the record may have, which are record_successor_runs() at first.
 */
typedef struct FinalRows FinalRows;
extern S3am__TableEdit *record_table_edit(TxnTable *table, size_t *successor_runs, FinalRows **finals);
/* The number that own row n has in the edit; false: it does not stay. */
extern bool record_final_row(FinalRows *finals, uint64 n, uint64 *final);
extern size_t record_successor_runs(void);

#endif
