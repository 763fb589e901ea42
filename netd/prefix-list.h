/*
 * Managed prefix lists: customers' own (prefix-list.c, prefix-list-modify.c), and those that the
 * cloud keeps of its own services in every region, whose owner is "AWS" and which belong to no
 * account.
 *
 * A list's document is as AWS shows it. Its entries are documents of their own, one per version:
 *	prefix-list-version	id "pl-…/VERSION": Entries[{Cidr, Description}], blocks canonical
 * so that a list is as small as its name however long its history. Source: EC2 API reference,
 * ManagedPrefixList; VPC user guide, "Managed prefix lists", "Amazon VPC quotas".
 *
 * In the kernel a list is a set that rules refer to; routes are expanded (plan-prefix.c).
 */
#pragma once

#include "netd.h"

/* The caller's list, or one of the cloud's own in the region. */
int prefix_list_get(const struct call *c, const char *id, const struct doc **ret_list,
		    struct fault *f);
/* The entries of a version (0: the current one), borrowed; NULL if there is no such version. */
json_t *prefix_list_entries(const struct store *s, const json_t *list, int64_t version);
/* For how many rules or routes a reference to the list counts, as the transaction would leave it.
 */
size_t prefix_list_weight(const struct call *c, const char *id);
/* How many routes a table counts for: without the local ones. */
size_t prefix_list_routes_count(const struct call *c, const json_t *table);
int prefix_list_is_ipv6(const json_t *list);
/* Whether the list is the cloud's own: nobody can change it. */
int prefix_list_is_owned_by_aws(const json_t *list);

/* What refers to the list: [{ResourceId, ResourceOwner}], a new reference. */
json_t *prefix_list_users(const struct call *c, const char *id);
/* Makes what was written durable, then waits until packets feel it in every VPC that refers to the
 * list. */
int prefix_list_apply(const struct call *c, const char *id);

/* (at start) The region has the cloud's own lists. Followed by a commit. */
int prefix_lists_open(const struct call *c);

/* Entries of a request, checked, in canonical form (a new reference). */
int prefix_list_entries_read(const json_t *list, const json_t *entries, json_t **ret_entries,
			     struct fault *f);
/* Puts a version of the list; forgets the one that is too old. */
int prefix_list_version_put(const struct call *c, const json_t *list, json_t *entries);
