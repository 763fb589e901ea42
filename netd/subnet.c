/* Subnets. */
#include "netd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "describe.h"
#include "ipv6.h"
#include "reservation.h"
#include "vpc.h"
#include "zones.h"

static int has_free_count(const struct doc *d, const json_t *values)
{
	char text[24];
	size_t i;
	json_t *v;

	snprintf(text, sizeof text, "%llu", (unsigned long long)address_count_free(d->json));
	json_array_foreach (values, i, v)
		if (pattern_match(json_string_value(v), text))
			return 1;
	return 0;
}

static const struct filter subnet_filters[] = {
	{"availability-zone", "AvailabilityZone"},
	{"availabilityZone", "AvailabilityZone"},
	{"availability-zone-id", "AvailabilityZoneId"},
	{"availabilityZoneId", "AvailabilityZoneId"},
	{"available-ip-address-count", NULL, has_free_count},
	{"cidr", "CidrBlock"},
	{"cidr-block", "CidrBlock"},
	{"cidrBlock", "CidrBlock"},
	{"customer-owned-ipv4-pool", "CustomerOwnedIpv4Pool"},
	{"default-for-az", "DefaultForAz"},
	{"defaultForAz", "DefaultForAz"},
	{"enable-dns64", "EnableDns64"},
	{"enable-lni-at-device-index", "EnableLniAtDeviceIndex"},
	{"ipv6-cidr-block-association.association-id", "Ipv6CidrBlockAssociationSet.AssociationId"},
	{"ipv6-cidr-block-association.ipv6-cidr-block",
	 "Ipv6CidrBlockAssociationSet.Ipv6CidrBlock"},
	{"ipv6-cidr-block-association.state",
	 "Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State"},
	{"ipv6-native", "Ipv6Native"},
	{"map-customer-owned-ip-on-launch", "MapCustomerOwnedIpOnLaunch"},
	{"map-public-ip-on-launch", "MapPublicIpOnLaunch"},
	{"outpost-arn", "OutpostArn"},
	{"owner-id", "OwnerId"},
	{"private-dns-name-options-on-launch.enable-resource-name-dns-a-record",
	 "PrivateDnsNameOptionsOnLaunch.EnableResourceNameDnsARecord"},
	{"private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record",
	 "PrivateDnsNameOptionsOnLaunch.EnableResourceNameDnsAAAARecord"},
	{"private-dns-name-options-on-launch.hostname-type",
	 "PrivateDnsNameOptionsOnLaunch.HostnameType"},
	{"state", "State"},
	{"subnet-arn", "SubnetArn"},
	{"subnet-id", "SubnetId"},
	{"vpc-id", "VpcId"},
	FILTER_TAGS,
	{NULL},
};

/* The document with the addresses that are free at this moment. */
static json_t *present(const json_t *json)
{
	OWN(json_decref) json_t *shown = json_copy((json_t *)json);
	uint64_t n = address_count_free(json);

	if (jset_new(shown, "AvailableIpAddressCount", json_integer((json_int_t)n)) < 0)
		return NULL;
	return give(shown);
}

static json_t *present_doc(const struct call *c, const struct doc *d)
{
	(void)c;
	return present(d->json);
}

static const struct describe subnets = {
	.kind = "subnet",
	.result = "Subnets",
	.ids = "SubnetIds",
	.prefix = "subnet",
	.malformed = FAULT_INVALID_SUBNET_ID_MALFORMED,
	.not_found = FAULT_INVALID_SUBNET_ID_NOT_FOUND,
	.filters = subnet_filters,
	.present = present_doc,
};

const struct doc *subnet_next_in_vpc(const struct call *c, const char *vpc_id,
				     const struct doc *after)
{
	const struct doc *d = after;

	while ((d = store_next(c->store, "subnet", d)))
		if (jis(d->json, "VpcId", vpc_id))
			return d;
	return NULL;
}

int subnet_default(const struct call *c, const char *zone, const struct doc **ret_subnet,
		   struct fault *f)
{
	const struct doc *vpc = vpc_default(c);

