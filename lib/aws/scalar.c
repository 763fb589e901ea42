/* Scalars as clients write them. */
#include "table.h"

#include <ctype.h>
#include <stdio.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include "../jsonx.h"

/* "Z", "+09:00", "-0800", or nothing (UTC): seconds east. */
static int parse_offset(const char *at, int *ret_seconds)
{
	int hours, minutes, n = 0;

	*ret_seconds = 0;
	if (*at == '\0' || strcmp(at, "Z") == 0 || strcmp(at, "z") == 0)
		return 0;
	if ((*at != '+' && *at != '-') || !isdigit(at[1]) || !isdigit(at[2]))
		return -EINVAL;
	hours = (at[1] - '0') * 10 + at[2] - '0';
	const char *rest = at + 3 + (at[3] == ':');

	if (sscanf(rest, "%2d%n", &minutes, &n) != 1 || n != 2 || rest[2] || hours > 14 ||
	    minutes > 59 || minutes < 0)
		return -EINVAL;
	*ret_seconds = (*at == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	return 0;
}

static const char *parse_fraction(const char *at, int64_t *ret_usec)
{
	int64_t unit = 100000;

	for (*ret_usec = 0, at++; isdigit(*at); at++, unit /= 10)
		*ret_usec += unit * (*at - '0');
	return at;
}

static int parse_number(const char *text, int64_t *ret_usec)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || strspn(text, "0123456789.") != strlen(text) ||
	    seconds > 253402300799.0)
		return -EINVAL;
	*ret_usec = (int64_t)(seconds * 1000000 + 0.5);
	return 0;
}

int aws_time_parse(const char *text, int64_t *ret_usec)
{
	static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d", "%Y%m%dT%H%M%S"};
	struct tm tm = {0};
	int64_t usec = 0;
	int east = 0;
	char *at = isalpha(*text) ? strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm) : NULL;

	if (!at || *at) {
		for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++) {
			memset(&tm, 0, sizeof tm);
			at = isdigit(*text) ? strptime(text, forms[i], &tm) : NULL;
			if (at && i == 1 && *at) /* a time of day follows: not a bare date */
				at = NULL;
			if (at)
				break;
		}
		if (!at)
			return parse_number(text, ret_usec);
		const char *rest = *at == '.' ? parse_fraction(at, &usec) : at;

		if (parse_offset(rest, &east) < 0)
			return parse_number(text, ret_usec);
	}
	int64_t seconds = timegm(&tm);

	if (seconds - east < 0 || tm.tm_year > 8099)
		return -EINVAL;
	*ret_usec = (seconds - east) * 1000000 + usec;
	return 0;
}

int aws_base64_check(const char *text)
{
	size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
	size_t padding = strspn(text + n, "=");

	return text[n + padding] == '\0' && padding <= 2 && (n + padding) % 4 == 0;
}

static int read_integer(const char *text, json_t **ret_value)
{
	const char *digits = text + (*text == '-');

	errno = 0;
	long long number = strtoll(text, NULL, 10);

	if (!*digits || strspn(digits, "0123456789") < strlen(digits) || errno)
		return -EINVAL;
	*ret_value = json_integer(number);
	return *ret_value ? 0 : -ENOMEM;
}

static int read_double(const char *text, json_t **ret_value)
{
	char *end;
	double number = strtod(text, &end);

	if (end == text || *end || strspn(text, "0123456789+-.eE") < strlen(text))
		return -EINVAL;
	*ret_value = json_real(number);
	return *ret_value ? 0 : -EINVAL; /* it is none for what overflowed */
}

int aws_scalar_read(const struct aws_shape *s, const char *text, json_t **ret_value)
{
	int64_t usec;

	switch (s->type) {
	case AWS_INTEGER:
	case AWS_LONG:
		return read_integer(text, ret_value);
	case AWS_DOUBLE:
		return read_double(text, ret_value);
	case AWS_BOOLEAN:
		if (strcasecmp(text, "true") != 0 && strcasecmp(text, "false") != 0)
			return -EINVAL;
		*ret_value = json_boolean(tolower(*text) == 't');
		return 0;
	case AWS_TIMESTAMP:
		if (aws_time_parse(text, &usec) < 0)
			return -EINVAL;
		*ret_value = jtime(usec);
		return *ret_value ? 0 : -ENOMEM;
	default:
		*ret_value = json_string(text);
		return *ret_value ? 0 : -EINVAL; /* it is none for what is not UTF-8 */
	}
}
