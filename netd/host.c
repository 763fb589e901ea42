/* Host: netd's few marks on the user's own network. */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include "plan.h"

#define POOL_METRIC 65535 /* any route that the user has for the pool comes first */

/* ---- the default route ---- */

struct uplink {
	int index;
	uint32_t metric;
};

static int on_default(struct nlmsghdr *h, void *arg)
{
	struct uplink *u = arg;
	const struct rtmsg *m = nlmsg_data(h);
	struct nlattr *a[RTA_MAX + 1];
	uint32_t metric;

	if (m->rtm_dst_len || m->rtm_type != RTN_UNICAST || m->rtm_table != RT_TABLE_MAIN ||
	    nlmsg_parse(h, sizeof *m, a, RTA_MAX, NULL) < 0)
		return 0;
	metric = a[RTA_PRIORITY] ? nla_get_u32(a[RTA_PRIORITY]) : 0;
	if (a[RTA_OIF] && (!u->index || metric < u->metric))
		*u = (struct uplink){(int)nla_get_u32(a[RTA_OIF]), metric};
	return 0;
}

static void forget(void *arg)
{
	*(struct uplink *)arg = (struct uplink){0};
}

static int on_name(struct nlmsghdr *h, void *arg)
{
	struct nlattr *a[IFLA_MAX + 1];

	if (nlmsg_parse(h, sizeof(struct ifinfomsg), a, IFLA_MAX, NULL) == 0 && a[IFLA_IFNAME])
		snprintf(arg, 16, "%s", nla_get_string(a[IFLA_IFNAME]));
	return 0;
}

int host_uplink(const struct netns *host, enum rules_family family, char ret_name[static 16])
{
	const struct rtmsg h = {.rtm_family = family == RULES_IPV6 ? AF_INET6 : AF_INET};
	struct ifinfomsg link = {0};
	struct uplink u = {0};
	int r = netlink_dump(host->route, netlink_message(RTM_GETROUTE, 0, &h, sizeof h),
			     on_default, forget, &u);

	ret_name[0] = '\0';
	if (r < 0 || !u.index)
		return r;
	link.ifi_index = u.index;
	return netlink_get(host->route, netlink_message(RTM_GETLINK, 0, &link, sizeof link),
			   on_name, ret_name);
}

/* ---- what we want there ---- */

/* A guest's packets come from the pool: whatever else a gateway's link brings fails its strict
 * reverse path filtering (or, IPv6, the router's own check of sources). */
static void plan_input(const char *pool, struct ruleset *rules)
{
	ruleset_chain(rules, "filter", "gureum-input", "-");
	ruleset_rule(rules, "filter", "gureum-input",
		     "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN");
	ruleset_rule(rules, "filter", "gureum-input", "-s %s -j DROP", pool);
}

/* By the pool alone, anyone outside who claims an address of it would pass the owner's firewall to
 * what else is behind this host: so by how the names of gateways' links begin, too. */
static void plan_chains(enum rules_family family, const char *pool, const char *uplink,
			struct ruleset *rules)
{
	const char *gateways = family == RULES_IPV6 ? "gx" : "g";

	ruleset_chain(rules, "filter", "gureum-forward", "-");
	for (const char *g = gateways; *g; g++) {
		ruleset_rule(rules, "filter", "gureum-forward", "-s %s -i %c+ -j ACCEPT", pool, *g);
		ruleset_rule(rules, "filter", "gureum-forward", "-d %s -o %c+ -j ACCEPT", pool, *g);
	}
	if (!uplink[0])
		return;
	ruleset_chain(rules, "nat", "gureum-postrouting", "-");
	ruleset_rule(rules, "nat", "gureum-postrouting", "-s %s ! -d %s -o %s -j MASQUERADE", pool,
		     pool, uplink);
}

/* Only of the uplink, not of all links: netd does not make a router of the machine. An uplink that
 * is away gets it when it comes. */
static void plan_forwarding(enum rules_family family, const char *uplink, struct items *items)
{
	const char *setting = family == RULES_IPV6 ? "force_forwarding" : "forwarding";
	const char *version = family == RULES_IPV6 ? "ipv6" : "ipv4";
	char path[64];
	struct item *i;

	snprintf(path, sizeof path, "/proc/sys/net/%s/conf/%s", version, uplink);
	if (access(path, F_OK) < 0)
		return;
	i = items_add(items, ITEM_SYSCTL, NULL);
	snprintf(i->name, sizeof i->name, "%s/conf/%s/%s", version, uplink, setting);
	snprintf(i->text, sizeof i->text, "1");
}

/* An address of the pool that nobody has must not leave by the default route. */
static void plan_pool_route(const struct host_settings *s, enum rules_family family,
			    struct items *items)
{
	struct item *i = items_add(items, ITEM_ROUTE, NULL);

	i->table = RT_TABLE_MAIN;
	i->address = family == RULES_IPV6 ? ip6(cidr6_first(s->ipv6_pool))
					  : ip4(cidr_first(s->public_pool));
	i->plen = family == RULES_IPV6 ? s->ipv6_pool.bits : s->public_pool.bits;
	i->metric = POOL_METRIC;
	i->type = RTN_UNREACHABLE;
}

