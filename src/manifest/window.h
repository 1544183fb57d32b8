/*
 * window.h: the claims of recent versions, by what they are on.
 */
#ifndef S3AM_WINDOW_H
#define S3AM_WINDOW_H

#include "manifest/claims.h"

typedef struct Window Window;

extern Window *window_create(void);
extern void window_free(Window *w);

/* Adds a transaction of a version not less than those added before.  own: claims and its transaction are freed with the window. */
extern void window_add(Window *w, uint64_t version, Claims *claims, bool own);

/* Forgets versions before this. */
extern void window_trim(Window *w, uint64_t first);

/* The version that holds a transaction; 0: none of these. */
extern uint64_t window_find(const Window *w, uint64_t epoch, uint64_t seq);

/* Bytes that are held, about. */
extern size_t window_bytes(const Window *w);

/*
 * Holds claims against all that was added with a version greater than `held`.  False: a conflict; *version says with which,
 * detail over what.
 */
extern bool
window_check(const Window *w, Claims *claims, uint64_t held, bool ahead, uint64_t *version, char *detail, size_t size);

#endif
