/*
 * keybytes.c: values of a closed list of built-in types as bytes that are the same for equal values.
 *
 * Two servers that hold two keys equal must get the same hash (protocol.md rule 19), so what is written here is a format, which
 * docs/format-manifests.md has: it does not depend on a server's OIDs, settings, byte order or locale, and never changes.  Who says what
 * equal means is the operator class, so the list is by the functions that it compares with.  Unequal values may have the same bytes; that
 * costs a conflict that was none.
 */
#include "postgres.h"

#include <math.h>
#include <sys/socket.h>

#include <xxhash.h>

#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/cash.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/multirangetypes.h"
#include "utils/numeric.h"
#include "utils/rangetypes.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/uuid.h"
#include "utils/varbit.h"

#include "index/keybytes.h"
#include "segment/codec.h"

/* The numbers stand in filters: they never change. */
typedef enum KeyKind
{
	KEY_BOOL = 1,
	KEY_CHAR = 2,
	KEY_INT2 = 3,
	KEY_INT4 = 4,
	KEY_INT8 = 5, /* whatever is 64 bits and equal as such */
	KEY_OID = 6,
	KEY_FLOAT4 = 7,
	KEY_FLOAT8 = 8,
	KEY_NUMERIC = 9,
	KEY_TEXT = 10,
	KEY_BPCHAR = 11,
	KEY_NAME = 12,
	KEY_BYTEA = 13,
	KEY_DATE = 14,
	KEY_TIMETZ = 15,
	KEY_INTERVAL = 16,
	KEY_FIXED = 17, /* fixed bytes by reference, equal as such */
	KEY_INET = 18,
	KEY_BIT = 19,
	KEY_JSONB = 20,
	KEY_ENUM = 21,
	KEY_ARRAY = 22,
	KEY_RANGE = 23,
	KEY_MULTIRANGE = 24
} KeyKind;

struct KeyType
{
	KeyKind kind;
	Oid type; /* domains are gone */
	int16 typlen;
	bool byval;
	char align;
	struct KeyType *part; /* of an array, a range, a multirange */
	TypeCacheEntry *range; /* RANGE, MULTIRANGE: the range type */
};

/* Base types by what compares them.  The type counts as well: regclass is compared as oid is, and has another number on each server. */
static const struct
{
	Oid type, equal, compare;
	KeyKind kind;
} base_types[] = {
	{BOOLOID, F_BOOLEQ, F_BTBOOLCMP, KEY_BOOL},
	{CHAROID, F_CHAREQ, F_BTCHARCMP, KEY_CHAR},
	{INT2OID, F_INT2EQ, F_BTINT2CMP, KEY_INT2},
	{INT4OID, F_INT4EQ, F_BTINT4CMP, KEY_INT4},
	{INT8OID, F_INT8EQ, F_BTINT8CMP, KEY_INT8},
	{CASHOID, F_CASH_EQ, F_CASH_CMP, KEY_INT8},
	{OIDOID, F_OIDEQ, F_BTOIDCMP, KEY_OID},
	{FLOAT4OID, F_FLOAT4EQ, F_BTFLOAT4CMP, KEY_FLOAT4},
	{FLOAT8OID, F_FLOAT8EQ, F_BTFLOAT8CMP, KEY_FLOAT8},
	{NUMERICOID, F_NUMERIC_EQ, F_NUMERIC_CMP, KEY_NUMERIC},
	{TEXTOID, F_TEXTEQ, F_BTTEXTCMP, KEY_TEXT},
	{TEXTOID, F_TEXTEQ, F_BTTEXT_PATTERN_CMP, KEY_TEXT},
	{VARCHAROID, F_TEXTEQ, F_BTTEXTCMP, KEY_TEXT},
	{VARCHAROID, F_TEXTEQ, F_BTTEXT_PATTERN_CMP, KEY_TEXT},
	{BPCHAROID, F_BPCHAREQ, F_BPCHARCMP, KEY_BPCHAR},
	{BPCHAROID, F_BPCHAREQ, F_BTBPCHAR_PATTERN_CMP, KEY_BPCHAR},
	{NAMEOID, F_NAMEEQ, F_BTNAMECMP, KEY_NAME},
	{BYTEAOID, F_BYTEAEQ, F_BYTEACMP, KEY_BYTEA},
	{DATEOID, F_DATE_EQ, F_DATE_CMP, KEY_DATE},
	{TIMEOID, F_TIME_EQ, F_TIME_CMP, KEY_INT8},
	{TIMETZOID, F_TIMETZ_EQ, F_TIMETZ_CMP, KEY_TIMETZ},
	{TIMESTAMPOID, F_TIMESTAMP_EQ, F_TIMESTAMP_CMP, KEY_INT8},
	{TIMESTAMPTZOID, F_TIMESTAMPTZ_EQ, F_TIMESTAMPTZ_CMP, KEY_INT8},
	{INTERVALOID, F_INTERVAL_EQ, F_INTERVAL_CMP, KEY_INTERVAL},
	{UUIDOID, F_UUID_EQ, F_UUID_CMP, KEY_FIXED},
	{MACADDROID, F_MACADDR_EQ, F_MACADDR_CMP, KEY_FIXED},
	{MACADDR8OID, F_MACADDR8_EQ, F_MACADDR8_CMP, KEY_FIXED},
	{INETOID, F_NETWORK_EQ, F_NETWORK_CMP, KEY_INET},
	{CIDROID, F_NETWORK_EQ, F_NETWORK_CMP, KEY_INET},
	{BITOID, F_BITEQ, F_BITCMP, KEY_BIT},
	{VARBITOID, F_VARBITEQ, F_VARBITCMP, KEY_BIT},
	{JSONBOID, F_JSONB_EQ, F_JSONB_CMP, KEY_JSONB},
};

