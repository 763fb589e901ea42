/* Guests' HTTP connections: libmicrohttpd on our loop, and the limits that a hostile guest meets.
 */
#include "imds-http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <microhttpd.h>
#include "fiber.h"
#include "id.h"
#include "imds-guest.h"

#define CONNECTIONS_MAX 512
#define MEMORY_BYTES	8192 /* per connection: its headers must fit */
#define BODY_BYTES_MAX	4096 /* no request needs one; more ends the connection */
#define IDLE_SEC	10
#define REQUEST_USEC	(20 * 1000000ull) /* to send a request, however slowly */
#define SWEEP_USEC	(5 * 1000000ull)

struct connection {
	struct connection *next;
	int fd;
	char vpc_id[ID_MAX], address[INET6_ADDRSTRLEN];
	struct imds_guest *guest;
	uint64_t deadline_usec;
};

/* One request. The engine holds it until the request is completed, a fiber while it refreshes. */
struct exchange {
	struct MHD_Connection *mhd; /* NULL: completed */
	struct connection *connection;
	size_t n_body, n_refs;
	uint64_t delay_usec; /* a guest in a hurry waits before its answer */
	int is_suspended, is_counted, is_refreshed;
	char vpc_id[ID_MAX];
	struct exchange *next;
};

static struct {
	const struct imds_http_calls *calls;
	struct MHD_Daemon *mhd;
	sd_event_source *io, *timer, *sweep;
	struct connection *connections;
	size_t n_connections;
	struct exchange *suspended;
	int has_resumed;
} http;

static uint64_t now_usec(void)
{
	uint64_t usec = 0;

	(void)sd_event_now(fiber_loop(), CLOCK_MONOTONIC, &usec); /* fails only on no loop */
	return usec;
}

/* ---- connections ---- */

static void connection_free(struct connection *gone)
{
	for (struct connection **c = &http.connections; *c; c = &(*c)->next) {
		if (*c != gone)
			continue;
		*c = gone->next;
		http.n_connections--;
		imds_guest_leave(gone->guest);
		free(gone);
		return;
	}
}

static void on_connection(void *userdata, struct MHD_Connection *mhd, void **state,
			  enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct connection *c = http.connections;

	(void)userdata;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		connection_free(*state);
		*state = NULL;
		return;
	}
	while (c && (!info || c->fd != info->connect_fd))
		c = c->next;
	*state = c;
}

/* Late connections are shut down; the engine then sees them end. */
static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata)
{
	uint64_t now = now_usec();

	(void)usec, (void)userdata;
	for (struct connection *c = http.connections; c; c = c->next)
		if (c->deadline_usec <= now)
			(void)shutdown(c->fd, SHUT_RDWR); /* it may have ended just now */
	if (imds_guest_sweep(now) == 0 && !http.connections)
		return 0;
	(void)sd_event_source_set_time_relative(source, SWEEP_USEC);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* ---- requests ---- */

static void exchange_unref(struct exchange *x)
{
	if (--x->n_refs == 0)
		free(x);
}

static void exchange_resume(struct exchange *x)
{
	for (struct exchange **at = &http.suspended; *at; at = &(*at)->next)
		if (*at == x) {
			*at = x->next;
			break;
		}
	x->is_suspended = 0;
	MHD_resume_connection(x->mhd);
	/* An engine on another's loop is not woken by this. We may be inside it just now: so it
	 * turns later, not here. */
	http.has_resumed = 1;
	(void)sd_event_source_set_time_relative(http.timer,
						0); /* fails on no living source: when stopping */
	(void)sd_event_source_set_enabled(http.timer, SD_EVENT_ONESHOT);
}

/* What an answer waits for: its guest's turn, or netd. */
static void wait_for_answer(void *arg)
{
	struct exchange *x = arg;

	if (x->delay_usec > 0)
		(void)fiber_sleep(x->delay_usec); /* failing, it does not wait */
	else
		(void)http.calls->refresh(x->vpc_id); /* without success the answer says so */
	if (x->is_suspended)
		exchange_resume(x);
	exchange_unref(x);
}

static enum MHD_Result suspend(struct exchange *x)
{
	MHD_suspend_connection(x->mhd);
	x->is_suspended = 1;
	x->next = http.suspended;
	http.suspended = x;
	x->n_refs++;
	if (fiber_spawn(wait_for_answer, x) < 0) {
		x->n_refs--;
		exchange_resume(x);
	}
	return MHD_YES;
}

/* A token's answer dies on its way to where it would have to be forwarded. The limit then stays
 * for the connection: what of a token was not acknowledged is sent once more, and would travel as
 * far as a later answer may. */
static void set_hop_limit(struct connection *c, int hops)
{
	int r = strchr(c->address, ':')
			? setsockopt(c->fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof hops)
			: setsockopt(c->fd, IPPROTO_IP, IP_TTL, &hops, sizeof hops);

	if (r < 0)
		(void)shutdown(c->fd, SHUT_RDWR); /* better no token than one that travels */
}

static enum MHD_Result send_reply(struct exchange *x, struct imds_reply *reply)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(reply->n_body, reply->body, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result ok;
	char ttl[24];

	if (!response)
		return MHD_NO;
	reply->body = NULL; /* the response's now */
	snprintf(ttl, sizeof ttl, "%lld", (long long)reply->token_ttl_sec);
	ok = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
	if (ok == MHD_YES)
		ok = MHD_add_response_header(response, MHD_HTTP_HEADER_SERVER, "EC2ws");
	if (ok == MHD_YES && reply->token_ttl_sec > 0)
		ok = MHD_add_response_header(response, "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", ttl);
	if (ok == MHD_YES && reply->status == 405)
		ok = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
					     "OPTIONS, GET, HEAD, PUT");
	if (reply->hop_limit > 0)
		set_hop_limit(x->connection, reply->hop_limit);
	if (ok == MHD_YES)
		ok = MHD_queue_response(x->mhd, (unsigned)reply->status, response);
	MHD_destroy_response(response);
	return ok;
}

