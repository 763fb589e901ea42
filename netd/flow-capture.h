/*
 * Flow capture: how the kernel tells of flows. Accepted ones are counted by connection tracking
 * (nf_conntrack_acct): a flow that ends is an event with its counts; of those that go on, a dump
 * reads the counts and sets them to zero in one step, so nobody has to remember what they were, not
 * even over a restart. Rejected packets come by NFLOG from the chains reject-in and reject-out
 * (plan-flow.c).
 */
#pragma once

#include "flow-line.h"
#include "netns.h"

#define FLOW_NFLOG_GROUP 26485

struct flow_sockets {
	struct nl_sock *rejects, *ends; /* not blocking, for the loop */
	struct nl_sock *dump;		/* blocks: for a worker */
};
/* Opens them in the namespace, and has the kernel send. 0 or -errno. */
int flow_sockets_open(const struct netns *n, struct flow_sockets *ret_sockets);
void flow_sockets_close(struct flow_sockets *s);

/* What a message of `rejects` (a packet) or of `ends` and `dump` (a flow) says. 0, or -EINVAL for
 * what is none of ours. */
int flow_read_reject(struct nlmsghdr *h, struct flow_count *ret_count);
int flow_read_end(struct nlmsghdr *h, struct flow_count *ret_count);

/* Gives each flow's count since the last time to each(). 0 or -errno. */
int flow_dump(struct nl_sock *dump, void (*each)(void *arg, const struct flow_count *c), void *arg);
