/*
 * orphans.c: the objects in the bucket against what is referred to.
 */
#include "postgres.h"

#include <inttypes.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "store/dir_leftovers.h"
#include "verify/verify.h"

/* ------------------------------------------------------------------------------------ small objects */

typedef struct Small
{
	EnvelopeKind kind;
	const ProtobufCMessageDescriptor *message;
} Small;

static void
one_small(Verify *v, void *arg, const StoreEntry *entry)
{
	Small *small = arg;
	bool absent; /* they come and go */

	(void) verify_object(v, NULL, entry->key, small->kind, small->message, "sign of life", &absent, NULL);
	MemoryContextReset(v->object_cxt);
}

void
verify_small(Verify *v, const char *prefix, EnvelopeKind kind, const ProtobufCMessageDescriptor *message)
{
	Small small = {kind, message};

	verify_list(v, prefix, NULL, one_small, &small);
}

/* ------------------------------------------------------------------------------------ what an object is */

typedef enum ObjectClass
{
	OBJECT_FINE, /* referred to, or read by its name */
	OBJECT_NEWER, /* came after the head that was looked at */
	OBJECT_SEGMENT, /* nothing refers to these */
	OBJECT_PAGE,
	OBJECT_CHECKPOINT,
	OBJECT_MANIFEST, /* under the boundary */
	OBJECT_FOREIGN, /* none of s3am's */
	OBJECT_CLASSES
} ObjectClass;

static ObjectClass
classify(Verify *v, const char *key, uint64 *epoch)
{
	char expected[KEY_SIZE] = "";
	uint64 a, b;
	unsigned shard;

	*epoch = 0;
	if (strcmp(key, KEY_REPOSITORY) == 0 || strcmp(key, KEY_BOUNDARY) == 0 || strcmp(key, KEY_ROOT) == 0 ||
		strncmp(key, "nodes/", 6) == 0 || strncmp(key, "pins/", 5) == 0)
		return OBJECT_FINE;
	if (sscanf(key, "manifests/%20" SCNu64, &a) == 1)
	{
		key_manifest(expected, a);
		if (strcmp(key, expected) == 0)
			return a <= v->boundary ? OBJECT_MANIFEST : a <= v->state.version ? OBJECT_FINE : OBJECT_NEWER;
	}
	else if (sscanf(key, "checkpoints/%20" SCNu64 "-%16" SCNx64, &a, &b) == 2)
	{
		key_checkpoint(expected, a, b);
		*epoch = b;
		if (strcmp(key, expected) == 0)
			return idset_contains(v->roots, a, b) ? OBJECT_FINE : OBJECT_CHECKPOINT;
	}
	else if (sscanf(key, "pages/%2x/%16" SCNx64 "-%16" SCNx64, &shard, &a, &b) == 3)
	{
		key_page(expected, a, b);
		*epoch = a;
		if (strcmp(key, expected) == 0)
			return idset_contains(v->pages, a, b) ? OBJECT_FINE : OBJECT_PAGE;
	}
	else if (sscanf(key, "segments/%2x/%16" SCNx64 "-%16" SCNx64, &shard, &a, &b) == 3)
	{
		key_segment(expected, a, b);
		*epoch = a;
		if (strcmp(key, expected) == 0)
			return idset_contains(v->named, a, b) ? OBJECT_FINE : OBJECT_SEGMENT;
	}
	*epoch = 0;
	return OBJECT_FOREIGN;
}

/* ------------------------------------------------------------------------------------ counting */

static void
count_one(Verify *v, void *arg, const StoreEntry *entry)
{
	VerifyCount *counts = arg;
	uint64 epoch;
	ObjectClass class = classify(v, entry->key, &epoch);

	counts[class].objects++;
	counts[class].bytes += entry->size;
}

void
verify_listed(Verify *v)
{
	static const char *const names[OBJECT_CLASSES] = {
		[OBJECT_SEGMENT] = "segments that nothing refers to",
		[OBJECT_PAGE] = "checkpoint pages that nothing refers to",
		[OBJECT_CHECKPOINT] = "checkpoints that were not published",
		[OBJECT_MANIFEST] = "manifests that are not needed any more",
		[OBJECT_FOREIGN] = "objects that are none of s3am's",
	};
	VerifyCount counts[OBJECT_CLASSES] = {0};

	verify_list(v, "", NULL, count_one, counts);
	for (int i = 0; i < OBJECT_CLASSES; i++)
		if (names[i])
			verify_summary(v, names[i], counts[i].objects, counts[i].bytes);
}

/* ------------------------------------------------------------------------------------ orphans */

static void
orphan_row(Verify *v, const char *object, uint64 size, const char *reason, bool removed)
{
	Datum values[4];
	bool nulls[4] = {false};

	values[0] = CStringGetTextDatum(object);
	values[1] = Int64GetDatum(size);
	values[2] = CStringGetTextDatum(reason);
	values[3] = BoolGetDatum(removed);
	tuplestore_putvalues(v->rsinfo->setResult, v->rsinfo->setDesc, values, nulls);
	verify_counted(v, VERIFY_SMALL, 1, size);
}

static void
one_orphan(Verify *v, void *arg, const StoreEntry *entry)
{
	const bool *remove = arg;
	uint64 epoch;
	ObjectClass class = classify(v, entry->key, &epoch);
	char *error = NULL;
	char *reason;

	if (class != OBJECT_SEGMENT && class != OBJECT_PAGE && class != OBJECT_CHECKPOINT)
		return;
	/* an epoch that this state has not seen begin may live (rule 13) */
	if (epoch == 0 || epoch > outcomes_last_epoch(v->state.outcomes) || !outcomes_fenced(v->state.outcomes, epoch))
		return;
	CHECK_FOR_INTERRUPTS();
	reason = psprintf("nothing refers to it, and epoch " UINT64_FORMAT " has ended", epoch);
	if (*remove && !verify_remove(v, entry->key, &error))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("cannot remove object \"%s\" of the repository", entry->key), errdetail("%s", error),
						errhint("What was removed before it is gone; run it again when the cause is mended.")));
	orphan_row(v, entry->key, entry->size, reason, *remove);
	pfree(reason);
}

void
verify_orphans(Verify *v, bool remove)
{
	verify_list(v, "segments/", NULL, one_orphan, &remove);
	verify_list(v, "pages/", NULL, one_orphan, &remove);
	verify_list(v, "checkpoints/", NULL, one_orphan, &remove);
}

void
verify_leftovers(Verify *v, bool remove)
{
	DirLeftover *found = dir_leftovers(v->store, remove);

	while (found)
	{
		DirLeftover leftover = *found;

		free(found);
		found = leftover.next;
		orphan_row(v, leftover.name, leftover.size, "a temporary file whose writer is gone", leftover.removed);
	}
}
