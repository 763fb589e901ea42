/* Pass, peering: the links between routers. Each is one veth pair with an end in either namespace;
 * whoever of the two is looked at first makes both ends. */
#include "pass-internal.h"

#include <errno.h>
#include <string.h>

/* The router at the other end, NULL if it is not there or not yet closed to what is not allowed. */
static struct router *far_router(const struct pass *p, const struct item *link)
{
	for (size_t i = 0; i < p->n_routers; i++) {
		struct router *r = p->routers[i];

		if (strcmp(r->id, link->text) == 0)
			return r->plan && r->netns && r->error == 0 ? r : NULL;
	}
	return NULL;
}

static int drop_end(struct router *r, const struct item *link)
{
	return netns_has_link(r->netns, link->name) ? netns_remove(r->netns, link) : 0;
}

/* One end without the other leads into a namespace that is no more, or was never finished. */
static int connect_link(struct router *near, struct router *far, const struct item *link)
{
	int e;

	if (netns_has_link(near->netns, link->name) && netns_has_link(far->netns, link->name))
		return 0;
	e = drop_end(near, link);
	if (e == 0)
		e = drop_end(far, link);
	if (e == 0)
		e = netns_make(near->netns, link, far->netns);
	router_doubt(near);
	router_doubt(far);
	near->n_changes++;
	return e;
}

int peerings_connect(struct pass *p, struct router *r, const struct item **ret_item)
{
	struct items links = items_slice(&r->plan->router, ITEM_PEERING, ITEM_PEERING);
	int e, result = 0;

	for (size_t i = 0; i < links.n; i++) {
		const struct item *link = links.at + i;
		struct router *far = far_router(p, link);

		if (!far || (!r->is_touched && !far->is_touched))
			continue;
		e = connect_link(r, far, link);
		if (e < 0) {
			*ret_item = link;
			result = e;
		}
	}
	return result;
}

/* The item is the link, or stands on it. */
static int is_of_link(const struct item *i, const char *link)
{
	return strcmp(i->name, link) == 0 || strcmp(i->link, link) == 0 ||
	       (i->kind == ITEM_SYSCTL && strstr(i->name, link));
}

int peerings_wanted(const struct router *r, struct items *ret_items)
{
	struct items wanted = items_slice(&r->plan->router, ITEM_PEERING, ITEM_RULE),
		     links = items_slice(&r->plan->router, ITEM_PEERING, ITEM_PEERING);
	OWN(free) int *is_there = calloc(links.n + 1, sizeof *is_there);

	if (!is_there)
		return -ENOMEM;
	for (size_t k = 0; k < links.n; k++)
		is_there[k] = netns_has_link(r->netns, links.at[k].name);
	for (size_t i = 0; i < wanted.n; i++) {
		int is_possible = 1;

		for (size_t k = 0; k < links.n; k++)
			is_possible &= is_there[k] || !is_of_link(&wanted.at[i], links.at[k].name);
		if (is_possible)
			items_copy(ret_items, &wanted.at[i]);
	}
	return ret_items->error;
}
