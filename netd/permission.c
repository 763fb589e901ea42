/* IpPermissions to rules and back. Source: EC2 API reference, IpPermission, SecurityGroupRule,
 * AuthorizeSecurityGroupIngress. */
#include "permission.h"
#include "group-peer.h"
#include "prefix-list.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More peers than that in one request are a mistake or an attack: a group holds far fewer. */
#define DRAFTS_MAX 1000

static const struct {
	const char *name;
	int number;
} protocols[] = {{"icmp", 1}, {"tcp", 6}, {"udp", 17}, {"icmpv6", 58}};
#define N_PROTOCOLS (sizeof protocols / sizeof *protocols)

int description_is_valid(const char *text)
{
	return strlen(text) <= 255 &&
	       text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 "
				 "._-:/()#,@[]+=&;{}!$*")] == '\0';
}

static int protocol_parse(const char *text, char ret_name[static 8], struct fault *f)
{
	char *end;

	if (!text)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid value 'null' for protocol. VPC security group rules must "
				 "specify protocols "
				 "explicitly.");
	for (size_t i = 0; i < N_PROTOCOLS; i++)
		if (strcasecmp(text, protocols[i].name) == 0) {
			snprintf(ret_name, 8, "%s", protocols[i].name);
			return 0;
		}
	if (strcasecmp(text, "all") == 0)
		text = "-1";
	long number = strtol(text, &end, 10);

	if (end == text || *end || number < -1 || number > 255)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid value '%.32s' for IP protocol. Unknown protocol.", text);
	snprintf(ret_name, 8, "%ld", number);
	for (size_t i = 0; i < N_PROTOCOLS; i++)
		if (number == protocols[i].number)
			snprintf(ret_name, 8, "%s", protocols[i].name);
	return 0;
}

static int is_icmp(const char *protocol)
{
	return strncmp(protocol, "icmp", 4) == 0;
}

static int has_ports(const char *protocol)
{
	return strcmp(protocol, "tcp") == 0 || strcmp(protocol, "udp") == 0;
}

static int ports_parse(const json_t *permission, const char *protocol, int64_t *ret_from,
		       int64_t *ret_to, struct fault *f)
{
	int64_t from = jint(permission, "FromPort", -1), to = jint(permission, "ToPort", -1);

	if (has_ports(protocol)) {
		if (from == -1 || to == -1)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Invalid value 'Must specify both from and to ports with "
					 "TCP/UDP.' for portRange.");
		if (from < 0 || from > 65535 || to < from || to > 65535)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Invalid TCP/UDP port range (%lld:%lld)", (long long)from,
					 (long long)to);
	} else if (is_icmp(protocol)) {
		if (from < -1 || from > 255 || to < -1 || to > 255)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Invalid ICMP type/code (%lld:%lld)", (long long)from,
					 (long long)to);
		if (from == -1 && to != -1)
			return fault_set(
				f, FAULT_INVALID_PARAMETER_VALUE,
				"ICMP code (%lld) was given, but the type is all types (-1)",
				(long long)to);
	} else {
		from = to = -1; /* AWS takes them and forgets them */
	}
	*ret_from = from;
	*ret_to = to;
	return 0;
}

/* What all peers of one permission share. */
struct reader {
	const struct call *c;
	const struct doc *group;
	const json_t *existing; /* a group that one of these rules names needs not be there */
	json_t *drafts;
	int is_egress;
	char protocol[8];
	int64_t from, to;
};

static int draft_add(struct reader *r, json_t *draft, const json_t *peer, struct fault *f)
{
	OWN(json_decref) json_t *owned = draft;
	const char *description = jstr(peer, "Description");
	json_t *other;
	size_t i;

	if (!owned || (description && *description && jset(owned, "Description", description) < 0))
		return -ENOMEM;
	if (description && !description_is_valid(description))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid rule description. Valid descriptions are strings less "
				 "than 256 characters from the "
				 "following set:  a-zA-Z0-9. _-:/()#,@[]+=&;{}!$*");
	if (json_array_size(r->drafts) >= DRAFTS_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "More than %d rules in one request", DRAFTS_MAX);
	json_array_foreach (r->drafts, i, other)
		if (rule_is_same(other, owned))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "The same permission must not appear multiple times");
	return json_array_append(r->drafts, owned) < 0 ? -ENOMEM : 0;
}

static json_t *draft_new(const struct reader *r, const char *member, json_t *peer)
{
	return json_pack("{s:b s:s s:I s:I s:o}", "IsEgress", r->is_egress, "IpProtocol",
			 r->protocol, "FromPort", (json_int_t)r->from, "ToPort", (json_int_t)r->to,
			 member, peer);
}

