/*
 * rows.h: the next row id of each storage: manifests give final row ids.
 */
#ifndef S3AM_ROWS_H
#define S3AM_ROWS_H

#include "manifest/s3am.pb-c.h"

typedef struct NextRows NextRows;

extern NextRows *rows_create(void);
extern NextRows *rows_copy(const NextRows *rows); /* a scratch copy on top of `rows`, which must outlive it */
extern void rows_free(NextRows *rows);

/* Gives the edits of a transaction their first row ids, and counts on. */
extern void rows_assign(NextRows *rows, S3am__Txn *txn);

extern uint64_t rows_next(const NextRows *rows, uint64_t storage); /* 0: nothing was added yet */
extern void rows_set(NextRows *rows, uint64_t storage, uint64_t next);

/* Counts what an applied transaction added. */
extern void rows_apply(NextRows *rows, const S3am__Txn *txn);

#endif
