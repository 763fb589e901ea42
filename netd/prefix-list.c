/* Managed prefix lists: to make, delete and describe them. They are changed in
 * prefix-list-modify.c. */
#include "prefix-list.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"

#define VERSIONS_KEPT 1000

/* What is the cloud's own: its services by their AWS names, at addresses of the block that is kept
 * for benchmarks and so is nobody's outside (RFC 2544); the public pool is the lower half of it. */
static const struct {
	const char *service, *cidr;
} own[] = {{"s3", "198.19.255.0/28"}, {"dynamodb", "198.19.255.16/28"}};
#define N_OWN (sizeof own / sizeof *own)

static const struct filter list_filters[] = {
	{"owner-id", "OwnerId"},
	{"prefix-list-id", "PrefixListId"},
	{"prefix-list-name", "PrefixListName"},
	FILTER_TAGS,
	{NULL},
};

static int is_regions_own(const struct call *c, const struct doc *d)
{
	return !*d->account && strcmp(d->region, c->ctx->region) == 0;
}

static const struct describe lists = {
	.kind = "prefix-list",
	.result = "PrefixLists",
	.ids = "PrefixListIds",
	.prefix = "pl",
	.malformed = FAULT_INVALID_PREFIX_LIST_ID_MALFORMED,
	.not_found = FAULT_INVALID_PREFIX_LIST_ID_NOT_FOUND,
	.filters = list_filters,
	.n_max_low = 1,
	.n_max_high = 100,
	.is_visible = is_regions_own,
};

int describe_managed_prefix_lists(struct call *c, json_t *parameters, json_t **ret_reply,
				  struct fault *f)
{
	return describe_run(c, &lists, parameters, ret_reply, f);
}

/* The older action knows the cloud's own lists only. */
static const struct filter older_filters[] = {
	{"prefix-list-id", "PrefixListId"},
	{"prefix-list-name", "PrefixListName"},
	{NULL},
};

static const struct describe older_lists = {
	.kind = "prefix-list",
	.result = "PrefixLists",
	.filters = older_filters,
	.n_max_low = 1,
	.n_max_high = 1000,
};

static json_t *older_json(const struct store *s, const struct doc *d)
{
	OWN(json_decref) json_t *cidrs = json_array();
	json_t *entries = prefix_list_entries(s, d->json, 0), *entry;
	size_t i;

	json_array_foreach (entries, i, entry)
		if (json_array_append(cidrs, json_object_get(entry, "Cidr")) < 0)
			return NULL;
	return json_pack("{s:s s:s s:O}", "PrefixListId", d->id, "PrefixListName",
			 jstr_or(d->json, "PrefixListName", ""), "Cidrs", cidrs);
}

int describe_prefix_lists(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	json_t *ids = json_object_get(parameters, "PrefixListIds"), *id;
	OWN(json_decref) json_t *items = json_array();
	size_t i;

	json_array_foreach (ids, i, id) {
		const struct doc *d = store_find(c->store, "prefix-list", json_string_value(id));

		if (!d || !is_regions_own(c, d))
			return fault_set(f, FAULT_INVALID_PREFIX_LIST_ID_NOT_FOUND_OLDER,
					 "The prefix list ID '%.64s' does not exist",
					 json_string_value(id));
	}
	store_each (c->store, "prefix-list", d)
		if (is_regions_own(c, d) && (json_array_size(ids) == 0 || jarray_has(ids, d->id)) &&
		    json_array_append_new(items, older_json(c->store, d)) < 0)
			return -ENOMEM;
	return describe_list(c, &older_lists, items, parameters, ret_reply, f);
}

/* ---- what other rooms ask ---- */

int prefix_list_get(const struct call *c, const char *id, const struct doc **ret_list,
		    struct fault *f)
{
	const struct doc *d = id ? store_find(c->store, "prefix-list", id) : NULL;

	if (!d || !is_regions_own(c, d))
		return kind_get(c, &kind_prefix_list, "PrefixListId", id, ret_list, f);
	*ret_list = d;
	return 0;
}

