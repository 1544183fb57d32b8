/*
 * columns.c: see columns.h; docs/format-segments.md has the bytes.
 *
 * Values of one column resemble each other more than those of a row do, and numbers resemble each other in their high bytes, or differ
 * by little from the one before.  So zstd at its quickest makes of columns a fifth less than of rows, in less time.  Only the stored
 * form is by columns: memory holds rows, which are read in place.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "segment/columns.h"
#include "segment/format.h"

typedef struct Header
{
	uint16 ncolumns;
	uint16 flags; /* SOME_... */
} Header;

#define SOME_NULLS 1 /* some rows have a bitmap of NULLs */
#define SOME_GONE 2 /* some rows are gone */

typedef struct HeaderColumn
{
	int16 typlen;
	uint8 align, encoding;
} HeaderColumn;

typedef enum Encoding
{
	PLAIN, /* one value after the other */
	PLANES, /* the lowest byte of all values, then the next one */
	DELTAS /* the same of differences, small ones first: 0, -1, 1, -2 */
} Encoding;

#define IN_ROW(nulls, i) ((nulls) == NULL || ((nulls)[(i) >> 3] >> ((i) &7) & 1))

static inline uint32
align_to(uint32 offset, uint8 align)
{
	return (offset + align - 1) & ~(uint32) (align - 1);
}

/* A number of `width` bytes, sign-extended. */
static inline uint64
load(const char *p, int width)
{
	if (width == 8)
	{
		uint64 v;

		memcpy(&v, p, 8);
		return v;
	}
	if (width == 4)
	{
		int32 v;

		memcpy(&v, p, 4);
		return (uint64) (int64) v;
	}
	else
	{
		int16 v;

		memcpy(&v, p, 2);
		return (uint64) (int64) v;
	}
}

static inline uint64
sign_extend(uint64 v, int width)
{
	int unused = 64 - width * 8;

	return (uint64) ((int64) (v << unused) >> unused);
}

static inline uint64
zigzag(uint64 v)
{
	return v << 1 ^ (uint64) ((int64) v >> 63);
}

static inline int
width_of(uint64 v)
{
	return v ? pg_leftmost_one_pos64(v) + 1 : 0;
}

/* ------------------------------------------------------------------------------------ to columns */

/* What makes the column smallest, as far as a look at its values tells. */
static Encoding
choose(const char *page, const uint32 *offsets, uint32 nrows, int width)
{
	uint64 seen[64] = {0};
	uint64 previous = 0, first = 0, varying = 0;
	uint64 bits = 0, delta_bits = 0, repeated = 0, count = 0;
	uint64 planes, plain;

	for (uint32 i = 0; i < nrows; i++)
	{
		uint64 v, *same;

		if (offsets[i] == NO_VALUE)
			continue;
		v = load(page + offsets[i], width);
		if (count++ == 0)
			first = previous = v;
		varying |= v ^ first;
		bits += width_of(zigzag(v));
		delta_bits += width_of(zigzag(sign_extend(v - previous, width)));
		same = &seen[v * UINT64CONST(0x9E3779B97F4A7C15) >> 58];
		repeated += *same == v;
		*same = v;
		previous = v;
	}
	/* bytes that are the same in all values cost nothing */
	planes = 0;
	for (int b = 0; b < width; b++)
		if (varying >> (8 * b) & 0xff)
			planes += 8;
	planes = Min(planes * count, bits);
	/* a value seen before costs zstd two bytes or so, any other all of its own */
	plain = repeated * 18 + (count - repeated) * width * 8;
	if (delta_bits < planes)
		return delta_bits < plain ? DELTAS : PLAIN;
	return planes <= plain ? PLANES : PLAIN;
}

