/* An instance's document: found, shown, and filled from what netd says of its interfaces. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "instance-rooms.h"
#include "interface.h"

const struct action instance_actions[] = {
#define ACTION(name, handler, flags) {name, handler, flags},
#include "instance-table.h"
#undef ACTION
	{NULL},
};

uint64_t now_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

int instance_get(const struct call *c, const char *id, const struct doc **ret_instance,
		 struct fault *f)
{
	if (!id || !id_is(id, "i"))
		return fault_set(f, FAULT_INVALID_INSTANCE_ID_MALFORMED,
				 "Invalid id: \"%.128s\" (expecting \"i-...\")", id ? id : "");
	const struct doc *d = store_get(c->store, c->ctx, INSTANCE_KIND, id);
	if (!d)
		return fault_set(f, FAULT_INVALID_INSTANCE_ID_NOT_FOUND,
				 "The instance ID '%s' does not exist", id);
	*ret_instance = d;
	return 0;
}

int instance_check_ids(const struct call *c, json_t *parameters, struct fault *f)
{
	json_t *ids = json_object_get(parameters, "InstanceIds"), *id;
	const struct doc *d;
	size_t i;

	if (json_array_size(ids) == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter InstanceId");
	json_array_foreach (ids, i, id) {
		int r = instance_get(c, json_string_value(id), &d, f);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The members `names` of `from`, those that are there (a new reference). */
static json_t *pick(const json_t *from, const char *const *names)
{
	OWN(json_decref) json_t *to = json_object();

	for (; to && *names; names++) {
		json_t *value = json_object_get(from, *names);
		if (value && json_object_set(to, *names, value) < 0)
			return NULL;
	}
	return give(to);
}

/* A network interface as an Instance shows it: netd's members under the same names, less what
 * only DescribeNetworkInterfaces has. */
static json_t *interface_of(const json_t *eni)
{
	static const char *const members[] = {"Association",
					      "Description",
					      "Groups",
					      "Ipv4Prefixes",
					      "Ipv6Addresses",
					      "Ipv6Prefixes",
					      "MacAddress",
					      "NetworkInterfaceId",
					      "OwnerId",
					      "PrivateDnsName",
					      "PrivateIpAddress",
					      "PrivateIpAddresses",
					      "SourceDestCheck",
					      "Status",
					      "SubnetId",
					      "VpcId",
					      "InterfaceType",
					      "_Tap",
					      "_PrivateDnsNameOptions",
					      NULL};
	static const char *const attachment[] = {
		"AttachTime",  "AttachmentId", "DeleteOnTermination",
		"DeviceIndex", "Status",       "NetworkCardIndex",
		NULL};
	OWN(json_decref) json_t *shown = pick(eni, members);

	if (!shown ||
	    jset_new(shown, "Attachment", pick(json_object_get(eni, "Attachment"), attachment)) < 0)
		return NULL;
	return give(shown);
}

/* The list in the order of the device indices. */
static json_t *interfaces_of(const json_t *enis)
{
	OWN(json_decref) json_t *list = json_array();
	json_t *eni;
	size_t i;

	json_array_foreach (enis, i, eni) {
		json_t *shown = interface_of(eni);
		json_int_t index = json_integer_value(jpath(shown, "Attachment.DeviceIndex"));
		size_t at = json_array_size(list);

		while (at > 0 && json_integer_value(jpath(json_array_get(list, at - 1),
							  "Attachment.DeviceIndex")) > index)
			at--;
		if (!shown || json_array_insert_new(list, at, shown) < 0)
			return NULL;
	}
	return give(list);
}

static int set_or_remove(json_t *object, const char *name, json_t *value)
{
	if (value)
		return json_object_set(object, name, value) < 0 ? -ENOMEM : 0;
	(void)json_object_del(object, name); /* it may not have been there */
	return 0;
}

json_int_t instance_address_limit(const json_t *instance)
{
	const struct instance_type *type =
		instance_type_find(jstr_or(instance, "InstanceType", ""));

	return type ? (json_int_t)type->n_ipv4_per_interface : 1;
}

int instance_set_interfaces(json_t *instance, const json_t *interfaces)
{
	static const char *const members[] = {"SubnetId", "VpcId", "PrivateIpAddress",
					      "SourceDestCheck"};
	json_t *list = interfaces_of(interfaces);
	const json_t *first = json_array_get(list, 0);
	json_t *groups = json_object_get(first, "Groups"),
	       *options = json_object_get(first, "_PrivateDnsNameOptions"),
	       *addresses6 = json_object_get(first, "Ipv6Addresses");
	int r = jset_new(instance, "NetworkInterfaces", list);

	for (size_t i = 0; r == 0 && i < sizeof(members) / sizeof(members[0]); i++)
		r = set_or_remove(instance, members[i], json_object_get(first, members[i]));
	if (r == 0)
		r = set_or_remove(instance, "PublicIpAddress",
				  jpath(first, "Association.PublicIp"));
	if (r == 0)
		r = set_or_remove(instance, "Ipv6Address",
				  json_object_get(json_array_get(addresses6, 0), "Ipv6Address"));
	if (r == 0)
		r = jset(instance, "PrivateDnsName", jstr_or(first, "PrivateDnsName", ""));
	if (r == 0 && options)
		r = jset_new(instance, "PrivateDnsNameOptions", json_deep_copy(options));
	if (r == 0) {
		const char *name = jpath_str(first, "Association.PublicDnsName");
		r = jset(instance, "PublicDnsName", name ? name : "");
	}
	return r < 0 ? r
		     : jset_new(instance, "SecurityGroups",
				groups ? json_incref(groups) : json_array());
}

