/* gureum status, gureum doctor: how the cloud is, and what on this host matters to it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "cli.h"
#include "jsonx.h"
#include "own.h"
#include "run.h"

#define WAIT_USEC 500000

static int is_reachable(const struct cli *cli, const char *daemon, struct fault *f)
{
	struct context ctx = cli_context(cli, NULL);
	OWN(json_decref) json_t *parameters = json_object();
	OWN(json_decref) json_t *reply = NULL;
	return cli_call(cli, daemon, WAIT_USEC, &ctx, "gureum.Describe", parameters, NULL, &reply,
			f) == 0;
}

/* ---- status ---- */

static void count_states(const json_t *reply, json_t *counts)
{
	const json_t *reservations = json_object_get(reply, "Reservations");
	json_t *reservation, *instance;
	size_t i, k;
	json_array_foreach (reservations, i, reservation)
		json_array_foreach (json_object_get(reservation, "Instances"), k, instance) {
			const char *state = jpath_str(instance, "State.Name");
			if (state)
				(void)jset_new(counts, state,
					       json_integer(jint(counts, state, 0) +
							    1)); /* missing from the sum at worst */
		}
}

static int print_instances(const struct cli *cli, const char *region)
{
	struct context ctx = cli_context(cli, region);
	OWN(json_decref) json_t *parameters = json_object();
	OWN(json_decref) json_t *reply = NULL;
	OWN(json_decref) json_t *counts = json_object();
	struct fault f = {0};
	const char *state;
	json_t *n;
	if (cli_call(cli, "hvd", WAIT_USEC, &ctx, "ec2.DescribeInstances", parameters, NULL, &reply,
		     &f) < 0) {
		printf("%-16s instances: unknown (%s)\n", region, f.message);
		return 1;
	}
	count_states(reply, counts);
	printf("%-16s instances:", region);
	if (json_object_size(counts) == 0)
		printf(" none");
	json_object_foreach (counts, state, n)
		printf(" %lld %s", (long long)json_integer_value(n), state);
	putchar('\n');
	return 0;
}

static int run_status(struct cli *cli, int argc, char **argv)
{
	int first, result = 0, status = cli_options(&status_command, NULL, argc, argv, &first);
	if (status >= 0)
		return status;
	if (first != argc)
		return cli_misuse(&status_command, "status: unexpected argument %s", argv[first]);
	for (size_t i = 0; cli_daemons[i]; i++) {
		struct fault f = {0};
		int is_ok = is_reachable(cli, cli_daemons[i], &f);
		printf("%-16s %s%s\n", cli_daemons[i],
		       is_ok ? "answers" : "away: ", is_ok ? "" : f.message);
		result |= !is_ok;
	}
	for (const char *const *region = config_list(cli->config, "Cloud", "Regions"); *region;
	     region++)
		result |= print_instances(cli, *region);
	return result;
}

const struct command status_command = {
	"status", "", "Who answers, and how many instances there are",
	"The exit status is 0 when everything answers.\n", run_status};

/* ---- doctor ---- */

static int n_errors;

static void print_finding(const char *who, const char *name, const char *state, const char *text)
{
	n_errors += strcmp(state, "error") == 0;
	printf("%-8s %-6s %-18s %s\n", state, who, name, text);
}

static void check_programs(void)
{
	static const char *const programs[] = {"qemu-system-x86_64", "qemu-img", "iptables-restore",
					       "ipset", "ip"};
	for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++) {
		OWN(run_result_clear) struct run_result result = {0};
		const char *argv[] = {programs[i], "--version", NULL};
		/* `ip` has no --version: it says so, and is there. */
		int r = run_wait(&(struct run){.argv = argv, .timeout_usec = 10000000}, &result);
		int is_there = r == 0 && result.status != 127;
		print_finding("host", programs[i], is_there ? "ok" : "error",
			      is_there ? "installed" : "not installed, or not in PATH");
	}
}

static void check_disk(const struct cli *cli)
{
	struct statvfs s;
	char text[512];
	if (statvfs(cli->state_dir, &s) < 0) {
		snprintf(text, sizeof(text), "%s: %s", cli->state_dir, strerror(errno));
		print_finding("host", "disk", "warning", text);
		return;
	}
	double free_gib = (double)s.f_bavail * (double)s.f_frsize / (1 << 30);
	double percent = s.f_blocks ? 100.0 * (double)s.f_bavail / (double)s.f_blocks : 0;
	snprintf(text, sizeof(text), "%.1f GiB (%.0f %%) free in %s", free_gib, percent,
		 cli->state_dir);
	print_finding("host", "disk",
		      free_gib < 1		     ? "error"
		      : free_gib < 10 || percent < 5 ? "warning"
						     : "ok",
		      text);
}

