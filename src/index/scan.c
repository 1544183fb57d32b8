/*
 * scan.c: index scans.
 *
 * The keys on the first columns, equalities and then at most one column with inequalities, say where the scan begins and ends; all keys
 * that these bounds do not imply are looked at for each entry.  What the scan gives are candidates: the table says which rows its
 * snapshot sees.
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "access/relscan.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/tidbitmap.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "ddl/ddl.h"
#include "index/claim.h"
#include "index/index.h"
#include "index/keyhash.h"
#include "index/share.h"
#include "node/bucket.h"
#include "table/table.h"
#include "txn/keylock.h"
#include "txn/txn.h"

/* The values of an array key: without NULLs and duplicates, in the order of the index. */
typedef struct ScanArray
{
	int key; /* in keyData */
	int n, at; /* at: whose turn it is */
	int marked;
	Datum *values;
} ScanArray;

typedef struct S3IndexScan
{
	IndexMeta *meta;
	uint64 storage;
	MemoryContext cxt; /* of the search */
	IndexSearch search;
	bool searching; /* open */
	bool placed; /* and at a place that these keys led to */
	bool positioned; /* the current entry was returned */
	bool nothing; /* the keys contradict themselves */
	ScanKey filters; /* keys that entries are held against */
	int nfilters;
	bool has_low, has_high;
	bool one_key; /* and the bounds are the same: one value for each column */
	IndexBound low, high; /* in the order of the index */
	ScanKey keys; /* desc->keyData, with an element in the place of each array */
	ScanArray *arrays; /* of keys that are an equality with one of several values; by column */
	int narrays;
	int nequal; /* columns at the beginning that are the same in all of it */
	uint64 pos; /* up to which the search sees */
	bool claims; /* SERIALIZABLE: what is read is claimed */
	ScanClaim claim;
	Snapshot snapshot; /* that the search was opened for, if it sees the same rows at any time */
	CommandId curcid; /* of the snapshot */
	ScanShare share; /* with other processes */
	MemoryContext key_cxt; /* what belongs to the keys; NULL: nothing yet */
	FmgrInfo *
		orders[INDEX_MAX_KEYS]; /* with values of other types, by column: the last one that was asked for; in key_cxt */
	IndexTuple tuple; /* for an index-only scan */
	IndexTuple flat; /* one that is used again and again, of entries that all look alike; NULL: not yet */
	Size flat_len; /* of the columns in it */
	bool may_be_flat;
	/* who goes on over a page looks once where on it the scan ends */
	int steps;
	const IndexCursor *within; /* of this run the entries before that number are not beyond the bound */
	uint64 within_end;
	uint64 window; /* entries ahead whose rows are requested; 0: none yet */
	/* where mark was set */
	uint64 *places;
	int nplaces, marked;
	bool marked_forward, mark;
} S3IndexScan;

IndexScanDesc
scan_begin(Relation index, int nkeys, int norderbys)
{
	IndexScanDesc desc = RelationGetIndexScan(index, nkeys, norderbys);
	S3IndexScan *scan = palloc0(sizeof(S3IndexScan));

	scan->meta = index_meta_kept(index);
	scan->storage = storage_of(index).storage;
	scan->cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am index scan", ALLOCSET_DEFAULT_SIZES);
	scan->filters = palloc(sizeof(ScanKeyData) * Max(nkeys, 1));
	scan->keys = palloc(sizeof(ScanKeyData) * Max(nkeys, 1));
	desc->xs_itupdesc = RelationGetDescr(index);
	/* names are not: a tuple may have them as C strings */
	scan->may_be_flat = true;
	for (int i = 0; i < desc->xs_itupdesc->natts; i++)
		if (TupleDescAttr(desc->xs_itupdesc, i)->attlen <= 0)
			scan->may_be_flat = false;
	desc->opaque = scan;
	return desc;
}

const IndexMeta *
scan_meta(IndexScanDesc desc)
{
	return ((S3IndexScan *) desc->opaque)->meta;
}

