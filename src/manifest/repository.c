/*
 * repository.c: opening and creating a repository.
 *
 * The repository object is the first and only one that creation writes, by create-if-absent: there is no half-created repository,
 * and whoever loses the race opens what the winner made.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "manifest/envelope.h"
#include "manifest/memory.h"
#include "manifest/repository.h"

#define KEY "repository"

typedef struct Wait
{
	bool done;
	StoreStatus status;
	uint8_t *data;
	size_t len;
	bool foreign;
	char *next; /* where the list goes on */
	char error[768];
} Wait;

static void
finished(void *arg, StoreResult *result)
{
	Wait *w = arg;

	w->status = result->status;
	if (result->error)
		snprintf(w->error, sizeof(w->error), "%s", result->error);
	if (result->status == STORE_OK)
	{
		w->len = result->len;
		w->data = store_take(result);
		w->next = result->next ? memory_copy_text(result->next) : NULL;
		for (int i = 0; i < result->nentries; i++)
			if (strncmp(result->entries[i].key, "check/", 6) != 0 && strcmp(result->entries[i].key, KEY) != 0)
				w->foreign = true;
	}
	w->done = true;
}

static char *
text(const char *format, const char *a, const char *b)
{
	char buffer[1200];

	snprintf(buffer, sizeof(buffer), format, a, b);
	return memory_copy_text(buffer);
}

static RepositoryStatus
check_fit(const S3am__Repository *have, const S3am__Repository *want, char **error)
{
	if (want == NULL)
		return REPOSITORY_OK;
	if (strcmp(have->encoding, want->encoding) != 0)
		*error = text("the repository was made by a database with encoding %s, this one has %s", have->encoding,
					  want->encoding);
	else if (strcmp(have->collate, want->collate) != 0)
		*error = text("the repository was made by a database with collation %s, this one has %s", have->collate,
					  want->collate);
	else if (strcmp(have->ctype, want->ctype) != 0)
		*error = text("the repository was made by a database with ctype %s, this one has %s", have->ctype, want->ctype);
	else if (have->little_endian != want->little_endian)
		*error = memory_copy_text("the repository was made by a server of the other byte order");
	else
		return REPOSITORY_OK;
	return REPOSITORY_MISMATCH;
}

static RepositoryStatus
decode(const Wait *w, const S3am__Repository *want, S3am__Repository **result, char **error)
{
	uint8_t uuid[16];
	size_t len;
	uint8_t *payload = envelope_open(ENVELOPE_REPOSITORY, NULL, KEY, w->data, w->len, &len, uuid, error);
	RepositoryStatus status;

	if (payload == NULL)
		return strstr(*error, "newer") ? REPOSITORY_NEWER : REPOSITORY_DAMAGED;
	*result = s3am__repository__unpack(&memory_allocator, len, payload);
	free(payload);
	if (*result == NULL || (*result)->uuid.len != 16 || memcmp((*result)->uuid.data, uuid, 16) != 0)
	{
		*error = memory_copy_text("object \"" KEY "\" is damaged: it cannot be decoded");
		return REPOSITORY_DAMAGED;
	}
	if ((*result)->format_level > S3AM_FORMAT_LEVEL)
	{
		*error = memory_copy_text("the repository's format is newer than this server's s3am: upgrade it");
		status = REPOSITORY_NEWER;
	}
	else
		status = check_fit(*result, want, error);
	if (status != REPOSITORY_OK)
	{
		s3am__repository__free_unpacked(*result, NULL);
		*result = NULL;
	}
	return status;
}

/* Nobody answered, or somebody with a refusal: which one, and what to do, is in the message. */
static RepositoryStatus
unreachable(const Wait *w, char **error)
{
	*error = memory_copy_text(w->error[0] ? w->error : "out of memory");
	return REPOSITORY_UNREACHABLE;
}

/* Is there anything under the prefix that neither a repository nor a check of the store left? */
static RepositoryStatus
look_for_others(Store *store, bool (*interrupted)(void), bool *foreign, char **error)
{
	char *after = NULL;

	*foreign = false;
	do
	{
		Wait w = {0};
		StoreOp *op = store_list(store, "", after, 100, finished, &w);

		free(after);
		if (!store_finish(store, op, &w.done, interrupted) && op)
		{
			free(w.next);
			return REPOSITORY_INTERRUPTED;
		}
		if (op == NULL || w.status != STORE_OK)
			return unreachable(&w, error);
		*foreign |= w.foreign;
		after = w.next;
	} while (after && !*foreign);
	free(after);
	return REPOSITORY_OK;
}

