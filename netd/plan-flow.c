/* Plan, flow logs: what is logged of whom, and the chains that tell of what is rejected. */
#include "plan-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "flow-capture.h"

/* ---- chains ---- */

/* What denies in this chain denies what the source sends (-out) or what the destination gets (-in);
 * NULL: not by a customer's rule. */
static const char *way_of(const struct chain *c)
{
	size_t n = strlen(c->name);

	if (strcmp(c->table, "filter") != 0 || strncmp(c->name, "reject-", 7) == 0)
		return NULL;
	if (strcmp(c->name, "egress") == 0 || (n > 4 && strcmp(c->name + n - 4, "-out") == 0))
		return "reject-out";
	if (strcmp(c->name, "ingress") == 0 || (n > 3 && strcmp(c->name + n - 3, "-in") == 0))
		return "reject-in";
	return NULL;
}

/* Every "-j DROP" of the chain becomes a jump to what tells of it first. */
static int tell(struct chain *c, const char *way)
{
	static const char drop[] = " -j DROP\n";
	OWN(free) char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);
	const char *from = c->text ? c->text : "", *at;

	if (!out)
		return -ENOMEM;
	for (; (at = strstr(from, drop)); from = at + sizeof drop - 1)
		fprintf(out, "%.*s -j %s\n", (int)(at - from), from, way);
	fprintf(out, "%s", from);
	if (fclose(out) != 0)
		return -ENOMEM;
	free(c->text);
	c->text = give(text);
	c->n_text = n;
	return 0;
}

