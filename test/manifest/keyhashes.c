/*
 * keyhashes.c: sets of hashes of keys of any size and precision meet when they have one in common, and as good as never else, those of early
 * builds, too; damaged ones are recognised.  Prints TAP.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/keyhashes.h"

static int run, failed;

static void
ok(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++run, what);
	failed += !good;
}

static uint64_t state = 88172645463325252ULL;

static uint64_t
any(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state * 2685821657736338717ULL;
}

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

	return x < y ? -1 : x > y;
}

/* A claim with so many bits of these hashes; 0: as early builds made it. */
static S3am__KeyClaim *
claim_of(const uint64_t *hashes, uint64_t n, uint32_t bits)
{
	S3am__KeyClaim *claim = malloc(sizeof(*claim));
	uint64_t *sorted = malloc(sizeof(uint64_t) * (n + 1));

	s3am__key_claim__init(claim);
	for (uint64_t i = 0; i < n; i++)
	{
		uint64_t early = hashes[i] & (((uint64_t) 1 << 39) - 1);

		sorted[i] = bits ? key_hash_rotate(hashes[i]) >> (64 - bits) : early ? early : 1;
	}
	if (bits == 0)
	{
		claim->hashes = sorted;
		claim->n_hashes = n;
		return claim;
	}
	claim->hashes = calloc(1, sizeof(uint64_t));
	claim->n_hashes = 1;
	claim->keys = malloc(sizeof(*claim->keys));
	{
		size_t size = key_hashes_size(bits, n);
		KeyCoder coder;

		qsort(sorted, n, sizeof(uint64_t), compare);
		key_coder_begin(&coder, claim->keys, bits, n, calloc(1, size));
		for (uint64_t i = 0; i < n; i++)
			key_coder_put(&coder, sorted[i]);
		key_coder_end(&coder);
		if (claim->keys->coded.len > size)
			ok(false, "the code fits into its room");
		/* exactly as much as there is, so that reading beyond is found */
		claim->keys->coded.data = realloc(claim->keys->coded.data, claim->keys->coded.len + !claim->keys->coded.len);
	}
	free(sorted);
	return claim;
}

static bool
meet(S3am__KeyClaim *a, S3am__KeyClaim *b)
{
	KeyHashes x, y;
	bool good = key_hashes_decode(&x, a) & key_hashes_decode(&y, b), there, back;

	there = good && key_hashes_meet(&x, &y);
	back = good && key_hashes_meet(&y, &x);
	key_hashes_free(&x);
	key_hashes_free(&y);
	if (!good || there != back)
		ok(false, good ? "both ways the same" : "both are read");
	return there;
}

static void
release(S3am__KeyClaim *claim)
{
	s3am__key_claim__free_unpacked(claim, NULL);
}

/* Two sets of so many, and the same with one of the first in the second. */
static void
pair(uint64_t na, uint32_t bits_a, uint64_t nb, uint32_t bits_b, bool expect_none)
{
	uint64_t *a = malloc(sizeof(uint64_t) * (na + 1)), *b = malloc(sizeof(uint64_t) * (nb + 1));
	S3am__KeyClaim *x, *y;
	char what[200];
	bool never = true, always = true;

	for (int turn = 0; turn < 6; turn++)
	{
		for (uint64_t i = 0; i < na; i++)
			a[i] = any();
		for (uint64_t i = 0; i < nb; i++)
			b[i] = any();
		/* the ends of what there can be */
		if (turn == 1)
			a[0] = 0;
		if (turn == 2)
			a[0] = UINT64_MAX;
		if (turn == 3)
			a[0] = (uint64_t) 1 << 39;
		x = claim_of(a, na, bits_a);
		y = claim_of(b, nb, bits_b);
		never = never && !meet(x, y);
		release(y);
		b[any() % nb] = turn < 4 ? a[0] : a[any() % na];
		y = claim_of(b, nb, bits_b);
		always = always && meet(x, y);
		release(x);
		release(y);
	}
	snprintf(what, sizeof(what), "%llu of %u bits and %llu of %u", (unsigned long long) na, bits_a,
			 (unsigned long long) nb, bits_b);
	ok(always && (never || !expect_none), what);
	free(a);
	free(b);
}

