/* IPv6 blocks of VPCs and subnets. Source: VPC user guide, "IP addressing for your VPCs and
 * subnets"; EC2 API reference, AssociateVpcCidrBlock, AssociateSubnetCidrBlock. */
#include "ipv6.h"
#include "reservation.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "delegation.h"
#include "peering.h"
#include "vpc.h"

#define VPC_BITS    56
#define SUBNET_BITS 64

/* The i-th block of a VPC or a subnet. 0 or -ENOENT. */
static int block_at(const json_t *vpc_or_subnet, size_t i, struct cidr6 *ret_block)
{
	const json_t *row =
		json_array_get(json_object_get(vpc_or_subnet, "Ipv6CidrBlockAssociationSet"), i);

	return cidr6_parse(jstr(row, "Ipv6CidrBlock"), ret_block) < 0 ? -ENOENT : 0;
}

int ipv6_block_of(const json_t *subnet, struct cidr6 *ret_block)
{
	return block_at(subnet, 0, ret_block);
}

int ipv6_vpc_has(const json_t *vpc, struct cidr6 inner)
{
	struct cidr6 block;

	for (size_t i = 0; block_at(vpc, i, &block) == 0; i++)
		if (cidr6_has_cidr(block, inner))
			return 1;
	return 0;
}

static int is_taken(const struct store *s, struct cidr6 block)
{
	struct cidr6 other;

	store_each (s, "vpc", d)
		for (size_t i = 0; block_at(d->json, i, &other) == 0; i++)
			if (cidr6_overlap(block, other))
				return 1;
	return 0;
}

int ipv6_block_new(const struct call *c, char ret_block[static CIDR6_TEXT_MAX], struct fault *f)
{
	struct cidr6 pool;
	uint64_t start = 0, n;
	int r = cidr6_parse(config_string(c->daemon->config, "Network", "Ipv6Pool"), &pool);

	if (r < 0)
		return r;
	(void)!getrandom(&start, sizeof start, 0); /* any place is right, this only spreads */
	n = VPC_BITS - pool.bits < 32 ? (uint64_t)1 << (VPC_BITS - pool.bits) : UINT32_MAX;
	for (uint64_t i = 0; i < n; i++) {
		struct cidr6 block = cidr6_part(pool, VPC_BITS, (start + i) % n);

		if (!is_taken(c->store, block)) {
			cidr6_format(block, ret_block);
			return 0;
		}
	}
	return fault_set(f, FAULT_INSUFFICIENT_ADDRESS_CAPACITY,
			 "Not enough free IPv6 blocks: the pool is used up");
}

