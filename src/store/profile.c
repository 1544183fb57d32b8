/*
 * profile.c: the AWS command line's shared config and credentials files.
 *
 * Sections are [name], in the config file [profile name] but for the default; properties are lines NAME = VALUE; indented lines
 * belong to a nested property and are passed over; comments begin with # or ;.  What the credentials file says goes before the
 * config file.
 */
#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/digest.h"
#include "store/profile.h"
#include "store/text.h"

const char *
environment(const char *name)
{
	const char *value = getenv(name);

	return value && value[0] ? value : NULL;
}

/* A server that a service manager started may have no HOME. */
static char *
file_name(const char *variable, const char *beneath_home)
{
	const char *name = environment(variable);
	const char *home = environment("HOME");

	if (name)
		return strdup(name);
	if (home == NULL)
	{
		struct passwd *user = getpwuid(geteuid());

		home = user ? user->pw_dir : "";
	}
	return text_format("%s/%s", home, beneath_home);
}

static char *
trim(char *s)
{
	char *end;

	while (isspace((unsigned char) *s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char) end[-1]))
		*--end = '\0';
	return s;
}

/* Is this line, [...], the section of the profile? */
static bool
is_section(char *line, const char *name, bool config)
{
	char *end = strchr(line, ']');

	if (end == NULL)
		return false;
	*end = '\0';
	line = trim(line + 1);
	if (config && strncmp(line, "profile", 7) == 0 && isspace((unsigned char) line[7]))
		line = trim(line + 8);
	else if (config && strcmp(name, "default") != 0)
		return false;
	return strcmp(line, name) == 0;
}

static bool
set(char **field, const char *value)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return false;
	free_secret(*field);
	*field = copy;
	return true;
}

static bool
property(Profile *p, const char *name, const char *value)
{
	static const char *const elsewhere[] = {"role_arn",    "credential_process", "credential_source",
											"sso_session", "sso_start_url",      "web_identity_token_file",
											NULL};
	const struct
	{
		const char *name;
		char **field;
	} known[] = {
		{"aws_access_key_id", &p->access_key},        {"aws_secret_access_key", &p->secret_key},
		{"aws_session_token", &p->session_token},     {"aws_security_token", &p->session_token},
		{"aws_expiration", &p->expiration},           {"expiration", &p->expiration},
		{"x_security_token_expires", &p->expiration}, {"region", &p->region},
		{"endpoint_url", &p->endpoint_url},           {"ca_bundle", &p->ca_bundle},
	};

	if (value[0] == '\0')
		return true;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(name, known[i].name) == 0)
			return set(known[i].field, value);
	for (int i = 0; elsewhere[i]; i++)
		if (strcmp(name, elsewhere[i]) == 0)
			return set(&p->elsewhere, name);
	return true;
}

static bool
read_file(const char *file_name, bool named, bool config, Profile *p, char **error)
{
	FILE *file = fopen(file_name, "re");
	char *line = NULL;
	size_t size = 0;
	bool inside = false;
	bool good = true;

	if (file == NULL)
	{
		/* HOME may be another user's, whose files are not ours to read; a file that was named must be there for us */
		if (errno == ENOENT || errno == ENOTDIR || (errno == EACCES && !named))
			return true;
		*error = text_format("cannot read \"%s\": %s", file_name, strerror(errno));
		return false;
	}
	while (good && getline(&line, &size, file) >= 0)
	{
		char *equals;

		if (line[0] == '#' || line[0] == ';')
			continue;
		if (line[0] == '[')
		{
			inside = is_section(line, p->name, config);
			p->found |= inside;
		}
		else if (inside && !isspace((unsigned char) line[0]) && (equals = strchr(line, '=')) != NULL)
		{
			*equals = '\0';
			for (char *c = line; *c; c++)
				*c = tolower((unsigned char) *c);
			good = property(p, trim(line), trim(equals + 1));
		}
	}
	if (ferror(file))
	{
		*error = text_format("cannot read \"%s\": %s", file_name, strerror(errno));
		good = false;
	}
	fclose(file);
	if (line)
		digest_wipe(line, size);
	free(line);
	return good;
}

bool
profile_read(const char *name, Profile *profile, char **error)
{
	char *config = file_name("AWS_CONFIG_FILE", ".aws/config");
	char *credentials = file_name("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
	bool asked;
	bool good;

	memset(profile, 0, sizeof(*profile));
	*error = NULL;
	if (name == NULL)
		name = environment("AWS_PROFILE");
	if (name == NULL)
		name = environment("AWS_DEFAULT_PROFILE");
	asked = name != NULL;
	profile->name = strdup(name ? name : "default");
	good = config && credentials && profile->name &&
		   read_file(config, environment("AWS_CONFIG_FILE") != NULL, true, profile, error) &&
		   read_file(credentials, environment("AWS_SHARED_CREDENTIALS_FILE") != NULL, false, profile, error);
	if (good && asked && !profile->found)
	{
		*error = text_format("there is no profile \"%s\" in \"%s\" or \"%s\"", profile->name, config, credentials);
		good = false;
	}
	free(config);
	free(credentials);
	if (!good)
		profile_free(profile);
	return good;
}

void
profile_free(Profile *profile)
{
	free(profile->name);
	free_secret(profile->access_key);
	free_secret(profile->secret_key);
	free_secret(profile->session_token);
	free(profile->expiration);
	free(profile->region);
	free(profile->endpoint_url);
	free(profile->ca_bundle);
	free(profile->elsewhere);
	memset(profile, 0, sizeof(*profile));
}
