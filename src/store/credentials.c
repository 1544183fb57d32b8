/*
 * credentials.c: where the keys come from.
 *
 * A source has keys, has none (the next one is asked), or is broken (half a pair, an unreadable file, an unknown profile): that ends
 * the search, for whoever set up a source means it.  Sources that ask a service over the network belong at the end of the list.
 */
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

#include "store/credentials.h"
#include "store/digest.h"
#include "store/profile.h"
#include "store/text.h"

typedef enum Found
{
	FOUND,
	NOT_HERE,
	BROKEN
} Found;

typedef struct Source
{
	const char *name;
	Found (*load)(const CredentialSettings *settings, Credentials *credentials, char **error);
} Source;

static bool
copy(const char *access_key, const char *secret_key, const char *session_token, Credentials *c)
{
	c->access_key = strdup(access_key);
	c->secret_key = strdup(secret_key);
	c->session_token = session_token ? strdup(session_token) : NULL;
	return c->access_key && c->secret_key && (c->session_token || session_token == NULL);
}

/* They become part of a header. */
static bool
printable(const char *s)
{
	while (*s > ' ' && *s < 127)
		s++;
	return *s == '\0';
}

static Found
take_pair(const char *access_key, const char *secret_key, const char *session_token, const char *expires,
		  const char *where, Credentials *c, char **error)
{
	if (access_key == NULL && secret_key == NULL)
		return NOT_HERE;
	if (access_key == NULL || secret_key == NULL)
	{
		*error = text_format("%s: there is %s key", where,
							 access_key ? "an access key but no secret" : "a secret key but no access");
		return BROKEN;
	}
	if (!copy(access_key, secret_key, session_token, c))
		return BROKEN;
	if (!printable(access_key) || !printable(secret_key) || (session_token && !printable(session_token)))
	{
		*error = text_format("%s: a key has a blank or a line break in it", where);
		return BROKEN;
	}
	if (expires)
	{
		struct tm t = {0};
		time_t when = strptime(expires, "%Y-%m-%dT%H:%M:%S", &t) ? timegm(&t) : curl_getdate(expires, NULL);

		c->expires = when > 0 ? when : 0;
	}
	return FOUND;
}

static Found
from_settings(const CredentialSettings *s, Credentials *c, char **error)
{
	return take_pair(s->access_key, s->secret_key, s->session_token, NULL,
					 "settings s3am.access_key and s3am.secret_key", c, error);
}

static Found
from_environment(const CredentialSettings *s, Credentials *c, char **error)
{
	/* a profile in the settings is closer than the environment that the server was started in */
	if (s->profile)
		return NOT_HERE;
	return take_pair(environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"),
					 environment("AWS_SESSION_TOKEN"), environment("AWS_CREDENTIAL_EXPIRATION"),
					 "environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", c, error);
}

static Found
from_profile(const CredentialSettings *s, Credentials *c, char **error)
{
	Profile profile;
	Found found;

	if (!profile_read(s->profile, &profile, error))
		return BROKEN;
	found = take_pair(profile.access_key, profile.secret_key, profile.session_token, profile.expiration,
					  "shared credentials file", c, error);
	if (found == NOT_HERE && profile.elsewhere)
	{
		*error = text_format(
			"profile \"%s\" gets its keys by %s, which s3am does not follow: give it keys, or set s3am.access_key "
			"and s3am.secret_key",
			profile.name, profile.elsewhere);
		found = BROKEN;
	}
	profile_free(&profile);
	return found;
}

static const Source sources[] = {
	{"the settings", from_settings},
	{"the environment", from_environment},
	{"the shared credentials file", from_profile},
};

bool
credentials_load(const CredentialSettings *settings, Credentials *credentials, char **error)
{
	*error = NULL;
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
	{
		Found found;

		memset(credentials, 0, sizeof(*credentials));
		found = sources[i].load(settings, credentials, error);
		credentials->source = sources[i].name;
		if (found == FOUND)
			return true;
		credentials_wipe(credentials);
		if (found == BROKEN)
			return false;
	}
	*error = strdup("there are no credentials: set s3am.access_key and s3am.secret_key, or AWS_ACCESS_KEY_ID and "
					"AWS_SECRET_ACCESS_KEY in the server's environment, or have a shared credentials file");
	return false;
}

static bool
same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool
credentials_equal(const Credentials *a, const Credentials *b)
{
	return same(a->access_key, b->access_key) && same(a->secret_key, b->secret_key) &&
		   same(a->session_token, b->session_token);
}

void
credentials_wipe(Credentials *c)
{
	free_secret(c->access_key);
	free_secret(c->secret_key);
	free_secret(c->session_token);
	memset(c, 0, sizeof(*c));
}

void
credential_settings_wipe(CredentialSettings *s)
{
	free_secret(s->access_key);
	free_secret(s->secret_key);
	free_secret(s->session_token);
	free(s->profile);
	memset(s, 0, sizeof(*s));
}
