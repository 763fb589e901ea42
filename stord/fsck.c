/*
 * fsck: documents against files, and files against themselves.
 *
 * A finding is one of
 *	missing		a layer's file or key is not there, or nothing describes the layer that
 *			is named
 *	clear		what is said to be encrypted is not, or the other way round
 *	corrupt		qemu-img check says so
 *	header		the file stands on another than its document says: a merge that was cut off;
 *			put back by itself before the file is opened next
 *	unneeded	a layer that nobody needs
 *	orphan		a file that no document names
 *	leaked		clusters that nobody uses, as a QEMU leaves that was killed: only space
 * What a running guest, a merge, a copy or a customer by blocks writes cannot be judged from
 * outside; it is counted as busy. A merge that is about to begin waits for the file that is being
 * looked at, and has its turn before the next. Repair does what loses nothing: headers, unneeded
 * layers, leaked clusters. Orphans and corrupt files are for a person.
 */
#include "stord.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include "header.h"
#include "hold.h"
#include "layer-tool.h"
#include "layer.h"
#include "leaves.h"
#include "log.h"
#include "merge.h"
#include "switch.h"
#include "utf8.h"
#include "volume-key.h"

struct fsck {
	struct daemon *daemon;
	int is_repair;
	json_t *findings;
	int n_files, n_busy, is_host_away;
};

static int found(struct fsck *k, const char *what, const char *name, const char *text,
		 int is_repaired)
{
	char shown[FILE_NAME_MAX];

	snprintf(shown, sizeof shown, "%s", name);
	utf8_mend(shown); /* somebody's file may have any name */
	return json_array_append_new(k->findings,
				     json_pack("{s:s, s:s, s:s, s:b}", "What", what, "Name", shown,
					       "Text", text, "Repaired", is_repaired)) < 0
		       ? -ENOMEM
		       : 0;
}

/* ---- documents ---- */

/* By blocks or by a copy: it is no image before the last of them. */
static int is_being_written(const struct store *s, const char *name)
{
	store_each (s, "snapshot", d)
		if (strcmp(jstr_or(d->json, "_Layer", ""), name) == 0 &&
		    (json_object_get(d->json, "_Direct") || json_object_get(d->json, "_Copy")))
			return 1;
	return 0;
}

/* Its file may not have been made yet: a new volume's, a next layer. */
static int is_being_made(const struct store *s, const char *name)
{
	store_each (s, "volume", v) {
		const char *layer = jstr_or(v->json, "_Layer", ""),
			   *next = jstr_or(v->json, "_NextLayer", "");

		if (strcmp(next, name) == 0 ||
		    (strcmp(layer, name) == 0 && !jbool(v->json, "_Ready", 0)))
			return 1;
	}
	store_each (s, "snapshot", d)
		if (strcmp(jstr_or(d->json, "_Layer", ""), name) == 0 &&
		    strcmp(jstr_or(d->json, "State", ""), "pending") == 0)
			return 1;
	return 0;
}

/* Keys of nothing, and layers' keys that are not there. */
static int check_keys(struct fsck *k)
{
	const struct store *s = k->daemon->store;
	OWN(json_decref) json_t *known = json_object();
	char path[FILE_PATH_MAX], name[FILE_NAME_MAX];
	int r = known ? 0 : -ENOMEM;

	store_each (s, LAYER_KIND, l) {
		const char *owner = jstr(l->json, "Key");

		if (r < 0 || !owner)
			continue;
		volume_key_name(owner, name);
		r = jset_new(known, name, json_true());
	}
	file_path(k->daemon, "keys", path);
	OWN(closedir) DIR *dir = r == 0 ? opendir(path) : NULL;

	for (struct dirent *e; dir && r == 0 && (e = readdir(dir));) {
		snprintf(name, sizeof name, "keys/%.63s", e->d_name);
		if (e->d_name[0] != '.' && strcmp(e->d_name, "master") != 0 &&
		    !json_object_get(known, name) && !store_find(s, "_unlink", name) &&
		    !strstr(name, ".new"))
			r = found(k, "orphan", name, "it is the key of nothing", 0);
	}
	return r;
}

/* A volume or a snapshot, and its layer. */
static int check_owner(struct fsck *k, const struct doc *d)
{
	const char *name = jstr(d->json, "_Layer");
	const struct doc *layer = layer_find(k->daemon->store, name);

	if (!name)
		return 0;
	if (!layer)
		return found(k, "missing", d->id, "its layer has no document", 0);
	if (jbool(d->json, "Encrypted", 0) == (jstr(layer->json, "Key") != NULL))
		return 0;
	return found(k, "clear", d->id,
		     "it is encrypted and said not to be, or the other way round", 0);
}

