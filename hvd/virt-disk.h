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
/* A guest that QEMU stopped because a write failed goes on, and the write is done again. 1: it was
 * one; 0: it was not. */
int virt_disk_go_on(struct virt *v, const char *name, char ret_error[static VIRT_ERROR_BYTES]);
/* 1: QEMU has stopped the guest because a write failed; 0: it has not. */
int virt_disk_is_stuck(struct virt *v, const char *name);
