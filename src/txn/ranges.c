/*
 * ranges.c: see ranges.h.
 *
 * Ranges are put at the end of an array as they come; when it is full they are sorted, those that touch each other become one, and if there
 * are too many then, the smallest gaps are given up.  Wider ranges are never wrong: they make somebody fail who need not.
 */
#include "postgres.h"

#include "txn/ranges.h"

int
key_end_compare(const KeyEnd *a, const KeyEnd *b)
{
	int result = memcmp(a->bytes, b->bytes, Min(a->len, b->len));

	return result != 0 ? result : (int) a->len - (int) b->len;
}

void
key_end_of(const KeyEnd *key, KeyEnd *end)
{
	int len = key->len;

	if (end != key)
		*end = *key;
	while (len > 0 && end->bytes[len - 1] == 0xFF)
		len--;
	if (len > 0)
		end->bytes[len - 1]++;
	else
	{
		/* behind all keys */
		end->bytes[0] = 0xFF;
		len = 1;
	}
	end->len = len;
}

static int
compare_ranges(const void *a, const void *b)
{
	return key_end_compare(&((const KeyRange *) a)->low, &((const KeyRange *) b)->low);
}

static int
compare_gaps(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a, y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* Eight bytes from this one on, as a number. */
static uint64
number_at(const KeyEnd *key, int at)
{
	uint64 number = 0;

	for (int i = at; i < at + 8; i++)
		number = number << 8 | (i < key->len ? key->bytes[i] : 0);
	return number;
}

/* Half of them at most stay: the others are joined to the one before. */
static void
give_up_gaps(KeyRanges *set)
{
	int n = set->n, wanted = set->max / 2, common = 0, at_limit, kept = 0;
	uint64 *gaps = palloc(sizeof(uint64) * 2 * (n - 1)), *sorted = gaps + (n - 1), limit;
	const KeyEnd *first = &set->ranges[0].low, *last = &set->ranges[n - 1].high;

	while (common < first->len && common < last->len && first->bytes[common] == last->bytes[common])
		common++;
	for (int i = 0; i < n - 1; i++)
		sorted[i] = gaps[i] = number_at(&set->ranges[i + 1].low, common) - number_at(&set->ranges[i].high, common);
	qsort(sorted, n - 1, sizeof(uint64), compare_gaps);
	/* wanted - 1 gaps stay: those above the limit, and of those at it as many as there is room for */
	limit = sorted[n - wanted - 1];
	at_limit = wanted - 1;
	for (int i = 0; i < n - 1; i++)
		at_limit -= gaps[i] > limit;
	for (int i = 1; i < n; i++)
	{
		if (gaps[i - 1] > limit || (gaps[i - 1] == limit && at_limit-- > 0))
			set->ranges[++kept] = set->ranges[i];
		else
			set->ranges[kept].high = set->ranges[i].high;
	}
	set->n = kept + 1;
	pfree(gaps);
}

static void
sort_ranges(KeyRanges *set)
{
	int kept = 0;

	if (set->sorted || set->n == 0)
		return;
	qsort(set->ranges, set->n, sizeof(KeyRange), compare_ranges);
	for (int i = 1; i < set->n; i++)
	{
		KeyRange *before = &set->ranges[kept];

		if (key_end_compare(&set->ranges[i].low, &before->high) > 0)
			set->ranges[++kept] = set->ranges[i];
		else if (key_end_compare(&set->ranges[i].high, &before->high) > 0)
			before->high = set->ranges[i].high;
	}
	set->n = kept + 1;
	set->sorted = true;
}

static void
make_room(KeyRanges *set)
{
	if (set->capacity == 2 * set->max)
	{
		sort_ranges(set);
		if (set->n > set->max)
			give_up_gaps(set);
		if (set->n < set->capacity)
			return;
	}
	set->capacity = Min(set->capacity ? set->capacity * 4 : 8, 2 * set->max);
	set->ranges = set->ranges ? repalloc(set->ranges, sizeof(KeyRange) * set->capacity)
							  : MemoryContextAlloc(set->cxt, sizeof(KeyRange) * set->capacity);
}

void
key_ranges_add(KeyRanges *set, const KeyRange *range)
{
	if (set->n > 0)
	{
		KeyRange *last = &set->ranges[set->n - 1];

		/* most come again, or in order */
		if (key_end_compare(&last->low, &range->low) <= 0 && key_end_compare(&range->low, &last->high) <= 0)
		{
			if (key_end_compare(&range->high, &last->high) > 0)
				last->high = range->high;
			return;
		}
	}
	if (set->n == set->capacity)
		make_room(set);
	set->sorted = set->n == 0 || (set->sorted && key_end_compare(&set->ranges[set->n - 1].high, &range->low) < 0);
	set->ranges[set->n++] = *range;
}

static void
write_bytes(ProtobufCBinaryData *to, const KeyEnd *end)
{
	to->len = end->len;
	to->data = palloc(Max(end->len, 1));
	memcpy(to->data, end->bytes, end->len);
}

size_t
key_ranges_write(KeyRanges *set, S3am__KeyRange ***messages)
{
	sort_ranges(set);
	if (set->n > set->max)
		give_up_gaps(set);
	*messages = palloc(sizeof(void *) * Max(set->n, 1));
	for (int i = 0; i < set->n; i++)
	{
		S3am__KeyRange *message = palloc(sizeof(*message));
		KeyEnd end;

		s3am__key_range__init(message);
		write_bytes(&message->low, &set->ranges[i].low);
		key_end_of(&set->ranges[i].low, &end);
		if (key_end_compare(&end, &set->ranges[i].high) != 0)
			write_bytes(&message->high, &set->ranges[i].high);
		(*messages)[i] = message;
	}
	return set->n;
}