json_t *prefix_list_entries(const struct store *s, const json_t *list, int64_t version)
{
	const struct doc *d;
	char id[ID_MAX + 24];

	snprintf(id, sizeof id, "%s/%lld", jstr_or(list, "PrefixListId", ""),
		 (long long)(version ? version : jint(list, "Version", 1)));
	d = store_find(s, "prefix-list-version", id);
	return d ? json_object_get(d->json, "Entries") : NULL;
}

/* AWS weighs its own lists by hand; a gateway service's weighs 1. Source: VPC user guide,
 * "AWS-managed prefix list weight". */
size_t prefix_list_weight(const struct call *c, const char *id)
{
	return (size_t)jint(txn_look(c->txn, "prefix-list", id), "MaxEntries", 1);
}

int prefix_list_is_ipv6(const json_t *list)
{
	return jis(list, "AddressFamily", "IPv6");
}

int prefix_list_is_owned_by_aws(const json_t *list)
{
	return jis(list, "OwnerId", "AWS");
}

static int user_add(json_t *users, const struct doc *d)
{
	json_t *other;
	size_t i;

	json_array_foreach (users, i, other)
		if (jis(other, "ResourceId", d->id))
			return 0;
	return json_array_append_new(users, json_pack("{s:s s:s}", "ResourceId", d->id,
						      "ResourceOwner", d->account)) < 0
		       ? -ENOMEM
		       : 0;
}

static int has_route_to(const struct doc *table, const char *list_id)
{
	json_t *routes = json_object_get(table->json, "Routes"), *route;
	size_t i;

	json_array_foreach (routes, i, route)
		if (jis(route, "DestinationPrefixListId", list_id))
			return 1;
	return 0;
}

json_t *prefix_list_users(const struct call *c, const char *id)
{
	OWN(json_decref) json_t *users = json_array();
	int r = users ? 0 : -ENOMEM;

	store_each (c->store, "security-group-rule", rule) {
		const struct doc *group = jis(rule->json, "PrefixListId", id)
						  ? store_find(c->store, "security-group",
							       jstr_or(rule->json, "GroupId", ""))
						  : NULL;

		if (r == 0 && group && is_callers(c, group))
			r = user_add(users, group);
	}
	store_each (c->store, "route-table", table)
		if (r == 0 && is_callers(c, table) && has_route_to(table, id))
			r = user_add(users, table);
	return r < 0 ? NULL : give(users);
}

int prefix_list_apply(const struct call *c, const char *id)
{
	OWN(json_decref) json_t *users = prefix_list_users(c, id);
	OWN(json_decref) json_t *vpcs = json_array();
	json_t *item;
	size_t i;
	int r = users ? txn_commit(c->txn) : -ENOMEM;

	json_array_foreach (users, i, item) {
		const char *user = jstr(item, "ResourceId");
		const struct doc *d = store_find(c->store, "security-group", user);

		if (!d)
			d = store_find(c->store, "route-table", user);
		if (r == 0 && d && !jarray_has(vpcs, jstr(d->json, "VpcId")))
			r = json_array_append(vpcs, json_object_get(d->json, "VpcId")) < 0 ? -ENOMEM
											   : 0;
	}
	json_array_foreach (vpcs, i, item)
		kernel_touch(json_string_value(item));
	/* What is asked for is durable: the kernel room logs a failure and tries again. */
	json_array_foreach (vpcs, i, item)
		(void)kernel_sync(json_string_value(item), NULL);
	return r;
}

size_t prefix_list_routes_count(const struct call *c, const json_t *table)
{
	json_t *routes = json_object_get(table, "Routes"), *route;
	size_t n = 0, i;

	json_array_foreach (routes, i, route) {
		const char *list = jstr(route, "DestinationPrefixListId");

		n += list ? prefix_list_weight(c, list) : !jis(route, "GatewayId", "local");
	}
	return n;
}

/* ---- entries ---- */

