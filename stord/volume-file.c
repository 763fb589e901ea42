/* A volume's file: made once, in the background or by who needs it first. */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "again.h"
#include "fiber.h"
#include "header.h"
#include "hold.h"
#include "layer.h"
#include "log.h"
#include "merge.h"
#include "switch.h"

/* A guest that died with a merge on its disk may have left headers that the documents do not agree
 * with; while it runs, they are its own affair. */
static int restore_chain(struct daemon *d, const char *volume_id)
{
	const struct doc *doc = store_find(d->store, "volume", volume_id);
	char layer[FILE_NAME_MAX];

	snprintf(layer, sizeof layer, "%s", doc ? jstr_or(doc->json, "_Layer", "") : "");
	int r = headers_agree(d, layer);

	doc = store_find(d->store, "volume", volume_id);
	if (r != 0 || !doc)
		return r < 0 ? r : 0;
	r = switch_is_live(doc);
	if (r != 0)
		return r < 0 ? r : 0;
	return headers_restore(d, layer);
}

int volume_prepare(struct daemon *d, const char *volume_id)
{
	const struct doc *doc = store_find(d->store, "volume", volume_id);

	if (!doc)
		return -ENOENT;
	int r = switch_settle(d, volume_id);

	doc = store_find(d->store, "volume", volume_id);
	if (r < 0 || !doc)
		return r < 0 ? r : -ENOENT;
	r = merge_yield(d, volume_id);
	doc = store_find(d->store, "volume", volume_id);
	if (r < 0 || !doc)
		return r < 0 ? r : -ENOENT;
	r = layer_make(d, jstr_or(doc->json, "_Layer", ""), jbool(doc->json, "_Ready", 0));
	return r == 0 ? restore_chain(d, volume_id) : r;
}

struct later {
	struct daemon *daemon;
	char id[ID_MAX];
};

/* The volume that was being created is available now, or in error. 0 or -errno: nobody knows yet. */
static int creation_ends(struct daemon *d, const char *id, int error)
{
	const struct doc *doc = store_find(d->store, "volume", id);

	if (!doc)
		return 0; /* deleted meanwhile, or its creation never became durable */
	if (error < 0)
		log_error(error, "cannot make a volume's file", "VOLUME_ID", id);
	if (strcmp(jstr_or(doc->json, "State", ""), "creating") != 0)
		return 0;
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
		log_warning(r, "a volume's creation is not recorded yet", "VOLUME_ID", id);
	return r;
}

static void make_later(void *arg)
{
	OWN(free) struct later *l = arg;

	/* The document is committed after its handler has returned: let it. */
	(void)fiber_sleep(0);
	/* What is in the way of the file is in a guest whose host is silent; of its end, a disk
	 * that is full. */
	for (uint64_t wait = 0;; again_wait(&wait)) {
		OWN(hold_leave) struct hold *h = hold_enter(l->id);
		int r = h ? volume_prepare(l->daemon, l->id) : -ENOMEM;

		if (r != -EAGAIN && creation_ends(l->daemon, l->id, r) == 0)
			return;
	}
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

int volume_release(struct txn *t, const struct doc *volume)
{
	const char *next = jstr(volume->json, "_NextLayer");
	int r = next ? layer_release(t, next) : 0;

	return r == 0 ? layer_release(t, jstr_or(volume->json, "_Layer", "")) : r;
}
