/*
 * upkeep.c: see upkeep.h.
 *
 * All of it is safe on any number of servers at once (rules 4, 13, 35, 36), so who does it is a matter of work saved alone: the
 * servers' rank is the place of their epoch among the live ones.  The first makes checkpoints and collects; the others
 * do so when it is overdue, each a little later than the one before, so a first that is slow, or away, is replaced.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/pg_prng.h"
#include "portability/instr_time.h"

#include "manifest/checkpoint.h"
#include "node/request.h"
#include "s3am.h"
#include "worker/trouble.h"
#include "worker/upkeep.h"

#define HISTORY 4096 /* versions whose place in the stream of bytes is known */
#define PAUSE_MIN_MS 1000 /* after a checkpoint that failed */
#define PAUSE_MAX_MS 60000
#define MAX_FOUND 10000 /* objects told to a session */
/* intervals between the passes of those that are not first: their own leftovers wait that long */
#define OTHERS_COLLECT 8

static UpkeepConfig cfg;
static Collector *collector;
static CheckpointBuild *build;
static bool collecting;
static uint64 swept; /* segments dropped up to this version are deleted */

/* bytes of manifests applied so far, after each of the last versions */
static uint64 total;
static uint64 totals[HISTORY];
static uint64 last_version, first_version;
static uint64 last_work; /* version that did more than publish a checkpoint */

static uint64 seen_checkpoint; /* its version */
static uint64 seen_at; /* when it was seen first, ms */
static uint64 retry_at;
static int failures;
static uint64 collect_at;
static dsa_pointer asked; /* requests of sessions, linked */
static dsa_pointer answering; /* the one for which a pass runs */
static char *found; /* what is to be told to it */
static Size found_len, found_capacity;
static int nfound;
static Trouble no_checkpoint, no_collection;

static uint64
clock_ms(void)
{
	instr_time t;

	INSTR_TIME_SET_CURRENT(t);
	return (uint64) INSTR_TIME_GET_MILLISEC(t);
}

/* error: NULL if it went well. */
static void
tell(Trouble *trouble, const char *what, const char *error)
{
	if (error == NULL)
		(void) trouble_over(trouble);
	else if (trouble_tell(trouble, error, clock_ms()))
		ereport(LOG, (errmsg("s3am: %s of repository \"%s\" has to be tried again: %s", what, cfg.node->url, error)));
}

void
upkeep_begin(const UpkeepConfig *config)
{
	cfg = *config;
	collector = collector_create(cfg.committer, cfg.store, cfg.repository->uuid.data);
}

void
upkeep_restored(uint64 version)
{
	first_version = last_version = version;
	totals[version % HISTORY] = total;
}

void
upkeep_applied(const S3am__Manifest *manifest, Size bytes)
{
	total += bytes;
	last_version = manifest->version;
	totals[last_version % HISTORY] = total;
	if (last_version - first_version >= HISTORY)
		first_version = last_version - HISTORY + 1;
	if (manifest->n_steps)
		last_work = last_version;
}

/* ------------------------------------------------------------------------------------ who does it */

typedef struct Rank
{
	uint64 own;
	int before;
} Rank;

static bool
count_before(void *arg, uint64_t epoch, uint64_t begun_ms)
{
	Rank *rank = arg;

	rank->before += epoch < rank->own;
	return true;
}

static int
own_rank(void)
{
	Rank rank = {committer_epoch(cfg.committer), 0};

	committer_live_epochs(cfg.committer, count_before, &rank);
	return rank.before;
}

/* ------------------------------------------------------------------------------------ checkpoints */

static void
built(void *arg, bool published, const char *error)
{
	build = NULL;
	if (published)
	{
		failures = 0;
		tell(&no_checkpoint, "a checkpoint", NULL);
		if (log_checkpoints)
			ereport(LOG, (errmsg("s3am: checkpoint of version " UINT64_FORMAT " of repository \"%s\" is complete",
								 committer_checkpoint(cfg.committer)->version, cfg.node->url)));
		return;
	}
	failures++;
	retry_at = clock_ms() + PAUSE_MIN_MS + pg_prng_uint64_range(&pg_global_prng_state, 0, PAUSE_MIN_MS) +
			   Min((uint64) PAUSE_MIN_MS << Min(failures, 6), PAUSE_MAX_MS);
	/* another server's being faster is no trouble */
	if (error && (committer_checkpoint(cfg.committer) == NULL ||
				  committer_checkpoint(cfg.committer)->version == seen_checkpoint))
		tell(&no_checkpoint, "a checkpoint", error);
}

