/*
 * s3_verdict.c: what the end of an attempt means.
 *
 * For a conditional write every answer but a clear yes or no is undecided: the write may have landed, or may still land.  Only if not a
 * byte of it was sent, it is merely unavailable.  For all others the question is whether trying again may help.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/s3.h"

void
s3_error(StoreOp *op, StoreStatus status, const char *format, ...)
{
	static const char *const verbs[] = {"read", "write", "create", "replace", "list", "remove", "make"};
	const Target *t = &op->s3->target;
	va_list args;
	int n;

	op->status = status;
	if (op->key)
		n = snprintf(op->error, sizeof(op->error), "cannot %s \"s3://%s/%.200s%.300s\": ", verbs[op->kind], t->bucket,
					 t->prefix, op->key);
	else
		n = snprintf(op->error, sizeof(op->error), "cannot %s bucket \"%s\": ", verbs[op->kind], t->bucket);
	if (n >= (int) sizeof(op->error))
		n = sizeof(op->error) - 1;
	va_start(args, format);
	(void) vsnprintf(op->error + n, sizeof(op->error) - n, format, args);
	va_end(args);
}

static bool
code_is(const Answer *a, const char *const codes[])
{
	for (int i = 0; codes[i]; i++)
		if (strcmp(a->code, codes[i]) == 0)
			return true;
	return false;
}

/* As RGW, MinIO and others call it. */
static bool
is_full(const Answer *a)
{
	static const char *const codes[] = {"QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull",
										"InsufficientStorage", NULL};

	return code_is(a, codes);
}

static void
clock_text(int64_t ms, char *text, size_t size)
{
	time_t t = ms / 1000;
	struct tm tm;

	(void) strftime(text, size, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&t, &tm));
}

/* What to do about it, for the usual ones; "" for others. */
static void
remedy(const StoreOp *op, char *text, size_t size)
{
	static const char *const wrong_keys[] = {"InvalidAccessKeyId",   "InvalidToken",         "ExpiredToken",
											 "TokenRefreshRequired", "InvalidClientTokenId", NULL};
	static const char *const wrong_region[] = {
		"AuthorizationHeaderMalformed",       "PermanentRedirect", "TemporaryRedirect",
		"IllegalLocationConstraintException", "Redirect",          NULL};
	const Answer *a = &op->answer;
	const Target *t = &op->s3->target;

	text[0] = '\0';
	if (strcmp(a->code, "RequestTimeTooSkewed") == 0)
	{
		char here[40], there[40] = "unknown";

		clock_text((int64_t) time(NULL) * 1000, here, sizeof(here));
		if (a->date_ms)
			clock_text(a->date_ms, there, sizeof(there));
		(void) snprintf(text, size, "; this server's clock says %s, the store's %s: set the one that is wrong", here,
						there);
	}
	else if (code_is(a, wrong_keys))
		(void) snprintf(text, size, "; the credentials came from %s: correct them there",
						op->s3->credentials.source ? op->s3->credentials.source : "nowhere");
	else if (strcmp(a->code, "SignatureDoesNotMatch") == 0)
		(void) snprintf(text, size,
						"; the secret key (from %s) is wrong, or something between here and the store changes requests",
						op->s3->credentials.source ? op->s3->credentials.source : "nowhere");
	else if (a->region[0] && strcmp(a->region, t->region) != 0 &&
			 (code_is(a, wrong_region) || (a->status >= 300 && a->status < 400) || a->status == 400))
		(void) snprintf(text, size, "; the bucket is in region \"%s\", not \"%s\": set s3am.region", a->region,
						t->region);
	else if (a->status >= 300 && a->status < 400)
		(void) snprintf(text, size, "; the bucket is elsewhere: check s3am.endpoint and s3am.region");
	else if (strcmp(a->code, "NoSuchBucket") == 0)
		(void) snprintf(text, size,
						"; there is no bucket \"%s\" at %s: create it, or correct s3am.repository or s3am.endpoint",
						t->bucket, t->endpoint);
	else if (is_full(a))
		(void) snprintf(text, size, "; make room, or raise the quota of bucket \"%s\" or its owner", t->bucket);
	else if (strcmp(a->code, "AccessDenied") == 0 || a->status == 401 || a->status == 403)
		(void) snprintf(text, size,
						"; allow these credentials to get, put, list and delete objects under \"s3://%s/%.100s\"",
						t->bucket, t->prefix);
	else if (a->status == 404 && a->code[0] == '\0')
		(void) snprintf(text, size, "; is %s an S3 server?  Check s3am.endpoint and s3am.addressing", t->endpoint);
}