/* The scan goes no further with these bounds. */
static void
end_claim(S3IndexScan *scan)
{
	if (scan->claims)
		claim_end(&scan->claim, &scan->search, scan->positioned);
}

static void
close_search(S3IndexScan *scan)
{
	if (scan->searching)
		search_close(&scan->search);
	scan->searching = false;
	MemoryContextReset(scan->cxt);
}

/* ------------------------------------------------------------------------------------ bounds */

static MemoryContext
key_context(S3IndexScan *scan)
{
	if (scan->key_cxt == NULL)
		scan->key_cxt =
			AllocSetContextCreate(MemoryContextGetParent(scan->cxt), "s3am index scan keys", ALLOCSET_SMALL_SIZES);
	return scan->key_cxt;
}

/* Compares a key of column i with a value of the scan key's type; NULL: the operator family cannot. */
static FmgrInfo *
order_with(S3IndexScan *scan, ScanKey key)
{
	const IndexMeta *meta = scan->meta;
	int i = key->sk_attno - 1;
	Oid type = meta->index->rd_opcintype[i];
	FmgrInfo *info;
	Oid proc;

	if (key->sk_subtype == InvalidOid || key->sk_subtype == type)
		return meta->order[i];
	proc = get_opfamily_proc(meta->index->rd_opfamily[i], type, key->sk_subtype, BTORDER_PROC);
	if (!OidIsValid(proc))
		return NULL;
	if (scan->orders[i] && scan->orders[i]->fn_oid == proc)
		return scan->orders[i];
	info = MemoryContextAlloc(key_context(scan), sizeof(FmgrInfo));
	fmgr_info_cxt(proc, info, key_context(scan));
	return scan->orders[i] = info;
}

static void
set_bound(S3IndexScan *scan, IndexBound *bound, int i, ScanKey key, FmgrInfo *order, bool inclusive)
{
	Datum value = key->sk_argument;

	/* integers of less width become as wide as the column's: that needs no call */
	if (order->fn_oid == F_BTINT84CMP || order->fn_oid == F_BTINT82CMP || order->fn_oid == F_BTINT42CMP)
	{
		int64 wide = order->fn_oid == F_BTINT84CMP ? DatumGetInt32(value) : DatumGetInt16(value);

		value = order->fn_oid == F_BTINT42CMP ? Int32GetDatum((int32) wide) : Int64GetDatum(wide);
		order = scan->meta->order[i];
	}
	bound->n = i + 1;
	bound->values[i] = value;
	bound->nulls[i] = (key->sk_flags & SK_ISNULL) != 0;
	bound->order[i] = order;
	bound->inclusive = inclusive;
}

/* NULLs of column i lie beyond this bound. */
static void
exclude_nulls(S3IndexScan *scan, int i)
{
	IndexBound *bound = scan->meta->nulls_first[i] ? &scan->low : &scan->high;

	/* whatever value it ends at, they are beyond that */
	if (bound->n > i)
		return;
	bound->n = i + 1;
	bound->values[i] = (Datum) 0;
	bound->nulls[i] = true;
	bound->order[i] = scan->meta->order[i];
	bound->inclusive = false;
}

/*
 * A row comparison that begins with column i bounds the columns that follow each other, too, as long as they are in one direction.  It is
 * not implied by that, since NULLs in later columns decide nothing here.
 */
static void
bound_row(S3IndexScan *scan, int i, ScanKey header)
{
	ScanKey member = (ScanKey) DatumGetPointer(header->sk_argument);
	bool less = header->sk_strategy == BTLessStrategyNumber || header->sk_strategy == BTLessEqualStrategyNumber;
	bool inclusive =
		header->sk_strategy == BTLessEqualStrategyNumber || header->sk_strategy == BTGreaterEqualStrategyNumber;
	IndexBound *bound = less != scan->meta->descending[i] ? &scan->high : &scan->low;

	if (bound->n > i)
		return;
	for (int j = i;; j++, member++)
	{
		FmgrInfo *order;

		if (j >= scan->meta->nkeys || member->sk_attno != j + 1 || (member->sk_flags & SK_ISNULL) ||
			scan->meta->descending[j] != scan->meta->descending[i] || (order = order_with(scan, member)) == NULL)
		{
			bound->inclusive = true;
			return;
		}
		set_bound(scan, bound, j, member, order, inclusive);
		if (member->sk_flags & SK_ROW_END)
			return;
	}
}

