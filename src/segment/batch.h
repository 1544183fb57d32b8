/*
 * batch.h: batches of rows: writing them, as segments or inline, and reading their rows.
 *
 * docs/format-segments.md has the bytes, README.md the invariants.
 */
#ifndef S3AM_SEGMENT_BATCH_H
#define S3AM_SEGMENT_BATCH_H

#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "executor/tuptable.h"

#include "cache/cache.h"
#include "manifest/s3am.pb-c.h"
#include "segment/codec.h"
#include "segment/format.h"

/* ---------------------------------------------------------------- writing (writer.c) */

typedef struct RowWriter RowWriter;
typedef struct RowPage RowPage;
typedef struct RowMap RowMap;

/* desc: of the rows.  Everything lives in a child of `parent`. */
extern RowWriter *row_writer_create(TupleDesc desc, MemoryContext parent);

/*
 * The rows become a segment: `emit` gets the object's bytes in order, each page when it is full.  Without this call they stay in
 * memory, for inline.  Before the first row.
 */
typedef void (*SegmentEmit)(void *arg, const void *data, Size len);
extern void
row_writer_stream(RowWriter *writer, SegmentEmit emit, void *arg, const uint8 uuid[16], uint64 epoch, uint64 number);

/* Do rows become stored ones without a look at any catalog?  Then a change of types between two rows is no matter. */
extern bool row_writer_is_plain(const RowWriter *writer);

/* Adds a row; returns its number within the batch. */
extern uint64 row_writer_add(RowWriter *writer, const Datum *values, const bool *nulls);
/*
 * The same of a tuple by the writer's descriptor in which no value is compressed or elsewhere: heap lays values out as a page does.  False:
 * this row needs more than that, and was not added.
 */
extern bool row_writer_add_formed(RowWriter *writer, MinimalTuple tuple);
extern uint64 row_writer_count(const RowWriter *writer);
/* Rows in the page in progress: 1 means that the last one added began it. */
extern uint32 row_writer_page_rows(const RowWriter *writer);
extern void row_writer_end_page(RowWriter *writer); /* the next row begins another page */
extern Size row_writer_bytes(const RowWriter *writer); /* uncompressed, so far */

/*
 * Rows as other batches hold them (compaction).  schema: of those rows, without an xmin column; it must live as long as the writer.  With
 * `xmins` each row gets its own.
 */
extern RowWriter *row_writer_create_stored(const S3am__BatchSchema *schema, bool xmins, MemoryContext parent);
/* map: row_map_raw() of the schema that the page's rows have. */
extern void row_writer_add_stored(RowWriter *writer, const RowPage *page, const RowMap *map, uint64 row, uint32 xmin);
/* A row of which only the number is left. */
extern void row_writer_add_gone(RowWriter *writer);

/*
 * Fills in the batch: rows, schema, directory; of a segment's SegmentRef all but its id.  Allocated in the current context.
 */
extern void row_writer_finish(RowWriter *writer, S3am__Batch *batch);
extern void row_writer_free(RowWriter *writer);

/*
 * A chunk that belongs to no row, as it is, behind all rows so far: where it begins, / 8.  Chunks that come one after the other have
 * nothing between them but their headers, if their lengths are multiples of 8.
 */
extern uint32 row_writer_add_chunk(RowWriter *writer, const void *data, uint32 len);
/* Told in the footer and in the batch. */
extern void row_writer_note_filter(RowWriter *writer, S3am__KeyFilter *filter);

/* ---------------------------------------------------------------- filters (filter.c) */

/* Where a segment's filter is, as a manifest says it. */
typedef struct BatchFilter
{
	uint64 kinds; /* filter_kinds_hash() of what its hashes are of */
	uint32 blocks; /* 0: there is none */
	uint32 offset8;
} BatchFilter;

/*
 * Behind the last row: a filter over `hashes`, at least one, in any order.  All 64 bits of a hash count.  kinds: of what they are hashes; who looks for
 * one must mean the same.  In the current context, which must outlive the writer.
 */
extern void filter_write(RowWriter *writer, const uint64 *hashes, uint64 n, const uint8 *kinds, Size nkinds);
extern void filter_describe(BatchFilter *filter, const S3am__Batch *batch);
extern uint64 filter_kinds_hash(const uint8 *kinds, Size n);

