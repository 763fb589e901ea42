/* Plan: a VPC's documents become what should be in the kernel. (Its rooms: plan-internal.h.) */
#include "plan-internal.h"

#include <errno.h>
#include <string.h>

/* Of a new namespace and its future links. */
static const struct {
	const char *path, *value;
} router_sysctls[] = {
	{"ipv4/conf/all/accept_redirects", "0"},
	{"ipv4/conf/all/rp_filter", "0"},
	{"ipv4/conf/all/send_redirects", "0"},
	{"ipv4/conf/default/accept_redirects", "0"},
	{"ipv4/conf/default/rp_filter", "0"},
	{"ipv4/conf/default/send_redirects", "0"},
	{"ipv4/ip_forward", "1"},
};

int plan_is_active(const json_t *network_interface)
{
	return (jstr(json_object_get(network_interface, "Attachment"), "InstanceId") ||
		jstr(network_interface, "_Node")) &&
	       jstr(network_interface, "_Tap") != NULL;
}

void plan_netns_name(const char *id, char ret_name[static ID_MAX + 8])
{
	snprintf(ret_name, ID_MAX + 8, "gureum-%s", id);
}

int plan_bad(struct making *m, const json_t *doc, const char *id_member)
{
	snprintf(m->what, ID_MAX, "%s", jstr_or(doc, id_member, "?"));
	return -EINVAL;
}

const json_t *plan_find(const json_t *array, const char *member, const char *value)
{
	const json_t *o;
	size_t i;

	json_array_foreach (array, i, o)
		if (value && strcmp(jstr_or(o, member, ""), value) == 0)
			return o;
	return NULL;
}

uint32_t plan_transit(const struct making *m)
{
	return m->settings->transit + 2 * m->index;
}

/* ---- the whole ---- */

static void plan_set(struct items *s, const char *name)
{
	struct item *i = items_add(s, ITEM_SET, name);

	snprintf(i->text, sizeof i->text, "hash:ip");
}

static void servers_from(const json_t *configuration, struct plan *p, uint32_t servers[static 4],
			 size_t *n)
{
	const json_t *value;
	size_t i;

	json_array_foreach (json_object_get(configuration, "Values"), i, value) {
		const char *text = jstr_or(value, "Value", "");

		if (*n < 4 && ip_parse(text, &servers[*n]) == 0)
			(*n)++;
		else if (*n < 4 && strcmp(text, "AmazonProvidedDNS") == 0 && p->has_dns)
			servers[(*n)++] = p->dns;
	}
}

static const char *first_value(const json_t *configuration)
{
	return jstr_or(json_array_get(json_object_get(configuration, "Values"), 0), "Value", "");
}

/* What DHCP and DNS say. Source: VPC user guide, "DHCP option sets in Amazon VPC", "DNS attributes
 * for your VPC". */
static void plan_names(struct making *m)
{
	struct plan *p = m->p;
	const json_t *configuration;
	size_t i;

	p->has_dns = jbool(m->in->vpc, "_EnableDnsSupport", 1);
	p->has_names = p->has_dns && jbool(m->in->vpc, "_EnableDnsHostnames", 0);
	if (strcmp(m->in->region, "us-east-1") == 0)
		snprintf(p->zone, sizeof p->zone, "ec2.internal");
	else
		snprintf(p->zone, sizeof p->zone, "%s.compute.internal", m->in->region);
	json_array_foreach (json_object_get(m->in->dhcp_options, "DhcpConfigurations"), i,
			    configuration) {
		const char *key = jstr_or(configuration, "Key", "");

		if (strcmp(key, "domain-name") == 0)
			snprintf(p->domain, sizeof p->domain, "%s", first_value(configuration));
		else if (strcmp(key, "domain-name-servers") == 0)
			servers_from(configuration, p, p->dns_servers, &p->n_dns_servers);
		else if (strcmp(key, "ntp-servers") == 0)
			servers_from(configuration, p, p->ntp_servers, &p->n_ntp_servers);
		else if (strcmp(key, "netbios-name-servers") == 0)
			servers_from(configuration, p, p->netbios_servers, &p->n_netbios_servers);
		else if (strcmp(key, "netbios-node-type") == 0)
			p->netbios_node = (uint8_t)strtoul(first_value(configuration), NULL, 10);
	}
}