int ipv6_border_group_check(const struct call *c, const json_t *parameters, struct fault *f)
{
	const char *group = jstr(parameters, "Ipv6CidrBlockNetworkBorderGroup");

	if (!group)
		return 0;
	if (!jbool(parameters, "AmazonProvidedIpv6CidrBlock", 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Ipv6CidrBlockNetworkBorderGroup may only be used with "
				 "AmazonProvidedIpv6CidrBlock");
	if (strcmp(group, c->ctx->region) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter Ipv6CidrBlockNetworkBorderGroup is "
				 "invalid.",
				 group);
	return 0;
}

/* ---- how they are shown ---- */

static json_t *association(const char *prefix, const char *block)
{
	char id[ID_MAX];

	id_new(prefix, id);
	return json_pack("{s:s s:s s:{s:s}}", "AssociationId", id, "Ipv6CidrBlock", block,
			 "Ipv6CidrBlockState", "State", "associated");
}

static json_t *vpc_association(const struct call *c, const char *block)
{
	OWN(json_decref) json_t *one = association("vpc-cidr-assoc", block);

	if (jset(one, "NetworkBorderGroup", c->ctx->region) < 0 ||
	    jset(one, "Ipv6Pool", "Amazon") < 0)
		return NULL;
	return give(one);
}

json_t *ipv6_vpc_associations(const struct call *c, const char *block)
{
	return *block ? json_pack("[o]", vpc_association(c, block)) : json_array();
}

json_t *ipv6_subnet_associations(const char *block)
{
	return *block ? json_pack("[o]", association("subnet-cidr-assoc", block)) : json_array();
}

static const struct doc *association_find(const struct call *c, const char *kind, const char *id,
					  size_t *ret_at)
{
	return kind_find_row(c, kind, "Ipv6CidrBlockAssociationSet", "AssociationId", id, ret_at);
}

/* Puts the document with this set instead of its own. */
static int associations_put(const struct call *c, const struct doc *d, json_t *set)
{
	OWN(json_decref) json_t *json = doc_edit(d);
	int r = json ? jset_new(json, "Ipv6CidrBlockAssociationSet", set) : -ENOMEM;

	if (r == 0 && strcmp(d->kind, "vpc") == 0)
		r = peerings_follow_blocks(c, json);
	return r < 0 ? r : txn_replace(c->txn, d, give(json));
}

/* ---- a VPC's ---- */

int ipv6_vpc_associate(struct call *c, const struct doc *vpc, json_t **ret_reply, struct fault *f)
{
	const json_t *has = json_object_get(vpc->json, "Ipv6CidrBlockAssociationSet");
	int is_first = json_array_size(has) == 0;
	char block[CIDR6_TEXT_MAX];
	int r;

	if (json_array_size(has) >= LIMIT_CIDRS_PER_VPC)
		return fault_set(f, FAULT_CIDR_LIMIT_EXCEEDED,
				 "This network '%s' has met its maximum number of allowed IPv6 "
				 "CIDRs: %d",
				 vpc->id, LIMIT_CIDRS_PER_VPC);
	r = ipv6_block_new(c, block, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *row = vpc_association(c, block);
	OWN(json_decref) json_t *set = is_first ? json_array() : json_copy((json_t *)has);

	if (!row || json_array_append(set, row) < 0)
		return -ENOMEM;
	*ret_reply = block_reply("VpcId", vpc->id, "Ipv6", row, "associating");
	r = *ret_reply ? vpc_local_routes(c, vpc->id, block, 1) : -ENOMEM;
	if (r == 0 && is_first)
		r = acls_add_ipv6(c, vpc->id);
	if (r == 0 && is_first)
		r = groups_add_ipv6(c, vpc->id);
	if (r == 0)
		r = associations_put(c, vpc, give(set));
	if (r == 0)
		kernel_touch(vpc->id);
	return r;
}

int ipv6_vpc_disassociate(struct call *c, const char *association_id, json_t **ret_reply,
			  struct fault *f)
{
	struct cidr6 block, inner;
	size_t at;
	const struct doc *vpc = association_find(c, "vpc", association_id, &at);
	int r;

	if (!vpc)
		return 1;
	OWN(json_decref)
	json_t *set = json_copy(json_object_get(vpc->json, "Ipv6CidrBlockAssociationSet"));
	const json_t *row = json_array_get(set, at);
	const char *text = jstr_or(row, "Ipv6CidrBlock", "");

	if (!set)
		return -ENOMEM;
	if (block_at(vpc->json, at, &block) < 0)
		return -EUCLEAN;
	for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, vpc->id, d));)
		if (ipv6_block_of(d->json, &inner) == 0 && cidr6_has_cidr(block, inner))
			return fault_set(f, FAULT_INVALID_CIDR_BLOCK_IN_USE,
					 "The vpc %s currently has a subnet within CIDR block %s",
					 vpc->id, text);
	*ret_reply = block_reply("VpcId", vpc->id, "Ipv6", row, "disassociating");
	r = *ret_reply ? vpc_local_routes(c, vpc->id, text, 0) : -ENOMEM;
	(void)json_array_remove(set, at); /* it is there */
	if (r == 0)
		r = associations_put(c, vpc, give(set));
	if (r == 0)
		kernel_touch(vpc->id);
	return r;
}

/* ---- a subnet's ---- */

