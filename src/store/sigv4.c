/*
 * sigv4.c: AWS Signature Version 4, in the header.
 *
 * A signer of our own because libcurl's (CURLOPT_AWS_SIGV4 of 7.88) does not do: it sends no x-amz-content-sha256, without which Ceph's
 * RGW refuses every request, leaves the query in the order in which it came, and signs encoded keys in a way that no server here
 * takes.  test/store/vectors.c has the published examples.
 */
#include <stdlib.h>
#include <string.h>

#include "store/digest.h"
#include "store/sigv4.h"
#include "store/text.h"

/* Without blanks around it, and with one blank for several. */
static void
add_trimmed(Text *text, const char *value)
{
	while (*value == ' ' || *value == '\t')
		value++;
	for (; *value; value++)
	{
		if (*value == ' ' || *value == '\t')
		{
			while (value[1] == ' ' || value[1] == '\t')
				value++;
			if (value[1] != '\0')
				text_adds(text, " ");
		}
		else
			text_add(text, value, 1);
	}
}

static char *
header_names(const SigRequest *r)
{
	Text names = {0};

	for (int i = 0; i < r->nheaders; i++)
		text_addf(&names, "%s%s", i ? ";" : "", r->headers[i].name);
	return text_take(&names);
}

static char *
canonical_request(const SigRequest *r, const char *names)
{
	Text text = {0};

	text_addf(&text, "%s\n%s\n%s\n", r->method, r->path, r->query);
	for (int i = 0; i < r->nheaders; i++)
	{
		text_addf(&text, "%s:", r->headers[i].name);
		add_trimmed(&text, r->headers[i].value);
		text_adds(&text, "\n");
	}
	text_addf(&text, "\n%s\n%s", names, r->payload_sha256);
	return text_take(&text);
}

/* The key for one day, region and service. */
static bool
signing_key(const SigRequest *r, uint8_t key[SHA256_BYTES])
{
	char *start = text_format("AWS4%s", r->secret_key);
	bool good;

	if (start == NULL)
		return false;
	good = digest_hmac((const uint8_t *) start, strlen(start), r->time, 8, key) &&
		   digest_hmac(key, SHA256_BYTES, r->region, strlen(r->region), key) &&
		   digest_hmac(key, SHA256_BYTES, r->service, strlen(r->service), key) &&
		   digest_hmac(key, SHA256_BYTES, "aws4_request", 12, key);
	free_secret(start);
	return good;
}

char *
sigv4_authorization(const SigRequest *r, char **canonical, char **to_sign)
{
	char *names = header_names(r);
	char *request = names ? canonical_request(r, names) : NULL;
	char *scope = text_format("%.8s/%s/%s/aws4_request", r->time, r->region, r->service);
	char *string = NULL;
	char *authorization = NULL;
	char hash[SHA256_HEX];
	uint8_t key[SHA256_BYTES], mac[SHA256_BYTES];
	char signature[SHA256_HEX];

	if (request && scope && digest_sha256(request, strlen(request), hash))
		string = text_format("AWS4-HMAC-SHA256\n%s\n%s\n%s", r->time, scope, hash);
	if (string && signing_key(r, key) && digest_hmac(key, sizeof(key), string, strlen(string), mac))
	{
		digest_hex(mac, sizeof(mac), signature);
		authorization = text_format("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", r->access_key,
									scope, names, signature);
	}
	digest_wipe(key, sizeof(key));
	if (canonical)
		*canonical = request;
	else
		free(request);
	if (to_sign)
		*to_sign = string;
	else
		free(string);
	free(names);
	free(scope);
	return authorization;
}