static int plan_router(struct making *m)
{
	struct items *s = &m->p->router;

	for (size_t i = 0; i < sizeof router_sysctls / sizeof *router_sysctls; i++)
		plan_sysctl(s, router_sysctls[i].path, "", router_sysctls[i].value);
	if (plan_ipv6_router(m) < 0)
		return -EINVAL;
	(void)plan_link(s, ITEM_LEG, "lo", 0, 0, NULL);
	plan_address_add(s, "lo", ADDRESS_IMDS, 32);
	plan_address_add(s, "lo", ADDRESS_DNS, 32);
	plan_address_add(s, "lo", m->p->dns, 32);
	plan_set(s, "local");
	plan_set(s, "public");
	return 0;
}

/* Those with an interface in use. */
static int plan_subnets(struct making *m)
{
	OWN(json_decref) json_t *used = json_object();
	const json_t *subnet, *eni;
	size_t i;
	int r = used ? 0 : -ENOMEM;

	json_array_foreach (m->in->network_interfaces, i, eni)
		if (r == 0 &&
		    json_object_set_new(used, jstr_or(eni, "SubnetId", ""), json_true()) < 0)
			r = -ENOMEM;
	json_array_foreach (m->in->subnets, i, subnet)
		if (r == 0 && json_object_get(used, jstr_or(subnet, "SubnetId", "?")))
			r = plan_subnet(m, subnet);
	return r;
}

/* About what each interface is in the kernel: lists that grow by and by are copied as often. */
#define ROUTER_ITEMS 6
#define HOST_ITEMS   5

static int plan_parts(struct making *m)
{
	const json_t *eni;
	size_t j, n_room = 0;
	int r;

	plan_names(m);
	if ((r = plan_router(m)) < 0)
		return r;
	if (m->igw)
		plan_gateway(m);
	if ((r = plan_peerings(m)) < 0)
		return r;
	plan_ipv6_gateways(m);
	if ((r = plan_subnets(m)) < 0)
		return r;
	json_array_foreach (m->in->network_interfaces, j, eni)
		n_room += json_array_size(json_object_get(eni, "PrivateIpAddresses"));
	m->p->guests = calloc(n_room + 1, sizeof *m->p->guests);
	if (!m->p->guests || items_reserve(&m->p->router, n_room * ROUTER_ITEMS) < 0 ||
	    items_reserve(&m->p->host, n_room * HOST_ITEMS) < 0)
		return -ENOMEM;
	json_array_foreach (m->in->network_interfaces, j, eni)
		if ((r = plan_interface(m, eni)) < 0)
			return r;
	m->p->is_idle = m->p->n_guests == 0 && json_array_size(m->in->peers) == 0;
	return 0;
}

/* The documents with those interfaces alone that are in use: no room of the plan asks again. */
static int choose(const struct plan_input *in, struct plan_input *ret_used)
{
	OWN(json_decref) json_t *chosen = json_array();
	json_t *eni;
	size_t i;

	json_array_foreach (in->network_interfaces, i, eni)
		if (plan_is_active(eni) && json_array_append(chosen, eni) < 0)
			return -ENOMEM;
	if (!chosen)
		return -ENOMEM;
	*ret_used = *in;
	ret_used->network_interfaces = give(chosen);
	return 0;
}

static int make(const struct plan_settings *settings, const struct plan_input *in,
		struct plan **ret_plan, char ret_what[static ID_MAX])
{
	OWN(plan_free) struct plan *p = calloc(1, sizeof *p);
	struct making m = {.settings = settings, .in = in, .p = p, .what = ret_what};
	const json_t *igw, *egress, *attachment;
	struct cidr cidr;
	size_t i, a;
	int r;

