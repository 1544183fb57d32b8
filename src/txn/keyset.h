/*
 * keyset.h: many keys of an index that one token holds, compactly in shared memory; for keylock.c alone.  ROWLOCK.md, "Keys".
 */
#ifndef S3AM_KEYSET_H
#define S3AM_KEYSET_H

#include "postgres.h"

#include "txn/rowlock_table.h"

/* Those of one partition.  Changed by its owner alone, and only with the partition's lock held exclusively. */
typedef struct KeySet
{
	dsa_pointer next; /* in its partition */
	uint64 storage; /* of the index */
	uint64 token, xact;
	dsa_pointer slots;
	uint32 capacity; /* in hashes; of a filter in blocks, a power of two */
	uint32 count; /* of hashes */
	bool filter; /* it cannot tell which hashes it has, only of most that it has them not */
} KeySet;

/* All of a token and an index. */
typedef struct KeySets
{
	struct KeySets *next; /* of the same token */
	uint64 storage;
	dsa_pointer set[ROWLOCK_PARTITIONS];
} KeySets;

typedef struct KeysFound
{
	bool held; /* by the transaction itself */
	bool maybe_held; /* a filter of its own says so */
	bool vague; /* it has a filter for this index here */
	uint64 blocker; /* token of another one that holds the key; 0: none */
	uint64 maybe_blocker; /* of one whose filter says so */
} KeysFound;

/* With the partition's lock held: who of the sets has the key? */
extern void keyset_find(const RowLockPartition *part, uint64 storage, uint64 xact, uint64 hash, KeysFound *found);

/* Makes room for n more hashes; may throw, and make filters of all of them.  No lock may be held. */
extern void keyset_reserve(KeySets *sets, const RowLockOwner *owner, RowLockPartition *part, uint32 n);
/* With the partition's lock held exclusively: adds a hash that there is room for; not 0. */
extern void keyset_add(const KeySets *sets, const RowLockPartition *part, uint64 hash);

/* These take the partitions' locks themselves.  The token's own are gone: */
extern void keyset_free(KeySets *sets);
/* what is there of a token that has ended is gone; */
extern void keyset_drop(RowLockPartition *part, uint64 token);
/* room for joining those of `from` to those of `to`, whose owner is given, may throw; */
extern void keyset_prepare_join(const KeySets *from, KeySets *to, const RowLockOwner *owner);
/* they are joined, which needs no memory; */
extern void keyset_join(KeySets *from, KeySets *to, uint64 token);
/* and they get another name. */
extern void keyset_rename(KeySets *sets, uint64 token);

#endif
