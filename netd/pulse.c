/* Pulse: sizes and members of sets by netlink, settings by /proc/sys. */
#include "pulse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

/* Members read at a time; a set costs as much as some more. A tenth of a millisecond for a few
 * hundred; a set that is larger than all of it is left to the read-back once a minute. */
#define MEMBERS	  1024
#define SET_COSTS 16

struct pulse {
	struct nl_sock *sets;
	size_t at; /* the set whose members are read next */
};

struct count {
	const struct plan *plan;
	size_t n_found;
	int differs;
};

static int on_set(struct nlmsghdr *h, void *arg)
{
	struct nlattr *a[IPSET_ATTR_CMD_MAX + 1], *data[IPSET_ATTR_CREATE_MAX + 1];
	struct count *c = arg;
	const char *name;

	if (nlmsg_parse(h, sizeof(struct nfgenmsg), a, IPSET_ATTR_CMD_MAX, NULL) < 0 ||
	    !a[IPSET_ATTR_SETNAME] || !a[IPSET_ATTR_DATA] ||
	    nla_parse_nested(data, IPSET_ATTR_CREATE_MAX, a[IPSET_ATTR_DATA], NULL) < 0 ||
	    !data[IPSET_ATTR_ELEMENTS])
		return 0;
	name = nla_get_string(a[IPSET_ATTR_SETNAME]);
	c->differs |= items_named(&c->plan->router, ITEM_SET, name).n == 0 ||
		      items_named(&c->plan->router, ITEM_MEMBER, name).n !=
			      ntohl(nla_get_u32(data[IPSET_ATTR_ELEMENTS]));
	c->n_found++;
	return 0;
}

static void begin_again(void *arg)
{
	struct count *c = arg;

	c->n_found = 0;
	c->differs = 0;
}

static int are_sets_well(const struct pulse *p, const struct plan *plan)
{
	const struct nfgenmsg h = {.nfgen_family = AF_INET, .version = NFNETLINK_V0};
	struct items sets = items_slice(&plan->router, ITEM_SET, ITEM_SET);
	struct count c = {.plan = plan};
	struct nl_msg *m =
		netlink_message(NFNL_SUBSYS_IPSET << 8 | IPSET_CMD_LIST, 0, &h, sizeof h);
	int r;

	if (m) {
		nla_put_u8(m, IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL);
		nla_put_u32(m, IPSET_ATTR_FLAGS | NLA_F_NET_BYTEORDER,
			    htonl(IPSET_FLAG_LIST_HEADER));
	}
	r = netlink_dump(p->sets, m, on_set, begin_again, &c);
	return r < 0 ? r : !c.differs && c.n_found == sets.n;
}

/* ---- members ---- */

static int read_member(struct nlattr *member, struct item *i)
{
	struct nlattr *a[IPSET_ATTR_ADT_MAX + 1], *ip[IPSET_ATTR_IPADDR_MAX + 1];
	unsigned whole;

	if (nla_parse_nested(a, IPSET_ATTR_ADT_MAX, member, NULL) < 0 || !a[IPSET_ATTR_IP] ||
	    nla_parse_nested(ip, IPSET_ATTR_IPADDR_MAX, a[IPSET_ATTR_IP], NULL) < 0 ||
	    netlink_address_of(ip[IPSET_ATTR_IPADDR_IPV4], ip[IPSET_ATTR_IPADDR_IPV6],
			       &i->address) < 0)
		return -EINVAL;
	whole = i->address.family == AF_INET6 ? 128 : 32;
	if (a[IPSET_ATTR_CIDR] && nla_get_u8(a[IPSET_ATTR_CIDR]) != whole)
		i->plen = nla_get_u8(a[IPSET_ATTR_CIDR]);
	if (a[IPSET_ATTR_ETHER] && nla_len(a[IPSET_ATTR_ETHER]) == (int)sizeof i->mac)
		memcpy(i->mac, nla_data(a[IPSET_ATTR_ETHER]), sizeof i->mac);
	return 0;
}

