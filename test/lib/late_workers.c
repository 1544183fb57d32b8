/*
 * late_workers.c: to be preloaded into a server: s3am's workers begin late.
 *
 * Each of the files LATE_WORKERS.1 to .3 lets the lookup of one worker's main function take four seconds, as on a machine with too much to
 * do, and is gone then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void *(*Lookup)(void *, const char *);

void *
dlsym(void *handle, const char *name)
{
	static Lookup real;
	const char *file = getenv("LATE_WORKERS");
	char path[1024];

	if (real == NULL)
		real = (Lookup) dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
	if (file && strncmp(name, "s3am_", 5) == 0 && strstr(name, "_main") && strcmp(name, "s3am_launcher_main") != 0)
		for (int i = 1; i <= 3; i++)
		{
			snprintf(path, sizeof(path), "%s.%d", file, i);
			if (unlink(path) == 0)
			{
				usleep(4000000);
				break;
			}
		}
	return real(handle, name);
}
