/*
 * gureum image import: a disk file becomes an AMI in each region.
 *
 * The file is opened here, by the rights of who asks, and its descriptor handed to stord. What was
 * made when something fails later is taken away again; an image of the same name that is there
 * already is the answer, so the command may be repeated.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "cli.h"
#include "fiber.h"
#include "jsonx.h"
#include "own.h"

#define WAIT_USEC  15000000
#define PAUSE_USEC 50000
#define PAUSE_MAX  1000000

struct import {
	struct cli *cli;
	const char *name, *format, *kernel, *initrd, *cmdline, *region, *root_device, *description,
		*disk;
	int is_public;
};

/* One of the files that make up an image. */
struct part {
	const char *suffix; /* of the image's name */
	const char *type;   /* "machine", "kernel", "ramdisk" */
	const char *file, *format;
};

static int ask(const struct import *i, const struct context *ctx, const char *daemon,
	       const char *method, json_t *parameters, const struct fds *fds, json_t **ret_reply)
{
	struct fault f = {0};
	int r = parameters ? cli_call(i->cli, daemon, WAIT_USEC, ctx, method, parameters, fds,
				      ret_reply, &f)
			   : -ENOMEM;
	if (r < 0)
		(void)cli_fail("%s: %s: %s", method, f.code[0] ? f.code : strerror(-r),
			       f.message); /* the caller returns r */
	return r;
}

/* The image of this name, "" if there is none. */
static int find_image(const struct import *i, const struct context *ctx, const char *name,
		      char ret_id[static 40])
{
	OWN(json_decref)
	json_t *parameters = json_pack("{s:[s], s:[{s:s, s:[s]}]}", "Owners", "self", "Filters",
				       "Name", "name", "Values", name);
	OWN(json_decref) json_t *reply = NULL;
	ret_id[0] = '\0';
	int r = ask(i, ctx, "hvd", "ec2.DescribeImages", parameters, NULL, &reply);
	if (r < 0)
		return r;
	/* A filter's value is a pattern; a name with a star in it is not this name. */
	size_t k;
	json_t *image;
	json_array_foreach (json_object_get(reply, "Images"), k, image)
		if (strcmp(jstr_or(image, "Name", ""), name) == 0)
			snprintf(ret_id, 40, "%s", jstr_or(image, "ImageId", ""));
	return 0;
}

/* Waits until the task has ended; its snapshot's id. */
static int wait_task(const struct import *i, const struct context *ctx, const char *task,
		     const char *file, char ret_snapshot[static 40])
{
	OWN(json_decref) json_t *parameters = json_pack("{s:[s]}", "ImportTaskIds", task);
	for (uint64_t pause = PAUSE_USEC;; pause = pause * 2 < PAUSE_MAX ? pause * 2 : PAUSE_MAX) {
		OWN(json_decref) json_t *reply = NULL;
		int r = ask(i, ctx, "stord", "ec2.DescribeImportSnapshotTasks", parameters, NULL,
			    &reply);
		if (r < 0)
			return r;
		const json_t *detail = json_object_get(
			json_array_get(json_object_get(reply, "ImportSnapshotTasks"), 0),
			"SnapshotTaskDetail");
		const char *status = jstr_or(detail, "Status", "");
		if (strcmp(status, "completed") == 0 && jstr(detail, "SnapshotId")) {
			snprintf(ret_snapshot, 40, "%s", jstr(detail, "SnapshotId"));
			return 0;
		}
		if (strcmp(status, "active") != 0) {
			(void)cli_fail("%s was not imported: %s", file,
				       jstr_or(detail, "StatusMessage", status));
			return -EIO;
		}
		r = fiber_sleep(pause);
		if (r < 0)
			return r;
	}
}

