/* The frame of a daemon: options, configuration, loop, store, socket, readiness, end. */
#include "daemon.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include "fiber.h"
#include "log.h"
#include "store.h"

#define CONFIG_PATH "/etc/gureum/gureum.conf"
#define PEERS_MAX   8
#define LISTEN_MAX  8

static struct daemon daemon_;

static struct {
	char name[16];
	struct rpc_peer *peer;
} peers[PEERS_MAX];

static struct {
	char *name;
	int fd;
} listens[LISTEN_MAX];

struct daemon *daemon_get(void)
{
	return &daemon_;
}

struct rpc_peer *daemon_peer(const char *name)
{
	char path[512];
	size_t i;

	for (i = 0; i < PEERS_MAX && peers[i].peer; i++)
		if (!strcmp(peers[i].name, name))
			return peers[i].peer;
	assert(i < PEERS_MAX && strlen(name) < sizeof peers[i].name);
	(void)snprintf(path, sizeof path, "%s/%s.sock", daemon_.runtime_dir, name);
	(void)snprintf(peers[i].name, sizeof peers[i].name, "%s", name);
	peers[i].peer = rpc_peer_new(path);
	return peers[i].peer;
}

int daemon_listen_fd(const char *fd_name, size_t i)
{
	for (size_t k = 0; k < LISTEN_MAX && listens[k].name; k++)
		if (!strcmp(listens[k].name, fd_name) && i-- == 0)
			return listens[k].fd;
	return -1;
}

static void take_listen_fds(void)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	for (int i = 0; i < n; i++) {
		if (i < LISTEN_MAX) {
			listens[i].name = names[i];
			listens[i].fd = SD_LISTEN_FDS_START + i;
		} else {
			free(names[i]);
		}
	}
	free(names);
}

static void usage(const char *name, FILE *out)
{
	fprintf(out,
		"Usage: %s [-c FILE] [-n]\n\n"
		"  -c, --config FILE  read this instead of " CONFIG_PATH "\n"
		"  -n, --check        print what was understood of the configuration and end\n"
		"  -h, --help         this text\n"
		"      --version      the version\n\n"
		"See gureum.conf(5).\n",
		name);
}

/* Returns -1 to go on, else the exit status. */
static int read_options(const char *name, int argc, char **argv, const char **config_path,
			int *is_check)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
						{"check", no_argument, NULL, 'n'},
						{"help", no_argument, NULL, 'h'},
						{"version", no_argument, NULL, 'V'},
						{NULL, 0, NULL, 0}};

	for (int c; (c = getopt_long(argc, argv, "c:nh", options, NULL)) != -1;) {
		switch (c) {
		case 'c':
			*config_path = optarg;
			break;
		case 'n':
			*is_check = 1;
			break;
		case 'h':
			usage(name, stdout);
			return EXIT_SUCCESS;
		case 'V':
			printf("gureum %s\n", GUREUM_VERSION);
			return EXIT_SUCCESS;
		default:
			usage(name, stderr);
			return 2;
		}
	}
	return -1;
}

/* Makes each missing directory on the way. */
static int make_directories(const char *path, mode_t mode)
{
	char part[512];

	if (strlen(path) >= sizeof part)
		return -ENAMETOOLONG;
	for (const char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
		(void)snprintf(part, sizeof part, "%.*s",
			       slash ? (int)(slash - path) : (int)strlen(path), path);
		if (mkdir(part, slash ? 0755 : mode) < 0 && errno != EEXIST)
			return -errno;
		if (!slash)
			return 0;
	}
}

static int open_directories(struct daemon *d)
{
	int r;

	(void)snprintf(d->state_dir, sizeof d->state_dir, "%s/%s",
		       config_string(d->config, "Paths", "StateDirectory"), d->spec->name);
	(void)snprintf(d->runtime_dir, sizeof d->runtime_dir, "%s",
		       config_string(d->config, "Paths", "RuntimeDirectory"));
	r = make_directories(d->state_dir, 0700);
	if (r == 0)
		r = make_directories(d->runtime_dir, 0755);
	if (r < 0)
		log_error(r, "cannot make the directories", "STATE", d->state_dir, "RUNTIME",
			  d->runtime_dir);
	return r;
}

static int open_store(struct daemon *d)
{
	char path[300];
	int r;

	if (!d->spec->store_version)
		return 0;
	(void)snprintf(path, sizeof path, "%s/state.db", d->state_dir);
	r = store_open(path, d->spec->store_version, NULL, &d->store);
	if (r < 0)
		log_error(r, "cannot open the store", "FILE", path);
	return r;
}

