/*
 * rowlock_test.c: row locks as SQL functions, without tables: any relation lends its name to the queue.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "s3am.h"
#include "txn/keylock.h"
#include "txn/keyset.h"
#include "txn/rowlock_table.h"

PG_MODULE_MAGIC;

void _PG_init(void);

int s3am_key_lock_memory = 131072;

#define COUNTERS 64

typedef struct TestShared
{
	int64 counter[COUNTERS];
	volatile int64 begun; /* passes of rl_pass */
	volatile int64 done;
	uint64 doomed[FLEXIBLE_ARRAY_MEMBER]; /* by process: the transaction that was doomed last */
} TestShared;

static TestShared *test_shared;
static shmem_request_hook_type next_request;
static shmem_startup_hook_type next_startup;

static Size
test_size(void)
{
	return offsetof(TestShared, doomed) + MaxBackends * sizeof(uint64);
}

static void
request(void)
{
	if (next_request)
		next_request();
	RequestAddinShmemSpace(rowlock_shmem_size() + test_size());
}

static void
startup(void)
{
	bool found;

	if (next_startup)
		next_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	rowlock_shmem_init();
	test_shared = ShmemInitStruct("rowlock_test", test_size(), &found);
	if (!found)
		memset(test_shared, 0, test_size());
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	next_request = shmem_request_hook;
	shmem_request_hook = request;
	next_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

static const char *const mode_names[] = {"key share", "share", "no key update", "update"};

static LockTupleMode
mode_arg(text *t)
{
	char *name = text_to_cstring(t);

	for (int i = 0; i < ROWLOCK_MODES; i++)
		if (strcmp(name, mode_names[i]) == 0)
			return i;
	elog(ERROR, "no lock mode \"%s\"", name);
}

/* rl_lock(rel, storage, row, mode, policy, base) */
PG_FUNCTION_INFO_V1(rl_lock);
Datum
rl_lock(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), RowShareLock);
	char *policy = text_to_cstring(PG_GETARG_TEXT_PP(4));
	RowLockResult result;

	rowlock_init_process();
	result = rowlock_acquire(rel, PG_GETARG_INT64(1), PG_GETARG_INT64(2), mode_arg(PG_GETARG_TEXT_PP(3)),
							 strcmp(policy, "skip") == 0     ? LockWaitSkip
							 : strcmp(policy, "nowait") == 0 ? LockWaitError
															 : LockWaitBlock,
							 PG_GETARG_INT64(5));
	relation_close(rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(result == ROWLOCK_GRANTED  ? "granted"
									 : result == ROWLOCK_WAITED ? "waited"
																: "skipped"));
}

/* rl_bulk(rel, storage, first, n, step, mode) returns nanoseconds per row */
PG_FUNCTION_INFO_V1(rl_bulk);
Datum
rl_bulk(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), RowShareLock);
	int64 first = PG_GETARG_INT64(2), n = PG_GETARG_INT64(3), step = PG_GETARG_INT64(4);
	LockTupleMode mode = mode_arg(PG_GETARG_TEXT_PP(5));
	instr_time begin, end;

	rowlock_init_process();
	INSTR_TIME_SET_CURRENT(begin);
	for (int64 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		(void) rowlock_acquire(rel, PG_GETARG_INT64(1), first + i * step, mode, LockWaitBlock, 0);
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, begin);
	relation_close(rel, NoLock);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(end) * 1e9 / Max(n, 1));
}

PG_FUNCTION_INFO_V1(rl_held);
Datum
rl_held(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(rowlock_held(PG_GETARG_INT64(0), PG_GETARG_INT64(1), mode_arg(PG_GETARG_TEXT_PP(2))));
}

PG_FUNCTION_INFO_V1(rl_conflicts);
Datum
rl_conflicts(PG_FUNCTION_ARGS)
{
	rowlock_init_process();
	PG_RETURN_BOOL(rowlock_conflicts(PG_GETARG_INT64(0), PG_GETARG_INT64(1), mode_arg(PG_GETARG_TEXT_PP(2))));
}

PG_FUNCTION_INFO_V1(rl_any);
Datum
rl_any(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(rowlock_any());
}

