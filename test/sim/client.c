/*
 * client.c: sessions that make transactions.
 *
 * A session looks at the database as its node has applied it, decides, perhaps waits and looks again, and hands its transaction
 * over with the claims that the rules ask for.  Beside them it writes down, for the oracle, what it relied on.
 *
 * Tables: 0 parents and 1 children (a foreign key on their key), 2 and 3 counters with unique keys.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/keyhashes.h"
#include "manifest/keys.h"
#include "manifest/rowset.h"
#include "sim.h"

#define MAX_ROWS 24
#define INDEX_OF(table) (900 + (table))

typedef struct Edit
{
	u64 storage;
	int table;
	TestRow rows[MAX_ROWS];
	int nrows;
	u64 ended[MAX_ROWS];
	int successor[MAX_ROWS]; /* index of a row, -1 none */
	bool key[MAX_ROWS];
	int nended;
	u64 segment; /* number; 0: inline */
	u64 drop[2]; /* batches that it merges */
	int ndrop;
	u64 first; /* row of the merged one */
} Edit;

typedef struct Draft
{
	Edit edits[NTABLES + 2];
	int nedits;
	u32 touched[16]; /* table << 16 | key */
	int ntouched;
	bool serializable;
	u64 base, look; /* of the operation at hand */
} Draft;

typedef struct Client
{
	int node;
	u64 number; /* of its transactions: stale events are dropped */
	ClientTxn *txn; /* being made or waited for */
	Proc *proc;
	u64 since;
	Draft draft;
	int looks; /* left */
	bool uploaded; /* its segments are there; it is to be handed over */
} Client;

static Client clients[NCLIENTS];
#define MAX_TIMES 100000
static u64 times[MAX_TIMES];
static size_t ntimes;
static ClientTxn **all;
static size_t nall, all_capacity;
#define HASH 4096
static ClientTxn *hash[HASH];
static u64 next_storage, next_seq, next_key;
static int pending;

/* A transaction in the hands of one committer. */
typedef struct Submission
{
	ClientTxn *ct;
	Proc *proc;
	bool answered;
	struct Submission *all;
} Submission;

static Submission *submissions;

static void next(void *arg, u64 x);

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

static void
operate(ClientTxn *ct, Draft *d)
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

/* ---------------------------------------------------------------- handing over */

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

ClientTxn *
client_find(u64 epoch, u64 seq)
{
	for (ClientTxn *t = hash[(epoch * 31 + seq) % HASH]; t; t = t->hash_next)
		if (t->epoch == epoch && t->seq == seq)
			return t;
	return NULL;
}

static ClientTxn *
new_txn(void)
{
	ClientTxn *ct = calloc(1, sizeof(*ct));

	ct->txn = malloc(sizeof(*ct->txn));
	s3am__txn__init(ct->txn);
	if (nall == all_capacity)
	{
		all_capacity = all_capacity ? all_capacity * 2 : 256;
		all = realloc(all, all_capacity * sizeof(void *));
	}
	all[nall++] = ct;
	return ct;
}

static void
submit(Proc *proc, ClientTxn *ct, bool shared)
{
	size_t len = s3am__txn__get_packed_size(ct->txn);
	uint8_t *bytes = malloc(len + 1);
	Submission *s = calloc(1, sizeof(*s));
	Proc *before;

	s3am__txn__pack(ct->txn, bytes);
	s->ct = ct;
	s->proc = proc;
	s->all = submissions;
	submissions = s;
	pending++;
	before = core_enter(proc);
	if (shared)
		committer_submit_shared(proc->c, bytes, len, s);
	else
		committer_submit(proc->c, bytes, len, s);
	core_return(before);
	free(bytes);
	proc_after(proc);
}

/* The same transaction is handed to another node's committer, as by a follower whose leader changed. */
static void
submit_again(void *arg, u64 node)
{
	ClientTxn *ct = arg;
	Proc *proc = running[node];

	if (proc == NULL || !proc->alive || committer_phase(proc->c) != COMMITTER_READY)
		return;
	COUNT(SHARED);
	submit(proc, ct, true);
}

