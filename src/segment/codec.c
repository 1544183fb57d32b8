/*
 * codec.c: datums that mean the same on every server.
 *
 * A value that is not plain is stored as a varlena (enum labels: as a number of four bytes) made of its parts.  A part is, one after
 * the other and unaligned: `length` bytes for a plain type of fixed length; four bytes for an enum label; for all others a length of
 * four bytes and as many bytes, which of a plain varlena are its data without the header.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/multirangetypes.h"
#include "utils/rangetypes.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "segment/codec.h"
#include "segment/format.h"

#define KIND(k) S3AM__STORED_TYPE__KIND__##k

/* OIDs below this are assigned by hand: the same on every server of every version. */
#define OID_IS_CONSTANT(oid) ((oid) < FirstGenbkiObjectId)

typedef struct Cursor
{
	const uint8 *p, *end;
	const char *object;
} Cursor;

static Datum read_part(Cursor *in, Codec *codec);
static void append_part(StringInfo buf, Codec *codec, Datum value);

/* ------------------------------------------------------------------------------------ kinds of types */

static bool
is_reg(Oid type)
{
	switch (type)
	{
		case REGCLASSOID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGCOLLATIONOID:
			return true;
		default:
			return false;
	}
}

/* How a type without domains around it is stored; *part: the type it is made of. */
static S3am__StoredType__Kind
kind_of(Oid type, Oid *part)
{
	*part = InvalidOid;
	if (is_reg(type))
		return KIND(REG);
	if (type == ACLITEMOID)
		return KIND(ACLITEM);
	switch (get_typtype(type))
	{
		case TYPTYPE_ENUM:
			return KIND(ENUM);
		case TYPTYPE_COMPOSITE:
			return KIND(COMPOSITE);
		case TYPTYPE_RANGE:
			/* ranges of constant OID are over such types, all plain */
			if (OID_IS_CONSTANT(type))
				return KIND(PLAIN);
			*part = get_range_subtype(type);
			return KIND(RANGE);
		case TYPTYPE_MULTIRANGE:
			if (OID_IS_CONSTANT(type))
				return KIND(PLAIN);
			*part = get_multirange_range(type);
			return KIND(MULTIRANGE);
		case TYPTYPE_BASE:
			*part = get_element_type(type);
			if (OidIsValid(*part))
			{
				Oid inner;

				/* an array holds the OID of its element type */
				if (OID_IS_CONSTANT(*part) && kind_of(*part, &inner) == KIND(PLAIN))
					return KIND(PLAIN);
				return KIND(ARRAY);
			}
			return KIND(PLAIN);
		default:
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("values of type %s cannot be stored in an s3am table", format_type_be(type))));
	}
	return KIND(PLAIN);
}

static void
set_layout(Codec *codec)
{
	codec->byval = false;
	codec->typlen = -1;
	codec->align = TYPALIGN_INT;
	if (codec->kind == KIND(ENUM))
	{
		codec->byval = true;
		codec->typlen = 4;
	}
}

/* ------------------------------------------------------------------------------------ writing */

/* Adds fields for attributes that are new since the codec was made: ALTER TYPE may come while rows are written. */
static void
fields_for_writing(Codec *codec, TupleDesc desc)
{
	MemoryContext old = MemoryContextSwitchTo(codec->cxt);
	int known = codec->nfields ? codec->fields[codec->nfields - 1].number : 0;
	CodecField *fields = palloc(sizeof(CodecField) * Max(codec->nfields + desc->natts, 1));

	if (codec->nfields)
		memcpy(fields, codec->fields, sizeof(CodecField) * codec->nfields);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->attnum <= known)
			continue;
		fields[codec->nfields].number = att->attnum;
		fields[codec->nfields++].codec = codec_for_writing(att->atttypid, codec->cxt);
	}
	codec->fields = fields;
	MemoryContextSwitchTo(old);
}

