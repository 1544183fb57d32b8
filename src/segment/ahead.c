/*
 * ahead.c: reading what comes next before it is asked for.
 *
 * Who goes over pages in order gets the following ones requested meanwhile, across segments, many requests at a time.  The window, how far
 * ahead that goes, is nothing for the first page, and doubles with each page that was indeed the next one: who stops early has read
 * little too much, who goes on keeps the store busy.  Neighbouring pages are one request; pages that are in the cache are none.  The window has
 * bytes, as they are stored, and pages: of an index whose pages shrink to some hundred bytes the bytes alone would be hundreds of looks into the
 * cache for a reader that stops at the next page.
 *
 * Nothing depends on it.  A request that failed is forgotten, and its pages are read one by one, with an error of their own if it must be: it
 * may have failed because the reader, a cursor perhaps, let it wait for an hour.
 */
#include "postgres.h"

#include "node/bucket.h"
#include "s3am.h"
#include "segment/batch.h"

#define WINDOW_MIN (2 * PAGE_TARGET)
#define WINDOW_MIN_PAGES 2
#define WINDOW_MAX_PAGES 65536
#define RANGES_WANTED 32 /* requests of a full window, or more */
#define RANGE_MIN ((Size) 64 * 1024)
/* and what is left of its last page; larger ones cost the store less each byte, but fewer are under way */
#define RANGE_MAX ((Size) 512 * 1024)
#define TURN_BYTES ((Size) 128 * 1024) /* of pages that were read, after which the connections are looked after */
#define GAP_MAX (RANGE_MAX / 4) /* cached pages within a request; a request costs a local store as much as 1 MB does */
#define GAP_MAX_PAGES 16

static inline uint64
page_start(const BatchSource *source, uint32 n)
{
	return (uint64) source->pages[n].offset8 * 8;
}

static inline Size
page_size(const BatchSource *source, uint32 n)
{
	return page_start(source, n + 1) - page_start(source, n);
}

static inline uint64
row_after(const BatchSource *source, uint32 n)
{
	return source->first + source->pages[n + 1].first_row;
}

/* How many bytes this process may have requested: fewer while it has segments in memory as well. */
static Size
bytes_at_most(void)
{
	Size most = (Size) s3am_read_ahead * 1024;

	return bucket_uploading() ? most / 3 * 2 : most;
}

static inline AheadRange *
range_at(ReadAhead *ahead, int i)
{
	return &ahead->ranges[(ahead->first + i) % AHEAD_RANGES];
}

static void
drop_first(ReadAhead *ahead)
{
	AheadRange *range = range_at(ahead, 0);

	if (range->read)
		bucket_read_end(range->read);
	range->read = NULL;
	ahead->first = (ahead->first + 1) % AHEAD_RANGES;
	ahead->nranges--;
}

void
read_ahead_release(ReadAhead *ahead)
{
	while (ahead->nranges > 0)
		drop_first(ahead);
	ahead->window = ahead->planned = 0;
	ahead->window_pages = ahead->planned_pages = 0;
	ahead->started = false;
}

static inline bool
holds(const AheadRange *range, const BatchSource *source, uint32 n)
{
	return range->epoch == source->epoch && range->number == source->number && page_start(source, n) >= range->offset &&
		   page_start(source, n + 1) <= range->offset + range->len;
}

/* Requests `len` bytes from page n on. */
static bool
start_range(ReadAhead *ahead, const BatchSource *source, uint32 n, Size len, uint64 end_row)
{
	char key[64];
	AheadRange *range = range_at(ahead, ahead->nranges);

	bucket_segment_key(source->epoch, source->number, key, sizeof(key));
	range->read = bucket_read_start(key, page_start(source, n), len);
	if (range->read == NULL)
		return false;
	range->epoch = source->epoch;
	range->number = source->number;
	range->offset = page_start(source, n);
	range->len = len;
	range->end_row = end_row;
	ahead->nranges++;
	return true;
}

/*
 * Plans pages until the window is full.  A request is begun only when there is room for a whole one, lest each page that was read makes room for
 * one of a page; what is begun is made whole.  True: one was.
 */
