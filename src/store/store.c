/*
 * store.c: what all drivers share.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/driver.h"

Store *
store_open(const StoreOptions *options, char **error)
{
	char		text[256];

	if (strncmp(options->url, "file://", 7) == 0)
		return dir_open(options->url + 7, error);
	snprintf(text, sizeof(text), "\"%.100s\" is not an address like s3://bucket/prefix or file:///directory", options->url);
	*error = strdup(text);
	return NULL;
}

void
store_cancel(Store *store, StoreOp *op)
{
	store->driver->cancel(op);
}

uint8_t *
store_take(StoreResult *result)
{
	uint8_t    *data = result->data;

	result->data = NULL;
	return data;
}

bool
store_wait(Store *store, volatile const bool *done, bool (*interrupted) (void))
{
	while (!*done)
	{
		struct pollfd p = {.fd = store_fd(store), .events = POLLIN};
		int			timeout = store_timeout_ms(store);

		if (interrupted && interrupted())
			return false;
		(void) poll(&p, 1, timeout < 0 || timeout > 100 ? 100 : timeout);
		store_dispatch(store);
	}
	return true;
}
