/* Network ACLs: the default ones, and which subnet is under which. */
#include "netd.h"

#include <errno.h>
#include <string.h>

#include "describe.h"

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
	{"entry.protocol", "Entries.Protocol"},
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

/* The last rule of every ACL, which no one can change. */
#define RULE_NUMBER_LAST 32767

static json_t *entry_json(int is_egress, int number, const char *action)
{
	return json_pack("{s:s s:b s:s s:s s:i}", "CidrBlock", "0.0.0.0/0", "Egress", is_egress,
			 "Protocol", "-1", "RuleAction", action, "RuleNumber", number);
}

int acl_make_default(const struct call *c, const char *vpc_id, char ret_id[static ID_MAX])
{
	id_new("acl", ret_id);
	return put_new(c, &kind_network_acl, ret_id,
		       json_pack("{s:s s:s s:s s:b s:[] s:[o o o o] s:[]}", "NetworkAclId", ret_id,
				 "VpcId", vpc_id, "OwnerId", c->ctx->account, "IsDefault", 1,
				 "Associations", "Entries", entry_json(1, 100, "allow"),
				 entry_json(1, RULE_NUMBER_LAST, "deny"),
				 entry_json(0, 100, "allow"),
				 entry_json(0, RULE_NUMBER_LAST, "deny"), "Tags"));
}

int acl_associate(const struct call *c, const char *acl_id, const char *subnet_id)
{
	OWN(json_decref) json_t *json = json_deep_copy(txn_look(c->txn, "network-acl", acl_id));
	char id[ID_MAX];

	id_new("aclassoc", id);
	if (json_array_append_new(json_object_get(json, "Associations"),
				  json_pack("{s:s s:s s:s}", "NetworkAclAssociationId", id,
					    "NetworkAclId", acl_id, "SubnetId", subnet_id)) < 0)
		return -ENOMEM;
	return put_new(c, &kind_network_acl, acl_id, give(json));
}

int acl_dissociate(const struct call *c, const char *subnet_id)
{
	store_each (c->store, "network-acl", d) {
		json_t *list = json_object_get(d->json, "Associations"), *a;
		size_t i;

		json_array_foreach (list, i, a)
			if (jis(a, "SubnetId", subnet_id)) {
				OWN(json_decref) json_t *json = doc_edit(d);

				if (!json)
					return -ENOMEM;
				json_array_remove(json_object_get(json, "Associations"), i);
				return txn_replace(c->txn, d, give(json));
			}
	}
	return 0;
}

int describe_network_acls(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &acls, parameters, ret_reply, f);
}
