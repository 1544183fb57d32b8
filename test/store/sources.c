/*
 * sources.c: where credentials, region and endpoint come from, and where a store's requests go.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "store/credentials.h"
#include "store/target.h"
#include "tap.h"

static char directory[] = "/tmp/s3am-sources.XXXXXX";

static const char *
write_file(const char *name, const char *text)
{
	static char path[2][100];
	static int next;
	FILE *file;

	next = !next;
	snprintf(path[next], sizeof(path[next]), "%s/%s", directory, name);
	file = fopen(path[next], "w");
	fputs(text, file);
	fclose(file);
	return path[next];
}

static void
no_environment(void)
{
	static const char *const names[] = {"AWS_ACCESS_KEY_ID",         "AWS_SECRET_ACCESS_KEY",
										"AWS_SESSION_TOKEN",         "AWS_PROFILE",
										"AWS_DEFAULT_PROFILE",       "AWS_REGION",
										"AWS_DEFAULT_REGION",        "AWS_ENDPOINT_URL",
										"AWS_ENDPOINT_URL_S3",       "AWS_CA_BUNDLE",
										"AWS_CONFIG_FILE",           "AWS_SHARED_CREDENTIALS_FILE",
										"AWS_CREDENTIAL_EXPIRATION", NULL};

	for (int i = 0; names[i]; i++)
		unsetenv(names[i]);
	setenv("HOME", directory, 1);
}

static void
from(const CredentialSettings *settings, const char *wanted, const char *name)
{
	Credentials c;
	char *error;
	char got[600];

	if (credentials_load(settings, &c, &error))
		snprintf(got, sizeof(got), "%s/%s/%s", c.access_key, c.secret_key, c.session_token ? c.session_token : "-");
	else
		snprintf(got, sizeof(got), "error: %s", error);
	if (strncmp(wanted, "error: ", 7) == 0
			? !ok(strncmp(got, "error: ", 7) == 0 && strstr(got, wanted + 7) != NULL, "%s", name)
			: !is_text(got, wanted, name))
		printf("# got %s\n", got);
	free(error);
	credentials_wipe(&c);
}

static void
credentials(void)
{
	CredentialSettings none = {0}, settings = {.access_key = "set", .secret_key = "setsecret"},
					   half = {.access_key = "set"}, profile = {.profile = "other"}, nobody = {.profile = "nobody"},
					   role = {.profile = "role"};
	Credentials c;
	char *error;

	from(&none, "error: there are no credentials", "nothing is anywhere");
	setenv("AWS_SHARED_CREDENTIALS_FILE",
		   write_file(
			   "credentials",
			   "# a comment\n; another\n[default]\naws_access_key_id = filekey\naws_secret_access_key=filesecret\n\n"
			   "[ other ]\r\nAWS_ACCESS_KEY_ID=otherkey\r\naws_secret_access_key = a/b+c==\r\naws_session_token = "
			   "othertoken\r\n"
			   "[broken]\naws_access_key_id = x y\naws_secret_access_key = z\n"),
		   1);
	setenv(
		"AWS_CONFIG_FILE",
		write_file(
			"config",
			"[default]\nregion = config-region\naws_access_key_id = configkey\naws_secret_access_key = configsecret\n"
			"s3 =\n    aws_access_key_id = nested\n    addressing_style = path\n"
			"[profile other]\nregion = other-region\nendpoint_url = https://other.example\n"
			"[profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = default\n"
			"[other]\nregion = not-a-profile\n"),
		1);
	from(&none, "filekey/filesecret/-", "the credentials file goes before the config file");
	from(&profile, "otherkey/a/b+c==/othertoken", "a profile, with a token");
	setenv("AWS_PROFILE", "other", 1);
	from(&none, "otherkey/a/b+c==/othertoken", "AWS_PROFILE");
	setenv("AWS_PROFILE", "broken", 1);
	from(&none, "error: a blank or a line break", "a key that cannot be one");
	unsetenv("AWS_PROFILE");
	from(&nobody, "error: there is no profile \"nobody\"", "an unknown profile");
	from(&role, "error: gets its keys by role_arn", "a profile with a role");
	setenv("AWS_ACCESS_KEY_ID", "envkey", 1);
	from(&none, "error: an access key but no secret", "half a pair in the environment");
	setenv("AWS_SECRET_ACCESS_KEY", "envsecret", 1);
	from(&none, "envkey/envsecret/-", "the environment goes before the files");
	setenv("AWS_SESSION_TOKEN", "envtoken", 1);
	from(&none, "envkey/envsecret/envtoken", "with a token");
	from(&profile, "otherkey/a/b+c==/othertoken", "a profile in the settings goes before it");
	from(&settings, "set/setsecret/-", "the settings go before everything, and nothing is mixed");
	from(&half, "error: an access key but no secret", "half a pair in the settings");
	setenv("AWS_CREDENTIAL_EXPIRATION", "2030-01-02T03:04:05Z", 1);
	ok(credentials_load(&none, &c, &error) && c.expires == 1893553445, "expiration");
	credentials_wipe(&c);
	no_environment();
	setenv("AWS_SHARED_CREDENTIALS_FILE", directory, 1);
	from(&none, "error: cannot read", "a file that cannot be read");
	no_environment();
}

static void
goes_to(const char *url, const char *endpoint, const char *region, int virtual_host, const char *wanted,
		const char *name)
{
	StoreOptions options = {.url = url, .endpoint = endpoint, .region = region, .virtual_host = virtual_host};
	Target t;
	char *error = NULL;
	char got[600];

	if (target_resolve(&options, &t, &error))
	{
		char *path = target_path(&t, "k y");
		char *bucket = target_path(&t, NULL);

		snprintf(got, sizeof(got), "%s%s %s %s %s", t.base, path, bucket, t.host, t.region);
		free(path);
		free(bucket);
		target_free(&t);
	}
	else
		snprintf(got, sizeof(got), "error: %s", error ? error : "");
	if (strncmp(wanted, "error: ", 7) == 0
			? !ok(strncmp(got, "error: ", 7) == 0 && strstr(got, wanted + 7) != NULL, "%s", name)
			: !is_text(got, wanted, name))
		printf("# got %s\n", got);
	free(error);
}

static void
targets(void)
{
	goes_to("s3://bucket/pre/fix", NULL, "eu-west-1", -1,
			"https://bucket.s3.eu-west-1.amazonaws.com/pre/fix/k%20y / bucket.s3.eu-west-1.amazonaws.com eu-west-1",
			"AWS");
	goes_to("s3://bucket", NULL, NULL, -1,
			"https://bucket.s3.us-east-1.amazonaws.com/k%20y / bucket.s3.us-east-1.amazonaws.com us-east-1",
			"the default region, no prefix");
	goes_to("s3://buc.ket/p/", NULL, "eu-west-1", -1,
			"https://s3.eu-west-1.amazonaws.com/buc.ket/p/k%20y /buc.ket s3.eu-west-1.amazonaws.com eu-west-1",
			"a bucket with a dot goes into the path");
	goes_to("s3://bucket/p", NULL, "cn-north-1", 0,
			"https://s3.cn-north-1.amazonaws.com.cn/bucket/p/k%20y /bucket s3.cn-north-1.amazonaws.com.cn cn-north-1",
			"China, path style");
	goes_to("s3://bucket/p", "http://127.0.0.1:9000", NULL, -1,
			"http://127.0.0.1:9000/bucket/p/k%20y /bucket 127.0.0.1:9000 us-east-1",
			"another endpoint has the bucket in the path");
	goes_to("s3://bucket/p", "https://minio.example:443/", NULL, 1,
			"https://bucket.minio.example/p/k%20y / bucket.minio.example us-east-1",
			"or in the host if asked; the default port goes");
	goes_to("s3://bucket/p", "http://[::1]:80", NULL, -1, "http://[::1]/bucket/p/k%20y /bucket [::1] us-east-1",
			"IPv6");
	goes_to("s3://bucket/p", "http://[::1]:9000", NULL, -1,
			"http://[::1]:9000/bucket/p/k%20y /bucket [::1]:9000 us-east-1", "IPv6 with a port");
	goes_to("s3://bucket/p", "minio:9000", NULL, -1, "error: the endpoint must be", "an endpoint without a scheme");
	goes_to("s3://bucket/p", "http://user:secret@minio:9000", NULL, -1, "error: the endpoint must be",
			"with a password");
	goes_to("s3://bucket/p", "http://minio:9000/path", NULL, -1, "error: the endpoint must be", "with a path");
	goes_to("s3://", NULL, NULL, -1, "error: names no bucket", "no bucket");
	goes_to("s3://ab/x", NULL, NULL, -1, "error: names no bucket", "a short name");
	goes_to("s3://buck et/x", NULL, NULL, -1, "error: names no bucket", "a blank in it");
	goes_to("s3://bucket/a//b", NULL, NULL, -1, "error: prefix", "an odd prefix");
	goes_to("s3://bucket/../b", NULL, NULL, -1, "error: prefix", "a prefix with dots");
	goes_to("s3://bucket/p", NULL, "eu west", -1, "error: no name of a region", "an odd region");
	setenv("AWS_DEFAULT_REGION", "env-default", 1);
	goes_to("s3://bucket/p", "http://h", NULL, -1, "http://h/bucket/p/k%20y /bucket h env-default",
			"AWS_DEFAULT_REGION");
	setenv("AWS_REGION", "env-region", 1);
	goes_to("s3://bucket/p", "http://h", NULL, -1, "http://h/bucket/p/k%20y /bucket h env-region", "AWS_REGION");
	setenv("AWS_ENDPOINT_URL", "http://env", 1);
	goes_to("s3://bucket/p", NULL, NULL, -1, "http://env/bucket/p/k%20y /bucket env env-region", "AWS_ENDPOINT_URL");
	setenv("AWS_ENDPOINT_URL_S3", "http://env-s3", 1);
	goes_to("s3://bucket/p", NULL, NULL, -1, "http://env-s3/bucket/p/k%20y /bucket env-s3 env-region",
			"AWS_ENDPOINT_URL_S3");
	goes_to("s3://bucket/p", "http://set", "set", -1, "http://set/bucket/p/k%20y /bucket set set",
			"the settings go before");
}

int
main(void)
{
	char command[100];

	if (mkdtemp(directory) == NULL)
		return 2;
	no_environment();
	credentials();
	targets();
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return done_testing() | system(command);
}
