/*
 * check.c: the conformance race: may several writers share this store?
 *
 * Whoever loses a race must be told so, whoever wins must find the own bytes, and what was refused must not have changed anything.  An
 * attempt without a verdict (undecided) is neither: it may be the one that landed.  So a round is judged by the verdicts that came,
 * and a store where none comes cannot be judged now.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "store/store.h"

#define MAX_WRITERS 128
#define BODY 32

typedef struct Racer
{
	bool done;
	StoreStatus status;
	uint8_t *data;
	size_t len;
	char etag[136];
	int nentries;
	char first[96]; /* of a list */
	char body[BODY];
	char error[400];
} Racer;

typedef struct Check
{
	Store *store;
	bool (*interrupted)(void);
	StoreVerdict *verdict;
	int writers;
	uint64_t nonce;
	int nkeys; /* keys so far; all are removed at the end */
	char key[96]; /* the one at hand */
	Racer racers[MAX_WRITERS];
} Check;

static void
finished(void *arg, StoreResult *result)
{
	Racer *r = arg;

	r->status = result->status;
	memcpy(r->etag, result->etag, sizeof(r->etag));
	r->nentries = result->nentries;
	if (result->nentries > 0)
		snprintf(r->first, sizeof(r->first), "%s", result->entries[0].key);
	snprintf(r->error, sizeof(r->error), "%s", result->error ? result->error : "");
	if (result->status == STORE_OK && result->data)
	{
		r->len = result->len;
		r->data = store_take(result);
	}
	r->done = true;
}

/*
 * After an interrupt, what was sent gets a moment to end: a write that is cancelled may land after its key was removed.  A moment, since
 * nobody must wait for a store that does not answer.
 */
#define GRACE_MS 500

static int64_t grace_ends;

static bool
grace_over(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000 >= grace_ends;
}

