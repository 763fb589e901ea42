/* From a stranger's file to an immutable one. */
#include "import.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "confine.h"
#include "fiber.h"
#include "files.h"
#include "foreign.h"
#include "log.h"
#include "own.h"
#include "qcow2.h"
#include "run.h"
#include "step.h"

/* A qcow2 file may be larger than what it holds, by its tables, leaks and internal snapshots: by so
 * much here. */
#define FILE_SLACK (UINT64_C(1) << 30)

static int refuse(struct import *i, const char *text)
{
	snprintf(i->reason, sizeof i->reason, "%s", text);
	return -EINVAL;
}

const char *import_layer_format(const char *format)
{
	return strcmp(format, "raw") == 0 ? "raw" : "qcow2";
}

static void tell(const struct import *i, unsigned percent, const char *word)
{
	if (i->told)
		i->told(i->userdata, percent, word);
}

/* What a stranger's file is not, whatever he calls it. */
static int is_disguised(int fd)
{
	static const char *const magics[] = {"KDMV", "COWD", "conectix", "vhdxfile"};
	char magic[8] = "";

	if (qcow2_is(fd) || pread(fd, magic, sizeof magic, 0) < 0)
		return 1;
	for (size_t k = 0; k < sizeof magics / sizeof *magics; k++)
		if (memcmp(magic, magics[k], strlen(magics[k])) == 0)
			return 1;
	return 0;
}

int import_check(struct import *i, int fd)
{
	int is_raw = strcmp(i->format, "raw") == 0;
	struct stat st;

	i->reason[0] = '\0';
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return refuse(i, "it is not a regular file");
	if (st.st_size == 0)
		return refuse(i, "the file is empty");
	if ((uint64_t)st.st_size > i->max_bytes + (is_raw ? 0 : FILE_SLACK))
		return refuse(i, "the file is larger than the limit for imports");
	if (strcmp(i->format, "qcow2") == 0)
		return qcow2_check_header(fd, i->max_bytes, &i->bytes, i->reason);
	if (!is_raw)
		return foreign_check(fd, i->format, i->max_bytes, i->reason);
	if (is_disguised(fd))
		return refuse(i, "it is an image of another format, not a raw one");
	i->bytes = (uint64_t)st.st_size;
	return 0;
}

/* What the worker's part needs. */
struct step {
	struct import *import;
	int source;
	char copy[FILE_PATH_MAX], made[FILE_PATH_MAX];
};

static int create(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? -errno : fd;
}

/* The confined child is nobody, if we are root. */
static int hand_over(int fd)
{
	if (geteuid() != 0 || fchown(fd, CONFINED_UID, CONFINED_UID) == 0)
		return 0;
	return errno == EINVAL || errno == EPERM ? 0 : -errno; /* no such user in this container */
}

/* On a worker: our own copy, checked again, for the source may have changed. */
static int copy_source(void *arg)
{
	struct step *s = arg;
	step("our own copy");
	OWN(fd_close) int fd = create(s->copy);
	struct stat st;
	int r = fd < 0 ? fd : import_check(s->import, s->source);

	if (r == 0 && fstat(s->source, &st) < 0)
		r = -errno;
	if (r == 0)
		r = file_copy(s->source, fd, st.st_size);
	if (r == 0)
		r = import_check(s->import, fd);
	return r == 0 ? hand_over(fd) : r;
}

/* On a worker: an empty image of the right size, for qemu-img to fill. */
static int make_target(void *arg)
{
	struct step *s = arg;
	OWN(fd_close) int fd = create(s->made);
	int r = fd < 0 ? fd : 0;

	if (r == 0)
		r = qcow2_write_empty(fd, s->import->bytes, NULL, NULL);
	return r == 0 ? hand_over(fd) : r;
}

/* On a worker: ours again, never to change, durable, in its place. */
static int finish(void *arg)
{
	struct step *s = arg;
	OWN(fd_close) int fd = open(s->made, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || (geteuid() == 0 && fchown(fd, 0, 0) < 0) || fchmod(fd, 0444) < 0)
		return -errno;
	step("a file's flush");
	if (s->import->is_synced && fsync(fd) < 0)
		return -errno;
	return file_place(s->made, s->import->final_path, s->import->is_synced);
}