/* rl_owner() returns int8[]: proc, xact */
PG_FUNCTION_INFO_V1(rl_owner);
Datum
rl_owner(PG_FUNCTION_ARGS)
{
	int proc;
	uint64 xact;
	Datum d[2];

	rowlock_init_process();
	rowlock_owner(&proc, &xact);
	d[0] = Int64GetDatum(proc);
	d[1] = Int64GetDatum(xact);
	PG_RETURN_ARRAYTYPE_P(construct_array(d, 2, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

typedef struct EachState
{
	StringInfoData text;
	int64 rows;
	int calls;
	uint64 last[ROWLOCK_MODES];
	uint64 storage;
} EachState;

static void
each_row(void *arg, uint64 storage, LockTupleMode mode, uint64 base, const uint64 *rows, int nrows)
{
	EachState *state = arg;

	if (storage != state->storage)
	{
		if (storage < state->storage)
			elog(ERROR, "storages out of order");
		memset(state->last, 0, sizeof(state->last));
		state->storage = storage;
	}
	state->calls++;
	appendStringInfo(&state->text, "%s" UINT64_FORMAT " %s @" UINT64_FORMAT ":", state->text.len ? "; " : "", storage,
					 mode_names[mode], base);
	for (int i = 0; i < nrows; i++, state->rows++)
	{
		if (state->last[mode] != 0 && rows[i] <= state->last[mode])
			elog(ERROR, "rows out of order");
		state->last[mode] = rows[i];
		if (state->rows < 20)
			appendStringInfo(&state->text, " " UINT64_FORMAT, rows[i]);
	}
}

static bool
any_storage(uint64 storage)
{
	return true;
}

/* rl_each() returns text: what a commit record would get, the first rows of it; rl_each_count() the number of rows */
PG_FUNCTION_INFO_V1(rl_each);
Datum
rl_each(PG_FUNCTION_ARGS)
{
	EachState state = {.rows = 0};

	initStringInfo(&state.text);
	rowlock_each(any_storage, each_row, &state);
	PG_RETURN_TEXT_P(cstring_to_text(state.text.data));
}

PG_FUNCTION_INFO_V1(rl_each_count);
Datum
rl_each_count(PG_FUNCTION_ARGS)
{
	EachState state = {.rows = 0};

	initStringInfo(&state.text);
	rowlock_each(any_storage, each_row, &state);
	PG_RETURN_INT64(state.rows);
}

static void
doom(void *arg, int proc, uint64 xact)
{
	test_shared->doomed[proc] = xact;
	(*(int *) arg)++;
}

/* rl_publish(storage, row, mode, version, successor, owner int8[]) returns the number of entries doomed */
PG_FUNCTION_INFO_V1(rl_publish);
Datum
rl_publish(PG_FUNCTION_ARGS)
{
	int n = 0, proc = -1;
	uint64 xact = 0;

	rowlock_init_process();
	if (!PG_ARGISNULL(5))
	{
		int64 *owner = (int64 *) ARR_DATA_PTR(PG_GETARG_ARRAYTYPE_P(5));

		proc = owner[0];
		xact = owner[1];
	}
	rowlock_publish(PG_GETARG_INT64(0), PG_GETARG_INT64(1), mode_arg(PG_GETARG_TEXT_PP(2)), PG_GETARG_INT64(3),
					PG_GETARG_INT64(4), proc, xact, doom, &n);
	PG_RETURN_INT32(n);
}

/* rl_follow(storage, first, n, mode, distance) returns nanoseconds per row: publishes n rows, each with its successor */
PG_FUNCTION_INFO_V1(rl_follow);
Datum
rl_follow(PG_FUNCTION_ARGS)
{
	int64 first = PG_GETARG_INT64(1), n = PG_GETARG_INT64(2);
	LockTupleMode mode = mode_arg(PG_GETARG_TEXT_PP(3));
	int doomed = 0;
	instr_time begin, end;

	rowlock_init_process();
	INSTR_TIME_SET_CURRENT(begin);
	for (int64 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		rowlock_publish(PG_GETARG_INT64(0), first + i, mode, 1000, first + i + PG_GETARG_INT64(4), -1, 0, doom,
						&doomed);
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, begin);
	PG_RETURN_FLOAT8(INSTR_TIME_GET_DOUBLE(end) * 1e9 / Max(n, 1));
}

/*
 * rl_pass(storage, n): pass k publishes rows 1 .. n once, with successors k * 1000000 + row.  One session at a time.
 * rl_begun(), rl_done(): passes that have begun, are done.
 */
PG_FUNCTION_INFO_V1(rl_pass);
Datum
rl_pass(PG_FUNCTION_ARGS)
{
	int doomed = 0;
	int64 k;

	rowlock_init_process();
	k = ++test_shared->begun;
	pg_memory_barrier();
	for (int64 row = 1; row <= PG_GETARG_INT64(1); row++)
		rowlock_publish(PG_GETARG_INT64(0), row, LockTupleNoKeyExclusive, 1000, k * 1000000 + row, -1, 0, doom,
						&doomed);
	pg_memory_barrier();
	test_shared->done = k;
	PG_RETURN_INT64(k);
}

PG_FUNCTION_INFO_V1(rl_begun);
Datum
rl_begun(PG_FUNCTION_ARGS)
{
	pg_memory_barrier();
	PG_RETURN_INT64(test_shared->begun);
}

PG_FUNCTION_INFO_V1(rl_done);
Datum
rl_done(PG_FUNCTION_ARGS)
{
	pg_memory_barrier();
	PG_RETURN_INT64(test_shared->done);
}

PG_FUNCTION_INFO_V1(rl_doomed);
Datum
rl_doomed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(rowlock_xact != 0 && test_shared->doomed[MyProc->pgprocno] == rowlock_xact);
}

/* rl_dump() returns table (storage, chunk, mine, token, mode, kind, base, count, bytes) */
PG_FUNCTION_INFO_V1(rl_dump);
Datum
rl_dump(PG_FUNCTION_ARGS)
{
	static const char *const kinds[] = {"4", "12", "44", "bitmap"};
	static const int bytes[] = {48, 64, 128, 640};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	RowLockInfo *list;
	int n;

	rowlock_init_process();
	InitMaterializedSRF(fcinfo, 0);
	n = rowlock_list(&list);
	for (int i = 0; i < n; i++)
	{
		Datum values[9];
		bool nulls[9] = {0};

		values[0] = Int64GetDatum(list[i].key.storage);
		values[1] = Int64GetDatum(list[i].key.number);
		values[2] = BoolGetDatum(list[i].owner.xact == rowlock_xact);
		values[3] = Int64GetDatum(list[i].owner.token);
		values[4] = CStringGetTextDatum(mode_names[list[i].mode]);
		values[5] = CStringGetTextDatum(kinds[list[i].kind]);
		values[6] = Int64GetDatum(list[i].base);
		values[7] = Int32GetDatum(list[i].count);
		values[8] = Int32GetDatum(bytes[list[i].kind]);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* rl_chunks() returns the number of chunks in the table; rl_notes() that of notes of this process */
PG_FUNCTION_INFO_V1(rl_chunks);
Datum
rl_chunks(PG_FUNCTION_ARGS)
{
	int64 n = 0;

	for (int i = 0; i < ROWLOCK_PARTITIONS; i++)
		n += rowlock_shared->partition[i].nchunks;
	PG_RETURN_INT64(n);
}

PG_FUNCTION_INFO_V1(rl_notes);
Datum
rl_notes(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(rowlock_shared->proc[MyProc->pgprocno].nnotes);
}

/* rl_stray() returns the number of entries of this transaction under a token that has ended: nobody would wait for them */
PG_FUNCTION_INFO_V1(rl_stray);
Datum
rl_stray(PG_FUNCTION_ARGS)
{
	RowLockInfo *list;
	int n = rowlock_list(&list), stray = 0;

	for (int i = 0; i < n; i++)
	{
		bool found = list[i].owner.xact != rowlock_xact;

		for (int j = 0; j < rowlock_ntokens && !found; j++)
			found = rowlock_tokens[j].token == list[i].owner.token;
		if (!found)
			stray++;
	}
	PG_RETURN_INT32(stray);
}

/* rl_limit(bytes): of the shared area; 0: none */
PG_FUNCTION_INFO_V1(rl_limit);
Datum
rl_limit(PG_FUNCTION_ARGS)
{
	rowlock_init_process();
	rowlock_attach(true);
	dsa_set_size_limit(rowlock_dsa, PG_GETARG_INT64(0) ? PG_GETARG_INT64(0) : PG_INT64_MAX);
	PG_RETURN_VOID();
}

/* rl_increment(rel, storage, row): adds one under an update lock, in a way that loses updates without it */
PG_FUNCTION_INFO_V1(rl_increment);
Datum
rl_increment(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), RowShareLock);
	int64 row = PG_GETARG_INT64(2), value;

	rowlock_init_process();
	(void) rowlock_acquire(rel, PG_GETARG_INT64(1), row, LockTupleExclusive, LockWaitBlock, 0);
	value = *(volatile int64 *) &test_shared->counter[row % COUNTERS];
	pg_usleep(20);
	*(volatile int64 *) &test_shared->counter[row % COUNTERS] = value + 1;
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(rl_counters);
Datum
rl_counters(PG_FUNCTION_ARGS)
{
	int64 n = 0;

	for (int i = 0; i < COUNTERS; i++)
		n += test_shared->counter[i];
	PG_RETURN_INT64(n);
}

/* ------------------------------------------------------------------------------------ keys */

/* Any number's hash: all of them are different, none is 0. */
static uint64
hash_of(int64 i)
{
	uint64 h = ((uint64) i + 1) * UINT64CONST(0x9E3779B97F4A7C15);

	return h ^ h >> 32;
}

static LockWaitPolicy
policy_arg(text *t)
{
	char *policy = text_to_cstring(t);

	return strcmp(policy, "wait") == 0 ? LockWaitBlock : strcmp(policy, "skip") == 0 ? LockWaitSkip : LockWaitError;
}

/* kl_lock(rel, storage, key, policy) returns what keylock_acquire does */
PG_FUNCTION_INFO_V1(kl_lock);
Datum
kl_lock(PG_FUNCTION_ARGS)
{
	static const char *const results[] = {"granted", "waited", "skipped"};
	Relation rel = relation_open(PG_GETARG_OID(0), RowShareLock);
	RowLockResult result;

	rowlock_init_process();
	result = keylock_acquire(rel, PG_GETARG_INT64(1), hash_of(PG_GETARG_INT64(2)), policy_arg(PG_GETARG_TEXT_PP(3)));
	relation_close(rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(results[result]));
}

/* kl_hash(rel, storage, hash): whether it got a key with that very hash without waiting */
PG_FUNCTION_INFO_V1(kl_hash);
Datum
kl_hash(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), RowShareLock);
	RowLockResult result;

	rowlock_init_process();
	result = keylock_acquire(rel, PG_GETARG_INT64(1), (uint64) PG_GETARG_INT64(2), LockWaitSkip);
	relation_close(rel, NoLock);
	PG_RETURN_BOOL(result == ROWLOCK_GRANTED);
}

/* kl_bulk(rel, storage, first, n) returns how many of so many keys it got without waiting; the others it has not */
PG_FUNCTION_INFO_V1(kl_bulk);
Datum
kl_bulk(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), RowShareLock);
	int64 first = PG_GETARG_INT64(2), n = PG_GETARG_INT64(3), got = 0;

	rowlock_init_process();
	for (int64 i = first; i < first + n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		got += keylock_acquire(rel, PG_GETARG_INT64(1), hash_of(i), LockWaitSkip) == ROWLOCK_GRANTED;
	}
	relation_close(rel, NoLock);
	PG_RETURN_INT64(got);
}

