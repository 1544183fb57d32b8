/*
 * treebuild.c: see treebuild.h.
 *
 * A page is rebuilt only if a change falls into its range.  It may become several, or none; inner pages are rebuilt from what their
 * children became.  The range of a page begins where its parent says and ends where the next one begins, so what
 * falls between two pages belongs to the earlier one.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest/memory.h"
#include "manifest/sum.h"
#include "manifest/treebuild.h"

typedef struct CachedPage
{
	struct CachedPage *next;
	uint64_t epoch, number;
	S3am__Page *page;
} CachedPage;

/* What a page became: itself, or a new one. */
typedef struct Piece
{
	uint64_t first;
	S3am__PageRef *ref;
	S3am__Page *page;
} Piece;

typedef struct Pieces
{
	Piece *list;
	size_t n, capacity;
} Pieces;

typedef enum TreeKind
{
	TREE_TABLES,
	TREE_BATCHES,
	TREE_DDL
} TreeKind;

static void update(TreeBuild *t, TreeKind kind, DeltaTable *table, const S3am__PageRef *ref, uint64_t first,
				   uint64_t end, Pieces *out);
static S3am__PageRef *rebuild(TreeBuild *t, TreeKind kind, DeltaTable *table, const S3am__PageRef *old);

void
treebuild_keep(TreeBuild *t, const S3am__PageRef *ref, S3am__Page *page)
{
	CachedPage *c = memory_need(sizeof(*c));
	CachedPage **list = &t->cache[(ref->epoch * 31 + ref->number) % 1024];

	*c = (CachedPage){*list, ref->epoch, ref->number, page};
	*list = c;
}

void
treebuild_free(TreeBuild *t)
{
	for (int i = 0; i < 1024; i++)
		while (t->cache[i])
		{
			CachedPage *c = t->cache[i];

			t->cache[i] = c->next;
			s3am__page__free_unpacked(c->page, NULL);
			free(c);
		}
}

static S3am__Page *
page_of(TreeBuild *t, const S3am__PageRef *ref)
{
	if (ref->inside)
		return ref->inside;
	for (CachedPage *c = t->cache[(ref->epoch * 31 + ref->number) % 1024]; c; c = c->next)
		if (c->epoch == ref->epoch && c->number == ref->number)
			return c->page;
	t->failed = true;
	return NULL;
}

/* ------------------------------------------------------------------------------------ copies */

#define COPY(type, message)                                                                                            \
	static S3am__##type *copy_##message(const S3am__##type *m)                                                         \
	{                                                                                                                  \
		size_t len = s3am__##message##__get_packed_size(m);                                                            \
		uint8_t *bytes = memory_need(len + 1);                                                                         \
		S3am__##type *copy;                                                                                            \
                                                                                                                       \
		s3am__##message##__pack(m, bytes);                                                                             \
		copy = s3am__##message##__unpack(&memory_allocator, len, bytes);                                               \
		free(bytes);                                                                                                   \
		return copy;                                                                                                   \
	}

COPY(PageRef, page_ref)
COPY(BatchState, batch_state)
COPY(TableState, table_state)
COPY(DdlEntry, ddl_entry)

static S3am__Page *
new_page(void)
{
	S3am__Page *page = memory_need(sizeof(*page));

	s3am__page__init(page);
	return page;
}

static void
add_piece(Pieces *p, Piece piece)
{
	if (p->n == p->capacity)
	{
		p->capacity = p->capacity ? p->capacity * 2 : 8;
		p->list = memory_grow(p->list, p->capacity * sizeof(Piece));
	}
	p->list[p->n++] = piece;
}

static void
append(void ***list, size_t *n, void *item)
{
	/* a power of two is allocated */
	if ((*n & (*n - 1)) == 0)
		*list = memory_grow(*list, (*n ? *n * 2 : 1) * sizeof(void *));
	(*list)[(*n)++] = item;
}

/* ------------------------------------------------------------------------------------ leaves */

static size_t
batch_size(const S3am__BatchState *b)
{
	return s3am__batch_state__get_packed_size(b) + 4;
}