	if (!vpc)
		return fault_set(f, FAULT_VPC_ID_NOT_SPECIFIED, "No default VPC for this user");
	if (zone && !zone_exists(c->daemon->config, c->ctx->region, zone))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid availability zone: [%.64s]", zone);
	for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, vpc->id, d));)
		if (jbool(d->json, "DefaultForAz", 0) &&
		    (!zone || jis(d->json, "AvailabilityZone", zone))) {
			*ret_subnet = d;
			return 0;
		}
	if (zone)
		return fault_set(f, FAULT_MISSING_INPUT,
				 "No default subnet for availability zone: '%s'", zone);
	return fault_set(f, FAULT_MISSING_INPUT,
			 "No subnets found for the default VPC '%s'. Please specify a subnet.",
			 vpc->id);
}

static json_t *subnet_json(const struct call *c, const struct subnet_birth *b)
{
	char cidr[CIDR_TEXT_MAX], az_id[ZONE_ID_MAX];
	int zone = zone_index(c->daemon->config, c->ctx->region, b->zone);

	cidr_format(b->cidr, cidr);
	zone_id(c->ctx->region, zone, az_id);
	return json_pack(
		"{s:s s:s s:s s:s s:s s:s s:s s:o s:b s:b s:b s:b s:o s:b s:b s:{s:s s:b "
		"s:b} s:o s:i}",
		"SubnetId", b->subnet_id, "VpcId", b->vpc_id, "AvailabilityZone", b->zone,
		"AvailabilityZoneId", az_id, "CidrBlock", cidr, "State", "available", "OwnerId",
		c->ctx->account, "SubnetArn", arn_new(c, c->ctx->account, "subnet", b->subnet_id),
		"DefaultForAz", b->is_default, "MapPublicIpOnLaunch", b->is_default,
		"MapCustomerOwnedIpOnLaunch", 0, "AssignIpv6AddressOnCreation", 0,
		"Ipv6CidrBlockAssociationSet", ipv6_subnet_associations(b->ipv6_block),
		"EnableDns64", 0, "Ipv6Native", 0, "PrivateDnsNameOptionsOnLaunch", "HostnameType",
		"ip-name", "EnableResourceNameDnsARecord", 0, "EnableResourceNameDnsAAAARecord", 0,
		"Tags", tags_or_none(b->tags), "_Index", b->index);
}

int subnet_make(const struct call *c, struct subnet_birth *b, struct fault *f)
{
	(void)f;
	id_new("subnet", b->subnet_id);
	int r = put_new(c, &kind_subnet, b->subnet_id, subnet_json(c, b));

	if (r == 0)
		r = acl_associate(c, jstr(b->vpc, "_DefaultAcl"), b->subnet_id);
	if (r == 0)
		kernel_touch(b->vpc_id);
	return r;
}

int describe_subnets(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &subnets, parameters, ret_reply, f);
}

/* The block of a new subnet: /16 to /28, within one block of its VPC, no overlap. Source:
 * CreateSubnet in the EC2 API reference. */
static int cidr_check(const struct call *c, const struct doc *vpc, const char *text,
		      struct cidr *ret_cidr, struct fault *f)
{
	struct cidr cidr, other;

	if (!text)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "Either 'cidrBlock' or 'ipv6CidrBlock' should be provided.");
	if (cidr_parse(text, &cidr) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter cidrBlock is invalid. This is not a "
				 "valid CIDR block.",
				 text);
	cidr = cidr_canonical(cidr);
	if (cidr.bits < 16 || cidr.bits > 28 || !vpc_has_cidr(vpc->json, cidr))
		return fault_set(f, FAULT_INVALID_SUBNET_RANGE, "The CIDR '%s' is invalid.", text);
	for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, vpc->id, d));)
		if (cidr_parse(jstr(d->json, "CidrBlock"), &other) == 0 &&
		    cidr_overlap(cidr, other))
			return fault_set(f, FAULT_INVALID_SUBNET_CONFLICT,
					 "The CIDR '%s' conflicts with another subnet", text);
	*ret_cidr = cidr;
	return 0;
}

static int index_free(const struct call *c, const char *vpc_id)
{
	for (int i = 0;; i++) {
		int is_taken = 0;

		for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, vpc_id, d));)
			is_taken |= jint(d->json, "_Index", -1) == i;
		if (!is_taken)
			return i;
	}
}

/* AvailabilityZone or AvailabilityZoneId; without, the zone of the VPC with the fewest subnets
 * would be a guess: the first. */
