/*
 * Gateway endpoints: the way from a VPC's route tables to a service of the cloud itself, as a route
 * to the service's prefix list in each table.
 *	vpc-endpoint	VpcId, ServiceName, RouteTableIds[], PolicyDocument; its routes stand in the
 *		tables, GatewayId "vpce-…", changed in the same transaction
 * Endpoints of other types need a service behind them that a box does not have.
 */
#pragma once

#include "netd.h"

/* In the transaction: a table that goes is no endpoint's any more. */
int endpoints_forget_table(const struct call *c, const char *table_id);