static bool
fill_window(ReadAhead *ahead)
{
	Size most = bytes_at_most();
	Size target = Min(Max(ahead->window / RANGES_WANTED, RANGE_MIN), RANGE_MAX);
	BatchSource first = {0}, source;
	uint32 first_n = 0, n, gap_pages = 0;
	uint64 end_row = 0;
	Size len = 0, gap = 0;
	bool started = false;

	while (len > 0 || (ahead->nranges < AHEAD_RANGES && ahead->planned + target <= ahead->window &&
					   ahead->planned_pages < ahead->window_pages &&
					   (ahead->nranges == 0 || bucket_reads_bytes() + target <= most)))
	{
		bool more = ahead->plan(ahead->arg, ahead->plan_row, &source, &n);
		bool wanted = more && !(source.cache_owner != 0 && page_expected(&source, n));
		Size size = more ? page_size(&source, n) : 0;

		if (len > 0 && !(more && len < target && source.epoch == first.epoch && source.number == first.number &&
						 page_start(&source, n) == page_start(&first, first_n) + len + gap &&
						 (wanted || (gap + size <= GAP_MAX && gap_pages < GAP_MAX_PAGES))))
		{
			if (!start_range(ahead, &first, first_n, len, end_row))
				return started;
			started = true;
			len = gap = gap_pages = 0;
			/* there may be no room for another one */
			continue;
		}
		if (!more)
			return started;
		if (wanted)
		{
			if (len == 0)
			{
				first = source;
				first_n = n;
			}
			len += gap + size;
			gap = gap_pages = 0;
			end_row = row_after(&source, n);
		}
		else if (len > 0)
		{
			gap += size;
			gap_pages++;
		}
		ahead->planned += size;
		ahead->planned_pages++;
		ahead->plan_row = row_after(&source, n);
	}
	return started;
}

void
read_ahead_pass(ReadAhead *ahead, const BatchSource *source, uint32 n)
{
	BatchSource next;
	uint32 next_n;
	bool sequential, started;

	if (ahead->plan == NULL || s3am_read_ahead == 0)
		return;
	sequential = ahead->started && ahead->plan(ahead->arg, ahead->row, &next, &next_n) && next.epoch == source->epoch &&
				 next.number == source->number && next_n == n;
	if (!sequential)
	{
		read_ahead_release(ahead);
		ahead->started = true;
		ahead->row = ahead->plan_row = row_after(source, n);
		return;
	}
	/* what is behind is not needed any more */
	while (ahead->nranges > 0 && range_at(ahead, 0)->end_row <= ahead->row)
		drop_first(ahead);
	ahead->row = row_after(source, n);
	if (ahead->row <= ahead->plan_row)
	{
		ahead->planned -= Min(ahead->planned, page_size(source, n));
		ahead->planned_pages -= ahead->planned_pages > 0;
	}
	else
		ahead->plan_row = ahead->row;
	ahead->window = Min(Max(ahead->window * 2, WINDOW_MIN), (Size) s3am_read_ahead * 1024);
	ahead->window_pages = Min(Max(ahead->window_pages * 2, WINDOW_MIN_PAGES), WINDOW_MAX_PAGES);
	started = fill_window(ahead);
	ahead->unattended += page_size(source, n);
	if (ahead->nranges > 0 && (started || ahead->unattended >= TURN_BYTES))
	{
		bucket_reads_go_on();
		ahead->unattended = 0;
	}
}

const uint8 *
read_ahead_bytes(ReadAhead *ahead, const BatchSource *source, uint32 n)
{
	for (int i = 0; i < ahead->nranges; i++)
	{
		AheadRange *range = range_at(ahead, i);
		const uint8 *bytes;
		Size got;

		if (!holds(range, source, n))
			continue;
		bytes = range->read ? bucket_read_wait(range->read, &got) : NULL;
		return bytes && got == range->len ? bytes + (page_start(source, n) - range->offset) : NULL;
	}
	return NULL;
}

/* ------------------------------------------------------------------------------------ pages in no order */

static int
find_range(ReadAhead *ahead, const BatchSource *source, uint32 n)
{
	for (int i = 0; i < ahead->nranges; i++)
		if (holds(range_at(ahead, i), source, n))
			return i;
	return -1;
}

bool
read_ahead_has(ReadAhead *ahead, const BatchSource *source, uint32 n)
{
	return find_range(ahead, source, n) >= 0;
}

bool
read_ahead_request(ReadAhead *ahead, const BatchSource *source, uint32 n)
{
	Size len = page_size(source, n);

	if (find_range(ahead, source, n) >= 0 || (source->cache_owner != 0 && page_expected(source, n)))
		return true;
	return ahead->nranges < AHEAD_RANGES && bucket_reads_bytes() + len <= bytes_at_most() &&
		   start_range(ahead, source, n, len, row_after(source, n));
}

static void
drop_range(ReadAhead *ahead, int i)
{
	AheadRange *range = range_at(ahead, i);

	if (range->read)
		bucket_read_end(range->read);
	/* the oldest takes its place */
	*range = *range_at(ahead, 0);
	range_at(ahead, 0)->read = NULL;
	ahead->first = (ahead->first + 1) % AHEAD_RANGES;
	ahead->nranges--;
}

void
read_ahead_drop(ReadAhead *ahead, const BatchSource *source, uint32 n)
{
	int i = find_range(ahead, source, n);

	if (i >= 0)
		drop_range(ahead, i);
}

void
read_ahead_before(ReadAhead *ahead, uint64 row)
{
	/* those behind the one that goes move up, and what was looked at before it takes its place */
	for (int i = 0; i < ahead->nranges;)
		if (range_at(ahead, i)->end_row <= row)
			drop_range(ahead, i);
		else
			i++;
}