struct turn {
	struct items wanted; /* members of the set */
	size_t n_found;
	int differs;
};

static int on_members(struct nlmsghdr *h, void *arg)
{
	struct nlattr *a[IPSET_ATTR_CMD_MAX + 1], *member;
	struct turn *t = arg;
	int rest;

	if (nlmsg_parse(h, sizeof(struct nfgenmsg), a, IPSET_ATTR_CMD_MAX, NULL) < 0 ||
	    !a[IPSET_ATTR_SETNAME] || !a[IPSET_ATTR_ADT])
		return 0;
	nla_for_each_nested(member, a[IPSET_ATTR_ADT], rest)
	{
		struct item i = {.kind = ITEM_MEMBER};

		snprintf(i.name, sizeof i.name, "%s", nla_get_string(a[IPSET_ATTR_SETNAME]));
		t->differs |= read_member(member, &i) < 0 || !items_have(&t->wanted, &i);
		t->n_found++;
	}
	return 0;
}

static void begin_turn_again(void *arg)
{
	struct turn *t = arg;

	t->n_found = 0;
	t->differs = 0;
}

static int are_members_well(const struct pulse *p, const char *set, const struct items *wanted)
{
	const struct nfgenmsg h = {.nfgen_family = AF_INET, .version = NFNETLINK_V0};
	struct turn t = {.wanted = *wanted};
	struct nl_msg *m =
		netlink_message(NFNL_SUBSYS_IPSET << 8 | IPSET_CMD_LIST, 0, &h, sizeof h);
	int r;

	if (m) {
		nla_put_u8(m, IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL);
		nla_put_string(m, IPSET_ATTR_SETNAME, set);
	}
	r = netlink_dump(p->sets, m, on_members, begin_turn_again, &t);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : !t.differs && t.n_found == wanted->n;
}

static int are_some_members_well(struct pulse *p, const struct plan *plan)
{
	struct items sets = items_slice(&plan->router, ITEM_SET, ITEM_SET);
	size_t n_read = 0;
	int r = 1;

	for (size_t i = 0; r == 1 && i < sets.n && n_read < MEMBERS; i++) {
		const char *set = sets.at[p->at++ % sets.n].name;
		struct items wanted = items_named(&plan->router, ITEM_MEMBER, set);

		n_read += SET_COSTS;
		if (!wanted.n || wanted.n > MEMBERS)
			continue;
		r = are_members_well(p, set, &wanted);
		n_read += wanted.n;
	}
	return r;
}

/* ---- settings ---- */

static int are_settings_well(const struct netns *n, const struct items *wanted)
{
	struct items settings = items_slice(wanted, ITEM_SYSCTL, ITEM_SYSCTL);
	OWN(changes_free) struct changes changes = {0};
	OWN(items_free) struct items there = {0};
	int r = netns_dump_settings(n, &settings, &there);

	if (r == 0)
		r = items_compare(&settings, &there, &changes);
	return r < 0 ? r : changes.n == 0;
}

int pulse_is_well(struct pulse *p, const struct netns *n, const struct netns *host,
		  const struct plan *plan)
{
	int r = are_sets_well(p, plan);

	if (r == 1)
		r = are_some_members_well(p, plan);
	if (r == 1)
		r = are_settings_well(n, &plan->router);
	if (r == 1)
		r = are_settings_well(host, &plan->host);
	return r;
}

static int open_socket(void *arg)
{
	struct pulse *p = arg;

	return netlink_open(NETLINK_NETFILTER, &p->sets);
}

int pulse_new(const struct netns *n, struct pulse **ret_pulse)
{
	OWN(pulse_free) struct pulse *p = calloc(1, sizeof *p);
	int r = p ? netns_run(n, open_socket, p) : -ENOMEM;

	if (r < 0)
		return r;
	*ret_pulse = give(p);
	return 0;
}

void pulse_free(struct pulse *p)
{
	if (!p)
		return;
	nl_socket_free(p->sets);
	free(p);
}
