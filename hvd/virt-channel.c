/* A guest's virtio-serial port as a byte stream through libvirt: hvd needs no right but
 * libvirt's socket for it. */
#include "virt-internal.h"

#include <errno.h>
#include "fiber.h"

#define READ_BYTES	4096
#define WRITE_WAIT_USEC 20000ull
#define WRITE_TRIES	50

struct virt_channel {
	virConnectPtr connection;
	virStreamPtr stream;
	const struct virt_channel_hooks *hooks;
	void *userdata;
	int is_watched;
};

struct channel_work {
	virConnectPtr connection;
	const char *name, *port;
	virStreamPtr stream;
	const char *bytes;
	size_t n_bytes;
};

static void stream_end(virStreamPtr s)
{
	(void)virStreamAbort(s); /* it may have ended by itself */
	(void)virStreamFree(s);	 /* drops a reference */
}

/* (worker) */
static int open_work(void *arg)
{
	struct channel_work *w = arg;
	OWN(virt_domain_unref) virDomainPtr d = virDomainLookupByName(w->connection, w->name);

	if (!d)
		return virt_errno(w->connection, NULL);
	w->stream = virStreamNew(w->connection, VIR_STREAM_NONBLOCK);
	if (!w->stream)
		return virt_errno(w->connection, NULL);
	/* By force: what holds it is a hvd that died. */
	if (virDomainOpenChannel(d, w->port, w->stream, VIR_DOMAIN_CHANNEL_FORCE) < 0) {
		int r = virt_errno(w->connection, NULL);
		(void)virStreamFree(w->stream); /* it was never opened */
		return r;
	}
	return 0;
}

static void unwatch(struct virt_channel *c)
{
	if (c->is_watched)
		/* fails when libvirt took it off first */
		(void)virStreamEventRemoveCallback(c->stream);
	c->is_watched = 0;
}

static void on_stream(virStreamPtr stream, int events, void *opaque)
{
	struct virt_channel *c = opaque;
	char bytes[READ_BYTES];
	int n = -2;

	if (events & VIR_STREAM_EVENT_READABLE)
		while ((n = virStreamRecv(stream, bytes, sizeof(bytes))) > 0)
			c->hooks->data(c->userdata, bytes, (size_t)n);
	if (n == -2 && !(events & (VIR_STREAM_EVENT_HANGUP | VIR_STREAM_EVENT_ERROR)))
		return;
	unwatch(c);
	c->hooks->closed(c->userdata);
}

int virt_channel_open(struct virt *v, const char *name, const char *port,
		      const struct virt_channel_hooks *hooks, void *userdata,
		      struct virt_channel **ret_channel)
{
	OWN(virt_connection_unref) virConnectPtr connection = virt_connection(v);
	OWN(free) struct virt_channel *c = calloc(1, sizeof(*c));
	struct channel_work w = {.connection = connection, .name = name, .port = port};

	if (!connection)
		return -ENOTCONN;
	if (!c)
		return -ENOMEM;
	int r = fiber_work(open_work, &w);
	if (r < 0)
		return r;
	*c = (struct virt_channel){
		.stream = w.stream, .hooks = hooks, .userdata = userdata, .is_watched = 1};
	/* Who closes all channels when the connection is lost did not know of this one yet. */
	OWN(virt_connection_unref) virConnectPtr now = virt_connection(v);
	if (now != connection) {
		stream_end(c->stream);
		return -ENOTCONN;
	}
	if (virStreamEventAddCallback(c->stream,
				      VIR_STREAM_EVENT_READABLE | VIR_STREAM_EVENT_HANGUP |
					      VIR_STREAM_EVENT_ERROR,
				      on_stream, c, NULL) < 0) {
		stream_end(c->stream);
		return -EIO;
	}
	c->connection = give(connection);
	*ret_channel = give(c);
	return 0;
}

/* (worker) */
static int write_work(void *arg)
{
	struct channel_work *w = arg;

	for (int tries = 0; w->n_bytes && tries < WRITE_TRIES;) {
		int n = virStreamSend(w->stream, w->bytes, w->n_bytes);
		if (n == -2) {
			usleep(WRITE_WAIT_USEC);
			tries++;
		} else if (n < 0) {
			return -EPIPE;
		} else {
			w->bytes += n;
			w->n_bytes -= (size_t)n;
		}
	}
	return w->n_bytes ? -EPIPE : 0;
}

int virt_channel_write(struct virt_channel *c, const char *bytes, size_t n_bytes)
{
	struct channel_work w = {.stream = c->stream, .bytes = bytes, .n_bytes = n_bytes};

	if (virStreamRef(c->stream) < 0)
		return -EPIPE;
	int r = fiber_work(write_work, &w);
	/* the reference above: the channel may have been freed meanwhile */
	(void)virStreamFree(w.stream);
	return r;
}

/* (worker) */
static int end_work(void *arg)
{
	struct virt_channel *c = arg;

	stream_end(c->stream);
	virt_connection_unref(c->connection);
	free(c);
	return 0;
}

static void end_run(void *arg)
{
	(void)fiber_work(end_work, arg); /* always 0 */
}

void virt_channel_free(struct virt_channel *c)
{
	if (!c)
		return;
	unwatch(c);
	(void)fiber_spawn(end_run, c); /* out of memory: the stream ends with the process */
}

void virt_channel_close(struct virt_channel *c)
{
	unwatch(c);
	(void)fiber_work(end_work, c); /* no thread: the stream ends with the process */
}
