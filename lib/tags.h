/*
 * Tags: [{"Key": …, "Value": …}] in the member "Tags" of each document, in AWS's form and with
 * AWS's limits: 50 per resource, keys of 1..128 characters not starting with "aws:", values of
 * 0..256, no key twice. Source: EC2 user guide, "Tag restrictions".
 */
#pragma once

#include "action.h"

/* The tags that TagSpecifications of `parameters` gives to `resource_type` ("instance"), checked; a
 * new array, empty if none. `allowed` (NULL-terminated) are the types that this action may tag: any
 * other is InvalidParameterValue. */
int tags_from_specifications(json_t *parameters, const char *resource_type,
			     const char *const *allowed, json_t **ret_tags, struct fault *f);
/* Checks a list of {Key, Value}. */
int tags_check(const json_t *tags, struct fault *f);

/* One row per kind that the daemon owns: used by tags_create, tags_delete, tags_describe. Kinds may
 * share a prefix: what two accounts or regions see has tags of its own in each. */
struct tags_kind {
	const char *kind;	   /* in the store */
	const char *resource_type; /* AWS's word, shown by DescribeTags: "vpc" */
	const char *prefix;	   /* of its ids */
	enum fault_kind not_found;
};
/* ec2.CreateTags / DeleteTags / DescribeTags for the daemon's own kinds; apid splits and joins by
 * the owners' prefixes. `kinds` ends with a row without kind. */
int tags_create(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		json_t **ret_reply, struct fault *f);
int tags_delete(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		json_t **ret_reply, struct fault *f);
int tags_describe(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		  json_t **ret_reply, struct fault *f);
