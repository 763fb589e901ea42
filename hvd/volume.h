/*
 * Volumes as instances have them. stord owns volumes and says who may have one; the guest's disk is
 * ours to plug.
 *
 * A row of an instance's BlockDeviceMappings says what is wanted: `attaching` and `attached` want a
 * disk in the running guest, `detaching` wants none. The handlers only write the row (after stord
 * has reserved the volume) and kick; volumes_settle() makes the world agree, is called by the
 * instance's fiber however often, and can be cut off anywhere: whether a disk is there is read from
 * libvirt, by its serial.
 */
#pragma once

#include "instance-rooms.h"
#include "virt-device.h"

/* (fiber) Makes the guest's disks, stord's attachments and the document's rows agree. has_domain:
 * it runs. Milliseconds after which to look again, 0: when something happens; -errno: something
 * that may pass failed. */
int volumes_settle(struct live *l, int has_domain);
/* volume-stuck.c: (fiber) a guest that stopped because a write found no room on the host goes on
 * when there is some, and stord hears which volumes it is about. Milliseconds after which to look
 * again, 0, or -errno. */
int volumes_unstick(struct live *l, const struct context *ctx, const struct virt_devices *devices);
/* Every row is what it shall be. */
int volumes_are_settled(const json_t *instance);
/* The disk that a running domain has of a volume, by its serial; NULL: none. */
const struct virt_device *volume_live_disk(const struct virt_devices *devices,
					   const char *volume_id);
/* The row of a volume; NULL: none. Borrowed. */
json_t *volume_mapping(const json_t *instance, const char *volume_id);

/* part-return.c: whoever makes or ends an attachment holds the volume (hold.h) from before he asks
 * stord until the row is as it shall be. */

/* (fiber) The volume is held, and the instance has no row of it: stord has it back. 0 also when stord
 * had not given it, or when there is a row; -errno: stord is away. */
int volume_return(const struct context *ctx, const char *volume_id, const char *instance_id);
/* The same in the background, again and again until it works. Anywhere; nobody need hold it. */
void volume_return_later(const struct context *ctx, const char *volume_id, const char *instance_id);
/* The same for each attachment of stord's list that its instance's document
 * does not know: what reserved it or gave it back was cut off. */
void volumes_take_back(const struct context *ctx, const json_t *volumes);

/* The attachment of a volume (of stord's words) to the instance; NULL: none. Borrowed. */
json_t *volume_attachment(const json_t *volume, const char *instance_id);

/* "/dev/sdf", "xvdba" and so on: a name that EC2 takes for a volume. */
int volume_device_is_valid(const char *name);
