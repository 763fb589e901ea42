// User-data: a script that the customer gave at launch, run once in the life of an instance.
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATE_DIRECTORY "/var/lib/gureum"
#define SCRIPT		STATE_DIRECTORY "/user-data"
#define MARK		STATE_DIRECTORY "/user-data.instance"
#define LOG		"/var/log/user-data.log"
#define PREFIX		"user-data: "

static struct http_reply reply;

/* The mark is the id of the instance whose script was begun. It is written before the script
 * starts: a script that pulls the plug on itself must not do so at each boot. */
static int was_begun(const char *instance)
{
	char mark[128];

	return file_read(agent_path(MARK), mark, sizeof(mark)) > 0 && strcmp(mark, instance) == 0;
}

static int begin(const char *instance, const struct http_reply *script)
{
	int r = directory_make(agent_path(STATE_DIRECTORY), 0755);

	if (r == 0)
		r = file_write(agent_path(SCRIPT), script->body, script->n, 0700);
	return r < 0 ? r : file_write(agent_path(MARK), instance, strlen(instance), 0600);
}

static void write_line(int log, const char *text, size_t n)
{
	/* The console is for watching and may be slow or gone; the file has everything. */
	say(PREFIX "%.*s", (int)n, text);
	if (log >= 0)
		(void)!dprintf(log, "%.*s\n", (int)n, text);
}

/* Passes the script's output on, line by line; a line longer than the buffer is cut into several.
 */
static void pass_output(int from, int log)
{
	char buffer[400]; /* less than say() takes */
	size_t n = 0;

	for (;;) {
		ssize_t got = read(from, buffer + n, sizeof(buffer) - n);
		char *line = buffer, *stop;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
		while ((stop = memchr(line, '\n', n - (size_t)(line - buffer)))) {
			write_line(log, line, (size_t)(stop - line));
			line = stop + 1;
		}
		if (line == buffer && n == sizeof(buffer)) {
			write_line(log, buffer, n);
			line += n;
		}
		n -= (size_t)(line - buffer);
		memmove(buffer, line, n);
	}
	if (n > 0)
		write_line(log, buffer, n);
}

static void __attribute__((noreturn)) become_script(int output)
{
	char *const environment[] = {
		(char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		(char *)"HOME=/root", (char *)"USER=root", (char *)"LOGNAME=root", NULL};
	const char *script = agent_path(SCRIPT);
	char *const argv[] = {(char *)script, NULL};
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0 ||
	    chdir("/") < 0)
		_exit(126);
	(void)setsid(); /* fails only for a leader already */
	execve(script, argv, environment);
	(void)!dprintf(2, "cannot run: %s\n", strerror(errno));
	_exit(127);
}

/* The script's wait status, or -errno. Its output ends when all that it left behind have closed
 * theirs, so a daemon that the script starts without redirection keeps being heard: as it is with
 * cloud-init. */
static int run_script(void)
{
	int pipes[2], status = 0, log;
	pid_t child;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child == 0)
		become_script(pipes[1]);
	(void)close(pipes[1]); /* the child's */
	log = open(agent_path(LOG), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (child > 0)
		pass_output(pipes[0], log);
	if (log >= 0)
		(void)close(log); /* a log, not a promise */
	(void)close(pipes[0]);
	if (child < 0)
		return -EAGAIN;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status;
}

/* The instance's id and its script; 1 if there is something to run, 0 if not, -errno. */
static int get_script(struct metadata *m, char ret_instance[static 128])
{
	int r = metadata_get(m, "meta-data/instance-id", &reply);

	if (r < 0)
		return r;
	if ((size_t)snprintf(ret_instance, 128, "%s", reply.body) >= 128)
		return -EPROTO;
	if (was_begun(ret_instance))
		return 0;
	r = metadata_get(m, "user-data", &reply);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (reply.n < 2 || memcmp(reply.body, "#!", 2) != 0) {
		say(PREFIX "does not begin with #!: left alone");
		return 0;
	}
	return 1;
}

int user_data_main(void)
{
	struct metadata m;
	char instance[128];
	int r = metadata_wait(&m, 10);

	if (r == 0)
		r = get_script(&m, instance);
	if (r > 0)
		r = begin(instance, &reply);
	else if (r == 0)
		return 0;
	if (r == 0)
		r = run_script();
	if (r < 0) {
		say(PREFIX "%s", strerror(-r));
		return 1;
	}
	if (WIFSIGNALED(r))
		say(PREFIX "ended by signal %d", WTERMSIG(r));
	else
		say(PREFIX "exit %d", WEXITSTATUS(r));
	return r != 0;
}