int host_plan(const struct host_settings *s, const struct netns *host, enum rules_family family,
	      int is_used, struct items *items, struct ruleset *ret_rules)
{
	OWN(ruleset_free) struct ruleset rules = {0};
	char uplink[16], pool[CIDR6_TEXT_MAX];
	int r = 0;

	snprintf(uplink, sizeof uplink, "%s", strcmp(s->uplink, "none") == 0 ? "" : s->uplink);
	if (is_used && strcmp(uplink, "auto") == 0)
		r = host_uplink(host, family, uplink);
	if (r < 0)
		return r;
	if (family == RULES_IPV6)
		cidr6_format(s->ipv6_pool, pool);
	else
		cidr_format(s->public_pool, pool);
	if (is_used) {
		plan_chains(family, pool, uplink, &rules);
		if (!s->is_host_reachable)
			plan_input(pool, &rules);
		plan_pool_route(s, family, items);
	}
	if (is_used && uplink[0])
		plan_forwarding(family, uplink, items);
	r = ruleset_sort(&rules);
	if (r < 0)
		return r;
	*ret_rules = rules;
	rules = (struct ruleset){0};
	return 0;
}

/* ---- chains ---- */

static const struct jump {
	const char *table, *from, *to;
} jumps[] = {{"filter", "FORWARD", "gureum-forward"},
	     {"filter", "INPUT", "gureum-input"},
	     {"nat", "POSTROUTING", "gureum-postrouting"}};

static int is_jumped_from(const struct chain *c)
{
	for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++)
		if (strcmp(c->table, jumps[i].table) == 0 && strcmp(c->name, jumps[i].from) == 0)
			return 1;
	return 0;
}

static int is_ours(const struct chain *c)
{
	return strncmp(c->name, "gureum-", 7) == 0;
}

static int is_interesting(const struct chain *c)
{
	return is_ours(c) || is_jumped_from(c);
}

static int has_jump(const struct ruleset *chains, const struct jump *j)
{
	char line[96];

	snprintf(line, sizeof line, "-A %s -j %s\n", j->from, j->to);
	for (size_t i = 0; i < chains->n; i++)
		if (strcmp(chains->at[i].table, j->table) == 0 &&
		    strcmp(chains->at[i].name, j->from) == 0)
			return chains->at[i].text && strstr(chains->at[i].text, line);
	return 0;
}

/* Ours only: the user's chains are neither wanted nor to be removed. */
static int transaction(const struct ruleset *wanted, const struct ruleset *there, char **ret_text,
		       size_t *ret_n)
{
	struct ruleset ours = {0};
	int r;

	ours.at = calloc(there->n + 1, sizeof *ours.at);
	if (!ours.at)
		return -ENOMEM;
	for (size_t i = 0; i < there->n; i++)
		if (is_ours(&there->at[i]))
			ours.at[ours.n++] = there->at[i];
	r = ruleset_transaction(wanted, &ours, ret_text, ret_n);
	free(ours.at); /* the texts are still theirs */
	return r;
}

/* A jump is taken out before its chain goes, and put in (at the front) after its chain came. */
static int apply_jumps(struct netns *host, enum rules_family family, const struct ruleset *rules,
		       int is_adding)
{
	char text[160];
	int n = 0, r;

	for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
		const struct jump *j = &jumps[i];
		int is_wanted = ruleset_has(rules, j->table, j->to);

		if (is_wanted != is_adding || has_jump(&host->chains[family], j) == is_wanted)
			continue;
		snprintf(text, sizeof text, "*%s\n%s %s -j %s\nCOMMIT\n", j->table,
			 is_wanted ? "-I" : "-D", j->from, j->to);
		r = iptables_restore(host, family, text);
		if (r < 0)
			return r;
		n++;
	}
	return n;
}

int host_apply_rules(struct netns *host, enum rules_family family, const struct ruleset *rules)
{
	OWN(free) char *text = NULL;
	size_t n = 0;
	int r = iptables_dump(host, family, is_interesting), out = 0, in = 0;

	if (r == 0)
		r = out = apply_jumps(host, family, rules, 0);
	if (r >= 0)
		r = transaction(rules, &host->chains[family], &text, &n);
	if (r == 0 && text)
		r = iptables_restore(host, family, text);
	if (r == 0)
		r = in = apply_jumps(host, family, rules, 1);
	return r < 0 ? r : (int)n + out + in;
}

/* ---- bridges and iptables ---- */

static const char *const bridge_filters[] = {
	"/proc/sys/net/bridge/bridge-nf-call-iptables",
	"/proc/sys/net/bridge/bridge-nf-call-ip6tables",
	"/proc/sys/net/bridge/bridge-nf-call-arptables",
};

/* The machine's first namespace, and only that, has this setting. */
static int is_machines_own(void)
{
	return access("/proc/sys/net/core/netdev_max_backlog", F_OK) == 0;
}

int host_bridge_filter(void)
{
	int is_on = 0;

	for (size_t i = 0; i < sizeof bridge_filters / sizeof *bridge_filters; i++) {
		OWN(fd_close) int fd = open(bridge_filters[i], O_RDWR | O_CLOEXEC);
		char value = '0';

		if (fd < 0 || read(fd, &value, 1) != 1 || value == '0')
			continue;
		if (is_machines_own() || pwrite(fd, "0", 1, 0) != 1)
			is_on = 1;
	}
	return is_on;
}
