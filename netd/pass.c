/* Pass: from what the kernel is to what the plans say. */
#include "pass-internal.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

int router_is_present(const struct router *r)
{
	return r->plan && (!r->plan->is_idle || r->netns);
}

/* ---- failures: the first is kept, with what it was about ---- */

static void fail(int *error, char reason[static 320], int r, const struct netns *n,
		 const struct item *i)
{
	OWN(free) char *text = NULL;
	size_t n_text = 0;
	FILE *out;

	if (*error < 0)
		return;
	*error = r;
	out = open_memstream(&text, &n_text);
	if (!out)
		return;
	if (i)
		item_print(i, out);
	else if (n)
		fprintf(out, "%s", n->reason);
	(void)fclose(out); /* a reason cut short is one still */
	snprintf(reason, 320, "%s", text);
}

static void router_failed(struct router *r, int error, const struct item *i)
{
	fail(&r->error, r->reason, error, r->netns, i);
}

static void pass_failed(struct pass *p, int error, const struct item *i)
{
	fail(&p->error, p->reason, error, p->host, i);
}

static void host_failed(struct pass *p, int error, const struct item *i)
{
	fail(&p->host_error, p->reason, error, p->host, i);
}

/* ---- sets and chains, before anything connects ---- */

static int protect_family(struct router *r, enum rules_family family, const struct ruleset *wanted)
{
	size_t n_chains;
	int is_nat, e = iptables_apply(r->netns, family, wanted, &n_chains, &is_nat);

	r->n_changes += (unsigned)n_chains;
	r->is_nat_changed |= is_nat;
	return e;
}

static int protect(struct router *r, struct items *ret_sets)
{
	struct items wanted = items_slice(&r->plan->router, ITEM_SET, ITEM_MEMBER);
	OWN(changes_free) struct changes changes = {0};
	int e = ipset_dump(r->netns, ret_sets);

	if (e == 0)
		e = items_compare(&wanted, ret_sets, &changes);
	if (e == 0)
		e = ipset_change(r->netns, &changes, 0);
	for (size_t i = 0; i < changes.n; i++)
		r->n_changes += changes.at[i].will != NULL;
	if (e == 0)
		e = protect_family(r, RULES_IPV4, &r->plan->rules);
	/* A VPC without IPv6 costs no command; one that had it has the set of its addresses still.
	 */
	if (e == 0 && (r->plan->has_ipv6 || items_has(ret_sets, ITEM_SET, "local-6")))
		e = protect_family(r, RULES_IPV6, &r->plan->rules6);
	return e;
}

/* ---- links in the host's namespace ---- */

/* A veth whose far end is not in the router's namespace (which was made anew, say) is of no use. */
static int is_severed(const struct router *r, const struct item *veth)
{
	return !netns_has_link(r->netns, item_veth_peer(veth));
}

static void drop_severed(struct pass *p, struct router *r, struct items *there)
{
	struct items veths = items_slice(&r->plan->host, ITEM_VETH, ITEM_VETH);

	for (size_t i = 0; i < veths.n; i++) {
		struct item *found = items_find(there, ITEM_VETH, veths.at[i].name);
		struct items one = {.at = found, .n = 1};

		if (!found || !is_severed(r, found))
			continue;
		(void)netns_remove_links(p->host, &one); /* if it stays, making it anew will tell */
		items_remove(there, found);
		r->is_touched = 1;
	}
}

static void connect_host(struct pass *p, struct router *r, struct items *there)
{
	OWN(changes_free) struct changes changes = {0};
	int e;

	drop_severed(p, r, there);
	e = items_compare(&r->plan->host, there, &changes);
	if (e < 0)
		router_failed(r, e, NULL);
	for (size_t i = 0; i < changes.n; i++) {
		const struct item *will = changes.at[i].will;

		if (!will)
			continue; /* other VPCs' things are not ours to remove: see clean_host */
		r->n_changes++;
		r->is_touched |= will->kind == ITEM_VETH && !changes.at[i].was;
		e = netns_make(p->host, will, r->netns);
		if (e < 0)
			router_failed(r, e, will);
	}
}

