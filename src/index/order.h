/*
 * order.h: two values of a key column compared, those of the commonest types without a call.
 *
 * What is compared here comes out as it does from the operator class's own function, which is asked in all other cases.
 */
#ifndef S3AM_INDEX_ORDER_H
#define S3AM_INDEX_ORDER_H

#include "index/index.h"

/* Neither compressed nor elsewhere nor expanded. */
static inline bool
is_flat_text(Datum value)
{
	return VARATT_IS_1B(DatumGetPointer(value)) ? !VARATT_IS_1B_E(DatumGetPointer(value))
												: VARATT_IS_4B_U(DatumGetPointer(value));
}

/* Of column i, not NULL, in the order of the operator class.  order: the function for the types of a and b. */
static inline int
order_values(const IndexMeta *meta, int i, FmgrInfo *order, Datum a, Datum b)
{
	if (order == meta->order[i])
		switch (meta->quick[i])
		{
			case QUICK_INT4:
				return DatumGetInt32(a) < DatumGetInt32(b) ? -1 : DatumGetInt32(a) > DatumGetInt32(b);
			case QUICK_INT8:
				return DatumGetInt64(a) < DatumGetInt64(b) ? -1 : DatumGetInt64(a) > DatumGetInt64(b);
			case QUICK_TEXT:
				if (is_flat_text(a) && is_flat_text(b))
				{
					int alen = VARSIZE_ANY_EXHDR(DatumGetPointer(a)), blen = VARSIZE_ANY_EXHDR(DatumGetPointer(b));
					int result =
						memcmp(VARDATA_ANY(DatumGetPointer(a)), VARDATA_ANY(DatumGetPointer(b)), Min(alen, blen));

					return result ? result : alen - blen;
				}
				break;
			case QUICK_NONE:
				break;
		}
	return DatumGetInt32(FunctionCall2Coll(order, meta->collation[i], a, b));
}

/* Two keys in the order of the index. */
static inline int
order_keys(const IndexMeta *meta, int i, FmgrInfo *order, Datum a, bool anull, Datum b, bool bnull)
{
	int result;

	if (anull || bnull)
	{
		if (anull == bnull)
			return 0;
		return anull == meta->nulls_first[i] ? -1 : 1;
	}
	result = order_values(meta, i, order, a, b);
	return meta->descending[i] ? (result < 0 ? 1 : -(result > 0)) : result;
}

#endif
