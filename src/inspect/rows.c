/*
 * rows.c: segments, their pages, and rows as they are stored.
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "inspect/inspect.h"
#include "node/bucket.h"

/* What the rows of a batch are read from, and what they are called. */
typedef struct Rows
{
	const char *path;
	const S3am__BatchSchema *schema;
	BatchSource source;
	uint64 first, /* rows to be shown */
		count;
} Rows;

static void
show_overflow(Inspect *in, const char *path, const char *p)
{
	OverflowPointer pointer;

	memcpy(&pointer, p, sizeof(pointer));
	inspect_line(in, path, "overflow value of %u bytes, %u stored at " UINT64_FORMAT, pointer.raw, pointer.stored,
				 (uint64) pointer.offset8 * 8);
}

static void
show_stored(Inspect *in, const char *path, const MapColumn *column, Datum value)
{
	const char *p = DatumGetPointer(value);

	if (column->byval)
		switch (column->typlen)
		{
			case 1:
				inspect_line(in, path, "%d", DatumGetChar(value));
				break;
			case 2:
				inspect_line(in, path, "%d", DatumGetInt16(value));
				break;
			case 4:
				inspect_line(in, path, "%d", DatumGetInt32(value));
				break;
			default:
				inspect_line(in, path, INT64_FORMAT, DatumGetInt64(value));
				break;
		}
	else if (column->typlen > 0)
		inspect_line(in, path, "%s", inspect_bytes(p, column->typlen));
	else if (column->typlen == -2)
		inspect_line(in, path, "%s", inspect_bytes(p, strlen(p)));
	else if (VARATT_IS_1B_E(p))
		show_overflow(in, path, p);
	else
		inspect_line(in, path, "%s", inspect_bytes(VARDATA_ANY(p), VARSIZE_ANY_EXHDR(p)));
}

static void
show_rows(Inspect *in, void *arg)
{
	Rows *rows = arg;
	const RowMap *map;
	int n = rows->schema->n_columns;
	Datum *values = palloc(sizeof(Datum) * Max(n, 1));
	bool *nulls = palloc(sizeof(bool) * Max(n, 1));
	RowPage *page = NULL;
	const char *wrong = schema_check(rows->schema);

	if (wrong)
		segment_damaged(in->object, wrong);
	map = row_map_raw(rows->schema, CurrentMemoryContext);
	for (uint64 row = rows->first; row < rows->first + rows->count; row++)
	{
		RowCursor cursor;

		CHECK_FOR_INTERRUPTS();
		if (page == NULL || !row_page_holds(page, row))
		{
			if (page)
				row_page_release(page);
			page = row_page_read(&rows->source, row, NULL, NULL);
		}
		if (row_is_gone(page, row))
		{
			inspect_line(in, psprintf("%srow[" UINT64_FORMAT "]", rows->path, row), "gone");
			continue;
		}
		row_begin(&cursor, page, map, row);
		row_deform(&cursor, NULL, 0, n, values, nulls, CurrentMemoryContext);
		for (int i = 0; i < n; i++)
		{
			const S3am__StoredColumn *column = rows->schema->columns[i];
			const S3am__StoredType *type = rows->schema->types[column->type];
			char *path = psprintf("%srow[" UINT64_FORMAT "].%u%s%s %s", rows->path, row, column->id,
								  column->name[0] ? "." : "", column->name, type->name);

			if (nulls[i])
				inspect_line(in, path, "NULL");
			else
				show_stored(in, path, &map->columns[i], values[i]);
			pfree(path);
		}
	}
	if (page)
		row_page_release(page);
}

/* ------------------------------------------------------------------------------------ extents */

typedef struct Extent
{
	uint64 identity, offset;
	const uint8 *bytes;
	Size len;
	ExtentKind kind;
} Extent;

static void
check_extent(Inspect *in, void *arg)
{
	Extent *e = arg;
	ExtentHeader header;

	pfree(extent_open(in->object, e->identity, e->offset, e->bytes, e->len, e->kind,
					  e->kind == EXTENT_PAGE ? PAGE_MAX_RAW : CHUNK_RAW, CurrentMemoryContext, &header));
}

static const char *
compression_name(const ExtentHeader *header)
{
	return header->compression == EXTENT_ZSTD_COLUMNS ? " (zstd, by columns)"
		   : header->compression == EXTENT_ZSTD       ? " (zstd)"
													  : "";
}

/* One line for each page and chunk, and one more for each that is damaged. */
static void
show_extents(Inspect *in, const char *path, const uint8 *bytes, uint64 from, uint64 to, uint64 identity)
{
	uint64 first_row = 0;
	int n = 0;

	for (uint64 offset = from; offset < to; n++)
	{
		ExtentHeader header;
		Extent e = {identity, offset, bytes + offset, to - offset, EXTENT_PAGE};
		char *name = psprintf("%sextent[%d]", path, n);

		CHECK_FOR_INTERRUPTS();
		if (to - offset < sizeof(header))
		{
			inspect_line(in, "damaged", UINT64_FORMAT " bytes too many at " UINT64_FORMAT, to - offset, offset);
			return;
		}
		memcpy(&header, bytes + offset, sizeof(header));
		e.kind = header.kind;
		if (header.kind == EXTENT_PAGE)
			inspect_line(
				in, name, "page at " UINT64_FORMAT ": rows " UINT64_FORMAT " to " UINT64_FORMAT ", %u bytes%s of %u",
				offset, first_row, first_row + header.nrows - 1, header.stored, compression_name(&header), header.raw);
		else
			inspect_line(in, name, "overflow chunk at " UINT64_FORMAT ": %u bytes%s of %u", offset, header.stored,
						 compression_name(&header), header.raw);
		inspect_guarded(in, "damaged", check_extent, &e);
		if (header.kind == EXTENT_PAGE)
			first_row += header.nrows;
		if (header.stored > to - offset - sizeof(header))
			return; /* nobody knows where the next one begins */
		offset += TYPEALIGN(8, sizeof(header) + (uint64) header.stored);
		pfree(name);
	}
}

