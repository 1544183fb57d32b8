/*
 * committer_int.h: what the files of the committer share: committer.c, follow.c, group.c, put.c, restore.c, lease.c.
 */
#ifndef S3AM_COMMITTER_INT_H
#define S3AM_COMMITTER_INT_H

#include "manifest/chain.h"
#include "manifest/committer.h"
#include "manifest/keys.h"
#include "manifest/rules.h"
#include "manifest/tree.h"
#include "manifest/recent.h"
#include "manifest/window.h"

#define READ_AHEAD 16
#define BACKOFF_MIN_MS 20
#define GROUP_WAITS 4 /* waits of group_wait_us that a group takes at most, one after each arrival */
#define GAP_ALARMS 20 /* so many false ones mean that others write faster than this reads */
#define FAILED_PAUSE_MS 5000 /* what could not be applied is read again after this: it may have been restored */
#define BACKOFF_MAX_MS 2000

/* A transaction without an outcome. */
typedef struct Pending
{
	struct Pending *next;
	S3am__Txn *txn;
	Claims *claims;
	size_t len;
	void *handle;
	uint64_t held; /* held against all versions up to this */
	unsigned tries;
	uint64_t tried_at; /* first, by our clock, ms */
	bool shared; /* others may put it too */
	bool in_put;
	bool abandoned;
	char why[256]; /* if abandoned */
} Pending;

typedef struct Probe
{
	struct Probe *next;
	uint64_t after; /* number of the first request that counts */
	void (*done)(void *arg, uint64_t version);
	void *arg;
} Probe;

typedef struct Mark
{
	struct Mark *next;
	uint64_t epoch, seq;
} Mark;

typedef struct Fence
{
	struct Fence *next;
	uint64_t epoch;
	bool silent; /* because it is, not because somebody asked */
	void (*done)(void *arg, uint64_t version);
	void *arg;
} Fence;

/*
 * What the store said about a slot, and when: `date` by its own clock, `number` counts requests of this committer that were sent and
 * answers that came (one sequence).
 */
typedef struct Evidence
{
	uint64_t slot;
	int64_t date;
	uint64_t number;
} Evidence;

typedef enum Verdict
{
	VERDICT_GOOD, /* the slot was above the boundary */
	VERDICT_UNDER, /* it is not: no evidence */
	VERDICT_ASK /* the boundary must be read first */
} Verdict;

/* A copy of gc/boundary. */
typedef struct BoundaryCopy
{
	bool known;
	uint64_t value;
	S3am__CheckpointRef *checkpoint; /* NULL: none */
	int64_t date;
	uint64_t sent; /* number of its request */
	uint64_t sent_ms; /* by our clock */
} BoundaryCopy;

/* A read of one version. */
typedef struct Read
{
	Committer *c;
	StoreOp *op;
	uint64_t version;
	uint64_t number; /* of the request: a probe wants one that began after it */
	Evidence evidence;
	bool done;
	bool used;
	StoreStatus status;
	uint8_t *data;
	size_t len;
	char error[256];
} Read;

/* A manifest on its way to a slot.  It stays as it is until the slot is known to hold something, or is filled. */
typedef struct Put
{
	Committer *c; /* NULL: settled meanwhile, the callback frees it */
	StoreOp *op;
	char key[KEY_SIZE];
	uint64_t slot;
	uint8_t *object;
	size_t len;
	bool fill;
	bool landed; /* 200, if the slot is above the boundary */
	bool read_back; /* the slot holds something: read it */
	bool undecided; /* some attempt had no verdict */
	uint64_t number; /* of the first attempt's request */
	Evidence evidence;
	unsigned attempts;
	uint64_t started; /* by our clock, ms */
} Put;

/* What is tried again, each until it works. */
typedef enum Trouble
{
	TROUBLE_READ = 1,
	TROUBLE_BOUNDARY = 2,
	TROUBLE_LIST = 4,
	TROUBLE_PUT = 8,
	TROUBLE_RESTORE = 16
} Trouble;

typedef struct Restore Restore;
typedef struct Lease Lease;
typedef struct Left Left;

struct Committer
{
	CommitterConfig cfg;
	Store *store;
	uint8_t uuid[16];
	uint64_t grace_ms; /* G */
	CommitterPhase phase;
	bool displaced; /* fenced by another server with our identity */
	uint64_t epoch;
	uint64_t next_page;
	uint8_t nonce[16];
	uint64_t pinned; /* version of the checkpoint from which it attached; 0 none */

