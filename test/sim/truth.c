/*
 * truth.c: the oracle.
 *
 * It learns of a manifest at the moment its conditional create takes effect, and replays it with a model of its own: rows with
 * the versions in which they were added and ended.  What a transaction relied on was written down by its client as
 * expectations on that model (client.c), and must hold right before the transaction.  Nothing here looks at claims.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/envelope.h"
#include "manifest/keys.h"
#include "manifest/rowset.h"
#include "sim.h"

typedef struct Version
{
	uint8_t digest[16];
	bool *voided;
	size_t ntxns;
} Version;

typedef struct TruthEpoch
{
	u64 epoch;
	uint8_t node[8];
	bool fenced;
} TruthEpoch;

typedef struct Change
{
	u64 version;
	u32 what;
} Change;

u64 head;
u64 schema_of[NTABLES];

static Version *versions;
static size_t nversions; /* capacity */
static Storage **storages;
static size_t nstorages;
static TruthEpoch *epochs;
static size_t nepochs;
static Change *schema_changes, *name_changes;
static u64 published; /* version of the newest checkpoint */
static size_t nschema_changes, nname_changes;

/* ---------------------------------------------------------------- looking */

Storage *
truth_storage(u64 id)
{
	for (size_t i = nstorages; i > 0; i--)
		if (storages[i - 1]->id == id)
			return storages[i - 1];
	return NULL;
}

static Storage *
add_storage(u64 id, int table, u64 version)
{
	Storage *s = calloc(1, sizeof(*s));

	s->id = id;
	s->table = table;
	s->created = version;
	storages = realloc(storages, (nstorages + 1) * sizeof(void *));
	storages[nstorages++] = s;
	return s;
}

Storage *
truth_table(int table, u64 version)
{
	for (size_t i = nstorages; i > 0; i--)
	{
		Storage *s = storages[i - 1];

		if (s->table == table && s->created <= version && (s->dropped == 0 || s->dropped > version))
			return s;
	}
	return NULL;
}

u64
truth_schema(int table, u64 version)
{
	u64 n = 0;

	for (size_t i = 0; i < nschema_changes; i++)
		if (schema_changes[i].what == (u32) table && schema_changes[i].version <= version)
			n++;
	return n;
}

u64
truth_name(u32 name, u64 version)
{
	u64 last = 0;

	for (size_t i = 0; i < nname_changes; i++)
		if (name_changes[i].what == name && name_changes[i].version <= version)
			last = name_changes[i].version;
	return last;
}

static void
change(Change **list, size_t *n, u64 version, u32 what)
{
	*list = realloc(*list, (*n + 1) * sizeof(Change));
	(*list)[(*n)++] = (Change){version, what};
}

static TruthEpoch *
epoch_of(u64 epoch)
{
	for (size_t i = nepochs; i > 0; i--)
		if (epochs[i - 1].epoch == epoch)
			return &epochs[i - 1];
	return NULL;
}

/* ---------------------------------------------------------------- what a transaction relied on */

