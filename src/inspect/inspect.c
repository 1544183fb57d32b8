/*
 * inspect.c: s3am.inspect(): what an object of the repository holds.
 */
#include "postgres.h"

#include <ctype.h>
#include <inttypes.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "compat.h"
#include "inspect/inspect.h"
#include "manifest/envelope.h"
#include "manifest/keys.h"
#include "messages.h"
#include "node/bucket.h"

S3AM_FUNCTION(s3am_inspect);

#define SHOWN_BYTES 64

void
inspect_line(Inspect *in, const char *path, const char *format, ...)
{
	Datum values[2];
	bool nulls[2] = {false};
	StringInfoData buf;

	initStringInfo(&buf);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&buf, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buf, needed);
	}
	values[0] = CStringGetTextDatum(path);
	values[1] = CStringGetTextDatum(buf.data);
	tuplestore_putvalues(in->rsinfo->setResult, in->rsinfo->setDesc, values, nulls);
	pfree(buf.data);
	pfree(DatumGetPointer(values[0]));
	pfree(DatumGetPointer(values[1]));
}

char *
inspect_bytes(const void *data, Size len)
{
	const unsigned char *p = data;
	Size shown = Min(len, SHOWN_BYTES);
	StringInfoData buf;
	bool text = len > 0;

	initStringInfo(&buf);
	for (Size i = 0; i < shown && text; i++)
		text = isprint(p[i]) && p[i] < 0x80;
	if (text)
	{
		appendStringInfoChar(&buf, '\'');
		appendBinaryStringInfo(&buf, (const char *) p, shown);
		appendStringInfoChar(&buf, '\'');
	}
	else
	{
		appendStringInfoString(&buf, "\\x");
		for (Size i = 0; i < shown; i++)
			appendStringInfo(&buf, "%02x", p[i]);
	}
	if (shown < len)
		appendStringInfo(&buf, "... (%zu bytes)", len);
	return buf.data;
}

/* In a subtransaction, so that an error leaves nothing behind. */
void
inspect_guarded(Inspect *in, const char *path, InspectWork work, void *arg)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char *volatile message = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(old);
	PG_TRY();
	{
		work(in, arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED && error->sqlerrcode != ERRCODE_FEATURE_NOT_SUPPORTED)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		message = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	if (message)
		inspect_line(in, path, "%s", message);
}

/* ------------------------------------------------------------------------------------ which object is what */

typedef struct Kind
{
	const char *prefix;
	bool exact;
	EnvelopeKind kind;
	const ProtobufCMessageDescriptor *message;
} Kind;

static const Kind kinds[] = {
	{KEY_REPOSITORY, true, ENVELOPE_REPOSITORY, &s3am__repository__descriptor},
	{KEY_BOUNDARY, true, ENVELOPE_BOUNDARY, &s3am__boundary__descriptor},
	{KEY_ROOT, true, ENVELOPE_ROOT, &s3am__root__descriptor},
	{"manifests/", false, ENVELOPE_MANIFEST, &s3am__manifest__descriptor},
	{"checkpoints/", false, ENVELOPE_CHECKPOINT, &s3am__checkpoint__descriptor},
	{"pages/", false, ENVELOPE_PAGE, &s3am__page__descriptor},
	{"nodes/", false, ENVELOPE_NODE, &s3am__node__descriptor},
	{"pins/", false, ENVELOPE_PIN, &s3am__pin__descriptor},
};

typedef struct Envelope
{
	const Kind *kind;
	const uint8 *bytes;
	Size len;
} Envelope;

static uint64
number(const uint8 *p, int n)
{
	uint64 v = 0;

	for (int i = 0; i < n; i++)
		v |= (uint64) p[i] << (8 * i);
	return v;
}

