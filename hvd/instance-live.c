/*
 * What lives in memory of instances that are not terminated, and who works on them: one fiber per
 * instance at a time, started by a kick.
 *
 * Theory: a kick only marks; the work begins from the loop. So a handler may kick before its
 * transaction is committed, and kicks that come while the fiber runs make it go round once more:
 * no change is missed, and two fibers never work on one instance.
 */
#include <errno.h>
#include <search.h>
#include <string.h>

#include "guest.h"
#include "instance-rooms.h"
#include "interface.h"
#include "volume.h"

#define AGAIN_FIRST_MSEC 500
#define AGAIN_LAST_MSEC	 30000
#define TIMER_SLACK_USEC 50000

static void *lives; /* a tree by id */
static struct live **kicked;
static size_t n_kicked, n_space;
static sd_event_source *drain;
static unsigned n_connections;

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct live *)a)->id, ((const struct live *)b)->id);
}

struct live *live_find(const char *id)
{
	struct live key;

	snprintf(key.id, sizeof(key.id), "%s", id);
	struct live *const *slot = tfind(&key, &lives, compare);
	return slot ? *slot : NULL;
}

struct live *live_get(const char *id)
{
	struct live *l = live_find(id);

	if (l)
		return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	snprintf(l->id, sizeof(l->id), "%s", id);
	if (!tsearch(l, &lives, compare)) {
		free(l);
		return NULL;
	}
	return l;
}

static void live_free(struct live *l)
{
	tdelete(l, &lives, compare);
	guest_free(l->guest);
	sd_event_source_disable_unref(l->timer);
	free(l);
}

void live_close(void)
{
	while (lives)
		live_free(*(struct live **)lives);
	free(kicked);
	kicked = NULL;
	n_kicked = n_space = 0;
	drain = sd_event_source_disable_unref(drain);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	const struct live *l = userdata;

	(void)source, (void)usec;
	instance_kick(l->id);
	return 0;
}

/* One timer per instance, and only while something is awaited. */
static void look_again(struct live *l, int msec)
{
	uint64_t at = now_usec() + (uint64_t)msec * 1000;

	if (msec == 0) {
		l->timer = sd_event_source_disable_unref(l->timer);
	} else if (!l->timer) {
		/* out of memory: the next event */
		(void)sd_event_add_time(fiber_loop(), &l->timer, CLOCK_MONOTONIC, at,
					TIMER_SLACK_USEC, on_timer, l);
	} else {
		(void)sd_event_source_set_time(l->timer, at); /* a live source: cannot fail */
		(void)sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
	}
}

static int backoff_msec(unsigned n_failures)
{
	int msec = AGAIN_FIRST_MSEC;

	while (--n_failures > 0 && msec < AGAIN_LAST_MSEC)
		msec *= 2;
	return msec < AGAIN_LAST_MSEC ? msec : AGAIN_LAST_MSEC;
}

static void work_run(void *arg)
{
	struct live *l = arg;
	int r = 0;

	do {
		l->is_kicked = 0;
		r = instance_reconcile(l);
		l->n_failures = r < 0 ? l->n_failures + 1 : 0;
	} while (l->is_kicked && r >= 0);
	l->has_fiber = 0;
	l->is_kicked = 0; /* a kick during a failure is answered by looking again */
	if (r >= 0 && instance_is_over(l->id))
		live_free(l);
	else
		look_again(l, r < 0 ? backoff_msec(l->n_failures) : r);
}

static int on_drain(sd_event_source *source, void *userdata)
{
	(void)source, (void)userdata;
	for (size_t i = 0; i < n_kicked; i++) {
		struct live *l = kicked[i];
		if (l->has_fiber) /* it goes round once more by itself */
			continue;
		l->has_fiber = 1;
		if (fiber_spawn(work_run, l) < 0) {
			l->has_fiber = l->is_kicked = 0;
			look_again(l, AGAIN_FIRST_MSEC);
		}
	}
	n_kicked = 0;
	return 0;
}

void instance_kick(const char *id)
{
	struct live *l = live_get(id);

	if (!l || l->is_kicked)
		return; /* out of memory: the next event kicks again */
	if (n_kicked == n_space) {
		struct live **more = realloc(kicked, (n_space * 2 + 16) * sizeof(*more));
		if (!more)
			return;
		kicked = more;
		n_space = n_space * 2 + 16;
	}
	if (!drain && sd_event_add_defer(fiber_loop(), &drain, on_drain, NULL) < 0)
		return;
	l->is_kicked = 1;
	if (l->has_fiber)
		return;
	kicked[n_kicked++] = l;
	(void)sd_event_source_set_enabled(drain, SD_EVENT_ONESHOT); /* a live source: cannot fail */
}

void instance_kick_all(struct store *s)
{
	store_each (s, INSTANCE_KIND, d)
		switch (instance_state_of(d->json)) {
		case INSTANCE_STOPPED: /* there is nothing else of them outside the store */
			if (!volumes_are_settled(d->json) || !interfaces_are_settled(d->json))
				instance_kick(d->id);
			break;
		case INSTANCE_TERMINATED:
			break;
		default:
			instance_kick(d->id);
		}
}

unsigned instance_connection(void)
{
	return n_connections;
}

void instance_on_connected(struct store *s)
{
	n_connections++;
	instance_kick_all(s);
	store_each (s, INSTANCE_KIND, d) {
		enum instance_state state = instance_state_of(d->json);
		struct live *l;

		if (state != INSTANCE_STOPPED && state != INSTANCE_TERMINATED)
			continue;
		if ((l = live_get(d->id))) /* out of memory: at the next connection */
			l->is_doubtful = 1;
		instance_kick(d->id);
	}
}
