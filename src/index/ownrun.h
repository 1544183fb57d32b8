/*
 * ownrun.h: sorted runs of entries that the current transaction added; in memory, or in a temporary file.
 */
#ifndef S3AM_INDEX_OWNRUN_H
#define S3AM_INDEX_OWNRUN_H

#include "postgres.h"

#include "access/htup_details.h"

#include "index/index.h"

typedef struct OwnEntry
{
	uint64 row; /* own or committed */
	uint64 base : 63; /* version up to which its key was looked for; unique indexes */
	uint64 null : 1; /* the first key column is */
	Datum key; /* the first key column, as it is in the tuple */
	MinimalTuple tuple; /* of desc */
} OwnEntry;

/* Where tuples of runs are; counted, and gone as a whole. */
typedef struct OwnArena
{
	MemoryContext cxt;
	int refs;
	Size bytes;
	char *next, *end; /* room in the newest block */
} OwnArena;

typedef struct OwnFile OwnFile;

/* Sorted.  Never changes but for `limit`; counted, since a scan may go on while entries are added. */
struct OwnRun
{
	int refs;
	int level; /* in a file: how often it was put together */
	uint64 n, capacity;
	uint64 limit; /* entries of own rows from this one on were undone */
	uint64 highest; /* the last own row in it */
	OwnArena *arena; /* in memory: of the tuples */
	OwnEntry *entries;
	OwnFile *file; /* or NULL */
};

/* What the runs of all indexes take in memory. */
extern Size ownrun_memory;

extern OwnArena *own_arena_create(void);
extern void own_arena_release(OwnArena *arena);
extern OwnRun *own_run_create(OwnArena *arena, uint64 capacity);
/* An entry of these values, of which the tuple is in the arena. */
extern void own_entry_form(OwnEntry *entry, OwnArena *arena, const IndexMeta *meta, const Datum *values,
						   const bool *nulls, uint64 base);
extern int own_entry_compare(const IndexMeta *meta, const OwnEntry *a, const OwnEntry *b);

static inline HeapTupleData
own_entry_tuple(const OwnEntry *entry)
{
	HeapTupleData tuple;

	tuple.t_len = entry->tuple->t_len + MINIMAL_TUPLE_OFFSET;
	tuple.t_data = (HeapTupleHeader) ((char *) entry->tuple - MINIMAL_TUPLE_OFFSET);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	return tuple;
}

static inline bool
own_entry_is_undone(const OwnRun *run, const OwnEntry *entry)
{
	return ROW_IS_OWN(entry->row) && entry->row - OWN_BASE >= run->limit;
}

static inline void
own_run_put(OwnRun *run, const OwnEntry *entry)
{
	Assert(run->n < run->capacity);
	if (ROW_IS_OWN(entry->row))
		run->highest = Max(run->highest, entry->row - OWN_BASE);
	run->entries[run->n++] = *entry;
}

/* Two runs in memory, of one arena, as one. */
extern OwnRun *own_run_merge(const IndexMeta *meta, OwnRun *a, OwnRun *b);
/* Any runs as one in a file, or NULL if nothing is left. */
extern OwnRun *own_run_file(const IndexMeta *meta, OwnRun **runs, int nruns, int level);
/* The living entries of runs in memory as one run with an arena of its own. */
extern OwnRun *own_run_pack(const IndexMeta *meta, OwnRun **runs, int nruns);
/* Bytes of the living entries' tuples in a run in memory. */
extern Size own_run_living(const OwnRun *run, uint64 *n);
/* Of a run in memory: is nothing left? */
extern bool own_run_is_undone(const OwnRun *run);

/* The entries of several runs in order, without those that were undone; everything is in the current context. */
typedef struct OwnMerge OwnMerge;
extern OwnMerge *own_merge_begin(const IndexMeta *meta, OwnRun **runs, int nruns);
extern const OwnEntry *own_merge_next(OwnMerge *merge); /* as long as the next call; NULL: no more */
extern void own_merge_end(OwnMerge *merge);

#endif
