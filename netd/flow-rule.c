/* Flow rules: the rule that let a flow pass. */
#include "flow-rule.h"

#include <stdlib.h>
#include <string.h>
#include "flow-line.h"

void flow_rules_clear(struct flow_rules *r)
{
	free(r->nets);
	free(r->rules);
	free(r->groups);
	*r = (struct flow_rules){0};
}

int flow_rules_are_same(const struct flow_rules *a, const struct flow_rules *b)
{
	return a->n_nets == b->n_nets && a->n_rules == b->n_rules && a->n_groups == b->n_groups &&
	       (!a->n_nets || memcmp(a->nets, b->nets, a->n_nets * sizeof *a->nets) == 0) &&
	       (!a->n_rules || memcmp(a->rules, b->rules, a->n_rules * sizeof *a->rules) == 0) &&
	       (!a->n_groups || memcmp(a->groups, b->groups, a->n_groups * sizeof *a->groups) == 0);
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
	if ((c->protocol != IPPROTO_TCP && c->protocol != IPPROTO_UDP) || r->from == -1)
		return 1;
	return c->destination_port >= r->from && c->destination_port <= r->to;
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
