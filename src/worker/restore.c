/*
 * restore.c: a checkpoint's trees into catalogs and shared state.
 *
 * Pages are read one after the other on the way down, so memory holds one per level whatever the repository has.  Schema changes come in
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
#include "messages.h"
#include "node/applied.h"
#include "node/bucket.h"
#include "node/state.h"
#include "worker/restore.h"

#define MAX_HEIGHT 16

typedef void (*LeafEach)(void *arg, const S3am__Page *page);

/* ------------------------------------------------------------------------------------ pages */

static S3am__Page *
read_page(const S3am__PageRef *ref)
{
	char key[KEY_SIZE];
	char *error = NULL;
	Size size;
	size_t len;
	uint8 *object, *payload;
	S3am__Page *page = NULL;

	key_page(key, ref->epoch, ref->number);
	object = bucket_read(key, 0, -1, &size);
	payload = envelope_open(ENVELOPE_PAGE, bucket_repository_uuid(), key, object, size, &len, NULL, &error);
	pfree(object);
	if (payload)
	{
		/* what malloc gave must not be lost by an error */
		uint8 *copy =
			MemoryContextAllocExtended(CurrentMemoryContext, Max(len, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);

		if (copy)
			memcpy(copy, payload, len);
		free(payload);
		if (copy)
			page = s3am__page__unpack(message_allocator(CurrentMemoryContext), len, copy);
	}
	if (page == NULL)
	{
		char *text = pstrdup(error ? error : "it cannot be decoded");

		free(error);
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("cannot read object \"%s\" of the repository", key),
						errdetail("%s", text)));
	}
	return page;
}

/* Calls `each` for the leaves of a tree, in order. */
static void
walk(const S3am__PageRef *ref, int height, LeafEach each, void *arg)
{
	MemoryContext cxt, old;
	S3am__Page *page;

	if (ref == NULL)
		return;
	CHECK_FOR_INTERRUPTS();
	if (height > MAX_HEIGHT)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a checkpoint of the repository is damaged"),
						errdetail("Its pages are nested too deeply.")));
	cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am checkpoint page", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	page = ref->inside ? ref->inside : read_page(ref);
	for (size_t i = 0; i < page->n_children; i++)
		walk(page->children[i], height + 1, each, arg);
	if (page->n_children == 0)
		each(arg, page);
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
ddl_leaf(void *arg, const S3am__Page *page)
{
	CatalogWalk *w = arg;

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

	walk(root->ddl, 0, ddl_leaf, &w);
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
	const S3am__Page *page; /* the leaf at hand */
	size_t at; /* its batch that holds the row at hand, or comes after it */
	uint64 high;
	uint64 removed; /* rows of the table, in all leaves */
} RowWalk;

/*
 * A checkpoint has the numbers of all rows that were ever removed; those that no batch has any more are nobody's concern, and memory for them
 * would grow for ever.  Rows come in order.
 */
static bool
has_row(RowWalk *w, uint64 row)
{
	const S3am__Page *page = w->page;

	while (w->at < page->n_batches && page->batches[w->at]->first_row + page->batches[w->at]->batch->nrows <= row)
		w->at++;
	return (w->at < page->n_batches && page->batches[w->at]->first_row <= row) ||
		   (w->before && state_find_batch(w->before, w->nbefore, row) >= 0);
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

static void
batch_leaf(void *arg, const S3am__Page *page)
{
	RowWalk *w = arg;
	MemoryContext old = CurrentMemoryContext;

	for (size_t i = 0; i < page->n_batches; i++)
	{
		const S3am__BatchState *b = page->batches[i];

		if (b->batch == NULL || b->batch->schema == NULL)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a checkpoint of the repository is damaged"),
							errdetail("A batch of storage " UINT64_FORMAT " has no schema.", w->table->storage)));
		MemoryContextSwitchTo(w->cxt);
		state_restore_batch(w->batches, b->batch, b->batch->schema, b->first_row, POS(b->version, POS_STEP_MAX),
							b->xmin);
		MemoryContextSwitchTo(old);
	}
	w->page = page;
	w->at = 0;
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
table_leaf(void *arg, const S3am__Page *page)
{
	RowWalk *w = arg;
	MemoryContext old;

	for (size_t i = 0; i < page->n_tables; i++)
	{
		const S3am__TableState *t = page->tables[i];

		if (w->storages)
			(void) hash_search(w->storages, &t->storage, HASH_ENTER, NULL);
		w->table = state_add_table(w->node, t->storage, t->table, w->pos);
		w->cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am restored batches", ALLOCSET_DEFAULT_SIZES);
		old = MemoryContextSwitchTo(w->cxt);
		w->batches = state_restore_begin(w->node, w->table);
		w->before = state_batches(w->node, w->table, &w->nbefore);
		MemoryContextSwitchTo(old);
		w->removed = 0;
		walk(t->batches, 0, batch_leaf, w);
		MemoryContextSwitchTo(w->cxt);
		state_restore_end(w->batches, w->pos);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(w->cxt);
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
	walk(root->tables, 0, table_leaf, &w);
	state_each(node, drop_absent, &w);
	hash_destroy(w.storages);
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
