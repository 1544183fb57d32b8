/*
 * tree.c: checkpoints: the root, and the pages below it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "manifest/rowset.h"
#include "manifest/sum.h"
#include "messages.h"
#include "verify/verify.h"

#define MAX_HEIGHT 16
#define AHEAD 8

bool
verify_rowset(const S3am__RowSet *set, uint64 first, uint64 end)
{
	RowSet *rows = rowset_decode(set);
	bool fine;

	if (rows == NULL)
		return false;
	fine = !rowset_any(rows, 0, first) && !(end < PG_UINT64_MAX && rowset_any(rows, end, PG_UINT64_MAX));
	rowset_free(rows);
	return fine;
}

S3am__Checkpoint *
verify_root(Verify *v, const S3am__CheckpointRef *ref, bool *absent)
{
	char key[KEY_SIZE];
	uint8 digest[16];
	S3am__Checkpoint *root;
	MemoryContext old = v->object_cxt;

	key_checkpoint(key, ref->version, ref->epoch);
	v->object_cxt = v->cxt;
	root = (S3am__Checkpoint *) verify_object(v, NULL, key, ENVELOPE_CHECKPOINT, &s3am__checkpoint__descriptor,
											  "checkpoint", absent, digest);
	v->object_cxt = old;
	if (root == NULL)
		return NULL;
	/* without a digest it is one that nobody published, or an old one */
	if (ref->digest.len == 16 && memcmp(ref->digest.data, digest, 16) != 0)
		verify_problem(v, key, "checkpoint", "it is not the checkpoint that was published under this name");
	else if (root->version != ref->version || root->manifest_digest.len != 16)
		verify_problem(v, key, "checkpoint", "it says that it is the state of version " UINT64_FORMAT, root->version);
	else
		return root;
	return NULL;
}

/* ------------------------------------------------------------------------------------ pages */

typedef enum TreeKind
{
	TREE_TABLES,
	TREE_BATCHES,
	TREE_DDL
} TreeKind;

typedef struct Tree
{
	TreeKind kind;
	const char *root; /* key of the checkpoint, for what is inside of it */
	bool batches;
	NextRows *rows; /* not NULL: only these are wanted */
	uint64 next_row; /* of the table */
} Tree;

static void walk_ref(Verify *v, const Tree *tree, const S3am__PageRef *ref, Fetch *f, const char *parent, uint64 first,
					 uint64 end, int height);

static void
check_batches(Verify *v, const Tree *tree, const char *key, const S3am__Page *page, uint64 first, uint64 end)
{
	uint64 last = first;

	for (size_t i = 0; i < page->n_batches; i++)
	{
		const S3am__BatchState *b = page->batches[i];

		if (b->batch == NULL || b->first_row < last || b->first_row >= end ||
			b->batch->nrows > tree->next_row - Min(b->first_row, tree->next_row))
		{
			verify_problem(v, key, "checkpoint page", "a batch of rows at " UINT64_FORMAT " is not where it belongs",
						   b->first_row);
			continue;
		}
		last = b->first_row + b->batch->nrows;
		if (b->batch->segment)
			(void) idset_add(v->named, b->batch->segment->epoch, b->batch->segment->number);
		if (tree->batches)
			verify_batch(v, key, b->batch);
	}
	if (!verify_rowset(page->removed, first, end))
		verify_problem(v, key, "checkpoint page", "its set of removed rows is not one of its range");
}

