/*
 * get.c: how fast a bare client reads objects, by the store driver that s3am uses.
 *
 *   get URL PREFIX PARALLEL BYTES   reads all objects whose key begins with PREFIX, in ranges of BYTES, PARALLEL of them at a time, and
 *                                   prints the seconds that took and the bytes that came
 *
 * Endpoint and credentials come from S3AM_ENDPOINT and AWS_*.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/store.h"

typedef struct Objects
{
	int n;
	char (*keys)[512];
	uint64_t *sizes;
	char next[1024];
	bool done, failed;
} Objects;

static int in_flight;
static uint64_t received;
static bool failed;

static void
listed(void *arg, StoreResult *result)
{
	Objects *o = arg;

	o->done = true;
	o->next[0] = '\0';
	if (result->status != STORE_OK)
	{
		fprintf(stderr, "%s\n", result->error);
		o->failed = true;
		return;
	}
	o->keys = realloc(o->keys, (o->n + result->nentries) * sizeof(*o->keys));
	o->sizes = realloc(o->sizes, (o->n + result->nentries) * sizeof(*o->sizes));
	for (int i = 0; i < result->nentries; i++, o->n++)
	{
		snprintf(o->keys[o->n], sizeof(o->keys[0]), "%s", result->entries[i].key);
		o->sizes[o->n] = result->entries[i].size;
	}
	if (result->next)
		snprintf(o->next, sizeof(o->next), "%s", result->next);
}

static void
got(void *arg, StoreResult *result)
{
	in_flight--;
	received += result->len;
	if (result->status != STORE_OK && !failed)
	{
		fprintf(stderr, "%s\n", result->error);
		failed = true;
	}
}

static double
now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
turn(Store *store)
{
	struct pollfd fd = {.fd = store_fd(store), .events = POLLIN};
	int timeout = store_timeout_ms(store);

	(void) poll(&fd, 1, timeout < 0 || timeout > 1000 ? 1000 : timeout);
	store_dispatch(store);
}

int
main(int argc, char **argv)
{
	StoreOptions options = {0};
	char *error = NULL;
	int parallel = argc > 3 ? atoi(argv[3]) : 0;
	long bytes = argc > 4 ? atol(argv[4]) : 0;
	Objects objects = {0};
	Store *store;
	double start;

	if (parallel < 1 || bytes < 1)
	{
		fprintf(stderr, "usage: get URL PREFIX PARALLEL BYTES\n");
		return 2;
	}
	options.url = argv[1];
	options.endpoint = getenv("S3AM_ENDPOINT");
	options.virtual_host = -1;
	store = store_open(&options, &error);
	if (store == NULL)
	{
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	do
	{
		objects.done = false;
		(void) store_list(store, argv[2], objects.next[0] ? objects.next : NULL, 1000, listed, &objects);
		(void) store_wait(store, &objects.done, NULL);
	} while (objects.next[0] && !objects.failed);
	start = now_s();
	for (int i = 0; i < objects.n && !failed; i++)
		for (uint64_t offset = 0; offset < objects.sizes[i] && !failed; offset += bytes)
		{
			(void) store_get(store, objects.keys[i], offset, bytes, got, NULL);
			in_flight++;
			while (in_flight >= parallel)
				turn(store);
		}
	while (in_flight > 0)
		turn(store);
	printf("%.3f %llu\n", now_s() - start, (unsigned long long) received);
	store_close(store);
	return failed || objects.failed;
}
