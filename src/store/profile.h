/*
 * profile.h: a profile of the AWS command line's shared config and credentials files.
 */
#ifndef S3AM_PROFILE_H
#define S3AM_PROFILE_H

#include <stdbool.h>

typedef struct Profile
{
	char *name;
	bool found; /* in one of the files */
	char *access_key; /* NULL where not there */
	char *secret_key;
	char *session_token;
	char *expiration; /* of the session token, ISO 8601 */
	char *region;
	char *endpoint_url;
	char *ca_bundle;
	char *elsewhere; /* name of a property that says where the keys really are: role_arn, credential_process, ... */
} Profile;

/*
 * Reads a profile (NULL: AWS_PROFILE, or "default") from ~/.aws/config and ~/.aws/credentials, or the files that AWS_CONFIG_FILE and
 * AWS_SHARED_CREDENTIALS_FILE name.  A missing file is an empty one.  On failure false and a malloc'ed message.
 */
extern bool profile_read(const char *name, Profile *profile, char **error);
extern void profile_free(Profile *profile);

/* An environment variable; NULL also where it is empty. */
extern const char *environment(const char *name);

#endif
