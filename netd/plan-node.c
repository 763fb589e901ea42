/* Plan, nodes: interfaces that live in a namespace of their own. */
#include "plan-internal.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

/* Everything comes and goes by the router: no redirects, no opinion about ways back. */
static const struct {
	const char *path, *value;
} node_sysctls[] = {
	{"ipv4/conf/all/accept_redirects", "0"}, {"ipv4/conf/all/rp_filter", "0"},
	{"ipv4/conf/all/send_redirects", "0"},	 {"ipv4/conf/default/accept_redirects", "0"},
	{"ipv4/conf/default/rp_filter", "0"},	 {"ipv4/conf/default/send_redirects", "0"},
	{"ipv4/conf/eth0/rp_filter", "0"},	 {"ipv4/conf/eth0/send_redirects", "0"},
	{"ipv6/conf/all/disable_ipv6", "1"},	 {"ipv6/conf/default/disable_ipv6", "1"},
};

/* What is inside, by kind. */
static const struct {
	const char *kind;
	void (*rules)(struct node *n);
} kinds[] = {{"nat", plan_node_nat}};

static void plan_port(struct plan *p, const json_t *eni, const struct plan_guest *like)
{
	const char *port = jstr(eni, "_Tap");
	struct item *i = plan_link(&p->host, ITEM_VETH, port, PLAN_MTU, ITEM_GUEST_PORT,
				   jstr(eni, "NetworkInterfaceId"));

	id_link_name('b', jstr_or(eni, "SubnetId", ""), i->link);
	plan_fdb(&p->host, port, like->mac);
	plan_sysctl(&p->host, "ipv6/conf/%s/disable_ipv6", port, "1");
}

static int plan_inside(struct plan *p, const json_t *eni, const struct plan_guest *like)
{
	const json_t *private;
	struct item *i;
	uint32_t address;
	size_t a;

	for (size_t s = 0; s < sizeof node_sysctls / sizeof *node_sysctls; s++)
		plan_sysctl(&p->router, node_sysctls[s].path, "", node_sysctls[s].value);
	(void)plan_link(&p->router, ITEM_LEG, "lo", 0, 0, NULL);
	memcpy(plan_link(&p->router, ITEM_LEG, "eth0", PLAN_MTU, 0, NULL)->mac, like->mac, 6);
	json_array_foreach (json_object_get(eni, "PrivateIpAddresses"), a, private) {
		if (ip_parse(jstr(private, "PrivateIpAddress"), &address) < 0)
			return -EINVAL;
		plan_address_add(&p->router, "eth0", address, 32);
	}
	i = items_add(&p->router, ITEM_NEIGHBOUR, "eth0");
	i->address = ip4(like->gateway);
	memcpy(i->mac, plan_leg_mac, 6);
	i = plan_route_add(&p->router, RT_TABLE_MAIN, (struct cidr){0, 0}, RTN_UNICAST);
	i->via = ip4(like->gateway);
	snprintf(i->link, sizeof i->link, "eth0");
	return 0;
}

static int plan_kind(struct plan *p, const json_t *eni)
{
	struct node n = {.plan = p, .eni = eni};

	for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
		if (strcmp(kinds[k].kind, jstr_or(eni, "_Node", "")) == 0) {
			kinds[k].rules(&n);
			return p->rules.error;
		}
	return -EINVAL;
}

static int nodes_add(struct plan *p, struct plan *node)
{
	struct plan **grown = realloc(p->nodes, (p->n_nodes + 1) * sizeof *grown);

	if (!grown)
		return -ENOMEM;
	p->nodes = grown;
	grown[p->n_nodes++] = node;
	return 0;
}

int plan_node(struct making *m, const json_t *eni, const struct plan_guest *like)
{
	OWN(plan_free) struct plan *p = calloc(1, sizeof *p);
	int r;

	if (!p)
		return -ENOMEM;
	snprintf(p->vpc_id, sizeof p->vpc_id, "%s", m->p->vpc_id);
	snprintf(p->node_id, sizeof p->node_id, "%s", jstr(eni, "NetworkInterfaceId"));
	plan_netns_name(p->node_id, p->netns);
	plan_port(p, eni, like);
	if ((r = plan_inside(p, eni, like)) < 0 || (r = plan_kind(p, eni)) < 0 ||
	    (r = items_sort(&p->router)) < 0 || (r = items_sort(&p->host)) < 0 ||
	    (r = ruleset_sort(&p->rules)) < 0)
		return r;
	r = nodes_add(m->p, p);
	if (r == 0)
		p = NULL;
	return r;
}
