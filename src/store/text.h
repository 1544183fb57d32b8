/*
 * text.h: a string that grows.  Running out of memory is remembered and told by text_take(), so that a string can be put
 * together without a test after each piece.
 */
#ifndef S3AM_TEXT_H
#define S3AM_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Text
{
	char *data; /* NUL-terminated once something was added */
	size_t len, capacity;
	bool failed;
} Text;

extern void text_add(Text *text, const char *bytes, size_t len);
extern void text_adds(Text *text, const char *string);
extern void text_addf(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Percent-encoded as S3 signs it: all but A-Z a-z 0-9 - _ . ~, and the slash if asked for. */
extern void text_add_encoded(Text *text, const char *string, bool keep_slash);

/* The string, which the caller frees; NULL if there was no memory.  The Text is empty again. */
extern char *text_take(Text *text);

/* A formatted string in one step; NULL if there is no memory. */
extern char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
