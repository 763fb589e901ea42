/*
 * Query parameters to JSON ("Filter.1.Value.2=x" → {"Filters": [{"Values": […]}]}).
 *
 * Theory: the parameters are sorted by the components of their names, numbers as numbers. Then all
 * parameters of one member, or of one list element, stand side by side, and a list's elements stand
 * in order; so the tree is read off by a recursion over ranges, in n log n whatever names a client
 * makes up. Nothing is built for names that the model lacks. Source of the rules: botocore's
 * QuerySerializer and EC2Serializer, whose inverse this is.
 */
#include "refuse.h"

#include <errno.h>
#include <stdlib.h>
#include "../jsonx.h"
#include "../own.h"

struct decoder {
	int is_ec2;
	size_t n_items; /* elements and entries so far */
	struct fault *f;
};

/* The parameters of one value: names are equal up to `at`, where they end or go on with a dot. */
struct range {
	const struct aws_pair *pairs;
	size_t n;
	size_t at;
};

static size_t component_bytes(const char *name)
{
	return strcspn(name, ".");
}

/* The component as a list index, -1 if it is none. */
static long component_number(const char *name, size_t n_bytes)
{
	if (n_bytes == 0 || n_bytes > 9 || strspn(name, "0123456789") < n_bytes ||
	    (*name == '0' && n_bytes > 1))
		return -1;
	return strtol(name, NULL, 10);
}

static int compare_component(const char *a, size_t n_a, const char *b, size_t n_b)
{
	long i = component_number(a, n_a), j = component_number(b, n_b);

	if (i >= 0 && j >= 0)
		return (i > j) - (i < j);
	if ((i >= 0) != (j >= 0))
		return i >= 0 ? -1 : 1;
	int c = memcmp(a, b, n_a < n_b ? n_a : n_b);

	return c ? c : (n_a > n_b) - (n_a < n_b);
}

static int compare_pair(const void *left, const void *right)
{
	const char *a = ((const struct aws_pair *)left)->name,
		   *b = ((const struct aws_pair *)right)->name;

	for (;;) {
		size_t n_a = component_bytes(a), n_b = component_bytes(b);
		int c = compare_component(a, n_a, b, n_b);

		if (c)
			return c;
		if (!a[n_a] || !b[n_b])
			return !!a[n_a] - !!b[n_b];
		a += n_a + 1;
		b += n_b + 1;
	}
}

/* Takes from `rest` (whose parameters all go on at ->at with a component) those with the same first
 * component: `ret_group` stands behind it. */
static const char *next_group(struct range *rest, struct range *ret_group, size_t *ret_bytes)
{
	const char *name = rest->pairs[0].name + rest->at;
	size_t n_bytes = component_bytes(name), n = 1;

	while (n < rest->n) {
		const char *other = rest->pairs[n].name + rest->at;

		if (strncmp(name, other, n_bytes) != 0 || (other[n_bytes] && other[n_bytes] != '.'))
			break;
		n++;
	}
	*ret_group = (struct range){rest->pairs, n, rest->at + n_bytes};
	rest->pairs += n;
	rest->n -= n;
	*ret_bytes = n_bytes;
	return name;
}

/* The parameter that ends here, NULL if all go on. It is sorted first. */
static const struct aws_pair *leaf_of(const struct range *r)
{
	return r->n > 0 && r->pairs[0].name[r->at] == '\0' ? &r->pairs[0] : NULL;
}

/* The parameters that go on, standing behind the dot. A parameter that ends here must be empty:
 * "Tags=" is the empty list. */
static int children_of(const struct decoder *d, const struct aws_where *w, struct range r,
		       struct range *ret_children)
{
	for (; leaf_of(&r); r.pairs++, r.n--)
		if (*r.pairs->value)
			return aws_refuse_type(w, r.pairs->value, d->f);
	*ret_children = (struct range){r.pairs, r.n, r.at + 1};
	return 0;
}

static int decode_text(const struct aws_where *w, const char *text, struct fault *f, json_t **ret)
{
	const struct aws_shape *s = aws_shape_of(w->member);
	int r = aws_scalar_read(s, text, ret);

	if (r != -EINVAL)
		return r;
	/* What is not UTF-8 is not to be repeated. */
	return aws_refuse_type(w, s->type == AWS_STRING || s->type == AWS_BLOB ? "" : text, f);
}

