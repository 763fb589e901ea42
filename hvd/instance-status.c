/*
 * DescribeInstanceStatus: two checks that mean something.
 *
 * The guest's: `ok` when it was seen alive: its agent speaks (and has not fallen silent), or,
 * without an agent, it has sent packets or asked for its metadata since it was started. The
 * system's: libvirt answers, and has not lost the domain. Both are judged when asked: no timer
 * runs for them.
 *
 * ImpairedSince of the guest's check is durable before it is told, so that it stays what it was over
 * restarts of ours. The system's has none: what is known of libvirt is of this process's life, and
 * whoever could tell since when it fails for longer is what failed.
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

int agent_is_silent(uint64_t now, uint64_t heard, uint64_t audible, int is_noted)
{
	if (heard >= audible && heard > 0)
		return now - heard >= SILENCE_USEC;
	/* Before it could be heard there was nothing to hear. */
	return is_noted || now - audible >= SILENCE_USEC;
}

/* The check of a guest whose agent has spoken since its start. *ret_since: microseconds since the
 * epoch. */
static const char *agent_check(const struct doc *d, int64_t *ret_since)
{
	const struct live *l = live_find(d->id);
	uint64_t now = now_usec(), heard = l ? guest_heard_usec(l->guest) : 0;
	uint64_t audible = hvd_get()->listening_usec;
	int64_t noted = jtime_parse(jstr_or(d->json, "_ImpairedSince", ""));

	if (l && guest_forgotten_usec(l->guest) > audible)
		audible = guest_forgotten_usec(l->guest);
	if (!agent_is_silent(now, heard, audible, noted >= 0))
		return "ok";
	uint64_t from = (heard > audible ? heard : audible) + SILENCE_USEC;

	*ret_since = noted >= 0 ? noted : jtime_now_usec() - (int64_t)(now - from);
	return "impaired";
}

/* The guest's check, and since when it is impaired: "ok", "impaired", "initializing",
 * "insufficient-data", "not-applicable". */
static const char *instance_check(const struct doc *d, int64_t *ret_since)
{
	int64_t launched = jtime_parse(jstr_or(d->json, "LaunchTime", ""));

	if (instance_state_of(d->json) != INSTANCE_RUNNING)
		return "not-applicable";
	if (!virt_is_connected(hvd_get()->virt))
		return "insufficient-data";
	if (json_object_get(d->json, "_AgentHeard"))
		return agent_check(d, ret_since);
	if (json_object_get(d->json, "_SeenAlive"))
		return "ok";
	if (instance_packets(d->json) > jint(d->json, "_PacketsBefore", 0)) {
		instance_on_life(d->id, 0);
		return "ok";
	}
	if (jtime_now_usec() - launched < NEVER_SEEN_USEC)
		return "initializing";
	*ret_since = launched; /* as AWS says of one that was impaired from its launch on */
	return "impaired";
}

static const char *system_check(const struct doc *d)
{
	const struct live *l = live_find(d->id);

	if (instance_state_of(d->json) != INSTANCE_RUNNING)
		return "not-applicable";
	return virt_is_connected(hvd_get()->virt) && !(l && l->missed_usec) ? "ok" : "impaired";
}

/* `since` is taken over; NULL: nothing is known of it. */
static json_t *summary(const char *check, json_t *since)
{
	for (int i = 0; words[i].check; i++)
		if (strcmp(words[i].check, check) == 0)
			return json_pack("{s:s, s:[{s:s, s:s, s:o*}]}", "Status", check, "Details",
					 "Name", "reachability", "Status", words[i].reachability,
					 "ImpairedSince", since);
	json_decref(since);
	return json_pack("{s:s}", "Status", check);
}

/* What will be told of a failed check is told again after a restart. */
static int note_since(const struct call *c, const struct doc *d, int64_t since)
{
	if (since < 0 || json_object_get(d->json, "_ImpairedSince"))
		return 0;
	OWN(json_decref) json_t *instance = doc_edit(d);
	int r = jset_new(instance, "_ImpairedSince", jtime(since));

	return r < 0 ? r : txn_replace(c->txn, d, give(instance));
}

/* Adds the instance's status unless it is left out (not running, and not all are asked for). */
static int add_status(const struct call *c, json_t *list, const struct doc *d, int is_all)
{
	int64_t since = -1;

	if (!is_all && instance_state_of(d->json) != INSTANCE_RUNNING)
		return 0;
	const char *check = instance_check(d, &since);
	int r = note_since(c, d, since);

	if (r < 0)
		return r;
	json_t *item =
		json_pack("{s:s, s:s*, s:O, s:o, s:o}", "InstanceId", d->id, "AvailabilityZone",
			  jpath_str(d->json, "Placement.AvailabilityZone"), "InstanceState",
			  json_object_get(d->json, "State"), "InstanceStatus",
			  summary(check, since < 0 ? NULL : jtime(since)), "SystemStatus",
			  summary(system_check(d), NULL));
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
		    (r = add_status(c, list, found, is_all)) < 0)
			return r;
	if (json_array_size(ids) == 0)
		store_each (c->store, INSTANCE_KIND, d)
			if (r == 0 && strcmp(d->account, c->ctx->account) == 0 &&
			    strcmp(d->region, c->ctx->region) == 0)
				r = add_status(c, list, d, is_all);
	return r < 0 ? r : describe_list(c, &statuses, list, parameters, ret_reply, f);
}