/* kl_held(storage, first, n): how many of so many keys this transaction holds, or may hold */
PG_FUNCTION_INFO_V1(kl_held);
Datum
kl_held(PG_FUNCTION_ARGS)
{
	int64 first = PG_GETARG_INT64(1), n = PG_GETARG_INT64(2), held = 0;

	rowlock_init_process();
	for (int64 i = first; i < first + n; i++)
		held += keylock_held(PG_GETARG_INT64(0), hash_of(i));
	PG_RETURN_INT64(held);
}

/* kl_bytes(): shared memory that sets of keys take; kl_memory(kB): how much this session lets them */
PG_FUNCTION_INFO_V1(kl_bytes);
Datum
kl_bytes(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(pg_atomic_read_u64(&rowlock_shared->key_bytes));
}

PG_FUNCTION_INFO_V1(kl_memory);
Datum
kl_memory(PG_FUNCTION_ARGS)
{
	s3am_key_lock_memory = PG_GETARG_INT32(0);
	PG_RETURN_VOID();
}

/* kl_sets(): how many sets there are; those of ended tokens too */
PG_FUNCTION_INFO_V1(kl_sets);
Datum
kl_sets(PG_FUNCTION_ARGS)
{
	int64 n = 0;

	if (rowlock_attach(false))
		for (int i = 0; i < ROWLOCK_PARTITIONS; i++)
		{
			RowLockPartition *part = &rowlock_shared->partition[i];

			LWLockAcquire(&part->lock, LW_SHARED);
			for (dsa_pointer p = part->keysets; DsaPointerIsValid(p);
				 p = ((KeySet *) dsa_get_address(rowlock_dsa, p))->next)
				n++;
			LWLockRelease(&part->lock);
		}
	PG_RETURN_INT64(n);
}

/* kl_increment(rel, storage, key): as rl_increment */
PG_FUNCTION_INFO_V1(kl_increment);
Datum
kl_increment(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), RowShareLock);
	int64 key = PG_GETARG_INT64(2), value;

	rowlock_init_process();
	(void) keylock_acquire(rel, PG_GETARG_INT64(1), hash_of(key), LockWaitBlock);
	value = *(volatile int64 *) &test_shared->counter[key % COUNTERS];
	pg_usleep(20);
	*(volatile int64 *) &test_shared->counter[key % COUNTERS] = value + 1;
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}
