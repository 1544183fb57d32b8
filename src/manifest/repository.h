/*
 * repository.h: opening and creating a repository.  Synchronous (drives the store itself).
 */
#ifndef S3AM_REPOSITORY_H
#define S3AM_REPOSITORY_H

#include "store/store.h"
#include "manifest/s3am.pb-c.h"

typedef enum RepositoryStatus
{
	REPOSITORY_OK,
	REPOSITORY_ABSENT, /* nothing under the prefix */
	REPOSITORY_FOREIGN, /* the prefix holds something else */
	REPOSITORY_NEWER, /* its format needs a newer s3am */
	REPOSITORY_MISMATCH, /* this server does not fit: encoding, collation, ... */
	REPOSITORY_UNFIT_STORE, /* the store failed the conformance race */
	REPOSITORY_DAMAGED,
	REPOSITORY_UNREACHABLE, /* includes STORE_DENIED; see http_status of the message */
	REPOSITORY_INTERRUPTED
} RepositoryStatus;

/*
 * Opens the repository; where the prefix is empty and `create` is not NULL, runs the conformance race, and creates the
 * repository from *create (uuid and verdict are filled in).  A repository is never half created: the repository object is the
 * first and only one, written by create-if-absent; a lost race is an open.  *result is malloc'ed (s3am__repository__free_unpacked).
 * On failure *error is a malloc'ed message naming the object and the remedy.
 */
extern RepositoryStatus repository_open(Store *store, const S3am__Repository *create, bool (*interrupted)(void),
										S3am__Repository **result, char **error);

#endif
