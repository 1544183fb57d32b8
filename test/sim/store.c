/*
 * store.c: requests to the simulated store, over a network that does what real ones do.
 *
 * A request has two moments: it takes effect at the store, and its response arrives.  Either may be lost, late, or happen twice.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bucket.h"
#include "sim.h"

typedef enum OpKind
{
	OP_GET,
	OP_PUT,
	OP_CREATE,
	OP_REPLACE,
	OP_LIST,
	OP_REMOVE
} OpKind;

typedef struct SimStore
{
	Store store;
	Proc *proc;
	StoreOp *ops; /* not answered */
	bool closed;
	int refs;
} SimStore;

struct StoreOp
{
	SimStore *store;
	StoreOp *next, **link; /* in the store's list, until answered */
	OpKind kind;
	char key[96];
	char extra[136];
	uint8_t *data;
	size_t len;
	u64 offset;
	int64_t length;
	int limit;
	StoreCallback cb;
	void *arg;
	bool cancelled, answered, undecided_before;
	int refs; /* events to come */
	/* what the store said */
	StoreResult result;
	bool have_result;
	struct StoreEntry *entries;
	char *next_key;
};

static void
unref(StoreOp *op)
{
	if (--op->refs > 0)
		return;
	if (--op->store->refs == 0)
		free(op->store);
	for (int i = 0; i < op->result.nentries; i++)
		free((char *) op->entries[i].key);
	free(op->entries);
	free(op->next_key);
	free(op->result.data);
	free(op->data);
	free(op);
}

static void
answer(StoreOp *op)
{
	if (op->answered)
		return;
	op->answered = true;
	*op->link = op->next;
	if (op->next)
		op->next->link = op->link;
	if (op->cancelled)
	{
		StoreResult cancelled = {.status = STORE_CANCELLED, .error = "cancelled"};

		op->cb(op->arg, &cancelled);
		return;
	}
	{
		Proc *before = core_enter(op->store->proc);

		op->cb(op->arg, &op->result);
		core_return(before);
	}
}

static void
clear_result(StoreOp *op)
{
	free(op->result.data);
	memset(&op->result, 0, sizeof(op->result));
}

static void
refuse(StoreOp *op, StoreStatus status, int http, const char *error)
{
	clear_result(op);
	op->result.status = status;
	op->result.http_status = http;
	op->result.error = error;
}

static int
compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct StoreEntry *) a)->key, ((const struct StoreEntry *) b)->key);
}

typedef struct Lister
{
	StoreOp *op;
	int capacity;
} Lister;

static void
list_one(void *arg, const char *key)
{
	Lister *l = arg;
	StoreOp *op = l->op;
	Object *o = *bucket_find(key);

	if (op->extra[0] && strcmp(key, op->extra) <= 0)
		return;
	if (op->result.nentries == l->capacity)
	{
		l->capacity = l->capacity ? l->capacity * 2 : 32;
		op->entries = realloc(op->entries, l->capacity * sizeof(struct StoreEntry));
	}
	op->entries[op->result.nentries++] = (struct StoreEntry){strdup(key), o->len, (int64_t) o->modified_ms};
}

/* Manifests that lost their race: a duplicate of one may come when its slot was collected. */
typedef struct Loser
{
	char key[96];
	uint8_t *data;
	size_t len;
} Loser;

#define NLOSERS 256
static Loser losers[NLOSERS];
static u64 nlosers;

static void
remember_loser(const StoreOp *op, const Object *o)
{
	Loser *l;

	if (sc.adversary == 0 || strncmp(op->key, "manifests/", 10) != 0 ||
		(op->len == o->len && memcmp(op->data, o->data, o->len) == 0))
		return;
	l = &losers[nlosers++ % NLOSERS];
	free(l->data);
	snprintf(l->key, sizeof(l->key), "%s", op->key);
	l->data = malloc(op->len);
	memcpy(l->data, op->data, op->len);
	l->len = op->len;
}

