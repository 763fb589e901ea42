/* One merge: by the guest's QEMU or by qemu-img, then the documents. */
#include "merge-work.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "fiber.h"
#include "header.h"
#include "host.h"
#include "layer.h"
#include "log.h"
#include "merge-offline.h"
#include "stord.h"

/* The paths of one merge. */
struct ways {
	char under[FILE_PATH_MAX], over[FILE_PATH_MAX];
	char base[FILE_PATH_MAX]; /* what `over` stands on after a pull, "": nothing */
	char base_name[FILE_NAME_MAX];
	char child[FILE_NAME_MAX]; /* the first that stands on `over`, or that a guest has moved */
};

static void find_ways(const struct daemon *d, const struct merge *m, struct ways *ret_ways)
{
	const struct doc *under = layer_find(d->store, m->under);
	const char *base = m->is_long ? m->under : under ? jstr(under->json, "Backing") : NULL;
	const struct doc *base_layer = layer_find(d->store, base);
	struct ways w = {0};

	file_path(d, m->under, w.under);
	file_path(d, m->over, w.over);
	if (base_layer) {
		file_path(d, base, w.base);
		snprintf(w.base_name, sizeof w.base_name, "%s", base);
	}
	store_each (d->store, LAYER_KIND, l)
		if (!w.child[0] && strcmp(jstr_or(l->json, "Backing", ""), m->over) == 0)
			snprintf(w.child, sizeof w.child, "%s", l->id);
	*ret_ways = w;
}

/* ---- modes ---- */

/* An imported layer is read-only by its mode; what is merged into is written. Where QEMU's user
 * owns it, its mode is that of a volume already. */
static int open_up_work(void *arg)
{
	struct stat st;

	if (stat(arg, &st) < 0)
		return -errno;
	if ((st.st_mode & 0660) != 0660)
		(void)chmod(arg, 0660); /* else the open fails, and says why */
	return 0;
}

/* ---- documents ---- */

/* The snapshots of `over` are `under`'s: their contents are the same now. */
static int move_snapshots(struct txn *t, const char *kind, const struct merge *m)
{
	int r = 0;

	store_each (txn_store(t), kind, s) {
		if (r < 0 || strcmp(jstr_or(s->json, "_Layer", ""), m->over) != 0)
			continue;
		json_t *json = doc_edit(s);

		if (json && jset(json, "_Layer", m->under) < 0) {
			json_decref(json);
			json = NULL;
		}
		r = txn_replace(t, s, json);
	}
	return r;
}

/* The volume that writes `over` goes on in `under`; only without a guest. */
static int move_volume(struct txn *t, const struct merge *m)
{
	int r = 0;

	for (const char *const *kind = layer_volume_kinds; *kind; kind++)
		store_each (txn_store(t), *kind, v) {
			if (r < 0 || strcmp(jstr_or(v->json, "_Layer", ""), m->over) != 0)
				continue;
			json_t *json = doc_edit(v);

			if (json && jset(json, "_Layer", m->under) < 0) {
				json_decref(json);
				json = NULL;
			}
			r = txn_replace(t, v, json);
		}
	return r;
}

static int set_bytes(struct txn *t, const struct doc *under, const struct doc *over)
{
	json_t *json = doc_edit(under);

	if (json && jset_new(json, "Bytes", json_integer(jint(over->json, "Bytes", 0))) < 0) {
		json_decref(json);
		json = NULL;
	}
	return txn_replace(t, under, json);
}

/* After a commit: `children` (names) have been put on `under` in their headers. */
static int commit_documents(struct daemon *d, const struct merge *m, const json_t *children)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	const struct doc *under = layer_find(d->store, m->under),
			 *over = layer_find(d->store, m->over);
	size_t i;
	json_t *child;
	int r = !t ? -ENOMEM : !under || !over ? -ECANCELED : set_bytes(t, under, over);

	json_array_foreach (children, i, child) {
		const struct doc *c = layer_find(d->store, json_string_value(child));

		if (r == 0 && c)
			r = layer_set_backing(t, c, m->under);
	}
	for (const char *const *kind = layer_snapshot_kinds; r == 0 && *kind; kind++)
		r = move_snapshots(t, *kind, m);
	if (r == 0 && !m->instance_id[0])
		r = move_volume(t, m);
	if (r == 0)
		r = layer_release(t, m->over);
	if (r == 0)
		r = txn_commit(t);
	if (r == 0)
		unlink_marked(d);
	return r;
}