/* ---- inside the router's namespace ---- */

static void make_all(struct router *r, const struct changes *changes)
{
	for (size_t i = 0; i < changes->n; i++) {
		const struct change *c = &changes->at[i];
		int e = c->will ? netns_make(r->netns, c->will, NULL) : 0;

		r->n_changes++;
		if (e < 0)
			router_failed(r, e, c->will);
	}
}

static void remove_all(struct router *r, const struct changes *changes)
{
	for (size_t i = changes->n; i-- > 0;) {
		const struct change *c = &changes->at[i];
		int e = c->will ? 0 : netns_remove(r->netns, c->was);

		if (e < 0)
			router_failed(r, e, c->was);
	}
}

/* A flow is stale when an address in it went or went to another, or when it is translated in a way
 * that no longer holds. */
static int is_translation(const struct plan *p, struct address private, struct address public)
{
	struct address all = ip4(p->translated);

	if (p->translated)
		return ip_is(&all, &public);
	for (size_t i = 0; i < p->n_guests; i++) {
		struct address ours = ip4(p->guests[i].address),
			       shown = ip4(p->guests[i].public_address);

		if (ip_is(&ours, &private))
			return ip_is(&shown, &public);
	}
	return 0;
}

struct stale {
	const struct plan *plan;
	const struct changes *sets, *inside;
};

static int has_moved(const struct stale *s, const struct address *address)
{
	for (size_t i = 0; i < s->sets->n; i++) {
		const struct change *c = &s->sets->at[i];

		if (c->was && c->was->kind == ITEM_MEMBER && ip_is(&c->was->address, address) &&
		    (!c->will || memcmp(c->was->mac, c->will->mac, 6) != 0) &&
		    (strncmp(c->was->name, "subnet-", 7) == 0 ||
		     strcmp(c->was->name, "local-6") == 0))
			return 1;
	}
	/* IPv6 has no sets with MACs. */
	for (size_t i = 0; address->family == AF_INET6 && i < s->inside->n; i++) {
		const struct change *c = &s->inside->at[i];

		if (c->was && c->was->kind == ITEM_NEIGHBOUR && ip_is(&c->was->address, address))
			return 1;
	}
	return 0;
}

static int is_stale(const struct flow *f, void *arg)
{
	const struct stale *s = arg;

	if (has_moved(s, &f->source) || has_moved(s, &f->destination) ||
	    has_moved(s, &f->reply_source))
		return 1;
	if (!ip_is(&f->source, &f->reply_destination) &&
	    !is_translation(s->plan, f->source, f->reply_destination))
		return 1;
	return !ip_is(&f->destination, &f->reply_source) &&
	       !is_translation(s->plan, f->reply_source, f->destination);
}

/* Who leaves a group or a prefix list keeps its flows, so all of them need not be looked at. */
static int is_set_change_final(const struct changes *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->at[i].was && strncmp(c->at[i].was->name, "sg-", 3) != 0 &&
		    strncmp(c->at[i].was->name, "pl-", 3) != 0)
			return 1;
	return 0;
}

/* What is in the namespace beyond sets and chains; then what should not be; then the flows of
 * addresses that went. The sets come last: while they differ, a later pass still knows whose flows
 * are to be forgotten. */
static void connect_router(struct pass *p, struct router *r, const struct items *sets)
{
	OWN(items_free) struct items wanted = {0};
	struct items wanted_sets = items_slice(&r->plan->router, ITEM_SET, ITEM_MEMBER);
	OWN(changes_free) struct changes changes = {0}, set_changes = {0};
	OWN(items_free) struct items there = {0};
	struct stale stale = {r->plan, &set_changes, &changes};
	int e = netns_dump(r->netns, &r->plan->router, &there);

	if (e == 0)
		e = peerings_wanted(r, &wanted);
	if (e == 0)
		e = items_compare(&wanted, &there, &changes);
	if (e == 0)
		e = items_compare(&wanted_sets, sets, &set_changes);
	if (e < 0) {
		router_failed(r, e, NULL);
		return;
	}
	make_all(r, &changes);
	remove_all(r, &changes);
	if (p->is_first || r->is_nat_changed || is_set_change_final(&set_changes))
		e = conntrack_forget(r->netns, is_stale, &stale);
	if (e >= 0)
		e = ipset_change(r->netns, &set_changes, 1);
	if (e < 0)
		router_failed(r, e, NULL);
}