static void
late_loser(void *arg, u64 i)
{
	Loser *l = &losers[i];

	(void) arg;
	if (l->data == NULL || *bucket_find(l->key))
		return;
	COUNT(LATE_DUPLICATE);
	bucket_put(l->key, l->data, l->len);
	truth_created(l->key, l->data, l->len);
}

static void
slot_removed(const char *key)
{
	for (u64 i = 0; i < NLOSERS && sc.adversary; i++)
		if (losers[i].data && strcmp(losers[i].key, key) == 0 && fault(sc.adversary))
		{
			at(now_us + rnd_below(20000), NULL, late_loser, NULL, i);
			return;
		}
}

/* The request takes effect.  The second time (a duplicate) its answer goes nowhere. */
static void
effect(StoreOp *op, bool first)
{
	Object *o = *bucket_find(op->key);

	if (!first)
	{
		if (op->kind == OP_CREATE && o == NULL)
		{
			bucket_put(op->key, op->data, op->len);
			truth_created(op->key, op->data, op->len);
		}
		else if (op->kind == OP_PUT)
			bucket_put(op->key, op->data, op->len);
		else if (op->kind == OP_REMOVE && o)
		{
			objects_removed(op->key);
			bucket_remove(op->key);
		}
		/* a replace's duplicate finds another ETag */
		return;
	}
	op->have_result = true;
	op->result.status = STORE_OK;
	op->result.http_status = 200;
	switch (op->kind)
	{
		case OP_GET:
			if (o == NULL)
				refuse(op, STORE_NOT_FOUND, 404, "no such object");
			else
			{
				u64 have = op->offset < o->len ? o->len - op->offset : 0;

				if (op->length >= 0 && have > (u64) op->length)
					have = op->length;
				op->result.data = malloc(have ? have : 1);
				memcpy(op->result.data, o->data + op->offset, have);
				op->result.len = have;
				op->result.object_size = o->len;
				snprintf(op->result.etag, sizeof(op->result.etag), "\"%llx\"", (unsigned long long) o->etag);
			}
			break;
		case OP_PUT:
			bucket_put(op->key, op->data, op->len);
			break;
		case OP_CREATE:
			if (o)
			{
				COUNT(RACE_LOST);
				remember_loser(op, o);
				refuse(op, STORE_PRECONDITION, 412, "the key exists");
				if (fault(100))
				{
					COUNT(S304);
					op->result.http_status = 304;
				}
			}
			else
			{
				bucket_put(op->key, op->data, op->len);
				truth_created(op->key, op->data, op->len);
			}
			break;
		case OP_REPLACE:
		{
			char etag[136] = "";

			if (o)
				snprintf(etag, sizeof(etag), "\"%llx\"", (unsigned long long) o->etag);
			if (o == NULL)
				refuse(op, STORE_NOT_FOUND, 404, "no such object");
			else if (strcmp(etag, op->extra) != 0)
				refuse(op, STORE_PRECONDITION, 412, "the ETag differs");
			else
				bucket_put(op->key, op->data, op->len);
		}
		break;
		case OP_LIST:
		{
			Lister l = {op, 0};

			bucket_each(op->key, list_one, &l);
			if (op->result.nentries)
				qsort(op->entries, op->result.nentries, sizeof(struct StoreEntry), compare_entries);
			if (op->limit > 0 && op->result.nentries > op->limit)
			{
				for (int i = op->limit; i < op->result.nentries; i++)
					free((char *) op->entries[i].key);
				op->result.nentries = op->limit;
				op->next_key = strdup(op->entries[op->limit - 1].key);
			}
			op->result.entries = op->entries;
			op->result.next = op->next_key;
		}
		break;
		case OP_REMOVE:
			if (o)
			{
				objects_removed(op->key);
				bucket_remove(op->key);
				slot_removed(op->key);
			}
			break;
	}
	if ((op->kind == OP_PUT || op->kind == OP_CREATE || op->kind == OP_REPLACE) && op->result.status == STORE_OK)
		snprintf(op->result.etag, sizeof(op->result.etag), "\"%llx\"", (unsigned long long) bucket_etags);
	op->result.date_ms = (int64_t) store_date_ms();
	if (fault(5))
	{
		COUNT(NO_DATE);
		op->result.date_ms = 0;
	}
}

