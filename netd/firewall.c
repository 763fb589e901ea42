/* Firewall: a way for guests through the host owner's tables of nftables. */
#include "firewall.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include "log.h"
#include "plan.h"

#define COMMENT	       "gureum"
#define COMMENT_TYPE   0 /* nft's: type, length, text with its end */
#define TRIES	       8 /* others' transactions in between */
#define TABLE_IS_OWNED 2 /* NFT_TABLE_F_OWNER, of Linux 5.12 */

enum direction { FROM_US, TO_US };
static const uint32_t keys[] = {NFT_META_IIFGROUP, NFT_META_OIFGROUP};

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

/* What a rule does, as far as it matters here. */
struct sense {
	int has_drop, has_jump;
	int n_read;   /* expressions that are as in a rule of ours; -1: it is another */
	uint32_t key; /* of the link that it looks at */
};

static uint32_t number(const struct nlattr *a)
{
	return a ? ntohl(nla_get_u32(a)) : 0;
}

static void sense_meta(struct sense *s, struct nlattr *data)
{
	struct nlattr *a[NFTA_META_MAX + 1];

	if (s->n_read != 0 || nla_parse_nested(a, NFTA_META_MAX, data, NULL) < 0 ||
	    !a[NFTA_META_DREG]) {
		s->n_read = -1;
		return;
	}
	s->key = number(a[NFTA_META_KEY]);
	s->n_read = 1;
}

static void sense_cmp(struct sense *s, struct nlattr *data)
{
	struct nlattr *a[NFTA_CMP_MAX + 1], *value[NFTA_DATA_MAX + 1];
	int is_as_ours = s->n_read == 1 && nla_parse_nested(a, NFTA_CMP_MAX, data, NULL) == 0 &&
			 number(a[NFTA_CMP_OP]) == NFT_CMP_EQ && a[NFTA_CMP_DATA] &&
			 nla_parse_nested(value, NFTA_DATA_MAX, a[NFTA_CMP_DATA], NULL) == 0 &&
			 value[NFTA_DATA_VALUE] && nla_len(value[NFTA_DATA_VALUE]) == 4 &&
			 nla_get_u32(value[NFTA_DATA_VALUE]) == PLAN_GROUP;

	s->n_read = is_as_ours ? 2 : -1;
}

static void sense_immediate(struct sense *s, struct nlattr *data)
{
	struct nlattr *a[NFTA_IMMEDIATE_MAX + 1], *d[NFTA_DATA_MAX + 1], *v[NFTA_VERDICT_MAX + 1];
	int code;

	if (nla_parse_nested(a, NFTA_IMMEDIATE_MAX, data, NULL) < 0 || !a[NFTA_IMMEDIATE_DATA] ||
	    nla_parse_nested(d, NFTA_DATA_MAX, a[NFTA_IMMEDIATE_DATA], NULL) < 0 ||
	    !d[NFTA_DATA_VERDICT] ||
	    nla_parse_nested(v, NFTA_VERDICT_MAX, d[NFTA_DATA_VERDICT], NULL) < 0) {
		s->n_read = -1; /* a value, not a verdict */
		return;
	}
	code = (int)number(v[NFTA_VERDICT_CODE]);
	s->has_drop |= code == NF_DROP;
	s->has_jump |= code == NFT_JUMP || code == NFT_GOTO;
	s->n_read = s->n_read == 2 && code == NF_ACCEPT ? 3 : -1;
}

/* A map of verdicts may hold any, and others tomorrow. */
static void sense_lookup(struct sense *s, struct nlattr *data)
{
	struct nlattr *a[NFTA_LOOKUP_MAX + 1];

	if (nla_parse_nested(a, NFTA_LOOKUP_MAX, data, NULL) == 0 && a[NFTA_LOOKUP_DREG] &&
	    number(a[NFTA_LOOKUP_DREG]) == NFT_REG_VERDICT)
		s->has_drop = s->has_jump = 1;
	s->n_read = -1;
}

static void sense_reject(struct sense *s, struct nlattr *data)
{
	(void)data;
	s->has_drop = 1;
	s->n_read = -1;
}

