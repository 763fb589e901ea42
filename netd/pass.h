/*
 * Pass: one function brings the kernel from whatever it is to what the plans say. It reads back
 * what is there, compares, adds what is missing (what protects before what connects), then removes
 * what should not be, in reverse. It keeps no journal: a pass that was killed is finished by the
 * next one, and one that finds everything right changes nothing.
 *
 * It blocks (netlink, iptables, ipset) and is made for a worker thread: what it is given belongs to
 * it until it returns.
 */
#pragma once

#include "host.h"
#include "plan.h"

/* One VPC's router, or the namespace of one of its interfaces (a node: a router with one leg, after
 * its VPC in the list), and what became of it. */
struct router {
	char id[ID_MAX];     /* of the VPC or the interface */
	struct plan *plan;   /* NULL: it is no more */
	struct netns *netns; /* NULL: nothing of it is in the kernel */
	int is_touched; /* in: look at its namespace in this pass. Its links in the host's namespace
			   are always looked at */
	int error;	/* out: 0 or -errno, and what failed */
	char reason[320];
	unsigned n_changes; /* out */
	/* within a pass: what is known of its namespace holds; it is closed to what is not allowed */
	int is_trusted, is_ready;
	int is_nat_changed;
};

struct pass {
	struct host_settings settings;
	struct netns *host;
	struct router **routers;
	size_t n_routers;
	/* in: also what an earlier process left: unknown namespaces, connections, half-removed
	 * links */
	int is_first;
	/* in: some VPC has no plan though it should: nothing is removed that might be its */
	int is_incomplete;
	int error;	     /* out: of what concerns all */
	int host_error;	     /* out: guests have what they need, but perhaps no way outside */
	char reason[320];    /* of either */
	unsigned n_changes;  /* out: of all */
	int is_host_trusted; /* within a pass: what is known of the host's namespace holds */
};

/* 0 or -errno (the pass's or the first router's); the rest was done all the same. */
int pass_run(struct pass *p);

/* The router has, or will have, something in the kernel. */
int router_is_present(const struct router *r);