static bool
agrees(Oid asked, Oid listed)
{
	return !OidIsValid(asked) || asked == listed;
}

/* Elements of arrays are compared by their type's default operator class, both for equality and for order. */
static KeyType *
element_type(Oid type, Oid collation)
{
	TypeCacheEntry *entry = lookup_type_cache(getBaseType(type), TYPECACHE_EQ_OPR | TYPECACHE_CMP_PROC);

	if (!OidIsValid(entry->eq_opr) || !OidIsValid(entry->cmp_proc))
		return NULL;
	return key_type(type, get_opcode(entry->eq_opr), entry->cmp_proc, collation);
}

/* Bounds of ranges are compared by the operator class and the collation that the range type was made with. */
static KeyType *
bound_type(TypeCacheEntry *range)
{
	return key_type(range->rngelemtype->type_id, InvalidOid, range->rng_cmp_proc_finfo.fn_oid, range->rng_collation);
}

/* What an array, range, multirange or enum is made of; false: it is none of these, or is compared otherwise. */
static bool
made_type(KeyType *made, Oid equal, Oid compare, Oid collation)
{
	Oid element = get_element_type(made->type);

	if (OidIsValid(element))
	{
		made->kind = KEY_ARRAY;
		if (!agrees(equal, F_ARRAY_EQ) || !agrees(compare, F_BTARRAYCMP))
			return false;
		made->part = element_type(element, collation);
		return made->part != NULL;
	}
	switch (get_typtype(made->type))
	{
		case TYPTYPE_ENUM:
			made->kind = KEY_ENUM;
			return agrees(equal, F_ENUM_EQ) && agrees(compare, F_ENUM_CMP);
		case TYPTYPE_RANGE:
			made->kind = KEY_RANGE;
			if (!agrees(equal, F_RANGE_EQ) || !agrees(compare, F_RANGE_CMP))
				return false;
			made->range = lookup_type_cache(made->type, TYPECACHE_RANGE_INFO);
			break;
		case TYPTYPE_MULTIRANGE:
			made->kind = KEY_MULTIRANGE;
			if (!agrees(equal, F_MULTIRANGE_EQ) || !agrees(compare, F_MULTIRANGE_CMP))
				return false;
			made->range = lookup_type_cache(made->type, TYPECACHE_MULTIRANGE_INFO)->rngtype;
			break;
		default:
			return false;
	}
	made->part = bound_type(made->range);
	return made->part != NULL;
}

