/*
 * What libvirt needs to open an encrypted disk: a secret, in libvirtd's memory alone (ephemeral)
 * and never given out again (private). The domain's XML names it by its uuid, which follows from
 * the volume's id; libvirt hands it to QEMU encrypted.
 */
#pragma once

#include "virt.h"

/* (fiber) libvirt knows the volume's passphrase when it returns 0. -ENOTCONN, -EIO with libvirt's
 * words. Safe to repeat. */
int virt_secret_set(struct virt *v, const char *volume_id, const char *passphrase,
		    char ret_error[static VIRT_ERROR_BYTES]);
/* (fiber) libvirt forgets it; also if it does not know it. */
int virt_secret_forget(struct virt *v, const char *volume_id);
