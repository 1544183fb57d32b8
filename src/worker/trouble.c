/*
 * trouble.c: see trouble.h.
 */
#include <stdio.h>
#include <string.h>

#include "worker/trouble.h"

bool
trouble_tell(Trouble *trouble, const char *error, uint64_t now_ms)
{
	if (strncmp(trouble->said, error, sizeof(trouble->said) - 1) == 0 && now_ms < trouble->said_at + TROUBLE_LINE_MS)
		return false;
	if (trouble->spent < now_ms)
		trouble->spent = now_ms;
	if (trouble->spent > now_ms + (TROUBLE_AT_ONCE - 1) * TROUBLE_LINE_MS)
		return false;
	trouble->spent += TROUBLE_LINE_MS;
	trouble->said_at = now_ms;
	(void) snprintf(trouble->said, sizeof(trouble->said), "%s", error);
	return true;
}

bool
trouble_over(Trouble *trouble)
{
	bool said = trouble->said[0] != '\0';

	trouble->said[0] = '\0';
	return said;
}
