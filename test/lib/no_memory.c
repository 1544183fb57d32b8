/*
 * no_memory.c: one process's memory runs out, once, when s3am or a library of its asks for it.  For LD_PRELOAD.
 *
 * $NO_MEMORY is a file of three 32-bit numbers that a test changes at any time: the process, how many of its allocations from now on succeed
 * before one fails (0: none fails), and how many there were.  PostgreSQL's own allocations are not among them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct Control
{
	volatile int32_t pid, left, seen;
} Control;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static Control *control;

__attribute__((constructor)) static void
begin(void)
{
	const char *name = getenv("NO_MEMORY");
	int fd = name ? open(name, O_RDWR | O_CLOEXEC) : -1;

	if (fd >= 0)
	{
		void *p = (void *) syscall(SYS_mmap, NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (p != MAP_FAILED)
			control = p;
		(void) close(fd);
	}
}

static bool
fails(const void *caller)
{
	static const char *const libraries[] = {"/s3am.so", "/libprotobuf-c.", "/libzstd.", "/liblz4.", "/libxxhash."};
	Dl_info info;

	if (control == NULL || control->pid != getpid() || dladdr(caller, &info) == 0 || info.dli_fname == NULL)
		return false;
	for (size_t i = 0; i < sizeof(libraries) / sizeof(*libraries); i++)
		if (strstr(info.dli_fname, libraries[i]))
		{
			control->seen++;
			if (control->left <= 0 || --control->left > 0)
				return false;
			errno = ENOMEM;
			return true;
		}
	return false;
}

void *
malloc(size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, size);
}

void *
mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (fails(__builtin_return_address(0)))
		return MAP_FAILED;
	return (void *) syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

void *
mremap(void *old, size_t size, size_t new_size, int flags, ...)
{
	va_list arguments;
	void *at;

	if (fails(__builtin_return_address(0)))
		return MAP_FAILED;
	va_start(arguments, flags);
	at = flags & MREMAP_FIXED ? va_arg(arguments, void *) : NULL;
	va_end(arguments);
	return (void *) syscall(SYS_mremap, old, size, new_size, flags, at);
}