Codec *
codec_for_writing(Oid type, MemoryContext cxt)
{
	Codec *codec = MemoryContextAllocZero(cxt, sizeof(Codec));
	Oid part;

	check_stack_depth();
	codec->cxt = cxt;
	codec->type = getBaseType(type);
	codec->kind = kind_of(codec->type, &part);
	codec->index = -1;
	codec->reg = codec->type;
	if (codec->kind == KIND(PLAIN))
		get_typlenbyvalalign(codec->type, &codec->typlen, &codec->byval, &codec->align);
	else
		set_layout(codec);
	if (OidIsValid(part) && codec->kind != KIND(PLAIN))
		codec->part = codec_for_writing(part, cxt);
	if (codec->kind == KIND(COMPOSITE))
	{
		TupleDesc desc = lookup_rowtype_tupdesc(codec->type, -1);

		codec->row_type = assign_record_type_identifier(codec->type, -1);
		fields_for_writing(codec, desc);
		ReleaseTupleDesc(desc);
	}
	return codec;
}

static void
append_u32(StringInfo buf, uint32 n)
{
	appendBinaryStringInfo(buf, (char *) &n, sizeof(n));
}

static void
append_composite(StringInfo buf, Codec *codec, Datum value)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(value);
	TupleDesc desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {0};
	Datum *values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool *nulls = palloc(sizeof(bool) * Max(desc->natts, 1));
	uint16 n;
	int bitmap;

	if (HeapTupleHeaderGetTypeId(header) == codec->type)
	{
		uint64 now = assign_record_type_identifier(codec->type, -1);

		if (now != codec->row_type)
		{
			fields_for_writing(codec, desc);
			codec->row_type = now;
		}
	}
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, values, nulls);
	n = codec->nfields;
	appendBinaryStringInfo(buf, (char *) &n, sizeof(n));
	bitmap = buf->len;
	for (int i = 0; i < (n + 7) / 8; i++)
		appendStringInfoChar(buf, 0);
	for (int i = 0; i < n; i++)
	{
		int att = codec->fields[i].number - 1;

		if (att >= desc->natts || nulls[att] || TupleDescAttr(desc, att)->attisdropped)
			continue;
		buf->data[bitmap + i / 8] |= 1 << (i % 8);
		append_part(buf, codec->fields[i].codec, values[att]);
	}
	ReleaseTupleDesc(desc);
}

static void
append_array(StringInfo buf, Codec *codec, Datum value)
{
	ArrayType *array = DatumGetArrayTypeP(value);
	int ndim = ARR_NDIM(array);
	uint32 head = ndim | (ARR_HASNULL(array) ? 0x100 : 0);
	int16 typlen;
	bool byval;
	char align;
	ArrayIterator iterator;
	Datum element;
	bool isnull;
	int bitmap = 0, i = 0;

	append_u32(buf, head);
	for (int d = 0; d < ndim; d++)
	{
		append_u32(buf, ARR_DIMS(array)[d]);
		append_u32(buf, ARR_LBOUND(array)[d]);
	}
	if (ndim == 0)
		return;
	if (ARR_HASNULL(array))
	{
		int n = (ArrayGetNItems(ndim, ARR_DIMS(array)) + 7) / 8;

		bitmap = buf->len;
		enlargeStringInfo(buf, n);
		memset(buf->data + buf->len, 0, n);
		buf->len += n;
	}
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &byval, &align);
	iterator = array_create_iterator(array, 0, NULL);
	for (; array_iterate(iterator, &element, &isnull); i++)
	{
		if (isnull)
			continue;
		if (ARR_HASNULL(array))
			buf->data[bitmap + i / 8] |= 1 << (i % 8);
		append_part(buf, codec->part, element);
	}
	array_free_iterator(iterator);
}

static void
append_range(StringInfo buf, Codec *codec, RangeType *range)
{
	TypeCacheEntry *typcache = lookup_type_cache(codec->type, TYPECACHE_RANGE_INFO);
	RangeBound lower, upper;
	bool empty;
	uint8 flags = range_get_flags(range) & (RANGE_EMPTY | RANGE_LB_INC | RANGE_UB_INC | RANGE_LB_INF | RANGE_UB_INF);

	range_deserialize(typcache, range, &lower, &upper, &empty);
	appendStringInfoChar(buf, flags);
	if (RANGE_HAS_LBOUND(flags))
		append_part(buf, codec->part, lower.val);
	if (RANGE_HAS_UBOUND(flags))
		append_part(buf, codec->part, upper.val);
}