static int read_range(struct reader *r, const json_t *peer, struct fault *f)
{
	const char *text = jstr(peer, "CidrIp");
	char canonical[CIDR_TEXT_MAX];
	struct cidr cidr;

	if (cidr_parse(text, &cidr) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "CIDR block %.64s is malformed",
				 text ? text : "null");
	cidr_format(cidr_canonical(cidr), canonical);
	return draft_add(r, draft_new(r, "CidrIpv4", json_string(canonical)), peer, f);
}

static int read_range6(struct reader *r, const json_t *peer, struct fault *f)
{
	const char *text = jstr(peer, "CidrIpv6");
	char canonical[CIDR6_TEXT_MAX];

	if (cidr6_canonical(text, canonical) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "CIDR block %.64s is malformed",
				 text ? text : "null");
	return draft_add(r, draft_new(r, "CidrIpv6", json_string(canonical)), peer, f);
}

static int read_prefix_list(struct reader *r, const json_t *peer, struct fault *f)
{
	const struct doc *list;
	int e = prefix_list_get(r->c, jstr(peer, "PrefixListId"), &list, f);

	return e < 0 ? e
		     : draft_add(r, draft_new(r, "PrefixListId", json_string(list->id)), peer, f);
}

static int no_group(const char *id, const char *name, struct fault *f)
{
	return fault_set(f, FAULT_INVALID_GROUP_NOT_FOUND,
			 "The security group '%.64s' does not exist",
			 id	? id
			 : name ? name
				: "");
}

/* A group of this VPC, or (by id) of one that is peered with it, perhaps another account's. */
static int group_find(const struct reader *r, const json_t *peer, const struct doc **ret_group,
		      struct fault *f)
{
	const char *id = jstr(peer, "GroupId"), *name = jstr(peer, "GroupName"),
		   *user = jstr(peer, "UserId");
	const struct context *ctx = r->c->ctx;
	int is_foreign = user && strcmp(user, ctx->account) != 0;

	if (!id && name && !is_foreign)
		*ret_group = group_by_name(r->c, jstr(r->group->json, "VpcId"), name);
	else if (!is_foreign)
		return kind_get(r->c, &kind_security_group, "groupId", id, ret_group, f);
	else
		*ret_group = id ? store_find(r->c->store, "security-group", id) : NULL;
	if (!*ret_group || strcmp((*ret_group)->region, ctx->region) != 0 ||
	    (is_foreign && strcmp((*ret_group)->account, user) != 0))
		return no_group(id, name, f);
	return 0;
}

/* How a rule that is there names the group over a peering connection, NULL if none does. */
static json_t *known_reference(const struct reader *r, const char *group_id)
{
	json_t *rule;
	size_t i;

	json_array_foreach ((json_t *)r->existing, i, rule) {
		json_t *reference = json_object_get(rule, "ReferencedGroupInfo");

		if (jis(reference, "GroupId", group_id) &&
		    jstr(reference, "VpcPeeringConnectionId"))
			return reference;
	}
	return NULL;
}

static int read_group(struct reader *r, const json_t *peer, struct fault *f)
{
	const char *vpc_id = jstr_or(r->group->json, "VpcId", ""), *other_id;
	const struct doc *referenced = NULL, *peering = NULL;
	json_t *known = known_reference(r, jstr(peer, "GroupId"));
	int e;

	if (known)
		return draft_add(r, draft_new(r, "ReferencedGroupInfo", json_incref(known)), peer,
				 f);
	e = group_find(r, peer, &referenced, f);
	if (e < 0)
		return e;
	other_id = jstr_or(referenced->json, "VpcId", "");
	if (strcmp(other_id, vpc_id) != 0 &&
	    !(peering = group_peering(r->c->store, vpc_id, other_id)))
		/* Who is not peered does not learn that it is there. */
		return !is_callers(r->c, referenced)
			       ? no_group(referenced->id, NULL, f)
			       : fault_set(f, FAULT_INVALID_GROUP_NOT_FOUND,
					   "You have specified two resources that belong to "
					   "different networks.");
	return draft_add(r,
			 draft_new(r, "ReferencedGroupInfo",
				   json_pack("{s:s s:s s:s* s:s* s:s*}", "GroupId", referenced->id,
					     "UserId", referenced->account, "_GroupName",
					     jstr(referenced->json, "GroupName"), "VpcId",
					     peering ? other_id : NULL, "VpcPeeringConnectionId",
					     peering ? peering->id : NULL)),
			 peer, f);
}

static const struct {
	const char *member;
	int (*read)(struct reader *r, const json_t *peer, struct fault *f);
} peers[] = {
	{"IpRanges", read_range},
	{"Ipv6Ranges", read_range6},
	{"PrefixListIds", read_prefix_list},
	{"UserIdGroupPairs", read_group},
};

