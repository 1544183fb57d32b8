/*
 * memory.c: see memory.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/memory.h"

static MemoryHandler refusal;

MemoryHandler
memory_on_refusal(MemoryHandler handler)
{
	MemoryHandler before = refusal;

	refusal = handler;
	return before;
}

void
memory_refused(size_t size)
{
	if (refusal)
		refusal(size);
	fprintf(stderr, "out of memory: failed on request of size %zu\n", size);
	abort();
}

void *
memory_need(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (p == NULL)
		memory_refused(size);
	return p;
}

void *
memory_need_zeroed(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (p == NULL)
		memory_refused(n * size);
	return p;
}

void *
memory_grow(void *p, size_t size)
{
	void *grown = realloc(p, size ? size : 1);

	if (grown == NULL)
		memory_refused(size);
	return grown;
}

char *
memory_copy_text(const char *text)
{
	size_t len = strlen(text) + 1;

	return memcpy(memory_need(len), text, len);
}

void
memory_expect(size_t size)
{
	char *p = memory_need(size);

	/* else a compiler may take the pair for nothing */
	*(volatile char *) p = 0;
	free(p);
}

static void *
message_alloc(void *arg, size_t size)
{
	(void) arg;
	return memory_need(size);
}

static void
message_free(void *arg, void *p)
{
	(void) arg;
	free(p);
}

ProtobufCAllocator memory_allocator = {message_alloc, message_free, NULL};
