/*
 * s3tool: the store's operations from a shell, for the tests.  The address comes first; endpoint and keys from S3AM_ENDPOINT and AWS_*.
 *
 *   s3tool URL make-bucket
 *   s3tool URL put KEY [FILE]      create KEY [FILE]      get KEY      list [PREFIX]      remove KEY      clear
 *   s3tool URL check [WRITERS [ROUNDS]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/s3.h"

typedef struct Outcome
{
	bool done;
	StoreStatus status;
	char *next;
	int nkeys;
	char *keys[1000];
} Outcome;

static bool print_list;

static void
finished(void *arg, StoreResult *result)
{
	Outcome *o = arg;

	o->status = result->status;
	if (result->status != STORE_OK)
		fprintf(stderr, "%s\n", result->error);
	else if (result->data)
		(void) fwrite(result->data, 1, result->len, stdout);
	for (int i = 0; i < result->nentries; i++)
	{
		if (print_list)
			printf("%s %llu\n", result->entries[i].key, (unsigned long long) result->entries[i].size);
		if (o->nkeys < 1000)
			o->keys[o->nkeys++] = strdup(result->entries[i].key);
	}
	o->next = result->next ? strdup(result->next) : NULL;
	o->done = true;
}

static char *
read_all(const char *name, size_t *len)
{
	FILE *file = name ? fopen(name, "re") : stdin;
	char *data = NULL;
	size_t n;

	if (file == NULL)
	{
		perror(name);
		exit(2);
	}
	*len = 0;
	do
	{
		data = realloc(data, *len + 65536);
		n = fread(data + *len, 1, 65536, file);
		*len += n;
	} while (n > 0);
	if (name)
		fclose(file);
	return data;
}

/* Lists what is beneath a prefix, and removes it if asked for. */
static StoreStatus
walk(Store *store, const char *prefix, bool clear)
{
	char *after = NULL;

	do
	{
		Outcome page = {0};

		(void) store_list(store, prefix, after, 1000, finished, &page);
		(void) store_wait(store, &page.done, NULL);
		free(after);
		after = page.next;
		if (page.status != STORE_OK)
			return page.status;
		for (int i = 0; i < page.nkeys; i++)
		{
			Outcome removed = {0};

			if (clear)
			{
				(void) store_remove(store, page.keys[i], finished, &removed);
				(void) store_wait(store, &removed.done, NULL);
				if (removed.status != STORE_OK)
					return removed.status;
			}
			free(page.keys[i]);
		}
	} while (after);
	return STORE_OK;
}

static StoreStatus
check(Store *store, int writers, int rounds)
{
	StoreVerdict v;

	store_check(store, writers, rounds, NULL, &v);
	if (v.status == STORE_OK)
		printf("create-if-absent %d, compare-and-set %d (unquoted %d), read after write %d, list after write %d, "
			   "ranges %d %s\n",
			   v.create_if_absent, v.compare_and_set, v.unquoted_etag, v.read_after_write, v.list_after_write,
			   v.ranged_get, v.detail);
	else
		fprintf(stderr, "%s\n", v.detail);
	return v.status != STORE_OK ? v.status : v.create_if_absent && v.compare_and_set ? STORE_OK : STORE_DENIED;
}

int
main(int argc, char **argv)
{
	StoreOptions options = {0};
	Store *store;
	char *error;
	char *data = NULL;
	size_t len = 0;
	Outcome o = {0};
	const char *verb = argc > 2 ? argv[2] : "";
	const char *key = argc > 3 ? argv[3] : NULL;

	options.url = argc > 1 ? argv[1] : "";
	options.endpoint = getenv("S3AM_ENDPOINT");
	options.virtual_host = -1;
	options.retry_timeout_ms = 10000;
	store = store_open(&options, &error);
	if (store == NULL)
	{
		fprintf(stderr, "%s\n", error);
		return 2;
	}
	if (strcmp(verb, "list") == 0 || strcmp(verb, "clear") == 0)
	{
		print_list = verb[0] == 'l';
		o.status = walk(store, key ? key : "", verb[0] == 'c');
		o.done = true;
	}
	else if (strcmp(verb, "check") == 0)
	{
		o.status = check(store, key ? atoi(key) : 32, argc > 4 ? atoi(argv[4]) : 5);
		o.done = true;
	}
	else if (strcmp(verb, "make-bucket") == 0)
		(void) s3_make_bucket(store, finished, &o);
	else if (key && strcmp(verb, "get") == 0)
		(void) store_get(store, key, 0, -1, finished, &o);
	else if (key && strcmp(verb, "remove") == 0)
		(void) store_remove(store, key, finished, &o);
	else if (key && (strcmp(verb, "put") == 0 || strcmp(verb, "create") == 0))
	{
		data = read_all(argc > 4 ? argv[4] : NULL, &len);
		(void) (verb[0] == 'p' ? store_put(store, key, data, len, finished, &o)
							   : store_create(store, key, data, len, finished, &o));
	}
	else
	{
		fprintf(stderr, "usage: s3tool URL make-bucket | check | list [PREFIX] | clear | get KEY | put KEY [FILE] | "
						"create KEY [FILE] | remove KEY\n");
		return 2;
	}
	(void) store_wait(store, &o.done, NULL);
	store_close(store);
	free(data);
	return o.status == STORE_OK ? 0 : 1;
}