static int zone_parameter(const struct call *c, json_t *parameters,
			  char ret_zone[static ZONE_NAME_MAX], struct fault *f)
{
	const char *name = jstr(parameters, "AvailabilityZone"),
		   *id = jstr(parameters, "AvailabilityZoneId");
	const char *text = name ? name : id;
	int i = text ? zone_index(c->daemon->config, c->ctx->region, text) : 0;

	if (name && id)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "The parameters AvailabilityZone and AvailabilityZoneId may not "
				 "be used together");
	if (i >= 0)
		zone_name(c->ctx->region, i, ret_zone);
	if (i < 0 || (name && strcmp(name, ret_zone) != 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter availabilityZone is invalid.", text);
	return 0;
}

static size_t count_in_vpc(const struct call *c, const char *vpc_id)
{
	size_t n = 0;

	for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, vpc_id, d));)
		n++;
	return n;
}

static int reply_subnet(const struct call *c, const char *id, json_t **ret_reply)
{
	*ret_reply = json_pack("{s:o}", "Subnet", present(txn_look(c->txn, "subnet", id)));
	return *ret_reply ? 0 : -ENOMEM;
}

int create_subnet(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char zone[ZONE_NAME_MAX];
	const struct doc *vpc;
	OWN(json_decref) json_t *tags = NULL;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r < 0)
		return r;
	struct subnet_birth b = {.vpc_id = vpc->id, .vpc = vpc->json, .zone = zone};

	if (jbool(parameters, "Ipv6Native", 0) || jstr(parameters, "OutpostArn"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "There are no subnets without IPv4, and no outposts");
	r = zone_parameter(c, parameters, zone, f);
	if (r == 0)
		r = cidr_check(c, vpc, jstr(parameters, "CidrBlock"), &b.cidr, f);
	if (r == 0 && jstr(parameters, "Ipv6CidrBlock"))
		r = ipv6_subnet_block_check(c, vpc->json, jstr(parameters, "Ipv6CidrBlock"),
					    b.ipv6_block, f);
	if (r == 0)
		r = kind_tags(&kind_subnet, parameters, &tags, f);
	if (r < 0)
		return r;
	if (count_in_vpc(c, vpc->id) >= LIMIT_SUBNETS_PER_VPC)
		return fault_set(f, FAULT_SUBNET_LIMIT_EXCEEDED,
				 "The maximum number of subnets has been reached.");
	b.index = index_free(c, vpc->id);
	b.tags = tags;
	r = subnet_make(c, &b, f);
	return r < 0 ? r : reply_subnet(c, b.subnet_id, ret_reply);
}

/* The first /20 of the default VPC that no subnet touches. */
static int default_cidr(const struct call *c, const struct doc *vpc, struct cidr *ret_cidr,
			struct fault *f)
{
	struct cidr outer, other;

	if (cidr_parse(jstr(vpc->json, "CidrBlock"), &outer) < 0)
		return -EUCLEAN;
	for (uint32_t i = 0; i < 16; i++) {
		struct cidr part = cidr_part(outer, 20, i);
		int is_free = 1;

		for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, vpc->id, d));)
			if (cidr_parse(jstr(d->json, "CidrBlock"), &other) == 0 &&
			    cidr_overlap(part, other))
				is_free = 0;
		if (is_free) {
			*ret_cidr = part;
			return 0;
		}
	}
	return fault_set(f, FAULT_INVALID_SUBNET_CONFLICT, "The default VPC has no free /20 block");
}

int create_default_subnet(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *zone = jstr(parameters, "AvailabilityZone");
	const struct doc *vpc = vpc_default(c);

	if (jbool(parameters, "Ipv6Native", 0))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "Ipv6Native is not supported");
	if (!vpc)
		return fault_set(f, FAULT_DEFAULT_VPC_DOES_NOT_EXIST,
				 "No default VPC for this user in this region");
	if (!zone)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter availabilityZone");
	if (!zone_exists(c->daemon->config, c->ctx->region, zone))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter availabilityZone is invalid.", zone);
	for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, vpc->id, d));)
		if (jbool(d->json, "DefaultForAz", 0) && jis(d->json, "AvailabilityZone", zone))
			return fault_set(f, FAULT_DEFAULT_SUBNET_ALREADY_EXISTS,
					 "'%s' is already the default subnet in %s.", d->id, zone);
	struct subnet_birth b = {
		.vpc_id = vpc->id, .vpc = vpc->json, .zone = zone, .is_default = 1};
	int r = default_cidr(c, vpc, &b.cidr, f);

	if (r < 0)
		return r;
	b.index = index_free(c, vpc->id);
	r = subnet_make(c, &b, f);
	return r < 0 ? r : reply_subnet(c, b.subnet_id, ret_reply);
}

