/*
 * The rest protocols: what stands in a path, a query and headers, in and out.
 *
 * A path is matched segment by segment, as it was received, and each label is decoded by itself: an
 * escaped slash does not end a segment.
 */
#include "encode.h"
#include "refuse.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include "../jsonx.h"
#include "../own.h"

#define LABELS_MAX 8

/* ---- paths ---- */

/* One label of a template and what stands there; both point into other texts. */
struct label {
	const char *name, *text;
	size_t n_name, n_text;
};

struct match {
	struct label labels[LABELS_MAX];
	size_t n_labels;
	unsigned n_literals;
};

/* "{Key+}" takes what is left, "{Bucket}" one segment, which is not empty. */
static int match_label(struct match *m, const char *template, size_t n, const char *path,
		       size_t *ret_taken)
{
	int is_greedy = n > 3 && template[n - 2] == '+';
	size_t n_text = is_greedy ? strlen(path) : strcspn(path, "/");

	if (m->n_labels == LABELS_MAX || n_text == 0)
		return 0;
	m->labels[m->n_labels++] = (struct label){template + 1, path, n - 2 - is_greedy, n_text};
	*ret_taken = n_text;
	return 1;
}

/* The path fits the template's part before its question mark. */
static int match_path(const char *template, const char *path, struct match *ret_match)
{
	struct match m = {0};
	const char *end = template + strcspn(template, "?");

	while (template <end) {
		size_t n = strcspn(template + 1, "/?") + 1, taken;

		if (*template != '/' || *path != '/')
			return 0;
		template ++, path++, n--;
		if (*template == '{') {
			if (!match_label(&m, template, n, path, &taken))
				return 0;
			path += taken;
		} else {
			if (strcspn(path, "/") != n || strncmp(template, path, n) != 0)
				return 0;
			m.n_literals += n > 0;
			path += n;
		}
		template += n;
	}
	*ret_match = m;
	return *path == '\0' || strcmp(path, "/") == 0;
}

static const char *pair_find(const struct aws_pair *pairs, size_t n, const char *name,
			     size_t n_name, int is_header)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(pairs[i].name) == n_name &&
		    (is_header ? strncasecmp(pairs[i].name, name, n_name)
			       : strncmp(pairs[i].name, name, n_name)) == 0)
			return pairs[i].value;
	return NULL;
}

/* The template's fixed parameters ("?list-type=2&acl") are there: how many, or -1. */
static int count_fixed(const char *template, const struct aws_rest *r)
{
	const char *at = strchr(template, '?');
	int n = 0;

	for (at = at ? at + 1 : ""; *at; n++) {
		size_t length = strcspn(at, "&"), n_name = strcspn(at, "=&");
		const char *value = pair_find(r->query, r->n_query, at, n_name, 0);

		if (!value ||
		    (at[n_name] == '=' && (strlen(value) != length - n_name - 1 ||
					   strncmp(value, at + n_name + 1, strlen(value)) != 0)))
			return -1;
		at += length + (at[length] == '&');
	}
	return n;
}

/* Required members of query and headers: how many are there, and how many are not. */
static void count_required(const struct aws_action *a, const struct aws_rest *r, int *ret_there,
			   int *ret_missing)
{
	const struct aws_shape *input = aws_shape_at(a->input);

	*ret_there = *ret_missing = 0;
	for (unsigned i = 0; input && i < input->n; i++) {
		const struct aws_member *m = aws_member_at(input, i);
		const char *name = aws_text(m->request), *value = NULL;

		if (!(m->flags & AWS_REQUIRED) ||
		    (m->location != AWS_QUERYSTRING && m->location != AWS_HEADER))
			continue;
		if (m->location == AWS_QUERYSTRING)
			value = pair_find(r->query, r->n_query, name, strlen(name), 0);
		else
			value = pair_find(r->headers, r->n_headers, name, strlen(name), 1);
		*(value ? ret_there : ret_missing) += 1;
	}
}