/* The first column's equality, the second's, ... and then inequalities of the next column. */
static void
make_bounds(S3IndexScan *scan, ScanKey keys, int nkeys)
{
	bool *bounded = palloc0(sizeof(bool) * Max(nkeys, 1)); /* the bounds imply it */
	int prefix = 0;

	scan->low.n = scan->high.n = 0;
	for (int i = 0; i < scan->meta->nkeys; i++)
	{
		int equal = -1;
		FmgrInfo *order = NULL;

		for (int k = 0; k < nkeys && equal < 0; k++)
		{
			if (keys[k].sk_attno != i + 1 || (keys[k].sk_flags & SK_ROW_HEADER))
				continue;
			if (keys[k].sk_flags & SK_SEARCHNULL)
			{
				equal = k;
				order = scan->meta->order[i];
			}
			else if (keys[k].sk_strategy == BTEqualStrategyNumber && !(keys[k].sk_flags & SK_SEARCHNOTNULL) &&
					 (order = order_with(scan, &keys[k])) != NULL)
				equal = k;
		}
		if (equal < 0)
			break;
		set_bound(scan, &scan->low, i, &keys[equal], order, true);
		set_bound(scan, &scan->high, i, &keys[equal], order, true);
		bounded[equal] = true;
		prefix = i + 1;
	}
	scan->nequal = prefix;
	/* of several in one direction the first is as good as any, since all others are looked at anyway */
	if (prefix < scan->meta->nkeys)
	{
		bool some = false; /* a key that NULLs do not pass */

		for (int k = 0; k < nkeys; k++)
		{
			ScanKey key = &keys[k];
			bool less = key->sk_strategy == BTLessStrategyNumber || key->sk_strategy == BTLessEqualStrategyNumber;
			bool inclusive =
				key->sk_strategy == BTLessEqualStrategyNumber || key->sk_strategy == BTGreaterEqualStrategyNumber;
			bool high = less != scan->meta->descending[prefix];
			FmgrInfo *order;

			if (key->sk_attno != prefix + 1 || (key->sk_flags & (SK_ROW_HEADER | SK_SEARCHNULL)))
				continue;
			if (key->sk_flags & SK_SEARCHNOTNULL)
			{
				some = bounded[k] = true;
				continue;
			}
			if (key->sk_strategy == BTEqualStrategyNumber || (high ? scan->high.n : scan->low.n) > prefix ||
				(order = order_with(scan, key)) == NULL)
				continue;
			set_bound(scan, high ? &scan->high : &scan->low, prefix, key, order, inclusive);
			some = bounded[k] = true;
		}
		for (int k = 0; k < nkeys; k++)
			if (keys[k].sk_attno == prefix + 1 && (keys[k].sk_flags & SK_ROW_HEADER))
			{
				bound_row(scan, prefix, &keys[k]);
				some = true;
			}
		if (some)
			exclude_nulls(scan, prefix);
	}
	scan->has_low = scan->low.n > 0;
	scan->has_high = scan->high.n > 0;
	scan->one_key = prefix == scan->meta->nkeys;
	scan->nfilters = 0;
	for (int k = 0; k < nkeys; k++)
		if (!bounded[k])
			scan->filters[scan->nfilters++] = keys[k];
	pfree(bounded);
}

/* A key with a NULL in it is true of nothing, but for IS NULL and IS NOT NULL. */
static bool
is_never_true(ScanKey key)
{
	if (key->sk_flags & SK_ROW_HEADER)
	{
		/* NULL in a later column leaves what the columns before it decide */
		return (((ScanKey) DatumGetPointer(key->sk_argument))->sk_flags & SK_ISNULL) != 0;
	}
	return (key->sk_flags & SK_ISNULL) && !(key->sk_flags & (SK_SEARCHNULL | SK_SEARCHNOTNULL));
}

