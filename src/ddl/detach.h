/*
 * detach.h: how a database leaves its repository, or its name.
 */
#ifndef S3AM_DDL_DETACH_H
#define S3AM_DDL_DETACH_H

#include "postgres.h"

#include "nodes/nodes.h"

/* DROP EXTENSION s3am ran in this transaction: when it has committed the workers end. */
extern void detach_at_commit(void);
/* CREATE EXTENSION s3am did: then they start. */
extern void attach_at_commit(void);

/* The attached database whose workers must not be connected while the statement runs; InvalidOid: none. */
extern Oid detach_database(Node *node);
extern void detach_leave(Oid database);
/* It ran: dropped says that the database is gone. */
extern void detach_left(Oid database, bool dropped);

#endif
