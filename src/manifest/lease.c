/*
 * lease.c: signs of life, and what becomes of those who give none (rules 12, 36, 37).
 *
 * A node renews `nodes/<epoch>`, which also is its pin; while it attaches, and has no epoch, the pin of attaching.  That pin
 * goes when an object of the node says as much, after every checkpoint that was taken; so does what earlier committers of the same
 * server left.  Now and then the node looks at the others': whose object is older than the lease, by the store's clock alone, is
 * fenced by a manifest.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest/committer_int.h"
#include "manifest/envelope.h"
#include "manifest/memory.h"

struct Lease
{
	Committer *c;
	StoreOp *renew_op, *look_op;
	uint8_t *object;
	bool pinned; /* there may be a pin of attaching */
	bool covers; /* what is being written says what the pin says */
	StoreOp *unpin_op;
	uint64_t renew_at, look_at;
	uint64_t signed_at; /* when its object was last written; 0 never */
	uint64_t resumed_at; /* when its signs began, or began anew: silence of others before that may be the store's */
	int refs;
};

/* An object of an earlier committer of the same server. */
struct Left
{
	Left *next;
	Lease *lease; /* of the removal under way */
	StoreOp *op;
	char key[KEY_SIZE];
};

static void
unref(Lease *l)
{
	if (--l->refs > 0)
		return;
	free(l->object);
	free(l);
}

void
lease_begin(Committer *c)
{
	Lease *l;

	if (c->lease)
	{
		c->lease->renew_at = 0; /* with an epoch there is another object to write */
		return;
	}
	l = memory_need_zeroed(1, sizeof(*l));
	l->c = c;
	l->refs = 1;
	l->pinned = true;
	l->look_at = committer_now(c) + c->cfg.lease_ms / 4 + c->cfg.random(c->cfg.arg) % (c->cfg.lease_ms / 2 + 1);
	c->lease = l;
}

void
lease_free(Committer *c)
{
	Lease *l = c->lease;

	c->lease = NULL;
	if (l)
		l->c = NULL;
	while (c->left)
	{
		Left *left = c->left;

		c->left = left->next;
		if (left->op)
			store_cancel(c->store, left->op); /* its callback frees it */
		else
			free(left);
	}
	if (l == NULL)
		return;
	if (l->renew_op)
		store_cancel(c->store, l->renew_op);
	if (l->look_op)
		store_cancel(c->store, l->look_op);
	if (l->unpin_op)
		store_cancel(c->store, l->unpin_op);
	unref(l);
}

/* ------------------------------------------------------------------------------------ what earlier ones left */

void
committer_withdraw(Committer *c, const char *key)
{
	Left *left = calloc(1, sizeof(*left));

	if (left == NULL)
		return; /* it goes when it is too old */
	snprintf(left->key, sizeof(left->key), "%s", key);
	left->next = c->left;
	c->left = left;
}

static void
forget(Committer *c, Left *left)
{
	Left **link = &c->left;

	while (*link != left)
		link = &(*link)->next;
	*link = left->next;
	free(left);
}

static void
withdrawn(void *arg, StoreResult *result)
{
	Left *left = arg;
	Lease *l = left->lease;

	left->op = NULL;
	if (l->c == NULL)
		free(left);
	else if (result->status == STORE_OK)
	{
		if (l->c->cfg.withdrawn)
			l->c->cfg.withdrawn(l->c->cfg.arg, left->key);
		forget(l->c, left);
	}
	unref(l);
}

/* An object of ours says all that they said. */
static void
withdraw(Lease *l)
{
	for (Left *left = l->c->left; left; left = left->next)
	{
		if (left->op)
			continue;
		left->lease = l;
		left->op = store_remove(l->c->store, left->key, withdrawn, left);
		l->refs += left->op != NULL;
	}
}

/* ------------------------------------------------------------------------------------ renewing */