static int permission_read(struct reader *r, const json_t *permission, struct fault *f)
{
	size_t n = json_array_size(r->drafts);
	int e = protocol_parse(jstr(permission, "IpProtocol"), r->protocol, f);

	if (e == 0)
		e = ports_parse(permission, r->protocol, &r->from, &r->to, f);
	for (size_t i = 0; i < sizeof peers / sizeof *peers; i++) {
		json_t *list = json_object_get(permission, peers[i].member), *peer;
		size_t k;

		json_array_foreach (list, k, peer)
			if (e == 0)
				e = peers[i].read(r, peer, f);
	}
	if (e == 0 && json_array_size(r->drafts) == n)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter %s",
				 r->is_egress ? "destination CIDR block or group"
					      : "source CIDR block or group");
	return e;
}

int permissions_read(const struct call *c, const struct doc *group, const json_t *permissions,
		     int is_egress, const json_t *existing, json_t **ret_drafts, struct fault *f)
{
	OWN(json_decref) json_t *drafts = json_array();
	struct reader r = {.c = c,
			   .group = group,
			   .existing = existing,
			   .drafts = drafts,
			   .is_egress = is_egress};
	json_t *permission;
	size_t i;
	int e = 0;

	json_array_foreach ((json_t *)permissions, i, permission)
		if (e == 0)
			e = permission_read(&r, permission, f);
	if (e < 0)
		return e;
	*ret_drafts = give(drafts);
	return 0;
}

/* Without protocol and ports, the older form with a source group means all of TCP, UDP and ICMP. */
static json_t *older_group_permissions(const json_t *pair)
{
	return json_pack("[{s:s s:i s:i s:[O]} {s:s s:i s:i s:[O]} {s:s s:i s:i s:[O]}]",
			 "IpProtocol", "tcp", "FromPort", 0, "ToPort", 65535, "UserIdGroupPairs",
			 pair, "IpProtocol", "udp", "FromPort", 0, "ToPort", 65535,
			 "UserIdGroupPairs", pair, "IpProtocol", "icmp", "FromPort", -1, "ToPort",
			 -1, "UserIdGroupPairs", pair);
}

int permissions_parameter(json_t *parameters, json_t **ret_permissions, struct fault *f)
{
	json_t *list = json_object_get(parameters, "IpPermissions"), *result;
	const char *protocol = jstr(parameters, "IpProtocol"), *cidr = jstr(parameters, "CidrIp");
	const char *group = jstr(parameters, "SourceSecurityGroupName");

	if (json_array_size(list) > 0 && (protocol || cidr || group))
		return fault_set(
			f, FAULT_INVALID_PARAMETER_COMBINATION,
			"The parameter 'ipPermissions' may not be used in combination with '%s'",
			protocol ? "ipProtocol"
			: cidr	 ? "cidrIp"
				 : "sourceSecurityGroupName");
	if (json_array_size(list) > 0) {
		*ret_permissions = json_incref(list);
		return 0;
	}
	if (!protocol && !cidr && !group)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter ipPermissions");
	OWN(json_decref)
	json_t *pair = json_pack("{s:s* s:s*}", "GroupName", group, "UserId",
				 jstr(parameters, "SourceSecurityGroupOwnerId"));

	if (group && !protocol && !cidr)
		result = older_group_permissions(pair);
	else
		result = json_pack("[{s:s* s:O* s:O* s:o s:o}]", "IpProtocol", protocol, "FromPort",
				   json_object_get(parameters, "FromPort"), "ToPort",
				   json_object_get(parameters, "ToPort"), "IpRanges",
				   cidr ? json_pack("[{s:s}]", "CidrIp", cidr) : json_array(),
				   "UserIdGroupPairs",
				   group ? json_pack("[O]", pair) : json_array());
	*ret_permissions = result;
	return result ? 0 : -ENOMEM;
}

static int text_is_same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static int reach_is_same(const json_t *a, const json_t *b)
{
	return jbool(a, "IsEgress", 0) == jbool(b, "IsEgress", 0) &&
	       text_is_same(jstr(a, "IpProtocol"), jstr(b, "IpProtocol")) &&
	       jint(a, "FromPort", -1) == jint(b, "FromPort", -1) &&
	       jint(a, "ToPort", -1) == jint(b, "ToPort", -1);
}

