/* Checks JSON parameters by the model: names, types, what is required, enums, bounds, patterns. */
#include "refuse.h"

#include <errno.h>
#include <stdio.h>
#include "../own.h"

/* One check under way. */
struct checker {
	size_t n_items; /* elements and entries seen */
};

/* What of the value a message can show. */
static const char *text_of(const json_t *value, char buffer[static 64])
{
	if (json_is_string(value))
		return json_string_value(value);
	if (json_is_integer(value))
		snprintf(buffer, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		snprintf(buffer, 64, "%.15g", json_real_value(value));
	else
		snprintf(buffer, 64, "%s",
			 json_is_true(value)	? "true"
			 : json_is_false(value) ? "false"
						: "");
	return buffer;
}

static int check_bounds(const struct aws_where *w, const char *text, double number, struct fault *f)
{
	const struct aws_limits *limits = &aws_limits[aws_shape_of(w->member)->limits];

	if ((limits->bounds & 1) && number < limits->low)
		return aws_refuse_bounds(w, text, 1, f);
	if ((limits->bounds & 2) && number > limits->high)
		return aws_refuse_bounds(w, text, 0, f);
	return 0;
}

/* Characters, not bytes. */
static size_t length_of(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static int check_string(const struct aws_where *w, const json_t *value, struct fault *f)
{
	const struct aws_shape *s = aws_shape_of(w->member);
	const char *text = json_string_value(value);
	int r;

	/* A NUL would end the text early for everyone who reads it later as C's strings are read.
	 */
	if (!text || strlen(text) != json_string_length(value))
		return aws_refuse_type(w, "", f);
	if (s->n > 0 && !aws_enum_has(s, text))
		return aws_refuse_enum(w, text, f);
	r = check_bounds(w, text, length_of(text), f);
	if (r < 0)
		return r;
	r = aws_pattern_fits(aws_limits[s->limits].pattern, text);
	return r == 0 ? aws_refuse_pattern(w, text, f) : r < 0 ? r : 0;
}

static int check_number(const struct aws_where *w, const json_t *value, struct fault *f)
{
	const struct aws_shape *s = aws_shape_of(w->member);
	char buffer[64];
	const char *text = text_of(value, buffer);

	if (!json_is_integer(value) && !(json_is_real(value) && s->type == AWS_DOUBLE))
		return aws_refuse_type(w, text, f);
	if (s->type == AWS_INTEGER &&
	    json_integer_value(value) != (int32_t)json_integer_value(value))
		return aws_refuse_type(w, text, f);
	return check_bounds(w, text, json_number_value(value), f);
}

static int check_scalar(const struct aws_where *w, const json_t *value, struct fault *f)
{
	const char *text = json_string_value(value);
	char buffer[64];
	int64_t usec;
	int fits;

	switch (aws_shape_of(w->member)->type) {
	case AWS_STRING:
		return check_string(w, value, f);
	case AWS_INTEGER:
	case AWS_LONG:
	case AWS_DOUBLE:
		return check_number(w, value, f);
	case AWS_BOOLEAN:
		fits = json_is_boolean(value);
		break;
	case AWS_TIMESTAMP:
		fits = json_is_number(value) || (text && aws_time_parse(text, &usec) == 0);
		break;
	default:
		fits = text && aws_base64_check(text);
	}
	return fits ? 0 : aws_refuse_type(w, text_of(value, buffer), f);
}

static int check_value(struct checker *c, const struct aws_where *w, const json_t *value,
		       struct fault *f);

static int check_list(struct checker *c, const struct aws_where *w, const json_t *list,
		      struct fault *f)
{
	const struct aws_member *m = aws_member_at(aws_shape_of(w->member), 0);
	char buffer[64];
	size_t i;
	json_t *value;
	int r;

	if (!json_is_array(list))
		return aws_refuse_type(w, text_of(list, buffer), f);
	snprintf(buffer, sizeof buffer, "%zu elements", json_array_size(list));
	r = check_bounds(w, buffer, json_array_size(list), f);
	json_array_foreach (list, i, value) {
		struct aws_where element = aws_where_element(w, m, i + 1);

		if (r < 0)
			return r;
		if (++c->n_items > AWS_ITEMS_MAX)
			return aws_refuse_size(&element, "Too many elements", f);
		r = check_value(c, &element, value, f);
	}
	return r;
}

static int check_map(struct checker *c, const struct aws_where *w, const json_t *map,
		     struct fault *f)
{
	const struct aws_shape *s = aws_shape_of(w->member);
	char buffer[64];
	size_t i = 0;
	const char *key;
	json_t *value;
	int r;

	if (!json_is_object(map))
		return aws_refuse_type(w, text_of(map, buffer), f);
	snprintf(buffer, sizeof buffer, "%zu entries", json_object_size(map));
	r = check_bounds(w, buffer, json_object_size(map), f);
	json_object_foreach ((json_t *)map, key,
			     value) { /* the macro's iterator wants it changeable */
		struct aws_where at_key = aws_where_element(w, aws_member_at(s, 0), ++i);
		struct aws_where at_value = aws_where_element(w, aws_member_at(s, 1), i);
		OWN(json_decref) json_t *name = json_string(key);

		if (r < 0)
			return r;
		if (++c->n_items > AWS_ITEMS_MAX)
			return aws_refuse_size(&at_key, "Too many entries", f);
		r = check_scalar(&at_key, name, f);
		if (r == 0)
			r = check_value(c, &at_value, value, f);
	}
	return r;
}

static int check_structure(struct checker *c, const struct aws_where *w, const struct aws_shape *s,
			   const json_t *object, struct fault *f)
{
	char buffer[64];
	const char *name;
	json_t *value;
	int r;

	if (!json_is_object(object))
		return aws_refuse_type(w, text_of(object, buffer), f);
	json_object_foreach ((json_t *)object, name, value) { /* as above */
		const struct aws_member *m = aws_member_find(s, name, strlen(name));

		if (!m)
			return aws_refuse_unknown(w, name, strlen(name), f);
		struct aws_where at = aws_where_member(w, m);

		r = check_value(c, &at, value, f);
		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < s->n; i++) {
		const struct aws_member *m = aws_member_at(s, i);
		struct aws_where at = aws_where_member(w, m);

		/* A stream is never among the parameters: it is passed beside them. */
		if (w->depth == 0 && (m->flags & AWS_PAYLOAD) && aws_shape_of(m)->type == AWS_BLOB)
			continue;
		if ((m->flags & AWS_REQUIRED) && !json_object_get(object, aws_text(m->name)))
			return aws_refuse_missing(&at, f);
	}
	return 0;
}

static int check_value(struct checker *c, const struct aws_where *w, const json_t *value,
		       struct fault *f)
{
	const struct aws_shape *s = aws_shape_of(w->member);

	if (w->depth > AWS_DEPTH_MAX)
		return aws_refuse_size(w, "Nested too deeply", f);
	switch (s->type) {
	case AWS_STRUCTURE:
		return check_structure(c, w, s, value, f);
	case AWS_LIST:
		return check_list(c, w, value, f);
	case AWS_MAP:
		return check_map(c, w, value, f);
	default:
		return check_scalar(w, value, f);
	}
}

int aws_check(const struct aws_action *a, const json_t *parameters, struct fault *f)
{
	const struct aws_shape *input = aws_shape_at(a->input);
	struct aws_where w = aws_where_input(a);
	struct checker c = {0};

	if (input)
		return check_structure(&c, &w, input, parameters, f);
	if (!json_is_object(parameters))
		return aws_refuse_type(&w, "", f);
	const char *first =
		json_object_iter_key(json_object_iter((json_t *)parameters)); /* looked at only */

	return first ? aws_refuse_unknown(&w, first, strlen(first), f) : 0;
}

int aws_check_member(const struct aws_action *a, const struct aws_member *m, const json_t *value,
		     struct fault *f)
{
	struct aws_where input = aws_where_input(a), at = aws_where_member(&input, m);
	struct checker c = {0};

	return check_value(&c, &at, value, f);
}
