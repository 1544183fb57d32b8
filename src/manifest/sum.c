/*
 * sum.c: see sum.h.
 */
#include <string.h>

#include "manifest/rowset.h"
#include "manifest/sum.h"

void
sum_add(S3am__BatchSum *sum, const S3am__BatchState *state)
{
	const S3am__Batch *b = state->batch;
	uint64_t rows = b->gone < b->nrows ? b->nrows - b->gone : 0;

	if (sum->batches++ == 0)
		sum->first_row = state->first_row;
	sum->end_row = state->first_row + b->nrows;
	sum->rows += rows;
	sum->bytes += b->segment ? b->segment->size : b->rows.len;
	if (!b->segment)
	{
		sum->inline_batches++;
		sum->inline_rows += rows;
	}
	if (!b->segment || b->segment->live_bytes < SUM_SMALL)
	{
		sum->small++;
		sum->small_bytes += (b->segment ? 0 : b->rows.len) + 8 * ((b->pages ? b->pages->n_rows : 0) + 1);
	}
}

bool
sum_page(S3am__BatchSum *sum, const S3am__Page *page)
{
	RowSet *removed = rowset_decode(page->removed);

	s3am__batch_sum__init(sum);
	if (removed == NULL)
		return false;
	for (size_t i = 0; i < page->n_batches; i++)
		if (page->batches[i]->batch)
			sum_add(sum, page->batches[i]);
	sum->removed = rowset_count(removed);
	rowset_free(removed);
	return true;
}

bool
sum_same(const S3am__BatchSum *a, const S3am__BatchSum *b)
{
	return a->batches == b->batches && a->first_row == b->first_row && a->end_row == b->end_row && a->rows == b->rows &&
		   a->inline_batches == b->inline_batches && a->inline_rows == b->inline_rows && a->bytes == b->bytes &&
		   a->small == b->small && a->small_bytes == b->small_bytes && a->removed == b->removed;
}
