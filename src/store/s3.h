/*
 * s3.h: the S3 driver's own structures, shared by its files.
 */
#ifndef S3AM_S3_H
#define S3AM_S3_H

#include <curl/curl.h>

#include "store/answer.h"
#include "store/credentials.h"
#include "store/digest.h"
#include "store/driver.h"
#include "store/target.h"

#define S3_MAX_CONNECTIONS 1024

typedef enum S3Kind
{
	S3_GET,
	S3_PUT,
	S3_CREATE,
	S3_REPLACE,
	S3_LIST,
	S3_REMOVE,
	S3_MAKE_BUCKET /* for the tests' own tool */
} S3Kind;

typedef enum S3Where
{
	S3_QUEUED, /* waits for a connection, or until retry_at */
	S3_ACTIVE, /* libcurl has it */
	S3_FINISHED /* its callback is due */
} S3Where;

typedef struct S3List
{
	StoreOp *first, *last;
	int n;
} S3List;

typedef struct S3Store
{
	Store store;
	CURLM *multi;
	int epoll;
	int64_t curl_deadline; /* ms; -1: libcurl wants no call */
	int64_t next_look; /* no operation is without progress for too long before this */
	S3List queued, active, finished;
	int ncancelled; /* operations to be cancelled by the next dispatch */
	CURL *idle[S3_MAX_CONNECTIONS]; /* easy handles to be used again */
	int nidle;

	Target target;
	CredentialSettings settings;
	Credentials credentials;
	int64_t credentials_at; /* when they were read, ms; 0: not yet */
	char *credentials_error;
	int connect_timeout, request_timeout, retry_timeout, max_connections;

	double window; /* requests at once, up to max_connections; less where the server asked to slow down */
	int64_t quiet_until; /* no request starts before this */
	int etags_are_md5; /* -1: a write has shown that they are not; 1: that they are; 0: unknown */
	uint64_t random;
} S3Store;

struct StoreOp
{
	StoreOp *prev, *next;
	S3Where where;
	S3Store *s3;
	S3Kind kind;
	char *key; /* relative; NULL for the bucket itself */
	char *extra; /* replace: the ETag; list: where it goes on */
	const uint8_t *data;
	size_t len;
	uint64_t offset;
	int64_t length;
	int limit;
	StoreCallback cb;
	void *arg;

	bool cancelled;
	bool hashed; /* sha256 and md5 are those of data */
	bool has_md5;
	bool reread_credentials; /* once per operation */
	char sha256[SHA256_HEX];
	uint8_t md5[MD5_BYTES];
	int attempts;
	uint64_t started_us; /* this attempt */
	int64_t submitted, started, /* likewise */
		progress, /* last time that a byte moved */
		retry_at;

	/* of the attempt under way */
	CURL *easy;
	struct curl_slist *headers;
	char curl_error[CURL_ERROR_SIZE];
	size_t sent;
	bool asked; /* the request may have gone out */
	int64_t credentials_at;
	Answer answer;

	StoreStatus status;
	Listed listed;
	char error[768];
};

static inline bool
s3_conditional(const StoreOp *op)
{
	return op->kind == S3_CREATE || op->kind == S3_REPLACE;
}

/* s3_request.c: sets the easy handle up for one attempt.  False: op->status and op->error say why not. */
extern bool s3_request(StoreOp *op, const char *time);
extern void s3_request_end(StoreOp *op, bool good);

/*
 * s3_verdict.c: what an attempt's end means: sets op->status and op->error, fills in the list.  Returns what is to be done.
 */
typedef enum S3Next
{
	S3_DONE,
	S3_TRY_AGAIN, /* if the operation may be tried again, and there is time */
	S3_NEW_CREDENTIALS /* the same, if there are other credentials by now */
} S3Next;

extern S3Next s3_verdict(StoreOp *op, CURLcode code, bool *slow_down);
extern void s3_error(StoreOp *op, StoreStatus status, const char *format, ...) __attribute__((format(printf, 3, 4)));

extern int64_t s3_now(void);

/* For tools: makes the store's bucket. */
extern StoreOp *s3_make_bucket(Store *store, StoreCallback cb, void *arg);

#endif
