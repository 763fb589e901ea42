/*
 * Firewall: the host owner's own tables of nftables. What one table accepts another still drops, so
 * that netd's chains (host.h) alone do not get guests outside where such a table drops what is
 * forwarded. In front of each chain at the forward hook that may drop, netd puts two rules of its
 * own, marked by the comment "gureum": one accepts what comes from our links (by their group), one
 * what goes to them. Nothing else of the owner's is touched, and what the owner puts in front of
 * these two counts still.
 *
 * Where netd cannot or may not do so (a table with `flags owner` takes changes from its owner's
 * process alone; [Network] HostFirewall=leave), the doctor names the chain and the rules.
 */
#pragma once

#include "firewall-rule.h"
#include "netns.h"

/* A base chain of the forward hook that may drop: by its policy, by a rule, or by a chain that it
 * may jump to. Chains of iptables-nft and ebtables-nft are not among them, since these commands can
 * read no rule like ours: see host.h and host-tables.c. */
struct firewall_chain {
	int family; /* NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 or NFPROTO_BRIDGE */
	char table[256], name[256];
	int is_open[FIREWALL_WAYS]; /* what comes from our links, what goes to them: accepted */
	int is_owned;		    /* nobody but its owner's process may change its table */
	struct firewall_mark {	    /* rules of ours in it */
		uint64_t handle;
		int way;
	} * marks;
	size_t n_marks;
	/* while it is read */
	int hook, is_dormant, is_closed, has_drop, has_jump;
};

struct firewall {
	struct firewall_chain *at;
	size_t n;
	uint32_t generation; /* of nftables, when it was read */
};
void firewall_clear(struct firewall *w);
static inline void own_firewall_clear(struct firewall *w)
{
	firewall_clear(w);
}

/* 0 or -errno. */
int firewall_read(const struct netns *host, struct firewall *ret_firewall);
/* "inet filter forward" */
void firewall_name(const struct firewall_chain *c, char *ret_text, size_t n);

/* What passes: frames within a VPC, which tables of the family bridge see, and what is routed to
 * and from gateways, which the others see. */
enum { FIREWALL_BRIDGED = 1, FIREWALL_ROUTED = 2 };

/* Our two rules are once in each chain that may be changed and sees what is to pass, and in no
 * other; all of it is one transaction. When nftables has not changed since the last call, nothing is
 * asked. How many rules came or went (logged for each chain), or -errno. */
int firewall_apply(struct netns *host, int passing);
