/*
 * stats.c: what the view s3am.cache shows.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "cache/cache.h"
#include "compat.h"

S3AM_FUNCTION(s3am_cache_stats);

/* s3am.cache_stats(): of all attached databases of this server, since it started. */
Datum
s3am_cache_stats(PG_FUNCTION_ARGS)
{
	static const char *const kinds[] = {[CACHE_ROWS] = "rows", [CACHE_METADATA] = "metadata"};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CacheStats s;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; cache_stats(i, &s); i++)
	{
		Datum values[9];
		bool nulls[9] = {false};

		values[0] = CStringGetTextDatum(kinds[s.kind]);
		values[1] = Int32GetDatum(s.frame_size);
		values[2] = Int64GetDatum(s.pages);
		values[3] = Int64GetDatum(s.pinned);
		values[4] = Int64GetDatum(s.bytes);
		values[5] = Int64GetDatum(s.room);
		values[6] = Int64GetDatum(s.hits);
		values[7] = Int64GetDatum(s.misses);
		values[8] = Int64GetDatum(s.evictions);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
