/*
 * objects.c: the oracle for checkpoints and for what collection removes.
 *
 * A checkpoint is compared with the truth row by row when a manifest publishes it.  When an object is removed nothing may need it: the
 * state at the head, a state that a pin in the store keeps, the published checkpoint, or the one that the boundary names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/envelope.h"
#include "manifest/keys.h"
#include "manifest/rowset.h"
#include "sim.h"

typedef struct Published
{
	u64 version, epoch;
	char **pages;
	size_t npages;
} Published;

static Published *published;
static size_t npublished;
static u64 boundary;

/* ---------------------------------------------------------------- reading */

static void *
payload_of(EnvelopeKind kind, const char *key, size_t *len)
{
	size_t object_len;
	const uint8_t *object = bucket_object(key, &object_len);
	char *error = NULL;
	void *payload;

	if (object == NULL)
		return NULL;
	payload = envelope_open(kind, repository_uuid, key, object, object_len, len, NULL, &error);
	free(error);
	return payload;
}

static void
add_page(Published *p, const char *key)
{
	p->pages = realloc(p->pages, (p->npages + 1) * sizeof(char *));
	p->pages[p->npages++] = strdup(key);
}

typedef void (*LeafFn)(void *arg, const S3am__Page *page, u64 first, u64 end);

static void
walk(Published *p, const S3am__PageRef *ref, u64 first, u64 end, LeafFn leaf, void *arg)
{
	S3am__Page *page;
	char key[KEY_SIZE];
	size_t len;
	uint8_t *payload = NULL;

	if (ref == NULL)
		return;
	if (ref->inside)
		page = ref->inside;
	else
	{
		key_page(key, ref->epoch, ref->number);
		payload = payload_of(ENVELOPE_PAGE, key, &len);
		page = payload ? s3am__page__unpack(NULL, len, payload) : NULL;
		free(payload);
		if (page == NULL)
			violation("LOST: checkpoint %llu needs page %s, which is not there", (unsigned long long) p->version, key);
		add_page(p, key);
	}
	for (size_t i = 0; i < page->n_children; i++)
		walk(p, page->children[i], i == 0 ? first : page->children[i]->first,
			 i + 1 < page->n_children ? page->children[i + 1]->first : end, leaf, arg);
	if (page->n_children == 0)
		leaf(arg, page, first, end);
	if (!ref->inside)
		s3am__page__free_unpacked(page, NULL);
}

/* ---------------------------------------------------------------- comparing */

typedef struct Compare
{
	Published *p;
	Storage *s;
	size_t batches, tables;
	u64 rows; /* of batches so far */
	u64 removed;
} Compare;

#define WRONG(...) violation("WRONG CHECKPOINT: " __VA_ARGS__)

static bool
removed_row(void *arg, u64 row)
{
	Compare *c = arg;
	const Row *r = row < c->s->nrows ? &c->s->rows[row] : NULL;

	if (r == NULL || r->ended == 0 || r->ended > c->p->version)
		WRONG("row %llu of storage %llu is not removed in version %llu", (unsigned long long) row,
			  (unsigned long long) c->s->id, (unsigned long long) c->p->version);
	c->removed++;
	return true;
}

