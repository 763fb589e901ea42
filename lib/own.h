/*
 * Ownership: every resource has its owner in the line that declares it.
 *
 *	OWN(json_decref) json_t *reply = NULL;
 *	OWN(fd_close) int fd = -1;
 *
 * The owner releases the resource when it goes out of scope, on every path. give() hands it on and leaves the
 * owner empty. Each release function named in OWN() has been declared with OWN_DEFINE() (pointers) or here.
 */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <jansson.h>

#define OWN(release) __attribute__((cleanup(own_##release)))

/* Makes OWN(release) usable for variables of pointer type `type`. NULL is never passed on. */
#define OWN_DEFINE(type, release)                                                                  \
	static inline void own_##release(type *p)                                                  \
	{                                                                                          \
		if (*p)                                                                            \
			release(*p);                                                               \
	}                                                                                          \
	struct own_swallow_semicolon

static inline void own_free(void *p)
{
	free(*(void **)p);
}

static inline void own_fd_close(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* nothing left to do about a failed close */
}

OWN_DEFINE(json_t *, json_decref);
OWN_DEFINE(FILE *, fclose);
OWN_DEFINE(DIR *, closedir);

#define OWN_NONE(x)                                                                                \
	__builtin_choose_expr(__builtin_types_compatible_p(__typeof__(x), int), -1, (void *)0)

/* Hands the resource on: the value of the expression is the resource, the owner is left empty. */
#define give(x)                                                                                    \
	({                                                                                         \
		__typeof__(x) given_ = (x);                                                        \
		(x) = OWN_NONE(x);                                                                 \
		given_;                                                                            \
	})
