/*
 * answer.h: what an S3 server answered: headers, body, and the XML in it.
 */
#ifndef S3AM_ANSWER_H
#define S3AM_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

typedef struct Answer
{
	int status; /* HTTP; 0: none came */
	char etag[136];
	int64_t date_ms; /* 0: unknown */
	int64_t content_length; /* -1: unknown */
	bool chunked;
	bool has_range; /* Content-Range was there: */
	uint64_t range_first, object_size; /* 0: unknown */
	int64_t retry_after_ms; /* -1: not told */
	char region[64]; /* the bucket's, told with some refusals */
	bool etag_is_no_md5; /* encrypted in a way that makes the ETag something else */
	uint8_t *body; /* malloc'ed */
	size_t len, capacity, limit; /* longest body that is wanted */
	bool too_long, no_memory;
	/* of an error body: */
	char code[64];
	char message[200];
} Answer;

extern void answer_begin(Answer *answer, size_t limit);
extern void answer_free(Answer *answer);

/* One line of the header, not terminated. */
extern void answer_header(Answer *answer, const char *line, size_t len);

/* False: no more is wanted, see too_long and no_memory.  What belongs to an error is kept up to a few kilobytes only. */
extern bool answer_body(Answer *answer, const void *data, size_t len);

/* Looks for an error in the body and fills in code and message.  True: there is one. */
extern bool answer_error(Answer *answer);

typedef struct Listed
{
	StoreEntry *entries;
	int n, capacity;
	char *token; /* where the list goes on; NULL: that was all */
} Listed;

/*
 * Reads the body of a ListObjectsV2 of keys that begin with the store's prefix, which they lose, and then with `prefix`.  NULL, or
 * what is wrong with it (a constant).
 */
extern const char *answer_list(const Answer *answer, const char *store_prefix, const char *prefix, Listed *listed);
extern void listed_free(Listed *listed);

#endif
