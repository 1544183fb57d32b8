/*
 * local.h: does an object stay on this server?
 */
#ifndef S3AM_DDL_LOCAL_H
#define S3AM_DDL_LOCAL_H

#include "postgres.h"

/* Temporary, unlogged, or a table of another access method; an index is what its table is. */
extern bool local_relation(Oid relid);

/* An object that an object access event names; create: the event is OAT_POST_CREATE or OAT_POST_ALTER. */
extern bool local_object(Oid class_id, Oid object_id, bool create);

/* Does a view (or any relation's rules) read a local relation? */
extern bool local_view(Oid relid);

/* After a statement: does what it made depend on a local relation? */
extern bool local_by_dependency(Oid class_id, Oid object_id);

#endif
