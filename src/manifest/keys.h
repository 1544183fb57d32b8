/*
 * keys.h: names of objects, relative to the repository's prefix.
 */
#ifndef S3AM_KEYS_H
#define S3AM_KEYS_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KEY_SIZE 96
#define KEY_REPOSITORY "repository"
#define KEY_BOUNDARY "gc/boundary"
#define KEY_ROOT "root"

/* The shard comes first: it spreads load over the store's partitions. */
static inline unsigned
key_shard(uint64_t epoch, uint64_t number)
{
	return (unsigned) (((epoch << 32 | number) * UINT64_C(0x9E3779B97F4A7C15)) >> 56);
}

static inline void
key_manifest(char *key, uint64_t version)
{
	snprintf(key, KEY_SIZE, "manifests/%020" PRIu64, version);
}

static inline void
key_checkpoint(char *key, uint64_t version, uint64_t epoch)
{
	snprintf(key, KEY_SIZE, "checkpoints/%020" PRIu64 "-%016" PRIx64, version, epoch);
}

static inline void
key_page(char *key, uint64_t epoch, uint64_t number)
{
	snprintf(key, KEY_SIZE, "pages/%02x/%016" PRIx64 "-%016" PRIx64, key_shard(epoch, number), epoch, number);
}

static inline void
key_segment(char *key, uint64_t epoch, uint64_t number)
{
	snprintf(key, KEY_SIZE, "segments/%02x/%016" PRIx64 "-%016" PRIx64, key_shard(epoch, number), epoch, number);
}

static inline void
key_node(char *key, uint64_t epoch)
{
	snprintf(key, KEY_SIZE, "nodes/%020" PRIu64, epoch);
}

static inline void
key_pin(char *key, const uint8_t nonce[16])
{
	int n = snprintf(key, KEY_SIZE, "pins/");

	for (int i = 0; i < 16; i++)
		n += snprintf(key + n, KEY_SIZE - n, "%02x", nonce[i]);
}

#endif
