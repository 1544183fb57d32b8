/*
 * writer.c: rows into pages, pages into a segment or an inline batch.
 *
 * Only the page in progress is in memory; what is finished goes to the segment's upload (or, inline, to the blob) at once.
 */
#include "postgres.h"

#include <xxhash.h>
#include <zstd.h>

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
#include "segment/summary.h"

#ifndef COMPRESS_FROM
#define COMPRESS_FROM 1024
#endif
#define ZSTD_LEVEL 1

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
	Codec *codec;
	Summary summary;
} WriterColumn;

struct RowWriter
{
	MemoryContext cxt, row_cxt; /* reset after each row */
	TupleDesc desc; /* or NULL: rows come as they are stored, of this schema */
	const S3am__BatchSchema *stored;
	bool xmins; /* with a last column for each row's xmin */
	int ncolumns;
	WriterColumn *columns;
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
	char *scratch; /* for compression */
	Size scratch_size;
	ZSTD_CCtx *zstd;
	MemoryContextCallback free_zstd;
};

static void
free_zstd(void *arg)
{
	ZSTD_freeCCtx(((RowWriter *) arg)->zstd);
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
	w->zstd = ZSTD_createCCtx();
	if (w->zstd == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	w->free_zstd.func = free_zstd;
	w->free_zstd.arg = w;
	MemoryContextRegisterResetCallback(cxt, &w->free_zstd);
	MemoryContextSwitchTo(old);
	return w;
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
		summary_init(&c->summary, c->codec, att->attcollation);
		w->ncolumns++;
	}
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
		WriterColumn *c = &w->columns[w->ncolumns++];

		c->codec = codec_for_reading(schema, schema->columns[i]->type, InvalidOid, w->cxt);
		c->plain = true;
		c->typlen = c->codec->typlen;
		c->byval = c->codec->byval;
		c->align = c->codec->align;
		/* nothing is read through this codec, so the type may stand in it */
		c->codec->type = summary_type(schema->types[schema->columns[i]->type]);
		summary_init(&c->summary, c->codec, InvalidOid);
	}
	if (xmins)
	{
		WriterColumn *c = &w->columns[w->ncolumns++];

		c->plain = c->byval = true;
		c->typlen = sizeof(uint32);
		c->align = TYPALIGN_INT;
	}
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

/* Compresses, seals and emits a page or chunk; returns its size. */
static Size
emit_extent(RowWriter *w, ExtentKind kind, uint32 nrows, const char *data, uint32 raw)
{
	ExtentHeader *header;
	Size bound = sizeof(ExtentHeader) + Max(ZSTD_compressBound(raw), raw) + 8;
	Size size;

	if (w->written / 8 + bound / 8 > PG_UINT32_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("rows of more than 32 GB do not fit into one segment")));
	if (w->scratch_size < bound)
	{
		if (w->scratch)
			pfree(w->scratch);
		w->scratch = NULL;
		w->scratch = MemoryContextAllocHuge(w->cxt, bound);
		w->scratch_size = bound;
	}
	header = (ExtentHeader *) w->scratch;
	memset(header, 0, sizeof(*header));
	header->kind = kind;
	header->nrows = nrows;
	header->raw = header->stored = raw;
	if (raw >= COMPRESS_FROM)
	{
		Size n = ZSTD_compressCCtx(w->zstd, header + 1, bound - sizeof(ExtentHeader), data, raw, ZSTD_LEVEL);

		if (!ZSTD_isError(n) && n < raw)
		{
			header->stored = n;
			header->compression = 1;
		}
	}
	if (header->compression == 0)
		memcpy(header + 1, data, raw);
	size = TYPEALIGN(8, sizeof(ExtentHeader) + header->stored);
	memset(w->scratch + sizeof(ExtentHeader) + header->stored, 0, size - sizeof(ExtentHeader) - header->stored);
	header->checksum = extent_checksum(w->identity, w->written, header);
	add_extent(w, nrows, size);
	emit(w, w->scratch, size);
	return size;
}

static void
finish_page(RowWriter *w)
{
	Size directory = TYPEALIGN(8, sizeof(uint32) * w->nrows);
	char *page;

	if (w->nrows == 0)
		return;
	page = palloc(directory + w->page_len);
	for (uint32 i = 0; i < w->nrows; i++)
		((uint32 *) page)[i] = w->starts[i] + directory;
	memset(page + sizeof(uint32) * w->nrows, 0, directory - sizeof(uint32) * w->nrows);
	if (w->page_len)
		memcpy(page + directory, w->page, w->page_len);
	(void) emit_extent(w, EXTENT_PAGE, w->nrows, page, directory + w->page_len);
	pfree(page);
	w->nrows = 0;
	w->page_len = 0;
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

	SET_VARTAG_1B_E((char *) pointer, OVERFLOW_TAG);
	pointer->raw = len;
	pointer->offset8 = w->written / 8;
	pointer->stored = 0;
	for (uint32 done = 0; done < len; done += CHUNK_RAW)
	{
		CHECK_FOR_INTERRUPTS();
		pointer->stored += emit_extent(w, EXTENT_CHUNK, 0, data + done, Min(len - done, CHUNK_RAW));
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
	if (w->page_len + size > w->page_capacity)
	{
		w->page_capacity = Max(PAGE_TARGET, w->page_len + size);
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

uint64
row_writer_add(RowWriter *w, const Datum *values, const bool *nulls)
{
	MemoryContext old = MemoryContextSwitchTo(w->row_cxt);
	bool has_nulls = false;
	Size len;

	for (int i = 0; i < w->ncolumns; i++)
	{
		WriterColumn *c = &w->columns[i];

		w->overflow[i].raw = 0;
		w->nulls[i] = nulls[c->att];
		if (w->nulls[i])
		{
			has_nulls = true;
			c->summary.nulls++;
			continue;
		}
		w->values[i] = c->plain && c->typlen != -1 ? values[c->att] : codec_encode(c->codec, values[c->att]);
		if (c->summary.kind != SUMMARY_NONE)
			summary_add(&c->summary, w->values[i]);
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
	Summary *summary = &w->columns[copy->column].summary;

	CHECK_FOR_INTERRUPTS();
	if (pointer->stored == 0 && summary->kind == SUMMARY_PREFIX_BYTES)
	{
		/* the beginning of a text says as much as all of it */
		text *prefix = cstring_to_text_with_len(data, Min(len, SUMMARY_PREFIX));

		summary_add(summary, PointerGetDatum(prefix));
		pfree(prefix);
	}
	pointer->stored += emit_extent(w, EXTENT_CHUNK, 0, data, len);
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
		{
			has_nulls = true;
			c->summary.nulls++;
		}
		else if (c->typlen == -1 && VARATT_IS_1B_E(DatumGetPointer(w->values[i])))
			copy_out(w, i, page);
		else if (c->summary.kind != SUMMARY_NONE)
			summary_add(&c->summary, w->values[i]);
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

uint64
row_writer_count(const RowWriter *w)
{
	return w->total_rows;
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
	footer.columns = palloc(sizeof(void *) * Max(w->ncolumns, 1));
	for (int i = 0; i < w->ncolumns; i++)
		footer.columns[footer.n_columns++] = summary_message(&w->columns[i].summary);
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
	batch->nrows = w->total_rows;
	batch->schema = describe(w, false);
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