/* ------------------------------------------------------------------------------------ arrays */

typedef struct ElementOrder
{
	FmgrInfo function;
	Oid collation;
	bool reverse;
} ElementOrder;

static int
compare_elements(const void *a, const void *b, void *arg)
{
	ElementOrder *order = arg;
	int result =
		DatumGetInt32(FunctionCall2Coll(&order->function, order->collation, *(const Datum *) a, *(const Datum *) b));

	if (order->reverse)
		INVERT_COMPARE_RESULT(result);
	return result;
}

/* The elements of a key's array; their number. */
static int
take_elements(S3IndexScan *scan, ScanKey key, Datum **values)
{
	int i = key->sk_attno - 1, n, kept = 0, distinct = 0;
	Oid type = key->sk_subtype == InvalidOid ? scan->meta->index->rd_opcintype[i] : key->sk_subtype;
	ArrayType *array = DatumGetArrayTypeP(key->sk_argument);
	ElementOrder order;
	int16 typlen;
	bool byval, *nulls;
	char align;
	Oid proc = get_opfamily_proc(scan->meta->index->rd_opfamily[i], type, type, BTORDER_PROC);

	if (!OidIsValid(proc))
		elog(ERROR, "missing support function %d(%u,%u) in opfamily %u", BTORDER_PROC, type, type,
			 scan->meta->index->rd_opfamily[i]);
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &byval, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, byval, align, values, &nulls, &n);
	for (int k = 0; k < n; k++)
		if (!nulls[k])
			(*values)[kept++] = (*values)[k];
	fmgr_info(proc, &order.function);
	order.collation = key->sk_collation;
	order.reverse = scan->meta->descending[i];
	qsort_arg(*values, kept, sizeof(Datum), compare_elements, &order);
	for (int k = 0; k < kept; k++)
		if (distinct == 0 || compare_elements(&(*values)[k], &(*values)[distinct - 1], &order) != 0)
			(*values)[distinct++] = (*values)[k];
	return distinct;
}

/* Takes the arrays apart; false: one has nothing in it. */
static bool
make_arrays(S3IndexScan *scan, ScanKey keys, int nkeys)
{
	MemoryContext old;
	bool some = true;
	int n = 0;

	scan->narrays = 0;
	for (int k = 0; k < nkeys; k++)
		if (keys[k].sk_flags & SK_SEARCHARRAY)
			n++;
	if (n == 0)
		return true;
	old = MemoryContextSwitchTo(key_context(scan));
	scan->arrays = palloc(sizeof(ScanArray) * n);
	for (int k = 0; k < nkeys && some; k++)
	{
		ScanKey key = &keys[k];
		bool less = key->sk_strategy == BTLessStrategyNumber || key->sk_strategy == BTLessEqualStrategyNumber;
		ScanArray array = {k, 0, 0, 0, NULL};

		if (!(key->sk_flags & SK_SEARCHARRAY))
			continue;
		array.n = take_elements(scan, key, &array.values);
		key->sk_flags &= ~SK_SEARCHARRAY;
		if (array.n == 0)
			some = false;
		else if (key->sk_strategy == BTEqualStrategyNumber)
			scan->arrays[scan->narrays++] = array;
		else
			/* what passes the widest one */
			key->sk_argument = array.values[less != scan->meta->descending[key->sk_attno - 1] ? array.n - 1 : 0];
	}
	MemoryContextSwitchTo(old);
	return some;
}

/* The keys, with the elements whose turn it is. */
static void
bind_arrays(S3IndexScan *scan, int nkeys)
{
	for (int i = 0; i < scan->narrays; i++)
		scan->keys[scan->arrays[i].key].sk_argument = scan->arrays[i].values[scan->arrays[i].at];
	make_bounds(scan, scan->keys, nkeys);
}

static void
start_arrays(S3IndexScan *scan, int nkeys, bool forward)
{
	for (int i = 0; i < scan->narrays; i++)
		scan->arrays[i].at = forward ? 0 : scan->arrays[i].n - 1;
	bind_arrays(scan, nkeys);
}

