/*
 * Kernel: when passes run, and who waits for them.
 *
 * Theory of operation: every VPC that was touched has a number that grows with each touch. One
 * fiber runs passes, one after another: it makes plans of what was touched, lets a worker run the
 * pass, then takes over the results (responders, watches) and wakes those who wait. Touches that
 * come while a pass runs are the next pass's: many touches, one pass. What failed is tried again,
 * later and later. What others change is noticed by the watches and looked at after a moment's
 * rest.
 */
#include "kernel.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/inotify.h>
#include "documents.h"
#include "fiber.h"
#include "jsonx.h"
#include "log.h"
#include "metadata.h"
#include "pass.h"
#include "plan-memo.h"
#include "responders.h"

#define PULSE_USEC     2000000
#define PULSE_VPCS     8      /* at a time */
#define REST_USEC      300000 /* after a foreign change: others come with it */
#define RETRY_MIN_USEC 1000000
#define RETRY_MAX_USEC 60000000

/* A VPC, or a node of one: then it has no documents, and nobody asks it for DHCP or DNS. */
struct vpc {
	struct router router; /* first: passes know only this */
	int is_node;
	uint64_t touched, begun, done; /* touches so far; those the running pass covers; those that
					  a pass has covered */
	int error;		       /* of the last pass */
	struct plan_memo *memo;	       /* for its plans */
	int is_asked, is_due;	       /* a document changed: of the next, of this pass */
	int is_nothing;		       /* the last pass found nothing of it, and nothing to make */
	int is_suspect;		       /* somebody else changed something in its namespace */
	struct responders responders;
};

struct waiter {
	struct fiber *fiber;
	struct waiter *next;
	int is_queued;
};

static struct {
	struct daemon *daemon;
	struct plan_settings plan_settings;
	struct flow_place flow_place;
	struct vpc **vpcs;
	size_t n_vpcs, n_room;
	struct pass pass; /* a worker's while it runs: its list of routers is its own */
	struct watch *watch;
	sd_event_source *soon, *later; /* a touch; a retry or a foreign change */
	sd_event_source *pulse;
	size_t pulse_at;	/* the VPC to be felt next */
	sd_event_source *names; /* of namespaces */
	uint64_t retry_usec;
	uint64_t n_begun, n_ended; /* passes */
	unsigned n_changes;	   /* of the last pass */
	int is_running, is_closing;
	int is_host_touched, is_host_suspect;
	int is_due;  /* the pass is about changed documents, or the first */
	int is_full; /* the next pass looks at what an earlier process may have left, too */
	struct waiter *waiters;
} k;

static struct vpc *vpc_find(const char *vpc_id)
{
	for (size_t i = 0; i < k.n_vpcs; i++)
		if (strcmp(k.vpcs[i]->router.id, vpc_id) == 0)
			return k.vpcs[i];
	return NULL;
}

static struct vpc *vpc_new(const char *vpc_id)
{
	struct vpc *v;

	if (k.n_vpcs == k.n_room) {
		size_t n_room = k.n_room ? k.n_room * 2 : 8;
		struct vpc **grown = realloc(k.vpcs, n_room * sizeof *grown);

		if (!grown)
			return NULL;
		k.vpcs = grown;
		k.n_room = n_room;
	}
	v = calloc(1, sizeof *v);
	if (!v)
		return NULL;
	snprintf(v->router.id, sizeof v->router.id, "%s", vpc_id);
	k.vpcs[k.n_vpcs++] = v;
	return v;
}

static void vpc_free(struct vpc *v)
{
	responders_stop(&v->responders);
	if (v->router.netns)
		netns_free(v->router.netns);
	plan_free(v->router.plan);
	plan_memo_free(v->memo);
	free(v);
}

/* ---- when passes run ---- */

static void schedule(void)
{
	if (!k.is_running && k.soon)
		(void)sd_event_source_set_enabled(
			k.soon, SD_EVENT_ONESHOT); /* cannot fail for a source that exists */
}

static void schedule_later(uint64_t usec)
{
	uint64_t now, set;
	int is_set;

	if (!k.later || sd_event_now(k.daemon->loop, CLOCK_MONOTONIC, &now) < 0)
		return;
	if (sd_event_source_get_enabled(k.later, &is_set) >= 0 && is_set &&
	    sd_event_source_get_time(k.later, &set) >= 0 && set > now && set < now + usec)
		return; /* sooner already */
	(void)sd_event_source_set_time(k.later,
				       now + usec); /* cannot fail for a source that exists */
	(void)sd_event_source_set_enabled(k.later, SD_EVENT_ONESHOT);
}

