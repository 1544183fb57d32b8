/*
 * rowpage.h: the unit of storage of rows: a page, in memory and (compressed) in segments and inline batches.
 *
 * A page is self-describing only together with its batch's schema (BatchSchema), which stands in the segment's footer or at
 * the head of an inline batch.  Format: docs/format.md.
 */
#ifndef S3AM_ROWPAGE_H
#define S3AM_ROWPAGE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "executor/tuptable.h"

/*
 * RowWriter collects rows of one relation into a batch.  Datums of user types are made portable (enum labels, range and array
 * element types by name, composites field by field, reg* by name), toasted ones are fetched and decompressed.
 */
typedef struct RowWriter RowWriter;

/* desc: of the relation.  Everything lives in a child of `parent`. */
extern RowWriter *row_writer_create(TupleDesc desc, MemoryContext parent);

/* Adds a row; returns its number within the batch.  xmin: what the system column shows. */
extern uint64 row_writer_add(RowWriter *writer, const Datum *values, const bool *nulls);
extern uint64 row_writer_count(const RowWriter *writer);
extern Size row_writer_bytes(const RowWriter *writer);	/* uncompressed, so far */

/* The batch as one inline blob (schema, dictionary, pages, overflow); palloc'ed in the current context. */
extern bytea *row_writer_inline(RowWriter *writer);

/*
 * Streams the batch as a segment: `emit` gets the object's bytes in order.  After row_writer_finish() the object is complete.
 * Without an emit function set, rows stay in memory (for inline).
 */
typedef void (*SegmentEmit) (void *arg, const void *data, Size len);
extern void row_writer_stream(RowWriter *writer, SegmentEmit emit, void *arg, const uint8 uuid[16], uint64 epoch, uint64 number);
extern void row_writer_finish(RowWriter *writer, uint64 *object_size, uint32 *footer_size);
extern void row_writer_free(RowWriter *writer);

/*
 * RowReader reads rows of one batch as rows of a local relation: columns are matched by column id, missing ones get the
 * relation's missing values, portable datums become local ones.
 */
typedef struct RowReader RowReader;

/*
 * Bytes of the object or blob.  Returns a pointer to `len` bytes at `offset`, valid as long as the reader, allocated in
 * the current context or pointing into memory that lives that long.  Errors are thrown.
 */
typedef const uint8 *(*BatchFetch) (void *arg, uint64 offset, Size len);

extern RowReader *row_reader_open_inline(TupleDesc desc, const void *blob, Size len, MemoryContext parent);
extern RowReader *row_reader_open_segment(TupleDesc desc, BatchFetch fetch, void *arg, const char *object,
										  const uint8 uuid[16], uint64 epoch, uint64 number,
										  uint64 object_size, uint32 footer_size, MemoryContext parent);
extern uint64 row_reader_count(const RowReader *reader);

/*
 * Reads columns 1..natts of row `row` (within the batch).  Pass-by-reference values point into the reader's current page or
 * are palloc'ed in `cxt`; they stay valid until the next call for a row of another page, or row_reader_free().
 */
extern void row_reader_get(RowReader *reader, uint64 row, int natts, Datum *values, bool *nulls, MemoryContext cxt);
extern void row_reader_free(RowReader *reader);

#endif
