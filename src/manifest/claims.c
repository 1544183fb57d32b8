/*
 * claims.c: see claims.h.
 *
 * The locks that edits imply are claims too: rows removed are claimed in mode UPDATE, rows replaced in NO KEY UPDATE.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/claims.h"
#include "manifest/memory.h"
#include "manifest/rules.h"
#include "manifest/successors.h"

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

/* ------------------------------------------------------------------------------------ decoding */

static int
compare_subjects(const void *a, const void *b)
{
	const Subject *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

	return x < y ? -1 : x > y;
}

static uint64_t
hash_text(uint64_t h, const char *text)
{
	for (; *text; text++)
		h = (h ^ (uint8_t) *text) * 1099511628211ULL;
	return (h ^ 0xff) * 1099511628211ULL;
}

static void
add_subject(Claims *c, SubjectKind kind, uint64_t id)
{
	c->subjects[c->nsubjects++] = (Subject){kind, id};
}

static void
note_base(Claims *c, uint64_t base)
{
	if (base < c->oldest_base)
		c->oldest_base = base;
}

static bool
add_rows(Claims *c, uint64_t storage, S3am__Mode mode, uint64_t base, const S3am__RowSet *rows, S3am__RowClaim *claim,
		 const S3am__TableEdit *edit)
{
	RowSet *set = rowset_decode(rows);

	if (set == NULL)
		return false;
	c->rows[c->nrows++] = (RowsClaim){storage, mode, base, set, NULL, claim, edit, false};
	note_base(c, base);
	return true;
}

static uint64_t
base_of(const S3am__Txn *txn, uint64_t own)
{
	return own ? own : txn->base_version;
}

Claims *
claims_decode(S3am__Txn *txn)
{
	Claims *c = memory_need_zeroed(1, sizeof(*c));
	bool ok = true;
	size_t n = 0;

	c->txn = txn;
	c->oldest_base = txn->base_version;
	c->rows = memory_need(sizeof(RowsClaim) * (txn->n_rows + 2 * txn->n_tables + 1));
	c->nreads = txn->n_reads;
	c->reads = memory_need_zeroed(txn->n_reads + 1, sizeof(RowSet *));
	c->nkeys = txn->n_keys;
	c->keys = memory_need_zeroed(txn->n_keys + 1, sizeof(KeyHashes));
	c->subjects =
		memory_need(sizeof(Subject) * (txn->n_rows + txn->n_tables + txn->n_reads + txn->n_keys + txn->n_schemas +
									   txn->n_names + 2 * txn->n_storages + txn->n_sequences + 1));
	for (size_t i = 0; ok && i < txn->n_rows; i++)
	{
		S3am__RowClaim *r = txn->rows[i];

		ok = add_rows(c, r->storage, r->mode, base_of(txn, r->base_version), r->rows, r, NULL);
		add_subject(c, SUBJECT_STORAGE, r->storage);
	}
	for (size_t i = 0; ok && i < txn->n_tables; i++)
	{
		const S3am__TableEdit *e = txn->tables[i];

		if (e->n_drop_batches > 1)
			qsort(e->drop_batches, e->n_drop_batches, sizeof(uint64_t), compare_hashes);
		if (e->removed)
			ok = add_rows(c, e->storage, S3AM__MODE__UPDATE, txn->base_version, e->removed, NULL, e);
		if (ok && e->replaced)
			ok = add_rows(c, e->storage, S3AM__MODE__NO_KEY_UPDATE, txn->base_version, e->replaced, NULL, e);
		add_subject(c, SUBJECT_STORAGE, e->storage);
	}
	for (size_t i = 0; ok && i < txn->n_reads; i++)
	{
		c->reads[i] = rowset_decode(txn->reads[i]->rows);
		ok = c->reads[i] != NULL;
		add_subject(c, SUBJECT_STORAGE, txn->reads[i]->storage);
		note_base(c, base_of(txn, txn->reads[i]->base_version));
	}
	for (size_t i = 0; i < txn->n_keys; i++)
	{
		S3am__KeyClaim *k = txn->keys[i];

		ok = key_hashes_decode(&c->keys[i], k) && ok;
		add_subject(c, SUBJECT_INDEX, k->index);
		note_base(c, base_of(txn, k->base_version));
	}
	for (size_t i = 0; i < txn->n_schemas; i++)
	{
		add_subject(c, SUBJECT_TABLE, txn->schemas[i]->table);
		note_base(c, base_of(txn, txn->schemas[i]->base_version));
	}
	for (size_t i = 0; i < txn->n_names; i++)
	{
		const S3am__NameClaim *name = txn->names[i];

		add_subject(c, SUBJECT_NAME,
					hash_text(hash_text(hash_text(14695981039346656037ULL, name->catalog), name->schema), name->name));
		note_base(c, base_of(txn, name->base_version));
	}
	for (size_t i = 0; i < txn->n_sequences; i++)
		add_subject(c, SUBJECT_SEQUENCE, txn->sequences[i]->sequence);
	for (size_t i = 0; i < txn->n_storages; i++)
		if (txn->storages[i]->drop)
			add_subject(c, SUBJECT_STORAGE, txn->storages[i]->drop);
	if (!ok)
	{
		claims_free(c);
		return NULL;
	}
	qsort(c->subjects, c->nsubjects, sizeof(Subject), compare_subjects);
	for (size_t i = 0; i < c->nsubjects; i++)
		if (n == 0 || compare_subjects(&c->subjects[n - 1], &c->subjects[i]) != 0)
			c->subjects[n++] = c->subjects[i];
	c->nsubjects = n;
	return c;
}

