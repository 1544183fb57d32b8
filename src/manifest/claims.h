/*
 * claims.h: validation of a transaction against those that came before it (rules 15 to 20).
 */
#ifndef S3AM_CLAIMS_H
#define S3AM_CLAIMS_H

#include <stdbool.h>

#include "manifest/s3am.pb-c.h"

/*
 * Holds txn against an accepted transaction of version `version`.  False: they conflict; detail says over what.  Weak row claims
 * of txn whose rows the other updated compatibly are moved to the successors (rule 16).
 */
extern bool claims_validate(S3am__Txn *txn, const S3am__Txn *other, uint64_t version, char *detail, size_t size);

/* PostgreSQL's conflict matrix of row locks. */
extern bool claims_conflict(S3am__Mode a, S3am__Mode b);

#endif
