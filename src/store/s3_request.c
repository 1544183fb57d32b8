/*
 * s3_request.c: one signed request, as libcurl is told.
 *
 * libcurl sends a request a second time by itself when a connection that it used before breaks without an answer, and so would hide
 * the outcome of a conditional write.  It asks before each time that it sends one: of a conditional write the second one is
 * forbidden.  That it asked also tells whether anything can have been sent.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/s3.h"
#include "store/sigv4.h"
#include "store/text.h"

#define MAX_LIST_BODY (16 << 20)
#define MAX_SIGNED 8

static size_t
on_header(char *line, size_t size, size_t n, void *arg)
{
	StoreOp *op = arg;

	op->progress = s3_now();
	answer_header(&op->answer, line, size * n);
	return size * n;
}

static size_t
on_body(char *data, size_t size, size_t n, void *arg)
{
	StoreOp *op = arg;

	op->progress = s3_now();
	return answer_body(&op->answer, data, size * n) ? size * n : 0;
}

static int
on_request(void *arg, char *to, char *from, int to_port, int from_port)
{
	StoreOp *op = arg;

	if (op->asked && s3_conditional(op))
		return CURL_PREREQFUNC_ABORT;
	op->asked = true;
	op->sent = 0;
	op->progress = s3_now();
	return CURL_PREREQFUNC_OK;
}

static size_t
on_send(char *buffer, size_t size, size_t n, void *arg)
{
	StoreOp *op = arg;
	size_t left = op->len - op->sent;
	size_t len = size * n < left ? size * n : left;

	op->progress = s3_now();
	memcpy(buffer, op->data + op->sent, len);
	op->sent += len;
	return len;
}

static bool
hash_body(StoreOp *op)
{
	if (op->hashed)
		return true;
	if (!digest_sha256(op->data ? op->data : (const uint8_t *) "", op->len, op->sha256))
		return false;
	/* where policy forbids MD5 the signed SHA-256 has to do */
	op->has_md5 = (op->kind == S3_PUT || s3_conditional(op)) &&
				  digest_md5(op->data ? op->data : (const uint8_t *) "", op->len, op->md5);
	op->hashed = true;
	return true;
}

/* In the order of their names, as they are signed. */
static char *
list_query(const StoreOp *op)
{
	const char *prefix = op->s3->target.prefix;
	Text query = {0};

	if (op->extra && op->extra[0] == STORE_LIST_TOKEN)
	{
		text_adds(&query, "continuation-token=");
		text_add_encoded(&query, op->extra + 1, false);
		text_adds(&query, "&");
	}
	text_addf(&query, "encoding-type=url&list-type=2&max-keys=%d&prefix=",
			  op->limit > 0 && op->limit < 1000 ? op->limit : 1000);
	text_add_encoded(&query, prefix, false);
	text_add_encoded(&query, op->key, false);
	if (op->extra && op->extra[0] != STORE_LIST_TOKEN)
	{
		text_adds(&query, "&start-after=");
		text_add_encoded(&query, prefix, false);
		text_add_encoded(&query, op->extra, false);
	}
	return text_take(&query);
}

/* A header; an empty value takes away what libcurl would send by itself. */
static bool
add_header(StoreOp *op, const char *name, const char *value)
{
	char *line = text_format("%s:%s%s", name, value[0] ? " " : "", value);
	struct curl_slist *list = line ? curl_slist_append(op->headers, line) : NULL;

	free_secret(line);
	if (list == NULL)
		return false;
	op->headers = list;
	return true;
}

/* Signs the request and makes its headers.  False: no memory. */
static bool
sign(StoreOp *op, const char *time, const char *method, const char *path, const char *query)
{
	S3Store *s3 = op->s3;
	SigHeader headers[MAX_SIGNED];
	SigRequest request = {0};
	char md5[MD5_BASE64];
	char etag[160];
	int n = 0;
	char *authorization;
	bool good;

	if (op->has_md5)
	{
		digest_base64(op->md5, MD5_BYTES, md5);
		headers[n++] = (SigHeader){"content-md5", md5};
	}
	headers[n++] = (SigHeader){"host", s3->target.host};
	if (op->kind == S3_REPLACE)
	{
		size_t len = strlen(op->extra);

		/* the ETag as the store gave it, or without its quotes */
		if (s3->store.unquoted_etag && len >= 2 && op->extra[0] == '"' && op->extra[len - 1] == '"')
			(void) snprintf(etag, sizeof(etag), "%.*s", (int) len - 2, op->extra + 1);
		else
			(void) snprintf(etag, sizeof(etag), "%s", op->extra);
		headers[n++] = (SigHeader){"if-match", etag};
	}
	/* signed, so that nothing on the way can take the condition out of a write that the server then accepts */
	if (op->kind == S3_CREATE)
		headers[n++] = (SigHeader){"if-none-match", "*"};
	headers[n++] = (SigHeader){"x-amz-content-sha256", op->sha256};
	headers[n++] = (SigHeader){"x-amz-date", time};
	if (s3->credentials.session_token)
		headers[n++] = (SigHeader){"x-amz-security-token", s3->credentials.session_token};
	request.method = method;
	request.path = path;
	request.query = query;
	request.headers = headers;
	request.nheaders = n;
	request.payload_sha256 = op->sha256;
	request.time = time;
	request.region = s3->target.region;
	request.service = "s3";
	request.access_key = s3->credentials.access_key;
	request.secret_key = s3->credentials.secret_key;
	authorization = sigv4_authorization(&request, NULL, NULL);
	good = authorization && add_header(op, "Authorization", authorization);
	for (int i = 0; good && i < n; i++)
		good = add_header(op, headers[i].name, headers[i].value);
	free(authorization);
	/* neither "Expect: 100-continue", which costs a round trip, nor a type */
	return good && add_header(op, "Expect", "") && add_header(op, "Content-Type", "");
}

