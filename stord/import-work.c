/* An import task's work: one at a time in the background, and what becomes of the documents. */
#include "stord.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <openssl/crypto.h>
#include "again.h"
#include "chain.h"
#include "encryption.h"
#include "fiber.h"
#include "files.h"
#include "import.h"
#include "layer.h"
#include "log.h"
#include "volume-key.h"

#define KIND "import-snapshot-task"

struct work {
	struct daemon *daemon;
	int fd;
	char task_id[ID_MAX];
};

/* Copying and converting would take all workers and the whole disk, if many did it at once. */
static struct fiber_lock one_at_a_time;

/* Whether what is imported is encrypted, and by which of the customer's keys. */
static struct encryption encryption_of(const json_t *task)
{
	const json_t *detail = json_object_get(task, "SnapshotTaskDetail");
	struct encryption e = {.is_on = jbool(detail, "Encrypted", 0)};

	snprintf(e.key, sizeof e.key, "%s", jstr_or(detail, "KmsKeyId", ""));
	return e;
}

static json_t *snapshot_new(const struct doc *task, const struct import *i, const char *layer)
{
	struct encryption e = encryption_of(task->json);
	char data_key[ID_MAX + 8];

	encryption_data_key(jstr_or(task->json, "_SnapshotId", ""), data_key);
	const char *description = jstr_or(task->json, "Description", "");
	char text[128];

	snprintf(text, sizeof text, "Created by AWS-VMImport service for %.64s", task->id);
	/* AWS shows this volume id for what was never a volume. */
	OWN(json_decref)
	json_t *snapshot = json_pack(
		"{s:s, s:s, s:b, s:s, s:o, s:s, s:I, s:s, s:[], s:s, s:I, s:[], s:s*, s:s*}",
		"SnapshotId", jstr(task->json, "_SnapshotId"), "Description",
		*description ? description : text, "Encrypted", e.is_on, "OwnerId", task->account,
		"StartTime", jtime_now(), "VolumeId", "vol-ffffffff", "VolumeSize",
		(json_int_t)((i->bytes + GIB - 1) / GIB), "StorageTier", "standard", "Tags",
		"_Layer", layer, "_Bytes", (json_int_t)i->bytes, "_Images", "KmsKeyId",
		e.is_on ? e.key : NULL, "DataEncryptionKeyId", e.is_on ? data_key : NULL);

	return snapshot && snapshot_set_completed(snapshot) == 0 ? give(snapshot) : NULL;
}

/* A changed copy of the task: done (error 0) or failed with this message. NULL out of memory. */
static json_t *task_ended(const struct doc *task, const char *message)
{
	OWN(json_decref) json_t *json = doc_edit(task);
	json_t *detail = json_object_get(json, "SnapshotTaskDetail");
	int r = detail ? 0 : -ENOMEM;

	if (r == 0)
		r = jset(detail, "Status", message ? "error" : "completed");
	if (r == 0)
		r = jset(detail, "StatusMessage", message);
	if (r == 0)
		r = jset(detail, "Progress", NULL);
	if (r == 0 && !message)
		r = jset(detail, "SnapshotId", jstr(task->json, "_SnapshotId"));
	return r == 0 ? give(json) : NULL;
}

static int is_active(const struct doc *task)
{
	return strcmp(jstr_or(json_object_get(task->json, "SnapshotTaskDetail"), "Status", ""),
		      "active") == 0;
}

/* (fiber) Done with `made`, or failed (NULL) with this message. */
static int record_end(struct daemon *d, const char *task_id, const struct import *made,
		      const char *message)
{
	const struct doc *task = store_find(d->store, KIND, task_id);
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = !t ? -ENOMEM : !task || !is_active(task) ? -ECANCELED : 0;

	if (r == 0)
		r = txn_replace(t, task, task_ended(task, message));
	if (r == 0 && made) {
		char name[FILE_NAME_MAX];

		int is_encrypted = encryption_of(task->json).is_on;
		const char *format = is_encrypted ? "qcow2" : import_layer_format(made->format);

		file_snapshot_name(jstr_or(task->json, "_SnapshotId", ""), format, name);
		r = layer_put(t, name, format, (int64_t)made->bytes, NULL);
		if (r == 0 && is_encrypted)
			r = layer_set_key(t, name, jstr(task->json, "_SnapshotId"));
		if (r == 0)
			r = txn_put(t, "snapshot", jstr(task->json, "_SnapshotId"), task->account,
				    task->region, snapshot_new(task, made, name));
	}
	if (r == 0 && !made && encryption_of(task->json).is_on)
		r = layer_release_key(t, jstr_or(task->json, "_SnapshotId", ""));
	if (r == 0)
		r = txn_commit(t);
	if (r == 0 && !made)
		unlink_marked(d);
	return r;
}

/* What the customer is shown on the way. */
struct telling {
	struct daemon *daemon;
	const char *task_id;
};

static void told(void *userdata, unsigned percent, const char *word)
{
	const struct telling *w = userdata;
	const struct doc *task = store_find(w->daemon->store, KIND, w->task_id);
	OWN(txn_free) struct txn *t = txn_new(w->daemon->store);
	OWN(json_decref) json_t *json = task && is_active(task) ? doc_edit(task) : NULL;
	json_t *detail = json_object_get(json, "SnapshotTaskDetail");

	/* A step that is not shown is no reason to fail. */
	if (t && detail && jset_new(detail, "Progress", json_sprintf("%u", percent)) == 0 &&
	    jset(detail, "StatusMessage", word) == 0 && txn_replace(t, task, give(json)) == 0)
		(void)txn_commit(t);
}

