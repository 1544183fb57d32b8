/*
 * summary.h: nulls, smallest and largest value of a column of a segment, for its footer.
 */
#ifndef S3AM_SEGMENT_SUMMARY_H
#define S3AM_SEGMENT_SUMMARY_H

#include "postgres.h"

#include "manifest/s3am.pb-c.h"
#include "segment/codec.h"
#include "utils/typcache.h"

#define SUMMARY_PREFIX 32 /* bytes kept of a text */

typedef enum SummaryKind
{
	SUMMARY_NONE, /* nulls are counted */
	SUMMARY_SIGNED,
	SUMMARY_UNSIGNED,
	SUMMARY_FLOAT4,
	SUMMARY_FLOAT8,
	SUMMARY_BYTES, /* fixed length, compared byte by byte */
	SUMMARY_PREFIX_BYTES, /* text and bytea: the first 32 bytes, compared byte by byte */
	SUMMARY_PROCEDURE /* by the type's default btree comparison */
} SummaryKind;

typedef struct Summary
{
	SummaryKind kind;
	uint64 nulls;
	bool any;
	int16 typlen;
	Oid collation;
	TypeCacheEntry *typcache;
	union
	{
		int64 i;
		uint64 u;
		double f;
	} low, high;
	char low_bytes[NAMEDATALEN], high_bytes[NAMEDATALEN];
	int low_len, high_len;
} Summary;

extern void summary_init(Summary *summary, const Codec *codec, Oid collation);

/*
 * Adds a column of a page: values at these offsets.  A value in overflow chunks is not seen.  Not of the kind SUMMARY_PROCEDURE.  Calls
 * nothing of PostgreSQL's, so any thread may.
 */
extern void summary_add_column(Summary *summary, const char *page, const uint32 *offsets, uint32 nrows);
/* value: as a row holds it, not NULL. */
extern void summary_add(Summary *summary, Datum value);
/* What another one of the same column has seen. */
extern void summary_merge(Summary *summary, const Summary *other);
extern S3am__ColumnSummary *summary_message(const Summary *summary);

#endif
