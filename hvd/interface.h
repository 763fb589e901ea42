/*
 * Interfaces that come to an instance and go from it while it lives. netd owns them and says whose
 * they are; the guest's device is ours to plug.
 *
 * netd's attachment says what is wanted: `attaching` and `attached` want a device in the running
 * guest, `detaching` wants none; the instance's NetworkInterfaces are a copy of it. The handlers
 * only have netd begin, and kick; interfaces_settle() makes the world agree, is called by the
 * instance's fiber however often, and can be cut off anywhere: whether a device is there is read
 * from libvirt, by its tap.
 */
#pragma once

#include "instance-rooms.h"
#include "virt-device.h"

/* (fiber) Makes the guest's devices, netd's attachments and the document's copy of them agree.
 * has_domain: it runs. Milliseconds after which to look again, 0: when something happens; -errno:
 * something that may pass failed. */
int interfaces_settle(struct live *l, int has_domain);
/* part-return.c: an attachment that netd has begun for a request that came to nothing is ended in the
 * background, again and again until it works; not one that the instance's document has by then. */
void interface_return_later(const struct context *ctx, const char *id, const char *instance_id);
/* Every interface of the document is what it shall be. */
int interfaces_are_settled(const json_t *instance);
