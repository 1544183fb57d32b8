/*
 * rowpage.c: batches of rows: writing and reading.  docs/format.md describes the bytes.
 *
 * A batch is pages followed by a footer (columns, page directory) and a trailer.  Rows are laid out as PostgreSQL lays out the data
 * of a heap tuple, so a Datum of a pass-by-reference type points into the decompressed page.  A column whose values mean
 * something else on another server (types made by users, and those that hold OIDs) is stored as text.
 */
#include "postgres.h"

#include <xxhash.h>
#include <zstd.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/tupdesc_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/expandeddatum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "segment/rowpage.h"

#define PAGE_TARGET (64 * 1024)
#define COMPRESS_FROM 1024
#define TRAILER_MAGIC 0x31424753	/* "SGB1" */
#define SEGMENT_HEADER 64
#define MAX_PAGE ((Size) 0x7fff0000)

typedef struct RowPageHeader
{
	uint32		raw;			/* bytes when decompressed */
	uint32		stored;			/* bytes that follow; equal to raw: not compressed */
	uint32		nrows;
	uint32		reserved;
	uint64		checksum;		/* XXH3-64 of the four numbers above and the stored bytes */
} RowPageHeader;

typedef struct PageEntry
{
	uint64		offset;			/* of the page header, within the object */
	uint64		first_row;
	uint32		nrows;
	uint32		size;			/* header included */
} PageEntry;

typedef struct ColumnEntry
{
	uint16		id;				/* column id */
	int16		typlen;
	char		align;
	char		storage;
	uint8		byval;
	uint8		as_text;
} ColumnEntry;

typedef struct BatchHeader
{
	uint16		version;
	uint16		ncolumns;
	uint32		npages;
	uint64		nrows;
} BatchHeader;

typedef struct Trailer
{
	uint32		footer;			/* bytes before the trailer */
	uint32		magic;
	uint64		checksum;		/* XXH3-64 of the footer */
} Trailer;

typedef struct RowHeader
{
	uint32		len;			/* of the row, header included */
	uint16		natts;
	uint8		has_nulls;
	uint8		data;			/* where the data begin */
} RowHeader;

/* ------------------------------------------------------------------------------------ portable columns */

/* Do values of this type mean the same on every server when copied byte by byte? */
static bool
is_plain(Oid type)
{
	Oid			base = getBaseType(type);
	Oid			element;

	switch (base)
	{
		case REGCLASSOID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGCOLLATIONOID:
		case ACLITEMOID:
			return false;
		default:
			break;
	}
	element = get_element_type(base);
	if (OidIsValid(element))
		return base < FirstNormalObjectId && is_plain(element);
	if (base >= FirstNormalObjectId)
	{
		/* a base type of an extension is its own bytes; those made of others are not */
		return get_typtype(base) == TYPTYPE_BASE;
	}
	return get_typtype(base) != TYPTYPE_PSEUDO && get_typtype(base) != TYPTYPE_COMPOSITE;
}

/* ------------------------------------------------------------------------------------ writing */

struct RowWriter
{
	MemoryContext cxt,
				row_cxt;
	TupleDesc	desc;			/* of the relation */
	TupleDesc	physical;		/* what is stored */
	FmgrInfo   *output;			/* of columns stored as text */
	bool	   *as_text;
	Datum	   *values;
	StringInfoData rows;		/* of the current page */
	uint32	   *offsets;
	uint32		nrows,
				capacity;
	uint64		total_rows;
	Size		total_bytes;
	StringInfoData out;			/* inline: finished pages */
	SegmentEmit emit;
	void	   *emit_arg;
	uint64		written;		/* bytes emitted */
	PageEntry  *pages;
	uint32		npages,
				pages_capacity;
};

