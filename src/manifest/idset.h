/*
 * idset.h: a set of object ids (epoch, number).
 */
#ifndef S3AM_IDSET_H
#define S3AM_IDSET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct IdSet IdSet;

extern IdSet *idset_create(void);
extern void idset_free(IdSet *s);
extern bool idset_add(IdSet *s, uint64_t epoch, uint64_t number); /* false: it was there */
extern bool idset_contains(const IdSet *s, uint64_t epoch, uint64_t number);

#endif
