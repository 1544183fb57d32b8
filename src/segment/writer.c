/*
 * writer.c: rows into pages, pages into a segment or an inline batch.
 *
 * Only the page in progress is in memory, and a few that are compressed meanwhile; what is finished goes to the segment's upload (or,
 * inline, to the blob) at once.
 */
#include "postgres.h"

#include <xxhash.h>

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/tupmacs.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "segment/batch.h"
#include "segment/press.h"
#include "segment/summary.h"

/* Values go to overflow chunks, largest first, while the row is larger than the first number and they than the second. */
#define ROW_WANTED (8 * 1024)
#define VALUE_LARGE (2 * 1024)
#define ROW_ALLOWED (64 * 1024)
#define VALUE_SMALL 128

typedef struct WriterColumn
{
	int att; /* attribute - 1 */
	int16 typlen;
	bool byval;
	char align;
	bool pack; /* may get a header of one byte */
	bool plain;
	bool one_by_one; /* its summary is of values; others are of pages (press.c) */
	Codec *codec;
} WriterColumn;

struct RowWriter
{
	MemoryContext cxt, row_cxt; /* reset after each row */
	TupleDesc desc; /* or NULL: rows come as they are stored, of this schema */
	const S3am__BatchSchema *stored;
	bool xmins; /* with a last column for each row's xmin */
	int ncolumns;
	WriterColumn *columns;
	ColumnLayout *layout;
	PressSums sums; /* of a segment: for its footer */
	bool all_plain;
	bool as_formed; /* rows may be what a tuple holds */
	Size fixed_size; /* at most, of all values but varlenas' bytes */
	Datum *values; /* as stored */
	bool *nulls;
	OverflowPointer *overflow; /* one per column; raw 0: the value is in the row */

	char *page; /* rows of the page in progress */
	Size page_len, page_capacity;
	uint32 *starts; /* relative to the first row */
	uint32 nrows, capacity;
	uint64 total_rows;
	Size total_bytes;

	SegmentEmit emit;
	void *emit_arg;
	StringInfoData out; /* inline: what is finished */
	uint64 identity;
	uint64 written; /* bytes emitted */
	uint32 *extent_rows, *extent_size8;
	size_t nextents, extents_capacity;
	char *scratch; /* an extent, stored */
	Size scratch_size;
	S3am__KeyFilter *filter; /* or NULL */
	Press *press; /* pages that are pressed meanwhile; NULL: each at once */
	MemoryContextCallback free_press;
};

static void
free_press(void *arg)
{
	RowWriter *w = arg;

	if (w->press)
		press_free(w->press);
	w->press = NULL;
}

static RowWriter *
create(int columns, MemoryContext parent)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "s3am row writer", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	RowWriter *w = palloc0(sizeof(RowWriter));

	w->cxt = cxt;
	w->row_cxt = AllocSetContextCreate(cxt, "s3am row", ALLOCSET_DEFAULT_SIZES);
	w->columns = palloc0(sizeof(WriterColumn) * Max(columns, 1));
	w->values = palloc(sizeof(Datum) * Max(columns, 1));
	w->nulls = palloc(sizeof(bool) * Max(columns, 1));
	w->overflow = palloc0(sizeof(OverflowPointer) * Max(columns, 1));
	w->capacity = 256;
	w->starts = palloc(sizeof(uint32) * w->capacity);
	initStringInfo(&w->out);
	w->layout = palloc0(sizeof(ColumnLayout) * Max(columns, 1));
	w->sums.columns = palloc0(sizeof(Summary) * Max(columns, 1));
	w->free_press.func = free_press;
	w->free_press.arg = w;
	MemoryContextRegisterResetCallback(cxt, &w->free_press);
	MemoryContextSwitchTo(old);
	return w;
}

/* What follows from the columns. */
static void
columns_known(RowWriter *w)
{
	w->all_plain = w->as_formed = true;
	for (int i = 0; i < w->ncolumns; i++)
	{
		WriterColumn *c = &w->columns[i];

		c->one_by_one = w->sums.columns[i].kind == SUMMARY_PROCEDURE;
		w->as_formed &= !c->one_by_one;
		w->layout[i].typlen = c->typlen;
		w->layout[i].align = att_align_nominal(1, c->align);
		w->all_plain &= c->plain && c->typlen != -2;
		w->fixed_size += Max(c->typlen, 0) + MAXIMUM_ALIGNOF;
	}
	w->as_formed &= w->all_plain && w->desc && w->desc->natts == w->ncolumns;
}

