/*
 * node.h: what the processes of one attached database share.
 *
 * A node is one (server, database).  Its committer follows the chain and appends to it; its publisher applies versions in
 * order and makes them visible; backends read the state and hand their transactions to the committer.
 */
#ifndef S3AM_NODE_H
#define S3AM_NODE_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/dsa.h"
#include "utils/timestamp.h"

#include "store/store.h"

#define NODE_URL_MAX 1024
#define NODE_ERROR_MAX 1024
#define NODE_IDENTITY_MAX 64

/* How far a node is; its sessions wait until it is ready. */
typedef enum NodePhase
{
	NODE_FREE, /* this entry is unused */
	NODE_STARTING, /* workers are being started */
	NODE_ATTACHING, /* reading the chain, replaying DDL */
	NODE_READY,
	NODE_FENCED, /* another server took this node's place: reads only */
	NODE_FAILED /* see the error; tried again from time to time */
} NodePhase;

/* What the database is, for the repository object; filled in by the publisher. */
typedef struct NodeFacts
{
	bool known;
	char encoding[64];
	char collate[256];
	char ctype[256];
	char description[256];
	uint8 identity[NODE_IDENTITY_MAX];
	uint32 identity_len;
} NodeFacts;

/* A transaction on its way, in the node's DSA.  Freed by whoever lets go of it last. */
typedef enum MemberState
{
	MEMBER_QUEUED, /* its backend may still take it back */
	MEMBER_TAKEN, /* the committer has it; its outcome will come */
	MEMBER_UNWANTED, /* likewise; if it was in no PUT yet the committer gives it back */
	MEMBER_WITHDRAWN, /* taken back while queued: the committer drops it */
	MEMBER_DECIDED
} MemberState;

typedef struct Member
{
	dsa_pointer next; /* in the queue; must be first */
	pg_atomic_uint32 state;
	pg_atomic_uint32 refs; /* backend and node */
	int procno; /* of the backend, for its latch */
	uint64 owner; /* number of its transaction (rowlock_owner) */
	uint64 epoch, seq;
	uint64 first_object; /* its segments have this number or higher ones; 0: it has none */
	uint32 taken_at; /* the committer's: its place among those that are not decided */
	TransactionId xid; /* rule 25: a step of its own under this xid; else invalid */
	/* once decided */
	int outcome; /* Outcome */
	bool given_back; /* it was sent to nobody, since its backend did not want it any more */
	uint64 version;
	char detail[320];
	Size len;
	uint8 record[FLEXIBLE_ARRAY_MEMBER]; /* encoded Txn */
} Member;

/* From the committer to the publisher, in order; in the node's DSA. */
typedef enum DeliveryKind
{
	DELIVER_VERSION, /* object: the manifest */
	DELIVER_CHECKPOINT, /* the state at `version`; object: a packed Checkpoint, whose pages are read from the store */
	DELIVER_DECISION, /* member, outcome: committed in `version` */
	DELIVER_ATTACHED /* the head was reached */
} DeliveryKind;

typedef struct Delivery
{
	dsa_pointer next; /* must be first */
	DeliveryKind kind;
	uint64 version;
	dsa_pointer member;
	int ntxns; /* DELIVER_VERSION: voided[ntxns] follows the payload */
	Size len;
	uint8 payload[FLEXIBLE_ARRAY_MEMBER]; /* a packed message, then voided flags */
} Delivery;

/*
 * Blocks of the node's DSA, each beginning with the link to the next.  Many producers, one consumer, no lock: a process that
 * is stopped in the middle holds nobody up.  The consumer takes all at once, so there is no ABA problem.
 */
typedef struct NodeQueue
{
	pg_atomic_uint64 last; /* most recently added */
	pg_atomic_uint64 length;
} NodeQueue;

/* One entry says: what came up to `pos` became visible when `xid` committed (rule 24). */
typedef struct Stamp
{
	uint64 pos;
	TransactionId xid;
} Stamp;

/* A ring of them, in the node's DSA; replaced by a larger one when it is full. */
typedef struct StampRing
{
	uint64 capacity;
	Stamp entries[FLEXIBLE_ARRAY_MEMBER];
} StampRing;

