/*
 * Fibers on one sd-event loop.
 *
 * Theory of operation: each fiber has an mmap'ed stack with a guard page below it and a ucontext.
 * The loop's own stack is the "home" context; a fiber that waits swaps back to whoever resumed it.
 * Fibers are resumed from the loop only: a wake puts the fiber on the ready list, and one deferred
 * event source drains that list. Finished stacks are kept for the next fiber, up to STACKS_KEPT.
 * Threads are fiber-work.c's: here all is done by one.
 */
#include "fiber.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include "fiber-work.h"
#include "own.h"

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#define STACK_BYTES (1u << 20)
#else
/* Touched pages only count; libvirt and OpenSSL never run on a fiber's deep end. */
#define STACK_BYTES (256u << 10)
#endif
#define GUARD_BYTES 4096u
#define STACKS_KEPT 16
/* Of one who sleeps while there is no memory for a timer. */
#define NAP_USEC 1000u

struct fiber {
	ucontext_t context;
	void *stack; /* guard page first */
	void (*run)(void *arg);
	void *arg;
	struct fiber *next;	      /* in the ready list, or among the kept */
	struct fiber *before, *after; /* among all that have a stack */
	int is_ready, is_waiting, is_woken, is_done;
	struct fiber_waiter {
		struct fiber *fiber;
		struct fiber_waiter *next;
	} waiter; /* in the queue of the one lock it waits for */
	void *asan_fake;
};

static struct {
	sd_event *loop;
	sd_event_source *drain;
	struct fiber *ready, **ready_last;
	struct fiber *all;
	struct fiber *kept;
	unsigned n_kept;
	struct fiber *current;
	ucontext_t home;
	const void *home_stack;
	size_t home_bytes;
} self;

static void stack_free(struct fiber *f)
{
	*(f->before ? &f->before->after : &self.all) = f->after;
	if (f->after)
		f->after->before = f->before;
	(void)munmap(f->stack, STACK_BYTES + GUARD_BYTES); /* cannot fail for what mmap gave */
	free(f);
}

/* In a wait that nothing ends any more. What it owns is lost on purpose: a leak checker must see
 * the stack that still points to it, or whatever a daemon was doing when it was told to end would
 * be a leak. */
static void abandon(struct fiber *f)
{
#ifdef FIBER_ASAN
	static struct fiber *abandoned;

	*(f->before ? &f->before->after : &self.all) = f->after;
	if (f->after)
		f->after->before = f->before;
	f->after = f->before = NULL;
	f->next = abandoned;
	abandoned = f;
	__lsan_register_root_region((char *)f->stack + GUARD_BYTES, STACK_BYTES);
#else
	stack_free(f);
#endif
}

static void enter(void)
{
	struct fiber *f = self.current;

#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(NULL, &self.home_stack, &self.home_bytes);
#endif
	for (;;) {
		f->run(f->arg);
		f->is_done = 1;
#ifdef FIBER_ASAN
		/* The stack is used again for the next fiber, so it is left, not destroyed. */
		__sanitizer_start_switch_fiber(&f->asan_fake, self.home_stack, self.home_bytes);
#endif
		(void)swapcontext(&f->context, &self.home); /* fails only for a bad stack */
#ifdef FIBER_ASAN
		__sanitizer_finish_switch_fiber(f->asan_fake, &self.home_stack, &self.home_bytes);
#endif
	}
}

static struct fiber *fiber_new(void)
{
	struct fiber *f = self.kept;

	if (f) {
		self.kept = f->next;
		self.n_kept--;
		f->is_ready = f->is_waiting = f->is_woken = f->is_done = 0;
		return f;
	}
	f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	f->stack = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
	if (f->stack == MAP_FAILED) {
		free(f);
		return NULL;
	}
	(void)mprotect(f->stack, GUARD_BYTES,
		       PROT_NONE);     /* without the guard we run all the same */
	(void)getcontext(&f->context); /* never fails on Linux */
	f->context.uc_stack.ss_sp = (char *)f->stack + GUARD_BYTES;
	f->context.uc_stack.ss_size = STACK_BYTES;
	f->context.uc_link = NULL;
	makecontext(&f->context, enter, 0);
	f->after = self.all;
	if (self.all)
		self.all->before = f;
	self.all = f;
	return f;
}

/* Runs `f` until it waits or ends. Nested: a fiber may spawn another, which then runs on top of it.
 */
static void resume(struct fiber *f)
{
	struct fiber *before = self.current;
	ucontext_t home = self.home;
#ifdef FIBER_ASAN
	void *fake = NULL;
	const void *home_stack = self.home_stack;
	size_t home_bytes = self.home_bytes;
#endif

	self.current = f;
	f->is_waiting = 0;
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(&fake, (char *)f->stack + GUARD_BYTES, STACK_BYTES);
#endif
	(void)swapcontext(&self.home, &f->context);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fake, NULL, NULL);
	self.home_stack = home_stack;
	self.home_bytes = home_bytes;
#endif
	self.home = home;
	self.current = before;
	if (!f->is_done)
		return;
	if (self.n_kept >= STACKS_KEPT) {
		stack_free(f);
		return;
	}
	f->next = self.kept;
	self.kept = f;
	self.n_kept++;
}

static int on_drain(sd_event_source *source, void *userdata)
{
	struct fiber *list = self.ready;

	(void)source;
	(void)userdata;
	self.ready = NULL;
	self.ready_last = &self.ready;
	(void)sd_event_source_set_enabled(self.drain, SD_EVENT_OFF);
	while (list) {
		struct fiber *f = list;

		list = f->next;
		f->is_ready = 0;
		resume(f);
	}
	return 0;
}

struct fiber *fiber_self(void)
{
	return self.current;
}