static void
check_expectation(const ClientTxn *ct, const Expect *e)
{
	Storage *s = e->kind == EXPECT_SCHEMA || e->kind == EXPECT_NAME ? NULL : truth_storage(e->s);
	const char *what = NULL;

	switch (e->kind)
	{
		case EXPECT_LIVE:
			if (s == NULL || s->dropped || e->a >= s->nrows || s->rows[e->a].ended)
				what = "LOST UPDATE: a row that it read, locked or ended is not live any more";
			break;
		case EXPECT_LINEAGE:
			if (s == NULL || s->dropped)
				what = "ORPHAN: the storage of a row that it locked is gone";
			else
			{
				u64 row = e->a;

				while (row < s->nrows && s->rows[row].ended && !s->rows[row].key_changed && s->rows[row].successor)
					row = s->rows[row].successor - 1;
				if (row >= s->nrows || s->rows[row].ended)
					what = "ORPHAN: a row whose key it locked is gone";
			}
			break;
		case EXPECT_SCHEMA:
			if (schema_of[e->s] != e->a)
				what = "SCHEMA: the table was changed since";
			break;
		case EXPECT_UNCHANGED:
			if (s == NULL || s->dropped || s->last_change > e->a)
				what = "WRITE SKEW: a table that it scanned has changed";
			break;
		case EXPECT_RANGE:
			if (s == NULL || s->dropped)
				what = "PHANTOM: the storage of a range that it read is gone";
			for (size_t i = s ? s->nrows : 0; i > 0 && what == NULL && s->rows[i - 1].added > e->a; i--)
				if (s->rows[i - 1].row.key >= RANGE_LOW(e->b) && s->rows[i - 1].row.key < RANGE_HIGH(e->b))
					what = "PHANTOM: a key was added to a range that it read";
			break;
		case EXPECT_NAME:
			if (truth_name(e->s, head) != e->a)
				what = "NAME: it was created or dropped by another";
			break;
		case EXPECT_BATCHES:
		{
			int live = 0;

			for (size_t i = 0; s && !s->dropped && i < s->nbatches; i++)
				live += (s->batches[i].first == e->a || s->batches[i].first == e->b) && s->batches[i].dropped == 0;
			if (live != 2)
				what = "MERGE: of batches that are not live any more";
		}
		break;
	}
	if (what)
		violation("%s (version %llu, transaction %llu.%llu, base %llu, storage %llu, row %llu)", what,
				  (unsigned long long) head, (unsigned long long) ct->epoch, (unsigned long long) ct->seq,
				  (unsigned long long) ct->base, (unsigned long long) e->s, (unsigned long long) e->a);
}

/* ---------------------------------------------------------------- replaying */

typedef struct End
{
	Storage *s;
	const S3am__TableEdit *edit;
	size_t n;
	bool key;
} End;

static u64
nth_successor(const S3am__TableEdit *edit, size_t n)
{
	for (size_t i = 0; i < edit->n_successors; i++)
	{
		if (n < edit->successor_counts[i])
			return edit->successors[i] < 2 ? edit->successors[i] : edit->successors[i] + n;
		n -= edit->successor_counts[i];
	}
	return 0;
}

static bool
end_row(void *arg, u64 row)
{
	End *e = arg;
	u64 successor = nth_successor(e->edit, e->n++);
	Row *r;

	if (row >= e->s->nrows)
		violation("version %llu ends row %llu of storage %llu, which does not exist", (unsigned long long) head,
				  (unsigned long long) row, (unsigned long long) e->s->id);
	r = &e->s->rows[row];
	if (r->ended)
		violation("LOST UPDATE: version %llu ends row %llu of storage %llu, which version %llu did before",
				  (unsigned long long) head, (unsigned long long) row, (unsigned long long) e->s->id,
				  (unsigned long long) r->ended);
	r->ended = head;
	r->key_changed = e->key;
	r->successor = successor >= 2 ? e->edit->first_row + successor - 2 + 1 : 0;
	e->s->last_change = head;
	return true;
}

static void
end_rows(Storage *s, const S3am__TableEdit *edit)
{
	End e = {s, edit, 0, true};
	RowSet *set = rowset_decode(edit->removed);

	rowset_each(set, end_row, &e);
	rowset_free(set);
	e.key = false;
	set = rowset_decode(edit->replaced);
	rowset_each(set, end_row, &e);
	rowset_free(set);
}

static void
add_batch(Storage *s, u64 first, const S3am__Batch *b)
{
	u64 epoch = b->segment ? b->segment->epoch : 0, number = b->segment ? b->segment->number : 0;

	if (s->nbatches == s->batch_capacity)
	{
		s->batch_capacity = s->batch_capacity ? s->batch_capacity * 2 : 16;
		s->batches = realloc(s->batches, s->batch_capacity * sizeof(BatchInfo));
	}
	s->batches[s->nbatches++] = (BatchInfo){first, b->nrows, head, 0, epoch, number};
}

/* Its rows, inline or in a segment, which must be there. */
static const uint8_t *
rows_of(const S3am__Batch *b)
{
	char key[KEY_SIZE];
	size_t len = b->rows.len;
	const uint8_t *rows = b->rows.data;

	if (b->segment)
	{
		key_segment(key, b->segment->epoch, b->segment->number);
		rows = bucket_object(key, &len);
		if (rows == NULL)
			violation("LOST: version %llu names segment %s, which is not there", (unsigned long long) head, key);
	}
	if (len != b->nrows * sizeof(TestRow))
		violation("version %llu has a damaged batch", (unsigned long long) head);
	return rows;
}

