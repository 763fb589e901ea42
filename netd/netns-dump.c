/* Network namespaces: reading what is there, as items. */
#include "netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include "plan.h"

/* The links of a namespace by index, for what else is dumped. */
struct name {
	int index;
	char name[IFNAMSIZ];
};

struct dump {
	const struct netns *netns;
	int is_host, is_naming;
	struct items *items;
	struct name *names; /* of links we look at */
	size_t n_names;
	size_t n_items_before; /* of this message kind */
	const struct items *wanted;
};

static const char *name_of(const struct dump *d, int index)
{
	for (size_t i = 0; i < d->n_names; i++)
		if (d->names[i].index == index)
			return d->names[i].name;
	return NULL;
}

static int remember_name(struct dump *d, int index, const char *name)
{
	struct name *grown = d->names;

	if ((d->n_names & (d->n_names - 1)) == 0) /* a power of two: full */
		grown = realloc(d->names, (d->n_names ? d->n_names * 2 : 1) * sizeof *grown);
	if (!grown)
		return -ENOMEM;
	d->names = grown;
	grown[d->n_names].index = index;
	snprintf(grown[d->n_names++].name, IFNAMSIZ, "%s", name);
	return 0;
}

/* ---- links ---- */

static uint32_t port_flags(struct nlattr *slave_data)
{
	struct nlattr *a[IFLA_BRPORT_LOCKED + 1];
#define PORT(attribute) (a[IFLA_BRPORT_##attribute] && nla_get_u8(a[IFLA_BRPORT_##attribute]))
	if (nla_parse_nested(a, IFLA_BRPORT_LOCKED, slave_data, NULL) < 0)
		return 0;
	if (PORT(LEARNING) || PORT(UNICAST_FLOOD))
		return 0;
	if (PORT(ISOLATED) && PORT(LOCKED) && !PORT(BCAST_FLOOD) && !PORT(MCAST_FLOOD))
		return ITEM_GUEST_PORT;
	if (PORT(ISOLATED) || PORT(LOCKED) || !PORT(BCAST_FLOOD))
		return 0;
	return PORT(MCAST_FLOOD) ? ITEM_ROUTER_PORT | ITEM_MULTICAST : ITEM_ROUTER_PORT;
#undef PORT
}

static uint32_t tap_flags(struct nlattr *data)
{
	struct nlattr *a[IFLA_TUN_MAX + 1];

	if (!data || nla_parse_nested(a, IFLA_TUN_MAX, data, NULL) < 0)
		return 0;
	return a[IFLA_TUN_PERSIST] && nla_get_u8(a[IFLA_TUN_PERSIST]) && a[IFLA_TUN_OWNER] &&
			       nla_get_u32(a[IFLA_TUN_OWNER]) == 0
		       ? ITEM_OWNED
		       : 0;
}

static int kind_of_link(const struct dump *d, const char *kind, const char *name)
{
	if (!d->is_host)
		return strcmp(name, "lo") == 0		? ITEM_LEG
		       : strcmp(kind, "veth") != 0	? -1
		       : name[0] == PLAN_PEERING_LETTER ? ITEM_PEERING
							: ITEM_LEG;
	if (strcmp(kind, "bridge") == 0)
		return ITEM_BRIDGE;
	return strcmp(kind, "veth") == 0 ? ITEM_VETH : strcmp(kind, "tun") == 0 ? ITEM_TAP : -1;
}

