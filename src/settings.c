/*
 * settings.c: all settings, with their units, bounds and defaults; docs/settings.md is their reference.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "cache/cache.h"
#include "node/identity.h"
#include "node/node.h"
#include "s3am.h"

char *s3am_repository;
char *s3am_endpoint;
char *s3am_region;
char *s3am_access_key;
char *s3am_secret_key;
char *s3am_session_token;
char *s3am_profile;
char *s3am_ca_file;
int s3am_addressing;
int s3am_connect_timeout;
int s3am_request_timeout;
int s3am_retry_timeout;
int s3am_upload_timeout;
int s3am_max_connections;
int s3am_commit_timeout;
int s3am_attach_timeout;
int s3am_inline_limit;
int s3am_segment_size;
bool s3am_compaction;
int s3am_compaction_batches;
int s3am_compaction_dead;
int s3am_compaction_rate;
int s3am_compaction_pause;
int s3am_unmerged_memory;
int s3am_transaction_memory;
int s3am_key_lock_memory;
int s3am_read_ahead;
int s3am_poll_min;
int s3am_poll_max;
int s3am_group_wait;
int s3am_node_timeout;
int s3am_freshness;
int s3am_max_apply_delay;
int s3am_checkpoint_interval;
int s3am_checkpoint_bytes;
int s3am_collect_interval;
int s3am_collect_grace;
int s3am_retention;
int s3am_outcome_retention;
int s3am_pin_timeout;
static double price_put, price_get, price_storage, price_transfer; /* the view s3am.cost reads them */

static const struct config_enum_entry addressing_options[] = {
	{"auto", -1, false}, {"path", 0, false}, {"virtual-host", 1, false}, {NULL, 0, false}};

static const struct config_enum_entry freshness_options[] = {
	{"local", FRESHNESS_LOCAL, false}, {"latest", FRESHNESS_LATEST, false}, {NULL, 0, false}};

static void
string_setting(const char *name, const char *what, char **variable, GucContext context, int flags)
{
	DefineCustomStringVariable(name, what, NULL, variable, "", context, flags, NULL, NULL, NULL);
}

static void
int_setting(const char *name, const char *what, int *variable, int value, int min, int max, GucContext context,
			int flags)
{
	DefineCustomIntVariable(name, what, NULL, variable, value, min, max, context, flags, NULL, NULL, NULL);
}

static void
price_setting(const char *name, const char *what, double *variable, double value)
{
	DefineCustomRealVariable(name, what, NULL, variable, value, 0, 1e9, PGC_USERSET, 0, NULL, NULL, NULL);
}

/*
 * Secrets.  Core logs what a reload changed, with the new value as it stands in the file, if the variable's value is another one than before.  So
 * the variable always has the same value, SECRET_SHOWN, and the secret is the "extra" of its value.  Parallel workers are given their leader's
 * variables, thus SECRET_SHOWN: for them it means the secret that the process had when it was made.
 */
#define SECRET_SHOWN "********"

