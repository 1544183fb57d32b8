/*
 * restore.c: a checkpoint's trees into catalogs and shared state.
 *
 * Pages are used one after the other on the way down, the next ones being on their way, so memory holds some of each level whatever the
 * repository has.  Schema changes come in
 * the order of their versions, each unless s3am.applied says that the local catalogs have it.  Rows keep the version that added them;
 * when a row ended is not known, so rows end at the checkpoint's version.
 */
#include "postgres.h"

#include <inttypes.h>

#include <roaring/roaring.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "ddl/ddl.h"
#include "ddl/sequence.h"
#include "manifest/envelope.h"
#include "manifest/keys.h"
#include "manifest/leaf.h"
#include "messages.h"
#include "node/applied.h"
#include "node/bucket.h"
#include "node/state.h"
#include "worker/restore.h"

#define MAX_HEIGHT 16

#define PAGES_AHEAD 32 /* of one level of a tree, on their way at a time */

/* A page, and how to get at its batches. */
typedef struct LoadedPage
{
	S3am__Page *page; /* of an object: all of it but the batches */
	LeafReader batches; /* those: of an object */
	size_t siblings; /* pages of its parent from here on, itself included */
	char key[KEY_SIZE];
} LoadedPage;

typedef struct Walk
{
	void (*leaf)(void *arg, LoadedPage *leaf);
	void *arg;
	bool ahead; /* pages may be asked for before they are needed: all of the walk is one transaction */
	/* NULL, or what becomes of leaves of batches that need not be read now */
	void (*unread)(void *arg, const S3am__PageRef *ref, uint64 first, uint64 end);
} Walk;

/* ------------------------------------------------------------------------------------ pages */

static void
damaged(const char *key, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("cannot read object \"%s\" of the repository", key),
					errdetail("%s", what)));
}

/* Pages that are needed one after the other. */
typedef struct PagesAhead
{
	S3am__PageRef *const *refs;
	bool unread; /* not those of which it is known what is in them */
	size_t n, asked;
	BucketRead *reads[PAGES_AHEAD];
} PagesAhead;

/* The object of refs[i] on its way, the ones after it, too; NULL: nobody has asked for it. */
static BucketRead *
ahead_take(PagesAhead *ahead, size_t i)
{
	for (; ahead->asked < ahead->n && ahead->asked < i + PAGES_AHEAD; ahead->asked++)
	{
		const S3am__PageRef *ref = ahead->refs[ahead->asked];
		char key[KEY_SIZE];

		ahead->reads[ahead->asked % PAGES_AHEAD] = NULL;
		if (ref == NULL || ref->inside || (ahead->unread && ref->batches))
			continue;
		key_page(key, ref->epoch, ref->number);
		ahead->reads[ahead->asked % PAGES_AHEAD] = bucket_read_start(key, 0, -1);
	}
	return ahead->reads[i % PAGES_AHEAD];
}

/* read: the object on its way, which is ended here, or NULL.  All of it goes with the current context. */
static void
read_page(const S3am__PageRef *ref, BucketRead *read, LoadedPage *loaded)
{
	char *error = NULL;
	const uint8 *object = NULL;
	Size size;
	size_t len;
	uint8 *payload;

	key_page(loaded->key, ref->epoch, ref->number);
	if (read)
		object = bucket_read_wait(read, &size);
	/* this one tells what is wrong */
	if (object == NULL)
		object = bucket_read(loaded->key, 0, -1, &size);
	payload = envelope_open(ENVELOPE_PAGE, bucket_repository_uuid(), loaded->key, object, size, &len, NULL, &error);
	if (read)
		bucket_read_end(read);
	if (payload)
	{
		/* it goes with the context, whatever happens */
		MemoryContextCallback *callback =
			MemoryContextAllocExtended(CurrentMemoryContext, sizeof(MemoryContextCallback), MCXT_ALLOC_NO_OOM);

		if (callback == NULL)
			free(payload);
		else
		{
			callback->func = free;
			callback->arg = payload;
			MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
			loaded->page = leaf_open(&loaded->batches, payload, len, message_allocator(CurrentMemoryContext));
		}
	}
	if (loaded->page == NULL)
	{
		char *text = pstrdup(error ? error : "it cannot be decoded");

		free(error);
		damaged(loaded->key, text);
	}
}

