/*
 * world.c: virtual time, the queue of events, chance, and memory that is refused.
 */
#include <setjmp.h>
#include <stdlib.h>

#include "manifest/envelope.h"
#include "manifest/memory.h"
#include "bucket.h"
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

void
world_reset(u64 seed)
{
	for (size_t i = 0; i < nheap; i++)
		sim_store_forget(heap[i].fn, heap[i].arg);
	nheap = 0;
	order = 0;
	now_us = 1000000;
	steps = 0;
	calm = false;
	state = seed * 0x2545F4914F6CDD1DULL + 0x1234567;
	(void) memory_on_refusal(on_refusal);
	bucket_reset();
	sim_store_reset();
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