static int entry_read(const json_t *list, const json_t *entry, json_t *entries, struct fault *f)
{
	const char *cidr = jstr(entry, "Cidr"), *description = jstr(entry, "Description");
	char text[CIDR6_TEXT_MAX];
	struct cidr v4;
	json_t *other;
	size_t i;
	int is_good = prefix_list_is_ipv6(list) ? cidr6_canonical(cidr, text) == 0
						: cidr_parse(cidr, &v4) == 0;

	if (!is_good)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The CIDR '%.64s' is not a valid %s CIDR block", cidr ? cidr : "",
				 jstr(list, "AddressFamily"));
	if (!prefix_list_is_ipv6(list))
		cidr_format(cidr_canonical(v4), text);
	if (description && strlen(description) > 255)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The description of %s is longer than 255 characters", text);
	json_array_foreach (entries, i, other)
		if (jis(other, "Cidr", text))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Request cannot contain Cidr %s twice", text);
	return json_array_append_new(
		       entries, json_pack("{s:s s:s*}", "Cidr", text, "Description",
					  description && *description ? description : NULL)) < 0
		       ? -ENOMEM
		       : 0;
}

int prefix_list_entries_read(const json_t *list, const json_t *entries, json_t **ret_entries,
			     struct fault *f)
{
	OWN(json_decref) json_t *read = json_array();
	json_t *entry;
	size_t i;
	int r = read ? 0 : -ENOMEM;

	json_array_foreach ((json_t *)entries, i, entry)
		if (r == 0)
			r = entry_read(list, entry, read, f);
	if (r < 0)
		return r;
	*ret_entries = give(read);
	return 0;
}

int prefix_list_version_put(const struct call *c, const json_t *list, json_t *entries)
{
	int64_t version = jint(list, "Version", 1);
	const char *list_id = jstr(list, "PrefixListId");
	char id[ID_MAX + 24];
	int r;

	snprintf(id, sizeof id, "%s/%lld", list_id, (long long)version);
	r = txn_put(c->txn, "prefix-list-version", id, "", c->ctx->region,
		    json_pack("{s:O}", "Entries", entries));
	if (r < 0 || version <= VERSIONS_KEPT)
		return r;
	snprintf(id, sizeof id, "%s/%lld", list_id, (long long)(version - VERSIONS_KEPT));
	return txn_delete(c->txn, "prefix-list-version", id);
}

/* ---- to make and to delete ---- */

/* A list without entries yet. `owner` is "AWS" for the cloud's own. */
static json_t *list_json(const struct call *c, const char *id, const char *name, const char *family,
			 const char *owner, json_t *tags)
{
	const char *account = strcmp(owner, "AWS") == 0 ? "aws" : owner;

	return json_pack("{s:s s:s s:s s:o s:s s:s s:o}", "PrefixListId", id, "AddressFamily",
			 family, "State", "create-complete", "PrefixListArn",
			 arn_new(c, account, "prefix-list", id), "PrefixListName", name, "OwnerId",
			 owner, "Tags", tags_or_none(tags));
}

static int make_check(const struct call *c, json_t *parameters, struct fault *f)
{
	const char *name = jstr_or(parameters, "PrefixListName", "");
	const char *family = jstr_or(parameters, "AddressFamily", "");
	int64_t max = jint(parameters, "MaxEntries", 0);

	if (!*name || strlen(name) > 255 || strncmp(name, "com.amazonaws", 13) == 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter PrefixListName is invalid. A name "
				 "has up to 255 characters and does not start with com.amazonaws.",
				 name);
	if (strcmp(family, "IPv4") != 0 && strcmp(family, "IPv6") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter AddressFamily is invalid. Valid "
				 "values are IPv4 and IPv6.",
				 family);
	if (max < 1 || max > LIMIT_ENTRIES_PER_PREFIX_LIST)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%lld) for parameter MaxEntries is invalid. Valid values "
				 "are between 1 and %d.",
				 (long long)max, LIMIT_ENTRIES_PER_PREFIX_LIST);
	if ((int64_t)json_array_size(json_object_get(parameters, "Entries")) > max)
		return fault_set(
			f, FAULT_PREFIX_LIST_MAX_ENTRIES_EXCEEDED,
			"The number of entries exceeds the maximum number of entries (%lld) "
			"for the prefix list.",
			(long long)max);
	if (kind_count(c, &kind_prefix_list) >= LIMIT_PREFIX_LISTS_PER_REGION)
		return fault_set(f, FAULT_RESOURCE_LIMIT_EXCEEDED,
				 "The maximum number of prefix lists has been reached.");
	return 0;
}