RowWriter *
row_writer_create(TupleDesc desc, MemoryContext parent)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "s3am row writer", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	RowWriter  *w = palloc0(sizeof(RowWriter));

	w->cxt = cxt;
	w->row_cxt = AllocSetContextCreate(cxt, "s3am row", ALLOCSET_DEFAULT_SIZES);
	w->desc = CreateTupleDescCopy(desc);
	w->physical = CreateTupleDescCopy(desc);
	w->output = palloc0(sizeof(FmgrInfo) * Max(desc->natts, 1));
	w->as_text = palloc0(Max(desc->natts, 1));
	w->values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(w->physical, i);
		Oid			output;
		bool		varlena;

		if (att->attisdropped || is_plain(att->atttypid))
			continue;
		w->as_text[i] = true;
		getTypeOutputInfo(att->atttypid, &output, &varlena);
		fmgr_info_cxt(output, &w->output[i], cxt);
		att->atttypid = TEXTOID;
		att->attlen = -1;
		att->attbyval = false;
		att->attalign = TYPALIGN_INT;
		att->attstorage = TYPSTORAGE_EXTENDED;
	}
	w->capacity = 256;
	w->offsets = palloc(sizeof(uint32) * w->capacity);
	initStringInfo(&w->rows);
	initStringInfo(&w->out);
	MemoryContextSwitchTo(old);
	return w;
}

static void
emit(RowWriter *w, const void *data, Size len)
{
	if (w->emit)
		w->emit(w->emit_arg, data, len);
	else
		appendBinaryStringInfo(&w->out, data, len);
	w->written += len;
}

static uint64
page_checksum(const RowPageHeader *header, const void *stored)
{
	XXH3_state_t *state = XXH3_createState();
	uint64		h;

	XXH3_64bits_reset(state);
	XXH3_64bits_update(state, header, offsetof(RowPageHeader, checksum));
	XXH3_64bits_update(state, stored, header->stored);
	h = XXH3_64bits_digest(state);
	XXH3_freeState(state);
	return h;
}

static void
finish_page(RowWriter *w)
{
	RowPageHeader	header = {0};
	Size		directory = MAXALIGN(sizeof(uint32) * w->nrows);
	Size		raw = directory + w->rows.len;
	char	   *page;
	char	   *stored;
	MemoryContext old;

	if (w->nrows == 0)
		return;
	old = MemoryContextSwitchTo(w->row_cxt);
	page = MemoryContextAllocExtended(w->row_cxt, raw, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint32 i = 0; i < w->nrows; i++)
		((uint32 *) page)[i] = w->offsets[i] + directory;
	memcpy(page + directory, w->rows.data, w->rows.len);
	header.raw = header.stored = raw;
	header.nrows = w->nrows;
	stored = page;
	if (raw >= COMPRESS_FROM)
	{
		Size		bound = ZSTD_compressBound(raw);
		char	   *compressed = MemoryContextAllocHuge(w->row_cxt, bound);
		Size		n = ZSTD_compress(compressed, bound, page, raw, 1);

		if (!ZSTD_isError(n) && n < raw)
		{
			header.stored = n;
			stored = compressed;
		}
	}
	header.checksum = page_checksum(&header, stored);
	if (w->npages == w->pages_capacity)
	{
		MemoryContextSwitchTo(w->cxt);
		w->pages_capacity = w->pages_capacity ? w->pages_capacity * 2 : 8;
		w->pages = w->pages ? repalloc(w->pages, w->pages_capacity * sizeof(PageEntry))
			: palloc(w->pages_capacity * sizeof(PageEntry));
	}
	w->pages[w->npages].offset = w->written;
	w->pages[w->npages].first_row = w->total_rows - w->nrows;
	w->pages[w->npages].nrows = w->nrows;
	w->pages[w->npages].size = sizeof(header) + header.stored;
	w->npages++;
	emit(w, &header, sizeof(header));
	emit(w, stored, header.stored);
	w->nrows = 0;
	resetStringInfo(&w->rows);
	MemoryContextSwitchTo(old);
	MemoryContextReset(w->row_cxt);
}

