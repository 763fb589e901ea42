/* DNS upstream: questions to the host's own resolvers. */
#include "dns-upstream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "dns.h"
#include "fiber.h"

#define UPSTREAMS_MAX 3
#define UPSTREAM_USEC 2000000
#define STREAM_USEC   10000000 /* for a whole message, its first byte included */
#define RESOLV_CONF   "/etc/resolv.conf"

/* ---- over UDP ---- */

socklen_t dns_length_of(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* The answer carries our id and repeats our question: with a random port, what a forger would have
 * to guess. */
static int is_answer_to(const uint8_t *answer, size_t n, const uint8_t *question, size_t n_question)
{
	size_t end = 12;

	if (n < 12 || n_question < 12 || memcmp(answer, question, 2) != 0 || !(answer[2] & 0x80))
		return 0;
	while (end < n_question && question[end])
		end += 1u + question[end];
	end += 5;
	if (end > n_question || end > n)
		return n == 12; /* an error without its question */
	return memcmp(answer + 12, question + 12, end - 12) == 0;
}

static ssize_t hear(int fd, const uint8_t *question, size_t n, uint8_t *answer)
{
	for (int tries = 0; tries < 8; tries++) { /* forged ones are passed over, a few */
		int r = fiber_wait_fd(fd, EPOLLIN, UPSTREAM_USEC);
		ssize_t got = r < 0 ? r : recv(fd, answer, DNS_UDP_MAX, MSG_TRUNC);
		size_t kept = got > DNS_UDP_MAX ? DNS_UDP_MAX : (size_t)got;

		if (r < 0)
			return r;
		if (got < 0)
			return -errno;
		if (is_answer_to(answer, kept, question, n))
			return got > DNS_UDP_MAX ? (ssize_t)dns_truncate(answer, kept) : got;
	}
	return -EBADMSG;
}

static ssize_t ask_udp(const struct sockaddr_storage *to, const uint8_t *question, size_t n,
		       unsigned n_times, uint8_t *answer)
{
	OWN(fd_close) int fd = socket(to->ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ssize_t got = -ETIMEDOUT;

	if (fd < 0 || connect(fd, (const struct sockaddr *)to, dns_length_of(to)) < 0)
		return -errno;
	for (unsigned i = 0; i < n_times && got == -ETIMEDOUT; i++)
		got = send(fd, question, n, 0) < 0 ? -errno : hear(fd, question, n, answer);
	return got;
}

/* ---- over TCP ---- */

static uint64_t now_usec(void)
{
	uint64_t now = 0;

	(void)sd_event_now(fiber_loop(), CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
	return now;
}

static int move_all(int fd, void *data, size_t n, int is_writing, uint64_t deadline_usec)
{
	uint8_t *p = data;

	for (size_t done = 0; done < n;) {
		uint64_t now = now_usec();
		int r = now < deadline_usec ? fiber_wait_fd(fd, is_writing ? EPOLLOUT : EPOLLIN,
							    deadline_usec - now)
					    : -ETIMEDOUT;
		ssize_t moved;

		if (r < 0)
			return r;
		moved = is_writing ? send(fd, p + done, n - done, MSG_NOSIGNAL)
				   : recv(fd, p + done, n - done, 0);
		if (moved == 0)
			return -ECONNRESET;
		if (moved < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		done += moved > 0 ? (size_t)moved : 0;
	}
	return 0;
}

int dns_stream_read(int fd, uint8_t **ret_message, size_t *ret_n)
{
	uint64_t deadline_usec = now_usec() + STREAM_USEC;
	uint8_t head[2];
	int r = move_all(fd, head, sizeof head, 0, deadline_usec);
	size_t n = (size_t)head[0] << 8 | head[1];
	OWN(free) uint8_t *message = r < 0 ? NULL : malloc(n + 1);

	if (r < 0)
		return r;
	if (!message)
		return -ENOMEM;
	r = move_all(fd, message, n, 0, deadline_usec);
	if (r < 0)
		return r;
	*ret_message = give(message);
	*ret_n = n;
	return 0;
}

int dns_stream_write(int fd, uint8_t *message, size_t n)
{
	uint64_t deadline_usec = now_usec() + STREAM_USEC;
	uint8_t head[2] = {(uint8_t)(n >> 8), (uint8_t)n};
	int r = move_all(fd, head, sizeof head, 1, deadline_usec);

	return r < 0 ? r : move_all(fd, message, n, 1, deadline_usec);
}

static int ask_tcp(const struct sockaddr_storage *to, uint8_t *question, size_t n,
		   uint8_t **ret_answer, size_t *ret_n)
{
	OWN(fd_close) int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	OWN(free) uint8_t *answer = NULL;
	size_t n_answer = 0;
	int r;

	if (fd < 0 || (connect(fd, (const struct sockaddr *)to, dns_length_of(to)) < 0 &&
		       errno != EINPROGRESS))
		return -errno;
	r = dns_stream_write(fd, question, n);
	if (r == 0)
		r = dns_stream_read(fd, &answer, &n_answer);
	if (r < 0)
		return r;
	if (!is_answer_to(answer, n_answer, question, n))
		return -EBADMSG;
	*ret_answer = give(answer);
	*ret_n = n_answer;
	return 0;
}

/* ---- the upstream ---- */

struct upstreams {
	struct sockaddr_storage at[UPSTREAMS_MAX];
	size_t n;
};

static void upstream_add(struct upstreams *u, const char *text)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&u->at[u->n];
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&u->at[u->n];

	if (u->n == UPSTREAMS_MAX)
		return;
	memset(&u->at[u->n], 0, sizeof u->at[u->n]);
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(DNS_PORT);
		u->n++;
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(DNS_PORT);
		u->n++;
	}
}

/* A small file, in the page cache: read for each question, so that a laptop may change its network.
 */
static void upstreams_load(const char *upstream, struct upstreams *u)
{
	OWN(fclose) FILE *in = *upstream ? NULL : fopen(RESOLV_CONF, "re");
	char line[256], address[64];

	u->n = 0;
	if (*upstream)
		upstream_add(u, upstream);
	while (in && fgets(line, sizeof line, in))
		if (sscanf(line, " nameserver %63s", address) == 1)
			upstream_add(u, address);
}

ssize_t dns_ask_udp(const char *upstream, const uint8_t *question, size_t n, uint8_t *ret_answer)
{
	struct upstreams u;
	ssize_t got = -ENETUNREACH;

	upstreams_load(upstream, &u);
	/* An only one may have lost the question, or be slow: a guest takes SERVFAIL for an answer
	 * and asks nobody again, while it waits for five seconds. */
	for (size_t i = 0; i < u.n && got < 0; i++)
		got = ask_udp(&u.at[i], question, n, u.n == 1 ? 2 : 1, ret_answer);
	return got;
}

int dns_ask_tcp(const char *upstream, uint8_t *question, size_t n, uint8_t **ret_answer,
		size_t *ret_n)
{
	struct upstreams u;
	int r = -ENETUNREACH;

	upstreams_load(upstream, &u);
	for (size_t i = 0; i < u.n && r < 0; i++)
		r = ask_tcp(&u.at[i], question, n, ret_answer, ret_n);
	return r;
}
