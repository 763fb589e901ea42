/* Running commands without a shell: vfork, exec, capture, bound. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include "fiber.h"
#include "step.h"

#define OUTPUT_MAX   (1u << 20)
#define TIMEOUT_USEC 30000000ull

void run_result_clear(struct run_result *r)
{
	free(r->out);
	free(r->err);
	*r = (struct run_result){0};
}

static uint64_t now_usec(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int limit(int resource, uint64_t value)
{
	struct rlimit l = {value, value};

	return value && setrlimit(resource, &l) < 0 ? -errno : 0;
}

/* In the child, before exec, in our memory: only calls that are safe there, and nothing that is
 * ours is changed. Returns an errno; does not return on success. */
static int become(const struct run *r, int in, int out, int err)
{
	sigset_t none;

	(void)signal(SIGPIPE, SIG_DFL); /* an ignored signal would be inherited */
	if (r->netns_fd > 0 && setns(r->netns_fd, CLONE_NEWNET) < 0)
		return errno;
	if (r->confine) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			return errno;
		(void)unshare(CLONE_NEWNET); /* where permitted */
	}
	if (limit(RLIMIT_AS, r->limit_as_bytes) < 0 || limit(RLIMIT_CPU, r->limit_cpu_sec) < 0)
		return errno;
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		return errno;
	for (size_t i = 0; i < r->n_pass_fds; i++)
		if (fcntl(r->pass_fds[i], F_SETFD, 0) < 0)
			return errno;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(r->argv[0], (char *const *)r->argv);
	return errno;
}

struct pipes {
	int in[2], out[2], err[2], report[2];
};

static void pipes_close(struct pipes *p)
{
	for (int *fd = p->in; fd < p->in + sizeof *p / sizeof(int); fd++)
		own_fd_close(fd);
}
static inline void own_pipes_close(struct pipes *p)
{
	pipes_close(p);
}

static void end(int fds[2], int i)
{
	own_fd_close(&fds[i]);
	fds[i] = -1;
}

static int pipes_open(struct pipes *p, int has_input)
{
	memset(p, 0xff, sizeof *p); /* all -1 */
	if (pipe2(p->out, O_CLOEXEC) < 0 || pipe2(p->err, O_CLOEXEC) < 0 ||
	    pipe2(p->report, O_CLOEXEC) < 0)
		return -errno;
	if (has_input) {
		if (pipe2(p->in, O_CLOEXEC) < 0)
			return -errno;
		return fcntl(p->in[1], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	}
	p->in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return p->in[0] < 0 ? -errno : 0;
}

/* fork() would copy the page tables of a daemon that may be large, only to throw them away, and
 * have its other threads fault for each page that they write meanwhile. posix_spawn() knows neither
 * namespaces nor limits. The thread stands still until exec; signals wait, since a handler would run
 * in the child on our memory. The pid or -errno. */
static pid_t spawn(const struct run *r, const struct pipes *p)
{
	sigset_t all, before;
	pid_t pid;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before); /* fails only for a bad verb */
	pid = vfork();
	if (pid == 0) {
		int e = become(r, p->in[0], p->out[1], p->err[1]);

		(void)!write(p->report[1], &e, sizeof e); /* the parent sees the exit status then */
		_exit(127);
	}
	int e = errno;

	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pid < 0 ? -e : pid;
}

struct capture {
	char *text;
	size_t n, n_max;
};

/* Takes what is there; what exceeds the bound is read and dropped. Returns 0 at the end of the
 * stream. */
static int capture_read(struct capture *c, int fd)
{
	char buffer[16384];
	ssize_t n = read(fd, buffer, sizeof buffer);
	size_t room = c->n_max - c->n;
	char *grown;

	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	if (n == 0)
		return 0;
	if ((size_t)n < room)
		room = (size_t)n;
	grown = realloc(c->text, c->n + room + 1);
	if (!grown)
		return 1;
	memcpy(grown + c->n, buffer, room);
	c->text = grown;
	c->n += room;
	grown[c->n] = '\0';
	return 1;
}

