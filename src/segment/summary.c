/*
 * summary.c: nulls, smallest and largest value of a column of a segment.
 *
 * Only built-in types whose order no server can change.  The usual ones are compared without a function call.
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/float.h"

#include "segment/columns.h"
#include "segment/summary.h"

void
summary_init(Summary *s, const Codec *codec, Oid collation)
{
	s->kind = SUMMARY_NONE;
	s->typlen = codec->typlen;
	s->collation = collation;
	if (codec->kind != S3AM__STORED_TYPE__KIND__PLAIN)
		return;
	switch (codec->type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case CASHOID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			s->kind = SUMMARY_SIGNED;
			break;
		case BOOLOID:
		case CHAROID:
		case OIDOID:
		case XID8OID:
		case PG_LSNOID:
			s->kind = SUMMARY_UNSIGNED;
			break;
		case FLOAT4OID:
			s->kind = SUMMARY_FLOAT4;
			break;
		case FLOAT8OID:
			s->kind = SUMMARY_FLOAT8;
			break;
		case UUIDOID:
		case MACADDROID:
		case MACADDR8OID:
			s->kind = SUMMARY_BYTES;
			break;
		case TEXTOID:
		case VARCHAROID:
		case BYTEAOID:
			s->kind = SUMMARY_PREFIX_BYTES;
			break;
		case INTERVALOID:
		case TIMETZOID:
			s->kind = SUMMARY_PROCEDURE;
			s->typcache = lookup_type_cache(codec->type, TYPECACHE_CMP_PROC_FINFO);
			break;
		default:
			break;
	}
}

static void
keep(char *bytes, int *len, const char *value, int n)
{
	memcpy(bytes, value, n);
	*len = n;
}

static int
compare_bytes(const char *a, int alen, const char *b, int blen)
{
	int c = memcmp(a, b, Min(alen, blen));

	return c ? c : alen - blen;
}

#define TRACK(member, value, less)                                                                                     \
	do                                                                                                                 \
	{                                                                                                                  \
		if (!s->any)                                                                                                   \
			s->low.member = s->high.member = (value);                                                                  \
		else if (less(value, s->low.member))                                                                           \
			s->low.member = (value);                                                                                   \
		else if (less(s->high.member, value))                                                                          \
			s->high.member = (value);                                                                                  \
	} while (0)
#define LESS(a, b) ((a) < (b))

/* Most values are between the two by their first byte. */
static inline void
add_bytes(Summary *s, const char *p, int n)
{
	if (!s->any || n == 0 || s->low_len == 0 || (uint8) *p <= (uint8) s->low_bytes[0])
		if (!s->any || compare_bytes(p, n, s->low_bytes, s->low_len) < 0)
			keep(s->low_bytes, &s->low_len, p, n);
	if (!s->any || s->high_len == 0 || (n > 0 && (uint8) *p >= (uint8) s->high_bytes[0]))
		if (!s->any || compare_bytes(p, n, s->high_bytes, s->high_len) > 0)
			keep(s->high_bytes, &s->high_len, p, n);
	s->any = true;
}

void
summary_add(Summary *s, Datum value)
{
	switch (s->kind)
	{
		case SUMMARY_NONE:
			return;
		case SUMMARY_SIGNED:
		{
			int64 v = s->typlen == 2   ? DatumGetInt16(value)
					  : s->typlen == 4 ? DatumGetInt32(value)
									   : DatumGetInt64(value);

			TRACK(i, v, LESS);
			break;
		}
		case SUMMARY_UNSIGNED:
		{
			uint64 v = s->typlen == 1   ? DatumGetUInt8(value)
					   : s->typlen == 4 ? DatumGetUInt32(value)
										: DatumGetUInt64(value);

			TRACK(u, v, LESS);
			break;
		}
		case SUMMARY_FLOAT4:
			TRACK(f, (double) DatumGetFloat4(value), float8_lt);
			break;
		case SUMMARY_FLOAT8:
			TRACK(f, DatumGetFloat8(value), float8_lt);
			break;
		case SUMMARY_BYTES:
		case SUMMARY_PREFIX_BYTES:
		{
			const char *p = DatumGetPointer(value);
			int n = s->typlen;

			if (s->kind == SUMMARY_PREFIX_BYTES)
			{
				p = VARDATA_ANY(DatumGetPointer(value));
				n = Min(VARSIZE_ANY_EXHDR(DatumGetPointer(value)), SUMMARY_PREFIX);
			}
			add_bytes(s, p, n);
			break;
		}
		case SUMMARY_PROCEDURE:
		{
			FmgrInfo *cmp = &s->typcache->cmp_proc_finfo;
			const char *p = DatumGetPointer(value);

			if (!s->any ||
				DatumGetInt32(FunctionCall2Coll(cmp, s->collation, value, PointerGetDatum(s->low_bytes))) < 0)
				keep(s->low_bytes, &s->low_len, p, s->typlen);
			if (!s->any ||
				DatumGetInt32(FunctionCall2Coll(cmp, s->collation, value, PointerGetDatum(s->high_bytes))) > 0)
				keep(s->high_bytes, &s->high_len, p, s->typlen);
			break;
		}
	}
	s->any = true;
}