struct opening {
	const char *path;
	int fd;
};

static int open_work(void *arg)
{
	struct opening *o = arg;

	o->fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return o->fd < 0 ? -errno : 0;
}

/* (fiber) What was imported to `plain`, as an encrypted layer at `path`. */
static int encrypt(struct daemon *d, const char *plain, const char *path, const char *owner,
		   struct import *i)
{
	OWN(chain_free) struct chain *chain = NULL;
	struct opening o = {.path = plain};
	char key[VOLUME_KEY_BYTES];
	int r = volume_key_get(d, owner, 1, key);

	if (r == 0)
		r = fiber_work(open_work, &o);
	if (r == 0) {
		r = chain_of_file(o.fd, import_layer_format(i->format), &chain);
		if (r < 0)
			close(o.fd);
	}
	i->bytes = (i->bytes + 511) / 512 * 512; /* a raw file has any length */
	if (r == 0)
		r = layer_copy_chain(d, chain, path, i->bytes, key, 0444);
	OPENSSL_cleanse(key, sizeof key);
	return r;
}

/* 0, or -ECANCELED: it was canceled meanwhile. */
static int record_until_kept(struct daemon *d, const char *task_id, const struct import *made,
			     const char *message)
{
	int r;

	for (uint64_t wait = 0; (r = record_end(d, task_id, made, message)) < 0 && r != -ECANCELED;
	     again_wait(&wait))
		log_warning(r, "an import's end is not recorded yet", "TASK_ID", task_id);
	return r;
}

static void run_task(struct daemon *d, const char *task_id, int fd)
{
	const struct doc *task = store_find(d->store, KIND, task_id);
	char name[FILE_NAME_MAX], path[FILE_PATH_MAX], work[FILE_PATH_MAX], plain[FILE_PATH_MAX],
		message[IMPORT_REASON_MAX + 64];
	struct import i = {.final_path = path, .work_path = work, .is_synced = files_are_synced(d)};

	struct telling telling = {d, task_id};

	if (!task || !is_active(task))
		return; /* its creation never became durable, or it was canceled in the queue */
	i.told = told;
	i.userdata = &telling;
	OWN(json_decref)
	json_t *json = json_incref(task->json); /* format and ids are read across waits */

	i.format = jstr_or(json, "_Format", "raw");
	i.max_bytes = (uint64_t)(config_integer(d->config, "Storage", "MaxImportGiB") * GIB);
	int is_encrypted = encryption_of(json).is_on;

	file_snapshot_name(jstr_or(json, "_SnapshotId", ""),
			   is_encrypted ? "qcow2" : import_layer_format(i.format), name);
	file_path(d, name, path);
	snprintf(name, sizeof name, "tmp/%s.plain", task_id);
	file_path(d, name, plain);
	if (is_encrypted)
		i.final_path = plain;
	snprintf(name, sizeof name, "tmp/%s", task_id);
	file_path(d, name, work);
	int r = import_run(&i, fd);

	if (r == 0 && is_encrypted)
		r = encrypt(d, plain, path, jstr_or(json, "_SnapshotId", ""), &i);
	if (is_encrypted)
		(void)file_remove(plain, 0); /* else at the next start */
	if (r < 0 && i.reason[0])
		snprintf(message, sizeof message, "ClientError: Disk validation failed [%s]",
			 i.reason);
	else if (r < 0)
		snprintf(message, sizeof message, "ServerError: %s", strerror(-r));
	if (r < 0)
		log_warning(r, "an import failed", "TASK_ID", task_id, "REASON", message);
	else
		log_info("snapshot imported", "TASK_ID", task_id, "SNAPSHOT_ID",
			 jstr(json, "_SnapshotId"));
	if (record_until_kept(d, task_id, r < 0 ? NULL : &i, r < 0 ? message : NULL) < 0) {
		(void)file_remove(path, 0); /* a leftover goes at the next start */
		if (is_encrypted)
			volume_key_drop(d, jstr_or(json, "_SnapshotId", ""));
		log_info("an import was canceled", "TASK_ID", task_id);
	}
}

static void work_on(void *arg)
{
	OWN(free) struct work *w = arg;
	OWN(fd_close) int fd = w->fd;

	/* The document is committed after its handler has returned: let it. */
	(void)fiber_sleep(0);
	fiber_lock(&one_at_a_time);
	run_task(w->daemon, w->task_id, fd);
	fiber_unlock(&one_at_a_time);
}

int import_start(struct daemon *d, const char *task_id, int fd)
{
	OWN(free) struct work *w = calloc(1, sizeof *w);
	OWN(fd_close) int source = fd;

	if (!w)
		return -ENOMEM;
	w->daemon = d;
	w->fd = source;
	snprintf(w->task_id, sizeof w->task_id, "%s", task_id);
	int r = fiber_spawn(work_on, w);

	if (r == 0) {
		(void)give(w);
		(void)give(source);
	}
	return r;
}

/* An import that an end of the daemon cut short: begun anew where the source can be opened again,
 * failed otherwise. */
int import_resume(struct daemon *d, const struct doc *task)
{
	const char *url = jpath_str(task->json, "SnapshotTaskDetail.Url");
	char task_id[ID_MAX];
	int fd = url ? import_open_url(url, NULL) : -1;

	if (fd >= 0)
		return import_start(d, task->id, fd);
	snprintf(task_id, sizeof task_id, "%s", task->id);
	return record_end(d, task_id, NULL,
			  "ServerError: The import was interrupted by a restart; start it again");
}
