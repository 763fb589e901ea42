/*
 * Network ACLs: what the rooms acl.c and acl-entry.c share.
 *
 * An ACL's document is as AWS shows it: Entries in order, egress first, each way by number.
 * Protocols are numbers as text ("-1": all), CIDR blocks canonical; PortRange only with TCP and
 * UDP, IcmpTypeCode only with ICMP. Source: EC2 API reference, NetworkAclEntry,
 * CreateNetworkAclEntry.
 */
#pragma once

#include "netd.h"

/* The entry that denies the rest: nobody can change it. IPv6 has one of its own, the number after.
 */
#define ACL_NUMBER_LAST 32767

#define ACL_PROTOCOL_MAX 8
/* A protocol's name or number as AWS's number. 0 or -EINVAL. */
int acl_protocol_parse(const char *text, char ret_number[static ACL_PROTOCOL_MAX]);
