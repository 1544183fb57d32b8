/*
 * functions.c: the SQL functions of the extension.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "compact/compact.h"
#include "node/bucket.h"
#include "node/node.h"
#include "node/request.h"
#include "node/state.h"
#include "compat.h"
#include "s3am.h"
#include "txn/txn.h"

S3AM_FUNCTION(s3am_bind);
S3AM_FUNCTION(s3am_node);
S3AM_FUNCTION(s3am_attach_status);
S3AM_FUNCTION(s3am_table_states);
S3AM_FUNCTION(s3am_batches);
S3AM_FUNCTION(s3am_commit_id);
S3AM_FUNCTION(s3am_commit_status);
S3AM_FUNCTION(s3am_check_store);

/* The database is bound when CREATE EXTENSION has committed: the launcher need not wait for a session that wants a table. */
static bool binding;

static void
ask_launcher(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && binding)
		node_request(MyDatabaseId);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		binding = false;
}

/*
 * s3am.bind(): called by the extension script: stores the repository's address with the database, by which the launcher finds
 * it once the transaction has committed.
 */
Datum
s3am_bind(PG_FUNCTION_ARGS)
{
	static bool registered = false;
	StringInfoData url, command;
	const char *database = get_database_name(MyDatabaseId);

	if (s3am_repository == NULL || s3am_repository[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("s3am.repository is not set"),
						errhint("Set it first, for example: ALTER SYSTEM SET s3am.repository = 's3://bucket/prefix'; "
								"SELECT pg_reload_conf();")));
	initStringInfo(&url);
	for (const char *p = s3am_repository; *p; p++)
	{
		if (p[0] == '%' && p[1] == 'd')
		{
			appendStringInfoString(&url, database);
			p++;
		}
		else
			appendStringInfoChar(&url, *p);
	}
	initStringInfo(&command);
	appendStringInfo(&command, "ALTER DATABASE %s SET s3am.repository = %s", quote_identifier(database),
					 quote_literal_cstr(url.data));
	SPI_connect();
	if (SPI_execute(command.data, false, 0) < 0)
		elog(ERROR, "ALTER DATABASE failed");
	SPI_finish();
	if (!registered)
		RegisterXactCallback(ask_launcher, NULL);
	registered = binding = true;
	PG_RETURN_TEXT_P(cstring_to_text(url.data));
}

