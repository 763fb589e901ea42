/*
 * Small reads and writes on jansson values, so that handlers say what they mean in one line. NULL
 * objects are fine: the default comes back. All returned references are borrowed unless it says
 * new.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

/* The member's string, or NULL / `otherwise`. */
const char *jstr(const json_t *object, const char *name);
const char *jstr_or(const json_t *object, const char *name, const char *otherwise);
int64_t jint(const json_t *object, const char *name, int64_t otherwise);
int jbool(const json_t *object, const char *name, int otherwise);
/* The value at a dotted path ("State.Name"), NULL if any part is absent. */
json_t *jpath(const json_t *object, const char *path);
/* The string at a dotted path or NULL. */
const char *jpath_str(const json_t *object, const char *path);
/* The array contains this string. */
int jarray_has(const json_t *array, const char *text);
/* Appends a reference to the value to the array of this name, which begins with the first. 0 or
 * -ENOMEM. */
int jarray_add_under(json_t *object, const char *name, json_t *value);
/* Sets a string member (NULL text: removes it). 0 or -ENOMEM. */
int jset(json_t *object, const char *name, const char *text);
/* Sets any member, taking over `value`. 0 or -ENOMEM (also for a NULL value). */
int jset_new(json_t *object, const char *name, json_t *value);
/* Now, and any time, as AWS prints it in EC2: "2026-11-22T16:00:00.000Z" (new string value). */
json_t *jtime_now(void);
int64_t jtime_now_usec(void);
json_t *jtime(int64_t usec_since_epoch);
/* The reverse: microseconds since the epoch, -1 if it is not such a time. */
int64_t jtime_parse(const char *text);
/* Appends every element of `from` to `to`. */
int jarray_extend_all(json_t *to, const json_t *from);
/* The JSON text nests no deeper than n_max. Asked of strangers' texts before they are parsed:
 * jansson parses, copies and prints by recursion, 2,048 levels deep, and that is more than a
 * fiber's stack holds. */
int jtext_is_shallow(const char *text, size_t n_bytes, unsigned n_max);
