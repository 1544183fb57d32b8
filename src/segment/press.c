/*
 * press.c: see press.h.
 *
 * A process that fills pages as quickly as it can is held up by compressing them, so a thread does that meanwhile, one per process.  The
 * thread knows a page, the layout of its columns and memory from malloc(); it calls zstd and columns.c, nothing of PostgreSQL's, and
 * takes no signals.  A page belongs to one of the two at a time: the mutex says to whom.  Where no thread can be had, or it has no time,
 * its process does the work itself.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <zstd.h>

#include "segment/press.h"

#ifndef COMPRESS_FROM
#define COMPRESS_FROM 1024
#endif
#define LEVEL_COLUMNS 2
#define LEVEL 1
#define JOBS 8 /* pages of one writer that are under way */
#define PAGE_ROOM (PAGE_TARGET + 64 * 1024) /* larger pages are rare, and made at once */
#define STACK_SIZE (256 * 1024)

/* What one of the two needs for its work; kept, since all pages are alike. */
typedef struct Tools
{
	ZSTD_CCtx *zstd;
	char *split;
	Size split_size;
	uint32 *offsets;
	Size noffsets;
} Tools;

typedef enum JobState
{
	FREE,
	FILLED, /* waits for somebody to press it */
	TAKEN,
	PRESSED
} JobState;

typedef struct Job
{
	JobState state;
	uint32 raw, nrows;
	char *page;
	ExtentHeader *out;
} Job;

struct Press
{
	Press *next; /* with work for the thread */
	const ColumnLayout *columns;
	int ncolumns;
	PressSums *own, sums; /* of the process, of the thread */
	uint64 put, got; /* pages: job of page n is n % JOBS */
	Job jobs[JOBS];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, pressed = PTHREAD_COND_INITIALIZER;
static Press *presses;
static bool have_thread;
static Tools own_tools; /* of the process itself */

Size
press_bound(Size raw)
{
	return sizeof(ExtentHeader) + Max(ZSTD_compressBound(raw), raw) + 8;
}

static bool
need(void **memory, Size *have, Size wanted, Size unit)
{
	if (*have >= wanted)
		return true;
	free(*memory);
	*have = 0;
	*memory = malloc(wanted * unit);
	if (*memory == NULL)
		return false;
	*have = wanted;
	return true;
}

/* Where the page's values are, if there is memory for that; NULL: there is none. */
static const uint32 *
find(Tools *tools, const char *page, uint32 nrows, const ColumnLayout *columns, int ncolumns, Size *size)
{
	if (!need((void **) &tools->offsets, &tools->noffsets, (Size) nrows * Max(ncolumns, 1), sizeof(uint32)))
		return NULL;
	*size = columns_find(columns, ncolumns, page, nrows, tools->offsets);
	return tools->offsets;
}

/* What the footer says of these values. */
static void
sum_up(Summary *sums, int ncolumns, const char *page, uint32 nrows, const uint32 *offsets)
{
	const uint32 *starts = (const uint32 *) page;
	uint32 gone = 0;

	for (uint32 r = 0; r < nrows; r++)
		gone += (starts[r] & ROW_GONE) != 0;
	for (int c = 0; c < ncolumns; c++)
	{
		const uint32 *column = offsets + (Size) c * nrows;
		uint32 missing = 0;

		for (uint32 r = 0; r < nrows; r++)
			missing += column[r] == NO_VALUE;
		sums[c].nulls += missing - gone;
		summary_add_column(&sums[c], page, column, nrows);
	}
}

/* The page by columns, if there is memory for it and that is smaller; NULL: not. */
static const char *
split(Tools *tools, const char *page, uint32 raw, uint32 nrows, const ColumnLayout *columns, int ncolumns, Size size,
	  const uint32 *offsets, Size *len)
{
	if (!need((void **) &tools->split, &tools->split_size, raw, 1))
		return NULL;
	*len = columns_split(columns, ncolumns, page, raw, nrows, tools->split, size, offsets);
	return *len ? tools->split : NULL;
}

static void
press_extent(Tools *tools, ExtentKind kind, uint32 nrows, const char *data, uint32 raw, const ColumnLayout *columns,
			 int ncolumns, PressSums *sums, ExtentHeader *to)
{
	bool by_columns = kind == EXTENT_PAGE && nrows > 1 && raw >= COMPRESS_FROM;
	const uint32 *offsets = NULL;
	Size size = 0;

	if (kind == EXTENT_PAGE && (sums || by_columns))
	{
		offsets = find(tools, data, nrows, columns, ncolumns, &size);
		if (sums && offsets)
			sum_up(sums->columns, ncolumns, data, nrows, offsets);
		else if (sums)
			sums->short_of_memory = true;
	}
	memset(to, 0, sizeof(*to));
	to->kind = kind;
	to->nrows = nrows;
	to->raw = to->stored = raw;
	if (raw >= COMPRESS_FROM && (tools->zstd || (tools->zstd = ZSTD_createCCtx()) != NULL))
	{
		const char *from = data;
		Size len = raw, n;
		int level = LEVEL;

		to->compression = EXTENT_ZSTD;
		if (by_columns && offsets)
		{
			const char *other = split(tools, data, raw, nrows, columns, ncolumns, size, offsets, &len);

			if (other)
			{
				from = other;
				level = LEVEL_COLUMNS;
				to->compression = EXTENT_ZSTD_COLUMNS;
			}
			else
				len = raw;
		}
		n = ZSTD_compressCCtx(tools->zstd, to + 1, press_bound(raw) - sizeof(ExtentHeader), from, len, level);
		if (!ZSTD_isError(n) && n < raw)
			to->stored = n;
		else
			to->compression = EXTENT_PLAIN;
	}
	if (to->compression == EXTENT_PLAIN)
		memcpy(to + 1, data, raw);
}

void
press_now(ExtentKind kind, uint32 nrows, const char *data, uint32 raw, const ColumnLayout *columns, int ncolumns,
		  PressSums *sums, ExtentHeader *to)
{
	press_extent(&own_tools, kind, nrows, data, raw, columns, ncolumns, sums, to);
}

/* ------------------------------------------------------------------------------------ the thread */

/* The oldest page of this writer that nobody has begun; under the mutex. */
static Job *
filled_job(Press *press)
{
	for (uint64 n = press->got; n < press->put; n++)
		if (press->jobs[n % JOBS].state == FILLED)
			return &press->jobs[n % JOBS];
	return NULL;
}

/* Does a job; under the mutex, which is released meanwhile. */
static void
run_job(Press *press, Job *job, Tools *tools, PressSums *sums)
{
	job->state = TAKEN;
	pthread_mutex_unlock(&mutex);
	press_extent(tools, EXTENT_PAGE, job->nrows, job->page, job->raw, press->columns, press->ncolumns, sums, job->out);
	pthread_mutex_lock(&mutex);
	job->state = PRESSED;
}

static void *
thread_main(void *arg)
{
	static Tools tools;

	pthread_mutex_lock(&mutex);
	for (;;)
	{
		Press *press = presses;
		Job *job = NULL;

		while (press && (job = filled_job(press)) == NULL)
			press = press->next;
		if (job == NULL)
		{
			(void) pthread_cond_wait(&work, &mutex);
			continue;
		}
		run_job(press, job, &tools, &press->sums);
		pthread_cond_signal(&pressed);
	}
	return NULL;
}

/* A process has one for the rest of its life.  On a single core it would only be in the way. */
static bool
need_thread(void)
{
	static bool tried = false;
	pthread_t thread;
	pthread_attr_t attributes;
	sigset_t all, before;

	if (tried)
		return have_thread;
	tried = true;
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || pthread_attr_init(&attributes) != 0)
		return false;
	(void) pthread_attr_setstacksize(&attributes, STACK_SIZE);
	(void) pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	(void) pthread_sigmask(SIG_SETMASK, &all, &before);
	have_thread = pthread_create(&thread, &attributes, thread_main, NULL) == 0;
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return have_thread;
}