/* Calls w->leaf for the leaves of a tree, in order.  first, end: the range of the page. */
static void
walk(const Walk *w, const S3am__PageRef *ref, BucketRead *read, uint64 first, uint64 end, int height, size_t siblings)
{
	MemoryContext cxt, old;
	LoadedPage loaded = {.siblings = siblings};
	PagesAhead ahead = {0};

	if (ref == NULL)
		return;
	if (w->unread && ref->batches && !ref->inside)
	{
		w->unread(w->arg, ref, first, end);
		return;
	}
	CHECK_FOR_INTERRUPTS();
	if (height > MAX_HEIGHT)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a checkpoint of the repository is damaged"),
						errdetail("Its pages are nested too deeply.")));
	cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am checkpoint page", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	if (ref->inside)
		loaded.page = ref->inside;
	else
		read_page(ref, read, &loaded);
	ahead.refs = loaded.page->children;
	ahead.n = loaded.page->n_children;
	ahead.unread = w->unread != NULL;
	for (size_t i = 0; i < ahead.n; i++)
		walk(w, ahead.refs[i], w->ahead ? ahead_take(&ahead, i) : NULL, i == 0 ? first : ahead.refs[i]->first,
			 i + 1 < ahead.n ? ahead.refs[i + 1]->first : end, height + 1, ahead.n - i);
	if (ahead.n == 0)
		w->leaf(w->arg, &loaded);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* ------------------------------------------------------------------------------------ epochs */

void
restore_epochs(S3Node *node, const S3am__Checkpoint *root)
{
	for (int i = 0; i < NODE_EPOCHS; i++)
	{
		uint64 epoch = pg_atomic_read_u64(&node->epochs[i]);
		bool live = false;

		for (size_t j = 0; j < root->n_epochs; j++)
			live |= root->epochs[j]->epoch == epoch && !root->epochs[j]->fenced;
		if (epoch != 0 && !live)
			node_epoch_end(node, epoch);
	}
	for (size_t i = 0; i < root->n_epochs; i++)
		if (!root->epochs[i]->fenced)
			node_epoch_begin(node, root->epochs[i]->epoch);
}

/* ------------------------------------------------------------------------------------ catalogs */

typedef struct CatalogWalk
{
	bool attaching;
	MemoryContext cxt; /* outlives the transactions */
} CatalogWalk;

static void
replay(const S3am__DdlEntry *entry)
{
	if (entry->id == NULL || applied_contains(entry->id->epoch, entry->id->seq))
		return;
	node_doing(DOING_REPLAY);
	ddl_replay(entry->ddl, entry->n_ddl);
	node_doing(DOING_APPLY);
	applied_record(entry->id->epoch, entry->id->seq);
	CommandCounterIncrement();
}

static void
ddl_leaf(void *arg, LoadedPage *leaf)
{
	CatalogWalk *w = arg;
	const S3am__Page *page = leaf->page;

	for (size_t i = 0; i < page->n_ddl; i++)
	{
		if (w->attaching)
		{
			/* one each, as when they come in versions: what is replayed needs not be replayed again */
			StartTransactionCommand();
			PushActiveSnapshot(GetTransactionSnapshot());
			replay(page->ddl[i]);
			PopActiveSnapshot();
			CommitTransactionCommand();
			MemoryContextSwitchTo(w->cxt);
		}
		else
			replay(page->ddl[i]);
	}
}

void
restore_catalogs(S3Node *node, const S3am__Checkpoint *root, bool attaching)
{
	CatalogWalk w = {attaching, CurrentMemoryContext};

	walk(&(Walk){ddl_leaf, &w, false}, root->ddl, NULL, 0, PG_UINT64_MAX, 0, 1);
	if (attaching)
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
	}
	for (size_t i = 0; i < root->n_sequences; i++)
		sequence_restore(node, root->sequences[i]);
	if (attaching)
	{
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(w.cxt);
	}
}