/* ---- the end of things ---- */

/* Everything in the host's namespace that no plan has. Links go together, at last. */
static void clean_host(struct pass *p, const struct items *wanted, const struct items *there)
{
	OWN(changes_free) struct changes changes = {0};
	OWN(items_free) struct items links = {0};
	int e = items_compare(wanted, there, &changes);

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

static int is_known(const struct pass *p, const char *netns)
{
	for (size_t i = 0; i < p->n_routers; i++)
		if (p->routers[i]->plan && strcmp(p->routers[i]->plan->netns, netns) == 0)
			return 1;
	return 0;
}

static int is_ours(const char *netns)
{
	return strncmp(netns, "gureum-vpc-", 11) == 0 || strncmp(netns, "gureum-eni-", 11) == 0;
}

/* Namespaces that an earlier process left: of known VPCs they are taken over, others end. */
static void find_namespaces(struct pass *p, int is_removing)
{
	OWN(free) char **names = NULL;
	int e = netns_list("gureum-", &names);

	for (char **name = names; e == 0 && *name; name++) {
		if (!is_ours(*name) || is_known(p, *name) == is_removing)
			continue;
		p->n_changes += (unsigned)is_removing;
		if (is_removing)
			e = netns_delete(*name);
		for (size_t i = 0; !is_removing && i < p->n_routers; i++) {
			struct router *r = p->routers[i];

			if (r->plan && !r->netns && strcmp(r->plan->netns, *name) == 0)
				e = netns_open(*name, &r->netns);
		}
	}
	if (e < 0)
		pass_failed(p, e, NULL);
}

static void end_router(struct pass *p, struct router *r)
{
	char name[ID_MAX + 8];
	int e;

	if (!r->netns)
		return;
	plan_netns_name(r->id, name);
	e = netns_delete(name);
	if (e < 0)
		pass_failed(p, e, NULL);
	netns_free(r->netns);
	r->netns = NULL;
	p->n_changes++;
}

/* ---- the whole ---- */

/* What the host's namespace should have: for itself, and for all plans together. */
struct host_wants {
	struct items own, all;
	struct ruleset rules[RULES_FAMILIES];
};

static void own_host_wants_free(struct host_wants *w)
{
	items_free(&w->own);
	items_free(&w->all);
	for (size_t f = 0; f < RULES_FAMILIES; f++)
		ruleset_free(&w->rules[f]);
}

static int has_gateway(const struct plan *p)
{
	return items_has(&p->router, ITEM_LEG, "igw") || items_has(&p->router, ITEM_LEG, "eigw");
}

static int want_host(struct pass *p, struct host_wants *w)
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
		for (size_t j = 0; j < r->plan->host.n; j++)
			items_copy(&w->all, &r->plan->host.at[j]);
	}
	for (unsigned f = 0; e == 0 && f < RULES_FAMILIES; f++)
		e = host_plan(&p->settings, p->host, f, is_used[f], &w->own, &w->rules[f]);
	if (e == 0)
		e = items_sort(&w->own);
	for (size_t i = 0; i < w->own.n; i++)
		items_copy(&w->all, &w->own.at[i]);
	return e < 0 ? e : items_sort(&w->all);
}

