/* DNS inside a VPC: its sockets, and each client's share of what may be under way. */
#include "dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "cidr.h"
#include "dns-upstream.h"
#include "fiber.h"

#define BATCH 64 /* datagrams per turn of the loop */
/* Places of one VPC, and how many of them one address may hold: one guest must not have them all. */
#define FORWARDS_MAX  128 /* questions under way over UDP; more are answered SERVFAIL */
#define FORWARDS_EACH 32
#define STREAMS_MAX   32 /* TCP connections; more are closed */
#define STREAMS_EACH  4
#define REST_USEC     200000

/* The VPC's own resolver, the one that all VPCs have, and that over IPv6. */
enum { PORT_OWN, PORT_ALL, PORT_IPV6, PORTS };

/* Fibers hold it while they wait; it goes with the last of them. */
struct dns {
	const struct plan *plan; /* NULL: closed */
	char upstream[64];
	unsigned n_refs;
	struct address forwards[FORWARDS_MAX], streams[STREAMS_MAX]; /* whose; none: free */
	struct port {
		struct dns *dns;
		int udp, tcp;
		sd_event_source *udp_source, *tcp_source, *rest;
	} ports[PORTS];
};

static void unref(struct dns *d)
{
	if (--d->n_refs == 0)
		free(d);
}
OWN_DEFINE(struct dns *, unref);

static struct dns *ref(struct dns *d)
{
	d->n_refs++;
	return d;
}

/* ---- places ---- */

static struct address address_of(const struct sockaddr_storage *a)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)a;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)a;

	return a->ss_family == AF_INET6 ? ip6(v6->sin6_addr) : ip4(ntohl(v4->sin_addr.s_addr));
}

/* Takes one of the `n` places for this client; `n`: there is none for it. */
static size_t place_take(struct address *places, size_t n, size_t n_each,
			 const struct sockaddr_storage *client)
{
	struct address whose = address_of(client);
	size_t place = n, n_its = 0;

	for (size_t i = 0; i < n; i++) {
		n_its += (size_t)ip_is(&places[i], &whose);
		if (!places[i].family && place == n)
			place = i;
	}
	if (n_its >= n_each || place == n)
		return n;
	places[place] = whose;
	return place;
}

static void place_leave(struct address *place)
{
	*place = (struct address){0};
}

/* ---- questions over UDP ---- */

struct forward {
	struct dns *dns;
	struct port *port;
	struct sockaddr_storage client;
	size_t place, n;
	uint8_t question[];
};

static void forward(void *arg)
{
	OWN(free) struct forward *f = arg;
	OWN(unref) struct dns *d = f->dns;
	uint8_t answer[DNS_UDP_MAX], id[2], ours[2];
	ssize_t n;

	memcpy(id, f->question, 2);
	if (getrandom(ours, sizeof ours, 0) == sizeof ours)
		memcpy(f->question, ours, 2);
	n = dns_ask_udp(d->upstream, f->question, f->n, answer);
	place_leave(&d->forwards[f->place]);
	if (n < 0) {
		memcpy(answer, f->question, f->n);
		n = (ssize_t)dns_fail(answer, f->n);
	}
	memcpy(answer, id, 2);
	if (d->plan) /* the VPC may be gone by now, and its sockets */
		(void)sendto(f->port->udp, answer, (size_t)n, 0, (struct sockaddr *)&f->client,
			     dns_length_of(&f->client)); /* lost: asked again */
}

/* 0, or -EBUSY: there is no place for it. */
static int forward_start(struct port *p, const struct sockaddr_storage *client,
			 const uint8_t *question, size_t n)
{
	struct dns *d = p->dns;
	size_t place = place_take(d->forwards, FORWARDS_MAX, FORWARDS_EACH, client);
	struct forward *f = place < FORWARDS_MAX ? malloc(sizeof *f + n) : NULL;

	if (place == FORWARDS_MAX)
		return -EBUSY;
	if (f) {
		*f = (struct forward){
			.dns = ref(d), .port = p, .client = *client, .place = place, .n = n};
		memcpy(f->question, question, n);
		if (fiber_spawn(forward, f) == 0)
			return 0;
		unref(d);
	}
	free(f);
	place_leave(&d->forwards[place]);
	return -EBUSY;
}

