/* DescribeInstanceAttribute, ModifyInstanceAttribute and ResetInstanceAttribute: one attribute a
 * call, each a row. */
#include <errno.h>
#include <string.h>

#include "instance-rooms.h"

/* One change under way. Setters that ask netd wait, and then read the document again themselves. */
struct change {
	struct call *call;
	const char *id;
	const json_t *value;
	json_t *instance; /* the editable copy */
	struct fault *fault;
};

static int set_type(struct change *m);
static int set_user_data(struct change *m);
static int set_shutdown(struct change *m);
static int set_switch(struct change *m, const char *member);
static int set_no_termination(struct change *m);
static int set_no_stop(struct change *m);
static int set_ebs_optimized(struct change *m);
static int set_ena(struct change *m);
static int set_groups(struct change *m);
static int set_source_check(struct change *m);
static int set_mappings(struct change *m);
static int set_nothing(struct change *m);

enum form { PLAIN, VALUE }; /* the member itself, or {"Value": it} */

static const struct attribute {
	const char *name;   /* in Attribute */
	const char *result; /* member of the answer */
	enum form form;
	const char *member;   /* of the document */
	const char *argument; /* of ModifyInstanceAttribute, NULL: cannot be modified */
	int needs_stop;
	int (*set)(struct change *m);
} attributes[] = {
	{"instanceType", "InstanceType", VALUE, "InstanceType", "InstanceType", 1, set_type},
	{"kernel", "KernelId", VALUE, "KernelId", "Kernel", 1, set_nothing},
	{"ramdisk", "RamdiskId", VALUE, "RamdiskId", "Ramdisk", 1, set_nothing},
	{"userData", "UserData", VALUE, "_UserData", "UserData", 1, set_user_data},
	{"disableApiTermination", "DisableApiTermination", VALUE, "_DisableApiTermination",
	 "DisableApiTermination", 0, set_no_termination},
	{"disableApiStop", "DisableApiStop", VALUE, "_DisableApiStop", "DisableApiStop", 0,
	 set_no_stop},
	{"instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior", VALUE,
	 "_ShutdownBehavior", "InstanceInitiatedShutdownBehavior", 0, set_shutdown},
	{"rootDeviceName", "RootDeviceName", VALUE, "RootDeviceName", NULL, 0, NULL},
	{"blockDeviceMapping", "BlockDeviceMappings", PLAIN, "BlockDeviceMappings",
	 "BlockDeviceMappings", 0, set_mappings},
	{"productCodes", "ProductCodes", PLAIN, "ProductCodes", NULL, 0, NULL},
	{"sourceDestCheck", "SourceDestCheck", VALUE, "SourceDestCheck", "SourceDestCheck", 0,
	 set_source_check},
	{"groupSet", "Groups", PLAIN, "SecurityGroups", "Groups", 0, set_groups},
	{"ebsOptimized", "EbsOptimized", VALUE, "EbsOptimized", "EbsOptimized", 1,
	 set_ebs_optimized},
	{"sriovNetSupport", "SriovNetSupport", VALUE, "SriovNetSupport", "SriovNetSupport", 1,
	 set_nothing},
	{"enaSupport", "EnaSupport", VALUE, "EnaSupport", "EnaSupport", 1, set_ena},
	{"enclaveOptions", "EnclaveOptions", PLAIN, "EnclaveOptions", NULL, 0, NULL},
};
#define N_ATTRIBUTES (sizeof(attributes) / sizeof(attributes[0]))

static const struct attribute *attribute_find(const char *name)
{
	for (size_t i = 0; name && i < N_ATTRIBUTES; i++)
		if (strcmp(attributes[i].name, name) == 0)
			return &attributes[i];
	return NULL;
}

/* ---- describe ---- */

int instance_attribute_describe(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	const char *name = jstr(parameters, "Attribute");
	const struct attribute *a = attribute_find(name);
	const struct doc *d;
	int r = instance_get(c, jstr(parameters, "InstanceId"), &d, f);

	if (r < 0)
		return r;
	if (!name)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter attribute");
	if (!a)
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"Value (%.64s) for parameter attribute is invalid. Unknown attribute.",
			name);
	json_t *value = json_object_get(d->json, a->member);
	/* AWS: what has no value is an empty structure here. */
	if (a->form == VALUE)
		*ret_reply = json_pack("{s:s, s:{s:O*}}", "InstanceId", d->id, a->result, "Value",
				       value);
	else
		*ret_reply = json_pack("{s:s, s:O*}", "InstanceId", d->id, a->result, value);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- the setters ---- */

/* {"Value": x} of the request. */
static const json_t *given(const struct change *m)
{
	return json_object_get(m->value, "Value");
}

static int set_nothing(struct change *m)
{
	return fault_set(m->fault, FAULT_UNSUPPORTED_OPERATION,
			 "This attribute cannot be modified");
}

