/*
 * jobs.h: requests of background work: tried again some times, and cancelled together.
 */
#ifndef S3AM_JOBS_H
#define S3AM_JOBS_H

#include "store/store.h"

typedef struct Jobs Jobs;

extern Jobs *jobs_create(Store *store);
extern void jobs_cancel(Jobs *jobs); /* no callback comes any more; frees it */
extern int jobs_under_way(const Jobs *jobs);
extern void jobs_tick(Jobs *jobs); /* now and then: begins those for which there was no memory */

extern void jobs_get(Jobs *jobs, const char *key, StoreCallback cb, void *arg);
extern void jobs_list(Jobs *jobs, const char *prefix, const char *after, StoreCallback cb, void *arg);
/* The same with an argument of `size` bytes that is copied, and freed after the callback. */
extern void jobs_get_copy(Jobs *jobs, const char *key, StoreCallback cb, const void *arg, size_t size);
extern void
jobs_list_copy(Jobs *jobs, const char *prefix, const char *after, StoreCallback cb, const void *arg, size_t size);
extern void jobs_remove(Jobs *jobs, const char *key, StoreCallback cb, void *arg);
/* These free `data` (malloc'ed) when done.  A conditional one is tried once. */
extern void jobs_put(Jobs *jobs, const char *key, uint8_t *data, size_t len, StoreCallback cb, void *arg);
extern void jobs_create_object(Jobs *jobs, const char *key, uint8_t *data, size_t len, StoreCallback cb, void *arg);
extern void
jobs_replace(Jobs *jobs, const char *key, const char *etag, uint8_t *data, size_t len, StoreCallback cb, void *arg);

#endif
