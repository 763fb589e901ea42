/*
 * Flows: collecting counts, ending windows.
 *
 * Theory of operation: the loop collects rejected packets in a table and ended flows in a list.
 * Soon after the first, a job takes the list away and a worker writes its lines; each minute a job
 * takes the table, too, and dumps the flows that go on. Jobs of one VPC follow one another; all
 * jobs share one lock, so that at most one worker waits for the disk.
 */
#include "flow.h"

#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include "fiber.h"
#include "flow-capture.h"
#include "flow-file.h"
#include "flow-table.h"
#include "log.h"

#define WINDOW_USEC 60000000
#define SOON_USEC   1000000 /* an ended flow's lines are this late at most */
#define ENDED_MAX   8192    /* flows; a megabyte */
#define READS_MAX   32	    /* messages taken at a time: others want the loop, too */

/* What a worker makes lines of. It is the worker's until it returns. */
struct job {
	struct flow_setup *setup;
	struct flow_place *place;
	struct flow_count *ended;
	size_t n_ended;
	struct flow_table rejects;
	uint64_t n_lost;
	int64_t since, until;
	int is_window;
	struct nl_sock *dump;
	struct flow_file *files;
	int is_dump_failed;
	int is_over; /* the worker has done its part; by the mutex below */
};

struct flows {
	sd_event *loop;
	struct flow_place place;
	struct flow_sockets sockets;
	sd_event_source *sources[2], *soon, *window;
	struct flow_setup *setup;
	struct flow_count *ended;
	size_t n_ended, n_room;
	struct flow_table rejects;
	uint64_t n_lost;
	int64_t since;		/* the window's begin */
	struct fiber_lock lock; /* one job at a time */
	struct job *at_work;	/* a worker's, or about to be */
	unsigned n_jobs;
	int is_window_due, is_freed, is_ended;
	int is_warned; /* that lines are lost */
};

static struct fiber_lock disk;

/* For a daemon that ends: then nobody goes back to the loop to hear of a worker's end. */
static pthread_mutex_t ending = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t job_is_over = PTHREAD_COND_INITIALIZER;

static int64_t now(void)
{
	return (int64_t)time(NULL);
}

/* ---- a worker's part ---- */

static void to_file(void *arg, size_t log, const char *text, size_t n_text)
{
	const struct job *j = arg;

	flow_file_write(&j->files[log], text, n_text);
}

struct writing {
	struct job *job;
	struct flow_sink sink;
};

static void write_count(void *arg, const struct flow_count *c)
{
	struct writing *w = arg;

	flow_lines(w->job->setup, c, &w->sink);
}

static int write_all(struct job *j)
{
	struct writing w = {j, {to_file, j, j->since, j->until, j->setup->seen}};
	size_t n = j->setup->n_logs;
	int r = 0;

	j->files = calloc(n + 1, sizeof *j->files);
	if (!j->files)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		flow_file_open(&j->files[i], j->place->directory, j->setup->logs[i].id,
			       j->place->n_max);
	for (size_t i = 0; i < j->n_ended; i++)
		write_count(&w, &j->ended[i]);
	for (size_t i = 0; i < j->rejects.n; i++)
		write_count(&w, &j->rejects.rows[i]);
	if (j->is_window) {
		r = flow_dump(j->dump, write_count, &w);
		flow_lines_end(j->setup, j->n_lost + (r < 0), &w.sink);
	}
	for (size_t i = 0; i < n; i++) {
		int e = flow_file_close(&j->files[i]);

		if (r == 0)
			r = e;
	}
	free(j->files);
	return r;
}

static int work(void *arg)
{
	struct job *j = arg;
	int r = write_all(j);

	pthread_mutex_lock(&ending);
	j->is_over = 1;
	pthread_cond_signal(&job_is_over);
	pthread_mutex_unlock(&ending);
	return r;
}

/* ---- jobs ---- */

static void job_take(struct flows *f, int is_window, struct job *j)
{
	*j = (struct job){.setup = flow_setup_ref(f->setup),
			  .place = &f->place,
			  .ended = f->ended,
			  .n_ended = f->n_ended,
			  .since = f->since,
			  .until = now(),
			  .is_window = is_window,
			  .dump = f->sockets.dump};
	f->ended = NULL;
	f->n_ended = f->n_room = 0;
	if (!is_window)
		return;
	j->rejects = f->rejects;
	j->n_lost = f->n_lost;
	f->rejects = (struct flow_table){0};
	f->n_lost = 0;
	f->since = j->until;
}

