/* Host, for the operator: what of this machine stands in the way of guests, and how to mend it. */
#include "host-doctor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/netfilter.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <string.h>
#include "firewall.h"
#include "plan.h"

#define TEXT_OF_(x) #x
#define TEXT_OF(x)  TEXT_OF_(x)

void host_finding(json_t *list, const char *check, int is_ok, const char *format, ...)
{
	char text[400];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args); /* one cut short is one still */
	va_end(args);
	/* One that memory lacks for is left out. */
	(void)json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "Name", check, "State",
						    is_ok ? "ok" : "warning", "Text", text));
}

/* ---- what is done with packets ---- */

static void check_uplink(json_t *list, const struct host_settings *s, const struct netns *host)
{
	char uplink[16] = "";
	int is_there;

	if (strcmp(s->uplink, "auto") == 0)
		(void)host_uplink(host, RULES_IPV4, uplink); /* empty: reported below */
	else
		snprintf(uplink, sizeof uplink, "%s", s->uplink);
	is_there = uplink[0] && strcmp(uplink, "none") != 0;
	host_finding(list, "uplink", is_there, "%s%s",
		     is_there ? "guests reach the outside through "
			      : "guests do not reach the outside: there is no default route, or "
				"[Network] Uplink=none",
		     is_there ? uplink : "");
}

static void check_bridge_filter(json_t *list)
{
	int is_on = host_bridge_filter();

	host_finding(
		list, "bridge-netfilter", !is_on, "%s",
		is_on ? "net.bridge.bridge-nf-call-iptables is 1: the host's firewall sees and may "
			"drop what guests send within a VPC; set it to 0 or unload br_netfilter"
		      : "bridged frames do not pass the host's iptables");
}

/* The larger one of all's and a link's counts: a loose one for all takes away our bridges' strict
 * one. */
static void check_rp_filter(json_t *list)
{
	OWN(fclose) FILE *file = fopen("/proc/sys/net/ipv4/conf/all/rp_filter", "re");
	int value = 0, is_loose = file && fscanf(file, "%d", &value) == 1 && value == 2;

	host_finding(
		list, "rp-filter", !is_loose, "%s",
		is_loose ? "net.ipv4.conf.all.rp_filter is 2: what guests send to their bridge's "
			   "own address may reach this host; set it to 0 (each link then has its "
			   "own) or 1"
			 : "what guests send to their bridge's own address does not reach this "
			   "host");
}

/* By its links, or by the setting that is its owner's. */
static void check_ipv6(json_t *list)
{
	OWN(fclose) FILE *file = fopen("/proc/sys/net/ipv6/conf/all/forwarding", "re");
	int value = 0, is_forwarding = file && fscanf(file, "%d", &value) == 1 && value;

	is_forwarding |= access("/proc/sys/net/ipv6/conf/all/force_forwarding", F_OK) == 0;
	host_finding(
		list, "ipv6-forwarding", is_forwarding, "%s",
		is_forwarding
			? "VPCs with IPv6 reach the outside"
			: "VPCs with IPv6 do not reach the outside: this kernel (older than 6.17) "
			  "forwards IPv6 for all links or none; set "
			  "net.ipv6.conf.all.forwarding=1");
}

/* ---- the owner's own tables ---- */

/* firewalld has kept others out of its table since 2.1, where the kernel can. */
static const char *owners_way(const struct firewall_chain *c)
{
	return strcmp(c->table, "firewalld") == 0
		       ? "set NftablesTableOwner=no in firewalld.conf"
		       : "its owner's program has to accept iifgroup " TEXT_OF(
				 PLAN_GROUP) " and oifgroup " TEXT_OF(PLAN_GROUP) " there";
}

static void check_chain(json_t *list, const struct host_settings *s, const struct firewall_chain *c)
{
	int is_through = c->is_open[FIREWALL_FROM_US] && c->is_open[FIREWALL_TO_US];
	char name[600];

	firewall_name(c, name, sizeof name);
	if (is_through && c->n_marks)
		host_finding(list, "firewall", 1,
			     "nftables' chain \"%.150s\" drops what is forwarded: netd has put two "
			     "rules "
			     "in front of it that let guests pass",
			     name);
	else if (is_through)
		host_finding(list, "firewall", 1, "nftables' chain \"%.150s\" lets guests pass",
			     name);
	else if (c->is_owned)
		host_finding(list, "firewall", 0,
			     "nftables' chain \"%.150s\" may drop what guests send, and its table "
			     "has an owner: nobody else can change it; %s",
			     name, owners_way(c));
	else if (s->is_firewall_passed)
		host_finding(list, "firewall", 1,
			     "nftables' chain \"%.150s\" may drop what is forwarded: netd puts two "
			     "rules "
			     "in front of it while %s in use",
			     name,
			     c->family == NFPROTO_BRIDGE ? "a subnet is"
							 : "an internet gateway is");
	else if (c->family == NFPROTO_BRIDGE)
		host_finding(
			list, "firewall", 0,
			"nftables' chain \"%.150s\" may drop what guests send one another: set "
			"[Network] HostFirewall=pass, or let it accept iifgroup %d and oifgroup %d",
			name, PLAN_GROUP, PLAN_GROUP);
	else
		host_finding(
			list, "firewall", 0,
			"nftables' chain \"%.150s\" may drop what is forwarded: guests reach one "
			"another, but not the outside; set [Network] HostFirewall=pass, or let it "
			"accept iifgroup %d and oifgroup %d",
			name, PLAN_GROUP, PLAN_GROUP);
}