/* What a process is doing or waits for, for s3am.activity alone. */
typedef enum NodeDoing
{
	DOING_NOTHING, /* waits for work */
	DOING_READ_CHAIN, /* committer: reads manifests or a checkpoint */
	DOING_PUT, /* committer: a manifest is on its way */
	DOING_FAILED, /* committer: the chain cannot be followed, see the error */
	DOING_APPLY, /* publisher: puts a version into the state */
	DOING_REPLAY, /* publisher: replays DDL */
	DOING_WAIT_LOCAL, /* publisher: waits for the end of a local transaction that has an xid */
	DOING_ATTACH, /* session: waits until the database is attached */
	DOING_HEAD, /* session: waits for the newest version (freshness) */
	DOING_OUTCOME, /* session: waits for the outcome of a commit id */
	DOING_COMMIT, /* session: waits for the outcome of its own commit */
	DOING_ROOM, /* session: waits for compaction, before its commit or in VACUUM */
	DOING_STORE, /* session: waits for the store */
	DOING_UPLOAD /* session: has more segments on their way than the store takes */
} NodeDoing;

/* Requests of one kind of processes to the store, since the server started. */
typedef struct NodeStoreStats
{
	pg_atomic_uint64 gets, puts, lists, deletes, retries, bytes_in, bytes_out;
	struct
	{
		pg_atomic_uint64 attempts, errors, bytes, us, latency[STORE_LATENCIES];
	} requests[STORE_REQUESTS];
} NodeStoreStats;

typedef enum NodeStatsKind
{
	NODE_STATS_COMMITTER,
	NODE_STATS_PUBLISHER,
	NODE_STATS_WORKERS, /* other background workers */
	NODE_STATS_SESSIONS, /* and their parallel workers */
	NODE_STATS_KINDS
} NodeStatsKind;

/* What the compactor is doing, has done, and could not do; see src/compact. */
typedef enum CompactPhase
{
	COMPACT_NONE, /* there is no compactor */
	COMPACT_IDLE,
	COMPACT_READ, /* rewrites rows */
	COMPACT_UPLOAD,
	COMPACT_COMMIT /* waits for its edit's outcome */
} CompactPhase;

typedef struct NodeCompaction
{
	int procno; /* -1 none */
	pg_atomic_uint32 phase; /* CompactPhase */
	pg_atomic_uint64 storage; /* that it works on */
	pg_atomic_uint64 rows, rows_done; /* of the job */
	pg_atomic_uint64 passes; /* over all tables, that found nothing more to do */
	/* since the server started */
	pg_atomic_uint64 jobs, batches_in, batches_out, rows_dropped, bytes_in, bytes_out, lost, failures;
	/* the last failure, under the node's mutex */
	uint64 failed_storage;
	TimestampTz failed_at;
	char error[256];
	ConditionVariable cv; /* a job or a pass has ended */
} NodeCompaction;

/* A version that this node cannot apply, and why (rule 28). */
typedef struct NodeFailure
{
	uint64 version; /* 0: there is none */
	TimestampTz since;
	char object[512]; /* the statement */
	char reason[NODE_ERROR_MAX];
} NodeFailure;

#define NODE_KEY_MAX 96
#define NODE_LEFT 8 /* more of them go when they are too old */
#define NODE_EPOCHS 256

