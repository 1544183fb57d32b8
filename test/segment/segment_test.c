/*
 * segment_test.c: rows of a heap table into a batch in memory, damage to its bytes, and what a reader makes of it.
 *
 *   damage(query text, place text, how text, step int, OUT tried, OUT same, OUT errors, OUT other)
 *
 * place: 'inline', 'segment', or 'alone' (a segment by its own footer).  how:
 *   flip      each byte, all its bits and one of them
 *   seal      as flip, but checksums are made to fit: what somebody who means harm would do
 *   raw       as seal, with pages that are not compressed: so it is the rows that are damaged
 *   cut       at every length
 *   schema    flips in the schema of the manifest
 *   swap      each page in each other's place, and those of another segment
 *   places    the directory of pages is changed
 *   columns   flips and cuts of pages by columns, within their compression: rows are made of them, or it is said that none can be
 *   packed    the same in the object, compressed again and with checksums that fit: what a reader makes of it
 * same: the reader gave the rows that were written.  errors: SQLSTATE XX001 (or another that a reader may give).  other: rows that are
 * not those, without an error; harmless only where checksums were made to fit.
 */
#include "postgres.h"

#include <xxhash.h>
#include <zstd.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "node/bucket.h"
#include "segment/batch.h"
#include "segment/columns.h"

PG_MODULE_MAGIC;

PGDLLEXPORT Datum damage(PG_FUNCTION_ARGS);
PG_FUNCTION_INFO_V1(damage);

unsigned segment_test_compress_from;

static const uint8 uuid[16] = "sixteen bytes..";

/* The object in memory that bucket_read() reads, in a block of its own so that a look beyond its end is noticed. */
static char *object;
static Size object_len;

void
bucket_segment_key(uint64 epoch, uint64 number, char *key, Size size)
{
	snprintf(key, size, "segments/test/" UINT64_FORMAT "-" UINT64_FORMAT, epoch, number);
}

uint8 *
bucket_read(const char *key, uint64 offset, int64 length, Size *got)
{
	uint8 *copy;

	*got = offset > object_len ? 0 : Min(length, object_len - offset);
	copy = palloc(Max(*got, 1));
	memcpy(copy, object + offset, *got);
	return copy;
}

/* Reads ahead are there at once. */
int s3am_read_ahead = 1024;

struct BucketRead
{
	uint8 *data;
	Size len;
};

BucketRead *
bucket_read_start(const char *key, uint64 offset, int64 length)
{
	BucketRead *read = MemoryContextAlloc(TopTransactionContext, sizeof(BucketRead));
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	read->data = bucket_read(key, offset, length, &read->len);
	MemoryContextSwitchTo(old);
	return read;
}

const uint8 *
bucket_read_wait(BucketRead *read, Size *got)
{
	*got = read->len;
	return read->data;
}

void
bucket_read_end(BucketRead *read)
{
	pfree(read->data);
	pfree(read);
}

Size
bucket_reads_bytes(void)
{
	return 0;
}

bool
bucket_uploading(void)
{
	return false;
}

void
bucket_reads_go_on(void)
{
}

/* Of the reader that is at it; an error leaves it to who catches it, as a scan's memory does. */
static ReadAhead ahead;
static BatchSource planned;

static bool
plan(void *arg, uint64 row, BatchSource *source, uint32 *n)
{
	if (row >= planned.nrows)
		return false;
	*source = planned;
	*n = batch_find_page(source, row);
	return true;
}

static void
emit(void *arg, const void *data, Size len)
{
	object = realloc(object, object_len + len);
	memcpy(object + object_len, data, len);
	object_len += len;
}

typedef struct Subject
{
	TupleDesc desc;
	bool segment, alone;
	bool ahead; /* every other time */
	uint64 nrows;
	uint64 identity;
	PackedSchema *schema;
	PageStart *pages; /* NULL: one page */
	uint32 npages;
	uint32 footer_size;
} Subject;

static uint64
first_offset(const Subject *s)
{
	return s->segment ? SEGMENT_HEADER_SIZE : 0;
}

