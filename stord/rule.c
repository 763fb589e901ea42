/* Retention rules: made, shown, changed, found. */
#include "rule.h"

#include <errno.h>
#include <string.h>
#include "describe.h"
#include "log.h"
#include "stord.h"

#define RULES_MAX  250 /* per region; Recycle Bin quotas */
#define ID_LETTERS 11

/* What can be kept, and for how many days. Source: EBS user guide, "Create a retention rule". */
static const struct type {
	const char *name, *plural;
	int64_t n_days;
} types[] = {
	{"EBS_SNAPSHOT", "snapshots", 365},
	{"EBS_VOLUME", "volumes", 7},
	{"EC2_IMAGE", "images", 365}, /* hvd's: it asks by GetRetention */
};

static const struct type *type_find(const char *name)
{
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

int rule_get(const struct call *c, const json_t *parameters, const struct doc **ret_doc,
	     struct fault *f)
{
	const char *id = jstr_or(parameters, "Identifier", "");
	const struct doc *d = store_get(c->store, c->ctx, RULE_KIND, id);

	if (!d)
		return fault_set(f, FAULT_RBIN_NOT_FOUND, "The rule '%.64s' does not exist.", id);
	*ret_doc = d;
	return 0;
}

json_t *rule_present(const struct doc *d)
{
	OWN(json_decref) json_t *rule = doc_edit(d);
	json_t *arn = json_sprintf("arn:aws:rbin:%s:%s:rule/%s", d->region, d->account, d->id);
	const char *state = rule_lock_state(d->json);
	int r = rule ? 0 : -ENOMEM;

	if (r < 0)
		json_decref(arn);
	else
		r = jset_new(rule, "RuleArn", arn);
	if (r == 0 && state)
		r = jset(rule, "LockState", state);
	if (r == 0 && (!state || strcmp(state, "pending_unlock") != 0))
		r = jset(rule, "LockEndTime", NULL);
	return r == 0 ? give(rule) : NULL;
}

/* The rule as it would be can be had. */
static int rule_check(const json_t *rule, struct fault *f)
{
	const struct type *type = type_find(jstr_or(rule, "ResourceType", ""));
	int64_t days = jint(json_object_get(rule, "RetentionPeriod"), "RetentionPeriodValue", 0);

	if (!type)
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "The resource type %.32s is not supported here.",
				 jstr_or(rule, "ResourceType", ""));
	if (days > type->n_days)
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "Deleted %s are retained for %lld days at most.", type->plural,
				 (long long)type->n_days);
	if (json_array_size(json_object_get(rule, "ResourceTags")) > 0 &&
	    json_array_size(json_object_get(rule, "ExcludeResourceTags")) > 0)
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "Only a rule for the whole Region can have exclusion tags.");
	return 0;
}

/* What a rule shows of the request, by the request's names. */
static int rule_set(json_t *rule, const json_t *parameters)
{
	static const char *const members[] = {"RetentionPeriod", "Description", "ResourceTags",
					      "ExcludeResourceTags", "LockConfiguration"};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof members / sizeof *members; i++) {
		json_t *value = json_object_get(parameters, members[i]);

		if (value)
			r = jset_new(rule, members[i], json_incref(value));
	}
	return r;
}

/* Answers with the rule, after the call's transaction is durable. */
static int reply(struct call *c, const char *id, json_t **ret_reply)
{
	int r = txn_commit(c->txn);

	if (r < 0)
		return r;
	*ret_reply = rule_present(store_get(c->store, c->ctx, RULE_KIND, id));
	return *ret_reply ? 0 : -ENOMEM;
}

/* A new rule of the request, checked (a new reference). */
static int rule_new(const json_t *parameters, const char *id, json_t **ret_rule, struct fault *f)
{
	OWN(json_decref)
	json_t *rule = json_pack("{s:s, s:O?, s:s, s:[], s:O*}", "Identifier", id, "ResourceType",
				 json_object_get(parameters, "ResourceType"), "Status", "available",
				 "ResourceTags", "Tags", json_object_get(parameters, "Tags"));
	int r = rule ? rule_set(rule, parameters) : -ENOMEM;

	if (r == 0)
		r = rule_check(rule, f);
	if (r == 0 && json_object_get(parameters, "LockConfiguration"))
		r = rule_check_lock(rule, parameters, f);
	if (r == 0 && json_object_get(parameters, "LockConfiguration"))
		r = jset(rule, "LockState", "locked");
	if (r == 0 && tags_check(json_object_get(parameters, "Tags"), f) < 0)
		r = fault_set(f, FAULT_EBS_INVALID_PARAMETER, "The tags are not valid.");
	if (r == 0)
		*ret_rule = give(rule);
	return r;
}

int rule_create(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *rule = NULL;
	char id[ID_MAX], *letters = id + strlen("rule-");

	id_new("rule", id);
	letters[ID_LETTERS] = '\0';
	int r = rule_new(parameters, letters, &rule, f);

	if (r < 0)
		return r;
	if (count_of_caller(c, RULE_KIND) >= RULES_MAX)
		return fault_set(f, FAULT_RBIN_QUOTA_EXCEEDED,
				 "You have reached the limit of %d rules in %s.", RULES_MAX,
				 c->ctx->region);
	r = txn_put(c->txn, RULE_KIND, letters, c->ctx->account, c->ctx->region, give(rule));
	if (r < 0)
		return r;
	log_info("retention rule created", "RULE", letters, "REQUEST_ID", c->ctx->request);
	return reply(c, letters, ret_reply);
}

int rule_show(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = rule_get(c, parameters, &d, f);

	if (r < 0)
		return r;
	*ret_reply = rule_present(d);
	return *ret_reply ? 0 : -ENOMEM;
}