/* To the next elements; false: these were the last ones, and stay.  The last array is the fastest. */
static bool
step_arrays(S3IndexScan *scan, int nkeys, bool forward)
{
	int i = scan->narrays - 1;

	while (i >= 0 && scan->arrays[i].at == (forward ? scan->arrays[i].n - 1 : 0))
		i--;
	if (i < 0)
		return false;
	scan->arrays[i].at += forward ? 1 : -1;
	for (i++; i < scan->narrays; i++)
		scan->arrays[i].at = forward ? 0 : scan->arrays[i].n - 1;
	bind_arrays(scan, nkeys);
	return true;
}

/* ------------------------------------------------------------------------------------ keys */

/* Does a search that is open find what one would that is opened now?  A snapshot sees the same rows whenever it is asked. */
static bool
search_is_good(IndexScanDesc desc)
{
	S3IndexScan *scan = desc->opaque;

	return scan->searching && scan->snapshot != NULL && scan->snapshot == desc->xs_snapshot &&
		   scan->curcid == desc->xs_snapshot->curcid;
}

void
scan_rescan(IndexScanDesc desc, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	S3IndexScan *scan = desc->opaque;

	if (keys && desc->numberOfKeys > 0)
		memmove(desc->keyData, keys, sizeof(ScanKeyData) * desc->numberOfKeys);
	end_claim(scan);
	if (!search_is_good(desc))
		close_search(scan);
	scan->placed = scan->positioned = scan->mark = false;
	if (scan->key_cxt)
		MemoryContextReset(scan->key_cxt);
	memset(scan->orders, 0, sizeof(scan->orders));
	scan->nothing = false;
	for (int k = 0; k < desc->numberOfKeys; k++)
		scan->nothing |= is_never_true(&desc->keyData[k]);
	if (scan->nothing)
		return;
	if (desc->numberOfKeys > 0)
		memcpy(scan->keys, desc->keyData, sizeof(ScanKeyData) * desc->numberOfKeys);
	scan->nothing = !make_arrays(scan, scan->keys, desc->numberOfKeys);
	/* with arrays it is known in which direction the first ones come first when the scan begins */
	if (!scan->nothing && scan->narrays == 0)
		make_bounds(scan, scan->keys, desc->numberOfKeys);
}

/* ------------------------------------------------------------------------------------ entries */

/* (a, b, ...) op (x, y, ...), as PostgreSQL compares rows. */
static bool
row_matches(S3IndexScan *scan, ScanKey header)
{
	ScanKey member = (ScanKey) DatumGetPointer(header->sk_argument);

	for (;; member++)
	{
		bool isnull;
		Datum value = search_value(&scan->search, ENTRY_KEY + member->sk_attno - 1, &isnull);
		int32 result;

		if (isnull || (member->sk_flags & SK_ISNULL))
			return false;
		result = DatumGetInt32(FunctionCall2Coll(&member->sk_func, member->sk_collation, value, member->sk_argument));
		if (result == 0 && !(member->sk_flags & SK_ROW_END))
			continue;
		switch (member->sk_strategy)
		{
			case BTLessStrategyNumber:
				return result < 0;
			case BTLessEqualStrategyNumber:
				return result <= 0;
			case BTGreaterEqualStrategyNumber:
				return result >= 0;
			case BTGreaterStrategyNumber:
				return result > 0;
			default:
				elog(ERROR, "unrecognized strategy of a row comparison: %d", member->sk_strategy);
		}
	}
}

static bool
passes(S3IndexScan *scan)
{
	for (int k = 0; k < scan->nfilters; k++)
	{
		ScanKey key = &scan->filters[k];
		bool isnull;
		Datum value;

		if (key->sk_flags & SK_ROW_HEADER)
		{
			if (!row_matches(scan, key))
				return false;
			continue;
		}
		value = search_value(&scan->search, ENTRY_KEY + key->sk_attno - 1, &isnull);
		if (key->sk_flags & (SK_SEARCHNULL | SK_SEARCHNOTNULL))
		{
			if (isnull != ((key->sk_flags & SK_SEARCHNULL) != 0))
				return false;
			continue;
		}
		if (isnull || !DatumGetBool(FunctionCall2Coll(&key->sk_func, key->sk_collation, value, key->sk_argument)))
			return false;
	}
	return true;
}

