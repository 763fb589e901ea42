/* Firewall: a way for guests through the host owner's tables of nftables. */
#include "firewall.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include "firewall-rule.h"
#include "log.h"

#define TRIES	       8 /* others' transactions in between */
#define TABLE_IS_OWNED 2 /* NFT_TABLE_F_OWNER, of Linux 5.12 */

void firewall_clear(struct firewall *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->at[i].marks);
	free(w->at);
	*w = (struct firewall){0};
}

static const char *family_name(int family)
{
	return family == NFPROTO_INET	  ? "inet"
	       : family == NFPROTO_IPV4	  ? "ip"
	       : family == NFPROTO_BRIDGE ? "bridge"
					  : "ip6";
}

void firewall_name(const struct firewall_chain *c, char *ret_text, size_t n)
{
	snprintf(ret_text, n, "%s %s %s", family_name(c->family), c->table, c->name);
}

static struct nl_msg *message(int type, int flags, int family)
{
	const struct nfgenmsg h = {.nfgen_family = (uint8_t)family, .version = NFNETLINK_V0};

	return netlink_message(NFNL_SUBSYS_NFTABLES << 8 | type, flags, &h, sizeof h);
}

/* ---- what is there: chains and tables ---- */

static int is_of_interest(int family)
{
	return family == NFPROTO_INET || family == NFPROTO_IPV4 || family == NFPROTO_IPV6 ||
	       family == NFPROTO_BRIDGE;
}

/* All base chains are noted: a drop in one of another hook is none of the forward hook's. The hooks
 * of bridges have the same numbers. */
static int on_chain(struct nlmsghdr *h, void *arg)
{
	const struct nfgenmsg *m = nlmsg_data(h);
	struct nlattr *a[NFTA_CHAIN_MAX + 1], *hook[NFTA_HOOK_MAX + 1];
	struct firewall_chain *grown, *c;
	struct firewall *w = arg;

	if (!is_of_interest(m->nfgen_family) ||
	    nlmsg_parse(h, sizeof *m, a, NFTA_CHAIN_MAX, NULL) < 0 || !a[NFTA_CHAIN_HOOK] ||
	    !a[NFTA_CHAIN_TABLE] || !a[NFTA_CHAIN_NAME] ||
	    nla_parse_nested(hook, NFTA_HOOK_MAX, a[NFTA_CHAIN_HOOK], NULL) < 0 ||
	    !hook[NFTA_HOOK_HOOKNUM])
		return 0;
	grown = realloc(w->at, (w->n + 1) * sizeof *grown);
	if (!grown)
		return -ENOMEM;
	w->at = grown;
	c = &w->at[w->n++];
	*c = (struct firewall_chain){.family = m->nfgen_family,
				     .hook = (int)ntohl(nla_get_u32(hook[NFTA_HOOK_HOOKNUM])),
				     .is_closed =
					     a[NFTA_CHAIN_POLICY] &&
					     ntohl(nla_get_u32(a[NFTA_CHAIN_POLICY])) == NF_DROP};
	snprintf(c->table, sizeof c->table, "%s", nla_get_string(a[NFTA_CHAIN_TABLE]));
	snprintf(c->name, sizeof c->name, "%s", nla_get_string(a[NFTA_CHAIN_NAME]));
	return 0;
}

static void forget(void *arg)
{
	firewall_clear(arg);
}

static int on_table(struct nlmsghdr *h, void *arg)
{
	const struct nfgenmsg *m = nlmsg_data(h);
	struct nlattr *a[NFTA_TABLE_MAX + 1];
	struct firewall *w = arg;
	uint32_t flags;

	if (nlmsg_parse(h, sizeof *m, a, NFTA_TABLE_MAX, NULL) < 0 || !a[NFTA_TABLE_NAME] ||
	    !a[NFTA_TABLE_FLAGS])
		return 0;
	flags = ntohl(nla_get_u32(a[NFTA_TABLE_FLAGS]));
	for (size_t i = 0; i < w->n; i++)
		if (w->at[i].family == m->nfgen_family &&
		    strcmp(w->at[i].table, nla_get_string(a[NFTA_TABLE_NAME])) == 0) {
			w->at[i].is_dormant = (flags & NFT_TABLE_F_DORMANT) != 0;
			w->at[i].is_owned = (flags & TABLE_IS_OWNED) != 0;
		}
	return 0;
}

/* ---- what is there: rules ---- */

struct reading {
	struct firewall *firewall;
	int family;
	const char *table;
	int is_dropping_beyond; /* some chain that may be jumped to drops */
};