static bool
checkpoint_due(uint64 now)
{
	const S3am__CheckpointRef *current = committer_checkpoint(cfg.committer);
	uint64 version = current ? current->version : 0;
	uint64 from = Max(version, first_version);
	uint64 bytes = total - (from <= last_version ? totals[from % HISTORY] : total);
	uint64 late;

	if (version != seen_checkpoint || seen_at == 0)
	{
		seen_checkpoint = version;
		seen_at = now;
	}
	if (s3am_checkpoint_interval == 0 || now < retry_at || last_work <= version)
		return false;
	/* halves of an interval */
	late = 2 + own_rank();
	if ((last_version - version) * 2 >= s3am_checkpoint_interval * late ||
		bytes * 2 >= (uint64) s3am_checkpoint_bytes * 1024 * late)
		return true;
	/* what was dropped can be deleted only when a checkpoint has it no more */
	return s3am_collect_interval > 0 && (now - seen_at) * 2 >= (uint64) s3am_collect_interval * late;
}

static void
begin_checkpoint(void)
{
	CheckpointConfig config = {0};

	config.done = built;
	config.outcome_retention_ms = cfg.repository->outcome_retention_ms;
	config.swept = swept;
	build = checkpoint_begin(&config, cfg.committer, cfg.store, cfg.repository->uuid.data);
}

/* ------------------------------------------------------------------------------------ collection */

static uint64 oldest_object; /* when the pass began: what was committed since is named by its state or by a later one */

static bool
in_use(void *arg, uint64_t epoch, uint64_t number)
{
	return number >= oldest_object;
}

static void
plan_collection(uint64 now)
{
	uint64 wait = (uint64) s3am_collect_interval * (own_rank() == 0 ? 1 : OTHERS_COLLECT);

	collect_at = now + wait - pg_prng_uint64_range(&pg_global_prng_state, 0, wait / 8);
}

static void
add_found(const char *text)
{
	Size len = strlen(text) + 1;

	memcpy(found + found_len, text, len);
	found_len += len;
}

/* No memory here is no reason to end the process: the session is told less. */
static void
deleting(void *arg, const char *key, const char *why, uint64_t size)
{
	char bytes[24];
	Size len;

	snprintf(bytes, sizeof(bytes), UINT64_FORMAT, (uint64) size);
	len = strlen(key) + strlen(why) + strlen(bytes) + 3;
	if (nfound == MAX_FOUND)
		return;
	if (found_len + len > found_capacity)
	{
		Size capacity = Max(found_capacity * 2, 65536);
		char *grown = realloc(found, capacity);

		if (grown == NULL)
			return;
		found = grown;
		found_capacity = capacity;
	}
	nfound++;
	add_found(key);
	add_found(why);
	add_found(bytes);
}

static void
answer(dsa_pointer p, RequestAnswer answer, const char *text, Size len)
{
	Request *request = dsa_get_address(node_dsa(cfg.node), p);

	if (text && len > 0)
	{
		request->result = dsa_allocate_extended(node_dsa(cfg.node), len, DSA_ALLOC_HUGE | DSA_ALLOC_NO_OOM);
		if (DsaPointerIsValid(request->result))
		{
			memcpy(dsa_get_address(node_dsa(cfg.node), request->result), text, len);
			request->result_len = len;
		}
	}
	request_answer(cfg.node, p, answer, 0);
}

static void
answer_collected(const char *error)
{
	if (!DsaPointerIsValid(answering))
		return;
	if (error)
		answer(answering, ANSWER_FAILED, error, strlen(error) + 1);
	else
		answer(answering, ANSWER_DONE, found, found_len);
	answering = InvalidDsaPointer;
	free(found);
	found = NULL;
	found_len = found_capacity = nfound = 0;
}