/* ------------------------------------------------------------------------------------ inline rows */

void
inspect_inline(Inspect *in, const char *path, const S3am__Batch *batch)
{
	Rows rows = {0};
	PageStart *starts = NULL;
	uint32 npages = 1;

	rows.path = psprintf("%s%srows.", path, path[0] ? "." : "");
	inspect_line(in, psprintf("%s%srows", path, path[0] ? "." : ""), "%zu bytes, page " INT64_FORMAT " of this object",
				 batch->rows.len, in->next_page);
	show_extents(in, rows.path, batch->rows.data, 0, batch->rows.len, 0);
	if (!page_starts_check(batch))
	{
		inspect_line(in, "damaged", "the directory of pages does not fit");
		return;
	}
	if (batch->pages)
	{
		npages = batch->pages->n_rows;
		starts = palloc(sizeof(PageStart) * (npages + (Size) 1));
		page_starts_fill(batch, starts);
	}
	for (uint32 i = 0; i < npages; i++)
	{
		rows.first = starts ? starts[i].first_row : 0;
		rows.count = starts ? starts[i + 1].first_row - starts[i].first_row : batch->nrows + batch->inner;
		if (rows.count == 0)
			continue; /* overflow chunks */
		if (in->next_page++ != in->page)
			continue;
		if (in->schema == NULL)
		{
			inspect_line(in, "damaged", "rows without a schema");
			return;
		}
		rows.schema = in->schema;
		rows.source.blob = batch->rows.data;
		rows.source.len = batch->rows.len;
		rows.source.nrows = batch->nrows + batch->inner;
		rows.source.npages = starts ? npages : 0;
		rows.source.pages = starts;
		inspect_guarded(in, "damaged", show_rows, &rows);
	}
}

/* ------------------------------------------------------------------------------------ segments */

void
inspect_segment(Inspect *in, uint64 epoch, uint64 number, const uint8 *bytes, Size len)
{
	SegmentHeader header = {0};
	uint64 identity = segment_identity(bucket_repository_uuid(), epoch, number);
	uint64 without_mac;
	uint32 footer_size;
	S3am__SegmentFooter *footer;
	int64 n = 0;

	memcpy(&header, bytes, Min(len, sizeof(header)));
	inspect_line(in, "header.level", "%u", header.level);
	inspect_line(in, "header.min_reader", "%u", header.min_reader);
	inspect_line(in, "header.encryption", "%u", header.encryption);
	inspect_line(in, "header.mac", "%u bytes", header.mac);
	inspect_line(in, "header.repository", "%s", inspect_bytes(header.uuid, sizeof(header.uuid)));
	inspect_line(in, "header.epoch", UINT64_FORMAT, header.epoch);
	inspect_line(in, "header.number", UINT64_FORMAT, header.number);
	segment_check_header(in->object, bytes, len, bucket_repository_uuid(), epoch, number, &header);
	if (header.mac > len - SEGMENT_HEADER_SIZE)
		segment_damaged(in->object, "cut off");
	without_mac = len - header.mac;
	footer = segment_read_footer(in->object, identity, bytes, without_mac, without_mac, &footer_size);
	inspect_message(in, "footer", &footer->base);
	if (in->page < 0)
	{
		show_extents(in, "", bytes, SEGMENT_HEADER_SIZE, without_mac - footer_size, identity);
		return;
	}
	for (size_t i = 0, row = 0; i < footer->pages->n_rows; row += footer->pages->rows[i++])
	{
		Rows rows = {0};
		S3am__SegmentRef ref = S3AM__SEGMENT_REF__INIT;
		S3am__Batch batch = S3AM__BATCH__INIT;
		PageStart *starts;

		if (footer->pages->rows[i] == 0 || n++ != in->page)
			continue;
		batch.segment = &ref;
		batch.pages = footer->pages;
		starts = palloc(sizeof(PageStart) * (footer->pages->n_rows + 1));
		page_starts_fill(&batch, starts);
		rows.path = "";
		rows.schema = footer->schema;
		rows.first = row;
		rows.count = footer->pages->rows[i];
		/* the bytes are here already: read them as an inline batch would be, with the segment's identity */
		rows.source.blob = bytes;
		rows.source.len = without_mac - footer_size;
		rows.source.identity = identity;
		rows.source.epoch = epoch;
		rows.source.number = number;
		rows.source.nrows = footer->nrows;
		rows.source.npages = footer->pages->n_rows;
		rows.source.pages = starts;
		inspect_guarded(in, "damaged", show_rows, &rows);
		return;
	}
	inspect_line(in, "damaged", "there is no page " INT64_FORMAT, in->page);
}
