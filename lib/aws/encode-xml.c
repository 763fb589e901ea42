/* Replies of the ec2, query and rest-xml protocols. What botocore's parsers read is what is written
 * here. */
#include "encode.h"

#include "../own.h"

static int write_structure(struct encoder *e, const struct aws_shape *s, const json_t *object);
static int write_value(struct encoder *e, const struct aws_member *m, const char *name,
		       const json_t *value);

/* XML attributes of a structure's element; their prefix is declared where they stand, by the
 * namespace of `m`. */
static int write_attributes(struct encoder *e, const struct aws_member *m, const json_t *object)
{
	const struct aws_shape *s = aws_shape_of(m);
	int r = 0;

	for (unsigned i = 0; r == 0 && i < s->n; i++) {
		const struct aws_member *attribute = aws_member_at(s, i);
		const char *name = aws_text(attribute->reply), *colon = strchr(name, ':'), *text;
		const json_t *value = json_object_get(object, aws_text(attribute->name));
		char buffer[64];
		size_t n_bytes;

		if (!(attribute->flags & AWS_ATTRIBUTE) || !value)
			continue;
		if (colon) {
			text_add(&e->out, " xmlns:");
			text_add_bytes(&e->out, name, colon - name);
			text_add(&e->out, "=\"");
			text_add(&e->out, aws_text(m->namespace));
			text_add(&e->out, "\"");
		}
		r = encode_scalar(e, attribute, value, buffer, &text, &n_bytes);
		if (r < 0)
			return r;
		text_add(&e->out, " ");
		text_add(&e->out, name);
		text_add(&e->out, "=\"");
		text_add_xml(&e->out, text, n_bytes);
		text_add(&e->out, "\"");
	}
	return r;
}

static int write_elements(struct encoder *e, const struct aws_shape *list, const char *name,
			  const json_t *array)
{
	size_t i;
	json_t *value;
	int r = 0;

	json_array_foreach (array, i, value) {
		r = write_value(e, aws_member_at(list, 0), name, value);
		if (r < 0)
			return r;
	}
	return r;
}

/* Entries, each in an element `entry`. */
static int write_entries(struct encoder *e, const struct aws_shape *map, const char *entry,
			 const json_t *object)
{
	const struct aws_member *at_key = aws_member_at(map, 0), *at_value = aws_member_at(map, 1);
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)object, key,
			     value) { /* the macro's iterator wants it changeable */
		text_open(&e->out, entry);
		text_element(&e->out, aws_text(at_key->reply), key);
		int r = write_value(e, at_value, aws_text(at_value->reply), value);

		if (r < 0)
			return r;
		text_close(&e->out, entry);
	}
	return 0;
}

static int write_list(struct encoder *e, const struct aws_member *m, const char *name,
		      const json_t *array)
{
	const struct aws_shape *s = aws_shape_of(m);

	if (!json_is_array(array))
		return encode_refuse(e);
	if (m->flags & AWS_FLATTENED)
		return write_elements(e, s, name, array);
	if (json_array_size(array) == 0) {
		text_element(&e->out, name, "");
		return 0;
	}
	text_open(&e->out, name);
	int r = write_elements(e, s, aws_text(aws_member_at(s, 0)->reply), array);

	text_close(&e->out, name);
	return r;
}

static int write_map(struct encoder *e, const struct aws_member *m, const char *name,
		     const json_t *object)
{
	if (!json_is_object(object))
		return encode_refuse(e);
	if (m->flags & AWS_FLATTENED)
		return write_entries(e, aws_shape_of(m), name, object);
	text_open(&e->out, name);
	int r = write_entries(e, aws_shape_of(m), "entry", object);

	text_close(&e->out, name);
	return r;
}

static int write_scalar(struct encoder *e, const struct aws_member *m, const char *name,
			const json_t *value)
{
	char buffer[64];
	const char *text;
	size_t n_bytes;
	int r = encode_scalar(e, m, value, buffer, &text, &n_bytes);

	if (r < 0)
		return r;
	if (n_bytes == 0) {
		text_element(&e->out, name, "");
		return 0;
	}
	text_open(&e->out, name);
	text_add_xml(&e->out, text, n_bytes);
	text_close(&e->out, name);
	return 0;
}

static int write_substructure(struct encoder *e, const struct aws_member *m, const char *name,
			      const json_t *object)
{
	if (!json_is_object(object))
		return encode_refuse(e);
	text_add(&e->out, "<");
	text_add(&e->out, name);
	int r = write_attributes(e, m, object);

	text_add(&e->out, ">");
	if (r == 0)
		r = write_structure(e, aws_shape_of(m), object);
	text_close(&e->out, name);
	return r;
}

static int write_value(struct encoder *e, const struct aws_member *m, const char *name,
		       const json_t *value)
{
	int r = encode_enter(e, m);

	if (r < 0)
		return r;
	switch (aws_shape_of(m)->type) {
	case AWS_STRUCTURE:
		r = write_substructure(e, m, name, value);
		break;
	case AWS_LIST:
		r = write_list(e, m, name, value);
		break;
	case AWS_MAP:
		r = write_map(e, m, name, value);
		break;
	default:
		r = write_scalar(e, m, name, value);
	}
	encode_leave(e);
	return r;
}

