/*
 * Devices of a running domain: what it has, plugging one in, pulling one out. For volumes and
 * interfaces alike; a device's words come from domain_disk_xml() and domain_nic_xml().
 *
 * What is true is what libvirt's live XML says, and nothing else. libvirt's detach returns success
 * after five seconds with the device still there when a guest does not acknowledge; so here a
 * detach ends with the event that QEMU let go of it, and the XML is read once more.
 */
#pragma once

#include "virt.h"

enum virt_device_kind {
	VIRT_DISK,
	VIRT_INTERFACE,
};

struct virt_device {
	enum virt_device_kind kind;
	char target[16];  /* "vdb"; an interface's tap */
	char alias[48];	  /* libvirt's name for it, "virtio-disk1" */
	char source[512]; /* of a disk: the file that takes its writes */
	char format[16];  /* of a disk: that file's */
	char serial[40];  /* of a disk: "vol0…" */
	char mac[24];	  /* of an interface */
	unsigned bus, slot;
};

struct virt_devices {
	struct virt_device *list;
	size_t n;
};
void virt_devices_clear(struct virt_devices *d);
static inline void own_virt_devices_clear(struct virt_devices *d)
{
	virt_devices_clear(d);
}
/* NULL: there is none. */
const struct virt_device *virt_device_find(const struct virt_devices *d, enum virt_device_kind kind,
					   const char *target);

/* (fiber) The disks and interfaces that the domain has now. 0, -ENOENT no such domain, -ENOTCONN,
 * -EIO. */
int virt_devices_read(struct virt *v, const char *name, struct virt_devices *ret_devices);

/* (fiber) Plugs in a device that has no address in its XML: it gets a free place. When it returns
 * the guest can see it. 0; -EEXIST: its target is taken; -ENOSPC: no place is free; -ENOENT no such
 * domain; -ENOTCONN; -EIO with libvirt's words. */
int virt_device_attach(struct virt *v, const char *name, const char *xml,
		       char ret_error[static VIRT_ERROR_BYTES]);

/* (fiber) Asks the guest to let go of a device and waits, at most wait_usec, until QEMU has let go.
 * 0: it is gone, also if it never was there or the domain is gone. -ETIMEDOUT: the guest has not
 * acknowledged, and may still: the hook `event` is then called with VIRT_DEVICES. -EBUSY: the guest
 * refused. -ENOTCONN; -EIO with libvirt's words. Safe to repeat. */
int virt_device_detach(struct virt *v, const char *name, enum virt_device_kind kind,
		       const char *target, uint64_t wait_usec,
		       char ret_error[static VIRT_ERROR_BYTES]);
