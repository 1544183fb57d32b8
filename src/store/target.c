/*
 * target.c: where an S3 store is.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "store/driver.h"
#include "store/profile.h"
#include "store/target.h"
#include "store/text.h"

static bool
parse_url(const char *url, Target *t, char **error)
{
	const char *bucket = url + strlen("s3://");
	size_t len = strcspn(bucket, "/");
	size_t prefix_len;

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char) bucket[i]) && !strchr(".-_", bucket[i]))
			len = 0;
	if (len < 3 || len > 255 || bucket[0] == '.')
	{
		*error =
			text_format("\"%.100s\" names no bucket: an address is s3://bucket/prefix, and a bucket's name has three "
						"letters, digits, dots or hyphens at least",
						url);
		return false;
	}
	t->bucket = strndup(bucket, len);
	bucket += len;
	while (*bucket == '/')
		bucket++;
	prefix_len = strlen(bucket);
	while (prefix_len > 0 && bucket[prefix_len - 1] == '/')
		prefix_len--;
	t->prefix = prefix_len ? text_format("%.*s/", (int) prefix_len, bucket) : strdup("");
	if (t->bucket == NULL || t->prefix == NULL)
		return false;
	if (prefix_len)
	{
		char *name = strndup(bucket, prefix_len);
		const char *wrong = name ? store_key_error(name) : "no memory";

		free(name);
		if (wrong)
		{
			*error = text_format("prefix \"%.*s\" cannot be used: %s", (int) (prefix_len > 100 ? 100 : prefix_len),
								 bucket, wrong);
			return false;
		}
	}
	return true;
}

/* scheme://host[:port], and no more: whatever else stands there could be a secret or get lost. */
static bool
parse_endpoint(const char *endpoint, char **scheme, char **host, char **error)
{
	const char *rest;
	size_t len;

	if (strncmp(endpoint, "https://", 8) == 0)
		rest = endpoint + 8;
	else if (strncmp(endpoint, "http://", 7) == 0)
		rest = endpoint + 7;
	else
		rest = "";
	len = strcspn(rest, "/");
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char) rest[i]) && !strchr(".-_:[]", rest[i]))
			len = 0;
	if (len == 0 || rest[len + strspn(rest + len, "/")] != '\0')
	{
		*error =
			strdup("the endpoint must be http://host[:port] or https://host[:port], without a path, a user or a query");
		return false;
	}
	*scheme = strndup(endpoint, rest - endpoint);
	/* the default port is left out of the Host header, and so of what is signed */
	if (rest[0] != '[' || memchr(rest, ']', len))
	{
		const char *port = rest[0] == '[' ? (const char *) memchr(rest, ']', len) + 1 : rest + strcspn(rest, ":");

		if (strncmp(port, endpoint[4] == 's' ? ":443" : ":80", endpoint[4] == 's' ? 4 : 3) == 0 &&
			port + (endpoint[4] == 's' ? 4 : 3) == rest + len)
			len = port - rest;
	}
	*host = strndup(rest, len);
	return *scheme && *host;
}

static const char *
first(const char *a, const char *b)
{
	return a ? a : b;
}

bool
target_resolve(const StoreOptions *options, Target *t, char **error)
{
	Profile profile;
	const char *endpoint;
	const char *ca_file;
	char *scheme = NULL, *host = NULL;
	bool good = false;

	memset(t, 0, sizeof(*t));
	*error = NULL;
	if (!profile_read(options->profile, &profile, error))
		return false;
	t->region = strdup(first(first(first(options->region, environment("AWS_REGION")),
								   first(environment("AWS_DEFAULT_REGION"), profile.region)),
							 "us-east-1"));
	endpoint = first(first(options->endpoint, environment("AWS_ENDPOINT_URL_S3")),
					 first(environment("AWS_ENDPOINT_URL"), profile.endpoint_url));
	ca_file = first(options->ca_file, first(environment("AWS_CA_BUNDLE"), profile.ca_bundle));
	if (t->region == NULL || (ca_file && (t->ca_file = strdup(ca_file)) == NULL) || !parse_url(options->url, t, error))
		goto done;
	if (strlen(t->region) > 64 ||
		t->region[strspn(t->region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")])
	{
		*error = text_format("\"%.64s\" is no name of a region", t->region);
		goto done;
	}
	if (endpoint)
	{
		t->path_style = options->virtual_host != 1;
		if (!parse_endpoint(endpoint, &scheme, &host, error))
			goto done;
	}
	else
	{
		/* a wildcard certificate covers one label, so a bucket with dots goes into the path */
		t->path_style = options->virtual_host == 0 || (options->virtual_host < 0 && strchr(t->bucket, '.'));
		scheme = strdup("https://");
		host = text_format("s3.%s.amazonaws.com%s", t->region, strncmp(t->region, "cn-", 3) == 0 ? ".cn" : "");
		if (scheme == NULL || host == NULL)
			goto done;
	}
	t->endpoint = text_format("%s%s", scheme, host);
	t->host = t->path_style ? strdup(host) : text_format("%s.%s", t->bucket, host);
	t->base = t->host ? text_format("%s%s", scheme, t->host) : NULL;
	good = t->endpoint && t->base;
done:
	free(scheme);
	free(host);
	profile_free(&profile);
	if (!good)
		target_free(t);
	return good;
}

void
target_free(Target *t)
{
	free(t->bucket);
	free(t->prefix);
	free(t->base);
	free(t->host);
	free(t->endpoint);
	free(t->region);
	free(t->ca_file);
	memset(t, 0, sizeof(*t));
}

char *
target_path(const Target *t, const char *key)
{
	Text path = {0};

	text_adds(&path, "/");
	if (t->path_style)
	{
		text_adds(&path, t->bucket);
		if (key)
			text_adds(&path, "/");
	}
	if (key)
	{
		text_add_encoded(&path, t->prefix, true);
		text_add_encoded(&path, key, true);
	}
	return text_take(&path);
}
