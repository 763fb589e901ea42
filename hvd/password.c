/* What EC2Launch says on the console, found again. */
#include "password.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "console.h"
#include "instance-rooms.h"

static const char begin[] = "<Password>", end[] = "</Password>";

static int is_here(const char *at, const char *limit, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(limit - at) >= n && memcmp(at, word, n) == 0;
}

/* The base64 between two places, without white space. */
static int take(const char *from, const char *to, char ret_base64[static PASSWORD_BASE64_MAX + 1])
{
	char text[PASSWORD_BASE64_MAX + 1];
	size_t n = 0;

	for (; from < to; from++) {
		if (isspace((unsigned char)*from))
			continue;
		if (!*from || n == PASSWORD_BASE64_MAX)
			return 0;
		text[n++] = *from;
	}
	text[n] = '\0';
	if (base64_length(text) <= 0)
		return 0;
	memcpy(ret_base64, text, n + 1);
	return 1;
}

int password_find(const char *console, size_t n, char ret_base64[static PASSWORD_BASE64_MAX + 1])
{
	const char *limit = console + n, *inside = NULL, *at = console;
	int is_found = 0;

	/* Any other tag between the two makes it none. */
	for (; (at = memchr(at, '<', (size_t)(limit - at))); at++) {
		if (inside && is_here(at, limit, end))
			is_found |= take(inside, at, ret_base64);
		inside = is_here(at, limit, begin) ? at + sizeof(begin) - 1 : NULL;
	}
	return is_found;
}

int password_data_get(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char password[PASSWORD_BASE64_MAX + 1] = "";
	OWN(free) char *text = NULL;
	const struct doc *d;
	size_t n = 0;
	int64_t usec = 0;
	int r = instance_get(c, jstr(parameters, "InstanceId"), &d, f);

	if (r < 0)
		return r;
	r = console_read(c->daemon, d->id, CONSOLE_KEPT_BYTES, &text, &n, &usec);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0)
		(void)password_find(text, n, password); /* AWS: empty while there is none */
	*ret_reply = json_pack("{s:s, s:o, s:s}", "InstanceId", d->id, "Timestamp",
			       r == 0 ? jtime(usec) : jtime_now(), "PasswordData", password);
	return *ret_reply ? 0 : -ENOMEM;
}
