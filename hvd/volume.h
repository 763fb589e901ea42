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

/* (fiber) After a start of hvd: an attachment of stord's list that its instance's document does not
 * know was reserved by a request that was cut off; it is taken back. */
void volumes_take_back(const struct context *ctx, const json_t *volumes);
/* A request is about to attach this volume: its reservation is not a leftover. */
int volume_is_claimed(const char *volume_id);

/* The attachment of a volume (of stord's words) to the instance; NULL: none. Borrowed. */
json_t *volume_attachment(const json_t *volume, const char *instance_id);

/* "/dev/sdf", "xvdba" and so on: a name that EC2 takes for a volume. */
int volume_device_is_valid(const char *name);
