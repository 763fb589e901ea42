/* Flow capture: NFLOG and connection tracking by netlink. */
#include "flow-capture.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <string.h>
#include <sys/socket.h>

#define COPY_BYTES 256	     /* of a rejected packet: its headers */
#define QUEUE	   64	     /* packets that the kernel sends together … */
#define QUEUE_CS   20	     /* … or after so many hundredths of a second */
#define BUFFER	   (4 << 20) /* of each socket: what is more is lost, and said so */

enum { TCP_FLAG_FIN = 1, TCP_FLAG_SYN = 2, TCP_FLAG_RST = 4, TCP_FLAG_SYN_ACK = 18 };

/* ---- rejected packets ---- */

struct packet {
	const uint8_t *at;
	size_t n;
};

static int read_ports(const struct packet *p, size_t header, struct flow_count *c)
{
	const uint8_t *t = p->at + header;

	if ((c->protocol == IPPROTO_ICMP || c->protocol == IPPROTO_ICMPV6) && p->n >= header + 2)
		memcpy(c->icmp, t, sizeof c->icmp);
	if (c->protocol != IPPROTO_TCP && c->protocol != IPPROTO_UDP)
		return 0;
	if (p->n < header + (c->protocol == IPPROTO_TCP ? 14 : 4))
		return 0;
	c->source_port = (uint16_t)(t[0] << 8 | t[1]);
	c->destination_port = (uint16_t)(t[2] << 8 | t[3]);
	if (c->protocol == IPPROTO_TCP && (t[13] & TCP_FLAG_SYN))
		c->tcp_flags[0] = t[13] & TCP_FLAG_SYN_ACK;
	else if (c->protocol == IPPROTO_TCP)
		c->tcp_flags[0] = t[13] & (TCP_FLAG_FIN | TCP_FLAG_RST);
	return 0;
}

static int read_packet4(const struct packet *p, struct flow_count *c)
{
	size_t header = (size_t)(p->at[0] & 15) * 4;

	if (p->n < 20 || header < 20 || p->n < header)
		return -EINVAL;
	c->source.family = c->destination.family = AF_INET;
	memcpy(c->source.bytes, p->at + 12, 4);
	memcpy(c->destination.bytes, p->at + 16, 4);
	c->protocol = p->at[9];
	c->bytes[0] = (uint64_t)(p->at[2] << 8 | p->at[3]);
	/* Only a packet's first fragment has ports; the router puts them together before it
	 * decides. */
	return read_ports(p, header, c);
}

/* Bytes of the extension header at `at`, 0: it is none. RFC 8200, 4; RFC 4302, 2.2. */
static size_t extension_size(const struct packet *p, size_t at, uint8_t protocol)
{
	switch (protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		return ((size_t)p->at[at + 1] + 1) * 8;
	case IPPROTO_AH:
		return ((size_t)p->at[at + 1] + 2) * 4;
	case IPPROTO_FRAGMENT:
		return 8;
	}
	return 0;
}

/* Where the protocol's own header begins, behind all extension headers, as the kernel's rules see
 * it. The number of a header that was not copied whole is the best that can be said; a fragment
 * that is not the first has no header of the protocol: `p->n` is returned for both. */
static size_t skip_extensions(const struct packet *p, uint8_t *protocol)
{
	size_t at = 40, n;

	while (at + 8 <= p->n && (n = extension_size(p, at, *protocol)) > 0) {
		int is_later = *protocol == IPPROTO_FRAGMENT &&
			       ((p->at[at + 2] << 8 | p->at[at + 3]) & 0xfff8);

		*protocol = p->at[at];
		if (is_later || at + n > p->n)
			return p->n;
		at += n;
	}
	return at;
}

static int read_packet6(const struct packet *p, struct flow_count *c)
{
	size_t header;

	if (p->n < 40)
		return -EINVAL;
	c->source.family = c->destination.family = AF_INET6;
	memcpy(c->source.bytes, p->at + 8, 16);
	memcpy(c->destination.bytes, p->at + 24, 16);
	c->protocol = p->at[6];
	c->bytes[0] = 40 + (uint64_t)(p->at[4] << 8 | p->at[5]);
	header = skip_extensions(p, &c->protocol);
	return read_ports(p, header, c);
}

