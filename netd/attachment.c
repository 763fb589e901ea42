/* Attachments: interfaces at instances, their public addresses over stop and start, and the
 * metadata socket: what hvd asks of netd. */
#include "interface.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "address.h"
#include "delegation.h"
#include "refresh.h"
#include "route-target.h"
#include "taken.h"

json_t *attachment_json(const struct call *c, const char *instance_id, int device_index,
			int is_deleted_with_instance)
{
	char id[ID_MAX];

	id_new("eni-attach", id);
	return json_pack("{s:s s:s s:s s:i s:i s:s s:b s:o}", "AttachmentId", id, "InstanceId",
			 instance_id, "InstanceOwnerId", c->ctx->account, "DeviceIndex",
			 device_index, "NetworkCardIndex", 0, "Status", "attached",
			 "DeleteOnTermination", is_deleted_with_instance, "AttachTime",
			 jtime_now());
}

int interface_limit_check(const json_t *attachment, const json_t *json, size_t n, size_t n6,
			  struct fault *f)
{
	size_t limit = (size_t)jint(attachment, "_AddressLimit", LIMIT_ADDRESSES_PER_INTERFACE);

	n += json_array_size(json_object_get(json, "PrivateIpAddresses")) +
	     delegation_n(&delegation_ipv4, json);
	n6 += json_array_size(json_object_get(json, "Ipv6Addresses")) +
	      delegation_n(&delegation_ipv6, json);
	if (n <= limit && n6 <= limit)
		return 0;
	return fault_set(f, FAULT_PRIVATE_IP_ADDRESS_LIMIT_EXCEEDED,
			 "Number of private addresses will exceed limit.");
}

/* AWS shows an empty public name while the VPC has no DNS hostnames. */
static void public_name(const struct call *c, const json_t *vpc, const char *address,
			char ret_name[static ADDRESS_NAME_MAX])
{
	ret_name[0] = '\0';
	if (jbool(vpc, "_EnableDnsHostnames", 0) && jbool(vpc, "_EnableDnsSupport", 0))
		address_public_name(c->ctx->region, address, ret_name);
}

/* Both places of one truth: at the private address, and at the interface if that is its primary
 * one.
 */
static int set_association(json_t *json, json_t *private, json_t *association)
{
	int r = jset_new(private, "Association", association);

	if (r < 0 || !jbool(private, "Primary", 0))
		return r;
	return json_object_set(json, "Association", association) < 0 ? -ENOMEM : 0;
}

int interface_set_public(const struct call *c, const json_t *vpc, json_t *json, const char *address)
{
	json_t *primary = json_array_get(json_object_get(json, "PrivateIpAddresses"), 0);
	char name[ADDRESS_NAME_MAX];

	public_name(c, vpc, address, name);
	return set_association(json, primary,
			       json_pack("{s:s s:s s:s}", "PublicIp", address, "PublicDnsName",
					 name, "IpOwnerId", "amazon"));
}

int interface_set_association(const struct call *c, const json_t *vpc, json_t *json,
			      json_t *private, const json_t *elastic)
{
	const char *address = jstr_or(elastic, "PublicIp", "");
	char name[ADDRESS_NAME_MAX];

	public_name(c, vpc, address, name);
	return set_association(json, private,
			       json_pack("{s:s s:s s:s s:s* s:s* s:s*}", "PublicIp", address,
					 "PublicDnsName", name, "IpOwnerId", c->ctx->account,
					 "AllocationId", jstr(elastic, "AllocationId"),
					 "AssociationId", jstr(elastic, "AssociationId"),
					 "_PtrRecord", jstr(elastic, "PtrRecord")));
}

void interface_clear_association(json_t *json, json_t *private)
{
	(void)json_object_del(private, "Association"); /* it may not be there */
	if (jbool(private, "Primary", 0))
		(void)json_object_del(json, "Association");
}

void interface_clear_public(json_t *json)
{
	interface_clear_association(json,
				    json_array_get(json_object_get(json, "PrivateIpAddresses"), 0));
}

