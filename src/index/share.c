/*
 * share.c: one index scan by several processes.
 */
#include "postgres.h"

#include "access/relscan.h"
#include "miscadmin.h"
#include "storage/spin.h"

#include "index/share.h"

/* Entries of a portion: a sixty-fourth of all, so that nobody is waited for long at the end, and enough to read ahead in. */
#define PORTIONS 64
#define PORTION_MIN 1024
#define PORTION_MAX 65536

#define AT_START PG_UINT64_MAX

typedef struct SharedScan
{
	slock_t mutex;
	bool begun; /* the next two are known */
	uint64 epoch, number; /* of the first segment of the run; 0, 0: who came first has all */
	uint32 step; /* whose entries are taken now */
	uint64 at; /* up to where, in the direction of the scan, or AT_START */
} SharedScan;

Size
share_size(void)
{
	return sizeof(SharedScan);
}

static void
restart(SharedScan *shared)
{
	shared->begun = false;
	shared->epoch = shared->number = 0;
	shared->step = 0;
	shared->at = AT_START;
}

void
share_init(void *target)
{
	SharedScan *shared = target;

	SpinLockInit(&shared->mutex);
	restart(shared);
}

static SharedScan *
shared_of(IndexScanDesc desc)
{
	return (SharedScan *) OffsetToPointer(desc->parallel_scan, desc->parallel_scan->ps_offset);
}

/* Nobody scans at that moment. */
void
share_restart(IndexScanDesc desc)
{
	SharedScan *shared = shared_of(desc);

	SpinLockAcquire(&shared->mutex);
	restart(shared);
	SpinLockRelease(&shared->mutex);
}

/* Only what is in segments is the same to all. */
static bool
may_be_divided(const IndexCursor *c)
{
	return c->nparts > 0 && c->parts[0].source.blob == NULL;
}

void
share_join(ScanShare *share, IndexScanDesc desc, IndexSearch *search)
{
	SharedScan *shared = shared_of(desc);
	IndexCursor *largest = NULL;
	uint64 epoch, number;
	bool first;

	memset(share, 0, sizeof(*share));
	share->shared = shared;
	for (int i = 0; i < search->ncursors; i++)
	{
		IndexCursor *c = &search->cursors[i];

		/* of the transaction's own entries workers know nothing: with such there are none (README, 21) */
		Assert(c->own == NULL);
		if (may_be_divided(c) && (largest == NULL || c->nentries > largest->nentries))
			largest = c;
	}
	SpinLockAcquire(&shared->mutex);
	first = !shared->begun;
	if (first)
	{
		shared->begun = true;
		shared->epoch = largest ? largest->parts[0].source.epoch : 0;
		shared->number = largest ? largest->parts[0].source.number : 0;
	}
	epoch = shared->epoch;
	number = shared->number;
	SpinLockRelease(&shared->mutex);
	if (first)
	{
		share->run = largest;
		return;
	}
	for (int i = 0; i < search->ncursors; i++)
	{
		IndexCursor *c = &search->cursors[i];

		if (may_be_divided(c) && c->parts[0].source.epoch == epoch && c->parts[0].source.number == number)
			share->run = c;
	}
	/* it was merged since, so that this process cannot know the others' places; they do without it */
	share->out = share->run == NULL;
}

/* Has all of this step been taken? */
static bool
is_behind(const ScanShare *share)
{
	bool behind;

	SpinLockAcquire(&share->shared->mutex);
	behind = share->shared->step != share->step;
	SpinLockRelease(&share->shared->mutex);
	return behind;
}

ShareTaken
share_take(ScanShare *share, IndexSearch *search, const IndexBound *low, const IndexBound *high, bool forward)
{
	SharedScan *shared = share->shared;
	uint64 size, at, from, to;
	bool later;

	if (share->out)
		return SHARE_NONE;
	if (share->run == NULL)
	{
		/* all of each step */
		if (share->bounded)
			return SHARE_STEP;
		share->bounded = true;
		return SHARE_PART;
	}
	CHECK_FOR_INTERRUPTS();
	if (!share->bounded)
	{
		/* of many elements of an array each is looked for by those alone who come to it in time */
		if (is_behind(share))
			return SHARE_STEP;
		search_range(search, share->run, low, high, &share->first, &share->end);
		share->bounded = true;
	}
	size = Min(Max((share->end - share->first) / PORTIONS, PORTION_MIN), PORTION_MAX);
	SpinLockAcquire(&shared->mutex);
	later = shared->step != share->step;
	if (!later)
	{
		at = shared->at != AT_START ? shared->at : forward ? share->first : share->end;
		from = forward ? at : at - Min(size, at - share->first);
		to = forward ? at + Min(size, share->end - at) : at;
		if (forward ? to == share->end : from == share->first)
		{
			shared->step++;
			shared->at = AT_START;
		}
		else
			shared->at = forward ? to : from;
	}
	SpinLockRelease(&shared->mutex);
	if (later)
		return SHARE_STEP;
	/* the outermost ones have all that other runs have beyond the run's own entries */
	search_window(search, share->run, from == share->first ? 0 : from, to == share->end ? share->run->nentries : to);
	return SHARE_PART;
}

void
share_step(ScanShare *share)
{
	share->step++;
	share->bounded = false;
}