/* iptables' own word for it. */
static void sense_target(struct sense *s, struct nlattr *data)
{
	struct nlattr *a[NFTA_TARGET_MAX + 1];

	s->has_drop |= nla_parse_nested(a, NFTA_TARGET_MAX, data, NULL) == 0 &&
		       a[NFTA_TARGET_NAME] &&
		       strcmp(nla_get_string(a[NFTA_TARGET_NAME]), "REJECT") == 0;
	s->n_read = -1;
}

static void sense_counter(struct sense *s, struct nlattr *data)
{
	(void)s, (void)data; /* who counts what passes changes nothing */
}

static const struct {
	const char *name;
	void (*sense)(struct sense *s, struct nlattr *data);
} expressions[] = {
	{"meta", sense_meta},	    {"cmp", sense_cmp},	      {"immediate", sense_immediate},
	{"lookup", sense_lookup},   {"reject", sense_reject}, {"target", sense_target},
	{"counter", sense_counter},
};

static struct sense make_sense(struct nlattr *list)
{
	struct nlattr *e, *a[NFTA_EXPR_MAX + 1];
	struct sense s = {0};
	int rest;

	nla_for_each_nested(e, list, rest)
	{
		size_t i = 0, n = sizeof expressions / sizeof *expressions;

		if (nla_parse_nested(a, NFTA_EXPR_MAX, e, NULL) < 0 || !a[NFTA_EXPR_NAME])
			continue;
		while (i < n && strcmp(expressions[i].name, nla_get_string(a[NFTA_EXPR_NAME])) != 0)
			i++;
		if (i == n || !a[NFTA_EXPR_DATA])
			s.n_read = -1;
		else
			expressions[i].sense(&s, a[NFTA_EXPR_DATA]);
	}
	return s;
}

static const unsigned char comment[] = {COMMENT_TYPE, sizeof COMMENT, 'g', 'u', 'r', 'e', 'u', 'm',
					'\0'};

static int is_marked(const struct nlattr *userdata)
{
	return userdata && nla_len(userdata) == (int)sizeof comment &&
	       memcmp(nla_data(userdata), comment, sizeof comment) == 0;
}

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

static int add_mark(struct firewall_chain *c, uint64_t handle, int is_out)
{
	struct firewall_mark *grown = realloc(c->marks, (c->n_marks + 1) * sizeof *grown);

	if (!grown)
		return -ENOMEM;
	c->marks = grown;
	c->marks[c->n_marks++] = (struct firewall_mark){handle, is_out};
	return 0;
}

