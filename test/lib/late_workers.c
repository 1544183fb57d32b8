/*
 * late_workers.c: to be preloaded into a server: s3am's workers begin late.
 *
 * While the file that LATE_WORKERS names is there, looking up a worker's main function takes a second and a half, as on a machine with too
 * much to do.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void *(*Lookup)(void *, const char *);

void *
dlsym(void *handle, const char *name)
{
	static Lookup real;
	const char *file = getenv("LATE_WORKERS");

	if (real == NULL)
		real = (Lookup) dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
	if (strncmp(name, "s3am_", 5) == 0 && strstr(name, "_main") && strcmp(name, "s3am_launcher_main") != 0 && file &&
		access(file, F_OK) == 0)
		usleep(1500000);
	return real(handle, name);
}
