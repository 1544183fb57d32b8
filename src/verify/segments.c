/*
 * segments.c: segments and inline rows, byte by byte.
 *
 * Segments are read in pieces, some of them ahead, and looked at in order: header, extents as the directory of the manifest says,
 * footer.  What is incomplete at the end of a piece is kept for the next one, so a page costs its own size and no more.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "segment/batch.h"
#include "verify/verify.h"

#define PIECE ((uint64) 4 * 1024 * 1024)
#define PIECES 8 /* in flight */
#define MAX_STORED ((Size) PAGE_MAX_RAW + PAGE_MAX_RAW / 128 + 1024) /* zstd's bound, rounded up */

/* Extents that come one after the other, and what is known of them. */
typedef struct Extents
{
	const char *object;
	uint64 identity, offset; /* of the next one */
	const uint32 *rows, *size8; /* the directory */
	size_t n, at;
	uint64 left; /* bytes of entry `at` */
	uint64 one_page; /* without a directory: rows of the only page */
	bool directory;
} Extents;

typedef struct Segment
{
	MemoryContext cxt;
	char key[KEY_SIZE];
	const uint8 *uuid;
	uint64 epoch, number, size, nrows;
	uint32 footer_size;
	uint32 *rows, *size8;
	size_t n;
	uint64 known_columns; /* 0: the schema is not known here */
	int attempts;
	/* how far it is */
	bool header_seen;
	uint32 mac;
	Extents extents;
	uint8 *rest; /* not looked at yet */
	Size rest_len, rest_capacity;
	char *wrong; /* NULL: nothing so far */
} Segment;

typedef struct Piece
{
	Segment *segment;
	Fetch *fetch;
	Size len;
	bool last;
} Piece;

struct SegmentQueue
{
	Piece pieces[PIECES];
	int first, n;
};

static void enqueue(Verify *v, Segment *s);

/* ------------------------------------------------------------------------------------ extents */

/*
 * Looks at one extent; returns how many bytes it takes, 0 if there are not enough of them.  Throws.  end: of all extents.
 */
static Size
check_extent(Extents *e, const uint8 *bytes, Size len, uint64 end, MemoryContext cxt)
{
	ExtentHeader header;
	Size total;
	char *raw;
	static const uint8 zeros[8] = {0};

	if (end - e->offset < sizeof(header))
		segment_damaged(e->object, "bytes that belong to no page");
	if (len < sizeof(header))
		return 0;
	memcpy(&header, bytes, sizeof(header));
	if (header.stored > end - e->offset - sizeof(header) || header.stored > MAX_STORED)
		segment_damaged(e->object, "the length of a page or an overflow chunk does not fit");
	total = TYPEALIGN(8, sizeof(header) + (Size) header.stored);
	if (total > end - e->offset)
		segment_damaged(e->object, "a page or an overflow chunk is cut off");
	if (len < total)
		return 0;
	raw = extent_open(e->object, e->identity, e->offset, bytes, sizeof(header) + header.stored,
					  header.kind == EXTENT_CHUNK ? EXTENT_CHUNK : EXTENT_PAGE,
					  header.kind == EXTENT_CHUNK ? CHUNK_RAW : PAGE_MAX_RAW, cxt, &header);
	if (memcmp(bytes + sizeof(header) + header.stored, zeros, total - sizeof(header) - header.stored) != 0)
		segment_damaged(e->object, "the padding after a page or an overflow chunk is not zero");
	if (header.kind == EXTENT_PAGE)
	{
		const char *wrong = page_check(raw, header.nrows, header.raw);

		if (wrong)
			segment_damaged(e->object, wrong);
	}
	else if (header.nrows != 0)
		segment_damaged(e->object, "an overflow chunk has rows");
	pfree(raw);
	if (!e->directory)
	{
		if (header.kind != EXTENT_PAGE || header.nrows != e->one_page || e->offset + total != end)
			segment_damaged(e->object, "rows are not the one page that their manifest says");
	}
	else
	{
		if (e->left == 0 && e->at < e->n)
			e->left = (uint64) e->size8[e->at] * 8;
		if (e->at >= e->n || total > e->left)
			segment_damaged(e->object, "pages are not where the manifest says");
		if (header.kind == EXTENT_PAGE ? header.nrows != e->rows[e->at] || total != e->left : e->rows[e->at] != 0)
			segment_damaged(e->object, "a page has not as many rows as its manifest says");
		e->left -= total;
		if (e->left == 0)
			e->at++;
	}
	e->offset += total;
	return total;
}

/*
 * Runs `work`; NULL, or what is wrong, in the current context.  What is called takes nothing but memory, so there is nothing to roll back.
 */
