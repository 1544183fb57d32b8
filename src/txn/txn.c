/*
 * txn.c: rows that the current transaction added and removed, and their undoing with subtransactions.
 *
 * Everything lives in one memory context that goes with the transaction.  Rows are numbered in the order of insertion, so those of a
 * rolled back subtransaction are the tail of each table: it is enough to remember how many there were before.  Removals are noted
 * one by one, neighbours together.  Nothing is noted outside of subtransactions, since everything goes with the transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relfilenodemap.h"

#include "ddl/ddl.h"
#include "index/index.h"
#include "manifest/rowset.h"
#include "s3am.h"
#include "txn/commit.h"
#include "txn/endfile.h"
#include "txn/own.h"
#include "txn/reads.h"
#include "txn/rowlock.h"
#include "txn/txn.h"

/* Rows read one by one that are claimed exactly; more of them are claimed with their table (design.md 4). */
#define READ_ROWS_MAX 65536

/* Of notes that leave memory: whole blocks. */
#define UNDO_BLOCKS 160
#define UNDO_PORTION (UNDO_BLOCKS * BLCKSZ / sizeof(Undo))

typedef struct Undo
{
	SubTransactionId sub;
	bool end; /* rows were removed; otherwise, rows were added from `first` on */
	TxnTable *table;
	uint64 first, count;
} Undo;

StaticAssertDecl(UNDO_PORTION * sizeof(Undo) == UNDO_BLOCKS * BLCKSZ, "a portion of notes is whole blocks");

static MemoryContext own_cxt;
static List *tables; /* of TxnTable, few */
static TxnTable *last_table;
static Undo *undo; /* the newest */
static uint64 nundo, undo_capacity;
static BufFile *undo_file; /* older ones, in portions of UNDO_PORTION */
static uint64 undo_portions;
static uint64 desc_generation = 1; /* grows whenever a relation's definition may have changed */

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

/* The older half of what is in memory goes to a file, from which it comes back only if it is undone. */
static void
file_undo(void)
{
	if (undo_file == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(own_context());

		undo_file = endfiles_open();
		MemoryContextSwitchTo(old);
	}
	if (BufFileSeekBlock(undo_file, (long) (undo_portions * UNDO_BLOCKS)) != 0)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not seek in a temporary file")));
	BufFileWrite(undo_file, undo, UNDO_PORTION * sizeof(Undo));
	/* writes all of it: a full disk must not be noticed while a subtransaction is rolled back */
	(void) BufFileRead(undo_file, undo, 0);
	undo_portions++;
	nundo -= UNDO_PORTION;
	memmove(undo, undo + UNDO_PORTION, nundo * sizeof(Undo));
}

/* The newest note, or NULL. */
static Undo *
last_undo(void)
{
	if (nundo == 0 && undo_portions > 0)
	{
		if (BufFileSeekBlock(undo_file, (long) ((undo_portions - 1) * UNDO_BLOCKS)) != 0 ||
			BufFileRead(undo_file, undo, UNDO_PORTION * sizeof(Undo)) != UNDO_PORTION * sizeof(Undo))
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not read from a temporary file")));
		undo_portions--;
		nundo = UNDO_PORTION;
	}
	return nundo > 0 ? &undo[nundo - 1] : NULL;
}

static void
push_undo(SubTransactionId sub, TxnTable *table, bool end, uint64 first, uint64 count)
{
	if (nundo == 2 * UNDO_PORTION)
		file_undo();
	if (nundo == undo_capacity)
	{
		uint64 capacity = undo_capacity ? undo_capacity * 2 : 64;

		undo =
			undo ? repalloc(undo, capacity * sizeof(Undo)) : MemoryContextAlloc(own_context(), capacity * sizeof(Undo));
		undo_capacity = capacity;
	}
	undo[nundo++] = (Undo){sub, end, table, first, count};
}

/* The current subtransaction is about to add a row. */
static void
note_insert(TxnTable *table)
{
	SubTransactionId sub = GetCurrentSubTransactionId();

	if (sub == TopSubTransactionId)
		return;
	/* what this subtransaction noted last is enough if it is this */
	for (uint64 i = nundo; i > 0 && i + 4 > nundo && undo[i - 1].sub == sub; i--)
		if (undo[i - 1].table == table && !undo[i - 1].end)
			return;
	push_undo(sub, table, false, table->rows.nrows, 0);
}