RowWriter *
row_writer_create(TupleDesc desc, MemoryContext parent)
{
	RowWriter *w = create(desc->natts, parent);
	MemoryContext cxt = w->cxt;
	MemoryContext old = MemoryContextSwitchTo(cxt);

	w->desc = CreateTupleDescCopy(desc);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		WriterColumn *c = &w->columns[w->ncolumns];

		if (att->attisdropped)
			continue; /* dropped ones are not stored */
		c->att = i;
		c->codec = codec_for_writing(att->atttypid, cxt);
		c->plain = codec_is_plain(c->codec);
		c->typlen = c->codec->typlen;
		c->byval = c->codec->byval;
		c->align = c->codec->align;
		c->pack = c->typlen == -1 && (!c->plain || att->attstorage != TYPSTORAGE_PLAIN);
		summary_init(&w->sums.columns[w->ncolumns++], c->codec, att->attcollation);
	}
	columns_known(w);
	MemoryContextSwitchTo(old);
	return w;
}

/* The built-in type of that name, for the footer's summaries; a type of the same length that a user made has none. */
static Oid
summary_type(const S3am__StoredType *type)
{
	Oid oid;

	if (type->kind != S3AM__STORED_TYPE__KIND__PLAIN || type->schema[0] != '\0')
		return InvalidOid;
	oid = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(type->name),
						  ObjectIdGetDatum(PG_CATALOG_NAMESPACE));
	return oid < FirstGenbkiObjectId ? oid : InvalidOid;
}

RowWriter *
row_writer_create_stored(const S3am__BatchSchema *schema, bool xmins, MemoryContext parent)
{
	RowWriter *w = create(schema->n_columns + 1, parent);

	w->stored = schema;
	w->xmins = xmins;
	for (size_t i = 0; i < schema->n_columns; i++)
	{
		WriterColumn *c = &w->columns[w->ncolumns];

		c->codec = codec_for_reading(schema, schema->columns[i]->type, InvalidOid, w->cxt);
		c->plain = true;
		c->typlen = c->codec->typlen;
		c->byval = c->codec->byval;
		c->align = c->codec->align;
		/* nothing is read through this codec, so the type may stand in it */
		c->codec->type = summary_type(schema->types[schema->columns[i]->type]);
		summary_init(&w->sums.columns[w->ncolumns++], c->codec, InvalidOid);
	}
	if (xmins)
	{
		WriterColumn *c = &w->columns[w->ncolumns++];

		c->plain = c->byval = true;
		c->typlen = sizeof(uint32);
		c->align = TYPALIGN_INT;
	}
	columns_known(w);
	return w;
}

/* ------------------------------------------------------------------------------------ extents */

static void
emit(RowWriter *w, const void *data, Size len)
{
	if (w->emit)
		w->emit(w->emit_arg, data, len);
	else
		appendBinaryStringInfo(&w->out, data, len);
	w->written += len;
}

void
row_writer_stream(RowWriter *w, SegmentEmit emit_function, void *arg, const uint8 uuid[16], uint64 epoch, uint64 number)
{
	SegmentHeader header = {SEGMENT_MAGIC, SEGMENT_LEVEL, 1, 0, 0, {0}, epoch, number, 0, 0};

	memcpy(header.uuid, uuid, 16);
	header.checksum = XXH3_64bits(&header, offsetof(SegmentHeader, checksum));
	w->emit = emit_function;
	w->emit_arg = arg;
	w->identity = segment_identity(uuid, epoch, number);
	w->press = press_create(w->layout, w->ncolumns, &w->sums);
	emit(w, &header, sizeof(header));
}

