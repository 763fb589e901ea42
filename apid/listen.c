/* Listen: the endpoint's socket. */
#include "listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "own.h"

#define BACKLOG 512

int listen_split(const char *text, char *ret_host, size_t n_host, char *ret_port, size_t n_port)
{
	const char *colon = strrchr(text, ':');
	if (!colon || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return -EINVAL;
	size_t n = (size_t)(colon - text);
	if (n >= 2 && text[0] == '[' && colon[-1] == ']') {
		text++;
		n -= 2;
	} else if (memchr(text, ':', n)) {
		return -EINVAL; /* IPv6 without brackets: where would the port begin? */
	}
	if (n >= n_host || strlen(colon + 1) >= n_port || atol(colon + 1) > 65535)
		return -EINVAL;
	snprintf(ret_host, n_host, "%.*s", (int)n, text);
	snprintf(ret_port, n_port, "%s", colon + 1);
	return 0;
}

static int try_address(const struct addrinfo *a)
{
	OWN(fd_close)
	int fd =
		socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
	int on = 1;
	if (fd < 0)
		return -errno;
	/* A restart must not wait for old connections to be forgotten. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return give(fd);
}

int listen_open(const char *text)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_PASSIVE | AI_NUMERICSERV},
			*found = NULL;
	char host[256], port[8];
	int r = listen_split(text, host, sizeof(host), port, sizeof(port));
	if (r < 0)
		return r;
	if (getaddrinfo(host[0] ? host : NULL, port, &hints, &found) != 0)
		return -EADDRNOTAVAIL;
	r = -EADDRNOTAVAIL;
	for (struct addrinfo *a = found; a && r < 0; a = a->ai_next)
		r = try_address(a);
	freeaddrinfo(found);
	return r;
}

void listen_name(int fd, char *ret_text, size_t n)
{
	struct sockaddr_storage a;
	socklen_t size = sizeof(a);
	char host[64], port[8];
	snprintf(ret_text, n, "?");
	if (getsockname(fd, (struct sockaddr *)&a, &size) < 0 ||
	    getnameinfo((struct sockaddr *)&a, size, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	snprintf(ret_text, n, a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}
