/*
 * statistics.c: requests to the store: how many, how long they took, and what they cost.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "node/node.h"
#include "s3am.h"

S3AM_FUNCTION(s3am_store_stats);
S3AM_FUNCTION(s3am_store_request_stats);
S3AM_FUNCTION(s3am_store_reset);

/* s3am.store_stats(): requests and bytes, those of the committer and all others. */
Datum
s3am_store_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	S3Node *node = node_of_database(MyDatabaseId);

	InitMaterializedSRF(fcinfo, 0);
	for (int others = 0; node && others <= 1; others++)
	{
		uint64 sums[7] = {0};
		Datum values[8];
		bool nulls[8] = {false};

		for (int i = 0; i < NODE_STATS_KINDS; i++)
		{
			NodeStoreStats *s = &node->store_stats[i];
			pg_atomic_uint64 *const counters[] = {&s->gets,    &s->puts,     &s->lists,    &s->deletes,
												  &s->retries, &s->bytes_in, &s->bytes_out};

			for (int j = 0; (i != NODE_STATS_COMMITTER) == others && j < lengthof(counters); j++)
				sums[j] += pg_atomic_read_u64(counters[j]);
		}
		values[0] = CStringGetTextDatum(others ? "sessions" : "committer");
		for (int j = 0; j < lengthof(sums); j++)
			values[j + 1] = Int64GetDatum(sums[j]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Milliseconds within which this share of the answers came: by the histogram, evenly spread within a power of two. */
static double
quantile(const uint64 *latency, uint64 total, double share)
{
	double wanted = total * share, seen = 0;

	for (int i = 0; i < STORE_LATENCIES; i++)
	{
		double low = i == 0 ? 0 : (double) (UINT64CONST(1) << (i + 5));

		if (latency[i] && seen + latency[i] >= wanted)
			return (low + ((double) (UINT64CONST(1) << (i + 6)) - low) * (wanted - seen) / latency[i]) / 1000;
		seen += latency[i];
	}
	return 0;
}

/* s3am.store_request_stats(): by kind of process and request. */
Datum
s3am_store_request_stats(PG_FUNCTION_ARGS)
{
	static const char *const processes[NODE_STATS_KINDS] = {"committer", "publisher", "workers", "sessions"};
	static const char *const requests[STORE_REQUESTS] = {"GET", "PUT", "LIST", "DELETE"};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	S3Node *node = node_of_database(MyDatabaseId);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; node && i < NODE_STATS_KINDS; i++)
		for (int r = 0; r < STORE_REQUESTS; r++)
		{
			NodeStoreStats *s = &node->store_stats[i];
			uint64 n = pg_atomic_read_u64(&s->requests[r].attempts);
			uint64 latency[STORE_LATENCIES], answers = 0;
			Datum counts[STORE_LATENCIES];
			Datum values[10];
			bool nulls[10] = {false};

			for (int j = 0; j < STORE_LATENCIES; j++)
			{
				latency[j] = pg_atomic_read_u64(&s->requests[r].latency[j]);
				answers += latency[j];
				counts[j] = Int64GetDatum(latency[j]);
			}
			values[0] = CStringGetTextDatum(processes[i]);
			values[1] = CStringGetTextDatum(requests[r]);
			values[2] = Int64GetDatum(n);
			values[3] = Int64GetDatum(pg_atomic_read_u64(&s->requests[r].errors));
			values[4] = Int64GetDatum(pg_atomic_read_u64(&s->requests[r].bytes));
			nulls[5] = nulls[6] = nulls[7] = answers == 0;
			values[5] = Float8GetDatum(answers ? pg_atomic_read_u64(&s->requests[r].us) / 1000.0 / answers : 0);
			values[6] = Float8GetDatum(answers ? quantile(latency, answers, 0.5) : 0);
			values[7] = Float8GetDatum(answers ? quantile(latency, answers, 0.99) : 0);
			values[8] = PointerGetDatum(
				construct_array(counts, STORE_LATENCIES, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
			values[9] = TimestampTzGetDatum(node->stats_reset);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	return (Datum) 0;
}

/* s3am.store_reset(): counts from 0 again. */
Datum
s3am_store_reset(PG_FUNCTION_ARGS)
{
	S3Node *node = node_of_database(MyDatabaseId);

	for (int i = 0; node && i < NODE_STATS_KINDS; i++)
	{
		NodeStoreStats *s = &node->store_stats[i];
		pg_atomic_uint64 *const counters[] = {&s->gets,    &s->puts,     &s->lists,    &s->deletes,
											  &s->retries, &s->bytes_in, &s->bytes_out};

		for (int j = 0; j < lengthof(counters); j++)
			pg_atomic_write_u64(counters[j], 0);
		for (int r = 0; r < STORE_REQUESTS; r++)
		{
			pg_atomic_write_u64(&s->requests[r].attempts, 0);
			pg_atomic_write_u64(&s->requests[r].errors, 0);
			pg_atomic_write_u64(&s->requests[r].bytes, 0);
			pg_atomic_write_u64(&s->requests[r].us, 0);
			for (int j = 0; j < STORE_LATENCIES; j++)
				pg_atomic_write_u64(&s->requests[r].latency[j], 0);
		}
	}
	if (node)
		node->stats_reset = GetCurrentTimestamp();
	PG_RETURN_VOID();
}
