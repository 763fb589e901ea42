/*
 * cli: `gureum`, the operator's command. It asks the daemons in their own words over their sockets;
 * a command is a fiber, so it may wait for several things in turn like a daemon's handler does. It
 * keeps no state.
 */
#pragma once

#include <jansson.h>
#include "config.h"
#include "rpc.h"

struct cli {
	const struct config *config;
	const char *config_path;
	const char *runtime_dir;
	const char *state_dir;
};

struct command {
	const char *name;
	const char *arguments; /* after the name, for the usage line */
	const char *summary;   /* one line */
	const char *help;      /* what its options are; ends with a newline, or "" */
	/* (fiber) argv[0] is the command's name. Returns the exit status: 0, 1 it failed, 2 it was
	 * called wrongly. */
	int (*run)(struct cli *cli, int argc, char **argv);
};

extern const struct command call_command, config_command, doctor_command, fsck_command,
	image_command, status_command;

/* The daemons that have sockets, ended by NULL. */
extern const char *const cli_daemons[];

/* Prints "gureum: …" on stderr; returns 1, for `return`. */
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with the way to the command's help; returns 2. */
int cli_misuse(const struct command *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void cli_usage(const struct command *c, FILE *out);

/* Who asks: the cloud's account, the daemons' own principal, this region (NULL: the first). */
struct context cli_context(const struct cli *cli, const char *region);
/* (fiber) Asks a daemon; waits up to wait_usec for it to be there. 0 with *ret_reply (a new
 * reference), or -errno with `f` filled. */
int cli_call(const struct cli *cli, const char *daemon, uint64_t wait_usec,
	     const struct context *ctx, const char *method, json_t *parameters,
	     const struct fds *fds, json_t **ret_reply, struct fault *f);
/* Options by table: long options with values are stored, flags set to 1; "-h" and "--help" print
 * the help. */
struct cli_option {
	const char *name;
	const char **value; /* takes a value; NULL: a flag */
	int *flag;
};
/* -1: go on with argv[*ret_first]; else the exit status. */
int cli_options(const struct command *c, const struct cli_option *options, int argc, char **argv,
		int *ret_first);