static int clean_up(void *arg)
{
	const struct step *s = arg;

	(void)file_remove(s->copy, 0); /* what stays is swept at the next start */
	(void)file_remove(s->made, 0);
	return 0;
}

/* qemu-img's exit statuses: 0 well, 2 corrupt, 3 leaked clusters only; anything else it could not
 * do. */
static int check_contents(struct step *s)
{
	const char *const arguments[] = {"check", "-q", "-f", "qcow2", s->copy, NULL};
	OWN(run_result_clear) struct run_result result = {0};
	int r = confine_qemu_img(s->copy, "-", 0, arguments, &result);

	if (r < 0)
		return r;
	if (result.status == 0 || result.status == 3)
		return 0;
	log_warning(0, "an image was refused", "QEMU_IMG", result.err, "FILE", s->copy);
	return refuse(s->import,
		      "the image's tables contradict one another or point outside of the file");
}

/* How large the disk is to QEMU, for what it will write: other formats have several answers (a
 * VHD's geometry). */
static int find_size(struct step *s)
{
	const char *const arguments[] = {"info", "--output=json", "-f", s->import->format, s->copy,
					 NULL};
	OWN(run_result_clear) struct run_result result = {0};
	int r = confine_qemu_img(s->copy, "-", 0, arguments, &result);
	OWN(json_decref)
	json_t *info = r == 0 && result.status == 0
			       ? json_loads(result.out, JSON_REJECT_DUPLICATES, NULL)
			       : NULL;
	json_int_t bytes = json_integer_value(json_object_get(info, "virtual-size"));

	if (r < 0)
		return r;
	if (bytes <= 0) {
		log_warning(0, "an image was refused", "QEMU_IMG", result.err, "FILE", s->copy);
		return refuse(s->import, "the image's header cannot be read");
	}
	if (json_object_get(info, "backing-filename"))
		return refuse(s->import, "the image needs another file");
	if ((uint64_t)bytes > s->import->max_bytes)
		return refuse(s->import, "the disk is larger than the limit for imports");
	s->import->bytes = ((uint64_t)bytes + 511) / 512 * 512;
	return 0;
}

static int convert_contents(struct step *s)
{
	const char *const arguments[] = {"convert", "-q",
					 "-n",	    "--target-is-zero",
					 "-f",	    s->import->format,
					 "-O",	    "qcow2",
					 s->copy,   s->made,
					 NULL};
	OWN(run_result_clear) struct run_result result = {0};
	int r = confine_qemu_img(s->copy, s->made, s->import->bytes + FILE_SLACK, arguments,
				 &result);

	if (r < 0)
		return r;
	if (result.status == 0)
		return 0;
	log_warning(0, "an image cannot be read", "QEMU_IMG", result.err, "FILE", s->copy);
	return strstr(result.err, "No space left")
		       ? -ENOSPC
		       : refuse(s->import, "the image's contents cannot be read");
}

static int run_steps(struct step *s)
{
	int is_qcow2 = strcmp(s->import->format, "qcow2") == 0;

	tell(s->import, 5, "copying");
	int r = fiber_work(copy_source, s);

	if (r < 0)
		return r;
	if (strcmp(s->import->format, "raw") == 0) {
		snprintf(s->made, sizeof s->made, "%s", s->copy);
		return fiber_work(finish, s);
	}
	tell(s->import, 30, "validating");
	r = is_qcow2 ? check_contents(s) : find_size(s);
	if (r == 0)
		tell(s->import, 40, "validated");
	if (r == 0)
		r = fiber_work(make_target, s);
	if (r == 0)
		tell(s->import, 45, "converting");
	if (r == 0)
		r = convert_contents(s);
	if (r == 0)
		tell(s->import, 95, "updating");
	return r == 0 ? fiber_work(finish, s) : r;
}

int import_run(struct import *i, int fd)
{
	struct step s = {.import = i, .source = fd};

	snprintf(s.copy, sizeof s.copy, "%s.source", i->work_path);
	snprintf(s.made, sizeof s.made, "%s.made", i->work_path);
	i->reason[0] = '\0';
	int r = run_steps(&s);

	(void)fiber_work(clean_up, &s); /* never fails */
	return r;
}
