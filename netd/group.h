/*
 * Security groups: what the rooms group.c and group_rule.c share.
 */
#pragma once

#include "netd.h"

/* The group of a request: GroupId, or GroupName in the default VPC. */
int group_parameter(const struct call *c, json_t *parameters, const struct doc **ret_group,
		    struct fault *f);
/* The group's rules in order, as the store has them (a new reference); is_egress -1: both
 * directions. */
json_t *group_rules(const struct store *s, const json_t *group, int is_egress);
/* Both ways hold no more rules than allowed, with prefix lists as large as the transaction would
 * leave them. */
int group_is_within_limits(const struct call *c, const json_t *group);
/* Puts these drafts as rules of the group; `group` is the caller's editable copy, which learns
 * their ids (the caller puts it). *ret_rules are the rules as AWS shows them, a new reference. */
int group_rules_add(const struct call *c, json_t *group, const json_t *drafts, json_t *tags,
		    json_t **ret_rules);
