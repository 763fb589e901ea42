/*
 * Guest port: the host's end of a guest's virtio-serial port. A unix socket for each instance, on
 * which hvd listens and to which the guest's QEMU connects: when it starts, and again within a
 * second whenever the connection has ended. So the path is always the same
 * (<RuntimeDirectory>/agents/<instance id>), and the file is made anew by each hvd. A guest whose
 * port is missing runs on without; QEMU goes on trying.
 *
 * Who may speak: the directory can be passed but not listed, a socket is for the group `kvm`, which
 * QEMU's user belongs to, and of those only the domain's own QEMU is listened to: the process (of
 * SO_PEERCRED) that libvirt's pid file of the domain, written by libvirtd alone before it executes
 * QEMU, says it is. Another guest's QEMU has the same user, so that the uid would tell nothing.
 *
 * What comes is a stranger's: at most GUEST_PORT_RATE_BYTES are read of each guest in a second; the
 * rest waits, and in the end QEMU and the guest do.
 */
#pragma once

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include "daemon.h"
#include "own.h"

#define GUEST_PORT_RATE_BYTES (64 << 10)
#define GUEST_PORT_PATH_BYTES sizeof(((struct sockaddr_un *)0)->sun_path)

struct guest_port;
struct guest_port_hooks {
	/* a connection has begun: what came before, if it was half a line, is of another one */
	void (*connected)(void *userdata);
	void (*data)(void *userdata, const char *bytes, size_t n_bytes);
};

/* Once, before the others: makes the directory, and empties it of a former hvd's sockets. 0 or
 * -errno after logging; -ENAMETOOLONG when a socket's path would not fit into an address. */
int guest_ports_open(const struct daemon *d);
/* The path for libvirt. */
void guest_port_path(const struct daemon *d, const char *instance_id,
		     char ret_path[static GUEST_PORT_PATH_BYTES]);

/* Listens. 0 or -errno. */
int guest_port_new(const struct daemon *d, const char *instance_id,
		   const struct guest_port_hooks *hooks, void *userdata,
		   struct guest_port **ret_port);
/* Ends the connection, if there is one, and takes the socket away. NULL is fine. */
void guest_port_free(struct guest_port *p);
OWN_DEFINE(struct guest_port *, guest_port_free);

int guest_port_is_connected(const struct guest_port *p);
/* All of the bytes; -ENOTCONN, or -EPIPE: they are not taken (any more), and the connection is cut. */
int guest_port_write(struct guest_port *p, const char *bytes, size_t n_bytes);
/* Ends the connection: what was written and not read yet is lost. QEMU comes again. */
void guest_port_cut(struct guest_port *p);

/* Whether the peer is the process that the pid file names. Without such a file (libvirt keeps that
 * of a session of our own user elsewhere) it is enough that it is our own user. */
int guest_port_is_trusted(const struct ucred *peer, const char *pid_path);
