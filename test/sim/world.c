/*
 * world.c: virtual time, the queue of events, and an object store that does what real ones and real networks do.
 *
 * A request has two moments: it takes effect at the store, and its response arrives.  Either may be lost, late, or happen twice.
 * The store itself is atomic and consistent, as the conformance race demands: what was written is read.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/envelope.h"
#include "manifest/memory.h"
#include "sim.h"

extern uint8_t *__real_envelope_seal(EnvelopeKind kind, const uint8_t uuid[16], const char *key, const void *payload,
									 size_t len, size_t *object_len);
extern uint8_t *__wrap_envelope_seal(EnvelopeKind kind, const uint8_t uuid[16], const char *key, const void *payload,
									 size_t len, size_t *object_len);

u64 now_us;
bool calm;
u64 steps;
u64 fault_count[NFAULTS];

/* ---------------------------------------------------------------- chance */

static u64 state;

u64
rnd(void)
{
	u64 z = (state += 0x9E3779B97F4A7C15ULL);

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
	return z ^ (z >> 31);
}

u64
rnd_below(u64 n)
{
	return n ? rnd() % n : 0;
}

bool
chance(int per_mille)
{
	return (int) rnd_below(1000) < per_mille;
}

bool
fault(int per_mille)
{
	return per_mille > 0 && !calm && chance(per_mille);
}

/* ---------------------------------------------------------------- events */

typedef struct Event
{
	u64 when, order;
	Proc *proc;
	EventFn fn;
	void *arg;
	u64 x;
} Event;

static Event *heap;
static size_t nheap, heap_capacity;
static u64 order;

static bool
before(const Event *a, const Event *b)
{
	return a->when != b->when ? a->when < b->when : a->order < b->order;
}

