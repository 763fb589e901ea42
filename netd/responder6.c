/* IPv6 inside a VPC: the socket of router advertisements, DHCPv6, and neighbour discovery of prefixes. */
#include "responder6.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "dhcp6.h"
#include "log.h"
#include "ra.h"

#define SERVER_PORT 547
#define CLIENT_PORT 546
#define BATCH	    64 /* packets per turn of the loop: a flood does not stop the daemon */
#define HEADER_SIZE 40
#define UDP_SIZE    8
#define ADVERT_SIZE 24 /* of neighbour discovery, and a solicitation's */
#define OPTION_SIZE 8
#define PACKET_MAX  1500

struct responder6 {
	const struct plan *plan;
	int fd;
	struct plan_guest6 *told; /* guests that know their router */
	size_t n_told;
	sd_event_source *source, *repeat;
	int hears_neighbours; /* the filter lets neighbour solicitations through */
};

/* fe80::1, as on every leg; ff02::1, all nodes */
static const struct in6_addr address_leg = {.s6_addr = {0xfe, 0x80, [15] = 1}},
			     address_all = {.s6_addr = {0xff, 0x02, [15] = 1}};

/* Of what passes through the namespace only router solicitations and DHCPv6 questions wake the
 * daemon, and neighbour solicitations where an interface has a prefix (see listen_for()). Offsets from
 * the IPv6 header; none of them has extension headers in front. */
#define AT_NEIGHBOUR 4
static const struct sock_filter wanted[] = {
	BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 6),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMPV6, 0, 3),
	BPF_STMT(BPF_LD | BPF_B | BPF_ABS, HEADER_SIZE),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ND_ROUTER_SOLICIT, 4, 0),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ND_NEIGHBOR_SOLICIT, 3, 4),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 3),
	BPF_STMT(BPF_LD | BPF_H | BPF_ABS, HEADER_SIZE + 2),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SERVER_PORT, 0, 1),
	BPF_STMT(BPF_RET | BPF_K, PACKET_MAX),
	BPF_STMT(BPF_RET | BPF_K, 0),
};

/* ---- sending ---- */

static uint32_t sum(uint32_t so_far, const void *data, size_t n)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i++)
		so_far += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	return so_far;
}

static uint16_t checksum(const struct ip6_hdr *ip, const void *payload, size_t n)
{
	uint32_t s = (uint32_t)n + ip->ip6_nxt;

	s = sum(s, &ip->ip6_src, 32); /* and the destination after it */
	s = sum(s, payload, n);
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	s = ~s & 0xffff;
	return htons(s ? (uint16_t)s : 0xffff);
}

/* `payload` from its transport header on; the checksum goes to `at_checksum` of it. */
static void send_to(const struct responder6 *r, int index, const uint8_t mac[static 6],
		    struct in6_addr destination, uint8_t protocol, uint8_t *payload, size_t n,
		    size_t at_checksum)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET,
				 .sll_protocol = htons(ETH_P_IPV6),
				 .sll_ifindex = index,
				 .sll_halen = 6};
	struct ip6_hdr ip = {.ip6_src = address_leg, .ip6_dst = destination};
	struct iovec parts[] = {{&ip, sizeof ip}, {payload, n}};
	struct msghdr m = {
		.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = parts, .msg_iovlen = 2};
	uint16_t check;

	ip.ip6_flow = htonl(6u << 28);
	ip.ip6_plen = htons((uint16_t)n);
	ip.ip6_nxt = protocol;
	ip.ip6_hlim = 255; /* RFC 4861: a sign that it was not forwarded */
	memcpy(to.sll_addr, mac, 6);
	check = checksum(&ip, payload, n);
	memcpy(payload + at_checksum, &check, sizeof check);
	(void)sendmsg(r->fd, &m, 0); /* lost packets are the guest's to ask for again */
}

static void advertise(const struct responder6 *r, int index, const struct plan_guest6 *g,
		      struct in6_addr destination)
{
	uint8_t message[RA_MESSAGE_MAX];
	size_t n = ra_write(g, message);

	send_to(r, index, g->mac, destination, IPPROTO_ICMPV6, message, n, 2);
}

/* ---- receiving ---- */

static const struct plan_guest6 *find_guest(const struct plan_guest6 *guests, size_t n,
					    const char *leg, const uint8_t *mac)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(guests[i].mac, mac, 6) == 0 && strcmp(guests[i].leg, leg) == 0)
			return &guests[i];
	return NULL;
}

static void on_solicitation(const struct responder6 *r, int index, const char *leg,
			    const uint8_t *mac, const struct ip6_hdr *ip)
{
	const struct plan_guest6 *g = find_guest(r->plan->guests6, r->plan->n_guests6, leg, mac);

	if (g)
		advertise(r, index, g,
			  IN6_IS_ADDR_UNSPECIFIED(&ip->ip6_src) ? address_all : ip->ip6_src);
}