/* The smallest and the largest of one page: what a loop over a column needs in registers. */
#define EACH_NUMBER(type, member, wide, less)                                                                          \
	do                                                                                                                 \
	{                                                                                                                  \
		for (uint32 r = 0; r < nrows; r++)                                                                             \
		{                                                                                                              \
			type raw;                                                                                                  \
			wide v;                                                                                                    \
			if (offsets[r] == NO_VALUE)                                                                                \
				continue;                                                                                              \
			memcpy(&raw, page + offsets[r], sizeof(raw));                                                              \
			v = raw;                                                                                                   \
			TRACK(member, v, less);                                                                                    \
			s->any = true;                                                                                             \
		}                                                                                                              \
	} while (0)

void
summary_add_column(Summary *s, const char *page, const uint32 *offsets, uint32 nrows)
{
	switch (s->kind)
	{
		case SUMMARY_NONE:
		case SUMMARY_PROCEDURE:
			return;
		case SUMMARY_SIGNED:
			if (s->typlen == 2)
				EACH_NUMBER(int16, i, int64, LESS);
			else if (s->typlen == 4)
				EACH_NUMBER(int32, i, int64, LESS);
			else
				EACH_NUMBER(int64, i, int64, LESS);
			return;
		case SUMMARY_UNSIGNED:
			if (s->typlen == 1)
				EACH_NUMBER(uint8, u, uint64, LESS);
			else if (s->typlen == 4)
				EACH_NUMBER(uint32, u, uint64, LESS);
			else
				EACH_NUMBER(uint64, u, uint64, LESS);
			return;
		case SUMMARY_FLOAT4:
			EACH_NUMBER(float4, f, double, float8_lt);
			return;
		case SUMMARY_FLOAT8:
			EACH_NUMBER(float8, f, double, float8_lt);
			return;
		case SUMMARY_BYTES:
			for (uint32 r = 0; r < nrows; r++)
				if (offsets[r] != NO_VALUE)
					add_bytes(s, page + offsets[r], s->typlen);
			return;
		case SUMMARY_PREFIX_BYTES:
			for (uint32 r = 0; r < nrows; r++)
			{
				const char *p = page + offsets[r];

				if (offsets[r] != NO_VALUE && !VARATT_IS_1B_E(p))
					add_bytes(s, VARDATA_ANY(p), Min(VARSIZE_ANY_EXHDR(p), SUMMARY_PREFIX));
			}
			return;
	}
}

void
summary_merge(Summary *s, const Summary *other)
{
	s->nulls += other->nulls;
	if (!other->any)
		return;
	switch (s->kind)
	{
		case SUMMARY_NONE:
			return;
		case SUMMARY_SIGNED:
			TRACK(i, other->low.i, LESS);
			s->any = true;
			TRACK(i, other->high.i, LESS);
			return;
		case SUMMARY_UNSIGNED:
			TRACK(u, other->low.u, LESS);
			s->any = true;
			TRACK(u, other->high.u, LESS);
			return;
		case SUMMARY_FLOAT4:
		case SUMMARY_FLOAT8:
			TRACK(f, other->low.f, float8_lt);
			s->any = true;
			TRACK(f, other->high.f, float8_lt);
			return;
		case SUMMARY_BYTES:
		case SUMMARY_PREFIX_BYTES:
			add_bytes(s, other->low_bytes, other->low_len);
			add_bytes(s, other->high_bytes, other->high_len);
			return;
		case SUMMARY_PROCEDURE:
			/* of values one by one, in one place */
			return;
	}
}

/* The number as a row holds it. */
static void
set_number(const Summary *s, ProtobufCBinaryData *out, int64 i, double f)
{
	Datum value = s->kind == SUMMARY_FLOAT4   ? Float4GetDatum((float4) f)
				  : s->kind == SUMMARY_FLOAT8 ? Float8GetDatum(f)
											  : (Datum) i;

	out->len = s->typlen;
	out->data = palloc0(sizeof(Datum));
	store_att_byval(out->data, value, s->typlen);
}

static void
set_bytes(ProtobufCBinaryData *out, const char *bytes, int len)
{
	out->len = len;
	out->data = palloc(Max(len, 1));
	memcpy(out->data, bytes, len);
}

S3am__ColumnSummary *
summary_message(const Summary *s)
{
	S3am__ColumnSummary *message = palloc(sizeof(*message));

	s3am__column_summary__init(message);
	message->nulls = s->nulls;
	if (!s->any)
		return message;
	switch (s->kind)
	{
		case SUMMARY_NONE:
			break;
		case SUMMARY_SIGNED:
		case SUMMARY_UNSIGNED:
		case SUMMARY_FLOAT4:
		case SUMMARY_FLOAT8:
			set_number(s, &message->min, s->low.i, s->low.f);
			set_number(s, &message->max, s->high.i, s->high.f);
			break;
		default:
			set_bytes(&message->min, s->low_bytes, s->low_len);
			set_bytes(&message->max, s->high_bytes, s->high_len);
			break;
	}
	return message;
}