int rule_is_same(const json_t *a, const json_t *b)
{
	return reach_is_same(a, b) && text_is_same(jstr(a, "CidrIpv4"), jstr(b, "CidrIpv4")) &&
	       text_is_same(jstr(a, "CidrIpv6"), jstr(b, "CidrIpv6")) &&
	       text_is_same(jstr(a, "PrefixListId"), jstr(b, "PrefixListId")) &&
	       text_is_same(jpath_str(a, "ReferencedGroupInfo.GroupId"),
			    jpath_str(b, "ReferencedGroupInfo.GroupId"));
}

void rule_format(const json_t *rule, char ret_text[static 200])
{
	const char *protocol = jstr_or(rule, "IpProtocol", ""), *peer = jstr(rule, "CidrIpv4");
	char name[8], ports[64] = "";

	if (!peer)
		peer = jstr(rule, "CidrIpv6");
	if (!peer)
		peer = jstr(rule, "PrefixListId");
	if (!peer)
		peer = jpath_str(rule, "ReferencedGroupInfo.GroupId");
	snprintf(name, sizeof name, "%s", strcmp(protocol, "-1") == 0 ? "ALL" : protocol);
	for (char *p = name; *p; p++)
		*p = (char)toupper((unsigned char)*p);
	if (has_ports(protocol))
		snprintf(ports, sizeof ports, "from port: %d, to port: %d, ",
			 (int)jint(rule, "FromPort", -1), (int)jint(rule, "ToPort", -1));
	else if (is_icmp(protocol))
		snprintf(ports, sizeof ports, "type: %d, code: %d, ",
			 (int)jint(rule, "FromPort", -1), (int)jint(rule, "ToPort", -1));
	snprintf(ret_text, 200, "peer: %s, %s, %sALLOW", peer ? peer : "", name, ports);
}

/* The permission that this rule joins, made if there is none yet; borrowed. `of` is parallel to
 * `list`: the first rule of each. */
static json_t *permission_for(json_t *list, json_t *of, json_t *rule)
{
	const char *protocol = jstr_or(rule, "IpProtocol", "-1");
	json_t *first;
	size_t i;

	json_array_foreach (of, i, first)
		if (reach_is_same(first, rule))
			return json_array_get(list, i);
	json_t *permission =
		json_pack("{s:s s:[] s:[] s:[] s:[]}", "IpProtocol", protocol, "IpRanges",
			  "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs");

	if (json_array_append_new(list, permission) < 0 || json_array_append(of, rule) < 0)
		return NULL;
	if ((has_ports(protocol) || is_icmp(protocol)) &&
	    (json_object_set(permission, "FromPort", json_object_get(rule, "FromPort")) < 0 ||
	     json_object_set(permission, "ToPort", json_object_get(rule, "ToPort")) < 0))
		return NULL;
	return permission;
}

/* A group as one peer of a permission; of another VPC with its connection. */
static json_t *group_pair(const struct store *s, const json_t *reference, const char *description)
{
	return json_pack("{s:s s:s* s:s* s:s* s:s* s:s*}", "GroupId",
			 jstr_or(reference, "GroupId", ""), "UserId", jstr(reference, "UserId"),
			 "VpcId", jstr(reference, "VpcId"), "VpcPeeringConnectionId",
			 jstr(reference, "VpcPeeringConnectionId"), "PeeringStatus",
			 group_peering_status(s, reference), "Description", description);
}

static int peer_append(const struct store *s, json_t *permission, const json_t *rule)
{
	static const struct {
		const char *of_rule, *list, *of_peer;
	} kinds[] = {{"CidrIpv4", "IpRanges", "CidrIp"},
		     {"CidrIpv6", "Ipv6Ranges", "CidrIpv6"},
		     {"PrefixListId", "PrefixListIds", "PrefixListId"}};
	const char *description = jstr(rule, "Description"), *list = "UserIdGroupPairs";
	json_t *peer = NULL;

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !peer; i++)
		if (jstr(rule, kinds[i].of_rule)) {
			list = kinds[i].list;
			peer = json_pack("{s:s s:s*}", kinds[i].of_peer,
					 jstr(rule, kinds[i].of_rule), "Description", description);
		}
	if (!peer)
		peer = group_pair(s, json_object_get(rule, "ReferencedGroupInfo"), description);
	return json_array_append_new(json_object_get(permission, list), peer);
}

json_t *permissions_show(const struct store *s, const json_t *rules, int is_egress)
{
	OWN(json_decref) json_t *list = json_array();
	OWN(json_decref) json_t *of = json_array();
	json_t *rule;
	size_t i;

	json_array_foreach ((json_t *)rules, i, rule) {
		if (jbool(rule, "IsEgress", 0) != is_egress)
			continue;
		json_t *permission = permission_for(list, of, rule);

		if (!permission || peer_append(s, permission, rule) < 0)
			return NULL;
	}
	return give(list);
}
