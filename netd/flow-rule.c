/* Flow rules: the rule that let a flow pass, the entry that denied it. */
#include "flow-rule.h"

#include <stdlib.h>
#include <string.h>
#include "flow-line.h"

void flow_rules_clear(struct flow_rules *r)
{
	free(r->nets);
	free(r->rules);
	free(r->groups);
	free(r->entries);
	free(r->acls);
	*r = (struct flow_rules){0};
}

static int are_same(const void *a, size_t n_a, const void *b, size_t n_b, size_t size)
{
	return n_a == n_b && (!n_a || memcmp(a, b, n_a * size) == 0);
}

int flow_rules_are_same(const struct flow_rules *a, const struct flow_rules *b)
{
#define SAME(list) are_same(a->list, a->n_##list, b->list, b->n_##list, sizeof *a->list)
	return SAME(nets) && SAME(rules) && SAME(groups) && SAME(entries) && SAME(acls);
#undef SAME
}

static int net_has(const struct flow_net *n, const struct address *a)
{
	unsigned bytes = n->bits / 8, bits = n->bits % 8;

	if (n->address.family != a->family || memcmp(n->address.bytes, a->bytes, bytes) != 0)
		return 0;
	return !bits || (n->address.bytes[bytes] ^ a->bytes[bytes]) >> (8 - bits) == 0;
}

/* Connection tracking makes flows of ICMP's questions only, and those that anybody asks are echoes:
 * a rule for that type fits, and for no other. */
static int icmp_fits(const struct flow_rule *r, int echo)
{
	return r->from == -1 || (r->from == echo && (r->to == -1 || r->to == 0));
}

static int port_fits(int from, int to, const struct flow_count *c)
{
	if ((c->protocol != IPPROTO_TCP && c->protocol != IPPROTO_UDP) || from == -1)
		return 1;
	return c->destination_port >= from && c->destination_port <= to;
}

static int protocol_fits(const struct flow_rule *r, const struct flow_count *c)
{
	if (r->protocol == -1)
		return 1;
	if (r->protocol != c->protocol)
		return 0;
	if (c->protocol == IPPROTO_ICMP)
		return icmp_fits(r, 8);
	if (c->protocol == IPPROTO_ICMPV6)
		return icmp_fits(r, 128);
	return port_fits(r->from, r->to, c);
}

static int fits(const struct flow_rules *all, const struct flow_rule *r, const struct flow_count *c,
		int is_egress)
{
	const struct address *peer = is_egress ? &c->destination : &c->source;

	if (r->is_egress != is_egress || !protocol_fits(r, c))
		return 0;
	for (size_t i = 0; i < r->n_nets; i++)
		if (net_has(&all->nets[r->first_net + i], peer))
			return 1;
	return 0;
}

const struct flow_rule *flow_rules_find(const struct flow_rules *all, const unsigned short *groups,
					size_t n_groups, const struct flow_count *c, int is_egress)
{
	for (size_t g = 0; g < n_groups; g++) {
		const struct flow_group *group = &all->groups[groups[g]];

		for (size_t i = 0; i < group->n_rules; i++) {
			const struct flow_rule *r = &all->rules[group->first_rule + i];

			if (fits(all, r, c, is_egress))
				return r;
		}
	}
	return NULL;
}

/* Of a rejected packet of ICMP the type and code are known. */
static int entry_fits(const struct flow_entry *e, const struct flow_count *c, int is_egress)
{
	if (e->is_egress != is_egress ||
	    !net_has(&e->net, is_egress ? &c->destination : &c->source))
		return 0;
	if (e->protocol == -1)
		return 1;
	if (e->protocol != c->protocol)
		return 0;
	if (c->protocol == IPPROTO_ICMP || c->protocol == IPPROTO_ICMPV6)
		return e->from == -1 ||
		       (e->from == c->icmp[0] && (e->to == -1 || e->to == c->icmp[1]));
	return port_fits(e->from, e->to, c);
}

const struct flow_entry *flow_acl_find(const struct flow_rules *all, size_t acl,
				       const struct flow_count *c, int is_egress)
{
	const struct flow_acl *a = &all->acls[acl];

	for (size_t i = 0; i < a->n_entries; i++) {
		const struct flow_entry *e = &all->entries[a->first_entry + i];

		if (entry_fits(e, c, is_egress))
			return e->is_allow ? NULL : e;
	}
	return NULL;
}
