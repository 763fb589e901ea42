/* libvirt's event loop interface: an epoll set with a timerfd, seen by sd-event as one
 * descriptor. */
#include "virt-event.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <libvirt/libvirt.h>

#define TIMER_ID 0 /* in epoll_event.data: the timerfd; watches count from 1 */

struct watch {
	int id, fd, events;
	/* a descriptor with no events wanted is taken out: epoll would go on telling hang-ups */
	int is_in_set;
	int is_dead; /* removed; freed from the loop, as libvirt demands */
	virEventHandleCallback run;
	void *opaque;
	virFreeCallback release;
	struct watch *next;
};

struct timeout {
	int id, period_msec; /* < 0: off, 0: at once */
	uint64_t next_usec;
	int is_dead;
	virEventTimeoutCallback run;
	void *opaque;
	virFreeCallback release;
	struct timeout *next;
};

static struct {
	pthread_mutex_t mutex; /* around the lists, never held in a callback */
	int set, timer;
	sd_event_source *source;
	struct watch *watches;
	struct timeout *timeouts;
	int last_id;
} self = {.mutex = PTHREAD_MUTEX_INITIALIZER, .set = -1, .timer = -1};

static uint64_t now_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint32_t to_epoll(int events)
{
	return (events & VIR_EVENT_HANDLE_READABLE ? EPOLLIN : 0u) |
	       (events & VIR_EVENT_HANDLE_WRITABLE ? EPOLLOUT : 0u);
}

static int from_epoll(uint32_t events)
{
	return (events & EPOLLIN ? VIR_EVENT_HANDLE_READABLE : 0) |
	       (events & EPOLLOUT ? VIR_EVENT_HANDLE_WRITABLE : 0) |
	       (events & EPOLLERR ? VIR_EVENT_HANDLE_ERROR : 0) |
	       (events & EPOLLHUP ? VIR_EVENT_HANDLE_HANGUP : 0);
}

/* (locked) Makes the set agree with what the watch wants. */
static int watch_apply(struct watch *w)
{
	struct epoll_event e = {.events = to_epoll(w->events), .data.u64 = (uint64_t)w->id};
	int wanted = !w->is_dead && e.events;

	if (!wanted && !w->is_in_set)
		return 0;
	int op = !wanted ? EPOLL_CTL_DEL : w->is_in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	w->is_in_set = wanted;
	/* The descriptor may be closed already: then the kernel has taken it out. */
	return epoll_ctl(self.set, op, w->fd, &e) < 0 && op == EPOLL_CTL_ADD ? -1 : 0;
}