static void
show_envelope(Inspect *in, void *arg)
{
	Envelope *e = arg;
	size_t len;
	char *error = NULL;
	uint8 *payload;
	const ProtobufCMessage *message;

	if (e->len >= ENVELOPE_SIZE)
	{
		inspect_line(in, "envelope.level", UINT64_FORMAT, number(e->bytes + 6, 2));
		inspect_line(in, "envelope.min_reader", UINT64_FORMAT, number(e->bytes + 8, 2));
		inspect_line(in, "envelope.encryption", UINT64_FORMAT, number(e->bytes + 10, 2));
		inspect_line(in, "envelope.mac", UINT64_FORMAT " bytes", number(e->bytes + 12, 4));
		inspect_line(in, "envelope.stored", UINT64_FORMAT " bytes", number(e->bytes + 16, 8));
		inspect_line(in, "envelope.raw", UINT64_FORMAT " bytes", number(e->bytes + 24, 8));
		inspect_line(in, "envelope.repository", "%s", inspect_bytes(e->bytes + 32, 16));
	}
	payload = envelope_open(e->kind->kind, e->kind->kind == ENVELOPE_REPOSITORY ? NULL : bucket_repository_uuid(),
							in->object, e->bytes, e->len, &len, NULL, &error);
	if (payload == NULL)
	{
		char *copy = pstrdup(error ? error : "it cannot be opened");

		free(error);
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg_internal("%s", copy)));
	}
	{
		uint8 *copy = MemoryContextAllocHuge(CurrentMemoryContext, Max(len, 1));

		memcpy(copy, payload, len);
		free(payload);
		message = protobuf_c_message_unpack(e->kind->message, message_allocator(CurrentMemoryContext), len, copy);
	}
	if (message == NULL)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("the content of object \"%s\" cannot be decoded", in->object)));
	inspect_message(in, "", message);
}

typedef struct Segment
{
	uint64 epoch, number;
	const uint8 *bytes;
	Size len;
} Segment;

static void
show_segment(Inspect *in, void *arg)
{
	Segment *s = arg;

	inspect_segment(in, s->epoch, s->number, s->bytes, s->len);
}

Datum
s3am_inspect(PG_FUNCTION_ARGS)
{
	char *object = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Inspect in = {0};
	char key[KEY_SIZE];
	uint64 version;
	int used;

	/* a version may be written without its zeros */
	if (sscanf(object, "manifests/%" SCNu64 "%n", &version, &used) == 1 && object[used] == '\0')
	{
		key_manifest(key, version);
		object = key;
	}
	in.object = object;
	in.page = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT64(1);
	InitMaterializedSRF(fcinfo, 0);
	in.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	(void) node_wait_ready();
	if (strncmp(object, "segments/", 9) == 0 && strstr(object, "..") == NULL)
	{
		Segment s = {0};
		unsigned shard;

		if (sscanf(object, "segments/%2x/%16" SCNx64 "-%16" SCNx64, &shard, &s.epoch, &s.number) != 3)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" is not the name of a segment", object)));
		s.bytes = bucket_read(object, 0, -1, &s.len);
		inspect_guarded(&in, "damaged", show_segment, &s);
		return (Datum) 0;
	}
	for (int i = 0; i < lengthof(kinds); i++)
	{
		Envelope e = {&kinds[i]};

		if (strstr(object, "..") != NULL)
			break; /* no name of ours, but perhaps one of another file */
		if (kinds[i].exact ? strcmp(object, kinds[i].prefix) != 0
						   : strncmp(object, kinds[i].prefix, strlen(kinds[i].prefix)) != 0)
			continue;
		e.bytes = bucket_read(object, 0, -1, &e.len);
		inspect_guarded(&in, "damaged", show_envelope, &e);
		return (Datum) 0;
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("\"%s\" is not the name of an object of a repository", object),
					errhint("Names are repository, root, gc/boundary, manifests/<version>, segments/..., "
							"checkpoints/..., pages/..., nodes/..., pins/...")));
	return (Datum) 0;
}
