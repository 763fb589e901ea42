/*
 * Permissions: a security group's rules as customers write and read them (IpPermissions: one
 * protocol and port range with many peers) and as they are kept (one rule per peer, AWS's
 * SecurityGroupRule). A draft is a rule without ids: IsEgress, IpProtocol, FromPort, ToPort, one
 * of CidrIpv4, CidrIpv6, PrefixListId, ReferencedGroupInfo, and Description if given.
 *
 * Canonical form: protocols 1, 6, 17 and 58 by name; ports -1 where the protocol has none; CIDR
 * blocks without host bits, as AWS keeps them.
 */
#pragma once

#include "netd.h"

/* IpPermissions to drafts, in order, checked in AWS's words; the same draft twice is
 * InvalidParameterValue. Groups named must be of `group`'s VPC or of one that is peered with it; or
 * one of the `existing` rules (NULL: none) names it, so that a stale rule can be spoken of. */
int permissions_read(const struct call *c, const struct doc *group, const json_t *permissions,
		     int is_egress, const json_t *existing, json_t **ret_drafts, struct fault *f);
/* The permissions of a request: IpPermissions, or the older parameters beside it (IpProtocol,
 * FromPort, ToPort, CidrIp, SourceSecurityGroupName) as a list of the same form (a new
 * reference). */
int permissions_parameter(json_t *parameters, json_t **ret_permissions, struct fault *f);
/* The two rules or drafts let the same packets through the same way. */
int rule_is_same(const json_t *a, const json_t *b);
/* The rules of one direction as IpPermissions: grouped by protocol and ports, in order of the
 * first of each (a new reference). */
json_t *permissions_show(const struct store *s, const json_t *rules, int is_egress);
/* "peer: 0.0.0.0/0, TCP, from port: 22, to port: 22, ALLOW", as AWS puts it in messages. */
void rule_format(const json_t *rule, char ret_text[static 200]);
/* AWS's characters for descriptions of rules and groups, at most 255. */
int description_is_valid(const char *text);
