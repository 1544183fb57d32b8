/*
 * local.h: does an object stay on this server?
 */
#ifndef S3AM_DDL_LOCAL_H
#define S3AM_DDL_LOCAL_H

#include "postgres.h"

#include "catalog/objectaddress.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"

/*
 * Temporary, unlogged, a table of another access method, part of such a table, or in need of one: a view of a heap table, a
 * function over its row type.  As the catalogs are in `snapshot`: SnapshotSelf sees what a statement has just done.
 */
extern bool local_object(const ObjectAddress *object, Snapshot snapshot);
extern bool local_relation(Oid relid); /* by SnapshotSelf */

/*
 * An object that travels: is there something local that it needs?  Then *needed is that.  An object that is part of a table that
 * travels (a default, a constraint, a trigger) counts as it.
 */
extern bool local_needed(const ObjectAddress *object, ObjectAddress *needed);

extern bool local_table_needs(Oid relid, ObjectAddress *needed);

/* What was there before the extension stays here, as others were never told of it. */
extern bool local_earlier(const ObjectAddress *object);
/* It travels from now on, or is gone. */
extern void local_forget_earlier(const ObjectAddress *object);
/* Such schemas that the object is in; a list of OIDs. */
extern List *local_earlier_schemas(const ObjectAddress *object);

/* The relation that an object is part of, or that it is; InvalidOid: none. */
extern Oid local_part_of(const ObjectAddress *object, Snapshot snapshot);

/* Tables of both kinds in one tree of partitions or inheritance; throws. */
extern void local_check_tree(Oid relid);

/*
 * Of an object that has a name of its own.  False: it has none, or is not there.  schema is "" for those without one; in the
 * current memory context.
 */
extern bool local_object_name(const ObjectAddress *object, Snapshot snapshot, char **schema, char **name);

/* SET ACCESS METHOD takes a table out of the repository: throws if something that travels needs it. */
extern void local_refuse_to_leave(Oid table);

extern bool local_exists(const ObjectAddress *object);

/* Core's transient relations of a rewrite, TOAST, and what is gone already: not objects of their own. */
extern bool local_is_transient(Oid relid);

#endif
