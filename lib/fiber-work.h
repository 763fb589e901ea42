/*
 * Work of fibers on threads: what cannot but block (libvirt, fsync of a large file). Used by fiber.c
 * alone; others call fiber_work().
 */
#pragma once

#include <systemd/sd-event.h>

/* Threads come with the first jobs, at most n_max (at least one) of them. 0 or -errno. */
int fiber_work_start(sd_event *loop, unsigned n_max);
/* Waits for the jobs that are being done; nobody does the others, nor wakes their fibers. */
void fiber_work_stop(void);