void
upkeep_collect(dsa_pointer request)
{
	((Request *) dsa_get_address(node_dsa(cfg.node), request))->next = asked;
	asked = request;
}

void
upkeep_hand_back(void)
{
	if (DsaPointerIsValid(answering))
		node_push(cfg.node, &cfg.node->requests, answering);
	answering = InvalidDsaPointer;
	while (DsaPointerIsValid(asked))
	{
		dsa_pointer p = asked;

		asked = ((Request *) dsa_get_address(node_dsa(cfg.node), p))->next;
		node_push(cfg.node, &cfg.node->requests, p);
	}
}

static void
collected(void *arg, const CollectReport *report, const char *error)
{
	bool dry_run = arg != NULL;

	collecting = false;
	plan_collection(clock_ms());
	answer_collected(error);
	if (dry_run)
		return;
	if (report->swept != PG_UINT64_MAX)
		swept = Max(swept, report->swept);
	tell(&no_collection, "a collection", error);
	if (report->manifests + report->checkpoints + report->pages + report->segments + report->others > 0)
		ereport(LOG,
				(errmsg("s3am: " UINT64_FORMAT " manifests, " UINT64_FORMAT " segments and " UINT64_FORMAT
						" other objects (" UINT64_FORMAT " kB) that nobody needs any more were deleted from \"%s\"",
						report->manifests, report->segments, report->checkpoints + report->pages + report->others,
						report->bytes / 1024, cfg.node->url)));
}

static void
fill_collection(CollectConfig *config)
{
	memset(config, 0, sizeof(*config));
	config->retention_ms = cfg.repository->retention_ms;
	config->grace_ms = cfg.repository->grace_ms ? cfg.repository->grace_ms : 600000;
	config->pin_ms = s3am_pin_timeout;
	config->first_page = build ? checkpoint_first_page(build) : committer_new_page(cfg.committer);
	config->in_use = in_use;
	oldest_object = cfg.oldest_object();
}

/* A session's, or NULL if it is just time.  False: there is nothing that could be collected yet. */
static bool
begin_collection(Request *request)
{
	CollectConfig config;

	fill_collection(&config);
	config.done = collected;
	if (request)
	{
		config.deleting = deleting;
		config.dry_run = request->dry_run;
		config.arg = request->dry_run ? &cfg : NULL;
	}
	collecting = collector_run(collector, &config);
	return collecting;
}

static void
begin_asked(void)
{
	dsa_pointer p = asked;
	Request *request = dsa_get_address(node_dsa(cfg.node), p);

	asked = request->next;
	answering = p;
	if (!begin_collection(request))
		answer_collected(NULL);
}

/* ------------------------------------------------------------------------------------ turns */

int64
upkeep_tick(void)
{
	uint64 now = clock_ms();
	bool more = checkpoint_tick(build);

	collector_tick(collector);
	if (committer_phase(cfg.committer) != COMMITTER_READY)
	{
		while (DsaPointerIsValid(asked) && committer_phase(cfg.committer) != COMMITTER_JOINING)
		{
			dsa_pointer p = asked;

			asked = ((Request *) dsa_get_address(node_dsa(cfg.node), p))->next;
			answer(p, ANSWER_READ_ONLY, NULL, 0);
		}
		return 1000;
	}
	if (DsaPointerIsValid(asked) && !collecting)
		begin_asked();
	if (build == NULL && checkpoint_due(now))
	{
		begin_checkpoint();
		more = true;
	}
	if (s3am_collect_interval == 0)
		collect_at = 0;
	else if (collect_at == 0 || collect_at > now + (uint64) s3am_collect_interval * OTHERS_COLLECT ||
			 (!collecting && now >= collect_at && !begin_collection(NULL)))
		plan_collection(now);
	if (more)
		return 0;
	if (s3am_collect_interval == 0 || collecting || collect_at <= now)
		return 1000;
	return collect_at - now;
}
