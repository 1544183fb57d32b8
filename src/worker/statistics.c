/*
 * statistics.c: other servers' changes, told to this server's statistics, so that pg_stat_user_tables and autoanalyze work as if
 * they had been made here.
 *
 * Sessions count what they do themselves, as with heap.  What others did is summed up by storage while versions are applied, and
 * told once a second: then storages are looked up, which costs a scan of s3am.storage.
 */
#include "postgres.h"

#include <roaring/roaring.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/pgstat_internal.h"
#include "utils/relfilenodemap.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "manifest/successors.h"
#include "node/state.h"
#include "txn/txn.h"
#include "worker/statistics.h"

#define TELL_MS 1000

typedef struct Changes
{
	uint64 storage; /* key */
	uint64 inserted, updated, deleted;
	bool first; /* live and dead are all that there is: a table that this server has never counted */
	int64 live, dead;
} Changes;

static HTAB *changes;
static TimestampTz told;

static Changes *
changes_of(uint64 storage)
{
	bool found;
	Changes *c;

	if (changes == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(Changes), .hcxt = TopMemoryContext};

		changes = hash_create("s3am statistics", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	c = hash_search(changes, &storage, HASH_ENTER, &found);
	if (!found)
	{
		memset(c, 0, sizeof(*c));
		c->storage = storage;
	}
	return c;
}

static uint64
cardinality(const S3am__RowSet *set)
{
	uint64 n = 0;

	for (size_t i = 0; set && i < set->n_parts; i++)
	{
		roaring_bitmap_t *bitmap = roaring_bitmap_portable_deserialize_safe((const char *) set->parts[i]->bitmap.data,
																			set->parts[i]->bitmap.len);

		if (bitmap == NULL)
			continue; /* applying it complains */
		n += roaring_bitmap_get_cardinality(bitmap);
		roaring_bitmap_free(bitmap);
	}
	return n;
}

void
statistics_note(const S3am__Txn *txn)
{
	if (!pgstat_track_counts)
		return;
	for (size_t i = 0; i < txn->n_tables; i++)
	{
		const S3am__TableEdit *edit = txn->tables[i];
		uint64 added = 0, ended, updated = 0, dead;
		Successors successors = {edit, 0, 0};
		Changes *c;

		if (edit->n_drop_batches || edit->rows_of)
			continue; /* merged: nothing has changed; or an index */
		for (size_t b = 0; b < edit->n_batches; b++)
			added += edit->batches[b]->nrows;
		ended = cardinality(edit->removed) + cardinality(edit->replaced);
		for (uint64 row = 0; row < ended; row++)
			updated += successors_next(&successors) >= 2;
		dead = cardinality(edit->dead);
		c = changes_of(edit->storage);
		c->inserted += added - Min(updated, added);
		c->updated += updated;
		c->deleted += ended - updated + dead;
		c->live += (int64) added - (int64) ended - (int64) dead;
		c->dead += ended + dead;
	}
}

static void
note_table(void *arg, TableState *table)
{
	uint64 rows = pg_atomic_read_u64(&table->next_row), ended = pg_atomic_read_u64(&table->deleted);
	Changes *c;

	if (table->dropped)
		return;
	c = changes_of(table->storage);
	c->first = true;
	/* row ids have no gaps but those of rows that have ended */
	c->live = rows - Min(ended, rows);
	c->dead = 0;
}

void
statistics_attached(S3Node *node)
{
	if (pgstat_track_counts)
		state_each(node, note_table, node);
}

static void
tell(void *arg, Oid relfilenode, uint64 storage)
{
	Changes *c = hash_search(changes, &storage, HASH_FIND, NULL);
	Oid relid;
	PgStat_EntryRef *ref;
	PgStat_TableCounts *counts;

	if (c == NULL)
		return;
	relid = RelidByRelfilenode(InvalidOid, relfilenode);
	/* one that was counted before this server was restarted knows better */
	if (!OidIsValid(relid) || (c->first && pgstat_fetch_stat_tabentry(relid) != NULL))
		return;
	ref = pgstat_prep_pending_entry(PGSTAT_KIND_RELATION, MyDatabaseId, relid, NULL);
	counts = &((PgStat_TableStatus *) ref->pending)->t_counts;
	counts->t_tuples_inserted += c->inserted;
	counts->t_tuples_updated += c->updated;
	counts->t_tuples_deleted += c->deleted;
	counts->t_delta_live_tuples += c->live;
	counts->t_delta_dead_tuples += c->dead;
	counts->t_changed_tuples += c->first ? c->live : (int64) (c->inserted + c->updated + c->deleted);
}

void
statistics_tell(void)
{
	if (changes == NULL || hash_get_num_entries(changes) == 0 ||
		!TimestampDifferenceExceeds(told, GetCurrentTimestamp(), TELL_MS))
		return;
	told = GetCurrentTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	storage_each(tell, NULL);
	PopActiveSnapshot();
	CommitTransactionCommand();
	hash_destroy(changes);
	changes = NULL;
	(void) pgstat_report_stat(true);
}
