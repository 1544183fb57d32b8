/*
 * schema.c: what the bytes of a batch mean, and how they become rows of a relation.
 */
#include "postgres.h"

#include <xxhash.h>

#include "access/tupmacs.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "segment/batch.h"

#define KIND(k) S3AM__STORED_TYPE__KIND__##k

/* Maps that are not in use any more go when there are more. */
#define MAPS_KEPT 512

uint64
schema_hash(const void *schema, Size len)
{
	return XXH3_64bits(schema, len);
}

/* ------------------------------------------------------------------------------------ is it well formed? */

const char *
schema_check(const S3am__BatchSchema *schema)
{
	if (schema->n_columns > MaxTupleAttributeNumber)
		return "too many columns";
	for (size_t i = 0; i < schema->n_columns; i++)
	{
		if (schema->columns[i]->type >= schema->n_types)
			return "a column's type is not in the dictionary";
		if (schema->columns[i]->id < 1 || (i > 0 && schema->columns[i]->id <= schema->columns[i - 1]->id))
			return "column ids do not ascend";
		if (schema->columns[i]->id == XMIN_COLUMN &&
			(schema->types[schema->columns[i]->type]->kind != KIND(PLAIN) ||
			 schema->types[schema->columns[i]->type]->length != sizeof(uint32) ||
			 schema->types[schema->columns[i]->type]->align != sizeof(uint32) || i + 1 < schema->n_columns))
			return "the column of the rows' xmin is of another kind";
	}
	for (size_t i = 0; i < schema->n_types; i++)
	{
		const S3am__StoredType *t = schema->types[i];

		switch (t->kind)
		{
			case KIND(PLAIN):
				if (t->align != 1 && t->align != 2 && t->align != 4 && t->align != 8)
					return "a type has an unknown alignment";
				if (t->length == 0 || t->length < -2 || t->length > PG_INT16_MAX)
					return "a type has an unknown length";
				if (t->by_value && t->length != 1 && t->length != 2 && t->length != 4 && t->length != 8)
					return "a type has an unknown length";
				break;
			case KIND(RANGE):
			case KIND(MULTIRANGE):
			case KIND(ARRAY):
				/* only earlier ones: so a dictionary has no cycle */
				if (t->part >= i)
					return "a type is made of one that is not in the dictionary";
				if (t->kind == KIND(MULTIRANGE) && schema->types[t->part]->kind != KIND(RANGE))
					return "a multirange is not made of ranges";
				break;
			case KIND(COMPOSITE):
				if (t->n_fields > MaxTupleAttributeNumber)
					return "a composite type has too many fields";
				for (size_t f = 0; f < t->n_fields; f++)
				{
					if (t->fields[f]->type >= i)
						return "a type is made of one that is not in the dictionary";
					if (t->fields[f]->id < 1 || (f > 0 && t->fields[f]->id <= t->fields[f - 1]->id))
						return "the numbers of a composite type's fields do not ascend";
				}
				break;
			case KIND(ENUM):
			case KIND(REG):
			case KIND(ACLITEM):
				break;
			default:
				return "a type is of an unknown kind";
		}
	}
	return NULL;
}

/* ------------------------------------------------------------------------------------ maps */

typedef struct MapEntry
{
	struct MapEntry *next;
	MemoryContext cxt;
	const PackedSchema *schema;
	int natts;
	Oid *types; /* of the attributes; 0: dropped */
	RowMap map;
} MapEntry;

#define BUCKETS 64
static MapEntry *buckets[BUCKETS];
static MapEntry *retired; /* of this transaction: somebody may still use them */
static int nmaps;
static bool registered;

static void
retire_all(void)
{
	for (int i = 0; i < BUCKETS; i++)
		while (buckets[i])
		{
			MapEntry *entry = buckets[i];

			buckets[i] = entry->next;
			entry->next = retired;
			retired = entry;
		}
	nmaps = 0;
}

static void
types_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	retire_all();
}

static void
transaction_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PARALLEL_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		return;
	if (nmaps > MAPS_KEPT)
		retire_all();
	while (retired)
	{
		MapEntry *entry = retired;

		retired = entry->next;
		MemoryContextDelete(entry->cxt);
	}
}

/* May a value of this type be an expanded object of our own?  Arrays and records have ones that core knows. */
static bool
may_be_lazy(Oid type)
{
	type = getBaseType(type);
	return type < FirstGenbkiObjectId && get_typtype(type) == TYPTYPE_BASE && !OidIsValid(get_element_type(type));
}