static char *
put_numbers(char *out, const char *page, const uint32 *offsets, uint32 nrows, uint32 count, int width,
			Encoding encoding)
{
	uint64 previous = 0;
	uint32 n = 0;

	for (uint32 i = 0; i < nrows; i++)
	{
		uint64 v;

		if (offsets[i] == NO_VALUE)
			continue;
		v = load(page + offsets[i], width);
		if (encoding == DELTAS)
		{
			uint64 delta = zigzag(sign_extend(v - previous, width));

			previous = v;
			v = delta;
		}
		for (int b = 0; b < width; b++)
			out[(Size) b * count + n] = (char) (v >> (8 * b));
		n++;
	}
	return out + (Size) count * width;
}

/* First bytes (0: a header of four bytes), headers of four bytes, and then what follows the headers. */
static char *
put_varlenas(char *out, const char *page, const uint32 *offsets, uint32 nrows)
{
	for (uint32 i = 0; i < nrows; i++)
		if (offsets[i] != NO_VALUE)
			*out++ = VARATT_IS_1B(page + offsets[i]) ? page[offsets[i]] : 0;
	for (uint32 i = 0; i < nrows; i++)
		if (offsets[i] != NO_VALUE && !VARATT_IS_1B(page + offsets[i]))
		{
			memcpy(out, page + offsets[i], sizeof(uint32));
			out += sizeof(uint32);
		}
	for (uint32 i = 0; i < nrows; i++)
	{
		const char *p = page + offsets[i];
		Size header = 1, len;

		if (offsets[i] == NO_VALUE)
			continue;
		if (VARATT_IS_1B_E(p))
			len = sizeof(OverflowPointer);
		else if (VARATT_IS_1B(p))
			len = VARSIZE_1B(p);
		else
		{
			header = sizeof(uint32);
			len = VARSIZE_4B(p);
		}
		memcpy(out, p + header, len - header);
		out += len - header;
	}
	return out;
}

Size
columns_find(const ColumnLayout *columns, int ncolumns, const char *page, uint32 nrows, uint32 *offsets)
{
	const uint32 *starts = (const uint32 *) page;
	Size sum = 0;

	for (uint32 r = 0; r < nrows; r++)
	{
		const char *row = page + ROW_START(starts[r]);
		const uint8 *nulls = NULL;
		uint32 base = ROW_START(starts[r]), off = 0;

		if (starts[r] & ROW_GONE)
		{
			for (int c = 0; c < ncolumns; c++)
				offsets[(Size) c * nrows + r] = NO_VALUE;
			continue;
		}
		if (starts[r] & ROW_HAS_NULLS)
		{
			nulls = (const uint8 *) row;
			base += TYPEALIGN(8, (ncolumns + 7) / 8);
			sum += (ncolumns + 7) / 8;
		}
		for (int c = 0; c < ncolumns; c++)
		{
			const char *p = page + base + off;
			uint32 len;

			if (!IN_ROW(nulls, c))
			{
				offsets[(Size) c * nrows + r] = NO_VALUE;
				continue;
			}
			/* before a varlena's header of four bytes may be padding, of zeros: never a header of one byte */
			if (columns[c].typlen > 0 || (columns[c].typlen == -1 && !VARATT_IS_1B(p)))
			{
				off = align_to(off, columns[c].align);
				p = page + base + off;
			}
			offsets[(Size) c * nrows + r] = base + off;
			if (columns[c].typlen > 0)
				len = columns[c].typlen;
			else if (columns[c].typlen == -2)
				len = strlen(p) + 1;
			else if (VARATT_IS_1B_E(p))
				len = sizeof(OverflowPointer);
			else if (VARATT_IS_1B(p))
				len = VARSIZE_1B(p);
			else
			{
				len = VARSIZE_4B(p);
				sum++;
			}
			off += len;
			sum += len;
		}
	}
	return sum;
}

/* A bit for each row whose start has the flag. */
static char *
put_flags(char *out, const uint32 *starts, uint32 nrows, uint32 flag)
{
	memset(out, 0, (nrows + 7) / 8);
	for (uint32 r = 0; r < nrows; r++)
		if (starts[r] & flag)
			out[r >> 3] |= 1 << (r & 7);
	return out + (nrows + 7) / 8;
}

