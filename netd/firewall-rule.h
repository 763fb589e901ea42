/*
 * A rule of nftables in the kernel's own form (expressions in nested attributes), as far as netd has
 * to do with it: what a rule of the host's owner may do to a packet, and the rule of netd's own,
 *
 *     iifgroup 26485 accept comment "gureum"
 *
 * (oifgroup for what goes to guests). Which chains have which rules is firewall.c's.
 */
#pragma once

#include <netlink/msg.h>
#include "own.h"

enum firewall_way { FIREWALL_FROM_US, FIREWALL_TO_US, FIREWALL_WAYS };

struct firewall_rule {
	int has_drop; /* or a reject, or a map of verdicts that may hold one */
	int has_jump; /* to a chain that may */
	int way;      /* it accepts as ours does, whoever made it; FIREWALL_WAYS: another rule */
};
/* What is not known drops nothing: it matches, counts, marks or logs. */
struct firewall_rule firewall_rule_read(struct nlattr *expressions);

/* The rule's user data is our comment. */
int firewall_rule_is_marked(const struct nlattr *userdata);

/* Puts our rule's expressions and its comment into a message that has its table and chain. 0 or
 * -ENOMEM. */
int firewall_rule_put(struct nl_msg *m, enum firewall_way way);