static void
answered(StoreOp *op, StoreStatus status)
{
	const Answer *a = &op->answer;
	char what[400];

	remedy(op, what, sizeof(what));
	s3_error(op, status, "%s answered %d%s%s%s%s%s%s", op->s3->target.endpoint, a->status, a->code[0] ? " " : "",
			 a->code, a->message[0] ? " (" : "", a->message, a->message[0] ? ")" : "", what);
}

/* libcurl gave up.  Its own words name hosts and files, never credentials. */
static S3Next
transport_failed(StoreOp *op, CURLcode code)
{
	const char *words = op->curl_error[0] ? op->curl_error : curl_easy_strerror(code);
	const char *what = "";
	S3Next next = S3_TRY_AGAIN;
	StoreStatus status = s3_conditional(op) && op->asked ? STORE_UNDECIDED : STORE_UNAVAILABLE;

	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
		case CURLE_COULDNT_CONNECT:
			what = "; check s3am.endpoint, and whether the store runs and can be reached from here";
			break;
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
			what = "; if an authority of your own signed the store's certificate, set s3am.ca_file";
			next = S3_DONE;
			break;
		case CURLE_PARTIAL_FILE:
			if (!s3_conditional(op))
				status = STORE_DAMAGED;
			break;
		case CURLE_OUT_OF_MEMORY:
			next = S3_DONE;
			break;
		default:
			break;
	}
	s3_error(op, status, "%s: %s%s", op->s3->target.endpoint, words, what);
	return next;
}

/* Are the bytes the ones that were asked for? */
static S3Next
check_bytes(StoreOp *op)
{
	Answer *a = &op->answer;
	bool ranged = op->offset > 0 || op->length >= 0;
	uint8_t md5[MD5_BYTES];
	char hex[2 * MD5_BYTES + 1];

	if (a->content_length < 0 && !a->chunked)
	{
		s3_error(op, STORE_DAMAGED, "%s did not say how long the object is, so it may be truncated",
				 op->s3->target.endpoint);
		return S3_TRY_AGAIN;
	}
	if (a->status == 200 && ranged && op->offset > 0)
	{
		s3_error(op, STORE_DENIED, "%s answered with the whole object instead of a part of it: s3am needs ranged reads",
				 op->s3->target.endpoint);
		return S3_DONE;
	}
	if (a->status == 206)
	{
		uint64_t want = op->length > 0 ? (uint64_t) op->length : op->length == 0 ? 1 : UINT64_MAX;

		if (!a->has_range || a->range_first != op->offset || op->offset > a->object_size ||
			a->len != (want < a->object_size - op->offset ? want : a->object_size - op->offset))
		{
			s3_error(op, STORE_DAMAGED,
					 "%s answered with %zu bytes from %llu of %llu, which is not the part that was asked for",
					 op->s3->target.endpoint, a->len, (unsigned long long) a->range_first,
					 (unsigned long long) a->object_size);
			return S3_TRY_AGAIN;
		}
	}
	else
	{
		a->object_size = a->len;
		/* the whole object: then its ETag may tell whether it is right */
		if (op->s3->etags_are_md5 > 0 && !a->etag_is_no_md5 && strlen(a->etag) == 34 &&
			digest_md5(a->body, a->len, md5))
		{
			digest_hex(md5, MD5_BYTES, hex);
			if (strspn(a->etag + 1, "0123456789abcdef") == 32 && strncmp(a->etag + 1, hex, 32) != 0)
			{
				s3_error(op, STORE_DAMAGED, "%s answered with %zu bytes that do not fit the object's ETag %s",
						 op->s3->target.endpoint, a->len, a->etag);
				return S3_TRY_AGAIN;
			}
		}
	}
	if (op->length == 0)
		a->len = 0;
	op->status = STORE_OK;
	return S3_DONE;
}

/* A write that landed shows what this store's ETags are. */
static void
learn_etags(StoreOp *op)
{
	char hex[2 * MD5_BYTES + 1];

	if (!op->has_md5 || op->s3->etags_are_md5 < 0 || op->answer.etag[0] == '\0')
		return;
	digest_hex(op->md5, MD5_BYTES, hex);
	op->s3->etags_are_md5 =
		strlen(op->answer.etag) == 34 && strncmp(op->answer.etag + 1, hex, 32) == 0 && !op->answer.etag_is_no_md5 ? 1
																												  : -1;
}