static void
unpinned(void *arg, StoreResult *result)
{
	Lease *l = arg;

	l->unpin_op = NULL;
	if (l->c && result->status == STORE_OK)
		l->pinned = false;
	unref(l);
}

/*
 * Who could not give signs of life itself for a while, or has just begun to, cannot tell whether others were silent or the store was: it gives
 * them as much time to be heard again.
 */
static void
signed_now(Lease *l)
{
	uint64_t t = committer_now(l->c);

	if (l->signed_at == 0 || t - l->signed_at > l->c->cfg.lease_ms / 2)
		l->resumed_at = t;
	l->signed_at = t;
}

static void
renewed(void *arg, StoreResult *result)
{
	Lease *l = arg;
	Committer *c = l->c;

	l->renew_op = NULL;
	free(l->object);
	l->object = NULL;
	if (c)
	{
		committer_saw_date(c, result);
		l->renew_at = committer_now(c) + (result->status == STORE_OK ? c->cfg.lease_ms / 4 : c->cfg.lease_ms / 16 + 1);
		if (result->status == STORE_OK)
			signed_now(l);
		/* what was refused before is not tried again by itself: this one was taken */
		if (result->status == STORE_OK && c->put == NULL)
			committer_well(c, TROUBLE_PUT);
		if (result->status == STORE_OK && l->covers && c->restore == NULL)
		{
			if (l->pinned && l->unpin_op == NULL)
			{
				char key[KEY_SIZE];

				key_pin(key, c->nonce);
				l->unpin_op = store_remove(c->store, key, unpinned, l);
				l->refs += l->unpin_op != NULL;
			}
			withdraw(l);
		}
	}
	unref(l);
}

static void
renew(Lease *l)
{
	Committer *c = l->c;
	S3am__Node message = S3AM__NODE__INIT;
	char key[KEY_SIZE];
	size_t len;
	uint8_t *payload;

	message.epoch = c->epoch;
	message.node.data = (uint8_t *) c->cfg.node;
	message.node.len = c->cfg.node_len;
	message.applied = c->state.version;
	message.oldest = c->cfg.oldest_read ? c->cfg.oldest_read(c->cfg.arg) : c->state.version;
	l->covers = c->restore == NULL;
	if (c->cfg.description)
		message.description = (char *) c->cfg.description;
	len = s3am__node__get_packed_size(&message);
	payload = malloc(len + 1);
	key_node(key, c->epoch);
	if (payload)
	{
		s3am__node__pack(&message, payload);
		l->object = envelope_seal(ENVELOPE_NODE, c->uuid, key, payload, len, &len);
		free(payload);
	}
	if (l->object)
		l->renew_op = store_put(c->store, key, l->object, len, renewed, l);
	if (l->renew_op)
		l->refs++;
	else
	{
		free(l->object);
		l->object = NULL;
		l->renew_at = committer_now(c) + c->cfg.lease_ms / 16 + 1;
	}
}

/* ------------------------------------------------------------------------------------ the pin of attaching */

/* A pin is going to be written.  False: not yet, for the one before is being removed, and the new one might be instead. */
bool
lease_pin(Committer *c)
{
	Lease *l = c->lease;

	if (l == NULL)
		return true; /* it begins with a pin */
	if (l->unpin_op)
		return false;
	l->pinned = true;
	return true;
}

static void
pin_renewed(void *arg, StoreResult *result)
{
	Lease *l = arg;
	Committer *c = l->c;

	l->renew_op = NULL;
	free(l->object);
	l->object = NULL;
	if (c)
	{
		committer_saw_date(c, result);
		if (c->phase == COMMITTER_READY)
			l->renew_at = 0;
		else
			l->renew_at = committer_now(c) + c->cfg.lease_ms / (result->status == STORE_OK ? 4 : 16) + 1;
	}
	unref(l);
}

