/*
 * statement.h: what kind of statement travels, and what it names.
 */
#ifndef S3AM_DDL_STATEMENT_H
#define S3AM_DDL_STATEMENT_H

#include "postgres.h"

#include "nodes/plannodes.h"
#include "tcop/utility.h"

typedef enum Travel
{
	TRAVEL_NOT, /* changes nothing that others have, or stays on each server */
	TRAVEL_TEXT, /* its text, or what it was made of */
	TRAVEL_STORAGE /* the new storage of tables, no text */
} Travel;

extern Travel statement_travels(Node *node);

/* May it end the transaction in which it began, and go on in another? */
extern bool statement_spans_transactions(Node *node);

/* CREATE TABLE AS in any of its forms: no query travels. */
extern CreateTableAsStmt *statement_table_as(Node *node);

/* CREATE TABLE (LIKE something that stays here). */
extern bool statement_like_local(Node *node);

/* The access method that it gives a table; NULL: it does not do that. */
extern const char *statement_sets_access_method(Node *node);

/* The relation that it changes; InvalidOid: none, or not there. */
extern Oid statement_relation(Node *node);

/* COMMENT, GRANT and their like fire no event.  Is all that they name local? */
extern bool statement_names_local(Node *node);

/* Positions of local objects in the list of objects that DROP or GRANT names, if it has several; a list of int. */
extern List *statement_left_out(Node *node);

/* IF EXISTS or IF NOT EXISTS: without an event it did nothing. */
extern bool statement_may_do_nothing(Node *node);

/* Throws if s3am cannot have that, before it runs. */
extern void statement_refuse(Node *node);

/* Temporary and unlogged tables whose access method is only the default are heap tables, and so are those of extensions. */
extern PlannedStmt *statement_heap_for_temporary(PlannedStmt *pstmt);

#endif
