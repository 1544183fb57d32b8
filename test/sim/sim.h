/*
 * sim.h: a deterministic world for the commit protocol.
 *
 * One thread, one queue of events by virtual time, one random number generator.  A Proc is a process of a node: it has a real
 * Committer (src/manifest) over a simulated store.  Clients on the nodes make transactions out of what their node has
 * applied.  The oracle (truth.c) sees every object that becomes part of the chain at the moment it does, replays it
 * with a model that shares no code with the committer, and judges every answer.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manifest/committer.h"
#include "manifest/rowset.h"
#include "manifest/rules.h"
#include "store/store.h"

#define NNODES 4
#define NCLIENTS 64 /* at most */
#define NTABLES 4

typedef uint64_t u64;
typedef uint32_t u32;

/* ---------------------------------------------------------------- faults */

#define FAULT_LIST(X)                                                                                                  \
	X(LOST_BEFORE, "request lost")                                                                                     \
	X(LOST_AFTER, "response lost")                                                                                     \
	X(LATE, "request delayed past its timeout")                                                                        \
	X(DUPLICATE, "request delivered twice")                                                                            \
	X(LATE_DUPLICATE, "duplicate delivered after more than 2G")                                                        \
	X(S409, "409")                                                                                                     \
	X(S304, "304 for 412")                                                                                             \
	X(S412_LIE, "412 though the key is absent")                                                                        \
	X(S503, "503")                                                                                                     \
	X(AWAY, "request while the store was away for all")                                                                \
	X(DENIED, "403")                                                                                                   \
	X(DENIED_AFTER, "403 after an undecided attempt")                                                                  \
	X(NO_MEMORY, "no memory for a request")                                                                            \
	X(NO_MEMORY_OBJECT, "no memory for an object to write")                                                            \
	X(BODY_ERROR, "200 with an error body")                                                                            \
	X(TRUNCATED, "truncated body")                                                                                     \
	X(SLOW, "completion overtaken by later ones")                                                                      \
	X(NO_DATE, "response without a date")                                                                              \
	X(STALE_HINT, "stale or false hint")                                                                               \
	X(PAUSE_SHORT, "node paused")                                                                                      \
	X(PAUSE_LONG, "node paused for longer than 2G")                                                                    \
	X(CRASH, "process killed")                                                                                         \
	X(CRASH_IN_PUT, "process killed during a PUT")                                                                     \
	X(CLONE, "second process with the same node identity")                                                             \
	X(CLOCK_JUMP, "node's clock stepped")                                                                              \
	X(SHARED, "transaction handed to two committers")                                                                  \
	X(ZOMBIE, "collected slot created again")                                                                          \
	X(RACE_LOST, "PUT lost a race")                                                                                    \
	X(TAMPER, "manifest replaced by another")                                                                          \
	X(CATCH_UP, "node caught up by checkpoint")

typedef enum Fault
{
#define FAULT_ENUM(name, text) F_##name,
	FAULT_LIST(FAULT_ENUM)
#undef FAULT_ENUM
		NFAULTS
} Fault;

extern u64 fault_count[NFAULTS];
#define COUNT(f) (fault_count[F_##f]++)

/* ---------------------------------------------------------------- what a run is like */

typedef struct Scenario
{
	const char *name;
	/* per mille of requests */
	int lost, slow, odd, /* 409, 503, ... */
		denied, duplicate, late_duplicate;
	/* per mille of chaos rounds */
	int pause, long_pause, crash, clone, clock;
	int away; /* the store answers nothing for longer than a pin lasts */
	int shared; /* per mille of transactions */
	int rows; /* keys per table: few make conflicts */
	int serializable; /* per mille */
	int ddl;
	int think_ms;
	int collect_ms; /* between rounds of collection; 0: none */
	int grace_ms, /* G */
		retention_ms, pin_ms, /* a pin that is older does not count */
		lease_ms;
	int nodes, clients;
	int put_ms; /* a conditional create takes so long; 0: as other requests */
	bool bench; /* sessions only add rows, as fast as they can */
	int adversary; /* per mille: the worst moment for a duplicate that lost, and for a pause of a collector */
	int every; /* versions between checkpoints */
	int segments; /* per mille of batches */
	int memory; /* per mille of requests, and of objects to write, for which there is no memory */
	bool hurried; /* checkpoints are read at once, and nobody holds a snapshot: what is old goes soon */
	int refused; /* per million of allocations of the core: each ends its process, unless the core can go on without */
	int tamper; /* per mille of chaos rounds: the newest manifest is replaced by another */
} Scenario;

extern Scenario sc;
extern const Scenario scenarios[];
extern const int nscenarios;

/* ---------------------------------------------------------------- the world (world.c) */

typedef struct Proc Proc;