const struct aws_action *aws_action_route(const struct aws_service *s, const struct aws_rest *r)
{
	const struct aws_action *best = NULL;
	int best_score = -1;

	for (unsigned i = 0; i < s->n_actions; i++) {
		const struct aws_action *a = &aws_actions[s->first_action + i];
		struct match m;
		int there, missing;

		if (strcmp(aws_text(a->method), r->method) != 0 ||
		    !match_path(aws_text(a->uri), r->path, &m))
			continue;
		int n_fixed = count_fixed(aws_text(a->uri), r);

		if (n_fixed < 0)
			continue;
		count_required(a, r, &there, &missing);
		/* One that lacks something is asked for only where nothing else is. */
		int score = (missing == 0) * 10000 + (int)m.n_literals * 1000 + n_fixed * 100 +
			    (int)m.n_labels * 10 + there;

		/* Of two that nothing tells apart the later in the alphabet is the newer one
		 * (GetBucketLifecycle, GetBucketLifecycleConfiguration). */
		if (score >= best_score) {
			best = a;
			best_score = score;
		}
	}
	return best;
}

/* ---- in ---- */

static int read_scalar(const struct aws_action *a, const struct aws_member *m,
		       const struct aws_shape *s, const char *text, json_t **ret_value,
		       struct fault *f)
{
	struct aws_where input = aws_where_input(a), at = aws_where_member(&input, m);
	int r = s->type <= AWS_MAP ? -EINVAL : aws_scalar_read(s, text, ret_value);

	return r == -EINVAL ? aws_refuse_type(&at, text, f) : r;
}

static int hex_of(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* Percent escapes to bytes. -EINVAL: a broken one, or a NUL. */
static int unescape(const char *text, size_t n, char *ret_text)
{
	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)text[i];

		if (c == '%') {
			if (n - i < 3 || !isxdigit((unsigned char)text[i + 1]) ||
			    !isxdigit((unsigned char)text[i + 2]))
				return -EINVAL;
			c = hex_of(text[i + 1]) << 4 | hex_of(text[i + 2]);
			i += 2;
		}
		if (c == 0)
			return -EINVAL;
		*ret_text++ = (char)c;
	}
	*ret_text = '\0';
	return 0;
}

static int read_label(const struct aws_action *a, const struct aws_member *m,
		      const struct match *match, json_t **ret_value, struct fault *f)
{
	const char *name = aws_text(m->request);

	for (size_t i = 0; i < match->n_labels; i++) {
		const struct label *l = &match->labels[i];

		if (strlen(name) != l->n_name || strncmp(name, l->name, l->n_name) != 0)
			continue;
		OWN(free) char *text = malloc(l->n_text + 1);

		if (!text)
			return -ENOMEM;
		if (unescape(l->text, l->n_text, text) < 0)
			return fault_set(f, FAULT_MALFORMED_QUERY_STRING,
					 "The path is not percent-encoded as it must be");
		return read_scalar(a, m, aws_shape_of(m), text, ret_value, f);
	}
	return 0;
}

/* A list is a parameter said several times, a map all that the model does not name. */
static int read_parameter(const struct aws_action *a, const struct aws_member *m,
			  const struct aws_rest *r, json_t **ret_value, struct fault *f)
{
	const struct aws_shape *s = aws_shape_of(m);
	const char *name = aws_text(m->request);
	OWN(json_decref) json_t *list = NULL;

	if (s->type != AWS_LIST) {
		const char *text = pair_find(r->query, r->n_query, name, strlen(name), 0);

		return text ? read_scalar(a, m, s, text, ret_value, f) : 0;
	}
	for (size_t i = 0; i < r->n_query; i++) {
		json_t *value = NULL;

		if (strcmp(r->query[i].name, name) != 0)
			continue;
		if (!list && !(list = json_array()))
			return -ENOMEM;
		int error = read_scalar(a, m, aws_shape_of(aws_member_at(s, 0)), r->query[i].value,
					&value, f);

		if (error == 0 && json_array_append_new(list, value) < 0)
			error = -ENOMEM;
		if (error < 0)
			return error;
	}
	*ret_value = give(list);
	return 0;
}