static bool
base_type(KeyType *base, Oid equal, Oid compare, Oid collation)
{
	for (int i = 0; i < lengthof(base_types); i++)
	{
		if (base_types[i].type != base->type || !agrees(equal, base_types[i].equal) ||
			!agrees(compare, base_types[i].compare))
			continue;
		base->kind = base_types[i].kind;
		/* a nondeterministic collation holds different strings equal */
		if (base->kind == KEY_TEXT || base->kind == KEY_BPCHAR || base->kind == KEY_NAME)
			return OidIsValid(collation) && get_collation_isdeterministic(collation);
		return true;
	}
	return false;
}

KeyType *
key_type(Oid type, Oid equal, Oid compare, Oid collation)
{
	KeyType *result = palloc0(sizeof(KeyType));

	result->type = getBaseType(type);
	get_typlenbyvalalign(result->type, &result->typlen, &result->byval, &result->align);
	if ((OidIsValid(equal) || OidIsValid(compare)) &&
		(base_type(result, equal, compare, collation) || made_type(result, equal, compare, collation)))
		return result;
	pfree(result);
	return NULL;
}

void
key_type_kinds(const KeyType *type, StringInfo kinds)
{
	for (; type; type = type->part)
		appendStringInfoChar(kinds, (char) type->kind);
}

/* ---------------------------------------------------------------- bytes */

static void
store_64(uint8 *to, uint64 value)
{
	for (int i = 0; i < 8; i++)
		to[i] = (uint8) (value >> (8 * i));
}

/* A full buffer gives way to its hash: what was hashed so far is the beginning of what comes. */
static void
put(KeySink *sink, const void *bytes, Size len)
{
	const uint8 *from = bytes;

	while (len > 0)
	{
		Size part = Min(len, (Size) (KEY_SINK_SIZE - sink->len));

		memcpy(sink->data + sink->len, from, part);
		sink->len += part;
		from += part;
		len -= part;
		if (sink->len == KEY_SINK_SIZE)
		{
			store_64(sink->data, XXH3_64bits_withSeed(sink->data, KEY_SINK_SIZE, sink->seed));
			sink->len = 8;
		}
	}
}

uint64
key_sink_hash(const KeySink *sink)
{
	return XXH3_64bits_withSeed(sink->data, sink->len, sink->seed);
}

void
key_put_byte(KeySink *sink, uint8 byte)
{
	put(sink, &byte, 1);
}

void
key_put_32(KeySink *sink, uint32 value)
{
	uint8 bytes[8];

	store_64(bytes, value);
	put(sink, bytes, 4);
}

static void
put_64(KeySink *sink, uint64 value)
{
	uint8 bytes[8];

	store_64(bytes, value);
	put(sink, bytes, 8);
}

static void
put_string(KeySink *sink, const void *bytes, Size len)
{
	key_put_32(sink, (uint32) len);
	put(sink, bytes, len);
}

/* ---------------------------------------------------------------- values */

static void
put_float(KeySink *sink, float8 value)
{
	uint64 bits;

	if (isnan(value))
		bits = UINT64CONST(0x7FF8000000000000);
	else if (value == 0)
		bits = 0; /* so is -0 */
	else
		memcpy(&bits, &value, sizeof(bits));
	put_64(sink, bits);
}

/* numeric's external form, in which NaN and the infinities are signs; without what the display scale adds. */
static void
put_numeric(KeySink *sink, Numeric value)
{
	bytea *sent = DatumGetByteaPP(DirectFunctionCall1(numeric_send, NumericGetDatum(value)));
	const uint8 *bytes = (const uint8 *) VARDATA_ANY(sent);
#define WORD(i) ((uint16) (bytes[2 * (i)] << 8 | bytes[2 * (i) + 1]))
	int n = WORD(0), weight = (int16) WORD(1), first = 4;
	uint16 sign = WORD(2);

	while (n > 0 && WORD(first) == 0)
		first++, weight--, n--;
	while (n > 0 && WORD(first + n - 1) == 0)
		n--;
	if (n == 0)
	{
		weight = 0;
		if (sign == 0x4000)
			sign = 0; /* zero has none */
	}
	key_put_32(sink, sign);
	key_put_32(sink, (uint32) weight);
	key_put_32(sink, n);
	for (int i = 0; i < n; i++)
	{
		key_put_byte(sink, WORD(first + i) & 0xFF);
		key_put_byte(sink, WORD(first + i) >> 8);
	}
#undef WORD
	pfree(sent);
}

