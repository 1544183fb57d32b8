/*
 * overflow.c: large values, which lie beside the pages of their segment.
 *
 * A reader gets an expanded object that knows where the value is and fetches it when somebody looks at it.  It belongs to the slot's
 * row and depends on nothing else: not on the page, the scan or a connection.  Whoever keeps a value beyond the row copies it, and
 * copying flattens.  A flat value is made anew each time; small ones are kept so that a second look costs no request.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"

#include "segment/batch.h"

#define FETCH_BYTES (8 * 1024 * 1024) /* of one request */
#define KEEP_BYTES (16 * 1024 * 1024) /* values up to this are kept */

typedef struct LazyValue
{
	ExpandedObjectHeader header;
	uint64 epoch, number, identity;
	OverflowPointer pointer;
	char *data; /* fetched and kept, or NULL */
} LazyValue;

static void
check_pointer(const OverflowPointer *pointer, const char *object)
{
	uint64 chunks = ((uint64) pointer->raw + CHUNK_RAW - 1) / CHUNK_RAW;

	if (pointer->raw == 0 || pointer->raw > MaxAllocSize - VARHDRSZ ||
		pointer->stored > pointer->raw + chunks * (sizeof(ExtentHeader) + 8) ||
		pointer->stored < chunks * sizeof(ExtentHeader) || pointer->stored % 8 != 0)
		segment_damaged(object, "a pointer to an overflow value does not fit");
}

/*
 * Fetches the chunks and gives the value's bytes to `each`, in order.  `blob`: of an inline batch, or NULL.
 */
static void
fetch(const OverflowPointer *pointer, const uint8 *blob, uint64 blob_len, uint64 epoch, uint64 number, uint64 identity,
	  OverflowEach each, void *arg)
{
	char object[SEGMENT_NAME];
	uint64 offset = (uint64) pointer->offset8 * 8;
	uint64 end = offset + pointer->stored;
	uint32 done = 0;
	const uint8 *bytes = NULL; /* of the object, from `first` on */
	uint64 first = offset, have = 0;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am overflow", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);

	segment_name(epoch, number, object);
	if (blob)
	{
		if (end > blob_len)
			segment_damaged(object, "an overflow value lies outside of it");
		bytes = blob + offset;
		have = pointer->stored;
	}
	while (done < pointer->raw)
	{
		ExtentHeader header;
		uint32 expect = Min(pointer->raw - done, CHUNK_RAW);
		Size size;
		char *chunk;

		CHECK_FOR_INTERRUPTS();
		/* a chunk is never larger than this: have it all, or all there is */
		if (!blob && first + have < end && (have == 0 || offset + CHUNK_MAX_STORED > first + have))
		{
			if (bytes)
				pfree((void *) bytes);
			first = offset;
			have = Min(end - offset, FETCH_BYTES);
			bytes = segment_read(epoch, number, first, have);
		}
		if (offset >= first + have)
			segment_damaged(object, "an overflow value is cut off");
		chunk = extent_open(object, identity, offset, bytes + (offset - first), first + have - offset, EXTENT_CHUNK,
							CHUNK_RAW, cxt, &header);
		if (header.raw != expect)
			segment_damaged(object, "an overflow value has not the length that its row says");
		each(arg, chunk, expect);
		pfree(chunk);
		size = TYPEALIGN(8, sizeof(ExtentHeader) + header.stored);
		offset += size;
		done += expect;
	}
	if (offset != end)
		segment_damaged(object, "an overflow value has not the length that its row says");
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

static void
put(void *arg, const char *data, uint32 len)
{
	char **to = arg;

	memcpy(*to, data, len);
	*to += len;
}

void
overflow_each(const RowPage *page, const OverflowPointer *pointer, OverflowEach each, void *arg)
{
	check_pointer(pointer, page->object);
	fetch(pointer, page->blob, page->blob_len, page->epoch, page->number, page->identity, each, arg);
}

Datum
overflow_fetch(const RowPage *page, const OverflowPointer *pointer, MemoryContext cxt)
{
	char *value, *to;

	check_pointer(pointer, page->object);
	value = MemoryContextAlloc(cxt, VARHDRSZ + pointer->raw);
	SET_VARSIZE(value, VARHDRSZ + pointer->raw);
	to = VARDATA(value);
	fetch(pointer, page->blob, page->blob_len, page->epoch, page->number, page->identity, put, &to);
	return PointerGetDatum(value);
}

/* ------------------------------------------------------------------------------------ the expanded object */

static Size
lazy_flat_size(ExpandedObjectHeader *eohptr)
{
	return VARHDRSZ + ((LazyValue *) eohptr)->pointer.raw;
}

static void
lazy_flatten_into(ExpandedObjectHeader *eohptr, void *result, Size allocated_size)
{
	LazyValue *lazy = (LazyValue *) eohptr;
	uint32 raw = lazy->pointer.raw;

	Assert(allocated_size == VARHDRSZ + raw);
	SET_VARSIZE(result, VARHDRSZ + raw);
	if (lazy->data == NULL)
	{
		char *to = VARDATA(result);

		fetch(&lazy->pointer, NULL, 0, lazy->epoch, lazy->number, lazy->identity, put, &to);
		if (raw <= KEEP_BYTES)
		{
			char *data = MemoryContextAlloc(lazy->header.eoh_context, raw);

			memcpy(data, VARDATA(result), raw);
			lazy->data = data;
		}
		return;
	}
	memcpy(VARDATA(result), lazy->data, raw);
}

static const ExpandedObjectMethods lazy_methods = {lazy_flat_size, lazy_flatten_into};

Datum
overflow_lazy(const RowPage *page, const OverflowPointer *pointer, MemoryContext parent)
{
	MemoryContext cxt;
	LazyValue *lazy;

	check_pointer(pointer, page->object);
	cxt = AllocSetContextCreate(parent, "s3am overflow value", ALLOCSET_START_SMALL_SIZES);
	lazy = MemoryContextAllocZero(cxt, sizeof(LazyValue));
	EOH_init_header(&lazy->header, &lazy_methods, cxt);
	lazy->epoch = page->epoch;
	lazy->number = page->number;
	lazy->identity = page->identity;
	lazy->pointer = *pointer;
	/* read-only: nobody may take it over or change it */
	return EOHPGetRODatum(&lazy->header);
}
