/* gureum fsck: are the disks' files what the documents say? */
#include <string.h>
#include "cli.h"
#include "jsonx.h"
#include "own.h"

static int run_fsck(struct cli *cli, int argc, char **argv)
{
	int is_repair = 0, first;
	const struct cli_option options[] = {{"repair", NULL, &is_repair}, {NULL, NULL, NULL}};
	int status = cli_options(&fsck_command, options, argc, argv, &first), n_left = 0;
	struct context ctx = cli_context(cli, NULL);
	OWN(json_decref) json_t *reply = NULL;
	struct fault f = {0};
	json_t *finding;
	size_t i;

	if (status >= 0)
		return status;
	if (first != argc)
		return cli_misuse(&fsck_command, "fsck: unexpected argument %s", argv[first]);
	OWN(json_decref) json_t *parameters = json_pack("{s:b}", "Repair", is_repair);

	if (cli_call(cli, "stord", 1000000, &ctx, "gureum.Fsck", parameters, NULL, &reply, &f) < 0)
		return cli_fail("%s: %s", f.code, f.message);
	json_array_foreach (json_object_get(reply, "Findings"), i, finding) {
		int is_repaired = jbool(finding, "Repaired", 0);

		printf("%-8s  %s: %s%s\n", jstr_or(finding, "What", "?"),
		       jstr_or(finding, "Name", "?"), jstr_or(finding, "Text", ""),
		       is_repaired ? " (repaired)" : "");
		n_left += !is_repaired && strcmp(jstr_or(finding, "What", ""), "leaked") != 0;
	}
	printf("%lld files, %zu findings, %lld being written and not looked into\n",
	       (long long)jint(reply, "Files", 0),
	       json_array_size(json_object_get(reply, "Findings")),
	       (long long)jint(reply, "Busy", 0));
	return n_left > 0;
}

const struct command fsck_command = {
	"fsck", "[--repair]", "Compares volumes and snapshots with their files",
	"One finding a line: missing, corrupt, header, unneeded, orphan or leaked, the file, "
	"what.\n"
	"The exit status is 1 when there is one; leaked clusters cost space alone and do not "
	"count.\n\n"
	"  --repair  mend what can be mended without losing anything: headers, layers that nobody\n"
	"            needs, leaked clusters\n",
	run_fsck};