static int write_structure(struct encoder *e, const struct aws_shape *s, const json_t *object)
{
	for (unsigned i = 0; i < s->n; i++) {
		const struct aws_member *m = aws_member_at(s, i);
		const json_t *value = json_object_get(object, aws_text(m->name));

		if (!value || json_is_null(value) || m->location != AWS_BODY ||
		    (m->flags & AWS_ATTRIBUTE))
			continue;
		int r = write_value(e, m, aws_text(m->reply), value);

		if (r < 0)
			return r;
	}
	return 0;
}

static void open_root(struct encoder *e, const char *root)
{
	text_add(&e->out, "<");
	text_add(&e->out, root);
	text_add(&e->out, " xmlns=\"");
	text_add(&e->out, aws_text(e->service->namespace));
	text_add(&e->out, "\">");
}

static int write_ec2(struct encoder *e, const struct aws_action *a, const json_t *reply,
		     const char *request_id)
{
	const struct aws_shape *output = aws_shape_at(a->output);
	const struct aws_member *done = output ? aws_member_find(output, "Return", 6) : NULL;
	int r = 0;

	text_add(&e->out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
	open_root(e, aws_text(a->root));
	text_element(&e->out, "requestId", request_id);
	if (output)
		r = write_structure(e, output, reply);
	/* An answer that only says that it was done. Where the model has the member, a handler may
	 * say false. */
	if (!output || (done && !json_object_get(reply, "Return")))
		text_add(&e->out, "<return>true</return>");
	text_close(&e->out, aws_text(a->root));
	return r;
}

static int write_query(struct encoder *e, const struct aws_action *a, const json_t *reply,
		       const char *request_id)
{
	const struct aws_shape *output = aws_shape_at(a->output);
	const char *wrapper = aws_text(a->wrapper);
	int r = 0;

	open_root(e, aws_text(a->root));
	if (*wrapper) {
		text_open(&e->out, wrapper);
		r = output ? write_structure(e, output, reply) : 0;
		text_close(&e->out, wrapper);
	}
	text_add(&e->out, "<ResponseMetadata>");
	text_element(&e->out, "RequestId", request_id);
	text_add(&e->out, "</ResponseMetadata>");
	text_close(&e->out, aws_text(a->root));
	return r;
}

/* The member that is the body, or that alone stands in the root as its text (S3's
 * LocationConstraint); NULL: all members are elements. */
static const struct aws_member *find_payload(const struct aws_action *a,
					     const struct aws_shape *output)
{
	for (unsigned i = 0; i < output->n; i++) {
		const struct aws_member *m = aws_member_at(output, i);

		if (m->flags & AWS_PAYLOAD)
			return m;
		if (strcmp(aws_text(m->reply), aws_text(a->root)) == 0 &&
		    aws_shape_of(m)->type == AWS_STRING)
			return m;
	}
	return NULL;
}

static int has_body(const struct aws_shape *output)
{
	for (unsigned i = 0; output && i < output->n; i++)
		if (aws_member_at(output, i)->location == AWS_BODY)
			return 1;
	return 0;
}

/* Bodies only: what goes into headers is the caller's. A blob is sent by descriptor, not from here.
 */
static int write_rest(struct encoder *e, const struct aws_action *a, const json_t *reply)
{
	const struct aws_shape *output = aws_shape_at(a->output);
	const struct aws_member *payload = output ? find_payload(a, output) : NULL;
	const char *root = aws_text(a->root);
	const json_t *body = payload ? json_object_get(reply, aws_text(payload->name)) : reply;
	int r;

	if (!has_body(output) || (payload && aws_shape_of(payload)->type == AWS_BLOB))
		return 0;
	if (payload && (payload->flags & AWS_PAYLOAD) &&
	    aws_shape_of(payload)->type == AWS_STRING) {
		text_add(&e->out, json_is_string(body) ? json_string_value(body) : "");
		return 0;
	}
	text_add(&e->out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
	open_root(e, root);
	if (payload && aws_shape_of(payload)->type == AWS_STRING) {
		text_add_xml(&e->out, json_is_string(body) ? json_string_value(body) : "",
			     json_string_length(body));
		r = 0;
	} else if (body && !json_is_object(body)) {
		r = encode_refuse(e);
	} else {
		r = write_structure(e, payload ? aws_shape_of(payload) : output, body);
	}
	text_close(&e->out, root);
	return r;
}

int encode_xml(struct encoder *e, const struct aws_action *a, const json_t *reply,
	       const char *request_id)
{
	switch (e->service->protocol) {
	case AWS_EC2:
		return write_ec2(e, a, reply, request_id);
	case AWS_QUERY:
		return write_query(e, a, reply, request_id);
	default:
		return write_rest(e, a, reply);
	}
}
