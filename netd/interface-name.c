/* What the names of an instance are made of: its address or its id. Source: EC2 user guide, "EC2
 * instance hostnames and domains". */
#include "interface.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "refresh.h"

/* The subnet's options, but for those that the launch says otherwise. */
static json_t *options_of(json_t *parameters, const json_t *subnet)
{
	OWN(json_decref)
	json_t *options = json_copy(json_object_get(subnet, "PrivateDnsNameOptionsOnLaunch"));
	json_t *given = json_object_get(parameters, "_PrivateDnsNameOptions");

	if (!options || (given && json_object_update(options, given) < 0))
		return NULL;
	return give(options);
}

/* PrivateDnsName, as its options say. */
static int name_set(const struct call *c, json_t *json)
{
	char zone[ADDRESS_NAME_MAX], name[ID_MAX + ADDRESS_NAME_MAX];

	if (jis(json_object_get(json, "_PrivateDnsNameOptions"), "HostnameType", "resource-name")) {
		address_zone(c->ctx->region, zone);
		snprintf(name, sizeof name, "%s.%s", jpath_str(json, "Attachment.InstanceId"),
			 zone);
	} else {
		address_private_name(c->ctx->region, jstr_or(json, "PrivateIpAddress", ""), name);
	}
	return jset(json, "PrivateDnsName", name);
}

int interface_name_at_launch(const struct call *c, json_t *parameters, const json_t *subnet,
			     json_t *json)
{
	int r = jset_new(json, "_PrivateDnsNameOptions", options_of(parameters, subnet));

	return r < 0 ? r : name_set(c, json);
}

/* The instance's first interface. */
static const struct doc *first_interface(const struct call *c, const char *instance_id)
{
	store_each (c->store, "network-interface", d) {
		const json_t *attachment = json_object_get(d->json, "Attachment");

		if (is_callers(c, d) && jis(attachment, "InstanceId", instance_id) &&
		    jint(attachment, "DeviceIndex", 0) == 0)
			return d;
	}
	return NULL;
}

static int options_change(json_t *json, const json_t *parameters)
{
	static const char *const members[][2] = {
		{"PrivateDnsHostnameType", "HostnameType"},
		{"EnableResourceNameDnsARecord", "EnableResourceNameDnsARecord"},
		{"EnableResourceNameDnsAAAARecord", "EnableResourceNameDnsAAAARecord"}};
	json_t *has = json_object_get(json, "_PrivateDnsNameOptions");
	OWN(json_decref)
	json_t *options =
		json_pack("{s:s s:b s:b}", "HostnameType", "ip-name",
			  "EnableResourceNameDnsARecord", 0, "EnableResourceNameDnsAAAARecord", 0);
	int r = options && (!has || json_object_update(options, has) == 0) ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < sizeof members / sizeof *members; i++) {
		json_t *value = json_object_get(parameters, members[i][0]);

		if (value && json_object_set(options, members[i][1], value) < 0)
			r = -ENOMEM;
	}
	return r < 0 ? r : jset_new(json, "_PrivateDnsNameOptions", give(options));
}

int modify_private_dns_name_options(struct call *c, json_t *parameters, json_t **ret_reply,
				    struct fault *f)
{
	const char *instance_id = jstr_or(parameters, "InstanceId", "");
	const struct doc *d = first_interface(c, instance_id);
	char id[ID_MAX];

	if (!d)
		return fault_set(f, FAULT_INVALID_INSTANCE_ID_NOT_FOUND,
				 "The instance ID '%.64s' does not exist", instance_id);
	OWN(json_decref) json_t *json = doc_edit(d);
	int r = json ? options_change(json, parameters) : -ENOMEM;

	snprintf(id, sizeof id, "%s", d->id);
	if (r == 0)
		r = name_set(c, json);
	if (r == 0)
		r = refresh_mark(json);
	if (r == 0)
		r = txn_replace(c->txn, d, json_incref(json));
	if (r == 0)
		r = call_apply(c, jstr_or(json, "VpcId", ""));
	if (r < 0)
		return r;
	refresh_start(c->store, id);
	*ret_reply = reply_true();
	return 0;
}
