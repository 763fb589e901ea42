/* Kernel: its calls, and the VPCs that it knows. (Its rooms: kernel-internal.h.) */
#include "kernel-internal.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/inotify.h>
#include "fiber.h"
#include "jsonx.h"
#include "log.h"
#include "metadata.h"

struct kernel kernel;

struct vpc *kernel_vpc_find(const char *vpc_id)
{
	for (size_t i = 0; i < kernel.n_vpcs; i++)
		if (strcmp(kernel.vpcs[i]->router.id, vpc_id) == 0)
			return kernel.vpcs[i];
	return NULL;
}

struct vpc *kernel_vpc_new(const char *vpc_id)
{
	struct vpc *v;

	if (kernel.n_vpcs == kernel.n_room) {
		size_t n_room = kernel.n_room ? kernel.n_room * 2 : 8;
		struct vpc **grown = realloc(kernel.vpcs, n_room * sizeof *grown);

		if (!grown)
			return NULL;
		kernel.vpcs = grown;
		kernel.n_room = n_room;
	}
	v = calloc(1, sizeof *v);
	if (!v)
		return NULL;
	snprintf(v->router.id, sizeof v->router.id, "%s", vpc_id);
	kernel.vpcs[kernel.n_vpcs++] = v;
	return v;
}

void kernel_vpc_free(struct vpc *v)
{
	responders_stop(&v->responders);
	if (v->router.netns)
		netns_free(v->router.netns);
	plan_free(v->router.plan);
	plan_memo_free(v->memo);
	free(v);
}

/* ---- the boundary ---- */

static int read_settings(struct daemon *d)
{
	const char *uplink = config_string(d->config, "Network", "Uplink");
	const char *firewall = config_string(d->config, "Network", "HostFirewall");
	struct host_settings *s = &kernel.pass.settings;

	if (cidr_parse(config_string(d->config, "Network", "PublicPool"), &s->public_pool) < 0 ||
	    cidr_parse(config_string(d->config, "Network", "TransitPool"), &s->transit_pool) < 0 ||
	    s->transit_pool.bits > 30 ||
	    cidr6_parse(config_string(d->config, "Network", "Ipv6Pool"), &s->ipv6_pool) < 0 ||
	    s->ipv6_pool.bits > 56 || strlen(uplink) >= sizeof s->uplink) {
		log_error(-EINVAL, "[Network] PublicPool, Ipv6Pool, TransitPool or Uplink cannot "
				   "be understood");
		return -EINVAL;
	}
	if (strcmp(firewall, "pass") != 0 && strcmp(firewall, "leave") != 0) {
		log_error(-EINVAL, "[Network] HostFirewall is neither pass nor leave");
		return -EINVAL;
	}
	s->is_firewall_passed = strcmp(firewall, "pass") == 0;
	snprintf(s->uplink, sizeof s->uplink, "%s", uplink);
	s->is_host_reachable = config_bool(d->config, "Network", "GuestsReachHost");
	kernel.plan_settings =
		(struct plan_settings){cidr_first(s->transit_pool), s->transit_pool.bits};
	return 0;
}

