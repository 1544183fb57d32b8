/*
 * commit.c: from PRE_COMMIT to the outcome.
 *
 * A transaction becomes one record, handed to the committer.  Until its outcome is known the backend waits, and can be
 * cancelled only while the record is still queued (rule 10).  Nothing is thrown once it is known to be committed.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relfilenodemap.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compact/compact.h"
#include "ddl/ddl.h"
#include "ddl/sequence.h"
#include "index/index.h"
#include "manifest/committer.h"
#include "manifest/s3am.pb-c.h"
#include "node/applied.h"
#include "node/bucket.h"
#include "s3am.h"
#include "txn/commit.h"
#include "txn/freshness.h"
#include "txn/own.h"
#include "txn/reads.h"
#include "txn/record.h"
#include "txn/rowlock.h"
#include "txn/txn.h"
#include "txn/used.h"

#define GIVE_BACK_MS                                                                                                   \
	1000 /* that a session that gives up waits for the committer, who knows whether anything was sent */

typedef struct StorageChange
{
	SubTransactionId sub;
	uint64 table, drop, create;
	bool same_rows;
} StorageChange;

typedef struct KeptOut
{
	SubTransactionId sub;
	uint64 storage, base;
} KeptOut;

typedef struct ClaimedTable
{
	SubTransactionId sub;
	uint64 table;
	bool shared;
} ClaimedTable;

static List *storage_changes;
static List *kept_out;
static List *claimed_tables;
static uint64 my_epoch, my_seq;
static bool used; /* this transaction looked at the node's state */
static bool asked_xid; /* the xid was assigned because core asked whose a row is */
static bool made_object; /* numbers of objects were given to this transaction */
static bool keep_objects; /* and are still needed when it has ended */
static bool interrupts_held;
static bool handed_over; /* the record may be committed: what it names must stay */

/* ------------------------------------------------------------------------------------ identity */

uint64
commit_new_object_id(void)
{
	S3Node *node = node_wait_ready();
	uint64 epoch = pg_atomic_read_u64(&node->epoch);
	NodeBackend *me = node_backend(MyProc->pgprocno);
	uint64 n;

	/* before the number is taken: else a collector might think that nobody has it any more */
	if (pg_atomic_read_u64(&me->first_object) == 0)
	{
		pg_atomic_write_u64(&me->first_object, pg_atomic_read_u64(&node->next_object) + 1);
		pg_memory_barrier();
	}
	made_object = true;
	n = pg_atomic_fetch_add_u64(&node->next_object, 1) + 1;
	if (epoch == 0)
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
						errmsg("this server may not write to repository \"%s\"", node->url)));
	return epoch << 32 | n;
}

void
commit_keep_objects(bool keep)
{
	keep_objects = keep;
	/* else they go with the transaction */
	if (!keep && !made_object)
		pg_atomic_write_u64(&node_backend(MyProc->pgprocno)->first_object, 0);
}

static void
epoch_ended(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the transaction is rolled back: this server's epoch in the repository has ended"),
			 detail && detail[0]
				 ? errdetail("%s", detail)
				 : errdetail("It gave no sign of life for s3am.node_timeout, another server took its place, or its "
							 "committer had to start again."),
			 errhint("s3am.node() says whether the server writes again; then the transaction may be retried.")));
}

static void
assign_commit_id(void)
{
	if (my_seq == 0)
	{
		S3Node *node = node_wait_ready();

		my_epoch = pg_atomic_read_u64(&node->epoch);
		if (my_epoch == 0)
			epoch_ended(NULL);
		my_seq = pg_atomic_fetch_add_u64(&node->next_seq, 1) + 1;
	}
}

uint64
txn_commit_epoch(void)
{
	assign_commit_id();
	return my_epoch;
}

uint64
txn_commit_seq(void)
{
	assign_commit_id();
	return my_seq;
}

TransactionId
txn_own_xid(void)
{
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		asked_xid = true;
	/* current in every subtransaction */
	return GetTopTransactionId();
}

uint32
txn_own_xmin(void)
{
	assign_commit_id();
	return txn_derive_xmin(my_epoch, my_seq);
}

