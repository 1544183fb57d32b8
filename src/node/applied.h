/*
 * applied.h: which DDL the local catalogs already have (rule 26).
 */
#ifndef S3AM_APPLIED_H
#define S3AM_APPLIED_H

#include "postgres.h"

/* In the current transaction, which also changed the catalogs: notes its commit id in s3am.applied. */
extern void applied_record(uint64 epoch, uint64 seq);
extern bool applied_contains(uint64 epoch, uint64 seq);

#endif
