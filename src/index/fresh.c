/*
 * fresh.c: the inline runs of an index, put together in memory.
 *
 * Each small commit brings a run of its own, and the compactor merges them dozens at a time.  Until then a reader that finds many puts
 * the entries of all of them into one sorted block in shared memory, where every later reader finds them; he does it, and not the publisher,
 * since it takes the operator classes' functions, which run as whoever uses the index.  A block says nothing that the runs do not say, so two may
 * be made at once, and one that is lost is made again.
 *
 * A block belongs to a generation of the array of batches: the publisher counts one up before it puts another array in the place of the one
 * that was there (merging), and once more after it, so that no reader takes a block to have what it does not have, or something that it has
 * elsewhere.  A uniqueness check reads the newest array, not that of a snapshot, and may come between the two: then it does without.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "index/fresh.h"
#include "index/index.h"
#include "txn/txn.h"

#define FRESH_MANY 8 /* runs that are not worth a block */
#define FRESH_MAX_BYTES (64 * 1024 * 1024)

const FreshRun *
fresh_find(S3Node *node, TableState *table, uint64 generation)
{
	dsa_pointer p = pg_atomic_read_u64(&table->fresh);
	const FreshRun *run = DsaPointerIsValid(p) ? dsa_get_address(node_dsa(node), p) : NULL;

	return run && run->generation == generation ? run : NULL;
}

bool
fresh_has(const FreshRun *run, const BatchEntry *batch)
{
	return run && DsaPointerIsValid(batch->blob) && batch->first_row >= run->first && batch->first_row < run->end;
}

HeapTupleData
fresh_tuple(const FreshRun *run, uint64 n)
{
	HeapTupleData tuple;
	MinimalTuple minimal = (MinimalTuple) ((char *) run + run->offsets[n]);

	tuple.t_len = minimal->t_len + MINIMAL_TUPLE_OFFSET;
	tuple.t_data = (HeapTupleHeader) ((char *) minimal - MINIMAL_TUPLE_OFFSET);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	return tuple;
}

/* The entries of the block before (or NULL) and of these batches, sorted, as tuples; false: they are too many for a block. */
static bool
collect(S3Node *node, IndexMeta *meta, const FreshRun *before, const BatchEntry *batches, uint32 nbatches,
		MinimalTuple **tuples, uint32 *n, Size *bytes)
{
	uint32 capacity = 256 + (before ? before->n : 0);
	bool *nulls = palloc(sizeof(bool) * meta->desc->natts);
	Datum *values = palloc(sizeof(Datum) * meta->desc->natts);
	IndexSearch search;
	bool fits = true;

	*tuples = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(MinimalTuple) * capacity);
	*n = 0;
	*bytes = 0;
	search_open_batches(&search, meta, node, batches, nbatches, before,
						AllocSetContextCreate(CurrentMemoryContext, "s3am fresh entries", ALLOCSET_DEFAULT_SIZES));
	for (search_seek(&search, NULL, true); search.current && fits; search_next(&search))
	{
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < meta->desc->natts; i++)
			values[i] = search_value(&search, i, &nulls[i]);
		values[ENTRY_ROW] = Int64GetDatum(search_row(&search));
		if (*n == capacity)
			*tuples = repalloc_huge(*tuples, sizeof(MinimalTuple) * (capacity *= 2));
		(*tuples)[*n] = heap_form_minimal_tuple(meta->desc, values, nulls);
		*bytes += MAXALIGN((*tuples)[(*n)++]->t_len);
		fits = *bytes <= FRESH_MAX_BYTES;
	}
	search_close(&search);
	return fits;
}

const FreshRun *
fresh_make(S3Node *node, TableState *table, uint64 generation, IndexMeta *meta, const BatchEntry **batches,
		   uint32 nbatches)
{
	uint32 count = 0, without = 0, n;
	const FreshRun *old = fresh_find(node, table, generation);
	MemoryContext cxt, former;
	BatchEntry *added;
	MinimalTuple *tuples;
	Size bytes, at;
	dsa_pointer p;
	FreshRun *run;
	uint64 expected;

	for (uint32 i = 0; i < nbatches; i++)
		without += DsaPointerIsValid(batches[i]->blob) && !fresh_has(old, batches[i]);
	if (without <= FRESH_MANY)
		return old;
	expected = pg_atomic_read_u64(&table->fresh);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am fresh run", ALLOCSET_DEFAULT_SIZES);
	former = MemoryContextSwitchTo(cxt);
	/* what is in the block before is sorted already, and costs little; each run has to be opened, which costs much */
	added = palloc(sizeof(BatchEntry) * without);
	for (uint32 i = 0; i < nbatches; i++)
		if (DsaPointerIsValid(batches[i]->blob) && !fresh_has(old, batches[i]))
			added[count++] = *batches[i];
	run = NULL;
	if (collect(node, meta, old, added, count, &tuples, &n, &bytes))
	{
		at = MAXALIGN(offsetof(FreshRun, offsets) + sizeof(uint32) * n);
		/* without memory it is as it was */
		p = dsa_allocate_extended(node_dsa(node), at + bytes, DSA_ALLOC_NO_OOM | DSA_ALLOC_HUGE);
		if (DsaPointerIsValid(p))
		{
			run = dsa_get_address(node_dsa(node), p);
			run->generation = generation;
			run->first = old ? Min(old->first, added[0].first_row) : added[0].first_row;
			run->end = added[count - 1].first_row + added[count - 1].nrows;
			if (old)
				run->end = Max(run->end, old->end);
			run->n = n;
			for (uint32 i = 0; i < n; i++)
			{
				run->offsets[i] = at;
				memcpy((char *) run + at, tuples[i], tuples[i]->t_len);
				at += MAXALIGN(tuples[i]->t_len);
			}
			pg_memory_barrier();
			/* the array that it is of must have been that generation's, and another reader may have been faster */
			if (pg_atomic_read_u64(&table->generation) != generation ||
				!pg_atomic_compare_exchange_u64(&table->fresh, &expected, p))
			{
				dsa_free(node_dsa(node), p);
				run = NULL;
			}
			else if (DsaPointerIsValid(expected))
				node_push(node, &node->retired_by_readers, expected);
		}
	}
	MemoryContextSwitchTo(former);
	MemoryContextDelete(cxt);
	return run ? run : fresh_find(node, table, generation);
}
