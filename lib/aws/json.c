/* The JSON protocols: bodies in (by wire names, checked), replies out. */
#include "encode.h"
#include "refuse.h"

#include <errno.h>
#include "../jsonx.h"
#include "../own.h"

static int uses_wire_names(const struct aws_service *s)
{
	return s->protocol == AWS_JSON || s->protocol == AWS_REST_JSON;
}

static int rename_value(const struct aws_member *m, const json_t *value, unsigned depth,
			json_t **ret_renamed);

/* A copy in which the model's names stand for the wire's. What is not the model's stays: the check
 * that follows refuses it. */
static int rename_structure(const struct aws_shape *s, const json_t *object, unsigned depth,
			    json_t **ret_renamed)
{
	OWN(json_decref) json_t *renamed = json_object();
	const char *name;
	json_t *value;

	json_object_foreach ((json_t *)object, name,
			     value) { /* the macro's iterator wants it changeable */
		const struct aws_member *m = aws_member_find_request(s, name, strlen(name));
		OWN(json_decref) json_t *inner = m ? NULL : json_incref(value);
		int r = m ? rename_value(m, value, depth + 1, &inner) : 0;

		if (r == 0 && !json_is_null(inner)) /* null is as absent */
			r = jset_new(renamed, m ? aws_text(m->name) : name, give(inner));
		if (r < 0)
			return r;
	}
	*ret_renamed = give(renamed);
	return *ret_renamed ? 0 : -ENOMEM;
}

static int rename_elements(const struct aws_shape *s, const json_t *array, unsigned depth,
			   json_t **ret_renamed)
{
	OWN(json_decref) json_t *renamed = json_array();
	size_t i;
	json_t *value;

	json_array_foreach (array, i, value) {
		OWN(json_decref) json_t *inner = NULL;
		int r = rename_value(aws_member_at(s, 0), value, depth + 1, &inner);

		if (r == 0 && json_array_append_new(renamed, give(inner)) < 0)
			r = -ENOMEM;
		if (r < 0)
			return r;
	}
	*ret_renamed = give(renamed);
	return *ret_renamed ? 0 : -ENOMEM;
}

static int rename_entries(const struct aws_shape *s, const json_t *map, unsigned depth,
			  json_t **ret_renamed)
{
	OWN(json_decref) json_t *renamed = json_object();
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)map, key, value) { /* as above */
		OWN(json_decref) json_t *inner = NULL;
		int r = rename_value(aws_member_at(s, 1), value, depth + 1, &inner);

		if (r == 0)
			r = jset_new(renamed, key, give(inner));
		if (r < 0)
			return r;
	}
	*ret_renamed = give(renamed);
	return *ret_renamed ? 0 : -ENOMEM;
}

static int rename_value(const struct aws_member *m, const json_t *value, unsigned depth,
			json_t **ret_renamed)
{
	const struct aws_shape *s = aws_shape_of(m);

	if (depth <= AWS_DEPTH_MAX) {
		if (s->type == AWS_STRUCTURE && json_is_object(value))
			return rename_structure(s, value, depth, ret_renamed);
		if (s->type == AWS_LIST && json_is_array(value))
			return rename_elements(s, value, depth, ret_renamed);
		if (s->type == AWS_MAP && json_is_object(value))
			return rename_entries(s, value, depth, ret_renamed);
	}
	*ret_renamed = json_incref((json_t *)value); /* shared, not changed */
	return 0;
}

/* No request nests deeper than AWS_DEPTH_MAX; jansson recurses 2,048 deep, which a fiber's stack
 * does not hold. */
static int is_deep(const char *body, size_t n_bytes)
{
	int depth = 0, in_string = 0;

	for (const char *p = body; p < body + n_bytes && depth <= AWS_DEPTH_MAX * 2; p++) {
		if (in_string && *p == '\\')
			p++;
		else if (*p == '"')
			in_string = !in_string;
		else if (!in_string)
			depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
	}
	return depth > AWS_DEPTH_MAX * 2;
}

int aws_read_json(const struct aws_service *service, const struct aws_shape *s, const char *body,
		  size_t n_bytes, json_t **ret_value, struct fault *f)
{
	json_error_t error;

	if (is_deep(body, n_bytes))
		return fault_set(f, FAULT_SERIALIZATION, "The body is nested too deeply");
	/* An empty body is a request without parameters. */
	OWN(json_decref)
	json_t *given =
		n_bytes ? json_loadb(body, n_bytes, JSON_REJECT_DUPLICATES, &error) : json_object();

	if (!json_is_object(given))
		return fault_set(f, FAULT_SERIALIZATION, "The body is not a JSON object%s%.200s",
				 given ? "" : ": ", given ? "" : error.text);
	if (s && uses_wire_names(service))
		return rename_structure(s, given, 0, ret_value);
	*ret_value = give(given);
	return 0;
}

int aws_decode_json(const struct aws_action *a, const char *body, size_t n_bytes,
		    json_t **ret_parameters, struct fault *f)
{
	OWN(json_decref) json_t *parameters = NULL;
	int r = aws_read_json(aws_service_of(a), aws_shape_at(a->input), body, n_bytes, &parameters,
			      f);

	if (r == 0)
		r = aws_check(a, parameters, f);
	if (r == 0)
		*ret_parameters = give(parameters);
	return r;
}

static int wire_value(struct encoder *e, const struct aws_member *m, const json_t *value,
		      json_t **ret_wire);

