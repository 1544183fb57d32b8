/*
 * horizon.c: what a collector must leave alone for this node's sake.
 *
 * Read by the committer, which tells other nodes (`nodes/<epoch>`, rule 36) and asks for its own collections.
 */
#include "postgres.h"

#include "storage/proc.h"

#include "node/node.h"

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