static void
apply_edit(const S3am__TableEdit *edit)
{
	Storage *s = truth_storage(edit->storage);

	if (s == NULL)
		s = add_storage(edit->storage, (int) edit->storage - 1, head);
	if (s->dropped)
		violation("version %llu edits storage %llu, which was dropped", (unsigned long long) head,
				  (unsigned long long) s->id);
	if (edit->n_drop_batches)
	{
		u64 from = UINT64_MAX, to = 0, first = edit->first_row, end = first;

		for (size_t i = 0; i < edit->n_drop_batches; i++)
			for (size_t j = 0; j < s->nbatches; j++)
				if (s->batches[j].first == edit->drop_batches[i] && s->batches[j].dropped == 0)
				{
					s->batches[j].dropped = head;
					from = s->batches[j].first < from ? s->batches[j].first : from;
					to =
						s->batches[j].first + s->batches[j].nrows > to ? s->batches[j].first + s->batches[j].nrows : to;
				}
		for (size_t i = 0; i < edit->n_batches; i++)
			end += edit->batches[i]->nrows;
		/* none of them may be there, if rule 34 is off */
		if (to == 0 || (edit->n_batches > 0 && (first < from || end > to)))
			violation("version %llu merges batches of storage %llu, and the rows have other numbers then",
					  (unsigned long long) head, (unsigned long long) s->id);
		for (u64 row = from; row < to; row++)
			if ((row < first || row >= end) && s->rows[row].ended == 0)
				violation("LOST: version %llu merges batches of storage %llu and drops row %llu, which is live",
						  (unsigned long long) head, (unsigned long long) s->id, (unsigned long long) row);
		for (size_t i = 0; i < edit->n_batches; i++)
		{
			(void) rows_of(edit->batches[i]);
			add_batch(s, first, edit->batches[i]);
			first += edit->batches[i]->nrows;
		}
		return;
	}
	end_rows(s, edit);
	if (edit->n_batches && edit->first_row != s->nrows)
		violation("version %llu gives rows of storage %llu numbers from %llu, the next one is %llu",
				  (unsigned long long) head, (unsigned long long) s->id, (unsigned long long) edit->first_row,
				  (unsigned long long) s->nrows);
	for (size_t i = 0; i < edit->n_batches; i++)
	{
		const S3am__Batch *b = edit->batches[i];
		const uint8_t *rows = rows_of(b);

		add_batch(s, s->nrows, b);
		while (s->nrows + b->nrows > s->capacity)
		{
			s->capacity = s->capacity ? s->capacity * 2 : 64;
			s->rows = realloc(s->rows, s->capacity * sizeof(Row));
		}
		for (u64 j = 0; j < b->nrows; j++)
		{
			Row r = {.added = head};

			memcpy(&r.row, rows + j * sizeof(TestRow), sizeof(TestRow));
			s->rows[s->nrows++] = r;
		}
		s->last_change = head;
	}
}

