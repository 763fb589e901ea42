/* Network interfaces: to make and delete them. */
#include "interface.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "address.h"
#include "delegation.h"
#include "ipv6.h"
#include "elastic.h"
#include "route-target.h"
#include "taken.h"

/* What a request asks for, checked; owned by create_network_interface(). */
struct birth {
	const struct doc *subnet, *vpc;
	const char *instance_id; /* born attached; NULL: not attached */
	int device_index;
	json_t *groups, *tags;
	json_t *addresses; /* texts, the primary one first */
	json_t *addresses6;
	json_t *prefixes, *prefixes6; /* texts */
	char mac[18];
};

static int group_add(const struct call *c, const json_t *vpc, const char *id, int is_launch,
		     json_t *groups, struct fault *f)
{
	const struct doc *group;
	const char *vpc_id = jstr(vpc, "VpcId");
	json_t *known;
	size_t i;
	int r = kind_get(c, &kind_security_group, "groupId", id, &group, f);

	if (r < 0)
		return r;
	if (!jis(group->json, "VpcId", vpc_id) && is_launch)
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "Security group %s and subnet belong to different networks.", id);
	if (!jis(group->json, "VpcId", vpc_id))
		return fault_set(
			f, FAULT_INVALID_GROUP_NOT_FOUND,
			"You have specified two resources that belong to different networks.");
	json_array_foreach (groups, i, known)
		if (jis(known, "GroupId", id))
			return 0;
	return json_array_append_new(groups, json_pack("{s:s s:s}", "GroupId", id, "GroupName",
						       jstr_or(group->json, "GroupName", ""))) < 0
		       ? -ENOMEM
		       : 0;
}

int interface_groups(const struct call *c, const json_t *vpc, json_t *group_ids, int is_launch,
		     json_t **ret_groups, struct fault *f)
{
	OWN(json_decref) json_t *groups = json_array();
	json_t *id;
	size_t i;
	int r = 0;

	if (json_array_size(group_ids) == 0)
		r = group_add(c, vpc, jstr(vpc, "_DefaultGroup"), is_launch, groups, f);
	json_array_foreach (group_ids, i, id)
		if (r == 0)
			r = group_add(c, vpc, json_string_value(id), is_launch, groups, f);
	if (r < 0)
		return r;
	if (json_array_size(groups) > LIMIT_GROUPS_PER_INTERFACE)
		return fault_set(f, FAULT_SECURITY_GROUPS_PER_INTERFACE_LIMIT_EXCEEDED,
				 "The maximum number of security groups per network interface has "
				 "been reached.");
	*ret_groups = give(groups);
	return 0;
}

/* The primary address that the request names, in either of its two ways; NULL: any. */
static int primary_parameter(json_t *parameters, const char **ret_text, struct fault *f)
{
	json_t *list = json_object_get(parameters, "PrivateIpAddresses"), *a;
	const char *text = jstr(parameters, "PrivateIpAddress");
	size_t i;

	json_array_foreach (list, i, a) {
		if (!jbool(a, "Primary", 0))
			continue;
		if (text)
			return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
					 "Only one primary private IP address can be specified.");
		text = jstr(a, "PrivateIpAddress");
	}
	*ret_text = text;
	return 0;
}

int interface_address_fault(int r, const char *wanted, const char *subnet_id, struct fault *f)
{
	if (r == -EINVAL)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter privateIpAddress is invalid. Invalid "
				 "IP address.",
				 wanted);
	if (r == -ERANGE)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Address does not fall within the subnet's address range");
	if (r == -EPERM)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Address %s is in subnet's reserved address range", wanted);
	if (r == -EADDRINUSE)
		return fault_set(f, FAULT_INVALID_IP_ADDRESS_IN_USE, "Address %s is in use.",
				 wanted);
	if (r == -ENOSPC)
		return fault_set(f, FAULT_INSUFFICIENT_FREE_ADDRESSES,
				 "The specified subnet does not have enough free addresses to "
				 "satisfy the request. (%s)",
				 subnet_id);
	return r;
}

static int address_add(const struct birth *b, const char *wanted, json_t *taken, json_t *addresses,
		       struct fault *f)
{
	char text[IP_TEXT_MAX];
	int r = address_take(b->subnet->json, wanted, taken, text);

	if (r < 0)
		return interface_address_fault(r, wanted, b->subnet->id, f);
	return json_array_append_new(addresses, json_string(text)) < 0 ||
			       json_array_append_new(taken, json_string(text)) < 0
		       ? -ENOMEM
		       : 0;
}

/* What a request asks for, as far as its parameters tell. */
static int counts_check(const json_t *list, int64_t n_free, struct fault *f)
{
	if (n_free && list)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "PrivateIpAddresses and SecondaryPrivateIpAddressCount may not be "
				 "used together");
	if (n_free + (int64_t)json_array_size(list) >= LIMIT_ADDRESSES_PER_INTERFACE)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Too many private addresses for one interface");
	return 0;
}

