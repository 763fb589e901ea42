/* Responders: starting and ending them as plans come and go. */
#include "responders.h"

#include <errno.h>
#include "config.h"

static void stop_flows(struct responders *s)
{
	flows_free(s->flows);
	s->flows = NULL;
}

static void stop_dns(struct responders *s)
{
	if (s->dns)
		dns_free(s->dns);
	s->dns = NULL;
}

static int start_ipv6(struct responders *s, const struct router *r, sd_event *loop)
{
	int e = 0;

	if (s->responder6 && !r->plan->has_ipv6) {
		responder6_free(s->responder6);
		s->responder6 = NULL;
	}
	if (!s->responder6 && r->plan->has_ipv6)
		e = responder6_new(loop, r->netns, r->plan, &s->responder6);
	if (e == 0 && s->responder6)
		responder6_announce(s->responder6);
	return e;
}

static int start_names(struct responders *s, const struct router *r,
		       const struct responders_place *p)
{
	const char *upstream = config_string(p->daemon->config, "Network", "DnsUpstream");
	sd_event *loop = p->daemon->loop;
	int e = 0;

	if (s->dns && (dns_has_ipv6(s->dns) != r->plan->has_ipv6 || !r->plan->has_dns))
		stop_dns(s);
	if (!s->dhcp)
		e = dhcp_new(loop, r->netns, r->plan, &s->dhcp);
	if (e == 0 && !s->dns && r->plan->has_dns)
		e = dns_new(loop, r->netns, r->plan, upstream, &s->dns);
	return e;
}

int responders_start(struct responders *s, const struct router *r, const struct responders_place *p)
{
	const struct watch_calls calls = {
		.on_change = p->on_change, .is_neighbour = p->is_neighbour, .arg = p->arg};
	sd_event *loop = p->daemon->loop;
	int e = p->is_node ? 0 : start_names(s, r, p);

	if (e == 0 && !s->flows && r->plan->flows)
		e = flows_new(loop, r->netns, r->plan->flows, p->flows, &s->flows);
	if (e == 0)
		e = start_ipv6(s, r, loop);
	if (e == 0 && !s->pulse)
		e = pulse_new(r->netns, &s->pulse);
	if (e == 0 && !s->watch)
		e = watch_new(loop, r->netns, p->host, &calls, &s->watch);
	return e;
}

void responders_set_plan(struct responders *s, const struct plan *plan)
{
	if (s->dhcp)
		dhcp_set_plan(s->dhcp, plan);
	if (s->dns)
		dns_set_plan(s->dns, plan);
	if (s->flows && plan->flows)
		flows_set(s->flows, plan->flows);
	else if (s->flows)
		stop_flows(s);
	if (s->responder6)
		responder6_set_plan(s->responder6, plan);
}

void responders_stop(struct responders *s)
{
	if (s->watch)
		watch_free(s->watch);
	pulse_free(s->pulse);
	stop_flows(s);
	stop_dns(s);
	if (s->dhcp)
		dhcp_free(s->dhcp);
	if (s->responder6)
		responder6_free(s->responder6);
	*s = (struct responders){0};
}
