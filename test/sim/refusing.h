/*
 * refusing.h: what the files of src/manifest see in place of the C library's functions: there may be no memory (world.c).
 */
#ifndef SIM_REFUSING_H
#define SIM_REFUSING_H

#include <stdlib.h>
#include <string.h>

extern void *sim_malloc(size_t size);
extern void *sim_calloc(size_t n, size_t size);
extern void *sim_realloc(void *p, size_t size);

#define malloc sim_malloc
#define calloc sim_calloc
#define realloc sim_realloc

#endif