int create_managed_prefix_list(struct call *c, json_t *parameters, json_t **ret_reply,
			       struct fault *f)
{
	OWN(json_decref) json_t *tags = NULL;
	OWN(json_decref) json_t *entries = NULL;
	char id[ID_MAX];
	int r = make_check(c, parameters, f);

	if (r == 0)
		r = kind_tags(&kind_prefix_list, parameters, &tags, f);
	if (r < 0)
		return r;
	id_new("pl", id);
	OWN(json_decref)
	json_t *list = list_json(c, id, jstr(parameters, "PrefixListName"),
				 jstr(parameters, "AddressFamily"), c->ctx->account, tags);

	r = prefix_list_entries_read(list, json_object_get(parameters, "Entries"), &entries, f);
	if (r == 0)
		r = jset_new(list, "MaxEntries",
			     json_incref(json_object_get(parameters, "MaxEntries")));
	if (r == 0)
		r = jset_new(list, "Version", json_integer(1));
	if (r == 0)
		r = prefix_list_version_put(c, list, entries);
	if (r == 0)
		r = put_new(c, &kind_prefix_list, id, json_incref(list));
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "PrefixList", list);
	return *ret_reply ? 0 : -ENOMEM;
}

static int versions_drop(const struct call *c, const json_t *list)
{
	int64_t last = jint(list, "Version", 1);
	int r = 0;

	for (int64_t v = last; r == 0 && v > 0 && prefix_list_entries(c->store, list, v); v--) {
		char id[ID_MAX + 24];

		snprintf(id, sizeof id, "%s/%lld", jstr(list, "PrefixListId"), (long long)v);
		r = txn_delete(c->txn, "prefix-list-version", id);
	}
	return r;
}

int delete_managed_prefix_list(struct call *c, json_t *parameters, json_t **ret_reply,
			       struct fault *f)
{
	const struct doc *list = NULL;
	int r = prefix_list_get(c, jstr(parameters, "PrefixListId"), &list, f);

	if (r < 0)
		return r;
	if (prefix_list_is_owned_by_aws(list->json))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "The prefix list %s is managed by AWS and cannot be deleted",
				 list->id);
	OWN(json_decref) json_t *users = prefix_list_users(c, list->id);
	OWN(json_decref) json_t *last = doc_edit(list);

	if (json_array_size(users) > 0)
		return fault_set(f, FAULT_DEPENDENCY_VIOLATION,
				 "The prefix list %s is in use by %s", list->id,
				 jstr(json_array_get(users, 0), "ResourceId"));
	r = versions_drop(c, list->json);
	if (r == 0)
		r = txn_delete(c->txn, "prefix-list", list->id);
	if (r == 0)
		r = jset(last, "State", "delete-complete");
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "PrefixList", last);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- the cloud's own ---- */

static const struct doc *own_find(const struct call *c, const char *name)
{
	store_each (c->store, "prefix-list", d)
		if (is_regions_own(c, d) && jis(d->json, "PrefixListName", name))
			return d;
	return NULL;
}

int prefix_lists_open(const struct call *c)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < N_OWN; i++) {
		OWN(json_decref)
		json_t *entries = json_pack("[{s:s}]", "Cidr", own[i].cidr);
		char name[64], id[ID_MAX];

		snprintf(name, sizeof name, "com.amazonaws.%s.%s", c->ctx->region, own[i].service);
		if (own_find(c, name))
			continue;
		id_new("pl", id);
		OWN(json_decref) json_t *list = list_json(c, id, name, "IPv4", "AWS", NULL);

		r = list && entries ? prefix_list_version_put(c, list, entries) : -ENOMEM;
		if (r == 0)
			r = txn_put(c->txn, "prefix-list", id, "", c->ctx->region, give(list));
	}
	return r;
}
