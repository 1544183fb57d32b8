/*
 * keyhash.h: hashes of the keys of unique indexes.  KEYS.md says what they are of.
 */
#ifndef S3AM_INDEX_KEYHASH_H
#define S3AM_INDEX_KEYHASH_H

#include "postgres.h"

#include "utils/relcache.h"

/* The index as a whole, if no column of it counts; no other key has this hash. */
#define KEY_HASH_INDEX 0

/* 64 bits that are not those of the whole index. */
static inline uint64
key_hash_proper(uint64 whole)
{
	return whole == KEY_HASH_INDEX ? KEY_HASH_INDEX + 1 : whole;
}

typedef struct KeyHasher KeyHasher;

/*
 * palloc'ed in the current context, for one index relation, which need not stay open.  Looks at the types, operator classes and collations
 * of its key columns; waits for the database to be attached, whose seed it takes.
 */
extern KeyHasher *key_hasher(Relation index);
/* The same for what an s3hash index has in the place of values, as if it were declared on them: for filters. */
extern KeyHasher *key_hasher_of_codes(void);

/*
 * What other servers compare: s3am's own hash, the same on every server.  *coarse: no column counts, so the claim is on the index as a whole
 * (KEY_HASH_INDEX).  values and isnull have the index's columns, as FormIndexDatum gives them.
 */
extern uint64 key_hash_global(const KeyHasher *h, const Datum *values, const bool *isnull, bool *coarse);

/*
 * What sessions of this server block each other by: as above, and columns left out there count by the hash function that belongs to the
 * operator class's equality, if there is one.  That may be a function of a user's, with all that it may do.
 */
extern uint64 key_hash_local(const KeyHasher *h, const Datum *values, const bool *isnull);

/*
 * What filters in runs are of: 64 bits, the same in every repository.  Which columns count and as what is in `kinds`, that of another hasher may
 * differ: then their hashes have nothing to do with each other.  NULL: no column counts.  palloc'ed.
 */
extern uint64 key_hash_filter(const KeyHasher *h, const Datum *values, const bool *isnull);
extern uint8 *key_hasher_kinds(const KeyHasher *h, Size *len);
/* The type of a key column in the table.  The index may store another one: a hash, or name as a cstring. */
extern Oid key_column_type(Relation index, int i);
/* How values of a key column are written for other servers; NULL: it does not count. */
struct KeyType;
extern const struct KeyType *key_hasher_type(const KeyHasher *h, int column);

/* Has the key a NULL so that it is equal to nothing (unless NULLS NOT DISTINCT)? */
extern bool key_is_distinct(const KeyHasher *h, const bool *isnull);

#endif
