/*
 * A disk is taken from a guest that does not let go of it: QEMU keeps the device, for a guest that
 * has not acknowledged still has its driver on it, but what is behind it is exchanged for nothing:
 * each request fails from then on, and the image's files are closed. What the guest wrote before is
 * in the file; requests under way are finished first.
 */
#pragma once

#include "virt.h"

/* (fiber) 0: no QEMU has the files open for this disk any more. Safe to repeat. The device itself
 * goes with the guest's acknowledgement, reset or end, and libvirt lists it until then. -ENOENT no
 * such domain or disk, -ENOTCONN, -EIO with QEMU's words. */
int virt_disk_cut(struct virt *v, const char *name, const char *target,
		  char ret_error[static VIRT_ERROR_BYTES]);
