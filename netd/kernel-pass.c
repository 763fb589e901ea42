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
#include "kernel-internal.h"

#include <errno.h>
#include <string.h>
#include "documents.h"
#include "fiber.h"
#include "jsonx.h"
#include "log.h"

#define RETRY_MAX_USEC 60000000

/* ---- when passes run ---- */

void kernel_schedule(void)
{
	if (!kernel.is_running && kernel.soon)
		(void)sd_event_source_set_enabled(
			kernel.soon, SD_EVENT_ONESHOT); /* cannot fail for a source that exists */
}

void kernel_schedule_later(uint64_t usec)
{
	uint64_t now, set;
	int is_set;

	if (!kernel.later || sd_event_now(kernel.daemon->loop, CLOCK_MONOTONIC, &now) < 0)
		return;
	/* One whose time has come and whose turn has not is not put off: news that never end would
	 * do so for ever. */
	if (sd_event_source_get_enabled(kernel.later, &is_set) >= 0 && is_set &&
	    sd_event_source_get_time(kernel.later, &set) >= 0 && set < now + usec)
		return;
	(void)sd_event_source_set_time(kernel.later,
				       now + usec); /* cannot fail for a source that exists */
	(void)sd_event_source_set_enabled(kernel.later, SD_EVENT_ONESHOT);
}