int flow_read_reject(struct nlmsghdr *h, struct flow_count *ret_count)
{
	struct nlattr *a[NFULA_MAX + 1];
	struct flow_count c = {.packets = {1}};
	struct packet p;
	int r;

	if (h->nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET) ||
	    nlmsg_parse(h, sizeof(struct nfgenmsg), a, NFULA_MAX, NULL) < 0 || !a[NFULA_PAYLOAD] ||
	    !a[NFULA_PREFIX])
		return -EINVAL;
	p = (struct packet){nla_data(a[NFULA_PAYLOAD]), (size_t)nla_len(a[NFULA_PAYLOAD])};
	if (p.n < 1)
		return -EINVAL;
	c.verdict = strcmp(nla_get_string(a[NFULA_PREFIX]), "in") == 0 ? FLOW_REJECT_IN
								       : FLOW_REJECT_OUT;
	r = p.at[0] >> 4 == 6 ? read_packet6(&p, &c) : read_packet4(&p, &c);
	if (r == 0)
		*ret_count = c;
	return r;
}

/* ---- accepted flows ---- */

struct tuple {
	struct address source, destination;
	uint16_t ports[2];
	uint8_t protocol;
};

static uint16_t port_of(const struct nlattr *a)
{
	return a ? ntohs(nla_get_u16(a)) : 0;
}

static int read_tuple(struct nlattr *tuple, struct tuple *t)
{
	struct nlattr *a[CTA_TUPLE_MAX + 1], *ip[CTA_IP_MAX + 1], *proto[CTA_PROTO_MAX + 1];

	if (!tuple || nla_parse_nested(a, CTA_TUPLE_MAX, tuple, NULL) < 0 || !a[CTA_TUPLE_IP] ||
	    !a[CTA_TUPLE_PROTO] || nla_parse_nested(ip, CTA_IP_MAX, a[CTA_TUPLE_IP], NULL) < 0 ||
	    nla_parse_nested(proto, CTA_PROTO_MAX, a[CTA_TUPLE_PROTO], NULL) < 0 ||
	    !proto[CTA_PROTO_NUM])
		return -EINVAL;
	t->protocol = nla_get_u8(proto[CTA_PROTO_NUM]);
	t->ports[0] = port_of(proto[CTA_PROTO_SRC_PORT]);
	t->ports[1] = port_of(proto[CTA_PROTO_DST_PORT]);
	if (netlink_address_of(ip[CTA_IP_V4_SRC], ip[CTA_IP_V6_SRC], &t->source) < 0)
		return -EINVAL;
	return netlink_address_of(ip[CTA_IP_V4_DST], ip[CTA_IP_V6_DST], &t->destination);
}

static uint64_t u64_of(struct nlattr *nest, int type, int max)
{
	struct nlattr *a[8];

	if (!nest || nla_parse_nested(a, max, nest, NULL) < 0 || !a[type])
		return 0;
	return be64toh(nla_get_u64(a[type]));
}

static void read_counts(struct nlattr *nest, int way, struct flow_count *c)
{
	c->packets[way] = u64_of(nest, CTA_COUNTERS_PACKETS, CTA_COUNTERS_MAX);
	c->bytes[way] = u64_of(nest, CTA_COUNTERS_BYTES, CTA_COUNTERS_MAX);
}

/* What the state says of the flags that must have been seen. A reset leaves no trace. */
static void read_flags(struct nlattr *info, struct flow_count *c)
{
	struct nlattr *a[CTA_PROTOINFO_MAX + 1], *tcp[CTA_PROTOINFO_TCP_MAX + 1];
	uint8_t state;

	if (!info || nla_parse_nested(a, CTA_PROTOINFO_MAX, info, NULL) < 0 ||
	    !a[CTA_PROTOINFO_TCP] ||
	    nla_parse_nested(tcp, CTA_PROTOINFO_TCP_MAX, a[CTA_PROTOINFO_TCP], NULL) < 0 ||
	    !tcp[CTA_PROTOINFO_TCP_STATE])
		return;
	state = nla_get_u8(tcp[CTA_PROTOINFO_TCP_STATE]);
	if (state == TCP_CONNTRACK_LAST_ACK || state == TCP_CONNTRACK_TIME_WAIT)
		c->tcp_flags[0] = c->tcp_flags[1] = TCP_FLAG_FIN;
}