/* Columns as they are stored; desc NULL: none of them belongs to an attribute. */
static void
fill_columns(RowMap *map, const S3am__BatchSchema *schema, TupleDesc desc, MemoryContext cxt)
{
	int32 offset = 0; /* -1: depends on the row */

	map->xmin = -1;
	map->ncolumns = schema->n_columns;
	map->columns = MemoryContextAllocZero(cxt, sizeof(MapColumn) * Max(schema->n_columns, 1));
	for (int i = 0; i < map->ncolumns; i++)
	{
		MapColumn *column = &map->columns[i];
		uint32 id = schema->columns[i]->id;
		Oid type = InvalidOid;

		column->target = -1;
		if (id == XMIN_COLUMN)
			map->xmin = i;
		if (desc && id <= desc->natts && !TupleDescAttr(desc, id - 1)->attisdropped)
		{
			column->target = id - 1;
			map->stored[id - 1] = i;
			type = TupleDescAttr(desc, id - 1)->atttypid;
		}
		column->codec = codec_for_reading(schema, schema->columns[i]->type, type, cxt);
		column->typlen = column->codec->typlen;
		column->byval = column->codec->byval;
		column->align = att_align_nominal(1, column->codec->align);
		column->plain = codec_is_plain(column->codec);
		column->lazy = column->plain && column->typlen == -1 && OidIsValid(type) && may_be_lazy(type);
		column->cached = -1;
		if (offset >= 0)
		{
			int32 aligned = TYPEALIGN(column->align, offset);

			/* a varlena with a short header is not aligned */
			if (column->typlen > 0 || aligned == offset)
				column->cached = aligned;
			offset = column->typlen > 0 ? aligned + column->typlen : -1;
		}
	}
}

static void
fill_map(MapEntry *entry, const S3am__BatchSchema *schema, TupleDesc desc)
{
	RowMap *map = &entry->map;

	map->natts = desc->natts;
	map->stored = MemoryContextAlloc(entry->cxt, sizeof(int16) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
		map->stored[i] = -1;
	fill_columns(map, schema, desc, entry->cxt);
}

const RowMap *
row_map_raw(const S3am__BatchSchema *schema, MemoryContext cxt)
{
	RowMap *map = MemoryContextAllocZero(cxt, sizeof(RowMap));

	fill_columns(map, schema, NULL, cxt);
	map->raw = true;
	map->natts = map->ncolumns;
	map->stored = MemoryContextAlloc(cxt, sizeof(int16) * Max(map->ncolumns, 1));
	for (int i = 0; i < map->ncolumns; i++)
	{
		map->stored[i] = map->columns[i].target = i;
		map->columns[i].plain = true;
	}
	return map;
}

const RowMap *
row_map(const PackedSchema *packed, TupleDesc desc, const char *object)
{
	int b = packed->hash % BUCKETS;
	Size size = offsetof(PackedSchema, bytes) + packed->len;
	MapEntry *entry;
	MemoryContext cxt, old;
	S3am__BatchSchema *schema;
	const char *wrong;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(TYPEOID, types_changed, (Datum) 0);
		RegisterXactCallback(transaction_ended, NULL);
		registered = true;
	}
	for (entry = buckets[b]; entry; entry = entry->next)
	{
		int i;

		if (entry->natts != desc->natts || !schema_same(entry->schema, packed))
			continue;
		for (i = 0; i < desc->natts; i++)
			if (entry->types[i] !=
				(TupleDescAttr(desc, i)->attisdropped ? InvalidOid : TupleDescAttr(desc, i)->atttypid))
				break;
		if (i == desc->natts)
			return &entry->map;
	}
	cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am row map", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	entry = palloc0(sizeof(MapEntry));
	entry->cxt = cxt;
	entry->schema = memcpy(palloc(size), packed, size);
	entry->natts = desc->natts;
	entry->types = palloc(sizeof(Oid) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
		entry->types[i] = TupleDescAttr(desc, i)->attisdropped ? InvalidOid : TupleDescAttr(desc, i)->atttypid;
	schema = schema_unpack(entry->schema);
	if (schema == NULL)
		segment_damaged(object, "the schema cannot be decoded");
	wrong = schema_check(schema);
	if (wrong)
		segment_damaged(object, wrong);
	fill_map(entry, schema, desc);
	MemoryContextSwitchTo(old);
	/* complete: nothing above left anything behind when it threw */
	MemoryContextSetParent(cxt, CacheMemoryContext);
	/* looking types up may have emptied the table, never filled it */
	entry->next = buckets[b];
	buckets[b] = entry;
	nmaps++;
	return &entry->map;
}