/* Whether a name changed, or -errno. */
static int rename_addresses(const struct call *c, const json_t *vpc, json_t *json)
{
	char name[ADDRESS_NAME_MAX];
	int is_changed = 0, r = 0;
	json_t *private;
	size_t i;

	json_array_foreach (json_object_get(json, "PrivateIpAddresses"), i, private) {
		json_t *association = json_object_get(private, "Association");
		const char *address = jstr(association, "PublicIp");

		if (!address)
			continue;
		public_name(c, vpc, address, name);
		if (jis(association, "PublicDnsName", name))
			continue;
		is_changed = 1;
		if (r == 0)
			r = jset(association, "PublicDnsName", name);
		if (r == 0 && jbool(private, "Primary", 0))
			r = jset(json_object_get(json, "Association"), "PublicDnsName", name);
	}
	return r < 0 ? r : is_changed;
}

int interfaces_rename(const struct call *c, const json_t *vpc)
{
	store_each (c->store, "network-interface", d) {
		if (!jis(d->json, "VpcId", jstr(vpc, "VpcId")))
			continue;
		OWN(json_decref) json_t *json = doc_edit(d);
		int r = rename_addresses(c, vpc, json);

		if (r == 0)
			continue;
		if (r > 0)
			r = refresh_mark(json);
		if (r == 0)
			r = txn_replace(c->txn, d, give(json));
		if (r < 0)
			return r;
	}
	return 0;
}

int instance_interface(const struct call *c, const char *instance_id,
		       const struct doc **ret_interface, struct fault *f)
{
	const struct doc *found = NULL;

	if (!id_is(instance_id, "i"))
		return fault_set(f, FAULT_INVALID_INSTANCE_ID_MALFORMED,
				 "Invalid id: \"%.64s\" (expecting \"i-...\")", instance_id);
	store_each (c->store, "network-interface", d) {
		if (!is_callers(c, d) ||
		    !jis(json_object_get(d->json, "Attachment"), "InstanceId", instance_id))
			continue;
		if (found)
			return fault_set(f, FAULT_INVALID_INSTANCE_ID,
					 "There are multiple interfaces attached to instance "
					 "'%s'. Please specify an interface ID for the operation "
					 "instead.",
					 instance_id);
		found = d;
	}
	if (!found)
		return fault_set(f, FAULT_INVALID_INSTANCE_ID_NOT_FOUND,
				 "The instance ID '%s' does not exist", instance_id);
	*ret_interface = found;
	return 0;
}

/* Interfaces that the instance has. */
static int64_t count_of(const struct call *c, const char *instance_id)
{
	int64_t n = 0;

	store_each (c->store, "network-interface", d)
		n += jis(json_object_get(d->json, "Attachment"), "InstanceId", instance_id);
	return n;
}

static int limit_check(const struct call *c, json_t *parameters, const char *instance_id,
		       struct fault *f)
{
	int64_t limit = jint(parameters, "_Limit", INT64_MAX), n = count_of(c, instance_id);

	if (n < limit)
		return 0;
	return fault_set(f, FAULT_ATTACHMENT_LIMIT_EXCEEDED,
			 "Interface count %lld exceeds the limit for the instance %.64s",
			 (long long)n + 1, instance_id);
}

int attachment_set_limit(json_t *attachment, json_t *parameters)
{
	json_t *limit = json_object_get(parameters, "_AddressLimit");

	return limit && json_object_set(attachment, "_AddressLimit", limit) < 0 ? -ENOMEM : 0;
}

/* One that was begun (_Begin) is attached when its caller says so for the second time; and the
 * instance's type may have changed since. */
