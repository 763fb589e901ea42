/* Pass, routers: what is inside their namespaces. */
#include "pass-internal.h"
#include "delegation.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

/* ---- sets and chains, before anything connects ---- */

static int protect_family(struct router *r, enum rules_family family, const struct ruleset *wanted)
{
	size_t n_chains;
	int is_nat, e = iptables_apply(r->netns, family, wanted, &n_chains, &is_nat);

	r->n_changes += (unsigned)n_chains;
	r->is_nat_changed |= is_nat;
	return e;
}

static int read_sets(struct router *r)
{
	if (r->is_trusted)
		return 0;
	items_free(&r->netns->sets);
	return ipset_dump(r->netns, &r->netns->sets);
}

/* A VPC without IPv6 costs no command; but one that had it has sets of IPv6 still, by whatever name,
 * and rules that hold them. */
static int needs_rules6(const struct router *r, const struct changes *sets)
{
	for (size_t i = 0; i < sets->n; i++) {
		const struct change *c = &sets->at[i];

		if (c->was && !c->will && c->was->kind == ITEM_SET &&
		    c->was->address.family == AF_INET6)
			return 1;
	}
	return r->plan->has_ipv6;
}

/* Where a message of the kernel's listing ends, the last member may be told without its MAC (seen with
 * Linux 6.18): nothing says that it is another. It is set again, which changes nothing if it was right:
 * nobody else changed it, and the address did not move. */
static int is_unsaid(const struct change *c)
{
	static const uint8_t none[6];

	return c->was && c->will && c->will->kind == ITEM_MEMBER &&
	       memcmp(c->was->mac, none, sizeof none) == 0;
}

int router_protect(struct router *r)
{
	struct items wanted = items_slice(&r->plan->router, ITEM_SET, ITEM_MEMBER);
	OWN(changes_free) struct changes changes = {0};
	int e = read_sets(r);

	if (e == 0)
		e = items_compare(&wanted, &r->netns->sets, &changes);
	if (e == 0)
		e = ipset_change(r->netns, &changes, 0);
	for (size_t i = 0; i < changes.n; i++)
		r->n_changes += changes.at[i].will && !is_unsaid(&changes.at[i]);
	if (e == 0)
		e = protect_family(r, RULES_IPV4, &r->plan->rules);
	if (e == 0 && needs_rules6(r, &changes))
		e = protect_family(r, RULES_IPV6, &r->plan->rules6);
	return e;
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
	struct items own = items_slice(&p->router, ITEM_ADDRESS, ITEM_ADDRESS);

	for (size_t i = 0; p->is_translator && i < own.n; i++)
		if (ip_is(&own.at[i].address, &public))
			return 1;
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

/* The address, or block, of an item has this one. */
static int has(const struct item *i, const struct address *address)
{
	unsigned whole = i->plen / 8, rest = i->plen % 8;
	const uint8_t *a = i->address.bytes, *b = address->bytes;

	if (!i->plen || i->address.family != address->family)
		return ip_is(&i->address, address);
	return memcmp(a, b, whole) == 0 && (!rest || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

/* It says who has an address, or a prefix of an interface. */
static int is_owner(const struct item *i)
{
	unsigned bits = i->address.family == AF_INET6 ? DELEGATION_BITS6 : DELEGATION_BITS4;

	return i->kind == ITEM_NEIGHBOUR ||
	       (i->kind == ITEM_ROUTE && i->table == RT_TABLE_MAIN && i->type == RTN_UNICAST &&
		i->via.family && i->plen == bits);
}

static int has_moved(const struct stale *s, const struct address *address)
{
	for (size_t i = 0; i < s->sets->n; i++) {
		const struct change *c = &s->sets->at[i];

		if (c->was && c->was->kind == ITEM_MEMBER && !is_unsaid(c) &&
		    has(c->was, address) &&
		    (!c->will || memcmp(c->was->mac, c->will->mac, 6) != 0) &&
		    (strncmp(c->was->name, "subnet-", 7) == 0 ||
		     strcmp(c->was->name, PLAN_LOCAL6) == 0))
			return 1;
	}
	/* IPv6 has no sets with MACs, and what IPv4's have is not always told. */
	for (size_t i = 0; i < s->inside->n; i++) {
		const struct change *c = &s->inside->at[i];

		if (c->was && is_owner(c->was) && has(c->was, address))
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
	static const char *const harmless[] = {"sg-", "pl-", "groups-"};

	for (size_t i = 0; i < c->n; i++) {
		int is_harmless = !c->at[i].was || is_unsaid(&c->at[i]);

		for (size_t k = 0; !is_harmless && k < sizeof harmless / sizeof *harmless; k++)
			is_harmless =
				strncmp(c->at[i].was->name, harmless[k], strlen(harmless[k])) == 0;
		if (!is_harmless)
			return 1;
	}
	return 0;
}

/* An address that went, or went to another guest: the sets need not show it. */
static int has_neighbour_moved(const struct changes *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->at[i].was && is_owner(c->at[i].was))
			return 1;
	return 0;
}

static int read_items(struct router *r)
{
	if (r->is_trusted)
		return 0;
	items_free(&r->netns->items);
	return netns_dump(r->netns, &r->plan->router, &r->netns->items);
}

/* What was wanted is there now. `items` is given away. */
static int know(struct router *r, struct items *items, const struct items *sets)
{
	struct netns *n = r->netns;

	items_free(&n->items);
	n->items = *items;
	*items = (struct items){0};
	n->sets.n = 0;
	for (size_t i = 0; i < sets->n; i++)
		items_copy(&n->sets, &sets->at[i]);
	n->is_known = r->error == 0 && n->sets.error == 0;
	return n->sets.error;
}

void router_connect(struct pass *p, struct router *r)
{
	OWN(items_free) struct items wanted = {0};
	struct items wanted_sets = items_slice(&r->plan->router, ITEM_SET, ITEM_MEMBER);
	OWN(changes_free) struct changes changes = {0}, set_changes = {0};
	struct stale stale = {r->plan, &set_changes, &changes};
	int e = read_items(r);

	if (e == 0)
		e = peerings_wanted(r, &wanted);
	if (e == 0)
		e = items_compare(&wanted, &r->netns->items, &changes);
	if (e == 0)
		e = items_compare(&wanted_sets, &r->netns->sets, &set_changes);
	if (e < 0) {
		router_failed(r, e, NULL);
		return;
	}
	make_all(r, &changes);
	remove_all(r, &changes);
	if (p->is_first || r->is_nat_changed || is_set_change_final(&set_changes) ||
	    has_neighbour_moved(&changes))
		e = conntrack_forget(r->netns, is_stale, &stale);
	if (e >= 0)
		e = ipset_change(r->netns, &set_changes, 1);
	if (e >= 0)
		e = know(r, &wanted, &wanted_sets);
	if (e < 0)
		router_failed(r, e, NULL);
}
