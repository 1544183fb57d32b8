/*
 * message.c: protobuf messages as paths and values, by their descriptors.
 */
#include "postgres.h"

#include <roaring/roaring.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "inspect/inspect.h"

#define SHOWN_RUNS 100

/* ------------------------------------------------------------------------------------ sets of rows */

typedef struct Runs
{
	StringInfoData text;
	int shown;
	bool any;
	uint64 first, last, count;
	uint64 high;
} Runs;

static void
flush_run(Runs *runs)
{
	if (!runs->any)
		return;
	if (runs->shown++ < SHOWN_RUNS)
	{
		appendStringInfo(&runs->text, runs->text.len ? ", " UINT64_FORMAT : UINT64_FORMAT, runs->first);
		if (runs->last > runs->first)
			appendStringInfo(&runs->text, "-" UINT64_FORMAT, runs->last);
	}
	runs->any = false;
}

static bool
add_row(uint32_t low, void *arg)
{
	Runs *runs = arg;
	uint64 row = runs->high << 32 | low;

	runs->count++;
	if (runs->any && row == runs->last + 1)
	{
		runs->last = row;
		return true;
	}
	flush_run(runs);
	runs->any = true;
	runs->first = runs->last = row;
	return true;
}

static void
show_rowset(Inspect *in, const char *path, const S3am__RowSet *set)
{
	Runs runs = {0};

	initStringInfo(&runs.text);
	for (size_t i = 0; i < set->n_parts; i++)
	{
		roaring_bitmap_t *bitmap = roaring_bitmap_portable_deserialize_safe((const char *) set->parts[i]->bitmap.data,
																			set->parts[i]->bitmap.len);

		if (bitmap == NULL)
		{
			inspect_line(in, path, "a set of rows that cannot be decoded");
			return;
		}
		runs.high = set->parts[i]->high;
		(void) roaring_iterate(bitmap, add_row, &runs);
		roaring_bitmap_free(bitmap);
	}
	flush_run(&runs);
	inspect_line(in, path, UINT64_FORMAT " rows: %s%s", runs.count, runs.text.data,
				 runs.shown > SHOWN_RUNS ? ", ..." : "");
}

static void
show_directory(Inspect *in, const char *path, const S3am__PageDirectory *pages)
{
	uint64 rows = 0, bytes = 0;

	for (size_t i = 0; i < pages->n_rows; i++)
		rows += pages->rows[i];
	for (size_t i = 0; i < pages->n_size8; i++)
		bytes += (uint64) pages->size8[i] * 8;
	inspect_line(in, path, "%zu entries, " UINT64_FORMAT " rows, " UINT64_FORMAT " bytes", pages->n_rows, rows, bytes);
}

/* ------------------------------------------------------------------------------------ fields */