static int pull_documents(struct daemon *d, const struct merge *m)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	const struct doc *under = layer_find(d->store, m->under),
			 *over = layer_find(d->store, m->over);
	int r = !t ? -ENOMEM : !under || !over ? -ECANCELED : 0;

	if (r < 0)
		return r;
	const char *before = jstr(over->json, "Backing"),
		   *base = m->is_long ? m->under : jstr(under->json, "Backing");

	r = layer_set_backing(t, over, base);
	if (r == 0 && before)
		r = layer_release(t, before);
	if (r == 0)
		r = txn_commit(t);
	if (r == 0)
		unlink_marked(d);
	return r;
}

/* ---- by the guest's QEMU ---- */

static int ask(const struct daemon *d, const struct merge *m, int is_job, const char *method,
	       json_t *parameters)
{
	const struct doc *v = store_find(d->store, "volume", m->volume_id);
	OWN(json_decref) json_t *given = parameters, *reply = NULL;
	struct context ctx = {.request = "layers"};
	struct fault f = {0};

	if (!v || !given)
		return v ? -ENOMEM : -ECANCELED;
	snprintf(ctx.account, sizeof ctx.account, "%s", v->account);
	snprintf(ctx.region, sizeof ctx.region, "%s", v->region);
	int r = (is_job ? host_ask_job : host_ask)(&ctx, method, given, &reply, &f);

	if (r < 0)
		log_warning(r, "a guest's layers were not merged", "INSTANCE", m->instance_id,
			    "CODE", f.code, "REASON", f.message);
	return r;
}

/* After a commit the guest's QEMU has put the layer over `over` on `under`. That is one of them:
 * others may have been made on `over` meanwhile, and stay there. */
static int find_moved(const struct daemon *d, const struct merge *m, struct ways *w)
{
	OWN(json_decref) json_t *names = json_array();
	char path[FILE_PATH_MAX];
	json_t *name;
	size_t i;

	store_each (d->store, LAYER_KIND, l)
		if (strcmp(jstr_or(l->json, "Backing", ""), m->over) == 0 &&
		    json_array_append_new(names, json_string(l->id)) < 0)
			return -ENOMEM;
	json_array_foreach (names, i, name) {
		file_path(d, json_string_value(name), path);
		if (header_is(path, w->under) != 1)
			continue; /* nor is one that cannot be read, or is not made yet */
		snprintf(w->child, sizeof w->child, "%s", json_string_value(name));
		return 1;
	}
	return 0;
}

static int is_in_headers(const struct daemon *d, const struct merge *m, struct ways *w)
{
	return m->is_commit ? find_moved(d, m, w) : header_is(w->over, w->base);
}

/* Its headers still say that it is done: then the documents do. */
static int write_down(struct daemon *d, const struct merge *m, struct ways *w)
{
	int r = is_in_headers(d, m, w);

	if (r <= 0)
		return r < 0 ? r : -ECANCELED;
	if (!m->is_commit)
		return pull_documents(d, m);
	OWN(json_decref) json_t *children = json_pack("[s]", w->child);

	return children ? commit_documents(d, m, children) : -ENOMEM;
}

/* The guest's QEMU has done its part, which the headers tell, and all of it is on the disk. If that
 * QEMU ended before it had flushed, the one that was flushed is another, and was started on headers
 * that were put back. */
static int end_live(struct daemon *d, const struct merge *m, struct ways *w)
{
	int r = is_in_headers(d, m, w);

	if (r == 0)
		return -ECANCELED;
	if (r > 0)
		r = ask(d, m, 1, "gureum.FlushVolume",
			json_pack("{s:s, s:s}", "InstanceId", m->instance_id, "VolumeId",
				  m->volume_id));
	if (r == 0)
		r = layer_flush(d, m->is_commit ? m->under : m->over);
	if (r == 0 && m->is_commit)
		r = layer_flush(d, w->child);
	if (r < 0)
		return r;
	headers_lock();
	r = write_down(d, m, w);
	headers_unlock();
	return r;
}