sd_event *fiber_loop(void)
{
	return self.loop;
}

int fiber_spawn(void (*run)(void *arg), void *arg)
{
	struct fiber *f = fiber_new();

	if (!f)
		return -ENOMEM;
	f->run = run;
	f->arg = arg;
	resume(f);
	return 0;
}

/* To the loop, until it is resumed. */
static void leave(struct fiber *f)
{
	f->is_waiting = 1;
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(&f->asan_fake, self.home_stack, self.home_bytes);
#endif
	(void)swapcontext(&f->context, &self.home);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(f->asan_fake, &self.home_stack, &self.home_bytes);
#endif
}

void fiber_wait(void)
{
	struct fiber *f = self.current;

	assert(f);
	if (f->is_woken) {
		f->is_woken = 0;
		return;
	}
	leave(f);
}

void fiber_wake(struct fiber *f)
{
	if (!f->is_waiting) {
		f->is_woken = 1;
		return;
	}
	if (f->is_ready)
		return;
	f->is_ready = 1;
	f->next = NULL;
	*self.ready_last = f;
	self.ready_last = &f->next;
	(void)sd_event_source_set_enabled(self.drain, SD_EVENT_ON);
}

/* Goes on from the loop's next turn. */
static void give_turn(void)
{
	struct fiber *f = self.current;

	f->is_waiting = 1;
	fiber_wake(f);
	leave(f);
}

/* ---- waiting for descriptors and time ---- */

struct fd_wait {
	struct fiber *fiber;
	uint32_t events;
	int is_late, is_over;
};

static int on_fd(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct fd_wait *w = userdata;

	(void)fd;
	(void)sd_event_source_set_enabled(
		source, SD_EVENT_OFF); /* once is enough; cannot fail for a live source */
	w->events = events;
	w->is_over = 1;
	fiber_wake(w->fiber);
	return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct fd_wait *w = userdata;

	(void)source;
	(void)usec;
	w->is_late = 1;
	w->is_over = 1;
	fiber_wake(w->fiber);
	return 0;
}

OWN_DEFINE(sd_event_source *, sd_event_source_disable_unref);

static int timer_new(struct fd_wait *w, uint64_t usec, sd_event_source **ret_source)
{
	/* A hundredth of slack lets the kernel join timers; 1 ms at least. */
	uint64_t slack = usec / 100 > 1000 ? usec / 100 : 1000;

	return sd_event_add_time_relative(self.loop, ret_source, CLOCK_MONOTONIC, usec, slack,
					  on_time, w);
}

static uint64_t clock_usec(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* never fails */
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The loop has its turn after each nap: nothing spins, and nothing is asked for. */
static int sleep_in_naps(uint64_t usec)
{
	const struct timespec nap = {.tv_nsec = NAP_USEC * 1000};
	uint64_t end = clock_usec() + usec;

	do {
		(void)nanosleep(&nap, NULL); /* a shorter one is no harm */
		give_turn();
	} while (clock_usec() < end);
	return 0;
}

int fiber_sleep(uint64_t usec)
{
	OWN(sd_event_source_disable_unref) sd_event_source *timer = NULL;
	struct fd_wait w = {.fiber = fiber_self()};
	int r;

	assert(w.fiber);
	r = timer_new(&w, usec, &timer);
	if (r == -ENOMEM)
		return sleep_in_naps(usec);
	while (r >= 0 && !w.is_over)
		fiber_wait();
	return r < 0 ? r : 0;
}

int fiber_wait_fd(int fd, uint32_t events, uint64_t timeout_usec)
{
	OWN(sd_event_source_disable_unref) sd_event_source *io = NULL;
	OWN(sd_event_source_disable_unref) sd_event_source *timer = NULL;
	struct fd_wait w = {.fiber = fiber_self()};
	int r;

	assert(w.fiber);
	r = sd_event_add_io(self.loop, &io, fd, events, on_fd, &w);
	if (r >= 0 && timeout_usec != UINT64_MAX)
		r = timer_new(&w, timeout_usec, &timer);
	if (r < 0)
		return r;
	while (!w.is_over)
		fiber_wait();
	return w.events ? (int)w.events : -ETIMEDOUT;
}

/* ---- start and stop ---- */

int fiber_start(sd_event *loop, unsigned n_workers)
{
	int r;

	self.loop = sd_event_ref(loop);
	self.ready_last = &self.ready;
	r = fiber_work_start(loop, n_workers);
	if (r >= 0)
		r = sd_event_add_defer(loop, &self.drain, on_drain, NULL);
	if (r >= 0)
		r = sd_event_source_set_enabled(self.drain, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}

void fiber_stop(void)
{
	fiber_work_stop();
	self.drain = sd_event_source_disable_unref(self.drain);
	while (self.all)
		if (self.all->is_done)
			stack_free(self.all);
		else
			abandon(self.all);
	self.kept = NULL;
	self.n_kept = 0;
	self.ready = NULL;
	self.ready_last = &self.ready;
	self.loop = sd_event_unref(self.loop);
}

/* ---- locks ---- */

void fiber_lock(struct fiber_lock *l)
{
	struct fiber *f = fiber_self();

	assert(f && l->owner != f);
	if (!l->owner) {
		l->owner = f;
		return;
	}
	f->waiter = (struct fiber_waiter){.fiber = f};
	if (!l->first)
		l->last = &l->first;
	*l->last = &f->waiter;
	l->last = &f->waiter.next;
	while (l->owner != f)
		fiber_wait();
}

void fiber_unlock(struct fiber_lock *l)
{
	struct fiber_waiter *w = l->first;

	assert(l->owner == fiber_self());
	l->owner = w ? w->fiber : NULL;
	if (!w)
		return;
	l->first = w->next;
	fiber_wake(w->fiber);
}
