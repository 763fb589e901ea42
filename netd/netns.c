/* Network namespaces: making, finding, entering, ending them. */
#include "netns.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include "run.h"
#include "step.h"

#define OUTPUT_MAX (64u << 20) /* a table cut short would be written anew in each pass */

static int home_fd = -1;

/* As iproute2: a shared mount, so that a namespace that ends here ends in every other mount
 * namespace, too. */
static int make_directory(void)
{
	if (mkdir(NETNS_DIR, 0755) < 0 && errno != EEXIST)
		return -errno;
	if (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	if (mount(NETNS_DIR, NETNS_DIR, "none", MS_BIND | MS_REC, NULL) < 0)
		return -errno;
	return mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) < 0 ? -errno : 0;
}

static int is_nsfs(int fd)
{
	struct statfs s;

	return fstatfs(fd, &s) == 0 && s.f_type == NSFS_MAGIC;
}

static void path_of(const char *name, char path[static 128])
{
	snprintf(path, 128, NETNS_DIR "/%s", name);
}

static int enter(int fd)
{
	return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

/* A thread that cannot come home would do the host's work in a guest's network: better no daemon.
 */
static void go_home(void)
{
	if (enter(home_fd) < 0)
		abort();
}

static int open_sockets(void *arg)
{
	struct netns *n = arg;
	int r = netlink_open(NETLINK_ROUTE, &n->route);

	return r < 0 ? r : netlink_open(NETLINK_NETFILTER, &n->filter);
}

static int hold(const char *name, int fd, struct netns **ret_netns)
{
	OWN(netns_free) struct netns *n = calloc(1, sizeof *n);
	int r;

	if (!n) {
		(void)close(fd); /* nothing left to do about a failed close */
		return -ENOMEM;
	}
	snprintf(n->name, sizeof n->name, "%s", name);
	n->fd = fd;
	r = netns_run(n, open_sockets, n);
	if (r < 0)
		return r;
	*ret_netns = give(n);
	return 0;
}

int netns_start(struct netns **ret_host)
{
	int r = make_directory(), fd;

	if (r < 0)
		return r;
	if (home_fd < 0)
		home_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	fd = fcntl(home_fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : hold("", fd, ret_host);
}

/* Mounts what `source` is (a namespace) at the name. */
static int mount_at(const char *source, const char *path)
{
	int fd;

	step("a namespace's name");
	fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd >= 0)
		(void)close(fd);
	else if (errno != EEXIST)
		return -errno;
	step("a namespace's mount");
	return mount(source, path, "none", MS_BIND, NULL) < 0 ? -errno : 0;
}

static int make(const char *path)
{
	int r;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	r = mount_at("/proc/thread-self/ns/net", path);
	go_home();
	return r;
}

int netns_open(const char *name, struct netns **ret_netns)
{
	char path[128];

	path_of(name, path);
	for (int tries = 0; tries < 2; tries++) {
		OWN(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
		int r;

		if (fd >= 0 && is_nsfs(fd))
			return hold(name, give(fd), ret_netns);
		/* Not there; or only a file, left by one who was killed before the mount. */
		r = make(path);
		if (r < 0)
			return r;
	}
	return -EIO;
}

int netns_keep(const struct netns *n)
{
	char path[128], self[64];
	struct stat ours, theirs;
	int r;

	path_of(n->name, path);
	if (fstat(n->fd, &ours) < 0)
		return -errno;
	if (stat(path, &theirs) == 0 && ours.st_ino == theirs.st_ino &&
	    ours.st_dev == theirs.st_dev)
		return 0;
	(void)netns_delete(n->name); /* what is in the way; there may be nothing */
	snprintf(self, sizeof self, "/proc/thread-self/fd/%d", n->fd);
	r = mount_at(self, path);
	return r < 0 ? r : 1;
}

void netns_free(struct netns *n)
{
	if (!n)
		return;
	nl_socket_free(n->route);
	nl_socket_free(n->filter);
	for (size_t f = 0; f < RULES_FAMILIES; f++)
		ruleset_free(&n->chains[f]);
	items_free(&n->sets);
	items_free(&n->items);
	if (n->fd >= 0)
		(void)close(n->fd); /* nothing left to do about a failed close */
	free(n);
}

int netns_delete(const char *name)
{
	char path[128];

	path_of(name, path);
	step("a namespace's end");
	if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return -errno;
	step("the end of a namespace's name");
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int netns_list(const char *prefix, char ***ret_names)
{
	OWN(closedir) DIR *dir = opendir(NETNS_DIR);
	size_t n = 0, n_bytes = 0, n_rows;
	const struct dirent *e;
	char **names, *text;

	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		n++;
		n_bytes += strlen(e->d_name) + 1;
	}
	n_rows = n + 1;
	names = calloc(1, n_rows * sizeof *names + n_bytes);
	if (!names)
		return -ENOMEM;
	text = (char *)(names + n_rows);
	rewinddir(dir);
	/* Others may add names meanwhile: no more than there is room for. */
	for (n = 0; (e = readdir(dir)) && n + 1 < n_rows;) {
		size_t len = strlen(e->d_name) + 1;

		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0 || len > n_bytes)
			continue;
		names[n++] = memcpy(text, e->d_name, len);
		text += len;
		n_bytes -= len;
	}
	*ret_names = names;
	return 0;
}

int netns_run(const struct netns *n, int (*run)(void *arg), void *arg)
{
	int r;

	if (!n->name[0])
		return run(arg);
	r = enter(n->fd);
	if (r < 0)
		return r;
	r = run(arg);
	go_home();
	return r;
}

struct socket_request {
	int domain, type, protocol;
};

static int make_socket(void *arg)
{
	const struct socket_request *s = arg;
	int fd = socket(s->domain, s->type | SOCK_CLOEXEC | SOCK_NONBLOCK, s->protocol);

	return fd < 0 ? -errno : fd;
}

int netns_socket(const struct netns *n, int domain, int type, int protocol)
{
	struct socket_request s = {domain, type, protocol};

	return netns_run(n, make_socket, &s);
}

int netns_command(struct netns *n, const char *const *argv, const char *input, char **ret_out)
{
	struct run run = {.argv = argv,
			  .input = input,
			  .input_bytes = input ? strlen(input) : 0,
			  .netns_fd = n->name[0] ? n->fd : 0,
			  .output_max_bytes = OUTPUT_MAX};
	OWN(run_result_clear) struct run_result result = {0};
	int r = run_command(&run, &result);

	if (r < 0 || result.status != 0) {
		const char *why = r < 0 ? strerror(-r) : result.err;

		snprintf(n->reason, sizeof n->reason, "%s: %.*s", argv[0], (int)strcspn(why, "\n"),
			 why);
		return r < 0 ? r : -EIO;
	}
	if (ret_out)
		*ret_out = give(result.out);
	return 0;
}
