/* Watch: foreign changes to a namespace, by netlink's notifications. */
#include "watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/epoll.h>
#include "plan.h"

struct watch {
	const struct netns *netns, *host;
	struct nl_sock *route, *filter;
	sd_event_source *sources[2];
	struct watch_calls calls;
	int is_changed;
};

static int is_ours(const struct watch *w, const struct nlmsghdr *h)
{
	return h->nlmsg_pid && (h->nlmsg_pid == nl_socket_get_local_port(w->netns->route) ||
				h->nlmsg_pid == nl_socket_get_local_port(w->host->route));
}

static int is_our_name(const struct nlattr *name)
{
	return name && strlen(nla_get_string(name)) == IFNAMSIZ - 1 &&
	       strchr("tlgx", *nla_get_string(name)) != NULL;
}

/* News of a bridge's port do not carry its group: our ports' names have a form of their own. */
static int is_our_link(struct nlmsghdr *h)
{
	const struct ifinfomsg *m = nlmsg_data(h);
	struct nlattr *a[IFLA_MAX + 1];

	if (nlmsg_parse(h, sizeof *m, a, IFLA_MAX, NULL) < 0)
		return 0;
	if (m->ifi_family == AF_BRIDGE)
		return is_our_name(a[IFLA_IFNAME]);
	return a[IFLA_GROUP] && nla_get_u32(a[IFLA_GROUP]) == PLAN_GROUP;
}

/* In the host's namespace most of what happens is none of our business. */
static int concerns_host(struct nlmsghdr *h)
{
	struct nlattr *route[RTA_MAX + 1], *address[IFA_MAX + 1];
	const struct rtmsg *m = nlmsg_data(h);

	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		return is_our_link(h);
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		return nlmsg_parse(h, sizeof *m, route, RTA_MAX, NULL) == 0 &&
		       m->rtm_table != RT_TABLE_LOCAL &&
		       (m->rtm_protocol == PLAN_PROTOCOL || m->rtm_dst_len == 0);
	case RTM_DELADDR:
		return nlmsg_parse(h, sizeof(struct ifaddrmsg), address, IFA_MAX, NULL) == 0 &&
		       is_our_name(address[IFA_LABEL]);
	default:
		return 0;
	}
}

/* The link that is to be looked at for this piece of news, 0: none. A bridge says of no entry who
 * asked for its end. */
static int doubtful_link(const struct watch *w, struct nlmsghdr *h)
{
	const struct ifinfomsg *link = nlmsg_data(h);
	const struct ndmsg *entry = nlmsg_data(h);

	if (!w->calls.on_doubt || h->nlmsg_pid)
		return 0;
	/* One that leaves its bridge is there still, or its own end is told, too. */
	if (h->nlmsg_type == RTM_NEWLINK ||
	    (h->nlmsg_type == RTM_DELLINK && link->ifi_family == AF_BRIDGE))
		return is_our_link(h) ? link->ifi_index : 0;
	return h->nlmsg_type == RTM_DELNEIGH && entry->ndm_family == AF_BRIDGE &&
			       entry->ndm_state == NUD_NOARP
		       ? entry->ndm_ifindex
		       : 0;
}

static int concerns_neighbour(const struct watch *w, struct nlmsghdr *h)
{
	const struct ndmsg *m = nlmsg_data(h);
	struct nlattr *a[NDA_MAX + 1];
	struct address address;

	/* FAILED: so a deleted entry says goodbye */
	if (!(m->ndm_state & (NUD_PERMANENT | NUD_FAILED)))
		return 0;
	return h->nlmsg_pid || h->nlmsg_type != RTM_DELNEIGH || !w->calls.is_neighbour ||
	       nlmsg_parse(h, sizeof *m, a, NDA_MAX, NULL) < 0 ||
	       netlink_address(a[NDA_DST], m->ndm_family, &address) < 0 ||
	       w->calls.is_neighbour(&address, w->calls.arg);
}

