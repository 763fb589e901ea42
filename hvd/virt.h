/*
 * Virt: the connection to libvirt. Opens it, keeps it, tells what happens to domains, and makes
 * the few calls that guests need. libvirt's calls block, so all of ours are (fiber) and run on a
 * worker; a domain is named by its instance id. While the connection is down every call is
 * -ENOTCONN at once, and it is opened again in the background; after each (re)connection the
 * `connected` hook is called, and then whoever keeps state compares.
 */
#pragma once

#include <errno.h>
#include <stddef.h>
#include <systemd/sd-event.h>
#include "own.h"

struct virt;

enum virt_event {
	VIRT_STARTED,
	VIRT_SHUTDOWN,	/* the guest powered off */
	VIRT_DESTROYED, /* somebody cut it off */
	VIRT_CRASHED,	/* QEMU died or failed */
	VIRT_REBOOTED,
	/* QEMU was told to end by a signal of the host's: VIRT_SHUTDOWN follows, and is not the
	 * guest's doing */
	VIRT_TERMINATED,
	/* a device was let go of, or a disk's state changed: compare */
	VIRT_DEVICES,
};

/* Called on the loop, outside of fibers. */
struct virt_hooks {
	void (*connected)(void *userdata);
	void (*event)(void *userdata, const char *name, enum virt_event event);
};

/* Connects in the background; a libvirt that says nothing for patience_usec is given up, and asked
 * anew. 0 or -errno. One per process. */
int virt_new(sd_event *loop, const char *uri, uint64_t patience_usec,
	     const struct virt_hooks *hooks, void *userdata, struct virt **ret_virt);
/* Closes the connection, also to a libvirt that hangs; guests stay. Not in a fiber: the loop has
 * ended, and so does the process. */
void virt_free(struct virt *v);
OWN_DEFINE(struct virt *, virt_free);

int virt_is_connected(const struct virt *v);
/* "9.0.0" of the libvirt that answers, "" while unknown. */
const char *virt_version(const struct virt *v);

#define VIRT_ERROR_BYTES 256

/* (fiber) Starts a transient domain. 0; -EEXIST when one of its name is there already;
 * -ENOTCONN; -EIO with libvirt's words in `ret_error`. */
int virt_create(struct virt *v, const char *name, const char *xml,
		char ret_error[static VIRT_ERROR_BYTES]);
/* (fiber) 1: there is an active domain of this name; 0: there is none; -ENOTCONN, -EIO. */
int virt_is_active(struct virt *v, const char *name);
/* (fiber) Presses the power button. 0, -ENOENT no such domain, -ENOTCONN, -EIO. The others
 * likewise. */
int virt_power_button(struct virt *v, const char *name);
/* The power button, and when the guest has powered off it is started anew in the same process. */
int virt_reboot(struct virt *v, const char *name);
/* The reset button. */
int virt_reset(struct virt *v, const char *name);
/* Cuts it off; -ENOENT counts as done (0). When it returns QEMU is gone. */
int virt_destroy(struct virt *v, const char *name);
/* What libvirt failed at may be done when it is asked again: it was away, or in vain it waited for
 * something else that it does with the domain (-EINPROGRESS). */
static inline int virt_may_pass(int error)
{
	return error == -ENOTCONN || error == -EINPROGRESS || error == -ENOMEM;
}
/* (fiber) After libvirt failed at something (-EIO): whose word that was. 1: its QEMU lives and
 * answers, so that it is a refusal; 0: the domain has ended, which libvirt takes a moment to see
 * itself; -EINPROGRESS: it is not to be known now; -ENOTCONN. */
int virt_has_refused(struct virt *v, const char *name);
