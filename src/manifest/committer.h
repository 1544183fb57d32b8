/*
 * committer.h: the commit protocol of one process of one node; README.md says which rule is kept where.
 *
 * A Committer follows the manifest chain, hands each version in order to its owner, and appends groups of transactions.
 * Single-threaded, event-driven: it submits operations to a Store, is driven by their callbacks and by
 * committer_tick(), and reports by its own callbacks.  It has no clock, no randomness and no I/O of its own,
 * so a simulator can run many of them.  All memory is malloc'ed.
 */
#ifndef S3AM_COMMITTER_H
#define S3AM_COMMITTER_H

#include "store/store.h"
#include "manifest/s3am.pb-c.h"

typedef struct Committer Committer;

typedef enum Outcome
{
	OUTCOME_COMMITTED,
	OUTCOME_CONFLICT, /* 40001: found by validation; final */
	OUTCOME_ABORTED, /* by an abort mark, given up, or never tried: final */
	OUTCOME_DENIED, /* likewise: the store refused the manifest */
	OUTCOME_FULL, /* likewise: the store has no room for it */
	OUTCOME_FENCED, /* the epoch was fenced: final for what did not land */
	OUTCOME_RELEASED, /* shared, and this committer was fenced: it puts it no more, others may */
	OUTCOME_TOO_OLD /* committer_outcome() only: it is forgotten */
} Outcome;

/* How far a committer is. */
typedef enum CommitterPhase
{
	COMMITTER_ATTACHING, /* reading a checkpoint and the chain up to the head */
	COMMITTER_JOINING, /* beginning an epoch */
	COMMITTER_READY,
	COMMITTER_FENCED, /* somebody fenced our epoch: read on, but commit nothing; the error names the cause */
	COMMITTER_FAILED /* damaged chain, newer format: see the error; tried again every few seconds */
} CommitterPhase;

typedef struct CommitterConfig
{
	void *arg; /* for the callbacks */
	const uint8_t *node; /* identity of this node; must live as long as the committer */
	size_t node_len;
	const char *description; /* for people: host, port, database; may be NULL; as above */
	bool read_only; /* follow the chain, take no epoch */
	uint64_t (*now_ms)(void *arg); /* monotonic */
	uint64_t (*random)(void *arg);

	uint32_t group_wait_us; /* at most this longer for those on their way; 0: never */
	uint32_t max_tries; /* lost races of one member before it is given up; default 100 */
	uint32_t try_ms; /* and how long it is tried at least, however often it loses */
	uint32_t poll_min_ms, /* adaptive polling of the head */
		poll_max_ms;
	uint32_t lease_ms; /* a node that is silent for longer may be fenced by others; default 60000 */
	uint32_t window; /* versions whose claims are kept; default 4096 */
	size_t recent_bytes; /* of manifests that are kept for who builds checkpoints; default 0 */
	uint64_t outcome_retention_ms; /* 0: the repository's */

	/*
	 * A version was added to the chain (own and others').  In order, each once.  `manifest` is valid during the call;
	 * `object` is the stored object.  voided[i]: transaction i, counted over all steps, is void (rule 7: its id
	 * occurred before or was marked; rule 12: its epoch is fenced) and must be skipped.
	 */
	void (*applied)(void *arg, uint64_t version, const S3am__Manifest *manifest, const bool *voided,
					const uint8_t *object, size_t object_len);
	/*
	 * A checkpoint took the place of versions up to its own (attach, or catching up past the boundary).  What was
	 * applied before is replaced by it.  `root` is valid during the call; its trees are read with tree.h.
	 */
	void (*restored)(void *arg, const S3am__Checkpoint *root);
	/*
	 * A member's outcome.  detail: for people, which claim conflicted; NULL if none.  Committed: all of it is in the
	 * versions up to `version`, for which applied() or restored() was called before.
	 */
	void (*decided)(void *arg, void *member, Outcome outcome, uint64_t version, const char *detail);
	/*
	 * The phase changed; error with FENCED and FAILED, and for people while retrying (store unreachable), else NULL.  The same phase without an
	 * error: what was retried has worked.
	 */
	void (*phase)(void *arg, CommitterPhase phase, const char *error);
	/* The oldest version that this node still reads (its pin, rule 36).  NULL: the last one applied. */
	uint64_t (*oldest_read)(void *arg);
	/* An object that was to be withdrawn is gone.  May be NULL. */
	void (*withdrawn)(void *arg, const char *key);
	/* While attaching: has the owner enough to do with what it was given?  Then nothing more is read for now.  May be NULL. */
	bool (*hold)(void *arg);
} CommitterConfig;

/* Starts following the chain.  The repository object must exist (repository_open). Config is copied. */
extern Committer *committer_create(const CommitterConfig *config, Store *store, const S3am__Repository *repository);

/*
 * The key of a sign of life or pin that an earlier committer of the same server left: it is removed once an object of this one says all that
 * it says, which oldest_read() does for both.
 */
