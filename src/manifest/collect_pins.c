/*
 * collect_pins.c: the oldest version that somebody still reads, by the pins and signs of life of all servers.
 */
#include <stdio.h>
#include <stdlib.h>

#include "manifest/collect_pass.h"
#include "manifest/envelope.h"
#include "manifest/memory.h"
#include "manifest/rules.h"

typedef struct PinRead
{
	Pass *p;
	void (*next)(Pass *p);
	bool node;
	char key[KEY_SIZE];
} PinRead;

static void
pins_done(Pass *p, void (*next)(Pass *p))
{
	if (!p->pins_listed || p->pins_to_read > 0)
		return;
	/* what took their place was written before they went, but maybe after the list was made */
	if (p->pins_gone)
		pass_read_pins(p, next);
	else if (p->pins_again)
		p->pins_wait = next;
	else
		next(p);
}

static void
note_pin_object(Pass *p, bool node, const char *key, const StoreResult *result)
{
	char *error = NULL;
	size_t len;
	uint8_t *payload = envelope_open(node ? ENVELOPE_NODE : ENVELOPE_PIN, p->col->uuid, key, result->data, result->len,
									 &len, NULL, &error);
	uint64_t version = 0; /* what cannot be read keeps everything */

	if (payload && node)
	{
		S3am__Node *m = s3am__node__unpack(&memory_allocator, len, payload);

		version = m ? m->oldest : 0;
		if (m)
			s3am__node__free_unpacked(m, NULL);
	}
	else if (payload)
	{
		S3am__Pin *m = s3am__pin__unpack(&memory_allocator, len, payload);

		version = m ? m->version : 0;
		if (m)
			s3am__pin__free_unpacked(m, NULL);
	}
	free(payload);
	free(error);
	if (version < p->oldest_pin)
		p->oldest_pin = version;
}

static void
pin_came(void *arg, StoreResult *result)
{
	PinRead *r = arg;
	Pass *p = r->p;

	p->pins_to_read--;
	if (result->status == STORE_NOT_FOUND)
		p->pins_gone = true;
	else
	{
		if (!pass_fine(p, result))
			return;
		note_pin_object(p, r->node, r->key, result);
	}
	pins_done(p, r->next);
}

/*
 * Nobody renews it.  Its owner may have been silent because the store was away: as with fencing, who cannot tell waits until that one could be
 * heard.  An epoch that was fenced has been judged.
 */
static void
too_old(Pass *p, bool node, const char *key)
{
	unsigned long long epoch;

	if (p->cfg.dry_run || committer_may_judge(p->col->c, p->cfg.pin_ms) || !RULE(P36_SILENCE))
		return;
	if (!node || sscanf(key, "nodes/%20llu", &epoch) != 1 || committer_epoch_live(p->col->c, epoch))
		p->pins_again = true;
}

static void
pins_came(void *arg, StoreResult *result)
{
	PinRead r = *(PinRead *) arg;
	Pass *p = r.p;

	if (!pass_fine(p, result))
		return;
	for (int i = 0; i < result->nentries; i++)
	{
		if (result->entries[i].modified_ms + (int64_t) p->cfg.pin_ms < result->date_ms)
		{
			too_old(p, r.node, result->entries[i].key);
			continue;
		}
		snprintf(r.key, sizeof(r.key), "%s", result->entries[i].key);
		p->pins_to_read++;
		jobs_get_copy(p->jobs, r.key, pin_came, &r, sizeof(r));
	}
	if (result->next)
		jobs_list_copy(p->jobs, r.node ? "nodes/" : "pins/", result->next, pins_came, &r, sizeof(r));
	else if (!r.node)
	{
		r.node = true;
		jobs_list_copy(p->jobs, "nodes/", NULL, pins_came, &r, sizeof(r));
	}
	else
	{
		p->pins_listed = true;
		pins_done(p, r.next);
	}
}

/*
 * Pins before signs of life: what takes a pin's place is a sign, and written before the pin goes, so it is in the one list or in the
 * other.
 */
void
pass_read_pins(Pass *p, void (*next)(Pass *p))
{
	PinRead r = {p, next, false, ""};

	p->oldest_pin = UINT64_MAX;
	p->pins_listed = p->pins_again = p->pins_gone = false;
	p->pins_to_read = 0;
	jobs_list_copy(p->jobs, "pins/", NULL, pins_came, &r, sizeof(r));
}
