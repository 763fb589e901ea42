/* gureum call, gureum config: the raw words. */
#include <errno.h>
#include <string.h>
#include "cli.h"
#include "own.h"

static int read_parameters(const char *text, json_t **ret_parameters)
{
	json_error_t e;
	json_t *p = strcmp(text, "-") == 0 ? json_loadf(stdin, 0, &e) : json_loads(text, 0, &e);
	if (!p)
		return cli_fail("the parameters are not JSON: line %d: %s", e.line, e.text);
	if (!json_is_object(p)) {
		json_decref(p);
		return cli_fail("the parameters are not a JSON object");
	}
	*ret_parameters = p;
	return 0;
}

static int is_daemon(const char *name)
{
	for (const char *const *d = cli_daemons; *d; d++)
		if (strcmp(*d, name) == 0)
			return 1;
	return 0;
}

static int run_call(struct cli *cli, int argc, char **argv)
{
	const char *region = NULL, *account = NULL;
	const struct cli_option options[] = {
		{"region", &region, NULL}, {"account", &account, NULL}, {NULL, NULL, NULL}};
	OWN(json_decref) json_t *parameters = NULL;
	OWN(json_decref) json_t *reply = NULL;
	struct fault f = {0};
	int first, status = cli_options(&call_command, options, argc, argv, &first);
	if (status >= 0)
		return status;
	if (argc - first < 2 || argc - first > 3)
		return cli_misuse(&call_command,
				  "call: a daemon, a method and its parameters are needed");
	if (!is_daemon(argv[first]))
		return cli_misuse(&call_command, "call: there is no daemon %s", argv[first]);
	status = read_parameters(argc - first == 3 ? argv[first + 2] : "{}", &parameters);
	if (status > 0)
		return status;
	struct context ctx = cli_context(cli, region);
	if (account)
		snprintf(ctx.account, sizeof(ctx.account), "%s", account);
	if (cli_call(cli, argv[first], 1000000, &ctx, argv[first + 1], parameters, NULL, &reply,
		     &f) < 0)
		return cli_fail("%s: %s", f.code, f.message);
	if (json_dumpf(reply, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER) < 0)
		return cli_fail("cannot write: %s", strerror(errno));
	putchar('\n');
	return 0;
}

const struct command call_command = {
	"call", "[--region R] [--account A] DAEMON METHOD [JSON]",
	"Asks a daemon in its own words, as the other daemons do",
	"DAEMON is apid, hvd, netd or stord; METHOD like ec2.DescribeInstances or gureum.Describe; "
	"JSON an\n"
	"object, {} unless given, - to read it from standard input.\n\n"
	"  gureum call hvd ec2.DescribeInstances '{}'\n",
	run_call};

static int run_config(struct cli *cli, int argc, char **argv)
{
	int is_check = 0, first;
	const struct cli_option options[] = {{"check", NULL, &is_check}, {NULL, NULL, NULL}};
	int status = cli_options(&config_command, options, argc, argv, &first);
	if (status >= 0)
		return status;
	if (first != argc)
		return cli_misuse(&config_command, "config: unexpected argument %s", argv[first]);
	if (!is_check) {
		config_print_table(stdout);
		return 0;
	}
	if (!cli->config) {
		OWN(config_free) struct config *none = NULL;
		char error[512] = "";
		(void)config_load(cli->config_path, &none, error); /* again, for its words */
		return cli_fail("%s", error);
	}
	config_print(cli->config, stdout);
	return 0;
}

const struct command config_command = {
	"config", "[--check]", "Prints all settings with their defaults and what they are for",
	"  --check  print what was understood of the configuration instead\n", run_config};