Size
columns_split(const ColumnLayout *columns, int ncolumns, const char *page, Size raw, uint32 nrows, char *out, Size size,
			  const uint32 *offsets)
{
	Header header = {(uint16) ncolumns, 0};
	const uint32 *starts = (const uint32 *) page;
	char *p = out;
	Size bitmap = (ncolumns + 7) / 8;

	if (ncolumns == 0 || ncolumns > COLUMNS_MAX)
		return 0;
	if (sizeof(Header) + sizeof(HeaderColumn) * ncolumns + 2 * ((nrows + 7) / 8) + size >= raw)
		return 0;
	for (uint32 r = 0; r < nrows; r++)
		header.flags |= (starts[r] & ROW_HAS_NULLS ? SOME_NULLS : 0) | (starts[r] & ROW_GONE ? SOME_GONE : 0);
	memcpy(p, &header, sizeof(header));
	p += sizeof(Header) + sizeof(HeaderColumn) * ncolumns;
	if (header.flags & SOME_GONE)
		p = put_flags(p, starts, nrows, ROW_GONE);
	if (header.flags & SOME_NULLS)
	{
		p = put_flags(p, starts, nrows, ROW_HAS_NULLS);
		for (Size b = 0; b < bitmap; b++)
			for (uint32 r = 0; r < nrows; r++)
				if (starts[r] & ROW_HAS_NULLS)
					*p++ = page[ROW_START(starts[r]) + b];
	}
	for (int c = 0; c < ncolumns; c++)
	{
		const uint32 *column = offsets + (Size) c * nrows;
		HeaderColumn h = {columns[c].typlen, columns[c].align, PLAIN};
		int width = h.typlen;

		if (width == 2 || width == 4 || width == 8)
			h.encoding = choose(page, column, nrows, width);
		memcpy(out + sizeof(Header) + sizeof(HeaderColumn) * c, &h, sizeof(h));
		if (h.encoding != PLAIN)
		{
			uint32 count = 0;

			for (uint32 r = 0; r < nrows; r++)
				count += column[r] != NO_VALUE;
			p = put_numbers(p, page, column, nrows, count, width, h.encoding);
		}
		else if (width == -1)
			p = put_varlenas(p, page, column, nrows);
		else
			for (uint32 r = 0; r < nrows; r++)
				if (column[r] != NO_VALUE)
				{
					Size len = width > 0 ? width : strlen(page + column[r]) + 1;

					memcpy(p, page + column[r], len);
					p += len;
				}
	}
	return p - out;
}

/* ------------------------------------------------------------------------------------ to rows */

int
columns_count(const uint8 *in, Size len)
{
	Header header;

	if (len < sizeof(header))
		return -1;
	memcpy(&header, in, sizeof(header));
	if (header.ncolumns == 0 || header.ncolumns > COLUMNS_MAX || header.flags > (SOME_NULLS | SOME_GONE) ||
		(len - sizeof(header)) / sizeof(HeaderColumn) < header.ncolumns)
		return -1;
	return header.ncolumns;
}

/* The bodies of a column's varlenas: their sum, or false if it is not what a writer makes. */
static bool
varlena_bodies(const ColumnCursor *c, Size *sum)
{
	const uint8 *lengths = c->lengths;

	*sum = 0;
	for (uint32 i = 0; i < c->count; i++)
	{
		const uint8 *head = c->heads + i;

		if (*head == 0)
		{
			uint32 word[1];

			memcpy(word, lengths, sizeof(uint32));
			lengths += sizeof(uint32);
			if (!VARATT_IS_4B_U(word) || VARSIZE_4B(word) < sizeof(uint32))
				return false;
			*sum += VARSIZE_4B(word) - sizeof(uint32);
		}
		else if (VARATT_IS_1B_E(head))
			*sum += sizeof(OverflowPointer) - 1;
		else if (VARATT_IS_1B(head) && VARSIZE_1B(head) > 0)
			*sum += VARSIZE_1B(head) - 1;
		else
			return false;
	}
	return true;
}

