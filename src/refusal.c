/*
 * refusal.c: see refusal.h.
 */
#include "postgres.h"

#include "refusal.h"

static void
refuse(int level, size_t size)
{
	ereport(level, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
					errdetail("Failed on request of size %zu.", size)));
}

void
refusal_throws(size_t size)
{
	refuse(ERROR, size);
}

void
refusal_leaves(size_t size)
{
	refuse(FATAL, size);
}