/* ---------------------------------------------------------------- batches in memory (batch.c) */

/* A BatchSchema as bytes, to be kept and compared. */
typedef struct PackedSchema
{
	uint64 hash; /* schema_hash() of the bytes */
	uint32 len;
	uint8 bytes[FLEXIBLE_ARRAY_MEMBER];
} PackedSchema;

extern PackedSchema *schema_pack(const S3am__BatchSchema *schema); /* palloc'ed */
extern S3am__BatchSchema *schema_unpack(const PackedSchema *packed); /* palloc'ed */
extern bool schema_same(const PackedSchema *a, const PackedSchema *b);
/* Does each row have an xmin of its own? */
extern bool schema_has_xmin(const S3am__BatchSchema *schema);
/* Takes that column away, or adds it; the arrays are palloc'ed anew when it is added. */
extern void schema_remove_xmin(S3am__BatchSchema *schema);
extern void schema_add_xmin(S3am__BatchSchema *schema);

/* Do a batch's lengths and its directory of pages fit together? */
extern bool page_starts_check(const S3am__Batch *batch);
/* Of a batch that has a directory: where its pages are, batch->pages->n_rows + 1 of them. */
extern void page_starts_fill(const S3am__Batch *batch, PageStart *starts);
/* The directory back from that; palloc'ed. */
extern S3am__PageDirectory *page_directory(const PageStart *starts, uint32 npages);

/* Drops the schema of `batch` if it is that of `previous` (NULL: none); returns which batch has the schema in force. */
extern const S3am__Batch *batch_share_schema(S3am__Batch *batch, const S3am__Batch *previous);

/* ---------------------------------------------------------------- schemas (schema.c) */

/*
 * How rows of one schema become rows of one tuple descriptor.  Columns are matched by id, which is the attribute number.  Made once per
 * process and kept until the end of a transaction in which its types changed.
 */
typedef struct MapColumn
{
	int16 target; /* attribute - 1, or -1: dropped since */
	int16 typlen; /* as stored */
	bool byval;
	uint8 align; /* in bytes */
	bool plain; /* nothing to decode */
	bool lazy; /* its overflow value may be fetched when it is looked at */
	int32 cached; /* offset in rows without nulls, or -1 */
	Codec *codec;
} MapColumn;

struct RowMap
{
	int natts; /* of the descriptor */
	int16 *stored; /* per attribute: column of the schema, or -1 */
	int ncolumns;
	MapColumn *columns;
	int xmin; /* the column that holds each row's xmin, or -1: the batch has one for all */
	bool raw; /* values as they are stored: nothing decoded, overflow pointers left */
};

/* Throws if the schema is malformed or does not fit. */
extern const RowMap *row_map(const PackedSchema *schema, TupleDesc desc, const char *object);
extern uint64 schema_hash(const void *schema, Size len);

/* To look at rows without any relation: attribute i is column i.  The schema has passed schema_check(). */
extern const RowMap *row_map_raw(const S3am__BatchSchema *schema, MemoryContext cxt);

/* Is it what a writer could have made?  NULL, or what is wrong. */
extern const char *schema_check(const S3am__BatchSchema *schema);

/* ---------------------------------------------------------------- pages and rows (reader.c) */

/* Where the bytes of a batch are.  Lives as long as what reads from it. */
typedef struct BatchSource
{
	uint64 epoch, /* the segment; 0: inline */
		number;
	uint64 identity;
	const uint8 *blob; /* inline */
	uint64 pos; /* of an inline batch: the version that added it; 0: its pages are not looked for in the cache */
	uint64 len; /* of blob or object, without the footer */
	uint64 first; /* id of its first row, in the order in which pages are read ahead */
	uint64 nrows;
	uint64
		inner; /* of an index's run: from this row on the pages are inner ones, metadata to the cache; 0: there are none */
	uint32 npages;
	const PageStart *pages; /* npages + 1 of them; NULL: one page, the whole blob */
	uint32 cache_owner; /* of its pages in the cache; 0: they are not looked for there */
} BatchSource;

#define SEGMENT_NAME 64 /* of an object's name, for messages */

/*
 * A page in memory, of its own or in the cache.  Counted: whoever keeps a pointer to it has a reference.  Gone with the transaction at the
 * latest.
 */
