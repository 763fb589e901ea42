/* What virt.c and its parts share; not for other rooms. */
#pragma once

#include <libvirt/libvirt.h>
#include "virt.h"

static inline void virt_connection_unref(virConnectPtr c)
{
	(void)virConnectClose(c); /* the last one out closes it; a count is no failure */
}
static inline void virt_domain_unref(virDomainPtr d)
{
	(void)virDomainFree(d); /* drops a reference */
}
OWN_DEFINE(virConnectPtr, virt_connection_unref);
OWN_DEFINE(virDomainPtr, virt_domain_unref);

/* A new reference to the open connection, NULL while there is none. */
virConnectPtr virt_connection(struct virt *v);
/* (worker) -errno for libvirt's last error in this thread: -ENOENT, -ENOTCONN, -EOPNOTSUPP (this
 * driver has no such call), -EINPROGRESS (it waited in vain for something else that it does with the
 * domain), -EIO; its words to `ret_error` (may be NULL). */
int virt_errno(virConnectPtr connection, char *ret_error);

/* virt-device.c: QEMU let go of a device, or its guest refused to; alias NULL: the domain ended,
 * and name NULL too: the connection is lost. Wakes who waits. */
void virt_device_told(const char *name, const char *alias, int is_refused);
