/*
 * Deadlines: connections that must make progress by a time, or are cut off. libmicrohttpd's own
 * timeout starts again with each byte; a client that sends a byte now and then would hold a
 * connection for ever.
 */
#pragma once

#include <stdint.h>
#include <systemd/sd-event.h>

struct deadline {
	struct deadline *previous, *next;
	struct deadlines *of;
	int fd;
	uint64_t at_usec; /* CLOCK_MONOTONIC */
};

/* Zero-initialised, then deadlines_start. No timer runs while there are no connections. */
struct deadlines {
	struct deadline *first;
	sd_event_source *timer;
	uint64_t period_usec;
};

/* Looks for the late ones each `period_usec`. 0 or -errno. */
int deadlines_start(struct deadlines *all, sd_event *loop, uint64_t period_usec);
void deadlines_stop(struct deadlines *all);
/* A connection of descriptor `fd`, which stays its owner's: it is shut down when late, so that its
 * owner sees its end. NULL out of memory. */
struct deadline *deadline_new(struct deadlines *all, int fd);
void deadline_free(struct deadline *d);
/* From now on `d` has so much time; UINT64_MAX: any. */
void deadline_set(struct deadline *d, uint64_t within_usec);

uint64_t deadline_now(void);
