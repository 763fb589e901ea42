/*
 * Layers: a volume's path changes with each snapshot, and stord decides when. Whoever hands a path
 * to libvirt must be sure that it is still the volume's; and stord must be sure, when it is told
 * that no guest has a volume, that none is about to get it by an old path.
 *
 *	OWN(paths_end) struct paths *p = paths_begin(instance_id);
 *	… ask stord (AttachVolume) …
 *	if (!paths_enter(p))
 *		… begin again: a path may have changed …
 *	… libvirt gets the paths: virt_create(), virt_device_attach() …
 *
 * Between enter and end stord's questions about this instance wait; so nothing is asked of stord
 * there.
 */
#pragma once

#include "own.h"

struct paths;

/* NULL out of memory. */
struct paths *paths_begin(const char *instance_id);
/* (fiber) 1: what stord said since paths_begin() holds, and will until paths_end(). 0: ask again.
 */
int paths_enter(struct paths *p);
/* (fiber) The same once more: what is asked of stord from now on counts. */
void paths_again(struct paths *p);
/* (fiber) Nobody hands a path of this instance to libvirt until paths_end(). */
void paths_hold(struct paths *p);
/* (held) What anybody was told before does not count any more. */
void paths_expire(struct paths *p);
void paths_end(struct paths *p);
OWN_DEFINE(struct paths *, paths_end);
