/*
 * Fibers: a request is straight-line code that may wait, on one thread and one sd-event loop.
 *
 * A fiber is a function on a stack of its own. It runs until it waits (for a reply, a worker, a
 * file descriptor, time) and the loop goes on; when what it waited for is there, it continues from
 * that line. Only one fiber runs at a time, so no data needs a lock; but anything may have changed
 * across a wait: read again what you rely on, or hold a fiber_lock. A fiber always runs to its end,
 * so OWN() works in it.
 *
 * Every call below marked (fiber) may wait and must be made from a fiber (assertion otherwise).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct fiber;

/* To be called once, before any other call here: the loop on which fibers run, and how many worker
 * threads may run fiber_work() at a time. 0 or -errno. */
int fiber_start(sd_event *loop, unsigned n_workers);
/* Joins the workers; no fiber may be waiting any more, or is abandoned (owners not run; its stack
 * is freed, but under ASan kept in sight of the leak check). */
void fiber_stop(void);
sd_event *fiber_loop(void);

/* Runs `run(arg)` as a fiber: at once, until its first wait. Callable from the loop or another
 * fiber. 0 or -ENOMEM. */
int fiber_spawn(void (*run)(void *arg), void *arg);
/* The running fiber, NULL on the loop's own stack. */
struct fiber *fiber_self(void);

/* (fiber) Waits until some other code calls fiber_wake() on this fiber; the pair for what follows
 * below. A wake that comes first is remembered. */
void fiber_wait(void);
/* Lets `f` continue soon, from the loop. Not thread safe: loop thread only. */
void fiber_wake(struct fiber *f);

/* (fiber) Waits for `usec` microseconds of the monotonic clock; the loop has had a turn, also after
 * none. 0, also without any memory: who tries again after a pause has that pause when it is needed
 * most. -errno when the loop is over. */
int fiber_sleep(uint64_t usec);
/* (fiber) Waits until `fd` shows one of epoll's `events`, at most `timeout_usec` (UINT64_MAX: for
 * ever). Returns the events that came (> 0), -ETIMEDOUT or -errno. */
int fiber_wait_fd(int fd, uint32_t events, uint64_t timeout_usec);
/* (fiber) Runs `work(arg)` on a worker thread and returns what it returned. What `work` touches
 * must not be touched by others meanwhile. */
int fiber_work(int (*work)(void *arg), void *arg);

/* A mutex between fibers, first come first served. Zero-initialised is open. */
struct fiber_lock {
	struct fiber *owner;
	struct fiber_waiter *first, **last;
};
void fiber_lock(struct fiber_lock *l); /* (fiber) */
void fiber_unlock(struct fiber_lock *l);