/* Adds to the directory; runs of overflow chunks are one entry. */
static void
add_extent(RowWriter *w, uint32 nrows, Size size)
{
	if (nrows == 0 && w->nextents > 0 && w->extent_rows[w->nextents - 1] == 0)
	{
		w->extent_size8[w->nextents - 1] += size / 8;
		return;
	}
	if (w->nextents == w->extents_capacity)
	{
		MemoryContext old = MemoryContextSwitchTo(w->cxt);

		w->extents_capacity = w->extents_capacity ? w->extents_capacity * 2 : 16;
		w->extent_rows = w->extent_rows ? repalloc_huge(w->extent_rows, w->extents_capacity * sizeof(uint32))
										: palloc(w->extents_capacity * sizeof(uint32));
		w->extent_size8 = w->extent_size8 ? repalloc_huge(w->extent_size8, w->extents_capacity * sizeof(uint32))
										  : palloc(w->extents_capacity * sizeof(uint32));
		MemoryContextSwitchTo(old);
	}
	w->extent_rows[w->nextents] = nrows;
	w->extent_size8[w->nextents++] = size / 8;
}

/* Seals and emits a page or chunk, after which there is room for padding; returns its size. */
static Size
emit_extent(RowWriter *w, ExtentHeader *header)
{
	Size size = TYPEALIGN(8, sizeof(ExtentHeader) + header->stored);

	if (w->written / 8 + size / 8 > PG_UINT32_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("rows of more than 32 GB do not fit into one segment")));
	memset((char *) (header + 1) + header->stored, 0, size - sizeof(ExtentHeader) - header->stored);
	header->checksum = extent_checksum(w->identity, w->written, header);
	add_extent(w, header->nrows, size);
	emit(w, header, size);
	return size;
}

/* Compresses and emits a page or chunk now. */
static Size
emit_now(RowWriter *w, ExtentKind kind, uint32 nrows, const char *data, uint32 raw)
{
	Size bound = press_bound(raw);

	if (w->scratch_size < bound)
	{
		if (w->scratch)
			pfree(w->scratch);
		w->scratch = NULL;
		w->scratch = MemoryContextAllocHuge(w->cxt, bound);
		w->scratch_size = bound;
	}
	press_now(kind, nrows, data, raw, w->layout, w->ncolumns, w->emit ? &w->sums : NULL, (ExtentHeader *) w->scratch);
	return emit_extent(w, (ExtentHeader *) w->scratch);
}

/* Pages that are under way are emitted before anything else is. */
static void
emit_pressed(RowWriter *w)
{
	ExtentHeader *header;

	while (w->press && (header = press_get(w->press)) != NULL)
		(void) emit_extent(w, header);
}

/* Room for a page in the press; NULL: it has to be made now. */
static char *
room_in_press(RowWriter *w, Size raw)
{
	char *room;

	if (w->press == NULL)
		return NULL;
	while ((room = press_room(w->press, raw)) == NULL)
	{
		ExtentHeader *header = press_get(w->press);

		if (header == NULL)
			return NULL;
		(void) emit_extent(w, header);
	}
	return room;
}

static void
finish_page(RowWriter *w)
{
	Size directory = TYPEALIGN(8, sizeof(uint32) * w->nrows);
	Size raw = directory + w->page_len;
	char *room, *page;

	if (w->nrows == 0)
		return;
	room = room_in_press(w, raw);
	page = room ? room : MemoryContextAllocHuge(CurrentMemoryContext, raw);
	for (uint32 i = 0; i < w->nrows; i++)
		((uint32 *) page)[i] = w->starts[i] + directory;
	memset(page + sizeof(uint32) * w->nrows, 0, directory - sizeof(uint32) * w->nrows);
	if (w->page_len)
		memcpy(page + directory, w->page, w->page_len);
	if (room)
		press_put(w->press, raw, w->nrows);
	else
	{
		(void) emit_now(w, EXTENT_PAGE, w->nrows, page, raw);
		pfree(page);
	}
	w->nrows = 0;
	w->page_len = 0;
}