/* Where each column's parts begin; all of them are within the input. */
static bool
find_columns(const uint8 *in, Size len, const uint8 *columns, ColumnCursor *cursors, int ncolumns)
{
	const uint8 *end = in + len;

	for (int i = 0; i < ncolumns; i++)
	{
		ColumnCursor *c = &cursors[i];
		HeaderColumn h;
		Size sum;

		memcpy(&h, columns + sizeof(h) * i, sizeof(h));
		if (h.align != 1 && h.align != 2 && h.align != 4 && h.align != 8)
			return false;
		if (h.encoding > DELTAS || (h.encoding != PLAIN && h.typlen != 2 && h.typlen != 4 && h.typlen != 8))
			return false;
		c->typlen = h.typlen;
		c->align = h.align;
		c->encoding = h.encoding;
		c->next = 0;
		c->previous = 0;
		c->heads = in;
		if (h.typlen > 0)
		{
			if ((Size) (end - in) / h.typlen < c->count)
				return false;
			in += (Size) c->count * h.typlen;
		}
		else if (h.typlen == -1)
		{
			Size longs = 0;

			if ((Size) (end - in) < c->count)
				return false;
			for (uint32 k = 0; k < c->count; k++)
				longs += c->heads[k] == 0;
			c->lengths = in + c->count;
			if ((Size) (end - c->lengths) / sizeof(uint32) < longs)
				return false;
			c->bodies = c->lengths + longs * sizeof(uint32);
			if (!varlena_bodies(c, &sum) || (Size) (end - c->bodies) < sum)
				return false;
			in = c->bodies + sum;
		}
		else if (h.typlen == -2)
		{
			c->bodies = in;
			for (uint32 k = 0; k < c->count; k++)
			{
				const uint8 *zero = in < end ? memchr(in, 0, end - in) : NULL;

				if (zero == NULL)
					return false;
				in = zero + 1;
			}
		}
		else
			return false;
	}
	return in == end;
}

static inline void
next_number(ColumnCursor *c, char *to)
{
	uint64 v = 0;

	for (int b = 0; b < c->typlen; b++)
		v |= (uint64) c->heads[(Size) b * c->count + c->next] << (8 * b);
	if (c->encoding == DELTAS)
		v = c->previous += v >> 1 ^ -(v & 1);
	if (c->typlen == 8)
		memcpy(to, &v, 8);
	else if (c->typlen == 4)
	{
		uint32 n = (uint32) v;

		memcpy(to, &n, 4);
	}
	else
	{
		uint16 n = (uint16) v;

		memcpy(to, &n, 2);
	}
}

/*
 * Puts zeros from `off` up to the next multiple of `align`, at most 8, and returns that.  Behind it, too, which will be written later, but none
 * at `room` or beyond.
 */
static inline Size
pad(char *values, Size off, Size align, Size room)
{
	Size end = TYPEALIGN(align, off);

	if (off + 8 <= room)
		memset(values + off, 0, 8);
	else
		for (Size i = off; i < end && i < room; i++)
			values[i] = 0;
	return end;
}

/* Writes the column's next value at `off` from the row's values; where it ends, or 0 if that is beyond `room`. */
static inline Size
next_value(ColumnCursor *c, char *values, Size off, Size room)
{
	const uint8 *from;
	Size header = 0, len;

	if (c->typlen > 0)
	{
		off = pad(values, off, c->align, room);
		if (off + c->typlen > room)
			return 0;
		if (c->encoding != PLAIN)
			next_number(c, values + off);
		else
			memcpy(values + off, c->heads + (Size) c->next * c->typlen, c->typlen);
		c->next++;
		return off + c->typlen;
	}
	from = c->bodies;
	if (c->typlen == -2)
		len = strlen((const char *) from) + 1;
	else
	{
		const uint8 *head = &c->heads[c->next];

		if (*head == 0)
		{
			uint32 word[1];

			memcpy(word, c->lengths, sizeof(uint32));
			off = pad(values, off, c->align, room);
			header = sizeof(uint32);
			len = VARSIZE_4B(word) - header;
			if (off + header + len > room)
				return 0;
			memcpy(values + off, word, header);
			c->lengths += header;
		}
		else
		{
			header = 1;
			len = VARATT_IS_1B_E(head) ? sizeof(OverflowPointer) - 1 : VARSIZE_1B(head) - 1;
			if (off + header + len > room)
				return 0;
			values[off] = *head;
		}
	}
	if (off + header + len > room)
		return 0;
	memcpy(values + off + header, from, len);
	c->bodies += len;
	c->next++;
	return off + header + len;
}

