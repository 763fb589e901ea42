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

/*
 * What an account shares with others (an image, a snapshot) each of them gives tags of its own,
 * which nobody else sees. They lie with the resource, in the member TAGS_OTHERS {account: [tags]}:
 * so they go with it, and what changes who may see it lets the others' go in the same transaction.
 */
#define TAGS_OTHERS "_TagsOf"
/* The tags that this account gave it, borrowed; NULL: none. */
json_t *tags_given_by(const struct doc *d, const char *account);
/* In a changed copy: the tags of accounts that do not see the resource any more go. 0 or -ENOMEM. */
int tags_forget(json_t *resource, int (*is_shared)(const json_t *resource, const char *account));

/* One row per kind that the daemon owns: used by tags_create, tags_delete, tags_describe. Kinds may
 * share a prefix: what two accounts or regions see has tags of its own in each. */
struct tags_kind {
	const char *kind;	   /* in the store */
	const char *resource_type; /* AWS's word, shown by DescribeTags: "vpc" */
	const char *prefix;	   /* of its ids */
	enum fault_kind not_found;
	/* As in struct describe: another account's that the caller sees; NULL: none. */
	int (*is_visible)(const struct call *c, const struct doc *d);
};
/* CreateTags and DeleteTags name resources, and not too many. */
int tags_resources_check(const json_t *parameters, struct fault *f);
/* ec2.CreateTags / DeleteTags / DescribeTags for the daemon's own kinds; apid splits and joins by
 * the owners' prefixes. `kinds` ends with a row without kind. */
int tags_create(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		json_t **ret_reply, struct fault *f);
int tags_delete(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		json_t **ret_reply, struct fault *f);
int tags_describe(struct call *c, const struct tags_kind *kinds, json_t *parameters,
		  json_t **ret_reply, struct fault *f);
