/*
 * claims.c: see claims.h.
 *
 * The locks that edits imply are claims too: rows removed are claimed in mode UPDATE, rows replaced in NO KEY UPDATE.
 * Version 0 stands for a member of the same group, which every claim is older than (rule 17).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/claims.h"
#include "manifest/rowset.h"

bool
claims_conflict(S3am__Mode a, S3am__Mode b)
{
	static const bool matrix[4][4] = {
		/* KEY SHARE, SHARE, NO KEY UPDATE, UPDATE */
		{false, false, false, true},
		{false, false, true, true},
		{false, true, true, true},
		{true, true, true, true},
	};

	return matrix[a & 3][b & 3];
}

/* One set of rows with a mode, of either transaction. */
typedef struct Side
{
	uint64_t	storage;
	S3am__Mode	mode;
	const S3am__RowSet *rows;
	uint64_t	base;
	S3am__RowClaim *claim;		/* if it is an explicit one */
	const S3am__TableEdit *edit;	/* if it comes from an edit */
} Side;

static size_t
sides_of(const S3am__Txn *txn, Side **sides)
{
	size_t		n = 0;

	*sides = malloc(sizeof(Side) * (txn->n_rows + 2 * txn->n_tables + 1));
	for (size_t i = 0; i < txn->n_rows; i++)
	{
		S3am__RowClaim *c = txn->rows[i];

		(*sides)[n++] = (Side) {c->storage, c->mode, c->rows, c->base_version, c, NULL};
	}
	for (size_t i = 0; i < txn->n_tables; i++)
	{
		S3am__TableEdit *e = txn->tables[i];

		if (e->removed)
			(*sides)[n++] = (Side) {e->storage, S3AM__MODE__UPDATE, e->removed, 0, NULL, e};
		if (e->replaced)
			(*sides)[n++] = (Side) {e->storage, S3AM__MODE__NO_KEY_UPDATE, e->replaced, 0, NULL, e};
	}
	return n;
}

typedef struct Follow
{
	const S3am__TableEdit *edit;
	const RowSet *mine;
	RowSet	   *result;
	size_t		next;			/* successor of the row that comes next */
	bool		lost;			/* a claimed row has nowhere to go */
} Follow;

static bool
count_row(void *arg, uint64_t row)
{
	(void) row;
	((Follow *) arg)->next++;
	return true;
}

static bool
follow_row(void *arg, uint64_t row)
{
	Follow	   *f = arg;
	uint64_t	successor = f->next < f->edit->n_successors ? f->edit->successors[f->next] : 0;

	f->next++;
	if (!rowset_contains(f->mine, row))
		return true;
	if (successor < 2)
	{
		f->lost = true;
		return false;
	}
	rowset_remove(f->result, row);
	rowset_add(f->result, f->edit->first_row + (successor - 2));
	return true;
}

/* The other transaction replaced rows of a weak claim: the claim goes on to their successors.  False: damaged or lost. */
static bool
follow(S3am__RowClaim *claim, const S3am__TableEdit *edit)
{
	Follow		f = {edit, NULL, NULL, 0, false};
	RowSet	   *mine = rowset_decode(claim->rows);
	RowSet	   *result = rowset_decode(claim->rows);
	RowSet	   *removed = rowset_decode(edit->removed);
	RowSet	   *replaced = rowset_decode(edit->replaced);
	bool		ok = mine && result && removed && replaced;

	if (ok)
	{
		f.mine = mine;
		f.result = result;
		rowset_each(removed, count_row, &f);
		rowset_each(replaced, follow_row, &f);
		ok = !f.lost;
	}
	if (ok)
	{
		s3am__row_set__free_unpacked(claim->rows, NULL);
		claim->rows = rowset_encode(result);
	}
	rowset_free(mine);
	rowset_free(result);
	rowset_free(removed);
	rowset_free(replaced);
	return ok;
}

/* Do two sets of rows of one table conflict?  Where they only meet compatibly, a weak claim follows. */
static bool
rows_fit(Side *mine, const Side *other, char *detail, size_t size)
{
	RowSet	   *a,
			   *b;
	bool		meet;

	if (mine->storage != other->storage)
		return true;
	a = rowset_decode(mine->rows);
	b = rowset_decode(other->rows);
	meet = a == NULL || b == NULL || rowset_intersects(a, b);
	rowset_free(a);
	rowset_free(b);
	if (!meet)
		return true;
	if (claims_conflict(mine->mode, other->mode))
	{
		snprintf(detail, size, "A row of storage %llu was changed or locked.", (unsigned long long) mine->storage);
		return false;
	}
	if (mine->claim && other->edit && other->mode == S3AM__MODE__NO_KEY_UPDATE)
	{
		if (!follow(mine->claim, other->edit))
		{
			snprintf(detail, size, "A row of storage %llu went away.", (unsigned long long) mine->storage);
			return false;
		}
		mine->rows = mine->claim->rows;
	}
	return true;
}

