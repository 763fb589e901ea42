/* Network namespaces: bringing items about and removing them. */
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
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include "plan.h"
#include "step.h"

/* Links of this group are about to be deleted: one message deletes them all. One who is killed in
 * between leaves them to the next pass, which deletes the group first. */
#define DOOMED_GROUP (PLAN_GROUP + 1)

/* ---- small things ---- */

static int on_index(struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *m = nlmsg_data(h);

	*(int *)arg = m->ifi_index;
	return 0;
}

static int index_of(const struct netns *n, const char *name, int *ret_index)
{
	struct ifinfomsg m = {0};
	struct nl_msg *msg = netlink_message(RTM_GETLINK, 0, &m, sizeof m);

	if (msg)
		nla_put_string(msg, IFLA_IFNAME, name);
	return netlink_get(n->route, msg, on_index, ret_index);
}

static struct nl_msg *link_message(int flags, const char *name)
{
	struct ifinfomsg m = {0};
	struct nl_msg *msg = netlink_message(RTM_NEWLINK, flags, &m, sizeof m);

	if (msg && nla_put_string(msg, IFLA_IFNAME, name) < 0) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

/* ---- links ---- */

static int create_bridge(const struct netns *n, const struct item *i)
{
	struct nl_msg *m = link_message(NLM_F_CREATE | NLM_F_EXCL, i->name);
	struct nlattr *info, *data;

	if (!m)
		return -ENOMEM;
	nla_put_u32(m, IFLA_GROUP, PLAN_GROUP);
	nla_put(m, IFLA_ADDRESS, 6, i->mac);
	info = nla_nest_start(m, IFLA_LINKINFO);
	nla_put_string(m, IFLA_INFO_KIND, "bridge");
	data = nla_nest_start(m, IFLA_INFO_DATA);
	nla_put_u32(m, IFLA_BR_FORWARD_DELAY, 0);
	nla_put_u32(m, IFLA_BR_STP_STATE, 0);
	nla_put_u8(m, IFLA_BR_MCAST_SNOOPING, 0);
	nla_nest_end(m, data);
	nla_nest_end(m, info);
	return netlink_request(n->route, m);
}

/* The kind and the far end of a veth pair. */
static void put_veth(struct nl_msg *m, const char *far_name, uint32_t mtu, const struct netns *far)
{
	struct ifinfomsg peer_header = {0};
	struct nlattr *info, *data, *peer;

	info = nla_nest_start(m, IFLA_LINKINFO);
	nla_put_string(m, IFLA_INFO_KIND, "veth");
	data = nla_nest_start(m, IFLA_INFO_DATA);
	peer = nla_nest_start(m, VETH_INFO_PEER);
	nlmsg_append(m, &peer_header, sizeof peer_header, NLMSG_ALIGNTO);
	nla_put_string(m, IFLA_IFNAME, far_name);
	nla_put_u32(m, IFLA_MTU, mtu);
	nla_put_u32(m, IFLA_NET_NS_FD, (uint32_t)far->fd);
	nla_nest_end(m, peer);
	nla_nest_end(m, data);
	nla_nest_end(m, info);
}

static int create_veth(const struct netns *n, const struct item *i, const struct netns *router)
{
	struct nl_msg *m = link_message(NLM_F_CREATE | NLM_F_EXCL, i->name);

	if (!m)
		return -ENOMEM;
	nla_put_u32(m, IFLA_GROUP, PLAN_GROUP);
	nla_put_u32(m, IFLA_MTU, i->mtu);
	put_veth(m, item_veth_peer(i), i->mtu, router);
	return netlink_request(n->route, m);
}

/* A link between two routers; its ends have one name. */
static int create_peering(const struct netns *n, const struct item *i, const struct netns *far)
{
	struct nl_msg *m = link_message(NLM_F_CREATE | NLM_F_EXCL, i->name);

	if (!m)
		return -ENOMEM;
	nla_put_u32(m, IFLA_MTU, i->mtu);
	put_veth(m, i->name, i->mtu, far);
	return netlink_request(n->route, m);
}

/* The group is set before the tap becomes persistent: whoever is killed in between leaves nothing
 * behind. Owner root: without an owner anyone who may open /dev/net/tun could take it. */
static int create_tap(const struct netns *n, const struct item *i)
{
	OWN(fd_close) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	struct nl_msg *m;
	int r;

	if (fd < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof request.ifr_name, "%.15s", i->name);
	if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETOWNER, 0) < 0)
		return -errno;
	m = link_message(0, i->name);
	if (m)
		nla_put_u32(m, IFLA_GROUP, PLAN_GROUP);
	r = netlink_request(n->route, m);
	if (r < 0)
		return r;
	step("a tap that stays");
	return ioctl(fd, TUNSETPERSIST, 1) < 0 ? -errno : 0;
}