	ChainState state;
	Window *window;
	Recent *recent;
	uint64_t window_first; /* all versions from here on are in the window */

	Pending *first, **last;
	size_t npending;
	size_t expected; /* members that the next group waits for a little */
	uint64_t group_until, /* ms; 0: it does not wait */
		group_limit; /* ms; arrivals prolong the wait up to this */
	uint64_t put_took; /* ms, the last one that landed at its first attempt */
	Mark *marks;
	Fence *fences;
	S3am__CheckpointRef *publish;
	void (*publish_done)(void *arg, bool published);
	void *publish_arg;
	Probe *probes;

	uint64_t number; /* requests and answers so far */
	int64_t date; /* the latest of the store's */
	Read ahead[READ_AHEAD];
	int nahead;
	Put *put;

	BoundaryCopy boundary;
	StoreOp *boundary_op;
	uint64_t boundary_number; /* of the request under way */
	uint64_t boundary_sent_ms;
	uint64_t boundary_retry_at;
	bool boundary_wanted;

	Restore *restore;
	bool must_restore;
	bool attached; /* a starting point was found */
	Lease *lease;
	Left *left; /* to be withdrawn */

	uint64_t retry_at;
	uint64_t poll_at;
	uint64_t poll_ms;
	/* attaching: is the empty slot the end of the chain, or a gap in it? (rule 6) */
	StoreOp *gap_op;
	uint64_t gap_slot; /* that was asked about last; 0: it must be asked again */
	uint64_t gap_later; /* a version that exists after it, 0 none */
	unsigned gap_alarms; /* slots that were filled when they were looked at again */

	unsigned troubles; /* Trouble: what was told, and is not over yet */
	CommitterPhase resume; /* what it was before it failed */
	char *failure;
	bool closing;
};

/* committer.c */
extern uint64_t committer_now(Committer *c);
extern void committer_set_phase(Committer *c, CommitterPhase phase, const char *error);
/* Something is tried again, for this reason.  And it worked: if nothing else is left, the owner is told so, by the phase without an error. */
extern void committer_trouble(Committer *c, Trouble trouble, const char *error);
extern void committer_well(Committer *c, Trouble trouble);
extern void committer_saw_date(Committer *c, const StoreResult *result);
extern uint64_t committer_back_off(Committer *c, unsigned attempts); /* when to try again: full jitter */
extern void committer_advance(Committer *c);
extern void committer_end_publish(Committer *c, bool published);

/* follow.c: reading versions, the boundary */
extern Verdict committer_judge(Committer *c, const Evidence *e, bool rule);
extern void committer_read_boundary(Committer *c); /* starts a read if it is time */
extern bool committer_use_read(Committer *c);
extern void committer_start_read(Committer *c, uint64_t version);
extern Read *committer_find_read(Committer *c, uint64_t version);
extern void committer_drop_stale_reads(Committer *c);
extern void committer_at_head(Committer *c);
extern void committer_fail(Committer *c, char *error);
extern void committer_drop_reads(Committer *c);
extern bool committer_apply(Committer *c, const uint8_t *object, size_t len, bool own);
extern void committer_answer_probes(Committer *c, uint64_t number);

/* group.c: members and manifests */
extern void pending_decide(Committer *c, Pending *p, Outcome outcome, uint64_t version, const char *detail);
extern void pending_settle(Committer *c, bool own);
extern void pending_fail_put(Committer *c, Outcome outcome, const char *why);
extern void pending_abandon(Pending *p, const char *why);
extern void pending_release(Committer *c);
extern bool pending_in_put(const Committer *c, bool abandoned);
extern bool group_build(Committer *c);
extern void group_prolong(Committer *c);
extern bool group_wanted(Committer *c);
extern bool group_fill(Committer *c);

/* put.c */
extern bool put_begin(Committer *c, S3am__Manifest *m, bool fill);
extern void put_end(Committer *c);
extern void committer_out_of_memory(Committer *c);
extern bool put_drive(Committer *c); /* true: something was settled, look again */

/* restore.c */
extern void restore_begin(Committer *c);
extern void restore_free(Committer *c);
extern void restore_boundary_came(Committer *c);
extern void restore_tick(Committer *c);

/* lease.c */
extern void lease_begin(Committer *c);
extern bool lease_pin(Committer *c);
extern void lease_free(Committer *c);
extern void lease_tick(Committer *c);
extern uint64_t lease_due(const Committer *c);

#endif
