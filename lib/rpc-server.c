/* RPC, the answering side: a fiber per connection reads calls, runs the handler, writes replies. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include "fiber.h"
#include "rpc-frame.h"

#define CONNECTIONS_MAX 1024
#define REST_USEC	200000

struct rpc_server {
	int fd;
	sd_event_source *source, *rest;
	rpc_handler handler;
	void *userdata;
	gid_t group;
	unsigned n_connections;
	int is_paused; /* at the limit: the queue of the socket holds the rest */
	int is_closed; /* freed by its owner: the last connection frees the rest */
};

struct connection {
	struct rpc_server *server;
	struct frames frames;
	struct ucred peer;
};

static int has_group(int fd, const struct ucred *peer, gid_t group)
{
	gid_t groups[256];
	socklen_t n = sizeof groups;

	if (group == (gid_t)-1)
		return 0;
	if (peer->gid == group)
		return 1;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &n) < 0)
		return 0;
	for (size_t i = 0; i < n / sizeof groups[0]; i++)
		if (groups[i] == group)
			return 1;
	return 0;
}

static int may_call(const struct rpc_server *s, int fd, const struct ucred *peer)
{
	return peer->uid == 0 || peer->uid == geteuid() || has_group(fd, peer, s->group);
}

/* Copies a member of the context; too long or of another type is refused. */
static int context_member(const json_t *context, const char *name, char *to, size_t room)
{
	const json_t *value = json_object_get(context, name);
	size_t n = json_string_length(value);

	if (!value)
		return 0;
	if (!json_is_string(value) || n >= room || strlen(json_string_value(value)) != n)
		return -EINVAL;
	memcpy(to, json_string_value(value), n + 1);
	return 0;
}

/* Fills the request from the message. 0, or -EINVAL with the name of the wrong member. */
static int parse(json_t *message, struct rpc_request *q, const char **ret_wrong)
{
	json_t *method = json_object_get(message, "method");
	json_t *parameters = json_object_get(message, "parameters");
	json_t *context = json_object_get(message, "context");

	*ret_wrong = "method";
	if (!json_is_string(method))
		return -EINVAL;
	*ret_wrong = "parameters";
	if (parameters && !json_is_object(parameters))
		return -EINVAL;
	if (!parameters && json_object_set_new(message, "parameters", json_object()) < 0)
		return -EINVAL;
	*ret_wrong = "context";
	if (context && !json_is_object(context))
		return -EINVAL;
	if (context_member(context, "account", q->ctx.account, sizeof q->ctx.account) < 0 ||
	    context_member(context, "region", q->ctx.region, sizeof q->ctx.region) < 0 ||
	    context_member(context, "principal", q->ctx.principal, sizeof q->ctx.principal) < 0 ||
	    context_member(context, "request", q->ctx.request, sizeof q->ctx.request) < 0)
		return -EINVAL;
	q->method = json_string_value(method);
	q->parameters = json_object_get(message, "parameters");
	return 0;
}

static json_t *error_new(const char *code, int status, const char *message)
{
	return json_pack("{s:s, s:{s:i, s:s}}", "error", code, "parameters", "status", status,
			 "message", message);
}

static json_t *wrong_member(const char *name)
{
	return json_pack("{s:s, s:{s:s, s:i, s:s}}", "error",
			 "org.varlink.service.InvalidParameter", "parameters", "parameter", name,
			 "status", 400, "message", "not of the right type");
}

/* Closed, not merely done with sending. */
int rpc_request_is_abandoned(const struct rpc_request *r)
{
	struct pollfd p = {.fd = r->fd};

	return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR);
}

static json_t *answer(struct connection *c, struct rpc_request *q)
{
	OWN(json_decref) json_t *reply = NULL;
	struct fault f = {0};
	int r;

	if (!strcmp(q->method, "org.varlink.service.GetInfo"))
		return json_pack("{s:{s:s, s:s, s:s, s:s, s:[s]}}", "parameters", "vendor",
				 "Gureum", "product", program_invocation_short_name, "version",
				 GUREUM_VERSION, "url", "", "interfaces", "org.varlink.service");
	if (c->server->is_closed)
		return error_new("ServiceUnavailable", 503, "the daemon is stopping");
	r = c->server->handler(c->server->userdata, q, &reply, &f);
	if (r < 0) {
		if (!fault_is_set(&f))
			(void)fault_set(&f, FAULT_INTERNAL_ERROR, "%s",
					strerror(-r)); /* r is returned already */
		return error_new(f.code, f.status, f.message);
	}
	return json_pack("{s:o}", "parameters", reply ? give(reply) : json_object());
}

