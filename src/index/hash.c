/*
 * hash.c: the index access method s3hash.
 *
 * Its entries have a number in the place of the value, the value's code (hashcode.c), and are otherwise those of an s3btree index on a bigint:
 * all that reads, writes and merges runs is the same.  A scan looks for the code of what its key says, and has what it finds checked.
 */
#include "postgres.h"

#include "access/hash.h"
#include "access/nbtree.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/pathnodes.h"
#include "utils/fmgroids.h"
#include "utils/index_selfuncs.h"

#include "compat.h"
#include "index/index.h"

S3AM_FUNCTION(s3hash_handler);

/* column = value becomes code = code of the value. */
static void
code_key(HashCoder *coder, ScanKey key)
{
	int64 code;

	if (key->sk_flags & SK_ISNULL)
		return;
	if (hash_code_of_key(coder, key, &code))
		ScanKeyInit(key, key->sk_attno, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(code));
	else
	{
		/* whatever is there has to be checked */
		key->sk_flags = SK_ISNULL | SK_SEARCHNOTNULL;
		key->sk_strategy = InvalidStrategy;
		key->sk_subtype = InvalidOid;
	}
}

static void
hash_rescan(IndexScanDesc desc, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys)
{
	HashCoder *coder;
	ScanKey coded;

	if (keys == NULL)
	{
		scan_rescan(desc, keys, nkeys, orderbys, norderbys);
		return;
	}
	coder = scan_meta(desc)->coder;
	coded = palloc(sizeof(ScanKeyData) * Max(nkeys, 1));
	memcpy(coded, keys, sizeof(ScanKeyData) * nkeys);
	for (int i = 0; i < nkeys; i++)
		code_key(coder, &coded[i]);
	scan_rescan(desc, coded, nkeys, orderbys, norderbys);
	pfree(coded);
}

static void
cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
			  Selectivity *selectivity, double *correlation, double *pages)
{
	hashcostestimate(root, path, loop_count, startup, total, selectivity, correlation, pages);
	cost_add_runs(path, true, loop_count, startup, total, *selectivity, pages);
}

/* Options of core's hash are taken, and mean nothing. */
static bytea *
options(Datum reloptions, bool validate)
{
	return hashoptions(reloptions, validate);
}

Datum
s3hash_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *am = makeNode(IndexAmRoutine);

	/* operator class information is cached by OID, so what concerns that is as in core's hash */
	am->amstrategies = HTMaxStrategyNumber;
	am->amsupport = HASHNProcs;
	am->amoptsprocnum = HASHOPTIONS_PROC;
	am->amcanbackward = true;
	am->amkeytype = INT4OID;

	index_routine_common(am);
	am->amrescan = hash_rescan;
	am->amcostestimate = cost_estimate;
	am->amoptions = options;
	am->amvalidate = hashvalidate;
	am->amadjustmembers = hashadjustmembers;
	PG_RETURN_POINTER(am);
}
