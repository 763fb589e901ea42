// The instance metadata service as a guest sees it: a session token where the service gives one,
// plain requests where not.
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKEN_HEADER	 "X-aws-ec2-metadata-token: "
#define TTL_HEADER	 "X-aws-ec2-metadata-token-ttl-seconds: 300"
#define TIMEOUT_MSEC	 5000
#define RETRY_USEC_ROUTE 50000u
#define RETRY_USEC_MIN	 100000u
#define RETRY_USEC_MAX	 2000000u
#define GET_SECONDS	 10

/* An answer is 68 KiB: one for all, we have one thread. */
static struct http_reply token_reply;

static void find_service(struct metadata *m)
{
	const char *other = getenv("GUREUM_METADATA");
	unsigned port = 80;

	memset(m, 0, sizeof(*m));
	if (!other || sscanf(other, "%63[0-9.]:%u", m->address, &port) < 1)
		strcpy(m->address, "169.254.169.254");
	m->port = (uint16_t)port;
}

static int token_is(const char *token, size_t n)
{
	if (n == 0 || n >= AGENT_TOKEN_MAX)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (token[i] <= ' ' || token[i] > '~')
			return 0;
	return 1;
}

int metadata_open(struct metadata *m)
{
	int r;

	find_service(m);
	r = http_request(m->address, m->port, "PUT", "/latest/api/token", TTL_HEADER, TIMEOUT_MSEC,
			 &token_reply);
	if (r < 0)
		return r;
	/* Any refusal means a service without version 2: what follows is then asked without a
	 * token, and the service itself says no if it wants one. */
	if (token_reply.status == 200 && token_is(token_reply.body, token_reply.n)) {
		memcpy(m->token, token_reply.body, token_reply.n + 1);
		m->has_token = 1;
	}
	return 0;
}

int metadata_wait(struct metadata *m, unsigned seconds)
{
	double until = uptime_seconds() + seconds;
	useconds_t pause = RETRY_USEC_MIN;

	for (;;) {
		int r = metadata_open(m);

		if (r == 0 || uptime_seconds() >= until)
			return r;
		if (r == -ENETUNREACH) {
			/* No address yet: the lease is a matter of milliseconds, and asking costs
			 * nothing. */
			usleep(RETRY_USEC_ROUTE);
			continue;
		}
		usleep(pause);
		pause = pause * 2 > RETRY_USEC_MAX ? RETRY_USEC_MAX : pause * 2;
	}
}

/* Who serves may be started anew just now: an answer that was cut off is asked for again. */
static int get(const struct metadata *m, const char *path, const char *header,
	       struct http_reply *ret_reply)
{
	double until = uptime_seconds() + GET_SECONDS;

	for (;;) {
		int r = http_request(m->address, m->port, "GET", path, header, TIMEOUT_MSEC,
				     ret_reply);

		if (r == 0 || r == -EINVAL || r == -E2BIG || r == -EMSGSIZE ||
		    uptime_seconds() >= until)
			return r;
		usleep(RETRY_USEC_MIN);
	}
}

int metadata_get(struct metadata *m, const char *path, struct http_reply *ret_reply)
{
	char full[512], header[AGENT_TOKEN_MAX + sizeof(TOKEN_HEADER)];
	int r;

	if ((size_t)snprintf(full, sizeof(full), "/latest/%s", path) >= sizeof(full))
		return -ENAMETOOLONG;
	(void)snprintf(header, sizeof(header), TOKEN_HEADER "%s",
		       m->token); /* the sizes fit by their definition */
	r = get(m, full, m->has_token ? header : NULL, ret_reply);
	if (r < 0)
		return r;
	switch (ret_reply->status) {
	case 200:
		return 0;
	case 404:
		return -ENOENT;
	case 401:
	case 403:
		return -EACCES;
	default:
		return -EPROTO;
	}
}

int metadata_main(const char *path)
{
	static struct http_reply reply;
	struct metadata m;
	int r = metadata_wait(&m, 10);

	while (*path == '/')
		path++;
	/* "/latest/meta-data/…" as AWS's documents write it, "meta-data/…", and "instance-id" all
	 * mean what they seem to. */
	if (strncmp(path, "latest/", 7) == 0)
		path += 7;
	if (r == 0 && strncmp(path, "meta-data", 9) != 0 && strncmp(path, "user-data", 9) != 0 &&
	    strncmp(path, "dynamic", 7) != 0) {
		char under[512];

		(void)snprintf(under, sizeof(under), "meta-data/%s",
			       path); /* a cut path is a 404 */
		r = metadata_get(&m, under, &reply);
	} else if (r == 0) {
		r = metadata_get(&m, path, &reply);
	}
	if (r < 0) {
		(void)fprintf(stderr, "%s: %s\n", path, strerror(-r));
		return 1;
	}
	(void)fwrite(reply.body, 1, reply.n, stdout); /* checked by the flush */
	if (reply.n > 0 && reply.body[reply.n - 1] != '\n')
		(void)putchar('\n');
	return fflush(stdout) == 0 ? 0 : 1;
}