	ret_what[0] = '\0';
	if (!p)
		return -ENOMEM;
	snprintf(p->vpc_id, sizeof p->vpc_id, "%s", jstr_or(in->vpc, "VpcId", ""));
	plan_netns_name(p->vpc_id, p->netns);
	m.index = (uint32_t)jint(in->vpc, "_Index", 0);
	if (cidr_parse(jstr(in->vpc, "CidrBlock"), &cidr) < 0 ||
	    2 * m.index >> (32 - settings->transit_plen))
		return plan_bad(&m, in->vpc, "VpcId");
	p->dns = cidr_first(cidr) + 2;
	json_array_foreach (in->internet_gateways, i, igw)
		json_array_foreach (json_object_get(igw, "Attachments"), a, attachment)
			if (strcmp(jstr_or(attachment, "VpcId", ""), p->vpc_id) == 0)
				m.igw = jstr(igw, "InternetGatewayId");
	json_array_foreach (in->egress_only_gateways, i, egress)
		m.egress = jstr(egress, "EgressOnlyInternetGatewayId");
	id_link_name('g', p->vpc_id, m.igw_link);
	if ((r = plan_parts(&m)) < 0 || (r = plan_rules(in, p)) < 0 ||
	    (r = plan_rules6(in, p)) < 0 || (r = plan_flows(in, p)) < 0)
		return r;
	if ((r = items_sort(&p->router)) < 0 || (r = items_sort(&p->host)) < 0 ||
	    (r = ruleset_sort(&p->rules)) < 0 || (r = ruleset_sort(&p->rules6)) < 0)
		return r;
	*ret_plan = give(p);
	return 0;
}

int plan_make(const struct plan_settings *settings, const struct plan_input *in,
	      struct plan **ret_plan, char ret_what[static ID_MAX])
{
	struct plan_input used;
	int r = choose(in, &used);

	if (r < 0)
		return r;
	r = make(settings, &used, ret_plan, ret_what);
	json_decref(used.network_interfaces);
	return r;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	items_free(&p->router);
	items_free(&p->host);
	ruleset_free(&p->rules);
	ruleset_free(&p->rules6);
	for (size_t i = 0; i < p->n_nodes; i++)
		plan_free(p->nodes[i]);
	free(p->nodes);
	json_decref(p->peer_names);
	json_decref(p->watched);
	free(p->guests);
	flow_setup_unref(p->flows);
	free(p->guests6);
	free(p);
}

static void print_items(const char *title, const struct items *s, FILE *out)
{
	fprintf(out, "# %s\n", title);
	for (size_t i = 0; i < s->n; i++) {
		item_print(&s->at[i], out);
		fputc('\n', out);
	}
}

void plan_print(const struct plan *p, FILE *out)
{
	fprintf(out, "# %s in %s%s\n", p->vpc_id, p->netns, p->is_idle ? ", idle" : "");
	print_items("host", &p->host, out);
	print_items("router", &p->router, out);
	fprintf(out, "# rules\n");
	ruleset_print(&p->rules, out);
	if (p->has_ipv6) {
		fprintf(out, "# rules, IPv6\n");
		ruleset_print(&p->rules6, out);
	}
	fprintf(out, "# names: zone %s, domain %s, %zu resolvers\n", p->zone, p->domain,
		p->n_dns_servers);
	for (size_t i = 0; i < p->n_guests; i++)
		fprintf(out, "guest %s on %s%s%s%s\n", p->guests[i].host_name, p->guests[i].leg,
			p->guests[i].is_primary ? " primary" : "",
			p->guests[i].public_name[0] ? " " : "", p->guests[i].public_name);
	for (size_t i = 0; i < p->n_nodes; i++) {
		fputc('\n', out);
		plan_print(p->nodes[i], out);
	}
}

/* What is printed is all there is. */
static char *plan_text(const struct plan *p)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	if (!out)
		return NULL;
	plan_print(p, out);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

int plan_is_same(const struct plan *a, const struct plan *b)
{
	if (!a || !b)
		return a == b;
	OWN(free) char *one = plan_text(a), *two = plan_text(b);

	return one && two && strcmp(one, two) == 0;
}
