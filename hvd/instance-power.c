/* StartInstances, StopInstances, RebootInstances, TerminateInstances, MonitorInstances: one rule
 * for all: every instance is checked first, and when one may not be changed none is. */
#include <errno.h>
#include <string.h>

#include "instance-rooms.h"

#define BIT(s) (1u << INSTANCE_##s)

/* A verb of the API. `from` is changed, `already` is left as it is and answered, all else is
 * refused. */
struct verb {
	unsigned from, already;
	enum instance_state to;
	enum instance_reason reason;
	const char *reply, *participle;
	const char *protection, *protection_name; /* the attribute that forbids it */
	/* all of them together, NULL: nothing */
	int (*check)(struct call *c, json_t *parameters, struct fault *f);
	int (*change)(json_t *instance, json_t *parameters); /* what else changes, NULL: nothing */
};

static int change_start(json_t *instance, json_t *parameters)
{
	(void)parameters;
	return jset_new(instance, "LaunchTime", jtime_now());
}

static int change_stop(json_t *instance, json_t *parameters)
{
	return jbool(parameters, "Force", 0) ? jset_new(instance, "_Force", json_true()) : 0;
}

static const struct verb verb_start = {
	.from = BIT(STOPPED),
	.already = BIT(PENDING) | BIT(RUNNING),
	.to = INSTANCE_PENDING,
	.reason = REASON_NONE,
	.reply = "StartingInstances",
	.participle = "started",
	.check = instances_start_check,
	.change = change_start,
};

static const struct verb verb_stop = {
	.from = BIT(RUNNING),
	.already = BIT(STOPPING) | BIT(STOPPED),
	.to = INSTANCE_STOPPING,
	.reason = REASON_USER,
	.reply = "StoppingInstances",
	.participle = "stopped",
	.protection = "_DisableApiStop",
	.protection_name = "disableApiStop",
	.change = change_stop,
};

static const struct verb verb_terminate = {
	.from = BIT(PENDING) | BIT(RUNNING) | BIT(STOPPING) | BIT(STOPPED),
	.already = BIT(SHUTTING_DOWN) | BIT(TERMINATED),
	.to = INSTANCE_SHUTTING_DOWN,
	.reason = REASON_USER,
	.reply = "TerminatingInstances",
	.participle = "terminated",
	.protection = "_DisableApiTermination",
	.protection_name = "disableApiTermination",
};

static int verb_check(const struct verb *v, const struct doc *d, struct fault *f)
{
	unsigned state = 1u << instance_state_of(d->json);

	if (!(state & (v->from | v->already)))
		return fault_set(f, FAULT_INCORRECT_INSTANCE_STATE,
				 "%s instance '%s' is not in a state from which it can be %s.",
				 v->to == INSTANCE_STOPPING ? "This" : "The", d->id, v->participle);
	if (v->protection && state & v->from && jbool(d->json, v->protection, 0))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "The instance '%s' may not be %s. Modify its '%s' instance "
				 "attribute and try again.",
				 d->id, v->participle, v->protection_name);
	return 0;
}

static int check_all(struct call *c, const struct verb *v, json_t *parameters, struct fault *f)
{
	json_t *id;
	size_t i;
	int r = instance_check_ids(c, parameters, f);

	json_array_foreach (json_object_get(parameters, "InstanceIds"), i, id)
		if (r == 0)
			r = verb_check(
				v, store_find(c->store, INSTANCE_KIND, json_string_value(id)), f);
	return r == 0 && v->check ? v->check(c, parameters, f) : r;
}