/* Docker and others drop what is forwarded; netd's own chain, asked first, lets guests' packets
 * through. */
static void check_forward(void)
{
	OWN(run_result_clear) struct run_result result = {0};
	const char *argv[] = {"iptables", "-S", "FORWARD", NULL};
	int r = run_wait(&(struct run){.argv = argv}, &result);
	if (r < 0 || result.status != 0) {
		print_finding("host", "forwarding", "warning", "cannot be read (are you root?)");
		return;
	}
	int is_drop = strstr(result.out, "-P FORWARD DROP") != NULL,
	    has_ours = strstr(result.out, "-j gureum-forward") != NULL;
	print_finding("host", "forwarding", is_drop && !has_ours ? "warning" : "ok",
		      !is_drop	 ? "forwarded packets are accepted"
		      : has_ours ? "dropped by default (Docker?), but netd's chain comes first"
				 : "dropped by default (Docker?), and netd's chain is not there: "
				   "guests do not reach the outside");
}

/* hvd has more to tell than a list of findings: what it probed. */
static void check_hypervisor(const struct cli *cli, const struct context *ctx)
{
	OWN(json_decref) json_t *parameters = json_object();
	OWN(json_decref) json_t *reply = NULL;
	struct fault f = {0};
	char text[600];
	if (cli_call(cli, "hvd", WAIT_USEC, ctx, "gureum.DescribeHypervisor", parameters, NULL,
		     &reply, &f) < 0) {
		print_finding("hvd", "acceleration", "warning", f.message);
		return;
	}
	const char *acceleration = jstr_or(reply, "Acceleration", "unknown");
	int is_kvm = strcmp(acceleration, "kvm") == 0;
	snprintf(text, sizeof(text), "%s: %s%s", acceleration, jstr_or(reply, "Reason", ""),
		 is_kvm ? "" : "; guests will be slow");
	print_finding("hvd", "acceleration", is_kvm ? "ok" : "warning", text);
	const json_t *libvirt = json_object_get(reply, "Libvirt");
	int is_connected = jbool(libvirt, "Connected", 0);
	snprintf(text, sizeof(text), "%s, version %s%s", jstr_or(libvirt, "Uri", "?"),
		 jstr_or(libvirt, "Version", "?"), is_connected ? "" : ": not connected");
	print_finding("hvd", "libvirt", is_connected ? "ok" : "error", text);
}

static void ask_daemon(const struct cli *cli, const char *daemon)
{
	struct context ctx = cli_context(cli, NULL);
	OWN(json_decref) json_t *parameters = json_object();
	OWN(json_decref) json_t *reply = NULL;
	struct fault f = {0};
	json_t *v;
	size_t i;
	if (!is_reachable(cli, daemon, &f)) {
		print_finding(daemon, "reachable", "error", f.message);
		return;
	}
	print_finding(daemon, "reachable", "ok", "answers");
	if (strcmp(daemon, "hvd") == 0)
		check_hypervisor(cli, &ctx);
	if (cli_call(cli, daemon, WAIT_USEC, &ctx, "gureum.Doctor", parameters, NULL, &reply, &f) <
	    0) {
		if (!fault_is(&f, FAULT_INVALID_ACTION)) /* not every daemon has findings */
			print_finding(daemon, "checks", "warning", f.message);
		return;
	}
	json_array_foreach (json_object_get(reply, "Checks"), i, v)
		print_finding(daemon, jstr_or(v, "Name", "?"), jstr_or(v, "State", "?"),
			      jstr_or(v, "Text", ""));
}

static int run_doctor(struct cli *cli, int argc, char **argv)
{
	int first, status = cli_options(&doctor_command, NULL, argc, argv, &first);
	if (status >= 0)
		return status;
	if (first != argc)
		return cli_misuse(&doctor_command, "doctor: unexpected argument %s", argv[first]);
	check_programs();
	check_disk(cli);
	check_forward();
	for (size_t i = 0; cli_daemons[i]; i++)
		ask_daemon(cli, cli_daemons[i]);
	return n_errors > 0;
}

const struct command doctor_command = {"doctor", "",
				       "What on this host would break the cloud, or matters to it",
				       "One finding a line: ok, warning or error, who found it, "
				       "what. The exit status is 1 when there\n"
				       "is an error.\n",
				       run_doctor};