struct RowPage
{
	int refs;
	uint64 first_row; /* within its batch */
	uint32 nrows;
	uint32 raw;
	const uint8 *blob; /* for overflow values: of an inline batch */
	uint64 blob_len, identity, epoch, number;
	const char *data;
	CachePin pin; /* of the frame that data are in, or of none: then they are palloc'ed */
	char object[SEGMENT_NAME]; /* where it is from, for messages */
};

/* ---- reading ahead (ahead.c) */

#define AHEAD_RANGES 64

/* Pages that were requested together. */
typedef struct AheadRange
{
	struct BucketRead *read;
	uint64 epoch, number, offset;
	Size len;
	uint64 end_row; /* after its last one */
} AheadRange;

/*
 * Which page comes at or after `row`, an id as in BatchSource.first, and above all rows that were asked for before: its batch and its number
 * in it.  False: none.  Only of batches with a directory of pages.
 */
typedef bool (*AheadPlan)(void *arg, uint64 row, BatchSource *source, uint32 *n);

/* Zero but for `plan` and `arg` to begin with; plan NULL: nothing is read ahead.  What it holds is gone with the transaction at the latest. */
typedef struct ReadAhead
{
	AheadPlan plan;
	void *arg;
	bool started;
	uint64 row, /* after the page that was read last */
		plan_row; /* after the last one that was planned */
	Size window, /* how far to plan, in bytes */
		planned, /* of the pages between the two rows */
		unattended; /* of those that were read since the connections were looked after */
	uint32 window_pages, planned_pages; /* the same in pages */
	int first, nranges;
	AheadRange ranges[AHEAD_RANGES]; /* a ring; only those that are in use are set */
} ReadAhead;

/* plan: NULL if nothing is passed.  Most readers never come to request anything, so the ring is left as it is. */
static inline void
read_ahead_init(ReadAhead *ahead, AheadPlan plan, void *arg)
{
	memset(ahead, 0, offsetof(ReadAhead, ranges));
	ahead->plan = plan;
	ahead->arg = arg;
}

extern void read_ahead_release(ReadAhead *ahead);
/*
 * Without a plan: requests page n, unless it is cached or was requested; false: there is no room for more.  Who has read the page drops it.
 */
extern bool read_ahead_request(ReadAhead *ahead, const BatchSource *source, uint32 n);
extern bool read_ahead_has(ReadAhead *ahead, const BatchSource *source, uint32 n);
extern void read_ahead_before(ReadAhead *ahead, uint64 row); /* drops pages that end at or before it */
extern void read_ahead_drop(ReadAhead *ahead, const BatchSource *source, uint32 n);
/* Page n is read now: what follows may be requested. */
extern void read_ahead_pass(ReadAhead *ahead, const BatchSource *source, uint32 n);
/* Its bytes, if they were, for which it may wait; valid until the next page is passed.  NULL: read it. */
extern const uint8 *read_ahead_bytes(ReadAhead *ahead, const BatchSource *source, uint32 n);

/*
 * The page that holds row `row` of the batch, with a reference for the caller.  ahead, ring: NULL, or for this reader alone; ring: it
 * reads many pages once.  Throws if it is damaged.
 */
extern RowPage *row_page_read(const BatchSource *source, uint64 row, ReadAhead *ahead, CacheRing *ring);
extern void row_page_release(RowPage *page);
extern uint64 row_pages_loaded; /* by this process, so far: those that were not in the cache */
/* Entry of the directory that the page with this row is. */
extern uint32 batch_find_page(const BatchSource *source, uint64 row);
/* Is page n in the cache?  If so, it stays there for a while (cache_expect()). */
extern bool page_expected(const BatchSource *source, uint32 n);
/* False: the segment has nothing of this hash.  True: it may have, or nobody can tell.  May read a chunk of 64 kB into the cache. */
extern bool filter_may_have(const BatchSource *source, const BatchFilter *filter, uint64 hash);

static inline bool
row_page_holds(const RowPage *page, uint64 row)
{
	return row >= page->first_row && row - page->first_row < page->nrows;
}

/* How far a row has been taken apart. */
typedef struct RowCursor
{
	const RowPage *page;
	const RowMap *map;
	const char *data; /* of its values */
	const bits8 *nulls; /* or NULL */
	uint32 len;
	uint32 offset; /* of the next column */
	int column; /* the next one */
} RowCursor;