static int check_names(struct fsck *k)
{
	static const char *const *const lists[] = {layer_volume_kinds, layer_snapshot_kinds};
	const struct store *s = k->daemon->store;
	int r = 0;

	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		for (const char *const *kind = lists[i]; *kind; kind++)
			store_each (s, *kind, d)
				if (r == 0)
					r = check_owner(k, d);
	store_each (s, LAYER_KIND, l)
		if (r == 0 && jstr(l->json, "Backing") && !layer_find(s, jstr(l->json, "Backing")))
			r = found(k, "missing", l->id, "the layer under it has no document", 0);
	return r;
}

static int check_needed(struct fsck *k, const char *name)
{
	OWN(txn_free) struct txn *t = txn_new(k->daemon->store);
	struct layer_needs needs;
	int r = t ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	/* Merged or deleted while its file was looked at. */
	if (!layer_find(k->daemon->store, name))
		return 0;
	layer_needs(t, name, &needs);
	if (needs.n_volumes || needs.n_snapshots || needs.n_layers ||
	    is_being_made(k->daemon->store, name))
		return 0;
	if (k->is_repair)
		r = layer_release(t, name);
	if (r == 0 && k->is_repair)
		r = txn_commit(t);
	if (r == 0 && k->is_repair)
		unlink_marked(k->daemon);
	return r == 0 ? found(k, "unneeded", name, "nobody needs it", k->is_repair) : r;
}

/* ---- files ---- */

/* *ret_may_open: what it stands on is what the tool may open. */
static int check_header(struct fsck *k, const char *name, int *ret_may_open)
{
	char id[ID_MAX];
	int r = header_agrees(k->daemon, name);

	*ret_may_open = r == 1;
	if (r < 0)
		return found(k, "corrupt", name, "its header cannot be read", 0);
	if (r == 1)
		return 0;
	if (leaves_live(k->daemon->store, name, id) != 0) {
		k->n_busy++; /* its guest's own affair while that runs */
		return 0;
	}
	r = k->is_repair ? header_restore(k->daemon, name) : 0;
	*ret_may_open = k->is_repair && r == 0;
	return found(k, "header", name, "it stands on another file than its document says",
		     *ret_may_open);
}

/* qemu-img check on the layer; an encrypted one needs its key. */
static int run_check(struct fsck *k, const char *name, const char *path, int is_mending,
		     struct run_result *ret_result)
{
	const char *const look[] = {"check", "-q", "-f", "qcow2", path, NULL};
	const char *const mend[] = {"check", "-q", "-r", "leaks", "-f", "qcow2", path, NULL};
	const struct doc *l = layer_find(k->daemon->store, name);
	char key[ID_MAX];

	snprintf(key, sizeof key, "%s", l ? jstr_or(l->json, "Key", "") : "");
	if (key[0])
		return volume_key_check_image(k->daemon, key, path, is_mending, ret_result);
	return layer_tool(k->daemon, name, (unsigned)is_mending, -1, -1, is_mending ? mend : look,
			  ret_result);
}

/* qemu-img check: 0 well, 2 corrupt, 3 leaked; anything else it could not do. */
static int check_contents(struct fsck *k, const char *name)
{
	char path[FILE_PATH_MAX];
	OWN(run_result_clear) struct run_result result = {0}, again = {0};

	file_path(k->daemon, name, path);
	int r = run_check(k, name, path, 0, &result), is_mended = 0;

	if (r == -ENODATA || r == -EBADMSG)
		return found(k, "missing", name, "its key is lost", 0);
	if (r < 0)
		return r;
	if (result.status == 0)
		return 0;
	if (is_being_written(k->daemon->store, name))
		return 0; /* begun meanwhile */
	if (result.status == 2)
		return found(k, "corrupt", name, "its tables contradict one another", 0);
	if (result.status == 3) {
		if (k->is_repair && run_check(k, name, path, 1, &again) == 0)
			is_mended = again.status == 0;
		return found(k, "leaked", name, "it has clusters that nobody uses", is_mended);
	}
	if (strstr(result.err, "lock")) {
		k->n_busy++;
		return 0;
	}
	/* Gone in the meantime, by a merge or a deletion? */
	if (!layer_find(k->daemon->store, name) || !file_exists(path))
		return 0;
	return found(k, "corrupt", name, "it cannot be opened", 0);
}

static int check_file(struct fsck *k, const char *name)
{
	const struct doc *l = layer_find(k->daemon->store, name);
	char path[FILE_PATH_MAX];

	if (!l)
		return 0; /* merged or deleted meanwhile */
	int is_qcow2 = strcmp(jstr_or(l->json, "Format", ""), "qcow2") == 0;

	file_path(k->daemon, name, path);
	if (!file_exists(path))
		return is_being_made(k->daemon->store, name)
			       ? 0
			       : found(k, "missing", name, "the file is not there", 0);
	k->n_files++;
	if (is_being_written(k->daemon->store, name)) {
		k->n_busy++;
		return 0;
	}
	int may_open = 0, r = is_qcow2 ? check_header(k, name, &may_open) : 0;

	return r == 0 && may_open ? check_contents(k, name) : r;
}