typedef struct S3Node
{
	Oid database;
	char url[NODE_URL_MAX];
	pg_atomic_uint32 phase;
	slock_t mutex; /* facts, error, latches */
	NodeFacts facts;
	char error[NODE_ERROR_MAX];
	uint8 repository[16]; /* uuid, once open */
	uint32 cache_owner; /* of its pages: another one for another repository */
	int committer_procno, /* -1 none */
		publisher_procno;
	struct
	{
		bool publisher, committer, compactor;
	} registered; /* with the postmaster, which starts them again, and not known to have ended for good; the launcher's */
	pg_atomic_uint64 epoch;
	pg_atomic_uint64 former_epoch; /* of the committer before, if it was left in the middle: its members may wait yet */
	pg_atomic_uint64 next_seq; /* of commit ids */
	pg_atomic_uint64 next_object; /* numbers of storages and segments of this epoch */
	uint64 key_hash_seed;
	pg_atomic_uint64 members; /* transactions that the committer has taken and not decided */

	dsa_handle dsa;
	NodeQueue submissions; /* Members, to the committer */
	NodeQueue deliveries; /* to the publisher */
	NodeQueue retired_by_readers; /* blocks that readers have replaced, to the publisher */
	NodeQueue requests; /* questions to the committer, see request.h */
	dsa_pointer pending; /* those that the publisher has taken and not finished */
	dsa_pointer orphans; /* the committers': Members that one which ended had taken and not decided */

	/* positions: version << 16 | step */
	pg_atomic_uint64 head; /* version known to the committer */
	pg_atomic_uint32 stalled; /* the chain cannot be followed at present: see error */
	pg_atomic_uint64 applied; /* position up to which the state was changed */
	pg_atomic_uint64 published; /* position visible to new snapshots */
	pg_atomic_uint64 frozen; /* position visible to every snapshot */
	pg_atomic_uint64 boundary; /* manifests up to this version may have been collected */
	pg_atomic_uint64
		touched; /* ms of the monotonic clock: until then others knew what this server reads (node_touch) */
	/* versions of the oldest and the newest checkpoint that the publisher was told of and is not done with; 0 none */
	pg_atomic_uint64 restoring, restoring_last;
	/* version of the checkpoint that the server started from, as long as some of its pages have not been read (leaves.c); 0 */
	pg_atomic_uint64 base_version;
	pg_atomic_uint64 lost; /* version of a checkpoint that cannot be read any more; 0 none */
	bool gap; /* the publisher's: a checkpoint was left out, and a newer one follows */
	dsa_pointer deferred; /* the publisher's: decisions that wait for the newest one */
	pg_atomic_uint32 served; /* it was attached since the server started: snapshots may be there */
	pg_atomic_uint64 undelivered_bytes; /* of deliveries */
	pg_atomic_uint32 unwanted; /* members that became MEMBER_UNWANTED, and that the committer has not looked at */
	ConditionVariable published_cv;
	ConditionVariable phase_cv;
	pg_atomic_uint64 stamp_first, stamp_next; /* ring indexes, ever growing */
	dsa_pointer stamps; /* StampRing */

	/* freshness probes */
	pg_atomic_uint64 probe_wanted; /* tickets given out */
	pg_atomic_uint64 probe_done; /* tickets answered; probe_version is valid for those */
	pg_atomic_uint64 probe_version;
	ConditionVariable probe_cv;

	NodeStoreStats store_stats[NODE_STATS_KINDS];
	NodeCompaction compaction;
	TimestampTz stats_reset; /* when they began */

	dsa_pointer tables; /* hash of tables, see state.c */
	dsa_pointer sequences; /* dshash, see ddl/sequence.c */
	pg_atomic_uint32 sequences_moved; /* the page of one of them is to be put back; publisher */
	pg_atomic_uint64 epochs[NODE_EPOCHS]; /* live ones; 0 free */
	pg_atomic_uint32 epochs_overflowed;
	NodeFailure failure; /* under mutex */
	pg_atomic_uint32 own_step_pid; /* process whose transaction's end the publisher waits for; 0 none */
	pg_atomic_uint32 leaving; /* process that wants the publisher to leave the database; 0 none */
	pg_atomic_uint32 detached; /* the extension was dropped: the workers end */
	uint64 retire_epoch;
	dsa_pointer retired, retired_last; /* oldest first */
	dsa_pointer history, history_last; /* BatchHistory of all tables, oldest first */
	pg_atomic_uint64 small_bytes; /* memory that batches take which are yet to be merged */
	uint64 commits, conflicts, groups;
	/* the committers': keys of what the one that runs, or ran last, wrote to keep objects; and of what earlier ones did, to be withdrawn */
	char own_pin[NODE_KEY_MAX], own_sign[NODE_KEY_MAX];
	char left[NODE_LEFT][NODE_KEY_MAX];
} S3Node;

/* What becomes of a transaction that can no longer commit what it relies on. */
#define DOOM_NONE 0
#define DOOM_ALL 1 /* it fails at the next look at a table */
#define DOOM_WRITES 2 /* it fails as soon as it writes; what it reads is right */

/* How far a long task of a process is, for s3am.progress alone; torn values do no harm there. */
typedef struct NodeProgress
{
	pg_atomic_uint32 pid; /* whose it is; 0: none */
	const char *command, *phase; /* constants of the library */
	pg_atomic_uint64 objects, objects_total, bytes, bytes_total, problems;
	TimestampTz since;
} NodeProgress;

