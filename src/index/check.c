/*
 * check.c: s3am.check_index() and s3am.index_problems(): is an index what its table says?
 *
 * First each run by itself: the order of its entries, and its inner pages against the pages below.  Then, for a unique index, all runs as a
 * search goes through them: no two living rows with one key.  At last the entries, sorted by row, beside a scan of the table, which comes in the
 * same order: each row that is there has at most one entry, which has the row's values, and on demand at least one.  So memory is bounded and every
 * page is read once or twice.
 *
 * All of this is of one state: what the newest snapshot sees of what is committed.  Runs are read from the store, not from the cache.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_operator_d.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"

#include "compat.h"
#include "index/index.h"
#include "manifest/keys.h"
#include "node/progress.h"
#include "txn/commit.h"
#include "txn/txn.h"

S3AM_FUNCTION(s3am_check_index);
S3AM_FUNCTION(s3am_index_problems);

#define CODE_ROWS 64

typedef struct Check
{
	Relation heap, index;
	bool all; /* every row must have its entry */
	ReturnSetInfo *rsinfo; /* gets a row for each problem; NULL: the first one is thrown */
	int64 problems, most; /* that are told */
	S3Node *node;
	IndexMeta *meta;
	Snapshot snapshot;
	uint64 pos; /* what the snapshot sees */
	TableState *table; /* NULL: it has no committed row */
	const BatchArray *rows; /* of the table */
	uint32 nrows;
	uint64 next_row; /* the table's rows have numbers below */
	BatchEntry *batches; /* of the index */
	uint32 nbatches;
	Tuplesortstate *sort; /* entries by row */
	TupleTableSlot *entry;
	bool other_order; /* some run is ordered by another version of a collation */
	bool has_entry; /* there is one in the slot, of the row: */
	uint64 entry_row;
} Check;

/* ------------------------------------------------------------------------------------ problems */

/* More of them would say nothing new. */
static bool
is_enough(const Check *c)
{
	return c->problems >= c->most;
}

/* object: NULL: it is of no object alone. */
static void pg_attribute_printf(3, 4) problem(Check *c, const char *object, const char *format, ...)
{
	Datum values[2] = {0};
	bool nulls[2] = {object == NULL, false};
	char text[512];
	va_list args;

	if (is_enough(c))
		return;
	va_start(args, format);
	(void) vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (c->rsinfo == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" is not what its table says", RelationGetRelationName(c->index)),
			 object ? errdetail("In object \"%s\": %s.", object, text) : errdetail("%c%s.", toupper(text[0]), text + 1),
			 errhint("REINDEX INDEX builds it anew. SELECT * FROM s3am.index_problems('%s') shows all that is wrong.",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(c->index)),
												RelationGetRelationName(c->index))),
			 errtable(c->heap)));
	if (object)
		values[0] = CStringGetTextDatum(object);
	values[1] = CStringGetTextDatum(text);
	tuplestore_putvalues(c->rsinfo->setResult, c->rsinfo->setDesc, values, nulls);
	c->problems++;
	pg_atomic_write_u64(&progress_mine()->problems, c->problems);
}

/* As people know it. */
static const char *
name_of_row(uint64 row)
{
	return psprintf("(" UINT64_FORMAT "," UINT64_FORMAT ")", row / ROWS_PER_BLOCK, row % ROWS_PER_BLOCK + 1);
}

/* The object that a batch is in. */
static const char *
name_of_object(const BatchEntry *batch)
{
	char key[KEY_SIZE];

	if (batch->epoch)
		return segment_object(batch->epoch, batch->number);
	key_manifest(key, POS_VERSION(batch->pos));
	return pstrdup(key);
}

/* ------------------------------------------------------------------------------------ a run by itself */

/* First rows of pages, each of which one row in the level above stands for. */
typedef struct Pages
{
	MemoryContext cxt;
	MinimalTuple *rows;
	uint64 *numbers;
	uint32 n, capacity;
} Pages;

