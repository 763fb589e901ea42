/*
 * Refresh: hvd keeps what an instance shows of its interfaces, and is told when that changed.
 *
 * The mark is committed together with the change (member _Untold of the interface) and taken away
 * when hvd has heard: a crash in between is made up for at the next start. Nobody waits for hvd: it
 * may be hvd that asks for the change.
 */
#pragma once

#include "netd.h"

/* Marks a changed copy of an interface, if it is attached. 0 or -ENOMEM. */
int refresh_mark(json_t *json);
/* After the commit: tells hvd of the interface, if it is there and marked, in the background, again
 * and again until it was told or there is nothing to tell. */
void refresh_start(const struct store *s, const char *interface_id);
/* The same for all marked interfaces of the VPC, NULL: of every VPC. */
void refresh_start_all(const struct store *s, const char *vpc_id);