int delete_subnet(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *subnet;
	int r = kind_get_parameter(c, &kind_subnet, parameters, "SubnetId", &subnet, f);

	if (r < 0)
		return r;
	store_each (c->store, "network-interface", d)
		if (jis(d->json, "SubnetId", subnet->id))
			return fault_set(f, FAULT_DEPENDENCY_VIOLATION,
					 "The subnet '%s' has dependencies and cannot be deleted.",
					 subnet->id);
	r = acl_dissociate(c, subnet->id);
	if (r == 0)
		r = route_table_forget_subnet(c, subnet->id);
	if (r == 0)
		r = flow_logs_drop(c, subnet->id);
	if (r == 0)
		r = reservations_drop(c, subnet->id, 0);
	if (r == 0)
		r = txn_delete(c->txn, "subnet", subnet->id);
	if (r < 0)
		return r;
	kernel_touch(jstr(subnet->json, "VpcId"));
	*ret_reply = reply_true();
	return 0;
}

/* What may be switched on a subnet. Those without `is_settable` may only be "false", which they
 * are: their feature is not there yet. */
static const struct {
	const char *member;
	int is_settable;
	const char *option; /* what it is called in PrivateDnsNameOptionsOnLaunch */
} subnet_attributes[] = {
	{"MapPublicIpOnLaunch", 1},
	{"AssignIpv6AddressOnCreation", 1},
	{"EnableDns64", 0},
	{"MapCustomerOwnedIpOnLaunch", 0},
	{"EnableResourceNameDnsARecordOnLaunch", 1, "EnableResourceNameDnsARecord"},
	{"EnableResourceNameDnsAAAARecordOnLaunch", 1, "EnableResourceNameDnsAAAARecord"},
	{"DisableLniAtDeviceIndex", 0},
};

int modify_subnet_attribute(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *subnet;
	struct cidr6 block;
	static const char *const unsupported[] = {"CustomerOwnedIpv4Pool", "EnableLniAtDeviceIndex",
						  NULL};
	size_t n = 0;
	int r = kind_get_parameter(c, &kind_subnet, parameters, "SubnetId", &subnet, f);

	if (r == 0)
		r = unsupported_check(parameters, unsupported, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(subnet);
	json_t *options = json_object_get(json, "PrivateDnsNameOptionsOnLaunch");

	for (size_t i = 0; i < sizeof subnet_attributes / sizeof *subnet_attributes; i++) {
		const char *member = subnet_attributes[i].member;
		json_t *value = json_object_get(json_object_get(parameters, member), "Value");

		if (!value)
			continue;
		n++;
		if (strcmp(member, "AssignIpv6AddressOnCreation") == 0 && json_is_true(value) &&
		    ipv6_block_of(json, &block) < 0)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Invalid value 'true' for assignIpv6AddressOnCreation. "
					 "The subnet %s has no IPv6 CIDR block",
					 subnet->id);
		if (!subnet_attributes[i].is_settable && json_is_true(value))
			return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "%s is not supported",
					 member);
		if (!subnet_attributes[i].is_settable)
			continue;
		if (json_object_set(subnet_attributes[i].option ? options : json,
				    subnet_attributes[i].option ?: member, value) < 0)
			return -ENOMEM;
	}
	const char *hostname_type = jstr(parameters, "PrivateDnsHostnameTypeOnLaunch");

	if (hostname_type && jset(options, "HostnameType", hostname_type) < 0)
		return -ENOMEM;
	n += !!hostname_type;
	if (n != 1)
		return fault_set(f,
				 n ? FAULT_INVALID_PARAMETER_COMBINATION : FAULT_MISSING_PARAMETER,
				 "Exactly one attribute must be specified");
	*ret_reply = reply_true();
	return txn_replace(c->txn, subnet, give(json));
}