static void
append_multirange(StringInfo buf, Codec *codec, MultirangeType *multirange)
{
	TypeCacheEntry *typcache = lookup_type_cache(codec->part->type, TYPECACHE_RANGE_INFO);
	int32 n;
	RangeType **ranges;

	multirange_deserialize(typcache, multirange, &n, &ranges);
	append_u32(buf, n);
	for (int i = 0; i < n; i++)
		append_part(buf, codec->part, RangeTypePGetDatum(ranges[i]));
}

/* A value that is not plain, without a length. */
static void
append_body(StringInfo buf, Codec *codec, Datum value)
{
	check_stack_depth();
	switch (codec->kind)
	{
		case KIND(COMPOSITE):
			append_composite(buf, codec, value);
			break;
		case KIND(ARRAY):
			append_array(buf, codec, value);
			break;
		case KIND(RANGE):
			append_range(buf, codec, DatumGetRangeTypeP(value));
			break;
		case KIND(MULTIRANGE):
			append_multirange(buf, codec, DatumGetMultirangeTypeP(value));
			break;
		case KIND(REG):
		{
			Oid object = DatumGetObjectId(value);
			char *name = OidIsValid(object) ? reg_name(codec->reg, object) : NULL;

			append_u32(buf, object);
			if (name)
				appendStringInfoString(buf, name);
			break;
		}
		case KIND(ACLITEM):
			reg_append_aclitem(buf, value);
			break;
		default:
			elog(ERROR, "unexpected kind of type %d", codec->kind);
	}
}

