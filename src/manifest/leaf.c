/*
 * leaf.c: see leaf.h.
 *
 * Reads the encoding of protocol buffers as far as the messages of a batch need it: a field that is not known is skipped, the last of
 * several counts, and numbers of a list come packed or not.
 */
#include <string.h>

#include "manifest/leaf.h"

/* Numbers of Page's fields. */
#define PAGE_BATCHES 3

typedef enum WireType
{
	WIRE_VARINT = 0,
	WIRE_64 = 1,
	WIRE_BYTES = 2,
	WIRE_32 = 5
} WireType;

typedef struct Wire
{
	const uint8_t *at, *end;
} Wire;

typedef struct Field
{
	uint32_t number;
	WireType type;
	uint64_t value; /* unless it is bytes */
	Wire bytes;
} Field;

static bool
read_long_varint(Wire *w, uint64_t *value)
{
	uint64_t v = 0;

	for (int shift = 0; shift < 64 && w->at < w->end; shift += 7)
	{
		uint8_t byte = *w->at++;

		v |= (uint64_t) (byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
		{
			*value = v;
			return true;
		}
	}
	return false;
}

/* Most have one byte. */
static inline bool
read_varint(Wire *w, uint64_t *value)
{
	if (w->at < w->end && *w->at < 0x80)
	{
		*value = *w->at++;
		return true;
	}
	return read_long_varint(w, value);
}

static inline bool
read_fixed(Wire *w, int n, uint64_t *value)
{
	if (w->end - w->at < n)
		return false;
	*value = 0;
	for (int i = 0; i < n; i++)
		*value |= (uint64_t) w->at[i] << (8 * i);
	w->at += n;
	return true;
}

static inline bool
read_field(Wire *w, Field *f)
{
	uint64_t tag, len;

	if (!read_varint(w, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
		return false;
	f->number = (uint32_t) tag >> 3;
	f->type = tag & 7;
	switch (f->type)
	{
		case WIRE_VARINT:
			return read_varint(w, &f->value);
		case WIRE_64:
			return read_fixed(w, 8, &f->value);
		case WIRE_32:
			return read_fixed(w, 4, &f->value);
		case WIRE_BYTES:
			if (!read_varint(w, &len) || len > (uint64_t) (w->end - w->at))
				return false;
			f->bytes = (Wire){w->at, w->at + len};
			w->at += len;
			return true;
		default:
			return false; /* groups, which nobody writes */
	}
}

/* ------------------------------------------------------------------------------------ messages */

static bool
read_segment(S3am__SegmentRef *segment, Wire w)
{
	Field f;

	s3am__segment_ref__init(segment);
	while (w.at < w.end)
	{
		if (!read_field(&w, &f))
			return false;
		if (f.number >= 1 && f.number <= 5 && f.type != WIRE_VARINT)
			return false;
		switch (f.number)
		{
			case 1:
				segment->epoch = f.value;
				break;
			case 2:
				segment->number = f.value;
				break;
			case 3:
				segment->size = f.value;
				break;
			case 4:
				segment->footer_size = (uint32_t) f.value;
				break;
			case 5:
				segment->live_bytes = f.value;
				break;
			default:
				break;
		}
	}
	return true;
}

static bool
read_filter(S3am__KeyFilter *filter, Wire w)
{
	Field f;

	s3am__key_filter__init(filter);
	while (w.at < w.end)
	{
		if (!read_field(&w, &f))
			return false;
		if (f.number >= 1 && f.number <= 3 && f.type != (f.number == 1 ? WIRE_BYTES : WIRE_VARINT))
			return false;
		switch (f.number)
		{
			case 1:
				filter->kinds.data = (uint8_t *) f.bytes.at;
				filter->kinds.len = f.bytes.end - f.bytes.at;
				break;
			case 2:
				filter->blocks = (uint32_t) f.value;
				break;
			case 3:
				filter->offset8 = (uint32_t) f.value;
				break;
			default:
				break;
		}
	}
	return true;
}

static bool
add_number(LeafReader *r, uint32_t **list, size_t *n, size_t *capacity, uint32_t value)
{
	if (*n == *capacity)
	{
		size_t grown = *capacity ? *capacity * 2 : 16;
		uint32_t *copy = r->allocator->alloc(r->allocator->allocator_data, grown * sizeof(uint32_t));

		if (copy == NULL)
			return false;
		if (*n)
			memcpy(copy, *list, *n * sizeof(uint32_t));
		*list = copy;
		*capacity = grown;
	}
	(*list)[(*n)++] = value;
	return true;
}

static bool
read_numbers(LeafReader *r, const Field *f, uint32_t **list, size_t *n, size_t *capacity)
{
	Wire w = f->bytes;
	uint64_t value;

	if (f->type == WIRE_VARINT)
		return add_number(r, list, n, capacity, (uint32_t) f->value);
	if (f->type != WIRE_BYTES)
		return false;
	while (w.at < w.end)
		if (!read_varint(&w, &value) || !add_number(r, list, n, capacity, (uint32_t) value))
			return false;
	return true;
}

static bool
read_pages(LeafReader *r, Wire w)
{
	S3am__PageDirectory *pages = &r->pages;
	Field f;

	pages->n_rows = pages->n_size8 = 0;
	while (w.at < w.end)
	{
		if (!read_field(&w, &f))
			return false;
		if (f.number == 1 && !read_numbers(r, &f, &pages->rows, &pages->n_rows, &r->rows_capacity))
			return false;
		if (f.number == 2 && !read_numbers(r, &f, &pages->size8, &pages->n_size8, &r->size8_capacity))
			return false;
	}
	return true;
}

/* Nearly always that of the batch before. */
static bool
read_schema(LeafReader *r, Wire w)
{
	size_t len = w.end - w.at;

	r->same_schema = r->schema && r->schema_len == len && memcmp(r->schema_bytes, w.at, len) == 0;
	if (r->same_schema)
		return true;
	r->schema = s3am__batch_schema__unpack(r->allocator, len, w.at);
	r->schema_bytes = w.at;
	r->schema_len = len;
	return r->schema != NULL;
}

static bool
read_batch(LeafReader *r, Wire w)
{
	S3am__Batch *batch = &r->batch;
	Wire schema = {NULL, NULL};
	Field f;

	s3am__batch__init(batch);
	while (w.at < w.end)
	{
		if (!read_field(&w, &f))
			return false;
		if (f.number >= 1 && f.number <= 9 && f.type != (f.number == 1 || f.number >= 6 ? WIRE_VARINT : WIRE_BYTES))
			return false;
		if (f.number == 10 && f.type != WIRE_BYTES)
			return false;
		switch (f.number)
		{
			case 1:
				batch->nrows = f.value;
				break;
			case 2:
				batch->rows.data = (uint8_t *) f.bytes.at;
				batch->rows.len = f.bytes.end - f.bytes.at;
				break;
			case 3:
				if (!read_segment(&r->segment, f.bytes))
					return false;
				batch->segment = &r->segment;
				break;
			case 4:
				schema = f.bytes;
				break;
			case 5:
				if (!read_pages(r, f.bytes))
					return false;
				batch->pages = &r->pages;
				break;
			case 6:
				batch->gone = f.value;
				break;
			case 7:
				batch->inner = f.value;
				break;
			case 8:
				batch->row_base = f.value;
				break;
			case 9:
				batch->continues = f.value != 0;
				break;
			case 10:
				if (!read_filter(&r->filter, f.bytes))
					return false;
				batch->filter = &r->filter;
				break;
			default:
				break;
		}
	}
	if (schema.at == NULL)
		return true;
	if (!read_schema(r, schema))
		return false;
	batch->schema = r->schema;
	return true;
}

static bool
read_state(LeafReader *r, Wire w)
{
	S3am__BatchState *state = &r->state;
	Field f;

	s3am__batch_state__init(state);
	while (w.at < w.end)
	{
		if (!read_field(&w, &f))
			return false;
		if (f.number >= 1 && f.number <= 4 &&
			f.type != (f.number == 3   ? WIRE_32
					   : f.number == 4 ? WIRE_BYTES
									   : WIRE_VARINT))
			return false;
		switch (f.number)
		{
			case 1:
				state->first_row = f.value;
				break;
			case 2:
				state->version = f.value;
				break;
			case 3:
				state->xmin = (uint32_t) f.value;
				break;
			case 4:
				if (!read_batch(r, f.bytes))
					return false;
				state->batch = &r->batch;
				break;
			default:
				break;
		}
	}
	return true;
}

/* ------------------------------------------------------------------------------------ the page */

/* The page's bytes without its batches, into `rest` unless it is NULL; how many both are.  False: these are no fields. */
static bool
leave_out_batches(LeafReader *r, uint8_t *rest, size_t *rest_len)
{
	Wire w = {r->at, r->end};
	const uint8_t *from = w.at; /* of a stretch without batches */
	Field f = {0};

	*rest_len = 0;
	r->n = 0;
	while (w.at < w.end)
	{
		const uint8_t *begin = w.at;

		if (!read_field(&w, &f) || (f.number == PAGE_BATCHES && f.type != WIRE_BYTES))
			return false;
		if (f.number == PAGE_BATCHES)
			r->n++;
		else if (w.at < w.end)
			continue;
		else
			begin = w.at;
		if (rest)
			memcpy(rest + *rest_len, from, begin - from);
		*rest_len += begin - from;
		from = w.at;
	}
	return true;
}

S3am__Page *
leaf_open(LeafReader *r, const uint8_t *bytes, size_t len, ProtobufCAllocator *allocator)
{
	uint8_t *rest;
	size_t rest_len;

	memset(r, 0, sizeof(*r));
	r->at = bytes;
	r->end = bytes + len;
	r->allocator = allocator;
	s3am__page_directory__init(&r->pages);
	if (!leave_out_batches(r, NULL, &rest_len))
		return NULL;
	rest = allocator->alloc(allocator->allocator_data, rest_len + 1);
	if (rest == NULL)
		return NULL;
	(void) leave_out_batches(r, rest, &rest_len);
	return s3am__page__unpack(allocator, rest_len, rest);
}

const S3am__BatchState *
leaf_next(LeafReader *r)
{
	Wire w = {r->at, r->end};
	Field f = {0};

	while (w.at < w.end && !r->damaged)
	{
		/* leaf_open() has seen that the page is made of fields */
		r->damaged = !read_field(&w, &f) || (f.number == PAGE_BATCHES && !read_state(r, f.bytes));
		if (f.number != PAGE_BATCHES || r->damaged)
			continue;
		r->at = w.at;
		return &r->state;
	}
	r->at = r->end;
	return NULL;
}
