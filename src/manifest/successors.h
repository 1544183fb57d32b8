/*
 * successors.h: the successors of an edit's removed and replaced rows, one after the other.
 */
#ifndef S3AM_SUCCESSORS_H
#define S3AM_SUCCESSORS_H

#include "manifest/s3am.pb-c.h"

typedef struct Successors
{
	const S3am__TableEdit *edit;
	size_t run; /* the next row's */
	uint64_t used; /* rows of it that were told */
} Successors;

/* Of the next row; 0 if the edit names none. */
static inline uint64_t
successors_next(Successors *s)
{
	const S3am__TableEdit *edit = s->edit;
	uint64_t first;

	while (s->run < edit->n_successors && s->run < edit->n_successor_counts &&
		   s->used == edit->successor_counts[s->run])
	{
		s->run++;
		s->used = 0;
	}
	if (s->run >= edit->n_successors || s->run >= edit->n_successor_counts)
		return 0;
	first = edit->successors[s->run];
	return first < 2 ? (s->used++, first) : first + s->used++;
}

#endif
