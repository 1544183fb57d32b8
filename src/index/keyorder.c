/*
 * keyorder.c: keys of an index as bytes that compare as the keys do, so that servers can tell at COMMIT whether a key was added to a range
 * that somebody has read (protocol.md rule 18).
 *
 * The bytes are a format, as those of keybytes.c are: docs/format-manifests.md has it.  Where a type has no order here, a hash of the value stands
 * in its place, which tells equal ones; where it has not even that, the bytes end.  Bytes that end too early stand for all keys that
 * begin with them.
 */
#include "postgres.h"

#include <math.h>

#include "access/nbtree.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/cash.h"
#include "utils/date.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/pg_locale.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "index/keybytes.h"
#include "index/keyhash.h"
#include "index/keyorder.h"
#include "node/node.h"

typedef enum OrderKind
{
	ORDER_NONE, /* no bytes */
	ORDER_HASH, /* equal ones are known */
	ORDER_BOOL,
	ORDER_CHAR,
	ORDER_INT2,
	ORDER_INT4, /* and what is stored alike and compared as such */
	ORDER_INT8,
	ORDER_OID,
	ORDER_FLOAT4,
	ORDER_FLOAT8,
	ORDER_NUMERIC,
	ORDER_BYTES, /* text and the like, compared as bytes */
	ORDER_BPCHAR,
	ORDER_NAME,
	ORDER_UUID
} OrderKind;

typedef struct OrderColumn
{
	OrderKind kind;
	const KeyType *type;
	bool descending, nulls_first;
} OrderColumn;

struct KeyOrder
{
	uint64 seed;
	int nkeys;
	bool sorted;
	OrderColumn columns[FLEXIBLE_ARRAY_MEMBER];
};

/* By the function that the index compares with; that of a type which is on keybytes.c's list. */
static OrderKind
kind_of(Oid compare, Oid collation)
{
	switch (compare)
	{
		case F_BTBOOLCMP:
			return ORDER_BOOL;
		case F_BTCHARCMP:
			return ORDER_CHAR;
		case F_BTINT2CMP:
			return ORDER_INT2;
		case F_BTINT4CMP:
		case F_DATE_CMP:
			return ORDER_INT4;
		case F_BTINT8CMP:
		case F_CASH_CMP:
		case F_TIME_CMP:
		case F_TIMESTAMP_CMP:
		case F_TIMESTAMPTZ_CMP:
			return ORDER_INT8;
		case F_BTOIDCMP:
			return ORDER_OID;
		case F_BTFLOAT4CMP:
			return ORDER_FLOAT4;
		case F_BTFLOAT8CMP:
			return ORDER_FLOAT8;
		case F_NUMERIC_CMP:
			return ORDER_NUMERIC;
		case F_BYTEACMP:
		case F_BTTEXT_PATTERN_CMP:
			return ORDER_BYTES;
		case F_BTBPCHAR_PATTERN_CMP:
			return ORDER_BPCHAR;
		case F_BTTEXTCMP:
			return OidIsValid(collation) && lc_collate_is_c(collation) ? ORDER_BYTES : ORDER_HASH;
		case F_BPCHARCMP:
			return OidIsValid(collation) && lc_collate_is_c(collation) ? ORDER_BPCHAR : ORDER_HASH;
		case F_BTNAMECMP:
			return OidIsValid(collation) && lc_collate_is_c(collation) ? ORDER_NAME : ORDER_HASH;
		case F_UUID_CMP:
			return ORDER_UUID;
	}
	return ORDER_HASH;
}

const KeyOrder *
key_order(IndexMeta *meta)
{
	MemoryContext old;
	KeyOrder *order;
	KeyHasher *hasher;

	if (meta->key_order)
		return meta->key_order;
	old = MemoryContextSwitchTo(meta->cxt);
	order = palloc0(offsetof(KeyOrder, columns) + sizeof(OrderColumn) * meta->nkeys);
	hasher = meta->coder ? NULL : key_hasher(meta->index);
	order->seed = node_wait_ready()->key_hash_seed;
	order->nkeys = meta->nkeys;
	order->sorted = true;
	for (int i = 0; i < meta->nkeys; i++)
	{
		OrderColumn *column = &order->columns[i];

		column->type = hasher ? key_hasher_type(hasher, i) : NULL;
		/* the codes of s3hash are in entries, so they are the same everywhere */
		column->kind = meta->coder    ? ORDER_INT8
					   : column->type ? kind_of(meta->order[i]->fn_oid, meta->collation[i])
									  : ORDER_NONE;
		column->descending = meta->descending[i];
		column->nulls_first = meta->nulls_first[i];
		if (column->kind == ORDER_NONE)
			break; /* the bytes end here */
		order->sorted &= column->kind != ORDER_HASH;
	}
	MemoryContextSwitchTo(old);
	meta->key_order = order;
	return order;
}

