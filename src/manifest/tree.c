/*
 * tree.c: see tree.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/envelope.h"
#include "manifest/keys.h"
#include "manifest/memory.h"
#include "manifest/tree.h"

#define MAX_HEIGHT 16
#define MAX_ATTEMPTS 20

typedef struct Frame
{
	S3am__Page *page;
	bool own; /* an object, not inside its parent */
	bool keep; /* the visitor has it */
	size_t next; /* child */
	uint64_t first, end;
} Frame;

struct TreeWalk
{
	Store *store;
	uint8_t uuid[16];
	TreeVisitor visitor;
	const S3am__PageRef *root;
	bool begun;
	Frame frames[MAX_HEIGHT];
	int depth;
	StoreOp *op;
	bool waiting; /* there was no memory for op */
	/* being read */
	const S3am__PageRef *ref;
	uint64_t ref_first, ref_end;
	int attempts;
	bool cancelled;
	bool busy; /* tree_run() is on the stack */
};

static void
release(TreeWalk *w)
{
	while (w->depth > 0)
	{
		Frame *f = &w->frames[--w->depth];

		if (f->own && !f->keep)
			s3am__page__free_unpacked(f->page, NULL);
	}
	free(w);
}

static void
finish(TreeWalk *w, StoreStatus status, const char *error)
{
	TreeVisitor v = w->visitor;

	release(w);
	v.done(v.arg, status, error);
}

static void got_page(void *arg, StoreResult *result);

static void
request(TreeWalk *w)
{
	char key[KEY_SIZE];

	key_page(key, w->ref->epoch, w->ref->number);
	w->op = store_get(w->store, key, 0, -1, got_page, w);
	w->waiting = w->op == NULL;
}

static void
got_page(void *arg, StoreResult *result)
{
	TreeWalk *w = arg;
	char key[KEY_SIZE];
	char text[300];
	char *error = NULL;
	size_t len;
	uint8_t *payload = NULL;
	S3am__Page *page = NULL;

	w->op = NULL;
	if (w->cancelled)
	{
		release(w);
		return;
	}
	key_page(key, w->ref->epoch, w->ref->number);
	if (result->status == STORE_OK)
		payload = envelope_open(ENVELOPE_PAGE, w->uuid, key, result->data, result->len, &len, NULL, &error);
	if (payload)
		page = s3am__page__unpack(&memory_allocator, len, payload);
	free(payload);
	if (page == NULL)
	{
		if (result->status != STORE_NOT_FOUND && result->status != STORE_DENIED && result->status != STORE_FULL &&
			++w->attempts < MAX_ATTEMPTS)
		{
			free(error);
			request(w);
			return;
		}
		snprintf(text, sizeof(text), "%s", error ? error : "");
		free(error);
		if (text[0] == '\0')
			snprintf(text, sizeof(text), "object \"%s\" of a checkpoint cannot be read: %s", key,
					 result->status == STORE_OK ? "it is damaged" : result->error);
		finish(w, result->status == STORE_OK ? STORE_DAMAGED : result->status, text);
		return;
	}
	if (w->depth == MAX_HEIGHT)
	{
		s3am__page__free_unpacked(page, NULL);
		snprintf(text, sizeof(text), "object \"%s\" is damaged: the tree is too high", key);
		finish(w, STORE_DAMAGED, text);
		return;
	}
	w->frames[w->depth++] = (Frame){page, true, false, 0, w->ref_first, w->ref_end};
	{
		Frame *f = &w->frames[w->depth - 1];

		w->busy = true; /* tree_cancel() from within only says so */
		f->keep = w->visitor.page(w->visitor.arg, w->ref, page, f->first, f->end);
	}
	tree_run(w);
}

/* True: goes on at once; false: a read was started. */
static bool
enter(TreeWalk *w, const S3am__PageRef *ref, uint64_t first, uint64_t end)
{
	if (w->visitor.want && !w->visitor.want(w->visitor.arg, ref, first, end))
		return true;
	if (ref->inside)
	{
		if (w->depth == MAX_HEIGHT)
			return true;
		w->frames[w->depth++] = (Frame){ref->inside, false, false, 0, first, end};
		(void) w->visitor.page(w->visitor.arg, ref, ref->inside, first, end);
		return true;
	}
	w->ref = ref;
	w->ref_first = first;
	w->ref_end = end;
	w->attempts = 0;
	request(w);
	return false;
}

void
tree_run(TreeWalk *w)
{
	w->busy = true;
	if (!w->begun)
	{
		w->begun = true;
		if (w->root && !enter(w, w->root, 0, UINT64_MAX))
		{
			w->busy = false;
			return;
		}
	}
	while (w->depth > 0 && !w->cancelled)
	{
		Frame *f = &w->frames[w->depth - 1];

		if (f->next < f->page->n_children)
		{
			size_t i = f->next++;
			uint64_t end = i + 1 < f->page->n_children ? f->page->children[i + 1]->first : f->end;

			if (!enter(w, f->page->children[i], i == 0 ? f->first : f->page->children[i]->first, end))
			{
				w->busy = false;
				return;
			}
			continue;
		}
		if (f->own && !f->keep)
			s3am__page__free_unpacked(f->page, NULL);
		w->depth--;
	}
	w->busy = false;
	if (w->cancelled)
		release(w);
	else
		finish(w, STORE_OK, NULL);
}

TreeWalk *
tree_walk(Store *store, const uint8_t uuid[16], const S3am__PageRef *root, const TreeVisitor *visitor)
{
	TreeWalk *w = memory_need_zeroed(1, sizeof(*w));

	w->store = store;
	memcpy(w->uuid, uuid, 16);
	w->visitor = *visitor;
	w->root = root;
	return w;
}

void
tree_tick(TreeWalk *w)
{
	if (w->waiting)
		request(w);
}

void
tree_cancel(TreeWalk *w)
{
	w->cancelled = true;
	if (w->op)
		store_cancel(w->store, w->op);
	else if (!w->busy)
		release(w);
}
