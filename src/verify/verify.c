/*
 * verify.c: s3am.verify() and s3am.recovery_scan().
 */
#include "postgres.h"

#include <inttypes.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "node/bucket.h"
#include "node/node.h"
#include "node/progress.h"
#include "s3am.h"
#include "verify/verify.h"

S3AM_FUNCTION(s3am_verify);
S3AM_FUNCTION(s3am_recovery_scan);

#define RESTARTS 5

/* ------------------------------------------------------------------------------------ what is returned */

static void
verify_row(Verify *v, const char *object, const char *what, const char *problem, const VerifyCount *count)
{
	Datum values[5] = {0};
	bool nulls[5];

	nulls[0] = object == NULL;
	nulls[1] = false;
	nulls[2] = problem == NULL;
	nulls[3] = nulls[4] = count == NULL;
	if (object)
		values[0] = CStringGetTextDatum(object);
	values[1] = CStringGetTextDatum(what);
	if (problem)
		values[2] = CStringGetTextDatum(problem);
	if (count)
	{
		values[3] = Int64GetDatum(count->objects);
		values[4] = Int64GetDatum(count->bytes);
	}
	tuplestore_putvalues(v->rsinfo->setResult, v->rsinfo->setDesc, values, nulls);
}

void
verify_summary(Verify *v, const char *what, uint64 objects, uint64 bytes)
{
	VerifyCount count = {objects, bytes};

	verify_row(v, NULL, what, NULL, &count);
}

void
verify_problem(Verify *v, const char *object, const char *what, const char *format, ...)
{
	va_list args;
	char text[1024];

	if (v->quiet)
		return;
	va_start(args, format);
	(void) vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (v->strict)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("nothing was removed, because \"%s\" is damaged", object), errdetail("%s", text),
						errhint("What it refers to is not known. Restore it first; SELECT * FROM s3am.verify() shows "
								"everything that is damaged.")));
	v->problems++;
	pg_atomic_write_u64(&progress_mine()->problems, v->problems);
	verify_row(v, object, what, text, NULL);
}

void
verify_counted(Verify *v, VerifyKind kind, uint64 objects, uint64 bytes)
{
	if (v->quiet)
		return;
	v->counts[kind].objects += objects;
	v->counts[kind].bytes += bytes;
	pg_atomic_fetch_add_u64(&progress_mine()->objects, objects);
	pg_atomic_fetch_add_u64(&progress_mine()->bytes, bytes);
}

/* ------------------------------------------------------------------------------------ the run */

static void
note_listed(Verify *v, void *arg, const StoreEntry *entry)
{
	uint64 version;

	v->listed.objects++;
	v->listed.bytes += entry->size;
	if (sscanf(entry->key, "manifests/%20" SCNu64, &version) != 1)
		return;
	v->known = Max(v->known, version);
	v->lowest = Min(v->lowest, version);
}

/* How much there is, and up to which version at least. */
static void
list_all(Verify *v)
{
	S3Node *node = node_of_database(MyDatabaseId);

	memset(&v->listed, 0, sizeof(v->listed));
	v->lowest = PG_UINT64_MAX;
	v->known = node && !v->separate ? pg_atomic_read_u64(&node->head) : 0;
	verify_list(v, "", NULL, note_listed, NULL);
	pg_atomic_write_u64(&progress_mine()->objects_total, v->listed.objects);
	pg_atomic_write_u64(&progress_mine()->bytes_total, v->listed.bytes);
}

static void
other_checkpoint(Verify *v, void *arg, const StoreEntry *entry)
{
	S3am__CheckpointRef ref = S3AM__CHECKPOINT_REF__INIT;
	const S3am__CheckpointRef *published = v->state.checkpoint;
	S3am__Checkpoint *root;
	bool absent, start;

	if (sscanf(entry->key, "checkpoints/%20" SCNu64 "-%16" SCNx64, &ref.version, &ref.epoch) != 2 ||
		(published && published->version == ref.version && published->epoch == ref.epoch))
		return;
	/* those before the first manifest were published once, as far as anybody knows; of later ones a manifest says so */
	if (!idset_contains(v->roots, ref.version, ref.epoch) && v->start && ref.version > v->start->version)
		return;
	(void) idset_add(v->roots, ref.version, ref.epoch);
	start = v->start && v->start->version == ref.version && v->start->epoch == ref.epoch;
	/* where the chain began is judged already */
	v->quiet = start;
	root = verify_root(v, start ? v->start : &ref, &absent);
	v->quiet = false;
	if (root)
		verify_tree(v, root, false);
}

/* True: done.  False: it was collected meanwhile, from the beginning. */
static bool
run(Verify *v)
{
	S3am__Checkpoint *root = NULL;
	bool absent = false;

	progress_phase("listing objects");
	list_all(v);
	progress_phase("reading manifests");
	if (!verify_repository(v))
	{
		verify_problem(v, KEY_REPOSITORY, "repository", "without it nothing else can be judged");
		return true;
	}
	verify_boundary(v);
	verify_pin(v);
	if (v->start)
	{
		(void) idset_add(v->roots, v->start->version, v->start->epoch);
		root = verify_root(v, v->start, &absent);
		if (verify_boundary_passed(v, v->start->version))
			return false;
		if (root == NULL && absent)
		{
			char key[KEY_SIZE];

			key_checkpoint(key, v->start->version, v->start->epoch);
			verify_problem(v, key, "checkpoint", "it is missing, though the boundary names it");
		}
		if (root)
			verify_next_rows(v, root);
	}
	verify_chain(v, root);
	if (v->restart)
		return false;
	progress_phase("reading checkpoints and segments");
	if (v->state.checkpoint)
	{
		const S3am__CheckpointRef *ref = v->state.checkpoint;

		if (root == NULL || root->version != ref->version)
			root = verify_root(v, ref, &absent);
		if (root == NULL && absent)
		{
			char key[KEY_SIZE];

			if (verify_boundary_passed(v, ref->version))
				return false;
			key_checkpoint(key, ref->version, ref->epoch);
			verify_problem(v, key, "checkpoint", "it is missing, though a manifest publishes it");
		}
		if (root)
			verify_tree(v, root, true);
	}
	if (v->state.checkpoint == NULL || root)
		verify_recent(v, v->state.checkpoint ? root : NULL);
	if (v->restart)
		return false;
	verify_segments_end(v);
	progress_phase("reading checkpoints and segments");
	verify_list(v, "checkpoints/", NULL, other_checkpoint, NULL);
	return !(v->start ? verify_boundary_passed(v, v->start->version)
					  : v->strict && verify_boundary_passed(v, v->boundary));
}

