/* Deadlines: one coarse timer over all connections. */
#include "deadline.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include "log.h"

uint64_t deadline_now(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void arm(struct deadlines *all)
{
	/* Neither fails on a living source. */
	(void)sd_event_source_set_time_relative(all->timer, all->period_usec);
	(void)sd_event_source_set_enabled(all->timer, SD_EVENT_ONESHOT);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct deadlines *all = userdata;
	uint64_t now = deadline_now();
	(void)source, (void)usec;
	for (struct deadline *d = all->first; d; d = d->next) {
		if (d->at_usec > now)
			continue;
		log_debug("connection cut off: too slow");
		(void)shutdown(d->fd, SHUT_RDWR); /* fails only when the client is gone already */
		d->at_usec = UINT64_MAX;
	}
	if (all->first)
		arm(all);
	return 0;
}

int deadlines_start(struct deadlines *all, sd_event *loop, uint64_t period_usec)
{
	all->period_usec = period_usec;
	int r = sd_event_add_time_relative(loop, &all->timer, CLOCK_MONOTONIC, period_usec,
					   period_usec / 4, on_timer, all);
	if (r < 0)
		return r;
	return sd_event_source_set_enabled(all->timer, SD_EVENT_OFF);
}

void deadlines_stop(struct deadlines *all)
{
	all->timer = sd_event_source_disable_unref(all->timer);
}

struct deadline *deadline_new(struct deadlines *all, int fd)
{
	struct deadline *d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->of = all;
	d->fd = fd;
	d->at_usec = UINT64_MAX;
	if (!all->first)
		arm(all);
	else
		all->first->previous = d;
	d->next = all->first;
	all->first = d;
	return d;
}

void deadline_free(struct deadline *d)
{
	if (!d)
		return;
	if (d->previous)
		d->previous->next = d->next;
	else
		d->of->first = d->next;
	if (d->next)
		d->next->previous = d->previous;
	if (!d->of->first && d->of->timer)
		(void)sd_event_source_set_enabled(d->of->timer,
						  SD_EVENT_OFF); /* not on a living source */
	free(d);
}

void deadline_set(struct deadline *d, uint64_t within_usec)
{
	d->at_usec = within_usec == UINT64_MAX ? UINT64_MAX : deadline_now() + within_usec;
}
