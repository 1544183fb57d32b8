/*
 * keybytes.h: bytes that are the same for equal values, on every server.
 */
#ifndef S3AM_INDEX_KEYBYTES_H
#define S3AM_INDEX_KEYBYTES_H

#include "postgres.h"

#include "lib/stringinfo.h"

/* How values of one type are written; NULL where there should be one: the type is not on the list. */
typedef struct KeyType KeyType;

/*
 * The way for columns of a type whose values are equal by the function `equal` and by the btree support function `compare`; InvalidOid for one
 * of them that has no say.  palloc'ed in the current context.
 */
extern KeyType *key_type(Oid type, Oid equal, Oid compare, Oid collation);

/* Its number in filters (docs/format-segments.md), followed by those of what it is made of. */
#define KEY_KIND_NONE 0 /* of a column that does not count */
extern void key_type_kinds(const KeyType *type, StringInfo kinds);

/* What is hashed, as it comes, in bounded memory. */
#define KEY_SINK_SIZE 1024
typedef struct KeySink
{
	uint64 seed;
	int len;
	uint8 data[KEY_SINK_SIZE];
} KeySink;

static inline void
key_sink_begin(KeySink *sink, uint64 seed)
{
	sink->seed = seed;
	sink->len = 0;
}

extern void key_put_byte(KeySink *sink, uint8 byte);
extern void key_put_32(KeySink *sink, uint32 value);
extern void key_put_value(KeySink *sink, const KeyType *type, Datum value);
extern uint64 key_sink_hash(const KeySink *sink);

#endif
