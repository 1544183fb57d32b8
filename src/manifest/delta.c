/*
 * delta.c: see delta.h.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest/delta.h"
#include "manifest/memory.h"

Delta *
delta_create(void)
{
	return memory_need_zeroed(1, sizeof(Delta));
}

static void
free_table(DeltaTable *t)
{
	for (size_t i = 0; i < t->nbatches; i++)
		s3am__batch_state__free_unpacked(t->batches[i], NULL);
	free(t->batches);
	free(t->drops);
	rowset_free(t->removed);
	free(t);
}

void
delta_free(Delta *d)
{
	if (d == NULL)
		return;
	for (size_t i = 0; i < d->ntables; i++)
		free_table(d->tables[i]);
	for (size_t i = 0; i < d->nddl; i++)
		s3am__ddl_entry__free_unpacked(d->ddl[i], NULL);
	for (size_t i = 0; i < d->ndropped; i++)
		s3am__dropped__free_unpacked(d->dropped[i], NULL);
	for (size_t i = 0; i < d->nsequences; i++)
		s3am__sequence_state__free_unpacked(d->sequences[i], NULL);
	free(d->sequences);
	free(d->tables);
	free(d->ddl);
	free(d->dropped);
	free(d);
}

size_t
delta_from(const Delta *d, uint64_t storage)
{
	size_t low = 0, high = d->ntables;

	while (low < high)
	{
		size_t middle = (low + high) / 2;

		if (d->tables[middle]->storage < storage)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void *
grow(void *list, size_t n, size_t *capacity, size_t size)
{
	if (n < *capacity)
		return list;
	*capacity = *capacity ? *capacity * 2 : 8;
	return memory_grow(list, *capacity * size);
}

static DeltaTable *
table_of(Delta *d, uint64_t storage)
{
	size_t i = delta_from(d, storage);
	DeltaTable *t;

	if (i < d->ntables && d->tables[i]->storage == storage)
		return d->tables[i];
	d->tables = grow(d->tables, d->ntables, &d->capacity, sizeof(void *));
	memmove(&d->tables[i + 1], &d->tables[i], (d->ntables - i) * sizeof(void *));
	d->ntables++;
	t = d->tables[i] = memory_need_zeroed(1, sizeof(*t));
	t->storage = storage;
	t->removed = rowset_create();
	d->bytes += 200;
	return t;
}

void
delta_dropped(Delta *d, const S3am__SegmentRef *segment, uint64_t version)
{
	S3am__Dropped *g = memory_need(sizeof(*g));

	s3am__dropped__init(g);
	g->epoch = segment->epoch;
	g->number = segment->number;
	g->version = version;
	d->dropped = grow(d->dropped, d->ndropped, &d->dropped_capacity, sizeof(void *));
	d->dropped[d->ndropped++] = g;
}

static size_t
batch_from(const DeltaTable *t, uint64_t row)
{
	size_t low = 0, high = t->nbatches;

	while (low < high)
	{
		size_t middle = (low + high) / 2;

		if (t->batches[middle]->first_row < row)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static size_t
drop_from(const DeltaTable *t, uint64_t row)
{
	size_t low = 0, high = t->ndrops;

	while (low < high)
	{
		size_t middle = (low + high) / 2;

		if (t->drops[middle].first_row < row)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool
delta_touches(const DeltaTable *t, uint64_t first, uint64_t end)
{
	size_t i = batch_from(t, first);

	if (t->dropped || (i < t->nbatches && t->batches[i]->first_row < end))
		return true;
	i = drop_from(t, first);
	if (i < t->ndrops && t->drops[i].first_row < end)
		return true;
	return rowset_any(t->removed, first, end);
}

static void
drop_batch(Delta *d, DeltaTable *t, uint64_t first_row, uint64_t version)
{
	size_t i = batch_from(t, first_row);

	if (i < t->nbatches && t->batches[i]->first_row == first_row)
	{
		if (t->batches[i]->batch->segment)
			delta_dropped(d, t->batches[i]->batch->segment, version);
		s3am__batch_state__free_unpacked(t->batches[i], NULL);
		t->nbatches--;
		memmove(&t->batches[i], &t->batches[i + 1], (t->nbatches - i) * sizeof(void *));
		return;
	}
	i = drop_from(t, first_row);
	t->drops = grow(t->drops, t->ndrops, &t->drop_capacity, sizeof(DeltaDrop));
	memmove(&t->drops[i + 1], &t->drops[i], (t->ndrops - i) * sizeof(DeltaDrop));
	t->ndrops++;
	t->drops[i] = (DeltaDrop){first_row, version};
}

/* A storage is dropped: with it what was added since the last checkpoint. */
static void
drop_table(Delta *d, DeltaTable *t, uint64_t version)
{
	t->dropped = version;
	for (size_t i = 0; i < t->nbatches; i++)
	{
		if (t->batches[i]->batch->segment)
			delta_dropped(d, t->batches[i]->batch->segment, version);
		s3am__batch_state__free_unpacked(t->batches[i], NULL);
	}
	t->nbatches = 0;
}

static void
add_batch(Delta *d, DeltaTable *t, S3am__Batch *batch, uint64_t first_row, uint64_t version, uint32_t xmin)
{
	S3am__BatchState *state = memory_need(sizeof(*state));
	size_t i = batch_from(t, first_row);

	s3am__batch_state__init(state);
	state->first_row = first_row;
	state->version = version;
	state->xmin = xmin;
	state->batch = batch;
	t->batches = grow(t->batches, t->nbatches, &t->capacity, sizeof(void *));
	memmove(&t->batches[i + 1], &t->batches[i], (t->nbatches - i) * sizeof(void *));
	t->nbatches++;
	t->batches[i] = state;
	d->bytes += 100 + batch->rows.len;
}