static void read_link(struct dump *d, struct item *i, struct nlattr **a, struct nlattr **info)
{
	int index = a[IFLA_MASTER] ? (int)nla_get_u32(a[IFLA_MASTER]) : 0;
	const char *master = index ? name_of(d, index) : NULL;
	char name[IFNAMSIZ];

	/* One link is read without its bridge. */
	if (index && !master && d->is_host)
		master = if_indextoname((unsigned)index, name);

	i->mtu = a[IFLA_MTU] && strcmp(i->name, "lo") != 0 ? nla_get_u32(a[IFLA_MTU]) : 0;
	if ((i->kind == ITEM_BRIDGE || i->kind == ITEM_PEERING || i->kind == ITEM_LEG) &&
	    a[IFLA_ADDRESS] && nla_len(a[IFLA_ADDRESS]) == 6 && strcmp(i->name, "igw") != 0 &&
	    strcmp(i->name, "eigw") != 0)
		memcpy(i->mac, nla_data(a[IFLA_ADDRESS]), 6);
	if ((d->is_host || i->kind == ITEM_PEERING) && a[IFLA_IFALIAS])
		snprintf(i->text, sizeof i->text, "%.*s", nla_len(a[IFLA_IFALIAS]),
			 (const char *)nla_data(a[IFLA_IFALIAS]));
	if (a[IFLA_MASTER])
		snprintf(i->link, sizeof i->link, "%s", master ? master : "?");
	if (info[IFLA_INFO_SLAVE_DATA])
		i->flags |= port_flags(info[IFLA_INFO_SLAVE_DATA]);
	if (i->kind == ITEM_TAP)
		i->flags |= tap_flags(info[IFLA_INFO_DATA]);
}

static int on_link(struct nlmsghdr *h, void *arg)
{
	struct dump *d = arg;
	const struct ifinfomsg *m = nlmsg_data(h);
	struct nlattr *a[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1] = {0};
	const char *name;
	int kind;

	if (h->nlmsg_type != RTM_NEWLINK || nlmsg_parse(h, sizeof *m, a, IFLA_MAX, NULL) < 0 ||
	    !a[IFLA_IFNAME])
		return 0;
	name = nla_get_string(a[IFLA_IFNAME]);
	if (d->is_host && (!a[IFLA_GROUP] || nla_get_u32(a[IFLA_GROUP]) != PLAN_GROUP))
		return 0;
	if (a[IFLA_LINKINFO] && nla_parse_nested(info, IFLA_INFO_MAX, a[IFLA_LINKINFO], NULL) < 0)
		return 0;
	kind = kind_of_link(d, info[IFLA_INFO_KIND] ? nla_get_string(info[IFLA_INFO_KIND]) : "",
			    name);
	if (kind < 0)
		return 0;
	if (d->is_naming)
		return remember_name(d, m->ifi_index, name);
	if (m->ifi_flags & IFF_UP)
		(void)items_add(d->items, ITEM_UP, name);
	read_link(d, items_add(d->items, (enum item_kind)kind, name), a, info);
	return 0;
}

static struct nl_msg *links_message(void)
{
	struct ifinfomsg m = {0};
	struct nl_msg *msg = netlink_message(RTM_GETLINK, 0, &m, sizeof m);

