/*
 * leaves_ahead.c: see leaves_ahead.h.
 *
 * Sessions read the leaves that they need (node/leaves.c).  As long as any is left, this server keeps that checkpoint, and all newer
 * ones, from being collected.  So the others are read, too, a few at a time, when the server has served for a moment: nobody waits for that.
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "manifest/keys.h"
#include "node/state.h"
#include "worker/leaves_ahead.h"

#define DELAY_MS 1000 /* after the server began to serve: its first sessions have the machine for themselves */
#define READS 4 /* on their way at a time */
#define PAUSE_MIN_MS 1000 /* after one that failed */
#define PAUSE_MAX_MS 10000

typedef struct LeafRead
{
	BaseLeaf *leaf; /* NULL: free */
	StoreOp *op;
	bool done;
	StoreStatus status;
	uint8 *data;
	size_t len;
	char error[256];
} LeafRead;

static S3Node *node;
static Store *store;
static MemoryContext cxt;
static LeafRead reads[READS];
static int nreads;
/* what was left when it was looked; pinned while there is anything */
static BaseLeaf **leaves;
static uint32 nleaves, leaves_capacity, next;
static bool looked;
static uint64 begin_at; /* ms; 0: there was nothing to read yet */
static bool failed; /* some read since it was looked */
static int failures;
static char told[NODE_ERROR_MAX];

static uint64
clock_ms(void)
{
	instr_time t;

	INSTR_TIME_SET_CURRENT(t);
	return (uint64) INSTR_TIME_GET_MILLISEC(t);
}

void
leaves_ahead_begin(S3Node *of, Store *on)
{
	node = of;
	store = on;
	cxt = AllocSetContextCreate(TopMemoryContext, "s3am leaves ahead", ALLOCSET_DEFAULT_SIZES);
}

/* ------------------------------------------------------------------------------------ what is left */

/* No memory: the rest follows when this is read. */
static bool
add_leaf(BaseLeaf *leaf)
{
	if (nleaves == leaves_capacity)
	{
		uint32 capacity = Max(leaves_capacity * 2, 64);
		BaseLeaf **grown = realloc(leaves, sizeof(BaseLeaf *) * capacity);

		if (grown == NULL)
			return false;
		leaves = grown;
		leaves_capacity = capacity;
	}
	leaves[nleaves++] = leaf;
	return true;
}

static void
look_at(void *arg, TableState *table)
{
	uint64 dropped = table->dropped;
	bool *all = arg;
	TableBase *base;

	/* nobody will read it */
	if (!DsaPointerIsValid(table->base) || (dropped != 0 && dropped <= pg_atomic_read_u64(&node->frozen)))
		return;
	base = dsa_get_address(node_dsa(node), table->base);
	for (uint32 i = 0; i < base->n && *all; i++)
		if (!base->leaves[i].over && !leaf_is_read(&base->leaves[i]))
			*all = add_leaf(&base->leaves[i]);
}

/* False: nothing is left. */
static bool
look(void)
{
	bool all = true;

	state_pin(node);
	nleaves = next = 0;
	failed = false;
	state_each(node, look_at, &all);
	looked = nleaves > 0;
	if (!looked)
		state_unpin_all();
	return looked || !all;
}

static void
let_go(void)
{
	looked = false;
	state_unpin_all();
}

/* ------------------------------------------------------------------------------------ reading */

static void
read_done(void *arg, StoreResult *result)
{
	LeafRead *r = arg;

	r->status = result->status;
	r->len = result->len;
	r->data = result->status == STORE_OK ? store_take(result) : NULL;
	strlcpy(r->error, result->error ? result->error : "", sizeof(r->error));
	r->done = true;
}

static void
start_reads(void)
{
	for (int i = 0; i < READS && next < nleaves; i++)
	{
		LeafRead *r = &reads[i];
		char key[KEY_SIZE];

		/* a session may have been faster */
		while (next < nleaves && leaf_is_read(leaves[next]))
			next++;
		if (r->leaf || next == nleaves)
			continue;
		key_page(key, leaves[next]->epoch, leaves[next]->number);
		memset(r, 0, sizeof(*r));
		r->op = store_get(store, key, 0, -1, read_done, r);
		if (r->op == NULL)
			return;
		r->leaf = leaves[next++];
		nreads++;
	}
}

/* The first trouble of a round, if it is not the one of the round before. */
static void
tell(const BaseLeaf *leaf, const char *error)
{
	char key[KEY_SIZE], text[NODE_ERROR_MAX];

	if (failed)
		return;
	failed = true;
	key_page(key, leaf->epoch, leaf->number);
	snprintf(text, sizeof(text), "%s: %s", key, error);
	if (strcmp(told, text) == 0)
		return;
	strlcpy(told, text, sizeof(told));
	ereport(LOG, (errmsg("s3am: a page of the checkpoint that repository \"%s\" was attached with cannot be read ahead",
						 node->url),
				  errdetail_internal("%s", text), errhint("It is tried again; who needs its rows is told.")));
}

/* What was read becomes visible.  The leaf stays: it is pinned. */
static void
take(LeafRead *r)
{
	if (r->status != STORE_OK)
	{
		/* there is nothing left that could be kept from being collected */
		if (r->status == STORE_NOT_FOUND)
			r->leaf->over = true;
		tell(r->leaf, r->error[0] ? r->error : "it cannot be read");
		return;
	}
	PG_TRY();
	{
		MemoryContextSwitchTo(cxt);
		leaf_take(node, r->leaf, r->data, r->len);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		tell(r->leaf, error->detail ? error->detail : error->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(cxt);
}

static void
end_read(LeafRead *r)
{
	free(r->data);
	memset(r, 0, sizeof(*r));
	nreads--;
}

/* At most one: commits wait for this process. */
static bool
take_one(void)
{
	for (int i = 0; i < READS; i++)
		if (reads[i].leaf && reads[i].done)
		{
			take(&reads[i]);
			end_read(&reads[i]);
			return true;
		}
	return false;
}

int64
leaves_ahead_tick(void)
{
	uint64 now;
	bool took;

	if (pg_atomic_read_u64(&node->base_version) == 0 || !pg_atomic_read_u32(&node->served))
		return 1000;
	now = clock_ms();
	if (begin_at == 0)
		begin_at = now + DELAY_MS;
	if (now < begin_at)
		return begin_at - now;
	if (!looked && !look())
	{
		pg_atomic_write_u64(&node->base_version, 0);
		begin_at = 0;
		failures = 0;
		return 1000;
	}
	took = take_one();
	start_reads();
	if (nreads > 0)
		return took ? 0 : 20;
	if (next < nleaves)
		return 100; /* no memory to ask */
	let_go();
	if (!failed)
		return 0;
	begin_at = now + Min((uint64) PAUSE_MIN_MS << Min(failures, 4), PAUSE_MAX_MS);
	failures++;
	return begin_at - now;
}

void
leaves_ahead_end(void)
{
	for (int i = 0; i < READS; i++)
		if (reads[i].leaf && !reads[i].done)
			store_cancel(store, reads[i].op);
	if (looked)
		let_go();
}
