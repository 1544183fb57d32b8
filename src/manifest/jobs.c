/*
 * jobs.c: see jobs.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/jobs.h"
#include "manifest/keys.h"
#include "manifest/memory.h"

#define MAX_ATTEMPTS 10
#define LIST_LIMIT 1000

typedef enum JobKind
{
	JOB_GET,
	JOB_LIST,
	JOB_REMOVE,
	JOB_PUT,
	JOB_CREATE,
	JOB_REPLACE
} JobKind;

typedef struct Job
{
	Jobs *jobs;
	struct Job *next;
	struct Job **link;
	StoreOp *op;
	JobKind kind;
	char key[KEY_SIZE];
	char extra[136];
	bool more; /* extra is where a list goes on */
	uint8_t *data;
	size_t len;
	int attempts;
	StoreCallback cb;
	void *arg;
	void *copy; /* of the argument */
} Job;

struct Jobs
{
	Store *store;
	Job *first;
	int n;
	bool waiting; /* for some there was no memory: their op is NULL */
	bool cancelled;
};

Jobs *
jobs_create(Store *store)
{
	Jobs *jobs = memory_need_zeroed(1, sizeof(*jobs));

	jobs->store = store;
	return jobs;
}

int
jobs_under_way(const Jobs *jobs)
{
	return jobs->n;
}

static void finished(void *arg, StoreResult *result);

static void
start(Job *job)
{
	Store *store = job->jobs->store;

	job->attempts++;
	switch (job->kind)
	{
		case JOB_GET:
			job->op = store_get(store, job->key, 0, -1, finished, job);
			break;
		case JOB_LIST:
			job->op = store_list(store, job->key, job->more ? job->extra : NULL, LIST_LIMIT, finished, job);
			break;
		case JOB_REMOVE:
			job->op = store_remove(store, job->key, finished, job);
			break;
		case JOB_PUT:
			job->op = store_put(store, job->key, job->data, job->len, finished, job);
			break;
		case JOB_CREATE:
			job->op = store_create(store, job->key, job->data, job->len, finished, job);
			break;
		case JOB_REPLACE:
			job->op = store_replace(store, job->key, job->extra, job->data, job->len, finished, job);
			break;
	}
	if (job->op == NULL)
		job->jobs->waiting = true;
}

void
jobs_tick(Jobs *jobs)
{
	if (!jobs->waiting)
		return;
	jobs->waiting = false;
	for (Job *job = jobs->first; job; job = job->next)
		if (job->op == NULL)
			start(job);
}

static void
unlink_job(Job *job)
{
	*job->link = job->next;
	if (job->next)
		job->next->link = job->link;
	job->jobs->n--;
}

static void
free_job(Job *job)
{
	free(job->data);
	free(job->copy);
	free(job);
}

static void
finished(void *arg, StoreResult *result)
{
	Job *job = arg;
	Jobs *jobs = job->jobs;
	bool again =
		job->kind != JOB_CREATE && job->kind != JOB_REPLACE && job->attempts < MAX_ATTEMPTS &&
		(result->status == STORE_UNAVAILABLE || result->status == STORE_UNDECIDED || result->status == STORE_DAMAGED);

	job->op = NULL;
	if (!jobs->cancelled && again)
	{
		start(job);
		return;
	}
	unlink_job(job);
	if (!jobs->cancelled)
		job->cb(job->arg, result);
	else if (jobs->n == 0)
		free(jobs);
	free_job(job);
}

void
jobs_cancel(Jobs *jobs)
{
	jobs->cancelled = true;
	for (Job *job = jobs->first, *next; job; job = next)
	{
		next = job->next;
		if (job->op)
			store_cancel(jobs->store, job->op);
		else
		{
			unlink_job(job);
			free_job(job);
		}
	}
	if (jobs->n == 0)
		free(jobs);
}

static Job *
add(Jobs *jobs, JobKind kind, const char *key, StoreCallback cb, void *arg)
{
	Job *job = memory_need_zeroed(1, sizeof(*job));

	job->jobs = jobs;
	job->kind = kind;
	snprintf(job->key, sizeof(job->key), "%s", key);
	job->cb = cb;
	job->arg = arg;
	job->next = jobs->first;
	job->link = &jobs->first;
	if (job->next)
		job->next->link = &job->next;
	jobs->first = job;
	jobs->n++;
	return job;
}

void
jobs_get(Jobs *jobs, const char *key, StoreCallback cb, void *arg)
{
	start(add(jobs, JOB_GET, key, cb, arg));
}

static void
copy_arg(Job *job, const void *arg, size_t size)
{
	job->copy = memory_need(size);
	memcpy(job->copy, arg, size);
	job->arg = job->copy;
}

void
jobs_get_copy(Jobs *jobs, const char *key, StoreCallback cb, const void *arg, size_t size)
{
	Job *job = add(jobs, JOB_GET, key, cb, NULL);

	copy_arg(job, arg, size);
	start(job);
}

static void
start_list(Job *job, const char *after)
{
	job->more = after != NULL;
	if (after)
		snprintf(job->extra, sizeof(job->extra), "%s", after);
	start(job);
}

void
jobs_list(Jobs *jobs, const char *prefix, const char *after, StoreCallback cb, void *arg)
{
	start_list(add(jobs, JOB_LIST, prefix, cb, arg), after);
}

void
jobs_list_copy(Jobs *jobs, const char *prefix, const char *after, StoreCallback cb, const void *arg, size_t size)
{
	Job *job = add(jobs, JOB_LIST, prefix, cb, NULL);

	copy_arg(job, arg, size);
	start_list(job, after);
}

void
jobs_remove(Jobs *jobs, const char *key, StoreCallback cb, void *arg)
{
	start(add(jobs, JOB_REMOVE, key, cb, arg));
}

static void
write_object(Jobs *jobs, JobKind kind, const char *key, const char *etag, uint8_t *data, size_t len, StoreCallback cb,
			 void *arg)
{
	Job *job = add(jobs, kind, key, cb, arg);

	if (etag)
		snprintf(job->extra, sizeof(job->extra), "%s", etag);
	job->data = data;
	job->len = len;
	start(job);
}

void
jobs_put(Jobs *jobs, const char *key, uint8_t *data, size_t len, StoreCallback cb, void *arg)
{
	write_object(jobs, JOB_PUT, key, NULL, data, len, cb, arg);
}

void
jobs_create_object(Jobs *jobs, const char *key, uint8_t *data, size_t len, StoreCallback cb, void *arg)
{
	write_object(jobs, JOB_CREATE, key, NULL, data, len, cb, arg);
}

void
jobs_replace(Jobs *jobs, const char *key, const char *etag, uint8_t *data, size_t len, StoreCallback cb, void *arg)
{
	write_object(jobs, JOB_REPLACE, key, etag, data, len, cb, arg);
}
