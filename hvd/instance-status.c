/*
 * DescribeInstanceStatus: two checks that mean something.
 *
 * The guest's: `ok` when it was seen alive: its agent speaks (and has not fallen silent), or,
 * without an agent, it has sent packets or asked for its metadata since it was started. The
 * system's: libvirt answers, and has not lost the domain. Both are judged when asked: no timer
 * runs for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "describe.h"
#include "guest.h"
#include "instance-rooms.h"

#define SILENCE_USEC 60000000ull /* six beats of the agent: a busy host delays some */
#define NEVER_SEEN_USEC                                                                            \
	(600 * 1000000ll) /* so long after launch a guest that showed nothing is not coming */

static const struct filter filters[] = {
	{"availability-zone", "AvailabilityZone"},
	{"event.code", "Events.Code"},
	{"event.description", "Events.Description"},
	{"event.instance-event-id", "Events.InstanceEventId"},
	{"event.not-after", "Events.NotAfter"},
	{"event.not-before", "Events.NotBefore"},
	{"event.not-before-deadline", "Events.NotBeforeDeadline"},
	{"instance-state-code", "InstanceState.Code"},
	{"instance-state-name", "InstanceState.Name"},
	{"instance-status.reachability", "InstanceStatus.Details.Status"},
	{"instance-status.status", "InstanceStatus.Status"},
	{"system-status.reachability", "SystemStatus.Details.Status"},
	{"system-status.status", "SystemStatus.Status"},
	{NULL},
};

static const struct describe statuses = {
	.result = "InstanceStatuses",
	.ids = "InstanceIds",
	.filters = filters,
};

/* Each check's word, and what its one detail (reachability) then says. */
static const struct {
	const char *check, *reachability;
} words[] = {
	{"ok", "passed"},
	{"impaired", "failed"},
	{"initializing", "initializing"},
	{"insufficient-data", "insufficient-data"},
	{NULL, NULL},
};

int64_t instance_packets(const json_t *instance)
{
	const char *tap =
		jstr(json_array_get(json_object_get(instance, "NetworkInterfaces"), 0), "_Tap");
	char path[96], text[24] = "";

	if (!tap || strchr(tap, '/'))
		return 0;
	snprintf(path, sizeof(path), "/sys/class/net/%.15s/statistics/rx_packets", tap);
	OWN(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return 0;
	return strtoll(text, NULL, 10);
}

const char *instance_check(const struct doc *d)
{
	const struct hvd *h = hvd_get();
	const struct live *l = live_find(d->id);
	int64_t since = jtime_parse(jstr_or(d->json, "LaunchTime", ""));

	if (instance_state_of(d->json) != INSTANCE_RUNNING)
		return "not-applicable";
	if (!virt_is_connected(h->virt))
		return "insufficient-data";
	if (json_object_get(d->json, "_HasAgent")) {
		uint64_t heard = l ? guest_heard_usec(l->guest) : 0;
		/* Before we listened there was nothing to hear. */
		if (heard < h->listening_usec)
			heard = h->listening_usec;
		return now_usec() - heard < SILENCE_USEC ? "ok" : "impaired";
	}
	if (json_object_get(d->json, "_SeenAlive"))
		return "ok";
	if (instance_packets(d->json) > jint(d->json, "_PacketsBefore", 0)) {
		instance_on_life(d->id, 0);
		return "ok";
	}
	return (int64_t)time(NULL) * 1000000 - since < NEVER_SEEN_USEC ? "initializing"
								       : "impaired";
}

static const char *system_check(const struct doc *d)
{
	const struct live *l = live_find(d->id);

	if (instance_state_of(d->json) != INSTANCE_RUNNING)
		return "not-applicable";
	return virt_is_connected(hvd_get()->virt) && !(l && l->is_missed) ? "ok" : "impaired";
}

static json_t *summary(const char *check)
{
	for (int i = 0; words[i].check; i++)
		if (strcmp(words[i].check, check) == 0)
			return json_pack("{s:s, s:[{s:s, s:s}]}", "Status", check, "Details",
					 "Name", "reachability", "Status", words[i].reachability);
	return json_pack("{s:s}", "Status", check);
}

/* Adds the instance's status unless it is left out (not running, and not all are asked for). */
static int add_status(json_t *list, const struct doc *d, int is_all)
{
	if (!is_all && instance_state_of(d->json) != INSTANCE_RUNNING)
		return 0;
	json_t *item =
		json_pack("{s:s, s:s*, s:O, s:o, s:o}", "InstanceId", d->id, "AvailabilityZone",
			  jpath_str(d->json, "Placement.AvailabilityZone"), "InstanceState",
			  json_object_get(d->json, "State"), "InstanceStatus",
			  summary(instance_check(d)), "SystemStatus", summary(system_check(d)));
	return json_array_append_new(list, item) < 0 ? -ENOMEM : 0;
}

int instance_status_describe(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	json_t *ids = json_object_get(parameters, "InstanceIds"), *id;
	OWN(json_decref) json_t *list = json_array();
	int is_all = jbool(parameters, "IncludeAllInstances", 0);
	const struct doc *found;
	size_t i;
	int r = 0;

	json_array_foreach (ids, i, id)
		if ((r = instance_get(c, json_string_value(id), &found, f)) < 0 ||
		    (r = add_status(list, found, is_all)) < 0)
			return r;
	if (json_array_size(ids) == 0)
		store_each (c->store, INSTANCE_KIND, d)
			if (r == 0 && strcmp(d->account, c->ctx->account) == 0 &&
			    strcmp(d->region, c->ctx->region) == 0)
				r = add_status(list, d, is_all);
	return r < 0 ? r : describe_list(c, &statuses, list, parameters, ret_reply, f);
}
