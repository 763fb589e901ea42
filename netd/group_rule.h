/*
 * Rules of security groups: what group_rule.c and group_rule-modify.c share. `rule` and the items of
 * lists are documents of the kind security-group-rule, or drafts of them (permission.h).
 */
#pragma once

#include "netd.h"

/* The group's rule of this id and direction (-1: either). 0, or the fault that there is none. */
int rule_get(const struct call *c, const struct doc *group, const char *id, int is_egress,
	     const struct doc **ret_rule, struct fault *f);
/* The rule of the list that is the same as this one, borrowed; NULL: none. */
json_t *rule_find(const json_t *list, const json_t *rule);
/* 0, or the fault that both lists (the second may be NULL) are more than a group may have one way. */
int rules_limit_check(const struct call *c, const json_t *existing, const json_t *drafts,
		      struct fault *f);
