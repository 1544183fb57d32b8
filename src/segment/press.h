/*
 * press.h: pages into their stored form, beside the process that fills them.
 */
#ifndef S3AM_SEGMENT_PRESS_H
#define S3AM_SEGMENT_PRESS_H

#include "segment/columns.h"
#include "segment/format.h"
#include "segment/summary.h"

typedef struct Press Press;

/*
 * Summaries of the columns of all pages that one of the two presses, which are its own.  Not all pages were seen if `short_of_memory`.
 */
typedef struct PressSums
{
	bool short_of_memory;
	Summary *columns;
} PressSums;

/* malloc'ed; NULL: no memory, or no thread can be had.  `columns` must live as long, and `sums`, which are the process's own. */
extern Press *press_create(const ColumnLayout *columns, int ncolumns, PressSums *sums);

/* Adds what the thread has seen to the process's, once all pages were got. */
extern void press_sum(Press *press);

/* Waits for what a thread is at just now, forgets all else. */
extern void press_free(Press *press);

/* Room for a page of `raw` bytes, which is to be filled, and then given with press_put(); NULL: there is none before a press_get(). */
extern char *press_room(Press *press, Size raw);
extern void press_put(Press *press, Size raw, uint32 nrows);

/* The oldest page that was put, complete but for its checksum, until the next call; NULL: there is none. */
extern ExtentHeader *press_get(Press *press);

/* One extent now, into `to`, which has room for press_bound(raw).  Its checksum is missing.  sums: NULL if nobody wants any. */
extern void press_now(ExtentKind kind, uint32 nrows, const char *data, uint32 raw, const ColumnLayout *columns,
					  int ncolumns, PressSums *sums, ExtentHeader *to);
extern Size press_bound(Size raw);

#endif