/* libnl has no calls for isolated and locked. */
static int set_port(const struct netns *n, int index, uint32_t flags)
{
	struct ifinfomsg h = {.ifi_family = AF_BRIDGE, .ifi_index = index};
	struct nl_msg *m = netlink_message(RTM_SETLINK, 0, &h, sizeof h);
	int is_guest = !!(flags & ITEM_GUEST_PORT);
	struct nlattr *port;

	if (!m)
		return -ENOMEM;
	port = nla_nest_start(m, IFLA_PROTINFO | NLA_F_NESTED);
	nla_put_u8(m, IFLA_BRPORT_ISOLATED, (uint8_t)is_guest);
	nla_put_u8(m, IFLA_BRPORT_LOCKED, (uint8_t)is_guest);
	nla_put_u8(m, IFLA_BRPORT_LEARNING, 0);
	nla_put_u8(m, IFLA_BRPORT_UNICAST_FLOOD, 0);
	nla_put_u8(m, IFLA_BRPORT_MCAST_FLOOD, !!(flags & ITEM_MULTICAST));
	nla_put_u8(m, IFLA_BRPORT_BCAST_FLOOD, (uint8_t)!is_guest);
	nla_nest_end(m, port);
	return netlink_request(n->route, m);
}

/* What can be changed on a link that is there. */
static int set_link(const struct netns *n, const struct item *i)
{
	static const uint8_t no_mac[6];
	struct nl_msg *m = link_message(0, i->name);
	int index = 0, master = 0, r = 0;

	if (!m)
		return -ENOMEM;
	if (i->kind != ITEM_LEG && i->kind != ITEM_PEERING)
		nla_put_u32(m, IFLA_GROUP, PLAN_GROUP);
	if (i->mtu)
		nla_put_u32(m, IFLA_MTU, i->mtu);
	if (i->text[0])
		nla_put_string(m, IFLA_IFALIAS, i->text);
	if (memcmp(i->mac, no_mac, sizeof no_mac) != 0)
		nla_put(m, IFLA_ADDRESS, 6, i->mac);
	if (i->link[0]) {
		r = index_of(n, i->link, &master);
		nla_put_u32(m, IFLA_MASTER, (uint32_t)master);
	}
	if (r < 0) {
		nlmsg_free(m);
		return r;
	}
	r = netlink_request(n->route, m);
	if (r < 0 || !(i->flags & (ITEM_GUEST_PORT | ITEM_ROUTER_PORT)))
		return r;
	r = index_of(n, i->name, &index);
	return r < 0 ? r : set_port(n, index, i->flags);
}

static int make_link(const struct netns *n, const struct item *i, const struct netns *router)
{
	int r = 0;

	if (i->kind == ITEM_BRIDGE)
		r = create_bridge(n, i);
	else if (i->kind == ITEM_VETH)
		r = create_veth(n, i, router);
	else if (i->kind == ITEM_TAP)
		r = create_tap(n, i);
	else if (i->kind == ITEM_PEERING && router)
		r = create_peering(n, i, router);
	/* There already, and a guest may have it open: then only its attributes are wrong. */
	return r < 0 && r != -EEXIST && r != -EBUSY ? r : set_link(n, i);
}

static int set_up(const struct netns *n, const char *name)
{
	struct ifinfomsg h = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	struct nl_msg *m = netlink_message(RTM_NEWLINK, 0, &h, sizeof h);

	if (m)
		nla_put_string(m, IFLA_IFNAME, name);
	return netlink_request(n->route, m);
}

static int doom(const struct netns *n, const char *name)
{
	struct nl_msg *m = link_message(0, name);

	if (m)
		nla_put_u32(m, IFLA_GROUP, DOOMED_GROUP);
	return netlink_request(n->route, m);
}

