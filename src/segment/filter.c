/*
 * filter.c: which hashes a segment may have: a Bloom filter in blocks.
 *
 * All bits of a hash are in one block of 64 bytes, one in each of its eight words, so that a look costs one cache line.  With ten bits for each
 * hash one in about ninety that are not there seems to be.  Blocks lie in chunks of 64 kB, which are read and cached one by one; docs/format-segments.md
 * has the bytes.
 */
#include "postgres.h"

#include <xxhash.h>

#include "miscadmin.h"

#include "cache/cache.h"
#include "segment/batch.h"

#define BITS_PER_HASH 10
#define WORDS 8 /* of a block */
#define BLOCK_BYTES (WORDS * sizeof(uint64))
#define CHUNK_BLOCKS 1024
#define CHUNK_BYTES (CHUNK_BLOCKS * BLOCK_BYTES)
#define CHUNK_STORED (sizeof(ExtentHeader) + CHUNK_BYTES)

static inline uint32
block_of(uint64 hash, uint32 blocks)
{
	return (hash >> 32) * blocks >> 32;
}

/* Where its bit in each word is: six bits of this for each. */
static inline uint64
places_of(uint64 hash)
{
	return ((hash ^ hash >> 29) * UINT64CONST(0x9E3779B97F4A7C15)) >> 16;
}

void
filter_write(RowWriter *writer, const uint64 *hashes, uint64 n, const uint8 *kinds, Size nkinds)
{
	uint64 blocks = (n * BITS_PER_HASH + BLOCK_BYTES * 8 - 1) / (BLOCK_BYTES * 8);
	S3am__KeyFilter *filter = palloc(sizeof(*filter));
	uint64 *words;

	Assert(n > 0);
	if (blocks > PG_UINT32_MAX)
		return;
	words = MemoryContextAllocExtended(CurrentMemoryContext, blocks * BLOCK_BYTES, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint64 i = 0; i < n; i++)
	{
		uint64 *block = words + (Size) block_of(hashes[i], blocks) * WORDS;
		uint64 places = places_of(hashes[i]);

		for (int w = 0; w < WORDS; w++, places >>= 6)
			block[w] |= UINT64CONST(1) << (places & 63);
	}
	s3am__key_filter__init(filter);
	filter->kinds.data = palloc(nkinds);
	memcpy(filter->kinds.data, kinds, nkinds);
	filter->kinds.len = nkinds;
	filter->blocks = blocks;
	for (uint64 first = 0; first < blocks; first += CHUNK_BLOCKS)
	{
		uint32 offset8 = row_writer_add_chunk(writer, words + first * WORDS,
											  Min(blocks - first, (uint64) CHUNK_BLOCKS) * BLOCK_BYTES);

		CHECK_FOR_INTERRUPTS();
		if (first == 0)
			filter->offset8 = offset8;
	}
	pfree(words);
	row_writer_note_filter(writer, filter);
}

uint64
filter_kinds_hash(const uint8 *kinds, Size n)
{
	uint64 hash = XXH3_64bits(kinds, n);

	return hash == 0 ? 1 : hash;
}

void
filter_describe(BatchFilter *filter, const S3am__Batch *batch)
{
	memset(filter, 0, sizeof(*filter));
	if (batch->filter == NULL || batch->segment == NULL || batch->filter->blocks == 0)
		return;
	filter->kinds = filter_kinds_hash(batch->filter->kinds.data, batch->filter->kinds.len);
	filter->blocks = batch->filter->blocks;
	filter->offset8 = batch->filter->offset8;
}

/* Chunk n, pinned; false: there is no room in the cache for it. */
static bool
find_chunk(const BatchSource *source, const BatchFilter *filter, uint32 n, CachePin *pin)
{
	uint32 len = Min(filter->blocks - n * CHUNK_BLOCKS, CHUNK_BLOCKS) * BLOCK_BYTES;
	uint64 offset = (uint64) filter->offset8 * 8 + (uint64) n * CHUNK_STORED;
	uint64 size = sizeof(ExtentHeader) + len;
	const uint8 *volatile bytes = NULL;
	CacheAnswer answer;
	volatile bool published = false;
	char object[SEGMENT_NAME];
	CacheKey key;

	memset(&key, 0, sizeof(key));
	key.owner = source->cache_owner;
	key.kind = CACHE_METADATA;
	key.epoch = source->epoch;
	key.number = source->number;
	key.offset = offset;
	if (offset > source->len || size > source->len - offset)
		segment_damaged(segment_object(source->epoch, source->number), "a filter lies outside of it");
	answer = cache_find(&key, NULL, pin);
	if (answer == CACHE_PRIVATE)
		return false;
	if (answer == CACHE_LOAD)
	{
		segment_name(source->epoch, source->number, object);
		PG_TRY();
		{
			ExtentHeader header;
			char *room;

			bytes = segment_read(source->epoch, source->number, offset, size);
			extent_check(object, source->identity, offset, bytes, size, EXTENT_CHUNK, CHUNK_BYTES, &header);
			if (header.raw != len)
				segment_damaged(object, "a filter has not the length that its manifest says");
			room = cache_room(&key, len, NULL, pin);
			if (room)
			{
				extent_unpack(object, &header, bytes, room);
				cache_publish(&key, 0, pin);
				published = true;
			}
			else
				cache_abandon();
			pfree((void *) bytes);
		}
		PG_CATCH();
		{
			cache_abandon();
			PG_RE_THROW();
		}
		PG_END_TRY();
		return published;
	}
	if (pin->len != len)
	{
		cache_release(pin);
		segment_damaged(segment_object(source->epoch, source->number),
						"a filter has not the length that its manifest says");
	}
	return true;
}

bool
filter_may_have(const BatchSource *source, const BatchFilter *filter, uint64 hash)
{
	uint32 block;
	CachePin pin;
	const uint64 *words;
	uint64 places = places_of(hash), found = 1;

	/* who does not use the cache would read a chunk for each hash */
	if (filter->blocks == 0 || source->cache_owner == 0)
		return true;
	block = block_of(hash, filter->blocks);
	if (!find_chunk(source, filter, block / CHUNK_BLOCKS, &pin))
		return true;
	words = (const uint64 *) pin.data + (Size) (block % CHUNK_BLOCKS) * WORDS;
	for (int w = 0; w < WORDS; w++, places >>= 6)
		found &= words[w] >> (places & 63);
	cache_release(&pin);
	return (found & 1) != 0;
}