uint32
row_writer_add_chunk(RowWriter *w, const void *data, uint32 len)
{
	Size size = TYPEALIGN(8, sizeof(ExtentHeader) + (Size) len);
	uint32 offset8;
	ExtentHeader *header;

	finish_page(w);
	emit_pressed(w);
	offset8 = w->written / 8;
	header = MemoryContextAllocExtended(w->cxt, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	header->stored = header->raw = len;
	header->kind = EXTENT_CHUNK;
	header->compression = EXTENT_PLAIN;
	memcpy(header + 1, data, len);
	(void) emit_extent(w, header);
	pfree(header);
	return offset8;
}

void
row_writer_note_filter(RowWriter *w, S3am__KeyFilter *filter)
{
	w->filter = filter;
}

/* ------------------------------------------------------------------------------------ rows */

/* Can the value have a header of one byte? */
static inline bool
packable(const WriterColumn *c, struct varlena *v)
{
	return c->pack && VARATT_CAN_MAKE_SHORT(v);
}

/* Where the row's values end, if they begin at a multiple of 8. */
static Size
values_size(RowWriter *w)
{
	Size off = 0;

	for (int i = 0; i < w->ncolumns; i++)
	{
		WriterColumn *c = &w->columns[i];
		Datum value = w->values[i];

		if (w->nulls[i])
			continue;
		if (c->typlen > 0)
			off = att_align_nominal(off, c->align) + c->typlen;
		else if (c->typlen == -2)
			off += strlen(DatumGetCString(value)) + 1;
		else if (w->overflow[i].raw)
			off += sizeof(OverflowPointer);
		else if (VARATT_IS_SHORT(DatumGetPointer(value)))
			off += VARSIZE_SHORT(DatumGetPointer(value));
		else if (packable(c, (struct varlena *) DatumGetPointer(value)))
			off += VARATT_CONVERTED_SHORT_SIZE(DatumGetPointer(value));
		else
			off = att_align_nominal(off, c->align) + VARSIZE(DatumGetPointer(value));
	}
	return off;
}

/* Lays the values out; the memory is zero. */
static void
fill_values(RowWriter *w, char *data)
{
	Size off = 0;

	for (int i = 0; i < w->ncolumns; i++)
	{
		WriterColumn *c = &w->columns[i];
		Datum value = w->values[i];
		Size len;

		if (w->nulls[i])
			continue;
		if (c->typlen > 0)
		{
			off = att_align_nominal(off, c->align);
			if (c->byval)
				store_att_byval(data + off, value, c->typlen);
			else
				memcpy(data + off, DatumGetPointer(value), c->typlen);
			off += c->typlen;
			continue;
		}
		if (c->typlen == -2)
		{
			len = strlen(DatumGetCString(value)) + 1;
			memcpy(data + off, DatumGetCString(value), len);
		}
		else if (w->overflow[i].raw)
		{
			len = sizeof(OverflowPointer);
			memcpy(data + off, &w->overflow[i], len);
		}
		else if (VARATT_IS_SHORT(DatumGetPointer(value)))
		{
			len = VARSIZE_SHORT(DatumGetPointer(value));
			memcpy(data + off, DatumGetPointer(value), len);
		}
		else if (packable(c, (struct varlena *) DatumGetPointer(value)))
		{
			len = VARATT_CONVERTED_SHORT_SIZE(DatumGetPointer(value));
			SET_VARSIZE_SHORT(data + off, len);
			memcpy(data + off + 1, VARDATA(DatumGetPointer(value)), len - 1);
		}
		else
		{
			off = att_align_nominal(off, c->align);
			len = VARSIZE(DatumGetPointer(value));
			memcpy(data + off, DatumGetPointer(value), len);
		}
		off += len;
	}
}

/* Writes a value to overflow chunks. */
static void
move_out(RowWriter *w, int column)
{
	struct varlena *v = (struct varlena *) DatumGetPointer(w->values[column]);
	OverflowPointer *pointer = &w->overflow[column];
	const char *data = VARDATA_ANY(v);
	uint32 len = VARSIZE_ANY_EXHDR(v);

	emit_pressed(w);
	/* the page will not show it */
	if (w->sums.columns[column].kind == SUMMARY_PREFIX_BYTES)
		summary_add(&w->sums.columns[column], w->values[column]);
	SET_VARTAG_1B_E((char *) pointer, OVERFLOW_TAG);
	pointer->raw = len;
	pointer->offset8 = w->written / 8;
	pointer->stored = 0;
	for (uint32 done = 0; done < len; done += CHUNK_RAW)
	{
		CHECK_FOR_INTERRUPTS();
		pointer->stored += emit_now(w, EXTENT_CHUNK, 0, data + done, Min(len - done, CHUNK_RAW));
	}
	w->total_bytes += len;
}

/* Moves values out, largest first, until the row has at most `wanted` bytes or none is larger than `at_least`. */
static Size
shrink_row(RowWriter *w, Size size, Size wanted, Size at_least)
{
	while (size > wanted)
	{
		int largest = -1;
		Size largest_size = at_least;

		for (int i = 0; i < w->ncolumns; i++)
		{
			Size n;

			if (w->nulls[i] || w->columns[i].typlen != -1 || w->overflow[i].raw)
				continue;
			n = VARSIZE_ANY(DatumGetPointer(w->values[i]));
			if (n > largest_size)
			{
				largest = i;
				largest_size = n;
			}
		}
		if (largest < 0)
			break;
		move_out(w, largest);
		size = values_size(w);
	}
	return size;
}

/* Begins another page if this one has no room for a row of that size. */
static void
make_room(RowWriter *w, Size size)
{
	if (w->nrows > 0 && w->page_len + size + sizeof(uint32) * (w->nrows + 1) > PAGE_TARGET)
		finish_page(w);
	/* so that an ordinary row can be laid out before it is known whether it belongs to the next page */
	if (w->page == NULL || w->page_len + size > w->page_capacity)
	{
		w->page_capacity = Max(PAGE_TARGET + 2 * ROW_WANTED, w->page_len + size);
		w->page = w->page ? repalloc_huge(w->page, w->page_capacity) : MemoryContextAllocHuge(w->cxt, w->page_capacity);
	}
}

static void
add_start(RowWriter *w, Size size, uint32 flags)
{
	if (w->nrows == w->capacity)
		w->starts = repalloc(w->starts, sizeof(uint32) * (w->capacity *= 2));
	w->starts[w->nrows++] = w->page_len | flags;
	w->page_len += size;
	w->total_bytes += size + sizeof(uint32);
	w->total_rows++;
}

/* The row whose values are in w->values, `len` bytes of them. */
static void
store_row(RowWriter *w, bool has_nulls, Size len)
{
	Size bitmap = has_nulls ? TYPEALIGN(8, BITMAPLEN(w->ncolumns)) : 0;
	Size size = TYPEALIGN(8, bitmap + len);
	char *row;

	if (size > PAGE_MAX_RAW - PAGE_TARGET)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("row is too big: size %zu, maximum size %d", size, PAGE_MAX_RAW - PAGE_TARGET)));
	make_room(w, size);
	row = w->page + w->page_len;
	memset(row, 0, size);
	if (has_nulls)
		for (int i = 0; i < w->ncolumns; i++)
			if (!w->nulls[i])
				((bits8 *) row)[i >> 3] |= 1 << (i & 7);
	fill_values(w, row + bitmap);
	add_start(w, size, has_nulls ? ROW_HAS_NULLS : 0);
}