bool
key_order_is_sorted(const KeyOrder *order)
{
	return order->sorted;
}

/* ---------------------------------------------------------------- bytes */

typedef struct Sink
{
	KeyEnd *to;
	uint8 flip; /* of a descending column: all bits are the other way round */
	bool full; /* there was no room for something */
} Sink;

static void
put(Sink *sink, const void *bytes, Size len)
{
	int room = KEY_END_MAX - sink->to->len;

	if (len > room)
	{
		sink->full = true;
		len = room;
	}
	for (Size i = 0; i < len; i++)
		sink->to->bytes[sink->to->len++] = ((const uint8 *) bytes)[i] ^ sink->flip;
}

/* The highest byte first. */
static void
put_number(Sink *sink, uint64 value, int size)
{
	int len = Min(size, KEY_END_MAX - sink->to->len);
	uint64 bytes;

	if (len < size)
		sink->full = true;
	if (sink->flip)
		value = ~value;
	bytes = pg_hton64(value << (64 - 8 * size));
	memcpy(sink->to->bytes + sink->to->len, &bytes, len);
	sink->to->len += len;
}

static void
put_signed(Sink *sink, int64 value, int size)
{
	put_number(sink, (uint64) value ^ UINT64CONST(1) << (8 * size - 1), size);
}

static void
put_float(Sink *sink, float8 value)
{
	uint64 bits;

	if (isnan(value))
		bits = UINT64CONST(0x7FF8000000000000); /* behind infinity */
	else if (value == 0)
		bits = 0; /* so is -0 */
	else
		memcpy(&bits, &value, sizeof(bits));
	put_number(sink, bits >> 63 ? ~bits : bits | UINT64CONST(1) << 63, 8);
}

/* A string ends with two zeros; a zero in it is followed by FF. */
static void
put_string(Sink *sink, const char *bytes, Size len)
{
	static const uint8 zero[2] = {0, 0xFF}, end[2] = {0, 0};

	for (Size i = 0; i < len && !sink->full; i++)
		put(sink, bytes[i] ? (const uint8 *) &bytes[i] : zero, bytes[i] ? 1 : 2);
	put(sink, end, 2);
}

/*
 * A byte for the sign, the weight of the first digit, the digits to the base 10,000, each one more than it is, and 0.  Of negative numbers
 * all but the first byte is the other way round.
 */
static void
put_numeric(Sink *sink, Datum value)
{
	bytea *sent = DatumGetByteaPP(DirectFunctionCall1(numeric_send, value));
	const uint8 *bytes = (const uint8 *) VARDATA_ANY(sent);
#define WORD(i) ((uint16) (bytes[2 * (i)] << 8 | bytes[2 * (i) + 1]))
	int n = WORD(0), weight = (int16) WORD(1), first = 4;
	uint16 sign = WORD(2);
	bool negative = sign == 0x4000;

	while (n > 0 && WORD(first) == 0)
		first++, weight--, n--;
	while (n > 0 && WORD(first + n - 1) == 0)
		n--;
	if (sign == 0xF000 || sign == 0xD000 || sign == 0xC000)
		put_number(sink, sign == 0xF000 ? 1 : sign == 0xD000 ? 5 : 6, 1);
	else if (n == 0)
		put_number(sink, 3, 1);
	else
	{
		put_number(sink, negative ? 2 : 4, 1);
		sink->flip ^= negative ? 0xFF : 0;
		put_signed(sink, weight, 2);
		for (int i = 0; i < n; i++)
			put_number(sink, WORD(first + i) + 1, 2);
		put_number(sink, 0, 2);
		sink->flip ^= negative ? 0xFF : 0;
	}
#undef WORD
	pfree(sent);
}

static void
put_varlena(Sink *sink, OrderKind kind, Datum value)
{
	struct varlena *flat = PG_DETOAST_DATUM_PACKED(value);
	int len = VARSIZE_ANY_EXHDR(flat);

	put_string(sink, VARDATA_ANY(flat), kind == ORDER_BPCHAR ? bpchartruelen(VARDATA_ANY(flat), len) : len);
	if (flat != (struct varlena *) DatumGetPointer(value))
		pfree(flat);
}

static void
put_hash(Sink *sink, uint64 seed, const KeyType *type, Datum value)
{
	KeySink hash;

	key_sink_begin(&hash, seed);
	key_put_value(&hash, type, value);
	put_number(sink, key_sink_hash(&hash), 8);
}

