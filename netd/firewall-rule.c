/* Firewall rule: what a rule of nftables does, and ours. */
#include "firewall-rule.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <string.h>
#include "plan.h"

#define COMMENT	     "gureum"
#define COMMENT_TYPE 0 /* nft's: type, length, text with its end */
#define N_READ	     3 /* expressions of our rule: meta, cmp, immediate */

static const uint32_t keys[FIREWALL_WAYS] = {NFT_META_IIFGROUP, NFT_META_OIFGROUP};
static const unsigned char comment[] = {COMMENT_TYPE, sizeof COMMENT, 'g', 'u', 'r', 'e', 'u', 'm',
					'\0'};

/* ---- what a rule does ---- */

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
	s->n_read = s->n_read == 2 && code == NF_ACCEPT ? N_READ : -1;
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

struct firewall_rule firewall_rule_read(struct nlattr *list)
{
	struct nlattr *e, *a[NFTA_EXPR_MAX + 1];
	struct sense s = {0};
	int rest, way = 0;

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
	while (way < FIREWALL_WAYS && (s.n_read != N_READ || s.key != keys[way]))
		way++;
	return (struct firewall_rule){s.has_drop, s.has_jump, way};
}

int firewall_rule_is_marked(const struct nlattr *userdata)
{
	return userdata && nla_len(userdata) == (int)sizeof comment &&
	       memcmp(nla_data(userdata), comment, sizeof comment) == 0;
}

/* ---- our rule ---- */

static struct nlattr *begin(struct nl_msg *m, int type)
{
	return nla_nest_start(m, type | NLA_F_NESTED);
}

static int put_number(struct nl_msg *m, int type, uint32_t value)
{
	return nla_put_u32(m, type, htonl(value));
}

/* meta load iifgroup => reg 1 */
static int put_meta(struct nl_msg *m, enum firewall_way way)
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

int firewall_rule_put(struct nl_msg *m, enum firewall_way way)
{
	struct nlattr *list = begin(m, NFTA_RULE_EXPRESSIONS);

	if (!list || put_meta(m, way) < 0 || put_cmp(m) < 0 || put_accept(m) < 0)
		return -ENOMEM;
	nla_nest_end(m, list);
	return nla_put(m, NFTA_RULE_USERDATA, sizeof comment, comment) < 0 ? -ENOMEM : 0;
}