static int on_rule(struct nlmsghdr *h, void *arg)
{
	const struct nfgenmsg *m = nlmsg_data(h);
	struct nlattr *a[NFTA_RULE_MAX + 1];
	struct reading *r = arg;
	struct firewall_chain *c;
	struct sense s;

	/* Older kernels give all tables' rules. */
	if (m->nfgen_family != r->family || nlmsg_parse(h, sizeof *m, a, NFTA_RULE_MAX, NULL) < 0 ||
	    !a[NFTA_RULE_TABLE] || strcmp(nla_get_string(a[NFTA_RULE_TABLE]), r->table) != 0 ||
	    !a[NFTA_RULE_CHAIN] || !a[NFTA_RULE_HANDLE] || !a[NFTA_RULE_EXPRESSIONS])
		return 0;
	s = make_sense(a[NFTA_RULE_EXPRESSIONS]);
	c = find_chain(r, nla_get_string(a[NFTA_RULE_CHAIN]));
	if (!c) {
		r->is_dropping_beyond |= s.has_drop;
		return 0;
	}
	c->has_drop |= s.has_drop;
	c->has_jump |= s.has_jump;
	for (int out = 0; out < 2; out++) {
		if (s.n_read != 3 || s.key != keys[out])
			continue;
		c->is_open[out] = 1;
		if (is_marked(a[NFTA_RULE_USERDATA]))
			return add_mark(c, be64toh(nla_get_u64(a[NFTA_RULE_HANDLE])), out);
	}
	return 0;
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
		c->has_drop = c->has_jump = c->is_open[0] = c->is_open[1] = 0;
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

static struct nlattr *begin(struct nl_msg *m, int type)
{
	return nla_nest_start(m, type | NLA_F_NESTED);
}

static int put_number(struct nl_msg *m, int type, uint32_t value)
{
	return nla_put_u32(m, type, htonl(value));
}

/* meta load iifgroup => reg 1 */
static int put_meta(struct nl_msg *m, enum direction way)
{
	struct nlattr *element = begin(m, NFTA_LIST_ELEM), *data;

	if (!element || nla_put_string(m, NFTA_EXPR_NAME, "meta") < 0 ||
	    !(data = begin(m, NFTA_EXPR_DATA)) || put_number(m, NFTA_META_KEY, keys[way]) < 0 ||
	    put_number(m, NFTA_META_DREG, NFT_REG_1) < 0)
		return -ENOMEM;
	nla_nest_end(m, data);
	nla_nest_end(m, element);
	return 0;
}

/* cmp eq reg 1 PLAN_GROUP */
static int put_cmp(struct nl_msg *m)
{
	struct nlattr *element = begin(m, NFTA_LIST_ELEM), *data, *value;

	if (!element || nla_put_string(m, NFTA_EXPR_NAME, "cmp") < 0 ||
	    !(data = begin(m, NFTA_EXPR_DATA)) || put_number(m, NFTA_CMP_SREG, NFT_REG_1) < 0 ||
	    put_number(m, NFTA_CMP_OP, NFT_CMP_EQ) < 0 || !(value = begin(m, NFTA_CMP_DATA)) ||
	    nla_put_u32(m, NFTA_DATA_VALUE, PLAN_GROUP) < 0)
		return -ENOMEM;
	nla_nest_end(m, value);
	nla_nest_end(m, data);
	nla_nest_end(m, element);
	return 0;
}

static int put_accept(struct nl_msg *m)
{
	struct nlattr *element = begin(m, NFTA_LIST_ELEM), *data, *value, *verdict;

	if (!element || nla_put_string(m, NFTA_EXPR_NAME, "immediate") < 0 ||
	    !(data = begin(m, NFTA_EXPR_DATA)) ||
	    put_number(m, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT) < 0 ||
	    !(value = begin(m, NFTA_IMMEDIATE_DATA)) || !(verdict = begin(m, NFTA_DATA_VERDICT)) ||
	    put_number(m, NFTA_VERDICT_CODE, NF_ACCEPT) < 0)
		return -ENOMEM;
	nla_nest_end(m, verdict);
	nla_nest_end(m, value);
	nla_nest_end(m, data);
	nla_nest_end(m, element);
	return 0;
}

static struct nl_msg *about(int type, int flags, const struct firewall_chain *c)
{
	OWN(nlmsg_free) struct nl_msg *m = message(type, flags, c->family);

	if (!m || nla_put_string(m, NFTA_RULE_TABLE, c->table) < 0 ||
	    nla_put_string(m, NFTA_RULE_CHAIN, c->name) < 0)
		return NULL;
	return give(m);
}

/* Without NLM_F_APPEND and a place it goes to the front. */
static struct nl_msg *insertion(const struct firewall_chain *c, enum direction way)
{
	OWN(nlmsg_free) struct nl_msg *m = about(NFT_MSG_NEWRULE, NLM_F_CREATE, c);
	struct nlattr *list = m ? begin(m, NFTA_RULE_EXPRESSIONS) : NULL;

	if (!list || put_meta(m, way) < 0 || put_cmp(m) < 0 || put_accept(m) < 0)
		return NULL;
	nla_nest_end(m, list);
	if (nla_put(m, NFTA_RULE_USERDATA, sizeof comment, comment) < 0)
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
	int n = 0, seen[2] = {0}, is_open = is_passing(c, passing);

	if (c->is_owned)
		return 0;
	for (size_t i = 0; i < c->n_marks; i++) {
		const struct firewall_mark *m = &c->marks[i];

		if (is_open && !seen[m->is_out]++)
			continue;
		batch_add(b, removal(c, m->handle));
		n++;
	}
	for (int way = TO_US; is_open && way >= FROM_US; way--)
		if (!c->is_open[way]) {
			batch_add(b, insertion(c, (enum direction)way));
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