static int on_later(sd_event_source *s, uint64_t usec, void *arg)
{
	(void)s, (void)usec, (void)arg;
	k.is_host_touched |= k.is_host_suspect;
	for (size_t i = 0; i < k.n_vpcs; i++) {
		struct vpc *v = k.vpcs[i];

		if (v->error < 0 || v->is_suspect)
			v->touched++;
		v->is_asked |= v->error < 0;
	}
	schedule();
	return 0;
}

static void on_foreign_change(void *arg)
{
	struct vpc *v = arg;

	if (v)
		v->is_suspect = 1;
	else
		k.is_host_suspect = 1;
	schedule_later(REST_USEC);
}

/* Somebody took a namespace's name away; what is inside lives on by our hold. */
static int on_unlink(sd_event_source *s, const struct inotify_event *e, void *arg)
{
	static const char prefix[] = "gureum-";
	struct vpc *v = e->len && strncmp(e->name, prefix, sizeof prefix - 1) == 0
				? vpc_find(e->name + sizeof prefix - 1)
				: NULL;

	(void)s, (void)arg;
	if (v && v->router.plan)
		on_foreign_change(v);
	return 0;
}

static void feel(struct vpc *v)
{
	int r;

	if (!v->responders.pulse || !v->router.plan || v->touched != v->done || v->is_suspect)
		return; /* it is looked at anyway */
	r = pulse_is_well(v->responders.pulse, v->router.netns, k.pass.host, v->router.plan);
	if (r == 0)
		on_foreign_change(v);
	else if (r < 0)
		log_warning(r, "the VPC's sets and settings cannot be read", "VPC", v->router.id);
}

/* While a pass runs, what there should be is not what there is. */
static int on_pulse(sd_event_source *s, uint64_t usec, void *arg)
{
	(void)usec, (void)arg;
	for (size_t i = 0; !k.is_running && i < k.n_vpcs && i < PULSE_VPCS; i++)
		feel(k.vpcs[k.pulse_at++ % k.n_vpcs]);
	(void)sd_event_source_set_time_relative(
		s, PULSE_USEC); /* cannot fail for a timer that exists */
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
	return 0;
}

/* ---- one pass ---- */

static void plan_replace(struct vpc *v, struct plan *plan)
{
	plan_free(v->router.plan);
	v->router.plan = plan;
}

/* The node of the plan with this id is taken out of it; NULL if there is none. */
static struct plan *node_take(struct plan *plan, const char *id)
{
	for (size_t i = 0; plan && i < plan->n_nodes; i++)
		if (strcmp(plan->nodes[i]->node_id, id) == 0) {
			struct plan *node = plan->nodes[i];

			plan->nodes[i] = plan->nodes[--plan->n_nodes];
			return node;
		}
	return NULL;
}

/* A node whose plan is the same has nothing to do. */
static void node_follow(struct vpc *v, struct plan *node)
{
	if (node && plan_is_same(node, v->router.plan)) {
		plan_free(node);
		return;
	}
	if (!node)
		responders_stop(&v->responders);
	plan_replace(v, node);
	v->touched++;
	v->is_asked = 1;
}

/* The nodes of the VPC's new plan (NULL: none) become what passes know; its others end. */
static int nodes_anew(const char *vpc_id, struct plan *plan)
{
	for (size_t i = 0; i < k.n_vpcs; i++) {
		struct vpc *v = k.vpcs[i];

		if (v->is_node && v->router.plan && strcmp(v->router.plan->vpc_id, vpc_id) == 0)
			node_follow(v, node_take(plan, v->router.id));
	}
	while (plan && plan->n_nodes) {
		struct vpc *v = vpc_new(plan->nodes[0]->node_id);

		if (!v)
			return -ENOMEM;
		v->is_node = 1;
		node_follow(v, node_take(plan, v->router.id));
	}
	return 0;
}

/* A document that cannot be understood must not take the VPC down: its last plan stays, or what is
 * in the kernel. */
static void plan_anew(struct vpc *v)
{
	OWN(documents_clear) struct documents documents = {0};
	struct plan *plan = NULL;
	char what[ID_MAX] = "";
	int r;

	if (!v->memo)
		v->memo = plan_memo_new(); /* without one, plans just take longer */
	r = documents_gather(k.daemon->store, v->router.id, v->memo, &documents);
	if (r == 0)
		r = plan_make(&k.plan_settings, &documents.input, &plan, what);
	if (r == 0 || r == -ENOENT) {
		int e = nodes_anew(v->router.id, plan);

		r = e < 0 ? e : r;
	}
	v->error = r == -ENOENT ? 0 : r;
	if (v->error < 0) {
		plan_free(plan);
		log_error(r, "the VPC's documents cannot be understood", "VPC", v->router.id,
			  "RESOURCE", what);
		return;
	}
	if (plan)
		responders_set_plan(&v->responders, plan);
	else
		responders_stop(&v->responders);
	plan_replace(v, plan);
}

