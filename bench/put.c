/*
 * put.c: how long one PUT takes, by the store driver that s3am uses.
 *
 *   put URL COUNT BYTES     creates COUNT objects of BYTES one after the other and prints the p50 and p99 in milliseconds
 *
 * Endpoint and credentials come from S3AM_ENDPOINT and AWS_*.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/store.h"

typedef struct Done
{
	bool done;
	StoreStatus status;
	char error[512];
} Done;

static void
finished(void *arg, StoreResult *result)
{
	Done *d = arg;

	d->status = result->status;
	snprintf(d->error, sizeof(d->error), "%s", result->error ? result->error : "");
	d->done = true;
}

static double
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000.0 + t.tv_nsec / 1e6;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *) a, y = *(const double *) b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	StoreOptions options = {0};
	char *error = NULL;
	int count = argc > 2 ? atoi(argv[2]) : 0;
	int bytes = argc > 3 ? atoi(argv[3]) : 0;
	Store *store;
	double *ms;
	char *data;

	if (count < 1 || bytes < 1)
	{
		fprintf(stderr, "usage: put URL COUNT BYTES\n");
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
	ms = malloc(count * sizeof(double));
	data = malloc(bytes);
	memset(data, 'x', bytes);
	/* the first one opens the connection and does not count */
	for (int i = -1; i < count; i++)
	{
		Done d = {0};
		char key[64];
		double start = now_ms();

		snprintf(key, sizeof(key), "bench/%ld-%d", (long) getpid(), i + 1);
		(void) store_create(store, key, data, bytes, finished, &d);
		(void) store_wait(store, &d.done, NULL);
		if (d.status != STORE_OK)
		{
			fprintf(stderr, "%s\n", d.error);
			return 1;
		}
		if (i >= 0)
			ms[i] = now_ms() - start;
	}
	qsort(ms, count, sizeof(double), compare);
	printf("%.3f %.3f\n", ms[count / 2], ms[count * 99 / 100]);
	store_close(store);
	return 0;
}
