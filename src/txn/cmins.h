/*
 * cmins.h: the command id that added each of the rows of one storage.
 */
#ifndef S3AM_CMINS_H
#define S3AM_CMINS_H

#include "postgres.h"

/* Row `first` + i has cmin `cmin` + i * step: one run for a bulk load, and one for a loop of single inserts. */
typedef struct CminRun
{
	uint64 first;
	CommandId cmin;
	CommandId step;
} CminRun;

typedef struct Cmins
{
	MemoryContext cxt;
	CminRun *runs; /* the newest */
	uint32 nruns, capacity;
	struct BufFile *file; /* older ones, in blocks */
	uint64 *first; /* row that each block begins with */
	uint64 nblocks, blocks_capacity;
	CminRun *block; /* looked up last: number `loaded` */
	uint64 loaded;
	uint32 last; /* run looked up last, in runs or block */
} Cmins;

extern void cmins_init(Cmins *c, MemoryContext cxt);
/* Rows are noted in ascending order; after an error nothing has changed. */
extern void cmins_note(Cmins *c, uint64 row, CommandId cmin);
extern CommandId cmins_get(Cmins *c, uint64 row);
/* Forgets the row and all after it. */
extern void cmins_truncate(Cmins *c, uint64 row);

#endif
