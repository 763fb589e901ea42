/* Small reads and writes on jansson values. */
#include "jsonx.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const char *jstr(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

const char *jstr_or(const json_t *object, const char *name, const char *otherwise)
{
	const char *s = jstr(object, name);

	return s ? s : otherwise;
}

int64_t jint(const json_t *object, const char *name, int64_t otherwise)
{
	const json_t *v = json_object_get(object, name);

	return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

int jbool(const json_t *object, const char *name, int otherwise)
{
	const json_t *v = json_object_get(object, name);

	return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

json_t *jpath(const json_t *object, const char *path)
{
	const json_t *at = object;

	while (at) {
		size_t n = strcspn(path, ".");

		at = json_object_getn(at, path, n);
		if (path[n] == '\0')
			break;
		path += n + 1;
	}
	return (json_t *)at; /* as json_object_get(): const is about the way, not the value */
}

const char *jpath_str(const json_t *object, const char *path)
{
	return json_string_value(jpath(object, path));
}

int jarray_has(const json_t *array, const char *text)
{
	size_t i;
	json_t *v;

	json_array_foreach (array, i, v) {
		const char *s = json_string_value(v);

		if (s && strcmp(s, text) == 0)
			return 1;
	}
	return 0;
}

int jarray_add_under(json_t *object, const char *name, json_t *value)
{
	json_t *list = json_object_get(object, name);

	if (!list && json_object_set_new(object, name, json_array()) < 0)
		return -ENOMEM;
	return json_array_append(json_object_get(object, name), value) < 0 ? -ENOMEM : 0;
}

int jset(json_t *object, const char *name, const char *text)
{
	if (!text) {
		(void)json_object_del(object, name); /* absent already is what was asked for */
		return 0;
	}
	return jset_new(object, name, json_string(text));
}

int jset_new(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) < 0 ? -ENOMEM : 0;
}

int64_t jtime_now_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

json_t *jtime_now(void)
{
	return jtime(jtime_now_usec());
}

json_t *jtime(int64_t usec_since_epoch)
{
	time_t seconds = usec_since_epoch / 1000000;
	struct tm tm;
	char day[32], text[48];

	if (!gmtime_r(&seconds, &tm) || !strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm))
		return NULL;
	snprintf(text, sizeof text, "%s.%03dZ", day, (int)(usec_since_epoch / 1000 % 1000));
	return json_string(text);
}

int64_t jtime_parse(const char *text)
{
	struct tm tm = {0};
	int64_t usec = 0;
	char *at = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;

	if (!at)
		return -1;
	if (*at == '.') {
		int64_t unit = 100000;

		for (at++; *at >= '0' && *at <= '9'; at++, unit /= 10)
			usec += unit * (*at - '0');
	}
	if (strcmp(at, "Z") != 0)
		return -1;
	time_t seconds = timegm(&tm);

	return seconds < 0 ? -1 : (int64_t)seconds * 1000000 + usec;
}

int jarray_extend_all(json_t *to, const json_t *from)
{
	return json_array_extend(to, (json_t *)from) < 0 ? -ENOMEM : 0;
}

int jtext_is_shallow(const char *text, size_t n_bytes, unsigned n_max)
{
	unsigned depth = 0;
	int is_in_string = 0;

	for (size_t i = 0; i < n_bytes; i++) {
		char c = text[i];

		if (c == '"')
			is_in_string = !is_in_string;
		else if (is_in_string && c == '\\')
			i++; /* what it escapes is neither end nor bracket */
		else if (!is_in_string && (c == '[' || c == '{') && ++depth > n_max)
			return 0;
		else if (!is_in_string && (c == ']' || c == '}') && depth > 0)
			depth--;
	}
	return 1;
}
