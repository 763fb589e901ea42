/* Plan, network ACLs: two chains each, in the order of their numbers. */
#include "plan-internal.h"

#include <errno.h>
#include <string.h>

#define NUMBER_LAST 32767

/* NULL: the entry is of the other family. */
static const char *block_of(const json_t *entry, enum rules_family family)
{
	return jstr(entry, family == RULES_IPV6 ? "Ipv6CidrBlock" : "CidrBlock");
}

static int by_number(const void *va, const void *vb)
{
	const json_t *a = *(const json_t *const *)va, *b = *(const json_t *const *)vb;
	int64_t x = jint(a, "RuleNumber", NUMBER_LAST), y = jint(b, "RuleNumber", NUMBER_LAST);

	return x < y ? -1 : x > y;
}

/* The entries of one direction in the order of their numbers, without the last one that denies the
 * rest: a new array of borrowed objects. */
static int entries_of(const json_t *acl, enum rules_family family, int is_egress,
		      const json_t ***ret_entries, size_t *ret_n)
{
	json_t *all = json_object_get(acl, "Entries");
	const json_t **entries = calloc(json_array_size(all) + 1, sizeof *entries), *entry;
	size_t n = 0, i;

	if (!entries)
		return -ENOMEM;
	json_array_foreach (all, i, entry)
		if (jbool(entry, "Egress", 0) == is_egress && block_of(entry, family) &&
		    jint(entry, "RuleNumber", NUMBER_LAST) < NUMBER_LAST)
			entries[n++] = entry;
	qsort(entries, n, sizeof *entries, by_number);
	*ret_entries = entries;
	*ret_n = n;
	return 0;
}

static int is_allow(const json_t *entry)
{
	return strcmp(jstr_or(entry, "RuleAction", "deny"), "allow") == 0;
}

static int is_everything(const json_t *entry, enum rules_family family)
{
	return strcmp(jstr_or(entry, "Protocol", "-1"), "-1") == 0 &&
	       strcmp(block_of(entry, family), family == RULES_IPV6 ? "::/0" : "0.0.0.0/0") == 0;
}

static int plan_entry(struct plan *p, enum rules_family family, const char *chain,
		      const json_t *entry, int is_egress)
{
	const char *protocol = jstr_or(entry, "Protocol", "-1");
	int is_icmp = strcmp(protocol, "1") == 0 || strcmp(protocol, "58") == 0 ||
		      strncmp(protocol, "icmp", 4) == 0;
	json_t *range = json_object_get(entry, is_icmp ? "IcmpTypeCode" : "PortRange");
	char peer[64], match[80];

	if (plan_match_protocol(family, protocol, jint(range, is_icmp ? "Type" : "From", -1),
				jint(range, is_icmp ? "Code" : "To", -1), match, sizeof match) < 0)
		return 0;
	if (plan_match_cidr(is_egress ? "-d" : "-s", block_of(entry, family), peer, sizeof peer) <
	    0)
		return -EINVAL;
	ruleset_rule(plan_chains(p, family), "filter", chain, "%s%s-j %s", peer, match,
		     is_allow(entry) ? "RETURN" : "DROP");
	return 0;
}

/* One direction of one ACL for one subnet; an ACL that lets everything pass costs nothing. Within a
 * subnet ACLs do not apply. */
static int plan_acl(struct plan *p, enum rules_family family, const json_t *acl, const char *leg,
		    int is_egress)
{
	OWN(free) const json_t **entries = NULL;
	struct ruleset *s = plan_chains(p, family);
	char chain[32];
	size_t n, i;
	int r = entries_of(acl, family, is_egress, &entries, &n);

	if (r < 0)
		return r;
	if (n && is_allow(entries[0]) && is_everything(entries[0], family))
		return 0;
	snprintf(chain, sizeof chain, "%.24s-%s", jstr_or(acl, "NetworkAclId", "acl"),
		 is_egress ? "out" : "in");
	if (is_egress)
		ruleset_rule(s, "filter", "acl", "-i %s ! -o %s -j %s", leg, leg, chain);
	else
		ruleset_rule(s, "filter", "acl", "! -i %s -o %s -j %s", leg, leg, chain);
	if (ruleset_has(s, "filter", chain))
		return 0; /* another subnet has the same ACL */
	ruleset_chain(s, "filter", chain, "-");
	for (i = 0; i < n; i++)
		if (plan_entry(p, family, chain, entries[i], is_egress) < 0)
			return -EINVAL;
	ruleset_rule(s, "filter", chain, "-j DROP");
	return 0;
}

int plan_acls(const struct plan_input *in, struct plan *p, enum rules_family family)
{
	const json_t *acl, *association;
	size_t i, a;
	int r;

	json_array_foreach (in->network_acls, i, acl)
		json_array_foreach (json_object_get(acl, "Associations"), a, association) {
			char leg[16];

			id_link_name('l', jstr_or(association, "SubnetId", ""), leg);
			if (!items_has(&p->router, ITEM_LEG, leg))
				continue;
			if ((r = plan_acl(p, family, acl, leg, 1)) < 0 ||
			    (r = plan_acl(p, family, acl, leg, 0)) < 0)
				return r;
		}
	return 0;
}
