/* DHCP inside a VPC. */
#include "dhcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SERVER_PORT 67
#define CLIENT_PORT 68
#define LEASE_SEC   3600
#define BATCH	    64 /* datagrams per turn of the loop: a flood does not stop the daemon */

/* RFC 2131, figure 1 */
enum {
	AT_OP = 0,
	AT_HTYPE = 1,
	AT_HLEN = 2,
	AT_XID = 4,
	AT_FLAGS = 10,
	AT_CIADDR = 12,
	AT_YIADDR = 16,
	AT_GIADDR = 24,
	AT_CHADDR = 28,
	AT_COOKIE = 236,
	AT_OPTIONS = 240
};
enum { BOOTREQUEST = 1, BOOTREPLY = 2 };
enum { FLAG_BROADCAST = 0x8000 };
#define MESSAGE_MIN 300 /* RFC 951's size: some clients drop what is shorter */
static const uint8_t cookie[4] = {99, 130, 83, 99};

enum { DISCOVER = 1, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM };

/* RFC 2132 */
enum {
	OPTION_PAD = 0,
	OPTION_MASK = 1,
	OPTION_ROUTER = 3,
	OPTION_DNS = 6,
	OPTION_HOST_NAME = 12,
	OPTION_DOMAIN = 15,
	OPTION_MTU = 26,
	OPTION_BROADCAST = 28,
	OPTION_NTP = 42,
	OPTION_NETBIOS_SERVERS = 44,
	OPTION_NETBIOS_NODE = 46,
	OPTION_ADDRESS = 50,
	OPTION_LEASE = 51,
	OPTION_TYPE = 53,
	OPTION_SERVER = 54,
	OPTION_RENEWAL = 58,
	OPTION_REBINDING = 59,
	OPTION_END = 255
};

struct question {
	const uint8_t *message;
	uint8_t type;
	uint16_t flags;
	uint32_t ciaddr, giaddr;
	uint32_t requested, server; /* 0: not said */
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24), p[1] = (uint8_t)(v >> 16), p[2] = (uint8_t)(v >> 8),
	p[3] = (uint8_t)v;
}

static int read_options(const uint8_t *p, const uint8_t *end, struct question *q)
{
	while (p < end && *p != OPTION_END) {
		if (*p == OPTION_PAD) {
			p++;
			continue;
		}
		if (end - p < 2 || end - p < 2 + p[1])
			return -EINVAL;
		if (p[0] == OPTION_TYPE && p[1] == 1)
			q->type = p[2];
		else if (p[0] == OPTION_ADDRESS && p[1] == 4)
			q->requested = get32(p + 2);
		else if (p[0] == OPTION_SERVER && p[1] == 4)
			q->server = get32(p + 2);
		p += 2 + p[1];
	}
	return q->type ? 0 : -EINVAL; /* BOOTP has no type; we do not speak it */
}

static int read_question(const uint8_t *message, size_t n, struct question *q)
{
	if (n < AT_OPTIONS || message[AT_OP] != BOOTREQUEST || message[AT_HTYPE] != 1 ||
	    message[AT_HLEN] != 6 || memcmp(message + AT_COOKIE, cookie, sizeof cookie) != 0)
		return -EINVAL;
	*q = (struct question){.message = message,
			       .flags = get16(message + AT_FLAGS),
			       .ciaddr = get32(message + AT_CIADDR),
			       .giaddr = get32(message + AT_GIADDR)};
	return read_options(message + AT_OPTIONS, message + n, q);
}

static const struct plan_guest *find_guest(const struct plan *plan, const char *leg,
					   const uint8_t *mac)
{
	for (size_t i = 0; i < plan->n_guests; i++) {
		const struct plan_guest *g = &plan->guests[i];

		if (g->is_primary && memcmp(g->mac, mac, 6) == 0 && strcmp(g->leg, leg) == 0)
			return g;
	}
	return NULL;
}

/* What to answer: OFFER, ACK, NAK, or 0 for silence. RFC 2131, 4.3. */
static uint8_t decide(const struct question *q, const struct plan_guest *g)
{
	uint32_t asked = q->requested ? q->requested : q->ciaddr;

	if (q->giaddr)
		return 0; /* there are no relays in a VPC */
	switch (q->type) {
	case DISCOVER:
		return OFFER;
	case REQUEST:
		if ((q->server && q->server != g->gateway) || !asked)
			return 0;
		return asked == g->address ? ACK : NAK;
	case INFORM:
		return ACK;
	default:
		return 0; /* RELEASE, DECLINE: the address stays its interface's */
	}
}