/* ------------------------------------------------------------------------------------ its process */

Press *
press_create(const ColumnLayout *columns, int ncolumns, PressSums *sums)
{
	Press *press = need_thread() ? calloc(1, sizeof(Press)) : NULL;

	if (press == NULL || (press->sums.columns = malloc(sizeof(Summary) * Max(ncolumns, 1))) == NULL)
	{
		free(press);
		return NULL;
	}
	/* of the same kinds; nothing has been seen */
	memcpy(press->sums.columns, sums->columns, sizeof(Summary) * ncolumns);
	press->own = sums;
	press->columns = columns;
	press->ncolumns = ncolumns;
	pthread_mutex_lock(&mutex);
	press->next = presses;
	presses = press;
	pthread_mutex_unlock(&mutex);
	return press;
}

void
press_free(Press *press)
{
	Press **link = &presses;

	pthread_mutex_lock(&mutex);
	while (*link != press)
		link = &(*link)->next;
	*link = press->next;
	for (int i = 0; i < JOBS; i++)
		while (press->jobs[i].state == TAKEN)
			(void) pthread_cond_wait(&pressed, &mutex);
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < JOBS; i++)
	{
		free(press->jobs[i].page);
		free(press->jobs[i].out);
	}
	free(press->sums.columns);
	free(press);
}

void
press_sum(Press *press)
{
	Assert(press->got == press->put);
	for (int i = 0; i < press->ncolumns; i++)
		summary_merge(&press->own->columns[i], &press->sums.columns[i]);
	press->own->short_of_memory |= press->sums.short_of_memory;
}

char *
press_room(Press *press, Size raw)
{
	Job *job = &press->jobs[press->put % JOBS];

	if (raw > PAGE_ROOM || press->put - press->got == JOBS)
		return NULL;
	if (job->page == NULL)
		job->page = malloc(PAGE_ROOM);
	if (job->out == NULL)
		job->out = malloc(press_bound(PAGE_ROOM));
	return job->out ? job->page : NULL;
}

void
press_put(Press *press, Size raw, uint32 nrows)
{
	Job *job = &press->jobs[press->put % JOBS];

	job->raw = raw;
	job->nrows = nrows;
	pthread_mutex_lock(&mutex);
	job->state = FILLED;
	press->put++;
	pthread_cond_signal(&work);
	pthread_mutex_unlock(&mutex);
}

ExtentHeader *
press_get(Press *press)
{
	Job *job = &press->jobs[press->got % JOBS];

	if (press->got == press->put)
		return NULL;
	pthread_mutex_lock(&mutex);
	while (job->state != PRESSED)
	{
		Job *other = filled_job(press);

		if (other)
			run_job(press, other, &own_tools, press->own);
		else
			(void) pthread_cond_wait(&pressed, &mutex);
	}
	job->state = FREE;
	press->got++;
	pthread_mutex_unlock(&mutex);
	return job->out;
}
