/*
 * format.c: checksums, compression and checks common to pages and overflow chunks.
 */
#include "postgres.h"

#include <xxhash.h>
#include <zstd.h>

#include "utils/memutils.h"

#include "segment/columns.h"
#include "segment/format.h"

uint64
segment_identity(const uint8 uuid[16], uint64 epoch, uint64 number)
{
	uint8 id[32];

	memcpy(id, uuid, 16);
	memcpy(id + 16, &epoch, 8);
	memcpy(id + 24, &number, 8);
	return XXH3_64bits(id, sizeof(id));
}

uint64
extent_checksum(uint64 identity, uint64 offset, const void *extent)
{
	const char *p = extent;
	uint32 stored;

	memcpy(&stored, p + offsetof(ExtentHeader, stored), sizeof(stored));
	return XXH3_64bits_withSeed(p + EXTENT_CHECKED, sizeof(ExtentHeader) - EXTENT_CHECKED + stored, identity + offset);
}

void
segment_damaged(const char *object, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("rows in \"%s\" are damaged: %s", object, what)));
}

static ZSTD_DCtx *
decompressor(void)
{
	static ZSTD_DCtx *zstd;

	if (zstd == NULL && (zstd = ZSTD_createDCtx()) == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return zstd;
}

/* Rows from columns; what that needs is kept, up to what is usual. */
static bool
join_columns(const uint8 *bytes, Size stored, uint32 nrows, char *page, Size raw)
{
	static uint8 *kept;
	static ColumnCursor *cursors;
	static int ncursors;
	unsigned long long size = ZSTD_getFrameContentSize(bytes, stored);
	uint8 *columns;
	bool joined;
	int n;

	/* a page by columns is never larger */
	if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > raw)
		return false;
	if (kept == NULL)
		kept = MemoryContextAlloc(TopMemoryContext, 2 * PAGE_TARGET);
	columns = size <= 2 * PAGE_TARGET ? kept : palloc(size);
	joined = ZSTD_decompressDCtx(decompressor(), columns, size, bytes, stored) == size &&
			 (n = columns_count(columns, size)) > 0;
	if (joined)
	{
		if (ncursors < n)
		{
			ncursors = 0;
			if (cursors)
				pfree(cursors);
			cursors = NULL;
			cursors = MemoryContextAlloc(TopMemoryContext, sizeof(ColumnCursor) * n);
			ncursors = n;
		}
		joined = columns_join(columns, size, nrows, page, raw, cursors);
	}
	if (columns != kept)
		pfree(columns);
	return joined;
}

void
extent_check(const char *object, uint64 identity, uint64 offset, const uint8 *bytes, Size size, ExtentKind kind,
			 uint32 max_raw, ExtentHeader *header)
{
	if (size < sizeof(ExtentHeader))
		segment_damaged(object, "cut off");
	memcpy(header, bytes, sizeof(ExtentHeader));
	if (header->stored > size - sizeof(ExtentHeader))
		segment_damaged(object, "a page or an overflow chunk is cut off");
	if (header->checksum != extent_checksum(identity, offset, bytes))
		segment_damaged(object, "a checksum does not fit");
	/* what follows was written so: by a newer version, or by somebody who means harm */
	if (header->kind != kind || header->compression > EXTENT_ZSTD_COLUMNS ||
		(header->compression == EXTENT_ZSTD_COLUMNS && kind != EXTENT_PAGE))
		segment_damaged(object, "a page or an overflow chunk of an unknown kind");
	if (header->raw > max_raw || (header->compression == EXTENT_PLAIN && header->raw != header->stored))
		segment_damaged(object, "the length of a page or an overflow chunk does not fit");
}

void
extent_unpack(const char *object, const ExtentHeader *header, const uint8 *bytes, char *to)
{
	bool opened;

	bytes += sizeof(ExtentHeader);
	if (header->compression == EXTENT_PLAIN)
	{
		memcpy(to, bytes, header->raw);
		return;
	}
	if (header->compression == EXTENT_ZSTD)
		opened = ZSTD_decompressDCtx(decompressor(), to, header->raw, bytes, header->stored) == header->raw;
	else
		opened = join_columns(bytes, header->stored, header->nrows, to, header->raw);
	if (!opened)
		segment_damaged(object, "a page or an overflow chunk cannot be decompressed");
}

char *
extent_open(const char *object, uint64 identity, uint64 offset, const uint8 *bytes, Size size, ExtentKind kind,
			uint32 max_raw, MemoryContext cxt, ExtentHeader *header)
{
	char *memory;

	extent_check(object, identity, offset, bytes, size, kind, max_raw, header);
	memory = MemoryContextAlloc(cxt, header->raw + 8);
	PG_TRY();
	{
		extent_unpack(object, header, bytes, memory);
	}
	PG_CATCH();
	{
		pfree(memory);
		PG_RE_THROW();
	}
	PG_END_TRY();
	memset(memory + header->raw, 0, 8);
	return memory;
}

const char *
page_check(const char *data, uint32 nrows, uint32 raw)
{
	const uint32 *starts = (const uint32 *) data;
	Size before = TYPEALIGN(8, sizeof(uint32) * (Size) nrows);

	if (before > raw)
		return "a page is too short for its rows";
	for (uint32 i = 0; i < nrows; i++)
	{
		uint32 start = ROW_START(starts[i]);

		if ((starts[i] & 4) != 0 || start < before || start > raw || (i == 0 && start != before))
			return "a row lies outside its page";
		if (i > 0 && (starts[i - 1] & ROW_GONE) && start != before)
			return "a row that is gone has bytes";
		before = start;
	}
	if (nrows > 0 && (starts[nrows - 1] & ROW_GONE) && before != raw)
		return "a row that is gone has bytes";
	return NULL;
}
