/*
 * leaf.c: batches read by manifest/leaf.h are those that protobuf-c reads, and bytes that are none do no harm.  Prints TAP; to be built with
 * sanitizers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/leaf.h"

static uint64_t seed = 1;

static uint64_t
number(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

/* Of any size: small ones are common, and so are the largest. */
static uint64_t
any(int bits)
{
	uint64_t v = number(UINT64_MAX) >> (64 - bits);

	return number(8) == 0 ? UINT64_MAX >> (64 - bits) : v >> number(bits);
}

/* ------------------------------------------------------------------------------------ memory that goes as a whole */

typedef struct Block
{
	struct Block *next;
} Block;

static Block *blocks;

static void *
alloc(void *arg, size_t size)
{
	Block *block = malloc(sizeof(Block) + size);

	block->next = blocks;
	blocks = block;
	return block + 1;
}

static void
keep(void *arg, void *p)
{
}

static void
free_all(void)
{
	while (blocks)
	{
		Block *next = blocks->next;

		free(blocks);
		blocks = next;
	}
}

static ProtobufCAllocator allocator = {alloc, keep, NULL};

/* ------------------------------------------------------------------------------------ pages */

static S3am__BatchSchema *
make_schema(void)
{
	S3am__BatchSchema *schema = alloc(NULL, sizeof(*schema));

	s3am__batch_schema__init(schema);
	schema->n_columns = number(4);
	schema->columns = alloc(NULL, sizeof(void *) * 4);
	for (size_t i = 0; i < schema->n_columns; i++)
	{
		schema->columns[i] = alloc(NULL, sizeof(S3am__StoredColumn));
		s3am__stored_column__init(schema->columns[i]);
		schema->columns[i]->id = i + 1 + number(3);
		schema->columns[i]->name = number(2) ? "name" : "";
	}
	return schema;
}

static uint32_t *
make_numbers(size_t *n)
{
	uint32_t *list = alloc(NULL, sizeof(uint32_t) * 100);

	*n = number(10) ? number(4) : number(100);
	for (size_t i = 0; i < *n; i++)
		list[i] = any(32);
	return list;
}

static S3am__BatchState *
make_state(S3am__BatchSchema **schema)
{
	static uint8_t bytes[300];
	S3am__BatchState *state = alloc(NULL, sizeof(*state));
	S3am__Batch *batch = alloc(NULL, sizeof(*batch));

	if (*schema == NULL || number(5) == 0)
		*schema = make_schema();
	s3am__batch_state__init(state);
	state->first_row = any(64);
	state->version = any(64);
	state->xmin = any(32);
	s3am__batch__init(batch);
	state->batch = number(50) ? batch : NULL;
	batch->nrows = any(64);
	batch->gone = any(64);
	batch->inner = any(64);
	batch->row_base = number(2) ? any(64) : 0;
	batch->continues = number(2) != 0;
	if (number(3) == 0)
	{
		batch->filter = alloc(NULL, sizeof(S3am__KeyFilter));
		s3am__key_filter__init(batch->filter);
		batch->filter->kinds.data = bytes;
		batch->filter->kinds.len = number(9);
		batch->filter->blocks = any(32);
		batch->filter->offset8 = any(32);
	}
	batch->schema = number(50) ? *schema : NULL;
	if (number(3))
	{
		batch->segment = alloc(NULL, sizeof(S3am__SegmentRef));
		s3am__segment_ref__init(batch->segment);
		batch->segment->epoch = any(64);
		batch->segment->number = any(64);
		batch->segment->size = any(64);
		batch->segment->footer_size = any(32);
		batch->segment->live_bytes = any(64);
	}
	else
	{
		batch->rows.len = number(sizeof(bytes));
		batch->rows.data = bytes;
	}
	if (number(3))
	{
		batch->pages = alloc(NULL, sizeof(S3am__PageDirectory));
		s3am__page_directory__init(batch->pages);
		batch->pages->rows = make_numbers(&batch->pages->n_rows);
		batch->pages->size8 = make_numbers(&batch->pages->n_size8);
	}
	return state;
}

