/*
 * request.h: questions that sessions put to the committer of their node.
 *
 * The outcome of a commit id, how far the chain is now, and what a collection deletes.  None takes a lock; a session that stops waiting
 * leaves its request to the committer, which frees it.
 */
#ifndef S3AM_REQUEST_H
#define S3AM_REQUEST_H

#include "postgres.h"

#include "node/node.h"

typedef enum RequestAnswer
{
	ANSWER_PENDING, /* none yet */
	ANSWER_COMMITTED, /* in `version` */
	ANSWER_ABORTED, /* it can no longer commit */
	ANSWER_UNDECIDED, /* it is not in the chain up to `version`, and may still come */
	ANSWER_TOO_OLD, /* its epoch's outcomes are kept no more */
	ANSWER_NO_EPOCH, /* no server has begun that epoch */
	ANSWER_READ_ONLY, /* this server may not write an abort mark, or may not collect */
	ANSWER_DONE, /* a collection has ended; `result` */
	ANSWER_FAILED /* it had to be given up; `result` says why */
} RequestAnswer;

typedef enum RequestKind
{
	REQUEST_OUTCOME,
	REQUEST_COLLECT
} RequestKind;

/* In the node's DSA.  Freed by whoever lets go of it last. */
typedef struct Request
{
	dsa_pointer next; /* in the queue; must be first */
	pg_atomic_uint32 answer; /* RequestAnswer; written last */
	pg_atomic_uint32 refs; /* session and committer */
	int procno; /* of the session, for its latch */
	RequestKind kind;
	bool dry_run;
	dsa_pointer result; /* of a collection: strings with their zeros; freed with the request */
	Size result_len;
	bool resolve; /* put an abort mark rather than answer "undecided" */
	uint64 epoch, seq;
	uint64 version;
} Request;

/*
 * The outcome of a commit id, by the chain as it is after this call began.  With `resolve` the answer is final: an abort mark
 * decides it if nothing else did.  Cancellable.
 */
extern RequestAnswer request_outcome(S3Node *node, uint64 epoch, uint64 seq, bool resolve, uint64 *version);

/*
 * Waits until this node shows at least the version that was the head at some moment after this call began (rule 31); returns
 * that version.  Cancellable.  Throws 40P01 if the publisher in turn waits for a lock that this session holds.
 */
extern uint64 request_head(S3Node *node);
/* Does the publisher wait for a lock that this session holds?  Whoever waits for the publisher asks from time to time (rule 27). */
extern bool request_blocks_publisher(S3Node *node);

/*
 * Has the committer look for objects that nobody needs any more, and delete them (dry_run: not).  Calls each() for them.  Cancellable;
 * what has begun goes on.
 */
typedef void (*CollectedEach)(void *arg, const char *key, const char *why, uint64 bytes);
extern void request_collect(S3Node *node, bool dry_run, CollectedEach each, void *arg);

/* ---- the committer's side */
extern void request_free(S3Node *node, dsa_pointer p);
extern void request_answer(S3Node *node, dsa_pointer p, RequestAnswer answer, uint64 version);

#endif
