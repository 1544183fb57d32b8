/*
 * sequence.c: sequences that travel: a server that attaches continues after every number that was handed out with a commit.
 *
 * The repository holds a position for each sequence that is ahead of what its owner has drawn; the owner is the epoch that drew
 * last.  At PRE_COMMIT the sequence's page is held against that position, and a new one goes with the transaction only when the
 * page has passed it, or was moved by setval or RESTART.  README.md says why no number comes twice.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_sequence.h"
#include "commands/extension.h"
#include "commands/sequence.h"
#include "common/int.h"
#include "lib/dshash.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "ddl/capture.h"
#include "ddl/ddl.h"
#include "ddl/local.h"
#include "ddl/sequence.h"
#include "node/node.h"
#include "s3am.h"
#include "txn/commit.h"

S3AM_FUNCTION(s3am_sequence_last_value);

#define AHEAD_MIN 32 /* increments that a position is ahead of the page */
#define AHEAD_MAX 1024
#define AHEAD_GROWS_MS 10000 /* ... twice as many if the last position was used up within this time */

#define SETTLE_MS 100 /* between tries to have rows and pages follow that were locked */

/* Columns of s3am.sequences. */
#define Natts_sequences 8
#define Anum_sequences_relid 1
#define Anum_sequences_id 2
#define Anum_sequences_epoch 3
#define Anum_sequences_last_value 4
#define Anum_sequences_is_called 5
#define Anum_sequences_generation 6
#define Anum_sequences_descending 7
#define Anum_sequences_version 8

/* What this server knows of a sequence; in the node's memory, by id. */
typedef struct SequenceEntry
{
	uint64 id; /* key */
	/* the last position applied */
	uint64 epoch; /* its owner; 0: none was ever drawn */
	int64 last_value;
	bool is_called;
	uint64 generation;
	bool descending;
	uint64 version;
	TimestampTz applied_at; /* and the page moved, if another server drew */
	bool unsettled; /* the row, or the page, has not followed yet: somebody held a lock on it */
	bool move, adopted; /* ... the page as well; as sequence_apply() has it */
	uint64 restored_for; /* the page was put to the position after this owner had ended */
	/* this server's own drawing; for the epoch that it is valid for */
	uint64 drawn_epoch;
	uint64 next_generation; /* highest one given to a transaction */
	int64 last_seen; /* on the page */
	int64 log_end; /* value at which core logs again, and its count reaches zero by itself */
	uint32 ahead;
	TimestampTz published_at;
} SequenceEntry;

typedef struct Known
{
	Oid relid;
	uint64 id;
	bool cached; /* a session takes several numbers at a time */
} Known;

static Known *known; /* all sequences that travel */
static int nknown;
static bool known_valid;
static MemoryContext known_cxt;
static Oid map_relid;
static dshash_table *entries;
static dsa_area *entries_area;
static dsa_pointer entries_handle;
static bool caches_doubtful; /* the session may have numbers that it has drawn in vain */
static bool caches_forgotten; /* this transaction, which fails, has none */
static bool unsettled_any = true; /* the publisher: perhaps, from an earlier process of it */

/* ------------------------------------------------------------------------------------ the local table */