static void
check_page(Verify *v, const Tree *tree, const char *key, const S3am__Page *page, uint64 first, uint64 end, int height)
{
	Fetch *ahead[AHEAD] = {0};
	size_t asked = 0;
	uint64 last = first;

	CHECK_FOR_INTERRUPTS();
	verify_pin_renew(v);
	for (size_t i = 0; i < page->n_tables; i++)
	{
		const S3am__TableState *t = page->tables[i];
		Tree below = {TREE_BATCHES, tree->root, tree->batches, NULL, t->next_row};

		if (t->storage < last || t->storage >= end)
			verify_problem(v, key, "checkpoint page", "storage " UINT64_FORMAT " is not where it belongs", t->storage);
		last = t->storage;
		if (tree->rows)
			rows_set(tree->rows, t->storage, t->next_row);
		else if (t->batches)
			walk_ref(v, &below, t->batches, NULL, key, 0, PG_UINT64_MAX, 0);
	}
	if (tree->kind == TREE_BATCHES)
		check_batches(v, tree, key, page, first, end);
	for (size_t i = 0; i < page->n_children; i++)
	{
		const S3am__PageRef *child = page->children[i];
		uint64 from = i == 0 ? first : child->first;
		uint64 to = i + 1 < page->n_children ? page->children[i + 1]->first : end;

		/* pages are small and many: the next ones are on their way meanwhile */
		for (asked = Max(asked, i); asked < page->n_children && asked < i + AHEAD; asked++)
		{
			const S3am__PageRef *next = page->children[asked];
			char next_key[KEY_SIZE];

			key_page(next_key, next->epoch, next->number);
			ahead[asked % AHEAD] =
				next->inside || (tree->rows == NULL && idset_contains(v->pages, next->epoch, next->number))
					? NULL
					: fetch_begin(v, next_key, 0, -1);
		}
		if (from < first || from > to || to > end)
			verify_problem(v, key, "checkpoint page", "the ranges of its children do not follow each other");
		walk_ref(v, tree, child, ahead[i % AHEAD], key, from, to, height + 1);
	}
}

/* f: the read that is under way, or NULL. */
static void
walk_ref(Verify *v, const Tree *tree, const S3am__PageRef *ref, Fetch *f, const char *parent, uint64 first, uint64 end,
		 int height)
{
	MemoryContext outer = v->object_cxt;
	const S3am__Page *page = ref->inside;
	S3am__BatchSum sum;
	char key[KEY_SIZE];

	if (height >= MAX_HEIGHT)
	{
		if (f)
			fetch_free(v, f);
		verify_problem(v, parent, "checkpoint page", "the tree is too high");
		return;
	}
	if (page)
	{
		check_page(v, tree, parent, page, first, end, height);
		return;
	}
	if (tree->rows == NULL && !idset_add(v->pages, ref->epoch, ref->number))
	{
		/* another checkpoint shares it */
		if (f)
			fetch_free(v, f);
		return;
	}
	key_page(key, ref->epoch, ref->number);
	v->object_cxt = AllocSetContextCreate(v->cxt, "s3am checkpoint page", ALLOCSET_DEFAULT_SIZES);
	page = (const S3am__Page *) verify_object(v, f, key, ENVELOPE_PAGE, &s3am__page__descriptor, "checkpoint page",
											  NULL, NULL);
	if (page && ref->size && ref->size != s3am__page__get_packed_size(page))
		verify_problem(v, key, "checkpoint page", "its content is not as long as what refers to it says");
	if (page && ref->batches && (!sum_page(&sum, page) || !sum_same(&sum, ref->batches)))
		verify_problem(v, key, "checkpoint page", "its content is not what the page that refers to it says");
	if (page)
		check_page(v, tree, key, page, first, end, height);
	MemoryContextDelete(v->object_cxt);
	v->object_cxt = outer;
}

void
verify_next_rows(Verify *v, const S3am__Checkpoint *root)
{
	char key[KEY_SIZE];
	Tree tree = {TREE_TABLES, key, false, NULL, 0};

	tree.rows = v->rows = rows_create();
	snprintf(key, sizeof(key), "checkpoints of version " UINT64_FORMAT, root->version);
	v->quiet = true; /* they are judged when the whole tree is read */
	if (root->tables)
		walk_ref(v, &tree, root->tables, NULL, key, 0, PG_UINT64_MAX, 0);
	v->quiet = false;
}

void
verify_tree(Verify *v, const S3am__Checkpoint *root, bool batches)
{
	char key[KEY_SIZE];
	Tree tables = {TREE_TABLES, key, batches && v->deep, NULL, 0};
	Tree ddl = {TREE_DDL, key, false, NULL, 0};

	snprintf(key, sizeof(key), "checkpoint of version " UINT64_FORMAT, root->version);
	for (size_t i = 0; i < root->n_dropped; i++)
		(void) idset_add(v->named, root->dropped[i]->epoch, root->dropped[i]->number);
	if (root->tables)
		walk_ref(v, &tables, root->tables, NULL, key, 0, PG_UINT64_MAX, 0);
	if (root->ddl)
		walk_ref(v, &ddl, root->ddl, NULL, key, 0, PG_UINT64_MAX, 0);
}
