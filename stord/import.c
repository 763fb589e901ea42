/* ImportSnapshot: tasks, as customers see them. */
#include "stord.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "describe.h"
#include "encryption.h"
#include "fiber.h"
#include "foreign.h"
#include "import.h"
#include "log.h"

#define KIND "import-snapshot-task"

int import_open_url(const char *url, struct fault *f)
{
	static const char scheme[] = "file://";
	const char *path = url + strlen(scheme);

	if (strncasecmp(url, scheme, strlen(scheme)) != 0 || *path != '/')
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The URL '%.200s' is not file:///path", url);
	/* NONBLOCK: a FIFO must not hold us up; what is not a regular file is refused afterwards.
	 */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "Cannot open '%.200s': %s",
				  path, strerror(errno))
		      : fd;
}

/* The file to import: a descriptor that came with the call, or one that root names. */
static int source_get(struct call *c, const json_t *container, struct fault *f)
{
	const char *url = jstr(container, "Url");
	int fd = fds_take(c->in, 0);

	if (fd >= 0)
		return fd;
	if (json_object_get(container, "UserBucket") || (url && strncasecmp(url, "s3:", 3) == 0))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Importing from a bucket is not supported here.");
	if (!url)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter DiskContainer.Url");
	/* The front door may run as root too, but then it speaks for a customer. */
	if (c->uid != 0 || c->ctx->principal[0])
		return fault_set(
			f, FAULT_UNAUTHORIZED_OPERATION,
			"Files of this machine can be imported by its administrator only.");
	return import_open_url(url, f);
}

static const char *format_parse(const json_t *container)
{
	return foreign_format(jstr_or(container, "Format", ""));
}

/* As the customer sees it. */
static const char *format_word(const char *format)
{
	return strcmp(format, "vpc") == 0     ? "VHD"
	       : strcmp(format, "vhdx") == 0  ? "VHDX"
	       : strcmp(format, "vmdk") == 0  ? "VMDK"
	       : strcmp(format, "qcow2") == 0 ? "QCOW2"
					      : "RAW";
}

static int parameters_check(const struct call *c, const json_t *parameters, struct fault *f)
{
	const json_t *container = json_object_get(parameters, "DiskContainer");
	size_t n_active = 0;

	if (!container)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter DiskContainer");
	int r = text_limit(parameters, "Description", LIMIT_DESCRIPTION, f);

	if (r == 0)
		r = text_limit(container, "Description", LIMIT_DESCRIPTION, f);
	if (r < 0)
		return r;
	if (!jstr(container, "Format"))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter DiskContainer.Format");
	if (!format_parse(container))
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"The format '%.32s' is not supported: RAW, QCOW2, VMDK, VHD or VHDX",
			jstr(container, "Format"));
	if (snapshot_count(c) >= LIMIT_SNAPSHOTS)
		return fault_set(f, FAULT_SNAPSHOT_LIMIT_EXCEEDED,
				 "You have reached the limit of %d snapshots.", LIMIT_SNAPSHOTS);
	store_each (c->store, KIND, d)
		n_active += is_callers(c, d) &&
			    strcmp(jstr_or(json_object_get(d->json, "SnapshotTaskDetail"), "Status",
					   ""),
				   "active") == 0;
	if (n_active >= LIMIT_IMPORTS_UNDER_WAY)
		return fault_set(f, FAULT_RESOURCE_LIMIT_EXCEEDED,
				 "There are %zu imports under way already.", n_active);
	return 0;
}

struct early {
	struct import import;
	int fd;
};

static int check_early(void *arg)
{
	struct early *e = arg;

	return import_check(&e->import, e->fd);
}

/* What the header tells is told at once, before there is a task. */
static int source_check(const struct call *c, const json_t *container, int fd, struct fault *f)
{
	struct early e = {.import = {.format = format_parse(container)}, .fd = fd};

	e.import.max_bytes =
		(uint64_t)(config_integer(c->daemon->config, "Storage", "MaxImportGiB") * GIB);
	int r = fiber_work(check_early, &e);

	if (r < 0 && e.import.reason[0])
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "Disk validation failed: %s",
				 e.import.reason);
	return r;
}

static json_t *task_new(const json_t *parameters, const char *task_id, const char *snapshot_id,
			int64_t bytes, const struct encryption *e, json_t *tags)
{
	const json_t *container = json_object_get(parameters, "DiskContainer");
	const char *format = format_parse(container);
	OWN(json_decref)
	json_t *detail =
		json_pack("{s:f, s:s, s:s, s:s, s:s, s:s*, s:s*, s:b, s:s*}", "DiskImageSize",
			  (double)bytes, "Format", format_word(format), "Progress", "3", "Status",
			  "active", "StatusMessage", "pending", "Url", jstr(container, "Url"),
			  "Description", jstr(container, "Description"), "Encrypted", e->is_on,
			  "KmsKeyId", e->is_on ? e->key : NULL);
	OWN(json_decref)
	json_t *task =
		json_pack("{s:s, s:s, s:O, s:O, s:s, s:s}", "ImportTaskId", task_id, "Description",
			  jstr_or(parameters, "Description", ""), "SnapshotTaskDetail", detail,
			  "Tags", tags, "_SnapshotId", snapshot_id, "_Format", format);

	return give(task);
}

