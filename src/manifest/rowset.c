/*
 * rowset.c: see rowset.h.
 */
#include <stdlib.h>
#include <string.h>

#include <roaring/roaring.h>

#include "manifest/memory.h"
#include "manifest/rowset.h"

typedef struct Part
{
	uint32_t high;
	roaring_bitmap_t *bitmap;
} Part;

struct RowSet
{
	Part *parts; /* ascending by high */
	size_t n, capacity;
};

/*
 * CRoaring does not look whether it got the memory that it asked for, so what the next call of it may need must be there before: this
 * leaves if it is not.  A container takes at most 8 kB; one that changes is made anew, or changes its kind; a list of them grows by half.
 */
#define CONTAINER_BYTES 8192
#define LIST_BYTES (sizeof(void *) + 3) /* of each container, in the lists of a bitmap */
#define SLACK (4 * CONTAINER_BYTES)

void
rowset_expect_range(const struct roaring_bitmap_s *bitmap, uint64_t n)
{
	memory_expect(SLACK + 2 * LIST_BYTES * (size_t) bitmap->high_low_container.size +
				  (n >> 16) * (2 * LIST_BYTES + 64));
}

static void
expect_change(const roaring_bitmap_t *bitmap)
{
	rowset_expect_range(bitmap, 0);
}

/* All of `other` goes into the bitmap. */
static void
expect_union(const roaring_bitmap_t *bitmap, const roaring_bitmap_t *other)
{
	size_t containers = (size_t) bitmap->high_low_container.size + other->high_low_container.size;

	memory_expect(SLACK + 2 * (roaring_bitmap_portable_size_in_bytes(bitmap) +
							   roaring_bitmap_portable_size_in_bytes(other) + (LIST_BYTES + 32) * containers));
}

void
rowset_expect_bitmap(const uint8_t *bytes, size_t len)
{
	uint32_t cookie = 0, n = 0;

	if (len >= 2 * sizeof(uint32_t))
	{
		memcpy(&cookie, bytes, sizeof(cookie));
		memcpy(&n, bytes + sizeof(cookie), sizeof(n));
	}
	/* one with runs has their number in it, else it follows */
	n = (cookie & 0xffff) == 12347 ? (cookie >> 16) + 1 : n;
	memory_expect(SLACK + 2 * len + (LIST_BYTES + 64) * (size_t) (n < 65536 ? n : 65536));
}

RowSet *
rowset_create(void)
{
	return memory_need_zeroed(1, sizeof(RowSet));
}

void
rowset_free(RowSet *set)
{
	if (set == NULL)
		return;
	for (size_t i = 0; i < set->n; i++)
		roaring_bitmap_free(set->parts[i].bitmap);
	free(set->parts);
	free(set);
}

static size_t
position(const RowSet *set, uint32_t high)
{
	size_t i = 0;

	while (i < set->n && set->parts[i].high < high)
		i++;
	return i;
}

static roaring_bitmap_t *
part_of(RowSet *set, uint32_t high)
{
	size_t i = position(set, high);
	roaring_bitmap_t *bitmap;

	if (i < set->n && set->parts[i].high == high)
		return set->parts[i].bitmap;
	if (set->n == set->capacity)
	{
		size_t capacity = set->capacity ? set->capacity * 2 : 2;

		set->parts = memory_grow(set->parts, capacity * sizeof(Part));
		set->capacity = capacity;
	}
	bitmap = roaring_bitmap_create();
	if (bitmap == NULL)
		memory_refused(sizeof(roaring_bitmap_t));
	memmove(&set->parts[i + 1], &set->parts[i], (set->n - i) * sizeof(Part));
	set->n++;
	set->parts[i] = (Part){high, bitmap};
	return bitmap;
}

void
rowset_add(RowSet *set, uint64_t row)
{
	roaring_bitmap_t *bitmap = part_of(set, row >> 32);

	expect_change(bitmap);
	roaring_bitmap_add(bitmap, (uint32_t) row);
}

void
rowset_add_range(RowSet *set, uint64_t from, uint64_t to)
{
	while (from < to)
	{
		roaring_bitmap_t *bitmap = part_of(set, from >> 32);
		uint64_t end = ((from >> 32) + 1) << 32; /* 0: beyond the last */
		uint64_t n = (end != 0 && to > end ? end : to) - from;

		rowset_expect_range(bitmap, n);
		/* for a single row, too: unlike roaring_bitmap_add() it makes a run of a container that has become full */
		roaring_bitmap_add_range_closed(bitmap, (uint32_t) from, (uint32_t) (from + n - 1));
		from += n;
	}
}

void
rowset_remove(RowSet *set, uint64_t row)
{
	size_t i = position(set, row >> 32);

	if (i < set->n && set->parts[i].high == (uint32_t) (row >> 32))
	{
		expect_change(set->parts[i].bitmap);
		roaring_bitmap_remove(set->parts[i].bitmap, (uint32_t) row);
	}
}

bool
rowset_contains(const RowSet *set, uint64_t row)
{
	size_t i = position(set, row >> 32);

	return i < set->n && set->parts[i].high == (uint32_t) (row >> 32) &&
		   roaring_bitmap_contains(set->parts[i].bitmap, (uint32_t) row);
}

bool
rowset_empty(const RowSet *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (!roaring_bitmap_is_empty(set->parts[i].bitmap))
			return false;
	return true;
}

uint64_t
rowset_count(const RowSet *set)
{
	uint64_t n = 0;

	for (size_t i = 0; i < set->n; i++)
		n += roaring_bitmap_get_cardinality(set->parts[i].bitmap);
	return n;
}

