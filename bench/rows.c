/*
 * rows.c: rows as an application has them, for COPY.
 *
 *   rows COUNT      the same rows each time: numbers, times, texts of a few words, few and many distinct values, NULLs
 *
 * bench/load has the table.  Words come by Zipf's law, as in a language; amounts and customers are skewed; times go forward with
 * jitter, as they do in a log.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WORDS 20000

static uint64_t state = 88172645463325252;

static uint64_t
next(void)
{
	/* xorshift64* */
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * UINT64_C(2685821657736338717);
}

static double
uniform(void)
{
	return (double) (next() >> 11) / (double) (UINT64_C(1) << 53);
}

/* 0 .. n - 1, of which i comes about as often as 1 / (i + 1) says. */
static unsigned
zipf(unsigned n)
{
	unsigned i = (unsigned) exp(uniform() * log(n + 1.0)) - 1;

	return i < n ? i : n - 1;
}

static void
make_words(char words[WORDS][12])
{
	static const char *const syllables[] = {"an", "ber", "co", "da", "el", "fi",  "go", "hu", "in", "jo", "ka",
											"li", "mo",  "ne", "or", "pa", "qui", "ra", "se", "tu", "ven"};
	const unsigned n = sizeof(syllables) / sizeof(syllables[0]);

	for (unsigned i = 0; i < WORDS; i++)
	{
		char *p = words[i];
		unsigned number = i;

		/* frequent words are short */
		do
		{
			for (const char *s = syllables[number % n]; *s; s++)
				*p++ = *s;
			number /= n;
		} while (number > 0);
		*p = '\0';
	}
}

int
main(int argc, char **argv)
{
	static char words[WORDS][12];
	static const char *const kinds[] = {"view", "click", "purchase", "refund", "signup", "login", "logout", "error"};
	static const char *const cities[] = {"Berlin", "Lagos", "Lima",   "Osaka",   "Paris",    "Pune",    "Quito",
										 "Riga",   "Seoul", "Sydney", "Toronto", "Valencia", "Vilnius", "Zagreb"};
	long count = argc > 1 ? atol(argv[1]) : 0;
	int64_t at = INT64_C(1704067200000000); /* microseconds */
	char day[32] = "";
	time_t of_day = -1;

	if (count <= 0)
	{
		fprintf(stderr, "usage: rows COUNT\n");
		return 2;
	}
	make_words(words);
	for (long id = 1; id <= count; id++)
	{
		int64_t shown;
		time_t second;
		unsigned nwords = 3 + next() % 10;

		at += (int64_t) (-log(1 - uniform()) * 800000);
		shown = at - (int64_t) (next() % 2000000);
		second = shown / 1000000;
		if (second / 60 != of_day)
		{
			struct tm tm;

			of_day = second / 60;
			gmtime_r(&second, &tm);
			strftime(day, sizeof(day), "%Y-%m-%d %H:%M", &tm);
		}
		printf("%ld\t%u\t%s:%02d.%06d+00\t%s\t%s\t", id, zipf(2000000) + 1, day, (int) (second % 60),
			   (int) (shown % 1000000), kinds[zipf(8)], cities[zipf(14)]);
		/* price, quantity, a measurement */
		printf("%.2f\t%u\t%.6g\t", exp(uniform() * 7), zipf(50) + 1, 20 + 5 * (uniform() + uniform() - uniform()));
		if (next() % 4 == 0)
			printf("\\N");
		else
			printf("%u.%u.%u.%u", 10, zipf(250), (unsigned) (next() % 256), (unsigned) (next() % 256));
		for (unsigned i = 0; i < nwords; i++)
			printf("%c%s", i == 0 ? '\t' : ' ', words[zipf(WORDS)]);
		putchar('\n');
	}
	return ferror(stdout) || fflush(stdout) != 0;
}