typedef struct AddDead
{
	RowSet *removed;
	uint64_t first_row;
} AddDead;

static bool
add_dead(void *arg, uint64_t row)
{
	AddDead *a = arg;

	rowset_add(a->removed, a->first_row + row);
	return true;
}

static bool
add_rows(DeltaTable *t, const S3am__RowSet *message)
{
	RowSet *set = rowset_decode(message);

	if (set == NULL)
		return false;
	rowset_add_all(t->removed, set);
	rowset_free(set);
	return true;
}

static S3am__BatchSchema *
copy_schema(const S3am__BatchSchema *schema)
{
	size_t len = s3am__batch_schema__get_packed_size(schema);
	uint8_t *bytes = memory_need(len + 1);
	S3am__BatchSchema *copy;

	(void) s3am__batch_schema__pack(schema, bytes);
	copy = s3am__batch_schema__unpack(&memory_allocator, len, bytes);
	free(bytes);
	return copy;
}

static bool
add_edit(Delta *d, S3am__TableEdit *edit, uint64_t version, uint32_t xmin)
{
	DeltaTable *t = table_of(d, edit->storage);
	uint64_t row = edit->first_row;
	AddDead a = {t->removed, edit->first_row};
	RowSet *dead = rowset_decode(edit->dead);
	const S3am__BatchSchema *schema = NULL;

	if (edit->rows_of)
		t->rows_of = edit->rows_of;
	if (dead == NULL)
		return false;
	rowset_each(dead, add_dead, &a);
	rowset_free(dead);
	for (size_t i = 0; i < edit->n_drop_batches; i++)
		drop_batch(d, t, edit->drop_batches[i], version);
	for (size_t i = 0; i < edit->n_batches; i++)
	{
		S3am__Batch *batch = edit->batches[i];

		edit->batches[i] = NULL;
		/* in an edit a batch may share the schema of the one before; in a state it stands alone */
		if (batch->schema)
			schema = batch->schema;
		else if (schema)
			batch->schema = copy_schema(schema);
		add_batch(d, t, batch, row, version, xmin);
		row += batch->nrows;
	}
	if (row > t->next_row)
		t->next_row = row;
	return add_rows(t, edit->removed) && add_rows(t, edit->replaced);
}

static void
add_ddl(Delta *d, S3am__Txn *txn, uint64_t version, uint64_t step)
{
	S3am__DdlEntry *e = memory_need(sizeof(*e));

	s3am__ddl_entry__init(e);
	e->id = txn->id;
	e->version = version;
	e->step = step;
	e->n_ddl = txn->n_ddl;
	e->ddl = txn->ddl;
	e->n_storages = txn->n_storages;
	e->storages = txn->storages;
	txn->id = NULL;
	txn->ddl = NULL;
	txn->storages = NULL;
	txn->n_ddl = txn->n_storages = 0;
	d->bytes += s3am__ddl_entry__get_packed_size(e);
	d->ddl = grow(d->ddl, d->nddl, &d->ddl_capacity, sizeof(void *));
	d->ddl[d->nddl++] = e;
}

bool
delta_position_counts(const S3am__SequencePosition *position, uint64_t epoch, const S3am__SequenceState *known)
{
	const S3am__SequencePosition *old = known->position;

	if (epoch != known->epoch)
		return true; /* a new owner: validation saw to it that the old one is fenced */
	if (position->generation != old->generation)
		return position->generation > old->generation;
	return position->descending ? position->last_value < old->last_value : position->last_value > old->last_value;
}

static void
add_position(Delta *d, const S3am__SequencePosition *position, uint64_t epoch, uint64_t version)
{
	size_t i = 0, high = d->nsequences;
	S3am__SequenceState *state;

	while (i < high)
	{
		size_t middle = (i + high) / 2;

		if (d->sequences[middle]->position->sequence < position->sequence)
			i = middle + 1;
		else
			high = middle;
	}
	if (i < d->nsequences && d->sequences[i]->position->sequence == position->sequence)
	{
		state = d->sequences[i];
		if (!delta_position_counts(position, epoch, state))
			return;
	}
	else
	{
		d->sequences = grow(d->sequences, d->nsequences, &d->sequence_capacity, sizeof(void *));
		memmove(&d->sequences[i + 1], &d->sequences[i], (d->nsequences - i) * sizeof(void *));
		d->nsequences++;
		state = d->sequences[i] = memory_need(sizeof(*state));
		s3am__sequence_state__init(state);
		state->position = memory_need(sizeof(*state->position));
		d->bytes += 150;
	}
	*state->position = *position;
	state->position->base.n_unknown_fields = 0; /* the manifest's own */
	state->position->base.unknown_fields = NULL;
	state->epoch = epoch;
	state->version = version;
}

bool
delta_add(Delta *d, S3am__Manifest *m, const bool *voided)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++, n++)
		{
			S3am__Txn *txn = m->steps[i]->txns[j];

			if (voided[n])
				continue;
			for (size_t s = 0; s < txn->n_storages; s++)
			{
				const S3am__StorageEdit *e = txn->storages[s];

				if (e->create)
					table_of(d, e->create)->table = e->table;
				if (e->drop)
					drop_table(d, table_of(d, e->drop), m->version);
			}
			for (size_t t = 0; t < txn->n_tables; t++)
				if (!add_edit(d, txn->tables[t], m->version, txn->xmin))
					return false;
			for (size_t s = 0; s < txn->n_sequences; s++)
				add_position(d, txn->sequences[s], txn->id->epoch, m->version);
			if (txn->n_ddl || txn->n_storages)
				add_ddl(d, txn, m->version, i);
		}
	return true;
}
