/* Network ACLs: to make, delete and describe them, and which subnet is under which. Their entries
 * are changed in acl-entry.c. */
#include "acl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"

/* Customers write names or numbers, the documents have numbers. Source: DescribeNetworkAcls,
 * "entry.protocol". */
static int has_protocol(const struct doc *d, const json_t *values)
{
	json_t *entries = json_object_get(d->json, "Entries"), *entry, *value;
	char number[ACL_PROTOCOL_MAX];
	size_t i, k;

	json_array_foreach (entries, i, entry)
		json_array_foreach ((json_t *)values, k, value) {
			const char *text = json_string_value(value);

			if (pattern_match(text, jstr_or(entry, "Protocol", "")) ||
			    (acl_protocol_parse(text, number) == 0 &&
			     jis(entry, "Protocol", number)))
				return 1;
		}
	return 0;
}

static const struct filter acl_filters[] = {
	{"association.association-id", "Associations.NetworkAclAssociationId"},
	{"association.network-acl-id", "Associations.NetworkAclId"},
	{"association.subnet-id", "Associations.SubnetId"},
	{"default", "IsDefault"},
	{"entry.cidr", "Entries.CidrBlock"},
	{"entry.egress", "Entries.Egress"},
	{"entry.icmp.code", "Entries.IcmpTypeCode.Code"},
	{"entry.icmp.type", "Entries.IcmpTypeCode.Type"},
	{"entry.ipv6-cidr", "Entries.Ipv6CidrBlock"},
	{"entry.port-range.from", "Entries.PortRange.From"},
	{"entry.port-range.to", "Entries.PortRange.To"},
	{"entry.protocol", NULL, has_protocol},
	{"entry.rule-action", "Entries.RuleAction"},
	{"entry.rule-number", "Entries.RuleNumber"},
	{"network-acl-id", "NetworkAclId"},
	{"owner-id", "OwnerId"},
	{"vpc-id", "VpcId"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe acls = {
	.kind = "network-acl",
	.result = "NetworkAcls",
	.ids = "NetworkAclIds",
	.prefix = "acl",
	.malformed = FAULT_INVALID_NETWORK_ACL_ID_MALFORMED,
	.not_found = FAULT_INVALID_NETWORK_ACL_ID_NOT_FOUND,
	.filters = acl_filters,
};

static json_t *entry_json(int is_egress, int number, const char *member, const char *cidr,
			  const char *action)
{
	return json_pack("{s:s s:b s:s s:s s:i}", member, cidr, "Egress", is_egress, "Protocol",
			 "-1", "RuleAction", action, "RuleNumber", number);
}

/* What an ACL is born with, each way: all are let through (a default ACL only), the rest is
 * denied. */
static json_t *first_entries(int is_default, int has_ipv6)
{
	OWN(json_decref) json_t *entries = json_array();
	int r = entries ? 0 : -ENOMEM;

	for (int is_egress = 1; is_egress >= 0; is_egress--)
		for (int is_v6 = 0; is_v6 <= has_ipv6; is_v6++) {
			const char *member = is_v6 ? "Ipv6CidrBlock" : "CidrBlock";
			const char *all = is_v6 ? "::/0" : "0.0.0.0/0";

			if (is_default)
				r |= json_array_append_new(
					entries,
					entry_json(is_egress, 100 + is_v6, member, all, "allow"));
			r |= json_array_append_new(entries,
						   entry_json(is_egress, ACL_NUMBER_LAST + is_v6,
							      member, all, "deny"));
		}
	return r < 0 ? NULL : give(entries);
}

static int acl_make(const struct call *c, const char *vpc_id, int has_ipv6, int is_default,
		    json_t *tags, char ret_id[static ID_MAX])
{
	id_new("acl", ret_id);
	return put_new(c, &kind_network_acl, ret_id,
		       json_pack("{s:s s:s s:s s:b s:[] s:o s:o}", "NetworkAclId", ret_id, "VpcId",
				 vpc_id, "OwnerId", c->ctx->account, "IsDefault", is_default,
				 "Associations", "Entries", first_entries(is_default, has_ipv6),
				 "Tags", tags_or_none(tags)));
}

int acl_make_default(const struct call *c, const char *vpc_id, int has_ipv6,
		     char ret_id[static ID_MAX])
{
	return acl_make(c, vpc_id, has_ipv6, 1, NULL, ret_id);
}

static int has_entry(const json_t *acl, int is_egress, int number)
{
	json_t *entries = json_object_get(acl, "Entries"), *entry;
	size_t i;

	json_array_foreach (entries, i, entry)
		if (jbool(entry, "Egress", 0) == is_egress &&
		    jint(entry, "RuleNumber", 0) == number)
			return 1;
	return 0;
}

int acls_add_ipv6(const struct call *c, const char *vpc_id)
{
	store_each (c->store, "network-acl", d) {
		OWN(json_decref) json_t *json = doc_edit(d);
		json_t *entries = json_object_get(json, "Entries");
		int is_default = jbool(d->json, "IsDefault", 0), r = 0;

		if (!jis(d->json, "VpcId", vpc_id))
			continue;
		for (int is_egress = 1; is_egress >= 0; is_egress--) {
			if (is_default && !has_entry(json, is_egress, 101))
				r |= json_array_append_new(entries, entry_json(is_egress, 101,
									       "Ipv6CidrBlock",
									       "::/0", "allow"));
			if (!has_entry(json, is_egress, ACL_NUMBER_LAST + 1))
				r |= json_array_append_new(
					entries, entry_json(is_egress, ACL_NUMBER_LAST + 1,
							    "Ipv6CidrBlock", "::/0", "deny"));
		}
		r = r < 0 ? -ENOMEM : txn_replace(c->txn, d, give(json));
		if (r < 0)
			return r;
	}
	return 0;
}

static int association_add(const struct call *c, const char *acl_id, const char *subnet_id,
			   char ret_id[static ID_MAX])
{
	OWN(json_decref) json_t *json = json_deep_copy(txn_look(c->txn, "network-acl", acl_id));

	id_new("aclassoc", ret_id);
	if (json_array_append_new(json_object_get(json, "Associations"),
				  json_pack("{s:s s:s s:s}", "NetworkAclAssociationId", ret_id,
					    "NetworkAclId", acl_id, "SubnetId", subnet_id)) < 0)
		return -ENOMEM;
	return put_new(c, &kind_network_acl, acl_id, give(json));
}

int acl_associate(const struct call *c, const char *acl_id, const char *subnet_id)
{
	char id[ID_MAX];

	return association_add(c, acl_id, subnet_id, id);
}

int acl_dissociate(const struct call *c, const char *subnet_id)
{
	size_t at;
	const struct doc *acl =
		kind_find_row(c, "network-acl", "Associations", "SubnetId", subnet_id, &at);

	return acl ? kind_drop_row(c, acl, "Associations", at) : 0;
}

int describe_network_acls(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &acls, parameters, ret_reply, f);
}

int create_network_acl(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *vpc;
	OWN(json_decref) json_t *tags = NULL;
	char id[ID_MAX];
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r == 0)
		r = kind_tags(&kind_network_acl, parameters, &tags, f);
	if (r < 0)
		return r;
	if (kind_count_in_vpc(c, &kind_network_acl, vpc->id) >= LIMIT_ACLS_PER_VPC)
		return fault_set(f, FAULT_NETWORK_ACL_LIMIT_EXCEEDED,
				 "The maximum number of network ACLs has been reached.");
	r = acl_make(c, vpc->id,
		     json_array_size(json_object_get(vpc->json, "Ipv6CidrBlockAssociationSet")) > 0,
		     0, tags, id);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "NetworkAcl", txn_look(c->txn, "network-acl", id));
	return *ret_reply ? 0 : -ENOMEM;
}