static int on_datagram(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	uint8_t message[DNS_UDP_MAX];
	struct port *p = arg;

	(void)source, (void)events;
	for (int i = 0; i < BATCH; i++) {
		struct sockaddr_storage client;
		socklen_t n_client = sizeof client;
		ssize_t n = recvfrom(fd, message, sizeof message, 0, (struct sockaddr *)&client,
				     &n_client);
		OWN(free) uint8_t *answer = NULL;
		enum dns_verdict verdict;
		size_t n_answer;

		if (n < 0)
			break;
		verdict = dns_answer(p->dns->plan, message, (size_t)n, &answer, &n_answer);
		if (verdict == DNS_ANSWER)
			(void)sendto(fd, answer, n_answer, 0, (struct sockaddr *)&client,
				     n_client); /* lost: asked again */
		else if (verdict == DNS_FORWARD &&
			 forward_start(p, &client, message, (size_t)n) < 0)
			(void)sendto(fd, message, dns_fail(message, (size_t)n), 0,
				     (struct sockaddr *)&client, n_client); /* likewise */
	}
	return 0;
}

/* ---- questions over TCP ---- */

struct stream {
	struct dns *dns;
	int fd;
	size_t place;
};

static int answer_stream(struct dns *d, int fd, uint8_t *question, size_t n)
{
	OWN(free) uint8_t *answer = NULL;
	size_t n_answer = 0;
	int r;

	if (!d->plan)
		return -ESHUTDOWN;
	switch (dns_answer(d->plan, question, n, &answer, &n_answer)) {
	case DNS_DROP:
		return -EBADMSG;
	case DNS_ANSWER:
		return dns_stream_write(fd, answer, n_answer);
	case DNS_FORWARD:
		r = dns_ask_tcp(d->upstream, question, n, &answer, &n_answer);
		return r < 0 ? dns_stream_write(fd, question, dns_fail(question, n))
			     : dns_stream_write(fd, answer, n_answer);
	}
	return -EINVAL;
}

static void serve_stream(void *arg)
{
	OWN(free) struct stream *s = arg;
	OWN(unref) struct dns *d = s->dns;
	OWN(fd_close) int fd = s->fd;
	int r;

	do {
		OWN(free) uint8_t *question = NULL;
		size_t n = 0;

		r = dns_stream_read(fd, &question, &n);
		if (r == 0)
			r = answer_stream(d, fd, question, n);
	} while (r == 0);
	place_leave(&d->streams[s->place]);
}

static int on_rest(sd_event_source *source, uint64_t usec, void *arg)
{
	struct port *p = arg;

	(void)source, (void)usec;
	return sd_event_source_set_enabled(p->tcp_source, SD_EVENT_ON);
}

/* Out of descriptors: the socket stays ready, so without a rest the loop would spin. */
static int rest(struct port *p)
{
	int r = sd_event_source_set_time_relative(p->rest, REST_USEC);

	if (r >= 0)
		r = sd_event_source_set_enabled(p->rest, SD_EVENT_ONESHOT);
	return r < 0 ? r : sd_event_source_set_enabled(p->tcp_source, SD_EVENT_OFF);
}