void
claims_free(Claims *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->nrows; i++)
	{
		rowset_free(c->rows[i].rows);
		rowset_free(c->rows[i].ahead);
	}
	for (size_t i = 0; i < c->nreads; i++)
		rowset_free(c->reads[i]);
	for (size_t i = 0; i < c->nkeys; i++)
		key_hashes_free(&c->keys[i]);
	free(c->rows);
	free(c->reads);
	free(c->keys);
	free(c->subjects);
	free(c);
}

void
claims_forget_ahead(Claims *c)
{
	for (size_t i = 0; i < c->nrows; i++)
		if (c->rows[i].ahead)
		{
			rowset_free(c->rows[i].ahead);
			c->rows[i].ahead = NULL;
			c->rows[i].moved = true; /* the message may have been written with it */
		}
}

void
claims_write(Claims *c)
{
	if (!RULE(P16_FOLLOW_OUT))
		return;
	for (size_t i = 0; i < c->nrows; i++)
	{
		RowsClaim *r = &c->rows[i];

		if (r->claim == NULL || !(r->moved || r->ahead))
			continue;
		s3am__row_set__free_unpacked(r->claim->rows, NULL);
		r->claim->rows = rowset_encode(r->ahead ? r->ahead : r->rows);
		r->moved = false;
	}
}

/* ------------------------------------------------------------------------------------ following */

typedef struct Follow
{
	const S3am__TableEdit *edit;
	const RowSet *mine;
	RowSet *result;
	Successors next; /* successor of the row that comes next */
	bool lost; /* a claimed row has nowhere to go */
} Follow;

static bool
count_row(void *arg, uint64_t row)
{
	(void) row;
	(void) successors_next(&((Follow *) arg)->next);
	return true;
}

