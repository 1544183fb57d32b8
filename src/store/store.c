/*
 * store.c: what all drivers share.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/driver.h"
#include "store/text.h"

Store *
store_open(const StoreOptions *options, char **error)
{
	*error = NULL;
	if (strncmp(options->url, "file://", 7) == 0)
		return dir_open(options->url + 7, error);
	if (strncmp(options->url, "s3://", 5) == 0)
		return s3_open(options, error);
	*error = text_format("\"%.100s\" is not an address like s3://bucket/prefix or file:///directory", options->url);
	return NULL;
}

const char *
store_key_error(const char *key)
{
	size_t name = 0;

	if (key[0] == '\0')
		return "a key may not be empty";
	if (strlen(key) > 512)
		return "a key may not be longer than 512 bytes";
	for (const char *p = key;; p++)
	{
		if (*p == '/' || *p == '\0')
		{
			if (name == 0)
				return "a key may not begin or end with a slash, or have two in a row";
			if (*p == '\0')
				return NULL;
			name = 0;
			continue;
		}
		if (name == 0 && *p == '.')
			return "no name in a key may begin with a dot";
		if ((unsigned char) *p < 32 || *p == 127)
			return "a key may not have control characters";
		if (++name > 200)
			return "no name in a key may be longer than 200 bytes";
	}
}

bool
store_prefix_possible(const char *prefix)
{
	for (const char *p = prefix; *p; p++)
	{
		bool begins = p == prefix || p[-1] == '/';

		if ((unsigned char) *p < 32 || *p == 127 || (begins && (*p == '.' || *p == '/')))
			return false;
	}
	return strlen(prefix) <= 512;
}

void
store_cancel(Store *store, StoreOp *op)
{
	store->driver->cancel(op);
}

uint8_t *
store_take(StoreResult *result)
{
	uint8_t *data = result->data;

	result->data = NULL;
	return data;
}

bool
store_wait(Store *store, volatile const bool *done, bool (*interrupted)(void))
{
	while (!*done)
	{
		struct pollfd p = {.fd = store_fd(store), .events = POLLIN};
		int timeout = store_timeout_ms(store);

		if (interrupted && interrupted())
			return false;
		(void) poll(&p, 1, timeout < 0 || timeout > 100 ? 100 : timeout);
		store_dispatch(store);
	}
	return true;
}

bool
store_finish(Store *store, StoreOp *op, volatile const bool *done, bool (*interrupted)(void))
{
	if (op == NULL)
		return false;
	if (store_wait(store, done, interrupted))
		return true;
	store_cancel(store, op);
	(void) store_wait(store, done, NULL);
	return false;
}

uint64_t
store_now_us(void)
{
	struct timespec t;

	(void) clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

void
store_count(Store *store, StoreRequest request, StoreStatus status, uint64_t started_us, uint64_t bytes)
{
	StoreRequestStats *stats = &store->stats.requests[request];
	uint64_t us = store_now_us() - started_us;
	int i = 0;

	while (i < STORE_LATENCIES - 1 && us >> (i + 6) != 0)
		i++;
	stats->attempts++;
	stats->errors += status == STORE_UNDECIDED || status == STORE_UNAVAILABLE || status == STORE_DENIED ||
					 status == STORE_FULL || status == STORE_DAMAGED;
	stats->bytes += bytes;
	stats->us += us;
	stats->latency[i]++;
	store->stats.ended++;
}