/* "a, b": commas part a header's list. */
static int read_header_list(const struct aws_action *a, const struct aws_member *m,
			    const char *text, json_t **ret_value, struct fault *f)
{
	const struct aws_shape *element = aws_shape_of(aws_member_at(aws_shape_of(m), 0));
	OWN(json_decref) json_t *list = json_array();

	while (*text) {
		size_t n = strcspn(text, ",");
		OWN(free) char *item = strndup(text, n);
		json_t *value = NULL;
		int r = item ? read_scalar(a, m, element, item + strspn(item, " \t"), &value, f)
			     : -ENOMEM;

		if (r == 0 && json_array_append_new(list, value) < 0)
			r = -ENOMEM;
		if (r < 0)
			return r;
		text += n + (text[n] == ',');
	}
	*ret_value = give(list);
	return *ret_value ? 0 : -ENOMEM;
}

static int read_header(const struct aws_action *a, const struct aws_member *m,
		       const struct aws_rest *r, json_t **ret_value, struct fault *f)
{
	const char *name = aws_text(m->request);
	const char *text = pair_find(r->headers, r->n_headers, name, strlen(name), 1);

	if (!text)
		return 0;
	if (aws_shape_of(m)->type == AWS_LIST)
		return read_header_list(a, m, text, ret_value, f);
	return read_scalar(a, m, aws_shape_of(m), text, ret_value, f);
}

/* "x-amz-meta-color: red" → {"color": "red"} */
static int read_prefixed(const struct aws_member *m, const struct aws_rest *r, json_t **ret_value)
{
	const char *prefix = aws_text(m->request);
	OWN(json_decref) json_t *map = NULL;

	for (size_t i = 0; i < r->n_headers; i++) {
		const char *name = r->headers[i].name;

		if (strncasecmp(name, prefix, strlen(prefix)) != 0)
			continue;
		if (!map && !(map = json_object()))
			return -ENOMEM;
		int error = jset(map, name + strlen(prefix), r->headers[i].value);

		if (error < 0)
			return error;
	}
	*ret_value = give(map);
	return 0;
}

static int read_member(const struct aws_action *a, const struct aws_member *m,
		       const struct match *match, const struct aws_rest *r, json_t **ret_value,
		       struct fault *f)
{
	switch (m->location) {
	case AWS_URI:
		return read_label(a, m, match, ret_value, f);
	case AWS_QUERYSTRING:
		return read_parameter(a, m, r, ret_value, f);
	case AWS_HEADER:
		return read_header(a, m, r, ret_value, f);
	case AWS_HEADERS:
		return read_prefixed(m, r, ret_value);
	default:
		return 0;
	}
}

static int read_json_body(const struct aws_action *a, const struct aws_rest *r,
			  json_t **ret_parameters, struct fault *f)
{
	const struct aws_shape *input = aws_shape_at(a->input);
	const struct aws_member *payload = aws_payload_find(input);
	OWN(json_decref) json_t *value = NULL;

	if (!payload)
		return aws_read_json(aws_service_of(a), input, r->body, r->n_body, ret_parameters,
				     f);
	int type = aws_shape_of(payload)->type, error = 0;

	*ret_parameters = json_object();
	if (type == AWS_BLOB || r->n_body == 0)
		return *ret_parameters ? 0 : -ENOMEM;
	if (type == AWS_STRING)
		error = (value = json_stringn(r->body, r->n_body)) ? 0 : -EINVAL;
	else
		error = aws_read_json(aws_service_of(a), aws_shape_of(payload), r->body, r->n_body,
				      &value, f);
	if (error == -EINVAL)
		return fault_set(f, FAULT_SERIALIZATION, "The body is not UTF-8");
	return error < 0 ? error : jset_new(*ret_parameters, aws_text(payload->name), give(value));
}