/*
 * Lays out a row of plain columns that needs no conversion and keeps to ROW_WANTED, in one go; nearly all rows are such.  Returns its
 * size; 0: it is another one, and nothing has changed.
 */
static Size
lay_out(RowWriter *w, const Datum *values, const bool *nulls, bool *has_nulls)
{
	char *row = w->page + w->page_len, *data = row;
	Size off = 0, room = ROW_WANTED;

	if (w->page_capacity - w->page_len < 2 * ROW_WANTED || w->fixed_size > ROW_WANTED / 2)
		return 0;
	room -= w->fixed_size;
	*has_nulls = false;
	for (int i = 0; i < w->ncolumns; i++)
		*has_nulls |= nulls[w->columns[i].att];
	if (*has_nulls)
	{
		Size bitmap = TYPEALIGN(8, BITMAPLEN(w->ncolumns));

		memset(data, 0, bitmap);
		data += bitmap;
	}
	for (int i = 0; i < w->ncolumns; i++)
	{
		WriterColumn *c = &w->columns[i];
		Datum value = values[c->att];
		Size len, aligned;

		if (nulls[c->att])
			continue;
		if (*has_nulls)
			((bits8 *) row)[i >> 3] |= 1 << (i & 7);
		if (c->typlen > 0)
		{
			aligned = TYPEALIGN(w->layout[i].align, off);
			/* padding is zero; values that follow overwrite the rest of this */
			memset(data + off, 0, 8);
			off = aligned;
			if (c->byval)
				store_att_byval(data + off, value, c->typlen);
			else
				memcpy(data + off, DatumGetPointer(value), c->typlen);
			off += c->typlen;
		}
		else
		{
			struct varlena *v = (struct varlena *) DatumGetPointer(value);

			if (VARATT_IS_EXTERNAL(v) || VARATT_IS_COMPRESSED(v))
				return 0;
			len = VARSIZE_ANY(v);
			if (off + len > room)
				return 0;
			if (VARATT_IS_SHORT(v))
				memcpy(data + off, v, len);
			else if (packable(c, v))
			{
				len = VARATT_CONVERTED_SHORT_SIZE(v);
				SET_VARSIZE_SHORT(data + off, len);
				memcpy(data + off + 1, VARDATA(v), len - 1);
			}
			else
			{
				memset(data + off, 0, 8);
				off = TYPEALIGN(w->layout[i].align, off);
				memcpy(data + off, v, len);
			}
			off += len;
		}
	}
	memset(data + off, 0, 8);
	return TYPEALIGN(8, data - row + off);
}

