/* A growing text, and XML written into it. */
#include "text.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "../utf8.h"

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

void text_add_xml(struct text *t, const char *s, size_t n_bytes)
{
	const char *end = s + n_bytes, *plain = s;

	while (s < end) {
		const char *instead;
		size_t n = 1;

		if ((unsigned char)*s < 0x80) {
			instead = entity((unsigned char)*s);
		} else {
			uint32_t code = 0;

			n = utf8_take(s, (size_t)(end - s), &code);
			instead = n == 0 || code == 0xfffe || code == 0xffff ? REPLACEMENT : NULL;
			n = n ? n : 1;
		}
		if (instead) {
			text_add_bytes(t, plain, (size_t)(s - plain));
			text_add(t, instead);
			plain = s + n;
		}
		s += n;
	}
	text_add_bytes(t, plain, (size_t)(end - plain));
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