/* Ended tasks are kept for a while, not for ever: the oldest go when there are many. */
static void forget_old(struct call *c)
{
	size_t n = count_of_caller(c, KIND);

	store_each (c->store, KIND, d) {
		if (!is_callers(c, d))
			continue;
		if (n-- <= LIMIT_TASKS_KEPT)
			break;
		if (strcmp(jstr_or(json_object_get(d->json, "SnapshotTaskDetail"), "Status", ""),
			   "active") != 0)
			(void)txn_delete(c->txn, KIND,
					 d->id); /* left over: the next one tries again */
	}
}

int import_snapshot(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const taggable[] = {KIND, NULL};
	const json_t *container = json_object_get(parameters, "DiskContainer");
	OWN(json_decref) json_t *tags = NULL, *task = NULL;
	char task_id[ID_MAX], snapshot_id[ID_MAX];
	OWN(fd_close) int fd = -1;
	struct stat st = {0};
	struct encryption_ask ask = encryption_asked(parameters, "KmsKeyId");
	struct encryption encryption = {0};
	int r = parameters_check(c, parameters, f);

	if (r == 0)
		r = encryption_choose(c, &ask, NULL, &encryption, f);
	if (r == 0)
		r = tags_from_specifications(parameters, KIND, taggable, &tags, f);
	if (r < 0)
		return r;
	fd = source_get(c, container, f);
	if (fd < 0)
		return fd;
	r = source_check(c, container, fd, f);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	forget_old(c);
	id_new("import-snap", task_id);
	id_new("snap", snapshot_id);
	task = task_new(parameters, task_id, snapshot_id, st.st_size, &encryption, tags);
	if (!task)
		return -ENOMEM;
	r = txn_put(c->txn, KIND, task_id, c->ctx->account, c->ctx->region, json_incref(task));
	if (r == 0)
		r = import_start(c->daemon, task_id, give(fd));
	if (r < 0)
		return r;
	log_info("import of a snapshot begun", "TASK_ID", task_id, "SNAPSHOT_ID", snapshot_id,
		 "REQUEST_ID", c->ctx->request);
	*ret_reply = give(task);
	return 0;
}

int import_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct filter filters[] = {
		{"task-state", "SnapshotTaskDetail.Status"}, FILTER_TAGS, {NULL}};
	static const struct describe tasks = {.kind = KIND,
					      .result = "ImportSnapshotTasks",
					      .ids = "ImportTaskIds",
					      .prefix = "import-snap",
					      .malformed =
						      FAULT_INVALID_CONVERSION_TASK_ID_MALFORMED,
					      .not_found = FAULT_INVALID_CONVERSION_TASK_ID,
					      .filters = filters};

	return describe_run(c, &tasks, parameters, ret_reply, f);
}

/* What is under way goes on and finds that nobody wants it; nothing of it stays. */
int import_cancel(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr_or(parameters, "ImportTaskId", "");
	const struct doc *task = store_get(c->store, c->ctx, KIND, id);
	const char *status;

	if (!id_is(id, "import-snap"))
		return fault_set(f, FAULT_INVALID_CONVERSION_TASK_ID_MALFORMED,
				 "Invalid id: \"%.64s\" (expecting \"import-snap-...\")", id);
	if (!task)
		return fault_set(f, FAULT_INVALID_CONVERSION_TASK_ID,
				 "The import task '%s' does not exist.", id);
	OWN(json_decref) json_t *json = doc_edit(task);
	json_t *detail = json_object_get(json, "SnapshotTaskDetail");

	status = jstr_or(json_object_get(task->json, "SnapshotTaskDetail"), "Status", "");
	if (strcmp(status, "active") != 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "The import task '%s' is %s.", id,
				 status);
	int r = detail ? jset(detail, "Status", "deleted") : -ENOMEM;

	if (r == 0)
		r = jset(detail, "StatusMessage", jstr_or(parameters, "CancelReason", "canceled"));
	if (r == 0)
		r = jset(detail, "Progress", NULL);
	if (r == 0)
		r = txn_replace(c->txn, task, give(json));
	if (r == 0)
		*ret_reply = json_pack("{s:s, s:s, s:s}", "ImportTaskId", id, "PreviousState",
				       "active", "State", "deleted");
	return r;
}
