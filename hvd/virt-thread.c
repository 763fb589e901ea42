/* A thread that is waited for by the clock. */
#include "virt-thread.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include "fiber.h"
#include "own.h"

#define STACK_BYTES (1u << 20) /* as the workers' */

static void *thread_main(void *arg)
{
	struct virt_thread *t = arg;

	t->result = t->run(t->arg);
	(void)eventfd_write(t->done_fd, 1); /* once: cannot overflow */
	return NULL;
}

int virt_thread_start(struct virt_thread *t, int (*run)(void *arg), void *arg)
{
	OWN(fd_close) int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_attr_t attributes;

	if (fd < 0)
		return -errno;
	*t = (struct virt_thread){.done_fd = fd, .run = run, .arg = arg};
	(void)pthread_attr_init(&attributes); /* never fails on Linux */
	(void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
	int r = pthread_create(&t->thread, &attributes, thread_main, t);
	(void)pthread_attr_destroy(&attributes);
	if (r != 0)
		return -r;
	t->is_running = 1;
	(void)give(fd); /* closed when it is over */
	return 0;
}

static void is_over(struct virt_thread *t)
{
	t->is_running = 0;
	own_fd_close(&t->done_fd);
}

int virt_thread_wait(struct virt_thread *t, uint64_t usec)
{
	int r = fiber_wait_fd(t->done_fd, EPOLLIN, usec);

	if (r < 0)
		return r;
	(void)pthread_join(t->thread, NULL); /* it says so last */
	is_over(t);
	return 0;
}

int virt_thread_join(struct virt_thread *t, uint64_t usec)
{
	struct timespec until;

	if (!t->is_running)
		return 0;
	(void)clock_gettime(CLOCK_MONOTONIC, &until); /* never fails */
	until.tv_sec += (time_t)(usec / 1000000);
	int r = pthread_clockjoin_np(t->thread, NULL, CLOCK_MONOTONIC, &until);
	if (r != 0)
		return -r;
	is_over(t);
	return 0;
}
