/* Pass, host: links and routes of all VPCs, and netd's own chains, in the host's namespace. */
#include "pass-internal.h"

#include <errno.h>
#include <string.h>
#include "firewall.h"

void own_host_wants_free(struct host_wants *w)
{
	items_free(&w->own);
	items_free(&w->all);
	for (size_t f = 0; f < RULES_FAMILIES; f++)
		ruleset_free(&w->rules[f]);
}

/* ---- what there should be ---- */

static int has_gateway(const struct plan *p)
{
	return items_has(&p->router, ITEM_LEG, "igw") || items_has(&p->router, ITEM_LEG, "eigw");
}

static int want(struct pass *p, struct host_wants *w)
{
	int is_used[RULES_FAMILIES] = {0}, e = 0;

	for (size_t i = 0; i < p->n_routers; i++) {
		const struct router *r = p->routers[i];

		if (!router_is_present(r))
			continue;
		if (!r->plan->is_idle && has_gateway(r->plan)) {
			is_used[RULES_IPV4] |= items_has(&r->plan->router, ITEM_LEG, "igw");
			is_used[RULES_IPV6] |= r->plan->has_ipv6;
		}
		if (!r->plan->is_idle && items_slice(&r->plan->host, ITEM_BRIDGE, ITEM_BRIDGE).n)
			w->passing |= FIREWALL_BRIDGED;
		for (size_t j = 0; j < r->plan->host.n; j++)
			items_copy(&w->all, &r->plan->host.at[j]);
	}
	if (is_used[RULES_IPV4] || is_used[RULES_IPV6])
		w->passing |= FIREWALL_ROUTED;
	for (unsigned f = 0; e == 0 && f < RULES_FAMILIES; f++)
		e = host_plan(&p->settings, p->host, f, is_used[f], &w->own, &w->rules[f]);
	if (e == 0)
		e = items_sort(&w->own);
	for (size_t i = 0; i < w->own.n; i++)
		items_copy(&w->all, &w->own.at[i]);
	return e < 0 ? e : items_sort(&w->all);
}

/* The owner's own tables, too: last, since a transaction of theirs may be going on. */
static void apply_firewall(struct pass *p, const struct host_wants *w)
{
	int n = firewall_apply(p->host, p->settings.is_firewall_passed ? w->passing : 0);

	if (n < 0)
		host_failed(p, n, NULL);
	else
		p->n_changes += (unsigned)n;
}

/* A firewall of the user's that does not let us in must not keep guests from starting. */
int host_apply(struct pass *p, struct host_wants *w)
{
	int e = want(p, w), n;

	for (unsigned f = 0; e == 0 && f < RULES_FAMILIES; f++) {
		/* Where no VPC has IPv6, ip6tables is asked once: for what an earlier process left.
		 */
		if (f == RULES_IPV6 && !w->rules[f].n && !p->host->chains[f].n && !p->is_first)
			continue;
		n = host_apply_rules(p->host, f, &w->rules[f]);
		if (n < 0)
			host_failed(p, n, NULL);
		else
			p->n_changes += (unsigned)n;
	}
	if (e == 0)
		apply_firewall(p, w);
	return e;
}

/* ---- what there is ---- */

static struct items settings_of(const struct router *r)
{
	return items_slice(&r->plan->host, ITEM_SYSCTL, ITEM_SYSCTL);
}

static void copy_all(struct items *to, const struct items *from)
{
	for (size_t i = 0; i < from->n; i++)
		items_copy(to, &from->at[i]);
}

static int has_links(const struct router *r, const struct items *there)
{
	struct items links = items_slice(&r->plan->host, ITEM_BRIDGE, ITEM_TAP);

	for (size_t i = 0; i < links.n; i++)
		if (!items_find(there, links.at[i].kind, links.at[i].name))
			return 0;
	return 1;
}

/* Settings are a file each, and a link's do not change by themselves: those of VPCs that nobody
 * touched are taken to be as they were, as long as their links are. */
static int dump(struct pass *p, const struct host_wants *w, struct items *ret_there)
{
	OWN(items_free) struct items asked = {0}, assumed = {0}, there = {0};
	int e;

	copy_all(&asked, &w->own);
	for (size_t i = 0; i < p->n_routers; i++)
		if (router_is_present(p->routers[i]) &&
		    (p->routers[i]->is_touched || p->is_first)) {
			struct items settings = settings_of(p->routers[i]);

			copy_all(&asked, &settings);
		}
	e = asked.error ? asked.error : netns_dump(p->host, &asked, &there);
	for (size_t i = 0; e == 0 && i < p->n_routers; i++)
		if (router_is_present(p->routers[i]) && !p->routers[i]->is_touched &&
		    !p->is_first && has_links(p->routers[i], &there)) {
			struct items settings = settings_of(p->routers[i]);

			copy_all(&assumed, &settings);
		}
	copy_all(&there, &assumed);
	if (e == 0)
		e = assumed.error ? assumed.error : items_sort(&there);
	if (e < 0)
		return e;
	*ret_there = there;
	there = (struct items){0};
	return 0;
}