/* The uplink's forwarding, the pool's route. */
static void connect_own(struct pass *p, const struct items *wanted, const struct items *there)
{
	OWN(changes_free) struct changes changes = {0};
	int e = items_compare(wanted, there, &changes);

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

struct prepared {
	struct items sets;
	int is_ready;
};

/* The namespace is there, and closed to all that is not allowed. */
static void prepare(struct router *r, struct prepared *ret)
{
	int e = 0;

	if (!router_is_present(r) || (r->netns && !r->is_touched))
		return;
	if (!r->netns) {
		e = netns_open(r->plan->netns, &r->netns);
		r->is_touched = 1;
		r->n_changes++;
	}
	if (e == 0)
		e = netns_keep(r->netns);
	r->n_changes += e > 0;
	if (e >= 0)
		e = protect(r, &ret->sets);
	if (e < 0)
		router_failed(r, e, NULL);
	ret->is_ready = e == 0;
}

/* Links between routers; both ends' namespaces are then looked at. */
static void connect_peers(struct pass *p, struct prepared *prepared)
{
	for (size_t i = 0; i < p->n_routers; i++) {
		struct router *r = p->routers[i];
		const struct item *link = NULL;
		int e = router_is_present(r) && r->netns && r->error == 0
				? peerings_connect(p, r, &link)
				: 0;

		if (e < 0)
			router_failed(r, e, link);
	}
	for (size_t i = 0; i < p->n_routers; i++)
		if (!prepared[i].is_ready && p->routers[i]->error == 0)
			prepare(p->routers[i], &prepared[i]);
}

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
static int dump_host(struct pass *p, const struct host_wants *w, struct items *ret_there)
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

static int connect_all(struct pass *p, const struct host_wants *w, struct prepared *prepared)
{
	OWN(items_free) struct items there = {0};
	int e = dump_host(p, w, &there);

	if (e < 0)
		return e;
	for (size_t i = 0; i < p->n_routers; i++) {
		struct router *r = p->routers[i];

		if (!router_is_present(r) || !r->netns || (r->is_touched && !prepared[i].is_ready))
			continue;
		connect_host(p, r, &there);
		if (r->is_touched && !prepared[i].is_ready)
			prepare(r, &prepared[i]);
	}
	connect_peers(p, prepared);
	connect_own(p, &w->own, &there);
	for (size_t i = 0; i < p->n_routers; i++)
		if (prepared[i].is_ready)
			connect_router(p, p->routers[i], &prepared[i].sets);
	if (!p->is_incomplete)
		clean_host(p, &w->all, &there);
	return 0;
}

/* A firewall of the user's that does not let us in must not keep guests from starting. */
static int host_apply(struct pass *p, struct host_wants *w)
{
	int e = want_host(p, w), n;

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
	return e;
}

static void run(struct pass *p, struct prepared *prepared)
{
	OWN(host_wants_free) struct host_wants w = {0};
	int e;

	if (p->is_first)
		find_namespaces(p, 0);
	for (size_t i = 0; i < p->n_routers; i++)
		prepare(p->routers[i], &prepared[i]);
	e = host_apply(p, &w);
	if (e == 0)
		e = connect_all(p, &w, prepared);
	if (e < 0) {
		pass_failed(p, e, NULL);
		return;
	}
	for (size_t i = 0; i < p->n_routers; i++)
		if (!p->routers[i]->plan && !p->is_incomplete)
			end_router(p, p->routers[i]);
	if (p->is_first && !p->is_incomplete)
		find_namespaces(p, 1);
}

int pass_run(struct pass *p)
{
	struct prepared *prepared = calloc(p->n_routers + 1, sizeof *prepared);
	int r;

	if (!prepared)
		return -ENOMEM;
	p->error = p->host_error = 0;
	p->reason[0] = '\0';
	p->n_changes = 0;
	for (size_t i = 0; i < p->n_routers; i++) {
		p->routers[i]->error = p->routers[i]->is_nat_changed = 0;
		p->routers[i]->reason[0] = '\0';
		p->routers[i]->n_changes = 0;
	}
	run(p, prepared);
	r = p->error ? p->error : p->host_error;
	for (size_t i = 0; i < p->n_routers; i++) {
		items_free(&prepared[i].sets);
		p->n_changes += p->routers[i]->n_changes;
		if (r == 0)
			r = p->routers[i]->error;
	}
	free(prepared);
	return r;
}
