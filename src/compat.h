/*
 * compat.h: differences between PostgreSQL's major versions, all of them.
 */
#ifndef S3AM_COMPAT_H
#define S3AM_COMPAT_H

#include "postgres.h"

#include "fmgr.h"

/* Before 16 a function declared for SQL is not exported when visibility is hidden. */
#define S3AM_FUNCTION(name)                                                                                            \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                                                                          \
	PG_FUNCTION_INFO_V1(name)

#endif
