/*
 * recent.h: the objects of the last manifests, as they were applied, so that whoever builds a checkpoint need not read them again.
 *
 * At most RECENT_VERSIONS of them and as many bytes as asked for; the oldest go first.  What is not here is in the store.
 */
#ifndef S3AM_MANIFEST_RECENT_H
#define S3AM_MANIFEST_RECENT_H

#include <stddef.h>
#include <stdint.h>

#define RECENT_VERSIONS 4096

typedef struct Recent Recent;

/* NULL: out of memory; then nothing is kept. */
extern Recent *recent_create(size_t max_bytes);
extern void recent_free(Recent *r);

/* Keeps a copy, if there is memory for it.  Versions must ascend. */
extern void recent_add(Recent *r, uint64_t version, const uint8_t *object, size_t len);

/* NULL: not here.  Valid until the next recent_add. */
extern const uint8_t *recent_get(const Recent *r, uint64_t version, size_t *len);

#endif