static int remove_link(const struct netns *n, const char *name)
{
	struct ifinfomsg h = {0};
	struct nl_msg *m = netlink_message(RTM_DELLINK, 0, &h, sizeof h);

	if (m)
		nla_put_string(m, IFLA_IFNAME, name);
	return netlink_request(n->route, m);
}

int netns_remove_links(const struct netns *n, const struct items *links)
{
	struct ifinfomsg h = {0};
	struct nl_msg *m;
	int r = 0, q;

	for (size_t i = 0; i < links->n; i++) {
		q = doom(n, links->at[i].name);
		if (q < 0 && q != -ENODEV)
			r = q;
	}
	m = netlink_message(RTM_DELLINK, 0, &h, sizeof h);
	if (m)
		nla_put_u32(m, IFLA_GROUP, DOOMED_GROUP);
	q = netlink_request(n->route, m);
	return q < 0 && q != -ENODEV ? q : r; /* ENODEV: the group is empty */
}

/* ---- what is on links ---- */

static int change_fdb(const struct netns *n, const struct item *i, int type, int flags)
{
	struct ndmsg h = {.ndm_family = AF_BRIDGE, .ndm_state = NUD_NOARP, .ndm_flags = NTF_MASTER};
	struct nl_msg *m;
	int r = index_of(n, i->name, &h.ndm_ifindex);

	if (r < 0)
		return r;
	m = netlink_message(type, flags, &h, sizeof h);
	if (m)
		nla_put(m, NDA_LLADDR, 6, i->mac);
	return netlink_request(n->route, m);
}

static int put_address(struct nl_msg *m, int attribute, const struct address *ip)
{
	return nla_put(m, attribute, ip_size(ip->family), ip->bytes);
}

static int change_neighbour(const struct netns *n, const struct item *i, int type, int flags)
{
	int is_proxy = i->kind == ITEM_PROXY;
	struct ndmsg h = {.ndm_family = i->address.family,
			  .ndm_state = NUD_PERMANENT,
			  .ndm_flags = is_proxy ? NTF_PROXY : 0};
	struct nl_msg *m;
	int r = index_of(n, i->name, &h.ndm_ifindex);

	if (r < 0)
		return r;
	m = netlink_message(type, flags, &h, sizeof h);
	if (!m)
		return -ENOMEM;
	put_address(m, NDA_DST, &i->address);
	if (type == RTM_NEWNEIGH && !is_proxy)
		nla_put(m, NDA_LLADDR, 6, i->mac);
	return netlink_request(n->route, m);
}

static int change_address(const struct netns *n, const struct item *i, int type, int flags)
{
	int is_ipv6 = i->address.family == AF_INET6;
	/* Nobody else can have it: no need to ask for duplicates first. */
	struct ifaddrmsg h = {.ifa_family = i->address.family,
			      .ifa_prefixlen = (uint8_t)i->plen,
			      .ifa_flags = is_ipv6 ? IFA_F_NODAD : 0};
	struct nl_msg *m;
	int index, r = index_of(n, i->name, &index);

	if (r < 0)
		return r;
	h.ifa_index = (uint32_t)index;
	m = netlink_message(type, flags, &h, sizeof h);
	if (!m)
		return -ENOMEM;
	put_address(m, IFA_LOCAL, &i->address);
	put_address(m, IFA_ADDRESS, &i->address);
	return netlink_request(n->route, m);
}