/* Reads all rows; a hash of their values. */
static uint64
read_all(const Subject *subject)
{
	BatchSource source = {0};
	Subject s = *subject;
	RowPage *page = NULL;
	uint64 h = 0;
	Datum *values = palloc(sizeof(Datum) * Max(s.desc->natts, 1));
	bool *nulls = palloc(sizeof(bool) * Max(s.desc->natts, 1));
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	if (s.alone)
	{
		SegmentHeader header;
		uint32 size;
		S3am__SegmentFooter *footer;

		segment_check_header("test", (uint8 *) object, object_len, uuid, 7, 9, &header);
		footer = segment_read_footer("test", s.identity, (uint8 *) object, object_len, object_len, &size);
		if (footer == NULL)
			segment_damaged("test", "footer larger than the object");
		s.footer_size = size;
		s.schema = schema_pack(footer->schema);
		s.npages = footer->pages->n_rows;
		s.pages = palloc(sizeof(PageStart) * (s.npages + 1));
		{
			S3am__SegmentRef ref = S3AM__SEGMENT_REF__INIT;
			S3am__Batch batch = S3AM__BATCH__INIT;

			batch.segment = &ref;
			batch.pages = footer->pages;
			page_starts_fill(&batch, s.pages);
		}
		s.nrows = footer->nrows;
	}
	memset(&ahead, 0, sizeof(ahead));
	source.nrows = s.nrows;
	source.npages = s.npages;
	source.pages = s.pages;
	source.identity = s.identity;
	if (s.segment)
	{
		source.epoch = 7;
		source.number = 9;
		source.len = object_len > s.footer_size ? object_len - s.footer_size : 0;
	}
	else
	{
		source.blob = (uint8 *) object;
		source.len = object_len;
	}
	if (source.pages)
	{
		planned = source;
		ahead.plan = plan;
	}
	old = MemoryContextSwitchTo(cxt);
	for (uint64 row = 0; row < s.nrows; row++)
	{
		RowCursor cursor;
		HeapTuple tuple;

		if (page == NULL || !row_page_holds(page, row))
		{
			if (page)
				row_page_release(page);
			page = NULL;
			page = row_page_read(&source, row, s.ahead ? &ahead : NULL, NULL);
		}
		if (row_is_gone(page, row))
		{
			h = hash_combine64(h, row);
			continue;
		}
		row_begin(&cursor, page, row_map(s.schema, s.desc, "test"), row);
		/* in two steps, as a slot does */
		row_deform(&cursor, s.desc, 0, s.desc->natts / 2, values, nulls, cxt);
		row_deform(&cursor, s.desc, s.desc->natts / 2, s.desc->natts, values, nulls, cxt);
		tuple = heap_form_tuple(s.desc, values, nulls);
		h = hash_combine64(h, hash_bytes_extended((unsigned char *) tuple->t_data + tuple->t_data->t_hoff,
												  tuple->t_len - tuple->t_data->t_hoff, 0));
		MemoryContextReset(cxt);
	}
	if (page)
		row_page_release(page);
	read_ahead_release(&ahead);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return h;
}

/* Makes all checksums fit again. */
static void
seal(const Subject *s)
{
	uint64 end = object_len - (s->segment ? s->footer_size : 0);

	for (uint64 offset = first_offset(s); offset + sizeof(ExtentHeader) <= end;)
	{
		ExtentHeader header;

		memcpy(&header, object + offset, sizeof(header));
		if (header.stored > end - offset - sizeof(header))
			break;
		header.checksum = extent_checksum(s->identity, offset, object + offset);
		memcpy(object + offset, &header, sizeof(header.checksum));
		offset += TYPEALIGN(8, sizeof(header) + header.stored);
	}
	if (s->segment)
	{
		SegmentHeader header;
		SegmentTrailer trailer;

		memcpy(&header, object, sizeof(header));
		header.checksum = XXH3_64bits(&header, offsetof(SegmentHeader, checksum));
		memcpy(object, &header, sizeof(header));
		memcpy(&trailer, object + object_len - sizeof(trailer), sizeof(trailer));
		if (trailer.footer <= object_len - sizeof(trailer))
		{
			char *copy = palloc(trailer.footer + 8);

			memcpy(copy, object + object_len - sizeof(trailer) - trailer.footer, trailer.footer);
			memcpy(copy + trailer.footer, (char *) &trailer + 8, 8);
			trailer.checksum = XXH3_64bits_withSeed(copy, trailer.footer + 8, s->identity);
			memcpy(object + object_len - sizeof(trailer), &trailer, sizeof(trailer));
			pfree(copy);
		}
	}
}

