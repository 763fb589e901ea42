/*
 * A volume's file becomes larger: where a guest has it open by the guest's QEMU, else by qemu-img.
 * The volume is held by the caller, and its document does not change here.
 */
#pragma once

#include "daemon.h"

/* (fiber) All instances that have the volume are asked to apply `more` (taken over) to it. 1: at
 * least one guest has it, and did as asked; 0: none has; -EAGAIN: one could not be asked; -EBUSY:
 * one refused. */
int volume_ask_guests(const struct doc *volume, json_t *more);
/* (fiber) Until it has this size. Safe to repeat. 0: it has, whoever did it: also a QEMU whose answer
 * was lost, or a qemu-img that outlived an earlier stord. -EAGAIN: not known; else -errno: it could
 * not, and has not. */
int volume_grow(struct daemon *d, const char *volume_id, int64_t gib);
