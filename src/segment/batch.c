/*
 * batch.c: what a manifest says of a batch, as it is kept in memory.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "messages.h"
#include "segment/batch.h"

bool
page_starts_check(const S3am__Batch *batch)
{
	const S3am__PageDirectory *pages = batch->pages;
	uint64 row = 0, offset8 = batch->segment ? SEGMENT_HEADER_SIZE / 8 : 0, end = batch->rows.len;

	if (batch->segment)
	{
		if (batch->segment->footer_size > batch->segment->size)
			return false;
		end = batch->segment->size - batch->segment->footer_size;
	}
	if (pages == NULL)
		return batch->segment == NULL;
	if (pages->n_rows != pages->n_size8)
		return false;
	for (size_t i = 0; i < pages->n_rows; i++)
	{
		row += pages->rows[i];
		offset8 += pages->size8[i];
	}
	return row == batch->nrows && row <= PG_UINT32_MAX && offset8 <= PG_UINT32_MAX && offset8 * 8 <= end;
}

void
page_starts_fill(const S3am__Batch *batch, PageStart *starts)
{
	const S3am__PageDirectory *pages = batch->pages;
	PageStart next = {0, batch->segment ? SEGMENT_HEADER_SIZE / 8 : 0};

	for (size_t i = 0; i < pages->n_rows; i++)
	{
		starts[i] = next;
		next.first_row += pages->rows[i];
		next.offset8 += pages->size8[i];
	}
	starts[pages->n_rows] = next;
}

S3am__PageDirectory *
page_directory(const PageStart *starts, uint32 npages)
{
	S3am__PageDirectory *pages = palloc(sizeof(*pages));
	Size bytes = sizeof(uint32) * Max((Size) npages, 1);

	s3am__page_directory__init(pages);
	pages->n_rows = pages->n_size8 = npages;
	pages->rows = MemoryContextAllocHuge(CurrentMemoryContext, bytes);
	pages->size8 = MemoryContextAllocHuge(CurrentMemoryContext, bytes);
	for (uint32 i = 0; i < npages; i++)
	{
		pages->rows[i] = starts[i + 1].first_row - starts[i].first_row;
		pages->size8[i] = starts[i + 1].offset8 - starts[i].offset8;
	}
	return pages;
}

PackedSchema *
schema_pack(const S3am__BatchSchema *schema)
{
	Size len = schema ? s3am__batch_schema__get_packed_size(schema) : 0;
	PackedSchema *packed = palloc(offsetof(PackedSchema, bytes) + len);

	if (schema)
		(void) s3am__batch_schema__pack(schema, packed->bytes);
	packed->len = len;
	packed->hash = schema_hash(packed->bytes, len);
	return packed;
}

S3am__BatchSchema *
schema_unpack(const PackedSchema *packed)
{
	return s3am__batch_schema__unpack(message_allocator(CurrentMemoryContext), packed->len, packed->bytes);
}

bool
schema_same(const PackedSchema *a, const PackedSchema *b)
{
	return a->hash == b->hash && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

const S3am__Batch *
batch_share_schema(S3am__Batch *batch, const S3am__Batch *previous)
{
	PackedSchema *mine, *others;
	bool same;

	if (previous == NULL || previous->schema == NULL || batch->schema == NULL)
		return batch;
	mine = schema_pack(batch->schema);
	others = schema_pack(previous->schema);
	same = schema_same(mine, others);
	pfree(mine);
	pfree(others);
	if (!same)
		return batch;
	batch->schema = NULL;
	return previous;
}
