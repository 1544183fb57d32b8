/*
 * rowlock_table.h: the shared table of row locks, for the files rowlock*.c alone.  ROWLOCK.md has the invariants.
 */
#ifndef S3AM_ROWLOCK_TABLE_H
#define S3AM_ROWLOCK_TABLE_H

#include "postgres.h"

#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"

#include "txn/rowlock.h"

#define ROWLOCK_CHUNK_BITS 12
#define ROWLOCK_CHUNK_ROWS (1 << ROWLOCK_CHUNK_BITS)
#define ROWLOCK_CHUNK_WORDS (ROWLOCK_CHUNK_ROWS / 64)
#define ROWLOCK_MODES (LockTupleExclusive + 1)

/* 4096 rows of one storage */
typedef struct RowLockKey
{
	uint64 storage;
	uint64 number; /* row >> ROWLOCK_CHUNK_BITS */
} RowLockKey;

typedef struct RowLockOwner
{
	uint64 token; /* of a (sub)transaction; never used twice */
	uint64 xact; /* of its top-level transaction; never used twice */
	int proc;
} RowLockOwner;

/* How an entry keeps its rows: a few offsets in the order they came, or a bitmap. */
typedef enum RowLockKind
{
	ROWLOCK_SPARSE_4,
	ROWLOCK_SPARSE_12,
	ROWLOCK_SPARSE_44,
	ROWLOCK_BITMAP
} RowLockKind;

/* The rows of one chunk that one token holds in one mode. */
typedef struct RowLockEntry
{
	dsa_pointer next;
	uint64 token;
	uint64 xact;
	uint64 base; /* the oldest of its rows' */
	int32 proc;
	uint16 count;
	uint8 mode; /* LockTupleMode */
	uint8 kind;
	union
	{
		uint16 rows[ROWLOCK_CHUNK_WORDS * 4];
		uint64 bits[ROWLOCK_CHUNK_WORDS];
	} u;
} RowLockEntry;

typedef struct RowLockChunk
{
	dsa_pointer next; /* in its bucket */
	RowLockKey key;
	dsa_pointer entries;
} RowLockChunk;

/* Where the publisher has made an entry of another process's token (ROWLOCK.md, "Following"). */
typedef struct RowLockNote
{
	dsa_pointer next;
	RowLockKey key;
	uint64 token;
} RowLockNote;

#define ROWLOCK_PARTITIONS 128
#define ROWLOCK_FIRST_BUCKETS 32
#define ROWLOCK_SEGMENTS 24

/* A linear hash table: it grows bucket by bucket; each segment doubles the number there is room for. */
typedef struct RowLockPartition
{
	LWLock lock;
	uint32 nchunks;
	uint32 nbuckets;
	dsa_pointer first[ROWLOCK_FIRST_BUCKETS];
	dsa_pointer segment[ROWLOCK_SEGMENTS]; /* [i]: ROWLOCK_FIRST_BUCKETS << i buckets */
	dsa_pointer keysets; /* KeySet: of those who hold many keys */
} RowLockPartition;

/* What other processes must know of a process that owns locks; protected by its lock. */
typedef struct RowLockProc
{
	LWLock lock;
	uint64 xact; /* 0: owns nothing that may be followed */
	uint64 from; /* this token is ending ... */
	uint64 to; /* ... and its locks become this one's; 0: are dropped */
	dsa_pointer notes; /* RowLockNote */
	uint32 nnotes;
} RowLockProc;

typedef struct RowLockShared
{
	int partition_tranche;
	int proc_tranche;
	int dsa_tranche;
	LWLock dsa_lock; /* for creation */
	dsa_handle dsa;
	pg_atomic_uint64 next_token;
	pg_atomic_uint64 next_xact;
	pg_atomic_uint64 key_bytes; /* that key sets take */
	RowLockPartition partition[ROWLOCK_PARTITIONS];
	RowLockProc proc[FLEXIBLE_ARRAY_MEMBER]; /* MaxBackends */
} RowLockShared;

extern RowLockShared *rowlock_shared;
extern dsa_area *rowlock_dsa; /* NULL until attached */

/* The chunk that a row belongs to, with its hash and partition: what every look-up begins with. */
typedef struct RowLockPlace
{
	RowLockKey key;
	uint32 hash;
	RowLockPartition *part;
} RowLockPlace;

extern RowLockPlace rowlock_place(RowLockKey key);

static inline RowLockKey
rowlock_key(uint64 storage, uint64 row)
{
	RowLockKey key = {storage, row >> ROWLOCK_CHUNK_BITS};

	return key;
}

static inline uint16
rowlock_offset(uint64 row)
{
	return (uint16) (row & (ROWLOCK_CHUNK_ROWS - 1));
}

