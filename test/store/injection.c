/*
 * injection.c: the drivers where system calls and memory fail, and where the process dies, at every single point.
 *
 *   injection directory DIR      crashes, errors, and the order of syncs of the directory driver
 *   injection memory URL         no memory, at every allocation
 *
 * The linker puts the __wrap functions in place of those that the store calls (see the Makefile).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/store.h"
#include "tap.h"

/* ------------------------------------------------------------------------------------ what is put in between */

typedef enum Injection
{
	NOTHING,
	CRASH,
	FAIL
} Injection;

static Injection injection;
static atomic_int calls; /* system calls that change something, since counting began */
static int inject_at, inject_errno;
static char trace[400]; /* their first letters: w(rite), f(sync), l(ink), r(ename), u(nlink), m(kdir) */

/* Is this the one?  Then errno is set. */
static bool
strike(char letter)
{
	int n = ++calls;

	if (n < (int) sizeof(trace) - 1)
		trace[n - 1] = letter;
	if (injection == NOTHING || n != inject_at)
		return false;
	if (injection == CRASH)
		_exit(99);
	errno = inject_errno;
	return true;
}

#define WRAP(letter, type, name, parameters, arguments)                                                                \
	extern type __real_##name parameters;                                                                              \
	extern type __wrap_##name parameters;                                                                              \
	type __wrap_##name parameters                                                                                      \
	{                                                                                                                  \
		return strike(letter) ? -1 : __real_##name arguments;                                                          \
	}