bool
rowset_intersects(const RowSet *a, const RowSet *b)
{
	for (size_t i = 0, j = 0; i < a->n && j < b->n;)
	{
		if (a->parts[i].high < b->parts[j].high)
			i++;
		else if (a->parts[i].high > b->parts[j].high)
			j++;
		else if (roaring_bitmap_intersect(a->parts[i++].bitmap, b->parts[j++].bitmap))
			return true;
	}
	return false;
}

RowSet *
rowset_copy(const RowSet *set)
{
	RowSet *copy = rowset_create();

	rowset_add_all(copy, set);
	return copy;
}

static void
add_bitmap(roaring_bitmap_t *bitmap, const roaring_bitmap_t *other)
{
	expect_union(bitmap, other);
	roaring_bitmap_or_inplace(bitmap, other);
}

void
rowset_add_all(RowSet *set, const RowSet *other)
{
	for (size_t i = 0; i < other->n; i++)
		add_bitmap(part_of(set, other->parts[i].high), other->parts[i].bitmap);
}

/* The bounds of [from, to) within the rows that have these high bits.  False: there are none. */
static bool
bounds_within(uint32_t high, uint64_t from, uint64_t to, uint64_t *low_from, uint64_t *low_to)
{
	uint64_t base = (uint64_t) high << 32;
	uint64_t end = base + ((uint64_t) 1 << 32); /* 0: beyond the last */

	if (to <= base || (end != 0 && from >= end))
		return false;
	*low_from = from > base ? from - base : 0;
	*low_to = end != 0 && to >= end ? (uint64_t) 1 << 32 : to - base;
	return *low_from < *low_to;
}

void
rowset_remove_range(RowSet *set, uint64_t from, uint64_t to)
{
	for (size_t i = 0; i < set->n; i++)
	{
		uint64_t a, b;

		if (!bounds_within(set->parts[i].high, from, to, &a, &b))
			continue;
		expect_change(set->parts[i].bitmap);
		roaring_bitmap_remove_range(set->parts[i].bitmap, a, b);
	}
}

bool
rowset_any(const RowSet *set, uint64_t from, uint64_t to)
{
	for (size_t i = 0; i < set->n; i++)
	{
		uint64_t a, b;

		if (bounds_within(set->parts[i].high, from, to, &a, &b) &&
			roaring_bitmap_range_cardinality(set->parts[i].bitmap, a, b) > 0)
			return true;
	}
	return false;
}

RowSet *
rowset_part(const RowSet *set, uint64_t from, uint64_t to)
{
	RowSet *result = rowset_create();

	for (size_t i = 0; i < set->n; i++)
	{
		uint64_t a, b;
		roaring_bitmap_t *part;

		if (!bounds_within(set->parts[i].high, from, to, &a, &b))
			continue;
		part = part_of(result, set->parts[i].high);
		add_bitmap(part, set->parts[i].bitmap);
		expect_change(part);
		roaring_bitmap_remove_range(part, 0, a);
		expect_change(part);
		roaring_bitmap_remove_range(part, b, (uint64_t) 1 << 32);
	}
	return result;
}

void
rowset_optimize(RowSet *set)
{
	for (size_t i = 0; i < set->n; i++)
	{
		expect_change(set->parts[i].bitmap);
		(void) roaring_bitmap_run_optimize(set->parts[i].bitmap);
	}
}

typedef struct Each
{
	bool (*each)(void *arg, uint64_t row);
	void *arg;
	uint64_t high;
	bool stopped;
} Each;

static bool
each_low(uint32_t low, void *arg)
{
	Each *e = arg;

	e->stopped = !e->each(e->arg, e->high << 32 | low);
	return !e->stopped;
}

void
rowset_each(const RowSet *set, bool (*each)(void *arg, uint64_t row), void *arg)
{
	for (size_t i = 0; i < set->n; i++)
	{
		Each e = {each, arg, set->parts[i].high, false};

		(void) roaring_iterate(set->parts[i].bitmap, each_low, &e);
		if (e.stopped)
			return;
	}
}

RowSet *
rowset_decode(const S3am__RowSet *message)
{
	RowSet *set = rowset_create();

	if (message == NULL)
		return set;
	for (size_t i = 0; i < message->n_parts; i++)
	{
		const S3am__RowSet__Part *part = message->parts[i];
		roaring_bitmap_t *bitmap;

		rowset_expect_bitmap(part->bitmap.data, part->bitmap.len);
		bitmap = roaring_bitmap_portable_deserialize_safe((const char *) part->bitmap.data, part->bitmap.len);
		if (bitmap == NULL)
		{
			rowset_free(set);
			return NULL;
		}
		add_bitmap(part_of(set, part->high), bitmap);
		roaring_bitmap_free(bitmap);
	}
	return set;
}

S3am__RowSet *
rowset_encode(const RowSet *set)
{
	S3am__RowSet *message = memory_need(sizeof(*message));

	s3am__row_set__init(message);
	message->parts = memory_need_zeroed(set->n ? set->n : 1, sizeof(void *));
	for (size_t i = 0; i < set->n; i++)
	{
		S3am__RowSet__Part *part;

		if (roaring_bitmap_is_empty(set->parts[i].bitmap))
			continue;
		part = memory_need(sizeof(*part));
		s3am__row_set__part__init(part);
		part->high = set->parts[i].high;
		part->bitmap.len = roaring_bitmap_portable_size_in_bytes(set->parts[i].bitmap);
		part->bitmap.data = memory_need(part->bitmap.len);
		expect_change(set->parts[i].bitmap);
		(void) roaring_bitmap_portable_serialize(set->parts[i].bitmap, (char *) part->bitmap.data);
		message->parts[message->n_parts++] = part;
	}
	return message;
}
