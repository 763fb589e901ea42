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

int leaves_find(const struct store *s, const char *name, char ret_ids[LEAVES_MAX][ID_MAX])
{
	int n = 0;

	for (const char *const *kind = layer_volume_kinds; *kind; kind++)
		store_each (s, *kind, v) {
			const char *next = jstr(v->json, "_NextLayer");

			if (!layer_stands_on(s, jstr(v->json, "_Layer"), name) &&
			    !layer_stands_on(s, next, name))
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
	char ids[LEAVES_MAX][ID_MAX];
	int n = leaves_find(s, layer, ids), r = n < 0 ? n : 0;

	for (int i = 0; r == 0 && i < n; i++) {
		const struct doc *v = leaf_find(s, ids[i]);

		r = v ? switch_is_live(v) : 0;
		if (r > 0)
			memcpy(ret_id, ids[i], ID_MAX);
	}
	return r;
}