static void
on_effect(void *arg, u64 first)
{
	StoreOp *op = arg;

	effect(op, first && !op->have_result);
	unref(op);
}

static void
on_answer(void *arg, u64 what)
{
	StoreOp *op = arg;
	SimStore *store = op->store;

	if (!op->answered && !store->closed)
	{
		bool conditional = op->kind == OP_CREATE || op->kind == OP_REPLACE;

		if (what == 1 || !op->have_result)
		{
			/* a timeout: what the store said does not count, if it said anything */
			StoreStatus status = conditional ? STORE_UNDECIDED : STORE_UNAVAILABLE;
			struct StoreEntry *entries = op->entries;
			int n = op->result.nentries;

			for (int i = 0; i < n; i++)
				free((char *) entries[i].key);
			op->result.nentries = 0;
			op->have_result = true;
			refuse(op, status, 0, "timeout");
		}
		answer(op);
		proc_after(store->proc);
	}
	unref(op);
}

static u64
latency(void)
{
	u64 us = 2000 + rnd_below(8000);

	if (fault(sc.slow))
	{
		COUNT(SLOW);
		us += rnd_below(120000);
	}
	return us;
}

/* The order in which a process's requests fail: whether an attempt at this key was undecided before. */
static char undecided_key[NNODES * 2][96];

/* Is there no memory for a request? */
static bool
no_memory(void)
{
	if (!fault(sc.memory))
		return false;
	COUNT(NO_MEMORY);
	return true;
}

static StoreOp *
submit(Store *s, OpKind kind, const char *key, StoreCallback cb, void *arg)
{
	SimStore *store = (SimStore *) s;
	StoreOp *op = calloc(1, sizeof(*op));

	op->store = store;
	store->refs++;
	op->kind = kind;
	snprintf(op->key, sizeof(op->key), "%s", key);
	op->cb = cb;
	op->arg = arg;
	op->next = store->ops;
	op->link = &store->ops;
	if (op->next)
		op->next->link = &op->next;
	store->ops = op;
	return op;
}