static int set_type(struct change *m)
{
	const char *name = json_string_value(given(m));
	const struct instance_type *type = name ? instance_type_find(name) : NULL;

	if (!type)
		return fault_set(m->fault, FAULT_INVALID_INSTANCE_ATTRIBUTE_VALUE,
				 "Invalid value '%.64s' for InstanceType.", name ? name : "");
	if (json_array_size(json_object_get(m->instance, "NetworkInterfaces")) > type->n_interfaces)
		return fault_set(m->fault, FAULT_INVALID_PARAMETER_COMBINATION,
				 "%s does not support so many network interfaces", type->name);
	return instance_set_type(m->instance, type);
}

static int set_user_data(struct change *m)
{
	const char *base64 = json_string_value(given(m));
	int r = base64 && *base64 ? user_data_check(base64, m->fault) : 0;

	return r < 0 ? r : jset(m->instance, "_UserData", base64 && *base64 ? base64 : NULL);
}

static int set_shutdown(struct change *m)
{
	const char *to = json_string_value(given(m));

	if (!to || (strcmp(to, "stop") != 0 && strcmp(to, "terminate") != 0))
		return fault_set(m->fault, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter instanceInitiatedShutdownBehavior is "
				 "invalid. Unknown behavior.",
				 to ? to : "");
	return jset(m->instance, "_ShutdownBehavior", to);
}

static int set_switch(struct change *m, const char *member)
{
	if (!json_is_boolean(given(m)))
		return fault_set(m->fault, FAULT_INVALID_PARAMETER_VALUE,
				 "The value must be true or false");
	return jset_new(m->instance, member, json_boolean(json_is_true(given(m))));
}

static int set_no_termination(struct change *m)
{
	return set_switch(m, "_DisableApiTermination");
}

static int set_no_stop(struct change *m)
{
	return set_switch(m, "_DisableApiStop");
}

static int set_ebs_optimized(struct change *m)
{
	return set_switch(m, "EbsOptimized");
}

static int set_ena(struct change *m)
{
	return set_switch(m, "EnaSupport");
}

/* The first interface is asked of netd to change, and the document takes what netd then shows. */
static int set_by_netd(struct change *m, const char *argument, json_t *value)
{
	const char *eni = jstr(json_array_get(json_object_get(m->instance, "NetworkInterfaces"), 0),
			       "NetworkInterfaceId");
	OWN(json_decref) json_t *interfaces = NULL;
	const struct doc *d;

	if (!eni)
		return fault_set(m->fault, FAULT_INCORRECT_INSTANCE_STATE,
				 "The instance '%s' has no network interface.", m->id);
	json_t *ask = json_pack("{s:s, s:O}", "NetworkInterfaceId", eni, argument, value);
	int r = parts_call("netd", m->call->ctx, "ec2.ModifyNetworkInterfaceAttribute", ask,
			   m->fault);

	if (r == 0)
		r = parts_interfaces(m->call->ctx, m->id, &interfaces, m->fault);
	if (r == 0)
		r = instance_get(m->call, m->id, &d, m->fault);
	if (r < 0)
		return r;
	json_decref(m->instance);
	m->instance = doc_edit(d);
	return instance_set_interfaces(m->instance, interfaces);
}

static int set_groups(struct change *m)
{
	return set_by_netd(m, "Groups", (json_t *)m->value);
}

static int set_source_check(struct change *m)
{
	return set_by_netd(m, "SourceDestCheck", (json_t *)m->value);
}

static json_t *mapping_find(const json_t *instance, const char *device_name)
{
	json_t *mapping;
	size_t i;

	json_array_foreach (json_object_get(instance, "BlockDeviceMappings"), i, mapping)
		if (strcmp(jstr_or(mapping, "DeviceName", ""), device_name) == 0)
			return mapping;
	return NULL;
}

/* The row of the document that one of the request means, and what it asks for. */
static int mapping_given(struct change *m, const json_t *row, json_t **ret_mapping, json_t **ret_to)
{
	const char *device_name = jstr_or(row, "DeviceName", "");

	*ret_mapping = mapping_find(m->instance, device_name);
	*ret_to = json_object_get(json_object_get(row, "Ebs"), "DeleteOnTermination");
	if (!*ret_mapping)
		return fault_set(m->fault, FAULT_INVALID_INSTANCE_ATTRIBUTE_VALUE,
				 "No device is currently mapped at %.64s", device_name);
	return 0;
}

/* Whether a volume goes with the instance is all that can be changed here; stord shows it too, and
 * is told first. */
