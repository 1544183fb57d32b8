/*
 * fetch.c: reads in flight, lists, and the few writes.
 *
 * All of them are waited for in one place, which can be cancelled.  What is under way then is abandoned: its callback frees it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "messages.h"
#include "node/bucket.h"
#include "verify/verify.h"

void
verify_wait(Verify *v, volatile bool *done)
{
	if (!v->separate)
	{
		bucket_wait(v->store, done);
		return;
	}
	while (!*done)
	{
		int timeout = store_timeout_ms(v->store);

		CHECK_FOR_INTERRUPTS();
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 store_fd(v->store), timeout < 0 || timeout > 1000 ? 1000 : timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		store_dispatch(v->store);
	}
}

static void
no_memory(void)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

/* ------------------------------------------------------------------------------------ reads */

static void
fetched(void *arg, StoreResult *result)
{
	Fetch *f = arg;

	if (f->abandoned)
	{
		free(f);
		return;
	}
	f->op = NULL;
	f->status = result->status;
	f->len = result->len;
	f->object_size = result->object_size;
	if (result->status == STORE_OK)
		f->data = store_take(result);
	if (result->error)
		strlcpy(f->error, result->error, sizeof(f->error));
	f->done = true;
}

Fetch *
fetch_begin(Verify *v, const char *key, uint64 offset, int64 length)
{
	Fetch *f = calloc(1, sizeof(Fetch));

	if (f == NULL)
		no_memory();
	strlcpy(f->key, key, sizeof(f->key));
	f->op = store_get(v->store, f->key, offset, length, fetched, f);
	if (f->op == NULL)
	{
		free(f);
		no_memory();
	}
	f->next = v->fetches;
	v->fetches = f;
	return f;
}

void
fetch_wait(Verify *v, Fetch *f)
{
	verify_wait(v, &f->done);
	if (f->status == STORE_OK || f->status == STORE_NOT_FOUND || f->status == STORE_DAMAGED ||
		f->status == STORE_DENIED || (v->directory && f->status == STORE_UNAVAILABLE))
		return;
	/* what cannot be read now says nothing about the repository */
	ereport(ERROR,
			(errcode(bucket_sqlstate(f->status)), errmsg("cannot read object \"%s\" of the repository", f->key),
			 f->error[0] ? errdetail("%s", f->error) : 0, errhint("Run it again when the store can be reached.")));
}

/* One in flight goes when it has ended. */
static void
let_go(Verify *v, Fetch *f)
{
	if (f->done)
	{
		free(f->data);
		free(f);
		return;
	}
	f->abandoned = true;
	store_cancel(v->store, f->op);
}

void
fetch_free(Verify *v, Fetch *f)
{
	Fetch **link = &v->fetches;

	while (*link != f)
		link = &(*link)->next;
	*link = f->next;
	let_go(v, f);
}

void
fetch_abandon(Verify *v)
{
	while (v->fetches)
		fetch_free(v, v->fetches);
}

/* ------------------------------------------------------------------------------------ objects of the chain */