static Oid
map_oid(const char *name)
{
	Oid schema = get_namespace_oid("s3am", true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

static Relation
open_map(LOCKMODE mode)
{
	Oid relid = map_oid("sequences");

	return OidIsValid(relid) ? table_open(relid, mode) : NULL;
}

/* The row of a sequence: by relation, or (relid invalid) by id.  A copy. */
static HeapTuple
find_row(Relation map, Oid relid, uint64 id)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	if (OidIsValid(relid))
		ScanKeyInit(&key, Anum_sequences_relid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	else
		ScanKeyInit(&key, Anum_sequences_id, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum((int64) id));
	scan = systable_beginscan(map, map_oid(OidIsValid(relid) ? "sequences_pkey" : "sequences_id_key"), true,
							  SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (tuple)
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

static int64
row_int(Relation map, HeapTuple tuple, int column)
{
	bool isnull;
	Datum value = heap_getattr(tuple, column, RelationGetDescr(map), &isnull);

	return DatumGetInt64(value);
}

uint64
sequence_add(Oid relid, uint64 id)
{
	Relation map = open_map(RowExclusiveLock);
	Datum values[Natts_sequences] = {0};
	bool nulls[Natts_sequences] = {false};
	HeapTuple tuple;

	if (map == NULL)
		elog(ERROR, "table s3am.sequences does not exist");
	tuple = find_row(map, relid, 0);
	if (tuple)
	{
		id = row_int(map, tuple, Anum_sequences_id);
		table_close(map, NoLock);
		return id;
	}
	if (id == 0)
		id = commit_new_object_id();
	values[Anum_sequences_relid - 1] = ObjectIdGetDatum(relid);
	values[Anum_sequences_id - 1] = Int64GetDatum((int64) id);
	tuple = heap_form_tuple(RelationGetDescr(map), values, nulls);
	CatalogTupleInsert(map, tuple);
	heap_freetuple(tuple);
	/* tells the other sessions that there is one more, before they can draw from it */
	CacheInvalidateRelcache(map);
	known_valid = false;
	table_close(map, NoLock);
	CommandCounterIncrement();
	return id;
}

void
sequence_dropped(Oid relid)
{
	Relation map;
	HeapTuple tuple;
	bool gone = false;

	if (get_rel_relkind(relid) != RELKIND_SEQUENCE || (map = open_map(RowExclusiveLock)) == NULL)
		return;

	/* the publisher may be noting the last position just now: then there is a newer row */
	while (!gone && (tuple = find_row(map, relid, 0)) != NULL)
	{
		TM_FailureData failure;
		TM_Result result =
			heap_delete(map, &tuple->t_self, GetCurrentCommandId(true), InvalidSnapshot, true, &failure, false);

		if (result != TM_Ok && result != TM_Updated && result != TM_Deleted && result != TM_SelfModified)
			elog(ERROR, "cannot delete the row of sequence %u: %d", relid, (int) result);
		gone = result != TM_Updated;
		CacheInvalidateRelcache(map);
		known_valid = false;
	}
	table_close(map, NoLock);
}

void
sequence_table_travels(Oid table, S3am__DdlStatement *m)
{
	List *owned = getOwnedSequences(table);
	ListCell *lc;

	m->sequences = palloc0(sizeof(void *) * Max(list_length(owned), 1));
	foreach (lc, owned)
	{
		S3am__SequenceMade *made = palloc(sizeof(*made));

		s3am__sequence_made__init(made);
		made->name = qualified_name(lfirst_oid(lc));
		made->id = sequence_add(lfirst_oid(lc), 0);
		m->sequences[m->n_sequences++] = made;
		/* as if it had just drawn, so that its position travels with this transaction */
		LockRelationOid(lfirst_oid(lc), RowExclusiveLock);
	}
}

/* ------------------------------------------------------------------------------------ which there are */

static void
forget_known(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == map_relid)
		known_valid = false;
}

static void
forget_known_sequence(Datum arg, int cache, uint32 hash)
{
	known_valid = false;
}

void
sequence_init(void)
{
	CacheRegisterRelcacheCallback(forget_known, (Datum) 0);
	CacheRegisterSyscacheCallback(SEQRELID, forget_known_sequence, (Datum) 0);
}

static bool
is_cached(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(relid));
	bool result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_sequence) GETSTRUCT(tuple))->seqcache > 1;
	ReleaseSysCache(tuple);
	return result;
}

static void
read_known(void)
{
	Relation map;
	SysScanDesc scan;
	HeapTuple tuple;
	int capacity = 0;

	/* a change that arrives from here on makes it invalid again */
	known_valid = true;
	if (known_cxt == NULL)
		known_cxt = AllocSetContextCreate(TopMemoryContext, "s3am sequences", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(known_cxt);
	known = NULL;
	nknown = 0;
	map_relid = map_oid("sequences");
	if (!OidIsValid(map_relid) || (map = open_map(AccessShareLock)) == NULL)
		return;
	scan = systable_beginscan(map, InvalidOid, false, SnapshotSelf, 0, NULL);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool isnull;

		if (nknown == capacity)
		{
			capacity = capacity ? capacity * 2 : 32;
			known = known ? repalloc(known, capacity * sizeof(Known))
						  : MemoryContextAlloc(known_cxt, capacity * sizeof(Known));
		}
		known[nknown].relid =
			DatumGetObjectId(heap_getattr(tuple, Anum_sequences_relid, RelationGetDescr(map), &isnull));
		known[nknown].cached = is_cached(known[nknown].relid);
		known[nknown++].id = row_int(map, tuple, Anum_sequences_id);
	}
	systable_endscan(scan);
	table_close(map, AccessShareLock);
}