extern u64 now_us; /* virtual time */
extern bool calm; /* no more faults: everything must come to an end */
extern u64 steps;

extern void world_reset(u64 seed);
extern u64 rnd(void);
extern u64 rnd_below(u64 n);
extern bool chance(int per_mille);
extern bool fault(int per_mille); /* chance(), but never when calm */

typedef void (*EventFn)(void *arg, u64 x);
extern void
at(u64 when_us, Proc *proc, EventFn fn, void *arg, u64 x); /* proc: postponed while it is paused, dropped when dead */
extern bool world_step(void); /* false: nothing left */

/*
 * The process whose core is on the stack, NULL: none.  Whoever calls the core says so, and whom the core calls says that it is left for
 * the while: what an oracle allocates is never refused.
 */
extern Proc *acting;
extern Proc *core_enter(Proc *proc); /* returns what core_return() wants */
extern Proc *core_leave(void);
extern void core_return(Proc *before);

/* ---------------------------------------------------------------- the store's objects (bucket.c) */

extern const uint8_t *bucket_object(const char *key, size_t *len); /* NULL: none */
extern void bucket_each(const char *prefix, void (*each)(void *arg, const char *key), void *arg);
extern void bucket_put(const char *key, const uint8_t *data, size_t len);
extern bool bucket_fresh(const char *key); /* a sign of life: it counts */
extern void bucket_go_away(void); /* from now on it answers nothing, for longer than a pin lasts */
extern u64 bucket_pinned_at(const char *key); /* the boundary when its present life began */
extern void bucket_pin_continues(const char *from, const char *to);
extern u64 store_date_ms(void);

/* ---------------------------------------------------------------- requests to it (store.c) */

extern Store *sim_store_open(Proc *proc);
extern void sim_store_abandon(Store *store); /* its process is no more: nobody is answered */
extern bool sim_store_putting(Store *store);
extern void
sim_store_forget(EventFn fn, void *arg); /* an event that will not come: what it holds of a request is freed */
extern void sim_store_reset(void);

#define REQUEST_TIMEOUT_US 200000
#define GRACE_MS ((u64) sc.grace_ms)
#define PIN_MS ((u64) sc.pin_ms)

/* ---------------------------------------------------------------- processes (proc.c) */

typedef struct Server Server; /* server.c */

struct Proc
{
	int node; /* index of its identity */
	u64 number;
	bool alive;
	bool clone;
	u64 paused_until;
	int64_t clock_offset_ms;
	int clock_rate; /* per mille */
	Store *store;
	Committer *c;
	u64 tick_number;
	struct CheckpointBuild *build;
	struct Collector *collector;
	u64 build_began, collection_began; /* 0: none under way */
	u64 swept;
	u64 next_segment;
	u64 oldest_segment; /* when the collection began */
	Server *server;
	uint64_t nonce[2]; /* its pin while attaching */
	u64 applied;
	Proc *next; /* all that ever were */
};

extern Proc *procs;
extern Proc *running[NNODES]; /* what clients of a node talk to */
extern uint8_t repository_uuid[16];

extern void proc_start_all(void);
extern void proc_refused(Proc *proc); /* it had no memory, and was left in the middle */
extern void proc_after(Proc *proc); /* something happened in it: its timers */
extern void proc_reset(void);
extern void proc_calm(void);
extern void proc_free(void);
extern void proc_report(void);
extern bool proc_questions(void);
extern bool proc_background(u64 since); /* is background work under way that began before? */
extern bool tamper_found;
extern bool pin_in_use(const char *key, u64 version);
extern void chaos(void *arg, u64 x);

/* ---------------------------------------------------------------- what surrounds a committer (server.c) */

extern Server *server_start(void);
extern void server_stop(Server *s);
extern void server_ready(Server *s);
extern void server_sign(Server *s, const char *key); /* it renews this object */
extern void server_applied(Server *s, u64 version);
extern void server_restored(Server *s, const S3am__Checkpoint *root);
extern u64 server_oldest_read(Server *s, u64 applied);
extern u64 server_published(const Server *s);
extern u64 server_lost(const Server *s);
extern bool server_behind(const Server *s);
extern void server_withdraw(const Server *s, Committer *c);
extern void server_sign_removed(const char *key);
extern void server_segment_removed(const char *key, u64 added, u64 dropped);
extern void server_checkpoint_removed(const char *key, u64 version);
extern void server_reset(void);

/* ---------------------------------------------------------------- transactions (client.c) */

