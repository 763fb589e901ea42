/*
 * Network namespaces: a VPC's router, or the namespace in which netd itself runs (the host's). They
 * are kept by a mount in /run/netns, as `ip netns` does, so they outlive the daemon and people can
 * look into them. A struct netns is the daemon's hold on one: a descriptor and sockets that were
 * opened inside.
 *
 * All calls block for at most some milliseconds, and are made from one thread at a time per
 * namespace.
 */
#pragma once

#include "item.h"
#include "netlink.h"
#include "rules.h"

#define NETNS_DIR "/run/netns"

struct netns {
	char name[48]; /* below /run/netns; "" is the host's */
	int fd;
	struct nl_sock *route;	/* NETLINK_ROUTE */
	struct nl_sock *filter; /* NETLINK_NETFILTER */
	/* iptables' and ip6tables' chains as they were read at these generations of nftables; 0:
	 * not known */
	struct ruleset chains[RULES_FAMILIES];
	uint32_t generation[RULES_FAMILIES];
	uint32_t own_generation; /* up to this one all were ours */
	/* Somebody else's transaction came between ours: the watch may have taken it for one of
	 * them. For the pass to tell when it ends. */
	int is_disturbed;
	/* (firewall.h) The host's: at this generation the owner's tables let our links pass, or are
	 * as they were without us; 0: not known */
	uint32_t firewall_generation;
	int firewall_passing;
	/* What a pass read or left here (pass-internal.h), and whether that is so still */
	struct items sets, items;
	int is_known;
	char reason[256]; /* what the last command that failed said */
};

/* Makes /run/netns as `ip netns` would, and remembers the thread's namespace as the host's. 0 or
 * -errno. */
int netns_start(struct netns **ret_host);
/* Opens the namespace, making it if it is not there. 0 or -errno. */
int netns_open(const char *name, struct netns **ret_netns);
/* Its name in /run/netns leads to it again, if somebody removed it: what runs inside need not
 * notice. 1: it did not, 0: it did, or -errno. */
int netns_keep(const struct netns *n);
/* Lets go; the namespace stays. */
void netns_free(struct netns *n);
OWN_DEFINE(struct netns *, netns_free);
/* Takes the name away: the namespace ends with its last user, and with it every link inside. */
int netns_delete(const char *name);
/* Names of all namespaces that begin with `prefix`: a NULL-terminated list, malloced in one piece.
 * 0 or -errno. */
int netns_list(const char *prefix, char ***ret_names);

/* Runs `run(arg)` with the calling thread inside. Returns what it returned, or -errno. */
int netns_run(const struct netns *n, int (*run)(void *arg), void *arg);
/* A socket made inside, close-on-exec and non-blocking. The fd or -errno. */
int netns_socket(const struct netns *n, int domain, int type, int protocol);

/* What is there (netns-dump.c), sorted: of the host's namespace only what is ours, by link group
 * and route protocol. Sysctls are read only where `wanted` has them. Sets and members are not in
 * it. */
int netns_dump(const struct netns *n, const struct items *wanted, struct items *ret_items);
/* The settings alone. */
int netns_dump_settings(const struct netns *n, const struct items *wanted, struct items *ret_items);
int netns_has_link(const struct netns *n, const char *name);
/* Of the host's namespace, when all of it is known (n->is_known): the link, its being up and its
 * bridge entries are as they are known to be; or there is none. 1, 0 or -errno. */
int netns_is_link_known(const struct netns *n, int index);

/* Brings one item about, or removes it (netns-change.c). `router` is where the other end of a veth
 * goes. 0 or -errno. */
int netns_make(const struct netns *n, const struct item *i, const struct netns *router);
int netns_remove(const struct netns *n, const struct item *i);
/* Removes these links at once: the kernel waits for its readers once, not once for each. */
int netns_remove_links(const struct netns *n, const struct items *links);

/* Sets and their members (ipset.c), as items. */
int ipset_dump(struct netns *n, struct items *ret_items);
/* Applies those of the changes that add or alter, or (is_removing) those that remove. */
int ipset_change(struct netns *n, const struct changes *c, int is_removing);

/* Chains (iptables.c) of a family: reads those for which keep() is not 0 (NULL: all) into
 * n->chains[family]; when nftables has not changed since, they are there already. */
int iptables_dump(struct netns *n, enum rules_family family, int (*keep)(const struct chain *c));
/* Runs a transaction. */
int iptables_restore(struct netns *n, enum rules_family family, const char *text);
/* Makes all chains of the family what is wanted, by the smallest transaction that does, and
 * remembers them: nothing is read again until somebody else changes something. *ret_n: chains that
 * were not so; *ret_is_nat: the table nat was among them. */
int iptables_apply(struct netns *n, enum rules_family family, const struct ruleset *wanted,
		   size_t *ret_n, int *ret_is_nat);

/* nftables counts its transactions: a cheap answer to "is anything different?". 0 when it cannot
 * tell. */
uint32_t nftables_generation(const struct netns *n);
/* Messages of nftables as one transaction, sent by a socket of its own made in the calling thread's
 * namespace, which is the host's: all or none. -ERESTART when the generation is another by now.
 * Chains that were read at this generation are taken to be the same still. 0 or -errno. */
int nftables_commit(struct netns *host, uint32_t generation, struct nl_msg *const *messages,
		    size_t n);

/* Connections (conntrack.c): forgets every tracked flow for which is_stale() is not 0. How many, or
 * -errno. */
struct flow {
	struct address source, destination; /* as it came */
	struct address reply_source,
		reply_destination; /* as answers come: differs where addresses are translated */
};
int conntrack_forget(const struct netns *n, int (*is_stale)(const struct flow *f, void *arg),
		     void *arg);

/* Runs a command inside, with this input. -EIO with n->reason when it failed. *ret_out (may be
 * NULL) is what it printed. */
int netns_command(struct netns *n, const char *const *argv, const char *input, char **ret_out);