/* Plans come before the list: a VPC's may bring nodes. */
static void plan_all(void)
{
	for (size_t i = 0, n = k.n_vpcs; i < n; i++) {
		struct vpc *v = k.vpcs[i];

		if (v->touched <= v->done)
			continue;
		v->is_suspect = 0;
		if (v->is_node)
			v->error = 0;
		else
			plan_anew(v);
	}
}

/* Most of a VPC's life before its first interface starts are changes that mean nothing to the
 * kernel yet: they cost no pass. */
static int needs_pass(struct vpc *v)
{
	if (v->touched <= v->done)
		return 0;
	if (v->is_node || v->error < 0 || k.is_full || k.pass.is_first || !v->is_nothing ||
	    v->router.netns || !v->router.plan || !v->router.plan->is_idle)
		return 1;
	v->done = v->touched;
	return 0;
}

/* Whether there is something to do. Then the pass has its plans and its list. */
static int begin(void)
{
	int n = k.is_host_touched;
	struct router **routers;

	plan_all();
	routers = realloc(k.pass.routers, (k.n_vpcs + 1) * sizeof *routers);
	if (!routers) {
		schedule_later(RETRY_MIN_USEC);
		return 0;
	}
	k.pass.routers = routers;
	k.pass.n_routers = k.n_vpcs;
	k.pass.is_first |= k.is_full;
	k.pass.is_incomplete = k.is_host_touched = k.is_host_suspect = 0;
	for (size_t i = 0; i < k.n_vpcs; i++) {
		struct vpc *v = k.vpcs[i];

		routers[i] = &v->router;
		v->router.is_touched = needs_pass(v);
		v->begun = v->touched;
		v->is_due = v->is_asked;
		v->is_asked = 0;
		n += v->router.is_touched;
		k.pass.is_incomplete |= v->error < 0 && !v->router.plan;
	}
	k.is_due = k.pass.is_first && !k.is_full;
	for (size_t i = 0; i < k.n_vpcs; i++)
		k.is_due |= k.vpcs[i]->is_due;
	k.is_full = 0;
	return n;
}

static int work(void *arg)
{
	return pass_run(arg);
}

static int serve(struct vpc *v)
{
	const struct responders_place place = {.daemon = k.daemon,
					       .host = k.pass.host,
					       .flows = &k.flow_place,
					       .on_change = on_foreign_change,
					       .arg = v,
					       .is_node = v->is_node};

	return v->router.netns ? responders_start(&v->responders, &v->router, &place) : 0;
}

static void finish_vpc(struct vpc *v)
{
	struct router *r = &v->router;
	char n_changes[16];

	if (v->error == 0)
		v->error = r->error < 0 ? r->error : k.pass.error;
	if (v->error == 0 && r->plan)
		v->error = serve(v);
	v->done = v->begun;
	v->is_nothing = v->error == 0 && r->plan && r->plan->is_idle && !r->netns;
	if (v->error < 0)
		log_error(v->error, "the VPC is not as it should be, trying again", "VPC", r->id,
			  "REASON", r->reason[0] ? r->reason : k.pass.reason);
	snprintf(n_changes, sizeof n_changes, "%u", r->n_changes);
	if (r->n_changes)
		log_debug("the VPC was brought in line", "VPC", r->id, "CHANGES", n_changes);
}

static void tell_of_repair(const struct vpc *v)
{
	char n_changes[16];

	snprintf(n_changes, sizeof n_changes, "%u", v->router.n_changes);
	log_warning(0, "somebody else changed the VPC's network, it was mended", "VPC",
		    v->router.id, "CHANGES", n_changes);
}

/* Only of the host's own things: nobody's documents were in this pass. */
static void tell_of_host_repair(void)
{
	unsigned n_changes = k.pass.n_changes;
	char text[16];

	for (size_t i = 0; i < k.pass.n_routers; i++)
		n_changes -= k.pass.routers[i]->n_changes;
	snprintf(text, sizeof text, "%u", n_changes);
	if (n_changes && !k.is_due)
		log_warning(0,
			    "somebody else changed the host's part of the network, it was mended",
			    "CHANGES", text);
}