uint64
row_writer_add(RowWriter *w, const Datum *values, const bool *nulls)
{
	MemoryContext old = MemoryContextSwitchTo(w->row_cxt);
	int			natts = w->physical->natts;
	bool		has_nulls = false;
	Size		len,
				data,
				size;
	RowHeader  *row;
	uint16		infomask = 0;

	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(w->physical, i);

		w->values[i] = values[i];
		if (nulls[i])
		{
			has_nulls = true;
			continue;
		}
		if (w->as_text[i])
			w->values[i] = CStringGetTextDatum(OutputFunctionCall(&w->output[i], values[i]));
		else if (att->attlen == -1)
		{
			struct varlena *v = (struct varlena *) DatumGetPointer(values[i]);

			if (VARATT_IS_EXTERNAL(v) || VARATT_IS_COMPRESSED(v))
				w->values[i] = PointerGetDatum(detoast_attr(v));
		}
	}
	data = MAXALIGN(sizeof(RowHeader) + (has_nulls ? BITMAPLEN(natts) : 0));
	len = heap_compute_data_size(w->physical, w->values, (bool *) nulls);
	size = MAXALIGN(data + len);
	if (w->nrows > 0 && (Size) w->rows.len + size > PAGE_TARGET)
	{
		MemoryContext page_cxt = AllocSetContextCreate(w->cxt, "s3am row", ALLOCSET_DEFAULT_SIZES);
		MemoryContext row_cxt = w->row_cxt;

		/* the page's memory goes, the row's stays */
		w->row_cxt = page_cxt;
		finish_page(w);
		w->row_cxt = row_cxt;
		MemoryContextDelete(page_cxt);
	}
	if (size > MAX_PAGE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("row is too big: size %zu, maximum size %zu", size, MAX_PAGE)));
	row = MemoryContextAllocExtended(w->row_cxt, size, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	row->len = size;
	row->natts = natts;
	row->has_nulls = has_nulls;
	row->data = 0;
	heap_fill_tuple(w->physical, w->values, (bool *) nulls, (char *) row + data, len, &infomask,
					has_nulls ? (bits8 *) (row + 1) : NULL);
	if (w->nrows == w->capacity)
		w->offsets = repalloc(w->offsets, sizeof(uint32) * (w->capacity *= 2));
	w->offsets[w->nrows++] = w->rows.len;
	if (size > MaxAllocSize - w->rows.len - 1)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("row is too big: size %zu", size)));
	appendBinaryStringInfo(&w->rows, (char *) row, size);
	w->total_bytes += size;
	MemoryContextSwitchTo(old);
	MemoryContextReset(w->row_cxt);
	return w->total_rows++;
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

static uint32
finish_batch(RowWriter *w)
{
	StringInfoData footer;
	BatchHeader header = {1, w->physical->natts, 0, 0};
	Trailer		trailer;
	MemoryContext old;

	finish_page(w);
	old = MemoryContextSwitchTo(w->cxt);
	header.npages = w->npages;
	header.nrows = w->total_rows;
	initStringInfo(&footer);
	appendBinaryStringInfo(&footer, (char *) &header, sizeof(header));
	for (int i = 0; i < w->physical->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(w->physical, i);
		ColumnEntry column = {att->attnum, att->attlen, att->attalign, att->attstorage, att->attbyval, w->as_text[i]};

		appendBinaryStringInfo(&footer, (char *) &column, sizeof(column));
	}
	appendBinaryStringInfo(&footer, (char *) w->pages, sizeof(PageEntry) * w->npages);
	trailer.footer = footer.len;
	trailer.magic = TRAILER_MAGIC;
	trailer.checksum = XXH3_64bits(footer.data, footer.len);
	emit(w, footer.data, footer.len);
	emit(w, &trailer, sizeof(trailer));
	MemoryContextSwitchTo(old);
	return footer.len + sizeof(trailer);
}

bytea *
row_writer_inline(RowWriter *w)
{
	bytea	   *result;

	(void) finish_batch(w);
	result = palloc(VARHDRSZ + w->out.len);
	SET_VARSIZE(result, VARHDRSZ + w->out.len);
	memcpy(VARDATA(result), w->out.data, w->out.len);
	return result;
}