static void
put_value(Sink *sink, const KeyOrder *order, const OrderColumn *column, Datum value)
{
	sink->flip = column->descending && column->kind != ORDER_HASH ? 0xFF : 0;
	switch (column->kind)
	{
		case ORDER_NONE:
			break;
		case ORDER_HASH:
			put_hash(sink, order->seed, column->type, value);
			break;
		case ORDER_BOOL:
			put_number(sink, DatumGetBool(value), 1);
			break;
		case ORDER_CHAR:
			put_number(sink, (uint8) DatumGetChar(value), 1);
			break;
		case ORDER_INT2:
			put_signed(sink, DatumGetInt16(value), 2);
			break;
		case ORDER_INT4:
			put_signed(sink, DatumGetInt32(value), 4);
			break;
		case ORDER_INT8:
			put_signed(sink, DatumGetInt64(value), 8);
			break;
		case ORDER_OID:
			put_number(sink, DatumGetObjectId(value), 4);
			break;
		case ORDER_FLOAT4:
			put_float(sink, DatumGetFloat4(value));
			break;
		case ORDER_FLOAT8:
			put_float(sink, DatumGetFloat8(value));
			break;
		case ORDER_NUMERIC:
			put_numeric(sink, value);
			break;
		case ORDER_BYTES:
		case ORDER_BPCHAR:
			put_varlena(sink, column->kind, value);
			break;
		case ORDER_NAME:
			put_string(sink, DatumGetCString(value), strnlen(DatumGetCString(value), NAMEDATALEN));
			break;
		case ORDER_UUID:
			put(sink, DatumGetUUIDP(value)->data, UUID_LEN);
			break;
	}
	sink->flip = 0;
}

/* One column: a byte that says whether it is NULL, and the value.  False: there is no more to come. */
static bool
put_column(Sink *sink, const KeyOrder *order, int i, int nequal, Datum value, bool isnull)
{
	const OrderColumn *column = &order->columns[i];

	if (column->kind == ORDER_NONE || (column->kind == ORDER_HASH && i >= nequal))
		return false;
	put_number(sink, isnull ? (column->nulls_first ? 0 : 2) : 1, 1);
	if (!isnull)
		put_value(sink, order, column, value);
	return !sink->full;
}

bool
key_order_put(const KeyOrder *order, int n, int nequal, const Datum *values, const bool *nulls, KeyEnd *end)
{
	Sink sink = {end, 0, false};

	end->len = 0;
	for (int i = 0; i < n; i++)
		if (!put_column(&sink, order, i, nequal, values[i], nulls[i]))
			return false;
	return true;
}

/* ---------------------------------------------------------------- bounds */

/* A value that a bound compares with as one of the column's type; false: it is none. */
static bool
as_of_column(OrderKind kind, Oid compare, Datum *value)
{
	switch (compare)
	{
		case F_BTINT28CMP:
		case F_BTINT48CMP:
		{
			int64 wide = DatumGetInt64(*value);

			if (kind == ORDER_INT2 ? wide != (int16) wide : wide != (int32) wide)
				return false;
			*value = kind == ORDER_INT2 ? Int16GetDatum((int16) wide) : Int32GetDatum((int32) wide);
			return true;
		}
		case F_BTINT24CMP:
			if (DatumGetInt32(*value) != (int16) DatumGetInt32(*value))
				return false;
			*value = Int16GetDatum((int16) DatumGetInt32(*value));
			return true;
	}
	return false;
}

static bool
put_bound(const KeyOrder *order, const IndexMeta *meta, int nequal, const IndexBound *bound, KeyEnd *end)
{
	Sink sink = {end, 0, false};

	end->len = 0;
	for (int i = 0; i < bound->n; i++)
	{
		Datum value = bound->values[i];

		if (!bound->nulls[i] && bound->order[i]->fn_oid != meta->order[i]->fn_oid &&
			!as_of_column(order->columns[i].kind, bound->order[i]->fn_oid, &value))
			return false;
		if (!put_column(&sink, order, i, nequal, value, bound->nulls[i]))
			return false;
	}
	return true;
}

bool
key_order_range(IndexMeta *meta, int nequal, const IndexBound *low, const IndexBound *high, KeyRange *range)
{
	const KeyOrder *order = key_order(meta);
	bool exact;

	range->low.len = 0;
	if (low)
	{
		exact = put_bound(order, meta, nequal, low, &range->low);
		if (exact && !low->inclusive)
			key_end_of(&range->low, &range->low);
	}
	range->high.len = 0;
	exact = high && put_bound(order, meta, nequal, high, &range->high);
	if (!exact || high->inclusive)
		key_end_of(&range->high, &range->high);
	return key_end_compare(&range->low, &range->high) < 0;
}
