/* Configuration and commands: what a file may say, and what a command gives back. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "run.h"
#include "tap.h"

static char directory[] = "/tmp/gureum-config-XXXXXX";
static char path[64];

static void write_file(const char *name, const char *text)
{
	char file[128];
	FILE *f;

	(void)snprintf(file, sizeof file, "%s/%s", directory, name);
	f = fopen(file, "w");
	if (f) {
		fputs(text, f);
		fclose(f);
	}
}

static void no_file_is_all_defaults(void)
{
	OWN(config_free) struct config *c = NULL;
	char error[512];

	is_int(config_load("/nonexistent.conf", &c, error), 0, "loaded");
	is_str(config_string(c, "Api", "Listen"), "127.0.0.1:4566", "a string");
	is_int((int)config_integer(c, "Cloud", "ZonesPerRegion"), 3, "a number");
	is_int(config_bool(c, "Api", "Tls"), 0, "a bool");
	is_str(config_list(c, "Cloud", "Regions")[1], "ap-northeast-2", "a list");
}

static void a_drop_in_wins(void)
{
	OWN(config_free) struct config *c = NULL;
	char error[512];

	write_file("g.conf", "# note\n[Cloud]\nAccount = 000000000001\nRegions=a b\n");
	write_file("g.conf.d/10-x.conf", "[Cloud]\nRegions=c\n");
	is_int(config_load(path, &c, error), 0, "loaded");
	is_str(config_string(c, "Cloud", "Account"), "000000000001", "the file");
	is_str(config_list(c, "Cloud", "Regions")[0], "c", "the drop-in");
	ok(!config_list(c, "Cloud", "Regions")[1], "replaces the whole list");
	write_file("g.conf.d/10-x.conf", "");
}

static void a_typo_is_an_error_with_its_line(void)
{
	static const char *const wrong[] = {"[Cloud]\nAcount=1\n",  "[Clod]\nAccount=1\n",
					    "[Api]\nTls=perhaps\n", "[Cloud]\nZonesPerRegion=3x\n",
					    "[Cloud]\nAccount\n",   "[Cloud\nAccount=1\n"};

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		OWN(config_free) struct config *c = NULL;
		char error[512];

		write_file("g.conf", wrong[i]);
		is_int(config_load(path, &c, error), -EINVAL, "refused");
		ok(strstr(error, "g.conf:") != NULL, error);
	}
}

static void a_number_out_of_its_range_is_refused_by_name(void)
{
	static const char *const edges[] = {"[Cloud]\nZonesPerRegion=1\n",
					    "[Cloud]\nZonesPerRegion=6\n",
					    "[Compute]\nMemoryPercent=0\n"};
	static const char *const wrong[][2] = {
		{"[Cloud]\nZonesPerRegion=0\n", "ZonesPerRegion is from 1 to 6"},
		{"[Cloud]\nZonesPerRegion=7\n", "ZonesPerRegion is from 1 to 6"},
		{"[Api]\nMaxConnections=-1\n", "MaxConnections is from 1"},
		{"[Compute]\nMemoryPercent=-1\n", "MemoryPercent is from 0"},
		{"[Storage]\nMaxImportGiB=9223372036854775807\n", "MaxImportGiB is from 1"},
		{"[Storage]\nMaxImportGiB=9223372036854775808\n", "no number for MaxImportGiB"}};
	char error[512];

	for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
		OWN(config_free) struct config *c = NULL;

		write_file("g.conf", edges[i]);
		is_int(config_load(path, &c, error), 0, "an edge is within");
	}
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		OWN(config_free) struct config *c = NULL;

		write_file("g.conf", wrong[i][0]);
		is_int(config_load(path, &c, error), -EINVAL, "refused");
		ok(strstr(error, wrong[i][1]) && strstr(error, "g.conf:2: "), error);
	}
}

/* As they are shown, and as they are in the file: the example is taken when it is no comment. */
static void every_default_is_in_its_range(void)
{
	OWN(config_free) struct config *c = NULL;
	OWN(free) char *text = NULL;
	char error[512], *at;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	config_print_table(out);
	fclose(out);
	ok(strstr(text, "From 1 to 6.\n#ZonesPerRegion=3\n") != NULL, "ranges are told");
	for (at = text; (at = strstr(at, "\n#")); at++)
		if (at[2] != ' ')
			at[1] = ' ';
	write_file("g.conf", text);
	is_int(config_load(path, &c, error), 0, error);
}

static void what_cannot_be_read_is_no_default(void)
{
	OWN(config_free) struct config *c = NULL;
	char error[512], drop_in[96];

	is_int(config_load(directory, &c, error), -EISDIR, "a directory in the file's place");
	ok(strstr(error, directory) != NULL, error);
	write_file("g.conf", "");
	(void)snprintf(drop_in, sizeof drop_in, "%s.d/20-y.conf", path);
	(void)mkdir(drop_in, 0700);
	is_int(config_load(path, &c, error), -EISDIR, "among the drop-ins");
	ok(strstr(error, "20-y.conf") != NULL, error);
	(void)rmdir(drop_in);
	is_int(config_load(path, &c, error), 0, "loaded");
}

static void a_command_gives_back_status_and_output(void)
{
	const char *const argv[] = {"sh", "-c", "cat; echo oops >&2; exit 3", NULL};
	OWN(run_result_clear) struct run_result r = {0};

	is_int(run_command(&(struct run){.argv = argv, .input = "hello", .input_bytes = 5}, &r), 0,
	       "ran");
	is_int(r.status, 3, "status");
	is_str(r.out, "hello", "stdin to stdout");
	is_str(r.err, "oops\n", "stderr");
}

static void a_late_command_is_killed(void)
{
	const char *const argv[] = {"sleep", "60", NULL};
	OWN(run_result_clear) struct run_result r = {0};

	is_int(run_command(&(struct run){.argv = argv, .timeout_usec = 50000}, &r), -ETIMEDOUT,
	       "killed");
}

static void no_such_program_is_enoent(void)
{
	const char *const argv[] = {"gureum-no-such-program", NULL};
	OWN(run_result_clear) struct run_result r = {0};

	is_int(run_command(&(struct run){.argv = argv}, &r), -ENOENT, "said so");
}

static void a_flood_of_output_is_bounded(void)
{
	const char *const argv[] = {"head", "-c", "3000000", "/dev/zero", NULL};
	OWN(run_result_clear) struct run_result r = {0};

	is_int(run_command(&(struct run){.argv = argv}, &r), 0, "ran to its end");
	is_int(r.status, 0, "the writer was not cut off");
}

int main(void)
{
	char drop_ins[96], command[64];

	if (!mkdtemp(directory))
		return 1;
	(void)snprintf(path, sizeof path, "%s/g.conf", directory);
	(void)snprintf(drop_ins, sizeof drop_ins, "%s.d", path);
	(void)mkdir(drop_ins, 0700);
	RUN(no_file_is_all_defaults);
	RUN(a_drop_in_wins);
	RUN(a_typo_is_an_error_with_its_line);
	RUN(a_number_out_of_its_range_is_refused_by_name);
	RUN(every_default_is_in_its_range);
	RUN(what_cannot_be_read_is_no_default);
	RUN(a_command_gives_back_status_and_output);
	RUN(a_late_command_is_killed);
	RUN(no_such_program_is_enoent);
	RUN(a_flood_of_output_is_bounded);
	snprintf(command, sizeof command, "rm -rf %s", directory);
	if (system(command) != 0)
		return 1;
	return tests_done();
}