static int concerns_router(const struct watch *w, struct nlmsghdr *h)
{
	return h->nlmsg_type == RTM_NEWNEIGH || h->nlmsg_type == RTM_DELNEIGH
		       ? concerns_neighbour(w, h)
		       : 1;
}

static int on_route(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *h = nlmsg_hdr(msg);
	struct watch *w = arg;
	int link = doubtful_link(w, h);

	if (link)
		w->calls.on_doubt(link, w->calls.arg);
	else if (!is_ours(w, h))
		w->is_changed |= w->netns->name[0] ? concerns_router(w, h) : concerns_host(h);
	return NL_OK;
}

static int on_filter(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *h = nlmsg_hdr(msg);
	struct nlattr *a[NFTA_GEN_MAX + 1];
	struct watch *w = arg;

	/* Each transaction ends with its number. */
	if ((h->nlmsg_type & 0xff) == NFT_MSG_NEWGEN &&
	    nlmsg_parse(h, sizeof(struct nfgenmsg), a, NFTA_GEN_MAX, NULL) == 0 && a[NFTA_GEN_ID] &&
	    ntohl(nla_get_u32(a[NFTA_GEN_ID])) >
		    __atomic_load_n(&w->netns->own_generation, __ATOMIC_RELAXED))
		w->is_changed = 1;
	return NL_OK;
}

static int on_event(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct watch *w = arg;
	struct nl_sock *s = source == w->sources[0] ? w->route : w->filter;
	int r;

	(void)fd, (void)events;
	do
		r = nl_recvmsgs_default(s);
	while (r >= 0);
	if (r != -NLE_AGAIN)
		w->is_changed = 1; /* some were lost */
	if (w->is_changed)
		w->calls.on_change(w->calls.arg);
	w->is_changed = 0;
	return 0;
}

static int subscribe(void *arg)
{
	static const int host_groups[] = {RTNLGRP_LINK,	       RTNLGRP_NEIGH,
					  RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
					  RTNLGRP_IPV6_ROUTE,  0};
	static const int router_groups[] = {
		RTNLGRP_LINK,	    RTNLGRP_NEIGH,     RTNLGRP_IPV4_IFADDR,
		RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR,
		RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE, 0};
	static const int filter_groups[] = {NFNLGRP_NFTABLES, 0};
	struct watch *w = arg;
	int r = netlink_subscribe(NETLINK_ROUTE, w->netns->name[0] ? router_groups : host_groups,
				  &w->route);

	return r < 0 ? r : netlink_subscribe(NETLINK_NETFILTER, filter_groups, &w->filter);
}

static int listen_to(struct watch *w, sd_event *loop, int i, struct nl_sock *s,
		     nl_recvmsg_msg_cb_t on_message)
{
	nl_socket_disable_seq_check(s);
	if (nl_socket_modify_cb(s, NL_CB_VALID, NL_CB_CUSTOM, on_message, w) < 0)
		return -EIO;
	return sd_event_add_io(loop, &w->sources[i], nl_socket_get_fd(s), EPOLLIN, on_event, w);
}

int watch_new(sd_event *loop, const struct netns *n, const struct netns *host,
	      const struct watch_calls *calls, struct watch **ret_watch)
{
	OWN(watch_free) struct watch *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return -ENOMEM;
	w->netns = n;
	w->host = host;
	w->calls = *calls;
	if ((r = netns_run(n, subscribe, w)) < 0 ||
	    (r = listen_to(w, loop, 0, w->route, on_route)) < 0 ||
	    (r = listen_to(w, loop, 1, w->filter, on_filter)) < 0)
		return r;
	*ret_watch = give(w);
	return 0;
}

void watch_free(struct watch *w)
{
	for (size_t i = 0; i < 2; i++)
		sd_event_source_disable_unref(w->sources[i]);
	nl_socket_free(w->route);
	nl_socket_free(w->filter);
	free(w);
}