	if (msg)
		nla_put_u32(msg, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return msg;
}

static void forget(void *arg)
{
	struct dump *d = arg;

	d->items->n = d->n_items_before;
}

static void forget_names(void *arg)
{
	((struct dump *)arg)->n_names = 0;
}

/* A bridge must be known before its ports can name it: the first round collects names only. */
static int dump_links(struct dump *d)
{
	int r;

	d->is_naming = 1;
	r = netlink_dump(d->netns->route, links_message(), on_link, forget_names, d);
	d->is_naming = 0;
	return r < 0 ? r : netlink_dump(d->netns->route, links_message(), on_link, forget, d);
}

/* ---- neighbours and bridge entries ---- */

/* What neighbour discovery is answered for. */
static int on_proxy(struct nlmsghdr *h, void *arg)
{
	struct dump *d = arg;
	const struct ndmsg *m = nlmsg_data(h);
	struct nlattr *a[NDA_MAX + 1];
	const char *name = name_of(d, m->ndm_ifindex);
	struct address address;

	if (h->nlmsg_type == RTM_NEWNEIGH && name && m->ndm_flags & NTF_PROXY &&
	    nlmsg_parse(h, sizeof *m, a, NDA_MAX, NULL) == 0 &&
	    netlink_address(a[NDA_DST], m->ndm_family, &address) == 0)
		items_add(d->items, ITEM_PROXY, name)->address = address;
	return 0;
}

static int on_neighbour(struct nlmsghdr *h, void *arg)
{
	struct dump *d = arg;
	const struct ndmsg *m = nlmsg_data(h);
	struct nlattr *a[NDA_MAX + 1];
	const char *name = name_of(d, m->ndm_ifindex);
	struct address address;
	struct item *i;

	if (h->nlmsg_type != RTM_NEWNEIGH || !name ||
	    nlmsg_parse(h, sizeof *m, a, NDA_MAX, NULL) < 0 || !a[NDA_LLADDR] ||
	    nla_len(a[NDA_LLADDR]) != 6)
		return 0;
	if (m->ndm_family == AF_BRIDGE) {
		/* static ones only: PERMANENT are the port's own, SELF the card's */
		if (m->ndm_state != NUD_NOARP || m->ndm_flags & NTF_SELF)
			return 0;
		i = items_add(d->items, ITEM_FDB, name);
	} else {
		if (m->ndm_state != NUD_PERMANENT ||
		    netlink_address(a[NDA_DST], m->ndm_family, &address) < 0)
			return 0;
		i = items_add(d->items, ITEM_NEIGHBOUR, name);
		i->address = address;
	}
	memcpy(i->mac, nla_data(a[NDA_LLADDR]), 6);
	return 0;
}

/* ---- addresses, routes, rules ---- */

static int on_address(struct nlmsghdr *h, void *arg)
{
	struct dump *d = arg;
	const struct ifaddrmsg *m = nlmsg_data(h);
	struct nlattr *a[IFA_MAX + 1];
	const char *name = name_of(d, (int)m->ifa_index);
	struct address address;
	struct item *i;

	if (h->nlmsg_type != RTM_NEWADDR || !name ||
	    nlmsg_parse(h, sizeof *m, a, IFA_MAX, NULL) < 0 ||
	    netlink_address(a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS], m->ifa_family, &address) <
		    0 ||
	    m->ifa_scope == RT_SCOPE_HOST)
		return 0;
	i = items_add(d->items, ITEM_ADDRESS, name);
	i->address = address;
	i->plen = m->ifa_prefixlen;
	return 0;
}

/* The kernel gives every IPv6 route a metric, and a link to those that lead nowhere. */
#define METRIC_IPV6 1024

static int on_route(struct nlmsghdr *h, void *arg)
{
	struct dump *d = arg;
	const struct rtmsg *m = nlmsg_data(h);
	struct nlattr *a[RTA_MAX + 1];
	const char *name;
	struct item *i;

	if (h->nlmsg_type != RTM_NEWROUTE || m->rtm_flags & RTM_F_CLONED ||
	    m->rtm_protocol == RTPROT_KERNEL || (d->is_host && m->rtm_protocol != PLAN_PROTOCOL) ||
	    nlmsg_parse(h, sizeof *m, a, RTA_MAX, NULL) < 0)
		return 0;
	i = items_add(d->items, ITEM_ROUTE, NULL);
	i->table = a[RTA_TABLE] ? nla_get_u32(a[RTA_TABLE]) : m->rtm_table;
	i->address.family = m->rtm_family;
	(void)netlink_address(a[RTA_DST], m->rtm_family, &i->address); /* without: everything */
	(void)netlink_address(a[RTA_GATEWAY], m->rtm_family, &i->via); /* without: no gateway */
	i->plen = m->rtm_dst_len;
	i->metric = a[RTA_PRIORITY] ? nla_get_u32(a[RTA_PRIORITY]) : 0;
	i->type = m->rtm_type;
	if (m->rtm_family == AF_INET6 && i->metric == METRIC_IPV6)
		i->metric = 0;
	name = a[RTA_OIF] && (m->rtm_family == AF_INET || i->type == RTN_UNICAST)
		       ? name_of(d, (int)nla_get_u32(a[RTA_OIF]))
		       : "";
	snprintf(i->link, sizeof i->link, "%s", name ? name : "?");
	return 0;
}