/* ... to remove one. */
static void
note_end(TxnTable *table, uint64 row)
{
	SubTransactionId sub = GetCurrentSubTransactionId();

	if (sub == TopSubTransactionId)
		return;
	for (uint64 i = nundo; i > 0 && i + 4 > nundo && undo[i - 1].sub == sub; i--)
		if (undo[i - 1].table == table && undo[i - 1].end && undo[i - 1].first + undo[i - 1].count == row)
		{
			undo[i - 1].count++;
			return;
		}
	push_undo(sub, table, true, row, 1);
}

TxnTable *
txn_table(uint64 storage)
{
	ListCell *lc;

	if (last_table && last_table->storage == storage)
		return last_table;
	foreach (lc, tables)
	{
		TxnTable *table = lfirst(lc);

		if (table->storage == storage)
			return last_table = table;
	}
	return NULL;
}

static TxnTable *
make_table(Relation rel)
{
	StorageId id = storage_of(rel);
	TxnTable *table = txn_table(id.storage);

	if (table == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(own_context());

		table = palloc0(sizeof(TxnTable));
		table->storage = id.storage;
		table->table = id.table;
		table->tablespace = rel->rd_rel->reltablespace;
		table->relfilenode = rel->rd_node.relNode;
		ownrows_init(&table->rows, own_context());
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
	TxnTable *table;

	/* the leader of a parallel plan may: CREATE TABLE AS, REFRESH; no worker looks at what it fills */
	if (IsParallelWorker())
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_STATE),
						errmsg("cannot write to s3am tables in a parallel worker")));
	txn_check_doomed();
	if (IsolationIsSerializable())
		txn_check_reads();
	table = make_table(rel);
	table->touched = true;
	return table;
}

static bool
has_changes(const TxnTable *table)
{
	return table->rows.nrows > 0 || ownends_count(table->ends) > 0;
}

bool
txn_writes(void)
{
	ListCell *lc;

	foreach (lc, tables)
		if (has_changes(lfirst(lc)))
			return true;
	return false;
}

bool
txn_writes_to(Relation rel)
{
	const TxnTable *table = txn_table(storage_of(rel).storage);

	return table && has_changes(table);
}

static void
definition_changed(Datum arg, Oid relid)
{
	desc_generation++;
}

void
own_init(void)
{
	CacheRegisterRelcacheCallback(definition_changed, (Datum) 0);
}

static void
keep_desc(TxnTable *table, TupleDesc desc)
{
	MemoryContext old;

	if (table->desc && equalTupleDescs(table->desc, desc))
		return;
	old = MemoryContextSwitchTo(own_context());
	if (table->desc)
		FreeTupleDesc(table->desc);
	table->desc = CreateTupleDescCopyConstr(desc);
	table->desc_version++;
	table->not_ahead = false;
	MemoryContextSwitchTo(old);
}

/*
 * A column may have been dropped, or even its type, since the last row was added.  Nobody else can change a table that this
 * transaction wrote.
 */
void
own_refresh_desc(TxnTable *table)
{
	Oid relid;
	Relation rel;

	if (table->desc == NULL || table->desc_generation == desc_generation)
		return;
	/* a rewrite reads them by the old definition while the catalogs have the new one */
	if (commit_storage_is_replaced(table->table, table->storage))
		return;
	relid = RelidByRelfilenode(table->tablespace, table->relfilenode);
	if (!OidIsValid(relid))
		return;
	rel = table_open(relid, NoLock);
	keep_desc(table, RelationGetDescr(rel));
	table->desc_generation = desc_generation;
	table_close(rel, NoLock);
}

/* Before a row is added. */
static inline void
about_to_insert(Relation rel, TxnTable *table)
{
	if (table->desc_generation != desc_generation)
	{
		/* rows formed by an older descriptor have fewer attributes, never others: changes of type rewrite */
		keep_desc(table, RelationGetDescr(rel));
		table->desc_generation = desc_generation;
	}
	note_insert(table);
}