/* Decides what becomes of a request that was just submitted. */
static StoreOp *
launch(StoreOp *op)
{
	Proc *proc = op->store->proc;
	bool conditional = op->kind == OP_CREATE || op->kind == OP_REPLACE;
	u64 there = now_us + latency();
	u64 back = there + latency();
	u64 timeout = now_us + REQUEST_TIMEOUT_US;

	if (!calm && bucket_is_away())
	{
		COUNT(AWAY);
		refuse(op, conditional ? STORE_UNDECIDED : STORE_UNAVAILABLE, 503, "503 SlowDown");
		op->refs++;
		at(back < timeout ? back : timeout, proc, on_answer, op, 0);
		return op;
	}
	if (sc.put_ms && op->kind == OP_CREATE)
	{
		there = now_us + sc.put_ms * 500;
		back = now_us + sc.put_ms * 1000;
	}
	char *undecided = undecided_key[proc->number % (NNODES * 2)];
	if (back > timeout)
		back = timeout;
	if (fault(sc.lost))
	{
		switch (rnd_below(3))
		{
			case 0:
				COUNT(LOST_BEFORE);
				break;
			case 1:
				COUNT(LOST_AFTER);
				op->refs++;
				at(there, NULL, on_effect, op, 1);
				break;
			case 2:
				COUNT(LATE);
				op->refs++;
				at(timeout + rnd_below(chance(300) ? 20000000 : 400000), NULL, on_effect, op, 1);
				break;
		}
		if (op->kind == OP_CREATE)
			snprintf(undecided, 96, "%s", op->key);
		op->refs++;
		at(chance(500) ? timeout : back, proc, on_answer, op, 1);
		return op;
	}
	if (fault(sc.denied))
	{
		COUNT(DENIED);
		if (op->kind == OP_CREATE && strcmp(undecided, op->key) == 0)
			COUNT(DENIED_AFTER);
		refuse(op, STORE_DENIED, 403, "access denied");
		op->have_result = true;
		op->refs++;
		at(back, proc, on_answer, op, 0);
		return op;
	}
	if (fault(sc.odd))
	{
		op->have_result = true;
		if (op->kind == OP_GET && chance(400))
		{
			/* the checksum or the length tells */
			COUNT(TRUNCATED);
			refuse(op, STORE_DAMAGED, 200, "shorter than announced");
		}
		else if (op->kind == OP_CREATE && chance(250) && *bucket_find(op->key) == NULL)
		{
			COUNT(S412_LIE);
			refuse(op, STORE_PRECONDITION, 412, "the key exists");
		}
		else if (conditional && chance(400))
		{
			COUNT(S409);
			refuse(op, STORE_UNDECIDED, 409, "409 ConditionalRequestConflict");
		}
		else if (conditional && chance(500))
		{
			COUNT(BODY_ERROR);
			refuse(op, STORE_UNDECIDED, 200, "200 with an error body");
			op->have_result = false;
			if (op->kind == OP_CREATE)
				snprintf(undecided, 96, "%s", op->key);
			if (chance(500))
			{
				op->refs++;
				at(there, NULL, on_effect, op, 1);
			}
			op->refs++;
			at(back, proc, on_answer, op, 1);
			return op;
		}
		else
		{
			COUNT(S503);
			refuse(op, conditional ? STORE_UNDECIDED : STORE_UNAVAILABLE, 503, "503 SlowDown");
		}
		op->refs++;
		at(back, proc, on_answer, op, 0);
		return op;
	}
	op->refs++;
	at(there, NULL, on_effect, op, 1);
	op->refs++;
	at(back, proc, on_answer, op, 0);
	if ((op->kind == OP_CREATE || op->kind == OP_PUT || op->kind == OP_REMOVE) && fault(sc.duplicate))
	{
		COUNT(DUPLICATE);
		op->refs++;
		at(there + rnd_below(300000), NULL, on_effect, op, 0);
	}
	if (op->kind == OP_CREATE && fault(sc.late_duplicate))
	{
		COUNT(LATE_DUPLICATE);
		op->refs++;
		at(there + 2000 * GRACE_MS + rnd_below((chance(500) ? 3000 : 30000) * GRACE_MS), NULL, on_effect, op, 0);
	}
	return op;
}

static StoreOp *
sim_get(Store *s, const char *key, u64 offset, int64_t length, StoreCallback cb, void *arg)
{
	Proc *proc = ((SimStore *) s)->proc;
	StoreOp *op;

	if (no_memory())
		return NULL;
	op = submit(s, OP_GET, key, cb, arg);
	/* who reads a checkpoint has taken a state, and will read manifests after it */
	if (strncmp(key, "checkpoints/", 12) == 0 && proc->paused_until <= now_us && fault(sc.adversary))
	{
		COUNT(PAUSE_LONG);
		proc->paused_until = now_us + 2000 * GRACE_MS + rnd_below(20000 * GRACE_MS);
	}
	op->offset = offset;
	op->length = length;
	s->stats.gets++;
	return launch(op);
}

static StoreOp *
sim_write(Store *s, OpKind kind, const char *key, const char *etag, const void *data, size_t len, StoreCallback cb,
		  void *arg)
{
	StoreOp *op;

	if (no_memory())
		return NULL;
	op = submit(s, kind, key, cb, arg);
	op->data = malloc(len ? len : 1);
	memcpy(op->data, data, len);
	op->len = len;
	if (etag)
		snprintf(op->extra, sizeof(op->extra), "%s", etag);
	s->stats.puts++;
	return launch(op);
}

static StoreOp *
sim_put(Store *s, const char *key, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return sim_write(s, OP_PUT, key, NULL, data, len, cb, arg);
}