/* ------------------------------------------------------------------------------------ shared entries */

static dshash_table *
shared_entries(S3Node *node)
{
	dsa_area *area = node_dsa(node);
	dshash_parameters parameters = {sizeof(uint64), sizeof(SequenceEntry), dshash_memcmp, dshash_memhash, 0};
	MemoryContext old;

	if (entries && entries_area == area && entries_handle == node->sequences)
		return entries;
	parameters.tranche_id = node_tranche();
	old = MemoryContextSwitchTo(TopMemoryContext);
	if (node->sequences == InvalidDsaPointer)
	{
		/* the publisher, before anything is served */
		entries = dshash_create(area, &parameters, NULL);
		node->sequences = dshash_get_hash_table_handle(entries);
	}
	else
		entries = dshash_attach(area, &parameters, node->sequences, NULL);
	entries_area = area;
	entries_handle = node->sequences;
	MemoryContextSwitchTo(old);
	return entries;
}

static SequenceEntry *
lock_entry(S3Node *node, uint64 id)
{
	bool found;
	SequenceEntry *entry = dshash_find_or_insert(shared_entries(node), &id, &found);

	if (!found)
	{
		memset((char *) entry + sizeof(uint64), 0, sizeof(SequenceEntry) - sizeof(uint64));
		entry->ahead = AHEAD_MIN;
	}
	return entry;
}

/* ------------------------------------------------------------------------------------ pages */

static HeapTupleHeader
page_tuple(Buffer buffer, uint32 *len)
{
	Page page = BufferGetPage(buffer);
	ItemId item = PageGetItemId(page, FirstOffsetNumber);

	*len = ItemIdGetLength(item);
	return (HeapTupleHeader) PageGetItem(page, item);
}

static Form_pg_sequence_data
page_data(Buffer buffer)
{
	uint32 len;
	HeapTupleHeader tuple = page_tuple(buffer, &len);

	return (Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff);
}

static FormData_pg_sequence_data
read_page(Relation rel)
{
	Buffer buffer = ReadBuffer(rel, 0);
	FormData_pg_sequence_data data;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	data = *page_data(buffer);
	UnlockReleaseBuffer(buffer);
	return data;
}

/*
 * As setval(), but without its privileges and without touching the session's currval.  The sequence is locked, and unlocked here.
 */
static void
write_page(Oid relid, int64 last_value, bool is_called)
{
	Relation rel = try_relation_open(relid, NoLock);
	Buffer buffer;
	Form_pg_sequence_data data;
	HeapTupleHeader tuple;
	uint32 len;

	if (rel == NULL)
	{
		UnlockRelationOid(relid, AccessShareLock);
		return;
	}
	buffer = ReadBuffer(rel, 0);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	data = page_data(buffer);
	if (data->last_value == last_value && data->is_called == is_called)
	{
		UnlockReleaseBuffer(buffer);
		relation_close(rel, AccessShareLock);
		return;
	}
	tuple = page_tuple(buffer, &len);
	if (RelationNeedsWAL(rel))
		(void) GetTopTransactionId();
	START_CRIT_SECTION();
	data->last_value = last_value;
	data->is_called = is_called;
	data->log_cnt = 0;
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(rel))
	{
		xl_seq_rec record;
		XLogRecPtr lsn;

		record.node = rel->rd_node;
		XLogBeginInsert();
		XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT);
		XLogRegisterData((char *) &record, sizeof(record));
		XLogRegisterData((char *) tuple, len);
		lsn = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
		PageSetLSN(BufferGetPage(buffer), lsn);
	}
	END_CRIT_SECTION();
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
}

/*
 * s3am.sequence_last_value(regclass): stands in for pg_sequence_last_value(), which the view pg_sequences calls.  That one locks the
 * sequence as nextval does, so whoever looked would be taken for one that draws, and be refused on a server that may not.
 */