static RepositoryStatus
create_object(Store *store, const S3am__Repository *create, bool (*interrupted)(void), S3am__Repository **result,
			  char **error)
{
	S3am__Repository message = *create;
	S3am__StoreVerdict verdict = S3AM__STORE_VERDICT__INIT;
	StoreVerdict found;
	uint8_t uuid[16];
	size_t len, object_len;
	uint8_t *payload, *object = NULL;
	Wait w = {0};
	StoreOp *op;

	store_check(store, 32, 3, interrupted, &found);
	if (found.status == STORE_CANCELLED)
		return REPOSITORY_INTERRUPTED;
	if (found.status != STORE_OK)
	{
		*error = text("the store cannot be checked: %s", found.detail, "");
		return REPOSITORY_UNREACHABLE;
	}
	if (!found.create_if_absent || !found.read_after_write)
	{
		*error = text("the store failed the conformance race and may not hold a repository: %s", found.detail, "");
		return REPOSITORY_UNFIT_STORE;
	}
	if (getrandom(uuid, sizeof(uuid), 0) != sizeof(uuid))
	{
		*error = text("no random numbers: %s", strerror(errno), "");
		return REPOSITORY_UNREACHABLE;
	}
	verdict.create_if_absent = found.create_if_absent;
	verdict.compare_and_set = found.compare_and_set;
	verdict.read_after_write = found.read_after_write;
	verdict.list_after_write = found.list_after_write;
	verdict.unquoted_etag = found.unquoted_etag;
	verdict.detail = found.detail;
	message.verdict = &verdict;
	message.uuid.data = uuid;
	message.uuid.len = sizeof(uuid);
	message.format_level = S3AM_FORMAT_LEVEL;
	len = s3am__repository__get_packed_size(&message);
	payload = malloc(len);
	if (payload)
	{
		s3am__repository__pack(&message, payload);
		object = envelope_seal(ENVELOPE_REPOSITORY, uuid, KEY, payload, len, &object_len);
		free(payload);
	}
	if (object == NULL)
		return unreachable(&w, error);
	/* if this is interrupted, the repository may be there or not; the next server to come finds out */
	op = store_create(store, KEY, object, object_len, finished, &w);
	if (!store_finish(store, op, &w.done, interrupted) && op)
	{
		free(object);
		return REPOSITORY_INTERRUPTED;
	}
	free(object);
	free(w.data);
	if (op && (w.status == STORE_OK || w.status == STORE_PRECONDITION || w.status == STORE_UNDECIDED))
		return repository_open(store, NULL, interrupted, result, error);
	return unreachable(&w, error);
}

RepositoryStatus
repository_open(Store *store, const S3am__Repository *create, bool (*interrupted)(void), S3am__Repository **result,
				char **error)
{
	Wait w = {0};
	StoreOp *op;
	RepositoryStatus status;
	bool foreign;

	*result = NULL;
	*error = NULL;
	op = store_get(store, KEY, 0, -1, finished, &w);
	if (!store_finish(store, op, &w.done, interrupted) && op)
	{
		free(w.data);
		return REPOSITORY_INTERRUPTED;
	}
	if (op && w.status == STORE_OK)
	{
		status = decode(&w, create, result, error);
		free(w.data);
		if (status == REPOSITORY_OK && (*result)->verdict)
			store->unquoted_etag = (*result)->verdict->unquoted_etag;
		return status;
	}
	if (op == NULL || w.status != STORE_NOT_FOUND)
		return unreachable(&w, error);
	status = look_for_others(store, interrupted, &foreign, error);
	if (status != REPOSITORY_OK)
		return status;
	if (foreign)
	{
		*error = memory_copy_text(
			"the prefix holds other objects and no repository: choose another prefix, or restore object \"" KEY "\"");
		return REPOSITORY_FOREIGN;
	}
	if (create == NULL)
	{
		*error = memory_copy_text("there is no repository");
		return REPOSITORY_ABSENT;
	}
	return create_object(store, create, interrupted, result, error);
}