typedef struct Counts
{
	int64 tried, same, errors, other;
} Counts;

static void
try(Subject *s, uint64 want, Counts *counts)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "try", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	CHECK_FOR_INTERRUPTS();
	counts->tried++;
	s->ahead = counts->tried % 2;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		if (read_all(s) == want)
			counts->same++;
		else
			counts->other++;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_TO_CATEGORY(ERRCODE_QUERY_CANCELED) ||
			ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_OUT_OF_MEMORY)
			PG_RE_THROW();
		FlushErrorState();
		read_ahead_release(&ahead);
		RollbackAndReleaseCurrentSubTransaction();
		counts->errors++;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	MemoryContextDelete(cxt);
}

/* Each in a block of its own, so that a byte beyond is noticed. */
static void
try_join(const uint8 *columns, Size len, const ExtentHeader *header, const char *want, Counts *counts)
{
	uint8 *in = memcpy(malloc(Max(len, 1)), columns, len);
	char *page = malloc(header->raw);
	int n = columns_count(in, len);
	ColumnCursor *cursors = n > 0 ? malloc(sizeof(ColumnCursor) * n) : NULL;

	counts->tried++;
	if (n <= 0 || !columns_join(in, len, header->nrows, page, header->raw, cursors))
		counts->errors++;
	else if (want == NULL || memcmp(page, want, header->raw) == 0)
		counts->same++;
	else
		counts->other++;
	free(cursors);
	free(page);
	free(in);
}

static void
damage_columns(const Subject *s, int step, Counts *counts)
{
	uint64 end = object_len - (s->segment ? s->footer_size : 0);
	ExtentHeader header;

	for (uint64 offset = first_offset(s); offset < end; offset += TYPEALIGN(8, sizeof(header) + header.stored))
	{
		const char *stored = object + offset + sizeof(header);
		uint8 *columns;
		char *want, *again;
		Size len;
		ColumnCursor *cursors;

		memcpy(&header, object + offset, sizeof(header));
		if (header.compression != EXTENT_ZSTD_COLUMNS)
			continue;
		len = ZSTD_getFrameContentSize(stored, header.stored);
		columns = palloc(len);
		want = palloc(header.raw);
		if (ZSTD_decompress(columns, len, stored, header.stored) != len)
			elog(ERROR, "a page that was just written cannot be decompressed");
		cursors = palloc(sizeof(ColumnCursor) * columns_count(columns, len));
		memset(want, 0xff, header.raw);
		if (!columns_join(columns, len, header.nrows, want, header.raw, cursors))
			elog(ERROR, "a page that was just written cannot be made of its columns");
		again = palloc0(header.raw);
		if (!columns_join(columns, len, header.nrows, again, header.raw, cursors) ||
			memcmp(want, again, header.raw) != 0)
			elog(ERROR, "a page that is made of its columns has bytes that nobody wrote");
		for (Size i = 0; i < len; i += step)
			for (int bits = 0; bits < 9; bits++)
			{
				uint8 flip = bits == 8 ? 0xff : 1 << bits;

				columns[i] ^= flip;
				try_join(columns, len, &header, want, counts);
				columns[i] ^= flip;
			}
		for (Size n = 0; n < len; n += step)
			try_join(columns, n, &header, want, counts);
		/* other numbers of rows and bytes */
		header.nrows++;
		try_join(columns, len, &header, NULL, counts);
		header.nrows -= 2;
		try_join(columns, len, &header, NULL, counts);
		header.nrows++;
		header.raw -= 8;
		try_join(columns, len, &header, NULL, counts);
	}
}