static bool
same_bytes(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static bool
same_set(const S3am__RowSet *a, const S3am__RowSet *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	if (a->n_parts != b->n_parts)
		return false;
	for (size_t i = 0; i < a->n_parts; i++)
		if (a->parts[i]->high != b->parts[i]->high || !same_bytes(&a->parts[i]->bitmap, &b->parts[i]->bitmap))
			return false;
	return true;
}

/* What is in the chain must be what the client handed over. */
static void
check_content(const S3am__Txn *a, const S3am__Txn *b)
{
	bool same = a->n_tables == b->n_tables && a->n_storages == b->n_storages && a->n_names == b->n_names;

	for (size_t i = 0; same && i < a->n_tables; i++)
	{
		const S3am__TableEdit *x = a->tables[i], *y = b->tables[i];

		same = x->storage == y->storage && x->n_drop_batches == y->n_drop_batches && x->n_batches == y->n_batches &&
			   same_set(x->removed, y->removed) && same_set(x->replaced, y->replaced) &&
			   x->n_successors == y->n_successors;
		for (size_t j = 0; same && j < x->n_batches; j++)
			same = same_bytes(&x->batches[j]->rows, &y->batches[j]->rows);
	}
	if (!same)
		violation("version %llu holds something else than was handed over", (unsigned long long) head);
}

static void
apply_txn(const S3am__Txn *txn)
{
	for (size_t i = 0; i < txn->n_storages; i++)
	{
		const S3am__StorageEdit *e = txn->storages[i];
		Storage *old = truth_storage(e->drop);

		if (e->drop)
		{
			if (old == NULL)
				old = add_storage(e->drop, (int) e->table - 1, head);
			old->dropped = head;
			old->last_change = head;
		}
		if (e->create)
			(void) add_storage(e->create, (int) e->table - 1, head);
		schema_of[e->table - 1]++;
		change(&schema_changes, &nschema_changes, head, e->table - 1);
	}
	for (size_t i = 0; i < txn->n_tables; i++)
		apply_edit(txn->tables[i]);
	for (size_t i = 0; i < txn->n_names; i++)
		change(&name_changes, &nname_changes, head, txn->names[i]->name[0] - 'a');
}

/* No two live rows with one key, no child without a parent. */
static void
check_database(void)
{
	Storage *tables[NTABLES];

	for (int t = 0; t < NTABLES; t++)
		tables[t] = truth_table(t, head);
	for (int t = 0; t < NTABLES; t++)
	{
		Storage *s = tables[t];
		u64 seen[2] = {0};

		if (s == NULL || s->last_change != head)
			continue;
		if (t == 1)
			continue; /* children have no key */
		for (size_t i = 0; i < s->nrows; i++)
			if (row_live(&s->rows[i], head))
			{
				u32 k = s->rows[i].row.key & 127;

				if (seen[k / 64] >> (k % 64) & 1)
					violation("DUPLICATE KEY %u in table %d at version %llu", k, t, (unsigned long long) head);
				seen[k / 64] |= (u64) 1 << (k % 64);
			}
	}
	if (tables[1] && ((tables[0] && tables[0]->last_change == head) || tables[1]->last_change == head))
	{
		u64 seen[2] = {0};

		if (tables[0])
			for (size_t i = 0; i < tables[0]->nrows; i++)
				if (row_live(&tables[0]->rows[i], head))
					seen[(tables[0]->rows[i].row.key & 127) / 64] |= (u64) 1 << (tables[0]->rows[i].row.key % 64);
		for (size_t i = 0; i < tables[1]->nrows; i++)
			if (row_live(&tables[1]->rows[i], head))
			{
				u32 k = tables[1]->rows[i].row.key & 127;

				if (!(seen[k / 64] >> (k % 64) & 1))
					violation("ORPHAN: child of key %u at version %llu", k, (unsigned long long) head);
			}
	}
}

static void
apply_manifest(const S3am__Manifest *m, const uint8_t *data, size_t len)
{
	size_t n = 0;
	Version *v;

	if (m->version > 1 && (m->predecessor.len != 16 || memcmp(m->predecessor.data, versions[head].digest, 16) != 0))
		violation("FORK: version %llu does not name the one before it", (unsigned long long) m->version);
	head = m->version;
	counters[N_VERSIONS]++;
	if (head >= nversions)
	{
		size_t old = nversions;

		nversions = nversions ? nversions * 2 : 256;
		versions = realloc(versions, nversions * sizeof(Version));
		memset(versions + old, 0, (nversions - old) * sizeof(Version));
	}
	v = &versions[head];
	envelope_digest(data, len, v->digest);
	for (size_t i = 0; i < m->n_steps; i++)
		v->ntxns += m->steps[i]->n_txns;
	v->voided = calloc(v->ntxns + 1, sizeof(bool));
	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++, n++)
		{
			const S3am__Txn *txn = m->steps[i]->txns[j];
			ClientTxn *ct = txn->id ? client_find(txn->id->epoch, txn->id->seq) : NULL;
			TruthEpoch *epoch;

			if (ct == NULL)
				violation("version %llu holds a transaction that nobody made", (unsigned long long) head);
			epoch = epoch_of(ct->epoch);
			if (epoch == NULL || epoch->fenced)
			{
				if (RULE(P12_REFUSE))
					violation("version %llu holds a transaction of fenced epoch %llu", (unsigned long long) head,
							  (unsigned long long) ct->epoch);
				v->voided[n] = true;
			}
			else if (ct->version || ct->marked)
			{
				if (RULE(P7_LOOK_UP))
					violation("TWICE: transaction %llu.%llu of version %llu was %s before",
							  (unsigned long long) ct->epoch, (unsigned long long) ct->seq, (unsigned long long) head,
							  ct->version ? "committed" : "marked as aborted");
				v->voided[n] = true;
			}
			if (v->voided[n])
			{
				counters[N_VOID]++;
				continue;
			}
			if (ct->answer == ANSWER_NEVER)
				violation("ZOMBIE: transaction %llu.%llu was answered as not committed, and is in version %llu",
						  (unsigned long long) ct->epoch, (unsigned long long) ct->seq, (unsigned long long) head);
			for (int e = 0; e < ct->nexpect; e++)
				check_expectation(ct, &ct->expect[e]);
			check_content(txn, ct->txn);
			ct->version = head;
			apply_txn(txn);
		}
	for (size_t i = 0; i < m->n_abort_marks; i++)
	{
		ClientTxn *ct = client_find(m->abort_marks[i]->epoch, m->abort_marks[i]->seq);

		if (ct && ct->version == 0)
		{
			ct->marked = true;
			counters[N_MARKED]++;
		}
	}
	for (size_t i = 0; i < m->n_epochs; i++)
	{
		const S3am__EpochEdit *e = m->epochs[i];
		TruthEpoch *epoch = epoch_of(e->epoch);

		if (e->kind == S3AM__EPOCH_EDIT__KIND__BEGIN)
		{
			if (epoch)
				violation("epoch %llu begins twice", (unsigned long long) e->epoch);
			epochs = realloc(epochs, (nepochs + 1) * sizeof(TruthEpoch));
			epochs[nepochs] = (TruthEpoch){.epoch = e->epoch};
			memcpy(epochs[nepochs].node, e->node.data, e->node.len < 8 ? e->node.len : 8);
			nepochs++;
		}
		else if (epoch)
			epoch->fenced = true;
	}
	for (size_t i = 0; m->n_epochs && i < nepochs; i++)
		for (size_t j = 0; j < i; j++)
			if (!epochs[i].fenced && !epochs[j].fenced && memcmp(epochs[i].node, epochs[j].node, 8) == 0)
				violation("EPOCHS: %llu and %llu of one node both live after version %llu",
						  (unsigned long long) epochs[j].epoch, (unsigned long long) epochs[i].epoch,
						  (unsigned long long) head);
	if (m->checkpoint)
	{
		/* its parent must be the published one: what its maker did not see is not in it */
		if (m->checkpoint->parent != published)
			violation("STALE CHECKPOINT: version %llu publishes checkpoint %llu with parent %llu, the newest is %llu",
					  (unsigned long long) head, (unsigned long long) m->checkpoint->version,
					  (unsigned long long) m->checkpoint->parent, (unsigned long long) published);
		published = m->checkpoint->version;
		objects_published(m->checkpoint);
	}
	if (!sc.bench)
		check_database();
	note("version %llu: %zu transactions, by epoch %llu", (unsigned long long) head, v->ntxns,
		 (unsigned long long) m->author);
}