static void
add_page(Pages *pages, const Check *c, Datum *values, bool *nulls, uint64 number)
{
	MemoryContext old = MemoryContextSwitchTo(pages->cxt);

	if (pages->n == pages->capacity)
	{
		pages->capacity = pages->capacity ? pages->capacity * 2 : 64;
		pages->rows = pages->rows ? repalloc_huge(pages->rows, sizeof(MinimalTuple) * pages->capacity)
								  : palloc(sizeof(MinimalTuple) * pages->capacity);
		pages->numbers = pages->numbers ? repalloc_huge(pages->numbers, sizeof(uint64) * pages->capacity)
										: palloc(sizeof(uint64) * pages->capacity);
	}
	pages->rows[pages->n] = heap_form_minimal_tuple(c->meta->desc, values, nulls);
	pages->numbers[pages->n++] = number;
	MemoryContextSwitchTo(old);
}

static void
take_apart(const Check *c, MinimalTuple minimal, Datum *values, bool *nulls)
{
	HeapTupleData tuple;

	tuple.t_len = minimal->t_len + MINIMAL_TUPLE_OFFSET;
	tuple.t_data = (HeapTupleHeader) ((char *) minimal - MINIMAL_TUPLE_OFFSET);
	heap_deform_tuple(&tuple, c->meta->desc, values, nulls);
}

static int
compare_keys(const IndexMeta *meta, const Datum *a, const bool *anulls, const Datum *b, const bool *bnulls)
{
	for (int i = 0; i < meta->nkeys; i++)
	{
		int result =
			meta_compare_key(meta, i, a[ENTRY_KEY + i], anulls[ENTRY_KEY + i], b[ENTRY_KEY + i], bnulls[ENTRY_KEY + i]);

		if (result != 0)
			return result;
	}
	return 0;
}

/* What is kept while a run is read. */
typedef struct RunCheck
{
	Check *c;
	const char *object;
	bool other_order; /* by another version of a collation */
	uint64 number; /* of the next entry, in the run */
	MinimalTuple last; /* the entry before; NULL: none */
	MemoryContext cxts[2]; /* of this one and the one before, by turns */
	Datum *values, *others;
	bool *nulls, *other_nulls;
} RunCheck;

static void
check_entry(RunCheck *r, uint64 row_base)
{
	Check *c = r->c;
	uint64 number = r->number++, stored, row;
	MemoryContext cxt = r->cxts[number % 2], old;

	if (r->nulls[ENTRY_ROW])
	{
		problem(c, r->object, "entry " UINT64_FORMAT " is of no row", number);
		return;
	}
	stored = DatumGetInt64(r->values[ENTRY_ROW]);
	row = ROW_IS_OWN(stored) ? stored - OWN_BASE + row_base : stored;
	r->values[ENTRY_ROW] = Int64GetDatum(row);
	if (r->last && !r->other_order)
	{
		int order;

		take_apart(c, r->last, r->others, r->other_nulls);
		order = compare_keys(c->meta, r->others, r->other_nulls, r->values, r->nulls);
		if (order > 0 || (order == 0 && (uint64) DatumGetInt64(r->others[ENTRY_ROW]) > row))
			problem(c, r->object, "entry " UINT64_FORMAT " of the run should come before the one that stands before it",
					number);
	}
	MemoryContextReset(cxt);
	old = MemoryContextSwitchTo(cxt);
	r->last = heap_form_minimal_tuple(c->meta->desc, r->values, r->nulls);
	MemoryContextSwitchTo(old);
	if (row >= c->next_row)
	{
		problem(c, r->object, "entry " UINT64_FORMAT " of the run is of row %s, which the table does not have", number,
				name_of_row(row));
		return;
	}
	ExecClearTuple(c->entry);
	memcpy(c->entry->tts_values, r->values, sizeof(Datum) * c->meta->desc->natts);
	memcpy(c->entry->tts_isnull, r->nulls, sizeof(bool) * c->meta->desc->natts);
	ExecStoreVirtualTuple(c->entry);
	tuplesort_puttupleslot(c->sort, c->entry);
}

/* A row of an inner page, the n-th of its level, and the page below that it stands for. */
static void
check_inner(RunCheck *r, const Pages *below, uint32 n, uint64 row)
{
	Check *c = r->c;

	if (r->nulls[ENTRY_ROW] || (uint64) DatumGetInt64(r->values[ENTRY_ROW]) != below->numbers[n])
	{
		problem(c, r->object,
				"inner row " UINT64_FORMAT " does not lead to the page that begins with row " UINT64_FORMAT, row,
				below->numbers[n]);
		return;
	}
	take_apart(c, below->rows[n], r->others, r->other_nulls);
	if (compare_keys(c->meta, r->values, r->nulls, r->others, r->other_nulls) != 0)
		problem(c, r->object,
				"inner row " UINT64_FORMAT
				" has another key than the page that it leads to, which begins with row " UINT64_FORMAT,
				row, below->numbers[n]);
}