static void
append_part(StringInfo buf, Codec *codec, Datum value)
{
	int start;
	uint32 len;

	if (codec->kind == KIND(ENUM))
	{
		append_u32(buf, enum_label_number(codec->type, DatumGetObjectId(value)));
		return;
	}
	if (codec->kind == KIND(PLAIN) && codec->byval)
	{
		char bytes[sizeof(Datum)];

		store_att_byval(bytes, value, codec->typlen);
		appendBinaryStringInfo(buf, bytes, codec->typlen);
		return;
	}
	if (codec->kind == KIND(PLAIN) && codec->typlen > 0)
	{
		appendBinaryStringInfo(buf, DatumGetPointer(value), codec->typlen);
		return;
	}
	start = buf->len;
	append_u32(buf, 0);
	if (codec->kind != KIND(PLAIN))
		append_body(buf, codec, value);
	else if (codec->typlen == -1)
	{
		struct varlena *v = pg_detoast_datum_packed((struct varlena *) DatumGetPointer(value));

		appendBinaryStringInfo(buf, VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
		if ((Pointer) v != DatumGetPointer(value))
			pfree(v);
	}
	else
		appendStringInfoString(buf, DatumGetCString(value));
	len = buf->len - start - sizeof(len);
	memcpy(buf->data + start, &len, sizeof(len));
}

Datum
codec_encode(Codec *codec, Datum value)
{
	StringInfoData buf;

	switch (codec->kind)
	{
		case KIND(PLAIN):
			if (codec->typlen == -1)
			{
				struct varlena *v = (struct varlena *) DatumGetPointer(value);

				if (VARATT_IS_EXTERNAL(v) || VARATT_IS_COMPRESSED(v))
					return PointerGetDatum(pg_detoast_datum(v));
			}
			return value;
		case KIND(ENUM):
			return UInt32GetDatum(enum_label_number(codec->type, DatumGetObjectId(value)));
		default:
			initStringInfo(&buf);
			appendStringInfoSpaces(&buf, VARHDRSZ);
			append_body(&buf, codec, value);
			SET_VARSIZE(buf.data, buf.len);
			return PointerGetDatum(buf.data);
	}
}

/* ------------------------------------------------------------------------------------ the dictionary */

static void
qualified_name(Oid type, char **schema, char **name)
{
	HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	*name = pstrdup(NameStr(form->typname));
	*schema = form->typnamespace == PG_CATALOG_NAMESPACE ? pstrdup("") : get_namespace_name(form->typnamespace);
	if (*schema == NULL)
		*schema = pstrdup("?");
	ReleaseSysCache(tuple);
}

static uint32
align_bytes(char align)
{
	return align == TYPALIGN_CHAR ? 1 : align == TYPALIGN_SHORT ? 2 : align == TYPALIGN_INT ? 4 : 8;
}

uint32
codec_describe(Codec *codec, DictionaryBuilder *builder)
{
	S3am__BatchSchema *schema = builder->schema;
	S3am__StoredType *type;
	char *nspname, *name;
	uint32 part = 0;
	S3am__StoredColumn **fields = NULL;

	qualified_name(codec->type, &nspname, &name);
	/* the same type may occur several times, by codecs of its own */
	for (size_t i = 0; i < schema->n_types; i++)
		if (schema->types[i]->kind == codec->kind && strcmp(schema->types[i]->name, name) == 0 &&
			strcmp(schema->types[i]->schema, nspname) == 0 && schema->types[i]->n_fields == codec->nfields)
			return i;
	if (codec->part)
		part = codec_describe(codec->part, builder);
	if (codec->nfields)
	{
		fields = palloc(sizeof(void *) * codec->nfields);
		for (int i = 0; i < codec->nfields; i++)
		{
			fields[i] = palloc(sizeof(**fields));
			s3am__stored_column__init(fields[i]);
			fields[i]->id = codec->fields[i].number;
			fields[i]->type = codec_describe(codec->fields[i].codec, builder);
		}
	}
	type = palloc(sizeof(*type));
	s3am__stored_type__init(type);
	type->kind = codec->kind;
	type->schema = nspname;
	type->name = name;
	type->part = part;
	type->n_fields = codec->nfields;
	type->fields = fields;
	if (codec->kind == KIND(PLAIN))
	{
		type->length = codec->typlen;
		type->by_value = codec->byval;
		type->align = align_bytes(codec->align);
	}
	if (codec->kind == KIND(ENUM) && builder->labels)
	{
		int n;

		type->labels = enum_label_names(codec->type, &n);
		type->n_labels = n;
	}
	if ((int) schema->n_types == builder->capacity)
	{
		builder->capacity = builder->capacity ? builder->capacity * 2 : 8;
		schema->types = schema->types ? repalloc(schema->types, builder->capacity * sizeof(void *))
									  : palloc(builder->capacity * sizeof(void *));
	}
	schema->types[schema->n_types] = type;
	return schema->n_types++;
}

/* ------------------------------------------------------------------------------------ reading */

static void
mismatch(const S3am__StoredType *stored, Oid type)
{
	ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
					errmsg("values stored as type \"%s%s%s\" cannot be read as type %s", stored->schema,
						   stored->schema[0] ? "." : "", stored->name, format_type_be(type))));
}

/* Binds a composite's stored fields to the attributes that the type has now. */
static void
fields_for_reading(Codec *codec, TupleDesc desc)
{
	const S3am__StoredType *stored = codec->stored;

	if (codec->fields == NULL)
		codec->fields = MemoryContextAllocZero(codec->cxt, sizeof(CodecField) * Max(stored->n_fields, 1));
	codec->nfields = stored->n_fields;
	for (int i = 0; i < codec->nfields; i++)
	{
		CodecField *field = &codec->fields[i];
		Oid type = InvalidOid;

		field->number = stored->fields[i]->id;
		if (desc && field->number >= 1 && field->number <= desc->natts &&
			!TupleDescAttr(desc, field->number - 1)->attisdropped)
			type = TupleDescAttr(desc, field->number - 1)->atttypid;
		if (field->codec == NULL || field->codec->type != (OidIsValid(type) ? getBaseType(type) : InvalidOid))
			field->codec = codec_for_reading(codec->dictionary, stored->fields[i]->type, type, codec->cxt);
	}
}