uint64
txn_insert(Relation rel, TxnTable *table, MinimalTuple tuple, CommandId cid)
{
	uint64 row;

	about_to_insert(rel, table);
	row = OWN_BASE + ownrows_add(&table->rows, tuple, cid);
	if (spill_is_due())
		spill();
	return row;
}

bool
txn_insert_values(Relation rel, TxnTable *table, TupleDesc desc, Datum *values, bool *nulls, CommandId cid, uint64 *row)
{
	about_to_insert(rel, table);
	*row = OWN_BASE + table->rows.nrows;
	if (!ownrows_form(&table->rows, desc, values, nulls, cid))
		return false;
	if (spill_is_due())
		spill();
	return true;
}

bool
txn_has_row(TxnTable *table, uint64 row)
{
	return table && row - OWN_BASE < table->rows.nrows;
}

bool
txn_row_end(TxnTable *table, uint64 row, OwnEnd *end)
{
	return table && ownends_get(table->ends, row, end);
}

void
txn_next_tid(uint64 row, const OwnEnd *end, ItemPointer next)
{
	if (NEXT_IS_ROW(end->next))
		row_to_tid(OWN_BASE + end->next, next);
	else
	{
		row_to_tid(row, next);
		if (end->next == NEXT_MOVED)
			ItemPointerSetMovedPartitions(next);
	}
}

void
txn_end(TxnTable *table, uint64 row, CommandId cid, bool key, ItemPointer next)
{
	OwnEnd end = {cid, key, NEXT_NONE};

	if (next && ItemPointerIndicatesMovedPartitions(next))
		end.next = NEXT_MOVED;
	else if (next)
	{
		OwnEnd origin = {FirstCommandId, false, row};

		end.next = tid_to_row(next) - OWN_BASE;
		if (!ROW_IS_OWN(row) || txn_origin(table, row, &origin.next))
		{
			if (table->origins == NULL)
				table->origins = ownends_create(own_context());
			ownends_add(table->origins, end.next, &origin);
		}
	}
	if (table->ends == NULL)
		table->ends = ownends_create(own_context());
	/* first: what is noted and not there is undone for nothing, the reverse would stay */
	note_end(table, row);
	ownends_add(table->ends, row, &end);
}

void
txn_kill(TxnTable *table, uint64 row, CommandId cid)
{
	/* gone in the command that added it: no snapshot ever sees it */
	txn_end(table, row, cid, true, NULL);
}

bool
txn_origin(TxnTable *table, uint64 row, uint64 *origin)
{
	OwnEnd end;

	if (table == NULL || !ownends_get(table->origins, row - OWN_BASE, &end))
		return false;
	*origin = end.next;
	return true;
}

/* Row n and all after it never were. */
static void
forget_rows(TxnTable *table, uint64 n)
{
	if (table->origins && n < table->rows.nrows)
		ownends_remove(table->origins, n, table->rows.nrows - n);
	spill_forget(table, n);
	own_index_forget_rows(table->storage, n);
	ownrows_truncate(&table->rows, n, spill_drop);
}

/* TRUNCATE of a table whose storage this very subtransaction made: nobody can want the rows back. */
void
txn_truncate(TxnTable *table)
{
	forget_rows(table, 0);
	ownends_free(table->ends);
	table->ends = NULL;
}

void
own_subabort(SubTransactionId sub)
{
	Undo *u;

	while ((u = last_undo()) != NULL && u->sub >= sub)
	{
		nundo--;
		if (!u->end)
			forget_rows(u->table, u->first);
		else if (u->table->ends)
			ownends_remove(u->table->ends, u->first, u->count);
	}
}

void
own_subcommit(SubTransactionId sub, SubTransactionId parent)
{
	uint64 first = nundo;
	uint64 kept;

	/* the whole transaction goes, or nothing: all notes are of children of the top */
	if (parent == TopSubTransactionId)
	{
		nundo = undo_portions = 0;
		return;
	}
	/* notes in the file keep their number, which is greater than that of any subtransaction they can be undone with */
	while (first > 0 && undo[first - 1].sub >= sub)
		first--;
	kept = first;
	for (uint64 i = first; i < nundo; i++)
	{
		Undo *u = &undo[i];
		bool covered = false;

		u->sub = parent;
		/* a loop of subtransactions leaves no trail where the parent's own note says it all */
		if (!u->end)
			for (uint64 j = kept; j > 0 && j + 4 > kept && undo[j - 1].sub == parent && !covered; j--)
				covered = undo[j - 1].table == u->table && !undo[j - 1].end;
		if (!covered)
			undo[kept++] = *u;
	}
	nundo = kept;
}

