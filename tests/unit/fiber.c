/* Fibers: waiting, waking, time, descriptors, workers, locks. */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "fiber.h"
#include "own.h"
#include "tap.h"

/* No memory for a timer. */
static int n_starved, is_starved;

int sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
			       uint64_t accuracy, sd_event_time_handler_t callback, void *userdata)
{
	static typeof(sd_event_add_time_relative) *real;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "sd_event_add_time_relative");
	n_starved += is_starved;
	return is_starved ? -ENOMEM : real(e, ret, clock, usec, accuracy, callback, userdata);
}

static char trace[256];

static void note(const char *word)
{
	strncat(trace, word, sizeof trace - strlen(trace) - 1);
}

/* Turns the loop until `n` fibers have ended. */
static int n_ended;

static void turn_until(int n)
{
	while (n_ended < n)
		if (sd_event_run(fiber_loop(), UINT64_MAX) < 0)
			break;
	n_ended = 0;
}

static void begin(void)
{
	trace[0] = '\0';
}

static struct fiber *sleeper;

static void waits(void *arg)
{
	(void)arg;
	note("a");
	sleeper = fiber_self();
	fiber_wait();
	note("c");
	n_ended++;
}

static void a_fiber_goes_on_where_it_waited(void)
{
	begin();
	(void)fiber_spawn(waits, NULL);
	note("b");
	fiber_wake(sleeper);
	turn_until(1);
	is_str(trace, "abc", "the spawner runs between wait and wake");
}

static void spawns(void *arg)
{
	(void)arg;
	note("1");
	(void)fiber_spawn(waits, NULL);
	note("2");
	fiber_wake(sleeper);
	n_ended++;
}

static void a_fiber_may_spawn_a_fiber(void)
{
	begin();
	(void)fiber_spawn(spawns, NULL);
	turn_until(2);
	is_str(trace, "1a2c", "the inner one returns to its spawner when it waits");
}

static void wake_first(void *arg)
{
	(void)arg;
	fiber_wake(fiber_self());
	fiber_wait();
	note("kept");
	n_ended++;
}

static void a_wake_that_comes_first_is_remembered(void)
{
	begin();
	(void)fiber_spawn(wake_first, NULL);
	turn_until(1);
	is_str(trace, "kept", "no wait without end");
}

static int fds[2];

static void reads_late(void *arg)
{
	(void)arg;
	note(fiber_wait_fd(fds[0], EPOLLIN, 1000) == -ETIMEDOUT ? "late " : "early ");
	(void)!write(fds[1], "x", 1);
	note(fiber_wait_fd(fds[0], EPOLLIN, UINT64_MAX) == EPOLLIN ? "in" : "no");
	n_ended++;
}

static void a_descriptor_is_awaited_with_a_limit(void)
{
	begin();
	ok(pipe(fds) == 0, "a pipe");
	(void)fiber_spawn(reads_late, NULL);
	turn_until(1);
	is_str(trace, "late in", "first the limit, then the event");
}

static int add_one(void *arg)
{
	(*(int *)arg)++;
	return 42;
}

static void works(void *arg)
{
	int *sum = arg;

	for (int i = 0; i < 100; i++)
		if (fiber_work(add_one, sum) != 42)
			note("wrong");
	n_ended++;
}

static void workers_bring_their_results_home(void)
{
	int sums[20] = {0}, total = 0;

	begin();
	for (int i = 0; i < 20; i++)
		(void)fiber_spawn(works, &sums[i]);
	turn_until(20);
	for (int i = 0; i < 20; i++)
		total += sums[i];
	is_int(total, 2000, "twenty fibers, a hundred jobs each");
	is_str(trace, "", "every result came back");
}

static struct fiber_lock lock;

static void locks(void *arg)
{
	fiber_lock(&lock);
	note(arg);
	(void)fiber_sleep(100);
	note(arg);
	fiber_unlock(&lock);
	n_ended++;
}

static void a_lock_is_handed_on_in_order(void)
{
	begin();
	(void)fiber_spawn(locks, "a");
	(void)fiber_spawn(locks, "b");
	(void)fiber_spawn(locks, "c");
	turn_until(3);
	is_str(trace, "aabbcc", "nobody comes between");
}

static void sleeps(void *arg)
{
	note(arg);
	is_int(fiber_sleep(2000), 0, "it has slept");
	note(arg);
	n_ended++;
}

static void who_sleeps_without_memory_holds_nobody_up(void)
{
	begin();
	is_starved = 1;
	(void)fiber_spawn(sleeps, "s");
	(void)fiber_spawn(waits, NULL);
	fiber_wake(sleeper);
	note("b");
	turn_until(2);
	is_starved = 0;
	is_int((int)strlen(trace), 5, "both have come to their end");
	trace[3] = '\0'; /* which came first is the clock's matter */
	is_str(trace, "sab", "the spawner went on meanwhile");
	is_int(n_starved, 1, "memory was not asked for again and again");
}

int main(void)
{
	sd_event *loop = NULL;

	if (sd_event_new(&loop) < 0 || fiber_start(loop, 3) < 0)
		return 1;
	RUN(a_fiber_goes_on_where_it_waited);
	RUN(who_sleeps_without_memory_holds_nobody_up);
	RUN(a_fiber_may_spawn_a_fiber);
	RUN(a_wake_that_comes_first_is_remembered);
	RUN(a_descriptor_is_awaited_with_a_limit);
	RUN(workers_bring_their_results_home);
	RUN(a_lock_is_handed_on_in_order);
	fiber_stop();
	sd_event_unref(loop);
	return tests_done();
}
