/*
 * sort.h: entries in the order of an index, by core's tuplesort.
 */
#ifndef S3AM_INDEX_SORT_H
#define S3AM_INDEX_SORT_H

#include "index/index.h"
#include "utils/tuplesort.h"

typedef struct EntrySort EntrySort;

/* work_mem in kB.  coordinate: NULL: one process alone. */
extern EntrySort *entry_sort_begin(const IndexMeta *meta, int work_mem, SortCoordinate coordinate);
/* An entry as meta_form() makes it. */
extern void entry_sort_add(EntrySort *sort, const Datum *values, const bool *nulls);
/* After the last one. */
extern void entry_sort_perform(EntrySort *sort);
/* A slot for entry_sort_next(), to be dropped by the caller. */
extern TupleTableSlot *entry_sort_slot(const EntrySort *sort);
/* The next entry in order; false: there is none.  What is in the slot stays until the next call, or with `keep` until the slot is used again. */
extern bool entry_sort_next(EntrySort *sort, bool keep, TupleTableSlot *slot);
extern void entry_sort_end(EntrySort *sort);

#endif
