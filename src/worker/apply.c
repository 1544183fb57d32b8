/*
 * apply.c: one transaction of a manifest, into the shared state and against local claims.
 */
#include "postgres.h"

#include <roaring/roaring.h>

#include "storage/proc.h"
#include "utils/memutils.h"

#include "manifest/successors.h"
#include "node/state.h"
#include "txn/rowlock.h"
#include "txn/txn.h"
#include "worker/apply.h"

/* ------------------------------------------------------------------------------------ row sets */

typedef void (*RowEach)(void *arg, uint64 row);

typedef struct PartEach
{
	RowEach each;
	void *arg;
	uint64 high;
} PartEach;

static bool
part_each(uint32_t low, void *arg)
{
	PartEach *p = arg;

	p->each(p->arg, p->high << 32 | low);
	return true;
}

static void
rowset_each(const S3am__RowSet *set, RowEach each, void *arg)
{
	if (set == NULL)
		return;
	for (size_t i = 0; i < set->n_parts; i++)
	{
		roaring_bitmap_t *bitmap = roaring_bitmap_portable_deserialize_safe((const char *) set->parts[i]->bitmap.data,
																			set->parts[i]->bitmap.len);
		PartEach p = {each, arg, set->parts[i]->high};

		if (bitmap == NULL)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a set of rows in a manifest cannot be decoded")));
		(void) roaring_iterate(bitmap, part_each, &p);
		roaring_bitmap_free(bitmap);
	}
}

/* ------------------------------------------------------------------------------------ rows */

typedef struct EndContext
{
	S3Node *node;
	const S3am__Txn *txn;
	const S3am__TableEdit *edit;
	TableState *table;
	uint64 version;
	uint64 pos;
	Successors successors;
	LockTupleMode mode;
	int own_proc;
	uint64 own_owner;
} EndContext;

/* The row id that a manifest's successor number stands for, as RowEnd has it. */
static uint64
next_successor(EndContext *c)
{
	uint64 n = successors_next(&c->successors);

	if (n == 0)
		return ROW_NONE;
	if (n == 1)
		return ROW_MOVED;
	return c->edit->first_row + (n - 2) + 1;
}

static void
end_row(void *arg, uint64 row)
{
	EndContext *c = arg;

	state_ends_add(row, next_successor(c));
}

static void
end_born_dead(void *arg, uint64 row)
{
	EndContext *c = arg;

	state_ends_add(c->edit->first_row + row, ROW_NONE);
}

void
apply_rows(S3Node *node, const S3am__Txn *txn, uint64 version, uint64 pos)
{
	for (size_t i = 0; i < txn->n_storages; i++)
	{
		if (txn->storages[i]->create)
			state_add_table(node, txn->storages[i]->create, txn->storages[i]->table, pos)->same_rows =
				txn->storages[i]->same_rows;
		if (txn->storages[i]->drop)
			state_drop_table(node, txn->storages[i]->drop, pos);
	}
	for (size_t i = 0; i < txn->n_tables; i++)
	{
		const S3am__TableEdit *edit = txn->tables[i];
		TableState *table = state_table(node, edit->storage);
		uint64 row = edit->first_row;
		const S3am__BatchSchema *schema = NULL;
		EndContext c = {node, txn, edit, table, version, pos, {edit, 0, 0}};

		if (table == NULL)
			table = c.table = state_add_table(node, edit->storage, edit->storage, pos);
		if (edit->rows_of)
			table->rows_of = edit->rows_of;
		if (edit->n_drop_batches > 0)
		{
			/* the rows are what they were, so nothing has changed for those that watch the table */
			state_replace_batches(node, table, edit, pos, txn->xmin);
			continue;
		}
		for (size_t b = 0; b < edit->n_batches; b++)
		{
			if (edit->batches[b]->schema)
				schema = edit->batches[b]->schema;
			if (row >= pg_atomic_read_u64(&table->next_row))
				state_add_batch(node, table, edit->batches[b], schema, row, pos, txn->xmin);
			row += edit->batches[b]->nrows;
		}
		state_ends_begin(node, table, pos);
		rowset_each(edit->dead, end_born_dead, &c);
		rowset_each(edit->removed, end_row, &c);
		rowset_each(edit->replaced, end_row, &c);
		state_ends_finish();
		pg_atomic_write_u64(&table->changed, pos);
		if (txn->id && txn->id->epoch != pg_atomic_read_u64(&node->epoch))
			pg_atomic_write_u64(&table->changed_elsewhere, pos);
	}
}

/* ------------------------------------------------------------------------------------ claims */

static void
doom(void *arg, int proc, uint64 owner)
{
	EndContext *c = arg;
	NodeBackend *backend = node_backend(proc);

	if (pg_atomic_read_u64(&backend->owner) != owner)
		return;
	backend->doomed_by = c->version;
	pg_write_barrier();
	pg_atomic_write_u32(&backend->doomed, DOOM_ALL);
}

static void
claim_row(void *arg, uint64 row)
{
	EndContext *c = arg;
	uint64 successor = c->edit ? next_successor(c) : ROW_NONE;

	/* a weak claim goes on to the successor of a compatible update; without one there is nothing to go on to */
	rowlock_publish(c->edit ? c->edit->storage : c->table->storage, row, c->mode, c->version,
					successor == ROW_NONE || successor == ROW_MOVED ? 0 : successor - 1, c->own_proc, c->own_owner,
					doom, c);
}

void
apply_claims(S3Node *node, const S3am__Txn *txn, uint64 version, bool own)
{
	EndContext c = {node, txn, NULL, NULL, version, 0, {NULL, 0, 0}};

	c.own_proc = -1;
	if (own)
		for (int i = 0; i < ProcGlobal->allProcCount; i++)
			if (pg_atomic_read_u64(&node_backend(i)->commit_seq) == txn->id->seq)
			{
				c.own_proc = i;
				c.own_owner = pg_atomic_read_u64(&node_backend(i)->owner);
			}
	for (size_t i = 0; i < txn->n_tables; i++)
	{
		c.edit = txn->tables[i];
		c.successors = (Successors){c.edit, 0, 0};
		c.mode = LockTupleExclusive;
		rowset_each(c.edit->removed, claim_row, &c);
		c.mode = LockTupleNoKeyExclusive;
		rowset_each(c.edit->replaced, claim_row, &c);
	}
	c.edit = NULL;
	for (size_t i = 0; i < txn->n_rows; i++)
	{
		static const LockTupleMode modes[] = {LockTupleKeyShare, LockTupleShare, LockTupleNoKeyExclusive,
											  LockTupleExclusive};

		c.table = state_table(node, txn->rows[i]->storage);
		c.mode = modes[txn->rows[i]->mode & 3];
		if (c.table)
			rowset_each(txn->rows[i]->rows, claim_row, &c);
	}
}
