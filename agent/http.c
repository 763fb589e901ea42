// A very small HTTP client: one request, one bounded answer, one connection.
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The head of an answer is bounded too: status line and headers. */
#define HEAD_MAX (8u << 10)

static int64_t now_msec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits for `events` until `deadline`; 0 or -errno. */
static int wait_until(int fd, short events, int64_t deadline)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		int64_t left = deadline - now_msec();
		int r = left > 0 ? poll(&p, 1, (int)left) : 0;

		if (r > 0)
			return 0;
		if (r == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int connect_until(int fd, const char *address, uint16_t port, int64_t deadline)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int error = 0, r;
	socklen_t n = sizeof(error);

	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		return -EINVAL;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	r = wait_until(fd, POLLOUT, deadline);
	if (r < 0)
		return r;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		return -errno;
	return -error;
}

static int send_until(int fd, const char *text, size_t n, int64_t deadline)
{
	while (n > 0) {
		ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);

		if (sent > 0) {
			text += sent;
			n -= (size_t)sent;
		} else if (errno == EAGAIN) {
			int r = wait_until(fd, POLLOUT, deadline);

			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* Reads to the end of the connection. Bytes read or -errno. */
static long receive_until(int fd, char *buffer, size_t size, int64_t deadline)
{
	size_t n = 0;

	for (;;) {
		ssize_t got = recv(fd, buffer + n, size - n, 0);

		if (got == 0)
			return (long)n;
		if (got > 0) {
			n += (size_t)got;
			if (n == size)
				return -EMSGSIZE;
		} else if (errno == EAGAIN) {
			int r = wait_until(fd, POLLIN, deadline);

			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
}

/* How long the head says that the body is; -1: it says nothing. */
static long length_told(const char *head, const char *end)
{
	static const char name[] = "\r\nContent-Length:";
	size_t n = sizeof(name) - 1;
	long length = 0;

	while ((size_t)(end - head) > n && strncasecmp(head, name, n) != 0)
		head++;
	if ((size_t)(end - head) <= n)
		return -1;
	for (head += n; *head == ' ';)
		head++;
	for (; *head >= '0' && *head <= '9' && length <= (long)AGENT_BODY_MAX; head++)
		length = length * 10 + (*head - '0');
	return length;
}

int http_parse(const char *raw, size_t n, struct http_reply *ret_reply)
{
	const char *end = memmem(raw, n, "\r\n\r\n", 4);
	size_t head, body;
	int status = 0;
	long told;

	if (!end || n < 12 || memcmp(raw, "HTTP/1.", 7) != 0 || raw[8] != ' ')
		return -EPROTO;
	for (int i = 9; i < 12; i++) {
		if (raw[i] < '0' || raw[i] > '9')
			return -EPROTO;
		status = status * 10 + (raw[i] - '0');
	}
	head = (size_t)(end - raw) + 4;
	body = n - head;
	if (head > HEAD_MAX || body > AGENT_BODY_MAX)
		return -EMSGSIZE;
	/* Whoever served it may have died in the middle of it: half a script is no script. */
	told = length_told(raw, end);
	if (told >= 0 && (size_t)told != body)
		return -EPROTO;
	ret_reply->status = status;
	ret_reply->n = body;
	memcpy(ret_reply->body, raw + head, body);
	ret_reply->body[body] = '\0';
	return 0;
}

static int has_control_character(const char *text)
{
	for (; text && *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return 1;
	return 0;
}

static int exchange(int fd, const char *address, uint16_t port, const char *request,
		    int64_t deadline, struct http_reply *ret_reply)
{
	static char
		raw[HEAD_MAX + AGENT_BODY_MAX + 1]; /* too big for a stack; we have one thread */
	int r = connect_until(fd, address, port, deadline);
	long n;

	if (r == 0)
		r = send_until(fd, request, strlen(request), deadline);
	if (r < 0)
		return r;
	n = receive_until(fd, raw, sizeof(raw), deadline);
	return n < 0 ? (int)n : http_parse(raw, (size_t)n, ret_reply);
}

int http_request(const char *address, uint16_t port, const char *method, const char *path,
		 const char *header, unsigned timeout_msec, struct http_reply *ret_reply)
{
	char request[2048];
	int fd, r, n;

	if (path[0] != '/' || strchr(path, ' ') || has_control_character(path) ||
	    has_control_character(header))
		return -EINVAL;
	/* HTTP/1.0: the answer then has no chunks and ends with the connection. */
	n = snprintf(request, sizeof(request),
		     "%s %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: gureum-agent/" GUREUM_VERSION
		     "\r\nContent-Length: 0\r\nConnection: close\r\n%s%s\r\n",
		     method, path, address, header ? header : "", header ? "\r\n" : "");
	if (n < 0 || (size_t)n >= sizeof(request))
		return -E2BIG;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = exchange(fd, address, port, request, now_msec() + timeout_msec, ret_reply);
	(void)close(fd); /* the answer is complete or of no use */
	return r;
}