/* Secondary addresses of the list that have a name, or those that have none. */
static int secondary_add(const struct birth *b, const json_t *list, int is_named, json_t *taken,
			 json_t *secondary, struct fault *f)
{
	const json_t *a;
	size_t i;
	int r = 0;

	json_array_foreach (list, i, a) {
		const char *text = jstr(a, "PrivateIpAddress");

		if (r == 0 && !jbool(a, "Primary", 0) && !!text == is_named)
			r = address_add(b, text, taken, secondary, f);
	}
	return r;
}

/* All addresses and prefixes of IPv4 of the new interface. What is named comes before what is
 * chosen, so that nothing is chosen that is named; and prefixes are chosen before addresses, which
 * fit in anywhere: else it would be a matter of luck whether a free block is left. */
static int take4(json_t *parameters, struct birth *b, struct fault *f)
{
	const json_t *list = json_object_get(parameters, "PrivateIpAddresses"),
		     *subnet = b->subnet->json;
	int64_t n_free = jint(parameters, "SecondaryPrivateIpAddressCount", 0);
	OWN(json_decref) json_t *taken = json_array();
	OWN(json_decref) json_t *secondary = json_array();
	const struct delegation *d = &delegation_ipv4;
	const char *primary = NULL;
	int r = count_check(parameters, "SecondaryPrivateIpAddressCount", 0, f);

	b->addresses = json_array();
	if (r == 0)
		r = delegation_named(d, subnet, parameters, NULL, &b->prefixes, f);
	if (r == 0)
		r = jarray_extend_all(taken, b->prefixes);
	if (r == 0)
		r = primary_parameter(parameters, &primary, f);
	if (r == 0)
		r = counts_check(list, n_free, f);
	if (r == 0 && primary)
		r = address_add(b, primary, taken, b->addresses, f);
	if (r == 0)
		r = secondary_add(b, list, 1, taken, secondary, f);
	if (r == 0)
		r = delegation_take(d, subnet, parameters, taken, b->prefixes, f);
	if (r == 0)
		r = jarray_extend_all(taken, b->prefixes);
	if (r == 0 && !primary)
		r = address_add(b, NULL, taken, b->addresses, f);
	if (r == 0)
		r = secondary_add(b, list, 0, taken, secondary, f);
	for (; r == 0 && n_free > 0; n_free--)
		r = address_add(b, NULL, taken, secondary, f);
	return r < 0 ? r : jarray_extend_all(b->addresses, secondary);
}

static int take6(json_t *parameters, struct birth *b, struct fault *f)
{
	const json_t *subnet = b->subnet->json;

	return ipv6_take(subnet, parameters, NULL, 1, &b->addresses6, &b->prefixes6, f);
}

