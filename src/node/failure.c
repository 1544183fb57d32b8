/*
 * failure.c: why this node cannot apply a version (rule 28): shown by s3am.attach_status, and to sessions that wait.
 */
#include "postgres.h"

#include "node/node.h"

/* reason NULL: it went on.  True: it is another failure than before. */
bool
node_set_failure(S3Node *node, uint64 version, const char *object, const char *reason)
{
	bool other;

	SpinLockAcquire(&node->mutex);
	other = reason && (node->failure.version != version || strcmp(node->failure.reason, reason) != 0);
	if (reason == NULL)
		node->failure.version = 0;
	else
	{
		if (node->failure.version == 0)
			node->failure.since = 0;
		node->failure.version = version;
		strlcpy(node->failure.object, object ? object : "", sizeof(node->failure.object));
		strlcpy(node->failure.reason, reason, sizeof(node->failure.reason));
	}
	SpinLockRelease(&node->mutex);
	if (reason && node->failure.since == 0)
		node->failure.since = GetCurrentTimestamp();
	return other;
}

/* Is there a failure?  Copies it if wanted. */
bool
node_failure(S3Node *node, NodeFailure *failure)
{
	bool result;

	SpinLockAcquire(&node->mutex);
	result = node->failure.version != 0;
	if (result && failure)
		*failure = node->failure;
	SpinLockRelease(&node->mutex);
	return result;
}