Datum
s3am_sequence_last_value(PG_FUNCTION_ARGS)
{
	Oid relid = PG_GETARG_OID(0);
	AclResult allowed = pg_proc_aclcheck(F_PG_SEQUENCE_LAST_VALUE, GetUserId(), ACL_EXECUTE);
	Relation rel;
	FormData_pg_sequence_data page;

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, "pg_sequence_last_value");
	if (get_rel_relkind(relid) != RELKIND_SEQUENCE)
		return pg_sequence_last_value(fcinfo); /* which says so */
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT | ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for sequence %s", get_rel_name(relid))));
	rel = relation_open(relid, AccessShareLock);
	page = read_page(rel);
	relation_close(rel, AccessShareLock);
	if (!page.is_called)
		PG_RETURN_NULL();
	PG_RETURN_INT64(page.last_value);
}

/* ------------------------------------------------------------------------------------ drawing */

static bool
drew(Oid relid)
{
	LOCKTAG tag;

	/* nextval, setval and RESTART keep this lock until the transaction ends */
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	return LockHeldByMe(&tag, RowExclusiveLock);
}

bool
sequence_pending(S3Node *node)
{
	AcceptInvalidationMessages();
	if (!known_valid)
		read_known();
	for (int i = 0; i < nknown; i++)
		if (drew(known[i].relid))
			return true;
	return false;
}

/*
 * Numbers that a session has taken ahead (CACHE) are its own once its transaction has committed, since the position is beyond them then.  After
 * one that did not they may become another server's.
 */
void
sequence_aborted(void)
{
	if (caches_doubtful)
		return;
	if (caches_forgotten)
	{
		caches_forgotten = false;
		return;
	}
	/* the transaction has its locks still, but may read nothing any more */
	caches_doubtful = !known_valid;
	for (int i = 0; i < nknown && !caches_doubtful; i++)
		caches_doubtful = known[i].cached && drew(known[i].relid);
}

static bool
forget_caches(void)
{
	bool any = false;

	caches_doubtful = false;
	if (!known_valid)
		read_known();
	for (int i = 0; i < nknown && !any; i++)
		any = known[i].cached;
	if (any)
		ResetSequenceCaches();
	return any;
}

static void
refuse_caches(void)
{
	caches_forgotten = true;
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access due to an earlier transaction that was rolled back"),
					errdetail("This session had taken numbers of a sequence ahead in it."),
					errhint("The transaction might succeed if retried.")));
}

void
sequence_statement(void)
{
	if (caches_doubtful)
		(void) forget_caches();
}

static void
refuse_owner(Oid relid, uint64 owner)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("sequence \"%s\" is in use by another server", get_rel_name(relid)),
					errdetail("The server of epoch " UINT64_FORMAT " draws from it.", owner),
					errhint("Draw there; any server can once that one was shut down or has been fenced.")));
}

/* The page is to be put back to the position, as soon as the publisher comes to it.  With the entry's lock held. */
static void
put_back(S3Node *node, SequenceEntry *entry)
{
	entry->unsettled = entry->move = true;
	pg_atomic_write_u32(&node->sequences_moved, 1);
	node_wake(node->publisher_procno);
}

/* Is the page at the position, or has it gone on from there, as draws let it? */
static bool
at_or_beyond(const SequenceEntry *entry, const FormData_pg_sequence_data *page, bool descending)
{
	if (page->last_value == entry->last_value)
		return page->is_called || !entry->is_called;
	return descending ? page->last_value < entry->last_value : page->last_value > entry->last_value;
}

