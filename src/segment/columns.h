/*
 * columns.h: the rows of a page, column by column, which is how they compress well.
 */
#ifndef S3AM_SEGMENT_COLUMNS_H
#define S3AM_SEGMENT_COLUMNS_H

#include "postgres.h"

/* How a column's values lie in a row: see docs/format-segments.md, Page. */
typedef struct ColumnLayout
{
	int16 typlen; /* > 0, -1 varlena, -2 cstring */
	uint8 align; /* 1, 2, 4, 8 */
} ColumnLayout;

/* Where columns_join stands in a column. */
typedef struct ColumnCursor
{
	int16 typlen;
	uint8 align, encoding;
	uint32 count, next; /* values, and those done */
	const uint8 *heads, /* fixed: all values; varlena: first bytes */
		*lengths, *bodies; /* of varlenas; cstrings have bodies alone */
	uint64 previous;
} ColumnCursor;

#define COLUMNS_MAX 1664 /* MaxTupleAttributeNumber */

#define NO_VALUE PG_UINT32_MAX

/*
 * Where each value of the page is: offsets[column * nrows + row], or NO_VALUE.  Returns how many bytes all of them take by columns.  This
 * and the next one call nothing of PostgreSQL's, so any thread may.
 */
extern Size columns_find(const ColumnLayout *columns, int ncolumns, const char *page, uint32 nrows, uint32 *offsets);

/*
 * The page's `raw` bytes by columns, into `out`, which has room for `raw`.  Returns their number, or 0 if they would not be fewer.
 * `size` and `offsets` are what columns_find() made.
 */
extern Size columns_split(const ColumnLayout *columns, int ncolumns, const char *page, Size raw, uint32 nrows,
						  char *out, Size size, const uint32 *offsets);

/* How many columns there are in what columns_split made; -1: that it did not. */
extern int columns_count(const uint8 *in, Size len);

/*
 * Makes the page again: exactly `raw` bytes, with padding of zeros.  False: these bytes are not what columns_split makes of so many
 * rows; nothing was written outside of the page.  `cursors` has room for columns_count().
 */
extern bool columns_join(const uint8 *in, Size len, uint32 nrows, char *page, Size raw, ColumnCursor *cursors);

#endif