static int import_file(const struct import *i, const struct context *ctx, const struct part *part,
		       char ret_snapshot[static 40])
{
	char description[200];
	OWN(fds_close) struct fds fds = {.n = 0};
	OWN(json_decref) json_t *reply = NULL;
	OWN(fd_close) int fd = open(part->file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fds_add(&fds, fd) < 0) {
		int r = -errno;
		(void)cli_fail("%s: %s", part->file, strerror(errno));
		return r;
	}
	(void)give(fd);
	snprintf(description, sizeof(description), "%.100s%s", i->name, part->suffix);
	OWN(json_decref)
	json_t *parameters =
		json_pack("{s:s, s:b, s:{s:s, s:s}}", "Description", description, "_Plain",
			  strcmp(part->type, "machine") != 0, "DiskContainer", "Description",
			  description, "Format", part->format);
	int r = ask(i, ctx, "stord", "ec2.ImportSnapshot", parameters, &fds, &reply);
	return r < 0 ? r
		     : wait_task(i, ctx, jstr_or(reply, "ImportTaskId", ""), part->file,
				 ret_snapshot);
}

static void remove_snapshot(const struct import *i, const struct context *ctx, const char *snapshot)
{
	OWN(json_decref) json_t *parameters = json_pack("{s:s}", "SnapshotId", snapshot);
	OWN(json_decref) json_t *reply = NULL;
	(void)ask(i, ctx, "stord", "ec2.DeleteSnapshot", parameters, NULL,
		  &reply); /* it said so itself */
}

static json_t *register_parameters(const struct import *i, const struct part *part,
				   const char *name, const char *snapshot, const char *kernel_id,
				   const char *ramdisk_id)
{
	int is_machine = strcmp(part->type, "machine") == 0;
	const char *device = is_machine ? i->root_device : "/dev/sda1";
	OWN(json_decref)
	json_t *p = json_pack("{s:s, s:s, s:s, s:s, s:[{s:s, s:{s:s}}]}", "Name", name,
			      "Architecture", "x86_64", "VirtualizationType", "hvm",
			      "RootDeviceName", device, "BlockDeviceMappings", "DeviceName", device,
			      "Ebs", "SnapshotId", snapshot);
	int r = p ? 0 : -ENOMEM;
	if (!is_machine)
		r |= jset(p, "_ImageType", part->type);
	if (is_machine && i->description)
		r |= jset(p, "Description", i->description);
	if (kernel_id[0])
		r |= jset(p, "KernelId", kernel_id);
	if (ramdisk_id[0])
		r |= jset(p, "RamdiskId", ramdisk_id);
	if (is_machine && i->cmdline)
		r |= jset(p, "_Cmdline", i->cmdline);
	if (i->is_public)
		r |= jset_new(p, "_Public", json_true());
	return r < 0 ? NULL : give(p);
}

/* The image of one part: the one that is there, or a new one. */
static int make_part(const struct import *i, const struct context *ctx, const struct part *part,
		     const char *kernel_id, const char *ramdisk_id, char ret_id[static 40])
{
	char name[160], snapshot[40] = "";
	OWN(json_decref) json_t *reply = NULL;
	snprintf(name, sizeof(name), "%s%s", i->name, part->suffix);
	int r = find_image(i, ctx, name, ret_id);
	if (r < 0 || ret_id[0])
		return r;
	fprintf(stderr, "%s: importing %s\n", ctx->region, part->file);
	r = import_file(i, ctx, part, snapshot);
	if (r < 0)
		return r;
	OWN(json_decref)
	json_t *parameters = register_parameters(i, part, name, snapshot, kernel_id, ramdisk_id);
	r = ask(i, ctx, "hvd", "ec2.RegisterImage", parameters, NULL, &reply);
	if (r < 0) {
		remove_snapshot(i, ctx, snapshot);
		return r;
	}
	snprintf(ret_id, 40, "%s", jstr_or(reply, "ImageId", ""));
	return 0;
}

static int import_region(const struct import *i, const char *region, char ret_id[static 40])
{
	struct context ctx = cli_context(i->cli, region);
	const struct part machine = {"", "machine", i->disk, i->format},
			  kernel = {" kernel", "kernel", i->kernel, "raw"},
			  ramdisk = {" ramdisk", "ramdisk", i->initrd, "raw"};
	char kernel_id[40] = "", ramdisk_id[40] = "";
	int r = find_image(i, &ctx, i->name, ret_id);
	if (r < 0 || ret_id[0])
		return r;
	if (i->kernel)
		r = make_part(i, &ctx, &kernel, "", "", kernel_id);
	if (r == 0 && i->initrd)
		r = make_part(i, &ctx, &ramdisk, "", "", ramdisk_id);
	return r < 0 ? r : make_part(i, &ctx, &machine, kernel_id, ramdisk_id, ret_id);
}

