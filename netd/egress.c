/* Egress-only internet gateways: the way out for IPv6, and no way in. Source: VPC user guide,
 * "Egress-only internet gateways". */
#include "netd.h"

#include <errno.h>
#include <string.h>

#include "describe.h"
#include "route-target.h"

static const struct filter egress_filters[] = {
	FILTER_TAGS,
	{NULL},
};

static const struct describe gateways = {
	.kind = "egress-only-internet-gateway",
	.result = "EgressOnlyInternetGateways",
	.ids = "EgressOnlyInternetGatewayIds",
	.prefix = "eigw",
	.malformed = FAULT_INVALID_EGRESS_ONLY_GATEWAY_ID_MALFORMED,
	.not_found = FAULT_INVALID_GATEWAY_ID_NOT_FOUND,
	.filters = egress_filters,
	.n_max_low = 5,
	.n_max_high = 255,
};

const struct doc *egress_gateway_of(const struct call *c, const char *vpc_id)
{
	store_each (c->store, "egress-only-internet-gateway", d)
		if (jis(json_array_get(json_object_get(d->json, "Attachments"), 0), "VpcId",
			vpc_id))
			return d;
	return NULL;
}

int describe_egress_only_internet_gateways(struct call *c, json_t *parameters, json_t **ret_reply,
					   struct fault *f)
{
	return describe_run(c, &gateways, parameters, ret_reply, f);
}

int create_egress_only_internet_gateway(struct call *c, json_t *parameters, json_t **ret_reply,
					struct fault *f)
{
	OWN(json_decref) json_t *tags = NULL;
	const struct doc *vpc;
	char id[ID_MAX];
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r == 0)
		r = kind_tags(&kind_egress_only_gateway, parameters, &tags, f);
	if (r < 0)
		return r;
	/* One is all that a VPC can use: every route to one leads the same way. */
	if (egress_gateway_of(c, vpc->id) ||
	    kind_count(c, &kind_egress_only_gateway) >= LIMIT_GATEWAYS_PER_REGION)
		return fault_set(
			f, FAULT_EGRESS_ONLY_GATEWAY_LIMIT_EXCEEDED,
			"The maximum number of egress-only internet gateways has been reached.");
	id_new("eigw", id);
	r = put_new(c, &kind_egress_only_gateway, id,
		    json_pack("{s:s s:[{s:s s:s}] s:o}", "EgressOnlyInternetGatewayId", id,
			      "Attachments", "State", "attached", "VpcId", vpc->id, "Tags",
			      tags_or_none(tags)));
	if (r < 0)
		return r;
	kernel_touch(vpc->id);
	*ret_reply = json_pack("{s:O s:s*}", "EgressOnlyInternetGateway",
			       txn_look(c->txn, "egress-only-internet-gateway", id), "ClientToken",
			       jstr(parameters, "ClientToken"));
	return *ret_reply ? 0 : -ENOMEM;
}

int delete_egress_only_internet_gateway(struct call *c, json_t *parameters, json_t **ret_reply,
					struct fault *f)
{
	const struct doc *gateway;
	char vpc_id[ID_MAX];
	int r = kind_get_parameter(c, &kind_egress_only_gateway, parameters,
				   "EgressOnlyInternetGatewayId", &gateway, f);

	if (r < 0)
		return r;
	snprintf(vpc_id, sizeof vpc_id, "%s",
		 jstr_or(json_array_get(json_object_get(gateway->json, "Attachments"), 0), "VpcId",
			 ""));
	r = routes_mark_target(c, vpc_id, "EgressOnlyInternetGatewayId", gateway->id, "blackhole");
	if (r == 0)
		r = txn_delete(c->txn, "egress-only-internet-gateway", gateway->id);
	if (r == 0)
		r = call_apply(c, vpc_id);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b}", "ReturnCode", 1);
	return *ret_reply ? 0 : -ENOMEM;
}
