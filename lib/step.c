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

static int read_asked(struct asked *ret)
{
	OWN(fclose) FILE *file = fopen(path, "re");
	long pid = 0;

	*ret = (struct asked){0};
	if (!file || fscanf(file, "%ld %ld %127[^\n]", &ret->n, &pid, ret->what) < 1)
		return 0;
	ret->pid = (pid_t)pid;
	return 1;
}

static void put(const struct asked *a)
{
	OWN(fclose) FILE *file = fopen(path, "we");

	if (file)
		fprintf(file, "%ld %ld %s\n", a->n, (long)a->pid, a->what);
}

static void count(const char *what)
{
	struct asked a;

	if (!read_asked(&a) || (a.what[0] && strcmp(a.what, what) != 0))
		return;
	if (--a.n > 0) {
		put(&a);
	} else if (a.n == 0) {
		(void)unlink(path); /* the next life must not die of it, too */
		fprintf(stderr, "killed before: %s\n", what);
		(void)kill(a.pid ? a.pid : getpid(), SIGKILL);
		if (!a.pid)
			(void)pause();
	}
}

void step(const char *what)
{
	static int is_known;

	(void)pthread_mutex_lock(&lock); /* a plain mutex does not fail */
	if (!is_known)
		find_path();
	is_known = 1;
	if (path[0])
		count(what);
	(void)pthread_mutex_unlock(&lock);
}