/* A MAC that no interface of the box has: locally administered, unicast. */
static void mac_new(char ret_mac[static 18])
{
	uint8_t b[5];

	do {
		(void)!getrandom(b, sizeof b, 0); /* cannot fail for so few bytes */
		snprintf(ret_mac, 18, "02:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4]);
	} while (taken_mac(ret_mac));
}

json_t *interface_address(const struct call *c, const char *address, int is_primary)
{
	char name[ADDRESS_NAME_MAX];

	address_private_name(c->ctx->region, address, name);
	return json_pack("{s:s s:s s:b}", "PrivateIpAddress", address, "PrivateDnsName", name,
			 "Primary", is_primary);
}

static json_t *addresses_json(const struct call *c, const json_t *addresses)
{
	OWN(json_decref) json_t *list = json_array();
	json_t *a;
	size_t i;

	json_array_foreach (addresses, i, a)
		if (json_array_append_new(list,
					  interface_address(c, json_string_value(a), i == 0)) < 0)
			return NULL;
	return give(list);
}

static json_t *interface_json(const struct call *c, const struct birth *b, const char *id,
			      const char *description)
{
	const char *primary = json_string_value(json_array_get(b->addresses, 0));
	const json_t *subnet = b->subnet->json;
	char name[ADDRESS_NAME_MAX], tap[16];

	address_private_name(c->ctx->region, primary, name);
	id_link_name('t', id, tap);
	return json_pack(
		"{s:s s:s s:s s:s s:s s:s s:s s:s s:s s:b s:b s:s s:o s:O s:O s:o s:s s:s}",
		"NetworkInterfaceId", id, "SubnetId", b->subnet->id, "VpcId", b->vpc->id,
		"AvailabilityZone", jstr(subnet, "AvailabilityZone"), "MacAddress", b->mac,
		"PrivateIpAddress", primary, "PrivateDnsName", name, "OwnerId", c->ctx->account,
		"InterfaceType", "interface", "RequesterManaged", 0, "SourceDestCheck", 1,
		"Description", description, "PrivateIpAddresses", addresses_json(c, b->addresses),
		"Groups", b->groups, "Tags", b->tags, "Ipv6Addresses", tags_or_none(b->addresses6),
		"Status", b->instance_id ? "in-use" : "available", "_Tap", tap);
}

/* Members of AWS's that ask for what is not there. */
static int kind_check(json_t *parameters, struct fault *f)
{
	const char *type = jstr(parameters, "InterfaceType");

	if (type && strcmp(type, "interface") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Interfaces of type %.32s are not supported", type);
	return 0;
}

/* Where: the subnet named, or, for an instance, a default one. */
static int place_find(const struct call *c, json_t *parameters, struct birth *b, struct fault *f)
{
	int r;

	if (jstr(parameters, "SubnetId") || !b->instance_id)
		r = kind_get_parameter(c, &kind_subnet, parameters, "SubnetId", &b->subnet, f);
	else
		r = subnet_default(c, jstr(parameters, "_AvailabilityZone"), &b->subnet, f);
	return r < 0 ? r
		     : kind_get(c, &kind_vpc, "VpcId", jstr(b->subnet->json, "VpcId"), &b->vpc, f);
}

static int birth_read(const struct call *c, json_t *parameters, struct birth *b, struct fault *f)
{
	int r = kind_check(parameters, f);

	if (r == 0)
		r = text_limit(parameters, "Description", LIMIT_DESCRIPTION, f);
	b->instance_id = jstr(parameters, "_InstanceId");
	b->device_index = (int)jint(parameters, "_DeviceIndex", 0);
	if (r == 0)
		r = place_find(c, parameters, b, f);
	if (r == 0)
		r = interface_groups(c, b->vpc->json, json_object_get(parameters, "Groups"),
				     !!b->instance_id, &b->groups, f);
	if (r == 0)
		r = kind_tags(&kind_network_interface, parameters, &b->tags, f);
	if (r < 0)
		return r;
	if (taken_interfaces(c->ctx->account, c->ctx->region) >= LIMIT_INTERFACES_PER_REGION)
		return fault_set(f, FAULT_NETWORK_INTERFACE_LIMIT_EXCEEDED,
				 "The maximum number of network interfaces has been reached.");
	if (b->instance_id && taken_device(b->instance_id, b->device_index))
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"Instance '%s' already has an interface attached at device index '%d'.",
			b->instance_id, b->device_index);
	mac_new(b->mac);
	r = take4(parameters, b, f);
	return r < 0 ? r : take6(parameters, b, f);
}

/* The part of an interface's birth that only instances have: attachment and public address. */
static int birth_attach(const struct call *c, json_t *parameters, const struct birth *b,
			json_t *json, struct fault *f)
{
	int has_public = jbool(b->subnet->json, "MapPublicIpOnLaunch", 0) && b->device_index == 0;
	char address[IP_TEXT_MAX];

	if (!b->instance_id)
		return 0;
	int r = jset_new(json, "Attachment",
			 attachment_json(c, b->instance_id, b->device_index,
					 jbool(parameters, "_DeleteOnTermination", 1)));

	/* A launch that comes to nothing takes back what was made for it, and nothing else. */
	if (r == 0)
		r = jset_new(json_object_get(json, "Attachment"), "_Born", json_true());
	if (r == 0)
		r = attachment_set_limit(json_object_get(json, "Attachment"), parameters);
	if (r == 0 && b->device_index == 0)
		r = interface_name_at_launch(c, parameters, b->subnet->json, json);
	if (r < 0 || !jbool(parameters, "_AssociatePublicIpAddress", has_public))
		return r;
	r = address_take_public(c, address, f);
	if (r == 0)
		r = interface_set_public(c, b->vpc->json, json, address);
	return r < 0 ? r : jset_new(json, "_PublicAtLaunch", json_true());
}

int create_network_interface(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	struct birth b = {0};
	char id[ID_MAX];
	int r = birth_read(c, parameters, &b, f);
	OWN(json_decref)
	json_t *groups = b.groups, *tags = b.tags, *addresses = b.addresses,
	       *addresses6 = b.addresses6, *prefixes = b.prefixes, *prefixes6 = b.prefixes6;

	if (r < 0)
		return r;
	id_new("eni", id);
	OWN(json_decref)
	json_t *json = interface_json(c, &b, id, jstr_or(parameters, "Description", ""));

	r = json ? delegation_add(&delegation_ipv4, json, prefixes) : -ENOMEM;
	if (r == 0)
		r = delegation_add(&delegation_ipv6, json, prefixes6);
	if (r == 0)
		r = interface_limit_check(parameters, json, 0, 0, f);
	if (r == 0)
		r = birth_attach(c, parameters, &b, json, f);
	if (r == 0)
		r = put_new(c, &kind_network_interface, id, json_incref(json));
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:o s:s*}", "NetworkInterface", interface_shown(json),
			       "ClientToken", jstr(parameters, "ClientToken"));
	if (!*ret_reply)
		return -ENOMEM;
	if (b.instance_id)
		kernel_touch(b.vpc->id);
	return 0;
}

