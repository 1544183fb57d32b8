/*
 * txn.c: rows that the current transaction added and removed, and their undoing with subtransactions.
 *
 * Everything lives in one memory context that goes with the transaction.  The undo list is in order of time and carries the
 * subtransaction of each change: what is undone is always its tail (a committed subtransaction's entries are relabelled as its
 * parent's).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "ddl/ddl.h"
#include "s3am.h"
#include "txn/commit.h"
#include "txn/own.h"
#include "txn/rowlock.h"
#include "txn/txn.h"

#define SH_PREFIX ownends
#define SH_ELEMENT_TYPE OwnEnd
#define SH_KEY_TYPE uint64
#define SH_KEY row
#define SH_HASH_KEY(tb, key) ((uint32) (((key) * UINT64CONST(0x9E3779B97F4A7C15)) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE extern
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef enum UndoKind
{
	UNDO_INSERT,
	UNDO_END_OWN,
	UNDO_END_COMMITTED
} UndoKind;

typedef struct Undo
{
	UndoKind	kind;
	SubTransactionId sub;
	TxnTable   *table;
	uint64		row;
} Undo;

static MemoryContext own_cxt;
static List *tables;			/* of TxnTable, few */
static TxnTable *last_table;
static Undo *undo;
static uint64 nundo,
			undo_capacity;

List *
own_tables(void)
{
	return tables;
}

MemoryContext
own_context(void)
{
	if (own_cxt == NULL)
		own_cxt = AllocSetContextCreate(TopTransactionContext, "s3am transaction", ALLOCSET_DEFAULT_SIZES);
	return own_cxt;
}

static void
push_undo(UndoKind kind, TxnTable *table, uint64 row)
{
	Undo	   *u;

	if (nundo == undo_capacity)
	{
		undo_capacity = undo_capacity ? undo_capacity * 2 : 64;
		undo = undo ? repalloc_huge(undo, undo_capacity * sizeof(Undo))
			: MemoryContextAllocHuge(own_context(), undo_capacity * sizeof(Undo));
	}
	u = &undo[nundo++];
	u->kind = kind;
	u->sub = GetCurrentSubTransactionId();
	u->table = table;
	u->row = row;
}

TxnTable *
txn_table(uint64 storage)
{
	ListCell   *lc;

	if (last_table && last_table->storage == storage)
		return last_table;
	foreach(lc, tables)
	{
		TxnTable   *table = lfirst(lc);

		if (table->storage == storage)
			return last_table = table;
	}
	return NULL;
}

static TxnTable *
make_table(Relation rel)
{
	StorageId	id = storage_of(rel);
	TxnTable   *table = txn_table(id.storage);

	if (table == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(own_context());

		table = palloc0(sizeof(TxnTable));
		table->storage = id.storage;
		table->table = id.table;
		table->relid = RelationGetRelid(rel);
		table->created = commit_storage_is_new(id.storage);
		tables = lappend(tables, table);
		MemoryContextSwitchTo(old);
		last_table = table;
	}
	return table;
}

TxnTable *
txn_table_for_write(Relation rel)
{
	TxnTable   *table;

	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot write to s3am tables during a parallel operation")));
	txn_check_doomed();
	table = make_table(rel);
	table->touched = true;
	return table;
}

bool
txn_writes(void)
{
	return nundo > 0;
}

uint64
txn_insert(Relation rel, TxnTable *table, HeapTuple tuple, CommandId cid, bool speculative)
{
	MemoryContext old = MemoryContextSwitchTo(own_context());
	OwnRow	   *row;

	if (table->nrows == table->capacity)
	{
		table->capacity = table->capacity ? table->capacity * 2 : 16;
		table->rows = table->rows ? repalloc_huge(table->rows, table->capacity * sizeof(OwnRow))
			: MemoryContextAllocHuge(own_context(), table->capacity * sizeof(OwnRow));
	}
	/* rows formed by an older descriptor have fewer attributes, never others: changes of type rewrite */
	if (table->desc == NULL || table->desc->natts != RelationGetDescr(rel)->natts)
		table->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	row = &table->rows[table->nrows];
	row->tuple = heap_copytuple(tuple);
	row->cmin = cid;
	row->cmax = InvalidCommandId;
	row->sub = GetCurrentSubTransactionId();
	row->speculative = speculative;
	row_to_tid(OWN_BASE + table->nrows, &row->next);
	table->bytes += tuple->t_len;
	table->nrows++;
	MemoryContextSwitchTo(old);
	push_undo(UNDO_INSERT, table, OWN_BASE + table->nrows - 1);
	return OWN_BASE + table->nrows - 1;
}