/* ---- writing ---- */

struct writer {
	uint8_t *at, *end;
};

static void option(struct writer *w, uint8_t code, const void *value, size_t n)
{
	if (n == 0 || n > 255 ||
	    (size_t)(w->end - w->at) < n + 3) /* 3: head, and room for the end */
		return;
	*w->at++ = code;
	*w->at++ = (uint8_t)n;
	memcpy(w->at, value, n);
	w->at += n;
}

static void option32(struct writer *w, uint8_t code, uint32_t value)
{
	uint8_t v[4];

	put32(v, value);
	option(w, code, v, sizeof v);
}

static void option_list(struct writer *w, uint8_t code, const uint32_t *values, size_t n)
{
	uint8_t v[4 * 4];

	for (size_t i = 0; i < n; i++)
		put32(v + 4 * i, values[i]);
	option(w, code, v, 4 * n);
}

static void write_lease(struct writer *w)
{
	option32(w, OPTION_LEASE, LEASE_SEC);
	option32(w, OPTION_RENEWAL, LEASE_SEC / 2);
	option32(w, OPTION_REBINDING, LEASE_SEC / 8 * 7);
}

/* The mask comes before the router (RFC 2132, 3.3); what a client can do without comes last, should
 * there be no room. */
static void write_configuration(struct writer *w, const struct plan *plan,
				const struct plan_guest *g)
{
	uint32_t mask = g->plen ? ~0u << (32 - g->plen) : 0;
	const char *host_name = g->is_resource_named ? g->instance : g->host_name;
	const uint8_t mtu[2] = {PLAN_MTU >> 8, PLAN_MTU & 255};

	option32(w, OPTION_MASK, mask);
	option32(w, OPTION_ROUTER, g->gateway);
	option_list(w, OPTION_DNS, plan->dns_servers, plan->n_dns_servers);
	option(w, OPTION_MTU, mtu, sizeof mtu);
	option(w, OPTION_HOST_NAME, host_name, strlen(host_name));
	option(w, OPTION_DOMAIN, plan->domain, strlen(plan->domain));
	option32(w, OPTION_BROADCAST, g->gateway | ~mask);
	option_list(w, OPTION_NTP, plan->ntp_servers, plan->n_ntp_servers);
	option_list(w, OPTION_NETBIOS_SERVERS, plan->netbios_servers, plan->n_netbios_servers);
	option(w, OPTION_NETBIOS_NODE, &plan->netbios_node, plan->netbios_node != 0);
}

static size_t write_answer(const struct plan *plan, const struct question *q,
			   const struct plan_guest *g, uint8_t type, uint8_t *out)
{
	struct writer w = {out + AT_OPTIONS,
			   out + DHCP_MESSAGE_MAX - 28}; /* IP and UDP headers come in front */

	memset(out, 0, DHCP_MESSAGE_MAX);
	memcpy(out, q->message, AT_CIADDR); /* op … flags */
	out[AT_OP] = BOOTREPLY;
	out[3] = 0; /* hops */
	memcpy(out + AT_CHADDR, q->message + AT_CHADDR, 16);
	memcpy(out + AT_COOKIE, cookie, sizeof cookie);
	option(&w, OPTION_TYPE, &type, 1);
	option32(&w, OPTION_SERVER, g->gateway);
	if (type != NAK) {
		put32(out + AT_CIADDR, q->type == DISCOVER ? 0 : q->ciaddr);
		put32(out + AT_YIADDR, q->type == INFORM ? 0 : g->address);
		if (q->type != INFORM)
			write_lease(&w);
		write_configuration(&w, plan, g);
	}
	*w.at++ = OPTION_END;
	return w.at - out < MESSAGE_MIN ? MESSAGE_MIN : (size_t)(w.at - out);
}

size_t dhcp_answer(const struct plan *plan, const char *leg, const uint8_t *message,
		   size_t n_message, uint8_t ret_answer[static DHCP_MESSAGE_MAX],
		   uint32_t *ret_destination, const struct plan_guest **ret_guest)
{
	const struct plan_guest *g;
	struct question q;
	uint8_t type;

	if (read_question(message, n_message, &q) < 0)
		return 0;
	g = find_guest(plan, leg, message + AT_CHADDR);
	type = g ? decide(&q, g) : 0;
	if (!type)
		return 0;
	*ret_guest = g;
	if (type == NAK || (!q.ciaddr && q.flags & FLAG_BROADCAST))
		*ret_destination = INADDR_BROADCAST;
	else
		*ret_destination = q.ciaddr ? q.ciaddr : g->address;
	return write_answer(plan, &q, g, type, ret_answer);
}