static bool
follow_row(void *arg, uint64_t row)
{
	Follow *f = arg;
	uint64_t successor = successors_next(&f->next);

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

/* The other transaction replaced rows of a weak claim: the claim goes on to their successors.  False: one has none. */
static bool
follow(RowsClaim *mine, const Claims *other, const RowsClaim *replaced, bool ahead)
{
	const RowSet *now = mine->ahead ? mine->ahead : mine->rows;
	Follow f = {replaced->edit, now, rowset_copy(now), {replaced->edit, 0, 0}, false};

	/* successors of removed rows come first */
	for (size_t i = 0; i < other->nrows; i++)
		if (other->rows[i].edit == replaced->edit && other->rows[i].mode == S3AM__MODE__UPDATE)
			rowset_each(other->rows[i].rows, count_row, &f);
	rowset_each(replaced->rows, follow_row, &f);
	if (f.lost)
	{
		rowset_free(f.result);
		return false;
	}
	if (ahead)
	{
		rowset_free(mine->ahead);
		mine->ahead = f.result;
	}
	else
	{
		rowset_free(mine->rows);
		mine->rows = f.result;
	}
	mine->moved = true;
	return true;
}

/* ------------------------------------------------------------------------------------ validation */

static bool
drops_batch(const S3am__TableEdit *mine, const S3am__Txn *other, uint64_t storage)
{
	for (size_t i = 0; i < other->n_tables; i++)
		if (other->tables[i]->storage == storage)
			for (size_t a = 0; a < other->tables[i]->n_drop_batches; a++)
				if (bsearch(&other->tables[i]->drop_batches[a], mine->drop_batches, mine->n_drop_batches,
							sizeof(uint64_t), compare_hashes))
					return true;
	return false;
}

static bool
drops_storage(const S3am__Txn *txn, uint64_t storage)
{
	for (size_t i = 0; i < txn->n_storages; i++)
		if (txn->storages[i]->drop == storage)
			return true;
	return false;
}

/* Merging that lost: a batch that it replaces, or all of the storage, is gone (rule 34). */
static bool
batches_fit(const Claims *mine, const Claims *other, uint64_t storage, uint64_t version, uint64_t held, char *detail,
			size_t size)
{
	if (!RULE(P34_LIVE) || mine->txn->base_version >= version || held >= version)
		return true;
	for (size_t i = 0; i < mine->txn->n_tables; i++)
	{
		const S3am__TableEdit *edit = mine->txn->tables[i];

		if (edit->storage == storage && edit->n_drop_batches &&
			(drops_batch(edit, other->txn, storage) || drops_storage(other->txn, storage)))
		{
			snprintf(detail, size, "A batch of storage %llu was replaced.", (unsigned long long) storage);
			return false;
		}
	}
	return true;
}

static bool
rows_fit(RowsClaim *mine, const Claims *other, const RowsClaim *theirs, bool ahead, char *detail, size_t size)
{
	if (!rowset_intersects(mine->ahead ? mine->ahead : mine->rows, theirs->rows))
		return true;
	if (claims_conflict(mine->mode, theirs->mode))
	{
		snprintf(detail, size, "A row of storage %llu was changed or locked.", (unsigned long long) mine->storage);
		return false;
	}
	if (RULE(P16_FOLLOW) && mine->claim && theirs->edit && theirs->mode == S3AM__MODE__NO_KEY_UPDATE &&
		!follow(mine, other, theirs, ahead))
	{
		snprintf(detail, size, "A row of storage %llu went away.", (unsigned long long) mine->storage);
		return false;
	}
	return true;
}

static int
compare_bytes(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b, size_t len)
{
	return len > 0 ? memcmp(a->data, b->data, len) : 0;
}

/* Do these bytes come before the end of the range? */
static bool
comes_before_end(const ProtobufCBinaryData *key, const S3am__KeyRange *range)
{
	const ProtobufCBinaryData *end = range->high.len > 0 ? &range->high : &range->low;
	int result = compare_bytes(key, end, key->len < end->len ? key->len : end->len);

	if (result != 0)
		return result < 0;
	/* one begins with the other; what begins with `low` is within */
	return range->high.len == 0 || key->len < end->len;
}

/* Was something added to the index in a range that was read?  Edits of earlier builds do not say where. */
static bool
ranges_meet(const S3am__ReadClaim *read, const S3am__TableEdit *edit)
{
	if (edit->n_added == 0)
		return read->n_ranges > 0;
	for (size_t i = 0; i < edit->n_added; i++)
	{
		const S3am__KeyRange *added = edit->added[i];
		size_t low = 0, high = read->n_ranges;

		/* the first one that ends behind where this one begins */
		while (low < high)
		{
			size_t middle = (low + high) / 2;

			if (comes_before_end(&added->low, read->ranges[middle]))
				high = middle;
			else
				low = middle + 1;
		}
		if (low < read->n_ranges && comes_before_end(&read->ranges[low]->low, added))
			return true;
	}
	return false;
}

/* What a SERIALIZABLE transaction read must not have changed since its snapshot (rule 18). */
static bool
read_fits(const S3am__ReadClaim *read, const RowSet *rows, const Claims *other)
{
	const S3am__Txn *txn = other->txn;

	if (drops_storage(txn, read->storage))
		return false;
	for (size_t i = 0; i < txn->n_tables; i++)
	{
		const S3am__TableEdit *edit = txn->tables[i];

		if (edit->storage != read->storage || edit->n_batches == 0 || edit->n_drop_batches > 0)
			continue;
		if ((read->added || read->all) && RULE(P18_ADDED))
			return false;
		if (RULE(P18_RANGES) && ranges_meet(read, edit))
			return false;
	}
	for (size_t i = 0; i < other->nrows; i++)
	{
		const RowsClaim *ended = &other->rows[i];

		if (ended->edit && ended->storage == read->storage && RULE(P18_REMOVED) &&
			(read->all || rowset_intersects(rows, ended->rows)))
			return false;
	}
	return true;
}

static bool
storage_fits(Claims *mine, const Claims *other, uint64_t storage, uint64_t version, uint64_t held, bool ahead,
			 char *detail, size_t size)
{
	for (size_t i = 0; i < mine->txn->n_reads; i++)
	{
		const S3am__ReadClaim *read = mine->txn->reads[i];

		if (read->storage != storage || base_of(mine->txn, read->base_version) >= version || held >= version)
			continue;
		if (!read_fits(read, mine->reads[i], other))
		{
			snprintf(detail, size, "What was read from storage %llu was changed.", (unsigned long long) storage);
			return false;
		}
	}
	for (size_t i = 0; i < mine->nrows; i++)
	{
		RowsClaim *a = &mine->rows[i];

		if (a->storage != storage || a->base >= version || held >= version)
			continue;
		for (size_t j = 0; j < other->nrows; j++)
			if (other->rows[j].storage == storage && !rows_fit(a, other, &other->rows[j], ahead, detail, size))
				return false;
	}
	return batches_fit(mine, other, storage, version, held, detail, size);
}

static bool
keys_fit(const Claims *mine, const Claims *other, uint64_t index, uint64_t version, uint64_t held, char *detail,
		 size_t size)
{
	for (size_t i = 0; RULE(P20_KEYS) && i < mine->nkeys; i++)
	{
		const S3am__KeyClaim *a = mine->keys[i].claim;

		if (a->index != index || base_of(mine->txn, a->base_version) >= version || held >= version)
			continue;
		for (size_t j = 0; j < other->nkeys; j++)
			if (other->keys[j].claim->index == index && claims_conflict(a->mode, other->keys[j].claim->mode) &&
				key_hashes_meet(&mine->keys[i], &other->keys[j]))
			{
				snprintf(detail, size, "A key of index %llu was taken.", (unsigned long long) index);
				return false;
			}
	}
	return true;
}

/*
 * A schema change need not mind that rows were merged before it: they are the same rows, of the same schemas.  So nobody's
 * transaction fails for it.
 */
static bool
merges(const S3am__Txn *txn)
{
	for (size_t i = 0; i < txn->n_tables; i++)
		if (txn->tables[i]->n_drop_batches)
			return true;
	return false;
}

static bool
schemas_fit(const S3am__Txn *mine, const S3am__Txn *other, uint64_t table, uint64_t version, uint64_t held,
			char *detail, size_t size)
{
	if (merges(other))
		return true;
	for (size_t i = 0; RULE(P20_SCHEMA) && i < mine->n_schemas; i++)
	{
		const S3am__SchemaClaim *a = mine->schemas[i];

		if (a->table != table || base_of(mine, a->base_version) >= version || held >= version)
			continue;
		for (size_t j = 0; j < other->n_schemas; j++)
			if (other->schemas[j]->table == table && claims_conflict(a->mode, other->schemas[j]->mode) &&
				!(a->shared && other->schemas[j]->shared))
			{
				snprintf(detail, size, "The definition of table %llu was changed.", (unsigned long long) table);
				return false;
			}
	}
	return true;
}

static bool
names_fit(const S3am__Txn *mine, const S3am__Txn *other, uint64_t version, uint64_t held, char *detail, size_t size)
{
	for (size_t i = 0; RULE(P20_SCHEMA) && i < mine->n_names; i++)
	{
		const S3am__NameClaim *a = mine->names[i];

		if (base_of(mine, a->base_version) >= version || held >= version)
			continue;
		for (size_t j = 0; j < other->n_names; j++)
			if (strcmp(a->catalog, other->names[j]->catalog) == 0 && strcmp(a->schema, other->names[j]->schema) == 0 &&
				strcmp(a->name, other->names[j]->name) == 0 && claims_conflict(a->mode, other->names[j]->mode) &&
				!(a->shared && other->names[j]->shared))
			{
				snprintf(detail, size, "The name \"%.64s\" was created, changed or dropped.", a->name);
				return false;
			}
	}
	return true;
}

/* A sequence belongs to one epoch at a time. */
static bool
sequences_fit(const S3am__Txn *mine, const S3am__Txn *other, uint64_t sequence, uint64_t version, uint64_t held,
			  char *detail, size_t size)
{
	if ((mine->id && other->id && mine->id->epoch == other->id->epoch) || mine->base_version >= version ||
		held >= version)
		return true;
	for (size_t i = 0; RULE(P20_SCHEMA) && i < mine->n_sequences; i++)
		for (size_t j = 0; mine->sequences[i]->sequence == sequence && j < other->n_sequences; j++)
			if (other->sequences[j]->sequence == sequence)
			{
				snprintf(detail, size, "Sequence %llu was drawn from on another server.",
						 (unsigned long long) sequence);
				return false;
			}
	return true;
}

bool
claims_fit(Claims *mine, const Claims *other, Subject subject, uint64_t version, uint64_t held, bool ahead,
		   char *detail, size_t size)
{
	switch (subject.kind)
	{
		case SUBJECT_STORAGE:
			return storage_fits(mine, other, subject.id, version, held, ahead, detail, size);
		case SUBJECT_INDEX:
			return keys_fit(mine, other, subject.id, version, held, detail, size);
		case SUBJECT_TABLE:
			return schemas_fit(mine->txn, other->txn, subject.id, version, held, detail, size);
		case SUBJECT_NAME:
			return names_fit(mine->txn, other->txn, version, held, detail, size);
		case SUBJECT_SEQUENCE:
			return sequences_fit(mine->txn, other->txn, subject.id, version, held, detail, size);
	}
	return true;
}