int ipv6_subnet_block_check(const struct call *c, const json_t *vpc, const char *text,
			    char ret_block[static CIDR6_TEXT_MAX], struct fault *f)
{
	struct cidr6 block, other;

	if (cidr6_parse(text, &block) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter ipv6CidrBlock is invalid. This is "
				 "not a valid CIDR block.",
				 text);
	block.address = cidr6_first(block);
	if (block.bits != SUBNET_BITS || !ipv6_vpc_has(vpc, block))
		return fault_set(f, FAULT_INVALID_SUBNET_RANGE, "The CIDR '%s' is invalid.", text);
	for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, jstr(vpc, "VpcId"), d));)
		if (ipv6_block_of(d->json, &other) == 0 && cidr6_overlap(block, other))
			return fault_set(f, FAULT_INVALID_SUBNET_CONFLICT,
					 "The CIDR '%s' conflicts with another subnet", text);
	cidr6_format(block, ret_block);
	return 0;
}

int associate_subnet_cidr_block(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	const char *text = jstr(parameters, "Ipv6CidrBlock");
	const struct doc *subnet, *vpc;
	char block[CIDR6_TEXT_MAX];
	struct cidr6 other;
	int r = kind_get_parameter(c, &kind_subnet, parameters, "SubnetId", &subnet, f);

	if (r == 0)
		r = kind_get(c, &kind_vpc, "VpcId", jstr(subnet->json, "VpcId"), &vpc, f);
	if (r < 0)
		return r;
	if (!text)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter ipv6CidrBlock");
	if (ipv6_block_of(subnet->json, &other) == 0)
		return fault_set(f, FAULT_CIDR_LIMIT_EXCEEDED,
				 "This subnet '%s' has met its maximum number of allowed IPv6 "
				 "CIDRs: 1",
				 subnet->id);
	r = ipv6_subnet_block_check(c, vpc->json, text, block, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *set = ipv6_subnet_associations(block);

	*ret_reply =
		block_reply("SubnetId", subnet->id, "Ipv6", json_array_get(set, 0), "associating");
	if (!*ret_reply)
		return -ENOMEM;
	kernel_touch(vpc->id);
	return associations_put(c, subnet, give(set));
}

int disassociate_subnet_cidr_block(struct call *c, json_t *parameters, json_t **ret_reply,
				   struct fault *f)
{
	const char *id = jstr_or(parameters, "AssociationId", "");
	size_t at = 0;
	int r;
	const struct doc *subnet = association_find(c, "subnet", id, &at);

	if (!id_is(id, "subnet-cidr-assoc"))
		return fault_set(f, FAULT_INVALID_SUBNET_CIDR_ASSOCIATION_MALFORMED,
				 "The subnet CIDR block with association ID %.64s is malformed",
				 id);
	if (!subnet)
		return fault_set(f, FAULT_INVALID_SUBNET_CIDR_ASSOCIATION_NOT_FOUND,
				 "The subnet CIDR block with association ID %.64s does not exist",
				 id);
	if (jbool(subnet->json, "AssignIpv6AddressOnCreation", 0))
		return fault_set(f, FAULT_INVALID_CIDR_BLOCK_IN_USE,
				 "The subnet IPv6 CIDR block with association ID %s may not be "
				 "disassociated, because its subnet has "
				 "assign-ipv6-address-on-creation set to true.",
				 id);
	store_each (c->store, "network-interface", d)
		if (jis(d->json, "SubnetId", subnet->id) &&
		    (json_array_size(json_object_get(d->json, "Ipv6Addresses")) ||
		     delegation_n(&delegation_ipv6, d->json)))
			return fault_set(f, FAULT_INVALID_CIDR_BLOCK_IN_USE,
					 "The subnet IPv6 CIDR block with association ID %s may "
					 "not be disassociated, because %s has an address of it.",
					 id, d->id);
	*ret_reply = block_reply(
		"SubnetId", subnet->id, "Ipv6",
		json_array_get(json_object_get(subnet->json, "Ipv6CidrBlockAssociationSet"), at),
		"disassociating");
	if (!*ret_reply)
		return -ENOMEM;
	kernel_touch(jstr(subnet->json, "VpcId"));
	r = reservations_drop(c, subnet->id, 1);
	return r < 0 ? r : associations_put(c, subnet, json_array());
}
