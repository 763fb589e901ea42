/* Form: reading urlencoded text strictly. */
#include "form.h"

#include <errno.h>
#include <string.h>
#include "own.h"

void form_clear(struct form *form)
{
	free(form->pair);
	free(form->text);
	*form = (struct form){0};
}

/* The length of the well-formed sequence at `s`, 0 if there is none. The second byte's bounds
 * depend on the first: that is what keeps overlong forms, surrogates and values past U+10FFFF out.
 */
static size_t utf8_sequence(const unsigned char *s, size_t n)
{
	static const struct {
		unsigned char first, last, low, high, length;
	} rows[] = {
		{0x00, 0x7f, 0, 0, 1},	     {0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (*s < rows[i].first || *s > rows[i].last)
			continue;
		if (rows[i].length > n ||
		    (rows[i].length > 1 && (s[1] < rows[i].low || s[1] > rows[i].high)))
			return 0;
		for (size_t k = 2; k < rows[i].length; k++)
			if ((s[k] & 0xc0) != 0x80)
				return 0;
		return rows[i].length;
	}
	return 0;
}

int form_is_utf8(const char *text, size_t n)
{
	const unsigned char *s = (const unsigned char *)text;
	while (n > 0) {
		size_t length = utf8_sequence(s, n);
		if (length == 0)
			return 0;
		s += length;
		n -= length;
	}
	return 1;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decodes `from` up to `end` to `*to`, which is moved past the NUL. 0, or -EINVAL for what may not
 * stand there. */
static int decode(const char *from, const char *end, char **to)
{
	char *start = *to, *out = *to;
	while (from < end) {
		unsigned char c = (unsigned char)*from++;
		if (c == '%') {
			int high = from < end ? hex_digit(from[0]) : -1;
			int low = end - from >= 2 ? hex_digit(from[1]) : -1;
			if (high < 0 || low < 0 || (high == 0 && low == 0))
				return -EINVAL;
			c = (unsigned char)(high << 4 | low);
			from += 2;
		} else if (c == '+') {
			c = ' ';
		} else if (c < 0x20 || c == 0x7f) {
			return -EINVAL;
		}
		*out++ = (char)c;
	}
	if (!form_is_utf8(start, (size_t)(out - start)))
		return -EINVAL;
	*out++ = '\0';
	*to = out;
	return 0;
}

static int parse_pair(const char *from, const char *end, char **to, struct aws_pair *ret_pair)
{
	const char *equals = memchr(from, '=', (size_t)(end - from));
	ret_pair->name = *to;
	if (decode(from, equals ? equals : end, to) < 0 || ret_pair->name[0] == '\0')
		return -EINVAL;
	ret_pair->value = *to;
	return decode(equals ? equals + 1 : end, end, to);
}

static size_t count_pairs(const char *text, size_t n_bytes)
{
	size_t n = 1;
	for (size_t i = 0; i < n_bytes; i++)
		n += text[i] == '&';
	return n;
}

int form_parse(const char *text, size_t n_bytes, size_t n_max, struct form *ret_form,
	       struct fault *f)
{
	OWN(form_clear) struct form form = {0};
	size_t n_pairs = count_pairs(text, n_bytes);
	/* Checked before anything is allocated: the count is a stranger's. */
	if (n_pairs > n_max)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The request has more than %zu parameters", n_max);
	/* Each pair decodes to at most its own length and two NULs. */
	form.text = malloc(n_bytes + 2 * n_pairs);
	form.pair = calloc(n_pairs, sizeof(*form.pair));
	if (!form.text || !form.pair)
		return -ENOMEM;
	char *to = form.text;
	const char *end = text + n_bytes;
	for (const char *from = text; from < end;) {
		const char *next = memchr(from, '&', (size_t)(end - from));
		if (!next)
			next = end;
		if (next > from && parse_pair(from, next, &to, &form.pair[form.n++]) < 0)
			return fault_set(f, FAULT_MALFORMED_QUERY_STRING,
					 "The query string contains a syntax error");
		from = next + 1;
	}
	*ret_form = form;
	form = (struct form){0};
	return 0;
}

const char *form_find(const struct form *form, const char *name)
{
	for (size_t i = 0; i < form->n; i++)
		if (strcmp(form->pair[i].name, name) == 0)
			return form->pair[i].value;
	return NULL;
}