uint32
txn_derive_xmin(uint64 epoch, uint64 seq)
{
	uint64 h = (epoch * UINT64CONST(0x9E3779B97F4A7C15)) ^ (seq * UINT64CONST(0xD6E8FEB86659FD93));
	uint32 xmin = (uint32) (h ^ (h >> 32)) & PG_INT32_MAX;

	return xmin < FirstNormalTransactionId ? xmin + FirstNormalTransactionId : xmin;
}

/* ------------------------------------------------------------------------------------ doom */

void
txn_begin_use(S3Node *node)
{
	if (!used)
		freshness_check();
	state_pin(node);
	if (!used)
	{
		NodeBackend *me = node_backend(MyProc->pgprocno);
		int proc;
		uint64 owner;

		used = true;
		if (IsParallelWorker())
			return;
		bucket_poll();
		rowlock_owner(&proc, &owner);
		pg_atomic_write_u32(&me->doomed, 0);
		pg_atomic_write_u64(&me->owner, owner);
	}
}

void
txn_check_doomed(void)
{
	NodeBackend *me = node_backend(MyProc->pgprocno);
	uint32 doomed = used ? pg_atomic_read_u32(&me->doomed) : DOOM_NONE;

	if (doomed == DOOM_ALL ||
		(doomed == DOOM_WRITES && (txn_writes() || rowlock_any() || storage_changes != NIL || ddl_pending())))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not serialize access due to a concurrent commit on another server"),
						errdetail("Version " UINT64_FORMAT " changed or locked a row that this transaction relies on.",
								  me->doomed_by),
						errhint("The transaction might succeed if retried.")));
	/* one that has not written yet is still as good as done before the change */
	if (used && IsolationIsSerializable() && txn_writes())
		txn_check_reads();
}

void
txn_fail_reads(uint64 version)
{
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access due to read/write dependencies among transactions"),
					errdetail("What this transaction has read was changed up to version " UINT64_FORMAT ".", version),
					errhint("The transaction might succeed if retried.")));
}

void
txn_check_reads(void)
{
	uint64 version = txn_reads_changed(node_wait_ready());

	if (version != 0)
		txn_fail_reads(version);
}

/* ------------------------------------------------------------------------------------ storage edits */

void
commit_storage_edit(uint64 table, uint64 drop, uint64 create)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	StorageChange *change = palloc(sizeof(StorageChange));

	change->sub = GetCurrentSubTransactionId();
	change->table = table;
	change->drop = drop;
	change->create = create;
	change->same_rows = false;
	storage_changes = lappend(storage_changes, change);
	MemoryContextSwitchTo(old);
}

void
commit_keeps_writers_out(uint64 storage, uint64 base)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	KeptOut *k = palloc(sizeof(KeptOut));

	*k = (KeptOut){GetCurrentSubTransactionId(), storage, base};
	kept_out = lappend(kept_out, k);
	MemoryContextSwitchTo(old);
}

void
commit_keeps_writers_out_from(uint64 storage, uint64 base)
{
	ListCell *lc;

	foreach (lc, kept_out)
		if (((KeptOut *) lfirst(lc))->storage == storage)
			((KeptOut *) lfirst(lc))->base = base;
}

void
commit_claims_table(uint64 table, bool shared)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	ClaimedTable *c = palloc(sizeof(ClaimedTable));

	*c = (ClaimedTable){GetCurrentSubTransactionId(), table, shared};
	claimed_tables = lappend(claimed_tables, c);
	MemoryContextSwitchTo(old);
}

/* To be called when the base of the commit is known. */
static void
check_kept_out(S3Node *node)
{
	ListCell *lc;

	if (kept_out != NIL)
		state_pin(node);
	foreach (lc, kept_out)
	{
		KeptOut *k = lfirst(lc);
		TableState *table = state_table(node, k->storage);
		uint64 pos = table ? pg_atomic_read_u64(&table->changed_elsewhere) : 0;

		if (pos > POS(k->base, POS_STEP_MAX))
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not serialize access due to a concurrent commit on another server"),
							errdetail("The table was written to while its definition was changed or its rows were "
									  "rewritten. By version " UINT64_FORMAT ".",
									  POS_VERSION(pos)),
							errhint("The transaction might succeed if retried.")));
	}
}