/* The kernel answers for single addresses (ITEM_PROXY), this for those of prefixes: every guest of
 * the subnet finds them behind the router. Not questions for duplicates, whose sender has no address:
 * nobody else can have it. */
static void on_neighbour(const struct responder6 *r, int index, const char *leg, const uint8_t *mac,
			 const struct ip6_hdr *ip, const uint8_t *message)
{
	const struct plan *p = r->plan;
	struct nd_neighbor_advert head = {.nd_na_type = ND_NEIGHBOR_ADVERT,
					  .nd_na_flags_reserved = ND_NA_FLAG_SOLICITED};
	uint8_t answer[ADVERT_SIZE + OPTION_SIZE] = {0};
	int is_there = 0;

	memcpy(&head.nd_na_target, message + 8, 16);
	for (size_t i = 0; i < p->n_guests6 && !is_there; i++) {
		const struct plan_guest6 *g = &p->guests6[i];

		is_there = g->bits && strcmp(g->leg, leg) == 0 &&
			   cidr6_has((struct cidr6){g->address, g->bits}, head.nd_na_target);
	}
	if (!is_there || IN6_IS_ADDR_UNSPECIFIED(&ip->ip6_src) ||
	    !find_guest(p->guests6, p->n_guests6, leg, mac))
		return;
	memcpy(answer, &head, ADVERT_SIZE);
	answer[ADVERT_SIZE] = ND_OPT_TARGET_LINKADDR;
	answer[ADVERT_SIZE + 1] = OPTION_SIZE / 8;
	memcpy(answer + ADVERT_SIZE + 2, plan_leg_mac, 6);
	send_to(r, index, mac, ip->ip6_src, IPPROTO_ICMPV6, answer, sizeof answer, 2);
}

static void on_question(const struct responder6 *r, int index, const char *leg, const uint8_t *mac,
			const struct ip6_hdr *ip, const uint8_t *udp, size_t n_udp)
{
	uint8_t answer[UDP_SIZE + DHCP6_MESSAGE_MAX];
	struct udphdr head = {.source = htons(SERVER_PORT), .dest = htons(CLIENT_PORT)};
	size_t n;

	if (n_udp < UDP_SIZE || !IN6_IS_ADDR_LINKLOCAL(&ip->ip6_src))
		return;
	n = dhcp6_answer(r->plan, leg, mac, udp + UDP_SIZE, n_udp - UDP_SIZE, answer + UDP_SIZE);
	if (!n)
		return;
	head.len = htons((uint16_t)(UDP_SIZE + n));
	memcpy(answer, &head, UDP_SIZE);
	send_to(r, index, mac, ip->ip6_src, IPPROTO_UDP, answer, UDP_SIZE + n, 6);
}

static void on_packet(const struct responder6 *r, const struct sockaddr_ll *from,
		      const uint8_t *packet, size_t n)
{
	struct ifreq request = {.ifr_ifindex = from->sll_ifindex};
	struct ip6_hdr ip;
	size_t n_payload;

	if (n < HEADER_SIZE || from->sll_halen != 6 || from->sll_pkttype == PACKET_OUTGOING ||
	    ioctl(r->fd, SIOCGIFNAME, &request) < 0) /* the socket knows its namespace */
		return;
	memcpy(&ip, packet, sizeof ip);
	n_payload = ntohs(ip.ip6_plen);
	if (n_payload > n - HEADER_SIZE)
		return;
	if (ip.ip6_nxt == IPPROTO_ICMPV6 && ip.ip6_hlim == 255 &&
	    ra_is_solicitation(packet + HEADER_SIZE, n_payload))
		on_solicitation(r, from->sll_ifindex, request.ifr_name, from->sll_addr, &ip);
	else if (ip.ip6_nxt == IPPROTO_ICMPV6 && ip.ip6_hlim == 255 && n_payload >= ADVERT_SIZE &&
		 packet[HEADER_SIZE] == ND_NEIGHBOR_SOLICIT && packet[HEADER_SIZE + 1] == 0)
		on_neighbour(r, from->sll_ifindex, request.ifr_name, from->sll_addr, &ip,
			     packet + HEADER_SIZE);
	else if (ip.ip6_nxt == IPPROTO_UDP)
		on_question(r, from->sll_ifindex, request.ifr_name, from->sll_addr, &ip,
			    packet + HEADER_SIZE, n_payload);
}

static int on_event(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	const struct responder6 *r = arg;
	uint8_t packet[PACKET_MAX];

	(void)source, (void)events;
	for (int i = 0; i < BATCH; i++) {
		struct sockaddr_ll from;
		socklen_t n_from = sizeof from;
		ssize_t n =
			recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &n_from);

		if (n < 0)
			break;
		on_packet(r, &from, packet, (size_t)n);
	}
	return 0;
}