static void
abandon(void *arg, u64 x)
{
	Submission *s = arg;

	(void) x;
	if (s->answered || !s->proc->alive)
	{
		steps--;
		return;
	}
	committer_abandon(s->proc->c, s);
	proc_after(s->proc);
}

/* Segments are uploaded while a transaction runs, long before its commit names them. */
static void
upload(Client *client)
{
	ClientTxn *ct = client->txn;
	Draft *d = &client->draft;
	Proc *proc = client->proc;

	ct->first_segment = proc->next_segment + 1;
	for (int i = 0; i < d->nedits; i++)
		if (d->edits[i].nrows || d->edits[i].nended || d->edits[i].ndrop)
		{
			if (d->edits[i].nrows && chance(sc.segments))
				d->edits[i].segment = ++proc->next_segment;
			APPEND(ct->txn, tables, , finish_edit(proc, &d->edits[i]));
		}
	ct->epoch = committer_epoch(proc->c);
	client->uploaded = true;
}

/* Objects of a process's epoch with lower numbers belong to no transaction that may still commit. */
u64
client_oldest_segment(const Proc *proc)
{
	u64 oldest = proc->next_segment + 1;

	for (int i = 0; i < NCLIENTS; i++)
		if (clients[i].txn && clients[i].proc == proc && clients[i].txn->first_segment &&
			clients[i].txn->first_segment < oldest)
			oldest = clients[i].txn->first_segment;
	for (const Submission *s = submissions; s; s = s->all)
		if (s->proc == proc && !s->answered && s->ct->first_segment && s->ct->epoch == committer_epoch(proc->c) &&
			s->ct->first_segment < oldest)
			oldest = s->ct->first_segment;
	return oldest;
}

static void
hand_over(Client *client)
{
	ClientTxn *ct = client->txn;
	Draft *d = &client->draft;
	Proc *proc = client->proc;
	S3am__CommitId *id = malloc(sizeof(*id));
	bool shared = chance(sc.shared);

	ct->seq = ++next_seq;
	ct->base = d->base;
	s3am__commit_id__init(id);
	id->epoch = ct->epoch;
	id->seq = ct->seq;
	ct->txn->id = id;
	ct->txn->base_version = d->base;
	ct->hash_next = hash[(ct->epoch * 31 + ct->seq) % HASH];
	hash[(ct->epoch * 31 + ct->seq) % HASH] = ct;
	if (shared)
		at(now_us + rnd_below(400000), NULL, submit_again, ct, rnd_below(NNODES));
	submit(proc, ct, shared);
	if (submissions->ct == ct && !submissions->answered && fault(60))
		at(now_us + rnd_below(800000), proc, abandon, submissions, 0);
}

static void
again(Client *client, u64 us)
{
	at(now_us + us, NULL, next, client, ++client->number);
}