static int set_mappings(struct change *m)
{
	json_t *row, *mapping, *to;
	const struct doc *d;
	size_t i;
	int r = 0;

	json_array_foreach (m->value, i, row)
		if ((r = mapping_given(m, row, &mapping, &to)) < 0)
			return r;
	json_array_foreach (m->value, i, row) {
		if ((r = mapping_given(m, row, &mapping, &to)) < 0)
			return r;
		if (!to)
			continue;
		json_t *ask = json_pack("{s:s, s:s, s:s, s:b, s:O}", "VolumeId",
					jpath_str(mapping, "Ebs.VolumeId"), "InstanceId", m->id,
					"Device", jstr(mapping, "DeviceName"), "_Begin", 1,
					"_DeleteOnTermination", to);
		r = parts_call("stord", m->call->ctx, "ec2.AttachVolume", ask, m->fault);
		if (r < 0)
			return r;
	}
	if ((r = instance_get(m->call, m->id, &d, m->fault)) < 0)
		return r;
	json_decref(m->instance);
	m->instance = doc_edit(d);
	json_array_foreach (m->value, i, row) {
		if ((r = mapping_given(m, row, &mapping, &to)) < 0)
			return r;
		if (to &&
		    json_object_set(json_object_get(mapping, "Ebs"), "DeleteOnTermination", to) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- modify ---- */

/* "Attribute" with a text "Value", as some clients ask: the text in the form of the attribute's
 * own argument. */
static json_t *from_text(const char *text)
{
	if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
		return json_pack("{s:b}", "Value", strcmp(text, "true") == 0);
	return json_pack("{s:s}", "Value", text);
}

/* The one attribute that the request is about, and its new value (a new reference). */
static int read_change(json_t *parameters, const struct attribute **ret_attribute,
		       json_t **ret_value, struct fault *f)
{
	const struct attribute *named = attribute_find(jstr(parameters, "Attribute")), *only = NULL;
	const char *text = jstr(parameters, "Value");

	for (size_t i = 0; i < N_ATTRIBUTES; i++) {
		if (!attributes[i].argument || !json_object_get(parameters, attributes[i].argument))
			continue;
		if (only)
			return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
					 "Fields for multiple attribute types specified: %s, %s",
					 only->name, attributes[i].name);
		only = &attributes[i];
	}
	if (jstr(parameters, "Attribute") && !named)
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"Value (%.64s) for parameter attribute is invalid. Unknown attribute.",
			jstr(parameters, "Attribute"));
	if (named && only && (named != only || text))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Fields for multiple attribute types specified: %s, %s",
				 named->name, only->name);
	if (!only && (!named || !text))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "No attributes specified.");
	*ret_attribute = only ? only : named;
	if (!(*ret_attribute)->argument || (!only && named->form == PLAIN))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "The attribute %s cannot be modified so", (*ret_attribute)->name);
	*ret_value =
		only ? json_incref(json_object_get(parameters, only->argument)) : from_text(text);
	return *ret_value ? 0 : -ENOMEM;
}

static int apply(struct call *c, const struct attribute *a, const char *id, const json_t *value,
		 struct fault *f)
{
	struct change m = {.call = c, .id = id, .value = value, .fault = f};
	const struct doc *d;
	int r = instance_get(c, id, &d, f);

	if (r < 0)
		return r;
	enum instance_state s = instance_state_of(d->json);
	if (s == INSTANCE_TERMINATED || s == INSTANCE_SHUTTING_DOWN ||
	    (a->needs_stop && s != INSTANCE_STOPPED))
		return fault_set(f, FAULT_INCORRECT_INSTANCE_STATE,
				 "The instance '%s' is not in the 'stopped' state.", id);
	m.instance = doc_edit(d);
	r = m.instance ? a->set(&m) : -ENOMEM;
	/* Not `d`: a setter that asked netd may have waited. */
	if (r == 0 && (r = instance_get(c, id, &d, f)) == 0)
		return txn_replace(c->txn, d, m.instance);
	json_decref(m.instance);
	return r;
}

int instance_attribute_modify(struct call *c, json_t *parameters, json_t **ret_reply,
			      struct fault *f)
{
	const struct attribute *a = NULL;
	OWN(json_decref) json_t *value = NULL;
	int r = read_change(parameters, &a, &value, f);

	if (r == 0)
		r = apply(c, a, jstr(parameters, "InstanceId"), value, f);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b}", "Return", 1);
	return *ret_reply ? 0 : -ENOMEM;
}

int instance_attribute_reset(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	const char *name = jstr_or(parameters, "Attribute", "");
	OWN(json_decref) json_t *value = json_pack("{s:b}", "Value", 1);

	if (strcmp(name, "sourceDestCheck") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "The attribute '%.64s' cannot be reset", name);
	int r = apply(c, attribute_find(name), jstr(parameters, "InstanceId"), value, f);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b}", "Return", 1);
	return *ret_reply ? 0 : -ENOMEM;
}
