/*
 * rowset.c: sets of rows that became full row by row take next to nothing, and have the rows that they should.  Prints TAP.
 */
#include <stdio.h>
#include <stdlib.h>

#include "manifest/rowset.h"

#define ROWS (UINT64_C(20) << 16)
#define BASE ((UINT64_C(1) << 32) - ROWS / 2) /* on both sides of a border */

static int run, failed;

static void
ok(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++run, what);
	failed += !good;
}

static size_t
bytes(const RowSet *set)
{
	S3am__RowSet *message = rowset_encode(set);
	size_t n = s3am__row_set__get_packed_size(message);

	s3am__row_set__free_unpacked(message, NULL);
	return n;
}

/* Each row once: every value of r gives another one. */
static uint64_t
row(uint64_t r, uint64_t rows)
{
	return BASE + r * 1000003 % rows;
}

int
main(void)
{
	RowSet *set = rowset_create();
	uint64_t have = 0;
	bool right = true;

	for (uint64_t r = 0; r < ROWS; r++)
	{
		rowset_add_range(set, row(r, ROWS), row(r, ROWS) + 1);
		if (r == ROWS / 2)
			right = rowset_count(set) == r + 1 && rowset_contains(set, row(r, ROWS)) &&
					!rowset_contains(set, row(r + 1, ROWS));
	}
	ok(right, "half of the rows, in no order");
	ok(rowset_count(set) == ROWS && rowset_any(set, BASE, BASE + 1) && !rowset_contains(set, BASE - 1) &&
		   !rowset_contains(set, BASE + ROWS),
	   "all of them");
	printf("# %zu bytes\n", bytes(set));
	ok(bytes(set) < 1000, "take next to nothing");

	for (uint64_t r = 0; r < ROWS; r += 7)
		rowset_remove_range(set, row(r, ROWS), row(r, ROWS) + 1);
	for (uint64_t r = 0; r < ROWS; r++)
	{
		bool in = rowset_contains(set, row(r, ROWS));

		have += in;
		right = right && in == (r % 7 != 0);
	}
	ok(right && have == rowset_count(set), "some are taken out again");
	for (uint64_t r = 0; r < ROWS; r += 7)
		rowset_add_range(set, row(r, ROWS), row(r, ROWS) + 1);
	ok(rowset_count(set) == ROWS && bytes(set) < 1000, "and come back");
	rowset_free(set);
	printf("1..%d\n", run);
	return failed != 0;
}