/* The volume whose guest writes the layer. */
static const struct doc *writer_of(const struct store *s, const char *name)
{
	store_each (s, "volume", v)
		if (strcmp(jstr_or(v->json, "_Layer", ""), name) == 0 ||
		    strcmp(jstr_or(v->json, "_NextLayer", ""), name) == 0)
			return v;
	return NULL;
}

/* A file that the tool has open cannot be opened for writing, and a guest that was to start would
 * not: so the volume is held, and what hvd was told of its file is asked for anew after that
 * (switch.h). 0, -EBUSY: somebody is at it; -ENOMEM. */
static int hold_writer(struct fsck *k, const char *name, struct hold **ret_hold)
{
	const struct doc *v = writer_of(k->daemon->store, name);
	int r = v ? hold_try(v->id, ret_hold) : 0;

	if (r < 0 || !v || k->is_host_away)
		return r;
	int live = switch_is_live(v);

	/* Without an answer no guest is known to be there, and none can come. One wait for it is
	 * enough. */
	k->is_host_away = live < 0;
	return live == 1 ? -EBUSY : 0;
}

static int check_layer(struct fsck *k, const char *name)
{
	if (!merge_look(k->daemon, name)) {
		k->n_files++;
		k->n_busy++;
		return 0;
	}
	OWN(hold_leave) struct hold *hold = NULL;
	int r = hold_writer(k, name, &hold);

	if (r == 0) {
		r = check_file(k, name);
	} else if (r == -EBUSY) {
		k->n_files++;
		k->n_busy++;
		r = 0;
	}
	merge_looked();
	return r == 0 ? check_needed(k, name) : r;
}

static int is_known(const struct daemon *d, const char *name)
{
	char id[ID_MAX];
	const char *base = strrchr(name, '/');

	if (layer_find(d->store, name) || store_find(d->store, "_unlink", name) ||
	    strstr(name, ".new"))
		return 1;
	base = base ? base + 1 : name;
	snprintf(id, sizeof id, "%.*s", (int)strcspn(base, "."), base);
	store_each (d->store, "import-snapshot-task", t)
		if (strcmp(jstr_or(t->json, "_SnapshotId", ""), id) == 0)
			return 1;
	return store_find(d->store, "snapshot", id) != NULL;
}

/* The directory's files that no document names. */
static int check_directory(struct fsck *k, const char *directory)
{
	char path[FILE_PATH_MAX], name[FILE_NAME_MAX];
	int r = 0;

	file_path(k->daemon, directory, path);
	OWN(closedir) DIR *dir = opendir(path);

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	for (struct dirent *e; r == 0 && (e = readdir(dir));) {
		snprintf(name, sizeof name, "%.63s/%.63s", directory, e->d_name);
		if (e->d_name[0] != '.' && !is_known(k->daemon, name))
			r = found(k, "orphan", name, "no document names it", 0);
	}
	return r;
}

static int check_directories(struct fsck *k)
{
	char path[FILE_PATH_MAX], name[FILE_NAME_MAX];
	int r = check_directory(k, "snapshots");

	file_path(k->daemon, "zones", path);
	OWN(closedir) DIR *dir = opendir(path);

	for (struct dirent *e; dir && r == 0 && (e = readdir(dir));) {
		snprintf(name, sizeof name, "zones/%.40s/volumes", e->d_name);
		if (e->d_name[0] != '.')
			r = check_directory(k, name);
	}
	return r;
}

int stord_fsck(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *findings = json_array(), *names = json_array();
	struct fsck k = {.daemon = c->daemon,
			 .is_repair = jbool(parameters, "Repair", 0),
			 .findings = findings};
	json_t *name;
	size_t i;
	int is_idle = merge_is_idle(), r = check_names(&k);

	(void)f;
	if (r == 0)
		r = check_keys(&k);
	store_each (c->store, LAYER_KIND, l)
		if (r == 0)
			r = json_array_append_new(names, json_string(l->id));
	json_array_foreach (names, i, name)
		if (r == 0)
			r = check_layer(&k, json_string_value(name));
	if (r == 0)
		r = check_directories(&k);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O, s:i, s:i, s:b}", "Findings", findings, "Files", k.n_files,
			       "Busy", k.n_busy, "Idle", is_idle && merge_is_idle());
	return *ret_reply ? 0 : -ENOMEM;
}