static int attach_finish(const struct call *c, json_t *parameters, const struct doc *d)
{
	const json_t *old = json_object_get(d->json, "Attachment");
	int64_t limit = jint(old, "_AddressLimit", 0);

	if (jbool(parameters, "_Begin", 0) ||
	    (!jis(old, "Status", "attaching") && jint(parameters, "_AddressLimit", limit) == limit))
		return 0;
	OWN(json_decref) json_t *json = doc_edit(d);
	json_t *attachment = json_object_get(json, "Attachment");
	int r = jis(old, "Status", "attaching") ? jset(attachment, "Status", "attached") : 0;

	if (r == 0)
		r = attachment_set_limit(attachment, parameters);

	if (r == 0)
		r = refresh_mark(json);
	if (r == 0)
		r = txn_replace(c->txn, d, give(json));
	return r < 0 ? r : txn_commit(c->txn);
}

/* Attaches it in the transaction unless it is already where it should be. */
static int attach(const struct call *c, json_t *parameters, const struct doc *d, struct fault *f)
{
	const char *instance_id = jstr(parameters, "InstanceId");
	int index = (int)jint(parameters, "DeviceIndex", 0);
	const json_t *old = json_object_get(d->json, "Attachment");

	if (!instance_id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter instanceId");
	if (old && jis(old, "InstanceId", instance_id) && jint(old, "DeviceIndex", 0) == index)
		return attach_finish(c, parameters, d);
	if (old)
		return fault_set(f, FAULT_INVALID_NETWORK_INTERFACE_IN_USE,
				 "Interface: [%s] in use.", d->id);
	if (taken_device(instance_id, index))
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"Instance '%.64s' already has an interface attached at device index '%d'.",
			instance_id, index);
	int r = limit_check(c, parameters, instance_id, f);

	if (r == 0)
		r = interface_limit_check(parameters, d->json, 0, 0, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(d);

	r = jset_new(json, "Attachment",
		     attachment_json(c, instance_id, index,
				     jbool(parameters, "_DeleteOnTermination", 0)));
	if (r == 0)
		r = attachment_set_limit(json_object_get(json, "Attachment"), parameters);
	if (r == 0 && jbool(parameters, "_Begin", 0)) {
		r = jset(json_object_get(json, "Attachment"), "Status", "attaching");
		if (r == 0)
			r = refresh_mark(json);
	}
	if (r == 0)
		r = jset(json, "Status", "in-use");
	if (r == 0)
		r = routes_follow_interface(c, jstr_or(json, "VpcId", ""), d->id,
					    json_object_get(json, "Attachment"));
	if (r == 0)
		r = txn_replace(c->txn, d, give(json));
	return r < 0 ? r : txn_commit(c->txn);
}

int attach_network_interface(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	const struct doc *d;
	char vpc_id[ID_MAX], id[ID_MAX];
	int r = kind_get_parameter(c, &kind_network_interface, parameters, "NetworkInterfaceId", &d,
				   f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *was = json_incref(d->json);

	snprintf(vpc_id, sizeof vpc_id, "%s", jstr_or(d->json, "VpcId", ""));
	snprintf(id, sizeof id, "%s", d->id);
	r = attach(c, parameters, d, f);
	if (r < 0)
		return r;
	refresh_start(c->store, id);
	/* What was attached at its birth is under way already. */
	d = store_find(c->store, "network-interface", id);
	if (d && d->json != was)
		kernel_touch(vpc_id);
	r = kernel_sync(vpc_id, f);
	if (r < 0)
		return r;
	/* It may be gone: the kernel was waited for. */
	d = store_find(c->store, "network-interface", id);
	if (!d)
		return fault_set(f, FAULT_INVALID_NETWORK_INTERFACE_ID_NOT_FOUND,
				 "The networkInterface ID '%s' does not exist", id);
	*ret_reply = json_pack("{s:s* s:i s:s s:i}", "AttachmentId",
			       jpath_str(d->json, "Attachment.AttachmentId"), "NetworkCardIndex", 0,
			       "_Tap", jstr(d->json, "_Tap"), "_Mtu", (int)kernel_mtu());
	return *ret_reply ? 0 : -ENOMEM;
}

/* It is to go: hvd takes it from the guest first. */
static int detach_begin(struct call *c, const struct doc *d)
{
	OWN(json_decref) json_t *json = doc_edit(d);
	char id[ID_MAX];
	int r = jset(json_object_get(json, "Attachment"), "Status", "detaching");

	snprintf(id, sizeof id, "%s", d->id);
	if (r == 0)
		r = refresh_mark(json);
	if (r == 0)
		r = txn_replace(c->txn, d, give(json));
	if (r == 0)
		r = txn_commit(c->txn);
	if (r == 0)
		refresh_start(c->store, id);
	return r;
}

int detach_network_interface(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	const struct doc *d;
	char vpc_id[ID_MAX];
	int r = kind_get_parameter(c, &kind_network_interface, parameters, "NetworkInterfaceId", &d,
				   f);

	if (r < 0)
		return r;
	*ret_reply = reply_true();
	snprintf(vpc_id, sizeof vpc_id, "%s", jstr_or(d->json, "VpcId", ""));
	/* Whoever asked before may not have lived to see the tap go. */
	if (!json_object_get(d->json, "Attachment"))
		return kernel_sync(vpc_id, f);
	if (jbool(parameters, "_Begin", 0))
		return detach_begin(c, d);
	OWN(json_decref) json_t *json = doc_edit(d);

	json_object_del(json, "Attachment");
	/* An address given at launch goes with the instance, an elastic one stays. */
	if (json_object_del(json, "_PublicAtLaunch") == 0 &&
	    !jpath_str(json, "Association.AllocationId"))
		interface_clear_public(json);
	(void)json_object_del(json, "_IsReleased"); /* of an instance that never stopped */
	r = jset(json, "Status", "available");
	if (r == 0)
		r = routes_follow_interface(c, vpc_id, d->id, NULL);
	if (r == 0)
		r = txn_replace(c->txn, d, give(json));
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	kernel_touch(vpc_id);
	return kernel_sync(vpc_id, f);
}

static int reply_interface(json_t *json, json_t **ret_reply)
{
	*ret_reply = json_pack("{s:[o]}", "NetworkInterfaces", interface_shown(json));
	return *ret_reply ? 0 : -ENOMEM;
}

int release_public_address(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d;
	int r = kind_get_parameter(c, &kind_network_interface, parameters, "NetworkInterfaceId", &d,
				   f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(d);

	/* An elastic address stays with a stopped instance; should it leave, nothing comes for it.
	 */
	if (!jpath_str(d->json, "Association.AllocationId"))
		interface_clear_public(json);
	r = jset_new(json, "_IsReleased", json_true());
	if (r == 0)
		r = routes_follow_instance(c, jpath_str(json, "Attachment.InstanceId"),
					   "blackhole");
	if (r == 0)
		r = reply_interface(json, ret_reply);
	kernel_touch(jstr(d->json, "VpcId"));
	return r < 0 ? r : txn_replace(c->txn, d, give(json));
}

int assign_public_address(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d, *vpc;
	char address[IP_TEXT_MAX];
	int r = kind_get_parameter(c, &kind_network_interface, parameters, "NetworkInterfaceId", &d,
				   f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(d);

	(void)json_object_del(json, "_IsReleased"); /* of an instance that never stopped */
	if (!json_object_get(d->json, "Association") && jbool(d->json, "_PublicAtLaunch", 0)) {
		r = kind_get(c, &kind_vpc, "VpcId", jstr(d->json, "VpcId"), &vpc, f);
		if (r == 0)
			r = address_take_public(c, address, f);
		if (r == 0)
			r = interface_set_public(c, vpc->json, json, address);
	}
	if (r == 0)
		r = routes_follow_instance(c, jpath_str(json, "Attachment.InstanceId"), "active");
	if (r == 0)
		r = reply_interface(json, ret_reply);
	kernel_touch(jstr(d->json, "VpcId"));
	return r < 0 ? r : txn_replace(c->txn, d, give(json));
}

int open_metadata(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *vpc;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	(void)ret_reply; /* the descriptors are the answer */
	return r < 0 ? r : kernel_open_metadata(jstr(parameters, "VpcId"), c->out, f);
}
