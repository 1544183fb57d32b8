/*
 * used.c: the tables that the current transaction looked at.
 *
 * A transaction that writes relies on the definition of the tables that it only read, too: what it wrote may follow from a
 * column that another server drops meanwhile, or name a row that a rewrite has given another id.
 */
#include "postgres.h"

#include "catalog/partition.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "txn/locked.h"
#include "txn/used.h"

static HTAB *used; /* table ids; NULL as long as there is the last one alone */
static HTAB *relations; /* OIDs of relations that have none */
static uint64 last; /* 0: none */

static void
make_hash(void)
{
	HASHCTL ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(uint64), .hcxt = TopTransactionContext};

	used = hash_create("s3am tables used", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	(void) hash_search(used, &last, HASH_ENTER, NULL);
}

void
used_note(uint64 table)
{
	if (table == last)
		return;
	if (used == NULL && last != 0)
		make_hash();
	if (used)
		(void) hash_search(used, &table, HASH_ENTER, NULL);
	last = table;
}

void
used_note_relation(Oid relid)
{
	if (relations == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Oid), .hcxt = TopTransactionContext};

		relations = hash_create("s3am relations used", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	(void) hash_search(relations, &relid, HASH_ENTER, NULL);
}

/*
 * COPY names them in no plan, and core locks them when it looks for the bounds of a partition that is written to by its own name.
 * Whose lock a replay would wait for must have claimed something that fails it (rule 27).
 */
void
used_note_parents(Oid relid)
{
	ListCell *lc;

	if (!OidIsValid(relid) || !get_rel_relispartition(relid))
		return;
	foreach (lc, get_partition_ancestors(relid))
		if (locked_at_least(lfirst_oid(lc), AccessShareLock))
			used_note_relation(lfirst_oid(lc));
}

static void
claim_relations(S3am__Txn *txn)
{
	HASH_SEQ_STATUS status;
	S3am__NameClaim **names;
	Oid *relid;

	if (relations == NULL)
		return;
	names = palloc(sizeof(void *) * (txn->n_names + hash_get_num_entries(relations) + 1));
	memcpy(names, txn->names, sizeof(void *) * txn->n_names);
	txn->names = names;
	hash_seq_init(&status, relations);
	while ((relid = hash_seq_search(&status)) != NULL)
	{
		S3am__NameClaim *claim;
		char *name = get_rel_name(*relid);

		if (name == NULL)
			continue; /* dropped by this transaction, which has claimed it */
		claim = palloc(sizeof(*claim));
		s3am__name_claim__init(claim);
		claim->catalog = "pg_class";
		claim->schema = get_namespace_name(get_rel_namespace(*relid));
		claim->name = name;
		claim->mode = S3AM__MODE__KEY_SHARE;
		/* who builds an index of it is not in the way of who only looks at it */
		claim->shared = !locked_at_least(*relid, RowExclusiveLock);
		txn->names[txn->n_names++] = claim;
	}
}

void
used_claim(S3am__Txn *txn)
{
	HASH_SEQ_STATUS status;
	S3am__SchemaClaim **schemas;
	uint64 *table;

	claim_relations(txn);
	if (used == NULL && last != 0)
		make_hash();
	if (used == NULL)
		return;
	/* those that are claimed already, perhaps more strongly, are not claimed again */
	for (size_t i = 0; i < txn->n_schemas; i++)
		(void) hash_search(used, &txn->schemas[i]->table, HASH_REMOVE, NULL);
	last = 0;
	schemas = palloc(sizeof(void *) * (txn->n_schemas + hash_get_num_entries(used) + 1));
	memcpy(schemas, txn->schemas, sizeof(void *) * txn->n_schemas);
	txn->schemas = schemas;
	hash_seq_init(&status, used);
	while ((table = hash_seq_search(&status)) != NULL)
	{
		S3am__SchemaClaim *claim = palloc(sizeof(*claim));

		s3am__schema_claim__init(claim);
		claim->table = *table;
		claim->mode = S3AM__MODE__KEY_SHARE;
		txn->schemas[txn->n_schemas++] = claim;
	}
}

void
used_reset(void)
{
	/* the hash goes with TopTransactionContext */
	used = relations = NULL;
	last = 0;
}