/* ------------------------------------------------------------------------------------ rows */

typedef struct RowWalk
{
	S3Node *node;
	uint64 pos; /* of the checkpoint */
	bool attaching;
	MemoryContext cxt; /* of the table at hand: outlives the pages of its tree */
	HTAB *storages; /* that the checkpoint has; NULL: all that are known here */
	/* the table at hand */
	TableState *table;
	BatchesRestore *batches;
	const BatchArray *before; /* what older snapshots read; NULL: nothing */
	uint32 nbefore;
	uint64 high;
	uint64 removed; /* rows of the table, in all leaves */
	bool unread; /* some leaf of some table */
} RowWalk;

/*
 * A checkpoint has the numbers of all rows that were ever removed; those that no batch has any more are nobody's concern, and memory for them
 * would grow for ever.  A merged batch may begin in one leaf and have rows whose numbers are in those that follow.
 */
static bool
has_row(RowWalk *w, uint64 row)
{
	return state_restored(w->batches, row) || state_may_have(w->before, w->nbefore, row, row + 1);
}

static bool
end_row(uint32_t low, void *arg)
{
	RowWalk *w = arg;

	w->removed++;
	if (!has_row(w, w->high << 32 | low))
		return true;
	/* where an update led is not known: who meets it under an older snapshot is told to try again, as for a row that moved */
	state_ends_add(w->high << 32 | low, w->attaching ? ROW_NONE : ROW_MOVED);
	return true;
}

/* again: the schema is that of the batch before */
static void
restore_batch(RowWalk *w, const S3am__BatchState *b, bool again)
{
	MemoryContext old;

	if (b->batch == NULL || b->batch->schema == NULL)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a checkpoint of the repository is damaged"),
						errdetail("A batch of storage " UINT64_FORMAT " has no schema.", w->table->storage)));
	old = MemoryContextSwitchTo(w->cxt);
	state_restore_batch(w->batches, b->batch, again ? NULL : b->batch->schema, b->first_row,
						POS(b->version, POS_STEP_MAX), b->xmin);
	MemoryContextSwitchTo(old);
}

static void
batch_leaf(void *arg, LoadedPage *leaf)
{
	RowWalk *w = arg;
	const S3am__Page *page = leaf->page;
	const S3am__BatchState *b;
	MemoryContext old = MemoryContextSwitchTo(w->cxt);

	/* the pages that follow are about as full */
	state_restore_expect(w->batches, page->n_batches + leaf->batches.n, leaf->batches.n * (leaf->siblings - 1));
	MemoryContextSwitchTo(old);
	for (size_t i = 0; i < page->n_batches; i++)
		restore_batch(w, page->batches[i], false);
	while ((b = leaf_next(&leaf->batches)) != NULL)
		restore_batch(w, b, leaf->batches.same_schema);
	if (leaf->batches.damaged)
		damaged(leaf->key, "it cannot be decoded");
	state_ends_begin(w->node, w->table, w->pos);
	for (size_t i = 0; page->removed && i < page->removed->n_parts; i++)
	{
		const S3am__RowSet__Part *part = page->removed->parts[i];
		roaring_bitmap_t *bitmap =
			roaring_bitmap_portable_deserialize_safe((const char *) part->bitmap.data, part->bitmap.len);

		if (bitmap == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED), errmsg("a set of rows in a checkpoint cannot be decoded")));
		w->high = part->high;
		(void) roaring_iterate(bitmap, end_row, w);
		roaring_bitmap_free(bitmap);
	}
	state_ends_finish();
}

static void
unread_leaf(void *arg, const S3am__PageRef *ref, uint64 first, uint64 end)
{
	RowWalk *w = arg;
	MemoryContext old = MemoryContextSwitchTo(w->cxt);

	state_restore_leaf(w->batches, ref, first, end);
	w->removed += ref->batches->removed;
	w->unread = true;
	MemoryContextSwitchTo(old);
}

/* Is what the table has of this checkpoint already, by a try that failed later? */
static bool
is_restored(RowWalk *w, const S3am__TableState *t)
{
	const TableState *table = w->attaching ? state_table(w->node, t->storage) : NULL;

	return table && state_has_base(w->node, table, POS_VERSION(w->pos));
}