/* The transaction is over; its memory goes with TopTransactionContext. */
void
own_reset(void)
{
	ListCell *lc;

	foreach (lc, tables)
		rowset_free(((TxnTable *) lfirst(lc))->read_rows);
	endfiles_release();
	own_cxt = NULL;
	tables = NIL;
	last_table = NULL;
	undo = NULL;
	nundo = undo_capacity = 0;
	undo_file = NULL;
	undo_portions = 0;
	ownrows_reset();
	spill_due = 0;
}

/*
 * A transaction that has written and reads a row that has ended since its snapshot cannot commit.  Those that have not written are as good as
 * done before that.
 */
static void
check_stale(const TxnTable *table, uint64 pos, uint64 row)
{
	S3Node *node = node_wait_ready();
	TableState *state = state_table(node, table->storage);
	uint64 changed = state ? pg_atomic_read_u64(&state->changed) : 0;
	RowEnd end;

	if (changed > pos && txn_writes() && state_row_ended(node, state, row, &end))
		txn_fail_reads(POS_VERSION(changed));
}

void
txn_read_table(Relation rel, uint64 pos)
{
	TxnTable *table;

	if (!reads_count())
		return;
	table = make_table(rel);
	if (table->read_all)
		return;
	/* a coarse claim keeps the oldest position of those it replaces */
	table->read_pos = table->read_rows || table->read_added ? Min(table->read_pos, pos) : pos;
	table->read_all = true;
	rowset_free(table->read_rows);
	table->read_rows = NULL;
}

void
txn_read_row(Relation rel, uint64 row, uint64 pos)
{
	TxnTable *table;

	if (!reads_count())
		return;
	table = make_table(rel);
	if (table->read_all)
		return;
	if (table->read_rows == NULL)
	{
		table->read_rows = rowset_create();
		if (!table->read_added)
			table->read_pos = pos;
	}
	table->read_pos = Min(table->read_pos, pos);
	if (!rowset_contains(table->read_rows, row))
	{
		check_stale(table, pos, row);
		rowset_add(table->read_rows, row);
		if (++table->nread_rows > READ_ROWS_MAX)
			txn_read_table(rel, pos);
	}
}

void
txn_read_absent(Relation rel, uint64 pos)
{
	TxnTable *table;

	if (!reads_count())
		return;
	table = make_table(rel);
	table->read_pos = table->read_all || table->read_rows || table->read_added ? Min(table->read_pos, pos) : pos;
	table->read_added = true;
}

static bool
row_is_there(void *arg, uint64_t row)
{
	TableState *state = ((void **) arg)[1];
	RowEnd end;

	if (!state_row_ended(((void **) arg)[0], state, row, &end))
		return true;
	((void **) arg)[2] = state;
	return false;
}

uint64
txn_reads_changed(S3Node *node)
{
	ListCell *lc;

	foreach (lc, tables)
	{
		TxnTable *table = lfirst(lc);
		TableState *state;
		uint64 changed;
		void *arg[3] = {node, NULL, NULL};

		if (!table->read_all && table->read_rows == NULL)
			continue;
		state = state_table(node, table->storage);
		changed = state ? pg_atomic_read_u64(&state->changed) : 0;
		if (changed <= table->read_pos)
			continue;
		if (table->read_all)
			return POS_VERSION(changed);
		/* this is about failing early: rows that were added since may wait until they are worth a look */
		if (changed == table->reads_checked && table->nread_rows <= table->nreads_checked + table->nreads_checked / 4)
			continue;
		table->reads_checked = changed;
		table->nreads_checked = table->nread_rows;
		arg[1] = state;
		rowset_each(table->read_rows, row_is_there, arg);
		if (arg[2] != NULL)
			return POS_VERSION(changed);
	}
	return 0;
}
