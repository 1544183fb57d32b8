/*
 * progress.h: how far a long task of this session is, for s3am.progress.
 */
#ifndef S3AM_PROGRESS_H
#define S3AM_PROGRESS_H

#include "node/node.h"

/* command, phase: constants.  The caller ends it however his task ends. */
extern void progress_begin(const char *command, const char *phase);
extern void progress_phase(const char *phase);
extern void progress_end(void);
extern NodeProgress *progress_mine(void); /* the counters, which the task moves itself */

#endif
