// The agent beside a metadata service: a small server in a child answers as AWS's does, with and
// without version 2.
#include "tap.h"
#include "../../agent/agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct server {
	pid_t pid;
	int has_tokens;
};

static int n_cut = 2; /* answers that end too early */

static void answer(int fd, int has_tokens)
{
	char request[2048] = "";
	const char *reply = "HTTP/1.0 404 Not Found\r\n\r\n";
	size_t n = 0;
	ssize_t got;

	while (n < sizeof(request) - 1 && !strstr(request, "\r\n\r\n") &&
	       (got = read(fd, request + n, sizeof(request) - 1 - n)) > 0)
		n += (size_t)got;
	if (strncmp(request, "PUT /latest/api/token ", 22) == 0 && has_tokens &&
	    strstr(request, "token-ttl-seconds: "))
		reply = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nTOKEN=";
	else if (strncmp(request, "GET /latest/meta-data/instance-id ", 34) == 0 && has_tokens &&
		 !strstr(request, "token: TOKEN=\r\n"))
		reply = "HTTP/1.1 401 Unauthorized\r\n\r\n";
	else if (strncmp(request, "GET /latest/meta-data/instance-id ", 34) == 0)
		reply = "HTTP/1.1 200 OK\r\n\r\ni-0123";
	else if (strncmp(request, "GET /latest/user-data ", 22) == 0 && n_cut-- > 0)
		reply = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n#!/bin";
	else if (strncmp(request, "GET /latest/user-data ", 22) == 0)
		reply = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n#!/bin/true\n";
	if (write(fd, reply, strlen(reply)) < 0)
		_exit(1);
	close(fd);
}

static struct server start(int has_tokens)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct server s = {.has_tokens = has_tokens};
	socklen_t n = sizeof(a);
	char text[64];

	if (bind(fd, (struct sockaddr *)&a, n) < 0 || listen(fd, 8) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		abort();
	snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(a.sin_port));
	setenv("GUREUM_METADATA", text, 1);
	s.pid = fork();
	while (s.pid == 0)
		answer(accept(fd, NULL, NULL), has_tokens);
	close(fd);
	return s;
}

static void stop(struct server s)
{
	kill(s.pid, SIGKILL);
	waitpid(s.pid, NULL, 0);
}

static struct http_reply reply;

static void version_two_is_used_where_it_is(void)
{
	struct server s = start(1);
	struct metadata m;

	is_int(metadata_open(&m), 0, "opened");
	is_str(m.token, "TOKEN=", "with a token");
	is_int(metadata_get(&m, "meta-data/instance-id", &reply), 0, "asked with it");
	is_str(reply.body, "i-0123", "answered");
	m.has_token = 0;
	is_int(metadata_get(&m, "meta-data/instance-id", &reply), -EACCES, "refused without it");
	stop(s);
}

static void version_one_is_the_fallback(void)
{
	struct server s = start(0);
	struct metadata m;

	is_int(metadata_open(&m), 0, "opened");
	is_int(m.has_token, 0, "without a token");
	is_int(metadata_get(&m, "meta-data/instance-id", &reply), 0, "answered all the same");
	is_int(metadata_get(&m, "meta-data/nothing", &reply), -ENOENT,
	       "what is not there is said so");
	stop(s);
}

static void half_a_script_is_asked_for_again(void)
{
	struct server s = start(0);
	struct metadata m;

	is_int(metadata_open(&m), 0, "opened");
	is_int(metadata_get(&m, "user-data", &reply), 0, "answered at last");
	is_str(reply.body, "#!/bin/true\n", "all of it");
	stop(s);
}

static void nobody_there_is_an_error_in_bounded_time(void)
{
	struct server s = start(0);
	struct metadata m;

	stop(s);
	is_int(metadata_open(&m), -ECONNREFUSED, "refused");
	is_int(metadata_wait(&m, 0), -ECONNREFUSED, "tried once when there is no time");
}

int main(void)
{
	RUN(version_two_is_used_where_it_is);
	RUN(version_one_is_the_fallback);
	RUN(half_a_script_is_asked_for_again);
	RUN(nobody_there_is_an_error_in_bounded_time);
	return tests_done();
}
