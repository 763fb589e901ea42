/* Documents of version 1, from before layers: a volume named the snapshot's file under it, and both
 * names followed from the ids. */
#include "layer.h"
#include "stord.h"

#include <errno.h>
#include <string.h>

static int snapshot_upgrade(struct txn *t, const struct doc *d)
{
	OWN(json_decref) json_t *json = doc_edit(d);
	const char *format = jstr_or(d->json, "_Format", "qcow2");
	char name[FILE_NAME_MAX];

	file_snapshot_name(d->id, format, name);
	int r = json ? layer_put(t, name, format, jint(d->json, "_Bytes", 0), NULL) : -ENOMEM;

	if (r == 0)
		r = jset(json, "_Layer", name);
	if (r == 0)
		r = jset(json, "_Format", NULL);
	return r == 0 ? txn_replace(t, d, give(json)) : r;
}

static int volume_upgrade(struct txn *t, const struct doc *d)
{
	OWN(json_decref) json_t *json = doc_edit(d);
	const char *backing = jstr(d->json, "_Backing");
	char name[FILE_NAME_MAX];
	int r = json ? 0 : -ENOMEM;

	file_volume_name(jstr_or(d->json, "AvailabilityZone", ""), d->id, 1, name);
	/* Its snapshot may be deleted, and its file there for this volume's sake. */
	if (r == 0 && backing && !txn_look(t, LAYER_KIND, backing))
		r = layer_put(t, backing, jstr_or(d->json, "_BackingFormat", "qcow2"),
			      jint(d->json, "Size", 0) * GIB, NULL);
	if (r == 0)
		r = layer_put(t, name, "qcow2", jint(d->json, "Size", 0) * GIB, backing);
	if (r == 0)
		r = jset(json, "_Layer", name);
	if (r == 0)
		r = jset_new(json, "_Layers", json_integer(1));
	if (r == 0)
		r = jset(json, "_Backing", NULL);
	if (r == 0)
		r = jset(json, "_BackingFormat", NULL);
	return r == 0 ? txn_replace(t, d, give(json)) : r;
}

int stord_upgrade(struct daemon *d)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = t ? 0 : -ENOMEM;

	store_each (d->store, "snapshot", s)
		if (r == 0 && !jstr(s->json, "_Layer"))
			r = snapshot_upgrade(t, s);
	store_each (d->store, "volume", v)
		if (r == 0 && !jstr(v->json, "_Layer"))
			r = volume_upgrade(t, v);
	return r == 0 ? txn_commit(t) : r;
}