typedef struct SegmentHeader
{
	char		magic[8];
	uint16		level,
				min_reader,
				encryption,
				reserved;
	uint8		uuid[16];
	uint64		epoch,
				number;
	uint64		unused;
	uint64		checksum;		/* XXH3-64 of what stands before it */
} SegmentHeader;

StaticAssertDecl(sizeof(SegmentHeader) == SEGMENT_HEADER, "segment header");

void
row_writer_stream(RowWriter *w, SegmentEmit emit_function, void *arg, const uint8 uuid[16], uint64 epoch, uint64 number)
{
	SegmentHeader header = {"S3AMSEG1", 1, 1, 0, 0, {0}, epoch, number, 0, 0};

	memcpy(header.uuid, uuid, 16);
	header.checksum = XXH3_64bits(&header, offsetof(SegmentHeader, checksum));
	w->emit = emit_function;
	w->emit_arg = arg;
	emit(w, &header, sizeof(header));
}

void
row_writer_finish(RowWriter *w, uint64 *object_size, uint32 *footer_size)
{
	*footer_size = finish_batch(w);
	*object_size = w->written;
}

void
row_writer_free(RowWriter *w)
{
	MemoryContextDelete(w->cxt);
}

/* ------------------------------------------------------------------------------------ reading */

typedef struct ReadColumn
{
	int			target;			/* attribute of the relation, or -1 */
	int16		typlen;
	bool		byval;
	char		align;
	bool		as_text;
	FmgrInfo	input;
	Oid			ioparam;
	int32		typmod;
} ReadColumn;

struct RowReader
{
	MemoryContext cxt,
				page_cxt;
	TupleDesc	desc;
	char		object[80];
	const uint8 *blob;			/* inline */
	Size		blob_len;
	BatchFetch	fetch;
	void	   *fetch_arg;
	BatchHeader header;
	ReadColumn *columns;
	PageEntry  *pages;
	bool	   *covered;		/* attributes that the batch has */
	bool		identity;		/* columns and attributes match one to one, none as text */
	int			page;
	const char *raw;
	uint32		raw_len,
				page_rows;
	uint64		page_first;
};

static void
damaged(RowReader *r, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("rows in \"%s\" are damaged: %s", r->object, what)));
}

static const uint8 *
range(RowReader *r, uint64 offset, Size len)
{
	if (r->blob)
	{
		if (offset > r->blob_len || len > r->blob_len - offset)
			damaged(r, "cut off");
		return r->blob + offset;
	}
	return r->fetch(r->fetch_arg, offset, len);
}

static RowReader *
open_reader(TupleDesc desc, MemoryContext parent, const char *object)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "s3am row reader", ALLOCSET_SMALL_SIZES);
	RowReader  *r = MemoryContextAllocZero(cxt, sizeof(RowReader));

	r->cxt = cxt;
	r->page_cxt = AllocSetContextCreate(cxt, "s3am page", ALLOCSET_START_SMALL_SIZES);
	r->desc = desc;
	r->page = -1;
	strlcpy(r->object, object, sizeof(r->object));
	return r;
}

