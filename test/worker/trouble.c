/*
 * trouble.c: lines in the log of what is tried again and again.
 */
#include <stdlib.h>

#include "../store/tap.h"
#include "worker/trouble.h"

#define SECOND 1000
#define MINUTE (60 * SECOND)
#define BEGIN 1234567 /* of the clock */

static char text[64];

static const char *
attempt(int i)
{
	(void) snprintf(text, sizeof(text), "503 after %d attempts", i);
	return text;
}

int
main(void)
{
	static Trouble t;
	char *longer;
	int lines = 0, most = 0, last = 0;

	ok(!trouble_over(&t), "nothing has been said");
	ok(trouble_tell(&t, "503", BEGIN), "the first line is said");
	ok(!trouble_tell(&t, "503", BEGIN + MINUTE - 1), "the same within a minute is not");
	ok(trouble_tell(&t, "403", BEGIN + MINUTE - 1), "another cause is said at once");
	ok(trouble_tell(&t, "503", BEGIN + MINUTE), "and one more");
	ok(trouble_over(&t), "it was said that there is trouble");
	ok(!trouble_over(&t), "so its end is said once");

	/* every try has a text of its own, two a second, for ten minutes */
	memset(&t, 0, sizeof(t));
	for (int i = 0; i < 1200; i++)
		lines += trouble_tell(&t, attempt(i), BEGIN + i * SECOND / 2);
	ok(lines == TROUBLE_AT_ONCE + 9, "ten minutes of texts that differ are %d lines", lines);

	/* a store that comes and goes, and whose error is the same, or not */
	for (int differs = 0; differs < 2; differs++)
	{
		memset(&t, 0, sizeof(t));
		lines = 0;
		for (int i = 0; i < 1200; i++)
		{
			lines += trouble_tell(&t, differs ? attempt(i) : "503", BEGIN + i * SECOND / 2);
			lines += trouble_over(&t);
		}
		ok(lines == 2 * (TROUBLE_AT_ONCE + 9), "ten minutes of a store that comes and goes are %d lines", lines);
	}

	/* an hour of one text: once a minute */
	memset(&t, 0, sizeof(t));
	lines = 0;
	for (int i = 0; i < 3600; i++)
		if (trouble_tell(&t, "503", BEGIN + i * SECOND))
		{
			if (lines > 0 && i - last > most)
				most = i - last;
			last = i;
			lines++;
		}
	ok(lines == 60 && most == 60, "an hour of one text is a line a minute (%d)", lines);

	ok(trouble_tell(&t, "403", UINT64_MAX / 2), "after a long time all is as at the beginning");

	/* texts that differ behind what is kept are one */
	longer = malloc(TROUBLE_TEXT + 2);
	memset(longer, 'x', TROUBLE_TEXT + 1);
	longer[TROUBLE_TEXT + 1] = '\0';
	memset(&t, 0, sizeof(t));
	ok(trouble_tell(&t, longer, BEGIN), "a long text is said");
	longer[TROUBLE_TEXT] = 'y';
	ok(!trouble_tell(&t, longer, BEGIN + 1), "and is the same if its beginning is");
	free(longer);
	return done_testing();
}
