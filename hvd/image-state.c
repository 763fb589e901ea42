/* What an image's owner may say of its life: disabled, deprecated, protected; and what of that
 * DescribeImages leaves out. */
#include "image-work.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include "jsonx.h"
#include "tags.h"

#define MINUTE_USEC   INT64_C(60000000)
#define YEARS_USEC    (10 * 366 * 24 * 60 * MINUTE_USEC)
#define COOLDOWN_USEC (24 * 60 * MINUTE_USEC)
#define GONE_USEC     (60 * MINUTE_USEC)

static int64_t now_real_usec(void)
{
	return (int64_t)time(NULL) * 1000000;
}

/* The caller's own image, changed by `change`, and the answer that it was done. */
static int change_own(struct call *c, json_t *p,
		      int (*change)(const struct doc *d, json_t *image, json_t *p, struct fault *f),
		      const char *answer, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	OWN(json_decref) json_t *image = NULL;
	int r = image_own(c, jstr(p, "ImageId"), &d, f);

	if (r < 0)
		return r;
	image = doc_edit(d);
	r = image ? change(d, image, p, f) : -ENOMEM;
	if (r == 0)
		r = txn_replace(c->txn, d, give(image));
	if (r == 0)
		*ret_reply = answer ? json_pack("{s:s}", "Return", answer)
				    : json_pack("{s:b}", "Return", 1);
	return r;
}

/* ---- disabled ---- */

static int unavailable(const struct doc *d, struct fault *f)
{
	return fault_set(f, FAULT_INVALID_AMI_ID_UNAVAILABLE,
			 "The image '%s' is %s and cannot be changed so", d->id,
			 jstr_or(d->json, "State", ""));
}

/* Shared with nobody any more, and it stays so when it is enabled again. */
static int disable(const struct doc *d, json_t *image, json_t *p, struct fault *f)
{
	const char *state = jstr_or(d->json, "State", "");

	(void)p;
	if (strcmp(state, "available") != 0 && strcmp(state, "disabled") != 0)
		return unavailable(d, f);
	(void)json_object_del(image, "_LaunchAccounts"); /* absent is what is wanted */
	int r = jset_new(image, "Public", json_false());

	if (r == 0)
		r = tags_forget(image, image_is_shared);
	return r == 0 ? jset(image, "State", "disabled") : r;
}

static int enable(const struct doc *d, json_t *image, json_t *p, struct fault *f)
{
	const char *state = jstr_or(d->json, "State", "");

	(void)p;
	if (strcmp(state, "available") != 0 && strcmp(state, "disabled") != 0)
		return unavailable(d, f);
	return jset(image, "State", "available");
}

int image_disable(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return change_own(c, parameters, disable, NULL, ret_reply, f);
}

int image_enable(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return change_own(c, parameters, enable, NULL, ret_reply, f);
}

/* ---- deprecated ---- */

/* AWS: in the future, by ten years at most, seconds are cut off. */
static int deprecate(const struct doc *d, json_t *image, json_t *p, struct fault *f)
{
	const json_t *given = json_object_get(p, "DeprecateAt");
	int64_t at = json_is_string(given) ? jtime_parse(json_string_value(given))
					   : json_integer_value(given) * 1000000;

	(void)d;
	if (at < now_real_usec() || at > now_real_usec() + YEARS_USEC)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "DeprecateAt must be in the future, and within ten years");
	return jset_new(image, "DeprecationTime", jtime(at - at % MINUTE_USEC));
}

static int undeprecate(const struct doc *d, json_t *image, json_t *p, struct fault *f)
{
	(void)d, (void)p, (void)f;
	return jset(image, "DeprecationTime", NULL);
}

int image_deprecation_enable(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	return change_own(c, parameters, deprecate, NULL, ret_reply, f);
}

int image_deprecation_disable(struct call *c, json_t *parameters, json_t **ret_reply,
			      struct fault *f)
{
	return change_own(c, parameters, undeprecate, NULL, ret_reply, f);
}

static int is_deprecated(const struct doc *d)
{
	const char *at = jstr(d->json, "DeprecationTime");

	return at && jtime_parse(at) <= now_real_usec();
}

