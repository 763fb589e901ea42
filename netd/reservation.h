/*
 * Subnet CIDR reservations: documents of their own, {SubnetCidrReservationId, SubnetId, Cidr,
 * ReservationType, OwnerId, Description, Tags}. taken.h knows them when addresses are chosen:
 * what is not asked for by name is not taken from them, whatever their type.
 */
#pragma once

#include "netd.h"

/* In the transaction: those of a subnet that is about to go, or of its IPv6 block. */
int reservations_drop(const struct call *c, const char *subnet_id, int is_ipv6_only);