/* One call. 0 to go on, negative to end the connection. */
static int serve_one(struct connection *c)
{
	OWN(json_decref) json_t *message = NULL, *reply = NULL;
	struct rpc_request q = {.uid = c->peer.uid, .pid = c->peer.pid, .fd = c->frames.fd};
	const char *wrong = "message";
	int r = frame_read(&c->frames, UINT64_MAX, &message, &q.in), w;

	if (r == 0)
		r = parse(message, &q, &wrong);
	if (r == 0 && rpc_request_is_abandoned(&q))
		r = -ECONNRESET;
	if (r == 0)
		reply = answer(c, &q);
	else if (r == -EBADMSG || r == -EMSGSIZE || r == -EINVAL)
		reply = wrong_member(wrong);
	w = reply ? frame_write(&c->frames, reply, &q.out) : -ENOMEM;
	if (r == 0 && w == -EMSGSIZE) {
		json_decref(reply);
		reply = error_new("InternalError", 500, "the reply is too large");
		w = reply ? frame_write(&c->frames, reply, NULL) : -ENOMEM;
	}
	fds_close(&q.in);
	fds_close(&q.out);
	return r < 0 ? r : w;
}

static void resume(struct rpc_server *s)
{
	s->is_paused = 0;
	(void)sd_event_source_set_enabled(s->source,
					  SD_EVENT_ON); /* cannot fail for a live source */
}

static void serve(void *arg)
{
	struct connection *c = arg;
	struct rpc_server *s = c->server;

	while (!s->is_closed && serve_one(c) == 0)
		;
	frames_clear(&c->frames);
	free(c);
	s->n_connections--;
	if (s->is_closed && s->n_connections == 0)
		free(s);
	else if (!s->is_closed && s->is_paused)
		resume(s);
}

static int on_rest(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	resume(userdata);
	return 0;
}

/* Out of descriptors or memory: the socket stays ready, so without a rest the loop would spin. */
static int rest(struct rpc_server *s)
{
	s->rest = sd_event_source_disable_unref(s->rest);
	s->is_paused = 1;
	(void)sd_event_source_set_enabled(s->source,
					  SD_EVENT_OFF); /* cannot fail for a live source */
	return sd_event_add_time_relative(fiber_loop(), &s->rest, CLOCK_MONOTONIC, REST_USEC,
					  REST_USEC, on_rest, s);
}

static int on_listen(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct rpc_server *s = userdata;
	struct connection *c;
	socklen_t n = sizeof c->peer;
	OWN(fd_close) int client = -1;

	(void)events;
	if (s->n_connections >= CONNECTIONS_MAX) {
		s->is_paused = 1;
		return sd_event_source_set_enabled(source, SD_EVENT_OFF);
	}
	client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (client < 0)
		return errno == EAGAIN || errno == ECONNABORTED || errno == EINTR ? 0 : rest(s);
	c = calloc(1, sizeof *c);
	if (!c)
		return rest(s);
	c->server = s;
	c->frames.fd = -1;
	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &c->peer, &n) < 0 ||
	    !may_call(s, client, &c->peer)) {
		free(c);
		return 0;
	}
	c->frames.fd = give(client);
	s->n_connections++;
	if (fiber_spawn(serve, c) < 0) {
		frames_clear(&c->frames);
		free(c);
		s->n_connections--;
	}
	return 0;
}

int rpc_server_new(int listen_fd, rpc_handler handler, void *userdata,
		   struct rpc_server **ret_server)
{
	struct rpc_server *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return -ENOMEM;
	*s = (struct rpc_server){
		.fd = listen_fd, .handler = handler, .userdata = userdata, .group = (gid_t)-1};
	r = sd_event_add_io(fiber_loop(), &s->source, listen_fd, EPOLLIN, on_listen, s);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret_server = s;
	return 0;
}

void rpc_server_set_group(struct rpc_server *s, gid_t gid)
{
	s->group = gid;
}

void rpc_server_free(struct rpc_server *s)
{
	if (!s)
		return;
	s->source = sd_event_source_disable_unref(s->source);
	s->rest = sd_event_source_disable_unref(s->rest);
	own_fd_close(&s->fd);
	s->is_closed = 1;
	if (s->n_connections == 0)
		free(s);
}

int rpc_listen(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	OWN(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof a.sun_path)
		return -ENAMETOOLONG;
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	/* Somebody answers there: a second daemon must not take its place. */
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EAGAIN)
		return -EADDRINUSE;
	if (errno != ENOENT && unlink(path) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || chmod(path, 0660) < 0 ||
	    listen(fd, SOMAXCONN) < 0)
		return -errno;
	return give(fd);
}
