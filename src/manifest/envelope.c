/*
 * envelope.c: sealing and opening objects.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "manifest/envelope.h"
#include "manifest/memory.h"

#define MAX_PAYLOAD ((uint64_t) 1 << 30)
#define COMPRESS_FROM 4096

static const uint8_t magic[4] = {'S', '3', 'A', 'M'};

static void
put(uint8_t *p, uint64_t v, int n)
{
	for (int i = 0; i < n; i++)
		p[i] = v >> (8 * i);
}

static uint64_t
get(const uint8_t *p, int n)
{
	uint64_t v = 0;

	for (int i = 0; i < n; i++)
		v |= (uint64_t) p[i] << (8 * i);
	return v;
}

/* False: no memory. */
static bool
checksum(const uint8_t *object, size_t stored, uint64_t *sum)
{
	static XXH3_state_t *state; /* made once */

	if (state == NULL)
		state = XXH3_createState();
	if (state == NULL)
		return false;
	XXH3_64bits_reset(state);
	XXH3_64bits_update(state, object, 56);
	XXH3_64bits_update(state, object + ENVELOPE_SIZE, stored);
	*sum = XXH3_64bits_digest(state);
	return true;
}

uint8_t *
envelope_seal(EnvelopeKind kind, const uint8_t uuid[16], const char *key, const void *payload, size_t len,
			  size_t *object_len)
{
	size_t bound = len >= COMPRESS_FROM ? ZSTD_compressBound(len) : len;
	uint8_t *object = malloc(ENVELOPE_SIZE + bound);
	size_t stored = len;
	bool compressed = false;
	uint64_t sum;

	if (object == NULL)
		return NULL;
	memset(object, 0, ENVELOPE_SIZE);
	if (len >= COMPRESS_FROM)
	{
		size_t n = ZSTD_compress(object + ENVELOPE_SIZE, bound, payload, len, 1);

		if (!ZSTD_isError(n) && n < len)
		{
			compressed = true;
			stored = n;
		}
	}
	if (!compressed && len)
		memcpy(object + ENVELOPE_SIZE, payload, len);
	memcpy(object, magic, sizeof(magic));
	object[4] = kind;
	object[5] = compressed;
	put(object + 6, S3AM_FORMAT_LEVEL, 2);
	put(object + 8, 1, 2);
	put(object + 16, stored, 8);
	put(object + 24, len, 8);
	memcpy(object + 32, uuid, 16);
	put(object + 48, XXH3_64bits(key, strlen(key)), 8);
	if (!checksum(object, stored, &sum))
	{
		free(object);
		return NULL;
	}
	put(object + 56, sum, 8);
	*object_len = ENVELOPE_SIZE + stored;
	return object;
}

static uint8_t *
refuse(char **error, const char *key, const char *why)
{
	char text[512];

	snprintf(text, sizeof(text), "object \"%.300s\" %s", key, why);
	*error = memory_copy_text(text);
	return NULL;
}

uint8_t *
envelope_open(EnvelopeKind kind, const uint8_t *uuid, const char *key, const uint8_t *object, size_t object_len,
			  size_t *len, uint8_t *found_uuid, char **error)
{
	uint64_t stored, raw, sum;
	uint8_t *payload;

	if (object_len < ENVELOPE_SIZE)
	{
		char why[100];

		snprintf(why, sizeof(why), "is damaged: it is cut off after %zu bytes", object_len);
		return refuse(error, key, why);
	}
	if (memcmp(object, magic, sizeof(magic)) != 0)
		return refuse(error, key, "is not one of s3am's");
	if (get(object + 8, 2) > S3AM_FORMAT_LEVEL)
		return refuse(error, key, "was written in a newer format: upgrade s3am on this server");
	stored = get(object + 16, 8);
	raw = get(object + 24, 8);
	if (stored > object_len - ENVELOPE_SIZE || stored + get(object + 12, 4) != object_len - ENVELOPE_SIZE ||
		raw > MAX_PAYLOAD)
		return refuse(error, key, "is damaged: its length is not what its header says");
	if (!checksum(object, stored, &sum))
		return refuse(error, key, "cannot be checked: out of memory");
	if (get(object + 56, 8) != sum)
		return refuse(error, key, "is damaged: its checksum does not fit");
	if (object[4] != kind)
		return refuse(error, key, "is damaged: it is an object of another kind");
	if (get(object + 48, 8) != XXH3_64bits(key, strlen(key)))
		return refuse(error, key, "is damaged: it was written under another name");
	if (uuid && memcmp(uuid, object + 32, 16) != 0)
		return refuse(error, key, "belongs to another repository");
	if (get(object + 10, 2) != 0)
		return refuse(error, key, "is encrypted, which this version of s3am cannot read");
	if (object[5] > 1 || (object[5] == 0 && raw != stored))
		return refuse(error, key, "is damaged: unknown compression");
	payload = memory_need(raw);
	if (object[5] == 0)
		memcpy(payload, object + ENVELOPE_SIZE, raw);
	else
	{
		size_t n = ZSTD_decompress(payload, raw, object + ENVELOPE_SIZE, stored);

		if (n != raw)
		{
			free(payload);
			if (ZSTD_isError(n) && ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
				memory_refused(raw);
			return refuse(error, key, "is damaged: it cannot be decompressed");
		}
	}
	if (found_uuid)
		memcpy(found_uuid, object + 32, 16);
	*len = raw;
	return payload;
}

void
envelope_digest(const uint8_t *object, size_t len, uint8_t digest[16])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(object, len));
	memcpy(digest, canonical.digest, 16);
}
