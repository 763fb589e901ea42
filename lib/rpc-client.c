/* RPC, the asking side: a peer keeps idle connections and makes new ones when it needs them. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include "fiber.h"
#include "rpc-frame.h"
#include "step.h"

#define IDLE_MAX   8
#define WAIT_USEC  5000000ull
#define PAUSE_USEC 20000ull
#define PAUSE_MAX  320000ull

struct rpc_peer {
	char path[108];
	uint64_t wait_usec;
	struct frames idle[IDLE_MAX];
	size_t n_idle;
};

OWN_DEFINE(struct frames *, frames_clear);

struct rpc_peer *rpc_peer_new(const char *socket_path)
{
	struct rpc_peer *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	(void)snprintf(p->path, sizeof p->path, "%s",
		       socket_path); /* too long: connecting says so */
	p->wait_usec = WAIT_USEC;
	return p;
}

void rpc_peer_free(struct rpc_peer *p)
{
	if (!p)
		return;
	while (p->n_idle)
		frames_clear(&p->idle[--p->n_idle]);
	free(p);
}

void rpc_peer_set_wait(struct rpc_peer *p, uint64_t usec)
{
	p->wait_usec = usec;
}

static int connect_once(const struct rpc_peer *p, int *ret_fd)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	OWN(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	memcpy(a.sun_path, p->path, sizeof a.sun_path);
	a.sun_path[sizeof a.sun_path - 1] = '\0';
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
		return -errno;
	*ret_fd = give(fd);
	return 0;
}

/* Nobody there, not yet there, or its queue is full: all pass with time. */
static int may_pass(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -EAGAIN;
}

static int connect_patiently(const struct rpc_peer *p, int *ret_fd)
{
	uint64_t waited = 0, pause = PAUSE_USEC;
	int r;

	while (may_pass(r = connect_once(p, ret_fd)) && waited < p->wait_usec) {
		int q = fiber_sleep(pause);

		if (q < 0)
			return q;
		waited += pause;
		pause = pause < PAUSE_MAX ? pause * 2 : PAUSE_MAX;
	}
	return r;
}

/* An idle connection whose other end is still open, or a new one. */
static int take_connection(struct rpc_peer *p, struct frames *ret_frames)
{
	char byte;
	int r;

	while (p->n_idle) {
		struct frames c = p->idle[--p->n_idle];

		if (recv(c.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN) {
			*ret_frames = c;
			return 0;
		}
		frames_clear(&c); /* closed, or it said something unasked */
	}
	*ret_frames = (struct frames){.fd = -1};
	r = connect_patiently(p, &ret_frames->fd);
	return r;
}

static void put_connection(struct rpc_peer *p, struct frames *c)
{
	if (p->n_idle == IDLE_MAX) {
		frames_clear(c);
		return;
	}
	p->idle[p->n_idle++] = *c;
	*c = (struct frames){.fd = -1};
}

static json_t *request_new(const struct context *ctx, const char *method, json_t *parameters)
{
	return json_pack("{s:s, s:O, s:{s:s, s:s, s:s, s:s}}", "method", method, "parameters",
			 parameters, "context", "account", ctx->account, "region", ctx->region,
			 "principal", ctx->principal, "request", ctx->request);
}

/* Turns an error reply into a fault. */
static int refuse(json_t *reply, struct fault *f)
{
	const char *code = json_string_value(json_object_get(reply, "error"));
	json_t *p = json_object_get(reply, "parameters");
	json_int_t status = json_integer_value(json_object_get(p, "status"));
	const char *message = json_string_value(json_object_get(p, "message"));

	return fault_set_code(f, code, status >= 400 && status < 600 ? (int)status : 400, "%s",
			      message ? message : code);
}

static int take_reply(json_t *reply, json_t **ret_reply, struct fault *f)
{
	json_t *parameters = json_object_get(reply, "parameters");

	if (json_is_string(json_object_get(reply, "error")))
		return refuse(reply, f);
	*ret_reply =
		parameters && json_is_object(parameters) ? json_incref(parameters) : json_object();
	return *ret_reply ? 0 : fault_set(f, FAULT_INTERNAL_ERROR, "out of memory");
}

static const char *daemon_word(const struct rpc_peer *p)
{
	const char *slash = strrchr(p->path, '/');

	return slash ? slash + 1 : p->path;
}

int rpc_call_within(struct rpc_peer *p, uint64_t answer_usec, const struct context *ctx,
		    const char *method, json_t *parameters, const struct fds *fds_out,
		    json_t **ret_reply, struct fds *ret_fds, struct fault *f)
{
	OWN(json_decref) json_t *request = request_new(ctx, method, parameters);
	OWN(json_decref) json_t *reply = NULL;
	OWN(fds_close) struct fds fds = {.n = 0};
	struct frames c;
	int r;

	if (!request)
		return fault_set(f, FAULT_INTERNAL_ERROR, "out of memory");
	step(method);
	r = take_connection(p, &c);
	if (r == 0)
		r = frame_write(&c, request, fds_out);
	if (r == 0)
		r = frame_read(&c, answer_usec, &reply, &fds);
	if (r < 0) {
		frames_clear(&c);
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE, "%s does not answer (%s)",
				 daemon_word(p), strerror(-r));
	}
	put_connection(p, &c);
	step_after(method);
	r = take_reply(reply, ret_reply, f);
	if (r == 0 && ret_fds) {
		*ret_fds = fds;
		fds.n = 0;
	}
	return r;
}

int rpc_call(struct rpc_peer *p, const struct context *ctx, const char *method, json_t *parameters,
	     const struct fds *fds_out, json_t **ret_reply, struct fds *ret_fds, struct fault *f)
{
	return rpc_call_within(p, RPC_ANSWER_USEC, ctx, method, parameters, fds_out, ret_reply,
			       ret_fds, f);
}