/* The next thing that a client does: look, look again, hand over, give up waiting. */
static void
next(void *arg, u64 x)
{
	Client *client = arg;
	Proc *proc = running[client->node];
	Draft *d = &client->draft;

	if (x != client->number)
	{
		steps--;
		return;
	}
	if (client->txn && client->uploaded && proc == client->proc && proc->alive && proc->paused_until <= now_us &&
		committer_epoch(proc->c) == client->txn->epoch)
	{
		client->uploaded = false;
		again(client, 2000000); /* commit_timeout */
		client->since = now_us;
		hand_over(client);
		return;
	}
	if (client->uploaded)
	{
		client->txn->epoch = 0; /* its epoch has ended: it was never handed over */
		client->uploaded = false;
	}
	if (client->txn && client->looks == 0)
		client->txn = NULL; /* waited long enough: 08007 */
	if (client->txn && (client->proc != proc || !proc || !proc->alive))
		client->txn = NULL; /* its server died before COMMIT */
	if (calm)
		return;
	if (proc == NULL || !proc->alive || proc->paused_until > now_us || committer_phase(proc->c) != COMMITTER_READY ||
		committer_epoch(proc->c) == 0)
	{
		again(client, 50000 + rnd_below(50000));
		return;
	}
	if (client->txn == NULL)
	{
		client->txn = new_txn();
		client->proc = proc;
		client->looks = 1 + rnd_below(3);
		memset(d, 0, offsetof(Draft, ntouched));
		d->nedits = d->ntouched = 0;
		d->base = proc->applied;
		d->serializable = chance(sc.serializable);
		d->look = d->base;
		if (chance(sc.ddl))
		{
			client->looks = 1;
			if (chance(300))
				name(client->txn, d);
			else if (chance(700))
				merge(client->txn, d, rnd_below(NTABLES));
			else
				rewrite(client->txn, d, rnd_below(NTABLES));
			goto looked;
		}
	}
	if (!d->serializable)
		d->look = proc->applied;
	if (sc.bench)
	{
		client->looks = 1;
		insert(client->txn, d, 2, (u32) ++next_key);
		goto looked;
	}
	operate(client->txn, d);
looked:
	if (--client->looks > 0)
	{
		again(client, rnd_below(sc.think_ms * 1000 + 1));
		return;
	}
	if (d->nedits == 0 && client->txn->txn->n_rows == 0 && client->txn->txn->n_names == 0)
	{
		client->txn = NULL; /* it found nothing to do */
		again(client, rnd_below(sc.think_ms * 1000 + 1));
		return;
	}
	upload(client);
	again(client, sc.bench || sc.hurried || chance(700) ? 0 : rnd_below(3000 * sc.think_ms));
}

void
client_decided(Proc *proc, void *handle, Outcome outcome, u64 version, const char *detail)
{
	Submission *s = handle;
	ClientTxn *ct = s->ct;

	if (!s->answered)
		pending--;
	if (s->answered || s->proc != proc)
		violation("transaction %llu.%llu was answered twice, or after the process died", (unsigned long long) ct->epoch,
				  (unsigned long long) ct->seq);
	s->answered = true;
	if (outcome == OUTCOME_COMMITTED)
	{
		counters[N_COMMITTED]++;
		if (ct->version == 0)
			violation("LOST: transaction %llu.%llu was answered as committed in version %llu, and is in none",
					  (unsigned long long) ct->epoch, (unsigned long long) ct->seq, (unsigned long long) version);
		if (ct->answer == ANSWER_NEVER)
			violation("transaction %llu.%llu was answered as not committed, then as committed",
					  (unsigned long long) ct->epoch, (unsigned long long) ct->seq);
		if (version < ct->version || version > proc->applied)
			violation("transaction %llu.%llu is in version %llu, the answer says %llu, the node has %llu",
					  (unsigned long long) ct->epoch, (unsigned long long) ct->seq, (unsigned long long) ct->version,
					  (unsigned long long) version, (unsigned long long) proc->applied);
		ct->answer = ANSWER_COMMITTED;
	}
	else if (outcome != OUTCOME_RELEASED)
	{
		note("transaction %llu.%llu is answered: %s", (unsigned long long) ct->epoch, (unsigned long long) ct->seq,
			 detail ? detail : "fenced");
		counters[outcome == OUTCOME_CONFLICT                               ? N_CONFLICT
				 : outcome == OUTCOME_ABORTED || outcome == OUTCOME_DENIED ? N_ABORTED
																		   : N_FENCED]++;
		if (ct->version)
			violation("LOST: transaction %llu.%llu was answered as not committed (%s), and is in version %llu",
					  (unsigned long long) ct->epoch, (unsigned long long) ct->seq, detail ? detail : "fenced",
					  (unsigned long long) ct->version);
		ct->answer = ANSWER_NEVER;
	}
	for (int i = 0; i < NCLIENTS; i++)
		if (clients[i].txn == ct && clients[i].looks == 0)
		{
			if (sc.bench && ntimes < MAX_TIMES)
				times[ntimes++] = now_us - clients[i].since;
			clients[i].txn = NULL;
			again(&clients[i], rnd_below(sc.bench ? 1000 : sc.think_ms * 1000 + 1));
		}
}