void
commit_storage_stays(uint64 storage)
{
	ListCell *lc;

	foreach (lc, storage_changes)
		if (((StorageChange *) lfirst(lc))->drop == storage && ((StorageChange *) lfirst(lc))->create == 0)
			storage_changes = foreach_delete_current (storage_changes, lc);
}

bool
commit_storage_is_new(uint64 storage)
{
	ListCell *lc;

	foreach (lc, storage_changes)
		if (((StorageChange *) lfirst(lc))->create == storage)
			return true;
	return false;
}

void
commit_storage_same_rows(uint64 storage)
{
	ListCell *lc;

	foreach (lc, storage_changes)
		if (((StorageChange *) lfirst(lc))->create == storage)
			((StorageChange *) lfirst(lc))->same_rows = true;
}

bool
commit_storage_is_replaced(uint64 table, uint64 storage)
{
	uint64 newest = 0;
	ListCell *lc;

	foreach (lc, storage_changes)
	{
		StorageChange *change = lfirst(lc);

		if (change->table == table && change->create)
			newest = change->create;
	}
	return newest != 0 && newest != storage;
}

bool
commit_has_storage_edits(void)
{
	return storage_changes != NIL;
}

static bool
storage_is_dropped(uint64 storage)
{
	ListCell *lc;

	foreach (lc, storage_changes)
		if (((StorageChange *) lfirst(lc))->drop == storage)
			return true;
	return false;
}

/* ------------------------------------------------------------------------------------ the record */

/* Edits of storages that matter to others: those made and dropped by this transaction cancel out. */
static void
add_storage_edits(S3am__Txn *txn)
{
	ListCell *lc;

	txn->storages = palloc0(sizeof(void *) * Max(list_length(storage_changes), 1));
	foreach (lc, storage_changes)
	{
		StorageChange *change = lfirst(lc);
		uint64 create = change->create && !storage_is_dropped(change->create) ? change->create : 0;
		uint64 drop = change->drop && !commit_storage_is_new(change->drop) ? change->drop : 0;
		S3am__StorageEdit *edit;

		if (create == 0 && drop == 0)
			continue;
		edit = palloc(sizeof(*edit));
		s3am__storage_edit__init(edit);
		edit->table = change->table;
		edit->create = create;
		edit->same_rows = create && change->same_rows;
		edit->drop = drop;
		txn->storages[txn->n_storages++] = edit;
	}
}

typedef struct LockCollector
{
	S3am__Txn *txn;
	int capacity;
	bool strong; /* any of mode NO KEY UPDATE or UPDATE */
} LockCollector;

static const S3am__Mode mode_of[] = {
	[LockTupleKeyShare] = S3AM__MODE__KEY_SHARE,
	[LockTupleShare] = S3AM__MODE__SHARE,
	[LockTupleNoKeyExclusive] = S3AM__MODE__NO_KEY_UPDATE,
	[LockTupleExclusive] = S3AM__MODE__UPDATE,
};

/* Those of indexes are hashes of keys, whose claims its entries make; there may be a million of them. */
static bool
locks_are_claims(uint64 storage)
{
	return own_index(storage) == NULL;
}

/* Row locks that edits do not imply. */
static void
collect_lock(void *arg, uint64 storage, LockTupleMode mode, uint64 base, const uint64 *rows, int nrows)
{
	LockCollector *c = arg;
	TxnTable *table = txn_table(storage);
	uint64 *left = palloc(sizeof(uint64) * nrows);
	int n = 0;
	OwnEnd end;
	S3am__RowClaim *claim;

	for (int i = 0; i < nrows; i++)
		if (!ROW_IS_OWN(rows[i]) && !txn_row_end(table, rows[i], &end))
			left[n++] = rows[i];
	if (n == 0 || storage_is_dropped(storage))
	{
		pfree(left);
		return;
	}
	if (c->txn->n_rows == c->capacity)
	{
		c->capacity = c->capacity ? c->capacity * 2 : 8;
		c->txn->rows =
			c->txn->rows ? repalloc(c->txn->rows, c->capacity * sizeof(void *)) : palloc(c->capacity * sizeof(void *));
	}
	claim = palloc(sizeof(*claim));
	s3am__row_claim__init(claim);
	claim->storage = storage;
	claim->mode = mode_of[mode];
	claim->rows = record_rows(left, n);
	c->txn->rows[c->txn->n_rows++] = claim;
	if (mode >= LockTupleNoKeyExclusive)
		c->strong = true;
	pfree(left);
}