static void
add_batch(TreeBuild *t, Pieces *out, uint64_t first, size_t *bytes, const S3am__BatchState *b, size_t *begun)
{
	S3am__Page *page = out->n > *begun ? out->list[out->n - 1].page : NULL;
	size_t size = batch_size(b);

	if (page == NULL || (*bytes + size > t->page_bytes && page->n_batches > 0))
	{
		page = new_page();
		add_piece(out, (Piece){out->n == *begun ? first : b->first_row, NULL, page});
		*bytes = 0;
	}
	append((void ***) &page->batches, &page->n_batches, copy_batch_state(b));
	*bytes += size;
}

static const DeltaDrop *
find_drop(const DeltaTable *table, uint64_t row)
{
	size_t low = 0, high = table->ndrops;

	while (low < high)
	{
		size_t middle = (low + high) / 2;

		if (table->drops[middle].first_row < row)
			low = middle + 1;
		else
			high = middle;
	}
	return low < table->ndrops && table->drops[low].first_row == row ? &table->drops[low] : NULL;
}

static void
update_batches(TreeBuild *t, DeltaTable *table, const S3am__Page *old, uint64_t first, uint64_t end, Pieces *out)
{
	size_t begun = out->n, bytes = 0, i = 0, j = 0;
	size_t nold = old ? old->n_batches : 0;
	RowSet *removed = rowset_decode(old ? old->removed : NULL);
	RowSet *part = rowset_part(table->removed, first, end);

	if (removed == NULL)
	{
		t->failed = true;
		removed = rowset_create();
	}
	rowset_add_all(removed, part);
	rowset_free(part);
	while (j < table->nbatches && table->batches[j]->first_row < first)
		j++;
	while (i < nold || (j < table->nbatches && table->batches[j]->first_row < end))
	{
		bool fresh = j < table->nbatches && table->batches[j]->first_row < end;

		if (i < nold)
		{
			const DeltaDrop *drop = find_drop(table, old->batches[i]->first_row);

			if (drop)
			{
				if (old->batches[i]->batch->segment)
					delta_dropped(t->delta, old->batches[i]->batch->segment, drop->version);
				i++;
				continue;
			}
			if (!fresh || old->batches[i]->first_row < table->batches[j]->first_row)
			{
				add_batch(t, out, first, &bytes, old->batches[i++], &begun);
				continue;
			}
		}
		add_batch(t, out, first, &bytes, table->batches[j++], &begun);
	}
	/* without batches as well: a merged one that begins in an earlier leaf may have rows that are removed here */
	if (out->n == begun && !rowset_empty(removed))
		add_piece(out, (Piece){first, NULL, new_page()});
	for (size_t p = begun; p < out->n; p++)
	{
		part = rowset_part(removed, out->list[p].first, p + 1 < out->n ? out->list[p + 1].first : end);
		rowset_optimize(part);
		if (!rowset_empty(part))
			out->list[p].page->removed = rowset_encode(part);
		rowset_free(part);
	}
	rowset_free(removed);
}

static void
add_table(TreeBuild *t, Pieces *out, uint64_t first, size_t *bytes, S3am__TableState *state, size_t begun)
{
	S3am__Page *page = out->n > begun ? out->list[out->n - 1].page : NULL;
	size_t size = s3am__table_state__get_packed_size(state) + 4;

	if (page == NULL || (*bytes + size > t->page_bytes && page->n_tables > 0))
	{
		page = new_page();
		add_piece(out, (Piece){out->n == begun ? first : state->storage, NULL, page});
		*bytes = 0;
	}
	append((void ***) &page->tables, &page->n_tables, state);
	*bytes += size;
}

static S3am__TableState *
update_table(TreeBuild *t, DeltaTable *table, const S3am__TableState *old)
{
	S3am__TableState *state;

	if (table->dropped)
		return NULL;
	state = memory_need(sizeof(*state));
	s3am__table_state__init(state);
	state->storage = table->storage;
	state->table = table->table ? table->table : old ? old->table : table->storage;
	state->rows_of = table->rows_of ? table->rows_of : old ? old->rows_of : 0;
	state->next_row = old && old->next_row > table->next_row ? old->next_row : table->next_row;
	state->batches = rebuild(t, TREE_BATCHES, table, old ? old->batches : NULL);
	return state;
}

