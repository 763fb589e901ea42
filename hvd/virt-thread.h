/*
 * One call to libvirt on a thread of its own, for those that nothing bounds: libvirt's keep-alive
 * watches a connection that is open, not one that is being opened or closed, and a libvirtd that
 * hangs would hold one of the workers, and the end of the daemon, for ever.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

struct virt_thread {
	pthread_t thread;
	int is_running;
	int done_fd;
	int (*run)(void *arg);
	void *arg;
	int result;
};

/* Runs `run(arg)` on a new thread. Both must stay until it is joined. 0 or -errno. */
int virt_thread_start(struct virt_thread *t, int (*run)(void *arg), void *arg);
/* (fiber) Waits at most so long, UINT64_MAX: for ever. 0: it has returned, and what it returned is
 * the result; -ETIMEDOUT: it runs still; -errno. */
int virt_thread_wait(struct virt_thread *t, uint64_t usec);
/* The same, and nothing else goes on meanwhile; 0 also if there is none. */
int virt_thread_join(struct virt_thread *t, uint64_t usec);
