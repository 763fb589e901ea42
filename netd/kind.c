/* Kinds: netd's documents by name and id, with AWS's words for what is wrong with an id. */
#include "netd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const struct kind kind_vpc = {"vpc", "vpc", "vpc ID", FAULT_INVALID_VPC_ID_MALFORMED,
			      FAULT_INVALID_VPC_ID_NOT_FOUND};
const struct kind kind_subnet = {"subnet", "subnet", "subnet ID", FAULT_INVALID_SUBNET_ID_MALFORMED,
				 FAULT_INVALID_SUBNET_ID_NOT_FOUND};
const struct kind kind_route_table = {"route-table", "rtb", "routeTable ID",
				      FAULT_INVALID_ROUTE_TABLE_ID_MALFORMED,
				      FAULT_INVALID_ROUTE_TABLE_ID_NOT_FOUND};
const struct kind kind_internet_gateway = {"internet-gateway", "igw", "internetGateway ID",
					   FAULT_INVALID_INTERNET_GATEWAY_ID_MALFORMED,
					   FAULT_INVALID_INTERNET_GATEWAY_ID_NOT_FOUND};
const struct kind kind_network_acl = {"network-acl", "acl", "networkAcl ID",
				      FAULT_INVALID_NETWORK_ACL_ID_MALFORMED,
				      FAULT_INVALID_NETWORK_ACL_ID_NOT_FOUND};
const struct kind kind_dhcp_options = {"dhcp-options", "dopt", "dhcpOption ID",
				       FAULT_INVALID_DHCP_OPTIONS_ID_MALFORMED,
				       FAULT_INVALID_DHCP_OPTIONS_ID_NOT_FOUND};
const struct kind kind_security_group = {"security-group", "sg", "security group",
					 FAULT_INVALID_GROUP_ID_MALFORMED,
					 FAULT_INVALID_GROUP_NOT_FOUND};
const struct kind kind_security_group_rule = {"security-group-rule", "sgr",
					      "security group rule ID",
					      FAULT_INVALID_SECURITY_GROUP_RULE_ID_MALFORMED,
					      FAULT_INVALID_SECURITY_GROUP_RULE_ID_NOT_FOUND};
const struct kind kind_network_interface = {"network-interface", "eni", "networkInterface ID",
					    FAULT_INVALID_NETWORK_INTERFACE_ID_MALFORMED,
					    FAULT_INVALID_NETWORK_INTERFACE_ID_NOT_FOUND};
const struct kind kind_elastic_ip = {"elastic-ip", "eipalloc", "allocation ID",
				     FAULT_INVALID_ALLOCATION_ID_NOT_FOUND,
				     FAULT_INVALID_ALLOCATION_ID_NOT_FOUND};
const struct kind kind_prefix_list = {"prefix-list", "pl", "prefix list ID",
				      FAULT_INVALID_PREFIX_LIST_ID_MALFORMED,
				      FAULT_INVALID_PREFIX_LIST_ID_NOT_FOUND};
const struct kind kind_vpc_endpoint = {"vpc-endpoint", "vpce", "Vpc Endpoint Id",
				       FAULT_INVALID_VPC_ENDPOINT_ID_MALFORMED,
				       FAULT_INVALID_VPC_ENDPOINT_ID_NOT_FOUND};
const struct kind kind_vpc_peering_connection = {"vpc-peering-connection", "pcx",
						 "vpcPeeringConnection ID",
						 FAULT_INVALID_VPC_PEERING_CONNECTION_ID_MALFORMED,
						 FAULT_INVALID_VPC_PEERING_CONNECTION_ID_NOT_FOUND};

const struct kind kind_nat_gateway = {"natgateway", "nat", "NatGateway",
				      FAULT_NAT_GATEWAY_MALFORMED, FAULT_NAT_GATEWAY_NOT_FOUND};

const struct kind kind_flow_log = {"flow-log", "fl", "flow log ID",
				   FAULT_INVALID_FLOW_LOG_ID_NOT_FOUND,
				   FAULT_INVALID_FLOW_LOG_ID_NOT_FOUND};

const struct kind kind_egress_only_gateway = {
	"egress-only-internet-gateway", "eigw", "egress-only internet gateway ID",
	FAULT_INVALID_EGRESS_ONLY_GATEWAY_ID_MALFORMED, FAULT_INVALID_GATEWAY_ID_NOT_FOUND};