static void
update_tables(TreeBuild *t, const S3am__Page *old, uint64_t first, uint64_t end, Pieces *out)
{
	size_t begun = out->n, bytes = 0, i = 0, j = delta_from(t->delta, first);
	size_t nold = old ? old->n_tables : 0;

	for (;;)
	{
		DeltaTable *table = j < t->delta->ntables && t->delta->tables[j]->storage < end ? t->delta->tables[j] : NULL;
		const S3am__TableState *have = NULL;
		S3am__TableState *state;

		if (table == NULL && i == nold)
			break;
		if (table == NULL || (i < nold && old->tables[i]->storage < table->storage))
		{
			add_table(t, out, first, &bytes, copy_table_state(old->tables[i++]), begun);
			continue;
		}
		if (i < nold && old->tables[i]->storage == table->storage)
			have = old->tables[i++];
		state = update_table(t, table, have);
		if (state)
			add_table(t, out, first, &bytes, state, begun);
		j++;
	}
}

static void
update_ddl(TreeBuild *t, const S3am__Page *old, uint64_t first, Pieces *out)
{
	size_t begun = out->n, bytes = 0, nold = old ? old->n_ddl : 0;

	for (size_t i = 0; i < nold + t->delta->nddl; i++)
	{
		const S3am__DdlEntry *e = i < nold ? old->ddl[i] : t->delta->ddl[i - nold];
		S3am__Page *page = out->n > begun ? out->list[out->n - 1].page : NULL;
		size_t size = s3am__ddl_entry__get_packed_size(e) + 4;

		/* entries of one version stay together: the version is the key */
		if (page == NULL || (bytes + size > t->page_bytes && page->ddl[page->n_ddl - 1]->version < e->version))
		{
			page = new_page();
			add_piece(out, (Piece){out->n == begun ? first : e->version, NULL, page});
			bytes = 0;
		}
		append((void ***) &page->ddl, &page->n_ddl, copy_ddl_entry(e));
		bytes += size;
	}
}

/* ------------------------------------------------------------------------------------ levels */

static bool
touched(TreeBuild *t, TreeKind kind, const DeltaTable *table, uint64_t first, uint64_t end)
{
	size_t i;

	switch (kind)
	{
		case TREE_TABLES:
			i = delta_from(t->delta, first);
			return i < t->delta->ntables && t->delta->tables[i]->storage < end;
		case TREE_BATCHES:
			return delta_touches(table, first, end);
		case TREE_DDL:
			return end == UINT64_MAX && t->delta->nddl > 0; /* grows at its end */
	}
	return false;
}

/* A new page that is not the only one: an object. */
static S3am__PageRef *
emit(TreeBuild *t, Piece *piece, bool only)
{
	S3am__PageRef *ref;
	S3am__BatchSum *sum;
	size_t len;
	uint8_t *payload;

	if (piece->ref)
		return piece->ref;
	ref = memory_need(sizeof(*ref));
	s3am__page_ref__init(ref);
	ref->first = piece->first;
	len = s3am__page__get_packed_size(piece->page);
	if (only && len <= t->inside_bytes)
	{
		ref->inside = piece->page;
		return ref;
	}
	sum = memory_need(sizeof(*sum));
	if (!sum_page(sum, piece->page))
		t->failed = true;
	if (sum->batches > 0 || sum->removed > 0)
		ref->batches = sum;
	else
		free(sum);
	payload = memory_need(len + 1);
	s3am__page__pack(piece->page, payload);
	s3am__page__free_unpacked(piece->page, NULL);
	ref->epoch = t->epoch;
	ref->number = t->new_page(t->arg);
	ref->size = len;
	t->write(t->arg, ref->number, payload, len);
	return ref;
}

