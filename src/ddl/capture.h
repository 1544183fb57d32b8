/*
 * capture.h: between the files that put a transaction's DDL together.
 */
#ifndef S3AM_DDL_CAPTURE_H
#define S3AM_DDL_CAPTURE_H

#include "postgres.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/objectaddress.h"
#include "nodes/pg_list.h"
#include "nodes/plannodes.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "manifest/s3am.pb-c.h"

/* What an object access event told. */
typedef struct DdlEvent
{
	ObjectAccessType access;
	ObjectAddress object;
	int sub;
	bool dropped_local; /* OAT_DROP: it was local */
	bool dropped_shared; /* OAT_DROP: it travels */
	Oid part_of; /* OAT_DROP: the relation that it was part of */
	char *schema, /* OAT_DROP: its name, if it has one of its own */
		*name;
} DdlEvent;

/* A statement that runs.  Frames make a stack: an event belongs to the innermost one. */
typedef struct DdlFrame
{
	struct DdlFrame *up;
	Node *node;
	uint64 first; /* order of its first event; 0: none yet */
	List *events; /* DdlEvent */
	List *storage_names, /* char *, of relations that got storage, in order */
		*storages; /* uint64 * */
	Snapshot before; /* the catalogs before it ran; NULL if it spans transactions */
} DdlFrame;

/* A statement that travels. */
typedef struct DdlCaptured
{
	SubTransactionId sub;
	uint64 order;
	S3am__DdlStatement message;
	uint64 base; /* version that was shown when it began */
	Oid domain; /* whose values it checked */
	List *names; /* S3am__NameClaim */
	List *schemas; /* S3am__SchemaClaim */
} DdlCaptured;

/* ---- names.c: what a statement claims (rule 20) */
extern void names_claim(DdlCaptured *statement, DdlFrame *frame);
/* An object that a statement names without an event: COMMENT, GRANT. */
extern void names_claim_named(DdlCaptured *statement, Node *node);
/* At PRE_COMMIT: what the transaction has locked so that writers wait, whatever statement did. */
extern void names_claim_locked(DdlCaptured *all);
/* At PRE_COMMIT: throws if there is a column by now whose values the statement has not checked. */
extern void names_check_domain(const DdlCaptured *statement);
extern char *quoted_name(const char *schema, const char *name);
extern char *qualified_name(Oid relid); /* of the schema that it is in now */

/* ---- deparse.c */
/* CREATE TABLE for a relation that exists.  full: with all that belongs to it; else its columns and options. */
extern char *deparse_table(Oid relid, bool full);
/* CREATE SCHEMA IF NOT EXISTS, with privileges and comment. */
extern char *deparse_schema(Oid schema);
extern char *deparse_matview(Oid view);
extern char *deparse_extensions(List *events);

/* ---- values.c: what replaying could compute otherwise */
extern void capture_missing_values(DdlCaptured *statement, DdlFrame *frame);

#endif
