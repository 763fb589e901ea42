/* Frames of the RPC: NUL-terminated JSON objects and their descriptors. */
#include "rpc-frame.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "fiber.h"
#include "jsonx.h"

/* A peer that takes nothing for so long is gone. */
#define WRITE_TIMEOUT_USEC 30000000ull
/* Deeper than any of AWS's shapes. */
#define NESTING_MAX 64

void fds_close(struct fds *fds)
{
	for (size_t i = 0; i < fds->n; i++)
		own_fd_close(&fds->fd[i]);
	fds->n = 0;
}

int fds_add(struct fds *fds, int fd)
{
	if (fds->n == RPC_FDS_MAX)
		return -E2BIG;
	fds->fd[fds->n++] = fd;
	return 0;
}

int fds_take(struct fds *fds, size_t i)
{
	return i < fds->n ? give(fds->fd[i]) : -1;
}

void frames_clear(struct frames *c)
{
	own_fd_close(&c->fd);
	free(c->buffer);
	fds_close(&c->fds);
	*c = (struct frames){.fd = -1};
}

/* Keeps the descriptors of one received control message; those over the limit are closed. */
static int keep_fds(struct frames *c, struct msghdr *m)
{
	int r = m->msg_flags & MSG_CTRUNC ? -EBADMSG : 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
			if (fds_add(&c->fds, fd) < 0) {
				(void)close(fd);
				r = -EBADMSG;
			}
		}
	}
	return r;
}

static int fill(struct frames *c)
{
	char control[CMSG_SPACE(sizeof(int) * RPC_FDS_MAX)];
	struct iovec iov;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof control};
	ssize_t n;
	int r;

	if (c->room - c->n < 4096) {
		size_t room = c->room ? c->room * 2 : 8192;
		char *grown = c->n > RPC_MESSAGE_MAX ? NULL : realloc(c->buffer, room);

		if (!grown)
			return c->n > RPC_MESSAGE_MAX ? -EMSGSIZE : -ENOMEM;
		c->buffer = grown;
		c->room = room;
	}
	iov = (struct iovec){c->buffer + c->n, c->room - c->n};
	n = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -ECONNRESET;
	r = keep_fds(c, &m);
	c->n += (size_t)n;
	return r;
}

/* A big message's buffer is not kept while the connection idles. */
static void drop_front(struct frames *c, size_t n)
{
	memmove(c->buffer, c->buffer + n, c->n - n);
	c->n -= n;
	if (c->n || c->room <= 65536)
		return;
	free(c->buffer);
	c->buffer = NULL;
	c->room = 0;
}

int frame_read(struct frames *c, uint64_t timeout_usec, json_t **ret_message, struct fds *ret_fds)
{
	size_t looked = 0;
	char *end = NULL;
	json_t *message = NULL;

	for (;;) {
		int r;

		end = c->n > looked ? memchr(c->buffer + looked, '\0', c->n - looked) : NULL;
		if (end)
			break;
		looked = c->n;
		r = fill(c);
		if (r == -EAGAIN)
			r = fiber_wait_fd(c->fd, EPOLLIN, timeout_usec);
		if (r < 0 && r != -EINTR)
			return r;
	}
	if (jtext_is_shallow(c->buffer, (size_t)(end - c->buffer), NESTING_MAX))
		message = json_loadb(c->buffer, (size_t)(end - c->buffer),
				     JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	drop_front(c, (size_t)(end - c->buffer) + 1);
	if (!json_is_object(message)) {
		json_decref(message);
		return -EBADMSG;
	}
	*ret_fds = c->fds;
	c->fds.n = 0;
	*ret_message = message;
	return 0;
}

static ssize_t send_some(struct frames *c, const char *bytes, size_t n, const struct fds *fds)
{
	char control[CMSG_SPACE(sizeof(int) * RPC_FDS_MAX)] = {0};
	struct iovec iov = {(char *)bytes, n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (fds && fds->n) {
		struct cmsghdr *h;

		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * fds->n);
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * fds->n);
		memcpy(CMSG_DATA(h), fds->fd, sizeof(int) * fds->n);
	}
	sent = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent < 0 ? -errno : sent;
}

int frame_write(struct frames *c, const json_t *message, const struct fds *fds)
{
	OWN(free) char *text = json_dumps(message, JSON_COMPACT);
	size_t n = text ? strlen(text) + 1 : 0;

	if (!text)
		return -ENOMEM;
	if (n > RPC_MESSAGE_MAX)
		return -EMSGSIZE;
	for (size_t done = 0; done < n;) {
		ssize_t r = send_some(c, text + done, n - done, done == 0 ? fds : NULL);

		if (r == -EAGAIN)
			r = fiber_wait_fd(c->fd, EPOLLOUT, WRITE_TIMEOUT_USEC) < 0 ? -ETIMEDOUT : 0;
		if (r < 0 && r != -EINTR)
			return (int)r;
		done += r > 0 ? (size_t)r : 0;
	}
	return 0;
}
