/*
 * credentials.h: the keys that requests are signed with, and where they come from.
 */
#ifndef S3AM_CREDENTIALS_H
#define S3AM_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Credentials
{
	char *access_key; /* NULL: there are none */
	char *secret_key;
	char *session_token; /* may be NULL */
	int64_t expires; /* seconds since 1970; 0: never, as far as we know */
	const char *source; /* for error messages */
} Credentials;

/* What the settings say; NULL where they are silent. */
typedef struct CredentialSettings
{
	char *access_key;
	char *secret_key;
	char *session_token;
	char *profile;
} CredentialSettings;

/*
 * Asks the sources in their order; the first that has keys gives them all.  On failure false and a malloc'ed message that says what
 * was looked at.  To read again is to load again.
 */
extern bool credentials_load(const CredentialSettings *settings, Credentials *credentials, char **error);
extern bool credentials_equal(const Credentials *a, const Credentials *b);
extern void credentials_wipe(Credentials *credentials);
extern void credential_settings_wipe(CredentialSettings *settings);

#endif