/* Bytes of a page, and, if wanted, those of each of its batches. */
static uint8_t *
make_page(size_t *len, S3am__Page *page)
{
	S3am__BatchSchema *schema = NULL;
	uint8_t *bytes;

	s3am__page__init(page);
	page->n_batches = number(20);
	page->batches = alloc(NULL, sizeof(void *) * 20);
	for (size_t i = 0; i < page->n_batches; i++)
		page->batches[i] = make_state(&schema);
	if (number(2))
	{
		page->removed = alloc(NULL, sizeof(S3am__RowSet));
		s3am__row_set__init(page->removed);
		page->removed->n_parts = 1;
		page->removed->parts = alloc(NULL, sizeof(void *));
		page->removed->parts[0] = alloc(NULL, sizeof(S3am__RowSet__Part));
		s3am__row_set__part__init(page->removed->parts[0]);
		page->removed->parts[0]->high = any(32);
	}
	if (number(4) == 0)
	{
		page->n_children = 1;
		page->children = alloc(NULL, sizeof(void *));
		page->children[0] = alloc(NULL, sizeof(S3am__PageRef));
		s3am__page_ref__init(page->children[0]);
		page->children[0]->number = any(64);
	}
	*len = s3am__page__get_packed_size(page);
	bytes = malloc(*len + 1); /* of exactly that size, but never none: an access behind it is seen */
	s3am__page__pack(page, bytes);
	return bytes;
}

/* ------------------------------------------------------------------------------------ checks */

static bool
same(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
	size_t len = protobuf_c_message_get_packed_size(a);
	uint8_t *x = alloc(NULL, len + 1), *y = alloc(NULL, len + 1);

	if (protobuf_c_message_get_packed_size(b) != len)
		return false;
	protobuf_c_message_pack(a, x);
	protobuf_c_message_pack(b, y);
	return memcmp(x, y, len) == 0;
}

static bool
read_back(const S3am__Page *page, const uint8_t *bytes, size_t len)
{
	LeafReader reader;
	S3am__Page *rest = leaf_open(&reader, bytes, len, &allocator);
	S3am__Page without = *page;
	const S3am__BatchState *state;
	const S3am__BatchSchema *before = NULL;
	size_t n = 0;

	without.n_batches = 0;
	if (rest == NULL || !same(&rest->base, &without.base))
		return false;
	while ((state = leaf_next(&reader)) != NULL)
	{
		if (n == page->n_batches || !same(&state->base, &page->batches[n]->base))
			return false;
		if (state->batch && state->batch->schema)
		{
			if (reader.same_schema != (before && same(&before->base, &state->batch->schema->base)))
				return false;
			before = state->batch->schema;
		}
		n++;
	}
	return n == page->n_batches && !reader.damaged;
}

/* Reads what it can of them. */
static bool
read_damaged(const uint8_t *bytes, size_t len)
{
	LeafReader reader;
	const S3am__BatchState *state;

	if (leaf_open(&reader, bytes, len, &allocator) == NULL)
		return false;
	while ((state = leaf_next(&reader)) != NULL)
		(void) same(&state->base, &state->base);
	return !reader.damaged;
}

static int tests, failed;

static void
ok(bool good, const char *name)
{
	failed += !good;
	printf("%sok %d - %s\n", good ? "" : "not ", ++tests, name);
}

int
main(void)
{
	bool good = true, cut = true;
	long refused = 0, tried = 0;

	for (int round = 0; round < 2000; round++)
	{
		S3am__Page page;
		size_t len;
		uint8_t *bytes = make_page(&len, &page);

		good &= read_back(&page, bytes, len);
		for (int i = 0; i < 20 && len > 0; i++)
		{
			size_t some = number(len + 1), at = number(len);
			uint8_t *part = malloc(some + (some == 0)), was = bytes[at];

			memcpy(part, bytes, some);
			(void) read_damaged(part, some);
			free(part);
			bytes[at] = number(256);
			tried++;
			refused += !read_damaged(bytes, len);
			bytes[at] = was;
		}
		/* a page that ends within a batch, whose length is known */
		if (page.n_batches > 0 && page.n_children == 0)
		{
			S3am__Page only;
			size_t rest;

			s3am__page__init(&only);
			only.n_batches = page.n_batches;
			only.batches = page.batches;
			rest = s3am__page__get_packed_size(&only);
			cut &= !read_damaged(bytes, rest - 1);
		}
		free(bytes);
		free_all();
	}
	ok(good, "batches and what else a page has are read as protobuf-c reads them");
	ok(cut, "a page that is cut off is refused");
	ok(refused > 0 && refused < tried, "changed bytes do no harm");
	printf("1..%d\n", tests);
	return failed > 0;
}