static bool
add_plain(RowWriter *w, const Datum *values, const bool *nulls)
{
	bool has_nulls;
	Size size;

	if (w->page == NULL)
		make_room(w, 0);
	size = lay_out(w, values, nulls, &has_nulls);
	if (size == 0)
		return false;
	for (int i = 0; i < w->ncolumns; i++)
		if (w->columns[i].one_by_one && !nulls[w->columns[i].att])
			summary_add(&w->sums.columns[i], values[w->columns[i].att]);
	if (w->nrows > 0 && w->page_len + size + sizeof(uint32) * (w->nrows + 1) > PAGE_TARGET)
	{
		char *row = w->page + w->page_len;

		finish_page(w);
		memmove(w->page, row, size);
	}
	add_start(w, size, has_nulls ? ROW_HAS_NULLS : 0);
	return true;
}

bool
row_writer_add_formed(RowWriter *w, MinimalTuple tuple)
{
	bool has_nulls = (tuple->t_infomask & HEAP_HASNULL) != 0;
	Size bitmap = has_nulls ? TYPEALIGN(8, BITMAPLEN(w->ncolumns)) : 0;
	Size from = tuple->t_hoff - MINIMAL_TUPLE_OFFSET;
	Size len = tuple->t_len - from;
	Size size = TYPEALIGN(8, bitmap + len);
	char *row;

	if (!w->as_formed || HeapTupleHeaderGetNatts(tuple) != w->ncolumns || size > ROW_WANTED)
		return false;
	make_room(w, size);
	row = w->page + w->page_len;
	if (has_nulls)
	{
		memset(row, 0, bitmap);
		memcpy(row, tuple->t_bits, BITMAPLEN(w->ncolumns));
	}
	if (len > 0)
		memset(row + size - 8, 0, 8);
	memcpy(row + bitmap, (char *) tuple + from, len);
	add_start(w, size, has_nulls ? ROW_HAS_NULLS : 0);
	return true;
}

uint64
row_writer_add(RowWriter *w, const Datum *values, const bool *nulls)
{
	MemoryContext old;
	bool has_nulls = false;
	Size len;

	if (w->all_plain && add_plain(w, values, nulls))
		return w->total_rows - 1;
	old = MemoryContextSwitchTo(w->row_cxt);

	for (int i = 0; i < w->ncolumns; i++)
	{
		WriterColumn *c = &w->columns[i];

		w->overflow[i].raw = 0;
		w->nulls[i] = nulls[c->att];
		if (w->nulls[i])
		{
			has_nulls = true;
			continue;
		}
		w->values[i] = c->plain && c->typlen != -1 ? values[c->att] : codec_encode(c->codec, values[c->att]);
		if (c->one_by_one)
			summary_add(&w->sums.columns[i], w->values[i]);
	}
	len = values_size(w);
	if (len > ROW_WANTED)
	{
		len = shrink_row(w, len, ROW_WANTED, VALUE_LARGE);
		len = shrink_row(w, len, ROW_ALLOWED, VALUE_SMALL);
	}
	store_row(w, has_nulls, len);
	MemoryContextSwitchTo(old);
	MemoryContextReset(w->row_cxt);
	return w->total_rows - 1;
}

