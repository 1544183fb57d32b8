/*
 * tap.h: TAP for the C tests here.
 */
#ifndef S3AM_TEST_TAP_H
#define S3AM_TEST_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_run, tap_failed;

static bool __attribute__((unused, format(printf, 2, 3))) ok(bool good, const char *format, ...)
{
	va_list args;

	printf("%sok %d - ", good ? "" : "not ", ++tap_run);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	tap_failed += !good;
	return good;
}

static bool __attribute__((unused)) is_text(const char *got, const char *wanted, const char *name)
{
	bool same = got && strcmp(got, wanted) == 0;

	ok(same, "%s", name);
	if (!same)
		printf("# got:    %s\n# wanted: %s\n", got ? got : "(nothing)", wanted);
	return same;
}

static bool __attribute__((unused)) is_number(long long got, long long wanted, const char *name)
{
	ok(got == wanted, "%s", name);
	if (got != wanted)
		printf("# got %lld, wanted %lld\n", got, wanted);
	return got == wanted;
}

static int __attribute__((unused)) done_testing(void)
{
	printf("1..%d\n", tap_run);
	return tap_failed > 0;
}

#endif