/* What a run has, but for the store. */
static void
reset(Verify *v)
{
	fetch_abandon(v);
	if (v->start)
		s3am__checkpoint_ref__free_unpacked(v->start, NULL);
	v->start = NULL;
	if (v->state.outcomes)
		chain_clear(&v->state);
	memset(&v->state, 0, sizeof(v->state));
	if (v->rows)
		rows_free(v->rows);
	v->rows = NULL;
	idset_free(v->named);
	idset_free(v->segments);
	idset_free(v->pages);
	idset_free(v->roots);
	v->named = v->segments = v->pages = v->roots = NULL;
	v->queue = NULL;
	v->restart = v->quiet = false;
	memset(v->counts, 0, sizeof(v->counts));
}

static void
begin(Verify *v)
{
	MemoryContextReset(v->cxt);
	v->object_cxt = AllocSetContextCreate(v->cxt, "s3am object", ALLOCSET_DEFAULT_SIZES);
	v->named = idset_create();
	v->segments = idset_create();
	v->pages = idset_create();
	v->roots = idset_create();
}

static void
open_store(Verify *v)
{
	S3Node *node = node_of_database(MyDatabaseId);
	const char *url = node && node->url[0] ? node->url : s3am_repository;

	if (url == NULL || url[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this database is not bound to a repository"),
						errhint("Set s3am.repository, and create the extension.")));
	v->directory = strncmp(url, "file:", 5) == 0;
	v->separate = !(node && node->url[0] && node_attached() == node);
	v->store = v->separate ? bucket_open_apart(url) : bucket_store();
}

static void
run_and_tell(Verify *v, bool remove)
{
	int restarts = 0;

	if (v->strict && v->directory)
		verify_leftovers(v, remove);
	for (;;)
	{
		begin(v);
		if (run(v))
			break;
		if (++restarts == RESTARTS)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("the repository is collected faster than it can be read"),
							errhint("Raise the retention, or run it where the store is near.")));
		reset(v);
	}
	verify_unpin(v);
	if (v->strict)
	{
		progress_phase("looking for orphans");
		if (v->blind)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("nothing was removed, because not all of the chain can be read")));
		verify_orphans(v, remove);
	}
	else if (v->state.outcomes)
	{
		progress_phase("reading other objects");
		verify_small(v, KEY_ROOT, ENVELOPE_ROOT, &s3am__root__descriptor);
		verify_small(v, "nodes/", ENVELOPE_NODE, &s3am__node__descriptor);
		verify_small(v, "pins/", ENVELOPE_PIN, &s3am__pin__descriptor);
		verify_summary(v, "manifests", v->counts[VERIFY_MANIFESTS].objects, v->counts[VERIFY_MANIFESTS].bytes);
		verify_summary(v, "checkpoints", v->counts[VERIFY_CHECKPOINTS].objects, v->counts[VERIFY_CHECKPOINTS].bytes);
		verify_summary(v, "checkpoint pages", v->counts[VERIFY_PAGES].objects, v->counts[VERIFY_PAGES].bytes);
		verify_summary(v, "segments", v->counts[VERIFY_SEGMENTS].objects, v->counts[VERIFY_SEGMENTS].bytes);
		verify_summary(v, "other objects", v->counts[VERIFY_SMALL].objects, v->counts[VERIFY_SMALL].bytes);
		verify_listed(v);
	}
}

static void
verify(FunctionCallInfo fcinfo, bool strict, bool remove)
{
	Verify v = {.strict = strict, .deep = !strict};

	InitMaterializedSRF(fcinfo, 0);
	v.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	v.cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am verify", ALLOCSET_DEFAULT_SIZES);
	open_store(&v);
	progress_begin(strict ? "recovery scan" : "verify", "listing objects");
	PG_TRY();
	{
		run_and_tell(&v, remove);
	}
	PG_FINALLY();
	{
		progress_end();
		verify_unpin_quietly(&v);
		reset(&v);
		if (v.separate)
			store_close(v.store);
	}
	PG_END_TRY();
	MemoryContextDelete(v.cxt);
}

/* s3am.verify(): reads everything; a row for each problem, and one for each kind of objects. */
Datum
s3am_verify(PG_FUNCTION_ARGS)
{
	verify(fcinfo, false, false);
	return (Datum) 0;
}

/* s3am.recovery_scan(dry_run): objects that nothing refers to and nobody can come to need. */
Datum
s3am_recovery_scan(PG_FUNCTION_ARGS)
{
	verify(fcinfo, true, !PG_GETARG_BOOL(0));
	return (Datum) 0;
}