static void
begin_pages(Pages *pages, MemoryContext parent)
{
	memset(pages, 0, sizeof(*pages));
	pages->cxt = AllocSetContextCreate(parent, "s3am pages of a level", ALLOCSET_DEFAULT_SIZES);
}

/* A batch: entries, and behind them inner pages, level by level, up to the root. */
static void
check_batch(RunCheck *r, const BatchEntry *batch, MemoryContext parent)
{
	Check *c = r->c;
	const PackedSchema *schema = &((SchemaEntry *) dsa_get_address(node_dsa(c->node), batch->schema))->schema;
	MemoryContext cxt = AllocSetContextCreate(parent, "s3am batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext row_cxt = AllocSetContextCreate(cxt, "s3am entry", ALLOCSET_DEFAULT_SIZES);
	BatchSource source;
	const RowMap *map;
	RowPage *page = NULL;
	Pages pages, below;
	uint64 level_end = batch->nrows; /* of the level that is read */
	uint32 n = 0; /* rows of this level so far, in inner ones */

	r->object = name_of_object(batch);
	r->other_order = collation_order_of_batch(c->meta, c->node, batch, NULL) == ORDER_OTHER;
	state_batch_source(c->node, batch, &source);
	/* what the store has, not what was read before */
	source.cache_owner = 0;
	map = row_map(schema, c->meta->desc, r->object);
	begin_pages(&pages, cxt);
	memset(&below, 0, sizeof(below));
	for (uint64 row = 0; row < source.nrows && !is_enough(c); row++)
	{
		RowCursor cursor;
		MemoryContext old;

		if (row == level_end)
		{
			if (row > 0 && page && row_page_holds(page, row))
				problem(c, r->object, "the level from row " UINT64_FORMAT " on has no page of its own", row);
			if (pages.n <= 1)
			{
				problem(c, r->object, "there are rows behind the root, from row " UINT64_FORMAT " on", row);
				break;
			}
			if (below.cxt)
				MemoryContextDelete(below.cxt);
			below = pages;
			begin_pages(&pages, cxt);
			level_end = row + below.n;
			n = 0;
		}
		if (page == NULL || !row_page_holds(page, row))
		{
			CHECK_FOR_INTERRUPTS();
			if (page)
				row_page_release(page);
			page = NULL;
			page = row_page_read(&source, row, NULL, NULL);
		}
		MemoryContextReset(row_cxt);
		if (row_is_gone(page, row))
		{
			problem(c, r->object, "row " UINT64_FORMAT " is empty", row);
			n++;
			continue;
		}
		old = MemoryContextSwitchTo(row_cxt);
		row_begin(&cursor, page, map, row);
		row_deform(&cursor, c->meta->desc, 0, c->meta->desc->natts, r->values, r->nulls, row_cxt);
		if (row < batch->nrows)
			check_entry(r, batch->row_base);
		else
			check_inner(r, &below, n++, row);
		MemoryContextSwitchTo(old);
		if (page->first_row == row)
			add_page(&pages, c, r->values, r->nulls, row);
	}
	if (!is_enough(c) && (source.nrows < level_end || pages.n > 1))
		problem(c, r->object, "the run has no root");
	if (page)
		row_page_release(page);
	MemoryContextDelete(cxt);
	pg_atomic_fetch_add_u64(&progress_mine()->objects, 1);
	pg_atomic_fetch_add_u64(&progress_mine()->bytes, batch->epoch ? batch->size : batch->len);
}

static void
check_runs(Check *c)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am check of runs", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	RunCheck r = {.c = c};
	int natts = c->meta->desc->natts;

	r.values = palloc(sizeof(Datum) * natts);
	r.others = palloc(sizeof(Datum) * natts);
	r.nulls = palloc(sizeof(bool) * natts);
	r.other_nulls = palloc(sizeof(bool) * natts);
	for (int i = 0; i < 2; i++)
		r.cxts[i] = AllocSetContextCreate(cxt, "s3am entry of a run", ALLOCSET_DEFAULT_SIZES);
	for (uint32 i = 0; i < c->nbatches && !is_enough(c); i++)
	{
		if (!c->batches[i].continues)
		{
			r.number = 0;
			r.last = NULL;
		}
		check_batch(&r, &c->batches[i], cxt);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* ------------------------------------------------------------------------------------ one key, one row */

/* As far as it is committed, and the snapshot sees it. */
static bool
row_is_there(const Check *c, uint64 row)
{
	const BatchEntry *batch;
	RowEnd end;

	if (c->table == NULL || row >= c->next_row)
		return false;
	batch = state_find_batch(c->node, c->rows, c->nrows, row, NULL);
	return batch && batch->pos <= c->pos && !(state_row_ended(c->node, c->table, row, &end) && end.pos <= c->pos);
}

/* Rows whose values have one code. */
typedef struct CodeRows
{
	EState *estate;
	IndexInfo *info;
	TupleTableSlot *slots[2];
	int64 code;
	uint64 rows[CODE_ROWS]; /* the first ones of those that are there */
	int n;
} CodeRows;

static bool
value_of_row(Check *c, CodeRows *r, int i, uint64 row, Datum *value)
{
	ItemPointerData tid;
	bool isnull[INDEX_MAX_KEYS];
	Datum values[INDEX_MAX_KEYS];

	row_to_tid(row, &tid);
	if (!table_tuple_fetch_row_version(c->heap, &tid, c->snapshot, r->slots[i]))
		return false;
	GetPerTupleExprContext(r->estate)->ecxt_scantuple = r->slots[i];
	FormIndexDatum(r->info, r->slots[i], r->estate, values, isnull);
	*value = values[0];
	return !isnull[0];
}

static bool
exclude_each_other(Check *c, CodeRows *r, uint64 a, uint64 b)
{
	MemoryContext old = MemoryContextSwitchTo(GetPerTupleMemoryContext(r->estate));
	Datum x, y;
	bool equal = value_of_row(c, r, 0, a, &x) && value_of_row(c, r, 1, b, &y) &&
				 DatumGetBool(OidFunctionCall2Coll(r->info->ii_ExclusionProcs[0], c->index->rd_indcollation[0], x, y));

	MemoryContextSwitchTo(old);
	ResetPerTupleExprContext(r->estate);
	return equal;
}

/* The same for an exclusion constraint by hash: of rows with one code the values are compared, each with the first ones. */
static void
check_codes(Check *c)
{
	CodeRows r = {CreateExecutorState(), BuildIndexInfo(c->index)};
	IndexSearch search;
	uint64 n = 0;

	for (int i = 0; i < 2; i++)
		r.slots[i] = table_slot_create(c->heap, NULL);
	search_open_batches(&search, c->meta, c->node, c->batches, c->nbatches, NULL,
						AllocSetContextCreate(CurrentMemoryContext, "s3am check of codes", ALLOCSET_DEFAULT_SIZES));
	for (search_seek(&search, NULL, true); search.current && !is_enough(c); search_next(&search))
	{
		uint64 row = search_row(&search);
		bool isnull;
		int64 code = DatumGetInt64(search_value(&search, ENTRY_KEY, &isnull));

		if (++n % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		if (code != r.code)
			r.n = 0;
		r.code = code;
		if (!row_is_there(c, row))
			continue;
		for (int i = 0; i < r.n; i++)
			if (row != r.rows[i] && exclude_each_other(c, &r, r.rows[i], row))
			{
				problem(c, NULL, "rows %s and %s have one key", name_of_row(r.rows[i]), name_of_row(row));
				break;
			}
		if (r.n < CODE_ROWS)
			r.rows[r.n++] = row;
	}
	search_close(&search);
	for (int i = 0; i < 2; i++)
		ExecDropSingleTupleTableSlot(r.slots[i]);
	FreeExecutorState(r.estate);
}

static void
check_unique(Check *c)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am check of keys", ALLOCSET_DEFAULT_SIZES);
	MemoryContext last_cxt = AllocSetContextCreate(cxt, "s3am key", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	bool distinct = !c->index->rd_index->indnullsnotdistinct;
	int natts = c->meta->desc->natts;
	Datum *values = palloc(sizeof(Datum) * natts), *last_values = palloc(sizeof(Datum) * natts);
	bool *nulls = palloc(sizeof(bool) * natts), *last_nulls = palloc(sizeof(bool) * natts);
	bool any = false, living = false; /* is there an entry before; has its key a living row? */
	uint64 living_row = 0;
	uint64 n = 0;
	IndexSearch search;

	search_open_batches(&search, c->meta, c->node, c->batches, c->nbatches, NULL,
						AllocSetContextCreate(cxt, "s3am check of keys, search", ALLOCSET_DEFAULT_SIZES));
	for (search_seek(&search, NULL, true); search.current && !is_enough(c); search_next(&search))
	{
		uint64 row = search_row(&search);
		bool has_null = false, same;

		if (++n % 1024 == 0)
			CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < c->meta->nkeys; i++)
		{
			values[ENTRY_KEY + i] = search_value(&search, ENTRY_KEY + i, &nulls[ENTRY_KEY + i]);
			has_null |= nulls[ENTRY_KEY + i];
		}
		same = any && !(distinct && has_null) && compare_keys(c->meta, last_values, last_nulls, values, nulls) == 0;
		if (!same)
		{
			/* of the key columns alone, which is all that is compared */
			MemoryContextReset(last_cxt);
			MemoryContextSwitchTo(last_cxt);
			for (int i = 0; i < c->meta->nkeys; i++)
			{
				Form_pg_attribute att = TupleDescAttr(c->meta->desc, ENTRY_KEY + i);

				last_nulls[ENTRY_KEY + i] = nulls[ENTRY_KEY + i];
				if (!nulls[ENTRY_KEY + i])
					last_values[ENTRY_KEY + i] = datumCopy(values[ENTRY_KEY + i], att->attbyval, att->attlen);
			}
			MemoryContextSwitchTo(cxt);
			any = true;
			living = false;
		}
		if (!row_is_there(c, row))
			continue;
		/* one row twice is another problem, which is told elsewhere */
		if (living && row != living_row)
			problem(c, NULL, "rows %s and %s have one key", name_of_row(living_row), name_of_row(row));
		living = true;
		living_row = row;
	}
	search_close(&search);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* ------------------------------------------------------------------------------------ entries and rows */

/* The next entry, by row. */
static void
next_entry(Check *c)
{
	bool had = c->has_entry;
	uint64 before = c->entry_row;

	c->has_entry = tuplesort_gettupleslot(c->sort, true, false, c->entry, NULL);
	if (!c->has_entry)
		return;
	slot_getallattrs(c->entry);
	c->entry_row = DatumGetInt64(c->entry->tts_values[ENTRY_ROW]);
	if (had && c->entry_row == before)
		problem(c, NULL, "row %s has more than one entry", name_of_row(before));
}

/* Has the entry the values that the row gives? */
static bool
has_values(const Check *c, const Datum *values, const bool *nulls)
{
	for (int i = 0; i < c->meta->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(c->meta->desc, ENTRY_KEY + i);
		Datum entry = c->entry->tts_values[ENTRY_KEY + i];
		bool isnull = c->entry->tts_isnull[ENTRY_KEY + i];

		if (nulls[i] != isnull)
			return false;
		if (isnull)
			continue;
		/* what was computed may be the same in another form; what is a column of the row is the same bytes, for index-only scans */
		if (i < c->meta->nkeys && c->index->rd_index->indkey.values[i] == 0)
		{
			if (meta_compare_key(c->meta, i, entry, false, values[i], false) != 0)
				return false;
		}
		else if (!datum_image_eq(entry, values[i], att->attbyval, att->attlen))
			return false;
	}
	return true;
}

static void
check_rows(Check *c)
{
	EState *estate = CreateExecutorState();
	ExprContext *econtext = GetPerTupleExprContext(estate);
	TupleTableSlot *slot = table_slot_create(c->heap, NULL);
	IndexInfo *info = BuildIndexInfo(c->index);
	ExprState *predicate = ExecPrepareQual(info->ii_Predicate, estate);
	TableScanDesc scan = table_beginscan(c->heap, c->snapshot, 0, NULL);
	Datum values[INDEX_MAX_KEYS];
	bool nulls[INDEX_MAX_KEYS];

	econtext->ecxt_scantuple = slot;
	tuplesort_performsort(c->sort);
	next_entry(c);
	while (!is_enough(c) && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		uint64 row = tid_to_row(&slot->tts_tid);
		MemoryContext old;
		bool wanted;

		CHECK_FOR_INTERRUPTS();
		/* what this transaction has added is behind all that is committed */
		if (ROW_IS_OWN(row))
			break;
		/* those of rows that are gone, or that the snapshot does not see */
		while (c->has_entry && c->entry_row < row)
			next_entry(c);
		if (!c->all && !(c->has_entry && c->entry_row == row))
			continue;
		MemoryContextReset(econtext->ecxt_per_tuple_memory);
		wanted = predicate == NULL || ExecQual(predicate, econtext);
		if (wanted)
		{
			old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
			FormIndexDatum(info, slot, estate, values, nulls);
			/* NULLs have no code */
			wanted = c->meta->coder == NULL || !nulls[0];
			if (c->meta->coder && wanted)
				values[0] = Int64GetDatum(hash_code(c->meta->coder, values[0]));
			MemoryContextSwitchTo(old);
		}
		if (!c->has_entry || c->entry_row != row)
		{
			if (wanted)
				problem(c, NULL, "row %s has no entry", name_of_row(row));
			continue;
		}
		old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
		if (!wanted)
			problem(c, NULL, "row %s has an entry, though the index's condition does not hold for it",
					name_of_row(row));
		else if (!has_values(c, values, nulls))
			problem(c, NULL, "the entry of row %s has other values than the row", name_of_row(row));
		MemoryContextSwitchTo(old);
		next_entry(c);
		while (c->has_entry && c->entry_row == row && !is_enough(c))
			next_entry(c);
	}
	while (c->has_entry && !is_enough(c))
	{
		CHECK_FOR_INTERRUPTS();
		next_entry(c);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

/* ------------------------------------------------------------------------------------ the functions */

/* The runs that the snapshot sees. */
static void
find_runs(Check *c, uint64 storage)
{
	TableState *state = state_table(c->node, storage);
	const BatchEntry **all = NULL;
	uint32 count = 0, n;
	uint64 until, pos, bytes = 0;

	if (state)
	{
		const BatchArray *array;

		/* as who searches it: an index is complete from the start */
		pos = Max(c->pos, state->created);
		array = state_batches_at(c->node, state, pos, &count, &until);
		n = state_all_batches(c->node, array, count, &all);
		c->batches = palloc(sizeof(BatchEntry) * Max(n, 1));
		for (uint32 i = 0; i < n; i++)
			if (all[i]->pos <= pos)
			{
				bytes += all[i]->epoch ? all[i]->size : all[i]->len;
				c->batches[c->nbatches++] = *all[i];
			}
		if (c->table && c->nbatches > 0 && state->rows_of != c->table->storage)
			problem(c, NULL, "its entries are of storage " UINT64_FORMAT ", and the table's rows are in " UINT64_FORMAT,
					state->rows_of, c->table->storage);
	}
	pg_atomic_write_u64(&progress_mine()->objects_total, c->nbatches);
	pg_atomic_write_u64(&progress_mine()->bytes_total, bytes);
}

/* A run of another version's order is what the writer meant, and of no use here: it is told, and nothing of its order. */
static void
check_order(Check *c)
{
	for (uint32 i = 0; i < c->nbatches && !is_enough(c); i++)
	{
		OrderDifference d = {0};

		if (c->batches[i].continues || collation_order_of_batch(c->meta, c->node, &c->batches[i], &d) != ORDER_OTHER)
			continue;
		if (c->rsinfo == NULL)
			collation_fail(c->meta, &d);
		problem(c, name_of_object(&c->batches[i]),
				"the run is ordered by version %s of collation %s, and this server has %s", d.recorded, d.collations,
				d.here ? d.here : "none");
		c->other_order = true;
	}
}

static Tuplesortstate *
sort_by_row(const Check *c)
{
	AttrNumber column = ENTRY_ROW + 1;
	Oid less = Int8LessOperator, collation = InvalidOid;
	bool nulls_first = false;

	return tuplesort_begin_heap(c->meta->desc, 1, &column, &less, &collation, &nulls_first, maintenance_work_mem, NULL,
								TUPLESORT_NONE);
}

static void
check(Check *c)
{
	StorageId index = storage_of(c->index), table = storage_of(c->heap);
	uint64 until;

	c->node = node_wait_ready();
	if (commit_storage_is_new(index.storage) || commit_storage_is_new(table.storage))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("index \"%s\" was built by this transaction", RelationGetRelationName(c->index)),
						errhint("It can be checked after COMMIT.")));
	/* after the locks: nothing is built or rewritten any more */
	c->snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(c->snapshot);
	txn_begin_use(c->node);
	c->pos = state_visible_pos(c->node, c->snapshot);
	c->table = state_table(c->node, table.storage);
	if (c->table)
	{
		c->rows = state_batches_at(c->node, c->table, c->pos, &c->nrows, &until);
		c->next_row = pg_atomic_read_u64(&c->table->next_row);
	}
	c->meta = index_meta(c->index, CurrentMemoryContext);
	find_runs(c, index.storage);
	check_order(c);
	c->sort = sort_by_row(c);
	c->entry = MakeSingleTupleTableSlot(c->meta->desc, &TTSOpsMinimalTuple);
	{
		TupleTableSlot *sorted = c->entry;

		c->entry = MakeSingleTupleTableSlot(c->meta->desc, &TTSOpsVirtual);
		check_runs(c);
		ExecDropSingleTupleTableSlot(c->entry);
		c->entry = sorted;
	}
	/* which are next to each other only in an order that is this server's */
	if ((c->index->rd_index->indisunique || c->index->rd_index->indisexclusion) && !c->other_order && !is_enough(c))
	{
		progress_phase("looking for keys that are there twice");
		if (c->meta->coder)
			check_codes(c);
		else
			check_unique(c);
	}
	if (!is_enough(c))
	{
		progress_phase("comparing with the table");
		check_rows(c);
	}
	tuplesort_end(c->sort);
	ExecDropSingleTupleTableSlot(c->entry);
	PopActiveSnapshot();
	UnregisterSnapshot(c->snapshot);
}

/* Opens the index and its table.  Throws if it is none that can be checked. */
static void
open_index(Check *c, Oid indexid)
{
	Oid heapid = get_rel_relkind(indexid) == RELKIND_INDEX ? IndexGetRelation(indexid, true) : InvalidOid;

	/* first the table, as everybody does */
	c->heap = OidIsValid(heapid) ? table_open(heapid, AccessShareLock) : NULL;
	c->index = relation_open(indexid, AccessShareLock);
	if (c->heap == NULL || heapid != IndexGetRelation(indexid, true) ||
		!(relation_is_s3btree(c->index) || relation_is_s3hash(c->index)))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("\"%s\" is not an index of an s3am table", RelationGetRelationName(c->index)),
						c->index->rd_rel->relkind == RELKIND_PARTITIONED_INDEX
							? errhint("Name the indexes of the partitions: pg_partition_tree() lists them.")
							: errhint("Indexes of other tables are checked by the extension amcheck.")));
	if (!c->index->rd_index->indisvalid)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("index \"%s\" is not valid", RelationGetRelationName(c->index))));
}