/* Where the own rows of each table are in its edit. */
typedef struct TableFinals
{
	uint64 *storages;
	FinalRows **finals;
	int n;
} TableFinals;

static FinalRows *
finals_of(void *arg, uint64 table_storage)
{
	TableFinals *f = arg;

	for (int i = 0; i < f->n; i++)
		if (f->storages[i] == table_storage)
			return f->finals[i];
	return NULL;
}

/* The whole transaction as a record, in the current memory context; NULL: there is nothing to commit. */
static S3am__Txn *
build_record(S3Node *node)
{
	S3am__Txn *txn = palloc(sizeof(*txn));
	LockCollector locks = {txn, 0, false};
	ListCell *lc;
	int ntables = list_length(own_tables());
	size_t successor_runs = record_successor_runs();
	TableFinals finals = {palloc(sizeof(uint64) * Max(ntables, 1)), palloc(sizeof(void *) * Max(ntables, 1)), 0};
	bool reads = false;

	s3am__txn__init(txn);

	/*
	 * All up to the base has been held against our locks by the publisher (rule 22), so the base is read before they are
	 * collected: a lock that is moved to a successor meanwhile is validated again instead of being missed.  Before the bases of
	 * what was read, too: these know a version as whole only once it is published.
	 */
	txn->base_version = txn_base_for_commit(node);
	pg_memory_barrier();
	check_kept_out(node);
	add_storage_edits(txn);
	txn->tables = palloc0(sizeof(void *) * Max(ntables + own_index_count(), 1));
	txn->schemas = palloc0(sizeof(void *) * Max(ntables + txn->n_storages + list_length(claimed_tables), 1));
	txn->reads = palloc0(sizeof(void *) * (ntables + reads_count_claims() + 1));
	foreach (lc, own_tables())
	{
		TxnTable *table = lfirst(lc);
		S3am__TableEdit *edit;

		if (storage_is_dropped(table->storage))
		{
			for (int i = 0; i < table->rows.nsegments; i++)
				spill_drop(&table->rows.segments[i]);
			continue;
		}
		if ((table->read_all || table->read_added || table->read_rows) && IsolationIsSerializable())
		{
			S3am__ReadClaim *read = palloc(sizeof(*read));

			s3am__read_claim__init(read);
			read->storage = table->storage;
			read->all = table->read_all;
			read->added = table->read_added;
			if (!read->all && table->read_rows)
				read->rows = record_row_set(table->read_rows);
			read->base_version = txn_base_of_position(node, table->read_pos);
			txn->reads[txn->n_reads++] = read;
			reads = true;
		}
		if (!table->touched)
			continue;
		used_note_parents(RelidByRelfilenode(table->tablespace, table->relfilenode));
		edit = record_table_edit(table, &successor_runs, &finals.finals[finals.n]);
		finals.storages[finals.n++] = table->storage;
		if (edit)
			txn->tables[txn->n_tables++] = edit;
		if (!table->created)
		{
			S3am__SchemaClaim *claim = palloc(sizeof(*claim));

			s3am__schema_claim__init(claim);
			claim->table = table->table;
			claim->mode = S3AM__MODE__KEY_SHARE;
			txn->schemas[txn->n_schemas++] = claim;
		}
	}
	if (IsolationIsSerializable())
	{
		reads_record(node, txn);
		reads |= reads_any();
	}
	own_index_record(txn, finals_of, &finals, storage_is_dropped);
	for (size_t i = 0; i < txn->n_storages; i++)
		if (txn->storages[i]->table != txn->storages[i]->create)
		{
			S3am__SchemaClaim *claim = palloc(sizeof(*claim));

			s3am__schema_claim__init(claim);
			claim->table = txn->storages[i]->table;
			claim->mode = S3AM__MODE__UPDATE;
			txn->schemas[txn->n_schemas++] = claim;
		}
	foreach (lc, claimed_tables)
	{
		ClaimedTable *c = lfirst(lc);
		S3am__SchemaClaim *claim = palloc(sizeof(*claim));

		s3am__schema_claim__init(claim);
		claim->table = c->table;
		claim->mode = S3AM__MODE__UPDATE;
		claim->shared = c->shared;
		txn->schemas[txn->n_schemas++] = claim;
	}
	if (ddl_pending())
		ddl_collect(txn);
	rowlock_each(locks_are_claims, collect_lock, &locks);
	txn_check_doomed();
	sequence_collect(node, txn);
	if (txn->n_sequences == 0 && txn->n_tables == 0 && txn->n_storages == 0 && txn->n_ddl == 0 && !locks.strong)
	{
		/* weaker locks end with the transaction, and what definitions were relied on for is gone */
		txn->n_rows = txn->n_schemas = 0;
		if (!reads_are_current() && (!reads || freshness_reads_hold(node, txn)))
			return NULL;
		/* it leaves nothing: it is validated, and in no manifest; a server that only reads cannot tell exactly */
		if (pg_atomic_read_u64(&node->epoch) == 0)
			txn_fail_reads(POS_VERSION(state_current_pos(node)));
		return txn;
	}
	used_claim(txn);
	return txn;
}

