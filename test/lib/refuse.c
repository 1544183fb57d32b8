/*
 * refuse.c: a library for LD_PRELOAD: processes whose title has a given text are refused memory now and then.
 *
 * REFUSE_CONTROL names a file that all processes map: the first number in it says one of how many allocations is refused (0: none), the
 * second how many were; then comes the text.  What CRoaring allocates is left alone: it does not look, so who calls it
 * makes sure of its memory before (src/manifest/rowset.c).
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

typedef struct Control
{
	uint32_t one_of, refused;
	char title[56];
} Control;

static Control *control;

__attribute__((constructor)) static void
begin(void)
{
	const char *path = getenv("REFUSE_CONTROL");
	int fd = path ? open(path, O_RDWR) : -1;
	void *map = fd >= 0 ? mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (fd >= 0)
		close(fd);
	if (map != MAP_FAILED)
		control = map;
}

/* Is this process one of those?  A server's process has its title only a moment after it has begun. */
static bool
is_meant(void)
{
	static pid_t known;
	static bool meant;
	pid_t pid = getpid();

	if (pid != known)
	{
		char text[256] = "";
		int saved = errno;
		int fd = open("/proc/self/cmdline", O_RDONLY);

		if (fd >= 0)
		{
			if (read(fd, text, sizeof(text) - 1) < 0)
				text[0] = '\0';
			close(fd);
		}
		errno = saved;
		if (strncmp(text, "postgres: ", 10) != 0)
			return false;
		meant = strstr(text, control->title) != NULL;
		known = pid;
	}
	return meant;
}

static bool
refused(const void *caller)
{
	static uint64_t x;
	uint32_t of = control ? __atomic_load_n(&control->one_of, __ATOMIC_RELAXED) : 0;
	Dl_info info;

	if (of == 0 || !is_meant())
		return false;
	if (x == 0)
		x = (uint64_t) getpid() * 0x9E3779B97F4A7C15ULL;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	if (x % of != 0)
		return false;
	if (dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "libroaring"))
		return false;
	__atomic_fetch_add(&control->refused, 1, __ATOMIC_RELAXED);
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	return refused(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return refused(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t size)
{
	return refused(__builtin_return_address(0)) ? NULL : __libc_realloc(p, size);
}