static bool
row_sides_fit(S3am__Txn *txn, const S3am__Txn *other, uint64_t version, char *detail, size_t size)
{
	Side	   *a,
			   *b;
	size_t		na,
				nb;
	bool		ok = true;

	if (txn->n_rows + txn->n_tables == 0 || other->n_rows + other->n_tables == 0)
		return true;
	na = sides_of(txn, &a);
	nb = sides_of(other, &b);
	for (size_t i = 0; ok && i < na; i++)
	{
		if (a[i].base >= version && version != 0)
			continue;			/* it looked after that */
		for (size_t j = 0; ok && j < nb; j++)
			ok = rows_fit(&a[i], &b[j], detail, size);
	}
	free(a);
	free(b);
	return ok;
}

static bool
keys_fit(const S3am__Txn *txn, const S3am__Txn *other, char *detail, size_t size)
{
	for (size_t i = 0; i < txn->n_keys; i++)
		for (size_t j = 0; j < other->n_keys; j++)
		{
			const S3am__KeyClaim *a = txn->keys[i],
					   *b = other->keys[j];

			if (a->index != b->index || !claims_conflict(a->mode, b->mode))
				continue;
			for (size_t x = 0; x < a->n_hashes; x++)
				for (size_t y = 0; y < b->n_hashes; y++)
					if (a->hashes[x] == b->hashes[y])
					{
						snprintf(detail, size, "A key of index %llu was taken.", (unsigned long long) a->index);
						return false;
					}
		}
	return true;
}

static bool
schemas_fit(const S3am__Txn *txn, const S3am__Txn *other, char *detail, size_t size)
{
	for (size_t i = 0; i < txn->n_schemas; i++)
		for (size_t j = 0; j < other->n_schemas; j++)
			if (txn->schemas[i]->table == other->schemas[j]->table &&
				claims_conflict(txn->schemas[i]->mode, other->schemas[j]->mode))
			{
				snprintf(detail, size, "The definition of table %llu was changed.",
						 (unsigned long long) txn->schemas[i]->table);
				return false;
			}
	for (size_t i = 0; i < txn->n_names; i++)
		for (size_t j = 0; j < other->n_names; j++)
			if (strcmp(txn->names[i]->catalog, other->names[j]->catalog) == 0 &&
				strcmp(txn->names[i]->schema, other->names[j]->schema) == 0 &&
				strcmp(txn->names[i]->name, other->names[j]->name) == 0)
			{
				snprintf(detail, size, "The name \"%.64s\" was created or dropped.", txn->names[i]->name);
				return false;
			}
	return true;
}

/* What a SERIALIZABLE transaction read must not have changed since its snapshot (rule 18). */
static bool
reads_fit(const S3am__Txn *txn, const S3am__Txn *other, uint64_t version, char *detail, size_t size)
{
	for (size_t i = 0; i < txn->n_reads; i++)
	{
		const S3am__ReadClaim *read = txn->reads[i];

		if (read->base_version >= version && version != 0)
			continue;
		for (size_t j = 0; j < other->n_tables; j++)
		{
			const S3am__TableEdit *edit = other->tables[j];
			bool		meet = read->all;

			if (edit->storage != read->storage)
				continue;
			if (!meet && read->rows)
			{
				RowSet	   *a = rowset_decode(read->rows),
						   *b = rowset_decode(edit->removed),
						   *c = rowset_decode(edit->replaced);

				meet = a == NULL || b == NULL || c == NULL || rowset_intersects(a, b) || rowset_intersects(a, c);
				rowset_free(a);
				rowset_free(b);
				rowset_free(c);
			}
			if (meet)
			{
				snprintf(detail, size, "What was read from storage %llu was changed.",
						 (unsigned long long) read->storage);
				return false;
			}
		}
	}
	return true;
}

bool
claims_validate(S3am__Txn *txn, const S3am__Txn *other, uint64_t version, char *detail, size_t size)
{
	if (!reads_fit(txn, other, version, detail, size))
		return false;
	if (version != 0 && txn->base_version >= version)
		return true;
	return schemas_fit(txn, other, detail, size) && keys_fit(txn, other, detail, size) &&
		row_sides_fit(txn, other, version, detail, size);
}
