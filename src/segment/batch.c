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
	/* inner pages are pages of their own */
	if (pages == NULL)
		return batch->segment == NULL && batch->inner == 0;
	if (pages->n_rows != pages->n_size8)
		return false;
	for (size_t i = 0; i < pages->n_rows; i++)
	{
		row += pages->rows[i];
		offset8 += pages->size8[i];
	}
	return batch->inner <= row && batch->nrows == row - batch->inner && row <= PG_UINT32_MAX &&
		   offset8 <= PG_UINT32_MAX && offset8 * 8 <= end;
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

bool
schema_has_xmin(const S3am__BatchSchema *schema)
{
	return schema->n_columns > 0 && schema->columns[schema->n_columns - 1]->id == XMIN_COLUMN;
}

/* The column has the last entry of the dictionary for itself, so that without both the schema is what it was. */
void
schema_remove_xmin(S3am__BatchSchema *schema)
{
	if (schema_has_xmin(schema) && schema->columns[schema->n_columns - 1]->type + 1 == schema->n_types)
	{
		schema->n_columns--;
		schema->n_types--;
	}
}

void
schema_add_xmin(S3am__BatchSchema *schema)
{
	S3am__StoredColumn *column = palloc(sizeof(*column));
	S3am__StoredType *type = palloc(sizeof(*type));
	S3am__StoredColumn **columns = palloc(sizeof(void *) * (schema->n_columns + 1));
	S3am__StoredType **types = palloc(sizeof(void *) * (schema->n_types + 1));

	s3am__stored_type__init(type);
	type->kind = S3AM__STORED_TYPE__KIND__PLAIN;
	type->name = pstrdup("xid");
	type->length = sizeof(uint32);
	type->by_value = true;
	type->align = sizeof(uint32);
	s3am__stored_column__init(column);
	column->id = XMIN_COLUMN;
	column->type = schema->n_types;
	memcpy(columns, schema->columns, sizeof(void *) * schema->n_columns);
	memcpy(types, schema->types, sizeof(void *) * schema->n_types);
	columns[schema->n_columns++] = column;
	types[schema->n_types++] = type;
	schema->columns = columns;
	schema->types = types;
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