/* The object with other columns in page `p`; object and directory are new, and all of them go with the current context. */
static void
repack(Subject *s, const char *intact, Size intact_len, uint32 p, const uint8 *columns, Size len, ExtentHeader header)
{
	Size offset = s->pages[p].offset8 * (Size) 8, after = s->pages[p + 1].offset8 * (Size) 8;
	Size bound = ZSTD_compressBound(len), size;
	PageStart *pages = palloc(sizeof(PageStart) * (s->npages + 1));
	char *packed = palloc0(intact_len + bound + 8);

	memcpy(packed, intact, offset);
	header.stored = ZSTD_compress(packed + offset + sizeof(header), bound, columns, len, 1);
	memcpy(packed + offset, &header, sizeof(header));
	size = TYPEALIGN(8, sizeof(header) + header.stored);
	memset(packed + offset + sizeof(header) + header.stored, 0, size - sizeof(header) - header.stored);
	memcpy(packed + offset + size, intact + after, intact_len - after);
	memcpy(pages, s->pages, sizeof(PageStart) * (s->npages + 1));
	for (uint32 i = p + 1; i <= s->npages; i++)
		pages[i].offset8 = (pages[i].offset8 * (Size) 8 - after + offset + size) / 8;
	s->pages = pages;
	object_len = offset + size + intact_len - after;
	free(object);
	object = memcpy(malloc(object_len), packed, object_len);
	seal(s);
}

static void
damage_packed(const Subject *s, uint64 want, int step, Counts *counts)
{
	Size intact_len = object_len;
	char *intact = memcpy(palloc(object_len), object, object_len);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "packed", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;

	for (uint32 p = 0; p < s->npages; p++)
	{
		Size offset = s->pages[p].offset8 * (Size) 8, len;
		ExtentHeader header;
		uint8 *columns;

		memcpy(&header, intact + offset, sizeof(header));
		if (header.compression != EXTENT_ZSTD_COLUMNS)
			continue;
		len = ZSTD_getFrameContentSize(intact + offset + sizeof(header), header.stored);
		columns = palloc(len);
		if (ZSTD_decompress(columns, len, intact + offset + sizeof(header), header.stored) != len)
			elog(ERROR, "a page that was just written cannot be decompressed");
		/* unharmed at first; then a byte that is another, and what is before it alone; at last other numbers of rows and bytes */
		for (Size k = 0, places = (len + step - 1) / step; k < places + 3; k++)
			for (int cut = 0; cut < 2; cut++)
			{
				Size i = k < places ? k * step : len + (k - places);
				Subject other = *s;
				ExtentHeader h = header;
				Size n = cut && i < len ? i : len;

				MemoryContextSwitchTo(cxt);
				if (i > 0 && i < len && !cut)
					columns[i] ^= 0xff;
				h.nrows += i == len ? (cut ? 1 : -1) : 0;
				h.raw += i == len + 1 ? (cut ? 8 : -8) : 0;
				h.raw = i == len + 2 ? (cut ? 0 : PAGE_MAX_RAW) : h.raw;
				repack(&other, intact, intact_len, p, columns, n, h);
				if (i > 0 && i < len && !cut)
					columns[i] ^= 0xff;
				MemoryContextSwitchTo(old);
				for (int twice = 0; twice < 2; twice++)
					try(&other, want, counts);
				MemoryContextReset(cxt);
			}
	}
	MemoryContextDelete(cxt);
}