int interface_is_customers(const struct doc *interface, struct fault *f)
{
	if (!jbool(interface->json, "RequesterManaged", 0))
		return 0;
	return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
			 "You are not allowed to manage the interface %s: %s", interface->id,
			 jstr_or(interface->json, "Description", ""));
}

int interface_get_customers(const struct call *c, json_t *parameters,
			    const struct doc **ret_interface, struct fault *f)
{
	int r = kind_get_parameter(c, &kind_network_interface, parameters, "NetworkInterfaceId",
				   ret_interface, f);

	return r < 0 ? r : interface_is_customers(*ret_interface, f);
}

static json_t *node_attachment(const struct node_birth *b)
{
	char id[ID_MAX];

	id_new("ela-attach", id);
	return json_pack("{s:s s:s s:s s:i s:i s:s s:b s:o}", "AttachmentId", id, b->owner,
			 b->owner_id, "InstanceOwnerId", "amazon-aws", "DeviceIndex", 1,
			 "NetworkCardIndex", 0, "Status", "attached", "DeleteOnTermination", 0,
			 "AttachTime", jtime_now());
}

static int node_json(const struct node_birth *n, json_t *json)
{
	const struct {
		const char *member;
		json_t *value;
	} members[] = {
		{"Attachment", node_attachment(n)}, {"InterfaceType", json_string(n->type)},
		{"RequesterManaged", json_true()},  {"RequesterId", json_string("amazon-aws")},
		{"SourceDestCheck", json_false()},  {"Status", json_string("in-use")},
		{"_Node", json_string(n->node)},
	};
	int r = 0;

	for (size_t i = 0; i < sizeof members / sizeof *members; i++)
		if (jset_new(json, members[i].member, members[i].value) < 0)
			r = -ENOMEM;
	return r;
}

int interface_make_node(const struct call *c, struct node_birth *n, struct fault *f)
{
	struct birth b = {.subnet = n->subnet, .vpc = n->vpc};
	OWN(json_decref) json_t *groups = json_array();
	OWN(json_decref) json_t *tags = json_array();
	OWN(json_decref)
	json_t *wanted = json_pack("{s:s* s:O*}", "PrivateIpAddress", n->private_ip,
				   "PrivateIpAddresses", n->secondary);

	b.groups = groups;
	b.tags = tags;
	if (taken_interfaces(c->ctx->account, c->ctx->region) >= LIMIT_INTERFACES_PER_REGION)
		return fault_set(f, FAULT_NETWORK_INTERFACE_LIMIT_EXCEEDED,
				 "The maximum number of network interfaces has been reached.");
	mac_new(b.mac);
	int r = wanted ? take4(wanted, &b, f) : -ENOMEM;
	OWN(json_decref) json_t *addresses = b.addresses, *prefixes = b.prefixes;

	if (r < 0)
		return r;
	id_new("eni", n->interface_id);
	snprintf(n->address, sizeof n->address, "%s",
		 json_string_value(json_array_get(addresses, 0)));
	OWN(json_decref) json_t *json = interface_json(c, &b, n->interface_id, n->description);

	r = json ? node_json(n, json) : -ENOMEM;
	return r < 0 ? r : put_new(c, &kind_network_interface, n->interface_id, give(json));
}

int delete_network_interface(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	const struct doc *d;
	char vpc_id[ID_MAX];
	int is_forced = jbool(parameters, "_Force", 0);
	int r = interface_get_customers(c, parameters, &d, f);

	if (r < 0)
		return r;
	int was_attached = json_object_get(d->json, "Attachment") != NULL;

	if (was_attached && !is_forced)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Network interface '%s' is currently in use.", d->id);
	snprintf(vpc_id, sizeof vpc_id, "%s", jstr_or(d->json, "VpcId", ""));
	r = elastic_orphan(c, d->json, NULL);
	if (r == 0)
		r = routes_follow_interface(c, vpc_id, d->id, NULL);
	if (r == 0)
		r = flow_logs_drop(c, d->id);
	if (r == 0)
		r = txn_delete(c->txn, "network-interface", d->id);
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	kernel_touch(vpc_id);
	*ret_reply = reply_true();
	/* An interface that was not attached has nothing in the kernel to wait for. */
	return was_attached ? kernel_sync(vpc_id, f) : 0;
}
