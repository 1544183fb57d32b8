/*
 * plan.c: which batches of a table are to be rewritten.  README.md says by what rule.
 */
#include "postgres.h"

#include "compact/compact.h"
#include "s3am.h"
#include "segment/batch.h"

#define CLASS_SMALLEST (16 * 1024)
#define CLASS_FACTOR 8
#define CLASS_FULL 4
#define CLASS_BATCHES 8 /* of one class that are merged */
#define GAP_ROWS 65536 /* a longer gap is not covered */
#define JOB_SEGMENTS 4 /* a job reads about as much as so many segments hold */
#define OTHERS_FACTOR 4
#define VACUUM_DEAD 5 /* percent */

typedef struct Plan
{
	S3Node *node;
	TableState *table;
	const BatchEntry **batches;
	uint32 count;
	CompactUrge urge;
	uint64 segment; /* bytes of rows in a full one */
} Plan;

static int
class_of(const Plan *plan, const BatchEntry *entry)
{
	uint64 limit = CLASS_SMALLEST;
	int class = 0;

	if (entry->raw >= plan->segment / 2)
		return CLASS_FULL;
	for (; class < CLASS_FULL - 1 && entry->raw >= limit; limit *= CLASS_FACTOR)
		class ++;
	return class;
}

static uint64
rows_hash(const Plan *plan, const BatchEntry *entry)
{
	return ((const SchemaEntry *) dsa_get_address(node_dsa(plan->node), entry->schema))->rows;
}

/* Can the batch be merged with the one before it? */
static bool
joins(const Plan *plan, uint32 i)
{
	const BatchEntry *before = plan->batches[i - 1], *entry = plan->batches[i];

	return entry->first_row - (before->first_row + before->nrows) <= GAP_ROWS &&
		   entry->first_row + entry->nrows - before->first_row <= PG_UINT32_MAX / 2 &&
		   (entry->schema == before->schema || rows_hash(plan, entry) == rows_hash(plan, before));
}

static uint64
dead_rows(const Plan *plan, const BatchEntry *entry)
{
	uint64 ended = state_count_ended(plan->node, plan->table, entry->first_row, entry->nrows);

	return ended > entry->gone ? ended - entry->gone : 0;
}

/* Is a batch worth being rewritten for its dead rows alone? */
static bool
is_dead(const Plan *plan, const BatchEntry *entry)
{
	int class = class_of(plan, entry);
	uint64 rows = entry->nrows - entry->gone, dead;
	int percent = s3am_compaction_dead;

	/* what is small goes when it is merged */
	if (class == 0 && plan->urge != COMPACT_VACUUM)
		return false;
	if (plan->urge == COMPACT_OTHERS)
		percent = (100 + percent) / 2;
	else if (plan->urge == COMPACT_VACUUM)
		percent = Min(percent, class == CLASS_FULL ? VACUUM_DEAD : 0);
	dead = dead_rows(plan, entry);
	return dead > 0 && dead * 100 >= rows * percent;
}

/* The run of batches up to `class` that begins at `first`: its end, and whether it is to be merged. */
static uint32
run_end(const Plan *plan, uint32 first, int class, bool *wanted)
{
	uint32 end = first, exact = 0, count;
	uint64 raw = 0;
	uint32 enough = s3am_compaction_batches, of_class = Min(CLASS_BATCHES, s3am_compaction_batches);

	for (; end < plan->count; end++)
	{
		const BatchEntry *entry = plan->batches[end];
		int its = class_of(plan, entry);

		if (its > class || (end > first && !joins(plan, end)) ||
			(end > first && raw + entry->raw > plan->segment * JOB_SEGMENTS))
			break;
		raw += entry->raw;
		exact += its == class;
	}
	count = end - first;
	if (plan->urge == COMPACT_OTHERS)
	{
		enough *= OTHERS_FACTOR;
		of_class *= OTHERS_FACTOR;
	}
	/* what is written must be fewer batches than what is read */
	*wanted = count > raw / plan->segment + 1 && (count >= enough || (class > 0 && exact >= of_class) ||
												  plan->urge == COMPACT_PRESSED || plan->urge == COMPACT_VACUUM);
	return end;
}

static CompactJob *
make_job(const Plan *plan, uint64 base, uint32 first, uint32 end)
{
	CompactJob *job = palloc0(sizeof(CompactJob));

	job->storage = plan->table->storage;
	job->table = plan->table->table;
	job->base = base;
	job->nbatches = end - first;
	job->batches = palloc(sizeof(BatchEntry) * job->nbatches);
	for (uint32 i = 0; i < job->nbatches; i++)
	{
		job->batches[i] = *plan->batches[first + i];
		job->rows += job->batches[i].nrows;
		job->raw += job->batches[i].raw;
	}
	return job;
}

CompactJob *
compact_plan(S3Node *node, TableState *table, CompactUrge urge)
{
	Plan plan = {node, table, NULL, 0, urge, (uint64) s3am_segment_size * 1024};
	const BatchArray *batches;
	uint64 base;

	/* the batches are at least those of the base; one that was dropped since makes the edit void */
	base = POS_WHOLE(pg_atomic_read_u64(&node->applied));
	pg_memory_barrier();
	if (table->dropped != 0)
		return NULL;
	batches = state_batches(node, table, &plan.count);
	plan.count = state_all_batches(node, batches, plan.count, &plan.batches);
	for (int class = 0; class < CLASS_FULL; class ++)
		for (uint32 first = 0; first < plan.count;)
		{
			bool wanted;
			uint32 end = run_end(&plan, first, class, &wanted);

			if (wanted)
				return make_job(&plan, base, first, end);
			first = Max(end, first + 1);
		}
	for (uint32 first = 0; first < plan.count; first++)
	{
		uint32 end = first + 1;
		uint64 raw = plan.batches[first]->raw;

		if (!is_dead(&plan, plan.batches[first]))
			continue;
		/* neighbours are done together */
		for (; end < plan.count; end++)
		{
			raw += plan.batches[end]->raw;
			if (raw > plan.segment * JOB_SEGMENTS || !joins(&plan, end) || !is_dead(&plan, plan.batches[end]))
				break;
		}
		return make_job(&plan, base, first, end);
	}
	return NULL;
}