static int decode_scalar(const struct decoder *d, const struct aws_where *w, struct range r,
			 json_t **ret)
{
	const char *more = r.pairs[r.n - 1].name + r.at;

	if (*more)
		return aws_refuse_unknown(w, more + 1, component_bytes(more + 1), d->f);
	if (r.n > 1)
		return fault_set(d->f, FAULT_MALFORMED_QUERY_STRING,
				 "A parameter is given more than once");
	return decode_text(w, r.pairs[0].value, d->f, ret);
}

static int decode_value(struct decoder *d, const struct aws_where *w, struct range r, json_t **ret);

/* An id that is written but empty: none, to EC2. AWS's SDK for Go writes such for what is not set. */
static int is_empty_id(const struct decoder *d, const struct aws_member *m, const struct range *r)
{
	const char *name = aws_text(m->name);
	size_t n = strlen(name);

	return d->is_ec2 && n > 2 && strcmp(name + n - 2, "Id") == 0 && r->n == 1 &&
	       !r->pairs[0].name[r->at] && !*r->pairs[0].value;
}

static int decode_structure(struct decoder *d, const struct aws_where *w, const struct aws_shape *s,
			    struct range rest, json_t **ret)
{
	OWN(json_decref) json_t *object = json_object();

	while (rest.n > 0) {
		OWN(json_decref) json_t *value = NULL;
		struct range group;
		size_t n_bytes;
		const char *name = next_group(&rest, &group, &n_bytes);
		const struct aws_member *m = aws_member_find_request(s, name, n_bytes);

		if (!m)
			return aws_refuse_unknown(w, name, n_bytes, d->f);
		if (is_empty_id(d, m, &group))
			continue;
		struct aws_where at = aws_where_member(w, m);
		int r = decode_value(d, &at, group, &value);

		if (r == 0)
			r = jset_new(object, aws_text(m->name), give(value));
		if (r < 0)
			return r;
	}
	*ret = give(object);
	return *ret ? 0 : -ENOMEM;
}

/* The component between a list's or map's name and the number ("member", "entry"), which flat ones
 * do not have. */
static int strip(const struct decoder *d, const struct aws_where *w, const char *wanted,
		 struct range *r)
{
	struct range group;
	size_t n_bytes;

	if (r->n == 0)
		return 0;
	const char *name = next_group(r, &group, &n_bytes);

	if (strlen(wanted) != n_bytes || strncmp(name, wanted, n_bytes) != 0 || leaf_of(&group))
		return aws_refuse_unknown(w, name, n_bytes, d->f);
	if (r->n > 0)
		return aws_refuse_unknown(w, r->pairs[0].name + r->at,
					  component_bytes(r->pairs[0].name + r->at), d->f);
	*r = (struct range){group.pairs, group.n, group.at + 1};
	return 0;
}

/* The parameters of the next element; its number only orders. */
static int next_element(struct decoder *d, const struct aws_where *w, struct range *rest,
			struct range *ret_group)
{
	size_t n_bytes;
	const char *name = next_group(rest, ret_group, &n_bytes);

	if (component_number(name, n_bytes) < 0)
		return aws_refuse_unknown(w, name, n_bytes, d->f);
	return ++d->n_items > AWS_ITEMS_MAX ? aws_refuse_size(w, "Too many elements", d->f) : 0;
}

static int decode_list(struct decoder *d, const struct aws_where *w, struct range rest,
		       json_t **ret)
{
	const struct aws_member *m = aws_member_at(aws_shape_of(w->member), 0);
	OWN(json_decref) json_t *list = json_array();
	int r = children_of(d, w, rest, &rest);

	if (r == 0 && !d->is_ec2 && !(w->member->flags & AWS_FLATTENED))
		r = strip(d, w, aws_text(m->request), &rest);
	while (r == 0 && rest.n > 0) {
		struct aws_where at = aws_where_element(w, m, json_array_size(list) + 1);
		OWN(json_decref) json_t *value = NULL;
		struct range group;

		r = next_element(d, w, &rest, &group);
		if (r == 0)
			r = decode_value(d, &at, group, &value);
		if (r == 0 && json_array_append_new(list, give(value)) < 0)
			r = -ENOMEM;
	}
	if (r < 0)
		return r;
	*ret = give(list);
	return *ret ? 0 : -ENOMEM;
}

/* One entry: its key and value stand behind the number in either order. */
static int decode_entry(struct decoder *d, const struct aws_where *w, size_t index,
			struct range rest, json_t *map)
{
	const struct aws_shape *s = aws_shape_of(w->member);
	OWN(json_decref) json_t *key = NULL;
	OWN(json_decref) json_t *value = NULL;
	int r = 0;

