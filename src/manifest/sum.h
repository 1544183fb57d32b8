/*
 * sum.h: what a leaf of batches holds, summed up for who need not read it yet.
 */
#ifndef S3AM_SUM_H
#define S3AM_SUM_H

#include <stdbool.h>

#include "manifest/s3am.pb-c.h"

#define SUM_SMALL (1024 * 1024) /* a segment with fewer bytes of rows is a small batch, as all inline ones are */

extern void sum_add(S3am__BatchSum *sum, const S3am__BatchState *state);
/* False: the page's removed rows cannot be decoded. */
extern bool sum_page(S3am__BatchSum *sum, const S3am__Page *page);
extern bool sum_same(const S3am__BatchSum *a, const S3am__BatchSum *b);

#endif
