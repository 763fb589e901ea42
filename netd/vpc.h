/*
 * What vpc.c, vpc-cidr.c and ipv6-block.c share: the blocks of a VPC.
 */
#pragma once

#include "netd.h"

/* CidrBlock of the parameters, canonical: /16 to /28, not of a range that is never a VPC's.
 * InvalidVpc.Range. */
int vpc_cidr_parameter(json_t *parameters, struct cidr *ret_cidr, struct fault *f);
/* A row of CidrBlockAssociationSet; a new reference. */
json_t *vpc_cidr_association(const char *id, const char *cidr);
/* What Associate and Disassociate of a block answer: its row with the state on the way there. `owner` is the
 * member of its VPC or subnet, `family` "" or "Ipv6". A new reference, NULL out of memory. */
json_t *block_reply(const char *owner, const char *owner_id, const char *family, const json_t *row,
		    const char *state);
/* Every table of the VPC gets, or loses, the local route of the block (of either family). */
int vpc_local_routes(const struct call *c, const char *vpc_id, const char *cidr, int is_added);
/* A VPC that has the one block may not be given the other. */
int vpc_cidr_is_restricted(struct cidr has, struct cidr added);
/* One block of the VPC holds all of `inner`. */
int vpc_has_cidr(const json_t *vpc, struct cidr inner);