/* problems: those that are told; 0: the first one is thrown. */
static void
check_index(Oid indexid, bool all, ReturnSetInfo *rsinfo, int64 most)
{
	Check c = {.all = all, .rsinfo = rsinfo, .most = most};
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am index check", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	IndexUser user;

	open_index(&c, indexid);
	/* as when entries are made */
	index_user_begin(c.heap, &user);
	progress_begin("check index", "reading runs");
	PG_TRY();
	{
		check(&c);
	}
	PG_FINALLY();
	{
		progress_end();
	}
	PG_END_TRY();
	index_user_end(&user);
	relation_close(c.index, AccessShareLock);
	table_close(c.heap, AccessShareLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* s3am.check_index(index, heapallindexed): throws if something is wrong with it. */
Datum
s3am_check_index(PG_FUNCTION_ARGS)
{
	check_index(PG_GETARG_OID(0), PG_GETARG_BOOL(1), NULL, 1);
	PG_RETURN_VOID();
}

/* s3am.index_problems(index, heapallindexed, most): a row for each thing that is. */
Datum
s3am_index_problems(PG_FUNCTION_ARGS)
{
	int64 most = PG_GETARG_INT32(2);

	if (most <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the number of problems must be positive")));
	InitMaterializedSRF(fcinfo, 0);
	check_index(PG_GETARG_OID(0), PG_GETARG_BOOL(1), (ReturnSetInfo *) fcinfo->resultinfo, most);
	return (Datum) 0;
}
