/*
 * status.c: s3am.compaction: what the compactor of this database does, has done, and could not do.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compact/compact.h"
#include "compat.h"
#include "s3am.h"

S3AM_FUNCTION(s3am_compaction_status);

static const char *
phase_of(S3Node *node)
{
	static const char *const phases[] = {
		[COMPACT_NONE] = "no worker", [COMPACT_IDLE] = "idle",     [COMPACT_READ] = "reading",
		[COMPACT_UPLOAD] = "writing", [COMPACT_COMMIT] = "commit",
	};

	if (!s3am_compaction)
		return "off";
	return phases[pg_atomic_read_u32(&node->compaction.phase)];
}

/* s3am.compaction_status(): one row. */
Datum
s3am_compaction_status(PG_FUNCTION_ARGS)
{
	S3Node *node = node_of_database(MyDatabaseId);
	NodeCompaction *c;
	TupleDesc desc;
	Datum values[16];
	bool nulls[16] = {false};
	char error[sizeof(c->error)];
	uint64 failed_storage;
	TimestampTz failed_at;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (node == NULL)
		PG_RETURN_NULL();
	c = &node->compaction;
	SpinLockAcquire(&node->mutex);
	strlcpy(error, c->error, sizeof(error));
	failed_storage = c->failed_storage;
	failed_at = c->failed_at;
	SpinLockRelease(&node->mutex);
	values[0] = CStringGetTextDatum(phase_of(node));
	values[1] = Int64GetDatum(pg_atomic_read_u64(&c->storage));
	nulls[1] = DatumGetInt64(values[1]) == 0;
	values[2] = Int64GetDatum(pg_atomic_read_u64(&c->rows));
	values[3] = Int64GetDatum(pg_atomic_read_u64(&c->rows_done));
	nulls[2] = nulls[3] = nulls[1];
	values[4] = Int64GetDatum(pg_atomic_read_u64(&c->jobs));
	values[5] = Int64GetDatum(pg_atomic_read_u64(&c->batches_in));
	values[6] = Int64GetDatum(pg_atomic_read_u64(&c->batches_out));
	values[7] = Int64GetDatum(pg_atomic_read_u64(&c->rows_dropped));
	values[8] = Int64GetDatum(pg_atomic_read_u64(&c->bytes_in));
	values[9] = Int64GetDatum(pg_atomic_read_u64(&c->bytes_out));
	values[10] = Int64GetDatum(pg_atomic_read_u64(&c->lost));
	values[11] = Int64GetDatum(pg_atomic_read_u64(&node->small_bytes));
	values[12] = Int64GetDatum(pg_atomic_read_u64(&c->failures));
	values[13] = Int64GetDatum(failed_storage);
	values[14] = TimestampTzGetDatum(failed_at);
	values[15] = CStringGetTextDatum(error);
	nulls[13] = nulls[14] = failed_storage == 0;
	nulls[15] = error[0] == '\0';
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