static void
compare_batches(void *arg, const S3am__Page *page, u64 first, u64 end)
{
	Compare *c = arg;
	RowSet *removed = rowset_decode(page->removed);

	rowset_each(removed, removed_row, c);
	rowset_free(removed);
	for (size_t i = 0; i < page->n_batches; i++)
	{
		const S3am__BatchState *b = page->batches[i];
		const BatchInfo *info = NULL;

		if (b->first_row < first || b->first_row >= end)
			WRONG("a batch lies outside of its page");
		for (size_t j = 0; j < c->s->nbatches && info == NULL; j++)
			if (c->s->batches[j].first == b->first_row && c->s->batches[j].added <= c->p->version &&
				(c->s->batches[j].dropped == 0 || c->s->batches[j].dropped > c->p->version))
				info = &c->s->batches[j];
		if (info == NULL || info->nrows != b->batch->nrows || info->added != b->version ||
			info->segment_epoch != (b->batch->segment ? b->batch->segment->epoch : 0) ||
			info->segment_number != (b->batch->segment ? b->batch->segment->number : 0))
			WRONG("batch %llu of storage %llu at version %llu", (unsigned long long) b->first_row,
				  (unsigned long long) c->s->id, (unsigned long long) c->p->version);
		for (u64 j = 0; b->batch->segment == NULL && j < info->nrows; j++)
			if (memcmp(b->batch->rows.data + j * sizeof(TestRow), &c->s->rows[info->first + j].row, sizeof(TestRow)) !=
				0)
				WRONG("rows of batch %llu of storage %llu", (unsigned long long) b->first_row,
					  (unsigned long long) c->s->id);
		c->batches++;
	}
}

static void
compare_tables(void *arg, const S3am__Page *page, u64 first, u64 end)
{
	Compare *c = arg;

	for (size_t i = 0; i < page->n_tables; i++)
	{
		const S3am__TableState *t = page->tables[i];
		Compare of_table = {c->p, truth_storage(t->storage), 0, 0, 0, 0};
		size_t batches = 0;
		u64 rows = 0, removed = 0;
		Storage *s = of_table.s;

		if (t->storage < first || t->storage >= end)
			WRONG("a table lies outside of its page");
		if (s == NULL || s->created > c->p->version || (s->dropped && s->dropped <= c->p->version))
			WRONG("storage %llu is not there at version %llu", (unsigned long long) t->storage,
				  (unsigned long long) c->p->version);
		walk(c->p, t->batches, 0, UINT64_MAX, compare_batches, &of_table);
		for (size_t j = 0; j < s->nbatches; j++)
			if (s->batches[j].added <= c->p->version &&
				(s->batches[j].dropped == 0 || s->batches[j].dropped > c->p->version))
				batches++;
		for (size_t j = 0; j < s->nrows; j++)
			if (s->rows[j].added <= c->p->version)
			{
				rows++;
				removed += s->rows[j].ended && s->rows[j].ended <= c->p->version;
			}
		if (of_table.batches != batches || t->next_row != rows || of_table.removed != removed ||
			(int) t->table != s->table + 1)
			WRONG(
				"storage %llu at version %llu has %zu batches, next row %llu, %llu removed; should be %zu, %llu, %llu",
				(unsigned long long) t->storage, (unsigned long long) c->p->version, of_table.batches,
				(unsigned long long) t->next_row, (unsigned long long) of_table.removed, batches,
				(unsigned long long) rows, (unsigned long long) removed);
		c->tables++;
	}
}

static void
compare_ddl(void *arg, const S3am__Page *page, u64 first, u64 end)
{
	(void) first;
	(void) end;
	*(size_t *) arg += page->n_ddl;
}

static void
check_outcomes(const S3am__Checkpoint *root)
{
	for (size_t i = 0; i < root->n_epochs; i++)
	{
		RowSet *committed = rowset_decode(root->epochs[i]->committed);
		RowSet *aborted = rowset_decode(root->epochs[i]->aborted);

		client_check_outcomes(root->version, root->epochs[i]->epoch, committed, aborted);
		rowset_free(committed);
		rowset_free(aborted);
	}
}

