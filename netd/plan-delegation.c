/*
 * Plan, prefixes of interfaces: blocks that lead to one interface.
 *
 * A prefix is one route: by the interface's primary address, whose neighbour is permanent; over IPv6,
 * where an interface may have prefixes alone, by a link-local address made of its MAC, which is a
 * neighbour here and nothing else (in most guests it is the very one they have). The router answers ARP
 * for whatever it has a route to by the same leg; neighbour discovery it answers in responder6.c, since
 * the kernel's proxy knows single addresses only.
 *
 * Members of sets are the sixteen addresses of an IPv4 prefix one by one, since the set of addresses
 * and MACs knows no blocks, and one entry of an IPv6 prefix.
 */
#include "plan-internal.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "delegation.h"

const struct plan_addresses plan_addresses[PLAN_ADDRESSES] = {
	{AF_INET, "PrivateIpAddresses", "PrivateIpAddress"},
	{AF_INET, "Ipv4Prefixes", "Ipv4Prefix"},
	{AF_INET6, "Ipv6Addresses", "Ipv6Address"},
	{AF_INET6, "Ipv6Prefixes", "Ipv6Prefix"},
};

int plan_members(struct items *s, const char *set, const char *text, const uint8_t *mac)
{
	struct address first;
	struct cidr6 v6 = {.bits = 0};
	struct cidr v4;
	uint32_t n = 1;

	if (cidr_parse(text, &v4) == 0) {
		first = ip4(cidr_first(v4));
		n = (uint32_t)cidr_size(v4);
	} else if (cidr6_parse(text, &v6) == 0) {
		first = ip6(cidr6_first(v6));
	} else if (ip_any_parse(text, &first) < 0) {
		return -EINVAL;
	}
	for (uint32_t i = 0; s && i < n; i++) {
		struct item *member = items_add(s, ITEM_MEMBER, set);

		member->address = n == 1 ? first : ip4(cidr_first(v4) + i);
		member->plen = v6.bits;
		if (mac)
			memcpy(member->mac, mac, 6);
	}
	return first.family;
}

int plan_prefixes4(struct making *m, const json_t *eni, const struct plan_guest *like)
{
	const char *subnet_id = jstr_or(eni, "SubnetId", "");
	struct items *s = &m->p->router;
	struct address primary;
	const json_t *prefix;
	struct cidr block;
	struct item *route;
	size_t i;

	json_array_foreach (json_object_get(eni, delegation_ipv4.list), i, prefix) {
		const char *text = jstr_or(prefix, delegation_ipv4.element, "");

		if (cidr_parse(text, &block) < 0 || block.bits != DELEGATION_BITS4 ||
		    ip_any_parse(jstr(eni, "PrivateIpAddress"), &primary) < 0)
			return -EINVAL;
		route = plan_route_add(s, RT_TABLE_MAIN, block, RTN_UNICAST);
		route->via = primary;
		snprintf(route->link, sizeof route->link, "%s", like->leg);
		if (plan_members(s, subnet_id, text, like->mac) < 0 ||
		    plan_members(s, "local", text, NULL) < 0)
			return -EINVAL;
	}
	return 0;
}

/* The modified EUI-64 of RFC 4291, Appendix A. */
static struct in6_addr link_local(const uint8_t mac[static 6])
{
	return (struct in6_addr){.s6_addr = {0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2], 0xff,
					     0xfe, mac[3], mac[4], mac[5]}};
}

int plan_prefixes6(struct plan *p, const json_t *eni, const struct plan_guest6 *like)
{
	const struct address via = ip6(link_local(like->mac));
	const json_t *prefix;
	struct item *i;
	size_t k;

	json_array_foreach (json_object_get(eni, delegation_ipv6.list), k, prefix) {
		const char *text = jstr_or(prefix, delegation_ipv6.element, "");
		struct plan_guest6 *g = &p->guests6[p->n_guests6];
		struct cidr6 block;

		if (cidr6_parse(text, &block) < 0 || block.bits != DELEGATION_BITS6)
			return -EINVAL;
		*g = *like;
		g->address = cidr6_first(block);
		g->bits = block.bits;
		p->n_guests6++;
		i = items_add(&p->router, ITEM_ROUTE, NULL);
		*i = (struct item){.kind = ITEM_ROUTE,
				   .table = RT_TABLE_MAIN,
				   .address = ip6(g->address),
				   .plen = g->bits,
				   .type = RTN_UNICAST,
				   .via = via};
		snprintf(i->link, sizeof i->link, "%s", g->leg);
		i = items_add(&p->router, ITEM_NEIGHBOUR, g->leg);
		i->address = via;
		memcpy(i->mac, g->mac, 6);
		(void)plan_members(&p->router, PLAN_LOCAL6, text, NULL); /* it could be read */
	}
	return 0;
}