json_t *instance_present(const struct call *c, const struct doc *d)
{
	(void)c;
	/* Most instances have none of it, and then the document itself will do. */
	if (!json_object_get(d->json, "_UserData"))
		return json_incref(d->json);
	json_t *shown = json_copy(d->json);
	/* it is there, and it is the customer's secret */
	(void)json_object_del(shown, "_UserData");
	return shown;
}

/* The block, as documents of interfaces have prefixes, has the address. */
static int is_within(const char *block, const char *address)
{
	int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	uint8_t one[16] = {0}, two[16] = {0};
	char first[INET6_ADDRSTRLEN];
	unsigned bits = 0;

	if (sscanf(block, "%45[0-9a-f.:]/%u", first, &bits) != 2 || bits > 128 ||
	    inet_pton(family, first, one) != 1 || inet_pton(family, address, two) != 1)
		return 0;
	for (unsigned i = 0; i < bits; i++)
		if ((one[i / 8] ^ two[i / 8]) & 0x80 >> i % 8)
			return 0;
	return 1;
}

static int interface_has_address(const json_t *interface, const char *address)
{
	static const struct {
		const char *list, *member;
	} of[] = {{"PrivateIpAddresses", "PrivateIpAddress"},
		  {"Ipv6Addresses", "Ipv6Address"},
		  {"Ipv4Prefixes", "Ipv4Prefix"},
		  {"Ipv6Prefixes", "Ipv6Prefix"}};
	json_t *a;
	size_t i;

	for (size_t k = 0; k < sizeof(of) / sizeof(of[0]); k++)
		json_array_foreach (json_object_get(interface, of[k].list), i, a) {
			const char *text = jstr_or(a, of[k].member, "");
			if (strcmp(text, address) == 0 || is_within(text, address))
				return 1;
		}
	return 0;
}

int instance_has_address(const struct doc *d, const char *vpc_id, const char *address)
{
	enum instance_state state = instance_state_of(d->json);
	json_t *interface;
	size_t i;

	/* What is shutting down loses its addresses before it says so, and another may have them. */
	if (state == INSTANCE_TERMINATED || state == INSTANCE_SHUTTING_DOWN)
		return 0;
	json_array_foreach (json_object_get(d->json, "NetworkInterfaces"), i, interface)
		if (strcmp(jstr_or(interface, "VpcId", ""), vpc_id) == 0 &&
		    interface_has_address(interface, address))
			return 1;
	return 0;
}

const struct doc *instance_by_address(const struct store *s, const char *vpc_id,
				      const char *address)
{
	store_each (s, INSTANCE_KIND, d)
		if (instance_has_address(d, vpc_id, address))
			return d;
	return NULL;
}

void instance_context(const struct doc *d, struct context *ret_ctx)
{
	*ret_ctx = (struct context){0};
	snprintf(ret_ctx->account, sizeof(ret_ctx->account), "%s", d->account);
	snprintf(ret_ctx->region, sizeof(ret_ctx->region), "%s", d->region);
	id_uuid(ret_ctx->request);
}

int instance_commit(const struct doc *d, json_t *changed)
{
	OWN(txn_free) struct txn *t = txn_new(daemon_get()->store);

	if (!t) {
		json_decref(changed);
		return -ENOMEM;
	}
	int r = txn_replace(t, d, changed);
	return r < 0 ? r : txn_commit(t);
}

/* (internal) The interfaces of an instance changed at a customer's request: netd tells. */
int instance_refresh(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr(parameters, "InstanceId");
	OWN(json_decref) json_t *interfaces = NULL;
	const struct doc *d;

	(void)ret_reply;
	int r = instance_get(c, id, &d, f);
	if (r == 0)
		r = parts_interfaces(c->ctx, id, &interfaces, f);
	if (r == 0)
		r = instance_get(c, id, &d, f);
	if (r < 0 || instance_state_of(d->json) == INSTANCE_TERMINATED)
		return r;
	OWN(json_decref) json_t *instance = doc_edit(d);
	r = instance_set_interfaces(instance, interfaces);
	if (r == 0 && !interfaces_are_settled(instance))
		instance_kick(id); /* somebody who began it did not live to say so */
	return r < 0 ? r : txn_replace(c->txn, d, give(instance));
}