static void
read_footer(RowReader *r, const uint8 *end, Size available)
{
	Trailer		trailer;
	const uint8 *footer;
	Size		expected;

	if (available < sizeof(Trailer) + sizeof(BatchHeader))
		damaged(r, "cut off");
	memcpy(&trailer, end - sizeof(Trailer), sizeof(Trailer));
	if (trailer.magic != TRAILER_MAGIC || trailer.footer > available - sizeof(Trailer) ||
		trailer.footer < sizeof(BatchHeader))
		damaged(r, "no trailer");
	footer = end - sizeof(Trailer) - trailer.footer;
	if (XXH3_64bits(footer, trailer.footer) != trailer.checksum)
		damaged(r, "the footer's checksum does not fit");
	memcpy(&r->header, footer, sizeof(BatchHeader));
	if (r->header.version != 1)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("rows in \"%s\" were written in a newer format", r->object),
				 errhint("Upgrade s3am on this server.")));
	expected = sizeof(BatchHeader) + (Size) r->header.ncolumns * sizeof(ColumnEntry) +
		(Size) r->header.npages * sizeof(PageEntry);
	if (expected != trailer.footer)
		damaged(r, "the footer's length does not fit");
	r->columns = palloc0(sizeof(ReadColumn) * Max(r->header.ncolumns, 1));
	r->covered = palloc0(Max(r->desc->natts, 1));
	r->identity = r->header.ncolumns == r->desc->natts;
	footer += sizeof(BatchHeader);
	for (int i = 0; i < r->header.ncolumns; i++, footer += sizeof(ColumnEntry))
	{
		ReadColumn *c = &r->columns[i];
		ColumnEntry entry;
		Form_pg_attribute att = NULL;

		memcpy(&entry, footer, sizeof(entry));
		c->target = entry.id >= 1 && entry.id <= r->desc->natts ? entry.id - 1 : -1;
		c->typlen = entry.typlen;
		c->byval = entry.byval;
		c->align = entry.align;
		c->as_text = entry.as_text;
		if (c->typlen < -2 || c->typlen == 0 || (c->byval && c->typlen > 8))
			damaged(r, "unknown length of a column");
		if (c->target >= 0)
		{
			att = TupleDescAttr(r->desc, c->target);
			if (att->attisdropped)
				c->target = -1;
		}
		if (c->target != i || c->as_text)
			r->identity = false;
		if (c->target < 0)
			continue;
		r->covered[c->target] = true;
		if (c->as_text)
		{
			Oid			input;

			getTypeInputInfo(att->atttypid, &input, &c->ioparam);
			fmgr_info_cxt(input, &c->input, r->cxt);
			/* the value was made to fit its length when it was stored */
			c->typmod = -1;
		}
		else if (c->typlen != att->attlen || c->byval != att->attbyval)
			damaged(r, "a column has another type than the table's");
	}
	r->pages = palloc(sizeof(PageEntry) * Max(r->header.npages, 1));
	memcpy(r->pages, footer, sizeof(PageEntry) * r->header.npages);
}

RowReader *
row_reader_open_inline(TupleDesc desc, const void *blob, Size len, MemoryContext parent)
{
	RowReader  *r = open_reader(desc, parent, "a manifest");
	MemoryContext old = MemoryContextSwitchTo(r->cxt);

	r->blob = blob;
	r->blob_len = len;
	read_footer(r, r->blob + len, len);
	MemoryContextSwitchTo(old);
	return r;
}

RowReader *
row_reader_open_segment(TupleDesc desc, BatchFetch fetch, void *arg, const char *object, const uint8 uuid[16],
						uint64 epoch, uint64 number, uint64 object_size, uint32 footer_size, MemoryContext parent)
{
	RowReader  *r = open_reader(desc, parent, object);
	MemoryContext old = MemoryContextSwitchTo(r->cxt);

	r->fetch = fetch;
	r->fetch_arg = arg;
	if (footer_size > object_size || footer_size < sizeof(Trailer))
		damaged(r, "the manifest's lengths do not fit");
	read_footer(r, fetch(arg, object_size - footer_size, footer_size) + footer_size, footer_size);
	MemoryContextSwitchTo(old);
	return r;
}

uint64
row_reader_count(const RowReader *r)
{
	return r->header.nrows;
}

