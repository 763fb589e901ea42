// The host's lines: one JSON object each. The agent needs to know its members' names only, so it
// reads just that much.
#include "agent.h"

#include <stdio.h>
#include <string.h>

/* A reader over one line; `at` never passes `end`. */
struct reader {
	const char *at, *end;
};

static void skip_space(struct reader *r)
{
	while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at)
		r->at++;
}

/* Takes the character if it is next. */
static int take(struct reader *r, char c)
{
	skip_space(r);
	if (r->at == r->end || *r->at != c)
		return 0;
	r->at++;
	return 1;
}

/* Takes a string; its bytes between the quotes, escapes as they stand. */
static int take_string(struct reader *r, const char **ret_text, size_t *ret_n)
{
	if (!take(r, '"'))
		return 0;
	*ret_text = r->at;
	while (r->at < r->end && *r->at != '"') {
		if (*r->at == '\\' && ++r->at == r->end)
			return 0;
		r->at++;
	}
	if (r->at == r->end)
		return 0;
	*ret_n = (size_t)(r->at++ - *ret_text);
	return 1;
}

/* Skips one value: brackets are counted, strings are stepped over, so no depth can hurt. */
static int skip_value(struct reader *r)
{
	const char *text;
	unsigned depth = 0;
	size_t n;

	skip_space(r);
	while (r->at < r->end) {
		switch (*r->at) {
		case '"':
			if (!take_string(r, &text, &n))
				return 0;
			break;
		case '{':
		case '[':
			depth++;
			r->at++;
			break;
		case '}':
		case ']':
			if (depth == 0)
				return 1;
			depth--;
			r->at++;
			break;
		case ',':
			if (depth == 0)
				return 1;
			r->at++;
			break;
		default:
			r->at++;
		}
	}
	return 0;
}

static enum command command_of(const char *name, size_t n)
{
	static const struct {
		const char *name;
		enum command command;
	} commands[] = {{"poweroff", COMMAND_POWEROFF},
			{"reboot", COMMAND_REBOOT},
			{"freeze", COMMAND_FREEZE},
			{"thaw", COMMAND_THAW}};

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strlen(commands[i].name) == n && memcmp(commands[i].name, name, n) == 0)
			return commands[i].command;
	return COMMAND_NONE;
}

enum command line_command(const char *line, size_t n)
{
	struct reader r = {line, line + n};
	enum command found = COMMAND_NONE;
	const char *name;
	size_t n_name;

	if (!take(&r, '{'))
		return COMMAND_NONE;
	do {
		if (!take_string(&r, &name, &n_name) || !take(&r, ':') || !skip_value(&r))
			return COMMAND_NONE;
		if (found == COMMAND_NONE)
			found = command_of(name, n_name);
	} while (take(&r, ','));
	return take(&r, '}') ? found : COMMAND_NONE;
}

char *line_quote(const char *text, char *ret, size_t size)
{
	size_t n = 0;

	ret[n++] = '"';
	for (; *text && n + 8 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			ret[n++] = '\\';
			ret[n++] = (char)c;
		} else if (c < 0x20 || c >= 0x7f) {
			/* Host names are ASCII; a byte that is not becomes Latin-1's character
			 * rather than broken UTF-8. */
			n += (size_t)snprintf(ret + n, size - n, "\\u%04x", c);
		} else {
			ret[n++] = (char)c;
		}
	}
	ret[n++] = '"';
	ret[n] = '\0';
	return ret;
}
