/* cli: what the commands share. */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "id.h"

#define OPTIONS_MAX 16

const char *const cli_daemons[] = {"apid", "hvd", "netd", "stord", NULL};

static void say(const char *format, va_list values)
{
	fputs("gureum: ", stderr);
	vfprintf(stderr, format, values);
	fputc('\n', stderr);
}

int cli_fail(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	say(format, values);
	va_end(values);
	return 1;
}

int cli_misuse(const struct command *c, const char *format, ...)
{
	va_list values;
	va_start(values, format);
	say(format, values);
	va_end(values);
	fprintf(stderr, "Try: gureum %s --help\n", c->name);
	return 2;
}

void cli_usage(const struct command *c, FILE *out)
{
	fprintf(out, "Usage: gureum %s %s\n\n%s.\n", c->name, c->arguments, c->summary);
	if (c->help[0])
		fprintf(out, "\n%s", c->help);
}

struct context cli_context(const struct cli *cli, const char *region)
{
	struct context ctx = {0};
	if (!region)
		region = config_list(cli->config, "Cloud", "Regions")[0];
	snprintf(ctx.account, sizeof(ctx.account), "%s",
		 config_string(cli->config, "Cloud", "Account"));
	snprintf(ctx.region, sizeof(ctx.region), "%s", region ? region : "");
	id_uuid(ctx.request);
	return ctx;
}

int cli_call(const struct cli *cli, const char *daemon, uint64_t wait_usec,
	     const struct context *ctx, const char *method, json_t *parameters,
	     const struct fds *fds, json_t **ret_reply, struct fault *f)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s.sock", cli->runtime_dir, daemon);
	OWN(rpc_peer_free) struct rpc_peer *peer = rpc_peer_new(path);
	if (!peer)
		return -ENOMEM;
	rpc_peer_set_wait(peer, wait_usec);
	int r = rpc_call(peer, ctx, method, parameters, fds, ret_reply, NULL, f);
	if (r < 0 && fault_is(f, FAULT_SERVICE_UNAVAILABLE) && access(path, F_OK) < 0)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE, "%s does not run: there is no %s",
				 daemon, path);
	return r;
}

int cli_options(const struct command *c, const struct cli_option *options, int argc, char **argv,
		int *ret_first)
{
	struct option table[OPTIONS_MAX + 2] = {{"help", no_argument, NULL, 'h'}};
	int n = 1;
	for (; options && options[n - 1].name && n <= OPTIONS_MAX; n++)
		table[n] = (struct option){options[n - 1].name,
					   options[n - 1].value ? required_argument : no_argument,
					   NULL, 256 + n - 1};
	optind = 0; /* starts getopt anew: main has used it before */
	for (int o; (o = getopt_long(argc, argv, "+h", table, NULL)) != -1;) {
		if (o == 'h') {
			cli_usage(c, stdout);
			return 0;
		}
		if (o < 256)
			return cli_misuse(c, "%s: wrong option", c->name);
		if (options[o - 256].value)
			*options[o - 256].value = optarg;
		else
			*options[o - 256].flag = 1;
	}
	*ret_first = optind;
	return -1;
}