/* Two new leaves that have become small are put together; `first` of the later one goes. */
static bool
join(TreeBuild *t, Piece *a, Piece *b)
{
	RowSet *removed, *more;

	if (!a->page || !b->page || a->page->n_children || b->page->n_children || a->page->n_ddl || b->page->n_ddl ||
		s3am__page__get_packed_size(a->page) + s3am__page__get_packed_size(b->page) > t->page_bytes / 2)
		return false;
	for (size_t i = 0; i < b->page->n_tables; i++)
		append((void ***) &a->page->tables, &a->page->n_tables, b->page->tables[i]);
	for (size_t i = 0; i < b->page->n_batches; i++)
		append((void ***) &a->page->batches, &a->page->n_batches, b->page->batches[i]);
	b->page->n_tables = b->page->n_batches = 0;
	removed = rowset_decode(a->page->removed);
	more = rowset_decode(b->page->removed);
	if (removed && more)
	{
		rowset_add_all(removed, more);
		if (a->page->removed)
			s3am__row_set__free_unpacked(a->page->removed, NULL);
		a->page->removed = rowset_empty(removed) ? NULL : rowset_encode(removed);
	}
	rowset_free(removed);
	rowset_free(more);
	s3am__page__free_unpacked(b->page, NULL);
	return true;
}

/* Makes inner pages over pieces. */
static void
make_inner(TreeBuild *t, Pieces *children, Pieces *out)
{
	S3am__Page *page = NULL;
	size_t n = 0;

	for (size_t i = 0; i < children->n; i++)
		if (n > 0 && join(t, &children->list[n - 1], &children->list[i]))
			continue;
		else
			children->list[n++] = children->list[i];
	children->n = n;
	for (size_t i = 0; i < children->n; i++)
	{
		S3am__PageRef *ref;

		if (page == NULL || page->n_children >= t->fanout)
		{
			page = new_page();
			add_piece(out, (Piece){children->list[i].first, NULL, page});
		}
		ref = emit(t, &children->list[i], false);
		ref->first = children->list[i].first;
		append((void ***) &page->children, &page->n_children, ref);
	}
	children->n = 0;
}

static void
update(TreeBuild *t, TreeKind kind, DeltaTable *table, const S3am__PageRef *ref, uint64_t first, uint64_t end,
	   Pieces *out)
{
	S3am__Page *page;
	Pieces children = {0};

	if (ref && !touched(t, kind, table, first, end))
	{
		S3am__PageRef *copy = copy_page_ref(ref);

		add_piece(out, (Piece){first, copy, NULL});
		return;
	}
	page = ref ? page_of(t, ref) : NULL;
	if (t->failed)
		return;
	if (page == NULL || page->n_children == 0)
	{
		if (kind == TREE_TABLES)
			update_tables(t, page, first, end, out);
		else if (kind == TREE_BATCHES)
			update_batches(t, table, page, first, end, out);
		else
			update_ddl(t, page, first, out);
		return;
	}
	for (size_t i = 0; i < page->n_children; i++)
		update(t, kind, table, page->children[i], i == 0 ? first : page->children[i]->first,
			   i + 1 < page->n_children ? page->children[i + 1]->first : end, &children);
	/* the first one that is left takes over the beginning of the range */
	if (children.n > 0)
		children.list[0].first = first;
	make_inner(t, &children, out);
	free(children.list);
}

static S3am__PageRef *
rebuild(TreeBuild *t, TreeKind kind, DeltaTable *table, const S3am__PageRef *old)
{
	Pieces pieces = {0};
	S3am__PageRef *root = NULL;

	update(t, kind, table, old, 0, UINT64_MAX, &pieces);
	while (pieces.n > 1)
	{
		Pieces above = {0};

		make_inner(t, &pieces, &above);
		free(pieces.list);
		pieces = above;
	}
	if (pieces.n == 1)
	{
		/* an inner page with one child is not needed */
		while (pieces.list[0].page && pieces.list[0].page->n_children == 1)
		{
			S3am__Page *page = pieces.list[0].page;

			pieces.list[0] = (Piece){0, page->children[0], NULL};
			page->n_children = 0;
			s3am__page__free_unpacked(page, NULL);
		}
		root = emit(t, &pieces.list[0], true);
		root->first = 0;
	}
	free(pieces.list);
	return root;
}

S3am__PageRef *
treebuild_tables(TreeBuild *t, const S3am__PageRef *old)
{
	return rebuild(t, TREE_TABLES, NULL, old);
}

S3am__PageRef *
treebuild_ddl(TreeBuild *t, const S3am__PageRef *old)
{
	return rebuild(t, TREE_DDL, NULL, old);
}