/* ------------------------------------------------------------------------------------ rows of other batches */

typedef struct CopyChunk
{
	RowWriter *w;
	int column;
} CopyChunk;

static void
copy_chunk(void *arg, const char *data, uint32 len)
{
	CopyChunk *copy = arg;
	RowWriter *w = copy->w;
	OverflowPointer *pointer = &w->overflow[copy->column];
	Summary *summary = &w->sums.columns[copy->column];

	CHECK_FOR_INTERRUPTS();
	if (pointer->stored == 0 && summary->kind == SUMMARY_PREFIX_BYTES)
	{
		/* the beginning of a text says as much as all of it */
		text *prefix = cstring_to_text_with_len(data, Min(len, SUMMARY_PREFIX));

		summary_add(summary, PointerGetDatum(prefix));
		pfree(prefix);
	}
	pointer->stored += emit_now(w, EXTENT_CHUNK, 0, data, len);
	w->total_bytes += len;
}

/* Copies an overflow value's chunks. */
static void
copy_out(RowWriter *w, int column, const RowPage *page)
{
	OverflowPointer from;
	OverflowPointer *to = &w->overflow[column];
	CopyChunk copy = {w, column};

	memcpy(&from, DatumGetPointer(w->values[column]), sizeof(from));
	emit_pressed(w);
	SET_VARTAG_1B_E((char *) to, OVERFLOW_TAG);
	to->raw = from.raw;
	to->stored = 0;
	to->offset8 = w->written / 8;
	overflow_each(page, &from, copy_chunk, &copy);
}

void
row_writer_add_stored(RowWriter *w, const RowPage *page, const RowMap *map, uint64 page_row, uint32 xmin)
{
	MemoryContext old = MemoryContextSwitchTo(w->row_cxt);
	int n = w->xmins ? w->ncolumns - 1 : w->ncolumns;
	bool has_nulls = false;
	RowCursor cursor;

	row_begin(&cursor, page, map, page_row);
	row_deform(&cursor, NULL, 0, n, w->values, w->nulls, w->row_cxt);
	for (int i = 0; i < n; i++)
	{
		WriterColumn *c = &w->columns[i];

		w->overflow[i].raw = 0;
		if (w->nulls[i])
			has_nulls = true;
		else if (c->typlen == -1 && VARATT_IS_1B_E(DatumGetPointer(w->values[i])))
			copy_out(w, i, page);
		else if (c->one_by_one)
			summary_add(&w->sums.columns[i], w->values[i]);
	}
	if (w->xmins)
	{
		w->values[n] = UInt32GetDatum(xmin);
		w->nulls[n] = false;
		w->overflow[n].raw = 0;
	}
	store_row(w, has_nulls, values_size(w));
	MemoryContextSwitchTo(old);
	MemoryContextReset(w->row_cxt);
}

void
row_writer_add_gone(RowWriter *w)
{
	make_room(w, 0);
	add_start(w, 0, ROW_GONE);
}

bool
row_writer_is_plain(const RowWriter *w)
{
	return w->all_plain;
}

uint64
row_writer_count(const RowWriter *w)
{
	return w->total_rows;
}

uint32
row_writer_page_rows(const RowWriter *w)
{
	return w->nrows;
}

void
row_writer_end_page(RowWriter *w)
{
	finish_page(w);
}

Size
row_writer_bytes(const RowWriter *w)
{
	return w->total_bytes;
}

/* ------------------------------------------------------------------------------------ the end */