int delete_network_acl(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *acl = NULL;
	int r = kind_get_parameter(c, &kind_network_acl, parameters, "NetworkAclId", &acl, f);

	if (r < 0)
		return r;
	if (jbool(acl->json, "IsDefault", 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "cannot delete default network ACL %s", acl->id);
	if (json_array_size(json_object_get(acl->json, "Associations")) > 0)
		return fault_set(f, FAULT_DEPENDENCY_VIOLATION,
				 "The networkAcl '%s' has dependencies and cannot be deleted.",
				 acl->id);
	*ret_reply = reply_true();
	return txn_delete(c->txn, "network-acl", acl->id);
}

int replace_network_acl_association(struct call *c, json_t *parameters, json_t **ret_reply,
				    struct fault *f)
{
	const struct doc *acl = NULL, *old = NULL;
	char vpc_id[ID_MAX], id[ID_MAX];
	size_t at;
	int r = kind_get_parameter(c, &kind_network_acl, parameters, "NetworkAclId", &acl, f);

	if (r == 0)
		r = kind_find_association(c, &kind_network_acl, parameters,
					  "NetworkAclAssociationId", &old, &at, f);
	if (r < 0)
		return r;
	const json_t *association = json_array_get(json_object_get(old->json, "Associations"), at);

	if (!jis(acl->json, "VpcId", jstr(old->json, "VpcId")))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "network ACL %s and subnet %s belong to different networks",
				 acl->id, jstr(association, "SubnetId"));
	snprintf(vpc_id, sizeof vpc_id, "%s", jstr(acl->json, "VpcId"));
	r = kind_drop_row(c, old, "Associations", at);
	if (r == 0)
		r = association_add(c, acl->id, jstr(association, "SubnetId"), id);
	if (r == 0)
		r = call_apply(c, vpc_id);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:s}", "NewAssociationId", id);
	return *ret_reply ? 0 : -ENOMEM;
}
