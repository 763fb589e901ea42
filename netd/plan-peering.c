/* Plan, peering: a link from one VPC's router to another's, and what may come over it.
 *
 * Both ends have the same name, made of the connection's id. A router has no address on it: the far
 * router is a neighbour that is known by its MAC alone, so that a VPC may have any number of such
 * links. What comes in is for this VPC's own addresses and nothing else: neither the router itself,
 * nor the gateway, nor another peer (peering is not transitive), and it must not claim to come from
 * here. */
#include "plan-internal.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#define FAR_ROUTER 0xa9fe6401u /* 169.254.100.1: only ever a neighbour, never an address */

static const uint8_t ends[2][6] = {{0x02, 0x67, 0x75, 0x00, 0x00, 0x03},
				   {0x02, 0x67, 0x75, 0x00, 0x00, 0x04}};

static const struct {
	const char *path, *value;
} link_sysctls[] = {
	{"ipv4/conf/%s/rp_filter", "0"},
	{"ipv4/conf/%s/send_redirects", "0"},
};

static void plan_peer(struct making *m, const json_t *peer)
{
	struct items *s = &m->p->router;
	int is_requester = jbool(peer, "IsRequester", 0);
	struct item *i;
	char link[16];

	id_link_name(PLAN_PEERING_LETTER, jstr_or(peer, "VpcPeeringConnectionId", ""), link);
	memcpy(plan_link(s, ITEM_PEERING, link, PLAN_MTU, 0, jstr_or(peer, "VpcId", ""))->mac,
	       ends[!is_requester], 6);
	for (size_t k = 0; k < sizeof link_sysctls / sizeof *link_sysctls; k++)
		plan_sysctl(s, link_sysctls[k].path, link, link_sysctls[k].value);
	i = items_add(s, ITEM_NEIGHBOUR, link);
	i->address = ip4(FAR_ROUTER);
	memcpy(i->mac, ends[is_requester], 6);
	plan_ipv6_peer(m, link, ends[is_requester]);
	(void)plan_table(m, PLAN_TABLE_PEERING, link, NULL,
			 NULL); /* fails only for routes, and there are none */
}

int plan_peerings(struct making *m)
{
	const json_t *peer;
	size_t i;

	m->p->peer_names = json_incref(m->in->peer_names);
	m->p->watched = json_array();
	json_array_foreach (m->in->peers, i, peer) {
		plan_peer(m, peer);
		if (jbool(peer, "IsWatched", 0) &&
		    json_array_append(m->p->watched, json_object_get(peer, "VpcId")) < 0)
			return -ENOMEM;
	}
	return m->p->watched ? 0 : -ENOMEM;
}

int plan_peer_group(const struct plan_input *in, struct items *s, int family, const char *id,
		    const char *set)
{
	json_t *list = json_object_get(in->peer_groups, id), *text;
	size_t i;
	int n = 0;

	json_array_foreach (list, i, text) {
		int of = plan_members(NULL, NULL, json_string_value(text), NULL);

		if (of < 0)
			return of;
		if (of != family)
			continue;
		n++;
		(void)plan_members(s, set, json_string_value(text), NULL); /* it can be read */
	}
	return n;
}

int plan_route_to_peer(const struct making *m, struct item *i, const char *peering_id)
{
	if (!plan_find(m->in->peers, "VpcPeeringConnectionId", peering_id))
		return -1;
	i->via = i->address.family == AF_INET6 ? plan_ipv6_far_router() : ip4(FAR_ROUTER);
	id_link_name(PLAN_PEERING_LETTER, peering_id, i->link);
	return 0;
}

int plan_has_peers(const struct plan *p)
{
	for (size_t i = 0; i < p->router.n; i++)
		if (p->router.at[i].kind == ITEM_PEERING)
			return 1;
	return 0;
}
