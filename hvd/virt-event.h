/*
 * libvirt's events on our sd-event loop.
 *
 * libvirt wants an event loop it may talk to from any thread (its client adds and changes watches
 * from whichever worker is in a call), sd-event is for one thread only. So libvirt's file
 * descriptors live in an epoll set of their own, which the kernel makes safe to change from
 * anywhere, with one timerfd for all its timeouts; sd-event sees a single descriptor. Callbacks
 * run on the loop's thread.
 */
#pragma once

#include <systemd/sd-event.h>

/* Registers with libvirt. Once per process, before any connection. 0 or -errno. */
int virt_event_start(sd_event *loop);
/* Takes the set off the loop; libvirt's late calls still find it. */
void virt_event_stop(void);
/* Ends every socket that is watched: libvirt sees it as if its other side had closed it. From any
 * thread. */
void virt_event_hang_up(void);