static int change_route(const struct netns *n, const struct item *i, int type, int flags)
{
	int is_onlink = i->via.family == AF_INET; /* IPv6 gateways are link-local, and so always */
	struct rtmsg h = {.rtm_family = i->address.family,
			  .rtm_dst_len = (uint8_t)i->plen,
			  .rtm_table = i->table < 256 ? (uint8_t)i->table : RT_TABLE_UNSPEC,
			  .rtm_protocol = PLAN_PROTOCOL,
			  .rtm_scope =
				  i->link[0] && !i->via.family ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
			  .rtm_type = (uint8_t)i->type,
			  .rtm_flags = is_onlink ? RTNH_F_ONLINK : 0};
	struct nl_msg *m;
	int index = 0, r = i->link[0] ? index_of(n, i->link, &index) : 0;

	if (type == RTM_DELROUTE) {
		/* By its key alone, whoever made it and wherever it leads: the link may be gone. */
		h.rtm_type = RTN_UNSPEC;
		h.rtm_protocol = RTPROT_UNSPEC;
		h.rtm_scope = RT_SCOPE_NOWHERE;
		h.rtm_flags = 0;
	} else if (r < 0) {
		return r;
	}
	m = netlink_message(type, flags, &h, sizeof h);
	if (!m)
		return -ENOMEM;
	nla_put_u32(m, RTA_TABLE, i->table);
	if (i->plen)
		put_address(m, RTA_DST, &i->address);
	if (i->metric)
		nla_put_u32(m, RTA_PRIORITY, i->metric);
	if (type == RTM_NEWROUTE && i->via.family)
		put_address(m, RTA_GATEWAY, &i->via);
	if (type == RTM_NEWROUTE && i->link[0])
		nla_put_u32(m, RTA_OIF, (uint32_t)index);
	return netlink_request(n->route, m);
}

static int change_rule(const struct netns *n, const struct item *i, int type, int flags)
{
	struct fib_rule_hdr h = {.family = i->address.family, .action = FR_ACT_TO_TBL};
	struct nl_msg *m = netlink_message(type, flags, &h, sizeof h);

	if (!m)
		return -ENOMEM;
	nla_put_string(m, FRA_IIFNAME, i->name);
	nla_put_u32(m, FRA_TABLE, i->table);
	nla_put_u32(m, FRA_PRIORITY, i->metric);
	return netlink_request(n->route, m);
}

static int write_sysctl(void *arg)
{
	const struct item *i = arg;
	char path[96];
	size_t n = strlen(i->text);

	snprintf(path, sizeof path, "/proc/sys/net/%s", i->name);
	OWN(fd_close) int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	step("a sysctl");
	ssize_t written = write(fd, i->text, n);

	return written < 0 ? -errno : written == (ssize_t)n ? 0 : -EIO;
}

/* ---- the two verbs ---- */

int netns_make(const struct netns *n, const struct item *i, const struct netns *router)
{
	const int replace = NLM_F_CREATE | NLM_F_REPLACE;
	int r;

	switch (i->kind) {
	case ITEM_BRIDGE:
	case ITEM_VETH:
	case ITEM_TAP:
	case ITEM_PEERING:
		return make_link(n, i, router);
	case ITEM_LEG:
		return set_link(n, i);
	case ITEM_FDB:
		return change_fdb(n, i, RTM_NEWNEIGH, replace);
	case ITEM_SYSCTL:
		return netns_run(n, write_sysctl, (void *)i);
	case ITEM_UP:
		return set_up(n, i->name);
	case ITEM_ADDRESS:
		return change_address(n, i, RTM_NEWADDR, replace);
	case ITEM_NEIGHBOUR:
	case ITEM_PROXY:
		return change_neighbour(n, i, RTM_NEWNEIGH, replace);
	case ITEM_ROUTE:
		return change_route(n, i, RTM_NEWROUTE, replace);
	case ITEM_RULE:
		r = change_rule(n, i, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
		return r == -EEXIST ? 0 : r;
	default:
		return -EINVAL;
	}
}

static int is_gone(int r)
{
	return r == -ENOENT || r == -ENODEV || r == -ESRCH || r == -EADDRNOTAVAIL;
}

int netns_remove(const struct netns *n, const struct item *i)
{
	int r = 0;

	switch (i->kind) {
	case ITEM_PEERING:
		r = remove_link(n, i->name);
		break;
	case ITEM_FDB:
		r = change_fdb(n, i, RTM_DELNEIGH, 0);
		break;
	case ITEM_ADDRESS:
		r = change_address(n, i, RTM_DELADDR, 0);
		break;
	case ITEM_NEIGHBOUR:
	case ITEM_PROXY:
		r = change_neighbour(n, i, RTM_DELNEIGH, 0);
		break;
	case ITEM_ROUTE:
		r = change_route(n, i, RTM_DELROUTE, 0);
		break;
	case ITEM_RULE:
		r = change_rule(n, i, RTM_DELRULE, 0);
		break;
	default:
		break; /* links go together (netns_remove_links); a sysctl and being up cannot go */
	}
	return is_gone(r) ? 0 : r;
}