/* A manifest publishes a checkpoint, validly. */
void
objects_published(const S3am__CheckpointRef *ref)
{
	char key[KEY_SIZE];
	size_t len, ddl = 0;
	uint8_t *payload;
	S3am__Checkpoint *root;
	Published *p;
	Compare c = {0};
	uint8_t digest[16];

	key_checkpoint(key, ref->version, ref->epoch);
	payload = payload_of(ENVELOPE_CHECKPOINT, key, &len);
	root = payload ? s3am__checkpoint__unpack(NULL, len, payload) : NULL;
	free(payload);
	if (root == NULL || root->version != ref->version)
		violation("LOST: object %s is published, and is not there", key);
	published = realloc(published, (npublished + 1) * sizeof(Published));
	p = &published[npublished++];
	*p = (Published){ref->version, ref->epoch, NULL, 0};
	truth_digest(root->version, digest);
	if (memcmp(digest, root->manifest_digest.data, 16) != 0)
		WRONG("version %llu has another digest", (unsigned long long) root->version);
	c.p = p;
	walk(p, root->tables, 0, UINT64_MAX, compare_tables, &c);
	if (c.tables != truth_count_storages(root->version))
		WRONG("%zu storages at version %llu", c.tables, (unsigned long long) root->version);
	walk(p, root->ddl, 0, UINT64_MAX, compare_ddl, &ddl);
	if (ddl != truth_count_ddl(root->version))
		WRONG("%zu schema changes at version %llu", ddl, (unsigned long long) root->version);
	if (RULE(P7_CHECKPOINT))
		check_outcomes(root);
	s3am__checkpoint__free_unpacked(root, NULL);
	counters[N_CHECKPOINTS]++;
}

/* Are all its pages there? */
bool
objects_complete(u64 version)
{
	for (size_t i = 0; i < npublished; i++)
	{
		size_t len;

		if (published[i].version != version)
			continue;
		for (size_t j = 0; j < published[i].npages; j++)
			if (bucket_object(published[i].pages[j], &len) == NULL)
				return false;
		return true;
	}
	return false;
}

/* ---------------------------------------------------------------- removal */

typedef struct PinCheck
{
	u64 added, dropped; /* needed by states added <= v < dropped */
	const char *key;
} PinCheck;

/* The version that a sign of life or a pin says is needed; of a pin that counts for nothing, none. */
u64
objects_needed(const char *key)
{
	bool node = strncmp(key, "nodes/", 6) == 0;
	size_t len;
	uint8_t *payload = payload_of(node ? ENVELOPE_NODE : ENVELOPE_PIN, key, &len);
	u64 v = UINT64_MAX;

	if (payload && node)
	{
		S3am__Node *m = s3am__node__unpack(NULL, len, payload);

		v = m->oldest;
		s3am__node__free_unpacked(m, NULL);
	}
	else if (payload)
	{
		S3am__Pin *m = s3am__pin__unpack(NULL, len, payload);

		if (pin_in_use(key, m->version))
			v = m->version;
		s3am__pin__free_unpacked(m, NULL);
	}
	free(payload);
	return v;
}

static void
check_pin(void *arg, const char *key)
{
	PinCheck *c = arg;
	bool node = strncmp(key, "nodes/", 6) == 0;
	u64 v;

	if (!bucket_fresh(key))
		return;
	v = objects_needed(key);
	if (node && bucket_pinned_at(key) > v)
		return; /* it had lapsed, and began anew too late */
	if (c->added <= v && v < c->dropped)
		violation("LOST: %s is removed, and %s keeps version %llu", c->key, key, (unsigned long long) v);
}

static u64
boundary_checkpoint(u64 *epoch)
{
	size_t len;
	uint8_t *payload = payload_of(ENVELOPE_BOUNDARY, KEY_BOUNDARY, &len);
	S3am__Boundary *m = payload ? s3am__boundary__unpack(NULL, len, payload) : NULL;
	u64 version = m && m->checkpoint ? m->checkpoint->version : 0;

	*epoch = version ? m->checkpoint->epoch : 0;
	free(payload);
	if (m)
		s3am__boundary__free_unpacked(m, NULL);
	return version;
}

/* Is this one of the checkpoints that somebody starts or reads from? */
static bool
checkpoint_needed(const Published *p)
{
	u64 epoch;

	if (p == &published[npublished - 1])
		return true;
	return boundary_checkpoint(&epoch) == p->version && epoch == p->epoch;
}