static void
forget(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

static bool
hide_secret(char **newval, void **extra, const char *last)
{
	const char *real = strcmp(*newval, SECRET_SHOWN) != 0 ? *newval : last ? last : "";
	char *shown = strdup(SECRET_SHOWN);

	*extra = strdup(real);
	if (shown == NULL || *extra == NULL)
	{
		free(shown);
		return false;
	}
	forget(*newval);
	*newval = shown;
	return true;
}

static void
keep_secret(char **last, const char *secret)
{
	if (secret == NULL || secret[0] == '\0' || (*last && strcmp(*last, secret) == 0))
		return;
	forget(*last);
	*last = strdup(secret);
}

#define SECRET(name)                                                                                                   \
	static char *name##_shown;                                                                                         \
	static char *name##_last;                                                                                          \
	static bool check_##name(char **newval, void **extra, GucSource source)                                            \
	{                                                                                                                  \
		return hide_secret(newval, extra, name##_last);                                                                \
	}                                                                                                                  \
	static void assign_##name(const char *newval, void *extra)                                                         \
	{                                                                                                                  \
		s3am_##name = extra;                                                                                           \
		keep_secret(&name##_last, extra);                                                                              \
	}

SECRET(access_key)
SECRET(secret_key)
SECRET(session_token)

#define DEFINE_SECRET(name, what)                                                                                      \
	DefineCustomStringVariable("s3am." #name, what, NULL, &name##_shown, "", PGC_SIGHUP, secret, check_##name,         \
							   assign_##name, NULL)

void
settings_define(void)
{
	/* not among others, and only SECRET_SHOWN even where it is shown */
	const int secret = GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_AUTO_FILE;

	string_setting("s3am.repository", "Address of the repository: s3://bucket/prefix or file:///directory.",
				   &s3am_repository, PGC_SUSET, 0);
	string_setting("s3am.endpoint", "http(s)://host[:port] of an S3-compatible server; empty: AWS.", &s3am_endpoint,
				   PGC_SIGHUP, 0);
	string_setting("s3am.region", "Region of the bucket; empty: from the environment or the config file.", &s3am_region,
				   PGC_SIGHUP, 0);
	DEFINE_SECRET(access_key, "Access key id; empty: from the environment or the credentials file.");
	DEFINE_SECRET(secret_key, "Secret access key.");
	DEFINE_SECRET(session_token, "Session token of temporary credentials.");
	string_setting("s3am.profile", "Profile in the shared config and credentials files.", &s3am_profile, PGC_SIGHUP, 0);
	string_setting("s3am.ca_file", "Certificates of the authorities that may sign the endpoint's; empty: the system's.",
				   &s3am_ca_file, PGC_SIGHUP, 0);
	DefineCustomEnumVariable("s3am.addressing", "Whether the bucket stands in the path or in the host name.", NULL,
							 &s3am_addressing, -1, addressing_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	int_setting("s3am.connect_timeout", "Longest time to connect to the store.", &s3am_connect_timeout, 5000, 100,
				INT_MAX, PGC_SIGHUP, GUC_UNIT_MS);
	int_setting("s3am.request_timeout", "Longest time that a request may make no progress.", &s3am_request_timeout,
				30000, 100, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS);
	int_setting("s3am.retry_timeout", "How long requests are retried while the store is unavailable.",
				&s3am_retry_timeout, 60000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS);
	int_setting("s3am.upload_timeout",
				"How long a transaction waits to upload a segment while the store is unavailable; 0: for ever.",
				&s3am_upload_timeout, 3600000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	int_setting("s3am.max_connections", "Most connections of one process to the store.", &s3am_max_connections, 64, 1,
				1024, PGC_SIGHUP, 0);
	int_setting("s3am.commit_timeout", "How long COMMIT waits for its outcome before it fails with 08007; 0: for ever.",
				&s3am_commit_timeout, 120000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	int_setting("s3am.max_apply_delay",
				"How long a session may hold up schema changes of other servers before it is ended; -1: for ever.",
				&s3am_max_apply_delay, 30000, -1, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS);
	int_setting("s3am.attach_timeout", "How long a statement waits until its database is attached.",
				&s3am_attach_timeout, 60000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
	int_setting("s3am.inline_limit",
				"Rows of one table up to this size travel in the manifest, larger ones as segments.",
				&s3am_inline_limit, 256, 0, 4096, PGC_USERSET, GUC_UNIT_KB);
	int_setting("s3am.segment_size", "Size at which a segment is finished, before compression.", &s3am_segment_size,
				32768, 64, 1048576, PGC_USERSET, GUC_UNIT_KB);
	DefineCustomBoolVariable("s3am.compaction", "Whether this server merges small batches and drops deleted rows.",
							 NULL, &s3am_compaction, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	int_setting("s3am.compaction_batches", "Neighbouring small batches of a table that are merged into one.",
				&s3am_compaction_batches, 64, 2, 10000, PGC_SIGHUP, 0);
	int_setting("s3am.compaction_dead", "Percentage of dead rows at which a batch is rewritten.", &s3am_compaction_dead,
				20, 1, 100, PGC_SIGHUP, 0);
	int_setting("s3am.compaction_rate",
				"Rows that compaction reads in a second, before compression, in kilobytes; 0: without limit.",
				&s3am_compaction_rate, 32768, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB);
	int_setting("s3am.compaction_pause", "Time between looks for batches to merge when there were none.",
				&s3am_compaction_pause, 500, 1, 3600000, PGC_SIGHUP, GUC_UNIT_MS);
	int_setting("s3am.unmerged_memory",
				"Memory that batches yet to be merged take before commits wait for compaction; 0: they never do.",
				&s3am_unmerged_memory, 262144, 0, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB);
	int_setting("s3am.transaction_memory",
				"Rows that a transaction added take this much memory before they are uploaded.",
				&s3am_transaction_memory, 65536, 64, MAX_KILOBYTES, PGC_USERSET, GUC_UNIT_KB);
	int_setting("s3am.key_lock_memory",
				"Shared memory for locks on keys of transactions that add many, of all sessions together.",
				&s3am_key_lock_memory, 131072, 1024, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB);
	int_setting("s3am.read_ahead",
				"Memory of a session for what it reads ahead from the store; 0: nothing is read ahead.",
				&s3am_read_ahead, 24576, 0, 1048576, PGC_USERSET, GUC_UNIT_KB);
	int_setting("s3am.poll_min", "Shortest time between looks for other servers' commits.", &s3am_poll_min, 50, 1,
				3600000, PGC_SIGHUP, GUC_UNIT_MS);
	int_setting("s3am.poll_max", "Longest time between looks for other servers' commits.", &s3am_poll_max, 500, 1,
				3600000, PGC_SIGHUP, GUC_UNIT_MS);
	int_setting("s3am.node_timeout", "How long a server may give no sign of life before another one ends its epoch.",
				&s3am_node_timeout, 60000, 1000, INT_MAX / 2, PGC_SIGHUP, GUC_UNIT_MS);
	int_setting("s3am.checkpoint_interval", "Versions after which a checkpoint is made; 0: none is.",
				&s3am_checkpoint_interval, 1000, 0, INT_MAX, PGC_SIGHUP, 0);
	int_setting("s3am.checkpoint_bytes", "Bytes of manifests after which a checkpoint is made.", &s3am_checkpoint_bytes,
				65536, 1, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB);
	int_setting("s3am.collect_interval",
				"Time between looks for objects of the repository that nobody needs any more; 0: none.",
				&s3am_collect_interval, 600000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS);
	int_setting("s3am.pin_timeout",
				"How long a server that gives no sign of life keeps objects that it reads from being deleted.",
				&s3am_pin_timeout, 3600000, 100, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS);
	/* these three become part of a repository when it is made */
	int_setting("s3am.retention", "How long manifests and deleted rows stay in a repository that is made from now on.",
				&s3am_retention, 86400, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S);
	int_setting(
		"s3am.outcome_retention",
		"How long the outcomes of a server's commits are kept after its epoch, in a repository that is made from "
		"now on.",
		&s3am_outcome_retention, 86400, 1, INT_MAX, PGC_SIGHUP, GUC_UNIT_S);
	int_setting("s3am.collect_grace",
				"Half the time between deciding to delete and deleting, in a repository that is made from now on.",
				&s3am_collect_grace, 600000, 50, INT_MAX / 4, PGC_SIGHUP, GUC_UNIT_MS);
	DefineCustomIntVariable("s3am.group_wait",
							"How long a group of commits waits for others on their way, in microseconds.", NULL,
							&s3am_group_wait, 2000, 0, 1000000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("s3am.freshness", "Whether a transaction's first snapshot waits for the newest version.",
							 NULL, &s3am_freshness, FRESHNESS_LOCAL, freshness_options, PGC_USERSET, 0, NULL, NULL,
							 NULL);
	price_setting("s3am.price_put", "Price of 1000 PUT or LIST requests.", &price_put, 0.005);
	price_setting("s3am.price_get", "Price of 1000 GET requests.", &price_get, 0.0004);
	price_setting("s3am.price_storage", "Price of storing 1 GB for a month.", &price_storage, 0.023);
	price_setting("s3am.price_transfer", "Price of reading 1 GB.", &price_transfer, 0);
	if (process_shared_preload_libraries_in_progress)
	{
		DefineCustomIntVariable("s3am.max_databases", "Most databases of this server that may be attached.", NULL,
								&node_max_databases, 4, 1, 64, PGC_POSTMASTER, 0, NULL, NULL, NULL);
		DefineCustomIntVariable("s3am.cache_size", "Shared memory for pages of tables in the repository; 0: none.",
								NULL, &cache_size_kb, 128 * 1024, 0, MAX_KILOBYTES, PGC_POSTMASTER, GUC_UNIT_KB, NULL,
								NULL, NULL);
		DefineCustomStringVariable("s3am.node_name",
								   "Tells this server from another one with a copy of the same data directory.", NULL,
								   &s3am_node_name, "", PGC_POSTMASTER, 0, NULL, NULL, NULL);
	}
	MarkGUCPrefixReserved("s3am");
}