/* What one table accepts another may still drop. */
static void check_firewall(json_t *list, const struct host_settings *s, const struct netns *host)
{
	OWN(firewall_clear) struct firewall w = {0};
	int r = firewall_read(host, &w);

	if (r < 0)
		host_finding(list, "firewall", 0, "nftables cannot be read: %s", strerror(-r));
	else if (!w.n)
		host_finding(list, "firewall", 1, "no table of nftables drops what guests send");
	for (size_t i = 0; r == 0 && i < w.n; i++)
		check_chain(list, s, &w.at[i]);
}

/* ---- addresses ---- */

struct conflict {
	struct cidr pool;
	char text[CIDR_TEXT_MAX];
};

static int on_route(struct nlmsghdr *h, void *arg)
{
	const struct rtmsg *m = nlmsg_data(h);
	struct nlattr *a[RTA_MAX + 1];
	struct conflict *c = arg;
	struct cidr to;

	/* Not ours: by their mark, or as the links between host and VPCs. */
	if (m->rtm_protocol == PLAN_PROTOCOL ||
	    (m->rtm_protocol == RTPROT_KERNEL && m->rtm_dst_len == 31) || m->rtm_dst_len == 0 ||
	    c->text[0] || m->rtm_table != RT_TABLE_MAIN ||
	    nlmsg_parse(h, sizeof *m, a, RTA_MAX, NULL) < 0 || !a[RTA_DST])
		return 0;
	to = (struct cidr){ntohl(nla_get_u32(a[RTA_DST])), m->rtm_dst_len};
	if (cidr_overlap(to, c->pool))
		cidr_format(to, c->text);
	return 0;
}

static void forget(void *arg)
{
	((struct conflict *)arg)->text[0] = '\0';
}

static void check_pool(json_t *list, const struct netns *host, const char *name, struct cidr pool)
{
	const struct rtmsg h = {.rtm_family = AF_INET};
	struct conflict c = {.pool = pool};
	char text[CIDR_TEXT_MAX], check[32];
	int r = netlink_dump(host->route, netlink_message(RTM_GETROUTE, 0, &h, sizeof h), on_route,
			     forget, &c);

	cidr_format(pool, text);
	snprintf(check, sizeof check, "pool-%s", name);
	if (r < 0)
		host_finding(list, check, 0, "routes cannot be read: %s", strerror(-r));
	else if (c.text[0])
		host_finding(
			list, check, 0,
			"this host has a route to %s, which overlaps %s: choose another pool in "
			"[Network]",
			c.text, text);
	else
		host_finding(list, check, 1, "no other route leads to %s", text);
}

/* ---- what runs beside us ---- */

static int is_managed(const char *directory, int index, const char *word)
{
	char path[96], line[160];

	snprintf(path, sizeof path, "%s/%d", directory, index);
	OWN(fclose) FILE *file = fopen(path, "re");
	while (file && fgets(line, sizeof line, file))
		if (strncmp(line, word, strlen(word)) == 0)
			return 1;
	return 0;
}

static const struct manager {
	const char *check, *name, *directory, *word, *cure;
} managers[] = {
	{"networkmanager", "NetworkManager", "/run/NetworkManager/devices", "managed=true",
	 "add [keyfile] unmanaged-devices=interface-name:b??????????????;interface-name:l?????????"
	 "?????;interface-name:t??????????????;interface-name:g?????????????? to its "
	 "configuration"},
	{"networkd", "systemd-networkd", "/run/systemd/netif/links", "ADMIN_STATE=configur",
	 "let the [Match] of its .network files not fit our links"},
};

struct taken {
	const struct manager *manager;
	char link[16];
};

static int on_link(struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *m = nlmsg_data(h);
	struct nlattr *a[IFLA_MAX + 1];
	struct taken *t = arg;

	if (nlmsg_parse(h, sizeof *m, a, IFLA_MAX, NULL) == 0 && a[IFLA_GROUP] && a[IFLA_IFNAME] &&
	    nla_get_u32(a[IFLA_GROUP]) == PLAN_GROUP &&
	    is_managed(t->manager->directory, m->ifi_index, t->manager->word))
		snprintf(t->link, sizeof t->link, "%s", nla_get_string(a[IFLA_IFNAME]));
	return 0;
}

