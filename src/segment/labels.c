/*
 * labels.c: numbers of enum labels, the same on every server and for ever.
 *
 * A label's number is its place in the order in which the labels of the type were made, those of one CREATE TYPE in sort order.  A type
 * that never got another label needs no record of it: sort order is that order.  Before ALTER TYPE ... ADD VALUE the numbers
 * so far are written to the local table s3am.enum_label, at the origin and by every server that replays the statement; the new label is
 * then the only one without a number and gets the next.  Labels are never dropped, and RENAME VALUE changes no number.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "segment/codec.h"

#define Natts_enum_label 3
#define Anum_enum_label_label 1
#define Anum_enum_label_type 2
#define Anum_enum_label_number 3

typedef struct Label
{
	Oid oid;
	uint32 number;
	float4 order;
} Label;

typedef struct EnumType
{
	Oid type; /* hash key */
	bool valid;
	int n;
	Label *by_number; /* element i has number i + 1 */
	Label *by_oid; /* sorted */
} EnumType;

static HTAB *types;

static Oid
table_named(const char *name)
{
	Oid schema = get_namespace_oid("s3am", true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

static int
compare_order(const void *a, const void *b)
{
	const Label *x = a, *y = b;

	/* numbered ones first, by number; then those that are new, in sort order */
	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

static int
compare_oid(const void *a, const void *b)
{
	Oid x = ((const Label *) a)->oid, y = ((const Label *) b)->oid;

	return x < y ? -1 : x > y;
}

/* The numbers that s3am.enum_label keeps; labels without one are left alone. */
static void
recorded_numbers(Oid type, Label *labels, int n)
{
	Oid relid = table_named("enum_label");
	Relation rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(relid))
		return; /* the extension is being created */
	rel = table_open(relid, AccessShareLock);
	ScanKeyInit(&key, Anum_enum_label_type, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool isnull;
		Oid label = DatumGetObjectId(heap_getattr(tuple, Anum_enum_label_label, RelationGetDescr(rel), &isnull));

		for (int i = 0; i < n; i++)
			if (labels[i].oid == label)
				labels[i].number =
					DatumGetInt32(heap_getattr(tuple, Anum_enum_label_number, RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* The labels of a type in the order of their numbers; palloc'ed. */
static Label *
read_labels(Oid type, int *count)
{
	Relation rel = table_open(EnumRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	int n = 0, capacity = 16;
	Label *labels = palloc(sizeof(Label) * capacity);

	ScanKeyInit(&key, Anum_pg_enum_enumtypid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
	scan = systable_beginscan(rel, EnumTypIdLabelIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_enum form = (Form_pg_enum) GETSTRUCT(tuple);

		if (n == capacity)
			labels = repalloc(labels, sizeof(Label) * (capacity *= 2));
		labels[n].oid = form->oid;
		labels[n].number = PG_UINT32_MAX;
		labels[n++].order = form->enumsortorder;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	recorded_numbers(type, labels, n);
	qsort(labels, n, sizeof(Label), compare_order);
	for (int i = 0; i < n; i++)
	{
		if (labels[i].number != PG_UINT32_MAX && labels[i].number != i + 1)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the labels of enum type %s do not fit table s3am.enum_label", format_type_be(type))));
		labels[i].number = i + 1;
	}
	*count = n;
	return labels;
}

static void
forget_all(Datum arg, int cacheid, uint32 hashvalue)
{
	HASH_SEQ_STATUS status;
	EnumType *entry;

	hash_seq_init(&status, types);
	while ((entry = hash_seq_search(&status)) != NULL)
		entry->valid = false;
}

static EnumType *
lookup(Oid type, bool again)
{
	static EnumType *last; /* entries stay where they are */
	bool found;
	EnumType *entry;
	int n;
	Label *labels;

	/* all values of a column are of one type */
	if (last && last->type == type && last->valid && !again)
		return last;
	if (types == NULL)
	{
		HASHCTL ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(EnumType);
		types = hash_create("s3am enum types", 16, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterSyscacheCallback(ENUMOID, forget_all, (Datum) 0);
		CacheRegisterSyscacheCallback(TYPEOID, forget_all, (Datum) 0);
	}
	entry = hash_search(types, &type, HASH_FIND, NULL);
	if (entry && entry->valid && !again)
		return last = entry;
	labels = read_labels(type, &n);
	entry = hash_search(types, &type, HASH_ENTER, &found);
	if (found)
	{
		if (entry->by_number)
			pfree(entry->by_number);
		if (entry->by_oid)
			pfree(entry->by_oid);
	}
	entry->valid = false;
	entry->by_number = entry->by_oid = NULL;
	entry->n = n;
	entry->by_number = MemoryContextAlloc(CacheMemoryContext, sizeof(Label) * Max(n, 1));
	entry->by_oid = MemoryContextAlloc(CacheMemoryContext, sizeof(Label) * Max(n, 1));
	memcpy(entry->by_number, labels, sizeof(Label) * n);
	memcpy(entry->by_oid, labels, sizeof(Label) * n);
	qsort(entry->by_oid, n, sizeof(Label), compare_oid);
	/* what the open transaction sees may be undone with it */
	entry->valid = true;
	pfree(labels);
	return entry;
}

uint32
enum_label_number(Oid type, Oid label)
{
	for (int try = 0; try < 2; try++)
	{
		EnumType *entry = lookup(type, try > 0);
		Label key = {label};
		Label *found = bsearch(&key, entry->by_oid, entry->n, sizeof(Label), compare_oid);

		if (found)
			return found->number;
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
					errmsg("enum type %s has no label with OID %u", format_type_be(type), label)));
	return 0;
}

Oid
enum_number_label(Oid type, uint32 number)
{
	for (int try = 0; try < 2; try++)
	{
		EnumType *entry = lookup(type, try > 0);

		if (number >= 1 && number <= entry->n)
			return entry->by_number[number - 1].oid;
	}
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("enum type %s has no label number %u on this server", format_type_be(type), number)));
	return InvalidOid;
}

char **
enum_label_names(Oid type, int *count)
{
	EnumType *entry = lookup(type, false);
	char **names = palloc(sizeof(char *) * Max(entry->n, 1));
	int n = entry->n;

	for (int i = 0; i < n; i++)
	{
		HeapTuple tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(entry->by_number[i].oid));

		names[i] = pstrdup(HeapTupleIsValid(tuple) ? NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel) : "?");
		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
	}
	*count = n;
	return names;
}

void
enum_labels_freeze(Oid type)
{
	Oid relid = table_named("enum_label");
	Relation rel;
	Label *labels;
	int n;
	CatalogIndexState indexes;
	bool any = false;

	if (!OidIsValid(relid) || get_typtype(type) != TYPTYPE_ENUM)
		return;
	/* the lock that ADD VALUE takes: two of them must not number their labels from the same state */
	LockDatabaseObject(TypeRelationId, type, 0, ExclusiveLock);
	labels = read_labels(type, &n);
	rel = table_open(relid, RowExclusiveLock);
	indexes = CatalogOpenIndexes(rel);
	{
		/* which of them are recorded already */
		Label *recorded = palloc(sizeof(Label) * Max(n, 1));

		memcpy(recorded, labels, sizeof(Label) * n);
		for (int i = 0; i < n; i++)
			recorded[i].number = PG_UINT32_MAX;
		recorded_numbers(type, recorded, n);
		for (int i = 0; i < n; i++)
		{
			Datum values[Natts_enum_label];
			bool nulls[Natts_enum_label] = {false};
			HeapTuple tuple;

			if (recorded[i].number != PG_UINT32_MAX)
				continue;
			values[Anum_enum_label_label - 1] = ObjectIdGetDatum(labels[i].oid);
			values[Anum_enum_label_type - 1] = ObjectIdGetDatum(type);
			values[Anum_enum_label_number - 1] = Int32GetDatum(labels[i].number);
			tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
			CatalogTupleInsertWithInfo(rel, tuple, indexes);
			heap_freetuple(tuple);
			any = true;
		}
	}
	CatalogCloseIndexes(indexes);
	table_close(rel, NoLock);
	if (any)
		CommandCounterIncrement();
}

void
enum_labels_drop(Oid type)
{
	Oid relid = table_named("enum_label");
	Relation rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	if (!OidIsValid(relid) || get_typtype(type) != TYPTYPE_ENUM)
		return;
	rel = table_open(relid, RowExclusiveLock);
	ScanKeyInit(&key, Anum_enum_label_type, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	table_close(rel, NoLock);
}
