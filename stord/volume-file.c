/* A volume's file: made once, in the background or by who needs it first. */
#include "stord.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "fiber.h"
#include "files.h"
#include "hold.h"
#include "log.h"
#include "qcow2.h"

struct making {
	char path[FILE_PATH_MAX];
	char backing_path[FILE_PATH_MAX]; /* "": none */
	char backing_format[8];
	uint64_t bytes;
	int is_synced;
};

/* On a worker. */
static int make_file(void *arg)
{
	const struct making *m = arg;
	char beside[FILE_PATH_MAX + 4];

	snprintf(beside, sizeof beside, "%s.new", m->path);
	/* For the group too: libvirt gives the file to QEMU's user and group while a guest has it,
	 * and it stays ours by group. */
	OWN(fd_close)
	int fd = open(beside, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0660);
	int r = fd < 0 ? -errno : 0;

	if (r == 0)
		r = qcow2_write_empty(fd, m->bytes, m->backing_path[0] ? m->backing_path : NULL,
				      m->backing_format);
	if (r == 0 && m->is_synced && fsync(fd) < 0)
		r = -errno;
	if (r == 0)
		r = file_place(beside, m->path, m->is_synced);
	if (r < 0)
		(void)file_remove(beside, 0); /* a leftover goes at the next start */
	return r;
}

int volume_prepare(struct daemon *d, const char *volume_id)
{
	const struct doc *doc = store_find(d->store, "volume", volume_id);
	struct making m = {.is_synced = files_are_synced(d)};
	char name[FILE_NAME_MAX];

	if (!doc)
		return -ENOENT;
	file_volume_name(jstr_or(doc->json, "AvailabilityZone", ""), volume_id, name);
	file_path(d, name, m.path);
	if (file_exists(m.path))
		return 0;
	if (jbool(doc->json, "_Ready", 0))
		return -ENODATA;
	m.bytes = (uint64_t)jint(doc->json, "Size", 0) * GIB;
	if (jstr(doc->json, "_Backing"))
		file_path(d, jstr(doc->json, "_Backing"), m.backing_path);
	snprintf(m.backing_format, sizeof m.backing_format, "%s",
		 jstr_or(doc->json, "_BackingFormat", ""));
	return fiber_work(make_file, &m);
}

struct later {
	struct daemon *daemon;
	char id[ID_MAX];
};

/* The volume that was being created is available now, or in error. */
static void creation_ends(struct daemon *d, const char *id, int error)
{
	const struct doc *doc = store_find(d->store, "volume", id);

	if (!doc)
		return; /* deleted meanwhile, or its creation never became durable */
	if (error < 0)
		log_error(error, "cannot make a volume's file", "VOLUME_ID", id);
	if (strcmp(jstr_or(doc->json, "State", ""), "creating") != 0)
		return;
	OWN(txn_free) struct txn *t = txn_new(d->store);
	OWN(json_decref) json_t *json = doc_edit(doc);
	int r = t && json ? jset(json, "State", error < 0 ? "error" : "available") : -ENOMEM;

	if (r == 0 && error == 0)
		r = jset_new(json, "_Ready", json_true());
	if (r == 0)
		r = txn_replace(t, doc, give(json));
	if (r == 0)
		r = txn_commit(t);
	if (r < 0)
		log_warning(r, "a volume stays in creation", "VOLUME_ID", id);
}

static void make_later(void *arg)
{
	OWN(free) struct later *l = arg;

	/* The document is committed after its handler has returned: let it. */
	(void)fiber_sleep(0);
	OWN(hold_leave) struct hold *h = hold_enter(l->id);
	int r = h ? volume_prepare(l->daemon, l->id) : -ENOMEM;

	creation_ends(l->daemon, l->id, r);
}

int volume_prepare_later(struct daemon *d, const char *volume_id)
{
	OWN(free) struct later *l = calloc(1, sizeof *l);

	if (!l)
		return -ENOMEM;
	l->daemon = d;
	snprintf(l->id, sizeof l->id, "%s", volume_id);
	int r = fiber_spawn(make_later, l);

	if (r == 0)
		(void)give(l);
	return r;
}

/* Some other volume, or the snapshot itself, stands on this file. */
static int backing_is_needed(struct store *s, const struct doc *volume, const char *backing)
{
	char id[ID_MAX];
	const char *base = strrchr(backing, '/');

	snprintf(id, sizeof id, "%.*s", (int)strcspn(base ? base + 1 : backing, "."),
		 base ? base + 1 : backing);
	if (store_find(s, "snapshot", id))
		return 1;
	store_each (s, "volume", other)
		if (other != volume && strcmp(jstr_or(other->json, "_Backing", ""), backing) == 0)
			return 1;
	return 0;
}

int volume_mark_files(struct txn *t, const struct doc *volume)
{
	const char *backing = jstr(volume->json, "_Backing");
	char name[FILE_NAME_MAX];

	file_volume_name(jstr_or(volume->json, "AvailabilityZone", ""), volume->id, name);
	int r = unlink_mark(t, name);

	if (r == 0 && backing && !backing_is_needed(txn_store(t), volume, backing))
		r = unlink_mark(t, backing);
	return r;
}