static char *
guarded(void (*work)(void *), void *arg)
{
	MemoryContext old = CurrentMemoryContext;
	char *volatile wrong = NULL;

	PG_TRY();
	{
		work(arg);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED && error->sqlerrcode != ERRCODE_FEATURE_NOT_SUPPORTED)
			PG_RE_THROW();
		FlushErrorState();
		wrong = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return wrong;
}

/* ------------------------------------------------------------------------------------ inline rows */

typedef struct Inline
{
	Extents extents;
	const S3am__Batch *batch;
} Inline;

static void
check_inline(void *arg)
{
	Inline *in = arg;
	uint64 end = in->batch->rows.len;
	MemoryContext cxt = CurrentMemoryContext;

	if (!page_starts_check(in->batch))
		segment_damaged(in->extents.object, "the directory of pages does not fit");
	while (in->extents.offset < end)
		(void) check_extent(&in->extents, in->batch->rows.data + in->extents.offset, end - in->extents.offset, end,
							cxt);
	if (in->extents.directory ? in->extents.at < in->extents.n : end == 0 && in->batch->nrows > 0)
		segment_damaged(in->extents.object, "a page is missing");
}

/* ------------------------------------------------------------------------------------ segments */

static void
check_footer(Segment *s)
{
	S3am__SegmentFooter *footer;
	uint32 footer_size;

	if (s->mac > s->rest_len)
		segment_damaged(s->key, "cut off");
	footer =
		segment_read_footer(s->key, s->extents.identity, s->rest, s->rest_len - s->mac, s->size - s->mac, &footer_size);
	if (footer == NULL || footer_size + s->mac != s->footer_size)
		segment_damaged(s->key, "the footer is not as long as the manifest says");
	if (footer->nrows != s->nrows)
		segment_damaged(s->key, "it has not as many rows as its manifest says");
	if (footer->pages->n_rows != s->n || memcmp(footer->pages->rows, s->rows, s->n * sizeof(uint32)) != 0 ||
		memcmp(footer->pages->size8, s->size8, s->n * sizeof(uint32)) != 0)
		segment_damaged(s->key, "its directory of pages is not that of the manifest");
	if (s->known_columns && footer->schema->n_columns != s->known_columns)
		segment_damaged(s->key, "it has not the columns that the manifest says");
}

typedef struct Feed
{
	Segment *s;
	bool last;
} Feed;

static void
check_rest(void *arg)
{
	Feed *feed = arg;
	Segment *s = feed->s;
	uint64 end = s->size - s->footer_size;
	Size used = 0;
	MemoryContext old = MemoryContextSwitchTo(s->cxt);

	if (!s->header_seen)
	{
		SegmentHeader header;

		segment_check_header(s->key, s->rest, s->rest_len, s->uuid, s->epoch, s->number, &header);
		s->mac = header.mac;
		s->header_seen = true;
		used = SEGMENT_HEADER_SIZE;
	}
	while (s->extents.offset < end)
	{
		Size n = check_extent(&s->extents, s->rest + used, s->rest_len - used, end, s->cxt);

		if (n == 0)
			break;
		used += n;
	}
	s->rest_len -= used;
	memmove(s->rest, s->rest + used, s->rest_len);
	if (feed->last)
	{
		if (s->extents.offset < end)
			segment_damaged(s->key, "cut off");
		if (s->extents.at < s->n)
			segment_damaged(s->key, "a page is missing");
		check_footer(s);
	}
	MemoryContextSwitchTo(old);
}

static void
feed(Segment *s, const uint8 *bytes, Size len, bool last)
{
	Feed arg = {s, last};

	if (s->rest_len + len > s->rest_capacity)
	{
		s->rest_capacity = s->rest_len + len;
		s->rest = s->rest ? repalloc_huge(s->rest, s->rest_capacity) : MemoryContextAllocHuge(s->cxt, s->rest_capacity);
	}
	memcpy(s->rest + s->rest_len, bytes, len);
	s->rest_len += len;
	s->wrong = guarded(check_rest, &arg);
}

static void
segment_ended(Verify *v, Segment *s)
{
	if (s->wrong && s->attempts++ == 0)
	{
		/* once more, from the beginning */
		s->wrong = NULL;
		enqueue(v, s);
		return;
	}
	if (s->wrong)
		verify_problem(v, s->key, "segment", "%s", s->wrong);
	MemoryContextDelete(s->cxt);
}