static void job_end(struct flows *f, struct job *j, int r)
{
	if (r < 0 && !f->is_warned)
		log_warning(r, "lines of flow logs are lost", "VPC", j->setup->vpc_id);
	f->is_warned = r < 0;
	if (r < 0)
		f->n_lost++;
	if (j->is_window)
		memset(j->setup->seen, 0, j->setup->n_interfaces);
	flow_setup_unref(j->setup);
	flow_table_free(&j->rejects);
	free(j->ended);
}

static void flows_destroy(struct flows *f)
{
	for (size_t i = 0; i < 2; i++)
		sd_event_source_disable_unref(f->sources[i]);
	sd_event_source_disable_unref(f->soon);
	sd_event_source_disable_unref(f->window);
	flow_sockets_close(&f->sockets);
	flow_setup_unref(f->setup);
	flow_table_free(&f->rejects);
	free(f->ended);
	free(f);
}

static void arm(sd_event_source *s, uint64_t usec)
{
	(void)sd_event_source_set_time_relative(s, usec); /* cannot fail for a timer that exists */
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* (fiber) `f` may be gone afterwards. */
static int job_run(struct flows *f, int is_window)
{
	struct job j;
	int r;

	f->n_jobs++;
	fiber_lock(&f->lock);
	fiber_lock(&disk);
	job_take(f, is_window, &j);
	f->at_work = &j;
	r = fiber_work(work, &j);
	f->at_work = NULL;
	fiber_unlock(&disk);
	fiber_unlock(&f->lock);
	job_end(f, &j, r);
	f->n_jobs--;
	if (f->is_freed && f->n_jobs == 0)
		flows_destroy(f);
	else if (f->n_ended && !f->is_freed)
		arm(f->soon, SOON_USEC);
	return r;
}

static void run_small(void *arg)
{
	(void)job_run(arg, 0); /* logged */
}

static void run_window(void *arg)
{
	struct flows *f = arg;

	f->is_window_due = 0;
	(void)job_run(f, 1); /* logged */
}

static int on_soon(sd_event_source *s, uint64_t usec, void *arg)
{
	struct flows *f = arg;

	(void)s, (void)usec;
	/* A job at work takes care of it when it ends. A fiber that memory lacks for: the next
	 * window does it. */
	if (f->n_jobs == 0)
		(void)fiber_spawn(run_small, f);
	return 0;
}

static int on_window(sd_event_source *s, uint64_t usec, void *arg)
{
	struct flows *f = arg;

	(void)usec;
	arm(s, WINDOW_USEC);
	if (!f->is_window_due) { /* else the disk is more than a window behind */
		f->is_window_due = 1;
		if (fiber_spawn(run_window, f) < 0)
			f->is_window_due = 0;
	}
	return 0;
}

/* ---- the loop's part ---- */

static void add_ended(struct flows *f, const struct flow_count *c)
{
	if (f->n_ended == f->n_room) {
		size_t n_room = f->n_room ? f->n_room * 2 : 64;
		struct flow_count *grown =
			n_room > ENDED_MAX ? NULL : realloc(f->ended, n_room * sizeof *grown);

		if (!grown) {
			f->n_lost++;
			return;
		}
		f->ended = grown;
		f->n_room = n_room;
	}
	if (f->n_ended == 0)
		arm(f->soon, SOON_USEC);
	f->ended[f->n_ended++] = *c;
}

static int on_end(struct nl_msg *m, void *arg)
{
	struct flow_count c;

	if (flow_read_end(nlmsg_hdr(m), &c) == 0)
		add_ended(arg, &c);
	return NL_OK;
}

static int on_reject(struct nl_msg *m, void *arg)
{
	struct flows *f = arg;
	struct flow_count c;

	if (flow_read_reject(nlmsg_hdr(m), &c) < 0)
		return NL_OK;
	c.first = c.last = now();
	if (flow_table_add(&f->rejects, &c) < 0)
		f->n_lost++;
	return NL_OK;
}

static int read_some(struct flows *f, struct nl_sock *s)
{
	int r = 0;

	for (int i = 0; i < READS_MAX && r >= 0; i++)
		r = nl_recvmsgs_default(s);
	if (r < 0 && r != -NLE_AGAIN)
		f->n_lost++; /* the kernel could not wait for us */
	return r;
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct flows *f = arg;

	(void)fd, (void)events;
	(void)read_some(f, source == f->sources[0] ? f->sockets.rejects : f->sockets.ends);
	return 0;
}

static int listen_to(struct flows *f, int i, struct nl_sock *s, nl_recvmsg_msg_cb_t on_message)
{
	int r;

	nl_socket_disable_seq_check(s);
	if (nl_socket_modify_cb(s, NL_CB_VALID, NL_CB_CUSTOM, on_message, f) < 0)
		return -EIO;
	r = sd_event_add_io(f->loop, &f->sources[i], nl_socket_get_fd(s), EPOLLIN, on_readable, f);
	/* A flood of rejected packets must not keep customers waiting. */
	return r < 0 ? r : sd_event_source_set_priority(f->sources[i], SD_EVENT_PRIORITY_IDLE);
}

/* What the kernel has counted since the last line belongs to the first window. */
static int64_t last_time(const struct flows *f)
{
	int64_t last = 0, t;

	for (size_t i = 0; i < f->setup->n_logs; i++) {
		t = flow_file_time(f->place.directory, f->setup->logs[i].id);
		last = t > last ? t : last;
	}
	return last ? last : now();
}

static int open_all(struct flows *f, const struct netns *n)
{
	int r;

	if ((r = flow_sockets_open(n, &f->sockets)) < 0 ||
	    (r = listen_to(f, 0, f->sockets.rejects, on_reject)) < 0 ||
	    (r = listen_to(f, 1, f->sockets.ends, on_end)) < 0 ||
	    (r = sd_event_add_time_relative(f->loop, &f->soon, CLOCK_MONOTONIC, SOON_USEC, 0,
					    on_soon, f)) < 0 ||
	    (r = sd_event_source_set_enabled(f->soon, SD_EVENT_OFF)) < 0)
		return r;
	return sd_event_add_time_relative(f->loop, &f->window, CLOCK_MONOTONIC, WINDOW_USEC, 0,
					  on_window, f);
}

/* ---- the boundary ---- */

static int is_flow_log(const char *id, void *arg)
{
	return store_find(arg, "flow-log", id) != NULL;
}

int flow_place_open(const struct daemon *d, struct flow_place *ret_place)
{
	struct flow_place p = {.n_max = (uint64_t)config_integer(d->config, "Network", "FlowLogMiB")
					<< 20};

	snprintf(p.directory, sizeof p.directory, "%s/flow-logs", d->state_dir);
	if (mkdir(p.directory, 0750) < 0 && errno != EEXIST)
		return -errno;
	flow_file_clean(p.directory, is_flow_log, d->store);
	*ret_place = p;
	return 0;
}

int flows_new(sd_event *loop, const struct netns *n, struct flow_setup *setup,
	      const struct flow_place *place, struct flows **ret_flows)
{
	struct flows *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return -ENOMEM;
	f->loop = loop;
	f->place = *place;
	f->setup = flow_setup_ref(setup);
	f->since = last_time(f);
	r = open_all(f, n);
	if (r < 0) {
		flows_destroy(f);
		return r;
	}
	*ret_flows = f;
	return 0;
}

void flows_set(struct flows *f, struct flow_setup *setup)
{
	if (flow_setup_is_same(f->setup, setup))
		return;
	/* Whoever had lines in this window had them by another number: nobody is said to have had
	 * nothing. */
	memset(setup->seen, 0xff, setup->n_interfaces);
	flow_setup_unref(f->setup);
	f->setup = flow_setup_ref(setup);
}

static void read_all(struct flows *f)
{
	for (int i = 0; i < ENDED_MAX / READS_MAX; i++)
		if ((read_some(f, f->sockets.rejects) < 0) + (read_some(f, f->sockets.ends) < 0) ==
		    2)
			break;
}

int flows_flush(struct flows *f)
{
	read_all(f);
	return job_run(f, 1);
}

void flows_end(struct flows *f)
{
	struct job j;

	f->is_ended = 1;
	/* A worker has the socket and the files. Jobs that wait for their turn have taken nothing. */
	pthread_mutex_lock(&ending);
	while (f->at_work && !f->at_work->is_over)
		pthread_cond_wait(&job_is_over, &ending);
	pthread_mutex_unlock(&ending);
	read_all(f);
	job_take(f, 1, &j);
	job_end(f, &j, write_all(&j));
}

void flows_free(struct flows *f)
{
	if (!f)
		return;
	for (size_t i = 0; i < 2; i++)
		f->sources[i] = sd_event_source_disable_unref(f->sources[i]);
	f->soon = sd_event_source_disable_unref(f->soon);
	f->window = sd_event_source_disable_unref(f->window);
	f->is_freed = 1;
	/* The last job destroys it: one at work may have begun before the last counts came. */
	if ((f->is_ended || fiber_spawn(run_window, f) < 0) && f->n_jobs == 0)
		flows_destroy(f);
}
