/*
 * recent.c: see recent.h.
 */
#include <stdlib.h>
#include <string.h>

#include "manifest/recent.h"

typedef struct Object
{
	uint64_t version;
	uint8_t *data;
	size_t len;
} Object;

struct Recent
{
	size_t max_bytes, bytes;
	uint64_t oldest, /* none that is here is older */
		newest;
	Object objects[RECENT_VERSIONS]; /* by version */
};

static void
drop(Recent *r, Object *o)
{
	if (o->data == NULL)
		return;
	r->bytes -= o->len;
	free(o->data);
	memset(o, 0, sizeof(*o));
}

Recent *
recent_create(size_t max_bytes)
{
	Recent *r = calloc(1, sizeof(*r));

	if (r)
		r->max_bytes = max_bytes;
	return r;
}

void
recent_free(Recent *r)
{
	if (r == NULL)
		return;
	for (int i = 0; i < RECENT_VERSIONS; i++)
		free(r->objects[i].data);
	free(r);
}

void
recent_add(Recent *r, uint64_t version, const uint8_t *object, size_t len)
{
	Object *o;

	if (r == NULL)
		return;
	/* after a checkpoint was taken there is a gap, which is passed once */
	for (; r->oldest < version && (r->bytes + len > r->max_bytes || version - r->oldest >= RECENT_VERSIONS);
		 r->oldest++)
	{
		if (r->oldest > r->newest)
		{
			r->oldest = version;
			break;
		}
		drop(r, &r->objects[r->oldest % RECENT_VERSIONS]);
	}
	r->newest = version;
	if (len > r->max_bytes)
		return;
	o = &r->objects[version % RECENT_VERSIONS];
	drop(r, o);
	o->data = malloc(len + 1);
	if (o->data == NULL)
		return;
	memcpy(o->data, object, len);
	o->version = version;
	o->len = len;
	r->bytes += len;
}

const uint8_t *
recent_get(const Recent *r, uint64_t version, size_t *len)
{
	const Object *o = r ? &r->objects[version % RECENT_VERSIONS] : NULL;

	if (o == NULL || o->data == NULL || o->version != version)
		return NULL;
	*len = o->len;
	return o->data;
}
