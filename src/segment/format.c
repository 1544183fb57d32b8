/*
 * format.c: checksums, compression and checks common to pages and overflow chunks.
 */
#include "postgres.h"

#include <xxhash.h>
#include <zstd.h>

#include "utils/memutils.h"

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

/* `before` bytes are left free in front of what is returned. */
char *
extent_open(const char *object, uint64 identity, uint64 offset, const uint8 *bytes, Size size, ExtentKind kind,
			uint32 max_raw, Size before, MemoryContext cxt, ExtentHeader *header)
{
	static ZSTD_DCtx *zstd;
	char *memory;

	if (size < sizeof(ExtentHeader))
		segment_damaged(object, "cut off");
	memcpy(header, bytes, sizeof(ExtentHeader));
	if (header->stored > size - sizeof(ExtentHeader))
		segment_damaged(object, "a page or an overflow chunk is cut off");
	if (header->checksum != extent_checksum(identity, offset, bytes))
		segment_damaged(object, "a checksum does not fit");
	/* what follows was written so: by a newer version, or by somebody who means harm */
	if (header->kind != kind || header->compression > 1)
		segment_damaged(object, "a page or an overflow chunk of an unknown kind");
	if (header->raw > max_raw || (header->compression == 0 && header->raw != header->stored))
		segment_damaged(object, "the length of a page or an overflow chunk does not fit");
	memory = MemoryContextAlloc(cxt, before + header->raw + 8);
	bytes += sizeof(ExtentHeader);
	if (header->compression == 0)
		memcpy(memory + before, bytes, header->raw);
	else
	{
		if (zstd == NULL && (zstd = ZSTD_createDCtx()) == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		if (ZSTD_decompressDCtx(zstd, memory + before, header->raw, bytes, header->stored) != header->raw)
		{
			pfree(memory);
			segment_damaged(object, "a page or an overflow chunk cannot be decompressed");
		}
	}
	memset(memory + before + header->raw, 0, 8);
	return memory;
}
