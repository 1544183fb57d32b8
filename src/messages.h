/*
 * messages.h: protobuf messages in memory contexts.
 */
#ifndef S3AM_MESSAGES_H
#define S3AM_MESSAGES_H

#include "postgres.h"

#include <protobuf-c/protobuf-c.h>

/* For unpacking: what is unpacked goes with the context, and the allocator itself as well.  No memory is an error. */
extern ProtobufCAllocator *message_allocator(MemoryContext cxt);

#endif