int host_read(struct pass *p, const struct host_wants *w)
{
	OWN(items_free) struct items there = {0};
	int e;

	p->is_host_trusted = p->host->is_known && !p->is_first;
	p->host->is_known = 0;
	if (p->is_host_trusted)
		return 0;
	e = dump(p, w, &there);
	if (e < 0)
		return e;
	items_free(&p->host->items);
	p->host->items = there;
	there = (struct items){0};
	return 0;
}

void host_know(struct pass *p, struct host_wants *w)
{
	struct netns *host = p->host;
	int is_as_wanted = p->error == 0 && p->host_error == 0 && !p->is_incomplete;

	for (size_t i = 0; i < p->n_routers; i++)
		is_as_wanted &= p->routers[i]->error == 0;
	if (!is_as_wanted)
		return;
	items_free(&host->items);
	host->items = w->all;
	w->all = (struct items){0};
	host->is_known = 1;
}

/* ---- links in the host's namespace ---- */

/* A veth whose far end is not in the router's namespace (which was made anew, say) is of no use. */
static int is_severed(const struct router *r, const struct item *veth)
{
	const char *far = item_veth_peer(veth);

	return r->netns->is_known ? !items_find(&r->netns->items, ITEM_LEG, far)
				  : !netns_has_link(r->netns, far);
}

static void drop_severed(struct pass *p, struct router *r)
{
	struct items *there = &p->host->items,
		     veths = items_slice(&r->plan->host, ITEM_VETH, ITEM_VETH);

	for (size_t i = 0; i < veths.n; i++) {
		struct item *found = items_find(there, ITEM_VETH, veths.at[i].name);
		struct items one = {.at = found, .n = 1};

		if (!found || !is_severed(r, found))
			continue;
		(void)netns_remove_links(p->host, &one); /* if it stays, making it anew will tell */
		items_remove(there, found);
		router_doubt(r);
	}
}

void host_connect(struct pass *p, struct router *r)
{
	OWN(changes_free) struct changes changes = {0};
	int e;

	drop_severed(p, r);
	e = items_compare(&r->plan->host, &p->host->items, &changes);
	if (e < 0)
		router_failed(r, e, NULL);
	for (size_t i = 0; i < changes.n; i++) {
		const struct item *will = changes.at[i].will;

		if (!will)
			continue; /* other VPCs' things are not ours to remove: see host_clean */
		r->n_changes++;
		if (will->kind == ITEM_VETH && !changes.at[i].was)
			router_doubt(r); /* it has a new leg */
		e = netns_make(p->host, will, r->netns);
		if (e < 0)
			router_failed(r, e, will);
	}
}

/* The uplink's forwarding, the pool's route. */
void host_connect_own(struct pass *p, const struct host_wants *w)
{
	OWN(changes_free) struct changes changes = {0};
	int e = items_compare(&w->own, &p->host->items, &changes);

	for (size_t i = 0; e == 0 && i < changes.n; i++) {
		const struct item *will = changes.at[i].will;

		if (!will)
			continue;
		e = netns_make(p->host, will, NULL);
		p->n_changes++;
		if (e < 0)
			host_failed(p, e, will);
	}
}

/* ---- the end of things ---- */

/* Everything in the host's namespace that no plan has. Links go together, at last. */
void host_clean(struct pass *p, const struct host_wants *w)
{
	OWN(changes_free) struct changes changes = {0};
	OWN(items_free) struct items links = {0};
	int e = items_compare(&w->all, &p->host->items, &changes);

	if (e < 0) {
		pass_failed(p, e, NULL);
		return;
	}
	for (size_t i = changes.n; i-- > 0;) {
		const struct change *c = &changes.at[i];

		if (c->will)
			continue;
		p->n_changes++;
		e = 0;
		if (c->was->kind == ITEM_BRIDGE || c->was->kind == ITEM_VETH ||
		    c->was->kind == ITEM_TAP)
			items_copy(&links, c->was);
		else
			e = netns_remove(p->host, c->was);
		if (e < 0)
			pass_failed(p, e, c->was);
	}
	e = links.error;
	if (e == 0 && (links.n || p->is_first))
		e = netns_remove_links(p->host, &links);
	if (e < 0)
		pass_failed(p, e, NULL);
}
