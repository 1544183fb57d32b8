/*
 * claims.h: validation of a transaction against those that came before it (rules 15 to 20, 34).
 */
#ifndef S3AM_CLAIMS_H
#define S3AM_CLAIMS_H

#include <stdbool.h>

#include "manifest/keyhashes.h"
#include "manifest/rowset.h"
#include "manifest/s3am.pb-c.h"

/* What two transactions can meet in.  Claims are found by subject. */
typedef enum SubjectKind
{
	SUBJECT_STORAGE, /* rows, batches, reads */
	SUBJECT_INDEX, /* keys */
	SUBJECT_TABLE, /* schema */
	SUBJECT_NAME,
	SUBJECT_SEQUENCE /* who draws */
} SubjectKind;

typedef struct Subject
{
	SubjectKind kind;
	uint64_t id;
} Subject;

/* One set of rows with a mode: a lock, or what an edit ends. */
typedef struct RowsClaim
{
	uint64_t storage;
	S3am__Mode mode;
	uint64_t base;
	RowSet *rows; /* after following what was applied */
	RowSet *ahead; /* after following members of the same group too; NULL: the same */
	S3am__RowClaim *claim; /* if it is a lock */
	const S3am__TableEdit *edit; /* if it comes from an edit */
	bool moved; /* the message must be written anew */
} RowsClaim;

/* The claims of one transaction, decoded once. */
typedef struct Claims
{
	S3am__Txn *txn; /* not owned */
	RowsClaim *rows;
	size_t nrows;
	RowSet **reads; /* of each read claim */
	size_t nreads;
	KeyHashes *keys; /* of each key claim */
	size_t nkeys;
	Subject *subjects; /* ascending, each once */
	size_t nsubjects;
	uint64_t oldest_base; /* of all claims */
} Claims;

extern Claims *claims_decode(S3am__Txn *txn); /* NULL: damaged */
extern void claims_free(Claims *claims);

/*
 * Holds `mine` against an accepted transaction of version `version`, in one subject; claims with a base, or `held`, at or after that
 * version are passed over.  False: they conflict, and detail says over what.  Weak row claims of mine whose rows the other
 * updated compatibly move to the successors (rule 16); with `ahead` provisionally, as the other one is only in the same group.
 */
extern bool claims_fit(Claims *mine, const Claims *other, Subject subject, uint64_t version, uint64_t held, bool ahead,
					   char *detail, size_t size);

/* Drops what was moved provisionally. */
extern void claims_forget_ahead(Claims *claims);

/* Writes the messages of those claims anew that have moved. */
extern void claims_write(Claims *claims);

/* PostgreSQL's conflict matrix of row locks. */
extern bool claims_conflict(S3am__Mode a, S3am__Mode b);

#endif
