/* Who opens a layer. */
#include "leaves.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "jsonx.h"
#include "layer.h"
#include "switch.h"

int layer_stands_on(const struct store *s, const char *top, const char *name)
{
	for (unsigned n = 0; top && n < LAYERS_FOLLOWED; n++) {
		const struct doc *l = layer_find(s, top);

		if (strcmp(top, name) == 0)
			return 1;
		top = l ? jstr(l->json, "Backing") : NULL;
	}
	return 0;
}

static int compare_ids(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int is_leaf(const struct store *s, const struct doc *volume, const char *layer)
{
	return layer_stands_on(s, jstr(volume->json, "_Layer"), layer) ||
	       layer_stands_on(s, jstr(volume->json, "_NextLayer"), layer);
}

int leaves_find(const struct store *s, const char *name, char ret_ids[LEAVES_MAX][ID_MAX])
{
	int n = 0;

	for (const char *const *kind = layer_volume_kinds; *kind; kind++)
		store_each (s, *kind, v) {
			if (!is_leaf(s, v, name))
				continue;
			if (n == LEAVES_MAX)
				return -E2BIG;
			snprintf(ret_ids[n++], ID_MAX, "%s", v->id);
		}
	qsort(ret_ids, (size_t)n, ID_MAX, compare_ids);
	return n;
}

const struct doc *leaf_find(const struct store *s, const char *id)
{
	const struct doc *d = NULL;

	for (const char *const *kind = layer_volume_kinds; !d && *kind; kind++)
		d = store_find(s, *kind, id);
	return d;
}

int leaves_live(const struct store *s, const char *layer, char ret_id[static ID_MAX])
{
	OWN(json_decref) json_t *ids = json_array();
	json_t *id;
	size_t i;
	int r = ids ? 0 : -ENOMEM;

	store_each (s, "volume", v)
		if (r == 0 && is_leaf(s, v, layer) &&
		    json_array_size(json_object_get(v->json, "Attachments")) > 0 &&
		    json_array_append_new(ids, json_string(v->id)) < 0)
			r = -ENOMEM;
	json_array_foreach (ids, i, id) {
		const struct doc *v =
			r == 0 ? store_find(s, "volume", json_string_value(id)) : NULL;

		r = v ? switch_is_live(v) : r;
		if (v && r > 0)
			snprintf(ret_id, ID_MAX, "%s", json_string_value(id));
	}
	return r;
}