static int on_rule(struct nlmsghdr *h, void *arg)
{
	struct dump *d = arg;
	const struct fib_rule_hdr *m = nlmsg_data(h);
	struct nlattr *a[FRA_MAX + 1];
	struct item *i;

	if (h->nlmsg_type != RTM_NEWRULE || nlmsg_parse(h, sizeof *m, a, FRA_MAX, NULL) < 0 ||
	    !a[FRA_IIFNAME])
		return 0;
	i = items_add(d->items, ITEM_RULE, nla_get_string(a[FRA_IIFNAME]));
	i->table = a[FRA_TABLE] ? nla_get_u32(a[FRA_TABLE]) : m->table;
	i->metric = a[FRA_PRIORITY] ? nla_get_u32(a[FRA_PRIORITY]) : 0;
	i->address.family = m->family;
	return 0;
}

static int dump(struct dump *d, int type, const void *header, size_t n,
		int (*each)(struct nlmsghdr *h, void *arg))
{
	d->n_items_before = d->items->n;
	return netlink_dump(d->netns->route, netlink_message(type, 0, header, n), each, forget, d);
}

/* ---- sysctls ---- */

/* A kernel without IPv6 has nothing to switch off, and an older one cannot forward by one link
 * alone: host_doctor() says so. */
static int is_known_setting(const char *name)
{
	static const char conf[] = "ipv6/conf/";
	const char *leaf = strrchr(name, '/');
	char path[96];

	if (strncmp(name, conf, sizeof conf - 1) != 0)
		return 1;
	snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/all%s", leaf);
	return access(path, F_OK) == 0;
}

