/*
 * collate.c: another version of ICU, which sorts the other way round.  For LD_PRELOAD; VERSION is the suffix of ICU's symbols.
 * With NAMELESS it sorts as ever, and its version is an empty text, so that a run says as little as those of early builds.
 * With GLIBC it is another version of glibc that does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <locale.h>
#include <stdint.h>
#include <string.h>

#define JOIN2(a, b) a##_##b
#define JOIN(a, b) JOIN2(a, b)
#define STRING2(a) #a
#define STRING(a) STRING2(a)
#define ICU(name) JOIN(name, VERSION)
#define NEXT(name) dlsym(RTLD_NEXT, STRING(ICU(name)))

#if defined(GLIBC)

const char *
gnu_get_libc_version(void)
{
	return "7.7";
}

int
strcoll(const char *a, const char *b)
{
	static int (*next)(const char *, const char *);

	if (next == NULL)
		next = (int (*)(const char *, const char *)) dlsym(RTLD_NEXT, "strcoll");
	return -next(a, b);
}

int
strcoll_l(const char *a, const char *b, locale_t locale)
{
	static int (*next)(const char *, const char *, locale_t);

	if (next == NULL)
		next = (int (*)(const char *, const char *, locale_t)) dlsym(RTLD_NEXT, "strcoll_l");
	return -next(a, b, locale);
}

#elif defined(NAMELESS)

void
ICU(u_versionToString)(const uint8_t *version, char *text)
{
	(void) version;
	*text = '\0';
}

#else

void
ICU(ucol_getVersion)(const void *collator, uint8_t *version)
{
	(void) collator;
	memcpy(version, (uint8_t[4]){7, 7, 0, 0}, 4);
}

int
ICU(ucol_strcollUTF8)(const void *collator, const char *a, int32_t alen, const char *b, int32_t blen, int *status)
{
	int (*next)(const void *, const char *, int32_t, const char *, int32_t, int *) =
		(int (*)(const void *, const char *, int32_t, const char *, int32_t, int *)) NEXT(ucol_strcollUTF8);

	return -next(collator, a, alen, b, blen, status);
}

/* Abbreviated keys say nothing. */
int32_t
ICU(ucol_nextSortKeyPart)(const void *collator, void *iterator, uint32_t *state, uint8_t *to, int32_t count,
						  int *status)
{
	(void) collator, (void) iterator, (void) state, (void) status;
	memset(to, 0, count);
	return 0;
}

#endif