int flow_read_end(struct nlmsghdr *h, struct flow_count *ret_count)
{
	struct nlattr *a[CTA_MAX + 1];
	struct flow_count c = {.verdict = FLOW_ACCEPT};
	struct tuple original, reply;

	if (h->nlmsg_type >> 8 != NFNL_SUBSYS_CTNETLINK ||
	    nlmsg_parse(h, sizeof(struct nfgenmsg), a, CTA_MAX, NULL) < 0 ||
	    read_tuple(a[CTA_TUPLE_ORIG], &original) < 0 ||
	    read_tuple(a[CTA_TUPLE_REPLY], &reply) < 0)
		return -EINVAL;
	c.source = original.source;
	c.destination = reply.source;
	c.source_port = original.ports[0];
	c.destination_port = reply.ports[0];
	c.protocol = original.protocol;
	c.is_translated = !ip_is(&original.source, &reply.destination) ||
			  !ip_is(&original.destination, &reply.source);
	read_counts(a[CTA_COUNTERS_ORIG], 0, &c);
	read_counts(a[CTA_COUNTERS_REPLY], 1, &c);
	if (!c.packets[0] && !c.packets[1])
		return -EINVAL;
	c.first = (int64_t)(u64_of(a[CTA_TIMESTAMP], CTA_TIMESTAMP_START, CTA_TIMESTAMP_MAX) /
			    1000000000u);
	c.last = (int64_t)(u64_of(a[CTA_TIMESTAMP], CTA_TIMESTAMP_STOP, CTA_TIMESTAMP_MAX) /
			   1000000000u);
	read_flags(a[CTA_PROTOINFO], &c);
	*ret_count = c;
	return 0;
}

struct dumping {
	void (*each)(void *arg, const struct flow_count *c);
	void *arg;
};

static int on_dumped(struct nlmsghdr *h, void *arg)
{
	struct dumping *d = arg;
	struct flow_count c;

	if (flow_read_end(h, &c) == 0)
		d->each(d->arg, &c);
	return 0;
}

int flow_dump(struct nl_sock *dump, void (*each)(void *arg, const struct flow_count *c), void *arg)
{
	struct nfgenmsg h = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0};
	struct dumping d = {each, arg};

	/* Asked again after a disturbance, it gives only what came since: nothing is counted twice.
	 */
	return netlink_dump(dump,
			    netlink_message(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_CTRZERO,
					    0, &h, sizeof h),
			    on_dumped, NULL, &d);
}

/* ---- sockets ---- */

static int configure(struct nl_sock *s, int attribute, const void *value, int n)
{
	struct nfgenmsg h = {.nfgen_family = AF_UNSPEC,
			     .version = NFNETLINK_V0,
			     .res_id = htons(FLOW_NFLOG_GROUP)};
	struct nl_msg *m =
		netlink_message(NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG, 0, &h, sizeof h);

	if (m)
		nla_put(m, attribute, n, value);
	return netlink_request(s, m);
}

static int bind_rejects(struct nl_sock *s)
{
	const struct nfulnl_msg_config_cmd bind = {.command = NFULNL_CFG_CMD_BIND};
	const struct nfulnl_msg_config_mode mode = {.copy_range = htonl(COPY_BYTES),
						    .copy_mode = NFULNL_COPY_PACKET};
	const uint32_t queue = htonl(QUEUE), timeout = htonl(QUEUE_CS);
	int r;

	if ((r = configure(s, NFULA_CFG_CMD, &bind, sizeof bind)) < 0 ||
	    (r = configure(s, NFULA_CFG_MODE, &mode, sizeof mode)) < 0 ||
	    (r = configure(s, NFULA_CFG_QTHRESH, &queue, sizeof queue)) < 0)
		return r;
	return configure(s, NFULA_CFG_TIMEOUT, &timeout, sizeof timeout);
}

static void make_room(struct nl_sock *s)
{
	const int n = BUFFER;

	/* Best effort: with less room, more is lost under load, and said so. */
	(void)setsockopt(nl_socket_get_fd(s), SOL_SOCKET, SO_RCVBUFFORCE, &n, sizeof n);
}

static int open_inside(void *arg)
{
	static const int ends[] = {NFNLGRP_CONNTRACK_DESTROY, 0};
	struct flow_sockets *s = arg;
	int r;

	if ((r = netlink_open(NETLINK_NETFILTER, &s->dump)) < 0 ||
	    (r = netlink_open(NETLINK_NETFILTER, &s->rejects)) < 0 ||
	    (r = bind_rejects(s->rejects)) < 0 ||
	    (r = netlink_subscribe(NETLINK_NETFILTER, ends, &s->ends)) < 0)
		return r;
	make_room(s->rejects);
	make_room(s->ends);
	(void)nl_socket_set_msg_buf_size(s->ends, 1 << 16); /* the default does, too */
	return nl_socket_set_nonblocking(s->rejects) < 0 ? -EIO : 0;
}

int flow_sockets_open(const struct netns *n, struct flow_sockets *ret_sockets)
{
	struct flow_sockets s = {0};
	int r = netns_run(n, open_inside, &s);

	if (r < 0)
		flow_sockets_close(&s);
	else
		*ret_sockets = s;
	return r;
}

void flow_sockets_close(struct flow_sockets *s)
{
	nl_socket_free(s->rejects);
	nl_socket_free(s->ends);
	nl_socket_free(s->dump);
	*s = (struct flow_sockets){0};
}