static struct firewall_chain *find_chain(const struct reading *r, const char *name)
{
	for (size_t i = 0; i < r->firewall->n; i++) {
		struct firewall_chain *c = &r->firewall->at[i];

		if (c->family == r->family && strcmp(c->table, r->table) == 0 &&
		    strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

static int add_mark(struct firewall_chain *c, uint64_t handle, int way)
{
	struct firewall_mark *grown = realloc(c->marks, (c->n_marks + 1) * sizeof *grown);

	if (!grown)
		return -ENOMEM;
	c->marks = grown;
	c->marks[c->n_marks++] = (struct firewall_mark){handle, way};
	return 0;
}

static int on_rule(struct nlmsghdr *h, void *arg)
{
	const struct nfgenmsg *m = nlmsg_data(h);
	struct nlattr *a[NFTA_RULE_MAX + 1];
	struct reading *r = arg;
	struct firewall_rule rule;
	struct firewall_chain *c;

	/* Older kernels give all tables' rules. */
	if (m->nfgen_family != r->family || nlmsg_parse(h, sizeof *m, a, NFTA_RULE_MAX, NULL) < 0 ||
	    !a[NFTA_RULE_TABLE] || strcmp(nla_get_string(a[NFTA_RULE_TABLE]), r->table) != 0 ||
	    !a[NFTA_RULE_CHAIN] || !a[NFTA_RULE_HANDLE] || !a[NFTA_RULE_EXPRESSIONS])
		return 0;
	rule = firewall_rule_read(a[NFTA_RULE_EXPRESSIONS]);
	c = find_chain(r, nla_get_string(a[NFTA_RULE_CHAIN]));
	if (!c) {
		r->is_dropping_beyond |= rule.has_drop;
		return 0;
	}
	c->has_drop |= rule.has_drop;
	c->has_jump |= rule.has_jump;
	if (rule.way == FIREWALL_WAYS)
		return 0;
	c->is_open[rule.way] = 1;
	return firewall_rule_is_marked(a[NFTA_RULE_USERDATA])
		       ? add_mark(c, be64toh(nla_get_u64(a[NFTA_RULE_HANDLE])), rule.way)
		       : 0;
}

static void forget_rules(void *arg)
{
	struct reading *r = arg;

	for (size_t i = 0; i < r->firewall->n; i++) {
		struct firewall_chain *c = &r->firewall->at[i];

		if (c->family != r->family || strcmp(c->table, r->table) != 0)
			continue;
		free(c->marks);
		c->marks = NULL;
		c->n_marks = 0;
		c->has_drop = c->has_jump = c->is_open[FIREWALL_FROM_US] =
			c->is_open[FIREWALL_TO_US] = 0;
	}
	r->is_dropping_beyond = 0;
}

static int is_first_of_table(const struct firewall *w, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (w->at[j].family == w->at[i].family &&
		    strcmp(w->at[j].table, w->at[i].table) == 0)
			return 0;
	return 1;
}

static int has_forward(const struct firewall *w, const struct firewall_chain *like)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->at[i].hook == NF_INET_FORWARD && w->at[i].family == like->family &&
		    strcmp(w->at[i].table, like->table) == 0)
			return 1;
	return 0;
}

static int read_rules(const struct netns *host, struct firewall *w, size_t i)
{
	struct reading r = {.firewall = w, .family = w->at[i].family, .table = w->at[i].table};
	OWN(nlmsg_free) struct nl_msg *m = message(NFT_MSG_GETRULE, 0, r.family);
	int e;

	if (!m || nla_put_string(m, NFTA_RULE_TABLE, r.table) < 0)
		return -ENOMEM;
	e = netlink_dump(host->filter, give(m), on_rule, forget_rules, &r);
	for (size_t j = i; e == 0 && r.is_dropping_beyond && j < w->n; j++)
		if (w->at[j].family == r.family && strcmp(w->at[j].table, r.table) == 0)
			w->at[j].has_drop |= w->at[j].has_jump;
	return e;
}

/* iptables-nft's, where netd has a jump to a chain of its own, or ebtables-nft's: a rule like ours
 * in them, and these commands read nothing any more. */
static int is_of_iptables(const struct firewall_chain *c)
{
	return c->family != NFPROTO_INET && strcmp(c->name, "FORWARD") == 0 &&
	       (strcmp(c->table, "filter") == 0 || strcmp(c->table, "mangle") == 0 ||
		strcmp(c->table, "security") == 0);
}

static void keep_what_may_drop(struct firewall *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++) {
		struct firewall_chain *c = &w->at[i];

		if (c->hook == NF_INET_FORWARD && !is_of_iptables(c) &&
		    (c->n_marks || (!c->is_dormant && (c->is_closed || c->has_drop))))
			w->at[n++] = *c;
		else
			free(c->marks);
	}
	w->n = n;
}

int firewall_read(const struct netns *host, struct firewall *ret_firewall)
{
	OWN(firewall_clear) struct firewall w = {0};
	uint32_t generation = nftables_generation(host);
	int r = netlink_dump(host->filter, message(NFT_MSG_GETCHAIN, 0, AF_UNSPEC), on_chain,
			     forget, &w);

	if (r == 0)
		r = netlink_dump(host->filter, message(NFT_MSG_GETTABLE, 0, AF_UNSPEC), on_table,
				 NULL, &w);
	for (size_t i = 0; r == 0 && i < w.n; i++)
		if (is_first_of_table(&w, i) && has_forward(&w, &w.at[i]))
			r = read_rules(host, &w, i);
	if (r < 0)
		return r;
	keep_what_may_drop(&w);
	w.generation = generation;
	*ret_firewall = w;
	w = (struct firewall){0};
	return 0;
}

