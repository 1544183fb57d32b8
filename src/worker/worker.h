/*
 * worker.h: the background processes.
 */
#ifndef S3AM_WORKER_H
#define S3AM_WORKER_H

#include "postgres.h"

#include "node/node.h"

/* From _PG_init under shared_preload_libraries: registers the launcher. */
extern void worker_register_launcher(void);

/* Main functions, started by name. */
extern PGDLLEXPORT void s3am_launcher_main(Datum arg);
extern PGDLLEXPORT void s3am_committer_main(Datum arg);
extern PGDLLEXPORT void s3am_publisher_main(Datum arg);
extern PGDLLEXPORT void s3am_compactor_main(Datum arg); /* src/compact */
/* Of a worker that is started: its entry, and its database.  Does not return to one that has no say any more. */
extern S3Node *worker_begin(Datum arg, Oid *database);
/* Waits while somebody drops, renames or moves the database of this process, which is not connected to it yet. */
extern void worker_wait_while_leaving(S3Node *node);

#endif
