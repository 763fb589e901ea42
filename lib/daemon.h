/*
 * The frame of a daemon. main() is a few verbs:
 *
 *	static const struct daemon_spec spec = { .name = "netd", .open = netd_open, .reconcile = …, .close = … };
 *	int main(int argc, char **argv) { return daemon_main(&spec, argc, argv); }
 *
 * daemon_main: parses the options (-c/--config FILE, -n/--check, -h/--help, --version), reads the configuration, makes the loop and fibers,
 * opens <StateDirectory>/<name>/ (0700), calls open (on a fiber), takes the listening socket from systemd (sd_listen_fds, the one named "rpc") or makes
 * <RuntimeDirectory>/<name>.sock, serves the daemon's actions on it, says READY=1, feeds the watchdog, and on
 * SIGTERM/SIGINT leaves. Reconciling is part of open: a daemon says READY when what it owns is as it should be, or is being made so.
 */
#pragma once

#include <systemd/sd-event.h>
#include "action.h"
#include "config.h"

struct daemon {
	const struct daemon_spec *spec;
	const struct config *config;
	sd_event *loop;
	struct store *store; /* NULL if the spec has no kinds */
	struct rpc_server *server;
	void *state;	       /* the daemon's own */
	char state_dir[256];   /* <StateDirectory>/<name> */
	char runtime_dir[256]; /* <RuntimeDirectory> */
};

struct daemon_spec {
	const char *name;	       /* "netd" */
	const struct action *actions;  /* ended by a row without a name; NULL: no rpc socket */
	unsigned store_version;	       /* > 0: has a store <state_dir>/state.db; see store.h */
	int (*open)(struct daemon *d); /* (fiber) 0 or -errno after logging */
	void (*close)(struct daemon *d);
	unsigned n_workers;	     /* threads for fiber_work, 0: 4 */
	int has_secrets;	     /* its memory is for nobody: no core files, no tracing but by
					root */
	const char *const *prefixes; /* of the ids this daemon owns ("vol", "snap"), ended by NULL:
					"gureum.Describe" tells them; NULL: none */
};

int daemon_main(const struct daemon_spec *spec, int argc, char **argv);
/* The running daemon (one per process). */
struct daemon *daemon_get(void);
/* A peer by daemon name ("netd"), made once: <RuntimeDirectory>/netd.sock. */
struct rpc_peer *daemon_peer(const char *name);
/* The i-th descriptor that systemd passed under this FDNAME (a socket unit may listen on several
 * addresses), -1 if there are no more. Owned by the daemon frame. */
int daemon_listen_fd(const char *fd_name, size_t i);
