/*
 * inspect.h: between the files of inspect.
 */
#ifndef S3AM_INSPECT_H
#define S3AM_INSPECT_H

#include "postgres.h"

#include "funcapi.h"

#include "manifest/s3am.pb-c.h"
#include "segment/batch.h"

typedef struct Inspect
{
	ReturnSetInfo *rsinfo;
	const char *object;
	int64 page; /* whose rows are to be shown; -1: none */
	int64 next_page; /* of inline rows: number of the next one in the object */
	const S3am__BatchSchema *schema; /* in force for inline rows */
} Inspect;

extern void inspect_line(Inspect *in, const char *path, const char *format, ...) pg_attribute_printf(3, 4);
/* Bytes as text if they are printable, in hex if not; shortened. */
extern char *inspect_bytes(const void *data, Size len);

extern void inspect_message(Inspect *in, const char *path, const ProtobufCMessage *message);
extern void inspect_inline(Inspect *in, const char *path, const S3am__Batch *batch);
extern void inspect_segment(Inspect *in, uint64 epoch, uint64 number, const uint8 *bytes, Size len);

/* Runs `work`; what it finds damaged becomes a row. */
typedef void (*InspectWork)(Inspect *in, void *arg);
extern void inspect_guarded(Inspect *in, const char *path, InspectWork work, void *arg);

#endif