/* A process died: nobody will answer what it had. */
void
client_crashed(Proc *proc)
{
	for (Submission *s = submissions; s; s = s->all)
		if (s->proc == proc && !s->answered)
		{
			s->answered = true;
			pending--;
		}
}

int
client_pending_of(const Proc *proc)
{
	int n = 0;

	for (Submission *s = submissions; s; s = s->all)
		n += s->proc == proc && !s->answered;
	return n;
}

int
client_pending(void)
{
	return pending;
}

/* Asks a node about everything that was ever handed over. */
bool
client_resolve(bool final)
{
	Proc *proc = NULL;

	for (int i = 0; i < NNODES; i++)
		if (running[i] && committer_phase(running[i]->c) == COMMITTER_READY)
			proc = running[i];
	for (size_t i = 0; proc && i < nall; i++)
	{
		ClientTxn *ct = all[i];
		Outcome outcome;
		u64 version;

		if (ct->epoch == 0 || (ct->version && ct->version > proc->applied))
			continue;
		if (!committer_outcome(proc->c, ct->epoch, ct->seq, &outcome, &version))
		{
			if (ct->answer == ANSWER_NONE)
			{
				if (final)
					violation("STALLED: nobody can tell the outcome of transaction %llu.%llu",
							  (unsigned long long) ct->epoch, (unsigned long long) ct->seq);
				return false;
			}
			if (ct->version)
				violation("LOST: the outcome of transaction %llu.%llu of version %llu is not known",
						  (unsigned long long) ct->epoch, (unsigned long long) ct->seq,
						  (unsigned long long) ct->version);
			continue;
		}
		if (outcome == OUTCOME_TOO_OLD)
			continue;
		if ((outcome == OUTCOME_COMMITTED) != (ct->version != 0) || (version && version != ct->version))
			violation("LOST: the outcome of transaction %llu.%llu is told wrongly", (unsigned long long) ct->epoch,
					  (unsigned long long) ct->seq);
	}
	return proc != NULL;
}

/* A checkpoint's outcomes of one epoch. */
void
client_check_outcomes(u64 version, u64 epoch, const RowSet *committed, const RowSet *aborted)
{
	for (size_t i = 0; i < nall; i++)
	{
		ClientTxn *ct = all[i];
		bool should = ct->version && ct->version <= version;

		if (ct->epoch != epoch)
			continue;
		if (rowset_contains(committed, ct->seq) != should || (should && rowset_contains(aborted, ct->seq)))
			violation("WRONG CHECKPOINT: the outcome of transaction %llu.%llu", (unsigned long long) ct->epoch,
					  (unsigned long long) ct->seq);
	}
}

static int
compare_times(const void *a, const void *b)
{
	u64 x = *(const u64 *) a, y = *(const u64 *) b;

	return x < y ? -1 : x > y;
}

u64
client_median_us(void)
{
	qsort(times, ntimes, sizeof(u64), compare_times);
	return ntimes ? times[ntimes / 2] : 0;
}

void
client_start_all(void)
{
	for (int i = 0; i < sc.clients; i++)
	{
		clients[i].node = i % sc.nodes;
		again(&clients[i], rnd_below(100000));
	}
}

void
client_reset(void)
{
	while (submissions)
	{
		Submission *s = submissions;

		submissions = s->all;
		free(s);
	}
	for (size_t i = 0; i < nall; i++)
	{
		s3am__txn__free_unpacked(all[i]->txn, NULL);
		free(all[i]);
	}
	nall = 0;
	memset(hash, 0, sizeof(hash));
	memset(clients, 0, sizeof(clients));
	ntimes = 0;
	next_key = 0;
	next_storage = 1000;
	next_seq = 0;
	pending = 0;
}
