/* Plan, prefix lists: a set of blocks that rules refer to, and what routes are expanded to. */
#include "plan-internal.h"

#include <errno.h>
#include <string.h>

/* The document, if the list is of the family. */
static const json_t *list_find(const struct plan_input *in, enum rules_family family,
			       const char *id)
{
	const json_t *list = plan_find(in->prefix_lists, "PrefixListId", id);
	int is_ipv6 = strcmp(jstr_or(list, "AddressFamily", ""), "IPv6") == 0;

	return list && is_ipv6 == (family == RULES_IPV6) ? list : NULL;
}

/* A set does not take the block of all addresses, only its halves; and it shows a block of one
 * address without its length. */
static void member_add(struct plan *p, const char *id, struct address address, unsigned bits)
{
	unsigned bits_max = address.family == AF_INET6 ? 128 : 32;

	for (int half = 0; half < (bits ? 1 : 2); half++) {
		struct item *member = items_add(&p->router, ITEM_MEMBER, id);

		member->address = address;
		member->plen = bits == bits_max ? 0 : bits ? bits : 1;
		if (half)
			member->address.bytes[0] = 0x80;
	}
}

static int members_add(struct plan *p, const char *id, const json_t *entries)
{
	const json_t *entry;
	struct cidr6 v6;
	struct cidr v4;
	size_t i;

	json_array_foreach (entries, i, entry) {
		const char *text = jstr(entry, "Cidr");

		if (cidr_parse(text, &v4) == 0)
			member_add(p, id, ip4(cidr_first(v4)), v4.bits);
		else if (cidr6_parse(text, &v6) == 0)
			member_add(p, id, ip6(cidr6_first(v6)), v6.bits);
		else
			return -EINVAL;
	}
	return 0;
}

int plan_prefix_set(const struct plan_input *in, struct plan *p, enum rules_family family,
		    const char *id)
{
	const json_t *list = list_find(in, family, id);
	struct item *set;

	if (!list)
		return -ENOENT;
	if (items_has(&p->router, ITEM_SET, id))
		return 0;
	set = items_add(&p->router, ITEM_SET, id);
	snprintf(set->text, sizeof set->text, "hash:net");
	set->address.family = family == RULES_IPV6 ? AF_INET6 : 0;
	return members_add(p, id, json_object_get(list, "Entries"));
}

const json_t *plan_prefix_entries(const struct plan_input *in, const char *id)
{
	return json_object_get(plan_find(in->prefix_lists, "PrefixListId", id), "Entries");
}