static void
show_value(Inspect *in, const char *path, const ProtobufCFieldDescriptor *field, const void *p)
{
	switch (field->type)
	{
		case PROTOBUF_C_TYPE_INT32:
		case PROTOBUF_C_TYPE_SINT32:
		case PROTOBUF_C_TYPE_SFIXED32:
			inspect_line(in, path, "%d", *(const int32 *) p);
			break;
		case PROTOBUF_C_TYPE_UINT32:
		case PROTOBUF_C_TYPE_FIXED32:
			inspect_line(in, path, "%u", *(const uint32 *) p);
			break;
		case PROTOBUF_C_TYPE_INT64:
		case PROTOBUF_C_TYPE_SINT64:
		case PROTOBUF_C_TYPE_SFIXED64:
			inspect_line(in, path, INT64_FORMAT, *(const int64 *) p);
			break;
		case PROTOBUF_C_TYPE_UINT64:
		case PROTOBUF_C_TYPE_FIXED64:
			inspect_line(in, path, UINT64_FORMAT, *(const uint64 *) p);
			break;
		case PROTOBUF_C_TYPE_BOOL:
			inspect_line(in, path, "%s", *(const protobuf_c_boolean *) p ? "true" : "false");
			break;
		case PROTOBUF_C_TYPE_FLOAT:
			inspect_line(in, path, "%g", *(const float *) p);
			break;
		case PROTOBUF_C_TYPE_DOUBLE:
			inspect_line(in, path, "%g", *(const double *) p);
			break;
		case PROTOBUF_C_TYPE_ENUM:
		{
			const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *) p);

			if (value)
				inspect_line(in, path, "%s", value->name);
			else
				inspect_line(in, path, "%d", *(const int *) p);
			break;
		}
		case PROTOBUF_C_TYPE_STRING:
		{
			const char *text = *(char *const *) p;

			/* in the database's encoding, or somebody wrote what is not text */
			if (pg_verify_mbstr(GetDatabaseEncoding(), text, strlen(text), true))
				inspect_line(in, path, "%s", text);
			else
				inspect_line(in, path, "%s", inspect_bytes(text, strlen(text)));
			break;
		}
		case PROTOBUF_C_TYPE_BYTES:
		{
			const ProtobufCBinaryData *bytes = p;

			inspect_line(in, path, "%s", inspect_bytes(bytes->data, bytes->len));
			break;
		}
		case PROTOBUF_C_TYPE_MESSAGE:
		{
			const ProtobufCMessage *message = *(ProtobufCMessage *const *) p;

			if (message->descriptor == &s3am__row_set__descriptor)
				show_rowset(in, path, (const S3am__RowSet *) message);
			else if (message->descriptor == &s3am__page_directory__descriptor)
				show_directory(in, path, (const S3am__PageDirectory *) message);
			else if (message->descriptor == &s3am__commit_id__descriptor)
				inspect_line(in, path, UINT64_FORMAT "." UINT64_FORMAT, ((const S3am__CommitId *) message)->epoch,
							 ((const S3am__CommitId *) message)->seq);
			else
				inspect_message(in, path, message);
			break;
		}
	}
}

static size_t
value_size(const ProtobufCFieldDescriptor *field)
{
	switch (field->type)
	{
		case PROTOBUF_C_TYPE_INT64:
		case PROTOBUF_C_TYPE_SINT64:
		case PROTOBUF_C_TYPE_SFIXED64:
		case PROTOBUF_C_TYPE_UINT64:
		case PROTOBUF_C_TYPE_FIXED64:
		case PROTOBUF_C_TYPE_DOUBLE:
			return 8;
		case PROTOBUF_C_TYPE_BOOL:
			return sizeof(protobuf_c_boolean);
		case PROTOBUF_C_TYPE_STRING:
		case PROTOBUF_C_TYPE_MESSAGE:
			return sizeof(void *);
		case PROTOBUF_C_TYPE_BYTES:
			return sizeof(ProtobufCBinaryData);
		default:
			return 4;
	}
}

/* Has the field its default value, which is not worth a line? */
static bool
is_default(const ProtobufCFieldDescriptor *field, const void *p)
{
	static const char zero[sizeof(ProtobufCBinaryData)];

	switch (field->type)
	{
		case PROTOBUF_C_TYPE_STRING:
			return *(char *const *) p == NULL || **(char *const *) p == '\0';
		case PROTOBUF_C_TYPE_BYTES:
			return ((const ProtobufCBinaryData *) p)->len == 0;
		case PROTOBUF_C_TYPE_ENUM:
			return false;
		default:
			return memcmp(p, zero, value_size(field)) == 0;
	}
}

void
inspect_message(Inspect *in, const char *path, const ProtobufCMessage *message)
{
	bool batch = message->descriptor == &s3am__batch__descriptor;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	for (unsigned i = 0; i < message->descriptor->n_fields; i++)
	{
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		const char *p = (const char *) message + field->offset;
		char *name = psprintf("%s%s%s", path, path[0] ? "." : "", field->name);

		if (field->label == PROTOBUF_C_LABEL_REPEATED)
		{
			size_t n = *(const size_t *) ((const char *) message + field->quantifier_offset);

			for (size_t j = 0; j < n; j++)
			{
				char *element = psprintf("%s[%zu]", name, j);

				show_value(in, element, field, *(char *const *) p + j * value_size(field));
				pfree(element);
			}
		}
		else if (batch && strcmp(field->name, "rows") == 0)
			; /* below, when the schema is known */
		else if (!is_default(field, p))
			show_value(in, name, field, p);
		pfree(name);
	}
	if (batch)
	{
		const S3am__Batch *b = (const S3am__Batch *) message;

		if (b->schema)
			in->schema = b->schema;
		if (b->segment == NULL)
			inspect_inline(in, path, b);
	}
}