/* Is there something to say about a sequence from which this transaction drew?  Then it is put into *position. */
static bool
position_of(S3Node *node, const Known *k, S3am__SequencePosition *position)
{
	HeapTuple tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(k->relid));
	Form_pg_sequence form;
	Relation rel;
	int64 increment, limit;
	FormData_pg_sequence_data page;
	SequenceEntry *entry;
	uint64 epoch = pg_atomic_read_u64(&node->epoch);
	uint64 owner;
	bool mine, exact, back, passed, astray;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_sequence) GETSTRUCT(tuple);
	increment = form->seqincrement;
	limit = increment > 0 ? form->seqmax : form->seqmin;
	ReleaseSysCache(tuple);
	rel = relation_open(k->relid, NoLock);

	/* the entry's lock makes reading the page and giving a generation one step */
	entry = lock_entry(node, k->id);
	owner = entry->epoch;
	if (owner != 0 && owner != epoch && node_epoch_live(node, owner))
	{
		put_back(node, entry);
		dshash_release_lock(entries, entry);
		refuse_owner(k->relid, owner);
	}
	page = read_page(rel);
	/*
	 * What setval did while the owner lived is on the page, also if it was refused or rolled back; numbers after it may be the owner's.  So
	 * of a page that was moved elsewhere nothing counts; but RESTART has made a new one, in this transaction.
	 */
	astray = owner != 0 && owner != epoch && owner != pg_atomic_read_u64(&node->former_epoch) &&
			 entry->restored_for != owner && rel->rd_newRelfilenodeSubid == InvalidSubTransactionId &&
			 !at_or_beyond(entry, &page, increment < 0);
	if (astray)
		put_back(node, entry);
	/* what was drawn before the page was moved may have been drawn there as well */
	if (owner != epoch && (entry->unsettled || entry->applied_at > GetCurrentTransactionStartTimestamp()))
	{
		dshash_release_lock(entries, entry);
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not serialize access due to a concurrent commit on another server"),
						errdetail("Sequence \"%s\" was drawn from there.", get_rel_name(k->relid)),
						errhint("The transaction might succeed if retried.")));
	}
	if (entry->drawn_epoch != epoch)
	{
		entry->drawn_epoch = epoch;
		entry->next_generation = entry->generation;
		entry->last_seen = increment > 0 ? PG_INT64_MIN : PG_INT64_MAX;
		entry->log_end = 0;
	}
	relation_close(rel, NoLock);
	mine = owner == epoch && entry->generation == entry->next_generation;
	/* core counts down to its next log record; a count of zero before its time is setval or RESTART */
	exact = page.log_cnt == 0 && page.last_value != entry->log_end;
	if (mine && exact && page.last_value == entry->last_value && page.is_called == entry->is_called)
		exact = false;
	back = increment > 0 ? page.last_value < entry->last_seen : page.last_value > entry->last_seen;
	passed = increment > 0 ? page.last_value > entry->last_value : page.last_value < entry->last_value;
	entry->last_seen = page.last_value;
	entry->log_end = page.last_value + page.log_cnt * increment;
	if (mine && !exact && !back && !passed)
	{
		dshash_release_lock(entries, entry);
		return false;
	}
	if (exact || back)
		entry->next_generation++;
	s3am__sequence_position__init(position);
	position->sequence = k->id;
	position->generation = entry->next_generation;
	position->descending = increment < 0;
	position->last_value = page.last_value;
	position->is_called = page.is_called;
	if (!exact)
	{
		TimestampTz now = GetCurrentTimestamp();
		int64 reserved;

		if (entry->published_at && !TimestampDifferenceExceeds(entry->published_at, now, AHEAD_GROWS_MS))
			entry->ahead = Min(entry->ahead * 2, AHEAD_MAX);
		else
			entry->ahead = AHEAD_MIN;
		entry->published_at = now;
		if (pg_mul_s64_overflow(increment, entry->ahead, &reserved) ||
			pg_add_s64_overflow(page.last_value, reserved, &reserved) ||
			(increment > 0 ? reserved > limit : reserved < limit))
			reserved = limit;
		position->last_value = reserved;
		position->is_called = true;
	}
	dshash_release_lock(entries, entry);
	return true;
}

static bool
drew_from_cache(void)
{
	for (int i = 0; i < nknown; i++)
		if (known[i].cached && drew(known[i].relid))
			return true;
	return false;
}

void
sequence_collect(S3Node *node, S3am__Txn *txn)
{
	if (!known_valid)
		read_known();
	/* drawn by what is no plan (COPY, a function call of the protocol) before the caches were forgotten */
	if (caches_doubtful && drew_from_cache() && forget_caches())
		refuse_caches();
	txn->sequences = palloc(sizeof(void *) * Max(nknown, 1));
	for (int i = 0; i < nknown; i++)
	{
		S3am__SequencePosition position;

		if (!drew(known[i].relid) || !position_of(node, &known[i], &position))
			continue;
		txn->sequences[txn->n_sequences] = palloc(sizeof(position));
		*txn->sequences[txn->n_sequences++] = position;
	}
}

/* ------------------------------------------------------------------------------------ applying */

static bool
supersedes(const S3am__SequencePosition *p, uint64 epoch, const SequenceEntry *entry)
{
	if (epoch != entry->epoch)
		return true; /* a new owner: validation saw to it that the old one is fenced */
	if (p->generation != entry->generation)
		return p->generation > entry->generation;
	return p->descending ? p->last_value < entry->last_value : p->last_value > entry->last_value;
}