#define STEPS_FEW 16

static bool
is_beyond(S3IndexScan *scan, bool forward)
{
	const IndexBound *bound = forward ? &scan->high : &scan->low;
	int result;

	if (forward && scan->search.current == scan->within && scan->search.current->at < scan->within_end)
		return false;

	if (forward ? !scan->has_high : !scan->has_low)
		return false;
	result = search_compare(&scan->search, bound);
	if (result == 0)
		return !bound->inclusive;
	if (forward ? result > 0 : result < 0)
		return true;
	if (forward && ++scan->steps % STEPS_FEW == 0)
	{
		scan->within = scan->search.current;
		scan->within_end = search_within(&scan->search, bound);
	}
	return false;
}

static void
open_search(IndexScanDesc desc)
{
	S3IndexScan *scan = desc->opaque;
	Snapshot snapshot = desc->xs_snapshot;
	bool mvcc = snapshot && snapshot->snapshot_type == SNAPSHOT_MVCC;
	S3Node *node = node_wait_ready();
	uint64 pos;

	txn_begin_use(node);
	pos = mvcc ? state_visible_pos(node, snapshot) : state_current_pos(node);
	scan->pos = pos;
	scan->claims = mvcc && reads_count();
	search_open(&scan->search, scan->meta, scan->storage, pos, true, scan->cxt);
	scan->searching = true;
	scan->snapshot = mvcc ? snapshot : NULL;
	scan->curcid = mvcc ? snapshot->curcid : InvalidCommandId;
}

static void
seek(IndexScanDesc desc, bool forward)
{
	S3IndexScan *scan = desc->opaque;

	/* rows that others add between the bounds would be seen in a serial order */
	if (scan->claims)
		claim_begin(&scan->claim, scan->meta, scan->pos, scan->nequal, scan->has_low ? &scan->low : NULL,
					scan->has_high ? &scan->high : NULL, forward);
	/* the only run of an index has the key nearly always; and what several processes divide is more than a key's */
	search_only(&scan->search, scan->one_key && desc->parallel_scan == NULL ? &scan->low : NULL, 1);
	search_seek(&scan->search, forward ? (scan->has_low ? &scan->low : NULL) : (scan->has_high ? &scan->high : NULL),
				forward);
	scan->placed = true;
	scan->positioned = false;
	scan->window = 0;
	scan->steps = 0;
	scan->within = NULL;
}

/* To the next portion of a scan that several processes do; false: there is none for this one. */
static bool
seek_portion(IndexScanDesc desc, bool forward)
{
	S3IndexScan *scan = desc->opaque;

	for (;;)
		switch (share_take(&scan->share, &scan->search, scan->has_low ? &scan->low : NULL,
						   scan->has_high ? &scan->high : NULL, forward))
		{
			case SHARE_PART:
				seek(desc, forward);
				return true;
			case SHARE_STEP:
				if (!step_arrays(scan, desc->numberOfKeys, forward))
					return false;
				share_step(&scan->share);
				break;
			case SHARE_NONE:
				return false;
		}
}

/* False: there is nothing for this process in it. */
static bool
begin_search(IndexScanDesc desc, bool forward)
{
	S3IndexScan *scan = desc->opaque;

	if (!scan->searching)
		open_search(desc);
	pgstat_count_index_scan(desc->indexRelation);
	if (scan->narrays > 0)
		start_arrays(scan, desc->numberOfKeys, forward);
	if (desc->parallel_scan)
	{
		share_join(&scan->share, desc, &scan->search);
		return seek_portion(desc, forward);
	}
	seek(desc, forward);
	return true;
}

