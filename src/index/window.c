/*
 * window.c: a part of an index, between two places in its order.
 *
 * The places are entries of one run.  In each other run they lie between two entries, which are found by key and, among those with the same key, by row id.
 */
#include "postgres.h"

#include "index/index.h"

/* A search of one of its cursors alone. */
static IndexSearch
search_of(const IndexSearch *search, IndexCursor *c)
{
	IndexSearch one = *search;

	one.cursors = c;
	one.ncursors = 1;
	one.current = one.second = NULL;
	one.hashed = false;
	one.held = NULL;
	return one;
}

void
search_open_windows(IndexSearch *search)
{
	for (int i = 0; i < search->ncursors; i++)
	{
		search->cursors[i].from = 0;
		search->cursors[i].to = search->cursors[i].nentries;
	}
}

/* How many entries of a run come before a bound, and what equals it if so said. */
static uint64
entries_to(const IndexSearch *search, IndexCursor *c, const IndexBound *bound, bool equal)
{
	IndexSearch one = search_of(search, c);
	IndexBound from = *bound;

	from.inclusive = !equal;
	search_seek(&one, &from, true);
	return c->at;
}

void
search_range(IndexSearch *search, IndexCursor *run, const IndexBound *low, const IndexBound *high, uint64 *first,
			 uint64 *end)
{
	run->from = 0;
	run->to = run->nentries;
	*first = low ? entries_to(search, run, low, !low->inclusive) : 0;
	*end = high ? entries_to(search, run, high, high->inclusive) : run->nentries;
	*end = Max(*first, *end);
}

static void
go_to(IndexSearch *one, uint64 at)
{
	search_return(one, &at, 0, true);
}

/* How many entries of c come before the current one of another run. */
static uint64
entries_before(const IndexSearch *search, IndexCursor *c, IndexSearch *other)
{
	IndexSearch one = search_of(search, c);
	IndexBound key;
	uint64 row, low, high;

	key.n = search->meta->nkeys;
	for (int i = 0; i < key.n; i++)
	{
		key.values[i] = search_value(other, ENTRY_KEY + i, &key.nulls[i]);
		key.order[i] = search->meta->order[i];
	}
	row = search_row(other);
	low = entries_to(search, c, &key, false);
	high = entries_to(search, c, &key, true);
	while (low < high)
	{
		uint64 middle = low + (high - low) / 2;

		go_to(&one, middle);
		if (search_row(&one) < row)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
search_window(IndexSearch *search, IndexCursor *run, uint64 from, uint64 to)
{
	IndexSearch one = search_of(search, run);
	const uint64 ends[] = {from, to};
	uint64(*places)[2] = palloc(sizeof(*places) * search->ncursors);

	search_open_windows(search);
	for (int i = 0; i < search->ncursors; i++)
	{
		places[i][0] = 0;
		places[i][1] = search->cursors[i].nentries;
	}
	for (int end = 0; end < 2; end++)
	{
		if (ends[end] == 0 || ends[end] >= run->nentries)
			continue;
		go_to(&one, ends[end]);
		for (int i = 0; i < search->ncursors; i++)
			if (&search->cursors[i] != run)
				places[i][end] = entries_before(search, &search->cursors[i], &one);
	}
	for (int i = 0; i < search->ncursors; i++)
	{
		IndexCursor *c = &search->cursors[i];

		c->from = c == run ? from : places[i][0];
		c->to = c == run ? to : places[i][1];
	}
	pfree(places);
}
