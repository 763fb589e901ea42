/* Fiber work: threads take jobs from a list under a mutex and report by an eventfd to the loop, which
 * wakes the job's fiber. A job lies on its fiber's stack. */
#include "fiber-work.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "fiber.h"
#include "own.h"

struct job {
	int (*work)(void *arg);
	void *arg;
	int result;
	int is_done;
	struct fiber *fiber;
	struct job *next;
};

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t has_job;
	struct job *jobs, **jobs_last, *done;
	unsigned n_idle, n_waiting; /* workers without a job, jobs without a worker */
	unsigned n_threads, n_max;
	pthread_t *threads;
	int stopping;
	int finished_fd;
	sd_event_source *finished;
} pool = {
	.mutex = PTHREAD_MUTEX_INITIALIZER, .has_job = PTHREAD_COND_INITIALIZER, .finished_fd = -1};

static void *worker(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&pool.mutex);
	while (!pool.stopping) {
		struct job *job = pool.jobs;

		if (!job) {
			pool.n_idle++;
			pthread_cond_wait(&pool.has_job, &pool.mutex);
			pool.n_idle--;
			continue;
		}
		pool.jobs = job->next;
		pool.n_waiting--;
		if (!pool.jobs)
			pool.jobs_last = &pool.jobs;
		pthread_mutex_unlock(&pool.mutex);
		job->result = job->work(job->arg);
		pthread_mutex_lock(&pool.mutex);
		job->next = pool.done;
		pool.done = job;
		(void)eventfd_write(pool.finished_fd, 1); /* full only after 2^64 - 1 unread */
	}
	pthread_mutex_unlock(&pool.mutex);
	return NULL;
}

static int on_finished(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct job *done;
	eventfd_t n;

	(void)source;
	(void)events;
	(void)userdata;
	(void)eventfd_read(fd, &n); /* level triggered: only clears it */
	pthread_mutex_lock(&pool.mutex);
	done = pool.done;
	pool.done = NULL;
	pthread_mutex_unlock(&pool.mutex);
	while (done) {
		struct job *job = done;

		done = job->next;
		job->is_done = 1;
		fiber_wake(job->fiber);
	}
	return 0;
}

/* Workers are made when first needed: an idle daemon has no threads. An idle one that has not woken
 * yet for an earlier job is not there for this one. Called with the mutex held. */
static int worker_add(void)
{
	pthread_attr_t attributes;
	int r;

	if (pool.n_idle > pool.n_waiting || pool.n_threads == pool.n_max)
		return 0;
	(void)pthread_attr_init(&attributes); /* never fails on Linux */
	(void)pthread_attr_setstacksize(&attributes, 1u << 20);
	r = pthread_create(&pool.threads[pool.n_threads], &attributes, worker, NULL);
	(void)pthread_attr_destroy(&attributes);
	if (r == 0)
		pool.n_threads++;
	return pool.n_threads ? 0 : -r;
}

int fiber_work(int (*work)(void *arg), void *arg)
{
	struct job job = {.work = work, .arg = arg, .fiber = fiber_self()};
	int r;

	assert(job.fiber);
	pthread_mutex_lock(&pool.mutex);
	r = worker_add();
	if (r == 0) {
		*pool.jobs_last = &job;
		pool.jobs_last = &job.next;
		pool.n_waiting++;
		pthread_cond_signal(&pool.has_job);
	}
	pthread_mutex_unlock(&pool.mutex);
	if (r < 0)
		return r;
	while (!job.is_done)
		fiber_wait();
	return job.result;
}

int fiber_work_start(sd_event *loop, unsigned n_max)
{
	int r;

	pool.jobs_last = &pool.jobs;
	pool.n_max = n_max ? n_max : 1;
	pool.stopping = 0;
	pool.threads = calloc(pool.n_max, sizeof *pool.threads);
	pool.finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!pool.threads || pool.finished_fd < 0)
		return -ENOMEM;
	r = sd_event_add_io(loop, &pool.finished, pool.finished_fd, EPOLLIN, on_finished, NULL);
	return r < 0 ? r : 0;
}

void fiber_work_stop(void)
{
	pthread_mutex_lock(&pool.mutex);
	pool.stopping = 1;
	pthread_cond_broadcast(&pool.has_job);
	pthread_mutex_unlock(&pool.mutex);
	for (unsigned i = 0; i < pool.n_threads; i++)
		(void)pthread_join(pool.threads[i], NULL);
	free(pool.threads);
	pool.threads = NULL;
	pool.n_threads = 0;
	pool.finished = sd_event_source_disable_unref(pool.finished);
	own_fd_close(&pool.finished_fd);
	pool.finished_fd = -1;
	pool.jobs = pool.done = NULL;
	pool.n_waiting = 0;
}
