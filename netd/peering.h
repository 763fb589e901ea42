/*
 * VPC peering connections: documents of the requester's account and region, which the accepter
 * sees, too.
 *	vpc-peering-connection	RequesterVpcInfo, AccepterVpcInfo {VpcId, OwnerId, Region}, once
 *		active also {CidrBlock, CidrBlockSet, PeeringOptions}; Status {Code, Message};
 *		_Until: microseconds since the epoch after which a final state is no longer shown
 *	vpc-peering-accepter	under the same id: Tags of the accepter's, where that is another
 *		account or region than the requester's
 * Source: VPC peering guide, "VPC peering connection lifecycle".
 */
#pragma once

#include "netd.h"

enum peering_side { PEERING_REQUESTER, PEERING_ACCEPTER };

/* AWS's member with what is known of that side's VPC. */
json_t *peering_info(const json_t *peering, enum peering_side side);
int peering_is(const json_t *peering, const char *code);
/* It has not ended: pending-acceptance or active. */
int peering_is_live(const json_t *peering);
/* The VPC is one of its two; *ret_side is which. */
int peering_has_vpc(const json_t *peering, const char *vpc_id, enum peering_side *ret_side);

/* The connection that the caller sees, from either side. */
int peering_get(const struct call *c, const char *id, const struct doc **ret_peering,
		struct fault *f);
/* It ends in this state, which is seen for a while. */
int peering_end(json_t *peering, const char *code, const char *message);
/* What time has done: requests expire, final states are forgotten after a while. Commits. */
int peerings_age(const struct call *c);

/* A new block must not be one of a peer's. InvalidVpc.Range. */
int peerings_check_block(const struct call *c, const char *vpc_id, struct cidr block,
			 struct fault *f);
/* In the transaction: connections show the blocks of the VPC as `vpc` has them. */
int peerings_follow_blocks(const struct call *c, const json_t *vpc);
/* The VPC may have one more active connection. */
int peering_room_check(const struct call *c, const char *vpc_id, struct fault *f);
/* What the two VPCs' blocks, or their absence, have against peering them; NULL: nothing. */
const char *peering_obstacle(const struct call *c, const json_t *peering);
/* Fills in what is shown of a side's VPC once it is active. */
int peering_fill(const struct call *c, json_t *peering, enum peering_side side);