extern void committer_withdraw(Committer *c, const char *key);
extern void committer_pin_key(const Committer *c, char *key); /* of the pin that this one may write; KEY_SIZE bytes */

/* Submits a transaction (an encoded Txn without first_row); bytes are copied.  Answered by decided(), once. */
extern void committer_submit(Committer *c, const uint8_t *txn, size_t len, void *member);

/* Does a transaction leave nothing?  Then it is answered as committed once it is valid at the version applied last, and is in no manifest. */
extern bool committer_only_validates(const S3am__Txn *txn);

/* The same for one that was, is or may be handed to another committer too (a leader's followers), of any live epoch. */
extern void committer_submit_shared(Committer *c, const uint8_t *txn, size_t len, void *member);

/*
 * Takes a member back.  True: it was still waiting for its first PUT and is gone; decided() will not be called.  False: a PUT
 * may hold it, or it is shared; decided() comes when its outcome is known.
 */
extern bool committer_cancel(Committer *c, void *member);

/*
 * Gives a member up: decided() comes as soon as its outcome is certain, which may be that it is committed.  If a PUT may hold it
 * the slot is filled (rule 5); if others may put it an abort mark is written (rule 9).
 */
extern void committer_abandon(Committer *c, void *member);

/* Asks for the outcome of a commit id.  True: known: *outcome, *version (0 if only that is forgotten). */
extern bool committer_outcome(Committer *c, uint64_t epoch, uint64_t seq, Outcome *outcome, uint64_t *version);

/* The object of a version that was applied a moment ago; NULL: it is not kept.  Valid until the next turn. */
extern const uint8_t *committer_recent(const Committer *c, uint64_t version, size_t *len);

/* With COMMITTER_FENCED: by another server with the same identity, which must not be fenced in turn. */
extern bool committer_displaced(const Committer *c);

/* The newest epoch that any node has begun. */
extern uint64_t committer_last_epoch(const Committer *c);

/* Has a manifest write an abort mark for an id, so that committer_outcome() will know. */
extern void committer_mark(Committer *c, uint64_t epoch, uint64_t seq);

/* Has a manifest fence an epoch; done(arg, version) once that is applied.  done may be NULL. */
extern void committer_fence(Committer *c, uint64_t epoch, void (*done)(void *arg, uint64_t version), void *arg);

/* Epochs that are not fenced as of the version applied last; each() until it returns false. */
extern void
committer_live_epochs(const Committer *c, bool (*each)(void *arg, uint64_t epoch, uint64_t begun_ms), void *arg);
extern uint64_t committer_last_epoch(const Committer *c); /* the newest that has begun */
extern bool committer_epoch_live(const Committer *c, uint64_t epoch);

/*
 * May what others have not renewed for so long be taken for given up?  Not while the store may have been away for them as it was for this one, and
 * not before they had as much time to be heard again, a lease at most.
 */
extern bool committer_may_judge(Committer *c, uint64_t silence_ms);

/*
 * Has a manifest publish a checkpoint that is complete in the store.  done(arg, true) once that is applied, done(arg, false): its
 * parent is stale, its epoch fenced, or another one is being published.  One at a time.
 */
extern void
committer_publish(Committer *c, const S3am__CheckpointRef *ref, void (*done)(void *arg, bool published), void *arg);

/*
 * Freshness: calls done(arg, version) once the head, probed after this call (rule 31), has been applied; version is that head.
 */
extern void committer_probe(Committer *c, void (*done)(void *arg, uint64_t version), void *arg);

/* Hints that members are on their way (just answered ones come back at once), see group_wait_us. */
extern void committer_expect(Committer *c, int members);

extern uint64_t committer_epoch(const Committer *c); /* 0 until COMMITTER_READY */
extern uint64_t committer_version(const Committer *c); /* last applied */
extern const uint8_t *committer_digest(const Committer *c); /* of that manifest */
extern const S3am__CheckpointRef *committer_checkpoint(const Committer *c); /* published as of that version; NULL */
extern CommitterPhase committer_phase(const Committer *c);
/* For people: *putting: a PUT is not settled; *reading: the chain or a checkpoint is being read; members waiting. */
extern size_t committer_load(const Committer *c, bool *putting, bool *reading);
extern int64_t committer_date_ms(const Committer *c); /* the store's clock as last seen; 0 unknown */
extern uint64_t committer_boundary(const Committer *c); /* as last read */

/* Is it reading a checkpoint, under a pin that was found good? */
extern bool committer_reading_checkpoint(const Committer *c);

/* Numbers of objects of this epoch that the core itself makes (pages). */
extern uint64_t committer_new_page(Committer *c);

/* Runs timers.  Returns ms until the next call is due, or -1. */
extern int64_t committer_tick(Committer *c);

/* Stops: members without an outcome are not answered. */
extern void committer_destroy(Committer *c);

#endif