static enum MHD_Result answer(struct exchange *x, const char *url, const char *method)
{
	struct imds_request q = {
		.method = method,
		.path = url,
		.token = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND,
						     "X-aws-ec2-metadata-token"),
		.ttl = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND,
						   "X-aws-ec2-metadata-token-ttl-seconds"),
		.is_forwarded = MHD_lookup_connection_value(x->mhd, MHD_HEADER_KIND,
							    "X-Forwarded-For") != NULL,
	};
	OWN(imds_reply_clear) struct imds_reply reply = {0};
	int r;

	if (!x->is_counted) {
		x->is_counted = 1;
		x->delay_usec = imds_guest_delay_usec(x->connection->guest, now_usec());
		if (x->delay_usec > 0)
			return suspend(x);
	}
	x->delay_usec = 0;
	r = http.calls->answer(x->connection->vpc_id, x->connection->address, &q, &reply);
	if (r == -EAGAIN && !x->is_refreshed) {
		x->is_refreshed = 1;
		return suspend(x);
	}
	if (r == -EAGAIN)
		r = imds_error(503, &reply);
	return r == 0 ? send_reply(x, &reply) : MHD_NO;
}

static enum MHD_Result on_request(void *userdata, struct MHD_Connection *mhd, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *n_data, void **state)
{
	struct exchange *x = *state;

	(void)userdata, (void)version, (void)data;
	if (!x) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

		x = info && info->socket_context ? calloc(1, sizeof *x) : NULL;
		if (!x)
			return MHD_NO;
		x->mhd = mhd;
		x->connection = info->socket_context;
		x->n_refs = 1;
		memcpy(x->vpc_id, x->connection->vpc_id, sizeof x->vpc_id);
		*state = x;
		return MHD_YES;
	}
	if (*n_data == 0)
		return answer(x, url, method);
	x->n_body += *n_data;
	*n_data = 0;
	return x->n_body <= BODY_BYTES_MAX ? MHD_YES : MHD_NO;
}

static void on_completed(void *userdata, struct MHD_Connection *mhd, void **state,
			 enum MHD_RequestTerminationCode code)
{
	struct exchange *x = *state;

	(void)userdata, (void)mhd, (void)code;
	*state = NULL;
	if (!x)
		return;
	x->connection->deadline_usec = now_usec() + REQUEST_USEC;
	x->mhd = NULL;
	exchange_unref(x);
}

/* ---- the loop ---- */

static void turn(void)
{
	MHD_UNSIGNED_LONG_LONG msec;

	do {
		http.has_resumed = 0;
		(void)MHD_run(http.mhd);
	} while (http.has_resumed);
	if (MHD_get_timeout(http.mhd, &msec) != MHD_YES) {
		(void)sd_event_source_set_enabled(http.timer,
						  SD_EVENT_OFF); /* fails on no living source */
		return;
	}
	(void)sd_event_source_set_time_relative(http.timer, msec * 1000u);
	(void)sd_event_source_set_enabled(http.timer, SD_EVENT_ONESHOT);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	(void)source, (void)fd, (void)events, (void)userdata;
	turn();
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source, (void)usec, (void)userdata;
	turn();
	return 0;
}