/* A date is what the timestamp of its midnight is; those beyond timestamps wrap around, which makes no equal ones differ. */
static void
put_date(KeySink *sink, DateADT date)
{
	if (DATE_IS_NOBEGIN(date))
		put_64(sink, (uint64) DT_NOBEGIN);
	else if (DATE_IS_NOEND(date))
		put_64(sink, (uint64) DT_NOEND);
	else
		put_64(sink, (uint64) (int64) date * (uint64) USECS_PER_DAY);
}

/* Intervals are equal if their lengths are, with months of 30 days of 24 hours. */
static void
put_interval(KeySink *sink, const Interval *interval)
{
	int64 days = interval->time / USECS_PER_DAY, rest = interval->time % USECS_PER_DAY;

	days += interval->month * INT64CONST(30) + interval->day;
	if (rest < 0)
	{
		rest += USECS_PER_DAY;
		days--;
	}
	put_64(sink, (uint64) days);
	put_64(sink, (uint64) rest);
}

/* The mask and all bits of the address count; whether it is inet or cidr does not. */
static void
put_inet(KeySink *sink, inet *address)
{
	key_put_byte(sink, ip_family(address) == PGSQL_AF_INET ? 4 : 6);
	key_put_byte(sink, ip_bits(address));
	put(sink, ip_addr(address), ip_addrsize(address));
}

static void
put_jsonb_scalar(KeySink *sink, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			key_put_byte(sink, 'n');
			break;
		case jbvBool:
			key_put_byte(sink, value->val.boolean ? 't' : 'f');
			break;
		case jbvString:
			key_put_byte(sink, 's');
			put_string(sink, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			key_put_byte(sink, '0');
			put_numeric(sink, value->val.numeric);
			break;
		default:
			elog(ERROR, "unexpected kind of jsonb value: %d", (int) value->type);
	}
}

/* jsonb has keys in an order of its own, each once; strings are equal as bytes, as a database's collation is deterministic. */
static void
put_jsonb(KeySink *sink, Jsonb *jsonb)
{
	JsonbIterator *it = JsonbIteratorInit(&jsonb->root);
	JsonbValue value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
		switch (token)
		{
			case WJB_KEY:
			case WJB_VALUE:
			case WJB_ELEM:
				put_jsonb_scalar(sink, &value);
				break;
			case WJB_BEGIN_ARRAY:
				/* a scalar alone is no array of it */
				key_put_byte(sink, value.val.array.rawScalar ? '=' : '[');
				break;
			case WJB_BEGIN_OBJECT:
				key_put_byte(sink, '{');
				break;
			default:
				key_put_byte(sink, '}');
				break;
		}
}

/* Elements in their order; dimensions and lower bounds, in which arrays seldom differ alone, do not count. */
static void
put_array(KeySink *sink, const KeyType *type, ArrayType *array)
{
	const KeyType *part = type->part;
	int n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	const char *at = ARR_DATA_PTR(array);
	const bits8 *nulls = ARR_NULLBITMAP(array);

	key_put_32(sink, n);
	for (int i = 0; i < n; i++)
	{
		if (nulls && !(nulls[i / 8] & (1 << (i % 8))))
		{
			key_put_byte(sink, 0);
			continue;
		}
		key_put_byte(sink, 1);
		at = (const char *) att_align_pointer(at, part->align, part->typlen, at);
		key_put_value(sink, part, fetch_att(at, part->byval, part->typlen));
		at = att_addlength_pointer(at, part->typlen, at);
	}
}

static void
put_bound(KeySink *sink, const KeyType *type, const RangeBound *bound)
{
	key_put_byte(sink, bound->infinite ? 0 : bound->inclusive ? 1 : 2);
	if (!bound->infinite)
		key_put_value(sink, type->part, bound->val);
}

static void
put_range(KeySink *sink, const KeyType *type, RangeType *range)
{
	RangeBound lower, upper;
	bool empty;

	range_deserialize(type->range, range, &lower, &upper, &empty);
	key_put_byte(sink, empty);
	if (empty)
		return;
	put_bound(sink, type, &lower);
	put_bound(sink, type, &upper);
}

