/*
 * format.h: the bytes of segments and inline batches, as docs/format-segments.md describes them.
 *
 * All numbers are in the byte order of the repository (its `little_endian`); a server of the other order is refused when it attaches.
 */
#ifndef S3AM_SEGMENT_FORMAT_H
#define S3AM_SEGMENT_FORMAT_H

#include "postgres.h"

#define SEGMENT_MAGIC "S3AMSEG1"
#define SEGMENT_LEVEL 1
#define TRAILER_MAGIC 0x31424753 /* "SGB1" */

#define PAGE_TARGET (64 * 1024) /* a page ends when its rows would take more, uncompressed */
#define PAGE_MAX_RAW (64 * 1024 * 1024)
#define CHUNK_RAW (1024 * 1024) /* an overflow chunk holds this much of a value; the last one the rest */
#define CHUNK_MAX_STORED (CHUNK_RAW + 64 * 1024)

typedef struct SegmentHeader
{
	char magic[8];
	uint16 level, /* of the writer */
		min_reader, encryption, /* 0: none */
		mac; /* bytes of MAC at the object's end, 0: none */
	uint8 uuid[16]; /* of the repository */
	uint64 epoch, number;
	uint64 unused;
	uint64 checksum; /* XXH3-64 of what stands before it */
} SegmentHeader;

#define SEGMENT_HEADER_SIZE 64
StaticAssertDecl(sizeof(SegmentHeader) == SEGMENT_HEADER_SIZE, "segment header");

typedef enum ExtentKind
{
	EXTENT_PAGE = 1,
	EXTENT_CHUNK = 2 /* of an overflow value */
} ExtentKind;

/* Before each page and each overflow chunk.  Both begin at a multiple of 8 in the object and are padded to one with zeros. */
typedef struct ExtentHeader
{
	uint64 checksum; /* XXH3-64 of what follows, up to the end of the stored bytes; seed: identity + offset */
	uint32 stored; /* bytes that follow this header */
	uint32 raw; /* when decompressed */
	uint32 nrows;
	uint16 kind;
	uint16 compression; /* ExtentCompression */
} ExtentHeader;

typedef enum ExtentCompression
{
	EXTENT_PLAIN = 0,
	EXTENT_ZSTD = 1,
	EXTENT_ZSTD_COLUMNS = 2 /* the page's rows by columns (columns.h) */
} ExtentCompression;

StaticAssertDecl(sizeof(ExtentHeader) == 24, "extent header");
#define EXTENT_CHECKED offsetof(ExtentHeader, stored)

typedef struct SegmentTrailer
{
	uint64 checksum; /* XXH3-64 of the footer and the two numbers that follow; seed: identity */
	uint32 footer; /* bytes of SegmentFooter before the trailer */
	uint32 magic;
} SegmentTrailer;

StaticAssertDecl(sizeof(SegmentTrailer) == 16, "trailer");

/*
 * A page, decompressed: uint32 start[nrows], padded to 8, then rows.  start is a multiple of 8; its lowest bit says that a bitmap of
 * nulls precedes the row's values, the next one that the row is gone: it was deleted, and nothing but its number is left.  A row
 * ends where the next one starts.
 */
#define ROW_HAS_NULLS ((uint32) 1)
#define ROW_GONE ((uint32) 2)
#define ROW_START(start) ((start) & ~(uint32) 7)

/* In place of a value that went to overflow chunks: looks like a varlena with a one-byte header, never aligned. */
typedef struct OverflowPointer
{
	uint8 header; /* 0x01 (0x80 on big-endian): an external varlena */
	uint8 tag;
	uint32 raw, /* bytes of the value, without a varlena header */
		stored, /* bytes of its chunks, headers and padding included */
		offset8; /* of the first chunk, / 8 */
} pg_attribute_packed() OverflowPointer;

#define OVERFLOW_TAG 0x53

/*
 * The column in which a batch keeps each row's xmin, if its rows have different ones; the last column, four bytes.  No attribute has this
 * number.
 */
#define XMIN_COLUMN 65535
StaticAssertDecl(sizeof(OverflowPointer) == 14, "overflow pointer");

/* Where a page begins, and its first row within the batch.  n + 1 of them describe n extents. */
typedef struct PageStart
{
	uint32 first_row;
	uint32 offset8;
} PageStart;

/* What checksums of a batch are seeded with, so that bytes of another segment do not pass.  Inline rows: 0. */
extern uint64 segment_identity(const uint8 uuid[16], uint64 epoch, uint64 number);
extern uint64 extent_checksum(uint64 identity, uint64 offset, const void *header);

/*
 * Checks the extent of `kind` in `size` bytes found at `offset` and decompresses it into memory of its own, followed by 8 zero bytes.
 * Throws, naming the object.
 */
extern char *extent_open(const char *object, uint64 identity, uint64 offset, const uint8 *bytes, Size size,
						 ExtentKind kind, uint32 max_raw, MemoryContext cxt, ExtentHeader *header);

/*
 * The same in two steps: the first checks all but what decompression finds out, the second puts header->raw bytes at `to`.
 */
extern void extent_check(const char *object, uint64 identity, uint64 offset, const uint8 *bytes, Size size,
						 ExtentKind kind, uint32 max_raw, ExtentHeader *header);
extern void extent_unpack(const char *object, const ExtentHeader *header, const uint8 *bytes, char *to);

/* The starts of a page's rows: NULL, or what is wrong.  Aligned to 4. */
extern const char *page_check(const char *data, uint32 nrows, uint32 raw);

/* Errors about damaged bytes all read alike. */
extern void segment_damaged(const char *object, const char *what) pg_attribute_noreturn();

#endif