static int on_connection(sd_event_source *source, int listen_fd, uint32_t events, void *arg)
{
	struct port *p = arg;
	struct sockaddr_storage client;
	socklen_t n_client = sizeof client;
	OWN(fd_close)
	int fd = accept4(listen_fd, (struct sockaddr *)&client, &n_client,
			 SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source, (void)events;
	if (fd < 0)
		return errno == EAGAIN || errno == ECONNABORTED || errno == EINTR ? 0 : rest(p);
	size_t place = place_take(p->dns->streams, STREAMS_MAX, STREAMS_EACH, &client);
	OWN(free) struct stream *s = place == STREAMS_MAX ? NULL : malloc(sizeof *s);

	if (place == STREAMS_MAX)
		return 0;
	if (s)
		*s = (struct stream){ref(p->dns), fd, place};
	if (!s || fiber_spawn(serve_stream, s) < 0) {
		place_leave(&p->dns->streams[place]);
		if (s)
			unref(p->dns);
		return 0;
	}
	(void)give(s); /* the fiber's now, and freed by it */
	(void)give(fd);
	return 0;
}

/* ---- sockets ---- */

/* FREEBIND: the address may come with the next pass. */
static int bind_at(int fd, const struct address *address)
{
	struct sockaddr_storage a = {.ss_family = address->family};
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&a;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&a;
	const int one = 1;

	if (address->family == AF_INET6) {
		v6->sin6_port = htons(DNS_PORT);
		memcpy(&v6->sin6_addr, address->bytes, sizeof v6->sin6_addr);
	} else {
		v4->sin_port = htons(DNS_PORT);
		memcpy(&v4->sin_addr, address->bytes, sizeof v4->sin_addr);
	}
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one) < 0 || /* of IPv6's, too */
	    bind(fd, (const struct sockaddr *)&a, dns_length_of(&a)) < 0)
		return -errno;
	return 0;
}

static int port_open(struct port *p, sd_event *loop, const struct netns *n, struct address address)
{
	int r;

	p->udp = netns_socket(n, address.family, SOCK_DGRAM, 0);
	if (p->udp < 0)
		return p->udp;
	p->tcp = netns_socket(n, address.family, SOCK_STREAM, 0);
	if (p->tcp < 0)
		return p->tcp;
	r = bind_at(p->udp, &address);
	if (r == 0)
		r = bind_at(p->tcp, &address);
	if (r == 0 && listen(p->tcp, STREAMS_MAX) < 0)
		r = -errno;
	if (r == 0)
		r = sd_event_add_io(loop, &p->udp_source, p->udp, EPOLLIN, on_datagram, p);
	if (r >= 0)
		r = sd_event_add_io(loop, &p->tcp_source, p->tcp, EPOLLIN, on_connection, p);
	if (r >= 0)
		r = sd_event_add_time(loop, &p->rest, CLOCK_MONOTONIC, 0, 0, on_rest, p);
	if (r >= 0)
		r = sd_event_source_set_enabled(p->rest, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}

int dns_new(sd_event *loop, const struct netns *n, const struct plan *plan, const char *upstream,
	    struct dns **ret_dns)
{
	OWN(dns_free) struct dns *d = calloc(1, sizeof *d);
	int r;

	if (!d)
		return -ENOMEM;
	d->n_refs = 1;
	d->plan = plan;
	snprintf(d->upstream, sizeof d->upstream, "%s", upstream);
	for (size_t i = 0; i < PORTS; i++)
		d->ports[i] = (struct port){.dns = d, .udp = -1, .tcp = -1};
	r = port_open(&d->ports[PORT_OWN], loop, n, ip4(plan->dns));
	if (r == 0)
		r = port_open(&d->ports[PORT_ALL], loop, n, ip4(ADDRESS_DNS));
	if (r == 0 && plan->has_ipv6)
		r = port_open(&d->ports[PORT_IPV6], loop, n, ip6(address_dns6));
	if (r < 0)
		return r;
	*ret_dns = give(d);
	return 0;
}

int dns_has_ipv6(const struct dns *d)
{
	return d->ports[PORT_IPV6].udp >= 0;
}

void dns_set_plan(struct dns *d, const struct plan *plan)
{
	d->plan = plan;
}

void dns_free(struct dns *d)
{
	for (size_t i = 0; i < PORTS; i++) {
		struct port *p = &d->ports[i];

		sd_event_source_disable_unref(p->udp_source);
		sd_event_source_disable_unref(p->tcp_source);
		sd_event_source_disable_unref(p->rest);
		own_fd_close(&p->udp);
		own_fd_close(&p->tcp);
		p->udp = p->tcp = -1;
	}
	d->plan = NULL;
	unref(d);
}