/* Per process, by pgprocno. */
typedef struct NodeBackend
{
	pg_atomic_uint64 owner; /* number of the transaction that may be doomed */
	pg_atomic_uint32 doomed; /* DOOM_... */
	uint64 doomed_by; /* version */
	pg_atomic_uint64 pin; /* retire epoch that this process may still look at; 0 none */
	pg_atomic_uint64
		first_object; /* objects of this number and higher ones may be its transaction's; 0: it made none */
	pg_atomic_uint64 commit_seq; /* commit id in flight, 0 none */
	dsa_pointer commit_member; /* its Member, if it is a step of its own */
	pg_atomic_uint32 doing; /* NodeDoing; means something only while the process waits */
	pg_atomic_uint32 unseen; /* it runs a parallel plan, and its transaction has changes that no worker sees */
	NodeProgress progress;
} NodeBackend;

extern int node_max_databases;
extern bool node_waited; /* this session has seen its database attached */
extern bool node_serving; /* this process is what the others wait for: it never waits itself */

extern Size node_shmem_size(void);
extern void node_shmem_init(void);

extern S3Node *node_of_database(Oid database); /* NULL: not attached, or not yet */
extern S3Node *node_current(void); /* of MyDatabaseId; NULL as above */
extern S3Node *node_attached(void); /* whose memory this process has attached; NULL */
extern S3Node *node_by_index(int i);
extern uint64 node_generation(void); /* of this shared memory: a crash makes another */
extern int node_index(S3Node *node);
extern S3Node *node_claim(Oid database); /* launcher: a free entry, NULL if there is none */
extern void node_release(S3Node *node); /* publisher: this database is not bound */
extern void node_refuse(Oid database, const char *reason); /* why this database gets no entry, for its sessions */
extern bool node_set_url(S3Node *node, const char *url); /* publisher; false: another database uses it */
/* The database is bound no more: the workers end, and the launcher takes the entry back when they have. */
extern void node_detach(S3Node *node);
extern bool node_take_back(S3Node *node); /* launcher; false: not yet */
extern void node_request(Oid database); /* asks the launcher to look at a database */
extern Oid node_take_request(void); /* launcher; InvalidOid: none */
extern dsa_area *node_dsa(S3Node *node); /* attaches this process */
extern NodeBackend *node_backend(int procno);
extern void node_doing(NodeDoing doing); /* this process, from now on */
extern const char *node_phase_name(S3Node *node); /* NULL: not attached */
extern void node_set_phase(S3Node *node, NodePhase phase, const char *error);
extern int node_tranche(void); /* of the locks in a node's DSA */
extern void node_launcher_wake(void);
extern void node_launcher_register(void);

extern void node_push(S3Node *node, NodeQueue *queue, dsa_pointer item);
extern dsa_pointer node_take_all(S3Node *node, NodeQueue *queue); /* first in, first */
extern void node_wake(int procno);

/* ---- epochs.c */
extern void node_epoch_begin(S3Node *node, uint64 epoch);
extern void node_epoch_end(S3Node *node, uint64 epoch);
extern bool node_epoch_live(S3Node *node, uint64 epoch);

/* ---- horizon.c: what the collector must leave alone */
extern uint64 node_oldest_read(S3Node *node);
extern uint64 node_oldest_object(S3Node *node);
/* The committer's: other servers can tell that this one lives.  known: and have been able to all the time that a collector waits. */
extern void node_touch(S3Node *node, bool known);
/* For a session: was an object that is not there rightly collected, since it serves older snapshots alone, or this server was silent for too long? */
extern bool node_collected(S3Node *node, const char *key);

/* ---- failure.c */
extern bool node_set_failure(S3Node *node, uint64 version, const char *object, const char *reason);
extern bool node_failure(S3Node *node, NodeFailure *failure);

/* Until the node of this session's database is ready, or throws 57P03 with the reason. */
extern S3Node *node_wait_ready(void);
/* Is this database bound to a repository at all (extension created, setting there)? */
extern bool node_database_bound(void);

#define POS(version, step) (((uint64) (version) << 16) | (uint64) (step))
#define POS_VERSION(pos) ((pos) >> 16)
#define POS_STEP_MAX 0xffff
/* The last version that is there as a whole: what is claimed or validated by version must not count a part of one. */
#define POS_WHOLE(pos)                                                                                                 \
	(((pos) &POS_STEP_MAX) == POS_STEP_MAX || (pos) < POS(1, 0) ? POS_VERSION(pos) : POS_VERSION(pos) - 1)

#endif
