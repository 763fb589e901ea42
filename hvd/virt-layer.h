/*
 * Layers of a running domain's disks: going on in a new file, and merging those below. Files are
 * named by path, never by index: libvirt's indices are those of nodes, not of places in the chain.
 * All calls are (fiber); 0, -ENOENT no such domain, -ENOTCONN, -EIO with libvirt's words.
 */
#pragma once

#include "virt.h"

struct virt_switch {
	const char *target; /* "vda" */
	const char *path;   /* an empty qcow2 whose backing is the disk's present file; NULL: this
			       disk stays as it is */
	const char *secret; /* uuid of the libvirt secret that opens an encrypted one; NULL: none */
};
/* All disks of the domain must be there, for libvirt switches what it is not told of too. All that
 * have a path are switched at one instant, or none. */
int virt_layers_switch(struct virt *v, const char *name, const struct virt_switch *disks, size_t n,
		       char ret_error[static VIRT_ERROR_BYTES]);

/* Starts to merge `top` down into `base`, which it stands on; neither is the active layer. */
int virt_layer_commit(struct virt *v, const char *name, const char *target, const char *top,
		      const char *base, char ret_error[static VIRT_ERROR_BYTES]);
/* Starts to pull everything above `base` (NULL: everything) up into the active layer. */
int virt_layer_pull(struct virt *v, const char *name, const char *target, const char *base,
		    char ret_error[static VIRT_ERROR_BYTES]);
/* QEMU's own memory of the disk's active layer is in the file, and the file on the disk. After a
 * pull QEMU changes the header at once, and keeps the tables of what it pulled in memory until a
 * guest flushes; libvirt has no call that flushes without a pause, so the monitor is asked. */
int virt_layer_flush(struct virt *v, const char *name, const char *alias,
		     char ret_error[static VIRT_ERROR_BYTES]);
/* 1: one of these is under way; 0: none. */
int virt_layer_job(struct virt *v, const char *name, const char *target);
/* Ends it; when it returns 0 there is none. */
int virt_layer_job_stop(struct virt *v, const char *name, const char *target);