/* ------------------------------------------------------------------------------------ handing over */

static void
throw_outcome(Member *member, bool reads)
{
	char *detail = pstrdup(member->detail);

	switch ((Outcome) member->outcome)
	{
		case OUTCOME_COMMITTED:
			return;
		case OUTCOME_CONFLICT:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 reads ? errmsg("could not serialize access due to read/write dependencies among transactions")
						   : errmsg("could not serialize access due to a concurrent commit on another server"),
					 detail[0] ? errdetail("%s", detail) : 0, errhint("The transaction might succeed if retried.")));
			break;
		case OUTCOME_ABORTED:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("the transaction was given up before it reached the repository"),
					 detail[0] ? errdetail("%s", detail) : 0, errhint("The transaction might succeed if retried.")));
			break;
		case OUTCOME_DENIED:
		case OUTCOME_FULL:
			ereport(ERROR,
					(errcode(member->outcome == OUTCOME_FULL ? ERRCODE_DISK_FULL : ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("the repository did not take the transaction"), errdetail("%s", detail),
					 errhint("Nothing was committed. Run the transaction again when the cause is mended.")));
			break;
		case OUTCOME_FENCED:
		case OUTCOME_RELEASED:
		case OUTCOME_TOO_OLD:
			epoch_ended(detail);
			break;
	}
}

static void
release_member(S3Node *node, dsa_pointer p)
{
	Member *member = dsa_get_address(node_dsa(node), p);

	if (pg_atomic_sub_fetch_u32(&member->refs, 1) == 0)
		dsa_free(node_dsa(node), p);
}

/* Nobody has seen it, and nobody will. */
static void
not_sent(S3Node *node, dsa_pointer p, bool late)
{
	handed_over = false;
	release_member(node, p);
	CHECK_FOR_INTERRUPTS();
	if (late)
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
						errmsg("the transaction could not reach the repository within s3am.commit_timeout"),
						errdetail("It was not sent and is rolled back.")));
	ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("canceling the commit due to user request")));
}