static void
damage(void)
{
	uint64_t hashes[1000];
	S3am__KeyClaim *claim;
	int read = 0;

	for (int i = 0; i < 1000; i++)
		hashes[i] = any();
	claim = claim_of(hashes, 1000, 54);
	for (int turn = 0; turn < 5000; turn++)
	{
		S3am__KeyHashes *m = claim->keys;
		size_t at = any() % m->coded.len, len = m->coded.len;
		uint8_t old = m->coded.data[at];
		uint32_t bits = m->bits, low = m->low;
		uint64_t n = m->n;
		KeyHashes keys, other;

		switch (any() % 5)
		{
			case 0:
				m->n = any() >> any() % 64;
				break;
			case 1:
				m->bits = any() >> any() % 64;
				break;
			case 2:
				m->low = any() >> any() % 64;
				break;
			case 3:
				m->coded.len = any() % len;
				break;
			default:
				m->coded.data[at] ^= 1 << any() % 8;
		}
		if (key_hashes_decode(&keys, claim) && key_hashes_decode(&other, claim))
		{
			read++;
			if (keys.n > 0 && !key_hashes_meet(&keys, &other))
				ok(false, "what was read meets itself");
			key_hashes_free(&other);
		}
		key_hashes_free(&keys);
		m->coded.data[at] = old;
		m->coded.len = len;
		m->bits = bits;
		m->low = low;
		m->n = n;
	}
	release(claim);
	printf("# %d of 5,000 damaged sets are sets all the same\n", read);
	ok(true, "damaged sets are read or refused, and no more");
}

int
main(void)
{
	static const uint32_t bits[] = {0, 64, 54, 45, 39};
	static const uint64_t sizes[] = {1, 2, 300, 5000};

	for (int a = 0; a < 5; a++)
		for (int b = 0; b < 5; b++)
			for (int i = 0; i < 4; i++)
				for (int j = 0; j < 4; j++)
					/* with 5,000 each the lowest precisions have something in common at times */
					pair(sizes[i], bits[a], sizes[j], bits[b], sizes[i] * sizes[j] <= 10000);
	pair(5000, 20, 1, 64, false);
	pair(5000, 14, 5000, 20, false);
	pair(5000, 8, 1, 0, false);
	pair(5000, 1, 5000, 3, false);
	pair(50000, 54, 50000, 54, true);
	{
		uint64_t *hashes = malloc(sizeof(uint64_t) * 300000);
		S3am__KeyClaim *claim;

		for (int i = 0; i < 300000; i++)
			hashes[i] = any();
		claim = claim_of(hashes, 300000, 54);
		printf("# 300,000 of 54 bits: %zu bytes\n", claim->keys->coded.len);
		ok(claim->keys->n == 300000 && claim->keys->coded.len < 300000 * 5, "many take less than five bytes each");
		release(claim);
		claim = claim_of(hashes, 1, 64);
		ok(s3am__key_claim__get_packed_size(claim) < 32, "one takes less than 32");
		release(claim);
		free(hashes);
	}
	{
		uint64_t hash = any();
		S3am__KeyClaim *whole = claim_of(NULL, 0, 0), *one = claim_of(&hash, 1, 64), *early = claim_of(&hash, 1, 0);

		whole->n_hashes = 1;
		whole->hashes[0] = 0;
		ok(meet(whole, one) && meet(whole, early) && meet(whole, whole), "the whole index meets every key");
		release(whole);
		release(one);
		release(early);
	}
	{
		uint64_t hash = any(), other = hash ^ (uint64_t) 1 << 39;
		S3am__KeyClaim *one = claim_of(&hash, 1, 64), *two = claim_of(&other, 1, 64), *early = claim_of(&other, 1, 0);

		ok(!meet(one, two) && meet(one, early),
		   "hashes that differ above the 39th bit alone meet in claims of early builds only");
		release(one);
		release(two);
		release(early);
	}
	damage();
	printf("1..%d\n", run);
	return failed != 0;
}