static int peer_parse(const char *text, struct sockaddr_storage *ret_peer)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)ret_peer;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)ret_peer;

	*ret_peer = (struct sockaddr_storage){.ss_family = strchr(text, ':') ? AF_INET6 : AF_INET};
	return inet_pton(ret_peer->ss_family, text,
			 ret_peer->ss_family == AF_INET6 ? (void *)&v6->sin6_addr
							 : (void *)&v4->sin_addr) == 1
		       ? 0
		       : -EINVAL;
}

int imds_http_add(int fd, const char *vpc_id, const char *address)
{
	struct sockaddr_storage peer;
	OWN(fd_close) int own = fd;
	struct imds_guest *guest;
	struct connection *c;

	if (http.n_connections >= CONNECTIONS_MAX || peer_parse(address, &peer) < 0)
		return -EBUSY;
	guest = imds_guest_enter(vpc_id, address, now_usec());
	if (!guest)
		return -EBUSY;
	c = calloc(1, sizeof *c);
	if (!c) {
		imds_guest_leave(guest);
		return -ENOMEM;
	}
	c->fd = fd;
	c->guest = guest;
	c->deadline_usec = now_usec() + REQUEST_USEC;
	snprintf(c->vpc_id, sizeof c->vpc_id, "%s", vpc_id);
	snprintf(c->address, sizeof c->address, "%s", address);
	if (!http.connections) {
		(void)sd_event_source_set_time_relative(http.sweep, SWEEP_USEC);
		(void)sd_event_source_set_enabled(http.sweep, SD_EVENT_ONESHOT);
	}
	c->next = http.connections;
	http.connections = c;
	http.n_connections++;
	/* It closes the descriptor when it refuses. */
	if (MHD_add_connection(http.mhd, give(own), (const struct sockaddr *)&peer, sizeof peer) !=
	    MHD_YES) {
		connection_free(c);
		return -EBUSY;
	}
	turn();
	return 0;
}

void imds_http_drop(const char *vpc_id)
{
	for (struct connection *c = http.connections; c; c = c->next)
		if (strcmp(c->vpc_id, vpc_id) == 0)
			(void)shutdown(c->fd, SHUT_RDWR); /* it may have ended just now */
}

size_t imds_http_count(void)
{
	return http.n_connections;
}

static struct MHD_Daemon *start_mhd(void)
{
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET;
	struct MHD_OptionItem items[] = {
		{MHD_OPTION_CONNECTION_MEMORY_LIMIT, MEMORY_BYTES, NULL},
		{MHD_OPTION_CONNECTION_MEMORY_INCREMENT, 1024, NULL},
		{MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, NULL},
		{MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SEC, NULL},
		{MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL},
		{MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, NULL},
		{MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, NULL},
		{MHD_OPTION_END, 0, NULL},
	};

	return MHD_start_daemon(flags, 0, NULL, NULL, on_request, NULL, MHD_OPTION_ARRAY, items,
				MHD_OPTION_END);
}

int imds_http_start(const struct imds_http_calls *calls)
{
	const union MHD_DaemonInfo *info;
	sd_event *loop = fiber_loop();
	int r;

	http.calls = calls;
	http.mhd = start_mhd();
	info = http.mhd ? MHD_get_daemon_info(http.mhd, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (!info)
		return -ENOTSUP;
	r = sd_event_add_io(loop, &http.io, info->epoll_fd, EPOLLIN, on_io, NULL);
	if (r >= 0)
		r = sd_event_add_time_relative(loop, &http.timer, CLOCK_MONOTONIC, 0, 1000,
					       on_timer, NULL);
	if (r >= 0)
		r = sd_event_add_time_relative(loop, &http.sweep, CLOCK_MONOTONIC, SWEEP_USEC,
					       1000000, on_sweep, NULL);
	if (r >= 0)
		r = sd_event_source_set_enabled(http.timer, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_source_set_enabled(http.sweep, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}

void imds_http_stop(void)
{
	http.io = sd_event_source_disable_unref(http.io);
	http.timer = sd_event_source_disable_unref(http.timer);
	http.sweep = sd_event_source_disable_unref(http.sweep);
	/* A suspended connection cannot be ended. */
	while (http.suspended)
		exchange_resume(http.suspended);
	if (http.mhd)
		MHD_stop_daemon(http.mhd);
	http.mhd = NULL;
	while (http.connections)
		connection_free(http.connections);
	(void)imds_guest_sweep(UINT64_MAX); /* all of them */
}
