/*
 * reader.c: pages into memory, and rows taken apart as far as they are asked for.
 *
 * Whatever the bytes are, a reader gives rows or an error that names the object: all lengths are checked before they are used.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "utils/memutils.h"

#include "node/bucket.h"
#include "segment/batch.h"

void
segment_name(uint64 epoch, uint64 number, char name[SEGMENT_NAME])
{
	if (epoch == 0)
		strlcpy(name, "a manifest", SEGMENT_NAME);
	else
		bucket_segment_key(epoch, number, name, SEGMENT_NAME);
}

const char *
segment_object(uint64 epoch, uint64 number)
{
	static char name[SEGMENT_NAME];

	segment_name(epoch, number, name);
	return name;
}

const uint8 *
segment_read(uint64 epoch, uint64 number, uint64 offset, Size len)
{
	Size got;
	const uint8 *bytes = bucket_read(segment_object(epoch, number), offset, len, &got);

	if (got != len)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("object \"%s\" of the repository is shorter than its manifest says",
							   segment_object(epoch, number)),
						errdetail("Wanted %zu bytes at " UINT64_FORMAT ", got %zu.", len, offset, got)));
	return bytes;
}

/* ------------------------------------------------------------------------------------ pages */

/* The last one that begins at or before it: runs of overflow chunks have no rows. */
uint32
batch_find_page(const BatchSource *source, uint64 row)
{
	uint32 low = 0, high = source->npages;

	while (low < high)
	{
		uint32 mid = low + (high - low) / 2;

		if (source->pages[mid + 1].first_row <= row)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* A smaller page of an inline batch is unpacked in no time, and would waste most of a frame. */
#define INLINE_CACHED 2048

static bool
may_be_cached(const BatchSource *source, uint64 offset, uint64 size)
{
	uint32 raw;

	if (source->cache_owner == 0 || source->blob == NULL)
		return source->cache_owner != 0;
	if (source->pos == 0 || size < sizeof(ExtentHeader))
		return false;
	memcpy(&raw, source->blob + offset + offsetof(ExtentHeader, raw), sizeof(raw));
	return raw >= INLINE_CACHED;
}

/* Pages of segments are known by where they are, those of inline batches by their version and their checksum. */
static CacheKey
page_key(const BatchSource *source, uint64 first_row, uint64 offset)
{
	CacheKey key;

	memset(&key, 0, sizeof(key));
	key.owner = source->cache_owner;
	key.kind = source->inner > 0 && first_row >= source->inner ? CACHE_METADATA : CACHE_ROWS;
	if (source->blob)
	{
		key.number = source->pos;
		memcpy(&key.offset, source->blob + offset + offsetof(ExtentHeader, checksum), sizeof(key.offset));
	}
	else
	{
		key.epoch = source->epoch;
		key.number = source->number;
		key.offset = offset;
	}
	return key;
}

bool
page_expected(const BatchSource *source, uint32 n)
{
	CacheKey key = page_key(source, source->pages[n].first_row, (uint64) source->pages[n].offset8 * 8);

	return cache_expect(&key);
}

/* Checks the page and takes it apart, into the cache if this process loads it there. */
static void
fill_page(RowPage *page, const BatchSource *source, uint64 offset, const uint8 *bytes, Size size, const CacheKey *key,
		  CacheRing *ring)
{
	ExtentHeader header;
	char *room = NULL;
	const char *wrong;

	extent_check(page->object, source->identity, offset, bytes, size, EXTENT_PAGE, PAGE_MAX_RAW, &header);
	if (key)
		room = cache_room(key, header.raw, ring, &page->pin);
	if (room == NULL)
	{
		room = MemoryContextAlloc(TopTransactionContext, header.raw + 8);
		page->data = room;
		memset(room + header.raw, 0, 8);
	}
	extent_unpack(page->object, &header, bytes, room);
	page->raw = header.raw;
	page->nrows = header.nrows;
	wrong = page_check(room, header.nrows, header.raw);
	if (wrong)
		segment_damaged(page->object, wrong);
	if (key == NULL)
		return;
	if (page->data)
		cache_abandon();
	else
		cache_publish(key, header.nrows, &page->pin);
}

uint64 row_pages_loaded;

/* Reads the page that is in `size` bytes at `offset`, entry n of the directory. */
static void
load_page(RowPage *page, const BatchSource *source, uint32 n, uint64 offset, Size size, const CacheKey *key,
		  ReadAhead *ahead, CacheRing *ring)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	const uint8 *bytes = NULL;
	bool own_bytes = false;

	row_pages_loaded++;
	PG_TRY();
	{
		if (source->blob)
			bytes = source->blob + offset;
		else if (ahead && source->pages)
			bytes = read_ahead_bytes(ahead, source, n);
		if (bytes == NULL)
		{
			bytes = segment_read(source->epoch, source->number, offset, size);
			own_bytes = true;
		}
		fill_page(page, source, offset, bytes, size, key, ring);
		if (own_bytes)
			pfree((void *) bytes);
	}
	PG_CATCH();
	{
		if (key)
			cache_abandon();
		if (page->data && page->pin.frame == NULL)
			pfree((void *) page->data);
		pfree(page);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
}

RowPage *
row_page_read(const BatchSource *source, uint64 row, ReadAhead *ahead, CacheRing *ring)
{
	uint64 offset = 0, size = source->len, first_row = 0, nrows = source->nrows;
	CacheAnswer answer = CACHE_PRIVATE;
	RowPage *page;
	CacheKey key;
	uint32 n = 0;

	page = MemoryContextAllocZero(TopTransactionContext, sizeof(RowPage));
	page->refs = 1;
	page->blob = source->blob;
	page->blob_len = source->len;
	page->identity = source->identity;
	page->epoch = source->epoch;
	page->number = source->number;
	segment_name(source->epoch, source->number, page->object);
	if (row >= source->nrows)
		segment_damaged(page->object, "a row is missing");
	if (source->pages)
	{
		const PageStart *start;

		n = batch_find_page(source, row);
		start = &source->pages[n];

		offset = (uint64) start[0].offset8 * 8;
		size = (uint64) start[1].offset8 * 8 - offset;
		first_row = start[0].first_row;
		nrows = start[1].first_row - first_row;
	}
	page->first_row = first_row;
	if (ahead && source->pages && source->blob == NULL)
		read_ahead_pass(ahead, source, n);
	if (offset > source->len || size > source->len - offset || size > PAGE_MAX_RAW * (uint64) 2)
		segment_damaged(page->object, "a page lies outside of it");
	if (may_be_cached(source, offset, size))
	{
		key = page_key(source, first_row, offset);
		answer = cache_find(&key, ring, &page->pin);
	}
	if (answer == CACHE_FOUND)
	{
		page->data = page->pin.data;
		page->raw = page->pin.len;
		page->nrows = page->pin.info;
	}
	else
		load_page(page, source, n, offset, size, answer == CACHE_LOAD ? &key : NULL, ahead, ring);
	if (page->pin.frame)
		page->data = page->pin.data;
	if (page->nrows != nrows)
	{
		row_page_release(page);
		segment_damaged(segment_object(source->epoch, source->number),
						"a page has not as many rows as its manifest says");
	}
	return page;
}

void
row_page_release(RowPage *page)
{
	if (--page->refs > 0)
		return;
	if (page->pin.frame)
		cache_release(&page->pin);
	else
		pfree((void *) page->data);
	pfree(page);
}

/* ------------------------------------------------------------------------------------ rows */

/*
 * The size of a column's value that comes next, which is not NULL, and at *offset where it begins: behind the value before it, or aligned.  0: the
 * row is damaged.  The page is followed by 8 bytes that may be read.
 */
static pg_attribute_always_inline uint32
find_value(const RowCursor *cursor, const MapColumn *column, uint32 *offset)
{
	const char *data = cursor->data;
	uint32 at = *offset, len = cursor->len, size = 0;

	/* a varlena with a short header is not aligned, and padding is 0 */
	if (column->typlen != -1 || (at < len && !VARATT_NOT_PAD_BYTE(data + at)))
		at = TYPEALIGN(column->align, at);
	if (at >= len)
		return 0;
	if (column->typlen > 0)
		size = column->typlen;
	else if (column->typlen != -1)
		size = strnlen(data + at, len - at) + 1;
	else if (VARATT_IS_1B_E(data + at))
		size = VARTAG_1B_E(data + at) == OVERFLOW_TAG ? sizeof(OverflowPointer) : 0;
	else if (VARATT_IS_1B(data + at))
		size = VARSIZE_1B(data + at);
	/* nothing is stored in PostgreSQL's own compression */
	else if (VARATT_IS_4B_U(data + at) && VARSIZE_4B(data + at) >= VARHDRSZ)
		size = VARSIZE_4B(data + at);
	*offset = at;
	return size <= len - at ? size : 0;
}

/* The same for who cannot go on if it is damaged. */
static inline uint32
value_size(const RowCursor *cursor, const MapColumn *column, uint32 *offset)
{
	uint32 size = find_value(cursor, column, offset);

	if (size == 0)
		segment_damaged(cursor->page->object, "a value lies outside its row");
	return size;
}

static Datum
overflow_value(RowCursor *cursor, const MapColumn *column, const char *p, MemoryContext cxt)
{
	OverflowPointer pointer;

	memcpy(&pointer, p, sizeof(pointer));
	/* in the manifest there is nothing to fetch; elsewhere a value that must be decoded is fetched at once */
	if (column->lazy && cursor->page->blob == NULL)
		return overflow_lazy(cursor->page, &pointer, cxt);
	return overflow_fetch(cursor->page, &pointer, cxt);
}

static Datum
decode(RowCursor *cursor, const MapColumn *column, Datum value, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);

	value = codec_decode(column->codec, value, cursor->page->object);
	MemoryContextSwitchTo(old);
	return value;
}

static void
missing_value(TupleDesc desc, int att, Datum *value, bool *isnull)
{
	*value = (Datum) 0;
	*isnull = true;
	if (!TupleDescAttr(desc, att)->attisdropped && TupleDescAttr(desc, att)->atthasmissing && desc->constr &&
		desc->constr->missing && desc->constr->missing[att].am_present)
	{
		*value = desc->constr->missing[att].am_value;
		*isnull = false;
	}
}

/* An attribute of any kind. */
static void
deform_one(RowCursor *cursor, TupleDesc desc, int att, Datum *value, bool *isnull, MemoryContext cxt)
{
	const RowMap *map = cursor->map;
	int wanted = att < map->natts ? map->stored[att] : -1;

	if (wanted < 0)
	{
		missing_value(desc, att, value, isnull);
		return;
	}
	*value = (Datum) 0;
	*isnull = true;
	/* columns before it that nobody wants any more are stepped over */
	for (; cursor->column <= wanted; cursor->column++)
	{
		const MapColumn *column = &map->columns[cursor->column];
		const char *p;
		uint32 size;

		if (cursor->nulls && att_isnull(cursor->column, cursor->nulls))
			continue;
		size = value_size(cursor, column, &cursor->offset);
		p = cursor->data + cursor->offset;
		cursor->offset += size;
		if (cursor->column < wanted)
			continue;
		*isnull = false;
		if (column->typlen == -1 && VARATT_IS_1B_E(p) && !map->raw)
			*value = overflow_value(cursor, column, p, cxt);
		else
			*value = fetch_att(p, column->byval, column->typlen);
		if (!column->plain)
			*value = decode(cursor, column, *value, cxt);
	}
}

/*
 * Attributes from `att` on whose values are in the row as they are wanted.  Ends at one that needs more, which is left to deform_one(), and
 * returns its number: one to decode or to fetch, one that the batch does not have, one that is damaged.
 */
static int
deform_plain(RowCursor *cursor, int att, int natts, Datum *values, bool *nulls)
{
	const RowMap *map = cursor->map;
	const char *data = cursor->data;
	const bits8 *bitmap = cursor->nulls;
	uint32 offset = cursor->offset;
	int i = cursor->column;

	natts = Min(natts, map->natts);
	for (; att < natts && map->stored[att] == i; att++, i++)
	{
		const MapColumn *column = &map->columns[i];
		uint32 at = offset, size;

		if (bitmap && att_isnull(i, bitmap))
		{
			values[att] = (Datum) 0;
			nulls[att] = true;
			continue;
		}
		if (!column->plain || (size = find_value(cursor, column, &at)) == 0 ||
			(column->typlen == -1 && VARATT_IS_1B_E(data + at)))
			break;
		values[att] = fetch_att(data + at, column->byval, column->typlen);
		nulls[att] = false;
		offset = at + size;
	}
	cursor->offset = offset;
	cursor->column = i;
	return att;
}

void
row_deform(RowCursor *cursor, TupleDesc desc, int from, int natts, Datum *values, bool *nulls, MemoryContext cxt)
{
	for (int att = from; att < natts; att++)
	{
		att = deform_plain(cursor, att, natts, values, nulls);
		if (att < natts)
			deform_one(cursor, desc, att, &values[att], &nulls[att], cxt);
	}
}

/*
 * The xmin that the row itself has.  Seldom asked for, so the columns before it are walked over here.
 */
uint32
row_xmin(const RowPage *page, const RowMap *map, uint64 row)
{
	RowCursor cursor;
	uint32 offset = 0, size, xmin;

	row_begin(&cursor, page, map, row);
	for (int i = 0; i < map->ncolumns; i++)
	{
		const MapColumn *column = &map->columns[i];

		if (cursor.nulls && att_isnull(i, cursor.nulls))
			continue;
		size = value_size(&cursor, column, &offset);
		if (i == map->xmin)
		{
			memcpy(&xmin, cursor.data + offset, sizeof(xmin));
			return xmin;
		}
		offset += size;
	}
	segment_damaged(page->object, "a row has no xmin");
}