static Oid
reg_type_of(const S3am__StoredType *stored)
{
	static const struct
	{
		const char *name;
		Oid type;
	} regs[] = {
		{"regclass", REGCLASSOID},         {"regproc", REGPROCOID},
		{"regprocedure", REGPROCEDUREOID}, {"regoper", REGOPEROID},
		{"regoperator", REGOPERATOROID},   {"regtype", REGTYPEOID},
		{"regrole", REGROLEOID},           {"regnamespace", REGNAMESPACEOID},
		{"regconfig", REGCONFIGOID},       {"regdictionary", REGDICTIONARYOID},
		{"regcollation", REGCOLLATIONOID},
	};

	for (int i = 0; i < lengthof(regs); i++)
		if (strcmp(regs[i].name, stored->name) == 0)
			return regs[i].type;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("values stored as type \"%s\" cannot be read by this version of s3am", stored->name)));
	return InvalidOid;
}

Codec *
codec_for_reading(const S3am__BatchSchema *dictionary, uint32 index, Oid type, MemoryContext cxt)
{
	Codec *codec = MemoryContextAllocZero(cxt, sizeof(Codec));
	const S3am__StoredType *stored = dictionary->types[index];
	S3am__StoredType__Kind local = stored->kind;
	Oid part = InvalidOid;

	check_stack_depth();
	codec->cxt = cxt;
	codec->dictionary = dictionary;
	codec->stored = stored;
	codec->kind = stored->kind;
	codec->type = OidIsValid(type) ? getBaseType(type) : InvalidOid;
	if (OidIsValid(codec->type))
		local = kind_of(codec->type, &part);
	if (codec->kind == KIND(PLAIN))
	{
		codec->typlen = stored->length;
		codec->byval = stored->by_value;
		codec->align = stored->align == 1   ? TYPALIGN_CHAR
					   : stored->align == 2 ? TYPALIGN_SHORT
					   : stored->align == 4 ? TYPALIGN_INT
											: TYPALIGN_DOUBLE;
		if (OidIsValid(codec->type))
		{
			int16 typlen;
			bool byval;

			/* ALTER TYPE does not rewrite what is binary coercible: varchar to text, regclass to oid and back */
			get_typlenbyval(codec->type, &typlen, &byval);
			if (typlen != codec->typlen || byval != codec->byval || (local != KIND(PLAIN) && local != KIND(REG)))
				mismatch(stored, codec->type);
		}
		return codec;
	}
	set_layout(codec);
	if (codec->kind == KIND(REG))
	{
		codec->reg = reg_type_of(stored);
		if (OidIsValid(codec->type) && local != KIND(REG) && get_typlen(codec->type) != sizeof(Oid))
			mismatch(stored, codec->type);
		return codec;
	}
	if (codec->kind != local)
		mismatch(stored, codec->type);
	if (!OidIsValid(codec->type))
		return codec; /* skipped by its length */
	if (codec->kind == KIND(RANGE) || codec->kind == KIND(MULTIRANGE) || codec->kind == KIND(ARRAY))
		codec->part = codec_for_reading(dictionary, stored->part, part, cxt);
	else if (codec->kind == KIND(COMPOSITE))
	{
		TupleDesc desc = lookup_rowtype_tupdesc(codec->type, -1);

		codec->row_type = assign_record_type_identifier(codec->type, -1);
		fields_for_reading(codec, desc);
		ReleaseTupleDesc(desc);
	}
	return codec;
}

static const uint8 *
take(Cursor *in, Size len)
{
	const uint8 *p = in->p;

	if (len > in->end - in->p)
		segment_damaged(in->object, "a value is cut off");
	in->p += len;
	return p;
}

static uint32
take_u32(Cursor *in)
{
	uint32 n;

	memcpy(&n, take(in, sizeof(n)), sizeof(n));
	return n;
}

