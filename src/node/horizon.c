/*
 * horizon.c: what a collector must leave alone for this node's sake, and whether it did.
 *
 * The first is read by the committer, which tells other nodes (`nodes/<epoch>`, rule 36) and asks for its own collections.  The second by who finds
 * that an object is missing: a server that was silent for longer than a pin lasts is not waited for.
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "storage/proc.h"

#include "manifest/keys.h"
#include "node/state.h"
#include "s3am.h"

/*
 * The oldest version that a snapshot of this node may see, now or later.  Every snapshot sees at least what is frozen, cursors'
 * and exported ones included: entries freeze when the oldest xmin of the server has passed them.  While a checkpoint is
 * being read, nothing newer is here; and while pages are still unread of the one that the server started from, that one is.
 */
uint64
node_oldest_read(S3Node *node)
{
	uint64 restoring = pg_atomic_read_u64(&node->restoring);
	uint64 published, oldest, base;

	/* the publisher says that it is done with a checkpoint after it has published that version */
	pg_read_barrier();
	published = pg_atomic_read_u64(&node->published);
	pg_read_barrier();
	oldest = POS_WHOLE(pg_atomic_read_u64(&node->frozen));
	/* set before `restoring` is cleared */
	base = pg_atomic_read_u64(&node->base_version);
	if (base != 0 && base < oldest)
		oldest = base;
	/* at the start of a server `frozen` runs ahead */
	if (restoring && (published == 0 || !pg_atomic_read_u32(&node->served) || restoring < oldest))
		return restoring;
	return oldest;
}

/*
 * Objects of this epoch with lower numbers belong to no transaction that runs: it was decided, or came to nothing.  Those that
 * left their transaction to the committer are not among these: it knows them itself.
 */
uint64
node_oldest_object(S3Node *node)
{
	uint64 oldest = pg_atomic_read_u64(&node->next_object) + 1;

	pg_memory_barrier();
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		uint64 first = pg_atomic_read_u64(&node_backend(i)->first_object);

		if (first != 0 && first < oldest)
			oldest = first;
	}
	return oldest;
}

/* ------------------------------------------------------------------------------------ was it collected */

static uint64
monotonic_ms(void)
{
	instr_time t;

	INSTR_TIME_SET_CURRENT(t);
	return INSTR_TIME_GET_MILLISEC(t);
}

/*
 * Once it was silent, `touched` stays where it was until its signs have been seen for a while again: the first sign after a pause is
 * written before anybody knows what has been collected meanwhile.
 */
void
node_touch(S3Node *node, bool known)
{
	if (known || pg_atomic_read_u64(&node->touched) == 0)
		pg_atomic_write_u64(&node->touched, monotonic_ms());
}

static bool
was_silent(S3Node *node)
{
	uint64 touched = pg_atomic_read_u64(&node->touched);

	return touched != 0 && monotonic_ms() > touched + Min(s3am_node_timeout, s3am_pin_timeout);
}

typedef struct Search
{
	S3Node *node;
	const char *key;
	bool found;
} Search;

/* Does the table as it is now have that segment, or leaves of which nobody here knows what is in them? */
static void
look_in(void *arg, TableState *table)
{
	Search *search = arg;
	const BatchArray *batches;
	uint32 count;
	char key[KEY_SIZE];

	if (search->found || table->dropped)
		return;
	batches = state_batches(search->node, table, &count);
	for (uint32 i = 0; i < count && !search->found; i++)
	{
		const BatchEntry *entry = &batches->entries[i];

		if (DsaPointerIsValid(entry->leaf))
			search->found = true;
		else if (entry->epoch != 0)
		{
			key_segment(key, entry->epoch, entry->number);
			search->found = strcmp(key, search->key) == 0;
		}
	}
}

bool
node_collected(S3Node *node, const char *key)
{
	Search search = {node, key, false};

	/* workers have no snapshot, and look for a newer checkpoint themselves */
	if (node == NULL || node_serving || !pg_atomic_read_u32(&node->served))
		return false;
	if (was_silent(node) || pg_atomic_read_u64(&node->restoring) != 0)
		return true;
	if (strncmp(key, "segments/", strlen("segments/")) != 0)
		return false;
	state_pin(node);
	state_each(node, look_in, &search);
	return !search.found;
}