static int has_region(const struct cli *cli, const char *region)
{
	for (const char *const *name = config_list(cli->config, "Cloud", "Regions"); *name; name++)
		if (strcmp(*name, region) == 0)
			return 1;
	return 0;
}

static int check(const struct import *i)
{
	const struct command *c = &image_command;
	if (!i->name || strlen(i->name) > 110)
		return cli_misuse(c, "image import: --name is needed, at most 110 characters");
	static const char *const formats[] = {"qcow2", "raw", "vmdk", "vhd", "vhdx"};
	size_t k = 0;
	while (k < sizeof(formats) / sizeof(*formats) && strcmp(i->format, formats[k]) != 0)
		k++;
	if (k == sizeof(formats) / sizeof(*formats))
		return cli_misuse(c, "image import: --format is qcow2, raw, vmdk, vhd or vhdx");
	if ((i->initrd || i->cmdline) && !i->kernel)
		return cli_misuse(c, "image import: --initrd and --cmdline need --kernel");
	if (i->region && !has_region(i->cli, i->region))
		return cli_misuse(c, "image import: this cloud has no region %s", i->region);
	return 0;
}

static int import_all(const struct import *i)
{
	const char *const *regions = config_list(i->cli->config, "Cloud", "Regions");
	const char *const only[] = {i->region, NULL};
	if (i->region)
		regions = only;
	for (const char *const *region = regions; *region; region++) {
		char id[40];
		if (import_region(i, *region, id) < 0)
			return 1;
		if (regions[1])
			printf("%s %s\n", *region, id);
		else
			printf("%s\n", id);
		(void)fflush(stdout); /* main says if that fails at the end */
	}
	return 0;
}

static int run_image(struct cli *cli, int argc, char **argv)
{
	struct import i = {.cli = cli, .format = "qcow2", .root_device = "/dev/xvda"};
	const struct cli_option options[] = {
		{"name", &i.name, NULL},
		{"format", &i.format, NULL},
		{"kernel", &i.kernel, NULL},
		{"initrd", &i.initrd, NULL},
		{"cmdline", &i.cmdline, NULL},
		{"region", &i.region, NULL},
		{"public", NULL, &i.is_public},
		{"root-device", &i.root_device, NULL},
		{"description", &i.description, NULL},
		{NULL, NULL, NULL},
	};
	int first, is_help = argc == 2 &&
			     (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
	if (is_help) {
		cli_usage(&image_command, stdout);
		return 0;
	}
	if (argc < 2 || strcmp(argv[1], "import") != 0)
		return cli_misuse(&image_command, "image: what shall be done? There is: import");
	int status = cli_options(&image_command, options, argc - 1, argv + 1, &first);
	if (status >= 0)
		return status;
	if (first + 1 != argc - 1)
		return cli_misuse(&image_command, "image import: one file is needed");
	i.disk = argv[1 + first];
	status = check(&i);
	return status ? status : import_all(&i);
}

const struct command image_command = {
	"image", "import --name NAME [OPTION…] FILE", "Makes an AMI of a disk file",
	"  --name NAME        of the AMI; if there is one already, its id is printed and nothing "
	"is done\n"
	"  --format FORMAT    of FILE: qcow2 (default), raw, vmdk, vhd, vhdx\n"
	"  --kernel FILE      boot this kernel directly instead of what the disk has\n"
	"  --initrd FILE      with this initial ramdisk\n"
	"  --cmdline TEXT     and this command line\n"
	"  --region REGION    only there (default: every region of this cloud)\n"
	"  --public           every account may launch it\n"
	"  --root-device DEV  /dev/xvda unless given\n"
	"  --description TEXT\n\n"
	"Prints the AMI's id, with several regions one \"REGION ID\" a line.\n",
	run_image};