/* ---- our rules ---- */

static struct nl_msg *about(int type, int flags, const struct firewall_chain *c)
{
	OWN(nlmsg_free) struct nl_msg *m = message(type, flags, c->family);

	if (!m || nla_put_string(m, NFTA_RULE_TABLE, c->table) < 0 ||
	    nla_put_string(m, NFTA_RULE_CHAIN, c->name) < 0)
		return NULL;
	return give(m);
}

/* Without NLM_F_APPEND and a place it goes to the front. */
static struct nl_msg *insertion(const struct firewall_chain *c, enum firewall_way way)
{
	OWN(nlmsg_free) struct nl_msg *m = about(NFT_MSG_NEWRULE, NLM_F_CREATE, c);

	if (!m || firewall_rule_put(m, way) < 0)
		return NULL;
	return give(m);
}

static struct nl_msg *removal(const struct firewall_chain *c, uint64_t handle)
{
	OWN(nlmsg_free) struct nl_msg *m = about(NFT_MSG_DELRULE, 0, c);

	if (!m || nla_put_u64(m, NFTA_RULE_HANDLE, htobe64(handle)) < 0)
		return NULL;
	return give(m);
}

/* ---- the difference ---- */

struct batch {
	struct nl_msg **at;
	size_t n, n_room;
	int error;
};

static void own_batch_clear(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		nlmsg_free(b->at[i]);
	free(b->at);
}

static void batch_add(struct batch *b, struct nl_msg *m)
{
	if (b->n == b->n_room) {
		size_t n_room = b->n_room ? b->n_room * 2 : 8;
		struct nl_msg **grown = realloc(b->at, n_room * sizeof *grown);

		if (!grown) {
			nlmsg_free(m);
			b->error = -ENOMEM;
			return;
		}
		b->at = grown;
		b->n_room = n_room;
	}
	if (m)
		b->at[b->n++] = m;
	else
		b->error = -ENOMEM;
}

static int is_passing(const struct firewall_chain *c, int passing)
{
	return passing & (c->family == NFPROTO_BRIDGE ? FIREWALL_BRIDGED : FIREWALL_ROUTED);
}

/* A mark that came twice (an owner who saves and loads the rules as they were) goes once. */
static int plan_chain(const struct firewall_chain *c, int passing, struct batch *b)
{
	int n = 0, seen[FIREWALL_WAYS] = {0}, is_open = is_passing(c, passing);

	if (c->is_owned)
		return 0;
	for (size_t i = 0; i < c->n_marks; i++) {
		const struct firewall_mark *m = &c->marks[i];

		if (is_open && !seen[m->way]++)
			continue;
		batch_add(b, removal(c, m->handle));
		n++;
	}
	for (int way = FIREWALL_TO_US; is_open && way >= FIREWALL_FROM_US; way--)
		if (!c->is_open[way]) {
			batch_add(b, insertion(c, (enum firewall_way)way));
			n++;
		}
	return n;
}

static void tell(const struct firewall_chain *c, int passing)
{
	char name[600];

	firewall_name(c, name, sizeof name);
	if (is_passing(c, passing))
		log_info("guests' traffic was let through the host's firewall", "CHAIN", name);
	else
		log_info("the host's firewall is as its owner made it", "CHAIN", name);
}

/* Refused by the kernel (-ERESTART) if anything changed since it was read. */
static int apply_once(struct netns *host, int passing)
{
	OWN(firewall_clear) struct firewall w = {0};
	OWN(batch_clear) struct batch b = {0};
	int r = firewall_read(host, &w), *changes = NULL;

	if (r < 0)
		return r;
	changes = calloc(w.n + 1, sizeof *changes);
	if (!changes)
		return -ENOMEM;
	for (size_t i = 0; i < w.n; i++)
		changes[i] = plan_chain(&w.at[i], passing, &b);
	r = b.error;
	if (r == 0 && b.n)
		r = nftables_commit(host, w.generation, b.at, b.n);
	for (size_t i = 0; r == 0 && i < w.n; i++)
		if (changes[i])
			tell(&w.at[i], passing);
	free(changes);
	if (r < 0)
		return r;
	host->firewall_generation = b.n ? w.generation + 1 : w.generation;
	host->firewall_passing = passing;
	return (int)b.n;
}

int firewall_apply(struct netns *host, int passing)
{
	uint32_t now = nftables_generation(host);
	int r = -ERESTART;

	if (now && now == host->firewall_generation && host->firewall_passing == passing)
		return 0;
	for (int i = 0; i < TRIES && r == -ERESTART; i++)
		r = apply_once(host, passing);
	if (r < 0)
		snprintf(host->reason, sizeof host->reason, "the host's firewall: %s",
			 strerror(-r));
	return r == -ERESTART ? -EAGAIN : r;
}