/* To where the scan goes on behind what it has gone through; false: that was all. */
static bool
seek_next(IndexScanDesc desc, bool forward)
{
	S3IndexScan *scan = desc->opaque;

	if (desc->parallel_scan)
		return seek_portion(desc, forward);
	if (!step_arrays(scan, desc->numberOfKeys, forward))
		return false;
	seek(desc, forward);
	return true;
}

/* Goes to the next entry that the keys let through, with these elements of arrays; false: there is none. */
static bool
advance_within(S3IndexScan *scan, bool forward)
{
	bool outside = false; /* perhaps behind the bound where the last one ended */

	if (scan->search.forward != forward)
	{
		outside = !scan->positioned;
		claim_whole(&scan->claim);
		search_turn(&scan->search, forward);
	}
	if (scan->positioned)
		search_next(&scan->search);
	for (; scan->search.current; search_next(&scan->search))
	{
		CHECK_FOR_INTERRUPTS();
		if (is_beyond(scan, forward))
			break;
		if (outside && is_beyond(scan, !forward))
			continue;
		outside = false;
		if (passes(scan))
			return scan->positioned = true;
	}
	/* it may be turned here: what is beyond comes first again */
	scan->positioned = false;
	return false;
}

static bool
advance(IndexScanDesc desc, bool forward)
{
	S3IndexScan *scan = desc->opaque;

	/* replay computes nothing: a foreign key that it makes anew would be checked against tables that it has just emptied */
	if (scan->nothing || ddl_replaying())
		return false;
	if (!scan->placed && !begin_search(desc, forward))
	{
		scan->nothing = true;
		return false;
	}
	while (!advance_within(scan, forward))
		if (!seek_next(desc, forward))
			return false;
	return true;
}

static void
form_tuple(IndexScanDesc desc)
{
	S3IndexScan *scan = desc->opaque;
	Datum values[INDEX_MAX_KEYS];
	bool nulls[INDEX_MAX_KEYS];
	const char *data;
	Size len;

	if (scan->may_be_flat && (data = search_flat(&scan->search, &len)) != NULL)
	{
		if (scan->flat == NULL)
		{
			Size size = MAXALIGN(MAXALIGN(sizeof(IndexTupleData)) + len);

			scan->flat = MemoryContextAllocZero(GetMemoryChunkContext(scan), size);
			scan->flat->t_info = size;
			scan->flat_len = len;
		}
		if (len == scan->flat_len)
		{
			memcpy((char *) scan->flat + MAXALIGN(sizeof(IndexTupleData)), data, len);
			desc->xs_itup = scan->flat;
			return;
		}
	}
	for (int i = 0; i < scan->meta->natts; i++)
		values[i] = search_value(&scan->search, ENTRY_KEY + i, &nulls[i]);
	if (scan->tuple)
		pfree(scan->tuple);
	scan->tuple = NULL;
	scan->tuple = index_form_tuple(desc->xs_itupdesc, values, nulls);
	desc->xs_itup = scan->tuple;
}

#define WINDOW_MIN 4
#define WINDOW_MAX 1024

static bool
fetch_soon(void *arg, uint64 row)
{
	IndexScanDesc desc = arg;

	return table_fetch_soon(desc->xs_heapfetch, desc->xs_snapshot, row);
}

/* If the rows of the entries so far had to be read, those of the next ones are requested, the farther ahead the longer that goes on. */
static void
read_ahead(IndexScanDesc desc)
{
	S3IndexScan *scan = desc->opaque;

	if (!table_fetches_read(desc->xs_heapfetch) || scan->snapshot == NULL)
		return;
	scan->window = Min(Max(scan->window * 2, WINDOW_MIN), WINDOW_MAX);
	search_peek(&scan->search, scan->window, fetch_soon, desc);
	bucket_reads_go_on();
}

/*
 * Who looks for a key with SnapshotDirty before he adds it (ON CONFLICT), and does not find it, waits for whoever is adding it, as in heap.  He holds
 * it from now on, as he would when he adds it.  True: it had to be waited for, so it may be there now.
 */
