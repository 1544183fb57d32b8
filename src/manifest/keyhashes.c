/*
 * keyhashes.c: see keyhashes.h.
 *
 * The set stays coded, some four bytes for each of a million keys.  A place is remembered for every STRIDE values, so that a few keys are
 * looked up in many without reading all of them; two sets of one order of size are read side by side.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest/keyhashes.h"
#include "manifest/memory.h"

#define STRIDE 256

typedef struct KeyPlace
{
	uint64_t value; /* of the value that comes next there, a lower bound */
	size_t bit; /* where it begins */
} KeyPlace;

/* ------------------------------------------------------------------------------------ writing */

static uint32_t
logarithm(uint64_t n)
{
	uint32_t log = 0;

	while (log < 63 && (uint64_t) 1 << log < n)
		log++;
	return log;
}

/* Bits of each difference that stand as they are: about as many as a difference has on the average. */
static uint32_t
low_bits(uint32_t bits, uint64_t n)
{
	uint32_t log = logarithm(n);

	return bits > log ? bits - log : 0;
}

uint32_t
key_hashes_bits(uint64_t bits_each, uint64_t n, uint32_t most)
{
	uint64_t bits = (bits_each > 3 ? bits_each - 3 : 0) + logarithm(n);

	return bits < 1 ? 1 : bits < most ? (uint32_t) bits : most;
}

size_t
key_hashes_size(uint32_t bits, uint64_t n)
{
	/* what stands in unary comes to 2^bits >> low in all: twice n, at most */
	return n * (low_bits(bits, n) + 3) / 8 + 1;
}

void
key_coder_begin(KeyCoder *coder, S3am__KeyHashes *message, uint32_t bits, uint64_t n, uint8_t *room)
{
	s3am__key_hashes__init(message);
	message->bits = bits;
	message->low = low_bits(bits, n);
	message->coded.data = room;
	*coder = (KeyCoder){message, 0, 0};
}

void
key_coder_put(KeyCoder *coder, uint64_t value)
{
	S3am__KeyHashes *m = coder->message;
	uint64_t difference, low;

	if (m->n > 0 && value < coder->next)
		return;
	difference = value - coder->next;
	for (uint64_t high = m->low < 64 ? difference >> m->low : 0; high > 0; high--, coder->bit++)
		m->coded.data[coder->bit / 8] |= 1 << coder->bit % 8;
	coder->bit++;
	low = difference;
	for (uint32_t i = 0; i < m->low;)
	{
		uint32_t at = coder->bit % 8, now = 8 - at < m->low - i ? 8 - at : m->low - i;

		m->coded.data[coder->bit / 8] |= (low & ((1u << now) - 1)) << at;
		low >>= now;
		coder->bit += now;
		i += now;
	}
	coder->next = value + 1;
	m->n++;
}

void
key_coder_end(KeyCoder *coder)
{
	coder->message->coded.len = (coder->bit + 7) / 8;
}

/* ------------------------------------------------------------------------------------ reading */

typedef struct Cursor
{
	const KeyHashes *keys;
	uint64_t at; /* how many were read */
	size_t bit;
	uint64_t next, value; /* next: the least that may come */
} Cursor;

/* Reads the next value.  False: there is none, or what is there is no code. */
static bool
advance(Cursor *c)
{
	const S3am__KeyClaim *claim = c->keys->claim;
	const S3am__KeyHashes *m = claim->keys;
	uint64_t high = 0, low = 0, difference;
	size_t end;

	if (c->at == c->keys->n)
		return false;
	if (m == NULL)
	{
		c->value = claim->hashes[c->at++];
		return true;
	}
	end = m->coded.len * 8;
	while (c->bit < end && m->coded.data[c->bit / 8] >> c->bit % 8 & 1)
		high++, c->bit++;
	c->bit++;
	if (c->bit > end || end - c->bit < m->low || (high > 0 && m->low >= m->bits) ||
		(high > 0 && high > UINT64_MAX >> m->low))
		return false;
	for (uint32_t i = 0; i < m->low;)
	{
		uint32_t at = c->bit % 8, now = 8 - at < m->low - i ? 8 - at : m->low - i;

		low |= (uint64_t) (m->coded.data[c->bit / 8] >> at & ((1u << now) - 1)) << i;
		c->bit += now;
		i += now;
	}
	difference = (high > 0 ? high << m->low : 0) | low;
	if (difference > UINT64_MAX - c->next)
		return false;
	c->value = c->next + difference;
	c->next = c->value + 1; /* 0 after the greatest: then it is the last one */
	c->at++;
	return true;
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

	return x < y ? -1 : x > y;
}