/* The values are the caller's account, and "disabled" or "deprecated" if he wants to see those:
 * deprecated ones of his own he sees anyway. */
int image_current_match(const struct doc *d, const json_t *values)
{
	int is_disabled = strcmp(jstr_or(d->json, "State", ""), "disabled") == 0;

	if (is_disabled && !jarray_has(values, "disabled"))
		return 0;
	return !is_deprecated(d) || jarray_has(values, "deprecated") ||
	       jarray_has(values, d->account);
}

/* ---- protected from deregistration ---- */

static int protect(const struct doc *d, json_t *image, json_t *p, struct fault *f)
{
	int has_cooldown = jbool(p, "WithCooldown", 0);

	(void)d, (void)f;
	(void)json_object_del(image, "_ProtectedUntil"); /* absent is what is wanted */
	return jset(image, "DeregistrationProtection",
		    has_cooldown ? "enabled-with-cooldown" : "enabled-without-cooldown");
}

static int unprotect(const struct doc *d, json_t *image, json_t *p, struct fault *f)
{
	const char *state = jstr_or(d->json, "DeregistrationProtection", "disabled");
	int64_t until = now_real_usec() + COOLDOWN_USEC;

	(void)p, (void)f;
	if (strcmp(state, "enabled-with-cooldown") != 0)
		return json_object_get(image, "_ProtectedUntil")
			       ? 0 /* the day is running already */
			       : jset(image, "DeregistrationProtection", NULL);
	OWN(json_decref) json_t *at = jtime(until);
	int r = jset_new(image, "_ProtectedUntil", json_integer(until));

	return r == 0 ? jset_new(image, "DeregistrationProtection",
				 json_sprintf("disabled after %s", json_string_value(at)))
		      : r;
}

int image_protection_enable(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return change_own(c, parameters, protect, "true", ret_reply, f);
}

int image_protection_disable(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	return change_own(c, parameters, unprotect, "true", ret_reply, f);
}

int image_protection_check(const struct doc *d, struct fault *f)
{
	const char *state = jstr_or(d->json, "DeregistrationProtection", "disabled");
	int is_over = jint(d->json, "_ProtectedUntil", INT64_MAX) <= now_real_usec();

	if (strcmp(state, "disabled") == 0 || is_over)
		return 0;
	return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
			 "The image %s is protected from deregistration: %s", d->id, state);
}

/* ---- an image that another account shared ---- */

int image_cancel_permission(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr_or(parameters, "ImageId", "");
	const struct doc *d = image_get(c->store, c->ctx, id);
	json_t *accounts = d ? json_object_get(d->json, "_LaunchAccounts") : NULL, *a;
	OWN(json_decref) json_t *left = json_array();
	size_t i;

	if (!d)
		return fault_set(f, FAULT_INVALID_AMI_ID_NOT_FOUND,
				 "The image id '[%.64s]' does not exist", id);
	if (!jarray_has(accounts, c->ctx->account))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The image %s is not shared with this account by its id", id);
	json_array_foreach (accounts, i, a)
		if (strcmp(json_string_value(a), c->ctx->account) != 0 &&
		    json_array_append(left, a) < 0)
			return -ENOMEM;
	OWN(json_decref) json_t *image = doc_edit(d);
	int r = image ? jset_new(image, "_LaunchAccounts", give(left)) : -ENOMEM;

	if (r == 0)
		r = tags_forget(image, image_is_shared);
	if (r == 0)
		r = txn_replace(c->txn, d, give(image));
	if (r == 0)
		*ret_reply = json_pack("{s:b}", "Return", 1);
	return r;
}

/* ---- deregistered ---- */

int image_gone_put(struct call *c, const struct doc *image)
{
	json_t *gone = json_pack("{s:I}", "Until", (json_int_t)(now_real_usec() + GONE_USEC));

	store_each (c->store, IMAGE_GONE_KIND, d)
		if (jint(d->json, "Until", 0) < now_real_usec() &&
		    txn_delete(c->txn, IMAGE_GONE_KIND, d->id) < 0)
			return -ENOMEM;
	return gone ? txn_put(c->txn, IMAGE_GONE_KIND, image->id, image->account, image->region,
			      gone)
		    : -ENOMEM;
}