static S3Next
succeeded(StoreOp *op)
{
	Answer *a = &op->answer;
	const char *wrong;

	switch (op->kind)
	{
		case S3_GET:
			return check_bytes(op);
		case S3_LIST:
			listed_free(&op->listed);
			wrong = answer_list(a, op->s3->target.prefix, op->key, &op->listed);
			if (wrong)
			{
				s3_error(op, STORE_DAMAGED, "%s: %s", op->s3->target.endpoint, wrong);
				return S3_TRY_AGAIN;
			}
			break;
		case S3_PUT:
		case S3_CREATE:
		case S3_REPLACE:
			learn_etags(op);
			break;
		default:
			break;
	}
	op->status = STORE_OK;
	return S3_DONE;
}

S3Next
s3_verdict(StoreOp *op, CURLcode code, bool *slow_down)
{
	static const char *const busy[] = {"SlowDown",
									   "ServiceUnavailable",
									   "TooManyRequests",
									   "ThrottlingException",
									   "RequestLimitExceeded",
									   "Throttling",
									   "BandwidthLimitExceeded",
									   NULL};
	static const char *const passing[] = {
		"RequestTimeout",      "InternalError",  "OperationAborted",           "BadDigest", "XAmzContentSHA256Mismatch",
		"XMinioInvalidDigest", "IncompleteBody", "ConditionalRequestConflict", "Timeout",   NULL};
	static const char *const credentials[] = {
		"InvalidAccessKeyId",    "InvalidToken", "ExpiredToken",         "TokenRefreshRequired",
		"SignatureDoesNotMatch", "AccessDenied", "InvalidClientTokenId", NULL};
	Answer *a = &op->answer;
	bool success = a->status >= 200 && a->status < 300;

	*slow_down = false;
	if (a->no_memory)
	{
		s3_error(op, STORE_UNAVAILABLE, "out of memory");
		return S3_DONE;
	}
	if (a->too_long)
	{
		/* only where a range was asked for, or of a list */
		if (op->kind == S3_GET)
			s3_error(op, STORE_DENIED,
					 "%s answered with more than the part that was asked for: s3am needs ranged reads",
					 op->s3->target.endpoint);
		else
			s3_error(op, s3_conditional(op) ? STORE_UNDECIDED : STORE_DAMAGED, "%s answered with far too much",
					 op->s3->target.endpoint);
		return S3_DONE;
	}
	if (code != CURLE_OK && !(a->status >= 300 && code == CURLE_SEND_ERROR))
		return transport_failed(op, code);
	if (success && op->kind == S3_GET)
		return succeeded(op); /* an object may look like an error */
	if (answer_error(a) || !success)
	{
		if (a->status == 507 && is_full(a))
		{
			answered(op, STORE_FULL);
			return S3_DONE;
		}
		*slow_down = a->status == 503 || a->status == 429 || code_is(a, busy);
		if (*slow_down || a->status >= 500 || a->status == 408 || a->status == 409 || success ||
			(a->status >= 400 && code_is(a, passing)))
		{
			answered(op, s3_conditional(op) ? STORE_UNDECIDED : STORE_UNAVAILABLE);
			return S3_TRY_AGAIN;
		}
		if (a->status == 416 && op->kind == S3_GET)
		{
			a->len = 0;
			op->status = STORE_OK;
			return S3_DONE;
		}
		if ((a->status == 412 || a->status == 304) && s3_conditional(op))
		{
			answered(op, STORE_PRECONDITION);
			return S3_DONE;
		}
		/* only what says so means that the object is not there: a bucket may be gone, or a stranger answer */
		if (a->status == 404 && strcmp(a->code, "NoSuchKey") == 0)
		{
			if (op->kind == S3_REMOVE)
				op->status = STORE_OK;
			else
				answered(op, STORE_NOT_FOUND);
			return S3_DONE;
		}
		if (is_full(a))
		{
			answered(op, STORE_FULL);
			return S3_DONE;
		}
		answered(op, STORE_DENIED);
		return a->status == 401 || code_is(a, credentials) ? S3_NEW_CREDENTIALS : S3_DONE;
	}
	return succeeded(op);
}
