/*
 * operations.c: SQL functions that show what s3am does: processes and manifests.
 */
#include "postgres.h"

#include <roaring/roaring.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "manifest/envelope.h"
#include "manifest/keys.h"
#include "messages.h"
#include "node/bucket.h"
#include "node/node.h"
#include "node/request.h"
#include "s3am.h"

S3AM_FUNCTION(s3am_processes);
S3AM_FUNCTION(s3am_read_manifests);
S3AM_FUNCTION(s3am_collect);

/* ------------------------------------------------------------------------------------ processes */

static const char *const doing_names[] = {
	[DOING_NOTHING] = "work",
	[DOING_READ_CHAIN] = "reading the chain",
	[DOING_PUT] = "writing a manifest",
	[DOING_FAILED] = "the repository to be repaired",
	[DOING_APPLY] = "applying a version",
	[DOING_REPLAY] = "replaying DDL",
	[DOING_WAIT_LOCAL] = "the end of a local transaction",
	[DOING_ATTACH] = "the database to be attached",
	[DOING_HEAD] = "the newest version",
	[DOING_OUTCOME] = "an outcome",
	[DOING_COMMIT] = "its commit",
	[DOING_ROOM] = "compaction",
	[DOING_STORE] = "the store",
	[DOING_UPLOAD] = "uploads",
};

static void
process_row(ReturnSetInfo *rsinfo, const char *process, int procno)
{
	NodeBackend *backend = node_backend(procno);
	uint64 seq = pg_atomic_read_u64(&backend->commit_seq);
	Datum values[5];
	bool nulls[5] = {false};

	values[0] = CStringGetTextDatum(process);
	values[1] = Int32GetDatum(ProcGlobal->allProcs[procno].pid);
	values[2] = CStringGetTextDatum(doing_names[pg_atomic_read_u32(&backend->doing)]);
	values[3] = Int64GetDatum(seq);
	nulls[3] = seq == 0;
	values[4] = BoolGetDatum(pg_atomic_read_u32(&backend->doomed) != 0 && pg_atomic_read_u64(&backend->owner) != 0);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* s3am.processes(): the workers of this database, and the sessions that wait for something of s3am's. */
Datum
s3am_processes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	S3Node *node = node_of_database(MyDatabaseId);

	InitMaterializedSRF(fcinfo, 0);
	if (node == NULL)
		return (Datum) 0;
	if (node->committer_procno >= 0)
		process_row(rsinfo, "committer", node->committer_procno);
	if (node->publisher_procno >= 0)
		process_row(rsinfo, "publisher", node->publisher_procno);
	if (node->compaction.procno >= 0)
		process_row(rsinfo, "compactor", node->compaction.procno);
	for (int i = 0; i < MaxBackends; i++)
	{
		PGPROC *proc = &ProcGlobal->allProcs[i];

		/* what a session said it does holds while it waits for an extension */
		if (proc->pid != 0 && proc->databaseId == MyDatabaseId && i != node->publisher_procno &&
			proc->wait_event_info == PG_WAIT_EXTENSION && pg_atomic_read_u32(&node_backend(i)->doing) >= DOING_ATTACH)
			process_row(rsinfo, "session", i);
	}
	return (Datum) 0;
}

/* ------------------------------------------------------------------------------------ manifests */

static uint64
rows_of(const S3am__RowSet *set)
{
	uint64 n = 0;

	for (size_t i = 0; set && i < set->n_parts; i++)
	{
		roaring_bitmap_t *bitmap = roaring_bitmap_portable_deserialize_safe((const char *) set->parts[i]->bitmap.data,
																			set->parts[i]->bitmap.len);

		if (bitmap == NULL)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a set of rows in a manifest cannot be decoded")));
		n += roaring_bitmap_get_cardinality(bitmap);
		roaring_bitmap_free(bitmap);
	}
	return n;
}

