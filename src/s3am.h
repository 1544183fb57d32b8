/*
 * s3am.h: settings and names that every part of the extension may need.
 */
#ifndef S3AM_H
#define S3AM_H

#include "postgres.h"

#include "utils/relcache.h"

/* settings, see docs/settings.md */
extern char *s3am_repository;
extern char *s3am_endpoint;
extern char *s3am_region;
extern char *s3am_access_key;
extern char *s3am_secret_key;
extern char *s3am_session_token;
extern char *s3am_profile;
extern char *s3am_ca_file;
extern int s3am_addressing;
extern int s3am_connect_timeout;
extern int s3am_request_timeout;
extern int s3am_retry_timeout;
extern int s3am_upload_timeout;
extern int s3am_max_connections;
extern int s3am_commit_timeout;
extern int s3am_attach_timeout;
extern int s3am_inline_limit;
extern int s3am_segment_size;
extern bool s3am_compaction;
extern int s3am_compaction_batches;
extern int s3am_compaction_dead;
extern int s3am_compaction_rate;
extern int s3am_compaction_pause;
extern int s3am_unmerged_memory;
extern int s3am_transaction_memory;
extern int s3am_key_lock_memory;
extern int s3am_read_ahead;
extern int s3am_poll_min;
extern int s3am_poll_max;
extern int s3am_group_wait;
extern int s3am_node_timeout;
extern int s3am_freshness;
extern int s3am_max_apply_delay;
extern int s3am_checkpoint_interval;
extern int s3am_checkpoint_bytes;
extern int s3am_collect_interval;
extern int s3am_collect_grace;
extern int s3am_retention;
extern int s3am_outcome_retention;
extern int s3am_pin_timeout;

typedef enum Freshness
{
	FRESHNESS_LOCAL, /* what this node has applied */
	FRESHNESS_LATEST /* at least the head as it is now */
} Freshness;

extern void settings_define(void);
extern void stand_ins_init(void); /* from _PG_init: hooks */

/* OID of the table access method in this database; InvalidOid before CREATE EXTENSION. */
extern Oid s3am_am_oid(void);
extern bool relation_is_s3am(Relation rel);

#endif
