/* AttachNetworkInterface and DetachNetworkInterface as customers ask for them. */
#include <errno.h>
#include <string.h>

#include "domain.h"
#include "interface.h"

/* One interface as netd shows it (a new reference), by its id or that of its attachment. */
static int interface_read(struct call *c, json_t *ask_taken, json_t **ret_interface,
			  struct fault *f)
{
	OWN(json_decref) json_t *ask = ask_taken;
	OWN(json_decref) json_t *reply = NULL;
	int r = ask ? rpc_call(daemon_peer("netd"), c->ctx, "ec2.DescribeNetworkInterfaces", ask,
			       NULL, &reply, NULL, f)
		    : -ENOMEM;

	if (r == 0)
		*ret_interface =
			json_incref(json_array_get(json_object_get(reply, "NetworkInterfaces"), 0));
	return r;
}

static int state_check(const struct doc *d, struct fault *f)
{
	enum instance_state s = instance_state_of(d->json);

	if (s == INSTANCE_RUNNING || s == INSTANCE_STOPPED)
		return 0;
	return fault_set(f, FAULT_INCORRECT_STATE, "Instance '%s' is not 'running' or 'stopped'.",
			 d->id);
}

/* Its interfaces as netd has them now, in the instance's document. */
static int copy_interfaces(struct call *c, const char *instance_id, struct fault *f)
{
	OWN(json_decref) json_t *interfaces = NULL;
	const struct doc *d = NULL;
	int r = parts_interfaces(c->ctx, instance_id, &interfaces, f);

	if (r == 0)
		r = instance_get(c, instance_id, &d, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *instance = doc_edit(d);

	r = instance_set_interfaces(instance, interfaces);
	if (r == 0)
		r = txn_replace(c->txn, d, give(instance));
	return r < 0 ? r : txn_commit(c->txn);
}

/* ---- attach ---- */

static int place_check(const struct doc *d, const json_t *interface, struct fault *f)
{
	const char *zone = jpath_str(d->json, "Placement.AvailabilityZone");

	if (jbool(interface, "RequesterManaged", 0))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "You are not allowed to manage the interface %s",
				 jstr_or(interface, "NetworkInterfaceId", ""));
	if (!zone || strcmp(jstr_or(interface, "AvailabilityZone", ""), zone) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "You may not attach a network interface to an instance if they "
				 "are not in the same availability zone");
	if (strcmp(jstr_or(interface, "VpcId", ""), jstr_or(d->json, "VpcId", "?")) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "You may not attach a network interface to an instance if they "
				 "are not in the same VPC");
	return 0;
}

/* How many interfaces its type allows. */
static int64_t limit_of(const struct doc *d)
{
	const struct instance_type *type = instance_type_find(jstr_or(d->json, "InstanceType", ""));

	return type && type->n_interfaces < DOMAIN_NICS_MAX ? type->n_interfaces : DOMAIN_NICS_MAX;
}

static int attach_check(struct call *c, json_t *parameters, const json_t *interface,
			const struct doc **ret_instance, struct fault *f)
{
	int r = instance_get(c, jstr(parameters, "InstanceId"), ret_instance, f);

	if (r == 0)
		r = state_check(*ret_instance, f);
	if (r == 0)
		r = place_check(*ret_instance, interface, f);
	if (r < 0)
		return r;
	/* netd has the say; the document's copy may be of a moment ago. */
	if (json_object_get(interface, "Attachment"))
		return fault_set(f, FAULT_INVALID_NETWORK_INTERFACE_IN_USE,
				 "Interface: [%s] in use.",
				 jstr_or(interface, "NetworkInterfaceId", ""));
	return 0;
}