static void check_manager(json_t *list, const struct netns *host, const struct manager *m)
{
	const struct ifinfomsg h = {0};
	struct taken t = {.manager = m};

	if (access(m->directory, F_OK) < 0)
		return; /* it does not run */
	(void)netlink_dump(host->route, netlink_message(RTM_GETLINK, 0, &h, sizeof h), on_link,
			   NULL, &t); /* a link that is not seen is not complained of */
	if (t.link[0])
		host_finding(list, m->check, 0, "%s configures our link %s: %s", m->name, t.link,
			     m->cure);
	else
		host_finding(list, m->check, 1, "%s leaves our links alone", m->name);
}

/* ---- programs and the kernel ---- */

static void check_programs(json_t *list, struct netns *probe)
{
	static const char *const programs[] = {"ipset", "iptables-nft-save", "iptables-nft-restore",
					       "ip6tables-nft-save", "ip6tables-nft-restore"};

	for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
		const char *const argv[] = {programs[i], "--version", NULL};

		if (netns_command(probe, argv, NULL, NULL) < 0)
			host_finding(list, programs[i], 0,
				     "cannot be run (%s): install iptables and ipset",
				     probe->reason);
	}
}

/* Each is tried in a namespace that ends afterwards; later ones stand on earlier ones. `check`
 * NULL: only a step on the way. */
static const struct {
	const char *check, *good, *bad;
	const char *argv[16];
} features[] = {
	{NULL, NULL, NULL, {"ip", "link", "add", "bridge0", "type", "bridge"}},
	{NULL, NULL, NULL, {"ip", "link", "add", "port0", "type", "veth", "peer", "name", "port1"}},
	{NULL, NULL, NULL, {"ip", "link", "set", "port0", "master", "bridge0"}},
	{"kernel-ports",
	 "bridge ports can be isolated and locked",
	 "this kernel or iproute2 cannot isolate and lock bridge ports (6.1 can): guests of a "
	 "subnet "
	 "would hear one another",
	 {"bridge", "link", "set", "dev", "port0", "isolated", "on", "locked", "on"}},
	{"kernel-sets",
	 "sets of addresses with MACs are there",
	 "this kernel has no ipset bitmap:ip,mac: guests cannot be kept from lying",
	 {"ipset", "create", "probe", "bitmap:ip,mac", "range", "10.0.0.0/24"}},
	{"kernel-nf_tables",
	 "nf_tables, connection tracking and set matches are there",
	 "this kernel lacks nf_tables, connection tracking or xt_set: groups cannot be enforced",
	 {"iptables-nft", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "NEW", "-m", "set",
	  "--match-set", "probe", "src,src", "-j", "ACCEPT"}},
	{"kernel-nflog",
	 "rejected packets can be logged",
	 "this kernel has no NFLOG: VPCs with flow logs cannot be built",
	 {"iptables-nft", "-A", "FORWARD", "-j", "NFLOG", "--nflog-group", "1"}},
	{"kernel-statistic",
	 "a NAT gateway's flows can be spread over its addresses",
	 "this kernel has no xt_statistic: NAT gateways with secondary addresses cannot be built",
	 {"iptables-nft", "-A", "FORWARD", "-m", "statistic", "--mode", "nth", "--every", "2",
	  "--packet", "0", "-j", "ACCEPT"}},
};

static void check_features(json_t *list)
{
	static const char name[] = "gureum-doctor";
	OWN(netns_free) struct netns *probe = NULL;
	int r = netns_open(name, &probe);

	if (r < 0) {
		host_finding(list, "namespaces", 0, "network namespaces cannot be made: %s",
			     strerror(-r));
		return;
	}
	check_programs(list, probe);
	for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
		r = netns_command(probe, features[i].argv, NULL, NULL);
		if (features[i].check)
			host_finding(list, features[i].check, r == 0, r == 0 ? "%s" : "%s (%s)",
				     r == 0 ? features[i].good : features[i].bad, probe->reason);
	}
	(void)netns_delete(name); /* the next one takes it over */
}

json_t *host_doctor(const struct host_settings *s, struct netns *host, int has_ipv6)
{
	json_t *list = json_array();
	int is_tun = access("/dev/net/tun", R_OK | W_OK) == 0;

	check_uplink(list, s, host);
	check_firewall(list, s, host);
	host_check_tables(list, s, host, has_ipv6);
	check_bridge_filter(list);
	check_rp_filter(list);
	if (has_ipv6)
		check_ipv6(list);
	check_pool(list, host, "public", s->public_pool);
	check_pool(list, host, "transit", s->transit_pool);
	for (size_t i = 0; i < sizeof managers / sizeof *managers; i++)
		check_manager(list, host, &managers[i]);
	host_finding(list, "tun", is_tun, "%s",
		     is_tun ? "taps can be made"
			    : "/dev/net/tun cannot be opened: guests get no network");
	check_features(list);
	return list;
}
