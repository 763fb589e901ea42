/*
 * Security groups over VPC peering. A rule may name a group of a VPC that is peered with its own:
 * its ReferencedGroupInfo then also has VpcId and VpcPeeringConnectionId. The rule stays when the
 * connection or the group goes; it fits nothing then, and AWS calls it stale. Source: VPC peering
 * guide, "Update your security groups to reference peer security groups".
 */
#pragma once

#include "netd.h"

/* The active connection between the two VPCs, NULL if none. */
const struct doc *group_peering(const struct store *s, const char *vpc_id, const char *other_id);
/* AWS's PeeringStatus of a ReferencedGroupInfo; NULL: the group is of the same VPC. */
const char *group_peering_status(const struct store *s, const json_t *reference);