static int verb_apply(struct call *c, const struct verb *v, const struct doc *d, json_t *parameters,
		      json_t *list)
{
	json_t *before = json_object_get(d->json, "State");
	int is_changed = (v->from >> instance_state_of(d->json)) & 1;
	int is_hurried = v->to == INSTANCE_STOPPING &&
			 instance_state_of(d->json) == INSTANCE_STOPPING &&
			 jbool(parameters, "Force", 0);
	OWN(json_decref) json_t *instance = doc_edit(d);
	int r = is_changed ? instance_move(instance, v->to, v->reason) : 0;

	if (r == 0 && v->change && (is_changed || is_hurried))
		r = v->change(instance, parameters);
	if (r < 0 || json_array_append_new(list, json_pack("{s:s, s:O, s:O}", "InstanceId", d->id,
							   "CurrentState",
							   json_object_get(instance, "State"),
							   "PreviousState", before)) < 0)
		return r < 0 ? r : -ENOMEM;
	if (!is_changed && !is_hurried)
		return 0;
	log_info("instance changes", "INSTANCE", d->id, "STATE", instance_state_name(v->to),
		 "REQUEST_ID", c->ctx->request);
	r = txn_replace(c->txn, d, give(instance));
	instance_kick(d->id);
	return r;
}

static int verb_run(struct call *c, const struct verb *v, json_t *parameters, json_t **ret_reply,
		    struct fault *f)
{
	OWN(json_decref) json_t *list = json_array();
	json_t *id;
	size_t i;
	int r = check_all(c, v, parameters, f);

	json_array_foreach (json_object_get(parameters, "InstanceIds"), i, id)
		if (r == 0)
			r = verb_apply(c, v,
				       store_find(c->store, INSTANCE_KIND, json_string_value(id)),
				       parameters, list);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", v->reply, list);
	return *ret_reply ? 0 : -ENOMEM;
}

int instances_start(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const unsupported[] = {"AdditionalInfo", NULL};
	int r = unsupported_check(parameters, unsupported, f);

	return r < 0 ? r : verb_run(c, &verb_start, parameters, ret_reply, f);
}

int instances_stop(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	if (jbool(parameters, "Hibernate", 0))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "Hibernation is not supported");
	return verb_run(c, &verb_stop, parameters, ret_reply, f);
}

int instances_terminate(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return verb_run(c, &verb_terminate, parameters, ret_reply, f);
}

/* ---- reboot: no state changes (instance-reboot.c) ---- */

static const struct verb verb_reboot = {
	.from = BIT(RUNNING), .to = INSTANCE_RUNNING, .participle = "rebooted"};

int instances_reboot(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	json_t *id;
	size_t i;
	int r = check_all(c, &verb_reboot, parameters, f);

	json_array_foreach (json_object_get(parameters, "InstanceIds"), i, id) {
		const struct doc *d =
			r == 0 ? store_find(c->store, INSTANCE_KIND, json_string_value(id)) : NULL;
		OWN(json_decref) json_t *instance = d ? doc_edit(d) : NULL;
		if (r == 0)
			r = instance_want_reboot(instance);
		if (r == 0)
			r = txn_replace(c->txn, d, give(instance));
		if (r < 0)
			return r;
		log_info("instance reboots", "INSTANCE", d->id, "REQUEST_ID", c->ctx->request);
		instance_kick(d->id);
	}
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b}", "Return", 1);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- monitoring: a switch that is kept and shown ---- */

static int monitor(struct call *c, json_t *parameters, const char *state, json_t **ret_reply,
		   struct fault *f)
{
	OWN(json_decref) json_t *list = json_array();
	json_t *id;
	size_t i;
	int r = instance_check_ids(c, parameters, f);

	json_array_foreach (json_object_get(parameters, "InstanceIds"), i, id) {
		const struct doc *d =
			r == 0 ? store_find(c->store, INSTANCE_KIND, json_string_value(id)) : NULL;
		OWN(json_decref) json_t *instance = d ? doc_edit(d) : NULL;
		if (r == 0)
			r = jset_new(instance, "Monitoring", json_pack("{s:s}", "State", state));
		if (r == 0 &&
		    json_array_append_new(list, json_pack("{s:s, s:{s:s}}", "InstanceId", d->id,
							  "Monitoring", "State", state)) < 0)
			r = -ENOMEM;
		if (r == 0)
			r = txn_replace(c->txn, d, give(instance));
	}
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "InstanceMonitorings", list);
	return *ret_reply ? 0 : -ENOMEM;
}

int instances_monitor(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return monitor(c, parameters, "enabled", ret_reply, f);
}

int instances_unmonitor(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return monitor(c, parameters, "disabled", ret_reply, f);
}