/* VPCs that came while the pass ran are not its concern. */
static int finish_vpcs(void)
{
	size_t n = 0, n_passed = k.pass.n_routers;
	int is_failed = 0;

	for (size_t i = 0; i < k.n_vpcs; i++) {
		struct vpc *v = k.vpcs[i];

		/* Untouched ones may have been repaired, too. */
		if (i < n_passed && (v->router.is_touched || v->router.error < 0))
			finish_vpc(v);
		if (i < n_passed && v->router.n_changes && !v->is_due)
			tell_of_repair(v);
		is_failed |= v->error < 0;
		if (!v->router.plan && !v->router.netns && v->touched == v->done && v->error == 0)
			vpc_free(v);
		else
			k.vpcs[n++] = v;
	}
	k.n_vpcs = n;
	return is_failed;
}

static void finish(void)
{
	int is_failed;

	tell_of_host_repair();
	is_failed = finish_vpcs();
	if (k.pass.error < 0 || k.pass.host_error < 0) {
		log_error(k.pass.error < 0 ? k.pass.error : k.pass.host_error,
			  "the host's network is not as it should be, trying again", "REASON",
			  k.pass.reason);
		k.is_host_suspect = is_failed = 1;
	}
	if (k.pass.error == 0)
		k.pass.is_first = 0;
	if (!is_failed) {
		k.retry_usec = 0;
		return;
	}
	k.retry_usec = k.retry_usec ? k.retry_usec * 2 : RETRY_MIN_USEC;
	if (k.retry_usec > RETRY_MAX_USEC)
		k.retry_usec = RETRY_MAX_USEC;
	schedule_later(k.retry_usec);
}

static void wake_all(void)
{
	for (struct waiter *w = k.waiters, *next; w; w = next) {
		next = w->next;
		w->is_queued = 0;
		fiber_wake(w->fiber);
	}
	k.waiters = NULL;
}

static void run_passes(void *arg)
{
	(void)arg;
	while (!k.is_closing && begin() > 0) {
		k.n_begun++;
		/* Its result is in the pass and its routers. */
		(void)fiber_work(work, &k.pass);
		if (k.is_closing)
			break;
		k.n_ended++;
		k.n_changes = k.pass.n_changes;
		finish();
		wake_all();
	}
	wake_all(); /* of what needed no pass */
	k.is_running = 0;
}

static int on_soon(sd_event_source *s, void *arg)
{
	(void)s, (void)arg;
	if (k.is_running)
		return 0;
	k.is_running = 1;
	if (fiber_spawn(run_passes, NULL) < 0) {
		k.is_running = 0;
		schedule_later(RETRY_MIN_USEC);
	}
	return 0;
}

/* ---- the boundary ---- */

static int read_settings(struct daemon *d)
{
	const char *uplink = config_string(d->config, "Network", "Uplink");
	struct host_settings *s = &k.pass.settings;

	if (cidr_parse(config_string(d->config, "Network", "PublicPool"), &s->public_pool) < 0 ||
	    cidr_parse(config_string(d->config, "Network", "TransitPool"), &s->transit_pool) < 0 ||
	    s->transit_pool.bits > 30 ||
	    cidr6_parse(config_string(d->config, "Network", "Ipv6Pool"), &s->ipv6_pool) < 0 ||
	    s->ipv6_pool.bits > 56 || strlen(uplink) >= sizeof s->uplink) {
		log_error(-EINVAL, "[Network] PublicPool, Ipv6Pool, TransitPool or Uplink cannot "
				   "be understood");
		return -EINVAL;
	}
	snprintf(s->uplink, sizeof s->uplink, "%s", uplink);
	s->is_host_reachable = config_bool(d->config, "Network", "GuestsReachHost");
	k.plan_settings = (struct plan_settings){cidr_first(s->transit_pool), s->transit_pool.bits};
	return 0;
}