static S3am__BatchSchema *
describe(RowWriter *w, bool for_footer)
{
	S3am__BatchSchema *schema = palloc(sizeof(*schema));
	DictionaryBuilder builder = {schema, 0, for_footer};

	s3am__batch_schema__init(schema);
	if (w->stored)
	{
		*schema = *w->stored;
		if (w->xmins)
			schema_add_xmin(schema);
		return schema;
	}
	schema->columns = palloc(sizeof(void *) * Max(w->ncolumns, 1));
	for (int i = 0; i < w->ncolumns; i++)
	{
		S3am__StoredColumn *column = palloc(sizeof(*column));

		s3am__stored_column__init(column);
		/* the same on every server: replayed DDL and checkpoints keep attribute numbers */
		column->id = w->columns[i].att + 1;
		column->type = codec_describe(w->columns[i].codec, &builder);
		if (for_footer)
			column->name = pstrdup(NameStr(TupleDescAttr(w->desc, w->columns[i].att)->attname));
		schema->columns[schema->n_columns++] = column;
	}
	return schema;
}

static S3am__PageDirectory *
directory(RowWriter *w)
{
	S3am__PageDirectory *pages = palloc(sizeof(*pages));
	Size bytes = sizeof(uint32) * w->nextents;

	s3am__page_directory__init(pages);
	pages->n_rows = pages->n_size8 = w->nextents;
	pages->rows = memcpy(MemoryContextAllocHuge(CurrentMemoryContext, Max(bytes, 1)), w->extent_rows, bytes);
	pages->size8 = memcpy(MemoryContextAllocHuge(CurrentMemoryContext, Max(bytes, 1)), w->extent_size8, bytes);
	return pages;
}

static uint32
emit_footer(RowWriter *w, S3am__PageDirectory *pages)
{
	S3am__SegmentFooter footer = S3AM__SEGMENT_FOOTER__INIT;
	SegmentTrailer trailer = {0};
	Size len;
	uint8 *bytes;

	footer.nrows = w->total_rows;
	footer.raw_bytes = w->total_bytes;
	footer.schema = describe(w, true);
	footer.pages = pages;
	footer.filter = w->filter;
	footer.columns = palloc(sizeof(void *) * Max(w->ncolumns, 1));
	if (w->press)
		press_sum(w->press);
	for (int i = 0; i < w->ncolumns && !w->sums.short_of_memory; i++)
		footer.columns[footer.n_columns++] = summary_message(&w->sums.columns[i]);
	len = s3am__segment_footer__get_packed_size(&footer);
	bytes = MemoryContextAllocHuge(CurrentMemoryContext, len + sizeof(trailer));
	(void) s3am__segment_footer__pack(&footer, bytes);
	trailer.footer = len;
	trailer.magic = TRAILER_MAGIC;
	memcpy(bytes + len, (char *) &trailer + sizeof(trailer.checksum), sizeof(trailer) - sizeof(trailer.checksum));
	trailer.checksum = XXH3_64bits_withSeed(bytes, len + sizeof(trailer) - sizeof(trailer.checksum), w->identity);
	memcpy(bytes + len, &trailer, sizeof(trailer));
	emit(w, bytes, len + sizeof(trailer));
	pfree(bytes);
	return len + sizeof(trailer);
}

void
row_writer_finish(RowWriter *w, S3am__Batch *batch)
{
	finish_page(w);
	emit_pressed(w);
	batch->nrows = w->total_rows;
	batch->schema = describe(w, false);
	batch->filter = w->filter;
	if (w->emit)
	{
		batch->pages = directory(w);
		if (batch->segment == NULL)
		{
			batch->segment = palloc(sizeof(S3am__SegmentRef));
			s3am__segment_ref__init(batch->segment);
		}
		batch->segment->live_bytes = w->total_bytes;
		batch->segment->footer_size = emit_footer(w, batch->pages);
		batch->segment->size = w->written;
		return;
	}
	if (w->nextents != 1)
		batch->pages = directory(w);
	batch->rows.len = w->out.len;
	batch->rows.data = palloc(Max(w->out.len, 1));
	memcpy(batch->rows.data, w->out.data, w->out.len);
}

void
row_writer_free(RowWriter *w)
{
	MemoryContextDelete(w->cxt);
}