	while (rest.n > 0) {
		struct range group;
		size_t n_bytes;
		const char *name = next_group(&rest, &group, &n_bytes);
		int is_key = strlen(aws_text(aws_member_at(s, 0)->request)) == n_bytes &&
			     strncmp(name, aws_text(aws_member_at(s, 0)->request), n_bytes) == 0;
		const char *wanted = aws_text(aws_member_at(s, !is_key)->request);
		struct aws_where at = aws_where_element(w, aws_member_at(s, !is_key), index);

		if (strlen(wanted) != n_bytes || strncmp(name, wanted, n_bytes) != 0)
			return aws_refuse_unknown(w, name, n_bytes, d->f);
		r = decode_value(d, &at, group, is_key ? &key : &value);
		if (r < 0)
			return r;
	}
	struct aws_where at = aws_where_element(w, aws_member_at(s, key ? 1 : 0), index);

	if (!json_is_string(key) || !value)
		return aws_refuse_missing(&at, d->f);
	return json_object_setn_new(map, json_string_value(key), json_string_length(key),
				    give(value)) < 0
		       ? -ENOMEM
		       : 0;
}

static int decode_map(struct decoder *d, const struct aws_where *w, struct range rest, json_t **ret)
{
	OWN(json_decref) json_t *map = json_object();
	int r = children_of(d, w, rest, &rest);

	if (r == 0 && !(w->member->flags & AWS_FLATTENED))
		r = strip(d, w, "entry", &rest);
	for (size_t i = 1; r == 0 && rest.n > 0; i++) {
		struct range group;

		r = next_element(d, w, &rest, &group);
		if (r == 0)
			r = children_of(d, w, group, &group);
		if (r == 0)
			r = decode_entry(d, w, i, group, map);
	}
	if (r < 0)
		return r;
	*ret = give(map);
	return *ret ? 0 : -ENOMEM;
}

static int decode_value(struct decoder *d, const struct aws_where *w, struct range r, json_t **ret)
{
	const struct aws_shape *s = aws_shape_of(w->member);
	struct range children;
	int error;

	if (w->depth > AWS_DEPTH_MAX)
		return aws_refuse_size(w, "Nested too deeply", d->f);
	switch (s->type) {
	case AWS_STRUCTURE:
		error = children_of(d, w, r, &children);
		return error < 0 ? error : decode_structure(d, w, s, children, ret);
	case AWS_LIST:
		return decode_list(d, w, r, ret);
	case AWS_MAP:
		return decode_map(d, w, r, ret);
	default:
		return decode_scalar(d, w, r, ret);
	}
}

/* Parameters that are not the action's: they say which action it is, and who signed it. */
static int is_envelope(const char *name)
{
	static const char *const names[] = {"Action",	 "Version",	    "AWSAccessKeyId",
					    "Signature", "SignatureMethod", "SignatureVersion",
					    "Timestamp", "Expires",	    "SecurityToken"};

	if (strncasecmp(name, "X-Amz-", 6) == 0)
		return 1;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(name, names[i]) == 0)
			return 1;
	return 0;
}

int aws_decode_query(const struct aws_action *a, const struct aws_pair *pairs, size_t n_pairs,
		     json_t **ret_parameters, struct fault *f)
{
	static const struct aws_shape nothing = {.type = AWS_STRUCTURE};
	const struct aws_shape *input = a->input == AWS_NONE ? &nothing : aws_shape_at(a->input);
	struct decoder d = {.is_ec2 = aws_service_of(a)->protocol == AWS_EC2, .f = f};
	struct aws_where w = aws_where_input(a);
	OWN(json_decref) json_t *parameters = NULL;
	OWN(free) struct aws_pair *sorted = calloc(n_pairs + 1, sizeof *sorted);
	struct range all = {.pairs = sorted};

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < n_pairs; i++) {
		size_t n_bytes = component_bytes(pairs[i].name);

		if (!is_envelope(pairs[i].name) ||
		    aws_member_find_request(input, pairs[i].name, n_bytes))
			sorted[all.n++] = pairs[i];
	}
	qsort(sorted, all.n, sizeof *sorted, compare_pair);
	int r = decode_structure(&d, &w, input, all, &parameters);

	if (r == 0)
		r = aws_check(a, parameters, f);
	if (r == 0)
		*ret_parameters = give(parameters);
	return r;
}