static int dump_sysctls(void *arg)
{
	struct dump *d = arg;

	for (size_t i = 0; i < d->wanted->n; i++) {
		const struct item *w = &d->wanted->at[i];
		char path[96], value[32] = "";
		struct item *is;
		ssize_t n;

		if (w->kind != ITEM_SYSCTL)
			continue;
		snprintf(path, sizeof path, "/proc/sys/net/%s", w->name);
		OWN(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
		is = items_add(d->items, ITEM_SYSCTL, w->name);
		/* The link may not be there yet: an empty value differs from any wanted one. */
		n = fd < 0 ? 0 : read(fd, value, sizeof value - 1);
		value[n > 0 ? n : 0] = '\0';
		value[strcspn(value, "\n")] = '\0';
		if (fd < 0 && !is_known_setting(w->name))
			snprintf(value, sizeof value, "%s", w->text);
		snprintf(is->text, sizeof is->text, "%s", value);
	}
	return 0;
}

int netns_dump_settings(const struct netns *n, const struct items *wanted, struct items *ret_items)
{
	OWN(items_free) struct items items = {0};
	struct dump d = {.netns = n, .items = &items, .wanted = wanted};
	int r = netns_run(n, dump_sysctls, &d);

	if (r == 0)
		r = items_sort(&items);
	if (r < 0)
		return r;
	*ret_items = items;
	items = (struct items){0};
	return 0;
}

/* ---- the whole ---- */

static int dump_family(struct dump *d, uint8_t family)
{
	const struct ndmsg neighbour = {.ndm_family = family},
			   proxy = {.ndm_family = family, .ndm_flags = NTF_PROXY};
	const struct ifaddrmsg address = {.ifa_family = family};
	const struct rtmsg route = {.rtm_family = family};
	const struct fib_rule_hdr rule = {.family = family};
	int r = d->is_host ? 0 : dump(d, RTM_GETNEIGH, &neighbour, sizeof neighbour, on_neighbour);

	if (r == 0 && !d->is_host && family == AF_INET6)
		r = dump(d, RTM_GETNEIGH, &proxy, sizeof proxy, on_proxy);
	if (r == 0)
		r = dump(d, RTM_GETADDR, &address, sizeof address, on_address);
	if (r == 0)
		r = dump(d, RTM_GETROUTE, &route, sizeof route, on_route);
	if (r == 0 && !d->is_host)
		r = dump(d, RTM_GETRULE, &rule, sizeof rule, on_rule);
	return r;
}

static int dump_all(struct dump *d)
{
	const struct ndmsg bridge = {.ndm_family = AF_BRIDGE};
	int r = dump_links(d);

	if (r == 0 && d->is_host)
		r = dump(d, RTM_GETNEIGH, &bridge, sizeof bridge, on_neighbour);
	if (r == 0)
		r = dump_family(d, AF_INET);
	if (r == 0)
		r = dump_family(d, AF_INET6);
	return r == 0 ? netns_run(d->netns, dump_sysctls, d) : r;
}

int netns_dump(const struct netns *n, const struct items *wanted, struct items *ret_items)
{
	OWN(items_free) struct items items = {0};
	struct dump d = {.netns = n, .is_host = !n->name[0], .items = &items, .wanted = wanted};
	int r = dump_all(&d);

	free(d.names);
	if (r == 0)
		r = items_sort(&items);
	if (r < 0)
		return r;
	*ret_items = items;
	items = (struct items){0};
	return 0;
}

static int read_one(struct dump *d, int index)
{
	/* Asked in this form, the kernel shows one port's entries. */
	const struct ifinfomsg port = {.ifi_family = AF_BRIDGE, .ifi_index = index};
	struct ifinfomsg m = {.ifi_index = index};
	int r;

	d->is_naming = 1;
	r = netlink_get(d->netns->route, netlink_message(RTM_GETLINK, 0, &m, sizeof m), on_link, d);
	d->is_naming = 0;
	if (r < 0 || !d->n_names)
		return r;
	r = netlink_get(d->netns->route, netlink_message(RTM_GETLINK, 0, &m, sizeof m), on_link, d);
	return r < 0 ? r : dump(d, RTM_GETNEIGH, &port, sizeof port, on_neighbour);
}

static int is_of_link(const struct item *i, const char *link)
{
	return (i->kind == ITEM_BRIDGE || i->kind == ITEM_VETH || i->kind == ITEM_TAP ||
		i->kind == ITEM_FDB || i->kind == ITEM_UP) &&
	       strcmp(i->name, link) == 0;
}

int netns_is_link_known(const struct netns *n, int index)
{
	OWN(items_free) struct items there = {0}, known = {0};
	OWN(changes_free) struct changes changes = {0};
	struct dump d = {.netns = n, .is_host = 1, .items = &there};
	int r = n->is_known ? read_one(&d, index) : 0;

	for (size_t i = 0; r == 0 && d.n_names && i < n->items.n; i++)
		if (is_of_link(&n->items.at[i], d.names[0].name))
			items_copy(&known, &n->items.at[i]);
	free(d.names);
	if (r == 0)
		r = items_sort(&there);
	if (r == 0)
		r = known.error ? known.error : items_compare(&known, &there, &changes);
	/* Of its end there are other news. */
	return r == -ENODEV ? 1 : r < 0 ? r : n->is_known && changes.n == 0;
}

int netns_has_link(const struct netns *n, const char *name)
{
	struct ifinfomsg m = {0};
	struct nl_msg *msg = netlink_message(RTM_GETLINK, 0, &m, sizeof m);

	if (msg)
		nla_put_string(msg, IFLA_IFNAME, name);
	return netlink_get(n->route, msg, NULL, NULL) == 0;
}
