/* The states of an instance: which there are, what may follow, and how AWS words the change. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "instance-rooms.h"

#define BIT(s) (1u << INSTANCE_##s)

/* AWS: "Instance lifecycle". `next` is what may follow. */
static const struct {
	int code;
	const char *name;
	unsigned next;
} states[INSTANCE_STATES] = {
	[INSTANCE_PENDING] = {0, "pending",
			      BIT(RUNNING) | BIT(STOPPING) | BIT(STOPPED) | BIT(SHUTTING_DOWN)},
	[INSTANCE_RUNNING] = {16, "running", BIT(STOPPING) | BIT(SHUTTING_DOWN)},
	[INSTANCE_STOPPING] = {64, "stopping", BIT(STOPPED) | BIT(SHUTTING_DOWN)},
	[INSTANCE_STOPPED] = {80, "stopped", BIT(PENDING) | BIT(SHUTTING_DOWN)},
	[INSTANCE_SHUTTING_DOWN] = {32, "shutting-down", BIT(TERMINATED)},
	[INSTANCE_TERMINATED] = {48, "terminated", 0},
};

/* AWS: "StateReason". The transition's text gets the time where AWS gives it. */
static const struct {
	const char *code, *message, *transition;
} reasons[REASON_COUNT] = {
	[REASON_NONE] = {NULL, NULL, ""},
	[REASON_USER] = {"Client.UserInitiatedShutdown",
			 "Client.UserInitiatedShutdown: User initiated shutdown",
			 "User initiated (%Y-%m-%d %H:%M:%S GMT)"},
	[REASON_GUEST] = {"Client.InstanceInitiatedShutdown",
			  "Client.InstanceInitiatedShutdown: Instance initiated shutdown", ""},
	[REASON_LAUNCH_FAILED] = {"Server.InternalError",
				  "Server.InternalError: Internal error on launch",
				  "Server.InternalError"},
	[REASON_HOST] = {"Server.InternalError",
			 "Server.InternalError: The instance's virtual machine ended unexpectedly",
			 "Server.InternalError"},
};

const char *instance_state_name(enum instance_state s)
{
	return states[s].name;
}

json_t *instance_state_json(enum instance_state s)
{
	return json_pack("{s:i, s:s}", "Code", states[s].code, "Name", states[s].name);
}

enum instance_state instance_state_of(const json_t *instance)
{
	const char *name = jpath_str(instance, "State.Name");

	for (int s = 0; name && s < INSTANCE_STATES; s++)
		if (strcmp(states[s].name, name) == 0)
			return s;
	return INSTANCE_TERMINATED; /* no document has it: nothing is ever done to such a one */
}

int instance_may_become(enum instance_state from, enum instance_state to)
{
	return (states[from].next & 1u << to) != 0;
}

int instance_move(json_t *instance, enum instance_state to, enum instance_reason why)
{
	char transition[64];
	time_t now = time(NULL);
	struct tm utc;
	json_t *reason = NULL;

	if (!instance_may_become(instance_state_of(instance), to))
		return -EBUSY;
	if (why == REASON_SAME)
		return jset_new(instance, "State", instance_state_json(to));
	strftime(transition, sizeof(transition), reasons[why].transition, gmtime_r(&now, &utc));
	if (!*reasons[why].transition)
		transition[0] = '\0';
	if (reasons[why].code) {
		reason = json_pack("{s:s, s:s}", "Code", reasons[why].code, "Message",
				   reasons[why].message);
		if (jset_new(instance, "StateReason", reason) < 0)
			return -ENOMEM;
	} else {
		(void)json_object_del(instance, "StateReason"); /* it may have had none */
	}
	if (jset(instance, "StateTransitionReason", transition) < 0)
		return -ENOMEM;
	return jset_new(instance, "State", instance_state_json(to));
}
