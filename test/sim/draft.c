/*
 * draft.c: what a transaction does.
 *
 * It edits tables as its session has seen them, with the claims that the rules ask for.  Beside them it writes down, for the oracle, what it
 * relied on.
 *
 * Tables: 0 parents and 1 children (a foreign key on their key), 2 and 3 counters with unique keys.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draft.h"
#include "manifest/keyhashes.h"
#include "manifest/keys.h"
#include "manifest/rowset.h"
#include "sim.h"

#define INDEX_OF(table) (900 + (table))

static u64 next_storage, next_key;

/* ---------------------------------------------------------------- messages */

static S3am__RowSet *
set_of(const u64 *rows, int n)
{
	RowSet *set = rowset_create();
	S3am__RowSet *message;

	for (int i = 0; i < n; i++)
		rowset_add(set, rows[i]);
	message = rowset_encode(set);
	rowset_free(set);
	return message;
}

#define APPEND(txn, field, type, item)                                                                                 \
	do                                                                                                                 \
	{                                                                                                                  \
		(txn)->field = realloc((txn)->field, ((txn)->n_##field + 1) * sizeof(void *));                                 \
		(txn)->field[(txn)->n_##field++] = (item);                                                                     \
	} while (0)

static void
expect(ClientTxn *ct, ExpectKind kind, u64 s, u64 a, u64 b)
{
	if (ct->nexpect < MAX_EXPECT)
		ct->expect[ct->nexpect++] = (Expect){kind, s, a, b};
}

static void
claim_row(ClientTxn *ct, u64 storage, S3am__Mode mode, u64 row, u64 base)
{
	S3am__RowClaim *c = malloc(sizeof(*c));

	s3am__row_claim__init(c);
	c->storage = storage;
	c->mode = mode;
	c->rows = set_of(&row, 1);
	c->base_version = base;
	APPEND(ct->txn, rows, , c);
}

static void
claim_key(ClientTxn *ct, int table, u32 key, u64 base)
{
	S3am__KeyClaim *c = malloc(sizeof(*c));
	u64 kind = ct->epoch * 11 + base * 7 + key;

	s3am__key_claim__init(c);
	c->index = INDEX_OF(table);
	c->mode = S3AM__MODE__UPDATE;
	c->hashes = malloc(sizeof(u64));
	c->hashes[c->n_hashes++] = 0xabcd0000 + key;
	/* a few are as early builds made them; of others not all bits are known */
	if (kind % 4 > 0)
	{
		u32 bits = kind % 3 ? 64 : 40 + kind % 20;
		KeyCoder coder;

		c->keys = malloc(sizeof(*c->keys));
		key_coder_begin(&coder, c->keys, bits, 1, calloc(1, key_hashes_size(bits, 1)));
		key_coder_put(&coder, key_hash_rotate(c->hashes[0]) >> (64 - bits));
		key_coder_end(&coder);
		c->hashes[0] = 0;
	}
	c->base_version = base;
	APPEND(ct->txn, keys, , c);
}

static void
claim_schema(ClientTxn *ct, int table, S3am__Mode mode, u64 base)
{
	S3am__SchemaClaim *c;

	for (size_t i = 0; i < ct->txn->n_schemas; i++)
		if (ct->txn->schemas[i]->table == (u64) table + 1 && ct->txn->schemas[i]->mode >= mode)
			return; /* it has an older base */
	c = malloc(sizeof(*c));
	s3am__schema_claim__init(c);
	c->table = table + 1;
	c->mode = mode;
	c->base_version = base;
	APPEND(ct->txn, schemas, , c);
	expect(ct, EXPECT_SCHEMA, table, truth_schema(table, base), 0);
}

static void
claim_read(ClientTxn *ct, u64 storage, const u64 *rows, int n, bool all_rows, u64 base)
{
	S3am__ReadClaim *c = malloc(sizeof(*c));

	s3am__read_claim__init(c);
	c->storage = storage;
	c->base_version = base;
	c->all = all_rows;
	if (n)
		c->rows = set_of(rows, n);
	APPEND(ct->txn, reads, , c);
}

static void
put_key(ProtobufCBinaryData *to, u32 key)
{
	to->len = 2;
	to->data = malloc(2);
	to->data[0] = 1;
	to->data[1] = key;
}

/* Keys from low on that come before high. */
static S3am__KeyRange *
range_of(u32 low, u32 high)
{
	S3am__KeyRange *range = malloc(sizeof(*range));

	s3am__key_range__init(range);
	put_key(&range->low, low);
	/* one alone is what begins with it */
	if (high > low + 1)
		put_key(&range->high, high);
	return range;
}

/* ---------------------------------------------------------------- operations */

static u64
storage_of(int table, u64 version)
{
	Storage *s = truth_table(table, version);

	return s ? s->id : (u64) table + 1;
}

/* The live row with this key, as of a version; -1 none. */
static int64_t
find_row(int table, u32 key, u64 version)
{
	Storage *s = truth_table(table, version);

	for (size_t i = s ? s->nrows : 0; i > 0; i--)
		if (row_live(&s->rows[i - 1], version) && s->rows[i - 1].row.key == key)
			return i - 1;
	return -1;
}

static Edit *
edit_of(Draft *d, int table)
{
	u64 storage = storage_of(table, d->look);

	for (int i = 0; i < d->nedits; i++)
		if (d->edits[i].storage == storage)
			return &d->edits[i];
	if (d->nedits == NTABLES + 2)
		return NULL;
	memset(&d->edits[d->nedits], 0, sizeof(Edit));
	d->edits[d->nedits].storage = storage;
	d->edits[d->nedits].table = table;
	return &d->edits[d->nedits++];
}

static bool
touch(Draft *d, int table, u32 key)
{
	u32 t = (u32) table << 16 | key;

	for (int i = 0; i < d->ntouched; i++)
		if (d->touched[i] == t)
			return false;
	if (d->ntouched == 16)
		return false;
	d->touched[d->ntouched++] = t;
	return true;
}

static void
insert(ClientTxn *ct, Draft *d, int table, u32 key)
{
	Edit *e = edit_of(d, table);

	if (e == NULL || e->nrows == MAX_ROWS)
		return;
	claim_schema(ct, table, S3AM__MODE__KEY_SHARE, d->look);
	if (table != 1)
		claim_key(ct, table, key, d->look);
	e->rows[e->nrows++] = (TestRow){table, key, 1};
}

static void
end(ClientTxn *ct, Draft *d, int table, int64_t row, bool key_change, const TestRow *successor)
{
	Edit *e = edit_of(d, table);

	if (e == NULL || e->nended == MAX_ROWS || e->nrows == MAX_ROWS)
		return;
	claim_schema(ct, table, S3AM__MODE__KEY_SHARE, d->look);
	expect(ct, EXPECT_LIVE, e->storage, row, 0);
	e->ended[e->nended] = row;
	e->key[e->nended] = key_change;
	e->successor[e->nended] = successor ? e->nrows : -1;
	if (successor)
		e->rows[e->nrows++] = *successor;
	e->nended++;
}

static void
update(ClientTxn *ct, Draft *d, int table, u32 key, int64_t row)
{
	TestRow successor = truth_table(table, d->look)->rows[row].row;

	successor.value++;
	end(ct, d, table, row, false, &successor);
	(void) key;
}

static bool
has_children(u32 key, u64 version)
{
	return find_row(1, key, version) >= 0;
}

static void
rekey(ClientTxn *ct, Draft *d, int table, u32 key, int64_t row)
{
	TestRow successor = truth_table(table, d->look)->rows[row].row;
	u32 to = rnd_below(sc.rows);

	if (find_row(table, to, d->look) >= 0 || !touch(d, table, to))
		return;
	claim_key(ct, table, to, d->look);
	successor.key = to;
	end(ct, d, table, row, true, &successor);
	(void) key;
}

static void
lock(ClientTxn *ct, Draft *d, int table, int64_t row, S3am__Mode mode)
{
	u64 storage = storage_of(table, d->look);

	claim_row(ct, storage, mode, row, d->look);
	claim_schema(ct, table, S3AM__MODE__KEY_SHARE, d->look);
	expect(ct, mode == S3AM__MODE__KEY_SHARE ? EXPECT_LINEAGE : EXPECT_LIVE, storage, row, 0);
}

static void
child(ClientTxn *ct, Draft *d)
{
	u32 key = rnd_below(sc.rows);
	int64_t parent = find_row(0, key, d->look);

	if (parent < 0 || !touch(d, 0, key))
		return;
	lock(ct, d, 0, parent, S3AM__MODE__KEY_SHARE);
	insert(ct, d, 1, key);
}

/* A serializable transaction reads two rows and updates one of them. */
static void
read_two(ClientTxn *ct, Draft *d, int table)
{
	u32 x = rnd_below(sc.rows), y = rnd_below(sc.rows);
	int64_t rx = find_row(table, x, d->look), ry = find_row(table, y, d->look);
	u64 storage = storage_of(table, d->look);
	u64 rows[2] = {rx, ry};

	if (rx < 0 || ry < 0 || x == y || !touch(d, table, x) || !touch(d, table, y))
		return;
	claim_read(ct, storage, rows, 2, false, d->look);
	expect(ct, EXPECT_LIVE, storage, rx, 0);
	expect(ct, EXPECT_LIVE, storage, ry, 0);
	update(ct, d, table, x, rx);
}

/* A serializable transaction scans a table and writes into another. */
static void
scan(ClientTxn *ct, Draft *d, int table)
{
	Storage *s = truth_table(table, d->look);
	u32 key = rnd_below(sc.rows);
	int other = table == 2 ? 3 : 2;
	int64_t row = find_row(other, key, d->look);

	if (s == NULL || row < 0 || !touch(d, other, key))
		return;
	claim_read(ct, s->id, NULL, 0, true, d->look);
	claim_schema(ct, table, S3AM__MODE__KEY_SHARE, d->look);
	expect(ct, EXPECT_UNCHANGED, s->id, d->look, 0);
	update(ct, d, other, key, row);
}

/* A serializable transaction reads one or two ranges of keys, and what is there, and writes into another table. */
static void
read_ranges(ClientTxn *ct, Draft *d, int table)
{
	Storage *s = truth_table(table, d->look);
	u32 low = rnd_below(sc.rows), high = low + 1 + rnd_below(2), key = rnd_below(sc.rows);
	u64 rows[MAX_ROWS];
	int other = table == 2 ? 3 : 2, n = 0;
	int64_t row = find_row(other, key, d->look);
	S3am__ReadClaim *c;

	if (s == NULL || row < 0 || !touch(d, other, key))
		return;
	for (size_t i = 0; i < s->nrows && n < MAX_ROWS; i++)
		if (row_live(&s->rows[i], d->look) && s->rows[i].row.key >= low && s->rows[i].row.key < high)
			rows[n++] = i;
	claim_read(ct, s->id, rows, n, false, d->look);
	c = ct->txn->reads[ct->txn->n_reads - 1];
	APPEND(c, ranges, , range_of(low, high));
	if (chance(500))
		APPEND(c, ranges, , range_of(sc.rows, sc.rows + 1)); /* where nobody adds a key */
	claim_schema(ct, table, S3AM__MODE__KEY_SHARE, d->look);
	for (int i = 0; i < n; i++)
		expect(ct, EXPECT_LIVE, s->id, rows[i], 0);
	expect(ct, EXPECT_RANGE, s->id, d->look, RANGE_OF(low, high));
	update(ct, d, other, key, row);
}

/* Rewrites a table into a new storage. */
static void
rewrite(ClientTxn *ct, Draft *d, int table)
{
	Storage *s = truth_table(table, d->look);
	S3am__StorageEdit *e = malloc(sizeof(*e));
	Edit *edit = &d->edits[d->nedits++];

	claim_schema(ct, table, S3AM__MODE__UPDATE, d->look);
	s3am__storage_edit__init(e);
	e->table = table + 1;
	e->drop = s ? s->id : (u64) table + 1;
	e->create = next_storage++;
	APPEND(ct->txn, storages, , e);
	memset(edit, 0, sizeof(*edit));
	edit->storage = e->create;
	edit->table = table;
	for (size_t i = 0; s && i < s->nrows && edit->nrows < MAX_ROWS; i++)
		if (row_live(&s->rows[i], d->look))
			edit->rows[edit->nrows++] = s->rows[i].row;
}

/*
 * Compaction: two batches that lie side by side become one.  Rows at either end that are dead are left out; if all are, no batch comes
 * of it.
 */
static void
merge(ClientTxn *ct, Draft *d, int table)
{
	Storage *s = truth_table(table, d->look);
	BatchInfo *batches[64];
	int n = 0, i;
	u64 end;
	Edit *e;

	for (size_t b = 0; s && b < s->nbatches && n < 64; b++)
		if (s->batches[b].added <= d->look && (s->batches[b].dropped == 0 || s->batches[b].dropped > d->look))
		{
			/* ascending */
			int j = n++;

			for (; j > 0 && batches[j - 1]->first > s->batches[b].first; j--)
				batches[j] = batches[j - 1];
			batches[j] = &s->batches[b];
		}
	if (n < 2)
		return;
	i = rnd_below(n - 1);
	if (batches[i]->first + batches[i]->nrows != batches[i + 1]->first ||
		batches[i]->nrows + batches[i + 1]->nrows > MAX_ROWS)
		return;
	e = &d->edits[d->nedits++];
	memset(e, 0, sizeof(*e));
	e->storage = s->id;
	e->table = table;
	e->ndrop = 2;
	for (int b = 0; b < 2; b++)
		e->drop[b] = batches[i + b]->first;
	e->first = batches[i]->first;
	end = batches[i + 1]->first + batches[i + 1]->nrows;
	while (e->first < end && !row_live(&s->rows[e->first], d->look))
		e->first++;
	while (end > e->first && !row_live(&s->rows[end - 1], d->look))
		end--;
	for (u64 r = e->first; r < end; r++)
		e->rows[e->nrows++] = s->rows[r].row;
	claim_schema(ct, table, S3AM__MODE__KEY_SHARE, d->look);
	expect(ct, EXPECT_BATCHES, s->id, e->drop[0], e->drop[1]);
}

static void
name(ClientTxn *ct, Draft *d)
{
	S3am__NameClaim *c = malloc(sizeof(*c));
	u32 n = rnd_below(2);
	char text[2] = {'a' + n, '\0'};

	s3am__name_claim__init(c);
	c->mode = S3AM__MODE__UPDATE;
	c->catalog = strdup("pg_class");
	c->schema = strdup("public");
	c->name = strdup(text);
	c->base_version = d->look;
	APPEND(ct->txn, names, , c);
	expect(ct, EXPECT_NAME, n, truth_name(n, d->look), 0);
}

void
draft_operate(ClientTxn *ct, Draft *d)
{
	int table = rnd_below(NTABLES);
	u32 key = rnd_below(sc.rows);
	int64_t row;

	if (table == 1)
	{
		child(ct, d);
		return;
	}
	if (table >= 2 && d->serializable)
	{
		if (chance(400))
			scan(ct, d, table);
		else if (chance(500))
			read_ranges(ct, d, table);
		else
			read_two(ct, d, table);
		return;
	}
	if (!touch(d, table, key))
		return;
	row = find_row(table, key, d->look);
	if (row < 0)
		insert(ct, d, table, key);
	else
		switch (rnd_below(10))
		{
			case 0:
				if (table != 0 || !has_children(key, d->look))
					end(ct, d, table, row, true, NULL);
				break;
			case 1:
				if (table != 0 || !has_children(key, d->look))
					rekey(ct, d, table, key, row);
				break;
			case 2:
				lock(ct, d, table, row, S3AM__MODE__SHARE);
				break;
			case 3:
				lock(ct, d, table, row, S3AM__MODE__UPDATE);
				break;
			case 4:
				lock(ct, d, table, row, S3AM__MODE__NO_KEY_UPDATE);
				break;
			default:
				update(ct, d, table, key, row);
		}
}

/* ---------------------------------------------------------------- messages of edits */

/* Puts rows into a segment, long before the commit that names it. */
static void
stage(Proc *proc, const Edit *e, u64 number)
{
	char key[KEY_SIZE];

	key_segment(key, committer_epoch(proc->c), number);
	bucket_put(key, (const uint8_t *) e->rows, e->nrows * sizeof(TestRow));
}

/* In runs, as long as they may be. */
static void
add_successor(S3am__TableEdit *edit, u64 successor)
{
	size_t n = edit->n_successors;

	if (n > 0)
	{
		u64 first = edit->successors[n - 1], count = edit->successor_counts[n - 1];

		if (first < 2 ? successor == first : successor == first + count)
		{
			edit->successor_counts[n - 1]++;
			return;
		}
	}
	edit->successors[n] = successor;
	edit->successor_counts[n] = 1;
	edit->n_successors = edit->n_successor_counts = n + 1;
}

static S3am__TableEdit *
finish_edit(Proc *proc, const Edit *e)
{
	S3am__TableEdit *edit = malloc(sizeof(*edit));
	u64 rows[MAX_ROWS];

	s3am__table_edit__init(edit);
	edit->storage = e->storage;
	if (e->nrows)
	{
		S3am__Batch *b = malloc(sizeof(*b));

		s3am__batch__init(b);
		b->nrows = e->nrows;
		if (e->segment)
		{
			b->segment = malloc(sizeof(*b->segment));
			s3am__segment_ref__init(b->segment);
			b->segment->epoch = committer_epoch(proc->c);
			b->segment->number = e->segment;
			b->segment->size = e->nrows * sizeof(TestRow);
			stage(proc, e, e->segment);
		}
		else
		{
			b->rows.len = e->nrows * sizeof(TestRow);
			b->rows.data = malloc(b->rows.len);
			memcpy(b->rows.data, e->rows, b->rows.len);
		}
		APPEND(edit, batches, , b);
	}
	/* as an index's edits tell their keys, but for those of earlier builds */
	for (int i = 0; i < e->nrows && e->ndrop == 0 && e->storage % 8 != 0; i++)
		APPEND(edit, added, , range_of(e->rows[i].key, e->rows[i].key + 1));
	for (int i = 0; i < e->ndrop; i++)
	{
		edit->drop_batches = realloc(edit->drop_batches, (i + 1) * sizeof(u64));
		edit->drop_batches[edit->n_drop_batches++] = e->drop[i];
		edit->first_row = e->first;
	}
	edit->successors = malloc((e->nended + 1) * sizeof(u64));
	edit->successor_counts = malloc((e->nended + 1) * sizeof(u64));
	for (int key = 1; key >= 0; key--)
	{
		int n = 0;

		/* ascending, removed ones first */
		for (int i = 0; i < e->nended; i++)
			if (e->key[i] == key)
			{
				int j = n++;

				for (; j > 0 && rows[j - 1] > e->ended[i]; j--)
					rows[j] = rows[j - 1];
				rows[j] = e->ended[i];
			}
		if (n == 0)
			continue;
		for (int j = 0; j < n; j++)
			for (int i = 0; i < e->nended; i++)
				if (e->ended[i] == rows[j])
					add_successor(edit, e->successor[i] >= 0 ? e->successor[i] + 2 : 0);
		if (key)
			edit->removed = set_of(rows, n);
		else
			edit->replaced = set_of(rows, n);
	}
	return edit;
}

void
draft_finish(ClientTxn *ct, Draft *d, Proc *proc)
{
	for (int i = 0; i < d->nedits; i++)
		if (d->edits[i].nrows || d->edits[i].nended || d->edits[i].ndrop)
		{
			if (d->edits[i].nrows && chance(sc.segments))
				d->edits[i].segment = ++proc->next_segment;
			APPEND(ct->txn, tables, , finish_edit(proc, &d->edits[i]));
		}
}

/* ---------------------------------------------------------------- drafts */

void
draft_begin(Draft *d, u64 base)
{
	memset(d, 0, sizeof(*d));
	d->base = d->look = base;
	d->serializable = chance(sc.serializable);
}

void
draft_schema(ClientTxn *ct, Draft *d)
{
	if (chance(300))
		name(ct, d);
	else if (chance(700))
		merge(ct, d, rnd_below(NTABLES));
	else
		rewrite(ct, d, rnd_below(NTABLES));
}

void
draft_insert(ClientTxn *ct, Draft *d)
{
	insert(ct, d, 2, (u32) ++next_key);
}

void
draft_reset(void)
{
	next_key = 0;
	next_storage = 1000;
}
