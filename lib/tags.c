/* Tags, with AWS's limits; CreateTags, DeleteTags, DescribeTags over a daemon's kinds. */
#include "tags.h"

#include <errno.h>
#include <string.h>
#include "describe.h"
#include "id.h"
#include "jsonx.h"

#define TAGS_MAX	50
#define KEY_CHARS_MAX	128
#define VALUE_CHARS_MAX 256
#define RESOURCES_MAX	1000

static size_t n_characters(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static json_t *tag_find(const json_t *tags, const char *key)
{
	size_t i;
	json_t *tag;

	json_array_foreach (tags, i, tag)
		if (strcmp(jstr_or(tag, "Key", ""), key) == 0)
			return tag;
	return NULL;
}

static int is_reserved(const char *key)
{
	return strncasecmp(key, "aws:", 4) == 0;
}

static int tag_check(const json_t *tags, size_t i, struct fault *f)
{
	const json_t *tag = json_array_get(tags, i);
	const char *key = jstr(tag, "Key"), *value = jstr_or(tag, "Value", "");

	if (!key || !*key)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Tag key cannot be null or empty");
	if (n_characters(key) > KEY_CHARS_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Tag key exceeds the maximum length of %d characters",
				 KEY_CHARS_MAX);
	if (is_reserved(key))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value ( %.255s ) for parameter key is invalid. Tag keys starting "
				 "with 'aws:' are reserved for internal "
				 "use",
				 key);
	if (n_characters(value) > VALUE_CHARS_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Tag value exceeds the maximum length of %d characters",
				 VALUE_CHARS_MAX);
	if (tag_find(tags, key) != tag)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Duplicate tag key '%.255s' specified.", key);
	return 0;
}

static int too_many(struct fault *f)
{
	return fault_set(f, FAULT_TAG_LIMIT_EXCEEDED,
			 "The maximum number of Tags for a resource is %d.", TAGS_MAX);
}