static bool
page_behind(Oid relid, const SequenceEntry *to)
{
	Relation rel = try_relation_open(relid, NoLock);
	FormData_pg_sequence_data page;

	if (rel == NULL)
		return false;
	page = read_page(rel);
	relation_close(rel, NoLock);
	return to->descending ? page.last_value > to->last_value : page.last_value < to->last_value;
}

/*
 * Moves the page if need be, and has the row of a sequence say what its entry says.  False: somebody holds a lock on one of them.
 * It is never waited for: its holder may wait for a version behind the one that is being applied, where no deadlock detector
 * sees it (rule 27).
 */
static bool
settle(Relation map, const SequenceEntry *entry)
{
	HeapTuple tuple = find_row(map, InvalidOid, entry->id);
	Datum values[Natts_sequences] = {0};
	bool nulls[Natts_sequences] = {false};
	bool replaces[Natts_sequences] = {false, false, true, true, true, true, true, true};
	bool isnull;
	HeapTupleData locked;
	Buffer buffer;
	TM_FailureData failure;
	TM_Result result;
	Oid relid;

	/* after a start the row may know more than what is being read again; one that is gone was dropped */
	if (tuple == NULL || row_int(map, tuple, Anum_sequences_version) > (int64) entry->version)
		return true;
	relid = DatumGetObjectId(heap_getattr(tuple, Anum_sequences_relid, RelationGetDescr(map), &isnull));
	if (entry->move || entry->adopted)
	{
		if (!ConditionalLockRelationOid(relid, AccessShareLock))
			return false;
		/* what this server draws next is beyond what the other one may have drawn */
		if (entry->move || page_behind(relid, entry))
			write_page(relid, entry->last_value, entry->is_called);
		else
			UnlockRelationOid(relid, AccessShareLock);
	}
	locked.t_self = tuple->t_self;
	result = heap_lock_tuple(map, &locked, GetCurrentCommandId(true), LockTupleNoKeyExclusive, LockWaitSkip, false,
							 &buffer, &failure);
	ReleaseBuffer(buffer);
	if (result == TM_Deleted)
		return true;
	if (result != TM_Ok)
		return false;
	values[Anum_sequences_epoch - 1] = Int64GetDatum((int64) entry->epoch);
	values[Anum_sequences_last_value - 1] = Int64GetDatum(entry->last_value);
	values[Anum_sequences_is_called - 1] = BoolGetDatum(entry->is_called);
	values[Anum_sequences_generation - 1] = Int64GetDatum((int64) entry->generation);
	values[Anum_sequences_descending - 1] = BoolGetDatum(entry->descending);
	values[Anum_sequences_version - 1] = Int64GetDatum((int64) entry->version);
	CatalogTupleUpdate(map, &tuple->t_self, heap_modify_tuple(tuple, RelationGetDescr(map), values, nulls, replaces));
	return true;
}

/* Has a sequence's owner ended?  For settled(), from before settle(). */
static bool
owner_ended(S3Node *node, const SequenceEntry *copy)
{
	return pg_atomic_read_u32(&node->phase) == NODE_READY && copy->epoch != 0 && !node_epoch_live(node, copy->epoch);
}

static void
settled(S3Node *node, const SequenceEntry *copy, bool ended)
{
	SequenceEntry *entry = lock_entry(node, copy->id);

	if (ended && copy->move)
		entry->restored_for = copy->epoch;
	entry->unsettled = entry->move = entry->adopted = false;
	/* nobody could draw before the database was attached */
	entry->applied_at = pg_atomic_read_u32(&node->phase) == NODE_READY ? GetCurrentTimestamp() : 0;
	dshash_release_lock(entries, entry);
}

/* The entry follows at once; row and page do, or are left for later.  map NULL: somebody holds a lock on the whole of it. */
static void
apply_position(S3Node *node, Relation map, const S3am__SequencePosition *p, uint64 epoch, uint64 version, bool adopted)
{
	SequenceEntry *entry = lock_entry(node, p->sequence);
	SequenceEntry copy;
	bool ended;

	if (entry->version == 0 || supersedes(p, epoch, entry))
	{
		entry->epoch = epoch;
		entry->last_value = p->last_value;
		entry->is_called = p->is_called;
		entry->generation = p->generation;
		entry->descending = p->descending;
		entry->version = version;
		entry->unsettled = true;
		entry->move |= epoch != pg_atomic_read_u64(&node->epoch);
		entry->adopted |= adopted;
	}
	/* one version may hold several; and what an earlier try noted in the row may have been rolled back */
	copy = *entry;
	dshash_release_lock(entries, entry);
	if (copy.version != version)
		return;
	ended = owner_ended(node, &copy);
	if (map && settle(map, &copy))
		settled(node, &copy, ended);
	else
		unsettled_any = true;
}