Datum
damage(PG_FUNCTION_ARGS)
{
	char *query = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *place = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *how = text_to_cstring(PG_GETARG_TEXT_PP(2));
	int step = PG_GETARG_INT32(3);
	Subject s = {0};
	RowWriter *writer;
	S3am__Batch batch = S3AM__BATCH__INIT;
	Counts counts = {0};
	uint64 want;
	bool raw = strcmp(how, "raw") == 0;
	bool reseal = raw || strcmp(how, "seal") == 0;
	TupleDesc result;
	Datum values[4];
	bool nulls[4] = {false};
	MemoryContext mine = CurrentMemoryContext;

	segment_test_compress_from = raw ? PG_UINT32_MAX : 1024;
	free(object);
	object = NULL;
	object_len = 0;
	s.alone = strcmp(place, "alone") == 0;
	s.segment = s.alone || strcmp(place, "segment") == 0;
	SPI_connect();
	if (SPI_execute(query, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "not a query");
	MemoryContextSwitchTo(mine);
	s.desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
	writer = row_writer_create(s.desc, mine);
	if (s.segment)
		row_writer_stream(writer, emit, NULL, uuid, 7, 9);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum *v = palloc(sizeof(Datum) * s.desc->natts);
		bool *n = palloc(sizeof(bool) * s.desc->natts);

		heap_deform_tuple(SPI_tuptable->vals[i], s.desc, v, n);
		row_writer_add(writer, v, n);
		if (strcmp(how, "columns") == 0 && i % 7 == 3)
			row_writer_add_gone(writer);
	}
	row_writer_finish(writer, &batch);
	SPI_finish();
	MemoryContextSwitchTo(mine);
	if (!s.segment)
		emit(NULL, batch.rows.data, batch.rows.len);
	s.nrows = batch.nrows;
	s.identity = s.segment ? segment_identity(uuid, 7, 9) : 0;
	s.footer_size = s.segment ? batch.segment->footer_size : 0;
	s.schema = schema_pack(batch.schema);
	if (batch.pages)
	{
		s.npages = batch.pages->n_rows;
		s.pages = palloc(sizeof(PageStart) * (s.npages + 1));
		page_starts_fill(&batch, s.pages);
	}
	want = read_all(&s);

	if (strcmp(how, "flip") == 0 || reseal)
	{
		char *intact = memcpy(palloc(object_len), object, object_len);

		for (Size i = 0; i < object_len; i += step)
			for (int bits = 0; bits < 2; bits++)
			{
				object[i] ^= bits ? 1 << (i % 8) : 0xff;
				if (reseal)
					seal(&s);
				try(&s, want, &counts);
				memcpy(object, intact, object_len);
			}
	}
	else if (strcmp(how, "cut") == 0)
	{
		char *intact = object;
		Size full = object_len;

		for (Size n = 0; n < full; n += step)
		{
			object = memcpy(malloc(Max(n, 1)), intact, n);
			object_len = n;
			try(&s, want, &counts);
			free(object);
		}
		object = intact;
		object_len = full;
	}
	else if (strcmp(how, "schema") == 0)
	{
		for (Size i = 0; i < s.schema->len; i += step)
			for (int bits = 0; bits < 8; bits++)
			{
				s.schema->bytes[i] ^= 1 << bits;
				s.schema->hash = schema_hash(s.schema->bytes, s.schema->len);
				try(&s, want, &counts);
				s.schema->bytes[i] ^= 1 << bits;
			}
		while (s.schema->len > 0)
		{
			s.schema->len--;
			s.schema->hash = schema_hash(s.schema->bytes, s.schema->len);
			try(&s, want, &counts);
		}
	}
	else if (strcmp(how, "swap") == 0)
	{
		char *intact = memcpy(palloc(object_len), object, object_len);
		Subject other = s;

		for (uint32 i = 0; i < s.npages; i++)
			for (uint32 j = 0; j < s.npages; j++)
			{
				Size a = s.pages[i].offset8 * (Size) 8, b = s.pages[j].offset8 * (Size) 8;
				Size n = Min((s.pages[i + 1].offset8 - s.pages[i].offset8) * (Size) 8,
							 (s.pages[j + 1].offset8 - s.pages[j].offset8) * (Size) 8);

				if (i == j)
					continue;
				memcpy(object + a, intact + b, n);
				memcpy(object + b, intact + a, n);
				try(&s, want, &counts);
				memcpy(object, intact, object_len);
			}
		other.identity = segment_identity(uuid, 7, 10);
		try(&other, want, &counts);
	}
	else if (strcmp(how, "places") == 0)
	{
		for (uint32 i = 0; i <= s.npages; i++)
			for (int bit = 0; bit < 32; bit++)
			{
				s.pages[i].first_row ^= (uint32) 1 << bit;
				try(&s, want, &counts);
				s.pages[i].first_row ^= (uint32) 1 << bit;
				s.pages[i].offset8 ^= (uint32) 1 << bit;
				try(&s, want, &counts);
				s.pages[i].offset8 ^= (uint32) 1 << bit;
			}
	}
	else if (strcmp(how, "columns") == 0)
		damage_columns(&s, step, &counts);
	else if (strcmp(how, "packed") == 0)
		damage_packed(&s, want, step, &counts);
	else
		elog(ERROR, "unknown damage");
	row_writer_free(writer);

	if (get_call_result_type(fcinfo, NULL, &result) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(counts.tried);
	values[1] = Int64GetDatum(counts.same);
	values[2] = Int64GetDatum(counts.errors);
	values[3] = Int64GetDatum(counts.other);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(result, values, nulls)));
}
