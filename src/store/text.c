/*
 * text.c: a string that grows.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/text.h"

static bool
room(Text *text, size_t more)
{
	size_t capacity = text->capacity ? text->capacity : 128;
	char *grown;

	if (text->failed)
		return false;
	if (text->len + more + 1 <= text->capacity)
		return true;
	while (capacity < text->len + more + 1)
		capacity *= 2;
	grown = realloc(text->data, capacity);
	if (grown == NULL)
	{
		text->failed = true;
		return false;
	}
	text->data = grown;
	text->capacity = capacity;
	return true;
}

void
text_add(Text *text, const char *bytes, size_t len)
{
	if (!room(text, len))
		return;
	memcpy(text->data + text->len, bytes, len);
	text->len += len;
	text->data[text->len] = '\0';
}

void
text_adds(Text *text, const char *string)
{
	text_add(text, string, strlen(string));
}

static void __attribute__((format(printf, 2, 0))) add_formatted(Text *text, const char *format, va_list args)
{
	va_list again;
	int n;

	va_copy(again, args);
	n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (n < 0)
		text->failed = true;
	else if (room(text, n))
	{
		(void) vsnprintf(text->data + text->len, n + 1, format, args);
		text->len += n;
	}
}

void
text_addf(Text *text, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add_formatted(text, format, args);
	va_end(args);
}

void
text_add_encoded(Text *text, const char *string, bool keep_slash)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";

	for (const char *p = string; *p; p++)
	{
		if (strchr(plain, *p) || (keep_slash && *p == '/'))
			text_add(text, p, 1);
		else
			text_addf(text, "%%%02X", (unsigned char) *p);
	}
}

char *
text_take(Text *text)
{
	char *data;

	text_add(text, "", 0); /* an empty string is a string, too */
	data = text->data;
	if (text->failed)
	{
		free(data);
		data = NULL;
	}
	*text = (Text){0};
	return data;
}

char *
text_format(const char *format, ...)
{
	Text text = {0};
	va_list args;

	va_start(args, format);
	add_formatted(&text, format, args);
	va_end(args);
	return text_take(&text);
}
