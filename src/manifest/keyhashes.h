/*
 * keyhashes.h: sets of hashes of keys, as claims have them.
 *
 * docs/format-manifests.md has the code.  A hash stands rotated, so that its highest 39 bits are what early builds knew of it: sets of any two
 * precisions are compared by the bits that both have.
 */
#ifndef S3AM_KEYHASHES_H
#define S3AM_KEYHASHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manifest/s3am.pb-c.h"

#define KEY_HASHES_EARLY_BITS 39

/* A hash as it stands in sets; the highest so many bits of it are what a set keeps. */
static inline uint64_t
key_hash_rotate(uint64_t hash)
{
	return hash << 25 | hash >> 39;
}

/* ---------------------------------------------------------------- writing */

typedef struct KeyCoder
{
	S3am__KeyHashes *message;
	size_t bit; /* that comes next */
	uint64_t next; /* the least value that may come */
} KeyCoder;

/* How many bits each of n values may keep if all together take so many for each, at most `most`. */
extern uint32_t key_hashes_bits(uint64_t bits_each, uint64_t n, uint32_t most);
/* Bytes that at most n values of so many bits take, at most. */
extern size_t key_hashes_size(uint32_t bits, uint64_t n);
/* The message, which is initialised here, gets `room` for n values, of key_hashes_size() bytes and zeroed. */
extern void key_coder_begin(KeyCoder *coder, S3am__KeyHashes *message, uint32_t bits, uint64_t n, uint8_t *room);
/* Values ascend; one that was there before is passed over. */
extern void key_coder_put(KeyCoder *coder, uint64_t value);
extern void key_coder_end(KeyCoder *coder);

/* ---------------------------------------------------------------- reading */

/* The keys of a claim, checked once. */
typedef struct KeyHashes
{
	bool whole; /* the whole index */
	uint32_t bits;
	uint64_t n;
	const S3am__KeyClaim *claim;
	struct KeyPlace *places; /* of every so many values; NULL: a list of early builds */
} KeyHashes;

/* The claim must stay.  A list of early builds is sorted.  False: damaged. */
extern bool key_hashes_decode(KeyHashes *keys, S3am__KeyClaim *claim);
extern void key_hashes_free(KeyHashes *keys);
/* Have they one in common, as far as both tell? */
extern bool key_hashes_meet(const KeyHashes *a, const KeyHashes *b);

#endif
