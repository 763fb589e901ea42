/*
 * Form: application/x-www-form-urlencoded text (a query string, a POST body) to names and values.
 *
 * Strict, because what two parsers read differently is where attacks live: a broken percent escape,
 * a control character that was not escaped, a NUL byte, a name that is empty, or text that is not
 * UTF-8 refuses the whole with MalformedQueryString. `+` is a space. Order and duplicates are kept.
 * Source: WHATWG URL, "application/x-www-form-urlencoded"; Unicode 15, table 3-7 for UTF-8.
 */
#pragma once

#include <stddef.h>
#include "aws/aws.h"

struct form {
	struct aws_pair *pair; /* decoded; they point into text */
	size_t n;
	char *text;
};
void form_clear(struct form *form);
static inline void own_form_clear(struct form *form)
{
	form_clear(form);
}

/* Reads `n_bytes` of `text`; more than `n_max` pairs is InvalidParameterValue. 0, or -errno with
 * `f` filled. */
int form_parse(const char *text, size_t n_bytes, size_t n_max, struct form *ret_form,
	       struct fault *f);
/* The first pair of this name, NULL if none. */
const char *form_find(const struct form *form, const char *name);
/* `n` bytes of `text` are well-formed UTF-8. */
int form_is_utf8(const char *text, size_t n);