int tags_check(const json_t *tags, struct fault *f)
{
	if (json_array_size(tags) > TAGS_MAX)
		return too_many(f);
	for (size_t i = 0; i < json_array_size(tags); i++) {
		int r = tag_check(tags, i, f);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Exactly Key and Value, whatever else was sent. */
static json_t *tag_new(const char *key, const char *value)
{
	return json_pack("{s:s, s:s}", "Key", key, "Value", value ? value : "");
}

static int list_has(const char *const *list, const char *text)
{
	while (*list && strcmp(*list, text) != 0)
		list++;
	return *list != NULL;
}

static int specification_check(const json_t *specifications, size_t i, const char *const *allowed,
			       struct fault *f)
{
	const json_t *s = json_array_get(specifications, i);
	const char *type = jstr(s, "ResourceType");

	if (!type)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Tag specification resource type must have a value");
	if (!list_has(allowed, type))
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"'%.128s' is not a valid taggable resource type for this operation.", type);
	for (size_t k = 0; k < i; k++)
		if (strcmp(jstr_or(json_array_get(specifications, k), "ResourceType", ""), type) ==
		    0)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "The same resource type may not be specified more than "
					 "once in tag specifications");
	if (json_array_size(json_object_get(s, "Tags")) == 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Tag specification must have at least one tag");
	return tags_check(json_object_get(s, "Tags"), f);
}

int tags_from_specifications(json_t *parameters, const char *resource_type,
			     const char *const *allowed, json_t **ret_tags, struct fault *f)
{
	OWN(json_decref) json_t *tags = json_array();
	json_t *specifications = json_object_get(parameters, "TagSpecifications"), *s, *tag;
	size_t i, k;

	json_array_foreach (specifications, i, s) {
		int r = specification_check(specifications, i, allowed, f);

		if (r < 0)
			return r;
		if (strcmp(jstr(s, "ResourceType"), resource_type) != 0)
			continue;
		json_array_foreach (json_object_get(s, "Tags"), k, tag)
			if (json_array_append_new(
				    tags, tag_new(jstr(tag, "Key"), jstr(tag, "Value"))) < 0)
				return -ENOMEM;
	}
	if (!tags)
		return -ENOMEM;
	*ret_tags = give(tags);
	return 0;
}

static const struct tags_kind *kind_of(const struct tags_kind *kinds, const char *id)
{
	for (; kinds->kind; kinds++)
		if (id_is(id, kinds->prefix))
			return kinds;
	return NULL;
}

json_t *tags_given_by(const struct doc *d, const char *account)
{
	return strcmp(d->account, account) == 0
		       ? json_object_get(d->json, "Tags")
		       : json_object_get(json_object_get(d->json, TAGS_OTHERS), account);
}

int tags_forget(json_t *resource, int (*is_shared)(const json_t *resource, const char *account))
{
	json_t *others = json_object_get(resource, TAGS_OTHERS), *tags;
	OWN(json_decref) json_t *left = others ? json_object() : NULL;
	const char *account;

	if (!others)
		return 0;
	json_object_foreach (others, account, tags)
		if (is_shared(resource, account) && json_object_set(left, account, tags) < 0)
			return -ENOMEM;
	return json_object_size(left) > 0 ? jset_new(resource, TAGS_OTHERS, give(left))
					  : json_object_del(resource, TAGS_OTHERS);
}

/* The resource if the caller may tag it: his own, or one that is shared with him. */
static const struct doc *find_seen(const struct call *c, const struct tags_kind *k, const char *id)
{
	const struct doc *d = store_get(c->store, c->ctx, k->kind, id);

	if (!d && k->is_visible && (d = store_find(c->store, k->kind, id)) && !k->is_visible(c, d))
		d = NULL;
	return d;
}

/* The resource's kind, once it is known to be there and the caller's to tag. */
static int resource_check(struct call *c, const struct tags_kind *kinds, const char *id,
			  const struct tags_kind **ret_kind, struct fault *f)
{
	const struct tags_kind *k = id ? kind_of(kinds, id) : NULL;

	if (!k)
		return fault_set(f, FAULT_INVALID_ID, "The ID '%.128s' is not valid",
				 id ? id : "null");
	for (const struct tags_kind *one = k; one->kind; one++)
		if (id_is(id, one->prefix) && find_seen(c, one, id)) {
			*ret_kind = one;
			return 0;
		}
	return fault_set(f, k->not_found, "The %s ID '%s' does not exist", k->resource_type, id);
}

/* What a call does to one resource's list: changes `tags` (a copy) in place. */
typedef int (*tags_change)(json_t *tags, const json_t *given, struct fault *f);

/* The member of the object, made if it is not there. NULL: out of memory. */
static json_t *member_of(json_t *object, const char *name, json_t *(*make)(void))
{
	json_t *value = json_object_get(object, name);

	if (!value && json_object_set_new(object, name, value = make()) < 0)
		return NULL;
	return value;
}

/* One resource's tags, those that are the caller's. */
static int change_one(struct call *c, const struct doc *d, const json_t *given, tags_change change,
		      int is_check, struct fault *f)
{
	OWN(json_decref) json_t *copy = json_deep_copy(txn_look(c->txn, d->kind, d->id));
	int is_own = strcmp(d->account, c->ctx->account) == 0;
	json_t *holder = is_own ? copy : member_of(copy, TAGS_OTHERS, json_object),
	       *tags = member_of(holder, is_own ? "Tags" : c->ctx->account, json_array);
	int r = tags ? change(tags, given, f) : -ENOMEM;

	if (r == 0 && !is_own && json_array_size(tags) == 0)
		r = json_object_del(holder, c->ctx->account);
	if (r == 0 && !is_own && json_object_size(holder) == 0)
		r = json_object_del(copy, TAGS_OTHERS);
	return r < 0 || is_check ? r : txn_replace(c->txn, d, give(copy));
}

int tags_resources_check(const json_t *parameters, struct fault *f)
{
	const json_t *ids = json_object_get(parameters, "Resources");

	if (json_array_size(ids) == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter resourceIdSet");
	if (json_array_size(ids) > RESOURCES_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "At most %d resources can be tagged at once", RESOURCES_MAX);
	return 0;
}

static int change_all(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		      tags_change change, struct fault *f)
{
	const json_t *resources = json_object_get(parameters, "Resources"),
		     *given = json_object_get(parameters, "Tags");
	int is_check = jbool(parameters, "_Check",
			     0); /* apid asks every owner so before it asks one to do it */
	int r = tags_resources_check(parameters, f);
	size_t i;
	json_t *v;

	if (r < 0)
		return r;
	json_array_foreach (resources, i, v) {
		const struct tags_kind *k = NULL;
		const char *id = json_string_value(v);

		r = resource_check(c, kinds, id, &k, f);
		if (r < 0)
			return r;
		r = change_one(c, store_find(c->store, k->kind, id), given, change, is_check, f);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_tags(json_t *tags, const json_t *given, struct fault *f)
{
	size_t i, k, n = 0;
	json_t *tag, *other;

	json_array_foreach (given, i, tag) {
		json_t *old = tag_find(tags, jstr(tag, "Key"));

		if (old ? jset(old, "Value", jstr_or(tag, "Value", "")) < 0
			: json_array_append_new(tags,
						tag_new(jstr(tag, "Key"), jstr(tag, "Value"))) < 0)
			return -ENOMEM;
	}
	json_array_foreach (tags, k, other)
		n += !is_reserved(jstr_or(other, "Key", ""));
	return n > TAGS_MAX ? too_many(f) : 0;
}

int tags_create(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		json_t **ret_reply, struct fault *f)
{
	const json_t *tags = json_object_get(parameters, "Tags");

	(void)ret_reply; /* AWS answers nothing */
	if (json_array_size(tags) == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter tagSet");
	int r = tags_check(tags, f);

	return r < 0 ? r : change_all(c, kinds, parameters, add_tags, f);
}

/* A key alone takes the tag away whatever its value, a key with a value only that; nothing given:
 * all of the customer's. */
static int is_given(const json_t *tag, const json_t *given)
{
	const char *key = jstr_or(tag, "Key", "");
	const json_t *g = tag_find(given, key);
	const char *value = jstr(g, "Value");

	if (!given || json_array_size(given) == 0)
		return !is_reserved(key);
	return g && (!value || strcmp(value, jstr_or(tag, "Value", "")) == 0);
}

static int remove_tags(json_t *tags, const json_t *given, struct fault *f)
{
	(void)f;
	for (size_t i = json_array_size(tags); i-- > 0;)
		if (is_given(json_array_get(tags, i), given))
			(void)json_array_remove(tags, i); /* i is within */
	return 0;
}

int tags_delete(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		json_t **ret_reply, struct fault *f)
{
	size_t i;
	json_t *tag;

	(void)ret_reply;
	json_array_foreach (json_object_get(parameters, "Tags"), i, tag) {
		const char *key = jstr(tag, "Key");

		if (!key)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Tag key cannot be null or empty");
		if (is_reserved(key))
			return fault_set(
				f, FAULT_INVALID_PARAMETER_VALUE,
				"Tag keys starting with 'aws:' are reserved for internal use");
	}
	return change_all(c, kinds, parameters, remove_tags, f);
}

static int collect(struct call *c, const struct tags_kind *k, json_t *items)
{
	store_each (c->store, k->kind, d) {
		size_t i;
		json_t *tag;

		if (!find_seen(c, k, d->id))
			continue;
		json_array_foreach (tags_given_by(d, c->ctx->account), i, tag) {
			json_t *item = tag_new(jstr_or(tag, "Key", ""), jstr(tag, "Value"));

			if (json_array_append_new(items, item) < 0 ||
			    jset(item, "ResourceId", d->id) < 0 ||
			    jset(item, "ResourceType", k->resource_type) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

int tags_describe(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		  json_t **ret_reply, struct fault *f)
{
	static const struct filter filters[] = {{"key", "Key"},
						{"resource-id", "ResourceId"},
						{"resource-type", "ResourceType"},
						{"tag:", NULL}, /* the item is itself the tag */
						{"value", "Value"},
						{NULL}};
	static const struct describe tags = {.result = "Tags", .filters = filters};
	OWN(json_decref) json_t *items = json_array();
	int r = items ? 0 : -ENOMEM;

	for (; r == 0 && kinds->kind; kinds++)
		r = collect(c, kinds, items);
	return r < 0 ? r : describe_list(c, &tags, items, parameters, ret_reply, f);
}