static inline RowLockEntry *
rowlock_entry(dsa_pointer p)
{
	return DsaPointerIsValid(p) ? dsa_get_address(rowlock_dsa, p) : NULL;
}

static inline bool
rowlock_entry_has(const RowLockEntry *entry, uint16 offset)
{
	if (entry->kind == ROWLOCK_BITMAP)
		return (entry->u.bits[offset >> 6] >> (offset & 63)) & 1;
	for (int i = 0; i < entry->count; i++)
		if (entry->u.rows[i] == offset)
			return true;
	return false;
}

/* Attaches to the shared area; create: makes it if there is none.  False: there is none. */
extern bool rowlock_attach(bool create);

/*
 * With the partition's lock held: the chunk, or NULL.
 */
extern RowLockChunk *rowlock_find(const RowLockPlace *place);

/*
 * With the partition's lock held exclusively: adds a row to the owner's entry of that mode.  False: memory is missing; release
 * the lock, call rowlock_reserve() and begin again.  *first: the token had no entry in this chunk before.
 */
extern bool rowlock_add(const RowLockPlace *place, const RowLockOwner *owner, LockTupleMode mode, uint64 base,
						uint16 offset, bool *first);

/* Allocates what the last call that returned false lacked.  No lock may be held.  Throws when there is no memory. */
extern void rowlock_reserve(void);
extern dsa_pointer rowlock_allocate(Size size);
/* The same, or InvalidDsaPointer if there is none; *reason, unless it is NULL: why, if that is known. */
extern dsa_pointer rowlock_try_allocate(Size size, char **reason);
extern dsa_pointer rowlock_spare_note; /* kept for the next one; freed when the process ends */

/* Takes the partition's lock itself: removes all entries of a token. */
extern void rowlock_drop(RowLockKey key, uint64 token);

/*
 * Take the partition's lock themselves: make room for joining the entries of token `from` to those of `to`, which may throw;
 * and join them, which needs no memory.  rowlock_join says whether `to` had an entry there before.
 */
extern void rowlock_prepare_join(RowLockKey key, uint64 from, uint64 to);
extern bool rowlock_join(RowLockKey key, uint64 from, uint64 to);

/* A copy of the table for inspection: one line per entry, palloc'd. */
typedef struct RowLockInfo
{
	RowLockKey key;
	RowLockOwner owner;
	LockTupleMode mode;
	RowLockKind kind;
	uint64 base;
	int count;
} RowLockInfo;
extern int rowlock_list(RowLockInfo **list);

/* ------------------------------------------------------------------------------------ the current transaction */

/* Chunks in which a token of this transaction has entries that it made itself, each once. */
typedef struct RowLockKeys
{
	struct RowLockKeys *next;
	int count;
	int capacity;
	RowLockKey key[FLEXIBLE_ARRAY_MEMBER];
} RowLockKeys;

/* A key of an index (keylock.c), which is not among the chunks above. */
typedef struct RowLockFew
{
	uint64 storage;
	uint64 hash;
} RowLockFew;

typedef struct RowLockToken
{
	uint64 token;
	SubTransactionId sub;
	RowLockKeys *keys; /* newest block first; only that one has room */
	RowLockFew *few; /* keys of indexes that are in the table */
	int nfew, few_capacity;
	struct KeySets *many; /* those that are in sets: a list, by index */
} RowLockToken;

/* The tokens of this transaction, outermost first. */
extern RowLockToken *rowlock_tokens;
extern int rowlock_ntokens;
extern uint64 rowlock_xact; /* 0: none yet */

extern MemoryContext rowlock_context; /* until its end */
/* That of the current subtransaction, made if there is none; the pointer is good until a subtransaction begins or ends. */
extern RowLockToken *rowlock_current_token(void);

/*
 * With the partition's lock held: the token of another transaction that holds the row in a conflicting mode, or 0.
 * *strongest: the mode in which this transaction holds it itself, or -1.
 */
extern uint64 rowlock_blocker(RowLockChunk *chunk, uint64 xact, uint16 offset, LockTupleMode mode, int *strongest);

/*
 * Waits for a token, in the queue of who wants the same row (its name there: tid), if may_queue says so.  *queued: it is in the queue, which it
 * leaves with UnlockTuple when it is done.  False: it must not wait, and is in no queue.
 */
extern bool rowlock_wait(Relation rel, ItemPointer tid, LockTupleMode mode, uint64 blocker, LockWaitPolicy policy,
						 bool may_queue, bool *queued);

extern const LOCKMODE rowlock_hardware_mode[];

#define ROWLOCK_CONFLICT(a, b) DoLockModesConflict(rowlock_hardware_mode[a], rowlock_hardware_mode[b])

#endif