/* Waits for the outcome.  Leaves by error, or returns when committed. */
static void
wait_for_outcome(S3Node *node, dsa_pointer p, bool reads)
{
	Member *member = dsa_get_address(node_dsa(node), p);
	TimestampTz start = GetCurrentTimestamp(), asked = 0;
	bool late = false;

	while (pg_atomic_read_u32(&member->state) != MEMBER_DECIDED)
	{
		late = s3am_commit_timeout > 0 && TimestampDifferenceExceeds(start, GetCurrentTimestamp(), s3am_commit_timeout);
		if (late || QueryCancelPending || ProcDiePending)
		{
			uint32 queued = MEMBER_QUEUED, taken = MEMBER_TAKEN;

			if (pg_atomic_compare_exchange_u32(&member->state, &queued, MEMBER_WITHDRAWN))
				not_sent(node, p, late);
			/* the committer knows whether it has sent it */
			if (pg_atomic_compare_exchange_u32(&member->state, &taken, MEMBER_UNWANTED))
			{
				asked = GetCurrentTimestamp();
				pg_atomic_fetch_add_u32(&node->unwanted, 1);
				node_wake(node->committer_procno);
			}
			else if (taken == MEMBER_DECIDED)
				break;
		}
		if (ProcDiePending || (late && TimestampDifferenceExceeds(asked, GetCurrentTimestamp(), GIVE_BACK_MS)))
		{
			release_member(node, p);
			ereport(ERROR, (errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN),
							errmsg("the outcome of transaction " UINT64_FORMAT "." UINT64_FORMAT " is not known yet",
								   my_epoch, my_seq),
							errhint("SELECT s3am.commit_status('" UINT64_FORMAT "." UINT64_FORMAT "') will tell.",
									my_epoch, my_seq)));
		}
		node_doing(DOING_COMMIT);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1000, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	pg_read_barrier();
	if (member->given_back)
		not_sent(node, p, late);
	if (member->outcome != OUTCOME_COMMITTED)
	{
		/* a fenced server's segments are the collector's */
		handed_over = member->outcome == OUTCOME_FENCED;
		PG_TRY();
		{
			throw_outcome(member, reads);
		}
		PG_FINALLY();
		{
			release_member(node, p);
		}
		PG_END_TRY();
	}
	release_member(node, p);
	/* from here to the end of COMMIT nothing may interrupt (rule 10) */
	HOLD_INTERRUPTS();
	interrupts_held = true;
}

/* From sequences that travel? */
static bool
drew_numbers(void)
{
	return !ddl_is_internal() && !ddl_detaching() && IsTransactionState() && node_current() != NULL &&
		   node_current()->url[0] && !RecoveryInProgress() && sequence_pending(node_current());
}

/*
 * Core stops a statement's timeout before it commits.  Up to the hand-over this is work like any other, which may wait for the store, so it
 * is timed again.  False: it is not to be.
 */
static bool
time_again(void)
{
	if (MyBackendType != B_BACKEND || StatementTimeout <= 0 || get_timeout_active(STATEMENT_TIMEOUT))
		return false;
	enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
	return true;
}

/* One that has come is thrown now, or it would meet the session's next statement. */
static void
time_no_more(bool timed)
{
	if (!timed)
		return;
	disable_timeout(STATEMENT_TIMEOUT, true);
	CHECK_FOR_INTERRUPTS();
}

void
commit_transaction(void)
{
	S3am__Txn *txn;
	S3am__CommitId id = S3AM__COMMIT_ID__INIT;
	S3Node *node;
	MemoryContext cxt, old;
	dsa_pointer p;
	Member *member;
	NodeBackend *me;
	size_t len;
	int proc;
	bool reads, timed;

	if (own_tables() == NIL && storage_changes == NIL && !ddl_pending() && !rowlock_any() && !drew_numbers() &&
		!reads_any())
		return;
	timed = time_again();
	node = node_wait_ready();
	txn_check_doomed();
	if (own_tables() != NIL)
		compact_wait_for_room(node);
	PreCommit_CheckForSerializationFailure();

	cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am commit record", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	PushActiveSnapshot(GetTransactionSnapshot());
	txn = build_record(node);
	if (txn == NULL)
	{
		time_no_more(timed);
		PopActiveSnapshot();
		MemoryContextSwitchTo(old);
		MemoryContextDelete(cxt);
		return;
	}
	assign_commit_id();
	id.epoch = my_epoch;
	id.seq = my_seq;
	txn->id = &id;
	/* what was uploaded in an earlier epoch may be gone: nobody had to keep it (rule 13) */
	for (size_t i = 0; i < txn->n_tables; i++)
		for (size_t b = 0; b < txn->tables[i]->n_batches; b++)
			if (txn->tables[i]->batches[b]->segment && txn->tables[i]->batches[b]->segment->epoch != my_epoch)
				epoch_ended(NULL);
	if (txn->n_ddl || txn->n_storages)
		applied_record(my_epoch, my_seq);
	PopActiveSnapshot();

	/* an xid that only said whose a row is makes no step of its own */
	txn->own_step = !committer_only_validates(txn) && TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
					!(asked_xid && XLogRecPtrIsInvalid(XactLastRecEnd));
	txn->xmin = txn_derive_xmin(my_epoch, my_seq);
	txn->time_us = (GetCurrentTimestamp() + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);

	time_no_more(timed);
	reads = txn->n_reads > 0;
	len = s3am__txn__get_packed_size(txn);
	p = dsa_allocate_extended(node_dsa(node), offsetof(Member, record) + len, DSA_ALLOC_HUGE);
	member = dsa_get_address(node_dsa(node), p);
	memset(member, 0, offsetof(Member, record));
	pg_atomic_init_u32(&member->state, MEMBER_QUEUED);
	pg_atomic_init_u32(&member->refs, 2);
	member->procno = MyProc->pgprocno;
	rowlock_owner(&proc, &member->owner);
	member->epoch = my_epoch;
	member->seq = my_seq;
	member->first_object = pg_atomic_read_u64(&node_backend(MyProc->pgprocno)->first_object);
	member->xid = txn->own_step ? GetTopTransactionIdIfAny() : InvalidTransactionId;
	member->len = s3am__txn__pack(txn, member->record);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	spill_give_back();

	me = node_backend(MyProc->pgprocno);
	me->commit_member = member->xid != InvalidTransactionId ? p : InvalidDsaPointer;
	pg_write_barrier();
	pg_atomic_write_u64(&me->commit_seq, my_seq);
	handed_over = true;
	node_push(node, &node->submissions, p);
	node_wake(node->committer_procno);
	wait_for_outcome(node, p, reads);
}