/* ---- on the wire ---- */

struct dhcp {
	const struct plan *plan;
	int in;	 /* UDP, in the router's namespace */
	int out; /* packets to one MAC: the kernel would broadcast, or ask who has an address that
		    nobody has yet */
	sd_event_source *source;
};

static uint16_t checksum(const void *data, size_t n)
{
	const uint8_t *p = data;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < n; i += 2)
		sum += get16(p + i);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void send_answer(const struct dhcp *d, int index, const struct plan_guest *g,
			uint32_t destination, const uint8_t *answer, size_t n)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET,
				 .sll_protocol = htons(ETH_P_IP),
				 .sll_ifindex = index,
				 .sll_halen = 6};
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP};
	struct udphdr udp = {.source = htons(SERVER_PORT),
			     .dest = htons(CLIENT_PORT)}; /* checksum 0: none */
	struct iovec parts[] = {{&ip, sizeof ip}, {&udp, sizeof udp}, {(void *)answer, n}};
	struct msghdr m = {
		.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = parts, .msg_iovlen = 3};

	memcpy(to.sll_addr, g->mac, 6);
	udp.len = htons((uint16_t)(sizeof udp + n));
	ip.tot_len = htons((uint16_t)(sizeof ip + sizeof udp + n));
	ip.saddr = htonl(g->gateway);
	ip.daddr = htonl(destination);
	ip.check = checksum(&ip, sizeof ip);
	(void)sendmsg(d->out, &m, 0); /* lost packets are the client's to ask for again */
}

/* A datagram and the leg it came from: bytes, 0 to be passed over, or -errno. */
static ssize_t receive(const struct dhcp *d, uint8_t *message, size_t n_room, int *ret_index,
		       char leg[static IFNAMSIZ])
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
	} control;
	struct iovec part = {message, n_room};
	struct msghdr m = {.msg_iov = &part,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof control};
	ssize_t n = recvmsg(d->in, &m, 0);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);
	struct ifreq request = {0};

	if (n < 0)
		return -errno;
	if (!c || c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_PKTINFO ||
	    m.msg_flags & MSG_TRUNC)
		return 0;
	request.ifr_ifindex = *ret_index = ((struct in_pktinfo *)(void *)CMSG_DATA(c))->ipi_ifindex;
	if (ioctl(d->in, SIOCGIFNAME, &request) < 0) /* the socket knows its namespace */
		return 0;
	memcpy(leg, request.ifr_name, IFNAMSIZ);
	return n;
}

static int on_datagram(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	uint8_t message[DHCP_MESSAGE_MAX], answer[DHCP_MESSAGE_MAX];
	const struct dhcp *d = arg;
	const struct plan_guest *guest;
	char leg[IFNAMSIZ];
	uint32_t destination;
	int index = 0;

	(void)source, (void)fd, (void)events;
	for (int i = 0; i < BATCH; i++) {
		ssize_t n = receive(d, message, sizeof message, &index, leg);
		size_t n_answer;

		if (n < 0)
			break;
		n_answer =
			dhcp_answer(d->plan, leg, message, (size_t)n, answer, &destination, &guest);
		if (n_answer)
			send_answer(d, index, guest, destination, answer, n_answer);
	}
	return 0;
}

static int bind_server(int fd)
{
	const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(SERVER_PORT)};
	const int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof address) < 0)
		return -errno;
	return 0;
}

int dhcp_new(sd_event *loop, const struct netns *n, const struct plan *plan, struct dhcp **ret_dhcp)
{
	OWN(dhcp_free) struct dhcp *d = calloc(1, sizeof *d);
	int r;

	if (!d)
		return -ENOMEM;
	d->plan = plan;
	d->out = -1;
	d->in = netns_socket(n, AF_INET, SOCK_DGRAM, 0);
	if (d->in < 0)
		return d->in;
	d->out = netns_socket(n, AF_PACKET, SOCK_DGRAM, 0);
	if (d->out < 0)
		return d->out;
	r = bind_server(d->in);
	if (r == 0)
		r = sd_event_add_io(loop, &d->source, d->in, EPOLLIN, on_datagram, d);
	if (r < 0)
		return r;
	*ret_dhcp = give(d);
	return 0;
}

void dhcp_set_plan(struct dhcp *d, const struct plan *plan)
{
	d->plan = plan;
}

void dhcp_free(struct dhcp *d)
{
	sd_event_source_disable_unref(d->source);
	own_fd_close(&d->in);
	own_fd_close(&d->out);
	free(d);
}
