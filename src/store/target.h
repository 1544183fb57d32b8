/*
 * target.h: where an S3 store is: bucket, prefix, endpoint, region.
 */
#ifndef S3AM_TARGET_H
#define S3AM_TARGET_H

#include <stdbool.h>

#include "store/store.h"

typedef struct Target
{
	char *bucket;
	char *prefix; /* "" or ends with a slash */
	char *base; /* scheme and host of every request's URL */
	char *host; /* the Host header */
	char *endpoint; /* as error messages name it */
	char *region;
	char *ca_file; /* NULL: the system's */
	bool path_style; /* bucket in the path */
} Target;

/* Resolves the options, the environment and the shared config file.  On failure false and a malloc'ed message. */
extern bool target_resolve(const StoreOptions *options, Target *target, char **error);
extern void target_free(Target *target);

/* The encoded path of a key, or with NULL of the bucket; malloc'ed, NULL if there is no memory. */
extern char *target_path(const Target *target, const char *key);

#endif