int rule_update(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *type = jstr(parameters, "ResourceType");
	const struct doc *d = NULL;
	int r = rule_get(c, parameters, &d, f);

	if (r == 0)
		r = rule_check_unlocked(d, f);
	if (r < 0)
		return r;
	if (type && strcmp(type, jstr_or(d->json, "ResourceType", "")) != 0)
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "The resource type of a rule cannot be changed.");
	OWN(json_decref) json_t *rule = doc_edit(d);

	r = rule ? rule_set(rule, parameters) : -ENOMEM;
	if (r == 0)
		r = rule_check(rule, f);
	if (r == 0)
		r = txn_replace(c->txn, d, give(rule));
	if (r < 0)
		return r;
	log_info("retention rule changed", "RULE", d->id, "REQUEST_ID", c->ctx->request);
	return reply(c, jstr(parameters, "Identifier"), ret_reply);
}

/* What is in the bin by it stays there for its time. */
int rule_delete(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = rule_get(c, parameters, &d, f);

	(void)ret_reply; /* AWS answers nothing */
	if (r == 0)
		r = rule_check_unlocked(d, f);
	if (r < 0)
		return r;
	log_info("retention rule deleted", "RULE", d->id, "REQUEST_ID", c->ctx->request);
	return txn_delete(c->txn, RULE_KIND, d->id);
}

/* ---- which apply ---- */

/* A tag of a rule (ResourceTagKey, ResourceTagValue) is among these of a resource (Key, Value); one
 * without value: whatever value. */
static int tag_is_in(const json_t *wanted, const json_t *tags)
{
	const char *value = jstr(wanted, "ResourceTagValue");
	size_t i;
	json_t *tag;

	json_array_foreach (tags, i, tag)
		if (strcmp(jstr_or(wanted, "ResourceTagKey", ""), jstr_or(tag, "Key", "")) == 0 &&
		    (!value || strcmp(value, jstr_or(tag, "Value", "")) == 0))
			return 1;
	return 0;
}

static int shares_tag(const json_t *wanted, const json_t *tags)
{
	size_t i;
	json_t *w;

	json_array_foreach (wanted, i, w)
		if (tag_is_in(w, tags))
			return 1;
	return 0;
}

static int applies(const json_t *rule, const json_t *tags)
{
	const json_t *wanted = json_object_get(rule, "ResourceTags");

	return json_array_size(wanted) > 0
		       ? shares_tag(wanted, tags)
		       : !shares_tag(json_object_get(rule, "ExcludeResourceTags"), tags);
}

int64_t rule_days(const struct store *s, const char *account, const char *region,
		  const char *resource_type, const json_t *tags)
{
	int64_t most = 0;

	store_each (s, RULE_KIND, d) {
		int64_t days = jint(json_object_get(d->json, "RetentionPeriod"),
				    "RetentionPeriodValue", 0);

		if (strcmp(d->account, account) == 0 && strcmp(d->region, region) == 0 &&
		    strcmp(jstr_or(d->json, "ResourceType", ""), resource_type) == 0 &&
		    days > most && applies(d->json, tags))
			most = days;
	}
	return most;
}

/* hvd asks for what is its own. */
int rule_get_retention(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)f;
	*ret_reply = json_pack("{s:I}", "Days",
			       (json_int_t)rule_days(c->store, c->ctx->account, c->ctx->region,
						     jstr_or(parameters, "ResourceType", ""),
						     json_object_get(parameters, "Tags")));
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- list ---- */

/* The rule has all of the tags that are asked for. */
static int has_tags(const json_t *tags, const json_t *asked)
{
	size_t i, k;
	json_t *a, *tag;

	json_array_foreach (asked, i, a) {
		const char *value = jstr(a, "ResourceTagValue");
		int has = 0;

		json_array_foreach (tags, k, tag)
			has |= strcmp(jstr_or(a, "ResourceTagKey", ""),
				      jstr_or(tag, "ResourceTagKey", "")) == 0 &&
			       (!value || strcmp(value, jstr_or(tag, "ResourceTagValue", "")) == 0);
		if (!has)
			return 0;
	}
	return 1;
}

static int is_asked_for(const struct call *c, const struct doc *d, const json_t *parameters)
{
	static const char *const tags[] = {"ResourceTags", "ExcludeResourceTags"};
	const char *lock = jstr(parameters, "LockState"), *its = rule_lock_state(d->json);
	int is = is_callers(c, d) && strcmp(jstr_or(d->json, "ResourceType", ""),
					    jstr_or(parameters, "ResourceType", "")) == 0;

	for (size_t i = 0; is && i < sizeof tags / sizeof *tags; i++)
		is = has_tags(json_object_get(d->json, tags[i]),
			      json_object_get(parameters, tags[i]));
	return is && (!lock || (its && strcmp(lock, its) == 0));
}

int rule_list(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct filter none[] = {{NULL}};
	static const struct describe rules = {
		.result = "Rules", .filters = none, .n_max_low = 1, .n_max_high = 1000};
	OWN(json_decref) json_t *items = json_array();

	if (!items)
		return -ENOMEM;
	store_each (c->store, RULE_KIND, d)
		if (is_asked_for(c, d, parameters) &&
		    json_array_append_new(items, rule_present(d)) < 0)
			return -ENOMEM;
	int r = describe_list(c, &rules, items, parameters, ret_reply, f);

	if (r < 0 && fault_is(f, FAULT_INVALID_PAGINATION_TOKEN))
		return fault_set(f, FAULT_EBS_INVALID_PAGE_TOKEN, "The page token is not valid.");
	return r;
}
