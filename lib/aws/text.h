/* A growing text, and XML written into it. Failing to grow is remembered, so that only the end is
 * checked. */
#pragma once

#include <stddef.h>

struct text {
	char *data; /* NUL-terminated once anything was added; the owner frees it */
	size_t n_bytes, n_room;
	int is_failed;
};

void text_free(struct text *t);
static inline void own_text_free(struct text *t)
{
	text_free(t);
}

void text_add(struct text *t, const char *s);
void text_add_bytes(struct text *t, const char *s, size_t n_bytes);
/* As XML character data or attribute value. What XML 1.0 cannot hold (control characters, U+FFFE,
 * U+FFFF) and what is not UTF-8 becomes U+FFFD: one odd character in a tag must not make a whole
 * reply unreadable. */
void text_add_xml(struct text *t, const char *s, size_t n_bytes);
/* <name>, </name>, <name>s</name> (<name/> when s is empty) */
void text_open(struct text *t, const char *name);
void text_close(struct text *t, const char *name);
void text_element(struct text *t, const char *name, const char *s);

/* Hands the text over, malloced and NUL-terminated. 0 or -ENOMEM. */
int text_take(struct text *t, char **ret_data, size_t *ret_bytes);
