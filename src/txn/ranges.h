/*
 * ranges.h: ranges of keys of an index, by the bytes that have their order (index/keyorder.h).
 */
#ifndef S3AM_TXN_RANGES_H
#define S3AM_TXN_RANGES_H

#include "postgres.h"

#include "manifest/s3am.pb-c.h"

/* Of a key as many bytes count; those of all keys begin with a byte below 0xFF. */
#define KEY_END_MAX 48

typedef struct KeyEnd
{
	uint8 len;
	uint8 bytes[KEY_END_MAX];
} KeyEnd;

/* Keys from low on that come before high. */
typedef struct KeyRange
{
	KeyEnd low, high;
} KeyRange;

/* A bounded number of ranges: with more, those that lie closest become one.  Zeroed but for max, it is empty. */
typedef struct KeyRanges
{
	int max; /* at least 2 */
	MemoryContext cxt;
	bool sorted; /* ascending, without overlap */
	int n, capacity;
	KeyRange *ranges;
} KeyRanges;

/* The end of all keys that begin with these bytes: *end may be *key. */
extern void key_end_of(const KeyEnd *key, KeyEnd *end);
extern int key_end_compare(const KeyEnd *a, const KeyEnd *b);

extern void key_ranges_add(KeyRanges *set, const KeyRange *range);
/* As they stand in a message, palloc'ed in the current context: their number. */
extern size_t key_ranges_write(KeyRanges *set, S3am__KeyRange ***messages);

#endif
