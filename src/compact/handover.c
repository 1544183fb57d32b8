/*
 * handover.c: a compaction's edit on its way to the committer, as a session's transaction goes.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compact/compact.h"
#include "manifest/committer.h"
#include "txn/commit.h"
#include "txn/txn.h"

/*
 * The edit's base, taken anew: the job may have lasted longer than what was committed meanwhile is known to anybody, and nothing but what it
 * replaces matters to it.  False: that is not there any more, so the edit would be void.
 */
static bool
take_base(S3Node *node, const CompactJob *job, uint64 *base)
{
	TableState *table = state_table(node, job->storage);
	const BatchArray *batches;
	uint32 count;

	/* before the batches are looked at: what is dropped later is later than the base as well */
	*base = POS_WHOLE(pg_atomic_read_u64(&node->applied));
	pg_memory_barrier();
	if (table == NULL || table->dropped != 0)
		return false;
	batches = state_batches(node, table, &count);
	for (uint32 i = 0; i < job->nbatches; i++)
	{
		const BatchEntry *entry = &job->batches[i];
		const BatchEntry *now = state_find_batch(node, batches, count, entry->first_row, NULL);

		if (now == NULL || now->first_row != entry->first_row || now->pos != entry->pos)
			return false;
	}
	return true;
}

static dsa_pointer
make_member(S3Node *node, const CompactJob *job, CompactResult *result, uint64 base, uint64 epoch)
{
	S3am__Txn txn = S3AM__TXN__INIT;
	S3am__CommitId id = S3AM__COMMIT_ID__INIT;
	S3am__SchemaClaim schema = S3AM__SCHEMA_CLAIM__INIT;
	S3am__SchemaClaim *schemas[] = {&schema};
	S3am__TableEdit *tables[] = {&result->edit};
	dsa_pointer p;
	Member *member;
	Size len;

	id.epoch = epoch;
	id.seq = pg_atomic_fetch_add_u64(&node->next_seq, 1) + 1;
	schema.table = job->table;
	schema.mode = S3AM__MODE__KEY_SHARE;
	txn.id = &id;
	txn.base_version = base;
	txn.tables = tables;
	txn.n_tables = 1;
	txn.schemas = schemas;
	txn.n_schemas = 1;
	txn.xmin = result->one_xmin ? result->xmin : txn_derive_xmin(id.epoch, id.seq);
	txn.time_us = GetCurrentTimestamp() + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	len = s3am__txn__get_packed_size(&txn);
	p = dsa_allocate_extended(node_dsa(node), offsetof(Member, record) + len, DSA_ALLOC_HUGE);
	member = dsa_get_address(node_dsa(node), p);
	memset(member, 0, offsetof(Member, record));
	pg_atomic_init_u32(&member->state, MEMBER_QUEUED);
	pg_atomic_init_u32(&member->refs, 2);
	member->procno = MyProc->pgprocno;
	member->epoch = id.epoch;
	member->seq = id.seq;
	member->xid = InvalidTransactionId;
	member->len = s3am__txn__pack(&txn, member->record);
	return p;
}

static void
let_go(S3Node *node, dsa_pointer p)
{
	Member *member = dsa_get_address(node_dsa(node), p);

	if (pg_atomic_sub_fetch_u32(&member->refs, 1) == 0)
		dsa_free(node_dsa(node), p);
}

/* Until the edit is decided.  Who is told to end leaves it, taken back if the committer has not seen it yet. */
static void
wait_decided(S3Node *node, dsa_pointer p)
{
	Member *member = dsa_get_address(node_dsa(node), p);

	while (pg_atomic_read_u32(&member->state) != MEMBER_DECIDED)
	{
		if (ProcDiePending || pg_atomic_read_u32(&node->detached))
		{
			uint32 expected = MEMBER_QUEUED;

			if (!pg_atomic_compare_exchange_u32(&member->state, &expected, MEMBER_WITHDRAWN))
				compact_keep();
			let_go(node, p);
			CHECK_FOR_INTERRUPTS();
			proc_exit(0);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1000, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

bool
compact_hand_over(S3Node *node, const CompactJob *job, CompactResult *result)
{
	uint64 epoch = pg_atomic_read_u64(&node->epoch);
	uint64 base;
	Outcome outcome;
	char detail[sizeof(((Member *) 0)->detail)];
	Member *member;
	dsa_pointer p;

	/* nobody had to keep what was uploaded in an earlier epoch */
	if (epoch == 0 || (result->epoch != 0 && result->epoch != epoch))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE), errmsg("this server's epoch in the repository has ended")));
	if (!take_base(node, job, &base))
		return false;
	pg_atomic_write_u32(&node->compaction.phase, COMPACT_COMMIT);
	p = make_member(node, job, result, base, epoch);
	member = dsa_get_address(node_dsa(node), p);
	node_push(node, &node->submissions, p);
	node_wake(node->committer_procno);
	wait_decided(node, p);
	outcome = (Outcome) member->outcome;
	strlcpy(detail, member->detail, sizeof(detail));
	let_go(node, p);
	switch (outcome)
	{
		case OUTCOME_COMMITTED:
			compact_keep();
			return true;
		case OUTCOME_CONFLICT:
			return false;
		case OUTCOME_FENCED:
			compact_keep(); /* they are the collector's */
			/* fall through */
		default:
			ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("the edit was given up: %s", detail)));
	}
	return false;
}