static StoreOp *
sim_create(Store *s, const char *key, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return sim_write(s, OP_CREATE, key, NULL, data, len, cb, arg);
}

static StoreOp *
sim_replace(Store *s, const char *key, const char *etag, const void *data, size_t len, StoreCallback cb, void *arg)
{
	return sim_write(s, OP_REPLACE, key, etag, data, len, cb, arg);
}

static StoreOp *
sim_list(Store *s, const char *prefix, const char *after, int limit, StoreCallback cb, void *arg)
{
	StoreOp *op;

	if (no_memory())
		return NULL;
	op = submit(s, OP_LIST, prefix, cb, arg);
	if (after)
		snprintf(op->extra, sizeof(op->extra), "%s", after);
	op->limit = limit;
	s->stats.lists++;
	return launch(op);
}

static StoreOp *
sim_remove(Store *s, const char *key, StoreCallback cb, void *arg)
{
	if (no_memory())
		return NULL;
	s->stats.deletes++;
	return launch(submit(s, OP_REMOVE, key, cb, arg));
}

static void
on_cancelled(void *arg, u64 x)
{
	StoreOp *op = arg;

	(void) x;
	if (!op->store->closed)
		answer(op);
	unref(op);
}

static void
sim_cancel(StoreOp *op)
{
	op->cancelled = true;
	op->refs++;
	at(now_us, op->store->proc, on_cancelled, op, 0);
}

static int
sim_fd(Store *s)
{
	(void) s;
	return -1;
}

static int
sim_timeout(Store *s)
{
	(void) s;
	return -1;
}

static void
sim_dispatch(Store *s)
{
	SimStore *store = (SimStore *) s;

	for (StoreOp *op = store->ops, *next; op; op = next)
	{
		next = op->next;
		if (op->cancelled)
			answer(op);
	}
}

static void
sim_close(Store *s)
{
	SimStore *store = (SimStore *) s;

	store->closed = true;
	while (store->ops)
	{
		store->ops->cancelled = true;
		answer(store->ops);
	}
	if (--store->refs == 0)
		free(store);
}

static const StoreDriver driver = {
	.name = "simulator",
	.get = sim_get,
	.put = sim_put,
	.create = sim_create,
	.replace = sim_replace,
	.list = sim_list,
	.remove = sim_remove,
	.cancel = sim_cancel,
	.fd = sim_fd,
	.timeout_ms = sim_timeout,
	.dispatch = sim_dispatch,
	.close = sim_close,
};

void
sim_store_abandon(Store *s)
{
	SimStore *store = (SimStore *) s;

	store->closed = true;
	while (store->ops)
	{
		StoreOp *op = store->ops;

		op->answered = true;
		store->ops = op->next;
	}
	if (--store->refs == 0)
		free(store);
}

/* Is a conditional create under way? */
bool
sim_store_putting(Store *s)
{
	for (StoreOp *op = ((SimStore *) s)->ops; op; op = op->next)
		if (op->kind == OP_CREATE)
			return true;
	return false;
}

Store *
sim_store_open(Proc *proc)
{
	SimStore *store = calloc(1, sizeof(*store));

	store->store.driver = &driver;
	store->proc = proc;
	store->refs = 1;
	return &store->store;
}

void
sim_store_forget(EventFn fn, void *arg)
{
	if (fn == on_effect || fn == on_answer || fn == on_cancelled)
		unref(arg);
}

void
sim_store_reset(void)
{
	memset(undecided_key, 0, sizeof(undecided_key));
	for (int i = 0; i < NLOSERS; i++)
		free(losers[i].data);
	memset(losers, 0, sizeof(losers));
	nlosers = 0;
}

/* What store.c has for the drivers that do real work. */
void
store_cancel(Store *store, StoreOp *op)
{
	store->driver->cancel(op);
}

uint8_t *
store_take(StoreResult *result)
{
	uint8_t *data = result->data;

	result->data = NULL;
	return data;
}
