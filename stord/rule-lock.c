/* Retention rules: locked and unlocked, and their own tags. */
#include "rule.h"

#include <errno.h>
#include <string.h>
#include "log.h"
#include "stord.h"

#define DAY_USEC INT64_C(86400000000)
#define TAGS_MAX 50 /* of a resource */

/* ---- locks ---- */

const char *rule_lock_state(const json_t *rule)
{
	const char *state = jstr(rule, "LockState"), *end = jstr(rule, "LockEndTime");

	if (state && strcmp(state, "pending_unlock") == 0 &&
	    (!end || jtime_parse(end) <= jtime_now_usec()))
		return "unlocked";
	return state;
}

static int lock_state_is(const json_t *rule, const char *state)
{
	const char *its = rule_lock_state(rule);

	return its && strcmp(its, state) == 0;
}

int rule_check_unlocked(const struct doc *rule, struct fault *f)
{
	const char *state = rule_lock_state(rule->json);

	return !state || strcmp(state, "unlocked") == 0
		       ? 0
		       : fault_set(f, FAULT_RBIN_CONFLICT, "The rule '%.64s' is %s.", rule->id,
				   strcmp(state, "locked") == 0 ? "locked" : "pending unlock");
}

static int64_t delay_of(const json_t *with_configuration)
{
	return jint(jpath(with_configuration, "LockConfiguration.UnlockDelay"), "UnlockDelayValue",
		    0);
}

int rule_check_lock(const json_t *rule, const json_t *parameters, struct fault *f)
{
	if (json_array_size(json_object_get(rule, "ResourceTags")) > 0 ||
	    json_array_size(json_object_get(rule, "ExcludeResourceTags")) > 0)
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "Only a rule for the whole Region without exclusion tags can be "
				 "locked.");
	/* "You can't change the unlock delay period after the initial lock." */
	if (delay_of(rule) && delay_of(rule) != delay_of(parameters))
		return fault_set(f, FAULT_EBS_INVALID_PARAMETER,
				 "The unlock delay of a rule cannot be changed.");
	return 0;
}

static int replace(struct call *c, const struct doc *d, json_t *rule, json_t **ret_reply)
{
	char id[ID_MAX];

	snprintf(id, sizeof id, "%s", d->id);
	int r = txn_replace(c->txn, d, rule);

	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	*ret_reply = rule_present(store_get(c->store, c->ctx, RULE_KIND, id));
	return *ret_reply ? 0 : -ENOMEM;
}

int rule_lock(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = rule_get(c, parameters, &d, f);

	if (r == 0 && lock_state_is(d->json, "locked"))
		r = fault_set(f, FAULT_RBIN_CONFLICT, "The rule '%.64s' is locked already.", d->id);
	if (r == 0)
		r = rule_check_lock(d->json, parameters, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *rule = doc_edit(d);

	r = rule ? jset(rule, "LockState", "locked") : -ENOMEM;
	if (r == 0)
		r = jset(rule, "LockEndTime", NULL);
	if (r == 0)
		r = jset_new(rule, "LockConfiguration",
			     json_incref(json_object_get(parameters, "LockConfiguration")));
	if (r < 0)
		return r;
	log_info("retention rule locked", "RULE", d->id, "REQUEST_ID", c->ctx->request);
	return replace(c, d, give(rule), ret_reply);
}

int rule_unlock(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = rule_get(c, parameters, &d, f);

	if (r == 0 && !lock_state_is(d->json, "locked"))
		r = fault_set(f, FAULT_RBIN_CONFLICT, "The rule '%.64s' is not locked.", d->id);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *rule = doc_edit(d);

	r = rule ? jset(rule, "LockState", "pending_unlock") : -ENOMEM;
	if (r == 0)
		r = jset_new(rule, "LockEndTime",
			     jtime(jtime_now_usec() + delay_of(d->json) * DAY_USEC));
	if (r < 0)
		return r;
	log_info("retention rule unlocked", "RULE", d->id, "REQUEST_ID", c->ctx->request);
	return replace(c, d, give(rule), ret_reply);
}

/* ---- a rule's own tags ---- */

static int rule_by_arn(const struct call *c, const json_t *parameters, const struct doc **ret_doc,
		       struct fault *f)
{
	const char *arn = jstr_or(parameters, "ResourceArn", "");
	char start[128];
	size_t n = (size_t)snprintf(start, sizeof start, "arn:aws:rbin:%s:%s:rule/", c->ctx->region,
				    c->ctx->account);
	const struct doc *d = strncmp(arn, start, n) == 0
				      ? store_get(c->store, c->ctx, RULE_KIND, arn + n)
				      : NULL;

	if (!d)
		return fault_set(f, FAULT_RBIN_NOT_FOUND, "The rule '%.128s' does not exist.", arn);
	*ret_doc = d;
	return 0;
}

static void tag_remove(json_t *tags, const char *key)
{
	for (size_t i = json_array_size(tags); i-- > 0;)
		if (strcmp(jstr_or(json_array_get(tags, i), "Key", ""), key) == 0)
			(void)json_array_remove(tags, i); /* i is within */
}

/* A copy of the rule's tags (a new reference). NULL out of memory. */
static json_t *tags_of(const struct doc *d)
{
	json_t *tags = json_object_get(d->json, "Tags");

	return tags ? json_deep_copy(tags) : json_array();
}

static int set_tags(struct call *c, const struct doc *d, json_t *tags)
{
	OWN(json_decref) json_t *rule = doc_edit(d);
	int r = rule ? 0 : -ENOMEM;

	if (r < 0)
		json_decref(tags);
	else
		r = jset_new(rule, "Tags", tags);
	if (r == 0)
		r = txn_replace(c->txn, d, give(rule));
	if (r == 0)
		log_info("retention rule's tags changed", "RULE", d->id, "REQUEST_ID",
			 c->ctx->request);
	return r;
}

int rule_tags_add(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	json_t *more = json_object_get(parameters, "Tags"), *tag;
	size_t i;
	int r = rule_by_arn(c, parameters, &d, f);

	(void)ret_reply; /* AWS answers nothing */
	if (r == 0 && tags_check(more, f) < 0)
		r = fault_set(f, FAULT_EBS_INVALID_PARAMETER, "The tags are not valid.");
	if (r < 0)
		return r;
	OWN(json_decref) json_t *tags = tags_of(d);

	json_array_foreach (more, i, tag) {
		tag_remove(tags, jstr_or(tag, "Key", ""));
		if (json_array_append(tags, tag) < 0)
			return -ENOMEM;
	}
	if (json_array_size(tags) > TAGS_MAX)
		return fault_set(f, FAULT_RBIN_QUOTA_EXCEEDED, "A rule has %d tags at most.",
				 TAGS_MAX);
	return set_tags(c, d, give(tags));
}

int rule_tags_remove(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	json_t *key;
	size_t i;
	int r = rule_by_arn(c, parameters, &d, f);

	(void)ret_reply; /* AWS answers nothing */
	if (r < 0)
		return r;
	OWN(json_decref) json_t *tags = tags_of(d);

	json_array_foreach (json_object_get(parameters, "TagKeys"), i, key)
		tag_remove(tags, json_string_value(key));
	return set_tags(c, d, give(tags));
}

int rule_tags_list(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = rule_by_arn(c, parameters, &d, f);

	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:o}", "Tags", tags_of(d));
	return *ret_reply ? 0 : -ENOMEM;
}