static int parameters_check(json_t *parameters, struct fault *f)
{
	static const char *const needed[][2] = {{"NetworkInterfaceId", "networkInterfaceId"},
						{"InstanceId", "instanceId"},
						{"DeviceIndex", "deviceIndex"}};
	int64_t index = jint(parameters, "DeviceIndex", -1);

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!json_object_get(parameters, needed[i][0]))
			return fault_set(f, FAULT_MISSING_PARAMETER,
					 "The request must contain the parameter %s", needed[i][1]);
	if (index < 0 || index >= DOMAIN_NICS_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%lld) for parameter deviceIndex is invalid.",
				 (long long)index);
	if (jint(parameters, "NetworkCardIndex", 0) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The instance has one network card, of index 0");
	if (json_object_get(parameters, "EnaSrdSpecification"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "ENA Express is not supported");
	return 0;
}

int interface_attach(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *interface = NULL, *reply = NULL;
	const struct doc *d = NULL;
	int r = parameters_check(parameters, f);
	const char *id = jstr(parameters, "NetworkInterfaceId"),
		   *instance_id = jstr(parameters, "InstanceId");

	if (r == 0)
		r = interface_read(c, json_pack("{s:[s]}", "NetworkInterfaceIds", id), &interface,
				   f);
	if (r == 0)
		r = attach_check(c, parameters, interface, &d, f);
	if (r < 0)
		return r;
	OWN(json_decref)
	json_t *ask =
		json_pack("{s:s, s:s, s:O, s:b, s:I, s:I}", "NetworkInterfaceId", id, "InstanceId",
			  instance_id, "DeviceIndex", json_object_get(parameters, "DeviceIndex"),
			  "_Begin", 1, "_Limit", (json_int_t)limit_of(d), "_AddressLimit",
			  instance_address_limit(d->json));
	r = ask ? rpc_call(daemon_peer("netd"), c->ctx, "ec2.AttachNetworkInterface", ask, NULL,
			   &reply, NULL, f)
		: -ENOMEM;
	/* Not answered, it may be begun all the same: netd tells of it, and then it is finished
	 * (instance_refresh). */
	if (r < 0)
		return r;
	r = instance_get(c, instance_id, &d, f);
	if (r == 0 && instance_state_of(d->json) >= INSTANCE_SHUTTING_DOWN)
		r = state_check(d, f); /* it does not sweep its parts a second time */
	if (r == 0)
		r = copy_interfaces(c, instance_id, f);
	if (r < 0) {
		interface_return_later(c->ctx, id, instance_id);
		return r;
	}
	log_info("interface to be attached", "INSTANCE", instance_id, "NETWORK_INTERFACE", id,
		 "REQUEST_ID", c->ctx->request);
	instance_kick(instance_id);
	*ret_reply = json_pack("{s:s*, s:i}", "AttachmentId", jstr(reply, "AttachmentId"),
			       "NetworkCardIndex", 0);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- detach ---- */

/* The interface whose attachment this is (a new reference), the caller's to detach. */
static int attachment_get(struct call *c, const char *id, json_t **ret_interface, struct fault *f)
{
	int r = interface_read(c,
			       json_pack("{s:[{s:s, s:[s]}]}", "Filters", "Name",
					 "attachment.attachment-id", "Values", id),
			       ret_interface, f);

	if (r < 0)
		return r;
	if (!*ret_interface)
		return fault_set(f, FAULT_INVALID_ATTACHMENT_ID_NOT_FOUND,
				 "The attachment ID '%.64s' does not exist", id);
	if (jbool(*ret_interface, "RequesterManaged", 0))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "You are not allowed to manage '%.10s' attachments.", id);
	if (json_integer_value(jpath(*ret_interface, "Attachment.DeviceIndex")) == 0)
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "The network interface at device index 0 and networkCard index 0 "
				 "cannot be detached.");
	return 0;
}

/* Force: a guest that does not let go of its device is cut off from the network all the same: its
 * tap goes. The device itself goes with the guest's consent, its next reset or stop. */
int interface_detach(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr(parameters, "AttachmentId");
	OWN(json_decref) json_t *interface = NULL;
	const struct doc *d = NULL;
	int is_forced = jbool(parameters, "Force", 0);

	if (!id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter attachmentId");
	int r = attachment_get(c, id, &interface, f);
	const char *instance_id = jpath_str(interface, "Attachment.InstanceId"),
		   *interface_id = jstr(interface, "NetworkInterfaceId");

	if (r == 0)
		r = instance_get(c, instance_id, &d, f);
	if (r == 0)
		r = state_check(d, f);
	if (r == 0)
		r = parts_call("netd", c->ctx, "ec2.DetachNetworkInterface",
			       json_pack("{s:s, s:b}", "NetworkInterfaceId", interface_id, "_Begin",
					 !is_forced),
			       f);
	if (r == 0)
		r = copy_interfaces(c, instance_id, f);
	if (r < 0)
		return r;
	log_info("interface to be detached", "INSTANCE", instance_id, "NETWORK_INTERFACE",
		 interface_id, "REQUEST_ID", c->ctx->request);
	struct live *l = live_get(instance_id);
	if (l)
		l->are_nics_known = 0;
	instance_kick(instance_id);
	*ret_reply = json_pack("{s:b}", "Return", 1);
	return *ret_reply ? 0 : -ENOMEM;
}
