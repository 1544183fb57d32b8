/*
 * delta.h: what some consecutive manifests change in tables, for the next checkpoint.
 */
#ifndef S3AM_DELTA_H
#define S3AM_DELTA_H

#include "manifest/rowset.h"
#include "manifest/s3am.pb-c.h"

typedef struct DeltaDrop
{
	uint64_t first_row;
	uint64_t version;
} DeltaDrop;

typedef struct DeltaTable
{
	uint64_t storage, table, rows_of; /* 0: as it was */
	uint64_t dropped; /* version; 0: not */
	uint64_t next_row;
	S3am__BatchState **batches; /* added and still there, ascending */
	size_t nbatches, capacity;
	DeltaDrop *drops; /* batches of before that go, ascending */
	size_t ndrops, drop_capacity;
	RowSet *removed;
} DeltaTable;

typedef struct Delta
{
	DeltaTable **tables; /* by storage, ascending */
	size_t ntables, capacity;
	S3am__DdlEntry **ddl;
	size_t nddl, ddl_capacity;
	S3am__Dropped **dropped; /* segments added and dropped within */
	size_t ndropped, dropped_capacity;
	S3am__SequenceState **sequences; /* those with new positions, ascending by id */
	size_t nsequences, sequence_capacity;
	size_t bytes; /* about */
} Delta;

extern Delta *delta_create(void);
extern void delta_free(Delta *d);

/* Adds a manifest's transactions that are not void; takes parts of it. False: it is damaged. */
extern bool delta_add(Delta *d, S3am__Manifest *m, const bool *voided);

/* Remembers a segment that is in no table any more. */
extern void delta_dropped(Delta *d, const S3am__SegmentRef *segment, uint64_t version);

/* Is a position, drawn by `epoch`, beyond the one that is known?  The rule by which servers apply positions, too. */
extern bool
delta_position_counts(const S3am__SequencePosition *position, uint64_t epoch, const S3am__SequenceState *known);

/* The first table at or after a storage, or the first batch or drop at or after a row. */
extern size_t delta_from(const Delta *d, uint64_t storage);
extern bool delta_touches(const DeltaTable *t, uint64_t first, uint64_t end);

#endif