static void
table_leaf(void *arg, LoadedPage *leaf)
{
	RowWalk *w = arg;
	const S3am__Page *page = leaf->page;
	PagesAhead ahead = {0};
	S3am__PageRef **trees = palloc(sizeof(S3am__PageRef *) * Max(page->n_tables, 1));
	MemoryContext old;

	for (size_t i = 0; i < page->n_tables; i++)
		trees[i] = is_restored(w, page->tables[i]) ? NULL : page->tables[i]->batches;
	ahead.refs = trees;
	ahead.n = page->n_tables;
	ahead.unread = w->attaching;
	for (size_t i = 0; i < page->n_tables; i++)
	{
		const S3am__TableState *t = page->tables[i];
		bool lazy;

		if (w->storages)
			(void) hash_search(w->storages, &t->storage, HASH_ENTER, NULL);
		if (is_restored(w, t))
		{
			w->unread = true;
			continue;
		}
		w->table = state_add_table(w->node, t->storage, t->table, w->pos);
		w->table->rows_of = t->rows_of;
		w->cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am restored batches", ALLOCSET_DEFAULT_SIZES);
		old = MemoryContextSwitchTo(w->cxt);
		w->batches = state_restore_begin(w->node, w->table);
		w->before = state_batches(w->node, w->table, &w->nbefore);
		MemoryContextSwitchTo(old);
		w->removed = 0;
		/* older snapshots need to know the batches one by one */
		lazy = w->attaching && w->before == NULL && !DsaPointerIsValid(w->table->base);
		walk(&(Walk){batch_leaf, w, true, lazy ? unread_leaf : NULL}, t->batches, ahead_take(&ahead, i), 0,
			 PG_UINT64_MAX, 0, 1);
		MemoryContextSwitchTo(w->cxt);
		state_restore_end(w->batches, w->pos);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(w->cxt);
		/* by whom is not known */
		if (pg_atomic_read_u64(&w->table->changed) == w->pos)
			pg_atomic_write_u64(&w->table->changed_elsewhere, w->pos);
		pg_atomic_write_u64(&w->table->deleted, w->removed);
		/* rows at the end may have been removed, and their batch dropped */
		if (pg_atomic_read_u64(&w->table->next_row) < t->next_row)
			pg_atomic_write_u64(&w->table->next_row, t->next_row);
		/* where nobody reads yet, ends need not be told apart */
		if (w->attaching)
		{
			state_forget_ends(w->node, w->table, 0, t->next_row);
			state_reclaim(w->node);
		}
	}
}

static void
drop_absent(void *arg, TableState *table)
{
	RowWalk *w = arg;

	if (hash_search(w->storages, &table->storage, HASH_FIND, NULL) == NULL)
		state_drop_table(w->node, table->storage, w->pos);
}

void
restore_rows(S3Node *node, const S3am__Checkpoint *root, bool attaching)
{
	RowWalk w = {0};
	HASHCTL ctl = {0};

	w.node = node;
	w.pos = POS(root->version, POS_STEP_MAX);
	w.attaching = attaching;
	ctl.keysize = ctl.entrysize = sizeof(uint64);
	ctl.hcxt = CurrentMemoryContext;
	w.storages = hash_create("s3am storages of a checkpoint", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	walk(&(Walk){table_leaf, &w, true}, root->tables, NULL, 0, PG_UINT64_MAX, 0, 1);
	state_each(node, drop_absent, &w);
	hash_destroy(w.storages);
	/* before `restoring` says that the checkpoint is done with */
	if (w.unread && pg_atomic_read_u64(&node->base_version) == 0)
		pg_atomic_write_u64(&node->base_version, root->version);
}

void
restore_doom(uint64 version)
{
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		NodeBackend *backend = node_backend(i);

		if (pg_atomic_read_u64(&backend->owner) == 0)
			continue;
		backend->doomed_by = version;
		pg_write_barrier();
		pg_atomic_write_u32(&backend->doomed, DOOM_WRITES);
	}
}