bool
key_hashes_decode(KeyHashes *keys, S3am__KeyClaim *claim)
{
	const S3am__KeyHashes *m = claim->keys;
	Cursor c = {.keys = keys};

	*keys = (KeyHashes){.claim = claim};
	if (m == NULL)
	{
		if (claim->n_hashes > 0)
			qsort(claim->hashes, claim->n_hashes, sizeof(uint64_t), compare_hashes);
		keys->whole = claim->n_hashes > 0 && claim->hashes[0] == 0;
		keys->bits = KEY_HASHES_EARLY_BITS;
		keys->n = claim->n_hashes;
		return keys->n == 0 || claim->hashes[keys->n - 1] >> KEY_HASHES_EARLY_BITS == 0;
	}
	keys->bits = m->bits;
	keys->n = m->n;
	/* each takes a bit at least */
	if (m->bits == 0 || m->bits > 64 || m->low > m->bits || m->n > m->coded.len * 8)
		return false;
	keys->places = memory_need(sizeof(KeyPlace) * (m->n / STRIDE + 1));
	while (c.at < m->n)
	{
		if (c.at % STRIDE == 0)
			keys->places[c.at / STRIDE] = (KeyPlace){c.next, c.bit};
		if (!advance(&c) || (m->bits < 64 && c.value >> m->bits != 0) || (c.next == 0 && c.at < m->n))
			return false;
	}
	return true;
}

void
key_hashes_free(KeyHashes *keys)
{
	free(keys->places);
	keys->places = NULL;
}

/* Early builds had 1 for 0. */
static uint64_t
cut(const Cursor *c, uint32_t bits, bool early)
{
	uint64_t value = c->value >> (c->keys->bits - bits);

	return early && bits == KEY_HASHES_EARLY_BITS && value == 0 ? 1 : value;
}

/* Goes on to the first value that is not less, as far as so many bits tell.  False: there is none. */
static bool
seek(Cursor *c, uint64_t value, uint32_t bits, bool early)
{
	const KeyHashes *keys = c->keys;
	uint64_t low, high, from;

	if (keys->places == NULL)
	{
		/* the list of early builds */
		low = c->at;
		high = keys->n;
		while (low < high)
		{
			uint64_t middle = low + (high - low) / 2;

			if (keys->claim->hashes[middle] >> (keys->bits - bits) < value)
				low = middle + 1;
			else
				high = middle;
		}
		c->at = low;
		return advance(c);
	}
	low = (c->at + STRIDE - 1) / STRIDE;
	from = early && value == 1 ? 0 : value;
	high = keys->n == 0 ? 0 : (keys->n - 1) / STRIDE + 1;
	/* the last place at or before which all are less */
	while (low < high)
	{
		uint64_t middle = low + (high - low) / 2;

		if (keys->places[middle].value >> (keys->bits - bits) < from)
			low = middle + 1;
		else
			high = middle;
	}
	if (low > 0 && (low - 1) * STRIDE > c->at)
		*c = (Cursor){keys, (low - 1) * STRIDE, keys->places[low - 1].bit, keys->places[low - 1].value, 0};
	while (advance(c))
		if (cut(c, bits, early) >= value)
			return true;
	return false;
}

bool
key_hashes_meet(const KeyHashes *a, const KeyHashes *b)
{
	uint32_t bits = a->bits < b->bits ? a->bits : b->bits;
	bool early = a->places == NULL || b->places == NULL;
	Cursor x = {.keys = a}, y = {.keys = b};
	bool more;

	if (a->n == 0 || b->n == 0)
		return false;
	if (a->whole || b->whole)
		return true;
	more = advance(&x) && advance(&y);
	while (more)
	{
		uint64_t v = cut(&x, bits, early), w = cut(&y, bits, early);

		if (v == w)
			return true;
		more = v < w ? seek(&x, w, bits, early) : seek(&y, v, bits, early);
	}
	return false;
}