int kernel_on_later(sd_event_source *s, uint64_t usec, void *arg)
{
	(void)s, (void)usec, (void)arg;
	if (kernel.n_doubts && kernel.is_running)
		kernel_schedule_later(KERNEL_RETRY_MIN_USEC);
	else
		kernel_resolve_doubts();
	kernel.is_host_touched |= kernel.is_host_suspect;
	for (size_t i = 0; i < kernel.n_vpcs; i++) {
		struct vpc *v = kernel.vpcs[i];

		if (v->error < 0 || v->is_suspect)
			v->touched++;
		v->is_asked |= v->error < 0;
	}
	kernel_schedule();
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
	for (size_t i = 0; i < kernel.n_vpcs; i++) {
		struct vpc *v = kernel.vpcs[i];

		if (v->is_node && v->router.plan && strcmp(v->router.plan->vpc_id, vpc_id) == 0)
			node_follow(v, node_take(plan, v->router.id));
	}
	while (plan && plan->n_nodes) {
		struct vpc *v = kernel_vpc_new(plan->nodes[0]->node_id);

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
	r = documents_gather(kernel.daemon->store, v->router.id, v->memo, &documents);
	if (r == 0)
		r = plan_make(&kernel.plan_settings, &documents.input, &plan, what);
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

/* Its settings in the host's namespace may have been changed, too. */
static void distrust(struct vpc *v)
{
	kernel.pass.host->is_known = 0;
	if (v->router.netns)
		v->router.netns->is_known = 0;
}

/* Plans come before the list: a VPC's may bring nodes. */
static void plan_all(void)
{
	for (size_t i = 0, n = kernel.n_vpcs; i < n; i++) {
		struct vpc *v = kernel.vpcs[i];

		if (v->touched <= v->done)
			continue;
		if (v->is_suspect)
			distrust(v);
		v->is_suspect = 0;
		if (v->is_node)
			v->error = 0;
		else
			plan_anew(v);
	}
}

/* What is suspected of the host is this pass's to look at; where there is none, it stays for the one
 * that the timer begins. */
static void take_over_host(void)
{
	if (kernel.is_host_suspect) {
		kernel.pass.host->is_known = 0;
		kernel.n_doubts = 0; /* all is looked at */
	}
	kernel.is_host_touched = kernel.is_host_suspect = 0;
}

/* Most of a VPC's life before its first interface starts are changes that mean nothing to the
 * kernel yet: they cost no pass. */
static int needs_pass(struct vpc *v)
{
	if (v->touched <= v->done)
		return 0;
	if (v->is_node || v->error < 0 || kernel.is_full || kernel.pass.is_first ||
	    !v->is_nothing || v->router.netns || !v->router.plan || !v->router.plan->is_idle)
		return 1;
	v->done = v->touched;
	return 0;
}

/* Whether there is something to do. Then the pass has its plans and its list. */
static int begin(void)
{
	int n = kernel.is_host_touched;
	struct router **routers;

	plan_all();
	routers = realloc(kernel.pass.routers, (kernel.n_vpcs + 1) * sizeof *routers);
	if (!routers) {
		kernel_schedule_later(KERNEL_RETRY_MIN_USEC);
		return 0;
	}
	kernel.pass.routers = routers;
	kernel.pass.n_routers = kernel.n_vpcs;
	kernel.pass.is_first |= kernel.is_full;
	kernel.pass.is_incomplete = 0;
	for (size_t i = 0; i < kernel.n_vpcs; i++) {
		struct vpc *v = kernel.vpcs[i];

		routers[i] = &v->router;
		v->router.is_touched = needs_pass(v);
		v->begun = v->touched;
		v->is_due = v->is_asked;
		v->is_asked = 0;
		n += v->router.is_touched;
		kernel.pass.is_incomplete |= v->error < 0 && !v->router.plan;
	}
	kernel.is_due = kernel.pass.is_first && !kernel.is_full;
	for (size_t i = 0; i < kernel.n_vpcs; i++)
		kernel.is_due |= kernel.vpcs[i]->is_due;
	kernel.is_full = 0;
	if (n)
		take_over_host();
	return n;
}

static int work(void *arg)
{
	return pass_run(arg);
}

static int serve(struct vpc *v)
{
	const struct responders_place place = {.daemon = kernel.daemon,
					       .host = kernel.pass.host,
					       .flows = &kernel.flow_place,
					       .on_change = kernel_on_foreign_change,
					       .is_neighbour = kernel_is_neighbour,
					       .arg = v,
					       .is_node = v->is_node};

	return v->router.netns ? responders_start(&v->responders, &v->router, &place) : 0;
}

static void finish_vpc(struct vpc *v)
{
	struct router *r = &v->router;
	char n_changes[16];

	if (v->error == 0)
		v->error = r->error < 0 ? r->error : kernel.pass.error;
	if (v->error == 0 && r->plan)
		v->error = serve(v);
	v->done = v->begun;
	v->is_nothing = v->error == 0 && r->plan && r->plan->is_idle && !r->netns;
	if (v->error < 0)
		log_error(v->error, "the VPC is not as it should be, trying again", "VPC", r->id,
			  "REASON", r->reason[0] ? r->reason : kernel.pass.reason);
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
	unsigned n_changes = kernel.pass.n_changes;
	char text[16];

	for (size_t i = 0; i < kernel.pass.n_routers; i++)
		n_changes -= kernel.pass.routers[i]->n_changes;
	snprintf(text, sizeof text, "%u", n_changes);
	if (n_changes && !kernel.is_due)
		log_warning(0,
			    "somebody else changed the host's part of the network, it was mended",
			    "CHANGES", text);
}

/* Of a VPC, NULL: of the host. */
static void look_again(struct netns *n, struct vpc *v)
{
	if (!n || !n->is_disturbed)
		return;
	n->is_disturbed = 0;
	kernel_on_foreign_change(v);
}

/* VPCs that came while the pass ran are not its concern. */
static int finish_vpcs(void)
{
	size_t n = 0, n_passed = kernel.pass.n_routers;
	int is_failed = 0;

	for (size_t i = 0; i < kernel.n_vpcs; i++) {
		struct vpc *v = kernel.vpcs[i];

		/* Untouched ones may have been repaired, too. */
		if (i < n_passed && (v->router.is_touched || v->router.error < 0))
			finish_vpc(v);
		if (i < n_passed && v->router.n_changes && !v->is_due)
			tell_of_repair(v);
		look_again(v->router.netns, v);
		is_failed |= v->error < 0;
		if (!v->router.plan && !v->router.netns && v->touched == v->done && v->error == 0)
			kernel_vpc_free(v);
		else
			kernel.vpcs[n++] = v;
	}
	kernel.n_vpcs = n;
	return is_failed;
}

static void finish(void)
{
	int is_failed;

	tell_of_host_repair();
	look_again(kernel.pass.host, NULL);
	is_failed = finish_vpcs();
	if (kernel.pass.error < 0 || kernel.pass.host_error < 0) {
		log_error(kernel.pass.error < 0 ? kernel.pass.error : kernel.pass.host_error,
			  "the host's network is not as it should be, trying again", "REASON",
			  kernel.pass.reason);
		kernel.is_host_suspect = is_failed = 1;
	}
	if (kernel.pass.error == 0)
		kernel.pass.is_first = 0;
	if (!is_failed) {
		kernel.retry_usec = 0;
		return;
	}
	kernel.retry_usec = kernel.retry_usec ? kernel.retry_usec * 2 : KERNEL_RETRY_MIN_USEC;
	if (kernel.retry_usec > RETRY_MAX_USEC)
		kernel.retry_usec = RETRY_MAX_USEC;
	kernel_schedule_later(kernel.retry_usec);
}

static void wake_all(void)
{
	for (struct waiter *w = kernel.waiters, *next; w; w = next) {
		next = w->next;
		w->is_queued = 0;
		fiber_wake(w->fiber);
	}
	kernel.waiters = NULL;
}

void kernel_run_passes(void *arg)
{
	(void)arg;
	while (!kernel.is_closing && begin() > 0) {
		kernel.n_begun++;
		/* Its result is in the pass and its routers. */
		(void)fiber_work(work, &kernel.pass);
		if (kernel.is_closing)
			break;
		kernel.n_ended++;
		kernel.n_changes = kernel.pass.n_changes;
		finish();
		wake_all();
	}
	wake_all(); /* of what needed no pass */
	kernel.is_running = 0;
}

int kernel_on_soon(sd_event_source *s, void *arg)
{
	(void)s, (void)arg;
	if (kernel.is_running)
		return 0;
	kernel.is_running = 1;
	if (fiber_spawn(kernel_run_passes, NULL) < 0) {
		kernel.is_running = 0;
		kernel_schedule_later(KERNEL_RETRY_MIN_USEC);
	}
	return 0;
}