static void
removed_checkpoint(const char *key)
{
	for (size_t i = 0; i < npublished; i++)
	{
		char its[KEY_SIZE];
		PinCheck c = {published[i].version, published[i].version + 1, key};

		key_checkpoint(its, published[i].version, published[i].epoch);
		if (strcmp(its, key) != 0)
			continue;
		server_checkpoint_removed(key, published[i].version);
		if (checkpoint_needed(&published[i]))
			violation("LOST: checkpoint %s is removed, and attaching starts from it", key);
		bucket_each("pins/", check_pin, &c);
	}
}

static void
removed_page(const char *key)
{
	for (size_t i = 0; i < npublished; i++)
		for (size_t j = 0; j < published[i].npages; j++)
			if (strcmp(published[i].pages[j], key) == 0)
			{
				PinCheck c = {published[i].version, published[i].version + 1, key};

				server_checkpoint_removed(key, published[i].version);
				if (checkpoint_needed(&published[i]))
					violation("LOST: page %s of checkpoint %llu is removed", key,
							  (unsigned long long) published[i].version);
				bucket_each("pins/", check_pin, &c);
			}
}

void
objects_removed(const char *key)
{
	unsigned long long a, b;

	counters[N_COLLECTED]++;
	note("%s is removed", key);
	if (sscanf(key, "manifests/%llu", &a) == 1)
	{
		if (a > boundary)
			violation("LOST: version %llu is removed, and the boundary is %llu", a, (unsigned long long) boundary);
	}
	else if (strncmp(key, "checkpoints/", 12) == 0)
		removed_checkpoint(key);
	else if (strncmp(key, "pages/", 6) == 0)
		removed_page(key);
	else if (strncmp(key, "nodes/", 6) == 0 || strncmp(key, "pins/", 5) == 0)
		server_sign_removed(key);
	else if (sscanf(key, "segments/%*2x/%llx-%llx", &a, &b) == 2)
	{
		PinCheck c = {0, 0, key};

		if (!truth_segment(a, b, &c.added, &c.dropped))
			return; /* nobody committed it yet; if somebody does, the truth finds it missing */
		if (c.dropped == 0)
			violation("LOST: segment %s of version %llu is removed", key, (unsigned long long) c.added);
		server_segment_removed(key, c.added, c.dropped);
		bucket_each("nodes/", check_pin, &c);
		bucket_each("pins/", check_pin, &c);
	}
}

/* gc/boundary has a new content. */
void
objects_boundary(const uint8_t *object, size_t object_len)
{
	size_t len;
	char *error = NULL;
	uint8_t *payload =
		envelope_open(ENVELOPE_BOUNDARY, repository_uuid, KEY_BOUNDARY, object, object_len, &len, NULL, &error);
	S3am__Boundary *m = payload ? s3am__boundary__unpack(NULL, len, payload) : NULL;

	if (m == NULL)
		violation("the boundary is damaged: %s", error ? error : "");
	if (m->boundary < boundary)
		violation("LOST: the boundary moves back from %llu to %llu", (unsigned long long) boundary,
				  (unsigned long long) m->boundary);
	if (m->checkpoint == NULL || m->boundary > m->checkpoint->version)
		violation("LOST: the boundary moves to %llu, and its checkpoint is %llu", (unsigned long long) m->boundary,
				  m->checkpoint ? (unsigned long long) m->checkpoint->version : 0);
	boundary = m->boundary;
	note("the boundary is %llu", (unsigned long long) boundary);
	s3am__boundary__free_unpacked(m, NULL);
	free(payload);
}

u64
objects_boundary_now(void)
{
	return boundary;
}

void
objects_reset(void)
{
	for (size_t i = 0; i < npublished; i++)
	{
		for (size_t j = 0; j < published[i].npages; j++)
			free(published[i].pages[j]);
		free(published[i].pages);
	}
	npublished = 0;
	boundary = 0;
}