void
truth_created(const char *key, const uint8_t *data, size_t len)
{
	u64 n;
	S3am__Manifest *m;
	char *error = NULL;
	size_t payload_len;
	uint8_t *payload;

	if (strncmp(key, "manifests/", 10) != 0)
		return;
	n = strtoull(key + 10, NULL, 10);
	if (n <= head)
	{
		if (n > objects_boundary_now())
			violation("LOST: slot %llu above the boundary was empty", (unsigned long long) n);
		COUNT(ZOMBIE);
		note("slot %llu was collected and is created again", (unsigned long long) n);
		return;
	}
	if (n != head + 1)
		violation("HOLE: version %llu appears, the head is %llu", (unsigned long long) n, (unsigned long long) head);
	payload = envelope_open(ENVELOPE_MANIFEST, repository_uuid, key, data, len, &payload_len, NULL, &error);
	m = payload ? s3am__manifest__unpack(NULL, payload_len, payload) : NULL;
	if (m == NULL || m->version != n)
		violation("version %llu cannot be read: %s", (unsigned long long) n, error ? error : "");
	apply_manifest(m, data, len);
	s3am__manifest__free_unpacked(m, NULL);
	free(payload);
}

/* A node says that it applied a version. */
void
truth_applied(Proc *proc, u64 version, const bool *voided, const uint8_t *object, size_t len)
{
	uint8_t digest[16];

	if (version > head)
		violation("FORK: process %llu applied version %llu, which is not there", (unsigned long long) proc->number,
				  (unsigned long long) version);
	if (version != proc->applied + 1)
		violation("process %llu applied version %llu after %llu", (unsigned long long) proc->number,
				  (unsigned long long) version, (unsigned long long) proc->applied);
	envelope_digest(object, len, digest);
	if (memcmp(digest, versions[version].digest, 16) != 0)
		violation("FORK: process %llu applied another version %llu than the chain has",
				  (unsigned long long) proc->number, (unsigned long long) version);
	for (size_t i = 0; i < versions[version].ntxns; i++)
		if (voided[i] != versions[version].voided[i])
			violation("%s: process %llu, transaction %zu of version %llu", voided[i] ? "VOIDED" : "TWICE",
					  (unsigned long long) proc->number, i, (unsigned long long) version);
	proc->applied = version;
}