/* s3am.node(): one row about this database's node. */
Datum
s3am_node(PG_FUNCTION_ARGS)
{
	S3Node *node = node_of_database(MyDatabaseId);
	TupleDesc desc;
	Datum values[15];
	bool nulls[15] = {false};
	char error[NODE_ERROR_MAX];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (node == NULL)
		PG_RETURN_NULL();
	SpinLockAcquire(&node->mutex);
	strlcpy(error, node->error, sizeof(error));
	SpinLockRelease(&node->mutex);
	values[0] = CStringGetTextDatum(node->url);
	values[1] = CStringGetTextDatum(node_phase_name(node));
	values[2] = Int64GetDatum(pg_atomic_read_u64(&node->epoch));
	values[3] = Int64GetDatum(state_version_shown(node));
	values[4] = Int64GetDatum(pg_atomic_read_u64(&node->head));
	values[5] = Int64GetDatum(node->commits);
	values[6] = Int64GetDatum(node->conflicts);
	values[7] = CStringGetTextDatum(error);
	nulls[7] = error[0] == '\0';
	values[8] = Int64GetDatum(POS_VERSION(pg_atomic_read_u64(&node->applied)));
	values[9] = Int64GetDatum(POS_VERSION(pg_atomic_read_u64(&node->frozen)));
	values[10] = Int64GetDatum(pg_atomic_read_u64(&node->submissions.length));
	values[11] = Int64GetDatum(pg_atomic_read_u64(&node->members));
	values[12] = Int64GetDatum(pg_atomic_read_u64(&node->deliveries.length));
	values[13] = Int64GetDatum(node->groups);
	values[14] = Int64GetDatum(pg_atomic_read_u64(&node->probe_done));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* s3am.attach_status(): one row: what this server cannot apply. */
Datum
s3am_attach_status(PG_FUNCTION_ARGS)
{
	S3Node *node = node_of_database(MyDatabaseId);
	NodeFailure failure;
	TupleDesc desc;
	Datum values[6] = {0};
	bool nulls[6] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = CStringGetTextDatum(node_phase_name(node));
	nulls[1] = node == NULL;
	if (node)
		values[1] = Int64GetDatum(state_version_shown(node));
	if (node && node_failure(node, &failure))
	{
		values[2] = Int64GetDatum(failure.version);
		values[3] = CStringGetTextDatum(failure.object);
		values[4] = CStringGetTextDatum(failure.reason);
		values[5] = TimestampTzGetDatum(failure.since);
	}
	else
		nulls[2] = nulls[3] = nulls[4] = nulls[5] = true;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

typedef struct Rows
{
	ReturnSetInfo *rsinfo;
	S3Node *node;
} Rows;

static void
table_row(void *arg, TableState *table)
{
	Rows *rows = arg;
	uint32 n;
	BatchTotals totals;
	const BatchArray *batches = state_batches(rows->node, table, &n);
	Datum values[8];
	bool nulls[8] = {false};

	state_total(rows->node, batches, n, &totals);
	values[0] = Int64GetDatum(table->storage);
	values[1] = Int64GetDatum(table->table);
	values[2] = Int64GetDatum(totals.rows);
	values[3] = Int64GetDatum(compact_dead_rows(rows->node, table));
	values[4] = Int64GetDatum(totals.inline_rows);
	values[5] = Int64GetDatum(totals.segments);
	values[6] = Int64GetDatum(pg_atomic_read_u64(&table->bytes));
	values[7] = BoolGetDatum(table->dropped != 0);
	tuplestore_putvalues(rows->rsinfo->setResult, rows->rsinfo->setDesc, values, nulls);
}

/* s3am.table_states(): what this node knows of every storage. */
Datum
s3am_table_states(PG_FUNCTION_ARGS)
{
	Rows rows = {(ReturnSetInfo *) fcinfo->resultinfo, node_wait_ready()};

	InitMaterializedSRF(fcinfo, 0);
	txn_begin_use(rows.node);
	state_each(rows.node, table_row, &rows);
	return (Datum) 0;
}

static void
batch_rows(void *arg, TableState *table)
{
	Rows *rows = arg;
	uint32 n;
	const BatchArray *batches = state_batches(rows->node, table, &n);
	const BatchEntry **all;

	n = state_all_batches(rows->node, batches, n, &all);
	for (uint32 i = 0; i < n; i++)
	{
		const BatchEntry *b = all[i];
		bool segment = !DsaPointerIsValid(b->blob);
		char key[64];
		Datum values[7];
		bool nulls[7] = {false};

		bucket_segment_key(b->epoch, b->number, key, sizeof(key));
		values[0] = Int64GetDatum(table->storage);
		values[1] = Int64GetDatum(table->table);
		values[2] = Int64GetDatum(b->first_row);
		values[3] = Int64GetDatum(b->nrows);
		values[4] = Int64GetDatum(POS_VERSION(b->pos));
		values[5] = segment ? CStringGetTextDatum(key) : (Datum) 0;
		nulls[5] = !segment;
		values[6] = Int64GetDatum(segment ? b->size : b->len);
		tuplestore_putvalues(rows->rsinfo->setResult, rows->rsinfo->setDesc, values, nulls);
	}
	pfree(all);
}

/* s3am.batches(): every segment and inline batch. */
Datum
s3am_batches(PG_FUNCTION_ARGS)
{
	Rows rows = {(ReturnSetInfo *) fcinfo->resultinfo, node_wait_ready()};

	InitMaterializedSRF(fcinfo, 0);
	txn_begin_use(rows.node);
	state_each(rows.node, batch_rows, &rows);
	return (Datum) 0;
}

/* s3am.commit_id(): the id under which the current transaction will commit; works before COMMIT. */
Datum
s3am_commit_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT "." UINT64_FORMAT, txn_commit_epoch(), txn_commit_seq())));
}

