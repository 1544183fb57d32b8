/*
 * trouble.h: how often the log is told of something that is tried again and again.  No PostgreSQL header.
 *
 * Errors of a store carry times, counts and the object that was tried last, so each try has a text of its own: what limits the
 * lines is their rate.  Three at once, so that a cause behind the first one is seen, then one a minute.
 */
#ifndef S3AM_WORKER_TROUBLE_H
#define S3AM_WORKER_TROUBLE_H

#include <stdbool.h>
#include <stdint.h>

#define TROUBLE_TEXT 1024 /* of a line, by which it is known again */
#define TROUBLE_LINE_MS 60000
#define TROUBLE_AT_ONCE 3

typedef struct Trouble
{
	char said[TROUBLE_TEXT]; /* the last line; empty: there is no trouble */
	uint64_t said_at;
	uint64_t spent; /* each line counts for a minute; they do up to this time */
} Trouble;

/* Is the log to have a line of this?  If so, the caller writes it.  now_ms: of a clock that only goes forward. */
extern bool trouble_tell(Trouble *trouble, const char *error, uint64_t now_ms);

/* It is over.  Did the log have a line of it? */
extern bool trouble_over(Trouble *trouble);

#endif
