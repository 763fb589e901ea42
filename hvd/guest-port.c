/* The sockets of guests' virtio-serial ports. */
#include "guest-port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fiber.h"
#include "id.h"
#include "log.h"

#define FOLDER "agents"
/* Of the runtime directory's own path; the rest are FOLDER, an id and two slashes. */
#define RUNTIME_MAX (GUEST_PORT_PATH_BYTES - ID_MAX - sizeof(FOLDER) - 1)
#define QEMU_GROUP  "kvm"
#define PID_FILES   "/run/libvirt/qemu"
#define SECOND_USEC 1000000ull
/* Without free descriptors, accepting rests. */
#define REST_USEC  200000ull
#define READ_BYTES 4096

struct guest_port {
	const struct guest_port_hooks *hooks;
	void *userdata;
	char id[ID_MAX];
	char path[GUEST_PORT_PATH_BYTES];
	int listen_fd, fd; /* fd: the connection, -1: none */
	sd_event_source *listener, *reader, *rest;
	uint64_t second_usec; /* since when n_read counts */
	size_t n_read;
	int is_warned; /* of strangers, since its QEMU was here last */
};

int guest_port_is_trusted(const struct ucred *peer, const char *pid_path)
{
	char text[24] = "";
	OWN(fd_close) int fd = open(pid_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT && peer->uid == geteuid();
	return read(fd, text, sizeof(text) - 1) > 0 && peer->pid > 0 && atol(text) == peer->pid;
}

/* ---- the connection ---- */

void guest_port_cut(struct guest_port *p)
{
	p->reader = sd_event_source_disable_unref(p->reader);
	own_fd_close(&p->fd);
	p->fd = -1;
}

/* A guest that talks on and on is read once a second. */
static int on_second(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct guest_port *p = userdata;

	(void)source, (void)usec;
	p->rest = sd_event_source_disable_unref(p->rest);
	(void)sd_event_source_set_enabled(p->listener, SD_EVENT_ON); /* a live source */
	if (p->reader)
		(void)sd_event_source_set_enabled(p->reader, SD_EVENT_ON); /* likewise */
	return 0;
}

/* `source` rests; out of memory it does not. */
static void rest(struct guest_port *p, sd_event_source *source, uint64_t usec)
{
	if (p->rest || sd_event_add_time_relative(fiber_loop(), &p->rest, CLOCK_MONOTONIC, usec, 0,
						  on_second, p) >= 0)
		(void)sd_event_source_set_enabled(source, SD_EVENT_OFF); /* a live source */
}

static void count(struct guest_port *p, size_t n_bytes)
{
	uint64_t now = 0;

	(void)sd_event_now(fiber_loop(), CLOCK_MONOTONIC, &now); /* fails on no loop only */
	if (now >= p->second_usec + SECOND_USEC) {
		p->second_usec = now;
		p->n_read = 0;
	}
	p->n_read += n_bytes;
	if (p->n_read >= GUEST_PORT_RATE_BYTES)
		rest(p, p->reader, p->second_usec + SECOND_USEC - now);
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct guest_port *p = userdata;
	char bytes[READ_BYTES];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	(void)source, (void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		guest_port_cut(p); /* its QEMU ended, or comes again */
		return 0;
	}
	count(p, (size_t)n);
	p->hooks->data(p->userdata, bytes, (size_t)n);
	return 0;
}

int guest_port_is_connected(const struct guest_port *p)
{
	return p && p->fd >= 0;
}

int guest_port_write(struct guest_port *p, const char *bytes, size_t n_bytes)
{
	if (p->fd < 0)
		return -ENOTCONN;
	/* A line that does not fit comes after thousands that were not read. */
	if (send(p->fd, bytes, n_bytes, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n_bytes)
		return 0;
	guest_port_cut(p);
	return -EPIPE;
}

/* ---- listening ---- */

static int is_its_qemu(struct guest_port *p, int fd)
{
	struct ucred peer = {0};
	socklen_t n = sizeof(peer);
	char pid_path[128], pid[16], uid[16];

	snprintf(pid_path, sizeof(pid_path), PID_FILES "/%s.pid", p->id);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 &&
	    guest_port_is_trusted(&peer, pid_path)) {
		p->is_warned = 0;
		return 1;
	}
	if (p->is_warned)
		return 0;
	p->is_warned = 1;
	snprintf(pid, sizeof(pid), "%d", (int)peer.pid);
	snprintf(uid, sizeof(uid), "%u", (unsigned)peer.uid);
	log_warning(0, "somebody else than its virtual machine would speak for an instance",
		    "INSTANCE", p->id, "PEER_PID", pid, "PEER_UID", uid);
	return 0;
}

static int on_listener(sd_event_source *source, int listen_fd, uint32_t events, void *userdata)
{
	struct guest_port *p = userdata;
	OWN(fd_close) int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
		rest(p, source, REST_USEC);
	if (fd < 0 || !is_its_qemu(p, fd))
		return 0;
	guest_port_cut(p); /* its end was not seen yet */
	int r = sd_event_add_io(fiber_loop(), &p->reader, fd, EPOLLIN, on_readable, p);
	if (r < 0)
		return 0; /* out of memory: it comes again */
	p->fd = give(fd);
	p->hooks->connected(p->userdata);
	return 0;
}

/* Bound and its group's; nobody else may open it even for a moment: no umask of a daemon lets
 * others connect. */
static int make_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct group *group = getgrnam(QEMU_GROUP);
	OWN(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	/* Who is not of the group has QEMU run by its own user. */
	if (group && chown(path, (uid_t)-1, group->gr_gid) < 0 && errno != EPERM)
		return -errno;
	if (chmod(path, 0660) < 0 || listen(fd, 4) < 0)
		return -errno;
	return give(fd);
}

int guest_port_new(const struct daemon *d, const char *instance_id,
		   const struct guest_port_hooks *hooks, void *userdata,
		   struct guest_port **ret_port)
{
	OWN(guest_port_free) struct guest_port *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*p = (struct guest_port){.hooks = hooks, .userdata = userdata, .listen_fd = -1, .fd = -1};
	snprintf(p->id, sizeof(p->id), "%s", instance_id);
	guest_port_path(d, instance_id, p->path);
	(void)unlink(p->path); /* seldom there: what an earlier failure left */
	int r = make_socket(p->path);
	if (r < 0)
		return r;
	p->listen_fd = r;
	r = sd_event_add_io(fiber_loop(), &p->listener, p->listen_fd, EPOLLIN, on_listener, p);
	if (r < 0)
		return r;
	*ret_port = give(p);
	return 0;
}

void guest_port_free(struct guest_port *p)
{
	if (!p)
		return;
	guest_port_cut(p);
	sd_event_source_disable_unref(p->listener);
	sd_event_source_disable_unref(p->rest);
	own_fd_close(&p->listen_fd);
	(void)unlink(p->path); /* it may not have come to be */
	free(p);
}

/* ---- the directory ---- */

void guest_port_path(const struct daemon *d, const char *instance_id,
		     char ret_path[static GUEST_PORT_PATH_BYTES])
{
	(void)snprintf(ret_path, GUEST_PORT_PATH_BYTES, "%.*s/" FOLDER "/%s", (int)RUNTIME_MAX,
		       d->runtime_dir, instance_id); /* guest_ports_open() has looked */
}

static int empty(const char *path)
{
	OWN(closedir) DIR *dir = opendir(path);

	if (!dir)
		return -errno;
	for (const struct dirent *e; (e = readdir(dir));)
		if (e->d_name[0] != '.' && unlinkat(dirfd(dir), e->d_name, 0) < 0)
			return -errno;
	return 0;
}

int guest_ports_open(const struct daemon *d)
{
	char path[sizeof(d->runtime_dir) + sizeof(FOLDER) + 1];
	int r = 0;

	snprintf(path, sizeof(path), "%s/" FOLDER, d->runtime_dir);
	if (strlen(d->runtime_dir) > RUNTIME_MAX)
		r = -ENAMETOOLONG;
	/* systemd makes it on an installed host. */
	else if ((mkdir(path, 0711) < 0 && errno != EEXIST) || chmod(path, 0711) < 0)
		r = -errno;
	else
		r = empty(path);
	if (r < 0)
		log_error(r, "the sockets of guests' agents have no place", "DIRECTORY", path);
	return r;
}