/* The socket is there before the daemon opens: who calls early waits in its queue instead of being
 * turned away. */
static int open_socket(const struct daemon *d)
{
	char path[300];
	int fd = daemon_listen_fd("rpc", 0);

	if (fd >= 0 || !d->spec->actions)
		return fd;
	(void)snprintf(path, sizeof path, "%s/%s.sock", d->runtime_dir, d->spec->name);
	/* A daemon that was killed while it forked leaves the socket to its child, until that one
	 * executes its command. */
	for (int tries = 0; (fd = rpc_listen(path)) == -EADDRINUSE && tries < 20; tries++)
		(void)usleep(50000);
	if (fd < 0)
		log_error(fd, "cannot listen", "SOCKET", path);
	return fd;
}

static int serve(struct daemon *d, int fd)
{
	const char *name = config_string(d->config, "Paths", "Group");
	const struct group *group = *name ? getgrnam(name) : NULL;
	int r;

	if (!d->spec->actions)
		return 0;
	r = rpc_server_new(fd, action_dispatch, d, &d->server);
	if (r < 0) {
		log_error(r, "cannot serve the socket");
		return r;
	}
	if (group)
		rpc_server_set_group(d->server, group->gr_gid);
	return 0;
}

struct opening {
	struct daemon *daemon;
	int fd;
};

/* On a fiber: what the daemon's own open needs. */
static void open_daemon(void *arg)
{
	struct opening *o = arg;
	struct daemon *d = o->daemon;
	int r = d->spec->open ? d->spec->open(d) : 0;

	if (r == 0)
		r = serve(d, o->fd);
	if (r < 0) {
		(void)sd_event_exit(d->loop, EXIT_FAILURE); /* the loop is running: cannot fail */
		return;
	}
	(void)sd_notify(0, "READY=1");
	log_info("ready");
}

static int run(struct daemon *d)
{
	struct opening opening = {.daemon = d, .fd = open_socket(d)};
	sigset_t signals;
	int r;

	if (opening.fd < 0 && d->spec->actions)
		return EXIT_FAILURE;
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &signals, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	r = sd_event_add_signal(d->loop, NULL, SIGTERM, NULL, NULL);
	if (r >= 0)
		r = sd_event_add_signal(d->loop, NULL, SIGINT, NULL, NULL);
	if (r >= 0)
		r = sd_event_set_watchdog(d->loop, 1);
	if (r >= 0)
		r = fiber_spawn(open_daemon, &opening);
	if (r >= 0)
		r = sd_event_loop(d->loop);
	if (r < 0)
		log_error(r, "the event loop failed");
	(void)sd_notify(0, "STOPPING=1");
	return r < 0 ? EXIT_FAILURE : r;
}

static void close_daemon(struct daemon *d)
{
	rpc_server_free(d->server);
	d->server = NULL;
	if (d->spec->close)
		d->spec->close(d);
	fiber_stop();
	for (size_t i = 0; i < PEERS_MAX; i++)
		rpc_peer_free(peers[i].peer);
	store_free(d->store);
	d->loop = sd_event_unref(d->loop);
}

int daemon_main(const struct daemon_spec *spec, int argc, char **argv)
{
	OWN(config_free) struct config *config = NULL;
	const char *config_path = CONFIG_PATH;
	struct daemon *d = &daemon_;
	int is_check = 0, status, r;
	char error[512];

	/* Who looks for leaks (LeakSanitizer) reads its own memory as a tracer. */
#ifndef __SANITIZE_ADDRESS__
	if (spec->has_secrets && prctl(PR_SET_DUMPABLE, 0) < 0)
		return EXIT_FAILURE; /* it never fails */
#endif
	log_start(spec->name);
	status = read_options(spec->name, argc, argv, &config_path, &is_check);
	if (status >= 0)
		return status;
	r = config_load(config_path, &config, error);
	if (r < 0) {
		log_error(r, "the configuration is wrong", "REASON", error);
		return EXIT_FAILURE;
	}
	if (is_check) {
		config_print(config, stdout);
		return EXIT_SUCCESS;
	}
	take_listen_fds();
	d->spec = spec;
	d->config = config;
	if (sd_event_default(&d->loop) < 0 ||
	    fiber_start(d->loop, spec->n_workers ? spec->n_workers : 4) < 0) {
		log_error(0, "no event loop");
		return EXIT_FAILURE;
	}
	if (open_directories(d) < 0 || open_store(d) < 0)
		return EXIT_FAILURE;
	status = run(d);
	close_daemon(d);
	return status;
}