static Datum
read_composite(Cursor *in, Codec *codec)
{
	TupleDesc desc = lookup_rowtype_tupdesc(codec->type, -1);
	uint64 now = assign_record_type_identifier(codec->type, -1);
	Datum *values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool *nulls = palloc(sizeof(bool) * Max(desc->natts, 1));
	uint16 n;
	const uint8 *bitmap;
	HeapTuple tuple;
	Datum result;

	if (now != codec->row_type)
	{
		fields_for_reading(codec, desc);
		codec->row_type = now;
	}
	memset(nulls, true, desc->natts);
	memcpy(&n, take(in, sizeof(n)), sizeof(n));
	if (n > codec->nfields)
		segment_damaged(in->object, "a composite value has more fields than its type");
	bitmap = take(in, (n + 7) / 8);
	for (int i = 0; i < n; i++)
	{
		Codec *field = codec->fields[i].codec;
		Datum value;

		if (!(bitmap[i / 8] & (1 << (i % 8))))
			continue;
		value = read_part(in, field);
		if (OidIsValid(field->type))
		{
			values[codec->fields[i].number - 1] = value;
			nulls[codec->fields[i].number - 1] = false;
		}
	}
	tuple = heap_form_tuple(desc, values, nulls);
	result = heap_copy_tuple_as_datum(tuple, desc);
	heap_freetuple(tuple);
	ReleaseTupleDesc(desc);
	return result;
}

static Datum
read_array(Cursor *in, Codec *codec)
{
	uint32 head = take_u32(in);
	int ndim = head & 0xff;
	int dims[MAXDIM], bounds[MAXDIM];
	int n;
	const uint8 *bitmap = NULL;
	Datum *values;
	bool *nulls;
	Oid element = codec->type ? get_element_type(codec->type) : InvalidOid;
	int16 typlen;
	bool byval;
	char align;

	if (head > 0x1ff || ndim > MAXDIM || !OidIsValid(element))
		segment_damaged(in->object, "an array has an unknown shape");
	for (int i = 0; i < ndim; i++)
	{
		dims[i] = take_u32(in);
		bounds[i] = take_u32(in);
		if (dims[i] < 1)
			segment_damaged(in->object, "an array has an unknown shape");
	}
	if (ndim == 0)
		return PointerGetDatum(construct_empty_array(element));
	n = ArrayGetNItems(ndim, dims);
	ArrayCheckBounds(ndim, dims, bounds);
	if (head & 0x100)
		bitmap = take(in, ((Size) n + 7) / 8);
	else if (n > in->end - in->p)
		segment_damaged(in->object, "an array is cut off");
	values = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * (Size) n);
	nulls = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(bool) * (Size) n);
	for (int i = 0; i < n; i++)
	{
		nulls[i] = bitmap && !(bitmap[i / 8] & (1 << (i % 8)));
		values[i] = nulls[i] ? (Datum) 0 : read_part(in, codec->part);
	}
	get_typlenbyvalalign(element, &typlen, &byval, &align);
	return PointerGetDatum(construct_md_array(values, nulls, ndim, dims, bounds, element, typlen, byval, align));
}

static Datum
read_range(Cursor *in, Codec *codec)
{
	TypeCacheEntry *typcache = lookup_type_cache(codec->type, TYPECACHE_RANGE_INFO);
	uint8 flags = *take(in, 1);
	RangeBound lower = {0}, upper = {0};

	if (flags & ~(RANGE_EMPTY | RANGE_LB_INC | RANGE_UB_INC | RANGE_LB_INF | RANGE_UB_INF))
		segment_damaged(in->object, "a range has unknown bounds");
	lower.lower = true;
	lower.infinite = (flags & RANGE_LB_INF) != 0;
	lower.inclusive = (flags & RANGE_LB_INC) != 0;
	upper.infinite = (flags & RANGE_UB_INF) != 0;
	upper.inclusive = (flags & RANGE_UB_INC) != 0;
	if (RANGE_HAS_LBOUND(flags))
		lower.val = read_part(in, codec->part);
	if (RANGE_HAS_UBOUND(flags))
		upper.val = read_part(in, codec->part);
	/* as it was stored: the canonical function has done its work */
	return RangeTypePGetDatum(range_serialize(typcache, &lower, &upper, (flags & RANGE_EMPTY) != 0));
}

