/*
 * keyorder.h: keys of an index as bytes that have their order, on every server.  KEYS.md says which columns have such bytes.
 */
#ifndef S3AM_INDEX_KEYORDER_H
#define S3AM_INDEX_KEYORDER_H

#include "postgres.h"

#include "index/index.h"
#include "txn/ranges.h"

typedef struct KeyOrder KeyOrder;

/* Of the index that this is of; kept with it. */
extern const KeyOrder *key_order(IndexMeta *meta);
/* Do the bytes of its entries come in the order of the entries? */
extern bool key_order_is_sorted(const KeyOrder *order);

/*
 * The bytes of the first n columns of an entry.  Of columns from nequal on only those with an order count, as for others nothing but equality can be
 * told.  False: the bytes are not all of it, since a column has none or there is no room; what follows may be anything.
 */
extern bool
key_order_put(const KeyOrder *order, int n, int nequal, const Datum *values, const bool *nulls, KeyEnd *end);
/* Entries between two bounds, or from or to the end where one is NULL.  False: there are none. */
extern bool
key_order_range(IndexMeta *meta, int nequal, const IndexBound *low, const IndexBound *high, KeyRange *range);

#endif