static int plan_rejects(struct ruleset *s)
{
	static const char *const ways[] = {"out", "in"};

	for (size_t i = 0; i < s->n; i++) {
		const char *way = way_of(&s->at[i]);

		if (way && tell(&s->at[i], way) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < 2; i++) {
		char chain[16];

		snprintf(chain, sizeof chain, "reject-%s", ways[i]);
		ruleset_chain(s, "filter", chain, "-");
		ruleset_rule(s, "filter", chain, "-j NFLOG --nflog-prefix %s --nflog-group %d",
			     ways[i], FLOW_NFLOG_GROUP);
		ruleset_rule(s, "filter", chain, "-j DROP");
	}
	return s->error;
}

/* ---- what is logged of whom ---- */

static void log_read(const json_t *log, struct flow_log *l)
{
	const char *traffic = jstr_or(log, "TrafficType", "ALL");

	snprintf(l->id, sizeof l->id, "%s", jstr_or(log, "FlowLogId", ""));
	snprintf(l->account, sizeof l->account, "%s", jstr_or(log, "_Account", ""));
	l->verdicts = (strcmp(traffic, "REJECT") != 0 ? FLOW_LOG_ACCEPT : 0u) |
		      (strcmp(traffic, "ACCEPT") != 0 ? FLOW_LOG_REJECT : 0u);
	/* Checked when it was made. */
	(void)flow_format_parse(jstr_or(log, "LogFormat", FLOW_FORMAT_DEFAULT), &l->format);
}

static int concerns(const json_t *log, const struct flow_setup *s, const struct flow_interface *i)
{
	const char *id = jstr_or(log, "ResourceId", "");

	return strcmp(id, s->vpc_id) == 0 || strcmp(id, i->subnet_id) == 0 ||
	       strcmp(id, i->id) == 0;
}

static void address_add(struct flow_setup *s, const char *text, struct address *primary)
{
	struct flow_address *a = &s->addresses[s->n_addresses];
	struct cidr6 v6;
	struct cidr v4;

	if (cidr_parse(text ? text : "", &v4) == 0) {
		a->address = ip4(cidr_first(v4));
		a->bits = v4.bits;
	} else if (cidr6_parse(text ? text : "", &v6) == 0) {
		a->address = ip6(cidr6_first(v6));
		a->bits = v6.bits;
	} else if (ip_any_parse(text ? text : "", &a->address) < 0) {
		return;
	}
	a->interface = s->n_interfaces;
	s->n_addresses++;
	if (!primary->family && !a->bits)
		*primary = a->address;
}

/* The first address is the primary one. */
static void interface_addresses(struct flow_setup *s, const json_t *eni, struct flow_interface *i)
{
	const json_t *address;
	size_t a;

	address_add(s, jstr(eni, "PrivateIpAddress"), &i->primary4);
	plan_addresses_each(of) json_array_foreach (json_object_get(eni, of->list), a,
						    address) if (!jbool(address, "Primary", 0))
		address_add(s, jstr(address, of->element),
			    of->family == AF_INET ? &i->primary4 : &i->primary6);
}

static int is_rule_asked(const struct flow_setup *s)
{
	for (size_t i = 0; i < s->n_logs; i++)
		if (flow_format_has(&s->logs[i].format, FLOW_RULE_ID))
			return 1;
	return 0;
}

/* `members`: by group, NULL if no line says its rule. */
static int interface_add(struct flow_setup *s, const struct plan_input *in, const json_t *members,
			 const json_t *eni)
{
	struct flow_interface *i = &s->interfaces[s->n_interfaces];
	const char *zone = jstr_or(eni, "AvailabilityZone", "");
	const json_t *log;
	size_t l;

	*i = (struct flow_interface){0};
	snprintf(i->id, sizeof i->id, "%s", jstr_or(eni, "NetworkInterfaceId", ""));
	snprintf(i->subnet_id, sizeof i->subnet_id, "%s", jstr_or(eni, "SubnetId", ""));
	snprintf(i->instance_id, sizeof i->instance_id, "%s",
		 jpath_str(eni, "Attachment.InstanceId") ? jpath_str(eni, "Attachment.InstanceId")
							 : "");
	if (*zone)
		zone_id(in->region, zone[strlen(zone) - 1] - 'a', i->zone_id);
	json_array_foreach (in->flow_logs, l, log)
		if (concerns(log, s, i) && i->n_logs < FLOW_LOGS_PER_INTERFACE)
			i->logs[i->n_logs++] = l;
	/* One without logs is one still: a flow within the VPC is told from one that leaves it. */
	interface_addresses(s, eni, i);
	s->n_interfaces++;
	if (!members)
		return 0;
	return plan_flow_groups(&s->rules, in, members, eni, i) < 0
		       ? -ENOMEM
		       : plan_flow_acl(&s->rules, in, i);
}

static void services_add(struct flow_setup *s, const struct plan_input *in, const struct plan *p)
{
	const json_t *subnet;
	struct cidr c;
	size_t i;

	s->services[s->n_services++] = ip4(p->dns);
	json_array_foreach (in->subnets, i, subnet)
		if (cidr_parse(jstr(subnet, "CidrBlock"), &c) == 0)
			s->services[s->n_services++] = ip4(cidr_first(c) + 1);
}

static int room(struct flow_setup *s, const struct plan_input *in)
{
	size_t n_addresses = 0, i;
	const json_t *eni;

	json_array_foreach (in->network_interfaces, i, eni) {
		n_addresses++;
		plan_addresses_each(of) n_addresses +=
			json_array_size(json_object_get(eni, of->list));
	}
	s->logs = calloc(json_array_size(in->flow_logs) + 1, sizeof *s->logs);
	s->interfaces = calloc(json_array_size(in->network_interfaces) + 1, sizeof *s->interfaces);
	s->seen = calloc(json_array_size(in->network_interfaces) + 1, 1);
	s->addresses = calloc(n_addresses + 1, sizeof *s->addresses);
	s->services = calloc(json_array_size(in->subnets) + 1, sizeof *s->services);
	return s->logs && s->interfaces && s->seen && s->addresses && s->services ? 0 : -ENOMEM;
}

static int plan_setup(const struct plan_input *in, struct plan *p)
{
	OWN(flow_setup_unref) struct flow_setup *s = calloc(1, sizeof *s);
	const json_t *log, *eni;
	size_t i;

	if (!s)
		return -ENOMEM;
	s->n_refs = 1;
	if (room(s, in) < 0)
		return -ENOMEM;
	snprintf(s->vpc_id, sizeof s->vpc_id, "%s", p->vpc_id);
	snprintf(s->region, sizeof s->region, "%s", in->region);
	json_array_foreach (in->flow_logs, i, log)
		log_read(log, &s->logs[s->n_logs++]);
	OWN(json_decref) json_t *members = is_rule_asked(s) ? plan_flow_members(in) : NULL;

	if (is_rule_asked(s) && !members)
		return -ENOMEM;
	json_array_foreach (in->network_interfaces, i, eni)
		if (interface_add(s, in, members, eni) < 0)
			return -ENOMEM;
	services_add(s, in, p);
	flow_setup_sort(s);
	p->flows = give(s);
	return 0;
}

/* Counting costs every packet a little, so only those pay for it who look. Events for all flows,
 * not only for those that began while somebody listened: netd may be restarting. */
int plan_flows(const struct plan_input *in, struct plan *p)
{
	int is_logged = json_array_size(in->flow_logs) > 0, r;

	plan_sysctl(&p->router, "netfilter/nf_conntrack_acct", "", is_logged ? "1" : "0");
	plan_sysctl(&p->router, "netfilter/nf_conntrack_timestamp", "", is_logged ? "1" : "0");
	plan_sysctl(&p->router, "netfilter/nf_conntrack_events", "", is_logged ? "1" : "2");
	if (!is_logged)
		return 0;
	if ((r = plan_rejects(&p->rules)) < 0 ||
	    (p->has_ipv6 && (r = plan_rejects(&p->rules6)) < 0))
		return r;
	return plan_setup(in, p);
}
