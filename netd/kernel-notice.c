/* Kernel, notices: what somebody else changed is looked at soon. */
#include "kernel-internal.h"

#include <string.h>
#include <sys/inotify.h>
#include "log.h"

#define PULSE_VPCS     8      /* at a time */
#define REST_USEC      300000 /* after a foreign change: others come with it */
#define READ_BACK_USEC 60000000

void kernel_on_foreign_change(void *arg)
{
	struct vpc *v = arg;

	if (v)
		v->is_suspect = 1;
	else
		kernel.is_host_suspect = 1;
	kernel_schedule_later(REST_USEC);
}

int kernel_is_neighbour(const struct address *address, void *arg)
{
	const struct vpc *v = arg;
	struct items known = {0};

	if (v->router.plan)
		known = items_slice(&v->router.plan->router, ITEM_NEIGHBOUR, ITEM_NEIGHBOUR);
	for (size_t i = 0; i < known.n; i++)
		if (ip_is(&known.at[i].address, address))
			return 1;
	return 0;
}

void kernel_on_doubt(int index, void *arg)
{
	(void)arg;
	for (size_t i = 0; i < kernel.n_doubts; i++)
		if (kernel.doubts[i] == index)
			return;
	if (kernel.n_doubts == KERNEL_DOUBTS)
		kernel.is_host_suspect = 1;
	else
		kernel.doubts[kernel.n_doubts++] = index;
	kernel_schedule_later(REST_USEC);
}

void kernel_resolve_doubts(void)
{
	for (size_t i = 0; i < kernel.n_doubts && !kernel.is_host_suspect; i++)
		kernel.is_host_suspect =
			netns_is_link_known(kernel.pass.host, kernel.doubts[i]) != 1;
	kernel.n_doubts = 0;
}

/* Somebody took a namespace's name away; what is inside lives on by our hold. */
int kernel_on_unlink(sd_event_source *s, const struct inotify_event *e, void *arg)
{
	static const char prefix[] = "gureum-";
	struct vpc *v = e->len && strncmp(e->name, prefix, sizeof prefix - 1) == 0
				? kernel_vpc_find(e->name + sizeof prefix - 1)
				: NULL;

	(void)s, (void)arg;
	if (v && v->router.plan)
		kernel_on_foreign_change(v);
	return 0;
}

static void feel(struct vpc *v)
{
	int r;

	if (!v->responders.pulse || !v->router.plan || v->touched != v->done || v->is_suspect)
		return; /* it is looked at anyway */
	r = pulse_is_well(v->responders.pulse, v->router.netns, kernel.pass.host, v->router.plan);
	if (r == 0)
		kernel_on_foreign_change(v);
	else if (r < 0)
		log_warning(r, "the VPC's sets and settings cannot be read", "VPC", v->router.id);
}

static int is_due_again(uint64_t *last_usec, uint64_t now)
{
	int is_first = *last_usec == 0, is_due = now - *last_usec >= READ_BACK_USEC;

	if (is_first || is_due)
		*last_usec = now;
	return !is_first && is_due;
}

/* Notifications can be lost, and of large sets only sizes are felt: now and then all is read, one
 * namespace at a time. */
static void read_back(uint64_t now)
{
	if (is_due_again(&kernel.host_read_usec, now)) {
		kernel.pass.host->is_known = 0;
		kernel.is_host_touched = 1;
		kernel_schedule();
		return;
	}
	for (size_t i = 0; i < kernel.n_vpcs; i++) {
		struct vpc *v = kernel.vpcs[i];

		if (!v->router.netns || !v->router.plan || !is_due_again(&v->read_usec, now))
			continue;
		v->router.netns->is_known = 0;
		v->touched++;
		kernel_schedule();
		return;
	}
}

/* While a pass runs, what there should be is not what there is. */
int kernel_on_pulse(sd_event_source *s, uint64_t usec, void *arg)
{
	(void)arg;
	for (size_t i = 0; !kernel.is_running && i < kernel.n_vpcs && i < PULSE_VPCS; i++)
		feel(kernel.vpcs[kernel.pulse_at++ % kernel.n_vpcs]);
	if (!kernel.is_running)
		read_back(usec);
	(void)sd_event_source_set_time_relative(
		s, KERNEL_PULSE_USEC); /* cannot fail for a timer that exists */
	(void)sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
	return 0;
}
