/*
 * Flow rules: which security group rule let a flow pass, and which entry of a network ACL denied
 * it. What decided is found again from the rules themselves when a line is written, and packets
 * need not say it. Groups only allow: it is the first rule that fits, in the order of the
 * interface's groups; established answers pass by the rule that let the flow begin. Of an ACL it is
 * the entry with the lowest number that fits: when that allows, or the packet stays in its subnet
 * (where ACLs do not apply), it was the groups that had no rule. Pure.
 */
#pragma once

#include "cidr.h"
#include "id.h"

#define FLOW_GROUPS_PER_INTERFACE 16

struct flow_count;

struct flow_net {
	struct address address;
	unsigned bits;
};
struct flow_rule {
	char id[ID_MAX]; /* "sgr-…" */
	int is_egress;
	int protocol; /* a number of IANA's, -1: any */
	int from, to; /* ports; for ICMP type and code; -1: any */
	size_t first_net, n_nets;
};
struct flow_group {
	char id[ID_MAX];
	size_t first_rule, n_rules;
};

/* An entry of an ACL. Those of one ACL are in the order of their numbers; each way's last denies
 * all. */
struct flow_entry {
	int number;
	int is_egress, is_allow;
	int protocol, from, to; /* as in struct flow_rule */
	struct flow_net net;
};
struct flow_acl {
	char id[ID_MAX];
	size_t first_entry, n_entries;
};

/* Of a VPC; empty when no flow log asks for rules. A group's members and a prefix list's blocks are
 * nets. */
struct flow_rules {
	struct flow_net *nets;
	struct flow_rule *rules;
	struct flow_group *groups;
	size_t n_nets, n_rules, n_groups;
	struct flow_entry *entries;
	struct flow_acl *acls;
	size_t n_entries, n_acls;
};
void flow_rules_clear(struct flow_rules *r);
int flow_rules_are_same(const struct flow_rules *a, const struct flow_rules *b);

/* The rule of these groups (indexes) that lets the flow out (is_egress) or in; NULL: none does any
 * more. */
const struct flow_rule *flow_rules_find(const struct flow_rules *r, const unsigned short *groups,
					size_t n_groups, const struct flow_count *c, int is_egress);

/* The entry of this ACL (an index) that denies the packet out of its subnet or into it; NULL: the
 * ACL does not. */
const struct flow_entry *flow_acl_find(const struct flow_rules *r, size_t acl,
				       const struct flow_count *c, int is_egress);
