/*
 * hashcode.h: codes of values, which are what s3hash keeps.  KEYS.md says what they are of.
 */
#ifndef S3AM_INDEX_HASHCODE_H
#define S3AM_INDEX_HASHCODE_H

#include "postgres.h"

#include "access/skey.h"
#include "utils/relcache.h"

typedef struct HashCoder HashCoder;

/* palloc'ed in the current context, for one index relation, which need not stay open. */
extern HashCoder *hash_coder(Relation index);
/* Throws if the index's column is of a type whose codes would not be the same on every server. */
extern void hash_check_column(Relation index);

/* Of a value of the index's column, which is not NULL: equal ones have the same code. */
extern int64 hash_code(const HashCoder *coder, Datum value);
/* Of what a scan key compares the column with.  False: what equals it may have any code. */
extern bool hash_code_of_key(HashCoder *coder, ScanKey key, int64 *code);

/* The hashes of a key that consists of a value with this code: for sessions of this server, and for claims (keyhash.h). */
extern uint64 hash_code_local(int64 code);
extern uint64 hash_code_global(const HashCoder *coder, int64 code);

#endif