/* Is nothing left of the row but its number?  Then it has no values. */
static inline bool
row_is_gone(const RowPage *page, uint64 row)
{
	return (((const uint32 *) page->data)[row - page->first_row] & ROW_GONE) != 0;
}
/* Bytes of each row, were all equally long: their mean. */
static inline uint32
row_width(const RowPage *page)
{
	return page->nrows > 0 ? page->raw / page->nrows - sizeof(uint32) : 0;
}
/*
 * Asks the processor for a row of the page and its place, by where it is if all are as long as `width`.  Always inline: gcc drops calls of a
 * function that does nothing else.
 */
static pg_attribute_always_inline void
row_prefetch(const RowPage *page, uint32 width, uint64 row)
{
	uint32 n = row - page->first_row;

	__builtin_prefetch((const uint32 *) page->data + n);
	__builtin_prefetch(page->data + page->nrows * sizeof(uint32) + n * width);
}
/* Of a map with an xmin column. */
extern uint32 row_xmin(const RowPage *page, const RowMap *map, uint64 row);

/* Puts the cursor before the first column of row `row` of the batch, which the page holds. */
static inline void
row_begin(RowCursor *cursor, const RowPage *page, const RowMap *map, uint64 row)
{
	const uint32 *starts = (const uint32 *) page->data;
	uint32 n = row - page->first_row;
	uint32 start = ROW_START(starts[n]);
	uint32 end = n + 1 < page->nrows ? ROW_START(starts[n + 1]) : page->raw;

	cursor->page = page;
	cursor->map = map;
	cursor->data = page->data + start;
	cursor->len = end - start;
	cursor->nulls = NULL;
	cursor->offset = 0;
	cursor->column = 0;
	if (starts[n] & ROW_HAS_NULLS)
	{
		uint32 bitmap = TYPEALIGN(8, BITMAPLEN(map->ncolumns));

		if (bitmap > cursor->len)
			segment_damaged(page->object, "a row is cut off");
		cursor->nulls = (const bits8 *) cursor->data;
		cursor->data += bitmap;
		cursor->len -= bitmap;
	}
}

/*
 * Fills in attributes from + 1 to natts.  Values point into the page, or are palloc'ed in `cxt`.  Attributes that the batch does not
 * have get the missing values of `desc`.
 */
extern void
row_deform(RowCursor *cursor, TupleDesc desc, int from, int natts, Datum *values, bool *nulls, MemoryContext cxt);

/* ---------------------------------------------------------------- overflow values (overflow.c) */

/* A value that is fetched when it is looked at: a read-only expanded object in a context of its own below `cxt`. */
extern Datum overflow_lazy(const RowPage *page, const OverflowPointer *pointer, MemoryContext cxt);
/* The value itself, as a varlena; palloc'ed in `cxt`. */
extern Datum overflow_fetch(const RowPage *page, const OverflowPointer *pointer, MemoryContext cxt);
/* The same, a chunk at a time. */
typedef void (*OverflowEach)(void *arg, const char *data, uint32 len);
extern void overflow_each(const RowPage *page, const OverflowPointer *pointer, OverflowEach each, void *arg);

/* ---------------------------------------------------------------- a segment alone (footer.c) */

/* Checks the first 64 bytes of a segment. */
extern void segment_check_header(const char *object, const uint8 *bytes, Size len, const uint8 *uuid, uint64 epoch,
								 uint64 number, SegmentHeader *header);
/*
 * The footer, from the last `len` bytes of the object without its MAC; palloc'ed.  NULL: these are not enough, *footer_size are
 * needed.  object_size: without the MAC.
 */
extern S3am__SegmentFooter *segment_read_footer(const char *object, uint64 identity, const uint8 *bytes, Size len,
												uint64 object_size, uint32 *footer_size);

/* Bytes of a segment; palloc'ed, all of them, or an error that names it. */
extern const uint8 *segment_read(uint64 epoch, uint64 number, uint64 offset, Size len);
/* The object's name for messages. */
extern void segment_name(uint64 epoch, uint64 number, char name[SEGMENT_NAME]);
/* The same; valid until the next call. */
extern const char *segment_object(uint64 epoch, uint64 number);

#endif
