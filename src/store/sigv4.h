/*
 * sigv4.h: AWS Signature Version 4, in the header.
 *
 * The signer takes everything as it will be on the wire: path and query are encoded already (S3 encodes once and does not
 * normalise, so a path is canonical as it is), the query is sorted, header names are lower case and sorted.
 */
#ifndef S3AM_SIGV4_H
#define S3AM_SIGV4_H

#include <stdbool.h>
#include <stddef.h>

#define SIGV4_TIME 17 /* 20130524T000000Z and the NUL */

typedef struct SigHeader
{
	const char *name; /* lower case */
	const char *value;
} SigHeader;

typedef struct SigRequest
{
	const char *method;
	const char *path; /* encoded, begins with a slash */
	const char *query; /* encoded, sorted by name; "" for none */
	const SigHeader *headers; /* all that are signed: sorted by name, host and x-amz-date among them */
	int nheaders;
	const char *payload_sha256; /* in hex */
	const char *time; /* the value of x-amz-date */
	const char *region;
	const char *service;
	const char *access_key;
	const char *secret_key;
} SigRequest;

/*
 * The value of the Authorization header; malloc'ed, NULL if there is no memory.  canonical and to_sign (may be NULL) are for tests:
 * the intermediate texts, malloc'ed.
 */
extern char *sigv4_authorization(const SigRequest *request, char **canonical, char **to_sign);

#endif
