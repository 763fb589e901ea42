/* Connections of a namespace: flows that must not outlive the address they were made for are
 * forgotten. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>
#include "netns.h"

/* What the kernel needs to find a flow again: its original tuple and id, as they came. */
struct stale {
	uint8_t tuple[128];
	int n_tuple;
	uint32_t id;
	uint8_t family;
};

struct search {
	int (*is_stale)(const struct flow *f, void *arg);
	void *arg;
	struct stale *found;
	size_t n, n_room;
};

static int read_tuple(struct nlattr *tuple, struct address *ret_source,
		      struct address *ret_destination)
{
	struct nlattr *a[CTA_TUPLE_MAX + 1], *ip[CTA_IP_MAX + 1];
	int r;

	if (!tuple || nla_parse_nested(a, CTA_TUPLE_MAX, tuple, NULL) < 0 || !a[CTA_TUPLE_IP] ||
	    nla_parse_nested(ip, CTA_IP_MAX, a[CTA_TUPLE_IP], NULL) < 0)
		return -EINVAL;
	r = netlink_address_of(ip[CTA_IP_V4_SRC], ip[CTA_IP_V6_SRC], ret_source);
	return r < 0 ? r
		     : netlink_address_of(ip[CTA_IP_V4_DST], ip[CTA_IP_V6_DST], ret_destination);
}

static int on_flow(struct nlmsghdr *h, void *arg)
{
	struct search *s = arg;
	struct nlattr *a[CTA_MAX + 1];
	struct stale *found;
	struct flow f;

	if (nlmsg_parse(h, sizeof(struct nfgenmsg), a, CTA_MAX, NULL) < 0 ||
	    read_tuple(a[CTA_TUPLE_ORIG], &f.source, &f.destination) < 0 ||
	    read_tuple(a[CTA_TUPLE_REPLY], &f.reply_source, &f.reply_destination) < 0 ||
	    nla_len(a[CTA_TUPLE_ORIG]) > (int)sizeof found->tuple || !s->is_stale(&f, s->arg))
		return 0;
	if (s->n == s->n_room) {
		size_t n_room = s->n_room ? s->n_room * 2 : 64;

		found = realloc(s->found, n_room * sizeof *found);
		if (!found)
			return -ENOMEM;
		s->found = found;
		s->n_room = n_room;
	}
	found = &s->found[s->n++];
	found->n_tuple = nla_len(a[CTA_TUPLE_ORIG]);
	memcpy(found->tuple, nla_data(a[CTA_TUPLE_ORIG]), (size_t)found->n_tuple);
	found->family = f.source.family;
	found->id = a[CTA_ID] ? nla_get_u32(a[CTA_ID]) : 0;
	return 0;
}

static void restart(void *arg)
{
	((struct search *)arg)->n = 0;
}

int conntrack_forget(const struct netns *n, int (*is_stale)(const struct flow *f, void *arg),
		     void *arg)
{
	struct nfgenmsg h = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0};
	struct search s = {.is_stale = is_stale, .arg = arg};
	int r = netlink_dump(
		n->filter,
		netlink_message(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, 0, &h, sizeof h),
		on_flow, restart, &s);

	for (size_t i = 0; r == 0 && i < s.n; i++) {
		struct nl_msg *m;

		h.nfgen_family = s.found[i].family;
		m = netlink_message(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, &h,
				    sizeof h);
		if (m) {
			nla_put(m, CTA_TUPLE_ORIG | NLA_F_NESTED, s.found[i].n_tuple,
				s.found[i].tuple);
			if (s.found[i].id)
				nla_put_u32(m, CTA_ID, s.found[i].id);
		}
		r = netlink_request(n->filter, m);
		if (r == -ENOENT)
			r = 0; /* it ended by itself */
	}
	free(s.found);
	return r < 0 ? r : (int)s.n;
}