/* ---- advertising unasked ---- */

/* To each guest by its own MAC: multicasts do not reach guests. */
static void advertise_to(const struct responder6 *r, int is_new_only)
{
	const struct plan *p = r->plan;

	for (size_t i = 0; i < p->n_guests6; i++) {
		const struct plan_guest6 *g = &p->guests6[i];
		struct ifreq request = {0};

		if (i > 0 && memcmp(g->mac, g[-1].mac, 6) == 0)
			continue; /* another address of the same interface */
		if (is_new_only && find_guest(r->told, r->n_told, g->leg, g->mac))
			continue;
		snprintf(request.ifr_name, sizeof request.ifr_name, "%s", g->leg);
		if (ioctl(r->fd, SIOCGIFINDEX, &request) == 0)
			advertise(r, request.ifr_ifindex, g, address_all);
	}
}

void responder6_announce(struct responder6 *r)
{
	size_t n_bytes = r->plan->n_guests6 * sizeof *r->told;
	struct plan_guest6 *told = malloc(n_bytes + 1);

	advertise_to(r, 1);
	free(r->told);
	r->told = told;
	r->n_told = told ? r->plan->n_guests6 : 0; /* without memory all are told again */
	if (told && n_bytes)
		memcpy(told, r->plan->guests6, n_bytes);
}

static int on_repeat(sd_event_source *source, uint64_t usec, void *arg)
{
	struct responder6 *r = arg;

	advertise_to(r, 0);
	if (sd_event_source_set_time(source, usec + RA_REPEAT_SEC * 1000000ull) < 0)
		return 0;
	(void)sd_event_source_set_enabled(source,
					  SD_EVENT_ONESHOT); /* cannot fail for one that exists */
	return 0;
}

/* ---- the whole ---- */

/* As the plan needs it. 0 or -errno. */
static int listen_for(struct responder6 *r, int neighbours)
{
	struct sock_filter own[sizeof wanted / sizeof *wanted];
	const struct sock_fprog filter = {sizeof own / sizeof *own, own};

	memcpy(own, wanted, sizeof own);
	if (!neighbours)
		own[AT_NEIGHBOUR].k = ND_ROUTER_SOLICIT; /* which is accepted before */
	if (setsockopt(r->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0)
		return -errno;
	r->hears_neighbours = neighbours;
	return 0;
}

static int has_prefixes(const struct plan *p)
{
	for (size_t i = 0; i < p->n_guests6; i++)
		if (p->guests6[i].bits)
			return 1;
	return 0;
}

static int bind_socket(int fd)
{
	const struct sockaddr_ll all = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IPV6)};
	const int one = 1;

	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0 ||
	    bind(fd, (const struct sockaddr *)&all, sizeof all) < 0)
		return -errno;
	return 0;
}

int responder6_new(sd_event *loop, const struct netns *n, const struct plan *plan,
		   struct responder6 **ret_responder)
{
	OWN(responder6_free) struct responder6 *r = calloc(1, sizeof *r);
	uint64_t now;
	int e;

	if (!r)
		return -ENOMEM;
	r->plan = plan;
	r->fd = netns_socket(n, AF_PACKET, SOCK_DGRAM, 0);
	if (r->fd < 0)
		return r->fd;
	/* The filter first: the socket hears nothing before it is bound to a protocol. */
	e = listen_for(r, has_prefixes(plan));
	if (e == 0)
		e = bind_socket(r->fd);
	if (e == 0)
		e = sd_event_add_io(loop, &r->source, r->fd, EPOLLIN, on_event, r);
	if (e >= 0)
		e = sd_event_now(loop, CLOCK_MONOTONIC, &now);
	if (e >= 0)
		e = sd_event_add_time(loop, &r->repeat, CLOCK_MONOTONIC,
				      now + RA_REPEAT_SEC * 1000000ull, 60000000, on_repeat, r);
	if (e < 0)
		return e;
	*ret_responder = give(r);
	return 0;
}

void responder6_set_plan(struct responder6 *r, const struct plan *plan)
{
	int neighbours = has_prefixes(plan);

	r->plan = plan;
	if (neighbours != r->hears_neighbours && listen_for(r, neighbours) < 0)
		log_warning(-errno, "the VPC's IPv6 prefixes are not found by neighbours", "VPC",
			    plan->vpc_id);
}

void responder6_free(struct responder6 *r)
{
	sd_event_source_disable_unref(r->source);
	sd_event_source_disable_unref(r->repeat);
	own_fd_close(&r->fd);
	free(r->told);
	free(r);
}
