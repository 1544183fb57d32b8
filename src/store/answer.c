/*
 * answer.c: what an S3 server answered.
 *
 * The few elements that are needed are found by searching for their tags: text in XML has its < escaped, so a tag is never anything
 * else.  Whatever does not have the form that is expected is an error, never "nothing there".
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <curl/curl.h>

#include "store/answer.h"
#include "store/text.h"

#define ERROR_BODY 8192 /* as much of an error is read */
#define MAX_RETRY_AFTER 60

void
answer_begin(Answer *a, size_t limit)
{
	free(a->body);
	memset(a, 0, sizeof(*a));
	a->content_length = a->retry_after_ms = -1;
	a->limit = limit;
}

void
answer_free(Answer *a)
{
	free(a->body);
	a->body = NULL;
}

/* ------------------------------------------------------------------------------------ header */

/* Is this header `name`?  Then its value, trimmed and cut to `size`; else `value` stays as it was. */
static bool
header_value(const char *line, size_t len, const char *name, char *value, size_t size)
{
	size_t n = strlen(name);

	if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
		return false;
	line += n + 1;
	len -= n + 1;
	while (len > 0 && isspace((unsigned char) *line))
	{
		line++;
		len--;
	}
	while (len > 0 && isspace((unsigned char) line[len - 1]))
		len--;
	if (len >= size)
		len = size - 1;
	memcpy(value, line, len);
	value[len] = '\0';
	return true;
}

void
answer_header(Answer *a, const char *line, size_t len)
{
	char value[256];

	if (len >= 12 && strncmp(line, "HTTP/", 5) == 0)
	{
		/* another status line: what came before was interim */
		const char *space = memchr(line, ' ', len);

		answer_begin(a, a->limit);
		if (space && line + len - space > 3)
			a->status = (space[1] - '0') * 100 + (space[2] - '0') * 10 + (space[3] - '0');
	}
	else if (header_value(line, len, "ETag", a->etag, sizeof(a->etag)) ||
			 header_value(line, len, "x-amz-bucket-region", a->region, sizeof(a->region)))
		return;
	else if (header_value(line, len, "Date", value, sizeof(value)))
	{
		time_t t = curl_getdate(value, NULL);

		a->date_ms = t > 0 ? (int64_t) t * 1000 : 0;
	}
	else if (header_value(line, len, "Content-Length", value, sizeof(value)))
		a->content_length = isdigit((unsigned char) value[0]) ? strtoll(value, NULL, 10) : -1;
	else if (header_value(line, len, "Transfer-Encoding", value, sizeof(value)))
		a->chunked = strcasecmp(value, "chunked") == 0;
	else if (header_value(line, len, "Content-Range", value, sizeof(value)))
	{
		unsigned long long first, last, total;

		if (sscanf(value, "bytes %llu-%llu/%llu", &first, &last, &total) == 3)
		{
			a->has_range = true;
			a->range_first = first;
			a->object_size = total;
		}
		else if (sscanf(value, "bytes */%llu", &total) == 1)
			a->object_size = total;
	}
	else if (header_value(line, len, "Retry-After", value, sizeof(value)))
	{
		long long seconds;

		if (isdigit((unsigned char) value[0]))
			seconds = strtoll(value, NULL, 10);
		else
		{
			/* a date: by the server's clock if it told it already, which only matters where clocks differ */
			time_t when = curl_getdate(value, NULL);

			seconds = when > 0 ? (long long) when - (a->date_ms ? a->date_ms / 1000 : time(NULL)) : 0;
		}
		a->retry_after_ms = (seconds < 0 ? 0 : seconds > MAX_RETRY_AFTER ? MAX_RETRY_AFTER : seconds) * 1000;
	}
	else if (header_value(line, len, "x-amz-server-side-encryption", value, sizeof(value)))
		a->etag_is_no_md5 |= strcmp(value, "AES256") != 0;
	else if (header_value(line, len, "x-amz-server-side-encryption-customer-algorithm", value, sizeof(value)))
		a->etag_is_no_md5 = true;
}

/* ------------------------------------------------------------------------------------ body */

