/* Internet gateways. */
#include "netd.h"

#include <errno.h>
#include <string.h>

#include "describe.h"

static const struct filter gateway_filters[] = {
	{"attachment.state", "Attachments.State"},
	{"attachment.vpc-id", "Attachments.VpcId"},
	{"internet-gateway-id", "InternetGatewayId"},
	{"owner-id", "OwnerId"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe gateways = {
	.kind = "internet-gateway",
	.result = "InternetGateways",
	.ids = "InternetGatewayIds",
	.prefix = "igw",
	.malformed = FAULT_INVALID_INTERNET_GATEWAY_ID_MALFORMED,
	.not_found = FAULT_INVALID_INTERNET_GATEWAY_ID_NOT_FOUND,
	.filters = gateway_filters,
};

/* AWS shows "available" where its model says "attached". */
static json_t *attachments_json(const char *vpc_id)
{
	return vpc_id ? json_pack("[{s:s s:s}]", "State", "available", "VpcId", vpc_id)
		      : json_array();
}

int gateway_make(const struct call *c, const char *vpc_id, json_t *tags, char ret_id[static ID_MAX])
{
	id_new("igw", ret_id);
	return put_new(c, &kind_internet_gateway, ret_id,
		       json_pack("{s:s s:s s:o s:o}", "InternetGatewayId", ret_id, "OwnerId",
				 c->ctx->account, "Attachments", attachments_json(vpc_id), "Tags",
				 tags_or_none(tags)));
}

static const char *gateway_vpc(const struct doc *d)
{
	return jstr(json_array_get(json_object_get(d->json, "Attachments"), 0), "VpcId");
}

const struct doc *gateway_of(const struct call *c, const char *vpc_id)
{
	store_each (c->store, "internet-gateway", d) {
		const char *attached = gateway_vpc(d);

		if (attached && strcmp(attached, vpc_id) == 0)
			return d;
	}
	return NULL;
}

int describe_internet_gateways(struct call *c, json_t *parameters, json_t **ret_reply,
			       struct fault *f)
{
	return describe_run(c, &gateways, parameters, ret_reply, f);
}

int create_internet_gateway(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *tags = NULL;
	char id[ID_MAX];
	int r = kind_tags(&kind_internet_gateway, parameters, &tags, f);

	if (r < 0)
		return r;
	if (kind_count(c, &kind_internet_gateway) >= LIMIT_GATEWAYS_PER_REGION)
		return fault_set(f, FAULT_INTERNET_GATEWAY_LIMIT_EXCEEDED,
				 "The maximum number of internet gateways has been reached.");
	r = gateway_make(c, NULL, tags, id);
	if (r < 0)
		return r;
	*ret_reply =
		json_pack("{s:O}", "InternetGateway", txn_look(c->txn, "internet-gateway", id));
	return *ret_reply ? 0 : -ENOMEM;
}

static int get_both(const struct call *c, json_t *parameters, const struct doc **ret_gateway,
		    const struct doc **ret_vpc, struct fault *f)
{
	int r = kind_get_parameter(c, &kind_internet_gateway, parameters, "InternetGatewayId",
				   ret_gateway, f);

	return r < 0 ? r : kind_get_parameter(c, &kind_vpc, parameters, "VpcId", ret_vpc, f);
}

/* What both ends of an attachment feel: the gateway's document, the VPC's routes to it. */
static int attach(const struct call *c, const struct doc *gateway, const struct doc *vpc,
		  int is_attached, json_t **ret_reply)
{
	OWN(json_decref) json_t *json = doc_edit(gateway);
	int r = jset_new(json, "Attachments", attachments_json(is_attached ? vpc->id : NULL));

	if (r == 0)
		r = txn_replace(c->txn, gateway, give(json));
	if (r == 0)
		r = routes_mark(c, vpc->id, gateway->id, is_attached ? "active" : "blackhole");
	if (r < 0)
		return r;
	kernel_touch(vpc->id);
	*ret_reply = reply_true();
	return 0;
}

int attach_internet_gateway(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *gateway, *vpc;
	int r = get_both(c, parameters, &gateway, &vpc, f);

	if (r < 0)
		return r;
	if (gateway_vpc(gateway))
		return fault_set(f, FAULT_RESOURCE_ALREADY_ASSOCIATED,
				 "resource %s is already attached to network %s", gateway->id,
				 gateway_vpc(gateway));
	if (gateway_of(c, vpc->id))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Network %s already has an internet gateway attached", vpc->id);
	return attach(c, gateway, vpc, 1, ret_reply);
}

/* Interfaces of the VPC that have a public address keep the gateway there. */
static int has_public_addresses(const struct call *c, const char *vpc_id)
{
	store_each (c->store, "network-interface", d) {
		const json_t *address;
		size_t i;

		if (!jis(d->json, "VpcId", vpc_id))
			continue;
		json_array_foreach (json_object_get(d->json, "PrivateIpAddresses"), i, address)
			if (json_object_get(address, "Association"))
				return 1;
	}
	return 0;
}

int detach_internet_gateway(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *gateway, *vpc;
	int r = get_both(c, parameters, &gateway, &vpc, f);

	if (r < 0)
		return r;
	if (!gateway_vpc(gateway) || strcmp(gateway_vpc(gateway), vpc->id) != 0)
		return fault_set(f, FAULT_GATEWAY_NOT_ATTACHED,
				 "resource %s is not attached to network %s", gateway->id, vpc->id);
	if (has_public_addresses(c, vpc->id))
		return fault_set(f, FAULT_DEPENDENCY_VIOLATION,
				 "Network %s has some mapped public address(es). Please unmap "
				 "those public address(es) "
				 "before detaching the gateway.",
				 vpc->id);
	return attach(c, gateway, vpc, 0, ret_reply);
}

int delete_internet_gateway(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *gateway;
	int r = kind_get_parameter(c, &kind_internet_gateway, parameters, "InternetGatewayId",
				   &gateway, f);

	if (r < 0)
		return r;
	if (gateway_vpc(gateway))
		return fault_set(f, FAULT_DEPENDENCY_VIOLATION,
				 "The internetGateway '%s' has dependencies and cannot be deleted.",
				 gateway->id);
	*ret_reply = reply_true();
	return txn_delete(c->txn, "internet-gateway", gateway->id);
}

/* What blocks internet gateways is not there (no ModifyVpcBlockPublicAccessOptions): so it says as
 * in an account that never asked for it. */
int describe_vpc_block_public_access_options(struct call *c, json_t *parameters, json_t **ret_reply,
					     struct fault *f)
{
	(void)parameters, (void)f;
	*ret_reply = json_pack("{s:{s:s s:s s:s s:s s:s}}", "VpcBlockPublicAccessOptions",
			       "AwsAccountId", c->ctx->account, "AwsRegion", c->ctx->region,
			       "State", "default-state", "InternetGatewayBlockMode", "off",
			       "ManagedBy", "account");
	return *ret_reply ? 0 : -ENOMEM;
}
