/* A growing text, and XML written into it. */
#include "text.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

void text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){0};
}

void text_add_bytes(struct text *t, const char *s, size_t n_bytes)
{
	if (t->n_bytes + n_bytes + 1 > t->n_room) {
		size_t n_room = t->n_room ? t->n_room : 1024;

		while (n_room < t->n_bytes + n_bytes + 1)
			n_room *= 2;
		char *data = t->is_failed ? NULL : realloc(t->data, n_room);

		if (!data) {
			t->is_failed = 1;
			return;
		}
		t->data = data;
		t->n_room = n_room;
	}
	memcpy(t->data + t->n_bytes, s, n_bytes);
	t->n_bytes += n_bytes;
	t->data[t->n_bytes] = '\0';
}

void text_add(struct text *t, const char *s)
{
	text_add_bytes(t, s, strlen(s));
}

static const char *entity(unsigned char c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\r': /* a parser would turn it into a line feed */
		return "&#xD;";
	case '\t':
		return "\t";
	case '\n':
		return "\n";
	default:
		return c < 0x20 ? REPLACEMENT : NULL;
	}
}

/* How many bytes at `p` are one character, or are together none; and whether XML may hold it. */
static size_t character_bytes(const unsigned char *p, size_t n_left, int *ret_is_fit)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
	uint32_t code = *p & (0x7f >> n);

	*ret_is_fit = 0;
	if (*p < 0xc2 || *p > 0xf4 || n > n_left)
		return 1;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 1;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 1;
	*ret_is_fit = code != 0xfffe && code != 0xffff;
	return n;
}

void text_add_xml(struct text *t, const char *s, size_t n_bytes)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + n_bytes, *plain = p;

	while (p < end) {
		const char *instead;
		size_t n = 1;

		if (*p >= 0x80) {
			int is_fit;

			n = character_bytes(p, end - p, &is_fit);
			instead = is_fit ? NULL : REPLACEMENT;
		} else {
			instead = entity(*p);
		}
		if (instead) {
			text_add_bytes(t, (const char *)plain, p - plain);
			text_add(t, instead);
			plain = p + n;
		}
		p += n;
	}
	text_add_bytes(t, (const char *)plain, end - plain);
}

void text_open(struct text *t, const char *name)
{
	text_add(t, "<");
	text_add(t, name);
	text_add(t, ">");
}

void text_close(struct text *t, const char *name)
{
	text_add(t, "</");
	text_add(t, name);
	text_add(t, ">");
}

void text_element(struct text *t, const char *name, const char *s)
{
	text_add(t, "<");
	text_add(t, name);
	if (!*s) {
		text_add(t, "/>");
		return;
	}
	text_add(t, ">");
	text_add_xml(t, s, strlen(s));
	text_close(t, name);
}

int text_take(struct text *t, char **ret_data, size_t *ret_bytes)
{
	text_add_bytes(t, "", 0); /* an empty text is a text too */
	if (t->is_failed)
		return -ENOMEM;
	*ret_data = t->data;
	*ret_bytes = t->n_bytes;
	*t = (struct text){0};
	return 0;
}