bool
answer_body(Answer *a, const void *data, size_t len)
{
	bool success = a->status >= 200 && a->status < 300;
	size_t limit = success ? a->limit : ERROR_BODY;

	if (len > limit - a->len)
	{
		if (success)
		{
			a->too_long = true;
			return false;
		}
		len = limit - a->len;
	}
	if (a->len + len > a->capacity)
	{
		size_t capacity = a->capacity ? a->capacity * 2 : 4096;
		uint8_t *grown;

		/* what was announced, as far as it is wanted, in one piece */
		if (a->capacity == 0 && a->content_length >= 0)
			capacity = (uint64_t) a->content_length < limit ? (size_t) a->content_length : limit;
		if (capacity < a->len + len)
			capacity = a->len + len;
		grown = realloc(a->body, capacity);
		if (grown == NULL)
		{
			a->no_memory = true;
			return false;
		}
		a->body = grown;
		a->capacity = capacity;
	}
	if (len > 0)
		memcpy(a->body + a->len, data, len);
	a->len += len;
	return true;
}

/* ------------------------------------------------------------------------------------ XML */

typedef struct Piece
{
	const char *start, *end;
} Piece;

/* The first <name>...</name> in a piece of text. */
static bool
element(Piece in, const char *name, Piece *out)
{
	char tag[64];
	const char *start, *end;

	(void) snprintf(tag, sizeof(tag), "<%s>", name);
	start = memmem(in.start, in.end - in.start, tag, strlen(tag));
	if (start == NULL)
		return false;
	start += strlen(tag);
	(void) snprintf(tag, sizeof(tag), "</%s>", name);
	end = memmem(start, in.end - start, tag, strlen(tag));
	if (end == NULL)
		return false;
	out->start = start;
	out->end = end;
	return true;
}

/* One character of text, references resolved, as UTF-8; returns how many bytes it has. */
static int
one_character(Piece *in, char out[4])
{
	static const struct
	{
		const char *name;
		char c;
	} names[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
	size_t left = in->end - in->start;

	if (*in->start == '&')
	{
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (left >= strlen(names[i].name) && memcmp(in->start, names[i].name, strlen(names[i].name)) == 0)
			{
				in->start += strlen(names[i].name);
				out[0] = names[i].c;
				return 1;
			}
		if (left >= 4 && in->start[1] == '#')
		{
			const char *end = memchr(in->start, ';', left < 12 ? left : 12);
			bool hex = in->start[2] == 'x';
			unsigned long c = end ? strtoul(in->start + (hex ? 3 : 2), NULL, hex ? 16 : 10) : 0;

			if (c > 0 && c < 0x110000)
			{
				in->start = end + 1;
				if (c < 0x80)
				{
					out[0] = c;
					return 1;
				}
				if (c < 0x800)
				{
					out[0] = 0xC0 | c >> 6;
					out[1] = 0x80 | (c & 0x3F);
					return 2;
				}
				if (c < 0x10000)
				{
					out[0] = 0xE0 | c >> 12;
					out[1] = 0x80 | (c >> 6 & 0x3F);
					out[2] = 0x80 | (c & 0x3F);
					return 3;
				}
				out[0] = 0xF0 | c >> 18;
				out[1] = 0x80 | (c >> 12 & 0x3F);
				out[2] = 0x80 | (c >> 6 & 0x3F);
				out[3] = 0x80 | (c & 0x3F);
				return 4;
			}
		}
	}
	out[0] = *in->start++;
	return 1;
}

/* Text of an element; malloc'ed. */
static char *
content(Piece in)
{
	char *text = malloc(in.end - in.start + 1); /* a reference is never shorter than what it stands for */
	size_t n = 0;

	if (text == NULL)
		return NULL;
	while (in.start < in.end)
	{
		char c[4];
		int bytes = one_character(&in, c);

		memcpy(text + n, c, bytes);
		n += bytes;
	}
	text[n] = '\0';
	return text;
}

/* For messages: cut, and without what could mislead a reader of the log. */
static void
copy_content(Piece in, char *out, size_t size)
{
	char *text = content(in);
	size_t n = 0;

	for (const char *p = text; p && *p && n + 1 < size; p++)
		out[n++] = iscntrl((unsigned char) *p) ? ' ' : *p;
	out[n] = '\0';
	free(text);
}

bool
answer_error(Answer *a)
{
	Piece all = {(const char *) a->body, (const char *) a->body + a->len};
	Piece error, piece;

	if (a->body == NULL || !element(all, "Error", &error))
		return false;
	if (element(error, "Code", &piece))
		copy_content(piece, a->code, sizeof(a->code));
	if (element(error, "Message", &piece))
		copy_content(piece, a->message, sizeof(a->message));
	if (a->region[0] == '\0' && element(error, "Region", &piece))
		copy_content(piece, a->region, sizeof(a->region));
	return true;
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
		   : c >= 'A' && c <= 'F' ? c - 'A' + 10
		   : c >= 'a' && c <= 'f' ? c - 'a' + 10
								  : -1;
}

/* encoding-type=url, which some write with + for a blank. */
static void
decode_url(char *text)
{
	char *out = text;

	for (const char *p = text; *p; p++)
	{
		if (p[0] == '%' && hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0)
		{
			*out++ = hex_digit(p[1]) * 16 + hex_digit(p[2]);
			p += 2;
		}
		else
			*out++ = *p == '+' ? ' ' : *p;
	}
	*out = '\0';
}

static int64_t
parse_time_ms(Piece in)
{
	char text[40];
	struct tm t = {0};
	const char *rest;
	int64_t ms;

	copy_content(in, text, sizeof(text));
	rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);
	if (rest == NULL)
		return 0;
	ms = (int64_t) timegm(&t) * 1000;
	if (rest[0] == '.' && isdigit((unsigned char) rest[1]))
		ms += (int64_t) (strtod(rest, NULL) * 1000);
	return ms;
}