static int wire_structure(struct encoder *e, const struct aws_shape *s, const json_t *object,
			  json_t **ret_wire)
{
	OWN(json_decref) json_t *wire = json_object();

	if (object && !json_is_object(object))
		return encode_refuse(e);
	for (unsigned i = 0; s && i < s->n; i++) {
		const struct aws_member *m = aws_member_at(s, i);
		const json_t *value = json_object_get(object, aws_text(m->name));
		OWN(json_decref) json_t *inner = NULL;

		if (!value || json_is_null(value) || m->location != AWS_BODY)
			continue;
		int r = wire_value(e, m, value, &inner);

		if (r == 0)
			r = jset_new(wire, aws_text(m->request), give(inner));
		if (r < 0)
			return r;
	}
	*ret_wire = give(wire);
	return *ret_wire ? 0 : -ENOMEM;
}

static int wire_elements(struct encoder *e, const struct aws_shape *s, const json_t *array,
			 json_t **ret_wire)
{
	OWN(json_decref) json_t *wire = json_array();
	size_t i;
	json_t *value;

	if (!json_is_array(array))
		return encode_refuse(e);
	json_array_foreach (array, i, value) {
		OWN(json_decref) json_t *inner = NULL;
		int r = wire_value(e, aws_member_at(s, 0), value, &inner);

		if (r == 0 && json_array_append_new(wire, give(inner)) < 0)
			r = -ENOMEM;
		if (r < 0)
			return r;
	}
	*ret_wire = give(wire);
	return *ret_wire ? 0 : -ENOMEM;
}

static int wire_entries(struct encoder *e, const struct aws_shape *s, const json_t *map,
			json_t **ret_wire)
{
	OWN(json_decref) json_t *wire = json_object();
	const char *key;
	json_t *value;

	if (!json_is_object(map))
		return encode_refuse(e);
	json_object_foreach ((json_t *)map, key, value) { /* as above */
		OWN(json_decref) json_t *inner = NULL;
		int r = wire_value(e, aws_member_at(s, 1), value, &inner);

		if (r == 0)
			r = jset_new(wire, key, give(inner));
		if (r < 0)
			return r;
	}
	*ret_wire = give(wire);
	return *ret_wire ? 0 : -ENOMEM;
}

static int wire_scalar(struct encoder *e, const struct aws_member *m, const json_t *value,
		       json_t **ret_wire)
{
	int is_time = aws_shape_of(m)->type == AWS_TIMESTAMP;
	char buffer[64];
	const char *text;
	size_t n_bytes;
	int64_t usec;
	int r = encode_scalar(e, m, value, buffer, &text, &n_bytes); /* also checks the type */

	if (r == 0 && is_time &&
	    (m->timestamp == AWS_TIME_DEFAULT || m->timestamp == AWS_TIME_UNIX)) {
		r = encode_moment(e, value, &usec);
		*ret_wire = r < 0	     ? NULL
			    : usec % 1000000 ? json_real(usec / 1e6)
					     : json_integer(usec / 1000000);
	} else if (r == 0) {
		*ret_wire = is_time ? json_stringn(text, n_bytes)
				    : json_incref((json_t *)value); /* shared, not changed */
	}
	return r < 0 ? r : *ret_wire ? 0 : -ENOMEM;
}

static int wire_value(struct encoder *e, const struct aws_member *m, const json_t *value,
		      json_t **ret_wire)
{
	const struct aws_shape *s = aws_shape_of(m);
	int r = encode_enter(e, m);

	if (r < 0)
		return r;
	switch (s->type) {
	case AWS_STRUCTURE:
		r = wire_structure(e, s, value, ret_wire);
		break;
	case AWS_LIST:
		r = wire_elements(e, s, value, ret_wire);
		break;
	case AWS_MAP:
		r = wire_entries(e, s, value, ret_wire);
		break;
	default:
		r = wire_scalar(e, m, value, ret_wire);
	}
	encode_leave(e);
	return r;
}

/* A body that is one member: a structure as an object, text as it is, a stream not from here. */
static int encode_payload(struct encoder *e, const struct aws_member *m, const json_t *value)
{
	OWN(json_decref) json_t *wire = NULL;
	int type = aws_shape_of(m)->type;

	if (type == AWS_BLOB || !value)
		return 0;
	if (type == AWS_STRING) {
		text_add_bytes(&e->out, json_string_value(value), json_string_length(value));
		return json_is_string(value) ? 0 : encode_refuse(e);
	}
	int r = wire_value(e, m, value, &wire);
	OWN(free) char *dump = r == 0 ? json_dumps(wire, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (dump)
		text_add(&e->out, dump);
	return r < 0 ? r : dump ? 0 : -ENOMEM;
}

int encode_json(struct encoder *e, const struct aws_action *a, const json_t *reply)
{
	const struct aws_shape *output = aws_shape_at(a->output);
	const struct aws_member *payload = aws_payload_find(output);
	OWN(json_decref) json_t *wire = NULL;

	if (payload)
		return encode_payload(e, payload, json_object_get(reply, aws_text(payload->name)));
	int r = wire_structure(e, output, reply, &wire);
	OWN(free) char *dump = r == 0 ? json_dumps(wire, JSON_COMPACT) : NULL;

	if (r == 0 && !dump)
		return -ENOMEM;
	if (dump)
		text_add(&e->out, dump);
	return r;
}
