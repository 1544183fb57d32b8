/*
 * leaf.h: the batches of a checkpoint's page, one after the other, without a message for each.
 *
 * A server reads thousands of them for the first row of a leaf that somebody needs, and making messages out of them would take most of that time.
 */
#ifndef S3AM_LEAF_H
#define S3AM_LEAF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manifest/s3am.pb-c.h"

typedef struct LeafReader
{
	const uint8_t *at, *end; /* what is not read yet */
	ProtobufCAllocator *allocator;
	size_t n; /* batches of the page */
	bool damaged;
	/* the batch at hand; what it points to is overwritten by the next one, or lies in the page */
	S3am__BatchState state;
	S3am__Batch batch;
	S3am__SegmentRef segment;
	S3am__KeyFilter filter;
	S3am__PageDirectory pages;
	size_t rows_capacity, size8_capacity;
	/* the schema of the batch at hand, and of those before it that had the same */
	S3am__BatchSchema *schema;
	const uint8_t *schema_bytes;
	size_t schema_len;
	bool same_schema; /* as the batch before it */
} LeafReader;

/*
 * All of a packed Page but its batches; NULL: it cannot be decoded.  The bytes must live as long as the reader, which allocates by the
 * allocator and frees nothing: that is for a context of memory that goes as a whole.
 */
extern S3am__Page *leaf_open(LeafReader *reader, const uint8_t *bytes, size_t len, ProtobufCAllocator *allocator);

/* The next batch, valid until the next call; NULL: there are no more, or, if reader->damaged is set, it cannot be decoded. */
extern const S3am__BatchState *leaf_next(LeafReader *reader);

#endif