OwnRow *
txn_own_row(TxnTable *table, uint64 row)
{
	OwnRow	   *own;

	if (table == NULL || row - OWN_BASE >= table->nrows)
		return NULL;
	own = &table->rows[row - OWN_BASE];
	return own->tuple ? own : NULL;
}

void
txn_confirm(TxnTable *table, uint64 row, bool succeeded)
{
	OwnRow	   *own = txn_own_row(table, row);

	if (own == NULL)
		elog(ERROR, "speculative row is gone");
	own->speculative = false;
	if (!succeeded)
		own->tuple = NULL;
}

void
txn_end_own(TxnTable *table, uint64 row, CommandId cid, ItemPointer next)
{
	OwnRow	   *own = &table->rows[row - OWN_BASE];

	own->cmax = cid;
	if (next)
		own->next = *next;
	push_undo(UNDO_END_OWN, table, row);
}

OwnEnd *
txn_own_end(TxnTable *table, uint64 row)
{
	return table && table->ends ? ownends_lookup(table->ends, row) : NULL;
}

void
txn_end_committed(TxnTable *table, uint64 row, CommandId cid, bool key, ItemPointer next)
{
	bool		found;
	OwnEnd	   *end;

	if (table->ends == NULL)
		table->ends = ownends_create(own_context(), 64, NULL);
	end = ownends_insert(table->ends, row, &found);
	Assert(!found);
	end->key = key;
	end->cmax = cid;
	end->sub = GetCurrentSubTransactionId();
	if (next)
		end->next = *next;
	else
		row_to_tid(row, &end->next);
	push_undo(UNDO_END_COMMITTED, table, row);
}

/* TRUNCATE of a table whose storage this very subtransaction made: nobody can want the rows back. */
void
txn_truncate(TxnTable *table)
{
	for (uint64 i = 0; i < table->nrows; i++)
		table->rows[i].tuple = NULL;
}

void
own_subabort(SubTransactionId sub)
{
	while (nundo > 0 && undo[nundo - 1].sub >= sub)
	{
		Undo	   *u = &undo[--nundo];

		switch (u->kind)
		{
			case UNDO_INSERT:
				u->table->rows[u->row - OWN_BASE].tuple = NULL;
				break;
			case UNDO_END_OWN:
				{
					OwnRow	   *own = &u->table->rows[u->row - OWN_BASE];

					own->cmax = InvalidCommandId;
					row_to_tid(u->row, &own->next);
				}
				break;
			case UNDO_END_COMMITTED:
				ownends_delete(u->table->ends, u->row);
				break;
		}
	}
}

void
own_subcommit(SubTransactionId sub, SubTransactionId parent)
{
	for (uint64 i = nundo; i > 0 && undo[i - 1].sub >= sub; i--)
		undo[i - 1].sub = parent;
}

/* The transaction is over; its memory goes with TopTransactionContext. */
void
own_reset(void)
{
	own_cxt = NULL;
	tables = NIL;
	last_table = NULL;
	undo = NULL;
	nundo = undo_capacity = 0;
}

void
txn_read_table(Relation rel, uint64 base)
{
	TxnTable   *table = make_table(rel);

	if (!table->read_all)
	{
		table->read_all = true;
		table->read_base = base;
	}
}

static int
compare_ends(const void *a, const void *b)
{
	uint64		x = (*(OwnEnd *const *) a)->row,
				y = (*(OwnEnd *const *) b)->row;

	return x < y ? -1 : x > y;
}

OwnEnd **
own_sorted_ends(TxnTable *table, uint64 *n)
{
	ownends_iterator it;
	OwnEnd	   *end;
	OwnEnd	  **sorted;

	*n = 0;
	if (table->ends == NULL)
		return NULL;
	sorted = MemoryContextAllocHuge(CurrentMemoryContext, Max(table->ends->members, 1) * sizeof(OwnEnd *));
	ownends_start_iterate(table->ends, &it);
	while ((end = ownends_iterate(table->ends, &it)) != NULL)
		sorted[(*n)++] = end;
	qsort(sorted, *n, sizeof(OwnEnd *), compare_ends);
	return sorted;
}
