/* gureum: options, configuration, and one command on a fiber. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-event.h>
#include "cli.h"
#include "fiber.h"
#include "log.h"
#include "own.h"

#define CONFIG_PATH "/etc/gureum/gureum.conf"

static const struct command *const commands[] = {&status_command, &doctor_command, &fsck_command,
						 &image_command,  &call_command,   &config_command};
#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

static void usage(FILE *out)
{
	fprintf(out, "Usage: gureum [-c FILE] COMMAND …\n\n"
		     "The operator's command of Gureum, a private AWS on one machine.\n\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-8s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "\n"
		     "  -c, --config FILE  read this instead of " CONFIG_PATH "\n"
		     "  -h, --help         this text; gureum COMMAND --help tells more\n"
		     "      --version      the version\n");
}

/* -1 to go on, else the exit status. */
static int read_options(int argc, char **argv, const char **config_path)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
						{"help", no_argument, NULL, 'h'},
						{"version", no_argument, NULL, 'V'},
						{NULL, 0, NULL, 0}};
	for (int o; (o = getopt_long(argc, argv, "+c:h", options, NULL)) != -1;) {
		switch (o) {
		case 'c':
			*config_path = optarg;
			break;
		case 'h':
			usage(stdout);
			return 0;
		case 'V':
			printf("gureum %s\n", GUREUM_VERSION);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	return -1;
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

struct running {
	const struct command *command;
	struct cli cli;
	int argc;
	char **argv;
};

static void run_command_fiber(void *arg)
{
	struct running *r = arg;
	int status = r->command->run(&r->cli, r->argc, r->argv);
	(void)sd_event_exit(fiber_loop(), status); /* the loop is running */
}

static int run(struct running *r)
{
	sd_event *loop = NULL;
	(void)signal(SIGPIPE, SIG_IGN);
	if (sd_event_default(&loop) < 0 || fiber_start(loop, 1) < 0 ||
	    fiber_spawn(run_command_fiber, r) < 0)
		return cli_fail("no event loop");
	int status = sd_event_loop(loop);
	fiber_stop();
	sd_event_unref(loop);
	if (fflush(stdout) != 0)
		return cli_fail("cannot write: %s", strerror(errno));
	return status < 0 ? 1 : status;
}

int main(int argc, char **argv)
{
	OWN(config_free) struct config *config = NULL;
	const char *config_path = CONFIG_PATH;
	char error[512] = "";
	log_start("gureum");
	int status = read_options(argc, argv, &config_path);
	if (status >= 0)
		return status;
	if (optind == argc) {
		usage(stderr);
		return 2;
	}
	int is_help = strcmp(argv[optind], "help") == 0;
	if (is_help && optind + 1 == argc) {
		usage(stdout);
		return 0;
	}
	struct running r = {.argc = argc - optind,
			    .argv = argv + optind,
			    .command = find(argv[optind + is_help])};
	if (!r.command) {
		usage(stderr);
		return cli_fail("no such command: %s", argv[optind + is_help]) + 1;
	}
	if (is_help) {
		cli_usage(r.command, stdout);
		return 0;
	}
	/* `gureum config` shows all settings even when the file cannot be read. */
	if (config_load(config_path, &config, error) < 0 && r.command != &config_command)
		return cli_fail("%s", error);
	r.cli = (struct cli){.config = config, .config_path = config_path};
	if (config) {
		r.cli.runtime_dir = config_string(config, "Paths", "RuntimeDirectory");
		r.cli.state_dir = config_string(config, "Paths", "StateDirectory");
	}
	return run(&r);
}
