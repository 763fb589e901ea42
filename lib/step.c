/* Steps: dying where a test asks for it. */
#include "step.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "own.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* How many steps are still to be survived; 0: nobody asked. */
static long left(const char *path)
{
	OWN(fclose) FILE *file = fopen(path, "re");
	long n = 0;

	return file && fscanf(file, "%ld", &n) == 1 ? n : 0;
}

static void put(const char *path, long n)
{
	OWN(fclose) FILE *file = fopen(path, "we");

	if (file)
		fprintf(file, "%ld\n", n);
}

void step(const char *what)
{
	static const char *path;
	static int is_known;
	long n;

	(void)pthread_mutex_lock(&lock); /* a plain mutex does not fail */
	if (!is_known)
		path = getenv("GUREUM_STEPS");
	is_known = 1;
	n = path ? left(path) : 0;
	if (n == 1) {
		(void)unlink(path); /* the next life must not die of it, too */
		fprintf(stderr, "killed before: %s\n", what);
		(void)kill(getpid(), SIGKILL);
		(void)pause();
	}
	if (n > 1)
		put(path, n - 1);
	(void)pthread_mutex_unlock(&lock);
}