/* The owner may need longer than a pin lasts to read the checkpoint, or to apply what came after it. */
static void
renew_pin(Lease *l)
{
	Committer *c = l->c;
	S3am__Pin message = S3AM__PIN__INIT;
	uint8_t payload[64];
	char key[KEY_SIZE];
	size_t len;

	message.version = c->cfg.oldest_read ? c->cfg.oldest_read(c->cfg.arg) : c->pinned;
	len = s3am__pin__pack(&message, payload);
	key_pin(key, c->nonce);
	l->object = envelope_seal(ENVELOPE_PIN, c->uuid, key, payload, len, &len);
	if (l->object)
		l->renew_op = store_put(c->store, key, l->object, len, pin_renewed, l);
	if (l->renew_op)
		l->refs++;
	else
	{
		free(l->object);
		l->object = NULL;
		l->renew_at = committer_now(c) + c->cfg.lease_ms / 16 + 1;
	}
}

/* ------------------------------------------------------------------------------------ looking */

typedef struct Look
{
	Committer *c;
	const StoreResult *result;
} Look;

static bool
look_at(void *arg, uint64_t epoch, uint64_t begun_ms)
{
	Look *look = arg;
	Committer *c = look->c;
	int64_t last = (int64_t) begun_ms;
	char key[KEY_SIZE];

	if (epoch == c->epoch)
		return true;
	for (Fence *f = c->fences; f; f = f->next)
		if (f->epoch == epoch)
			return true;
	key_node(key, epoch);
	for (int i = 0; i < look->result->nentries; i++)
		if (strcmp(look->result->entries[i].key, key) == 0 && look->result->entries[i].modified_ms > last)
			last = look->result->entries[i].modified_ms;
	if (look->result->date_ms > last + (int64_t) c->cfg.lease_ms)
	{
		Fence *f = memory_need(sizeof(*f));

		*f = (Fence){c->fences, epoch, true, NULL, NULL};
		c->fences = f;
	}
	return true;
}

bool
committer_may_judge(Committer *c, uint64_t silence_ms)
{
	const Lease *l = c->lease;
	uint64_t t = committer_now(c);

	if (silence_ms > c->cfg.lease_ms)
		silence_ms = c->cfg.lease_ms;
	return l && l->signed_at && t - l->signed_at <= c->cfg.lease_ms / 2 && t >= l->resumed_at + silence_ms;
}

static void
looked(void *arg, StoreResult *result)
{
	Lease *l = arg;
	Committer *c = l->c;

	l->look_op = NULL;
	if (c && c->phase == COMMITTER_READY && result->status == STORE_OK && result->date_ms && result->next == NULL &&
		committer_may_judge(c, c->cfg.lease_ms))
	{
		Look look = {c, result};

		committer_saw_date(c, result);
		outcomes_each_live(c->state.outcomes, look_at, &look);
		committer_advance(c);
	}
	unref(l);
}

void
lease_tick(Committer *c)
{
	Lease *l = c->lease;
	uint64_t t = committer_now(c);

	if (l == NULL)
		return;
	if (l->renew_op == NULL && t >= l->renew_at && c->phase == COMMITTER_READY)
		renew(l);
	else if (l->renew_op == NULL && t >= l->renew_at && l->pinned &&
			 (c->phase == COMMITTER_ATTACHING || c->phase == COMMITTER_JOINING))
		renew_pin(l);
	if (l->look_op == NULL && t >= l->look_at && c->phase == COMMITTER_READY)
	{
		l->look_at = t + c->cfg.lease_ms / 2;
		l->look_op = store_list(c->store, "nodes/", NULL, 0, looked, l);
		l->refs += l->look_op != NULL;
	}
}

uint64_t
lease_due(const Committer *c)
{
	const Lease *l = c->lease;
	uint64_t renew = l->renew_op ? UINT64_MAX : l->renew_at;
	uint64_t look = l->look_op ? UINT64_MAX : l->look_at;

	return renew < look ? renew : look;
}
