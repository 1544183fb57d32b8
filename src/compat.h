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

/*
 * Core asks at many places whether an index is a B-tree by the OID of its access method, and src/index/flip.c answers at each of them.
 * Where those places are has been looked at, and tried, on this version only: 16 renames pg_class_ownercheck(), 18 has no
 * heap_inplace_update() any more, and asks most of these questions of the access method itself.
 */
#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "src/index/flip.c has to be gone through for this major version of PostgreSQL"
#endif

/* Changes a catalog row where it is, seen or not by the current command.  Until 17. */
#define catalog_update_in_place(catalog, tuple) heap_inplace_update(catalog, tuple)
/* Until 15. */
#define relation_is_owned(relid) pg_class_ownercheck(relid, GetUserId())
/* Copies the value.  Until 15: 16 has another argument that says so. */
#define tuplesort_next_datum(state, value, isnull) tuplesort_getdatum(state, true, value, isnull, NULL)

#endif