/* A node took a checkpoint's state. */
void
truth_restored(Proc *proc, const S3am__Checkpoint *root)
{
	if (root->version > head || memcmp(root->manifest_digest.data, versions[root->version].digest, 16) != 0)
		violation("FORK: process %llu restored a state of version %llu that is not the chain's",
				  (unsigned long long) proc->number, (unsigned long long) root->version);
	if (root->version < proc->applied)
		violation("process %llu went back from version %llu to %llu", (unsigned long long) proc->number,
				  (unsigned long long) proc->applied, (unsigned long long) root->version);
	proc->applied = root->version;
}

void
truth_digest(u64 version, uint8_t digest[16])
{
	if (version > head)
		violation("FORK: a checkpoint of version %llu, the head is %llu", (unsigned long long) version,
				  (unsigned long long) head);
	memcpy(digest, versions[version].digest, 16);
}

size_t
truth_count_storages(u64 version)
{
	size_t n = 0;

	for (size_t i = 0; i < nstorages; i++)
		n += storages[i]->created <= version && (storages[i]->dropped == 0 || storages[i]->dropped > version);
	return n;
}

size_t
truth_count_ddl(u64 version)
{
	size_t n = 0;

	for (size_t i = 0; i < nschema_changes; i++)
		n += schema_changes[i].version <= version;
	return n;
}

bool
truth_segment(u64 epoch, u64 number, u64 *added, u64 *dropped)
{
	for (size_t i = 0; i < nstorages; i++)
		for (size_t j = 0; j < storages[i]->nbatches; j++)
		{
			const BatchInfo *b = &storages[i]->batches[j];

			if (b->segment_epoch != epoch || b->segment_number != number)
				continue;
			*added = b->added;
			*dropped = b->dropped ? b->dropped : storages[i]->dropped;
			return true;
		}
	return false;
}

void
truth_reset(void)
{
	published = 0;
	objects_reset();
	for (size_t i = 0; i < nversions; i++)
		free(versions[i].voided);
	if (nversions)
		memset(versions, 0, nversions * sizeof(Version));
	for (size_t i = 0; i < nstorages; i++)
	{
		free(storages[i]->rows);
		free(storages[i]->batches);
		free(storages[i]);
	}
	nstorages = nepochs = nschema_changes = nname_changes = 0;
	head = 0;
	memset(schema_of, 0, sizeof(schema_of));
}