static void
load_page(RowReader *r, uint64 row)
{
	uint32		low = 0,
				high = r->header.npages;
	MemoryContext old;
	const uint8 *bytes;
	RowPageHeader	header;
	PageEntry  *entry;

	while (low < high)
	{
		uint32		mid = low + (high - low) / 2;

		if (r->pages[mid].first_row + r->pages[mid].nrows <= row)
			low = mid + 1;
		else
			high = mid;
	}
	if (low >= r->header.npages || r->pages[low].first_row > row)
		damaged(r, "a row is missing");
	entry = &r->pages[low];
	r->page = -1;
	MemoryContextReset(r->page_cxt);
	old = MemoryContextSwitchTo(r->page_cxt);
	if (entry->size < sizeof(RowPageHeader))
		damaged(r, "a page is too short");
	bytes = range(r, entry->offset, entry->size);
	memcpy(&header, bytes, sizeof(header));
	bytes += sizeof(header);
	if (header.stored != entry->size - sizeof(header) || header.nrows != entry->nrows || header.raw > MAX_PAGE ||
		header.raw < sizeof(uint32) * (Size) header.nrows)
		damaged(r, "a page's header does not fit");
	if (page_checksum(&header, bytes) != header.checksum)
		damaged(r, "a page's checksum does not fit");
	{
		char	   *raw = MemoryContextAllocHuge(r->page_cxt, Max(header.raw, 1));

		if (header.stored == header.raw)
			memcpy(raw, bytes, header.raw);
		else if (ZSTD_decompress(raw, header.raw, bytes, header.stored) != header.raw)
			damaged(r, "a page cannot be decompressed");
		r->raw = raw;
	}
	r->raw_len = header.raw;
	r->page_rows = header.nrows;
	r->page_first = entry->first_row;
	r->page = low;
	MemoryContextSwitchTo(old);
}

void
row_reader_get(RowReader *r, uint64 row, int natts, Datum *values, bool *nulls, MemoryContext cxt)
{
	const char *start,
			   *end,
			   *data;
	RowHeader	header;
	const bits8 *bitmap;
	uint32		offset;
	uint32		off = 0;

	if (r->page < 0 || row < r->page_first || row >= r->page_first + r->page_rows)
		load_page(r, row);
	offset = ((const uint32 *) r->raw)[row - r->page_first];
	if (offset > r->raw_len || r->raw_len - offset < sizeof(RowHeader) || offset != MAXALIGN(offset))
		damaged(r, "a row lies outside its page");
	start = r->raw + offset;
	memcpy(&header, start, sizeof(header));
	if (header.len > r->raw_len - offset || header.natts != r->header.ncolumns)
		damaged(r, "a row lies outside its page");
	end = start + header.len;
	bitmap = header.has_nulls ? (const bits8 *) (start + sizeof(RowHeader)) : NULL;
	data = start + MAXALIGN(sizeof(RowHeader) + (header.has_nulls ? BITMAPLEN(header.natts) : 0));
	if (data > end)
		damaged(r, "a row lies outside its page");

	if (!r->identity)
		for (int i = 0; i < natts; i++)
			if (!r->covered[i])
			{
				Form_pg_attribute att = TupleDescAttr(r->desc, i);

				nulls[i] = true;
				values[i] = (Datum) 0;
				if (!att->attisdropped && att->atthasmissing && r->desc->constr && r->desc->constr->missing &&
					r->desc->constr->missing[i].am_present)
				{
					values[i] = r->desc->constr->missing[i].am_value;
					nulls[i] = false;
				}
			}
	for (int i = 0; i < header.natts; i++)
	{
		ReadColumn *c = &r->columns[i];
		Datum		value;

		if (r->identity && i >= natts)
			break;
		if (bitmap && att_isnull(i, bitmap))
		{
			if (c->target >= 0 && c->target < natts)
			{
				values[c->target] = (Datum) 0;
				nulls[c->target] = true;
			}
			continue;
		}
		off = att_align_pointer(off, c->align, c->typlen, data + off);
		if (data + off >= end)
			damaged(r, "a value lies outside its row");
		value = fetch_att(data + off, c->byval, c->typlen);
		off = att_addlength_pointer(off, c->typlen, data + off);
		if (data + off > end)
			damaged(r, "a value lies outside its row");
		if (c->target < 0 || c->target >= natts)
			continue;
		if (c->as_text)
		{
			MemoryContext old = MemoryContextSwitchTo(cxt);

			value = InputFunctionCall(&c->input, TextDatumGetCString(value), c->ioparam, c->typmod);
			MemoryContextSwitchTo(old);
		}
		values[c->target] = value;
		nulls[c->target] = false;
	}
}

void
row_reader_free(RowReader *r)
{
	MemoryContextDelete(r->cxt);
}