/* Range of a GET; the longest body that is wanted. */
static size_t
range(StoreOp *op, char *text, size_t size)
{
	uint64_t length = op->length > 0 ? op->length : 1; /* a range of nothing cannot be asked for */

	text[0] = '\0';
	if (op->kind == S3_LIST)
		return MAX_LIST_BODY;
	if (op->kind != S3_GET)
		return 65536;
	if (op->length < 0 && op->offset == 0)
		return SIZE_MAX / 2;
	if (op->length < 0)
	{
		(void) snprintf(text, size, "%llu-", (unsigned long long) op->offset);
		return SIZE_MAX / 2;
	}
	(void) snprintf(text, size, "%llu-%llu", (unsigned long long) op->offset,
					(unsigned long long) (op->offset + length - 1));
	return length;
}

static const char *
method_of(const StoreOp *op)
{
	switch (op->kind)
	{
		case S3_GET:
		case S3_LIST:
			return "GET";
		case S3_REMOVE:
			return "DELETE";
		default:
			return "PUT";
	}
}

bool
s3_request(StoreOp *op, const char *time)
{
	S3Store *s3 = op->s3;
	CURL *easy;
	const char *method = method_of(op);
	char bytes[64];
	char *path = target_path(&s3->target, op->kind == S3_LIST ? NULL : op->key);
	char *query = op->kind == S3_LIST ? list_query(op) : strdup("");
	char *url = path && query ? text_format("%s%s%s%s", s3->target.base, path, query[0] ? "?" : "", query) : NULL;
	CURLcode code = CURLE_OK;

	easy = s3->nidle > 0 ? s3->idle[--s3->nidle] : curl_easy_init();
	op->easy = easy;
	op->sent = 0;
	op->asked = false;
	op->curl_error[0] = '\0';
	answer_begin(&op->answer, range(op, bytes, sizeof(bytes)));
	if (easy == NULL || url == NULL || !hash_body(op) || !sign(op, time, method, path, query))
	{
		s3_error(op, STORE_UNAVAILABLE, "out of memory");
		code = CURLE_OUT_OF_MEMORY;
		goto done;
	}
#define SET(option, value)                                                                                             \
	do                                                                                                                 \
	{                                                                                                                  \
		if (code == CURLE_OK)                                                                                          \
			code = curl_easy_setopt(easy, option, value);                                                              \
	} while (0)
	SET(CURLOPT_URL, url);
	SET(CURLOPT_PRIVATE, op);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* a name that is being resolved does not hold up a cancel */
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) s3->connect_timeout);
	SET(CURLOPT_BUFFERSIZE, 65536L);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, 131072L);
	SET(CURLOPT_ERRORBUFFER, op->curl_error);
	SET(CURLOPT_USERAGENT, "s3am");
	SET(CURLOPT_HTTPHEADER, op->headers);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, op);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, op);
	SET(CURLOPT_PREREQFUNCTION, on_request);
	SET(CURLOPT_PREREQDATA, op);
	if (s3->target.ca_file)
		SET(CURLOPT_CAINFO, s3->target.ca_file);
	if (bytes[0])
		SET(CURLOPT_RANGE, bytes);
	if (strcmp(method, "PUT") == 0)
	{
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_READFUNCTION, on_send);
		SET(CURLOPT_READDATA, op);
		SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t) op->len);
	}
	else if (op->kind == S3_REMOVE)
		SET(CURLOPT_CUSTOMREQUEST, method);
#undef SET
	if (code != CURLE_OK)
		s3_error(op, STORE_UNAVAILABLE, "%s", curl_easy_strerror(code));
done:
	free(path);
	free(query);
	free(url);
	if (code != CURLE_OK)
		s3_request_end(op, false);
	return code == CURLE_OK;
}

/*
 * Gives the easy handle back; it must not be with the multi handle any more.  Only one whose request ended well is used again: one that
 * failed early keeps its buffer through curl_easy_reset() and then refuses options.  The connections are not its own.
 */
void
s3_request_end(StoreOp *op, bool good)
{
	S3Store *s3 = op->s3;

	for (struct curl_slist *h = op->headers; h; h = h->next)
		digest_wipe(h->data, strlen(h->data));
	curl_slist_free_all(op->headers);
	op->headers = NULL;
	if (op->easy == NULL)
		return;
	if (good && s3->nidle < s3->max_connections)
	{
		curl_easy_reset(op->easy);
		s3->idle[s3->nidle++] = op->easy;
	}
	else
		curl_easy_cleanup(op->easy);
	op->easy = NULL;
}