static void
push(Event e)
{
	size_t i = nheap++;

	if (nheap > heap_capacity)
	{
		heap_capacity = heap_capacity ? heap_capacity * 2 : 256;
		heap = realloc(heap, heap_capacity * sizeof(Event));
	}
	while (i > 0 && before(&e, &heap[(i - 1) / 2]))
	{
		heap[i] = heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap[i] = e;
}

static Event
pop(void)
{
	Event top = heap[0], last = heap[--nheap];
	size_t i = 0;

	for (;;)
	{
		size_t child = 2 * i + 1;

		if (child >= nheap)
			break;
		if (child + 1 < nheap && before(&heap[child + 1], &heap[child]))
			child++;
		if (!before(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	if (nheap)
		heap[i] = last;
	return top;
}

void
at(u64 when, Proc *proc, EventFn fn, void *arg, u64 x)
{
	push((Event){when < now_us ? now_us : when, order++, proc, fn, arg, x});
}

/* ---------------------------------------------------------------- memory */

Proc *acting;
static jmp_buf out_of_core;

Proc *
core_enter(Proc *proc)
{
	Proc *before = acting;

	acting = proc;
	return before;
}

Proc *
core_leave(void)
{
	return core_enter(NULL);
}

void
core_return(Proc *before)
{
	acting = before;
}

static bool
refused(void)
{
	return acting && sc.refused && !calm && rnd_below(1000000) < (u64) sc.refused;
}

void *
sim_malloc(size_t size)
{
	return refused() ? NULL : malloc(size);
}

void *
sim_calloc(size_t n, size_t size)
{
	return refused() ? NULL : calloc(n, size);
}

void *
sim_realloc(void *p, size_t size)
{
	return refused() ? NULL : realloc(p, size);
}

/* The core cannot go on: its process ends where it is, as one of the server does. */
static void
on_refusal(size_t size)
{
	if (acting)
		longjmp(out_of_core, 1);
}

static void
run_event(const Event *e)
{
	acting = NULL;
	if (setjmp(out_of_core) == 0)
		e->fn(e->arg, e->x);
	else
	{
		Proc *proc = core_leave();

		proc_refused(proc);
	}
}

bool
world_step(void)
{
	while (nheap)
	{
		Event e = pop();

		if (e.when > now_us)
			now_us = e.when;
		if (e.proc && e.proc->paused_until > now_us)
		{
			e.when = e.proc->paused_until;
			push(e); /* keeps its order among those postponed */
			continue;
		}
		run_event(&e);
		steps++;
		return true;
	}
	return false;
}

/* ---------------------------------------------------------------- objects */

typedef struct Object
{
	char key[96];
	uint8_t *data;
	size_t len;
	u64 etag;
	u64 modified_ms;
	u64 pinned_at;
	struct Object *next;
} Object;

#define NBUCKETS 1024
static Object *buckets[NBUCKETS];
static u64 etags;

static Object **
find(const char *key)
{
	u64 h = 1469598103934665603ULL;
	Object **link;

	for (const char *p = key; *p; p++)
		h = (h ^ (uint8_t) *p) * 1099511628211ULL;
	for (link = &buckets[(h >> 20) % NBUCKETS]; *link && strcmp((*link)->key, key) != 0; link = &(*link)->next)
		;
	return link;
}

u64
store_date_ms(void)
{
	return 1700000000000ULL + now_us / 1000;
}

const uint8_t *
world_object(const char *key, size_t *len)
{
	Object *o = *find(key);

	if (o == NULL)
		return NULL;
	*len = o->len;
	return o->data;
}

void
world_each(const char *prefix, void (*each)(void *arg, const char *key), void *arg)
{
	for (int i = 0; i < NBUCKETS; i++)
		for (Object *o = buckets[i]; o; o = o->next)
			if (strncmp(o->key, prefix, strlen(prefix)) == 0)
				each(arg, o->key);
}

/* When it answered nothing, by its own date. */
#define NAWAYS 64
typedef struct Away
{
	u64 from, until;
} Away;

static Away away[NAWAYS];
static int naways;
static u64 away_until;

/* Has an owner of this who could be heard renewed it?  After the store was away he has half a lease to do it. */
static bool
fresh(const Object *o)
{
	u64 now = store_date_ms(), age = now - o->modified_ms, silent = 0;

	for (int i = 0; i < NAWAYS && i < naways; i++)
	{
		u64 from = away[i].from > o->modified_ms ? away[i].from : o->modified_ms,
			until = away[i].until < now ? away[i].until : now;

		if (from < until)
			silent += until - from;
	}
	return silent ? age - silent <= (u64) sc.lease_ms / 2 : age <= PIN_MS / 2;
}

static void
put_object(const char *key, const uint8_t *data, size_t len)
{
	Object **link = find(key);
	Object *o = *link;

	if (o == NULL)
	{
		o = calloc(1, sizeof(*o));
		snprintf(o->key, sizeof(o->key), "%s", key);
		o->pinned_at = objects_boundary_now();
		*link = o;
	}
	else if (!fresh(o))
		o->pinned_at = objects_boundary_now(); /* a pin that had lapsed begins anew */
	free(o->data);
	o->data = malloc(len ? len : 1);
	memcpy(o->data, data, len);
	o->len = len;
	o->etag = ++etags;
	o->modified_ms = store_date_ms();
	if (strcmp(key, "gc/boundary") == 0)
		objects_boundary(data, len);
}

void
world_put(const char *key, const uint8_t *data, size_t len)
{
	put_object(key, data, len);
}

bool
world_fresh(const char *key)
{
	Object *o = *find(key);

	return o == NULL || fresh(o);
}

void
world_away(void)
{
	Away *a = &away[naways % NAWAYS];

	if (naways > 0 && now_us < away_until)
		return;
	away_until = now_us + (PIN_MS + rnd_below(PIN_MS)) * 1000;
	a->from = store_date_ms();
	a->until = a->from + (away_until - now_us) / 1000;
	naways++;
	note("the store is away for %llu ms", (unsigned long long) (a->until - a->from));
}

u64
world_pinned_at(const char *key)
{
	Object *o = *find(key);

	return o ? o->pinned_at : 0;
}

/* `to` says what `from` has said, since before that goes: its life is a continuation. */
void
world_pin_continues(const char *from, const char *to)
{
	Object *a = *find(from), *b = *find(to);

	if (a && b && a->pinned_at < b->pinned_at)
		b->pinned_at = a->pinned_at;
}

static void
remove_object(const char *key)
{
	Object **link = find(key);
	Object *o = *link;

	if (o)
	{
		*link = o->next;
		free(o->data);
		free(o);
	}
}

/* ---------------------------------------------------------------- requests */

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
	Object *o = *find(key);

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
	if (l->data == NULL || *find(l->key))
		return;
	COUNT(LATE_DUPLICATE);
	put_object(l->key, l->data, l->len);
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
	Object *o = *find(op->key);

	if (!first)
	{
		if (op->kind == OP_CREATE && o == NULL)
		{
			put_object(op->key, op->data, op->len);
			truth_created(op->key, op->data, op->len);
		}
		else if (op->kind == OP_PUT)
			put_object(op->key, op->data, op->len);
		else if (op->kind == OP_REMOVE && o)
		{
			objects_removed(op->key);
			remove_object(op->key);
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
			put_object(op->key, op->data, op->len);
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
				put_object(op->key, op->data, op->len);
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
				put_object(op->key, op->data, op->len);
		}
		break;
		case OP_LIST:
		{
			Lister l = {op, 0};

			world_each(op->key, list_one, &l);
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
				remove_object(op->key);
				slot_removed(op->key);
			}
			break;
	}
	if ((op->kind == OP_PUT || op->kind == OP_CREATE || op->kind == OP_REPLACE) && op->result.status == STORE_OK)
		snprintf(op->result.etag, sizeof(op->result.etag), "\"%llx\"", (unsigned long long) etags);
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

	if (!calm && now_us < away_until)
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
		else if (op->kind == OP_CREATE && chance(250) && *find(op->key) == NULL)
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
world_reset(u64 seed)
{
	for (size_t i = 0; i < nheap; i++)
		if (heap[i].fn == on_effect || heap[i].fn == on_answer || heap[i].fn == on_cancelled)
			unref(heap[i].arg);
	nheap = 0;
	order = 0;
	now_us = 1000000;
	steps = 0;
	calm = false;
	away_until = 0;
	naways = 0;
	etags = 0;
	state = seed * 0x2545F4914F6CDD1DULL + 0x1234567;
	(void) memory_on_refusal(on_refusal);
	memset(undecided_key, 0, sizeof(undecided_key));
	for (int i = 0; i < NLOSERS; i++)
		free(losers[i].data);
	memset(losers, 0, sizeof(losers));
	nlosers = 0;
	for (int i = 0; i < NBUCKETS; i++)
		while (buckets[i])
			remove_object(buckets[i]->key);
}

/* The linker puts this in front of envelope_seal(): large objects are what there may be no memory for. */
uint8_t *
__wrap_envelope_seal(EnvelopeKind kind, const uint8_t uuid[16], const char *key, const void *payload, size_t len,
					 size_t *object_len)
{
	if (fault(sc.memory))
	{
		COUNT(NO_MEMORY_OBJECT);
		return NULL;
	}
	return __real_envelope_seal(kind, uuid, key, payload, len, object_len);
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