static int open_loop(struct daemon *d)
{
	int r = sd_event_add_defer(d->loop, &k.soon, on_soon, NULL);

	if (r >= 0)
		r = sd_event_source_set_enabled(k.soon, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time(d->loop, &k.later, CLOCK_MONOTONIC, 0, 0, on_later, NULL);
	if (r >= 0)
		r = sd_event_source_set_enabled(k.later, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time_relative(d->loop, &k.pulse, CLOCK_MONOTONIC, PULSE_USEC, 0,
					       on_pulse, NULL);
	if (r >= 0)
		r = sd_event_add_inotify(d->loop, &k.names, NETNS_DIR, IN_DELETE, on_unlink, NULL);
	if (r >= 0)
		r = watch_new(d->loop, k.pass.host, k.pass.host, on_foreign_change, NULL, &k.watch);
	return r < 0 ? r : 0;
}

int kernel_open(struct daemon *d)
{
	int r;

	k.daemon = d;
	k.pass.is_first = 1;
	r = read_settings(d);
	if (r < 0)
		return r;
	r = netns_start(&k.pass.host);
	if (r == 0)
		r = flow_place_open(d, &k.flow_place);
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
	k.is_host_touched = k.is_running = 1;
	run_passes(NULL);
	return 0;
}

void kernel_close(struct daemon *d)
{
	(void)d;
	k.is_closing = 1;
	for (size_t i = 0; i < k.n_vpcs; i++)
		if (k.vpcs[i]->responders.flows)
			flows_end(k.vpcs[i]->responders.flows); /* passes know nothing of it */
	if (k.is_running)
		return; /* a worker has it all in hands; the process ends with it */
	for (size_t i = 0; i < k.n_vpcs; i++)
		vpc_free(k.vpcs[i]);
	free(k.vpcs);
	free(k.pass.routers);
	if (k.watch)
		watch_free(k.watch);
	sd_event_source_disable_unref(k.soon);
	sd_event_source_disable_unref(k.later);
	sd_event_source_disable_unref(k.names);
	sd_event_source_disable_unref(k.pulse);
	if (k.pass.host)
		netns_free(k.pass.host);
	memset(&k, 0, sizeof k);
}

static void touch(const char *vpc_id)
{
	struct vpc *v = vpc_find(vpc_id);

	if (!v)
		v = vpc_new(vpc_id);
	if (!v) {
		log_error(-ENOMEM, "the VPC cannot be brought in line", "VPC", vpc_id);
		return;
	}
	v->touched++;
	v->is_asked = 1;
	schedule();
}

/* What it has of other VPCs in its plan is to follow them. */
void kernel_touch(const char *vpc_id)
{
	touch(vpc_id);
	for (size_t i = 0; i < k.n_vpcs; i++) {
		const struct plan *plan = k.vpcs[i]->router.plan;

		if (plan && jarray_has(plan->watched, vpc_id)) {
			k.vpcs[i]->touched++;
			k.vpcs[i]->is_asked = 1;
		}
	}
}

/* (fiber) Until the next pass has ended. */
static void wait_for_pass(struct waiter *w)
{
	/* A stray wake leaves it where it is: twice in the list is a list without end. */
	if (!w->is_queued) {
		w->next = k.waiters;
		w->is_queued = 1;
		k.waiters = w;
	}
	fiber_wait();
}

int kernel_sync(const char *vpc_id, struct fault *f)
{
	struct vpc *v = vpc_find(vpc_id);
	uint64_t target = v ? v->touched : 0;
	struct waiter w = {.fiber = fiber_self()};

	while (v && v->done < target) {
		wait_for_pass(&w);
		v = vpc_find(vpc_id);
	}
	assert(!w.is_queued); /* who ends a pass wakes all in the same breath */
	if (v && v->error < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "The network of %s is not ready", vpc_id);
	return 0;
}

int kernel_reconcile(unsigned *ret_changes, struct fault *f)
{
	struct waiter w = {.fiber = fiber_self()};
	uint64_t target = k.n_begun + 1; /* a pass that runs has its list already */

	for (size_t i = 0; i < k.n_vpcs; i++)
		k.vpcs[i]->touched++;
	k.is_host_touched = k.is_full = 1;
	schedule();
	while (k.n_ended < target)
		wait_for_pass(&w);
	assert(!w.is_queued);
	if (k.pass.error < 0 || k.pass.host_error < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "The host's network is not ready: %s",
				 k.pass.reason);
	for (size_t i = 0; i < k.n_vpcs; i++)
		if (k.vpcs[i]->error < 0)
			return fault_set(f, FAULT_INTERNAL_ERROR, "The network of %s is not ready",
					 k.vpcs[i]->router.id);
	*ret_changes = k.n_changes;
	return 0;
}

int kernel_flush_flows(const char *vpc_id, struct fault *f)
{
	int r = kernel_sync(vpc_id, f);
	struct vpc *v = vpc_find(vpc_id);

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
	v = vpc_find(vpc_id);
	if (!v || !v->router.netns)
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
	e->checks = host_doctor(&k.pass.settings, host, e->has_ipv6);
	return e->checks ? 0 : -ENOMEM;
}

int kernel_doctor(json_t **ret_checks)
{
	struct examination e = {0};
	int r;

	for (size_t i = 0; i < k.n_vpcs; i++)
		e.has_ipv6 |= k.vpcs[i]->router.plan && k.vpcs[i]->router.plan->has_ipv6;
	r = fiber_work(examine, &e);
	if (r == 0)
		*ret_checks = e.checks;
	return r;
}
