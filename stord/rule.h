/*
 * Rule: retention rules of the recycle bin (the service rbin). Source: Recycle Bin API reference,
 * EBS user guide "Recycle Bin".
 *
 * A rule's document is of the kind "rbin-rule", its id the Identifier, and has the members that the
 * API shows, LockState and LockEndTime as they were when last changed. A rule without ResourceTags
 * is for the whole region, but for what has one of its ExcludeResourceTags. A locked rule is neither
 * changed nor deleted, and not before its delay is over after it was unlocked.
 */
#pragma once

#include "action.h"

#define RULE_KIND "rbin-rule"

/* The caller's rule of the parameter Identifier. */
int rule_get(const struct call *c, const json_t *parameters, const struct doc **ret_doc,
	     struct fault *f);
/* The rule as GetRule shows it, now. NULL out of memory. */
json_t *rule_present(const struct doc *rule);
/* rule-lock.c: its LockState now; NULL: it was never locked. */
const char *rule_lock_state(const json_t *rule);
/* It may be changed and deleted. */
int rule_check_unlocked(const struct doc *rule, struct fault *f);
/* It can be locked as `parameters` ask. */
int rule_check_lock(const json_t *rule, const json_t *parameters, struct fault *f);
/* For how many days the rules of its owner keep a resource ("EBS_SNAPSHOT") with these tags: the
 * longest of those that apply, 0: none does. */
int64_t rule_days(const struct store *s, const char *account, const char *region,
		  const char *resource_type, const json_t *tags);
