/* Steps: who is asked to die does, at the step that was asked, once. */
#include "step.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "own.h"
#include "tap.h"

#define N_ROUNDS 2000

static char path[] = "/tmp/gureum-step-XXXXXX/steps";
static int is_over;

/* As a test does: a whole file, put in the place of the old one. */
static void ask(const char *line)
{
	char beside[sizeof path + 4];

	snprintf(beside, sizeof beside, "%s.new", path);
	OWN(fclose) FILE *file = fopen(beside, "we");

	if (!file || fputs(line, file) < 0 || fflush(file) != 0 || rename(beside, path) < 0)
		perror(path);
}

static void left(char text[static 64])
{
	OWN(fclose) FILE *file = fopen(path, "re");

	text[0] = '\0';
	if (file && !fgets(text, 64, file))
		text[0] = '\0';
}

static void a_step_counts_down(void)
{
	char text[64];

	ask("12 0\n");
	step("one");
	step("two");
	step("three");
	left(text);
	is_str(text, "9 0 \n", "three of twelve are survived, and the line is shorter");
}

static void only_the_named_step_counts(void)
{
	char text[64];

	ask("2 0 a flush\n");
	step("a rename");
	step("a flush");
	step("a rename");
	left(text);
	is_str(text, "1 0 a flush\n", "one of two");
}

static void whose_turn_it_is_dies_and_takes_the_file_with_it(void)
{
	int status = 0;

	ask("2 0\n");
	fflush(stdout);
	pid_t child = fork();

	if (child == 0) {
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		step("one");
		step("two");
		_exit(0);
	}
	ok(waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
		   WTERMSIG(status) == SIGKILL,
	   "killed");
	ok(access(path, F_OK) < 0, "the next life finds no file");
	step("three");
	ok(1, "and lives");
}

static void *work(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED))
		step("work");
	return NULL;
}

/* Who tests takes the file away while the daemon is at work. */
static void a_file_that_was_taken_away_does_not_come_back(void)
{
	pthread_t thread;
	int n_back = 0;

	if (pthread_create(&thread, NULL, work, NULL) != 0) {
		ok(0, "no thread");
		return;
	}
	for (int i = 0; i < N_ROUNDS; i++) {
		ask("1000000 0\n");
		usleep((useconds_t)i % 100); /* wherever the other is by then */
		(void)unlink(path);
		step("the other's is over, or begins anew");
		n_back += access(path, F_OK) == 0;
	}
	__atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
	(void)pthread_join(thread, NULL); /* it exists */
	is_int(n_back, 0, "not once");
}

int main(void)
{
	*strrchr(path, '/') = '\0';
	if (!mkdtemp(path))
		return 1;
	path[strlen(path)] = '/';
	if (setenv("GUREUM_STEPS", path, 1) < 0)
		return 1;
	a_step_counts_down();
	only_the_named_step_counts();
	whose_turn_it_is_dies_and_takes_the_file_with_it();
	a_file_that_was_taken_away_does_not_come_back();
	(void)unlink(path);
	*strrchr(path, '/') = '\0';
	(void)rmdir(path);
	return tests_done();
}
