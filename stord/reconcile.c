/*
 * Files and documents after any end, kill -9 and power loss included.
 *
 * - Temporary files go: tmp/ as a whole, and NAME.new.
 * - Files marked by their owner's last transaction go.
 * - A volume that was never whole (not _Ready) gets its file: made anew, or found made.
 * - A whole volume or a snapshot without its file is an error for a person; it is shown as such,
 * never made anew empty.
 * - Imports under way begin again or fail.
 * - A file that no document names, and that is not marked, is left and said: it may be all that is
 * left after somebody put an old or empty state.db in place, and then deleting would destroy the
 * data.
 */
#include "stord.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "copy.h"
#include "direct.h"
#include "bin.h"
#include "files.h"
#include "layer.h"
#include "log.h"
#include "merge.h"
#include "switch.h"
#include "zones.h"

static int ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), k = strlen(end);

	return n >= k && strcmp(text + n - k, end) == 0;
}

typedef void (*visit)(struct daemon *d, const char *directory, const char *file);

/* Calls `what` for each file of a directory; an absent one has none. */
static int each_file(struct daemon *d, const char *directory, visit what)
{
	char path[FILE_PATH_MAX];

	file_path(d, directory, path);
	OWN(closedir) DIR *dir = opendir(path);

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	for (struct dirent *e; errno = 0, (e = readdir(dir));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			what(d, directory, e->d_name);
	return -errno; /* 0 at the end */
}

static void path_in(const struct daemon *d, const char *directory, const char *file,
		    char ret_path[static FILE_PATH_MAX])
{
	char name[FILE_NAME_MAX];

	snprintf(name, sizeof name, "%.63s/%.63s", directory, file);
	file_path(d, name, ret_path);
}

static void sweep(struct daemon *d, const char *directory, const char *file)
{
	char path[FILE_PATH_MAX];

	path_in(d, directory, file, path);
	int r = file_remove(path, 0);

	if (r < 0)
		log_warning(r, "cannot delete a temporary file", "FILE", path);
}

/* An import placed its file, and its snapshot did not become durable: it begins again. */
static int is_half_imported(const struct daemon *d, const char *file)
{
	char id[ID_MAX];

	snprintf(id, sizeof id, "%.*s", (int)strcspn(file, "."), file);
	store_each (d->store, "import-snapshot-task", t)
		if (strcmp(jstr_or(t->json, "_SnapshotId", ""), id) == 0)
			return 1;
	return 0;
}

static void look_at_layer_file(struct daemon *d, const char *directory, const char *file)
{
	char name[FILE_NAME_MAX], path[FILE_PATH_MAX];

	snprintf(name, sizeof name, "%.63s/%.63s", directory, file);
	path_in(d, directory, file, path);
	if (layer_find(d->store, name))
		return;
	if (ends_with(file, ".new") || is_half_imported(d, file))
		sweep(d, directory, file);
	else
		log_warning(0, "a file belongs to no volume and no snapshot; it is left alone",
			    "FILE", path);
}

static int mark_lost(struct txn *t, const struct doc *doc, const char *path)
{
	json_t *json = doc_edit(doc);

	log_error(-ENOENT, "a file is lost", "ID", doc->id, "FILE", path);
	if (strcmp(jstr_or(doc->json, "State", ""), "error") == 0) {
		json_decref(json);
		return 0;
	}
	if (json && jset(json, "State", "error") < 0) {
		json_decref(json);
		return -ENOMEM;
	}
	return txn_replace(t, doc, json);
}

/* All layers from this one down have their files. The path of the first that has not otherwise. */
static int chain_is_there(struct daemon *d, const char *name, char ret_path[static FILE_PATH_MAX])
{
	for (unsigned n = 0; name && n < LAYERS_FOLLOWED; n++) {
		const struct doc *layer = layer_find(d->store, name);

		file_path(d, name, ret_path);
		if (!layer || !file_exists(ret_path))
			return 0;
		name = jstr(layer->json, "Backing");
	}
	return 1;
}

/* Documents whose files are not there. Attached volumes keep their state: their instance would not
 * start, and says why. */
static int find_lost(struct daemon *d, struct txn *t)
{
	char path[FILE_PATH_MAX];
	int r = 0;

	for (const char *const *kind = layer_snapshot_kinds; *kind; kind++)
		store_each (d->store, *kind, s)
			/* A copy's file is made when it begins; what failed has none. What this
			 * transaction takes back is not to come back as lost. */
			if (r == 0 && jstr(s->json, "_Layer") && txn_look(t, s->kind, s->id) &&
			    !json_object_get(s->json, "_Copy") &&
			    !chain_is_there(d, jstr(s->json, "_Layer"), path))
				r = mark_lost(t, s, path);
	for (const char *const *kind = layer_volume_kinds; *kind; kind++)
		store_each (d->store, *kind, v) {
			if (r < 0 || !jbool(v->json, "_Ready", 0) ||
			    chain_is_there(d, jstr_or(v->json, "_Layer", ""), path))
				continue;
			if (json_array_size(json_object_get(v->json, "Attachments")) > 0)
				log_error(-ENOENT, "an attached volume's file is lost", "VOLUME_ID",
					  v->id, "FILE", path);
			else
				r = mark_lost(t, v, path);
		}
	return r;
}

static void finish_volumes(struct daemon *d)
{
	store_each (d->store, "volume", v) {
		if (jbool(v->json, "_Ready", 0) ||
		    strcmp(jstr_or(v->json, "State", ""), "error") == 0)
			continue;
		int r = volume_prepare_later(d, v->id);

		if (r < 0)
			log_warning(r, "cannot make a volume's file", "VOLUME_ID", v->id);
	}
}

/* Snapshots of several volumes whose switch was cut off: nobody was answered, and finished one by one
 * they would not be of one instant. They go; their volumes go on in their next layers. */
static int take_back_sets(struct txn *t)
{
	int r = 0;

	store_each (txn_store(t), "snapshot", s)
		if (r == 0 && jbool(s->json, "_Switching", 0) && jbool(s->json, "_Together", 0)) {
			log_info("a snapshot of several volumes was cut off: taken back",
				 "SNAPSHOT_ID", s->id);
			r = txn_delete(t, "snapshot", s->id);
		}
	return r;
}

/* Snapshots that an end of the daemon cut short. */
static void finish_switches(struct daemon *d)
{
	store_each (d->store, "volume", v)
		if (jstr(v->json, "_NextLayer"))
			switch_settle_later(d, v->id);
}

/* Ids first: resuming commits, and the set must not change while it is walked. */
static void resume_imports(struct daemon *d)
{
	OWN(json_decref) json_t *ids = json_array();
	size_t i;
	json_t *id;

	store_each (d->store, "import-snapshot-task", t)
		if (strcmp(jstr_or(json_object_get(t->json, "SnapshotTaskDetail"), "Status", ""),
			   "active") == 0)
			(void)json_array_append_new(
				ids, json_string(t->id)); /* left out: at the next start */
	json_array_foreach (ids, i, id) {
		int r = import_resume(
			d, store_find(d->store, "import-snapshot-task", json_string_value(id)));

		if (r < 0)
			log_warning(r, "cannot resume an import", "TASK_ID", json_string_value(id));
	}
}

/* Zones that the configuration no longer has may still hold volumes. */
static void look_at_zone(struct daemon *d, const char *directory, const char *zone)
{
	char name[FILE_NAME_MAX];

	snprintf(name, sizeof name, "%.16s/%.40s/volumes", directory, zone);
	int r = each_file(d, name, look_at_layer_file);

	if (r < 0)
		log_warning(r, "cannot read a zone's directory", "ZONE", zone);
}

int stord_reconcile(struct daemon *d)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = t ? files_open(d) : -ENOMEM;

	if (r == 0)
		r = stord_upgrade(d);
	if (r == 0)
		r = each_file(d, "tmp", sweep);
	if (r < 0)
		return r;
	unlink_marked(d);
	r = direct_resume(d);
	if (r == 0)
		r = each_file(d, "zones", look_at_zone);
	if (r == 0)
		r = each_file(d, "snapshots", look_at_layer_file);
	if (r == 0)
		r = take_back_sets(t);
	if (r == 0)
		r = find_lost(d, t);
	if (r == 0)
		r = txn_commit(t);
	if (r < 0)
		return r;
	finish_volumes(d);
	volume_modify_resume(d);
	finish_switches(d);
	merge_kick(d);
	bin_start(d);
	resume_imports(d);
	r = copy_resume(d);
	return r < 0 ? r : snapshot_size_start(d);
}