/* The oldest piece in flight. */
static void
take_piece(Verify *v)
{
	SegmentQueue *q = v->queue;
	Piece p = q->pieces[q->first];
	Segment *s = p.segment;
	Fetch *f = p.fetch;
	MemoryContext old = MemoryContextSwitchTo(s->cxt);

	verify_pin_renew(v);
	fetch_wait(v, f);
	q->first = (q->first + 1) % PIECES;
	q->n--;
	if (s->wrong == NULL)
	{
		if (f->status == STORE_NOT_FOUND)
			s->wrong = "it is missing";
		else if (f->status != STORE_OK)
			s->wrong = psprintf("it cannot be read: %s", f->error);
		else if (f->len != p.len)
			s->wrong = psprintf("it is shorter than its manifest says (" UINT64_FORMAT " bytes)", s->size);
		else if (f->object_size && f->object_size != s->size)
			s->wrong =
				psprintf("it has " UINT64_FORMAT " bytes, its manifest says " UINT64_FORMAT, f->object_size, s->size);
		else
			feed(s, f->data, f->len, p.last);
	}
	verify_counted(v, VERIFY_SEGMENTS, p.last && s->attempts == 0 ? 1 : 0, f->len);
	fetch_free(v, f);
	MemoryContextSwitchTo(old);
	if (p.last)
		segment_ended(v, s);
}

static void
enqueue(Verify *v, Segment *s)
{
	SegmentQueue *q = v->queue;

	s->header_seen = false;
	s->rest_len = 0;
	memset(&s->extents, 0, sizeof(s->extents));
	s->extents.object = s->key;
	s->extents.identity = segment_identity(v->uuid, s->epoch, s->number);
	s->extents.offset = SEGMENT_HEADER_SIZE;
	s->extents.rows = s->rows;
	s->extents.size8 = s->size8;
	s->extents.n = s->n;
	s->extents.directory = true;
	for (uint64 offset = 0; offset < s->size; offset += PIECE)
	{
		Piece *p;

		while (q->n == PIECES)
			take_piece(v);
		p = &q->pieces[(q->first + q->n) % PIECES];
		p->segment = s;
		p->len = Min(PIECE, s->size - offset);
		p->last = offset + p->len == s->size;
		p->fetch = fetch_begin(v, s->key, offset, p->len);
		q->n++;
	}
}

void
verify_batch(Verify *v, const char *object, const S3am__Batch *batch)
{
	const S3am__SegmentRef *ref = batch->segment;
	char key[KEY_SIZE];
	MemoryContext cxt;
	Segment *s;

	if (!v->deep)
		return;
	if (ref == NULL)
	{
		Inline in = {{object, 0, 0}, batch};
		char *wrong;
		MemoryContext old = MemoryContextSwitchTo(v->object_cxt);

		in.extents.directory = batch->pages != NULL;
		in.extents.one_page = batch->nrows + batch->inner;
		if (batch->pages)
		{
			in.extents.rows = batch->pages->rows;
			in.extents.size8 = batch->pages->size8;
			in.extents.n = batch->pages->n_rows;
		}
		wrong = guarded(check_inline, &in);
		MemoryContextSwitchTo(old);
		if (wrong)
			verify_problem(v, object, "inline rows", "%s", wrong);
		return;
	}
	if (!idset_add(v->segments, ref->epoch, ref->number))
		return;
	key_segment(key, ref->epoch, ref->number);
	if (!page_starts_check(batch) || ref->size < ref->footer_size + (uint64) SEGMENT_HEADER_SIZE)
	{
		verify_problem(v, object, "reference", "what it says of segment \"%s\" does not fit together", key);
		return;
	}
	cxt = AllocSetContextCreate(v->cxt, "s3am segment", ALLOCSET_DEFAULT_SIZES);
	s = MemoryContextAllocZero(cxt, sizeof(Segment));
	s->cxt = cxt;
	s->uuid = v->uuid;
	strlcpy(s->key, key, sizeof(s->key));
	s->epoch = ref->epoch;
	s->number = ref->number;
	s->size = ref->size;
	s->footer_size = ref->footer_size;
	s->nrows = batch->nrows + batch->inner;
	s->n = batch->pages->n_rows;
	s->rows = MemoryContextAllocHuge(cxt, Max(s->n, 1) * sizeof(uint32));
	s->size8 = MemoryContextAllocHuge(cxt, Max(s->n, 1) * sizeof(uint32));
	memcpy(s->rows, batch->pages->rows, s->n * sizeof(uint32));
	memcpy(s->size8, batch->pages->size8, s->n * sizeof(uint32));
	if (batch->schema)
		s->known_columns = batch->schema->n_columns;
	if (v->queue == NULL)
		v->queue = MemoryContextAllocZero(v->cxt, sizeof(SegmentQueue));
	enqueue(v, s);
}

void
verify_segments_end(Verify *v)
{
	while (v->queue && v->queue->n > 0)
		take_piece(v);
}