static void
begin_grace(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	grace_ends = (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000 + GRACE_MS;
}

/*
 * Waits for operations that have their memory in the Check, so that all have ended when it returns.  False: interrupted.
 */
static bool
wait_for(Check *c, Racer *racers, StoreOp **ops, int n)
{
	bool (*interrupted)(void) = c->interrupted;
	bool going_on = true;

	for (int i = 0; i < n; i++)
	{
		if (ops[i] == NULL)
		{
			racers[i].status = STORE_UNAVAILABLE;
			snprintf(racers[i].error, sizeof(racers[i].error), "out of memory");
			racers[i].done = true;
		}
		if (store_wait(c->store, &racers[i].done, interrupted))
			continue;
		if (going_on)
		{
			going_on = false;
			begin_grace();
			interrupted = grace_over;
			i--; /* once more */
			continue;
		}
		for (int j = i; j < n; j++)
			if (ops[j] && !racers[j].done)
				store_cancel(c->store, ops[j]);
		interrupted = NULL;
		i--;
	}
	if (!going_on)
		c->verdict->status = STORE_CANCELLED;
	return going_on;
}

static void
next_key(Check *c)
{
	snprintf(c->key, sizeof(c->key), "check/%016llx-%d", (unsigned long long) c->nonce, c->nkeys++);
}

typedef enum Verb
{
	GET,
	PUT,
	CREATE,
	REPLACE,
	LIST,
	REMOVE
} Verb;

/* One operation on the key at hand; the caller frees r->data.  False: interrupted. */
static bool
one(Check *c, Verb verb, const char *body, const char *etag, uint64_t offset, int64_t length, Racer *r)
{
	StoreOp *op = NULL;
	size_t len = body ? strlen(body) : 0;

	memset(r, 0, sizeof(*r));
	switch (verb)
	{
		case GET:
			op = store_get(c->store, c->key, offset, length, finished, r);
			break;
		case PUT:
			op = store_put(c->store, c->key, body, len, finished, r);
			break;
		case CREATE:
			op = store_create(c->store, c->key, body, len, finished, r);
			break;
		case REPLACE:
			op = store_replace(c->store, c->key, etag, body, len, finished, r);
			break;
		case LIST:
			op = store_list(c->store, c->key, NULL, 10, finished, r);
			break;
		case REMOVE:
			op = store_remove(c->store, c->key, finished, r);
			break;
	}
	if (wait_for(c, r, &op, 1))
		return true;
	free(r->data);
	r->data = NULL;
	return false;
}

/* The race cannot go on because of this operation. */
static bool
cannot(Check *c, const Racer *r)
{
	c->verdict->status = r->status;
	snprintf(c->verdict->detail, sizeof(c->verdict->detail), "%s", r->error);
	return false;
}

/* The store is unfit; the first reason is kept. */
static bool __attribute__((format(printf, 3, 4))) unfit(Check *c, bool *property, const char *format, ...)
{
	va_list args;
	size_t used = strlen(c->verdict->detail);

	*property = false;
	if (used > 0)
		return true;
	va_start(args, format);
	(void) vsnprintf(c->verdict->detail, sizeof(c->verdict->detail), format, args);
	va_end(args);
	return true;
}

/* Starts all writers at once, waits, and counts. */
static bool
race(Check *c, const char *etag, int *winners, int *undecided, const Racer **winner)
{
	StoreOp *ops[MAX_WRITERS];

	*winners = *undecided = 0;
	*winner = NULL;
	memset(c->racers, 0, sizeof(c->racers));
	for (int i = 0; i < c->writers; i++)
	{
		Racer *r = &c->racers[i];

		snprintf(r->body, sizeof(r->body), "%s %d", etag ? "replaced" : "writer", i);
		ops[i] = etag ? store_replace(c->store, c->key, etag, r->body, strlen(r->body), finished, r)
					  : store_create(c->store, c->key, r->body, strlen(r->body), finished, r);
	}
	if (!wait_for(c, c->racers, ops, c->writers))
		return false;
	for (int i = 0; i < c->writers; i++)
	{
		Racer *r = &c->racers[i];

		if (r->status == STORE_OK)
		{
			(*winners)++;
			*winner = r;
		}
		else if (r->status != STORE_PRECONDITION)
			(*undecided)++;
	}
	return true;
}

static bool
holds(const Racer *read, const char *body)
{
	return read->status == STORE_OK && read->len == strlen(body) && memcmp(read->data, body, read->len) == 0;
}

/*
 * Something that takes the condition out of a request breaks its signature, so that the store refuses it as badly signed, though it
 * takes the same write without a condition.
 */
static bool
refused(Check *c, const Racer *r)
{
	Racer plain;

	if (!one(c, PUT, "plain", NULL, 0, 0, &plain))
		return false;
	if (plain.status != STORE_OK)
		return cannot(c, r);
	return unfit(c, &c->verdict->create_if_absent,
				 "writes are taken, but not those that depend on the key being absent; something "
				 "between here and the store may change or remove the header If-None-Match (%s)",
				 r->error);
}

/* Concurrent creators of one key.  False: the race cannot go on. */
static bool
create_round(Check *c)
{
	int winners, undecided;
	const Racer *winner;
	Racer back, again;
	bool same;

	if (!race(c, NULL, &winners, &undecided, &winner))
		return false;
	if (winners == 0)
	{
		for (int i = 0; i < c->writers; i++)
			if (c->racers[i].status == STORE_DENIED)
				return refused(c, &c->racers[i]);
		if (undecided > 0)
			return cannot(c, &c->racers[0]);
		return unfit(c, &c->verdict->create_if_absent,
					 "of %d writers that created one new key at once none was told that it did", c->writers);
	}
	if (!one(c, GET, NULL, NULL, 0, -1, &back))
		return false;
	same = holds(&back, winner->body);
	free(back.data);
	if (back.status != STORE_OK && back.status != STORE_NOT_FOUND)
		return cannot(c, &back);
	if (winners != 1)
		return unfit(c, &c->verdict->create_if_absent,
					 "of %d writers that created one key at once %d were told that they did", c->writers, winners);
	if (!same)
		return unfit(c, back.status == STORE_OK ? &c->verdict->create_if_absent : &c->verdict->read_after_write,
					 back.status == STORE_OK ? "a key holds something else than what its creator wrote"
											 : "a key that was created is not there");
	/* and one that comes late */
	if (!one(c, CREATE, "late", NULL, 0, 0, &again))
		return false;
	if (again.status == STORE_OK)
		return unfit(c, &c->verdict->create_if_absent, "a key that exists could be created again");
	return true;
}

/* Is it the quotes that the store does not take?  RGW 16 compares If-Match with the ETag without them. */
static bool
find_etag_form(Check *c, const char *etag)
{
	Racer r;

	for (int form = 0; form < 2; form++)
	{
		c->store->unquoted_etag = form == 1;
		if (!one(c, REPLACE, "form", etag, 0, 0, &r))
			return false;
		if (r.status == STORE_OK)
		{
			c->verdict->unquoted_etag = form == 1;
			return true;
		}
		if (r.status != STORE_PRECONDITION && r.status != STORE_DENIED)
			return cannot(c, &r);
	}
	c->store->unquoted_etag = false;
	return unfit(c, &c->verdict->compare_and_set, "a write that depends on the key's ETag %s is refused (%s)", etag,
				 r.error);
}

/* Concurrent replacers that know the same ETag. */
static bool
replace_round(Check *c, bool first)
{
	int winners, undecided;
	const Racer *winner;
	Racer before, back, stale;
	bool same;

	if (first)
	{
		if (!one(c, GET, NULL, NULL, 0, -1, &before))
			return false;
		free(before.data);
		if (before.status != STORE_OK)
			return cannot(c, &before);
		if (before.etag[0] == '\0')
			return unfit(c, &c->verdict->compare_and_set, "the store tells no ETag");
		if (!find_etag_form(c, before.etag))
			return false;
		if (!c->verdict->compare_and_set)
			return true;
	}
	if (!one(c, GET, NULL, NULL, 0, -1, &before))
		return false;
	free(before.data);
	if (before.status != STORE_OK)
		return cannot(c, &before);
	if (!race(c, before.etag, &winners, &undecided, &winner))
		return false;
	if (winners == 0 && undecided > 0)
		return cannot(c, &c->racers[0]);
	if (winners != 1)
		return unfit(c, &c->verdict->compare_and_set,
					 "of %d writers that replaced one key at once %d were told that they did", c->writers, winners);
	if (!one(c, GET, NULL, NULL, 0, -1, &back))
		return false;
	same = holds(&back, winner->body);
	free(back.data);
	if (back.status != STORE_OK)
		return cannot(c, &back);
	if (!same)
		return unfit(c, &c->verdict->compare_and_set,
					 "a key holds something else than what the one who replaced it wrote");
	if (!one(c, REPLACE, "stale", before.etag, 0, 0, &stale))
		return false;
	if (stale.status == STORE_OK)
		return unfit(c, &c->verdict->compare_and_set, "a key could be replaced by somebody who knew an old ETag");
	return true;
}

/* What is not there cannot be replaced: else it would come back after its removal. */
static bool
absent_round(Check *c)
{
	Racer r;

	next_key(c);
	if (!one(c, REPLACE, "absent", "\"00000000000000000000000000000000\"", 0, 0, &r))
		return false;
	if (r.status == STORE_OK)
		return unfit(c, &c->verdict->compare_and_set, "a key that does not exist could be replaced");
	if (r.status != STORE_NOT_FOUND && r.status != STORE_PRECONDITION)
		return cannot(c, &r);
	return true;
}

static bool
overwrite_round(Check *c, int round)
{
	char body[BODY];
	Racer r;

	snprintf(body, sizeof(body), "0123456789 %d", round);
	if (!one(c, PUT, body, NULL, 0, 0, &r))
		return false;
	if (r.status != STORE_OK)
		return cannot(c, &r);
	if (!one(c, GET, NULL, NULL, 0, -1, &r))
		return false;
	if (r.status != STORE_OK && r.status != STORE_NOT_FOUND)
		return cannot(c, &r);
	if (!holds(&r, body))
		(void) unfit(c, &c->verdict->read_after_write, "what was just written is not what is read");
	free(r.data);
	if (!one(c, GET, NULL, NULL, 3, 4, &r))
		return false;
	if (!holds(&r, "3456"))
		(void) unfit(c, &c->verdict->ranged_get, "a part of an object cannot be read%s%s", r.error[0] ? ": " : "",
					 r.error);
	free(r.data);
	if (!one(c, LIST, NULL, NULL, 0, 0, &r))
		return false;
	if (r.status != STORE_OK)
		return cannot(c, &r);
	if (r.nentries != 1 || strcmp(r.first, c->key) != 0)
		(void) unfit(c, &c->verdict->list_after_write, "what was just written is not listed");
	return true;
}

/* Nothing stays behind, also after a failure or an interrupt; what cannot be removed does not change the verdict. */
static void
remove_keys(Check *c)
{
	StoreVerdict verdict = *c->verdict;
	StoreOp *ops[MAX_WRITERS];

	if (verdict.status == STORE_CANCELLED)
	{
		begin_grace();
		c->interrupted = grace_over;
	}
	for (int first = 0; first < c->nkeys; first += MAX_WRITERS)
	{
		int n = c->nkeys - first < MAX_WRITERS ? c->nkeys - first : MAX_WRITERS;

		memset(c->racers, 0, sizeof(c->racers));
		for (int i = 0; i < n; i++)
		{
			snprintf(c->key, sizeof(c->key), "check/%016llx-%d", (unsigned long long) c->nonce, first + i);
			ops[i] = store_remove(c->store, c->key, finished, &c->racers[i]);
		}
		if (!wait_for(c, c->racers, ops, n))
			break;
	}
	*c->verdict = verdict;
}

void
store_check(Store *store, int writers, int rounds, bool (*interrupted)(void), StoreVerdict *verdict)
{
	Check *c = calloc(1, sizeof(Check));
	bool going_on;

	memset(verdict, 0, sizeof(*verdict));
	if (c == NULL)
	{
		verdict->status = STORE_UNAVAILABLE;
		snprintf(verdict->detail, sizeof(verdict->detail), "out of memory");
		return;
	}
	c->store = store;
	c->interrupted = interrupted;
	c->verdict = verdict;
	c->writers = writers < 2 ? 2 : writers > MAX_WRITERS ? MAX_WRITERS : writers;
	if (getrandom(&c->nonce, sizeof(c->nonce), 0) != sizeof(c->nonce))
		c->nonce = (uintptr_t) c;
	verdict->create_if_absent = verdict->compare_and_set = true;
	verdict->read_after_write = verdict->list_after_write = verdict->ranged_get = true;
	going_on = true;
	for (int round = 0; round < (rounds < 1 ? 1 : rounds) && going_on && verdict->create_if_absent; round++)
	{
		next_key(c);
		going_on = create_round(c);
		if (going_on && verdict->create_if_absent && verdict->compare_and_set)
			going_on = replace_round(c, round == 0);
		if (going_on && verdict->create_if_absent)
			going_on = overwrite_round(c, round);
	}
	if (going_on && verdict->create_if_absent && verdict->compare_and_set)
		going_on = absent_round(c);
	/* what was not tried is not there */
	if (!going_on)
		verdict->create_if_absent = false;
	if (!verdict->create_if_absent)
		verdict->compare_and_set = verdict->read_after_write = verdict->list_after_write = verdict->ranged_get = false;
	remove_keys(c);
	free(c);
}