WRAP('w', ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
WRAP('f', int, fsync, (int fd), (fd))
WRAP('l', int, link, (const char *from, const char *to), (from, to))
WRAP('r', int, rename, (const char *from, const char *to), (from, to))
WRAP('m', int, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP('t', int, futimens, (int fd, const struct timespec times[2]), (fd, times))
WRAP('u', int, unlink, (const char *path), (path))

static bool count_memory;
static atomic_int allocations;
static int no_memory_at; /* and from then on, if negative: -n */

static bool
exhausted(void)
{
	int n;

	if (!count_memory)
		return false;
	n = ++allocations;
	return n == no_memory_at || (no_memory_at < 0 && n >= -no_memory_at);
}

#define WRAP_MEMORY(type, name, parameters, arguments)                                                                 \
	extern type __real_##name parameters;                                                                              \
	extern type __wrap_##name parameters;                                                                              \
	type __wrap_##name parameters                                                                                      \
	{                                                                                                                  \
		if (exhausted())                                                                                               \
		{                                                                                                              \
			errno = ENOMEM;                                                                                            \
			return NULL;                                                                                               \
		}                                                                                                              \
		return __real_##name arguments;                                                                                \
	}

WRAP_MEMORY(void *, malloc, (size_t n), (n))
WRAP_MEMORY(void *, calloc, (size_t n, size_t size), (n, size))
WRAP_MEMORY(void *, realloc, (void *p, size_t n), (p, n))
WRAP_MEMORY(char *, strdup, (const char *s), (s))
WRAP_MEMORY(char *, strndup, (const char *s, size_t n), (s, n))

/* ------------------------------------------------------------------------------------ operations */

typedef struct Outcome
{
	bool done;
	StoreStatus status;
	char body[4096];
	size_t len;
	int nentries;
	char etag[136];
	char trace[400]; /* as it was when the callback came */
	char error[768];
} Outcome;

static Store *store;
static Outcome result;
static const char body[] = "all of it, or nothing";

static void
finished(void *arg, StoreResult *r)
{
	Outcome *o = arg;

	o->status = r->status;
	o->len = r->len < sizeof(o->body) ? r->len : sizeof(o->body);
	if (r->status == STORE_OK && r->data)
		memcpy(o->body, r->data, o->len);
	o->nentries = r->nentries;
	memcpy(o->etag, r->etag, sizeof(o->etag));
	memcpy(o->trace, trace, sizeof(o->trace));
	snprintf(o->error, sizeof(o->error), "%s", r->error ? r->error : "");
	o->done = true;
}

static StoreStatus
end(StoreOp *op)
{
	if (op == NULL)
		return STORE_UNAVAILABLE;
	(void) store_wait(store, &result.done, NULL);
	return result.status;
}

#define RUN(call) (memset(&result, 0, sizeof(result)), end(call))
#define GET(key) RUN(store_get(store, key, 0, -1, finished, &result))
#define PUT(key, text) RUN(store_put(store, key, text, strlen(text), finished, &result))
#define CREATE(key, text) RUN(store_create(store, key, text, strlen(text), finished, &result))
#define REPLACE(key, etag, text) RUN(store_replace(store, key, etag, text, strlen(text), finished, &result))
#define LIST(prefix) RUN(store_list(store, prefix, NULL, 100, finished, &result))
#define REMOVE(key) RUN(store_remove(store, key, finished, &result))

static Store *
open_store(const char *url)
{
	StoreOptions options = {
		.url = url, .endpoint = getenv("S3AM_ENDPOINT"), .virtual_host = -1, .retry_timeout_ms = -1};
	char *error = NULL;
	Store *s = store_open(&options, &error);

	free(error);
	return s;
}

static bool
holds(const char *key, const char *text)
{
	return GET(key) == STORE_OK && result.len == strlen(text) && memcmp(result.body, text, result.len) == 0;
}

static void
begin(Injection what, int at, int error)
{
	injection = NOTHING;
	memset(trace, 0, sizeof(trace));
	calls = 0;
	inject_at = at;
	inject_errno = error;
	injection = what;
}

/* ------------------------------------------------------------------------------------ the directory */

static int
temporaries(const char *directory)
{
	char command[300];
	FILE *p;
	int n = -1;

	snprintf(command, sizeof(command), "ls %s/.tmp 2>/dev/null | wc -l", directory);
	p = popen(command, "r");
	if (p == NULL || fscanf(p, "%d", &n) != 1)
		n = -1;
	if (p)
		pclose(p);
	return n;
}

typedef enum Kind
{
	K_PUT,
	K_CREATE,
	K_REPLACE,
	K_REMOVE
} Kind;

static StoreStatus
run_kind(Kind kind, const char *key)
{
	char etag[136];

	switch (kind)
	{
		case K_PUT:
			return PUT(key, body);
		case K_CREATE:
			return CREATE(key, body);
		case K_REPLACE:
			GET(key);
			memcpy(etag, result.etag, sizeof(etag));
			return REPLACE(key, etag, body);
		default:
			return REMOVE(key);
	}
}

/* The process dies at the n-th call, for every n: what the key holds is what was there before or all that was written. */
static void
crashes(const char *directory, const char *url)
{
	static const char *const names[] = {"put", "create", "replace", "remove"};

	for (Kind kind = K_PUT; kind <= K_REMOVE; kind++)
	{
		int n, torn = 0, before = 0, after = 0, listed = 0;
		bool completed = false;

		for (n = 1; !completed && n < 100; n++)
		{
			char key[64];
			int status;
			pid_t child;
			bool old, new;

			snprintf(key, sizeof(key), "crash/%s/%d", names[kind], n);
			if (kind != K_CREATE)
			{
				store = open_store(url);
				PUT(key, "before");
				store_close(store);
			}
			fflush(stdout);
			child = fork();
			if (child == 0)
			{
				store = open_store(url);
				begin(CRASH, n, 0);
				_exit(run_kind(kind, key) == STORE_OK ? 0 : 1);
			}
			(void) waitpid(child, &status, 0);
			completed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
			store = open_store(url);
			new = kind == K_REMOVE ? GET(key) == STORE_NOT_FOUND : holds(key, body);
			old = kind == K_CREATE ? GET(key) == STORE_NOT_FOUND : holds(key, "before");
			torn += !old && !new;
			before += old;
			after += new;
			LIST(key);
			listed += result.nentries > 1;
			if (kind == K_CREATE &&
				(CREATE(key, "second"), old ? result.status != STORE_OK : result.status != STORE_PRECONDITION))
				torn++;
			store_close(store);
		}
		ok(completed && n > 3, "%s: killed at each of %d calls", names[kind], n - 2);
		is_number(torn, 0, "never a part of it");
		is_number(listed, 0, "nothing else is listed");
		ok(before > 0 && after > 1, "both were met: not there yet (%d), there already (%d)", before, after);
	}
	ok(temporaries(directory) > 0, "crashes leave temporary files (%d)", temporaries(directory));
}

static void
sweeping(const char *directory, const char *url)
{
	const struct timespec old[2] = {{time(NULL) - 7200, 0}, {time(NULL) - 7200, 0}};
	char path[300];
	char command[300];
	int fd;

	snprintf(command, sizeof(command), "touch -d '2 hours ago' %s/.tmp/*", directory);
	ok(system(command) == 0, "they are two hours old");
	snprintf(path, sizeof(path), "%s/.tmp/held", directory);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	(void) flock(fd, LOCK_EX);
	(void) __real_futimens(fd, old);
	snprintf(path, sizeof(path), "%s/.tmp/young", directory);
	close(open(path, O_RDWR | O_CREAT, 0600));
	store = open_store(url);
	PUT("sweep/a", "x");
	store_close(store); /* waits for its threads */
	is_number(temporaries(directory), 2, "the next process that writes removes them");
	ok(access(path, F_OK) == 0, "but not a young one");
	unlink(path);
	snprintf(path, sizeof(path), "%s/.tmp/held", directory);
	ok(access(path, F_OK) == 0, "and not one that somebody holds");
	close(fd);
	unlink(path);
}

/* Each call fails once: the result says so, nothing stays behind, and the store goes on. */
static void
errors(const char *directory, const char *url)
{
	static const struct
	{
		int error;
		StoreStatus status;
		const char *text;
	} cases[] = {
		{ENOSPC, STORE_FULL, "make room"},
		{EDQUOT, STORE_FULL, "quota"},
		{EROFS, STORE_DENIED, "mount"},
		{EIO, STORE_UNAVAILABLE, "Input/output error"},
	};

	store = open_store(url);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (Kind kind = K_PUT; kind <= K_REMOVE; kind++)
		{
			int wrong = 0, tried = 0;
			char key[64];

			for (int n = 1; n < 100; n++)
			{
				StoreStatus status;
				char letter;
				bool old;

				snprintf(key, sizeof(key), "error/%zu-%d-%d/x", i, kind, n);
				if (kind != K_CREATE)
					PUT(key, "before");
				begin(FAIL, n, cases[i].error);
				status = run_kind(kind, key);
				injection = NOTHING;
				if (calls < n)
					break;
				letter = trace[n - 1];
				if (letter == 'w' && trace[n] == '\0')
					continue; /* the driver's own eventfd, not a file */
				tried++;
				old = kind == K_CREATE ? GET(key) == STORE_NOT_FOUND : holds(key, "before");
				/* clearing away, and a sync that is not the object's, may fail without harm */
				if (status == STORE_OK)
				{
					if (old || !(letter == 'u' || letter == 'w'))
						wrong++;
				}
				/* after it has its name nobody knows */
				else if (!old ? status != (kind == K_CREATE || kind == K_REPLACE ? STORE_UNDECIDED : cases[i].status) &&
									status != STORE_UNAVAILABLE
							  : status != cases[i].status && status != STORE_UNAVAILABLE)
				{
					wrong++;
					printf("# kind %d, call %d (%s): status %d\n", kind, n, trace, status);
				}
			}
			ok(wrong == 0 && tried > 0, "error %d at each of %d calls of kind %d", cases[i].error, tried, kind);
		}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		PUT("error/text", "x");
		/* the write of the file is the first call in a directory that is known */
		begin(FAIL, 1, cases[i].error);
		PUT("error/text", "y");
		injection = NOTHING;
		ok(result.status == cases[i].status && strstr(result.error, cases[i].text) != NULL, "it says \"%s\"",
		   cases[i].text);
		if (strstr(result.error, cases[i].text) == NULL)
			printf("# %s\n", result.error);
	}
	is_number(PUT("error/text", "z"), STORE_OK, "the store goes on");
	store_close(store);
	ok(temporaries(directory) <= 20, "only where unlink itself failed is a file left (%d)", temporaries(directory));
}

/* rule 39 */
static void
order(const char *url)
{
	char *l, *w;

	store = open_store(url);
	PUT("order/known", "x");
	begin(NOTHING, 0, 0);
	CREATE("order/a", body);
	l = strchr(result.trace, 'l');
	w = strchr(result.trace, 'w');
	ok(w && l && memchr(w, 'f', l - w) && strchr(l, 'f'),
	   "create: write, sync, link, sync, and only then the answer (%s)", result.trace);
	begin(NOTHING, 0, 0);
	PUT("order/a", body);
	l = strchr(result.trace, 'r');
	w = strchr(result.trace, 'w');
	ok(w && l && memchr(w, 'f', l - w) && strchr(l, 'f'), "put: write, sync, rename, sync (%s)", result.trace);
	begin(NOTHING, 0, 0);
	CREATE("order/new/directory/a", body);
	l = strchr(result.trace, 'l');
	w = strchr(result.trace, 'm');
	ok(w && l, "made directories");
	{
		int syncs = 0;

		for (char *p = w; p && p < l; p++)
			syncs += *p == 'f';
		ok(syncs >= 2, "are synced before the object is linked (%s)", result.trace);
	}
	begin(NOTHING, 0, 0);
	REMOVE("order/a");
	l = strchr(result.trace, 'u');
	ok(l && strchr(l, 'f'), "remove: unlink, sync (%s)", result.trace);
	store_close(store);
	/* directories that somebody else made and perhaps did not sync */
	store = open_store(url);
	begin(NOTHING, 0, 0);
	CREATE("order/new/directory/b", body);
	l = strchr(result.trace, 'l');
	{
		int syncs = 0;

		for (char *p = result.trace; l && p < l; p++)
			syncs += *p == 'f';
		ok(syncs >= 4, "directories that were there are synced, too (%s)", result.trace);
	}
	store_close(store);
}

/* ------------------------------------------------------------------------------------ memory */

static void
memory(const char *url)
{
	static const char *const names[] = {"open", "get", "put", "create", "list", "remove", "replace"};

	store = open_store(url);
	PUT("memory/a", "object");
	store_close(store);
	for (int what = 0; what < 7; what++)
		for (int lasting = 0; lasting < 2; lasting++)
		{
			int n, refused = 0;
			bool completed = false;

			for (n = 1; !completed && n < 300; n++)
			{
				StoreStatus status;

				store = what == 0 ? NULL : open_store(url);
				allocations = 0;
				no_memory_at = lasting ? -n : n;
				count_memory = true;
				if (what == 0)
					store = open_store(url);
				status = what == 0   ? (store ? STORE_OK : STORE_UNAVAILABLE)
						 : what == 1 ? GET("memory/a")
						 : what == 2 ? PUT("memory/b", "x")
						 : what == 3 ? CREATE("memory/a", "x")
						 : what == 4 ? LIST("memory/")
						 : what == 5 ? REMOVE("memory/c")
									 : REPLACE("memory/a", "\"x\"", "x");
				count_memory = false;
				completed = allocations < n;
				refused += status != STORE_OK;
				if (status == STORE_OK && what == 1 && (result.len != 6 || memcmp(result.body, "object", 6) != 0))
					ok(false, "a wrong answer for want of memory at %d", n);
				if (status == STORE_OK && what == 3)
					ok(false, "created what exists, for want of memory at %d", n);
				if (status == STORE_OK && what == 4 && result.nentries < 1)
					ok(false, "a list without what there is, for want of memory at %d", n);
				if (status == STORE_NOT_FOUND && what == 1)
					ok(false, "an object seems absent for want of memory at %d", n);
				if (store)
				{
					/* it goes on */
					if (what != 0 && !holds("memory/a", "object"))
						ok(false, "the store does not go on after want of memory at %d: %s", n, result.error);
					store_close(store);
				}
			}
			ok(completed && refused > 0, "%s: no memory at each of %d allocations%s", names[what], n - 2,
			   lasting ? ", and from there on" : "");
		}
	store = open_store(url);
	REMOVE("memory/a");
	REMOVE("memory/b");
	store_close(store);
}

int
main(int argc, char **argv)
{
	char url[300];

	if (argc == 3 && strcmp(argv[1], "directory") == 0)
	{
		snprintf(url, sizeof(url), "file://%s", argv[2]);
		crashes(argv[2], url);
		sweeping(argv[2], url);
		order(url);
		errors(argv[2], url);
	}
	else if (argc == 3 && strcmp(argv[1], "memory") == 0)
		memory(argv[2]);
	else
		return 2;
	return done_testing();
}
