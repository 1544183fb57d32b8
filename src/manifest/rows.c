/*
 * rows.c: an open-addressing table from storage to next row id; a scratch copy holds only what differs.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest/memory.h"
#include "manifest/rows.h"

typedef struct Entry
{
	uint64_t storage; /* 0: free */
	uint64_t next;
} Entry;

struct NextRows
{
	const NextRows *below;
	Entry *entries;
	size_t size, used;
};

static NextRows *
create(const NextRows *below, size_t size)
{
	NextRows *rows = memory_need_zeroed(1, sizeof(*rows));

	rows->below = below;
	rows->size = size;
	rows->entries = memory_need_zeroed(size, sizeof(Entry));
	return rows;
}

NextRows *
rows_create(void)
{
	return create(NULL, 64);
}

NextRows *
rows_copy(const NextRows *rows)
{
	return create(rows, 16);
}

void
rows_free(NextRows *rows)
{
	if (rows == NULL)
		return;
	free(rows->entries);
	free(rows);
}

static Entry *
find(const NextRows *rows, uint64_t storage)
{
	uint64_t h = storage * 0x9E3779B97F4A7C15ULL;
	size_t i = (h >> 32) & (rows->size - 1);

	while (rows->entries[i].storage != 0 && rows->entries[i].storage != storage)
		i = (i + 1) & (rows->size - 1);
	return &rows->entries[i];
}

static uint64_t
get(const NextRows *rows, uint64_t storage)
{
	for (; rows; rows = rows->below)
	{
		const Entry *e = find(rows, storage);

		if (e->storage)
			return e->next;
	}
	return 0;
}

static void
set(NextRows *rows, uint64_t storage, uint64_t next)
{
	Entry *e;

	if (rows->used * 2 >= rows->size)
	{
		Entry *old = rows->entries;
		size_t n = rows->size;

		rows->entries = memory_need_zeroed(2 * n, sizeof(Entry));
		rows->size = 2 * n;
		for (size_t i = 0; i < n; i++)
			if (old[i].storage)
				*find(rows, old[i].storage) = old[i];
		free(old);
	}
	e = find(rows, storage);
	if (e->storage == 0)
		rows->used++;
	*e = (Entry){storage, next};
}

static uint64_t
added(const S3am__TableEdit *edit)
{
	uint64_t n = 0;

	for (size_t i = 0; i < edit->n_batches; i++)
		n += edit->batches[i]->nrows;
	return n;
}

/* Of the rows that the transaction adds to a storage; 0: it adds none. */
static uint64_t
first_row_of(const S3am__Txn *txn, uint64_t storage)
{
	for (size_t i = 0; i < txn->n_tables; i++)
		if (txn->tables[i]->storage == storage && txn->tables[i]->n_drop_batches == 0)
			return txn->tables[i]->first_row;
	return 0;
}

void
rows_assign(NextRows *rows, S3am__Txn *txn)
{
	for (size_t i = 0; i < txn->n_tables; i++)
	{
		S3am__TableEdit *edit = txn->tables[i];

		if (edit->n_drop_batches)
			continue; /* what merging replaces keeps its row ids */
		edit->first_row = get(rows, edit->storage);
		set(rows, edit->storage, edit->first_row + added(edit));
	}
	/* entries of an index name the rows that came with them by their place among these */
	for (size_t i = 0; i < txn->n_tables; i++)
		if (txn->tables[i]->rows_of && txn->tables[i]->n_drop_batches == 0)
			for (size_t b = 0; b < txn->tables[i]->n_batches; b++)
				txn->tables[i]->batches[b]->row_base = first_row_of(txn, txn->tables[i]->rows_of);
}

void
rows_apply(NextRows *rows, const S3am__Txn *txn)
{
	for (size_t i = 0; i < txn->n_tables; i++)
	{
		const S3am__TableEdit *edit = txn->tables[i];
		uint64_t end = edit->first_row + added(edit);

		if (end > get(rows, edit->storage))
			set(rows, edit->storage, end);
	}
}

uint64_t
rows_next(const NextRows *rows, uint64_t storage)
{
	return get(rows, storage);
}

void
rows_set(NextRows *rows, uint64_t storage, uint64_t next)
{
	set(rows, storage, next);
}