static int run_live(struct daemon *d, const struct merge *m, struct ways *w)
{
	/* An earlier stord may have asked for it already. */
	int r = end_live(d, m, w);

	if (r != -ECANCELED)
		return r;
	if (!m->is_commit) {
		r = ask(d, m, 1, "gureum.PullLayers",
			json_pack("{s:s, s:s, s:s, s:s*}", "InstanceId", m->instance_id, "VolumeId",
				  m->volume_id, "Top", w->over, "Base",
				  w->base[0] ? w->base : NULL));
	} else {
		r = fiber_work(open_up_work, w->under);
		if (r == 0)
			r = ask(d, m, 1, "gureum.CommitLayer",
				json_pack("{s:s, s:s, s:s, s:s}", "InstanceId", m->instance_id,
					  "VolumeId", m->volume_id, "Top", w->over, "Base",
					  w->under));
	}
	/* What hvd saw may be the end of a job that somebody stopped. */
	return r == 0 ? end_live(d, m, w) : r;
}

int merge_is_in_headers(struct daemon *d, const struct merge *m,
			char ret_layer[static FILE_NAME_MAX])
{
	struct ways w;

	find_ways(d, m, &w);
	int r = is_in_headers(d, m, &w);

	if (r == 1)
		snprintf(ret_layer, FILE_NAME_MAX, "%s", m->is_commit ? w.child : m->over);
	return r;
}

int merge_finish(struct daemon *d, const struct merge *m)
{
	struct ways w;

	find_ways(d, m, &w);
	return end_live(d, m, &w);
}

void merge_stop(struct daemon *d, const struct merge *m)
{
	if (!m->instance_id[0])
		offline_stop();
	else
		/* when it fails, the merge ends by itself */
		(void)ask(d, m, 0, "gureum.StopMerge",
			  json_pack("{s:s, s:s}", "InstanceId", m->instance_id, "VolumeId",
				    m->volume_id));
}

/* ---- without a guest ---- */

static int run_pull(struct daemon *d, const struct merge *m, const struct ways *w)
{
	int r = offline_pull(d, m->over, w->base_name[0] ? w->base_name : NULL);

	return r == 0 ? pull_documents(d, m) : r;
}

static int run_commit(struct daemon *d, const struct merge *m, struct ways *w)
{
	OWN(json_decref) json_t *children = json_array();
	size_t i;
	json_t *child;
	int r = fiber_work(open_up_work, w->under);

	store_each (d->store, LAYER_KIND, l)
		if (strcmp(jstr_or(l->json, "Backing", ""), m->over) == 0 &&
		    json_array_append_new(children, json_string(l->id)) < 0)
			return -ENOMEM;
	if (r == 0)
		r = fiber_work(open_up_work, w->over); /* qemu-img opens both for writing */
	if (r == 0)
		r = offline_commit(d, m->over);
	json_array_foreach (children, i, child)
		if (r == 0)
			r = offline_rebase(d, json_string_value(child), m->under);
	return r == 0 ? commit_documents(d, m, children) : r;
}

/* The headers of all that a merge touches say what their documents say. */
static int restore_headers(struct daemon *d, const struct merge *m, const struct ways *w)
{
	int r = headers_restore(d, m->over);

	return r == 0 && w->child[0] ? header_restore(d, w->child) : r;
}

int merge_run(struct daemon *d, const struct merge *m)
{
	struct ways w;

	find_ways(d, m, &w);
	if (m->instance_id[0])
		return run_live(d, m, &w);
	int r = offline_begin();

	if (r == 0)
		r = restore_headers(d, m, &w);
	if (r < 0)
		return r;
	return m->is_commit && !m->is_long ? run_commit(d, m, &w) : run_pull(d, m, &w);
}