static void
parse_commit_id(const char *text, uint64 *epoch, uint64 *seq)
{
	char *end;

	errno = 0;
	*epoch = strtou64(text, &end, 10);
	if (end > text && *end == '.' && isdigit((unsigned char) end[1]) && errno == 0)
	{
		*seq = strtou64(end + 1, &end, 10);
		if (*end == '\0' && errno == 0 && isdigit((unsigned char) text[0]) && *epoch > 0 && *seq > 0)
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), errmsg("invalid commit id: \"%s\"", text),
					errhint("s3am.commit_id() gives one like 7.42 before COMMIT, and so does the message of a COMMIT "
							"that failed with 08007.")));
}

/* s3am.commit_status(id, resolve): what became of a transaction, by the chain as it is now (rule 11). */
Datum
s3am_commit_status(PG_FUNCTION_ARGS)
{
	S3Node *node = node_wait_ready();
	bool resolve = PG_GETARG_BOOL(1);
	uint64 epoch, seq, version = 0;
	const char *status = NULL;
	TupleDesc desc;
	Datum values[2];
	bool nulls[2] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	parse_commit_id(text_to_cstring(PG_GETARG_TEXT_PP(0)), &epoch, &seq);
	if (resolve && !superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be superuser to resolve a transaction")));
	switch (request_outcome(node, epoch, seq, resolve, &version))
	{
		case ANSWER_COMMITTED:
			status = "committed";
			break;
		case ANSWER_ABORTED:
			status = "aborted";
			break;
		case ANSWER_UNDECIDED:
			status = "undecided";
			break;
		case ANSWER_TOO_OLD:
			status = "too old";
			break;
		case ANSWER_NO_EPOCH:
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("there is no transaction " UINT64_FORMAT "." UINT64_FORMAT
								   ": no server has begun epoch " UINT64_FORMAT,
								   epoch, seq, epoch)));
			break;
		case ANSWER_READ_ONLY:
			ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
							errmsg("transaction " UINT64_FORMAT "." UINT64_FORMAT
								   " is undecided, and this server may not write to repository \"%s\"",
								   epoch, seq, node->url),
							errhint("Resolve it on another server.")));
			break;
		case ANSWER_PENDING:
		case ANSWER_DONE:
		case ANSWER_FAILED:
			elog(ERROR, "a request was not answered");
	}
	values[0] = CStringGetTextDatum(status);
	values[1] = Int64GetDatum(version);
	nulls[1] = strcmp(status, "committed") != 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

static bool
interrupt_pending(void)
{
	return InterruptPending && (QueryCancelPending || ProcDiePending);
}

/* s3am.check_store(): the conformance race, on the repository of this database. */
Datum
s3am_check_store(PG_FUNCTION_ARGS)
{
	StoreVerdict verdict;
	TupleDesc desc;
	Datum values[6];
	bool nulls[6] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	store_check(bucket_store(), PG_GETARG_INT32(0), PG_GETARG_INT32(1), interrupt_pending, &verdict);
	CHECK_FOR_INTERRUPTS();
	if (verdict.status != STORE_OK)
		ereport(ERROR, (errcode(bucket_sqlstate(verdict.status)),
						errmsg("the store of the repository cannot be checked"), errdetail("%s", verdict.detail)));
	values[0] = BoolGetDatum(verdict.create_if_absent);
	values[1] = BoolGetDatum(verdict.compare_and_set);
	values[2] = BoolGetDatum(verdict.read_after_write);
	values[3] = BoolGetDatum(verdict.list_after_write);
	values[4] = BoolGetDatum(verdict.ranged_get);
	values[5] = CStringGetTextDatum(verdict.detail);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
