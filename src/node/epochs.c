/*
 * epochs.c: which epochs are live, as far as this node has applied the chain.
 *
 * The publisher notes beginnings and ends (rule 12) as it applies them; anybody reads.  There are few: one for each server that
 * is attached, and those that nobody has fenced yet.
 */
#include "postgres.h"

#include "node/node.h"

void
node_epoch_begin(S3Node *node, uint64 epoch)
{
	for (int i = 0; i < NODE_EPOCHS; i++)
		if (pg_atomic_read_u64(&node->epochs[i]) == epoch)
			return;
	for (int i = 0; i < NODE_EPOCHS; i++)
		if (pg_atomic_read_u64(&node->epochs[i]) == 0)
		{
			pg_atomic_write_u64(&node->epochs[i], epoch);
			return;
		}
	elog(LOG, "s3am: more than %d epochs are live", NODE_EPOCHS);
	/* what is not listed counts as live */
	pg_atomic_write_u32(&node->epochs_overflowed, 1);
}

void
node_epoch_end(S3Node *node, uint64 epoch)
{
	for (int i = 0; i < NODE_EPOCHS; i++)
		if (pg_atomic_read_u64(&node->epochs[i]) == epoch)
			pg_atomic_write_u64(&node->epochs[i], 0);
}

bool
node_epoch_live(S3Node *node, uint64 epoch)
{
	if (pg_atomic_read_u32(&node->epochs_overflowed))
		return true;
	for (int i = 0; i < NODE_EPOCHS; i++)
		if (pg_atomic_read_u64(&node->epochs[i]) == epoch)
			return true;
	return false;
}