typedef enum ExpectKind
{
	EXPECT_LIVE, /* row a of storage s is live */
	EXPECT_LINEAGE, /* following updates that keep the key, row a leads to a live row */
	EXPECT_SCHEMA, /* table s has schema number a */
	EXPECT_UNCHANGED, /* no row was added to or ended in storage s after version a */
	EXPECT_RANGE, /* no row with a key in b was added to storage s after version a */
	EXPECT_NAME, /* name s was last changed before or in version a */
	EXPECT_BATCHES /* batches a and b of storage s are there */
} ExpectKind;

/* The keys of EXPECT_RANGE. */
#define RANGE_OF(low, high) ((u64) (low) << 32 | (high))
#define RANGE_LOW(range) ((u32) ((range) >> 32))
#define RANGE_HIGH(range) ((u32) (range))

typedef struct Expect
{
	ExpectKind kind;
	u64 s, a, b;
} Expect;

typedef enum Answer
{
	ANSWER_NONE,
	ANSWER_COMMITTED,
	ANSWER_NEVER /* conflict, aborted, fenced: must never be visible */
} Answer;

#define MAX_EXPECT 48

typedef struct ClientTxn
{
	u64 epoch, seq;
	int nexpect;
	Expect expect[MAX_EXPECT];
	S3am__Txn *txn; /* as submitted */
	u64 base;
	Answer answer;
	u64 version; /* in the chain; 0 not */
	u64 first_segment; /* its segments have this number or higher ones; 0: none */
	bool marked; /* an abort mark came first */
	struct ClientTxn *hash_next;
} ClientTxn;

extern void client_start_all(void);
extern void client_reset(void);
extern ClientTxn *client_find(u64 epoch, u64 seq);
extern void client_decided(Proc *proc, void *handle, Outcome outcome, u64 version, const char *detail);
extern void client_crashed(Proc *proc);
extern u64 client_median_us(void);
extern u64 client_oldest_segment(const Proc *proc);
extern int client_pending(void);
extern int client_pending_of(const Proc *proc);
extern bool client_resolve(bool final); /* at the end: every transaction has an outcome that the nodes can tell */
extern void client_check_outcomes(u64 version, u64 epoch, const RowSet *committed, const RowSet *aborted);

/* A row as the tests write it into inline batches. */
typedef struct TestRow
{
	u32 kind;
	u32 key;
	int64_t value;
} TestRow;

/* ---------------------------------------------------------------- the oracle (truth.c) */

typedef struct Row
{
	TestRow row;
	u64 added, ended; /* versions; 0: not */
	u64 successor; /* row id + 1 of the same storage; 0 none */
	bool key_changed; /* ended by a removal or a change of key */
} Row;

typedef struct Storage
{
	u64 id;
	int table;
	u64 created, dropped;
	Row *rows;
	size_t nrows, capacity;
	u64 last_change; /* version of the last add or end */
	struct BatchInfo *batches;
	size_t nbatches, batch_capacity;
} Storage;

typedef struct BatchInfo
{
	u64 first, nrows, added, dropped, segment_epoch, /* 0: inline */
		segment_number;
} BatchInfo;

extern u64 head; /* version */
extern u64 schema_of[NTABLES]; /* number of schema changes, now */
extern void truth_reset(void);
extern void truth_created(const char *key, const uint8_t *data, size_t len); /* a conditional create landed */
extern void truth_applied(Proc *proc, u64 version, const bool *voided, const uint8_t *object, size_t len);
extern Storage *truth_storage(u64 id);
extern Storage *truth_table(int table, u64 version); /* its storage then; NULL: none */
extern bool truth_segment(u64 epoch, u64 number, u64 *added, u64 *dropped);
extern size_t truth_count_storages(u64 version);
extern size_t truth_count_ddl(u64 version);
extern void truth_digest(u64 version, uint8_t digest[16]);
extern void truth_restored(Proc *proc, const S3am__Checkpoint *root);
extern bool objects_complete(u64 version);
extern void objects_published(const S3am__CheckpointRef *ref);
extern void objects_removed(const char *key);
extern void objects_boundary(const uint8_t *object, size_t len);
extern u64 objects_boundary_now(void);
extern u64 objects_needed(const char *key);
extern void objects_reset(void);
extern u64 truth_schema(int table, u64 version);
extern u64 truth_name(u32 name, u64 version); /* last version up to then that changed it */
static inline bool
row_live(const Row *r, u64 version)
{
	return r->added && r->added <= version && (r->ended == 0 || r->ended > version);
}

/* ---------------------------------------------------------------- reports (main.c) */

extern void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void violation(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
extern u64 counters[16];
enum
{
	N_COMMITTED,
	N_CONFLICT,
	N_ABORTED,
	N_FENCED,
	N_VERSIONS,
	N_PROBES,
	N_VOID,
	N_CHECKPOINTS,
	N_COLLECTED,
	N_MARKED,
	N_RESTORED,
	N_STALLED,
	N_LOST,
	N_REFUSED
};

#endif
