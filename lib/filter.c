/* Filters of Describe actions: patterns, paths through documents, tags. */
#include "describe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "jsonx.h"

#define VALUES_MAX 200

/* Bytes of the UTF-8 character at `s`; documents hold valid UTF-8 only. */
static size_t character(const char *s)
{
	size_t n = 1;

	while (((unsigned char)s[n] & 0xc0) == 0x80)
		n++;
	return n;
}

int pattern_match(const char *pattern, const char *text)
{
	const char
		*star = NULL,
		*from = NULL; /* where to go back to: the last star, and what it has eaten so far */

	while (*text) {
		if (*pattern == '*') {
			star = ++pattern;
			from = text;
		} else if (*pattern == '?') {
			pattern++;
			text += character(text);
		} else {
			const char *p = pattern[0] == '\\' && pattern[1] ? pattern + 1 : pattern;

			if (*p && *p == *text) {
				pattern = p + 1;
				text++;
			} else if (star) {
				from += character(from);
				text = from;
				pattern = star;
			} else {
				return 0;
			}
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

int pattern_match_any(const json_t *values, const char *text)
{
	size_t i;
	json_t *v;

	json_array_foreach (values, i, v)
		if (pattern_match(json_string_value(v), text))
			return 1;
	return 0;
}

static int scalar_fits(const json_t *value, const json_t *values)
{
	char number[40];

	switch (value ? json_typeof(value) : JSON_NULL) {
	case JSON_STRING:
		return pattern_match_any(values, json_string_value(value));
	case JSON_TRUE:
		return pattern_match_any(values, "true");
	case JSON_FALSE:
		return pattern_match_any(values, "false");
	case JSON_INTEGER:
		snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		return pattern_match_any(values, number);
	case JSON_REAL:
		snprintf(number, sizeof number, "%g", json_real_value(value));
		return pattern_match_any(values, number);
	default:
		return 0;
	}
}

/* Depth is that of the path, which is ours, and of arrays in arrays, which no document has. */
static int path_fits(const json_t *at, const char *path, const json_t *values)
{
	size_t i, n = strcspn(path, ".");
	json_t *element;

	if (json_is_array(at)) {
		json_array_foreach (at, i, element)
			if (path_fits(element, path, values))
				return 1;
		return 0;
	}
	if (n == 0)
		return scalar_fits(at, values);
	return json_is_object(at) &&
	       path_fits(json_object_getn(at, path, n), path + n + (path[n] == '.'), values);
}

static int tag_fits(const json_t *tag, const char *key, const json_t *values)
{
	const char *k = jstr(tag, "Key");

	return k && strcmp(k, key) == 0 && pattern_match_any(values, jstr_or(tag, "Value", ""));
}

/* "tag:<key>" over the list at `path`; without a path the document is itself a tag (DescribeTags).
 */
static int tag_filter_fits(const struct filter *row, const struct doc *d, const char *key,
			   const json_t *values)
{
	size_t i;
	json_t *tag;

	if (!row->path)
		return tag_fits(d->json, key, values);
	json_array_foreach (jpath(d->json, row->path), i, tag)
		if (tag_fits(tag, key, values))
			return 1;
	return 0;
}

static int is_prefix_row(const struct filter *row)
{
	return row->name[strlen(row->name) - 1] == ':';
}

static const struct filter *row_find(const struct filter *table, const char *name)
{
	for (const struct filter *row = table; row && row->name; row++) {
		size_t n = strlen(row->name);

		if (is_prefix_row(row) ? strncmp(row->name, name, n) == 0 && name[n]
				       : strcmp(row->name, name) == 0)
			return row;
	}
	return NULL;
}

int filter_check(const struct filter *table, json_t *parameters, struct fault *f)
{
	json_t *filters = json_object_get(parameters, "Filters"), *filter, *value;
	size_t i, k, n_values = 0;

	if (filters && !json_is_array(filters) && !json_is_null(filters))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "Filters is not a list");
	json_array_foreach (filters, i, filter) {
		const char *name = jstr(filter, "Name");
		const json_t *values = json_object_get(filter, "Values");

		if (!name || !row_find(table, name))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "The filter '%.255s' is invalid", name ? name : "null");
		if (json_array_size(values) == 0)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "The filter '%.255s' has no values", name);
		json_array_foreach (values, k, value)
			if (!json_is_string(value))
				return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
						 "A value of the filter '%.255s' is not text",
						 name);
		n_values += json_array_size(values);
	}
	if (n_values > VALUES_MAX)
		return fault_set(
			f, FAULT_FILTER_LIMIT_EXCEEDED,
			"The maximum number of filter values specified on a single call is %d",
			VALUES_MAX);
	return 0;
}

int filter_match(const struct filter *table, const struct doc *d, json_t *parameters)
{
	json_t *filters = json_object_get(parameters, "Filters"), *filter;
	size_t i;

	json_array_foreach (filters, i, filter) {
		const char *name = jstr(filter, "Name");
		const json_t *values = json_object_get(filter, "Values");
		const struct filter *row = row_find(table, name);
		int fits = row->match && row->match(d, values);

		if (!fits && is_prefix_row(row))
			fits = tag_filter_fits(row, d, name + strlen(row->name), values);
		else if (!fits && row->path)
			fits = path_fits(d->json, row->path, values);
		if (!fits)
			return 0;
	}
	return 1;
}
