/* Snapshots as customers see them. */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "describe.h"

#define COMMON_FILTERS                                                                             \
	{"description", "Description"}, {"encrypted", "Encrypted"}, {"owner-alias", "OwnerAlias"}, \
		{"owner-id", "OwnerId"}, {"progress", "Progress"}, {"snapshot-id", "SnapshotId"},  \
		{"start-time", "StartTime"}, {"status", "State"}, {"storage-tier", "StorageTier"}, \
		FILTER_TAGS, {"volume-id", "VolumeId"},                                            \
	{                                                                                          \
		"volume-size", "VolumeSize"                                                        \
	}

static const struct filter filters[] = {COMMON_FILTERS, {NULL}};

/* RestorableByUserIds: "all" are the public ones; an account's are its own and what was given to
 * it by name. */
static int match_restorable(const struct doc *d, const json_t *values)
{
	json_t *permissions = json_object_get(d->json, "_Permissions"), *value, *p;
	size_t i, k;

	json_array_foreach (values, i, value) {
		const char *who = json_string_value(value);

		if (strcmp(who, d->account) == 0)
			return 1;
		json_array_foreach (permissions, k, p)
			if (strcmp(jstr_or(p, "Group", ""), who) == 0 ||
			    strcmp(jstr_or(p, "UserId", ""), who) == 0)
				return 1;
	}
	return 0;
}

/* A customer cannot name this one: his filters are checked against the list without it. */
#define RESTORABLE "RestorableByUserIds"

static const struct filter all_filters[] = {
	COMMON_FILTERS, {RESTORABLE, NULL, match_restorable}, {NULL}};

int snapshot_is_visible(const struct call *c, const struct doc *d)
{
	return strcmp(d->region, c->ctx->region) == 0 &&
	       snapshot_is_shared(c->store, d, c->ctx->account);
}

static const struct describe snapshots = {.kind = "snapshot",
					  .result = "Snapshots",
					  .ids = "SnapshotIds",
					  .prefix = "snap",
					  .malformed = FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
					  .not_found = FAULT_INVALID_SNAPSHOT_NOT_FOUND,
					  .filters = all_filters,
					  .is_visible = snapshot_is_visible};

/* OwnerIds and RestorableByUserIds are filters by another name. "self" is the caller; an alias
 * ("amazon") owns nothing here. */
static int ids_to_filter(const struct call *c, json_t *parameters, const char *member,
			 const char *filter)
{
	json_t *ids = json_object_get(parameters, member), *id, *list;
	OWN(json_decref) json_t *values = json_array(), *more = NULL;
	size_t i;

	if (json_array_size(ids) == 0)
		return 0;
	json_array_foreach (ids, i, id) {
		const char *text = json_string_value(id) ? json_string_value(id) : "";
		/* As it is, not as a pattern: owners are ids. */
		const char *plain = strcmp(text, "self") == 0 ? c->ctx->account
				    : strpbrk(text, "*?\\")   ? "none"
							      : text;

		if (json_array_append_new(values, json_string(plain)) < 0)
			return -ENOMEM;
	}
	list = json_object_get(parameters, "Filters");
	more = json_is_array(list) ? json_copy(list) : json_array();
	if (json_array_append_new(more, json_pack("{s:s, s:O}", "Name", filter, "Values", values)) <
	    0)
		return -ENOMEM;
	return jset_new(parameters, "Filters", give(more));
}

int snapshot_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	int r = filter_check(filters, parameters,
			     f); /* the customer's own, before ours are among them */

	if (r == 0)
		r = ids_to_filter(c, parameters, "OwnerIds", "owner-id");
	if (r == 0)
		r = ids_to_filter(c, parameters, "RestorableByUserIds", RESTORABLE);
	if (r == 0 && jint(parameters, "MaxResults", 0) > 1000)
		r = jset_new(parameters, "MaxResults",
			     json_integer(1000)); /* AWS gives 1,000 then */
	return r < 0 ? r : describe_run(c, &snapshots, parameters, ret_reply, f);
}

/* ---- tiers: all snapshots are in the standard one ---- */

static int match_no_tiering(const struct doc *d, const json_t *values)
{
	(void)d, (void)values;
	return 0;
}

static const struct filter tier_filters[] = {
	{"last-tiering-operation", NULL, match_no_tiering},
	{"snapshot-id", "SnapshotId"},
	{"volume-id", "VolumeId"},
	{NULL},
};

static json_t *present_tier(const struct call *c, const struct doc *d)
{
	(void)c;
	return json_pack("{s:s, s:O?, s:O?, s:s, s:s, s:O?}", "SnapshotId", d->id, "VolumeId",
			 json_object_get(d->json, "VolumeId"), "Status",
			 json_object_get(d->json, "State"), "OwnerId", d->account, "StorageTier",
			 "standard", "Tags", json_object_get(d->json, "Tags"));
}

static const struct describe tiers = {.kind = "snapshot",
				      .result = "SnapshotTierStatuses",
				      .prefix = "snap",
				      .malformed = FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
				      .not_found = FAULT_INVALID_SNAPSHOT_NOT_FOUND,
				      .filters = tier_filters,
				      .present = present_tier};

int snapshot_describe_tier(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &tiers, parameters, ret_reply, f);
}
