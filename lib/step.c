/* Steps: dying where a test asks for it. */
#include "step.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "own.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char path[512]; /* "": nobody asks */

static void find_path(void)
{
	const char *given = getenv("GUREUM_STEPS");
	struct stat st;

	if (!given)
		return;
	int is_directory = stat(given, &st) == 0 && S_ISDIR(st.st_mode);

	snprintf(path, sizeof(path), "%s%s%s", given, is_directory ? "/" : "",
		 is_directory ? program_invocation_short_name : "");
}

/* What the file asks for. */
struct asked {
	long n;		/* steps still to be survived, 0: nobody asked */
	pid_t pid;	/* who dies, 0: oneself */
	char what[128]; /* only these steps count, "": all */
};

static int read_asked(FILE *file, struct asked *ret)
{
	long pid = 0;

	*ret = (struct asked){0};
	if (fscanf(file, "%ld %ld %127[^\n]", &ret->n, &pid, ret->what) < 1)
		return 0;
	ret->pid = (pid_t)pid;
	return 1;
}

/* Into the file that was read, never one of that name: who tests may have taken it away meanwhile,
 * and made anew it would kill a later life. The line only gets shorter. */
static void put(FILE *file, const struct asked *a)
{
	rewind(file);
	fprintf(file, "%ld %ld %s\n", a->n, (long)a->pid, a->what);
	if (fflush(file) != 0 || ftruncate(fileno(file), ftell(file)) < 0)
		perror(path);
}

/* It is still asked: the file is there, under its name. */
static int is_there(FILE *file)
{
	struct stat ours, its;

	return fstat(fileno(file), &ours) == 0 && stat(path, &its) == 0 &&
	       ours.st_ino == its.st_ino && ours.st_dev == its.st_dev;
}

static void count(const char *what)
{
	OWN(fclose) FILE *file = fopen(path, "r+e");
	struct asked a;

	if (!file || !read_asked(file, &a) || (a.what[0] && strcmp(a.what, what) != 0))
		return;
	if (--a.n > 0) {
		put(file, &a);
	} else if (a.n == 0 && is_there(file) && unlink(path) == 0) {
		/* The next life must not die of it, too; and who tests may have been first to take it
		 * away, and counts on our living. */
		fprintf(stderr, "killed before: %s\n", what);
		(void)kill(a.pid ? a.pid : getpid(), SIGKILL);
		if (!a.pid)
			(void)pause();
	}
}

static void meet(const char *before, const char *what)
{
	static int is_known;
	char name[128];

	(void)pthread_mutex_lock(&lock); /* a plain mutex does not fail */
	if (!is_known)
		find_path();
	is_known = 1;
	if (path[0]) {
		snprintf(name, sizeof name, "%s%s", before, what);
		count(name);
	}
	(void)pthread_mutex_unlock(&lock);
}

void step(const char *what)
{
	meet("", what);
}

void step_after(const char *method)
{
	meet("what follows ", method);
}