/* (locked) Sets the timerfd to what is due first; `at_once` when something is to be freed. */
static void timer_apply(int at_once)
{
	uint64_t first = at_once ? 1 : 0; /* a time long past */
	for (struct timeout *t = self.timeouts; t; t = t->next)
		if (!t->is_dead && t->period_msec >= 0 && (!first || t->next_usec < first))
			first = t->next_usec ? t->next_usec : 1;
	struct itimerspec when = {.it_value = {.tv_sec = (time_t)(first / 1000000),
					       .tv_nsec = (long)(first % 1000000) * 1000}};
	/* fails for a bad time only */
	(void)timerfd_settime(self.timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int watch_add(int fd, int events, virEventHandleCallback run, void *opaque,
		     virFreeCallback release)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	pthread_mutex_lock(&self.mutex);
	*w = (struct watch){.id = ++self.last_id,
			    .fd = fd,
			    .events = events,
			    .run = run,
			    .opaque = opaque,
			    .release = release};
	int id = w->id;
	if (watch_apply(w) < 0) {
		free(w);
		id = -1;
	} else {
		w->next = self.watches;
		self.watches = w;
	}
	pthread_mutex_unlock(&self.mutex);
	return id;
}

static void watch_update(int id, int events)
{
	pthread_mutex_lock(&self.mutex);
	for (struct watch *w = self.watches; w; w = w->next)
		if (w->id == id && !w->is_dead && w->events != events) {
			w->events = events;
			(void)watch_apply(w); /* libvirt has no place for a failure */
		}
	pthread_mutex_unlock(&self.mutex);
}

static int watch_remove(int id)
{
	int r = -1;

	pthread_mutex_lock(&self.mutex);
	for (struct watch *w = self.watches; w; w = w->next)
		if (w->id == id && !w->is_dead) {
			w->is_dead = 1;
			(void)watch_apply(w); /* taking out does not fail */
			timer_apply(1);
			r = 0;
		}
	pthread_mutex_unlock(&self.mutex);
	return r;
}

static void timeout_arm(struct timeout *t, int period_msec)
{
	t->period_msec = period_msec;
	t->next_usec = now_usec() + (period_msec > 0 ? (uint64_t)period_msec * 1000 : 0);
}

static int timeout_add(int period_msec, virEventTimeoutCallback run, void *opaque,
		       virFreeCallback release)
{
	struct timeout *t = calloc(1, sizeof(*t));

	if (!t)
		return -1;
	pthread_mutex_lock(&self.mutex);
	*t = (struct timeout){.id = ++self.last_id,
			      .run = run,
			      .opaque = opaque,
			      .release = release,
			      .next = self.timeouts};
	timeout_arm(t, period_msec);
	self.timeouts = t;
	timer_apply(0);
	int id = t->id;
	pthread_mutex_unlock(&self.mutex);
	return id;
}

static void timeout_update(int id, int period_msec)
{
	pthread_mutex_lock(&self.mutex);
	for (struct timeout *t = self.timeouts; t; t = t->next)
		if (t->id == id && !t->is_dead)
			timeout_arm(t, period_msec);
	timer_apply(0);
	pthread_mutex_unlock(&self.mutex);
}

static int timeout_remove(int id)
{
	int r = -1;

	pthread_mutex_lock(&self.mutex);
	for (struct timeout *t = self.timeouts; t; t = t->next)
		if (t->id == id && !t->is_dead) {
			t->is_dead = 1;
			timer_apply(1);
			r = 0;
		}
	pthread_mutex_unlock(&self.mutex);
	return r;
}

static void run_watch(const struct epoll_event *e)
{
	struct watch copy = {0};

	pthread_mutex_lock(&self.mutex);
	for (struct watch *w = self.watches; w; w = w->next)
		if ((uint64_t)w->id == e->data.u64 && !w->is_dead)
			copy = *w;
	pthread_mutex_unlock(&self.mutex);
	if (copy.run)
		copy.run(copy.id, copy.fd, from_epoll(e->events), copy.opaque);
}

/* Runs what is due. One at a time, looked up anew each time: a callback may add and remove
 * others. */
static void run_timeouts(uint64_t until_usec)
{
	for (;;) {
		struct timeout copy = {0};
		pthread_mutex_lock(&self.mutex);
		for (struct timeout *t = self.timeouts; t; t = t->next)
			if (!t->is_dead && t->period_msec >= 0 && t->next_usec <= until_usec) {
				copy = *t;
				/* A period of 0 is due again on the next round, not on this one. */
				t->next_usec = until_usec + 1 + (uint64_t)t->period_msec * 1000;
				break;
			}
		pthread_mutex_unlock(&self.mutex);
		if (!copy.run)
			return;
		copy.run(copy.id, copy.opaque);
	}
}

static void free_dead(void)
{
	struct watch *watches = NULL;
	struct timeout *timeouts = NULL;

	pthread_mutex_lock(&self.mutex);
	for (struct watch **p = &self.watches, *w; (w = *p);)
		if (w->is_dead) {
			*p = w->next;
			w->next = watches;
			watches = w;
		} else {
			p = &w->next;
		}
	for (struct timeout **p = &self.timeouts, *t; (t = *p);)
		if (t->is_dead) {
			*p = t->next;
			t->next = timeouts;
			timeouts = t;
		} else {
			p = &t->next;
		}
	pthread_mutex_unlock(&self.mutex);
	for (struct watch *w; (w = watches);) {
		watches = w->next;
		if (w->release)
			w->release(w->opaque);
		free(w);
	}
	for (struct timeout *t; (t = timeouts);) {
		timeouts = t->next;
		if (t->release)
			t->release(t->opaque);
		free(t);
	}
}

static int on_set(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct epoll_event events[16];
	uint64_t expirations;

	(void)source, (void)revents, (void)userdata;
	int n = epoll_wait(fd, events, 16, 0);
	uint64_t now = now_usec();
	for (int i = 0; i < n; i++)
		if (events[i].data.u64 == TIMER_ID)
			/* only to quieten it */
			(void)!read(self.timer, &expirations, sizeof(expirations));
		else
			run_watch(&events[i]);
	run_timeouts(now);
	free_dead();
	pthread_mutex_lock(&self.mutex);
	timer_apply(0);
	pthread_mutex_unlock(&self.mutex);
	return 0;
}

void virt_event_hang_up(void)
{
	pthread_mutex_lock(&self.mutex);
	/* Those of a watch that is not removed yet are open: libvirt closes them after that. */
	for (const struct watch *w = self.watches; w; w = w->next)
		if (!w->is_dead)
			(void)shutdown(w->fd, SHUT_RDWR); /* not all are sockets */
	pthread_mutex_unlock(&self.mutex);
}

int virt_event_start(sd_event *loop)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = TIMER_ID};

	self.set = epoll_create1(EPOLL_CLOEXEC);
	self.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (self.set < 0 || self.timer < 0 ||
	    epoll_ctl(self.set, EPOLL_CTL_ADD, self.timer, &e) < 0)
		return -errno;
	int r = sd_event_add_io(loop, &self.source, self.set, EPOLLIN, on_set, NULL);
	if (r < 0)
		return r;
	virEventRegisterImpl(watch_add, watch_update, watch_remove, timeout_add, timeout_update,
			     timeout_remove);
	return 0;
}

void virt_event_stop(void)
{
	self.source = sd_event_source_disable_unref(self.source);
}
