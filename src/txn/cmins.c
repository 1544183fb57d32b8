/*
 * cmins.c: see cmins.h.
 *
 * A loop that now adds one row and now several needs a run for each turn, so all but the newest runs go to a temporary file.  Of that
 * the first row of each block is in memory, 8 bytes for 512 runs, and one block.
 */
#include "postgres.h"

#include "storage/buffile.h"
#include "utils/memutils.h"

#include "txn/cmins.h"
#include "txn/endfile.h"

#define PER_BLOCK (BLCKSZ / sizeof(CminRun))
#define PORTION_BLOCKS 8
#define PORTION (PORTION_BLOCKS * PER_BLOCK) /* that leaves memory at a time */
#define NO_BLOCK PG_UINT64_MAX

StaticAssertDecl(PER_BLOCK * sizeof(CminRun) == BLCKSZ, "runs fill a block");

void
cmins_init(Cmins *c, MemoryContext cxt)
{
	memset(c, 0, sizeof(*c));
	c->cxt = cxt;
	c->loaded = NO_BLOCK;
}

static void
seek(Cmins *c, uint64 block)
{
	if (BufFileSeekBlock(c->file, (long) block) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not seek in a temporary file")));
}

/* The older half of what is in memory goes to the file. */
static void
file_runs(Cmins *c)
{
	if (c->file == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(c->cxt);

		c->block = palloc(BLCKSZ);
		c->file = endfiles_open();
		MemoryContextSwitchTo(old);
	}
	if (c->nblocks + PORTION_BLOCKS > c->blocks_capacity)
	{
		uint64 capacity = Max(c->blocks_capacity * 2, 8 * PORTION_BLOCKS);

		c->first = c->first ? repalloc_huge(c->first, capacity * sizeof(uint64))
							: MemoryContextAlloc(c->cxt, capacity * sizeof(uint64));
		c->blocks_capacity = capacity;
	}
	Assert(c->runs && c->first && c->nruns >= PORTION);
	seek(c, c->nblocks);
	BufFileWrite(c->file, c->runs, PORTION * sizeof(CminRun));
	/* writes all of it: a full disk must not be noticed while a subtransaction is rolled back */
	(void) BufFileRead(c->file, c->block, 0);
	for (int i = 0; i < PORTION_BLOCKS; i++)
		c->first[c->nblocks++] = c->runs[i * PER_BLOCK].first;
	c->nruns -= PORTION;
	memmove(c->runs, c->runs + PORTION, c->nruns * sizeof(CminRun));
	c->last = 0;
}

void
cmins_note(Cmins *c, uint64 row, CommandId cmin)
{
	CminRun *run = c->nruns ? &c->runs[c->nruns - 1] : NULL;

	if (run && row == run->first + 1)
	{
		run->step = cmin - run->cmin;
		return;
	}
	if (run && cmin == run->cmin + (CommandId) (row - run->first) * run->step)
		return;
	if (c->nruns == 2 * PORTION)
		file_runs(c);
	if (c->nruns == c->capacity)
	{
		uint32 capacity = c->capacity ? c->capacity * 2 : 4;

		c->runs = c->runs ? repalloc(c->runs, capacity * sizeof(CminRun))
						  : MemoryContextAlloc(c->cxt, capacity * sizeof(CminRun));
		c->capacity = capacity;
	}
	Assert(c->runs);
	c->runs[c->nruns++] = (CminRun){row, cmin, 0};
}

static void
load(Cmins *c, uint64 block)
{
	if (c->loaded == block)
		return;
	c->loaded = NO_BLOCK;
	seek(c, block);
	if (BufFileRead(c->file, c->block, BLCKSZ) != BLCKSZ)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read from a temporary file")));
	c->loaded = block;
}

/* The last block that begins at or before the row. */
static uint64
find_block(const Cmins *c, uint64 row)
{
	uint64 low = 0, high = c->nblocks;

	while (high - low > 1)
	{
		uint64 mid = low + (high - low) / 2;

		if (c->first[mid] <= row)
			low = mid;
		else
			high = mid;
	}
	return low;
}

/* The last run that begins at or before the row. */
static uint32
find_run(const CminRun *runs, uint32 n, uint64 row, uint32 hint)
{
	uint32 low = 0, high = n;

	if (hint < n && runs[hint].first <= row && (hint + 1 == n || runs[hint + 1].first > row))
		return hint;
	while (high - low > 1)
	{
		uint32 mid = low + (high - low) / 2;

		if (runs[mid].first <= row)
			low = mid;
		else
			high = mid;
	}
	return low;
}

CommandId
cmins_get(Cmins *c, uint64 row)
{
	const CminRun *runs = c->runs;
	uint32 n = c->nruns;

	Assert(n > 0);
	if (c->nblocks > 0 && row < runs[0].first)
	{
		load(c, find_block(c, row));
		runs = c->block;
		n = PER_BLOCK;
	}
	c->last = find_run(runs, n, row, c->last);
	return runs[c->last].cmin + (CommandId) (row - runs[c->last].first) * runs[c->last].step;
}

void
cmins_truncate(Cmins *c, uint64 row)
{
	while (c->nruns > 0 && c->runs[c->nruns - 1].first >= row)
		c->nruns--;
	/* a run that is left with one row has no step that the next one must keep */
	if (c->nruns == 0)
	{
		while (c->nblocks > 0 && c->first[c->nblocks - 1] >= row)
			c->nblocks--;
		/* the newest run is always in memory */
		if (c->nblocks > 0)
		{
			load(c, c->nblocks - 1);
			memcpy(c->runs, c->block, BLCKSZ);
			c->nruns = find_run(c->block, PER_BLOCK, row - 1, 0) + 1;
			c->nblocks--;
		}
		c->loaded = NO_BLOCK;
	}
	c->last = 0;
}
