/* Responders: what answers, counts and listens in a VPC's namespace while it is there: DHCP, DNS,
 * IPv6's router, flow logs, and who watches for what others change. */
#pragma once

#include "dhcp.h"
#include "dns.h"
#include "flow.h"
#include "pass.h"
#include "pulse.h"
#include "responder6.h"
#include "watch.h"

struct responders {
	struct dhcp *dhcp;
	struct dns *dns;
	struct flows *flows;
	struct responder6 *responder6;
	struct pulse *pulse;
	struct watch *watch;
};

/* What they need besides the router. */
struct responders_place {
	const struct daemon *daemon;
	const struct netns *host;
	const struct flow_place *flows;
	void (*on_change)(void *arg); /* somebody else changed something */
	int (*is_neighbour)(const struct address *address, void *arg); /* see watch.h */
	void *arg;
	int is_node; /* nobody asks a node for DHCP or DNS */
};

/* Starts those that the router's plan wants and that are not there yet, ends those that it does not
 * want. 0 or -errno. */
int responders_start(struct responders *s, const struct router *r,
		     const struct responders_place *p);
/* They look at this plan from now on. */
void responders_set_plan(struct responders *s, const struct plan *plan);
/* Ends all: what stands on the namespace goes before the hold on it. */
void responders_stop(struct responders *s);
