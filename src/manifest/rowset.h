/*
 * rowset.h: sets of row ids: a Roaring bitmap for each value of the high 32 bits.
 */
#ifndef S3AM_ROWSET_H
#define S3AM_ROWSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manifest/s3am.pb-c.h"

typedef struct RowSet RowSet;

extern RowSet *rowset_create(void);
extern void rowset_free(RowSet *set);
extern void rowset_add(RowSet *set, uint64_t row);
extern void rowset_add_range(RowSet *set, uint64_t from, uint64_t to); /* from <= row < to */
extern void rowset_remove(RowSet *set, uint64_t row);
extern bool rowset_contains(const RowSet *set, uint64_t row);
extern bool rowset_empty(const RowSet *set);
extern uint64_t rowset_count(const RowSet *set);
extern bool rowset_intersects(const RowSet *a, const RowSet *b);
extern RowSet *rowset_copy(const RowSet *set);
extern void rowset_add_all(RowSet *set, const RowSet *other);
extern void rowset_remove_range(RowSet *set, uint64_t from, uint64_t to); /* from <= row < to */
extern bool rowset_any(const RowSet *set, uint64_t from, uint64_t to); /* any of the range? */
extern RowSet *rowset_part(const RowSet *set, uint64_t from, uint64_t to); /* those of the range, as a new set */
extern void rowset_optimize(RowSet *set); /* runs where they are smaller */

/* Calls each(arg, row) in ascending order until it returns false. */
extern void rowset_each(const RowSet *set, bool (*each)(void *arg, uint64_t row), void *arg);

/*
 * Leaves (memory.h) unless there is memory to decode a bitmap, for those who do that themselves: then it fails for damage alone.
 */
extern void rowset_expect_bitmap(const uint8_t *bytes, size_t len);
struct roaring_bitmap_s;
extern void
rowset_expect_range(const struct roaring_bitmap_s *bitmap, uint64_t n); /* to add so many, or to change it */

/* NULL message: an empty set.  NULL result: the bytes are damaged. */
extern RowSet *rowset_decode(const S3am__RowSet *message);
extern S3am__RowSet *rowset_encode(const RowSet *set); /* malloc'ed, freed by s3am__row_set__free_unpacked() */

#endif