/* False: it does not exist.  *map is NULL if somebody holds a lock on it. */
static bool
try_open_map(Relation *map)
{
	Oid relid = map_oid("sequences");

	*map = NULL;
	if (!OidIsValid(relid))
		return false;
	if (ConditionalLockRelationOid(relid, RowExclusiveLock))
		*map = table_open(relid, NoLock);
	return true;
}

void
sequence_apply(S3Node *node, const S3am__Txn *txn, uint64 version, bool adopted)
{
	Relation map;

	if (txn->n_sequences == 0 || !try_open_map(&map))
		return;
	for (size_t i = 0; i < txn->n_sequences; i++)
	{
		apply_position(node, map, txn->sequences[i], txn->id->epoch, version, adopted);
		CommandCounterIncrement();
	}
	if (map)
		table_close(map, NoLock);
}

void
sequence_restore(S3Node *node, const S3am__SequenceState *state)
{
	Relation map;

	if (state->position == NULL || !try_open_map(&map))
		return;
	apply_position(node, map, state->position, state->epoch, state->version, false);
	CommandCounterIncrement();
	if (map)
		table_close(map, NoLock);
}

/* Copies of the entries whose rows or pages have not followed. */
static List *
unsettled_entries(S3Node *node)
{
	List *result = NIL;
	dshash_seq_status status;
	SequenceEntry *entry;

	dshash_seq_init(&status, shared_entries(node), false);
	while ((entry = dshash_seq_next(&status)) != NULL)
		if (entry->unsettled)
		{
			SequenceEntry *copy = palloc(sizeof(*copy));

			*copy = *entry;
			result = lappend(result, copy);
		}
	dshash_seq_term(&status);
	return result;
}

bool
sequence_settle(S3Node *node)
{
	static TimestampTz tried;
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext old = CurrentMemoryContext;
	Relation map;

	if (pg_atomic_exchange_u32(&node->sequences_moved, 0))
		unsettled_any = true;
	if (!unsettled_any || !DsaPointerIsValid(node->sequences) || !TimestampDifferenceExceeds(tried, now, SETTLE_MS))
		return unsettled_any;
	tried = now;
	unsettled_any = false;
	StartTransactionCommand();
	if (try_open_map(&map) && map == NULL)
		unsettled_any = true;
	else if (map)
	{
		List *waiting = unsettled_entries(node);
		List *done = NIL, *done_ended = NIL;
		ListCell *lc;

		PushActiveSnapshot(GetTransactionSnapshot());
		foreach (lc, waiting)
		{
			bool ended = owner_ended(node, lfirst(lc));

			if (!settle(map, lfirst(lc)))
				unsettled_any = true;
			else if (ended)
				done_ended = lappend(done_ended, lfirst(lc));
			else
				done = lappend(done, lfirst(lc));
		}
		PopActiveSnapshot();
		table_close(map, NoLock);
		foreach (lc, done)
			settled(node, lfirst(lc), false);
		foreach (lc, done_ended)
			settled(node, lfirst(lc), true);
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	return unsettled_any;
}

void
sequence_adopt_all(S3Node *node)
{
	Relation map = open_map(AccessShareLock);
	SysScanDesc scan;
	HeapTuple tuple;

	(void) shared_entries(node);
	if (map == NULL)
		return;
	scan = systable_beginscan(map, InvalidOid, false, SnapshotSelf, 0, NULL);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool isnull;
		Oid relid = DatumGetObjectId(heap_getattr(tuple, Anum_sequences_relid, RelationGetDescr(map), &isnull));

		if (row_int(map, tuple, Anum_sequences_version) == 0)
			continue;
		LockRelationOid(relid, AccessShareLock);
		write_page(relid, row_int(map, tuple, Anum_sequences_last_value),
				   DatumGetBool(heap_getattr(tuple, Anum_sequences_is_called, RelationGetDescr(map), &isnull)));
	}
	systable_endscan(scan);
	table_close(map, AccessShareLock);
}
