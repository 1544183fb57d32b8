/*
 * refusal.h: what a process of the server does when src/manifest is refused memory (manifest/memory.h).
 */
#ifndef S3AM_REFUSAL_H
#define S3AM_REFUSAL_H

#include <stddef.h>

/*
 * An error, as of palloc(): what the session's transaction has is freed with it.  For callers that keep all of it where the end of the
 * transaction, or of the call, finds it, and that can be left at any time.
 */
extern void refusal_throws(size_t size);

/* The process ends: for those that cannot. */
extern void refusal_leaves(size_t size);

#endif
