/*
 * Tags of anything: CreateTags and DeleteTags are split by the owners of the ids, DescribeTags is
 * joined over all owners.
 *
 * Nothing may be half done: when several daemons are concerned, each is first asked whether it
 * would (`_Check`), and only when all say yes is any asked to do it. Between the two a resource can
 * still vanish; then the error says so, as it would with AWS.
 */
#include "local.h"

#include <errno.h>
#include <string.h>
#include "action.h"
#include "daemon.h"
#include "describe.h"
#include "jsonx.h"
#include "tags.h"

/* The parameters with the ids of one owner only; NULL: it has none of them. */
struct share {
	size_t owner;
	json_t *parameters;
};

struct shares {
	struct share share[8];
	size_t n;
};
static void own_shares_clear(struct shares *s)
{
	for (size_t i = 0; i < s->n; i++)
		json_decref(s->share[i].parameters);
}

static json_t *share_of(struct shares *s, size_t owner, const json_t *parameters)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->share[i].owner == owner)
			return s->share[i].parameters;
	OWN(json_decref) json_t *copy = json_copy((json_t *)parameters);
	if (s->n == sizeof(s->share) / sizeof(*s->share) || !copy ||
	    json_object_set_new(copy, "Resources", json_array()) < 0)
		return NULL;
	s->share[s->n++] = (struct share){owner, copy};
	return give(copy);
}

static int split(struct local_call *c, const json_t *parameters, struct shares *s, struct fault *f)
{
	const json_t *ids = json_object_get(parameters, "Resources");
	int r = tags_resources_check(parameters, f);
	size_t i;
	json_t *v;

	if (r < 0)
		return r;
	json_array_foreach (ids, i, v) {
		const char *id = json_string_value(v);
		int owner = route_find_id(c->apid->routes, id ? id : "", f);
		if (owner < 0)
			return owner;
		json_t *mine = share_of(s, (size_t)owner, parameters);
		if (!mine || json_array_append(json_object_get(mine, "Resources"), v) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int send(struct local_call *c, const struct shares *s, struct fault *f)
{
	for (size_t i = 0; i < s->n; i++) {
		OWN(json_decref) json_t *reply = NULL;
		int r = rpc_call(route_peer(c->apid->routes, s->share[i].owner), c->ctx, c->method,
				 s->share[i].parameters, NULL, &reply, NULL, f);
		if (r < 0)
			return r;
	}
	return 0;
}

static int split_and_send(struct local_call *c, json_t *parameters, json_t **ret_reply,
			  struct fault *f)
{
	__attribute__((cleanup(own_shares_clear))) struct shares s = {0};
	int r = split(c, parameters, &s, f);
	if (r == 0 && s.n > 1) {
		for (size_t i = 0; r == 0 && i < s.n; i++)
			r = jset_new(s.share[i].parameters, "_Check", json_true());
		if (r == 0)
			r = send(c, &s, f);
		for (size_t i = 0; i < s.n; i++)
			(void)json_object_del(
				s.share[i].parameters,
				"_Check"); /* it is there, or the call failed already */
	}
	if (r == 0)
		r = send(c, &s, f);
	if (r == 0)
		*ret_reply = json_object();
	return r == 0 && !*ret_reply ? -ENOMEM : r;
}

int local_create_tags(struct local_call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return split_and_send(c, parameters, ret_reply, f);
}

int local_delete_tags(struct local_call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return split_and_send(c, parameters, ret_reply, f);
}

/* A tag has no place in time: by resource and key, so that pages follow one another. */
static int by_resource_and_key(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int order = strcmp(jstr_or(x, "ResourceId", ""), jstr_or(y, "ResourceId", ""));
	return order ? order : strcmp(jstr_or(x, "Key", ""), jstr_or(y, "Key", ""));
}

static json_t *sorted(const json_t *items)
{
	size_t n = json_array_size(items);
	OWN(json_decref) json_t *result = json_array();
	OWN(free) json_t **order = calloc(n + 1, sizeof(*order));
	if (!result || !order)
		return NULL;
	for (size_t i = 0; i < n; i++)
		order[i] = json_array_get(items, i);
	qsort(order, n, sizeof(*order), by_resource_and_key);
	for (size_t i = 0; i < n; i++)
		if (json_array_append(result, order[i]) < 0)
			return NULL;
	return give(result);
}

/* Everything that the owners have, already filtered by each. */
static int collect(struct local_call *c, const json_t *parameters, json_t *items, struct fault *f)
{
	struct routes *routes = c->apid->routes;
	OWN(json_decref) json_t *all = json_copy((json_t *)parameters);
	int r = routes_complete(routes, f);
	if (r < 0 || !all)
		return r < 0 ? r : -ENOMEM;
	(void)json_object_del(all, "MaxResults"); /* absent or gone */
	(void)json_object_del(all, "NextToken");
	for (size_t i = 0; i < routes_count(routes); i++) {
		OWN(json_decref) json_t *reply = NULL;
		if (!route_has(routes, i, c->method))
			continue;
		r = rpc_call(route_peer(routes, i), c->ctx, c->method, all, NULL, &reply, NULL, f);
		if (r < 0)
			return r;
		if (json_array_extend(items, json_object_get(reply, "Tags")) < 0 &&
		    json_object_get(reply, "Tags"))
			return -ENOMEM;
	}
	return 0;
}

int local_describe_tags(struct local_call *c, json_t *parameters, json_t **ret_reply,
			struct fault *f)
{
	static const struct filter filters[] = {{"key", "Key"},
						{"resource-id", "ResourceId"},
						{"resource-type", "ResourceType"},
						{"tag:", NULL}, /* the item is itself the tag */
						{"value", "Value"},
						{NULL}};
	static const struct describe tags = {.result = "Tags", .filters = filters};
	struct call call = {.method = c->method,
			    .ctx = c->ctx,
			    .daemon = daemon_get(),
			    .store = c->apid->store};
	OWN(json_decref) json_t *items = json_array();
	int r = filter_check(filters, parameters, f);
	if (r == 0)
		r = items ? collect(c, parameters, items, f) : -ENOMEM;
	if (r < 0)
		return r;
	OWN(json_decref) json_t *ordered = sorted(items);
	return ordered ? describe_list(&call, &tags, ordered, parameters, ret_reply, f) : -ENOMEM;
}
