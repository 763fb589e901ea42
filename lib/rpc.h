/*
 * RPC: how daemons talk. JSON over AF_UNIX stream sockets in the shape of varlink: one object, ended by a NUL byte:
 *
 *	{"method": "ec2.CreateSubnet", "parameters": {…}, "context": {"account": …, "region": …, "principal": …, "request": …}}
 *	{"parameters": {…}}   or   {"error": "InvalidVpcID.NotFound", "parameters": {"status": 400, "message": "…"}}
 *
 * Descriptors travel with the first byte of their message (SCM_RIGHTS), at most RPC_FDS_MAX. One call at a time per
 * connection; a client with several calls under way uses several connections (struct rpc_peer keeps idle ones).
 * A message over RPC_MESSAGE_MAX bytes, that is not an object, or has a wrongly typed member ends the connection after an error
 * reply ("org.varlink.service.InvalidParameter"). Every server answers "org.varlink.service.GetInfo".
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "fault.h"
#include "own.h"

#define RPC_FDS_MAX	16
#define RPC_MESSAGE_MAX (16u << 20)
/* A peer that took the call and is silent for so long is as good as away; AWS's clients wait for a
 * minute. */
#define RPC_ANSWER_USEC 50000000ull
#define RPC_FOREVER	UINT64_MAX

/* Who asks, and for what: comes with each call and is handed on to further calls unchanged. */
struct context {
	char account[16];    /* 12 digits */
	char region[32];     /* "us-east-1" */
	char principal[256]; /* ARN, "" for a daemon acting by itself */
	char request[40];    /* request id, a UUID */
};

struct fds {
	int fd[RPC_FDS_MAX];
	size_t n;
};
/* Closes what is still in it. */
void fds_close(struct fds *fds);
static inline void own_fds_close(struct fds *fds)
{
	fds_close(fds);
}
/* Adds `fd` (which now belongs to `fds`). 0 or -E2BIG, and then it is the caller's still. */
int fds_add(struct fds *fds, int fd);
/* Takes the i-th out, -1 when there is none. */
int fds_take(struct fds *fds, size_t i);

/* ---- client ---- */
struct rpc_peer;

/* A daemon at a socket path; connects when needed, again after it went away. NULL only out of
 * memory. */
struct rpc_peer *rpc_peer_new(const char *socket_path);
void rpc_peer_free(struct rpc_peer *p);
OWN_DEFINE(struct rpc_peer *, rpc_peer_free);

/* (fiber) Calls `method` ("ec2.CreateSubnet"). `parameters` stays the caller's. `fds_out` (may be
 * NULL) is sent and stays the caller's; `ret_fds` (may be NULL) gets what came back. While nobody
 * listens it retries for wait_usec (see rpc_peer_set_wait, 5 s unless told), then fault
 * ServiceUnavailable; also when the peer dies before its answer, or is silent for RPC_ANSWER_USEC:
 * the caller knows whether asking again is safe. 0 with *ret_reply (a new reference, always an
 * object), or -errno with `f` filled. */
int rpc_call(struct rpc_peer *p, const struct context *ctx, const char *method, json_t *parameters,
	     const struct fds *fds_out, json_t **ret_reply, struct fds *ret_fds, struct fault *f);
/* The same for a call whose answer may take longer than RPC_ANSWER_USEC, or must not take as long:
 * RPC_FOREVER is for as long as the peer lives. Where the time is over the connection is closed:
 * the peer does not begin what it has not begun (rpc_request_is_abandoned). */
int rpc_call_within(struct rpc_peer *p, uint64_t answer_usec, const struct context *ctx,
		    const char *method, json_t *parameters, const struct fds *fds_out,
		    json_t **ret_reply, struct fds *ret_fds, struct fault *f);
/* How long a call waits for an absent peer. */
void rpc_peer_set_wait(struct rpc_peer *p, uint64_t usec);

/* ---- server ---- */
struct rpc_server;

/* One call as the server sees it. Lives until the handler returns. */
struct rpc_request {
	const char *method;
	json_t *parameters; /* an object, borrowed */
	struct context ctx;
	uid_t uid; /* of the peer, by SO_PEERCRED */
	pid_t pid;
	struct fds in;	/* what came with the call; what is left is closed */
	struct fds out; /* goes with the reply */
	int fd;		/* rpc-server's own */
};

/* Who asked has hung up: it died, or its time was over, and it may be about to ask again or to go
 * another way. Looked at before a handler begins; a handler that waited and is about to do what
 * must not happen late looks again. */
int rpc_request_is_abandoned(const struct rpc_request *r);

/* Runs in a fiber of its own per call. 0 with *ret_reply (an object; NULL is the empty object), or
 * -errno with `f` filled (an unset `f` is InternalError). */
typedef int (*rpc_handler)(void *userdata, struct rpc_request *r, json_t **ret_reply,
			   struct fault *f);

/* Serves a listening socket (taken over). At most 1,024 connections. 0 or -errno. */
int rpc_server_new(int listen_fd, rpc_handler handler, void *userdata,
		   struct rpc_server **ret_server);
/* Only peers that run as root, as our own user, or in group `gid` may call. (gid_t)-1: root and own
 * user only. */
void rpc_server_set_group(struct rpc_server *s, gid_t gid);
/* Stops listening at once; connections end with their next message, and the handler is not called
 * again. */
void rpc_server_free(struct rpc_server *s);
OWN_DEFINE(struct rpc_server *, rpc_server_free);

/* Makes a listening socket at `path` (an old one that nobody serves is replaced), mode 0660. The fd
 * or -errno. */
int rpc_listen(const char *path);