static void
manifest_row(ReturnSetInfo *rsinfo, const S3am__Manifest *m, Size object_size)
{
	uint64 added = 0, removed = 0, inline_bytes = 0, segments = 0, transactions = 0, ddl = 0, time = 0;
	Datum *tables = palloc(sizeof(Datum));
	int ntables = 0;
	Datum values[14];
	bool nulls[14] = {false};

	for (size_t i = 0; i < m->n_steps; i++)
		for (size_t j = 0; j < m->steps[i]->n_txns; j++)
		{
			const S3am__Txn *txn = m->steps[i]->txns[j];

			transactions++;
			ddl += txn->n_ddl;
			time = Max(time, txn->time_us);
			for (size_t t = 0; t < txn->n_tables; t++)
			{
				const S3am__TableEdit *edit = txn->tables[t];
				bool known = false;

				for (size_t b = 0; b < edit->n_batches; b++)
				{
					added += edit->batches[b]->nrows;
					inline_bytes += edit->batches[b]->rows.len;
					segments += edit->batches[b]->segment != NULL;
				}
				removed += rows_of(edit->removed) + rows_of(edit->replaced);
				for (int k = 0; k < ntables; k++)
					known |= DatumGetInt64(tables[k]) == (int64) edit->storage;
				if (!known)
				{
					tables = repalloc(tables, sizeof(Datum) * (ntables + 1));
					tables[ntables++] = Int64GetDatum(edit->storage);
				}
			}
		}
	values[0] = Int64GetDatum(m->version);
	values[1] = Int64GetDatum(m->author);
	values[2] = TimestampTzGetDatum((TimestampTz) time - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
	nulls[2] = time == 0;
	values[3] = Int64GetDatum(m->n_steps);
	values[4] = Int64GetDatum(transactions);
	values[5] =
		PointerGetDatum(construct_array(tables, ntables, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[6] = Int64GetDatum(added);
	values[7] = Int64GetDatum(removed);
	values[8] = Int64GetDatum(ddl);
	values[9] = Int64GetDatum(inline_bytes);
	values[10] = Int64GetDatum(segments);
	values[11] = Int64GetDatum(m->n_abort_marks);
	values[12] = Int64GetDatum(m->n_epochs);
	values[13] = Int64GetDatum(object_size);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Is a version that is not there at or under the boundary? */
static bool
is_collected(uint64 version)
{
	Size size;
	size_t len;
	char *error = NULL;
	uint8 *object = bucket_read_if(KEY_BOUNDARY, &size);
	uint8 *payload = object ? envelope_open(ENVELOPE_BOUNDARY, bucket_repository_uuid(), KEY_BOUNDARY, object, size,
											&len, NULL, &error)
							: NULL;
	S3am__Boundary *boundary = payload ? s3am__boundary__unpack(NULL, len, payload) : NULL;
	bool collected = boundary && boundary->boundary >= version;

	if (boundary)
		s3am__boundary__free_unpacked(boundary, NULL);
	free(payload);
	free(error);
	return collected;
}

/* s3am.read_manifests(newest, number): what the newest manifests hold, read from the repository. */
Datum
s3am_read_manifests(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	S3Node *node = node_wait_ready();
	uint64 head = pg_atomic_read_u64(&node->head);
	int64 newest = PG_ARGISNULL(0) ? (int64) head : PG_GETARG_INT64(0);
	int64 number = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am manifest", ALLOCSET_DEFAULT_SIZES);

	InitMaterializedSRF(fcinfo, 0);
	if (newest > (int64) head)
		newest = head;
	for (int64 version = newest; version > (int64) pg_atomic_read_u64(&node->boundary) && version > newest - number;
		 version--)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		char key[64];
		char *error = NULL;
		Size size;
		size_t len;
		uint8 *object;
		uint8 *payload;
		S3am__Manifest *manifest = NULL;

		snprintf(key, sizeof(key), "manifests/%020llu", (unsigned long long) version);
		object = bucket_read_if(key, &size);
		if (object == NULL && is_collected(version))
		{
			MemoryContextSwitchTo(old);
			break;
		}
		if (object == NULL)
			object = bucket_read(key, 0, -1, &size); /* says what is wrong */
		payload = envelope_open(ENVELOPE_MANIFEST, bucket_repository_uuid(), key, object, size, &len, NULL, &error);
		if (payload)
		{
			uint8 *copy = MemoryContextAllocExtended(cxt, Max(len, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);

			if (copy)
				memcpy(copy, payload, len);
			free(payload);
			if (copy)
				manifest = s3am__manifest__unpack(message_allocator(cxt), len, copy);
		}
		if (manifest == NULL)
		{
			char *text = pstrdup(error ? error : "it cannot be decoded");

			free(error);
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("cannot read object \"%s\" of the repository", key),
							errdetail("%s", text)));
		}
		manifest_row(rsinfo, manifest, size);
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
	}
	MemoryContextDelete(cxt);
	return (Datum) 0;
}

/* ------------------------------------------------------------------------------------ collection */

static void
collected_row(void *arg, const char *key, const char *why, uint64 bytes)
{
	ReturnSetInfo *rsinfo = arg;
	Datum values[3] = {CStringGetTextDatum(key), CStringGetTextDatum(why), Int64GetDatum(bytes)};
	bool nulls[3] = {false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* s3am.collect(dry_run): objects that nobody needs any more. */
Datum
s3am_collect(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	request_collect(node_wait_ready(), PG_GETARG_BOOL(0), collected_row, rsinfo);
	return (Datum) 0;
}