/* A bit for each row; how many are set.  NULL: they are cut off. */
static const uint8 *
get_flags(const uint8 **in, const uint8 *end, uint32 nrows, uint32 *set)
{
	const uint8 *flags = *in;
	Size size = ((Size) nrows + 7) / 8;

	if ((Size) (end - flags) < size)
		return NULL;
	*in += size;
	*set = 0;
	for (uint32 r = 0; r < nrows; r++)
		*set += flags[r >> 3] >> (r & 7) & 1;
	return flags;
}

bool
columns_join(const uint8 *in, Size len, uint32 nrows, char *page, Size raw, ColumnCursor *cursors)
{
	int ncolumns = columns_count(in, len);
	Size bitmap = (ncolumns + 7) / 8;
	Size at = TYPEALIGN(8, sizeof(uint32) * (Size) nrows);
	const uint8 *columns = in + sizeof(Header), *p = columns + sizeof(HeaderColumn) * ncolumns;
	const uint8 *flags = NULL, *gone = NULL, *bitmaps = NULL;
	uint32 nflagged = 0, ngone = 0;
	Header header;

	if (ncolumns < 0 || at > raw)
		return false;
	memcpy(&header, in, sizeof(header));
	if ((header.flags & SOME_GONE) && (gone = get_flags(&p, in + len, nrows, &ngone)) == NULL)
		return false;
	for (int c = 0; c < ncolumns; c++)
		cursors[c].count = nrows - ngone;
	if (header.flags & SOME_NULLS)
	{
		if ((flags = get_flags(&p, in + len, nrows, &nflagged)) == NULL)
			return false;
		for (uint32 r = 0; gone && r < nrows; r++)
			if (IN_ROW(gone, r) && IN_ROW(flags, r))
				return false;
		bitmaps = p;
		if ((Size) (in + len - p) / bitmap < nflagged)
			return false;
		p += bitmap * nflagged;
		for (int c = 0; c < ncolumns; c++)
			for (Size r = 0; r < nflagged; r++)
				cursors[c].count -= !(bitmaps[(c >> 3) * (Size) nflagged + r] >> (c & 7) & 1);
	}
	if (!find_columns(p, in + len - p, columns, cursors, ncolumns))
		return false;
	(void) pad(page, sizeof(uint32) * (Size) nrows, 8, raw);
	for (uint32 r = 0, flagged = 0; r < nrows; r++)
	{
		bool some_null = flags && IN_ROW(flags, r);
		Size off = 0, room;

		if (gone && IN_ROW(gone, r))
		{
			((uint32 *) page)[r] = at | ROW_GONE;
			continue;
		}
		((uint32 *) page)[r] = at | (some_null ? ROW_HAS_NULLS : 0);
		if (some_null)
		{
			if (raw - at < TYPEALIGN(8, bitmap))
				return false;
			for (Size b = 0; b < bitmap; b++)
				page[at + b] = bitmaps[b * (Size) nflagged + flagged];
			(void) pad(page + at, bitmap, 8, raw - at);
			flagged++;
			at += TYPEALIGN(8, bitmap);
		}
		room = raw - at;
		for (int c = 0; c < ncolumns; c++)
			if (!some_null || (bitmaps[(c >> 3) * (Size) nflagged + flagged - 1] >> (c & 7) & 1))
			{
				off = next_value(&cursors[c], page + at, off, room);
				if (off == 0)
					return false;
			}
		at += pad(page + at, off, 8, room);
		if (at > raw)
			return false;
	}
	return at == raw;
}
