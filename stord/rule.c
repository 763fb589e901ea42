/*
 * Retention rules of the recycle bin (the service rbin). Source: Recycle Bin API reference, EBS
 * user guide "Recycle Bin".
 *
 * A rule's document is of the kind "rbin-rule" and has the members that the API shows. A rule
 * without ResourceTags is for the whole region. Locks are not kept here: what asks for one is
 * refused.
 */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "bin.h"
#include "describe.h"
#include "log.h"

#define KIND	   "rbin-rule"
#define RULES_MAX  250 /* per region; Recycle Bin quotas */
#define DAYS_MAX   365 /* of snapshots */
#define ID_LETTERS 11

static int rule_get(const struct call *c, const json_t *parameters, const struct doc **ret_doc,
		    struct fault *f)
{
	const char *id = jstr_or(parameters, "Identifier", "");
	const struct doc *d = store_get(c->store, c->ctx, KIND, id);

	if (!d)
		return fault_set(f, FAULT_RBIN_NOT_FOUND, "The rule '%.64s' does not exist.", id);
	*ret_doc = d;
	return 0;
}

/* What CreateRule and UpdateRule have in common. */
static int rule_check(const json_t *parameters, struct fault *f)
{
	const char *type = jstr(parameters, "ResourceType");
	const json_t *period = json_object_get(parameters, "RetentionPeriod");

	if (type && strcmp(type, "EBS_SNAPSHOT") != 0)
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "The resource type %.32s is not supported here.", type);
	if (period && jint(period, "RetentionPeriodValue", 0) > DAYS_MAX)
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "A snapshot is retained for %d days at most.", DAYS_MAX);
	return 0;
}

/* What a rule shows of the request, by the request's names. */
static int rule_set(json_t *rule, const json_t *parameters)
{
	static const char *const members[] = {"RetentionPeriod", "Description", "ResourceTags"};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof members / sizeof *members; i++) {
		json_t *value = json_object_get(parameters, members[i]);

		if (value)
			r = jset_new(rule, members[i], json_incref(value));
	}
	return r;
}

int rule_create(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char id[ID_MAX], *letters = id + strlen("rule-");
	int r = rule_check(parameters, f);

	if (r < 0)
		return r;
	if (json_object_get(parameters, "LockConfiguration"))
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "Locking a rule is not supported here.");
	if ((r = tags_check(json_object_get(parameters, "Tags"), f)) < 0)
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER, "The tags are not valid.");
	if (count_of_caller(c, KIND) >= RULES_MAX)
		return fault_set(f, FAULT_RBIN_QUOTA_EXCEEDED,
				 "You have reached the limit of %d rules in %s.", RULES_MAX,
				 c->ctx->region);
	id_new("rule", id);
	letters[ID_LETTERS] = '\0';
	OWN(json_decref)
	json_t *rule =
		json_pack("{s:s, s:s, s:s, s:s, s:[], s:O?}", "Identifier", letters, "ResourceType",
			  "EBS_SNAPSHOT", "Status", "available", "LockState", "unlocked",
			  "ResourceTags", "Tags", json_object_get(parameters, "Tags"));

	r = rule ? rule_set(rule, parameters) : -ENOMEM;
	if (r == 0)
		r = txn_put(c->txn, KIND, letters, c->ctx->account, c->ctx->region,
			    json_incref(rule));
	if (r < 0)
		return r;
	log_info("retention rule created", "RULE", letters, "REQUEST_ID", c->ctx->request);
	*ret_reply = give(rule);
	return 0;
}

int rule_show(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = rule_get(c, parameters, &d, f);

	if (r == 0)
		*ret_reply = json_incref(d->json);
	return r;
}

int rule_update(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = rule_get(c, parameters, &d, f);

	if (r == 0)
		r = rule_check(parameters, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *rule = doc_edit(d);

	r = rule ? rule_set(rule, parameters) : -ENOMEM;
	if (r == 0)
		r = txn_replace(c->txn, d, json_incref(rule));
	if (r < 0)
		return r;
	log_info("retention rule changed", "RULE", d->id, "REQUEST_ID", c->ctx->request);
	*ret_reply = give(rule);
	return 0;
}

/* What is in the bin by it stays there for its time. */
int rule_delete(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = rule_get(c, parameters, &d, f);

	(void)ret_reply; /* AWS answers nothing */
	if (r < 0)
		return r;
	log_info("retention rule deleted", "RULE", d->id, "REQUEST_ID", c->ctx->request);
	return txn_delete(c->txn, KIND, d->id);
}

/* One of the rule's tags is a tag of the resource; a rule's tag without value: whatever value. */
static int shares_tag(const json_t *wanted, const json_t *tags)
{
	size_t i, k;
	json_t *w, *tag;

	json_array_foreach (wanted, i, w)
		json_array_foreach (tags, k, tag) {
			const char *value = jstr(w, "ResourceTagValue");

			if (strcmp(jstr_or(w, "ResourceTagKey", ""), jstr_or(tag, "Key", "")) ==
				    0 &&
			    (!value || strcmp(value, jstr_or(tag, "Value", "")) == 0))
				return 1;
		}
	return 0;
}

/* The rule has all of the tags that are asked for. */
static int has_tags(const json_t *rule, const json_t *asked)
{
	const json_t *tags = json_object_get(rule, "ResourceTags");
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

int rule_list(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct filter none[] = {{NULL}};
	static const struct describe rules = {
		.result = "Rules", .filters = none, .n_max_low = 1, .n_max_high = 1000};
	const char *type = jstr_or(parameters, "ResourceType", ""),
		   *lock = jstr(parameters, "LockState");
	OWN(json_decref) json_t *items = json_array();

	if (!items)
		return -ENOMEM;
	store_each (c->store, KIND, d)
		if (strcmp(d->account, c->ctx->account) == 0 &&
		    strcmp(d->region, c->ctx->region) == 0 &&
		    strcmp(jstr_or(d->json, "ResourceType", ""), type) == 0 &&
		    (!lock || strcmp(lock, jstr_or(d->json, "LockState", "")) == 0) &&
		    has_tags(d->json, json_object_get(parameters, "ResourceTags")) &&
		    json_array_append(items, d->json) < 0)
			return -ENOMEM;
	int r = describe_list(c, &rules, items, parameters, ret_reply, f);

	if (r < 0 && fault_is(f, FAULT_INVALID_PAGINATION_TOKEN))
		return fault_set(f, FAULT_EBS_INVALID_PAGE_TOKEN, "The page token is not valid.");
	return r;
}

int64_t rule_days(const struct store *s, const struct doc *resource)
{
	int64_t most = 0;

	store_each (s, KIND, d) {
		const json_t *wanted = json_object_get(d->json, "ResourceTags");
		int64_t days = jint(json_object_get(d->json, "RetentionPeriod"),
				    "RetentionPeriodValue", 0);

		if (strcmp(d->account, resource->account) == 0 &&
		    strcmp(d->region, resource->region) == 0 && days > most &&
		    (json_array_size(wanted) == 0 ||
		     shares_tag(wanted, json_object_get(resource->json, "Tags"))))
			most = days;
	}
	return most;
}