/* Adds an entry; its key becomes the list's.  False: no memory. */
static bool
add_entry(Listed *l, char *key, Piece entry)
{
	Piece piece;

	if (l->n == l->capacity)
	{
		int capacity = l->capacity ? l->capacity * 2 : 64;
		StoreEntry *grown = realloc(l->entries, capacity * sizeof(StoreEntry));

		if (grown == NULL)
			return false;
		l->entries = grown;
		l->capacity = capacity;
	}
	l->entries[l->n].key = key;
	l->entries[l->n].size = element(entry, "Size", &piece) ? strtoull(piece.start, NULL, 10) : 0;
	l->entries[l->n].modified_ms = element(entry, "LastModified", &piece) ? parse_time_ms(piece) : 0;
	l->n++;
	return true;
}

const char *
answer_list(const Answer *a, const char *store_prefix, const char *prefix, Listed *l)
{
	static const char end_tag[] = "</ListBucketResult>";
	Piece all = {(const char *) a->body, (const char *) a->body + a->len};
	size_t prefix_len = strlen(store_prefix);
	const char *start;
	const char *end;
	Piece piece, entry;
	char *token;
	bool encoded;

	if (a->len == 0 || (start = memmem(all.start, a->len, "<ListBucketResult", 17)) == NULL)
		return "the answer is no list of objects";
	if ((end = memmem(start, all.end - start, end_tag, strlen(end_tag))) == NULL)
		return "the list of objects is truncated";
	all.start = start;
	all.end = end;
	encoded = element(all, "EncodingType", &piece);
	for (Piece rest = all; element(rest, "Contents", &entry); rest.start = entry.end)
	{
		char *key = element(entry, "Key", &piece) ? content(piece) : NULL;

		if (key == NULL)
			return "the list of objects has an entry without a key";
		if (encoded)
			decode_url(key);
		if (strncmp(key, store_prefix, prefix_len) != 0 || strncmp(key + prefix_len, prefix, strlen(prefix)) != 0)
		{
			free(key);
			return "the list of objects has an entry outside of the prefix";
		}
		memmove(key, key + prefix_len, strlen(key + prefix_len) + 1);
		if (!add_entry(l, key, entry))
		{
			free(key);
			return "there is no memory for the list of objects";
		}
	}
	if (!element(all, "IsTruncated", &piece))
		return "the list of objects does not say whether it is complete";
	if (piece.end - piece.start != 4 || strncasecmp(piece.start, "true", 4) != 0)
		return NULL;
	if (!element(all, "NextContinuationToken", &piece))
		return "the server does not know ListObjectsV2";
	token = content(piece);
	l->token = token ? text_format("%c%s", STORE_LIST_TOKEN, token) : NULL;
	free(token);
	return l->token ? NULL : "there is no memory for the list of objects";
}

void
listed_free(Listed *l)
{
	for (int i = 0; i < l->n; i++)
		free((char *) l->entries[i].key);
	free(l->entries);
	free(l->token);
	memset(l, 0, sizeof(*l));
}