const struct kind kind_subnet_cidr_reservation = {
	"subnet-cidr-reservation", "scr", "subnet CIDR reservation ID",
	FAULT_INVALID_SUBNET_CIDR_RESERVATION_ID_MALFORMED,
	FAULT_INVALID_SUBNET_CIDR_RESERVATION_ID_NOT_FOUND};

int kind_get(const struct call *c, const struct kind *k, const char *parameter, const char *id,
	     const struct doc **ret_doc, struct fault *f)
{
	if (!id || !*id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter %s", parameter);
	if (!id_is(id, k->prefix))
		return fault_set(f, k->malformed, "Invalid id: \"%.64s\" (expecting \"%s-...\")",
				 id, k->prefix);
	const struct doc *d = store_get(c->store, c->ctx, k->name, id);

	if (!d)
		return fault_set(f, k->not_found, "The %s '%s' does not exist", k->noun, id);
	*ret_doc = d;
	return 0;
}

int kind_get_parameter(const struct call *c, const struct kind *k, json_t *parameters,
		       const char *parameter, const struct doc **ret_doc, struct fault *f)
{
	return kind_get(c, k, parameter, jstr(parameters, parameter), ret_doc, f);
}

int kind_tags(const struct kind *k, json_t *parameters, json_t **ret_tags, struct fault *f)
{
	const char *const allowed[] = {k->name, NULL};

	return tags_from_specifications(parameters, k->name, allowed, ret_tags, f);
}

int is_callers(const struct call *c, const struct doc *d)
{
	return strcmp(d->account, c->ctx->account) == 0 && strcmp(d->region, c->ctx->region) == 0;
}

size_t kind_count(const struct call *c, const struct kind *k)
{
	size_t n = 0;

	store_each (c->store, k->name, d)
		n += (size_t)is_callers(c, d);
	return n;
}

const struct doc *kind_find_row(const struct call *c, const char *kind, const char *list,
				const char *member, const char *value, size_t *ret_at)
{
	store_each (c->store, kind, d) {
		const json_t *row;
		size_t i;

		json_array_foreach (json_object_get(d->json, list), i, row)
			if (is_callers(c, d) && jis(row, member, value)) {
				*ret_at = i;
				return d;
			}
	}
	return NULL;
}

int kind_find_association(const struct call *c, const struct kind *k, json_t *parameters,
			  const char *member, const struct doc **ret_doc, size_t *ret_at,
			  struct fault *f)
{
	const char *id = jstr_or(parameters, "AssociationId", "");
	const struct doc *d = kind_find_row(c, k->name, "Associations", member, id, ret_at);

	if (!d)
		return fault_set(f, FAULT_INVALID_ASSOCIATION_ID_NOT_FOUND,
				 "The association ID '%.64s' does not exist", id);
	*ret_doc = d;
	return 0;
}

int kind_drop_row(const struct call *c, const struct doc *d, const char *list, size_t at)
{
	OWN(json_decref) json_t *json = doc_edit(d);

	if (!json || json_array_remove(json_object_get(json, list), at) < 0)
		return -ENOMEM;
	return txn_replace(c->txn, d, give(json));
}

size_t kind_count_in_vpc(const struct call *c, const struct kind *k, const char *vpc_id)
{
	size_t n = 0;

	store_each (c->store, k->name, d)
		n += (size_t)jis(d->json, "VpcId", vpc_id);
	return n;
}

int jis(const json_t *object, const char *name, const char *text)
{
	const char *s = jstr(object, name);

	return s && text && strcmp(s, text) == 0;
}

int put_new(const struct call *c, const struct kind *k, const char *id, json_t *json)
{
	return txn_put(c->txn, k->name, id, c->ctx->account, c->ctx->region, json);
}

json_t *arn_new(const struct call *c, const char *account, const char *type, const char *id)
{
	return json_sprintf("arn:aws:ec2:%s:%s:%s/%s", c->ctx->region, account, type, id);
}

json_t *reply_true(void)
{
	return json_pack("{s:b}", "Return", 1);
}

json_t *tags_or_none(json_t *tags)
{
	return tags ? json_incref(tags) : json_array();
}

int call_apply(const struct call *c, const char *vpc_id)
{
	char id[ID_MAX]; /* it may stand in a document that the commit replaces */
	int r;

	snprintf(id, sizeof id, "%s", vpc_id);
	r = txn_commit(c->txn);
	if (r < 0)
		return r;
	kernel_touch(id);
	/* What is asked for is durable: the kernel room logs a failure and tries again. */
	(void)kernel_sync(id, NULL);
	return 0;
}