static int is_of_body(const struct aws_shape *input, const char *name)
{
	const struct aws_member *m = aws_member_find(input, name, strlen(name));

	return !m || m->location == AWS_BODY;
}

/* A body cannot say what the path and the headers say. */
static void drop_strays(const struct aws_shape *input, json_t *parameters)
{
	const char *name;
	json_t *value;
	void *next;

	json_object_foreach_safe(parameters, next, name, value) if (!is_of_body(input, name))(void)
		json_object_del(parameters, name); /* it is there */
}

int aws_decode_rest(const struct aws_action *a, const struct aws_rest *r, json_t **ret_parameters,
		    struct fault *f)
{
	const struct aws_shape *input = aws_shape_at(a->input);
	OWN(json_decref) json_t *parameters = NULL;
	struct match match = {0};
	int error = aws_service_of(a)->protocol == AWS_REST_XML
			    ? aws_decode_xml(a, r->body, r->n_body, &parameters, f)
			    : read_json_body(a, r, &parameters, f);

	if (error == 0 && input)
		drop_strays(input, parameters);
	(void)match_path(aws_text(a->uri), r->path, &match); /* it led here */
	for (unsigned i = 0; error == 0 && input && i < input->n; i++) {
		const struct aws_member *m = aws_member_at(input, i);
		json_t *value = NULL;

		error = read_member(a, m, &match, r, &value, f);
		if (error == 0 && value)
			error = jset_new(parameters, aws_text(m->name), value);
	}
	if (error == 0)
		error = aws_check(a, parameters, f);
	if (error == 0)
		*ret_parameters = give(parameters);
	return error;
}

/* ---- out ---- */

/* Nothing that would end the header's line early. */
static int header_add(json_t *headers, const char *prefix, const char *name, const char *text)
{
	char full[256];

	if ((size_t)snprintf(full, sizeof full, "%s%s", prefix, name) >= sizeof full)
		return -EINVAL;
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 && *c != '\t')
			return -EINVAL;
	return strpbrk(full, "\r\n: ") ? -EINVAL : jset(headers, full, text);
}

static int put_map(const struct aws_member *m, const json_t *map, json_t *headers)
{
	const char *name;
	json_t *value;
	int r = 0;

	json_object_foreach ((json_t *)map, name,
			     value) /* the macro's iterator wants it changeable */
		if (r == 0)
			r = json_is_string(value) ? header_add(headers, aws_text(m->request), name,
							       json_string_value(value))
						  : -EPROTO;
	return r;
}

static int put_header(struct encoder *e, const struct aws_member *m, const json_t *value,
		      json_t *headers)
{
	struct aws_member timed = *m;
	char buffer[64];
	const char *text;
	size_t n_bytes;

	if (aws_shape_of(m)->type <= AWS_MAP)
		return encode_refuse(e);
	if (timed.timestamp == AWS_TIME_DEFAULT)
		timed.timestamp = AWS_TIME_RFC822; /* what a header has unless the model says so */
	int r = encode_enter(e, m);

	if (r == 0)
		r = encode_scalar(e, &timed, value, buffer, &text, &n_bytes);
	encode_leave(e);
	return r < 0 ? r : header_add(headers, "", aws_text(m->request), text);
}

int aws_encode_headers(const struct aws_action *a, const json_t *reply, json_t **ret_headers)
{
	const struct aws_shape *output = aws_shape_at(a->output);
	struct encoder e = {.service = aws_service_of(a)};
	OWN(json_decref) json_t *headers = json_object();
	int r = headers ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && output && i < output->n; i++) {
		const struct aws_member *m = aws_member_at(output, i);
		const json_t *value = json_object_get(reply, aws_text(m->name));

		if (value && !json_is_null(value) && m->location == AWS_HEADERS)
			r = put_map(m, value, headers);
		else if (value && !json_is_null(value) && m->location == AWS_HEADER)
			r = put_header(&e, m, value, headers);
	}
	if (r == 0)
		*ret_headers = give(headers);
	return r;
}
