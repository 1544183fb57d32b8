/*
 * sequence.h: sequences that travel.
 */
#ifndef S3AM_DDL_SEQUENCE_H
#define S3AM_DDL_SEQUENCE_H

#include "postgres.h"

#include "manifest/s3am.pb-c.h"
#include "node/node.h"

extern void sequence_init(void);

/* Makes a sequence one that travels, under this id (0: a new one); returns the id. */
extern uint64 sequence_add(Oid relid, uint64 id);
extern void sequence_dropped(Oid relid);
/* A table came to the repository: its sequences come with it. */
extern void sequence_table_travels(Oid table, S3am__DdlStatement *message);

/* PRE_COMMIT: adds the positions that must be known before this transaction's numbers are; throws if others own them. */
extern void sequence_collect(S3Node *node, S3am__Txn *txn);
/* Has this transaction drawn beyond what the repository knows?  Cheap if it drew nothing. */
extern bool sequence_pending(S3Node *node);

/* The transaction is rolled back; before it gives up its locks. */
extern void sequence_aborted(void);
/* A plan is about to run, or a COPY. */
extern void sequence_statement(void);

/*
 * The publisher: notes the positions of a transaction, and moves this server's sequences there if another server drew.  adopted:
 * this server did, in a transaction that failed here, so that its new sequences are as if just made.
 */
extern void sequence_apply(S3Node *node, const S3am__Txn *txn, uint64 version, bool adopted);
/* The same for one that a checkpoint has. */
extern void sequence_restore(S3Node *node, const S3am__SequenceState *state);
/* The publisher, between versions: has rows and pages follow that somebody held a lock on.  True: some could not yet. */
extern bool sequence_settle(S3Node *node);
/* The publisher, when all was read at start: sequences continue where the repository says. */
extern void sequence_adopt_all(S3Node *node);

#endif