/* NULL: *wrong says why. */
static ProtobufCMessage *
open_object(Verify *v, Fetch *f, EnvelopeKind kind, const ProtobufCMessageDescriptor *message, char **wrong)
{
	size_t len;
	char *error = NULL;
	uint8 *payload, *copy;
	ProtobufCMessage *m;

	if (f->status != STORE_OK)
	{
		*wrong = f->status == STORE_NOT_FOUND ? "it is missing" : psprintf("it cannot be read: %s", f->error);
		return NULL;
	}
	payload = envelope_open(kind, kind == ENVELOPE_REPOSITORY ? NULL : v->uuid, f->key, f->data, f->len, &len,
							kind == ENVELOPE_REPOSITORY ? v->uuid : NULL, &error);
	if (payload == NULL)
	{
		if (error == NULL)
			no_memory();
		*wrong = pstrdup(error);
		free(error);
		return NULL;
	}
	copy = palloc_extended(Max(len, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	if (copy)
		memcpy(copy, payload, len);
	free(payload);
	if (copy == NULL)
		no_memory();
	m = protobuf_c_message_unpack(message, message_allocator(CurrentMemoryContext), len, copy);
	if (m == NULL)
		*wrong = "its content cannot be decoded";
	return m;
}

ProtobufCMessage *
verify_object(Verify *v, Fetch *f, const char *key, EnvelopeKind kind, const ProtobufCMessageDescriptor *message,
			  const char *what, bool *absent, uint8 digest[16])
{
	MemoryContext old = MemoryContextSwitchTo(v->object_cxt);
	ProtobufCMessage *m = NULL;
	char *wrong = NULL;

	if (absent)
		*absent = false;
	for (int try = 0; try < 2 && m == NULL; try++)
	{
		if (f == NULL)
			f = fetch_begin(v, key, 0, -1);
		fetch_wait(v, f);
		if (absent && f->status == STORE_NOT_FOUND)
			*absent = true;
		else
			m = open_object(v, f, kind, message, &wrong);
		if (m && digest)
			envelope_digest(f->data, f->len, digest);
		if (m)
			verify_counted(v,
						   kind == ENVELOPE_MANIFEST     ? VERIFY_MANIFESTS
						   : kind == ENVELOPE_CHECKPOINT ? VERIFY_CHECKPOINTS
						   : kind == ENVELOPE_PAGE       ? VERIFY_PAGES
														 : VERIFY_SMALL,
						   1, f->len);
		fetch_free(v, f);
		f = NULL;
		if (absent && *absent)
			break;
	}
	MemoryContextSwitchTo(old);
	if (m == NULL && !(absent && *absent))
		verify_problem(v, key, what, "%s", wrong);
	return m;
}

/* ------------------------------------------------------------------------------------ lists */

typedef struct Listing
{
	bool done, abandoned;
	StoreStatus status;
	StoreEntry *entries; /* malloc'ed, keys too */
	int n;
	char *next;
	char error[512];
} Listing;

static void
free_listing(Listing *l)
{
	for (int i = 0; i < l->n; i++)
		free((char *) l->entries[i].key);
	free(l->entries);
	free(l->next);
	free(l);
}

static void
listed(void *arg, StoreResult *result)
{
	Listing *l = arg;

	if (l->abandoned)
	{
		free_listing(l);
		return;
	}
	l->status = result->status;
	if (result->error)
		strlcpy(l->error, result->error, sizeof(l->error));
	if (result->status == STORE_OK)
	{
		bool room = true;

		l->entries = calloc(Max(result->nentries, 1), sizeof(StoreEntry));
		for (int i = 0; l->entries && i < result->nentries; i++, l->n++)
		{
			l->entries[i] = result->entries[i];
			l->entries[i].key = strdup(result->entries[i].key);
			room = room && l->entries[i].key != NULL;
		}
		if (result->next && (l->next = strdup(result->next)) == NULL)
			room = false;
		if (l->entries == NULL || !room)
		{
			l->status = STORE_UNAVAILABLE;
			strlcpy(l->error, "out of memory", sizeof(l->error));
		}
	}
	l->done = true;
}

void
verify_list(Verify *v, const char *prefix, const char *after, VerifyListed each, void *arg)
{
	char *at = after ? pstrdup(after) : NULL;

	do
	{
		Listing *l = calloc(1, sizeof(Listing));
		StoreOp *op = l ? store_list(v->store, prefix, at, 1000, listed, l) : NULL;

		if (op == NULL)
		{
			free(l);
			no_memory();
		}
		if (at)
			pfree(at);
		at = NULL;
		PG_TRY();
		{
			verify_wait(v, &l->done);
			if (l->status != STORE_OK)
				ereport(ERROR, (errcode(bucket_sqlstate(l->status)),
								errmsg("cannot list the objects of the repository"), errdetail("%s", l->error)));
			for (int i = 0; i < l->n; i++)
				each(v, arg, &l->entries[i]);
			if (l->next)
				at = pstrdup(l->next);
		}
		PG_FINALLY();
		{
			if (l->done)
				free_listing(l);
			else
			{
				l->abandoned = true;
				store_cancel(v->store, op);
			}
		}
		PG_END_TRY();
	} while (at);
}

/* ------------------------------------------------------------------------------------ writes */

typedef struct Write
{
	bool done, abandoned;
	void *data; /* must live until the end */
	StoreStatus status;
	char error[512];
} Write;

static void
written(void *arg, StoreResult *result)
{
	Write *w = arg;

	free(w->data);
	w->data = NULL;
	if (w->abandoned)
	{
		free(w);
		return;
	}
	w->status = result->status;
	strlcpy(w->error, result->error ? result->error : "", sizeof(w->error));
	w->done = true;
}

static bool
write_or_remove(Verify *v, const char *key, const void *data, size_t len, char **error)
{
	Write *w = calloc(1, sizeof(Write));
	StoreOp *op = NULL;
	volatile bool fine = false;

	if (w && data && (w->data = malloc(len + 1)) != NULL)
	{
		memcpy(w->data, data, len);
		op = store_put(v->store, key, w->data, len, written, w);
	}
	else if (w && data == NULL)
		op = store_remove(v->store, key, written, w);
	if (op == NULL)
	{
		if (w)
			free(w->data);
		free(w);
		no_memory();
	}
	PG_TRY();
	{
		verify_wait(v, &w->done);
		fine = w->status == STORE_OK;
		if (!fine)
			*error = pstrdup(w->error);
	}
	PG_FINALLY();
	{
		if (w->done)
			free(w);
		else
		{
			w->abandoned = true;
			store_cancel(v->store, op);
		}
	}
	PG_END_TRY();
	return fine;
}

bool
verify_put(Verify *v, const char *key, const void *data, size_t len, char **error)
{
	return write_or_remove(v, key, data, len, error);
}

bool
verify_remove(Verify *v, const char *key, char **error)
{
	return write_or_remove(v, key, NULL, 0, error);
}