static int open_loop(struct daemon *d)
{
	const struct watch_calls calls = {.on_change = kernel_on_foreign_change,
					  .on_doubt = kernel_on_doubt};
	int r = sd_event_add_defer(d->loop, &kernel.soon, kernel_on_soon, NULL);

	if (r >= 0)
		r = sd_event_source_set_enabled(kernel.soon, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(d->loop, &kernel.later, CLOCK_MONOTONIC, 0, 0,
				      kernel_on_later, NULL);
	if (r >= 0)
		r = sd_event_source_set_enabled(kernel.later, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time_relative(d->loop, &kernel.pulse, CLOCK_MONOTONIC,
					       KERNEL_PULSE_USEC, 0, kernel_on_pulse, NULL);
	if (r >= 0)
		r = sd_event_add_inotify(d->loop, &kernel.names, NETNS_DIR, IN_DELETE,
					 kernel_on_unlink, NULL);
	if (r >= 0)
		r = watch_new(d->loop, kernel.pass.host, kernel.pass.host, &calls, &kernel.watch);
	return r < 0 ? r : 0;
}

int kernel_open(struct daemon *d)
{
	int r;

	kernel.daemon = d;
	kernel.pass.is_first = 1;
	r = read_settings(d);
	if (r < 0)
		return r;
	r = netns_start(&kernel.pass.host);
	if (r == 0)
		r = flow_place_open(d, &kernel.flow_place);
	if (r == 0)
		r = open_loop(d);
	if (r < 0) {
		log_error(r, "cannot work on the network");
		return r;
	}
	if (host_bridge_filter())
		log_warning(0, "bridged frames pass the host's iptables (br_netfilter): guests may "
			       "not reach one another");
	store_each (d->store, "vpc", vpc)
		kernel_touch(vpc->id);
	kernel.is_host_touched = kernel.is_running = 1;
	kernel_run_passes(NULL);
	return 0;
}

void kernel_close(struct daemon *d)
{
	(void)d;
	kernel.is_closing = 1;
	for (size_t i = 0; i < kernel.n_vpcs; i++)
		if (kernel.vpcs[i]->responders.flows)
			flows_end(kernel.vpcs[i]->responders.flows); /* passes know nothing of it */
	if (kernel.is_running)
		return; /* a worker has it all in hands; the process ends with it */
	for (size_t i = 0; i < kernel.n_vpcs; i++)
		kernel_vpc_free(kernel.vpcs[i]);
	free(kernel.vpcs);
	free(kernel.pass.routers);
	if (kernel.watch)
		watch_free(kernel.watch);
	sd_event_source_disable_unref(kernel.soon);
	sd_event_source_disable_unref(kernel.later);
	sd_event_source_disable_unref(kernel.names);
	sd_event_source_disable_unref(kernel.pulse);
	if (kernel.pass.host)
		netns_free(kernel.pass.host);
	memset(&kernel, 0, sizeof kernel);
}

static void touch(const char *vpc_id)
{
	struct vpc *v = kernel_vpc_find(vpc_id);

	if (!v)
		v = kernel_vpc_new(vpc_id);
	if (!v) {
		log_error(-ENOMEM, "the VPC cannot be brought in line", "VPC", vpc_id);
		return;
	}
	v->touched++;
	v->is_asked = 1;
	kernel_schedule();
}

/* What it has of other VPCs in its plan is to follow them. */
void kernel_touch(const char *vpc_id)
{
	touch(vpc_id);
	for (size_t i = 0; i < kernel.n_vpcs; i++) {
		const struct plan *plan = kernel.vpcs[i]->router.plan;

		if (plan && jarray_has(plan->watched, vpc_id)) {
			kernel.vpcs[i]->touched++;
			kernel.vpcs[i]->is_asked = 1;
		}
	}
}

/* (fiber) Until the next pass has ended. */
static void wait_for_pass(struct waiter *w)
{
	/* A stray wake leaves it where it is: twice in the list is a list without end. */
	if (!w->is_queued) {
		w->next = kernel.waiters;
		w->is_queued = 1;
		kernel.waiters = w;
	}
	fiber_wait();
}

int kernel_sync(const char *vpc_id, struct fault *f)
{
	struct vpc *v = kernel_vpc_find(vpc_id);
	struct waiter w = {.fiber = fiber_self()};

	/* What failed is tried again for those who ask, not only by and by. */
	if (v && v->error < 0 && v->done == v->touched)
		touch(vpc_id);
	uint64_t target = v ? v->touched : 0;

	while (v && v->done < target) {
		wait_for_pass(&w);
		v = kernel_vpc_find(vpc_id);
	}
	assert(!w.is_queued); /* who ends a pass wakes all in the same breath */
	if (v && v->error < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "The network of %s is not ready", vpc_id);
	return 0;
}

/* (fiber) What was asked before is done, or has failed: the pass that follows tells. */
static int catch_up(void)
{
	OWN(free) char(*behind)[ID_MAX] = calloc(kernel.n_vpcs + 1, sizeof *behind);
	size_t n = 0;

	if (!behind)
		return -ENOMEM;
	for (size_t i = 0; i < kernel.n_vpcs; i++) /* the list changes while we wait */
		if (kernel.vpcs[i]->done < kernel.vpcs[i]->touched)
			snprintf(behind[n++], ID_MAX, "%s", kernel.vpcs[i]->router.id);
	while (n > 0)
		(void)kernel_sync(behind[--n], NULL);
	return 0;
}

int kernel_reconcile(unsigned *ret_changes, struct fault *f)
{
	struct waiter w = {.fiber = fiber_self()};
	int r = catch_up();		      /* what nobody has come to yet is not amiss */
	uint64_t target = kernel.n_begun + 1; /* a pass that runs has its list already */

	if (r < 0)
		return r;
	for (size_t i = 0; i < kernel.n_vpcs; i++)
		kernel.vpcs[i]->touched++;
	kernel.is_host_touched = kernel.is_full = 1;
	kernel_schedule();
	while (kernel.n_ended < target)
		wait_for_pass(&w);
	assert(!w.is_queued);
	if (kernel.pass.error < 0 || kernel.pass.host_error < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "The host's network is not ready: %s",
				 kernel.pass.reason);
	for (size_t i = 0; i < kernel.n_vpcs; i++)
		if (kernel.vpcs[i]->error < 0)
			return fault_set(f, FAULT_INTERNAL_ERROR, "The network of %s is not ready",
					 kernel.vpcs[i]->router.id);
	*ret_changes = kernel.n_changes;
	return 0;
}

int kernel_flush_flows(const char *vpc_id, struct fault *f)
{
	int r = kernel_sync(vpc_id, f);
	struct vpc *v = kernel_vpc_find(vpc_id);

	if (r < 0)
		return r;
	r = v && v->responders.flows ? flows_flush(v->responders.flows) : 0;
	return r < 0 ? fault_set(f, FAULT_INTERNAL_ERROR, "Lines of flow logs were lost: %s",
				 strerror(-r))
		     : 0;
}

/* 0; without IPv6 in the kernel there is no socket of it. */
static int add_listener(const struct netns *n, int family, struct fds *out)
{
	OWN(fd_close) int fd = metadata_listen(n, family);
	int r = fd < 0 ? fd : fds_add(out, fd);

	if (r < 0)
		return r == -EAFNOSUPPORT && family == AF_INET6 ? 0 : r;
	(void)give(fd);
	return 0;
}

int kernel_open_metadata(const char *vpc_id, struct fds *out, struct fault *f)
{
	struct vpc *v;
	int r;

	r = kernel_sync(vpc_id, f);
	if (r < 0)
		return r;
	v = kernel_vpc_find(vpc_id);
	/* By now another pass may run: it ends the namespace of no router that has a plan. */
	if (!v || !v->router.plan || !v->router.netns)
		return fault_set(f, FAULT_INCORRECT_STATE, "%s has no interface in use", vpc_id);
	r = add_listener(v->router.netns, AF_INET, out);
	if (r == 0)
		r = add_listener(v->router.netns, AF_INET6, out);
	return r < 0 ? fault_set(f, FAULT_INTERNAL_ERROR, "Metadata cannot be listened for: %s",
				 strerror(-r))
		     : 0;
}

unsigned kernel_mtu(void)
{
	return PLAN_MTU;
}

struct examination {
	int has_ipv6;
	json_t *checks;
};

static int examine(void *arg)
{
	OWN(netns_free) struct netns *host = NULL;
	struct examination *e = arg;
	/* A hold of its own: the other is a pass's. */
	int r = netns_start(&host);

	if (r < 0)
		return r;
	e->checks = host_doctor(&kernel.pass.settings, host, e->has_ipv6);
	return e->checks ? 0 : -ENOMEM;
}

int kernel_doctor(json_t **ret_checks)
{
	struct examination e = {0};
	int r;

	for (size_t i = 0; i < kernel.n_vpcs; i++)
		e.has_ipv6 |= kernel.vpcs[i]->router.plan && kernel.vpcs[i]->router.plan->has_ipv6;
	r = fiber_work(examine, &e);
	if (r == 0)
		*ret_checks = e.checks;
	return r;
}
