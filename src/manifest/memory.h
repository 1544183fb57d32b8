/*
 * memory.h: memory that is there, or the process leaves.
 *
 * What follows from the chain cannot be half known, and most of what is allocated here is small; so these functions never return NULL.
 * If memory is refused they call the handler that the process has set, which must not return: the committer ends, and its
 * successor takes over (worker/committer_main.c); a session throws an error.  Nothing of src/manifest holds a lock or has something
 * half written that others see, so it may be left at any of these calls; what it holds by then is used no more, or was kept in order
 * for that (see README.md).
 *
 * Where having no memory is an error of the store, tried again later, plain malloc() is called, and its NULL is handled.
 */
#ifndef S3AM_MEMORY_H
#define S3AM_MEMORY_H

#include <stddef.h>
#include <protobuf-c/protobuf-c.h>

/* Called with the size that was refused; does not return.  Without one the process aborts. */
typedef void (*MemoryHandler)(size_t size);
/* Returns the one before. */
extern MemoryHandler memory_on_refusal(MemoryHandler handler);
extern void memory_refused(size_t size) __attribute__((noreturn));

extern void *memory_need(size_t size);
extern void *memory_need_zeroed(size_t n, size_t size);
extern void *memory_grow(void *p, size_t size); /* realloc(); p is as it was if the process leaves */
extern char *memory_copy_text(const char *text);

/*
 * Leaves unless so much can be had, in one piece.  For what comes next in a library that does not look whether it got its memory, or does not
 * tell that from damage.
 */
extern void memory_expect(size_t size);

/* For protobuf-c: with it, only bytes that are no message give NULL. */
extern ProtobufCAllocator memory_allocator;

#endif
