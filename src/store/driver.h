/*
 * driver.h: how store.c makes the drivers.
 */
#ifndef S3AM_DRIVER_H
#define S3AM_DRIVER_H

#include "store/store.h"

extern Store *dir_open(const char *path, char **error);
extern Store *s3_open(const StoreOptions *options, char **error);

/* Can a key begin so?  Servers differ in what they make of a prefix like "../". */
extern bool store_prefix_possible(const char *prefix);

#endif