static Datum
read_multirange(Cursor *in, Codec *codec)
{
	TypeCacheEntry *typcache = lookup_type_cache(codec->part->type, TYPECACHE_RANGE_INFO);
	uint32 n = take_u32(in);
	RangeType **ranges;

	/* each takes a length and its flags at least */
	if (n > (in->end - in->p) / 5)
		segment_damaged(in->object, "a multirange is cut off");
	ranges = palloc(sizeof(RangeType *) * Max(n, 1));
	for (uint32 i = 0; i < n; i++)
		ranges[i] = DatumGetRangeTypeP(read_part(in, codec->part));
	return MultirangeTypePGetDatum(make_multirange(codec->type, typcache, n, ranges));
}

static Datum
read_body(Cursor *in, Codec *codec)
{
	check_stack_depth();
	switch (codec->kind)
	{
		case KIND(COMPOSITE):
			return read_composite(in, codec);
		case KIND(ARRAY):
			return read_array(in, codec);
		case KIND(RANGE):
			return read_range(in, codec);
		case KIND(MULTIRANGE):
			return read_multirange(in, codec);
		case KIND(REG):
		{
			Oid written = take_u32(in);
			Size len = in->end - in->p;

			if (len == 0)
				return ObjectIdGetDatum(OidIsValid(written) ? reg_object(codec->reg, NULL, written) : InvalidOid);
			return ObjectIdGetDatum(reg_object(codec->reg, pnstrdup((const char *) take(in, len), len), written));
		}
		case KIND(ACLITEM):
		{
			Size len = in->end - in->p;

			return reg_read_aclitem(take(in, len), len, in->object);
		}
		default:
			elog(ERROR, "unexpected kind of type %d", codec->kind);
	}
	return (Datum) 0;
}

/* A part; of one that has no type here only the bytes are taken. */
static Datum
read_part(Cursor *in, Codec *codec)
{
	Cursor inner;
	uint32 len;
	char *copy;
	Datum result;

	if (codec->kind == KIND(ENUM))
	{
		uint32 number = take_u32(in);

		return OidIsValid(codec->type) ? ObjectIdGetDatum(enum_number_label(codec->type, number)) : (Datum) 0;
	}
	if (codec->kind == KIND(PLAIN) && codec->typlen > 0)
	{
		const uint8 *p = take(in, codec->typlen);

		if (!OidIsValid(codec->type))
			return (Datum) 0;
		if (codec->byval)
		{
			union
			{
				Datum aligned;
				char bytes[sizeof(Datum)];
			} value;

			memcpy(value.bytes, p, codec->typlen);
			result = fetch_att(value.bytes, true, codec->typlen);
			return result;
		}
		copy = palloc(codec->typlen);
		memcpy(copy, p, codec->typlen);
		return PointerGetDatum(copy);
	}
	len = take_u32(in);
	inner.p = take(in, len);
	inner.end = in->p;
	inner.object = in->object;
	if (!OidIsValid(codec->type))
		return (Datum) 0;
	if (codec->kind == KIND(PLAIN))
	{
		if (len > MaxAllocSize - VARHDRSZ - 1)
			segment_damaged(in->object, "a value is too long");
		copy = palloc(len + VARHDRSZ);
		if (codec->typlen == -1)
		{
			SET_VARSIZE(copy, len + VARHDRSZ);
			memcpy(VARDATA(copy), inner.p, len);
		}
		else
		{
			memcpy(copy, inner.p, len);
			copy[len] = '\0';
		}
		return PointerGetDatum(copy);
	}
	result = read_body(&inner, codec);
	if (inner.p != inner.end)
		segment_damaged(in->object, "a value is too long");
	return result;
}

Datum
codec_decode(Codec *codec, Datum stored, const char *object)
{
	struct varlena *v;
	Cursor in;
	Datum result;

	if (codec->kind == KIND(PLAIN))
		return stored;
	if (codec->kind == KIND(ENUM))
		return ObjectIdGetDatum(enum_number_label(codec->type, DatumGetUInt32(stored)));
	v = (struct varlena *) DatumGetPointer(stored);
	in.p = (const uint8 *) VARDATA_ANY(v);
	in.end = in.p + VARSIZE_ANY_EXHDR(v);
	in.object = object;
	result = read_body(&in, codec);
	if (in.p != in.end)
		segment_damaged(object, "a value is too long");
	return result;
}