static bool
waited_for_key(IndexScanDesc desc)
{
	S3IndexScan *scan = desc->opaque;
	Form_pg_index index = desc->indexRelation->rd_index;
	uint64 hash;

	if (desc->xs_snapshot == NULL || desc->xs_snapshot->snapshot_type != SNAPSHOT_DIRTY || !index->indisunique ||
		!index->indimmediate || !scan->one_key || scan->meta->coder)
		return false;
	(void) meta_has_hashes(scan->meta);
	hash = key_hash_local(scan->meta->hasher, scan->low.values, scan->low.nulls);
	if (keylock_acquire(desc->indexRelation, scan->storage, hash, LockWaitBlock) != ROWLOCK_WAITED)
		return false;
	close_search(scan);
	scan->placed = false;
	return true;
}

bool
scan_tuple(IndexScanDesc desc, ScanDirection direction)
{
	S3IndexScan *scan = desc->opaque;

	bool only = desc->xs_want_itup && desc->xs_heapfetch;
	uint64 row;

	desc->xs_recheck = scan->meta->coder != NULL;
	do
	{
		while (!advance(desc, !ScanDirectionIsBackward(direction)))
			if (!waited_for_key(desc))
				return false;
		row = search_row(&scan->search);
	} while (only && table_entry_seen(desc->xs_heapfetch, desc->xs_snapshot, row) == ENTRY_UNSEEN);
	if (!desc->xs_want_itup && desc->xs_heapfetch && scan->search.forward)
		read_ahead(desc);
	/* of an exclusion constraint no foreign key is, so who changes its columns locks the row as any UPDATE does */
	if (desc->xs_snapshot && desc->xs_snapshot->snapshot_type == SNAPSHOT_DIRTY && desc->heapRelation &&
		desc->indexRelation->rd_index->indisexclusion)
		table_wait_for_row(desc->heapRelation, row, LockTupleShare);
	row_to_tid(row, &desc->xs_heaptid);
	if (desc->xs_want_itup)
		form_tuple(desc);
	return true;
}

int64
scan_bitmap(IndexScanDesc desc, TIDBitmap *bitmap)
{
	S3IndexScan *scan = desc->opaque;
	int64 n = 0;

	while (advance(desc, true))
	{
		ItemPointerData tid;

		row_to_tid(search_row(&scan->search), &tid);
		tbm_add_tuples(bitmap, &tid, 1, scan->meta->coder != NULL);
		n++;
	}
	return n;
}

void
scan_end(IndexScanDesc desc)
{
	S3IndexScan *scan = desc->opaque;

	end_claim(scan);
	close_search(scan);
	MemoryContextDelete(scan->cxt);
	if (scan->key_cxt)
		MemoryContextDelete(scan->key_cxt);
}

void
scan_mark(IndexScanDesc desc)
{
	S3IndexScan *scan = desc->opaque;

	scan->mark = scan->placed;
	if (!scan->mark)
		return;
	if (scan->nplaces < scan->search.ncursors)
	{
		scan->nplaces = scan->search.ncursors;
		scan->places = scan->places ? repalloc(scan->places, sizeof(uint64) * scan->nplaces)
									: MemoryContextAlloc(GetMemoryChunkContext(scan), sizeof(uint64) * scan->nplaces);
	}
	search_save(&scan->search, scan->places, &scan->marked);
	scan->marked_forward = scan->search.forward;
	for (int i = 0; i < scan->narrays; i++)
		scan->arrays[i].marked = scan->arrays[i].at;
}

void
scan_restore(IndexScanDesc desc)
{
	S3IndexScan *scan = desc->opaque;

	if (!scan->mark)
		return;
	if (scan->narrays > 0)
	{
		for (int i = 0; i < scan->narrays; i++)
			scan->arrays[i].at = scan->arrays[i].marked;
		bind_arrays(scan, desc->numberOfKeys);
	}
	scan->within = NULL;
	claim_whole(&scan->claim);
	search_return(&scan->search, scan->places, scan->marked, scan->marked_forward);
	scan->positioned = scan->marked >= 0;
}
