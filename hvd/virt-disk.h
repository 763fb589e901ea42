/*
 * A running domain's disk, changed while the guest uses it. All calls are (fiber); 0, -ENOENT no
 * such domain, -ENOTCONN, -EIO with libvirt's words.
 */
#pragma once

#include "domain.h"
#include "virt.h"

/* The guest sees the new size when it returns. Smaller than it is: -EIO. */
int virt_disk_resize(struct virt *v, const char *name, const char *target, int64_t bytes,
		     char ret_error[static VIRT_ERROR_BYTES]);
/* In force at once. */
int virt_disk_limit(struct virt *v, const char *name, const char *target,
		    const struct domain_limits *limits, char ret_error[static VIRT_ERROR_BYTES]);
/* A guest that QEMU stopped because a write failed. */
struct virt_stuck {
	int is_stuck;
	char targets[DOMAIN_DISKS_MAX][16]; /* of the disks that failed */
	size_t n;
};
int virt_disk_read_stuck(struct virt *v, const char *name, struct virt_stuck *ret_stuck);
/* Lets it go on: the write is done again. 0 also if it was not stopped. */
int virt_disk_go_on(struct virt *v, const char *name, char ret_error[static VIRT_ERROR_BYTES]);
