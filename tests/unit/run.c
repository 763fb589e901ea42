/* Commands run as they should, and leave nothing of themselves in the daemon. */
#include "tap.h"
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static struct run_result run(const char *const *argv, const char *input)
{
	struct run r = {.argv = argv, .input = input, .input_bytes = input ? strlen(input) : 0};
	struct run_result result = {.status = -1};

	is_int(run_command(&r, &result), 0, "it ran");
	return result;
}

static void what_it_says_and_how_it_ends_is_told(void)
{
	static const char *const argv[] = {"sh", "-c", "cat; echo oops >&2; exit 7", NULL};
	struct run_result result = run(argv, "some words");

	is_int(result.status, 7, "its status");
	is_str(result.out, "some words", "its output");
	is_str(result.err, "oops\n", "its complaints");
	run_result_clear(&result);
}

static void a_program_that_is_not_there_is_an_error(void)
{
	static const char *const argv[] = {"/nowhere/at/all", NULL};
	struct run r = {.argv = argv};
	struct run_result result = {0};

	is_int(run_command(&r, &result), -ENOENT, "it is told");
}

static void who_takes_too_long_is_killed(void)
{
	static const char *const argv[] = {"sleep", "1000", NULL};
	struct run r = {.argv = argv, .timeout_usec = 1000};
	struct run_result result = {0};

	is_int(run_command(&r, &result), -ETIMEDOUT, "it is told");
}

static void who_is_stopped_is_killed(void)
{
	static const char *const argv[] = {"sleep", "1000", NULL};
	int fds[2];
	struct run r = {.argv = argv};
	struct run_result result = {0};

	is_int(pipe(fds), 0, "a pipe");
	r.stop_fd = fds[0];
	is_int(write(fds[1], "x", 1), 1, "a word");
	is_int(run_command(&r, &result), -ECANCELED, "it is told");
	close(fds[0]), close(fds[1]);
}

/* The child shares the daemon's memory until exec. */
static void what_the_child_becomes_the_daemon_does_not(void)
{
	static const char *const argv[] = {"sh", "-c", "ulimit -t; kill -PIPE $$; echo alive",
					   NULL};
	struct run r = {.argv = argv, .limit_cpu_sec = 5};
	struct run_result result = {0};
	sigset_t before, after;

	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&before);
	(void)sigaddset(&before, SIGTERM);
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	is_int(run_command(&r, &result), 0, "it ran");
	is_str(result.out, "5\n", "the limit is the child's; no signal is ignored there");
	is_int(result.status, 128 + SIGPIPE, "it ended by it");
	(void)sigprocmask(SIG_SETMASK, NULL, &after);
	ok(sigismember(&after, SIGTERM) == 1 && sigismember(&after, SIGUSR1) == 0,
	   "what was blocked is, what was not is not");
	ok(signal(SIGPIPE, SIG_DFL) == SIG_IGN, "what was ignored is");
	run_result_clear(&result);
}

static void descriptors_are_the_childs_only_when_passed(void)
{
	int kept = open("/dev/null", O_RDONLY | O_CLOEXEC),
	    passed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char script[80];
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct run r = {.argv = argv, .pass_fds = &passed, .n_pass_fds = 1};
	struct run_result result = {0};

	snprintf(script, sizeof script, "test -e /proc/self/fd/%d && test ! -e /proc/self/fd/%d",
		 passed, kept);
	is_int(run_command(&r, &result), 0, "it ran");
	is_int(result.status, 0, "one is there, the other is not");
	ok(fcntl(passed, F_GETFD) == FD_CLOEXEC, "here it is closed by the next exec still");
	run_result_clear(&result);
	(void)close(kept), (void)close(passed);
}

int main(void)
{
	RUN(what_it_says_and_how_it_ends_is_told);
	RUN(a_program_that_is_not_there_is_an_error);
	RUN(who_takes_too_long_is_killed);
	RUN(who_is_stopped_is_killed);
	RUN(what_the_child_becomes_the_daemon_does_not);
	RUN(descriptors_are_the_childs_only_when_passed);
	return tests_done();
}
