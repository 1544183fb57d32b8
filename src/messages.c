/*
 * messages.c: see messages.h.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "messages.h"

static void *
cxt_alloc(void *arg, size_t size)
{
	return MemoryContextAllocHuge((MemoryContext) arg, Max(size, 1));
}

static void
cxt_free(void *arg, void *p)
{
	if (p)
		pfree(p);
}

ProtobufCAllocator *
message_allocator(MemoryContext cxt)
{
	ProtobufCAllocator *allocator = MemoryContextAlloc(cxt, sizeof(ProtobufCAllocator));

	allocator->alloc = cxt_alloc;
	allocator->free = cxt_free;
	allocator->allocator_data = cxt;
	return allocator;
}
