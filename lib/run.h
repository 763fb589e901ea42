/*
 * Running commands: the one room that does. No shell, argv only; stdin from memory or closed,
 * stdout and stderr captured up to a bound; a time limit after which the child is killed. O_CLOEXEC
 * keeps our descriptors ours.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "own.h"

struct run {
	const char *const *argv; /* argv[0] is searched in PATH */
	const char *input;	 /* written to stdin, NULL: /dev/null */
	size_t input_bytes;
	int netns_fd;	       /* > 0: the child enters this network namespace first */
	uint64_t timeout_usec; /* 0: 30 s */
	const int *pass_fds;   /* descriptors the child inherits under the same numbers */
	size_t n_pass_fds;
	uint64_t limit_as_bytes; /* > 0: RLIMIT_AS of the child */
	uint64_t limit_cpu_sec;	 /* > 0: RLIMIT_CPU */
	size_t output_max_bytes; /* > 0: as much of each output is kept, instead of 1 MiB */
	int stop_fd;		 /* > 0: when it becomes readable the child is killed: -ECANCELED */
	int confine; /* 1: no new privileges, own empty network namespace where permitted */
};

struct run_result {
	int status; /* exit status 0..255, 128+n when ended by signal n */
	char *out;  /* stdout, NUL-terminated, at most output_max_bytes */
	char *err;  /* stderr, the same */
};
void run_result_clear(struct run_result *r);
static inline void own_run_result_clear(struct run_result *r)
{
	run_result_clear(r);
}

/* Runs and waits. Blocks the thread: from a fiber use run_wait(). 0 when the command ran, whatever
 * its status; -ENOENT no such program, -ETIMEDOUT killed for lateness, -ECANCELED by stop_fd,
 * -errno. */
int run_command(const struct run *r, struct run_result *ret_result);
/* (fiber) The same on a worker. */
int run_wait(const struct run *r, struct run_result *ret_result);