void
commit_reset(void)
{
	if (MyProc)
	{
		NodeBackend *me = used || my_seq || made_object || keep_objects ? node_backend(MyProc->pgprocno) : NULL;

		if (me)
		{
			pg_atomic_write_u64(&me->commit_seq, 0);
			pg_atomic_write_u64(&me->owner, 0);
			pg_atomic_write_u64(&me->pin, 0);
			if (!keep_objects || proc_exit_inprogress)
				pg_atomic_write_u64(&me->first_object, 0);
		}
	}
	used = made_object = false;
	asked_xid = false;
	my_epoch = my_seq = 0;
	storage_changes = NIL;
	kept_out = NIL;
	claimed_tables = NIL;
	interrupts_held = false;
	own_reset();
	reads_reset();
	own_index_reset();
	storage_reset();
	spill_reset(handed_over);
	handed_over = false;
	used_reset();
}

/* ------------------------------------------------------------------------------------ callbacks */

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			commit_transaction();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (own_tables() != NIL || storage_changes != NIL || ddl_pending() || rowlock_any() || drew_numbers())
				ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
								errmsg("cannot PREPARE a transaction that has written to s3am tables")));
			break;
		case XACT_EVENT_COMMIT:
			if (interrupts_held && InterruptHoldoffCount > 0)
				RESUME_INTERRUPTS();
			commit_reset();
			break;
		case XACT_EVENT_ABORT:
			sequence_aborted();
			commit_reset();
			break;
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			commit_reset();
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId my, SubTransactionId parent, void *arg)
{
	ListCell *lc;

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		own_subabort(my);
		own_index_subabort(my);
		reads_subabort(my);
		foreach (lc, storage_changes)
			if (((StorageChange *) lfirst(lc))->sub >= my)
				storage_changes = foreach_delete_current (storage_changes, lc);
		foreach (lc, kept_out)
			if (((KeptOut *) lfirst(lc))->sub >= my)
				kept_out = foreach_delete_current (kept_out, lc);
		foreach (lc, claimed_tables)
			if (((ClaimedTable *) lfirst(lc))->sub >= my)
				claimed_tables = foreach_delete_current (claimed_tables, lc);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		own_subcommit(my, parent);
		own_index_subcommit(my, parent);
		reads_subcommit(my, parent);
		foreach (lc, storage_changes)
			if (((StorageChange *) lfirst(lc))->sub >= my)
				((StorageChange *) lfirst(lc))->sub = parent;
		foreach (lc, kept_out)
			if (((KeptOut *) lfirst(lc))->sub >= my)
				((KeptOut *) lfirst(lc))->sub = parent;
		foreach (lc, claimed_tables)
			if (((ClaimedTable *) lfirst(lc))->sub >= my)
				((ClaimedTable *) lfirst(lc))->sub = parent;
	}
}

void
txn_init(void)
{
	own_init();
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