/* Moves bytes until both outputs end. 0, -ETIMEDOUT or -ECANCELED. */
static int converse(const struct run *r, struct pipes *p, struct capture *out, struct capture *err,
		    uint64_t until)
{
	size_t sent = 0;

	while (p->out[0] >= 0 || p->err[0] >= 0) {
		struct pollfd polls[4] = {{p->out[0], POLLIN, 0},
					  {p->err[0], POLLIN, 0},
					  {p->in[1], POLLOUT, 0},
					  {r->stop_fd > 0 ? r->stop_fd : -1, POLLIN, 0}};
		uint64_t now = now_usec();

		if (now >= until)
			return -ETIMEDOUT;
		if (poll(polls, 4, (int)((until - now + 999) / 1000)) < 0 && errno != EINTR)
			return -errno;
		if (polls[3].revents)
			return -ECANCELED;
		if (polls[2].revents) {
			ssize_t n = write(p->in[1], r->input + sent, r->input_bytes - sent);

			if (n > 0)
				sent += (size_t)n;
			if ((n < 0 && errno != EAGAIN && errno != EINTR) || sent == r->input_bytes)
				end(p->in, 1);
		}
		if (polls[0].revents && !capture_read(out, p->out[0]))
			end(p->out, 0);
		if (polls[1].revents && !capture_read(err, p->err[0]))
			end(p->err, 0);
	}
	return 0;
}

static int reap(pid_t pid, uint64_t until, int *ret_status)
{
	int status;

	/* Its outputs are closed: all but a daemonising child is ending now. */
	for (uint64_t pause = 100;; pause = pause < 10000 ? pause * 2 : pause) {
		pid_t r = waitpid(pid, &status, until == 0 ? 0 : WNOHANG);

		if (r == pid)
			break;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (until && now_usec() >= until)
			return -ETIMEDOUT;
		(void)usleep((useconds_t)pause);
	}
	*ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return 0;
}

int run_command(const struct run *r, struct run_result *ret_result)
{
	uint64_t until = now_usec() + (r->timeout_usec ? r->timeout_usec : TIMEOUT_USEC);
	OWN(run_result_clear) struct run_result result = {0};
	size_t n_max = r->output_max_bytes ? r->output_max_bytes : OUTPUT_MAX;
	struct capture out = {strdup(""), 0, n_max}, err = {strdup(""), 0, n_max};
	OWN(pipes_close) struct pipes p;
	int e = 0, q = pipes_open(&p, r->input_bytes > 0);
	pid_t pid;

	/* What is told nothing and may write nothing changes nothing here. */
	if (r->input || r->confine)
		step(r->confine ? "a confined command" : r->argv[0]);
	pid = q < 0 ? -1 : spawn(r, &p);
	if (q == 0 && pid < 0)
		q = pid;
	if (q == 0) {
		if (r->input || r->confine)
			step("a command that has begun");
		end(p.in, 0), end(p.out, 1), end(p.err, 1), end(p.report, 1);
		q = converse(r, &p, &out, &err, until);
		if (q == 0)
			q = reap(pid, until, &result.status);
		if (q < 0) {
			int ignored;

			(void)kill(pid, SIGKILL);
			(void)reap(pid, 0, &ignored);
		} else if (read(p.report[0], &e, sizeof e) == sizeof e) {
			q = -e;
		}
	}
	result.out = out.text;
	result.err = err.text;
	if (q < 0)
		return q;
	if (!result.out || !result.err)
		return -ENOMEM;
	*ret_result = result;
	result = (struct run_result){0};
	return 0;
}

struct waited {
	const struct run *run;
	struct run_result *result;
};

static int run_on_worker(void *arg)
{
	struct waited *w = arg;

	return run_command(w->run, w->result);
}

int run_wait(const struct run *r, struct run_result *ret_result)
{
	struct waited w = {r, ret_result};

	return fiber_work(run_on_worker, &w);
}
