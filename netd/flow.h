/*
 * Flows: one VPC's flow logs at work. Counts come from the kernel (flow-capture.h), lines go to
 * files (flow-file.h). Memory is bounded: what does not fit is lost and said so by a SKIPDATA line.
 * Packets never wait: the kernel drops what is not read in time. Files are written by a worker, one
 * for all VPCs, so a slow disk delays nothing but lines.
 *
 * A window is a minute at most, whatever MaxAggregationInterval says: AWS does the same for all its
 * newer instance types.
 */
#pragma once

#include <systemd/sd-event.h>
#include "daemon.h"
#include "flow-line.h"
#include "netns.h"

struct flows;

/* Where lines go: files below `directory` of at most `n_max` bytes for each log. Copied. */
struct flow_place {
	char directory[300];
	uint64_t n_max;
};

/* The place as the daemon's configuration says, made if it is not there; files that have been of no
 * use for long go. 0 or -errno. */
int flow_place_open(const struct daemon *d, struct flow_place *ret_place);

/* `setup` is referenced. 0 or -errno. */
int flows_new(sd_event *loop, const struct netns *n, struct flow_setup *setup,
	      const struct flow_place *place, struct flows **ret_flows);
/* What counts from now on; what was counted before still is what it was. */
void flows_set(struct flows *f, struct flow_setup *setup);
/* (fiber) Ends the window now: all counts so far are in the files when it returns. 0 or -errno. */
int flows_flush(struct flows *f);
/* Writes what there is, as a daemon that ends should: blocks. */
void flows_end(struct flows *f);
/* What was counted and not written goes to the files by and by. NULL is fine. */
void flows_free(struct flows *f);