static void
put_multirange(KeySink *sink, const KeyType *type, MultirangeType *multirange)
{
	key_put_32(sink, multirange->rangeCount);
	for (uint32 i = 0; i < multirange->rangeCount; i++)
	{
		RangeBound lower, upper;

		multirange_get_bounds(type->range, multirange, i, &lower, &upper);
		put_bound(sink, type, &lower);
		put_bound(sink, type, &upper);
	}
}

/* The types of variable length.  A value is flat, and its header of four bytes but where the type is all bytes. */
static void
put_flat(KeySink *sink, const KeyType *type, struct varlena *flat)
{
	switch (type->kind)
	{
		case KEY_NUMERIC:
			put_numeric(sink, (Numeric) flat);
			break;
		case KEY_TEXT:
		case KEY_BYTEA:
			put_string(sink, VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat));
			break;
		case KEY_BPCHAR:
			put_string(sink, VARDATA_ANY(flat), bpchartruelen(VARDATA_ANY(flat), VARSIZE_ANY_EXHDR(flat)));
			break;
		case KEY_INET:
			put_inet(sink, (inet *) flat);
			break;
		case KEY_BIT:
			key_put_32(sink, VARBITLEN(flat));
			put(sink, VARBITS(flat), VARBITBYTES(flat));
			break;
		case KEY_JSONB:
			put_jsonb(sink, (Jsonb *) flat);
			break;
		case KEY_ARRAY:
			put_array(sink, type, (ArrayType *) flat);
			break;
		case KEY_RANGE:
			put_range(sink, type, (RangeType *) flat);
			break;
		case KEY_MULTIRANGE:
			put_multirange(sink, type, (MultirangeType *) flat);
			break;
		default:
			elog(ERROR, "unexpected kind of key: %d", (int) type->kind);
	}
}

static bool
is_all_bytes(KeyKind kind)
{
	return kind == KEY_TEXT || kind == KEY_BPCHAR || kind == KEY_BYTEA || kind == KEY_INET;
}

void
key_put_value(KeySink *sink, const KeyType *type, Datum value)
{
	switch (type->kind)
	{
		case KEY_BOOL:
			key_put_byte(sink, DatumGetBool(value));
			break;
		case KEY_CHAR:
			key_put_byte(sink, (uint8) DatumGetChar(value));
			break;
		case KEY_INT2:
			put_64(sink, (uint64) (int64) DatumGetInt16(value));
			break;
		case KEY_INT4:
			put_64(sink, (uint64) (int64) DatumGetInt32(value));
			break;
		case KEY_INT8:
			put_64(sink, (uint64) DatumGetInt64(value));
			break;
		case KEY_OID:
			key_put_32(sink, DatumGetObjectId(value));
			break;
		case KEY_FLOAT4:
			put_float(sink, DatumGetFloat4(value));
			break;
		case KEY_FLOAT8:
			put_float(sink, DatumGetFloat8(value));
			break;
		case KEY_NAME:
			/* an index has it as a cstring, which need not be as long as a name */
			put_string(sink, DatumGetPointer(value), strnlen(DatumGetCString(value), NAMEDATALEN));
			break;
		case KEY_DATE:
			put_date(sink, DatumGetDateADT(value));
			break;
		case KEY_TIMETZ:
			put_64(sink, (uint64) DatumGetTimeTzADTP(value)->time);
			key_put_32(sink, (uint32) DatumGetTimeTzADTP(value)->zone);
			break;
		case KEY_INTERVAL:
			put_interval(sink, DatumGetIntervalP(value));
			break;
		case KEY_FIXED:
			put(sink, DatumGetPointer(value), type->typlen);
			break;
		case KEY_ENUM:
			/* the name changes by RENAME VALUE, and the OID is another on each server */
			key_put_32(sink, enum_label_number(type->type, DatumGetObjectId(value)));
			break;
		default:
		{
			struct varlena *flat = is_all_bytes(type->kind) ? PG_DETOAST_DATUM_PACKED(value) : PG_DETOAST_DATUM(value);

			put_flat(sink, type, flat);
			if (flat != (struct varlena *) DatumGetPointer(value))
				pfree(flat);
		}
	}
}
