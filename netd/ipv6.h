/*
 * IPv6 in documents: the blocks of a VPC (each a /56 of the configured pool, which stands for
 * Amazon's), the one of a subnet (a /64 of one of them), and the addresses of interfaces. A VPC
 * keeps a block until it is disassociated; no two VPCs of the box have the same.
 *
 * Documents have AWS's members: Ipv6CidrBlockAssociationSet of VPCs and subnets, Ipv6Addresses of
 * interfaces, each in canonical text.
 */
#pragma once

#include "netd.h"

/* ---- ipv6-block.c ---- */

/* A free block of the pool, for a VPC. InsufficientAddressCapacity when there is none. */
int ipv6_block_new(const struct call *c, char ret_block[static CIDR6_TEXT_MAX], struct fault *f);
/* Ipv6CidrBlockAssociationSet with this one block ("": none) of a VPC or a subnet; a new reference.
 */
json_t *ipv6_vpc_associations(const struct call *c, const char *block);
json_t *ipv6_subnet_associations(const char *block);
/* The block of a subnet. 0 or -ENOENT. */
int ipv6_block_of(const json_t *subnet, struct cidr6 *ret_block);
/* One of the VPC's blocks has this one within it. */
int ipv6_vpc_has(const json_t *vpc, struct cidr6 inner);
/* A subnet's block as a request names it: a /64 of one of the VPC's, nobody else's; in canonical text.
 * InvalidSubnet.Range, InvalidSubnet.Conflict. */
int ipv6_subnet_block_check(const struct call *c, const json_t *vpc, const char *text,
			    char ret_block[static CIDR6_TEXT_MAX], struct fault *f);

/* Ipv6CidrBlockNetworkBorderGroup of CreateVpc and AssociateVpcCidrBlock: a region is one group. */
int ipv6_border_group_check(const struct call *c, const json_t *parameters, struct fault *f);
/* AssociateVpcCidrBlock with AmazonProvidedIpv6CidrBlock. */
int ipv6_vpc_associate(struct call *c, const struct doc *vpc, json_t **ret_reply, struct fault *f);
/* DisassociateVpcCidrBlock of an IPv6 block: 1 when the id is of none, and nothing was done. */
int ipv6_vpc_disassociate(struct call *c, const char *association_id, json_t **ret_reply,
			  struct fault *f);

/* ---- ipv6-address.c ---- */

/* Addresses and prefixes for an interface (NULL: one that has none). Addresses: those named in
 * Ipv6Addresses or as many as Ipv6AddressCount says, else one where the subnet gives each new
 * interface one (`is_birth`); *ret_addresses is a new list of {Ipv6Address}. Prefixes: as
 * delegation.h says; *ret_prefixes is a new list of texts. */
int ipv6_take(const json_t *subnet, const json_t *parameters, const json_t *interface, int is_birth,
	      json_t **ret_addresses, json_t **ret_prefixes, struct fault *f);
