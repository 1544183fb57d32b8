/*
 * endfile.h: sorted entries of removed rows in a temporary file, made once and then only read.
 */
#ifndef S3AM_ENDFILE_H
#define S3AM_ENDFILE_H

#include "postgres.h"

/* Rows `row` .. `row` + count - 1; what they became is next, next + 1, ... if that is a row. */
typedef struct EndRun
{
	uint64 row;
	uint64 next;
	CommandId cmax;
	uint32 count : 31;
	uint32 key : 1;
} EndRun;

typedef struct EndFile EndFile;

/* Written in ascending order of rows, then finished. */
extern EndFile *endfile_create(MemoryContext cxt);
extern void endfile_append(EndFile *file, const EndRun *run);
extern void endfile_finish(EndFile *file);
extern void endfile_close(EndFile *file); /* deletes it */

/* The entry that has the row. */
extern bool endfile_get(EndFile *file, uint64 row, EndRun *run);

/* All entries from the one that has `first` on, or the next one; palloc'ed. */
typedef struct EndCursor EndCursor;
extern EndCursor *endfile_seek(EndFile *file, uint64 first);
extern bool endfile_next(EndCursor *cursor, EndRun *run);
extern void endfile_end(EndCursor *cursor);

/* Any temporary file that lives as long as the transaction, in the current memory context. */
extern struct BufFile *endfiles_open(void);
/* Deletes all files of this process: the transaction ends.  Throws nothing. */
extern void endfiles_release(void);

#endif
