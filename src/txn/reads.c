/*
 * reads.c: see reads.h.
 *
 * Who reads a range of an index relies on nobody's adding a key to it: what others add travels as ranges, too (TableEdit.added), and one is held
 * against the other at COMMIT.  Rows that were found are claimed one by one (txn_read_row).  The claim is there before the first entry
 * is looked at, and becomes smaller only when the reader says that it came no further: a scan that ended by an error never says so.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "ddl/ddl.h"
#include "txn/own.h"
#include "txn/reads.h"
#include "txn/txn.h"

/* Ranges of one index that are told one by one; more of them become fewer. */
#define READ_RANGES_MAX 4096

typedef struct IndexReads
{
	uint64 storage, table; /* storages of the index and of its table */
	uint64 pos; /* the oldest position read at */
	KeyRanges ranges;
} IndexReads;

typedef struct OpenRange
{
	dlist_node node; /* in open_ranges, or in free_ranges */
	uint64 number; /* 0: it is free */
	SubTransactionId sub; /* in which its scan began */
	IndexReads *index;
	KeyRange range;
} OpenRange;

static List *indexes; /* of IndexReads, few; in own_context() */
static dlist_head open_ranges = DLIST_STATIC_INIT(open_ranges);
static dlist_head free_ranges = DLIST_STATIC_INIT(free_ranges);
static uint64 first_number = 1, next_number = 1; /* of this transaction's ranges, in this session */
static bool current; /* something was learned of a state that is not the snapshot's */
static bool outer_is_internal; /* the query that runs was begun within core's work for a foreign key */
static bool exempt; /* it is a part of that work itself */

/* ------------------------------------------------------------------------------------ foreign keys */

/*
 * What core asks for a foreign key it asks with row-level security off, which nothing else does.  Queries that such a one runs in its turn, in
 * triggers and functions, are the user's.
 */
int
reads_executor_run(void)
{
	int saved = (outer_is_internal ? 1 : 0) | (exempt ? 2 : 0);
	bool internal = InNoForceRLSOperation();

	exempt = internal && !outer_is_internal;
	outer_is_internal = internal;
	return saved;
}

void
reads_executor_end(int saved)
{
	outer_is_internal = (saved & 1) != 0;
	exempt = (saved & 2) != 0;
}

bool
reads_count(void)
{
	return IsolationIsSerializable() && !exempt && !ddl_replaying();
}

/* ------------------------------------------------------------------------------------ ranges */

static IndexReads *
find_index(uint64 storage)
{
	ListCell *lc;

	foreach (lc, indexes)
		if (((IndexReads *) lfirst(lc))->storage == storage)
			return lfirst(lc);
	return NULL;
}

static IndexReads *
index_reads(Relation index, uint64 pos)
{
	uint64 storage = storage_of(index).storage;
	IndexReads *reads = find_index(storage);

	if (reads == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(own_context());
		Relation table = relation_open(index->rd_index->indrelid, NoLock);

		reads = palloc0(sizeof(IndexReads));
		reads->storage = storage;
		reads->table = storage_of(table).storage;
		relation_close(table, NoLock);
		reads->pos = pos;
		reads->ranges.max = READ_RANGES_MAX;
		reads->ranges.cxt = own_context();
		indexes = lappend(indexes, reads);
		MemoryContextSwitchTo(old);
	}
	reads->pos = Min(reads->pos, pos);
	return reads;
}

/* NULL: it is none of this transaction's that is still open. */
static OpenRange *
open_range(const RangeRead *read)
{
	return read->number >= first_number && read->open->number == read->number ? read->open : NULL;
}

/* It is claimed, as a whole or as far as it was read. */
static void
settle_range(OpenRange *open, const KeyRange *range)
{
	key_ranges_add(&open->index->ranges, range ? range : &open->range);
	open->number = 0;
	dlist_delete(&open->node);
	dlist_push_tail(&free_ranges, &open->node);
}

void
reads_begin_range(RangeRead *read, Relation index, uint64 pos, const KeyRange *range)
{
	OpenRange *open = open_range(read);
	IndexReads *reads = index_reads(index, pos);

	if (open)
		settle_range(open, NULL);
	if (dlist_is_empty(&free_ranges))
		open = MemoryContextAlloc(own_context(), sizeof(OpenRange));
	else
		open = dlist_container(OpenRange, node, dlist_pop_head_node(&free_ranges));
	dlist_push_tail(&open_ranges, &open->node);
	open->number = next_number++;
	open->sub = GetCurrentSubTransactionId();
	open->index = reads;
	open->range = *range;
	*read = (RangeRead){open->number, open};
}

void
reads_end_range(RangeRead *read, const KeyRange *range)
{
	OpenRange *open = open_range(read);

	if (open)
		settle_range(open, range);
	read->number = 0;
}

void
reads_subabort(SubTransactionId sub)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &open_ranges)
	{
		OpenRange *open = dlist_container(OpenRange, node, iter.cur);

		if (open->sub >= sub)
			settle_range(open, NULL);
	}
}

void
reads_subcommit(SubTransactionId sub, SubTransactionId parent)
{
	dlist_iter iter;

	dlist_foreach(iter, &open_ranges)
	{
		OpenRange *open = dlist_container(OpenRange, node, iter.cur);

		if (open->sub >= sub)
			open->sub = parent;
	}
}

bool
reads_of_table(uint64 table)
{
	ListCell *lc;

	foreach (lc, indexes)
		if (((IndexReads *) lfirst(lc))->table == table)
			return true;
	return false;
}

/* ------------------------------------------------------------------------------------ the record */

void
reads_note_current(void)
{
	current = true;
}

bool
reads_are_current(void)
{
	return current;
}

bool
reads_any(void)
{
	return indexes != NIL;
}

int
reads_count_claims(void)
{
	return 2 * list_length(indexes);
}

/* So that a rewrite or TRUNCATE of the table conflicts, whose new storages nobody has read. */
static void
claim_table(S3am__Txn *txn, uint64 storage, uint64 base)
{
	S3am__ReadClaim *claim;

	for (size_t i = 0; i < txn->n_reads; i++)
		if (txn->reads[i]->storage == storage)
			return;
	claim = palloc(sizeof(*claim));
	s3am__read_claim__init(claim);
	claim->storage = storage;
	claim->base_version = base;
	txn->reads[txn->n_reads++] = claim;
}

void
reads_record(S3Node *node, S3am__Txn *txn)
{
	ListCell *lc;
	dlist_iter iter;

	dlist_foreach(iter, &open_ranges)
	{
		OpenRange *open = dlist_container(OpenRange, node, iter.cur);

		key_ranges_add(&open->index->ranges, &open->range);
	}
	foreach (lc, indexes)
	{
		IndexReads *reads = lfirst(lc);
		S3am__ReadClaim *claim = palloc(sizeof(*claim));

		s3am__read_claim__init(claim);
		claim->storage = reads->storage;
		claim->base_version = txn_base_of_position(node, reads->pos);
		claim->n_ranges = key_ranges_write(&reads->ranges, &claim->ranges);
		txn->reads[txn->n_reads++] = claim;
		claim_table(txn, reads->table, claim->base_version);
	}
}

void
reads_reset(void)
{
	/* all of it goes with own_context() */
	indexes = NIL;
	dlist_init(&open_ranges);
	dlist_init(&free_ranges);
	first_number = next_number;
	current = false;
}
