/*
 * Frames: one JSON object, NUL-terminated, with descriptors, on a non-blocking stream socket.
 * Shared by rpc's client and server; nobody else includes it.
 */
#pragma once

#include "rpc.h"

struct frames {
	int fd;
	char *buffer; /* received, not yet taken */
	size_t n, room;
	struct fds fds; /* came with the buffer */
};

void frames_clear(struct frames *c);
/* (fiber) The next message, waiting up to timeout_usec. 0; -ECONNRESET: the peer closed; -EMSGSIZE,
 * -EBADMSG: refuse it; -ETIMEDOUT. What descriptors came are in *ret_fds, which the caller owns. */
int frame_read(struct frames *c, uint64_t timeout_usec, json_t **ret_message, struct fds *ret_fds);
/* (fiber) Sends a message. `fds` may be NULL and stays the caller's. 0 or -errno. */
int frame_write(struct frames *c, const json_t *message, const struct fds *fds);
